//! The dispatcher: one task, on the leader only, that decides across all queues which job runs
//! next and makes its pod. Nobody else makes attempt pods.
//!
//! [`index`] folds the caches into what a cycle decides on, [`cycle`] runs one and carries it out,
//! and [`Dispatch`] is what others may see: verdicts, read-only, in memory. They are lost with the
//! process and rebuilt after it.

pub mod cycle;
pub mod index;
pub mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::queue::{Candidate, Verdict};
use jiff::Timestamp;
use tokio::sync::Notify;

/// The dispatcher as others see it, cheap to clone.
#[derive(Clone, Default)]
pub struct Dispatch {
    inner: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    waits: BTreeMap<String, Wait>,
    refused: BTreeMap<String, String>,
    creating: BTreeMap<String, Creating>,
    blocked_queues: BTreeSet<String>,
    held_back: BTreeMap<String, HeldBack>,
}

/// Why a job is not placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for, for people.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
}

/// A pod that was asked for and is not seen yet. It takes room already.
#[derive(Clone, Debug)]
pub(crate) struct Creating {
    pub pod: String,
    pub attempt: u32,
    pub placement: u32,
    pub environment: String,
    pub candidate: Candidate,
}

/// A job whose last create failed for a reason that may pass.
#[derive(Clone, Debug)]
struct HeldBack {
    until: Instant,
    failures: u32,
    since: Timestamp,
    text: String,
}

impl Dispatch {
    /// Something changed that may let a job run: look again.
    pub fn poke(&self) {
        self.wake.notify_one();
    }

    /// What a job waits for, by its object's uid.
    pub fn waits_for(&self, job_uid: &str) -> Option<Wait> {
        self.lock().waits.get(job_uid).cloned()
    }

    /// Why the API server will never accept a job's pod.
    pub fn refused(&self, job_uid: &str) -> Option<String> {
        self.lock().refused.get(job_uid).cloned()
    }

    /// True while a pod of the job may be on its way.
    pub fn is_creating(&self, job_uid: &str) -> bool {
        self.lock().creating.contains_key(job_uid)
    }

    /// True if jobs already wait in this queue, given as `namespace/name`.
    pub fn is_blocked(&self, queue: &str) -> bool {
        self.lock().blocked_queues.contains(queue)
    }

    /// The job is over or gone.
    pub fn forget(&self, job_uid: &str) {
        let mut state = self.lock();
        state.waits.remove(job_uid);
        state.refused.remove(job_uid);
        state.held_back.remove(job_uid);
    }

    async fn poked(&self) {
        self.wake.notified().await;
    }

    /// Takes room for a pod before it is asked for.
    fn assume(&self, job_uid: &str, creating: Creating) {
        let mut state = self.lock();
        state.waits.remove(job_uid);
        state.creating.insert(job_uid.to_owned(), creating);
    }

    /// The pod is seen, or will not come.
    fn settle(&self, job_uid: &str) {
        self.lock().creating.remove(job_uid);
    }

    fn created(&self, job_uid: &str) {
        self.lock().held_back.remove(job_uid);
    }

    fn refuse(&self, job_uid: &str, why: String) {
        let mut state = self.lock();
        state.creating.remove(job_uid);
        state.refused.insert(job_uid.to_owned(), why);
    }

    /// The create failed for a reason that may pass. Returns since when it fails.
    fn hold_back(&self, job_uid: &str, text: String, now: Timestamp) -> Timestamp {
        let mut state = self.lock();
        state.creating.remove(job_uid);
        let known = state.held_back.get(job_uid);
        let failures = known.map_or(1, |held| held.failures.saturating_add(1));
        let since = known.map_or(now, |held| held.since);
        let pause =
            Duration::from_millis(500).saturating_mul(1 << failures.min(6)).min(Duration::from_secs(30));
        let until = Instant::now() + pause;
        state.held_back.insert(job_uid.to_owned(), HeldBack { until, failures, since, text });
        since
    }

    fn held_back(&self, job_uid: &str) -> Option<String> {
        let state = self.lock();
        state.held_back.get(job_uid).filter(|held| held.until > Instant::now()).map(|held| held.text.clone())
    }

    fn creating(&self) -> BTreeMap<String, Creating> {
        self.lock().creating.clone()
    }

    /// Publishes what a cycle found; a wait whose text stays keeps its beginning.
    fn publish(
        &self,
        verdicts: &BTreeMap<String, Verdict>,
        blocked_queues: BTreeSet<String>,
        now: Timestamp,
    ) {
        let mut state = self.lock();
        let mut waits = BTreeMap::new();
        for (uid, verdict) in verdicts {
            if let Verdict::Wait(text) = verdict {
                let known = state.waits.remove(uid).filter(|wait| wait.text == *text);
                let wait = known.unwrap_or_else(|| Wait { text: text.clone(), since: now });
                waits.insert(uid.clone(), wait);
            }
        }
        state.waits = waits;
        state.blocked_queues = blocked_queues;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
