//! Cases of the fault list about what watches tell, each by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::controllers::triggers::{self, Triggers};
use crate::crd::{BatchJob, ComputeEnvironmentSpec};
use crate::dispatcher::Dispatch;
use crate::dispatcher::index::Index;
use crate::k8s::caches::{Caches, Feeds, prepare};
use crate::k8s::notices::Notices;
use crate::k8s::pool::Pool;
use crate::k8s::scope::Reach;
use crate::k8s::watch::Change;
use crate::k8s::{meta, observe, pods};

/// Caches that nobody feeds but the test.
pub(crate) fn caches() -> (Caches, Feeds, Triggers) {
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
    let (caches, mut feeds) = prepare(&kube::Client::try_from(nowhere).expect("a client"), &Reach::default());
    let triggers = triggers::wire(&mut feeds, &caches, &Dispatch::default());
    (caches, feeds, triggers)
}

fn job(uid: &str, version: u32) -> BatchJob {
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "spec": {"jobQueue": "q", "jobId": "id"},
        "metadata": {"name": "render", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string()}});
    serde_json::from_value(job).expect("a job")
}

pub(crate) fn pod(uid: &str, job: &str, more: Value) -> Pod {
    let owner = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "render", "uid": job,
        "controller": true});
    let mut pod = json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid, "ownerReferences": [owner],
            "finalizers": [meta::ATTEMPT_FINALIZER], "annotations": {}, "labels": {}},
        "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        pod["metadata"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn woken(triggers: &mut Triggers) -> usize {
    std::iter::from_fn(|| triggers.jobs.try_recv().ok()).count()
}

/// A pod is heard of before its job, twice, and once more when it is gone.
#[tokio::test]
async fn c8_events_in_any_order_and_twice_are_understood() {
    let (caches, mut feeds, mut triggers) = caches();
    feeds.pods.deliver([Event::Delete(pod("p", "j", json!({})))]);
    assert!(caches.pods.owners().is_empty(), "gone before it came");
    for _ in 0..2 {
        feeds.pods.deliver([Event::Apply(pod("p", "j", json!({})))]);
        assert_eq!(caches.pods.of_job("j").len(), 1);
    }
    assert_eq!(woken(&mut triggers), 0, "nobody knows the job");
    assert!(triggers.attempt_pods.notified().now_or_never().is_some(), "has the job gone?");
    feeds.jobs.deliver([Event::Apply(job("j", 1)), Event::Apply(job("j", 1))]);
    assert!(woken(&mut triggers) > 0);
    assert_eq!(caches.pods.of_job("j").len(), 1, "and its pod is found");
    feeds.pods.deliver([Event::Apply(pod("p", "j", json!({})))]);
    assert!(woken(&mut triggers) > 0, "now its pod wakes it");
    for _ in 0..2 {
        feeds.pods.deliver([Event::Delete(pod("p", "j", json!({})))]);
        assert!(caches.pods.of_job("j").is_empty());
    }
    assert!(caches.pods.taken().by_node.is_empty());
}

/// A job is deleted and made again under its name: the new one has nothing of the old one.
#[tokio::test]
async fn c9_a_job_of_the_same_name_is_another_job() {
    let (caches, mut feeds, _triggers) = caches();
    feeds.jobs.deliver([Event::Apply(job("old", 1))]);
    feeds.pods.deliver([Event::Apply(pod("p", "old", json!({})))]);
    caches.wrote_job(job("old", 9));
    // The watch was cut meanwhile: the deletion shows only in the new list.
    feeds.jobs.deliver([Event::Init, Event::InitApply(job("new", 5)), Event::InitDone]);
    assert!(caches.job("old").is_none() && caches.job_ref("old").is_none());
    let new = caches.job("new").expect("it is there");
    assert_eq!(new.metadata.resource_version.as_deref(), Some("5"), "not what was written of the old one");
    assert!(caches.pods.of_job("new").is_empty() && caches.pods.owners() == ["old"]);
    let with_id: Vec<_> =
        caches.jobs_with_id("id").iter().filter_map(|job| job.metadata.uid.clone()).collect();
    assert_eq!(with_id, ["new"], "an id is free again");
    assert!(caches.jobs_with_id("another").is_empty());
    // What was written of a job that is gone by then is forgotten.
    caches.wrote_job(job("old", 10));
    caches.prune();
    assert!(caches.since_own_write("old").is_none());
}

/// Nothing begins while one cache lacks its first list: a job without its pods would be given another pod.
#[tokio::test]
async fn c10_one_cache_that_is_not_filled_holds_up_everything() {
    fn empty<K>() -> [Event<K>; 2] {
        [Event::Init, Event::InitDone]
    }
    let (caches, mut feeds, _triggers) = caches();
    let (seen, hasty) = (caches.clone(), Arc::new(AtomicBool::new(false)));
    let flag = hasty.clone();
    feeds.pods.listen(move |_| flag.store(seen.ready().now_or_never().is_some(), Ordering::Relaxed));
    let mut ready = Box::pin(caches.ready());
    feeds.jobs.deliver([Event::Init, Event::InitApply(job("j", 1)), Event::InitDone]);
    feeds.nodes.deliver(empty());
    feeds.namespaces.deliver(empty());
    feeds.queues.deliver(empty());
    feeds.environments.deliver(empty());
    feeds.policies.deliver(empty());
    feeds.consumable_resources.deliver(empty());
    feeds.definitions.deliver(empty());
    feeds.revisions.deliver(empty());
    assert!(ready.as_mut().now_or_never().is_none(), "pods are missing");
    feeds.pods.deliver([Event::Init, Event::InitApply(pod("p", "j", json!({})))]);
    assert!(ready.as_mut().now_or_never().is_none(), "the list is not complete");
    feeds.pods.deliver([Event::InitDone]);
    assert!(ready.as_mut().now_or_never().is_some());
    assert_eq!(caches.pods.of_job("j").len(), 1);
    assert!(!hasty.load(Ordering::Relaxed), "ready while pods are still being told of");
}

/// Texts that somebody may put where we look.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "/", "//", ":", ",", "-1", "0", "4294967296", "99999999999999999999", "1e400"]
            .map(str::to_owned)
            .to_vec();
    texts.extend(
        ["\u{0}", "\u{202e}x", "é", "\u{1F600}/\u{1F600}", "a\nb", "NaN", "1Ei", "-9Ei", "0.0000001n"]
            .map(str::to_owned),
    );
    texts.push("x".repeat(1 << 20));
    texts
}

/// Labels and annotations of pods and nodes can be anything: nobody panics (compare CVE-2026-40886).
#[test]
fn j2_hostile_pods_and_nodes_are_read() {
    let index = pods::PodIndex::default();
    for text in hostile() {
        let annotations = json!({meta::ATTEMPT: text, meta::PLACEMENT: text, meta::VCPUS_MILLI: text, meta::JOB: text,
            meta::AUXILIARY: text, meta::COMPUTE_ENVIRONMENT: text,
            meta::CONSUMABLE_RESOURCES: text, "no-slash": text});
        let labels = json!({meta::JOB_ID: text, meta::JOB_NAME: text, meta::ATTEMPT: text});
        for owners in [
            json!([]),
            json!([{"apiVersion": text, "kind": text, "name": text, "uid": text, "controller": true}]),
        ] {
            let more = json!({"annotations": annotations, "labels": labels, "ownerReferences": owners});
            let mut hostile = pod("p", "j", more);
            pods::trim(&mut hostile);
            let view = observe::pod(&hostile).expect("it has a uid");
            assert!(view.attempt <= 9999 && view.placement <= 9999);
            index.take(&Change::Applied(Arc::new(hostile)));
            assert!(index.attempts().iter().all(|attempt| (0..=10_000_000).contains(&attempt.vcpus_milli)));
        }
        let node = json!({"metadata": {"name": "n", "labels": {text.clone(): text, "kubernetes.io/os": text}},
            "spec": {"providerID": text, "taints": [{"key": text, "effect": text, "value": text}]},
            "status": {"allocatable": {"cpu": text, "memory": text, "pods": text, "nvidia.com/gpu": text},
                "nodeInfo": {"bootID": text, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                    "systemUUID": ""}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        assert!(!observe::node(&node).instance.is_empty() || text.is_empty());
        observe::allocatable(&node);
        let nodes = [Arc::new(node)];
        let pool = Pool::of("pool", &ComputeEnvironmentSpec::default(), &nodes);
        assert!(!pool.takes_pods(&nodes[0]), "it is not Ready");
    }
}

/// 10,000 jobs that have ended and 10,000 that wait: what must be done with all of them before the operator is ready,
/// and again in each cycle, takes moments, so that nothing in it looks at all jobs for each job.
#[tokio::test]
async fn twenty_thousand_jobs_are_taken_in_at_once() {
    let (caches, mut feeds, mut triggers) = caches();
    let metadata = json!({"name": "q", "namespace": "ns", "uid": "q"});
    let queue = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue", "metadata": metadata,
        "spec": {"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]}});
    feeds.queues.deliver([Event::Apply(serde_json::from_value(queue).expect("a queue"))]);
    let jobs: Vec<BatchJob> = (0..20_000)
        .map(|number| {
            let (name, version) = (format!("job-{number}"), number.to_string());
            let phase = if number % 2 == 0 { "SUCCEEDED" } else { "RUNNABLE" };
            let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
                "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version,
                    "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"jobQueue": "q", "jobId": name,
                    "containerProperties": {"image": "i", "vcpus": 1, "memory": 64}},
                "status": {"phase": phase, "jobDefinition": name, "jobQueue": "q"}});
            serde_json::from_value(job).expect("a job")
        })
        .collect();
    let begun = worked();
    let all = jobs.into_iter().map(Event::InitApply);
    feeds.jobs.deliver([Event::Init].into_iter().chain(all).chain([Event::InitDone]));
    let listed = worked() - begun;
    assert_eq!(woken(&mut triggers), 20_000);
    let (begun, dispatch, now) = (worked(), Dispatch::default(), jiff::Timestamp::now());
    let mut index = Index::default();
    let view = index.view(&caches, &dispatch, &Notices::default(), now);
    assert_eq!(view.snapshot.queues[0].waiting.len(), 10_000);
    let first = worked() - begun;
    let begun = worked();
    index.view(&caches, &dispatch, &Notices::default(), now);
    let again = worked() - begun;
    println!("listed in {listed:.1?}, first cycle's view {first:.1?}, the next {again:.1?}");
    assert!(listed + first < Duration::from_secs(15), "listed in {listed:?}, viewed in {first:?}");
}

/// How long this thread has had a CPU: whatever else the machine does takes none of it.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("what Linux tells of a thread");
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its time on a CPU"))
}
