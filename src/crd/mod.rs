//! The wire types: what people write and what the operator answers, one file per kind.
//!
//! A manifest is `spec:` plus the JSON of the AWS Batch API unchanged; what AWS does not have stands beside it.
#![deny(missing_docs)]

pub mod aws;
pub mod aws_compute;
pub mod batch_job;
pub mod batch_job_record;
mod cel;
pub mod children;
pub mod compute_environment;
pub mod conditions;
pub mod consumable_resource;
pub mod container;
pub mod convert;
pub mod ecs;
pub mod eks;
pub mod ignored;
pub mod interactive;
pub mod job_definition;
pub mod job_queue;
pub mod logging;
pub mod node;
pub mod notification_rule;
pub mod overrides;
pub mod render;
pub mod rights;
pub mod scheduling_policy;
mod schema;
pub mod session;
pub mod shared;
pub mod size;
pub mod structure;
#[cfg(test)]
mod tests;
pub mod waiting_job;

pub use batch_job::{BatchJob, BatchJobSpec, BatchJobStatus};
pub use batch_job_record::{BatchJobRecord, BatchJobRecordSpec};
pub use compute_environment::{ComputeEnvironment, ComputeEnvironmentSpec, ComputeEnvironmentStatus};
pub use consumable_resource::{ConsumableResource, ConsumableResourceSpec, ConsumableResourceStatus};
pub use job_definition::{JobDefinition, JobDefinitionSpec, JobDefinitionStatus};
pub use job_queue::{JobQueue, JobQueueSpec, JobQueueStatus};
pub use notification_rule::{NotificationRule, NotificationRuleSpec, NotificationRuleStatus};
pub use render::{all, render};
pub use scheduling_policy::{SchedulingPolicy, SchedulingPolicySpec, SchedulingPolicyStatus};
