//! Plays scheduler and kubelets for every pod of a run: what happens in a pod stands in its
//! command.
//!
//! `["robot", "exit 1 => 1 Essential*; exit 0"]` is a line for each attempt (the last one counts for
//! all further ones). Before `=>` stands what happens, behind it how the attempt must be recorded,
//! which the observer checks. A line for the first pod of an attempt that is to be replaced by
//! another ends with `, ` and what happens then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batchyard::crd::BatchJob;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::client::{Actor, connect};
use crate::support::nodes::POOL;

/// A program that waits for its job to be RUNNING goes on after this long all the same: the
/// operator may be away.
const SHORT: Duration = Duration::from_secs(4);

/// Follows pods until it is dropped.
pub(crate) struct Robot(JoinHandle<()>);

impl Drop for Robot {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Pods = Arc<Mutex<HashMap<String, watch::Sender<Option<Pod>>>>>;

impl Robot {
    /// Looks after the pods of namespaces that begin like this.
    pub(crate) async fn start(namespaces: &str) -> Self {
        let (kubelet, scheduler, user) =
            (connect(Actor::Kubelet).await, connect(Actor::Scheduler).await, connect(Actor::User).await);
        let namespaces = namespaces.to_owned();
        let follow = async move {
            let pods = Pods::default();
            let api: Api<Pod> = Api::all(kubelet.clone());
            let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let (pod, gone) = match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, false),
                    Ok(Event::Delete(pod)) => (pod, true),
                    _ => continue,
                };
                if !pod.namespace().unwrap_or_default().starts_with(&namespaces) {
                    continue;
                }
                let uid = pod.uid().unwrap_or_default();
                let mut known = pods.lock().unwrap_or_else(PoisonError::into_inner);
                if gone {
                    known.remove(&uid);
                    continue;
                }
                let sender = known.entry(uid).or_insert_with(|| {
                    let (sender, seen) = watch::channel(None);
                    let clients = (kubelet.clone(), scheduler.clone(), user.clone());
                    let run = namespaces.clone();
                    tokio::spawn(Life { clients, run, seen, pod: pod.clone() }.live());
                    sender
                });
                sender.send_replace(Some(pod));
            }
        };
        Self(tokio::spawn(follow))
    }
}

/// One pod's life.
struct Life {
    clients: (Client, Client, Client),
    /// How the namespaces of its run begin.
    run: String,
    seen: watch::Receiver<Option<Pod>>,
    pod: Pod,
}

impl Life {
    /// From the moment it is seen until it is over. A pod that vanishes under its kubelet is over.
    async fn live(mut self) {
        let script = script(&self.pod);
        // A robot that starts late finds pods that it has nothing to do with any more.
        if self.pod.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Pending") {
            return;
        }
        if let Err(error) = self.play(&script).await {
            let is_gone = matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
            if !is_gone {
                eprintln!("robot: {}: {script}: {error}", self.pod.name_any());
            }
        }
    }

    async fn play(&mut self, script: &str) -> Result<(), kube::Error> {
        let (verb, argument) = script.split_once(' ').unwrap_or((script, ""));
        let code = argument.parse().unwrap_or(143);
        if verb == "hold" {
            self.deleted().await;
            return Ok(());
        }
        self.bind().await?;
        match verb {
            "reject" => return self.reject().await,
            "image" => self.waits("InvalidImageName", "couldn't parse image name").await?,
            "quick" => return self.exits(code).await,
            "old" => self.starts(Timestamp::now() - SignedDuration::from_secs(58)).await?,
            _ => self.starts(Timestamp::now()).await?,
        }
        match verb {
            "exit" => {
                self.job_runs().await;
                return self.exits(code).await;
            }
            "drain" => {
                self.job_runs().await;
                self.drain().await?;
            }
            "evict" => {
                self.job_runs().await;
                self.evict().await?;
            }
            "deleted" => {
                self.job_runs().await;
                let pods: Api<Pod> = Api::namespaced(self.clients.2.clone(), &self.namespace());
                pods.delete(&self.pod.name_any(), &DeleteParams::default()).await?;
            }
            _ => {}
        }
        self.deleted().await;
        if verb == "image" {
            return self.lets_go().await;
        }
        self.exits(code).await
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.clients.0.clone(), &self.namespace())
    }

    /// Binds it to a node of its pool that takes pods.
    async fn bind(&mut self) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.clients.1.clone());
        // Its story has nodes of its own, or shares those of the run.
        let pools = format!("{POOL} in ({}, {})", self.namespace(), self.run);
        let mut list = nodes.list(&ListParams::default().labels(&pools)).await?;
        list.items.sort_by_key(|node| node.labels().get(POOL) == Some(&self.run));
        let open = |node: &&Node| !node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let Some(node) = list.items.iter().find(open).map(kube::ResourceExt::name_any) else {
            self.deleted().await;
            return Ok(());
        };
        let name = self.pod.name_any();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": self.pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods: Api<Pod> = Api::namespaced(self.clients.1.clone(), &self.namespace());
        let _: Value = pods.create_subresource("binding", &name, &PostParams::default(), &binding).await?;
        Ok(())
    }

    async fn starts(&self, at: Timestamp) -> Result<(), kube::Error> {
        self.report("Running", json!({"running": {"startedAt": seconds(at)}})).await.map(drop)
    }

    async fn waits(&self, reason: &str, message: &str) -> Result<(), kube::Error> {
        self.report("Pending", json!({"waiting": {"reason": reason, "message": message}})).await.map(drop)
    }

    /// The container ends. Of a pod that somebody has deleted meanwhile that is the end, too.
    async fn exits(&self, code: i32) -> Result<(), kube::Error> {
        let (phase, reason) = if code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
        let now = seconds(Timestamp::now());
        let state = json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now,
            "finishedAt": now, "containerID": "containerd://0"}});
        match self.report(phase, state).await?.metadata.deletion_timestamp {
            Some(_) => self.lets_go().await,
            None => Ok(()),
        }
    }

    /// The kubelet has no room for it.
    async fn reject(&self) -> Result<(), kube::Error> {
        let status = json!({"phase": "Failed", "reason": "OutOfcpu", "startTime": seconds(Timestamp::now()),
            "message": "Pod was rejected: Node didn't have enough resource: cpu"});
        let patch = Patch::Strategic(json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        self.pods().patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }

    async fn report(&self, phase: &str, state: Value) -> Result<Pod, kube::Error> {
        let ready = if phase == "Running" { "True" } else { "False" };
        let condition = |type_: &str, status: &str| json!({"type": type_, "status": status});
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        let statuses: Vec<Value> = containers
            .map(|container| {
                json!({"name": container.name, "image": "robot", "imageID": "", "ready": ready == "True",
                    "restartCount": 0, "state": state, "lastState": {}})
            })
            .collect();
        let status = json!({
            "phase": phase,
            "startTime": seconds(Timestamp::now() - SignedDuration::from_secs(1)),
            "conditions": [condition("PodReadyToStartContainers", "True"), condition("Initialized", "True"),
                condition("Ready", ready), condition("ContainersReady", ready)],
            "containerStatuses": statuses,
        });
        let patch = Patch::Strategic(json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        self.pods().patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await
    }

    /// Somebody drains its node.
    async fn drain(&self) -> Result<(), kube::Error> {
        let current = self.pods().get(&self.pod.name_any()).await?;
        let node = current.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.clients.2.clone());
        let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
        nodes.patch(&node, &PatchParams::default(), &cordon).await?;
        self.evict().await
    }

    async fn evict(&self) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.clients.2.clone(), &self.namespace());
        pods.evict(&self.pod.name_any(), &kube::api::EvictParams::default()).await.map(drop)
    }

    /// Waits until somebody deletes it.
    async fn deleted(&mut self) {
        let over =
            |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        // The robot's end is the end of all waiting.
        let _ = self.seen.wait_for(over).await;
    }

    /// Waits until the job says that it runs, or long enough.
    async fn job_runs(&self) {
        let Some(owner) = self.pod.owner_references().first().cloned() else { return };
        let jobs: Api<BatchJob> = Api::namespaced(self.clients.0.clone(), &self.namespace());
        let running = kube::runtime::watcher::watch_object(jobs, &owner.name);
        let running = running.try_filter(|job| {
            let phase =
                job.as_ref().and_then(|job| Some(job.status.as_ref()?.record.phase().as_str() == "RUNNING"));
            std::future::ready(job.is_none() || phase == Some(true))
        });
        let _ = timeout(SHORT, std::pin::pin!(running).try_next()).await;
    }

    /// The kubelet's last word: the object may go, but for finalizers.
    async fn lets_go(&self) -> Result<(), kube::Error> {
        let preconditions = kube::api::Preconditions { uid: self.pod.uid(), resource_version: None };
        let at_once = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        // A kubelet tries until it is done.
        loop {
            match self.pods().delete(&self.pod.name_any(), &at_once).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
                Ok(_) => return Ok(()),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// What happens in this pod.
fn script(pod: &Pod) -> String {
    let number =
        |key: &str| pod.annotations().get(key).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let arguments =
        pod.spec.as_ref().and_then(|spec| spec.containers.first()?.args.clone()).unwrap_or_default();
    let lines = arguments.get(1).cloned().unwrap_or_else(|| "exit 0".to_owned());
    let lines: Vec<&str> = lines.split(';').collect();
    let line = lines.get(number("batchyard.io/attempt").saturating_sub(1)).or(lines.last());
    let happens = line.map_or("", |line| line.split("=>").next().unwrap_or_default());
    let pods: Vec<&str> = happens.split(',').collect();
    pods.get(number("batchyard.io/placement")).or(pods.last()).map_or("", |text| text.trim()).to_owned()
}

/// Times of a pod's status have no fractions.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
