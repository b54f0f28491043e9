//! The dispatcher: one task, on the leader only, that decides across all queues which job runs
//! next and makes its pod. Nobody else makes attempt pods.
//!
//! [`index`] folds the caches into what a cycle decides on, [`cycle`] runs one and carries it out,
//! and [`Dispatch`] is what others may see: verdicts, read-only, in memory. They are lost with the
//! process and rebuilt after it.

pub mod cycle;
pub mod index;
mod logging;
pub mod place;
mod rights;
mod setbacks;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::queue::share::ACTIVE_SHARES;
use batchyard_core::queue::{Candidate, Decisions, Place, Resources, Verdict};
use batchyard_core::{name, waits};
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use setbacks::{HeldBack, Refusal};

use crate::k8s::marks::Marks;

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
    /// The jobs about which something changed, for the index.
    changed: Marks,
    /// The queues whose head waits, by `namespace/name`, and since when they have one that does.
    waiting: BTreeMap<String, Timestamp>,
    /// The job that blocks each queue, by `namespace/name`: its wait has a code.
    blocking: BTreeMap<String, String>,
    /// The active shares of each fair-share queue, by `namespace/name`.
    shares: BTreeMap<String, BTreeSet<String>>,
    /// For what environments got no nodes of late.
    shortages: Vec<Shortage>,
    /// `None` before the first cycle, which must not be taken for queues in which nobody waits.
    fronts: Option<Fronts>,
    placed: Placed,
    held_back: BTreeMap<String, HeldBack>,
    held_namespaces: BTreeMap<String, HeldBack>,
    refusals: BTreeMap<String, Refusal>,
    /// Environments whose entry in `refusals` has changed.
    news: BTreeSet<String>,
    busy_until: Option<Instant>,
    /// How many jobs have a pod.
    running: u32,
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
    /// The job's uid, or the child of an array: see [`name::part`].
    pub key: String,
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
    /// What the job waited for until then.
    pub waited: Option<Wait>,
}

/// Jobs that wait or have a pod at a time, from which on the cluster counts as busy.
const BUSY: usize = 20;
/// So many jobs that run make a step of progress wait for so much longer, and never longer than that.
const PATIENT: u32 = 200;
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(12));
/// How long it counts as busy after that.
const BUSY_FOR: Duration = Duration::from_secs(15);
/// How long an environment that got no node for a pod is not asked for another like it.
const SHORTAGE: Duration = Duration::from_secs(300);

impl Dispatch {
    /// Something changed that may let a job run: look again.
    pub fn poke(&self) {
        self.wake.notify_one();
    }

    /// What a job or a child waits for, by its key ([`name::part`]): a job that keeps its queue waiting, or is not in line.
    /// The others wait for their turn: [`Dispatch::turn_of`].
    pub fn waits_for(&self, key: &str) -> Option<Wait> {
        self.lock().waits.get(key).cloned()
    }

    /// What the first child of an array waits for of which there is something to say. One that blocks the queue comes
    /// before others, which may wait for no more than the room that it has.
    pub fn child_waits_for(&self, job_uid: &str) -> Option<Wait> {
        let state = self.lock();
        let children = state.waits.range(children_of(job_uid)).map(|(_, wait)| wait);
        children.min_by_key(|wait| wait.what.kind.code().is_none()).cloned()
    }

    /// What every job waits for of which there is more to say than that it waits for its turn, by its object's uid.
    pub fn all_waits(&self) -> BTreeMap<String, Wait> {
        self.lock().waits.clone()
    }

    /// The wait of a job of this queue, given as `namespace/name`, for its turn, if the queue's head waits.
    pub fn turn_of(&self, queue: &str, runnable_at: Option<Timestamp>) -> Option<Wait> {
        let since = *self.lock().waiting.get(queue)?;
        let name = queue.rsplit('/').next().unwrap_or_default();
        Some(Wait { what: waits::behind_head(name), since: runnable_at.map_or(since, |at| at.max(since)) })
    }

    /// The job at the head of a queue, given as `namespace/name`, by its key, and since when it is there and waits.
    pub fn head(&self, queue: &str) -> Option<(String, Timestamp)> {
        let state = self.lock();
        let head = state.fronts.as_ref()?.get(queue)?.first()?;
        Some((head.key.clone(), head.since))
    }

    /// The job that blocks a queue, given as `namespace/name`, by its key, and what it waits for: its head, or one
    /// whose pod waits for a node in vain.
    pub fn blocking(&self, queue: &str) -> Option<(String, Wait)> {
        let state = self.lock();
        let uid = state.blocking.get(queue)?;
        Some((uid.clone(), state.waits.get(uid)?.clone()))
    }

    /// True if the share is active in a queue, given as `namespace/name`, or one more may be.
    pub fn may_be_active(&self, queue: &str, share: &str) -> bool {
        let state = self.lock();
        state.shares.get(queue).is_none_or(|active| active.contains(share) || active.len() < ACTIVE_SHARES)
    }

    /// True while a pod of the job, or of the child that the key names, may be on its way.
    pub fn is_creating(&self, key: &str) -> bool {
        self.lock().creating.contains_key(key)
    }

    /// The children of an array whose pods may be on their way.
    pub fn creating_children(&self, job_uid: &str) -> Vec<u32> {
        let state = self.lock();
        state.creating.range(children_of(job_uid)).filter_map(|(key, _)| name::whole(key).1).collect()
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

    /// How long a step of progress has to last to be worth a write, while so many jobs wait or run that writes are
    /// worth saving, and for a while after: `at_least` so long, and the longer the more jobs run.
    pub fn patience(&self, at_least: Duration) -> Option<Duration> {
        let state = self.lock();
        let more = PATIENCE.0.saturating_mul(state.running / PATIENT).min(PATIENCE.1);
        let is_busy = state.busy_until.is_some_and(|until| until > Instant::now());
        is_busy.then_some(if at_least.is_zero() { at_least } else { at_least + more })
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
        let job_exists = |key: &String| job_exists(name::whole(key).0);
        state.waits.retain(|key, _| job_exists(key));
        state.refused.retain(|key, _| job_exists(key));
        state.held_back.retain(|key, _| job_exists(key));
        state.refusals.retain(|name, _| environment_exists(name));
        state.placed.queues.retain(|queue, _| queue_exists(queue));
        state.placed.environments.retain(|name, _| environment_exists(name));
    }

    /// The job is over or gone.
    pub fn forget(&self, job_uid: &str) {
        let mut state = self.lock();
        remove_job(&mut state.waits, job_uid);
        remove_job(&mut state.refused, job_uid);
        remove_job(&mut state.held_back, job_uid);
        state.changed.mark(job_uid);
    }

    /// The jobs about which something changed here since they were taken last.
    fn take_changed(&self) -> HashSet<String> {
        let changed = self.lock().changed.clone();
        changed.take()
    }

    fn note_load(&self, waiting: usize, running: u32) {
        let mut state = self.lock();
        state.running = running;
        if waiting + running as usize >= BUSY {
            state.busy_until = Some(Instant::now() + BUSY_FOR);
        }
    }

    async fn poked(&self) {
        self.wake.notified().await;
    }

    /// Takes room for a pod before it is asked for.
    fn assume(&self, key: &str, creating: Creating) {
        let mut state = self.lock();
        let waited = state.waits.remove(key);
        state.creating.insert(key.to_owned(), Creating { waited, ..creating });
        state.changed.mark(name::whole(key).0);
    }

    /// A multi-node job has room: it waits for nothing but its pods.
    fn forget_wait(&self, job_uid: &str) {
        self.lock().waits.remove(job_uid);
    }

    /// True once the API server said that this pod, which is not seen yet, exists.
    fn is_answered(&self, key: &str, pod: &str) -> bool {
        let state = self.lock();
        state.creating.get(key).is_some_and(|creating| creating.pod == pod && creating.answered.is_some())
    }

    /// The pod is seen, or will not come. A late word on an earlier pod changes nothing.
    fn settle(&self, job_uid: &str, pod: &str) {
        self.lock().settle(job_uid, pod);
    }

    /// The API server says that the pod exists; the watch will show it.
    fn created(&self, job_uid: &str, pod: &str, now: Timestamp) {
        let mut state = self.lock();
        state.held_back.remove(job_uid);
        state.held_back.remove(name::whole(job_uid).0);
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

    /// Those who asked for the line since they were taken last.
    fn take_askers(&self) -> Vec<Asker> {
        std::mem::take(&mut self.lock().askers)
    }

    /// For what an environment got no nodes of late.
    fn short_of(&self, environment: &str) -> Vec<Resources> {
        let state = self.lock();
        let short = state.shortages.iter().filter(|shortage| shortage.environment == environment);
        short.map(|shortage| shortage.requests).collect()
    }

    /// The pods of a job that may be on their way, with the indexes of the children that they are for.
    fn creating_of(&self, job_uid: &str) -> Vec<(Option<u32>, Creating)> {
        let state = self.lock();
        let children = state.creating.range(children_of(job_uid));
        let own = state.creating.get_key_value(job_uid).into_iter();
        own.chain(children).map(|(key, creating)| (name::whole(key).1, creating.clone())).collect()
    }

    fn creating(&self) -> BTreeMap<String, Creating> {
        self.lock().creating.clone()
    }

    /// Publishes what a cycle found; a wait of the same kind keeps its beginning, and so does a place.
    /// The first cycle goes on from the `remembered` fronts. Returns the queues of which there is something new.
    fn publish(&self, found: Found<'_>, remembered: impl FnOnce() -> Fronts, now: Timestamp) -> Vec<String> {
        let Found { decisions, others, shares } = found;
        let mut state = self.lock();
        let known = state.fronts.take().unwrap_or_else(remembered);
        let fronts: Fronts = decisions
            .fronts
            .iter()
            .map(|(id, uids)| (id.clone(), advance(known.get(id).map_or(&[], Vec::as_slice), uids, now)))
            .collect();
        let blocking = blocking(decisions);
        let queues = fronts.keys().chain(known.keys()).chain(blocking.keys()).chain(state.blocking.keys());
        let is_new = |id: &&&String| {
            fronts.get(**id) != known.get(**id) || blocking.get(**id) != state.blocking.get(**id)
        };
        let queues: BTreeSet<_> = queues.collect();
        let news = queues.iter().filter(is_new).map(|id| (*id).clone()).collect();
        let waiting = fronts.keys().map(|id| (id.clone(), state.waiting.get(id).copied().unwrap_or(now)));
        state.waiting = waiting.collect();
        (state.fronts, state.shares, state.blocking) = (Some(fronts), shares, blocking);
        let heads = decisions.verdicts.iter().filter_map(|(uid, verdict)| match verdict {
            Verdict::Wait(wait) => Some((uid, wait)),
            Verdict::Admit { .. } => None,
        });
        let stranded = decisions.stranded.iter().map(|(uid, stranded)| (uid, &stranded.wait));
        let mut waits = BTreeMap::new();
        for (uid, wait) in heads.chain(stranded).chain(others) {
            let known = state.waits.get(uid).filter(|known| known.what.kind == wait.kind);
            let since = known.map_or(now, |known| known.since);
            waits.insert(uid.clone(), Wait { what: wait.clone(), since });
        }
        // What is admitted may fail for what it waited for, and then has waited since it began to.
        let admitted =
            decisions.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Admit { .. }));
        waits.extend(admitted.filter_map(|(key, _)| state.waits.remove_entry(key)));
        state.waits = waits;
        state.note_shortages(&decisions.short_of);
        state.held_namespaces.retain(|_, held| held.is_on().is_some());
        news
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of the children of an array, which stand together: `:` comes before `;`.
fn children_of(job_uid: &str) -> Range<String> {
    format!("{job_uid}:")..format!("{job_uid};")
}

/// Forgets a job and its children.
fn remove_job<T>(map: &mut BTreeMap<String, T>, job_uid: &str) {
    map.remove(job_uid);
    let children: Vec<_> = map.range(children_of(job_uid)).map(|(key, _)| key.clone()).collect();
    children.iter().for_each(|key| drop(map.remove(key)));
}

/// The job that blocks each queue: of those that wait for nodes in vain the first, else its head.
fn blocking(decisions: &Decisions) -> BTreeMap<String, String> {
    let head = |(queue, front): (&String, &Vec<String>)| {
        let uid = front.first()?;
        let Some(Verdict::Wait(wait)) = decisions.verdicts.get(uid) else { return None };
        wait.kind.code().map(|_| (queue.clone(), uid.clone()))
    };
    let stranded = decisions.stranded.iter().rev().map(|(uid, found)| (found.queue.clone(), uid.clone()));
    decisions.fronts.iter().filter_map(head).chain(stranded).collect()
}

/// Who is next in a queue now, and since when.
fn advance(known: &[Next], keys: &[String], now: Timestamp) -> Vec<Next> {
    let stood = |place: usize, key: &String| known.get(place).filter(|next| next.key == *key);
    let next = keys.iter().enumerate().map(|(place, key)| Next {
        key: key.clone(),
        since: stood(place, key).map_or(now, |next| next.since),
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

    /// The pod will not come. A wait for what stands in its way has begun before it was tried.
    fn fail(&mut self, job_uid: &str, pod: &str) {
        let creating = self.creating.get_mut(job_uid).filter(|creating| creating.pod == pod);
        if let Some(waited) = creating.and_then(|creating| creating.waited.take()) {
            self.waits.insert(job_uid.to_owned(), waited);
        }
        self.settle(job_uid, pod);
    }

    fn settle(&mut self, job_uid: &str, pod: &str) {
        if self.creating.get(job_uid).is_some_and(|creating| creating.pod == pod) {
            self.creating.remove(job_uid);
        }
        // Also for what is noted next to it, in the same breath.
        self.changed.mark(name::whole(job_uid).0);
    }
}

#[cfg(test)]
mod tests {
    use batchyard_core::queue::Stranded;

    use super::*;

    fn creating(pod: &str) -> Creating {
        let (pod, environment) = (pod.to_owned(), "spot".to_owned());
        let (queue, candidate) = ("ns/q".to_owned(), Candidate::default());
        Creating {
            pod,
            attempt: 1,
            placement: 0,
            environment,
            queue,
            candidate,
            answered: None,
            waited: None,
        }
    }

    fn found<'c>(decisions: &'c Decisions, others: &'c BTreeMap<String, waits::Wait>) -> Found<'c> {
        Found { decisions, others, shares: BTreeMap::new() }
    }

    /// Who stays at a place has been there since it came; whoever is told of a front is told of each change.
    #[test]
    fn a_place_at_the_front_is_kept_until_somebody_else_has_it() {
        let dispatch = Dispatch::default();
        let at = |seconds| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let cycle = |uids: &[&str], now| {
            let front: Vec<_> = uids.iter().map(|uid| (*uid).to_owned()).collect();
            let fronts = if front.is_empty() { [].into() } else { [("ns/q".to_owned(), front)].into() };
            let before = || [("ns/q".to_owned(), vec![Next { key: "a".into(), since: at(0) }])].into();
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

    /// What blocks a queue is told once, and again when another job does.
    #[test]
    fn a_queue_is_blocked_by_its_head_or_by_a_pod_that_waits_in_vain() {
        let dispatch = Dispatch::default();
        let cycle = |head: Option<waits::Wait>, stranded: &[&str]| {
            let verdicts = head.map(|wait| ("head".to_owned(), Verdict::Wait(wait))).into_iter().collect();
            let stranded = stranded.iter().map(|uid| {
                let stranded = Stranded { queue: "ns/q".into(), wait: waits::no_capacity("spot") };
                ((*uid).to_owned(), stranded)
            });
            let fronts = [("ns/q".to_owned(), vec!["head".to_owned()])].into();
            let stranded = stranded.collect();
            let decisions = Decisions { verdicts, fronts, stranded, ..Decisions::default() };
            let others = BTreeMap::new();
            let told = dispatch.publish(found(&decisions, &others), BTreeMap::new, Timestamp::UNIX_EPOCH);
            (told.len(), dispatch.blocking("ns/q").map(|(uid, _)| uid))
        };
        let says = |news, uid: Option<&str>| (news, uid.map(str::to_owned));
        assert_eq!(cycle(Some(waits::behind_head("q")), &[]), says(1, None), "its front is new");
        assert_eq!(cycle(Some(waits::all_invalid()), &[]), says(1, Some("head")));
        assert_eq!(cycle(Some(waits::all_invalid()), &[]), says(0, Some("head")));
        assert_eq!(cycle(Some(waits::all_invalid()), &["a", "b"]), says(1, Some("a")));
        assert_eq!(cycle(Some(waits::behind_head("q")), &["b"]), says(1, Some("b")));
        assert_eq!(cycle(Some(waits::behind_head("q")), &[]), says(1, None));
    }

    /// A try that fails for what the job waits for does not begin its wait anew.
    #[test]
    fn a_wait_outlasts_the_tries() {
        let dispatch = Dispatch::default();
        let at = |seconds| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let waits_at = |wait: waits::Wait, now| {
            let others = [("a".to_owned(), wait)].into();
            dispatch.publish(found(&Decisions::default(), &others), BTreeMap::new, at(now));
            dispatch.waits_for("a").expect("it waits").since
        };
        assert_eq!(waits_at(waits::quota("pods: 2"), 1), at(1));
        // The cycle that admits it says so before its pod is asked for.
        let admit = Verdict::Admit { environment: "spot".to_owned() };
        let admits = Decisions { verdicts: [("a".to_owned(), admit)].into(), ..Decisions::default() };
        dispatch.publish(found(&admits, &BTreeMap::new()), BTreeMap::new, at(6));
        dispatch.assume("a", creating("pod"));
        assert_eq!(dispatch.waits_for("a"), None);
        dispatch.hold_back("a", "pod", waits::quota("pods: 3"));
        assert_eq!(waits_at(waits::quota("pods: 3"), 9), at(1));
        dispatch.assume("a", creating("pod"));
        dispatch.hold_back("a", "pod", waits::name_taken("pod"));
        assert_eq!(waits_at(waits::name_taken("pod"), 12), at(12), "that is another wait");
    }

    #[test]
    fn patience_grows_with_the_jobs_that_run() {
        let dispatch = Dispatch::default();
        let seconds = Duration::from_secs;
        let patience = |waiting, running| {
            dispatch.note_load(waiting, running);
            dispatch.patience(seconds(3))
        };
        assert_eq!(patience(10, 9), None, "each step is written");
        assert_eq!(patience(10, 10), Some(seconds(3)));
        assert_eq!(patience(0, 1_000), Some(seconds(8)));
        assert_eq!(patience(0, 100_000), Some(seconds(15)));
        assert_eq!(dispatch.patience(Duration::ZERO), Some(Duration::ZERO), "each step, whatever the load");
        assert_eq!(patience(0, 0), Some(seconds(3)), "busy for a while after");
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
}
