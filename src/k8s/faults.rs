//! Cases of the fault list about what watches tell, each by its id.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::caches::{Caches, Feeds, prepare};
use super::pods;
use super::pool::Pool;
use super::watch::Change;
use super::{meta, observe};
use crate::controllers::triggers::{self, Triggers};
use crate::crd::{BatchJob, ComputeEnvironmentSpec};
use crate::dispatcher::Dispatch;

/// Caches that nobody feeds but the test.
fn caches() -> (Caches, Feeds, Triggers) {
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
    let (caches, mut feeds) = prepare(&kube::Client::try_from(nowhere).expect("a client"));
    let triggers = triggers::wire(&mut feeds, &caches, &Dispatch::default());
    (caches, feeds, triggers)
}

fn job(uid: &str, version: u32) -> BatchJob {
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "spec": {"jobQueue": "q", "jobId": "id"},
        "metadata": {"name": "render", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string()}});
    serde_json::from_value(job).expect("a job")
}

fn pod(uid: &str, job: &str, more: Value) -> Pod {
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
    assert!(caches.pods.used_by_node().is_empty());
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
    let mut ready = Box::pin(caches.ready());
    feeds.jobs.deliver([Event::Init, Event::InitApply(job("j", 1)), Event::InitDone]);
    feeds.nodes.deliver(empty());
    feeds.namespaces.deliver(empty());
    feeds.queues.deliver(empty());
    feeds.environments.deliver(empty());
    feeds.definitions.deliver(empty());
    feeds.revisions.deliver(empty());
    assert!(ready.as_mut().now_or_never().is_none(), "pods are missing");
    feeds.pods.deliver([Event::Init, Event::InitApply(pod("p", "j", json!({})))]);
    assert!(ready.as_mut().now_or_never().is_none(), "the list is not complete");
    feeds.pods.deliver([Event::InitDone]);
    assert!(ready.as_mut().now_or_never().is_some());
    assert_eq!(caches.pods.of_job("j").len(), 1);
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
            meta::AUXILIARY: text, meta::COMPUTE_ENVIRONMENT: text, "no-slash": text});
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
        let pool = Pool::of(&ComputeEnvironmentSpec::default(), &nodes);
        assert!(!pool.takes_pods(&nodes[0]), "it is not Ready");
    }
}
