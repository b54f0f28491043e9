//! From API objects to what the core decides with, and nothing more than that of them.

use batchyard_core::job::phase::Phase;
use batchyard_core::notification::content::{Array, BlockedQueue, Job, Session};
use batchyard_core::notification::mail::{PLACEHOLDERS, unknown_placeholders};
use batchyard_core::notification::moment::{Seen, What};
use batchyard_core::notification::rule::Rule;
use batchyard_core::notification::text;
use jiff::Timestamp;
use kube::ResourceExt;

use super::sink;
use crate::crd::batch_job::{BatchJobSpec, JobDependency};
use crate::crd::conditions::{ConditionType, find, is_true};
use crate::crd::notification_rule::ToldPhase;
use crate::crd::{BatchJob, JobQueue, NotificationRule};

/// Takes off a job what no notification says: the cache then does not even hold it.
pub(super) fn trim(job: &mut BatchJob) {
    let spec = std::mem::take(&mut job.spec);
    job.spec = BatchJobSpec {
        job_name: spec.job_name,
        job_queue: spec.job_queue,
        share_identifier: spec.share_identifier,
        array_properties: spec.array_properties,
        depends_on: spec.depends_on,
        retry_strategy: spec.retry_strategy,
        timeout: spec.timeout,
        tags: spec.tags,
        ..BatchJobSpec::default()
    };
    job.metadata.annotations = None;
    job.metadata.labels = None;
    if let Some(status) = &mut job.status {
        status.record.log_tail = None;
        status.logs = None;
        status.conditions.clear();
    }
}

/// What says which moments a job has been through, once it has a status.
pub(super) fn seen(job: &BatchJob) -> Option<Seen<'_>> {
    let status = job.status.as_ref()?;
    Some(Seen {
        record: &status.record,
        is_array: job.spec.array_properties.is_some(),
        session_ready_at: session(job).map(|session| session.ready_at),
    })
}

fn session(job: &BatchJob) -> Option<Session> {
    let session = job.status.as_ref()?.session.as_ref().filter(|session| session.ready == Some(true))?;
    Some(Session { url: session.url.clone()?, ready_at: session.ready_at? })
}

/// The queue that a job is in, and its names.
pub(super) fn names(job: &BatchJob) -> (&str, [&str; 2]) {
    let placed = job.status.as_ref().and_then(|status| status.job_queue.as_deref());
    let name = job.metadata.name.as_deref().unwrap_or_default();
    (placed.unwrap_or(&job.spec.job_queue), [job.spec.job_name.as_deref().unwrap_or(name), name])
}

/// What a notification may say of a job.
pub(super) fn job(job: &BatchJob) -> Job {
    let status = job.status.clone().unwrap_or_default();
    let (queue, [job_name, name]) = names(job);
    let counts = |of: &dyn Fn(Phase) -> i64| Phase::ALL.iter().map(|phase| (*phase, of(*phase))).collect();
    let dependency = |on: &JobDependency| serde_json::to_value(on).unwrap_or_default();
    let array = status.array_properties.as_deref();
    let nodes = status.node_properties.as_deref();
    Job {
        uid: job.uid().unwrap_or_default(),
        namespace: job.namespace().unwrap_or_default(),
        name: name.to_owned(),
        job_name: job_name.to_owned(),
        job_queue: queue.to_owned(),
        tags: job.spec.tags.clone(),
        share_identifier: status.share_identifier.or_else(|| job.spec.share_identifier.clone()),
        scheduling_priority: status.scheduling_priority,
        retry_strategy: job.spec.retry_strategy.as_ref().and_then(|retry| serde_json::to_value(retry).ok()),
        timeout_seconds: job.spec.timeout.as_ref().and_then(|timeout| timeout.attempt_duration_seconds),
        depends_on: job.spec.depends_on.iter().map(dependency).collect(),
        array: job.spec.array_properties.as_ref().map(|spec| Array {
            size: array.and_then(|array| array.size).or(spec.size).unwrap_or_default(),
            counts: array
                .and_then(|array| array.status_summary.as_ref())
                .map(|summary| counts(&|phase| summary.of(phase)))
                .unwrap_or_default(),
        }),
        nodes: nodes.and_then(|nodes| Some((nodes.num_nodes?, nodes.main_node?))),
        session: session(job),
        record: status.record,
    }
}

/// The queue, if it is blocked.
pub(super) fn blocked(queue: &JobQueue) -> Option<BlockedQueue> {
    let conditions = &queue.status.as_ref()?.conditions;
    let condition =
        find(conditions, ConditionType::Blocked).filter(|_| is_true(conditions, ConditionType::Blocked))?;
    Some(BlockedQueue {
        uid: queue.uid()?,
        namespace: queue.namespace().unwrap_or_default(),
        name: queue.name_any(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0,
    })
}

/// The recipients of a rule, if its sink tells them apart.
pub(super) fn recipients(rule: &NotificationRule) -> Option<&[String]> {
    rule.spec.smtp.as_ref().map(|smtp| &smtp.to[..])
}

/// What a rule asks for.
pub(super) fn rule(rule: &NotificationRule) -> Rule {
    let spec = &rule.spec;
    let what = |phase: &ToldPhase| match phase {
        ToldPhase::Pending => What::Pending,
        ToldPhase::Runnable => What::Runnable,
        ToldPhase::Starting => What::Starting,
        ToldPhase::Running => What::Running,
        ToldPhase::Succeeded => What::Succeeded,
        ToldPhase::Failed => What::Failed,
    };
    let session = spec.session_ready.unwrap_or_default().then_some(What::SessionReady);
    Rule {
        queues: spec.queues.clone(),
        job_names: spec.job_names.clone(),
        whats: spec.phases.iter().map(what).chain(session).collect(),
        blocked: spec.blocked.unwrap_or_default(),
        since: rule.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
    }
}

/// What is wrong with a rule that its schema lets pass, if anything.
pub(super) fn problem(rule: &NotificationRule) -> Option<String> {
    if let Some(http) = &rule.spec.http {
        let url = http.url.as_deref().and_then(|url| sink::http::Target::parse(url).err());
        return url.map(|why| text::invalid("http.url", &why)).or_else(|| {
            sink::trust::problem(http.ca_bundle.as_deref()).map(|why| text::invalid("http.caBundle", &why))
        });
    }
    let smtp = rule.spec.smtp.as_ref()?;
    let unknown = smtp.subject.as_deref().map(unknown_placeholders).unwrap_or_default();
    if !unknown.is_empty() {
        return Some(text::unknown_placeholder(&unknown, &PLACEHOLDERS));
    }
    sink::smtp::problem(smtp).or_else(|| {
        sink::trust::problem(smtp.ca_bundle.as_deref()).map(|why| text::invalid("smtp.caBundle", &why))
    })
}
