//! Environments as a cycle sees them: limits, tenants, nodes, and the pods that wait for nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use batchyard_core::queue::room::tightest;
use batchyard_core::queue::{Environment, NodeRoom, Provisioned, Rank, Resources, Snapshot, Tenant, Unbound};
use batchyard_core::waits::{self, Wait};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::gangs;
use super::jobs::rank;
use crate::controllers::compute_environment::allowed;
use crate::crd::ComputeEnvironment;
use crate::crd::compute_environment::{EnvironmentType, Network};
use crate::crd::shared::ResourceStatus;
use crate::dispatcher::Dispatch;
use crate::k8s::build::VCPU_REQUEST_PERCENT;
use crate::k8s::caches::Caches;
use crate::k8s::gpu;
use crate::k8s::karpenter;
use crate::k8s::notices::Notices;
use crate::k8s::observe;
use crate::k8s::pods::{AttemptPod, Taken};
use crate::k8s::pool::{INSTANCE_TYPE, Pool, is_provisioned};
use crate::k8s::watch::key;
use crate::seeded_bugs::{Bug, has};

/// How many pods of an environment may wait for new nodes at a time.
const UNBOUND_WINDOW: usize = 100;

/// The environments with their nodes, by name.
pub type Pools = HashMap<String, (Arc<ComputeEnvironment>, Arc<Pool>)>;

pub(super) fn environments(
    caches: &Caches,
    dispatch: &Dispatch,
    nodes: &[Arc<Node>],
    used: &HashMap<String, HashMap<String, i64>>,
    notices: &Notices,
) -> (BTreeMap<String, Environment>, Pools) {
    let leaving: Vec<_> = nodes.iter().filter(|node| notices.on(node)).map(|node| node.name_any()).collect();
    let mut environments = BTreeMap::new();
    let mut pools = HashMap::new();
    for object in caches.environments.state() {
        let name = object.name_any();
        let pool = Pool::of(&name, &object.spec, nodes);
        // Karpenter makes no node for a pod that names nodes; its own taint keeps pods off those that go.
        let pool = if karpenter::of(&object.spec).is_some() { pool } else { pool.without(&leaving) };
        let stays = |node: &Node| !leaving.contains(&node.name_any());
        let takers = nodes.iter().enumerate().filter(|(_, node)| stays(node) && pool.takes_pods(node));
        let (indexes, takers): (Vec<_>, Vec<_>) = takers.unzip();
        let gpu = gpu::other(&object.spec);
        let largest = takers.iter().fold(Resources::default(), |l, node| l.max(&size_of(node, gpu)));
        let managed = object.spec.type_ == EnvironmentType::Managed;
        let max = object.spec.compute_resources.as_ref().map(|found| milli(found.maxv_cpus));
        let used_here = used.get(name.as_str());
        let environment = Environment {
            closed: environment_closed(&object, dispatch),
            // What the API server refuses today it is asked again, and may take tomorrow.
            invalid: is_invalid(&object) && dispatch.refusal_of(&object).is_none(),
            max_vcpus_milli: max.filter(|_| managed && !has(Bug::AdmitsTooMuch)),
            unmanaged_vcpus_milli: object.spec.unmanagedv_cpus.filter(|_| !managed).map(milli),
            used_vcpus_milli: used_here.map_or(0, |used| used.values().sum()),
            cpu_percent: Some(object.spec.vcpu_request_percent.map_or(VCPU_REQUEST_PERCENT, i64::from)),
            tenants: tenants(&object, caches, used_here),
            provisioned: is_provisioned(&object.spec).then(|| provisioned(&object, dispatch)),
            nodes: indexes,
            largest,
            gpu: gpu.map(str::to_owned),
            without_gpus: gpu::never_has(&object.spec),
            host_network: object.spec.network == Some(Network::Host),
        };
        environments.insert(name.clone(), environment);
        pools.insert(name, (object, Arc::new(pool)));
    }
    (environments, pools)
}

fn milli(vcpus: i32) -> i64 {
    i64::from(vcpus) * 1000
}

/// What the environment says of each namespace that has a queue.
fn tenants(
    environment: &ComputeEnvironment,
    caches: &Caches,
    used: Option<&HashMap<String, i64>>,
) -> Option<BTreeMap<String, Tenant>> {
    if environment.spec.allowed_namespaces.is_empty() {
        return None;
    }
    let namespaces = caches.queues.state().into_iter().filter_map(|queue| queue.namespace());
    let tenant = |namespace: &String| {
        let entry = allowed(environment, namespace, caches)?;
        Some(Tenant {
            max_vcpus_milli: entry.maxv_cpus.map(milli),
            used_vcpus_milli: used.and_then(|used| used.get(namespace.as_str())).copied().unwrap_or(0),
            max_priority: entry.max_priority.map(i64::from),
            weight: entry.weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1),
        })
    };
    Some(namespaces.filter_map(|namespace| Some((namespace.clone(), tenant(&namespace)?))).collect())
}

fn provisioned(environment: &ComputeEnvironment, dispatch: &Dispatch) -> Provisioned {
    let timeout = environment.spec.capacity_timeout_seconds;
    Provisioned {
        window: UNBOUND_WINDOW,
        capacity_timeout: timeout.map(|seconds| SignedDuration::from_secs(i64::from(seconds))),
        short_of: dispatch.short_of(&environment.name_any()),
        ..Provisioned::default()
    }
}

fn is_invalid(environment: &ComputeEnvironment) -> bool {
    environment.status.as_ref().is_some_and(|status| {
        status.status == Some(ResourceStatus::Invalid)
            && status.observed_generation == environment.metadata.generation
    })
}

/// Why an environment takes nothing new, if so. Its status counts only if it is about the spec that
/// the pods would be made from.
pub fn environment_closed(environment: &ComputeEnvironment, dispatch: &Dispatch) -> Option<Wait> {
    let name = environment.name_any();
    let status = environment.status.as_ref();
    let is_off = environment.metadata.deletion_timestamp.is_some()
        || !environment.spec.state.unwrap_or_default().is_enabled();
    if is_off {
        return Some(waits::environment_closed(&name));
    }
    if status.and_then(|status| status.observed_generation) != environment.metadata.generation {
        return Some(waits::environment_settling(&name));
    }
    match dispatch.refusal_of(environment) {
        // INVALID for what the API server said: it is asked again now and then.
        Some(refusal) => refusal.is_fresh().then(|| refusal.waits(&name)),
        None => match status.and_then(|status| status.status) {
            Some(ResourceStatus::Valid) => None,
            Some(ResourceStatus::Creating) => Some(waits::environment_creating(&name)),
            _ => Some(waits::environment_closed(&name)),
        },
    }
}

/// What a node offers to an environment that counts its GPUs by this resource.
fn size_of(node: &Node, gpu: Option<&str>) -> Resources {
    let size = observe::allocatable(node);
    match gpu {
        None => size,
        Some(name) => Resources { gpus: observe::gpus_named(node, name), ..size },
    }
}

pub(super) fn rooms(nodes: &[Arc<Node>], taken: &Taken) -> Vec<NodeRoom> {
    let room = |node: &Arc<Node>| {
        let name = node.name_any();
        let size = observe::allocatable(node);
        let mut free = size;
        if let Some(used) = taken.by_node.get(&name) {
            free.charge(used);
        }
        let instance_type = node.labels().get(INSTANCE_TYPE).cloned();
        let used = taken.others_by_node.get(&name);
        let others = observe::other_allocatable(node).into_iter().map(|(resource, size)| {
            let used = used.and_then(|used| used.get(&resource)).copied().unwrap_or(0);
            (resource, (size.saturating_sub(used), size))
        });
        let ports = taken.ports.get(&name).map(|ports| ports.keys().copied().collect());
        let ports = ports.unwrap_or_default();
        NodeRoom { name, free, size, instance_type, others: others.collect(), ports }
    };
    nodes.iter().map(room).collect()
}

/// Pods that are not bound yet, or not even seen, will take room on some node of their pool; where nodes come for
/// them, they take one of so many places.
pub(super) fn take_room_of_unbound(
    snapshot: &mut Snapshot,
    caches: &Caches,
    dispatch: &Dispatch,
    pods: &[(Arc<AttemptPod>, Resources)],
) {
    for (attempt, requests) in pods {
        let Some(environment) = snapshot.environments.get_mut(&attempt.environment) else { continue };
        let requests = requests_in(environment, attempt, *requests);
        if environment.provisioned.is_none() {
            // Attempt pods have one port at most, a session's.
            let port = observe::host_ports(&attempt.pod).first().copied();
            charge_tightest(environment, &mut snapshot.nodes, &requests, port);
            continue;
        }
        match unbound(attempt, requests, environment, caches) {
            Some(pod) => environment.provisioned.iter_mut().for_each(|p| p.unbound.push(pod.clone())),
            None => environment.provisioned.iter_mut().for_each(|provisioned| {
                provisioned.leaving += 1;
                provisioned.leaving_milli += attempt.vcpus_milli;
            }),
        }
    }
    for environment in snapshot.environments.values_mut() {
        environment.provisioned.iter_mut().for_each(|provisioned| gangs::merge(provisioned, caches));
    }
    for creating in dispatch.creating().into_values() {
        let Some(environment) = snapshot.environments.get_mut(&creating.environment) else { continue };
        let namespace = creating.queue.split_once('/').map_or("", |(namespace, _)| namespace);
        environment.charge(namespace, creating.candidate.vcpus_milli, 1);
        if environment.provisioned.is_none() {
            let candidate = &creating.candidate;
            let (requests, port) = (candidate.requests_in(environment), candidate.port_in(environment));
            charge_tightest(environment, &mut snapshot.nodes, &requests, port);
        }
    }
}

fn charge_tightest(
    environment: &Environment,
    nodes: &mut [NodeRoom],
    requests: &Resources,
    port: Option<u16>,
) {
    if let Some(node) = tightest(environment, nodes, requests, port) {
        nodes[node].charge(environment, requests, port);
    }
}

/// What a pod that has no node yet requests, its GPUs as its environment counts them.
fn requests_in(environment: &Environment, attempt: &AttemptPod, requests: Resources) -> Resources {
    let Some(name) = &environment.gpu else { return requests };
    Resources { gpus: observe::other_requests(&attempt.pod).get(name).copied().unwrap_or(0), ..requests }
}

/// A pod that waits for a node and could be withdrawn.
fn unbound(
    attempt: &AttemptPod,
    requests: Resources,
    environment: &Environment,
    caches: &Caches,
) -> Option<Unbound> {
    let job = caches.job(&attempt.job_uid)?;
    let queue = caches.queue_of(&job)?;
    let is_leaving = attempt.pod.metadata.deletion_timestamp.is_some()
        || job.status.as_ref().is_some_and(|status| status.record.intent.is_some());
    let namespace = queue.namespace().unwrap_or_default();
    let priority = i64::from(queue.spec.priority);
    let at_most = environment.tenants.as_ref().and_then(|tenants| tenants.get(&namespace)?.max_priority);
    let since = attempt.pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let rank = rank(&job, &attempt.job_uid);
    let child = attempt.index.filter(|_| job.spec.array_properties.is_some());
    let again =
        child.is_some() && caches.record_of(&attempt.key()).is_some_and(|record| record.has_had_a_node());
    (!is_leaving).then(|| Unbound {
        key: attempt.key(),
        queue: key(queue.as_ref()),
        priority: at_most.map_or(priority, |max| priority.min(max)),
        rank: Rank { fresh: rank.fresh && !again, ..rank },
        child,
        count: 1,
        vcpus_milli: attempt.vcpus_milli,
        pod: requests,
        since,
    })
}
