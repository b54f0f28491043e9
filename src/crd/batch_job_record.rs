//! BatchJobRecord: details of an array's children, in segments.

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Placement};
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
    /// Children, in the order in which something happened to them; a later entry of an index wins.
    #[schemars(length(max = 10_000))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildRecord>,
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
}
