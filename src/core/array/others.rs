//! Other arrays that have a say in whether an array is accepted: those for whose children its own wait one by one, and
//! the one whose failed children it runs again.

use crate::job::decide::Readiness;
use crate::reason;
use crate::waits::{self, Wait};

/// Another job, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// What people call it.
    pub name: String,
    /// It is an array.
    pub is_array: bool,
    /// How many children it has; nobody knows that of a rerun that is not accepted yet.
    pub size: Option<u32>,
    /// It has ended.
    pub has_ended: bool,
    /// How many of its children failed, once they are counted.
    pub failed: Option<i64>,
}

/// Whether each child of an array has a counterpart in those arrays for whose children they wait (`N_TO_N`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Each has one, in those that are there.
    Fit,
    /// One of them has another size: why the array is refused.
    Differ(String),
    /// One of them has no size yet.
    Unknown(Wait),
}

/// Compares the size of an array with the sizes of others. It is asked each time before the array is accepted, since
/// they may come in any order.
pub fn pairs(size: Option<u32>, others: &[Other]) -> Pairs {
    let Some(size) = size else { return Pairs::Fit };
    let arrays = || others.iter().filter(|other| other.is_array);
    let mut sizes = arrays().filter_map(|other| Some((other, other.size?)));
    if let Some((other, its)) = sizes.find(|(_, its)| *its != size) {
        return Pairs::Differ(reason::sizes_differ(&other.name, size, its));
    }
    // One that ended before it had any children takes along who waits for them.
    let unknown = arrays().filter(|other| other.size.is_none() && !other.has_ended);
    let unknown: Vec<_> = unknown.map(|other| other.name.clone()).collect();
    if unknown.is_empty() { Pairs::Fit } else { Pairs::Unknown(waits::dependencies(&unknown, &[])) }
}

/// What keeps a rerun from being accepted: it needs an array that has ended, and of which a child failed. Its size is
/// that array's, whether it is stated or not.
pub fn rerun(reference: &str, size: Option<u32>, other: Option<&Other>) -> Option<Readiness> {
    let Some(other) = other else { return Some(Readiness::Waiting(waits::rerun_missing(reference))) };
    let refused = |why| Some(Readiness::Refused(why));
    if !other.is_array {
        return refused(reason::rerun_of_no_array(reference));
    }
    if let Some((size, its)) = size.zip(other.size).filter(|(size, its)| size != its) {
        return refused(reason::rerun_of_another_size(reference, size, its));
    }
    if !other.has_ended {
        return Some(Readiness::Waiting(waits::rerun_unfinished(reference)));
    }
    if other.failed == Some(0) { refused(reason::rerun_of_nothing(reference)) } else { None }
}
