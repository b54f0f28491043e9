//! A second, plain reading of AWS's retry strategies, to hold the operator's decisions against
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html>).

use crate::facts::{Attempt, Rule, Strategy};

/// What must follow an attempt that nobody ended from outside: RETRY or EXIT.
pub(crate) fn action(attempt: &Attempt, strategy: &Strategy) -> &'static str {
    if attempt.exit_code == Some(0) || attempt.number >= strategy.attempts.unwrap_or(1) {
        return "EXIT";
    }
    match strategy.rules.iter().find(|rule| applies(rule, attempt)) {
        Some(rule) if rule.action == "EXIT" => "EXIT",
        _ => "RETRY",
    }
}

fn applies(rule: &Rule, attempt: &Attempt) -> bool {
    let code = attempt.exit_code.map(|code| code.to_string());
    let reason = attempt.reason.as_deref().unwrap_or("");
    let conditions = [
        (&rule.on_exit_code, code.as_deref().unwrap_or("")),
        (&rule.on_reason, reason),
        (&rule.on_status_reason, &attempt.status_reason),
    ];
    let mut stated = conditions.iter().filter(|(pattern, _)| !pattern.is_empty()).peekable();
    stated.peek().is_some() && stated.all(|(pattern, text)| matches(pattern, text))
}

/// `*` stands for anything, at the end of a pattern only; an absent text is empty.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    }
}
