//! Which nodes belong to an environment, and what a pod needs to land on one of them. Pure.
//!
//! An environment names no nodes. `provisioner.karpenter` has them made for it, and they bear its
//! name; `provisioner.static` selects existing ones by label; without a provisioner the well-known
//! labels of Karpenter and the managed services tell spot nodes from the others. The same terms go
//! into the pods, so that this page and the scheduler agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batchyard_core::name;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::{gpu, karpenter, quantity};
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::aws_compute::ComputeResourceType;
use crate::crd::compute_environment::{EnvironmentType, NodeTaint};

/// Labels of spot nodes: Karpenter, EKS, GKE (two), AKS.
const SPOT_LABELS: [(&str, &str); 5] = [
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-provisioning", "spot"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
];
/// Taints that AKS and GKE put on spot nodes themselves.
const SPOT_TAINTS: [(&str, &str); 2] =
    [("kubernetes.azure.com/scalesetpriority", "spot"), ("cloud.google.com/gke-spot", "true")];
/// Labels of serverless nodes: those of virtual-kubelet (of AKS, ACK and others), and of EKS Fargate.
const SERVERLESS_LABELS: [(&str, &str); 2] =
    [("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate")];
/// Taints that keep other pods off them.
const SERVERLESS_TAINTS: [&str; 2] = ["virtual-kubelet.io/provider", "eks.amazonaws.com/compute-type"];
/// The label that says what kind of machine a node is.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
/// `instanceTypes` that stand for whatever there is.
const ANY_TYPE: [&str; 3] = ["optimal", "default_x86_64", "default_arm64"];
/// The field by which a pod selects a node by name.
const NODE_NAME: &str = "metadata.name";
/// Taints that come and go with a node's health and life; a node does not leave its pool with them.
const PASSING_TAINTS: [&str; 2] = ["node.kubernetes.io/", karpenter::DOMAIN];

/// The nodes of an environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// A node has to match one of them; if there is none, any node will do. As a pod's required
    /// node affinity.
    pub terms: Vec<NodeSelectorTerm>,
    /// Labels that a node has to have besides.
    pub node_selector: BTreeMap<String, String>,
    /// What its pods tolerate.
    pub tolerations: Vec<Toleration>,
}

impl Pool {
    /// The pool of an environment with this object name. `nodes` are all nodes of the cluster: of
    /// nodes that exist already `instanceTypes` count only if some node of the pool bears one of them.
    pub fn of(environment: &str, spec: &ComputeEnvironmentSpec, nodes: &[Arc<Node>]) -> Self {
        let defaults = spec.pod_defaults.as_ref();
        let mut tolerations = defaults.map(|pods| pods.tolerations.clone()).unwrap_or_default();
        if is_spot(spec) {
            tolerations.extend(SPOT_TAINTS.map(|(key, value)| equal(key, value)));
        }
        if is_serverless(spec) {
            tolerations.extend(SERVERLESS_TAINTS.map(exists));
        }
        tolerations.extend(gpu::tolerations(spec));
        let mut node_selector = defaults.map(|pods| pods.node_selector.clone()).unwrap_or_default();
        if let Some(karpenter) = karpenter::of(spec) {
            node_selector.insert(karpenter::NODE_POOL.to_owned(), name::node_pool(environment));
            tolerations.extend(karpenter::taints(environment, karpenter).into_iter().map(tolerated));
            let terms = karpenter::alternatives(spec).into_iter().map(all).collect();
            return Self { terms, node_selector, tolerations };
        }
        let mut pool = Self { terms: terms(spec), node_selector, tolerations };
        if let Some(types) = pool.instance_types(spec, nodes) {
            pool.require(&requirement(INSTANCE_TYPE, "In", types));
        }
        pool
    }

    /// The same pool without these nodes, for pods that must not go there: they are about to be taken away.
    pub fn without(mut self, names: &[String]) -> Self {
        if names.is_empty() {
            return self;
        }
        if self.terms.is_empty() {
            self.terms.push(NodeSelectorTerm { match_expressions: Some(Vec::new()), match_fields: None });
        }
        // A term that selects nothing goes on selecting nothing.
        for term in self.terms.iter_mut().filter(|term| term.match_expressions.is_some()) {
            // Kubernetes takes one value in each.
            let other = |name: &String| requirement(NODE_NAME, "NotIn", vec![name.clone()]);
            term.match_fields.get_or_insert_default().extend(names.iter().map(other));
        }
        self
    }

    /// True if the node bears the pool's labels, whatever its state.
    pub fn has(&self, node: &Node) -> bool {
        let labels = node.labels();
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && (self.terms.is_empty() || self.terms.iter().any(|term| matches(term, node)))
    }

    /// True if the node belongs to the pool: it may be out of order or drained just now, but no
    /// lasting taint keeps the pool's pods off it.
    pub fn owns(&self, node: &Node) -> bool {
        let passing = |taint: &Taint| PASSING_TAINTS.iter().any(|begins| taint.key.starts_with(begins));
        let lasting = |taint: &&Taint| !passing(taint);
        self.has(node) && taints(node).filter(lasting).all(|taint| self.tolerates(taint))
    }

    /// True if a pod of the pool could be bound to the node now.
    pub fn takes_pods(&self, node: &Node) -> bool {
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        !unschedulable
            && node.metadata.deletion_timestamp.is_none()
            && is_ready(node)
            && self.has(node)
            && taints(node).all(|taint| self.tolerates(taint))
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }

    /// The instance types of `spec` that nodes of the pool bear; `None` if that is no constraint.
    fn instance_types(&self, spec: &ComputeEnvironmentSpec, nodes: &[Arc<Node>]) -> Option<Vec<String>> {
        let wanted = spec.compute_resources.as_ref().map(|c| c.instance_types.as_slice()).unwrap_or_default();
        if wanted.iter().any(|kind| ANY_TYPE.contains(&kind.as_str())) {
            return None;
        }
        let is_wanted = |kind: &str| {
            let family = kind.split_once('.').map(|(family, _)| family);
            wanted.iter().any(|wanted| wanted == kind || Some(wanted.as_str()) == family)
        };
        let kinds =
            nodes.iter().filter(|node| self.has(node)).filter_map(|node| node.labels().get(INSTANCE_TYPE));
        let kinds: BTreeSet<_> = kinds.filter(|kind| is_wanted(kind)).cloned().collect();
        (!kinds.is_empty()).then(|| kinds.into_iter().collect())
    }

    fn require(&mut self, requirement: &NodeSelectorRequirement) {
        if self.terms.is_empty() {
            self.terms.push(NodeSelectorTerm::default());
        }
        for term in &mut self.terms {
            term.match_expressions.get_or_insert_default().push(requirement.clone());
        }
    }
}

/// True if new nodes may come for pods of the environment that find no room.
pub fn is_provisioned(spec: &ComputeEnvironmentSpec) -> bool {
    let provisioner = spec.provisioner.as_ref();
    let autoscaled = provisioner.and_then(|provisioner| provisioner.r#static.as_ref()?.autoscaled);
    karpenter::of(spec).is_some() || autoscaled == Some(true)
}

/// The vCPUs of a node, including those that are reserved for the system. Fake nodes of Karpenter
/// state as capacity what was asked of them, which may be less than what they give.
pub fn vcpus_of(node: &Node) -> i64 {
    let status = node.status.as_ref();
    let cpu = |amounts: Option<&BTreeMap<String, Quantity>>| {
        amounts.and_then(|amounts| amounts.get("cpu")).map_or(0, |cpu| quantity::milli(&cpu.0))
    };
    let capacity = cpu(status.and_then(|status| status.capacity.as_ref())) / 1000;
    let allocatable = cpu(status.and_then(|status| status.allocatable.as_ref()));
    capacity.max((allocatable + 999) / 1000)
}

/// True if a node's labels say that it is a spot node.
pub fn is_spot_node(labels: &BTreeMap<String, String>) -> bool {
    SPOT_LABELS.iter().any(|(key, value)| labels.get(*key).is_some_and(|has| has == value))
}

/// True if a node's labels say that it is a serverless one.
pub fn is_serverless_node(labels: &BTreeMap<String, String>) -> bool {
    SERVERLESS_LABELS.iter().any(|(key, value)| labels.get(*key).is_some_and(|has| has == value))
}

/// True if its nodes are serverless ones. On such nodes spot is what the provider makes of it.
pub fn is_serverless(spec: &ComputeEnvironmentSpec) -> bool {
    spec.type_ == EnvironmentType::Managed
        && spec.compute_resources.as_ref().is_some_and(|compute| compute.type_.is_fargate())
}

/// True if its nodes are spot nodes.
fn is_spot(spec: &ComputeEnvironmentSpec) -> bool {
    spec.type_ == EnvironmentType::Managed
        && spec.compute_resources.as_ref().is_some_and(|compute| compute.type_.is_spot())
}

fn terms(spec: &ComputeEnvironmentSpec) -> Vec<NodeSelectorTerm> {
    let is_in = |key: &str, value: &str| requirement(key, "In", vec![value.to_owned()]);
    if let Some(provisioner) = &spec.provisioner {
        let Some(pool) = &provisioner.r#static else { return no_node() };
        let labels: Vec<_> = pool.node_selector.iter().map(|(key, value)| is_in(key, value)).collect();
        return if labels.is_empty() { Vec::new() } else { vec![all(labels)] };
    }
    match spec.compute_resources.as_ref().map(|compute| compute.type_) {
        _ if spec.type_ == EnvironmentType::Unmanaged => Vec::new(),
        None => Vec::new(),
        Some(ComputeResourceType::Spot) => {
            SPOT_LABELS.iter().map(|(key, value)| all(vec![is_in(key, value)])).collect()
        }
        Some(ComputeResourceType::Ec2) => {
            let not_in = |(key, value): &(&str, &str)| requirement(key, "NotIn", vec![(*value).to_owned()]);
            vec![all(SPOT_LABELS.iter().map(not_in).collect())]
        }
        Some(ComputeResourceType::Fargate | ComputeResourceType::FargateSpot) => {
            SERVERLESS_LABELS.iter().map(|(key, value)| all(vec![is_in(key, value)])).collect()
        }
        Some(ComputeResourceType::EcsManagedInstances) => no_node(),
    }
}

/// A term without requirements, which no node matches.
fn no_node() -> Vec<NodeSelectorTerm> {
    vec![NodeSelectorTerm::default()]
}

fn all(requirements: Vec<NodeSelectorRequirement>) -> NodeSelectorTerm {
    NodeSelectorTerm { match_expressions: Some(requirements), match_fields: None }
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> NodeSelectorRequirement {
    NodeSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values: Some(values) }
}

fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = [(NODE_NAME.to_owned(), node.name_any())].into();
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| meets(requirement, node.labels()))
        && fields.iter().all(|requirement| meets(requirement, &name))
}

fn meets(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.iter().flatten().any(|listed| listed == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        // A label that is missing counts as not listed.
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.is_some_and(|value| {
            let number = |text: &String| text.parse::<i64>().ok();
            let bound = requirement.values.iter().flatten().next().and_then(number);
            number(value).zip(bound).is_some_and(|(value, bound)| value > bound)
        }),
        _ => false,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The taints that keep pods off.
fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
}

fn equal(key: &str, value: &str) -> Toleration {
    let (value, effect) = (Some(value.to_owned()), "NoSchedule".to_owned());
    tolerated(NodeTaint { key: key.to_owned(), value, effect })
}

fn exists(key: &str) -> Toleration {
    Toleration { key: Some(key.to_owned()), operator: Some("Exists".to_owned()), ..Toleration::default() }
}

/// What lets a pod onto a node with this taint.
fn tolerated(taint: NodeTaint) -> Toleration {
    Toleration {
        key: Some(taint.key),
        operator: Some("Equal".to_owned()),
        value: taint.value,
        effect: Some(taint.effect),
        toleration_seconds: None,
    }
}

/// As the scheduler has it
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "Exists" => key.is_empty() || key == taint.key,
        "" | "Equal" => key == taint.key && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, labels: Value, taints: Value) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    /// As Karpenter makes it for an environment.
    fn made(name: &str, environment: &str, family: &str) -> Arc<Node> {
        let labels = json!({
            "karpenter.sh/nodepool": format!("batchyard-{environment}"),
            "karpenter.k8s.aws/instance-family": family,
            "karpenter.k8s.aws/instance-category": &family[..1],
            "karpenter.k8s.aws/instance-generation": &family[1..],
            "kubernetes.io/arch": "amd64",
            INSTANCE_TYPE: format!("{family}.xlarge"),
        });
        let taint =
            json!({"key": "batchyard.io/compute-environment", "value": environment, "effect": "NoSchedule"});
        node(name, labels, json!([taint]))
    }

    fn nodes() -> Vec<Arc<Node>> {
        let kind = |kind: &str| json!({INSTANCE_TYPE: kind});
        vec![
            node("m5", kind("m5.xlarge"), json!([])),
            node("c5", kind("c5.large"), json!([])),
            node("plain", json!({"pool": "a"}), json!([])),
            node("eks-od", json!({"eks.amazonaws.com/capacityType": "ON_DEMAND"}), json!([])),
            node("eks", json!({"eks.amazonaws.com/capacityType": "SPOT", "pool": "a"}), json!([])),
            node("karpenter", json!({"karpenter.sh/capacity-type": "spot"}), json!([])),
            node(
                "aks",
                json!({"kubernetes.azure.com/scalesetpriority": "spot"}),
                json!([{"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}]),
            ),
            node(
                "gke",
                json!({"cloud.google.com/gke-spot": "true"}),
                json!([{"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"}]),
            ),
            node(
                "master",
                json!({}),
                json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]),
            ),
            node("soft", json!({}), json!([{"key": "x", "effect": "PreferNoSchedule"}])),
            node(
                "virtual",
                json!({"type": "virtual-kubelet"}),
                json!([{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]),
            ),
            node(
                "fargate",
                json!({"eks.amazonaws.com/compute-type": "fargate"}),
                json!([{"key": "eks.amazonaws.com/compute-type", "value": "fargate", "effect": "NoSchedule"}]),
            ),
            node(
                "gpu",
                json!({"pool": "gpu"}),
                json!([{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]),
            ),
            made("made-m5", "own", "m5"),
            made("made-c5", "own", "c5"),
            made("others", "other", "m5"),
        ]
    }

    fn pool(spec: Value) -> Pool {
        Pool::of("own", &serde_json::from_value(spec).expect("a spec"), &nodes())
    }

    fn taking(pool: &Pool) -> String {
        let taking: Vec<_> =
            nodes().iter().filter(|node| pool.takes_pods(node)).map(|node| node.name_any()).collect();
        taking.join(" ")
    }

    fn managed(kind: &str, more: Value) -> Value {
        let mut compute = json!({"type": kind, "maxvCpus": 4});
        let mut spec = json!({"type": "MANAGED"});
        for (key, value) in more.as_object().expect("an object") {
            let target = if key == "instanceTypes" { &mut compute } else { &mut spec };
            target[key] = value.clone();
        }
        spec["computeResources"] = compute;
        spec
    }

    #[test]
    fn pools() {
        let anything = json!([{"operator": "Exists"}]);
        for (spec, want) in [
            (managed("EC2", json!({})), "m5 c5 plain eks-od soft"),
            (managed("SPOT", json!({})), "eks karpenter aks gke"),
            (managed("FARGATE", json!({})), "virtual fargate"),
            (managed("FARGATE_SPOT", json!({})), "virtual fargate"),
            (managed("ECS_MANAGED_INSTANCES", json!({})), ""),
            (
                managed("FARGATE", json!({"provisioner": {"static": {"nodeSelector": {"pool": "a"}}}})),
                "plain eks",
            ),
            (managed("EC2", json!({"provisioner": {"karpenter": {}}})), "made-m5 made-c5"),
            (
                managed(
                    "EC2",
                    json!({"provisioner": {"karpenter": {}}, "instanceTypes": ["m5", "c4.large"]}),
                ),
                "made-m5",
            ),
            (
                managed("EC2", json!({"provisioner": {"karpenter": {}}, "instanceTypes": ["m5", "optimal"]})),
                "made-m5 made-c5",
            ),
            (managed("EC2", json!({"instanceTypes": ["optimal"]})), "m5 c5 plain eks-od soft"),
            (
                managed("EC2", json!({"instanceTypes": ["p3.2xlarge", "optimal"]})),
                "m5 c5 plain eks-od soft gpu",
            ),
            (managed("EC2", json!({"instanceTypes": ["p3.2xlarge"]})), "m5 c5 plain eks-od soft gpu"),
            (managed("EC2", json!({"instanceTypes": ["m5", "p3"]})), "m5"),
            (managed("EC2", json!({"instanceTypes": ["m5.xlarge", "c5"]})), "m5 c5"),
            (managed("EC2", json!({"instanceTypes": ["m5.large"]})), "m5 c5 plain eks-od soft"),
            (managed("SPOT", json!({"instanceTypes": ["m5"]})), "eks karpenter aks gke"),
            (managed("EC2", json!({"podDefaults": {"nodeSelector": {"pool": "a"}}})), "plain"),
            (
                managed("SPOT", json!({"provisioner": {"static": {"nodeSelector": {"pool": "a"}}}})),
                "plain eks",
            ),
            (
                managed(
                    "EC2",
                    json!({"provisioner": {"static": {"nodeSelector": {"pool": "a"}}},
                    "podDefaults": {"nodeSelector": {"pool": "b"}}}),
                ),
                "",
            ),
            (managed("EC2", json!({"provisioner": {"static": {}}})), "m5 c5 plain eks-od eks karpenter soft"),
            (
                managed("EC2", json!({"podDefaults": {"tolerations": anything}})),
                "m5 c5 plain eks-od master soft virtual fargate gpu made-m5 made-c5 others",
            ),
            (managed("EC2", json!({"gpu": {}, "podDefaults": {"nodeSelector": {"pool": "gpu"}}})), "gpu"),
            (managed("EC2", json!({"instanceTypes": ["g4dn"]})), "m5 c5 plain eks-od soft gpu"),
            (json!({"type": "UNMANAGED"}), "m5 c5 plain eks-od eks karpenter soft"),
            (json!({"type": "UNMANAGED", "podDefaults": {"nodeSelector": {"pool": "a"}}}), "plain eks"),
        ] {
            assert_eq!(taking(&pool(spec.clone())), want, "{spec}");
        }
    }

    #[test]
    fn only_a_node_in_order_takes_pods_but_it_stays_in_its_pool() {
        let pool = pool(managed("EC2", json!({})));
        let well = node("n", json!({}), json!([]));
        assert!(pool.takes_pods(&well));
        for change in [
            json!({"spec": {"unschedulable": true}}),
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            json!({"status": {}}),
            json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ] {
            let mut ill = serde_json::to_value(&*well).expect("a node");
            for (key, value) in change.as_object().expect("an object") {
                ill[key] = value.clone();
            }
            let ill: Node = serde_json::from_value(ill).expect("a node");
            assert!(!pool.takes_pods(&ill) && pool.owns(&ill), "{change}");
        }
        let master = &nodes()[8];
        assert!(pool.has(master) && !pool.owns(master));
    }

    #[test]
    fn where_new_nodes_may_come() {
        for (provisioner, want) in [
            (json!(null), false),
            (json!({"static": {}}), false),
            (json!({"static": {"autoscaled": false}}), false),
            (json!({"static": {"autoscaled": true}}), true),
            (json!({"karpenter": {}}), true),
        ] {
            let spec = managed("EC2", json!({"provisioner": provisioner}));
            assert_eq!(is_provisioned(&serde_json::from_value(spec).expect("a spec")), want, "{provisioner}");
        }
    }

    /// Nodes that are about to go take no pods, and no pod selects them, whatever else it selects.
    #[test]
    fn nodes_that_are_leaving_are_left_out() {
        let leaving = ["leaving".to_owned(), "gone".to_owned()];
        let (stays, leaves) = (node("stays", json!({}), json!([])), node("leaving", json!({}), json!([])));
        for (spec, want) in [
            (managed("EC2", json!({})), true),
            (json!({"type": "UNMANAGED"}), true),
            (managed("SPOT", json!({})), false),
            (managed("ECS_MANAGED_INSTANCES", json!({})), false),
        ] {
            let whole = pool(spec.clone());
            assert_eq!((whole.takes_pods(&stays), whole.takes_pods(&leaves)), (want, want), "{spec}");
            let rest = whole.clone().without(&leaving);
            assert_eq!((rest.takes_pods(&stays), rest.takes_pods(&leaves)), (want, false), "{spec}");
            assert_eq!(whole.clone().without(&[]), whole, "{spec}");
            let fields = rest.terms.iter().flat_map(|term| term.match_fields.iter().flatten());
            assert!(
                fields.into_iter().all(|field| field.values.as_ref().is_some_and(|v| v.len() == 1)),
                "{spec}"
            );
        }
    }

    #[test]
    fn tolerations() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoExecute"}))
            .expect("a taint");
        for (toleration, want) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k"}), false),
            (json!({"key": "l", "operator": "Exists"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "v"}), false),
        ] {
            let parsed = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&parsed, &taint), want, "{toleration}");
        }
    }
}
