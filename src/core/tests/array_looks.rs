//! What comes of one look at an array besides the fates of its children: how much of it is done now, when to
//! look again, and whether the nodes of some do not answer.

use std::collections::BTreeMap;

use batchyard_core::array::{Array, ChildOrder, Children, Order, Pass, Sight, Sights, decide, gate};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Current, IntentKind, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodPhase, PodView};
use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// One that runs since then on a node that answers, or does not.
fn running(index: u32, since: i64, ready: bool) -> (Record, Sight) {
    let uid = format!("pod-{index}");
    let node = format!("node-{index}");
    let started_at = Some(at(since));
    let current = Current {
        attempt: 1,
        pod_name: uid.clone(),
        pod_uid: uid.clone(),
        node_name: Some(node.clone()),
        bound_at: started_at,
        started_at,
        ..Current::default()
    };
    let phase = Some(Phase::Running);
    let record =
        Record { phase, created_at: Some(at(0)), started_at, current: Some(current), ..Record::default() };
    let container = ContainerView {
        container_id: Some("containerd://1".to_owned()),
        state: ContainerState::Running { started_at },
        ..ContainerView::default()
    };
    let pod = PodView {
        name: uid.clone(),
        uid,
        attempt: 1,
        held: true,
        node_name: Some(node.clone()),
        phase: PodPhase::Running,
        containers: vec![container],
        ..PodView::default()
    };
    let view = NodeView {
        name: node.clone(),
        instance: "i-1".to_owned(),
        exists: true,
        ready,
        ..NodeView::default()
    };
    let mut sight = Sight::default();
    sight.seen.pods.push(pod);
    sight.seen.nodes = BTreeMap::from([(node, view)]);
    (record, sight)
}

/// A look after a thousand seconds at children that run since then and have this many seconds for it.
fn look(limit: i64, since: &[(i64, bool)]) -> Pass {
    let mut children = Children::new((0..since.len() as u32).collect::<RoaringBitmap>());
    let mut sights = Sights::new();
    for (index, (since, ready)) in (0..).zip(since) {
        let (record, sight) = running(index, *since, *ready);
        children.note(index, record);
        sights.insert(index, sight);
    }
    let (strategy, timeout) = (RetryStrategy::default(), Some(SignedDuration::from_secs(limit)));
    let array = Array { strategy, timeout, ..Array::default() };
    decide(at(1000), &array, &children, &gate(&children, Order::Any, &[]), &sights, None)
}

#[test]
fn that_the_node_of_one_does_not_answer_is_told_of_all() {
    for (ready, unreachable) in
        [([true, true], false), ([true, false], true), ([false, true], true), ([false, false], true)]
    {
        assert_eq!(look(5000, &ready.map(|ready| (900, ready))).unreachable, unreachable, "{ready:?}");
    }
}

#[test]
fn the_next_look_is_when_the_first_of_them_is_due() {
    for since in [[900, 950], [950, 900]] {
        let pass = look(200, &since.map(|since| (since, true)));
        assert_eq!(pass.wake, Some(at(1100)), "{since:?}");
    }
    assert_eq!(look(5000, &[]).wake, None);
}

/// Two orders for one child, of which a cancel is first: it counts unless the child has a node.
#[test]
fn whether_a_cancel_came_too_late_is_known_without_its_pod() {
    let order = |kind| ChildOrder { indexes: [0].into_iter().collect(), kind, reason: format!("{kind:?}") };
    let orders = vec![order(IntentKind::Cancel), order(IntentKind::Terminate)];
    let strategy = RetryStrategy { attempts: 3, ..RetryStrategy::default() };
    let array = Array { orders, strategy, ..Array::default() };
    let (record, sight) = running(0, 900, true);
    let last = Attempt { attempt: 1, pod_uid: "pod-0".to_owned(), ..Attempt::default() };
    let again =
        Record { phase: Some(Phase::Runnable), attempts: vec![last], current: None, ..record.clone() };
    for (why, record, sight, want) in [
        ("its pod runs", record.clone(), sight.clone(), "Terminate"),
        ("its pod is gone", record, Sight::default(), "Terminate"),
        ("its last pod is still there", again, sight, "Cancel"),
    ] {
        let mut children = Children::new([0].into_iter().collect());
        children.note(0, record);
        let sights = Sights::from([(0, sight)]);
        let gate = gate(&children, Order::Any, &[]);
        let pass = decide(at(1000), &array, &children, &gate, &sights, None);
        let ends: Vec<_> = pass
            .outcomes
            .iter()
            .filter_map(|(_, record, _)| {
                let intent = record.intent.as_ref().map(|intent| intent.reason.clone());
                intent.or_else(|| record.status_reason.clone())
            })
            .collect();
        assert_eq!(ends, [want], "{why}");
    }
}

/// Outcomes, which are stored first, and actions are counted each for themselves.
#[test]
fn what_is_more_than_a_look_may_do_is_left_for_the_next() {
    // All have run for too long: that is stored, and then they are told to end.
    let stored = || look(10, &[(900, true); 3]);
    // It was stored already: what is left are actions.
    let told = || {
        let mut pass = stored();
        pass.actions = pass.outcomes.drain(..).flat_map(|(_, _, actions)| actions).collect();
        pass
    };
    for (most, cut, left) in [(0, true, 0), (2, true, 2), (3, false, 3), (4, false, 3)] {
        let mut pass = stored();
        assert_eq!((pass.cut(most), pass.outcomes.len(), pass.actions.len()), (cut, left, 0), "{most}");
        let mut pass = told();
        assert_eq!((pass.cut(most), pass.outcomes.len(), pass.actions.len()), (cut, 0, left), "{most}");
    }
    assert!(!Pass::default().cut(0), "there is nothing to leave");
}
