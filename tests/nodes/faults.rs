//! Nodes and the operator taken away while a job runs.

use anyhow::{Result, ensure};
use batchyard::crd::conditions::{ConditionType, is_true};
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::processes_of_pod;
use crate::ends::{exit, host_terminated, succeeded};
use crate::scenario::{Scenario, is};

/// The post's spot job. Its first attempt runs until SIGTERM and then ends with 143, as programs
/// do; the second ends well.
fn spot() -> Value {
    let program = "[ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] && exit 0; trap 'exit 143' TERM; sleep 600 & wait";
    json!({"jobDefinition": "spot", "containerOverrides": {"command": ["sh", "-c", program]}})
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("drain", |scenario| Box::pin(drain(scenario))).alone(),
        Case::story("power-off", |scenario| Box::pin(power_off(scenario))).alone(),
        Case::story("operator-killed", |scenario| Box::pin(operator_killed(scenario))).alone().local_only(),
    ]
}

async fn drain(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", spot()).await;
    let node = scenario.runs("job", 1).await?;
    scenario.cluster.drain(&node).await?;
    let ends = succeeded([host_terminated(Some(143)).retried_by(0), exit(0)]);
    let job = scenario.ends("job", &ends).await?;
    let nodes = nodes(&job);
    ensure!(
        nodes[0] == node && nodes[1] != node,
        "the drained node is {node}, the attempts ran on {nodes:?}"
    );
    Ok(())
}

/// The job stays RUNNING while its node is only silent, and runs elsewhere once that has lasted.
async fn power_off(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", spot()).await;
    let node = scenario.runs("job", 1).await?;
    let pod = scenario.current_pod("job").await?;
    scenario.cluster.power_off(&node).await?;
    ensure!(processes_of_pod(&pod).is_empty(), "{node} is off, but something of the job runs on it");
    let silent = scenario.until("job", "to say NodeUnreachable", |job| {
        let conditions = job.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        is_true(&conditions, ConditionType::NodeUnreachable)
    });
    let job = silent.await?;
    ensure!(is(&job, "RUNNING"), "the job did not stay RUNNING while its node was silent");
    let ends = succeeded([host_terminated(None).retried_by(0), exit(0)]);
    let job = scenario.ends("job", &ends).await?;
    let nodes = nodes(&job);
    ensure!(nodes[0] == node && nodes[1] != node, "{node} was switched off, the attempts ran on {nodes:?}");
    Ok(())
}

/// The operator dies while an attempt runs, and again while the next one does. Nothing is counted
/// twice, and no attempt gets a second pod.
async fn operator_killed(scenario: &Scenario<'_>) -> Result<()> {
    let program = "sleep 4; [ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] && exit 0; exit 1";
    let job = json!({
        "jobDefinition": "randomEC",
        "containerOverrides": {"command": ["sh", "-c", program]},
    });
    scenario.submit("job", job).await;
    scenario.runs("job", 1).await?;
    scenario.cluster.kill_operator().await?;
    scenario.runs("job", 2).await?;
    scenario.cluster.kill_operator().await?;
    scenario.ends("job", &succeeded([exit(1).retried_by(0), exit(0)])).await?;
    ensure!(scenario.seen.pods() == 2, "two attempts had {} pods", scenario.seen.pods());
    Ok(())
}

fn nodes(job: &batchyard::crd::BatchJob) -> Vec<String> {
    let attempts = job.status.iter().flat_map(|status| &status.record.attempts);
    attempts.map(|attempt| attempt.node_name.clone().unwrap_or_default()).collect()
}
