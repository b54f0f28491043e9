//! Queues and environments: who goes first, how much goes at a time, and how they go themselves.

use batchyard::crd::{ComputeEnvironment, JobQueue};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::world::{JobHandle, World, job};
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// A world with room for one vCPU at a time, and a job that has taken it.
async fn full(name: &str) -> World {
    let world = World::with_queue(name).await;
    world.environment("pool", json!({"computeResources": {"maxvCpus": 1}})).await;
    let blocker = world.submit("blocker", job(json!({}))).await;
    let pod = blocker.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    blocker.reaches(Phase::Running).await;
    world
}

/// Lets the job that has the room end.
async fn make_room(job: &JobHandle<'_>) {
    job.pod(1).await.exits(0).await;
    job.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn within_a_queue_the_oldest_goes_first() {
    let world = full("fifo").await;
    let mut jobs = Vec::new();
    for name in ["c-first", "b-second", "a-third"] {
        let job = world.submit(name, job(json!({}))).await;
        world.next_second(&job).await;
        jobs.push(job);
    }
    jobs[0].waits(Phase::Runnable, "its maxvCpus (1) is reached").await;
    make_room(&world.job("blocker")).await;
    for (index, job) in jobs.iter().enumerate() {
        job.pod(1).await;
        for later in &jobs[index + 1..] {
            assert_eq!(later.record().await.current, None, "{} overtook {}", later.name, job.name);
        }
        job.run(0).await;
    }
}

#[tokio::test]
async fn the_queue_with_the_higher_priority_goes_first() {
    let world = full("priority").await;
    world.queue("urgent", json!({"priority": 10})).await;
    let low = world.submit("low", job(json!({}))).await;
    low.waits(Phase::Runnable, "maxvCpus (1) is reached").await;
    world.next_second(&low).await;
    let high = world.submit("high", job(json!({"jobQueue": "urgent"}))).await;
    high.waits(Phase::Runnable, "maxvCpus (1) is reached").await;
    make_room(&world.job("blocker")).await;
    high.pod(1).await;
    assert_eq!(low.record().await.current, None);
    high.run(0).await;
    low.run(0).await;
}

#[tokio::test]
async fn a_retried_job_goes_to_the_front() {
    let world = full("front").await;
    let job_twice = job(json!({"retryStrategy": {"attempts": 2}}));
    let retried = world.submit("retried", job_twice).await;
    world.next_second(&retried).await;
    let other = world.submit("other", job(json!({}))).await;
    make_room(&world.job("blocker")).await;
    retried.attempt(1, 1).await;
    retried.pod(2).await;
    assert_eq!(other.record().await.current, None, "the other waits");
    retried.attempt(2, 0).await;
    other.run(0).await;
}

#[tokio::test]
async fn max_vcpus_bounds_what_is_admitted() {
    let world = World::with_queue("maxvcpus").await;
    world.environment("pool", json!({"computeResources": {"maxvCpus": 2}})).await;
    let mut jobs = Vec::new();
    for name in ["one", "two", "three"] {
        let job = world.submit(name, job(json!({}))).await;
        world.next_second(&job).await;
        jobs.push(job);
    }
    jobs[0].pod(1).await;
    jobs[1].pod(1).await;
    jobs[2].waits(Phase::Runnable, "its maxvCpus (2) is reached").await;
    assert_eq!(world.pods().await.len(), 2);
    jobs[0].run(0).await;
    jobs[2].pod(1).await;
}

#[tokio::test]
async fn max_running_bounds_a_queue() {
    let world = World::with_queue("maxrunning").await;
    world.queue("queue", json!({"maxRunning": 1})).await;
    let first = world.submit("first", job(json!({}))).await;
    first.pod(1).await;
    let second = world.submit("second", job(json!({}))).await;
    second.waits(Phase::Runnable, "maxRunning is reached").await;
    first.run(0).await;
    second.pod(1).await;
}

/// The environment that a job's pod was placed in.
async fn environment_of(job: &JobHandle<'_>) -> String {
    job.pod(1).await.get().await.annotations()["batchyard.io/compute-environment"].clone()
}

#[tokio::test]
async fn environments_are_tried_in_their_order() {
    let world = World::with_queue("spill").await;
    world.node("other", "second", 4).await;
    world.environment("second", json!({})).await;
    world.environment("pool", json!({"computeResources": {"maxvCpus": 1}})).await;
    let order = json!([
        {"order": 7, "computeEnvironment": "second"},
        {"order": 3, "computeEnvironment": "pool"},
    ]);
    world.queue("queue", json!({"computeEnvironmentOrder": order})).await;
    world.ready::<JobQueue>("queue").await;
    // Otherwise it might be passed over for want of a node, and not because it comes second.
    wait::until(&world.environments(), &world.environment_name("second"), "a node", |environment| {
        environment.status.as_ref().and_then(|status| status.nodes) == Some(1)
    })
    .await;
    let first = world.submit("first", job(json!({}))).await;
    assert_eq!(environment_of(&first).await, world.environment_name("pool"));
    let second = world.submit("second", job(json!({}))).await;
    assert_eq!(environment_of(&second).await, world.environment_name("second"), "the first one is full");
    first.run(0).await;
    world.environment("pool", json!({"state": "DISABLED"})).await;
    let third = world.submit("third", job(json!({}))).await;
    assert_eq!(environment_of(&third).await, world.environment_name("second"), "the first one is closed");
}

#[tokio::test]
async fn a_disabled_queue_takes_nothing_new_and_finishes_what_it_has() {
    let world = World::with_queue("disabled").await;
    let inside = world.submit("inside", job(json!({}))).await;
    let pod = inside.pod(1).await;
    world.queue("queue", json!({"state": "DISABLED"})).await;
    let outside = world.submit("outside", job(json!({}))).await;
    outside.waits(Phase::Submitted, "Waiting for JobQueue queue, which is DISABLED").await;
    pod.bind().await;
    pod.starts().await;
    pod.exits(0).await;
    inside.reaches(Phase::Succeeded).await;
    world.queue("queue", json!({"state": "ENABLED"})).await;
    outside.run(0).await;
}

/// Waits until an object says that something holds it, and what.
async fn blocked<K>(api: &Api<K>, name: &str, by: &str)
where
    K: kube::Resource
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Send
        + 'static,
{
    wait::until(api, name, &format!("DeletionBlocked by {by}"), |object| {
        let object = serde_json::to_value(object).expect("plain data");
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c: &Value| {
            c["type"] == "DeletionBlocked" && c["message"].as_str().is_some_and(|text| text.contains(by))
        })
    })
    .await;
}

#[tokio::test]
async fn deleting_an_enabled_queue_waits_for_its_jobs() {
    let world = World::with_queue("pruned").await;
    let inside = world.submit("inside", job(json!({}))).await;
    let pod = inside.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    inside.reaches(Phase::Running).await;
    let queues = world.api::<JobQueue>();
    queues.delete("queue", &DeleteParams::default()).await.expect("a queue can be deleted");
    blocked(&queues, "queue", "inside").await;
    let outside = world.submit("outside", job(json!({}))).await;
    outside.waits(Phase::Submitted, "which is being deleted").await;
    outside.edit(json!({"cancel": "the queue goes"})).await;
    pod.exits(0).await;
    inside.reaches(Phase::Succeeded).await;
    wait::gone(&queues, "queue").await;
}

#[tokio::test]
async fn deleting_a_disabled_queue_fails_its_jobs() {
    let world = World::with_queue("ended").await;
    world.environment("pool", json!({"computeResources": {"maxvCpus": 1}})).await;
    let running = world.submit("running", job(json!({"retryStrategy": {"attempts": 3}}))).await;
    let pod = running.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    running.reaches(Phase::Running).await;
    let waiting = world.submit("waiting", job(json!({}))).await;
    waiting.waits(Phase::Runnable, "maxvCpus").await;
    world.queue("queue", json!({"state": "DISABLED"})).await;
    let queues = world.api::<JobQueue>();
    queues.delete("queue", &DeleteParams::default()).await.expect("a queue can be deleted");
    pod.dies_when_deleted(143).await;
    for job in [&running, &waiting] {
        let record = job.reaches(Phase::Failed).await;
        assert_eq!(record.status_reason.as_deref(), Some("JobQueue deleted"), "{}", job.name);
    }
    wait::gone(&queues, "queue").await;
    assert_eq!(running.record().await.attempts.len(), 1, "never retried");
}

#[tokio::test]
async fn an_annotation_lets_an_enabled_queue_fail_its_jobs() {
    let world = World::with_queue("annotated").await;
    let job = world.submit("job", job(json!({}))).await;
    job.pod(1).await;
    let queues = world.api::<JobQueue>();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"batchyard.io/delete-jobs": "true"}}}));
    queues.patch("queue", &PatchParams::default(), &patch).await.expect("a queue can be annotated");
    queues.delete("queue", &DeleteParams::default()).await.expect("a queue can be deleted");
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("JobQueue deleted"));
    wait::gone(&queues, "queue").await;
    assert!(world.api::<Pod>().list(&Default::default()).await.expect("a list").items.is_empty());
}

#[tokio::test]
async fn an_environment_goes_once_no_queue_names_it() {
    let world = World::with_queue("environment").await;
    let name = world.environment_name("pool");
    let environments: Api<ComputeEnvironment> = world.environments();
    environments.delete(&name, &DeleteParams::default()).await.expect("an environment can be deleted");
    blocked(&environments, &name, &format!("{}/queue", world.namespace)).await;
    world.api::<JobQueue>().delete("queue", &DeleteParams::default()).await.expect("a queue can be deleted");
    wait::gone(&environments, &name).await;
}

#[tokio::test]
async fn an_environment_says_what_it_has() {
    let world = World::with_queue("offer").await;
    let job = world.submit("job", job(json!({"containerProperties": {"vcpus": 2}}))).await;
    job.pod(1).await;
    wait::until(&world.environments(), &world.environment_name("pool"), "counts", |environment| {
        let status = environment.status.clone().unwrap_or_default();
        let largest = status.largest_job.unwrap_or_default();
        (status.nodes, status.vcpus, status.vcpus_in_use, largest.vcpus)
            == (Some(1), Some(4), Some(2), Some(4))
    })
    .await;
    wait::until(&world.api::<JobQueue>(), "queue", "counts", |queue| {
        queue.status.as_ref().and_then(|status| status.jobs.as_ref()?.runnable) == Some(1)
    })
    .await;
}

/// Who has waited at the front for how long is known to the operator that comes next: the jobs, like most, state no id.
#[tokio::test]
async fn the_front_of_a_queue_outlives_the_operator() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("front-restart").await;
    let operator = Operator::start(operator::NAME);
    world.furnish().await;
    let large = json!({"containerProperties": {"vcpus": 8}});
    let head = world.submit("head", job(large)).await;
    world.next_second(&head).await;
    let second = world.submit("second", job(json!({}))).await;
    let front = async |count: usize| {
        let queues = world.api::<JobQueue>();
        let queue = wait::until(&queues, "queue", "its front", |queue| {
            queue.status.as_ref().is_some_and(|status| status.front.len() == count)
        });
        queue.await.status.unwrap_or_default().front
    };
    let before = front(2).await;
    assert_eq!([&before[0].name, &before[1].name], ["head", "second"]);
    operator.kill();
    world.next_second(&second).await;
    let operator = Operator::start(operator::NAME);
    // The front is written again when somebody joins it.
    world.submit("third", job(json!({}))).await;
    assert_eq!(front(3).await[..2], before[..]);
    operator.stop().await;
}
