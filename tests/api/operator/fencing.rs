//! `strictFencing`: a pod may be bound once its uid stands in its job's status.

use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::kubelet::PodHandle;
use super::world::{World, job};
use crate::support::wait;

fn gates(pod: &Pod) -> usize {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).map_or(0, Vec::len)
}

/// The pod again as its maker sent it, for a create that arrives late.
fn as_sent(pod: &Pod) -> Pod {
    let mut late = pod.clone();
    late.metadata.uid = None;
    late.metadata.resource_version = None;
    late.metadata.creation_timestamp = None;
    late.metadata.generation = None;
    late.metadata.managed_fields = None;
    late.status = None;
    let spec = late.spec.as_mut().expect("a spec");
    spec.node_name = None;
    spec.scheduling_gates =
        Some(vec![k8s_openapi::api::core::v1::PodSchedulingGate { name: "batchyard.io/fence".to_owned() }]);
    late
}

#[tokio::test]
async fn b5_a_late_pod_of_a_fenced_queue_is_removed_at_its_gate() {
    let world = World::with_queue("fenced").await;
    world.queue("queue", json!({"strictFencing": true})).await;
    world.ready::<batchyard::crd::JobQueue>("queue").await;
    let job = world.submit("job", job(json!({"retryStrategy": {"attempts": 2}}))).await;
    let pod = job.pod(1).await;
    let first = wait::until(&world.api::<Pod>(), &pod.name, "no gate", |pod| gates(pod) == 0).await;
    let record = job.record().await;
    assert_eq!(record.phase(), Phase::Runnable);
    assert_eq!(record.current.map(|current| current.pod_uid), first.uid(), "recorded before it may be bound");
    let ended = job.attempt(1, 1).await;
    assert_eq!(ended.attempts.len(), 1);
    pod.is_released().await;
    world.api::<Pod>().delete(&pod.name, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&world.api::<Pod>(), &pod.name).await;

    let pods = world.api::<Pod>();
    let late = pods.create(&PostParams::default(), &as_sent(&first)).await.expect("the name is free");
    assert_eq!(gates(&late), 1);
    let late = PodHandle { world: &world, name: late.name_any() };
    wait::gone(&pods, &late.name).await;
    let ended = job.attempt(2, 0).await;
    assert_eq!(ended.attempts.len(), 2, "the late pod counts for nothing: {ended:#?}");
    assert!(ended.placements.is_empty(), "{ended:#?}");
    assert_eq!(job.reaches(Phase::Succeeded).await.attempts.len(), 2);
}

/// Without the fence such a pod may run until it is seen. It is never recorded, and it is removed.
#[tokio::test]
async fn b5_a_late_pod_is_never_recorded() {
    let world = World::with_queue("unfenced").await;
    let job = world.submit("job", job(json!({"retryStrategy": {"attempts": 2}}))).await;
    let pod = job.pod(1).await;
    let first = pod.get().await;
    assert_eq!(gates(&first), 0);
    job.attempt(1, 1).await;
    pod.is_released().await;
    world.api::<Pod>().delete(&pod.name, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&world.api::<Pod>(), &pod.name).await;
    let mut late = as_sent(&first);
    late.spec.as_mut().expect("a spec").scheduling_gates = None;
    let pods = world.api::<Pod>();
    pods.create(&PostParams::default(), &late).await.expect("the name is free");
    wait::gone(&pods, &first.name_any()).await;
    job.attempt(2, 0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!((record.attempts.len(), record.placements.len()), (2, 0), "{record:#?}");
}
