//! From the caches to a snapshot: what one scheduling cycle decides on.

mod arrays;
pub mod environments;
pub mod gangs;
mod jobs;
mod line;
mod plans;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use batchyard_core::definition::nodes::Gang;
use batchyard_core::name;
use batchyard_core::queue::{Candidate, Queue, Snapshot};
use batchyard_core::waits::{self, Wait};
use jiff::Timestamp;
use kube::ResourceExt;

pub use environments::environment_closed;
use environments::{Pools, environments, rooms, take_room_of_unbound};
use jobs::{Jobs, World};
pub use jobs::{has_open_pod, is_wanted};
use plans::Plans;

use super::Dispatch;
use super::logging::Sidecars;
use crate::controllers::compute_environment::allows;
use crate::controllers::job_queue::is_failing_jobs;
use crate::crd::convert::Plan;
use crate::crd::{BatchJob, JobQueue};
use crate::k8s::caches::Caches;
use crate::k8s::capability;
use crate::k8s::notices::Notices;
use crate::k8s::pool::is_serverless;
use crate::k8s::watch::key;
use crate::settings::LoggingSettings;

/// What is kept between cycles.
#[derive(Default)]
pub struct Index {
    jobs: Jobs,
    /// What the jobs were looked at by; nothing before the first cycle.
    terms: Option<Terms>,
    /// What the jobs in line run.
    plans: Arc<Plans>,
    /// What log sidecars request.
    sidecars: Sidecars,
}

/// What the places of all jobs depend on, beside themselves. It changes when people change it.
#[derive(PartialEq, Eq)]
struct Terms {
    queues: BTreeMap<String, QueueTerms>,
    consumable_resources: BTreeSet<String>,
}

#[derive(PartialEq, Eq)]
struct QueueTerms {
    uid: Option<String>,
    is_failing_jobs: bool,
    closed: Option<String>,
    /// Which of its environments are serverless, as far as they exist.
    kinds: Vec<Option<bool>>,
    /// The policy that it names, and whether that exists.
    policy: Option<(String, bool)>,
}

/// One cycle's view, with what is needed to carry its verdicts out.
pub struct View {
    /// For `core::queue::schedule`.
    pub snapshot: Snapshot,
    /// The environments with their pools, by name.
    pub pools: Pools,
    /// Jobs that were moved to another queue while their pods wait for nodes, by key: those pods go.
    pub moved: Vec<String>,
}

/// A job that waits for a pod.
#[derive(Clone)]
pub struct Waiting {
    /// The job.
    pub job: Arc<BatchJob>,
    /// Its queue.
    pub queue: Arc<JobQueue>,
    /// What it runs.
    pub plan: Arc<Plan>,
    /// What it takes.
    pub candidate: Candidate,
    /// Which child of it, if it is an array, or which node, if it is a multi-node job.
    pub index: Option<u32>,
    /// The attempt that the pod is for.
    pub attempt: u32,
    /// Which pod of this attempt it is.
    pub placement: u32,
}

impl Index {
    /// An index that has seen nothing yet.
    pub fn new(settings: &LoggingSettings) -> Self {
        Self { sidecars: Sidecars::new(settings), ..Self::default() }
    }

    /// The nodes of a multi-node job that was admitted, each as something that waits for a pod of its own.
    pub fn nodes(&self, waiting: &Waiting, gang: &Gang, caches: &Caches) -> Vec<Waiting> {
        gangs::nodes(waiting, gang, caches, self.sidecars)
    }

    /// Looks at what changed in the caches, all of it if the terms did.
    pub fn view(&mut self, caches: &Caches, dispatch: &Dispatch, notices: &Notices, now: Timestamp) -> View {
        // Before the jobs are looked at: a pod that lets go of its room meanwhile lets go of it in the next cycle, in which its
        // job, if it is to be tried again, is in line before those that came after it.
        let (nodes, taken) = (caches.nodes.state(), caches.pods.taken());
        let objects = caches.queues.state();
        let mut queues: Vec<Queue> = objects.iter().map(|object| queue(object, caches, dispatch)).collect();
        // Of the same objects, and before the jobs are looked at: what comes meanwhile shows in the next cycle.
        let terms = Terms::of(&objects, caches);
        let plans = self.plans.clone();
        self.look(&queues, terms, World { caches, dispatch, plans: &plans, now, sidecars: self.sidecars });
        for queue in &mut queues {
            if let Some(line) = self.jobs.lines.get_mut(&queue.id) {
                line.tell(queue, now);
            }
        }
        let (environments, pools) = environments(caches, dispatch, &nodes, &taken.vcpus_milli, notices);
        let rooms = rooms(&nodes, &taken);
        let tokens = tokens::left(caches, dispatch, &taken.holders);
        let mut snapshot = Snapshot { queues, environments, nodes: rooms, tokens, now };
        take_room_of_unbound(&mut snapshot, caches, dispatch, &taken.unbound);
        View { snapshot, pools, moved: self.jobs.moved.iter().cloned().collect() }
    }

    /// RUNNABLE jobs that are no candidates, and what they wait for, by uid.
    pub fn others(&self) -> &BTreeMap<String, Wait> {
        &self.jobs.others
    }

    /// The jobs that are candidates, with their uids and the `namespace/name` of their queues.
    pub fn in_line(&self) -> impl Iterator<Item = (&str, &str, &BatchJob)> {
        self.jobs.in_line()
    }

    /// The job, or the child of an array, that a candidate's key names.
    pub fn waiting(&self, key: &str, caches: &Caches) -> Option<Waiting> {
        let (waits, candidate) = self.jobs.get(key)?;
        let queue = caches.queue_of(&waits.job)?;
        let (_, index) = name::whole(key);
        let record = match index {
            None => waits.job.status.as_ref()?.record.clone(),
            Some(_) => caches.record_of(key)?,
        };
        let (attempt, placement) = (record.next_attempt(), record.next_placement());
        let (job, plan) = (waits.job.clone(), waits.plan.clone());
        Some(Waiting { job, queue, plan, candidate, index, attempt, placement })
    }

    fn look(&mut self, queues: &[Queue], terms: Terms, world: World<'_>) {
        let changed: HashSet<String> = &world.caches.changed.take() | &world.dispatch.take_changed();
        let uids: HashSet<String> = if self.terms.as_ref() == Some(&terms) {
            changed.into_iter().chain(self.jobs.passing.iter().cloned()).collect()
        } else {
            let exists = |id: &String| queues.iter().any(|queue| queue.id == *id);
            self.jobs.lines.retain(|id, _| exists(id));
            for queue in queues {
                self.jobs.lines.entry(queue.id.clone()).or_default();
            }
            self.jobs.uids().into_iter().chain(world.caches.job_uids()).collect()
        };
        for queue in queues {
            if let Some(line) = self.jobs.lines.get_mut(&queue.id) {
                line.set_policy(queue.shares.as_ref());
            }
        }
        for uid in &uids {
            self.jobs.look(uid, world);
        }
        self.terms = Some(terms);
    }
}

impl Terms {
    fn of(queues: &[Arc<JobQueue>], caches: &Caches) -> Self {
        let queue = |queue: &Arc<JobQueue>| {
            let namespace = queue.namespace().unwrap_or_default();
            let policy = queue.spec.scheduling_policy_arn.clone();
            let terms = QueueTerms {
                uid: queue.uid(),
                is_failing_jobs: is_failing_jobs(queue),
                closed: closed(queue, "").map(|wait| wait.text),
                kinds: capability::kinds(queue, caches),
                policy: policy.map(|policy| {
                    let exists = caches.policy(&namespace, &policy).is_some();
                    (policy, exists)
                }),
            };
            (key(queue.as_ref()), terms)
        };
        let resources = caches.consumable_resources.state();
        Self {
            queues: queues.iter().map(queue).collect(),
            consumable_resources: resources.iter().map(|resource| key(resource.as_ref())).collect(),
        }
    }
}

/// Why a queue takes no new jobs.
pub fn closed(queue: &JobQueue, name: &str) -> Option<Wait> {
    if queue.metadata.deletion_timestamp.is_some() {
        return Some(waits::queue_deleting(name));
    }
    (!queue.spec.state.unwrap_or_default().is_enabled()).then(|| waits::queue_disabled(name))
}

fn queue(object: &JobQueue, caches: &Caches, dispatch: &Dispatch) -> Queue {
    let namespace = object.namespace().unwrap_or_default();
    let mut order = object.spec.compute_environment_order.clone();
    order.sort_by_key(|entry| entry.order);
    let mut environments = Vec::new();
    let mut obstacle = None;
    let mut kind = None;
    for entry in &order {
        let Some(environment) = caches.environment(&namespace, &entry.compute_environment) else { continue };
        let name = environment.name_any();
        // What is of another kind than the first makes the queue INVALID, and is not used.
        let serverless = is_serverless(&environment.spec);
        if *kind.get_or_insert(serverless) != serverless {
            continue;
        }
        if allows(&environment, &namespace, caches) {
            environments.push(name);
        } else {
            obstacle.get_or_insert_with(|| waits::namespace_not_allowed(&name, &namespace));
        }
    }
    Queue {
        id: key(object),
        priority: i64::from(object.spec.priority),
        environments,
        max_running: object.spec.max_running.and_then(|max| u32::try_from(max).ok()),
        obstacle,
        held: dispatch.held_namespace(&namespace),
        shares: line::shares(object, caches),
        head: dispatch.head(&key(object)),
        ..Queue::default()
    }
}
