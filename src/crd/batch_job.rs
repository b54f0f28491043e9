//! BatchJob: a job in a queue
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html>).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cel::{self, Rule, on, own, rule};
use super::container::ContainerProperties;
use super::ecs::EcsProperties;
use super::eks::EksProperties;
use super::job_queue::JobCounts;
use super::node::NodeProperties;
use super::overrides::{ContainerOverrides, EcsPropertiesOverride, EksPropertiesOverride, NodeOverrides};
use super::schema;
use super::session::Session;
use super::shared::{ConsumableResourceProperties, JobTimeout, RetryStrategy, TAGS};

const SPEC: &[Rule] = &[
    own(
        "jobName",
        "self.matches('^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$')",
        "Job name should match valid pattern",
    ),
    own("jobQueue", "self != ''", "'jobQueue' is a required field (cannot be an empty string)"),
    own(
        "jobId",
        "self.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')",
        "jobId must be a UUID in lower case",
    ),
    rule(
        "[has(self.jobDefinition), has(self.containerProperties), has(self.ecsProperties), has(self.eksProperties), \
         has(self.nodeProperties)].filter(x, x).size() == 1",
        "a job needs exactly one of jobDefinition, containerProperties, ecsProperties, eksProperties and nodeProperties",
    ),
    own(
        "shareIdentifier",
        "self.matches('^[A-Za-z0-9]{1,255}$')",
        "shareIdentifier can have up to 255 letters and numbers",
    ),
    own(
        "schedulingPriorityOverride",
        "self >= 0 && self <= 9999",
        "schedulingPriorityOverride must be between 0 and 9999",
    ),
    own("dependsOn", "self.size() <= 20", "dependsOn can have at most 20 jobs"),
    on(
        ".dependsOn",
        "!has(self.dependsOn) || has(self.arrayProperties) || self.dependsOn.all(d, has(d.jobId) || has(d.job))",
        "dependsOn needs a jobId or job, unless the job is an array and the type is SEQUENTIAL",
    ),
    own("terminate", "self != ''", "'reason' is a required field (cannot be an empty string)"),
    own("cancel", "self != ''", "'reason' is a required field (cannot be an empty string)"),
    own("terminate", "self.size() <= 1024", "reason can have at most 1024 characters"),
    own("cancel", "self.size() <= 1024", "reason can have at most 1024 characters"),
    own("terminate", "self == oldSelf", "terminate cannot be changed or taken back"),
    on(
        ".terminate",
        "!has(oldSelf.terminate) || has(self.terminate)",
        "terminate cannot be changed or taken back",
    ),
    own("cancel", "self == oldSelf", "cancel cannot be changed or taken back"),
    on(".cancel", "!has(oldSelf.cancel) || has(self.cancel)", "cancel cannot be changed or taken back"),
];

/// A submitted job cannot be changed, apart from `jobQueue`, `schedulingPriorityOverride`, `terminate`, `cancel`,
/// `childActions` and `ttlSecondsAfterFinished`.
const IMMUTABLE: &[&str] = &[
    "jobName",
    "jobId",
    "jobDefinition",
    "shareIdentifier",
    "arrayProperties",
    "dependsOn",
    "dependencyTimeoutSeconds",
    "parameters",
    "containerOverrides",
    "nodeOverrides",
    "retryStrategy",
    "propagateTags",
    "timeout",
    "tags",
    "eksPropertiesOverride",
    "ecsPropertiesOverride",
    "consumableResourcePropertiesOverride",
    "session",
];

/// A definition in the job itself cannot be changed either.
const INLINE: &[&str] = &["containerProperties", "ecsProperties", "eksProperties", "nodeProperties"];

const IMMUTABLE_MESSAGE: &str = "cannot be changed after the job was submitted";

/// The rule that nothing is added or removed of what stays as it was submitted.
pub(super) fn keeps_members() -> Value {
    cel::keeps_members(IMMUTABLE, INLINE, IMMUTABLE_MESSAGE)
}

/// SubmitJob of the AWS Batch API, plus what people do to a job later.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "BatchJob",
    plural = "batchjobs",
    shortname = "bj",
    category = "batchyard",
    namespaced,
    status = "BatchJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A job that runs a container once its turn comes, and again if it fails, as in AWS Batch.",
    selectable = ".spec.jobQueue",
    selectable = ".spec.jobDefinition",
    selectable = ".spec.jobId",
    selectable = ".status.phase",
    selectable = ".status.jobId",
    printcolumn = r#"{"name":"PHASE","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"QUEUE","type":"string","jsonPath":".spec.jobQueue"}"#,
    printcolumn = r#"{"name":"ATTEMPT","type":"integer","jsonPath":".status.attempt"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.statusReason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"DEFINITION","type":"string","jsonPath":".status.jobDefinition","priority":1}"#,
    printcolumn = r#"{"name":"NODE","type":"string","jsonPath":".status.current.nodeName","priority":1}"#,
    printcolumn = r#"{"name":"ID","type":"string","jsonPath":".status.jobId","priority":1}"#
)]
#[schemars(extend("x-kubernetes-validations" =
    cel::rules_and_unchanged(SPEC, IMMUTABLE, IMMUTABLE_MESSAGE)))]
pub struct BatchJobSpec {
    /// AWS's name of the job, up to 128 of A-Z a-z 0-9 _ -, a letter or digit first; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Name or ARN of the JobQueue, in the job's namespace. Can be changed while the job waits.
    #[schemars(length(max = 512))]
    pub job_queue: String,
    /// The share that the job counts for; fair-share queues only, and required there.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_identifier: Option<String>,
    /// Takes the place of the definition's schedulingPriority: 0 to 9999. Can be changed while the job waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_priority_override: Option<i32>,
    /// Makes the job an array of many like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_properties: Option<ArrayProperties>,
    /// Up to 20 jobs that must succeed first.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<JobDependency>,
    /// Fail the job if one that it depends on does not exist so many seconds after this one was created; default: wait for ever. Not in AWS.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency_timeout_seconds: Option<i32>,
    /// Name, name:revision or ARN of the JobDefinition. Without a revision: the newest ACTIVE one.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition: Option<String>,
    /// Values for Ref::name in the definition's command; they win over the definition's own.
    #[schemars(extend("maxProperties" = 256, "additionalProperties" = {"type": "string", "maxLength": 32768}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Changes of the definition's containerProperties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_overrides: Option<Box<ContainerOverrides>>,
    /// Changes of the definition's nodeProperties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_overrides: Option<Box<NodeOverrides>>,
    /// Takes the place of the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_strategy: Option<RetryStrategy>,
    /// Copy the tags of job and definition to its pods; takes the place of the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<bool>,
    /// Takes the place of the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<JobTimeout>,
    /// Tags of the job.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Changes of the definition's eksProperties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_properties_override: Option<Box<EksPropertiesOverride>>,
    /// Changes of the definition's ecsProperties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_properties_override: Option<Box<EcsPropertiesOverride>>,
    /// Takes the place of the definition's consumableResourceProperties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource_properties_override: Option<ConsumableResourceProperties>,
    /// The job's id, a UUID; default: the object's uid.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// A job of one container, instead of jobDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_properties: Option<Box<ContainerProperties>>,
    /// A job of several containers, instead of jobDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_properties: Option<Box<EcsProperties>>,
    /// A job in terms of a pod, instead of jobDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_properties: Option<Box<EksProperties>>,
    /// A job on several nodes at once, instead of jobDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_properties: Option<Box<NodeProperties>>,
    /// Makes the job an interactive session; takes the place of the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<Session>>,
    /// Why the job is to end. Setting it ends the job in any phase; it cannot be taken back.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<String>,
    /// Why the job is not wanted. Setting it ends the job unless it is STARTING or RUNNING; it cannot be taken back.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
    /// Cancels or terminates single children of an array.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_actions: Vec<ChildAction>,
    /// Delete the job so many seconds after it ended; default: 7 days for submitted jobs, never for those with a fixed name.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
}

const ARRAY: &[Rule] = &[
    own("size", "self >= 2 && self <= 10000", "array size must be between 2 and 10000"),
    rule("has(self.size) || has(self.rerunFailedOf)", "arrayProperties needs a size"),
    own(
        "toleratedFailures",
        "string(self).matches('^([0-9]+|(100|[0-9]{1,2})%)$')",
        "toleratedFailures must be a number that is not negative, or a percentage such as 10%",
    ),
    own("maxRunning", "self >= 1", "maxRunning must be at least 1"),
];

/// An array of jobs that differ by their index only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(ARRAY)))]
pub struct ArrayProperties {
    /// How many children, 2 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    /// How many children may fail while the array still succeeds: a number, or 10% of them; default 0. Not in AWS.
    #[schemars(extend("maxLength" = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerated_failures: Option<IntOrString>,
    /// For dependencies of type SEQUENTIAL: a child that fails does not hold up the next. Not in AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_on_failure: Option<bool>,
    /// How many children may have a pod at a time. Not in AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<i32>,
    /// Name or id of an array job that ended: only its failed indexes run again. Not in AWS.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_failed_of: Option<String>,
}

const DEPENDENCY: &[Rule] = &[
    rule("!has(self.jobId) || !has(self.job)", "a dependency can have only one of jobId and job"),
    rule(
        "!has(self.type) || self.type != 'N_TO_N' || has(self.jobId) || has(self.job)",
        "a dependency of type N_TO_N needs a jobId or job",
    ),
    rule("has(self.jobId) || has(self.job) || has(self.type)", "a dependency needs a jobId, a job or a type"),
];

/// A job that must succeed first, in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(DEPENDENCY)))]
pub struct JobDependency {
    /// Its id; id:index for a child of an array.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// For arrays: SEQUENTIAL (each child waits for the one before) or N_TO_N (for the child with its index).
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ArrayJobDependency>,
    /// Name of a BatchJob in this namespace, instead of jobId; it need not exist yet. Not in AWS.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// How the children of an array wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ArrayJobDependency {
    /// Each child waits for the child with its index.
    #[default]
    NToN,
    /// Each child waits for the one before it.
    Sequential,
}

const CHILD_ACTION: &[Rule] = &[
    own(
        "indexes",
        "self.matches('^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$')",
        "indexes must be numbers and ranges, such as 3,7-9",
    ),
    own("reason", "self != ''", "'reason' is a required field (cannot be an empty string)"),
    own("reason", "self.size() <= 1024", "reason can have at most 1024 characters"),
];

/// Cancels or terminates children of an array.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(CHILD_ACTION)))]
pub struct ChildAction {
    /// Their indexes: numbers and ranges, such as 3,7-9.
    #[schemars(length(max = 4096))]
    pub indexes: String,
    /// CANCEL or TERMINATE.
    pub action: ChildActionType,
    /// Why; becomes their statusReason.
    #[schemars(length(max = 4096))]
    pub reason: String,
}

/// What happens to children of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChildActionType {
    /// They end unless they are STARTING or RUNNING.
    #[default]
    Cancel,
    /// They end.
    Terminate,
}

/// What is known of the job. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchJobStatus {
    /// What decisions are made from: phase, attempts, times.
    #[serde(flatten)]
    pub record: batchyard_core::job::record::Record,
    /// The queue that the job waits in or was placed from; a change of spec.jobQueue after that has no effect.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_queue: Option<String>,
    /// Number of the current or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The interactive session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<SessionStatus>>,
    /// Where the output of the current or last attempt goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Box<LogStatus>>,
    /// The children of an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_properties: Option<Box<ArrayStatus>>,
    /// The nodes of a multi-node job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_properties: Option<Box<NodeStatus>>,
    /// The share that the job counts for.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_identifier: Option<String>,
    /// The priority within its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_priority: Option<i32>,
    /// Complete, Failed, FieldsIgnored, EditIgnored and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl BatchJob {
    /// True for a multi-node job, once it is accepted.
    pub fn is_gang(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.node_properties.is_some())
    }
}

/// An interactive session that is ready, will be or was.
pub type SessionStatus = batchyard_core::session::State;

/// Where an attempt's output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogStatus {
    /// The log driver.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<String>,
    /// The log group or index.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group_name: Option<String>,
    /// The log stream.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream_name: Option<String>,
}

/// The children of an array.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArrayStatus {
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    /// How many are in each phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_summary: Option<JobCounts>,
    /// When the counts were last right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_summary_last_updated_at: Option<jiff::Timestamp>,
    /// Which ones are in each phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes: Option<PhaseIndexes>,
    /// How many BatchJobRecord objects hold their details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i32>,
}

/// Indexes of children per phase, as numbers and ranges such as 0-4,7; cut short with … where they are many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub struct PhaseIndexes {
    /// Waiting for other children, or for those of another array.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// Waiting for room.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable: Option<String>,
    /// Placed, starting.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<String>,
    /// Running.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Ended well.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<String>,
    /// Ended badly.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The nodes of a multi-node job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_nodes: Option<i32>,
    /// Index of the main node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_node: Option<i32>,
    /// How many are in each phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_summary: Option<JobCounts>,
}
