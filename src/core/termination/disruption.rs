//! What others did to a pod: the kubelet's refusals (R1–R7) and limits (D9, D10), and everything
//! by which the cluster or a person takes a pod away (D1–D8, D12, D13).

use jiff::{SignedDuration, Timestamp};

use super::container::{self, End, How};
use super::host::Host;
use super::{Class, Ending, earlier};
use crate::pod::{PodCondition, PodPhase, PodView};
use crate::reason;

/// Refusals that no other node would take back either (R7).
const MISMATCHES: [&str; 7] = [
    "SysctlForbidden",
    "AppArmor",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "SupplementalGroupsPolicyNotSupported",
    "PodLevelResourcesNotSupported",
    "PodFeatureUnsupported",
];

/// Words by which the kubelet reports a disruption, not a refusal (D6, D7), or a silent node (D18).
const NO_REFUSALS: [&str; 3] = ["Terminated", "Preempting", "NodeLost"];

/// The end of a failed pod by the kubelet's own word, where that word alone decides.
pub(super) fn by_kubelet(pod: &PodView, end: Option<&End<'_>>, host: &Host<'_>) -> Option<Ending> {
    let word = pod.reason.as_deref().filter(|word| !word.is_empty())?;
    let message = pod.message.as_deref().unwrap_or_default();
    let refusal = refusal(message);
    let disrupted = disruption(pod).is_some();
    let ran = container::started_at(pod).is_some() || end.is_some_and(|end| end.how != How::Lost);
    let refused = !disrupted && !ran && !NO_REFUSALS.contains(&word);
    let not_started =
        |class| Ending::of(class, reason::FAILED_TO_START).because(Some(reason::kubelet(word, refusal)));
    let ending = match word {
        "DeadlineExceeded" => Ending::of(Class::Timeout, reason::TIMED_OUT), // D10
        "NodeShutdown" => Ending::of(Class::Host, &reason::host_terminated(host.instance)), // R6
        "Evicted" if disrupted => return None,                               // D5
        "Evicted" if refused && (pod.containers.is_empty() || speaks_of_node(message)) => {
            not_started(Class::Rejected) // R5
        }
        "Evicted" if speaks_of_node(message) => return None, // R5 of a pod that ran
        "Evicted" => Ending::of(Class::Application, reason::ESSENTIAL_EXITED)
            .because(Some(reason::kubelet("", message))), // D9
        _ if !refused => return None,
        _ if MISMATCHES.contains(&word) => not_started(Class::Configuration), // R7
        _ => not_started(Class::Rejected),                                    // R1–R4
    };
    Some(ending.with(end))
}

/// Something that ends a pod from outside.
pub(super) struct Interruption {
    ending: Ending,
    /// When it began; `None` if it did but nobody knows when.
    since: Option<Timestamp>,
}

impl Interruption {
    /// What, if anything, interrupts the pod. A disruption outranks a deletion, which often comes
    /// with it.
    pub(super) fn of(pod: &PodView, host: &Host<'_>) -> Option<Self> {
        Self::by_cluster(pod, host).or_else(|| Self::by_deletion(pod, host))
    }

    fn by_cluster(pod: &PodView, host: &Host<'_>) -> Option<Self> {
        let terminated = || reason::host_terminated(host.instance);
        let preempted = |why| reason::host_preempted(host.instance, why);
        let evicted = |why| reason::host_evicted(host.instance, why);

        let failed = pod.phase == PodPhase::Failed;
        let word = pod.reason.as_deref().filter(|_| failed).unwrap_or_default();
        let condition = disruption(pod);
        let by = condition.map(|c| c.reason.as_deref().unwrap_or_default());
        let told = [condition.and_then(|c| c.message.as_deref()), pod.message.as_deref(), by, Some(word)];
        let why = told.into_iter().flatten().find(|text| !text.is_empty()).unwrap_or_default();
        let status_reason = match (by, word) {
            (Some("PreemptionByScheduler"), _) => preempted(why), // D1
            (Some("DeletionByTaintManager" | "DeletionByPodGC"), _) => terminated(), // D2, D4
            (Some("EvictionByEvictionAPI"), _) if host.is_leaving() => terminated(), // D3
            (Some("DeletionByDeviceTaintManager"), _) => evicted("device taint"), // D8
            (_, "Terminated") => terminated(),                    // D6
            (_, "Preempting") => preempted(why),                  // D7
            (Some(_), _) => evicted(why),                         // D3, D5
            (None, _) if failed && container::is_running(pod) => terminated(), // D13, D4
            (None, word) if is_refusal(word) => terminated(),     // R2 of a pod that ran
            (None, "Evicted") if speaks_of_node(why) => evicted(refusal(why)), // R5 of a pod that ran
            (None, _) => return None,
        };
        let ending = Ending::of(Class::Host, &status_reason);
        let deleted_at = deletion_requested_at(pod).unwrap_or(Timestamp::MAX);
        Some(Self { ending, since: condition.and_then(|c| c.since).map(|since| since.min(deleted_at)) })
    }

    fn by_deletion(pod: &PodView, host: &Host<'_>) -> Option<Self> {
        pod.deleted_at?;
        let ending = match host.is_leaving() {
            true => Ending::of(Class::Host, &reason::host_terminated(host.instance)), // a drain by DELETE
            false => Ending::of(Class::Deleted, reason::POD_DELETED),                 // D12, D15
        };
        Some(Self { ending, since: deletion_began_at(pod) })
    }

    /// True if the container surely ended before, by itself. Times have whole seconds, and a
    /// container that stops in the second in which it was asked to was probably told.
    pub(super) fn is_later_than(&self, end: &End<'_>) -> bool {
        end.how != How::Lost && matches!((end.finished_at, self.since), (Some(end), Some(i)) if end < i)
    }

    /// The pod's end, if this caused it. The container's exit code is told where there is one.
    pub(super) fn ending(self, end: Option<&End<'_>>) -> Ending {
        let ending = self.ending.with(end);
        Ending { stopped_at: ending.stopped_at.or(self.since), ..ending }
    }
}

/// What the kubelet says of a pod that it refuses.
fn refusal(message: &str) -> &str {
    message.strip_prefix("Pod was rejected: ").unwrap_or(message)
}

/// True if the kubelet refuses a pod since its node is short of something; the same word stands for
/// a pod that used too much itself (D9).
fn speaks_of_node(message: &str) -> bool {
    refusal(message).starts_with("The node had condition: ")
}

/// True if the kubelet refuses a pod with this word. A restarted kubelet looks at its pods as at new
/// ones, so that also one that ran may be refused; then its containers are stopped, and nothing tells
/// when that began.
fn is_refusal(word: &str) -> bool {
    !["", "Evicted"].contains(&word) && !NO_REFUSALS.contains(&word)
}

/// The condition DisruptionTarget, which is reset to False when nothing came of it.
fn disruption(pod: &PodView) -> Option<&PodCondition> {
    pod.conditions.iter().find(|c| c.kind == "DisruptionTarget" && c.status)
}

/// When somebody asked for the deletion: `deletionTimestamp` lies ahead by the grace period.
fn deletion_requested_at(pod: &PodView) -> Option<Timestamp> {
    let grace = SignedDuration::from_secs(pod.deletion_grace_seconds.unwrap_or(0).max(0));
    Some(earlier(pod.deleted_at?, grace))
}

/// When the deletion began to work on the containers; `None` if it did but the time is lost.
///
/// The kubelet deletes a pod once more, without grace, when its containers have ended, and the API
/// server then moves `deletionTimestamp` to that moment (`BeforeDelete` in
/// `apiserver/pkg/registry/rest/delete.go`). The same is to be seen of a pod that ended by itself
/// and was deleted afterwards. Whether the kubelet knew of the deletion when it reported the end
/// tells them apart; kubelets that do not say so leave the signals of a deletion as the only sign.
fn deletion_began_at(pod: &PodView) -> Option<Timestamp> {
    let over = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let without_grace = pod.deletion_grace_seconds.unwrap_or(0) <= 0;
    let told = match (pod.generation, pod.observed_generation) {
        (Some(generation), Some(observed)) => observed >= generation,
        _ => container::by_deletion_signal(pod),
    };
    if over && without_grace && told { None } else { deletion_requested_at(pod) }
}
