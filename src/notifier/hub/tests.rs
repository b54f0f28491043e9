//! The hub without an API server: objects come as the watches would bring them.

use clap::Parser;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: NotifierSettings,
}

/// A hub and the caches that it looks into.
struct Stage {
    hub: Hub,
    jobs: Writer<BatchJob>,
    queues: Writer<JobQueue>,
}

const CREATED: &str = "2026-03-01T12:00:00Z";

impl Stage {
    fn new(arguments: &[&str]) -> Self {
        let settings = Arguments::parse_from([&["test"], arguments].concat()).settings;
        let ((job_store, jobs), (queue_store, queues)) = (reflector::store(), reflector::store());
        Self { hub: Hub::new(&settings, job_store, queue_store), jobs, queues }
    }

    /// A job of one attempt comes to a phase.
    fn job(&mut self, name: &str, version: u64, phase: &str) {
        let job = job(name, version, phase);
        self.jobs.apply_watcher_event(&Event::Apply(job.clone()));
        self.hub.hear_job(&Change::Applied(Arc::new(job)));
    }

    fn rule(&self, version: u64, generation: u64, spec: Value, status: Value) {
        self.rule_of("rule", version, generation, spec, status);
    }

    fn rule_of(&self, uid: &str, version: u64, generation: u64, spec: Value, status: Value) {
        let mut whole = json!({"phases": ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"],
            "http": {"url": "https://h/"}});
        for (member, value) in spec.as_object().expect("an object") {
            whole[member] = value.clone();
        }
        let rule = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "NotificationRule", "spec": whole,
            "status": status, "metadata": {"name": "r", "namespace": "ns", "uid": uid, "generation": generation,
            "resourceVersion": version.to_string(), "creationTimestamp": CREATED}});
        self.hub.hear_rule(&Change::Applied(Arc::new(serde_json::from_value(rule).expect("a rule"))));
    }

    /// The next notification of the rule.
    fn next(&self) -> Option<Waiting> {
        self.hub.next("ns/r", &BTreeSet::new()).map(|next| next.waiting)
    }

    /// All that waits for the rule, which is then delivered.
    fn told(&self) -> String {
        let mut ids = Vec::new();
        while let Some(waiting) = self.next() {
            ids.push(waiting.subject.id());
            self.hub.delivered("ns/r", waiting.sequence, now());
        }
        ids.join(" ")
    }

    /// What the rule's status would say, once a while has passed.
    fn report(&self) -> Option<Report> {
        self.hub.settle(self.hub.heard());
        self.hub.reports(false).pop().map(|(_, report)| report)
    }
}

fn now() -> Timestamp {
    CREATED.parse().expect("a time")
}

fn job(name: &str, version: u64, phase: &str) -> BatchJob {
    let mut status = json!({"phase": phase, "createdAt": CREATED, "runnableAt": CREATED});
    match phase {
        "STARTING" | "RUNNING" => {
            status["current"] = json!({"attempt": 1, "podName": "p", "podUid": "u", "boundAt": CREATED});
        }
        "SUCCEEDED" => {
            status["stoppedAt"] = json!(CREATED);
            status["attempts"] = json!([{"attempt": 1, "podName": "p", "podUid": "u", "statusReason": "",
                "startedAt": CREATED, "stoppedAt": CREATED}]);
        }
        _ => {}
    }
    let metadata =
        json!({"name": name, "namespace": "ns", "uid": name, "resourceVersion": version.to_string()});
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": metadata,
        "spec": {"jobQueue": "q", "jobDefinition": "d"}, "status": status});
    serde_json::from_value(job).expect("a job")
}

#[test]
fn a_rule_is_told_what_changes_after_it_was_made() {
    let mut stage = Stage::new(&[]);
    stage.job("old", 5, "RUNNING");
    stage.job("new", 12, "RUNNABLE");
    stage.rule(10, 1, json!({}), json!({}));
    assert_eq!(stage.told(), "", "not before all lists are complete");
    stage.hub.open();
    assert_eq!(stage.told(), "new/1/RUNNABLE");
    stage.job("old", 15, "SUCCEEDED");
    assert_eq!(stage.told(), "old/1/SUCCEEDED", "what was seen before is not told again");
    stage.job("new", 16, "SUCCEEDED");
    assert_eq!(stage.told(), "new/1/STARTING new/1/RUNNING new/1/SUCCEEDED", "what passed unseen is told");
    stage.job("new", 17, "SUCCEEDED");
    assert_eq!(stage.told(), "");
}

/// Watches of different kinds keep no time with each other.
#[test]
fn a_rule_that_is_heard_of_late_misses_nothing() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.job("job", 12, "RUNNABLE");
    stage.rule(10, 1, json!({}), json!({}));
    assert_eq!(stage.told(), "job/1/RUNNABLE");
}

#[test]
fn the_next_process_begins_where_this_one_left_off() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    stage.job("a", 11, "RUNNABLE");
    stage.job("b", 12, "RUNNABLE");
    assert_eq!(
        stage.report().expect("it is new").through,
        Versions { jobs: 10, queues: 10 },
        "nothing is delivered"
    );
    let first = stage.next().expect("an event");
    stage.hub.delivered("ns/r", first.sequence, now());
    let through = stage.report().expect("one was delivered").through;
    assert_eq!(through.jobs, 11);
    assert!(stage.report().is_none(), "nothing happened since");

    let mut next = Stage::new(&[]);
    next.job("a", 11, "RUNNABLE");
    next.job("b", 12, "RUNNABLE");
    next.rule(20, 1, json!({}), json!({"deliveredThrough": through}));
    next.hub.open();
    assert_eq!(next.told(), "b/1/RUNNABLE");
    let report = next.report().expect("one was delivered");
    assert_eq!((report.through.jobs, report.tally.delivered), (12, 1));
}

/// A rule that was copied from another cluster with its status.
#[test]
fn a_mark_that_is_newer_than_its_object_is_not_believed() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({"deliveredThrough": {"jobs": 5000, "queues": 5000}}));
    stage.job("job", 12, "RUNNABLE");
    assert_eq!(stage.told(), "job/1/RUNNABLE");
}

#[test]
fn what_happens_while_a_rule_is_disabled_is_never_told() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    stage.job("job", 11, "RUNNABLE");
    stage.rule(12, 2, json!({"state": "DISABLED"}), json!({}));
    stage.job("job", 13, "STARTING");
    assert_eq!(stage.told(), "");
    assert_eq!(stage.report().expect("it changed").through.jobs, 13, "and not by the next process");
    stage.rule(14, 3, json!({}), json!({}));
    stage.job("job", 15, "RUNNING");
    assert_eq!(stage.told(), "job/1/RUNNING");

    let mut next = Stage::new(&[]);
    next.job("job", 15, "RUNNING");
    let ready = json!({"type": "Ready", "status": "True", "reason": DISABLED, "message": "",
        "lastTransitionTime": CREATED});
    next.rule(
        16,
        4,
        json!({}),
        json!({"deliveredThrough": {"jobs": 12, "queues": 12}, "conditions": [ready]}),
    );
    next.hub.open();
    assert_eq!(next.told(), "", "enabled while nobody looked");
}

#[test]
fn what_is_too_many_is_dropped_and_counted() {
    let mut stage = Stage::new(&["--queue-per-rule", "2"]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    stage.job("a", 11, "RUNNABLE");
    let on_its_way = stage.next().expect("an event");
    stage.job("b", 12, "RUNNABLE");
    stage.job("c", 13, "RUNNABLE");
    assert_eq!(stage.report().expect("one was dropped").tally.dropped, 1);
    stage.hub.delivered("ns/r", on_its_way.sequence, now());
    let tally = stage.report().expect("one was delivered").tally;
    assert_eq!((tally.delivered, tally.dropped), (1, 0), "it was on its way, and arrived");
    assert_eq!(stage.told(), "b/1/RUNNABLE c/1/RUNNABLE");
}

/// A rule that is DISABLED, or another one of its name, takes back what waits, also what is on its way.
#[test]
fn what_is_taken_back_on_its_way_is_not_counted_as_dropped() {
    let mut stage = Stage::new(&["--queue-per-rule", "1"]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    stage.job("a", 11, "RUNNABLE");
    let on_its_way = stage.next().expect("an event");
    stage.rule(12, 2, json!({"state": "DISABLED"}), json!({}));
    stage.rule(13, 3, json!({}), json!({}));
    stage.job("b", 14, "RUNNABLE");
    stage.job("c", 15, "RUNNABLE");
    stage.hub.delivered("ns/r", on_its_way.sequence, now());
    let tally = stage.report().expect("one was delivered").tally;
    assert_eq!((tally.delivered, tally.dropped), (1, 1), "b made way for c");

    let on_its_way = stage.next().expect("an event");
    stage.rule_of("another", 16, 1, json!({}), json!({}));
    stage.hub.delivered("ns/r", on_its_way.sequence, now());
    let tally = stage.report().expect("it is new").tally;
    assert_eq!((tally.delivered, tally.dropped), (0, 0), "it was of the one before");
}

/// A sink that is dead costs the rules of other namespaces nothing.
#[test]
fn a_namespace_pushes_out_its_own() {
    let mut stage = Stage::new(&["--queue-total", "3"]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    let other = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "NotificationRule",
        "spec": {"phases": ["RUNNABLE"], "http": {"url": "https://h/"}}, "metadata": {"name": "r", "namespace": "n",
        "uid": "other", "generation": 1, "resourceVersion": "10", "creationTimestamp": CREATED}});
    let other = serde_json::from_value(other).expect("a rule");
    stage.hub.hear_rule(&Change::Applied(Arc::new(other)));
    let mut in_n = job("first", 11, "RUNNABLE");
    in_n.metadata.namespace = Some("n".to_owned());
    stage.hub.hear_job(&Change::Applied(Arc::new(in_n)));
    for version in 12..20 {
        stage.job(&version.to_string(), version, "RUNNABLE");
    }
    assert_eq!(stage.told(), "18/1/RUNNABLE 19/1/RUNNABLE");
    assert!(
        stage
            .hub
            .next("n/r", &BTreeSet::new())
            .is_some_and(|next| next.waiting.subject.id() == "first/1/RUNNABLE")
    );
}

#[test]
fn what_is_too_large_is_dropped_and_counted() {
    let mut stage = Stage::new(&["--queue-bytes", "20000"]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    for version in 11..100 {
        stage.job(&version.to_string(), version, "RUNNABLE");
    }
    let report = stage.report().expect("some were dropped");
    assert_eq!(report.tally.dropped + i64::try_from(report.waiting).expect("a few"), 89);
    assert!((5..40).contains(&report.waiting), "{}", report.waiting);
}

/// What is said of a job is held once, however many are told of it.
#[test]
fn what_is_told_of_a_job_is_held_once() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({}), json!({}));
    stage.job("job", 11, "SUCCEEDED");
    let state = stage.hub.lock();
    let told: Vec<_> = state.outbox.iter("ns/r").map(|waiting| waiting.subject.clone()).collect();
    let jobs: Vec<_> = told
        .iter()
        .filter_map(|of| if let Subject::Job(job, _) = &**of { Some(job) } else { None })
        .collect();
    assert_eq!(jobs.len(), 4);
    assert!(jobs.iter().all(|job| Arc::ptr_eq(job, jobs[0])));
}

/// A recipient for whom the server takes nothing now holds up no other, and nobody gets anything twice: not from the next
/// process either.
#[test]
fn a_recipient_who_is_behind_holds_up_no_other() {
    let smtp = |to: &[&str]| json!({"phases": ["RUNNABLE"], "http": null, "smtp": {"host": "h", "from": "a@h", "to": to}});
    let only = |to: &str| BTreeSet::from([to.to_owned()]);
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, smtp(&["x@h", "y@h"]), json!({}));
    stage.job("a", 11, "RUNNABLE");
    stage.job("b", 12, "RUNNABLE");
    for id in ["a/1/RUNNABLE", "b/1/RUNNABLE"] {
        let next = stage.hub.next("ns/r", &only("x@h")).expect("one for y");
        assert_eq!((next.waiting.subject.id().as_str(), next.to), (id, only("y@h")));
        stage.hub.keep("ns/r", next.waiting.sequence, only("x@h"));
    }
    assert!(stage.hub.next("ns/r", &only("x@h")).is_none(), "x is left alone");
    let first = stage.hub.next("ns/r", &only("y@h")).expect("one for x");
    stage.hub.delivered("ns/r", first.waiting.sequence, now());
    let report = stage.report().expect("one was delivered");
    assert_eq!((report.waiting, report.through.jobs, report.tally.delivered), (1, 12, 1));
    let through = Versions { jobs: 11, ..report.through };
    assert_eq!(report.behind, BTreeMap::from([("x@h".to_owned(), through)]));

    let mut next = Stage::new(&[]);
    next.job("a", 11, "RUNNABLE");
    next.job("b", 12, "RUNNABLE");
    let behind = json!([{"to": "x@h", "through": through}]);
    let status = json!({"deliveredThrough": report.through, "behind": behind});
    next.rule(20, 1, smtp(&["x@h", "y@h"]), status);
    next.hub.open();
    next.job("c", 21, "RUNNABLE");
    let b = next.hub.next("ns/r", &BTreeSet::new()).expect("one for x");
    assert_eq!((b.waiting.subject.id().as_str(), b.to), ("b/1/RUNNABLE", only("x@h")));
    next.rule(22, 2, smtp(&["y@h"]), json!({}));
    assert_eq!(next.told(), "c/1/RUNNABLE", "nothing waits for whom the rule does not name");
    assert!(next.report().expect("it changed").behind.is_empty());
}

#[test]
fn a_job_that_is_deleted_is_told_as_it_was_last() {
    let stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({"phases": ["SUCCEEDED"]}), json!({}));
    stage.hub.hear_job(&Change::Deleted(Arc::new(job("job", 12, "SUCCEEDED"))));
    assert_eq!(stage.told(), "job/1/SUCCEEDED");
    assert!(stage.hub.lock().told.is_empty(), "nothing is remembered of it");
}

#[test]
fn a_queue_is_told_once_for_each_time_that_it_is_blocked() {
    let mut stage = Stage::new(&[]);
    stage.hub.open();
    stage.rule(10, 1, json!({"blocked": true, "phases": []}), json!({}));
    let mut queue = |version: u64, since: Option<&str>, reason: &str| {
        let blocked = since.map(|since| {
            json!({"type": "Blocked", "status": "True", "reason": reason, "message": "m", "lastTransitionTime": since})
        });
        let conditions: Vec<_> = blocked.into_iter().collect();
        let queue = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue", "spec": {"priority": 1},
            "metadata": {"name": "q", "namespace": "ns", "uid": "q", "resourceVersion": version.to_string()},
            "status": {"conditions": conditions}});
        let queue: JobQueue = serde_json::from_value(queue).expect("a queue");
        stage.queues.apply_watcher_event(&Event::Apply(queue.clone()));
        stage.hub.hear_queue(&Change::Applied(Arc::new(queue)));
        let mut ids = Vec::new();
        while let Some(waiting) = stage.next() {
            ids.push(waiting.subject.id());
            stage.hub.delivered("ns/r", waiting.sequence, now());
        }
        ids.join(" ")
    };
    let seconds = now().as_second();
    assert_eq!(queue(11, None, ""), "");
    assert_eq!(queue(12, Some(CREATED), "Vcpus"), format!("q/{seconds}/BLOCKED/Vcpus"));
    assert_eq!(queue(13, Some(CREATED), "Vcpus"), "");
    assert_eq!(queue(14, Some(CREATED), "Memory"), format!("q/{seconds}/BLOCKED/Memory"));
    assert_eq!(queue(15, None, ""), "");
    assert_eq!(
        queue(16, Some("2026-03-01T12:00:09Z"), "Memory"),
        format!("q/{}/BLOCKED/Memory", seconds + 9)
    );
}
