//! The operator of the end-to-end tests: installed from the chart, killed, held, sent away.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use xtask::install;
use xtask::process::{Process, command, output};

use crate::cluster::{RECOVERY, TestCluster, answer, processes_of_pod};
use crate::scenario::merge;

/// The Lease that the leader holds.
const LEASE: &str = "batchyard-operator";

impl TestCluster {
    /// Installs the chart, or upgrades what is there, with these values besides those of the tests.
    pub(crate) async fn install(&self, more: &Value) -> Result<()> {
        let mut values = values();
        merge(&mut values, more);
        self.operator_disturbed.store(*more != json!({}), Ordering::Relaxed);
        tokio::task::block_in_place(|| install::operator(&self.cluster, &values))?;
        self.are_ready(more["replicas"].as_u64().map_or(1, |replicas| replicas as usize)).await
    }

    /// Another number of replicas. By Helm, which would not take that over from another tool.
    pub(crate) async fn scale(&self, replicas: usize) -> Result<()> {
        self.install(&json!({"replicas": replicas})).await
    }

    /// Runs shell commands as an administrator would, until one of them fails.
    pub(crate) async fn shell(&self, commands: &str) -> Result<()> {
        self.operator_disturbed.store(true, Ordering::Relaxed);
        let mut bash = command("bash", ["-euo", "pipefail", "-c", commands]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.cluster.path.clone()).chain(std::env::split_paths(&path));
        bash.env("PATH", std::env::join_paths(folders)?);
        // Where Helm is to look, and for which cluster.
        let helm = self.cluster.helm::<&str>([])?;
        bash.envs(helm.get_envs().filter_map(|(name, value)| Some((name, value?))));
        tokio::task::block_in_place(|| output(&mut bash))?;
        Ok(())
    }

    /// Waits until so many operators are ready, and no other is there.
    pub(crate) async fn are_ready(&self, replicas: usize) -> Result<()> {
        answer(&format!("{replicas} operators"), RECOVERY, || async {
            let pods = self.operators().await?;
            Ok((pods.len() == replicas && pods.iter().all(is_ready)).then_some(()))
        })
        .await
    }

    /// The pods of the operator, also those that are ending.
    async fn operators(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), install::NAMESPACE);
        let params = ListParams::default().labels("app.kubernetes.io/component=operator");
        Ok(pods.list(&params).await?.items)
    }

    /// The pod that leads.
    pub(crate) async fn leader(&self) -> Result<Pod> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), install::NAMESPACE);
        answer("a leader", RECOVERY, || async {
            let holder = leases.get(LEASE).await?.spec.and_then(|spec| spec.holder_identity);
            let pods = self.operators().await?;
            Ok(pods.into_iter().find(|pod| Some(pod.name_any()) == holder))
        })
        .await
    }

    /// Waits until another pod than this one leads.
    pub(crate) async fn is_followed(&self, leader: &Pod) -> Result<Pod> {
        answer("another leader", RECOVERY, || async {
            let now = self.leader().await?;
            Ok((now.uid() != leader.uid()).then_some(now))
        })
        .await
    }

    /// The process in a pod of the operator.
    pub(crate) fn operator_process(&self, pod: &Pod) -> Result<Process> {
        let uid = pod.uid().unwrap_or_default();
        let mut found: Vec<Process> =
            processes_of_pod(&uid).into_iter().filter(|process| process.name() == "batchyard").collect();
        ensure!(found.len() == 1, "the operator's pod {uid} has {} processes on this machine", found.len());
        found.pop().context("there is one")
    }

    /// Ends the leader's process by SIGKILL, and returns when the kubelet has started another.
    pub(crate) async fn kill_operator(&self) -> Result<()> {
        let before = self.leader().await?;
        self.operator_process(&before)?.kill();
        self.is_started_again(&before).await
    }

    /// Takes a pod of the operator away, without a moment to give up its Lease.
    pub(crate) async fn delete_operator(&self, pod: &Pod) -> Result<()> {
        self.operator_process(pod)?.kill();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), install::NAMESPACE);
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Waits until a pod of the operator runs another process than before.
    pub(crate) async fn is_started_again(&self, before: &Pod) -> Result<()> {
        answer("the operator to be started again", RECOVERY, || async {
            let pods = self.operators().await?;
            let mut pods = pods.iter().filter(|pod| pod.uid() == before.uid());
            Ok(pods.any(|pod| is_ready(pod) && restarts(pod) > restarts(before)).then_some(()))
        })
        .await
    }

    /// The operator's log lines about something.
    pub(crate) fn operator_said(&self, about: &str) -> String {
        let mut kubectl = self.cluster.kubectl(["logs", "--namespace", install::NAMESPACE]);
        kubectl.args(["--selector=app.kubernetes.io/component=operator", "--tail=-1", "--prefix"]);
        let log =
            tokio::task::block_in_place(|| output(&mut kubectl)).unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(about)).collect();
        format!("the operator said:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

/// The chart's values: what one waits for, shortened.
fn values() -> Value {
    json!({"operator": {
        "logFilter": "info,batchyard=debug",
        "leaseDurationSeconds": 8,
        "terminateGraceSeconds": 5,
        "startFailures": {
            "pullDeniedSeconds": 5,
            // Longer than a registry is away in a test, or containerd waits for one that says
            // nothing (60 s), and the kubelet's pause of 20 s after it.
            "pullNetworkSeconds": 90,
            "missingConfigSeconds": 30,
            "startSeconds": 60,
        },
    }})
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.filter(|each| each.type_ == "Ready").any(|each| each.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
