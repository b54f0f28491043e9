//! Pods that somebody else takes away from a healthy node.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, EvictParams};

use crate::Case;
use crate::ends::{exit, failed, host, pod_deleted, succeeded};
use crate::programs::{until_asked, well_the_second_time};
use crate::scenario::Scenario;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("g1-pod-evicted", |scenario| Box::pin(evicted(scenario))),
        Case::story("g4-pod-deleted-by-a-user", |scenario| Box::pin(deleted(scenario))),
        Case::story("g5-pod-deleted-with-force", |scenario| Box::pin(deleted_with_force(scenario))),
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
