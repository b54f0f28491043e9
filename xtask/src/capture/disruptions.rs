//! What people and the cluster do to pods while their node stays as it is (D1, D3, D12, D15).

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::moment::{ended, has_ended, is, is_deleted, is_let_go, phase, running, runs as is_up};
use super::stage::{Stage, container, runs, sleep, with};
use super::story::{Story, story};
use crate::process::wait_until;

/// Shell that takes some seconds to stop.
const SLOW: &str = "trap 'echo caught SIGTERM; sleep 3; exit 143' TERM; sleep 1000 & wait";

/// All of them.
pub(super) fn all() -> Vec<Story> {
    let mut all = evictions();
    all.extend(deletions());
    all.push(story(["D1-preempted"], preempted));
    all
}

fn two(main: &str, helper: &str) -> Value {
    json!({"containers": [container("main", main), container("helper", helper)]})
}

/// The Eviction API, from a node that stays.
fn evictions() -> Vec<Story> {
    vec![
        story(["D3-descheduled"], |stage| {
            let pod = stage.sleeper("d3-descheduled", 143)?;
            stage.evict(&pod)?;
            stage.picture("D3-descheduled", &pod, ended())
        }),
        story(["T1-exit-0-when-evicted"], |stage| {
            let pod = stage.sleeper("t1-exit-0-when-evicted", 0)?;
            stage.evict(&pod)?;
            stage.picture("T1-exit-0-when-evicted", &pod, ended())
        }),
        story(["D3-still-stopping"], |stage| {
            let pod = stage.pod("d3-still-stopping", runs(SLOW))?;
            stage.until(&pod, &running())?;
            stage.evict(&pod)?;
            stage.picture("D3-still-stopping", &pod, is_deleted().and(is("DisruptionTarget", "True")))
        }),
        story(["D3-one-of-two-stopped-well"], |stage| {
            let pod = stage.pod("d3-one-of-two-stopped-well", two(&sleep(0), SLOW))?;
            stage.until(&pod, &running().and(is_up("helper")))?;
            stage.evict(&pod)?;
            stage.picture("D3-one-of-two-stopped-well", &pod, ended())
        }),
    ]
}

/// Deletions, by whomever.
fn deletions() -> Vec<Story> {
    vec![
        story(["D12-deleted-by-a-user", "D12-deleted-and-done"], |stage| {
            let pod = stage.sleeper("d12-deleted-by-a-user", 143)?;
            stage.delete(&pod)?;
            stage.picture("D12-deleted-by-a-user", &pod, phase("Failed"))?;
            stage.picture("D12-deleted-and-done", &pod, is_let_go())
        }),
        story(["D12-exit-0-when-deleted"], |stage| {
            let pod = stage.sleeper("d12-exit-0-when-deleted", 0)?;
            stage.delete(&pod)?;
            stage.picture("D12-exit-0-when-deleted", &pod, is_let_go())
        }),
        story(["D12-deleted-and-done-own-code"], |stage| {
            let pod = stage.sleeper("d12-deleted-and-done-own-code", 3)?;
            stage.delete(&pod)?;
            stage.picture("D12-deleted-and-done-own-code", &pod, is_let_go())
        }),
        story(["D12-killed-after-the-grace"], |stage| {
            let deaf =
                with(runs("trap '' TERM; sleep 1000 & wait"), json!({"terminationGracePeriodSeconds": 1}));
            let pod = stage.pod("d12-killed-after-the-grace", deaf)?;
            stage.until(&pod, &running())?;
            stage.delete(&pod)?;
            stage.picture("D12-killed-after-the-grace", &pod, is_let_go())
        }),
        story(["D12-still-stopping"], |stage| {
            let pod = stage.pod("d12-still-stopping", runs(SLOW))?;
            stage.until(&pod, &running())?;
            stage.delete(&pod)?;
            stage.picture("D12-still-stopping", &pod, is_deleted())
        }),
        story(["D12-failed-before"], |stage| {
            let pod = stage.pod("d12-failed-before", two("exit 1", &sleep(143)))?;
            stage.until(&pod, &has_ended("main").and(is_up("helper")))?;
            next_second()?;
            stage.delete(&pod)?;
            stage.picture("D12-failed-before", &pod, is_deleted().and(is_up("helper")))
        }),
        story(["D12-ended-then-deleted"], |stage| {
            let pod = stage.pod("d12-ended-then-deleted", runs("echo killed by its parent; exit 143"))?;
            stage.until(&pod, &ended())?;
            stage.delete(&pod)?;
            stage.picture("D12-ended-then-deleted", &pod, is_let_go())
        }),
        story(["D15-force-deleted-and-held", "D15-force-deleted-and-reported"], |stage| {
            let pod = stage.pod("d15-force-deleted-and-held", runs(SLOW))?;
            stage.until(&pod, &running())?;
            stage.force_delete(&pod)?;
            stage.picture("D15-force-deleted-and-held", &pod, is_deleted())?;
            stage.picture("D15-force-deleted-and-reported", &pod, ended())
        }),
    ]
}

/// Times of a pod's status have no fractions, so that what follows within a second cannot be told.
fn next_second() -> Result<()> {
    let now = jiff::Timestamp::now().as_second();
    wait_until("the next second", Duration::from_secs(5), || Ok(jiff::Timestamp::now().as_second() > now))
}

/// Two pods want the only seat of a node; the one that comes later has the higher priority.
fn preempted(stage: &Stage<'_>) -> Result<()> {
    const SEAT: &str = "capture.batchyard.io/seat";
    offer(stage, SEAT)?;
    stage.create(&json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "capture-high", "labels": {"batchyard.io/capture": "true"}}, "value": 1000,
    }))?;
    let seat = json!({"resources": {"requests": {SEAT: "1"}, "limits": {SEAT: "1"}}});
    let spec = || json!({"containers": [with(container("main", &sleep(143)), seat.clone())]});
    let low = stage.pod("d1-preempted", spec())?;
    stage.until(&low, &running())?;
    let high = stage.pod("d1-preempts", with(spec(), json!({"priorityClassName": "capture-high"})))?;
    stage.picture("D1-preempted", &low, ended())?;
    stage.remove(&[&low, &high])?;
    stage.kubectl(["delete", "priorityclass", "capture-high"])?;
    withdraw(stage, SEAT)
}

/// Lets the stage's node offer one piece of an extended resource.
pub(super) fn offer(stage: &Stage<'_>, resource: &str) -> Result<()> {
    let patch = json!({"status": {"capacity": {resource: "1"}}}).to_string();
    stage.kubectl([
        "patch",
        "node",
        stage.node,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    // The kubelet makes it allocatable when it reports next.
    wait_until("the node to offer it", Duration::from_secs(60), || {
        let node = stage.get("node", stage.node)?.unwrap_or_default();
        Ok(node["status"]["allocatable"][resource] == "1")
    })
}

/// Takes an extended resource away again.
pub(super) fn withdraw(stage: &Stage<'_>, resource: &str) -> Result<()> {
    let patch =
        json!({"status": {"capacity": {resource: null}, "allocatable": {resource: null}}}).to_string();
    stage.kubectl([
        "patch",
        "node",
        stage.node,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    Ok(())
}
