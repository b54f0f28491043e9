//! Why a member has no effect here. Which ones have none is said by `crd::ignored` alone.

use super::report::{Told, pattern};

const NODES: &str = "existing nodes have their own; with provisioner.karpenter, and no nodeClassRef, the nodes that it makes get it";
const KARPENTER: &str = "only with provisioner.karpenter: existing nodes are as they are";
const GROWING: &str =
    "only where nodes can be made: provisioner.karpenter, or provisioner.static with autoscaled: true";
const SAGEMAKER: &str = "for SageMaker, which Batchyard does not have";
const NETWORK: &str = "whether a pod has a public address is decided by the cluster's network";
const FARGATE_VERSION: &str = "there is one version of serverless nodes, the provider's";

/// Longer paths win.
const WHY: &[(&str, &str)] = &[
    ("computeResources.subnets", NODES),
    ("computeResources.securityGroupIds", NODES),
    ("computeResources.instanceRole", NODES),
    ("computeResources.imageId", NODES),
    ("computeResources.ec2Configuration", NODES),
    ("computeResources.ec2Configuration[].imageType", "Karpenter knows no image of this type"),
    ("computeResources.ec2Configuration[].imageKubernetesVersion", "nodes have the cluster's version"),
    ("computeResources.tags", KARPENTER),
    ("computeResources.scalingPolicy", KARPENTER),
    (
        "computeResources.allocationStrategy",
        "Karpenter has strategies of its own, and existing nodes are as they are",
    ),
    ("computeResources.minvCpus", GROWING),
    ("computeResources.desiredvCpus", GROWING),
    (
        "computeResources.bidPercentage",
        "Karpenter takes the cheapest spot capacity and knows no highest price",
    ),
    ("computeResources.ec2KeyPair", "Karpenter knows no key pairs; kubectl debug reaches a node"),
    (
        "computeResources.launchTemplate",
        "Karpenter knows no launch templates; an EC2NodeClass of your own, named by provisioner.karpenter.nodeClassRef, can say the same",
    ),
    ("computeResources.placementGroup", "Karpenter knows no placement groups"),
    ("computeResources.spotIamFleetRole", "there is no spot fleet"),
    ("computeResources.managedInstancesProvider", "ECS manages no instances here"),
    ("computeResources.capacityTags", "ECS manages no instances here"),
    ("serviceRole", "Batchyard calls no service of AWS"),
    ("eksConfiguration", "jobs run in this cluster, in the namespace of their queue"),
    ("ecsSettings", "there is no ECS cluster; metrics are Prometheus's"),
    ("updatePolicy", KARPENTER),
    ("jobQueueType", "it follows from the environments"),
    ("serviceEnvironmentOrder", SAGEMAKER),
    ("jobStateTimeLimitActions[].reason", "a queue is never blocked for this reason here"),
    ("jobStateTimeLimitActions[].action", SAGEMAKER),
    ("quotaSharePolicy", SAGEMAKER),
    ("platformCapabilities", "ECS manages no instances here"),
    ("parameters.command", "an option of docker run that pods do not have"),
    ("containerProperties.networkConfiguration", NETWORK),
    ("containerProperties.fargatePlatformConfiguration", FARGATE_VERSION),
    ("containerProperties.platformVersion", FARGATE_VERSION),
    ("containerProperties.instanceType", "only of multi-node jobs, as on AWS"),
    ("containerProperties.ipcMode", "the containers of a pod share it"),
    (
        "containerProperties.networkMode",
        "the pod network; a parameter command: --network=host, or network: host on the environment, give the node's",
    ),
    ("containerProperties.firelensConfiguration", "containers are not wired to a log router of their own"),
    ("containerProperties.linuxParameters.maxSwap", "Kubernetes gives swap by a rule of its own"),
    ("containerProperties.linuxParameters.swappiness", "a setting of the node"),
    ("containerProperties.linuxParameters.tmpfs", "a mount option that Kubernetes cannot set"),
    ("containerProperties.runtimePlatform", "no node is labelled so"),
    ("containerProperties.volumes", "a setting of the PersistentVolume (mountOptions)"),
];

/// What `ecsProperties` and node groups call the same members by.
const CONTAINERS: [&str; 4] = [
    "nodeProperties.nodeRangeProperties[].ecsProperties.taskProperties[]",
    "nodeProperties.nodeRangeProperties[].container",
    "ecsProperties.taskProperties[]",
    "containerProperties.containers[]",
];

/// Why the member of a path of `crd::ignored` has no effect.
pub(super) fn why(path: &str) -> Told {
    // The tables of ignored members say of some why, in brackets.
    if let Some((path, note)) = path.split_once(" (")
        && path != "parameters.command"
    {
        return Told::new(path, note.trim_end_matches(')'));
    }
    Told::new(path, because(path.split(" (").next().unwrap_or(path)).unwrap_or("it has no effect here"))
}

fn because(path: &str) -> Option<&'static str> {
    let mut pattern = pattern(path);
    for name in CONTAINERS {
        if let Some(rest) = pattern.strip_prefix(name) {
            pattern = format!("containerProperties{rest}");
        }
    }
    let is_below = |entry: &str| {
        pattern.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let found = WHY.iter().filter(|(entry, _)| is_below(entry)).max_by_key(|(entry, _)| entry.len());
    found.map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ignored::{Kind, ignored_fields};
    use serde_json::{Value, json};

    /// Everything that is ever named, said once each.
    #[test]
    fn each_member_without_effect_has_its_reason() {
        let environment = json!({"serviceRole": "r", "eksConfiguration": {"eksClusterArn": "a", "kubernetesNamespace": "n"},
            "ecsSettings": {"containerInsights": "ENABLED"}, "updatePolicy": {"terminateJobsOnUpdate": true},
            "computeResources": {"subnets": ["s"], "securityGroupIds": ["g"], "instanceRole": "r", "imageId": "i",
                "ec2Configuration": [{"imageType": "X"}], "tags": {"a": "b"}, "allocationStrategy": "BEST_FIT",
                "scalingPolicy": {"minScaleDownDelayMinutes": 20}, "minvCpus": 1, "desiredvCpus": 1, "bidPercentage": 50,
                "ec2KeyPair": "k", "launchTemplate": {"launchTemplateId": "l"}, "placementGroup": "p",
                "spotIamFleetRole": "r", "managedInstancesProvider": {"x": 1}, "capacityTags": {"a": "b"}}});
        let mut karpenter = environment.clone();
        karpenter["provisioner"] = json!({"karpenter": {}});
        let container = json!({"executionRoleArn": "r", "user": "alice",
            "networkConfiguration": {"assignPublicIp": "ENABLED"}, "instanceType": "t", "ulimits": [{"name": "core"}],
            "fargatePlatformConfiguration": {"platformVersion": "1.4.0"},
            "linuxParameters": {"maxSwap": 1, "swappiness": 1, "devices": [{"hostPath": "/dev/fuse"}],
                "tmpfs": [{"mountOptions": ["noexec"]}]},
            "runtimePlatform": {"cpuArchitecture": "X", "operatingSystemFamily": "X"},
            "volumes": [{"efsVolumeConfiguration": {"transitEncryptionPort": 1}}]});
        let mut task = container.clone();
        task["containers"] = json!([{"firelensConfiguration": {"type": "fluentbit"}, "ulimits": [{}]}]);
        task["ipcMode"] = json!("none");
        task["networkMode"] = json!("awsvpc");
        task["platformVersion"] = json!("1.4.0");
        let ecs = json!({"taskProperties": [task]});
        let definition = json!({"parameters": {"command": "--cgroup-parent=x --network=host"}, "platformCapabilities": ["MANAGED_INSTANCES"],
            "containerProperties": container, "ecsProperties": ecs});
        let nodes = json!({"nodeProperties": {"nodeRangeProperties": [{"container": container, "ecsProperties": ecs}]}});
        let queue = json!({"jobQueueType": "EKS", "serviceEnvironmentOrder": [{"order": 1}],
            "jobStateTimeLimitActions": [{"reason": "X", "action": "TERMINATE"}]});
        for (kind, spec) in [
            (Kind::ComputeEnvironment, environment),
            (Kind::ComputeEnvironment, karpenter),
            (Kind::JobQueue, queue),
            (Kind::SchedulingPolicy, json!({"quotaSharePolicy": {"idleResourceAssignmentStrategy": "FIFO"}})),
            (Kind::JobDefinition, definition),
            (Kind::JobDefinition, nodes),
        ] {
            let without: Vec<Told> = ignored_fields(kind, &spec).iter().map(|path| why(path)).collect();
            assert!(without.len() > 2 || kind == Kind::SchedulingPolicy, "{without:?}");
            let lacking: Vec<&Told> =
                without.iter().filter(|told| told.text == "it has no effect here").collect();
            assert!(lacking.is_empty(), "{lacking:#?}");
        }
        assert_eq!(ignored_fields(Kind::JobQueue, &Value::Null), [""; 0]);
    }

    #[test]
    fn what_the_tables_say_themselves_is_taken_from_them() {
        let told = why("containerProperties.user (the image knows users by name, Kubernetes by number)");
        assert_eq!(told.about, "containerProperties.user");
        assert_eq!(told.text, "the image knows users by name, Kubernetes by number");
        assert_eq!(
            why("computeResources.ec2Configuration[1].imageType").text,
            "Karpenter knows no image of this type"
        );
    }
}
