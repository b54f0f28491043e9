//! Every job that waits says why, and the order in which things are applied never matters.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use serde_json::json;

use super::world::{World, job};
use crate::support::client::apply;

#[tokio::test]
async fn a_job_may_come_before_everything_that_it_names() {
    let world = World::empty("order").await;
    let job = world.submit("job", json!({"jobQueue": "queue", "jobDefinition": "definition"})).await;
    job.waits(Phase::Submitted, "Waiting for JobQueue queue, which does not exist").await;
    world.queue("queue", json!({})).await;
    job.waits(Phase::Submitted, "Waiting for JobDefinition definition, which does not exist").await;
    world.definition("definition", json!({})).await;
    job.waits(Phase::Runnable, "none of them exists").await;
    world.environment("pool", json!({})).await;
    job.waits(Phase::Runnable, "no node of its pool takes pods now").await;
    world.node("node", "pool", 4).await;
    let record = job.run(0).await;
    assert_eq!(record.phase(), Phase::Succeeded);
    assert_eq!(record.job_definition.as_deref(), Some("definition:1"));
}

#[tokio::test]
async fn a_job_without_room_says_what_is_short() {
    let world = World::with_queue("room").await;
    let vcpus = |vcpus: u32| job(json!({"containerProperties": {"vcpus": vcpus}}));
    let large = world.submit("large", vcpus(8)).await;
    large.waits(Phase::Runnable, "Waiting for a larger node in ComputeEnvironment").await;
    let behind = world.submit("behind", vcpus(1)).await;
    behind.waits(Phase::Runnable, "Waiting behind the head of JobQueue queue").await;
    world.node("large", "pool", 8).await;
    large.pod(1).await;
    behind.pod(1).await;
}

#[tokio::test]
async fn a_job_above_max_vcpus_has_the_code_of_aws() {
    let world = World::with_queue("misfit").await;
    world.environment("pool", json!({"computeResources": {"maxvCpus": 2}})).await;
    let job = world.submit("job", job(json!({"containerProperties": {"vcpus": 4}}))).await;
    job.waits(Phase::Runnable, "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE").await;
}

#[tokio::test]
async fn a_job_waits_for_an_environment_that_is_disabled() {
    let world = World::with_queue("closed").await;
    world.environment("pool", json!({"state": "DISABLED"})).await;
    let job = world.submit("job", job(json!({}))).await;
    job.waits(Phase::Runnable, "which is DISABLED or INVALID").await;
    world.environment("pool", json!({"state": "ENABLED"})).await;
    job.pod(1).await;
}

#[tokio::test]
async fn a_namespace_that_an_environment_does_not_allow_waits() {
    let world = World::with_queue("allowed").await;
    let only = |name: &str| json!({"allowedNamespaces": [{"selector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]});
    world.environment("pool", only("another")).await;
    let job = world.submit("job", job(json!({}))).await;
    job.waits(Phase::Runnable, "its allowedNamespaces do not select").await;
    world.environment("pool", only(&world.namespace)).await;
    job.pod(1).await;
}

#[tokio::test]
async fn a_role_is_a_service_account_that_may_come_later() {
    let world = World::with_queue("role").await;
    let role = "arn:aws:iam::123456789012:role/dcv-ecs-batch-role";
    let job = world.submit("job", job(json!({"containerProperties": {"jobRoleArn": role}}))).await;
    job.waits(Phase::Submitted, "none is named dcv-ecs-batch-role").await;
    apply(&world.api::<ServiceAccount>(), &json!({"metadata": {"name": "dcv-ecs-batch-role"}})).await;
    let pod = job.pod(1).await.get().await.spec.expect("a pod has a spec");
    assert_eq!(pod.service_account_name.as_deref(), Some("dcv-ecs-batch-role"));
    assert_eq!(pod.automount_service_account_token, Some(false), "the role's own token comes from a webhook");
}

#[tokio::test]
async fn changes_of_another_kind_than_the_definition_s_are_refused_by_name() {
    let world = World::with_queue("refused").await;
    let pod = json!({"containers": [{"name": "default", "image": "busybox"}]});
    let job = world.submit("job", job(json!({"eksPropertiesOverride": {"podProperties": pod}}))).await;
    let record = job.reaches(Phase::Failed).await;
    let reason = record.status_reason.unwrap_or_default();
    assert!(reason.contains("eksPropertiesOverride: the job definition has containerProperties"), "{reason}");
    assert!(world.pods().await.is_empty());
}

#[tokio::test]
async fn of_two_jobs_with_one_id_the_later_fails() {
    let world = World::with_queue("sameid").await;
    let id = "1e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1";
    let first = world.submit("first", job(json!({"jobId": id}))).await;
    first.pod(1).await;
    world.next_second(&first).await;
    let second = world.submit("second", job(json!({"jobId": id}))).await;
    let record = second.reaches(Phase::Failed).await;
    let reason = record.status_reason.unwrap_or_default();
    assert!(reason.contains(id) && reason.contains("belongs to an older job"), "{reason}");
    assert_eq!(first.run(0).await.job_id.as_deref(), Some(id));
    let by_id = ListParams::default().fields(&format!("status.jobId={id}"));
    let found = world.api::<BatchJob>().list(&by_id).await.expect("jobs can be selected by their id").items;
    assert!(!found.is_empty(), "status.jobId is a selectable field");
}
