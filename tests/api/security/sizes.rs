//! What is too large is refused with the member that has most of it, and nothing else suffers.

use batchyard::crd::JobDefinition;
use batchyard_core::job::phase::Phase;
use serde_json::{Value, json};

use crate::operator::world::{World, job};
use crate::support::wait;

/// Each text is as long as the schema lets it be; together they are too much.
fn much() -> Value {
    (0..4).map(|_| json!("x".repeat(32_000))).collect()
}

#[tokio::test]
async fn no_job_that_is_too_large() {
    let world = World::with_queue("sec-large").await;
    let large = world.submit("large", job(json!({"containerProperties": {"command": much()}}))).await;
    let why = large.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    let begins = "Invalid job definition: containerProperties.command: the job has 128";
    assert!(why.starts_with(begins) && why.ends_with("it may have 102400"), "{why}");
    assert!(world.pods().await.is_empty());
    world.submit("small", job(json!({}))).await.run(0).await;
}

#[tokio::test]
async fn no_definition_that_is_too_large() {
    let world = World::with_queue("sec-large-definition").await;
    world.definition("large", json!({"containerProperties": {"command": much()}})).await;
    let definition = wait::until(&world.api::<JobDefinition>(), "large", "a verdict", |definition| {
        let conditions = definition.status.iter().flat_map(|status| &status.conditions);
        conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "False")
    })
    .await;
    let status = serde_json::to_value(definition.status).expect("plain data");
    let ready = &status["conditions"][0];
    let says = "containerProperties.command: the job definition has 128";
    assert_eq!(ready["reason"], "Invalid", "{ready}");
    assert!(ready["message"].as_str().is_some_and(|message| message.starts_with(says)), "{ready}");
    let named =
        world.submit("job", job(json!({"containerProperties": null, "jobDefinition": "large"}))).await;
    let why = named.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    assert!(why.contains(says), "{why}");
}

/// As the schema has it: the API server names the member and its bound.
#[tokio::test]
async fn no_text_and_no_list_beyond_its_bound() {
    let world = World::without_operator("sec-bounds").await;
    let variable = |length: usize| json!([{"name": "A", "value": "x".repeat(length)}]);
    for (container, says) in [
        (json!({"environment": variable(40_000)}), "spec.containerProperties.environment[0].value: Too long"),
        (
            json!({"environment": (0..600).map(|n| json!({"name": format!("V{n}"), "value": ""})).collect::<Value>()}),
            "spec.containerProperties.environment: Too many",
        ),
        (json!({"command": vec!["x"; 1100]}), "spec.containerProperties.command: Too many"),
    ] {
        let object =
            json!({"metadata": {"name": "a"}, "spec": job(json!({ "containerProperties": container }))});
        let object: batchyard::crd::BatchJob = serde_json::from_value(object).expect("a job");
        let api = world.api::<batchyard::crd::BatchJob>();
        let answer = api.create(&kube::api::PostParams::default(), &object).await;
        let text = answer.expect_err("it must be refused").to_string();
        assert!(text.contains(says), "{says}: {text}");
    }
}
