//! How a pod ended, or where it stands: one total and deterministic function over what is
//! observed.
//!
//! It follows a table whose rows are named where they are decided:
//!
//! | rows | what | decided in |
//! | --- | --- | --- |
//! | T1–T13 | containers that ran, or tried to | `container` |
//! | W1–W15 | pods that did not start | `waiting`, with `pull` for the texts of runtimes |
//! | R1–R7 | pods that the kubelet refused | `disruption::by_kubelet` |
//! | D1–D18 | disruptions, deletions and lost nodes | `disruption`, `host` and [`look`] |
//! | | creates that the API refused | [`create`] |
//!
//! Orders of ours (cancel, terminate, timeout: D11) are no part of it: they are stored before the
//! pod is touched and outrank what is seen here. Nor is D16, the collection of pods that ended
//! long ago: it changes no outcome.

mod container;
pub mod create;
mod disruption;
mod host;
mod pull;
mod waiting;

use jiff::{SignedDuration, Timestamp};

use crate::job::record::{ContainerOutcome, NamedOutcome};
use crate::pod::{ContainerView, NodeView, PodPhase, PodView};
use crate::reason;
use container::End;
pub(crate) use container::start_of;
use disruption::Interruption;
use host::Host;

/// How long a state that may still heal is tolerated before it ends the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tolerances {
    /// The registry says that the image does not exist or may not be read (W1, W2, W6).
    pub pull_denied: SignedDuration,
    /// The registry cannot be reached, or nobody says why the pull fails (W1, W2, W3, W7).
    pub pull_network: SignedDuration,
    /// A pull that goes on without an error (W12 once the sandbox is ready).
    pub pulling: SignedDuration,
    /// A missing Secret, ConfigMap or key (W8).
    pub config: SignedDuration,
    /// The runtime or a hook refuses the container (W9, W10, W11).
    pub create: SignedDuration,
    /// Volumes, network or sidecars are not ready (W12, W13, T12).
    pub start: SignedDuration,
    /// The log sidecar has not started (T12): the pod is replaced by one without it.
    pub log_sidecar: SignedDuration,
    /// `nodeLostTimeoutSeconds`: a node that is not ready for so long is given up (D17).
    pub node_lost: Option<SignedDuration>,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            pull_denied: SignedDuration::from_secs(20),
            pull_network: SignedDuration::from_mins(5),
            pulling: SignedDuration::from_hours(1),
            config: SignedDuration::from_mins(2),
            create: SignedDuration::from_mins(5),
            start: SignedDuration::from_mins(10),
            log_sidecar: SignedDuration::from_secs(60),
            node_lost: None,
        }
    }
}

/// What one look at a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Not bound to a node.
    Unbound,
    /// Bound, but no container of the job has started.
    Starting {
        /// When to look again even if nothing changes.
        until: Option<Timestamp>,
        /// What it waits for, for people.
        waiting_for: Option<String>,
    },
    /// A container of the job runs.
    Running {
        /// When the first of them started.
        started_at: Timestamp,
        /// The node is silent: nobody knows what the container does (D17, D18).
        unreachable: bool,
        /// When to look again even if nothing changes.
        until: Option<Timestamp>,
    },
    /// The attempt, or at least this pod, is over.
    Ended(Ending),
}

impl Sight {
    /// True if the node had a say in this verdict: seen otherwise, it might be another. A verdict
    /// is for ever, so it should rest on the node as it is, not as a cache has it.
    pub fn rests_on_node(&self) -> bool {
        matches!(self, Self::Ended(end) if matches!(end.class, Class::Host | Class::Deleted | Class::Unknown))
    }
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Who or what ended it.
    pub class: Class,
    /// The attempt's statusReason.
    pub status_reason: String,
    /// Exit code and reason of the container that decided.
    pub container: ContainerOutcome,
    /// How each container ended, if there are several.
    pub containers: Vec<NamedOutcome>,
    /// How each of those ended that run before the others.
    pub init_containers: Vec<NamedOutcome>,
    /// When the job's container started, if it did.
    pub started_at: Option<Timestamp>,
    /// When the pod ended; never before it started.
    pub stopped_at: Option<Timestamp>,
    /// The last lines of the failed container's output.
    pub log_tail: Option<String>,
}

/// Who or what ended a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The job's container exited with 0.
    Succeeded,
    /// The job's container ended in any other way of its own.
    Application,
    /// An image could not be had.
    Image,
    /// The pod could never start as it is described.
    Configuration,
    /// The node or the cluster took the pod away.
    Host,
    /// Somebody deleted the pod.
    Deleted,
    /// `activeDeadlineSeconds` ended the pod: not retried.
    Timeout,
    /// The pod was gone before it was bound, or its log sidecar never started: no attempt is used.
    Unplaced,
    /// The kubelet refused the pod: no attempt is used, up to a limit.
    Rejected,
    /// Nothing observed tells how the pod ended.
    Unknown,
}

impl Class {
    /// True if an end of this class uses up an attempt.
    pub fn uses_attempt(self) -> bool {
        !matches!(self, Self::Unplaced | Self::Rejected)
    }
}

impl Ending {
    fn of(class: Class, status_reason: &str) -> Self {
        Self {
            class,
            status_reason: status_reason.to_owned(),
            container: ContainerOutcome::default(),
            containers: Vec::new(),
            init_containers: Vec::new(),
            started_at: None,
            stopped_at: None,
            log_tail: None,
        }
    }

    /// With what is known of each container.
    fn of_all(self, pod: &PodView) -> Self {
        let (init_containers, containers) = container::outcomes(pod);
        let stopped_at = self.stopped_at.map(|at| container::last_end(pod).unwrap_or(at).max(at));
        Self { containers, init_containers, stopped_at, ..self }
    }

    /// With this reason of the container.
    fn because(mut self, why: Option<String>) -> Self {
        self.container.reason = why;
        self
    }

    /// With what is known of the container's end.
    fn with(mut self, end: Option<&End<'_>>) -> Self {
        self.container.exit_code = end.and_then(End::exit_code);
        self.stopped_at = end.and_then(|end| end.finished_at);
        self.log_tail = end.and_then(End::log_tail);
        self
    }

    /// With the times that an end must have; clocks of nodes may be wrong.
    fn timed(self, started_at: Option<Timestamp>, now: Timestamp) -> Self {
        let stopped_at = self.stopped_at.unwrap_or(now);
        let stopped_at = started_at.map_or(stopped_at, |started| started.max(stopped_at));
        Self { started_at, stopped_at: Some(stopped_at), ..self }
    }
}

/// What is to be seen of an attempt's pod.
///
/// `node` is the pod's node; `None` for a bound pod means that there is no such Node object, as
/// does `exists: false`. `instance` is the node's instance id as it was captured at bind.
///
/// The same arguments always give the same answer, and what has ended stays ended as time passes.
pub fn look(
    pod: &PodView,
    node: Option<&NodeView>,
    instance: Option<&str>,
    tolerances: &Tolerances,
    now: Timestamp,
) -> Sight {
    let started_at = container::started_at(pod);
    let node_name = pod.node_name.as_deref().filter(|name| !name.is_empty());
    let host = Host::new(node, instance, node_name);
    let over = match (pod.phase, node_name) {
        (PodPhase::Succeeded, _) => Some(succeeded(pod)),
        (phase, None) if phase == PodPhase::Failed || pod.deleted_at.is_some() => {
            Some(Ending::of(Class::Unplaced, reason::UNPLACED)) // D14
        }
        (_, None) => return Sight::Unbound, // W14, W15
        (_, Some(_)) => over(pod, &host),
    };
    match over {
        Some(ending) => Sight::Ended(ending.of_all(pod).timed(started_at, now)),
        None => going_on(pod, &host, tolerances, now),
    }
}

/// What became of a pod whose object is gone although its end was never recorded: somebody took
/// our finalizer off. `node` and `instance` as for [`look`].
pub fn vanished(
    started_at: Option<Timestamp>,
    node: Option<&NodeView>,
    instance: Option<&str>,
    was_bound: bool,
    now: Timestamp,
) -> Ending {
    let host = Host::new(node, instance, None);
    let ending = match was_bound {
        false => Ending::of(Class::Unplaced, reason::UNPLACED),
        true if host.is_leaving() => host_terminated(&host),
        true => Ending::of(Class::Deleted, reason::POD_DELETED),
    };
    ending.timed(container::real(started_at), now)
}

/// T1: exit code 0 everywhere, whatever else happened to the pod.
fn succeeded(pod: &PodView) -> Ending {
    let end = container::first_end(pod);
    let ending = Ending::of(Class::Succeeded, reason::ESSENTIAL_EXITED).with(end.as_ref());
    Ending { container: ContainerOutcome { exit_code: Some(0), reason: None }, ..ending }
}

/// How a bound pod ended, if it did. The job's end is the end of its own container, also while
/// others still run; only a pod that is being stopped is left to stop in full.
fn over(pod: &PodView, host: &Host<'_>) -> Option<Ending> {
    let failed = pod.phase == PodPhase::Failed;
    let end = container::first_end(pod);
    if failed && let Some(ending) = disruption::by_kubelet(pod, end.as_ref(), host) {
        return Some(ending);
    }
    let own = |end: &End<'_>| end.verdict(container::started_at(pod), host);
    match (end, Interruption::of(pod, host)) {
        (Some(end), None) => Some(own(&end)),
        (Some(end), Some(interruption)) if interruption.is_later_than(&end) => Some(own(&end)),
        (Some(_), Some(_)) if container::all_succeeded(pod) => Some(succeeded(pod)),
        (Some(end), Some(interruption)) if failed || !container::is_running(pod) => {
            Some(interruption.ending(Some(&end)))
        }
        (None, Some(interruption)) if failed => Some(interruption.ending(None)),
        (None, None) if failed => Some(Ending::of(Class::Unknown, reason::UNKNOWN)),
        _ => None,
    }
}

/// A bound pod that has not ended: only its node or too long a wait can end it.
fn going_on(pod: &PodView, host: &Host<'_>, tolerances: &Tolerances, now: Timestamp) -> Sight {
    let started_at = container::started_at(pod);
    let ended = |ending: Ending| Sight::Ended(ending.of_all(pod).timed(started_at, now));
    let terminating = pod.deleted_at.is_some();
    if host.is_gone() || (terminating && host.is_out_of_service()) {
        return ended(host_terminated(host)); // D4, D13
    }
    let lost_at = host.lost_at(tolerances.node_lost);
    if lost_at.is_some_and(|at| at <= now) {
        return ended(Ending { stopped_at: lost_at, ..host_terminated(host) }); // D17
    }
    // A silent node may have started the container without telling, and a pod that is being
    // deleted will end: neither is kept waiting by its own fault.
    let silent = host.is_silent();
    let dwell = waiting::dwell(pod, tolerances).filter(|_| !silent && !terminating);
    let dwell_ends = dwell.as_ref().and_then(|dwell| dwell.ends);
    if let Some(dwell) = dwell.as_ref().filter(|_| dwell_ends.is_some_and(|at| at <= now)) {
        return ended(dwell.ending());
    }
    let until = [lost_at, dwell_ends].into_iter().flatten().min();
    if container::is_running(pod) {
        let started_at = started_at.or_else(|| waiting::begun_at(pod)).unwrap_or(now);
        let unreachable = silent || pod.reason.as_deref() == Some("NodeLost"); // D17, D18
        return Sight::Running { started_at, unreachable, until };
    }
    let waiting_for = match (silent, terminating) {
        (true, _) => Some(reason::NODE_SILENT.to_owned()),
        (_, true) => Some(reason::POD_ENDING.to_owned()),
        _ => dwell.map(|dwell| dwell.text).filter(|text| !text.is_empty()),
    };
    Sight::Starting { until, waiting_for }
}

fn host_terminated(host: &Host<'_>) -> Ending {
    Ending::of(Class::Host, &reason::host_terminated(host.instance))
}

/// The exit code of a container that has ended; none is known if no process gave one.
pub(crate) fn end_code(container: &ContainerView) -> Option<Option<i32>> {
    container::end_of(container).map(|end| end.exit_code())
}

/// When a container ended.
pub(crate) fn stopped_at(container: &ContainerView) -> Option<Timestamp> {
    container::end_of(container)?.finished_at
}

/// `at` plus `by`, at most the end of time.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at` less `by`, at least the beginning of time.
fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
