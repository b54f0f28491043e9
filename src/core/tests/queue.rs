//! Which job runs next, and where: what one scheduling cycle must and must not do.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/invariants.rs"]
mod invariants;
#[path = "support/stage.rs"]
mod stage;

use cases::config;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batchyard_core::queue::{
    Candidate, Decisions, Environment, NodeRoom, Place, Queue, Rank, Resources, Snapshot, Verdict, Waiting,
    line_up, schedule,
};
use invariants::admitted;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use stage::{BIG, Stage, amounts, closed, one_vcpu, rank};

#[test]
fn priority_decides_between_queues_that_share_an_environment() {
    let stage = Stage::default().pool("p", Some(4), &[BIG]).queue("low", 1, &["p"]).job("l1", 2).job("l2", 2);
    stage.places(&[("l1", Some("p")), ("l2", Some("p"))]);
    let stage = stage.queue("high", 9, &["p"]).job("h1", 2);
    stage.places(&[("h1", Some("p")), ("l1", Some("p")), ("l2", None)]);
    stage.job("h2", 2).places(&[("h1", Some("p")), ("h2", Some("p")), ("l1", None), ("l2", None)]);
}

#[test]
fn equal_priorities_go_by_age_job_by_job() {
    let stage = Stage::default().pool("p", Some(4), &[BIG]).queue("b", 1, &["p"]).job("b1", 2);
    let stage = stage.queue("a", 1, &["p"]).job("a1", 2).job("a2", 2);
    stage.places(&[("b1", Some("p")), ("a1", Some("p")), ("a2", None)]);
}

#[test]
fn a_retried_job_is_first_in_its_own_queue_only() {
    let stage = Stage::default().pool("p", Some(2), &[BIG]).queue("a", 1, &["p"]).job("old", 2);
    stage.clone().retried("retried", 2).places(&[("retried", Some("p")), ("old", None)]);
    stage.queue("b", 1, &["p"]).retried("elsewhere", 2).places(&[("old", Some("p")), ("elsewhere", None)]);
}

#[test]
fn the_oldest_of_a_queue_is_first() {
    let stage = Stage::default().pool("p", Some(2), &[BIG]).queue("q", 1, &["p"]);
    stage.job("z", 2).job("a", 2).places(&[("z", Some("p")), ("a", None)]);
}

#[test]
fn jobs_spill_over_to_the_next_environment() {
    let queue = |stage: Stage| stage.queue("q", 1, &["first", "second"]).job("j", 4);
    let second = |stage: Stage| stage.pool("second", Some(16), &[(8, 8, 0)]);
    let first = |max, node| Stage::default().pool("first", max, &[node]);
    queue(second(first(Some(16), (8, 8, 0)))).places(&[("j", Some("first"))]);
    let full = first(Some(16), (8, 8, 0)).change("first", |e| e.used_vcpus_milli = 13_000);
    let closed = first(Some(16), (8, 8, 0)).change("first", |e| e.closed = Some(closed()));
    for (why, stage) in [
        ("maxvCpus is reached", full),
        ("it is closed", closed),
        ("it is too small for the job", first(Some(3), (8, 8, 0))),
        ("its nodes are too small", first(Some(16), (2, 8, 0))),
        ("its nodes are full", first(Some(16), (8, 8, 0)).taken(0, 5, 0, 0)),
        ("it has no nodes", Stage::default().pool("first", None, &[])),
        ("it does not exist", Stage::default()),
    ] {
        let verdicts = queue(second(stage)).verdicts();
        assert_eq!(verdicts["j"], "second", "{why}");
    }
}

#[test]
fn max_vcpus_is_filled_and_not_exceeded() {
    let stage = Stage::default().pool("p", Some(5), &[BIG]).queue("q", 1, &["p"]);
    let stage = stage.job("a", 2).job("b", 2).job("c", 2).job("d", 1);
    stage.places(&[("a", Some("p")), ("b", Some("p")), ("c", None), ("d", None)]);
    let one_used = stage.clone().change("p", |e| e.used_vcpus_milli = 1000);
    one_used.places(&[("a", Some("p")), ("b", Some("p")), ("c", None), ("d", None)]);
    let unmanaged = stage.change("p", |e| e.max_vcpus_milli = None);
    unmanaged.places(&[("a", Some("p")), ("b", Some("p")), ("c", Some("p")), ("d", Some("p"))]);
}

#[test]
fn max_running_counts_what_runs_and_what_is_admitted() {
    let stage =
        Stage::default().pool("p", None, &[BIG]).queue("q", 1, &["p"]).limit(1, 2).job("a", 1).job("b", 1);
    stage.places(&[("a", Some("p")), ("b", None)]);
    stage.says("b", "Waiting for one of the 2 running jobs of JobQueue q to end: maxRunning is reached");
}

#[test]
fn a_blocked_head_blocks_its_own_queue_only() {
    let stage = Stage::default().pool("p", Some(8), &[(4, 64, 0)]).queue("blocked", 9, &["p"]);
    let stage = stage.job("large", 6).job("small", 1).queue("other", 1, &["p"]).job("free", 2);
    stage.places(&[("large", None), ("small", None), ("free", Some("p"))]);
    assert_eq!(schedule(stage.snapshot).fronts["blocked"], ["large", "small"]);
}

#[test]
fn gpus_must_fit_on_one_node() {
    let stage = Stage::default().pool("p", None, &[(8, 64, 1), (8, 64, 1)]).queue("q", 1, &["p"]);
    let two_singles = stage.clone().candidate("a", true, 1, 1, 1).candidate("b", true, 1, 1, 1);
    two_singles.candidate("c", true, 1, 1, 1).places(&[("a", Some("p")), ("b", Some("p")), ("c", None)]);
    stage.candidate("a", true, 1, 1, 2).places(&[("a", None)]);
}

#[test]
fn the_tightest_node_is_taken_so_that_large_gaps_stay() {
    for nodes in [[(8, 64, 0), (4, 64, 0)], [(4, 64, 0), (8, 64, 0)]] {
        let stage = Stage::default().pool("p", None, &nodes).queue("q", 1, &["p"]);
        stage.job("small", 4).job("large", 8).places(&[("small", Some("p")), ("large", Some("p"))]);
    }
    // GPU nodes are kept for those who need them, however tight they are.
    for nodes in [[(4, 64, 1), (8, 64, 0)], [(8, 64, 0), (4, 64, 1)]] {
        let stage = Stage::default().pool("p", None, &nodes).queue("q", 1, &["p"]);
        let stage = stage.job("plain", 4).candidate("gpu", true, 4, 1, 1);
        stage.places(&[("plain", Some("p")), ("gpu", Some("p"))]);
    }
}

#[test]
fn pods_request_the_environments_share_of_their_vcpus() {
    let stage = Stage::default().pool("p", Some(4), &[(3, 64, 0)]).queue("q", 1, &["p"]);
    let stage = stage.job("a", 4);
    stage.places(&[("a", None)]);
    stage.change("p", |e| e.cpu_percent = Some(75)).places(&[("a", Some("p"))]);
}

#[test]
fn a_full_node_takes_no_more_pods() {
    let mut stage =
        Stage::default().pool("p", None, &[(64, 64, 0)]).queue("q", 1, &["p"]).job("a", 1).job("b", 1);
    stage.snapshot.nodes[0].free.pods = 1;
    stage.places(&[("a", Some("p")), ("b", None)]);
}

#[test]
fn the_verdict_names_the_obstacle() {
    let node = (8, 64, 1);
    let pool = |max| Stage::default().pool("p", max, &[node]);
    let ask = |stage: Stage| stage.queue("q", 1, &["p"]).candidate("j", true, 4, 4, 1);
    let too_small = Stage::default().pool("p", None, &[(2, 64, 1)]);
    for (stage, want) in [
        (Stage::default(), "Waiting for a ComputeEnvironment of JobQueue q: none of them exists"),
        (pool(None).change("p", |e| e.closed = Some(closed())), "Waiting for it to open"),
        (
            pool(Some(3)),
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the \
             CPU requirement of the job.",
        ),
        (
            pool(Some(8)).change("p", |e| e.used_vcpus_milli = 5000),
            "Waiting for vCPUs in ComputeEnvironment p: its maxvCpus (8) is reached",
        ),
        (
            Stage::default().pool("p", None, &[]),
            "Waiting for a node in ComputeEnvironment p: no node of its pool takes pods now",
        ),
        (too_small, "Waiting for a larger node in ComputeEnvironment p: the job fits none of its nodes"),
        (pool(None).taken(0, 0, 0, 1), "Waiting for GPUs in ComputeEnvironment p"),
        (pool(None).taken(0, 5, 0, 0), "Waiting for vCPUs in ComputeEnvironment p"),
        (pool(None).taken(0, 0, 61, 0), "Waiting for memory in ComputeEnvironment p"),
    ] {
        ask(stage).says("j", want);
    }
}

/// What is said of a queue as a whole, by whoever knows it.
#[test]
fn a_queue_that_is_held_or_has_no_environment_says_why() {
    let told = || Some(closed());
    let none = "Waiting for a ComputeEnvironment of JobQueue q: none of them exists";
    let stage =
        |environments| Stage::default().pool("p", None, &[BIG]).queue("q", 1, environments).job("j", 1);
    let mut held = stage(&["p"]);
    held.last_queue().held = told();
    held.says("j", &closed().text);
    let mut other = held.queue("other", 0, &["p"]).job("free", 1);
    other.places(&[("j", None), ("free", Some("p"))]);
    other.snapshot.queues[0].held = None;
    other.places(&[("j", Some("p")), ("free", Some("p"))]);
    // None is named, or none of those that are.
    for environments in [&[][..], &["gone"]] {
        stage(environments).says("j", none);
        let mut obstacle = stage(environments);
        obstacle.last_queue().obstacle = told();
        obstacle.says("j", &closed().text);
    }
    // What an environment says is told before that.
    let mut full = stage(&["p"]).taken(0, 64, 0, 0);
    full.last_queue().obstacle = told();
    full.says("j", "Waiting for vCPUs in ComputeEnvironment p");
}

#[test]
fn of_two_environments_the_one_that_may_yet_take_the_job_is_named() {
    let stage = Stage::default().pool("small", Some(2), &[BIG]).pool("full", Some(8), &[BIG]);
    let stage = stage.change("full", |e| e.used_vcpus_milli = 8000);
    let want = "Waiting for vCPUs in ComputeEnvironment full: its maxvCpus (8) is reached";
    for order in [["small", "full"], ["full", "small"]] {
        stage.clone().queue("q", 1, &order).job("j", 4).says("j", want);
    }
}

#[test]
fn nothing_waits_nothing_is_said() {
    assert!(Stage::default().verdicts().is_empty());
    assert!(Stage::default().pool("p", None, &[BIG]).queue("q", 1, &["p"]).verdicts().is_empty());
}

/// A queue's own jobs count for the position, and those of others only where both could run.
#[test]
fn a_place_counts_who_comes_before() {
    let stage = Stage::default()
        .pool("p", None, &[])
        .pool("r", None, &[])
        .queue("n/low", 1, &["p"])
        .job("low-1", 1)
        .queue("n/high", 2, &["r", "p"])
        .job("high-1", 1)
        .retried("high-0", 1)
        .queue("n/equal", 1, &["p"])
        .job("equal-1", 1)
        .queue("n/apart", 9, &["r"])
        .job("apart-1", 1);
    let line = line_up(&stage.snapshot.queues, |_| false);
    let place =
        |p: &Place| format!("{} is {} of {}, behind {}", p.rank.uid, p.position, p.queue, p.ahead_elsewhere);
    assert_eq!(
        line.iter().map(place).collect::<Vec<_>>(),
        [
            "apart-1 is 1 of n/apart, behind 0",
            "high-0 is 1 of n/high, behind 1",
            "high-1 is 2 of n/high, behind 1",
            "low-1 is 1 of n/low, behind 2",
            "equal-1 is 1 of n/equal, behind 3",
        ]
    );
}

#[test]
fn who_waits_no_more_leaves_nothing_behind() {
    let array = Candidate {
        children: Some(Arc::new((0..5).collect())),
        share: "x".to_owned(),
        priority: 3,
        ..one_vcpu()
    };
    let (first, second) = (rank("first", true, 1), rank("second", true, 2));
    let mut waiting = Waiting::default();
    assert!(waiting.is_empty());
    waiting.insert(first.clone(), array.clone());
    waiting.insert(second.clone(), one_vcpu());
    assert_eq!((waiting.len(), waiting.is_empty(), waiting.get(&first)), (6, false, Some(&array)));
    assert_eq!(waiting.remove(&rank("third", true, 3)), None);
    // One of the same rank takes its place.
    waiting.insert(first.clone(), one_vcpu());
    assert_eq!((waiting.len(), waiting.get(&first)), (2, Some(&one_vcpu())));
    assert_eq!(waiting.remove(&first).as_deref(), Some(&one_vcpu()));
    assert_eq!((waiting.len(), waiting.get(&first), waiting.ranks().count()), (1, None, 1));
    assert_eq!(waiting.remove(&second).as_deref(), Some(&one_vcpu()));
    assert!(waiting.is_empty());
    assert_eq!(waiting, Waiting::default());
}

#[test]
fn amounts_are_compared_and_counted_each_for_itself() {
    let of = |[cpu_milli, memory, gpus, pods]: [i64; 4]| Resources { cpu_milli, memory, gpus, pods };
    let room = of([4, 3, 2, 1]);
    for (need, fits) in [
        ([4, 3, 2, 1], true),
        ([5, 3, 2, 1], false),
        ([4, 4, 2, 1], false),
        ([4, 3, 3, 1], false),
        ([4, 3, 2, 2], false),
        ([0, 0, 0, 0], true),
    ] {
        assert_eq!(of(need).fits(&room), fits, "{need:?}");
    }
    // Who needs nothing of it finds room where more is given away than there is.
    assert!(of([0, 1, 0, 1]).fits(&of([-1, 1, -1, 1])) && !of([1, 1, 0, 1]).fits(&of([-1, 1, -1, 1])));
    let mut sum = room;
    sum.add(&of([1, 20, 300, 4000]));
    assert_eq!(sum, of([5, 23, 302, 4001]));
    sum.charge(&of([6, 3, 2, 1]));
    assert_eq!(sum, of([-1, 20, 300, 4000]));
    assert_eq!(room.max(&of([5, 2, 3, 0])), of([5, 3, 3, 1]));
    sum.add(&of([i64::MAX; 4]));
    assert_eq!((sum.cpu_milli, sum.memory), (i64::MAX - 1, i64::MAX), "the most that there is");
}

fn resources(vcpus: i64, gib: i64, gpus: i64) -> impl Strategy<Value = Resources> {
    (0..=vcpus, 0..=gib, 0..=gpus).prop_map(|(vcpus, gib, gpus)| amounts(vcpus, gib, gpus, 1))
}

/// Any snapshot: overfull nodes and environments, shared nodes, names of nothing.
fn snapshots() -> impl Strategy<Value = Snapshot> {
    let node = (resources(8, 8, 2), 0..4i64).prop_map(|(mut free, pods)| {
        free.pods = pods;
        free.cpu_milli -= 500;
        free
    });
    let percent = prop::sample::select(vec![None, Some(90), Some(50)]);
    let max = prop::option::of((0..20i64).prop_map(|v| v * 1000));
    let environment = (any::<bool>(), max, (0..8i64).prop_map(|v| v * 1000), percent, 0..16u8);
    let job = (any::<bool>(), 0..20i64, resources(6, 4, 1));
    let queue = (0..3i64, prop::collection::vec(0..4usize, 0..4), prop::option::of(0..5u32), 0..3u32);
    let queue = (queue, prop::collection::vec(job, 0..4));
    let parts = (prop::collection::vec(node, 0..4), prop::collection::vec(environment, 0..4));
    (parts, prop::collection::vec(queue, 0..4)).prop_map(|((nodes, environments), queues)| {
        let mut snapshot = Snapshot::default();
        for (index, free) in nodes.into_iter().enumerate() {
            snapshot.nodes.push(NodeRoom {
                name: format!("n{index}"),
                free,
                size: free,
                ..NodeRoom::default()
            });
        }
        for (index, (open, max, used, cpu_percent, members)) in environments.into_iter().enumerate() {
            let nodes: Vec<_> = (0..snapshot.nodes.len()).filter(|n| members & (1 << n) != 0).collect();
            let largest = nodes.iter().fold(Resources::default(), |l, n| l.max(&snapshot.nodes[*n].free));
            let environment = Environment {
                closed: (!open && index > 0).then(closed),
                max_vcpus_milli: max,
                used_vcpus_milli: used,
                cpu_percent,
                nodes,
                largest,
                ..Environment::default()
            };
            snapshot.environments.insert(format!("e{index}"), environment);
        }
        for (index, ((priority, environments, max_running, running), jobs)) in queues.into_iter().enumerate()
        {
            let environments = environments.iter().map(|e| format!("e{e}")).collect();
            let mut queue = Queue { id: format!("q{index}"), priority, environments, ..Queue::default() };
            (queue.max_running, queue.running) = (max_running, running);
            for (number, (fresh, age, pod)) in jobs.into_iter().enumerate() {
                let created_at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(age);
                let rank = Rank { fresh, created_at, sequence: 0, uid: format!("q{index}-{number}") };
                queue
                    .waiting
                    .insert(rank, Candidate { vcpus_milli: pod.cpu_milli, pod, ..Candidate::default() });
            }
            snapshot.queues.push(queue);
        }
        snapshot
    })
}

/// Whether all pods can be on nodes at the same time; each has the nodes of its environment.
fn can_pack(pods: &[(Resources, &[usize])], nodes: &mut [NodeRoom]) -> bool {
    let Some(((pod, pool), rest)) = pods.split_first() else { return true };
    pool.iter().any(|node| {
        if !pod.fits(&nodes[*node].free) {
            return false;
        }
        let before = nodes[*node].free;
        nodes[*node].free.charge(pod);
        let packed = can_pack(rest, nodes);
        nodes[*node].free = before;
        packed
    })
}

fn fits(snapshot: &Snapshot, queue: &Queue, job: &Candidate) -> bool {
    let has_turn = queue.max_running.is_none_or(|max| queue.running < max);
    has_turn
        && queue.environments.iter().filter_map(|e| snapshot.environments.get(e)).any(|environment| {
            let below = environment
                .max_vcpus_milli
                .is_none_or(|max| environment.used_vcpus_milli + job.vcpus_milli <= max);
            let need = job.requests_in(environment);
            environment.closed.is_none()
                && below
                && environment.nodes.iter().any(|n| need.fits(&snapshot.nodes[*n].free))
        })
}

proptest! {
    #![proptest_config(config(4000))]

    /// Every job whose turn comes gets a verdict, and admissions are a prefix of each queue's order.
    #[test]
    fn one_verdict_a_job_and_nobody_overtakes(snapshot in snapshots()) {
        let Decisions { verdicts, fronts, .. } = schedule(snapshot.clone());
        let heads = fronts.values().filter_map(|front| front.first());
        let looked_at: BTreeSet<_> = verdicts.iter().filter(|(_, v)| matches!(v, Verdict::Admit { .. })).map(|(uid, _)| uid).chain(heads).collect();
        prop_assert_eq!(verdicts.keys().collect::<BTreeSet<_>>(), looked_at);
        for queue in &snapshot.queues {
            let order: Vec<_> = queue.waiting.ranks().map(|rank| admitted(&verdicts, &rank.uid).is_some()).collect();
            prop_assert!(order.is_sorted_by_key(|admitted| !admitted), "{}: {:?}", queue.id, order);
            let left: Vec<_> = queue.waiting.ranks().map(|r| &r.uid).filter(|uid| admitted(&verdicts, uid).is_none()).collect();
            prop_assert_eq!(fronts.get(&queue.id).into_iter().flatten().collect::<Vec<_>>(), left);
        }
    }

    /// Nothing is promised twice: vCPUs, room on nodes, places among the running.
    #[test]
    fn no_limit_is_exceeded(snapshot in snapshots()) {
        let verdicts = schedule(snapshot.clone()).verdicts;
        let mut vcpus: BTreeMap<&str, i64> = BTreeMap::new();
        let mut pods = Vec::new();
        for queue in &snapshot.queues {
            let mut running = 0;
            for (rank, job) in &queue.waiting {
                let Some(name) = admitted(&verdicts, &rank.uid) else { continue };
                running += 1;
                let environment = &snapshot.environments[name];
                prop_assert!(environment.closed.is_none() && queue.environments.iter().any(|e| e == name));
                *vcpus.entry(name).or_default() += job.vcpus_milli;
                pods.push((job.requests_in(environment), environment.nodes.as_slice()));
            }
            let allowed = queue.max_running.is_none_or(|max| queue.running + running <= max);
            prop_assert!(running == 0 || allowed, "{}: {} more run", queue.id, running);
        }
        for (name, more) in vcpus {
            let environment = &snapshot.environments[name];
            let allowed = environment.max_vcpus_milli.is_none_or(|max| environment.used_vcpus_milli + more <= max);
            prop_assert!(allowed, "{}: {} more", name, more);
        }
        prop_assert!(can_pack(&pods, &mut snapshot.nodes.clone()), "{:?} do not fit", pods);
    }

    /// The order in which queues are listed says nothing.
    #[test]
    fn the_order_of_queues_in_the_snapshot_does_not_matter(
        (snapshot, shuffled) in snapshots().prop_flat_map(|s| (Just(s.clone()), Just(s.queues).prop_shuffle()))
    ) {
        let other = Snapshot { queues: shuffled, ..snapshot.clone() };
        prop_assert_eq!(schedule(snapshot), schedule(other));
    }

    /// Queues of lower priority take nothing from those of higher priority.
    #[test]
    fn lower_priorities_do_not_disturb(snapshot in snapshots(), bar in 0..3i64) {
        let mut upper = snapshot.clone();
        upper.queues.retain(|queue| queue.priority >= bar);
        let all = schedule(snapshot).verdicts;
        for (uid, verdict) in schedule(upper).verdicts {
            prop_assert_eq!(&all[&uid], &verdict, "{}", uid);
        }
    }

    /// Where nothing but room for so many equal jobs is short, exactly the first of the line are admitted.
    #[test]
    fn the_line_is_the_order_of_admission(snapshot in snapshots(), room in 0..8i64) {
        let mut stage = Stage::default().pool("p", Some(room), &[(100, 100, 0)]);
        stage.snapshot.queues = snapshot.queues;
        for queue in &mut stage.snapshot.queues {
            (queue.environments, queue.max_running) = (vec!["p".to_owned()], None);
            queue.waiting = queue.waiting.ranks().map(|rank| (rank.clone(), one_vcpu())).collect();
        }
        let line = line_up(&stage.snapshot.queues, |_| false);
        let verdicts = schedule(stage.snapshot).verdicts;
        for (index, place) in line.iter().enumerate() {
            prop_assert_eq!(place.position - 1 + place.ahead_elsewhere, index);
            prop_assert_eq!(admitted(&verdicts, &place.rank.uid).is_some(), (index as i64) < room);
        }
    }

    /// The job whose turn is first is admitted if it fits anywhere that its queue allows; one
    /// that fits nowhere even now waits.
    #[test]
    fn progress(snapshot in snapshots()) {
        let verdicts = schedule(snapshot.clone()).verdicts;
        let heads = snapshot.queues.iter().filter_map(|q| q.waiting.iter().next().map(|(r, j)| (q, r, j)));
        let first = heads.clone().min_by_key(|(q, rank, _)| (-q.priority, rank.created_at, &rank.uid));
        if let Some((queue, rank, job)) = first {
            prop_assert_eq!(admitted(&verdicts, &rank.uid).is_some(), fits(&snapshot, queue, job));
        }
        for (queue, rank, job) in heads {
            prop_assert!(fits(&snapshot, queue, job) || admitted(&verdicts, &rank.uid).is_none());
        }
    }
}

/// Creation times have no fractions: of jobs made in one second the one that was seen first goes first, whatever
/// their uids say, within a queue and between queues of one priority.
#[test]
fn jobs_of_one_second_keep_their_order() {
    let queue = |id: &str, jobs: &[(u64, &str)]| {
        let waiting = jobs.iter().map(|(sequence, uid)| {
            let rank = Rank {
                fresh: true,
                created_at: Timestamp::UNIX_EPOCH,
                sequence: *sequence,
                uid: (*uid).into(),
            };
            (rank, one_vcpu())
        });
        let (id, environments) = (id.to_owned(), vec!["p".to_owned()]);
        Queue { id, environments, waiting: waiting.collect(), ..Queue::default() }
    };
    let mut stage = Stage::default().pool("p", None, &[(2, 8, 0)]);
    stage.snapshot.queues = vec![queue("a", &[(8, "a"), (4, "d")]), queue("b", &[(6, "b"), (7, "c")])];
    stage.places(&[("d", Some("p")), ("b", Some("p")), ("a", None), ("c", None)]);
}
