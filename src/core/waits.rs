//! What a job waits for, in words: the `statusReason` of a job that has not started.
//!
//! Why a job or an attempt ended is told by [`crate::reason`].

use crate::reason::clean::{STATUS_REASON_LIMIT, shorten};

/// SUBMITTED: the queue is not there, or not yet.
pub fn queue_missing(queue: &str) -> String {
    format!("Waiting for JobQueue {queue}, which does not exist")
}

/// SUBMITTED: the queue accepts no jobs
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateJobQueue.html>, `state`).
pub fn queue_disabled(queue: &str) -> String {
    format!("Waiting for JobQueue {queue}, which is DISABLED")
}

/// SUBMITTED: the queue is being deleted and takes nothing new.
pub fn queue_deleting(queue: &str) -> String {
    format!("Waiting for JobQueue {queue}, which is being deleted")
}

/// SUBMITTED: the definition is not there, or not yet.
pub fn definition_missing(reference: &str) -> String {
    format!("Waiting for JobDefinition {reference}, which does not exist")
}

/// SUBMITTED: the definition was changed a moment ago and its new revision is being made.
pub fn definition_settling(name: &str) -> String {
    format!("Waiting for the new revision of JobDefinition {name}")
}

/// SUBMITTED: all revisions that the reference could mean are deregistered.
pub fn definition_inactive(reference: &str) -> String {
    format!("Waiting for an ACTIVE revision of JobDefinition {reference}")
}

/// SUBMITTED: no ServiceAccount stands for the role, or not yet.
pub fn service_account_missing(role: &str, account: &str) -> String {
    format!(
        "Waiting for a ServiceAccount for jobRoleArn {role}: none is annotated with it and none is named {account}"
    )
}

/// RUNNABLE: an older job of the same queue has no room yet.
pub fn behind_head(queue: &str) -> String {
    format!("Waiting behind the head of JobQueue {queue}")
}

/// RUNNABLE: `maxRunning` is reached.
pub fn queue_at_max_running(queue: &str, running: u32) -> String {
    format!("Waiting for one of the {running} running jobs of JobQueue {queue} to end: maxRunning is reached")
}

/// RUNNABLE: the queue names no environment that exists.
pub fn no_environment(queue: &str) -> String {
    format!("Waiting for a ComputeEnvironment of JobQueue {queue}: none of them exists")
}

/// RUNNABLE: `allowedNamespaces` of the environment does not select the job's namespace.
pub fn namespace_not_allowed(environment: &str, namespace: &str) -> String {
    format!("Waiting for ComputeEnvironment {environment}: its allowedNamespaces do not select {namespace}")
}

/// RUNNABLE: another object has the name of the job's pod.
pub fn name_taken(pod: &str) -> String {
    format!("Waiting for the name {pod}: a pod that is not the job's has it")
}

/// RUNNABLE: the API server did not take the pod for a reason that may pass.
pub fn api_refuses(why: &str) -> String {
    format!("Waiting for the API server to accept the job's pod: {why}")
}

/// RUNNABLE: the environment takes nothing new.
pub fn environment_closed(environment: &str) -> String {
    format!("Waiting for ComputeEnvironment {environment}, which is DISABLED or INVALID")
}

/// RUNNABLE: the environment was changed a moment ago.
pub fn environment_settling(environment: &str) -> String {
    format!("Waiting for ComputeEnvironment {environment}, whose change has not been looked at yet")
}

/// RUNNABLE: the API server refuses pods because of what the environment puts into them.
pub fn environment_refused(environment: &str, member: &str, why: &str) -> String {
    shorten(
        &format!("Waiting for ComputeEnvironment {environment}, whose {member} is refused: {why}"),
        STATUS_REASON_LIMIT,
    )
}

/// RUNNABLE: `maxvCpus` is reached.
pub fn max_vcpus(environment: &str, max_milli: i64) -> String {
    format!(
        "Waiting for vCPUs in ComputeEnvironment {environment}: its maxvCpus ({}) is reached",
        vcpus(max_milli)
    )
}

/// RUNNABLE: the job can never fit below `maxvCpus`. AWS's code and text.
pub fn above_max_vcpus() -> String {
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the \
     CPU requirement of the job."
        .to_owned()
}

/// RUNNABLE: the pool has no node that takes pods.
pub fn no_node(environment: &str) -> String {
    format!("Waiting for a node in ComputeEnvironment {environment}: no node of its pool takes pods now")
}

/// RUNNABLE: even an empty node of the pool is too small today; a larger one may join.
pub fn larger_than_any_node(environment: &str) -> String {
    format!("Waiting for a larger node in ComputeEnvironment {environment}: the job fits none of its nodes")
}

/// RUNNABLE: the pool's nodes are full.
pub fn resource(environment: &str, resource: &str) -> String {
    format!("Waiting for {resource} in ComputeEnvironment {environment}")
}

/// RUNNABLE: the pod exists and the scheduler finds no node for it.
pub fn unschedulable(message: &str) -> String {
    shorten(&format!("{UNSCHEDULABLE}{message}"), STATUS_REASON_LIMIT)
}

/// True for a text made by [`unschedulable`].
pub fn is_unschedulable(text: &str) -> bool {
    text.starts_with(UNSCHEDULABLE)
}

const UNSCHEDULABLE: &str = "Waiting for a node: ";

/// RUNNABLE: the namespace's ResourceQuota leaves no room.
pub fn quota(message: &str) -> String {
    format!("Waiting for the namespace's ResourceQuota: {message}")
}

/// RUNNABLE again: an attempt failed and the retry strategy allows another.
pub fn retry(used: u32, attempts: u32, status_reason: &str) -> String {
    format!("Waiting for attempt {} of {attempts}; attempt {used}: {status_reason}", used + 1)
}

/// RUNNABLE again: the last attempt's outcome is known, but its pod has not let go of its node.
pub const LAST_POD: &str = "Waiting for the last attempt's pod to end";

/// RUNNABLE again: a pod started nothing, and that was not the job's fault.
pub fn placement(status_reason: &str) -> String {
    format!("Waiting to be placed again: {status_reason}")
}

fn vcpus(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{:.2}", milli as f64 / 1000.0) }
}
