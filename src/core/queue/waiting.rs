//! The jobs that wait in one queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use super::order::Rank;
use super::snapshot::Candidate;

/// The jobs that wait in one queue, by rank and by share, so that a cycle looks at heads only, however many stand
/// behind them. Cheap to clone: who keeps one from cycle to cycle lends it to each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting(Arc<Lines>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Lines {
    /// Counted, not in entries: an array stands for its children.
    count: usize,
    all: BTreeMap<Arc<Rank>, Arc<Candidate>>,
    shares: BTreeMap<String, ShareLine>,
}

/// The jobs of one share: schedulingPriority acts within a share only, and before everything else there.
pub(super) type ShareLine = BTreeMap<ShareRank, Arc<Candidate>>;
type ShareRank = (Reverse<i64>, Arc<Rank>);
/// Goes along one.
pub(super) type ShareIter<'q> = btree_map::Iter<'q, ShareRank, Arc<Candidate>>;

/// The jobs of a queue by rank.
#[derive(Clone, Debug)]
pub struct Iter<'q>(btree_map::Iter<'q, Arc<Rank>, Arc<Candidate>>);

impl Waiting {
    /// A job begins to wait; one of the same rank is replaced.
    pub fn insert(&mut self, rank: Rank, job: Candidate) {
        self.remove(&rank);
        let (rank, job) = (Arc::new(rank), Arc::new(job));
        let lines = Arc::make_mut(&mut self.0);
        let line = match lines.shares.get_mut(&job.share) {
            Some(line) => line,
            None => lines.shares.entry(job.share.clone()).or_default(),
        };
        line.insert((Reverse(job.priority), rank.clone()), job.clone());
        lines.count += job.count();
        lines.all.insert(rank, job);
    }

    /// A job waits no more.
    pub fn remove(&mut self, rank: &Rank) -> Option<Arc<Candidate>> {
        if !self.0.all.contains_key(rank) {
            return None;
        }
        let lines = Arc::make_mut(&mut self.0);
        let (rank, job) = lines.all.remove_entry(rank)?;
        lines.count -= job.count();
        let line = lines.shares.get_mut(&job.share)?;
        line.remove(&(Reverse(job.priority), rank));
        if line.is_empty() {
            lines.shares.remove(&job.share);
        }
        Some(job)
    }

    /// What a job takes.
    pub fn get(&self, rank: &Rank) -> Option<&Candidate> {
        self.0.all.get(rank).map(AsRef::as_ref)
    }

    /// How many wait, each child of an array counted.
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// The jobs by rank.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.all.iter())
    }

    /// Their ranks, in order.
    pub fn ranks(&self) -> impl Iterator<Item = &Rank> {
        self.0.all.keys().map(AsRef::as_ref)
    }

    /// The jobs of each share.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&str, &ShareLine)> {
        self.0.shares.iter().map(|(share, line)| (share.as_str(), line))
    }
}

impl<'q> Iterator for Iter<'q> {
    type Item = (&'q Rank, &'q Candidate);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(rank, job)| (rank.as_ref(), job.as_ref()))
    }
}

impl<'q> IntoIterator for &'q Waiting {
    type Item = (&'q Rank, &'q Candidate);
    type IntoIter = Iter<'q>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Rank, Candidate)> for Waiting {
    fn from_iter<I: IntoIterator<Item = (Rank, Candidate)>>(jobs: I) -> Self {
        let mut waiting = Self::default();
        jobs.into_iter().for_each(|(rank, job)| waiting.insert(rank, job));
        waiting
    }
}
