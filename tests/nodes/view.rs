//! Where jobs stand in line, told by the operator in the cluster with the rights that the chart gives it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::json;
use xtask::process::{command, output};

use crate::Case;
use crate::cluster::answer;
use crate::programs::{in_queue, too_large};
use crate::scenario::{PATIENCE, Scenario};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::story("view-told-by-whoever-leads", |scenario| Box::pin(told(scenario))).alone()]
}

/// Somebody with no more than the role `view` of the namespace.
const READER: &str = "reader";

/// Told to who may know, by one operator and by the next. The namespace can be removed afterwards.
async fn told(scenario: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    cluster.install(&json!({"view": {"enabled": true}})).await?;
    scenario.queue("narrow", json!({})).await?;
    for name in ["first", "second"] {
        scenario.submit(name, in_queue("narrow", too_large())).await;
        scenario.until(name, "to be RUNNABLE", |job| crate::scenario::is(job, "RUNNABLE")).await?;
    }
    let binding = json!({
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": READER, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    scenario.apply::<RoleBinding>(&binding).await;
    is_told(scenario).await?;
    let everywhere = ask(scenario, &["--all-namespaces"]);
    let refused = format!("{:#}", everywhere.err().context("who may read one namespace reads all")?);
    ensure!(refused.contains("forbidden") && refused.contains(READER), "{refused}");
    let leader = cluster.leader().await?;
    cluster.delete_operator(&leader).await?;
    cluster.are_ready(1).await?;
    is_told(scenario).await?;
    cluster.install(&json!({})).await
}

/// By kubectl and by kubectl batch.
async fn is_told(scenario: &Scenario<'_>) -> Result<()> {
    answer("the jobs in line", PATIENCE, || async {
        let namespace = ["--namespace", scenario.namespace.as_str()];
        let names = ask(scenario, &[&namespace[..], &["--output=name"]].concat()).unwrap_or_default();
        let names: Vec<_> = names.lines().map(|name| name.rsplit('/').next().unwrap_or_default()).collect();
        Ok((names == ["first", "second"]).then_some(()))
    })
    .await?;
    let mut why = command(Path::new(env!("CARGO_BIN_EXE_kubectl-batch")), ["--as", READER]);
    why.args(["--namespace", &scenario.namespace, "why", "second"]);
    why.env("KUBECONFIG", &scenario.cluster.cluster.kubeconfig);
    let why = tokio::task::block_in_place(|| output(&mut why))?;
    ensure!(why.contains("It is number 2 in line\n  Before it: first\n"), "{why}");
    Ok(())
}

/// `kubectl get waitingjobs` as the reader.
fn ask(scenario: &Scenario<'_>, more: &[&str]) -> Result<String> {
    let mut kubectl = scenario.cluster.cluster.kubectl(["get", "waitingjobs", "--as", READER]);
    tokio::task::block_in_place(|| output(kubectl.args(more)))
}
