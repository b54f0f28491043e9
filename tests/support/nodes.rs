//! Nodes without a kubelet that say that they are there.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::client::{Actor, TEST_LABEL, apply, connect};
use super::wait;

/// The label by which environments of tests find their nodes.
pub(crate) const POOL: &str = "batchyard.io/test-pool";

/// How often a node says that it is there. The controller manager gives it three times as long.
const HEARTBEAT: Duration = Duration::from_secs(4);

static ALIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A node of a pool that stays Ready until it is removed. Its instance is `i-<name>`.
pub(crate) async fn make(client: &Client, name: &str, pool: &str, vcpus: u32) {
    let amounts = json!({"cpu": vcpus.to_string(), "memory": "8Gi", "pods": "110"});
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({
        "metadata": {"name": name, "labels": {POOL: pool, TEST_LABEL: "true"}},
        "spec": {"providerID": format!("aws:///eu-west-1a/i-{name}")},
    });
    keep_alive(name);
    apply(&nodes, &node).await;
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts, "conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a test plays the kubelet",
    }]}});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .expect("a node's status");
    wait::until(&nodes, name, "a node without taints", |node| {
        node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty)
    })
    .await;
}

/// Removes the nodes whose names begin like this.
pub(crate) async fn remove(client: &Client, begins: &str) {
    alive().retain(|node| !node.starts_with(begins));
    let nodes: Api<Node> = Api::all(client.clone());
    let of_tests = ListParams::default().labels(TEST_LABEL);
    for node in nodes.list(&of_tests).await.into_iter().flat_map(|list| list.items) {
        if node.name_any().starts_with(begins) {
            let _ = nodes.delete(&node.name_any(), &DeleteParams::default()).await;
        }
    }
}

/// Lets a node be silent from now on.
pub(crate) fn fall_silent(node: &str) {
    alive().remove(node);
}

fn alive() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a node say that it is there.
pub(crate) fn keep_alive(node: &str) {
    static BEATING: Once = Once::new();
    alive().insert(node.to_owned());
    BEATING.call_once(|| {
        std::thread::spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let leases: Api<Lease> = Api::namespaced(connect(Actor::Kubelet).await, "kube-node-lease");
                loop {
                    let nodes = alive().clone();
                    for node in nodes {
                        beat(&leases, &node).await;
                    }
                    tokio::time::sleep(HEARTBEAT).await;
                }
            });
        });
    });
}

async fn beat(leases: &Api<Lease>, node: &str) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now())},
    });
    let params = PatchParams::apply("test").force();
    // A heartbeat that is lost is followed by another.
    let _ = leases.patch(node, &params, &Patch::Apply(lease)).await;
}
