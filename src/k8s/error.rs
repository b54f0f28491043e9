//! What an error of the API server means.

use std::time::Duration;

use kube::core::Status;

/// A call to the API server that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server, or the way to it, failed.
    #[error("{what}")]
    Api {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer within the deadline; the write may or may not have been carried out.
    #[error("{what}: no answer within {} s", limit.as_secs())]
    Deadline {
        /// What was tried.
        what: String,
        /// How long the answer was waited for.
        limit: Duration,
    },
    /// The write was not sent, since this process may not be the leader any more.
    #[error("{what}: not sent, the lease is not fresh")]
    NotLeading {
        /// What was to be done.
        what: String,
    },
}

impl Error {
    /// The API server's answer, if there was one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => status(source),
            Self::Deadline { .. } | Self::NotLeading { .. } => None,
        }
    }

    /// The object changed since it was read, or exists already.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.code == 409)
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|s| s.code == 404)
    }

    /// This process may not do that.
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|s| s.code == 403)
    }

    /// When to ask again, if the API server has too much to do.
    pub fn retry_after(&self) -> Option<Duration> {
        let throttled = self.status().filter(|status| status.code == 429)?;
        let seconds = throttled.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        // Priority and fairness asks for one second, in a header alone.
        Some(Duration::from_secs(u64::from(seconds.clamp(1, 30))))
    }

    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "deadline",
            Self::NotLeading { .. } => "not_leading",
            Self::Api { source, .. } => match status(source).map(|s| s.code) {
                Some(409) => "conflict",
                Some(404) => "not_found",
                Some(403) => "forbidden",
                Some(422) => "invalid",
                Some(429) => "throttled",
                Some(500..=599) => "server",
                Some(_) => "refused",
                None => "transport",
            },
        }
    }
}

pub(crate) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The object changed since it was read, or exists already.
pub fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| s.code == 409)
}

/// The whole chain of an error in one line, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
