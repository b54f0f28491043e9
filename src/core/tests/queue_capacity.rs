//! Who gets room when it is short: namespaces, tokens, pods that wait for nodes, heads that wait for long.

#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::{Decisions, Tenant, Verdict};
use batchyard_core::waits::Kind;
use jiff::SignedDuration;
use stage::{BIG, Stage, amounts, closed};

/// Longer than jobs of other queues may overtake a head, in seconds.
const LONG: i64 = 600;

/// What a job that waits is told, by kind.
#[track_caller]
fn kind(decisions: &Decisions, uid: &str) -> Kind {
    match &decisions.verdicts[uid] {
        Verdict::Wait(wait) => wait.kind,
        Verdict::Admit { environment } => panic!("{uid} is admitted to {environment}"),
    }
}

fn at_most(vcpus: i64, used: i64) -> Tenant {
    Tenant { max_vcpus_milli: Some(vcpus * 1000), used_vcpus_milli: used * 1000, ..Tenant::default() }
}

fn at_priority(max_priority: i64) -> Tenant {
    Tenant { max_priority: Some(max_priority), ..Tenant::default() }
}

/// A pool with a node for everything.
fn pool(max: i64) -> Stage {
    Stage::default().pool("p", Some(max), &[BIG])
}

#[test]
fn a_namespace_stays_within_its_part_of_an_environment() {
    let stage = pool(64).tenant("p", "a", at_most(4, 1)).queue("a/q", 1, &["p"]).job("a1", 2).job("a2", 2);
    stage.places(&[("a1", Some("p")), ("a2", None)]);
    stage.says("a2", "Waiting for vCPUs in ComputeEnvironment p: namespace a uses all its 4");
    // All queues of a namespace share its part; others are not concerned.
    let stage = stage.queue("a/r", 1, &["p"]).job("a3", 2).queue("b/q", 1, &["p"]).job("b1", 8);
    stage.places(&[("a1", Some("p")), ("a2", None), ("a3", None), ("b1", Some("p"))]);
    // All of it may be used.
    let last = pool(64).tenant("p", "a", at_most(4, 2)).queue("a/q", 1, &["p"]).job("a1", 2);
    last.places(&[("a1", Some("p"))]);
    // Its part is per environment.
    let stage = pool(64).pool("r", Some(64), &[BIG]).tenant("p", "a", at_most(4, 4));
    stage.queue("a/q", 1, &["p", "r"]).job("a1", 2).places(&[("a1", Some("r"))]);
}

#[test]
fn max_priority_bounds_what_a_queue_has_in_one_environment() {
    let one = |stage: Stage| stage.queue("a/q", 9, &["p"]).job("a1", 4).queue("b/q", 5, &["p"]).job("b1", 4);
    one(pool(4)).places(&[("a1", Some("p")), ("b1", None)]);
    one(pool(4).tenant("p", "a", at_priority(1))).places(&[("a1", None), ("b1", Some("p"))]);
    one(pool(4).tenant("p", "a", at_priority(20))).places(&[("a1", Some("p")), ("b1", None)]);
    // Where the second environment gives less, those who have more there come first.
    let two = |second| {
        let stage = pool(4).change("p", |e| e.used_vcpus_milli = 4000).pool("r", Some(4), &[BIG]);
        let stage = stage.tenant("r", "a", at_priority(second)).queue("a/q", 9, &["p", "r"]).job("a1", 4);
        stage.queue("b/q", 5, &["r"]).job("b1", 4)
    };
    two(9).places(&[("a1", Some("r")), ("b1", None)]);
    two(1).places(&[("a1", None), ("b1", Some("r"))]);
}

/// Tokens that went to another queue while a job waited for its turn in its second environment are gone.
#[test]
fn tokens_are_counted_again_when_the_turn_comes_in_the_second_environment() {
    let stage = pool(4).change("p", |e| e.used_vcpus_milli = 4000).pool("r", Some(64), &[BIG]);
    let stage = stage.tokens("a/t", 1).tenant("r", "a", at_priority(1));
    let stage = stage.queue("a/q", 9, &["p", "r"]).job("a1", 1).takes("a/t", 1);
    let stage = stage.queue("a/r", 5, &["r"]).tenant("r", "a", at_priority(1)).job("a2", 1).takes("a/t", 1);
    let stage = stage.pool("s", Some(64), &[BIG]).queue("a/s", 5, &["s"]).job("a3", 1).takes("a/t", 1);
    let decisions = stage.schedule();
    let admitted = stage.admitted();
    assert_eq!(admitted.len(), 1, "one token, one job: {:?}", decisions.verdicts);
    assert_eq!(admitted, ["a3"]);
    assert_eq!(kind(&decisions, "a1"), Kind::ConsumableResource);
}

#[test]
fn equal_priorities_end_with_vcpus_by_weight() {
    let weight = |weight| Tenant { weight, ..Tenant::default() };
    let mut stage = pool(40).pods(100).tenant("p", "a", weight(1)).tenant("p", "b", weight(3));
    stage = stage.queue("a/old", 1, &["p"]);
    for number in 0..40 {
        stage = stage.job(&format!("a-old{number:02}"), 1);
    }
    stage = stage.queue("a/young", 1, &["p"]);
    for number in 0..40 {
        stage = stage.job(&format!("a-young{number:02}"), 1);
    }
    stage = stage.queue("b/q", 1, &["p"]);
    for number in 0..40 {
        stage = stage.job(&format!("b{number:02}"), 1);
    }
    let count =
        |stage: &Stage, prefix: &str| stage.admitted().iter().filter(|uid| uid.starts_with(prefix)).count();
    assert_eq!(
        (count(&stage, "a-old"), count(&stage, "a-young"), count(&stage, "b")),
        (10, 0, 30),
        "older first within a namespace"
    );
    // What a namespace uses already counts.
    let stage = stage.change("p", |e| {
        e.used_vcpus_milli = 8000;
        e.tenants.as_mut().expect("stated").get_mut("a").expect("stated").used_vcpus_milli = 8000;
    });
    assert_eq!((count(&stage, "a-"), count(&stage, "b")), (2, 30));
    // Weights act among equals only.
    let mut stage = stage;
    stage.snapshot.queues[1].priority = 2;
    assert_eq!((count(&stage, "a-young"), count(&stage, "b")), (32, 0));
}

#[test]
fn a_head_waits_for_its_tokens_and_blocks_its_queue_only() {
    let stage = pool(64).tokens("a/licence", 5).queue("a/q", 1, &["p"]);
    let stage = stage.job("a1", 1).takes("a/licence", 3).job("a2", 1).takes("a/licence", 3).job("a3", 1);
    let stage = stage.queue("a/r", 1, &["p"]).job("r1", 1).takes("a/licence", 2).job("r2", 1);
    let places = [("a1", Some("p")), ("a2", None), ("r1", Some("p")), ("r2", Some("p"))];
    stage.places(&places);
    stage.says("a2", "Waiting for 3 of ConsumableResource licence");
    assert_eq!(stage.schedule().fronts["a/q"], ["a2", "a3"]);
    let gone = pool(64).queue("a/q", 1, &["p"]).job("a1", 1).takes("a/licence", 1);
    gone.says("a1", "Waiting for ConsumableResource licence, which does not exist");
    // A job that finds no room takes no tokens.
    let stage = pool(4).tokens("a/t", 1).queue("a/q", 9, &["p"]).job("a1", 4).job("a2", 4).takes("a/t", 1);
    let stage = stage.pool("r", Some(4), &[BIG]).queue("a/r", 1, &["r"]).job("r1", 1).takes("a/t", 1);
    stage.places(&[("a1", Some("p")), ("a2", None), ("r1", Some("r"))]);
}

#[test]
fn only_so_many_pods_may_wait_for_nodes() {
    let stage = Stage::default().provisioned("k", 100, 3).queue("q", 1, &["k"]).unbound("k", "u1", "q", 1, 0);
    let stage = stage.job("a", 1).job("b", 1).job("c", 1);
    stage.places(&[("a", Some("k")), ("b", Some("k")), ("c", None)]);
    stage.says("c", "Waiting for a node in ComputeEnvironment k: 3 pods wait for nodes already");
    let unseen = stage.change("k", |e| e.provisioned.as_mut().expect("provisioned").unseen = 1);
    unseen.places(&[("a", Some("k")), ("b", None)]);
    let small = Stage::default().provisioned("k", 5, 100).queue("q", 1, &["k"]).unbound("k", "u1", "q", 2, 0);
    small.job("a", 2).job("b", 2).job("c", 1).places(&[("a", Some("k")), ("b", None)]);
}

mod withdrawal {
    use super::*;

    /// Pods of two queues wait for nodes: w1, w2 and w3, the last in line, of the lower one, and e1 of an equal one.
    fn crowd(max: i64, window: usize) -> Stage {
        let stage = Stage::default().provisioned("k", max, window);
        let stage = stage.queue("low", 1, &["k"]).unbound("k", "w1", "low", 2, 9);
        let stage = stage.unbound("k", "w2", "low", 2, 9).unbound("k", "w3", "low", 2, 9);
        stage.queue("equal", 5, &["k"]).unbound("k", "e1", "equal", 2, 9)
    }

    /// What pods free that are going already is not taken from others as well.
    #[test]
    fn pods_that_are_going_make_room_enough() {
        let leaving = |pods: usize, vcpus: i64| {
            let stage = crowd(10, 100).change("k", |e| {
                let provisioned = e.provisioned.as_mut().expect("provisioned");
                (provisioned.leaving, provisioned.leaving_milli) = (pods, vcpus * 1000);
                e.used_vcpus_milli += vcpus * 1000;
            });
            stage.queue("high", 9, &["k"]).job("h", 2)
        };
        assert_eq!(withdrawn(&leaving(0, 0)), [""; 0]);
        assert_eq!(withdrawn(&leaving(1, 2)), [""; 0]);
        leaving(1, 2)
            .says("h", "Waiting for vCPUs in ComputeEnvironment k: pods of later jobs are being withdrawn");
        assert_eq!(withdrawn(&leaving(1, 1)), [""; 0]);
        assert_eq!(withdrawn(&leaving(0, 0).change("k", |e| e.used_vcpus_milli += 2000)), ["w3"]);
    }

    #[track_caller]
    fn withdrawn(stage: &Stage) -> Vec<String> {
        let mut withdrawn = stage.schedule().withdraw;
        withdrawn.sort();
        withdrawn
    }

    #[test]
    fn the_worst_in_line_go_and_no_more_than_needed() {
        let none: [&str; 0] = [];
        for (vcpus, want) in [(2, vec!["w3"]), (3, vec!["w2", "w3"]), (6, vec!["w1", "w2", "w3"])] {
            let stage = crowd(8, 100).queue("high", 5, &["k"]).job("h", vcpus);
            assert_eq!(withdrawn(&stage), want, "for {vcpus} vCPUs");
            assert_eq!(stage.schedule().stranded.len(), 0);
        }
        let full = crowd(100, 4).queue("high", 5, &["k"]).job("h", 2);
        assert_eq!(withdrawn(&full), ["w3"], "a place in the window is enough");
        let room = crowd(10, 100).queue("high", 5, &["k"]).job("h", 2);
        assert_eq!(withdrawn(&room), none, "there is room");
        for priority in [0, 1] {
            let late = crowd(8, 100).queue("late", priority, &["k"]).job("h", 2);
            assert_eq!(withdrawn(&late), none, "those of better or equal standing stay");
        }
    }

    /// When a large pod has to go, a small one that comes later need not.
    #[test]
    fn a_pod_that_need_not_go_stays() {
        let stage = Stage::default().provisioned("k", 9, 100).queue("low", 1, &["k"]);
        let stage = stage.unbound("k", "large", "low", 8, 9).unbound("k", "small", "low", 1, 9);
        assert_eq!(withdrawn(&stage.queue("high", 5, &["k"]).job("h", 8)), ["large"]);
    }

    #[test]
    fn a_retried_job_takes_the_place_of_later_ones_of_its_queue() {
        let stage = Stage::default().provisioned("k", 4, 100).queue("q", 1, &["k"]);
        let stage = stage.unbound("k", "first", "q", 2, 9).unbound("k", "second", "q", 2, 9);
        assert_eq!(withdrawn(&stage.clone().retried("again", 2)), ["second"]);
        assert!(withdrawn(&stage.job("third", 2)).is_empty(), "a later job waits");
    }

    /// What is withdrawn is for the job for which it was: nobody else takes the room in the same cycle.
    #[test]
    fn the_place_that_becomes_free_is_not_given_to_others() {
        let stage = crowd(100, 4).queue("high", 5, &["k"]).job("h", 2);
        let stage = stage.queue("other", 1, &["k"]).job("o", 1);
        assert_eq!(withdrawn(&stage), ["w3"]);
        assert!(stage.admitted().is_empty(), "{:?}", stage.admitted());
    }

    #[test]
    fn nobody_goes_where_that_would_not_help() {
        let high = |stage: Stage| stage.queue("a/high", 5, &["k"]).job("h", 2);
        let cases = [
            ("too little would become free", crowd(8, 100).queue("a/high", 5, &["k"]).job("h", 7)),
            ("the job is above maxvCpus", crowd(8, 100).queue("a/high", 5, &["k"]).job("h", 9)),
            ("the environment is closed", high(crowd(8, 100).change("k", |e| e.closed = Some(closed())))),
            ("the namespace has its part", high(crowd(8, 100).tenant("k", "a", at_most(4, 4)))),
            ("the namespace's part is too small", high(crowd(8, 100).tenant("k", "a", at_most(1, 0)))),
            ("it has only a lower priority here", high(crowd(8, 100).tenant("k", "a", at_priority(1)))),
            (
                "no node comes for the job",
                high(crowd(8, 100).change("k", |e| {
                    let provisioned = e.provisioned.as_mut().expect("provisioned");
                    provisioned.short_of.push(amounts(1, 1, 0, 1));
                })),
            ),
            ("the job lacks tokens", high(crowd(8, 100).tokens("a/t", 0)).takes("a/t", 1)),
            ("the queue is at maxRunning", high(crowd(8, 100)).limit(1, 1)),
        ];
        for (why, stage) in cases {
            assert!(withdrawn(&stage).is_empty(), "{why}: {:?}", withdrawn(&stage));
            kind(&stage.schedule(), "h");
        }
    }

    #[test]
    fn nobody_goes_for_a_job_that_finds_room_elsewhere() {
        let stage = crowd(8, 100).pool("p", Some(8), &[BIG]).queue("high", 5, &["k", "p"]).job("h", 2);
        assert!(withdrawn(&stage).is_empty());
        stage.places(&[("h", Some("p"))]);
    }
}

mod capacity_timeout {
    use super::*;

    /// A pod of 8 vCPUs that has waited for a node for two minutes, in vain after one.
    fn late(environments: &[&str]) -> Stage {
        let stage = Stage::default().provisioned("k", 100, 100).pool("p", Some(16), &[BIG]);
        let stage = stage.change("k", |e| {
            let provisioned = e.provisioned.as_mut().expect("provisioned");
            provisioned.capacity_timeout = Some(SignedDuration::from_secs(60));
        });
        stage.queue("q", 1, environments).unbound("k", "late", "q", 8, 120)
    }

    #[test]
    fn a_late_pod_goes_to_its_queues_other_environment() {
        let decisions = late(&["k", "p"]).schedule();
        assert_eq!(decisions.withdraw, ["late"]);
        assert_eq!(decisions.short_of, [("k".to_owned(), amounts(8, 1, 0, 1))]);
        assert!(decisions.stranded.is_empty());
        // The job, which waits again, is not sent to where no node came for it, whatever its place in line.
        late(&["k", "p"]).job("again", 8).places(&[("again", Some("p"))]);
        late(&["k", "p"]).retried("larger", 9).places(&[("larger", Some("p"))]);
        let in_time = Stage::default().provisioned("k", 100, 100).queue("q", 1, &["k", "p"]);
        assert!(
            in_time.unbound("k", "u", "q", 8, 9999).schedule().withdraw.is_empty(),
            "no timeout is stated"
        );
    }

    /// Where nodes come it is not known what they will hold.
    #[test]
    fn a_late_pod_goes_to_where_other_nodes_come() {
        let stage = late(&["k", "other"]).provisioned("other", 100, 100);
        assert_eq!(stage.schedule().withdraw, ["late"]);
        let closed = stage.change("other", |e| e.closed = Some(closed()));
        assert_eq!(closed.schedule().withdraw, [""; 0]);
    }

    #[test]
    fn a_smaller_job_is_still_tried() {
        late(&["k", "p"]).job("smaller", 7).places(&[("smaller", Some("k"))]);
        let more_memory = late(&["k", "p"]).candidate("other", true, 8, 2, 0);
        more_memory.places(&[("other", Some("p"))]);
    }

    #[test]
    fn a_late_pod_that_can_go_nowhere_else_stays_and_says_so() {
        let shut = |stage: Stage| stage.change("p", |e| e.closed = Some(closed()));
        let small = |stage: Stage| stage.change("p", |e| e.max_vcpus_milli = Some(7000));
        let cases = [
            ("there is no other", late(&["k"])),
            ("the other does not exist", late(&["k", "none"])),
            ("the other is closed", shut(late(&["k", "p"]))),
            ("the other is too small", small(late(&["k", "p"]))),
            (
                "the other has no such node",
                late(&["k", "p"]).change("p", |e| e.largest = amounts(4, 9, 0, 9)),
            ),
        ];
        for (why, stage) in cases {
            let decisions = stage.schedule();
            assert!(decisions.withdraw.is_empty(), "{why}");
            assert_eq!(decisions.stranded["late"].wait.kind, Kind::InsufficientInstanceCapacity, "{why}");
        }
    }

    #[test]
    fn a_late_pod_goes_nowhere_where_its_namespace_may_not() {
        let mut stage = late(&["k", "p"]).tenant("p", "a", at_most(4, 0));
        stage.last_queue().id = "a/q".to_owned();
        let stage = stage.change("k", |e| {
            e.provisioned
                .iter_mut()
                .flat_map(|p| &mut p.unbound)
                .for_each(|pod| pod.queue = "a/q".to_owned());
        });
        assert!(stage.schedule().withdraw.is_empty());
    }

    #[test]
    fn a_job_for_which_no_node_came_has_awss_code() {
        let stage = late(&["k"]).job("equal", 8);
        assert_eq!(kind(&stage.schedule(), "equal").code(), Some("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"));
    }
}

mod blocked {
    use super::*;

    #[test]
    fn max_resource_only_where_no_environment_may_ever_take_the_job() {
        let code = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE";
        let two = |second: fn(&mut batchyard_core::queue::Environment)| {
            pool(4).pool("r", Some(4), &[BIG]).change("r", second).queue("a/q", 1, &["p", "r"]).job("j", 8)
        };
        let cases = [
            ("both are too small", two(|_| ()), true),
            ("one is unmanaged, and full", two(|e| (e.max_vcpus_milli, e.nodes) = (None, Vec::new())), false),
            ("one is closed and may change", two(|e| e.closed = Some(closed())), false),
            ("one is full", two(|e| (e.max_vcpus_milli, e.used_vcpus_milli) = (Some(8000), 8000)), false),
            ("one does not exist yet", pool(4).queue("a/q", 1, &["p", "r"]).job("j", 8), false),
            (
                "the namespace's part is too small",
                pool(9).tenant("p", "a", at_most(7, 0)).queue("a/q", 1, &["p"]).job("j", 8),
                true,
            ),
            (
                "its nodes are too small today",
                { Stage::default().pool("p", Some(9), &[(4, 9, 0)]).queue("a/q", 1, &["p"]).job("j", 8) },
                false,
            ),
        ];
        for (why, stage, blocked) in cases {
            let got = kind(&stage.schedule(), "j").code();
            assert_eq!(got, blocked.then_some(code), "{why}");
        }
    }

    #[test]
    fn action_required_only_where_all_are_invalid() {
        let invalid =
            |stage: Stage, name: &str| stage.change(name, |e| (e.invalid, e.closed) = (true, Some(closed())));
        let two = || pool(9).pool("r", Some(9), &[BIG]).queue("q", 1, &["p", "r"]).job("j", 1);
        let shut = |stage: Stage| stage.change("r", |e| e.closed = Some(closed()));
        let missing = pool(9).queue("q", 1, &["p", "r"]).job("j", 1);
        let cases = [
            ("all", invalid(invalid(two(), "p"), "r"), true),
            ("one is DISABLED", shut(invalid(two(), "p")), false),
            ("one is not there yet", invalid(missing, "p"), false),
            ("none is there", Stage::default().queue("q", 1, &["p"]).job("j", 1), false),
        ];
        for (why, stage, blocked) in cases {
            assert_eq!(kind(&stage.schedule(), "j") == Kind::ActionRequired, blocked, "{why}");
        }
        invalid(two(), "p").places(&[("j", Some("r"))]);
    }
}

mod starvation {
    use super::*;

    /// The head of a queue, which needs four vCPUs of a pool that has three left, and a small job of another queue.
    fn behind(seconds: i64, priority: i64) -> Stage {
        let stage = Stage::default().pool("p", Some(64), &[(4, 64, 0)]).taken(0, 1, 0, 0);
        let stage = stage.queue("a/large", 5, &["p"]).job("large", 4).head_since(seconds);
        stage.queue("b/small", priority, &["p"]).job("small", 1)
    }

    #[test]
    fn a_head_is_overtaken_for_a_while_only() {
        behind(LONG - 1, 1).places(&[("large", None), ("small", Some("p"))]);
        behind(LONG, 1).places(&[("large", None), ("small", None)]);
        behind(LONG, 5).places(&[("large", None), ("small", None)]);
        let told = "Waiting for ComputeEnvironment p: its room is kept for the head of JobQueue large, which has \
                    waited longest";
        behind(LONG, 1).says("small", told);
        // Another job was the head.
        let mut stage = behind(LONG, 1);
        stage.snapshot.queues[0].head.as_mut().expect("stated").0 = "another".to_owned();
        stage.places(&[("large", None), ("small", Some("p"))]);
    }

    #[test]
    fn higher_priorities_are_not_held_back() {
        behind(LONG, 9).places(&[("large", None), ("small", Some("p"))]);
    }

    #[test]
    fn vcpus_are_kept() {
        let stage = pool(8).change("p", |e| e.used_vcpus_milli = 6000);
        let stage = stage.queue("a/large", 5, &["p"]).job("large", 4).head_since(LONG);
        stage.queue("b/small", 5, &["p"]).job("small", 1).places(&[("large", None), ("small", None)]);
    }

    #[test]
    fn tokens_are_kept() {
        let stage = pool(64).tokens("a/t", 3).queue("a/large", 5, &["p"]).job("large", 1).takes("a/t", 4);
        let stage = stage.head_since(LONG).queue("a/small", 5, &["p"]).job("small", 1).takes("a/t", 1);
        stage.places(&[("large", None), ("small", None)]);
    }

    /// The part of its namespace in an environment is kept within the namespace, and nobody else is held back.
    #[test]
    fn a_namespaces_part_is_kept() {
        let stage = pool(64).tenant("p", "a", at_most(8, 6)).queue("a/large", 5, &["p"]).job("large", 4);
        let stage = stage.head_since(LONG).queue("a/small", 5, &["p"]).job("small", 1);
        let stage = stage.queue("b/other", 1, &["p"]).job("other", 61);
        stage.places(&[("large", None), ("small", None), ("other", Some("p"))]);
    }

    /// The room of other nodes stays for everybody.
    #[test]
    fn one_node_is_kept_and_not_all() {
        let stage = Stage::default().pool("p", Some(64), &[(4, 64, 0), (4, 64, 0)]).taken(0, 1, 0, 0);
        let stage = stage.taken(1, 2, 0, 0).queue("a/large", 5, &["p"]).job("large", 4).head_since(LONG);
        let stage = stage.queue("b/small", 1, &["p"]).job("s1", 1).job("s2", 1).job("s3", 1);
        stage.places(&[("large", None), ("s1", Some("p")), ("s2", Some("p")), ("s3", None)]);
    }

    #[test]
    fn what_keeps_a_head_for_ever_keeps_nobody_else() {
        let small = |stage: Stage| stage.queue("a/small", 1, &["p"]).job("small", 1).takes("a/t", 1);
        let large = |stage: Stage, vcpus| {
            let stage =
                stage.tokens("a/t", 2).queue("a/large", 5, &["p"]).job("large", vcpus).takes("a/t", 2);
            stage.head_since(LONG)
        };
        let waits = |stage: Stage| stage.queue("a/large", 5, &["p"]).job("large", 64).head_since(LONG);
        let cases = [
            ("it is above maxvCpus", large(pool(8), 9)),
            ("it fits no node", large(pool(100), 65)),
            ("it is above its namespace's part", large(pool(64).tenant("p", "a", at_most(8, 0)), 9)),
            ("the environment is closed", {
                let stage = pool(64).change("p", |e| e.closed = Some(closed())).pool("r", Some(9), &[BIG]);
                large(stage, 9).queue("a/r", 1, &["r"]).job("small", 1).takes("a/t", 1)
            }),
            (
                "its ConsumableResource does not exist",
                waits(pool(64).tokens("a/t", 1)).takes("a/t", 1).takes("a/none", 1),
            ),
            ("its queue is at maxRunning", waits(pool(64).tokens("a/t", 1)).limit(1, 1)),
        ];
        for (why, stage) in cases {
            let stage = if why.ends_with("closed") { stage } else { small(stage) };
            assert_eq!(stage.admitted(), ["small"], "{why}");
        }
    }

    /// Room is kept in the first environment that could take the head, not in one that never will.
    #[test]
    fn room_is_kept_where_the_head_can_go() {
        let stage = pool(64).pool("r", Some(64), &[(4, 64, 0)]).taken(1, 1, 0, 0);
        let stage = stage.tenant("p", "a", at_most(3, 0));
        let stage = stage.queue("a/large", 5, &["p", "r"]).job("large", 4).head_since(LONG);
        let stage = stage.queue("b/r", 1, &["r"]).job("r1", 1).queue("b/p", 1, &["p"]).job("p1", 64);
        stage.places(&[("large", None), ("r1", None), ("p1", Some("p"))]);
    }
}
