//! JobQueue: where jobs wait for their turn
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateJobQueue.html>).

use std::collections::BTreeMap;

use batchyard_core::job::phase::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, on, own, rule};
use super::logging::QueueLogging;
use super::schema;
use super::shared::{ResourceStatus, State, TAGS};

const SPEC: &[Rule] = &[
    own(
        "jobQueueName",
        "self.matches('^[A-Za-z0-9_-]{1,128}$')",
        "jobQueueName can have up to 128 letters, numbers, hyphens and underscores",
    ),
    own("priority", "self >= 0", "priority must not be negative"),
    own(
        "computeEnvironmentOrder",
        "self.size() <= 3",
        "computeEnvironmentOrder can have at most 3 compute environments",
    ),
    rule(
        "!has(self.computeEnvironmentOrder) || !has(self.serviceEnvironmentOrder)",
        "computeEnvironmentOrder and serviceEnvironmentOrder cannot be used together",
    ),
    on(
        ".schedulingPolicyArn",
        "has(self.schedulingPolicyArn) == has(oldSelf.schedulingPolicyArn)",
        "schedulingPolicyArn can be replaced, but neither added nor removed",
    ),
];

const IMMUTABLE: &[&str] = &["jobQueueName", "jobQueueType"];

const TIME_LIMIT_ACTION: &[Rule] = &[
    own(
        "reason",
        "self in ['CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY', 'MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE', 'MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT', 'MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED']",
        "Invalid job reason",
    ),
    own("maxTimeSeconds", "self >= 600 && self <= 86400", "maxTimeSeconds must be between 600 and 86400"),
];

/// CreateJobQueue of the AWS Batch API, plus limits of our own.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "JobQueue",
    plural = "jobqueues",
    shortname = "jq",
    category = "batchyard",
    namespaced,
    status = "JobQueueStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A queue in which jobs wait for their turn, as in AWS Batch.",
    printcolumn = r#"{"name":"STATE","type":"string","jsonPath":".spec.state"}"#,
    printcolumn = r#"{"name":"PRIORITY","type":"integer","jsonPath":".spec.priority"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"RUNNABLE","type":"integer","jsonPath":".status.jobs.RUNNABLE"}"#,
    printcolumn = r#"{"name":"RUNNING","type":"integer","jsonPath":".status.jobs.RUNNING"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.statusReason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = cel::rules_and_immutable(SPEC, IMMUTABLE, "cannot be changed")))]
pub struct JobQueueSpec {
    /// AWS's name of the queue, up to 128 of A-Z a-z 0-9 _ -; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_queue_name: Option<String>,
    /// ENABLED (default), or DISABLED: no new jobs are taken, those inside go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Among queues that share an environment the higher number goes first; 0 or more.
    pub priority: i32,
    /// Up to 3 environments, tried from the lowest order up.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute_environment_order: Vec<ComputeEnvironmentOrder>,
    /// SageMaker environments; Batchyard has none.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_environment_order: Vec<ServiceEnvironmentOrder>,
    /// What kind of environments the queue has; AWS derives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_queue_type: Option<JobQueueType>,
    /// Name or ARN of a SchedulingPolicy; makes this a fair-share queue. Can be replaced, but neither added nor removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_policy_arn: Option<String>,
    /// What to do with a job that blocks the queue for too long.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_state_time_limit_actions: Vec<JobStateTimeLimitAction>,
    /// Tags of the queue.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How many jobs of this queue may be in STARTING or RUNNING at a time; default: no limit.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<i32>,
    /// How many finished jobs of this queue are kept, the newest ones; default 10000.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_jobs_limit: Option<i32>,
    /// Let a pod start only after its uid stands in its job's status, at the price of two more writes; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_fencing: Option<bool>,
    /// Where the output of this queue's jobs goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<QueueLogging>,
}

/// A compute environment of the queue and its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeEnvironmentOrder {
    /// The place: lower numbers are tried first.
    pub order: i32,
    /// Name or ARN of a ComputeEnvironment; namespace.name is tried before name.
    #[schemars(length(max = 512))]
    pub compute_environment: String,
}

/// A SageMaker environment of the queue and its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEnvironmentOrder {
    /// The place: lower numbers are tried first.
    pub order: i32,
    /// Name or ARN.
    #[schemars(length(max = 512))]
    pub service_environment: String,
}

/// What kind of environments a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobQueueType {
    /// EC2 or spot instances with ECS.
    #[default]
    Ecs,
    /// Fargate.
    EcsFargate,
    /// Instances that ECS manages.
    EcsManagedInstances,
    /// Amazon EKS.
    Eks,
    /// SageMaker training jobs.
    SagemakerTraining,
}

/// What to do with a job that blocks its queue for too long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TIME_LIMIT_ACTION)))]
pub struct JobStateTimeLimitAction {
    /// The statusReason to act on: one of AWS's CAPACITY and MISCONFIGURATION codes.
    #[schemars(length(max = 512))]
    pub reason: String,
    /// RUNNABLE.
    pub state: TimeLimitState,
    /// How long the job may be blocked for that reason: 600 to 86400 seconds.
    pub max_time_seconds: i32,
    /// CANCEL, or TERMINATE for SageMaker queues.
    pub action: TimeLimitAction,
}

/// The state of a job that a time limit looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TimeLimitState {
    /// The job waits at the head of its queue.
    #[default]
    Runnable,
}

/// What a time limit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TimeLimitAction {
    /// The job is cancelled.
    #[default]
    Cancel,
    /// The job is terminated.
    Terminate,
}

/// What is known of the queue. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobQueueStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// CREATING, UPDATING, DELETING, VALID or INVALID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ResourceStatus>,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How many jobs of the queue are in each phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobCounts>,
    /// The vCPUs of this queue's jobs that are placed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_in_use: Option<i32>,
    /// The jobs that are next, up to 100.
    #[schemars(length(max = 100))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub front: Vec<FrontJob>,
    /// When the front was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_updated_at: Option<jiff::Timestamp>,
    /// When a job of this queue was last placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_placed_at: Option<jiff::Timestamp>,
    /// Ready, FieldsIgnored, DeletionBlocked and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A number of jobs per phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub struct JobCounts {
    /// Accepted, something is missing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<i64>,
    /// Waiting for other jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// Waiting for room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable: Option<i64>,
    /// Placed, starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<i64>,
    /// Running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<i64>,
    /// Ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i64>,
    /// Ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i64>,
}

impl JobCounts {
    /// So many in each phase.
    pub fn count(of: impl Fn(Phase) -> i64) -> Self {
        Self {
            submitted: Some(of(Phase::Submitted)),
            pending: Some(of(Phase::Pending)),
            runnable: Some(of(Phase::Runnable)),
            starting: Some(of(Phase::Starting)),
            running: Some(of(Phase::Running)),
            succeeded: Some(of(Phase::Succeeded)),
            failed: Some(of(Phase::Failed)),
        }
    }

    /// How many are in a phase.
    pub fn of(&self, phase: Phase) -> i64 {
        let count = match phase {
            Phase::Submitted => self.submitted,
            Phase::Pending => self.pending,
            Phase::Runnable => self.runnable,
            Phase::Starting => self.starting,
            Phase::Running => self.running,
            Phase::Succeeded => self.succeeded,
            Phase::Failed => self.failed,
        };
        count.unwrap_or(0)
    }

    /// How many there are in all.
    pub fn total(&self) -> i64 {
        Phase::ALL.iter().map(|phase| self.of(*phase)).sum()
    }
}

/// A job near the head of the queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontJob {
    /// The job's id.
    #[schemars(length(max = 128))]
    pub job_id: String,
    /// The BatchJob's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When it came to this place at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_time_at_position: Option<jiff::Timestamp>,
}
