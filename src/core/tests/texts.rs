//! The sentences that people read in statuses and conditions, each as a whole: people search for them and scripts match
//! them, so that a change of one is a change for users.

use std::net::{IpAddr, Ipv4Addr};

use batchyard_core::definition::parameters::{Parameters, substitute};
use batchyard_core::notification::address::Refusal;
use batchyard_core::notification::text as notification;
use batchyard_core::reason::{self, logs, resources};
use batchyard_core::waits;

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
fn of_definitions() {
    all_are(&[
        (resources::all_deregistered(3), "Revision 3 is the newest; no revision is ACTIVE"),
        (resources::revision_refused("quota"), "The revision was refused: quota"),
        (resources::unsupported(&words(&["a", "b"])), "Not supported yet: a, b"),
        (resources::fields_ignored(&words(&["a", "b"])), "No effect: a, b"),
        (
            resources::too_large("spec.tags", "the job", 3, 2, 1),
            "spec.tags: the job has 3 bytes as JSON, 2 of them here; it may have 1",
        ),
        (resources::name_has_no_effect("jobName", "a-1"), "jobName (the object would have to be named a-1)"),
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
            reason::sizes_differ("a", 3, 4),
            "Invalid job: dependsOn: N_TO_N with BatchJob a, which has 4 children and not 3",
        ),
    ]);
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
        (notification::unresolved("h"), "h has no address"),
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

#[test]
fn some_are_known_by_how_they_begin() {
    assert!(reason::is_gang_back(&reason::gang_unbound(1, 3, 300)));
    assert!(reason::is_gang_back(&reason::gang_incomplete(1, 3)));
    assert!(!reason::is_gang_back(reason::UNPLACED));
    let missing = substitute(&words(&["Ref::name"]), &Parameters::new()).expect_err("there is none");
    assert!(reason::is_parameter_missing(&missing), "{missing}");
    assert!(!reason::is_parameter_missing(&reason::command_too_long(1)));
}
