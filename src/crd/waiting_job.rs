//! WaitingJob: where in line a job stands. Not stored: the operator answers when it is asked, see `src/view`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The group of what is answered, not stored.
pub const VIEW_GROUP: &str = "view.batchyard.io";
/// Its version.
pub const VIEW_VERSION: &str = "v1alpha1";
/// The resource.
pub const WAITING_JOBS: &str = "waitingjobs";

/// A RUNNABLE job that has no pod yet. It has the name, namespace and uid of its BatchJob.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WaitingJob {
    /// [`VIEW_GROUP`]/[`VIEW_VERSION`].
    pub api_version: String,
    /// `WaitingJob`.
    pub kind: String,
    /// Those of the job.
    pub metadata: ObjectMeta,
    /// Where it stands.
    pub status: WaitingJobStatus,
}

/// Where in line a job stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitingJobStatus {
    /// The object's name of its queue.
    pub job_queue: String,
    /// Its place in its queue; 1 is next. None for a job that is not in line now: it waits for something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The names of the first jobs of its queue that are before it, at most [`AHEAD`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<String>,
    /// How many jobs of other queues on the same environments get their turn before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead_in_other_queues: Option<u64>,
    /// What it waits for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// How many jobs are named that are before another.
pub const AHEAD: usize = 10;

impl WaitingJob {
    /// A job of this metadata that stands there.
    pub fn new(metadata: ObjectMeta, status: WaitingJobStatus) -> Self {
        let api_version = format!("{VIEW_GROUP}/{VIEW_VERSION}");
        Self { api_version, kind: "WaitingJob".to_owned(), metadata, status }
    }
}
