//! Jobs as the index keeps them from cycle to cycle: what each is to its queue. Only those about which something
//! changed are looked at again, so that a cycle costs the same however many wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use batchyard_core::definition::Effective;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Placement, Record};
use batchyard_core::queue::{Candidate, Rank};
use batchyard_core::waits::{self, Wait};
use batchyard_core::{name, reason};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::line::{Line, Load};
use super::plans::Plans;
use super::{closed, gangs, tokens};
use crate::controllers::job_queue::is_failing_jobs;
use crate::crd::convert::Plan;
use crate::crd::{BatchJob, JobQueue};
use crate::dispatcher::{Dispatch, logging};
use crate::k8s::caches::Caches;
use crate::k8s::capability;
use crate::k8s::pods::AttemptPod;
use crate::k8s::watch::key;
use crate::k8s::{meta, observe};

/// What the jobs are to their queues.
#[derive(Default)]
pub(super) struct Jobs {
    entries: HashMap<String, Entry>,
    /// What the jobs of each queue come to, by the queue's `namespace/name`.
    pub(super) lines: BTreeMap<String, Line>,
    /// RUNNABLE jobs that are in no line, and what they wait for, by uid.
    pub(super) others: BTreeMap<String, Wait>,
    /// Those of them that wait for time to pass.
    pub(super) passing: BTreeSet<String>,
    /// Jobs that were moved to another queue while their pods wait for nodes, by uid.
    pub(super) moved: BTreeSet<String>,
}

/// What a job is to its queue.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) queue: Option<String>,
    /// In line there: once, but for an array, whose children may stand at two places.
    pub(super) waits: Vec<InLine>,
    /// Its pods, which count as jobs that run.
    pub(super) runs: u32,
    pub(super) load: Option<Load>,
    /// Attempts whose use of vCPUs is in the line's ledger.
    pub(super) counted: usize,
    /// The pods that are noted there as ones that run.
    pub(super) open: BTreeSet<String>,
}

/// A job in line.
pub(super) struct InLine {
    pub(super) job: Arc<BatchJob>,
    pub(super) plan: Arc<Plan>,
    pub(super) rank: Rank,
}

/// What the caches and the dispatcher say now.
#[derive(Clone, Copy)]
pub(super) struct World<'w> {
    pub(super) caches: &'w Caches,
    pub(super) dispatch: &'w Dispatch,
    pub(super) plans: &'w Plans,
    pub(super) now: Timestamp,
    /// What log sidecars request.
    pub(super) sidecars: logging::Sidecars,
}

/// What a job that may have a pod made waits for, or what the pod is made from.
pub(super) enum Standing {
    InLine {
        plan: Arc<Plan>,
        candidate: Candidate,
    },
    /// It waits for something else; if it is passing, for time to pass.
    Other {
        wait: Wait,
        passing: bool,
    },
    /// It can never run, which its controller says.
    Never,
}

impl Jobs {
    /// Those that are in line, with their uids and queues.
    pub(super) fn in_line(&self) -> impl Iterator<Item = (&str, &str, &BatchJob)> {
        self.entries.iter().filter_map(|(uid, entry)| {
            let (queue, waits) = (entry.queue.as_deref()?, entry.waits.first()?);
            Some((uid.as_str(), queue, waits.job.as_ref()))
        })
    }

    /// A job in line, or a child that stands there, by its key, and what it takes.
    pub(super) fn get(&self, key: &str) -> Option<(&InLine, Candidate)> {
        let (uid, index) = name::whole(key);
        let entry = self.entries.get(uid)?;
        let line = &self.lines.get(entry.queue.as_ref()?)?.waiting;
        entry.waits.iter().find_map(|waits| {
            let candidate = line.get(&waits.rank)?;
            let is_meant = match (&candidate.children, index) {
                (None, None) => true,
                (Some(children), Some(index)) => children.contains(index),
                (None, Some(_)) | (Some(_), None) => false,
            };
            is_meant.then(|| (waits, candidate.clone()))
        })
    }

    /// The uids of all jobs that are known.
    pub(super) fn uids(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Looks at a job again.
    pub(super) fn look(&mut self, uid: &str, world: World<'_>) {
        let mut before = self.take_out(uid);
        let Some(job) = world.caches.job(uid) else {
            self.end_use(&mut before, world.now);
            return;
        };
        if job.spec.array_properties.is_some() {
            return self.look_at_array(uid, &job, before, world);
        }
        let Some(record) = job.status.as_ref().map(|status| &status.record) else { return };
        let pods = world.caches.pods.of_job(uid);
        let is_gang = job.is_gang();
        let is_creating =
            world.dispatch.is_creating(uid) || is_gang && !world.dispatch.creating_children(uid).is_empty();
        let has_pod = is_creating || pods.iter().any(|pod| !pod.finished);
        let object = world.caches.queue_of(&job);
        let queue = object.as_deref().map(key).filter(|queue| self.lines.contains_key(queue));
        if before.queue.is_some() && before.queue != queue {
            self.end_use(&mut before, world.now);
        }
        let mut entry = Entry { queue, ..Entry::default() };
        let mut plan = before.waits.pop().map(|waits| waits.plan);
        let line = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue));
        // Without a ledger nothing is noted, and all is when there is one again.
        if let Some(line) = line.filter(|line| line.ledger.is_some()) {
            entry.load = load(&job, record, uid, &pods, world.dispatch);
            let vcpus_milli = || vcpus_milli(&mut plan, &job, world);
            let share = job.spec.share_identifier.as_deref().unwrap_or_default();
            let noted = (before.counted, before.open.pop_first());
            let (counted, open) = line.note_use(record, share, noted, vcpus_milli, world.now);
            (entry.counted, entry.open) = (counted, open.into_iter().collect());
        }
        let wanted = is_wanted(&job);
        let is_open = if is_gang { gangs::has_open_pod } else { has_open_pod };
        let open_pod = wanted && is_open(record, &pods);
        let held_back = is_gang.then(|| world.dispatch.held_back_part(uid)).flatten();
        if has_pod {
            entry.runs = 1;
            if wanted && object.is_some_and(|queue| is_placed_from_elsewhere(&pods, &queue)) {
                self.moved.insert(uid.to_owned());
            }
            if wanted && !is_creating && !open_pod {
                self.others.insert(uid.to_owned(), waits::last_pod());
            }
        } else if let Some(wait) = held_back.filter(|_| wanted && !open_pod) {
            // A pod of it was not taken: the others wait with it.
            self.stand_aside(uid, wait, true);
        } else if wanted && !open_pod && world.dispatch.refused(uid).is_none() {
            match standing(&job, uid, object.as_deref(), plan, world) {
                Standing::InLine { plan, candidate } => {
                    let rank = rank(&job, uid);
                    entry.waits.push(InLine { job, plan, rank: rank.clone() });
                    self.put_in_line(&entry, rank, candidate);
                }
                Standing::Other { wait, passing } => self.stand_aside(uid, wait, passing),
                Standing::Never => {}
            }
        }
        self.put_in(uid, entry);
    }

    /// A job in no line waits for this.
    pub(super) fn stand_aside(&mut self, uid: &str, wait: Wait, passing: bool) {
        self.others.insert(uid.to_owned(), wait);
        if passing {
            self.passing.insert(uid.to_owned());
        }
    }

    pub(super) fn put_in_line(&mut self, entry: &Entry, rank: Rank, candidate: Candidate) {
        if let Some(line) = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue)) {
            line.waiting.insert(rank, candidate);
        }
    }

    pub(super) fn put_in(&mut self, uid: &str, entry: Entry) {
        if let Some(line) = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue)) {
            line.running += entry.runs;
            entry.load.iter().for_each(|load| line.add(load));
        }
        // Of most jobs that have ended nothing needs to be known.
        if !entry.waits.is_empty() || entry.runs > 0 || entry.load.is_some() || entry.counted > 0 {
            self.entries.insert(uid.to_owned(), entry);
        }
    }

    /// Undoes what [`Jobs::look`] did.
    fn take_out(&mut self, uid: &str) -> Entry {
        self.others.remove(uid);
        self.passing.remove(uid);
        self.moved.remove(uid);
        let Some(entry) = self.entries.remove(uid) else { return Entry::default() };
        if let Some(line) = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue)) {
            line.running -= entry.runs;
            entry.load.iter().for_each(|load| line.remove(load));
            entry.waits.iter().for_each(|waits| drop(line.waiting.remove(&waits.rank)));
        }
        entry
    }

    /// A job that is deleted while it runs tells no end.
    pub(super) fn end_use(&mut self, entry: &mut Entry, now: Timestamp) {
        let line = entry.queue.as_ref().and_then(|queue| self.lines.get_mut(queue));
        let open = std::mem::take(&mut entry.open);
        if let Some(ledger) = line.and_then(|line| line.ledger.as_mut()) {
            open.iter().for_each(|pod| ledger.end(pod, now));
        }
    }
}

/// What a job adds to its share's use now. One that was not accepted, or waits for other jobs, makes no share active, or
/// no share would ever be one too many.
fn load(
    job: &BatchJob,
    record: &Record,
    uid: &str,
    pods: &[Arc<AttemptPod>],
    dispatch: &Dispatch,
) -> Option<Load> {
    let phase = record.phase();
    let share = job.spec.share_identifier.clone().unwrap_or_default();
    let used: i64 = pods.iter().filter(|pod| !pod.finished).map(|pod| pod.vcpus_milli).sum();
    let creating: i64 = dispatch.creating_of(uid).iter().map(|(_, found)| found.candidate.vcpus_milli).sum();
    (!phase.is_terminal() && phase > Phase::Pending).then_some(Load { share, now_milli: used + creating })
}

fn vcpus_milli(known: &mut Option<Arc<Plan>>, job: &BatchJob, world: World<'_>) -> Option<i64> {
    if known.is_none() {
        *known = world.plans.of(job, world.caches);
    }
    known.as_ref()?.vcpus_milli()
}

/// Where a job stands for which a pod may be made.
pub(super) fn standing(
    job: &BatchJob,
    uid: &str,
    queue: Option<&JobQueue>,
    known: Option<Arc<Plan>>,
    world: World<'_>,
) -> Standing {
    if let Some(wait) = obstacle(job, queue, world.caches) {
        return Standing::Other { wait, passing: false };
    }
    let pause = world.dispatch.held_back(uid).or_else(|| {
        let record = job.status.as_ref().map(|status| &status.record);
        record.and_then(|record| pause_after_placements(record, world.now))
    });
    if let Some(wait) = pause {
        return Standing::Other { wait, passing: true };
    }
    // Plans never change while a job waits.
    let Some(plan) = known.or_else(|| world.plans.of(job, world.caches)) else {
        let name = job.status.as_ref().and_then(|status| status.record.job_definition.clone());
        return Standing::Other { wait: waits::definition_missing(&name.unwrap_or_default()), passing: true };
    };
    if let Some(obstacle) = queue.and_then(|queue| capability::obstacle(&plan, queue, world.caches)) {
        // Where that is certain the job's controller, which hears of it, refuses the job.
        return Standing::Other { wait: obstacle.wait, passing: false };
    }
    match candidate(job, &plan, queue, world) {
        Some(candidate) => Standing::InLine { plan, candidate },
        None => Standing::Never,
    }
}

/// What keeps a job from being a candidate at all, beside its definition.
fn obstacle(job: &BatchJob, queue: Option<&JobQueue>, caches: &Caches) -> Option<Wait> {
    let named = &job.spec.job_queue;
    let Some(queue) = queue else { return Some(waits::queue_missing(named)) };
    if is_failing_jobs(queue) {
        return Some(waits::queue_deleting(named));
    }
    // A job that was moved is taken like a new one; those that are inside go on.
    let moved = job.status.as_ref().and_then(|status| status.job_queue.as_ref()) != Some(named);
    if moved && let Some(wait) = closed(queue, named) {
        return Some(wait);
    }
    let policy = queue.spec.scheduling_policy_arn.as_deref()?;
    if caches.policy(&job.namespace()?, policy).is_none() {
        return Some(waits::policy_missing(named, policy));
    }
    job.spec.share_identifier.is_none().then(|| waits::share_missing(named))
}

/// A job whose pods keep being lost before they start is tried less and less often.
pub(super) fn pause_after_placements(record: &Record, now: Timestamp) -> Option<Wait> {
    // One that was withdrawn had no node, and is placed again when its turn comes.
    let counts = |p: &&Placement| p.node_name.is_some() || reason::is_gang_back(&p.status_reason);
    let lost = record.placements.iter().filter(|p| p.attempt == record.next_attempt()).filter(counts);
    let (count, last) = lost.fold((0_u32, None), |(count, _), last| (count + 1, Some(last)));
    let pause = SignedDuration::from_secs(1 << count.saturating_sub(1).min(6));
    let since = last?.at?;
    (count > 1 && now.duration_since(since) < pause)
        .then(|| waits::placement(&last.map(|p| p.status_reason.clone()).unwrap_or_default()))
}

/// What a job takes; nothing if it can never run.
fn candidate(job: &BatchJob, plan: &Plan, queue: Option<&JobQueue>, world: World<'_>) -> Option<Candidate> {
    let World { caches, sidecars, .. } = world;
    let effective = plan.effective.as_ref().ok()?;
    let namespace = job.namespace().unwrap_or_default();
    let priority = job.spec.scheduling_priority_override.map_or(plan.scheduling_priority, i64::from);
    let requests = |effective: &Effective| {
        let mut requests = gangs::requests(&effective.amounts);
        requests.add(&logging::extra(effective, queue, caches, sidecars));
        requests
    };
    let nodes = plan.gang.as_ref().map(|gang| gangs::groups(gang, requests));
    let (gang, pod) = nodes.map_or_else(|| (None, requests(effective)), |(gang, pod)| (Some(gang), pod));
    Some(Candidate {
        vcpus_milli: plan.vcpus_milli()?,
        pod,
        share: job.spec.share_identifier.clone().unwrap_or_default(),
        priority,
        tokens: tokens::of(&plan.tokens, &namespace, caches),
        children: None,
        gang,
        cpu_as_stated: effective.cpu_as_stated(),
        gpus_by_name: effective.gpus_by_name(),
        port: plan.port(),
    })
}

/// The rank of a job in its queue.
pub(super) fn rank(job: &BatchJob, uid: &str) -> Rank {
    let record = job.status.as_ref().map(|status| &status.record);
    let has_run = record.is_some_and(Record::has_had_a_node);
    let created_at = job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let sequence = record.and_then(|record| record.sequence).unwrap_or_default();
    Rank { fresh: !has_run, created_at, sequence, uid: uid.to_owned() }
}

/// A job for which pods may be made: RUNNABLE, or an array whose children may run, and nobody wants it to end.
pub fn is_wanted(job: &BatchJob) -> bool {
    let Some(record) = job.status.as_ref().map(|status| &status.record) else { return false };
    let may_run = match job.spec.array_properties {
        None => record.phase() == Phase::Runnable,
        Some(_) => record.phase() == Phase::Pending && record.runnable_at.is_some(),
    };
    may_run
        && record.current.is_none()
        && record.intent.is_none()
        && job.metadata.deletion_timestamp.is_none()
        && job.spec.terminate.is_none()
        && job.spec.cancel.is_none()
}

/// True if a pod of the job that waits for a node was made for another queue: it may be where this one may not be.
fn is_placed_from_elsewhere(pods: &[Arc<AttemptPod>], queue: &JobQueue) -> bool {
    let own = name::slug(&queue.name_any());
    pods.iter().any(|pod| {
        let placed_from = pod.pod.labels().get(meta::JOB_QUEUE);
        !pod.finished
            && observe::node_name(&pod.pod).is_none()
            && placed_from.is_some_and(|name| *name != own)
    })
}

/// A pod whose outcome is not recorded yet.
pub fn has_open_pod(record: &Record, pods: &[Arc<AttemptPod>]) -> bool {
    pods.iter().any(|pod| !record.has_counted(&pod.pod.uid().unwrap_or_default()))
}
