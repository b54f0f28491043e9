//! Numbered revisions: when a new one is made, when one becomes INACTIVE, and when it goes.
//!
//! A number is claimed by creating the object that bears it, and is never used again. What was
//! registered stands in the revisions alone; the definition only says what the newest one shall be.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// An INACTIVE revision is kept this long, as AWS does
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_DeregisterJobDefinition.html>).
pub const KEPT_INACTIVE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// A revision that is due but still needed is looked at again so often.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What a definition registers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registered {
    /// The uid of the definition.
    pub definition_uid: String,
    /// `registration`: any text; a new one makes a new revision.
    pub registration: Option<String>,
    /// The definition's spec, without `registration` and `deregistered`.
    pub data: Value,
}

/// A revision that exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Revision {
    /// Its number, from 1.
    pub number: u32,
    /// False once it is INACTIVE.
    pub active: bool,
    /// When it became INACTIVE.
    pub inactive_since: Option<Timestamp>,
    /// What it was made from.
    pub made_from: Registered,
}

/// What the newest revision shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// It exists already.
    Is(u32),
    /// It is to be made under this number.
    Make(u32),
}

/// Compares what is wanted with the newest revision. `floor` is the highest number that is known
/// to be taken although no revision shows it.
pub fn newest(wanted: &Registered, revisions: &[Revision], floor: u32) -> Newest {
    match revisions.iter().max_by_key(|revision| revision.number) {
        Some(newest) if newest.number >= floor && newest.made_from == *wanted => Newest::Is(newest.number),
        Some(newest) => Newest::Make(newest.number.max(floor) + 1),
        None => Newest::Make(floor + 1),
    }
}

/// What a revision's definition says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The definition that it was made from is gone.
    Gone,
    /// It exists.
    Exists {
        /// The revision's number is in `deregistered`.
        deregistered: bool,
        /// The revision is the newest: it holds the number, which must not be used again.
        newest: bool,
    },
}

/// The next step of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Keep,
    /// It becomes INACTIVE.
    Deactivate,
    /// It goes.
    Delete,
    /// Nothing until then.
    LookAgain(Timestamp),
}

/// Decides on one revision. `in_use` says whether a job refers to it; it is asked only when that
/// matters.
pub fn step(
    revision: &Revision,
    definition: Definition,
    in_use: impl FnOnce() -> bool,
    now: Timestamp,
) -> Step {
    let (over, newest) = match definition {
        Definition::Gone => (true, false),
        Definition::Exists { deregistered, newest } => (deregistered, newest),
    };
    if revision.active {
        return if over { Step::Deactivate } else { Step::Keep };
    }
    let Some(since) = revision.inactive_since else { return Step::Deactivate };
    let due = since.saturating_add(KEPT_INACTIVE).unwrap_or(Timestamp::MAX);
    if now < due {
        return Step::LookAgain(due);
    }
    if newest || in_use() {
        return Step::LookAgain(now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX));
    }
    Step::Delete
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn registered(uid: &str, registration: Option<&str>, data: u32) -> Registered {
        Registered {
            definition_uid: uid.to_owned(),
            registration: registration.map(str::to_owned),
            data: json!({"image": data}),
        }
    }

    fn revision(number: u32, made_from: Registered) -> Revision {
        Revision { number, active: true, inactive_since: None, made_from }
    }

    #[test]
    fn a_new_revision_for_each_change() {
        let wanted = registered("u", None, 1);
        let other = registered("u", None, 2);
        let same = revision(2, wanted.clone());
        for (wanted, existing, floor, want) in [
            (&wanted, vec![], 0, Newest::Make(1)),
            (&wanted, vec![], 7, Newest::Make(8)),
            (&wanted, vec![same.clone()], 0, Newest::Is(2)),
            (&wanted, vec![same.clone()], 2, Newest::Is(2)),
            (&wanted, vec![same.clone()], 3, Newest::Make(4)),
            (&other, vec![same.clone()], 0, Newest::Make(3)),
            // Going back to an earlier spec is a new registration.
            (&wanted, vec![same.clone(), revision(3, other.clone())], 0, Newest::Make(4)),
            (&wanted, vec![revision(3, other.clone()), same.clone()], 0, Newest::Make(4)),
            (&registered("u", Some("again"), 1), vec![same.clone()], 0, Newest::Make(3)),
            (&registered("v", None, 1), vec![same.clone()], 0, Newest::Make(3)),
        ] {
            assert_eq!(newest(wanted, &existing, floor), want, "{wanted:?} {existing:?} {floor}");
        }
        let mut inactive = same;
        inactive.active = false;
        assert_eq!(newest(&wanted, &[inactive], 0), Newest::Is(2), "deregistering registers nothing");
    }

    #[test]
    fn the_life_of_a_revision() {
        let day = |n: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * n);
        let active = revision(2, registered("u", None, 1));
        let inactive = |since| Revision { active: false, inactive_since: since, ..active.clone() };
        let old = inactive(Some(day(0)));
        let exists = |deregistered, newest| Definition::Exists { deregistered, newest };
        for (revision, definition, in_use, now, want) in [
            (&active, exists(false, true), false, 0, Step::Keep),
            (&active, exists(true, true), true, 0, Step::Deactivate),
            (&active, Definition::Gone, true, 0, Step::Deactivate),
            (&inactive(None), exists(false, false), false, 0, Step::Deactivate),
            (&old, Definition::Gone, false, 179, Step::LookAgain(day(180))),
            (&old, Definition::Gone, false, 180, Step::Delete),
            (&old, Definition::Gone, true, 180, Step::LookAgain(day(181))),
            (&old, exists(true, false), false, 180, Step::Delete),
            (&old, exists(true, true), false, 180, Step::LookAgain(day(181))),
            // Deregistration is not taken back.
            (&old, exists(false, false), false, 1, Step::LookAgain(day(180))),
        ] {
            assert_eq!(step(revision, definition, || in_use, day(now)), want, "{revision:?} {definition:?}");
        }
    }
}
