//! eksProperties: a job in terms of a pod
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EksProperties.html>).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::container::{IMAGE, NAME_NOT_RESERVED};

/// A job in terms of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksProperties {
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_properties: Option<EksPodProperties>,
}

const POD: &[Rule] = &[
    on(
        ".containers",
        "has(self.containers) && self.containers.size() >= 1 && self.containers.size() <= 10",
        "containers must have 1 to 10 elements",
    ),
    own("initContainers", "self.size() <= 10", "initContainers can have at most 10 elements"),
    own(
        "containers",
        "self.all(c, has(c.resources) && (has(c.resources.limits) && 'cpu' in c.resources.limits || has(c.resources.requests) && 'cpu' in c.resources.requests))",
        "cpu must be given in limits or requests of each container's resources",
    ),
    own(
        "containers",
        "self.all(c, has(c.resources) && (has(c.resources.limits) && 'memory' in c.resources.limits || has(c.resources.requests) && 'memory' in c.resources.requests))",
        "memory must be given in limits or requests of each container's resources",
    ),
    own(
        "dnsPolicy",
        "self in ['Default', 'ClusterFirst', 'ClusterFirstWithHostNet']",
        "dnsPolicy must be Default, ClusterFirst or ClusterFirstWithHostNet",
    ),
];

/// The pod of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(POD)))]
pub struct EksPodProperties {
    /// The service account that the job acts as.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Use the node's network; default: the pod network, or what the environment says. AWS's default is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_network: Option<bool>,
    /// Default, ClusterFirst or ClusterFirstWithHostNet.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// Secrets for pulling images.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// Up to 10 containers.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<EksContainer>,
    /// Up to 10 containers that run to their end, one after another, before the others start.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<EksContainer>,
    /// Volumes that volumeMounts refer to.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<EksVolume>,
    /// Labels, annotations and namespace of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<EksMetadata>,
    /// Let the containers see each other's processes; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_process_namespace: Option<bool>,
    /// Security settings of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<EksPodSecurityContext>,
}

/// Names a Secret for pulling images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,
}

const EKS_CONTAINER: &[Rule] = &[
    IMAGE,
    own(
        "imagePullPolicy",
        "self in ['Always', 'IfNotPresent', 'Never']",
        "imagePullPolicy must be Always, IfNotPresent or Never",
    ),
];

/// A container of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(EKS_CONTAINER)))]
pub struct EksContainer {
    /// Its name; default Default.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image to run.
    #[schemars(length(max = 1024))]
    pub image: String,
    /// Always, IfNotPresent or Never; default Always for :latest, else IfNotPresent.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Takes the place of the image's entry point.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Takes the place of the image's command; Ref::name stands for the parameter of that name.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EksEnvironmentVariable>,
    /// cpu, memory and GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<EksResources>,
    /// Where volumes appear in the container.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<EksVolumeMount>,
    /// Security settings of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<EksSecurityContext>,
}

const ENV: &[Rule] = &[NAME_NOT_RESERVED];

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(ENV)))]
pub struct EksEnvironmentVariable {
    /// Its name; names that start with AWS_BATCH are reserved.
    #[schemars(length(max = 1024))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 32_768))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

const RESOURCES: &[Rule] = &[
    own(
        "limits",
        "!('cpu' in self) || self['cpu'].matches('^[0-9]{1,6}([.](0|00|25|5|50|75))?$') && double(self['cpu']) > 0.0",
        "cpu must be a multiple of 0.25",
    ),
    own(
        "requests",
        "!('cpu' in self) || self['cpu'].matches('^[0-9]{1,6}([.](0|00|25|5|50|75))?$') && double(self['cpu']) > 0.0",
        "cpu must be a multiple of 0.25",
    ),
    own(
        "limits",
        "!('memory' in self) || self['memory'].matches('^([4-9]|[1-9][0-9]{1,8})Mi$')",
        "memory must be a whole number of MiB with the suffix Mi, at least 4Mi",
    ),
    own(
        "requests",
        "!('memory' in self) || self['memory'].matches('^([4-9]|[1-9][0-9]{1,8})Mi$')",
        "memory must be a whole number of MiB with the suffix Mi, at least 4Mi",
    ),
    rule(
        "!has(self.limits) || !has(self.requests) || !('cpu' in self.limits) || !('cpu' in self.requests) || \
         !self.limits['cpu'].matches('^[0-9.]+$') || !self.requests['cpu'].matches('^[0-9.]+$') || \
         double(self.requests['cpu']) <= double(self.limits['cpu'])",
        "the cpu of requests must not be greater than that of limits",
    ),
    rule(
        "!has(self.limits) || !has(self.requests) || ['memory', 'nvidia.com/gpu'].all(k, !(k in self.limits) || \
         !(k in self.requests) || self.limits[k] == self.requests[k])",
        "memory and nvidia.com/gpu must be the same in limits and requests",
    ),
];

/// cpu, memory and GPUs of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(RESOURCES)))]
pub struct EksResources {
    /// The most that the container gets.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 64}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// What a node must have free; absent: as limits.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 64}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksVolumeMount {
    /// Name of the volume.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path in the container.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// A path in the volume, instead of its root.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// Mount it read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Security settings of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksSecurityContext {
    /// The user id to run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// The group id to run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
    /// Run with all privileges on the host; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Let a process gain more privileges than its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Make the root file system read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Refuse to run as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Capabilities to add and to drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<EksCapabilities>,
    /// The seccomp profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<EksSeccompProfile>,
}

/// Capabilities of a container's processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(CAPABILITIES)))]
pub struct EksCapabilities {
    /// Capabilities to add.
    #[schemars(length(max = 128), inner(length(max = 64)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Capabilities to drop.
    #[schemars(length(max = 128), inner(length(max = 64)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

const CAPABILITIES: &[Rule] = &[
    own("add", "self.size() <= 64", "capabilities.add can have at most 64 elements"),
    own("drop", "self.size() <= 64", "capabilities.drop can have at most 64 elements"),
];

/// A seccomp profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksSeccompProfile {
    /// RuntimeDefault, Unconfined or Localhost.
    #[schemars(length(max = 64))]
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Path of the profile on the node, for Localhost.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
}

/// Security settings of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksPodSecurityContext {
    /// The user id that its containers run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// The group id that its containers run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
    /// Refuse to run as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// The group that volumes belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
    /// The seccomp profile of its containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<EksSeccompProfile>,
}

const VOLUME: &[Rule] = &[rule(
    "[has(self.hostPath), has(self.emptyDir), has(self.secret), has(self.persistentVolumeClaim)].filter(x, x).size() <= 1",
    "a volume can have only one of hostPath, emptyDir, secret and persistentVolumeClaim",
)];

/// A volume of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(VOLUME)))]
pub struct EksVolume {
    /// The name that volumeMounts refer to.
    #[schemars(length(max = 253))]
    pub name: String,
    /// A file or folder of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<EksHostPath>,
    /// An empty folder that goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EksEmptyDir>,
    /// The content of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<EksSecret>,
    /// A claim in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<EksPersistentVolumeClaim>,
}

/// A file or folder of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksHostPath {
    /// Its path.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// An empty folder that goes with the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksEmptyDir {
    /// Memory, or empty for the node's disk.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// Its greatest size, such as 64Mi.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<String>,
}

/// The content of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksSecret {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// Do without it if it does not exist; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A claim in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksPersistentVolumeClaim {
    /// The claim's name.
    #[schemars(length(max = 253))]
    pub claim_name: String,
    /// Mount it read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Labels, annotations and namespace of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksMetadata {
    /// Labels.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The pod's namespace; must be the job's own.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
