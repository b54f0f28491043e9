//! Conditions: their types, and the one function that changes them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition's message is cut to this many bytes, the limit that Kubernetes itself has.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// The conditions that Batchyard's kinds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// An environment, queue, definition or policy can be used.
    Ready,
    /// A job SUCCEEDED.
    Complete,
    /// A job FAILED.
    Failed,
    /// Members of the spec have no effect; the message lists them.
    FieldsIgnored,
    /// A change of the spec came too late; the message says which.
    EditIgnored,
    /// Something still holds an object that is being deleted; the message names it.
    DeletionBlocked,
    /// The node of a running job is NotReady.
    NodeUnreachable,
    /// What a waiting job waits for.
    Waiting,
    /// A queue's head cannot start and holds up the queue.
    Blocked,
    /// The output of the job goes where its logConfiguration says.
    LogsRouted,
    /// A sink does not take the output of the job.
    LogSinkUnavailable,
    /// A token stands in plain text in `options`.
    PlainTextSecret,
    /// An interactive session can be used.
    SessionReady,
}

impl ConditionType {
    /// The text in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::FieldsIgnored => "FieldsIgnored",
            Self::EditIgnored => "EditIgnored",
            Self::DeletionBlocked => "DeletionBlocked",
            Self::NodeUnreachable => "NodeUnreachable",
            Self::Waiting => "Waiting",
            Self::Blocked => "Blocked",
            Self::LogsRouted => "LogsRouted",
            Self::LogSinkUnavailable => "LogSinkUnavailable",
            Self::PlainTextSecret => "PlainTextSecret",
            Self::SessionReady => "SessionReady",
        }
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// The text in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// What a condition shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// Why, in one PascalCase word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// The generation of the spec that was looked at.
    pub observed_generation: Option<i64>,
}

/// Sets a condition and says whether anything changed. `lastTransitionTime` moves only when the status flips, so
/// setting the same thing again changes nothing.
pub fn set(conditions: &mut Vec<Condition>, new: NewCondition, now: Timestamp) -> bool {
    let NewCondition { type_, status, reason, message, observed_generation } = new;
    let old = conditions.iter_mut().find(|c| c.type_ == type_.as_str());
    let last_transition_time = match &old {
        Some(old) if old.status == status.as_str() => old.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: type_.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: truncated(message, MAX_MESSAGE_BYTES),
        last_transition_time,
        observed_generation,
    };
    match old {
        Some(old) if *old == condition => false,
        Some(old) => {
            *old = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}

/// Takes a condition away and says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: ConditionType) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_.as_str());
    conditions.len() != before
}

/// The condition of this type, if it is there.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// True if the condition is there and its status is True.
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True.as_str())
}

/// The text, cut at a character boundary if it has more bytes than `max`; a cut is marked by `…`.
pub fn truncated(mut text: String, max: usize) -> String {
    const MARK: char = '…';
    if text.len() <= max {
        return text;
    }
    let mut end = max.saturating_sub(MARK.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push(MARK);
    text
}
