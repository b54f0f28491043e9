//! What a status text means to the person who reads it: its cause, and what to do.
//!
//! The texts themselves are made by [`crate::reason`] and [`crate::waits`]; a test holds each of
//! them against this table. Texts of AWS and of the kubelet that can stand in them are here, too.

mod definitions;
mod dependencies;
mod rights;
mod sessions;

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// How the texts that it explains begin, with `…` for a part that varies.
    pub text: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Where it usually comes from.
    pub cause: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// The explanation of a statusReason, a container's reason, or a part of one.
pub fn explain(text: &str) -> Option<&'static Explanation> {
    let text = text.trim();
    all().find(|entry| matches(entry.text, text))
}

/// All explanations, in the order in which they are tried.
pub fn all() -> impl Iterator<Item = &'static Explanation> {
    dependencies::TABLE
        .iter()
        .chain(definitions::TABLE)
        .chain(rights::TABLE)
        .chain(sessions::TABLE)
        .chain(TABLE)
}

/// True if the text has the fixed parts of the pattern in their order, from its beginning.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let start = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(start) else { return false };
    parts.all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

const fn entry(
    text: &'static str,
    meaning: &'static str,
    cause: &'static str,
    advice: &'static str,
) -> Explanation {
    Explanation { text, meaning, cause, advice }
}

const TABLE: &[Explanation] = &[
    // How attempts and jobs end.
    entry(
        "Essential container in task exited",
        "The job's container ran and ended by itself; its exit code says how.",
        "The program: 0 is success, 1 to 125 are its own codes, 126 and 127 mean that the command cannot be run or \
         found, 128 + n that signal n ended it (137 SIGKILL, 139 SIGSEGV, 143 SIGTERM).",
        "Look at the logs. To retry on some codes only, use evaluateOnExit with onExitCode.",
    ),
    entry(
        "Task failed to start",
        "The job's container never ran.",
        "The image, the command, a Secret or a volume; the container's reason says which.",
        "Mend what the reason names. To give up at once, use evaluateOnExit with onReason \
         \"CannotPullContainerError*\" and EXIT.",
    ),
    entry(
        "Host EC2 (instance …) terminated",
        "The node went away under the job.",
        "A drain, a spot interruption, a shutdown, or the node's deletion.",
        "Nothing with the program is wrong: retry with onStatusReason \"Host EC2*\".",
    ),
    entry(
        "Host EC2 (instance …) evicted the pod: …",
        "The node or the cluster put the pod out, while the node lives on.",
        "Pressure on the node's memory or disk, the eviction API, or a taint of a broken device.",
        "Retry with onStatusReason \"Host EC2*\"; if it keeps happening, ask for the memory and disk that the job uses.",
    ),
    entry(
        "Host EC2 (instance …) preempted the pod: …",
        "A more important pod took the place.",
        "A pod with a higher PriorityClass needed the room.",
        "Retry with onStatusReason \"Host EC2*\", or set priorityClassName in the environment's podDefaults.",
    ),
    entry(
        "Pod deleted: …",
        "Somebody deleted the job's pod; the node was well.",
        "A person with kubectl delete pod, or another controller. The operator deletes no pod of a running job unasked.",
        "Retry with onStatusReason \"Pod deleted*\" where that is wanted; to end a job, terminate it instead.",
    ),
    entry(
        "Pod deleted before it was bound to a node",
        "A pod of the job was gone before it began anywhere. It used up no attempt.",
        "Somebody deleted the waiting pod.",
        "Nothing: the job is placed again.",
    ),
    entry(
        "Job attempt duration exceeded timeout",
        "The attempt ran longer than timeout.attemptDurationSeconds and was stopped. Timeouts are never retried.",
        "The program hangs, or needs longer than was thought.",
        "Look at the logs; raise the timeout.",
    ),
    entry(
        "Array Child Job failed",
        "At least one child of the array failed.",
        "The array succeeds only if all of its children do, unless toleratedFailures says otherwise.",
        "Look at the failed children; rerun only those with kubectl batch retry.",
    ),
    entry(
        "JobQueue deleted",
        "The job's queue was deleted with its jobs.",
        "The queue was DISABLED, or had the annotation batchyard.io/delete-jobs, when it was deleted.",
        "Submit the job to another queue.",
    ),
    entry(
        "BatchJob deleted",
        "The BatchJob object is being deleted, and its pod with it.",
        "kubectl delete.",
        "Nothing.",
    ),
    entry(
        "Task status unknown",
        "Nothing that could still be seen tells how the attempt ended.",
        "The pod's object vanished with its node, or its status was lost.",
        "Look at the node's and the cluster's Events of that time; retry with onStatusReason \"Task status unknown\".",
    ),
    entry(
        "Invalid job definition: …",
        "The API server will never accept a pod like this, so the job failed at once.",
        "A member of the definition or of the job's overrides that is no valid Kubernetes value.",
        "Mend the member that the text names, and submit again.",
    ),
    entry(
        "Invalid job: not supported yet: …",
        "The job has members that make it what it is and that Batchyard cannot honour.",
        "The text names them.",
        "Leave them out, or see the table of features in the README.",
    ),
    entry(
        "Invalid job: jobId … belongs to an older job",
        "Two objects state the same jobId; the older one has it.",
        "A manifest that was copied with its jobId.",
        "Leave jobId out: each job gets an id of its own.",
    ),
    entry(
        "Canceled by JobStateTimeLimit action due to reason: …",
        "The job blocked its queue for longer than jobStateTimeLimitActions allow.",
        "The code at the end of the text says what the job waited for.",
        "Give the queue an environment that the job fits, or ask for less.",
    ),
    // The reason of a container.
    entry(
        "OutOfMemoryError: …",
        "The kernel killed the container at its memory limit.",
        "The program needs more than the job's MEMORY.",
        "Raise MEMORY. The limit counts everything in the container, files in /dev/shm and tmpfs too.",
    ),
    entry(
        "CannotPullContainerError: …",
        "The image could not be had.",
        "A wrong name or tag, a registry that asks for credentials or is away, or a pull that took too long.",
        "Check the image's name and imagePullSecrets. A registry that is only away is tried for five minutes.",
    ),
    entry(
        "CannotCreateContainerError: …",
        "The node's runtime could not make the container.",
        "The command, the user or a mount that the image does not have.",
        "Compare the definition with the image.",
    ),
    entry(
        "CannotStartContainerError: …",
        "The node's runtime could not start the container.",
        "Most often a command that is not in the image or is not executable.",
        "Try the command in the image.",
    ),
    entry(
        "ResourceInitializationError: …",
        "Something that the container needs was not there in time.",
        "A Secret, ConfigMap, key, volume or the pod's network.",
        "Make what the text names; the next attempt finds it.",
    ),
    entry(
        "DockerTimeoutError: …",
        "AWS's text for a container runtime that did not answer in time.",
        "An overloaded node.",
        "Retry.",
    ),
    entry(
        "init …",
        "An init container failed, so the job's container never ran.",
        "Its exit code stands in the attempt.",
        "kubectl logs POD -c with the container's name.",
    ),
    entry(
        "Invalid job: shareIdentifier is required: JobQueue … has a scheduling policy",
        "The queue divides its capacity among shares, and the job names none.",
        "shareIdentifier of the job; the queue's schedulingPolicyArn.",
        "Submit it again with a shareIdentifier, or to another queue.",
    ),
    // What a job waits for.
    entry(
        "Waiting for JobQueue …, which does not exist",
        "The job names a queue that is not there.",
        "It is applied later, or its name is misspelt.",
        "Make the queue, or submit the job to another one. The order in which things are applied does not matter.",
    ),
    entry(
        "Waiting for JobQueue …, which is DISABLED",
        "The queue takes no new jobs.",
        "Its state is DISABLED.",
        "Set the queue's state to ENABLED, or move the job.",
    ),
    entry(
        "Waiting for JobQueue …, which is being deleted",
        "The queue takes no new jobs and goes when it is empty.",
        "Somebody deleted it.",
        "Move the job to another queue.",
    ),
    entry(
        "Waiting for JobDefinition …, which does not exist",
        "The job names a definition that is not there.",
        "It is applied later, or its name is misspelt.",
        "Make the definition.",
    ),
    entry(
        "Waiting for the new revision of JobDefinition …",
        "The definition was changed a moment ago.",
        "Its new revision is being made.",
        "Nothing: it takes a moment. If it stays, the definition's conditions say why.",
    ),
    entry(
        "Waiting for an ACTIVE revision of JobDefinition …",
        "Every revision that the job could mean is deregistered.",
        "The definition's deregistered list, or its deletion.",
        "Use a revision that is ACTIVE: kubectl batch definitions NAME lists them.",
    ),
    entry(
        "Waiting for a ServiceAccount for jobRoleArn …",
        "No ServiceAccount of the namespace stands for the role.",
        "None has the annotation eks.amazonaws.com/role-arn with it, and none is named after it.",
        "Make one, or annotate one.",
    ),
    entry(
        "Waiting behind the head of JobQueue …",
        "An older job of the queue has no room yet; this one comes after it.",
        "Queues are first in, first out.",
        "Nothing, or look at what the head waits for: kubectl batch why.",
    ),
    entry(
        "Waiting for one of the … running jobs of JobQueue … to end: maxRunning is reached",
        "The queue lets no more jobs run at a time.",
        "Its maxRunning.",
        "Wait, or raise maxRunning.",
    ),
    entry(
        "Waiting for a ComputeEnvironment of JobQueue …: none of them exists",
        "The queue names environments that are not there.",
        "They are applied later, or their names are misspelt.",
        "Make one: NAMESPACE.NAME is tried before NAME.",
    ),
    entry(
        "Waiting for a ComputeEnvironment of JobQueue … that can run jobs with capability …",
        "The environments of the queue that exist are of another kind than the job, and the first one does not exist yet.",
        "platformCapabilities of the definition, which are EC2 if it says nothing.",
        "Make the environment, or submit the job to another queue.",
    ),
    entry(
        "Waiting for ComputeEnvironment …: its allowedNamespaces do not select …",
        "The environment is not for this namespace.",
        "Its allowedNamespaces.",
        "Ask whoever owns the environment.",
    ),
    entry(
        "Waiting for the name …: a pod that is not the job's has it",
        "A foreign pod has the name that the job's next pod must have.",
        "Somebody made a pod by that name.",
        "Delete that pod.",
    ),
    entry(
        "Waiting for the API server to accept the job's pod: …",
        "The API server did not take the pod, for a reason that may pass.",
        "It is busy, a webhook does not answer, or something the pod names is missing.",
        "Nothing at first: it is tried again. If it stays, the text says what the API server said.",
    ),
    entry(
        "Waiting for ComputeEnvironment …, which is DISABLED or INVALID",
        "The environment takes no new jobs.",
        "Its state is DISABLED, or its status says what is wrong.",
        "kubectl batch environments shows it; kubectl describe ce NAME says why.",
    ),
    entry(
        "Waiting for ComputeEnvironment …, which is being created",
        "What the environment's nodes come from is being made.",
        "Karpenter has not taken its NodePool up yet.",
        "Nothing: it takes a moment. The environment says INVALID if it fails.",
    ),
    entry(
        "Waiting for ComputeEnvironment …, whose change has not been looked at yet",
        "The environment was edited a moment ago.",
        "The operator is about to look at it.",
        "Nothing: it takes a moment.",
    ),
    entry(
        "Waiting for ComputeEnvironment …, whose … is refused: …",
        "The API server refuses pods because of what the environment puts into them.",
        "The member that the text names, such as podDefaults.priorityClassName.",
        "The environment's owner must mend it; the jobs then go on by themselves.",
    ),
    entry(
        "Waiting for vCPUs in ComputeEnvironment …: its maxvCpus (…) is reached",
        "The environment has all the vCPUs in use that it may have.",
        "Its maxvCpus.",
        "Wait, or raise maxvCpus.",
    ),
    entry(
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - …",
        "The job asks for more vCPUs than any environment of its queue may ever have.",
        "The job's VCPU is above maxvCpus.",
        "Ask for less, or raise maxvCpus; until then the job never runs.",
    ),
    entry(
        "Waiting for a node in ComputeEnvironment …: no node of its pool takes pods now",
        "No node that the environment selects is there and ready.",
        "The pool is empty, or its nodes are cordoned or not ready.",
        "Add nodes, or uncordon them; compare the environment's provisioner with the labels of the nodes.",
    ),
    entry(
        "Waiting for a larger node in ComputeEnvironment …: the job fits none of its nodes",
        "Even an empty node of the pool is too small for the job.",
        "The job's VCPU, MEMORY or GPU.",
        "Ask for less, or add a larger node; status.largestJob of the environment says what fits.",
    ),
    entry(
        "Waiting for the namespace's ResourceQuota: …",
        "The namespace's quota leaves no room for the job's pod.",
        "A ResourceQuota; the text has its numbers.",
        "Wait, or raise the quota.",
    ),
    entry(
        "Waiting for a node: …",
        "The pod exists, and the Kubernetes scheduler finds no node for it.",
        "What the text says: taints, affinity, or resources that something else took meanwhile.",
        "Nothing at first; if it stays, mend what the text says.",
    ),
    entry(
        "Waiting for attempt …",
        "An attempt failed and the retry strategy allows another.",
        "The end of the text says how the attempt ended.",
        "Nothing: it is being retried. kubectl batch describe shows each attempt and the rule that decided.",
    ),
    entry(
        "Waiting for the last attempt's pod to end",
        "How the last attempt ended is known, but its pod has not let go of its node.",
        "The container is being stopped, or its node does not answer.",
        "Nothing: the next attempt begins when the pod is gone.",
    ),
    entry(
        "Waiting to be placed again: …",
        "A pod of the job started nothing, by no fault of the job. It used up no attempt.",
        "The node refused it, or it was deleted before it began.",
        "Nothing: the job is placed again.",
    ),
    entry(
        "Waiting for another JobQueue than …: it has a scheduling policy, and the job names no share",
        "The job was moved to a queue that divides its capacity among shares.",
        "jobQueue of the job, which has no shareIdentifier.",
        "Move it to a queue without a scheduling policy; a shareIdentifier cannot be added.",
    ),
    entry(
        "Waiting for SchedulingPolicy … of JobQueue …, which does not exist",
        "The job's queue shares its capacity by a policy that is not there.",
        "The name or ARN in schedulingPolicyArn of the queue, or the namespace.",
        "Create the SchedulingPolicy; the jobs then go on by themselves.",
    ),
    entry(
        "Waiting for one of the … active shares of JobQueue … to become idle",
        "The job's share would be one more than a queue may have active at a time.",
        "Many share identifiers: one is active while it has jobs, and for the policy's window after.",
        "Wait, or use fewer share identifiers.",
    ),
    entry(
        "Waiting for ConsumableResource …, which does not exist",
        "The job takes tokens of a resource that is not there.",
        "The name or ARN in consumableResourceProperties, or the namespace.",
        "Create the ConsumableResource; the job then goes on by itself.",
    ),
    entry(
        "Waiting for … of ConsumableResource …",
        "Other jobs hold the tokens that the job needs, or they are used up.",
        "The resource's totalQuantity, and what is in use.",
        "Wait, or raise totalQuantity.",
    ),
    entry(
        "Waiting for vCPUs in ComputeEnvironment …: all but … are kept for other shares (computeReservation)",
        "The queue's policy keeps vCPUs for shares that have no jobs yet.",
        "computeReservation of the SchedulingPolicy.",
        "Wait, or lower computeReservation.",
    ),
    entry(
        "Waiting for vCPUs in ComputeEnvironment …: namespace … uses all its …",
        "The environment gives the job's namespace so many vCPUs, and they are in use.",
        "maxvCpus in allowedNamespaces of the environment.",
        "Wait, or ask the environment's owner for more.",
    ),
    entry(
        "Waiting for ComputeEnvironment …: its room is kept for the head of JobQueue …, which has waited longest",
        "A job that comes first has waited so long that what becomes free is kept for it.",
        "Smaller jobs overtook it for ten minutes.",
        "Nothing: once it has its room, the others go on.",
    ),
    entry(
        "Waiting for a node in ComputeEnvironment …: … pods wait for nodes already",
        "New nodes are on their way for as many pods as may wait for them at a time.",
        "The nodes take their time to start.",
        "Nothing: the job follows in its turn.",
    ),
    entry(
        "Waiting for vCPUs in ComputeEnvironment …: pods of later jobs are being withdrawn",
        "Pods of jobs that come later, and that have no node yet, make room for this one.",
        "The job came, or came back, after they were placed.",
        "Nothing: it takes a moment.",
    ),
    entry(
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - …",
        "No node came for the job within the environment's capacityTimeoutSeconds.",
        "The provider has no such instances now, or the job fits none of them.",
        "Wait, add instance types, or add another environment to the queue.",
    ),
    entry(
        "ACTION_REQUIRED - CE(s) associated with the job queue are invalid.",
        "All environments of the queue are INVALID.",
        "Their statusReason says what is wrong.",
        "Mend the environments; the jobs then go on by themselves.",
    ),
    entry(
        "Waiting for … in ComputeEnvironment …",
        "The environment's nodes are full.",
        "Other pods have what the job needs.",
        "Wait, or add nodes.",
    ),
    // While STARTING and RUNNING.
    entry(
        "The node does not answer",
        "The kubelet of the job's node is silent; the job may still run there.",
        "The node is cut off, or its kubelet died.",
        "Wait for the node to come back, delete the Node object, or set nodeLostTimeoutSeconds on the environment.",
    ),
    entry(
        "The pod is being deleted",
        "Somebody deleted the job's pod; how it ended is not known yet.",
        "kubectl delete pod, or an eviction.",
        "Nothing: the outcome follows.",
    ),
    entry(
        "Bound; waiting for the node to begin",
        "The pod has a node, whose kubelet has not spoken of it yet.",
        "It takes a moment.",
        "If it stays, look at the node.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waits::{Kind, Wait};
    use crate::{reason, waits};

    fn every_wait() -> impl Iterator<Item = Wait> {
        [
            waits::queue_missing("q"),
            waits::queue_disabled("q"),
            waits::queue_deleting("q"),
            waits::definition_missing("d"),
            waits::definition_settling("d"),
            waits::definition_inactive("d:1"),
            waits::service_account_missing("r", "a"),
            waits::dependencies(&["j".to_owned()], &[]),
            waits::dependencies(&["j".to_owned(), "k".to_owned()], &[]),
            waits::dependencies(&[], &["j".to_owned()]),
            waits::dependencies(&[], &["j".to_owned(), "k".to_owned()]),
            waits::behind_head("q"),
            waits::queue_at_max_running("q", 3),
            waits::no_environment("q"),
            waits::capability("q", "EC2"),
            waits::namespace_not_allowed("e", "n"),
            waits::name_taken("p"),
            waits::api_refuses("x"),
            waits::right_missing("u", "n", "submit", "batchyard.io", "jobqueues", "q"),
            waits::submitter_unreadable("a", "x"),
            waits::runner_refused("a", "n", "r", "x"),
            waits::environment_closed("e"),
            waits::environment_creating("e"),
            waits::environment_settling("e"),
            waits::environment_refused("e", "m", "x"),
            waits::max_vcpus("e", 2000),
            waits::above_max_vcpus(),
            waits::no_node("e"),
            waits::no_gpus_at_all(),
            waits::no_gpus("e", None),
            waits::larger_than_any_node("e"),
            waits::resource("e", Kind::Memory),
            waits::unschedulable("x"),
            waits::quota("x"),
            waits::retry(1, 3, "x"),
            waits::last_pod(),
            waits::placement("x"),
            waits::policy_missing("q", "p"),
            waits::share_missing("q"),
            waits::too_many_shares("q", 500),
            waits::consumable_resource_missing("r"),
            waits::tokens("r", 2),
            waits::host_port("e", 8443),
            waits::reserved_for_shares("e", 2000),
            waits::namespace_max_vcpus("e", "n", 2000),
            waits::held_for("e", "q"),
            waits::unbound_window("e", 100),
            waits::withdrawing("e"),
            waits::no_capacity("e"),
            waits::all_invalid(),
        ]
        .into_iter()
    }

    #[test]
    fn every_text_of_ours_is_explained_by_its_own_entry() {
        let texts = [
            reason::ESSENTIAL_EXITED.into(),
            reason::FAILED_TO_START.into(),
            reason::TIMED_OUT.into(),
            crate::session::idle(jiff::SignedDuration::from_secs(60)),
            reason::DEPENDENT_FAILED.into(),
            reason::dependency_missing("j", 60),
            reason::dependency_circle(&["a".to_owned(), "a".to_owned()]),
            reason::dependency_unnamed(),
            reason::no_such_child("a:9"),
            reason::ARRAY_CHILD_FAILED.into(),
            reason::QUEUE_DELETED.into(),
            reason::JOB_DELETED.into(),
            reason::UNKNOWN.into(),
            reason::UNPLACED.into(),
            reason::POD_DELETED.into(),
            reason::NODE_SILENT.into(),
            reason::POD_ENDING.into(),
            reason::NODE_TO_BEGIN.into(),
            reason::OUT_OF_MEMORY.into(),
            reason::host_terminated("i-1"),
            reason::host_evicted("i-1", "disk"),
            reason::host_preempted("i-1", "by another"),
            reason::invalid_job_definition("x"),
            reason::unsupported_fields("x"),
            reason::parameter_missing("x"),
            reason::fargate_pair(1000, 4000),
            reason::capability("EC2"),
            reason::job_id_taken("x"),
            reason::share_missing("q"),
            reason::time_limit("x"),
            reason::cannot_pull("x"),
            reason::cannot_create("x"),
            reason::cannot_start("x"),
            reason::cannot_initialize("x"),
            reason::init_failed("x"),
        ];
        let texts: Vec<String> = texts.into_iter().chain(every_wait().map(|wait| wait.text)).collect();
        let mut used: Vec<&str> = texts
            .iter()
            .map(|text: &String| explain(text).unwrap_or_else(|| panic!("nothing explains {text:?}")).text)
            .collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), texts.len(), "two texts share an explanation");
        assert!(explain("something else").is_none());
        assert!(explain("").is_none());
    }

    #[test]
    fn entries_are_whole_sentences() {
        for entry in all() {
            for sentence in [entry.meaning, entry.cause, entry.advice] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", entry.text);
            }
        }
    }
}
