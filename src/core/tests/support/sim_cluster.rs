//! A small Kubernetes: nodes, pods with a finalizer, kubelets that do as they are told, evictions
//! and the pod garbage collector. Only what a job's story can depend on, and as the real one does
//! it: deletion waits for the kubelet and for finalizers, and a dead node answers nothing.

use std::collections::BTreeMap;

use batchyard_core::job::decide::Deletion;
use batchyard_core::pod::{ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView};
use jiff::{SignedDuration, Timestamp};

/// Seconds between SIGTERM and SIGKILL.
const GRACE_SECONDS: i64 = 30;

/// A node and the machine under it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) view: NodeView,
    pub(crate) environment: String,
    pub(crate) vcpus: i64,
    /// False once the machine is off: its kubelet does nothing any more.
    pub(crate) powered: bool,
}

/// A pod and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    pub(crate) view: PodView,
    pub(crate) job: String,
    pub(crate) vcpus: i64,
    /// Counts creations, so that the newest pod of a job can be told.
    serial: u32,
    /// Nobody but finalizers keeps the deleted object: the grace period is over.
    grace_over: bool,
}

impl Pod {
    /// True until the pod's phase says that it is over.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.view.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// The first deletion leaves the program some time.
    fn ask_to_end(&mut self, now: Timestamp) {
        if self.view.deleted_at.is_none() {
            let grace = if self.is_live() && self.view.node_name.is_some() { GRACE_SECONDS } else { 0 };
            self.view.generation = self.view.generation.map(|generation| generation + 1);
            self.view.deleted_at = Some(now + SignedDuration::from_secs(grace));
            self.view.deletion_grace_seconds = Some(grace);
        }
    }

    /// A deletion without grace: the API server forgets when the first one came.
    fn expire(&mut self, now: Timestamp) {
        if self.view.deletion_grace_seconds.is_some_and(|grace| grace > 0) {
            self.view.deleted_at = Some(now);
            self.view.deletion_grace_seconds = Some(0);
        }
    }

    /// True while the job's container runs.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.view.containers.first().map(|c| &c.state), Some(ContainerState::Running { .. }))
    }
}

/// The cluster, and the time that everybody agrees on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cluster {
    pub(crate) now: Timestamp,
    pub(crate) nodes: BTreeMap<String, Node>,
    /// By name: the API server has one object of a name.
    pub(crate) pods: BTreeMap<String, Pod>,
    created: BTreeMap<String, u32>,
    serial: u32,
}

impl Cluster {
    pub(crate) fn add_node(&mut self, name: &str, vcpus: i64, environment: &str) {
        let (name, instance) = (name.to_owned(), format!("i-{name}"));
        let view =
            NodeView { name: name.clone(), instance, exists: true, ready: true, ..NodeView::default() };
        self.nodes.insert(name, Node { view, environment: environment.to_owned(), vcpus, powered: true });
    }

    /// Creates a pod; false if one of that name exists. The uid tells how often the name was used.
    pub(crate) fn create(&mut self, job: &str, mut view: PodView, vcpus: i64) -> bool {
        if self.pods.contains_key(&view.name) {
            return false;
        }
        let times = self.created.entry(view.name.clone()).or_default();
        *times += 1;
        self.serial += 1;
        view.uid = format!("{}/{times}", view.name);
        view.created_at = Some(self.now);
        view.generation = Some(1);
        view.held = true;
        let pod = Pod { view, job: job.to_owned(), vcpus, serial: self.serial, grace_over: false };
        self.pods.insert(pod.view.name.clone(), pod);
        true
    }

    /// The newest pod of a job that satisfies a condition.
    pub(crate) fn pod_of(&mut self, job: &str, which: impl Fn(&Pod) -> bool) -> Result<&mut Pod, String> {
        let pods = self.pods.values_mut().filter(|p| p.job == job && which(p));
        pods.max_by_key(|p| p.serial).ok_or_else(|| format!("{job} has no such pod"))
    }

    /// vCPUs of a node that no live pod takes.
    pub(crate) fn free(&self, node: &Node) -> i64 {
        let there = |p: &&Pod| p.view.node_name.as_deref() == Some(&node.view.name) && p.is_live();
        node.vcpus - self.pods.values().filter(there).map(|p| p.vcpus).sum::<i64>()
    }

    /// The scheduler binds a pod; a live kubelet makes its sandbox at once.
    pub(crate) fn bind(&mut self, job: &str, node: &str) -> Result<(), String> {
        let now = self.now;
        let host = self.nodes.get(node).ok_or("no such node")?;
        let (room, usable) = (self.free(host), host.view.ready && !host.view.unschedulable);
        let bindable = |p: &Pod| p.view.node_name.is_none() && p.view.deleted_at.is_none() && !p.view.gated;
        let pod = self.pod_of(job, bindable)?;
        if !usable || room < pod.vcpus {
            return Err(format!("{node} takes no such pod"));
        }
        pod.view.node_name = Some(node.to_owned());
        for kind in ["PodScheduled", "PodReadyToStartContainers"] {
            pod.view.conditions.push(condition(kind, None, now));
        }
        set_container(
            pod,
            ContainerState::Waiting { reason: Some("ContainerCreating".into()), message: None },
        );
        Ok(())
    }

    /// A pod of the job whose kubelet is alive.
    fn on_live_node(&mut self, job: &str, which: impl Fn(&Pod) -> bool) -> Result<&mut Pod, String> {
        let powered: Vec<_> =
            self.nodes.values().filter(|n| n.powered).map(|n| n.view.name.clone()).collect();
        let alive = |p: &Pod| p.view.node_name.as_ref().is_some_and(|n| powered.contains(n));
        self.pod_of(job, |p| alive(p) && p.is_live() && which(p))
    }

    pub(crate) fn start(&mut self, job: &str) -> Result<(), String> {
        let now = self.now;
        let pod = self.on_live_node(job, |p| !p.runs() && p.view.deleted_at.is_none())?;
        pod.view.phase = PodPhase::Running;
        set_container(pod, ContainerState::Running { started_at: Some(now) });
        Ok(())
    }

    pub(crate) fn exit(&mut self, job: &str, exit_code: i32) -> Result<(), String> {
        let now = self.now;
        let pod = self.on_live_node(job, Pod::runs)?;
        let started_at = match &pod.view.containers[0].state {
            ContainerState::Running { started_at } => *started_at,
            _ => None,
        };
        let reason = Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned());
        let finished_at = Some(now);
        let state = ContainerState::Terminated { exit_code, reason, message: None, started_at, finished_at };
        pod.view.phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
        set_container(pod, state);
        self.kubelet_is_done(job);
        Ok(())
    }

    /// The kubelet ends a deleted pod that started nothing, in its own strange words.
    pub(crate) fn stop_unstarted(&mut self, job: &str) -> Result<(), String> {
        let pod = self.on_live_node(job, |p| !p.runs() && p.view.deleted_at.is_some())?;
        let message = "The container could not be located when the pod was terminated".to_owned();
        let reason = Some("ContainerStatusUnknown".to_owned());
        let (started_at, finished_at) = (None, None);
        pod.view.phase = PodPhase::Failed;
        let message = Some(message);
        set_container(
            pod,
            ContainerState::Terminated { exit_code: 137, reason, message, started_at, finished_at },
        );
        pod.view.containers[0].container_id = None;
        self.kubelet_is_done(job);
        Ok(())
    }

    pub(crate) fn pull_fails(&mut self, job: &str, message: &str) -> Result<(), String> {
        let pod = self.on_live_node(job, |p| !p.runs())?;
        let (reason, message) = (Some("ErrImagePull".to_owned()), Some(message.to_owned()));
        set_container(pod, ContainerState::Waiting { reason, message });
        Ok(())
    }

    /// The kubelet refuses a pod. Started again it also refuses one that runs, and takes back what it said of it.
    pub(crate) fn reject(&mut self, job: &str, reason: &str) -> Result<(), String> {
        let pod = self.on_live_node(job, |_| true)?;
        pod.view.phase = PodPhase::Failed;
        pod.view.reason = Some(reason.to_owned());
        let text = "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, capacity: 4000";
        pod.view.message = Some(text.to_owned());
        pod.view.containers.clear();
        self.kubelet_is_done(job);
        Ok(())
    }

    /// A kubelet that is done with a deleted pod deletes it for good.
    fn kubelet_is_done(&mut self, job: &str) {
        let now = self.now;
        for pod in self.pods.values_mut().filter(|p| p.job == job && !p.is_live()) {
            pod.view.observed_generation.get_or_insert(pod.view.generation.unwrap_or_default());
            if pod.view.deleted_at.is_some() {
                pod.grace_over = true;
                pod.expire(now);
            }
        }
        self.sweep();
    }

    /// A deletion as the API server sees it; true if it changed anything.
    pub(crate) fn delete(&mut self, name: &str, uid: &str, how: Deletion) -> bool {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name).filter(|p| p.view.uid == uid) else { return false };
        let before = pod.clone();
        let unbound = pod.view.node_name.is_none();
        if how == Deletion::IfUnbound && !unbound {
            return false;
        }
        pod.ask_to_end(now);
        if how == Deletion::Forced || unbound || !pod.is_live() {
            pod.grace_over = true;
            pod.expire(now);
        }
        let changed = *pod != before;
        self.sweep();
        changed
    }

    /// Lifts our scheduling gate; true if it was there.
    pub(crate) fn ungate(&mut self, name: &str, uid: &str) -> bool {
        let pod = self.pods.get_mut(name).filter(|p| p.view.uid == uid);
        pod.is_some_and(|pod| std::mem::take(&mut pod.view.gated))
    }

    /// Takes our finalizer off; true if it was there.
    pub(crate) fn release(&mut self, name: &str, uid: &str) -> bool {
        let Some(pod) = self.pods.get_mut(name).filter(|p| p.view.uid == uid) else { return false };
        let held = std::mem::take(&mut pod.view.held);
        self.sweep();
        held
    }

    fn sweep(&mut self) {
        self.pods.retain(|_, p| p.view.deleted_at.is_none() || !p.grace_over || p.view.held);
    }

    fn on_node<'a>(&'a mut self, node: &'a str) -> impl Iterator<Item = &'a mut Pod> {
        self.pods.values_mut().filter(move |p| p.view.node_name.as_deref() == Some(node) && p.is_live())
    }

    /// `kubectl drain`: cordon, then evict what runs there.
    pub(crate) fn drain(&mut self, node: &str) -> Result<(), String> {
        let now = self.now;
        self.nodes.get_mut(node).filter(|n| n.view.ready).ok_or("no such node")?.view.unschedulable = true;
        for pod in self.on_node(node) {
            pod.ask_to_end(now);
            pod.view.conditions.push(condition("DisruptionTarget", Some("EvictionByEvictionAPI"), now));
        }
        Ok(())
    }

    /// The machine is off; some time later the node controller says NotReady, which is this moment.
    pub(crate) fn power_off(&mut self, node: &str) -> Result<(), String> {
        let now = self.now;
        let host = self.nodes.get_mut(node).filter(|n| n.powered).ok_or("no such node")?;
        host.powered = false;
        host.view.ready = false;
        host.view.ready_since = Some(now);
        host.view.taints.push("node.kubernetes.io/unreachable".into());
        Ok(())
    }

    pub(crate) fn remove_node(&mut self, node: &str) -> Result<(), String> {
        self.nodes.remove(node).map(|_| ()).ok_or_else(|| format!("no node {node}"))
    }

    /// The garbage collector: pods whose node is gone, and deleted ones that never had one.
    pub(crate) fn collect_garbage(&mut self) {
        let (now, nodes) = (self.now, &self.nodes);
        for pod in self.pods.values_mut() {
            let orphaned = pod.view.node_name.as_ref().is_some_and(|n| !nodes.contains_key(n));
            let withdrawn = pod.view.node_name.is_none() && pod.view.deleted_at.is_some();
            if !orphaned && !withdrawn {
                continue;
            }
            if orphaned && pod.is_live() {
                pod.view.conditions.push(condition("DisruptionTarget", Some("DeletionByPodGC"), now));
            }
            if pod.is_live() {
                pod.view.phase = PodPhase::Failed;
            }
            pod.ask_to_end(now);
            pod.expire(now);
            pod.grace_over = true;
        }
        self.sweep();
    }
}

fn condition(kind: &str, reason: Option<&str>, now: Timestamp) -> PodCondition {
    let reason = reason.map(str::to_owned);
    PodCondition { kind: kind.to_owned(), status: true, reason, message: None, since: Some(now) }
}

fn set_container(pod: &mut Pod, state: ContainerState) {
    let container_id = match &state {
        ContainerState::Waiting { .. } | ContainerState::Unknown => None,
        _ => Some("containerd://1".to_owned()),
    };
    let name = "default".to_owned();
    pod.view.containers = vec![ContainerView { name, container_id, state, ..ContainerView::default() }];
}
