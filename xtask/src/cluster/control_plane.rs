//! etcd, API server, controller manager, scheduler, kwok and Karpenter: processes of this machine.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::local::Local;
use super::pki::kubeconfig_path;
use super::state::{MARK, write_atomically};
use super::{dns, karpenter, registry, repository};
use crate::process::{Process, output, spawn_daemon, tail, wait_until};

/// A node that has not been heard of for this long is NotReady. Kubernetes waits 50 s; tests
/// switch nodes off again and again. Nodes renew their lease every quarter of [`NODE_LEASE`].
pub(crate) const NODE_GRACE: &str = "12s";

/// The duration of a node's lease in seconds (Kubernetes: 40).
pub(crate) const NODE_LEASE: u32 = 8;

/// From so many fake nodes on the two are as in Kubernetes: nobody switches these off, and their leases alone would keep
/// the API server busy.
const MANY_NODES: u32 = 10;

/// How long a node may be silent, and the duration of its lease in seconds.
fn node_patience(local: &Local) -> (&'static str, u32) {
    if local.state.kwok_nodes < MANY_NODES { (NODE_GRACE, NODE_LEASE) } else { ("50s", 40) }
}

/// How long a component may take to answer, on a machine that compiles at the same time.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Starts a component unless it runs, and remembers its process.
pub(crate) fn ensure(local: &mut Local, component: &str) -> Result<()> {
    if local.runs(component) {
        return Ok(());
    }
    fs::create_dir_all(local.folder.join("log"))?;
    let mut command = match component {
        "etcd" => etcd(local)?,
        "kube-apiserver" => api_server(local)?,
        "kube-controller-manager" => controller_manager(local)?,
        "kube-scheduler" => scheduler(local)?,
        "registry" => registry::command(local)?,
        dns::NAME => dns::command(local)?,
        "kwok" => kwok(local)?,
        "karpenter" => karpenter::command(local)?,
        _ => bail!("there is no component {component}"),
    };
    command.env(MARK, &local.state.name).current_dir(local.folder.path());
    let process = spawn_daemon(&mut command, &local.folder.log(component))?;
    local.remember(component, process)
}

/// Waits until `ready` holds, and quotes the component's log if it ends or takes too long.
pub(crate) fn await_component(local: &Local, component: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let process = local.state.processes.get(component).copied();
    let waited = wait_until(&format!("{component} to be ready"), START_DEADLINE, || {
        if ready() {
            return Ok(true);
        }
        if !process.is_some_and(Process::is_alive) {
            bail!("{component} has ended");
        }
        Ok(false)
    });
    let log = local.folder.log(component);
    waited.with_context(|| format!("last lines of {}:\n{}", log.display(), tail(&log, 15)))
}

/// Waits for the API server.
pub(crate) fn await_api(local: &Local) -> Result<()> {
    await_component(local, "kube-apiserver", || api_is_ready(local))
}

/// Waits until pods can be made: each needs a service account, which a controller makes first.
pub(crate) fn await_service_account(local: &Local) -> Result<()> {
    await_component(local, "kube-controller-manager", || {
        local
            .kubectl(["get", "serviceaccount", "default", "--namespace=default"])
            .is_ok_and(|mut command| output(&mut command).is_ok())
    })
}

/// Whether the API server says that it is ready.
pub(crate) fn api_is_ready(local: &Local) -> bool {
    let ready = |command: &mut Command| output(command).is_ok_and(|text| text.trim() == "ok");
    local
        .kubectl(["get", "--raw=/readyz", "--request-timeout=5s"])
        .is_ok_and(|mut command| ready(&mut command))
}

fn kubernetes(local: &Local, component: &str, flags: &[String]) -> Result<Command> {
    let mut command = Command::new(local.tools.program("kubernetes")?);
    command.arg(component).args(flags);
    Ok(command)
}

fn etcd(local: &Local) -> Result<Command> {
    // A loopback address: no pod can reach it, so it needs no certificates.
    let (client, peer) = (etcd_url(local), format!("http://{}:2380", local.state.net.loopback()));
    let flags = [
        "--name=etcd".to_owned(),
        format!("--data-dir={}", local.folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=etcd={peer}"),
        "--log-level=warn".to_owned(),
        // This data need not survive a power cut, and CI's disks are slow.
        "--unsafe-no-fsync".to_owned(),
    ];
    kubernetes(local, "etcd", &flags)
}

fn etcd_url(local: &Local) -> String {
    format!("http://{}:2379", local.state.net.loopback())
}

fn api_server(local: &Local) -> Result<Command> {
    let (net, pki) = (local.state.net, local.pki());
    let file = |name: &str| pki.join(name).display().to_string();
    write_audit_policy(local)?;
    let flags = [
        format!("--etcd-servers={}", etcd_url(local)),
        format!("--bind-address={}", net.host()),
        format!("--advertise-address={}", net.host()),
        "--secure-port=6443".to_owned(),
        format!("--service-cluster-ip-range={}", net.services()),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("apiserver-to-kubelet.crt")),
        format!("--kubelet-client-key={}", file("apiserver-to-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        // Aggregated APIs: how the API server proves that it asks for somebody, and says for whom.
        // It calls the pods themselves, since not every cluster here has a kube-proxy.
        "--enable-aggregator-routing=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy.key")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", local.folder.join("audit-policy.json").display()),
        format!("--audit-log-path={}", local.audit_log().display()),
        // Who counts writes reads on from a place in this one file: it is not turned over, in megabytes.
        "--audit-log-maxsize=100000".to_owned(),
    ];
    kubernetes(local, "kube-apiserver", &flags)
}

/// One line per finished request with its user, user agent, verb and object: enough to count
/// writes by who made them.
fn write_audit_policy(local: &Local) -> Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    });
    write_atomically(&local.folder.join("audit-policy.json"), &policy.to_string())
}

fn controller_manager(local: &Local) -> Result<Command> {
    let pki = local.pki();
    let kubeconfig = kubeconfig_path(&pki, "kube-controller-manager").display().to_string();
    let flags = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--bind-address={}", local.state.net.loopback()),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", pki.join("service-accounts.key").display()),
        format!("--root-ca-file={}", pki.join("ca.crt").display()),
        "--leader-elect=false".to_owned(),
        format!("--node-monitor-grace-period={}", node_patience(local).0),
        "--node-monitor-period=2s".to_owned(),
        // The default limits (20 a second) are for large shared clusters; here they would only
        // delay the start, and make a benchmark measure them instead of the controllers.
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=600".to_owned(),
    ];
    kubernetes(local, "kube-controller-manager", &flags)
}

fn scheduler(local: &Local) -> Result<Command> {
    let kubeconfig = kubeconfig_path(&local.pki(), "kube-scheduler").display().to_string();
    let flags = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--bind-address={}", local.state.net.loopback()),
        "--leader-elect=false".to_owned(),
        // As for the controller manager.
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=600".to_owned(),
    ];
    kubernetes(local, "kube-scheduler", &flags)
}

/// kwok plays the kubelet of every node that has the annotation of [`super::kwok`].
fn kwok(local: &Local) -> Result<Command> {
    let net = local.state.net;
    let mut command = Command::new(local.tools.program("kwok")?);
    command.args([
        format!("--kubeconfig={}", kubeconfig_path(&local.pki(), "kwok").display()),
        format!("--config={}", repository()?.join("tests/cluster/kwok-stages.yaml").display()),
        "--manage-all-nodes=false".to_owned(),
        format!("--manage-nodes-with-annotation-selector={}", super::kwok::ANNOTATION),
        format!("--cidr={}", net.fake_pods()),
        format!("--node-ip={}", net.host()),
        // Renewed every quarter of it; this is well below the controller manager's patience.
        format!("--node-lease-duration-seconds={}", node_patience(local).1),
    ]);
    Ok(command)
}
