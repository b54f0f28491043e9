//! Setting conditions.

use jiff::Timestamp;

use crate::crd::conditions::{
    ConditionStatus, ConditionType, MAX_MESSAGE_BYTES, NewCondition, find, is_true, remove, set, truncated,
};

fn ready(status: bool, message: &str) -> NewCondition {
    NewCondition {
        type_: ConditionType::Ready,
        status: ConditionStatus::from(status),
        reason: "Test",
        message: message.to_owned(),
        observed_generation: Some(1),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

#[test]
fn the_time_moves_only_when_the_status_flips() {
    let mut conditions = Vec::new();
    let time = |conditions: &[_]| find(conditions, ConditionType::Ready).expect("set").last_transition_time.0;
    assert!(set(&mut conditions, ready(true, "a"), at(1)));
    assert!(!set(&mut conditions, ready(true, "a"), at(2)), "nothing changed");
    assert!(set(&mut conditions, ready(true, "b"), at(3)), "the message changed");
    assert_eq!(time(&conditions), at(1));
    assert!(set(&mut conditions, ready(false, "b"), at(4)));
    assert_eq!(time(&conditions), at(4));
    assert_eq!(conditions.len(), 1);
    assert!(!is_true(&conditions, ConditionType::Ready));
}

#[test]
fn the_generation_that_was_looked_at_is_kept_up_to_date() {
    let mut conditions = Vec::new();
    set(&mut conditions, ready(true, "a"), at(1));
    assert!(set(&mut conditions, NewCondition { observed_generation: Some(2), ..ready(true, "a") }, at(2)));
    assert_eq!(conditions[0].observed_generation, Some(2));
    assert_eq!(conditions[0].last_transition_time.0, at(1));
}

#[test]
fn conditions_do_not_get_into_each_others_way() {
    let mut conditions = Vec::new();
    set(&mut conditions, ready(true, "a"), at(1));
    set(&mut conditions, NewCondition { type_: ConditionType::FieldsIgnored, ..ready(true, "b") }, at(2));
    assert!(is_true(&conditions, ConditionType::Ready) && is_true(&conditions, ConditionType::FieldsIgnored));
    assert!(remove(&mut conditions, ConditionType::FieldsIgnored));
    assert!(!remove(&mut conditions, ConditionType::FieldsIgnored));
    assert_eq!(conditions.len(), 1);
}

#[test]
fn long_messages_are_cut_between_characters() {
    let mut conditions = Vec::new();
    set(&mut conditions, ready(true, &"ü".repeat(MAX_MESSAGE_BYTES)), at(1));
    assert!(conditions[0].message.len() <= MAX_MESSAGE_BYTES);
    assert!(conditions[0].message.ends_with("ü…"));
    assert_eq!(truncated("abc".to_owned(), 3), "abc");
    assert_eq!(truncated("abcdefgh".to_owned(), 6), "abc…");
    for max in 0..8 {
        assert!(truncated("üüüüüü".to_owned(), max).len() <= max.max('…'.len_utf8()));
    }
}
