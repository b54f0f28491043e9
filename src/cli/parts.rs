//! `JOB:INDEX` and `JOB#INDEX`: children of arrays and nodes of multi-node jobs, which are no objects. What is known of
//! them is read from the array's records and from pods, with the user's own rights.

use std::collections::BTreeMap;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, ContainerOutcome, Current, Record};
use batchyard_core::pod::{ContainerRole, ContainerState, PodView};
use batchyard_core::reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::find;
use crate::crd::children::{Children, Indexes, Part, Whole, as_job};
use crate::crd::{BatchJob, BatchJobRecord};
use crate::k8s::{meta, observe};

/// Segments are up to 64 KiB each.
const SEGMENTS: u32 = 50;

/// A job as it was named, or some of its children or nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named<'a> {
    /// The job's name or id, or a beginning of it.
    pub(super) job: &'a str,
    /// What stands behind `:` or `#`.
    pub(super) parts: Option<Parts>,
}

/// Some children of an array, or nodes of a multi-node job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// True for `#`.
    pub(super) nodes: bool,
    /// Which.
    pub(super) indexes: Indexes,
}

impl<'a> Named<'a> {
    /// Reads `JOB`, `JOB:3,7-9` or `JOB#1`.
    ///
    /// # Errors
    /// When what stands behind the sign is no list of indexes.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let text = text.strip_prefix("batchjob.batchyard.io/").unwrap_or(text);
        let Some(at) = text.find([':', '#']) else { return Ok(Self { job: text, parts: None }) };
        let indexes = text[at + 1..].parse::<Indexes>().ok().filter(|indexes| !indexes.is_cut());
        let indexes = indexes.ok_or_else(|| {
            Error::usage(format!("{text}: expected indexes behind the job, such as 3 or 3,7-9"))
        })?;
        Ok(Self { job: &text[..at], parts: Some(Parts { nodes: text[at..].starts_with('#'), indexes }) })
    }
}

impl Parts {
    /// All parts that a job has, if it is an array or a multi-node job.
    pub(super) fn all(job: &BatchJob) -> Option<Self> {
        let (nodes, size) = (is_multi_node(job), size(job)?);
        (size > 0).then(|| Self { nodes, indexes: (0..size).collect() })
    }

    /// One part.
    pub(super) fn one(part: Part) -> Self {
        Self { nodes: matches!(part, Part::Node(_)), indexes: Indexes::one(part.index()) }
    }

    /// The part with this index.
    pub(super) fn part(&self, index: u32) -> Part {
        if self.nodes { Part::Node(index) } else { Part::Child(index) }
    }

    /// One after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = Part> {
        self.indexes.iter().map(|index| self.part(index))
    }

    /// The part, if only one is meant.
    pub(super) fn only(&self) -> Option<Part> {
        self.indexes.only().map(|index| self.part(index))
    }

    /// As they are named.
    pub(super) fn of(&self, job: &str) -> String {
        format!("{job}{}{}", if self.nodes { '#' } else { ':' }, self.indexes)
    }
}

/// True for a job that runs on several nodes at once.
pub(super) fn is_multi_node(job: &BatchJob) -> bool {
    let told = job.status.as_ref().is_some_and(|status| status.node_properties.is_some());
    told || job.spec.node_properties.is_some()
}

/// True for an array.
pub(super) fn is_array(job: &BatchJob) -> bool {
    job.spec.array_properties.is_some()
}

/// How many children or nodes a job has, if it has any and their number is known yet.
pub(super) fn size(job: &BatchJob) -> Option<u32> {
    let status = job.status.as_ref();
    let told = status.and_then(|status| status.array_properties.as_ref()?.size);
    let nodes = status.and_then(|status| status.node_properties.as_ref()?.num_nodes);
    let stated = job.spec.array_properties.as_ref().and_then(|array| array.size);
    let inline = job.spec.node_properties.as_ref().map(|nodes| nodes.num_nodes);
    told.or(nodes).or(stated).or(inline).and_then(|size| u32::try_from(size).ok())
}

/// A job, or parts of it that exist.
///
/// # Errors
/// When there is no such job, or it has no such parts.
pub(super) async fn find(cluster: &Cluster, text: &str) -> Result<(BatchJob, Option<Parts>)> {
    let named = Named::parse(text)?;
    let job = find::job(cluster, named.job).await?;
    if let Some(parts) = &named.parts {
        exist(&job, parts)?;
    }
    Ok((job, named.parts))
}

/// A job, or one part of it.
///
/// # Errors
/// As [`find`], and when several parts are named.
pub(super) async fn find_one(cluster: &Cluster, text: &str) -> Result<(BatchJob, Option<Part>)> {
    let (job, parts) = find(cluster, text).await?;
    let Some(parts) = parts else { return Ok((job, None)) };
    let one = parts.only().ok_or_else(|| Error::usage(format!("{text}: one index at a time")))?;
    Ok((job, Some(one)))
}

fn exist(job: &BatchJob, parts: &Parts) -> Result<()> {
    let (name, what) = (job.name_any(), if parts.nodes { "nodes" } else { "children" });
    let has = if parts.nodes { is_multi_node(job) } else { is_array(job) };
    if !has {
        let kind = if parts.nodes { "multi-node job" } else { "array" };
        return Err(Error::new(Kind::NotFound, format!("{name} is no {kind}: it has no {what}")));
    }
    match (size(job), parts.indexes.last()) {
        (Some(size), Some(last)) if last >= size => {
            let known = format!("{name} has {size} {what}, 0 to {}", size.saturating_sub(1));
            Err(Error::new(Kind::NotFound, known))
        }
        _ => Ok(()),
    }
}

/// What is known of the parts of a job.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// From the job's records.
    pub(super) children: Children,
    /// Pods that exist, by index.
    pods: BTreeMap<u32, Vec<PodView>>,
}

impl Known {
    /// Nothing yet; of what follows only these are kept.
    pub(super) fn new(only: Option<Indexes>) -> Self {
        Self { children: Children::new(only), pods: BTreeMap::new() }
    }

    /// Takes the pod of a part. One that is seen again takes the place of what was seen before.
    pub(super) fn take(&mut self, pod: &Pod) {
        if let Some((index, view)) = observe::index(pod).zip(observe::pod(pod)) {
            let pods = self.pods.entry(index).or_default();
            pods.retain(|known| known.uid != view.uid);
            pods.push(view);
            pods.sort_by_key(|pod| (pod.attempt, pod.placement));
        }
    }

    /// Forgets all pods.
    pub(super) fn forget_pods(&mut self) {
        self.pods.clear();
    }

    /// Forgets a pod that is gone.
    pub(super) fn lose(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        self.pods.values_mut().for_each(|pods| pods.retain(|known| known.uid != uid));
    }

    /// What is known of a part, as of a job.
    pub(super) fn record(&self, whole: &Whole<'_>, part: Part) -> Record {
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
    pub(super) fn existing(&self, parts: &Parts) -> Parts {
        let members = self.children.members();
        let indexes = members.map_or_else(|| parts.indexes.clone(), |members| parts.indexes.among(members));
        Parts { nodes: parts.nodes, indexes }
    }

    /// Refuses parts that there are not.
    pub(super) fn has(&self, job: &BatchJob, parts: &Parts) -> Result<()> {
        if self.existing(parts) == *parts {
            return Ok(());
        }
        let (name, members) = (job.name_any(), self.children.members().cloned().unwrap_or_default());
        let only = format!("{name} is a rerun, and only children {members} run again");
        Err(Error::new(Kind::NotFound, only))
    }

    /// A part as a job of its own.
    pub(super) fn job(&self, job: &BatchJob, part: Part) -> BatchJob {
        as_job(job, part, self.record(&Whole::of(job), part))
    }

    /// Uids of the pods of a part.
    pub(super) fn pod_uids(&self, part: Part) -> Vec<String> {
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

/// One part, as a job of its own.
///
/// # Errors
/// When it may not be seen, or there is none: in a rerun only some run again.
pub(super) async fn read_one(cluster: &Cluster, job: &BatchJob, part: Part) -> Result<BatchJob> {
    let parts = Parts::one(part);
    let known = read(cluster, job, &parts).await?;
    known.has(job, &parts)?;
    Ok(known.job(job, part))
}

/// Selects the records of a job.
pub(super) fn records_of(job: &BatchJob) -> String {
    format!("{}={}", meta::JOB_UID, job.uid().unwrap_or_default())
}

/// Selects the pods of a job's parts; of one part, where a label tells it.
pub(super) fn pods_of(job: &BatchJob, part: Option<Part>) -> String {
    let id = job.status.as_ref().and_then(|status| status.record.job_id.clone());
    let id = id.or_else(|| job.spec.job_id.clone()).or_else(|| job.uid()).unwrap_or_default();
    match part {
        Some(Part::Child(index)) => format!("{}={id},{}={index}", meta::JOB_ID, meta::INDEX),
        // Nodes' pods have their index in an annotation only.
        Some(Part::Node(_)) | None => format!("{}={id}", meta::JOB_ID),
    }
}

/// Reads what is known of these parts of a job.
///
/// # Errors
/// When records may not be listed. Pods that may not be listed are told of on standard error.
pub(super) async fn read(cluster: &Cluster, job: &BatchJob, parts: &Parts) -> Result<Known> {
    let mut known = Known::new(Some(parts.indexes.clone()));
    let records: Api<BatchJobRecord> = cluster.api();
    let mut params = ListParams::default().labels(&records_of(job)).limit(SEGMENTS);
    loop {
        let page = records.list(&params).await?;
        page.items.into_iter().for_each(|record| known.children.take(job, record));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    let over = job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal());
    // What ended with an array is on record, whole.
    if over && !parts.nodes {
        return Ok(known);
    }
    let of_them = ListParams::default().labels(&pods_of(job, parts.only())).limit(find::PAGE);
    match pods(cluster, of_them, parts, &mut known).await {
        Err(error) if error.kind() == Kind::Forbidden => {
            eprintln!("What runs now is not known: {error}");
            Ok(known)
        }
        read => read.map(|()| known),
    }
}

async fn pods(cluster: &Cluster, mut params: ListParams, parts: &Parts, known: &mut Known) -> Result<()> {
    loop {
        let page = cluster.api::<Pod>().list(&params).await?;
        let wanted = |pod: &&Pod| observe::index(pod).is_some_and(|index| parts.indexes.contains(index));
        page.items.iter().filter(wanted).for_each(|pod| known.take(pod));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn parts_are_named_behind_the_job() {
        let named =
            |text| Named::parse(text).map(|named| (named.job, named.parts.map(|parts| parts.of("j"))));
        assert_eq!(named("sweep").expect("a job"), ("sweep", None));
        assert_eq!(named("sweep:3,7-9").expect("children"), ("sweep", Some("j:3,7-9".into())));
        assert_eq!(named("batchjob.batchyard.io/ring#1").expect("a node"), ("ring", Some("j#1".into())));
        for wrong in ["sweep:", "sweep:x", "sweep:3,…", "sweep:1:2", "sweep:-1", "sweep#99999"] {
            let error = Named::parse(wrong).expect_err("refused");
            assert_eq!(error.kind(), Kind::Usage, "{wrong}: {error}");
        }
    }

    fn job(spec: Value, status: Value) -> BatchJob {
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "j", "uid": "u"}, "spec": spec, "status": status}))
        .expect("a job")
    }

    fn array() -> BatchJob {
        let status = json!({"phase": "PENDING", "jobId": "id", "arrayProperties": {"size": 4,
            "statusSummary": {"RUNNABLE": 4}, "indexes": {"RUNNABLE": "0-3"}}});
        job(json!({"jobQueue": "q", "arrayProperties": {"size": 4}}), status)
    }

    #[test]
    fn only_parts_that_there_are_can_be_named() {
        let parts = |text: &'static str| Named::parse(text).expect("a name").parts.expect("parts");
        assert!(exist(&array(), &parts("j:0-3")).is_ok());
        for (job, text, says) in [
            (array(), "j:4", "j has 4 children, 0 to 3"),
            (array(), "j#0", "j is no multi-node job"),
            (job(json!({"jobQueue": "q"}), json!({})), "j:0", "j is no array"),
        ] {
            let error = exist(&job, &parts(text)).expect_err("refused");
            assert!(error.to_string().contains(says), "{error}");
        }
        let nodes = job(json!({"jobQueue": "q"}), json!({"nodeProperties": {"numNodes": 3, "mainNode": 0}}));
        assert!(exist(&nodes, &parts("j#2")).is_ok());
        assert_eq!(Parts::all(&nodes).expect("nodes").of("j"), "j#0-2");
        assert_eq!(Parts::all(&job(json!({"jobQueue": "q"}), json!({}))), None);
    }

    fn pod(index: &str, attempt: u32, uid: &str, node: Option<&str>, state: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("j-{index}-{attempt}"), "uid": uid, "annotations": {
                meta::INDEX: index, meta::ATTEMPT: attempt.to_string(), meta::PLACEMENT: "0"}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"containerStatuses": [{"name": "default", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": state}]},
        }))
        .expect("a pod")
    }

    /// A record as the operator writes it.
    pub(in crate::cli) fn segment(job: &str, uid: &str, number: usize, children: Value) -> BatchJobRecord {
        let owner =
            json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": job, "uid": uid});
        let name = batchyard_core::name::record(job, uid, u32::try_from(number).unwrap_or(0));
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJobRecord",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"job": job, "jobUid": uid, "segment": number, "children": children}}))
        .expect("a record")
    }

    fn known(records: Value, pods: &[Pod]) -> Known {
        let mut known = Known::default();
        known.children.take(&array(), segment("j", "u", 0, records));
        pods.iter().for_each(|pod| known.take(pod));
        known
    }

    fn attempt_of(uid: &str) -> Value {
        json!({"attempt": 1, "podName": "j-1-1", "podUid": uid, "statusReason": "r", "container": {"exitCode": 1}})
    }

    #[test]
    fn a_pod_tells_where_a_child_is_until_its_end_is_on_record() {
        let running = json!({"running": {"startedAt": "2026-11-27T00:00:00Z"}});
        let over = json!({"terminated": {"exitCode": 0, "startedAt": "2026-11-27T00:00:00Z"}});
        let cases = [
            ("not bound", pod("1", 1, "a", None, json!({})), json!([]), Phase::Runnable),
            ("bound", pod("1", 1, "a", Some("n"), json!({"waiting": {}})), json!([]), Phase::Starting),
            ("runs", pod("1", 1, "a", Some("n"), running.clone()), json!([]), Phase::Running),
            (
                "ended, not on record yet",
                pod("1", 1, "a", Some("n"), over.clone()),
                json!([]),
                Phase::Running,
            ),
            (
                "on record as an attempt that failed",
                pod("1", 1, "a", Some("n"), over.clone()),
                json!([{"index": 1, "phase": "RUNNABLE", "attempts": [attempt_of("a")]}]),
                Phase::Runnable,
            ),
            (
                "the next attempt runs",
                pod("1", 2, "b", Some("n"), running.clone()),
                json!([{"index": 1, "phase": "RUNNABLE", "attempts": [attempt_of("a")]}]),
                Phase::Running,
            ),
            (
                "a late pod of an attempt that was counted",
                pod("1", 1, "late", Some("n"), running.clone()),
                json!([{"index": 1, "phase": "RUNNABLE", "attempts": [attempt_of("a")]}]),
                Phase::Runnable,
            ),
            (
                "the child has ended",
                pod("1", 1, "a", Some("n"), running.clone()),
                json!([{"index": 1, "phase": "FAILED", "statusReason": "enough"}]),
                Phase::Failed,
            ),
            ("another child's pod", pod("2", 1, "a", Some("n"), running.clone()), json!([]), Phase::Runnable),
            ("an index that is none", pod("x", 1, "a", Some("n"), running), json!([]), Phase::Runnable),
        ];
        for (title, pod, records, expected) in cases {
            let record = known(records, &[pod]).record(&Whole::of(&array()), Part::Child(1));
            assert_eq!(record.phase(), expected, "{title}");
            assert_eq!(
                record.current.is_some(),
                matches!(expected, Phase::Starting | Phase::Running),
                "{title}"
            );
        }
    }

    #[test]
    fn nodes_are_told_of_by_their_pods_and_the_main_node_by_the_job() {
        let status = json!({"phase": "RUNNING", "jobId": "id", "nodeProperties": {"numNodes": 3, "mainNode": 0},
            "current": {"attempt": 1, "podName": "j-0-1", "podUid": "m"}});
        let ring = job(json!({"jobQueue": "q"}), status);
        let running = json!({"running": {"startedAt": "2026-11-27T00:00:00Z"}});
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-11-27T00:00:00Z"}});
        let known =
            known(json!([]), &[pod("1", 1, "a", Some("n1"), running), pod("2", 1, "b", Some("n2"), killed)]);
        let record = |index| known.record(&Whole::of(&ring), Part::Node(index));
        assert_eq!((record(0).phase(), record(0).job_id.as_deref()), (Phase::Running, Some("id#0")));
        assert_eq!(record(0).current.map(|current| current.pod_name).as_deref(), Some("j-0-1"));
        assert_eq!(record(1).current.and_then(|current| current.node_name).as_deref(), Some("n1"));
        let ended = record(2);
        assert_eq!((ended.phase(), ended.attempts.len()), (Phase::Failed, 1));
        assert_eq!(ended.attempts[0].container.exit_code, Some(137));
        assert_eq!(ended.attempts[0].container.reason.as_deref(), Some("OOMKilled"));
    }

    #[test]
    fn pods_are_chosen_by_the_api_server() {
        assert_eq!(pods_of(&array(), None), "batchyard.io/job-id=id");
        assert_eq!(pods_of(&array(), Some(Part::Child(3))), "batchyard.io/job-id=id,batchyard.io/index=3");
        assert_eq!(pods_of(&array(), Some(Part::Node(3))), "batchyard.io/job-id=id");
        assert_eq!(records_of(&array()), "batchyard.io/job-uid=u");
    }
}
