//! Everything at once, for minutes: many jobs on fake nodes, an operator that is killed again and
//! again, an API server that fails, watches that end, nodes that go.
//!
//! Scheduler, kubelets and nodes are those of a cluster with kwok, so this test runs on a cluster
//! of its own, and only there: `cargo xtask test soak`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use batchyard::crd::{BatchJob, ComputeEnvironment, JobQueue};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::{interval, sleep};

use crate::arena::Arena;
use crate::chance::Chance;
use crate::proxy::{Fault, Request};
use crate::support::client::{TEST_LABEL, apply, namespace};
use crate::support::nodes::POOL;
use crate::support::operator::Operator;
use crate::support::wait;

/// The variable that says that there are a scheduler and kwok, and what is asked of them:
/// `seconds,jobs`. The soak ends when both are over or, without jobs, with the seconds.
const SOAK: &str = "BATCHYARD_TEST_SOAK";

/// Jobs that are open at a time.
const OPEN: usize = 200;
/// Nodes at a time.
const NODES: usize = 6;
/// More memory than this is no operator's.
const MEMORY_KIB: u64 = 300 * 1024;

/// What faults there are: of a hundred requests two are throttled, one fails, one fails although it
/// was carried out; of a thousand five meet a conflict that is none and one gets no answer.
fn faults(chance: &Chance, request: &Request) -> Fault {
    if request.resource == "leases" {
        return Fault::None;
    }
    if request.is_watch() {
        return Fault::Cut(Duration::from_secs(20));
    }
    match (chance.roll(request), chance.second_roll(request)) {
        (0..2, _) => Fault::Refuse(429, Some(1)),
        (2, _) => Fault::Refuse(500, None),
        (3, _) => Fault::AnswerDespite(504),
        (4, 0..50) => Fault::Refuse(409, None),
        (4, 50..60) if request.is_write() => Fault::Hang(Duration::from_secs(12)),
        (4, _) if request.is_write() => Fault::LoseAnswer,
        _ => Fault::None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak() {
    let Some((seconds, most)) = wanted() else {
        println!("skipped: {SOAK} is not set; it runs by `cargo xtask test soak`");
        return;
    };
    let arena = Arena::bare("soak").await;
    let ground = Ground::make(&arena).await;
    let chance = Chance::new("soak");
    arena.proxy.plan(move |request| faults(&chance, request));
    arena.supervisor.start();
    let (begun, submitted) = (Instant::now(), AtomicUsize::new(0));
    let limit = Duration::from_secs(seconds);
    let goes_on = || begun.elapsed() < limit || submitted.load(Ordering::Relaxed) < most;
    let mut memory = Vec::new();
    let trouble = async {
        let mut second = interval(Duration::from_secs(1));
        for number in 1_usize.. {
            second.tick().await;
            if !goes_on() {
                break;
            }
            memory.extend(arena.supervisor.current().as_ref().and_then(Operator::memory));
            if number % 10 == 0 {
                arena.supervisor.restart();
            }
            if number % 60 == 30 {
                ground.lose_a_node(number).await;
            }
        }
    };
    let work = async {
        while goes_on() {
            let room = OPEN.saturating_sub(ground.open_jobs().await);
            for _ in 0..room.min(50) {
                ground.submit(submitted.fetch_add(1, Ordering::Relaxed)).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::join!(trouble, work);
    wait::answer("the last job to end", &arena.prefix, || async {
        (ground.open_jobs().await == 0).then_some(())
    })
    .await;
    let (peak, kills) = (memory.iter().max().copied().unwrap_or(0), arena.supervisor.kills());
    let seen = arena.proxy.seen();
    let made = seen.iter().filter(|(_, fault)| *fault != Fault::None).count();
    let requests = seen.len();
    println!(
        "soak: {} jobs in {} s, {kills} kills, {made} faults in {requests} requests, at most {} MiB of memory",
        submitted.load(Ordering::Relaxed),
        begun.elapsed().as_secs(),
        peak / 1024,
    );
    arena.close_in_peace().await;
    assert!(peak < MEMORY_KIB, "{peak} KiB of memory");
}

pub(crate) fn wanted() -> Option<(u64, usize)> {
    let text = std::env::var(SOAK).ok()?;
    let (seconds, jobs) = text.split_once(',')?;
    Some((seconds.parse().ok()?, jobs.parse().ok()?))
}

/// What jobs need.
struct Ground<'a> {
    arena: &'a Arena,
    namespace: String,
}

impl<'a> Ground<'a> {
    /// Nodes, and two queues: jobs of one succeed, those of the other fail twice.
    async fn make(arena: &'a Arena) -> Self {
        let namespace = namespace(&arena.user, &arena.prefix).await;
        let ground = Self { arena, namespace };
        for number in 0..NODES {
            ground.make_node(number).await;
        }
        for (name, code) in [("good", "0"), ("bad", "1")] {
            let environment = json!({
                "metadata": {"name": format!("{}.{name}", ground.namespace), "labels": {TEST_LABEL: "true"}},
                "spec": {
                    "type": "MANAGED",
                    "computeResources": {"type": "EC2", "maxvCpus": 100},
                    "provisioner": {"static": {"nodeSelector": {POOL: arena.prefix}}},
                    "podDefaults": {"annotations": {"kwok.batchyard.io/exit-code": code}},
                },
            });
            apply(&Api::<ComputeEnvironment>::all(arena.user.clone()), &environment).await;
            let queue = json!({"metadata": {"name": name}, "spec": {"priority": 1,
                "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": name}]}});
            apply(&Api::<JobQueue>::namespaced(arena.user.clone(), &ground.namespace), &queue).await;
        }
        ground
    }

    async fn make_node(&self, number: usize) {
        let amounts = json!({"cpu": "32", "memory": "256Gi", "pods": "500"});
        let name = format!("{}-{number}", self.arena.prefix);
        let node = json!({
            "metadata": {"name": name, "labels": {POOL: self.arena.prefix, TEST_LABEL: "true"},
                "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "spec": {"providerID": format!("aws:///eu-west-1a/i-{name}")},
            "status": {"allocatable": amounts, "capacity": amounts},
        });
        let nodes: Api<Node> = Api::all(self.arena.user.clone());
        let node = serde_json::from_value(node).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("a node can be made");
    }

    /// A node goes, and another comes.
    async fn lose_a_node(&self, number: usize) {
        let nodes: Api<Node> = Api::all(self.arena.user.clone());
        let ours = ListParams::default().labels(&format!("{POOL}={}", self.arena.prefix));
        let list = nodes.list(&ours).await.expect("a list");
        if let Some(node) = list.items.first() {
            nodes.delete(&node.name_any(), &DeleteParams::default()).await.expect("a node can be deleted");
        }
        self.make_node(NODES + number).await;
    }

    fn jobs(&self) -> Api<BatchJob> {
        Api::namespaced(self.arena.user.clone(), &self.namespace)
    }

    async fn submit(&self, number: usize) {
        let queue = if number.is_multiple_of(5) { "bad" } else { "good" };
        let job = json!({
            "apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": format!("job-{number}")},
            "spec": {
                "jobQueue": queue,
                "containerProperties": {"image": "kwok", "vcpus": 1, "memory": 64},
                "retryStrategy": {"attempts": 8, "evaluateOnExit": [
                    {"onStatusReason": "Host EC2*", "action": "RETRY"},
                    {"onExitCode": "1", "onReason": "again*", "action": "RETRY"},
                    {"onReason": "*", "action": "EXIT"}]},
            },
        });
        let job = serde_json::from_value(job).expect("a job");
        self.jobs().create(&PostParams::default(), &job).await.expect("a job can be submitted");
    }

    async fn open_jobs(&self) -> usize {
        let jobs = self.jobs().list(&ListParams::default()).await.expect("a list");
        let is_open =
            |job: &&BatchJob| job.status.as_ref().is_none_or(|status| !status.record.phase().is_terminal());
        jobs.items.iter().filter(is_open).count()
    }
}
