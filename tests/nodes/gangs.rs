//! Multi-node jobs: nodes that talk to each other over real sockets between real nodes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::{BatchJob, BatchJobRecord};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, succeeded};
use crate::scenario::{PATIENCE, Scenario, is};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::story("multi-node-ring", |scenario| Box::pin(ring(scenario)))]
}

pub(crate) fn alone() -> Vec<Case> {
    vec![
        Case::story("multi-node-worker-drained", |scenario| Box::pin(worker_drained(scenario)))
            .alone()
            .local_only(),
    ]
}

/// Three nodes that run this; `also` is what else the job says.
fn gang(container: Value, also: &Value) -> Value {
    let range = json!({"targetNodes": "0:", "container": container});
    let mut spec = json!({"nodeProperties": {"numNodes": 3, "mainNode": 0, "nodeRangeProperties": [range]}});
    crate::scenario::merge(&mut spec, also);
    spec
}

/// A token goes round three nodes on two hosts, each adds its share, and all know the sum in the end. Each finds the next
/// by its name.
async fn ring(scenario: &Scenario<'_>) -> Result<()> {
    let by_name = json!([{"name": "RING_NAMES", "value": "1"}]);
    let container =
        json!({"image": "batchyard/ring:1", "vcpus": 1, "memory": 64, "command": [], "environment": by_name});
    scenario.submit("ring", gang(container, &json!({}))).await;
    let job = scenario.ends("ring", &succeeded([exit(0)])).await?;
    let hosts = hosts(scenario, &job).await?;
    ensure!(hosts.len() == 3, "each node is told of: {hosts:?}");
    let different: BTreeSet<_> = hosts.iter().collect();
    ensure!(different.len() == 2, "nodes prefer different hosts, of which there are two: {hosts:?}");
    is_tidy(scenario).await
}

/// The host of each node in the last attempt, by what is remembered of it.
async fn hosts(scenario: &Scenario<'_>, job: &BatchJob) -> Result<Vec<String>> {
    let uid = job.uid().context("it has a uid")?;
    let list = ListParams::default().labels(&format!("batchyard.io/job-uid={uid}"));
    let mut records = scenario.api::<BatchJobRecord>().list(&list).await?.items;
    records.sort_by_key(|record| record.spec.segment);
    let last = records.last().context("the attempt is remembered")?;
    let host = |attempts: &[batchyard_core::job::record::Attempt]| attempts.last()?.node_name.clone();
    Ok(last.spec.children.iter().filter_map(|node| host(&node.attempts)).collect())
}

/// Neither the address nor the names outlive the job's end.
async fn is_tidy(scenario: &Scenario<'_>) -> Result<()> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=batchyard");
    answer("neither address nor Service of the job", PATIENCE, || async {
        let maps = scenario.api::<ConfigMap>().list(&ours).await?.items.len();
        let services = scenario.api::<Service>().list(&ours).await?.items.len();
        ensure!(maps + services == 0, "{maps} ConfigMaps and {services} Services are left");
        Ok(Some(()))
    })
    .await
}

/// The host of a worker is drained: the attempt ends for all, and the next one succeeds.
async fn worker_drained(scenario: &Scenario<'_>) -> Result<()> {
    let program = "[ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] && exit 0; trap 'exit 143' TERM; sleep 600 & wait";
    let container =
        json!({"image": "alpine:latest", "vcpus": 1, "memory": 32, "command": ["sh", "-c", program]});
    let retry = json!({"retryStrategy": {"attempts": 2, "evaluateOnExit": [
        {"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]}});
    scenario.submit("job", gang(container, &retry)).await;
    let main = scenario.runs("job", 1).await?;
    let ours = ListParams::default().labels("batchyard.io/job-name=job");
    let worker = answer("three nodes that run", PATIENCE, || async {
        let pods = scenario.api::<Pod>().list(&ours).await?.items;
        let running =
            |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let hosts: Vec<_> =
            pods.iter().filter(running).filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        let other = hosts.iter().find(|host| **host != main).cloned();
        Ok(other.filter(|_| hosts.len() == 3))
    })
    .await?;
    scenario.cluster.drain(&worker).await?;
    let job = scenario.until("job", "to end", |job| is(job, "SUCCEEDED") || is(job, "FAILED")).await?;
    let record = job.status.clone().unwrap_or_default().record;
    let [first, second] = record.attempts.as_slice() else {
        anyhow::bail!("two attempts are expected: {:?}", record.attempts);
    };
    let instance = scenario.cluster.instance(&worker);
    let want = format!("Host EC2 (instance {instance}) terminated.");
    ensure!(first.status_reason == want, "attempt 1 is {:?}, not {want:?}", first.status_reason);
    ensure!(first.node_name.as_deref() == Some(&main), "it is the main node's attempt: {first:?}");
    ensure!(second.container.exit_code == Some(0) && is(&job, "SUCCEEDED"), "attempt 2 is {second:?}");
    let hosts = hosts(scenario, &job).await?;
    ensure!(hosts.iter().all(|host| *host != worker), "nothing of it went back to {worker}: {hosts:?}");
    is_tidy(scenario).await
}
