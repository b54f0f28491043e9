//! The life of multi-node jobs: what becomes of all when something happens to one.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/sim_gang.rs"]
mod sim_gang;

use batchyard_core::job::decide::TimeLimit;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy};
use batchyard_core::waits;
use cases::config;
use jiff::SignedDuration;
use proptest::prelude::*;
use sim_gang::World;

/// Three nodes, the first of which is the main one.
fn gang() -> World {
    World::new(3, 0, 2)
}

/// All of them run.
fn running() -> World {
    let mut world = gang();
    for node in 0..3 {
        world.bind(node, &format!("n{node}"));
    }
    (0..3).for_each(|node| world.start(node));
    assert_eq!(world.record.phase(), Phase::Running);
    world
}

#[test]
fn the_phase_is_the_main_nodes() {
    let mut world = gang();
    assert_eq!(world.record.phase(), Phase::Runnable);
    world.bind(1, "n1");
    world.start(1);
    assert_eq!(world.record.phase(), Phase::Runnable, "a worker runs");
    world.bind(0, "n0");
    assert_eq!(world.record.phase(), Phase::Starting);
    world.bind(2, "n2");
    world.start(0);
    assert_eq!(world.record.phase(), Phase::Running);
    assert_eq!(world.nodes(), [(Phase::Starting, 1), (Phase::Running, 2)]);
}

#[test]
fn the_main_nodes_end_is_the_jobs() {
    for (code, phase) in [(0, Phase::Succeeded), (3, Phase::Failed)] {
        let mut world = World::new(3, 0, 1);
        (0..3).for_each(|node| world.bind(node, "n0"));
        (0..3).for_each(|node| world.start(node));
        world.exit(0, code);
        assert_eq!(world.record.phase(), phase);
        assert_eq!(world.record.attempts[0].container.exit_code, Some(code));
        let ended: Vec<_> =
            world.ended.iter().map(|(node, end)| (*node, end.status_reason.as_str())).collect();
        let stopped = "Stopped: the attempt of the job ended";
        assert_eq!(ended, [(0, "Essential container in task exited"), (1, stopped), (2, stopped)]);
        assert!(
            world.pods().all(|pod| pod.index == Some(0) || pod.deleted_at.is_some()),
            "the others are stopped"
        );
        world.kubelets_stop();
        assert!(world.pods().all(|pod| !pod.held), "nothing is held for it");
        assert_eq!(world.removed_addresses, [(1, 0)]);
    }
}

#[test]
fn what_a_worker_does_by_itself_ends_nothing() {
    for code in [0, 1, 137] {
        let mut world = running();
        world.exit(2, code);
        assert_eq!((world.record.phase(), world.record.attempts.len()), (Phase::Running, 0), "{code}");
        assert!(world.pods().all(|pod| pod.held && pod.deleted_at.is_none()), "{code}");
        world.exit(0, 0);
        assert_eq!(world.record.phase(), Phase::Succeeded, "{code}");
        let last = world.ended.iter().find(|(node, _)| *node == 2).expect("it is told of");
        assert_eq!(last.1.container.exit_code, Some(code));
    }
}

#[test]
fn a_worker_that_is_taken_away_ends_the_attempt_for_all() {
    let mut world = running();
    world.drain("n2");
    assert_eq!(world.record.attempts.len(), 1);
    let attempt = &world.record.attempts[0];
    assert_eq!(attempt.status_reason, "Host EC2 (instance i-n2) terminated.");
    assert_eq!(attempt.container.reason.as_deref(), Some("(node 2)"));
    assert_eq!(attempt.pod_name, "job-0-1-0", "it is the main node's attempt");
    assert_eq!(world.record.phase(), Phase::Runnable);
    // Nobody starts before all have gone.
    assert!(world.pods().all(|pod| pod.attempt == 1));
    world.kubelets_stop();
    assert!(world.pods().all(|pod| pod.attempt == 2), "all start anew: {:?}", world.names());
    assert_eq!(world.pods().count(), 3);
}

#[test]
fn a_worker_that_can_never_start_ends_the_attempt_by_name() {
    for (word, text, seconds, want) in [
        ("InvalidImageName", "bad", 0, "CannotPullContainerError: bad (node 1)"),
        (
            "CreateContainerConfigError",
            "secret \"s\" not found",
            121,
            "ResourceInitializationError: secret \"s\" not found (node 1)",
        ),
    ] {
        let mut world = gang();
        (0..3).for_each(|node| world.bind(node, "n0"));
        world.start(0);
        world.has_address(0, "10.0.0.1");
        assert_eq!(world.published.as_deref(), Some("10.0.0.1"));
        world.waits(1, word, text);
        world.wait(seconds);
        let attempt = world.record.attempts.first().unwrap_or_else(|| panic!("{word}: {:?}", world.record));
        assert_eq!(attempt.status_reason, "Task failed to start");
        assert_eq!(attempt.container.reason.as_deref(), Some(want));
    }
}

#[test]
fn workers_wait_for_the_main_nodes_address_for_as_long_as_it_takes() {
    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, "n0"));
    for node in [1, 2] {
        world.waits(node, "CreateContainerConfigError", "configmap \"m\" not found");
    }
    world.wait(3000);
    assert_eq!((world.record.phase(), world.record.attempts.len()), (Phase::Starting, 0));
    world.start(0);
    world.has_address(0, "10.0.0.1");
    // The usual time starts now.
    world.wait(119);
    assert!(world.record.attempts.is_empty());
    world.wait(2);
    assert_eq!(world.record.attempts.len(), 1);
}

#[test]
fn a_gang_of_which_a_part_finds_no_host_is_taken_back() {
    let mut world = gang();
    world.bind(0, "n0");
    world.start(0);
    world.bind(1, "n1");
    world.wait(299);
    assert_eq!(world.record.phase(), Phase::Running);
    world.wait(1);
    assert_eq!(
        (world.record.phase(), world.record.attempts.len()),
        (Phase::Runnable, 0),
        "no attempt is used"
    );
    let placement = &world.record.placements[0];
    assert_eq!(placement.status_reason, "Not all nodes of the job had a host within 300 s: 2 of 3 did");
    world.kubelets_stop();
    assert!(world.pods().all(|pod| (pod.attempt, pod.placement) == (1, 1)), "{:?}", world.names());
}

/// Where nodes come the dispatcher withdraws those for which none came in time; else nobody does.
#[test]
fn pods_for_which_nodes_are_to_come_are_left_until_one_came() {
    let unbound = |grows| {
        let mut world = gang();
        world.gang.grows = grows;
        world.wait(300);
        world
    };
    let placement = unbound(false).record.placements.remove(0);
    assert_eq!(placement.status_reason, "Not all nodes of the job had a host within 300 s: 0 of 3 did");
    let mut world = unbound(true);
    assert!(world.record.placements.is_empty());
    world.bind(1, "n1");
    world.wait(299);
    assert!(world.record.placements.is_empty(), "the others have as long as after any first one");
    world.wait(1);
    assert_eq!(world.record.placements.len(), 1);
}

/// Its rounds are taken back while no node comes for them: all that is one wait, which the queue limits.
#[test]
fn a_queue_gives_up_a_gang_for_which_no_node_comes_in_round_after_round() {
    let short = waits::no_capacity("e");
    let begin = || {
        let mut world = gang();
        let code = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY".to_owned();
        world.job.time_limits = vec![TimeLimit { code, limit: SignedDuration::from_secs(700) }];
        world.waits_for = Some(short.clone());
        world.wait(100);
        world
    };
    let round = |world: &mut World| {
        world.waits_for = None;
        world.wait(200);
        world.kubelets_stop();
        world.waits_for = Some(short.clone());
        world.wait(100);
    };
    let mut world = begin();
    let since = world.record.waiting.expect("it waits").since;
    for back in 1..=2 {
        round(&mut world);
        assert_eq!(world.record.placements.len(), back);
        let told = world.record.waiting.expect("it waits");
        assert_eq!((told.kind, told.since), (short.kind, since), "round {back}");
    }
    assert_eq!((world.record.phase(), world.record.placements.len()), (Phase::Runnable, 2));
    world.wait(100);
    let why = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
    assert_eq!((world.record.phase(), world.record.status_reason.as_deref()), (Phase::Failed, Some(why)));
    // One of which a part had a node begins anew.
    let mut world = begin();
    world.bind(1, "n1");
    round(&mut world);
    world.wait(699);
    assert_ne!(world.record.phase(), Phase::Failed);
}

#[test]
fn a_worker_whose_log_sidecar_does_not_start_is_no_end_of_the_attempt() {
    let mut world = gang();
    (0..3).for_each(|node| world.bind(node, &format!("n{node}")));
    world.start(0);
    world.log_waits(1, "ImagePullBackOff");
    assert_eq!(world.record.phase(), Phase::Running);
    world.wait(61);
    assert_eq!((world.record.phase(), world.record.attempts.len()), (Phase::Runnable, 0));
    let placement = &world.record.placements[0];
    assert_eq!(placement.status_reason, "Log sidecar did not start within 60 s: ImagePullBackOff (node 1)");
    world.kubelets_stop();
    assert!(world.pods().all(|pod| (pod.attempt, pod.placement) == (1, 1)), "{:?}", world.names());
}

#[test]
fn pods_that_are_missing_take_the_others_back_unless_the_main_node_runs() {
    let mut world = gang();
    world.bind(0, "n0");
    world.vanish(1);
    assert_eq!(world.record.placements[0].status_reason, "Not all nodes of the job have a pod: 2 of 3 do");
    let mut world = running();
    world.vanish(1);
    assert_eq!(world.record.attempts[0].status_reason, "Pod deleted: by a user or another controller");
    assert_eq!(world.record.attempts[0].container.reason.as_deref(), Some("(node 1)"));
}

#[test]
fn pods_that_are_still_being_made_are_not_missing() {
    let mut world = gang();
    world.creating = true;
    world.vanish(1);
    assert!(world.record.placements.is_empty());
    world.creating = false;
    world.look();
    assert_eq!(world.record.placements.len(), 1);
}

#[test]
fn a_withdrawal_takes_all_and_says_nothing_of_hosts() {
    let mut world = gang();
    world.user_deletes(2);
    assert_eq!(world.record.placements.len(), 1);
    assert!(!world.record.has_had_a_node(), "its place in line is the old one");
    assert!(world.pods().all(|pod| pod.placement == 1));
}

#[test]
fn orders_act_on_all() {
    let mut world = running();
    world.job.terminate = Some("enough".to_owned());
    world.look();
    assert!(world.pods().all(|pod| pod.deleted_at.is_some()));
    world.kubelets_stop();
    assert_eq!(
        (world.record.phase(), world.record.status_reason.as_deref()),
        (Phase::Failed, Some("enough"))
    );
    assert!(world.pods().all(|pod| !pod.held));

    let mut world = gang();
    world.bind(1, "n1");
    world.job.cancel = Some("no".to_owned());
    world.look();
    world.kubelets_stop();
    assert_eq!((world.record.phase(), world.record.is_cancelled), (Phase::Failed, Some(true)));
    assert!(world.pods().all(|pod| !pod.held));
}

#[test]
fn the_timeout_counts_from_the_main_nodes_start() {
    let mut world = gang();
    world.job.timeout = Some(jiff::SignedDuration::from_secs(60));
    (0..3).for_each(|node| world.bind(node, "n0"));
    world.start(1);
    world.wait(100);
    assert!(world.record.intent.is_none());
    world.start(0);
    world.wait(60);
    world.kubelets_stop();
    assert_eq!(world.record.status_reason.as_deref(), Some("Job attempt duration exceeded timeout"));
}

#[test]
fn retry_rules_are_asked_about_the_main_node_only() {
    let mut world = running();
    let rule = |code: &str, action| EvaluateOnExit {
        on_exit_code: Some(code.to_owned()),
        action,
        on_status_reason: None,
        on_reason: None,
    };
    let evaluate_on_exit = vec![rule("7", RetryAction::Retry), rule("*", RetryAction::Exit)];
    world.job.strategy = RetryStrategy { attempts: 3, evaluate_on_exit };
    world.exit(1, 9);
    world.exit(0, 7);
    assert_eq!((world.record.phase(), world.record.attempts.len()), (Phase::Runnable, 1));
}

#[test]
fn a_gate_is_lifted_once_the_main_nodes_uid_is_on_record() {
    let world = World::fenced(3, 0, 1);
    assert!(world.record.current.is_some());
    assert!(world.pods().all(|pod| !pod.gated), "{:?}", world.names());
    assert!(world.pods().all(|pod| pod.node_name.is_none()));
}

#[derive(Clone, Debug)]
enum Event {
    Bind(u32, u8),
    Start(u32),
    Address,
    Exit(u32, i32),
    Refuse(u32),
    Waits(u32),
    Delete(u32),
    Vanish(u32),
    Drain(u8),
    Lose(u8),
    Stop,
    Wait(i64),
    Terminate,
    Cancel,
    Forget,
}

fn event() -> impl Strategy<Value = Event> {
    let (node, host) = (0..3u32, 0..3u8);
    prop_oneof![
        6 => (node.clone(), host.clone()).prop_map(|(node, host)| Event::Bind(node, host)),
        6 => node.clone().prop_map(Event::Start),
        3 => Just(Event::Address),
        3 => (node.clone(), prop::sample::select(vec![0, 1, 3])).prop_map(|(node, code)| Event::Exit(node, code)),
        1 => node.clone().prop_map(Event::Refuse),
        1 => node.clone().prop_map(Event::Waits),
        1 => node.clone().prop_map(Event::Delete),
        1 => node.prop_map(Event::Vanish),
        1 => host.clone().prop_map(Event::Drain),
        1 => host.prop_map(Event::Lose),
        5 => Just(Event::Stop),
        2 => prop::sample::select(vec![1, 100, 301]).prop_map(Event::Wait),
        1 => Just(Event::Terminate),
        1 => Just(Event::Cancel),
        1 => Just(Event::Forget),
    ]
}

proptest! {
    #![proptest_config(config(600))]

    /// Whatever happens to the pods of a gang: its record is that of a job; no two rounds are at work at a time; all
    /// nodes of a round start together; nothing is held for a job that has ended; and once nothing happens any more
    /// but what kubelets do, no pod is left of a round that is over.
    #[test]
    fn a_gang_is_one_job(main in 0..3u32, attempts in 1..4u32, events in prop::collection::vec(event(), 0..40)) {
        let mut world = World::new(3, main, attempts);
        for event in events {
            match event.clone() {
                Event::Bind(node, host) => world.bind(node, &format!("n{host}")),
                Event::Start(node) => world.start(node),
                Event::Address => world.has_address(main, "10.0.0.1"),
                Event::Exit(node, code) => world.exit(node, code),
                Event::Refuse(node) => world.refuse(node),
                Event::Waits(node) => world.waits(node, "InvalidImageName", "bad"),
                Event::Delete(node) => world.user_deletes(node),
                Event::Vanish(node) => world.vanish(node),
                Event::Drain(host) => world.drain(&format!("n{host}")),
                Event::Lose(host) => world.lose(&format!("n{host}")),
                Event::Stop => world.kubelets_stop(),
                Event::Wait(seconds) => world.wait(seconds),
                Event::Terminate => { world.job.terminate = Some("enough".into()); world.look(); }
                Event::Cancel => { world.job.cancel = Some("no".into()); world.look(); }
                Event::Forget => world.forget(),
            }
            world.check().map_err(|why| TestCaseError::fail(format!("after {event:?}: {why}")))?;
        }
        world.job.terminate = Some("the end".into());
        world.look();
        world.kubelets_stop();
        world.kubelets_stop();
        prop_assert!(world.record.phase().is_terminal(), "{:?}", world.record);
        prop_assert!(world.pods().all(|pod| !pod.held), "{:?}", world.names());
    }
}
