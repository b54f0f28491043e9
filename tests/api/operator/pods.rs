//! The pods that the operator makes.

use std::collections::BTreeMap;

use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::world::{World, job};
use crate::support::client::apply;
use crate::support::wait;

#[tokio::test]
async fn a_pod_is_what_the_job_says() {
    let world = World::with_queue("pod").await;
    world.definition("definition", json!({"containerProperties": {
        "image": "busybox:1.36", "command": ["echo", "$HOME", "$(NAME)"], "vcpus": null, "memory": null,
        "resourceRequirements": [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "256"}],
        "environment": [{"name": "NAME", "value": "value"}], "readonlyRootFilesystem": true, "user": "1000:100",
        "volumes": [{"name": "scratch"}], "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/scratch"}],
    }}))
    .await;
    let overrides = json!({"containerOverrides": {
        "environment": [{"name": "NAME", "value": "another"}],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}],
    }});
    let spec = job(json!({"containerProperties": null, "jobDefinition": "definition:1"}));
    let mut spec_with_overrides = spec;
    super::merge(&mut spec_with_overrides, overrides);
    let job = world.submit("job", spec_with_overrides).await;
    let pod = job.pod(1).await.get().await;
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    let container = &spec.containers[0];
    assert_eq!(container.image.as_deref(), Some("busybox:1.36"));
    let args = container.args.clone().unwrap_or_default();
    assert_eq!(args, ["echo", "$$HOME", "$$(NAME)"], "Kubernetes expands nothing that AWS does not");
    let variables = variables(spec);
    assert_eq!(variables["NAME"], "another");
    assert_eq!(variables["AWS_BATCH_JOB_ATTEMPT"], "1");
    assert_eq!(variables["AWS_BATCH_JQ_NAME"], "queue");
    assert_eq!(Some(&variables["AWS_BATCH_JOB_ID"]), job.get().await.uid().as_ref());
    let resources = container.resources.as_ref().expect("resources");
    let amount =
        |list: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
         name: &str| {
            list.as_ref().and_then(|list| list.get(name)).map(|quantity| quantity.0.clone())
        };
    assert_eq!(amount(&resources.requests, "cpu").as_deref(), Some("900m"), "90 % of a vCPU");
    assert_eq!(amount(&resources.limits, "cpu"), None);
    assert_eq!(amount(&resources.limits, "memory").as_deref(), Some("256Mi"));
    assert_eq!(amount(&resources.requests, "memory").as_deref(), Some("256Mi"));
    let security = container.security_context.as_ref().expect("a security context");
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!((security.run_as_user, security.run_as_group), (Some(1000), Some(100)));
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    assert!(mounts.iter().any(|mount| mount.mount_path == "/scratch"), "{mounts:?}");
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(pod.finalizers(), ["batchyard.io/attempt"]);
    assert!(pod.name_any().starts_with("job-") && pod.name_any().ends_with("-1"), "{}", pod.name_any());
    assert_eq!(pod.labels()["batchyard.io/job-definition"], "definition");
}

fn variables(spec: &PodSpec) -> BTreeMap<String, String> {
    let variables = spec.containers[0].env.iter().flatten();
    variables.map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default())).collect()
}

#[tokio::test]
async fn pod_defaults_of_the_environment_are_kept() {
    let world = World::with_queue("defaults").await;
    let defaults = json!({"podDefaults": {
        "labels": {"team": "hpc"}, "annotations": {"cost": "centre"}, "schedulerName": "another",
        "tolerations": [{"key": "spot", "operator": "Exists"}], "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
    }, "vcpuRequestPercent": 50, "cpuLimit": true, "network": "host"});
    world.changed_environment("pool", defaults).await;
    let job = world.submit("job", job(json!({"containerProperties": {"vcpus": 2}}))).await;
    let pod = job.pod(1).await.get().await;
    assert_eq!(pod.labels()["team"], "hpc");
    assert_eq!(pod.annotations()["cost"], "centre");
    let spec = serde_json::to_value(pod.spec).expect("plain data");
    assert_eq!(spec["schedulerName"], "another");
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "1");
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "2");
    let tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    assert!(tolerations.iter().any(|t| t["key"] == "spot"), "{tolerations:?}");
}

#[tokio::test]
async fn a_foreign_pod_with_the_name_is_never_touched() {
    let world = World::empty("foreign").await;
    world.node("node", "pool", 4).await;
    world.environment("pool", json!({})).await;
    // The queue comes last, so that the job's uid is known before its pod is made.
    let job = world.submit("job", job(json!({}))).await;
    let uid = job.get().await.uid().expect("a uid");
    let name = batchyard_core::name::pod("job", &uid, None, 1, 0);
    let foreign = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "mine", "image": "busybox"}]}});
    let foreign: Pod = serde_json::from_value(foreign).expect("a pod");
    let foreign =
        world.api::<Pod>().create(&PostParams::default(), &foreign).await.expect("a pod can be made");
    world.queue("queue", json!({})).await;
    job.waits(Phase::Runnable, &format!("Waiting for the name {name}")).await;
    let now = world.api::<Pod>().get(&name).await.expect("it is still there");
    assert_eq!(now.uid(), foreign.uid());
    world.api::<Pod>().delete(&name, &DeleteParams::default()).await.expect("its owner can delete it");
    let pod = job.pod(1).await;
    assert_eq!(pod.name, name);
    job.run(0).await;
}

/// Waits for the fields that an object names in its condition FieldsIgnored.
async fn ignored<K>(api: &kube::Api<K>, name: &str, fields: &[&str])
where
    K: kube::Resource
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Send
        + 'static,
{
    wait::until(api, name, &format!("FieldsIgnored with {fields:?}"), |object| {
        let object = serde_json::to_value(object).expect("plain data");
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition =
            conditions.iter().find(|c: &&Value| c["type"] == "FieldsIgnored" && c["status"] == "True");
        match condition {
            Some(condition) => {
                let message = condition["message"].as_str().unwrap_or_default();
                fields.iter().all(|field| message.contains(field))
            }
            None => fields.is_empty() && !conditions.is_empty(),
        }
    })
    .await;
}

#[tokio::test]
async fn fields_without_effect_are_named() {
    let world = World::with_queue("ignored").await;
    let post =
        json!({"computeResources": {"subnets": ["subnet-1"], "instanceRole": "role", "bidPercentage": 0}});
    world.environment("pool", post).await;
    let environments = world.environments();
    let name = world.environment_name("pool");
    ignored(&environments, &name, &["computeResources.subnets", "computeResources.instanceRole"]).await;
    let message = |environment: &ComputeEnvironment| {
        let status = environment.status.clone().unwrap_or_default();
        let conditions = status.conditions.into_iter();
        conditions.filter(|c| c.type_ == "FieldsIgnored").map(|c| c.message).collect::<String>()
    };
    let environment = environments.get(&name).await.expect("it exists");
    assert!(!message(&environment).contains("bidPercentage"), "0 says nothing: {}", message(&environment));
    assert!(super::world::is_condition(&serde_json::to_value(&environment).expect("plain data"), "Ready"));

    let members = json!({"containerProperties": {"instanceType": "m5.large", "executionRoleArn": "role"}});
    world.definition("definition", members).await;
    let fields = ["containerProperties.instanceType", "containerProperties.executionRoleArn"];
    ignored(&world.api::<JobDefinition>(), "definition", &fields).await;

    world.submit("job", job(json!({"shareIdentifier": "team", "schedulingPriorityOverride": 7}))).await;
    ignored(&world.api::<BatchJob>(), "job", &["shareIdentifier", "schedulingPriorityOverride"]).await;
    world.submit("plain", job(json!({}))).await;
    world.job("plain").pod(1).await;
    let plain = world.job("plain").get().await.status.unwrap_or_default();
    assert!(plain.conditions.iter().all(|c| c.type_ != "FieldsIgnored"), "{:?}", plain.conditions);
}

#[tokio::test]
async fn a_job_that_is_applied_again_and_again_runs_once() {
    let world = World::with_queue("again").await;
    let spec = job(json!({}));
    let manifest = json!({"metadata": {"name": "job"}, "spec": spec});
    let jobs = world.api::<BatchJob>();
    let first: BatchJob = apply(&jobs, &manifest).await;
    apply(&jobs, &manifest).await;
    let job = world.job("job");
    let pod = job.pod(1).await;
    apply(&jobs, &manifest).await;
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    apply(&jobs, &manifest).await;
    pod.exits(0).await;
    let ended = job.reaches(Phase::Succeeded).await;
    apply(&jobs, &manifest).await;
    world.settle().await;
    let last = job.get().await;
    assert_eq!((last.uid(), last.metadata.generation), (first.uid(), first.metadata.generation));
    assert_eq!(last.status.unwrap_or_default().record, ended);
    let of_job = world.pods().await.into_iter().filter(|pod| pod.name_any().starts_with("job-")).count();
    assert_eq!(of_job, 1);
}
