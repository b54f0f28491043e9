//! Interactive sessions: a real HTTPS client connects to a real container by the URL that the job's status tells.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::BatchJob;
use batchyard_core::job::rules;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use xtask::process::{command, output};

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, failed};
use crate::scenario::{PATIENCE, Scenario};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("session-at-its-node", |scenario| Box::pin(at_its_node(scenario))).local_only(),
        Case::story("session-by-a-service", |scenario| Box::pin(by_a_service(scenario))).local_only(),
        Case::story("session-that-nobody-uses", |scenario| Box::pin(idle(scenario))).local_only(),
    ]
}

/// A job that is a session of our test image, with this session and these other members.
fn session(session: Value, more: Value) -> Value {
    let mut all = json!({"port": 8443, "readinessProbe": {"httpGet": {}, "periodSeconds": 1}});
    crate::scenario::merge(&mut all, &session);
    let environment = json!([{"name": "SESSION_DELAY", "value": "2s"}]);
    let container =
        json!({"image": "batchyard/session:1", "vcpus": 1, "memory": 64, "environment": environment});
    let mut job = json!({"containerProperties": container, "session": all});
    crate::scenario::merge(&mut job, &more);
    job
}

/// `status.session.url`, once it is told.
pub(crate) async fn url(scenario: &Scenario<'_>, name: &str) -> Result<String> {
    let of = |job: &BatchJob| job.status.as_ref()?.session.as_ref()?.url.clone();
    let job = scenario.until(name, "a session's URL", |job| of(job).is_some()).await?;
    of(&job).context("it has one")
}

/// What a client gets that does not care who signed the certificate.
fn get(url: &str) -> Result<String> {
    let mut curl = command(Path::new("curl"), ["--insecure", "--silent", "--show-error", "--fail"]);
    tokio::task::block_in_place(|| output(curl.args(["--max-time", "5", url])))
}

/// Two sessions with one port are on two nodes, each at the node's address, and a third one waits.
async fn at_its_node(scenario: &Scenario<'_>) -> Result<()> {
    let mut urls = Vec::new();
    for name in ["first", "second"] {
        scenario.submit(name, session(json!({}), json!({}))).await;
        let url = url(scenario, name).await?;
        let id = scenario.api::<BatchJob>().get(name).await?.uid().context("a uid")?;
        let said = get(&url)?;
        ensure!(said == format!("the session of job {id}\n"), "{url} said {said:?}");
        urls.push(url);
    }
    ensure!(urls[0] != urls[1], "both are at {urls:?}");
    scenario.submit("third", session(json!({}), json!({}))).await;
    let waits = |job: &BatchJob| {
        let reason = job.status.as_ref().and_then(|status| status.record.status_reason.as_deref());
        reason.is_some_and(|reason| reason.starts_with("Waiting for port 8443 of a node"))
    };
    scenario.until("third", "to wait for a port", waits).await?;
    for name in ["first", "second", "third"] {
        scenario.change(name, json!({"terminate": "enough"})).await?;
    }
    for name in ["first", "second"] {
        let gone = |job: &BatchJob| {
            let status = job.status.clone().unwrap_or_default();
            status.record.phase().is_terminal() && status.session.is_some_and(|session| session.url.is_none())
        };
        scenario.until(name, "to end without a URL", gone).await?;
    }
    ensure!(get(&urls[0]).is_err(), "nobody answers at {}", urls[0]);
    Ok(())
}

/// A Service leads to a session in a pod's network, and is gone with it.
async fn by_a_service(scenario: &Scenario<'_>) -> Result<()> {
    scenario.queue("open", json!({"sessions": {"objects": ["Service"]}})).await?;
    let address = json!({"address": {"type": "Service", "serviceType": "NodePort"}});
    scenario.submit("job", session(address, json!({"jobQueue": "open"}))).await;
    let url = url(scenario, "job").await?;
    let services = scenario.api::<Service>();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=batchyard");
    ensure!(services.list(&ours).await?.items.len() == 1, "one Service");
    // kube-proxy may take a moment.
    answer("the session by its Service", PATIENCE, || async { Ok(get(&url).ok()) }).await?;
    scenario.change("job", json!({"terminate": "enough"})).await?;
    let ended = |job: &BatchJob| job.status.as_ref().is_some_and(|s| s.record.phase().is_terminal());
    scenario.until("job", "to end", ended).await?;
    answer("no Service", PATIENCE, || async {
        Ok(services.list(&ours).await?.items.is_empty().then_some(()))
    })
    .await
}

/// Somebody who stays connected, until this is dropped.
struct Visitor(Child);

impl Visitor {
    fn at(url: &str) -> Result<Self> {
        let mut curl = Command::new("curl");
        curl.args(["--insecure", "--silent", "--no-buffer", &format!("{url}stay")]);
        Ok(Self(curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session goes on while somebody is connected, and ends a minute after they left. It is not retried.
async fn idle(scenario: &Scenario<'_>) -> Result<()> {
    let probe = json!({"httpGet": {"path": "/connected"}, "periodSeconds": 1, "failureThreshold": 1});
    let at_pod = json!({"idleTimeoutSeconds": 60, "idleProbe": probe, "address": {"type": "PodIP"}});
    scenario.submit("job", session(at_pod, json!({"retryStrategy": {"attempts": 3}}))).await;
    let visitor = Visitor::at(&url(scenario, "job").await?)?;
    let is_ready = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
        statuses.is_some_and(|statuses| statuses.iter().any(|status| status.ready))
    };
    answer("the idle probe to see the visitor", PATIENCE, || async {
        let pods = scenario.api::<Pod>().list(&ListParams::default()).await?.items;
        Ok(pods.iter().any(is_ready).then_some(()))
    })
    .await?;
    let job = scenario.api::<BatchJob>().get("job").await?;
    ensure!(job.status.is_some_and(|status| status.record.intent.is_none()), "it goes on");
    drop(visitor);
    let why = "Session idle: nobody was connected for 60 seconds";
    let ends = failed([exit(0).because(why).failed_by_rule(rules::IDLE)]);
    scenario.ends("job", &ends).await.map(drop)
}
