//! What a job may change of its definition
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html>).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own};
use super::container::{KeyValuePair, ResourceRequirement};
use super::eks::{EksEnvironmentVariable, EksMetadata, EksResources};
use super::node::TARGET_NODES;
use super::shared::ConsumableResourceProperties;

const CONTAINER: &[Rule] = &[
    own("vcpus", "self >= 0", "vcpus must not be negative"),
    own("memory", "self == 0 || self >= 4", "memory must be at least 4 MiB"),
    COMMAND,
];

const COMMAND: Rule =
    own("command", "self.all(c, c != '')", "the command of an override must not contain an empty string");

/// What a job changes of its definition's containerProperties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(CONTAINER)))]
pub struct ContainerOverrides {
    /// vCPUs, for definitions that have vcpus. Deprecated by AWS: use resourceRequirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<i32>,
    /// Memory in MiB, for definitions that have memory. Deprecated by AWS: use resourceRequirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<i32>,
    /// Takes the place of the definition's command.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Instance type, for multi-node jobs only.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Environment variables to add, or to change by name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<KeyValuePair>,
    /// vCPUs, memory and GPUs; each replaces the definition's of the same type.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ResourceRequirement>,
}

const ECS: &[Rule] = &[own(
    "taskProperties",
    "self.size() <= 1",
    "ecsPropertiesOverride.taskProperties can have only 1 element",
)];

/// What a job changes of its definition's ecsProperties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(ECS)))]
pub struct EcsPropertiesOverride {
    /// One element.
    #[schemars(length(max = 2))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_properties: Vec<TaskPropertiesOverride>,
}

/// Changes of the containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskPropertiesOverride {
    /// One entry per container to change.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<TaskContainerOverrides>,
}

const TASK_CONTAINER: &[Rule] = &[COMMAND];

/// Changes of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TASK_CONTAINER)))]
pub struct TaskContainerOverrides {
    /// Takes the place of the definition's command.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables to add, or to change by name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<KeyValuePair>,
    /// Name of the container.
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// vCPUs, memory and GPUs; each replaces the definition's of the same type.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ResourceRequirement>,
}

/// What a job changes of its definition's eksProperties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksPropertiesOverride {
    /// Changes of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_properties: Option<EksPodPropertiesOverride>,
}

/// Changes of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksPodPropertiesOverride {
    /// One entry per container to change.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<EksContainerOverride>,
    /// One entry per init container to change.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<EksContainerOverride>,
    /// Labels and annotations to add or to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<EksMetadata>,
}

/// Changes of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksContainerOverride {
    /// Name of the container; may be left out if there is only one.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image to run instead.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Takes the place of the definition's command.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Takes the place of the definition's args.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables to add, or to change by name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EksEnvironmentVariable>,
    /// cpu, memory and GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<EksResources>,
}

const NODES: &[Rule] = &[own("numNodes", "self >= 1 && self <= 1000", "numNodes must be between 1 and 1000")];

/// What a job changes of its definition's nodeProperties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(NODES)))]
pub struct NodeOverrides {
    /// How many nodes; only where a range of the definition has an open end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_nodes: Option<i32>,
    /// One entry per group of nodes.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_property_overrides: Vec<NodePropertyOverride>,
}

const RANGE: &[Rule] =
    &[TARGET_NODES, own("instanceTypes", "self.size() <= 1", "instanceTypes can have at most 1 element")];

/// Changes of a group of nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(RANGE)))]
pub struct NodePropertyOverride {
    /// Indexes of the nodes, as in the definition.
    #[schemars(length(max = 64))]
    pub target_nodes: String,
    /// Changes of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_overrides: Option<ContainerOverrides>,
    /// Changes of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_properties_override: Option<EcsPropertiesOverride>,
    /// The instance type for these nodes, at most one.
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_types: Vec<String>,
    /// Changes of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_properties_override: Option<EksPropertiesOverride>,
    /// Tokens that each of these nodes holds instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource_properties_override: Option<ConsumableResourceProperties>,
}
