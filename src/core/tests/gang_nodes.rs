//! What is told of each node of a multi-node job, and what is done about the pods of those other than the
//! main one.

#[path = "support/sim_gang.rs"]
mod sim_gang;

use std::collections::BTreeMap;

use batchyard_core::job::decide::{Action, Deletion, Job, Readiness, Seen};
use batchyard_core::job::gang::{self, Gang};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Record};
use batchyard_core::order::{After, Until};
use batchyard_core::pod::{ContainerState, ContainerView, PodPhase, PodView};
use batchyard_core::reason;
use batchyard_core::termination::Tolerances;
use batchyard_core::waits;
use sim_gang::World;

/// Three nodes, the first of which is the main one.
fn gang() -> World {
    World::new(3, 0, 2)
}

/// All of them run, each on a host of its own.
fn running() -> World {
    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, &format!("n{node}")));
    (0..3).for_each(|node| world.start(node));
    world
}

#[test]
fn the_nodes_are_counted_by_phase() {
    use Phase::{Failed, Runnable, Running, Starting, Submitted, Succeeded};
    let waiting = Readiness::Waiting(waits::queue_missing("q"));
    let gang_of_three = Gang { nodes: 3, ..Gang::default() };
    let (job, record, seen) = (Job::default(), Record::default(), Seen::default());
    let now = gang().now;
    let early = gang::decide(now, (&job, &gang_of_three), &waiting, &record, &seen, &Tolerances::default());
    assert_eq!(early.nodes, Some(BTreeMap::from([(Submitted, 3)])));

    let mut world = gang();
    assert_eq!(world.nodes(), [(Runnable, 3)]);
    world.bind(1, "n1");
    assert_eq!(world.nodes(), [(Runnable, 2), (Starting, 1)]);
    world.start(1);
    assert_eq!(world.nodes(), [(Runnable, 2), (Running, 1)], "also while the main node has none");

    // How two of the nodes ended by themselves, and all of them once the main node ends with this code.
    for (codes, during, code, after) in [
        ([0, 0], [(Running, 1), (Succeeded, 2)].as_slice(), 0, [(Succeeded, 3)].as_slice()),
        ([0, 9], &[(Running, 1), (Succeeded, 1), (Failed, 1)], 0, &[(Succeeded, 2), (Failed, 1)]),
        ([9, 9], &[(Running, 1), (Failed, 2)], 0, &[(Succeeded, 1), (Failed, 2)]),
        ([0, 9], &[(Running, 1), (Succeeded, 1), (Failed, 1)], 1, &[(Failed, 3)]),
    ] {
        let mut world = running();
        world.job.strategy.attempts = 1;
        (1..).zip(codes).for_each(|(node, code)| world.exit(node, code));
        assert_eq!(world.nodes(), during, "{codes:?}");
        world.exit(0, code);
        assert_eq!(world.nodes(), after, "{codes:?}, then {code}");
        assert_eq!(world.decide().nodes, None, "they are where they were");
    }

    // All wait again, whatever is left of their last pods.
    let mut world = running();
    world.exit(1, 9);
    world.drain("n2");
    assert_eq!(world.nodes(), [(Runnable, 3)]);
}

#[test]
fn what_became_of_each_node_is_told_once() {
    let mut world = running();
    let began = world.now;
    world.wait(10);
    world.exit(1, 9);
    let exited = world.now;
    world.wait(10);
    world.exit(0, 1);
    let told = |node: u32, stopped_at, status_reason: &str, container| Attempt {
        attempt: 1,
        pod_name: format!("job-{node}-1-0"),
        pod_uid: format!("u{}", node + 1),
        compute_environment: Some("ce".to_owned()),
        node_name: Some(format!("n{node}")),
        instance: Some(format!("i-n{node}")),
        log_stream_name: Some(format!("job-{node}-1-0/stream")),
        started_at: Some(began),
        stopped_at: Some(stopped_at),
        status_reason: status_reason.to_owned(),
        container,
        ..Attempt::default()
    };
    let by_itself = ContainerOutcome { exit_code: Some(9), reason: None };
    let workers: Vec<_> = world.ended.iter().skip(1).cloned().collect();
    assert_eq!(
        workers,
        [
            (1, told(1, exited, reason::ESSENTIAL_EXITED, by_itself)),
            (2, told(2, world.now, reason::NODE_STOPPED, ContainerOutcome::default())),
        ]
    );
    assert_eq!(world.ended[0], (0, world.record.attempts[0].clone()));
    assert_eq!(world.decide().ended, [], "the record has it");
    world.kubelets_stop();
    assert_eq!((world.record.next_attempt(), world.decide().ended), (2, vec![]), "nor in the next attempt");

    // One that never started has an end, and no start.
    let mut world = gang();
    (0..2).for_each(|node| world.bind(node, "n0"));
    world.start(0);
    world.exit(0, 1);
    let starts = world.ended.iter().map(|(_, attempt)| attempt.started_at.is_some());
    assert_eq!(starts.collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(world.ended[1].1.node_name.as_deref(), Some("n0"));
    assert_eq!((&world.ended[2].1.node_name, &world.ended[2].1.instance), (&None, &None));
}

/// Only while there is somebody whom it helps.
#[test]
fn names_and_the_address_are_for_a_round_that_goes_on() {
    let mut world = gang();
    let told = |world: &World| (world.decide().named, world.decide().address);
    assert_eq!(told(&world), (true, None));
    world.bind(0, "n0");
    world.start(0);
    world.has_address(0, "10.0.0.1");
    assert_eq!((told(&world), world.published.as_deref()), ((true, None), Some("10.0.0.1")), "once");
    world.job.terminate = Some("enough".to_owned());
    assert!(!world.decide().named, "it is to end");

    let mut world = running();
    world.exit(0, 1);
    assert!(!world.decide().named, "its round is over");

    let mut world = gang();
    world.creating = true;
    (0..3).for_each(|node| world.vanish(node));
    assert!(!world.decide().named, "no pod is there yet");

    let mut alone = World::new(1, 0, 1);
    alone.bind(0, "n0");
    alone.start(0);
    alone.has_address(0, "10.0.0.1");
    assert_eq!((told(&alone), alone.published), ((false, None), None), "it has no other nodes");

    let mut world = gang();
    world.job.cancel = Some("no".to_owned());
    world.change(0, |pod| pod.ip = Some("10.0.0.1".to_owned()));
    assert_eq!(world.published, None, "it is to end");
}

#[test]
fn it_is_looked_at_again_when_something_is_due() {
    let due = |world: &World| world.decide().job.wake.map(|at| at.duration_since(world.now).as_secs());
    let mut world = gang();
    assert_eq!(due(&world), Some(300), "until all have hosts");
    world.wait(100);
    world.bind(1, "n1");
    assert_eq!(due(&world), Some(200), "it counts from the first pod");
    let mut world = running();
    assert_eq!(due(&world), None);
    world.silence("n2");
    assert_eq!((due(&world), world.decide().job.unreachable), (Some(60), true), "until its host is lost");
    world.wait(10);
    assert_eq!((due(&world), world.decide().job.unreachable), (Some(50), true));
    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, "n0"));
    world.start(0);
    world.has_address(0, "10.0.0.1");
    world.waits(1, "CreateContainerConfigError", "secret \"s\" not found");
    assert_eq!((due(&world), world.decide().job.unreachable), (Some(120), false), "until it can never start");
}

#[test]
fn a_worker_that_its_host_refuses_takes_all_back_or_ends_the_attempt() {
    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, &format!("n{node}")));
    world.refuse(2);
    let placement = &world.record.placements[0];
    assert_eq!((placement.status_reason.as_str(), placement.rejected), ("OutOfcpu (node 2)", true));
    assert!(world.record.attempts.is_empty(), "no attempt is used");

    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, &format!("n{node}")));
    world.start(0);
    world.refuse(2);
    assert!(world.record.placements.is_empty(), "the main node runs");
    let attempt = &world.record.attempts[0];
    assert_eq!(attempt.status_reason, reason::POD_DELETED);
    assert_eq!(attempt.container.reason.as_deref(), Some("(node 2)"));
}

/// Whatever becomes of its workers meanwhile: it has ended, or its main node says how.
#[test]
fn an_order_ends_a_gang_once() {
    let mut world = gang();
    world.bind(1, "n1");
    world.job.cancel = Some("no".to_owned());
    world.look();
    assert_eq!((world.record.phase(), world.record.placements.len()), (Phase::Failed, 0));

    let mut world = running();
    world.job.terminate = Some("enough".to_owned());
    world.look();
    world.vanish(1);
    assert_eq!((world.record.phase(), world.record.attempts.len()), (Phase::Running, 0), "it is ending");
    world.exit(0, 143);
    assert_eq!(world.record.status_reason.as_deref(), Some("enough"));
    assert_eq!(world.record.attempts[0].container.exit_code, Some(143));
}

/// Had any of them a host, the job has had one: it goes to the front of its queue.
#[test]
fn a_gang_that_is_taken_back_from_its_hosts_is_first_in_line() {
    for (bound, want) in [(None, None), (Some(0), Some("n0")), (Some(2), Some("n2"))] {
        let mut world = gang();
        bound.into_iter().for_each(|node| world.bind(node, &format!("n{node}")));
        world.wait(300);
        assert_eq!(world.record.placements[0].node_name.as_deref(), want, "{bound:?}");
        assert_eq!(world.record.has_had_a_node(), bound.is_some(), "{bound:?}");
    }
}

fn deletions(world: &World) -> Vec<(String, Deletion)> {
    let deletion = |action| match action {
        Action::Delete { pod, how, .. } => Some((pod, how)),
        Action::Ungate { .. } | Action::Start { .. } | Action::Release { .. } => None,
    };
    world.decide().job.actions.into_iter().filter_map(deletion).collect()
}

#[test]
fn a_host_that_is_silent_for_a_moment_may_still_stop_its_pods() {
    let mut world = running();
    world.job.strategy.attempts = 1;
    world.silence("n2");
    world.exit(0, 0);
    let left: Vec<_> = world.pods().map(|pod| (pod.index, pod.phase, pod.deleted_at.is_some())).collect();
    let (ended, works) = (PodPhase::Succeeded, PodPhase::Running);
    assert_eq!(left, [(Some(0), ended, false), (Some(1), works, true), (Some(2), works, true)]);
}

/// Its host is lost: nobody says that it has stopped, and the next attempt does not wait for that.
#[test]
fn a_worker_that_is_lost_with_its_host_is_deleted_by_force() {
    let mut world = running();
    world.lose("n2");
    assert_eq!(world.record.attempts[0].status_reason, "Host EC2 (instance i-n2) terminated.");
    world.kubelets_stop();
    assert_eq!(world.record.next_attempt(), 2);
    assert!(world.pods().all(|pod| pod.attempt == 2), "{:?}", world.names());
    assert_eq!(world.pods().count(), 3);
    // One that had ended before needs no force: its pod stays for its logs.
    let mut world = running();
    world.exit(2, 0);
    world.lose("n2");
    world.job.strategy.attempts = 1;
    world.exit(0, 0);
    assert_eq!((world.pod(2).phase, world.pod(2).deleted_at), (PodPhase::Succeeded, None));
}

#[test]
fn workers_leave_a_host_that_is_about_to_go() {
    let mut world = running();
    world.exit(1, 0);
    world.notice("n1");
    assert!(world.pod(1).deleted_at.is_none(), "it has ended");
    assert!(deletions(&world).is_empty());
    world.notice("n2");
    assert!(world.pod(2).deleted_at.is_some());
    assert!(world.pod(0).deleted_at.is_none(), "its own host stays");
    assert_eq!(deletions(&world), [], "it is asked once");
}

#[test]
fn each_pod_is_asked_to_end_in_its_way_and_once() {
    let mut world = gang();
    world.bind(1, "n1");
    world.job.terminate = Some("enough".to_owned());
    let want = [("job-1-1-0", Deletion::Graceful), ("job-2-1-0", Deletion::IfUnbound)];
    let workers: Vec<_> = deletions(&world).into_iter().filter(|(pod, _)| pod != "job-0-1-0").collect();
    assert_eq!(workers, want.map(|(pod, how)| (pod.to_owned(), how)));
    let mut world = running();
    assert_eq!(world.decide().job.actions, [], "nothing is to be done");
    world.job.terminate = Some("enough".to_owned());
    world.look();
    assert_eq!(world.decide().job.actions, [], "nor twice");
}

#[test]
fn a_worker_behind_a_gate_waits_for_the_main_nodes_pod() {
    let mut world = World::fenced(3, 0, 1);
    world.change(1, |pod| pod.gated = true);
    assert!(!world.pod(1).gated, "the main node's uid is on record");
    world.record.current = None;
    world.creating = true;
    world.vanish(0);
    world.change(1, |pod| pod.gated = true);
    assert!(world.pod(1).gated, "the main node's pod is not made yet");
}

#[test]
fn containers_of_a_worker_are_told_to_start() {
    let container = |name: &str, after: &[&str], state| ContainerView {
        name: name.to_owned(),
        container_id: Some(format!("containerd://{name}")),
        after: after
            .iter()
            .map(|other| After { container: (*other).to_owned(), until: Until::Start, seconds: None })
            .collect(),
        state,
        ..ContainerView::default()
    };
    let mut world = running();
    let since = Some(world.now);
    let waits = ContainerState::Waiting { reason: Some("CreateContainerConfigError".into()), message: None };
    let runs = ContainerState::Running { started_at: since };
    world.change(1, |pod| {
        pod.containers = vec![container("first", &[], runs), container("second", &["first"], waits)];
    });
    assert_eq!(world.pod(1).opened, ["second"]);
    assert_eq!(world.pod(2).opened, [""; 0]);
}

/// A pod that says that it is a node which the job does not have.
#[test]
fn a_pod_of_no_node_of_the_job_is_let_go() {
    let mut world = running();
    let stray = PodView { name: "stray".into(), uid: "stray".into(), index: Some(3), ..world.pod(2).clone() };
    world.add(stray);
    assert_eq!(world.nodes(), [(Phase::Running, 3)]);
    let strays: Vec<_> = world.pods().filter(|pod| pod.index == Some(3)).collect();
    assert!(strays.iter().all(|pod| pod.deleted_at.is_some() && !pod.held), "{strays:?}");
    assert!(world.pods().all(|pod| pod.index == Some(3) || pod.deleted_at.is_none()), "{:?}", world.names());
}
