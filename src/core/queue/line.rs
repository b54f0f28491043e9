//! The jobs of one queue in the order in which they get their turn.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use roaring::bitmap;

use super::order::Rank;
use super::snapshot::{Candidate, Queue};
use super::waiting::{self, ShareIter, ShareLine};
use crate::name;

/// What is left of a queue's line.
pub(super) enum Line<'q> {
    /// First in, first out.
    Fifo(Unfolded<'q, waiting::Iter<'q>>),
    /// By share.
    Fair(Fair<'q>),
}

/// A job in line, or one of the children of an array that stands there.
#[derive(Clone, Copy)]
pub(super) struct Entry<'q> {
    pub(super) rank: &'q Rank,
    pub(super) job: &'q Candidate,
    /// The index of the child.
    pub(super) child: Option<u32>,
}

impl Entry<'_> {
    /// What verdicts know it by.
    pub(super) fn key(&self) -> String {
        name::part(&self.rank.uid, self.child)
    }
}

impl<'q> Line<'q> {
    pub(super) fn of(queue: &'q Queue) -> Self {
        match &queue.shares {
            None => Self::Fifo(Unfolded::new(queue.waiting.iter())),
            Some(shares) => Self::Fair(Fair::new(queue, shares.weights())),
        }
    }

    /// The job that is next.
    pub(super) fn head(&mut self) -> Option<Entry<'q>> {
        match self {
            Self::Fifo(jobs) => jobs.head(),
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

    /// Takes the head out with all the children of its array that stand with it. Returns how many that are.
    pub(super) fn advance_all(&mut self) -> Option<(Entry<'q>, usize)> {
        match self {
            Self::Fifo(jobs) => jobs.next_all(),
            Self::Fair(fair) => fair.advance_all(),
        }
    }
}

/// Jobs in their order, an array as its children one after another.
pub(super) struct Unfolded<'q, I> {
    jobs: I,
    head: Option<Entry<'q>>,
    children: Option<bitmap::Iter<'q>>,
}

impl<'q, I: Iterator<Item = (&'q Rank, &'q Candidate)>> Unfolded<'q, I> {
    fn new(jobs: I) -> Self {
        let mut line = Self { jobs, head: None, children: None };
        line.next_job();
        line
    }

    fn head(&self) -> Option<Entry<'q>> {
        self.head
    }

    fn next(&mut self) -> Option<Entry<'q>> {
        let head = self.head?;
        match self.children.as_mut().and_then(Iterator::next) {
            Some(child) => self.head = Some(Entry { child: Some(child), ..head }),
            None => self.next_job(),
        }
        Some(head)
    }

    fn next_all(&mut self) -> Option<(Entry<'q>, usize)> {
        let head = self.head?;
        let behind = self.children.take().map_or(0, |children| children.len());
        self.next_job();
        Some((head, 1 + behind))
    }

    fn next_job(&mut self) {
        self.children = None;
        self.head = self.jobs.find_map(|(rank, job)| {
            let Some(children) = &job.children else { return Some(Entry { rank, job, child: None }) };
            let mut children = children.iter();
            // An array without children that wait does not stand in line.
            let child = Some(children.next()?);
            self.children = Some(children);
            Some(Entry { rank, job, child })
        });
    }
}

/// The line of a fair-share queue: its order depends on who was served before.
pub(super) struct Fair<'q> {
    shares: Vec<Share<'q>>,
    next: BinaryHeap<Turn<'q>>,
}

/// A share with the jobs that still wait.
struct Share<'q> {
    jobs: Unfolded<'q, ShareJobs<'q>>,
    weight: f64,
    usage: f64,
}

impl<'q> Share<'q> {
    fn new(jobs: &'q ShareLine, weight: f64, usage: f64) -> Self {
        Self { jobs: Unfolded::new(ShareJobs(jobs.iter())), weight, usage }
    }

    fn head(&self) -> Option<Entry<'q>> {
        self.jobs.head()
    }
}

/// The jobs of a share in their order.
struct ShareJobs<'q>(ShareIter<'q>);

impl<'q> Iterator for ShareJobs<'q> {
    type Item = (&'q Rank, &'q Candidate);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|((_, rank), job)| (rank.as_ref(), job.as_ref()))
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
        if let Some(Entry { rank, job, .. }) = share.head() {
            // Else a share would on average be above its part by half a job, which is much for those whose part
            // is small. One that uses nothing is first, however large its job.
            let half = share.usage.min(job.vcpus_milli as f64) / 2.0;
            self.next.push(Turn { usage: (share.usage + half) * share.weight, head: rank, share: index });
        }
    }

    fn advance(&mut self) -> Option<Entry<'q>> {
        let index = self.next.pop()?.share;
        let share = &mut self.shares[index];
        let entry = share.jobs.next()?;
        share.usage += entry.job.vcpus_milli as f64;
        self.queue_up(index);
        Some(entry)
    }

    fn advance_all(&mut self) -> Option<(Entry<'q>, usize)> {
        let index = self.next.pop()?.share;
        let share = &mut self.shares[index];
        let (entry, count) = share.jobs.next_all()?;
        share.usage += entry.job.vcpus_milli as f64 * count as f64;
        self.queue_up(index);
        Some((entry, count))
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
