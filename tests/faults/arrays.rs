//! Arrays on fake nodes, with an operator that is killed five seconds after it began to work, again and again: what their
//! children come to is exact.
//!
//! Like [`crate::soak`] this needs a scheduler and kwok: `cargo xtask test soak`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use batchyard::crd::batch_job::ArrayStatus;
use batchyard::crd::{BatchJob, BatchJobRecord, ComputeEnvironment, JobQueue};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::sleep;

use crate::arena::Arena;
use crate::soak::wanted;
use crate::support::client::{TEST_LABEL, apply, namespace};
use crate::support::nodes::POOL;
use crate::support::operator::Operator;
use crate::support::{audit, wait};

/// How long an operator lives that leads and knows what there is.
const KILLS: Duration = Duration::from_secs(5);
/// Nodes of 64 vCPUs each.
const NODES: usize = 10;
/// Writes for each attempt of a child: the pod's creation, its binding, two statuses of the kubelet and the finalizer make
/// five.
const WRITES: f64 = 5.5;
/// So many finished pods stay (`keepFinishedPods`); each of the others is removed, once.
const KEPT: usize = 2_000;
/// No object of an array is larger, in bytes.
const OBJECT: usize = 100 << 10;
/// More memory than this is no operator's, in KiB.
const MEMORY_KIB: u64 = 250 << 10;

/// Sizes of arrays, of which each index that ends with 7 fails, and with 3 fails once.
fn sizes() -> Vec<u32> {
    match std::env::var_os("BATCHYARD_LONG") {
        None => vec![2_000],
        Some(_) => [10_000].into_iter().chain([1_000; 100]).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_arrays() {
    if wanted().is_none() {
        println!("skipped: there is no scheduler; it runs by `cargo xtask test soak`");
        return;
    }
    let arena = Arena::bare("arrays").await;
    let namespace = furnish(&arena).await;
    let mark = audit::mark();
    arena.supervisor.start();
    arena.leads().await;
    let jobs: Api<BatchJob> = Api::namespaced(arena.user.clone(), &namespace);
    let begun = Instant::now();
    for (number, size) in sizes().into_iter().enumerate() {
        jobs.create(&PostParams::default(), &array(number, size)).await.expect("an array can be submitted");
    }
    let mut peak = 0;
    let killing = async {
        loop {
            arena.leads().await;
            sleep(KILLS).await;
            peak = peak.max(arena.supervisor.current().as_ref().and_then(Operator::memory).unwrap_or(0));
            arena.supervisor.restart();
        }
    };
    let ended = tokio::select! {
        ended = ends(&jobs, &namespace) => ended,
        () = killing => unreachable!("it goes on for ever"),
    };
    let took = begun.elapsed();
    let children: i64 = ended.iter().map(check).sum();
    let attempts = records(&arena, &namespace).await;
    println!(
        "{} arrays with {children} children and {attempts} attempts in {:.0} s, {} kills, at most {} MiB of memory",
        ended.len(),
        took.as_secs_f64(),
        arena.supervisor.kills(),
        peak >> 10,
    );
    let writes = mark.map(|mark| writes_of_arrays(&mark, &namespace));
    arena.close_in_peace().await;
    assert!(peak < MEMORY_KIB, "{peak} KiB of memory");
    if let Some(writes) = writes {
        println!("{}", audit::table("writes for each attempt", &writes, attempts));
        let is_removal = |write: &&audit::Write| write.resource == "pods" && write.verb == "delete";
        let removed =
            writes.iter().filter(is_removal).map(|write| &write.name).collect::<BTreeSet<_>>().len();
        let each = (writes.len() - removed) as f64 / attempts as f64;
        assert!(each <= WRITES, "{each:.2} writes for each attempt");
        let beyond = attempts.saturating_sub(KEPT);
        assert!(removed <= beyond, "{removed} removals of {beyond} pods");
    }
}

/// What was written, and came about, of jobs, records and pods.
fn writes_of_arrays(mark: &audit::Mark, namespace: &str) -> Vec<audit::Write> {
    let of_arrays = |write: &audit::Write| {
        ["batchjob", "pods"].iter().any(|begins| write.resource.starts_with(begins)) && write.is_done()
    };
    mark.writes(namespace).into_iter().filter(of_arrays).collect()
}

/// Waits until all arrays have ended, for as long as more and more of their children do.
async fn ends(jobs: &Api<BatchJob>, namespace: &str) -> Vec<BatchJob> {
    let mut known = -1;
    loop {
        let (list, ended) = wait::answer("the end of one more child", namespace, || async {
            let list = jobs.list(&ListParams::default()).await.ok()?.items;
            let ended = list.iter().map(ended_children).sum::<i64>();
            (list.iter().all(is_over) || ended > known).then_some((list, ended))
        })
        .await;
        if list.iter().all(is_over) {
            return list;
        }
        known = ended;
    }
}

fn is_over(job: &BatchJob) -> bool {
    job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal())
}

fn ended_children(job: &BatchJob) -> i64 {
    let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    let counts = array.and_then(|array| array.status_summary.clone()).unwrap_or_default();
    counts.succeeded.unwrap_or(0) + counts.failed.unwrap_or(0)
}

/// Nodes, an environment in which children behave by their index, and a queue.
async fn furnish(arena: &Arena) -> String {
    let namespace = namespace(&arena.user, &arena.prefix).await;
    let amounts = json!({"cpu": "64", "memory": "256Gi", "pods": "500"});
    let nodes: Api<Node> = Api::all(arena.user.clone());
    for number in 0..NODES {
        let node = json!({
            "metadata": {"name": format!("{}-{number}", arena.prefix),
                "labels": {POOL: arena.prefix, TEST_LABEL: "true"}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "status": {"allocatable": amounts, "capacity": amounts},
        });
        let node = serde_json::from_value(node).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("a node can be made");
    }
    let environment = json!({
        "metadata": {"name": format!("{namespace}.pool"), "labels": {TEST_LABEL: "true"}},
        "spec": {
            "type": "MANAGED",
            "computeResources": {"type": "EC2", "maxvCpus": 10_000},
            "provisioner": {"static": {"nodeSelector": {POOL: arena.prefix}}},
            "podDefaults": {"annotations": {
                "kwok.batchyard.io/exit-code": "0",
                "kwok.batchyard.io/failing-digit": "7",
                "kwok.batchyard.io/flaky-digit": "3",
            }},
        },
    });
    apply(&Api::<ComputeEnvironment>::all(arena.user.clone()), &environment).await;
    let queue = json!({"metadata": {"name": "queue"}, "spec": {"priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]}});
    apply(&Api::<JobQueue>::namespaced(arena.user.clone(), &namespace), &queue).await;
    namespace
}

fn array(number: usize, size: u32) -> BatchJob {
    let job = json!({
        "apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
        "metadata": {"name": format!("array-{number}")},
        "spec": {
            "jobQueue": "queue",
            "arrayProperties": {"size": size},
            "containerProperties": {"image": "kwok", "vcpus": 1, "memory": 64},
            "retryStrategy": {"attempts": 3, "evaluateOnExit": [{"onExitCode": "1", "action": "RETRY"}]},
        },
    });
    serde_json::from_value(job).expect("a job")
}

/// How many children an array has: all have ended as they must.
fn check(job: &BatchJob) -> i64 {
    let status = job.status.clone().unwrap_or_default();
    let ArrayStatus { size, status_summary, .. } = *status.array_properties.unwrap_or_default();
    let size = i64::from(size.unwrap_or_default());
    let counts = status_summary.unwrap_or_default();
    let counts = (counts.succeeded, counts.failed);
    assert_eq!(counts, (Some(size - size / 10), Some(size / 10)), "{}", job.name_any());
    assert_eq!(status.record.phase(), Phase::Failed, "{}", job.name_any());
    let bytes = serde_json::to_vec(job).expect("plain data").len();
    assert!(bytes <= OBJECT, "{} has {bytes} bytes", job.name_any());
    size
}

/// How many attempts are recorded; the observer looks at each of them.
async fn records(arena: &Arena, namespace: &str) -> usize {
    let records: Api<BatchJobRecord> = Api::namespaced(arena.user.clone(), namespace);
    let mut known = BTreeMap::new();
    let mut params = ListParams::default().limit(50);
    loop {
        let page = records.list(&params).await.expect("a list");
        for record in &page.items {
            let bytes = serde_json::to_vec(record).expect("plain data").len();
            assert!(bytes <= OBJECT, "{} has {bytes} bytes", record.name_any());
            for child in &record.spec.children {
                let key = (record.spec.job_uid.clone(), child.index);
                let attempts = known.entry(key).or_insert(0);
                *attempts = child.attempts.len().max(*attempts);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    known.values().sum()
}
