//! Where notifications go: `http` and `smtp` speak, `address` says to whom, `trust` whom to believe, `bounded` how much is
//! listened to, and `secret` reads what only the sink may know. What a [`Failure`] says ends in a status and in logs: it
//! never holds anything of a Secret, nor what the other side said.

pub mod address;
mod bounded;
pub mod http;
pub mod secret;
pub mod smtp;
pub mod trust;

use std::collections::BTreeSet;
use std::time::Duration;

use batchyard_core::notification::content::Subject;
use batchyard_core::notification::text;

use crate::crd::NotificationRule;
use crate::settings::NotifierSettings;
pub use address::Guard;
pub use secret::Secrets;

/// A try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for people.
    pub why: String,
    /// Whether it would fail again.
    pub for_good: bool,
    /// Whether it is about single recipients: what is for others is taken.
    pub of_some: bool,
    /// The pause that the sink asks for.
    pub after: Option<Duration>,
}

impl Failure {
    /// Another time it may be taken.
    pub fn later(why: String) -> Self {
        Self { why, for_good: false, of_some: false, after: None }
    }

    /// It never will be.
    pub fn for_good(why: String) -> Self {
        Self { why, for_good: true, of_some: false, after: None }
    }
}

/// The sink of one rule, with what is kept of it between two deliveries.
pub enum Sink {
    /// CloudEvents by HTTP.
    Http(Box<http::Http>),
    /// E-mail by SMTP.
    Smtp(Box<smtp::Smtp>),
    /// A rule that the schema does not let pass.
    None,
}

impl Sink {
    /// The sink that a rule names.
    pub fn new(rule: &NotificationRule, settings: &NotifierSettings) -> Self {
        let guard = Guard::new(settings);
        if let Some(spec) = &rule.spec.http {
            return Self::Http(Box::new(http::Http::new(spec.clone(), guard)));
        }
        match &rule.spec.smtp {
            Some(spec) => Self::Smtp(Box::new(smtp::Smtp::new(spec.clone(), guard, rule))),
            None => Self::None,
        }
    }

    /// The same without what was kept.
    #[must_use]
    pub fn afresh(self) -> Self {
        match self {
            Self::Http(mut http) => {
                http.forget();
                Self::Http(http)
            }
            other => other,
        }
    }

    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Smtp(_) => "smtp",
            Self::None => "none",
        }
    }

    /// The word for the sink of a rule.
    pub fn kind_of(rule: &NotificationRule) -> &'static str {
        if rule.spec.http.is_some() { "http" } else { "smtp" }
    }

    /// The host, for people.
    pub fn host(&self) -> &str {
        match self {
            Self::Http(http) => http.host(),
            Self::Smtp(smtp) => smtp.host(),
            Self::None => text::SINK,
        }
    }

    /// All who are to have a notification, if the sink tells them apart.
    pub fn recipients(&self) -> BTreeSet<String> {
        match self {
            Self::Smtp(smtp) => smtp.recipients(),
            Self::Http(_) | Self::None => BTreeSet::new(),
        }
    }

    /// Tries once to deliver, to these recipients if the sink tells them apart. Who has it then, or never will, is taken
    /// out, also if this is given up halfway.
    ///
    /// # Errors
    /// Why it was not taken, and whether it may be another time.
    pub async fn deliver(
        &mut self,
        subject: &Subject,
        to: &mut BTreeSet<String>,
        secrets: &Secrets,
    ) -> Result<(), Failure> {
        match self {
            Self::Http(http) => http.deliver(subject, secrets).await,
            Self::Smtp(smtp) => smtp.deliver(subject, to, secrets).await,
            Self::None => Err(Failure::for_good("the rule has no sink".to_owned())),
        }
    }
}
