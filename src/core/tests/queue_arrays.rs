//! Arrays in line: a job stands there once for all its children, and they are served as if each stood there itself.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/stage.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batchyard_core::name::{part, whole};
use batchyard_core::queue::schedule::FRONT;
use batchyard_core::queue::{
    Candidate, Decisions, Place, Policy, Provisioned, Queue, Rank, Shares, Snapshot, Unbound, Usage, Verdict,
    Waiting, line_up, schedule,
};
use cases::config;
use jiff::SignedDuration;
use proptest::prelude::*;
use stage::{BIG, Stage, amounts, one_vcpu, rank};

impl Stage {
    /// An array in the last queue, of children of so many vCPUs: these wait.
    fn array(self, uid: &str, vcpus: i64, children: impl IntoIterator<Item = u32>) -> Self {
        self.job(uid, vcpus).edit(|job| job.children = Some(Arc::new(children.into_iter().collect())))
    }

    /// Children of an array that is in line already, which ran before.
    fn again(self, uid: &str, vcpus: i64, children: impl IntoIterator<Item = u32>) -> Self {
        self.retried(uid, vcpus).edit(|job| job.children = Some(Arc::new(children.into_iter().collect())))
    }

    /// Pods of children of the array that was added last, which wait for nodes.
    fn pods_of(mut self, pool: &str, vcpus: i64, children: impl IntoIterator<Item = u32>) -> Self {
        let queue = self.last_queue();
        let (id, priority) = (queue.id.clone(), queue.priority);
        let rank = queue.waiting.ranks().last().expect("an array").clone();
        self.change(pool, |environment| {
            for child in children {
                environment.used_vcpus_milli += vcpus * 1000;
                environment.provisioned.as_mut().expect("provisioned").unbound.push(Unbound {
                    key: part(&rank.uid, Some(child)),
                    queue: id.clone(),
                    priority,
                    rank: rank.clone(),
                    child: Some(child),
                    count: 1,
                    vcpus_milli: vcpus * 1000,
                    pod: amounts(vcpus, 1, 0, 1),
                    since: jiff::Timestamp::UNIX_EPOCH,
                });
            }
        })
    }
}

/// A pool in which so many jobs of one vCPU run.
fn pool(vcpus: i64) -> Stage {
    Stage::default().pool("p", Some(vcpus), &[BIG]).pods(1000)
}

fn places(stage: &Stage) -> Vec<String> {
    let line = line_up(&stage.snapshot.queues, |_| false);
    let told = |place: &Place| {
        let (again, queue) = (if place.rank.fresh { "" } else { " again" }, &place.queue);
        format!("{}{again}: {} of {queue}, {} there", place.rank.uid, place.position, place.count)
    };
    line.iter().map(told).collect()
}

/// In a line of jobs of one vCPU each: who is served, one after another.
fn served(stage: &Stage, most: i64) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    for room in 1..=most {
        let stage = stage.clone().change("p", |e| e.max_vcpus_milli = Some(room * 1000));
        let admitted = stage.admitted();
        assert!(line.iter().all(|key| admitted.contains(key)), "who is first does not depend on the room");
        line.extend(admitted.into_iter().find(|key| !line.contains(key)));
    }
    line
}

#[test]
fn children_go_in_the_order_of_their_indexes() {
    let stage = pool(0).queue("n/q", 1, &["p"]).array("a", 1, [0, 1, 2, 9, 10, 100]);
    assert_eq!(served(&stage, 6), ["a:0", "a:1", "a:2", "a:9", "a:10", "a:100"]);
}

#[test]
fn between_arrays_and_jobs_age_decides_and_who_ran_before_is_first() {
    let stage = pool(0).queue("n/q", 1, &["p"]).job("old", 1).array("a", 1, 0..2).job("middle", 1);
    let stage = stage.array("b", 1, 4..6).job("young", 1);
    let fresh = ["old", "a:0", "a:1", "middle", "b:4", "b:5", "young"];
    assert_eq!(served(&stage, 7), fresh);
    let stage = stage.again("b", 1, [1, 3]).retried("other", 1);
    assert_eq!(served(&stage, 10), [&["b:1", "b:3", "other"], &fresh[..]].concat());
    assert_eq!(stage.snapshot.queues[0].waiting.len(), 10, "each child is counted");
}

#[test]
fn an_array_of_which_no_child_waits_does_not_stand_in_line() {
    let stage = pool(9).queue("n/q", 1, &["p"]).array("none", 1, []).job("after", 1).array("last", 1, []);
    assert_eq!((stage.admitted(), stage.snapshot.queues[0].waiting.len()), (vec!["after".to_owned()], 1));
    assert_eq!(places(&stage), ["after: 1 of n/q, 1 there"]);
    let stage = pool(9).queue("n/q", 1, &["p"]).array("none", 1, []);
    assert_eq!(stage.schedule(), Decisions::default());
}

#[test]
fn max_running_of_the_queue_counts_children() {
    let stage = pool(9).queue("n/q", 1, &["p"]).limit(2, 5).job("j", 1).array("a", 1, 0..9).job("after", 1);
    stage.places(&[("j", Some("p")), ("a:0", Some("p")), ("a:1", Some("p")), ("a:2", None)]);
    stage.says("a:2", "Waiting for one of the 5 running jobs of JobQueue q to end: maxRunning is reached");
}

/// A child that finds no room is the head, and nobody of its queue overtakes it: no child, no job.
#[test]
fn a_child_that_finds_no_room_blocks_its_queue() {
    let stage = pool(4).queue("n/q", 9, &["p"]).array("a", 3, [2, 5, 7]).job("small", 1);
    let stage = stage.queue("n/other", 1, &["p"]).job("else", 1);
    stage.places(&[("a:2", Some("p")), ("a:5", None), ("else", Some("p"))]);
    let fronts = stage.schedule().fronts;
    assert_eq!(
        fronts,
        BTreeMap::from([("n/q".to_owned(), ["a:5", "a:7", "small"].map(str::to_owned).to_vec())])
    );
}

#[test]
fn room_is_kept_for_a_child_that_has_been_the_head_for_long() {
    let since = |stage: Stage, key: &str| {
        let (head, before) = (key.to_owned(), stage.snapshot.now - SignedDuration::from_mins(10));
        let mut stage = stage;
        stage.snapshot.queues[0].head = Some((head, before));
        stage
    };
    let stage =
        pool(4).change("p", |e| e.used_vcpus_milli = 2000).queue("n/q", 9, &["p"]).array("a", 3, [5, 7]);
    let stage = stage.queue("n/other", 1, &["p"]).job("small", 1);
    since(stage.clone(), "a:5").places(&[("a:5", None), ("small", None)]);
    // Another child of the same array was the head: this one is it only since now.
    for other in ["a", "a:4", "a:7"] {
        since(stage.clone(), other).places(&[("a:5", None), ("small", Some("p"))]);
    }
}

#[test]
fn a_front_has_a_hundred_children_at_most() {
    let stage = pool(3).queue("n/q", 1, &["p"]).array("a", 1, 0..FRONT as u32 + 50).job("after", 1);
    let front = stage.schedule().fronts.remove("n/q").expect("blocked");
    assert!(front.iter().cloned().eq((3..103).map(|index| part("a", Some(index)))), "{front:?}");
    let stage = pool(3).queue("n/q", 1, &["p"]).array("a", 1, 0..50).job("between", 1).array("b", 1, 0..100);
    let front = stage.schedule().fronts.remove("n/q").expect("blocked");
    assert_eq!(
        (front.len(), front[0].as_str(), front[47].as_str(), front[99].as_str()),
        (100, "a:3", "between", "b:51")
    );
}

/// A share that has an array gets no more than one that has as many jobs.
#[test]
fn fair_share_counts_each_child() {
    let by_share = |stage: &Stage| {
        let count = |share: &str| stage.admitted().iter().filter(|key| key.starts_with(share)).count();
        (count("x"), count("y"))
    };
    let fair = |room| pool(room).queue("n/q", 1, &["p"]).fair(Policy::default());
    let stage = fair(10).array("x", 1, 0..1000).of_share("x");
    let stage = (0..20).fold(stage, |stage, n| stage.job(&format!("y-{n}"), 1).of_share("y"));
    assert_eq!(by_share(&stage), (5, 5));
    // What a share uses already counts, and the vCPUs of each child.
    assert_eq!(by_share(&stage.clone().usage("x", 4, 0.0)), (3, 7));
    let stage = fair(12).array("x", 2, 0..1000).of_share("x").array("y", 1, 0..1000).of_share("y");
    assert_eq!(by_share(&stage), (3, 6), "as many vCPUs");
    // Within a share schedulingPriority comes first, for arrays too.
    let stage = fair(3).array("x", 1, 0..9).of_share("x").array("x-urgent", 1, 7..9).of_share("x");
    let stage = stage.edit(|job| job.priority = 1);
    assert_eq!(stage.admitted(), ["x-urgent:7", "x-urgent:8", "x:0"]);
}

#[test]
fn children_wait_for_nodes_within_the_window() {
    let stage = Stage::default().provisioned("p", 100, 5).queue("n/q", 1, &["p"]);
    let stage = stage.array("a", 1, 3..9).pods_of("p", 1, 0..3);
    stage.places(&[("a:3", Some("p")), ("a:4", Some("p")), ("a:5", None)]);
}

/// The last in line make way first, for whoever comes before them: another child of the same array, an older job, a
/// child that ran before, a queue of a higher priority.
#[test]
fn pods_of_children_behind_a_head_are_withdrawn() {
    let full = |stage: Stage| stage.queue("n/q", 1, &["p"]);
    let three = || Stage::default().provisioned("p", 100, 3);
    let array = |stage: Stage| stage.array("a", 1, [4]).pods_of("p", 1, [9, 1, 7]);
    let same = array(full(three()));
    let again = array(full(three())).again("a", 1, [8]);
    let older = array(full(three()).job("older", 1));
    let younger = array(full(three())).job("younger", 1);
    let higher = array(full(three())).queue("n/high", 2, &["p"]).job("high", 1);
    let equal = array(full(three())).queue("n/equal", 1, &["p"]).job("equal", 1);
    for (why, stage, head, withdrawn) in [
        ("a child before others", same, "a:4", vec!["a:9"]),
        ("a child that ran before", again, "a:8", vec!["a:9"]),
        ("an older job", older, "older", vec!["a:9"]),
        ("the child, not the younger job", younger, "a:4", vec!["a:9"]),
        ("a queue of a higher priority, and then the child", higher, "high", vec!["a:9", "a:7"]),
        ("the child only, beside an equal queue", equal, "a:4", vec!["a:9"]),
    ] {
        let decisions = stage.schedule();
        assert_eq!(decisions.withdraw, withdrawn, "{why}");
        assert!(
            matches!(decisions.verdicts.get(head), Some(Verdict::Wait(_))),
            "{why}: {:?}",
            decisions.verdicts
        );
    }
    // Those that come before it stay.
    let stage = full(three()).array("a", 1, [10]).pods_of("p", 1, [9, 1, 7]);
    assert!(stage.schedule().withdraw.is_empty());
    // As many as it takes, from the last.
    let stage =
        full(Stage::default().provisioned("p", 8, 9)).array("a", 3, [4]).pods_of("p", 2, [0, 5, 6, 7]);
    assert_eq!(stage.schedule().withdraw, ["a:7", "a:6"]);
}

#[test]
fn a_late_pod_of_a_child_goes_elsewhere_by_its_key() {
    let stage = Stage::default().provisioned("p", 100, 9).pool("r", Some(9), &[BIG]);
    let stage = stage.queue("n/q", 1, &["p", "r"]).array("a", 1, [4]).pods_of("p", 1, [1, 2]);
    let mut stage = stage.change("p", |e| {
        let provisioned = e.provisioned.as_mut().expect("provisioned");
        provisioned.capacity_timeout = Some(SignedDuration::from_secs(100));
        provisioned.unbound[1].since += SignedDuration::from_secs(50);
    });
    stage.snapshot.now += SignedDuration::from_secs(120);
    let decisions = stage.schedule();
    assert_eq!((decisions.withdraw, decisions.stranded.len()), (vec!["a:1".to_owned()], 0));
    stage.snapshot.queues[0].environments.pop();
    let decisions = stage.schedule();
    assert_eq!(decisions.withdraw, [""; 0]);
    assert_eq!(decisions.stranded.into_keys().collect::<Vec<_>>(), ["a:1"]);
}

#[test]
fn an_array_has_one_place_in_line_and_counts_for_all_its_children() {
    let stage = pool(0).queue("n/q", 1, &["p"]).job("first", 1).array("a", 1, 0..10_000).job("behind", 1);
    let stage = stage.array("b", 1, [3, 4]).job("last", 1).again("a", 1, [17]);
    let stage = stage.queue("n/low", 0, &["p"]).job("low", 1);
    assert_eq!(
        places(&stage),
        [
            "a again: 1 of n/q, 1 there",
            "first: 2 of n/q, 1 there",
            "a: 3 of n/q, 10000 there",
            "behind: 10003 of n/q, 1 there",
            "b: 10004 of n/q, 2 there",
            "last: 10006 of n/q, 1 there",
            "low: 1 of n/low, 1 there",
        ]
    );
    let line = line_up(&stage.snapshot.queues, |_| false);
    assert_eq!(line.last().map(|place| place.ahead_elsewhere), Some(10_006));
    // Those who are admitted stand there no more.
    let line = line_up(&stage.snapshot.queues, |rank| rank.uid == "a" && rank.fresh);
    assert_eq!(line.iter().map(|place| place.position).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 1]);
}

/// What a cycle says does not grow with those who wait, nor does what it is given: the children are shared, not copied.
#[test]
fn ten_thousand_children_cost_a_cycle_no_more_than_those_that_are_served() {
    let stage = |children: u32| {
        let stage = pool(7).queue("n/q", 1, &["p"]).array("a", 1, 0..children);
        (0..1000).fold(stage, |stage, n| stage.job(&format!("j{n:03}"), 1))
    };
    let large = stage(10_000);
    let queue = &large.snapshot.queues[0];
    assert_eq!((queue.waiting.len(), queue.waiting.iter().count()), (11_000, 1001));
    let decisions = large.schedule();
    let small = stage(200).schedule();
    assert_eq!(decisions, small, "a queue looks no further than its front");
    let said = decisions.verdicts.len() + decisions.fronts.values().map(Vec::len).sum::<usize>();
    assert_eq!(said, 7 + 1 + FRONT);
    assert_eq!(line_up(&large.snapshot.queues, |_| false).len(), 1001);
    let children = |queue: &Queue| queue.waiting.iter().next().and_then(|(_, job)| job.children.clone());
    let (mine, copy) = (children(queue), children(&large.snapshot.clone().queues[0]));
    assert!(mine.zip(copy).is_some_and(|(mine, copy)| Arc::ptr_eq(&mine, &copy)));
}

/// A world in which some jobs are arrays; the other one has a job in place of each child.
fn worlds() -> impl Strategy<Value = (Snapshot, Snapshot)> {
    let children = prop::option::weighted(0.6, prop::collection::btree_set(0..12u32, 0..6));
    let job = (any::<bool>(), 0..6i64, 1..4i64, prop::sample::select(vec!["x", "y"]), 0..2i64, children);
    let limits = (0..3i64, prop::option::of(0..9u32), 0..3u32, any::<bool>(), prop::option::of(0..1200i64));
    let queue = (limits, 1..4usize, prop::collection::vec(job, 0..6));
    let pod = (0..3usize, 0..3i64, 1..3i64, 0..6i64, prop::option::of(0..12u32));
    let pools = (0..24i64, 0..24i64, 1..9usize, prop::collection::vec(pod, 0..6));
    (pools, prop::collection::vec(queue, 1..4)).prop_map(|((first, second, window, pods), queues)| {
        let mut stage = Stage::default().pool("p", Some(first), &[BIG, (4, 8, 0)]).pods(9);
        stage = stage.provisioned("r", second, window);
        let provisioned = stage.snapshot.environments.get_mut("r").and_then(|e| e.provisioned.as_mut());
        provisioned.into_iter().for_each(|found| add_pods(found, &pods));
        for (index, ((priority, max_running, running, is_fair, waits), pools, jobs)) in
            queues.into_iter().enumerate()
        {
            let environments: &[&str] = [&["p"][..], &["r"], &["p", "r"]][pools - 1];
            stage = stage.queue(&format!("n/q{index}"), priority, environments);
            let queue = stage.last_queue();
            (queue.max_running, queue.running) = (max_running, running);
            queue.shares = is_fair.then(shares);
            for (number, (fresh, age, vcpus, share, priority, children)) in jobs.into_iter().enumerate() {
                let job = Candidate {
                    vcpus_milli: vcpus * 1000,
                    pod: amounts(vcpus, 1, 0, 1),
                    share: share.to_owned(),
                    priority,
                    children: children.map(|children| Arc::new(children.into_iter().collect())),
                    ..one_vcpu()
                };
                queue.waiting.insert(rank(&format!("q{index}-{number}"), fresh, age), job);
            }
            queue.head = waits.and_then(|waits| {
                let since = jiff::Timestamp::UNIX_EPOCH - SignedDuration::from_secs(waits);
                Some((first_of(queue)?, since))
            });
        }
        (stage.snapshot.clone(), one_by_one(&stage.snapshot))
    })
}

fn shares() -> Shares {
    let usage = |vcpus: i64| Usage { now_milli: vcpus * 1000, past_milli: 500.0 };
    let active = BTreeMap::from([("x".to_owned(), usage(2)), ("y".to_owned(), usage(0))]);
    Shares { policy: Policy::default(), active }
}

fn add_pods(provisioned: &mut Provisioned, pods: &[(usize, i64, i64, i64, Option<u32>)]) {
    for (number, (queue, priority, vcpus, age, child)) in pods.iter().enumerate() {
        let rank = rank(&format!("u{number}"), true, *age);
        provisioned.unbound.push(Unbound {
            key: part(&rank.uid, *child),
            queue: format!("n/q{queue}"),
            priority: *priority,
            rank,
            child: *child,
            count: 1,
            vcpus_milli: vcpus * 1000,
            pod: amounts(*vcpus, 1, 0, 1),
            since: jiff::Timestamp::UNIX_EPOCH,
        });
    }
}

/// The head of a queue, as a cycle without room says it.
fn first_of(queue: &Queue) -> Option<String> {
    let queue = Queue { environments: Vec::new(), ..queue.clone() };
    let alone = Snapshot { queues: vec![queue], ..Snapshot::default() };
    schedule(alone).fronts.into_values().next()?.into_iter().next()
}

/// The uid of the job that stands for a child: sorted as the children are.
fn stand_in(key: &str) -> String {
    let (uid, child) = whole(key);
    child.map_or_else(|| uid.to_owned(), |child| format!("{uid}:{child:05}"))
}

fn one_by_one(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let named = |rank: &Rank, child| Rank { uid: stand_in(&part(&rank.uid, child)), ..rank.clone() };
    for queue in &mut snapshot.queues {
        let mut waiting = Waiting::default();
        for (rank, job) in &queue.waiting {
            let alone = Candidate { children: None, ..job.clone() };
            match &job.children {
                None => waiting.insert(rank.clone(), alone),
                Some(children) => {
                    children.iter().for_each(|child| waiting.insert(named(rank, Some(child)), alone.clone()));
                }
            }
        }
        queue.waiting = waiting;
        queue.head = queue.head.take().map(|(key, since)| (stand_in(&key), since));
    }
    let environments = snapshot.environments.values_mut();
    for pod in environments.filter_map(|e| e.provisioned.as_mut()).flat_map(|p| &mut p.unbound) {
        pod.rank = named(&pod.rank, pod.child.take());
        pod.key = pod.rank.uid.clone();
    }
    snapshot
}

/// The same decisions, about the jobs that stand for children.
fn about_stand_ins(decisions: Decisions) -> Decisions {
    let name = |key: String| stand_in(&key);
    let all = |keys: Vec<String>| keys.into_iter().map(name).collect::<Vec<_>>();
    Decisions {
        verdicts: decisions.verdicts.into_iter().map(|(key, verdict)| (name(key), verdict)).collect(),
        fronts: decisions.fronts.into_iter().map(|(queue, front)| (queue, all(front))).collect(),
        withdraw: all(decisions.withdraw),
        stranded: decisions.stranded.into_iter().map(|(key, stranded)| (name(key), stranded)).collect(),
        short_of: decisions.short_of,
    }
}

proptest! {
    #![proptest_config(config(1500))]

    /// Whatever is decided about an array is what would be decided about as many jobs of the same age.
    #[test]
    fn an_array_is_served_as_its_children_would_be_one_by_one((arrays, jobs) in worlds()) {
        prop_assert_eq!(about_stand_ins(schedule(arrays)), schedule(jobs));
    }

    /// And an array's place is that of its first child.
    #[test]
    fn an_array_stands_where_its_first_child_would((mut arrays, mut jobs) in worlds()) {
        // Where shares take turns, one place cannot tell where each child stands; so do queues of one priority.
        for snapshot in [&mut arrays, &mut jobs] {
            snapshot.queues.truncate(1);
            snapshot.queues.iter_mut().for_each(|queue| queue.shares = None);
        }
        let (line, each) = (line_up(&arrays.queues, |_| false), line_up(&jobs.queues, |_| false));
        let mut counted = 0;
        for place in &line {
            prop_assert_eq!(place.position, counted + 1);
            prop_assert_eq!(whole(&each[counted].rank.uid).0, &place.rank.uid);
            counted += place.count;
        }
        prop_assert_eq!(counted, each.len());
        let uids: BTreeSet<_> = each.iter().map(|place| place.rank.uid.clone()).collect();
        prop_assert_eq!(uids.len(), counted, "each once");
        prop_assert_eq!(arrays.queues[0].waiting.len(), jobs.queues[0].waiting.len());
    }
}
