//! What an array's status says of its children. Pure.

use batchyard_core::array::{Children, Tally, indexes};
use batchyard_core::job::phase::Phase;
use jiff::Timestamp;
use roaring::RoaringBitmap;

use crate::crd::batch_job::{ArrayStatus, PhaseIndexes};
use crate::crd::children;
use crate::crd::job_queue::JobCounts;

/// The longest text of indexes.
const INDEXES: usize = 4096;

/// What is said of children that are where they were told to be.
pub(super) fn of(
    known: Option<&ArrayStatus>,
    size: u32,
    records: u32,
    tally: &Tally,
    now: Timestamp,
) -> ArrayStatus {
    let text = |phase| {
        let set = tally.of(phase).filter(|set| !set.is_empty());
        set.map(|set| indexes::short_text(set, INDEXES))
    };
    let count = |phase| i64::try_from(tally.count(phase)).unwrap_or(i64::MAX);
    let status = ArrayStatus {
        size: i32::try_from(size).ok(),
        status_summary: Some(JobCounts::count(count)),
        status_summary_last_updated_at: known.and_then(|known| known.status_summary_last_updated_at),
        indexes: Some(PhaseIndexes {
            pending: text(Phase::Pending),
            runnable: text(Phase::Runnable),
            starting: text(Phase::Starting),
            running: text(Phase::Running),
            succeeded: text(Phase::Succeeded),
            failed: text(Phase::Failed),
        }),
        records: i32::try_from(records).ok().filter(|records| *records > 0),
    };
    match known {
        Some(known) if *known == status => status,
        _ => ArrayStatus { status_summary_last_updated_at: Some(now), ..status },
    }
}

/// All children, by the lists of the status; none if one of them is cut.
pub(super) fn listed(told: &ArrayStatus) -> Option<RoaringBitmap> {
    let lists = Phase::ALL.iter().filter_map(|phase| children::list(told, *phase));
    lists.map(|list| indexes::parse(list).ok()).try_fold(RoaringBitmap::new(), |all, list| Some(all | list?))
}

/// The children of an array before any of them may run, or that ended before: all in one phase.
pub(super) fn all_in(members: RoaringBitmap, phase: Phase) -> Tally {
    let mut tally = Tally::default();
    match phase {
        Phase::Failed => tally.failed = members,
        _ => tally.pending = members,
    }
    tally
}

/// How many children may fail: a number, or a part of them, rounded down.
pub(super) fn tolerated(stated: Option<&str>, children: &Children) -> u64 {
    let members = children.members().len();
    match stated.map(|text| (text.strip_suffix('%'), text)) {
        None => 0,
        Some((Some(percent), _)) => members * percent.parse::<u64>().unwrap_or(0).min(100) / 100,
        Some((None, number)) => number.parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_the_children_and_rounded_down() {
        let children = Children::new((0..50).collect());
        for (stated, want) in
            [(None, 0), (Some("0"), 0), (Some("7"), 7), (Some("5%"), 2), (Some("1%"), 0), (Some("100%"), 50)]
        {
            assert_eq!(tolerated(stated, &children), want, "{stated:?}");
        }
    }

    #[test]
    fn the_time_tells_when_something_changed() {
        let at = |seconds| Timestamp::from_second(seconds).expect("a time");
        let tally = all_in((0..3).collect(), Phase::Pending);
        let first = of(None, 3, 0, &tally, at(1));
        assert_eq!(first.status_summary_last_updated_at, Some(at(1)));
        assert_eq!(of(Some(&first), 3, 0, &tally, at(2)), first);
        let ended = all_in((0..3).collect(), Phase::Failed);
        let last = of(Some(&first), 3, 1, &ended, at(3));
        assert_eq!((last.status_summary_last_updated_at, last.records), (Some(at(3)), Some(1)));
    }
}
