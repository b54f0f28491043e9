//! Fake nodes: objects that kwok keeps alive, for tests of scale and of the ends of pods.

use anyhow::Result;
use serde_json::{Value, json};

use super::local::Local;
use crate::process::output;

/// Nodes with this annotation are kwok's.
pub(crate) const ANNOTATION: &str = "kwok.x-k8s.io/node=fake";

/// Makes the wanted number of fake nodes; those that exist stay.
pub(crate) fn make_nodes(local: &Local, count: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let nodes: Vec<Value> = (0..count).map(node).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": nodes});
    let file = local.folder.join("kwok-nodes.json");
    std::fs::write(&file, list.to_string())?;
    output(local.kubectl(["apply", "--server-side", "-f"])?.arg(&file))?;
    Ok(())
}

/// Tainted, so that nothing lands there by chance.
fn node(index: u32) -> Value {
    let resources = json!({"cpu": "32", "memory": "256Gi", "pods": "500"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": format!("kwok-{index}"),
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": format!("kwok-{index}"),
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "m5.8xlarge",
                "type": "kwok",
            },
        },
        "spec": {
            "providerID": format!("aws:///eu-west-1a/i-{:017x}", 0x0bad_0000_0000_0000_u64 + u64::from(index)),
            "taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}],
        },
        "status": {"allocatable": resources, "capacity": resources},
    })
}
