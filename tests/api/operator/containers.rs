//! Jobs of several containers, whose order the operator keeps.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::kubelet::seconds;
use super::world::{World, job};
use crate::support::wait;

fn container(name: &str, essential: bool, depends_on: Value) -> Value {
    json!({"name": name, "image": "busybox", "essential": essential, "dependsOn": depends_on,
        "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "32"}]})
}

/// A task of which the app waits until `fetch` has ended.
fn task(condition: &str) -> Value {
    let after = json!([{"containerName": "fetch", "condition": condition}]);
    let containers = [container("app", true, after), container("fetch", false, json!([]))];
    job(
        json!({"containerProperties": null, "ecsProperties": {"taskProperties": [{"containers": containers}]}}),
    )
}

fn pod(properties: Value) -> Value {
    job(json!({"containerProperties": null, "eksProperties": {"podProperties": properties}}))
}

fn in_pod(name: &str) -> Value {
    json!({"name": name, "image": "busybox", "resources": {"limits": {"cpu": "0.25", "memory": "32Mi"}}})
}

fn running() -> Value {
    json!({"running": {"startedAt": seconds(Timestamp::now())}})
}

fn ended(code: i32) -> Value {
    let now = seconds(Timestamp::now());
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now,
        "containerID": "containerd://0"}})
}

fn missing() -> Value {
    json!({"waiting": {"reason": "CreateContainerConfigError", "message": "configmap \"x\" not found"}})
}

#[tokio::test]
async fn a_container_is_let_start_when_the_other_one_is_as_far() {
    let world = World::with_queue("order").await;
    let job = world.submit("job", task("COMPLETE")).await;
    let pod = job.pod(1).await;
    let made = pod.get().await;
    let spec = made.spec.clone().expect("a spec");
    assert_eq!(spec.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["fetch", "app"]);
    pod.bind().await;
    let pending = || json!({"phase": "Pending"});
    pod.reports(pending(), &[("app", missing()), ("fetch", running())], false).await;
    job.waits(Phase::Starting, "Waiting for container fetch to end").await;
    let order = format!("{}-order", pod.name);
    let maps = world.api::<ConfigMap>();
    assert!(maps.get_opt(&order).await.expect("an answer").is_none(), "not yet");
    pod.reports(pending(), &[("app", missing()), ("fetch", ended(7))], false).await;
    let opened = |pod: &Pod| {
        pod.annotations().get("batchyard.io/opened-containers").is_some_and(|opened| opened == "app")
    };
    wait::until(&world.api::<Pod>(), &pod.name, "the word that app may start", opened).await;
    let map = maps.get(&order).await.expect("the word is there before it is told of");
    assert_eq!(map.data.expect("data")["app"], "fetch:COMPLETE");
    assert_eq!(map.metadata.owner_references.expect("an owner")[0].uid, made.metadata.uid.expect("a uid"));
    pod.reports(json!({"phase": "Running"}), &[("app", running()), ("fetch", ended(7))], true).await;
    job.reaches(Phase::Running).await;
    pod.reports(json!({"phase": "Failed"}), &[("app", ended(0)), ("fetch", ended(7))], false).await;
    let record = job.reaches(Phase::Succeeded).await;
    let codes: Vec<_> =
        record.attempts[0].containers.iter().map(|c| (c.name.as_str(), c.exit_code)).collect();
    assert_eq!(codes, [("fetch", Some(7)), ("app", Some(0))]);
}

#[tokio::test]
async fn a_container_that_can_never_start_ends_the_attempt() {
    let world = World::with_queue("order-fails").await;
    let job = world.submit("job", task("SUCCESS")).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.reports(json!({"phase": "Pending"}), &[("app", missing()), ("fetch", ended(5))], false).await;
    let record = job.reaches(Phase::Failed).await;
    let end = &record.attempts[0];
    assert_eq!(end.status_reason, "Task failed to start");
    assert_eq!(
        end.container.reason.as_deref(),
        Some("DependencyError: container app depends on fetch, which exited with 5")
    );
    pod.is_deleted().await;
}

/// The outcome is recorded, and then the others are stopped.
#[tokio::test]
async fn the_end_of_an_essential_container_stops_the_others() {
    let world = World::with_queue("essential").await;
    let job = world.submit("job", task("START")).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.reports(json!({"phase": "Running"}), &[("app", running()), ("fetch", running())], true).await;
    job.reaches(Phase::Running).await;
    pod.reports(json!({"phase": "Running"}), &[("app", ended(3)), ("fetch", running())], false).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.attempts[0].container.exit_code, Some(3));
    pod.is_deleted().await;
    pod.reports(json!({"phase": "Failed"}), &[("app", ended(3)), ("fetch", ended(143))], false).await;
    pod.vanishes().await;
    wait::gone(&world.api::<Pod>(), &pod.name).await;
    assert_eq!(job.record().await.attempts.len(), 1);
}

#[tokio::test]
async fn a_pod_ends_with_its_last_container() {
    let world = World::with_queue("joint").await;
    let job = world.submit("job", pod(json!({"containers": [in_pod("a"), in_pod("b")]}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.reports(json!({"phase": "Running"}), &[("a", ended(4)), ("b", running())], false).await;
    job.reaches(Phase::Running).await;
    pod.reports(json!({"phase": "Failed"}), &[("a", ended(4)), ("b", ended(0))], false).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.attempts[0].container.exit_code, Some(4));
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let world = World::with_queue("refused").await;
    let circle = |name: &str| json!([{"containerName": name, "condition": "START"}]);
    let containers = [container("a", true, circle("b")), container("b", true, circle("a"))];
    let task = json!({"taskProperties": [{"containers": containers}]});
    let elsewhere = json!({"containers": [in_pod("a")], "metadata": {"namespace": "kube-system"}});
    let ours = json!({"containers": [in_pod("a")], "metadata": {"labels": {"batchyard.io/job": "x"}}});
    for (name, spec, want) in [
        (
            "circle",
            job(json!({"containerProperties": null, "ecsProperties": task})),
            "containers wait for each other: a, b",
        ),
        ("elsewhere", pod(elsewhere), "and not in kube-system"),
        ("ours", pod(ours), "batchyard.io/job is the operator's own and cannot be set"),
    ] {
        let refused = world.submit(name, spec).await;
        let record = refused.reaches(Phase::Failed).await;
        let why = record.status_reason.unwrap_or_default();
        assert!(why.starts_with("Invalid job definition: ") && why.contains(want), "{name}: {why}");
    }
    let ignored = world.api::<BatchJob>().get("ours").await.expect("it is there").status.expect("a status");
    assert!(ignored.conditions.iter().all(|condition| condition.type_ != "FieldsIgnored"));
}
