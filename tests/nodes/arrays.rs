//! Arrays of real containers: each child runs, fails and is tried again on its own, whatever becomes of the operator.

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::batch_job::ArrayStatus;
use batchyard::crd::children::Children;
use batchyard::crd::{BatchJob, BatchJobRecord};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::Case;
use crate::scenario::{Scenario, is};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::story("array-n-to-n", |scenario| Box::pin(n_to_n(scenario)))]
}

pub(crate) fn alone() -> Vec<Case> {
    vec![
        Case::story("array-of-fifty-operator-killed", |scenario| Box::pin(fifty(scenario)))
            .alone()
            .local_only(),
    ]
}

/// So many children that run a shell program.
fn array(size: u32, program: &str, more: &Value) -> Value {
    let container =
        json!({"image": "alpine:latest", "vcpus": 1, "memory": 16, "command": ["sh", "-c", program]});
    let mut spec = json!({"arrayProperties": {"size": size}, "containerProperties": container});
    crate::scenario::merge(&mut spec, more);
    spec
}

/// Indexes that end with 7 fail, those that end with 3 fail once, and the operator is killed in between.
async fn fifty(scenario: &Scenario<'_>) -> Result<()> {
    let program = "case $AWS_BATCH_JOB_ARRAY_INDEX.$AWS_BATCH_JOB_ATTEMPT in *7.*) exit 7;; *3.1) exit 1;; esac; \
                   [ $AWS_BATCH_JOB_ARRAY_SIZE = 50 ] && echo I am $AWS_BATCH_JOB_ID";
    let retry = json!({"retryStrategy": {"attempts": 3, "evaluateOnExit": [
        {"onExitCode": "1", "action": "RETRY"}, {"onExitCode": "*", "action": "EXIT"}]}});
    scenario.submit("job", array(50, program, &retry)).await;
    for some in [5, 25] {
        scenario
            .until("job", &format!("to have {some} children that ended"), |job| ended(job) >= some)
            .await?;
        scenario.cluster.kill_operator().await?;
    }
    let job = scenario.until("job", "to end", |job| is(job, "SUCCEEDED") || is(job, "FAILED")).await?;
    let record = job.status.clone().unwrap_or_default().record;
    ensure!(record.status_reason.as_deref() == Some("Array Child Job failed"), "it ended as {record:?}");
    let status = array_status(&job);
    let failed = status.indexes.clone().and_then(|indexes| indexes.failed).unwrap_or_default();
    ensure!(failed == "7,17,27,37,47", "those that failed are {failed}");
    let children = children(scenario, &job).await?;
    for index in 0..50 {
        let child = children.get(index).with_context(|| format!("nothing is recorded of child {index}"))?;
        let codes: Vec<_> = child.attempts.iter().map(|attempt| attempt.container.exit_code).collect();
        let want = match index % 10 {
            7 => vec![Some(7)],
            3 => vec![Some(1), Some(0)],
            _ => vec![Some(0)],
        };
        ensure!(codes == want, "the attempts of child {index} exited with {codes:?}, not {want:?}");
    }
    Ok(())
}

/// Each child of the second array runs once its counterpart has succeeded, and one never.
async fn n_to_n(scenario: &Scenario<'_>) -> Result<()> {
    let pairs = json!({"dependsOn": [{"job": "first", "type": "N_TO_N"}]});
    scenario.submit("second", array(4, "true", &pairs)).await;
    scenario.submit("first", array(4, "[ $AWS_BATCH_JOB_ARRAY_INDEX != 2 ]", &json!({}))).await;
    let second = scenario.until("second", "to end", |job| is(job, "SUCCEEDED") || is(job, "FAILED")).await?;
    let indexes = array_status(&second).indexes.unwrap_or_default();
    let found = (indexes.succeeded.as_deref(), indexes.failed.as_deref());
    ensure!(found == (Some("0-1,3"), Some("2")), "the children of the second array ended as {found:?}");
    let first = scenario.api::<BatchJob>().get("first").await?;
    let (first, second) = (children(scenario, &first).await?, children(scenario, &second).await?);
    for index in [0, 1, 3] {
        let stopped = first.get(index).and_then(|child| child.attempts.last()?.stopped_at);
        let started = second.get(index).and_then(|child| child.attempts.last()?.started_at);
        // Containers' times have no fractions.
        ensure!(stopped.is_some() && stopped <= started, "child {index}: {stopped:?} and then {started:?}");
    }
    let attempts = second.get(2).map(|child| child.attempts.len());
    ensure!(attempts == Some(0), "the child without a counterpart ran: {attempts:?}");
    Ok(())
}

fn array_status(job: &BatchJob) -> ArrayStatus {
    *job.status.clone().and_then(|status| status.array_properties).unwrap_or_default()
}

fn ended(job: &BatchJob) -> i64 {
    let counts = array_status(job).status_summary.unwrap_or_default();
    counts.succeeded.unwrap_or(0) + counts.failed.unwrap_or(0)
}

/// What is recorded of the children.
async fn children(scenario: &Scenario<'_>, job: &BatchJob) -> Result<Children> {
    let list =
        ListParams::default().labels(&format!("batchyard.io/job-uid={}", job.uid().unwrap_or_default()));
    let mut children = Children::new(None);
    for record in scenario.api::<BatchJobRecord>().list(&list).await? {
        children.take(job, record);
    }
    Ok(children)
}
