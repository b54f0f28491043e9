//! The cluster of the end-to-end tests: real nodes, and the operator in it from the chart.
//!
//! Nodes and the operator are there for all tests. One that takes a node or the operator away
//! has the cluster for itself meanwhile, and everything is put back after it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tokio::sync::{Mutex, RwLock};
use tokio::time::{Instant, sleep};
use xtask::cluster;
use xtask::cluster::{Cluster, Provider};
use xtask::process::{Process, output, processes};

use crate::support::client::{TEST_LABEL, kubeconfig};

/// Pause between two looks where there is nothing to watch.
const POLL: Duration = Duration::from_millis(200);

/// How long nodes and the operator may take to come back.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);

/// A cluster with the operator in it.
pub(crate) struct TestCluster {
    /// How to reach it.
    pub(crate) cluster: Cluster,
    /// The administrator's client.
    pub(crate) client: Client,
    /// Held shared by tests that need all nodes and the operator, alone by those that disturb.
    pub(crate) calm: RwLock<()>,
    /// The nodes that a test has disturbed.
    disturbed: Mutex<Vec<String>>,
    /// Whether a test has disturbed the operator.
    pub(crate) operator_disturbed: AtomicBool,
    /// What the operator must call the nodes: `i-…` of the provider id.
    instances: BTreeMap<String, String>,
    _reserved: std::fs::File,
}

impl TestCluster {
    /// Finds the cluster, makes it whole, and installs the operator of this tree.
    pub(crate) async fn prepare() -> Result<Self> {
        let path = kubeconfig();
        let found = cluster::of_kubeconfig(&path)?;
        let cluster = found.with_context(|| {
            let path = path.display();
            format!("{path} is not of a cluster of ours, where nodes may be switched off: `cargo xtask test nodes`")
        })?;
        ensure!(
            cluster.helm.is_some(),
            "the cluster {} has no nodes: `cargo xtask test nodes`",
            cluster.name
        );
        let reserved = cluster.reserve()?;
        let read = kube::config::Kubeconfig::read_from(&path)?;
        let mut config = Config::from_custom_kubeconfig(read, &Default::default()).await?;
        // A drain that is refused is to be seen at once.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let calm = RwLock::default();
        let disturbed = Mutex::new(cluster.nodes.clone());
        let (operator_disturbed, instances) = (AtomicBool::new(true), BTreeMap::new());
        let mut prepared =
            Self { cluster, client, calm, disturbed, operator_disturbed, instances, _reserved: reserved };
        // An earlier run may have been interrupted with a node switched off.
        prepared.restore().await?;
        prepared.instances = prepared.read_instances().await?;
        prepared.remove_leftovers().await?;
        Ok(prepared)
    }

    /// Everything that an interrupted run left; the operator takes its finalizers off.
    async fn remove_leftovers(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let environments: Api<batchyard::crd::ComputeEnvironment> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(TEST_LABEL);
        for namespace in namespaces.list(&ours).await? {
            namespaces.delete(&namespace.metadata.name.unwrap_or_default(), &DeleteParams::default()).await?;
        }
        for environment in environments.list(&ours).await? {
            environments
                .delete(&environment.metadata.name.unwrap_or_default(), &DeleteParams::default())
                .await?;
        }
        Ok(())
    }

    /// Whether nodes are processes of this machine, so that one can look into them.
    pub(crate) fn is_local(&self) -> bool {
        self.cluster.provider == Provider::Local
    }

    /// An address of this machine that pods reach: that of the API server.
    pub(crate) async fn own_address(&self) -> Result<IpAddr> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        let slice = slices.get("kubernetes").await?;
        let address = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).next();
        Ok(address.context("the API server has an address")?.parse()?)
    }

    async fn read_instances(&self) -> Result<BTreeMap<String, String>> {
        let instance = |node: &Node| {
            let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
            let last = provider_id.and_then(|id| id.rsplit('/').next()).filter(|id| id.starts_with("i-"));
            last.map_or_else(|| node.name_any(), str::to_owned)
        };
        let nodes = self.nodes().list(&ListParams::default()).await?;
        Ok(nodes.iter().map(|node| (node.name_any(), instance(node))).collect())
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// `i-…` of a node, as the operator must name it.
    pub(crate) fn instance(&self, node: &str) -> &str {
        self.instances.get(node).map_or("a node that was not there", String::as_str)
    }

    /// The nodes that the example's environment has.
    pub(crate) fn spot_nodes(&self) -> [&str; 2] {
        [&self.cluster.nodes[1], &self.cluster.nodes[2]]
    }

    async fn disturb(&self, node: &str) {
        self.disturbed.lock().await.push(node.to_owned());
    }

    fn kubectl<const N: usize>(&self, args: [&str; N]) -> Result<String> {
        tokio::task::block_in_place(|| output(&mut self.cluster.kubectl(args)))
    }

    /// Lets a node take no new pods, or take them again.
    pub(crate) async fn cordon(&self, node: &str, cordoned: bool) -> Result<()> {
        self.disturb(node).await;
        self.kubectl([if cordoned { "cordon" } else { "uncordon" }, node])?;
        Ok(())
    }

    /// `kubectl drain`: cordon, then evict all pods, and wait until they are gone.
    pub(crate) async fn drain(&self, node: &str) -> Result<()> {
        self.disturb(node).await;
        let mut kubectl =
            self.cluster.kubectl(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data"]);
        kubectl.arg("--timeout=60s");
        tokio::task::spawn_blocking(move || output(&mut kubectl)).await??;
        Ok(())
    }

    /// Waits until a node takes no new pods.
    pub(crate) async fn is_cordoned(&self, node: &str) -> Result<()> {
        answer(&format!("{node} to be cordoned"), RECOVERY, || async {
            let spec = self.nodes().get(node).await?.spec;
            Ok(spec.and_then(|spec| spec.unschedulable).unwrap_or(false).then_some(()))
        })
        .await
    }

    /// Kills everything on a node at once; the Node object stays.
    pub(crate) async fn power_off(&self, node: &str) -> Result<()> {
        self.disturb(node).await;
        tokio::task::block_in_place(|| cluster::set_power(&self.cluster.name, node, false))
    }

    /// Boots a node again and waits until it takes pods.
    pub(crate) async fn power_on(&self, node: &str) -> Result<()> {
        tokio::task::block_in_place(|| cluster::set_power(&self.cluster.name, node, true))?;
        if self.nodes().get_opt(node).await?.is_none() {
            // Only a kubelet that begins registers its node.
            self.restart_service(node, "kubelet").await?;
        }
        answer(&format!("{node} to be Ready"), RECOVERY, || async {
            let node = self.nodes().get(node).await?;
            let untainted = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
            Ok((is_ready(&node) && untainted.is_empty()).then_some(()))
        })
        .await
    }

    /// Waits until the cluster says that a node does not answer.
    pub(crate) async fn is_missed(&self, node: &str) -> Result<()> {
        answer(&format!("{node} to be missed"), RECOVERY, || async {
            Ok((!is_ready(&self.nodes().get(node).await?)).then_some(()))
        })
        .await
    }

    /// Cuts a node off from everything; what runs on it runs on.
    pub(crate) async fn unplug(&self, node: &str) -> Result<()> {
        self.disturb(node).await;
        cluster::set_cable(&self.cluster.name, node, false)
    }

    /// Ends `kubelet` or `containerd` on a node by SIGKILL, and returns when there is another.
    pub(crate) async fn restart_service(&self, node: &str, program: &str) -> Result<()> {
        self.disturb(node).await;
        // The kubelet is one of the programs that `kubernetes` is.
        let words = if program == "kubelet" { &["kubernetes", program][..] } else { &[program] };
        let services = || cluster::node_processes(&self.cluster.name, node, words);
        let before = services()?;
        ensure!(!before.is_empty(), "no {program} runs on {node}");
        before.iter().for_each(|process| process.kill());
        answer(&format!("{node} to start {program} again"), RECOVERY, || async {
            Ok(services()?.iter().any(|process| !before.contains(process)).then_some(()))
        })
        .await
    }

    /// Deletes a Node object; the machine goes on.
    pub(crate) async fn delete_node(&self, node: &str) -> Result<()> {
        self.disturb(node).await;
        self.nodes().delete(node, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Vouches that nothing runs on a node any more.
    pub(crate) async fn take_out_of_service(&self, node: &str) -> Result<()> {
        self.disturb(node).await;
        self.kubectl(["taint", "node", node, &format!("{OUT_OF_SERVICE}=yes:NoExecute")])?;
        Ok(())
    }

    /// Puts every disturbed node back, and the operator.
    pub(crate) async fn restore(&self) -> Result<()> {
        let mut disturbed = std::mem::take(&mut *self.disturbed.lock().await);
        disturbed.sort();
        disturbed.dedup();
        for node in disturbed {
            if let Some(found) = self.nodes().get_opt(&node).await? {
                self.kubectl(["uncordon", &node])?;
                let taints = found.spec.and_then(|spec| spec.taints).unwrap_or_default();
                if taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) {
                    self.kubectl(["taint", "node", &node, &format!("{OUT_OF_SERVICE}-")])?;
                }
            }
            self.power_on(&node).await?;
        }
        if self.operator_disturbed.load(Ordering::Relaxed) {
            self.install(&json!({})).await?;
        }
        Ok(())
    }
}

/// The taint of a node that somebody vouches for.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|each| each.type_ == "Ready" && each.status == "True")
}

/// The processes in a pod's containers, found by their cgroups, on whichever node of this machine.
pub(crate) fn processes_of_pod(uid: &str) -> Vec<Process> {
    let mark = format!("/pod{uid}/");
    processes(|folder| std::fs::read_to_string(folder.join("cgroup")).is_ok_and(|text| text.contains(&mark)))
}

/// Asks again and again until there is an answer.
pub(crate) async fn answer<T, F>(what: &str, patience: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if let Ok(Some(found)) = answer {
            return Ok(found);
        }
        if begun.elapsed() > patience {
            let why = answer.err().map_or_else(String::new, |error| format!(": {error:#}"));
            anyhow::bail!("waited {} s in vain for {what}{why}", patience.as_secs());
        }
        sleep(POLL).await;
    }
}
