//! Foreign text in a status: bounded, on one line, without secrets.

#[path = "support/cases.rs"]
mod cases;

use batchyard_core::reason::{self, clean};
use cases::config;
use proptest::prelude::*;

#[test]
fn secrets_are_redacted() {
    let table = [
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ("authorization: basic abcdef", "authorization: [redacted]"),
        ("authorization: Basic dXNlcjpwdw==", "authorization: [redacted]"),
        (r#"{"Authorization":"Basic dXNlcjpwdw==","a":1}"#, r#"{"Authorization":"[redacted]","a":1}"#),
        ("Authorization=AWS4-HMAC-SHA256 Credential=AKIA/1, Signature=abc", "Authorization=[redacted]"),
        ("login with password=hunter2 failed", "login with password=[redacted] failed"),
        ("password: correct horse", "password: [redacted] horse"),
        ("Password: correct horse", "Password: [redacted] horse"),
        (r#"{"password": "two words"}"#, r#"{"password": "[redacted] words"}"#),
        ("GET https://r/v2?token=abc&x=1: 403", "GET https://r/v2?token=[redacted]&x=1: 403"),
        ("access_token: eyJhbGciOi", "access_token: [redacted]"),
        (r#"\"token\":\"abc\""#, r#"\"token\":\"[redacted]\""#),
        (
            "https://b/k?X-Amz-Credential=AKIA&X-Amz-Signature=ff00&X-Amz-Expires=60",
            "https://b/k?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]&X-Amz-Expires=60",
        ),
        ("client_secret=abc", "client_secret=[redacted]"),
        ("token:abc", "token:[redacted]"),
        ("secret= abc", "secret= [redacted]"),
        ("Head \"https://user:pw@reg.local/v2/\": EOF", "Head \"https://[redacted]@reg.local/v2/\": EOF"),
        ("TOKEN=a TOKEN=b", "TOKEN=[redacted] TOKEN=[redacted]"),
        // Words, not keys.
        (
            "may require authorization: server message: insufficient_scope: authorization failed",
            "may require authorization: server message: insufficient_scope: authorization failed",
        ),
        (
            "failed to fetch anonymous token: unexpected status: 401",
            "failed to fetch anonymous token: unexpected status: 401",
        ),
        ("secret \"s\" not found", "secret \"s\" not found"),
        ("https://registry.local/v2/: EOF", "https://registry.local/v2/: EOF"),
        // The sign stands behind the host.
        ("https://reg.local/v2/a@sha256:1: EOF", "https://reg.local/v2/a@sha256:1: EOF"),
        ("https://reg.local refuses a@b.org", "https://reg.local refuses a@b.org"),
        (r#"Head "https://reg.local": a@b.org"#, r#"Head "https://reg.local": a@b.org"#),
        (r#"exec: "/etc/passwd": permission denied"#, r#"exec: "/etc/passwd": permission denied"#),
        ("password", "password"),
        ("token:", "token:"),
    ];
    for (text, want) in table {
        assert_eq!(clean::redact(text), want);
    }
}

#[test]
fn lines_are_flat_and_short() {
    assert_eq!(clean::line(" a\n\tb \u{1b}[31mc\u{0}d ", 255), "a b [31mc d");
    assert_eq!(clean::line("abcdefghijklmnop", 13), "abcd … klmnop");
    assert_eq!(clean::line("abcdefghijklm", 13), "abcdefghijklm");
    assert_eq!(clean::line("äöüäöüäöü", 2), "äö");
    let long = reason::cannot_pull(&format!("image {}: not found", "x".repeat(400)));
    assert!(
        long.starts_with("CannotPullContainerError: image x") && long.ends_with("x: not found"),
        "{long}"
    );
    assert_eq!(long.chars().count(), 255);
}

#[test]
fn a_log_tail_keeps_its_lines_and_its_end() {
    assert_eq!(clean::tail("one\r\n\ttwo\u{7}\n").as_deref(), Some("one\n\ttwo"));
    assert_eq!(clean::tail(" \n\u{0}"), None);
    assert_eq!(clean::tail("token=abc\nlast").as_deref(), Some("token=[redacted]\nlast"));
    let tail = clean::tail(&format!("{}end", "é".repeat(2000))).expect("a tail");
    assert!(tail.len() == 2047 && tail.ends_with("éend"), "{}", tail.len());
}

#[test]
fn texts_that_retry_rules_match() {
    assert_eq!(reason::host_terminated("i-0abc"), "Host EC2 (instance i-0abc) terminated.");
    assert_eq!(
        reason::host_evicted("i-0abc", "low\non memory"),
        "Host EC2 (instance i-0abc) evicted the pod: low on memory"
    );
    assert_eq!(reason::host_preempted("n1", "why"), "Host EC2 (instance n1) preempted the pod: why");
    assert!(reason::POD_DELETED.starts_with("Pod deleted: "));
    assert_eq!(reason::cannot_pull("why"), "CannotPullContainerError: why");
    assert_eq!(reason::cannot_start("why"), "CannotStartContainerError: why");
    assert_eq!(reason::cannot_create("why"), "CannotCreateContainerError: why");
    assert_eq!(reason::cannot_initialize("why"), "ResourceInitializationError: why");
    assert_eq!(reason::time_limit("X:Y"), "Canceled by JobStateTimeLimit action due to reason: X:Y");
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn cleaned_text_is_bounded_and_stays_as_it_is(text in "(\\PC|\\s|\u{1b}|token|=|: |\"){0,100}", limit in 0_usize..300) {
        let once = clean::line(&text, limit);
        prop_assert!(once.chars().count() <= limit);
        prop_assert!(!once.chars().any(char::is_control));
        prop_assert_eq!(clean::redact(&clean::redact(&text)), clean::redact(&text));
        if let Some(tail) = clean::tail(&text) {
            prop_assert!(tail.len() <= clean::LOG_TAIL_LIMIT && text.len() + 2000 >= tail.len());
        }
    }

    #[test]
    fn a_canary_does_not_sing(
        before in "\\PC{0,12}", after in "\\PC{0,12}", separator in "(=|:|: |\":\"|\": \"|\\\\\":\\\\\")",
        key in "(Authorization|password|PASSWORD|token|X-Amz-Signature|X-Amz-Security-Token)",
    ) {
        let text = format!("{before} {key}{separator}CANARY5 {after}");
        prop_assert!(!clean::line(&text, 1000).contains("CANARY5"), "{text}");
        let tail = clean::tail(&text).unwrap_or_default();
        prop_assert!(!tail.contains("CANARY5"), "{text}");
    }
}
