//! A pod that the scheduler finds no node for: the job says so, after a while and once.

use batchyard_core::job::decide::{Decision, Job, Readiness, Seen, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::pod::{PodCondition, PodView};
use batchyard_core::termination::Tolerances;
use jiff::{SignedDuration, Timestamp};

fn step(record: &Record, message: &str, after: i64) -> Decision {
    let made = Timestamp::UNIX_EPOCH;
    let condition = PodCondition {
        kind: "PodScheduled".into(),
        status: false,
        reason: Some("Unschedulable".into()),
        message: Some(message.into()),
        since: Some(made),
    };
    let pod = PodView {
        name: "job-1".into(),
        uid: "pod".into(),
        attempt: 1,
        held: true,
        created_at: Some(made),
        conditions: vec![condition],
        ..PodView::default()
    };
    let seen = Seen { pods: vec![pod], ..Seen::default() };
    let ready = Readiness::Ready("job:1".into());
    let now = made + SignedDuration::from_secs(after);
    decide(now, &Job::default(), &ready, record, &seen, &Tolerances::default())
}

#[test]
fn is_told_after_a_while_and_once() {
    let record =
        Record { phase: Some(Phase::Runnable), created_at: Some(Timestamp::UNIX_EPOCH), ..Record::default() };
    let early = step(&record, "0/3 nodes are available", 1);
    assert_eq!(early.record, record, "most pods are bound within seconds");
    assert_eq!(early.wake, Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(5)));

    let told = step(&record, "0/3 nodes are available", 5);
    let text = told.record.status_reason.as_deref();
    assert_eq!(text, Some("Waiting for a node: 0/3 nodes are available"));
    assert_eq!(told.record.phase(), Phase::Runnable);

    let again = step(&told.record, "0/4 nodes are available", 60);
    assert_eq!((again.record, again.wake), (told.record, None), "the scheduler's text changes often");
}
