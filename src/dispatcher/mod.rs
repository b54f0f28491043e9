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
    held_namespaces: BTreeMap<String, HeldBack>,
    busy_until: Option<Instant>,
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
    /// When the API server said that the pod exists.
    pub answered: Option<Instant>,
}

/// A job whose last create failed for a reason that may pass, or a namespace that has no room.
#[derive(Clone, Debug)]
struct HeldBack {
    until: Instant,
    failures: u32,
    text: String,
}

/// Jobs that wait or have a pod at a time, from which on the cluster counts as busy.
const BUSY: usize = 20;
/// How long it counts as busy after that.
const BUSY_FOR: Duration = Duration::from_secs(15);
/// The first and the longest pause after a create that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a namespace whose quota is used up is left alone.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

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

    /// True while so many jobs wait or run that steps of progress are worth saving, and for a
    /// while after.
    pub fn is_busy(&self) -> bool {
        self.lock().busy_until.is_some_and(|until| until > Instant::now())
    }

    /// The job is over or gone.
    pub fn forget(&self, job_uid: &str) {
        let mut state = self.lock();
        state.waits.remove(job_uid);
        state.refused.remove(job_uid);
        state.held_back.remove(job_uid);
    }

    fn note_load(&self, open_jobs: usize) {
        if open_jobs >= BUSY {
            self.lock().busy_until = Some(Instant::now() + BUSY_FOR);
        }
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

    /// The pod is seen, or will not come. A late word on an earlier pod changes nothing.
    fn settle(&self, job_uid: &str, pod: &str) {
        self.lock().settle(job_uid, pod);
    }

    /// The API server says that the pod exists; the watch will show it.
    fn created(&self, job_uid: &str, pod: &str) {
        let mut state = self.lock();
        state.held_back.remove(job_uid);
        if let Some(creating) = state.creating.get_mut(job_uid).filter(|creating| creating.pod == pod) {
            creating.answered = Some(Instant::now());
        }
    }

    fn refuse(&self, job_uid: &str, pod: &str, why: String) {
        let mut state = self.lock();
        state.settle(job_uid, pod);
        state.refused.insert(job_uid.to_owned(), why);
    }

    /// The create failed for a reason that may pass.
    fn hold_back(&self, job_uid: &str, pod: &str, text: String) {
        let mut state = self.lock();
        state.settle(job_uid, pod);
        let failures = state.held_back.get(job_uid).map_or(0, |held| held.failures);
        let pause = PAUSES.0.saturating_mul(1 << failures.min(5)).min(PAUSES.1);
        let held = HeldBack { until: Instant::now() + pause, failures: failures.saturating_add(1), text };
        state.held_back.insert(job_uid.to_owned(), held);
    }

    /// A quota of the namespace is used up: none of its jobs is worth a try for a while.
    fn hold_namespace(&self, namespace: &str, text: String) {
        let held = HeldBack { until: Instant::now() + QUOTA_PAUSE, failures: 1, text };
        self.lock().held_namespaces.insert(namespace.to_owned(), held);
    }

    /// Why a job is not tried now.
    fn held_back(&self, job_uid: &str, namespace: &str) -> Option<String> {
        let state = self.lock();
        let held = [state.held_back.get(job_uid), state.held_namespaces.get(namespace)];
        held.into_iter().flatten().find(|held| held.until > Instant::now()).map(|held| held.text.clone())
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
        state.held_namespaces.retain(|_, held| held.until > Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, job_uid: &str, pod: &str) {
        if self.creating.get(job_uid).is_some_and(|creating| creating.pod == pod) {
            self.creating.remove(job_uid);
        }
    }
}
