//! What is to be told, to whom, and what waits. All in memory; see the head of this room for what survives.

mod rule;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batchyard_core::notification::content::{self, Subject};
use batchyard_core::notification::moment::{Moment, Told, moments};
use batchyard_core::notification::outbox::{Limits, Outbox};
use jiff::Timestamp;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;

use super::convert;
use crate::crd::notification_rule::Versions;
use crate::crd::{BatchJob, JobQueue, NotificationRule};
use crate::k8s::watch::{Change, key};
use crate::settings::NotifierSettings;
use rule::RuleState;
pub(super) use rule::Tally;

/// The reason in Ready of a rule that is DISABLED.
pub(super) const DISABLED: &str = "Disabled";

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Hub {
    state: Arc<Mutex<State>>,
    jobs: Store<BatchJob>,
    queues: Store<JobQueue>,
    /// There are other rules than before.
    pub(super) rules_changed: Arc<Notify>,
    /// A status should be written soon.
    pub(super) urgent: Arc<Notify>,
}

struct State {
    /// False until all lists are complete.
    open: bool,
    told: HashMap<String, Told>,
    /// The blocked queues, by uid, with the id of what was last told of each.
    blocked: HashMap<String, String>,
    rules: BTreeMap<String, RuleState>,
    outbox: Outbox<Waiting>,
    /// That of the last notification.
    sequence: u64,
    heard: Versions,
    /// What was heard some while ago: a list that is being taken in is not taken for complete.
    settled: Versions,
}

/// A notification that waits to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Tells it from others.
    pub(super) sequence: u64,
    pub(super) subject: Arc<Subject>,
    /// Since when it waits.
    pub(super) since: Timestamp,
    /// The recipients who lack it, once others have it.
    pub(super) left: Option<BTreeSet<String>>,
    version: u64,
}

impl Waiting {
    fn lacks(&self, to: &str) -> bool {
        self.left.as_ref().is_none_or(|left| left.contains(to))
    }

    fn is_of_queue(&self) -> bool {
        matches!(*self.subject, Subject::Queue(..))
    }
}

/// What is to be tried next.
pub(super) struct Next {
    pub(super) waiting: Waiting,
    pub(super) rule: Arc<NotificationRule>,
    /// Those who are to have it, if the sink tells recipients apart.
    pub(super) to: BTreeSet<String>,
}

/// A job, and what notifications say of it: made once for all of them, and only if there is one.
struct Facts<'a> {
    object: &'a BatchJob,
    told: OnceCell<Arc<content::Job>>,
}

impl<'a> Facts<'a> {
    fn of(object: &'a BatchJob) -> Self {
        Self { object, told: OnceCell::new() }
    }

    fn told(&self) -> Arc<content::Job> {
        self.told.get_or_init(|| Arc::new(convert::job(self.object))).clone()
    }
}

/// All that a rule's status says.
pub(super) struct Report {
    pub(super) object: Arc<NotificationRule>,
    pub(super) problem: Option<String>,
    pub(super) tally: Tally,
    pub(super) waiting: usize,
    pub(super) through: Versions,
    /// Through which versions those have everything who have less.
    pub(super) behind: BTreeMap<String, Versions>,
}

impl Hub {
    pub(super) fn new(settings: &NotifierSettings, jobs: Store<BatchJob>, queues: Store<JobQueue>) -> Self {
        let limits = Limits {
            per_rule: settings.queue_per_rule,
            in_all: settings.queue_total,
            bytes: settings.queue_bytes,
        };
        let state = State {
            open: false,
            told: HashMap::new(),
            blocked: HashMap::new(),
            rules: BTreeMap::new(),
            outbox: Outbox::new(limits),
            sequence: 0,
            heard: Versions::default(),
            settled: Versions::default(),
        };
        let (rules_changed, urgent) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        Self { state: Arc::new(Mutex::new(state)), jobs, queues, rules_changed, urgent }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lists are complete: what changed while nobody looked is told to those who want it.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        state.open = true;
        for job in self.jobs.state() {
            state.news(&job);
            state.heard.jobs = state.heard.jobs.max(version(job.as_ref()));
        }
        for queue in self.queues.state() {
            state.blocked_anew(&queue);
            state.heard.queues = state.heard.queues.max(version(queue.as_ref()));
        }
        for name in state.rules.keys().cloned().collect::<Vec<_>>() {
            self.catch_up(&mut state, &name);
        }
    }

    /// Tells a rule that this process has not known what changed since it was last told of something.
    fn catch_up(&self, state: &mut State, name: &str) {
        let Some(rule) = state.rules.get(name) else { return };
        let namespace = rule.object.namespace();
        let mut jobs: Vec<_> = self.jobs.state();
        jobs.retain(|job| {
            job.namespace() == namespace && rule.lacking(|has| has.jobs >= version(job.as_ref())).is_some()
        });
        jobs.sort_by_key(|job| version(job.as_ref()));
        for job in jobs {
            let all = convert::seen(&job).map(moments).unwrap_or_default();
            state.tell_of_job(name, &Facts::of(&job), &all);
        }
        let queues = self.queues.state();
        let mut queues: Vec<_> = queues.iter().filter(|queue| queue.namespace() == namespace).collect();
        queues.sort_by_key(|queue| version(queue.as_ref()));
        for queue in queues {
            state.tell_of_queue(name, queue, &self.jobs);
        }
        state.forget_strangers(name);
    }

    pub(super) fn hear_job(&self, change: &Change<BatchJob>) {
        let mut state = self.lock();
        if !state.open {
            return;
        }
        // Of a job that is deleted the last state is told, too.
        let job = change.object();
        let news = state.news(job);
        state.heard.jobs = state.heard.jobs.max(version(job.as_ref()));
        let facts = Facts::of(job);
        for name in state.rules_of(job.as_ref()) {
            state.tell_of_job(&name, &facts, &news);
        }
        if let (Change::Deleted(_), Some(uid)) = (change, job.uid()) {
            state.told.remove(&uid);
        }
    }

    pub(super) fn hear_queue(&self, change: &Change<JobQueue>) {
        let mut state = self.lock();
        if !state.open {
            return;
        }
        let queue = change.object();
        state.heard.queues = state.heard.queues.max(version(queue.as_ref()));
        match change {
            Change::Deleted(_) => drop(state.blocked.remove(&queue.uid().unwrap_or_default())),
            Change::Applied(_) if state.blocked_anew(queue) => {
                for name in state.rules_of(queue.as_ref()) {
                    state.tell_of_queue(&name, queue, &self.jobs);
                }
            }
            Change::Applied(_) => {}
        }
    }

    pub(super) fn hear_rule(&self, change: &Change<NotificationRule>) {
        let mut state = self.lock();
        let last = state.sequence;
        let name = key(change.object().as_ref());
        let object = match change {
            Change::Applied(object) => object,
            Change::Deleted(_) => {
                state.rules.remove(&name);
                state.outbox.forget(&name);
                self.rules_changed.notify_one();
                return;
            }
        };
        let known = state.rules.get(&name).filter(|known| known.object.uid() == object.uid());
        let is_same =
            known.is_some_and(|known| known.object.metadata.generation == object.metadata.generation);
        match state.rules.get_mut(&name).filter(|known| known.object.uid() == object.uid()) {
            Some(known) if is_same => known.object = object.clone(),
            Some(known) => {
                (known.rule, known.problem) = (convert::rule(object), convert::problem(object));
                known.object = object.clone();
                (known.dirty, known.urgent) = (true, true);
                known.tally.failing = None;
                known.wake.notify_one();
                if !known.is_enabled() {
                    known.taken_back = last;
                    state.outbox.forget(&name);
                }
                state.forget_strangers(&name);
                self.urgent.notify_one();
            }
            None => {
                state.outbox.forget(&name);
                state.rules.insert(name.clone(), RuleState::new(object, last));
                if state.open {
                    self.catch_up(&mut state, &name);
                }
                self.rules_changed.notify_one();
                self.urgent.notify_one();
            }
        }
    }

    /// The rules, and what wakes the worker of each.
    pub(super) fn rules(&self) -> Vec<(String, Option<String>, Arc<Notify>)> {
        let state = self.lock();
        state.rules.iter().map(|(name, rule)| (name.clone(), rule.object.uid(), rule.wake.clone())).collect()
    }

    /// A rule that may send: it is neither wrong nor DISABLED.
    pub(super) fn sending(&self, name: &str) -> Option<Arc<NotificationRule>> {
        self.lock().sending(name)
    }

    /// The next notification of a rule that may send, for others than the recipients that are left alone now.
    pub(super) fn next(&self, name: &str, resting: &BTreeSet<String>) -> Option<Next> {
        let state = self.lock();
        let rule = state.sending(name)?;
        let Some(all) = convert::recipients(&rule) else {
            let waiting = state.outbox.find(name, |_| true)?.clone();
            return Some(Next { waiting, rule, to: BTreeSet::new() });
        };
        let awake: Vec<&String> = all.iter().filter(|to| !resting.contains(*to)).collect();
        let waiting = state.outbox.find(name, |waiting| awake.iter().any(|to| waiting.lacks(to)))?.clone();
        let to = awake.into_iter().filter(|to| waiting.lacks(to)).cloned().collect();
        Some(Next { waiting, rule, to })
    }

    /// A notification has arrived at some recipients, or never will, and these are left.
    pub(super) fn keep(&self, name: &str, sequence: u64, left: BTreeSet<String>) {
        let mut state = self.lock();
        if let Some(waiting) = state.outbox.find_mut(name, |waiting| waiting.sequence == sequence) {
            waiting.left = Some(left);
        }
        if let Some(rule) = state.rules.get_mut(name) {
            rule.dirty = true;
        }
        // The rule may be another one meanwhile.
        state.forget_strangers(name);
    }

    /// A notification arrived.
    pub(super) fn delivered(&self, name: &str, sequence: u64, now: Timestamp) {
        self.settled(name, sequence, |tally| {
            tally.delivered += 1;
            tally.last_delivered_at = Some(now);
            tally.failing = None;
        });
    }

    /// A notification will never arrive.
    pub(super) fn dropped(&self, name: &str, sequence: u64, why: String, now: Timestamp) {
        self.settled(name, sequence, |tally| {
            tally.dropped += 1;
            tally.failures += 1;
            (tally.last_failed_at, tally.last_failure) = (Some(now), Some(why));
        });
    }

    fn settled(&self, name: &str, sequence: u64, note: impl FnOnce(&mut Tally)) {
        let mut state = self.lock();
        let was_there = state.outbox.take(name, |waiting| waiting.sequence == sequence).is_some();
        let Some(rule) = state.rules.get_mut(name).filter(|rule| sequence > rule.strangers) else { return };
        note(&mut rule.tally);
        // It was pushed out while it was on its way, and counted then.
        rule.tally.dropped -= i64::from(!was_there && sequence > rule.taken_back);
        rule.dirty = true;
    }

    /// A try failed.
    pub(super) fn failed(&self, name: &str, why: String, now: Timestamp) {
        let mut state = self.lock();
        if let Some(rule) = state.rules.get_mut(name) {
            if rule.tally.failing.is_none() {
                rule.urgent = true;
                self.urgent.notify_one();
            }
            rule.tally.failures += 1;
            rule.tally.last_failed_at = Some(now);
            (rule.tally.last_failure, rule.tally.failing) = (Some(why.clone()), Some(why));
            rule.dirty = true;
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().outbox.total()
    }

    /// Up to which versions something was heard.
    pub(super) fn heard(&self) -> Versions {
        self.lock().heard
    }

    /// All up to these versions was heard.
    pub(super) fn settle(&self, heard: Versions) {
        self.lock().settled = heard;
    }

    /// The rules whose status says less than is known, or only those among them that should not wait; they count as told.
    pub(super) fn reports(&self, only_urgent: bool) -> Vec<(String, Report)> {
        let mut state = self.lock();
        let State { rules, outbox, settled, .. } = &mut *state;
        let outbox = &*outbox;
        let report = rules.iter_mut().filter_map(|(name, rule)| {
            if !rule.dirty || only_urgent && !rule.urgent {
                return None;
            }
            (rule.dirty, rule.urgent) = (false, false);
            let (through, behind) = rule.marks(*settled, || outbox.iter(name));
            let report = Report {
                object: rule.object.clone(),
                problem: rule.problem.clone(),
                tally: rule.tally.clone(),
                waiting: outbox.len(name),
                through,
                behind,
            };
            Some((name.clone(), report))
        });
        report.collect()
    }

    /// A status could not be written.
    pub(super) fn still_dirty(&self, name: &str) {
        if let Some(rule) = self.lock().rules.get_mut(name) {
            rule.dirty = true;
        }
    }
}

impl State {
    fn sending(&self, name: &str) -> Option<Arc<NotificationRule>> {
        let rule = self.rules.get(name).filter(|rule| rule.problem.is_none() && rule.is_enabled())?;
        Some(rule.object.clone())
    }

    /// Whom a rule does not name any more lacks nothing; a sink of another kind gets what not all had.
    fn forget_strangers(&mut self, name: &str) {
        let Some(rule) = self.rules.get_mut(name) else { return };
        let all = convert::recipients(&rule.object);
        let complete = self.outbox.retain(name, |waiting| match (all, &mut waiting.left) {
            (Some(all), Some(left)) => {
                left.retain(|to| all.contains(to));
                !left.is_empty()
            }
            (Some(_), None) => true,
            (None, left) => {
                *left = None;
                true
            }
        });
        rule.tally.delivered += i64::try_from(complete).unwrap_or_default();
    }

    /// What this process has not seen of a job before.
    fn news(&mut self, job: &BatchJob) -> Vec<Moment> {
        let (Some(uid), Some(seen)) = (job.uid(), convert::seen(job)) else { return Vec::new() };
        self.told.entry(uid).or_default().news(moments(seen))
    }

    /// Whether a queue is blocked, and was not when it was last looked at, or for another reason.
    fn blocked_anew(&mut self, queue: &JobQueue) -> bool {
        let uid = queue.uid().unwrap_or_default();
        match convert::blocked(queue) {
            Some(blocked) => self.blocked.insert(uid, blocked.id()) != Some(blocked.id()),
            None => {
                self.blocked.remove(&uid);
                false
            }
        }
    }

    /// The rules in an object's namespace.
    fn rules_of<K: Resource>(&self, object: &K) -> Vec<String> {
        let begin = format!("{}/", object.namespace().unwrap_or_default());
        let names = self.rules.range(begin.clone()..).map(|(name, _)| name);
        names.take_while(|name| name.starts_with(&begin)).cloned().collect()
    }

    fn tell_of_job(&mut self, name: &str, job: &Facts<'_>, moments: &[Moment]) {
        let Some(rule) = self.rules.get_mut(name) else { return };
        let (queue, names) = convert::names(job.object);
        let version = version(job.object);
        let Some(left) = rule.lacking(|has| has.jobs >= version) else { return };
        if !rule.rule.is_about(queue, names) {
            return;
        }
        // The next process need not look at this version again.
        rule.dirty = true;
        if !rule.is_enabled() {
            return;
        }
        let wanted: Vec<_> = moments.iter().filter(|moment| rule.rule.wants(moment)).copied().collect();
        for moment in wanted {
            self.push(name, version, Subject::Job(job.told(), moment), left.clone());
        }
    }

    fn tell_of_queue(&mut self, name: &str, queue: &Arc<JobQueue>, jobs: &Store<BatchJob>) {
        let Some(rule) = self.rules.get_mut(name) else { return };
        let version = version(queue.as_ref());
        let is_about = rule.rule.blocked && rule.rule.is_about_queue(&queue.name_any());
        let Some(left) = rule.lacking(|has| has.queues >= version) else { return };
        let Some(blocked) = convert::blocked(queue).filter(|_| is_about) else { return };
        rule.dirty = true;
        let first = queue.status.as_ref().and_then(|status| status.front.first());
        let head = first.and_then(|first| jobs.get(&ObjectRef::new(&first.name).within(&blocked.namespace)));
        let names = head.as_deref().map(convert::names);
        let is_job = names.is_none_or(|(_, names)| rule.rule.is_about(&queue.name_any(), names));
        if rule.is_enabled() && is_job && rule.rule.is_since(blocked.since) {
            let head = head.map(|job| Facts::of(&job).told());
            self.push(name, version, Subject::Queue(blocked, head), left);
        }
    }

    fn push(&mut self, name: &str, version: u64, subject: Subject, left: Option<BTreeSet<String>>) {
        self.sequence += 1;
        let bytes = size_of::<Waiting>() + subject.bytes();
        let (sequence, subject, since) = (self.sequence, Arc::new(subject), Timestamp::now());
        let waiting = Waiting { sequence, version, subject, since, left };
        for (loser, _) in self.outbox.push(name, waiting, bytes) {
            if let Some(rule) = self.rules.get_mut(&loser) {
                rule.tally.dropped += 1;
                rule.dirty = true;
            }
        }
        if let Some(rule) = self.rules.get(name) {
            rule.wake.notify_one();
        }
    }
}

/// Versions of the objects of one kind tell which is newer
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>), and those of all custom resources
/// come from one store.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
