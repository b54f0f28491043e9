//! Queues: whether they are in order, how many jobs they hold, and what keeps them from going.

use std::collections::BTreeSet;
use std::sync::Arc;

use batchyard_core::job::decide::TimeLimit;
use batchyard_core::job::phase::Phase;
use batchyard_core::name;
use batchyard_core::reason::resources;
use jiff::{SignedDuration, Timestamp};
use kube::{Api, Resource, ResourceExt};

use super::compute_environment::allows;
use super::standing::{Conditions, first, ignored_fields, is_deleting, is_held, vcpus};
use super::{Context, Outcome, Wake};
use crate::crd::conditions::{ConditionType, find};
use crate::crd::convert::logging;
use crate::crd::ignored::Kind;
use crate::crd::job_queue::{FrontJob, JobCounts, JobStateTimeLimitAction, TimeLimitAction};
use crate::crd::shared::ResourceStatus;
use crate::crd::{BatchJob, JobQueue, JobQueueSpec, JobQueueStatus};
use crate::dispatcher::cycle::DWELL;
use crate::k8s::caches::Caches;
use crate::k8s::events::News;
use crate::k8s::meta;
use crate::k8s::pool::is_serverless;
use crate::k8s::watch::key;

/// True if the queue's jobs are to fail because it is being deleted.
///
/// That needs a word beside the deletion, since a queue may vanish from a Git folder by mistake:
/// it is DISABLED, or annotated.
pub fn is_failing_jobs(queue: &JobQueue) -> bool {
    let disabled = !queue.spec.state.unwrap_or_default().is_enabled();
    let annotated = queue.annotations().get(meta::DELETE_JOBS).is_some_and(|value| value == "true");
    is_deleting(queue) && (disabled || annotated)
}

/// How long the queue lets a job wait for a reason that blocks it. An action that names a reason again counts once, and
/// one that terminates is for SageMaker queues.
pub fn time_limits(queue: &JobQueue) -> Vec<TimeLimit> {
    let actions = queue.spec.job_state_time_limit_actions.iter();
    let limit = |action: &JobStateTimeLimitAction| TimeLimit {
        code: action.reason.clone(),
        limit: SignedDuration::from_secs(i64::from(action.max_time_seconds)),
    };
    actions.filter(|action| action.action == TimeLimitAction::Cancel).map(limit).collect()
}

/// Looks at one queue.
pub async fn reconcile(queue: Arc<JobQueue>, context: Arc<Context>) -> Outcome {
    let namespace = queue.namespace().unwrap_or_default();
    if is_deleting(queue.as_ref()) {
        return end(&queue, &namespace, &context).await;
    }
    if context.caches.is_terminating(&namespace) {
        return Ok(Wake::OnChange);
    }
    if !is_held(queue.as_ref()) {
        // The change of the queue wakes this controller again.
        context.writer.set_in_use(&api(&namespace, &context), queue.as_ref(), true).await?;
        return Ok(Wake::OnChange);
    }
    let obstacle = obstacle(&queue.spec, &namespace, |reference| {
        let missing = || match context.settings.scope.is_limited() {
            true => resources::environment_not_served(reference),
            false => resources::environment_missing(reference),
        };
        let environment = context.caches.environment(&namespace, reference).ok_or_else(missing)?;
        Ok(Found {
            name: environment.name_any(),
            allowed: allows(&environment, &namespace, &context.caches),
            serverless: is_serverless(&environment.spec),
        })
    });
    let policy = queue.spec.scheduling_policy_arn.as_deref();
    let missing = policy.filter(|policy| context.caches.policy(&namespace, policy).is_none());
    let obstacle = obstacle.or_else(|| missing.map(resources::policy_missing));
    let obstacle = obstacle.or_else(|| logging::fault_of_queue(&queue.spec));
    if let Some(pause) = context.refresh.pause(queue.as_ref())
        && says(&queue, obstacle.as_deref(), blocked(&queue, &context).as_ref())
    {
        return Ok(Wake::After(pause));
    }
    let tally = Tally::of(&queue, &context.caches);
    for (phase, count) in &tally.phases {
        context.metrics.jobs(&namespace, &queue.name_any(), phase.as_str(), *count);
    }
    update(&queue, &tally, obstacle, &context).await
}

/// A queue that is being deleted goes once no job is left in it. In a namespace that is being
/// deleted too its jobs go anyway.
async fn end(queue: &JobQueue, namespace: &str, context: &Context) -> Outcome {
    let tally = Tally::of(queue, &context.caches);
    if !tally.unfinished.is_empty() && !context.caches.is_terminating(namespace) {
        let told = queue.status.as_ref().and_then(|status| status.status) == Some(ResourceStatus::Deleting);
        return match context.refresh.pause(queue).filter(|_| told) {
            Some(pause) => Ok(Wake::After(pause)),
            None => update(queue, &tally, None, context).await,
        };
    }
    context.metrics.forget_queue(namespace, &queue.name_any(), Phase::ALL.map(Phase::as_str));
    if is_held(queue) {
        context.writer.set_in_use(&api(namespace, context), queue, false).await?;
    }
    Ok(Wake::OnChange)
}

async fn update(queue: &JobQueue, tally: &Tally, obstacle: Option<String>, context: &Context) -> Outcome {
    let now = context.clock.now();
    let blocked = blocked(queue, context);
    let status = JobQueueStatus {
        last_placed_at: context.dispatch.last_placed_of(&key(queue)).or(last_placed(queue)),
        ..with_front(status(queue, tally, obstacle, blocked.as_ref(), now), front(queue, context), now)
    };
    if queue.status.as_ref() != Some(&status) {
        let news = blocked.filter(|blocked| told(queue) != Some(blocked.reason));
        let changed = JobQueue { status: Some(status), ..JobQueue::clone(queue) };
        let api = api(&queue.namespace().unwrap_or_default(), context);
        context.writer.replace_status(&api, &changed).await?;
        if let Some(blocked) = news {
            context.events.publish(queue.object_ref(&()), News::warning("Blocked", blocked.message));
        }
    }
    context.refresh.done(queue);
    // Whether it is blocked for long shows after a while.
    let may_block = context.dispatch.blocking(&key(queue)).is_some();
    Ok(if may_block { Wake::After(DWELL.unsigned_abs()) } else { Wake::OnChange })
}

/// Why jobs of a queue do not start, if one waits for something that stays until somebody acts.
struct Blocked {
    reason: &'static str,
    message: String,
}

/// By the dispatcher's word, once it has said so for a while.
fn blocked(queue: &JobQueue, context: &Context) -> Option<Blocked> {
    let (job, wait) = context.dispatch.blocking(&key(queue))?;
    if context.clock.now().duration_since(wait.since) < DWELL {
        return None;
    }
    let job = context.caches.job_ref(name::whole(&job).0)?.name;
    Some(Blocked { reason: wait.what.kind.as_str(), message: resources::blocked_by(&job, &wait.what.text) })
}

/// The reason by which the queue is said to be blocked.
fn told(queue: &JobQueue) -> Option<&str> {
    let conditions = &queue.status.as_ref()?.conditions;
    find(conditions, ConditionType::Blocked).map(|condition| condition.reason.as_str())
}

fn last_placed(queue: &JobQueue) -> Option<Timestamp> {
    queue.status.as_ref()?.last_placed_at
}

/// The jobs that are next, by the dispatcher's word, once it has one.
fn front(queue: &JobQueue, context: &Context) -> Option<Vec<FrontJob>> {
    let next = context.dispatch.front(&key(queue))?.into_iter();
    let known = next.filter_map(|next| {
        let (uid, index) = name::whole(&next.key);
        Some((context.caches.job(uid)?, index, next.since))
    });
    let id = |job: &BatchJob| job.status.as_ref().and_then(|status| status.record.job_id.clone());
    let told = known.map(|(job, index, since)| FrontJob {
        job_id: name::part(&id(&job).unwrap_or_default(), index),
        name: job.name_any(),
        earliest_time_at_position: Some(since),
    });
    Some(told.collect())
}

fn with_front(status: JobQueueStatus, front: Option<Vec<FrontJob>>, now: Timestamp) -> JobQueueStatus {
    match front {
        Some(front) if front != status.front => {
            JobQueueStatus { front, front_updated_at: Some(now), ..status }
        }
        _ => status,
    }
}

fn api(namespace: &str, context: &Context) -> Api<JobQueue> {
    Api::namespaced(context.writer.client().clone(), namespace)
}

/// True if the status says the same but for its counts, which may wait.
fn says(queue: &JobQueue, obstacle: Option<&str>, blocked: Option<&Blocked>) -> bool {
    let status = queue.status.as_ref();
    told(queue) == blocked.map(|blocked| blocked.reason)
        && status.is_some_and(|status| {
            status.observed_generation == queue.metadata.generation
                && status.status_reason.as_deref() == Some(obstacle.unwrap_or(resources::QUEUE_HEALTHY))
        })
}

/// The jobs of a queue.
#[derive(Default)]
struct Tally {
    phases: Vec<(Phase, i64)>,
    unfinished: Vec<String>,
    vcpus_milli: i64,
}

impl Tally {
    fn of(queue: &JobQueue, caches: &Caches) -> Self {
        let jobs = caches.jobs_of_queue(queue);
        let phase =
            |job: &BatchJob| job.status.as_ref().map(|status| status.record.phase()).unwrap_or_default();
        let count = |of: Phase| jobs.iter().map(|job| in_phase(job, of)).sum::<i64>();
        let unfinished = || jobs.iter().filter(|job| !phase(job).is_terminal());
        let pods = unfinished().filter_map(|job| job.uid()).flat_map(|uid| caches.pods.of_job(&uid));
        Self {
            phases: Phase::ALL.iter().map(|phase| (*phase, count(*phase))).collect(),
            vcpus_milli: pods.filter(|pod| !pod.finished).map(|pod| pod.vcpus_milli).sum(),
            unfinished: unfinished().map(|job| job.name_any()).collect(),
        }
    }

    fn counts(&self) -> JobCounts {
        let known = |of: Phase| self.phases.iter().find(|(phase, _)| *phase == of).map_or(0, |(_, n)| *n);
        JobCounts::count(known)
    }
}

/// How many jobs of a phase a job stands for: an array for its children.
fn in_phase(job: &BatchJob, phase: Phase) -> i64 {
    let status = job.status.as_ref();
    let children = status.and_then(|status| status.array_properties.as_ref()?.status_summary.as_ref());
    match children {
        Some(children) => children.of(phase),
        None => i64::from(status.map(|status| status.record.phase()).unwrap_or_default() == phase),
    }
}

/// An environment that a queue names.
struct Found {
    name: String,
    /// Whether the queue's namespace may use it.
    allowed: bool,
    /// Whether its nodes are serverless ones.
    serverless: bool,
}

/// What makes the queue INVALID, if anything. `resolve` finds the environment that a reference
/// means, and whether the queue's namespace may use it, or says why there is none. Whatever is missing may still come.
fn obstacle(
    spec: &JobQueueSpec,
    namespace: &str,
    resolve: impl Fn(&str) -> Result<Found, String>,
) -> Option<String> {
    if !spec.service_environment_order.is_empty() {
        return Some(resources::service_environments());
    }
    if spec.compute_environment_order.is_empty() {
        return Some(resources::no_environment_order());
    }
    let mut orders = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut kind = None;
    for entry in &spec.compute_environment_order {
        let reference = &entry.compute_environment;
        let Found { name, allowed, serverless } = match resolve(reference) {
            Ok(found) => found,
            Err(why) => return Some(why),
        };
        if !allowed {
            return Some(resources::environment_not_allowed(reference, namespace));
        }
        if !names.insert(name) {
            return Some(resources::environment_twice(reference));
        }
        if !orders.insert(entry.order) {
            return Some(resources::order_twice(i64::from(entry.order)));
        }
        if *kind.get_or_insert(serverless) != serverless {
            return Some(resources::kinds_mixed(reference));
        }
    }
    None
}

/// The status that follows from what is seen. What others keep in it stays.
fn status(
    queue: &JobQueue,
    tally: &Tally,
    obstacle: Option<String>,
    blocked: Option<&Blocked>,
    now: Timestamp,
) -> JobQueueStatus {
    let mut status = queue.status.clone().unwrap_or_default();
    let held = is_deleting(queue).then(|| {
        let (count, first) = first(tally.unfinished.clone());
        resources::held_by_jobs(count, &first, is_failing_jobs(queue))
    });
    let aws_name = queue.spec.job_queue_name.as_deref();
    let ignored = ignored_fields(Kind::JobQueue, queue, &queue.spec, "jobQueueName", aws_name);
    let (state, reason, why) = match (&held, obstacle) {
        (Some(_), _) => (ResourceStatus::Deleting, resources::BEING_DELETED.to_owned(), "Deleting"),
        (None, Some(obstacle)) => (ResourceStatus::Invalid, obstacle, "Invalid"),
        (None, None) => (ResourceStatus::Valid, resources::QUEUE_HEALTHY.to_owned(), "Healthy"),
    };
    let mut conditions = Conditions::of(queue, &mut status.conditions, now);
    conditions.ready(state == ResourceStatus::Valid, why, reason.clone());
    conditions.fields_ignored(&ignored);
    conditions.deletion_blocked(held);
    conditions.blocked(blocked.map(|blocked| (blocked.reason, blocked.message.clone())));
    JobQueueStatus {
        observed_generation: queue.metadata.generation,
        status: Some(state),
        status_reason: Some(reason),
        jobs: Some(tally.counts()),
        vcpus_in_use: Some(vcpus(tally.vcpus_milli)),
        ..status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn queue(metadata: Value, spec: Value) -> JobQueue {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue",
            "metadata": {"name": "q", "namespace": "ns", "generation": 2},
            "spec": {"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "spot"}]}});
        for (section, more) in [("metadata", metadata), ("spec", spec)] {
            for (key, value) in more.as_object().expect("an object") {
                object[section][key] = value.clone();
            }
        }
        serde_json::from_value(object).expect("a queue")
    }

    fn deleted() -> Value {
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn jobs_fail_only_if_somebody_said_so() {
        let annotated = |value: &str| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {meta::DELETE_JOBS: value}});
        for (metadata, spec, want) in [
            (json!({}), json!({"state": "DISABLED"}), false),
            (deleted(), json!({}), false),
            (deleted(), json!({"state": "ENABLED"}), false),
            (deleted(), json!({"state": "DISABLED"}), true),
            (annotated("true"), json!({}), true),
            (annotated("false"), json!({}), false),
        ] {
            assert_eq!(is_failing_jobs(&queue(metadata.clone(), spec.clone())), want, "{metadata} {spec}");
        }
    }

    #[test]
    fn obstacles() {
        let found =
            |name: &str, allowed, serverless| Ok(Found { name: name.to_owned(), allowed, serverless });
        let resolve = |reference: &str| match reference {
            "spot" | "arn:spot" => found("spot", true, false),
            "ec2" => found("ec2", true, false),
            "theirs" => found("theirs", false, false),
            "fargate" => found("fargate", true, true),
            _ => Err(resources::environment_missing(reference)),
        };
        let entry = |order: i32, name: &str| json!({"order": order, "computeEnvironment": name});
        for (order, want) in [
            (vec![entry(1, "spot"), entry(2, "ec2")], ""),
            (vec![], "no ComputeEnvironment"),
            (vec![entry(1, "spot"), entry(2, "gone")], "gone does not exist"),
            (vec![entry(1, "spot"), entry(2, "arn:spot")], "arn:spot is named twice"),
            (vec![entry(1, "spot"), entry(1, "ec2")], "order 1 is given twice"),
            (vec![entry(1, "theirs")], "does not allow namespace ns"),
            (vec![entry(1, "fargate")], ""),
            (vec![entry(1, "spot"), entry(2, "fargate")], "fargate is of another kind than those before it"),
        ] {
            let queue = queue(json!({}), json!({"computeEnvironmentOrder": order}));
            let got = obstacle(&queue.spec, "ns", resolve);
            assert_eq!(got.is_some(), !want.is_empty(), "{order:?}: {got:?}");
            assert!(got.unwrap_or_default().contains(want), "{order:?}");
        }
    }

    #[test]
    fn the_status_is_a_fixpoint_and_keeps_what_others_wrote() {
        let now = Timestamp::UNIX_EPOCH;
        let mut queue = queue(json!({}), json!({"jobQueueType": "EKS"}));
        queue.status = Some(JobQueueStatus { front_updated_at: Some(now), ..JobQueueStatus::default() });
        let tally =
            Tally { phases: vec![(Phase::Running, 2)], unfinished: vec!["a".into()], vcpus_milli: 250 };
        let status = super::status(&queue, &tally, None, None, now);
        assert_eq!(status.status_reason.as_deref(), Some("JobQueue Healthy"));
        assert_eq!((status.vcpus_in_use, status.front_updated_at), (Some(1), Some(now)));
        let counts = serde_json::to_value(&status.jobs).expect("counts");
        assert_eq!((&counts["RUNNING"], &counts["FAILED"]), (&json!(2), &json!(0)));
        let ignored = find(&status.conditions, ConditionType::FieldsIgnored).expect("a condition");
        assert!(ignored.message.contains("jobQueueType"), "{}", ignored.message);
        assert!(!says(&queue, None, None), "nothing is said yet");
        queue.status = Some(status.clone());
        assert!(says(&queue, None, None) && !says(&queue, Some("CLIENT_ERROR - why"), None));
        let front = vec![FrontJob { name: "next".into(), ..FrontJob::default() }];
        let moved = with_front(status.clone(), Some(front.clone()), now + jiff::SignedDuration::from_secs(9));
        assert_eq!(moved.front_updated_at.map(|at| at.as_second()), Some(9));
        assert_eq!(with_front(moved.clone(), Some(front), now), moved, "the same front is not news");
        assert_eq!(with_front(moved.clone(), None, now), moved, "before the first cycle nobody knows");
        let later = now + jiff::SignedDuration::from_secs(60);
        assert_eq!(super::status(&queue, &tally, None, None, later), status);
    }

    #[test]
    fn a_deletion_says_what_blocks_it() {
        let tally = Tally { unfinished: vec!["b".into(), "a".into()], ..Tally::default() };
        let blocked = |spec: Value| {
            let status = super::status(&queue(deleted(), spec), &tally, None, None, Timestamp::UNIX_EPOCH);
            assert_eq!(status.status, Some(ResourceStatus::Deleting));
            find(&status.conditions, ConditionType::DeletionBlocked).expect("a condition").message.clone()
        };
        assert!(blocked(json!({})).starts_with("2 jobs have not ended: a, b."));
        assert_eq!(blocked(json!({"state": "DISABLED"})), "Waiting for 2 jobs to end: a, b");
    }
}
