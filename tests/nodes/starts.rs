//! What keeps a container from starting: images, configuration, and nodes that refuse the pod.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::Case;
use crate::ends::{End, exit, failed, not_started, pod_deleted, succeeded};
use crate::programs::{image, in_queue, polite, shell};
use crate::registry::{Mood, Registry};
use crate::scenario::{Scenario, is};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("h6-l3-a-pull-uses-up-no-timeout", |scenario| Box::pin(slow_pull(scenario))).local_only(),
        Case::story("h1-registry-down-for-good", |scenario| Box::pin(registry_down(scenario))).local_only(),
        Case::story("h1-registry-down-and-back", |scenario| {
            Box::pin(registry_recovers(scenario, Mood::Down, "connection refused"))
        })
        .local_only(),
        Case::story("h7-registry-busy", |scenario| {
            Box::pin(registry_recovers(scenario, Mood::Says("429 Too Many Requests"), "429"))
        })
        .local_only(),
        Case::story("h3-h4-h5-images-that-cannot-be", |scenario| Box::pin(impossible_images(scenario)))
            .local_only(),
        Case::story("g8-pod-deleted-while-pulling", |scenario| Box::pin(deleted_while_pulling(scenario)))
            .local_only(),
        Case::story("i1-a-secret-that-comes-late", |scenario| Box::pin(late_secret(scenario))),
        Case::story("i1-i2-i3-i4-i6-configuration-that-is-missing", |scenario| {
            Box::pin(missing_configuration(scenario))
        }),
        Case::story("f9-g7-refusals-use-up-no-attempt", |scenario| Box::pin(refusals(scenario))),
        Case::story("f9-refusals-come-to-an-end", |scenario| Box::pin(refused_for_good(scenario))),
    ]
}

/// The post's alpine, by the name that it has in the registry.
pub(crate) const ALPINE: &str = "library/alpine:latest";

/// For jobs without a retry strategy.
fn at_once(end: End) -> End {
    end.failed_by_rule("attempts exhausted (1 of 1)")
}

/// The timeout of 60 s is over before the container starts, and counts from there.
async fn slow_pull(scenario: &Scenario<'_>) -> Result<()> {
    let registry = Registry::open(scenario, "slow", Mood::Silent)?;
    let mut job = image(&registry.image(ALPINE));
    let program = polite()["containerOverrides"]["command"].clone();
    job["containerProperties"]["command"] = program;
    job["timeout"] = json!({"attemptDurationSeconds": 60});
    scenario.submit("job", job).await;
    scenario.until("job", "to be STARTING", |job| is(job, "STARTING")).await?;
    // The pull itself takes that long.
    sleep_until(Instant::now() + Duration::from_secs(62)).await;
    registry.become_(Mood::Well)?;
    scenario.runs("job", 1).await?;
    crate::orders::times_out(scenario, "job").await
}

async fn registry_down(scenario: &Scenario<'_>) -> Result<()> {
    let registry = Registry::open(scenario, "down", Mood::Down)?;
    scenario.submit("job", image(&registry.image(ALPINE))).await;
    scenario.ends("job", &failed([at_once(not_started("CannotPullContainerError:"))])).await?;
    Ok(())
}

/// The registry is of no use for 20 s. That costs time, but no attempt and no second pod.
async fn registry_recovers(scenario: &Scenario<'_>, mood: Mood, words: &str) -> Result<()> {
    let registry = Registry::open(scenario, "back", mood)?;
    scenario.submit("job", image(&registry.image(ALPINE))).await;
    let back = Instant::now() + Duration::from_secs(20);
    scenario.waits("job", "STARTING", words).await?;
    sleep_until(back).await;
    registry.become_(Mood::Well)?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    ensure!(scenario.seen.pods() == 1, "there were {} pods", scenario.seen.pods());
    Ok(())
}

async fn impossible_images(scenario: &Scenario<'_>) -> Result<()> {
    scenario.queue("never", json!({"podDefaults": {"imagePullPolicy": "Never"}})).await?;
    let registry = Registry::open(scenario, "closed", Mood::Says("401 Unauthorized"))?;
    let jobs = [
        ("denied", image(&registry.image(ALPINE))),
        ("malformed", image("UPPER/CASE:latest")),
        ("absent", in_queue("never", image("never-pulled:1"))),
    ];
    for (name, job) in &jobs {
        scenario.submit(name, job.clone()).await;
    }
    for (name, _) in &jobs {
        scenario.ends(name, &failed([at_once(not_started("CannotPullContainerError:"))])).await?;
    }
    Ok(())
}

/// What ends a pull of a pod that is being deleted: the kubelet waits for the runtime, which waits
/// for the registry. With the image the container might still be started.
pub(crate) const BROKEN: Mood = Mood::Says("500 Internal Server Error");

async fn deleted_while_pulling(scenario: &Scenario<'_>) -> Result<()> {
    let registry = Registry::open(scenario, "slow", Mood::Silent)?;
    scenario.submit("job", image(&registry.image(ALPINE))).await;
    scenario.until("job", "to be STARTING", |job| is(job, "STARTING")).await?;
    scenario.delete_pod("job", &DeleteParams::default()).await?;
    registry.become_(BROKEN)?;
    // The kubelet's 137 for a container that never was is no exit code.
    scenario.ends("job", &failed([at_once(pod_deleted(None).before_it_ran())])).await?;
    Ok(())
}

/// The Secret's name in the tests.
const SECRET: &str = "late";

/// The variable WORD from a key of a Secret or ConfigMap.
fn word_from(kind: &str, name: &str) -> String {
    let source = "Object.spec.containers.env.valueFrom";
    format!(
        "JSONPatch{{op: \"add\", path: \"/spec/containers/0/env/-\", value: Object.spec.containers.env{{\
         name: \"WORD\", valueFrom: {source}{{{kind}: {source}.{kind}{{name: \"{name}\", key: \"WORD\"}}}}}}}}"
    )
}

/// A volume from this source: `kind{name: value}` in CEL.
fn volume_from(kind: &str, name: &str, value: &str) -> String {
    let add =
        |path: &str, value: &str| format!("JSONPatch{{op: \"add\", path: \"/spec/{path}\", value: {value}}}");
    let source = format!("{kind}: Object.spec.volumes.{kind}{{{name}: \"{value}\"}}");
    let mount = "Object.spec.containers.volumeMounts{name: \"volume\", mountPath: \"/volume\"}";
    [
        add("volumes", "[]"),
        add("volumes/-", &format!("Object.spec.volumes{{name: \"volume\", {source}}}")),
        add("containers/0/volumeMounts", "[]"),
        add("containers/0/volumeMounts/-", mount),
    ]
    .join(", ")
}

/// Root is forbidden, and the image has no other user.
const NOT_AS_ROOT: &str = "JSONPatch{op: \"add\", path: \"/spec/securityContext\", value: \
    Object.spec.securityContext{runAsNonRoot: true}}";

async fn late_secret(scenario: &Scenario<'_>) -> Result<()> {
    scenario.inject("job", &word_from("secretKeyRef", SECRET)).await?;
    scenario.submit("job", shell("[ $WORD = open ]")).await;
    let comes = Instant::now() + Duration::from_secs(10);
    scenario.waits("job", "STARTING", "secret \"late\" not found").await?;
    sleep_until(comes).await;
    let secret = json!({"metadata": {"name": SECRET}, "stringData": {"WORD": "open"}});
    scenario.apply::<Secret>(&secret).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    ensure!(scenario.seen.pods() == 1, "there were {} pods", scenario.seen.pods());
    Ok(())
}

async fn missing_configuration(scenario: &Scenario<'_>) -> Result<()> {
    let other = json!({"metadata": {"name": "other"}, "stringData": {"key": "value"}});
    scenario.apply::<Secret>(&other).await;
    let jobs = [
        ("secret", word_from("secretKeyRef", SECRET)),
        ("config-map", word_from("configMapKeyRef", SECRET)),
        ("key", word_from("secretKeyRef", "other")),
        ("volume", volume_from("secret", "secretName", SECRET)),
        ("root", NOT_AS_ROOT.to_owned()),
    ];
    for (name, operations) in &jobs {
        scenario.inject(name, operations).await?;
        scenario.submit(name, shell("exit 0")).await;
    }
    // No node is to blame for a claim, and none has begun: that uses up no attempt.
    scenario.inject("claim", &volume_from("persistentVolumeClaim", "claimName", SECRET)).await?;
    scenario.submit("claim", shell("exit 0")).await;
    scenario.waits("claim", "RUNNABLE", "persistentvolumeclaim \"late\" not found").await?;
    scenario.change("claim", json!({"cancel": "no volume"})).await?;
    scenario.ends("claim", &failed([]).cancelled("no volume")).await?;
    for (name, _) in &jobs {
        scenario.ends(name, &failed([not_started("ResourceInitializationError:").failed_by(1)])).await?;
    }
    Ok(())
}

/// A queue whose pods wait for the case to bind them, as a scheduler does. They ask for next to no CPU:
/// with that of a node used up by other cases, kubelets would refuse them for its lack.
const BY_HAND: &str = "by-hand";

async fn bind_by_hand(scenario: &Scenario<'_>) -> Result<()> {
    let change = json!({"vcpuRequestPercent": 1, "podDefaults": {"schedulerName": "nobody"}});
    scenario.queue(BY_HAND, change).await
}

/// More memory than is left on a node beside `ballast`.
fn large(node_memory: u64) -> Value {
    let mut job = in_queue(BY_HAND, shell("exit 0"));
    let memory = json!({"type": "MEMORY", "value": (node_memory * 45 / 100).to_string()});
    let requirements = job["containerOverrides"]["resourceRequirements"].as_array_mut();
    requirements.expect("the vCPUs are stated there").push(memory);
    job
}

/// The memory that pods may request on a node, in MiB. Machines differ.
async fn memory_of(scenario: &Scenario<'_>, node: &str) -> Result<u64> {
    let node = Api::<Node>::all(scenario.cluster.client.clone()).get(node).await?;
    let memory = node.status.and_then(|status| status.allocatable).and_then(|mut all| all.remove("memory"));
    let memory = memory.context("a node says how much memory it has")?.0;
    let kib: u64 = memory.strip_suffix("Ki").context("a kubelet counts in Ki")?.parse()?;
    Ok(kib / 1024)
}

/// Fills a node's memory with a foreign pod, as far as other cases have no need of it.
async fn ballast(scenario: &Scenario<'_>, node: &str, node_memory: u64) -> Result<()> {
    let memory = format!("{}Mi", node_memory * 60 / 100);
    let requests = json!({"requests": {"cpu": "10m", "memory": memory}});
    let container = json!({"name": "ballast", "image": "alpine:latest", "resources": requests,
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]});
    let pod = json!({"metadata": {"name": "ballast"},
        "spec": {"nodeName": node, "restartPolicy": "Never", "containers": [container]}});
    scenario.apply::<Pod>(&pod).await;
    scenario.pod_until("ballast", "to run", |pod| phase(pod) == "Running").await
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Three pods start nothing: one is deleted before it is bound, one is bound to a node that is not
/// of the environment, one to a node that is full. The fourth runs, as the first attempt.
async fn refusals(scenario: &Scenario<'_>) -> Result<()> {
    bind_by_hand(scenario).await?;
    let [full, free] = scenario.cluster.spot_nodes();
    let memory = memory_of(scenario, full).await?;
    ballast(scenario, full, memory).await?;
    scenario.submit("job", large(memory)).await;
    let pod = scenario.pod_of("job", 0).await?;
    scenario.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
    for (placement, node) in [scenario.cluster.cluster.nodes[0].as_str(), full, free].iter().enumerate() {
        let pod = scenario.pod_of("job", placement + 1).await?;
        scenario.bind(&pod.name_any(), node).await?;
    }
    let job = scenario.ends("job", &succeeded([exit(0)]).after_placements(3)).await?;
    let placements = job.status.map(|status| status.record.placements).unwrap_or_default();
    let words: Vec<&str> = placements.iter().map(|placement| placement.status_reason.as_str()).collect();
    for (expected, found) in ["Pod deleted before", "NodeAffinity", "OutOfmemory"].iter().zip(&words) {
        ensure!(found.starts_with(expected), "expected {expected}, found {words:?}");
    }
    scenario.api::<Pod>().delete("ballast", &DeleteParams::default()).await?;
    Ok(())
}

/// Five refusals are free; the sixth is an attempt that failed.
async fn refused_for_good(scenario: &Scenario<'_>) -> Result<()> {
    bind_by_hand(scenario).await?;
    scenario.submit("job", in_queue(BY_HAND, shell("exit 0"))).await;
    for placement in 0..6 {
        let pod = scenario.pod_of("job", placement).await?;
        scenario.bind(&pod.name_any(), &scenario.cluster.cluster.nodes[0]).await?;
    }
    let end = not_started("NodeAffinity").failed_by(1);
    scenario.ends("job", &failed([end]).after_placements(5)).await?;
    Ok(())
}
