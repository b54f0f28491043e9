//! From an environment to its NodePool.

use std::collections::BTreeMap;

use batchyard_core::name;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::instances::{self, one_of};
use super::types::{Budget, Disruption, NodePoolSpec, NodeTemplate, NodeTemplateSpec, TemplateMetadata};
use super::{AWS, CAPACITY_TYPE, NodePool};
use crate::crd::aws_compute::{ComputeResource, UpdatePolicy};
use crate::crd::compute_environment::{Karpenter, NodeClassRef, NodeRequirement, NodeTaint};
use crate::crd::{ComputeEnvironment, ComputeEnvironmentSpec};
use crate::k8s::meta;

/// How long a node stays empty before it goes if the environment does not say.
const CONSOLIDATE_AFTER: &str = "60s";
/// How long jobs may go on when a change replaces their node, in minutes, where an `updatePolicy`
/// does not say. AWS's default.
const JOB_EXECUTION_TIMEOUT_MINUTES: i64 = 30;
/// Label values end here.
const LABEL_VALUE: usize = 63;
/// Labels of these domains mean something to Kubernetes or to Karpenter: no tag becomes one.
const RESERVED: [&str; 4] = ["kubernetes.io", "k8s.io", "karpenter.sh", "karpenter.k8s.aws"];

/// The NodePool of an environment; `None` if its nodes come from elsewhere. `grace_seconds` is what
/// job pods have between SIGTERM and SIGKILL.
pub fn node_pool(environment: &ComputeEnvironment, grace_seconds: u32) -> Option<NodePool> {
    let spec = &environment.spec;
    let (karpenter, compute) = (super::of(spec)?, spec.compute_resources.as_ref()?);
    let pool = NodePoolSpec {
        template: template(environment, karpenter, compute, grace_seconds),
        disruption: disruption(karpenter, compute),
        limits: BTreeMap::from([("cpu".to_owned(), Quantity(limit(environment, compute).to_string()))]),
        weight: karpenter.weight,
    };
    Some(NodePool { metadata: metadata(environment), spec: pool, status: None })
}

/// Name, labels and owner of what is made for an environment.
pub(super) fn metadata(environment: &ComputeEnvironment) -> ObjectMeta {
    let name = environment.name_any();
    let text = |value: &str| value.to_owned();
    ObjectMeta {
        name: Some(name::node_pool(&name)),
        labels: Some(BTreeMap::from([
            (text(meta::MANAGED_BY), text(meta::OPERATOR)),
            (text(meta::COMPUTE_ENVIRONMENT), name::slug(&name)),
        ])),
        owner_references: owner(environment),
        ..ObjectMeta::default()
    }
}

/// Says that an object goes with its environment.
pub fn owner(environment: &ComputeEnvironment) -> Option<Vec<OwnerReference>> {
    Some(vec![OwnerReference {
        api_version: ComputeEnvironment::api_version(&()).into_owned(),
        kind: ComputeEnvironment::kind(&()).into_owned(),
        name: environment.name_any(),
        uid: environment.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }])
}

/// The vCPUs that the nodes may have together. A disabled environment grows to its `minvCpus` only,
/// as on AWS; one that is being deleted does not grow.
fn limit(environment: &ComputeEnvironment, compute: &ComputeResource) -> i32 {
    if environment.metadata.deletion_timestamp.is_some() {
        0
    } else if environment.spec.state.unwrap_or_default().is_enabled() {
        compute.maxv_cpus
    } else {
        compute.minv_cpus.unwrap_or(0)
    }
}

fn disruption(karpenter: &Karpenter, compute: &ComputeResource) -> Disruption {
    let delay = compute.scaling_policy.as_ref().and_then(|policy| policy.min_scale_down_delay_minutes);
    let delay = delay.filter(|minutes| *minutes > 0).map(|minutes| format!("{minutes}m"));
    let after = delay.or_else(|| karpenter.consolidate_after.clone());
    Disruption {
        // A job is never moved to save money.
        consolidation_policy: "WhenEmpty".to_owned(),
        consolidate_after: after.unwrap_or_else(|| CONSOLIDATE_AFTER.to_owned()),
        // Nodes on which nothing runs may go all at once.
        budgets: vec![Budget { nodes: "100%".to_owned() }],
    }
}

fn template(
    environment: &ComputeEnvironment,
    karpenter: &Karpenter,
    compute: &ComputeResource,
    grace_seconds: u32,
) -> NodeTemplate {
    let spec = &environment.spec;
    let own_class = || NodeClassRef {
        group: AWS.to_owned(),
        kind: "EC2NodeClass".to_owned(),
        name: name::node_pool(&environment.name_any()),
    };
    let (mut labels, mut annotations) = tags(compute);
    labels.insert(meta::COMPUTE_ENVIRONMENT.to_owned(), name::slug(&environment.name_any()));
    labels.extend(karpenter.labels.clone());
    annotations.extend(karpenter.annotations.clone());
    let update = spec.update_policy.as_ref().map(|policy| time_for_jobs(policy, grace_seconds));
    NodeTemplate {
        metadata: TemplateMetadata { labels, annotations },
        spec: NodeTemplateSpec {
            node_class_ref: karpenter.node_class_ref.clone().unwrap_or_else(own_class),
            requirements: requirements(spec, karpenter, compute),
            taints: taints(&environment.name_any(), karpenter),
            startup_taints: karpenter.startup_taints.clone(),
            expire_after: karpenter.expire_after.clone().unwrap_or_else(|| "Never".to_owned()),
            termination_grace_period: karpenter.termination_grace_period.clone().or(update),
        },
    }
}

fn requirements(
    spec: &ComputeEnvironmentSpec,
    karpenter: &Karpenter,
    compute: &ComputeResource,
) -> Vec<NodeRequirement> {
    let capacity = if compute.type_.is_spot() { "spot" } else { "on-demand" };
    let mut requirements = vec![one_of(CAPACITY_TYPE, [capacity]), one_of("kubernetes.io/os", ["linux"])];
    requirements.extend(instances::requirements(spec));
    requirements.extend(karpenter.requirements.clone());
    requirements
}

/// The taints of an environment's nodes; its pods tolerate them. The first keeps other pods off.
pub fn taints(environment: &str, karpenter: &Karpenter) -> Vec<NodeTaint> {
    let own = NodeTaint {
        key: meta::COMPUTE_ENVIRONMENT.to_owned(),
        value: Some(name::slug(environment)),
        effect: "NoSchedule".to_owned(),
    };
    std::iter::once(own).chain(karpenter.taints.clone()).collect()
}

/// How long a node that must go waits for its jobs. Karpenter counts the pods' own grace in.
fn time_for_jobs(policy: &UpdatePolicy, grace_seconds: u32) -> String {
    if policy.terminate_jobs_on_update == Some(true) {
        return format!("{grace_seconds}s");
    }
    format!("{}m", policy.job_execution_timeout_minutes.unwrap_or(JOB_EXECUTION_TIMEOUT_MINUTES))
}

/// Tags as labels of nodes, and as one annotation if some of them cannot be labels.
fn tags(compute: &ComputeResource) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (labels, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        compute.tags.clone().into_iter().partition(|(key, value)| is_label(key, value));
    let all = (!others.is_empty()).then(|| serde_json::to_string(&compute.tags).unwrap_or_default());
    (labels, all.into_iter().map(|all| (meta::TAGS.to_owned(), all)).collect())
}

/// True if this may be a label of a node
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
fn is_label(key: &str, value: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    let is_name = |text: &str| {
        text.len() <= LABEL_VALUE
            && text.starts_with(alphanumeric)
            && text.ends_with(alphanumeric)
            && text.chars().all(|c| alphanumeric(c) || matches!(c, '-' | '_' | '.'))
    };
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_free = |domain: &str| {
        let own = domain.split('.').all(|part| is_name(part) && !part.contains(['_']));
        let is_below = |reserved: &str| domain == reserved || domain.ends_with(&format!(".{reserved}"));
        own && domain.len() <= 253
            && domain == domain.to_ascii_lowercase()
            && !RESERVED.into_iter().any(is_below)
    };
    is_name(name) && domain.is_none_or(is_free) && (value.is_empty() || is_name(value))
}
