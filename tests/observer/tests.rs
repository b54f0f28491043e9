//! Histories, each with one promise broken, and what the ledger says of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::facts::Fact;
use crate::ledger::{Report, check};

/// The job of most histories, in some phase with these attempts.
fn job(version: u64, phase: &str, attempts: Value) -> Value {
    json!({
        "kind": "BatchJob",
        "metadata": {"namespace": "ns", "name": "job", "uid": "job", "resourceVersion": version.to_string()},
        "spec": {"retryStrategy": {"attempts": 2, "evaluateOnExit": [
            {"onExitCode": "1", "action": "retry"}, {"onReason": "*", "action": "EXIT"}]}},
        "status": {"phase": phase, "attempts": attempts},
    })
}

/// A pod of that job; `state` is that of its container.
fn pod(version: u64, uid: &str, phase: &str, state: Value) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"namespace": "ns", "name": uid, "uid": uid, "resourceVersion": version.to_string(),
            "ownerReferences": [{"kind": "BatchJob", "uid": "job"}],
            "annotations": {"batchyard.io/attempt": "1", "batchyard.io/vcpus-milli": "2000",
                "batchyard.io/compute-environment": "env"}},
        "spec": {"containers": [{"args": ["robot", "exit 1 => 1 Essential*"]}]},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    })
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

fn attempt(number: u64, pod: &str, code: i64, action: &str) -> Value {
    json!({"attempt": number, "podUid": pod, "statusReason": "Essential container in task exited",
        "container": {"exitCode": code}, "decision": {"action": action}})
}

/// A job whose first attempt fails and whose second succeeds, without a flaw.
fn good() -> Vec<Value> {
    let first = attempt(1, "p1", 1, "RETRY");
    let second = json!([first, attempt(2, "p2", 0, "EXIT")]);
    vec![
        json!({"kind": "ComputeEnvironment", "metadata": {"name": "env", "uid": "env", "resourceVersion": "1"},
            "spec": {"computeResources": {"maxvCpus": 2}}}),
        job(2, "SUBMITTED", json!([])),
        job(3, "RUNNABLE", json!([])),
        pod(4, "p1", "Pending", json!({})),
        job(5, "STARTING", json!([])),
        pod(6, "p1", "Running", running()),
        pod(7, "p1", "Failed", json!({})),
        job(8, "RUNNABLE", json!([first])),
        pod(9, "p2", "Pending", json!({})),
        job(10, "RUNNING", json!([first])),
        pod(11, "p2", "Running", running()),
        pod(12, "p2", "Succeeded", json!({})),
        job(13, "SUCCEEDED", second),
    ]
}

fn verdict(history: &[Value]) -> Report {
    let facts = history.iter().map(|object| {
        let mut object = object.clone();
        // The second pod is of the second attempt, which its kubelet has no opinion on.
        if object["metadata"]["uid"] == "p2" {
            object["spec"] = json!({"containers": [{}]});
        }
        let gone = object["gone"] == true;
        Fact::read(&object, gone).expect("a kind that matters")
    });
    check(facts.collect(), &BTreeSet::from(["ns/job".to_owned()]), &BTreeSet::new())
}

fn invariants(history: &[Value]) -> Vec<&'static str> {
    verdict(history).violations.into_iter().map(|violation| violation.invariant).collect()
}

#[test]
fn a_good_history_breaks_nothing_in_whatever_order_it_is_told() {
    let mut history = good();
    let report = verdict(&history);
    assert!(report.violations.is_empty(), "{report:?}");
    assert_eq!((report.jobs, report.attempts, report.pods, report.versions), (1, 2, 2, 13));
    history.reverse();
    assert!(invariants(&history).is_empty(), "versions say what came first");
}

#[test]
fn each_broken_promise_is_noticed() {
    let first = attempt(1, "p1", 1, "RETRY");
    let second = |pod: &str, code, action: &str| json!([first, attempt(2, pod, code, action)]);
    // Each replaces a part of the good history, or is added to it.
    let cases: &[(&str, &[usize], Vec<Value>)] = &[
        ("I1", &[12], vec![]),
        ("I2", &[], vec![job(14, "FAILED", second("p2", 0, "EXIT"))]),
        (
            "I2",
            &[],
            vec![{
                let mut changed = job(14, "SUCCEEDED", second("p2", 0, "EXIT"));
                changed["status"]["statusReason"] = json!("otherwise");
                changed
            }],
        ),
        (
            "I3",
            &[12],
            vec![job(13, "FAILED", json!([first, attempt(2, "p2", 0, "EXIT"), attempt(3, "p3", 0, "EXIT")]))],
        ),
        ("I4", &[12], vec![job(13, "SUCCEEDED", json!([first, attempt(3, "p2", 0, "EXIT")]))]),
        ("I5", &[12, 8, 10, 11], vec![job(13, "SUCCEEDED", second("p1", 0, "EXIT"))]),
        ("I6", &[6], vec![pod(12, "p1", "Failed", json!({}))]),
        ("I7", &[], vec![pod(14, "p3", "Failed", running())]),
        ("I8", &[9], vec![job(10, "RUNNING", json!([]))]),
        (
            "I10",
            &[],
            vec![{
                let mut held = pod(14, "p2", "Succeeded", running());
                held["metadata"]["finalizers"] = json!(["batchyard.io/attempt"]);
                held
            }],
        ),
        (
            "I11",
            &[],
            vec![{
                let mut other = pod(15, "p4", "Pending", json!({}));
                other["metadata"]["ownerReferences"][0]["uid"] = json!("another");
                let mut third = pod(14, "p5", "Pending", json!({}));
                third["metadata"]["ownerReferences"][0]["uid"] = json!("a third");
                [third, other].to_vec().into()
            }],
        ),
        ("I12", &[7], vec![job(8, "SUBMITTED", json!([first]))]),
        (
            "I13",
            &[7, 9, 12],
            vec![
                job(8, "RUNNABLE", json!([attempt(1, "p1", 7, "EXIT")])),
                job(13, "FAILED", json!([attempt(1, "p1", 7, "RETRY"), attempt(2, "p2", 0, "EXIT")])),
            ],
        ),
        ("I14", &[12], vec![job(13, "SUCCEEDED", second("p2", 0, "RETRY"))]),
    ];
    for (invariant, without, with) in cases {
        let mut history = good();
        let mut without = without.to_vec();
        without.sort_unstable();
        for index in without.iter().rev() {
            history.remove(*index);
        }
        history.extend(with.iter().flat_map(|object| match object {
            Value::Array(objects) => objects.clone(),
            object => vec![object.clone()],
        }));
        let found = invariants(&history);
        assert!(found.contains(invariant), "{invariant} is broken and {found:?} was found");
    }
    let nobody = check(Vec::new(), &BTreeSet::from(["ns/lost".to_owned()]), &BTreeSet::new());
    assert_eq!(nobody.violations[0].invariant, "I9");
}

/// A child of the array `job`, of index 3.
fn record(version: u64, phase: &str, attempts: Value) -> Value {
    json!({
        "kind": "BatchJobRecord",
        "metadata": {"namespace": "ns", "name": "r", "uid": "r", "resourceVersion": version.to_string()},
        "spec": {"jobUid": "job", "children": [{"index": 3, "phase": phase, "attempts": attempts}]},
    })
}

/// An array of which one child has ended, its first attempt failed.
fn good_array() -> Vec<Value> {
    let child_pod = |version, uid: &str, phase: &str, state| {
        let mut pod = pod(version, uid, phase, state);
        pod["metadata"]["annotations"]["batchyard.io/index"] = json!("3");
        pod["metadata"]["annotations"]["batchyard.io/vcpus-milli"] = json!("1");
        pod["spec"] = json!({});
        pod
    };
    let first = attempt(1, "p1", 1, "RETRY");
    vec![
        job(2, "PENDING", json!([])),
        child_pod(3, "p1", "Running", running()),
        child_pod(4, "p1", "Failed", json!({})),
        record(5, "RUNNABLE", json!([first])),
        child_pod(6, "p2", "Running", running()),
        child_pod(7, "p2", "Succeeded", json!({})),
        record(8, "SUCCEEDED", json!([first, attempt(2, "p2", 0, "EXIT")])),
        job(9, "SUCCEEDED", json!([])),
    ]
}

#[test]
fn children_keep_the_promises_of_jobs() {
    let told = |history: Vec<Value>| {
        let facts = history.iter().filter_map(|object| Fact::read(object, false)).collect();
        let report = check(facts, &BTreeSet::new(), &BTreeSet::new());
        report.violations.into_iter().map(|violation| violation.invariant).collect::<BTreeSet<_>>()
    };
    let none = BTreeSet::new();
    assert_eq!(told(good_array()), none);
    let broken = |at: usize, object: Value| {
        let mut history = good_array();
        history[at] = object;
        told(history)
    };
    let (first, second) = (attempt(1, "p1", 1, "RETRY"), attempt(2, "p2", 0, "EXIT"));
    assert!(broken(6, record(8, "SUCCEEDED", json!([first]))).contains("I7"), "p2 ran");
    assert!(broken(6, record(8, "SUCCEEDED", json!([second]))).contains("I8"), "p1 is forgotten");
    assert!(broken(6, record(8, "SUCCEEDED", json!([first, attempt(2, "p1", 0, "EXIT")]))).contains("I5"));
    assert!(broken(3, record(5, "FAILED", json!([first]))).contains("I2"), "it had ended");
    assert!(broken(6, record(8, "RUNNING", json!([first, second]))).contains("I1"), "it has not");
    let mut both = good_array();
    both.remove(2);
    assert!(told(both).contains("I6"), "two live pods of one child");
}
