//! Pod Security of a namespace: what asks for nothing special runs where nothing else may, and what is refused is told.

use batchyard::crd::JobQueue;
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::{Namespace, Pod, SecurityContext};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::operator::world::{World, job, merge};
use crate::support::wait;

/// Label of the namespaces of these tests, which the operator sees together with the level.
const MARK: &str = "batchyard.io/test-restricted";

/// A namespace that enforces the level *restricted*, with the queue `queue`. No job runs before the operator has seen that.
async fn restricted(name: &str, more: Value) -> World {
    let world = World::empty(name).await;
    let level = "pod-security.kubernetes.io/enforce";
    let labels = Patch::Merge(json!({"metadata": {"labels": {level: "restricted", MARK: "true"}}}));
    let namespaces: Api<Namespace> = Api::all(world.user.clone());
    let patched = namespaces.patch(&world.namespace, &PatchParams::default(), &labels).await;
    patched.expect("a namespace can be labelled");
    let pods = world.api::<Pod>();
    let bare =
        json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "busybox"}]}});
    let bare: Pod = serde_json::from_value(bare).expect("a pod");
    let (what, dry) = ("the level to hold", PostParams { dry_run: true, ..PostParams::default() });
    wait::answer(what, &world.namespace, || async { pods.create(&dry, &bare).await.err() }).await;
    world.node("node", "pool", 16).await;
    let mut environment = json!({"allowedNamespaces": [{"selector": {"matchLabels": {MARK: "true"}}}]});
    merge(&mut environment, more);
    world.environment("pool", environment).await;
    world.queue("queue", json!({})).await;
    world.ready::<JobQueue>("queue").await;
    world
}

fn amounts() -> Value {
    json!([{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}])
}

fn task(more: Value) -> Value {
    let mut task = json!({"containers": [
        {"name": "app", "image": "busybox", "resourceRequirements": amounts()},
        {"name": "helper", "image": "busybox", "essential": false, "resourceRequirements": amounts()}]});
    merge(&mut task, more);
    json!({"containerProperties": null, "ecsProperties": {"taskProperties": [task]}})
}

fn kubernetes(more: Value) -> Value {
    let resources = json!({"limits": {"cpu": "1", "memory": "64Mi"}});
    let mut pod = json!({"containers": [{"name": "app", "image": "busybox", "resources": resources}],
        "initContainers": [{"name": "first", "image": "busybox", "resources": resources}]});
    merge(&mut pod, more);
    json!({"containerProperties": null, "eksProperties": {"podProperties": pod}})
}

fn container(more: Value) -> Value {
    json!({ "containerProperties": more })
}

fn contexts(pod: &Pod) -> Vec<&SecurityContext> {
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.map(|container| container.security_context.as_ref().expect("each has one")).collect()
}

#[tokio::test]
async fn what_asks_for_nothing_special_runs_in_a_restricted_namespace() {
    let world = restricted("sec-restricted", json!({})).await;
    let scratch = json!({"volumes": [{"name": "scratch"}], "linuxParameters": {"initProcessEnabled": true,
        "sharedMemorySize": 32}, "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/scratch"}]});
    for (name, spec) in [
        ("container", json!({})),
        ("scratch", container(scratch)),
        ("user", container(json!({"user": "1000:100", "readonlyRootFilesystem": true}))),
        ("task", task(json!({}))),
        ("pod", kubernetes(json!({}))),
    ] {
        let job = world.submit(name, job(spec)).await;
        let pod = job.pod(1).await;
        let made = pod.get().await;
        for context in contexts(&made) {
            assert_eq!(context.run_as_non_root, Some(true), "{name}: {context:?}");
        }
        assert_eq!(made.spec.and_then(|spec| spec.automount_service_account_token), Some(false), "{name}");
        pod.bind().await;
        job.until("its node", |record| record.phase() == Phase::Starting).await;
    }
}

#[tokio::test]
async fn what_a_restricted_namespace_refuses_is_told() {
    let world = restricted("sec-refused", json!({})).await;
    let host = json!({"volumes": [{"name": "v", "host": {"sourcePath": "/data"}}],
        "mountPoints": [{"sourceVolume": "v", "containerPath": "/data"}]});
    for (name, spec, says) in [
        ("privileged", container(json!({"privileged": true})), "privileged"),
        ("root", container(json!({"user": "root"})), "runAsNonRoot != true"),
        ("host-path", container(host), "restricted volume types"),
        ("processes", task(json!({"pidMode": "host"})), "host namespaces"),
        ("network", kubernetes(json!({"hostNetwork": true})), "host namespaces"),
    ] {
        let job = world.submit(name, job(spec)).await;
        let record = job.reaches(Phase::Failed).await;
        let why = record.status_reason.unwrap_or_default();
        let begins = why.starts_with("Invalid job definition: ");
        assert!(begins && why.contains("violates PodSecurity \"restricted:latest\""), "{name}: {why}");
        assert!(why.contains(says), "{name}: {why}");
        assert!(record.attempts.is_empty(), "{name}: no attempt is used up");
    }
    assert!(world.pods().await.is_empty());
}

#[tokio::test]
async fn what_an_environment_gives_as_aws_does_is_refused_and_the_job_waits() {
    let world = restricted("sec-aws", json!({"podSecurity": "aws"})).await;
    let job = world.submit("job", job(json!({}))).await;
    job.waits(Phase::Runnable, "whose podSecurity is refused").await;
    let only = json!({"allowedNamespaces": [{"selector": {"matchLabels": {MARK: "true"}}}]});
    world.environment("pool", only).await;
    job.pod(1).await;
}

/// Elsewhere an image may run as root, as most do; but with nothing that only root has.
#[tokio::test]
async fn no_capability_for_root_unless_the_environment_gives_it() {
    let world = World::with_queue("sec-root").await;
    let first = world.submit("first", job(json!({}))).await.pod(1).await.get().await;
    let context = contexts(&first)[0];
    assert_eq!((context.run_as_non_root, context.allow_privilege_escalation), (None, Some(false)));
    let dropped = context.capabilities.as_ref().and_then(|capabilities| capabilities.drop.clone());
    assert_eq!(dropped, Some(vec!["ALL".to_owned()]));
    world.changed_environment("pool", json!({"podSecurity": "aws"})).await;
    let second = world.submit("second", job(json!({}))).await.pod(1).await.get().await;
    let context = contexts(&second)[0];
    assert_eq!((&context.capabilities, context.allow_privilege_escalation), (&None, None));
    assert_eq!(
        context.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()),
        Some("RuntimeDefault")
    );
}
