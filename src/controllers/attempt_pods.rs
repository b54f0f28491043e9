//! Pods that outlive their job.
//!
//! A BatchJob has no finalizer, so that deleting it never hangs. Its pods have one, for as long as
//! somebody may want to know how they ended. Once the job is gone nobody does: they are deleted
//! and let go, also when `kubectl delete --cascade=orphan` took their owner reference off.

use std::sync::Arc;
use std::time::Duration;

use batchyard_core::job::decide::Deletion;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Context, session_objects};
use crate::crd::BatchJob;
use crate::k8s::error::{Error, chain};
use crate::k8s::pods::{self, AttemptPod};
use crate::k8s::read::read;
use crate::k8s::tokens;
use crate::k8s::watch::key;
use crate::k8s::{meta, observe};
use crate::seeded_bugs::{Bug, has};

/// Whatever no change told of is found within this time.
const SWEEP: Duration = Duration::from_secs(30);
/// What the API server refused is tried again after this long, and after twice as long each time, up to [`SWEEP`].
const AGAIN: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(200);
/// How many jobs are looked after at a time.
const CONCURRENCY: usize = 8;

/// Looks for such pods whenever it is woken, and now and then, until it is told to stop.
pub async fn run(context: Arc<Context>, wake: Arc<Notify>, stop: CancellationToken) {
    let mut refused = 0;
    loop {
        refused = if sweep(&context).await { 0 } else { refused + 1 };
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.notified() => sleep(SETTLE).await,
            () = sleep(pause(refused)) => {}
        }
    }
}

/// How long until the next sweep, after so many in a row that left something undone.
fn pause(refused: u32) -> Duration {
    match refused {
        0 => SWEEP,
        _ => AGAIN.saturating_mul(1 << (refused - 1).min(16)).min(SWEEP),
    }
}

/// False if the API server refused something.
async fn sweep(context: &Context) -> bool {
    if has(Bug::KeepsOrphans) {
        return true;
    }
    let caches = &context.caches;
    let ownerless = caches.pods.owners().into_iter().filter(|uid| caches.job_ref(uid).is_none());
    let of_gone_jobs = stream::iter(ownerless).map(|uid| async move {
        let pods = context.caches.pods.of_job(&uid);
        let Some(first) = pods.first() else { return true };
        let Some(gone) = is_gone(first, context).await else { return false };
        let mut done = true;
        for attempt in pods.iter().filter(|_| gone) {
            done &= clear(&attempt.pod, context).await;
        }
        done
    });
    let of_gone_jobs = all_done(of_gone_jobs.buffer_unordered(CONCURRENCY)).await;
    let orphans = stream::iter(caches.pods.orphans()).map(|pod| async move {
        match is_abandoned(&pod, context).await {
            Some(true) => clear(&pod, context).await,
            Some(false) => true,
            None => false,
        }
    });
    all_done(orphans.buffer_unordered(CONCURRENCY)).await && of_gone_jobs
}

/// Waits for all, whatever becomes of some.
async fn all_done(outcomes: impl Stream<Item = bool>) -> bool {
    outcomes.fold(true, |all, done| std::future::ready(all && done)).await
}

/// True if the API server knows no job with the uid that the pod names as its owner; nothing without an answer.
async fn is_gone(attempt: &AttemptPod, context: &Context) -> Option<bool> {
    let pod = &attempt.pod;
    let Some((name, _)) = pods::job_of(pod) else { return Some(false) };
    let api = jobs(pod, context);
    let found = read(format!("get BatchJob {name}"), || api.get_opt(name)).await;
    let found = believed(found)?;
    Some(found.is_none_or(|job| job.uid().as_ref() != Some(&attempt.job_uid)))
}

/// True if no job holds on to a pod that has no owner: there is none with its id, or that one has
/// put another pod in its place. Nothing without an answer.
async fn is_abandoned(pod: &Pod, context: &Context) -> Option<bool> {
    let Some(id) = pod.labels().get(meta::JOB_ID) else { return Some(true) };
    let params = ListParams::default().fields(&format!("status.jobId={id}"));
    let jobs = jobs(pod, context);
    let found = read(format!("list BatchJobs {id}"), || jobs.list(&params)).await;
    let pod_uid = pod.uid().unwrap_or_default();
    let holds = |job: &BatchJob| {
        let current = job.status.as_ref().and_then(|status| status.record.current.as_ref());
        current.is_some_and(|current| current.pod_uid == pod_uid)
    };
    Some(!believed(found)?.items.iter().any(holds))
}

fn jobs(pod: &Pod, context: &Context) -> Api<BatchJob> {
    Api::namespaced(context.writer.client().clone(), &pod.namespace().unwrap_or_default())
}

/// Without an answer nothing is done; the next sweep asks again.
fn believed<T>(answer: Result<T, Error>) -> Option<T> {
    answer.inspect_err(|error| warn!("{}; looking again later", chain(error))).ok()
}

/// What a pod without a job still needs. Deletion comes first: it lets the program end in peace
/// even though the finalizer is gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    deletion: Option<Deletion>,
    release: bool,
}

fn needs(pod: &Pod, node_exists: bool) -> Needs {
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let lost = observe::node_name(pod).is_some() && !node_exists;
    let deletion = match (deleting, lost) {
        // Nobody is there who could end it.
        (_, true) => Some(Deletion::Forced),
        (false, false) => Some(Deletion::Graceful),
        (true, false) => None,
    };
    Needs { deletion, release: pods::is_held(pod) }
}

/// False if the API server refused something.
async fn clear(pod: &Pod, context: &Context) -> bool {
    let done = async {
        let node_exists = match observe::node_name(pod) {
            Some(node) => context.node(node).await?.is_some(),
            None => false,
        };
        let Needs { deletion, release } = needs(pod, node_exists);
        // Once its tokens are counted the resource's change brings this back.
        let release = release && !tokens::must_be_counted(pod, &context.caches);
        // People are led nowhere before nobody is there. Trouble with that keeps no program from being ended.
        let led_nowhere = match deletion.is_some() || release {
            true => session_objects::remove(pod, context).await,
            false => Ok(()),
        };
        if let Some(how) = deletion {
            context.writer.delete_pod(pod, how).await?;
        }
        if release {
            led_nowhere?;
            context.release(pod).await?;
        }
        Ok::<_, Error>(deletion.is_some() || release)
    };
    match done.await {
        Ok(true) => info!(pod = key(pod), "pod outlived its job: deleted"),
        Ok(false) => {}
        Err(error) => {
            warn!("{}; trying again later", chain(&error));
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused_is_soon_tried_again() {
        let pauses: Vec<u64> = (0..8).map(|refused| pause(refused).as_secs()).collect();
        assert_eq!(pauses, [30, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX), SWEEP);
    }

    #[test]
    fn every_pod_is_deleted_once_and_let_go() {
        let node = Some("n1");
        for (node, node_exists, held, deleting, deletion, release) in [
            (node, true, true, false, Some(Deletion::Graceful), true),
            (node, true, true, true, None, true),
            (node, true, false, true, None, false),
            (node, true, false, false, Some(Deletion::Graceful), false),
            (node, false, true, true, Some(Deletion::Forced), true),
            (node, false, false, false, Some(Deletion::Forced), false),
            (None, false, true, false, Some(Deletion::Graceful), true),
            (None, false, true, true, None, true),
        ] {
            let finalizers = if held { vec![meta::ATTEMPT_FINALIZER] } else { vec![] };
            let pod = json!({"metadata": {"name": "p", "finalizers": finalizers,
                    "deletionTimestamp": deleting.then_some("2026-01-01T00:00:00Z")},
                "spec": {"nodeName": node, "containers": []}});
            let pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(needs(&pod, node_exists), Needs { deletion, release }, "{pod:?}");
        }
    }
}
