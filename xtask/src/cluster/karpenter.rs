//! Karpenter on fake nodes: the real Karpenter, whose cloud is kwok. It makes Node objects as a cloud
//! makes machines, and kwok plays their kubelets.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::control_plane::ensure;
use super::local::Local;
use super::pki::kubeconfig_path;
use super::tools;
use crate::process::output;

/// The KWOKNodeClass that a cluster has from the start; its group is `karpenter.kwok.sh`.
pub const NODE_CLASS: &str = "default";

/// The machines that there are: name, vCPUs, GiB of memory, dollars an hour on demand in Ireland.
/// Those of the posts, whose order by price decides what Karpenter takes.
const MACHINES: [(&str, u32, u32, f64); 6] = [
    ("m5.xlarge", 4, 16, 0.214),
    ("m5.2xlarge", 8, 32, 0.428),
    ("m4.xlarge", 4, 16, 0.222),
    ("m4.2xlarge", 8, 32, 0.444),
    ("m5a.xlarge", 4, 16, 0.192),
    ("m5a.2xlarge", 8, 32, 0.384),
];
/// What a spot machine costs of its price on demand.
const SPOT_SHARE: f64 = 0.4;
/// Where they are.
const ZONES: [&str; 2] = ["eu-west-1a", "eu-west-1b"];

/// The definitions of Karpenter's kinds, as published with the version that runs here.
///
/// # Errors
/// When Go cannot fetch the module.
pub fn crds() -> Result<Vec<PathBuf>> {
    let module = tools::source(tools::KARPENTER)?;
    Ok(vec![
        module.join("pkg/apis/crds/karpenter.sh_nodeclaims.yaml"),
        module.join("pkg/apis/crds/karpenter.sh_nodeoverlays.yaml"),
        module.join("pkg/apis/crds/karpenter.sh_nodepools.yaml"),
        module.join("kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml"),
    ])
}

/// The definition of EC2NodeClass, for which no Karpenter runs here.
///
/// # Errors
/// When Go cannot fetch the module.
pub fn ec2_node_class_crd() -> Result<PathBuf> {
    Ok(tools::source(tools::KARPENTER_AWS)?.join("pkg/apis/crds/karpenter.k8s.aws_ec2nodeclasses.yaml"))
}

/// Installs the kinds and starts Karpenter.
pub(crate) fn start(local: &mut Local) -> Result<()> {
    let crds = crds()?;
    let mut apply = local.kubectl(["apply", "--server-side", "--force-conflicts"])?;
    output(apply.args(crds.iter().flat_map(|crd| ["-f".into(), crd.clone().into_os_string()])))?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s"];
    output(
        local
            .kubectl(established)?
            .args(crds.iter().flat_map(|crd| ["-f".into(), crd.clone().into_os_string()])),
    )?;
    let class = json!({
        "apiVersion": "karpenter.kwok.sh/v1alpha1",
        "kind": "KWOKNodeClass",
        "metadata": {"name": NODE_CLASS},
    });
    let file = local.folder.join("karpenter-node-class.json");
    fs::write(&file, class.to_string())?;
    output(local.kubectl(["apply", "--server-side", "-f"])?.arg(&file))?;
    fs::write(machines_file(local), Value::from_iter(MACHINES.map(machine)).to_string())?;
    ensure(local, "karpenter")
}

/// The process.
pub(crate) fn command(local: &Local) -> Result<Command> {
    let mut command = Command::new(local.tools.program("karpenter").context("Karpenter is built")?);
    command
        .env("KUBECONFIG", kubeconfig_path(&local.pki(), "karpenter"))
        .env("INSTANCE_TYPES_FILE_PATH", machines_file(local))
        .env("DISABLE_LEADER_ELECTION", "true")
        // Any free ports: nobody asks.
        .env("METRICS_PORT", "0")
        .env("HEALTH_PROBE_PORT", "0")
        .env("LOG_LEVEL", "debug");
    Ok(command)
}

fn machines_file(local: &Local) -> PathBuf {
    local.folder.join("instance-types.json")
}

fn machine((name, vcpus, gib, price): (&str, u32, u32, f64)) -> Value {
    let is_in = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let offering = |zone: &str, capacity: &str, price: f64| {
        let requirements =
            [is_in("karpenter.sh/capacity-type", capacity), is_in("topology.kubernetes.io/zone", zone)];
        json!({"Price": price, "Available": true, "Requirements": requirements})
    };
    let offerings = ZONES
        .iter()
        .flat_map(|zone| [offering(zone, "on-demand", price), offering(zone, "spot", price * SPOT_SHARE)]);
    json!({
        "name": name,
        "offerings": Value::from_iter(offerings),
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": {
            "cpu": vcpus.to_string(), "memory": format!("{gib}Gi"), "ephemeral-storage": "20Gi", "pods": "110",
        },
    })
}
