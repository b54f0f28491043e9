//! What an array says that it waits for, and when its queue gives it up for that.

use jiff::Timestamp;

use super::children::Children;
use super::decide::ChildOrder;
use crate::job::clocks::due;
use crate::job::decide::TimeLimit;
use crate::job::phase::Phase;
use crate::job::record::{IntentKind, Record};
use crate::reason;
use crate::waits::{Kind, Wait};

/// How far the children are that may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// One has a node, or none may run: the array waits for nothing.
    AtWork,
    /// Some have pods, and none of these has a node.
    Unbound,
    /// None has a pod.
    InLine,
}

/// Notes in the record of an array what it waits for: what the dispatcher says, else what the scheduler says of the
/// first pod. Where nobody says anything for a moment, between two placements, the last word stands: the wait goes on.
pub fn say_why(
    record: &mut Record,
    standing: Standing,
    told: Option<Wait>,
    children: &Children,
    now: Timestamp,
) {
    if standing == Standing::AtWork || record.intent.is_some() {
        (record.status_reason, record.waiting) = (None, None);
        return;
    }
    let scheduler = || children.open().values().find_map(no_node).filter(|_| standing == Standing::Unbound);
    if let Some(wait) = told.or_else(scheduler) {
        record.wait_for(&wait, now);
    }
}

/// What a child says whose pod waits for a node.
fn no_node(child: &Record) -> Option<Wait> {
    let kind = child.waiting.filter(|_| child.phase() == Phase::Runnable)?.kind;
    let text = child.status_reason.clone()?;
    (kind == Kind::Node).then_some(Wait { kind, text })
}

/// The end of an array that has blocked its queue for so long that the queue gives it up.
pub fn give_up(
    record: &Record,
    limits: &[TimeLimit],
    children: &Children,
    now: Timestamp,
) -> Option<ChildOrder> {
    let (due, code) = due(&record.waiting?, limits)?;
    let (indexes, kind) = (children.members().clone(), IntentKind::Cancel);
    (now >= due).then(|| ChildOrder { indexes, kind, reason: reason::time_limit(code) })
}
