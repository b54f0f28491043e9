//! What containers wrote, as people read it with `kubectl batch`.

use std::collections::BTreeSet;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use serde_json::json;

use crate::Case;
use crate::ends::{exit, succeeded};
use crate::programs::shell;
use crate::scenario::Scenario;
use crate::support::client::kubeconfig;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("logs-go-from-attempt-to-attempt", |scenario| Box::pin(across_attempts(scenario))),
        Case::story("run-follow-ends-as-the-job-does", |scenario| Box::pin(run_and_follow(scenario))),
    ]
}

/// The name of the post's queue.
const QUEUE: &str = "queue-0";

fn begin(scenario: &Scenario<'_>, line: &[&str]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-batch"));
    command.args(["-n", &scenario.namespace]).args(line).env("KUBECONFIG", kubeconfig());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("kubectl-batch can be run")
}

async fn end(running: Child) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || running.wait_with_output()).await??)
}

async fn batch(scenario: &Scenario<'_>, line: &[&str]) -> Result<Output> {
    end(begin(scenario, line)?).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn remove_pod(scenario: &Scenario<'_>, name: &str) -> Result<()> {
    let pods = scenario.api::<Pod>();
    pods.delete(name, &DeleteParams::default()).await?;
    await_condition(pods, name, |pod: Option<&Pod>| pod.is_none()).await?;
    Ok(())
}

async fn across_attempts(scenario: &Scenario<'_>) -> Result<()> {
    let mut job = shell("echo attempt $AWS_BATCH_JOB_ATTEMPT; [ $AWS_BATCH_JOB_ATTEMPT = 3 ]");
    job["retryStrategy"] = json!({"attempts": 3});
    scenario.submit("job", job).await;
    // It begins to follow before there is anything to read.
    let following = end(begin(scenario, &["logs", "job", "--follow", "--prefix", "--all-attempts"])?);
    let ends = [exit(1).retried_by_default(), exit(1).retried_by_default(), exit(0)];
    let ended = scenario.ends("job", &succeeded(ends)).await?;
    let followed = following.await?;
    let all = "[1] attempt 1\n[2] attempt 2\n[3] attempt 3\n";
    ensure!(text(&followed.stdout) == all && followed.status.success(), "followed: {followed:?}");
    for (line, expected) in [
        (vec!["logs", "job"], "attempt 3\n"),
        (vec!["logs", "job", "--previous"], "attempt 2\n"),
        (vec!["logs", "job", "--attempt", "1"], "attempt 1\n"),
        (vec!["logs", "job", "--all-attempts", "--prefix"], all),
    ] {
        let said = batch(scenario, &line).await?;
        ensure!(text(&said.stdout) == expected, "{line:?}: {said:?}");
    }
    let first = ended.status.and_then(|status| status.record.attempts.into_iter().next());
    let first = first.context("a first attempt")?.pod_name;
    remove_pod(scenario, &first).await?;
    let gone = batch(scenario, &["logs", "job", "--attempt", "1"]).await?;
    ensure!(gone.status.code() == Some(3), "{gone:?}");
    ensure!(text(&gone.stderr).contains("the output of attempt 1 is gone with its pod"), "{gone:?}");
    Ok(())
}

async fn run_and_follow(scenario: &Scenario<'_>) -> Result<()> {
    // What never ran has no output and no exit code.
    let never = batch(scenario, &["run", "no/such:image", "-q", QUEUE, "--memory", "64", "--follow"]).await?;
    ensure!(never.status.code() == Some(125) && never.stdout.is_empty(), "{never:?}");
    ensure!(text(&never.stderr).contains("is FAILED: Task failed to start"), "{never:?}");
    // Not every program writes text.
    let bytes =
        ["run", "alpine:latest", "-q", QUEUE, "--memory", "64", "--follow", "--", "printf", "\\377\\n"];
    let bytes = batch(scenario, &bytes).await?;
    ensure!(bytes.stdout == [0xff, b'\n'] && bytes.status.success(), "{bytes:?}");
    let program = "echo well begun; echo half done >&2; exit 7";
    let line = ["run", "alpine:latest", "-q", QUEUE, "--memory", "64", "--follow", "--", "sh", "-c", program];
    let said = batch(scenario, &line).await?;
    ensure!(said.status.code() == Some(7), "{said:?}");
    // The runtime reads the two streams side by side: which line comes first is not said.
    let has_both = |output: &Output| {
        BTreeSet::from(["well begun", "half done"]) == text(&output.stdout).lines().collect()
    };
    ensure!(has_both(&said), "{said:?}");
    ensure!(text(&said.stderr).contains("is FAILED: Essential container in task exited"), "{said:?}");
    // A pod that is gone: what the job remembers of its last failed attempt.
    let name = text(&said.stderr).split_whitespace().next().context("a name")?.to_owned();
    let pod = scenario.api::<batchyard::crd::BatchJob>().get(&name).await?;
    let pod = pod
        .status
        .and_then(|status| status.record.attempts.into_iter().next())
        .context("an attempt")?
        .pod_name;
    remove_pod(scenario, &pod).await?;
    let remembered = batch(scenario, &["logs", &name]).await?;
    ensure!(has_both(&remembered), "{remembered:?}");
    ensure!(
        text(&remembered.stderr).contains("these are the last lines that the job remembers"),
        "{remembered:?}"
    );
    Ok(())
}
