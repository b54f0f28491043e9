//! What decisions about jobs are made from, as the caches tell it, without a cluster behind them.

use std::sync::Arc;

use batchyard_core::job::decide::Readiness;
use batchyard_core::{reason, waits};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::array as arrays;
use super::dereference::dereference;
use crate::controllers::Context;
use crate::controllers::tests::context;
use crate::crd::BatchJob;
use crate::faults::caches;
use crate::k8s::caches::Feeds;

/// What a controller sees of these jobs.
fn world(jobs: impl IntoIterator<Item = BatchJob>) -> (Arc<Context>, Feeds) {
    let (caches, mut feeds, _triggers) = caches();
    let mut context = context();
    Arc::get_mut(&mut context).expect("nobody else has it").caches = caches;
    feeds.jobs.deliver(jobs.into_iter().map(Event::Apply));
    (context, feeds)
}

/// The array `ns/<name>`, whose uid is `uid-<name>`.
fn array(name: &str, array: Value, depends_on: Value, status: Value) -> BatchJob {
    let runs = json!({"image": "busybox", "resourceRequirements": [
        {"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]});
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"jobQueue": "q", "containerProperties": runs, "arrayProperties": array, "dependsOn": depends_on},
        "status": status});
    serde_json::from_value(job).expect("a job")
}

async fn readiness(job: &BatchJob, context: &Context) -> Readiness {
    dereference(job, context).await.expect("nobody is asked").readiness
}

/// The sizes are compared whichever of the two comes first.
#[tokio::test]
async fn an_array_that_waits_is_refused_once_the_other_has_another_size() {
    let first = |properties: Value| array("first", properties, json!([]), json!({"phase": "SUBMITTED"}));
    let waits = json!({"phase": "PENDING", "jobDefinition": "second", "arrayProperties": {"size": 5}});
    let depends_on = json!([{"job": "first", "type": "N_TO_N"}]);
    let second = array("second", json!({"size": 5}), depends_on, waits);
    let pending = |wait| Readiness::Pending { definition: "second".into(), wait };
    let named = ["first".to_owned()];
    for (why, first, want) in [
        ("it is not there", None, pending(waits::dependencies(&[], &named))),
        ("as many", Some(first(json!({"size": 5}))), Readiness::Ready("second".into())),
        ("fewer", Some(first(json!({"size": 3}))), Readiness::Refused(reason::sizes_differ("first", 5, 3))),
        (
            "a rerun that is not accepted",
            Some(first(json!({"rerunFailedOf": "other"}))),
            pending(waits::dependencies(&named, &[])),
        ),
    ] {
        let (context, _feeds) = world(first.into_iter().chain([second.clone()]));
        assert_eq!(readiness(&second, &context).await, want, "{why}");
    }
}

#[tokio::test]
async fn reruns_that_wait_for_each_other_are_refused() {
    let rerun = |name: &str, of: &str| {
        array(name, json!({"rerunFailedOf": of}), json!([]), json!({"phase": "SUBMITTED"}))
    };
    let (itself, a, b) = (rerun("itself", "itself"), rerun("a", "b"), rerun("b", "a"));
    let (context, _feeds) = world([itself.clone(), a.clone(), b.clone()]);
    for (job, way) in [(itself, vec!["itself", "itself"]), (a, vec!["a", "b", "a"]), (b, vec!["b", "a", "b"])]
    {
        let way: Vec<_> = way.into_iter().map(str::to_owned).collect();
        let want = Readiness::Refused(reason::dependency_circle(&way));
        assert_eq!(readiness(&job, &context).await, want);
    }
}

#[tokio::test]
async fn a_rerun_has_the_size_of_what_it_runs_again() {
    let told = json!({"size": 4, "statusSummary": {"SUCCEEDED": 3, "FAILED": 1}});
    let job =
        array("job", json!({"size": 4}), json!([]), json!({"phase": "FAILED", "arrayProperties": told}));
    for (size, want) in [
        (json!(null), None),
        (json!(4), None),
        (json!(3), Some(Readiness::Refused(reason::rerun_of_another_size("job", 3, 4)))),
    ] {
        let again = json!({"size": size, "rerunFailedOf": "job"});
        let again = array("again", again, json!([]), json!({"phase": "SUBMITTED"}));
        let (context, _feeds) = world([job.clone(), again.clone()]);
        assert_eq!(arrays::readiness(&again, &context), want, "{size}");
    }
}

/// A rerun may be ended while it waits for another that waits itself.
#[tokio::test]
async fn nothing_is_kept_of_children_that_are_not_known_yet() {
    let rerun = |name: &str, of: &str| {
        array(name, json!({"rerunFailedOf": of}), json!([]), json!({"phase": "SUBMITTED"}))
    };
    let again = rerun("again", "job");
    let (context, _feeds) = world([rerun("job", "missing"), again.clone()]);
    let properties = again.spec.array_properties.as_ref().expect("an array");
    let (size, members) = arrays::prepare(&again, properties, &context).await.expect("nobody is asked");
    assert_eq!((size, members.len()), (0, 0));
    assert!(context.caches.arrays.get("uid-job").is_none());
}
