//! What is remembered of a job, as it is stored and as it is asked.

use batchyard_core::job::clocks::due;
use batchyard_core::job::decide::{
    Action, Decision, Deletion, Job, MAX_PLACEMENTS, MAX_REJECTIONS, Readiness, Seen, TimeLimit, decide,
};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Current, Placement, Record, Waiting};
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodPhase, PodView};
use batchyard_core::reason;
use batchyard_core::termination::Tolerances;
use batchyard_core::waits::Kind;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn placement(attempt: u32, placement: u32) -> Placement {
    Placement { attempt, placement, pod_uid: format!("p{attempt}-{placement}"), ..Placement::default() }
}

fn attempt(attempt: u32) -> Attempt {
    Attempt { attempt, pod_uid: format!("a{attempt}"), ..Attempt::default() }
}

#[test]
fn the_next_pod_has_the_next_number_of_its_attempt() {
    for (attempts, placements, want) in [
        (0, vec![], (1, 0)),
        (0, vec![(1, 0)], (1, 1)),
        (0, vec![(1, 0), (1, 4)], (1, 5)),
        (0, vec![(1, 4), (1, 0)], (1, 5)),
        (1, vec![(1, 0), (1, 1)], (2, 0)),
        (2, vec![(1, 7), (3, 0)], (3, 1)),
        (0, vec![(1, u32::MAX)], (1, u32::MAX)),
    ] {
        let record = Record {
            attempts: (1..=attempts).map(attempt).collect(),
            placements: placements.iter().map(|(a, p)| placement(*a, *p)).collect(),
            ..Record::default()
        };
        assert_eq!((record.next_attempt(), record.next_placement()), want, "{attempts} {placements:?}");
    }
}

#[test]
fn a_pod_has_counted_if_the_record_has_it() {
    let record =
        Record { attempts: vec![attempt(1)], placements: vec![placement(2, 0)], ..Record::default() };
    for (uid, counted) in [("a1", true), ("p2-0", true), ("a2", false), ("", false)] {
        assert_eq!(record.has_counted(uid), counted, "{uid}");
    }
}

#[test]
fn a_job_is_bound_once_its_pod_was_seen_on_a_node() {
    let current =
        |bound_at| Record { current: Some(Current { bound_at, ..Current::default() }), ..Record::default() };
    assert!(current(Some(at(0))).is_bound());
    assert!(!current(None).is_bound(), "it stands there since its gate was lifted");
    assert!(!Record::default().is_bound());
}

/// What says nothing is not written, and what is written is read again.
#[test]
fn records_are_stored_in_few_words() {
    let current = |placement| Current { attempt: 1, placement, ..Current::default() };
    for (record, want) in [
        (Record::default(), json!({})),
        (
            Record { current: Some(current(0)), ..Record::default() },
            json!({"current": {"attempt": 1, "podName": "", "podUid": ""}}),
        ),
        (
            Record { current: Some(current(2)), ..Record::default() },
            json!({"current": {"attempt": 1, "placement": 2, "podName": "", "podUid": ""}}),
        ),
        (
            Record {
                placements: vec![Placement { rejected: true, ..placement(1, 0) }, placement(1, 1)],
                ..Record::default()
            },
            json!({"placements": [
                {
                    "attempt": 1, "placement": 0, "podName": "", "podUid": "p1-0", "statusReason": "",
                    "rejected": true,
                },
                {"attempt": 1, "placement": 1, "podName": "", "podUid": "p1-1", "statusReason": ""},
            ]}),
        ),
    ] {
        assert_eq!(serde_json::to_value(&record).expect("plain data"), want);
        assert_eq!(serde_json::from_value::<Record>(want).expect("its own"), record);
    }
}

#[test]
fn an_action_tells_whose_pod_it_is_about() {
    let (pod, uid) = (|| "job-1".to_owned(), || "uid-1".to_owned());
    for action in [
        Action::Delete { pod: pod(), uid: uid(), how: Deletion::Graceful },
        Action::Ungate { pod: pod(), uid: uid() },
        Action::Start { pod: pod(), uid: uid(), containers: vec![] },
        Action::Release { pod: pod(), uid: uid() },
    ] {
        assert_eq!(action.pod_uid(), "uid-1", "{action:?}");
    }
}

#[test]
fn a_limit_is_due_for_what_it_is_about() {
    let limit =
        |code: &str, seconds| TimeLimit { code: code.to_owned(), limit: SignedDuration::from_secs(seconds) };
    let (max, capacity) =
        ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY");
    let limits = [limit(max, 600), limit(capacity, 900)];
    for (kind, want) in [
        (Kind::ComputeEnvironmentMaxResource, Some((at(610), max))),
        (Kind::InsufficientInstanceCapacity, Some((at(910), capacity))),
        (Kind::JobResourceRequirement, None),
        (Kind::Vcpus, None),
    ] {
        assert_eq!(due(&Waiting::since(kind, at(10)), &limits), want, "{kind:?}");
    }
}

/// A job whose pods come to nothing, one after another.
struct Story(Record);

impl Story {
    fn look(&mut self, pod: Option<PodView>) -> Decision {
        let node = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
        let nodes = [("n".to_owned(), node)].into();
        let seen = Seen { pods: pod.into_iter().collect(), nodes, ..Seen::default() };
        let (job, ready) = (Job::default(), Readiness::Ready("job:1".into()));
        let decision = decide(at(1), &job, &ready, &self.0, &seen, &Tolerances::default());
        self.0 = decision.record.clone();
        decision
    }

    fn pod(&self) -> PodView {
        let (attempt, placement) = (self.0.next_attempt(), self.0.next_placement());
        let name = format!("job-{attempt}-{placement}");
        PodView { uid: name.clone(), name, attempt, placement, held: true, ..PodView::default() }
    }

    fn withdrawn(&mut self) {
        self.look(Some(PodView { deleted_at: Some(at(1)), ..self.pod() }));
    }

    fn refused(&mut self) {
        let (phase, reason) = (PodPhase::Failed, Some("OutOfcpu".to_owned()));
        self.look(Some(PodView { phase, reason, node_name: Some("n".to_owned()), ..self.pod() }));
    }

    fn placements(&self) -> Vec<u32> {
        self.0.placements.iter().map(|placement| placement.placement).collect()
    }
}

#[test]
fn the_last_placements_are_remembered_and_all_refusals() {
    let mut story = Story(Record::default());
    story.look(None);
    assert_eq!(story.0.phase(), Phase::Runnable);
    story.refused();
    (1..MAX_PLACEMENTS).for_each(|_| story.withdrawn());
    assert_eq!(story.placements(), (0..32).collect::<Vec<_>>(), "none is forgotten yet");
    story.withdrawn();
    let kept: Vec<u32> = [0].into_iter().chain(2..=32).collect();
    assert_eq!(story.placements(), kept, "the oldest that is no refusal goes first");
    assert!(story.0.placements[0].rejected);
    // Refusals are counted to the last one that is free.
    (1..MAX_REJECTIONS).for_each(|_| story.refused());
    assert_eq!((story.0.phase(), story.0.attempts.len()), (Phase::Runnable, 0));
    story.refused();
    assert_eq!((story.0.phase(), story.0.attempts.len()), (Phase::Failed, 1));
}

/// A kubelet that starts anew may refuse a pod that ran, and then tells nothing of its containers.
#[test]
fn a_pod_that_ran_and_is_refused_has_its_start_from_the_record() {
    let mut story = Story(Record::default());
    story.look(None);
    let node_name = Some("n".to_owned());
    let runs = ContainerView {
        container_id: Some("containerd://1".to_owned()),
        state: ContainerState::Running { started_at: Some(at(1)) },
        ..ContainerView::default()
    };
    story.look(Some(PodView { phase: PodPhase::Running, node_name, containers: vec![runs], ..story.pod() }));
    assert_eq!(story.0.phase(), Phase::Running);
    story.refused();
    assert_eq!((story.0.phase(), story.0.placements.len()), (Phase::Failed, 0), "it was no free placement");
    let attempt = &story.0.attempts[0];
    assert_eq!((attempt.started_at, attempt.stopped_at), (Some(at(1)), Some(at(1))));
    assert!(reason::is_host_end(&attempt.status_reason), "{attempt:?}");
    assert_eq!(attempt.container, ContainerOutcome::default(), "nothing is known of it");
}
