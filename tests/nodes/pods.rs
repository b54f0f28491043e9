//! Pods that somebody else takes away from a healthy node, or does not let come to be.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, failed, host, pod_deleted, succeeded};
use crate::programs::{in_queue, shell, until_asked, well_the_second_time};
use crate::scenario::{PATIENCE, Scenario};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("g1-pod-evicted", |scenario| Box::pin(evicted(scenario))),
        Case::story("g4-pod-deleted-by-a-user", |scenario| Box::pin(deleted(scenario))),
        Case::story("g5-pod-deleted-with-force", |scenario| Box::pin(deleted_with_force(scenario))),
        Case::story("g9-finalizer-taken-off-and-pod-deleted", |scenario| Box::pin(vanished(scenario))),
        Case::story("g11-the-name-of-the-pod-is-taken", |scenario| Box::pin(name_taken(scenario))),
        Case::story("i7-quota-used-up", |scenario| Box::pin(quota_used_up(scenario))),
    ]
}

async fn evicted(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", well_the_second_time()).await;
    scenario.runs("job", 1).await?;
    let pod = scenario.pod_of("job", 0).await?;
    scenario.api::<Pod>().evict(&pod.name_any(), &EvictParams::default()).await?;
    let end = host("evicted the pod: Eviction API: evicting", Some(143)).retried_by(0);
    scenario.ends("job", &succeeded([end, exit(0)])).await?;
    Ok(())
}

/// Nobody but the one who did it is to blame: it is no end of a host.
async fn deleted(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", until_asked(143)).await;
    scenario.runs("job", 1).await?;
    scenario.delete_pod("job", &DeleteParams::default()).await?;
    scenario.ends("job", &failed([pod_deleted(Some(143)).failed_by(1)])).await?;
    Ok(())
}

/// `--force --grace-period=0`: the finalizer keeps the pod until the kubelet has said how it ended.
async fn deleted_with_force(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", until_asked(143)).await;
    scenario.runs("job", 1).await?;
    scenario.delete_pod("job", &by_force()).await?;
    scenario.ends("job", &failed([pod_deleted(Some(143)).failed_by(1)])).await?;
    Ok(())
}

/// What `kubectl delete --force --grace-period=0` asks for.
pub(crate) fn by_force() -> DeleteParams {
    DeleteParams::default().grace_period(0)
}

/// Nobody can say how the program ended, but nothing hangs.
async fn vanished(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", until_asked(143)).await;
    scenario.runs("job", 1).await?;
    let pod = scenario.pod_of("job", 0).await?.name_any();
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scenario.api::<Pod>().patch(&pod, &PatchParams::default(), &free).await?;
    scenario.api::<Pod>().delete(&pod, &by_force()).await?;
    scenario.ends("job", &failed([pod_deleted(None).failed_by(1)])).await?;
    Ok(())
}

/// A foreign pod is not taken for the job's: the job waits until the name is free.
async fn name_taken(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", in_queue("later", shell("exit 0"))).await;
    let job = scenario.until("job", "to be there", |_| true).await?;
    let name = batchyard_core::name::pod("job", &job.uid().unwrap_or_default(), None, 1, 0);
    let container = json!({"name": "foreign", "image": "alpine:latest",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]});
    let foreign = json!({"metadata": {"name": name}, "spec": {"containers": [container]}});
    scenario.apply::<Pod>(&foreign).await;
    scenario.queue("later", json!({})).await?;
    scenario.waits("job", "RUNNABLE", "a pod that is not the job's has it").await?;
    scenario.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}

/// A job that waits for a quota uses up no attempt.
async fn quota_used_up(scenario: &Scenario<'_>) -> Result<()> {
    let quotas: Api<ResourceQuota> = scenario.api();
    let none = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    scenario.apply::<ResourceQuota>(&none).await;
    answer("the quota to count", PATIENCE, || async {
        let status = quotas.get("none").await?.status;
        Ok(status.and_then(|status| status.hard).map(|_| ()))
    })
    .await?;
    scenario.submit("job", shell("exit 0")).await;
    scenario.waits("job", "RUNNABLE", "ResourceQuota").await?;
    quotas.delete("none", &DeleteParams::default()).await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}
