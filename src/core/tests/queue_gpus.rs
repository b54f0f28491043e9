//! GPUs of several names: an environment counts those that it says are its own.

#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::{Group, schedule};
use batchyard_core::waits::Kind;
use stage::Stage;

const MIG: &str = "nvidia.com/mig-1g.5gb";

/// Two nodes: the first has whole GPUs, the second parts of one; an environment for each kind.
fn two_kinds() -> Stage {
    let mut stage = Stage::default().pool("whole", None, &[(8, 64, 2), (8, 64, 0)]);
    stage.snapshot.nodes[1].others = [(MIG.to_owned(), (3, 7))].into();
    let mut parts = stage.snapshot.environments["whole"].clone();
    parts.gpu = Some(MIG.to_owned());
    parts.largest.gpus = 7;
    stage.snapshot.environments.insert("parts".to_owned(), parts);
    stage
}

#[test]
fn each_environment_counts_its_own() {
    let whole = two_kinds().queue("q", 1, &["whole"]);
    let whole = whole.candidate("a", true, 1, 1, 2).candidate("b", true, 1, 1, 1);
    whole.places(&[("a", Some("whole")), ("b", None)]);
    let parts = two_kinds().queue("q", 1, &["parts"]);
    let parts =
        parts.candidate("a", true, 1, 1, 2).candidate("b", true, 1, 1, 1).candidate("c", true, 1, 1, 1);
    parts.places(&[("a", Some("parts")), ("b", Some("parts")), ("c", None)]);
    // What one kind takes is not taken of the other.
    let both = two_kinds().queue("p", 2, &["parts"]).candidate("part", true, 1, 1, 3);
    let both = both.queue("w", 1, &["whole"]).candidate("whole", true, 1, 1, 2);
    both.places(&[("part", Some("parts")), ("whole", Some("whole"))]);
}

/// What pods of one environment take on a node is not taken of what another environment counts there.
#[test]
fn a_node_that_has_two_kinds_has_each_of_them() {
    let mut stage = two_kinds();
    stage.snapshot.nodes[0].others = [(MIG.to_owned(), (2, 2))].into();
    let stage = stage.queue("p", 2, &["parts"]).candidate("part", true, 1, 1, 2);
    let stage = stage.queue("w", 1, &["whole"]).candidate("whole", true, 1, 1, 2);
    stage.places(&[("part", Some("parts")), ("whole", Some("whole"))]);
}

#[test]
fn why_there_are_none() {
    for (environment, gpus, want) in [
        ("parts", 4, "Waiting for GPUs in ComputeEnvironment parts"),
        ("parts", 8, "Waiting for a larger node in ComputeEnvironment parts: the job fits none of its nodes"),
        ("whole", 3, "Waiting for a larger node in ComputeEnvironment whole: the job fits none of its nodes"),
    ] {
        two_kinds().queue("q", 1, &[environment]).candidate("j", true, 1, 1, gpus).says("j", want);
    }
    let none = Stage::default().pool("p", None, &[(8, 64, 0)]);
    let ask = |stage: Stage| stage.queue("q", 1, &["p"]).candidate("j", true, 1, 1, 1);
    ask(none.clone())
        .says("j", "Waiting for GPUs in ComputeEnvironment p: none of its nodes has any nvidia.com/gpu");
    let amd = none.clone().change("p", |e| e.gpu = Some("amd.com/gpu".to_owned()));
    ask(amd).says("j", "Waiting for GPUs in ComputeEnvironment p: none of its nodes has any amd.com/gpu");
    let never = none.change("p", |e| e.without_gpus = true);
    ask(never.clone()).says(
        "j",
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that \
         can be met by the CE(s) attached to the job queue.",
    );
    let code = Kind::JobResourceRequirement.code();
    assert_eq!(code, Some("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"));
    // A job without GPUs runs there.
    never.queue("q", 1, &["p"]).job("plain", 1).places(&[("plain", Some("p"))]);
}

#[test]
fn another_environment_that_has_some_takes_the_job() {
    let stage = Stage::default().pool("plain", None, &[(8, 64, 0)]).pool("gpu", None, &[(8, 64, 1)]);
    let stage = stage.change("plain", |e| e.without_gpus = true).queue("q", 1, &["plain", "gpu"]);
    stage.clone().candidate("j", true, 1, 1, 1).places(&[("j", Some("gpu"))]);
    let full = stage.taken(1, 0, 0, 1).candidate("j", true, 1, 1, 1);
    full.clone().says("j", "Waiting for GPUs in ComputeEnvironment gpu");
    assert_eq!(schedule(full.snapshot).fronts["q"], ["j"]);
}

/// A pod in terms of Kubernetes may name the resource itself.
#[test]
fn what_a_pod_names_counts_where_gpus_are_counted_by_it() {
    let named = |count: i64| [(MIG.to_owned(), count)].into();
    let two = |environment: &str| {
        let stage = two_kinds().queue("q", 1, &[environment]);
        let stage = stage.candidate("a", true, 1, 1, 0).edit(|job| job.gpus_by_name = named(2));
        stage.candidate("b", true, 1, 1, 2)
    };
    two("parts").places(&[("a", Some("parts")), ("b", None)]);
    two("whole").places(&[("a", Some("whole")), ("b", Some("whole"))]);
    for (nodes, place) in [(1, Some("parts")), (2, None)] {
        let group = Group {
            count: nodes,
            pod: stage::amounts(1, 1, 0, 1),
            gpus_by_name: named(2),
            ..Group::default()
        };
        let stage = two_kinds().queue("q", 1, &["parts"]).candidate("g", true, 1, 1, 0);
        stage.edit(|job| job.gang = Some([group].into())).places(&[("g", place)]);
    }
}
