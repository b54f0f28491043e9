//! Revisions of definitions: numbers that are never reused.

use batchyard::crd::JobDefinition;
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::world::{World, job};
use crate::support::wait;

/// Waits until the definition's newest revision and its newest ACTIVE one are these.
async fn settled(world: &World, newest: i32, active: Option<i32>) -> JobDefinition {
    wait::until(&world.api::<JobDefinition>(), "definition", &format!("revision {newest}"), |definition| {
        let status = definition.status.clone().unwrap_or_default();
        status.observed_generation == definition.metadata.generation
            && (status.revision, status.latest_active) == (Some(newest), active)
    })
    .await
}

fn image(tag: &str) -> Value {
    json!({"containerProperties": {"image": format!("busybox:{tag}")}})
}

#[tokio::test]
async fn each_change_is_a_revision() {
    let world = World::with_queue("revisions").await;
    world.definition("definition", image("1")).await;
    let first = settled(&world, 1, Some(1)).await;
    assert_eq!(first.status.expect("a status").job_definition.as_deref(), Some("definition:1"));
    world.definition("definition", image("1")).await;
    world.definition("definition", image("2")).await;
    settled(&world, 2, Some(2)).await;
    let revisions = world.api::<ControllerRevision>();
    let second = revisions.get("definition-2").await.expect("a revision");
    assert_eq!(second.revision, 2);
    assert!(second.owner_references().is_empty(), "a tool that prunes would take it");
    assert_eq!(second.data.expect("data").0["containerProperties"]["image"], "busybox:2");
    let old =
        world.submit("old", job(json!({"containerProperties": null, "jobDefinition": "definition:1"}))).await;
    let new =
        world.submit("new", job(json!({"containerProperties": null, "jobDefinition": "definition"}))).await;
    for (job, revision, image) in [(&old, "definition:1", "busybox:1"), (&new, "definition:2", "busybox:2")] {
        let pod = job.pod(1).await.get().await;
        assert_eq!(pod.spec.expect("a spec").containers[0].image.as_deref(), Some(image));
        assert_eq!(job.record().await.job_definition.as_deref(), Some(revision));
    }
}

#[tokio::test]
async fn a_new_registration_text_is_a_new_revision() {
    let world = World::with_queue("registration").await;
    world.definition("definition", json!({})).await;
    settled(&world, 1, Some(1)).await;
    world.definition("definition", json!({"registration": "once more"})).await;
    settled(&world, 2, Some(2)).await;
}

#[tokio::test]
async fn a_deregistered_revision_is_used_no_more() {
    let world = World::with_queue("deregistered").await;
    world.definition("definition", image("1")).await;
    settled(&world, 1, Some(1)).await;
    world.definition("definition", image("2")).await;
    settled(&world, 2, Some(2)).await;
    let mut deregistered = image("2");
    super::merge(&mut deregistered, json!({"deregistered": [2]}));
    world.definition("definition", deregistered).await;
    settled(&world, 2, Some(1)).await;
    let named = |definition: &str| job(json!({"containerProperties": null, "jobDefinition": definition}));
    let latest = world.submit("latest", named("definition")).await;
    latest.pod(1).await;
    assert_eq!(latest.record().await.job_definition.as_deref(), Some("definition:1"));
    let pinned = world.submit("pinned", named("definition:2")).await;
    pinned.waits(Phase::Submitted, "Waiting for an ACTIVE revision of JobDefinition definition:2").await;
}

#[tokio::test]
async fn a_definition_that_comes_back_counts_on() {
    let world = World::with_queue("recreated").await;
    let definitions = world.api::<JobDefinition>();
    world.definition("definition", image("1")).await;
    settled(&world, 1, Some(1)).await;
    let job =
        world.submit("job", job(json!({"containerProperties": null, "jobDefinition": "definition"}))).await;
    let pod = job.pod(1).await;
    definitions.delete("definition", &DeleteParams::default()).await.expect("a definition can be deleted");
    wait::until(&world.api::<ControllerRevision>(), "definition-1", "INACTIVE", |revision| {
        revision.labels().get("batchyard.io/revision-status").is_some_and(|status| status == "INACTIVE")
    })
    .await;
    pod.bind().await;
    pod.starts().await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    world.definition("definition", image("1")).await;
    settled(&world, 2, Some(2)).await;
}

#[tokio::test]
async fn the_number_of_a_revision_that_somebody_deleted_is_not_used_again() {
    let world = World::with_queue("pruned-revision").await;
    world.definition("definition", image("1")).await;
    settled(&world, 1, Some(1)).await;
    world.definition("definition", image("2")).await;
    settled(&world, 2, Some(2)).await;
    let revisions = world.api::<ControllerRevision>();
    revisions.delete("definition-2", &DeleteParams::default()).await.expect("a revision can be deleted");
    world.definition("definition", image("3")).await;
    wait::until(&revisions, "definition-3", "its place", |_| true).await;
}

#[tokio::test]
async fn a_number_that_is_taken_is_passed_over() {
    let world = World::with_queue("taken").await;
    let revisions = world.api::<ControllerRevision>();
    let foreign = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": "definition-1"}, "revision": 1, "data": {}});
    let params = PatchParams::apply("test");
    revisions.patch("definition-1", &params, &Patch::Apply(&foreign)).await.expect("a revision can be made");
    world.definition("definition", json!({})).await;
    settled(&world, 2, Some(2)).await;
}

#[tokio::test]
async fn names_of_aws_are_found_by_their_slug() {
    let world = World::with_queue("slug").await;
    let object = batchyard_core::name::slug("randomEC");
    world.definition(&object, json!({"jobDefinitionName": "randomEC"})).await;
    for (name, reference) in [
        ("by-name", "randomEC".to_owned()),
        ("by-revision", "randomEC:1".to_owned()),
        ("by-slug", object),
        ("by-arn", "arn:aws:batch:eu-west-1:123456789012:job-definition/randomEC:1".to_owned()),
    ] {
        let spec = job(json!({"containerProperties": null, "jobDefinition": reference}));
        let job = world.submit(name, spec).await;
        job.pod(1).await;
        assert_eq!(job.record().await.job_definition.as_deref(), Some("randomEC:1"), "{name}");
    }
}
