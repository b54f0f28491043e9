//! A multi-node job in a small world: pods, hosts, kubelets, and an operator that stores the record, carries out the
//! actions, and makes the pods of the next round once those of the last one have gone.

#![allow(dead_code)] // each test target uses a part of it

use std::collections::BTreeMap;

use batchyard_core::job::decide::{Action, Deletion, Job, Readiness, Seen};
use batchyard_core::job::gang::{self, Decision, Gang};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::termination::Tolerances;
use batchyard_core::waits::Wait;
use jiff::{SignedDuration, Timestamp};

pub(crate) struct World {
    pub(crate) job: Job,
    pub(crate) record: Record,
    pub(crate) creating: bool,
    /// What the dispatcher says that the job waits for.
    pub(crate) waits_for: Option<Wait>,
    /// The address that was given to the workers of this round.
    pub(crate) published: Option<String>,
    pub(crate) removed_addresses: Vec<(u32, u32)>,
    /// What became of each node in the last attempt.
    pub(crate) ended: Vec<(u32, Attempt)>,
    pub(crate) gang: Gang,
    pub(crate) now: Timestamp,
    pods: BTreeMap<String, PodView>,
    nodes: BTreeMap<String, NodeView>,
    phases: BTreeMap<Phase, u32>,
    gated: bool,
    made: u32,
    last: Record,
}

impl World {
    pub(crate) fn new(nodes: u32, main: u32, attempts: u32) -> Self {
        Self::begin(nodes, main, attempts, false)
    }

    pub(crate) fn fenced(nodes: u32, main: u32, attempts: u32) -> Self {
        Self::begin(nodes, main, attempts, true)
    }

    fn begin(nodes: u32, main: u32, attempts: u32, gated: bool) -> Self {
        let timeout = SignedDuration::from_secs(300);
        let host = |n: u8| {
            let name = format!("n{n}");
            let instance = format!("i-{name}");
            (name.clone(), NodeView { name, instance, exists: true, ready: true, ..NodeView::default() })
        };
        let mut world = Self {
            job: Job { strategy: RetryStrategy { attempts, evaluate_on_exit: vec![] }, ..Job::default() },
            record: Record::default(),
            creating: false,
            waits_for: None,
            published: None,
            removed_addresses: vec![],
            ended: vec![],
            gang: Gang { nodes, main, timeout, grows: false, published_at: None },
            now: Timestamp::from_second(1_000_000).expect("a time"),
            pods: BTreeMap::new(),
            nodes: (0..3).map(host).collect(),
            phases: BTreeMap::new(),
            gated,
            made: 0,
            last: Record::default(),
        };
        world.look();
        world
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodView> {
        self.pods.values()
    }

    pub(crate) fn names(&self) -> Vec<(&String, bool, bool)> {
        self.pods.iter().map(|(name, pod)| (name, pod.held, pod.deleted_at.is_some())).collect()
    }

    pub(crate) fn nodes(&self) -> Vec<(Phase, u32)> {
        self.phases.iter().map(|(phase, count)| (*phase, *count)).collect()
    }

    /// What the next look would come to.
    pub(crate) fn decide(&self) -> Decision {
        let readiness = Readiness::Ready("d:1".to_owned());
        let pods = self.pods.values().cloned().collect();
        let (nodes, waits_for) = (self.nodes.clone(), self.waits_for.clone());
        let seen = Seen { pods, nodes, creating: self.creating, waits_for, ..Seen::default() };
        let tolerances =
            Tolerances { node_lost: Some(SignedDuration::from_secs(60)), ..Tolerances::default() };
        gang::decide(self.now, (&self.job, &self.gang), &readiness, &self.record, &seen, &tolerances)
    }

    /// The operator looks until nothing changes.
    pub(crate) fn look(&mut self) {
        for _ in 0..20 {
            let Decision { job, nodes, ended, address, over, .. } = self.decide();
            let round = (self.record.next_attempt(), self.record.next_placement());
            let changed = job.record != self.record;
            if !ended.is_empty() {
                self.ended = ended;
            }
            self.record = job.record;
            self.phases = nodes.unwrap_or_else(|| self.phases.clone());
            self.removed_addresses.extend(over);
            if let Some(address) = address {
                self.published = Some(address);
                self.gang.published_at = Some(self.now);
            }
            if (self.record.next_attempt(), self.record.next_placement()) != round {
                self.gang.published_at = None;
            }
            let acted = job.actions.iter().filter(|action| self.carry_out(action)).count();
            if !changed && acted == 0 && !self.make() {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.names(), self.decide());
    }

    fn carry_out(&mut self, action: &Action) -> bool {
        let (Action::Delete { pod, .. }
        | Action::Ungate { pod, .. }
        | Action::Start { pod, .. }
        | Action::Release { pod, .. }) = action;
        let now = self.now;
        let Some(found) = self.pods.get_mut(pod) else { return false };
        let before = found.clone();
        match action {
            Action::Delete { how: Deletion::IfUnbound, .. } if found.node_name.is_some() => {}
            Action::Delete { how, .. } => {
                found.deleted_at.get_or_insert(now);
                if *how == Deletion::Forced {
                    found.phase = PodPhase::Failed;
                }
            }
            Action::Ungate { .. } => found.gated = false,
            Action::Start { containers, .. } => found.opened.clone_from(containers),
            Action::Release { .. } => found.held = false,
        }
        let changed = *found != before;
        self.sweep();
        changed
    }

    /// Pods that were deleted go once nobody holds them and nothing of them runs.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| {
            let is_over =
                pod.node_name.is_none() || matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
            pod.deleted_at.is_none() || pod.held || !is_over
        });
    }

    /// The dispatcher makes all pods of the next round, once none of the last one takes room.
    fn make(&mut self) -> bool {
        let is_finished =
            |pod: &PodView| matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) && !pod.held;
        let wanted = self.record.phase() == Phase::Runnable && self.record.current.is_none();
        if !wanted || self.record.intent.is_some() || self.creating || !self.pods.values().all(is_finished) {
            return false;
        }
        if self.job.terminate.is_some() || self.job.cancel.is_some() {
            return false;
        }
        self.pods.clear();
        let (attempt, placement) = (self.record.next_attempt(), self.record.next_placement());
        for index in 0..self.gang.nodes {
            self.made += 1;
            let name = format!("job-{index}-{attempt}-{placement}");
            let pod = PodView {
                name: name.clone(),
                uid: format!("u{}", self.made),
                attempt,
                placement,
                index: Some(index),
                created_at: Some(self.now),
                compute_environment: Some("ce".to_owned()),
                log_stream: Some(format!("{name}/stream")),
                held: true,
                gated: self.gated,
                ..PodView::default()
            };
            self.pods.insert(name, pod);
        }
        true
    }

    /// Something happens to a pod of the newest round.
    pub(crate) fn change(&mut self, node: u32, change: impl FnOnce(&mut PodView)) {
        let pods = self.pods.values_mut().filter(|pod| pod.index == Some(node));
        if let Some(pod) = pods.max_by_key(|pod| (pod.attempt, pod.placement)) {
            change(pod);
        }
        self.sweep();
        self.look();
    }

    pub(crate) fn bind(&mut self, node: u32, host: &str) {
        let now = self.now;
        let is_there = self.nodes.get(host).is_some_and(|node| node.ready && !node.unschedulable);
        self.change(node, |pod| {
            if pod.node_name.is_none() && pod.deleted_at.is_none() && !pod.gated && is_there {
                pod.node_name = Some(host.to_owned());
                let ready = |kind: &str| PodCondition {
                    kind: kind.to_owned(),
                    status: true,
                    since: Some(now),
                    ..PodCondition::default()
                };
                pod.conditions =
                    vec![ready("PodScheduled"), ready("PodReadyToStartContainers"), ready("Initialized")];
                pod.containers = vec![container(ContainerState::Waiting { reason: None, message: None })];
            }
        });
    }

    pub(crate) fn start(&mut self, node: u32) {
        let now = self.now;
        self.change(node, |pod| {
            if is_waiting(pod) && pod.deleted_at.is_none() {
                pod.phase = PodPhase::Running;
                pod.containers = vec![container(ContainerState::Running { started_at: Some(now) })];
            }
        });
    }

    pub(crate) fn has_address(&mut self, node: u32, ip: &str) {
        self.change(node, |pod| pod.ip = pod.node_name.as_ref().map(|_| ip.to_owned()));
    }

    pub(crate) fn waits(&mut self, node: u32, word: &str, text: &str) {
        let (reason, message) = (Some(word.to_owned()), Some(text.to_owned()));
        self.change(node, |pod| {
            if is_waiting(pod) {
                pod.containers = vec![container(ContainerState::Waiting { reason, message })];
            }
        });
    }

    /// The log sidecar of a node waits, and with it the node's container.
    pub(crate) fn log_waits(&mut self, node: u32, word: &str) {
        let since = Some(self.now);
        let reason = Some(word.to_owned());
        self.change(node, |pod| {
            let sandbox = PodCondition {
                kind: "PodReadyToStartContainers".to_owned(),
                status: true,
                since,
                ..PodCondition::default()
            };
            pod.conditions = vec![sandbox];
            pod.init_containers = vec![ContainerView {
                name: "batchyard-log".to_owned(),
                role: ContainerRole::Sidecar,
                ..container(ContainerState::Waiting { reason, message: None })
            }];
        });
    }

    pub(crate) fn exit(&mut self, node: u32, code: i32) {
        let now = self.now;
        self.change(node, |pod| end(pod, code, now));
    }

    /// The kubelet does not take the pod.
    pub(crate) fn refuse(&mut self, node: u32) {
        self.change(node, |pod| {
            if is_waiting(pod) {
                pod.phase = PodPhase::Failed;
                pod.reason = Some("OutOfcpu".to_owned());
                pod.containers.clear();
            }
        });
    }

    pub(crate) fn user_deletes(&mut self, node: u32) {
        let now = self.now;
        self.change(node, |pod| {
            pod.deleted_at.get_or_insert(now);
        });
    }

    /// The pod is gone without a trace: somebody took our finalizer off.
    pub(crate) fn vanish(&mut self, node: u32) {
        let newest = self.pods.values().filter(|pod| pod.index == Some(node));
        let newest = newest.max_by_key(|pod| (pod.attempt, pod.placement)).map(|pod| pod.name.clone());
        newest.iter().for_each(|name| drop(self.pods.remove(name)));
        self.look();
    }

    /// Its pods are evicted, and stop.
    pub(crate) fn drain(&mut self, host: &str) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(host) {
            node.unschedulable = true;
        }
        for pod in self.pods.values_mut().filter(|pod| pod.node_name.as_deref() == Some(host)) {
            pod.deleted_at.get_or_insert(now);
            end(pod, 143, now);
        }
        self.sweep();
        self.look();
        if let Some(node) = self.nodes.get_mut(host) {
            node.unschedulable = false;
        }
        self.look();
    }

    /// It does not report any more.
    pub(crate) fn silence(&mut self, host: &str) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(host) {
            (node.ready, node.ready_since) = (false, Some(now));
        }
        self.look();
    }

    /// It is silent for good.
    pub(crate) fn lose(&mut self, host: &str) {
        self.silence(host);
        self.wait(61);
    }

    /// A notice says that it is about to be taken away.
    pub(crate) fn notice(&mut self, host: &str) {
        if let Some(node) = self.nodes.get_mut(host) {
            node.reclaimed = true;
        }
        self.look();
    }

    /// Somebody makes a pod that looks like one of the job's.
    pub(crate) fn add(&mut self, pod: PodView) {
        self.pods.insert(pod.name.clone(), pod);
        self.look();
    }

    /// The pod of a node in the newest round.
    pub(crate) fn pod(&self, node: u32) -> &PodView {
        let pods = self.pods.values().filter(|pod| pod.index == Some(node));
        pods.max_by_key(|pod| (pod.attempt, pod.placement)).expect("it has a pod")
    }

    /// Kubelets end what was deleted; those of lost hosts do not.
    pub(crate) fn kubelets_stop(&mut self) {
        let now = self.now;
        for pod in self.pods.values_mut().filter(|pod| pod.deleted_at.is_some()) {
            let host = pod.node_name.as_ref().and_then(|name| self.nodes.get(name));
            if host.is_some_and(|host| host.ready) {
                end(pod, 143, now);
                if matches!(pod.phase, PodPhase::Pending) {
                    pod.phase = PodPhase::Failed;
                }
            }
        }
        self.sweep();
        self.look();
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.look();
    }

    /// The operator starts anew.
    pub(crate) fn forget(&mut self) {
        self.gang.published_at = None;
        self.look();
    }

    /// What always holds.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let before = std::mem::replace(&mut self.last, self.record.clone());
        let record = &self.record;
        if before.phase().is_terminal() && before != *record {
            return Err(format!("it ended as {before:?} and is {record:?}"));
        }
        if !record.attempts.iter().zip(1..).all(|(attempt, number)| attempt.attempt == number) {
            return Err(format!("attempts are not numbered: {:?}", record.attempts));
        }
        if record.attempts.len() > self.job.strategy.attempts as usize {
            return Err("too many attempts".to_owned());
        }
        let works = |pod: &&PodView| !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
        let mut rounds: Vec<_> = self.pods().filter(works).map(|pod| (pod.attempt, pod.placement)).collect();
        rounds.dedup();
        rounds.sort_unstable();
        rounds.dedup();
        if rounds.len() > 1 {
            return Err(format!("two rounds at work: {:?}", self.names()));
        }
        let again = self.decide();
        if again.job.record != *record {
            return Err(format!("no rest: {record:?} becomes {:?}", again.job.record));
        }
        if record.phase().is_terminal() && self.pods().any(|pod| pod.held) {
            return Err(format!("held for a job that ended: {:?}", self.names()));
        }
        Ok(())
    }
}

fn is_waiting(pod: &PodView) -> bool {
    let waits = |container: &ContainerView| matches!(container.state, ContainerState::Waiting { .. });
    pod.node_name.is_some() && pod.phase == PodPhase::Pending && pod.containers.iter().all(waits)
}

fn container(state: ContainerState) -> ContainerView {
    let container_id = Some("containerd://1".to_owned());
    ContainerView {
        name: "default".to_owned(),
        container_id,
        role: ContainerRole::Essential,
        state,
        last_state: None,
        after: Vec::new(),
    }
}

fn end(pod: &mut PodView, exit_code: i32, now: Timestamp) {
    let Some(ContainerState::Running { started_at }) = pod.containers.first().map(|c| c.state.clone()) else {
        return;
    };
    pod.phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    let (reason, message) = (Some("Error".to_owned()), None);
    let ended = ContainerState::Terminated { exit_code, reason, message, started_at, finished_at: Some(now) };
    pod.containers = vec![container(ended)];
}
