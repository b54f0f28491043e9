//! What environments become, as JSON. Whether Karpenter's own schemas accept it, a test with an API
//! server asks.

use serde_json::{Value, json};

use super::*;
use crate::crd::ComputeEnvironment;

const GRACE: u32 = 30;

fn environment(name: &str, compute: Value, more: Value) -> ComputeEnvironment {
    let mut resources = json!({"type": "SPOT", "minvCpus": 2, "maxvCpus": 32});
    let mut spec = json!({"type": "MANAGED", "provisioner": {"karpenter": {}}});
    for (target, more) in [(&mut resources, compute), (&mut spec, more)] {
        for (key, value) in more.as_object().expect("an object") {
            target[key] = value.clone();
        }
    }
    spec["computeResources"] = resources;
    let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
        "metadata": {"name": name, "uid": "u-1"}, "spec": spec});
    serde_json::from_value(object).expect("an environment")
}

fn pool_of(environment: &ComputeEnvironment) -> Value {
    serde_json::to_value(node_pool(environment, GRACE).expect("a NodePool")).expect("plain data")
}

/// The environment of the first post.
fn of_the_post() -> ComputeEnvironment {
    let compute = json!({
        "type": "SPOT", "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "minvCpus": 2, "maxvCpus": 32,
        "desiredvCpus": 4, "instanceTypes": ["m5.xlarge", "m4.2xlarge"], "subnets": ["subnet-0a"],
        "securityGroupIds": ["sg-0b"], "instanceRole": "arn:aws:iam::123456789012:instance-profile/ecsInstanceRole",
        "tags": {"Name": "aws-batch-instances"}, "ec2KeyPair": "batch-ssh-key", "bidPercentage": 0,
    });
    environment("compute-0", compute, json!({}))
}

#[test]
fn the_node_pool_of_the_post() {
    let class = json!({"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "batchyard-compute-0"});
    let labels =
        json!({"app.kubernetes.io/managed-by": "batchyard", "batchyard.io/compute-environment": "compute-0"});
    let want = json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": "batchyard-compute-0",
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment", "name": "compute-0",
                "uid": "u-1", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "template": {
                "metadata": {
                    "labels": {"Name": "aws-batch-instances", "batchyard.io/compute-environment": "compute-0"},
                },
                "spec": {
                    "nodeClassRef": class,
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
                        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                        {
                            "key": "node.kubernetes.io/instance-type", "operator": "In",
                            "values": ["m5.xlarge", "m4.2xlarge"],
                        },
                    ],
                    "taints": [
                        {"key": "batchyard.io/compute-environment", "value": "compute-0", "effect": "NoSchedule"},
                    ],
                    "expireAfter": "Never",
                },
            },
            "disruption": {
                "consolidationPolicy": "WhenEmpty", "consolidateAfter": "60s", "budgets": [{"nodes": "100%"}],
            },
            "limits": {"cpu": "32"},
        },
    });
    assert_eq!(pool_of(&of_the_post()), want);
}

#[test]
fn the_node_class_of_the_post() {
    let class = ec2_node_class(&of_the_post()).expect("an EC2NodeClass");
    assert_eq!(class.metadata.name.as_deref(), Some("batchyard-compute-0"));
    let want = json!({
        "subnetSelectorTerms": [{"id": "subnet-0a"}],
        "securityGroupSelectorTerms": [{"id": "sg-0b"}],
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
        "instanceProfile": "ecsInstanceRole",
        "tags": {"Name": "aws-batch-instances"},
    });
    assert_eq!(serde_json::to_value(&class.spec).expect("plain data"), want);
    let elsewhere = json!({"karpenter": {"nodeClassRef": {"group": "g", "kind": "K", "name": "n"}}});
    let elsewhere = environment("e", json!({}), json!({"provisioner": elsewhere}));
    assert_eq!(ec2_node_class(&elsewhere), None);
    assert!(missing_for_ec2(&elsewhere.spec).is_empty());
    let bare = environment("e", json!({"subnets": ["subnet-0a"]}), json!({}));
    assert_eq!(missing_for_ec2(&bare.spec), ["securityGroupIds", "instanceRole"]);
}

#[test]
fn roles_and_images() {
    let id = "ami-1";
    for (compute, karpenter, want) in [
        (json!({"instanceRole": "r"}), json!({}), json!({"instanceProfile": "r"})),
        (json!({"instanceRole": "arn:aws:iam::1:role/path/r"}), json!({}), json!({"role": "r"})),
        (json!({"imageId": id}), json!({}), json!({"amiSelectorTerms": [{"id": id}], "amiFamily": "AL2023"})),
        (
            json!({"ec2Configuration": [{"imageType": "EKS_BOTTLEROCKET_NVIDIA"}]}),
            json!({}),
            json!({"amiSelectorTerms": [{"alias": "bottlerocket@latest"}], "amiFamily": null}),
        ),
        (
            json!({"ec2Configuration": [{"imageType": "ECS_AL2_NVIDIA"}]}),
            json!({}),
            json!({"amiSelectorTerms": [{"alias": "al2@latest"}]}),
        ),
        (
            json!({"imageId": "ami-2", "ec2Configuration": [{"imageType": "ECS_AL2", "imageIdOverride": id}]}),
            json!({}),
            json!({"amiSelectorTerms": [{"id": id}], "amiFamily": "AL2"}),
        ),
        (
            json!({"imageId": id}),
            json!({"amiAlias": "al2023@v20260101"}),
            json!({"amiSelectorTerms": [{"alias": "al2023@v20260101"}], "amiFamily": null}),
        ),
    ] {
        let made = environment("e", compute.clone(), json!({"provisioner": {"karpenter": karpenter}}));
        let class = ec2_node_class(&made).expect("an EC2NodeClass");
        let class = serde_json::to_value(&class.spec).expect("plain data");
        for (member, value) in want.as_object().expect("an object") {
            assert_eq!(class[member], *value, "{compute} {karpenter}");
        }
    }
}

/// Requirements and alternatives, shortly.
fn chosen(group: &str, types: &Value) -> String {
    let class = json!({"karpenter": {"nodeClassRef": {"group": group, "kind": "K", "name": "n"}}});
    let made = environment("e", json!({"instanceTypes": types}), json!({"provisioner": class}));
    let short = |key: &str, operator: &str, values: &[String]| {
        let key = key.rsplit('/').next().unwrap_or_default();
        format!("{key}{}{}", if operator == "In" { "=" } else { ">" }, values.join(","))
    };
    let all: Vec<_> =
        instances::requirements(&made.spec).iter().map(|r| short(&r.key, &r.operator, &r.values)).collect();
    let any = alternatives(&made.spec).into_iter().map(|term| {
        let term = term.iter().map(|r| short(&r.key, &r.operator, r.values.as_deref().unwrap_or_default()));
        term.collect::<Vec<_>>().join(" ")
    });
    [all.join(" ")].into_iter().chain(any).collect::<Vec<_>>().join(" | ")
}

#[test]
fn instance_types() {
    const OPTIMAL: &str = "arch=amd64 instance-category=c,m,r instance-generation>3";
    let with_types = format!(" | instance-type=m5.xlarge | instance-family=c5 | {OPTIMAL}");
    for (group, types, want) in [
        (AWS, json!(["m5.xlarge", "m5.2xlarge"]), "instance-type=m5.xlarge,m5.2xlarge"),
        (AWS, json!(["m5", "c5"]), "instance-family=m5,c5"),
        (
            AWS,
            json!(["m5.xlarge", "c5"]),
            "instance-family=c5,m5 | instance-type=m5.xlarge | instance-family=c5",
        ),
        (AWS, json!(["optimal"]), OPTIMAL),
        (AWS, json!([]), OPTIMAL),
        (AWS, json!(["default_arm64"]), "arch=arm64 instance-category=c,m,r instance-generation>3"),
        (AWS, json!(["m5.xlarge", "optimal", "c5"]), with_types.as_str()),
        ("eks.amazonaws.com", json!(["m5"]), "instance-family=m5"),
        ("karpenter.kwok.sh", json!(["optimal"]), "arch=amd64"),
        ("karpenter.kwok.sh", json!(["m5.xlarge"]), "instance-type=m5.xlarge"),
        ("karpenter.azure.com", json!(["D"]), "sku-family=D"),
        ("karpenter.azure.com", json!(["Standard_D4s_v5"]), "instance-type=Standard_D4s_v5"),
        ("karpenter.k8s.gcp", json!(["c4a-standard-4"]), "instance-type=c4a-standard-4"),
        ("example.com", json!(["m5", "big.one"]), "instance-type=m5,big.one"),
    ] {
        assert_eq!(chosen(group, &types), want, "{group} {types}");
    }
}

#[test]
fn limits_and_delays() {
    let disabled = json!({"state": "DISABLED"});
    let delay = json!({"scalingPolicy": {"minScaleDownDelayMinutes": 20}});
    let karpenter = |more: Value| json!({"provisioner": {"karpenter": more}});
    let limit = "/spec/limits/cpu";
    let after = "/spec/disruption/consolidateAfter";
    let grace = "/spec/template/spec/terminationGracePeriod";
    for (compute, more, at, want) in [
        (json!({}), json!({}), limit, json!("32")),
        (json!({}), disabled.clone(), limit, json!("2")),
        (json!({"minvCpus": null}), disabled, limit, json!("0")),
        (json!({}), karpenter(json!({"consolidateAfter": "5s"})), after, json!("5s")),
        (delay.clone(), karpenter(json!({"consolidateAfter": "5s"})), after, json!("20m")),
        (json!({"scalingPolicy": {"minScaleDownDelayMinutes": 0}}), json!({}), after, json!("60s")),
        (json!({}), json!({"updatePolicy": {}}), grace, json!("30m")),
        (json!({}), json!({"updatePolicy": {"jobExecutionTimeoutMinutes": 90}}), grace, json!("90m")),
        (json!({}), json!({"updatePolicy": {"terminateJobsOnUpdate": true}}), grace, json!("30s")),
        (json!({}), karpenter(json!({"terminationGracePeriod": "48h"})), grace, json!("48h")),
        (
            json!({}),
            karpenter(json!({"expireAfter": "720h"})),
            "/spec/template/spec/expireAfter",
            json!("720h"),
        ),
        (json!({}), karpenter(json!({"weight": 7})), "/spec/weight", json!(7)),
        (
            json!({"type": "EC2"}),
            json!({}),
            "/spec/template/spec/requirements/0/values",
            json!(["on-demand"]),
        ),
    ] {
        let pool = pool_of(&environment("e", compute.clone(), more.clone()));
        assert_eq!(pool.pointer(at), Some(&want), "{compute} {more}");
    }
    let mut deleting = environment("e", json!({}), json!({}));
    deleting.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    assert_eq!(pool_of(&deleting).pointer(limit), Some(&json!("0")));
}

#[test]
fn tags_become_labels_where_they_can() {
    for (key, value, is_label) in [
        ("Name", "aws-batch-instances", true),
        ("team/cost-centre", "a_1.b", true),
        ("empty", "", true),
        ("Name", "two words", false),
        ("aws:like", "x", false),
        ("Name", "-x", false),
        ("karpenter.sh/nodepool", "x", false),
        ("node-role.kubernetes.io/x", "x", false),
        ("kubernetes.io/hostname", "x", false),
        ("a/b/c", "x", false),
        ("Team/x", "x", false),
        ("Name", &"x".repeat(64), false),
    ] {
        let made = pool_of(&environment("e", json!({"tags": {key: value}}), json!({})));
        let metadata = &made["spec"]["template"]["metadata"];
        let label = metadata["labels"].get(key).and_then(Value::as_str);
        assert_eq!(label, is_label.then_some(value), "{key}={value}");
        let annotation = metadata["annotations"]["batchyard.io/tags"].as_str();
        let all = json!({key: value}).to_string();
        assert_eq!(annotation, (!is_label).then_some(all.as_str()), "{key}={value}");
    }
    let own = json!({"provisioner": {"karpenter": {"labels": {"Name": "own"}, "annotations": {"a": "b"},
        "taints": [{"key": "t", "effect": "NoExecute"}]}}});
    let made = pool_of(&environment("e", json!({"tags": {"Name": "tag"}}), own));
    let template = &made["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["Name"], "own", "what is said of Karpenter wins");
    assert_eq!(template["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(template["spec"]["taints"][1], json!({"key": "t", "effect": "NoExecute"}));
}

#[test]
fn other_environments_have_no_node_pool() {
    let elsewhere = environment("e", json!({}), json!({"provisioner": {"static": {}}}));
    assert_eq!(node_pool(&elsewhere, GRACE), None);
    assert_eq!(ec2_node_class(&elsewhere), None);
}
