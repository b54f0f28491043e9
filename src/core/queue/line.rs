//! The jobs of one queue in the order in which they get their turn.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;

use super::order::Rank;
use super::snapshot::{Candidate, Queue};
use super::waiting::{self, ShareIter, ShareLine};

/// What is left of a queue's line.
pub(super) enum Line<'q> {
    /// First in, first out.
    Fifo(Peekable<waiting::Iter<'q>>),
    /// By share.
    Fair(Fair<'q>),
}

/// A job in line.
pub(super) type Entry<'q> = (&'q Rank, &'q Candidate);

impl<'q> Line<'q> {
    pub(super) fn of(queue: &'q Queue) -> Self {
        match &queue.shares {
            None => Self::Fifo(queue.waiting.iter().peekable()),
            Some(shares) => Self::Fair(Fair::new(queue, shares.weights())),
        }
    }

    /// The job that is next.
    pub(super) fn head(&mut self) -> Option<Entry<'q>> {
        match self {
            Self::Fifo(jobs) => jobs.peek().copied(),
            Self::Fair(fair) => {
                let share = fair.next.peek()?.share;
                fair.shares[share].head()
            }
        }
    }

    /// Takes the head out of the line as one that runs from now on.
    pub(super) fn advance(&mut self) -> Option<Entry<'q>> {
        match self {
            Self::Fifo(jobs) => jobs.next(),
            Self::Fair(fair) => fair.advance(),
        }
    }
}

/// The line of a fair-share queue: its order depends on who was served before.
pub(super) struct Fair<'q> {
    shares: Vec<Share<'q>>,
    next: BinaryHeap<Turn<'q>>,
}

/// A share with the jobs that still wait.
struct Share<'q> {
    jobs: Peekable<ShareIter<'q>>,
    weight: f64,
    usage: f64,
}

impl<'q> Share<'q> {
    fn new(jobs: &'q ShareLine, weight: f64, usage: f64) -> Self {
        Self { jobs: jobs.iter().peekable(), weight, usage }
    }

    fn head(&mut self) -> Option<Entry<'q>> {
        self.jobs.peek().copied().map(|((_, rank), job)| (rank.as_ref(), job.as_ref()))
    }
}

/// A share that has a job; the greatest is next.
struct Turn<'q> {
    /// Usage, with half of the next job, times weight.
    usage: f64,
    head: &'q Rank,
    share: usize,
}

impl<'q> Fair<'q> {
    fn new(queue: &'q Queue, weights: BTreeMap<&str, f64>) -> Self {
        let active = queue.shares.as_ref().map(|shares| &shares.active);
        let mut fair = Self { shares: Vec::new(), next: BinaryHeap::new() };
        for (name, jobs) in queue.waiting.shares() {
            let usage = active.and_then(|active| active.get(name)).copied().unwrap_or_default();
            let usage = usage.past_milli + usage.now_milli as f64;
            fair.shares.push(Share::new(jobs, weights.get(name).copied().unwrap_or(1.0), usage));
            fair.queue_up(fair.shares.len() - 1);
        }
        fair
    }

    fn queue_up(&mut self, index: usize) {
        let share = &mut self.shares[index];
        if let Some((head, job)) = share.head() {
            // Else a share would on average be above its part by half a job, which is much for those whose part
            // is small. One that uses nothing is first, however large its job.
            let half = share.usage.min(job.vcpus_milli as f64) / 2.0;
            self.next.push(Turn { usage: (share.usage + half) * share.weight, head, share: index });
        }
    }

    fn advance(&mut self) -> Option<Entry<'q>> {
        let index = self.next.pop()?.share;
        let share = &mut self.shares[index];
        let entry = share.head()?;
        share.jobs.next();
        share.usage += entry.1.vcpus_milli as f64;
        self.queue_up(index);
        Some(entry)
    }
}

impl Ord for Turn<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.usage.total_cmp(&self.usage).then_with(|| other.head.cmp(self.head))
    }
}

impl PartialOrd for Turn<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn<'_> {}
