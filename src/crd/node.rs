//! nodeProperties: a job that runs on several nodes at once
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_NodeProperties.html>).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::container::ContainerProperties;
use super::ecs::EcsProperties;
use super::eks::EksProperties;
use super::shared::ConsumableResourceProperties;

const NODES: &[Rule] = &[
    own("numNodes", "self >= 1 && self <= 1000", "numNodes must be between 1 and 1000"),
    on(
        ".mainNode",
        "self.mainNode >= 0 && self.mainNode < self.numNodes",
        "mainNode must be less than numNodes",
    ),
    own(
        "nodeRangeProperties",
        "self.size() >= 1 && self.size() <= 5",
        "nodeRangeProperties must have 1 to 5 node groups",
    ),
];

/// A job that runs on several nodes at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(NODES)))]
pub struct NodeProperties {
    /// How many nodes, up to 1000.
    pub num_nodes: i32,
    /// Index of the main node; when it ends, the job ends.
    pub main_node: i32,
    /// Up to 5 groups of nodes; together they must cover all nodes.
    #[schemars(length(max = 6))]
    pub node_range_properties: Vec<NodeRangeProperty>,
}

/// A range of nodes: `0:3`, `0:`, `:3` or `2`.
pub(super) const TARGET_NODES: Rule = own(
    "targetNodes",
    "self.matches('^([0-9]{1,4}|[0-9]{1,4}:[0-9]{0,4}|:[0-9]{1,4})$')",
    "targetNodes must be a node index or a range of them, such as 0:3, 0: or :3",
);

const RANGE: &[Rule] = &[
    TARGET_NODES,
    rule(
        "[has(self.container), has(self.ecsProperties), has(self.eksProperties)].filter(x, x).size() == 1",
        "a node group needs exactly one of container, ecsProperties and eksProperties",
    ),
    own("instanceTypes", "self.size() <= 1", "instanceTypes can have at most 1 element"),
];

/// A group of nodes and what runs on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(RANGE)))]
pub struct NodeRangeProperty {
    /// Indexes of the nodes: 0:3, 0: or :3 for a range, or one index. Nested ranges win over outer ones.
    #[schemars(length(max = 64))]
    pub target_nodes: String,
    /// One container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerProperties>,
    /// The instance type for these nodes, at most one.
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_types: Vec<String>,
    /// Several containers, in ECS terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_properties: Option<EcsProperties>,
    /// A pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_properties: Option<EksProperties>,
    /// Tokens that each of these nodes holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource_properties: Option<ConsumableResourceProperties>,
}
