//! Multi-node jobs in line: all of their nodes find room at the same time, or none takes any.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::{Group, Resources, schedule};
use cases::config;
use proptest::prelude::*;
use stage::{Stage, amounts};

/// The last job becomes one of so many nodes with so many vCPUs each.
fn gang(stage: Stage, groups: &[(usize, i64)]) -> Stage {
    typed(stage, &groups.iter().map(|(count, vcpus)| (*count, *vcpus, None)).collect::<Vec<_>>())
}

fn typed(stage: Stage, groups: &[(usize, i64, Option<&str>)]) -> Stage {
    let group = |(count, vcpus, instance_type): &(usize, i64, Option<&str>)| Group {
        count: *count,
        pod: amounts(*vcpus, 1, 0, 1),
        instance_type: instance_type.map(str::to_owned),
        ..Group::default()
    };
    let groups: Vec<Group> = groups.iter().map(group).collect();
    stage.edit(|job| {
        job.vcpus_milli = groups.iter().map(|group| group.pod.cpu_milli * group.count as i64).sum();
        job.pod = groups.iter().fold(Resources::default(), |most, group| most.max(&group.pod));
        job.gang = Some(groups.into());
    })
}

fn pool(nodes: &[(i64, i64, i64)]) -> Stage {
    Stage::default().pool("p", Some(64), nodes).queue("q", 1, &["p"])
}

const NODE: (i64, i64, i64) = (4, 8, 0);

#[test]
fn all_nodes_of_a_job_find_room_at_the_same_time_or_none_takes_any() {
    for (name, nodes, groups, fits) in [
        ("each on its own node", &[NODE; 3][..], &[(3, 4)][..], true),
        ("one too many", &[NODE; 3], &[(4, 4)], false),
        ("two on a node", &[NODE; 2], &[(4, 2)], true),
        ("a large one is not kept out by small ones", &[(4, 8, 0), (2, 8, 0)], &[(1, 2), (1, 4)], true),
        ("one of two groups finds none", &[(4, 8, 0), (2, 8, 0)], &[(1, 2), (2, 4)], false),
        ("vCPUs enough, nodes too small", &[(2, 8, 0); 4], &[(2, 4)], false),
        ("memory is short", &[(16, 2, 0)], &[(3, 1)], false),
    ] {
        let stage = gang(pool(nodes).job("g", 1), groups);
        assert_eq!(stage.admitted() == ["g"], fits, "{name}: {:?}", stage.verdicts());
        if !fits {
            assert_eq!(
                stage.clone().job("next", 1).admitted(),
                [""; 0],
                "{name}: nobody overtakes it in its queue"
            );
        }
        // What it does not get it does not hold.
        let elsewhere = gang(pool(nodes).job("g", 1), groups).queue("other", 1, &["p"]).job("single", 1);
        if !fits {
            assert_eq!(elsewhere.admitted(), ["single"], "{name}");
        }
    }
}

#[test]
fn two_jobs_never_hold_parts_that_keep_each_other_waiting() {
    // Room for one and a half.
    let both = gang(pool(&[NODE; 3]).job("a", 1), &[(2, 4)]).queue("q2", 1, &["p"]).job("b", 1);
    let both = gang(both, &[(2, 4)]);
    assert_eq!(both.admitted(), ["a"]);
    both.says("b", "Waiting for room for all 2 nodes of the job at the same time in ComputeEnvironment p");
}

#[test]
fn limits_count_all_nodes_of_a_job() {
    let stage = |max| {
        gang(Stage::default().pool("p", Some(max), &[NODE; 4]).queue("q", 1, &["p"]).job("g", 1), &[(3, 4)])
    };
    assert_eq!(stage(12).admitted(), ["g"]);
    stage(11).says(
        "g",
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU \
         requirement of the job.",
    );
    let used = stage(12).change("p", |e| e.used_vcpus_milli = 1000);
    used.says("g", "Waiting for vCPUs in ComputeEnvironment p: its maxvCpus (12) is reached");
    // In a queue it is one job.
    let limited = gang(pool(&[NODE; 4]).limit(0, 1).job("g", 1), &[(3, 4)]);
    assert_eq!(limited.job("next", 1).admitted(), ["g"]);
    // It takes the tokens of all nodes.
    let licences = |left| gang(pool(&[NODE; 3]).tokens("t/l", left).job("g", 1).takes("t/l", 3), &[(3, 1)]);
    assert_eq!(licences(3).admitted(), ["g"]);
    licences(2).says("g", "Waiting for 3 of ConsumableResource l");
}

#[test]
fn a_job_says_what_its_nodes_lack() {
    let says = |nodes: &[(i64, i64, i64)], groups: &[(usize, i64)], want: &str| {
        gang(pool(nodes).job("g", 1), groups).says("g", want);
    };
    says(&[], &[(2, 1)], "Waiting for a node in ComputeEnvironment p: no node of its pool takes pods now");
    says(
        &[NODE; 9],
        &[(2, 8)],
        "Waiting for a larger node in ComputeEnvironment p: the job fits none of its nodes",
    );
    says(
        &[NODE; 2],
        &[(3, 4)],
        "Waiting for more nodes in ComputeEnvironment p: all of them together cannot hold the 3 nodes of the job",
    );
    let full = gang(pool(&[NODE; 3]).taken(0, 1, 0, 0).job("g", 1), &[(3, 4)]);
    full.says("g", "Waiting for room for all 3 nodes of the job at the same time in ComputeEnvironment p");
}

#[test]
fn nodes_of_the_type_that_is_wanted_are_taken() {
    let of_types = |types: &[&str], groups: &[(usize, i64, Option<&str>)]| {
        let mut stage = pool(&vec![NODE; types.len()]);
        for (node, instance_type) in stage.snapshot.nodes.iter_mut().zip(types) {
            node.instance_type = Some((*instance_type).to_owned());
        }
        typed(stage.job("g", 1), groups)
    };
    let wanted = [(1, 4, Some("m5.xlarge")), (1, 4, Some("c5.xlarge"))];
    assert_eq!(of_types(&["c5.xlarge", "m5.xlarge"], &wanted).admitted(), ["g"]);
    of_types(&["m5.xlarge", "m5.xlarge"], &wanted)
        .says("g", "Waiting for a node of type c5.xlarge in ComputeEnvironment p: it has none");
    of_types(&["c5.xlarge", "m5.xlarge"], &[(2, 4, Some("m5.xlarge"))]).says(
        "g",
        "Waiting for more nodes in ComputeEnvironment p: all of them together cannot hold the 2 nodes of the job",
    );
}

/// Pods that wait for nodes that come.
mod window {
    use super::*;

    fn waits(window: usize, others: usize) -> Stage {
        let stage = Stage::default().provisioned("p", 64, window).queue("low", 0, &["p"]);
        let stage = (0..others).fold(stage, |stage, n| stage.unbound("p", &format!("u{n}"), "low", 1, 0));
        stage.queue("q", 1, &["p"])
    }

    #[test]
    fn it_has_a_place_for_each_node_or_nothing_else_waits() {
        for (window, others, count, fits) in [
            (4, 0, 4, true),
            (4, 1, 3, true),
            (4, 2, 3, false),
            (4, 0, 9, true),
            (4, 1, 9, false),
            (0, 0, 2, false),
        ] {
            let stage = gang(waits(window, others).job("g", 1), &[(count, 1)]);
            assert_eq!(stage.admitted().len(), usize::from(fits), "{window} {others} {count}");
        }
    }

    #[test]
    fn as_many_make_way_as_it_has_nodes() {
        for (window, others, count, going) in [(4, 4, 3, 3), (4, 3, 2, 1), (4, 2, 9, 2), (4, 4, 4, 4)] {
            let decisions = gang(waits(window, others).job("g", 1), &[(count, 1)]).schedule();
            assert_eq!(decisions.withdraw.len(), going, "{window} {others} {count}");
        }
    }

    #[test]
    fn no_more_jobs_make_way_than_have_to() {
        let mut stage = waits(4, 2);
        let environment = stage.snapshot.environments.get_mut("p").expect("known");
        let unbound = &mut environment.provisioned.as_mut().expect("provisioned").unbound;
        unbound.iter_mut().for_each(|pod| pod.count = 2);
        let decisions = gang(stage.job("g", 1), &[(2, 1)]).schedule();
        assert_eq!(decisions.withdraw, ["u1"], "two places are enough");
    }

    #[test]
    fn a_job_that_makes_way_makes_it_with_all_its_pods() {
        let mut stage = waits(4, 1);
        let environment = stage.snapshot.environments.get_mut("p").expect("known");
        let unbound = &mut environment.provisioned.as_mut().expect("provisioned").unbound[0];
        unbound.count = 4;
        let decisions = stage.job("single", 1).schedule();
        assert_eq!(decisions.withdraw, ["u0"]);
    }
}

#[test]
fn room_is_kept_for_all_nodes_of_a_job_that_waits_for_long() {
    // Two of its three nodes are free; smaller jobs of others would take them for ever.
    let stage = |waits| {
        let stage = gang(pool(&[NODE; 3]).taken(0, 4, 0, 0).job("g", 1), &[(3, 4)]).head_since(waits);
        stage.queue("other", 0, &["p"]).job("small", 4)
    };
    assert_eq!(stage(60).admitted(), ["small"]);
    assert_eq!(stage(601).admitted(), [""; 0]);
    // Nothing is kept for one that these nodes could never hold.
    let never = gang(pool(&[NODE; 3]).job("g", 1), &[(4, 4)]).head_since(601);
    assert_eq!(never.queue("other", 0, &["p"]).job("small", 4).admitted(), ["small"]);
}

proptest! {
    #![proptest_config(config(500))]

    /// Whatever is admitted fits the nodes that there are, and a job that waits alone fits them in no way that the
    /// largest-first rule finds.
    #[test]
    fn what_is_admitted_fits(
        nodes in prop::collection::vec((1..9i64, 4..9i64), 1..5),
        jobs in prop::collection::vec(prop::collection::vec((1..4usize, 1..6i64), 1..3), 1..5),
    ) {
        let nodes: Vec<_> = nodes.into_iter().map(|(vcpus, gib)| (vcpus, gib, 0)).collect();
        let mut stage = pool(&nodes);
        for (number, groups) in jobs.iter().enumerate() {
            stage = gang(stage.queue(&format!("q{number}"), 1, &["p"]).job(&format!("g{number}"), 1), groups);
        }
        let admitted = stage.admitted();
        let index = |uid: &String| uid[1..].parse::<usize>().expect("a number");
        let mut pods: Vec<i64> = admitted
            .iter()
            .flat_map(|uid| &jobs[index(uid)])
            .flat_map(|(count, vcpus)| std::iter::repeat_n(*vcpus, *count))
            .collect();
        pods.sort_unstable_by(|a, b| b.cmp(a));
        let mut free: Vec<(i64, i64)> = nodes.iter().map(|(vcpus, gib, _)| (*vcpus, *gib)).collect();
        prop_assert!(holds(&mut free, &pods), "{admitted:?} do not fit {nodes:?}");
        let decisions = schedule(stage.snapshot);
        prop_assert_eq!(decisions.verdicts.len(), jobs.len(), "each has its answer");
    }
}

/// True if there is any way to put the pods, of 1 GiB each, on the nodes.
fn holds(free: &mut [(i64, i64)], pods: &[i64]) -> bool {
    let Some((first, rest)) = pods.split_first() else { return true };
    (0..free.len()).any(|node| {
        let (vcpus, gib) = free[node];
        if vcpus < *first || gib < 1 || free[..node].contains(&(vcpus, gib)) {
            return false;
        }
        free[node] = (vcpus - first, gib - 1);
        let found = holds(free, rest);
        free[node] = (vcpus, gib);
        found
    })
}
