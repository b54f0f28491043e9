//! ComputeEnvironment: what is refused, and with which words.

use serde_json::{Value, json};

use super::{Case, create, tags, times, update};

const KIND: &str = "ComputeEnvironment";

const HOSTS: &str = "a host of sessions.hosts is a name such as *.{namespace}.example.com: * may be its first label, \
                     {namespace} any part";
const GATEWAYS: &str = "a Gateway of sessions.gateways is namespace/name, where {namespace} is the job's";

fn base() -> Value {
    json!({ "type": "MANAGED", "computeResources": { "type": "EC2", "minvCpus": 0, "maxvCpus": 8 } })
}

fn with(resources: Value, says: &[&'static str]) -> Case {
    create(KIND, &base(), json!({ "computeResources": resources }), says)
}

pub(super) fn cases() -> Vec<Case> {
    let own = tags(KIND, &base(), |tags| json!({ "tags": tags }));
    let of_instances = tags(KIND, &base(), |tags| json!({ "computeResources": { "tags": tags } }));
    [environment(), sessions(), resources(), fargate(), nested(), updates(), own, of_instances].concat()
}

fn environment() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(KIND, &base(), patch, says);
    vec![
        says(json!({}), &[]),
        says(json!({ "type": "UNMANAGED", "computeResources": null, "unmanagedvCpus": 4 }), &[]),
        says(json!({ "type": "managed" }), &["spec.type: unsupported value \"managed\""]),
        says(json!({ "type": null }), &["spec.type: required"]),
        says(json!({ "computeEnvironmentName": "randomEC_2-x" }), &[]),
        says(
            json!({ "computeEnvironmentName": "a b" }),
            &["computeEnvironmentName can have up to 128 letters, numbers, hyphens and underscores"],
        ),
        says(
            json!({ "computeEnvironmentName": "x".repeat(129) }),
            &["computeEnvironmentName can have up to 128 letters, numbers, hyphens and underscores"],
        ),
        says(
            json!({ "computeResources": null }),
            &["computeResources is required for a MANAGED compute environment"],
        ),
        says(
            json!({ "unmanagedvCpus": 4 }),
            &["unmanagedvCpus is only applicable to UNMANAGED compute environments"],
        ),
        says(json!({ "type": "UNMANAGED", "unmanagedvCpus": -1 }), &["unmanagedvCpus must not be negative"]),
        says(json!({ "provisioner": { "static": { "nodeSelector": { "pool": "spot" } } } }), &[]),
        says(json!({ "provisioner": {} }), &["provisioner needs exactly one of karpenter and static"]),
        says(
            json!({ "provisioner": { "static": {}, "karpenter": {} } }),
            &["provisioner needs exactly one of karpenter and static"],
        ),
        says(json!({ "provisioner": { "karpenter": {} } }), &[]),
        says(
            json!({ "type": "UNMANAGED", "computeResources": null, "provisioner": { "karpenter": {} } }),
            &["provisioner.karpenter is only applicable to MANAGED compute environments"],
        ),
        says(json!({ "network": "host", "vcpuRequestPercent": 90, "cpuLimit": true }), &[]),
        says(json!({ "podSecurity": "aws" }), &[]),
        says(json!({ "podSecurity": "restricted" }), &[]),
        says(json!({ "podSecurity": "privileged" }), &["spec.podSecurity: unsupported value \"privileged\""]),
        says(json!({ "vcpuRequestPercent": 0 }), &["spec.vcpuRequestPercent: less than minimum 1.0"]),
        says(json!({ "gpu": {} }), &[]),
        says(
            json!({ "gpu": { "resourceName": "nvidia.com/mig-1g.5gb", "runtimeClassName": "nvidia",
                "tolerations": [{ "key": "sku", "operator": "Exists" }] } }),
            &[],
        ),
        says(
            json!({ "gpu": { "resourceName": "gpu" } }),
            &["resourceName must be an extended resource with its domain, such as nvidia.com/gpu"],
        ),
        says(json!({ "devices": { "/dev/fuse": "squat.ai/fuse" } }), &[]),
        says(
            json!({ "devices": { "/dev/fuse": "fuse" } }),
            &[
                "devices must name an extended resource for the path of a device, such as /dev/fuse: squat.ai/fuse",
            ],
        ),
        says(
            json!({ "devices": { "fuse": "squat.ai/fuse" } }),
            &[
                "devices must name an extended resource for the path of a device, such as /dev/fuse: squat.ai/fuse",
            ],
        ),
        says(json!({ "allowedNamespaces": [{ "selector": { "matchLabels": { "team": "a" } } }] }), &[]),
    ]
}

fn sessions() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(KIND, &base(), patch, says);
    vec![
        says(
            json!({ "sessions": {
                "objects": ["Service", "Ingress", "Gateway"],
                "hosts": ["desk.example.com", "*.{namespace}.example.com", "team-{namespace}.Example.com"],
                "serviceTypes": ["ClusterIP"],
                "ingressClassNames": ["nginx"],
                "gateways": ["infra/desks", "{namespace}/own.2"],
            } }),
            &[],
        ),
        says(json!({ "sessions": { "hosts": ["*"] } }), &[HOSTS]),
        says(json!({ "sessions": { "hosts": ["a.*.example.com"] } }), &[HOSTS]),
        says(json!({ "sessions": { "hosts": ["{jobName}.example.com"] } }), &[HOSTS]),
        says(json!({ "sessions": { "gateways": ["desks"] } }), &[GATEWAYS]),
        says(json!({ "sessions": { "gateways": ["{jobName}/desks"] } }), &[GATEWAYS]),
        says(
            json!({ "sessions": { "serviceTypes": ["ExternalName"] } }),
            &["spec.sessions.serviceTypes[0]: unsupported value \"ExternalName\""],
        ),
    ]
}

fn resources() -> Vec<Case> {
    vec![
        with(json!({ "maxvCpus": null }), &["spec.computeResources.maxvCpus: required"]),
        with(json!({ "maxvCpus": "8" }), &["spec.computeResources.maxvCpus: must be of type integer"]),
        with(json!({ "maxvCpus": 0 }), &["maxvCpus must be at least 1"]),
        with(json!({ "minvCpus": -1 }), &["minvCpus must not be negative"]),
        with(json!({ "minvCpus": 9 }), &["minvCpus must not be greater than maxvCpus"]),
        with(json!({ "desiredvCpus": 0, "bidPercentage": 0 }), &[]),
        with(json!({ "desiredvCpus": 9 }), &["desiredvCpus must be between minvCpus and maxvCpus"]),
        with(
            json!({ "minvCpus": 2, "desiredvCpus": 1 }),
            &["desiredvCpus must be between minvCpus and maxvCpus"],
        ),
        with(json!({ "type": "SPOT", "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED" }), &[]),
        with(
            json!({ "type": "SPOT", "allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED" }),
            &["allocationStrategy BEST_FIT_PROGRESSIVE_ORDERED is only applicable to type EC2"],
        ),
        with(
            json!({ "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED" }),
            &["allocationStrategy SPOT_* is only applicable to type SPOT"],
        ),
        with(json!({ "ec2Configuration": times(2, json!({ "imageType": "ECS_AL2023" })) }), &[]),
        with(
            json!({ "ec2Configuration": times(3, json!({ "imageType": "ECS_AL2023" })) }),
            &["ec2Configuration can have at most 2 entries"],
        ),
    ]
}

fn fargate() -> Vec<Case> {
    let fargate = json!({ "type": "MANAGED", "computeResources": { "type": "FARGATE", "maxvCpus": 8 } });
    let says = |patch: Value, says: &[&'static str]| {
        create(KIND, &fargate, json!({ "computeResources": patch }), says)
    };
    vec![
        says(json!({ "subnets": times(16, json!("s")), "securityGroupIds": times(5, json!("sg")) }), &[]),
        says(
            json!({ "subnets": times(17, json!("s")) }),
            &["subnets can have at most 16 entries for Fargate"],
        ),
        says(
            json!({ "securityGroupIds": times(6, json!("sg")) }),
            &["securityGroupIds can have at most 5 entries for Fargate"],
        ),
        with(json!({ "subnets": times(17, json!("s")), "securityGroupIds": times(6, json!("sg")) }), &[]),
        says(json!({ "minvCpus": 0 }), &["minvCpus is not applicable for Fargate."]),
        says(json!({ "desiredvCpus": 4 }), &["desiredvCpus is not applicable for Fargate."]),
        says(
            json!({ "allocationStrategy": "BEST_FIT" }),
            &["allocationStrategy is not applicable for Fargate."],
        ),
        says(json!({ "instanceTypes": ["m5"] }), &["instanceTypes is not applicable for Fargate."]),
        says(json!({ "imageId": "ami-1" }), &["imageId is not applicable for Fargate."]),
        says(json!({ "instanceRole": "r" }), &["instanceRole is not applicable for Fargate."]),
        says(json!({ "tags": { "a": "b" } }), &["tags is not applicable for Fargate."]),
        says(json!({ "placementGroup": "p" }), &["placementGroup is not applicable for Fargate."]),
        says(json!({ "ec2KeyPair": "k" }), &["ec2KeyPair is not applicable for Fargate."]),
        says(
            json!({ "ec2Configuration": [{ "imageType": "ECS_AL2" }] }),
            &["ec2Configuration is not applicable for Fargate."],
        ),
        says(json!({ "bidPercentage": 50 }), &["bidPercentage is not applicable for Fargate."]),
        says(json!({ "spotIamFleetRole": "r" }), &["spotIamFleetRole is not applicable for Fargate."]),
        says(
            json!({ "launchTemplate": { "launchTemplateId": "lt-1" } }),
            &["launchTemplate is not applicable for Fargate."],
        ),
        says(json!({ "scalingPolicy": {} }), &["scalingPolicy is not applicable for Fargate."]),
    ]
}

fn nested() -> Vec<Case> {
    let eks = |namespace: &str| json!({ "eksConfiguration": { "eksClusterArn": "arn:x", "kubernetesNamespace": namespace } });
    let namespace =
        "kubernetesNamespace must be a namespace name shorter than 64 characters, not default and not kube-*";
    let template = "launchTemplate needs exactly one of launchTemplateId and launchTemplateName";
    let override_ = "a launch template override needs exactly one of launchTemplateId and launchTemplateName";
    vec![
        with(json!({ "launchTemplate": { "launchTemplateName": "a" } }), &[]),
        with(json!({ "launchTemplate": { "version": "$Latest" } }), &[template]),
        with(
            json!({ "launchTemplate": { "launchTemplateId": "a", "launchTemplateName": "b" } }),
            &[template],
        ),
        with(
            json!({ "launchTemplate": { "launchTemplateId": "a",
                "overrides": times(11, json!({ "launchTemplateId": "b" })) } }),
            &["launchTemplate.overrides can have at most 10 entries"],
        ),
        with(json!({ "launchTemplate": { "launchTemplateId": "a", "overrides": [{}] } }), &[override_]),
        with(json!({ "scalingPolicy": { "minScaleDownDelayMinutes": 0 } }), &[]),
        with(
            json!({ "scalingPolicy": { "minScaleDownDelayMinutes": 19 } }),
            &["minScaleDownDelayMinutes must be 0 or between 20 and 10080"],
        ),
        with(
            json!({ "scalingPolicy": { "minScaleDownDelayMinutes": 10081 } }),
            &["minScaleDownDelayMinutes must be 0 or between 20 and 10080"],
        ),
        create(KIND, &base(), json!({ "updatePolicy": { "jobExecutionTimeoutMinutes": 7200 } }), &[]),
        create(
            KIND,
            &base(),
            json!({ "updatePolicy": { "jobExecutionTimeoutMinutes": 7201 } }),
            &["jobExecutionTimeoutMinutes must be between 1 and 7200"],
        ),
        create(KIND, &base(), eks("batch"), &[]),
        create(KIND, &base(), eks("default"), &[namespace]),
        create(KIND, &base(), eks("kube-system"), &[namespace]),
        create(KIND, &base(), eks("Batch"), &[namespace]),
        create(KIND, &base(), eks(&"x".repeat(64)), &[namespace]),
        create(
            KIND,
            &json!({ "type": "MANAGED", "computeResources": { "type": "FARGATE", "maxvCpus": 8 } }),
            eks("batch"),
            &["eksConfiguration is only applicable to compute resources of type EC2 or SPOT"],
        ),
    ]
}

fn updates() -> Vec<Case> {
    let says = |old: Value, new: Value, says: &[&'static str]| update(KIND, &base(), old, new, says);
    let eks = |namespace: &str, state: &str| {
        json!({ "eksConfiguration": { "eksClusterArn": "arn:x", "kubernetesNamespace": namespace,
            "accessEntry": { "desiredState": state } } })
    };
    let fixed = "eksConfiguration cannot be changed, apart from accessEntry";
    vec![
        says(
            json!({}),
            json!({ "computeResources": { "maxvCpus": 4, "type": "SPOT" }, "state": "DISABLED" }),
            &[],
        ),
        says(json!({}), json!({ "type": "UNMANAGED" }), &["type cannot be changed"]),
        says(
            json!({}),
            json!({ "computeEnvironmentName": "a" }),
            &["computeEnvironmentName cannot be changed"],
        ),
        says(
            json!({ "computeEnvironmentName": "a" }),
            json!({}),
            &["computeEnvironmentName cannot be changed"],
        ),
        says(
            json!({ "computeEnvironmentName": "a" }),
            json!({ "computeEnvironmentName": "b" }),
            &["computeEnvironmentName cannot be changed"],
        ),
        says(eks("a", "ENABLED"), eks("a", "DISABLED"), &[]),
        says(eks("a", "ENABLED"), eks("b", "ENABLED"), &[fixed]),
        says(eks("a", "ENABLED"), json!({}), &[fixed]),
        says(json!({}), eks("a", "ENABLED"), &[fixed]),
    ]
}
