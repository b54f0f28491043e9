//! The AWS-only parts of a compute environment
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html>).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::shared::TAGS;

/// A member that Fargate does not have.
macro_rules! not_for_fargate {
    ($member:literal) => {
        on(
            concat!(".", $member),
            concat!("!self.type.startsWith('FARGATE') || !has(self.", $member, ")"),
            concat!($member, " is not applicable for Fargate."),
        )
    };
}

const COMPUTE_RESOURCE: &[Rule] = &[
    own("maxvCpus", "self >= 1", "maxvCpus must be at least 1"),
    own("minvCpus", "self >= 0", "minvCpus must not be negative"),
    on(
        ".minvCpus",
        "!has(self.minvCpus) || self.minvCpus <= self.maxvCpus",
        "minvCpus must not be greater than maxvCpus",
    ),
    on(
        ".desiredvCpus",
        "!has(self.desiredvCpus) || self.desiredvCpus <= self.maxvCpus && \
         self.desiredvCpus >= (has(self.minvCpus) ? self.minvCpus : 0)",
        "desiredvCpus must be between minvCpus and maxvCpus",
    ),
    on(
        ".allocationStrategy",
        "!has(self.allocationStrategy) || self.allocationStrategy != 'BEST_FIT_PROGRESSIVE_ORDERED' || self.type == 'EC2'",
        "allocationStrategy BEST_FIT_PROGRESSIVE_ORDERED is only applicable to type EC2",
    ),
    on(
        ".allocationStrategy",
        "!has(self.allocationStrategy) || !self.allocationStrategy.startsWith('SPOT_') || self.type == 'SPOT'",
        "allocationStrategy SPOT_* is only applicable to type SPOT",
    ),
    own("ec2Configuration", "self.size() <= 2", "ec2Configuration can have at most 2 entries"),
    on(
        ".subnets",
        "!self.type.startsWith('FARGATE') || !has(self.subnets) || self.subnets.size() <= 16",
        "subnets can have at most 16 entries for Fargate",
    ),
    on(
        ".securityGroupIds",
        "!self.type.startsWith('FARGATE') || !has(self.securityGroupIds) || self.securityGroupIds.size() <= 5",
        "securityGroupIds can have at most 5 entries for Fargate",
    ),
    not_for_fargate!("minvCpus"),
    not_for_fargate!("desiredvCpus"),
    not_for_fargate!("allocationStrategy"),
    not_for_fargate!("instanceTypes"),
    not_for_fargate!("imageId"),
    not_for_fargate!("instanceRole"),
    not_for_fargate!("tags"),
    not_for_fargate!("placementGroup"),
    not_for_fargate!("ec2KeyPair"),
    not_for_fargate!("ec2Configuration"),
    not_for_fargate!("bidPercentage"),
    not_for_fargate!("spotIamFleetRole"),
    not_for_fargate!("launchTemplate"),
    not_for_fargate!("scalingPolicy"),
];

/// The kind, size and place of an environment's instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(COMPUTE_RESOURCE)))]
pub struct ComputeResource {
    /// EC2 (on demand), SPOT, FARGATE, FARGATE_SPOT or ECS_MANAGED_INSTANCES.
    #[serde(rename = "type")]
    pub type_: ComputeResourceType,
    /// How instance types are chosen when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_strategy: Option<AllocationStrategy>,
    /// vCPUs that are kept ready even when no job needs them; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minv_cpus: Option<i32>,
    /// vCPUs that jobs may use at a time.
    pub maxv_cpus: i32,
    /// vCPUs to have right now; a nudge, the live number is in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desiredv_cpus: Option<i32>,
    /// Instance types or families, such as m5.xlarge, m5 or optimal.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_types: Vec<String>,
    /// The machine image. Deprecated by AWS: use ec2Configuration.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// VPC subnets that instances start in.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Security groups of the instances.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    /// Key pair for logging in to the instances.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2_key_pair: Option<String>,
    /// Name or ARN of the instance profile or role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_role: Option<String>,
    /// Tags of the instances.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// EC2 placement group of the instances.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// For SPOT: the highest price, in percent of the on-demand price; default 100, 0 means not given.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid_percentage: Option<i32>,
    /// ARN of the spot fleet role, for BEST_FIT on SPOT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_iam_fleet_role: Option<String>,
    /// EC2 launch template of the instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplateSpecification>,
    /// Machine images, one or two.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ec2_configuration: Vec<Ec2Configuration>,
    /// How fast idle instances go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_policy: Option<ComputeScalingPolicy>,
    /// Settings for ECS_MANAGED_INSTANCES.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_instances_provider: Option<ManagedInstancesProvider>,
    /// Tags that select capacity.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity_tags: BTreeMap<String, String>,
    /// When a change replaces nodes, take the newest image; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_to_latest_image_version: Option<bool>,
}

/// The kind of capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ComputeResourceType {
    /// On-demand instances.
    #[default]
    #[serde(rename = "EC2")]
    Ec2,
    /// Spot instances.
    Spot,
    /// Serverless nodes.
    Fargate,
    /// Serverless nodes at spot prices.
    FargateSpot,
    /// Instances that ECS manages.
    EcsManagedInstances,
}

impl ComputeResourceType {
    /// True for the spot kinds.
    pub fn is_spot(self) -> bool {
        matches!(self, Self::Spot | Self::FargateSpot)
    }

    /// True for the serverless kinds.
    pub fn is_fargate(self) -> bool {
        matches!(self, Self::Fargate | Self::FargateSpot)
    }
}

/// How instance types are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AllocationStrategy {
    /// The cheapest type that fits; waits if there is none.
    #[default]
    BestFit,
    /// More types when the cheapest run short.
    BestFitProgressive,
    /// Types in the order of the list.
    BestFitProgressiveOrdered,
    /// Spot pools that are least likely to be reclaimed.
    SpotCapacityOptimized,
    /// Spot pools by price and capacity.
    SpotPriceCapacityOptimized,
    /// As SPOT_CAPACITY_OPTIMIZED, in the order of the list.
    SpotCapacityOptimizedPrioritized,
}

/// Names an EC2 launch template by id or by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(LAUNCH_TEMPLATE)))]
pub struct LaunchTemplateSpecification {
    /// The template's id.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    /// The template's name.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    /// $Default (default), $Latest or a number.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Other templates for certain instance types, up to 10.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<LaunchTemplateOverride>,
    /// How EKS nodes start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userdata_type: Option<UserdataType>,
}

const LAUNCH_TEMPLATE: &[Rule] = &[
    rule(
        "has(self.launchTemplateId) != has(self.launchTemplateName)",
        "launchTemplate needs exactly one of launchTemplateId and launchTemplateName",
    ),
    own("overrides", "self.size() <= 10", "launchTemplate.overrides can have at most 10 entries"),
];

/// A launch template for certain instance types.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(LAUNCH_TEMPLATE_OVERRIDE)))]
pub struct LaunchTemplateOverride {
    /// The template's id.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    /// The template's name.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    /// $Default (default), $Latest or a number.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The instance types or families that it is for.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_instance_types: Vec<String>,
    /// How EKS nodes start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userdata_type: Option<UserdataType>,
}

const LAUNCH_TEMPLATE_OVERRIDE: &[Rule] = &[rule(
    "has(self.launchTemplateId) != has(self.launchTemplateName)",
    "a launch template override needs exactly one of launchTemplateId and launchTemplateName",
)];

/// The start script of EKS nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserdataType {
    /// The bootstrap script of older images.
    #[default]
    EksBootstrapSh,
    /// nodeadm of AL2023 images.
    EksNodeadm,
}

/// Chooses machine images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ec2Configuration {
    /// Kind of image, such as ECS_AL2023 or ECS_AL2_NVIDIA.
    #[schemars(length(max = 512))]
    pub image_type: String,
    /// Id of an image to use instead.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id_override: Option<String>,
    /// LATEST or UPDATE_AVAILABLE; AWS fills it in.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_image_status: Option<String>,
    /// Kubernetes version of the image, on EKS.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_kubernetes_version: Option<String>,
}

/// A kind of machine image, as Karpenter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageKind {
    /// What AWS Batch's names for it begin with. Each has its variants for GPUs, which Karpenter takes
    /// by itself where a machine has one.
    batch: &'static str,
    /// Selects its images.
    pub alias: &'static str,
    /// Says how they start.
    pub family: &'static str,
}

/// AL2 is a beginning of AL2023 and comes after it
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_Ec2Configuration.html>).
const IMAGE_KINDS: [ImageKind; 5] = [
    ImageKind { batch: "ECS_AL2023", alias: "al2023", family: "AL2023" },
    ImageKind { batch: "EKS_AL2023", alias: "al2023", family: "AL2023" },
    ImageKind { batch: "EKS_BOTTLEROCKET", alias: "bottlerocket", family: "Bottlerocket" },
    ImageKind { batch: "ECS_AL2", alias: "al2", family: "AL2" },
    ImageKind { batch: "EKS_AL2", alias: "al2", family: "AL2" },
];

impl ImageKind {
    /// What AWS Batch starts by default.
    pub const DEFAULT: Self = IMAGE_KINDS[0];

    /// The kind that an `imageType` means.
    pub fn of(image_type: &str) -> Option<Self> {
        IMAGE_KINDS.into_iter().find(|kind| image_type.starts_with(kind.batch))
    }
}

/// How fast idle instances go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SCALING_POLICY)))]
pub struct ComputeScalingPolicy {
    /// How long an instance is kept after its last job: 20 to 10080 minutes; 0 means not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_scale_down_delay_minutes: Option<i32>,
}

const SCALING_POLICY: &[Rule] = &[own(
    "minScaleDownDelayMinutes",
    "self == 0 || self >= 20 && self <= 10080",
    "minScaleDownDelayMinutes must be 0 or between 20 and 10080",
)];

/// Settings for ECS_MANAGED_INSTANCES.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedInstancesProvider {
    /// Where tags of instances come from.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<String>,
    /// ARN of the role that manages the instances.
    pub infrastructure_role_arn: String,
    /// What the instances look like.
    pub instance_launch_template: InstanceLaunchTemplate,
    /// When idle instances go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_optimization: Option<InfrastructureOptimization>,
}

/// What managed instances look like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceLaunchTemplate {
    /// ARN of the instance profile.
    pub ec2_instance_profile_arn: String,
    /// Subnets and security groups.
    pub network_configuration: ManagedInstancesNetwork,
    /// Which instance types may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_requirements: Option<InstanceRequirements>,
    /// ON_DEMAND or SPOT.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_option_type: Option<String>,
    /// The data volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_configuration: Option<ManagedInstancesStorage>,
    /// BASIC or DETAILED.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<String>,
    /// Use FIPS images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fips_enabled: Option<bool>,
    /// Capacity reservations to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_reservations: Option<CapacityReservations>,
    /// Show tags in the instance metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_metadata_tags_propagation: Option<bool>,
    /// Use of local disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_storage_configuration: Option<ManagedInstancesLocalStorage>,
}

/// Subnets and security groups of managed instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedInstancesNetwork {
    /// Subnets.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Security groups.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
}

/// Which instance types may be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRequirements {
    /// Instance types, with * as wildcard.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_instance_types: Vec<String>,
}

/// The data volume of managed instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedInstancesStorage {
    /// Its size in GiB.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_size_gi_b: Option<i32>,
}

/// Capacity reservations of managed instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityReservations {
    /// ARN of a group of reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_group_arn: Option<String>,
    /// Whether reservations must, may or must not be used.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_preference: Option<String>,
}

/// Use of local disks of managed instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedInstancesLocalStorage {
    /// Use the local disks for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_local_storage: Option<bool>,
}

/// When idle managed instances go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InfrastructureOptimization {
    /// Seconds that an instance is idle before it goes; -1 means never.
    #[schemars(range(min = -1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_in_after: Option<i32>,
}

/// The EKS cluster and namespace that AWS runs jobs in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(EKS_CONFIGURATION)))]
pub struct EksConfiguration {
    /// ARN of the cluster.
    pub eks_cluster_arn: String,
    /// Namespace for the pods.
    #[schemars(length(max = 256))]
    pub kubernetes_namespace: String,
    /// How AWS Batch gets access to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_entry: Option<EksAccessEntry>,
}

const EKS_CONFIGURATION: &[Rule] = &[own(
    "kubernetesNamespace",
    "self.size() < 64 && self != 'default' && !self.startsWith('kube-') && self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "kubernetesNamespace must be a namespace name shorter than 64 characters, not default and not kube-*",
)];

/// How AWS Batch gets access to an EKS cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksAccessEntry {
    /// Whether an access entry is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_state: Option<AccessEntryDesiredState>,
    /// ACTIVE or INACTIVE; AWS fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AccessEntryStatus>,
}

/// Whether an EKS access entry is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessEntryDesiredState {
    /// Use an access entry.
    #[default]
    Enabled,
    /// Use none.
    Disabled,
    /// As the cluster has it.
    InheritFromCluster,
}

/// Whether an EKS access entry is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessEntryStatus {
    /// In use.
    #[default]
    Active,
    /// Not in use.
    Inactive,
}

/// Settings of the ECS cluster behind an environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EcsSettings {
    /// ENABLED, ENHANCED or DISABLED (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_insights: Option<ContainerInsights>,
}

/// CloudWatch Container Insights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContainerInsights {
    /// None.
    #[default]
    Disabled,
    /// Standard metrics.
    Enabled,
    /// Metrics per container.
    Enhanced,
}

/// What happens to running jobs when a change replaces nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(UPDATE_POLICY)))]
pub struct UpdatePolicy {
    /// Terminate them at once; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_jobs_on_update: Option<bool>,
    /// How long they may go on: 1 to 7200 minutes, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_execution_timeout_minutes: Option<i64>,
}

const UPDATE_POLICY: &[Rule] = &[own(
    "jobExecutionTimeoutMinutes",
    "self >= 1 && self <= 7200",
    "jobExecutionTimeoutMinutes must be between 1 and 7200",
)];
