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

use batchyard_core::queue::share::ACTIVE_SHARES;
use batchyard_core::queue::{Candidate, Decisions, Place, Resources, Verdict};
use batchyard_core::waits;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::{Notify, oneshot};

use crate::crd::ComputeEnvironment;

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
    /// The queues whose head waits, by `namespace/name`, and since when they have one that does.
    blocked: BTreeMap<String, Timestamp>,
    /// The active shares of each fair-share queue, by `namespace/name`.
    shares: BTreeMap<String, BTreeSet<String>>,
    /// For what environments got no nodes of late.
    shortages: Vec<Shortage>,
    /// None before the first cycle, which must not be taken for queues in which nobody waits.
    fronts: Option<Fronts>,
    placed: Placed,
    held_back: BTreeMap<String, HeldBack>,
    held_namespaces: BTreeMap<String, HeldBack>,
    refusals: BTreeMap<String, Refusal>,
    /// Environments whose entry in `refusals` has changed.
    news: BTreeSet<String>,
    busy_until: Option<Instant>,
    /// Who wants to know of the line.
    askers: Vec<Asker>,
}

/// The jobs that are next, by their queue's `namespace/name`.
pub(crate) type Fronts = BTreeMap<String, Vec<Next>>;

/// What a cycle found.
struct Found<'c> {
    decisions: &'c Decisions,
    /// RUNNABLE jobs that are not in line, and what they wait for.
    others: &'c BTreeMap<String, waits::Wait>,
    /// The active shares of each fair-share queue.
    shares: BTreeMap<String, BTreeSet<String>>,
}

/// A job that is next in its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The job's uid.
    pub uid: String,
    /// When it came to this place.
    pub since: Timestamp,
}

/// When a job was last placed, by queue and by environment.
#[derive(Default)]
struct Placed {
    queues: BTreeMap<String, Timestamp>,
    environments: BTreeMap<String, Timestamp>,
}

/// Gets the line as the next cycle finds it.
pub(crate) type Asker = oneshot::Sender<Arc<Vec<Place>>>;

/// Why a job is not placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for.
    pub what: waits::Wait,
    /// Since when.
    pub since: Timestamp,
}

/// An environment got no node for a pod like this.
struct Shortage {
    environment: String,
    requests: Resources,
    until: Instant,
}

/// A pod that was asked for and is not seen yet. It takes room already.
#[derive(Clone, Debug)]
pub(crate) struct Creating {
    pub pod: String,
    pub attempt: u32,
    pub placement: u32,
    pub environment: String,
    /// As `namespace/name`.
    pub queue: String,
    pub candidate: Candidate,
    /// When the API server said that the pod exists.
    pub answered: Option<Instant>,
}

/// A job whose last create failed for a reason that may pass, or a namespace that has no room.
#[derive(Clone, Debug)]
struct HeldBack {
    until: Instant,
    failures: u32,
    wait: waits::Wait,
}

/// What the API server said of the pods of an environment, whatever the job.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The member of the environment that it is about.
    pub member: &'static str,
    /// Its words.
    pub why: String,
    /// The environment's generation that it is about.
    generation: Option<i64>,
    until: Instant,
    failures: u32,
}

impl Refusal {
    /// True while it is not worth asking again.
    pub fn is_fresh(&self) -> bool {
        self.until > Instant::now()
    }

    /// What jobs wait for.
    pub fn waits(&self, environment: &str) -> waits::Wait {
        waits::environment_refused(environment, self.member, &self.why)
    }
}

/// Jobs that wait or have a pod at a time, from which on the cluster counts as busy.
const BUSY: usize = 20;
/// How long it counts as busy after that.
const BUSY_FOR: Duration = Duration::from_secs(15);
/// The first and the longest pause after a create that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long an environment that got no node for a pod is not asked for another like it.
const SHORTAGE: Duration = Duration::from_secs(300);
/// How long a namespace whose quota is used up is left alone.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

impl Dispatch {
    /// Something changed that may let a job run: look again.
    pub fn poke(&self) {
        self.wake.notify_one();
    }

    /// What a job waits for, by its object's uid: a job that keeps its queue waiting, or is not in line.
    /// The others wait for their turn: [`Dispatch::turn_of`].
    pub fn waits_for(&self, job_uid: &str) -> Option<Wait> {
        self.lock().waits.get(job_uid).cloned()
    }

    /// What every job waits for of which there is more to say than that it waits for its turn, by its object's uid.
    pub fn all_waits(&self) -> BTreeMap<String, Wait> {
        self.lock().waits.clone()
    }

    /// The wait of a job of this queue, given as `namespace/name`, for its turn, if the queue's head waits.
    pub fn turn_of(&self, queue: &str, runnable_at: Option<Timestamp>) -> Option<Wait> {
        let since = *self.lock().blocked.get(queue)?;
        let name = queue.rsplit('/').next().unwrap_or_default();
        Some(Wait { what: waits::behind_head(name), since: runnable_at.map_or(since, |at| at.max(since)) })
    }

    /// The job at the head of a queue, given as `namespace/name`, by its uid, and since when it is there and waits.
    pub fn head(&self, queue: &str) -> Option<(String, Timestamp)> {
        let state = self.lock();
        let head = state.fronts.as_ref()?.get(queue)?.first()?;
        Some((head.uid.clone(), head.since))
    }

    /// True if the share is active in a queue, given as `namespace/name`, or one more may be.
    pub fn may_be_active(&self, queue: &str, share: &str) -> bool {
        let state = self.lock();
        state.shares.get(queue).is_none_or(|active| active.contains(share) || active.len() < ACTIVE_SHARES)
    }

    /// Why the API server will never accept a job's pod.
    pub fn refused(&self, job_uid: &str) -> Option<String> {
        self.lock().refused.get(job_uid).cloned()
    }

    /// True while a pod of the job may be on its way.
    pub fn is_creating(&self, job_uid: &str) -> bool {
        self.lock().creating.contains_key(job_uid)
    }

    /// The jobs that are next in a queue, given as `namespace/name`, and wait; none before the first cycle.
    pub fn front(&self, queue: &str) -> Option<Vec<Next>> {
        self.lock().fronts.as_ref().map(|fronts| fronts.get(queue).cloned().unwrap_or_default())
    }

    /// When this process last placed a job of a queue, given as `namespace/name`.
    pub fn last_placed_of(&self, queue: &str) -> Option<Timestamp> {
        self.lock().placed.queues.get(queue).copied()
    }

    /// When this process last placed a job in an environment.
    pub fn last_placed_in(&self, environment: &str) -> Option<Timestamp> {
        self.lock().placed.environments.get(environment).copied()
    }

    /// True while so many jobs wait or run that steps of progress are worth saving, and for a
    /// while after.
    pub fn is_busy(&self) -> bool {
        self.lock().busy_until.is_some_and(|until| until > Instant::now())
    }

    /// What the API server says of the pods of an environment as it is now.
    pub fn refusal_of(&self, environment: &ComputeEnvironment) -> Option<Refusal> {
        let state = self.lock();
        let refusal = state.refusals.get(&environment.name_any())?;
        (refusal.generation == environment.metadata.generation).then(|| refusal.clone())
    }

    /// The jobs that wait for their turn, in order, as the next cycle leaves them; nothing if that
    /// cycle fails.
    pub async fn line(&self) -> Option<Arc<Vec<Place>>> {
        let (asker, answer) = oneshot::channel();
        self.lock().askers.push(asker);
        self.poke();
        answer.await.ok()
    }

    /// Names of the pods that may be on their way in an environment.
    pub fn creating_in(&self, environment: &str) -> Vec<String> {
        let state = self.lock();
        let creating = state.creating.values().filter(|creating| creating.environment == environment);
        creating.map(|creating| creating.pod.clone()).collect()
    }

    /// Forgets what was noted about jobs and environments that are gone by now.
    pub fn prune(
        &self,
        job_exists: impl Fn(&str) -> bool,
        queue_exists: impl Fn(&str) -> bool,
        environment_exists: impl Fn(&str) -> bool,
    ) {
        let mut state = self.lock();
        state.waits.retain(|uid, _| job_exists(uid));
        state.refused.retain(|uid, _| job_exists(uid));
        state.held_back.retain(|uid, _| job_exists(uid));
        state.refusals.retain(|name, _| environment_exists(name));
        state.placed.queues.retain(|queue, _| queue_exists(queue));
        state.placed.environments.retain(|name, _| environment_exists(name));
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
    fn created(&self, job_uid: &str, pod: &str, now: Timestamp) {
        let mut state = self.lock();
        state.held_back.remove(job_uid);
        let Some(creating) = state.creating.get_mut(job_uid).filter(|creating| creating.pod == pod) else {
            return;
        };
        creating.answered = Some(Instant::now());
        let (environment, queue) = (creating.environment.clone(), creating.queue.clone());
        state.placed.queues.insert(queue, now);
        state.placed.environments.insert(environment.clone(), now);
        if state.refusals.remove(&environment).is_some() {
            state.news.insert(environment);
        }
    }

    /// The API server takes no pod of this environment because of one of its members. The job may
    /// go elsewhere.
    fn refuse_environment(
        &self,
        job_uid: &str,
        pod: &str,
        environment: &ComputeEnvironment,
        member: &'static str,
        why: String,
    ) {
        let (name, generation) = (environment.name_any(), environment.metadata.generation);
        let mut state = self.lock();
        state.settle(job_uid, pod);
        let known = state.refusals.get(&name).filter(|known| known.generation == generation);
        // Pods that were on their way together were refused together.
        if known.is_some_and(Refusal::is_fresh) {
            return;
        }
        let failures = known.map_or(0, |known| known.failures);
        // Not sooner than people could have mended it.
        let until = Instant::now() + pause(failures.saturating_add(3));
        let refusal = Refusal { member, why, generation, until, failures: failures.saturating_add(1) };
        state.refusals.insert(name.clone(), refusal);
        state.news.insert(name);
    }

    /// The environments about which the API server has said something new.
    fn take_news(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().news)
    }

    /// Those who asked for the line since they were taken last.
    fn take_askers(&self) -> Vec<Asker> {
        std::mem::take(&mut self.lock().askers)
    }

    fn refuse(&self, job_uid: &str, pod: &str, why: String) {
        let mut state = self.lock();
        state.settle(job_uid, pod);
        state.refused.insert(job_uid.to_owned(), why);
    }

    /// The create failed for a reason that may pass.
    fn hold_back(&self, job_uid: &str, pod: &str, wait: waits::Wait) {
        let mut state = self.lock();
        state.settle(job_uid, pod);
        let failures = state.held_back.get(job_uid).map_or(0, |held| held.failures);
        let held =
            HeldBack { until: Instant::now() + pause(failures), failures: failures.saturating_add(1), wait };
        state.held_back.insert(job_uid.to_owned(), held);
    }

    /// A quota of the namespace is used up: none of its jobs is worth a try for a while.
    fn hold_namespace(&self, namespace: &str, wait: waits::Wait) {
        let held = HeldBack { until: Instant::now() + QUOTA_PAUSE, failures: 1, wait };
        self.lock().held_namespaces.insert(namespace.to_owned(), held);
    }

    /// Why a job is not tried now.
    fn held_back(&self, job_uid: &str, namespace: &str) -> Option<waits::Wait> {
        let state = self.lock();
        let held = [state.held_back.get(job_uid), state.held_namespaces.get(namespace)];
        held.into_iter().flatten().find(|held| held.until > Instant::now()).map(|held| held.wait.clone())
    }

    /// For what an environment got no nodes of late.
    fn short_of(&self, environment: &str) -> Vec<Resources> {
        let state = self.lock();
        let short = state.shortages.iter().filter(|shortage| shortage.environment == environment);
        short.map(|shortage| shortage.requests).collect()
    }

    fn creating_of(&self, job_uid: &str) -> Option<Creating> {
        self.lock().creating.get(job_uid).cloned()
    }

    fn creating(&self) -> BTreeMap<String, Creating> {
        self.lock().creating.clone()
    }

    /// Publishes what a cycle found; a wait of the same kind keeps its beginning, and so does a place.
    /// The first cycle goes on from the `remembered` fronts. Returns the queues whose front is another.
    fn publish(&self, found: Found<'_>, remembered: impl FnOnce() -> Fronts, now: Timestamp) -> Vec<String> {
        let Found { decisions, others, shares } = found;
        let mut state = self.lock();
        let known = state.fronts.take().unwrap_or_else(remembered);
        let fronts: Fronts = decisions
            .fronts
            .iter()
            .map(|(id, uids)| (id.clone(), advance(known.get(id).map_or(&[], Vec::as_slice), uids, now)))
            .collect();
        let queues: BTreeSet<_> = fronts.keys().chain(known.keys()).collect();
        let is_other = |id: &&&String| fronts.get(**id) != known.get(**id);
        let changed = queues.iter().filter(is_other).map(|id| (*id).clone()).collect();
        let blocked = fronts.keys().map(|id| (id.clone(), state.blocked.get(id).copied().unwrap_or(now)));
        state.blocked = blocked.collect();
        state.fronts = Some(fronts);
        state.shares = shares;
        let heads = decisions.verdicts.iter().filter_map(|(uid, verdict)| match verdict {
            Verdict::Wait(wait) => Some((uid, wait)),
            Verdict::Admit { .. } => None,
        });
        let mut waits = BTreeMap::new();
        for (uid, wait) in heads.chain(&decisions.stranded).chain(others) {
            let known = state.waits.get(uid).filter(|known| known.what.kind == wait.kind);
            let since = known.map_or(now, |known| known.since);
            waits.insert(uid.clone(), Wait { what: wait.clone(), since });
        }
        state.waits = waits;
        state.note_shortages(&decisions.short_of);
        state.held_namespaces.retain(|_, held| held.until > Instant::now());
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many failures before this one.
fn pause(failures: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << failures.min(5)).min(PAUSES.1)
}

/// Who is next in a queue now, and since when.
fn advance(known: &[Next], uids: &[String], now: Timestamp) -> Vec<Next> {
    let stood = |place: usize, uid: &String| known.get(place).filter(|next| next.uid == *uid);
    let next = uids.iter().enumerate().map(|(place, uid)| Next {
        uid: uid.clone(),
        since: stood(place, uid).map_or(now, |next| next.since),
    });
    next.collect()
}

impl State {
    fn note_shortages(&mut self, short_of: &[(String, Resources)]) {
        let (now, until) = (Instant::now(), Instant::now() + SHORTAGE);
        self.shortages.retain(|shortage| shortage.until > now);
        for (environment, requests) in short_of {
            let (environment, requests) = (environment.clone(), *requests);
            self.shortages.retain(|known| known.environment != environment || known.requests != requests);
            self.shortages.push(Shortage { environment, requests, until });
        }
    }

    fn settle(&mut self, job_uid: &str, pod: &str) {
        if self.creating.get(job_uid).is_some_and(|creating| creating.pod == pod) {
            self.creating.remove(job_uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::index::environment_closed;
    use super::*;
    use serde_json::json;

    fn environment(generation: i64, observed: i64, status: &str) -> ComputeEnvironment {
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": "spot", "generation": generation},
            "spec": {"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": 16}},
            "status": {"observedGeneration": observed, "status": status}});
        serde_json::from_value(object).expect("an environment")
    }

    fn creating(pod: &str) -> Creating {
        let (pod, environment) = (pod.to_owned(), "spot".to_owned());
        let (queue, candidate) = ("ns/q".to_owned(), Candidate::default());
        Creating { pod, attempt: 1, placement: 0, environment, queue, candidate, answered: None }
    }

    fn found<'c>(decisions: &'c Decisions, others: &'c BTreeMap<String, waits::Wait>) -> Found<'c> {
        Found { decisions, others, shares: BTreeMap::new() }
    }

    /// An environment that was edited a moment ago is not used by what was said of it before.
    #[test]
    fn an_environment_takes_jobs_once_its_change_is_looked_at() {
        let dispatch = Dispatch::default();
        let closed = |generation, observed, status| {
            environment_closed(&environment(generation, observed, status), &dispatch)
        };
        assert_eq!(closed(2, 2, "VALID"), None);
        assert_eq!(closed(3, 2, "VALID"), Some(waits::environment_settling("spot")));
        assert_eq!(closed(3, 3, "INVALID"), Some(waits::environment_closed("spot")));
    }

    /// What the API server said of an environment's pods counts for a while and for this spec, and
    /// is forgotten with the first pod that it takes.
    #[test]
    fn an_environment_whose_pods_are_refused_is_left_alone_for_a_while() {
        let dispatch = Dispatch::default();
        let spot = environment(2, 2, "VALID");
        let refuse = |uid: &str| {
            dispatch.assume(uid, creating(uid));
            let (member, why) = ("podDefaults.priorityClassName", "no such class".to_owned());
            dispatch.refuse_environment(uid, uid, &spot, member, why);
        };
        refuse("a");
        refuse("b");
        assert!(!dispatch.is_creating("a") && !dispatch.is_creating("b"));
        assert_eq!(dispatch.lock().refusals["spot"].failures, 1, "refused together counts once");
        assert_eq!(dispatch.take_news().into_iter().collect::<Vec<_>>(), ["spot"]);
        assert!(dispatch.take_news().is_empty());
        let says = environment_closed(&spot, &dispatch).expect("closed");
        let says = says.text;
        assert!(says.contains("spot") && says.contains("podDefaults.priorityClassName"), "{says}");
        assert_eq!(environment_closed(&environment(3, 3, "VALID"), &dispatch), None, "it was mended");

        // After a while it is tried again, although its status says INVALID by then.
        let told = environment(2, 2, "INVALID");
        assert!(environment_closed(&told, &dispatch).is_some());
        dispatch.lock().refusals.get_mut("spot").expect("known").until = Instant::now();
        assert_eq!(environment_closed(&told, &dispatch), None);
        dispatch.assume("a", creating("a"));
        dispatch.created("a", "a", Timestamp::UNIX_EPOCH);
        assert_eq!(dispatch.last_placed_of("ns/q"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(dispatch.last_placed_in("spot"), Some(Timestamp::UNIX_EPOCH));
        assert!(dispatch.refusal_of(&spot).is_none());
        assert_eq!(dispatch.take_news().len(), 1, "its controller says VALID again");
        assert_eq!(dispatch.creating_in("spot"), ["a"]);
        assert!(dispatch.creating_in("other").is_empty());
    }

    /// Who stays at a place has been there since it came; whoever is told of a front is told of each change.
    #[test]
    fn a_place_at_the_front_is_kept_until_somebody_else_has_it() {
        let dispatch = Dispatch::default();
        let at = |seconds| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let cycle = |uids: &[&str], now| {
            let front: Vec<_> = uids.iter().map(|uid| (*uid).to_owned()).collect();
            let fronts = if front.is_empty() { [].into() } else { [("ns/q".to_owned(), front)].into() };
            let before = || [("ns/q".to_owned(), vec![Next { uid: "a".into(), since: at(0) }])].into();
            let decisions = Decisions { fronts, ..Decisions::default() };
            let told = dispatch.publish(found(&decisions, &BTreeMap::new()), before, at(now));
            let front = dispatch.front("ns/q").expect("a cycle has run");
            (told == ["ns/q"], front.iter().map(|next| next.since.as_second()).collect::<Vec<_>>())
        };
        assert_eq!(dispatch.front("ns/q"), None, "before the first cycle nobody knows");
        assert_eq!(cycle(&["a"], 0), (false, vec![0]), "as it was before the start");
        assert_eq!(cycle(&["x", "b", "c"], 1), (true, vec![1, 1, 1]));
        assert_eq!(cycle(&["a", "b", "c"], 1), (true, vec![1, 1, 1]));
        assert_eq!(cycle(&["a", "b", "c"], 2), (false, vec![1, 1, 1]));
        assert_eq!(cycle(&["a", "c"], 3), (true, vec![1, 3]));
        assert_eq!(cycle(&["b", "a", "c"], 4), (true, vec![4, 4, 4]));
        assert_eq!(cycle(&[], 5), (true, vec![]));
        assert_eq!(cycle(&[], 6), (false, vec![]));
    }

    #[test]
    fn a_share_more_than_may_be_active_waits() {
        let dispatch = Dispatch::default();
        assert!(dispatch.may_be_active("ns/q", "new"), "before the first cycle nobody knows");
        let active = (0..ACTIVE_SHARES).map(|n| n.to_string()).collect();
        let shares = [("ns/q".to_owned(), active)].into();
        let (decisions, others) = (Decisions::default(), BTreeMap::new());
        let found = Found { shares, ..found(&decisions, &others) };
        dispatch.publish(found, BTreeMap::new, Timestamp::UNIX_EPOCH);
        assert!(!dispatch.may_be_active("ns/q", "new") && dispatch.may_be_active("ns/q", "7"));
        assert!(dispatch.may_be_active("ns/other", "new"));
    }

    /// Nothing is remembered of jobs and environments that are gone, whatever came last.
    #[test]
    fn memory_goes_with_the_objects() {
        let dispatch = Dispatch::default();
        for uid in ["gone", "here"] {
            dispatch.hold_back(uid, uid, waits::last_pod());
            dispatch.refuse(uid, uid, "never".into());
            let others = [(uid.to_owned(), waits::last_pod())].into();
            dispatch.publish(found(&Decisions::default(), &others), BTreeMap::new, Timestamp::now());
        }
        let spot = environment(1, 1, "VALID");
        dispatch.refuse_environment("gone", "gone", &spot, "network", "no".into());
        dispatch.prune(|uid| uid == "here", |_| false, |_| false);
        let state = dispatch.lock();
        assert_eq!((state.held_back.len(), state.refused.len(), state.waits.len()), (1, 1, 1));
        assert!(state.refusals.is_empty());
    }
}
