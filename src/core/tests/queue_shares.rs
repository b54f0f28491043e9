//! Fair share: who gets how much over time, what is kept for others, and how past use is counted.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/invariants.rs"]
mod invariants;
#[path = "support/simulation.rs"]
mod simulation;
#[path = "support/stage.rs"]
mod stage;

use std::collections::BTreeMap;

use batchyard_core::queue::{Candidate, Ledger, Policy, Use, Verdict, line_up};
use batchyard_core::waits::Kind;
use cases::config;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use simulation::{Dice, Simulation};
use stage::{Stage, amounts};

const DAY: u32 = 86_400;

fn policy(decay_seconds: u32, reservation: u8, distribution: &[(&str, f64)]) -> Policy {
    let distribution = distribution.iter().map(|(share, factor)| ((*share).to_owned(), *factor)).collect();
    Policy { decay_seconds, reservation, distribution }
}

/// A pool of so many vCPUs, on one node, and a queue that divides it.
fn divided(vcpus: i64, policy: Policy) -> Stage {
    let stage = Stage::default().pool("p", Some(vcpus), &[(vcpus, 4096, 0)]);
    stage.queue("n/q", 1, &["p"]).fair(policy).pods(1000)
}

/// So many jobs of one vCPU in each of these shares.
fn with_jobs(mut stage: Stage, shares: &[&str], count: usize) -> Stage {
    for share in shares {
        for number in 0..count {
            stage = stage.job(&format!("{share}-{number:03}"), 1).of_share(share);
        }
    }
    stage
}

/// How many jobs of each share are admitted in one cycle.
fn served(stage: &Stage) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for uid in stage.admitted() {
        *served.entry(uid.split('-').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    served
}

fn expect(want: &[(&str, usize)]) -> BTreeMap<String, usize> {
    want.iter().map(|(share, count)| ((*share).to_owned(), *count)).collect()
}

/// Hours of work on eighty vCPUs: jobs of 1 to 4 vCPUs and 1 to 10 minutes.
struct Hours {
    simulation: Simulation,
    dice: Dice,
    tick: i64,
    /// How many jobs of a share wait at the beginning of each tick: more than start in it.
    enough: usize,
}

impl Hours {
    fn new(policy: Policy, tick: i64) -> Self {
        let enough = if tick < 60 { 10 } else { 40 };
        Self { simulation: Simulation::of(divided(80, policy).snapshot), dice: Dice(7), tick, enough }
    }

    /// Each of these shares always has jobs that wait; how many vCPU-seconds each used.
    fn work(&mut self, minutes: i64, shares: &[&str]) -> BTreeMap<String, f64> {
        let before = self.simulation.used.clone();
        for _ in 0..minutes * 60 / self.tick {
            for share in shares {
                let waits = |job: &&simulation::Job| job.pod.is_none() && job.candidate.share == **share;
                let waiting = self.simulation.jobs.values().filter(waits).count();
                (waiting..self.enough).for_each(|_| self.submit(share));
            }
            self.simulation.tick(self.tick);
        }
        let used = self.simulation.used.iter();
        used.map(|(key, used)| (key.1.clone(), used - before.get(key).copied().unwrap_or_default())).collect()
    }

    fn submit(&mut self, share: &str) {
        let vcpus = self.dice.roll(1, 4);
        let job = Candidate {
            vcpus_milli: vcpus * 1000,
            pod: amounts(vcpus, 1, 0, 1),
            share: share.to_owned(),
            ..Candidate::default()
        };
        let uid = format!("{share}-{}", self.dice.roll(0, i64::MAX - 1));
        let seconds = self.dice.roll(60, 600);
        self.simulation.submit("n/q", &uid, job, seconds, 0);
    }
}

/// Checks that shares used vCPU-seconds in these proportions, within so many percent.
#[track_caller]
fn proportions(used: &BTreeMap<String, f64>, want: &[(&str, f64)], percent: f64) {
    let (total, parts) = (used.values().sum::<f64>(), want.iter().map(|(_, part)| part).sum::<f64>());
    for (share, part) in want {
        let got = used.get(*share).copied().unwrap_or_default() / total * parts / part;
        assert!((got - 1.0).abs() * 100.0 <= percent, "{share} got {got:.3} of its part: {used:?}");
    }
}

const WEIGHTS: [(&str, f64); 4] = [("a", 1.0), ("b", 0.5), ("c", 0.25), ("d", 0.125)];
/// The parts that these weights stand for: one over each.
const PARTS: [(&str, f64); 4] = [("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", 8.0)];

#[test]
fn shares_converge_to_their_weights() {
    for decay in [0, 3600] {
        let mut hours = Hours::new(policy(decay, 0, &WEIGHTS), 30);
        hours.work(60, &["a", "b", "c", "d"]);
        let used = hours.work(5 * 60, &["a", "b", "c", "d"]);
        proportions(&used, &PARTS, 5.0);
        let most = 80.0 * 5.0 * 3600.0;
        assert!(used.values().sum::<f64>() > 0.93 * most, "nothing is idle: {used:?} of {most}");
    }
}

#[test]
fn shares_converge_with_the_window_of_a_day() {
    let mut hours = Hours::new(policy(DAY, 0, &WEIGHTS), 200);
    proportions(&hours.work(26 * 60, &["a", "b", "c", "d"]), &PARTS, 5.0);
}

/// Those for whom one prefix stands have one allotment together; a share without an entry has the weight 1.
#[test]
fn shares_of_one_prefix_have_one_allotment() {
    let mut hours = Hours::new(policy(0, 0, &[("red*", 0.5), ("blue", 0.5)]), 30);
    hours.work(60, &["red1", "red2", "blue", "none"]);
    let used = hours.work(5 * 60, &["red1", "red2", "blue", "none"]);
    proportions(&used, &[("red1", 1.0), ("red2", 1.0), ("blue", 2.0), ("none", 1.0)], 5.0);
}

#[test]
fn a_share_that_comes_late_gets_its_part_and_no_more_once_the_window_has_passed() {
    let mut hours = Hours::new(policy(600, 0, &[]), 30);
    let alone = hours.work(2 * 60, &["a"]);
    assert!(alone["a"] > 0.93 * 80.0 * 7200.0, "idle shares leave theirs to others: {alone:?}");
    hours.work(30, &["a", "late"]);
    proportions(&hours.work(4 * 60, &["a", "late"]), &[("a", 1.0), ("late", 1.0)], 5.0);
    // It rests for hours and comes back: what it left to others is not owed to it.
    hours.work(4 * 60, &["a"]);
    hours.work(30, &["a", "late"]);
    proportions(&hours.work(2 * 60, &["a", "late"]), &[("a", 1.0), ("late", 1.0)], 5.0);
}

#[test]
fn within_a_long_window_a_share_that_comes_back_catches_up() {
    let mut hours = Hours::new(policy(DAY, 0, &[]), 60);
    hours.work(2 * 60, &["a"]);
    let used = hours.work(60, &["a", "late"]);
    assert!(used["late"] > 1.1 * used["a"], "{used:?}");
}

#[test]
fn the_room_of_one_cycle_is_divided() {
    let four = |vcpus| with_jobs(divided(vcpus, policy(0, 0, &WEIGHTS)), &["a", "b", "c", "d"], 40);
    assert_eq!(served(&four(15)), expect(&[("a", 1), ("b", 2), ("c", 4), ("d", 8)]));
    assert_eq!(served(&four(60)), expect(&[("a", 4), ("b", 8), ("c", 16), ("d", 32)]));
    // What shares use and used counts.
    assert_eq!(served(&four(15).usage("d", 8, 0.0)), expect(&[("a", 2), ("b", 3), ("c", 6), ("d", 4)]));
    assert_eq!(served(&four(15).usage("d", 0, 8.0)), expect(&[("a", 2), ("b", 3), ("c", 6), ("d", 4)]));
    let idle = with_jobs(divided(15, policy(0, 0, &WEIGHTS)), &["a"], 40);
    assert_eq!(served(&idle.usage("d", 0, 0.0)), expect(&[("a", 15)]));
}

fn order(stage: &Stage) -> Vec<String> {
    line_up(&stage.snapshot.queues, |_| false).into_iter().map(|place| place.rank.uid).collect()
}

#[test]
fn scheduling_priority_acts_within_a_share_only() {
    let stage = divided(9, policy(0, 0, &[])).job("a-low", 1).of_share("a").edit(|job| job.priority = 1);
    let stage = stage.job("a-high", 1).of_share("a").edit(|job| job.priority = 9);
    let stage = stage.job("b-highest", 1).of_share("b").edit(|job| job.priority = 9999);
    assert_eq!(order(&stage.clone().usage("b", 1, 0.0)), ["a-high", "a-low", "b-highest"]);
    assert_eq!(order(&stage.usage("a", 1, 0.0)), ["b-highest", "a-high", "a-low"]);
}

#[test]
fn retried_jobs_are_first_within_share_and_priority() {
    let stage = divided(9, policy(0, 0, &[])).job("a-old", 1).of_share("a");
    let stage = stage.retried("a-again", 1).of_share("a");
    let stage = stage.job("a-first", 1).of_share("a").edit(|job| job.priority = 1);
    let stage = stage.retried("b-again", 1).of_share("b").usage("b", 9, 0.0);
    assert_eq!(order(&stage), ["a-first", "a-again", "a-old", "b-again"]);
}

#[test]
fn the_reservation_follows_awss_formula() {
    let table = [
        (50, [128, 192, 224], [32, 48, 56]),
        (25, [192, 240, 252], [48, 60, 63]),
        (0, [256, 256, 256], [64, 64, 64]),
        // A vCPU that is reserved in part is reserved: 99, 98.01 and 97.0299 percent.
        (99, [2, 5, 7], [0, 1, 1]),
    ];
    for (percent, of_256, of_64) in table {
        let policy = policy(0, percent, &[]);
        for active in 1..=3 {
            let usable = policy.usable(256_000, active);
            assert_eq!(usable, of_256[active - 1] * 1000, "computeReservation {percent}, {active} active");
            let shares = &["a", "b", "c"][..active];
            let kept = with_jobs(divided(64, policy.clone()), shares, 64);
            let unmanaged = |vcpus: Option<i64>| {
                kept.clone().change("p", |e| {
                    (e.max_vcpus_milli, e.unmanaged_vcpus_milli) = (None, vcpus.map(|vcpus| vcpus * 1000));
                })
            };
            let want = usize::try_from(of_64[active - 1]).expect("not negative");
            assert_eq!(kept.admitted().len(), want, "{percent}, {active} active");
            assert_eq!(unmanaged(Some(64)).admitted().len(), want, "unmanagedvCpus");
            assert_eq!(unmanaged(None).admitted().len(), 64, "nothing is kept of an unknown size");
        }
    }
    assert_eq!(policy(0, 0, &[]).usable(64_000, 0), 64_000, "nothing is kept where nothing is to be kept");
}

#[test]
fn a_share_that_becomes_active_gets_of_what_was_kept_for_it() {
    let kept = divided(64, policy(0, 50, &[])).usage("a", 32, 32.0);
    let kept = kept.change("p", |e| e.used_vcpus_milli = 32_000);
    let alone = with_jobs(kept.clone(), &["a"], 40);
    assert_eq!(alone.admitted().len(), 0);
    let told = "Waiting for vCPUs in ComputeEnvironment p: all but 32 are kept for other shares (computeReservation)";
    alone.says("a-000", told);
    assert_eq!(served(&with_jobs(kept.clone(), &["a", "b"], 40)), expect(&[("b", 16)]));
    // A share that ran within the window is active, too.
    let ran = with_jobs(kept, &["a"], 40).usage("gone", 0, 100.0);
    assert_eq!(served(&ran), expect(&[("a", 16)]));
}

/// Pods that come later make way for what a share may use, and for no more.
#[test]
fn pods_make_way_for_a_share_up_to_the_reservation() {
    let stage = |vcpus| {
        let stage = Stage::default().provisioned("k", 20, 100).queue("low", 1, &["k"]);
        let stage = stage.unbound("k", "low-1", "low", 4, 9).unbound("k", "low-2", "low", 4, 9);
        let stage = stage.queue("high", 5, &["k"]).fair(policy(0, 50, &[]));
        stage.job("h", vcpus).of_share("a").schedule()
    };
    assert_eq!(stage(4).withdraw, ["low-2"]);
    let decisions = stage(11);
    assert!(decisions.withdraw.is_empty(), "it may not use so many");
    let Verdict::Wait(wait) = &decisions.verdicts["h"] else { panic!("{decisions:?}") };
    assert_eq!(wait.kind, Kind::ShareReservation);
}

/// In a queue with shares, too, an array stands in line once and counts for all its children.
#[test]
fn an_array_counts_for_its_share_with_all_its_children() {
    let array = |job: &mut Candidate| job.children = Some(std::sync::Arc::new((0..4).collect()));
    let stage = divided(9, policy(0, 0, &[])).job("x-array", 2).of_share("x").edit(array);
    let stage = stage.job("x-next", 1).of_share("x");
    let stage = (1..=9).fold(stage, |stage, n| stage.job(&format!("y-{n}"), 1).of_share("y"));
    // Four children of two vCPUs and half of the next job are as much as eight jobs and half of the ninth.
    let want = ["x-array", "y-1", "y-2", "y-3", "y-4", "y-5", "y-6", "y-7", "y-8", "x-next", "y-9"];
    assert_eq!(order(&stage), want);
}

/// Half of its next job counts with what a share uses, but never more than it uses.
#[test]
fn half_of_the_next_job_counts() {
    let stage = |x: i64, y: i64| {
        let stage =
            divided(99, policy(0, 0, &[])).job("x-job", x).of_share("x").job("y-job", y).of_share("y");
        stage.usage("x", 8, 0.0).usage("y", 10, 0.0)
    };
    for (x, y, first) in [(2, 2, "x-job"), (4, 1, "x-job"), (6, 1, "y-job"), (6, 4, "x-job"), (8, 2, "y-job")]
    {
        assert_eq!(order(&stage(x, y))[0], first, "jobs of {x} and {y} vCPUs");
    }
    // One that uses little is not kept out by a large job: 1.5 against 1.
    let small = |y: f64| stage(64, 1).usage("x", 1, 0.0).usage("y", 0, y);
    assert_eq!(order(&small(1.1))[0], "x-job", "1.6 are more");
    assert_eq!(order(&small(0.9))[0], "y-job");
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn used(share: &str, vcpus: i64, from: i64) -> Use {
    Use { share: share.to_owned(), vcpus_milli: vcpus * 1000, from: at(from) }
}

const WINDOW: SignedDuration = SignedDuration::from_secs(600);

#[test]
fn a_use_counts_once_however_often_its_beginning_is_noted() {
    let mut ledger = Ledger::new(WINDOW);
    for _ in 0..3 {
        ledger.begin("pod-1", used("a", 4, 0));
    }
    assert!(ledger.is_open("pod-1") && !ledger.is_open("pod-2"));
    let all = BTreeMap::from([("a".to_owned(), 4000.0)]);
    assert_eq!(ledger.averages(at(600)), all, "all of the window");
    for _ in 0..2 {
        ledger.end("pod-1", at(600));
    }
    assert!(!ledger.is_open("pod-1"));
    let average = ledger.averages(at(600))["a"];
    assert!((average - 4000.0).abs() < 1e-6, "what is over counts as much: {average}");
    assert!(ledger.averages(at(1200)).is_empty());
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let mut ledger = Ledger::new(WINDOW);
    ledger.add(&used("a", 4, 0), at(100));
    ledger.begin("open", used("b", 4, 0));
    let before = ledger.averages(at(699));
    assert!(before.contains_key("a"), "a second of it is within the window: {before:?}");
    let later = ledger.averages(at(703));
    assert_eq!(later.keys().collect::<Vec<_>>(), ["b"]);
    assert!(!ledger.averages(at(650)).contains_key("a"), "it is not remembered either");
    assert_eq!(ledger.averages(at(10_000)), BTreeMap::from([("b".to_owned(), 4000.0)]));
}

/// Whoever keeps the uses of pods may forget those that are over for so long.
#[test]
fn what_ended_before_the_window_is_out_of_reach() {
    let ledger = Ledger::new(WINDOW);
    for (until, now, reached) in
        [(0, 0, true), (0, 599, true), (0, 600, false), (0, 601, false), (9, 608, true)]
    {
        assert_eq!(ledger.reaches(at(until), at(now)), reached, "{until} at {now}");
    }
}

#[test]
fn the_recent_past_counts_more() {
    let average = |from, until| {
        let mut ledger = Ledger::new(WINDOW);
        ledger.add(&used("a", 1, from), at(until));
        ledger.averages(at(600)).get("a").copied().unwrap_or_default()
    };
    assert!(average(500, 600) > average(400, 500) && average(100, 200) > average(0, 100));
    // The window's newer half has three quarters of the weight.
    assert!((average(300, 600) - 750.0).abs() < 1e-6, "{}", average(300, 600));
    assert_eq!(average(-500, 0), 0.0);
    assert_eq!(policy(0, 0, &[]).window(), WINDOW, "shareDecaySeconds 0 is the default");
}

/// The policy of a queue that works may be changed: what was used is not forgotten.
#[test]
fn another_window_keeps_what_was_used() {
    let (mut ledger, mut want) = (Ledger::new(WINDOW), Ledger::new(WINDOW * 2));
    for (from, until) in [(100, 250), (250, 251), (400, 600)] {
        ledger.add(&used("a", 3, from), at(until));
        want.add(&used("a", 3, from), at(until));
    }
    ledger.set_window(WINDOW * 2);
    let (got, want) = (ledger.averages(at(700))["a"], want.averages(at(700))["a"]);
    assert!((got / want - 1.0).abs() < 0.01, "{got} is not {want}");
}

proptest! {
    #![proptest_config(config(200))]

    /// The closed formula is the integral of what is used, weighted from 1 now to 0 at the window's end.
    #[test]
    fn averages_are_the_weighted_integral(
        uses in prop::collection::vec((0..2usize, 1..9i64, -900..600i64, 0..900i64, any::<bool>()), 0..8),
        window in 60..900i64,
    ) {
        let now = 600;
        let mut ledger = Ledger::new(SignedDuration::from_secs(window));
        let mut want = [0.0, 0.0];
        let steps = 2000;
        for (number, (share, vcpus, from, length, is_open)) in uses.into_iter().enumerate() {
            let until = (!is_open).then(|| (from + length).min(now));
            ledger.begin(&number.to_string(), used(["a", "b"][share], vcpus, from));
            until.into_iter().for_each(|until| ledger.end(&number.to_string(), at(until)));
            for step in 0..steps {
                let age = (f64::from(step) + 0.5) / f64::from(steps);
                let second = now as f64 - age * window as f64;
                if second >= from as f64 && until.is_none_or(|until| second < until as f64) {
                    want[share] += vcpus as f64 * 1000.0 * (1.0 - age) * 2.0 / f64::from(steps);
                }
            }
        }
        let got = ledger.averages(at(now));
        for (share, want) in ["a", "b"].into_iter().zip(want) {
            let got = got.get(share).copied().unwrap_or_default();
            prop_assert!((got - want).abs() < 100.0, "{}: {} is not {}", share, got, want);
        }
    }
}
