//! Takes away what ended long ago: finished pods, which stay for their logs only, and finished
//! jobs that were submitted rather than applied.

use std::sync::Arc;
use std::time::Duration;

use batchyard_core::job::decide::Deletion;
use batchyard_core::pod::ContainerState;
use batchyard_core::retention::{self, Due, FinishedJob, FinishedPod, JobLimits, PodLimits};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Context;
use super::standing::is_deleting;
use crate::crd::BatchJob;
use crate::k8s::caches::Caches;
use crate::k8s::error::{Error, chain};
use crate::k8s::watch::key;
use crate::k8s::{observe, pods};
use crate::settings::Settings;

/// How many finished jobs a queue keeps when it does not say.
const FINISHED_JOBS_LIMIT: usize = 10_000;
/// Looks at what ended at least so often.
const SWEEP: Duration = Duration::from_secs(30);
/// And at most so often, so that what is left of a sweep does not wait long.
const NEXT: Duration = Duration::from_secs(1);
/// How many pods, and how many jobs, go in one sweep.
const PER_SWEEP: usize = 500;
/// How many are deleted at a time: enough that an operator which is restarted again and again keeps pace with the pods that
/// end, on an API server that takes its time. Each that is left makes the next start slower.
const CONCURRENCY: usize = 32;

/// Sweeps until it is told to stop.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    loop {
        let pause = sweep(&context).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Deletes what is due, and says when to look again.
async fn sweep(context: &Context) -> Duration {
    let now = context.clock.now();
    prune(context);
    let pods = finished_pods(&context.caches);
    let seen: Vec<_> = pods.iter().map(|pod| finished_pod(pod)).collect();
    let due_pods = retention::pods(&seen, &pod_limits(&context.settings), now);
    delete("finished Pod", &pods, &due_pods, |pod| context.writer.delete_pod(pod, Deletion::Graceful)).await;

    let (jobs, seen): (Vec<_>, Vec<_>) = finished_jobs(&context.caches).into_iter().unzip();
    let due_jobs = retention::jobs(&seen, &job_limits(context), now);
    delete("finished BatchJob", &jobs, &due_jobs, |job| delete_job(job, context)).await;
    pause(&[due_pods, due_jobs], now)
}

/// What is noted in memory goes with the objects that it is about.
fn prune(context: &Context) {
    let caches = &context.caches;
    caches.prune();
    context.dispatch.prune(
        |uid| caches.job_ref(uid).is_some(),
        |queue| {
            queue.split_once('/').is_some_and(|(namespace, name)| {
                caches.queues.get(&ObjectRef::new(name).within(namespace)).is_some()
            })
        },
        |name| caches.environments.get(&ObjectRef::new(name)).is_some(),
    );
}

async fn delete_job(job: &BatchJob, context: &Context) -> Result<(), Error> {
    let api: Api<BatchJob> =
        Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
    context.writer.delete(&api, job).await
}

/// Until something more is due, or sooner if this sweep could not delete all.
fn pause(due: &[Due], now: Timestamp) -> Duration {
    if due.iter().any(|due| due.now.len() > PER_SWEEP) {
        return NEXT;
    }
    let next = due.iter().filter_map(|due| due.next).min();
    let pause = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    pause.unwrap_or(SWEEP).clamp(NEXT, SWEEP)
}

async fn delete<'o, K, F>(what: &str, objects: &'o [Arc<K>], due: &Due, delete: impl Fn(&'o K) -> F)
where
    F: Future<Output = Result<(), Error>>,
{
    let due: Vec<_> = due.now.iter().take(PER_SWEEP).filter_map(|index| objects.get(*index)).collect();
    // Collected first: the compiler does not see that a lazy closure is general enough.
    let deletions: Vec<_> = due.iter().map(|object| delete(object)).collect();
    let failed = stream::iter(deletions)
        .buffer_unordered(CONCURRENCY)
        .filter_map(|answer| async { answer.err() })
        .inspect(|error| warn!("{}; trying again later", chain(error)))
        .count()
        .await;
    let deleted = due.len().saturating_sub(failed);
    if deleted > 0 {
        info!(deleted, "{what}s deleted that ended long ago");
    }
}

/// Pods that ended and are counted: our finalizer is off.
fn finished_pods(caches: &Caches) -> Vec<Arc<Pod>> {
    let attempts = caches.pods.attempts().into_iter().filter(|attempt| attempt.finished);
    attempts
        .map(|attempt| attempt.pod.clone())
        .filter(|pod| !pods::is_held(pod) && !is_deleting(pod.as_ref()))
        .collect()
}

fn finished_pod(pod: &Pod) -> FinishedPod {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    FinishedPod { ended_at: ended_at(pod), succeeded: phase == Some("Succeeded") }
}

/// When the last container ended; a pod of which no container is known to have run counts from
/// its creation.
fn ended_at(pod: &Pod) -> Timestamp {
    let view = observe::pod(pod);
    let containers = view.iter().flat_map(|view| view.containers.iter().chain(&view.init_containers));
    let ends = containers.filter_map(|container| match container.state {
        ContainerState::Terminated { finished_at, .. } => finished_at,
        _ => None,
    });
    let created = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    ends.max().unwrap_or(created).max(created)
}

fn pod_limits(settings: &Settings) -> PodLimits {
    let seconds = |n: u32| SignedDuration::from_secs(i64::from(n));
    PodLimits {
        succeeded: seconds(settings.keep_succeeded_pods_seconds),
        failed: seconds(settings.keep_failed_pods_seconds),
        at_most: settings.keep_finished_pods,
    }
}

fn finished_jobs(caches: &Caches) -> Vec<(Arc<BatchJob>, FinishedJob)> {
    let jobs = caches.jobs().into_iter().filter(|job| !is_deleting(job.as_ref()));
    jobs.filter_map(|job| finished_job(&job, caches).map(|finished| (job, finished))).collect()
}

fn finished_job(job: &BatchJob, caches: &Caches) -> Option<FinishedJob> {
    let record = &job.status.as_ref()?.record;
    if !record.phase().is_terminal() {
        return None;
    }
    let queue = caches.queue_of(job).map(|queue| key(queue.as_ref()));
    Some(FinishedJob {
        queue: queue
            .unwrap_or_else(|| format!("{}/{}", job.namespace().unwrap_or_default(), job.spec.job_queue)),
        stopped_at: record.stopped_at?,
        generated: job.metadata.generate_name.is_some(),
        ttl: job.spec.ttl_seconds_after_finished.map(|n| SignedDuration::from_secs(i64::from(n))),
        awaited: !caches.dependents.of(job).is_empty(),
    })
}

fn job_limits(context: &Context) -> JobLimits {
    let limit = |limit: i32| usize::try_from(limit).unwrap_or(0);
    let queues = context.caches.queues.state();
    let stated = queues.iter().filter_map(|q| Some((key(q.as_ref()), limit(q.spec.finished_jobs_limit?))));
    JobLimits {
        ttl: SignedDuration::from_secs(i64::from(context.settings.finished_job_ttl_seconds)),
        per_queue: stated.collect(),
        default_per_queue: FINISHED_JOBS_LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_ended_when_its_last_container_did() {
        let ended = |at: &str| {
            json!({"name": at, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "finishedAt": at}}})
        };
        for (statuses, want) in [
            (json!([ended("2026-01-01T00:01:00Z"), ended("2026-01-01T00:02:00Z")]), "2026-01-01T00:02:00Z"),
            (json!([]), "2026-01-01T00:00:00Z"),
        ] {
            let pod = json!({
                "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "annotations": {"batchyard.io/attempt": "1", "batchyard.io/placement": "0"}},
                "status": {"phase": "Succeeded", "containerStatuses": statuses},
            });
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(finished_pod(&pod).ended_at, want.parse().expect("a time"));
            assert!(finished_pod(&pod).succeeded);
        }
    }

    #[tokio::test]
    async fn a_job_whose_end_somebody_has_yet_to_note_is_awaited() {
        let (caches, mut feeds, _triggers) = crate::faults::caches();
        let job = |name: &str, spec: serde_json::Value, status: serde_json::Value| -> BatchJob {
            let metadata = json!({"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"});
            let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": metadata,
                "spec": spec, "status": status});
            serde_json::from_value(job).expect("a job")
        };
        let ended = json!({"phase": "SUCCEEDED", "stoppedAt": "2026-01-01T00:00:00Z"});
        let first = job("first", json!({"jobQueue": "q"}), ended);
        let awaited = || finished_job(&first, &caches).expect("it has ended").awaited;
        assert!(!awaited(), "nobody depends on it");
        let note = json!({"job": "first", "jobId": "first", "uid": "first"});
        for (phase, end, want) in [
            ("PENDING", json!(null), true),
            ("PENDING", json!("SUCCEEDED"), false),
            ("PENDING", json!(null), true),
            ("RUNNABLE", json!(null), false),
        ] {
            let mut note = note.clone();
            note["phase"] = end.clone();
            let spec = json!({"jobQueue": "q", "dependsOn": [{"job": "first"}, {"job": "other"}]});
            let second = job("second", spec, json!({"phase": phase, "dependsOn": [note]}));
            feeds.jobs.deliver([kube::runtime::watcher::Event::Apply(second)]);
            assert_eq!(awaited(), want, "{phase} {end}");
        }
    }

    #[test]
    fn looks_again_when_something_is_due() {
        let now = Timestamp::UNIX_EPOCH;
        let next =
            |seconds: i64| Due { next: Some(now + SignedDuration::from_secs(seconds)), now: Vec::new() };
        let many = Due { now: vec![0; PER_SWEEP + 1], next: None };
        for (due, want) in [
            (vec![], SWEEP),
            (vec![next(5), next(9)], Duration::from_secs(5)),
            (vec![next(500)], SWEEP),
            (vec![next(0)], NEXT),
            (vec![next(20), many], NEXT),
        ] {
            assert_eq!(pause(&due, now), want, "{due:?}");
        }
    }
}
