//! Real nodes: each is a set of namespaces with containerd, kubelet and kube-proxy in them.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::cgroup;
use super::control_plane::NODE_LEASE;
use super::local::Local;
use super::network::Net;
use super::state::{MARK, write_atomically};
use crate::process::{Process, output, processes, spawn_daemon, tail, wait_until};

/// A node as a cloud would describe it. `kind-config.yaml` has the same ones.
#[derive(Debug)]
pub(crate) struct NodeSpec {
    /// The name of the Node object.
    pub(crate) name: &'static str,
    /// How many CPUs it claims, more than the machine has if need be.
    pub(crate) cpus: u32,
    /// Labels besides the kubelet's own.
    pub(crate) labels: &'static [(&'static str, &'static str)],
    /// `spec.providerID`, where the operator finds the instance id.
    pub(crate) provider_id: &'static str,
}

const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The nodes of the full profile: on-demand, where the operator lives, and two spot nodes that
/// say so by the labels of two different vendors.
pub(crate) const NODES: &[NodeSpec] = &[
    NodeSpec {
        name: "batchyard-control",
        cpus: 4,
        labels: &[
            ("batchyard.io/system", "true"),
            (INSTANCE_TYPE, "m5.xlarge"),
            ("eks.amazonaws.com/capacityType", "ON_DEMAND"),
        ],
        provider_id: "aws:///eu-west-1a/i-0c0c0c0c0c0c0c0c0",
    },
    NodeSpec {
        name: "batchyard-spot-1",
        cpus: 4,
        labels: &[("karpenter.sh/capacity-type", "spot"), (INSTANCE_TYPE, "m5.xlarge")],
        provider_id: "aws:///eu-west-1a/i-0aaaaaaaaaaaaaaa1",
    },
    NodeSpec {
        name: "batchyard-spot-2",
        cpus: 8,
        labels: &[("eks.amazonaws.com/capacityType", "SPOT"), (INSTANCE_TYPE, "m5.2xlarge")],
        provider_id: "aws:///eu-west-1b/i-0aaaaaaaaaaaaaaa2",
    },
];

/// How long a node may take to be Ready.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// A node of this name, with its number.
pub(crate) fn find(name: &str) -> Result<(u8, &'static NodeSpec)> {
    let position = NODES.iter().position(|node| node.name == name).with_context(|| {
        let names: Vec<&str> = NODES.iter().map(|node| node.name).collect();
        format!("there is no node {name}; the nodes are {}", names.join(", "))
    })?;
    Ok((u8::try_from(position)?, &NODES[position]))
}

/// Powers a node on, unless it is on; in any case its cable is plugged in afterwards.
pub(crate) fn power_on(local: &mut Local, name: &str) -> Result<()> {
    let (index, spec) = find(name)?;
    if local.runs(name) {
        return local.state.net.set_cable(index, true);
    }
    let folder = folder(local, name);
    fs::create_dir_all(folder.join("log"))?;
    write_configuration(local, spec, index)?;
    cgroup::make(&cgroup_of(local, name))?;

    let script = folder.join("boot.sh");
    fs::write(&script, include_str!("boot.sh"))?;
    let mut command = Command::new("unshare");
    // Should the parent die, the kernel kills the node's process 1 and thereby the node.
    command.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg("bash").arg(script).envs(environment(local, spec, index)?).env(MARK, &local.state.name);
    let process = spawn_daemon(&mut command, &folder.join("log/boot.log"))?;
    local.remember(name, process)?;

    let own = namespace(&std::process::id().to_string(), "net");
    wait_until(&format!("{name} to have a network namespace"), Duration::from_secs(10), || {
        if !process.is_alive() {
            bail!("{name} did not boot:\n{}", tail(&folder.join("log/boot.log"), 15));
        }
        Ok(namespace(&process.pid.to_string(), "net").is_some_and(|theirs| Some(theirs) != own))
    })?;
    local.state.net.plug(index, process.pid)
}

/// Pulls the plug: everything on the node dies by SIGKILL at the same moment. The Node object,
/// the disks and the state of its pods in the API server stay.
pub(crate) fn power_off(local: &mut Local, name: &str) -> Result<()> {
    let Some(process) = local.state.processes.get(name).copied() else { return Ok(()) };
    kill(process).with_context(|| format!("cannot power {name} off"))?;
    local.forget(name)
}

/// Kills a node by its recorded process (or any other process), and waits until all is dead.
pub(crate) fn kill(process: Process) -> Result<()> {
    let inhabitants = members(process);
    process.signal(Signal::SIGKILL);
    wait_until("everything on the node to be dead", Duration::from_secs(30), || {
        inhabitants.iter().for_each(|inhabitant| inhabitant.signal(Signal::SIGKILL));
        Ok(!process.is_alive() && !inhabitants.iter().any(|inhabitant| inhabitant.is_alive()))
    })
}

/// All processes on a node, those in containers (namespaces within its own) included.
pub(crate) fn members(process: Process) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut fresh = vec![process.pid];
    let all: Vec<(Process, i32)> =
        processes(|_| true).into_iter().filter_map(|each| Some((each, parent(each.pid)?))).collect();
    while !fresh.is_empty() {
        let children = all.iter().filter(|(_, parent)| fresh.contains(parent)).map(|(child, _)| *child);
        let children: Vec<Process> = children.collect();
        fresh = children.iter().map(|child| child.pid).collect();
        found.extend(children);
    }
    found
}

/// Orphans in a pid namespace are children of its process 1, so parents lead to all members.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Waits until the kubelet of a node that was just powered on answers. Its Node object may still
/// say Ready from before, so only this tells that the node is back.
pub(crate) fn await_kubelet(local: &Local, name: &str) -> Result<()> {
    let (index, _) = find(name)?;
    let address = format!("{}:10250", local.state.net.node(index)).parse().context("a kubelet's address")?;
    await_node(local, name, &format!("the kubelet of {name} to answer"), || {
        Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    })
}

/// Waits until these nodes are Ready.
pub(crate) fn await_ready(local: &Local, names: &[&str]) -> Result<()> {
    let condition = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    names.iter().try_for_each(|name| {
        await_node(local, name, &format!("{name} to be Ready"), || {
            Ok(output(&mut local.kubectl(["get", "node", name, condition])?).is_ok_and(|text| text == "True"))
        })
    })
}

/// Waits for something about a node; a failure quotes its logs.
fn await_node(local: &Local, name: &str, what: &str, ready: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_until(what, READY_DEADLINE, ready).with_context(|| {
        let log = |file: &str| tail(&folder(local, name).join("log").join(file), 8);
        format!("logs of {name}: boot\n{}\nkubelet\n{}", log("boot.log"), log("kubelet.log"))
    })
}

/// Where a node's files are.
pub(crate) fn folder(local: &Local, name: &str) -> PathBuf {
    local.folder.join("nodes").join(name)
}

fn namespace(pid: &str, kind: &str) -> Option<u64> {
    namespace_of(&Path::new("/proc").join(pid), kind)
}

/// The inode of a namespace, which is its identity.
fn namespace_of(process: &Path, kind: &str) -> Option<u64> {
    fs::metadata(process.join("ns").join(kind)).ok().map(|file| file.ino())
}

fn environment(local: &Local, spec: &NodeSpec, index: u8) -> Result<Vec<(&'static str, String)>> {
    let net = local.state.net;
    let labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let others = (0..u8::try_from(NODES.len())?).filter(|other| *other != index);
    let peers: Vec<String> = others.map(|other| format!("{}={}", net.pods(other), net.node(other))).collect();
    Ok(vec![
        ("NAME", spec.name.to_owned()),
        ("ADDRESS", net.node(index)),
        ("GATEWAY", net.host()),
        ("SERVICES", net.services()),
        ("PEERS", peers.join(" ")),
        ("CPUS", spec.cpus.to_string()),
        ("LABELS", labels.join(",")),
        ("NODE_DIR", folder(local, spec.name).display().to_string()),
        ("PKI_DIR", local.pki().display().to_string()),
        ("TOOLS_DIR", local.tools.root().display().to_string()),
        ("TOOLS_PATH", local.tools.search_path("/run/batchyard/tools")),
    ])
}

fn write_configuration(local: &Local, spec: &NodeSpec, index: u8) -> Result<()> {
    let net = local.state.net;
    let etc = folder(local, spec.name).join("etc");
    fs::create_dir_all(etc.join("cni"))?;
    fs::create_dir_all(etc.join("certs.d/_default"))?;
    let files = [
        ("kubelet.json", pretty(&kubelet(net, spec, index, &cgroup_of(local, spec.name)))),
        ("kube-proxy.json", pretty(&kube_proxy(net))),
        ("cni/10-batchyard.conflist", pretty(&cni(net, index))),
        ("containerd.toml", CONTAINERD.replace("REGISTRY", &net.registry())),
        ("certs.d/_default/hosts.toml", HOSTS.replace("REGISTRY", &net.registry())),
        ("resolv.conf", "# Nodes ask no name server; pods ask that of the cluster.\n".to_owned()),
    ];
    for (name, text) in files {
        write_atomically(&etc.join(name), &text)?;
    }
    Ok(())
}

/// Makes all nodes ask another address for images of one registry. containerd looks at each pull.
pub(crate) fn redirect_pulls(local: &Local, registry: &str, address: &str) -> Result<()> {
    for node in NODES {
        let certs = folder(local, node.name).join("etc/certs.d").join(registry);
        fs::create_dir_all(&certs)?;
        write_atomically(&certs.join("hosts.toml"), &HOSTS.replace("REGISTRY", address))?;
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// The container runtime. Without the right to lower oom_score_adj (CAP_SYS_RESOURCE) every
/// container would fail to start, hence `restrict_oom_score_adj`.
const CONTAINERD: &str = r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "docker.io/batchyard/pause:1"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "/run/batchyard/node/etc/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/run/batchyard/node/etc/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"#;

/// Whatever registry an image name says, the local one is asked and no other.
const HOSTS: &str = r#"server = "http://REGISTRY"

[host."http://REGISTRY"]
capabilities = ["pull", "resolve"]
"#;

fn kubelet(net: Net, spec: &NodeSpec, index: u8, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": net.node(index),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/run/batchyard/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "clusterDNS": [net.name_server()],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": [],
        // The machine's disk and memory are shared with compilers; a node must not evict for it.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        // An operator that a test killed comes back at once, however often others were killed before.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        // As on every real node, what jobs can have is less than the instance type promises.
        "kubeReserved": {"cpu": "100m", "memory": "256Mi"},
        "nodeLeaseDurationSeconds": NODE_LEASE,
        "nodeStatusUpdateFrequency": "3s",
        "oomScoreAdj": 0,
        "providerID": spec.provider_id,
        "resolvConf": "/run/batchyard/node/etc/resolv.conf",
        "serializeImagePulls": false,
    })
}

fn kube_proxy(net: Net) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": "/run/batchyard/pki/kube-proxy.kubeconfig"},
        "mode": "iptables",
        "clusterCIDR": net.all_pods(),
        "oomScoreAdj": 0,
        // Zero leaves the machine's settings for connection tracking as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

/// Point-to-point links instead of a bridge: a pod that calls a service whose endpoint is on its
/// own node would, over a bridge, get the answer past the rules that rewrite addresses.
fn cni(net: Net, index: u8) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "batchyard",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": net.pods(index)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/run/cni-addresses",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The cgroup that all pods of a node are below.
fn cgroup_of(local: &Local, node: &str) -> String {
    format!("{}/{node}", local.cgroup())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_config_describes_the_same_nodes() {
        let config = include_str!("../../../kind-config.yaml");
        let nodes: Vec<&str> = config.split("- role:").skip(1).collect();
        assert_eq!(nodes.len(), NODES.len());
        for (spec, text) in NODES.iter().zip(nodes) {
            for (key, value) in spec.labels {
                let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
                assert_eq!(line.map(|line| line.trim_matches('"')), Some(*value), "{key} of {}", spec.name);
            }
        }
    }
}
