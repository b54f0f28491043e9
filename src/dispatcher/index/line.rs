//! What the jobs of one queue come to: who waits, how many run, and what its shares use and used.
//!
//! Nothing of it is stored: what a job used stands in its status, so that a restart knows it again for as long as
//! the job's object exists.

use std::collections::BTreeMap;

use batchyard_core::job::record::Record;
use batchyard_core::queue::{Ledger, Policy, Queue, Shares, Use, Waiting};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::crd::{JobQueue, SchedulingPolicy};
use crate::k8s::caches::Caches;

/// What the jobs of one queue come to.
#[derive(Default)]
pub(super) struct Line {
    pub(super) waiting: Waiting,
    pub(super) running: u32,
    /// What its jobs used; `None` for a FIFO queue, where nobody asks.
    pub(super) ledger: Option<Ledger>,
    /// The jobs of each share that have not ended, and what they use.
    shares: BTreeMap<String, (u32, i64)>,
}

/// What a job adds to its share.
pub(super) struct Load {
    pub(super) share: String,
    /// Thousandths of a vCPU.
    pub(super) now_milli: i64,
}

impl Line {
    /// The queue divides its room among shares, or does not any more.
    pub(super) fn set_policy(&mut self, shares: Option<&Shares>) {
        match (shares, &mut self.ledger) {
            (None, _) => self.ledger = None,
            (Some(shares), Some(ledger)) => ledger.set_window(shares.policy.window()),
            (Some(shares), None) => self.ledger = Some(Ledger::new(shares.policy.window())),
        }
    }

    pub(super) fn add(&mut self, load: &Load) {
        let (jobs, now_milli) = match self.shares.get_mut(&load.share) {
            Some(share) => share,
            None => self.shares.entry(load.share.clone()).or_default(),
        };
        *jobs += 1;
        *now_milli += load.now_milli;
    }

    pub(super) fn remove(&mut self, load: &Load) {
        let Some((jobs, now_milli)) = self.shares.get_mut(&load.share) else { return };
        *jobs -= 1;
        *now_milli -= load.now_milli;
        if *jobs == 0 {
            self.shares.remove(&load.share);
        }
    }

    /// Notes what a job used and uses, of which so many attempts and this running pod are known. Returns what is
    /// known afterwards.
    pub(super) fn note_use(
        &mut self,
        record: &Record,
        share: &str,
        (counted, open): (usize, Option<String>),
        mut vcpus_milli: impl FnMut() -> Option<i64>,
        now: Timestamp,
    ) -> (usize, Option<String>) {
        let Some(ledger) = &mut self.ledger else { return (0, None) };
        for attempt in record.attempts.iter().skip(counted) {
            let (Some(from), Some(until)) = (attempt.started_at, attempt.stopped_at) else { continue };
            if ledger.is_open(&attempt.pod_uid) {
                ledger.end(&attempt.pod_uid, until);
            } else if ledger.reaches(until, now)
                && let Some(vcpus_milli) = vcpus_milli()
            {
                ledger.add(&Use { share: share.to_owned(), vcpus_milli, from }, until);
            }
        }
        let current = record.current.as_ref().and_then(|current| Some((current, current.started_at?)));
        if let Some(open) = open.filter(|open| current.is_none_or(|(current, _)| current.pod_uid != *open)) {
            // It ended, and no attempt tells when.
            ledger.end(&open, now);
        }
        let open = current.and_then(|(current, from)| {
            if !ledger.is_open(&current.pod_uid) {
                let vcpus_milli = vcpus_milli()?;
                ledger.begin(&current.pod_uid, Use { share: share.to_owned(), vcpus_milli, from });
            }
            Some(current.pod_uid.clone())
        });
        (record.attempts.len().max(counted), open)
    }

    /// Tells a queue what its jobs come to.
    pub(super) fn tell(&mut self, queue: &mut Queue, now: Timestamp) {
        (queue.waiting, queue.running) = (self.waiting.clone(), self.running);
        let Some((shares, ledger)) = queue.shares.as_mut().zip(self.ledger.as_mut()) else { return };
        for (share, (_, now_milli)) in &self.shares {
            shares.active.entry(share.clone()).or_default().now_milli = *now_milli;
        }
        for (share, average) in ledger.averages(now) {
            shares.active.entry(share).or_default().past_milli = average;
        }
    }
}

/// How the queue's shares divide it; nothing for a FIFO queue, and for one whose policy is missing.
pub(super) fn shares(queue: &JobQueue, caches: &Caches) -> Option<Shares> {
    let reference = queue.spec.scheduling_policy_arn.as_deref()?;
    let policy = caches.policy(&queue.namespace().unwrap_or_default(), reference)?;
    Some(Shares { policy: self::policy(&policy), ..Shares::default() })
}

/// A policy as the core has it.
fn policy(object: &SchedulingPolicy) -> Policy {
    let wire = object.spec.fairshare_policy.clone().unwrap_or_default();
    let share = |share: crate::crd::scheduling_policy::ShareAttributes| {
        (share.share_identifier, share.weight_factor.unwrap_or(1.0))
    };
    Policy {
        decay_seconds: wire.share_decay_seconds.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        reservation: wire.compute_reservation.and_then(|n| u8::try_from(n).ok()).unwrap_or(0).min(99),
        distribution: wire.share_distribution.into_iter().map(share).collect(),
    }
}
