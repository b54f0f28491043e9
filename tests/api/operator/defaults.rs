//! `podDefaults` that the API server refuses are the environment's fault, not the jobs'.

use batchyard_core::job::phase::Phase;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::world::{World, job};
use crate::support::client::{TEST_LABEL, apply};
use crate::support::wait;

#[tokio::test]
async fn jobs_wait_until_an_environments_pod_defaults_are_mended() {
    let world = World::with_queue("misfit").await;
    let class = format!("{}-gold", world.namespace);
    world.changed_environment("pool", json!({"podDefaults": {"priorityClassName": class}})).await;
    let first = world.submit("first", job(json!({}))).await;
    let environment = world.environment_name("pool");
    let record = first.waits(Phase::Runnable, "podDefaults.priorityClassName").await;
    let why = record.status_reason.unwrap_or_default();
    assert!(why.contains(&environment) && why.contains(&class), "{why}");
    let refused = |status: &batchyard::crd::ComputeEnvironmentStatus, want: bool| {
        let says = status.status_reason.as_deref().unwrap_or_default();
        says.contains("podDefaults.priorityClassName") == want
    };
    wait::until(&world.environments(), &environment, "INVALID and why", |environment| {
        environment.status.as_ref().is_some_and(|status| refused(status, true))
    })
    .await;

    // The class comes after all: nobody touches environment or job.
    let classes: Api<PriorityClass> = Api::all(world.user.clone());
    let metadata = json!({"name": class, "labels": {TEST_LABEL: "true"}});
    apply(&classes, &json!({"metadata": metadata, "value": 10})).await;
    first.run(0).await;
    wait::until(&world.environments(), &environment, "VALID again", |environment| {
        environment.status.as_ref().is_some_and(|status| refused(status, false))
    })
    .await;
    classes.delete(&class, &DeleteParams::default()).await.expect("it can be deleted");

    // Or the environment is edited.
    world.changed_environment("pool", json!({"podDefaults": {"runtimeClassName": "none"}})).await;
    let second = world.submit("second", job(json!({}))).await;
    second.waits(Phase::Runnable, "podDefaults.runtimeClassName").await;
    world.changed_environment("pool", json!({})).await;
    second.run(0).await;
}
