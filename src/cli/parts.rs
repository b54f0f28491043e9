//! `JOB:INDEX` and `JOB#INDEX`: children of arrays and nodes of multi-node jobs, which are no objects. What is known of
//! them is read from the array's records and from pods, with the user's own rights.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::find;
use crate::crd::children::{Indexes, Part};
use crate::crd::{BatchJob, BatchJobRecord};
use crate::k8s::observe;
pub(super) use crate::k8s::parts::{Known, Parts, is_array, is_multi_node, pods_of, records_of, size};

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

/// Refuses parts that there are not.
pub(super) fn has(known: &Known, job: &BatchJob, parts: &Parts) -> Result<()> {
    if known.existing(parts) == *parts {
        return Ok(());
    }
    let (name, members) = (job.name_any(), known.children.members().cloned().unwrap_or_default());
    let only = format!("{name} is a rerun, and only children {members} run again");
    Err(Error::new(Kind::NotFound, only))
}

/// One part, as a job of its own.
///
/// # Errors
/// When it may not be seen, or there is none: in a rerun only some run again.
pub(super) async fn read_one(cluster: &Cluster, job: &BatchJob, part: Part) -> Result<BatchJob> {
    let parts = Parts::one(part);
    let known = read(cluster, job, &parts).await?;
    has(&known, job, &parts)?;
    Ok(known.job(job, part))
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
    use crate::crd::children::Whole;
    use crate::k8s::meta;
    use batchyard_core::job::phase::Phase;
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
