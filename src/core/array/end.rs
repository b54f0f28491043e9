//! How an array ends: as it was ordered to, else as its children did.

use jiff::Timestamp;
use roaring::RoaringBitmap;

use super::children::Children;
use super::decide::ChildOrder;
use crate::job::phase::Phase;
use crate::job::record::{Intent, IntentKind, Record};
use crate::reason;

/// The order for a whole array that counts: the one that is stored already, but that what a cancel leaves running may be
/// terminated.
pub fn intent(
    stored: Option<Intent>,
    orders: &[ChildOrder],
    members: &RoaringBitmap,
    now: Timestamp,
) -> Option<Intent> {
    let order = orders.iter().find(|order| order.indexes == *members);
    let new = order.map(|order| Intent { kind: order.kind, reason: order.reason.clone(), at: now });
    let is = |intent: &Option<Intent>, kind| intent.as_ref().is_some_and(|intent| intent.kind == kind);
    match is(&stored, IntentKind::Cancel) && is(&new, IntentKind::Terminate) {
        true => new,
        false => stored.or(new),
    }
}

/// Ends an array whose children have all ended; false if some have not. So many of them may have failed, unless somebody
/// stopped the array: nobody who does that tolerates what it leaves undone.
pub fn end(record: &mut Record, children: &Children, tolerated: u64, now: Timestamp) -> bool {
    let tolerated = if record.intent.is_some() { 0 } else { tolerated };
    let Some(phase) = children.outcome(tolerated) else { return false };
    let intent = record.intent.take();
    (record.phase, record.stopped_at, record.waiting) = (Some(phase), Some(now), None);
    record.status_reason = (phase == Phase::Failed).then(|| reason::ARRAY_CHILD_FAILED.to_owned());
    if let Some(intent) = intent.filter(|_| phase == Phase::Failed) {
        record.is_cancelled = (intent.kind == IntentKind::Cancel).then_some(true);
        record.is_terminated = (intent.kind == IntentKind::Terminate).then_some(true);
        record.status_reason = Some(intent.reason);
    }
    true
}
