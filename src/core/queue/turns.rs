//! Whose turn it is among queues: by priority; among equals the namespace that uses the least for its weight, then
//! the queue whose head waits longest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::Timestamp;

use super::order::Rank;

/// The queues that still have a job, the one whose turn it is first.
#[derive(Default)]
pub(super) struct Turns(BinaryHeap<Turn>);

/// The greatest is next. Having run before counts within a queue only; between queues only age does.
pub(super) type Turn = (i64, Reverse<(u64, Timestamp, u64, String, usize)>);

/// The turn of a queue, known by its index, whose next job has this rank. `load` is what its namespace uses for
/// its weight, where that counts, else 0.
pub(super) fn turn(priority: i64, load: u64, index: usize, head: &Rank) -> Turn {
    (priority, Reverse((load, head.created_at, head.sequence, head.uid.clone(), index)))
}

impl Turns {
    pub(super) fn push(&mut self, turn: Turn) {
        self.0.push(turn);
    }

    /// The queue whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Turn> {
        self.0.pop()
    }
}

/// The queue's index.
pub(super) fn index(turn: &Turn) -> usize {
    turn.1.0.4
}
