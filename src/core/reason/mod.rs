//! How jobs and attempts ended, in words: every `statusReason` of an end, every container
//! `reason`, and the rules of evaluateOnExit. What a job *waits* for is told by `waits`.
//!
//! Retry rules match these texts by prefix, so a prefix that is released never changes. AWS's own
//! texts: <https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html>,
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html> and
//! <https://docs.aws.amazon.com/batch/latest/userguide/troubleshooting.html>. What is ours says so.

pub mod clean;
pub mod explain;
pub mod logs;
pub mod resources;

use clean::{REASON_LIMIT, STATUS_REASON_LIMIT, line, shorten};

// The statusReason of an attempt and of its job.

/// The job's container ended, well or not. AWS's text.
pub const ESSENTIAL_EXITED: &str = "Essential container in task exited";
/// The job's container never ran. AWS's text.
pub const FAILED_TO_START: &str = "Task failed to start";
/// The attempt took longer than `attemptDurationSeconds`. AWS's text.
pub const TIMED_OUT: &str = "Job attempt duration exceeded timeout";
/// A job that this one depends on failed. AWS's text.
pub const DEPENDENT_FAILED: &str = "Dependent Job failed";
/// A child of this array job failed. AWS's text.
pub const ARRAY_CHILD_FAILED: &str = "Array Child Job failed";
/// The job's queue was deleted. AWS's text.
pub const QUEUE_DELETED: &str = "JobQueue deleted";
/// The BatchJob object is being deleted. Ours.
pub const JOB_DELETED: &str = "BatchJob deleted";
/// Nothing observed tells how the attempt ended. Ours.
pub const UNKNOWN: &str = "Task status unknown";
/// The pod was gone before it was bound. Ours; seen on placements only.
pub const UNPLACED: &str = "Pod deleted before it was bound to a node";

/// The host went away under the container: drain, interruption, shutdown, node gone. AWS's text,
/// which retry rules match by `Host EC2*`.
pub fn host_terminated(instance: &str) -> String {
    status(&format!("Host EC2 (instance {instance}) terminated."))
}

/// True for the end of an attempt whose host went away under it.
pub fn is_host_end(status_reason: &str) -> bool {
    status_reason.starts_with("Host EC2")
}

/// The host or the cluster put the pod out: pressure, plain eviction, device taints. Ours, with
/// AWS's prefix.
pub fn host_evicted(instance: &str, why: &str) -> String {
    status(&format!("Host EC2 (instance {instance}) evicted the pod: {}", line(why, REASON_LIMIT)))
}

/// A more important pod took the place. Ours, with AWS's prefix.
pub fn host_preempted(instance: &str, why: &str) -> String {
    status(&format!("Host EC2 (instance {instance}) preempted the pod: {}", line(why, REASON_LIMIT)))
}

/// Somebody deleted the pod while its node was well. Ours.
pub const POD_DELETED: &str = "Pod deleted: by a user or another controller";

/// The API server will never accept the job's pod. Ours.
pub fn invalid_job_definition(why: &str) -> String {
    status(&format!("Invalid job definition: {}", line(why, REASON_LIMIT)))
}

/// How [`parameter_missing`] begins. AWS's text.
const NO_PARAMETER: &str = "Unable to substitute value. No parameter found for reference";

/// A command refers to a parameter that neither the job nor its definition has. AWS's text.
pub fn parameter_missing(name: &str) -> String {
    status(&format!("{NO_PARAMETER} {name}"))
}

/// True for what a command lacks a parameter for.
pub fn is_parameter_missing(why: &str) -> bool {
    why.starts_with(NO_PARAMETER)
}

/// How [`fargate_pair`] begins. AWS's text.
const FARGATE: &str = "Fargate resource requirements (";

/// A job for Fargate asks for vCPUs and memory that are no pair there. AWS's text.
pub fn fargate_pair(vcpus_milli: i64, memory_mib: i64) -> String {
    status(&format!("{FARGATE}{:.2} vCPU, {memory_mib} MiB) not valid.", vcpus_milli as f64 / 1000.0))
}

/// How [`capability`] begins. AWS's text.
const CAPABILITY: &str = "Job Queue is attached to Compute Environment that can not run Jobs with capability";

/// No environment of the job's queue is of a kind that the job can run on, such as `EC2`. AWS's text.
pub fn capability(kind: &str) -> String {
    status(&format!("{CAPABILITY} {kind}"))
}

/// A job and its definition hand on more tags than a task may have; AWS fails such a job, too. Ours.
pub fn too_many_tags(count: usize, most: usize) -> String {
    format!(
        "propagateTags: the job and its definition have {count} tags together, and at most {most} are handed on"
    )
}

/// The values of its parameters make a command too long. Ours.
pub fn command_too_long(bytes: usize) -> String {
    format!("command: its parameters make it longer than {bytes} bytes")
}

/// The job can never run as it is. What AWS has a sentence for is told in AWS's words alone.
pub fn cannot_run(why: &str) -> String {
    match [NO_PARAMETER, FARGATE, CAPABILITY].iter().any(|aws| why.starts_with(aws)) {
        true => status(why),
        false => invalid_job_definition(why),
    }
}

/// The job has members that make it what it is and that nothing here can honour. Ours.
pub fn unsupported_fields(paths: &str) -> String {
    status(&format!("Invalid job: not supported yet: {}", line(paths, REASON_LIMIT)))
}

/// The queue has a scheduling policy and the job names no share, which AWS refuses
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html>, `shareIdentifier`). Ours.
pub fn share_missing(queue: &str) -> String {
    status(&format!("Invalid job: shareIdentifier is required: JobQueue {queue} has a scheduling policy"))
}

/// `rerunFailedOf` names a job that is no array. Ours.
pub fn rerun_of_no_array(reference: &str) -> String {
    status(&format!("Invalid job: arrayProperties.rerunFailedOf: BatchJob {reference} is no array"))
}

/// `rerunFailedOf` names an array of which no child failed. Ours.
pub fn rerun_of_nothing(reference: &str) -> String {
    status(&format!("Invalid job: arrayProperties.rerunFailedOf: no child of BatchJob {reference} failed"))
}

/// A rerun states another size than the array that it names has. Ours.
pub fn rerun_of_another_size(reference: &str, size: u32, its: u32) -> String {
    let text = format!(
        "arrayProperties.size: BatchJob {reference} of rerunFailedOf has {its} children and not {size}"
    );
    status(&format!("Invalid job: {text}"))
}

/// `N_TO_N` between arrays of different sizes: some children would have no counterpart. Ours.
pub fn sizes_differ(reference: &str, size: u32, its: u32) -> String {
    let text =
        format!("dependsOn: N_TO_N with BatchJob {reference}, which has {its} children and not {size}");
    status(&format!("Invalid job: {text}"))
}

/// An older job has the same `jobId`. Ours.
pub fn job_id_taken(id: &str) -> String {
    status(&format!("Invalid job: jobId {id} belongs to an older job"))
}

/// How [`dependency_circle`] begins.
const CIRCLE: &str = "Invalid job: dependsOn leads back to the job itself: ";

/// Jobs wait for each other in a circle; the names on it, from the job to itself. Ours.
pub fn dependency_circle(names: &[String]) -> String {
    status(&format!("{CIRCLE}{}", names.join(" → ")))
}

/// True if a job failed since it waited in a circle.
pub fn is_dependency_circle(status_reason: &str) -> bool {
    status_reason.starts_with(CIRCLE)
}

/// A job that this one depends on did not exist for longer than `dependencyTimeoutSeconds`. Ours, with AWS's prefix.
pub fn dependency_missing(job: &str, seconds: i64) -> String {
    status(&format!(
        "{DEPENDENT_FAILED}: BatchJob {job} did not exist within {seconds} s (dependencyTimeoutSeconds)"
    ))
}

/// An entry of `dependsOn` names no job, and the job is no array. Ours.
pub fn dependency_unnamed() -> String {
    status(
        "Invalid job: dependsOn needs a jobId or job, unless the job is an array and the type is SEQUENTIAL",
    )
}

/// An entry of `dependsOn` names a child that is none. Ours.
pub fn no_such_child(child: &str) -> String {
    status(&format!("Invalid job: dependsOn names {child}, and there is no array with such a child"))
}

// More than the statusReason of a job says for which another one failed: in its condition and its Event. Ours.

/// The other one failed.
pub fn dependency_failed(job: &str) -> String {
    format!("BatchJob {job} failed")
}

/// The other one is gone.
pub fn dependency_deleted(job: &str) -> String {
    format!("BatchJob {job} was deleted before it was seen to end")
}

/// Behind [`invalid_job_definition`]. Ours.
pub const POD_TOO_LARGE: &str = "its pod is larger than the API server accepts";

/// `jobStateTimeLimitActions` cancelled the job. AWS's text.
pub fn time_limit(code: &str) -> String {
    status(&format!("Canceled by JobStateTimeLimit action due to reason: {code}"))
}

// The reason of an attempt's container.

/// The kernel killed the container at its memory limit. AWS's text.
pub const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";

/// The image could not be had. AWS's prefix.
pub fn cannot_pull(why: &str) -> String {
    prefixed("CannotPullContainerError", why)
}

/// The runtime could not make the container. AWS's prefix.
pub fn cannot_create(why: &str) -> String {
    prefixed("CannotCreateContainerError", why)
}

/// The runtime could not start the container. AWS's prefix.
pub fn cannot_start(why: &str) -> String {
    prefixed("CannotStartContainerError", why)
}

/// What the container needs (secrets, configuration, volumes, network) was not there. AWS's
/// prefix.
pub fn cannot_initialize(why: &str) -> String {
    prefixed("ResourceInitializationError", why)
}

/// An init container failed. Ours.
pub fn init_failed(container: &str) -> String {
    line(&format!("init {container}"), REASON_LIMIT)
}

/// An init container was killed at its memory limit. AWS's prefix.
pub fn init_out_of_memory(container: &str) -> String {
    line(&format!("{OUT_OF_MEMORY} (init {container})"), REASON_LIMIT)
}

/// The kubelet's own word and text, for ends that AWS has no text for.
pub fn kubelet(word: &str, message: &str) -> String {
    let separator = if word.is_empty() || message.is_empty() { "" } else { ": " };
    line(&format!("{word}{separator}{message}"), REASON_LIMIT)
}

// Nodes of multi-node jobs. Ours.

/// The reason of a container, with the node of the job that it is about: behind it, since rules match by prefix.
pub fn of_node(why: Option<&str>, node: u32) -> String {
    let why = why.unwrap_or_default();
    line(&format!("{why}{}(node {node})", if why.is_empty() { "" } else { " " }), REASON_LIMIT)
}

/// The end of a node that did not end by itself: the main node's end, or that of the attempt, ended it.
pub const NODE_STOPPED: &str = STOPPED_WITH_THE_ATTEMPT;

/// How the placement of a multi-node job ended whose nodes did not all come.
const GANG_BACK: &str = "Not all nodes of the job";

/// Some of the nodes had no host in time; seen on placements only.
pub fn gang_unbound(bound: usize, nodes: u32, seconds: i64) -> String {
    format!("{GANG_BACK} had a host within {seconds} s: {bound} of {nodes} did")
}

/// Some of the pods were not made, or are gone; seen on placements only.
pub fn gang_incomplete(there: usize, nodes: u32) -> String {
    format!("{GANG_BACK} have a pod: {there} of {nodes} do")
}

/// True for a placement that ended since not all nodes of the job came.
pub fn is_gang_back(text: &str) -> bool {
    text.starts_with(GANG_BACK)
}

// What goes on longer than it may. Ours; behind one of the prefixes above.

/// The image is still being pulled.
pub fn still_pulling(seconds: i64) -> String {
    format!("the image was not pulled within {seconds} s")
}

/// Volumes or the network are still missing.
pub fn still_preparing(seconds: i64) -> String {
    format!("the pod's volumes or network were not ready within {seconds} s")
}

/// Init containers are done, but the job's container is not begun.
pub fn still_initializing(seconds: i64) -> String {
    format!("the pod's sidecars were not ready within {seconds} s")
}

/// The kubelet never spoke of the pod.
pub fn not_taken(seconds: i64) -> String {
    format!("the node did not begin with the pod within {seconds} s")
}

/// A sidecar keeps the job's container from starting.
pub fn sidecar_not_started(container: &str, why: &str) -> String {
    format!("sidecar {container} did not start: {why}")
}

/// A container never starts, since another one did not come as far as it had to. Ours.
pub fn container_dependency_failed(container: &str, other: &str, code: Option<i32>) -> String {
    let how = code.map_or_else(|| "could not start".to_owned(), |code| format!("exited with {code}"));
    line(&format!("DependencyError: container {container} depends on {other}, which {how}"), REASON_LIMIT)
}

/// A container never starts, since another one takes longer than its `startTimeout`. Ours.
pub fn container_dependency_late(container: &str, other: &str, seconds: u32) -> String {
    let text = format!("container {container} depends on {other}, which did not end within {seconds} s");
    line(&format!("DependencyError: {text}"), REASON_LIMIT)
}

/// A container that still ran when the attempt ended by another one. Ours.
pub const STOPPED_WITH_THE_ATTEMPT: &str = "Stopped: the attempt of the job ended";
/// A container that had not started when the attempt ended. Ours.
pub const NEVER_STARTED: &str = "Not started: the attempt of the job ended";

// What a bound pod is busy with: the statusReason while STARTING. Ours.

/// The node is silent.
pub const NODE_SILENT: &str = "The node does not answer";
/// Somebody deleted the pod; the kubelet has not yet said how it ended.
pub const POD_ENDING: &str = "The pod is being deleted";
/// The kubelet has not spoken of the pod yet.
pub const NODE_TO_BEGIN: &str = "Bound; waiting for the node to begin";
/// True for a text that tells more than that the pod is about to start.
pub fn is_trouble(text: &str) -> bool {
    let usual = [NODE_TO_BEGIN, ADDRESS_AWAITED, IN_LINE, "ContainerCreating", "PodInitializing"];
    !usual.iter().any(|word| text.starts_with(word)) && !text.ends_with(" runs")
}
/// A node of a multi-node job cannot start before the main node has an address.
pub const ADDRESS_AWAITED: &str = "Waiting for the main node's address";
/// How the text begins that says for which other container of its pod a container waits.
const IN_LINE: &str = "Waiting for container ";
/// A container waits for the start of another one.
pub fn waits_for_start(other: &str) -> String {
    line(&format!("{IN_LINE}{other} to start"), REASON_LIMIT)
}
/// A container waits for the end of another one.
pub fn waits_for_end(other: &str) -> String {
    line(&format!("{IN_LINE}{other} to end"), REASON_LIMIT)
}
/// An init container is at work.
pub fn init_runs(container: &str) -> String {
    line(&format!("init container {container} runs"), REASON_LIMIT)
}

// The rule in `attempts[].decision` where evaluateOnExit was asked; else see `job::rules`. Ours.

/// There is nothing to evaluate.
pub const RULE_NO_ENTRIES: &str = "no evaluateOnExit -> RETRY";
/// No entry of evaluateOnExit matched.
pub const RULE_NO_MATCH: &str = "no entry matched -> RETRY";

/// The attempts are used up.
pub fn rule_exhausted(used: u32, attempts: u32) -> String {
    format!("attempts exhausted ({used} of {attempts})")
}

/// An entry of evaluateOnExit matched.
pub fn rule_entry(index: usize, conditions: &[(&str, &str)], action: &str) -> String {
    let stated: Vec<String> =
        conditions.iter().map(|(name, pattern)| format!("{name} \"{pattern}\"")).collect();
    shorten(&format!("evaluateOnExit[{index}]: {} -> {action}", stated.join(" and ")), STATUS_REASON_LIMIT)
}

fn status(text: &str) -> String {
    shorten(text, STATUS_REASON_LIMIT)
}

fn prefixed(prefix: &str, why: &str) -> String {
    line(&format!("{prefix}: {why}"), REASON_LIMIT)
}
