//! How the program ends, and what the retry strategy makes of it.

use serde_json::{Value, json};

use crate::Case;
use crate::ends::{exit, failed, not_started, succeeded};

/// AWS's text.
const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";

/// The post's randomEC, told how to end its attempts.
fn random_ec(codes: &str) -> Value {
    json!({
        "jobDefinition": "randomEC",
        "containerOverrides": {"environment": [{"name": "RANDOM_EC", "value": codes}]},
    })
}

/// `random_ec` with another retry strategy.
fn random_ec_with(codes: &str, retry_strategy: Value) -> Value {
    let mut job = random_ec(codes);
    job["retryStrategy"] = retry_strategy;
    job
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::job("exit-0-succeeds-at-once", random_ec("0"), succeeded([exit(0)])),
        Case::job(
            "exits-1-2-0-succeed-at-the-third-attempt",
            random_ec("1,2,0"),
            succeeded([exit(1).retried_by(0), exit(2).retried_by(1), exit(0)]),
        ),
        Case::job(
            "exits-1-2-3-fail-at-the-third-attempt",
            random_ec("1,2,3"),
            failed([exit(1).retried_by(0), exit(2).retried_by(1), exit(3).failed_by(2)]),
        ),
        Case::job(
            "an-exit-code-without-a-rule-is-retried",
            random_ec("42,3"),
            failed([exit(42).retried_by_default(), exit(3).failed_by(2)]),
        ),
        Case::job(
            "out-of-attempts",
            random_ec_with("1", json!({"attempts": 2})),
            failed([exit(1).retried_by_default(), exit(1).failed_by_rule("attempts exhausted (2 of 2)")]),
        ),
        Case::job(
            "an-oom-kill-is-told",
            json!({
                "jobDefinition": "spot",
                "containerOverrides": {
                    // All of it is one line, so tail keeps all of it.
                    "command": ["tail", "/dev/zero"],
                    "resourceRequirements": [
                        {"type": "VCPU", "value": "1"},
                        {"type": "MEMORY", "value": "32"},
                    ],
                },
            }),
            failed([exit(137).with_reason(OUT_OF_MEMORY).failed_by(1)]),
        ),
        Case::job(
            "i5-a-command-that-does-not-exist",
            json!({"jobDefinition": "spot", "containerOverrides": {"command": ["no-such-program"]}}),
            failed([not_started("CannotStartContainerError:").failed_by(1)]),
        ),
        Case::job(
            "h2-an-image-that-does-not-exist-fails-at-once",
            json!({"jobDefinition": "noContainer"}),
            failed([not_started("CannotPullContainerError:").failed_by(0)]),
        ),
    ]
}
