//! From an attempt to its pod. Pure: the same attempt gives the same pod.

mod annotations;
mod container;
#[cfg(test)]
mod defined;
mod devices;
mod ecs;
mod eks;
mod follower;
pub mod logging;
mod security;
mod session;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;

use batchyard_core::definition::container::{Architecture, Platform, System};
use batchyard_core::definition::{Effective, Work};
use batchyard_core::name;
use batchyard_core::termination::create::PodMember;
use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, NodeAffinity, NodeSelector, Pod, PodSchedulingGate, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use self::logging::Logs;
use super::gangs;
use super::gpu;
use super::meta;
use super::pool::{INSTANCE_TYPE, Pool};
use super::tokens;
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::compute_environment::{Network, PodDefaults, PodSecurity};
use crate::crd::session::Session;
use crate::seeded_bugs::{Bug, has};

/// The share of a job's vCPUs that its pod requests when the environment does not say, in percent.
///
/// A node's allocatable CPU is below its size, yet a job of 8 vCPUs must fit a node of 8.
pub const VCPU_REQUEST_PERCENT: i64 = 90;

/// Everything that a pod is made from.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// The namespace of the job.
    pub namespace: &'a str,
    /// The BatchJob's name.
    pub job_name: &'a str,
    /// The BatchJob's uid.
    pub job_uid: &'a str,
    /// The job's id, which may differ from the uid.
    pub job_id: &'a str,
    /// Which child of an array the pod runs, if it does.
    pub child: Option<Child>,
    /// Which node of a multi-node job it is, if it is one.
    pub node: Option<gangs::Node<'a>>,
    /// The queue's AWS name.
    pub queue_name: &'a str,
    /// The queue's object name.
    pub queue: &'a str,
    /// `shareIdentifier` of the job.
    pub share: Option<&'a str>,
    /// The tokens that it takes, by the `namespace/name` of their ConsumableResource.
    pub tokens: &'a [(String, i64)],
    /// The definition and revision.
    pub definition: &'a str,
    /// The attempt, from 1.
    pub number: u32,
    /// Which pod of the attempt, from 0.
    pub placement: u32,
    /// The environment's object name.
    pub environment: &'a str,
    /// The environment.
    pub environment_spec: &'a ComputeEnvironmentSpec,
    /// Its nodes.
    pub pool: &'a Pool,
    /// The ServiceAccount that stands for the job's role.
    pub service_account: Option<&'a str>,
    /// What the job runs.
    pub effective: &'a Effective,
    /// The tags that the pod bears.
    pub tags: Option<&'a BTreeMap<String, String>>,
    /// The interactive session that it is.
    pub session: Option<&'a Session>,
    /// Its namespace takes no pod that may run as root.
    pub refuses_root: bool,
    /// Its definition's parameter `command` gives its pods their node's network, unless they say otherwise.
    pub host_network: bool,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: i64,
    /// `strictFencing` of the queue: the pod is not to be bound before its uid is on record.
    pub fenced: bool,
    /// Whether the last lines of a failed container's output are kept in its status.
    pub log_tail: bool,
    /// Where its output goes.
    pub logs: Logs<'a>,
}

/// A child of an array.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// Its index, from 0.
    pub index: u32,
    /// How many children the array has.
    pub size: u32,
}

impl Attempt<'_> {
    /// The index of the child or of the node.
    fn index(&self) -> Option<u32> {
        self.child.map(|child| child.index).or_else(|| self.node.map(|node| node.index))
    }

    /// Its pod has its node's network: as the definition has it, else the environment.
    fn is_on_host_network(&self) -> bool {
        is_on_host_network(self.effective, self.host_network, self.environment_spec)
    }
}

fn is_on_host_network(effective: &Effective, by_options: bool, environment: &ComputeEnvironmentSpec) -> bool {
    let asked = effective.work.network(by_options);
    asked.unwrap_or(environment.network == Some(Network::Host))
}

/// Builds the pod of an attempt.
pub fn pod(attempt: &Attempt<'_>) -> Pod {
    let defaults = attempt.environment_spec.pod_defaults.clone().unwrap_or_default();
    Pod { metadata: metadata(attempt, &defaults), spec: Some(spec(attempt, defaults)), status: None }
}

/// What an environment puts into its pods that the API server may refuse, with the words that a
/// refusal would quote where the job has a say too.
pub fn pod_members(environment: &ComputeEnvironmentSpec) -> Vec<PodMember<'_>> {
    fn words(map: &BTreeMap<String, String>) -> Vec<&str> {
        map.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect()
    }
    let mut members = Vec::new();
    let mut add = |is_set: bool, member: &'static str, words| {
        if is_set {
            members.push((member, words));
        }
    };
    if let Some(defaults) = &environment.pod_defaults {
        add(defaults.priority_class_name.is_some(), "podDefaults.priorityClassName", vec![]);
        add(defaults.runtime_class_name.is_some(), "podDefaults.runtimeClassName", vec![]);
        add(defaults.scheduler_name.is_some(), "podDefaults.schedulerName", vec![]);
        add(!defaults.tolerations.is_empty(), "podDefaults.tolerations", vec![]);
        add(!defaults.node_selector.is_empty(), "podDefaults.nodeSelector", vec![]);
        add(!defaults.image_pull_secrets.is_empty(), "podDefaults.imagePullSecrets", vec![]);
        add(!defaults.labels.is_empty(), "podDefaults.labels", words(&defaults.labels));
        add(!defaults.annotations.is_empty(), "podDefaults.annotations", words(&defaults.annotations));
    }
    let runtime_class = gpu::runtime_class(environment);
    add(runtime_class.is_some(), "gpu.runtimeClassName", vec![]);
    let tolerations = environment.gpu.as_ref().is_some_and(|gpu| !gpu.tolerations.is_empty());
    add(tolerations, "gpu.tolerations", vec![]);
    let selects = environment.provisioner.as_ref().and_then(|provisioner| provisioner.r#static.as_ref());
    let selects = selects.is_some_and(|pool| !pool.node_selector.is_empty());
    add(selects, "provisioner.static.nodeSelector", vec![]);
    add(environment.network == Some(Network::Host), "network", vec![]);
    add(environment.pod_security == Some(PodSecurity::Aws), "podSecurity", vec![]);
    members
}

/// The CPU that a pod requests for a job's vCPUs, in thousandths.
pub fn cpu_request_milli(vcpus_milli: i64, environment: &ComputeEnvironmentSpec) -> i64 {
    let percent = environment.vcpu_request_percent.map_or(VCPU_REQUEST_PERCENT, i64::from);
    (vcpus_milli * percent / 100).max(1)
}

fn metadata(attempt: &Attempt<'_>, defaults: &PodDefaults) -> ObjectMeta {
    let text = |value: &str| value.to_owned();
    let (tag_labels, tag_annotations) = attempt.tags.map(annotations::tags).unwrap_or_default();
    let (mut labels, mut annotations) = stated(attempt);
    labels.extend(defaults.labels.clone());
    labels.extend(tag_labels);
    labels.extend([
        (text(meta::MANAGED_BY), text(meta::OPERATOR)),
        (text(meta::JOB_NAME), name::slug(attempt.job_name)),
        (text(meta::JOB_ID), text(attempt.job_id)),
        (text(meta::JOB_QUEUE), name::slug(attempt.queue)),
        (text(meta::COMPUTE_ENVIRONMENT), name::slug(attempt.environment)),
        (text(meta::ATTEMPT), attempt.number.to_string()),
    ]);
    if let Some(index) = attempt.index() {
        labels.insert(text(meta::INDEX), index.to_string());
    }
    if let Some((definition, _)) = attempt.definition.split_once(':') {
        labels.insert(text(meta::JOB_DEFINITION), name::slug(definition));
    }
    annotations.extend(defaults.annotations.clone());
    annotations.extend(tag_annotations);
    let limits = attempt.effective.ulimits();
    annotations.extend(limits.iter().filter_map(|(name, limits)| {
        annotations::ulimits(name.as_deref().unwrap_or(container::CONTAINER), limits)
    }));
    annotations.extend([
        (text(meta::JOB), format!("{}/{}", attempt.job_name, attempt.job_uid)),
        (text(meta::ATTEMPT), attempt.number.to_string()),
        (text(meta::PLACEMENT), attempt.placement.to_string()),
        (text(meta::COMPUTE_ENVIRONMENT), text(attempt.environment)),
        (text(meta::VCPUS_MILLI), attempt.effective.amounts.vcpus_milli.to_string()),
        // Autoscalers leave a node alone while a job runs on it.
        (text("karpenter.sh/do-not-disrupt"), text("true")),
        (text("cluster-autoscaler.kubernetes.io/safe-to-evict"), text("false")),
    ]);
    annotations
        .extend(tokens::annotation(attempt.tokens).map(|held| (text(meta::CONSUMABLE_RESOURCES), held)));
    annotations.extend(attempt.index().map(|index| (text(meta::INDEX), index.to_string())));
    let made_for = attempt.session.and_then(Session::made_for);
    annotations.extend(made_for.map(|kind| (text(meta::SESSION), text(kind.as_str()))));
    annotations.extend(attempt.share.map(|share| (text(meta::SHARE_IDENTIFIER), text(share))));
    annotations.extend(roles(attempt));
    annotations.extend(logging::annotations(attempt));
    ObjectMeta {
        name: Some(pod_name(attempt)),
        namespace: Some(text(attempt.namespace)),
        labels: Some(labels),
        annotations: Some(annotations),
        finalizers: Some(vec![text(meta::ATTEMPT_FINALIZER)]).filter(|_| !has(Bug::NoFinalizer)),
        owner_references: Some(vec![OwnerReference {
            api_version: text("batchyard.io/v1alpha1"),
            kind: text("BatchJob"),
            name: text(attempt.job_name),
            uid: text(attempt.job_uid),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn pod_name(attempt: &Attempt<'_>) -> String {
    name::pod(attempt.job_name, attempt.job_uid, attempt.index(), attempt.number, attempt.placement)
}

/// The job's own labels and annotations; those of its environment, and ours, win.
fn stated(attempt: &Attempt<'_>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    match &attempt.effective.work {
        Work::Container(_) | Work::Task(_) => Default::default(),
        Work::Pod(pod) => (pod.labels.clone(), pod.annotations.clone()),
    }
}

/// What the containers of a pod are for, where it has several.
fn roles(attempt: &Attempt<'_>) -> Vec<(String, String)> {
    match &attempt.effective.work {
        Work::Container(_) => Vec::new(),
        Work::Task(task) => ecs::roles(task),
        Work::Pod(pod) => eks::roles(pod),
    }
}

fn spec(attempt: &Attempt<'_>, defaults: PodDefaults) -> PodSpec {
    let pool = attempt.pool;
    let node_affinity = (!pool.terms.is_empty()).then(|| NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: pool.terms.clone(),
        }),
        ..NodeAffinity::default()
    });
    let pod_anti_affinity = attempt.node.map(|_| gangs::apart(attempt.job_id));
    let affinity = (node_affinity.is_some() || pod_anti_affinity.is_some()).then(|| Affinity {
        node_affinity,
        pod_anti_affinity,
        ..Affinity::default()
    });
    let mut node_selector = pool.node_selector.clone();
    node_selector.extend(platform(attempt.effective.platform()));
    let wanted = attempt.node.and_then(|node| node.instance_type);
    node_selector.extend(wanted.map(|wanted| (INSTANCE_TYPE.to_owned(), wanted.to_owned())));
    let mut pull_secrets = defaults.image_pull_secrets.clone();
    let named = attempt.effective.pull_secrets().into_iter();
    pull_secrets.extend(named.map(|name| LocalObjectReference { name: name.to_owned() }));
    let runtime_class = gpu::runtime_class(attempt.environment_spec).map(str::to_owned);
    let on_host = attempt.is_on_host_network();
    let spec = PodSpec {
        host_network: on_host.then_some(true),
        dns_policy: on_host.then(|| "ClusterFirstWithHostNet".to_owned()),
        restart_policy: Some("Never".to_owned()),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        hostname: attempt.node.map(|node| format!("node-{}", node.index)),
        subdomain: attempt.node.map(|_| name::gang(attempt.job_name, attempt.job_uid)),
        tolerations: some(pool.tolerations.clone()),
        affinity,
        service_account_name: attempt.service_account.map(str::to_owned),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        priority_class_name: defaults.priority_class_name.clone(),
        scheduler_name: defaults.scheduler_name.clone(),
        runtime_class_name: runtime_class.or(defaults.runtime_class_name.clone()),
        image_pull_secrets: some(pull_secrets),
        // The first process of such a pod is the sandbox's, which reaps orphans as an init does; and the job's own
        // process, which is no init then, ends at a signal that it does not handle.
        share_process_namespace: attempt.effective.init_process().then_some(true),
        termination_grace_period_seconds: Some(attempt.grace_seconds),
        scheduling_gates: attempt.fenced.then(|| vec![PodSchedulingGate { name: meta::FENCE.to_owned() }]),
        ..PodSpec::default()
    };
    let mut spec = match &attempt.effective.work {
        Work::Container(properties) => PodSpec {
            containers: vec![container::only(attempt, properties, &defaults)],
            volumes: some(volumes::volumes(properties, attempt.environment_spec)),
            ..spec
        },
        Work::Task(task) => ecs::spec(attempt, task, &defaults, spec),
        Work::Pod(pod) => eks::spec(attempt, pod, &defaults, spec),
    };
    if let Some(wanted) = attempt.session {
        let auxiliary = roles(attempt).into_iter().find(|(key, _)| key == meta::AUXILIARY);
        session::give(wanted, &auxiliary.unwrap_or_default().1, &mut spec);
    }
    logging::give(attempt, &mut spec);
    spec
}

/// Labels of the nodes that a job's `runtimePlatform` asks for.
fn platform(platform: Platform) -> Vec<(String, String)> {
    let architecture = platform.architecture.map(|architecture| match architecture {
        Architecture::X86 => "amd64",
        Architecture::Arm => "arm64",
    });
    let (system, build) = match platform.system {
        None => (None, None),
        Some(System::Linux) => (Some("linux"), None),
        Some(System::Windows(build)) => (Some("windows"), Some(build)),
    };
    let labels = [
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/os", system),
        ("node.kubernetes.io/windows-build", build),
    ];
    labels.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value?.to_owned()))).collect()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
