//! From the caches to a snapshot: what one scheduling cycle decides on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::queue::schedule::tightest;
use batchyard_core::queue::{Candidate, Environment, NodeRoom, Queue, Rank, Resources, Snapshot};
use batchyard_core::waits;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::Dispatch;
use crate::controllers::compute_environment::allows;
use crate::controllers::job_queue::is_failing_jobs;
use crate::crd::compute_environment::EnvironmentType;
use crate::crd::convert::{self, Plan};
use crate::crd::shared::ResourceStatus;
use crate::crd::{BatchJob, ComputeEnvironment, JobQueue};
use crate::k8s::build::VCPU_REQUEST_PERCENT;
use crate::k8s::caches::Caches;
use crate::k8s::observe;
use crate::k8s::pool::Pool;
use crate::k8s::watch::key;
use crate::seeded_bugs::{Bug, has};

/// What is kept between cycles: plans of waiting jobs, which never change while they wait.
#[derive(Default)]
pub struct Index {
    plans: HashMap<String, Arc<Plan>>,
}

/// One cycle's view, with what is needed to carry its verdicts out.
pub struct View {
    /// For `core::queue::schedule`.
    pub snapshot: Snapshot,
    /// The jobs that wait, by uid.
    pub jobs: HashMap<String, Waiting>,
    /// The environments with their pools, by name.
    pub pools: HashMap<String, (Arc<ComputeEnvironment>, Arc<Pool>)>,
    /// RUNNABLE jobs that are no candidates, and what they wait for, by uid.
    pub others: BTreeMap<String, String>,
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
}

impl Index {
    /// Looks at the caches.
    pub fn view(&mut self, caches: &Caches, dispatch: &Dispatch, now: Timestamp) -> View {
        let nodes = caches.nodes.state();
        let (environments, pools) = environments(caches, dispatch, &nodes);
        let rooms = rooms(caches, &nodes);
        let mut snapshot = Snapshot { queues: Vec::new(), environments, nodes: rooms };
        take_room_of_unbound(&mut snapshot, caches, dispatch);

        let mut queues: BTreeMap<String, (Arc<JobQueue>, Queue)> = caches
            .queues
            .state()
            .into_iter()
            .map(|queue| (key(queue.as_ref()), (queue.clone(), self::queue(&queue, caches))))
            .collect();
        let mut jobs = HashMap::new();
        let mut others = BTreeMap::new();
        let mut plans = HashMap::new();
        for job in caches.jobs() {
            let Some(uid) = job.uid() else { continue };
            if has_ended(&job) && !has_unfinished_pod(caches, &uid) && !dispatch.is_creating(&uid) {
                continue;
            }
            let queue = queue_of(&job, caches, &mut queues);
            if dispatch.is_creating(&uid) || has_unfinished_pod(caches, &uid) {
                if let Some((_, queue)) = queue {
                    queue.running += 1;
                }
                if is_wanted(&job) && !dispatch.is_creating(&uid) && !has_open_pod(&job, caches, &uid) {
                    others.insert(uid, waits::LAST_POD.to_owned());
                }
                continue;
            }
            if !is_wanted(&job) || has_open_pod(&job, caches, &uid) || dispatch.refused(&uid).is_some() {
                continue;
            }
            let plan = self.plans.remove(&uid).or_else(|| plan(&job, caches));
            match (obstacle(&job, &uid, queue.as_ref().map(|(object, _)| object), dispatch, now), queue, plan)
            {
                (Some(text), _, _) => {
                    others.insert(uid, text);
                }
                (None, Some((object, queue)), Some(plan)) => {
                    plans.insert(uid.clone(), plan.clone());
                    let Ok(effective) = &plan.effective else { continue };
                    let candidate = candidate(&effective.amounts);
                    queue.waiting.insert(rank(&job, &uid), candidate.clone());
                    jobs.insert(uid, Waiting { job, queue: object.clone(), plan, candidate });
                }
                (None, _, _) => {
                    let name = job.status.as_ref().and_then(|status| status.record.job_definition.clone());
                    others.insert(uid, waits::definition_missing(&name.unwrap_or_default()));
                }
            }
        }
        self.plans = plans;
        snapshot.queues = queues.into_values().map(|(_, queue)| queue).collect();
        View { snapshot, jobs, pools, others }
    }
}

/// What keeps a job from being a candidate at all, beside its definition.
fn obstacle(
    job: &BatchJob,
    uid: &str,
    queue: Option<&Arc<JobQueue>>,
    dispatch: &Dispatch,
    now: Timestamp,
) -> Option<String> {
    let namespace = job.namespace().unwrap_or_default();
    let Some(queue) = queue else { return Some(waits::queue_missing(&job.spec.job_queue)) };
    if is_failing_jobs(queue) {
        return Some(waits::queue_deleting(&job.spec.job_queue));
    }
    // A job that was moved is taken like a new one; those that are inside go on.
    let moved = job.status.as_ref().and_then(|status| status.job_queue.as_ref()) != Some(&job.spec.job_queue);
    if moved && let Some(text) = closed(queue, &job.spec.job_queue) {
        return Some(text);
    }
    dispatch.held_back(uid, &namespace).or_else(|| pause_after_placements(job, now))
}

/// A job whose pods keep being lost before they start is tried less and less often.
fn pause_after_placements(job: &BatchJob, now: Timestamp) -> Option<String> {
    let record = &job.status.as_ref()?.record;
    let lost = record.placements.iter().filter(|p| p.attempt == record.next_attempt());
    let (count, last) = lost.fold((0_u32, None), |(count, _), last| (count + 1, Some(last)));
    let pause = SignedDuration::from_secs(1 << count.saturating_sub(1).min(6));
    let since = last?.at?;
    (count > 1 && now.duration_since(since) < pause)
        .then(|| waits::placement(&last.map(|p| p.status_reason.clone()).unwrap_or_default()))
}

/// Why a queue takes no new jobs.
pub fn closed(queue: &JobQueue, name: &str) -> Option<String> {
    if queue.metadata.deletion_timestamp.is_some() {
        return Some(waits::queue_deleting(name));
    }
    (!queue.spec.state.unwrap_or_default().is_enabled()).then(|| waits::queue_disabled(name))
}

/// A job's definition with its overrides, once the definition is resolved.
pub fn plan(job: &BatchJob, caches: &Caches) -> Option<Arc<Plan>> {
    caches.definition_of(job).map(|definition| Arc::new(convert::plan(&job.spec, &definition)))
}

fn candidate(amounts: &batchyard_core::definition::requirements::Amounts) -> Candidate {
    Candidate {
        vcpus_milli: amounts.vcpus_milli,
        pod: Resources {
            cpu_milli: amounts.vcpus_milli,
            memory: amounts.memory_mib << 20,
            gpus: amounts.gpus,
            pods: 1,
        },
    }
}

fn rank(job: &BatchJob, uid: &str) -> Rank {
    let record = job.status.as_ref().map(|status| &status.record);
    let has_run = record.is_some_and(|record| !record.attempts.is_empty() || !record.placements.is_empty());
    let created_at = job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let sequence = record.and_then(|record| record.sequence).unwrap_or_default();
    Rank { fresh: !has_run, created_at, sequence, uid: uid.to_owned() }
}

/// True for a job that a pod may be made: RUNNABLE, wanted, and without one.
pub fn is_waiting(job: &BatchJob, caches: &Caches) -> bool {
    is_wanted(job)
        && job.uid().is_some_and(|uid| !has_open_pod(job, caches, &uid))
        && !caches.is_terminating(&job.namespace().unwrap_or_default())
}

/// RUNNABLE, and nobody wants it to end.
fn is_wanted(job: &BatchJob) -> bool {
    let Some(record) = job.status.as_ref().map(|status| &status.record) else { return false };
    record.phase() == Phase::Runnable
        && record.current.is_none()
        && record.intent.is_none()
        && job.metadata.deletion_timestamp.is_none()
        && job.spec.terminate.is_none()
        && job.spec.cancel.is_none()
}

fn has_ended(job: &BatchJob) -> bool {
    job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal())
}

/// A pod whose outcome is not recorded yet.
fn has_open_pod(job: &BatchJob, caches: &Caches, uid: &str) -> bool {
    let record = job.status.as_ref().map(|status| &status.record);
    caches.pods.of_job(uid).iter().any(|pod| {
        let pod_uid = pod.pod.uid().unwrap_or_default();
        !record.is_some_and(|record| record.has_counted(&pod_uid))
    })
}

fn has_unfinished_pod(caches: &Caches, uid: &str) -> bool {
    caches.pods.of_job(uid).iter().any(|pod| !pod.finished)
}

fn queue_of<'q>(
    job: &BatchJob,
    caches: &Caches,
    queues: &'q mut BTreeMap<String, (Arc<JobQueue>, Queue)>,
) -> Option<(Arc<JobQueue>, &'q mut Queue)> {
    let found = key(caches.queue_of(job)?.as_ref());
    queues.get_mut(&found).map(|(object, queue)| (object.clone(), queue))
}

fn queue(object: &JobQueue, caches: &Caches) -> Queue {
    let namespace = object.namespace().unwrap_or_default();
    let mut order = object.spec.compute_environment_order.clone();
    order.sort_by_key(|entry| entry.order);
    let mut environments = Vec::new();
    let mut obstacle = None;
    for entry in &order {
        let Some(environment) = caches.environment(&namespace, &entry.compute_environment) else { continue };
        let name = environment.name_any();
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
        ..Queue::default()
    }
}

type Pools = HashMap<String, (Arc<ComputeEnvironment>, Arc<Pool>)>;

fn environments(
    caches: &Caches,
    dispatch: &Dispatch,
    nodes: &[Arc<Node>],
) -> (BTreeMap<String, Environment>, Pools) {
    let used = vcpus_in_use(caches);
    let mut environments = BTreeMap::new();
    let mut pools = HashMap::new();
    for object in caches.environments.state() {
        let name = object.name_any();
        let pool = Pool::of(&object.spec, nodes);
        let takers = nodes.iter().enumerate().filter(|(_, node)| pool.takes_pods(node));
        let (indexes, takers): (Vec<_>, Vec<_>) = takers.unzip();
        let largest = takers.iter().fold(Resources::default(), |l, node| l.max(&observe::allocatable(node)));
        let max =
            object.spec.compute_resources.as_ref().map(|resources| i64::from(resources.maxv_cpus) * 1000);
        let environment = Environment {
            closed: environment_closed(&object, dispatch),
            max_vcpus_milli: max
                .filter(|_| object.spec.type_ == EnvironmentType::Managed && !has(Bug::AdmitsTooMuch)),
            used_vcpus_milli: used.get(&name).copied().unwrap_or(0),
            cpu_percent: Some(object.spec.vcpu_request_percent.map_or(VCPU_REQUEST_PERCENT, i64::from)),
            nodes: indexes,
            largest,
        };
        environments.insert(name.clone(), environment);
        pools.insert(name, (object, Arc::new(pool)));
    }
    (environments, pools)
}

/// Why an environment takes nothing new, if so. Its status counts only if it is about the spec that
/// the pods would be made from.
pub fn environment_closed(environment: &ComputeEnvironment, dispatch: &Dispatch) -> Option<String> {
    let name = environment.name_any();
    let status = environment.status.as_ref();
    let is_off = environment.metadata.deletion_timestamp.is_some()
        || !environment.spec.state.unwrap_or_default().is_enabled();
    if is_off {
        return Some(waits::environment_closed(&name));
    }
    if status.and_then(|status| status.observed_generation) != environment.metadata.generation {
        return Some(waits::environment_settling(&name));
    }
    match dispatch.refusal_of(environment) {
        // INVALID for what the API server said: it is asked again now and then.
        Some(refusal) => refusal.is_fresh().then(|| refusal.waits(&name)),
        None => {
            let is_valid = status.and_then(|status| status.status) == Some(ResourceStatus::Valid);
            (!is_valid).then(|| waits::environment_closed(&name))
        }
    }
}

fn vcpus_in_use(caches: &Caches) -> HashMap<String, i64> {
    let mut used = HashMap::new();
    for pod in caches.pods.attempts().into_iter().filter(|pod| !pod.finished) {
        let used: &mut i64 = used.entry(pod.environment).or_insert(0);
        *used = used.saturating_add(pod.vcpus_milli);
    }
    used
}

fn rooms(caches: &Caches, nodes: &[Arc<Node>]) -> Vec<NodeRoom> {
    let used = caches.pods.used_by_node();
    let room = |node: &Arc<Node>| {
        let name = node.name_any();
        let mut free = observe::allocatable(node);
        if let Some(used) = used.get(&name) {
            free.charge(used);
        }
        NodeRoom { name, free }
    };
    nodes.iter().map(room).collect()
}

/// Pods that are not bound yet, or not even seen, will take room on some node of their pool.
fn take_room_of_unbound(snapshot: &mut Snapshot, caches: &Caches, dispatch: &Dispatch) {
    let mut charges: Vec<(String, Resources)> = Vec::new();
    for attempt in caches.pods.attempts() {
        if !attempt.finished && observe::node_name(&attempt.pod).is_none() {
            charges.push((attempt.environment, observe::requests(&attempt.pod)));
        }
    }
    for creating in dispatch.creating().into_values() {
        if let Some(environment) = snapshot.environments.get_mut(&creating.environment) {
            environment.used_vcpus_milli += creating.candidate.vcpus_milli;
            let requests = creating.candidate.requests_in(environment);
            charges.push((creating.environment, requests));
        }
    }
    for (environment, requests) in charges {
        let Some(environment) = snapshot.environments.get(&environment) else { continue };
        if let Some(node) = tightest(environment, &snapshot.nodes, &requests) {
            snapshot.nodes[node].free.charge(&requests);
        }
    }
}
