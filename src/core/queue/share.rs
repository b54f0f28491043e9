//! Fair share: which share of a queue is next
//! (<https://docs.aws.amazon.com/batch/latest/userguide/fair-share-scheduling-policies.html>).
//!
//! The share with the smallest weighted usage goes first, where half of its next job is counted. The usage of a
//! share is what its jobs use now plus what they used on average over the window, of which the recent past counts
//! more. AWS publishes no formula for the decay; ours falls in a straight line from full weight now to none at the
//! window's end. What is in use now counts at once, so that one cycle with much room does not give all of it to one
//! share.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// `shareDecaySeconds` where none, or 0, is stated.
const WINDOW: SignedDuration = SignedDuration::from_secs(600);
/// How many shares of a queue may be active at a time
/// (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
pub const ACTIVE_SHARES: usize = 500;

/// A SchedulingPolicy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// `shareDecaySeconds`.
    pub decay_seconds: u32,
    /// `computeReservation`: percent, below 100.
    pub reservation: u8,
    /// `shareDistribution`: an identifier, or a prefix if it ends with `*`, and its weight factor.
    pub distribution: Vec<(String, f64)>,
}

impl Policy {
    /// How long past use counts.
    pub fn window(&self) -> SignedDuration {
        match self.decay_seconds {
            0 => WINDOW,
            seconds => SignedDuration::from_secs(i64::from(seconds)),
        }
    }

    /// What the usage of each of these active shares is multiplied with. Those that one prefix stands for have one
    /// allotment together: of n, each weighs n times the prefix's factor.
    fn weights<'s>(&self, active: impl Iterator<Item = &'s str>) -> BTreeMap<&'s str, f64> {
        let entry = |share: &str| {
            let stands_for = |pattern: &str| match pattern.strip_suffix('*') {
                Some(prefix) => share.starts_with(prefix),
                None => share == pattern,
            };
            self.distribution.iter().position(|(pattern, _)| stands_for(pattern))
        };
        let entries: Vec<_> = active.map(|share| (share, entry(share))).collect();
        let mut sizes: BTreeMap<usize, f64> = BTreeMap::new();
        for (_, index) in &entries {
            if let Some(index) = index {
                *sizes.entry(*index).or_default() += 1.0;
            }
        }
        let weight =
            |index: Option<usize>| index.map_or(1.0, |index| self.distribution[index].1 * sizes[&index]);
        entries.into_iter().map(|(share, index)| (share, weight(index))).collect()
    }

    /// The part of `max` that jobs may use while so many shares are active; the rest is kept for shares that are
    /// not active yet: `max × (computeReservation / 100) ^ active`.
    pub fn usable(&self, max: i64, active: usize) -> i64 {
        // A job that asks makes its share active.
        let active = i32::try_from(active.max(1)).unwrap_or(i32::MAX);
        let reserved = max as f64 * (f64::from(self.reservation) / 100.0).powi(active);
        // A vCPU that is reserved in part is reserved.
        max - (reserved / 1000.0 - 1e-9).ceil().max(0.0) as i64 * 1000
    }
}

/// The shares of one queue that are active.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// How they share.
    pub policy: Policy,
    /// The usage of every active share, by its identifier: those with a job that has not ended, or that ran within
    /// the window.
    pub active: BTreeMap<String, Usage>,
}

/// What a share uses, in thousandths of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// By its jobs that have a pod.
    pub now_milli: i64,
    /// On average over the window.
    pub past_milli: f64,
}

impl Shares {
    /// What the usage of each active share is multiplied with.
    pub(super) fn weights(&self) -> BTreeMap<&str, f64> {
        self.policy.weights(self.active.keys().map(String::as_str))
    }

    /// The part of `max` that jobs of the queue may use now.
    pub(super) fn usable(&self, max: i64) -> i64 {
        self.policy.usable(max, self.active.len())
    }
}

/// What the jobs of a queue used, within the window.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<String, Use>);

/// One attempt's use of vCPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The share's identifier.
    pub share: String,
    /// Thousandths of a vCPU.
    pub vcpus_milli: i64,
    /// When its container started.
    pub from: Timestamp,
    /// When the attempt ended, if it has.
    pub until: Option<Timestamp>,
}

impl Ledger {
    /// True if this use is known and over: nothing about it changes any more.
    pub fn is_closed(&self, pod_uid: &str) -> bool {
        self.0.get(pod_uid).is_some_and(|known| known.until.is_some())
    }

    /// True if this use is known, over or not.
    pub fn knows(&self, pod_uid: &str) -> bool {
        self.0.contains_key(pod_uid)
    }

    /// Notes the use by a pod; said twice, it counts once. One that is over stays so: an older view of the pod
    /// changes nothing.
    pub fn note(&mut self, pod_uid: &str, used: Use) {
        if !self.is_closed(pod_uid) {
            self.0.insert(pod_uid.to_owned(), used);
        }
    }

    /// Ends every use but those by these pods: a job that is deleted while it runs tells no end.
    pub fn close_all_but(&mut self, running: &BTreeSet<String>, now: Timestamp) {
        let over = self.0.iter_mut().filter(|(pod, _)| !running.contains(*pod));
        over.for_each(|(_, used)| _ = used.until.get_or_insert(now));
    }

    /// Forgets what is older than the window.
    pub fn prune(&mut self, window: SignedDuration, now: Timestamp) {
        self.0.retain(|_, used| used.until.is_none_or(|until| now.duration_since(until) < window));
    }

    /// The average use of each share over the window, in thousandths of a vCPU; a share without any is absent.
    pub fn averages(&self, window: SignedDuration, now: Timestamp) -> BTreeMap<String, f64> {
        let mut averages = BTreeMap::new();
        for used in self.0.values() {
            let average = used.vcpus_milli as f64 * used.part_of(window, now);
            match averages.get_mut(&used.share) {
                Some(sum) => *sum += average,
                None if average > 0.0 => drop(averages.insert(used.share.clone(), average)),
                None => {}
            }
        }
        averages
    }
}

impl Use {
    /// Which part of the window the use fills, from 0 to 1, where the recent past counts more.
    fn part_of(&self, window: SignedDuration, now: Timestamp) -> f64 {
        let window = window.as_secs_f64();
        let age = |at: Timestamp| now.duration_since(at).as_secs_f64().clamp(0.0, window);
        let (oldest, newest) = (age(self.from), age(self.until.unwrap_or(now)));
        // The integral of 1 - age / window, over its value for the whole window.
        let weighted = |age: f64| age - age * age / (2.0 * window);
        ((weighted(oldest) - weighted(newest)) / (window / 2.0)).max(0.0)
    }
}
