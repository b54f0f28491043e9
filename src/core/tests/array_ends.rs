//! How arrays end.

use batchyard_core::array::{ChildOrder, Children, end, intent};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Intent, IntentKind, Record};
use jiff::Timestamp;
use roaring::RoaringBitmap;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn order(kind: IntentKind, indexes: std::ops::Range<u32>) -> ChildOrder {
    ChildOrder { indexes: indexes.collect(), kind, reason: "ordered".to_owned() }
}

fn stored(kind: IntentKind) -> Option<Intent> {
    Some(Intent { kind, reason: "stored".to_owned(), at: NOW })
}

#[test]
fn the_first_order_for_all_counts_but_a_terminate_ends_what_a_cancel_leaves() {
    use IntentKind::{Cancel, Terminate};
    let members: RoaringBitmap = (0..4).collect();
    for (before, orders, want) in [
        (None, vec![], None),
        (None, vec![order(Terminate, 0..3)], None),
        (None, vec![order(Terminate, 0..3), order(Cancel, 0..4)], Some((Cancel, "ordered"))),
        (None, vec![order(Terminate, 0..4), order(Cancel, 0..4)], Some((Terminate, "ordered"))),
        (stored(Cancel), vec![], Some((Cancel, "stored"))),
        (stored(Cancel), vec![order(Cancel, 0..4)], Some((Cancel, "stored"))),
        (stored(Cancel), vec![order(Terminate, 0..4)], Some((Terminate, "ordered"))),
        (stored(Terminate), vec![order(Terminate, 0..4)], Some((Terminate, "stored"))),
        (stored(Terminate), vec![order(Cancel, 0..4)], Some((Terminate, "stored"))),
    ] {
        let got = intent(before.clone(), &orders, &members, NOW);
        let got = got.as_ref().map(|intent| (intent.kind, intent.reason.as_str()));
        assert_eq!(got, want, "{before:?} {orders:?}");
    }
}

#[test]
fn nobody_who_stops_an_array_tolerates_what_it_leaves_undone() {
    use IntentKind::{Cancel, Terminate};
    use Phase::{Failed, Succeeded};
    for (failed, succeeded, tolerated, order, want) in [
        (1, 2, 1, None, None),
        (1, 3, 1, None, Some((Succeeded, None, None, None))),
        (2, 2, 1, None, Some((Failed, Some("Array Child Job failed"), None, None))),
        (1, 3, 1, stored(Terminate), Some((Failed, Some("stored"), None, Some(true)))),
        (1, 3, 4, stored(Cancel), Some((Failed, Some("stored"), Some(true), None))),
        // It came when nothing was left to stop.
        (0, 4, 0, stored(Terminate), Some((Succeeded, None, None, None))),
        (1, 2, 1, stored(Terminate), None),
    ] {
        let mut children = Children::new((0..4).collect());
        children.fail(&(0..failed).collect());
        for index in failed..failed + succeeded {
            children.note(index, Record { phase: Some(Succeeded), ..Record::default() });
        }
        let mut record = Record { phase: Some(Phase::Pending), intent: order.clone(), ..Record::default() };
        let has_ended = end(&mut record, &children, tolerated, NOW);
        let got = has_ended.then(|| {
            assert_eq!((record.stopped_at, &record.intent), (Some(NOW), &None));
            (record.phase(), record.status_reason.as_deref(), record.is_cancelled, record.is_terminated)
        });
        assert_eq!(got, want, "{failed} failed, {succeeded} succeeded, {tolerated} tolerated, {order:?}");
        assert!(has_ended || record.phase() == Phase::Pending && record.intent == order);
    }
}
