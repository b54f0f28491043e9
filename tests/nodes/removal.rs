//! The chart uninstalled, and everything removed, in the words of `docs/uninstall.md`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use batchyard::crd::SchedulingPolicy;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::Case;
use crate::cluster::{answer, processes_of_pod};
use crate::ends::{exit, succeeded};
use crate::programs::{in_queue, polite, too_large};
use crate::scenario::{PATIENCE, Scenario, is};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("k5-uninstalled-with-jobs", |scenario| Box::pin(uninstalled(scenario)))
            .alone()
            .local_only(),
        Case::story("k5-everything-removed", |scenario| {
            Box::pin(removed(scenario, &["## Remove everything"]))
        })
        .alone()
        .local_only(),
        Case::story("k5-everything-removed-without-the-operator", |scenario| {
            Box::pin(removed(
                scenario,
                &["## Stop it", "## Remove everything when the operator is gone already"],
            ))
        })
        .alone()
        .local_only(),
        Case::story("k5-everything-removed-with-kubectl-batch", |scenario| {
            Box::pin(removed(scenario, &["## Stop it", "## The same with kubectl batch"]))
        })
        .alone()
        .local_only(),
    ]
}

/// The shell commands below a heading of the documentation.
fn documented(heading: &str) -> Result<String> {
    let path = xtask::cluster::repository()?.join("docs/uninstall.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let below = text.split_once(&format!("{heading}\n")).context(heading.to_owned())?.1;
    let block = below.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```"));
    Ok(block.with_context(|| format!("no commands below {heading:?}"))?.0.to_owned())
}

/// Jobs run on without the operator, and it goes on from there when it is installed again.
async fn uninstalled(scenario: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    scenario.queue("narrow", json!({})).await?;
    scenario.submit("waiting", in_queue("narrow", too_large())).await;
    scenario.submit("job", polite()).await;
    scenario.runs("job", 1).await?;
    cluster.shell(&documented("## Stop it")?).await?;
    cluster.are_ready(0).await?;
    scenario.finish("job").await?;
    let pod = scenario.pod_of("job", 0).await?.name_any();
    let succeeded_pod =
        |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    scenario.pod_until(&pod, "to have succeeded", succeeded_pod).await?;
    let job = scenario.until("job", "to be there", |_| true).await?;
    ensure!(is(&job, "RUNNING"), "somebody wrote the status of a job without an operator");
    cluster.install(&json!({})).await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    scenario.waits("waiting", "RUNNABLE", "larger node").await
}

/// A job runs, one waits and one has ended; then nothing of ours is left in the whole cluster.
async fn removed(scenario: &Scenario<'_>, headings: &[&str]) -> Result<()> {
    crate::changes::populate(scenario).await?;
    let policy = json!({"metadata": {"name": "policy"}, "spec": {"fairsharePolicy": {}}});
    scenario.apply::<SchedulingPolicy>(&policy).await;
    let policies: Api<SchedulingPolicy> =
        Api::namespaced(scenario.cluster.client.clone(), &scenario.namespace);
    answer("the policy's finalizer", PATIENCE, || async {
        Ok((!policies.get("policy").await?.finalizers().is_empty()).then_some(()))
    })
    .await?;
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-batch")).parent().context("a folder")?.display();
    let refused = scenario.cluster.shell(&format!("{plugin}/kubectl-batch uninstall --yes")).await;
    let refused = refused.err().context("finalizers are taken off under an operator that runs")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("the operator runs"), "{refused}");
    for heading in headings {
        scenario.cluster.shell(&format!("PATH={plugin}:$PATH\n{}", documented(heading)?)).await?;
    }
    let client = || scenario.cluster.client.clone();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=batchyard");
    let pods = Api::<Pod>::all(client()).list(&ours).await?.items.len();
    let revisions = Api::<ControllerRevision>::all(client()).list(&ours).await?.items.len();
    ensure!(pods == 0 && revisions == 0, "{pods} pods and {revisions} revisions are left");
    let kinds: Api<CustomResourceDefinition> = Api::all(client());
    answer("no kind of ours to be left", PATIENCE, || async {
        let kinds = kinds.list(&ListParams::default()).await?;
        Ok(kinds.iter().all(|kind| kind.spec.group != "batchyard.io").then_some(()))
    })
    .await?;
    answer("no process of a job to be left", PATIENCE, || async {
        let uids = scenario.seen.pod_uids();
        Ok(uids.iter().all(|uid| processes_of_pod(uid).is_empty()).then_some(()))
    })
    .await?;
    scenario.cluster.are_ready(0).await
}
