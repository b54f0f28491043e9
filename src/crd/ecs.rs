//! ecsProperties: a job of up to ten containers
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EcsProperties.html>).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own};
use super::container::{
    EphemeralStorage, IMAGE, KeyValuePair, LinuxParameters, MountPoint, NetworkConfiguration,
    RepositoryCredentials, ResourceRequirement, RuntimePlatform, Secret, USER, Ulimit, Volume,
};
use super::logging::LogConfiguration;

const ECS: &[Rule] =
    &[own("taskProperties", "self.size() == 1", "ecsProperties.taskProperties must have exactly 1 element")];

/// A job of several containers, in ECS terms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(ECS)))]
pub struct EcsProperties {
    /// Exactly one element.
    #[schemars(length(max = 2))]
    pub task_properties: Vec<EcsTaskProperties>,
}

// That each sourceVolume is one of the volumes is checked when a job is accepted: as a rule it would be too dear for
// the API server, which reckons with the longest lists that the schema admits.
const TASK: &[Rule] = &[
    own("containers", "self.size() >= 1 && self.size() <= 10", "containers must have 1 to 10 elements"),
    own(
        "containers",
        "self.size() == 0 || self.exists(c, !has(c.essential) || c.essential)",
        "at least one container must be essential",
    ),
    own(
        "containers",
        "self.all(c, !has(c.dependsOn) || c.dependsOn.all(d, !has(d.containerName) || self.exists(x, has(x.name) && x.name == d.containerName)))",
        "each containerName of dependsOn must be the name of one of the containers",
    ),
    own(
        "containers",
        "self.all(c, !has(c.dependsOn) || c.dependsOn.all(d, !has(d.condition) || d.condition == 'START' || !self.exists(x, has(x.name) && has(d.containerName) && x.name == d.containerName && (!has(x.essential) || x.essential))))",
        "COMPLETE and SUCCESS cannot be set on an essential container",
    ),
    own("ipcMode", "self in ['host', 'task', 'none']", "ipcMode must be host, task or none"),
    own("pidMode", "self in ['host', 'task']", "pidMode must be host or task"),
];

/// The containers of a job and what they share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TASK)))]
pub struct EcsTaskProperties {
    /// Up to 10 containers; when an essential one ends, the others are stopped.
    #[schemars(length(max = 12))]
    pub containers: Vec<TaskContainerProperties>,
    /// For Fargate: room for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// ARN of the role that pulls images and fetches secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    /// For Fargate: the platform version.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_version: Option<String>,
    /// Whose IPC namespace is used: host, task or none.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc_mode: Option<String>,
    /// ARN of the role that the job acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_role_arn: Option<String>,
    /// Whose process namespace is used: host or task.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_mode: Option<String>,
    /// For Fargate: whether the job gets a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// Operating system and processor architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_platform: Option<RuntimePlatform>,
    /// Volumes that mountPoints refer to.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Allow commands to be run in the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    /// The network mode, for managed instances only.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
}

const TASK_CONTAINER: &[Rule] = &[
    IMAGE,
    USER,
    own("startTimeout", "self >= 2", "startTimeout must be at least 2 seconds"),
    own("stopTimeout", "self >= 2", "stopTimeout must be at least 2 seconds"),
];

/// One container of the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TASK_CONTAINER)))]
pub struct TaskContainerProperties {
    /// The command; Ref::name stands for the parameter of that name. Absent: the image's own.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Containers that must have got so far before this one starts.
    #[schemars(length(max = 12))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<TaskContainerDependency>,
    /// Environment variables.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<KeyValuePair>,
    /// When it ends, the others are stopped and the job ends; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub essential: Option<bool>,
    /// Makes this container the log router of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firelens_configuration: Option<FirelensConfiguration>,
    /// The image to run.
    #[schemars(length(max = 1024))]
    pub image: String,
    /// Devices, shared memory, tmpfs, init process, swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_parameters: Option<LinuxParameters>,
    /// Where the output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
    /// Where volumes appear in the container.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<MountPoint>,
    /// Its name, for dependsOn and overrides.
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Run with all privileges on the host; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Make its root file system read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly_root_filesystem: Option<bool>,
    /// Credentials for a private registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_credentials: Option<RepositoryCredentials>,
    /// vCPUs, memory and GPUs.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ResourceRequirement>,
    /// Secrets that become environment variables.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Resource limits of the process.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// The user to run as, by number or name.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Seconds from its start for which those that depend on its end wait for it; at least 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<i32>,
    /// Seconds between SIGTERM and SIGKILL; at least 2, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i32>,
}

const DEPENDENCY: &[Rule] = &[own(
    "condition",
    "self in ['START', 'COMPLETE', 'SUCCESS']",
    "condition must be START, COMPLETE or SUCCESS",
)];

/// A container that must have got so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(DEPENDENCY)))]
pub struct TaskContainerDependency {
    /// Its name.
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// START: it runs. COMPLETE: it ended. SUCCESS: it ended with 0.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// A log router for the job's containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirelensConfiguration {
    /// fluentd or fluentbit.
    #[serde(rename = "type")]
    pub type_: FirelensType,
    /// Options of the router.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A kind of log router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirelensType {
    /// Fluent Bit.
    #[default]
    Fluentbit,
    /// fluentd.
    Fluentd,
}
