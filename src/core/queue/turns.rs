//! Whose turn it is: by priority; among equals the queue whose head waits longest goes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::Timestamp;

use super::order::Rank;

/// The queues that still have a job, the one whose turn it is first.
#[derive(Default)]
pub(super) struct Turns(BinaryHeap<Turn>);

/// Having run before counts within a queue only; between queues only age does.
type Turn = (i64, Reverse<(Timestamp, u64, String, usize)>);

impl Turns {
    /// A queue of this priority, known by its index, whose next job has this rank.
    pub(super) fn push(&mut self, priority: i64, index: usize, head: &Rank) {
        self.0.push((priority, Reverse((head.created_at, head.sequence, head.uid.clone(), index))));
    }

    /// The index of the queue whose turn it is.
    pub(super) fn pop(&mut self) -> Option<usize> {
        self.0.pop().map(|(_, Reverse((.., index)))| index)
    }
}
