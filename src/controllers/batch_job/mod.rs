//! BatchJob: follows one job from SUBMITTED to its end.
//!
//! `dereference` reads, `batchyard_core::job::decide` decides, `status` turns the decision into a
//! status, and here is the order of effects: the status first, then the actions, then the news.
//! The pods themselves are made by the dispatcher.

pub mod array;
mod dependencies;
mod dereference;
mod gang;
pub mod identity;
mod logs;
mod session;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use batchyard_core::job::decide::{Action, Decision, Deletion, decide};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Resource, ResourceExt};
use tracing::{info, warn};

use super::lanes::Lane;
use super::{Context, Outcome, Wake, session_objects};
use crate::crd::BatchJob;
use crate::k8s::error::{Error, chain};
use crate::k8s::tokens;
use crate::k8s::watch::key;
use crate::seeded_bugs::{Bug, has};
use dereference::Dereferenced;

/// Steps of progress are written at most so often for each job; ends and orders always at once.
const PROGRESS: Duration = Duration::from_secs(1);
/// How often a job is looked at that waits for something that nobody watches: ServiceAccounts.
const UNWATCHED: Duration = Duration::from_secs(10);

/// The jobs of a namespace have turns by queue, and those of a queue by share.
pub fn lane(job: &BatchJob) -> Lane {
    vec![job.spec.job_queue.clone(), job.spec.share_identifier.clone().unwrap_or_default()]
}

/// Looks at one job.
pub async fn reconcile(cached: Arc<BatchJob>, context: Arc<Context>) -> Outcome {
    let job = context.caches.newest_job(cached);
    if is_settled(&job, &context) {
        let uid = job.uid().unwrap_or_default();
        context.dispatch.forget(&uid);
        context.caches.arrays.settle(&uid);
        return Ok(Wake::OnChange);
    }
    if array::records::is_at_work(&job) {
        return array::reconcile(job, &context).await;
    }
    if job.is_gang() {
        return gang::reconcile(job, &context).await;
    }
    let now = context.clock.now();
    let world = dereference::dereference(&job, &context).await?;
    let mut record = job.status.clone().unwrap_or_default().record;
    if has(Bug::ForgetsRecords) {
        record.attempts.iter_mut().for_each(|attempt| attempt.pod_uid.clear());
    }
    let decision = decide(now, &world.job, &world.readiness, &record, &world.seen, &world.tolerances);
    let mut next = status::next(&job, &world, &decision, context.settings.log_tail, now);
    if let Some(array) = job.spec.array_properties.as_ref().filter(|_| next.record.phase() > Phase::Submitted)
    {
        let told = next.array_properties.as_deref();
        let told = array::status_before_work(&job, array, told, next.record.phase(), &context).await?;
        next.array_properties = Some(Box::new(told));
    }
    if let Some(nodes) = world.gang.as_ref().filter(|_| next.record.phase() > Phase::Submitted) {
        next.node_properties = Some(Box::new(gang::first_status(nodes, next.record.phase())));
    }
    let mut current = job.clone();
    if has(Bug::ReleasesFirst) {
        carry_out_all(&decision.actions, &world, &context).await?;
    }
    if job.status.as_ref() != Some(&next) {
        let visited = session::has_visitor(job.status.as_ref(), &next);
        if let Some(pause) = pause(&job, &decision, &context).filter(|_| !visited) {
            return Ok(Wake::After(pause));
        }
        let mut wanted = job.as_ref().clone();
        wanted.status = Some(next);
        let namespace = job.namespace().unwrap_or_default();
        let api = Api::namespaced(context.writer.client().clone(), &namespace);
        current = context.caches.wrote_job(context.writer.replace_status(&api, &wanted).await?);
        tell(&job, &current, &context);
        context.dispatch.poke();
    }
    let mut again = None;
    if let Some(session) = &world.session {
        let made = decision.record.intent.is_none() && session.make(&context).await;
        again = session.again(made).filter(|_| !decision.record.phase().is_terminal());
    }
    carry_out_all(&decision.actions, &world, &context).await?;
    if decision.record.phase().is_terminal() {
        context.dispatch.forget(&current.uid().unwrap_or_default());
    }
    let again = again.and_then(|again| now.checked_add(again).ok());
    let wake = [decision.wake, again, logs::again(&decision.record, &world.pods, now)];
    let wake = wake.into_iter().flatten().min();
    Ok(if world.poll { Wake::After(UNWATCHED) } else { Wake::at(wake, now) })
}

/// True if a job has ended, its status is about its newest spec, and no pod of it needs anything:
/// after a restart most jobs are like that.
fn is_settled(job: &BatchJob, context: &Context) -> bool {
    let Some(status) = &job.status else { return false };
    let uid = job.uid().unwrap_or_default();
    status.record.phase().is_terminal()
        && status.observed_generation == job.metadata.generation
        && (job.spec.child_actions.is_empty() || status::tells_late_edits(job, status))
        && (context.settings.log_tail || status.record.log_tail.is_none())
        && context.caches.pods.of_job(&uid).iter().all(|pod| pod.finished)
}

async fn carry_out_all(actions: &[Action], world: &Dereferenced, context: &Context) -> Result<(), Error> {
    for action in actions {
        if let Some(pod) = world.pods.iter().find(|pod| pod.uid().as_deref() == Some(action.pod_uid())) {
            carry_out(action, pod, context).await?;
        }
    }
    Ok(())
}

async fn carry_out(action: &Action, pod: &Pod, context: &Context) -> Result<(), Error> {
    match action {
        Action::Delete { how, .. } => {
            // Tried again before the pod is let go of: it must not keep the job from ending.
            if let Err(error) = session_objects::remove(pod, context).await {
                warn!(pod = key(pod), "{}; trying again", chain(&error));
            }
            match context.writer.delete_pod(pod, *how).await {
                // The scheduler was faster, or the pod changed: look again.
                Err(error) if error.is_conflict() && *how == Deletion::IfUnbound => Ok(()),
                answer => answer,
            }
        }
        Action::Ungate { .. } => context.writer.ungate_pod(pod).await,
        Action::Start { containers, .. } => match context.writer.start_containers(pod, containers).await {
            // They will not start any more, and the pod is deleted.
            Err(error) if error.is_namespace_going() => Ok(()),
            answer => answer,
        },
        Action::Release { .. } => {
            // Once its tokens are counted the resource's change wakes this job again.
            if tokens::must_be_counted(pod, &context.caches) {
                return Ok(());
            }
            session_objects::remove(pod, context).await?;
            context.release(pod).await
        }
    }
}

/// How long a step that is nothing but progress waits for the next one: a job's status is written
/// at most once a second while it starts, and where there is much to write, only what lasts is
/// written at all.
fn pause(job: &BatchJob, decision: &Decision, context: &Context) -> Option<Duration> {
    let progress = matches!(decision.record.phase(), Phase::Starting | Phase::Running)
        && decision.record.intent.is_none()
        && decision.actions.is_empty();
    if !progress {
        return None;
    }
    let uid = job.uid()?;
    let lasting = Duration::from_secs(u64::from(context.settings.busy_progress_seconds));
    let (limit, since) = match context.dispatch.patience(lasting) {
        // RUNNING mostly comes soon after it: both would be a write too many.
        Some(patience) if decision.record.phase() == Phase::Starting => {
            (patience * 2, context.caches.since_noticed(&uid))
        }
        Some(patience) => (patience, context.caches.since_noticed(&uid)),
        None => (PROGRESS, context.caches.since_own_write(&uid)?),
    };
    limit.checked_sub(since).filter(|pause| !pause.is_zero())
}

/// Logs, counts and Events of what changed.
fn tell(before: &BatchJob, after: &BatchJob, context: &Context) {
    let old = before.status.clone().unwrap_or_default().record;
    let new = after.status.clone().unwrap_or_default().record;
    if old.phase != new.phase {
        let phase = new.phase().as_str();
        context.metrics.transition(phase);
        info!(
            job = key(after),
            from = old.phase().as_str(),
            to = phase,
            attempt = after.status.as_ref().and_then(|status| status.attempt),
            reason = new.status_reason.as_deref().unwrap_or_default(),
            "phase"
        );
    }
    let bound_at = new.current.as_ref().and_then(|current| current.bound_at);
    if let (false, Some(bound_at), Some(since)) = (old.is_bound(), bound_at, old.runnable_at) {
        let waited = bound_at.duration_since(since);
        context.metrics.waited(waited.as_secs_f64().max(0.0));
    }
    for attempt in new.attempts.iter().skip(old.attempts.len()) {
        context.metrics.attempt(status::action_word(attempt));
    }
    let ready = session::news(before, after);
    for news in status::news(&old, &new).into_iter().chain(ready) {
        context.events.publish(after.object_ref(&()), news);
    }
}
