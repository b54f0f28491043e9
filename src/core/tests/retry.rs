//! evaluateOnExit: the examples of AWS and of the posts, and a comparison with a second, naive
//! implementation.

#[path = "support/cases.rs"]
mod cases;

use batchyard_core::job::record::RetryAction::{self, Exit, Retry};
use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy, decide};
use cases::config;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn entry(status: &str, reason: &str, code: &str, action: RetryAction) -> EvaluateOnExit {
    let stated = |text: &str| (text != "-").then(|| text.to_owned());
    EvaluateOnExit {
        on_status_reason: stated(status),
        on_reason: stated(reason),
        on_exit_code: stated(code),
        action,
    }
}

fn strategy(attempts: u32, entries: &[EvaluateOnExit]) -> RetryStrategy {
    RetryStrategy { attempts, evaluate_on_exit: entries.to_vec() }
}

const HOST: &str = "Host EC2 (instance i-0123456789abcdef0) terminated.";
const OWN: &str = "Essential container in task exited";
const START: &str = "Task failed to start";
const PULL: &str = "CannotPullContainerError: not found";

#[test]
fn the_posts_strategies() {
    let spot = strategy(5, &[entry("Host EC2*", "-", "-", Retry), entry("-", "*", "-", Exit)]);
    let random =
        strategy(10, &[entry("-", "-", "1", Retry), entry("-", "-", "2", Retry), entry("-", "-", "3", Exit)]);
    let image = strategy(10, &[entry("-", "CannotPullContainerError:*", "-", Exit)]);
    let plain = strategy(3, &[]);
    let table = [
        (
            &spot,
            1,
            HOST,
            None,
            None,
            Retry,
            Some(0),
            "evaluateOnExit[0]: onStatusReason \"Host EC2*\" -> RETRY",
        ),
        (&spot, 1, OWN, None, Some(1), Exit, Some(1), "evaluateOnExit[1]: onReason \"*\" -> EXIT"),
        (
            &spot,
            4,
            HOST,
            None,
            Some(143),
            Retry,
            Some(0),
            "evaluateOnExit[0]: onStatusReason \"Host EC2*\" -> RETRY",
        ),
        (&spot, 5, HOST, None, None, Exit, None, "attempts exhausted (5 of 5)"),
        (&random, 1, OWN, None, Some(2), Retry, Some(1), "evaluateOnExit[1]: onExitCode \"2\" -> RETRY"),
        (&random, 1, OWN, None, Some(3), Exit, Some(2), "evaluateOnExit[2]: onExitCode \"3\" -> EXIT"),
        (&random, 9, OWN, None, Some(4), Retry, None, "no entry matched -> RETRY"),
        (
            &image,
            1,
            START,
            Some(PULL),
            None,
            Exit,
            Some(0),
            "evaluateOnExit[0]: onReason \"CannotPullContainerError:*\" -> EXIT",
        ),
        (&image, 1, HOST, None, None, Retry, None, "no entry matched -> RETRY"),
        (&plain, 2, OWN, None, Some(1), Retry, None, "no evaluateOnExit -> RETRY"),
        (&plain, 3, OWN, None, Some(1), Exit, None, "attempts exhausted (3 of 3)"),
    ];
    for (strategy, used, status, reason, code, action, index, rule) in table {
        let got = decide(strategy, used, status, reason, code);
        assert_eq!((got.action, got.entry, got.rule.as_str()), (action, index, rule));
    }
    let default = RetryStrategy::default();
    assert_eq!(decide(&default, 1, OWN, None, Some(1)).rule, "attempts exhausted (1 of 1)");
}

#[test]
fn one_condition_at_a_time() {
    // (entry, statusReason, reason, exit code, whether it decides)
    let table = [
        (entry("-", "-", "1*", Exit), OWN, None, Some(137), true),
        (entry("-", "-", "1*", Exit), OWN, None, Some(21), false),
        (entry("-", "-", "1", Exit), OWN, None, Some(137), false),
        (entry("-", "-", "1*", Exit), OWN, None, None, false),
        (entry("-", "-", "*", Exit), HOST, None, None, true),
        (entry("-", "AGENT*", "-", Exit), OWN, None, Some(1), false),
        (entry("-", "-", "-", Exit), OWN, None, Some(1), false),
        (entry("", "", "", Exit), OWN, None, Some(1), false),
        (entry("", "", "1", Exit), OWN, None, Some(1), true),
        (entry("host ec2*", "-", "-", Exit), HOST, None, None, false),
        (entry("*EC2*", "-", "-", Exit), HOST, None, None, false),
        (entry("H*C2*", "-", "-", Exit), HOST, None, None, false),
        (entry("**", "-", "-", Exit), HOST, None, None, false),
        (entry("-", "**", "-", Exit), OWN, None, Some(1), false),
        (entry(OWN, "-", "1", Exit), OWN, None, Some(1), true),
        (entry(OWN, "-", "1", Exit), OWN, None, Some(2), false),
        (entry("Host*", "*", "*", Exit), HOST, None, None, true),
    ];
    for (entry, status, reason, code, decides) in table {
        let got = decide(&strategy(10, std::slice::from_ref(&entry)), 1, status, reason, code);
        assert_eq!(got.entry.is_some(), decides, "{entry:?} for {status} {reason:?} {code:?}");
    }
    let both = decide(&strategy(2, &[entry(OWN, "-", "1", Exit)]), 1, OWN, None, Some(1));
    assert_eq!(
        both.rule,
        "evaluateOnExit[0]: onStatusReason \"Essential container in task exited\" and onExitCode \"1\" -> EXIT"
    );
}

/// A letter at a time, as AWS describes it.
fn naive_match(pattern: &[char], text: Option<&[char]>) -> bool {
    if pattern == ['*'] {
        return true;
    }
    let Some(text) = text else { return false };
    let mut i = 0;
    loop {
        if i + 1 == pattern.len() && pattern[i] == '*' {
            return true;
        }
        match (pattern.get(i), text.get(i)) {
            (None, None) => return true,
            (Some(p), Some(t)) if p == t => i += 1,
            _ => return false,
        }
    }
}

fn naive(strategy: &RetryStrategy, used: u32, texts: [Option<String>; 3]) -> (RetryAction, Option<u32>) {
    if used >= strategy.attempts {
        return (Exit, None);
    }
    let mut index = 0;
    for entry in &strategy.evaluate_on_exit {
        let patterns = [&entry.on_status_reason, &entry.on_reason, &entry.on_exit_code];
        let mut stated = 0;
        let mut matched = 0;
        for i in 0..3 {
            let pattern: Vec<char> = patterns[i].iter().flat_map(|p| p.chars()).collect();
            if pattern.is_empty() {
                continue;
            }
            stated += 1;
            let text: Option<Vec<char>> = texts[i].as_ref().map(|t| t.chars().collect());
            if naive_match(&pattern, text.as_deref()) {
                matched += 1;
            }
        }
        if stated > 0 && stated == matched {
            return (entry.action, Some(index));
        }
        index += 1;
    }
    (Retry, None)
}

fn entries() -> impl Strategy<Value = Vec<EvaluateOnExit>> {
    let text = || option::of("[aé*]{0,3}\\*?");
    let code = option::of("[0-9]{0,2}\\*?");
    let action = prop_oneof![Just(Retry), Just(Exit)];
    let entry =
        (text(), text(), code, action).prop_map(|(on_status_reason, on_reason, on_exit_code, action)| {
            EvaluateOnExit { on_status_reason, on_reason, on_exit_code, action }
        });
    vec(entry, 0..6)
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn agrees_with_the_naive_implementation(
        entries in entries(), attempts in 1_u32..=10, used in 1_u32..=10,
        status in "[aé*]{0,4}", reason in option::of("[aé*]{0,4}"), code in option::of(-2_i32..=140),
    ) {
        let strategy = RetryStrategy { attempts, evaluate_on_exit: entries };
        let got = decide(&strategy, used, &status, reason.as_deref(), code);
        let want = naive(&strategy, used, [Some(status), reason, code.map(|c| format!("{c}"))]);
        prop_assert_eq!((got.action, got.entry), want);
        prop_assert!(got.rule.chars().count() <= 512);
    }
}
