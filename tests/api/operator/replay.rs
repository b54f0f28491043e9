//! Every row of the termination table against the real operator: the fixtures' statuses are put
//! onto attempt pods while the operator is away, and it must read each as the core's table does.
//!
//! kwok plays the kubelet: a Stage is made from each fixture and writes its status onto the pod of
//! the job of the same name. What kwok cannot do the test does: it binds pods, deletes them, changes
//! nodes, and reports on pods that have no node. Pods with a sidecar are left out: the jobs of the
//! replay have none.

mod rows;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use self::rows::{Order, Place, Row};
use super::kubelet::PodHandle;
use super::world::{World, job};
use crate::support::client::kubeconfig;
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// The pool of the nodes that fixtures speak of; jobs are admitted for another one.
const STAGE: &str = "stage";

#[tokio::test]
async fn f6_g2_g3_g6_every_row_of_the_termination_table_reads_the_same_to_the_operator() {
    let (rows, left_out): (Vec<Row>, Vec<Row>) = Row::all().into_iter().partition(Row::can_be_a_job);
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("replay").await;
    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    let stage = Theatre::furnish(&world, &rows).await;
    stage.admit(&rows).await;
    operator.stop().await;

    let deleted = stage.delete_before(&rows).await;
    let shifts: Vec<SignedDuration> =
        rows.iter().map(|row| row.shift(deleted.get(&row.name).copied())).collect();
    stage.report(&rows, &shifts).await;
    stage.delete_after(&rows).await;
    stage.change_nodes(&rows, &shifts).await;

    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    let wrong = stage.compare(&rows).await;
    operator.stop().await;
    println!(
        "{} looks at fixtures replayed; {} left out: their pods have a sidecar",
        rows.len(),
        left_out.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The world of the replay: a job and a pod for each row.
struct Theatre<'a> {
    world: &'a World,
}

impl<'a> Theatre<'a> {
    /// Makes room for all jobs, their queues, and the nodes that the fixtures speak of.
    async fn furnish(world: &'a World, rows: &[Row]) -> Self {
        for number in 0..=rows.len() / 100 {
            world.node(&format!("room-{number}"), "pool", 128).await;
        }
        world.environment("pool", json!({"computeResources": {"maxvCpus": 1000}})).await;
        world.queue("queue", json!({})).await;
        let lost = rows.iter().filter_map(Row::node_lost_seconds).max().expect("a row with a node given up");
        world.environment("lost", json!({
            "computeResources": {"maxvCpus": 100}, "nodeLostTimeoutSeconds": lost,
            "provisioner": {"static": {"nodeSelector": {"batchyard.io/test-pool": format!("{}-pool", world.namespace)}}},
        })).await;
        let order = json!([{"order": 1, "computeEnvironment": "lost"}]);
        world.queue("lost", json!({"computeEnvironmentOrder": order})).await;
        for queue in ["queue", "lost"] {
            world.ready::<batchyard::crd::JobQueue>(queue).await;
        }
        let mut nodes: Vec<&str> = rows.iter().filter_map(Row::node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            world.node(node, STAGE, 4).await;
        }
        Self { world }
    }

    /// Submits a job for each row and brings its pod to where the fixture finds it: unbound, or
    /// bound and known to be.
    async fn admit(&self, rows: &[Row]) {
        each(rows, |row| async move {
            let queue = if row.node_lost_seconds().is_some() { "lost" } else { "queue" };
            self.world.submit(&row.name, job(json!({"jobQueue": queue}))).await;
        })
        .await;
        each(rows, |row| async move {
            let job = self.world.job(&row.name);
            let pod = job.pod(1).await;
            self.mark(&pod, row).await;
            let Some(node) = self.node_name(row) else { return };
            pod.bind_to(&node).await;
            if row.started_before() {
                pod.starts().await;
                job.reaches(Phase::Running).await;
            } else if row.place != Place::Nowhere {
                // Without a Node object the job ends at once.
                job.reaches(Phase::Starting).await;
            }
        })
        .await;
    }

    /// Tells the operator which containers of the pod end nothing.
    async fn mark(&self, pod: &PodHandle<'_>, row: &Row) {
        let auxiliary = row.auxiliary();
        if !auxiliary.is_empty() {
            let patch =
                json!({"metadata": {"annotations": {"batchyard.io/auxiliary-containers": auxiliary}}});
            self.pods().patch(&pod.name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a pod");
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.world.kubelet.clone(), &self.world.namespace)
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.world.kubelet.clone())
    }

    /// The object's name of the node that a row's pod is on.
    fn node_name(&self, row: &Row) -> Option<String> {
        match &row.place {
            Place::Unbound => None,
            Place::Nowhere => Some(format!("{}-never", self.world.namespace)),
            Place::On(node) => Some(format!("{}-{node}", self.world.namespace)),
        }
    }

    /// The pod of each row.
    async fn by_row(&self) -> BTreeMap<String, Pod> {
        let list = self.pods().list(&ListParams::default()).await.expect("pods can be listed").items;
        list.into_iter().map(|pod| (pod.labels()["batchyard.io/job-name"].clone(), pod)).collect()
    }

    async fn delete(&self, rows: &[Row], order: Order) -> BTreeMap<String, Timestamp> {
        let pods = self.by_row().await;
        let wanted: Vec<&Row> = rows.iter().filter(|row| row.deletion == Some(order)).collect();
        let asked = futures::stream::iter(wanted).map(|row| {
            let pod = pods[&row.name].name_any();
            async move {
                let grace =
                    DeleteParams { grace_period_seconds: Some(row.grace()), ..DeleteParams::default() };
                let answer = self.pods().delete(&pod, &grace).await.expect("a pod can be deleted");
                // Held by the operator's finalizer, it is still there.
                let pod = answer.left().expect("the pod as it is deleted");
                let at = pod.metadata.deletion_timestamp.expect("the time of the deletion").0;
                (row.name.clone(), at)
            }
        });
        asked.buffer_unordered(AT_ONCE).collect().await
    }

    /// Deletes the pods that ended, or still run, because they were deleted.
    async fn delete_before(&self, rows: &[Row]) -> BTreeMap<String, Timestamp> {
        self.delete(rows, Order::BeforeTheEnd).await
    }

    /// Deletes the pods that had ended before, and those that vanish.
    async fn delete_after(&self, rows: &[Row]) {
        self.delete(rows, Order::AfterTheEnd).await;
        let pods = self.by_row().await;
        for row in rows.iter().filter(|row| row.vanishes()) {
            let name = pods[&row.name].name_any();
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            self.pods().patch(&name, &PatchParams::default(), &patch).await.expect("a pod");
            let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            self.pods().delete(&name, &at_once).await.expect("a pod can be deleted");
            wait::gone(&self.pods(), &name).await;
        }
    }

    /// Lets kwok report on pods of nodes, and reports on the others; returns when all is told.
    async fn report(&self, rows: &[Row], shifts: &[SignedDuration]) {
        let told: Vec<(&Row, Value)> =
            rows.iter().zip(shifts).filter_map(|(row, shift)| Some((row, row.status(*shift)?))).collect();
        let of_nodes = told.iter().filter(|(row, _)| matches!(row.place, Place::On(_)));
        let kwok = Kwok::start(
            of_nodes.clone().map(|(row, status)| stage(row, status)).collect(),
            &self.world.namespace,
        );
        let pods = self.by_row().await;
        for (row, status) in told.iter().filter(|(row, _)| !matches!(row.place, Place::On(_))) {
            let patch = Patch::Strategic(json!({"status": status}));
            let name = pods[&row.name].name_any();
            let answer = self.pods().patch_status(&name, &PatchParams::default(), &patch).await;
            answer.unwrap_or_else(|e| panic!("{}: {e}", row.name));
        }
        let missing = wait::none(|| async {
            let pods = self.by_row().await;
            let lacks = |(row, status): &&(&Row, Value)| {
                !rows::holds(&serde_json::to_value(&pods[&row.name].status).expect("plain data"), status)
            };
            of_nodes.clone().filter(lacks).map(|(row, _)| row.name.clone()).collect()
        });
        let missing = missing.await;
        assert!(missing.is_empty(), "kwok told nothing of {missing:?}; its log: {}", kwok.log);
    }

    /// Makes the nodes as the fixtures have them: cordoned, tainted, silent, gone.
    async fn change_nodes(&self, rows: &[Row], shifts: &[SignedDuration]) {
        let mut done = Vec::new();
        for (row, shift) in rows.iter().zip(shifts) {
            let Place::On(node) = &row.place else { continue };
            if done.contains(&node) {
                continue;
            }
            done.push(node);
            let name = self.node_name(row).expect("it is on a node");
            let Some((spec, status)) = row.node_as_told(*shift) else {
                self.nodes().delete(&name, &DeleteParams::default()).await.expect("a node can be deleted");
                continue;
            };
            let (params, nodes) = (PatchParams::default(), self.nodes());
            nodes.patch(&name, &params, &Patch::Merge(json!({"spec": spec}))).await.expect("a node");
            let status = Patch::Strategic(json!({"status": status}));
            nodes.patch_status(&name, &params, &status).await.expect("a node's status");
        }
    }

    /// Waits until all jobs say what the table says; returns those that do not.
    async fn compare(&self, rows: &[Row]) -> Vec<String> {
        wait::none(|| async {
            let list = self.world.api::<BatchJob>().list(&ListParams::default()).await.expect("jobs");
            let jobs: BTreeMap<String, BatchJob> =
                list.items.into_iter().map(|job| (job.name_any(), job)).collect();
            let differs = |row: &Row| {
                let record = jobs[&row.name].status.clone().unwrap_or_default().record;
                let node = self.node_name(row).unwrap_or_default();
                Some(format!("{}: {}", row.name, row.contradicts(&record, &node)?))
            };
            rows.iter().filter_map(differs).collect()
        })
        .await
    }
}

/// Does something for each row, some at a time.
async fn each<'r, F: Future<Output = ()>>(rows: &'r [Row], work: impl Fn(&'r Row) -> F) {
    futures::stream::iter(rows).map(work).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// The Stage that gives the pod of a row its status.
fn stage(row: &Row, status: &Value) -> Value {
    json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": row.name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchLabels": {"batchyard.io/job-name": row.name}},
            "next": {"statusTemplate": status.to_string()},
        },
    })
}

/// kwok with these Stages, on the nodes of one world; it ends with this value.
struct Kwok {
    child: Child,
    log: String,
}

impl Kwok {
    fn start(stages: Vec<Value>, namespace: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (config, log) = (folder.join("replay-stages.yaml"), folder.join("replay-kwok.log"));
        // Without any for nodes it looks at none, and at no pods on them.
        let idle = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": "nodes-stay"},
            "spec": {
                "resourceRef": {"apiGroup": "v1", "kind": "Node"},
                "selector": {"matchLabels": {"batchyard.io/no-node": "true"}},
                "next": {},
            },
        });
        let documents: Vec<String> = stages.iter().chain([&idle]).map(Value::to_string).collect();
        std::fs::write(&config, documents.join("\n---\n")).expect("the stages can be written");
        let output = std::fs::File::create(&log).expect("a log");
        let program = xtask::cluster::tool("kwok").expect("kwok can be built");
        let child = Command::new(program)
            .args([
                format!("--kubeconfig={}", kubeconfig().display()),
                format!("--config={}", config.display()),
                "--manage-all-nodes=false".to_owned(),
                format!("--manage-nodes-with-label-selector=batchyard.io/test-pool={namespace}-{STAGE}"),
                // The test renews their leases.
                "--node-lease-duration-seconds=0".to_owned(),
            ])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("kwok starts");
        Self { child, log: log.display().to_string() }
    }
}

impl Drop for Kwok {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
