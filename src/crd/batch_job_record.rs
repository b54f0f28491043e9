//! BatchJobRecord: details of an array's children, in segments.

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Current, Intent, Placement, Record};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Details of some children of an array. Written by the operator only; sealed at 64 KiB.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "BatchJobRecord",
    plural = "batchjobrecords",
    category = "batchyard",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "Details of some children of an array job. Written by the operator only.",
    printcolumn = r#"{"name":"JOB","type":"string","jsonPath":".spec.job"}"#,
    printcolumn = r#"{"name":"SEGMENT","type":"integer","jsonPath":".spec.segment"}"#,
    printcolumn = r#"{"name":"SEALED","type":"boolean","jsonPath":".spec.sealed"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct BatchJobRecordSpec {
    /// Name of the BatchJob.
    #[schemars(length(max = 253))]
    pub job: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub job_uid: String,
    /// Number of this segment, from 0.
    #[schemars(range(min = 0))]
    pub segment: i32,
    /// True if nothing more is written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Segment 0 of a rerun: the indexes that run again, as numbers and ranges.
    #[schemars(length(max = 65_536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<String>,
    /// Children that ended alike without ever having a pod.
    #[schemars(length(max = 10_000))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<ChildRange>,
    /// Children, in the order in which something happened to them; the entry of the highest segment counts.
    #[schemars(length(max = 10_000))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildRecord>,
}

/// Children that ended alike without ever having a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChildRange {
    /// Their indexes, as numbers and ranges.
    #[schemars(length(max = 65_536))]
    pub indexes: String,
    /// How they ended.
    pub phase: Phase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// When they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<jiff::Timestamp>,
    /// They were cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_cancelled: Option<bool>,
    /// They were terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_terminated: Option<bool>,
}

/// What is remembered of one child.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChildRecord {
    /// Its index in the array, or of the node.
    #[schemars(range(min = 0))]
    pub index: i32,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it waits, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<jiff::Timestamp>,
    /// When its last attempt's container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<jiff::Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<jiff::Timestamp>,
    /// It was cancelled before it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_cancelled: Option<bool>,
    /// It was terminated by a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_terminated: Option<bool>,
    /// Its attempts that ended, oldest first.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Pods of the next attempt that started nothing, oldest first.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<Placement>,
    /// A decision to end it that is not carried out yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The pod that alone may run it, in a queue with strictFencing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// The last lines of its last failed attempt's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

impl ChildRecord {
    /// What is to be remembered of a child.
    pub fn new(index: u32, record: &Record) -> Self {
        let Record { status_reason, created_at, started_at, stopped_at, is_cancelled, is_terminated, .. } =
            record.clone();
        Self {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            phase: record.phase,
            status_reason,
            created_at,
            started_at,
            stopped_at,
            is_cancelled,
            is_terminated,
            attempts: record.attempts.clone(),
            placements: record.placements.clone(),
            intent: record.intent.clone(),
            current: record.current.clone(),
            log_tail: record.log_tail.clone(),
        }
    }

    /// What decisions about the child are made from.
    pub fn record(&self) -> Record {
        let Self { status_reason, attempts, placements, intent, current, log_tail, .. } = self.clone();
        Record {
            phase: self.phase,
            status_reason,
            created_at: self.created_at,
            started_at: self.started_at,
            stopped_at: self.stopped_at,
            is_cancelled: self.is_cancelled,
            is_terminated: self.is_terminated,
            attempts,
            placements,
            intent,
            current,
            log_tail,
            ..Record::default()
        }
    }
}
