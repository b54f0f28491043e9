//! `cargo xtask demo logging`: the post about custom logging, with the files of `examples/logging`. Where the nodes can have
//! Fluent Bit, a collector in the cluster takes what Splunk would, and what it got is shown.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::jobs::{Job, Jobs};
use crate::cluster::{self, Cluster};
use crate::process::{output, wait_for};
use crate::step::{say, step};

/// A sidecar that does not start is waited for a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// The variable that names an archive with the image, where nodes reach no registry that has it.
const ARCHIVE: &str = "BATCHYARD_FLUENT_BIT_IMAGE";
/// As the chart has it.
const IMAGE: &str = "docker.io/fluent/fluent-bit:5.1.1";
/// The collector's pod and Service.
const COLLECTOR: &str = "collector";
const PORT: u16 = 8088;
/// The post's definition, whose URL is told to the collector's sender, and its token.
const DEFINITION: &str = "alpine-splunk";
const TOKEN: &str = "XXX-YYY-ZZZ";
/// The job of the demo's own: its first attempt fails.
const JOB: &str = "hello";
const PROGRAM: &str = "echo hello from attempt $AWS_BATCH_JOB_ATTEMPT; [ $AWS_BATCH_JOB_ATTEMPT = 2 ]";

/// What the chart is told: its times are for large bursts and slow sinks, and dull.
pub(super) fn values() -> Value {
    json!({"preStopSeconds": 3, "flushSeconds": 5})
}

/// Gives the nodes the image, if there is an archive with it.
pub(super) fn prepare(cluster: &Cluster) -> Result<()> {
    match std::env::var_os(ARCHIVE).map(PathBuf::from) {
        Some(archive) => cluster::load_image(&cluster.name, IMAGE, &archive),
        None => Ok(()),
    }
}

/// Lets it all happen, then tells what happened.
pub(super) fn play(cluster: &Cluster, namespace: &str) -> Result<()> {
    println!(
        "\ntest and splunk are the post's jobs: one logs to CloudWatch, one to Splunk, and neither is there. Those of"
    );
    println!("policy.yaml are asked about by the post's policy.\n");
    let mut jobs = Jobs::follow(cluster, namespace)?;
    for job in ["policy-splunk", "policy-elsewhere"] {
        jobs.until_job(job, "to be refused", PATIENCE, Job::has_ended)?;
    }
    let obstacle = collector(cluster, namespace)?;
    match &obstacle {
        None => submit(cluster, namespace)?,
        Some(why) => say(format!(
            "skipped: what arrives at a sink. The nodes cannot have {IMAGE}: {why}. {ARCHIVE} may name an archive with it, \
             as `docker save` makes it"
        )),
    }
    let expected = if obstacle.is_none() { 7 } else { 6 };
    jobs.until("all to end", PATIENCE, |jobs| jobs.len() == expected && jobs.values().all(Job::has_ended))?;
    show_routes(cluster, namespace)?;
    if obstacle.is_none() {
        let id = jobs.get(JOB)?.status.job_id.clone().context("a job has an id")?;
        arrives(cluster, namespace, &id)?;
    }
    check(&jobs, obstacle.is_none())?;
    say("all as the files say: docs/logging.md");
    Ok(())
}

/// Starts the collector; says why if its image cannot be had.
fn collector(cluster: &Cluster, namespace: &str) -> Result<Option<String>> {
    let objects = json!([
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": COLLECTOR},
            "spec": {"selector": {"app": COLLECTOR}, "ports": [{"port": PORT}]},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": COLLECTOR, "labels": {"app": COLLECTOR}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": COLLECTOR, "image": IMAGE,
                    "args": ["--input=splunk", format!("--prop=port={PORT}"), format!("--prop=splunk_token={TOKEN}"),
                        "--output=stdout", "--match=*", "--prop=format=json_lines", "--flush=1", "--quiet"],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }],
            },
        },
    ]);
    cluster.apply(namespace, &json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
    let obstacle = step("a collector that takes what Splunk would, if its image can be had", || {
        wait_for("the collector", PATIENCE, || {
            let mut get =
                cluster.kubectl(["--namespace", namespace, "get", "pod", COLLECTOR, "--output=json"]);
            Ok(verdict(&serde_json::from_str(&output(&mut get)?)?))
        })
    })?;
    if obstacle.is_some() {
        let collector = [format!("pod/{COLLECTOR}"), format!("service/{COLLECTOR}")];
        output(cluster.kubectl(["--namespace", namespace, "delete"]).args(collector))?;
    }
    Ok(obstacle)
}

/// Whether a pod is ready (nothing) or cannot have its image (why); nothing of both while that is open.
fn verdict(pod: &Value) -> Option<Option<String>> {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(ready)) {
        return Some(None);
    }
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let reason = waiting["reason"].as_str()?;
    let message = waiting["message"].as_str().unwrap_or(reason);
    reason.contains("Image").then(|| Some(message.to_owned()))
}

/// Tells the post's definition where the collector is, and submits a job of it.
fn submit(cluster: &Cluster, namespace: &str) -> Result<()> {
    let url = format!("http://{COLLECTOR}.{namespace}.svc:{PORT}");
    step(format!("{DEFINITION} logs to {url}, and {JOB} is a job of it"), || {
        let options = json!({"logConfiguration": {"options": {"splunk-url": url}}});
        let patch = json!({"spec": {"containerProperties": options}}).to_string();
        let mut kubectl = cluster.kubectl(["--namespace", namespace, "patch", "jobdefinition", DEFINITION]);
        output(kubectl.args(["--type=merge", "--patch", &patch]))?;
        let mut wait = cluster.kubectl(["--namespace", namespace, "wait", "jobdefinition", DEFINITION]);
        output(wait.args(["--for=jsonpath={.status.revision}=2", "--timeout=60s"]))?;
        let job = json!({
            "apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": JOB},
            "spec": {
                "jobQueue": "jq", "jobDefinition": DEFINITION, "retryStrategy": {"attempts": 2},
                "containerOverrides": {"command": ["sh", "-c", PROGRAM]},
            },
        });
        cluster.apply(namespace, &job)
    })
}

/// What became of each job's output, as its condition tells.
fn show_routes(cluster: &Cluster, namespace: &str) -> Result<()> {
    let routed = ".status.conditions[?(@.type==\"LogsRouted\")]";
    let columns = format!(
        "custom-columns=JOB:.metadata.name,PHASE:.status.phase,ROUTED:{routed}.status,WHERE OR WHY:{routed}.message"
    );
    println!("\n$ kubectl get batchjobs -o '{columns}'\n");
    let mut get = cluster.kubectl(["--namespace", namespace, "get", "batchjobs", "--output", &columns]);
    println!("{}", output(&mut get)?);
    Ok(())
}

/// A line at the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    job_id: String,
    job_name: String,
    attempt: String,
    text: String,
}

/// The events among what the collector printed.
fn lines(printed: &str) -> Vec<Line> {
    let line = |printed: &str| {
        let event = serde_json::from_str::<Value>(printed).ok()?["event"].take();
        let member = |name: &str| event[name].as_str().map(str::to_owned);
        Some(Line {
            job_id: member("job_id")?,
            job_name: member("job_name")?,
            attempt: member("attempt")?,
            text: member("line")?,
        })
    };
    printed.lines().filter_map(line).collect()
}

/// Waits until a line of each attempt is there, and shows them.
fn arrives(cluster: &Cluster, namespace: &str, id: &str) -> Result<()> {
    let ask = || output(&mut cluster.kubectl(["--namespace", namespace, "logs", COLLECTOR]));
    let arrived = step("a line of each attempt at the collector", || {
        wait_for("the lines", PATIENCE, || {
            let lines: Vec<Line> = lines(&ask()?).into_iter().filter(|line| line.job_id == id).collect();
            Ok((lines.len() >= 2).then_some(lines))
        })
    })?;
    println!("\n{:<36} {:<8} {:<8} LINE", "JOB ID", "JOB", "ATTEMPT");
    for Line { job_id, job_name, attempt, text } in &arrived {
        println!("{job_id:<36} {job_name:<8} {attempt:<8} {text}");
    }
    println!();
    let told: Vec<_> = arrived.iter().map(|line| (line.attempt.as_str(), line.text.as_str())).collect();
    match told.as_slice() {
        [("1", "hello from attempt 1"), ("2", "hello from attempt 2")] => Ok(()),
        other => bail!("that is not what should have arrived: {other:?}"),
    }
}

/// Fails if the jobs did not fare as the files say.
fn check(jobs: &Jobs, collected: bool) -> Result<()> {
    let done = |name: &str| jobs.get(name).map(|job| job.is("SUCCEEDED"));
    let refused = |name: &str, rule: &str| {
        jobs.get(name).map(|job| {
            let is_rule =
                job.reason().contains("ComputeEnvironment od-ce-policy") && job.reason().ends_with(rule);
            job.is("FAILED") && job.attempt() == 0 && is_rule
        })
    };
    let routed = |name: &str, status: &str, told: &str| {
        let is = |job: &Job| {
            let mut all = job.status.conditions.iter();
            all.any(|one| one.kind == "LogsRouted" && one.status == status && one.message.contains(told))
        };
        jobs.get(name).map(is)
    };
    let mut expectations = vec![
        ("test succeeds", done("test")?),
        ("splunk and splunk-secret succeed", done("splunk")? && done("splunk-secret")?),
        ("policy-env is allowed", done("policy-env")?),
        ("policy-splunk is refused", refused("policy-splunk", "log driver splunk; allowed: awslogs")?),
        (
            "policy-elsewhere is refused",
            refused("policy-elsewhere", "log group /aws/batch/job; allowed: /aws/batch/custom/*")?,
        ),
    ];
    if collected {
        let group = "log group /aws/batch/custom/env-queue, log stream alpine-env/default/";
        expectations.extend([
            ("hello succeeds by its second attempt", done(JOB)? && jobs.get(JOB)?.attempt() == 2),
            ("the output of hello is sent", routed(JOB, "True", "splunk")?),
            ("that of test is told where it goes", routed("test", "True", group)?),
        ]);
    } else {
        let why = "Log sidecar did not start within 60 s";
        expectations.push(("test ran without a sidecar and says why", routed("test", "False", why)?));
    }
    let missed: Vec<&str> =
        expectations.iter().filter(|(_, kept)| !kept).map(|(expected, _)| *expected).collect();
    if !missed.is_empty() {
        bail!("that is not what should have happened: {}", missed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_ready_or_lacks_its_image_or_neither_yet() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(verdict(&ready), Some(None));
        let waits =
            |waiting: Value| json!({"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}});
        assert_eq!(verdict(&waits(json!({"reason": "ContainerCreating"}))), None);
        let missing = waits(json!({"reason": "ErrImagePull", "message": "not found"}));
        assert_eq!(verdict(&missing), Some(Some("not found".to_owned())));
        assert_eq!(verdict(&json!({})), None);
    }

    #[test]
    fn events_are_found_among_what_a_collector_prints() {
        let event = json!({"date": 1.5, "event": {"job_id": "0f8b", "job_name": "hello", "attempt": "1", "line": "a b"}});
        let printed = format!("Fluent Bit v5\n{event}\n{{\"event\": \"raw\"}}\n");
        let found = lines(&printed);
        let text = |text: &str| text.to_owned();
        let want =
            Line { job_id: text("0f8b"), job_name: text("hello"), attempt: text("1"), text: text("a b") };
        assert_eq!(found, [want]);
    }
}
