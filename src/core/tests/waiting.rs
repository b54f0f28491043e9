//! What a job that waits says, when it says something else, and when its queue gives it up.

use batchyard_core::dependency::Noted;
use batchyard_core::job::decide::{Decision, Job, Readiness, Seen, TimeLimit, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{IntentKind, Record, Waiting};
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView};
use batchyard_core::termination::Tolerances;
use batchyard_core::waits::{self, Kind, Wait};
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
fn that_the_scheduler_finds_no_node_is_told_after_a_while_and_once() {
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

/// Only the scheduler's own word that it finds none is told, whatever else is said of the pod.
#[test]
fn of_all_conditions_of_a_pod_the_schedulers_word_counts() {
    let condition = |kind: &str, status, reason: &str, message: &str| PodCondition {
        kind: kind.into(),
        status,
        reason: Some(reason.into()),
        message: Some(message.into()),
        since: Some(at(0)),
    };
    let other = || condition("Quota", false, "Unschedulable", "another controller");
    for (why, conditions, told) in [
        (
            "it finds no node",
            vec![other(), condition("PodScheduled", false, "Unschedulable", "0/3 nodes")],
            Some("Waiting for a node: 0/3 nodes"),
        ),
        ("another says so", vec![other()], None),
        ("it is held", vec![condition("PodScheduled", false, "SchedulingGated", "by a gate")], None),
        ("it found one", vec![condition("PodScheduled", true, "Unschedulable", "before")], None),
    ] {
        let pod = PodView {
            name: "job-1".into(),
            uid: "pod".into(),
            attempt: 1,
            held: true,
            conditions,
            ..PodView::default()
        };
        let (seen, ready) = (Seen { pods: vec![pod], ..Seen::default() }, Readiness::Ready("job:1".into()));
        let late = decide(at(60), &Job::default(), &ready, &runnable(), &seen, &Tolerances::default());
        assert_eq!((late.record.status_reason.as_deref(), late.wake), (told, None), "{why}");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn runnable() -> Record {
    Record { phase: Some(Phase::Runnable), created_at: Some(at(0)), ..Record::default() }
}

/// A look at a job of a queue with these limits, for which the dispatcher says this.
fn look(record: &Record, wait: Option<Wait>, limits: &[(&str, i64)], now: i64) -> Decision {
    let limit = |(code, seconds): &(&str, i64)| TimeLimit {
        code: (*code).to_owned(),
        limit: SignedDuration::from_secs(*seconds),
    };
    let job = Job { time_limits: limits.iter().map(limit).collect(), ..Job::default() };
    let seen = Seen { waits_for: wait, ..Seen::default() };
    decide(at(now), &job, &Readiness::Ready("job:1".into()), record, &seen, &Tolerances::default())
}

#[test]
fn a_wait_is_written_again_when_it_is_another() {
    let first = look(&runnable(), Some(waits::queue_at_max_running("q", 3)), &[], 1).record;
    assert_eq!(first.waiting, Some(Waiting::since(Kind::MaxRunning, at(1))));
    let counted = look(&first, Some(waits::queue_at_max_running("q", 2)), &[], 9).record;
    assert_eq!(counted, first, "another count is no news");
    let closed = look(&first, Some(waits::environment_settling("e")), &[], 2).record;
    let refused = look(&closed, Some(waits::environment_closed("e")), &[], 9).record;
    assert_eq!(refused.waiting, Some(Waiting::since(Kind::ComputeEnvironment, at(2))));
    assert_eq!(refused.status_reason, Some(waits::environment_closed("e").text), "another reason is");
    let other = look(&first, Some(waits::behind_head("q")), &[], 9).record;
    assert_eq!(other.waiting, Some(Waiting::since(Kind::Turn, at(9))));
    assert_eq!(other.status_reason.as_deref(), Some("Waiting behind the head of JobQueue q"));
    assert_eq!(look(&other, None, &[], 10).record, other, "nothing new is said");
}

#[test]
fn a_queue_gives_up_a_job_that_blocks_it_for_too_long() {
    let limits = [
        ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", 600),
        ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 900),
    ];
    for (wait, limit) in [(waits::above_max_vcpus(), 600), (waits::no_capacity("e"), 900)] {
        let blocked = look(&runnable(), Some(wait.clone()), &limits, 10).record;
        let early = look(&blocked, Some(wait.clone()), &limits, 9 + limit);
        assert_eq!((early.record.phase(), early.wake), (Phase::Runnable, Some(at(10 + limit))));
        let late = look(&blocked, Some(wait.clone()), &limits, 10 + limit).record;
        assert_eq!(late.intent.as_ref().map(|intent| intent.kind), Some(IntentKind::Cancel), "stored first");
        let ended = look(&late, Some(wait.clone()), &limits, 11 + limit).record;
        let why = format!(
            "Canceled by JobStateTimeLimit action due to reason: {}",
            wait.kind.code().expect("one of AWS's codes")
        );
        assert_eq!((ended.phase(), ended.status_reason), (Phase::Failed, Some(why)));
        assert_eq!(ended.is_cancelled, Some(true));
        let patient = look(&blocked, Some(wait.clone()), &[], 9_999).record;
        assert_eq!(patient.intent, None, "a queue without limits waits for ever");
    }
    let turn = look(&runnable(), Some(waits::behind_head("q")), &limits, 10).record;
    assert_eq!(look(&turn, None, &limits, 9_999).record.intent, None, "it blocks nobody");
}

/// Only of a job that is RUNNABLE, and not of one that has just found a node.
#[test]
fn a_limit_is_for_jobs_that_wait_in_their_queue() {
    let wait = waits::above_max_vcpus();
    let code = wait.kind.code().expect("one of AWS's codes");
    let waiting = Some(Waiting::since(wait.kind, at(0)));
    for (phase, given_up) in [(Phase::Submitted, false), (Phase::Pending, false), (Phase::Runnable, true)] {
        let record = Record { phase: Some(phase), waiting, ..runnable() };
        let late = look(&record, None, &[(code, 600)], 600).record;
        assert_eq!((late.phase(), late.intent.is_some()), (Phase::Runnable, given_up), "{phase}");
    }
    let record = Record { waiting, ..runnable() };
    let time_limits = vec![TimeLimit { code: code.to_owned(), limit: SignedDuration::ZERO }];
    let bound = see(&Job { time_limits, ..Job::default() }, &record, ("ContainerCreating", ""));
    assert_eq!((bound.phase(), bound.intent), (Phase::Starting, None));
}

/// What happens to a job in line for which no node comes.
#[derive(Debug)]
enum Happens {
    /// The dispatcher says that no node came in time.
    NoCapacity,
    /// It says that the job waits for something else.
    Other(Wait),
    /// A pod of it waits for a node, and the scheduler says so.
    Unbound,
    /// Its pod is withdrawn.
    Withdrawn,
    /// A node refuses its pod.
    Refused,
}

fn happens(record: &Record, happens: &Happens, now: i64) -> Record {
    let placement = record.next_placement();
    let condition = PodCondition {
        kind: "PodScheduled".into(),
        reason: Some("Unschedulable".into()),
        since: Some(at(0)),
        ..PodCondition::default()
    };
    let pod = PodView {
        name: format!("job-{placement}"),
        uid: format!("pod-{placement}"),
        attempt: 1,
        placement,
        held: true,
        created_at: Some(at(now)),
        conditions: vec![condition],
        ..PodView::default()
    };
    let refused = || PodView {
        node_name: Some("n".into()),
        phase: PodPhase::Failed,
        reason: Some("OutOfcpu".into()),
        conditions: Vec::new(),
        ..pod.clone()
    };
    let (pods, waits_for) = match happens {
        Happens::NoCapacity => (vec![pod], Some(waits::no_capacity("e"))),
        Happens::Other(wait) => (Vec::new(), Some(wait.clone())),
        Happens::Unbound => (vec![pod], None),
        Happens::Withdrawn => (vec![PodView { deleted_at: Some(at(now)), ..pod }], None),
        Happens::Refused => (vec![refused()], None),
    };
    let node = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
    let seen = Seen { pods, waits_for, nodes: [("n".to_owned(), node)].into(), ..Seen::default() };
    let ready = Readiness::Ready("job:1".into());
    decide(at(now), &Job::default(), &ready, record, &seen, &Tolerances::default()).record
}

/// A pod for which no node came goes to another environment, where none comes either, and back again.
#[test]
fn no_capacity_is_one_wait_however_often_the_job_is_placed_anew() {
    use Happens::{NoCapacity, Other, Refused, Unbound, Withdrawn};
    for (between, since) in [
        (vec![], 100),
        (vec![Withdrawn], 100),
        (vec![Withdrawn, Unbound], 100),
        (vec![Withdrawn, Other(waits::last_pod()), Unbound, Withdrawn, Unbound], 100),
        (vec![Withdrawn, Refused], 900),
        (vec![Withdrawn, Unbound, Refused, Unbound], 900),
        (vec![Withdrawn, Other(waits::behind_head("q"))], 900),
        (vec![Other(waits::max_vcpus("e", 1000)), Withdrawn], 900),
    ] {
        let first = happens(&runnable(), &NoCapacity, 100);
        let mut record = first.clone();
        for (step, event) in (2_i64..).zip(&between) {
            record = happens(&record, event, step * 100);
            let told = record.waiting.expect("it waits");
            assert_ne!(told.kind, Kind::InsufficientInstanceCapacity, "{event:?}");
            assert_eq!(told.without_capacity, told.since == at(100), "{event:?}");
        }
        let again = happens(&record, &NoCapacity, 900);
        let told = Waiting::since(Kind::InsufficientInstanceCapacity, at(since));
        assert_eq!((again.phase(), again.waiting), (Phase::Runnable, Some(told)), "{between:?}");
        let code = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
        let given_up = look(&again, None, &[(code, 600)], 901).record.intent.is_some();
        assert_eq!(given_up, since == 100, "{between:?}");
    }
}

#[test]
fn the_kinds_are_spelled_alike_everywhere() {
    for kind in [Kind::JobQueue, Kind::Vcpus, Kind::InsufficientInstanceCapacity, Kind::ActionRequired] {
        assert_eq!(serde_json::to_value(kind).expect("a word"), kind.as_str());
    }
}

/// A look at a job that depends on `a`, which is known like this.
fn pending(record: &Record, job: &Job, verdict: Option<&Wait>, known: Option<Phase>, now: i64) -> Decision {
    let definition = "job:1".to_owned();
    let readiness = match verdict {
        Some(wait) => Readiness::Pending { definition, wait: wait.clone() },
        None => Readiness::Ready(definition),
    };
    let note =
        Noted { job_id: "id-a".into(), job: "a".into(), uid: "a".into(), phase: known, deleted: false };
    let seen = Seen { depends_on: vec![note], again: Some(at(100)), ..Seen::default() };
    decide(at(now), job, &readiness, record, &seen, &Tolerances::default())
}

#[test]
fn a_job_that_depends_on_others_is_pending_and_remembers_what_it_saw() {
    let wait = waits::dependencies(&["a".into()], &[]);
    let job = Job::default();
    let first = pending(&Record::default(), &job, Some(&wait), None, 0);
    assert_eq!(first.record.phase(), Phase::Pending);
    assert_eq!(first.record.waiting, Some(Waiting::since(Kind::Dependency, at(0))));
    assert_eq!(first.record.status_reason.as_deref(), Some("Waiting for BatchJob a to succeed"));
    // The definition is the one of the day on which it was submitted.
    assert_eq!(first.record.job_definition.as_deref(), Some("job:1"));
    assert_eq!((first.record.runnable_at, first.wake), (None, Some(at(100))));
    let again = pending(&first.record, &job, Some(&wait), None, 9);
    assert_eq!(again.record, first.record, "nothing happened");

    let met = pending(&first.record, &job, None, Some(Phase::Succeeded), 20);
    assert_eq!((met.record.phase(), met.record.runnable_at), (Phase::Runnable, Some(at(20))));
    assert_eq!((met.record.status_reason, met.record.waiting, met.wake), (None, None, None));
    assert_eq!(met.record.depends_on[0].phase, Some(Phase::Succeeded));
}

#[test]
fn orders_reach_a_pending_job_at_once() {
    let wait = waits::dependencies(&["a".into()], &[]);
    let record = pending(&Record::default(), &Job::default(), Some(&wait), None, 0).record;
    let why = || Some("no".to_owned());
    for (job, cancelled, terminated) in [
        (Job { cancel: why(), ..Job::default() }, Some(true), None),
        (Job { terminate: why(), ..Job::default() }, None, Some(true)),
        (Job { stop: why(), ..Job::default() }, None, Some(true)),
    ] {
        let end = pending(&record, &job, Some(&wait), None, 5).record;
        assert_eq!((end.phase(), end.status_reason.as_deref()), (Phase::Failed, Some("no")), "{job:?}");
        assert_eq!((end.is_cancelled, end.is_terminated), (cancelled, terminated), "{job:?}");
        assert_eq!((end.stopped_at, end.waiting), (Some(at(5)), None), "{job:?}");
    }
}

/// A look at a job whose container waits, by the word and the text of the kubelet.
fn starting(record: &Record, told: (&str, &str)) -> Record {
    see(&Job::default(), record, told)
}

fn see(job: &Job, record: &Record, (word, message): (&str, &str)) -> Record {
    let state = ContainerState::Waiting { reason: Some(word.to_owned()), message: Some(message.to_owned()) };
    let pod = PodView {
        name: "job-1".into(),
        uid: "pod".into(),
        attempt: 1,
        held: true,
        node_name: Some("n".into()),
        created_at: Some(at(0)),
        containers: vec![ContainerView { name: "default".into(), state, ..ContainerView::default() }],
        ..PodView::default()
    };
    let node = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
    let seen = Seen { pods: vec![pod], nodes: [("n".to_owned(), node)].into(), ..Seen::default() };
    let ready = Readiness::Ready("job:1".into());
    decide(at(1), job, &ready, record, &seen, &Tolerances::default()).record
}

/// Texts of image pulls alternate: not every one of them is worth a write.
#[test]
fn what_keeps_a_pod_from_starting_is_told_once_and_when_it_is_trouble() {
    let (usual, next) = (("ContainerCreating", ""), ("PodInitializing", ""));
    let (error, back_off) = (("ErrImagePull", "no such host"), ("ImagePullBackOff", "Back-off"));
    let mut record = runnable();
    for (seen, told) in [
        (usual, "ContainerCreating"),
        (next, "ContainerCreating"),
        (error, "ErrImagePull: no such host"),
        (back_off, "ErrImagePull: no such host"),
        (error, "ErrImagePull: no such host"),
        (usual, "ErrImagePull: no such host"),
    ] {
        record = starting(&record, seen);
        assert_eq!(
            (record.phase(), record.status_reason.as_deref()),
            (Phase::Starting, Some(told)),
            "{seen:?}"
        );
    }
    // One that ran is RUNNING until it ends, whatever a kubelet that starts anew says at first.
    let running = Record { phase: Some(Phase::Running), status_reason: None, ..record };
    let again = starting(&running, back_off);
    assert_eq!((again.phase(), again.status_reason), (Phase::Running, None));
}
