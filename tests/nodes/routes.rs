//! Sessions behind a real controller of Ingresses and of the Gateway API: Traefik, where `BATCHYARD_TRAEFIK` names the
//! program and `BATCHYARD_GATEWAY_API` the file with the API's kinds. It runs on this machine and leads to pods by their
//! addresses.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::BatchJob;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use xtask::process::{Process, command, output, spawn_daemon};

use crate::Case;
use crate::cluster::answer;
use crate::scenario::{PATIENCE, Scenario, merge};
use crate::sessions::url;
use crate::support::client::kubeconfig;
use crate::support::program::free_address;

/// The variable that names the program.
const TRAEFIK: &str = "BATCHYARD_TRAEFIK";
/// The variable that names the kinds of the Gateway API.
const KINDS: &str = "BATCHYARD_GATEWAY_API";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("session-behind-a-controller", |scenario| Box::pin(behind(scenario)))
            .alone()
            .needs_part(TRAEFIK),
    ]
}

/// The controller; it ends with this value.
struct Traefik {
    process: Process,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Traefik {
    async fn start(scenario: &Scenario<'_>) -> Result<Self> {
        let host = scenario.cluster.own_address().await?;
        let address = || SocketAddr::new(host, free_address().port());
        let (plain, tls) = (address(), address());
        let mut program = command(std::env::var_os(TRAEFIK).context(TRAEFIK)?, ["--log.level=INFO"]);
        program.args([
            format!("--entryPoints.web.address={plain}"),
            format!("--entryPoints.websecure.address={tls}"),
        ]);
        // The certificates of the tests' containers are their own.
        program.args(["--serversTransport.insecureSkipVerify=true", "--entryPoints.websecure.http.tls=true"]);
        program.args(["--providers.kubernetesIngress=true", "--providers.kubernetesGateway=true"]);
        program.args([
            "--providers.kubernetesGateway.experimentalChannel=true",
            "--global.checkNewVersion=false",
        ]);
        program.args(["--global.sendAnonymousUsage=false"]).env("KUBECONFIG", kubeconfig());
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("traefik.log");
        Ok(Self { process: spawn_daemon(&mut program, &log)?, plain, tls })
    }

    /// What somebody gets at a URL, whose name leads to the controller.
    fn get(&self, url: &str) -> Result<String> {
        let address = if url.starts_with("https:") { self.tls } else { self.plain };
        let mut curl =
            command("curl", ["--insecure", "--silent", "--show-error", "--fail", "--max-time", "5"]);
        curl.args(["--connect-to", &format!("::{address}"), url]);
        tokio::task::block_in_place(|| output(&mut curl))
    }
}

impl Drop for Traefik {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// By an Ingress and by a route of each kind: people get to the container, and no longer when the session has ended.
async fn behind(scenario: &Scenario<'_>) -> Result<()> {
    let kinds = std::env::var(KINDS).context(KINDS)?;
    let kubectl = |args: &[&str]| {
        let mut kubectl = scenario.cluster.cluster.kubectl(args.iter().copied());
        tokio::task::block_in_place(|| output(&mut kubectl))
    };
    kubectl(&["apply", "--server-side", "-f", &kinds])?;
    scenario.cluster.install(&json!({"rbac": {"sessionIngresses": true, "sessionRoutes": true}})).await?;
    let traefik = Traefik::start(scenario).await?;
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "traefik"}, "spec": {"controllerName": "traefik.io/gateway-controller"}});
    let listeners = json!([
        {"name": "plain", "protocol": "HTTP", "port": traefik.plain.port()},
        {"name": "tls", "protocol": "TLS", "port": traefik.tls.port(), "tls": {"mode": "Passthrough"}}]);
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "door", "namespace": scenario.namespace},
        "spec": {"gatewayClassName": "traefik", "listeners": listeners}});
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [class, gateway]});
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gateway.json");
    std::fs::write(&file, both.to_string())?;
    kubectl(&["apply", "-f", file.to_str().context("a path")?])?;
    let sessions = json!({"objects": ["Ingress", "Gateway"], "hosts": ["*.{namespace}.desk.test"]});
    scenario.queue("routed", json!({"sessions": sessions})).await?;
    let outcome = each_way(scenario, &traefik).await;
    kubectl(&["delete", "-f", file.to_str().context("a path")?])?;
    kubectl(&["delete", "-f", &kinds])?;
    scenario.cluster.install(&json!({})).await?;
    outcome
}

async fn each_way(scenario: &Scenario<'_>, traefik: &Traefik) -> Result<()> {
    let own = json!({"containerProperties": {"image": "batchyard/session:1", "vcpus": 1, "memory": 64},
        "session": {"port": 8443}});
    let page = "mkdir /tmp/www && echo plain > /tmp/www/index.html && httpd -f -p 8080 -h /tmp/www";
    let plain = json!({"containerProperties": {"image": "alpine:latest", "vcpus": 1, "memory": 64,
        "command": ["sh", "-c", page]}, "session": {"port": 8080, "scheme": "http"}});
    let at = |section: &str| json!({"type": "Gateway", "gateway": {"name": "door", "sectionName": section}});
    for (name, job, address) in [
        ("ingress", &own, json!({"type": "Ingress"})),
        ("tls-route", &own, at("tls")),
        ("http-route", &plain, at("plain")),
    ] {
        reached(scenario, traefik, name, job, address).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// A session of this job is reached by its URL until it ends.
async fn reached(
    scenario: &Scenario<'_>,
    traefik: &Traefik,
    name: &str,
    job: &Value,
    address: Value,
) -> Result<()> {
    let mut job = job.clone();
    let host = "{jobName}.{namespace}.desk.test";
    merge(
        &mut job,
        &json!({"jobQueue": "routed", "session": {"address": address,
        "readinessProbe": {"tcpSocket": {}, "periodSeconds": 1}}}),
    );
    merge(&mut job["session"]["address"], &json!({"host": host}));
    scenario.submit(name, job).await;
    let url = url(scenario, name).await?;
    ensure!(url.contains(&format!("://{name}.{}.desk.test", scenario.namespace)), "{url}");
    let said = answer("the session by its URL", PATIENCE, || async { Ok(traefik.get(&url).ok()) }).await?;
    let expected = match name {
        "http-route" => "plain\n".to_owned(),
        _ => {
            let id = scenario.api::<BatchJob>().get(name).await?.uid().context("a uid")?;
            format!("the session of job {id}\n")
        }
    };
    ensure!(said == expected, "{url} said {said:?}");
    scenario.change(name, json!({"terminate": "enough"})).await?;
    let ended = |job: &BatchJob| job.status.as_ref().is_some_and(|s| s.record.phase().is_terminal());
    scenario.until(name, "to end", ended).await?;
    answer("no way to the session", PATIENCE, || async { Ok(traefik.get(&url).is_err().then_some(())) }).await
}
