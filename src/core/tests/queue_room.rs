//! Which node and which pods it comes to when room is short: the node that is taken, the one that is kept
//! for a head, the pods that make way, and what a job is told that finds nothing.

#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::room::tightest;
use batchyard_core::queue::{Environment, Group, NodeRoom, Policy, SessionPort};
use batchyard_core::waits::{self, Kind};
use stage::{GIB, Stage, amounts};

/// Longer than jobs of other queues may overtake a head, in seconds.
const LONG: i64 = 600;

/// A node's vCPUs, GiB and GPUs.
type Node = (i64, i64, i64);

/// Two nodes of which this is free; both are of this size.
fn two_nodes(size: Node, free: [Node; 2]) -> Stage {
    let taken = |stage: Stage, (node, free): (usize, Node)| {
        stage.taken(node, size.0 - free.0, size.1 - free.1, size.2 - free.2)
    };
    let stage = Stage::default().pool("p", None, &[size, size]).pods(100);
    (0..2).zip(free).fold(stage, taken)
}

/// How many jobs of one vCPU find room beside what is kept for the head of the other queue.
fn beside(stage: Stage) -> usize {
    let stage = stage.head_since(LONG).queue("b/small", 1, &["p"]);
    let stage = (0..16).fold(stage, |stage, n| stage.candidate(&format!("small-{n:02}"), true, 1, 0, 0));
    stage.admitted().len()
}

/// In parts of what the head needs: half of the GPUs are more than a third of the vCPUs.
#[test]
fn the_node_is_kept_on_which_the_least_has_to_become_free() {
    let size = (8, 64, 4);
    for (why, free, need, kept) in [
        ("vCPUs", [(2, 64, 4), (4, 64, 4)], (8, 1, 0), 1),
        ("vCPUs, the other way round", [(4, 64, 4), (2, 64, 4)], (8, 1, 0), 0),
        ("memory", [(4, 16, 4), (3, 48, 4)], (8, 64, 0), 1),
        ("memory, the other way round", [(3, 48, 4), (4, 16, 4)], (8, 64, 0), 0),
        ("GPUs", [(6, 64, 1), (5, 64, 3)], (8, 1, 4), 1),
        ("GPUs, the other way round", [(5, 64, 3), (6, 64, 1)], (8, 1, 4), 0),
        ("one of two GPUs is more than three of eight vCPUs", [(7, 64, 1), (5, 64, 2)], (8, 1, 2), 1),
        ("what is left over does not make up for what is short", [(8, 16, 4), (4, 32, 4)], (4, 64, 0), 1),
        ("several things add up", [(4, 64, 2), (5, 64, 2)], (8, 64, 4), 1),
    ] {
        let other = free[1 - kept].0;
        let stage = two_nodes(size, free).queue("a/large", 5, &["p"]);
        let stage = stage.candidate("large", true, need.0, need.1, need.2);
        assert_eq!(beside(stage), usize::try_from(other).expect("not negative"), "{why}");
    }
}

#[test]
fn a_node_that_could_never_take_the_head_is_not_kept() {
    let sizes = |sizes: [i64; 2], free: [i64; 2]| {
        let stage = Stage::default().pool("p", None, &sizes.map(|vcpus| (vcpus, 64, 0))).pods(100);
        let taken = |stage: Stage, node: usize| stage.taken(node, sizes[node] - free[node], 0, 0);
        (0..2).fold(stage, taken).queue("a/large", 5, &["p"]).job("large", 5)
    };
    assert_eq!(beside(sizes([4, 8], [4, 1])), 4, "it is too small, and almost free");
    assert_eq!(beside(sizes([8, 4], [1, 4])), 4);
    let typed = |types: [&str; 2]| {
        let mut stage = sizes([8, 8], [4, 1]);
        for (node, instance_type) in stage.snapshot.nodes.iter_mut().zip(types) {
            node.instance_type = Some(instance_type.to_owned());
        }
        let pod = amounts(5, 1, 0, 1);
        let group = Group { count: 1, pod, instance_type: Some("m5".to_owned()), ..Group::default() };
        stage.edit(|job| job.gang = Some([group].into()))
    };
    assert_eq!(beside(typed(["c5", "m5"])), 4, "it is of another type");
    assert_eq!(beside(typed(["m5", "c5"])), 1);
}

/// A port becomes free when its pod ends, which may be never as long as its session is used.
#[test]
fn a_node_is_kept_on_which_the_port_of_the_head_is_free() {
    for (taken, kept) in [(0, 1), (1, 0)] {
        let mut stage = two_nodes((8, 64, 0), [(4, 64, 0), (5, 64, 0)]);
        stage.snapshot.nodes[taken].ports.insert(8443);
        let port = SessionPort { number: 8443, of_node: true, network: None };
        let stage = stage.queue("a/large", 5, &["p"]).job("large", 8).edit(|job| job.port = Some(port));
        assert_eq!(beside(stage), [5, 4][kept], "the port of node {taken} is another's");
    }
}

/// Up to the whole of an environment, of a namespace's part, or of what shares may use.
#[test]
fn room_is_kept_for_a_head_that_the_limits_allow_and_for_no_other() {
    let pool =
        || Stage::default().pool("p", Some(8), &[(16, 64, 0)]).change("p", |e| e.used_vcpus_milli = 4000);
    let head = |stage: Stage, vcpus| stage.queue("a/large", 5, &["p"]).job("large", vcpus);
    let fair = |vcpus| {
        let policy = Policy { reservation: 25, ..Policy::default() };
        pool().queue("a/large", 5, &["p"]).fair(policy).job("large", vcpus).of_share("x")
    };
    let come = |vcpus| {
        let stage = Stage::default().provisioned("p", 8, 9).change("p", |e| e.used_vcpus_milli = 4000);
        head(stage, vcpus)
    };
    for (why, stage, others) in [
        ("all of the environment", head(pool(), 8), 0),
        ("more than that", head(pool(), 9), 4),
        ("all that shares may use", fair(6), 0),
        ("more than that", fair(7), 4),
        ("where nodes come", come(8), 0),
        ("where nodes come, more than the environment has", come(9), 4),
    ] {
        assert_eq!(beside(stage), others, "{why}");
    }
    // While it waits for tokens only they are kept.
    let stage = head(pool(), 4).takes("a/t", 2).tokens("a/t", 1);
    assert_eq!(beside(stage), 4);
}

#[test]
fn a_pod_goes_to_the_node_that_has_the_least_left_over() {
    let node = |free: Node, ports: &[u16]| NodeRoom {
        free: amounts(free.0, free.1, free.2, 9),
        ports: ports.iter().copied().collect(),
        ..NodeRoom::default()
    };
    let nodes = [
        node((8, 64, 0), &[]),
        node((4, 64, 0), &[8443]),
        node((2, 64, 0), &[]),
        node((2, 64, 1), &[]),
        node((1, 1, 0), &[]),
    ];
    let of = |nodes: &[usize]| Environment { nodes: nodes.to_vec(), ..Environment::default() };
    let all = of(&[0, 1, 2, 3]);
    for (why, environment, need, port, want) in [
        ("the smallest gap", &all, amounts(2, 1, 0, 1), None, Some(2)),
        ("what fits", &all, amounts(3, 1, 0, 1), None, Some(1)),
        ("GPUs only for those who need them", &all, amounts(1, 1, 1, 1), None, Some(3)),
        ("its port is another's there", &all, amounts(3, 1, 0, 1), Some(8443), Some(0)),
        ("another port", &all, amounts(3, 1, 0, 1), Some(8080), Some(1)),
        ("nothing fits", &all, amounts(9, 1, 0, 1), None, None),
        ("memory is short", &all, amounts(1, 65, 0, 1), None, None),
        ("nodes of others are not looked at", &of(&[0, 4]), amounts(2, 1, 0, 1), None, Some(0)),
        ("there are no nodes", &of(&[]), amounts(1, 1, 0, 1), None, None),
    ] {
        assert_eq!(tightest(environment, &nodes, &need, port), want, "{why}");
    }
}

/// What a job is told is what is short, also where the rest is there to the last bit.
#[test]
fn what_is_there_to_the_last_bit_is_not_what_is_short() {
    let told = |kind| waits::resource("p", kind).text;
    let one = |taken: Node, pods: i64| {
        let stage =
            Stage::default().pool("p", None, &[(8, 64, 2)]).pods(9).taken(0, taken.0, taken.1, taken.2);
        let mut stage = stage.queue("q", 1, &["p"]);
        stage.snapshot.nodes[0].free.pods = pods;
        stage
    };
    for (taken, pods, kind) in [
        ((0, 0, 1), 9, Kind::Gpus),
        ((5, 0, 0), 9, Kind::Vcpus),
        ((4, 33, 0), 9, Kind::Memory),
        ((4, 32, 0), 0, Kind::Node),
    ] {
        one(taken, pods).candidate("j", true, 4, 32, 2).says("j", &told(kind));
    }
    // GPUs that are given away twice are nothing to a job without any.
    one((5, 0, 3), 9).candidate("j", true, 4, 32, 0).says("j", &told(Kind::Vcpus));
}

#[test]
fn a_gang_is_told_of_the_nodes_of_its_type() {
    let typed = |taken: i64, vcpus: i64| {
        let stage = Stage::default().pool("p", None, &[(4, 64, 0), (8, 64, 0)]).taken(0, taken, 0, 0);
        let mut stage = stage.queue("q", 1, &["p"]).job("g", vcpus);
        for (node, instance_type) in stage.snapshot.nodes.iter_mut().zip(["m5", "c5"]) {
            node.instance_type = Some(instance_type.to_owned());
        }
        let pod = amounts(vcpus, 1, 0, 1);
        let group = Group { count: 1, pod, instance_type: Some("m5".to_owned()), ..Group::default() };
        stage.edit(|job| job.gang = Some([group].into()))
    };
    typed(0, 5).says("g", &waits::larger_than_any_node("p").text);
    typed(1, 4).says("g", &waits::gang("p", 1).text);
    typed(0, 4).places(&[("g", Some("p"))]);
}

/// Of several environments that are full, or of several that will never do.
#[test]
fn of_environments_that_are_alike_the_first_is_named() {
    let full = |stage: Stage, name: &str| {
        stage.pool(name, Some(8), &[(8, 64, 0)]).change(name, |e| e.used_vcpus_milli = 8000)
    };
    let never = |stage: Stage, name: &str| match name {
        "small" => stage.pool(name, Some(2), &[(8, 64, 0)]),
        _ => stage.pool(name, Some(8), &[(8, 64, 0)]).change(name, |e| e.without_gpus = true),
    };
    let stage = never(never(full(full(Stage::default(), "a"), "b"), "small"), "plain");
    for (order, want) in [
        (["a", "b"], waits::max_vcpus("a", 8000)),
        (["b", "a"], waits::max_vcpus("b", 8000)),
        (["small", "plain"], waits::above_max_vcpus()),
        (["plain", "small"], waits::no_gpus_at_all()),
    ] {
        stage.clone().queue("q", 1, &order).candidate("j", true, 4, 1, 1).says("j", &want.text);
    }
}

/// Pods that wait for nodes.
mod window {
    use super::*;

    /// Pods of a lower queue, so many vCPUs and so many pods each, the last in line last.
    fn crowd(max: i64, window: usize, pods: &[(&str, i64, usize)]) -> Stage {
        let stage = Stage::default().provisioned("k", max, window).queue("low", 1, &["k"]);
        let stage =
            pods.iter().fold(stage, |stage, (uid, vcpus, _)| stage.unbound("k", uid, "low", *vcpus, 9));
        stage.change("k", |e| {
            let unbound = e.provisioned.iter_mut().flat_map(|found| &mut found.unbound);
            unbound.zip(pods).for_each(|(pod, (_, _, count))| pod.count = *count);
        })
    }

    /// A job of so many nodes of one vCPU each in a queue that comes first.
    fn high(stage: Stage, nodes: usize) -> Stage {
        let group = Group { count: nodes, pod: amounts(1, 1, 0, 1), ..Group::default() };
        stage.queue("high", 9, &["k"]).job("h", nodes as i64).edit(|job| job.gang = Some([group].into()))
    }

    /// As few as will do, and of those that could go the last in line.
    #[test]
    fn no_pod_goes_that_may_stay() {
        // One that has most of the vCPUs, and one that has most of the places.
        let large: &[(&str, i64, usize)] = &[("large", 8, 1), ("s1", 1, 1), ("s2", 1, 1)];
        let wide: &[(&str, i64, usize)] = &[("wide", 1, 3), ("s1", 1, 1), ("s2", 1, 1)];
        let both: &[(&str, i64, usize)] = &[("wide", 1, 4), ("large", 8, 1)];
        for (why, max, window, pods, nodes, want) in [
            ("vCPUs: the large one is enough", 10, 99, large, 8, &["large"][..]),
            ("vCPUs: with one of the small ones", 10, 99, large, 9, &["s2", "large"]),
            ("places: the wide one is enough", 99, 5, wide, 3, &["wide"]),
            ("places: with one of the small ones", 99, 5, wide, 4, &["s2", "wide"]),
            ("places, and the last are enough", 99, 5, wide, 2, &["s2", "s1"]),
            ("the one for vCPUs, the other for places", 9, 5, both, 5, &["large", "wide"]),
        ] {
            let decisions = high(crowd(max, window, pods), nodes).schedule();
            assert_eq!(decisions.withdraw, want, "{why}");
        }
    }

    #[test]
    fn nobody_goes_where_no_pod_may_wait_at_all() {
        let stage = high(crowd(99, 0, &[("u", 1, 1)]), 1);
        assert_eq!(stage.schedule().withdraw, [""; 0]);
    }

    /// Pods that are going have their places until they have gone.
    #[test]
    fn places_of_pods_that_are_going_are_not_free_yet() {
        let leaving = |leaving| {
            let stage = crowd(99, 3, &[("u", 1, 1)]).change("k", |e| {
                e.provisioned.as_mut().expect("provisioned").leaving = leaving;
            });
            stage.job("a", 1).job("b", 1).job("c", 1).admitted()
        };
        assert_eq!(leaving(0), ["a", "b"]);
        assert_eq!(leaving(1), ["a"]);
        assert_eq!(leaving(2), [""; 0]);
    }

    /// Age counts within a queue, and in a queue with shares not even there.
    #[test]
    fn pods_of_an_equal_queue_or_of_another_share_stay() {
        let later = |stage: Stage, queue: &str| stage.unbound("k", "u", queue, 1, 9);
        let stage = || Stage::default().provisioned("k", 99, 1);
        let own = later(stage().queue("q", 1, &["k"]).job("first", 1), "q");
        assert_eq!(own.schedule().withdraw, ["u"]);
        let equal = stage().queue("r", 1, &["k"]).queue("q", 1, &["k"]).job("first", 1);
        assert_eq!(later(equal, "r").schedule().withdraw, [""; 0]);
        let fair = stage().queue("q", 1, &["k"]).fair(Policy::default()).job("first", 1).of_share("x");
        assert_eq!(later(fair, "q").schedule().withdraw, [""; 0]);
    }

    /// At the second at which its time is over.
    #[test]
    fn a_pod_is_late_when_its_time_is_over() {
        let waits = |seconds| {
            let stage = Stage::default().provisioned("k", 99, 9).change("k", |e| {
                let timeout = jiff::SignedDuration::from_secs(60);
                e.provisioned.as_mut().expect("provisioned").capacity_timeout = Some(timeout);
            });
            let decisions = stage.queue("q", 1, &["k"]).unbound("k", "u", "q", 1, seconds).schedule();
            decisions.stranded.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(waits(59), [""; 0]);
        assert_eq!(waits(60), ["u"]);
    }

    /// One that is late leaves its place; the others keep theirs.
    #[test]
    fn a_late_pod_that_goes_elsewhere_leaves_one_place() {
        let pods = [("large", 8, 1), ("s1", 1, 1), ("s2", 1, 1)];
        let stage = crowd(99, 3, &pods).pool("p", Some(8), &[(8, 64, 0)]).change("k", |e| {
            let provisioned = e.provisioned.as_mut().expect("provisioned");
            provisioned.capacity_timeout = Some(jiff::SignedDuration::from_secs(60));
            provisioned.unbound[0].since -= jiff::SignedDuration::from_secs(60);
        });
        let mut stage = stage.job("a", 1).job("b", 1);
        stage.last_queue().environments.push("p".to_owned());
        assert_eq!(stage.schedule().withdraw, ["large"]);
        stage.places(&[("a", Some("k")), ("b", Some("p"))]);
    }
}

/// Memory is compared in bytes: what is short is not lost in rounding.
#[test]
fn a_byte_too_many_is_too_much() {
    let stage = Stage::default().pool("p", None, &[(8, 4, 0)]).queue("q", 1, &["p"]);
    let ask = |memory: i64| stage.clone().candidate("j", true, 1, 4, 0).edit(|job| job.pod.memory = memory);
    ask(4 * GIB).places(&[("j", Some("p"))]);
    ask(4 * GIB + 1).places(&[("j", None)]);
}
