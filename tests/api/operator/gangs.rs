//! Multi-node jobs: many pods, one record, and all or nothing.

use std::collections::BTreeMap;

use batchyard::crd::{BatchJob, BatchJobRecord};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::kubelet::PodHandle;
use super::world::{JobHandle, World, container, job, merge};
use crate::support::operator::{self, Operator};
use crate::support::{nodes, wait};

/// A job of so many nodes with one vCPU each, the first of which is the main one.
fn gang(count: u32, more: Value) -> Value {
    let range = json!({"targetNodes": "0:", "container": container()});
    let nodes = json!({"numNodes": count, "mainNode": 0, "nodeRangeProperties": [range]});
    let mut spec = job(json!({"containerProperties": null, "nodeProperties": nodes}));
    merge(&mut spec, more);
    spec
}

fn retry(attempts: u32) -> Value {
    json!({"retryStrategy": {"attempts": attempts, "evaluateOnExit": [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onExitCode": "1", "action": "RETRY"},
        {"onExitCode": "*", "action": "EXIT"},
    ]}})
}

fn variables(pod: &Pod) -> BTreeMap<String, String> {
    let variables = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.env.iter().flatten());
    variables.map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default())).collect()
}

impl World {
    /// The names of what is there beside pods.
    async fn beside(&self) -> Vec<String> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=batchyard");
        let maps = self.api::<ConfigMap>().list(&ours).await.expect("a list").items;
        let services = self.api::<Service>().list(&ours).await.expect("a list").items;
        maps.iter().map(|m| m.name_any()).chain(services.iter().map(|s| s.name_any())).collect()
    }

    async fn has_nothing_beside(&self) {
        wait::answer("neither address nor Service", &self.namespace, || async {
            self.beside().await.is_empty().then_some(())
        })
        .await;
    }
}

impl JobHandle<'_> {
    /// The pods of an attempt, by index.
    async fn nodes(&self, count: u32, attempt: u32) -> Vec<PodHandle<'_>> {
        let mut pods = Vec::new();
        for index in 0..count {
            pods.push(self.child_pod(index, attempt).await);
        }
        pods
    }

    /// All nodes of an attempt run.
    async fn all_run(&self, count: u32, attempt: u32) -> Vec<PodHandle<'_>> {
        let pods = self.nodes(count, attempt).await;
        for pod in &pods {
            pod.bind().await;
            pod.starts().await;
        }
        self.reaches(Phase::Running).await;
        pods
    }
}

async fn stop(pods: &[PodHandle<'_>]) {
    for pod in pods {
        pod.dies_when_deleted(143).await;
    }
}

#[tokio::test]
async fn the_nodes_of_a_job_are_told_who_they_are_and_end_with_the_main_node() {
    let world = World::with_queue("gang").await;
    let job = world.submit("job", gang(3, json!({}))).await;
    let pods = job.nodes(3, 1).await;
    let id = job.record().await.job_id.expect("an id");
    for (index, pod) in pods.iter().enumerate() {
        let made = pod.get().await;
        let told = variables(&made);
        assert_eq!(told["AWS_BATCH_JOB_ID"], format!("{id}#{index}"));
        let numbers = ["NODE_INDEX", "MAIN_NODE_INDEX", "NUM_NODES"]
            .map(|n| told[&format!("AWS_BATCH_JOB_{n}")].clone());
        assert_eq!(numbers, [index.to_string(), "0".into(), "3".into()]);
        assert_eq!(told.contains_key("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"), index > 0);
        let spec = made.spec.expect("a spec");
        assert_eq!(spec.hostname, Some(format!("node-{index}")));
        assert!(spec.affinity.is_some_and(|affinity| affinity.pod_anti_affinity.is_some()));
    }
    pods[0].bind().await;
    pods[0].has_address("10.1.2.3").await;
    wait::answer("the main node's address", &world.namespace, || async {
        let maps = world.api::<ConfigMap>().list(&ListParams::default()).await.ok()?.items;
        maps.into_iter().find(|map| {
            map.data.as_ref().is_some_and(|data| data.get("address").is_some_and(|ip| ip == "10.1.2.3"))
        })
    })
    .await;
    assert_eq!(world.beside().await.len(), 2, "{:?}", world.beside().await);
    pods[0].starts().await;
    job.reaches(Phase::Running).await;
    for pod in &pods[1..] {
        pod.bind().await;
        pod.starts().await;
    }
    // What a worker does by itself ends nothing.
    pods[2].exits(7).await;
    let running = wait::until(&world.api::<BatchJob>(), "job", "a node that failed", |job| {
        let nodes = job.status.as_ref().and_then(|status| status.node_properties.clone()).unwrap_or_default();
        nodes.status_summary.is_some_and(|counts| (counts.running, counts.failed) == (Some(2), Some(1)))
    })
    .await;
    let nodes = running.status.and_then(|status| status.node_properties).expect("it has nodes");
    assert_eq!((nodes.num_nodes, nodes.main_node), (Some(3), Some(0)));
    pods[0].exits(0).await;
    pods[1].dies_when_deleted(143).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!((record.attempts.len(), record.attempts[0].container.exit_code), (1, Some(0)));
    world.has_nothing_beside().await;
    for pod in &pods {
        pod.is_released().await;
    }
    let records = world.api::<BatchJobRecord>().list(&ListParams::default()).await.expect("a list").items;
    let told: Vec<_> = records
        .iter()
        .flat_map(|record| &record.spec.children)
        .map(|node| (node.index, node.phase, node.attempts[0].container.exit_code))
        .collect();
    let (well, badly) = (Some(Phase::Succeeded), Some(Phase::Failed));
    assert_eq!(told, [(0, well, Some(0)), (1, well, None), (2, badly, Some(7))]);
}

#[tokio::test]
async fn two_jobs_on_room_for_one_and_a_half() {
    let world = World::with_queue("gang-room").await;
    // Four vCPUs.
    let first = world.submit("first", gang(3, json!({}))).await;
    let pods = first.all_run(3, 1).await;
    let second = world.submit("second", gang(3, json!({}))).await;
    second.waits(Phase::Runnable, "Waiting for room for all 3 nodes of the job at the same time").await;
    assert_eq!(world.pods().await.len(), 3, "not one of the second");
    pods[0].exits(0).await;
    stop(&pods[1..]).await;
    first.reaches(Phase::Succeeded).await;
    let pods = second.all_run(3, 1).await;
    pods[0].exits(0).await;
    stop(&pods[1..]).await;
    second.reaches(Phase::Succeeded).await;
    let never = world.submit("never", gang(65, json!({}))).await;
    never.waits(Phase::Runnable, "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE").await;
}

#[tokio::test]
async fn a_worker_whose_host_is_gone_takes_all_to_the_next_attempt() {
    let world = World::with_queue("gang-host").await;
    let other = world.node("other", "pool", 4).await;
    let job = world.submit("job", gang(3, retry(2))).await;
    let pods = job.nodes(3, 1).await;
    for pod in &pods[..2] {
        pod.bind().await;
    }
    pods[2].bind_to(&other).await;
    for pod in &pods {
        pod.starts().await;
    }
    job.reaches(Phase::Running).await;
    nodes::fall_silent(&other);
    let all: kube::Api<Node> = kube::Api::all(world.kubelet.clone());
    all.delete(&other, &DeleteParams::default()).await.expect("a node can be deleted");
    let record = job.until("the attempt's end", |record| record.attempts.len() == 1).await;
    let attempt = &record.attempts[0];
    // By then nothing but the name of the node is known.
    assert_eq!(attempt.status_reason, format!("Host EC2 (instance {other}) terminated."));
    assert_eq!(attempt.container.reason.as_deref(), Some("(node 2)"));
    // The others have to go before the next attempt begins.
    pods[0].is_deleted().await;
    let second =
        |pods: Vec<Pod>| pods.iter().filter(|pod| pod.labels()["batchyard.io/attempt"] == "2").count();
    assert_eq!(second(world.pods().await), 0);
    stop(&pods[..2]).await;
    let pods = job.all_run(3, 2).await;
    pods[0].exits(0).await;
    stop(&pods[1..]).await;
    job.reaches(Phase::Succeeded).await;
    world.has_nothing_beside().await;
}

#[tokio::test]
async fn the_main_nodes_exit_code_decides_about_another_attempt() {
    let world = World::with_queue("gang-retry").await;
    let job = world.submit("job", gang(2, retry(3))).await;
    for (attempt, code) in [(1, 1), (2, 3)] {
        let pods = job.all_run(2, attempt).await;
        pods[0].exits(code).await;
        stop(&pods[1..]).await;
        let record = job.until("its end", |record| record.attempts.len() as u32 == attempt).await;
        assert_eq!(record.attempts.last().and_then(|last| last.container.exit_code), Some(code));
    }
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.attempts.len(), 2, "code 3 is not tried again");
}

#[tokio::test]
async fn orders_act_on_all_nodes() {
    let world = World::with_queue("gang-orders").await;
    let job = world.submit("job", gang(3, json!({}))).await;
    let pods = job.all_run(3, 1).await;
    job.edit(json!({"terminate": "enough"})).await;
    stop(&pods).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!((record.status_reason.as_deref(), record.is_terminated), (Some("enough"), Some(true)));
    let waiting = world.submit("waiting", gang(3, json!({}))).await;
    let pods = waiting.nodes(3, 1).await;
    waiting.edit(json!({"cancel": "not now"})).await;
    let record = waiting.reaches(Phase::Failed).await;
    assert_eq!((record.is_cancelled, record.attempts.len()), (Some(true), 0));
    for pod in &pods {
        wait::gone(&world.api::<Pod>(), &pod.name).await;
    }
    world.has_nothing_beside().await;
}

#[tokio::test]
async fn what_cannot_be_run_on_many_nodes_is_refused_by_name() {
    let world = World::with_queue("gang-refused").await;
    let range = |target: &str| json!({"targetNodes": target, "container": container()});
    let unnamed = json!({"image": "busybox", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}});
    let eks = json!({"targetNodes": "1:", "eksProperties": {"podProperties": {
        "containers": [unnamed, unnamed]}}});
    for (name, more, want) in [
        (
            "gap",
            json!({"nodeProperties": {"nodeRangeProperties": [range("0:1")]}}),
            "no range of targetNodes holds node 2",
        ),
        (
            "eks",
            json!({"nodeProperties": {"nodeRangeProperties": [range("0"), eks]}}),
            "nodeRangeProperties 1:: containers: Default is the name of two containers",
        ),
        (
            "closed",
            json!({"nodeProperties": {"nodeRangeProperties": [range("0:2")]}, "nodeOverrides": {"numNodes": 5}}),
            "nodeOverrides.numNodes: no range of the job definition has an open end",
        ),
    ] {
        let job = world.submit(name, gang(3, more)).await;
        let record = job.reaches(Phase::Failed).await;
        let why = record.status_reason.unwrap_or_default();
        assert!(why.contains(want), "{name}: {why}");
    }
}

/// Some of its pods find no host: none of them keeps one.
#[tokio::test]
async fn a_job_of_which_a_part_finds_no_host_is_taken_back_whole() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("gang-half").await;
    let operator = Operator::start_told(operator::NAME, "60", &["--gang-timeout-seconds", "3"]);
    world.furnish().await;
    let job = world.submit("job", gang(2, json!({}))).await;
    let pods = job.nodes(2, 1).await;
    pods[0].bind().await;
    pods[0].starts().await;
    let record = job.until("its return", |record| !record.placements.is_empty()).await;
    assert_eq!((record.phase(), record.attempts.len()), (Phase::Runnable, 0), "{record:?}");
    let why = &record.placements[0].status_reason;
    assert_eq!(why, "Not all nodes of the job had a host within 3 s: 1 of 2 did");
    // Nothing of the next placement is made while the first has a host.
    pods[0].is_deleted().await;
    assert!(world.pods().await.iter().all(|pod| pod.annotations()["batchyard.io/placement"] == "0"));
    pods[0].dies_when_deleted(143).await;
    let again = job.nodes(2, 1).await;
    assert!(again.iter().all(|pod| pod.name.ends_with("-1-1")), "the next placement");
    for pod in &again {
        pod.bind().await;
        pod.starts().await;
    }
    again[0].exits(0).await;
    stop(&again[1..]).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!((record.attempts.len(), record.placements.len()), (1, 1));
    operator.stop().await;
}

/// The operator is killed while the nodes start, and again while they run.
#[tokio::test]
async fn a_gang_outlives_the_operator() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("gang-restart").await;
    let operator = Operator::start(operator::NAME);
    world.furnish().await;
    let job = world.submit("job", gang(3, json!({}))).await;
    let pods = job.nodes(3, 1).await;
    pods[0].bind().await;
    operator.kill();
    for pod in &pods[1..] {
        pod.bind().await;
        pod.waits("CreateContainerConfigError", "configmap not found").await;
    }
    pods[0].has_address("10.1.2.4").await;
    let operator = Operator::start(operator::NAME);
    wait::answer("the address", &world.namespace, || async {
        (world.beside().await.len() == 2).then_some(())
    })
    .await;
    for pod in &pods {
        pod.starts().await;
    }
    job.reaches(Phase::Running).await;
    operator.kill();
    pods[0].exits(0).await;
    let operator = Operator::start(operator::NAME);
    stop(&pods[1..]).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!((record.attempts.len(), record.placements.len()), (1, 0));
    world.has_nothing_beside().await;
    operator.stop().await;
}

#[tokio::test]
async fn nothing_outlives_a_deleted_job() {
    let world = World::with_queue("gang-deleted").await;
    let job = world.submit("job", gang(2, json!({}))).await;
    let pods = job.all_run(2, 1).await;
    pods[0].has_address("10.1.2.5").await;
    world.api::<BatchJob>().delete("job", &DeleteParams::background()).await.expect("deleted");
    stop(&pods).await;
    wait::gone(&world.api::<BatchJob>(), "job").await;
    wait::answer("nothing of it", &world.namespace, || async {
        (world.pods().await.is_empty() && world.beside().await.is_empty()).then_some(())
    })
    .await;
}
