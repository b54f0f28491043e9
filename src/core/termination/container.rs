//! How containers ended, and which of them speaks for the job (T1–T13).

use jiff::Timestamp;

use super::host::Host;
use super::{Class, Ending, waiting};
use crate::job::record::NamedOutcome;
use crate::pod::{ContainerRole, ContainerState, ContainerView, PodPhase, PodView};
use crate::reason::{self, clean};

/// How the message begins when the kubelet could not read the log, for example since it removed it
/// before (`pkg/kubelet/kuberuntime/kuberuntime_container.go`).
const NO_LOG: &str = "Error on reading termination message from logs: ";

/// The end of one container.
pub(super) struct End<'a> {
    pub(super) container: &'a ContainerView,
    pub(super) how: How,
    /// The runtime's word, such as `OOMKilled`.
    word: &'a str,
    message: &'a str,
    pub(super) finished_at: Option<Timestamp>,
}

/// How a container ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A process ran and ended with this code.
    Exited(i32),
    /// The runtime could not start a process.
    NotStarted,
    /// Nobody knows: the code is made up by the kubelet or the runtime.
    Lost,
}

impl End<'_> {
    /// The exit code, if a process gave one.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self.how {
            How::Exited(code) => Some(code),
            How::NotStarted | How::Lost => None,
        }
    }

    /// The last lines of a failed container: with `FallbackToLogsOnError` they are its message.
    pub(super) fn log_tail(&self) -> Option<String> {
        let is_log = matches!(self.how, How::Exited(code) if code != 0) && !self.message.starts_with(NO_LOG);
        is_log.then(|| reason::clean::tail(self.message)).flatten()
    }

    /// What this end means if nobody but the container is to blame.
    pub(super) fn verdict(&self, started_at: Option<Timestamp>, host: &Host<'_>) -> Ending {
        let init = self.container.role == ContainerRole::Init;
        let name = &self.container.name;
        let ending = match self.how {
            // T1, T4a
            How::Exited(0) => Ending::of(Class::Succeeded, reason::ESSENTIAL_EXITED),
            // T11, T4, T4b, T5, T2, T3
            How::Exited(_) => {
                let why = match self.word {
                    "OOMKilled" if init => Some(reason::init_out_of_memory(name)),
                    "OOMKilled" => Some(reason::OUT_OF_MEMORY.to_owned()),
                    _ if init => Some(reason::init_failed(name)),
                    "" | "Error" | "Completed" => None,
                    word => Some(reason::kubelet(word, "")),
                };
                Ending::of(Class::Application, reason::ESSENTIAL_EXITED).because(why)
            }
            // T6
            How::NotStarted => Ending::of(Class::Configuration, reason::FAILED_TO_START)
                .because(Some(reason::cannot_start(self.message))),
            // T7, T8, T9
            How::Lost if host.is_leaving() || host.was_away_since(started_at) => {
                Ending::of(Class::Host, &reason::host_terminated(host.instance))
            }
            How::Lost => Ending::of(Class::Unknown, reason::UNKNOWN),
        };
        ending.with(Some(self))
    }
}

/// The end that decides: a failed init container's (T11), else the earliest of an essential
/// container, even while others still run (T10). Of two in the same second the failure counts.
///
/// Of containers that are the job's work together it is the first failure, once all of them have ended.
pub(super) fn first_end(pod: &PodView) -> Option<End<'_>> {
    let failed_init = |end: &End<'_>| match end.how {
        How::Exited(code) => code != 0,
        How::NotStarted => true,
        How::Lost => pod.phase == PodPhase::Failed,
    };
    let init = pod.init_containers.iter().filter(|c| c.role == ContainerRole::Init);
    let joint = is_joint(pod);
    let ended = || !joint || pod.phase == PodPhase::Failed || essentials(pod).all(|c| end_of(c).is_some());
    init.filter_map(end_of).find(failed_init).or_else(|| {
        essentials(pod).filter(|_| ended()).filter_map(end_of).min_by_key(|end| {
            let well = end.how == How::Exited(0);
            (joint && well, end.finished_at.is_none(), end.finished_at, well)
        })
    })
}

/// True if the attempt ends with the last of its containers.
fn is_joint(pod: &PodView) -> bool {
    essentials(pod).any(|c| c.role == ContainerRole::Joint)
}

/// When the last of the containers ended that are the job's work together.
pub(super) fn last_end(pod: &PodView) -> Option<Timestamp> {
    let joint = pod.containers.iter().filter(|c| c.role == ContainerRole::Joint);
    joint.filter_map(|c| end_of(c)?.finished_at).max()
}

/// So many bytes have the reasons of all containers of an attempt, where it has several: a status tells of ten attempts.
const REASONS: usize = 1024;

/// How each of the pod's containers ended, as far as is known, if it has several: those that run to their end before the
/// others, and the others.
pub(super) fn outcomes(pod: &PodView) -> (Vec<NamedOutcome>, Vec<NamedOutcome>) {
    let inits = pod.init_containers.iter().filter(|c| c.role == ContainerRole::Init);
    let of = |container| outcome(pod, container);
    let (mut inits, mut others): (Vec<_>, Vec<_>) =
        (inits.map(of).collect(), pod.containers.iter().map(of).collect());
    let count = inits.len() + others.len();
    if count <= 1 {
        return (Vec::new(), Vec::new());
    }
    let reasons = inits.iter_mut().chain(&mut others).filter_map(|outcome| outcome.reason.as_mut());
    reasons.for_each(|reason| *reason = clean::within(reason, REASONS / count));
    (inits, others)
}

fn outcome(pod: &PodView, container: &ContainerView) -> NamedOutcome {
    let end = end_of(container);
    let why = match (&end, &container.state) {
        (Some(end), _) => match (end.how, end.word) {
            (How::NotStarted, _) => Some(reason::cannot_start(end.message)),
            (How::Lost, _) => Some(reason::UNKNOWN.to_owned()),
            (How::Exited(code), "OOMKilled") if code != 0 => Some(reason::OUT_OF_MEMORY.to_owned()),
            (How::Exited(_), "" | "Error" | "Completed" | "OOMKilled") => None,
            (How::Exited(_), word) => Some(reason::kubelet(word, "")),
        },
        (None, ContainerState::Running { .. }) => Some(reason::STOPPED_WITH_THE_ATTEMPT.to_owned()),
        (None, _) => waiting::obstacle(pod, container).or_else(|| Some(reason::NEVER_STARTED.to_owned())),
    };
    NamedOutcome {
        name: container.name.clone(),
        container_id: container.container_id.clone().filter(|id| !id.is_empty()),
        exit_code: end.as_ref().and_then(End::exit_code),
        reason: why,
    }
}

/// True if all of the job's containers ended with 0.
pub(super) fn all_succeeded(pod: &PodView) -> bool {
    essentials(pod).count() > 0
        && essentials(pod).all(|c| end_of(c).is_some_and(|end| end.how == How::Exited(0)))
}

/// True if a container of the job runs, as far as is known.
pub(super) fn is_running(pod: &PodView) -> bool {
    essentials(pod).any(|c| matches!(c.state, ContainerState::Running { .. }))
}

/// When the first of the job's containers started.
pub(super) fn started_at(pod: &PodView) -> Option<Timestamp> {
    essentials(pod).filter_map(start_of).min()
}

/// When a container last started.
pub(crate) fn start_of(container: &ContainerView) -> Option<Timestamp> {
    let start = |state: &ContainerState| match state {
        ContainerState::Running { started_at } | ContainerState::Terminated { started_at, .. } => {
            real(*started_at)
        }
        ContainerState::Unknown | ContainerState::Waiting { .. } => None,
    };
    start(&container.state).or_else(|| container.last_state.as_ref().and_then(start))
}

/// True if the container that speaks for the job ended by SIGTERM or SIGKILL, as those of a deleted
/// pod do unless they know better.
pub(super) fn by_deletion_signal(pod: &PodView) -> bool {
    let signalled = |end: End<'_>| matches!(end.how, How::Exited(143 | 137)) && end.word != "OOMKilled";
    first_end(pod).is_some_and(signalled)
}

fn essentials(pod: &PodView) -> impl Iterator<Item = &ContainerView> {
    pod.containers.iter().filter(|c| matches!(c.role, ContainerRole::Essential | ContainerRole::Joint))
}

/// A container ends once: one that waits after an earlier end has ended (T7, T13).
pub(super) fn end_of(container: &ContainerView) -> Option<End<'_>> {
    let state = match (&container.state, &container.last_state) {
        (ContainerState::Waiting { .. }, Some(last)) => last,
        (state, _) => state,
    };
    let ContainerState::Terminated { exit_code, reason, message, started_at, finished_at } = state else {
        return None;
    };
    let word = reason.as_deref().unwrap_or_default();
    let never_made =
        container.container_id.as_deref().is_none_or(str::is_empty) && real(*started_at).is_none();
    let how = match (word, *exit_code) {
        ("ContainerStatusUnknown", _) => How::Lost, // T7, T7a: 137 is the kubelet's invention
        ("Unknown", 255) => How::Lost,              // T8: containerd's
        (_, code) if code < 0 => How::Lost,         // T9: CRI-O's
        ("StartError" | "ContainerCannotRun", _) => How::NotStarted, // T6
        (_, code) if code != 0 && never_made => How::Lost, // T7a
        (_, code) => How::Exited(code),
    };
    let message = message.as_deref().unwrap_or_default();
    Some(End { container, how, word, message, finished_at: real(*finished_at) })
}

/// 1970 stands for "never".
pub(super) fn real(time: Option<Timestamp>) -> Option<Timestamp> {
    time.filter(|t| *t > Timestamp::UNIX_EPOCH)
}
