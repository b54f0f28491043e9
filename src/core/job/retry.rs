//! evaluateOnExit: whether a failed attempt is followed by another
//! (<https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html>).

use super::record::{RetryAction, RetryDecision};
use crate::reason;

/// `retryStrategy` of a job or definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryStrategy {
    /// How many attempts the job has, 1 to 10.
    pub attempts: u32,
    /// Up to five entries, asked in order.
    pub evaluate_on_exit: Vec<EvaluateOnExit>,
}

impl Default for RetryStrategy {
    fn default() -> Self {
        Self { attempts: 1, evaluate_on_exit: Vec::new() }
    }
}

/// One entry of `evaluateOnExit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluateOnExit {
    /// Matched against the attempt's statusReason.
    pub on_status_reason: Option<String>,
    /// Matched against the container's reason.
    pub on_reason: Option<String>,
    /// Matched against the decimal exit code.
    pub on_exit_code: Option<String>,
    /// What to do when all stated conditions match.
    pub action: RetryAction,
}

/// Whether the job is tried again after an attempt that failed on its own.
///
/// `attempts_used` counts the attempt that just ended. The first entry whose stated conditions all
/// match decides; an entry that states none (refused by the schema) decides nothing. Not to be
/// asked after exit code 0, nor after a cancel, terminate or timeout.
///
/// ```
/// use batchyard_core::job::record::RetryAction;
/// use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy, decide};
/// let entry = |status: Option<&str>, reason: Option<&str>, action| EvaluateOnExit {
///     on_status_reason: status.map(Into::into),
///     on_reason: reason.map(Into::into),
///     on_exit_code: None,
///     action,
/// };
/// let spot = RetryStrategy {
///     attempts: 5,
///     evaluate_on_exit: vec![
///         entry(Some("Host EC2*"), None, RetryAction::Retry),
///         entry(None, Some("*"), RetryAction::Exit),
///     ],
/// };
/// let lost = decide(&spot, 1, "Host EC2 (instance i-0abc) terminated.", None, None);
/// assert_eq!(lost.rule, "evaluateOnExit[0]: onStatusReason \"Host EC2*\" -> RETRY");
/// let own = decide(&spot, 1, "Essential container in task exited", None, Some(1));
/// assert_eq!(own.rule, "evaluateOnExit[1]: onReason \"*\" -> EXIT");
/// ```
pub fn decide(
    strategy: &RetryStrategy,
    attempts_used: u32,
    status_reason: &str,
    reason: Option<&str>,
    exit_code: Option<i32>,
) -> RetryDecision {
    if attempts_used >= strategy.attempts {
        let rule = reason::rule_exhausted(attempts_used, strategy.attempts);
        return RetryDecision { action: RetryAction::Exit, entry: None, rule };
    }
    let code = exit_code.map(|code| code.to_string());
    let ended = [Some(status_reason), reason, code.as_deref()];
    let decisive = strategy.evaluate_on_exit.iter().enumerate().find(|(_, entry)| entry.matches(ended));
    match decisive {
        Some((index, entry)) => RetryDecision {
            action: entry.action,
            entry: u32::try_from(index).ok(),
            rule: reason::rule_entry(index, &entry.stated(), word(entry.action)),
        },
        None if strategy.evaluate_on_exit.is_empty() => retry_by(reason::RULE_NO_ENTRIES),
        None => retry_by(reason::RULE_NO_MATCH),
    }
}

fn retry_by(rule: &str) -> RetryDecision {
    RetryDecision { action: RetryAction::Retry, entry: None, rule: rule.to_owned() }
}

impl EvaluateOnExit {
    /// The conditions in the order of the texts that they are matched against; an empty pattern
    /// counts as not stated.
    fn conditions(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("onStatusReason", &self.on_status_reason),
            ("onReason", &self.on_reason),
            ("onExitCode", &self.on_exit_code),
        ]
        .map(|(name, pattern)| (name, pattern.as_deref().filter(|p| !p.is_empty())))
    }

    fn stated(&self) -> Vec<(&'static str, &str)> {
        self.conditions().into_iter().filter_map(|(name, pattern)| Some((name, pattern?))).collect()
    }

    fn matches(&self, ended: [Option<&str>; 3]) -> bool {
        let holds = |((_, pattern), text): ((_, Option<&str>), _)| pattern.is_none_or(|p| glob(p, text));
        !self.stated().is_empty() && self.conditions().into_iter().zip(ended).all(holds)
    }
}

/// `*` stands for any end of the text and for nothing else; an absent text matches only `*`.
fn glob(pattern: &str, text: Option<&str>) -> bool {
    match (pattern.strip_suffix('*'), text) {
        (Some(""), _) => true,
        (_, None) => false,
        (Some(start), Some(text)) => text.starts_with(start),
        (None, Some(text)) => text == pattern,
    }
}

fn word(action: RetryAction) -> &'static str {
    match action {
        RetryAction::Retry => "RETRY",
        RetryAction::Exit => "EXIT",
    }
}
