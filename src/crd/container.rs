//! containerProperties, and the parts that containers of every kind share
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerProperties.html>).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::logging::LogConfiguration;

const CONTAINER: &[Rule] = &[
    IMAGE,
    USER,
    own("vcpus", "self >= 0", "vcpus must not be negative"),
    own("memory", "self == 0 || self >= 4", "memory must be at least 4 MiB"),
    rule(
        "has(self.vcpus) && self.vcpus > 0 || \
         has(self.resourceRequirements) && self.resourceRequirements.exists(r, r.type == 'VCPU')",
        "VCPU is required: give it in resourceRequirements or as vcpus",
    ),
    rule(
        "has(self.memory) && self.memory > 0 || \
         has(self.resourceRequirements) && self.resourceRequirements.exists(r, r.type == 'MEMORY')",
        "MEMORY is required: give it in resourceRequirements or as memory",
    ),
    on(
        ".vcpus",
        "!has(self.vcpus) || !has(self.resourceRequirements) || self.vcpus == 0 || \
         !self.resourceRequirements.exists(r, r.type == 'VCPU')",
        "vcpus value was submitted in a deprecated key and conflicts with the VCPU of resourceRequirements",
    ),
    on(
        ".memory",
        "!has(self.memory) || !has(self.resourceRequirements) || self.memory == 0 || \
         !self.resourceRequirements.exists(r, r.type == 'MEMORY')",
        "memory value was submitted in a deprecated key and conflicts with the MEMORY of resourceRequirements",
    ),
    MOUNTED_VOLUMES,
];

/// An image name as AWS accepts it.
pub(super) const IMAGE: Rule = own(
    "image",
    "self.size() <= 255 && self.matches('^[A-Za-z0-9_:./#@-]+$')",
    "image can have up to 255 letters, numbers, hyphens, underscores, colons, periods, slashes, at and number signs",
);

/// A user as AWS accepts it, and the form `user:group` that ECS has.
pub(super) const USER: Rule = Rule {
    rule: "self.matches('^([a-z0-9_][a-z0-9_-]{0,30})(:[a-z0-9_][a-z0-9_-]{0,30})?$')",
    message: "User does not match regex",
    message_expression: Some("\"User '\" + self + \"' does not match regex\""),
    field_path: Some("user"),
};

const MOUNTED_VOLUMES: Rule = on(
    ".mountPoints",
    "!has(self.mountPoints) || self.mountPoints.all(m, !has(m.sourceVolume) || \
     has(self.volumes) && self.volumes.exists(v, has(v.name) && v.name == m.sourceVolume))",
    "each sourceVolume of mountPoints must be the name of one of the volumes",
);

/// A job of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(CONTAINER)))]
pub struct ContainerProperties {
    /// The image to run, such as public.ecr.aws/docker/library/busybox:latest.
    #[schemars(length(max = 1024))]
    pub image: String,
    /// vCPUs. Deprecated by AWS: use resourceRequirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<i32>,
    /// Memory in MiB. Deprecated by AWS: use resourceRequirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<i32>,
    /// The command; Ref::name stands for the parameter of that name. Absent: the image's own.
    #[schemars(length(max = 1024), inner(length(max = 32_768)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// ARN of the role that the job acts as; picks the service account that is annotated with it, or named like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_role_arn: Option<String>,
    /// ARN of the role that pulls images and fetches secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    /// Volumes that mountPoints refer to.
    #[schemars(length(max = 48))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Environment variables.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<KeyValuePair>,
    /// Where volumes appear in the container.
    #[schemars(length(max = 48))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<MountPoint>,
    /// Make the container's root file system read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly_root_filesystem: Option<bool>,
    /// Run with all privileges on the host; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Resource limits of the process.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// The user to run as, by number or name.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Instance type, for multi-node jobs only.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// vCPUs, memory and GPUs.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ResourceRequirement>,
    /// Devices, shared memory, tmpfs, init process, swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_parameters: Option<LinuxParameters>,
    /// Where the output goes; default: it stays with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
    /// Secrets that become environment variables.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// For Fargate: whether the job gets a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// For Fargate: the platform version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fargate_platform_configuration: Option<FargatePlatformConfiguration>,
    /// Allow commands to be run in the container; kubectl exec needs no permission here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    /// For Fargate: room for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Operating system and processor architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_platform: Option<RuntimePlatform>,
    /// Credentials for a private registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_credentials: Option<RepositoryCredentials>,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(KEY_VALUE)))]
pub struct KeyValuePair {
    /// Its name; names that start with AWS_BATCH are reserved.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its value.
    #[schemars(length(max = 32_768))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

const KEY_VALUE: &[Rule] = &[NAME_NOT_RESERVED];

/// An environment variable's name is not one of those that the job gets anyway.
pub(super) const NAME_NOT_RESERVED: Rule =
    own("name", "!self.startsWith('AWS_BATCH')", "Environment variable names must not start with AWS_BATCH");

/// An amount of one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(RESOURCE_REQUIREMENT)))]
pub struct ResourceRequirement {
    /// The amount as text: vCPUs, MiB of memory, or GPUs.
    #[schemars(length(max = 64))]
    pub value: String,
    /// VCPU, MEMORY or GPU.
    #[serde(rename = "type")]
    pub type_: ResourceType,
}

const RESOURCE_REQUIREMENT: &[Rule] = &[
    on(
        ".value",
        "self.type != 'VCPU' || self.value.matches('^[0-9]{1,6}([.][0-9]{1,3})?$') && double(self.value) > 0.0",
        "the value of VCPU must be a number greater than 0, such as '1'",
    ),
    on(
        ".value",
        "self.type != 'MEMORY' || self.value.matches('^[0-9]{1,9}$') && int(self.value) >= 4",
        "the value of MEMORY must be a whole number of MiB, at least '4'",
    ),
    on(
        ".value",
        "self.type != 'GPU' || self.value.matches('^[0-9]{1,4}$') && int(self.value) >= 1",
        "the value of GPU must be a whole number, at least '1'",
    ),
];

/// A kind of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResourceType {
    /// vCPUs.
    #[default]
    Vcpu,
    /// Memory in MiB.
    Memory,
    /// Whole GPUs.
    Gpu,
}

/// A volume of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(VOLUME)))]
pub struct Volume {
    /// A folder of the node; without it or with no path, an empty volume that goes with the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostVolume>,
    /// The name that mountPoints refer to.
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An EFS file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efs_volume_configuration: Option<EfsVolumeConfiguration>,
    /// An S3 Files file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3files_volume_configuration: Option<S3FilesVolumeConfiguration>,
}

const VOLUME: &[Rule] = &[rule(
    "[has(self.host), has(self.efsVolumeConfiguration), has(self.s3filesVolumeConfiguration)].filter(x, x).size() <= 1",
    "a volume can have only one of host, efsVolumeConfiguration and s3filesVolumeConfiguration",
)];

/// A folder of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostVolume {
    /// The folder's path on the node.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_path: Option<String>,
}

/// An EFS file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(EFS)))]
pub struct EfsVolumeConfiguration {
    /// Its id.
    #[schemars(length(max = 256))]
    pub file_system_id: String,
    /// The folder in it that becomes the volume; default /.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_directory: Option<String>,
    /// Encryption on the way; default DISABLED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_encryption: Option<EnabledOrDisabled>,
    /// The port for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_encryption_port: Option<i32>,
    /// Access point and role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_config: Option<EfsAuthorizationConfig>,
}

const EFS: &[Rule] = &[PORT];

/// A port for encryption on the way.
const PORT: Rule = own(
    "transitEncryptionPort",
    "self >= 0 && self <= 65535",
    "transitEncryptionPort must be between 0 and 65535",
);

/// How a job may use an EFS file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EfsAuthorizationConfig {
    /// Id of the access point.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_point_id: Option<String>,
    /// Use the job's role; default DISABLED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<EnabledOrDisabled>,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EnabledOrDisabled {
    /// Off.
    #[default]
    Disabled,
    /// On.
    Enabled,
}

/// An S3 Files file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(S3FILES)))]
pub struct S3FilesVolumeConfiguration {
    /// Its ARN.
    pub file_system_arn: String,
    /// The folder in it that becomes the volume; default /.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_directory: Option<String>,
    /// The port for encryption on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_encryption_port: Option<i32>,
    /// ARN of the access point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_point_arn: Option<String>,
}

const S3FILES: &[Rule] = &[PORT];

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// The path in the container.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_path: Option<String>,
    /// Mount it read-only; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Name of the volume.
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_volume: Option<String>,
}

/// A resource limit of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ulimit {
    /// The hard limit.
    pub hard_limit: i64,
    /// Which limit: core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The soft limit.
    pub soft_limit: i64,
}

/// Settings of a Linux container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(LINUX_PARAMETERS)))]
pub struct LinuxParameters {
    /// Devices of the host.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Run an init process that reaps children and passes signals on; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_process_enabled: Option<bool>,
    /// Size of /dev/shm in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_memory_size: Option<i32>,
    /// File systems in memory.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    /// Swap in MiB; 0 means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_swap: Option<i32>,
    /// How readily memory is swapped, 0 to 100; needs maxSwap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<i32>,
}

const LINUX_PARAMETERS: &[Rule] = &[
    own("sharedMemorySize", "self >= 0", "sharedMemorySize must not be negative"),
    own("maxSwap", "self >= 0", "maxSwap must be 0 or a positive integer"),
    own("swappiness", "self >= 0 && self <= 100", "swappiness must be between 0 and 100"),
];

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its path on the node.
    #[schemars(length(max = 4096))]
    pub host_path: String,
    /// Its path in the container; default: the same.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_path: Option<String>,
    /// What the container may do; default: everything.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<DevicePermission>,
}

/// What a container may do with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DevicePermission {
    /// Read from it.
    #[default]
    Read,
    /// Write to it.
    Write,
    /// Make nodes of it.
    Mknod,
}

/// A file system in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TMPFS)))]
pub struct Tmpfs {
    /// Where it appears in the container.
    #[schemars(length(max = 4096))]
    pub container_path: String,
    /// Its size in MiB.
    pub size: i32,
    /// Mount options.
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
}

const TMPFS: &[Rule] = &[own("size", "self >= 1", "the size of tmpfs must be at least 1 MiB")];

/// A value that comes from a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Name of the environment variable or option.
    #[schemars(length(max = 512))]
    pub name: String,
    /// ARN or name of the secret.
    pub value_from: String,
}

/// The network of a Fargate job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfiguration {
    /// Whether the job gets a public address; default DISABLED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_public_ip: Option<EnabledOrDisabled>,
}

/// The Fargate platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FargatePlatformConfiguration {
    /// Platform version; default LATEST.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_version: Option<String>,
}

/// Room for temporary files on Fargate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(EPHEMERAL_STORAGE)))]
pub struct EphemeralStorage {
    /// 21 to 200 GiB.
    pub size_in_gi_b: i32,
}

const EPHEMERAL_STORAGE: &[Rule] =
    &[own("sizeInGiB", "self >= 21 && self <= 200", "sizeInGiB must be between 21 and 200")];

/// Operating system and processor architecture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimePlatform {
    /// LINUX (default) or a WINDOWS_SERVER_… version.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system_family: Option<String>,
    /// X86_64 (default) or ARM64.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_architecture: Option<String>,
}

/// Credentials for a private registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCredentials {
    /// ARN of the secret that holds them.
    pub credentials_parameter: String,
}
