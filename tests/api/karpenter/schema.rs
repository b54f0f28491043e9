//! What is made for Karpenter against its published schemas and rules, on a real API server.

use batchyard::crd::ComputeEnvironment;
use batchyard::k8s::karpenter::{Ec2NodeClass, ec2_node_class, node_pool};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::support::client::{Actor, apply, connect, established};

fn environments() -> Vec<ComputeEnvironment> {
    let aws = json!({"subnets": ["subnet-0a", "subnet-0b"], "securityGroupIds": ["sg-0c"]});
    let class = json!({"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"});
    let profile = "arn:aws:iam::123456789012:instance-profile/ecsInstanceRole";
    let everything = json!({
        "requirements": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"], "minValues": 2},
            {"key": "karpenter.k8s.aws/instance-gpu-count", "operator": "DoesNotExist"}],
        "labels": {"team": "a"}, "annotations": {"note": "any text"}, "expireAfter": "720h",
        "taints": [{"key": "gpu", "effect": "NoSchedule"}], "startupTaints": [{"key": "s", "value": "v", "effect": "NoExecute"}],
        "consolidateAfter": "90s", "terminationGracePeriod": "48h", "weight": 100, "amiAlias": "al2023@v20260101",
    });
    let gpus = json!([{"imageType": "ECS_AL2023_NVIDIA"}, {"imageType": "EKS_AL2_NVIDIA", "imageIdOverride": "ami-0d"}]);
    [
        (
            "post",
            json!({"instanceTypes": ["m5.xlarge", "m4.2xlarge"], "instanceRole": profile,
            "tags": {"Name": "aws-batch-instances"}}),
            json!({"karpenter": {}}),
        ),
        (
            "role",
            json!({"instanceRole": "arn:aws:iam::123456789012:role/nodes", "imageId": "ami-0d",
            "instanceTypes": ["optimal"], "tags": {"cost centre": "two words"}}),
            json!({"karpenter": {}}),
        ),
        (
            "everything",
            json!({"instanceRole": "nodes", "instanceTypes": ["m5", "c5.large", "optimal"],
            "scalingPolicy": {"minScaleDownDelayMinutes": 20}}),
            json!({"karpenter": everything}),
        ),
        (
            "gpus",
            json!({"instanceRole": "nodes", "instanceTypes": ["g5"], "ec2Configuration": gpus}),
            json!({"karpenter": {}}),
        ),
        (
            "kwok",
            json!({"instanceTypes": ["m5"], "type": "EC2"}),
            json!({"karpenter": {"nodeClassRef": class}}),
        ),
    ]
    .into_iter()
    .map(|(name, compute, provisioner)| {
        let mut resources = json!({"type": "SPOT", "maxvCpus": 32});
        crate::operator::merge(&mut resources, aws.clone());
        crate::operator::merge(&mut resources, compute);
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": name, "uid": "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e"},
            "spec": {"type": "MANAGED", "computeResources": resources, "provisioner": provisioner,
                "updatePolicy": {"terminateJobsOnUpdate": true}}});
        serde_json::from_value(object).expect("an environment")
    })
    .collect()
}

/// The API server takes the object as it is: no rule is broken and no member is unknown.
async fn is_taken<K>(api: &Api<K>, object: &K)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let params = PatchParams { dry_run: true, ..PatchParams::apply("test").force().validation_strict() };
    let answer = api.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
    answer.unwrap_or_else(|error| panic!("{} {}: {error}", K::kind(&()), object.name_any()));
}

#[tokio::test]
async fn the_published_schemas_accept_what_is_made() {
    let client = connect(Actor::User).await;
    let text = std::fs::read_to_string(xtask::cluster::karpenter::ec2_node_class_crd().expect("Go has it"));
    let crd: Value = serde_saphyr::from_str(&text.expect("a file")).expect("YAML");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    apply(&crds, &crd).await;
    established(&crds, "ec2nodeclasses.karpenter.k8s.aws").await;
    for environment in environments() {
        let pool = node_pool(&environment, 30).expect("a NodePool");
        is_taken(&Api::all(client.clone()), &pool).await;
        if let Some(class) = ec2_node_class(&environment) {
            is_taken(&Api::all(client.clone()), &class).await;
        }
    }
    let bare = ComputeEnvironment {
        spec: serde_json::from_value(json!({"type": "MANAGED", "provisioner": {"karpenter": {}},
        "computeResources": {"type": "EC2", "maxvCpus": 1}}))
        .expect("a spec"),
        ..environments().remove(0)
    };
    let class = ec2_node_class(&bare).expect("an EC2NodeClass");
    let api: Api<Ec2NodeClass> = Api::all(client);
    let params = PatchParams { dry_run: true, ..PatchParams::apply("test").force() };
    api.patch("bare", &params, &Patch::Apply(&class)).await.expect_err("the rules are asked");
}
