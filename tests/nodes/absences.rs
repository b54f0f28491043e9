//! The operator taken away while jobs run: killed, held, sent away, replaced, removed.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::Case;
use crate::changes::populate;
use crate::ends::{exit, failed, host_terminated, pod_deleted, succeeded};
use crate::orders::terminated;
use crate::pods::by_force;
use crate::programs::{in_queue, shell, too_large, until_asked, well_the_second_time};
use crate::scenario::{Scenario, merge};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("a3-operator-killed", |scenario| Box::pin(killed(scenario))).alone().local_only(),
        Case::story("b1-b2-two-replicas", |scenario| Box::pin(two_replicas(scenario))).alone().local_only(),
        Case::story("a8-k2-operator-absent", |scenario| Box::pin(absent(scenario))).alone().local_only(),
        Case::story("a9-upgraded-under-load", |scenario| Box::pin(upgraded(scenario))).alone(),
    ]
}

/// Fails at its first attempt after some seconds, and succeeds at the second after as many.
fn second_time_lucky(seconds: u32) -> Value {
    let mut job = shell(&format!("sleep {seconds}; [ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] && exit 0; exit 1"));
    merge(&mut job, &json!({"jobDefinition": "randomEC"}));
    job
}

/// The operator dies while an attempt runs, and again while the next one does. Nothing is counted
/// twice, and no attempt gets a second pod.
async fn killed(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", second_time_lucky(4)).await;
    scenario.runs("job", 1).await?;
    scenario.cluster.kill_operator().await?;
    scenario.runs("job", 2).await?;
    scenario.cluster.kill_operator().await?;
    scenario.ends("job", &succeeded([exit(1).retried_by(0), exit(0)])).await?;
    ensure!(scenario.seen.pods() == 2, "two attempts had {} pods", scenario.seen.pods());
    Ok(())
}

/// The leader is held up until another leads, and then goes on: it must notice and leave. The new
/// leader is taken away with its pod, for the same pod would lead again at once.
async fn two_replicas(scenario: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    cluster.scale(2).await?;
    scenario.submit("job", until_asked(1)).await;
    scenario.runs("job", 1).await?;
    let first = cluster.leader().await?;
    let held = cluster.operator_process(&first)?;
    held.suspend();
    let second = cluster.is_followed(&first).await;
    // Whatever happened, it is not left like that.
    held.resume();
    let second = second?;
    scenario.submit("other", second_time_lucky(1)).await;
    cluster.is_started_again(&first).await?;
    scenario.ends("other", &succeeded([exit(1).retried_by(0), exit(0)])).await?;
    cluster.delete_operator(&second).await?;
    cluster.is_followed(&second).await?;
    scenario.finish("job").await?;
    scenario.ends("job", &failed([exit(1).failed_by(1)])).await?;
    ensure!(scenario.seen.pods() == 3, "three attempts had {} pods", scenario.seen.pods());
    Ok(())
}

/// Everything that can happen to jobs happens while nobody looks. All of it is known afterwards.
async fn absent(scenario: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    let doomed = Scenario::begin(cluster, "k2-namespace-operator-absent").await?;
    let told = meanwhile(scenario, &doomed).await;
    if told.is_err() {
        doomed.remove().await?;
    }
    told?;
    scenario.ends("well", &succeeded([exit(0)])).await?;
    scenario.ends("badly", &failed([exit(3).failed_by(1)])).await?;
    scenario.ends("lost", &succeeded([host_terminated(None).retried_by(0), exit(0)])).await?;
    scenario.ends("terminated", &terminated(exit(0))).await?;
    scenario.ends("cancelled", &failed([]).cancelled("no")).await?;
    scenario.ends("new", &succeeded([exit(0)])).await?;
    doomed.is_gone().await?;
    for name in ["deleted", "forced"] {
        scenario.ends(name, &failed([pod_deleted(Some(143)).failed_by(1)])).await?;
    }
    Ok(())
}

/// Starts the jobs, takes the operator away, does all of it, and brings the operator back.
async fn meanwhile(scenario: &Scenario<'_>, doomed: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    let [node, other] = cluster.spot_nodes();
    cluster.cordon(other, true).await?;
    scenario.submit("lost", well_the_second_time()).await;
    scenario.runs("lost", 1).await?;
    cluster.cordon(other, false).await?;
    cluster.cordon(node, true).await?;
    populate(doomed).await?;
    scenario.queue("narrow", json!({})).await?;
    scenario.submit("cancelled", in_queue("narrow", too_large())).await;
    let ending =
        [("well", 0), ("badly", 3), ("deleted", 143), ("forced", 143), ("terminated", 0), ("gone", 0)];
    for (name, code) in ending {
        scenario.submit(name, until_asked(code)).await;
    }
    for (name, _) in ending {
        scenario.runs(name, 1).await?;
    }
    scenario.waits("cancelled", "RUNNABLE", "larger node").await?;
    cluster.cordon(node, false).await?;

    cluster.scale(0).await?;
    scenario.finish("well").await?;
    scenario.finish("badly").await?;
    scenario.delete_pod("deleted", &DeleteParams::default()).await?;
    scenario.delete_pod("forced", &by_force()).await?;
    scenario.change("terminated", json!({"terminate": "enough"})).await?;
    scenario.change("cancelled", json!({"cancel": "no"})).await?;
    scenario.delete("gone", PropagationPolicy::Background).await?;
    scenario.submit("new", shell("exit 0")).await;
    cluster.power_off(node).await?;
    doomed.remove().await?;
    for name in ["well", "badly", "deleted", "forced"] {
        let pod = scenario.pod_of(name, 0).await?.metadata.name.context("a pod has a name")?;
        scenario.pod_until(&pod, "to end", has_ended).await?;
    }
    cluster.is_missed(node).await?;
    cluster.install(&json!({})).await
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// How many jobs run while the operator is replaced; more than fit the nodes.
const LOAD: usize = 16;

/// To another version and back, as `helm upgrade` and `helm rollback` do it.
async fn upgraded(scenario: &Scenario<'_>) -> Result<()> {
    let names: Vec<String> = (0..LOAD).map(|number| format!("job-{number}")).collect();
    for name in &names {
        scenario.submit(name, second_time_lucky(2)).await;
    }
    scenario.runs(&names[0], 1).await?;
    scenario.cluster.install(&json!({"podAnnotations": {"example.org/version": "next"}})).await?;
    scenario.cluster.install(&json!({})).await?;
    for name in &names {
        scenario.ends(name, &succeeded([exit(1).retried_by(0), exit(0)])).await?;
    }
    ensure!(scenario.seen.pods() == 2 * LOAD, "{} attempts had {} pods", 2 * LOAD, scenario.seen.pods());
    Ok(())
}
