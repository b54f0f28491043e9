//! A large job under a constant stream of small ones: it is overtaken for a while, then placed.

#[path = "support/invariants.rs"]
mod invariants;
#[path = "support/simulation.rs"]
mod simulation;
#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::Candidate;
use simulation::{Dice, Simulation};
use stage::{BIG, Stage, amounts};

/// How long jobs of other queues may overtake a head, in minutes.
const OVERTAKING: i64 = 10;
/// The longest that a small job runs, in minutes.
const SMALL: i64 = 15;

fn job(vcpus: i64, tokens: i64) -> Candidate {
    Candidate {
        vcpus_milli: vcpus * 1000,
        pod: amounts(vcpus, 1, 0, 1),
        tokens: (tokens > 0).then(|| ("n/t".to_owned(), tokens)).into_iter().collect(),
        ..Candidate::default()
    }
}

/// After how many minutes a job of these needs has a pod, in a world in which small jobs wait at all times; and how
/// many of those overtook it.
fn waits(stage: Stage, large: &Candidate, small: &Candidate) -> (i64, usize) {
    let mut simulation = Simulation::of(stage.snapshot);
    let mut dice = Dice(3);
    let mut count = 0;
    let mut minute = |simulation: &mut Simulation| {
        for _ in simulation.counts("n/small").0..8 {
            count += 1;
            let seconds = dice.roll(60, SMALL * 60);
            simulation.submit("n/small", &format!("small-{count}"), small.clone(), seconds, 0);
        }
        simulation.tick(60);
    };
    (0..60).for_each(|_| minute(&mut simulation));
    simulation.submit("n/large", "large", large.clone(), 600, 0);
    let before: Vec<_> = simulation.jobs.keys().cloned().collect();
    for minutes in 1..=120 {
        minute(&mut simulation);
        if simulation.jobs["large"].pod.is_some() {
            let younger =
                simulation.jobs.iter().filter(|(uid, job)| job.pod.is_some() && !before.contains(uid));
            return (minutes, younger.count());
        }
    }
    panic!("it waits for two hours");
}

/// Queues of a large and of small jobs, with these priorities.
fn queues(stage: Stage, large: i64, small: i64) -> Stage {
    stage.queue("n/large", large, &["p"]).queue("n/small", small, &["p"])
}

fn nodes(count: usize) -> Stage {
    Stage::default().pool("p", Some(64), &[(8, 64, 0)].repeat(count))
}

#[test]
fn a_large_head_is_placed_in_bounded_time() {
    // Jobs that run when room begins to be kept have ended then, and a minute passes until it is seen.
    let most = OVERTAKING + SMALL + 1;
    let one_big = Stage::default().pool("p", Some(16), &[BIG]);
    let cases = [
        ("a whole node", queues(nodes(3), 5, 1), job(8, 0), job(1, 0)),
        ("a whole node, of an equal priority", queues(nodes(3), 1, 1), job(8, 0), job(1, 0)),
        ("all vCPUs of an environment", queues(one_big.clone(), 5, 1), job(16, 0), job(1, 0)),
        ("all tokens", queues(one_big.clone(), 5, 1).tokens("n/t", 6), job(1, 6), job(1, 1)),
        ("vCPUs and tokens", queues(one_big, 1, 1).tokens("n/t", 12), job(16, 12), job(1, 1)),
    ];
    for (why, stage, large, small) in cases {
        let (minutes, overtook) = waits(stage, &large, &small);
        assert!((OVERTAKING..=most).contains(&minutes), "{why}: {minutes} minutes");
        assert!(
            overtook > 0 || why.contains("tokens") || why.contains("all"),
            "{why}: others went on meanwhile"
        );
    }
}

/// The rest of the pool is not idle while a node is kept.
#[test]
fn small_jobs_go_on_beside_the_node_that_is_kept() {
    let (_, overtook) = waits(queues(nodes(3), 5, 1), &job(8, 0), &job(1, 0));
    assert!(overtook > 8, "only {overtook} run beside it");
}
