//! Fair share: which share of a queue is next
//! (<https://docs.aws.amazon.com/batch/latest/userguide/fair-share-scheduling-policies.html>).
//!
//! The share with the smallest weighted usage goes first, where half of its next job is counted. The usage of a
//! share is what its jobs use now plus what they used on average over the window, of which the recent past counts
//! more. AWS publishes no formula for the decay; ours falls in a straight line from full weight now to none at the
//! window's end. What is in use now counts at once, so that one cycle with much room does not give all of it to one
//! share.

use std::collections::BTreeMap;

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

/// What the jobs of a queue used, within a window. Uses that are over are folded into so few parts of the window that
/// neither its length nor the number of jobs matters.
#[derive(Clone, Debug)]
pub struct Ledger {
    window: SignedDuration,
    open: BTreeMap<String, Use>,
    past: BTreeMap<String, BTreeMap<i64, Part>>,
}

/// One attempt's use of vCPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The share's identifier.
    pub share: String,
    /// Thousandths of a vCPU.
    pub vcpus_milli: i64,
    /// When its container started.
    pub from: Timestamp,
}

/// What a share used in one part of the window. With the first moment an integral that falls in a straight line is
/// exact, but for the part at the window's end.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Thousandths of a vCPU times seconds.
    amount: f64,
    /// The same times seconds since the part began.
    moment: f64,
}

/// How many parts a window has.
const PARTS: f64 = 256.0;

impl Ledger {
    /// Nothing was used.
    pub fn new(window: SignedDuration) -> Self {
        Self { window, open: BTreeMap::new(), past: BTreeMap::new() }
    }

    /// True if what ended then still counts.
    pub fn reaches(&self, until: Timestamp, now: Timestamp) -> bool {
        now.duration_since(until) < self.window
    }

    /// The window is another one from now on. What was used stays as well as the parts of the old one tell.
    pub fn set_window(&mut self, window: SignedDuration) {
        if window == self.window {
            return;
        }
        let (width, past) = (self.width(), std::mem::take(&mut self.past));
        self.window = window;
        for (share, parts) in past {
            for (index, part) in parts {
                let from = index as f64 * width;
                self.fold(&share, part.amount / width, from, from + width);
            }
        }
    }

    /// A pod uses vCPUs from now on; said twice, it counts once.
    pub fn begin(&mut self, pod_uid: &str, used: Use) {
        self.open.insert(pod_uid.to_owned(), used);
    }

    /// True if a pod has begun to use vCPUs and has not ended.
    pub fn is_open(&self, pod_uid: &str) -> bool {
        self.open.contains_key(pod_uid)
    }

    /// A pod uses nothing from then on.
    pub fn end(&mut self, pod_uid: &str, until: Timestamp) {
        if let Some(used) = self.open.remove(pod_uid) {
            self.add(&used, until);
        }
    }

    /// What a pod used that is over. Said twice, it counts twice.
    pub fn add(&mut self, used: &Use, until: Timestamp) {
        self.fold(&used.share, used.vcpus_milli as f64, seconds(used.from), seconds(until));
    }

    /// The average use of each share over the window, in thousandths of a vCPU; a share without any is absent. What
    /// is older than the window is forgotten.
    pub fn averages(&mut self, now: Timestamp) -> BTreeMap<String, f64> {
        let (now, window, width) = (seconds(now), self.window.as_secs_f64(), self.width());
        self.past.retain(|_, parts| {
            parts.retain(|index, _| (*index + 1) as f64 * width > now - window);
            !parts.is_empty()
        });
        let of_part = |(index, part): (&i64, &Part)| {
            let age = now - *index as f64 * width;
            (part.amount * (1.0 - age / window) + part.moment / window).clamp(0.0, part.amount)
        };
        let past = self.past.iter().map(|(share, parts)| (share, parts.iter().map(of_part).sum::<f64>()));
        let open = self.open.values().map(|used| {
            let age = (now - seconds(used.from)).clamp(0.0, window);
            // The integral of 1 - age / window.
            (&used.share, used.vcpus_milli as f64 * (age - age * age / (2.0 * window)))
        });
        let mut averages: BTreeMap<String, f64> = BTreeMap::new();
        for (share, weighted) in past.chain(open).filter(|(_, weighted)| *weighted > 0.0) {
            // Its value for the whole window is half of that.
            let average = weighted / (window / 2.0);
            match averages.get_mut(share) {
                Some(sum) => *sum += average,
                None => drop(averages.insert(share.clone(), average)),
            }
        }
        averages
    }

    fn width(&self) -> f64 {
        self.window.as_secs_f64() / PARTS
    }

    /// Adds a use at this rate, between these seconds since 1970.
    fn fold(&mut self, share: &str, rate: f64, from: f64, until: f64) {
        let width = self.width();
        let from = from.max(until - self.window.as_secs_f64());
        if from >= until {
            return;
        }
        let parts = self.past.entry(share.to_owned()).or_default();
        for index in (from / width).floor() as i64..=(until / width).floor() as i64 {
            let begin = index as f64 * width;
            let (from, until) = (from.max(begin), until.min(begin + width));
            let amount = rate * (until - from).max(0.0);
            let part = parts.entry(index).or_default();
            part.amount += amount;
            part.moment += amount * ((from + until) / 2.0 - begin);
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
