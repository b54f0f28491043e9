//! From the caches to a snapshot: what one scheduling cycle decides on.

pub mod environments;
mod shares;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use batchyard_core::queue::{Candidate, Queue, Rank, Resources, Snapshot};
use batchyard_core::waits::{self, Wait};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

pub use environments::environment_closed;
use environments::{Pools, environments, rooms, take_room_of_unbound};
use shares::Usages;

use super::Dispatch;
use crate::controllers::compute_environment::allows;
use crate::controllers::job_queue::is_failing_jobs;
use crate::crd::convert::{self, Plan};
use crate::crd::{BatchJob, JobQueue};
use crate::k8s::caches::Caches;
use crate::k8s::notices::Notices;
use crate::k8s::watch::key;
use crate::k8s::{meta, observe};

/// What is kept between cycles.
#[derive(Default)]
pub struct Index {
    /// Plans of waiting jobs, which never change while they wait.
    plans: HashMap<String, Arc<Plan>>,
    /// What the shares of fair-share queues used.
    usages: Usages,
}

/// One cycle's view, with what is needed to carry its verdicts out.
pub struct View {
    /// For `core::queue::schedule`.
    pub snapshot: Snapshot,
    /// The jobs that wait, by uid.
    pub jobs: HashMap<String, Waiting>,
    /// The environments with their pools, by name.
    pub pools: Pools,
    /// RUNNABLE jobs that are no candidates, and what they wait for, by uid.
    pub others: BTreeMap<String, Wait>,
    /// Jobs that were moved to another queue while their pods wait for nodes, by uid: those pods go.
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
}

impl Index {
    /// Looks at the caches.
    pub fn view(&mut self, caches: &Caches, dispatch: &Dispatch, notices: &Notices, now: Timestamp) -> View {
        let nodes = caches.nodes.state();
        let (environments, pools) = environments(caches, dispatch, &nodes, notices);
        let rooms = rooms(caches, &nodes);
        let tokens = tokens::left(caches, dispatch);
        let mut snapshot = Snapshot { queues: Vec::new(), environments, nodes: rooms, tokens, now };
        take_room_of_unbound(&mut snapshot, caches, dispatch);

        let mut queues: BTreeMap<String, (Arc<JobQueue>, Queue)> = caches
            .queues
            .state()
            .into_iter()
            .map(|queue| (key(queue.as_ref()), (queue.clone(), self::queue(&queue, caches, dispatch))))
            .collect();
        let has_shares = queues.values().any(|(_, queue)| queue.shares.is_some());
        let mut jobs = HashMap::new();
        let (mut others, mut moved) = (BTreeMap::new(), Vec::new());
        let mut plans = HashMap::new();
        for job in caches.jobs() {
            let Some(uid) = job.uid() else { continue };
            let has_pod = dispatch.is_creating(&uid) || has_unfinished_pod(caches, &uid);
            // What a job used that has ended counts for its share, and for nothing else.
            if has_ended(&job) && !has_pod && !has_shares {
                continue;
            }
            let mut queue = queue_of(&job, caches, &mut queues);
            if let Some((_, queue)) = &mut queue {
                self.usages.note(&job, &uid, queue, caches, dispatch, now);
            }
            if has_pod {
                if let Some((object, queue)) = queue {
                    queue.running += 1;
                    if is_wanted(&job) && is_placed_from_elsewhere(caches, &uid, &object) {
                        moved.push(uid.clone());
                    }
                }
                if is_wanted(&job) && !dispatch.is_creating(&uid) && !has_open_pod(&job, caches, &uid) {
                    others.insert(uid, waits::last_pod());
                }
                continue;
            }
            if !is_wanted(&job) || has_open_pod(&job, caches, &uid) || dispatch.refused(&uid).is_some() {
                continue;
            }
            let plan = self.plans.remove(&uid).or_else(|| plan(&job, caches));
            match (
                obstacle(&job, &uid, queue.as_ref().map(|(object, _)| object), caches, dispatch, now),
                queue,
                plan,
            ) {
                (Some(wait), _, _) => {
                    others.insert(uid, wait);
                }
                (None, Some((object, queue)), Some(plan)) => {
                    plans.insert(uid.clone(), plan.clone());
                    let Some(candidate) = candidate(&job, &plan, caches) else { continue };
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
        self.usages.tell(&mut snapshot.queues, now);
        View { snapshot, jobs, pools, others, moved }
    }
}

/// What keeps a job from being a candidate at all, beside its definition.
fn obstacle(
    job: &BatchJob,
    uid: &str,
    queue: Option<&Arc<JobQueue>>,
    caches: &Caches,
    dispatch: &Dispatch,
    now: Timestamp,
) -> Option<Wait> {
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
    let policy = queue.spec.scheduling_policy_arn.as_deref();
    if let Some(policy) = policy.filter(|policy| caches.policy(&namespace, policy).is_none()) {
        return Some(waits::policy_missing(&job.spec.job_queue, policy));
    }
    if policy.is_some() && job.spec.share_identifier.is_none() {
        return Some(waits::share_missing(&job.spec.job_queue));
    }
    dispatch.held_back(uid, &namespace).or_else(|| pause_after_placements(job, now))
}

/// A job whose pods keep being lost before they start is tried less and less often.
fn pause_after_placements(job: &BatchJob, now: Timestamp) -> Option<Wait> {
    let record = &job.status.as_ref()?.record;
    // One that was withdrawn had no node, and is placed again when its turn comes.
    let lost =
        record.placements.iter().filter(|p| p.attempt == record.next_attempt() && p.node_name.is_some());
    let (count, last) = lost.fold((0_u32, None), |(count, _), last| (count + 1, Some(last)));
    let pause = SignedDuration::from_secs(1 << count.saturating_sub(1).min(6));
    let since = last?.at?;
    (count > 1 && now.duration_since(since) < pause)
        .then(|| waits::placement(&last.map(|p| p.status_reason.clone()).unwrap_or_default()))
}

/// Why a queue takes no new jobs.
pub fn closed(queue: &JobQueue, name: &str) -> Option<Wait> {
    if queue.metadata.deletion_timestamp.is_some() {
        return Some(waits::queue_deleting(name));
    }
    (!queue.spec.state.unwrap_or_default().is_enabled()).then(|| waits::queue_disabled(name))
}

/// A job's definition with its overrides, once the definition is resolved.
pub fn plan(job: &BatchJob, caches: &Caches) -> Option<Arc<Plan>> {
    caches.definition_of(job).map(|definition| Arc::new(convert::plan(&job.spec, &definition)))
}

/// What a job takes; nothing if it can never run.
fn candidate(job: &BatchJob, plan: &Plan, caches: &Caches) -> Option<Candidate> {
    let amounts = &plan.effective.as_ref().ok()?.amounts;
    let namespace = job.namespace().unwrap_or_default();
    let priority = job.spec.scheduling_priority_override.map_or(plan.scheduling_priority, i64::from);
    Some(Candidate {
        vcpus_milli: amounts.vcpus_milli,
        pod: Resources {
            cpu_milli: amounts.vcpus_milli,
            memory: amounts.memory_mib << 20,
            gpus: amounts.gpus,
            pods: 1,
        },
        share: job.spec.share_identifier.clone().unwrap_or_default(),
        priority,
        tokens: tokens::of(plan, &namespace, caches),
    })
}

fn rank(job: &BatchJob, uid: &str) -> Rank {
    let record = job.status.as_ref().map(|status| &status.record);
    let has_run = record.is_some_and(Record::has_had_a_node);
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

/// True if a pod of the job that waits for a node was made for another queue: it may be where this one may not be.
fn is_placed_from_elsewhere(caches: &Caches, uid: &str, queue: &JobQueue) -> bool {
    let own = name::slug(&queue.name_any());
    caches.pods.of_job(uid).iter().any(|pod| {
        let placed_from = pod.pod.labels().get(meta::JOB_QUEUE);
        !pod.finished
            && observe::node_name(&pod.pod).is_none()
            && placed_from.is_some_and(|name| *name != own)
    })
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

fn queue(object: &JobQueue, caches: &Caches, dispatch: &Dispatch) -> Queue {
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
        shares: shares::of(object, caches),
        head: dispatch.head(&key(object)),
        ..Queue::default()
    }
}
