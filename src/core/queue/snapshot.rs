//! The world as one cycle sees it.

use std::collections::BTreeMap;

use super::order::Rank;
use super::resources::Resources;

/// Queues with the jobs that wait in them, the environments they share, and the room on nodes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In any order; [`super::schedule()`] sorts.
    pub queues: Vec<Queue>,
    /// By name.
    pub environments: BTreeMap<String, Environment>,
    /// The nodes that may take a pod now.
    pub nodes: Vec<NodeRoom>,
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
    /// Why the queue has no environment to use, where the reason is not that none exists.
    pub obstacle: Option<String>,
    /// The jobs that wait, by rank.
    pub waiting: BTreeMap<Rank, Candidate>,
}

impl Queue {
    /// The queue's name, as people who work in its namespace know it.
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }
}

/// A job that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// vCPUs as the job states them, in thousandths: what `maxvCpus` bounds.
    pub vcpus_milli: i64,
    /// What its pod requests, before the environment's share of the CPU is applied.
    pub pod: Resources,
}

impl Candidate {
    /// What its pod requests in an environment.
    pub fn requests_in(&self, environment: &Environment) -> Resources {
        let percent = environment.cpu_percent.unwrap_or(100);
        Resources { cpu_milli: self.pod.cpu_milli * percent / 100, ..self.pod }
    }
}

/// A compute environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Why nothing new goes there, if so: it is DISABLED, INVALID or being deleted, for example.
    pub closed: Option<String>,
    /// `maxvCpus` in thousandths; `None` for an UNMANAGED environment.
    pub max_vcpus_milli: Option<i64>,
    /// vCPUs of the jobs that have a pod there, in thousandths.
    pub used_vcpus_milli: i64,
    /// The share of a job's vCPUs that its pod requests here, in percent; `None` for all of them.
    pub cpu_percent: Option<i64>,
    /// Indexes into [`Snapshot::nodes`] of its pool.
    pub nodes: Vec<usize>,
    /// The largest pod that an empty node of the pool could take.
    pub largest: Resources,
}

/// A node and what is free on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRoom {
    /// The node's name.
    pub name: String,
    /// Allocatable less the requests of the pods that are bound to it.
    pub free: Resources,
}

/// The answer for one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make its pod, for this environment.
    Admit {
        /// The environment's name.
        environment: String,
    },
    /// Not now; the text says what it waits for.
    Wait(String),
}
