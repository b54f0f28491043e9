//! Names by which people, other objects and other programs find something.

use batchyard_core::name::{gang_address, is_object_name};

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
fn what_may_be_the_name_of_an_object() {
    let (longest, too_long) = ("a".repeat(253), "a".repeat(254));
    for name in ["a", "a-1.b", &longest] {
        assert!(is_object_name(name), "{name}");
    }
    for name in ["", "A", "a_b", "a b", "ä", "a/b", &too_long] {
        assert!(!is_object_name(name), "{name}");
    }
}
