//! Pods that are bound but not started (W1–W13, T12). The kubelet tries for ever, so the state
//! ends the attempt when it lasts too long. The clock is the pod's own: conditions and container
//! times, which outlive a restart of the operator.

use jiff::{SignedDuration, Timestamp};

use super::container::{self, End, How};
use super::pull::{self, Cause};
use super::{Class, Ending, Tolerances, later};
use crate::logging::sidecar;
use crate::order::{self, CONFIG, Standing};
use crate::pod::{Address, ContainerRole, ContainerState, ContainerView, PodCondition, PodView};
use crate::reason::{self, clean};

/// Something that a pod waits for before a container can start.
pub(super) struct Dwell {
    /// When it has lasted too long; `None` if it may last.
    pub(super) ends: Option<Timestamp>,
    /// In words.
    pub(super) text: String,
    rule: Rule,
}

impl Dwell {
    /// The pod's end once the dwell is over.
    pub(super) fn ending(&self) -> Ending {
        let ending = Ending::of(self.rule.class, reason::FAILED_TO_START);
        Ending { stopped_at: self.ends, ..ending.because(Some(self.rule.reason.clone())) }
    }
}

/// How long a state is tolerated and what it means after that.
struct Rule {
    tolerance: Option<SignedDuration>,
    class: Class,
    reason: String,
}

/// What a bound pod waits for, if anything: of several things the one that ends first.
pub(super) fn dwell(pod: &PodView, tolerances: &Tolerances) -> Option<Dwell> {
    let scene = Scene { pod, tolerances };
    if pod.containers.is_empty() && pod.init_containers.is_empty() {
        return Some(scene.nothing_reported());
    }
    let initializing = !container::is_running(pod) && !scene.holds("Initialized");
    if let Some(dwell) = scene.init().filter(|_| initializing) {
        return Some(dwell);
    }
    scene.essentials().min_by_key(soonest)
}

fn soonest(dwell: &Dwell) -> (bool, Option<Timestamp>) {
    (dwell.ends.is_none(), dwell.ends)
}

struct Scene<'a> {
    pod: &'a PodView,
    tolerances: &'a Tolerances,
}

impl<'a> Scene<'a> {
    fn condition(&self, kind: &str) -> Option<&'a PodCondition> {
        self.pod.conditions.iter().find(|c| c.kind == kind)
    }

    fn holds(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|c| c.status)
    }

    /// When the kubelet could turn to a container: the sandbox was ready, and whatever comes
    /// before that container was through.
    fn clock<'b>(&self, before: impl Iterator<Item = &'b ContainerView>) -> Option<Timestamp> {
        Some(before.filter_map(through_at).fold(begun_at(self.pod)?, Timestamp::max))
    }

    fn dwell(&self, clock: Option<Timestamp>, rule: Rule, text: &str) -> Dwell {
        let ends = clock.zip(rule.tolerance).map(|(clock, tolerance)| later(clock, tolerance));
        Dwell { ends, text: clean::line(text, clean::REASON_LIMIT), rule }
    }

    /// Bound, and no word from the kubelet.
    fn nothing_reported(&self) -> Dwell {
        let why = reason::not_taken(self.tolerances.start.as_secs());
        let rule = unready(self.tolerances.start, &why);
        self.dwell(self.clock(std::iter::empty()), rule, reason::NODE_TO_BEGIN)
    }

    /// True for a log sidecar once a container behind it has begun: what becomes of it then holds up nobody.
    fn has_let_begin(&self, at: usize, container: &ContainerView) -> bool {
        let mut behind = self.pod.init_containers.iter().skip(at + 1).chain(&self.pod.containers);
        let has_begun =
            |c: &ContainerView| container::start_of(c).is_some() || container::end_of(c).is_some();
        sidecar::is_ours(&container.name) && behind.any(has_begun)
    }

    /// The init container or sidecar at which the pod's start stands (W13).
    fn init(&self) -> Option<Dwell> {
        let inits = &self.pod.init_containers;
        let mut numbered = inits.iter().enumerate();
        let (at, _) = numbered.find(|(at, c)| !is_through(c) && !self.has_let_begin(*at, c))?;
        let (before, container) = (inits.get(..at)?, inits.get(at)?);
        let clock = self.clock(before.iter());
        match (&container.state, container.role) {
            (ContainerState::Running { .. }, _) => {
                let rule = Rule { tolerance: None, ..unready(self.tolerances.start, "") };
                Some(self.dwell(clock, rule, &reason::init_runs(&container.name)))
            }
            (state, ContainerRole::Sidecar)
                if sidecar::is_ours(&container.name) && self.holds("PodReadyToStartContainers") =>
            {
                let (word, message) = words(state);
                let why = reason::kubelet(word, pull::without_rpc(message));
                let tolerance = self.tolerances.log_sidecar;
                let why = reason::logs::sidecar_late(tolerance.as_secs(), &why);
                let rule = Rule { tolerance: Some(tolerance), class: Class::Unplaced, reason: why.clone() };
                Some(self.dwell(clock, rule, &why))
            }
            // T12: never the image's or the configuration's fault, for it is not the job's own.
            (state, ContainerRole::Sidecar) => {
                let (word, message) = words(state);
                let why = reason::sidecar_not_started(&container.name, &reason::kubelet(word, message));
                Some(self.dwell(clock, unready(self.tolerances.start, &why), &why))
            }
            (state, _) => Some(self.waits(clock, state)),
        }
    }

    /// What each container of the job waits for.
    fn essentials(&self) -> impl Iterator<Item = Dwell> {
        let is_the_jobs =
            |c: &&ContainerView| matches!(c.role, ContainerRole::Essential | ContainerRole::Joint);
        self.pod.containers.iter().filter(is_the_jobs).filter_map(|container| self.of(container))
    }

    /// What a container waits for that has not started.
    fn of(&self, container: &ContainerView) -> Option<Dwell> {
        if !matches!(container.state, ContainerState::Waiting { .. } | ContainerState::Unknown) {
            return None;
        }
        let is_held = words(&container.state).0 == CONFIG;
        Some(match order::standing(self.pod, container).filter(|_| is_held) {
            Some(standing) => self.in_line(container, standing),
            None => self.waits(self.turn_of(container), &container.state),
        })
    }

    /// When the kubelet could turn to one of the containers.
    fn turn_of(&self, container: &ContainerView) -> Option<Timestamp> {
        let earlier = self.pod.containers.iter().take_while(|other| !std::ptr::eq(*other, container));
        let clock = self.clock(self.pod.init_containers.iter().chain(earlier))?;
        Some(since(self.pod, "Initialized").map_or(clock, |initialized| clock.max(initialized)))
    }

    /// A container that others have to let start: what the kubelet misses is our word.
    fn in_line(&self, container: &ContainerView, standing: Standing) -> Dwell {
        let rule = |why| Rule { tolerance: None, class: Class::Configuration, reason: why };
        let clock = self.turn_of(container);
        match standing {
            Standing::Open(since) => {
                self.waits(clock.map(|clock| clock.max(since.unwrap_or(clock))), &container.state)
            }
            Standing::Waits { ends, text, why } => {
                let own = Dwell { ends, ..self.dwell(None, rule(why), &text) };
                self.with_others(container, own)
            }
            Standing::Never(since, why) => {
                Dwell { ends: since.or(clock), ..self.dwell(None, rule(why.clone()), &why) }
            }
        }
    }

    /// A wait for others lasts no longer than they have to start: an auxiliary container that cannot ends nothing by
    /// itself, but what waits for it never starts.
    fn with_others(&self, container: &ContainerView, own: Dwell) -> Dwell {
        let waits = |other: &&ContainerView| {
            let held = || matches!(order::standing(self.pod, other), Some(Standing::Waits { .. }));
            words(&other.state).0 != CONFIG || !held()
        };
        let others = order::awaited(self.pod, container).into_iter().filter(waits);
        let first = others.filter_map(|other| self.of(other)).min_by_key(soonest);
        match first.filter(|first| soonest(first) < soonest(&own)) {
            Some(first) => Dwell { text: own.text, ..first },
            None => own,
        }
    }

    fn waits(&self, clock: Option<Timestamp>, state: &ContainerState) -> Dwell {
        let (word, message) = words(state);
        let sandbox = self.condition("PodReadyToStartContainers").is_none_or(|c| c.status);
        let rule = rule(word, message, sandbox, self.tolerances);
        let text = reason::kubelet(word, pull::without_rpc(message));
        match self.pod.address {
            // W8 of a worker of a gang: what is missing is written once the main node has it.
            Address::Awaited if word == CONFIG => {
                self.dwell(clock, Rule { tolerance: None, ..rule }, reason::ADDRESS_AWAITED)
            }
            Address::Since(at) if word == CONFIG => self.dwell(clock.map(|clock| clock.max(at)), rule, &text),
            Address::NotNeeded | Address::Awaited | Address::Since(_) => self.dwell(clock, rule, &text),
        }
    }
}

/// Why a container has not started, where somebody says so: it is in the way of those that wait for it only.
pub(super) fn obstacle(pod: &PodView, container: &ContainerView) -> Option<String> {
    let (word, message) = words(&container.state);
    match order::standing(pod, container).filter(|_| word == CONFIG) {
        Some(Standing::Never(_, why)) => return Some(why),
        Some(Standing::Waits { .. }) => return None,
        Some(Standing::Open(_)) if !pod.opened.contains(&container.name) => return None,
        Some(Standing::Open(_)) | None => {}
    }
    (!message.is_empty()).then(|| rule(word, message, true, &Tolerances::default()).reason)
}

/// When the pod's containers could first be begun, as far as its conditions tell.
pub(super) fn begun_at(pod: &PodView) -> Option<Timestamp> {
    since(pod, "PodReadyToStartContainers").or_else(|| since(pod, "PodScheduled")).or(pod.created_at)
}

/// Since when a condition is true.
fn since(pod: &PodView, kind: &str) -> Option<Timestamp> {
    pod.conditions.iter().find(|c| c.kind == kind && c.status)?.since
}

/// The table's section 3.2, row by row.
fn rule(word: &str, message: &str, sandbox_ready: bool, t: &Tolerances) -> Rule {
    let pull = |tolerance, why: &str| Rule {
        tolerance: Some(tolerance),
        class: Class::Image,
        reason: reason::cannot_pull(pull::without_rpc(why)),
    };
    let setup = |tolerance, reason| Rule { tolerance: Some(tolerance), class: Class::Configuration, reason };
    match word {
        "ErrImagePull" => match pull::cause(message) {
            Cause::Denied => pull(t.pull_denied, message),   // W1
            Cause::Network => pull(t.pull_network, message), // W1
        },
        "ImagePullBackOff" => match pull::behind_back_off(message) {
            Some((behind, cause)) if behind != word => rule(behind, cause, sandbox_ready, t), // W2
            _ => pull(t.pull_network, message), // W2 before 1.32: the cause is not told
        },
        "RegistryUnavailable" => pull(t.pull_network, message), // W3
        "SignatureValidationFailed" => pull(SignedDuration::ZERO, message), // W4
        "InvalidImageName" => pull(SignedDuration::ZERO, message), // W5
        "ErrImageNeverPull" => pull(t.pull_denied, message),    // W6
        "ImageInspectError" => pull(t.pull_network, message),   // W7
        CONFIG => setup(t.config, reason::cannot_initialize(message)), // W8
        "CreateContainerError" => setup(t.create, reason::cannot_create(pull::without_rpc(message))), // W9
        "RunContainerError" => setup(t.create, reason::cannot_start(pull::without_rpc(message))), // W10
        "PreCreateHookError" | "PreStartHookError" | "PostStartHookError" => {
            setup(t.create, reason::cannot_start(&reason::kubelet(word, message))) // W11
        }
        "" | "ContainerCreating" if sandbox_ready => {
            pull(t.pulling, &reason::still_pulling(t.pulling.as_secs())) // W12: only pulls take long here
        }
        "" | "ContainerCreating" => unready(t.start, &reason::still_preparing(t.start.as_secs())), // W12
        "PodInitializing" => unready(t.start, &reason::still_initializing(t.start.as_secs())),     // W13
        _ => setup(t.start, reason::cannot_start(&reason::kubelet(word, message))),
    }
}

fn unready(tolerance: SignedDuration, why: &str) -> Rule {
    Rule { tolerance: Some(tolerance), class: Class::Configuration, reason: reason::cannot_initialize(why) }
}

fn words(state: &ContainerState) -> (&str, &str) {
    match state {
        ContainerState::Waiting { reason, message } | ContainerState::Terminated { reason, message, .. } => {
            (reason.as_deref().unwrap_or_default(), message.as_deref().unwrap_or_default())
        }
        ContainerState::Unknown | ContainerState::Running { .. } => ("", ""),
    }
}

/// True if an init container or sidecar lets the next one begin.
fn is_through(container: &ContainerView) -> bool {
    match container.role {
        ContainerRole::Sidecar => matches!(container.state, ContainerState::Running { .. }),
        _ => matches!(container::end_of(container), Some(End { how: How::Exited(0), .. })),
    }
}

/// When a container let the next one begin: an init container by its end, others by their start.
/// Not sidecars, which may start over and over.
fn through_at(container: &ContainerView) -> Option<Timestamp> {
    match container.role {
        ContainerRole::Sidecar => None,
        ContainerRole::Init => container::end_of(container)?.finished_at,
        ContainerRole::Essential | ContainerRole::Joint | ContainerRole::Auxiliary => {
            container::start_of(container)
        }
    }
}
