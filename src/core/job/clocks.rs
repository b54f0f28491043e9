//! What time alone does to a job: limits of its queue, its timeout, a session that nobody uses.

use jiff::Timestamp;

use super::decide::{Step, TimeLimit};
use super::phase::Phase;
use super::record::{IntentKind, Waiting};
use crate::reason;
use crate::session;

impl Step<'_> {
    /// A job that has blocked its queue for so long that the queue gives it up.
    pub(super) fn watch_limits(&mut self) {
        let waiting =
            self.next.record.waiting.filter(|_| self.phase() == Phase::Runnable && !self.is_bound());
        let due = waiting.and_then(|waiting| due(&waiting, &self.job.time_limits));
        let Some((due, code)) = due else { return };
        if self.now >= due {
            self.intend(IntentKind::Cancel, &reason::time_limit(code));
        } else {
            self.wake_at(Some(due));
        }
    }

    /// The attempt's timeout is ours, not the kubelet's: it counts from the container's start.
    pub(super) fn watch_clock(&mut self, started_at: Timestamp) {
        let Some(deadline) = self.job.timeout.and_then(|limit| started_at.checked_add(limit).ok()) else {
            return;
        };
        if self.now >= deadline {
            self.intend(IntentKind::Timeout, reason::TIMED_OUT);
        } else {
            self.wake_at(Some(deadline));
        }
    }

    /// A session that nobody has used for so long that it is given up.
    pub(super) fn watch_idle(&mut self) {
        let (Some(limit), Some(since)) = (self.job.idle_timeout, self.seen.idle_since) else { return };
        let deadline = since.checked_add(limit).unwrap_or(Timestamp::MAX);
        if self.now >= deadline {
            self.intend(IntentKind::Idle, &session::idle(limit));
        } else {
            self.wake_at(Some(deadline));
        }
    }
}

/// When the limit of a job that blocks its queue is due, and the code that it is about.
pub fn due(waiting: &Waiting, limits: &[TimeLimit]) -> Option<(Timestamp, &'static str)> {
    let code = waiting.kind.code()?;
    let limit = limits.iter().find(|limit| limit.code == code)?;
    Some((waiting.since.checked_add(limit.limit).unwrap_or(Timestamp::MAX), code))
}
