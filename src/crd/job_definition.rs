//! JobDefinition: what jobs run, in numbered revisions
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_RegisterJobDefinition.html>).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::container::ContainerProperties;
use super::ecs::EcsProperties;
use super::eks::EksProperties;
use super::node::NodeProperties;
use super::schema;
use super::session::Session;
use super::shared::{ConsumableResourceProperties, JobTimeout, RetryStrategy, TAGS};

const SPEC: &[Rule] = &[
    own(
        "jobDefinitionName",
        "self.matches('^[A-Za-z0-9_-]{1,128}$')",
        "jobDefinitionName can have up to 128 letters, numbers, hyphens and underscores",
    ),
    rule(
        "self.type != 'container' || !has(self.nodeProperties) && \
         [has(self.containerProperties), has(self.ecsProperties), has(self.eksProperties)].filter(x, x).size() == 1",
        "type container needs exactly one of containerProperties, ecsProperties and eksProperties",
    ),
    rule(
        "self.type != 'multinode' || has(self.nodeProperties) && \
         !has(self.containerProperties) && !has(self.ecsProperties) && !has(self.eksProperties)",
        "type multinode needs nodeProperties and none of containerProperties, ecsProperties and eksProperties",
    ),
    own("schedulingPriority", "self >= 0 && self <= 9999", "schedulingPriority must be between 0 and 9999"),
    on(
        ".propagateTags",
        "!has(self.propagateTags) || !has(self.eksProperties)",
        "propagateTags is not applicable for EKS",
    ),
    on(
        ".platformCapabilities",
        "!has(self.platformCapabilities) || !has(self.eksProperties)",
        "platformCapabilities is not applicable for EKS",
    ),
    on(
        ".platformCapabilities",
        "self.type != 'multinode' || !has(self.platformCapabilities) || !('FARGATE' in self.platformCapabilities)",
        "type multinode is not applicable for Fargate.",
    ),
    on(
        ".containerProperties.networkConfiguration",
        "!has(self.containerProperties) || !has(self.containerProperties.networkConfiguration) || \
         has(self.platformCapabilities) && 'FARGATE' in self.platformCapabilities",
        "networkConfiguration not applicable for EC2.",
    ),
    on(
        ".containerProperties.privileged",
        "!has(self.containerProperties) || !has(self.containerProperties.privileged) || \
         !self.containerProperties.privileged || \
         !(has(self.platformCapabilities) && 'FARGATE' in self.platformCapabilities)",
        "privileged is not applicable for Fargate.",
    ),
    on(
        ".containerProperties.resourceRequirements",
        "!has(self.containerProperties) || !has(self.containerProperties.resourceRequirements) || \
         has(self.platformCapabilities) && !('EC2' in self.platformCapabilities) && size(self.platformCapabilities) > 0 || \
         self.containerProperties.resourceRequirements.all(r, r.type != 'VCPU' || r.value.matches('^[0-9]+$'))",
        "the value of VCPU must be a whole number for EC2",
    ),
];

/// RegisterJobDefinition of the AWS Batch API; every change makes a new revision.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "JobDefinition",
    plural = "jobdefinitions",
    shortname = "jd",
    category = "batchyard",
    namespaced,
    status = "JobDefinitionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What jobs run, in numbered revisions, as in AWS Batch.",
    printcolumn = r#"{"name":"TYPE","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"REVISION","type":"integer","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"IMAGE","type":"string","jsonPath":".spec.containerProperties.image","priority":1}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" =
    cel::rules_and_immutable(SPEC, &["jobDefinitionName"], "cannot be changed")))]
pub struct JobDefinitionSpec {
    /// AWS's name of the definition, up to 128 of A-Z a-z 0-9 _ -; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition_name: Option<String>,
    /// container, or multinode for a job that runs on several nodes at once.
    #[serde(rename = "type")]
    pub type_: JobDefinitionType,
    /// Default values for Ref::name in commands.
    #[schemars(extend("maxProperties" = 256, "additionalProperties" = {"type": "string", "maxLength": 32768}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// In fair-share queues, jobs of a share with a higher number go first: 0 to 9999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_priority: Option<i32>,
    /// A job of one container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_properties: Option<Box<ContainerProperties>>,
    /// A job that runs on several nodes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_properties: Option<Box<NodeProperties>>,
    /// How often a failed job is tried again, and after which kinds of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_strategy: Option<RetryStrategy>,
    /// Copy the tags of job and definition to its pods; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<bool>,
    /// How long one attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<JobTimeout>,
    /// Tags of the definition.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// EC2 (default), FARGATE or MANAGED_INSTANCES.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platform_capabilities: Vec<PlatformCapability>,
    /// A job in terms of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_properties: Option<Box<EksProperties>>,
    /// A job of several containers, in ECS terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_properties: Option<Box<EcsProperties>>,
    /// Tokens that a job holds while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource_properties: Option<ConsumableResourceProperties>,
    /// Numbers of revisions that are INACTIVE; no part of a revision.
    #[schemars(length(max = 10_000))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deregistered: Vec<i32>,
    /// Any text; a new one makes a new revision even if nothing else changed.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
    /// Makes jobs interactive sessions that people connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<Session>>,
}

/// The kind of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobDefinitionType {
    /// It runs on one node.
    #[default]
    Container,
    /// It runs on several nodes at once.
    Multinode,
}

/// Where a job can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlatformCapability {
    /// On instances.
    #[default]
    #[serde(rename = "EC2")]
    Ec2,
    /// On serverless nodes.
    Fargate,
    /// On instances that ECS manages.
    ManagedInstances,
}

/// What is known of the definition. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDefinitionStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// The newest revision, as name:revision.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition: Option<String>,
    /// ACTIVE if at least one revision is, else INACTIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RevisionStatus>,
    /// Number of the newest ACTIVE revision, which a job without a revision gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_active: Option<i32>,
    /// How many revisions exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_count: Option<i32>,
    /// The newest revisions, up to 50, newest first.
    #[schemars(length(max = 50))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    /// Ready, FieldsIgnored and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Whether new jobs may use a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RevisionStatus {
    /// They may.
    #[default]
    Active,
    /// They may not; it was deregistered.
    Inactive,
}

/// A revision of the definition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its number.
    pub revision: i32,
    /// ACTIVE or INACTIVE.
    pub status: RevisionStatus,
    /// When it became INACTIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive_since: Option<jiff::Timestamp>,
}
