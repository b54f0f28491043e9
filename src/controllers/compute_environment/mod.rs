//! Environments: whether they are in order, what their nodes offer, and what keeps them from going.

mod capacity;
mod placeholders;

use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::reason::resources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use self::capacity::Capacity;
use self::placeholders::Held;
use super::standing::{Conditions, count, first, ignored_fields, is_deleting, is_held, vcpus};
use super::{Context, Outcome, Wake};
use crate::crd::aws_compute::ComputeResourceType;
use crate::crd::compute_environment::{AllowedNamespaces, LargestJob};
use crate::crd::convert::logging;
use crate::crd::ignored::{ALLOCATION_STRATEGY, Kind, MIN_VCPUS};
use crate::crd::job_queue::JobCounts;
use crate::crd::shared::ResourceStatus;
use crate::crd::{ComputeEnvironment, ComputeEnvironmentSpec, ComputeEnvironmentStatus, JobQueue};
use crate::k8s::build::VCPU_REQUEST_PERCENT;
use crate::k8s::caches::Caches;
use crate::k8s::pool::{Pool, is_serverless_node, vcpus_of};
use crate::k8s::watch::key;
use crate::k8s::{gpu, karpenter, meta, observe};

/// True if queues of the namespace may use the environment.
pub fn allows(environment: &ComputeEnvironment, namespace: &str, caches: &Caches) -> bool {
    environment.spec.allowed_namespaces.is_empty() || allowed(environment, namespace, caches).is_some()
}

/// What the environment says of a namespace: the first entry that selects it counts; without entries every namespace
/// may use all of it.
pub fn allowed<'e>(
    environment: &'e ComputeEnvironment,
    namespace: &str,
    caches: &Caches,
) -> Option<&'e AllowedNamespaces> {
    let namespace = caches.namespaces.get(&ObjectRef::new(namespace));
    let labels = namespace.map(|namespace| namespace.labels().clone()).unwrap_or_default();
    environment.spec.entry_for(&labels)
}

/// Looks at one environment.
pub async fn reconcile(environment: Arc<ComputeEnvironment>, context: Arc<Context>) -> Outcome {
    let api: Api<ComputeEnvironment> = Api::all(context.writer.client().clone());
    let deleting = is_deleting(environment.as_ref());
    if !deleting && !is_held(environment.as_ref()) {
        // The change of the environment wakes this controller again.
        context.writer.set_in_use(&api, environment.as_ref(), true).await?;
        return Ok(Wake::OnChange);
    }
    let mut capacity = capacity::provide(&environment, &context).await?;
    let nodes = context.caches.nodes.state();
    let own = || logging::fault_of_environment(&environment.spec);
    capacity.obstacle =
        obstacle(&environment.spec, &nodes).or_else(own).or(capacity.obstacle).or_else(|| {
            let refusal = context.dispatch.refusal_of(&environment)?;
            Some(resources::pods_refused(refusal.member, &refusal.why))
        });
    let told = is_told(&environment, &capacity);
    let pause = context.refresh.pause(environment.as_ref()).filter(|_| told);
    if let Some(pause) = pause.filter(|_| !deleting) {
        return Ok(Wake::After(pause));
    }
    let creating = context.dispatch.creating_in(&environment.name_any());
    let mut usage = Usage::of(&environment, &context.caches, creating);
    let offer = Offer::of(&environment, &nodes);
    let held =
        placeholders::keep(&environment, i64::from(vcpus(usage.vcpus_milli)), offer.vcpus, &context).await?;
    if deleting && usage.queues.is_empty() && usage.jobs.is_empty() {
        usage.left = capacity::remove(&environment, &context).await?;
        if usage.left.is_none() {
            if is_held(environment.as_ref()) {
                context.writer.set_in_use(&api, environment.as_ref(), false).await?;
            }
            return Ok(Wake::OnChange);
        }
        capacity.retry = Some(capacity::RETRY);
    }
    if let Some(pause) = pause {
        return Ok(Wake::After(pause));
    }
    let retry = capacity.retry.or(held.refused.is_some().then_some(capacity::RETRY));
    let mut status = status(&environment, &usage, offer, (capacity, held), Timestamp::now());
    let placed = context.dispatch.last_placed_in(&environment.name_any());
    status.last_placed_at = placed.or(status.last_placed_at);
    if environment.status.as_ref() != Some(&status) {
        let changed = ComputeEnvironment { status: Some(status), ..ComputeEnvironment::clone(&environment) };
        context.writer.replace_status(&api, &changed).await?;
    }
    context.refresh.done(environment.as_ref());
    Ok(retry.map_or(Wake::OnChange, Wake::After))
}

/// True if the status is about this spec and this state: only counts can have changed since.
fn is_told(environment: &ComputeEnvironment, capacity: &Capacity) -> bool {
    let (state, reason, _) = standing(environment, capacity);
    environment.status.as_ref().is_some_and(|status| {
        status.observed_generation == environment.metadata.generation
            && status.status == Some(state)
            && status.status_reason.as_deref() == Some(reason)
    })
}

/// Status, statusReason and a word for the condition.
fn standing<'t>(
    environment: &ComputeEnvironment,
    capacity: &'t Capacity,
) -> (ResourceStatus, &'t str, &'static str) {
    match (&capacity.obstacle, &capacity.preparing) {
        _ if is_deleting(environment) => (ResourceStatus::Deleting, resources::BEING_DELETED, "Deleting"),
        (Some(obstacle), _) => (ResourceStatus::Invalid, obstacle, "Invalid"),
        (None, Some(preparing)) => (ResourceStatus::Creating, preparing, "Creating"),
        (None, None) => (ResourceStatus::Valid, resources::ENVIRONMENT_HEALTHY, "Healthy"),
    }
}

/// Who uses an environment.
#[derive(Default)]
struct Usage {
    queues: Vec<String>,
    /// Those that are placed in it, by phase.
    jobs: Vec<(Phase, String)>,
    vcpus_milli: i64,
    /// What was made for it and is still there, once nothing else holds it.
    left: Option<String>,
}

impl Usage {
    /// `creating` are pods that may exist already although no cache shows them.
    fn of(environment: &ComputeEnvironment, caches: &Caches, creating: Vec<String>) -> Self {
        let name = environment.name_any();
        let names_it = |queue: &JobQueue| {
            let namespace = queue.metadata.namespace.as_deref().unwrap_or_default();
            let order = queue.spec.compute_environment_order.iter();
            let mut found =
                order.filter_map(|entry| caches.environment(namespace, &entry.compute_environment));
            found.any(|found| found.metadata.name.as_ref() == Some(&name))
        };
        let queues = caches.queues.state_filter(names_it);
        let attempts = caches.pods.attempts().into_iter();
        let attempts: Vec<_> = attempts.filter(|pod| !pod.finished && pod.environment == name).collect();
        let unseen = creating.into_iter().filter(|pod| !attempts.iter().any(|a| a.pod.name_any() == *pod));
        Self {
            queues: queues.iter().map(|queue| key(queue.as_ref())).collect(),
            vcpus_milli: attempts.iter().map(|pod| pod.vcpus_milli).sum(),
            jobs: attempts
                .iter()
                .map(|attempt| {
                    let job = attempt.pod.labels().get(meta::JOB_NAME).cloned();
                    let job = job.unwrap_or_else(|| attempt.pod.name_any());
                    let name = format!("{}/{job}", attempt.pod.namespace().unwrap_or_default());
                    (observe::placed_phase(&attempt.pod), name)
                })
                .chain(unseen.map(|pod| (Phase::Runnable, pod)))
                .collect(),
            left: None,
        }
    }

    fn counts(&self) -> JobCounts {
        let count = |of: Phase| self.jobs.iter().filter(|(phase, _)| *phase == of).count() as i64;
        JobCounts {
            runnable: Some(count(Phase::Runnable)),
            starting: Some(count(Phase::Starting)),
            running: Some(count(Phase::Running)),
            ..JobCounts::default()
        }
    }
}

/// What the nodes of an environment offer.
#[derive(Default)]
struct Offer {
    nodes: usize,
    vcpus: i64,
    largest: Option<LargestJob>,
}

impl Offer {
    fn of(environment: &ComputeEnvironment, nodes: &[Arc<Node>]) -> Self {
        let spec = &environment.spec;
        let pool = Pool::of(&environment.name_any(), spec, nodes);
        let own: Vec<_> = nodes.iter().filter(|node| pool.owns(node)).collect();
        Self {
            nodes: own.len(),
            vcpus: own.iter().map(|node| vcpus_of(node)).sum(),
            largest: own
                .iter()
                .map(|node| largest_job(spec, node))
                .max_by_key(|l| (l.vcpus, l.memory, l.gpus)),
        }
    }
}

/// The largest job that an empty node takes.
fn largest_job(spec: &ComputeEnvironmentSpec, node: &Node) -> LargestJob {
    let room = observe::allocatable(node);
    let percent = spec.vcpu_request_percent.map_or(VCPU_REQUEST_PERCENT, i64::from).max(1);
    let at_most = spec.compute_resources.as_ref().map_or(i64::MAX, |compute| i64::from(compute.maxv_cpus));
    let number = |n: i64| Some(i32::try_from(n.max(0)).unwrap_or(i32::MAX));
    LargestJob {
        vcpus: number((room.cpu_milli.saturating_mul(100) / percent / 1000).min(at_most)),
        memory: number(room.memory >> 20),
        gpus: number(gpu::other(spec).map_or(room.gpus, |name| observe::gpus_named(node, name))),
    }
}

/// What makes the environment INVALID, if anything.
fn obstacle(spec: &ComputeEnvironmentSpec, nodes: &[Arc<Node>]) -> Option<String> {
    let kind = match spec.compute_resources.as_ref()?.type_ {
        ComputeResourceType::Ec2 | ComputeResourceType::Spot => return None,
        ComputeResourceType::Fargate => "FARGATE",
        ComputeResourceType::FargateSpot => "FARGATE_SPOT",
        ComputeResourceType::EcsManagedInstances => {
            return Some(resources::type_unsupported("ECS_MANAGED_INSTANCES"));
        }
    };
    match &spec.provisioner {
        Some(provisioner) if provisioner.karpenter.is_some() => Some(resources::serverless_instances(kind)),
        Some(_) => None,
        None if nodes.iter().any(|node| is_serverless_node(node.labels())) => None,
        None => Some(resources::no_serverless_node(kind)),
    }
}

/// The status that follows from what is seen. What others keep in it stays.
fn status(
    environment: &ComputeEnvironment,
    usage: &Usage,
    offer: Offer,
    (capacity, held): (Capacity, Held),
    now: Timestamp,
) -> ComputeEnvironmentStatus {
    let mut status = environment.status.clone().unwrap_or_default();
    let (state, reason, why) = standing(environment, &capacity);
    let ignored = ignored(environment, held.refused.as_deref());
    let mut conditions = Conditions::of(environment, &mut status.conditions, now);
    conditions.ready(state == ResourceStatus::Valid, why, reason.to_owned());
    conditions.fields_ignored(&ignored);
    conditions.deletion_blocked(is_deleting(environment).then(|| blocked(usage)));
    ComputeEnvironmentStatus {
        observed_generation: environment.metadata.generation,
        status: Some(state),
        status_reason: Some(reason.to_owned()),
        nodes: Some(count(offer.nodes)),
        vcpus: Some(number(offer.vcpus)),
        vcpus_in_use: Some(vcpus(usage.vcpus_milli)),
        jobs: Some(usage.counts()),
        largest_job: offer.largest,
        node_pool: capacity.node_pool,
        desiredv_cpus: held.answer.map(|answer| number(answer.target)),
        last_desiredv_cpus: held.answer.and_then(|answer| answer.carried_out).map(number),
        ..status
    }
}

fn number(vcpus: i64) -> i32 {
    i32::try_from(vcpus).unwrap_or(i32::MAX)
}

/// Members without effect, and why or what happens instead. `refused` says why placeholders are.
fn ignored(environment: &ComputeEnvironment, refused: Option<&str>) -> Vec<String> {
    let spec = &environment.spec;
    let aws_name = spec.compute_environment_name.as_deref();
    let mut fields =
        ignored_fields(Kind::ComputeEnvironment, environment, spec, "computeEnvironmentName", aws_name);
    if let Some(compute) = spec.compute_resources.as_ref().filter(|_| karpenter::of(spec).is_some()) {
        for field in fields.iter_mut().filter(|field| *field == ALLOCATION_STRATEGY) {
            *field = resources::strategy_of_karpenter(field, compute.type_.is_spot());
        }
    }
    fields.extend(refused.map(|why| resources::placeholders_refused(MIN_VCPUS, why)));
    fields
}

fn blocked(usage: &Usage) -> String {
    let mut holders = Vec::new();
    if !usage.queues.is_empty() {
        let (count, first) = first(usage.queues.clone());
        holders.push(resources::held_by_queues(count, &first));
    }
    if !usage.jobs.is_empty() {
        let (count, first) = first(usage.jobs.iter().map(|(_, name)| name.clone()).collect());
        holders.push(resources::held_by_placed_jobs(count, &first));
    }
    holders.extend(usage.left.clone());
    holders.join(". ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::crd::conditions::{ConditionType, find};
    use serde_json::{Value, json};

    fn environment(metadata: Value, spec: Value) -> ComputeEnvironment {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": "spot", "generation": 2},
            "spec": {"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": 16}}});
        for (section, more) in [("metadata", metadata), ("spec", spec)] {
            for (key, value) in more.as_object().expect("an object") {
                object[section][key] = value.clone();
            }
        }
        serde_json::from_value(object).expect("an environment")
    }

    fn node(capacity: &str, allocatable: &str, memory: &str) -> Arc<Node> {
        let node = json!({"metadata": {"name": "n"}, "status": {
            "capacity": {"cpu": capacity, "memory": memory},
            "allocatable": {"cpu": allocatable, "memory": memory}}});
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    #[test]
    fn what_nodes_offer() {
        let nodes = [node("8", "7910m", "32Gi"), node("3900m", "3500m", "64Gi")];
        for (spec, vcpus) in
            [(json!({}), 8), (json!({"vcpuRequestPercent": 100}), 7), (json!({"vcpuRequestPercent": 10}), 16)]
        {
            let offer = Offer::of(&environment(json!({}), spec.clone()), &nodes);
            assert_eq!((offer.nodes, offer.vcpus), (2, 12), "{spec}");
            let largest = offer.largest.expect("a node");
            assert_eq!((largest.vcpus, largest.gpus), (Some(vcpus), Some(0)), "{spec}");
        }
        assert_eq!(Offer::of(&environment(json!({}), json!({})), &[]).largest, None);
    }

    #[test]
    fn obstacles() {
        let compute = |kind: &str| json!({"computeResources": {"type": kind, "maxvCpus": 1}});
        for (spec, want) in [
            (compute("EC2"), "ComputeEnvironment Healthy"),
            (compute("SPOT"), "ComputeEnvironment Healthy"),
            (
                compute("ECS_MANAGED_INSTANCES"),
                "CLIENT_ERROR - computeResources.type: ECS_MANAGED_INSTANCES is not supported yet",
            ),
            (json!({"provisioner": {"karpenter": {}}}), "ComputeEnvironment Healthy"),
            (json!({"provisioner": {"static": {}}}), "ComputeEnvironment Healthy"),
        ] {
            let environment = environment(json!({}), spec.clone());
            let capacity =
                Capacity { obstacle: super::obstacle(&environment.spec, &[]), ..Capacity::default() };
            let usage = Usage::default();
            let status = super::status(
                &environment,
                &usage,
                Offer::default(),
                (capacity, Held::default()),
                Timestamp::UNIX_EPOCH,
            );
            assert_eq!(status.status_reason.as_deref(), Some(want), "{spec}");
            let ready = find(&status.conditions, ConditionType::Ready).expect("a condition");
            assert_eq!(ready.status == "True", status.status == Some(ResourceStatus::Valid), "{spec}");
        }
    }

    #[test]
    fn serverless_environments_need_serverless_nodes() {
        let labelled = |labels: Value| {
            let node = json!({"metadata": {"name": "n", "labels": labels}});
            Arc::new(serde_json::from_value::<Node>(node).expect("a node"))
        };
        let plain = labelled(json!({"type": "m5"}));
        let (virtual_kubelet, fargate) = (
            labelled(json!({"type": "virtual-kubelet"})),
            labelled(json!({"eks.amazonaws.com/compute-type": "fargate"})),
        );
        let compute = json!({"type": "FARGATE_SPOT", "maxvCpus": 1});
        for (provisioner, nodes, want) in [
            (Value::Null, vec![plain.clone()], Some("FARGATE_SPOT needs serverless nodes")),
            (Value::Null, vec![plain.clone(), virtual_kubelet], None),
            (Value::Null, vec![fargate], None),
            (json!({"static": {"nodeSelector": {"pool": "a"}}}), vec![plain.clone()], None),
            (json!({"karpenter": {}}), vec![plain], Some("provisioner.karpenter: it makes instances")),
        ] {
            let spec = json!({"computeResources": compute, "provisioner": provisioner});
            let obstacle = super::obstacle(&environment(json!({}), spec).spec, &nodes);
            match want {
                None => assert_eq!(obstacle, None, "{provisioner}"),
                Some(want) => assert!(obstacle.is_some_and(|why| why.contains(want)), "{provisioner}"),
            }
        }
    }

    #[test]
    fn what_is_not_ready_is_being_made() {
        let (preparing, obstacle) = (Some("soon".to_owned()), Some("no".to_owned()));
        for (capacity, want) in [
            (Capacity { preparing: preparing.clone(), ..Capacity::default() }, ResourceStatus::Creating),
            (Capacity { preparing, obstacle, ..Capacity::default() }, ResourceStatus::Invalid),
        ] {
            let (state, ..) = standing(&environment(json!({}), json!({})), &capacity);
            assert_eq!(state, want, "{capacity:?}");
        }
    }

    #[test]
    fn a_strategy_without_effect_says_what_happens_instead() {
        let compute = json!({"type": "SPOT", "maxvCpus": 1, "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED"});
        let class = json!({"group": "g", "kind": "K", "name": "n"});
        let spec =
            json!({"computeResources": compute, "provisioner": {"karpenter": {"nodeClassRef": class}}});
        let text = "computeResources.allocationStrategy (Karpenter weighs price against capacity)";
        assert_eq!(ignored(&environment(json!({}), spec), None), [text]);
    }

    #[test]
    fn namespaces() {
        let team = |name: &str| BTreeMap::from([("team".to_owned(), name.to_owned())]);
        for (allowed, want) in [
            (json!([]), true),
            (json!([{}]), false),
            (json!([{"selector": {}}]), true),
            (json!([{"selector": {"matchLabels": {"team": "a"}}}]), true),
            (json!([{"selector": {"matchLabels": {"team": "b"}}}]), false),
            (
                json!([{"selector": {"matchLabels": {"team": "b"}}}, {"selector": {"matchLabels": {"team": "a"}}}]),
                true,
            ),
            (json!([{"selector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}]), false),
            (json!([{"selector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}]), true),
            (json!([{"selector": {"matchExpressions": [{"key": "team", "operator": "Like"}]}}]), false),
        ] {
            let environment = environment(json!({}), json!({"allowedNamespaces": allowed}));
            let open = environment.spec.allowed_namespaces.is_empty();
            assert_eq!(open || environment.spec.entry_for(&team("a")).is_some(), want, "{allowed}");
        }
    }

    #[test]
    fn a_deletion_says_what_blocks_it() {
        let environment = environment(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({}));
        let left = Some("Waiting for x".to_owned());
        let jobs = vec![(Phase::Running, "ns/a".into())];
        let usage = Usage { queues: vec!["ns/q".into()], jobs, vcpus_milli: 1500, left };
        let capacity = Capacity::default();
        let status = super::status(
            &environment,
            &usage,
            Offer::default(),
            (capacity, Held::default()),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!((status.status, status.vcpus_in_use), (Some(ResourceStatus::Deleting), Some(2)));
        let counts = serde_json::to_value(&status.jobs).expect("counts");
        assert_eq!(counts, json!({"RUNNABLE": 0, "STARTING": 0, "RUNNING": 1}), "others have no environment");
        let blocked = find(&status.conditions, ConditionType::DeletionBlocked).expect("a condition");
        assert_eq!(blocked.message, "1 queue names it: ns/q. Waiting for 1 job to end: ns/a. Waiting for x");
    }

    /// A pod that was asked for and that no cache shows holds its environment too.
    #[tokio::test]
    async fn pods_that_are_being_made_hold_the_environment() {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = kube::Client::try_from(nowhere).expect("a client");
        let (caches, _feeds) = crate::k8s::caches::prepare(&client, &Default::default());
        let environment = environment(json!({}), json!({}));
        assert!(Usage::of(&environment, &caches, vec![]).jobs.is_empty());
        let creating = Usage::of(&environment, &caches, vec!["a-1".into()]);
        assert_eq!(creating.jobs, [(Phase::Runnable, "a-1".to_owned())]);
    }

    #[test]
    fn a_status_is_told_when_it_says_what_is() {
        let told = |status: Value, obstacle: Option<&str>| {
            let mut environment = environment(json!({}), json!({}));
            environment.status = serde_json::from_value(status).expect("a status");
            let capacity = Capacity { obstacle: obstacle.map(str::to_owned), ..Capacity::default() };
            is_told(&environment, &capacity)
        };
        let healthy = "ComputeEnvironment Healthy";
        assert!(told(json!({"observedGeneration": 2, "status": "VALID", "statusReason": healthy}), None));
        assert!(!told(json!({"observedGeneration": 1, "status": "VALID", "statusReason": healthy}), None));
        assert!(!told(
            json!({"observedGeneration": 2, "status": "VALID", "statusReason": healthy}),
            Some("no")
        ));
        assert!(told(
            json!({"observedGeneration": 2, "status": "INVALID", "statusReason": "no"}),
            Some("no")
        ));
    }
}
