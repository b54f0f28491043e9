//! What an error of the API server means.

use std::time::Duration;

use batchyard_core::termination::create::{CreateRefusal, classify_create};
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

    /// Nothing can be created any more where it was to be: the namespace goes, or is gone.
    pub fn is_namespace_going(&self) -> bool {
        let refusal = self.status().map(|s| classify_create(s.code, &s.reason, &s.message));
        refusal == Some(CreateRefusal::NamespaceTerminating)
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

/// The whole chain of an error in one line, for logs and for people. Of an answer of the API server it has what that says: kube
/// would add the whole answer as Rust prints it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| match answer(*error) {
        Some(_) => None,
        None => error.source(),
    });
    let texts: Vec<_> = causes.map(|cause| answer(cause).unwrap_or_else(|| cause.to_string())).collect();
    texts.join(": ")
}

/// What the API server answered, if this is its answer.
fn answer(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    let status = status(error.downcast_ref::<kube::Error>().or_else(boxed)?)?;
    let words = [&status.message, &status.reason].into_iter().find(|text| !text.is_empty());
    Some(words.cloned().unwrap_or_else(|| format!("status {}", status.code)))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use serde_json::json;

    use super::*;

    fn refused(status: serde_json::Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).expect("a status")))
    }

    #[test]
    fn an_answer_of_the_api_server_is_told_in_its_own_words_and_once() {
        let forbidden =
            || refused(json!({"message": "pods \"a\" is forbidden", "reason": "Forbidden", "code": 403}));
        assert_eq!(chain(&forbidden()), "pods \"a\" is forbidden");
        let ours = Error::Api { what: "create pod a".into(), source: Box::new(forbidden()) };
        assert_eq!(chain(&ours), "create pod a: pods \"a\" is forbidden");
        let outer = Err::<(), _>(ours).context("the pods of a job").expect_err("an error");
        assert_eq!(chain(outer.as_ref()), "the pods of a job: create pod a: pods \"a\" is forbidden");
        assert_eq!(chain(&refused(json!({"reason": "Gone", "code": 410}))), "Gone");
        assert_eq!(chain(&refused(json!({"code": 502}))), "status 502");
    }

    #[test]
    fn what_is_no_answer_is_told_with_all_its_causes() {
        let inner = std::io::Error::other("connection refused");
        let outer = Err::<(), _>(inner).context("connect").expect_err("an error");
        assert_eq!(chain(outer.as_ref()), "connect: connection refused");
        let late = Error::Deadline { what: "create pod a".into(), limit: Duration::from_secs(10) };
        assert_eq!(chain(&late), "create pod a: no answer within 10 s");
    }
}
