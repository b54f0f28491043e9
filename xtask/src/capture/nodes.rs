//! What becomes of pods when something happens to their node (D2–D7, D12, D13, D17, R2, R5, T7,
//! T8, W12). Each story has a node for itself; [`Usual`] makes it well again after it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::disruptions::{offer, withdraw};
use super::ends::flushes;
use super::moment::{
    self, ended, exists, failed, has_ended, is, is_deleted, is_let_go, phase, running, waits,
};
use super::registry;
use super::stage::{Pod, Stage, container, sleep, sleeps, with};
use super::story::{Story, story};
use crate::cluster;
use crate::process::{Process, output, wait_until};

/// How long a node may take to change.
const PATIENCE: Duration = Duration::from_secs(90);

/// All of them; the longest first, so that two lanes end at about the same time.
pub(super) fn all() -> Vec<Story> {
    vec![
        story(["D4-node-gone-not-collected-yet", "W12-node-gone", "D4-node-gone-collected"], deleted),
        story(
            [
                "D17-node-not-ready",
                "W12-silent-node",
                "D2-unreachable-node",
                "D13-out-of-service-not-collected-yet",
                "D13-out-of-service-but-not-deleted",
                "D13-out-of-service-collected",
                "T8-node-rebooted",
            ],
            switched_off,
        ),
        story(["D5-memory-pressure", "D5-while-pulling", "R5-memory-pressure"], memory_pressure),
        story(["R5-after-it-ran", "R5-disk-pressure"], disk_pressure),
        story(["D17-node-back"], silent_for_a_while),
        story(["R2-after-it-ran", "R2-while-starting"], kubelet_restarted),
        story(["T8-containerd-restarted"], containerd_killed),
        story(["T7-lost-and-being-made-again"], container_removed),
        story(
            [
                "D3-drained",
                "T1-exit-0-during-a-drain",
                "D3-drained-with-a-sidecar",
                "T1-exit-0-during-a-drain-with-a-sidecar",
                "D12-drained-by-delete",
            ],
            drained,
        ),
        story(["D3-interrupted"], interrupted),
        story(["D2-tainted", "R2-tainted"], tainted),
        story(["D7-critical-pod", "R1-out-of-gpu"], critical),
    ]
}

fn drained(stage: &Stage<'_>) -> Result<()> {
    let (stops, succeeds) = (stage.sleeper("d3-drained", 143)?, stage.sleeper("t1-drained", 0)?);
    let deleted = stage.sleeper("d12-drained-by-delete", 143)?;
    let failing = stage.pod("d3-flushes", flushes(&sleep(143)))?;
    let flushing = stage.pod("t1-flushes", flushes(&sleep(0)))?;
    for pod in [&failing, &flushing] {
        stage.until(pod, &running())?;
    }
    stage.kubectl(["cordon", stage.node])?;
    for pod in [&stops, &succeeds, &failing, &flushing] {
        stage.evict(pod)?;
    }
    stage.delete(&deleted)?;
    stage.picture("D3-drained-with-a-sidecar", &failing, ended())?;
    stage.picture("T1-exit-0-during-a-drain-with-a-sidecar", &flushing, ended())?;
    stage.picture("D3-drained", &stops, ended())?;
    stage.picture("T1-exit-0-during-a-drain", &succeeds, ended())?;
    stage.picture("D12-drained-by-delete", &deleted, is_let_go())?;
    stage.remove(&[&stops, &succeeds, &deleted, &failing, &flushing])
}

fn interrupted(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("d3-interrupted", 143)?;
    taint(stage, "aws-node-termination-handler/spot-itn=true:NoSchedule")?;
    stage.evict(&pod)?;
    stage.picture("D3-interrupted", &pod, ended())?;
    stage.remove(&[&pod])
}

fn tainted(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("d2-tainted", 143)?;
    taint(stage, "capture.batchyard.io/gone=true:NoExecute")?;
    stage.picture("D2-tainted", &pod, ended())?;
    let late = stage.pod("r2-tainted", bound(stage, sleeps(0)))?;
    stage.picture("R2-tainted", &late, failed("TaintToleration"))?;
    stage.remove(&[&pod, &late])
}

/// The plug is pulled; later somebody vouches that the node is out of service; then it boots.
fn switched_off(stage: &Stage<'_>) -> Result<()> {
    let stays = json!({"tolerations": [{"operator": "Exists"}]});
    let leaves = json!({"tolerations": [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3},
    ]});
    let stays = stage.pod("t8-node-rebooted", with(sleeps(143), stays))?;
    let leaves = stage.pod("d2-unreachable-node", with(sleeps(143), leaves))?;
    let pulls = pulling(stage, "w12-silent-node")?;
    for pod in [&stays, &leaves] {
        stage.until(pod, &running())?;
    }
    power(stage, false)?;
    stage.picture("D17-node-not-ready", &stays, is("Ready", "False").and(running()))?;
    await_ready(stage, false)?;
    stage.picture("W12-silent-node", &pulls, exists())?;
    stage.picture("D2-unreachable-node", &leaves, is_deleted())?;
    taint(stage, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")?;
    stage.picture("D13-out-of-service-not-collected-yet", &leaves, is_deleted().and(phase("Running")))?;
    stage.picture("D13-out-of-service-but-not-deleted", &stays, running())?;
    stage.picture("D13-out-of-service-collected", &leaves, phase("Failed"))?;
    untaint(stage, "node.kubernetes.io/out-of-service")?;
    power(stage, true)?;
    await_ready(stage, true)?;
    stage.picture("T8-node-rebooted", &stays, ended())?;
    stage.remove(&[&stays, &leaves, &pulls])
}

/// Its Node object is deleted while it is off; it boots as a new one.
fn deleted(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("d4-node-gone", 143)?;
    let pulls = pulling(stage, "w12-node-gone")?;
    power(stage, false)?;
    stage.kubectl(["delete", "node", stage.node])?;
    stage.picture("D4-node-gone-not-collected-yet", &pod, phase("Running"))?;
    stage.picture("W12-node-gone", &pulls, phase("Pending"))?;
    stage.picture("D4-node-gone-collected", &pod, phase("Failed"))?;
    stage.remove(&[&pod, &pulls])
}

/// The kubelet says nothing for a while; containers run on.
fn silent_for_a_while(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("d17-node-back", 143)?;
    kubelet(stage, Signal::SIGSTOP)?;
    await_ready(stage, false)?;
    stage.until(&pod, &is("Ready", "False"))?;
    kubelet(stage, Signal::SIGCONT)?;
    await_ready(stage, true)?;
    stage.picture("D17-node-back", &pod, is("Ready", "True").and(running()))?;
    stage.remove(&[&pod])
}

/// A label that a pod needs is gone when its kubelet starts again.
fn kubelet_restarted(stage: &Stage<'_>) -> Result<()> {
    const LABEL: &str = "capture.batchyard.io/here";
    let selector = json!({"nodeSelector": {LABEL: "true"}});
    stage.kubectl(["label", "node", stage.node, &format!("{LABEL}=true")])?;
    let ran = stage.pod("r2-after-it-ran", with(sleeps(143), selector.clone()))?;
    let starts = stage.pod("r2-while-starting", with(slow_image(stage)?, selector))?;
    stage.until(&ran, &running())?;
    stage.until(&starts, &is("PodReadyToStartContainers", "True"))?;
    stage.kubectl(["label", "node", stage.node, &format!("{LABEL}-")])?;
    restart_kubelet(stage, |_| {})?;
    stage.picture("R2-after-it-ran", &ran, failed("NodeAffinity").and(has_ended("main")))?;
    stage.picture("R2-while-starting", &starts, failed("NodeAffinity").and(has_ended("main")))?;
    stage.remove(&[&ran, &starts])
}

/// containerd dies together with the processes that watch its containers.
fn containerd_killed(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("t8-containerd-restarted", 143)?;
    kill_containerd(stage, true)?;
    stage.picture("T8-containerd-restarted", &pod, ended())?;
    stage.remove(&[&pod])
}

/// A container is removed while neither the kubelet nor containerd looks.
fn container_removed(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("t7-lost", 143)?;
    let version = stage.until(&pod, &running())?;
    let id = version.pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
    let id = id.trim_start_matches("containerd://").to_owned();
    kubelet(stage, Signal::SIGSTOP)?;
    kill_containerd(stage, true)?;
    let ctr = stage.cluster.path.join("ctr").display().to_string();
    wait_until("the container to be removed", PATIENCE, || {
        let remove = [ctr.as_str(), "--namespace", "k8s.io", "containers", "rm", &id];
        Ok(output(&mut cluster::on_node(&stage.cluster.name, stage.node, &remove)?).is_ok())
    })?;
    kill_containerd(stage, false)?;
    kubelet(stage, Signal::SIGCONT)?;
    stage.picture("T7-lost-and-being-made-again", &pod, moment::was_lost("main"))?;
    stage.remove(&[&pod])
}

/// The kubelet is told to keep more memory free than there is.
fn memory_pressure(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("d5-memory-pressure", 143)?;
    let pulls = pulling(stage, "d5-while-pulling")?;
    restart_kubelet(stage, |config| {
        // What is kept free counts as reserved, and not more can be reserved than there is.
        config["evictionHard"]["memory.available"] = "99%".into();
        config["kubeReserved"]["memory"] = "0".into();
    })?;
    stage.picture("D5-memory-pressure", &pod, failed("Evicted").and(ended()))?;
    stage.picture("D5-while-pulling", &pulls, failed("Evicted").and(ended()))?;
    // Only pods that ask for nothing are refused.
    let modest =
        json!({"name": "main", "image": "alpine", "imagePullPolicy": "IfNotPresent", "command": ["true"]});
    let late = stage.pod("r5-memory-pressure", bound(stage, json!({"containers": [modest]})))?;
    stage.picture("R5-memory-pressure", &late, failed("Evicted"))?;
    stage.remove(&[&pod, &pulls, &late])
}

/// The kubelet is told to keep more of the disk free than there is; it takes 100 % for no limit.
fn disk_pressure(stage: &Stage<'_>) -> Result<()> {
    let pod = stage.sleeper("r5-after-it-ran", 143)?;
    restart_kubelet(stage, |config| config["evictionHard"]["nodefs.available"] = "99%".into())?;
    // Started again, the kubelet looks at it as at a new pod.
    stage.picture("R5-after-it-ran", &pod, failed("Evicted").and(has_ended("main")))?;
    let late = stage.pod("r5-disk-pressure", bound(stage, sleeps(0)))?;
    stage.picture("R5-disk-pressure", &late, failed("Evicted"))?;
    stage.remove(&[&pod, &late])
}

/// A pod of the system needs what a pod of ours has; then one of ours comes too late.
fn critical(stage: &Stage<'_>) -> Result<()> {
    const GPU: &str = "nvidia.com/gpu";
    offer(stage, GPU)?;
    let needs = json!({"resources": {"requests": {GPU: "1"}, "limits": {GPU: "1"}}});
    let spec = || bound(stage, json!({"containers": [with(container("main", &sleep(143)), needs.clone())]}));
    let pod = stage.pod("d7-critical-pod", spec())?;
    stage.until(&pod, &running())?;
    let late = stage.pod("r1-out-of-gpu", spec())?;
    stage.picture("R1-out-of-gpu", &late, failed("OutOfnvidia.com/gpu"))?;
    let critical =
        stage.pod("d7-preempts", with(spec(), json!({"priorityClassName": "system-node-critical"})))?;
    stage.picture("D7-critical-pod", &pod, failed("Preempting").and(ended()))?;
    stage.remove(&[&pod, &critical, &late])?;
    withdraw(stage, GPU)
}

/// The spec of a pod that names its node, past the scheduler.
fn bound(stage: &Stage<'_>, spec: Value) -> Value {
    with(spec, json!({"nodeName": stage.node}))
}

/// A pod whose image is pulled for ever.
fn pulling(stage: &Stage<'_>, name: &str) -> Result<Pod> {
    let pod = stage.pod(name, slow_image(stage)?)?;
    stage.until(&pod, &waits("main", "ContainerCreating").and(is("PodReadyToStartContainers", "True")))?;
    Ok(pod)
}

fn slow_image(stage: &Stage<'_>) -> Result<Value> {
    let image = format!("{}/slow/image:1", registry::address(stage.cluster)?);
    Ok(json!({"containers": [with(container("main", "exit 0"), json!({"image": image}))]}))
}

fn taint(stage: &Stage<'_>, taint: &str) -> Result<()> {
    stage.kubectl(["taint", "node", stage.node, taint]).map(drop)
}

fn untaint(stage: &Stage<'_>, key: &str) -> Result<()> {
    stage.kubectl(["taint", "node", stage.node, &format!("{key}-")]).map(drop)
}

fn power(stage: &Stage<'_>, on: bool) -> Result<()> {
    cluster::set_power(&stage.cluster.name, stage.node, on)
}

fn condition(stage: &Stage<'_>, kind: &str) -> Result<String> {
    let node = stage.get("node", stage.node)?.unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.iter().find(|condition| condition["type"] == kind);
    Ok(condition.and_then(|c| c["status"].as_str()).unwrap_or_default().to_owned())
}

fn await_ready(stage: &Stage<'_>, ready: bool) -> Result<()> {
    let what = if ready { "the node to be Ready" } else { "the node to be NotReady" };
    wait_until(what, PATIENCE, || Ok((condition(stage, "Ready")? == "True") == ready))
}

/// Waits until no resource of the node is short any more, and nothing keeps pods off.
fn await_well(stage: &Stage<'_>) -> Result<()> {
    wait_until("the node to be well", PATIENCE, || {
        let node = stage.get("node", stage.node)?.unwrap_or_default();
        let short = ["MemoryPressure", "DiskPressure"].map(|kind| condition(stage, kind));
        let well = short.into_iter().collect::<Result<Vec<_>>>()?.iter().all(|status| status == "False");
        Ok(well && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
    })
}

/// Sends a signal to the kubelet.
fn kubelet(stage: &Stage<'_>, signal: Signal) -> Result<Process> {
    let found = cluster::node_processes(&stage.cluster.name, stage.node, &["kubernetes", "kubelet"])?;
    let kubelet = *found.first().context("no kubelet runs")?;
    kubelet.signal(signal);
    Ok(kubelet)
}

/// Changes the kubelet's configuration and starts it again.
fn restart_kubelet(stage: &Stage<'_>, change: impl FnOnce(&mut Value)) -> Result<()> {
    let file = configuration(stage)?;
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    change(&mut config);
    fs::write(&file, config.to_string())?;
    kubelet(stage, Signal::SIGKILL)?;
    Ok(())
}

fn configuration(stage: &Stage<'_>) -> Result<PathBuf> {
    Ok(cluster::node_folder(&stage.cluster.name, stage.node)?.join("etc/kubelet.json"))
}

/// A node as it was before the first story.
pub(super) struct Usual(String);

impl Usual {
    /// Remembers the stage's node as it is now.
    pub(super) fn of(stage: &Stage<'_>) -> Result<Self> {
        Ok(Self(fs::read_to_string(configuration(stage)?)?))
    }

    /// Makes it so again, whatever a story left, and waits until the node is well.
    pub(super) fn restore(&self, stage: &Stage<'_>) -> Result<()> {
        if cluster::node_processes(&stage.cluster.name, stage.node, &[])?.is_empty() {
            power(stage, true)?;
        }
        let file = configuration(stage)?;
        let is_usual = fs::read_to_string(&file)? == self.0;
        fs::write(&file, &self.0)?;
        kubelet(stage, if is_usual { Signal::SIGCONT } else { Signal::SIGKILL })?;
        wait_until("the node to register", PATIENCE, || Ok(stage.get("node", stage.node)?.is_some()))?;
        let clean = r#"{"spec":{"taints":null,"unschedulable":null}}"#;
        stage.kubectl(["patch", "node", stage.node, "--type=merge", "--patch", clean])?;
        await_ready(stage, true)?;
        await_well(stage)
    }
}

/// Kills containerd, if wanted together with all that watches its containers, and waits until it is back.
fn kill_containerd(stage: &Stage<'_>, shims: bool) -> Result<()> {
    let (name, node) = (&stage.cluster.name, stage.node);
    let old = cluster::node_processes(name, node, &["containerd"])?;
    old.iter().for_each(|process| process.kill());
    if shims {
        cluster::node_processes(name, node, &["containerd-shim-runc-v2"])?
            .iter()
            .for_each(|process| process.kill());
    }
    let ctr = stage.cluster.path.join("ctr").display().to_string();
    wait_until("containerd to be back", PATIENCE, || {
        let ask = [ctr.as_str(), "version"];
        let answers = output(&mut cluster::on_node(name, node, &ask)?).is_ok();
        Ok(answers && !old.iter().any(|process| process.is_alive()))
    })
}
