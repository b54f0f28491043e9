//! A day with three queues on a static pool and on nodes that come and go, and what became of it.
//!
//! `day/transcript.txt` has a line for every quarter of an hour in which something changed, and for everything out of the
//! ordinary.
//! `UPDATE=1 cargo test -p batchyard-core --test queue_day` writes it anew; read the diff before you believe it. In CI
//! (`CI` is set) nothing is ever written. Each cycle is checked against the rules of `support/invariants.rs`.

#[path = "support/invariants.rs"]
mod invariants;
#[path = "support/simulation.rs"]
mod simulation;
#[path = "support/stage.rs"]
mod stage;

use std::fmt::Write as _;
use std::path::Path;

use batchyard_core::queue::{Candidate, Policy, Stranded};
use jiff::{SignedDuration, Timestamp};
use simulation::{Cloud, Dice, Simulation};
use stage::{Stage, amounts};

/// The most nodes that the cloud has; in the evening, from 17 to 21 o'clock, it has one.
const NODES: usize = 4;

/// Queues, environments and the nodes of the static pool.
fn setting() -> Simulation {
    let distribution = [("ada", 1.0), ("ben", 0.5), ("eve", 0.25)];
    let distribution = distribution.map(|(share, factor)| (share.to_owned(), factor)).to_vec();
    let policy = Policy { decay_seconds: 3600, reservation: 0, distribution };
    let stage = Stage::default().pool("pool", Some(32), &[(16, 64, 0), (16, 64, 0)]);
    let stage = stage.provisioned("cloud", 64, 4).change("cloud", |e| {
        let provisioned = e.provisioned.as_mut().expect("provisioned");
        provisioned.capacity_timeout = Some(SignedDuration::from_secs(300));
    });
    let stage = stage.tokens("n/licence", 3).queue("n/interactive", 10, &["pool", "cloud"]);
    let stage = stage.queue("n/research", 5, &["cloud", "pool"]).fair(policy);
    let mut simulation = Simulation::of(stage.queue("n/nightly", 1, &["cloud", "pool"]).snapshot);
    simulation.cloud = Some(Cloud::new("cloud", amounts(16, 64, 0, 20), NODES));
    simulation
}

fn job(vcpus: i64, share: &str) -> Candidate {
    Candidate {
        vcpus_milli: vcpus * 1000,
        pod: amounts(vcpus, vcpus, 0, 1),
        share: share.to_owned(),
        ..Candidate::default()
    }
}

/// The jobs that come in one minute of the day; the number of those that came before is in their names.
fn arrivals(simulation: &mut Simulation, dice: &mut Dice, minute: i64, count: &mut usize) {
    let mut submit = |dice: &mut Dice, queue: &str, job: Candidate, seconds: i64| {
        *count += 1;
        let failures = u32::from(dice.roll(0, 19) == 0);
        simulation.submit(&format!("n/{queue}"), &format!("{queue}-{count}"), job, seconds, failures);
    };
    let hour = minute / 60;
    if (8..18).contains(&hour) && dice.roll(0, 7) == 0 {
        let (vcpus, seconds) = (dice.roll(1, 4), dice.roll(60, 1200));
        submit(dice, "interactive", job(vcpus, ""), seconds);
    }
    for (share, often) in [("ada", 13), ("ben", 10), ("eve", 7)] {
        if (9..20).contains(&hour) && dice.roll(0, often) == 0 {
            let (vcpus, seconds) = (dice.roll(2, 8), dice.roll(600, 3600));
            submit(dice, "research", job(vcpus, share), seconds);
        }
    }
    if minute == 60 || minute == 17 * 60 {
        for number in 0..40 {
            let mut job = job(if number == 20 { 16 } else { 4 }, "");
            job.tokens = (number % 8 == 0).then(|| ("n/licence".to_owned(), 2)).into_iter().collect();
            let seconds = dice.roll(900, 2400);
            submit(dice, "nightly", job, seconds);
        }
    }
}

fn clock(now: Timestamp) -> String {
    let minutes = now.duration_since(Timestamp::UNIX_EPOCH).as_mins();
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// How many jobs of each queue wait and have a pod, and what environments give of their vCPUs.
fn row(simulation: &mut Simulation) -> String {
    let mut out = String::new();
    for queue in ["interactive", "research", "nightly"] {
        let (waiting, running) = simulation.counts(&format!("n/{queue}"));
        write!(out, "  {queue} {waiting:2} wait {running:2} run").expect("a string");
    }
    let snapshot = simulation.snapshot();
    for (name, environment) in &snapshot.environments {
        let (used, max) =
            (environment.used_vcpus_milli / 1000, environment.max_vcpus_milli.unwrap_or_default() / 1000);
        write!(out, "  {name} {used:2}/{max} on {}", environment.nodes.len()).expect("a string");
    }
    out
}

fn day() -> String {
    let (mut simulation, mut dice, mut count, mut out) = (setting(), Dice(24), 0, String::new());
    let mut last = String::new();
    for minute in 0..24 * 60 {
        let hour = minute / 60;
        let cloud = simulation.cloud.as_mut().expect("stated");
        cloud.limit = if (17..21).contains(&hour) { 1 } else { NODES };
        arrivals(&mut simulation, &mut dice, minute, &mut count);
        let decisions = simulation.tick(60);
        for (uid, Stranded { wait, .. }) in &decisions.stranded {
            simulation.told.push(format!("{uid} is told: {}", wait.text));
        }
        let now = clock(simulation.idle.now);
        simulation.told.drain(..).for_each(|told| writeln!(out, "{now}    {told}").expect("a string"));
        let told = row(&mut simulation);
        if (minute + 1) % 15 == 0 && told != last {
            writeln!(out, "{now}{told}").expect("a string");
            last = told;
        }
        let nodes = simulation.snapshot().nodes;
        assert!(nodes.iter().all(|node| node.free.cpu_milli >= 0), "{now}: no node is overcommitted");
        assert_eq!(count, simulation.ended + simulation.jobs.len(), "{now}: no job is lost");
    }
    assert!(simulation.jobs.is_empty(), "all jobs ended");
    writeln!(out, "{count} jobs came and {} ended; vCPU-hours:", simulation.ended).expect("a string");
    for ((queue, share), used) in &simulation.used {
        writeln!(out, "  {queue} {share} {:.1}", used / 3600.0).expect("a string");
    }
    out
}

#[test]
fn a_day_with_three_queues() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/day/transcript.txt");
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let got = day();
    if got == golden {
        return;
    }
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1") && std::env::var_os("CI").is_none();
    if update {
        return std::fs::write(&path, got).expect("writable");
    }
    let line = golden.lines().zip(got.lines()).find(|(golden, got)| golden != got);
    panic!("{line:?} differ\nUPDATE=1 writes the transcript anew");
}
