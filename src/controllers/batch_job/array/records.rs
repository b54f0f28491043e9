//! What is remembered of an array's children, in objects beside the job: read once, and from then on only written,
//! since nobody but the leader writes them.

use std::collections::HashSet;
use std::sync::Arc;

use batchyard_core::array::{Bulk, Children, indexes};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, ResourceExt};
use roaring::RoaringBitmap;

use super::super::is_settled;
use crate::controllers::Context;
use crate::crd::batch_job_record::{ChildRange, ChildRecord};
use crate::crd::{BatchJob, BatchJobRecord, BatchJobRecordSpec};
use crate::k8s::arrays::Known;
use crate::k8s::error::Error;
use crate::k8s::meta;
use crate::k8s::read::read;

/// A record is sealed once it is so large: each change rewrites the newest one whole.
const SEALED_AT: usize = 64 << 10;
/// Records that are read at a time.
const PAGE: u32 = 20;
/// The end of a child's output is kept shorter than that of a job of its own.
const LOG_TAIL: usize = 512;

/// Something to remember.
pub(super) enum Entry {
    Child(Box<ChildRecord>),
    Range(ChildRange),
}

/// True if a job is an array that was accepted: its children run, or ran.
pub(in super::super) fn is_at_work(job: &BatchJob) -> bool {
    let record = job.status.as_ref().map(|status| &status.record);
    job.spec.array_properties.is_some() && record.is_some_and(|record| record.runnable_at.is_some())
}

/// What is known of an array's children: read once, and kept from then on.
pub(in super::super) async fn known(job: &BatchJob, context: &Context) -> Result<Arc<Known>, Error> {
    let uid = job.uid().unwrap_or_default();
    if let Some(known) = context.caches.arrays.get(&uid) {
        return Ok(known);
    }
    let known = load(job, context).await?;
    context.caches.arrays.publish(&uid, known.clone());
    Ok(Arc::new(known))
}

/// Reads everything that is remembered of an array's children.
async fn load(job: &BatchJob, context: &Context) -> Result<Known, Error> {
    let uid = job.uid().unwrap_or_default();
    let namespace = job.namespace().unwrap_or_default();
    let api: Api<BatchJobRecord> = Api::namespaced(context.writer.client().clone(), &namespace);
    let mut params = ListParams::default().labels(&format!("{}={uid}", meta::JOB_UID)).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page =
            read(format!("list BatchJobRecords of {namespace}/{}", job.name_any()), || api.list(&params))
                .await?;
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        found.extend(page.items.into_iter().filter(|record| is_of(record, job, &uid)));
        match next {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    found.sort_by_key(|record| record.spec.segment);
    let mut children = Children::new(members(job, &found)).among(size(job));
    for record in &found {
        fold(&mut children, &record.spec);
    }
    // Should somebody have deleted records, those that are known to have ended do not run again.
    recall(&mut children, job);
    let records = found.last().map_or(0, |record| u32::try_from(record.spec.segment).unwrap_or(0) + 1);
    // Nobody writes to one of an array that has settled.
    let newest = found.pop().filter(|_| !is_settled(job, context)).map(Arc::new);
    Ok(Known { children: Arc::new(children), newest, records, ..Known::default() })
}

/// Labels can be set by anybody who may make such objects; the name and the owner say whose a record is.
fn is_of(record: &BatchJobRecord, job: &BatchJob, uid: &str) -> bool {
    let segment = u32::try_from(record.spec.segment).unwrap_or(u32::MAX);
    record.spec.job_uid == uid
        && record.owner_references().iter().any(|owner| owner.uid == uid)
        && record.name_any() == name::record(&job.name_any(), uid, segment)
}

/// The indexes that run: all, or of a rerun those that the first record names.
fn members(job: &BatchJob, found: &[BatchJobRecord]) -> RoaringBitmap {
    let named = found.first().and_then(|record| indexes::parse(record.spec.members.as_deref()?).ok());
    named.unwrap_or_else(|| (0..size(job)).collect())
}

fn size(job: &BatchJob) -> u32 {
    let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    array.and_then(|array| u32::try_from(array.size?).ok()).unwrap_or_default()
}

fn fold(children: &mut Children, record: &BatchJobRecordSpec) {
    for range in &record.ranges {
        children.fail(&indexes::parse_cut(&range.indexes));
    }
    for child in &record.children {
        if let Ok(index) = u32::try_from(child.index) {
            children.note(index, child.record());
        }
    }
}

fn recall(children: &mut Children, job: &BatchJob) {
    let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    let Some(told) = array.and_then(|array| array.indexes.as_ref()) else { return };
    for (text, phase) in [(&told.succeeded, Phase::Succeeded), (&told.failed, Phase::Failed)] {
        for index in &indexes::parse_cut(text.as_deref().unwrap_or_default()) {
            children.note(index, Record { phase: Some(phase), ..Record::default() });
        }
    }
}

impl Entry {
    pub(super) fn child(index: u32, record: &Record) -> Self {
        let mut child = ChildRecord::new(index, record);
        // Pods show which one runs a child, but for the one that alone may.
        child.current = child.current.filter(|current| current.bound_at.is_none());
        if let Some(tail) = child.log_tail.as_mut().filter(|tail| tail.len() > LOG_TAIL) {
            let mut cut = tail.len() - LOG_TAIL;
            while !tail.is_char_boundary(cut) {
                cut += 1;
            }
            tail.drain(..cut);
        }
        Self::Child(Box::new(child))
    }

    pub(super) fn range(bulk: &Bulk, now: Timestamp) -> Self {
        let Record { status_reason, stopped_at, is_cancelled, is_terminated, .. } = bulk.record(now);
        Self::Range(ChildRange {
            indexes: indexes::text(&bulk.indexes),
            phase: Phase::Failed,
            status_reason,
            stopped_at,
            is_cancelled,
            is_terminated,
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Child(child) => bytes(child),
            Self::Range(range) => bytes(range),
        }
    }
}

/// How long something is as JSON.
pub(in super::super) fn bytes(value: &impl serde::Serialize) -> usize {
    // What cannot be told is written alone.
    serde_json::to_vec(value).map_or(SEALED_AT, |json| json.len() + 1)
}

/// An empty record.
pub(in super::super) fn empty(job: &BatchJob, segment: u32) -> BatchJobRecordSpec {
    BatchJobRecordSpec {
        job: job.name_any(),
        job_uid: job.uid().unwrap_or_default(),
        segment: i32::try_from(segment).unwrap_or(i32::MAX),
        ..BatchJobRecordSpec::default()
    }
}

/// Puts entries into the newest record and into as many new ones as it takes. All of them are to be written, in this
/// order; each but the last is sealed.
pub(super) fn fill(newest: BatchJobRecordSpec, entries: Vec<Entry>) -> Vec<BatchJobRecordSpec> {
    let mut written = Vec::new();
    let mut open = if newest.sealed == Some(true) { after(&newest) } else { newest };
    let is_child = |entry: &Entry| match entry {
        Entry::Child(child) => Some(child.index),
        Entry::Range(_) => None,
    };
    let told_again: HashSet<i32> = entries.iter().filter_map(is_child).collect();
    open.children.retain(|child| !told_again.contains(&child.index));
    let mut size = bytes(&open);
    for entry in entries {
        let more = entry.bytes();
        if size + more > SEALED_AT && !(open.children.is_empty() && open.ranges.is_empty()) {
            let next = after(&open);
            written.push(BatchJobRecordSpec { sealed: Some(true), ..std::mem::replace(&mut open, next) });
            size = bytes(&open);
        }
        size += more;
        match entry {
            Entry::Child(child) => open.children.push(*child),
            Entry::Range(range) => open.ranges.push(range),
        }
    }
    written.push(open);
    written
}

fn after(record: &BatchJobRecordSpec) -> BatchJobRecordSpec {
    BatchJobRecordSpec {
        job: record.job.clone(),
        job_uid: record.job_uid.clone(),
        segment: record.segment.saturating_add(1),
        ..BatchJobRecordSpec::default()
    }
}

/// The object of a record. One that exists is replaced by what it is now.
pub(in super::super) fn object(
    job: &BatchJob,
    spec: BatchJobRecordSpec,
    newest: Option<&BatchJobRecord>,
) -> BatchJobRecord {
    if let Some(known) = newest.filter(|known| known.spec.segment == spec.segment) {
        return BatchJobRecord { metadata: known.metadata.clone(), spec };
    }
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let text = |value: &str| value.to_owned();
    let segment = u32::try_from(spec.segment).unwrap_or(u32::MAX);
    let metadata = ObjectMeta {
        name: Some(name::record(&name, &uid, segment)),
        namespace: job.namespace(),
        labels: Some(
            [(meta::MANAGED_BY, meta::OPERATOR), (meta::JOB_UID, uid.as_str())]
                .map(|(key, value)| (text(key), text(value)))
                .into(),
        ),
        owner_references: Some(vec![OwnerReference {
            api_version: text("batchyard.io/v1alpha1"),
            kind: text("BatchJob"),
            name,
            uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    };
    BatchJobRecord { metadata, spec }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(index: u32, text: usize) -> Entry {
        let record = Record { status_reason: Some("x".repeat(text)), ..Record::default() };
        Entry::child(index, &record)
    }

    fn indexes(record: &BatchJobRecordSpec) -> Vec<i32> {
        record.children.iter().map(|child| child.index).collect()
    }

    #[test]
    fn records_are_sealed_when_they_are_full() {
        let half = SEALED_AT / 2;
        let written = fill(BatchJobRecordSpec::default(), vec![child(1, half), child(2, half), child(3, 10)]);
        assert_eq!(written.iter().map(|record| record.segment).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(written.iter().map(indexes).collect::<Vec<_>>(), [vec![1], vec![2, 3]]);
        assert_eq!(written.iter().map(|record| record.sealed).collect::<Vec<_>>(), [Some(true), None]);
        assert!(written.iter().all(|record| bytes(record) <= SEALED_AT + 1024), "bounded");
        // What is larger than a record stands alone.
        let written = fill(BatchJobRecordSpec::default(), vec![child(1, SEALED_AT), child(2, 10)]);
        assert_eq!(written.iter().map(indexes).collect::<Vec<_>>(), [vec![1], vec![2]]);
    }

    #[test]
    fn what_is_told_again_takes_the_place_of_what_was_told() {
        let first = fill(BatchJobRecordSpec::default(), vec![child(1, 10), child(2, 10)]).remove(0);
        let written = fill(first.clone(), vec![child(1, 20)]);
        assert_eq!(written.iter().map(indexes).collect::<Vec<_>>(), [vec![2, 1]]);
        // A sealed one is left alone.
        let written = fill(BatchJobRecordSpec { sealed: Some(true), ..first }, vec![child(1, 20)]);
        assert_eq!((written.len(), written[0].segment, indexes(&written[0])), (1, 1, vec![1]));
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let record =
            Record { log_tail: Some(format!("é{}", "a".repeat(LOG_TAIL - 1))), ..Record::default() };
        let Entry::Child(child) = Entry::child(0, &record) else { panic!("a child") };
        assert_eq!(child.log_tail, Some("a".repeat(LOG_TAIL - 1)));
    }
}
