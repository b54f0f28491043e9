//! The moments of a job that can be told: a phase that an attempt came to, or a session that became ready.

use jiff::Timestamp;

use crate::job::phase::Phase;
use crate::job::record::{Placement, Record, RetryAction};

/// Highest number of an attempt that has moments of its own. AWS allows ten attempts.
const MAX_ATTEMPT: u32 = 15;

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// It waits for other jobs, or for its children.
    Pending,
    /// It waits for its turn and for room.
    Runnable,
    /// Its pod has a node.
    Starting,
    /// Its container runs.
    Running,
    /// People can connect to it.
    SessionReady,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
}

impl What {
    /// All, in the order of an attempt's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Runnable,
        Self::Starting,
        Self::Running,
        Self::SessionReady,
        Self::Succeeded,
        Self::Failed,
    ];

    /// The phase in which the job is then.
    pub fn phase(self) -> Phase {
        match self {
            Self::Pending => Phase::Pending,
            Self::Runnable => Phase::Runnable,
            Self::Starting => Phase::Starting,
            Self::Running | Self::SessionReady => Phase::Running,
            Self::Succeeded => Phase::Succeeded,
            Self::Failed => Phase::Failed,
        }
    }

    /// The word in an id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionReady => "SESSION_READY",
            other => other.phase().as_str(),
        }
    }

    /// The phase that somebody can ask for. AWS tells of no submission, so SUBMITTED is none.
    pub fn of_phase(phase: Phase) -> Option<Self> {
        Self::ALL.into_iter().find(|what| *what != Self::SessionReady && what.phase() == phase)
    }
}

/// One moment of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What happened.
    pub what: What,
    /// The attempt in which it did, from 1; 0 before the first.
    pub attempt: u32,
    /// When, as well as the record knows: of a phase that has passed perhaps only when it had begun at the latest.
    pub at: Timestamp,
    /// The job was beyond it already when it was looked at.
    pub passed: bool,
}

impl Moment {
    /// Tells repeats: the same for the same moment, whoever derives it and whenever.
    pub fn id(&self, uid: &str) -> String {
        format!("{uid}/{}/{}", self.attempt, self.what.as_str())
    }

    fn bit(&self) -> u128 {
        let attempt = self.attempt.min(MAX_ATTEMPT);
        1 << (attempt * What::ALL.len() as u32 + self.what as u32)
    }
}

/// What of a job's status says which moments it has been through.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The record.
    pub record: &'a Record,
    /// The job is an array: its children have the attempts.
    pub is_array: bool,
    /// Since when people can connect to it, while they can.
    pub session_ready_at: Option<Timestamp>,
}

/// The moments that the record shows, in their order.
///
/// Of an attempt that ended the record keeps whether it had a node and whether it ran, so RUNNABLE, STARTING and RUNNING
/// are known of every attempt, however short. Of PENDING nothing is kept: it is told while it lasts, but for arrays, which
/// all have it. A pod that started nothing ([`Placement`]) belongs to the attempt that follows, whose phases are told
/// once, as AWS knows no placements.
pub fn moments(seen: Seen) -> Vec<Moment> {
    let record = seen.record;
    let mut all = Vec::new();
    if seen.is_array {
        if let Some(at) =
            record.runnable_at.or(record.created_at).filter(|_| record.phase() >= Phase::Pending)
        {
            all.push(Moment { what: What::Pending, attempt: 0, at, passed: true });
        }
    } else {
        attempts(record, &mut all);
        current(seen, &mut all);
    }
    if record.phase().is_terminal()
        && let Some(at) = record.stopped_at.or(record.started_at).or(record.created_at)
    {
        let what = if record.phase() == Phase::Succeeded { What::Succeeded } else { What::Failed };
        all.push(Moment { what, attempt: record.attempts.len() as u32, at, passed: false });
    }
    let newest = all.last().map_or(0, |moment| moment.attempt);
    for moment in all.iter_mut().filter(|moment| moment.attempt == newest) {
        moment.passed = moment.what.phase() != record.phase();
    }
    all
}

/// Of attempts that ended.
fn attempts(record: &Record, all: &mut Vec<Moment>) {
    let mut since = record.created_at;
    for attempt in &record.attempts {
        let mut push = |what, at: Option<Timestamp>| {
            all.extend(at.map(|at| Moment { what, attempt: attempt.attempt, at, passed: true }));
        };
        let known = attempt.started_at.or(attempt.stopped_at).or(since);
        push(What::Runnable, since.or(known));
        let had_a_node = attempt.node_name.is_some() || attempt.started_at.is_some();
        if had_a_node || placed(record, attempt.attempt).is_some() {
            push(What::Starting, placed(record, attempt.attempt).or(known));
        }
        push(What::Running, attempt.started_at);
        since = attempt.stopped_at.or(known);
    }
}

/// When a pod of an attempt was known to have had a node, although it started nothing there.
fn placed(record: &Record, attempt: u32) -> Option<Timestamp> {
    let had_a_node = |p: &&Placement| p.attempt == attempt && p.node_name.is_some();
    record.placements.iter().find(had_a_node).and_then(|placement| placement.at)
}

/// Of the attempt that is to come or goes on.
fn current(seen: Seen, all: &mut Vec<Moment>) {
    let record = seen.record;
    let (phase, attempt) = (record.phase(), record.next_attempt());
    let mut push = |what, attempt, at: Option<Timestamp>| {
        all.extend(at.map(|at| Moment { what, attempt, at, passed: true }));
    };
    let runnable_at = record.runnable_at.or(record.created_at);
    match phase {
        Phase::Submitted => {}
        Phase::Pending => push(What::Pending, 0, record.created_at),
        Phase::Runnable => {
            push(What::Runnable, attempt, runnable_at);
            push(What::Starting, attempt, placed(record, attempt));
        }
        Phase::Starting | Phase::Running => {
            let current = record.current.as_ref();
            let started = current.and_then(|current| current.started_at).or(record.started_at);
            push(What::Runnable, attempt, runnable_at);
            push(
                What::Starting,
                attempt,
                current.and_then(|current| current.bound_at).or(started).or(runnable_at),
            );
            if phase == Phase::Running {
                push(What::Running, attempt, started.or(runnable_at));
                push(What::SessionReady, attempt, seen.session_ready_at);
            }
        }
        // It ended while it waited: for its first attempt, or for the next after one that was to be retried.
        Phase::Succeeded | Phase::Failed => {
            let waits = match record.attempts.last() {
                None => record.runnable_at.is_some(),
                Some(last) => last.decision.as_ref().is_some_and(|d| d.action == RetryAction::Retry),
            };
            if waits {
                push(What::Runnable, attempt, record.runnable_at);
                push(What::Starting, attempt, placed(record, attempt));
            }
        }
    }
}

/// The moments of one job that are not to be told again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told(u128);

impl Told {
    /// Those of `moments` that are new, in their order; they count as told from now on.
    pub fn news(&mut self, moments: Vec<Moment>) -> Vec<Moment> {
        let mut news = moments;
        news.retain(|moment| {
            let is_new = self.0 & moment.bit() == 0;
            self.0 |= moment.bit();
            is_new
        });
        news
    }
}
