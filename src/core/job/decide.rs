//! The heart: what to record and what to do, given a job, its record and its pods.
//!
//! [`decide`] is total and deterministic, and derives everything anew from the record and from
//! what is seen, so that it may be asked at any time and by anybody. Its effects have an order:
//!
//! 1. the record is stored,
//! 2. the actions are carried out, in their order,
//! 3. the dispatcher, which sees only stored records, makes the next pod.
//!
//! Any prefix of that may be all that happens. A pod counts once, by its uid: its outcome is
//! recorded first and its finalizer comes off afterwards, so that no end is lost and none counted
//! twice.
//!
//! What this does not do: choose when and where a job runs (`queue`), make pods (the dispatcher),
//! or read how a pod ended (`termination`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::outcome::Ran;
use super::phase::Phase;
use super::record::{Current, Intent, IntentKind, Record};
use super::retry::RetryStrategy;
use crate::dependency::Noted;
use crate::order;
use crate::pod::{ContainerRole, ContainerState, NodeView, PodPhase, PodView};
use crate::reason;
use crate::termination::{self, Ending, Sight, Tolerances};
use crate::waits::{self, Wait};

/// Refusals by nodes within one attempt that are free of charge; the next one fails the attempt.
pub const MAX_REJECTIONS: usize = 5;
/// Placements remembered; a job that is withdrawn more often forgets the oldest.
pub const MAX_PLACEMENTS: usize = 32;

/// A pod that the scheduler found no node for is spoken of after this long.
const UNSCHEDULABLE: SignedDuration = SignedDuration::from_secs(5);

/// What a user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The retry strategy of the job, else of its definition, else one attempt.
    pub strategy: RetryStrategy,
    /// `timeout.attemptDurationSeconds`, counted from the start of each attempt's container.
    pub timeout: Option<SignedDuration>,
    /// `session.idleTimeoutSeconds`, of a session.
    pub idle_timeout: Option<SignedDuration>,
    /// `spec.terminate`.
    pub terminate: Option<String>,
    /// `spec.cancel`.
    pub cancel: Option<String>,
    /// Why the job must end although its owner did not ask: its queue is deleted.
    pub stop: Option<String>,
    /// `jobStateTimeLimitActions` of its queue.
    pub time_limits: Vec<TimeLimit>,
    /// It is an array: once it is accepted its children run, and it waits for them.
    pub is_array: bool,
}

/// How long a job may wait for a reason that blocks its queue before it is cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    /// AWS's code of the reason.
    pub code: String,
    /// How long.
    pub limit: SignedDuration,
}

/// Whether everything that a job names is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It may run; the definition it runs, as `name:revision`.
    Ready(String),
    /// Something is missing that may still come: the job stays SUBMITTED, or PENDING if it was that far, and says so.
    Waiting(Wait),
    /// It is accepted and waits for other jobs.
    Pending {
        /// The definition it runs once they succeeded, as `name:revision`.
        definition: String,
        /// For which ones.
        wait: Wait,
    },
    /// It can never run.
    Refused(String),
}

/// What is seen of a job's surroundings.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every pod that the job owns. When a pod that the record speaks of is not among them, the
    /// caller has made sure by a live read that it does not exist.
    pub pods: Vec<PodView>,
    /// The nodes that these pods and the pod on record are bound to, by name; those that exist no
    /// more are absent.
    pub nodes: BTreeMap<String, NodeView>,
    /// A pod may be on its way: the dispatcher has sent a create that is not answered yet.
    pub creating: bool,
    /// What the dispatcher says that the job waits for.
    pub waits_for: Option<Wait>,
    /// The dispatcher found that the API server will never accept the job's pod.
    pub refused: Option<String>,
    /// Since when nobody has been connected to the session, if that is so.
    pub idle_since: Option<Timestamp>,
    /// While the job is SUBMITTED or PENDING: what is known now of the jobs that it depends on.
    pub depends_on: Vec<Noted>,
    /// When to look at them again although nothing happens.
    pub again: Option<Timestamp>,
}

/// An effect outside the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for the pod's deletion.
    Delete {
        /// The pod's name.
        pod: String,
        /// Its uid: a precondition.
        uid: String,
        /// How it is meant.
        how: Deletion,
    },
    /// Lift our scheduling gate off the pod, whose uid stands in the stored record.
    Ungate {
        /// The pod's name.
        pod: String,
        /// Its uid: a precondition.
        uid: String,
    },
    /// Tell containers that waited for others of their pod that they may start.
    Start {
        /// The pod's name.
        pod: String,
        /// Its uid: a precondition.
        uid: String,
        /// All containers that may start.
        containers: Vec<String>,
    },
    /// Take our finalizer off the pod, whose outcome is recorded.
    Release {
        /// The pod's name.
        pod: String,
        /// Its uid: a precondition.
        uid: String,
    },
}

impl Action {
    /// The uid of the pod that it is about.
    pub fn pod_uid(&self) -> &str {
        match self {
            Self::Delete { uid, .. }
            | Self::Ungate { uid, .. }
            | Self::Start { uid, .. }
            | Self::Release { uid, .. } => uid,
        }
    }
}

/// How a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// SIGTERM, the pod's grace period, SIGKILL.
    Graceful,
    /// Only if it is still unbound: fails with a conflict if the scheduler was faster.
    IfUnbound,
    /// At once, without the kubelet's word: its node is taken for dead.
    Forced,
}

/// The outcome of [`decide`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The record to store; store nothing if it equals the old one.
    pub record: Record,
    /// What to do once the record is stored.
    pub actions: Vec<Action>,
    /// When to ask again although nothing happens.
    pub wake: Option<Timestamp>,
    /// The node does not answer; the job is kept RUNNING meanwhile.
    pub unreachable: bool,
}

/// Decides the next step of a job.
pub fn decide(
    now: Timestamp,
    job: &Job,
    readiness: &Readiness,
    record: &Record,
    seen: &Seen,
    tolerances: &Tolerances,
) -> Decision {
    let mut step = Step::new(now, job, record, seen, tolerances);
    step.run(readiness);
    step.next
}

/// One call of [`decide`] in progress.
pub(super) struct Step<'a> {
    pub(super) now: Timestamp,
    pub(super) job: &'a Job,
    pub(super) seen: &'a Seen,
    pub(super) tolerances: &'a Tolerances,
    /// An order to end the job is stored already.
    pub(super) ordered: bool,
    pub(super) next: Decision,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        now: Timestamp,
        job: &'a Job,
        record: &Record,
        seen: &'a Seen,
        tolerances: &'a Tolerances,
    ) -> Self {
        let ordered = record.intent.is_some();
        let mut step = Self { now, job, seen, tolerances, ordered, next: Decision::default() };
        step.next.record = record.clone();
        step.next.record.created_at.get_or_insert(now);
        step.next.record.phase.get_or_insert(Phase::Submitted);
        step
    }

    pub(super) fn run(&mut self, readiness: &Readiness) {
        if self.phase().is_terminal() {
            return self.clear_away(None);
        }
        self.take_orders();
        match (self.phase(), self.live()) {
            (Phase::Submitted | Phase::Pending, None) => self.accept(readiness),
            (_, Some(pod)) => self.follow(&pod),
            (_, None) => self.without_pod(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.next.record.phase()
    }

    /// The pod that runs the job now: the one on record, else the one made for the next attempt.
    pub(super) fn live(&self) -> Option<PodView> {
        let record = &self.next.record;
        let open = || self.seen.pods.iter().filter(|p| !record.has_counted(&p.uid));
        match &record.current {
            Some(current) => open().find(|p| p.uid == current.pod_uid).cloned(),
            None => open()
                .filter(|p| p.attempt == record.next_attempt() && p.placement >= record.next_placement())
                .min_by_key(|p| (p.placement, p.uid.clone()))
                .cloned(),
        }
    }

    /// Turns what the user asked for into a stored intent, before anything is done about it.
    fn take_orders(&mut self) {
        let cancels = |intent: &Intent| intent.kind == IntentKind::Cancel;
        if self.next.record.intent.as_ref().is_some_and(cancels) && self.is_bound() {
            // The scheduler was faster: a cancel acts only before the pod is bound.
            self.next.record.intent = None;
        }
        if let Some(reason) = self.job.stop.as_ref().or(self.job.terminate.as_ref()) {
            self.intend(IntentKind::Terminate, reason);
        } else if let Some(reason) = self.job.cancel.as_ref().filter(|_| !self.is_bound()) {
            self.intend(IntentKind::Cancel, reason);
        } else {
            self.watch_limits();
        }
    }

    pub(super) fn intend(&mut self, kind: IntentKind, reason: &str) {
        let at = self.now;
        self.next.record.intent.get_or_insert_with(|| Intent { kind, reason: reason.to_owned(), at });
    }

    pub(super) fn is_bound(&self) -> bool {
        self.next.record.is_bound() || self.live().is_some_and(|pod| pod.node_name.is_some())
    }

    /// SUBMITTED and PENDING: look whether everything that the job names is there, and what becomes of the jobs that
    /// it depends on.
    fn accept(&mut self, readiness: &Readiness) {
        if let Some(intent) = self.next.record.intent.clone() {
            return self.end_unstarted(&intent);
        }
        self.next.record.depends_on.clone_from(&self.seen.depends_on);
        match readiness {
            Readiness::Ready(definition) => {
                self.next.record.job_definition = Some(definition.clone());
                return match self.job.is_array {
                    true => self.wait_for_children(),
                    false => self.become_runnable(self.seen.waits_for.clone()),
                };
            }
            Readiness::Waiting(wait) => self.next.record.wait_for(wait, self.now),
            Readiness::Pending { definition, wait } => {
                self.next.record.job_definition = Some(definition.clone());
                self.next.record.phase = Some(Phase::Pending);
                self.next.record.wait_for(wait, self.now);
            }
            Readiness::Refused(reason) => return self.fail(reason.clone()),
        }
        self.wake_at(self.seen.again);
    }

    /// RUNNABLE and later, and no pod to follow.
    fn without_pod(&mut self) {
        self.clear_away(None);
        if let Some(current) = self.next.record.current.clone() {
            let node = current.node_name.as_deref().and_then(|name| self.seen.nodes.get(name));
            let ending = termination::vanished(
                current.started_at,
                node,
                current.instance.as_deref(),
                current.bound_at.is_some(),
                self.now,
            );
            return self.settle(&Ran::from(&current), ending, true);
        }
        if self.seen.creating {
            // Its answer brings the pod, or the news that there is none.
            return;
        }
        if let Some(intent) = self.next.record.intent.clone() {
            // Stored first: from then on the dispatcher makes no pod, so that the next look, which
            // sees whether one is on its way, is certain.
            if self.ordered {
                self.end_unstarted(&intent);
            }
            return;
        }
        if let Some(reason) = &self.seen.refused {
            return self.fail(reason.clone());
        }
        if let Some(wait) = &self.seen.waits_for {
            self.next.record.wait_for(wait, self.now);
        }
    }

    /// Follows the pod that runs the job.
    fn follow(&mut self, pod: &PodView) {
        self.clear_away(Some(&pod.uid));
        let node = self.host(pod);
        let instance = self.next.record.current.as_ref().and_then(|c| c.instance.clone());
        match termination::look(pod, node.as_ref(), instance.as_deref(), self.tolerances, self.now) {
            Sight::Unbound => self.stay_unbound(pod),
            Sight::Starting { until, waiting_for } => {
                self.note_current(pod, node.as_ref(), None);
                self.move_to(Phase::Starting, waiting_for);
                self.wake_at(until);
                self.start_in_order(pod);
                self.enforce(pod, node.as_ref());
            }
            Sight::Running { started_at, unreachable, until } => {
                let started_at =
                    self.note_current(pod, node.as_ref(), Some(started_at)).unwrap_or(started_at);
                self.next.record.started_at = Some(started_at);
                self.move_to(Phase::Running, None);
                self.next.unreachable = unreachable;
                self.wake_at(until);
                self.watch_clock(started_at);
                self.start_in_order(pod);
                self.watch_idle();
                self.enforce(pod, node.as_ref());
            }
            Sight::Ended(ending) => self.finish(pod, node.as_ref(), ending),
        }
    }

    /// The pod's node, as it is now compared with what it was when the pod was bound.
    pub(super) fn host(&self, pod: &PodView) -> Option<NodeView> {
        let mut node = self.seen.nodes.get(pod.node_name.as_deref()?)?.clone();
        let at_bind = self.next.record.current.as_ref().and_then(|current| current.boot_id.as_ref());
        node.rebooted = at_bind.is_some() && node.boot_id.is_some() && at_bind != node.boot_id.as_ref();
        Some(node)
    }

    fn stay_unbound(&mut self, pod: &PodView) {
        if self.next.record.intent.is_some() {
            self.delete(pod, Deletion::IfUnbound);
        } else if self.phase() != Phase::Runnable {
            // A pod made by a dispatcher that knew a later record than this reader.
            self.become_runnable(None);
        } else if pod.gated {
            self.admit(pod);
        } else if let Some(wait) = &self.seen.waits_for {
            self.next.record.wait_for(wait, self.now);
        } else if let Some((since, message)) = unschedulable(pod) {
            self.tell_unschedulable(since, message);
        }
    }

    /// `strictFencing`: a pod may be bound once its uid is on record. Of several pods that were made
    /// for one attempt, by whomever and however late, only the recorded one ever runs.
    fn admit(&mut self, pod: &PodView) {
        self.note_current(pod, None, None);
        self.next.actions.push(Action::Ungate { pod: pod.name.clone(), uid: pod.uid.clone() });
    }

    /// Told once it lasts.
    fn tell_unschedulable(&mut self, since: Timestamp, message: &str) {
        let due = since.checked_add(UNSCHEDULABLE).unwrap_or(Timestamp::MAX);
        match self.now >= due {
            true => self.next.record.wait_for(&waits::unschedulable(message), self.now),
            false => self.wake_at(Some(due)),
        }
    }

    /// Carries out a stored intent against a pod that is bound, and takes it off a node that is about to
    /// go: nobody else does, since it tells autoscalers to leave it alone.
    fn enforce(&mut self, pod: &PodView, node: Option<&NodeView>) {
        let reclaimed = node.is_some_and(|node| node.reclaimed);
        if (self.next.record.intent.is_some() || reclaimed) && pod.deleted_at.is_none() {
            self.delete(pod, Deletion::Graceful);
        }
    }

    /// Lets those containers start that waited for others, unless the pod is about to be ended.
    pub(super) fn start_in_order(&mut self, pod: &PodView) {
        let containers = order::due(pod);
        if !containers.is_empty() && self.next.record.intent.is_none() {
            let (pod, uid) = (pod.name.clone(), pod.uid.clone());
            self.next.actions.push(Action::Start { pod, uid, containers });
        }
    }

    /// The pod's story is over: record it, then let the pod go.
    fn finish(&mut self, pod: &PodView, node: Option<&NodeView>, ending: Ending) {
        if pod.node_name.is_some() {
            self.note_current(pod, node, ending.started_at);
        }
        let ran = self.next.record.current.as_ref().map_or_else(|| Ran::from_pod(pod), Ran::from);
        self.settle(&ran, ending, pod.deleted_at.is_some());
        self.let_go(pod);
    }

    /// PENDING until the end (<https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html>): from now on
    /// [`crate::array::decide`] says what becomes of the children.
    fn wait_for_children(&mut self) {
        let record = &mut self.next.record;
        (record.phase, record.runnable_at) = (Some(Phase::Pending), Some(self.now));
        (record.status_reason, record.waiting) = (None, None);
    }

    pub(super) fn become_runnable(&mut self, why: Option<Wait>) {
        self.next.record.waiting = None;
        self.wait_again(why);
    }

    /// As [`Self::become_runnable`], of a job that got no node: what it waited for goes on if it waits for that again.
    pub(super) fn wait_again(&mut self, why: Option<Wait>) {
        let now = self.now;
        let record = &mut self.next.record;
        record.phase = Some(Phase::Runnable);
        record.status_reason = None;
        match why {
            Some(wait) => record.wait_for(&wait, now),
            None => record.waiting = None,
        }
        record.runnable_at = Some(now);
        record.started_at = None;
    }

    fn move_to(&mut self, phase: Phase, why: Option<String>) {
        // Never back from RUNNING to STARTING: a restarted kubelet forgets for a moment.
        if self.phase() < phase {
            let record = &mut self.next.record;
            (record.phase, record.status_reason, record.waiting) = (Some(phase), why, None);
            return;
        }
        // Trouble is told once; texts of image pulls alternate.
        let troubled = |text: &Option<String>| text.as_deref().is_some_and(reason::is_trouble);
        if self.phase() == phase && troubled(&why) && !troubled(&self.next.record.status_reason) {
            self.next.record.status_reason = why;
        }
    }

    /// Notes what must be known of the pod when it is gone. Returns when its container started:
    /// the first word on that stays.
    fn note_current(
        &mut self,
        pod: &PodView,
        node: Option<&NodeView>,
        started_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let now = self.now;
        let current = self.next.record.current.get_or_insert_with(|| Current {
            attempt: pod.attempt,
            placement: pod.placement,
            pod_name: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            compute_environment: pod.compute_environment.clone(),
            log_stream_name: pod.log_stream.clone(),
            ..Current::default()
        });
        if current.bound_at.is_none() && pod.node_name.is_some() {
            current.node_name.clone_from(&pod.node_name);
            current.instance = node.map(|n| n.instance.clone()).or_else(|| pod.node_name.clone());
            current.boot_id = node.and_then(|n| n.boot_id.clone());
            current.bound_at = Some(now);
        }
        current.started_at = current.started_at.or(started_at);
        current.started_at
    }

    /// Lets go of every pod but the live one: those that are counted already, and those that
    /// should not be there and never count.
    fn clear_away(&mut self, live: Option<&str>) {
        let seen = self.seen;
        for pod in seen.pods.iter().filter(|p| Some(p.uid.as_str()) != live) {
            self.let_go(pod);
        }
    }

    /// Ends what still works in a pod that is of no more use, then lets it go. A pod that ended
    /// stays for its logs, and one whose last sidecar is still flushing is left to the kubelet.
    pub(super) fn let_go(&mut self, pod: &PodView) {
        if !is_terminal(pod) && still_works(pod) {
            self.delete(pod, if self.is_lost(pod) { Deletion::Forced } else { Deletion::Graceful });
        }
        self.release(pod);
    }

    /// True if nobody is left who could end the pod: its node is gone, or is silent and the pod is
    /// on record as lost with it.
    fn is_lost(&self, pod: &PodView) -> bool {
        let Some(name) = pod.node_name.as_deref() else { return false };
        let Some(node) = self.seen.nodes.get(name).filter(|node| node.exists) else { return true };
        let recorded = self.next.record.attempts.iter().find(|attempt| attempt.pod_uid == pod.uid);
        !node.ready && recorded.is_some_and(|attempt| reason::is_host_end(&attempt.status_reason))
    }

    pub(super) fn delete(&mut self, pod: &PodView, how: Deletion) {
        if pod.deleted_at.is_none() || how == Deletion::Forced {
            let (pod, uid) = (pod.name.clone(), pod.uid.clone());
            self.next.actions.push(Action::Delete { pod, uid, how });
        }
    }

    pub(super) fn release(&mut self, pod: &PodView) {
        if pod.held {
            self.next.actions.push(Action::Release { pod: pod.name.clone(), uid: pod.uid.clone() });
        }
    }

    pub(super) fn wake_at(&mut self, at: Option<Timestamp>) {
        self.next.wake = [self.next.wake, at].into_iter().flatten().min();
    }
}

/// Since when the scheduler finds no node, and what it says.
fn unschedulable(pod: &PodView) -> Option<(Timestamp, &str)> {
    let scheduled = pod.conditions.iter().find(|c| c.kind == "PodScheduled" && !c.status)?;
    let since = scheduled.since.or(pod.created_at)?;
    (scheduled.reason.as_deref() == Some("Unschedulable"))
        .then(|| (since, scheduled.message.as_deref().unwrap_or_default()))
}

pub(super) fn is_terminal(pod: &PodView) -> bool {
    matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}

/// True while a container of the job itself runs or may yet start. Sidecars do not count: the kubelet ends them,
/// and a log sidecar needs that moment to flush.
pub(super) fn still_works(pod: &PodView) -> bool {
    pod.containers.is_empty()
        || pod.containers.iter().chain(&pod.init_containers).any(|container| {
            container.role != ContainerRole::Sidecar
                && !matches!(container.state, ContainerState::Terminated { .. })
        })
}
