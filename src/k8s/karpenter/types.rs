//! The parts of Karpenter's objects that Batchyard writes or reads; the API server has the rest.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::crd::compute_environment::{NodeClassRef, NodeRequirement, NodeTaint};

/// How nodes are made, and when they go.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodePool",
    status = "NodePoolStatus",
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct NodePoolSpec {
    /// What its nodes are like.
    pub template: NodeTemplate,
    /// When nodes go.
    pub disruption: Disruption,
    /// What all its nodes have together at most; a node that would exceed it is not made.
    pub limits: BTreeMap<String, Quantity>,
    /// Which NodePool is tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// What the nodes of a NodePool are like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeTemplate {
    /// Their labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// Everything else.
    pub spec: NodeTemplateSpec,
}

/// Labels and annotations of nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Which machines become nodes, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTemplateSpec {
    /// How the cloud makes them.
    pub node_class_ref: NodeClassRef,
    /// What a node has to be; all of them hold.
    pub requirements: Vec<NodeRequirement>,
    /// Taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<NodeTaint>,
    /// Taints that something else takes off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub startup_taints: Vec<NodeTaint>,
    /// How old a node may become.
    pub expire_after: String,
    /// How long a node that must go waits for its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<String>,
}

/// When nodes go although nobody deletes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// Which nodes.
    pub consolidation_policy: String,
    /// How long after the last pod came or went.
    pub consolidate_after: String,
    /// How many at a time.
    pub budgets: Vec<Budget>,
}

/// How many nodes may go at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// A number, or a percentage.
    pub nodes: String,
}

/// What Karpenter says of a NodePool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodePoolStatus {
    /// Ready and what it is made of.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// How AWS makes nodes (<https://karpenter.sh/docs/concepts/nodeclasses/>).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "karpenter.k8s.aws",
    version = "v1",
    kind = "EC2NodeClass",
    plural = "ec2nodeclasses",
    root = "Ec2NodeClass",
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct Ec2NodeClassSpec {
    /// Where instances start.
    pub subnet_selector_terms: Vec<ById>,
    /// Their security groups.
    pub security_group_selector_terms: Vec<ById>,
    /// Their images.
    pub ami_selector_terms: Vec<ImageTerm>,
    /// Which start script an image expects; told by an alias, needed with ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_family: Option<String>,
    /// The role for which Karpenter makes an instance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The instance profile, where it exists already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// Tags of instances, volumes and interfaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Selects a thing by its id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ById {
    /// The id.
    pub id: String,
}

/// Selects images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageTerm {
    /// The newest ones of a kind, or a fixed version: `al2023@latest`.
    Alias(String),
    /// One image.
    Id(String),
}
