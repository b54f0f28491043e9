//! What a definition and its job ask for together, and where there is none of it.

use batchyard::crd::JobQueue;
use batchyard_core::job::phase::Phase;
use serde_json::{Value, json};

use super::world::{World, job};
use crate::support::wait;

/// A job of the definition `definition`.
fn defined(more: Value) -> Value {
    let mut spec = job(json!({"containerProperties": null, "jobDefinition": "definition"}));
    super::merge(&mut spec, more);
    spec
}

#[tokio::test]
async fn references_need_parameters() {
    let world = World::with_queue("parameters").await;
    let command = json!(["echo", "Ref::what", "--to=Ref::whom"]);
    let parameters = json!({"what": "hello", "unused": "x"});
    let spec = json!({"containerProperties": {"command": command}, "parameters": parameters});
    world.definition("definition", spec).await;
    let said = world.submit("said", defined(json!({"parameters": {"whom": "all"}}))).await;
    let pod = said.pod(1).await.get().await;
    let args = pod.spec.expect("a spec").containers.remove(0).args.expect("a command");
    assert_eq!(args, ["echo", "hello", "--to=all"]);
    let lacking = world.submit("lacking", defined(json!({}))).await.reaches(Phase::Failed).await;
    let why = "Unable to substitute value. No parameter found for reference whom";
    assert_eq!(lacking.status_reason.as_deref(), Some(why));
    assert!(lacking.attempts.is_empty());
}

#[tokio::test]
async fn a_job_runs_where_its_definition_can() {
    let world = World::with_queue("capability").await;
    world.environment("serverless", json!({"computeResources": {"type": "FARGATE"}})).await;
    let order = json!([{"order": 1, "computeEnvironment": "serverless"}]);
    world.queue("serverless", json!({ "computeEnvironmentOrder": order })).await;
    world.ready::<JobQueue>("serverless").await;
    world.definition("definition", json!({})).await;
    let wrong = world.submit("wrong", defined(json!({"jobQueue": "serverless"}))).await;
    let why = "Job Queue is attached to Compute Environment that can not run Jobs with capability EC2";
    assert_eq!(wrong.reaches(Phase::Failed).await.status_reason.as_deref(), Some(why));
    // A job that brings its definition along says nothing of it.
    let inline = world.submit("inline", job(json!({"jobQueue": "serverless"}))).await;
    inline.waits(Phase::Runnable, "Waiting for a node in ComputeEnvironment").await;
}

/// A job that came before the environments of its queue ends up as one that came after them.
#[tokio::test]
async fn a_job_that_comes_first_runs_where_its_definition_can() {
    let world = World::empty("capability-first").await;
    world.definition("definition", json!({})).await;
    let order = |names: [&str; 2]| {
        let entry = |(at, name): (usize, &str)| json!({"order": at, "computeEnvironment": name});
        let list: Vec<_> = names.into_iter().enumerate().map(entry).collect();
        json!({ "computeEnvironmentOrder": list })
    };
    world.queue("wrong", order(["later", "serverless"])).await;
    world.queue("right", order(["pool", "serverless"])).await;
    let wrong = world.submit("wrong", defined(json!({"jobQueue": "wrong"}))).await;
    let right = world.submit("right", defined(json!({"jobQueue": "right"}))).await;
    wrong.waits(Phase::Runnable, "none of them exists").await;
    right.waits(Phase::Runnable, "none of them exists").await;
    world.environment("serverless", json!({"computeResources": {"type": "FARGATE"}})).await;
    // What exists is not for them, and what comes first in the order may be.
    wrong.waits(Phase::Runnable, "that can run jobs with capability EC2").await;
    right.waits(Phase::Runnable, "that can run jobs with capability EC2").await;
    world.environment("later", json!({"computeResources": {"type": "FARGATE"}})).await;
    let why = "Job Queue is attached to Compute Environment that can not run Jobs with capability EC2";
    assert_eq!(wrong.reaches(Phase::Failed).await.status_reason.as_deref(), Some(why));
    world.node("node", "pool", 4).await;
    world.environment("pool", json!({})).await;
    right.pod(1).await;
}

#[tokio::test]
async fn a_queue_has_environments_of_one_kind() {
    let world = World::with_queue("kinds").await;
    world.environment("serverless", json!({"computeResources": {"type": "FARGATE"}})).await;
    let order = json!([
        {"order": 1, "computeEnvironment": "pool"}, {"order": 2, "computeEnvironment": "serverless"},
    ]);
    world.queue("mixed", json!({ "computeEnvironmentOrder": order })).await;
    wait::until(&world.api::<JobQueue>(), "mixed", "to be INVALID", |queue| {
        let why = queue.status.as_ref().and_then(|status| status.status_reason.clone());
        why.is_some_and(|why| why.contains("serverless is of another kind"))
    })
    .await;
}

#[tokio::test]
async fn a_serverless_environment_without_serverless_nodes_is_invalid() {
    let world = World::empty("no-serverless").await;
    world.environment("pool", json!({"computeResources": {"type": "FARGATE"}, "provisioner": null})).await;
    wait::until(&world.environments(), &world.environment_name("pool"), "to be INVALID", |environment| {
        let why = environment.status.as_ref().and_then(|status| status.status_reason.clone());
        why.is_some_and(|why| why.contains("FARGATE needs serverless nodes"))
    })
    .await;
}

#[tokio::test]
async fn a_job_that_finds_no_gpus_says_so() {
    let world = World::with_queue("no-gpus").await;
    let gpus = json!({"resourceRequirements": [{"type": "GPU", "value": "1"}]});
    let spec = job(json!({ "containerOverrides": gpus }));
    let first = world.submit("first", spec.clone()).await;
    first.waits(Phase::Runnable, "none of its nodes has any nvidia.com/gpu").await;
    first.edit(json!({"cancel": "no GPU"})).await;
    first.reaches(Phase::Failed).await;
    world.changed_environment("pool", json!({"gpu": {"resourceName": "amd.com/gpu"}})).await;
    let second = world.submit("second", spec).await;
    second.waits(Phase::Runnable, "none of its nodes has any amd.com/gpu").await;
}
