//! Reads a Kubernetes Pod and a termination fixture from JSON into the core's views.

use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use jiff::Timestamp;
use serde_json::Value;

/// A pod from its `metadata`, `spec` and `status`. The containers named in `auxiliary` are
/// auxiliary, the others essential.
pub(crate) fn pod(metadata: &Value, spec: &Value, status: &Value, auxiliary: &[&str]) -> PodView {
    let restarts = |name: &str| {
        let mut inits = spec["initContainers"].as_array().into_iter().flatten();
        inits.any(|c| c["name"] == name && c["restartPolicy"] == "Always")
    };
    PodView {
        name: text(&metadata["name"]).unwrap_or_default(),
        uid: text(&metadata["uid"]).unwrap_or_default(),
        attempt: 1,
        created_at: time(&metadata["creationTimestamp"]),
        generation: metadata["generation"].as_i64(),
        deleted_at: time(&metadata["deletionTimestamp"]),
        deletion_grace_seconds: metadata["deletionGracePeriodSeconds"].as_i64(),
        held: metadata["finalizers"].as_array().is_some_and(|f| !f.is_empty()),
        gated: spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()),
        node_name: text(&spec["nodeName"]),
        observed_generation: status["observedGeneration"].as_i64(),
        phase: match status["phase"].as_str() {
            Some("Pending") => PodPhase::Pending,
            Some("Running") => PodPhase::Running,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            _ => PodPhase::Unknown,
        },
        reason: text(&status["reason"]),
        message: text(&status["message"]),
        conditions: list(&status["conditions"], condition),
        init_containers: list(&status["initContainerStatuses"], |c| match restarts(&name(c)) {
            true => container(c, ContainerRole::Sidecar),
            false => container(c, ContainerRole::Init),
        }),
        containers: list(&status["containerStatuses"], |c| match auxiliary.contains(&name(c).as_str()) {
            true => container(c, ContainerRole::Auxiliary),
            false => container(c, ContainerRole::Essential),
        }),
        ..PodView::default()
    }
}

/// A node of a fixture; absent stands for a node that does not exist.
pub(crate) fn node(node: &Value) -> Option<NodeView> {
    let name = text(&node["name"])?;
    let provider = node["providerID"].as_str().unwrap_or_default();
    let instance = provider.rsplit('/').next().filter(|id| id.starts_with("i-"));
    Some(NodeView {
        instance: instance.unwrap_or(&name).to_owned(),
        name,
        exists: true,
        deleting: node["deletionTimestamp"].is_string(),
        ready: node["ready"].as_bool().unwrap_or_default(),
        ready_since: time(&node["readySince"]),
        unschedulable: node["unschedulable"].as_bool().unwrap_or_default(),
        boot_id: text(&node["bootID"]),
        rebooted: node["rebooted"].as_bool().unwrap_or_default(),
        reclaimed: node["reclaimed"].as_bool().unwrap_or_default(),
        taints: list(&node["taints"], |key| text(key).unwrap_or_default()),
    })
}

/// A time in RFC 3339.
pub(crate) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|t| t.parse().unwrap_or_else(|e| panic!("{t}: {e}")))
}

/// A text.
pub(crate) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn name(value: &Value) -> String {
    text(&value["name"]).unwrap_or_default()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

fn condition(value: &Value) -> PodCondition {
    PodCondition {
        kind: text(&value["type"]).unwrap_or_default(),
        status: value["status"] == "True",
        reason: text(&value["reason"]),
        message: text(&value["message"]),
        since: time(&value["lastTransitionTime"]),
    }
}

fn container(value: &Value, role: ContainerRole) -> ContainerView {
    let last_state = Some(state(&value["lastState"])).filter(|s| *s != ContainerState::Unknown);
    ContainerView {
        name: name(value),
        container_id: text(&value["containerID"]),
        role,
        state: state(&value["state"]),
        last_state,
        ..ContainerView::default()
    }
}

fn state(value: &Value) -> ContainerState {
    let (waiting, running, ended) = (&value["waiting"], &value["running"], &value["terminated"]);
    if waiting.is_object() {
        ContainerState::Waiting { reason: text(&waiting["reason"]), message: text(&waiting["message"]) }
    } else if running.is_object() {
        ContainerState::Running { started_at: time(&running["startedAt"]) }
    } else if ended.is_object() {
        ContainerState::Terminated {
            exit_code: ended["exitCode"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or_default(),
            reason: text(&ended["reason"]),
            message: text(&ended["message"]),
            started_at: time(&ended["startedAt"]),
            finished_at: time(&ended["finishedAt"]),
        }
    } else {
        ContainerState::Unknown
    }
}
