//! What a job waits for: in words, the `statusReason` of a job that has not started, and by kind.
//!
//! Why a job or an attempt ended is told by [`crate::reason`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reason::clean::{STATUS_REASON_LIMIT, shorten};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For programs. A wait that changes in words only is the same wait.
    pub kind: Kind,
    /// For people.
    pub text: String,
}

/// The kinds of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A JobQueue that takes the job.
    JobQueue,
    /// A JobDefinition.
    JobDefinition,
    /// A ServiceAccount.
    ServiceAccount,
    /// A SchedulingPolicy.
    SchedulingPolicy,
    /// Other jobs, which must succeed first.
    Dependency,
    /// The job's turn in its queue.
    Turn,
    /// The queue's `maxRunning`.
    MaxRunning,
    /// A ComputeEnvironment that takes the job.
    ComputeEnvironment,
    /// vCPUs.
    Vcpus,
    /// Memory.
    Memory,
    /// GPUs.
    Gpus,
    /// A node that takes the job.
    Node,
    /// A port of a node.
    HostPort,
    /// Tokens of a ConsumableResource.
    ConsumableResource,
    /// vCPUs that are kept for shares which are not active yet.
    ShareReservation,
    /// vCPUs of the namespace's part of an environment.
    NamespaceLimit,
    /// The namespace's ResourceQuota.
    ResourceQuota,
    /// An answer of the API server.
    ApiServer,
    /// A right that whoever submitted the job has lost, or that whoever makes its pods has not.
    Right,
    /// The end of the last attempt's pod.
    LastPod,
    /// The next attempt.
    Retry,
    /// Another pod: the last one started nothing.
    Placement,
    /// AWS's code CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY.
    InsufficientInstanceCapacity,
    /// AWS's code MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE.
    ComputeEnvironmentMaxResource,
    /// AWS's code MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT.
    JobResourceRequirement,
    /// AWS's code ACTION_REQUIRED: all environments of the queue are INVALID.
    ActionRequired,
}

impl Kind {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobQueue => "JobQueue",
            Self::JobDefinition => "JobDefinition",
            Self::ServiceAccount => "ServiceAccount",
            Self::SchedulingPolicy => "SchedulingPolicy",
            Self::Dependency => "Dependency",
            Self::Turn => "Turn",
            Self::MaxRunning => "MaxRunning",
            Self::ComputeEnvironment => "ComputeEnvironment",
            Self::Vcpus => "Vcpus",
            Self::Memory => "Memory",
            Self::Gpus => "Gpus",
            Self::Node => "Node",
            Self::HostPort => "HostPort",
            Self::ConsumableResource => "ConsumableResource",
            Self::ShareReservation => "ShareReservation",
            Self::NamespaceLimit => "NamespaceLimit",
            Self::ResourceQuota => "ResourceQuota",
            Self::ApiServer => "ApiServer",
            Self::Right => "Right",
            Self::LastPod => "LastPod",
            Self::Retry => "Retry",
            Self::Placement => "Placement",
            Self::InsufficientInstanceCapacity => "InsufficientInstanceCapacity",
            Self::ComputeEnvironmentMaxResource => "ComputeEnvironmentMaxResource",
            Self::JobResourceRequirement => "JobResourceRequirement",
            Self::ActionRequired => "ActionRequired",
        }
    }

    /// True if the words hold counts, or the words of others, that change while the job waits for the same thing: they
    /// are not worth a write.
    pub fn has_passing_words(self) -> bool {
        matches!(
            self,
            Self::MaxRunning
                | Self::Vcpus
                | Self::Memory
                | Self::Gpus
                | Self::Node
                | Self::ShareReservation
                | Self::ResourceQuota
                | Self::ApiServer
        )
    }

    /// AWS's code of a blocked queue, if it is one
    /// (<https://docs.aws.amazon.com/batch/latest/userguide/job-queue-state-detection.html>).
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::InsufficientInstanceCapacity => Some("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"),
            Self::ComputeEnvironmentMaxResource => Some("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"),
            Self::JobResourceRequirement => Some("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"),
            Self::ActionRequired => Some("ACTION_REQUIRED"),
            _ => None,
        }
    }
}

fn wait(kind: Kind, text: impl Into<String>) -> Wait {
    Wait { kind, text: text.into() }
}

/// SUBMITTED: the queue is not there, or not yet.
pub fn queue_missing(queue: &str) -> Wait {
    wait(Kind::JobQueue, format!("Waiting for JobQueue {queue}, which does not exist"))
}

/// SUBMITTED: the queue accepts no jobs
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateJobQueue.html>, `state`).
pub fn queue_disabled(queue: &str) -> Wait {
    wait(Kind::JobQueue, format!("Waiting for JobQueue {queue}, which is DISABLED"))
}

/// SUBMITTED: the queue is being deleted and takes nothing new.
pub fn queue_deleting(queue: &str) -> Wait {
    wait(Kind::JobQueue, format!("Waiting for JobQueue {queue}, which is being deleted"))
}

/// SUBMITTED: the array whose failed children are to run again is not there, or not yet.
pub fn rerun_missing(reference: &str) -> Wait {
    wait(Kind::Dependency, format!("Waiting for BatchJob {reference} of rerunFailedOf, which does not exist"))
}

/// SUBMITTED: which of its children fail is not known yet.
pub fn rerun_unfinished(reference: &str) -> Wait {
    wait(Kind::Dependency, format!("Waiting for BatchJob {reference} of rerunFailedOf to end"))
}

/// SUBMITTED: the definition is not there, or not yet.
pub fn definition_missing(reference: &str) -> Wait {
    wait(Kind::JobDefinition, format!("Waiting for JobDefinition {reference}, which does not exist"))
}

/// SUBMITTED: the definition was changed a moment ago and its new revision is being made.
pub fn definition_settling(name: &str) -> Wait {
    wait(Kind::JobDefinition, format!("Waiting for the new revision of JobDefinition {name}"))
}

/// SUBMITTED: all revisions that the reference could mean are deregistered.
pub fn definition_inactive(reference: &str) -> Wait {
    wait(Kind::JobDefinition, format!("Waiting for an ACTIVE revision of JobDefinition {reference}"))
}

/// SUBMITTED: no ServiceAccount stands for the role, or not yet.
pub fn service_account_missing(role: &str, account: &str) -> Wait {
    wait(
        Kind::ServiceAccount,
        format!(
            "Waiting for a ServiceAccount for jobRoleArn {role}: none is annotated with it and none is named {account}"
        ),
    )
}

/// PENDING: the jobs that it depends on have not ended (`unfinished`) or do not exist, or not yet (`missing`).
pub fn dependencies(unfinished: &[String], missing: &[String]) -> Wait {
    let ends = match unfinished {
        [] => None,
        [one] => Some(format!("BatchJob {one} to succeed")),
        several => Some(format!("{} BatchJobs to succeed: {}", several.len(), some_of(several))),
    };
    let come = match missing {
        [] => None,
        [one] => Some(format!("BatchJob {one}, which does not exist")),
        several => Some(format!("{} BatchJobs that do not exist: {}", several.len(), some_of(several))),
    };
    let all: Vec<String> = come.into_iter().chain(ends).collect();
    wait(Kind::Dependency, shorten(&format!("Waiting for {}", all.join("; for ")), STATUS_REASON_LIMIT))
}

/// The first of several names.
fn some_of(names: &[String]) -> String {
    const NAMED: usize = 5;
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// RUNNABLE: an older job of the same queue has no room yet.
pub fn behind_head(queue: &str) -> Wait {
    wait(Kind::Turn, format!("Waiting behind the head of JobQueue {queue}"))
}

/// RUNNABLE: `maxRunning` is reached.
pub fn queue_at_max_running(queue: &str, running: u32) -> Wait {
    wait(
        Kind::MaxRunning,
        format!(
            "Waiting for one of the {running} running jobs of JobQueue {queue} to end: maxRunning is reached"
        ),
    )
}

/// RUNNABLE: the queue names no environment that exists.
pub fn no_environment(queue: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!("Waiting for a ComputeEnvironment of JobQueue {queue}: none of them exists"),
    )
}

/// RUNNABLE: no environment of the queue that exists is of a kind that the job can run on, such as `EC2`.
pub fn capability(queue: &str, kind: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!(
            "Waiting for a ComputeEnvironment of JobQueue {queue} that can run jobs with capability {kind}"
        ),
    )
}

/// RUNNABLE: `allowedNamespaces` of the environment does not select the job's namespace.
pub fn namespace_not_allowed(environment: &str, namespace: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!(
            "Waiting for ComputeEnvironment {environment}: its allowedNamespaces do not select {namespace}"
        ),
    )
}

/// RUNNABLE: an environment that the queue names is not there, or not yet, and no other can take the job.
pub fn environment_missing(environment: &str, queue: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!("Waiting for ComputeEnvironment {environment} of JobQueue {queue}, which does not exist"),
    )
}

/// RUNNABLE: another object has the name of the job's pod.
pub fn name_taken(pod: &str) -> Wait {
    wait(Kind::ApiServer, format!("Waiting for the name {pod}: a pod that is not the job's has it"))
}

/// RUNNABLE: the API server did not take the pod for a reason that may pass.
pub fn api_refuses(why: &str) -> Wait {
    wait(Kind::ApiServer, format!("Waiting for the API server to accept the job's pod: {why}"))
}

/// RUNNABLE: who submitted the job, or moved it, may not any more what the admission asked of them then.
pub fn right_missing(
    user: &str,
    namespace: &str,
    verb: &str,
    group: &str,
    resource: &str,
    name: &str,
) -> Wait {
    wait(
        Kind::Right,
        shorten(
            &format!(
                "Waiting for a right: user {user:?} needs a role in namespace {namespace:?} with verb {verb:?}, apiGroup \
                 {group:?}, resource {resource:?}, resourceName {name:?}"
            ),
            STATUS_REASON_LIMIT,
        ),
    )
}

/// RUNNABLE: it cannot be asked whether whoever submitted the job may do so.
pub fn submitter_unreadable(annotation: &str, why: &str) -> Wait {
    let text = format!("Waiting for a right: whose it is cannot be read from annotation {annotation}: {why}");
    wait(Kind::Right, shorten(&text, STATUS_REASON_LIMIT))
}

/// RUNNABLE: the account that makes the pods of the job's namespace may not.
pub fn runner_refused(account: &str, namespace: &str, role: &str, why: &str) -> Wait {
    let text = format!(
        "Waiting for a right: ServiceAccount {account} makes the pods of namespace {namespace} and needs a RoleBinding there to \
         ClusterRole {role}: {why}"
    );
    wait(Kind::Right, shorten(&text, STATUS_REASON_LIMIT))
}

/// RUNNABLE: the environment takes nothing new.
pub fn environment_closed(environment: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!("Waiting for ComputeEnvironment {environment}, which is DISABLED or INVALID"),
    )
}

/// RUNNABLE: what the environment's nodes come from is being made.
pub fn environment_creating(environment: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!("Waiting for ComputeEnvironment {environment}, which is being created"),
    )
}

/// RUNNABLE: the environment was changed a moment ago.
pub fn environment_settling(environment: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        format!("Waiting for ComputeEnvironment {environment}, whose change has not been looked at yet"),
    )
}

/// RUNNABLE: the API server refuses pods because of what the environment puts into them.
pub fn environment_refused(environment: &str, member: &str, why: &str) -> Wait {
    wait(
        Kind::ComputeEnvironment,
        shorten(
            &format!("Waiting for ComputeEnvironment {environment}, whose {member} is refused: {why}"),
            STATUS_REASON_LIMIT,
        ),
    )
}

/// RUNNABLE: `maxvCpus` is reached.
pub fn max_vcpus(environment: &str, max_milli: i64) -> Wait {
    wait(
        Kind::Vcpus,
        format!(
            "Waiting for vCPUs in ComputeEnvironment {environment}: its maxvCpus ({}) is reached",
            vcpus(max_milli)
        ),
    )
}

/// RUNNABLE: the job can never fit below `maxvCpus`. AWS's code and text.
pub fn above_max_vcpus() -> Wait {
    wait(
        Kind::ComputeEnvironmentMaxResource,
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the \
     CPU requirement of the job.",
    )
}

/// RUNNABLE: the job asks for GPUs, and no instance type of the queue's environments has any. AWS's code and text.
pub fn no_gpus_at_all() -> Wait {
    wait(
        Kind::JobResourceRequirement,
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that \
     can be met by the CE(s) attached to the job queue.",
    )
}

/// RUNNABLE: the job asks for GPUs, and no node of the pool has any today; one that has may join. It is another kind
/// of wait than that for GPUs which others use.
pub fn no_gpus(environment: &str, resource: Option<&str>) -> Wait {
    let resource = resource.unwrap_or(crate::queue::GPU);
    wait(
        Kind::Node,
        format!("Waiting for GPUs in ComputeEnvironment {environment}: none of its nodes has any {resource}"),
    )
}

/// RUNNABLE: the pool has no node that takes pods.
pub fn no_node(environment: &str) -> Wait {
    wait(
        Kind::Node,
        format!("Waiting for a node in ComputeEnvironment {environment}: no node of its pool takes pods now"),
    )
}

/// RUNNABLE: even an empty node of the pool is too small today; a larger one may join.
pub fn larger_than_any_node(environment: &str) -> Wait {
    wait(
        Kind::Node,
        format!(
            "Waiting for a larger node in ComputeEnvironment {environment}: the job fits none of its nodes"
        ),
    )
}

/// RUNNABLE: a multi-node job wants an instance type that no node of the pool is of today.
pub fn no_node_of_type(environment: &str, instance_type: &str) -> Wait {
    wait(
        Kind::Node,
        format!(
            "Waiting for a node of type {instance_type} in ComputeEnvironment {environment}: it has none"
        ),
    )
}

/// RUNNABLE: the nodes of a multi-node job do not all fit the pool even if nothing else runs there; more may join.
pub fn more_than_all_nodes(environment: &str, nodes: usize) -> Wait {
    wait(
        Kind::Node,
        format!(
            "Waiting for more nodes in ComputeEnvironment {environment}: all of them together cannot hold the {nodes} \
             nodes of the job"
        ),
    )
}

/// RUNNABLE: a multi-node job starts once there is room for all of its nodes at the same time.
pub fn gang(environment: &str, nodes: usize) -> Wait {
    wait(
        Kind::Node,
        format!(
            "Waiting for room for all {nodes} nodes of the job at the same time in ComputeEnvironment {environment}"
        ),
    )
}

/// RUNNABLE: the pool's nodes are full.
pub fn resource(environment: &str, kind: Kind) -> Wait {
    let what = match kind {
        Kind::Vcpus => "vCPUs",
        Kind::Memory => "memory",
        Kind::Gpus => "GPUs",
        _ => "a node with enough of everything",
    };
    wait(kind, format!("Waiting for {what} in ComputeEnvironment {environment}"))
}

/// RUNNABLE: the job is a session, and on every node that has room for it another pod has its port.
pub fn host_port(environment: &str, port: u16) -> Wait {
    wait(
        Kind::HostPort,
        format!(
            "Waiting for port {port} of a node in ComputeEnvironment {environment}: other pods have it on all nodes \
             with room"
        ),
    )
}

/// RUNNABLE: the pod exists and the scheduler finds no node for it.
pub fn unschedulable(message: &str) -> Wait {
    wait(Kind::Node, shorten(&format!("Waiting for a node: {message}"), STATUS_REASON_LIMIT))
}

/// RUNNABLE: the namespace's ResourceQuota leaves no room.
pub fn quota(message: &str) -> Wait {
    wait(Kind::ResourceQuota, format!("Waiting for the namespace's ResourceQuota: {message}"))
}

/// RUNNABLE again: an attempt failed and the retry strategy allows another.
pub fn retry(used: u32, attempts: u32, status_reason: &str) -> Wait {
    wait(
        Kind::Retry,
        format!("Waiting for attempt {} of {attempts}; attempt {used}: {status_reason}", used + 1),
    )
}

/// RUNNABLE again: the last attempt's outcome is known, but its pod has not let go of its node.
pub fn last_pod() -> Wait {
    wait(Kind::LastPod, "Waiting for the last attempt's pod to end")
}

/// RUNNABLE again: a pod started nothing, and that was not the job's fault.
pub fn placement(status_reason: &str) -> Wait {
    wait(Kind::Placement, format!("Waiting to be placed again: {status_reason}"))
}

/// SUBMITTED: the queue names a SchedulingPolicy that is not there, or not yet.
pub fn policy_missing(queue: &str, policy: &str) -> Wait {
    wait(
        Kind::SchedulingPolicy,
        format!("Waiting for SchedulingPolicy {policy} of JobQueue {queue}, which does not exist"),
    )
}

/// RUNNABLE: the job was moved to a fair-share queue and names no share.
pub fn share_missing(queue: &str) -> Wait {
    wait(
        Kind::SchedulingPolicy,
        format!(
            "Waiting for another JobQueue than {queue}: it has a scheduling policy, and the job names no share"
        ),
    )
}

/// SUBMITTED: so many shares of the queue are active already that another one has to wait
/// (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
pub fn too_many_shares(queue: &str, limit: usize) -> Wait {
    wait(
        Kind::Turn,
        format!("Waiting for one of the {limit} active shares of JobQueue {queue} to become idle"),
    )
}

/// RUNNABLE: tokens are short.
pub fn tokens(resource: &str, quantity: i64) -> Wait {
    wait(Kind::ConsumableResource, format!("Waiting for {quantity} of ConsumableResource {resource}"))
}

/// RUNNABLE: the resource is not there, or not yet.
pub fn consumable_resource_missing(resource: &str) -> Wait {
    wait(Kind::ConsumableResource, format!("Waiting for ConsumableResource {resource}, which does not exist"))
}

/// RUNNABLE: what is left of `maxvCpus` is kept for shares that are not active yet (`computeReservation`).
pub fn reserved_for_shares(environment: &str, usable_milli: i64) -> Wait {
    let usable = vcpus(usable_milli);
    wait(
        Kind::ShareReservation,
        format!(
            "Waiting for vCPUs in ComputeEnvironment {environment}: all but {usable} are kept for other shares \
             (computeReservation)"
        ),
    )
}

/// RUNNABLE: the namespace uses all that `allowedNamespaces` of the environment gives it.
pub fn namespace_max_vcpus(environment: &str, namespace: &str, max_milli: i64) -> Wait {
    wait(
        Kind::NamespaceLimit,
        format!(
            "Waiting for vCPUs in ComputeEnvironment {environment}: namespace {namespace} uses all its {}",
            vcpus(max_milli)
        ),
    )
}

/// RUNNABLE: what is free is kept for a job that has waited for a long time.
pub fn held_for(environment: &str, queue: &str) -> Wait {
    wait(
        Kind::Turn,
        format!(
            "Waiting for ComputeEnvironment {environment}: its room is kept for the head of JobQueue {queue}, which \
             has waited longest"
        ),
    )
}

/// RUNNABLE: as many pods as may wait for new nodes at a time wait already.
pub fn unbound_window(environment: &str, window: usize) -> Wait {
    wait(
        Kind::Node,
        format!(
            "Waiting for a node in ComputeEnvironment {environment}: {window} pods wait for nodes already"
        ),
    )
}

/// RUNNABLE: pods of jobs that come later make room.
pub fn withdrawing(environment: &str) -> Wait {
    wait(
        Kind::Vcpus,
        format!(
            "Waiting for vCPUs in ComputeEnvironment {environment}: pods of later jobs are being withdrawn"
        ),
    )
}

/// RUNNABLE: no node came within `capacityTimeoutSeconds`. AWS's code; its text names an instance type.
pub fn no_capacity(environment: &str) -> Wait {
    let code = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
    wait(
        Kind::InsufficientInstanceCapacity,
        format!(
            "{code} - ComputeEnvironment {environment} got no node for the job within its capacityTimeoutSeconds"
        ),
    )
}

/// RUNNABLE: all environments of the queue are INVALID. AWS's code and text.
pub fn all_invalid() -> Wait {
    wait(Kind::ActionRequired, "ACTION_REQUIRED - CE(s) associated with the job queue are invalid.")
}

fn vcpus(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{:.2}", milli as f64 / 1000.0) }
}
