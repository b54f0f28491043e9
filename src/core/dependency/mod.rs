//! What a job waits for that depends on other jobs: `dependsOn`.
//!
//! A job remembers of each job that it depends on what it saw last ([`Noted`]): a success that was
//! noted stays one although the object is deleted later, and an object that is gone before it was
//! seen to end can only have failed. With these notes and what is there now, [`of_jobs`] says
//! whether a job may go on. Who lies on a cycle is told by [`graph`].
//!
//! This is about whole jobs. That each child of an array waits for another child (`N_TO_N`,
//! `SEQUENTIAL`) is looked at child by child elsewhere; here such an entry only says what keeps the
//! array as a whole. What AWS does:
//! <https://docs.aws.amazon.com/batch/latest/userguide/job_dependencies.html>.

pub mod graph;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::phase::Phase;
use crate::reason;
use crate::waits::{self, Wait};

/// What stands for a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The name of its object.
    Name(String),
    /// Its id.
    Id(String),
    /// A child of the array job with this id.
    Child {
        /// The array's id.
        id: String,
        /// The child's index.
        index: u32,
    },
}

impl Reference {
    /// Reads AWS's `jobId`, which for a child is `id:index`.
    pub fn of_id(text: &str) -> Self {
        let child = text.split_once(':').and_then(|(id, index)| Some((id, index.parse().ok()?)));
        match child {
            Some((id, index)) => Self::Child { id: id.to_owned(), index },
            None => Self::Id(text.to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Id(text) => f.write_str(text),
            Self::Child { id, index } => write!(f, "{id}:{index}"),
        }
    }
}

/// How a job waits for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum How {
    /// For its end.
    #[default]
    Plain,
    /// Without a job: each child of the array waits for the one before it. With one: plain.
    Sequential,
    /// Each child of the array waits for the child with its index; of other jobs: plain.
    NToN,
}

/// An entry of `dependsOn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The job that must succeed first.
    pub on: Option<Reference>,
    /// In which way.
    pub how: How,
}

/// The jobs, of which an entry may wait child for child: the `N_TO_N` entries of an array.
pub fn n_to_n(dependencies: &[Dependency]) -> impl Iterator<Item = &Reference> {
    dependencies.iter().filter(|d| d.how == How::NToN).filter_map(|d| d.on.as_ref())
}

/// How the job that a reference means stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never seen, and may still come.
    Missing,
    /// It was seen before it had ended, and its object is gone since; another one that has its name is another job.
    Gone,
    /// It is there and is not an array with such a child: nothing can become of that.
    NoSuchChild,
    /// It has not ended.
    Unfinished,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
}

impl From<Phase> for State {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Submitted | Phase::Pending | Phase::Runnable | Phase::Starting | Phase::Running => {
                Self::Unfinished
            }
            Phase::Succeeded => Self::Succeeded,
            Phase::Failed => Self::Failed,
        }
    }
}

/// A job that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its id, with the child's index where a child is meant.
    pub id: String,
    /// The name of its object.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// How it, or the child, stands.
    pub state: State,
}

/// What a job saw last of a job that it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Its id; id:index for a child of an array.
    #[schemars(length(max = 256))]
    pub job_id: String,
    /// The name of its object.
    #[schemars(length(max = 253))]
    pub job: String,
    /// The uid of its object: one that was made again under its name is another job.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// SUCCEEDED or FAILED, once it ended; what it says before is not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Its object is gone, and it had not ended when it was last seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Noted {
    fn is_about(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Name(name) => self.job == *name && !self.is_child(),
            Reference::Id(id) => self.job_id == *id,
            Reference::Child { .. } => self.job_id == reference.to_string(),
        }
    }

    fn is_child(&self) -> bool {
        self.job_id.contains(':')
    }

    /// As [`Reference`] and people call it.
    fn called(&self) -> String {
        match self.job_id.split_once(':') {
            Some((_, index)) => format!("{}:{index}", self.job),
            None => self.job.clone(),
        }
    }

    fn state(&self) -> State {
        match self.phase {
            _ if self.deleted => State::Gone,
            Some(phase) => State::from(phase),
            None => State::Unfinished,
        }
    }
}

/// What is noted of the job that a reference means.
pub fn noted<'n>(notes: &'n [Noted], reference: &Reference) -> Option<&'n Noted> {
    notes.iter().find(|note| note.is_about(reference))
}

/// How the job stands that a reference means, and what to note of it. The last word on an end is the note.
fn look(notes: &[Noted], reference: &Reference, now: Option<&Other>) -> (State, Option<Noted>) {
    let known = noted(notes, reference);
    let note = match (known, now) {
        (None, None) => return (State::Missing, None),
        (None, Some(other)) if other.state == State::NoSuchChild => return (State::NoSuchChild, None),
        (Some(known), _) if known.state() != State::Unfinished => known.clone(),
        (Some(known), Some(other)) if known.uid == other.uid => note(other),
        (Some(known), _) => Noted { deleted: true, ..known.clone() },
        (None, Some(other)) => note(other),
    };
    (note.state(), Some(note))
}

fn note(other: &Other) -> Noted {
    let phase = match other.state {
        State::Succeeded => Some(Phase::Succeeded),
        State::Failed => Some(Phase::Failed),
        State::Missing | State::Gone | State::NoSuchChild | State::Unfinished => None,
    };
    let (job_id, job, uid) = (other.id.clone(), other.name.clone(), other.uid.clone());
    Noted { job_id, job, uid, phase, deleted: false }
}

/// The references of which a cache's silence would mean something that cannot be taken back: their jobs were seen and
/// are gone, or have been missing for too long. Who decides makes sure first.
pub fn in_doubt<'d>(
    dependencies: &'d [Dependency],
    notes: &[Noted],
    others: &BTreeMap<Reference, Other>,
    patience: Patience,
) -> Vec<&'d Reference> {
    let references = dependencies.iter().filter_map(|dependency| dependency.on.as_ref());
    let doubtful = references.filter(|reference| match look(notes, reference, others.get(reference)) {
        (State::Gone, Some(note)) => noted(notes, reference) != Some(&note),
        (State::Missing, _) => patience.is_over(),
        _ => false,
    });
    doubtful.collect()
}

/// For how long a job waits for jobs that do not exist (`dependencyTimeoutSeconds`).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When the job was created.
    pub since: Timestamp,
    /// For how long; without it for ever.
    pub limit: Option<SignedDuration>,
    /// The time.
    pub now: Timestamp,
}

impl Patience {
    /// When it ends.
    fn until(self) -> Option<Timestamp> {
        self.limit.map(|limit| self.since.saturating_add(limit).unwrap_or(Timestamp::MAX))
    }

    fn is_over(self) -> bool {
        self.until().is_some_and(|until| self.now >= until)
    }
}

/// Whether a job may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it depends on succeeded.
    Satisfied,
    /// It waits.
    Pending(Wait),
    /// It never will; its `statusReason`.
    Failed(String),
}

/// What comes of a look at the jobs that a job depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it may go on.
    pub verdict: Verdict,
    /// What is to be remembered of them.
    pub notes: Vec<Noted>,
    /// When to look again although nothing happens.
    pub again: Option<Timestamp>,
}

/// Looks at the jobs that a job depends on, given what it noted of them before and those that are there now.
pub fn of_jobs(
    dependencies: &[Dependency],
    is_array: bool,
    notes: &[Noted],
    others: &BTreeMap<Reference, Other>,
    patience: Patience,
) -> Look {
    let mut found = Found::default();
    for dependency in dependencies {
        let Some(reference) = &dependency.on else {
            if !is_array || dependency.how != How::Sequential {
                found.invalid = found.invalid.take().or_else(|| Some(reason::dependency_unnamed()));
            }
            continue;
        };
        let (state, note) = look(notes, reference, others.get(reference));
        let called = note.as_ref().map_or_else(|| reference.to_string(), Noted::called);
        found.notes.extend(note.filter(|note| !found.notes.contains(note)));
        let child_by_child = is_array && dependency.how == How::NToN;
        match state {
            State::Missing => found.missing.push(called),
            State::Gone => found.failed = true,
            State::NoSuchChild => {
                found.invalid = found.invalid.take().or_else(|| Some(reason::no_such_child(&called)));
            }
            State::Succeeded => {}
            State::Unfinished | State::Failed if child_by_child => {}
            State::Unfinished => found.unfinished.push(called),
            State::Failed => found.failed = true,
        }
    }
    found.judge(patience)
}

/// What a look found.
#[derive(Default)]
struct Found {
    notes: Vec<Noted>,
    missing: Vec<String>,
    unfinished: Vec<String>,
    failed: bool,
    invalid: Option<String>,
}

impl Found {
    fn judge(self, patience: Patience) -> Look {
        let again = patience.until().filter(|_| !self.missing.is_empty());
        let verdict = match (self.invalid, self.missing.first()) {
            (Some(why), _) => Verdict::Failed(why),
            _ if self.failed => Verdict::Failed(reason::DEPENDENT_FAILED.to_owned()),
            (None, Some(first)) if patience.is_over() => Verdict::Failed(reason::dependency_missing(
                first,
                patience.limit.map_or(0, |limit| limit.as_secs()),
            )),
            (None, None) if self.unfinished.is_empty() => Verdict::Satisfied,
            (None, _) => Verdict::Pending(waits::dependencies(&self.unfinished, &self.missing)),
        };
        let again = again.filter(|_| matches!(verdict, Verdict::Pending(_)));
        Look { verdict, notes: self.notes, again }
    }
}

/// Which of the jobs that are noted failed, in a sentence; none if none did.
pub fn culprit(notes: &[Noted]) -> Option<String> {
    notes.iter().find_map(|note| match note.state() {
        State::Gone => Some(reason::dependency_deleted(&note.called())),
        State::Failed => Some(reason::dependency_failed(&note.called())),
        State::Missing | State::NoSuchChild | State::Unfinished | State::Succeeded => None,
    })
}

/// What a job says more than its `statusReason` where people look: which other job it was.
pub fn why(status_reason: &str, notes: &[Noted]) -> String {
    match culprit(notes).filter(|_| status_reason == reason::DEPENDENT_FAILED) {
        Some(culprit) => format!("{status_reason}: {culprit}"),
        None => status_reason.to_owned(),
    }
}

/// How a child of an array stands for those that depend on it alone. `ended` says whether it succeeded, if it is known to have
/// ended. One that is not, though its array has, never had a turn: it ended as the array did.
pub fn child(size: Option<u32>, index: u32, ended: Option<bool>, array: Phase) -> State {
    if size.is_none_or(|size| index >= size) {
        return State::NoSuchChild;
    }
    match ended {
        Some(true) => State::Succeeded,
        Some(false) => State::Failed,
        None => array.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_about_what_it_was_made_for_and_nothing_else() {
        let noted = |id: &str| Noted { job_id: id.to_owned(), job: "job".to_owned(), ..Noted::default() };
        let child = |index| Reference::Child { id: "id".to_owned(), index };
        let (id, name) =
            (|id: &str| Reference::Id(id.to_owned()), |name: &str| Reference::Name(name.to_owned()));
        for (reference, whole, third) in [
            (name("job"), true, false),
            (name("other"), false, false),
            (id("id"), true, false),
            (id("other"), false, false),
            (child(3), false, true),
            (child(4), false, false),
        ] {
            assert_eq!(noted("id").is_about(&reference), whole, "{reference:?}");
            assert_eq!(noted("id:3").is_about(&reference), third, "{reference:?}");
        }
    }
}
