//! API objects as the core sees them. Pure: reads objects, asks nobody.

use std::collections::BTreeMap;

use batchyard_core::job::phase::Phase;
use batchyard_core::pod::{
    Address, ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::queue::{GPU, Resources};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::meta;
use super::order;
use super::quantity;
use crate::seeded_bugs::{Bug, has};

/// Larger numbers than this are no placement of ours.
const MAX_PLACEMENT: u32 = 9999;

/// An attempt pod; `None` if it has no uid.
///
/// Annotations can be edited by users: one that makes no sense reads as attempt 0, which no job
/// has, so that such a pod is cleared away and never counted.
pub fn pod(pod: &core::Pod) -> Option<PodView> {
    let status = pod.status.clone().unwrap_or_default();
    let (attempt, placement) = placed(pod).unwrap_or((0, 0));
    let auxiliary = auxiliary(pod);
    let joint = pod.annotations().contains_key(meta::JOINT);
    let role = |name: &str| match is_the_jobs(name, auxiliary) {
        false => ContainerRole::Auxiliary,
        true if joint => ContainerRole::Joint,
        true => ContainerRole::Essential,
    };
    let order = order::of(pod);
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let init_role = |name: &str| {
        let restarts = inits.iter().any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"));
        if restarts { ContainerRole::Sidecar } else { ContainerRole::Init }
    };
    Some(PodView {
        name: pod.name_any(),
        uid: pod.uid()?,
        attempt,
        placement,
        index: index(pod),
        compute_environment: pod.annotations().get(meta::COMPUTE_ENVIRONMENT).cloned(),
        created_at: pod.creation_timestamp().map(|time| time.0),
        generation: pod.metadata.generation,
        deleted_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        deletion_grace_seconds: pod.metadata.deletion_grace_period_seconds,
        held: pod.finalizers().iter().any(|finalizer| finalizer == meta::ATTEMPT_FINALIZER),
        gated: is_gated(pod),
        node_name: node_name(pod).map(str::to_owned),
        ip: status.pod_ip.filter(|ip| !ip.is_empty()),
        address: Address::NotNeeded,
        observed_generation: status.observed_generation,
        phase: phase(status.phase.as_deref()),
        reason: status.reason,
        message: status.message,
        conditions: status.conditions.unwrap_or_default().into_iter().map(condition).collect(),
        init_containers: containers(status.init_container_statuses, init_role),
        containers: in_order(containers(status.container_statuses, role), order, pod),
        log_stream: pod.annotations().get(meta::LOG_STREAM).cloned(),
        opened: order::opened(pod),
    })
}

/// The containers as the pod's spec lists them, each with what it waits for; the API lists their statuses by name.
fn in_order(mut views: Vec<ContainerView>, mut order: order::Order, pod: &core::Pod) -> Vec<ContainerView> {
    let specs = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    views.sort_by_key(|view| specs.iter().position(|container| container.name == view.name));
    for view in &mut views {
        view.after = order.remove(&view.name).unwrap_or_default();
    }
    views
}

/// The names of the containers that are not the job's own work, as the pod has them.
pub fn auxiliary(pod: &core::Pod) -> &str {
    pod.annotations().get(meta::AUXILIARY).map_or("", String::as_str)
}

/// Where the first container stands that is the job's own work, given the names of those that are not.
pub fn first_own(spec: &core::PodSpec, auxiliary: &str) -> Option<usize> {
    spec.containers.iter().position(|container| is_the_jobs(&container.name, auxiliary))
}

/// True for a container that is the job's own work, given the names of those that are not.
pub fn is_the_jobs(container: &str, auxiliary: &str) -> bool {
    auxiliary.split(',').all(|other| other != container)
}

/// The attempt that a pod was made for, and which pod of it it is.
pub fn placed(pod: &core::Pod) -> Option<(u32, u32)> {
    let number = |key: &str| {
        let number = pod.annotations().get(key).and_then(|text| text.parse::<u32>().ok());
        number.filter(|number| *number <= MAX_PLACEMENT)
    };
    number(meta::ATTEMPT).zip(number(meta::PLACEMENT))
}

/// Which child of an array a pod runs, or which node of a multi-node job it is. Users can edit the annotation: one that
/// makes no sense reads as an index that no job has.
pub fn index(pod: &core::Pod) -> Option<u32> {
    pod.annotations().get(meta::INDEX).map(|text| text.parse().unwrap_or(u32::MAX))
}

/// The environment that a pod was placed in.
pub fn environment(pod: &core::Pod) -> Option<&str> {
    pod.annotations().get(meta::COMPUTE_ENVIRONMENT).map(String::as_str)
}

/// The node that a pod is bound to.
pub fn node_name(pod: &core::Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// When the first of a pod's containers started, as long as one runs.
pub fn started_at(pod: &core::Pod) -> Option<jiff::Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let running = statuses.iter().filter_map(|status| status.state.as_ref()?.running.as_ref());
    running.filter_map(|running| running.started_at.as_ref().map(|time| time.0)).min()
}

/// The phase of the job whose pod this is, as far as the pod alone tells: one without a node waits for room.
pub fn placed_phase(pod: &core::Pod) -> Phase {
    match () {
        () if node_name(pod).is_none() => Phase::Runnable,
        () if started_at(pod).is_some() || is_finished(pod) => Phase::Running,
        () => Phase::Starting,
    }
}

/// True while our gate keeps a pod from being bound.
fn is_gated(pod: &core::Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
    gates.iter().any(|gate| gate.name == meta::FENCE)
}

/// True once all of a pod's containers ended: it needs no more room.
pub fn is_finished(pod: &core::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn phase(text: Option<&str>) -> PodPhase {
    match text {
        None | Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(_) => PodPhase::Unknown,
    }
}

fn condition(condition: core::PodCondition) -> PodCondition {
    PodCondition {
        kind: condition.type_,
        status: condition.status == "True",
        reason: condition.reason,
        message: condition.message,
        since: condition.last_transition_time.map(|time| time.0),
    }
}

fn containers(
    statuses: Option<Vec<core::ContainerStatus>>,
    role: impl Fn(&str) -> ContainerRole,
) -> Vec<ContainerView> {
    let view = |status: core::ContainerStatus| ContainerView {
        role: role(&status.name),
        name: status.name,
        container_id: status.container_id.filter(|id| !id.is_empty()),
        state: state(status.state),
        last_state: status.last_state.map(|last| state(Some(last))).filter(|s| *s != ContainerState::Unknown),
        after: Vec::new(),
    };
    statuses.unwrap_or_default().into_iter().map(view).collect()
}

fn state(state: Option<core::ContainerState>) -> ContainerState {
    let Some(state) = state else { return ContainerState::Unknown };
    if let Some(ended) = state.terminated {
        return ContainerState::Terminated {
            exit_code: if has(Bug::LosesExitCodes) { ended.exit_code.min(1) } else { ended.exit_code },
            reason: ended.reason,
            message: ended.message,
            started_at: ended.started_at.map(|time| time.0),
            finished_at: ended.finished_at.map(|time| time.0),
        };
    }
    if let Some(running) = state.running {
        return ContainerState::Running { started_at: running.started_at.map(|time| time.0) };
    }
    state.waiting.map_or(ContainerState::Unknown, |waiting| ContainerState::Waiting {
        reason: waiting.reason,
        message: waiting.message,
    })
}

/// What matters of a node for the pods on it.
pub fn node(node: &core::Node) -> NodeView {
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let name = node.name_any();
    NodeView {
        instance: instance(spec.provider_id.as_deref()).unwrap_or(&name).to_owned(),
        name,
        exists: true,
        deleting: node.metadata.deletion_timestamp.is_some(),
        ready: ready.is_some_and(|condition| condition.status == "True"),
        ready_since: ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0),
        unschedulable: spec.unschedulable.unwrap_or(false),
        taints: spec.taints.unwrap_or_default().into_iter().map(|taint| taint.key).collect(),
        boot_id: boot_id(node).filter(|id| !id.is_empty()).map(str::to_owned),
        rebooted: false,
        reclaimed: false,
    }
}

fn boot_id(node: &core::Node) -> Option<&str> {
    Some(&node.status.as_ref()?.node_info.as_ref()?.boot_id)
}

/// The EC2 instance id in a provider id like `aws:///eu-west-1a/i-0123456789abcdef0`.
fn instance(provider_id: Option<&str>) -> Option<&str> {
    provider_id?.rsplit('/').next().filter(|id| id.starts_with("i-"))
}

/// What a node offers to pods.
pub fn allocatable(node: &core::Node) -> Resources {
    let status = node.status.as_ref();
    amounts(status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref())), 0)
}

/// What the scheduler counts for a pod: the sum over its containers, or the largest init
/// container where that is more, with sidecars counted along
/// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>).
pub fn requests(pod: &core::Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources { pods: 1, ..Resources::default() } };
    let of = |container: &core::Container| {
        let resources = container.resources.as_ref();
        amounts(resources.and_then(|r| r.requests.as_ref().or(r.limits.as_ref())), 0)
    };
    let mut total = Resources { pods: 1, ..amounts(spec.overhead.as_ref(), 0) };
    let mut peak = total;
    for init in spec.init_containers.iter().flatten() {
        let mut with_init = total;
        with_init.add(&of(init));
        peak = peak.max(&with_init);
        if init.restart_policy.as_deref() == Some("Always") {
            total = with_init;
        }
    }
    for container in &spec.containers {
        total.add(&of(container));
    }
    total.max(&peak)
}

/// Amounts of resources of other names than Kubernetes' own and the usual one for GPUs, which may be GPUs to an
/// environment: what a node offers.
pub fn other_allocatable(node: &core::Node) -> BTreeMap<String, i64> {
    let status = node.status.as_ref();
    others(status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()))).collect()
}

/// How many GPUs a node offers to an environment that counts them by this resource.
pub fn gpus_named(node: &core::Node, resource: &str) -> i64 {
    let status = node.status.as_ref();
    let list = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
    list.and_then(|list| list.get(resource)).map_or(0, |amount| quantity::whole(&amount.0))
}

/// The same, that a pod requests, counted as by [`requests`]. Kubernetes wants requests and limits of them to be equal.
pub fn other_requests(pod: &core::Pod) -> BTreeMap<String, i64> {
    let add = |sum: &mut BTreeMap<String, i64>, container: &core::Container| {
        let resources = container.resources.as_ref();
        for (name, amount) in others(resources.and_then(|r| r.requests.as_ref().or(r.limits.as_ref()))) {
            let known = sum.entry(name).or_default();
            *known = known.saturating_add(amount);
        }
    };
    let Some(spec) = &pod.spec else { return BTreeMap::new() };
    let (mut total, mut peak) = (BTreeMap::new(), BTreeMap::new());
    for init in spec.init_containers.iter().flatten() {
        let mut with_init = total.clone();
        add(&mut with_init, init);
        larger(&mut peak, &with_init);
        if init.restart_policy.as_deref() == Some("Always") {
            total = with_init;
        }
    }
    spec.containers.iter().for_each(|container| add(&mut total, container));
    larger(&mut total, &peak);
    total
}

/// Makes each amount at least as large as the other.
fn larger(amounts: &mut BTreeMap<String, i64>, others: &BTreeMap<String, i64>) {
    for (name, amount) in others {
        let known = amounts.entry(name.clone()).or_default();
        *known = (*known).max(*amount);
    }
}

fn others(list: Option<&BTreeMap<String, Quantity>>) -> impl Iterator<Item = (String, i64)> {
    let is_other = |name: &str| {
        let domain = name.split_once('/').map(|(domain, _)| domain);
        name != GPU && domain.is_some_and(|domain| domain != "kubernetes.io")
    };
    let list = list.into_iter().flatten().filter(move |(name, _)| is_other(name));
    list.map(|(name, amount)| (name.clone(), quantity::whole(&amount.0)))
}

/// The TCP ports of its node that a pod has: the scheduler puts no two pods with the same one on a node.
///
/// The API server writes them down for pods with their node's network, too.
pub fn host_ports(pod: &core::Pod) -> Vec<u16> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mut found: Vec<u16> = ports.filter(|port| is_tcp(port)).filter_map(host_port).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn is_tcp(port: &core::ContainerPort) -> bool {
    port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

fn host_port(port: &core::ContainerPort) -> Option<u16> {
    port.host_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>, pods: i64) -> Resources {
    let amount = |name: &str| list.and_then(|list| list.get(name));
    Resources {
        cpu_milli: amount("cpu").map_or(0, |q| quantity::milli(&q.0)),
        memory: amount("memory").map_or(0, |q| quantity::whole(&q.0)),
        gpus: amount(GPU).map_or(0, |q| quantity::whole(&q.0)),
        pods: amount("pods").map_or(pods, |q| quantity::whole(&q.0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AMD: &str = "amd.com/gpu";

    #[test]
    fn other_resources_are_counted_as_the_scheduler_does() {
        let with = |amount: u32| json!({"name": "c", "resources": {"requests": {AMD: amount.to_string()}}});
        let sidecar = |amount: u32| {
            let mut container = with(amount);
            container["restartPolicy"] = json!("Always");
            container
        };
        for (name, inits, containers, want) in [
            ("containers together", vec![], vec![with(1), with(2)], 3),
            ("a larger init container", vec![with(7)], vec![with(1), with(2)], 7),
            ("init containers one by one", vec![with(2), with(2)], vec![with(3)], 3),
            ("a sidecar goes on", vec![sidecar(1)], vec![with(2)], 3),
            ("a sidecar beside a larger init container", vec![sidecar(1), with(4)], vec![with(2)], 5),
        ] {
            let pod = json!({"spec": {"initContainers": inits, "containers": containers}});
            let pod: core::Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(other_requests(&pod).get(AMD), Some(&want), "{name}");
        }
        assert!(other_requests(&core::Pod::default()).is_empty());
    }
}
