//! The world as one cycle sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;

use super::order::Rank;
use super::resources::Resources;
use super::share::Shares;
use super::waiting::Waiting;
use crate::waits::Wait;

/// Queues with the jobs that wait in them, the environments they share, and the room on nodes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In any order; [`super::schedule()`] sorts.
    pub queues: Vec<Queue>,
    /// By name.
    pub environments: BTreeMap<String, Environment>,
    /// The nodes that may take a pod now.
    pub nodes: Vec<NodeRoom>,
    /// What is left of each ConsumableResource, by `namespace/name`; one that does not exist is absent.
    pub tokens: BTreeMap<String, i64>,
    /// The time.
    pub now: Timestamp,
}

/// A queue and what waits in it.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// `namespace/name`.
    pub id: String,
    /// Higher goes first among queues that share an environment.
    pub priority: i64,
    /// Names of its environments, in the queue's order.
    pub environments: Vec<String>,
    /// `maxRunning`: how many jobs of the queue may have a pod at a time.
    pub max_running: Option<u32>,
    /// How many have one.
    pub running: u32,
    /// What keeps all of its jobs, wherever they could go.
    pub held: Option<Wait>,
    /// Why the queue has no environment to use, where the reason is not that none exists.
    pub obstacle: Option<Wait>,
    /// How its shares divide it; `None` for a FIFO queue.
    pub shares: Option<Shares>,
    /// The job that was at its head when the last cycle ended, by its key, and since when.
    pub head: Option<(String, Timestamp)>,
    /// The jobs that wait.
    pub waiting: Waiting,
}

impl Queue {
    /// The queue's name, as people who work in its namespace know it.
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.id.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// A job that waits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// vCPUs as the job states them, in thousandths, of all nodes of a multi-node job: what `maxvCpus` bounds.
    pub vcpus_milli: i64,
    /// What its pod requests, before the environment's share of the CPU is applied; of a multi-node job the largest.
    pub pod: Resources,
    /// Its share; counts in fair-share queues.
    pub share: String,
    /// Its schedulingPriority; counts within its share.
    pub priority: i64,
    /// How many tokens it takes of each ConsumableResource, by `namespace/name`.
    pub tokens: Vec<(String, i64)>,
    /// The children of an array that wait at this place, by index: each takes what is said here. `None` for a job that
    /// is no array.
    pub children: Option<Arc<RoaringBitmap>>,
    /// The nodes of a multi-node job, which start together or not at all. `None` for a job of one pod.
    pub gang: Option<Arc<[Group]>>,
    /// Its pod requests the CPU that is stated, whatever share of it the environment has others request.
    pub cpu_as_stated: bool,
    /// The GPUs that its pod takes where they are counted by one of these resources, which it names itself.
    pub gpus_by_name: BTreeMap<String, i64>,
    /// The port of an interactive session.
    pub port: Option<SessionPort>,
}

/// The port that people connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPort {
    /// Its number; TCP.
    pub number: u16,
    /// It is a port of the node whatever network its pod has.
    pub of_node: bool,
    /// Whether its pod has its node's network; nothing if that is the environment's to say.
    pub network: Option<bool>,
}

impl SessionPort {
    /// The port of the node that it takes in an environment, given whether pods have their node's network there.
    pub fn on_node(self, host_network: bool) -> Option<u16> {
        (self.of_node || self.network.unwrap_or(host_network)).then_some(self.number)
    }
}

/// Nodes of a multi-node job whose pods are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// What each of their pods requests, before the environment's share of the CPU is applied.
    pub pod: Resources,
    /// The instance type that they want.
    pub instance_type: Option<String>,
    /// Their pods request the CPU that is stated.
    pub cpu_as_stated: bool,
    /// As [`Candidate::gpus_by_name`].
    pub gpus_by_name: BTreeMap<String, i64>,
}

impl Group {
    fn need_in(&self, environment: &Environment) -> Need<'_> {
        let instance_type = self.instance_type.as_deref();
        let pod = environment.requests(self.pod, self.cpu_as_stated, &self.gpus_by_name);
        Need { count: self.count, pod, instance_type, port: None }
    }
}

/// Pods that are alike, as an environment sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'c> {
    pub(super) count: usize,
    pub(super) pod: Resources,
    pub(super) instance_type: Option<&'c str>,
    /// A port of the node, of a session; those have one pod.
    pub(super) port: Option<u16>,
}

impl Need<'_> {
    /// True if the node is of the type that is wanted, if one is.
    pub(super) fn wants(&self, node: &NodeRoom) -> bool {
        self.instance_type.is_none_or(|wanted| node.instance_type.as_deref() == Some(wanted))
    }

    /// True if the port that is needed, if one is, is not another pod's there.
    pub(super) fn has_its_port_on(&self, node: &NodeRoom) -> bool {
        self.port.is_none_or(|port| !node.ports.contains(&port))
    }
}

impl Candidate {
    /// How many jobs wait here: the children of an array, each; a multi-node job is one.
    pub fn count(&self) -> usize {
        self.children.as_ref().map_or(1, |children| usize::try_from(children.len()).unwrap_or(usize::MAX))
    }

    /// How many pods start together.
    pub(super) fn pods(&self) -> usize {
        self.gang.as_ref().map_or(1, |groups| groups.iter().map(|group| group.count).sum())
    }

    /// What its pod requests in an environment.
    pub fn requests_in(&self, environment: &Environment) -> Resources {
        environment.requests(self.pod, self.cpu_as_stated, &self.gpus_by_name)
    }

    /// The port of a node that it takes in an environment.
    pub fn port_in(&self, environment: &Environment) -> Option<u16> {
        self.port.and_then(|port| port.on_node(environment.host_network))
    }

    /// What its pods request in an environment, the largest first.
    pub(super) fn needs_in(&self, environment: &Environment) -> Vec<Need<'_>> {
        let Some(groups) = &self.gang else {
            let (pod, port) = (self.requests_in(environment), self.port_in(environment));
            return vec![Need { count: 1, pod, instance_type: None, port }];
        };
        let mut needs: Vec<_> = groups.iter().map(|group| group.need_in(environment)).collect();
        needs.sort_by_key(|need| std::cmp::Reverse((need.pod.gpus, need.pod.cpu_milli, need.pod.memory)));
        needs
    }
}

/// A compute environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Why nothing new goes there, if so: it is DISABLED, INVALID or being deleted, for example.
    pub closed: Option<Wait>,
    /// It is INVALID, whatever else keeps it closed.
    pub invalid: bool,
    /// `maxvCpus` in thousandths; `None` for an UNMANAGED environment.
    pub max_vcpus_milli: Option<i64>,
    /// `unmanagedvCpus` in thousandths: what shares of an UNMANAGED environment have reservations of.
    pub unmanaged_vcpus_milli: Option<i64>,
    /// vCPUs of the jobs that have a pod there, in thousandths.
    pub used_vcpus_milli: i64,
    /// The share of a job's vCPUs that its pod requests here, in percent; `None` for all of them.
    pub cpu_percent: Option<i64>,
    /// What `allowedNamespaces` say of each namespace that has a queue; `None` if they are not stated.
    pub tenants: Option<BTreeMap<String, Tenant>>,
    /// Set if new nodes come for pods that wait.
    pub provisioned: Option<Provisioned>,
    /// Indexes into [`Snapshot::nodes`] of its pool.
    pub nodes: Vec<usize>,
    /// The largest pod that an empty node of the pool could take.
    pub largest: Resources,
    /// The resource that its GPUs are counted by, if it is another than the usual one.
    pub gpu: Option<String>,
    /// None of its nodes has GPUs, whichever may come.
    pub without_gpus: bool,
    /// Pods have their node's network here.
    pub host_network: bool,
}

impl Environment {
    /// What a pod requests here.
    fn requests(
        &self,
        pod: Resources,
        cpu_as_stated: bool,
        gpus_by_name: &BTreeMap<String, i64>,
    ) -> Resources {
        let percent = self.cpu_percent.filter(|_| !cpu_as_stated).unwrap_or(100);
        let named = self.gpu.as_ref().and_then(|name| gpus_by_name.get(name)).copied();
        Resources { cpu_milli: pod.cpu_milli * percent / 100, gpus: named.unwrap_or(pod.gpus), ..pod }
    }

    /// The priority that a queue has here.
    pub(super) fn priority_of(&self, queue: &Queue) -> i64 {
        let at_most = self.tenant(queue.namespace()).and_then(|tenant| tenant.max_priority);
        at_most.map_or(queue.priority, |max| queue.priority.min(max))
    }

    /// What a namespace uses for its weight, as a number that grows with it.
    pub(super) fn load_of(&self, namespace: &str) -> u64 {
        let Some(tenant) = self.tenant(namespace) else { return 0 };
        let load = tenant.used_vcpus_milli.max(0) as f64 / f64::from(tenant.weight.max(1));
        // The bits of floating numbers that are not negative are in the numbers' order.
        load.to_bits()
    }

    pub(super) fn tenant(&self, namespace: &str) -> Option<&Tenant> {
        self.tenants.as_ref()?.get(namespace)
    }
}

/// A namespace in an environment that states who may use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// The vCPUs that it may use at a time, in thousandths.
    pub max_vcpus_milli: Option<i64>,
    /// The vCPUs that it uses, in thousandths.
    pub used_vcpus_milli: i64,
    /// The highest priority that its queues have.
    pub max_priority: Option<i64>,
    /// Its weight against others of the same priority.
    pub weight: u32,
}

/// An environment to which nodes come when pods wait for them.
#[derive(Clone, Debug, Default)]
pub struct Provisioned {
    /// How many pods may wait for nodes at a time.
    pub window: usize,
    /// How many pods are being made and are not seen yet, or cannot be withdrawn: those of a multi-node job of which a
    /// part has a node.
    pub unseen: usize,
    /// Pods without a node that are going, and the vCPUs that they free, in thousandths: what they free need not be
    /// taken from others.
    pub leaving: usize,
    /// See [`Provisioned::leaving`].
    pub leaving_milli: i64,
    /// The pods that wait for nodes.
    pub unbound: Vec<Unbound>,
    /// `capacityTimeoutSeconds`: a pod that waits for longer goes elsewhere, if it can.
    pub capacity_timeout: Option<SignedDuration>,
    /// For what no node came of late: a pod that needs as much is not tried.
    pub short_of: Vec<Resources>,
}

impl Provisioned {
    /// How many pods wait for nodes, those that are going left out.
    pub(super) fn waiting(&self) -> usize {
        self.unbound.iter().map(|pod| pod.count).sum::<usize>() + self.unseen
    }
}

/// A pod that waits for a node, or all those of a multi-node job, which go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// Its job, or which child of an array it runs: see [`crate::name::part`].
    pub key: String,
    /// Its queue, as `namespace/name`.
    pub queue: String,
    /// The priority of its queue here.
    pub priority: i64,
    /// The rank of its job, as it waited.
    pub rank: Rank,
    /// The index of the child that it runs, of an array.
    pub child: Option<u32>,
    /// How many pods they are.
    pub count: usize,
    /// Its vCPUs, in thousandths, of all of them.
    pub vcpus_milli: i64,
    /// What it requests; of several the largest.
    pub pod: Resources,
    /// When it was made.
    pub since: Timestamp,
}

/// How long jobs of other queues may overtake the head of a queue. After that what becomes free is kept for it.
pub const OVERTAKING: SignedDuration = SignedDuration::from_mins(10);

/// A node and what is free on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRoom {
    /// The node's name.
    pub name: String,
    /// Allocatable less the requests of the pods that are bound to it.
    pub free: Resources,
    /// Allocatable.
    pub size: Resources,
    /// Its `node.kubernetes.io/instance-type`.
    pub instance_type: Option<String>,
    /// What is free and what is allocatable of resources of other names, which may be GPUs to an environment.
    pub others: BTreeMap<String, (i64, i64)>,
    /// The TCP ports of the node that pods have.
    pub ports: BTreeSet<u16>,
}

impl NodeRoom {
    /// What is free for pods of an environment: GPUs are what it says they are.
    pub fn free_in(&self, environment: &Environment) -> Resources {
        self.counted(self.free, environment, |(free, _)| *free)
    }

    /// What an environment's pods could have if nothing else ran here.
    pub fn size_in(&self, environment: &Environment) -> Resources {
        self.counted(self.size, environment, |(_, size)| *size)
    }

    fn counted(
        &self,
        amounts: Resources,
        environment: &Environment,
        of: fn(&(i64, i64)) -> i64,
    ) -> Resources {
        match &environment.gpu {
            None => amounts,
            Some(name) => Resources { gpus: self.others.get(name).map_or(0, of), ..amounts },
        }
    }

    /// Takes what a pod of an environment requests.
    pub fn charge(&mut self, environment: &Environment, pod: &Resources, port: Option<u16>) {
        self.ports.extend(port);
        let Some(name) = &environment.gpu else { return self.free.charge(pod) };
        self.free.charge(&Resources { gpus: 0, ..*pod });
        if let Some((free, _)) = self.others.get_mut(name) {
            *free = free.saturating_sub(pod.gpus);
        }
    }
}

/// The answer for one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make its pod, for this environment.
    Admit {
        /// The environment's name.
        environment: String,
    },
    /// Not now.
    Wait(Wait),
}
