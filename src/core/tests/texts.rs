//! The sentences that people read in statuses and conditions, each as a whole: people search for them and scripts match
//! them, so that a change of one is a change for users.

use std::net::{IpAddr, Ipv4Addr};

use batchyard_core::definition::parameters::{Parameters, substitute};
use batchyard_core::notification::address::Refusal;
use batchyard_core::notification::text as notification;
use batchyard_core::reason::{self, logs, resources};
use batchyard_core::waits::{self, Kind};

fn all_are(texts: &[(String, &str)]) {
    for (text, want) in texts {
        assert_eq!(text, want);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn of_queues() {
    all_are(&[
        (
            resources::no_environment_order(),
            "CLIENT_ERROR - computeEnvironmentOrder names no ComputeEnvironment",
        ),
        (resources::service_environments(), "CLIENT_ERROR - serviceEnvironmentOrder is not supported yet"),
        (
            resources::quota_shares(),
            "CLIENT_ERROR - quotaSharePolicy: there are no SageMaker queues here; use fairsharePolicy",
        ),
        (
            resources::shares_overlap("a*", "ab"),
            "CLIENT_ERROR - fairsharePolicy.shareDistribution: a* and ab overlap",
        ),
        (
            resources::environment_twice("spot"),
            "CLIENT_ERROR - computeEnvironmentOrder: ComputeEnvironment spot is named twice",
        ),
        (
            resources::environment_not_served("spot"),
            "CLIENT_ERROR - computeEnvironmentOrder: ComputeEnvironment spot does not exist among those that are named \
             after the namespaces that this operator serves",
        ),
        (resources::order_twice(2), "CLIENT_ERROR - computeEnvironmentOrder: order 2 is given twice"),
        (
            resources::environment_not_allowed("spot", "team"),
            "CLIENT_ERROR - computeEnvironmentOrder: ComputeEnvironment spot does not allow namespace team",
        ),
        (
            resources::kinds_mixed("spot"),
            "CLIENT_ERROR - computeEnvironmentOrder: ComputeEnvironment spot is of another kind than those before it: a \
             queue has either FARGATE and FARGATE_SPOT or EC2 and SPOT",
        ),
        (
            resources::environment_missing("spot"),
            "CLIENT_ERROR - computeEnvironmentOrder: ComputeEnvironment spot does not exist",
        ),
        (
            resources::policy_missing("fair"),
            "CLIENT_ERROR - schedulingPolicyArn: SchedulingPolicy fair does not exist",
        ),
        (
            resources::blocked_by("job", "no room"),
            "BatchJob job is at the head of the queue and cannot be placed: no room",
        ),
    ]);
}

#[test]
fn of_environments() {
    all_are(&[
        (
            resources::type_unsupported("ECS_MANAGED_INSTANCES"),
            "CLIENT_ERROR - computeResources.type: ECS_MANAGED_INSTANCES is not supported yet",
        ),
        (
            resources::no_serverless_node("FARGATE"),
            "CLIENT_ERROR - computeResources.type: FARGATE needs serverless nodes, and no node has the label \
             type=virtual-kubelet or eks.amazonaws.com/compute-type=fargate; name the nodes in provisioner.static, or \
             use EC2 or SPOT",
        ),
        (
            resources::serverless_instances("FARGATE"),
            "CLIENT_ERROR - provisioner.karpenter: it makes instances, and computeResources.type FARGATE wants \
             serverless nodes",
        ),
        (
            resources::karpenter_missing("NodePool"),
            "CLIENT_ERROR - provisioner.karpenter: the cluster has no kind NodePool; is Karpenter installed?",
        ),
        (
            resources::node_class_needs(&["subnets", "instanceRole"]),
            "CLIENT_ERROR - provisioner.karpenter without nodeClassRef needs computeResources.subnets, \
             computeResources.instanceRole",
        ),
        (
            resources::karpenter_name_taken("NodePool", "spot"),
            "CLIENT_ERROR - provisioner.karpenter: NodePool spot exists and was not made for this environment",
        ),
        (
            resources::karpenter_refused("NodePool", "spot", "no"),
            "CLIENT_ERROR - provisioner.karpenter: the API server refuses NodePool spot: no",
        ),
        (
            resources::node_pool_not_ready("spot", "no class"),
            "CLIENT_ERROR - provisioner.karpenter: NodePool spot is not ready: no class",
        ),
        (resources::node_pool_settling("spot"), "Waiting for Karpenter to take up NodePool spot"),
        (resources::held_by_nodes("NodePool", "spot"), "Waiting for NodePool spot and its nodes to go"),
        (
            resources::placeholders_refused("computeResources.minvCpus", "quota"),
            "computeResources.minvCpus (the API server refuses placeholders: quota)",
        ),
        (
            resources::strategy_of_karpenter("allocationStrategy", true),
            "allocationStrategy (Karpenter weighs price against capacity)",
        ),
        (
            resources::strategy_of_karpenter("allocationStrategy", false),
            "allocationStrategy (Karpenter takes the cheapest that fits)",
        ),
        (
            resources::pods_refused("podDefaults.labels", "no"),
            "CLIENT_ERROR - podDefaults.labels: the API server refuses pods with it: no",
        ),
    ]);
}

#[test]
fn of_what_is_being_deleted() {
    let (one, two) = (words(&["a"]), words(&["a", "b"]));
    all_are(&[
        (resources::held_by_placed_jobs(2, &two), "Waiting for 2 jobs to end: a, b"),
        (resources::held_by_jobs(1, &one, true), "Waiting for 1 job to end: a"),
        (
            resources::held_by_jobs(1, &one, false),
            "1 job has not ended: a. The queue takes no new jobs and goes when they have ended. To fail \
             them now, set state: DISABLED or the annotation batchyard.io/delete-jobs: \"true\"",
        ),
        (resources::held_by_queues(1, &one), "1 queue names it: a"),
        (resources::held_by_queues(3, &two), "Queues name it: a, b, …"),
    ]);
}

#[test]
fn of_definitions() {
    all_are(&[
        (resources::registered(3), "Revision 3 is the newest"),
        (resources::all_deregistered(3), "Revision 3 is the newest; no revision is ACTIVE"),
        (resources::revision_refused("quota"), "The revision was refused: quota"),
        (resources::unsupported(&words(&["a", "b"])), "Not supported yet: a, b"),
        (resources::fields_ignored(&words(&["a", "b"])), "No effect: a, b"),
        (
            resources::too_large("spec.tags", "the job", 3, 2, 1),
            "spec.tags: the job has 3 bytes as JSON, 2 of them here; it may have 1",
        ),
        (resources::name_has_no_effect("jobName", "a-1"), "jobName (the object would have to be named a-1)"),
        (resources::indexes_have_no_effect("a", "3,7-9"), "a (the array has no children 3,7-9)"),
    ]);
}

#[test]
fn of_jobs() {
    all_are(&[
        (waits::rerun_missing("a").text, "Waiting for BatchJob a of rerunFailedOf, which does not exist"),
        (waits::rerun_unfinished("a").text, "Waiting for BatchJob a of rerunFailedOf to end"),
        (
            reason::too_many_tags(51, 50),
            "propagateTags: the job and its definition have 51 tags together, and at most 50 are handed on",
        ),
        (
            reason::rerun_of_no_array("a"),
            "Invalid job: arrayProperties.rerunFailedOf: BatchJob a is no array",
        ),
        (
            reason::rerun_of_nothing("a"),
            "Invalid job: arrayProperties.rerunFailedOf: no child of BatchJob a failed",
        ),
        (
            reason::rerun_of_another_size("a", 3, 4),
            "Invalid job: arrayProperties.size: BatchJob a of rerunFailedOf has 4 children and not 3",
        ),
        (
            reason::sizes_differ("a", 3, 4),
            "Invalid job: dependsOn: N_TO_N with BatchJob a, which has 4 children and not 3",
        ),
    ]);
}

#[test]
fn of_jobs_that_can_never_run() {
    all_are(&[
        (reason::invalid_job_definition("no image"), "Invalid job definition: no image"),
        (reason::cannot_run("no image"), "Invalid job definition: no image"),
        // What AWS has a sentence for is told in its words alone.
        (
            reason::cannot_run(&reason::parameter_missing("x")),
            "Unable to substitute value. No parameter found for reference x",
        ),
        (
            reason::cannot_run(&reason::fargate_pair(250, 4096)),
            "Fargate resource requirements (0.25 vCPU, 4096 MiB) not valid.",
        ),
        (
            reason::cannot_run(&reason::capability("EC2")),
            "Job Queue is attached to Compute Environment that can not run Jobs with capability EC2",
        ),
        (reason::command_too_long(9), "command: its parameters make it longer than 9 bytes"),
        (reason::unsupported_fields("a, b"), "Invalid job: not supported yet: a, b"),
        (
            reason::share_missing("q"),
            "Invalid job: shareIdentifier is required: JobQueue q has a scheduling policy",
        ),
        (reason::job_id_taken("id"), "Invalid job: jobId id belongs to an older job"),
        (
            reason::dependency_circle(&words(&["a", "b", "a"])),
            "Invalid job: dependsOn leads back to the job itself: a → b → a",
        ),
        (
            reason::dependency_missing("a", 60),
            "Dependent Job failed: BatchJob a did not exist within 60 s (dependencyTimeoutSeconds)",
        ),
        (
            reason::dependency_unnamed(),
            "Invalid job: dependsOn needs a jobId or job, unless the job is an array and the type is \
             SEQUENTIAL",
        ),
        (
            reason::no_such_child("a:9"),
            "Invalid job: dependsOn names a:9, and there is no array with such a child",
        ),
        (reason::dependency_failed("a"), "BatchJob a failed"),
        (reason::dependency_deleted("a"), "BatchJob a was deleted before it was seen to end"),
    ]);
}

#[test]
fn of_containers() {
    all_are(&[
        (reason::init_failed("setup"), "init setup"),
        (
            reason::init_out_of_memory("setup"),
            "OutOfMemoryError: Container killed due to memory usage (init setup)",
        ),
        (reason::kubelet("Error", "why"), "Error: why"),
        (reason::kubelet("Error", ""), "Error"),
        (reason::kubelet("", "why"), "why"),
        (reason::of_node(Some("why"), 3), "why (node 3)"),
        (reason::of_node(None, 0), "(node 0)"),
        (reason::gang_unbound(1, 3, 300), "Not all nodes of the job had a host within 300 s: 1 of 3 did"),
        (reason::gang_incomplete(1, 3), "Not all nodes of the job have a pod: 1 of 3 do"),
        (reason::still_pulling(9), "the image was not pulled within 9 s"),
        (reason::still_preparing(9), "the pod's volumes or network were not ready within 9 s"),
        (reason::still_initializing(9), "the pod's sidecars were not ready within 9 s"),
        (reason::not_taken(9), "the node did not begin with the pod within 9 s"),
        (reason::sidecar_not_started("proxy", "why"), "sidecar proxy did not start: why"),
        (
            reason::container_dependency_failed("a", "b", Some(1)),
            "DependencyError: container a depends on b, which exited with 1",
        ),
        (
            reason::container_dependency_failed("a", "b", None),
            "DependencyError: container a depends on b, which could not start",
        ),
        (
            reason::container_dependency_late("a", "b", 9),
            "DependencyError: container a depends on b, which did not end within 9 s",
        ),
        (reason::waits_for_start("b"), "Waiting for container b to start"),
        (reason::waits_for_end("b"), "Waiting for container b to end"),
        (reason::init_runs("setup"), "init container setup runs"),
        (reason::rule_exhausted(3, 3), "attempts exhausted (3 of 3)"),
        (
            reason::rule_entry(1, &[("onReason", "a*"), ("onExitCode", "1")], "RETRY"),
            "evaluateOnExit[1]: onReason \"a*\" and onExitCode \"1\" -> RETRY",
        ),
    ]);
}

#[test]
fn of_waits() {
    let names = |count: usize| (1..=count).map(|number| format!("j{number}")).collect::<Vec<_>>();
    all_are(&[
        (waits::dependencies(&names(1), &[]).text, "Waiting for BatchJob j1 to succeed"),
        (waits::dependencies(&names(2), &[]).text, "Waiting for 2 BatchJobs to succeed: j1, j2"),
        (waits::dependencies(&names(5), &[]).text, "Waiting for 5 BatchJobs to succeed: j1, j2, j3, j4, j5"),
        (
            waits::dependencies(&names(6), &[]).text,
            "Waiting for 6 BatchJobs to succeed: j1, j2, j3, j4, j5, …",
        ),
        (waits::dependencies(&[], &names(1)).text, "Waiting for BatchJob j1, which does not exist"),
        (
            waits::dependencies(&names(1), &names(7)).text,
            "Waiting for 7 BatchJobs that do not exist: j1, j2, j3, j4, j5, …; for BatchJob j1 to succeed",
        ),
        (
            waits::max_vcpus("e", 2000).text,
            "Waiting for vCPUs in ComputeEnvironment e: its maxvCpus (2) is reached",
        ),
        (
            waits::reserved_for_shares("e", 2250).text,
            "Waiting for vCPUs in ComputeEnvironment e: all but 2.25 are kept for other shares \
             (computeReservation)",
        ),
        (
            waits::namespace_max_vcpus("e", "team", 16_000).text,
            "Waiting for vCPUs in ComputeEnvironment e: namespace team uses all its 16",
        ),
        (waits::resource("e", Kind::Vcpus).text, "Waiting for vCPUs in ComputeEnvironment e"),
        (waits::resource("e", Kind::Memory).text, "Waiting for memory in ComputeEnvironment e"),
        (waits::resource("e", Kind::Gpus).text, "Waiting for GPUs in ComputeEnvironment e"),
        (
            waits::resource("e", Kind::Node).text,
            "Waiting for a node with enough of everything in ComputeEnvironment e",
        ),
        (waits::retry(1, 3, "why").text, "Waiting for attempt 2 of 3; attempt 1: why"),
        (
            waits::no_gpus("e", None).text,
            "Waiting for GPUs in ComputeEnvironment e: none of its nodes has any nvidia.com/gpu",
        ),
    ]);
}

/// As AWS names them: people's alarms look for these.
#[test]
fn codes_of_blocked_queues_stand_before_their_texts() {
    for (wait, code) in [
        (waits::no_capacity("e"), Some("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")),
        (waits::above_max_vcpus(), Some("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")),
        (waits::no_gpus_at_all(), Some("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")),
        (waits::all_invalid(), Some("ACTION_REQUIRED")),
        (waits::behind_head("q"), None),
    ] {
        assert_eq!(wait.kind.code(), code, "{}", wait.text);
        assert!(code.is_none_or(|code| wait.text.starts_with(&format!("{code} - "))), "{}", wait.text);
    }
}

#[test]
fn long_texts_of_others_are_cut() {
    let long = "x".repeat(2000);
    for (text, limit) in [
        (resources::karpenter_refused("NodePool", "spot", &long), 1020),
        (resources::node_pool_not_ready("spot", &long), 1020),
        (resources::placeholders_refused("computeResources.minvCpus", &long), 1020),
        (resources::revision_refused(&long), 1020),
        (logs::configuration_refused(&long), 255),
        (logs::pod_refused(&long), 255),
        (reason::of_node(Some(&long), 3), 255),
        (reason::kubelet("Error", &long), 255),
        (reason::cannot_run(&reason::parameter_missing(&long)), 512),
        (waits::unschedulable(&long).text, 512),
        (waits::dependencies(&vec![long.clone(); 2], &[]).text, 512),
    ] {
        assert_eq!(text.chars().count(), limit, "{text}");
    }
}

#[test]
fn of_logs() {
    let refusal = logs::nothing_of_node(("logDriver", "json-file writes into a folder of the node"));
    assert_eq!(refusal.member, "logDriver");
    all_are(&[
        (
            refusal.why,
            "json-file writes into a folder of the node, of which pods see nothing where the environment has \
             logging.source: API",
        ),
        (logs::of_queue("q"), "JobQueue q: logging.logConfiguration"),
        (logs::of_environment("e"), "ComputeEnvironment e: logging.logConfiguration"),
        (
            logs::forbidden("JobQueue q", &words(&["no splunk", "no syslog"])),
            "JobQueue q: no splunk; no syslog",
        ),
        (logs::invalid("logging: no"), "CLIENT_ERROR - logging: no"),
        (
            logs::plain_text(&words(&["options.a", "options.b"])),
            "options.a, options.b: everybody who may read the definition sees it; name a Secret in \
             secretOptions instead",
        ),
        (logs::configuration_refused("quota"), "Its configuration cannot be made: quota"),
        (logs::pod_refused("hostPath"), "Pods with a log sidecar are refused: hostPath"),
        (logs::not_routed("Why."), "Output stays where kubectl logs finds it. Why."),
        (
            logs::sidecar_ended("p", 1, "Error", "first\nlast\n"),
            "The log sidecar of pod p ended with exit code 1 while the job ran; the kubelet starts it again: last",
        ),
        (
            logs::sidecar_ended("p", 137, "OOMKilled", " "),
            "The log sidecar of pod p ended with exit code 137 (OOMKilled) while the job ran; the kubelet starts it again",
        ),
        (
            logs::sidecar_ended("p", 2, "", ""),
            "The log sidecar of pod p ended with exit code 2 while the job ran; the kubelet starts it again",
        ),
        (
            logs::sink_unavailable("p", "splunk"),
            "Output waits in pod p (splunk): a sink is away, refuses it or takes too little. kubectl logs p --container \
             batchyard-log says why",
        ),
    ]);
}

#[test]
fn of_notifications() {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    all_are(&[
        (
            notification::unknown_placeholder(&words(&["a", "b"]), &["name", "phase"]),
            "smtp.subject: {a}, {b} stands for nothing; known are name, phase",
        ),
        (notification::invalid("smtp.port", "it is 0"), "smtp.port is not valid: it is 0"),
        (notification::secret_missing("s", "k"), "Secret s with the key k does not exist"),
        (notification::secret_unusable("s", "k", "is empty"), "Secret s: k is empty"),
        (
            notification::secret_forbidden("s", "team"),
            "Secret s may not be read: an administrator has to name namespace team in the chart's notifier.namespaces",
        ),
        (notification::secret_unread("s"), "Secret s could not be read: the API server did not answer"),
        (
            notification::address_refused("h", Some(here), Refusal::Loopback),
            "nothing is sent to h: 127.0.0.1 is a loopback address",
        ),
        (
            notification::address_refused("h", None, Refusal::Denied),
            "nothing is sent to h: its address is in a denied range",
        ),
        (notification::unresolved("h"), "h has no address"),
        (notification::unreachable("h"), "h cannot be reached"),
        (
            notification::tls_failed("h"),
            "no TLS with h: its certificate is not trusted, or it speaks another protocol",
        ),
        (notification::no_answer("h"), "h did not answer in time"),
        (notification::http_status("h", 299), "h answered 299"),
        (notification::http_status("h", 300), "h answered 300: redirects are not followed"),
        (notification::http_status("h", 399), "h answered 399: redirects are not followed"),
        (notification::http_status("h", 503), "h answered 503"),
        (notification::smtp_reply("h", Some(550)), "h answered 550"),
        (notification::smtp_reply("h", None), "h did not speak SMTP as it should"),
    ]);
}

/// What a pod is busy with while it starts is no news; what keeps it is.
#[test]
fn only_trouble_is_trouble() {
    for (text, want) in [
        (reason::NODE_TO_BEGIN, false),
        (reason::ADDRESS_AWAITED, false),
        ("ContainerCreating", false),
        ("PodInitializing", false),
        (&reason::waits_for_end("b"), false),
        (&reason::init_runs("setup"), false),
        (reason::NODE_SILENT, true),
        (reason::POD_ENDING, true),
        ("ImagePullBackOff: not found", true),
    ] {
        assert_eq!(reason::is_trouble(text), want, "{text}");
    }
}

#[test]
fn some_are_known_by_how_they_begin() {
    assert!(reason::is_gang_back(&reason::gang_unbound(1, 3, 300)));
    assert!(reason::is_gang_back(&reason::gang_incomplete(1, 3)));
    assert!(!reason::is_gang_back(reason::UNPLACED));
    let missing = substitute(&words(&["Ref::name"]), &Parameters::new()).expect_err("there is none");
    assert!(reason::is_parameter_missing(&missing), "{missing}");
    assert!(!reason::is_parameter_missing(&reason::command_too_long(1)));
    assert!(reason::is_host_end(&reason::host_terminated("i-1")));
    assert!(reason::is_host_end(&reason::host_evicted("i-1", "disk")));
    assert!(!reason::is_host_end(reason::POD_DELETED));
    assert!(reason::is_dependency_circle(&reason::dependency_circle(&words(&["a", "a"]))));
    assert!(!reason::is_dependency_circle(&reason::dependency_unnamed()));
}
