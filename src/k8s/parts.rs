//! `id:3` and `id#1`: children of arrays and nodes of multi-node jobs, which are no objects. What is known of them is
//! folded from the job's records and from pods, whoever has read those.

use std::collections::BTreeMap;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Current, Record};
use batchyard_core::pod::{ContainerRole, ContainerState, PodView};
use batchyard_core::reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{meta, observe};
use crate::crd::BatchJob;
use crate::crd::children::{Children, Indexes, Part, Whole, as_job};

/// Some children of an array, or nodes of a multi-node job.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// True for `#`.
    pub nodes: bool,
    /// Which.
    pub indexes: Indexes,
}

impl Parts {
    /// All parts that a job has, if it is an array or a multi-node job.
    pub fn all(job: &BatchJob) -> Option<Self> {
        let (nodes, size) = (is_multi_node(job), size(job)?);
        (size > 0).then(|| Self { nodes, indexes: (0..size).collect() })
    }

    /// One part.
    pub fn one(part: Part) -> Self {
        Self { nodes: matches!(part, Part::Node(_)), indexes: Indexes::one(part.index()) }
    }

    /// The part with this index.
    pub fn part(&self, index: u32) -> Part {
        if self.nodes { Part::Node(index) } else { Part::Child(index) }
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Part> {
        self.indexes.iter().map(|index| self.part(index))
    }

    /// The part, if only one is meant.
    pub fn only(&self) -> Option<Part> {
        self.indexes.only().map(|index| self.part(index))
    }

    /// As they are named.
    pub fn of(&self, job: &str) -> String {
        format!("{job}{}{}", if self.nodes { '#' } else { ':' }, self.indexes)
    }
}

/// True for a job that runs on several nodes at once.
pub fn is_multi_node(job: &BatchJob) -> bool {
    let told = job.status.as_ref().is_some_and(|status| status.node_properties.is_some());
    told || job.spec.node_properties.is_some()
}

/// True for an array.
pub fn is_array(job: &BatchJob) -> bool {
    job.spec.array_properties.is_some()
}

/// How many children or nodes a job has, if it has any and their number is known yet.
pub fn size(job: &BatchJob) -> Option<u32> {
    let status = job.status.as_ref();
    let told = status.and_then(|status| status.array_properties.as_ref()?.size);
    let nodes = status.and_then(|status| status.node_properties.as_ref()?.num_nodes);
    let stated = job.spec.array_properties.as_ref().and_then(|array| array.size);
    let inline = job.spec.node_properties.as_ref().map(|nodes| nodes.num_nodes);
    told.or(nodes).or(stated).or(inline).and_then(|size| u32::try_from(size).ok())
}

/// Selects the records of a job.
pub fn records_of(job: &BatchJob) -> String {
    format!("{}={}", meta::JOB_UID, job.uid().unwrap_or_default())
}

/// Selects the pods of a job's parts; of one part, where a label tells it.
pub fn pods_of(job: &BatchJob, part: Option<Part>) -> String {
    let id = job.status.as_ref().and_then(|status| status.record.job_id.clone());
    let id = id.or_else(|| job.spec.job_id.clone()).or_else(|| job.uid()).unwrap_or_default();
    match part {
        Some(Part::Child(index)) => format!("{}={id},{}={index}", meta::JOB_ID, meta::INDEX),
        // Nodes' pods have their index in an annotation only.
        Some(Part::Node(_)) | None => format!("{}={id}", meta::JOB_ID),
    }
}

/// What is known of the parts of a job.
#[derive(Debug, Default)]
pub struct Known {
    /// From the job's records.
    pub children: Children,
    /// Pods that exist, by index.
    pods: BTreeMap<u32, Vec<PodView>>,
}

impl Known {
    /// Nothing yet; of what follows only these are kept.
    pub fn new(only: Option<Indexes>) -> Self {
        Self { children: Children::new(only), pods: BTreeMap::new() }
    }

    /// Takes the pod of a part. One that is seen again takes the place of what was seen before.
    pub fn take(&mut self, pod: &Pod) {
        if let Some((index, view)) = observe::index(pod).zip(observe::pod(pod)) {
            let pods = self.pods.entry(index).or_default();
            pods.retain(|known| known.uid != view.uid);
            pods.push(view);
            pods.sort_by_key(|pod| (pod.attempt, pod.placement));
        }
    }

    /// Forgets all pods.
    pub fn forget_pods(&mut self) {
        self.pods.clear();
    }

    /// Forgets a pod that is gone.
    pub fn lose(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        self.pods.values_mut().for_each(|pods| pods.retain(|known| known.uid != uid));
    }

    /// What is known of a part, as of a job.
    pub fn record(&self, whole: &Whole<'_>, part: Part) -> Record {
        let pods = self.pods.get(&part.index()).map(Vec::as_slice).unwrap_or_default();
        let entry = self.children.get(part.index());
        let record = whole.part(part, entry.as_ref(), None);
        match part {
            Part::Node(index) if entry.is_none() => node_without_entry(whole, index, record, pods),
            Part::Child(_) | Part::Node(_) => {
                let live = live(&record, pods);
                if live.is_some() { whole.part(part, entry.as_ref(), live) } else { record }
            }
        }
    }

    /// Those of these parts that there are: of a rerun, those that run again.
    pub fn existing(&self, parts: &Parts) -> Parts {
        let members = self.children.members();
        let indexes = members.map_or_else(|| parts.indexes.clone(), |members| parts.indexes.among(members));
        Parts { nodes: parts.nodes, indexes }
    }

    /// A part as a job of its own.
    pub fn job(&self, job: &BatchJob, part: Part) -> BatchJob {
        as_job(job, part, self.record(&Whole::of(job), part))
    }

    /// Uids of the pods of a part.
    pub fn pod_uids(&self, part: Part) -> Vec<String> {
        self.pods.get(&part.index()).into_iter().flatten().map(|pod| pod.uid.clone()).collect()
    }
}

/// The pod that a part has now, unless its end stands in the record.
fn live(record: &Record, pods: &[PodView]) -> Option<(Phase, Current)> {
    if record.phase().is_terminal() {
        return None;
    }
    let newest = pods.iter().rev().find(|pod| pod.attempt > 0 && !record.has_counted(&pod.uid))?;
    // One of an attempt that was counted already is about to be cleared away.
    (newest.attempt >= record.next_attempt()).then(|| now(newest))
}

fn now(pod: &PodView) -> (Phase, Current) {
    let started_at = main(pod).and_then(|state| started(state).0);
    let phase = match (&pod.node_name, main(pod)) {
        (None, _) => Phase::Runnable,
        (Some(_), Some(ContainerState::Running { .. } | ContainerState::Terminated { .. })) => Phase::Running,
        (Some(_), _) => Phase::Starting,
    };
    let current = Current {
        attempt: pod.attempt,
        placement: pod.placement,
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        compute_environment: pod.compute_environment.clone(),
        node_name: pod.node_name.clone(),
        started_at,
        ..Current::default()
    };
    (phase, current)
}

/// The state of the job's own container.
fn main(pod: &PodView) -> Option<&ContainerState> {
    let is_own = |role| matches!(role, ContainerRole::Essential | ContainerRole::Joint);
    let own = pod.containers.iter().find(|container| is_own(container.role))?;
    Some(&own.state)
}

/// When a container started and ended.
fn started(state: &ContainerState) -> (Option<Timestamp>, Option<Timestamp>) {
    match state {
        ContainerState::Unknown | ContainerState::Waiting { .. } => (None, None),
        ContainerState::Running { started_at } => (*started_at, None),
        ContainerState::Terminated { started_at, finished_at, .. } => (*started_at, *finished_at),
    }
}

/// A node of which no record tells: its pods do, as long as they are kept. The main node is told of by the job.
fn node_without_entry(whole: &Whole<'_>, index: u32, mut record: Record, pods: &[PodView]) -> Record {
    let told = whole.job.status.as_ref().and_then(|status| status.node_properties.as_ref()?.main_node);
    let inline = whole.job.spec.node_properties.as_ref().map(|nodes| nodes.main_node);
    if told.or(inline).is_some_and(|main| u32::try_from(main) == Ok(index)) {
        return Record { job_id: record.job_id, ..whole.record().clone() };
    }
    let job_over = record.phase().is_terminal();
    let (ended, alive): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| ended(pod).is_some());
    record.attempts = ended.iter().filter_map(|pod| self::ended(pod)).collect();
    if let Some(pod) = alive.last().filter(|_| !job_over) {
        let (phase, current) = now(pod);
        record.phase = Some(phase);
        record.started_at = current.started_at;
        record.current = Some(current).filter(|_| phase > Phase::Runnable);
        record.status_reason = None;
    } else if let Some(last) =
        record.attempts.last().filter(|last| job_over || last.attempt >= attempt(whole.record()))
    {
        let well = last.container.exit_code == Some(0);
        record.phase = Some(if well { Phase::Succeeded } else { Phase::Failed });
        record.status_reason = Some(last.status_reason.clone());
        (record.started_at, record.stopped_at) = (last.started_at, last.stopped_at);
    }
    record
}

/// The attempt that a job is in, or was in last.
fn attempt(record: &Record) -> u32 {
    record.current.as_ref().map_or(record.attempts.len() as u32, |current| current.attempt)
}

/// How a pod ended, as far as its container tells.
fn ended(pod: &PodView) -> Option<Attempt> {
    let Some(state @ ContainerState::Terminated { exit_code, reason, .. }) = main(pod) else { return None };
    let (started_at, stopped_at) = started(state);
    let container = ContainerOutcome {
        exit_code: Some(*exit_code),
        reason: reason.clone().filter(|reason| !matches!(reason.as_str(), "Completed" | "Error")),
    };
    Some(Attempt {
        attempt: pod.attempt,
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        compute_environment: pod.compute_environment.clone(),
        node_name: pod.node_name.clone(),
        started_at,
        stopped_at,
        status_reason: reason::ESSENTIAL_EXITED.to_owned(),
        container,
        ..Attempt::default()
    })
}
