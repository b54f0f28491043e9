//! The cluster of the end-to-end tests: real nodes, and the operator in it from the chart.
//!
//! Nodes and the operator are there for all tests. One that takes a node or the operator away
//! has the cluster for itself meanwhile, and everything is put back after it.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::{Mutex, RwLock};
use tokio::time::{Instant, sleep};
use xtask::cluster::{Cluster, Provider};
use xtask::process::{Process, output, processes};
use xtask::{cluster, install};

use crate::support::client::{TEST_LABEL, kubeconfig};

/// Pause between two looks where there is nothing to watch.
const POLL: Duration = Duration::from_millis(200);

/// How long nodes and the operator may take to come back.
const RECOVERY: Duration = Duration::from_secs(90);

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
        let client = Client::try_from(Config::from_custom_kubeconfig(read, &Default::default()).await?)?;
        let calm = RwLock::default();
        let disturbed = Mutex::new(cluster.nodes.clone());
        let prepared = Self { cluster, client, calm, disturbed, _reserved: reserved };
        // An earlier run may have been interrupted with a node switched off.
        prepared.restore().await?;
        install::operator(&prepared.cluster, &values())?;
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

    /// `i-…` of a node, as the operator must name it.
    pub(crate) async fn instance(&self, node: &str) -> Result<String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let provider_id = nodes.get(node).await?.spec.and_then(|spec| spec.provider_id).unwrap_or_default();
        let last = provider_id.rsplit('/').next().unwrap_or_default();
        Ok(if last.starts_with("i-") { last.to_owned() } else { node.to_owned() })
    }

    /// `kubectl drain`: cordon, then evict all pods, and wait until they are gone.
    pub(crate) async fn drain(&self, node: &str) -> Result<()> {
        self.disturbed.lock().await.push(node.to_owned());
        let mut kubectl =
            self.cluster.kubectl(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data"]);
        kubectl.arg("--timeout=60s");
        tokio::task::block_in_place(|| output(&mut kubectl))?;
        Ok(())
    }

    /// Kills everything on a node at once; the Node object stays.
    pub(crate) async fn power_off(&self, node: &str) -> Result<()> {
        self.disturbed.lock().await.push(node.to_owned());
        tokio::task::block_in_place(|| cluster::set_power(&self.cluster.name, node, false))
    }

    /// Boots a node again and waits until it takes pods.
    pub(crate) async fn power_on(&self, node: &str) -> Result<()> {
        tokio::task::block_in_place(|| cluster::set_power(&self.cluster.name, node, true))?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        answer(&format!("{node} to be Ready"), RECOVERY, || async {
            let node = nodes.get(node).await?;
            let untainted = node.spec.and_then(|spec| spec.taints).is_none_or(|taints| taints.is_empty());
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|each| each.type_ == "Ready" && each.status == "True");
            Ok((ready && untainted).then_some(()))
        })
        .await
    }

    /// Ends the operator's process by SIGKILL, and returns when the kubelet has started another.
    pub(crate) async fn kill_operator(&self) -> Result<()> {
        let before = self.operator().await?;
        let uid = before.metadata.uid.clone().unwrap_or_default();
        let victims: Vec<Process> =
            processes_of_pod(&uid).into_iter().filter(|process| process.name() == "batchyard").collect();
        ensure!(
            victims.len() == 1,
            "the operator's pod {uid} has {} processes on this machine",
            victims.len()
        );
        victims[0].kill();
        let restarts = restarts(&before);
        answer("the operator to be started again", RECOVERY, || async {
            let pod = self.operator().await?;
            Ok((restarts_are_ready(&pod) && self::restarts(&pod) > restarts).then_some(()))
        })
        .await
    }

    /// The operator's log lines about something.
    pub(crate) fn operator_said(&self, about: &str) -> String {
        let deployment = format!("deployment/{}", install::RELEASE);
        let mut kubectl = self.cluster.kubectl(["logs", "--namespace", install::NAMESPACE, &deployment]);
        let log =
            tokio::task::block_in_place(|| output(&mut kubectl)).unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(about)).collect();
        format!("the operator said:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    async fn operator(&self) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), install::NAMESPACE);
        let found = pods.list(&ListParams::default().labels("app.kubernetes.io/component=operator")).await?;
        let mut live = found.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        live.next().context("the operator has no pod")
    }

    /// Puts every disturbed node back.
    pub(crate) async fn restore(&self) -> Result<()> {
        let mut disturbed = std::mem::take(&mut *self.disturbed.lock().await);
        disturbed.sort();
        disturbed.dedup();
        for node in disturbed {
            tokio::task::block_in_place(|| output(&mut self.cluster.kubectl(["uncordon", &node])))?;
            self.power_on(&node).await?;
        }
        Ok(())
    }
}

/// The chart's values: what one waits for, shortened.
fn values() -> serde_json::Value {
    json!({"operator": {
        "logFilter": "info,batchyard=debug",
        "leaseDurationSeconds": 5,
        "terminateGraceSeconds": 5,
        "startFailures": {
            "pullDeniedSeconds": 5,
            "pullNetworkSeconds": 15,
            "missingConfigSeconds": 10,
            "startSeconds": 60,
        },
    }})
}

/// The processes in a pod's containers, found by their cgroups, on whichever node of this machine.
pub(crate) fn processes_of_pod(uid: &str) -> Vec<Process> {
    let mark = format!("/pod{uid}/");
    processes(|folder| std::fs::read_to_string(folder.join("cgroup")).is_ok_and(|text| text.contains(&mark)))
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn restarts_are_ready(pod: &Pod) -> bool {
    let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.all(|status| status.ready)
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
