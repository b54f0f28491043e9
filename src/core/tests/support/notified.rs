//! Records and moments of jobs that are told of.

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Record, RetryAction, RetryDecision};
use batchyard_core::notification::moment::{Moment, What};
use jiff::Timestamp;

/// So many seconds after the beginning of the story.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

/// An attempt that ended with 1.
pub(crate) fn ended(attempt: u32, started: Option<i64>, stopped: i64, action: RetryAction) -> Attempt {
    Attempt {
        attempt,
        node_name: started.map(|_| "n".into()),
        started_at: started.map(at),
        stopped_at: Some(at(stopped)),
        status_reason: "Essential container in task exited".into(),
        container: ContainerOutcome { exit_code: Some(1), reason: None },
        decision: Some(RetryDecision { action, entry: None, rule: String::new() }),
        ..Attempt::default()
    }
}

pub(crate) fn record(phase: Phase) -> Record {
    Record { phase: Some(phase), created_at: Some(at(0)), ..Record::default() }
}

pub(crate) fn moment(what: What, attempt: u32, passed: bool) -> Moment {
    Moment { what, attempt, at: at(9), passed }
}
