//! Names by which people, other objects and other programs find something.

use batchyard_core::name::{
    candidates, environments, gang, gang_address, is_object_name, part, pod, record, revision, whole,
};

#[test]
fn the_address_of_a_multi_node_jobs_main_node() {
    let uid = "0a1b2c3d-0000-0000-0000-000000000000";
    for ((job, attempt, placement), want) in [
        (("train", 1, 0), "train-0a1b2c3d-main-1"),
        (("train", 2, 1), "train-0a1b2c3d-main-2-1"),
        (("v1.2", 1, 0), "v1-2-0a1b2c3d-main-1"),
    ] {
        assert_eq!(gang_address(job, uid, attempt, placement), want);
    }
}

#[test]
fn what_belongs_to_a_job_is_named_after_it() {
    let uid = "0a1b2c3d-0000-0000-0000-000000000000";
    assert_eq!(record("train", uid, 3), "train-0a1b2c3d-3");
    assert_eq!(record("v1.2", uid, 0), "v1-2-0a1b2c3d-0");
    assert_eq!(gang("train", uid), "nodes-train-0a1b2c3d");
    assert_eq!(pod("train", uid, Some(7), 2, 0), "train-0a1b2c3d-7-2");
    assert_eq!(pod("train", uid, Some(7), 2, 1), "train-0a1b2c3d-7-2-1");
}

#[test]
fn a_part_of_a_job_is_known_by_the_uid_and_its_index() {
    for (uid, index, key) in [("uid", None, "uid"), ("uid", Some(0), "uid:0"), ("uid", Some(7), "uid:7")] {
        assert_eq!(part(uid, index), key);
        assert_eq!(whole(key), (uid, index));
    }
    assert_eq!(whole("uid:x"), ("uid:x", None));
}

#[test]
fn what_a_reference_may_mean_the_most_likely_first() {
    let slug = "dcv-gpu-820d41";
    let arn = |name: &str| format!("arn:aws:batch:eu-west-1:123456789012:compute-environment/{name}");
    for (reference, want) in [("spot", vec!["spot"]), ("DCV-GPU", vec![slug, "DCV-GPU"])] {
        assert_eq!(candidates(reference), want);
        assert_eq!(candidates(&arn(reference)), want);
        let of_team = want.iter().map(|name| format!("team.{name}"));
        let all: Vec<String> = of_team.chain(want.iter().map(|name| (*name).to_owned())).collect();
        assert_eq!(environments("team", reference), all, "those of the namespace come first");
    }
}

#[test]
fn the_object_of_a_revision() {
    for (resolved, want) in
        [("spot:3", Some("spot-3")), ("DCV-GPU:12", Some("dcv-gpu-820d41-12")), ("spot", None)]
    {
        assert_eq!(revision(resolved).as_deref(), want, "{resolved}");
    }
}

#[test]
fn what_may_be_the_name_of_an_object() {
    let (longest, too_long) = ("a".repeat(253), "a".repeat(254));
    for name in ["a", "a-1.b", &longest] {
        assert!(is_object_name(name), "{name}");
    }
    for name in ["", "A", "a_b", "a b", "ä", "a/b", &too_long] {
        assert!(!is_object_name(name), "{name}");
    }
}
