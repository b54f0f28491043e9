//! A session that nobody uses ends at its time, by an order that is stored first, and is never retried.

#[path = "support/cases.rs"]
mod cases;

use std::collections::BTreeMap;

use batchyard_core::job::decide::{Action, Decision, Job, Readiness, Seen, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{IntentKind, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodPhase, PodView};
use batchyard_core::session;
use batchyard_core::termination::Tolerances;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const LIMIT: i64 = 600;

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn pod(state: ContainerState, phase: PodPhase) -> PodView {
    PodView {
        name: "desk-1".into(),
        uid: "pod-1".into(),
        attempt: 1,
        created_at: Some(at(0)),
        held: true,
        node_name: Some("n".into()),
        phase,
        containers: vec![ContainerView { name: "default".into(), state, ..ContainerView::default() }],
        ..PodView::default()
    }
}

fn running() -> PodView {
    pod(ContainerState::Running { started_at: Some(at(5)) }, PodPhase::Running)
}

fn ended(exit_code: i32, deleted_at: Option<Timestamp>) -> PodView {
    let (reason, message) = (None, None);
    let (started_at, finished_at) = (Some(at(5)), Some(at(9000)));
    let state = ContainerState::Terminated { exit_code, reason, message, started_at, finished_at };
    let phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    PodView { deleted_at, ..pod(state, phase) }
}

struct Session {
    job: Job,
    record: Record,
}

impl Session {
    fn new() -> Self {
        let strategy = RetryStrategy { attempts: 3, ..RetryStrategy::default() };
        let job = Job { strategy, idle_timeout: Some(SignedDuration::from_secs(LIMIT)), ..Job::default() };
        let mut session = Self { job, record: Record::default() };
        session.look(0, &[], None);
        session
    }

    /// Decides at that time; nobody has been connected since `idle_since`.
    fn look(&mut self, now: i64, pods: &[PodView], idle_since: Option<i64>) -> Decision {
        let node = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
        let seen = Seen {
            pods: pods.to_vec(),
            nodes: BTreeMap::from([("n".to_owned(), node)]),
            idle_since: idle_since.map(at),
            ..Seen::default()
        };
        let ready = Readiness::Ready("desk:1".into());
        let decision = decide(at(now), &self.job, &ready, &self.record, &seen, &Tolerances::default());
        self.record = decision.record.clone();
        decision
    }
}

fn deletes(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::Delete { .. }))
}

#[test]
fn it_ends_when_nobody_has_been_connected_for_so_long() {
    let mut session = Session::new();
    let decision = session.look(10, &[running()], None);
    assert_eq!((decision.wake, session.record.phase()), (None, Phase::Running), "somebody is there");
    let decision = session.look(1000, &[running()], Some(900));
    assert_eq!((decision.wake, deletes(&decision)), (Some(at(1500)), false));
    let decision = session.look(1400, &[running()], None);
    assert_eq!(decision.wake, None, "somebody came back");
    session.look(2000, &[running()], Some(1800));
    let decision = session.look(2399, &[running()], Some(1800));
    assert!(session.record.intent.is_none() && !deletes(&decision), "a second before");
    let decision = session.look(2400, &[running()], Some(1800));
    let intent = session.record.intent.clone().expect("an order");
    assert_eq!((intent.kind, intent.at, deletes(&decision)), (IntentKind::Idle, at(2400), true));
    session.look(2401, &[running()], None);
    assert!(session.record.intent.is_some(), "who comes now is too late");
    session.look(9000, &[ended(0, Some(at(2430)))], None);
    assert_eq!((session.record.phase(), session.record.attempts.len()), (Phase::Failed, 1), "never retried");
    let why = session.record.status_reason.as_deref();
    assert_eq!(why, Some("Session idle: nobody was connected for 600 seconds"));
    let rule = session.record.attempts[0].decision.as_ref().map(|decision| decision.rule.as_str());
    assert_eq!(rule, Some("idle: never retried"));
    assert_eq!((session.record.is_terminated, session.record.is_cancelled), (None, None), "nobody asked");
}

#[test]
fn a_session_that_ended_by_itself_before_the_order_acted_is_its_own() {
    let mut session = Session::new();
    session.look(10, &[running()], None);
    session.look(700, &[running()], Some(50));
    assert!(session.record.intent.is_some());
    session.look(701, &[ended(0, None)], None);
    assert_eq!(session.record.phase(), Phase::Succeeded);
}

#[test]
fn a_job_that_is_no_session_never_idles() {
    let mut session = Session::new();
    session.job.idle_timeout = None;
    let decision = session.look(100_000, &[running()], Some(10));
    assert_eq!((decision.wake, session.record.intent), (None, None));
}

proptest! {
    #![proptest_config(cases::config(256))]

    /// However often people come and go, the order to end comes when they have been away for the limit, and not before.
    #[test]
    fn idle_ends_are_on_time(visits in prop::collection::vec((1i64..2000, any::<bool>()), 1..20)) {
        let mut session = Session::new();
        session.look(10, &[running()], Some(10));
        let (mut now, mut since) = (10, Some(10));
        for (pause, comes) in visits {
            now += pause;
            let due = since.is_some_and(|since: i64| now - since >= LIMIT);
            // Whoever looks late finds that it has been due.
            session.look(now, &[running()], since);
            prop_assert_eq!(session.record.intent.is_some(), due);
            if due {
                let why = session.record.intent.as_ref().map(|intent| intent.reason.clone());
                prop_assert_eq!(why, Some(session::idle(SignedDuration::from_secs(LIMIT))));
                break;
            }
            since = if comes { None } else { since.or(Some(now)) };
        }
    }
}
