//! `evaluateOnExit`: patterns and texts of anybody.

use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy, decide};
use batchyard_core::reason::{clean, explain};
use serde_json::Value;

const EXAMPLES: [&str; 3] = [
    r#"{"attempts": 5, "used": 1, "status": "Host EC2 (instance i-0abc) terminated.", "reason": null, "code": null,
        "entries": [["Host EC2*", null, null], [null, "*", null]]}"#,
    r#"{"attempts": 10, "used": 9, "status": "Essential container in task exited", "reason": "OutOfMemoryError: Container killed",
        "code": 137, "entries": [[null, null, "1*"], ["Essential*", "OutOf*", "137"], ["*", "", "0"]]}"#,
    r#"{"attempts": 2, "used": 1, "status": "Task failed to start", "reason": "CannotPullContainerError: x", "code": 0,
        "entries": [["Task failed to start", "CannotPull*", null], [null, null, "*"], [null, null, "-1"]]}"#,
];

/// As AWS has it: a star at the end stands for anything, a text that is absent matches the star alone.
fn matches(pattern: &str, text: Option<&str>) -> bool {
    match (pattern.strip_suffix('*'), text) {
        (Some(""), _) => true,
        (Some(begin), Some(text)) => text.starts_with(begin),
        (None, Some(text)) => text == pattern,
        (_, None) => false,
    }
}

fn target(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return false };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entry = |entry: &Value| EvaluateOnExit {
        on_status_reason: text(&entry[0]),
        on_reason: text(&entry[1]),
        on_exit_code: text(&entry[2]),
        action: RetryAction::Exit,
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(1);
    let strategy = RetryStrategy {
        attempts: number(&value["attempts"]),
        evaluate_on_exit: value["entries"].as_array().into_iter().flatten().map(entry).collect(),
    };
    let (status, reason) = (text(&value["status"]).unwrap_or_default(), text(&value["reason"]));
    let code = value["code"].as_i64().and_then(|code| i32::try_from(code).ok());
    let used = number(&value["used"]);
    let made = decide(&strategy, used, &status, reason.as_deref(), code);
    let code_text = code.map(|code| code.to_string());
    let first = strategy.evaluate_on_exit.iter().position(|entry| {
        let pairs = [
            (&entry.on_status_reason, Some(status.as_str())),
            (&entry.on_reason, reason.as_deref()),
            (&entry.on_exit_code, code_text.as_deref()),
        ];
        let stated = || pairs.iter().filter_map(|(pattern, text)| Some((pattern.as_deref()?, *text)));
        let stated = || stated().filter(|(pattern, _)| !pattern.is_empty());
        stated().count() > 0 && stated().all(|(pattern, text)| matches(pattern, text))
    });
    let want = first.filter(|_| used < strategy.attempts).and_then(|first| u32::try_from(first).ok());
    assert_eq!(made.entry, want, "{strategy:?} {status:?} {reason:?} {code:?}");
    let shown = clean::line(&status, clean::STATUS_REASON_LIMIT);
    assert!(shown.chars().count() <= clean::STATUS_REASON_LIMIT && !shown.contains(char::is_control));
    assert!(clean::tail(&status).is_none_or(|tail| tail.len() <= clean::LOG_TAIL_LIMIT));
    explain::explain(&status);
    true
}

#[test]
fn patterns_of_retry_rules() {
    super::run("patterns", &EXAMPLES, target);
}
