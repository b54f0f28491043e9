//! What a notification says: a CloudEvent in structured mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>) whose data is the detail that
//! EventBridge has for the same thing (<https://docs.aws.amazon.com/batch/latest/userguide/batch_cwe_events.html>).
//!
//! EventBridge's detail has the whole container, its environment and command among it, and the job's parameters. Here
//! they are left out: these are where people put passwords, and a notification leaves the cluster. [`Job`] does not even
//! have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::moment::{Moment, Seen, What};
use crate::job::phase::Phase;
use crate::job::record::{Attempt, ContainerOutcome, Record};

/// All that a notification may say of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// The object's uid.
    pub uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// AWS's name of the job.
    pub job_name: String,
    /// The queue, as the job names it.
    pub job_queue: String,
    /// What is recorded of it.
    pub record: Record,
    /// Tags of the job.
    pub tags: BTreeMap<String, String>,
    /// The share that it counts for.
    pub share_identifier: Option<String>,
    /// Its priority within that.
    pub scheduling_priority: Option<i32>,
    /// How often it may run, and after which failures, as the job itself says it.
    pub retry_strategy: Option<Value>,
    /// How long an attempt may run, as the job itself says it.
    pub timeout_seconds: Option<i32>,
    /// The jobs that it depends on, as the job names them.
    pub depends_on: Vec<Value>,
    /// Size and counts of an array.
    pub array: Option<Array>,
    /// Nodes of a multi-node job: how many, and which is the main one.
    pub nodes: Option<(i32, i32)>,
    /// The interactive session, while people can connect to it.
    pub session: Option<Session>,
}

/// The children of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Array {
    /// How many there are.
    pub size: i32,
    /// How many are in each phase.
    pub counts: BTreeMap<Phase, i64>,
}

/// An interactive session that people can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where.
    pub url: String,
    /// Since when.
    pub ready_at: Timestamp,
}

impl Job {
    /// What says which moments it has been through.
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            record: &self.record,
            is_array: self.array.is_some(),
            session_ready_at: self.session.as_ref().map(|session| session.ready_at),
        }
    }

    fn source(&self) -> String {
        format!("/apis/batchyard.io/v1alpha1/namespaces/{}/batchjobs/{}", self.namespace, self.name)
    }

    fn id(&self) -> &str {
        self.record.job_id.as_deref().unwrap_or(&self.uid)
    }

    /// About how much memory it takes: itself, and the text of all that people can make long.
    pub fn bytes(&self) -> usize {
        let record = serde_json::to_string(&self.record).map_or(0, |text| text.len());
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let said = self.depends_on.iter().chain(&self.retry_strategy).map(|value| value.to_string().len());
        let names = [&self.uid, &self.namespace, &self.name, &self.job_name, &self.job_queue];
        let names: usize = names.into_iter().map(String::len).sum();
        size_of::<Self>() + record + tags + said.sum::<usize>() + names
    }
}

/// A queue whose head cannot start, as the queue's condition `Blocked` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedQueue {
    /// The object's uid.
    pub uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl BlockedQueue {
    /// Tells repeats: another reason, or being blocked anew, is another event.
    pub fn id(&self) -> String {
        format!("{}/{}/BLOCKED/{}", self.uid, self.since.as_second(), self.reason)
    }
}

/// Something that is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A moment of a job.
    Job(Arc<Job>, Moment),
    /// A blocked queue, and the job at its head if that is known.
    Queue(BlockedQueue, Option<Arc<Job>>),
}

impl Subject {
    /// Tells repeats: stable across retries and restarts.
    pub fn id(&self) -> String {
        match self {
            Self::Job(job, moment) => moment.id(&job.uid),
            Self::Queue(queue, _) => queue.id(),
        }
    }

    /// About how much memory it takes. What it shares with others counts for each of them.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Job(job, _) => job.bytes(),
                Self::Queue(queue, head) => queue.message.len() + head.as_ref().map_or(0, |job| job.bytes()),
            }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Job(_, moment) => moment.at,
            Self::Queue(queue, _) => queue.since,
        }
    }
}

/// The envelope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CloudEvent {
    specversion: &'static str,
    /// With the source, the same for the same thing.
    pub id: String,
    /// The object that it is about.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// The job's id, or the queue's name.
    pub subject: String,
    /// When.
    pub time: Timestamp,
    datacontenttype: &'static str,
    /// EventBridge's name for it, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detailtype: Option<&'static str>,
    /// The phase was over when it was looked at; what is said of it is what the record kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
    /// The detail.
    pub data: Detail,
}

/// The media type of a CloudEvent in structured mode.
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The members of AWS's JobDetail that a notification has; `namespace`, `name`, `session` and `reasonCode` are ours. Times
/// are milliseconds, as there. Where AWS has an ARN stands the name: no ARNs exist here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    job_queue: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<i64>,
    attempts: Vec<AttemptDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_strategy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Timeout>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduling_priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    array_properties: Option<ArrayDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_properties: Option<NodeDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_cancelled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_terminated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionDetail>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptDetail {
    container: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<i64>,
    status_reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Timeout {
    attempt_duration_seconds: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArrayDetail {
    size: i32,
    status_summary: BTreeMap<Phase, i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeDetail {
    num_nodes: i32,
    main_node: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionDetail {
    url: String,
    ready_at: i64,
}

impl From<&ContainerOutcome> for Outcome {
    fn from(outcome: &ContainerOutcome) -> Self {
        Self { exit_code: outcome.exit_code, reason: outcome.reason.clone() }
    }
}

impl From<&Attempt> for AttemptDetail {
    fn from(attempt: &Attempt) -> Self {
        Self {
            container: Outcome::from(&attempt.container),
            started_at: attempt.started_at.map(|at| at.as_millisecond()),
            stopped_at: attempt.stopped_at.map(|at| at.as_millisecond()),
            status_reason: attempt.status_reason.clone(),
        }
    }
}

/// The event for something that is told.
pub fn event(subject: &Subject) -> CloudEvent {
    let (source, about, type_, detailtype, passed, data) = match subject {
        Subject::Job(job, moment) => {
            let (type_, name) = match moment.what {
                What::SessionReady => ("io.batchyard.job.session-ready", None),
                _ => ("io.batchyard.job.state-change", Some("Batch Job State Change")),
            };
            (job.source(), job.id().to_owned(), type_, name, moment.passed, detail(job, moment))
        }
        Subject::Queue(queue, head) => {
            let BlockedQueue { namespace, name, .. } = queue;
            let source = format!("/apis/batchyard.io/v1alpha1/namespaces/{namespace}/jobqueues/{name}");
            let data = blocked(queue, head.as_deref());
            (source, name.clone(), "io.batchyard.queue.blocked", Some("Batch Job Queue Blocked"), false, data)
        }
    };
    CloudEvent {
        specversion: "1.0",
        id: subject.id(),
        source,
        type_,
        subject: about,
        time: subject.at(),
        datacontenttype: "application/json",
        detailtype,
        passed,
        data,
    }
}

/// The job as it was at that moment, as far as the record knows.
fn detail(job: &Job, moment: &Moment) -> Detail {
    let record = &job.record;
    let is_end = moment.what.phase().is_terminal();
    // Those that had ended by then. Attempts are numbered from 1.
    let ended = record.attempts.iter().filter(|attempt| is_end || attempt.attempt < moment.attempt);
    let of_moment = record.attempts.iter().find(|attempt| attempt.attempt == moment.attempt);
    let started = match moment.what.phase() {
        Phase::Running => {
            of_moment.and_then(|attempt| attempt.started_at).or(record.started_at).or(Some(moment.at))
        }
        phase if phase.is_terminal() => {
            of_moment.and_then(|attempt| attempt.started_at).or(record.started_at)
        }
        _ => None,
    };
    let now = |text: &Option<String>| text.clone().filter(|_| !moment.passed);
    Detail {
        status: moment.what.phase().as_str(),
        status_reason: now(&record.status_reason),
        started_at: started.map(|at| at.as_millisecond()),
        stopped_at: record.stopped_at.filter(|_| is_end).map(|at| at.as_millisecond()),
        attempts: ended.map(AttemptDetail::from).collect(),
        container: of_moment.filter(|_| is_end).map(|attempt| Outcome::from(&attempt.container)),
        is_cancelled: record.is_cancelled.filter(|_| is_end),
        is_terminated: record.is_terminated.filter(|_| is_end),
        session: job.session.as_ref().filter(|_| moment.what == What::SessionReady).map(|session| {
            SessionDetail { url: session.url.clone(), ready_at: session.ready_at.as_millisecond() }
        }),
        array_properties: job
            .array
            .as_ref()
            .map(|array| ArrayDetail { size: array.size, status_summary: array.counts.clone() }),
        ..plain(job)
    }
}

/// What is the same at all moments.
fn plain(job: &Job) -> Detail {
    Detail {
        namespace: job.namespace.clone(),
        name: Some(job.name.clone()),
        job_name: Some(job.job_name.clone()),
        job_id: Some(job.id().to_owned()),
        job_queue: job.job_queue.clone(),
        job_definition: job.record.job_definition.clone(),
        created_at: job.record.created_at.map(|at| at.as_millisecond()),
        retry_strategy: job.retry_strategy.clone(),
        timeout: job.timeout_seconds.map(|seconds| Timeout { attempt_duration_seconds: seconds }),
        depends_on: job.depends_on.clone(),
        tags: job.tags.clone(),
        share_identifier: job.share_identifier.clone(),
        scheduling_priority: job.scheduling_priority,
        node_properties: job.nodes.map(|(num_nodes, main_node)| NodeDetail { num_nodes, main_node }),
        ..Detail::default()
    }
}

/// A blocked queue is told as the job at its head, RUNNABLE, with the reason
/// (<https://docs.aws.amazon.com/batch/latest/userguide/batch-job-queue-blocked-events.html>).
fn blocked(queue: &BlockedQueue, head: Option<&Job>) -> Detail {
    let attempts = head.map(|job| job.record.attempts.iter().map(AttemptDetail::from).collect());
    Detail {
        status: Phase::Runnable.as_str(),
        status_reason: Some(queue.message.clone()),
        reason_code: Some(queue.reason.clone()),
        namespace: queue.namespace.clone(),
        job_queue: queue.name.clone(),
        attempts: attempts.unwrap_or_default(),
        ..head.map(plain).unwrap_or_default()
    }
}
