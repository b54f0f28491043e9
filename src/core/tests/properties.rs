//! What holds for single jobs whatever happens: random scripts in the language of `sim/`, so that
//! a failing case can be read, and kept as a script.
//!
//! That records move along the allowed graph, never change once terminal, number their attempts
//! without gaps, stay within the limit and count no pod twice is checked at every store; that the
//! operator comes to rest, in a fixpoint, with at most one live pod per job and nothing held for
//! jobs that ended, whenever it rests (`support/sim_operator.rs`).

#[path = "support/cases.rs"]
mod cases;

#[path = "support/sim_cluster.rs"]
mod sim_cluster;
#[path = "support/sim_operator.rs"]
mod sim_operator;
#[path = "support/sim_script.rs"]
mod sim_script;

use std::cell::Cell;
use std::collections::BTreeMap;

use batchyard_core::job::record::Record;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sim_operator::World;
use sim_script::apply;

const NOT_FOUND: &str = "failed to resolve reference \"docker.io/library/x:latest\": not found";
const NO_ROUTE: &str = "failed to do request: dial tcp 10.0.0.1:443: connect: connection refused";

fn job() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["job-1", "job-2", "job-3", "job-4"])
}

fn node() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["spot-1", "spot-2", "spot-3"])
}

/// The stage: one environment, two queues, four jobs, one of them before its definition.
fn setting() -> impl Strategy<Value = Vec<String>> {
    let rules = vec![
        "",
        ": onExitCode 1 RETRY, onExitCode 2 RETRY, onExitCode 3 EXIT",
        ": onStatusReason Host EC2* RETRY, onReason * EXIT",
        ": onReason CannotPullContainerError:* EXIT",
    ];
    let lost = prop::sample::select(vec!["", " nodeLostTimeoutSeconds=120s"]);
    let timeout = prop::sample::select(vec!["", " timeout=60s"]);
    let fence = prop::sample::select(vec!["", " strictFencing=true"]);
    let max = prop::sample::select(vec![2, 4, 32]);
    (1..4u32, prop::sample::select(rules), lost, timeout, fence, max).prop_map(
        |(attempts, rules, lost, timeout, fence, max)| {
            vec![
                format!("environment pool maxvCpus={max}{lost}"),
                format!("queue high priority=2 environments=pool{fence}"),
                "queue low priority=1 environments=pool maxRunning=1".into(),
                "node spot-1 4 vCPUs in pool".into(),
                "node spot-2 2 vCPUs in pool".into(),
                format!("definition plain attempts={attempts}{timeout}{rules}"),
                "submit job-1 plain to low".into(),
                "submit job-2 plain to high".into(),
                "submit job-3 later to low".into(),
                "submit job-4 plain to high".into(),
            ]
        },
    )
}

fn code() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![0, 1, 1, 2, 2, 3, 137, 143])
}

/// A whole attempt without incident.
fn attempt() -> impl Strategy<Value = Vec<String>> {
    (job(), node(), code()).prop_map(|(job, node, code)| {
        vec![
            format!("bind {job} {node}"),
            format!("container starts {job}"),
            format!("container exits {job} {code}"),
        ]
    })
}

/// What usually happens.
fn ordinary() -> impl Strategy<Value = String> {
    let time = prop::sample::select(vec!["1s", "19s", "20s", "60s", "120s", "10m"]);
    prop_oneof![
        6 => (job(), node()).prop_map(|(job, node)| format!("bind {job} {node}")),
        6 => job().prop_map(|job| format!("container starts {job}")),
        6 => (job(), code()).prop_map(|(job, code)| format!("container exits {job} {code}")),
        2 => job().prop_map(|job| format!("kubelet stops {job}")),
        2 => time.prop_map(|time| format!("wait {time}")),
        1 => Just("definition later attempts=2".to_owned()),
        2 => Just("PodGC runs".to_owned()),
        1 => node().prop_map(|node| format!("node {node} 4 vCPUs in pool")),
    ]
}

/// What goes wrong, and what people do.
fn trouble() -> impl Strategy<Value = String> {
    let image = prop::sample::select(vec![NOT_FOUND, NO_ROUTE]);
    let deed = prop::sample::select(vec!["deletes pod", "force-deletes pod", "removes finalizer"]);
    let order = prop::sample::select(vec!["terminate", "cancel"]);
    let nodes = prop::sample::select(vec!["drain", "power off", "remove node"]);
    prop_oneof![
        2 => job().prop_map(|job| format!("kubelet rejects {job}")),
        2 => (job(), image).prop_map(|(job, text)| format!("pull fails {job}: {text}")),
        6 => (nodes, node()).prop_map(|(deed, node)| format!("{deed} {node}")),
        3 => (order, job()).prop_map(|(order, job)| format!("{order} {job}: enough")),
        4 => (deed, job()).prop_map(|(deed, job)| format!("user {deed} of {job}")),
        2 => prop::sample::select(vec!["close pool", "open pool", "open pool"]).prop_map(str::to_owned),
    ]
}

/// What ends jobs before they do much.
fn disaster() -> impl Strategy<Value = String> {
    let queue = prop::sample::select(vec!["low", "high"]).prop_map(|queue| format!("delete queue {queue}"));
    prop_oneof![queue, job().prop_map(|job| format!("policy refuses {job}: no"))]
}

/// When the operator is away.
fn outage() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["operator stops", "operator starts", "operator starts"]).prop_map(str::to_owned)
}

/// Creates that nobody knows the outcome of.
fn slowness() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["API is slow", "API is back", "API answers"]).prop_map(str::to_owned)
}

fn script(slow: u32) -> impl Strategy<Value = Vec<String>> {
    let one = |line: String| vec![line];
    let lines = prop_oneof![
        60 => attempt(),
        120 => ordinary().prop_map(one),
        40 => trouble().prop_map(one),
        10 => outage().prop_map(one),
        1 => disaster().prop_map(one),
        10 * slow => slowness().prop_map(one),
    ];
    (setting(), prop::collection::vec(lines, 10..90)).prop_map(|(mut setting, lines)| {
        setting.extend(lines.into_iter().flatten());
        setting
    })
}

/// One line; what cannot happen now does not. False if it did not.
fn play(world: &mut World, line: &str) -> bool {
    let happened = apply(world, line).is_ok();
    if happened {
        world.log.clear();
        world.reconcile();
    }
    happened
}

/// The world becomes quiet: what is missing comes, what is broken goes, all containers end well.
fn settle(world: &mut World) {
    let broken = world.cluster.nodes.values().filter(|n| !n.powered).map(|n| n.view.name.clone());
    let broken: Vec<_> = broken.map(|name| format!("remove node {name}")).collect();
    let lines = ["operator starts", "API answers", "open pool", "node big 64 vCPUs in pool", "PodGC runs"];
    lines.iter().for_each(|line| _ = play(world, line));
    if !world.definitions.contains_key("later") {
        play(world, "definition later attempts=2");
    }
    broken.iter().for_each(|line| _ = play(world, line));
    let names: Vec<_> = world.jobs.keys().cloned().collect();
    for _ in 0..40 {
        for job in &names {
            if world.jobs[job].record.phase().is_terminal() {
                let mut live = world.cluster.pods.values().filter(|p| p.job == *job && p.is_live());
                assert!(
                    live.all(|p| p.view.deleted_at.is_some()),
                    "{job} has ended and its pod is left alone"
                );
            } else {
                play(world, &format!("bind {job} big"));
                play(world, &format!("container starts {job}"));
            }
            play(world, &format!("container exits {job} 0"));
            while play(world, &format!("kubelet stops {job}")) {}
        }
        play(world, "PodGC runs");
        if world.jobs.values().all(|job| job.record.phase().is_terminal()) {
            break;
        }
        play(world, "wait 11m");
    }
    for (name, job) in &world.jobs {
        assert!(job.record.phase().is_terminal(), "{name} never ends: {:?}", job.record);
        let pods = || world.cluster.pods.values().filter(|p| p.job == *name);
        assert!(pods().all(|p| !p.view.held), "{name}: a pod is held for ever");
        assert!(pods().all(|p| !p.is_live()), "{name}: a pod outlives its job");
    }
}

/// The records without times and uids of pods.
fn final_records(world: &World) -> BTreeMap<String, Record> {
    let records = world.jobs.iter().map(|(name, job)| {
        let mut record = job.record.clone();
        (record.created_at, record.runnable_at, record.started_at, record.stopped_at) =
            (None, None, None, None);
        for attempt in &mut record.attempts {
            (attempt.started_at, attempt.stopped_at) = (None, None);
            attempt.pod_uid.clear();
        }
        for placement in &mut record.placements {
            placement.at = None;
            placement.pod_uid.clear();
        }
        (name.clone(), record)
    });
    records.collect()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { max_shrink_iters: 4_000, ..cases::config(cases) })
}

/// Runs a check on many scripts; a failing one is shown as it would stand in `sim/`.
fn check(cases: u32, slow: u32, test: impl Fn(&[String])) {
    let outcome = runner(cases).run(&script(slow), |lines| {
        let run = std::panic::AssertUnwindSafe(|| test(&lines));
        std::panic::catch_unwind(run).map_err(|why| {
            let text = why.downcast_ref::<String>().cloned();
            let text = text.or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            TestCaseError::fail(text.unwrap_or_default())
        })
    });
    match outcome {
        Ok(()) => {}
        Err(proptest::test_runner::TestError::Fail(why, lines)) => {
            panic!("{why}\nin the script\n{}", lines.join("\n"))
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_job_ends_once_and_leaves_nothing() {
    let (happenings, effects, attempts, lost) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    check(500, 1, |lines| {
        let mut world = World::default();
        let happened = lines.iter().filter(|line| play(&mut world, line)).count();
        settle(&mut world);
        let sum = |of: fn(&Record) -> usize| world.jobs.values().map(|job| of(&job.record)).sum::<usize>();
        happenings.set(happenings.get() + happened);
        effects.set(effects.get() + world.effects);
        attempts.set(attempts.get() + sum(|record| record.attempts.len()));
        lost.set(lost.get() + sum(|record| record.placements.len()));
    });
    let (happenings, effects) = (happenings.get(), effects.get());
    println!(
        "{happenings} happenings, {effects} effects, {} attempts, {} lost pods",
        attempts.get(),
        lost.get()
    );
}

/// Stops the operator before every single effect of every step, starts it again, and wants the
/// same outcome as if nothing had been.
#[test]
fn a1_a2_a3_a_crash_anywhere_changes_nothing() {
    let (points, detours) = (Cell::new(0), Cell::new(0));
    check(300, 0, |lines| {
        let mut world = World::default();
        let mut steps = Vec::new();
        for line in lines {
            let before = world.clone();
            if play(&mut world, line) {
                steps.push((line, before, world.clone()));
            }
        }
        settle(&mut world);
        let undisturbed = final_records(&world);
        for (index, (line, before, after)) in steps.iter().enumerate() {
            for effect in before.effects..after.effects {
                points.set(points.get() + 1);
                let mut world = before.clone();
                world.crash_before = Some(effect);
                play(&mut world, line);
                assert!(world.crash_before.is_none(), "no crash at {line}, effect {effect}");
                if world.state() == after.state() {
                    // The rest depends on nothing else, so it need not be run again.
                    continue;
                }
                detours.set(detours.get() + 1);
                steps[index + 1..].iter().for_each(|(line, ..)| _ = play(&mut world, line));
                settle(&mut world);
                assert_eq!(final_records(&world), undisturbed, "after a crash at {line:?}, effect {effect}");
            }
        }
    });
    println!("{} crash points, {} of them took another way to the same end", points.get(), detours.get());
}

/// The same, but the operator stays away until the script, or its end, starts it again: the
/// outcome may be another one, the promises hold.
#[test]
fn a8_a_crash_with_a_long_absence_breaks_no_promise() {
    let points = Cell::new(0);
    check(80, 1, |lines| {
        let mut world = World::default();
        lines.iter().for_each(|line| _ = play(&mut world, line));
        for effect in (0..world.effects).step_by(3) {
            points.set(points.get() + 1);
            let mut world = World::default();
            (world.crash_before, world.stay_down) = (Some(effect), true);
            lines.iter().for_each(|line| _ = play(&mut world, line));
            settle(&mut world);
        }
    });
    println!("{} crash points", points.get());
}

/// A leader pauses before any write and another takes over; that write arrives at any later time.
#[test]
fn b1_b2_b5_a_write_that_arrives_late_breaks_no_promise() {
    let (points, late) = (Cell::new(0), Cell::new(0));
    check(80, 0, |lines| {
        let mut world = World::default();
        lines.iter().for_each(|line| _ = play(&mut world, line));
        for (turn, effect) in (0..world.effects).step_by(3).enumerate() {
            points.set(points.get() + 1);
            let mut world = World::default();
            world.pause_before = Some(effect);
            let mut since = None;
            for line in lines {
                play(&mut world, line);
                if world.pause_before.is_none() {
                    let waited = since.get_or_insert(0);
                    // Sometimes at once, sometimes much later.
                    if *waited == turn % 17 {
                        late.set(late.get() + usize::from(play(&mut world, "old leader resumes")));
                    }
                    *waited += 1;
                }
            }
            settle(&mut world);
            if play(&mut world, "old leader resumes") {
                late.set(late.get() + 1);
                settle(&mut world);
            }
        }
    });
    println!("{} pauses, {} late writes", points.get(), late.get());
}
