//! What is shared: fair shares, tokens, environments by namespace, and room that comes and goes.

use batchyard::crd::{
    BatchJob, ComputeEnvironment, ConsumableResource, JobDefinition, JobQueue, SchedulingPolicy,
};
use batchyard_core::job::phase::Phase;
use batchyard_core::waits::Kind;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use super::world::{JobHandle, World, container, is_condition, job, merge};
use crate::support::nodes::POOL;
use crate::support::wait;

/// A job of a share.
fn of_share(share: &str, more: Value) -> Value {
    let mut spec = job(json!({"jobQueue": "fair", "shareIdentifier": share}));
    merge(&mut spec, more);
    spec
}

/// A world with a fair-share queue `fair` on `pool`, which has room for so many vCPUs.
async fn fair(name: &str, vcpus: u32, policy: Value) -> World {
    let world = World::with_queue(name).await;
    world.changed_environment("pool", json!({"computeResources": {"maxvCpus": vcpus}})).await;
    world.apply::<SchedulingPolicy>("policy", json!({"fairsharePolicy": policy})).await;
    world.queue("fair", json!({"schedulingPolicyArn": "policy"})).await;
    world.ready::<JobQueue>("fair").await;
    world
}

#[tokio::test]
async fn the_share_that_uses_less_for_its_weight_goes_first() {
    let weights = json!([{"shareIdentifier": "heavy", "weightFactor": 1},
        {"shareIdentifier": "light", "weightFactor": 0.1}]);
    let world = fair("shares", 2, json!({"shareDistribution": weights})).await;
    let first = world.submit("heavy-1", of_share("heavy", json!({}))).await;
    let second = world.submit("light-1", of_share("light", json!({}))).await;
    for job in [&first, &second] {
        let pod = job.pod(1).await;
        pod.bind().await;
        pod.starts().await;
        job.reaches(Phase::Running).await;
    }
    let heavy = world.submit("heavy-2", of_share("heavy", json!({}))).await;
    heavy.waits(Phase::Runnable, "its maxvCpus (2) is reached").await;
    let light = world.submit("light-2", of_share("light", json!({}))).await;
    light.until("RUNNABLE", |record| record.phase() == Phase::Runnable).await;
    second.pod(1).await.exits(0).await;
    light.pod(1).await;
    assert_eq!(heavy.record().await.current, None, "the younger job of the lighter share went first");
    light.run(0).await;
    heavy.run(0).await;
    first.pod(1).await.exits(0).await;
    first.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn a_priority_counts_within_its_share_and_can_be_changed_while_the_job_waits() {
    let world = fair("sharepriority", 1, json!({})).await;
    let blocker = world.submit("blocker", of_share("a", json!({}))).await;
    blocker.pod(1).await.bind().await;
    let old = world.submit("old", of_share("a", json!({}))).await;
    old.waits(Phase::Runnable, "maxvCpus").await;
    let important = world.submit("important", of_share("a", json!({"schedulingPriorityOverride": 5}))).await;
    important.waits(Phase::Runnable, "maxvCpus").await;
    old.edit(json!({"schedulingPriorityOverride": 9})).await;
    important.waits(Phase::Runnable, "behind the head").await;
    blocker.pod(1).await.starts().await;
    blocker.pod(1).await.exits(0).await;
    old.run(0).await;
    important.run(0).await;
}

#[tokio::test]
async fn a_fair_share_queue_needs_a_policy_and_its_jobs_a_share() {
    let world = World::with_queue("policyless").await;
    world.queue("fair", json!({"schedulingPolicyArn": "policy"})).await;
    wait::until(&world.api::<JobQueue>(), "fair", "INVALID for want of a policy", |queue| {
        let why = queue.status.as_ref().and_then(|status| status.status_reason.as_deref());
        why.is_some_and(|why| why.contains("schedulingPolicyArn: SchedulingPolicy policy does not exist"))
    })
    .await;
    let early = world.submit("early", of_share("a", json!({}))).await;
    early.waits(Phase::Submitted, "Waiting for SchedulingPolicy policy of JobQueue fair").await;
    let without = world.submit("without", job(json!({"jobQueue": "fair"}))).await;
    let record = without.reaches(Phase::Failed).await;
    let why = record.status_reason.unwrap_or_default();
    assert!(why.contains("shareIdentifier is required: JobQueue fair"), "{why}");
    world.apply::<SchedulingPolicy>("policy", json!({"fairsharePolicy": {}})).await;
    early.run(0).await;
    // The policy goes when no queue names it.
    let policies = world.api::<SchedulingPolicy>();
    policies.delete("policy", &DeleteParams::default()).await.expect("a policy can be deleted");
    wait::until(&policies, "policy", "DeletionBlocked", |policy| {
        let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice());
        conditions
            .unwrap_or_default()
            .iter()
            .any(|c| c.type_ == "DeletionBlocked" && c.message.contains("fair"))
    })
    .await;
    world.api::<JobQueue>().delete("fair", &DeleteParams::default()).await.expect("a queue can be deleted");
    wait::gone(&policies, "policy").await;
}

/// In a queue without shares they say nothing, and that is told.
#[tokio::test]
async fn a_share_in_a_queue_without_policy_is_named_as_ignored() {
    let world = World::with_queue("fifoshare").await;
    let more = json!({"shareIdentifier": "a", "schedulingPriorityOverride": 3});
    let job = world.submit("job", job(more)).await;
    job.pod(1).await;
    let told =
        wait::until(&world.api::<BatchJob>(), "job", "FieldsIgnored", |job| ignored(job).is_some()).await;
    assert_eq!(ignored(&told).as_deref(), Some("schedulingPriorityOverride, shareIdentifier"));
}

fn ignored(job: &BatchJob) -> Option<String> {
    let conditions = &job.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == "FieldsIgnored").map(|c| c.message.clone())
}

fn takes(quantity: u32, more: Value) -> Value {
    let list = json!([{"consumableResource": "licences", "quantity": quantity}]);
    let mut spec = job(json!({"consumableResourcePropertiesOverride": {"consumableResourceList": list}}));
    merge(&mut spec, more);
    spec
}

/// Waits until a resource says how many tokens are there, held and left.
async fn tokens(world: &World, counts: (i64, i64, i64)) {
    wait::until(&world.api::<ConsumableResource>(), "licences", &format!("{counts:?}"), |resource| {
        let status = resource.status.clone().unwrap_or_default();
        let told = [status.total_quantity, status.in_use_quantity, status.available_quantity];
        told == [Some(counts.0), Some(counts.1), Some(counts.2)]
    })
    .await;
}

#[tokio::test]
async fn tokens_are_held_from_the_placement_to_the_end_of_each_attempt() {
    let world = World::with_queue("tokens").await;
    let early = world.submit("early", takes(2, json!({"retryStrategy": {"attempts": 2}}))).await;
    early.waits(Phase::Runnable, "Waiting for ConsumableResource licences, which does not exist").await;
    world.apply::<ConsumableResource>("licences", json!({"totalQuantity": 3})).await;
    early.pod(1).await;
    tokens(&world, (3, 2, 1)).await;
    let greedy = world.submit("greedy", takes(2, json!({}))).await;
    let record = greedy.waits(Phase::Runnable, "Waiting for 2 of ConsumableResource licences").await;
    assert_eq!(record.waiting.map(|waiting| waiting.kind), Some(Kind::ConsumableResource));
    let behind = world.submit("behind", takes(1, json!({}))).await;
    behind.waits(Phase::Runnable, "behind the head").await;
    early.attempt(1, 1).await;
    early.attempt(2, 0).await;
    early.reaches(Phase::Succeeded).await;
    greedy.pod(1).await;
    behind.pod(1).await;
    tokens(&world, (3, 3, 0)).await;
    greedy.run(0).await;
    behind.run(0).await;
    tokens(&world, (3, 0, 3)).await;
}

/// Each attempt that came to a node uses its tokens up, once, whatever becomes of it; a pod is let go after that.
#[tokio::test]
async fn tokens_that_do_not_come_back_are_counted_once() {
    let world = World::with_queue("usedup").await;
    let spec = json!({"totalQuantity": 5, "resourceType": "NON_REPLENISHABLE"});
    world.apply::<ConsumableResource>("licences", spec).await;
    let twice = world.submit("twice", takes(2, json!({"retryStrategy": {"attempts": 2}}))).await;
    twice.pod(1).await;
    tokens(&world, (5, 2, 3)).await;
    twice.attempt(1, 1).await;
    twice.attempt(2, 0).await;
    twice.reaches(Phase::Succeeded).await;
    tokens(&world, (1, 0, 1)).await;
    let resource = world.api::<ConsumableResource>().get("licences").await.expect("it exists");
    assert_eq!(resource.status.and_then(|status| status.used_up_quantity), Some(4));
    let last = world.submit("last", takes(2, json!({}))).await;
    last.waits(Phase::Runnable, "Waiting for 2 of ConsumableResource licences").await;
    world
        .apply::<ConsumableResource>(
            "licences",
            json!({"totalQuantity": 6, "resourceType": "NON_REPLENISHABLE"}),
        )
        .await;
    last.run(0).await;
    tokens(&world, (0, 0, 0)).await;
}

#[tokio::test]
async fn a_namespace_has_its_part_of_an_environment() {
    let world = World::with_queue("tenants").await;
    let ours = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
    world
        .changed_environment("pool", json!({"allowedNamespaces": [{"selector": ours, "maxvCpus": 1}]}))
        .await;
    let first = world.submit("first", job(json!({}))).await;
    first.pod(1).await;
    let second = world.submit("second", job(json!({}))).await;
    let record = second.waits(Phase::Runnable, "uses all its 1").await;
    assert_eq!(record.waiting.map(|waiting| waiting.kind), Some(Kind::NamespaceLimit));
    let large =
        world.submit("large", job(json!({"jobQueue": "large", "containerProperties": {"vcpus": 2}}))).await;
    world.queue("large", json!({})).await;
    large.waits(Phase::Runnable, "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE").await;
    wait::until(&world.api::<JobQueue>(), "large", "Blocked", |queue| {
        let conditions = queue.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Blocked" && c.reason == "ComputeEnvironmentMaxResource")
    })
    .await;
    first.run(0).await;
    second.run(0).await;
    large.edit(json!({"jobQueue": "queue", "cancel": "too large"})).await;
    large.reaches(Phase::Failed).await;
    wait::until(&world.api::<JobQueue>(), "large", "no block", |queue| {
        let conditions = queue.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        !conditions.iter().any(|c| c.type_ == "Blocked")
    })
    .await;
}

/// An environment whose nodes somebody adds for pods that wait.
async fn growing(name: &str, vcpus: u32, more: Value) -> World {
    let world = World::empty(name).await;
    let pool = json!({"nodeSelector": {POOL: format!("{}-pool", world.namespace)}, "autoscaled": true});
    let mut spec = json!({"provisioner": {"static": pool}, "computeResources": {"maxvCpus": vcpus}});
    merge(&mut spec, more);
    world.environment("pool", spec).await;
    world.queue("queue", json!({})).await;
    world.ready::<JobQueue>("queue").await;
    world
}

async fn is_withdrawn(job: &JobHandle<'_>) {
    let record = job.until("its pod to be withdrawn", |record| record.placements.len() == 1).await;
    assert_eq!((record.attempts.len(), record.phase()), (0, Phase::Runnable), "{record:#?}");
}

#[tokio::test]
async fn pods_that_wait_for_nodes_make_way_for_jobs_that_come_before_them() {
    let world = growing("withdraw", 2, json!({})).await;
    let low: Vec<_> =
        [world.submit("first", job(json!({}))).await, world.submit("second", job(json!({}))).await].into();
    for job in &low {
        job.pod(1).await;
    }
    world.queue("urgent", json!({"priority": 9})).await;
    let urgent = world.submit("urgent", job(json!({"jobQueue": "urgent"}))).await;
    urgent.pod(1).await;
    is_withdrawn(&low[1]).await;
    assert!(low[0].record().await.placements.is_empty(), "the last in line goes, and no more than needed");
    low[1].waits(Phase::Runnable, "its maxvCpus (2) is reached").await;
    world.node("node", "pool", 4).await;
    urgent.run(0).await;
    low[1].run(0).await;
    low[0].run(0).await;
}

/// Where its pod waits for a node the job may not even be allowed to go any more.
#[tokio::test]
async fn a_job_that_is_moved_takes_its_pod_out_of_the_environment_it_left() {
    let world = growing("moved", 8, json!({})).await;
    let job = world.submit("job", job(json!({}))).await;
    job.pod(1).await;
    world.node("node", "second", 4).await;
    world.environment("second", json!({})).await;
    let order = json!([{"order": 1, "computeEnvironment": "second"}]);
    world.queue("other", json!({"computeEnvironmentOrder": order})).await;
    world.ready::<JobQueue>("other").await;
    job.edit(json!({"jobQueue": "other"})).await;
    is_withdrawn(&job).await;
    let environment = job.pod(1).await.get().await.annotations()["batchyard.io/compute-environment"].clone();
    assert_eq!(environment, world.environment_name("second"));
    job.run(0).await;
}

#[tokio::test]
async fn a_job_for_which_no_node_comes_goes_to_the_next_environment() {
    let world = growing("nocapacity", 8, json!({"capacityTimeoutSeconds": 1})).await;
    let alone = world.submit("alone", job(json!({}))).await;
    alone.pod(1).await;
    let record = alone.waits(Phase::Runnable, "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY").await;
    assert!(record.placements.is_empty(), "it has nowhere else to go");
    world.node("node", "second", 4).await;
    world.environment("second", json!({})).await;
    let order =
        json!([{"order": 1, "computeEnvironment": "pool"}, {"order": 2, "computeEnvironment": "second"}]);
    world.queue("queue", json!({"computeEnvironmentOrder": order})).await;
    is_withdrawn(&alone).await;
    let pod = alone.pod(1).await;
    let environment = pod.get().await.annotations()["batchyard.io/compute-environment"].clone();
    assert_eq!(environment, world.environment_name("second"));
    alone.run(0).await;
    let environments: Api<ComputeEnvironment> = world.environments();
    wait::until(&environments, &world.environment_name("second"), "a placed job", |environment| {
        environment.status.as_ref().is_some_and(|status| status.last_placed_at.is_some())
    })
    .await;
}

/// Jobs of every kind say that no node comes, and since when: also when their pods were taken back meanwhile and others
/// were made.
#[tokio::test]
async fn no_capacity_is_one_wait_for_jobs_of_every_kind() {
    let short = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
    let range = json!([{"targetNodes": "0:", "container": container()}]);
    let nodes = json!({"numNodes": 2, "mainNode": 0, "nodeRangeProperties": range});
    for (name, phase, more) in [
        ("single", Phase::Runnable, json!({})),
        ("array", Phase::Pending, json!({"arrayProperties": {"size": 2}})),
        ("gang", Phase::Runnable, json!({"containerProperties": null, "nodeProperties": nodes})),
    ] {
        let world = growing(&format!("shortage-{name}"), 8, json!({"capacityTimeoutSeconds": 1})).await;
        let job = world.submit(name, job(more)).await;
        let first = job.waits(phase, short).await.waiting.expect("it waits");
        let told = serde_json::to_value(job.get().await).expect("plain data");
        assert!(is_condition(&told, "Waiting"), "{told}");
        let before = world.pods().await;
        let (pods, how, all) = (world.api::<Pod>(), DeleteParams::default(), ListParams::default());
        pods.delete_collection(&how, &all).await.expect("they can be deleted");
        // Each pod is made anew, and again no node comes for it.
        wait::answer("other pods", &world.namespace, || async {
            let pods = world.pods().await;
            let is_again = |pod: &Pod| pod.annotations()["batchyard.io/placement"] == "1";
            (pods.len() == before.len() && pods.iter().all(is_again)).then_some(())
        })
        .await;
        let again = job
            .until("the same wait", |record| {
                let kind = record.waiting.map(|waiting| waiting.kind);
                kind == Some(Kind::InsufficientInstanceCapacity)
            })
            .await;
        assert_eq!(again.waiting, Some(first), "{name}");
    }
}

/// The objects of a file of examples/queues.
fn example(file: &str) -> Vec<Value> {
    let path = format!("{}/examples/queues/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("a file");
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("an object")).collect()
}

/// The files of examples/queues as they are, but for the environment's nodes.
#[tokio::test]
async fn the_example_shares_four_vcpus() {
    let world = World::empty("example").await;
    world.node("node", "shared", 8).await;
    let environment = example("compute-environment.yaml").remove(0);
    let nodes = json!({"static": {"nodeSelector": {POOL: format!("{}-shared", world.namespace)}}});
    let mut spec = environment["spec"].clone();
    merge(&mut spec, json!({"provisioner": nodes}));
    world.environment("shared", spec).await;
    for object in ["queues.yaml", "job-definitions.yaml", "jobs.yaml"].into_iter().flat_map(example) {
        let (name, spec) = (object["metadata"]["name"].as_str().expect("a name"), object["spec"].clone());
        match object["kind"].as_str().expect("a kind") {
            "JobQueue" => drop(world.apply::<JobQueue>(name, spec).await),
            "SchedulingPolicy" => drop(world.apply::<SchedulingPolicy>(name, spec).await),
            "ConsumableResource" => drop(world.apply::<ConsumableResource>(name, spec).await),
            "JobDefinition" => drop(world.apply::<JobDefinition>(name, spec).await),
            _ => drop(world.apply::<BatchJob>(name, spec).await),
        }
    }
    let too_large = world.job("too-large");
    let jobs: Vec<_> = example("jobs.yaml").iter().map(|job| job["metadata"]["name"].clone()).collect();
    let jobs = jobs.iter().map(|name| world.job(name.as_str().expect("a name")));
    let mut left: Vec<_> = jobs.filter(|job| job.name != too_large.name).collect();
    assert_eq!(left.len(), 17);
    while !left.is_empty() {
        // All that are placed run at the same time, and end.
        let placed: Vec<_> = wait::answer("pods", &world.namespace, || async {
            let pods = world.pods().await;
            let open =
                pods.into_iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()));
            let open: Vec<_> = open.filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
            (!open.is_empty()).then_some(open)
        })
        .await;
        let count = |prefix: &str| placed.iter().filter(|pod| pod.name_any().starts_with(prefix)).count();
        assert!(placed.len() <= 4 && count("nightly-") <= 2 && count("solve-") <= 1, "{}", placed.len());
        let names: Vec<_> = placed.iter().map(|pod| pod.labels()["batchyard.io/job-name"].clone()).collect();
        for name in &names {
            let job = world.job(name);
            let pod = job.pod(1).await;
            pod.bind().await;
            pod.starts().await;
            pod.exits(0).await;
        }
        for name in &names {
            world.job(name).reaches(Phase::Succeeded).await;
        }
        left.retain(|job| !names.contains(&job.name));
    }
    too_large.waits(Phase::Runnable, "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE").await;
}
