//! Shares of fair-share queues as a cycle sees them: which are active, and what each uses and used.
//!
//! Nothing of it is stored: what a job used stands in its status, so that a restart knows it again for as long as
//! the job's object exists.

use std::collections::{BTreeSet, HashMap};

use batchyard_core::job::phase::Phase;
use batchyard_core::queue::{Ledger, Policy, Queue, Shares, Use};
use jiff::Timestamp;
use kube::ResourceExt;

use super::plan;
use crate::crd::{BatchJob, JobQueue, SchedulingPolicy};
use crate::dispatcher::Dispatch;
use crate::k8s::caches::Caches;

/// How the queue's shares divide it; nothing for a FIFO queue, and for one whose policy is missing.
pub(super) fn of(queue: &JobQueue, caches: &Caches) -> Option<Shares> {
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

/// What the jobs of each fair-share queue used, by the queue's `namespace/name`.
#[derive(Default)]
pub(super) struct Usages {
    ledgers: HashMap<String, Ledger>,
    /// Pods that run, as far as this cycle has seen.
    running: BTreeSet<String>,
}

impl Usages {
    /// Notes what a job of a queue uses and used.
    pub(super) fn note(
        &mut self,
        job: &BatchJob,
        uid: &str,
        queue: &mut Queue,
        caches: &Caches,
        dispatch: &Dispatch,
        now: Timestamp,
    ) {
        let Some(shares) = &mut queue.shares else { return };
        let share = job.spec.share_identifier.clone().unwrap_or_default();
        let Some(record) = job.status.as_ref().map(|status| &status.record) else { return };
        // One that was not accepted makes no share active, or no share would ever be one too many.
        if !record.phase().is_terminal() && record.phase() > Phase::Submitted {
            let usage = shares.active.entry(share.clone()).or_default();
            let pods = caches.pods.of_job(uid);
            usage.now_milli +=
                pods.iter().filter(|pod| !pod.finished).map(|pod| pod.vcpus_milli).sum::<i64>();
            usage.now_milli += dispatch.creating_of(uid).map_or(0, |creating| creating.candidate.vcpus_milli);
        }
        let ledger = self.ledgers.entry(queue.id.clone()).or_default();
        let window = shares.policy.window();
        let mut uses = Vec::new();
        for attempt in &record.attempts {
            let (Some(from), Some(until)) = (attempt.started_at, attempt.stopped_at) else { continue };
            if now.duration_since(until) < window && !ledger.is_closed(&attempt.pod_uid) {
                uses.push((&attempt.pod_uid, from, Some(until)));
            }
        }
        if let Some((current, from)) = record.current.as_ref().and_then(|c| Some((c, c.started_at?))) {
            self.running.insert(current.pod_uid.clone());
            if !ledger.knows(&current.pod_uid) {
                uses.push((&current.pod_uid, from, None));
            }
        }
        let Some(plan) = (!uses.is_empty()).then(|| plan(job, caches)).flatten() else { return };
        let Ok(effective) = &plan.effective else { return };
        for (pod, from, until) in uses {
            let (share, vcpus_milli) = (share.clone(), effective.amounts.vcpus_milli);
            ledger.note(pod, Use { share, vcpus_milli, from, until });
        }
    }

    /// Tells each fair-share queue what its shares used.
    pub(super) fn tell(&mut self, queues: &mut [Queue], now: Timestamp) {
        self.ledgers.retain(|id, _| queues.iter().any(|queue| queue.id == *id && queue.shares.is_some()));
        for queue in queues {
            let Some(shares) = &mut queue.shares else { continue };
            let Some(ledger) = self.ledgers.get_mut(&queue.id) else { continue };
            let window = shares.policy.window();
            ledger.close_all_but(&self.running, now);
            ledger.prune(window, now);
            for (share, average) in ledger.averages(window, now) {
                shares.active.entry(share).or_default().past_milli = average;
            }
        }
        self.running.clear();
    }
}
