//! What is remembered of a job: the part of a BatchJob's status that decisions are made from.
//!
//! The record is the only memory. Together with the pods that exist it must suffice to go on
//! after a crash at any point, so everything that could vanish with a pod or a node (the instance
//! id, the outcome, a stop order) is written here before it is acted upon.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use crate::dependency::Noted;
use crate::waits::{Kind, Wait};

/// The persistent state of one single job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Where the job is in its life: one of AWS's seven job states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why the job waits, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// What a job that has not started waits for, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The job's id: `spec.jobId`, else the object's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The definition and revision that the job runs, as `name:revision`. Resolved once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition: Option<String>,
    /// What the job saw last of those that it depends on, while it had to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub depends_on: Vec<Noted>,
    /// When the job was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The object's resourceVersion when the job was first seen: the order of jobs that were created in one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When the job last became RUNNABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable_at: Option<Timestamp>,
    /// When the last attempt's container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// The job was cancelled before it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_cancelled: Option<bool>,
    /// The job was ended on demand: by a user, or with its queue or its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_terminated: Option<bool>,
    /// A decision to end the job that is not carried out yet. Outranks what the pod then shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The pod that runs the job now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// Attempts that ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub attempts: Vec<Attempt>,
    /// Pods of the next attempt that started nothing and used up no attempt, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub placements: Vec<Placement>,
    /// The last lines of the last failed attempt's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

impl Record {
    /// Notes what the job waits for. A wait of the same kind goes on: it keeps its beginning.
    pub fn wait_for(&mut self, wait: &Wait, now: Timestamp) {
        if self.says(wait) {
            return;
        }
        self.status_reason = Some(wait.text.clone());
        self.waiting = Some(Waiting::after(self.waiting, wait.kind, now));
    }

    /// True if the record says that the job waits for this, in these words or, where words are passing, in others.
    pub fn says(&self, wait: &Wait) -> bool {
        let says = |text: &String| wait.kind.has_passing_words() || *text == wait.text;
        self.waiting.is_some_and(|waiting| waiting.kind == wait.kind)
            && self.status_reason.as_ref().is_some_and(says)
    }

    /// The phase, SUBMITTED when nothing is recorded yet.
    pub fn phase(&self) -> Phase {
        self.phase.unwrap_or_default()
    }

    /// The number of the attempt that runs now or would run next.
    pub fn next_attempt(&self) -> u32 {
        self.attempts.len() as u32 + 1
    }

    /// The number of the next pod within the next attempt, from 0.
    pub fn next_placement(&self) -> u32 {
        let attempt = self.next_attempt();
        self.placements
            .iter()
            .filter(|p| p.attempt == attempt)
            .map(|p| p.placement.saturating_add(1))
            .max()
            .unwrap_or(0)
    }

    /// True if a pod of the job has had a node: such a job goes to the front of its queue. One whose pod was
    /// withdrawn before that has its old place.
    pub fn has_had_a_node(&self) -> bool {
        !self.attempts.is_empty() || self.placements.iter().any(|placement| placement.node_name.is_some())
    }

    /// True once the pod that runs the job is bound to a node.
    pub fn is_bound(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.bound_at.is_some())
    }

    /// True when the outcome of this pod already stands in the record.
    pub fn has_counted(&self, pod_uid: &str) -> bool {
        self.attempts.iter().any(|a| a.pod_uid == pod_uid)
            || self.placements.iter().any(|p| p.pod_uid == pod_uid)
    }
}

/// What a job waits for; its `statusReason` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The kind of thing.
    #[serde(rename = "for")]
    pub kind: Kind,
    /// Since when.
    pub since: Timestamp,
    /// It is a part of a wait for capacity, which began then: no node came for the job before it was placed anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_capacity: bool,
}

impl Waiting {
    /// A wait that begins or goes on now. Where no node comes for a job it is withdrawn and tried elsewhere, or in
    /// another round: what it waits for in between is a part of that wait, which keeps its beginning, or its queue's
    /// time limit would never be reached.
    fn after(known: Option<Self>, kind: Kind, now: Timestamp) -> Self {
        let is_part = matches!(kind, Kind::Placement | Kind::LastPod | Kind::Node);
        let short = |wait: &Self| wait.without_capacity || wait.kind == Kind::InsufficientInstanceCapacity;
        match known {
            Some(known) if known.kind == kind => known,
            Some(known) if short(&known) && kind == Kind::InsufficientInstanceCapacity => {
                Self::since(kind, known.since)
            }
            Some(known) if short(&known) && is_part => {
                Self { without_capacity: true, ..Self::since(kind, known.since) }
            }
            _ => Self::since(kind, now),
        }
    }

    /// A wait that began then.
    pub fn since(kind: Kind, since: Timestamp) -> Self {
        Self { kind, since, without_capacity: false }
    }
}

/// An order to end the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Who wants the job to end.
    pub kind: IntentKind,
    /// The text that becomes the job's statusReason.
    pub reason: String,
    /// When the order was recorded.
    pub at: Timestamp,
}

/// Why a job is being ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum IntentKind {
    /// `spec.cancel`, before a pod was bound.
    Cancel,
    /// `spec.terminate`.
    Terminate,
    /// The attempt ran longer than `attemptDurationSeconds`.
    Timeout,
    /// Nobody was connected to the session for `idleTimeoutSeconds`.
    Idle,
}

/// The pod that runs the job, and what must be known of its host when both are gone. While it is
/// not bound it stands here only if a gate had to be lifted for it (`strictFencing`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// Which pod of this attempt it is, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub placement: u32,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The compute environment that the pod was placed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_environment: Option<String>,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The instance id from the node's providerID, else the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What the node said when the pod was bound of the start of its machine (`nodeInfo.bootID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When the pod was seen bound to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Timestamp>,
    /// When the job's container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The stream of CloudWatch Logs that its output goes to, if it goes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream_name: Option<String>,
}

/// An attempt that ended. The members that AWS has bear AWS's names
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_AttemptDetail.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The compute environment that the pod was placed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_environment: Option<String>,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The instance id from the node's providerID, else the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The stream of CloudWatch Logs that its output goes to, if it goes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream_name: Option<String>,
    /// When the job's container started; absent if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// How the attempt ended; `onStatusReason` is matched against it.
    pub status_reason: String,
    /// How the container ended; of several the one that decided.
    #[serde(default)]
    pub container: ContainerOutcome,
    /// How each container ended, if there are several, as `taskProperties[].containers` or `containers` of AWS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub containers: Vec<NamedOutcome>,
    /// How each of those ended that run before the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub init_containers: Vec<NamedOutcome>,
    /// What decided whether the job is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<RetryDecision>,
}

/// The end of an attempt's container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerOutcome {
    /// The container's exit code; absent if none is known. `onExitCode` is matched against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// A reason beyond the exit code; `onReason` is matched against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The end of one of several containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedOutcome {
    /// The container's name, as its pod has it.
    pub name: String,
    /// The container runtime's id; absent if no container was ever made.
    #[serde(default, rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Its exit code; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// A reason beyond the exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the job is retried after an attempt, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryDecision {
    /// What happens next.
    pub action: RetryAction,
    /// The index in `evaluateOnExit` of the entry that decided, from 0; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u32>,
    /// The rule in words.
    pub rule: String,
}

/// RETRY or EXIT, as in evaluateOnExit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RetryAction {
    /// The job goes back to RUNNABLE.
    Retry,
    /// The job is FAILED (or SUCCEEDED).
    Exit,
}

/// A pod that started no container through no fault of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The attempt that it was made for.
    pub attempt: u32,
    /// Which pod of this attempt it was, from 0.
    pub placement: u32,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The node that refused it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Why it started nothing.
    pub status_reason: String,
    /// True if a node refused it; five in one attempt are free, the sixth ends the attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
    /// When this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
