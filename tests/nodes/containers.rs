//! Jobs of several containers: tasks and pods, with a real kubelet that starts and stops them.

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::BatchJob;
use batchyard_core::job::record::NamedOutcome;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::Case;
use crate::ends::{exit, failed, not_started, succeeded};
use crate::scenario::Scenario;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("task-whose-essential-container-ends", |scenario| Box::pin(essential_ends(scenario))),
        Case::story("task-with-an-order", |scenario| Box::pin(order(scenario))),
        Case::story("task-whose-order-cannot-be", |scenario| Box::pin(order_fails(scenario))),
        Case::story("task-with-a-start-timeout", |scenario| Box::pin(start_timeout(scenario))),
        Case::story("task-with-stop-timeouts", |scenario| Box::pin(stop_timeouts(scenario))),
        Case::story("task-on-every-node", |scenario| Box::pin(gang(scenario))),
        Case::story("pod-with-init-containers", |scenario| Box::pin(init_containers(scenario))),
        Case::story("pod-whose-init-container-fails", |scenario| Box::pin(init_fails(scenario))),
        Case::story("pod-that-ends-with-its-last-container", |scenario| Box::pin(joint(scenario))),
        Case::story("pod-that-shares-its-processes", |scenario| Box::pin(shared_processes(scenario))),
    ]
}

/// A program that ends well when it is asked to.
const SERVES: &str = "trap 'exit 0' TERM; sleep 600 & wait";

/// A container of a task; `also` is what else it says.
fn container(name: &str, program: &str, also: Value) -> Value {
    let mut container = json!({"name": name, "image": "alpine:latest", "command": ["sh", "-c", program],
        "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "32"}],
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}]});
    crate::scenario::merge(&mut container, &also);
    container
}

fn auxiliary(name: &str, program: &str, also: Value) -> Value {
    let mut container = container(name, program, also);
    container["essential"] = json!(false);
    container
}

/// A job of these containers, which share a folder.
fn task(containers: Vec<Value>) -> Value {
    json!({"ecsProperties": {"taskProperties": [{"containers": containers, "volumes": [{"name": "data"}]}]}})
}

/// A container of a pod.
fn in_pod(name: &str, program: &str) -> Value {
    json!({"name": name, "image": "alpine:latest", "command": ["sh"], "args": ["-c", program],
        "resources": {"limits": {"memory": "32Mi"}, "requests": {"cpu": "0.25"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]})
}

fn pod(properties: Value) -> Value {
    let mut whole = json!({"volumes": [{"name": "data", "emptyDir": {}}]});
    crate::scenario::merge(&mut whole, &properties);
    json!({"eksProperties": {"podProperties": whole}})
}

/// Name and exit code of each container in the last attempt.
fn codes(job: &BatchJob) -> Vec<(String, Option<i32>)> {
    let code = |outcome: &NamedOutcome| (outcome.name.clone(), outcome.exit_code);
    let last = job.status.iter().flat_map(|status| &status.record.attempts).next_back();
    last.map(|last| last.init_containers.iter().chain(&last.containers).map(code).collect())
        .unwrap_or_default()
}

fn are(job: &BatchJob, want: &[(&str, Option<i32>)]) -> Result<()> {
    let want: Vec<_> = want.iter().map(|(name, code)| ((*name).to_owned(), *code)).collect();
    ensure!(codes(job) == want, "its containers ended like {:?}, not like {want:?}", codes(job));
    Ok(())
}

/// Its end is the job's, and stops the others.
async fn essential_ends(scenario: &Scenario<'_>) -> Result<()> {
    let log = || auxiliary("log", SERVES, json!({}));
    scenario.submit("well", task(vec![container("app", "sleep 1", json!({})), log()])).await;
    scenario.submit("badly", task(vec![container("app", "sleep 1; exit 3", json!({})), log()])).await;
    // However late the node starts it, the helper has ended when the app does.
    let helper = auxiliary("helper", "touch /data/left; exit 7", json!({}));
    let app = "until [ -e /data/left ]; do sleep 1; done; sleep 1";
    scenario.submit("helped", task(vec![container("app", app, json!({})), helper])).await;
    let job = scenario.ends("well", &succeeded([exit(0)])).await?;
    are(&job, &[("app", Some(0)), ("log", None)])?;
    let by_rule = exit(3).failed_by_rule("attempts exhausted (1 of 1)");
    let job = scenario.ends("badly", &failed([by_rule])).await?;
    are(&job, &[("app", Some(3)), ("log", None)])?;
    let job = scenario.ends("helped", &succeeded([exit(0)])).await?;
    are(&job, &[("app", Some(0)), ("helper", Some(7))])
}

/// `fetch` fails, which COMPLETE does not mind; `check` succeeds after it; the app waits for both, and for a server that
/// goes on.
async fn order(scenario: &Scenario<'_>) -> Result<()> {
    let after = |list: &[(&str, &str)]| {
        let list =
            list.iter().map(|(name, condition)| json!({"containerName": name, "condition": condition}));
        json!({"dependsOn": list.collect::<Vec<_>>()})
    };
    let app = "[ \"$(cat /data/fetch /data/check)\" = \"$(printf 'fetched\\nchecked')\" ] || exit 1
        until [ -e /data/server ]; do sleep 1; done";
    let all = task(vec![
        container("app", app, after(&[("fetch", "COMPLETE"), ("check", "SUCCESS"), ("server", "START")])),
        auxiliary(
            "check",
            "[ -e /data/fetch ] && echo checked > /data/check",
            after(&[("fetch", "COMPLETE")]),
        ),
        auxiliary("fetch", "sleep 3; echo fetched > /data/fetch; exit 7", json!({})),
        auxiliary("server", &format!("touch /data/server; {SERVES}"), json!({})),
    ]);
    scenario.submit("job", all).await;
    let job = scenario.ends("job", &succeeded([exit(0)])).await?;
    are(&job, &[("fetch", Some(7)), ("check", Some(0)), ("server", None), ("app", Some(0))])
}

async fn order_fails(scenario: &Scenario<'_>) -> Result<()> {
    let after = json!({"dependsOn": [{"containerName": "fetch", "condition": "SUCCESS"}]});
    let all = task(vec![container("app", "true", after), auxiliary("fetch", "exit 5", json!({}))]);
    scenario.submit("job", all).await;
    let end = not_started("DependencyError: container app depends on fetch, which exited with 5");
    let end = end.failed_by_rule("attempts exhausted (1 of 1)");
    let job = scenario.ends("job", &failed([end])).await?;
    are(&job, &[("fetch", Some(5)), ("app", None)])
}

async fn start_timeout(scenario: &Scenario<'_>) -> Result<()> {
    let after = json!({"dependsOn": [{"containerName": "fetch", "condition": "COMPLETE"}]});
    let fetch = auxiliary("fetch", SERVES, json!({"startTimeout": 5}));
    scenario.submit("job", task(vec![container("app", "true", after), fetch])).await;
    let end = not_started("DependencyError: container app depends on fetch, which did not end within 5 s");
    let end = end.failed_by_rule("attempts exhausted (1 of 1)");
    scenario.ends("job", &failed([end])).await?;
    Ok(())
}

/// The pod has the longest of them; who does not listen is killed after it.
async fn stop_timeouts(scenario: &Scenario<'_>) -> Result<()> {
    let deaf = auxiliary("deaf", "trap '' TERM; while :; do sleep 1; done", json!({"stopTimeout": 2}));
    let app = container("app", "sleep 2", json!({"stopTimeout": 4}));
    scenario.submit("job", task(vec![app, deaf])).await;
    let job = scenario.ends("job", &succeeded([exit(0)])).await?;
    let attempt =
        job.status.and_then(|status| status.record.attempts.into_iter().next()).context("an attempt")?;
    let stopped_at = attempt.stopped_at.context("a time")?;
    scenario
        .pod_until(&attempt.pod_name, "to be stopped in full", |pod| {
            let killed = ended_at(pod, "deaf").map(|(code, at)| (code, at.duration_since(stopped_at)));
            let in_time = SignedDuration::from_secs(3)..SignedDuration::from_secs(20);
            killed.is_some_and(|(code, after)| code == 137 && in_time.contains(&after))
        })
        .await
}

fn ended_at(pod: &Pod, name: &str) -> Option<(i32, Timestamp)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses.iter().find(|status| status.name == name)?.state.as_ref()?.terminated.as_ref()?;
    Some((ended.exit_code, ended.finished_at.as_ref()?.0))
}

/// Tasks as the nodes of a multi-node job; their own order holds on each of them.
async fn gang(scenario: &Scenario<'_>) -> Result<()> {
    let after = json!({"dependsOn": [{"containerName": "prepare", "condition": "SUCCESS"}]});
    let app = container("app", "[ \"$(cat /data/index)\" = \"$AWS_BATCH_JOB_NODE_INDEX\" ]", after);
    let prepare = auxiliary("prepare", "echo $AWS_BATCH_JOB_NODE_INDEX > /data/index", json!({}));
    let mut range = task(vec![app, prepare]);
    range["targetNodes"] = json!("0:");
    let nodes = json!({"numNodes": 2, "mainNode": 1, "nodeRangeProperties": [range]});
    scenario.submit("job", json!({"nodeProperties": nodes})).await;
    let job = scenario.ends("job", &succeeded([exit(0)])).await?;
    are(&job, &[("prepare", Some(0)), ("app", Some(0))])
}

async fn init_containers(scenario: &Scenario<'_>) -> Result<()> {
    let first = in_pod("first", "echo a > /data/word");
    let second = in_pod("second", "echo b >> /data/word; sleep 1");
    let app =
        in_pod("app", "[ \"$(cat /data/word)\" = \"$(printf 'a\\nb')\" ] && [ -n \"$AWS_BATCH_JOB_ID\" ]");
    scenario.submit("job", pod(json!({"initContainers": [first, second], "containers": [app]}))).await;
    let job = scenario.ends("job", &succeeded([exit(0)])).await?;
    are(&job, &[("first", Some(0)), ("second", Some(0)), ("app", Some(0))])
}

async fn init_fails(scenario: &Scenario<'_>) -> Result<()> {
    let fetch = in_pod("fetch", "exit 9");
    scenario
        .submit("job", pod(json!({"initContainers": [fetch], "containers": [in_pod("app", "true")]})))
        .await;
    let end =
        exit(9).with_reason("init fetch").failed_by_rule("attempts exhausted (1 of 1)").before_its_own_ran();
    let job = scenario.ends("job", &failed([end])).await?;
    are(&job, &[("fetch", Some(9)), ("app", None)])
}

/// One fails early; the others go on, and its code counts in the end.
async fn joint(scenario: &Scenario<'_>) -> Result<()> {
    let all =
        json!([in_pod("a", "exit 4"), in_pod("b", "sleep 4; echo done > /data/b"), in_pod("c", "exit 0")]);
    scenario.submit("job", pod(json!({"containers": all}))).await;
    let job = scenario.ends("job", &failed([exit(4).failed_by_rule("attempts exhausted (1 of 1)")])).await?;
    are(&job, &[("a", Some(4)), ("b", Some(0)), ("c", Some(0))])
}

/// One container ends a process of the other.
async fn shared_processes(scenario: &Scenario<'_>) -> Result<()> {
    let works = in_pod("works", "sleep 4321; exit 0");
    let looks = "until pid=$(ps -o pid,args | grep '[s]leep 4321' | grep -v sh | awk '{print $1; exit}') && \
                 [ -n \"$pid\" ]; do sleep 1; done; kill $pid";
    let looks = in_pod("looks", looks);
    scenario.submit("job", pod(json!({"shareProcessNamespace": true, "containers": [works, looks]}))).await;
    let job = scenario.ends("job", &succeeded([exit(0)])).await?;
    are(&job, &[("works", Some(0)), ("looks", Some(0))])
}
