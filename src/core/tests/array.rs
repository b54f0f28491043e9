//! What becomes of the children of an array, in tables: who may run, who is ended and by what, what is stored before
//! anything is done about it, and what all of them come to.

use std::collections::BTreeMap;

use batchyard_core::array::{
    Array, ChildOrder, Children, Counterparts, Gate, Order, Pass, Sight, Sights, decide, gate, indexes,
};
use batchyard_core::job::decide::{Action, Deletion, Seen};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Current, Intent, IntentKind, Placement, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodPhase, PodView};
use batchyard_core::reason;
use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;

const NODE: &str = "node-1";

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// Late enough that everything below began before.
fn now() -> Timestamp {
    at(1000)
}

fn set(text: &str) -> RoaringBitmap {
    indexes::parse(text).expect("indexes")
}

/// Children of which these have ended.
fn children(members: &str, succeeded: &str, failed: &str) -> Children {
    let mut children = Children::new(set(members));
    for (indexes, phase) in [(succeeded, Phase::Succeeded), (failed, Phase::Failed)] {
        set(indexes).iter().for_each(|index| children.note(index, in_phase(phase)));
    }
    children
}

fn in_phase(phase: Phase) -> Record {
    Record { phase: Some(phase), created_at: Some(at(0)), ..Record::default() }
}

/// One whose first attempt failed, so that it waits for the next one.
fn to_be_tried_again() -> Record {
    let attempt = Attempt { attempt: 1, pod_uid: "old".to_owned(), ..Attempt::default() };
    Record { attempts: vec![attempt], ..in_phase(Phase::Runnable) }
}

/// One whose pod runs since then.
fn at_work(index: u32, since: i64) -> Record {
    let current = Current {
        attempt: 1,
        pod_uid: pod(index).uid,
        node_name: Some(NODE.to_owned()),
        bound_at: Some(at(since)),
        started_at: Some(at(since)),
        ..Current::default()
    };
    let started_at = Some(at(since));
    Record { current: Some(current), started_at, ..in_phase(Phase::Running) }
}

/// The pod of the first attempt of a child: made, and not bound.
fn pod(index: u32) -> PodView {
    let name = format!("pod-{index}");
    PodView { uid: format!("{name}-uid"), name, attempt: 1, held: true, ..PodView::default() }
}

fn bound(index: u32) -> PodView {
    let state = ContainerState::Waiting { reason: Some("ContainerCreating".to_owned()), message: None };
    on_node(pod(index), PodPhase::Pending, state)
}

fn running(index: u32, since: i64) -> PodView {
    on_node(pod(index), PodPhase::Running, ContainerState::Running { started_at: Some(at(since)) })
}

fn exited(index: u32, exit_code: i32) -> PodView {
    let (started_at, finished_at) = (Some(at(10)), Some(at(20)));
    let state =
        ContainerState::Terminated { exit_code, reason: None, message: None, started_at, finished_at };
    let phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    on_node(pod(index), phase, state)
}

fn on_node(pod: PodView, phase: PodPhase, state: ContainerState) -> PodView {
    let container_id = Some("containerd://1".to_owned());
    let containers = vec![ContainerView { container_id, state, ..ContainerView::default() }];
    PodView { node_name: Some(NODE.to_owned()), phase, containers, ..pod }
}

fn deleted(pod: PodView) -> PodView {
    PodView { deleted_at: Some(at(900)), ..pod }
}

fn node() -> NodeView {
    NodeView {
        name: NODE.to_owned(),
        instance: "i-1".to_owned(),
        exists: true,
        ready: true,
        ..NodeView::default()
    }
}

/// What is seen of children with these pods.
fn sights(pods: impl IntoIterator<Item = (u32, PodView)>) -> Sights {
    let nodes = BTreeMap::from([(NODE.to_owned(), node())]);
    let see = |pod| Seen { pods: vec![pod], nodes: nodes.clone(), ..Seen::default() };
    pods.into_iter().map(|(index, pod)| (index, Sight { seen: see(pod), ..Sight::default() })).collect()
}

fn array(attempts: u32) -> Array {
    Array { strategy: RetryStrategy { attempts, ..RetryStrategy::default() }, ..Array::default() }
}

fn order(indexes: &str, kind: IntentKind, reason: &str) -> ChildOrder {
    ChildOrder { indexes: set(indexes), kind, reason: reason.to_owned() }
}

/// One look at children that do not wait for each other.
fn look(array: &Array, children: &Children, sights: &Sights) -> Pass {
    decide(now(), array, children, &gate(children, Order::Any, &[]), sights, None)
}

/// What came of a look is stored and remembered.
fn remember(children: &mut Children, pass: Pass) {
    pass.bulk.iter().for_each(|bulk| children.fail(&bulk.indexes));
    let outcomes = pass.outcomes.into_iter().map(|(index, record, _)| (index, record));
    outcomes.chain(pass.progress).for_each(|(index, record)| children.note(index, record));
}

/// What ended in bulk: which ones, by what order, why.
fn bulk(pass: &Pass) -> Vec<(String, Option<IntentKind>, &str)> {
    pass.bulk.iter().map(|bulk| (indexes::text(&bulk.indexes), bulk.order, bulk.reason.as_str())).collect()
}

fn words(actions: &[Action]) -> Vec<&'static str> {
    let word = |action: &Action| match action {
        Action::Delete { how: Deletion::Graceful, .. } => "delete",
        Action::Delete { how: Deletion::IfUnbound, .. } => "delete if unbound",
        Action::Delete { how: Deletion::Forced, .. } => "force delete",
        Action::Ungate { .. } => "ungate",
        Action::Start { .. } => "start",
        Action::Release { .. } => "release",
    };
    actions.iter().map(word).collect()
}

/// What has to be stored: of which child, the order that is to be carried out or the phase, what is done then.
fn outcomes(pass: &Pass) -> Vec<(u32, String, Vec<&'static str>)> {
    let told = |(index, record, actions): &(u32, Record, Vec<Action>)| {
        let intent = record.intent.as_ref().map(|intent| format!("{:?}: {}", intent.kind, intent.reason));
        let ended = || [Some(record.phase().to_string()), record.status_reason.clone()];
        let ended = || ended().into_iter().flatten().collect::<Vec<_>>().join(": ");
        (*index, intent.unwrap_or_else(ended), words(actions))
    };
    pass.outcomes.iter().map(told).collect()
}

/// Whether it was cancelled, and whether it was terminated.
fn flags(record: &Record) -> (Option<bool>, Option<bool>) {
    (record.is_cancelled, record.is_terminated)
}

fn outcome(index: u32, what: &str, then: &[&'static str]) -> (u32, String, Vec<&'static str>) {
    (index, what.to_owned(), then.to_vec())
}

/// Members, those that succeeded, those that failed; the same of counterparts; who may run, who never will.
type GateRow<'a> = (&'a str, Order, [&'a str; 3], &'a [(&'a str, &'a str)], (&'a str, &'a str));

#[test]
fn who_may_run_and_who_never_will() {
    let (any, sequential, despite) = (Order::Any, Order::Sequential, Order::SequentialDespiteFailures);
    let rows: &[GateRow<'_>] = &[
        ("nobody waits", any, ["0-4", "0", "1"], &[], ("2-4", "")),
        ("there are none", sequential, ["", "", ""], &[], ("", "")),
        ("the first goes", sequential, ["0-4", "", ""], &[], ("0", "")),
        ("then the next", sequential, ["0-4", "0-1", ""], &[], ("2", "")),
        ("all ended", sequential, ["0-4", "0-4", ""], &[], ("", "")),
        ("a failure fails the rest", sequential, ["0-4", "0", "1"], &[], ("", "2-4")),
        ("the last one fails nobody", sequential, ["0-4", "0-3", "4"], &[], ("", "")),
        ("a failure holds up nobody", despite, ["0-4", "0", "1"], &[], ("2", "")),
        ("all but one fail", despite, ["0-4", "", "0-3"], &[], ("4", "")),
        ("the next one waits all the same", despite, ["0-4", "", ""], &[], ("0", "")),
        ("others have just begun", any, ["0-4", "", ""], &[("", "")], ("", "")),
        ("child by child", any, ["0-4", "", ""], &[("1,3", "2")], ("1,3", "2")),
        ("child by child, some ran", any, ["0-4", "1", ""], &[("0-1,3", "2")], ("0,3", "2")),
        ("two others", any, ["0-4", "", ""], &[("0-3", ""), ("1-2", "3")], ("1-2", "3")),
        ("one other failed", any, ["0-4", "", ""], &[("0-4", ""), ("0-1", "2-4")], ("0-1", "2-4")),
        ("two others failed alike", any, ["0-4", "", ""], &[("0-1", "2"), ("0-3", "2")], ("0-1", "2")),
        ("both: a failure fails the rest once", sequential, ["0-4", "0", "1"], &[("0-2", "3")], ("", "2-4")),
        ("both: the first waits", sequential, ["0-4", "", ""], &[("1-4", "")], ("", "")),
        ("both: the next one waits", sequential, ["0-4", "0", ""], &[("0,2", "")], ("", "")),
        ("both: the next one goes", sequential, ["0-4", "0", ""], &[("0-1", "")], ("1", "")),
        ("both: it never will", sequential, ["0-4", "0", ""], &[("0,2-4", "1")], ("", "1")),
        ("both: nor the rest", sequential, ["0-4", "0", "1"], &[("0,2-4", "1")], ("", "2-4")),
        ("both, and it goes on", despite, ["0-4", "0", "1"], &[("0,2-4", "1")], ("2", "")),
        ("both, it goes on, not past it", despite, ["0-4", "0", ""], &[("0,2-4", "1")], ("", "1")),
        ("both, it goes on, child by child", despite, ["0-4", "0", "1"], &[("0,3", "1")], ("", "")),
        ("a rerun", any, ["2,5,7", "", ""], &[], ("2,5,7", "")),
        ("a rerun begins with its first", sequential, ["2,5,7", "", ""], &[], ("2", "")),
        ("a rerun goes on with its next", sequential, ["2,5,7", "2", ""], &[], ("5", "")),
        ("a rerun fails again", sequential, ["2,5,7", "", "2"], &[], ("", "5,7")),
        ("a rerun goes on", despite, ["2,5,7", "", "2"], &[], ("5", "")),
        ("a rerun, child by child", any, ["2,5,7", "", ""], &[("0-5", "6-7")], ("2,5", "7")),
    ];
    for (why, order, [members, succeeded, failed], others, (want, doomed)) in rows {
        let children = children(members, succeeded, failed);
        let counterparts = |(succeeded, failed): &(&str, &str)| Counterparts {
            succeeded: set(succeeded),
            failed: set(failed),
        };
        let counterparts: Vec<_> = others.iter().map(counterparts).collect();
        let gate = gate(&children, *order, &counterparts);
        let waiting = children.waiting(&gate);
        assert_eq!(indexes::text(&waiting.fresh), *want, "{why}: may run");
        assert_eq!(indexes::text(&(&gate.doomed & children.unended())), *doomed, "{why}: never will");
        assert!(waiting.again.is_empty() && gate.open.is_disjoint(&gate.doomed), "{why}");
    }
}

/// A child that had a node is tried again before others begin, whatever became of those that it waited for.
#[test]
fn who_waits_for_a_pod() {
    let refused = |node: Option<&str>| Placement {
        attempt: 1,
        node_name: node.map(str::to_owned),
        ..Placement::default()
    };
    let after = |placement| Record { placements: vec![placement], ..in_phase(Phase::Runnable) };
    let mut children = children("0-9", "8", "9");
    for (index, record) in [
        (1, after(refused(None))),
        (2, after(refused(Some(NODE)))),
        (3, to_be_tried_again()),
        (4, Record { intent: Some(intent(IntentKind::Cancel)), ..to_be_tried_again() }),
        (5, Record { current: Some(Current::default()), ..in_phase(Phase::Runnable) }),
        (6, in_phase(Phase::Starting)),
        (7, at_work(7, 10)),
    ] {
        children.note(index, record);
    }
    for (open, fresh, again) in [("0-9", "0-1", "2-3"), ("1-9", "1", "2-3"), ("", "", "2-3")] {
        let waiting = children.waiting(&Gate { open: set(open), doomed: RoaringBitmap::new() });
        assert_eq!(
            (indexes::text(&waiting.fresh), indexes::text(&waiting.again)),
            (fresh.into(), again.into())
        );
    }
}

fn intent(kind: IntentKind) -> Intent {
    Intent { kind, reason: "enough".to_owned(), at: at(900) }
}

/// Ten children: the pod of 0 runs, that of 1 has no node, 2 is to be tried again, 3 has ended.
fn half_way() -> (Children, Sights) {
    let mut children = children("0-9", "3", "");
    [(0, at_work(0, 10)), (1, in_phase(Phase::Runnable)), (2, to_be_tried_again())]
        .into_iter()
        .for_each(|(index, record)| children.note(index, record));
    (children, sights([(0, running(0, 10)), (1, pod(1))]))
}

#[test]
fn a_cancel_leaves_children_alone_that_have_a_node() {
    let (mut children, sights) = half_way();
    let array = Array { orders: vec![order("0-9", IntentKind::Cancel, "enough")], ..array(3) };
    let pass = look(&array, &children, &sights);
    assert_eq!(bulk(&pass), [("4-9".to_owned(), Some(IntentKind::Cancel), "enough")]);
    let first = [outcome(1, "Cancel: enough", &["delete if unbound"]), outcome(2, "Cancel: enough", &[])];
    assert_eq!(outcomes(&pass), first);
    assert!(pass.actions.is_empty(), "{:?}", pass.actions);
    assert_eq!(flags(&pass.bulk[0].record(now())), (Some(true), None));
    remember(&mut children, pass);
    // The pod of 1 went before it was bound.
    let pass = look(&array, &children, &self::sights([(0, running(0, 10)), (1, deleted(pod(1)))]));
    let last = [outcome(1, "FAILED: enough", &["release"]), outcome(2, "FAILED: enough", &[])];
    assert_eq!(outcomes(&pass), last);
    assert!(pass.outcomes.iter().all(|(_, record, _)| flags(record) == (Some(true), None)));
    remember(&mut children, pass);
    assert_eq!(indexes::text(children.failed()), "1-2,4-9");
    // What runs ends as it ends; it is not tried again.
    let pass = look(&array, &children, &self::sights([(0, exited(0, 0))]));
    assert_eq!(outcomes(&pass), [outcome(0, "SUCCEEDED: Essential container in task exited", &["release"])]);
}

#[test]
fn a_terminate_ends_all_children() {
    let (mut children, sights) = half_way();
    let array = Array { orders: vec![order("0-9", IntentKind::Terminate, "enough")], ..array(3) };
    let pass = look(&array, &children, &sights);
    assert_eq!(bulk(&pass), [("4-9".to_owned(), Some(IntentKind::Terminate), "enough")]);
    assert_eq!(flags(&pass.bulk[0].record(now())), (None, Some(true)));
    let first = [
        outcome(0, "Terminate: enough", &["delete"]),
        outcome(1, "Terminate: enough", &["delete if unbound"]),
        outcome(2, "Terminate: enough", &[]),
    ];
    assert_eq!(outcomes(&pass), first);
    remember(&mut children, pass);
    let pods = [(0, deleted(exited(0, 143))), (1, deleted(pod(1)))];
    let pass = look(&array, &children, &self::sights(pods));
    remember(&mut children, pass);
    assert_eq!(children.outcome(0), Some(Phase::Failed));
    assert_eq!((children.succeeded().len(), children.failed().len()), (1, 9));
}

/// Some children only, as `childActions` name them.
#[test]
fn an_order_is_about_the_children_that_it_names() {
    let (children, sights) = half_way();
    for (named, ended, stored) in [
        ("0", "", vec![outcome(0, "Terminate: enough", &["delete"])]),
        ("2-3", "", vec![outcome(2, "Terminate: enough", &[])]),
        ("3-5,9-12", "4-5,9", vec![]),
    ] {
        let array = Array { orders: vec![order(named, IntentKind::Terminate, "enough")], ..array(3) };
        let pass = look(&array, &children, &sights);
        let all: Vec<_> = pass.bulk.iter().map(|bulk| indexes::text(&bulk.indexes)).collect();
        assert_eq!(all.join(" "), ended, "{named}");
        assert_eq!(outcomes(&pass), stored, "{named}");
    }
}

#[test]
fn of_two_orders_the_first_counts() {
    let orders =
        vec![order("0-3,5", IntentKind::Cancel, "first"), order("2-6", IntentKind::Terminate, "second")];
    let (mut children, sights) = half_way();
    let array = Array { orders, ..array(3) };
    let pass = look(&array, &children, &sights);
    let (cancel, terminate) = (Some(IntentKind::Cancel), Some(IntentKind::Terminate));
    assert_eq!(bulk(&pass), [("5".to_owned(), cancel, "first"), ("4,6".to_owned(), terminate, "second")]);
    assert_eq!(
        outcomes(&pass),
        [outcome(1, "Cancel: first", &["delete if unbound"]), outcome(2, "Cancel: first", &[])]
    );
    // One that is being carried out is not replaced by another.
    remember(&mut children, pass);
    let array = Array { orders: vec![order("0-9", IntentKind::Terminate, "third")], ..array };
    let pass = look(&array, &children, &sights);
    assert_eq!(
        outcomes(&pass)[..2],
        [outcome(0, "Terminate: third", &["delete"]), outcome(2, "FAILED: first", &[])]
    );
}

/// A cancel does nothing to a child that has a node, and must not be in the way of what does.
#[test]
fn a_terminate_ends_a_child_that_a_cancel_came_too_late_for() {
    let (children, sights) = half_way();
    for kinds in [[IntentKind::Cancel, IntentKind::Terminate], [IntentKind::Terminate, IntentKind::Cancel]] {
        let named = |kind| order("0", kind, &format!("{kind:?}").to_lowercase());
        let array = Array { orders: kinds.map(named).to_vec(), ..array(3) };
        let pass = look(&array, &children, &sights);
        assert_eq!(outcomes(&pass), [outcome(0, "Terminate: terminate", &["delete"])], "{kinds:?}");
    }
}

/// An order for a child without a pod is stored before it is carried out; nothing else may happen that brings the
/// second look.
#[test]
fn an_order_that_waits_for_nothing_is_looked_at_again_at_once() {
    let mut children = children("0-1", "0", "");
    children.note(1, to_be_tried_again());
    let array = Array { orders: vec![order("1", IntentKind::Cancel, "enough")], ..array(3) };
    let pass = look(&array, &children, &Sights::new());
    assert_eq!((outcomes(&pass), pass.wake), (vec![outcome(1, "Cancel: enough", &[])], Some(now())));
    remember(&mut children, pass);
    let pass = look(&array, &children, &Sights::new());
    assert_eq!((outcomes(&pass), pass.wake), (vec![outcome(1, "FAILED: enough", &[])], None));
    // A pod may be on its way: its answer is waited for, however often one looks.
    let creating = Seen { creating: true, ..Seen::default() };
    let sights = Sights::from([(1, Sight { seen: creating, ..Sight::default() })]);
    let mut children = self::children("0-1", "0", "");
    let pass = look(&array, &children, &sights);
    assert_eq!((bulk(&pass), outcomes(&pass)), (vec![], vec![outcome(1, "Cancel: enough", &[])]));
    remember(&mut children, pass);
    assert_eq!(look(&array, &children, &sights), Pass::default());
}

#[test]
fn a_timeout_is_each_childs_own_and_not_retried() {
    let mut children = children("0-3", "", "");
    let array = Array { timeout: Some(SignedDuration::from_secs(60)), ..array(3) };
    let pods = [(0, running(0, 939)), (1, running(1, 950)), (2, bound(2)), (3, running(3, 960))];
    let pass = look(&array, &children, &sights(pods.clone()));
    assert_eq!(outcomes(&pass), [outcome(0, &format!("Timeout: {}", reason::TIMED_OUT), &["delete"])]);
    assert_eq!(pass.wake, Some(at(1010)), "when the next one is due");
    remember(&mut children, pass);
    // Looked at again before the pod has ended: nothing new.
    let deleted_first = pods.map(|(index, pod)| (index, if index == 0 { deleted(pod) } else { pod }));
    let pass = look(&array, &children, &sights(deleted_first));
    assert_eq!((outcomes(&pass), pass.progress, pass.actions), (vec![], vec![], vec![]));
    for exit_code in [0, 137] {
        let pass = look(&array, &children, &sights([(0, deleted(exited(0, exit_code)))]));
        let ended = pass.outcomes.iter().find(|(index, ..)| *index == 0).map(|(_, record, _)| record);
        let ended = ended.expect("it has ended");
        assert_eq!((ended.phase(), ended.attempts.len()), (Phase::Failed, 1), "exit code {exit_code}");
        assert_eq!(ended.status_reason.as_deref(), Some(reason::TIMED_OUT), "exit code {exit_code}");
    }
}

#[test]
fn children_that_can_never_have_a_pod_end_for_that() {
    let (mut children, sights) = half_way();
    let array = Array { refused: Some("no".to_owned()), ..array(3) };
    let pass = look(&array, &children, &sights);
    assert_eq!(bulk(&pass), [("4-9".to_owned(), None, "no")]);
    // Those that have one already go on, one that needs another one does not.
    assert_eq!(outcomes(&pass), [outcome(2, "FAILED: no", &[])]);
    let ended = pass.bulk[0].record(now());
    assert_eq!((ended.phase(), flags(&ended)), (Phase::Failed, (None, None)));
    assert_eq!((ended.stopped_at, ended.attempts.len()), (Some(now()), 0));
    remember(&mut children, pass);
    let pass = look(&array, &children, &self::sights([(0, exited(0, 1)), (1, exited(1, 0))]));
    remember(&mut children, pass);
    let pass = look(&array, &children, &Sights::new());
    assert_eq!(outcomes(&pass), [outcome(0, "FAILED: no", &[])]);
    assert_eq!(pass.outcomes[0].1.attempts.len(), 1, "what it did is still told");
    remember(&mut children, pass);
    assert_eq!(indexes::text(children.succeeded()), "1,3");
    assert!(children.have_ended());
}

/// Orders come before dependencies, and those before refusals: each child ends for one reason.
#[test]
fn a_child_without_a_pod_ends_for_one_reason() {
    let children = children("0-9", "0", "1");
    let array = Array {
        orders: vec![order("1-3", IntentKind::Cancel, "enough")],
        refused: Some("no".to_owned()),
        ..array(3)
    };
    let others = [Counterparts { succeeded: set("0-2"), failed: set("3-5") }];
    let gate = gate(&children, Order::Any, &others);
    let pass = decide(now(), &array, &children, &gate, &Sights::new(), None);
    assert_eq!(
        bulk(&pass),
        [
            ("2-3".to_owned(), Some(IntentKind::Cancel), "enough"),
            ("4-5".to_owned(), None, reason::DEPENDENT_FAILED),
            ("6-9".to_owned(), None, "no"),
        ]
    );
    assert_eq!((pass.outcomes.len(), pass.progress.len(), pass.actions.len()), (0, 0, 0));
}

/// What would be lost with a pod, a node or the operator is stored, and before anything is done; the rest is told again
/// by the pod.
#[test]
fn what_must_be_stored_and_what_is_remembered() {
    let rejected = PodView {
        phase: PodPhase::Failed,
        reason: Some("OutOfcpu".to_owned()),
        containers: Vec::new(),
        ..bound(0)
    };
    let fresh = || in_phase(Phase::Runnable);
    let counted = PodView { uid: "old".to_owned(), ..exited(0, 1) };
    let timed_out = Record { intent: Some(intent(IntentKind::Timeout)), ..at_work(0, 10) };
    let fenced = Record {
        current: Some(Current { attempt: 1, pod_uid: pod(0).uid, ..Current::default() }),
        ..fresh()
    };
    let gated = || PodView { gated: true, ..pod(0) };
    let rows: [(&str, Record, PodView, bool, &[&str]); 13] = [
        ("made", fresh(), pod(0), false, &[]),
        ("bound", fresh(), bound(0), false, &[]),
        ("runs", fresh(), running(0, 990), false, &[]),
        ("goes on", at_work(0, 990), running(0, 990), false, &[]),
        ("succeeds", at_work(0, 990), exited(0, 0), true, &["release"]),
        ("fails and is tried again", at_work(0, 990), exited(0, 1), true, &["release"]),
        ("is refused by its node", fresh(), rejected, true, &["release"]),
        ("goes before it is bound", fresh(), deleted(pod(0)), true, &["release"]),
        ("runs for too long", at_work(0, 10), running(0, 10), true, &["delete"]),
        ("ran for too long, which is stored", timed_out, running(0, 10), false, &["delete"]),
        ("was counted before", to_be_tried_again(), counted, false, &["release"]),
        ("is the one that may run", fresh(), gated(), true, &["ungate"]),
        ("is the one that may run, which is stored", fenced, gated(), false, &["ungate"]),
    ];
    for (why, record, pod, stored, then) in rows {
        let mut children = children("0-1", "", "");
        children.note(0, record);
        let array = Array { timeout: Some(SignedDuration::from_secs(60)), ..array(3) };
        let pass = look(&array, &children, &sights([(0, pod)]));
        let first: Vec<_> = pass.outcomes.iter().flat_map(|(_, _, actions)| words(actions)).collect();
        assert_eq!(pass.outcomes.len(), usize::from(stored), "{why}: {pass:?}");
        let (mut want, at_once) = (then.to_vec(), words(&pass.actions));
        let done = if stored { first } else { at_once.clone() };
        want.sort_unstable();
        assert_eq!(done, want, "{why}");
        assert!(!stored || at_once.is_empty(), "{why}: nothing is done before it is stored");
    }
}

/// A pod that should not be there is let go: of a child that ended, or of one that the array does not have.
#[test]
fn pods_of_nobody_are_let_go() {
    let mut children = children("0-3", "1", "");
    let before = children.clone();
    for index in [1, 7, u32::MAX] {
        for (pod, want) in
            [(running(index, 10), vec!["delete", "release"]), (exited(index, 0), vec!["release"])]
        {
            let pass = look(&array(3), &children, &sights([(index, pod)]));
            assert_eq!((words(&pass.actions), pass.outcomes.len()), (want, 0), "{index}");
            remember(&mut children, pass);
            assert_eq!(children, before, "{index}");
        }
    }
}

#[test]
fn what_has_ended_stays_as_it_ended() {
    let mut children = children("0-3", "0", "1");
    for index in [0, 1, 9] {
        for phase in Phase::ALL {
            children.note(index, in_phase(phase));
        }
        children.note(index, to_be_tried_again());
    }
    children.fail(&set("0-1,9"));
    assert_eq!(children, self::children("0-3", "0", "1"));
    assert_eq!(
        [0, 1, 2, 9].map(|index| children.record(index).phase()),
        [Phase::Succeeded, Phase::Failed, Phase::Runnable, Phase::Failed]
    );
}

/// Members of a finished array, how many are tolerated, how it ends.
#[test]
fn an_array_fails_if_more_children_failed_than_are_tolerated() {
    for (succeeded, failed, tolerated, want) in [
        ("0-9", "", 0, Some(Phase::Succeeded)),
        ("0-8", "9", 0, Some(Phase::Failed)),
        ("0-8", "9", 1, Some(Phase::Succeeded)),
        ("0-7", "8-9", 1, Some(Phase::Failed)),
        ("", "0-9", 9, Some(Phase::Failed)),
        ("", "0-9", 10, Some(Phase::Succeeded)),
        ("0-3,5-9", "", 10, None),
        ("", "0-3,5-9", 0, None),
    ] {
        let mut children = children("0-9", succeeded, failed);
        let why = format!("{failed:?} failed, {tolerated} are tolerated");
        assert_eq!(children.outcome(tolerated), want, "{why}");
        assert_eq!(children.have_ended(), want.is_some(), "{why}");
        if want.is_none() {
            children.note(4, to_be_tried_again());
            assert_eq!(children.outcome(tolerated), None, "{why}: one is to be tried again");
        }
    }
}

#[test]
fn each_child_is_counted_once() {
    let mut children = children("0-19", "0-2", "3");
    for (index, record) in [
        (4, in_phase(Phase::Running)),
        (5, in_phase(Phase::Starting)),
        (6, to_be_tried_again()),
        (7, in_phase(Phase::Runnable)),
    ] {
        children.note(index, record);
    }
    for (open, doomed, pending, runnable) in
        [("0-19", "", "", "6-19"), ("0-9", "15-19", "10-19", "6-9"), ("", "8-19", "8-19", "6-7")]
    {
        let tally = children.tally(&Gate { open: set(open), doomed: set(doomed) });
        let told = Phase::ALL.map(|phase| tally.of(phase).map(indexes::text).unwrap_or_default());
        assert_eq!(told, ["", pending, runnable, "5", "4", "0-2", "3"]);
        assert_eq!(Phase::ALL.iter().map(|phase| tally.count(*phase)).sum::<u64>(), 20);
    }
}
