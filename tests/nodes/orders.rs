//! Ends that somebody ordered: terminate, cancel, timeout.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::processes_of_pod;
use crate::ends::{exit, failed};
use crate::scenario::{Scenario, is};

/// A program that runs until SIGTERM and then ends well.
fn polite() -> Value {
    json!({
        "jobDefinition": "spot",
        "containerOverrides": {"command": ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]},
    })
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("a-timeout-ends-the-job", |scenario| Box::pin(timeout(scenario))),
        Case::story("terminate-while-running", |scenario| Box::pin(terminate(scenario))),
        Case::story("cancel-while-runnable", |scenario| Box::pin(cancel(scenario))),
        Case::story("cancel-while-running-does-nothing", |scenario| Box::pin(cancel_too_late(scenario))),
    ]
}

/// AWS's text.
const TIMED_OUT: &str = "Job attempt duration exceeded timeout";

/// The shortest timeout that AWS allows. Exit code 0 after our SIGTERM is no success.
async fn timeout(scenario: &Scenario<'_>) -> Result<()> {
    let mut job = polite();
    job["timeout"] = json!({"attemptDurationSeconds": 60});
    scenario.submit("job", job).await;
    let ended = exit(0).because(TIMED_OUT).failed_by_rule("timed out: never retried");
    let job = scenario.ends("job", &failed([ended])).await?;
    let record = job.status.map(|status| status.record).unwrap_or_default();
    let ran =
        record.started_at.zip(record.stopped_at).map(|(start, stop)| stop.duration_since(start).as_secs());
    ensure!(ran.is_some_and(|seconds| (60..75).contains(&seconds)), "the job ran {ran:?} s, not 60");
    Ok(())
}

/// Exit code 0 after SIGTERM is no success: somebody ended the job.
async fn terminate(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", polite()).await;
    scenario.runs("job", 1).await?;
    let pod = scenario.current_pod("job").await?;
    if scenario.cluster.is_local() {
        // Or else the check that none is left afterwards would mean nothing.
        ensure!(!processes_of_pod(&pod).is_empty(), "the pod {pod} runs, but has no process");
    }
    scenario.change("job", json!({"terminate": "enough"})).await?;
    let ended = exit(0).because("enough").failed_by_rule("terminated: never retried");
    scenario.ends("job", &failed([ended]).terminated()).await?;
    ensure!(scenario.seen.pods() == 1, "there were {} pods", scenario.seen.pods());
    Ok(())
}

/// More vCPUs than any node has, so the job waits for ever.
async fn cancel(scenario: &Scenario<'_>) -> Result<()> {
    let large = json!({
        "jobDefinition": "spot",
        "containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "20"}]},
    });
    scenario.submit("job", large).await;
    let waits = scenario.until("job", "to be RUNNABLE and to say why", |job| {
        let reason = job.status.as_ref().and_then(|status| status.record.status_reason.as_deref());
        is(job, "RUNNABLE") && reason.is_some_and(|reason| reason.contains("larger node"))
    });
    waits.await?;
    scenario.change("job", json!({"cancel": "not wanted any more"})).await?;
    scenario.ends("job", &failed([]).cancelled("not wanted any more")).await?;
    ensure!(scenario.seen.pods() == 0, "there were {} pods", scenario.seen.pods());
    Ok(())
}

/// As on AWS, only terminate ends a job that runs.
async fn cancel_too_late(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", polite()).await;
    scenario.runs("job", 1).await?;
    scenario.change("job", json!({"cancel": "not wanted any more"})).await?;
    let looked_at = scenario.until("job", "to be looked at with its cancel", |job| {
        let observed = job.status.as_ref().and_then(|status| status.observed_generation);
        job.metadata.generation == Some(2) && observed == Some(2)
    });
    let job = looked_at.await?;
    ensure!(is(&job, "RUNNING"), "a cancel came too late, but the job is {:?}", job.status);
    scenario.change("job", json!({"terminate": "enough"})).await?;
    let ended = exit(0).because("enough").failed_by_rule("terminated: never retried");
    scenario.ends("job", &failed([ended]).terminated()).await?;
    Ok(())
}
