//! Nodes taken away while jobs run on them.

use anyhow::{Result, ensure};
use batchyard::crd::BatchJob;
use batchyard::crd::conditions::{ConditionType, is_true};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, EvictParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::{answer, processes_of_pod};
use crate::ends::{End, Ends, exit, host_terminated, succeeded};
use crate::programs::{in_queue, polite, well_the_second_time};
use crate::scenario::{PATIENCE, Scenario, is};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("f5-g12-drain", |scenario| Box::pin(drain(scenario))).alone().local_only(),
        Case::story("f2-f8-power-off", |scenario| Box::pin(power_off(scenario))).alone(),
        Case::story("f1-f4-unplugged-and-back", |scenario| Box::pin(unplugged(scenario)))
            .alone()
            .local_only(),
        Case::story("f3-node-object-deleted", |scenario| Box::pin(node_deleted(scenario)))
            .alone()
            .local_only(),
        Case::story("f7-kubelet-and-containerd-restarted", |scenario| Box::pin(restarted(scenario)))
            .alone()
            .local_only(),
        Case::story("f7-node-rebooted", |scenario| Box::pin(rebooted(scenario))).alone(),
    ]
}

/// The queue of an environment without `nodeLostTimeoutSeconds`.
const PATIENT: &str = "patient";

/// Runs jobs on one and the same node, of two that could have them, and returns it.
async fn on_one_node(scenario: &Scenario<'_>, jobs: &[(&str, Value)]) -> Result<String> {
    scenario.queue(PATIENT, json!({})).await?;
    let [here, elsewhere] = scenario.cluster.spot_nodes();
    scenario.cluster.cordon(elsewhere, true).await?;
    for (name, job) in jobs {
        scenario.submit(name, job.clone()).await;
    }
    for (name, _) in jobs {
        let node = scenario.runs(name, 1).await?;
        ensure!(node == here, "{name} runs on {node}, not on {here}");
    }
    scenario.cluster.cordon(elsewhere, false).await?;
    Ok(here.to_owned())
}

/// The first attempt ended like this with its host, and the second went well.
fn retried(end: End) -> Ends {
    succeeded([end.retried_by(0), exit(0)])
}

/// Checks how a job ended, and that its second attempt ran on another node than the first.
async fn goes_on_elsewhere(scenario: &Scenario<'_>, name: &str, lost: &str, ends: &Ends) -> Result<()> {
    let nodes = nodes(&scenario.ends(name, ends).await?);
    ensure!(nodes[0] == lost && nodes[1] != lost, "{lost} was lost, the attempts ran on {nodes:?}");
    Ok(())
}

fn nodes(job: &BatchJob) -> Vec<String> {
    let attempts = job.status.iter().flat_map(|status| &status.record.attempts);
    attempts.map(|attempt| attempt.node_name.clone().unwrap_or_default()).collect()
}

fn is_unreachable(job: &BatchJob) -> bool {
    let conditions = job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    is_true(conditions, ConditionType::NodeUnreachable)
}

/// Waits until a job says that its node is silent; it stays RUNNING.
async fn says_unreachable(scenario: &Scenario<'_>, name: &str) -> Result<()> {
    let job = scenario.until(name, "to say NodeUnreachable", is_unreachable).await?;
    ensure!(is(&job, "RUNNING"), "{name} did not stay RUNNING while its node was silent");
    Ok(())
}

/// A budget holds the drain up for as long as it is there. A program that ends well on SIGTERM has
/// succeeded.
async fn drain(scenario: &Scenario<'_>) -> Result<()> {
    let jobs = [("job", well_the_second_time()), ("polite", polite())];
    let node = on_one_node(scenario, &jobs).await?;
    let budgets: Api<PodDisruptionBudget> = scenario.api();
    scenario
        .apply::<PodDisruptionBudget>(&json!({
            "metadata": {"name": "all"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app.kubernetes.io/managed-by": "batchyard"}}},
        }))
        .await;
    answer("the budget to count the pods", PATIENCE, || async {
        let counted = budgets.get("all").await?.status.is_some_and(|status| status.current_healthy == 2);
        Ok(counted.then_some(()))
    })
    .await?;
    let release = async {
        // The drain has come to the pods when it has made their node unschedulable.
        scenario.cluster.is_cordoned(&node).await?;
        let pod = scenario.pod_of("job", 0).await?;
        let evicted = scenario.api::<Pod>().evict(&pod.name_any(), &EvictParams::default()).await;
        ensure!(evicted.is_err(), "the budget does not keep the pods");
        budgets.delete("all", &DeleteParams::default()).await?;
        Ok(())
    };
    tokio::try_join!(scenario.cluster.drain(&node), release)?;
    scenario.ends("polite", &succeeded([exit(0)])).await?;
    goes_on_elsewhere(scenario, "job", &node, &retried(host_terminated(Some(143)))).await
}

/// A job stays RUNNING while its node is only silent. It runs elsewhere once that has lasted, if
/// its environment says how long, or once somebody vouches that the node runs nothing any more.
async fn power_off(scenario: &Scenario<'_>) -> Result<()> {
    let jobs = [("lost", well_the_second_time()), ("patient", in_queue(PATIENT, well_the_second_time()))];
    let node = on_one_node(scenario, &jobs).await?;
    let pod = scenario.current_pod("lost").await?;
    scenario.cluster.power_off(&node).await?;
    ensure!(processes_of_pod(&pod).is_empty(), "{node} is off, but something of the job runs on it");
    says_unreachable(scenario, "lost").await?;
    says_unreachable(scenario, "patient").await?;
    let ends = retried(host_terminated(None));
    goes_on_elsewhere(scenario, "lost", &node, &ends).await?;
    let patient = scenario.until("patient", "to be there", |_| true).await?;
    ensure!(is(&patient, "RUNNING") && is_unreachable(&patient), "nobody gave the node up");
    scenario.cluster.take_out_of_service(&node).await?;
    goes_on_elsewhere(scenario, "patient", &node, &ends).await
}

/// Behind a broken cable both programs run on. One job is given up and runs elsewhere at the same
/// time, as its environment allows; the other goes on as if nothing had happened.
async fn unplugged(scenario: &Scenario<'_>) -> Result<()> {
    let jobs = [("lost", well_the_second_time()), ("patient", in_queue(PATIENT, polite()))];
    let node = on_one_node(scenario, &jobs).await?;
    let pod = scenario.current_pod("lost").await?;
    scenario.cluster.unplug(&node).await?;
    says_unreachable(scenario, "patient").await?;
    goes_on_elsewhere(scenario, "lost", &node, &retried(host_terminated(None))).await?;
    ensure!(!processes_of_pod(&pod).is_empty(), "{node} was not only cut off");
    scenario.cluster.power_on(&node).await?;
    let heard = scenario.until("patient", "to be heard of again", |job| !is_unreachable(job)).await?;
    ensure!(is(&heard, "RUNNING"), "the job on a node that came back is {:?}", heard.status);
    answer("the program of the job that was given up to end", PATIENCE, || async {
        Ok(processes_of_pod(&pod).is_empty().then_some(()))
    })
    .await?;
    scenario.finish("patient").await?;
    scenario.ends("patient", &succeeded([exit(0)])).await?;
    scenario.ends("lost", &retried(host_terminated(None))).await?;
    Ok(())
}

async fn node_deleted(scenario: &Scenario<'_>) -> Result<()> {
    let jobs = [("job", well_the_second_time()), ("patient", in_queue(PATIENT, well_the_second_time()))];
    let node = on_one_node(scenario, &jobs).await?;
    scenario.cluster.delete_node(&node).await?;
    for (name, _) in jobs {
        goes_on_elsewhere(scenario, name, &node, &retried(host_terminated(None))).await?;
    }
    Ok(())
}

/// Containers outlive both, and nobody notices.
async fn restarted(scenario: &Scenario<'_>) -> Result<()> {
    let node = on_one_node(scenario, &[("job", polite())]).await?;
    for service in ["kubelet", "containerd", "kubelet"] {
        scenario.cluster.restart_service(&node, service).await?;
        scenario.cluster.power_on(&node).await?;
    }
    let pod = scenario.current_pod("job").await?;
    ensure!(!processes_of_pod(&pod).is_empty(), "the program did not outlive the restarts");
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    ensure!(scenario.seen.pods() == 1, "there were {} pods", scenario.seen.pods());
    Ok(())
}

/// The node comes back before anybody gave it up, but its containers do not.
async fn rebooted(scenario: &Scenario<'_>) -> Result<()> {
    let node = on_one_node(scenario, &[("job", in_queue(PATIENT, well_the_second_time()))]).await?;
    scenario.cluster.power_off(&node).await?;
    says_unreachable(scenario, "job").await?;
    scenario.cluster.power_on(&node).await?;
    scenario.ends("job", &retried(host_terminated(None))).await?;
    ensure!(scenario.seen.pods() == 2, "two attempts had {} pods", scenario.seen.pods());
    Ok(())
}
