//! The children of an array, or the nodes of a multi-node job, folded from the segments that hold their details, and
//! shown as if each were a job of its own. Pure: whoever reads the segments brings them here, in any order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use batchyard_core::array::indexes;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Current, Record};
use batchyard_core::name;
use kube::ResourceExt as _;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::batch_job::{ArrayStatus, BatchJob, BatchJobStatus};
use super::batch_job_record::{BatchJobRecord, ChildRange, ChildRecord};
use super::job_queue::JobCounts;

/// What stands at the end of a list that was cut.
const CUT: char = '…';

/// Indexes of children: numbers and ranges, such as `3,7-9`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Indexes {
    set: RoaringBitmap,
    /// True if more followed where this was written.
    cut: bool,
}

impl Indexes {
    /// One index.
    pub fn one(index: u32) -> Self {
        std::iter::once(index).collect()
    }

    /// True if the index is among them; of a list that was cut, among those that were written.
    pub fn contains(&self, index: u32) -> bool {
        self.set.contains(index)
    }

    /// Each index, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.set.iter()
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.set.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The index, if there is only one.
    pub fn only(&self) -> Option<u32> {
        self.set.min().filter(|_| self.set.len() == 1)
    }

    /// The largest.
    pub fn last(&self) -> Option<u32> {
        self.set.max()
    }

    /// Those that are among others, too.
    pub fn among(&self, others: &Self) -> Self {
        Self { set: &self.set & &others.set, cut: self.cut }
    }

    /// True if the list was cut where it was written: what is not in it may be meant all the same.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        Self { set: indexes.into_iter().collect(), cut: false }
    }
}

impl FromStr for Indexes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (set, cut) = match text.strip_suffix(CUT) {
            Some(list) => (indexes::parse(list)?, true),
            None => (indexes::parse(text)?, false),
        };
        if set.is_empty() && !cut {
            return Err("indexes: expected numbers and ranges, such as 3,7-9".to_owned());
        }
        Ok(Self { set, cut })
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = if self.cut && !self.is_empty() { "," } else { "" };
        f.write_str(&indexes::text(&self.set))?;
        if self.cut { write!(f, "{comma}{CUT}") } else { Ok(()) }
    }
}

/// What the segments say of each child.
#[derive(Clone, Debug, Default)]
pub struct Children {
    only: Option<Indexes>,
    entries: BTreeMap<u32, (i32, ChildRecord)>,
    /// By segment: children that ended alike without a pod of the next attempt.
    ranges: BTreeMap<i32, Vec<(Indexes, ChildRange)>>,
    members: Option<Indexes>,
}

impl Children {
    /// Nothing is known yet. Of what follows only these children are kept; all if there is no choice.
    pub fn new(only: Option<Indexes>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Takes a segment, whole. The order does not matter: of several entries of a child that in the highest segment
    /// counts, and of those in one segment the last. A segment that has grown can be taken again. One that is not the
    /// operator's is passed over: labels can be set by anybody who may make such objects; the name and the owner say
    /// whose it is.
    pub fn take(&mut self, job: &BatchJob, record: BatchJobRecord) {
        if !is_of(job, &record) {
            return;
        }
        let record = record.spec;
        if let Some(members) = record.members.as_deref().and_then(|members| members.parse().ok()) {
            self.members = Some(members);
        }
        let ranges = record.ranges.into_iter().filter_map(|range| Some((range.indexes.parse().ok()?, range)));
        self.ranges.insert(record.segment, ranges.collect());
        for child in record.children {
            let Ok(index) = u32::try_from(child.index) else { continue };
            if self.only.as_ref().is_some_and(|only| !only.contains(index)) {
                continue;
            }
            let entry = match self.entries.remove(&index) {
                Some((segment, known)) if segment > record.segment => {
                    (segment, with_attempts_of(known, child))
                }
                Some((_, known)) => (record.segment, with_attempts_of(child, known)),
                None => (record.segment, child),
            };
            self.entries.insert(index, entry);
        }
    }

    /// What is recorded of a child; nothing before something happened to it. What has ended stays as it ended.
    pub fn get(&self, index: u32) -> Option<ChildRecord> {
        let entry = self.entries.get(&index).map(|(_, child)| child);
        let has_ended = |child: &&ChildRecord| child.phase.is_some_and(Phase::is_terminal);
        if let Some(ended) = entry.filter(has_ended) {
            return Some(ended.clone());
        }
        let mut ranges = self.ranges.values().flatten();
        let Some((_, range)) = ranges.find(|(indexes, _)| indexes.contains(index)) else {
            return entry.cloned();
        };
        Some(ChildRecord {
            index: i32::try_from(index).unwrap_or(i32::MAX),
            phase: Some(range.phase),
            status_reason: range.status_reason.clone(),
            stopped_at: range.stopped_at,
            is_cancelled: range.is_cancelled,
            is_terminated: range.is_terminated,
            ..entry.cloned().unwrap_or_default()
        })
    }

    /// Of a rerun: the children that run again. Of any other array nothing, since all of them run.
    pub fn members(&self) -> Option<&Indexes> {
        self.members.as_ref()
    }
}

/// The later word on a child, with the attempts of an earlier one: of the nodes of a multi-node job each attempt is told
/// in a segment of its own.
fn with_attempts_of(mut later: ChildRecord, earlier: ChildRecord) -> ChildRecord {
    let is_new = |attempt: &Attempt| !later.attempts.iter().any(|known| known.attempt == attempt.attempt);
    let more: Vec<_> = earlier.attempts.into_iter().filter(is_new).collect();
    later.attempts.extend(more);
    later.attempts.sort_by_key(|attempt| attempt.attempt);
    later
}

fn is_of(job: &BatchJob, record: &BatchJobRecord) -> bool {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let segment = u32::try_from(record.spec.segment).unwrap_or(u32::MAX);
    record.spec.job_uid == uid
        && record.owner_references().iter().any(|owner| owner.uid == uid)
        && record.name_any() == name::record(&job.name_any(), uid, segment)
}

/// A part of a job that is told of like a job of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// A child of an array: `job:3`.
    Child(u32),
    /// A node of a multi-node job: `job#1`.
    Node(u32),
}

impl Part {
    /// Its index.
    pub fn index(self) -> u32 {
        match self {
            Self::Child(index) | Self::Node(index) => index,
        }
    }

    /// The job's name or id with the index, as AWS writes ids.
    pub fn of(self, job: &str) -> String {
        match self {
            Self::Child(index) => format!("{job}:{index}"),
            Self::Node(index) => format!("{job}#{index}"),
        }
    }
}

/// A job with its lists of indexes read once, for many parts.
#[derive(Clone, Debug)]
pub struct Whole<'a> {
    /// The array or the multi-node job.
    pub job: &'a BatchJob,
    status: BatchJobStatus,
    /// Of an array: how many children its status counts in each phase, and which it lists.
    lists: Vec<(Phase, i64, Indexes)>,
}

impl<'a> Whole<'a> {
    /// A job as it is now.
    pub fn of(job: &'a BatchJob) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let list = |array: &ArrayStatus, phase| (phase, count(array, phase), listed(array, phase));
        let array = status.array_properties.as_ref();
        let lists = array.map(|array| Phase::ALL.map(|phase| list(array, phase)).to_vec());
        Self { job, lists: lists.unwrap_or_default(), status }
    }

    /// What is recorded of the job itself.
    pub fn record(&self) -> &Record {
        &self.status.record
    }

    /// What is known of a part in the terms of a job: its entry, and its pod if that runs now.
    pub fn part(&self, part: Part, entry: Option<&ChildRecord>, now: Option<(Phase, Current)>) -> Record {
        let own = self.record();
        let mut record = entry.map(ChildRecord::record).unwrap_or_default();
        record.job_id = own.job_id.as_deref().map(|id| part.of(id));
        record.job_definition.clone_from(&own.job_definition);
        record.created_at = record.created_at.or(own.created_at);
        let phase = record.phase.unwrap_or_else(|| self.untold_phase(part.index()));
        record.phase = Some(phase);
        // A pod on record is one that may run it, and not yet one that does.
        record.current = None;
        if let Some((phase, current)) = now.filter(|_| !phase.is_terminal()) {
            record.phase = Some(phase);
            record.started_at = current.started_at;
            record.status_reason = None;
            // As with single jobs: a pod that is not bound yet is not spoken of.
            record.current = Some(current).filter(|_| phase > Phase::Runnable);
        }
        record
    }

    /// The phase of a part that has no entry, by the lists in the job's status. Where a list was cut the part may be in
    /// it; of several the earliest phase is told, so that nobody hears of a turn that has not come.
    fn untold_phase(&self, index: u32) -> Phase {
        let in_list = self.lists.iter().find(|(_, _, list)| list.contains(index));
        let in_cut = || self.lists.iter().find(|(_, number, list)| *number > 0 && list.is_cut());
        if let Some((phase, ..)) = in_list.or_else(in_cut) {
            return *phase;
        }
        let is_counted = |wanted| self.lists.iter().any(|(phase, number, _)| *phase == wanted && *number > 0);
        match self.record().phase() {
            Phase::Pending if is_counted(Phase::Runnable) => Phase::Runnable,
            other => other,
        }
    }
}

/// The indexes that the status lists for a phase.
pub fn listed(array: &ArrayStatus, phase: Phase) -> Indexes {
    list(array, phase).and_then(|list| list.parse().ok()).unwrap_or_default()
}

/// The list of a phase as it is written.
pub fn list(array: &ArrayStatus, phase: Phase) -> Option<&str> {
    let lists = array.indexes.as_ref()?;
    match phase {
        Phase::Submitted => None,
        Phase::Pending => lists.pending.as_deref(),
        Phase::Runnable => lists.runnable.as_deref(),
        Phase::Starting => lists.starting.as_deref(),
        Phase::Running => lists.running.as_deref(),
        Phase::Succeeded => lists.succeeded.as_deref(),
        Phase::Failed => lists.failed.as_deref(),
    }
}

/// How many children the status counts in a phase.
pub fn count(array: &ArrayStatus, phase: Phase) -> i64 {
    array.status_summary.as_ref().map_or(0, |counts| in_phase(counts, phase))
}

/// The number that counts hold for a phase.
pub fn in_phase(counts: &JobCounts, phase: Phase) -> i64 {
    let number = match phase {
        Phase::Submitted => counts.submitted,
        Phase::Pending => counts.pending,
        Phase::Runnable => counts.runnable,
        Phase::Starting => counts.starting,
        Phase::Running => counts.running,
        Phase::Succeeded => counts.succeeded,
        Phase::Failed => counts.failed,
    };
    number.unwrap_or(0)
}

/// A part as a job of its own: the job with what is known of the part in place of its status.
pub fn as_job(job: &BatchJob, part: Part, record: Record) -> BatchJob {
    let attempt = record.current.as_ref().map(|current| current.attempt);
    let attempt = attempt.or_else(|| record.attempts.last().map(|ended| ended.attempt));
    let mut like = BatchJob { metadata: Default::default(), spec: job.spec.clone(), status: None };
    like.metadata.name = job.metadata.name.as_deref().map(|name| part.of(name));
    like.metadata.namespace.clone_from(&job.metadata.namespace);
    like.metadata.creation_timestamp.clone_from(&job.metadata.creation_timestamp);
    like.spec.child_actions.clear();
    like.status = Some(BatchJobStatus {
        record,
        attempt: attempt.and_then(|attempt| i32::try_from(attempt).ok()),
        job_queue: job.status.as_ref().and_then(|status| status.job_queue.clone()),
        ..BatchJobStatus::default()
    });
    like
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn indexes(text: &str) -> Indexes {
        text.parse().expect("indexes")
    }

    #[test]
    fn indexes_are_read_and_written_as_ranges() {
        for (text, written) in [
            ("3,7-9", "3,7-9"),
            ("9,7,8,3", "3,7-9"),
            ("0-4,2-9", "0-9"),
            ("0-4,7,…", "0-4,7,…"),
            ("0-4…", "0-4,…"),
            ("…", "…"),
        ] {
            assert_eq!(indexes(text).to_string(), written, "{text}");
        }
        for wrong in ["", "x", "3-1", "-1", "1-", "10000", "1;2", "99999999999", "1,…,3"] {
            assert!(wrong.parse::<Indexes>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn indexes_know_what_is_among_them() {
        let some = indexes("3,7-9");
        let among: Vec<u32> = (0..12).filter(|index| some.contains(*index)).collect();
        assert_eq!(among, [3, 7, 8, 9]);
        assert_eq!(some.iter().collect::<Vec<_>>(), among);
        assert_eq!((some.len(), some.last(), some.only()), (4, Some(9), None));
        assert_eq!(Indexes::one(4).only(), Some(4));
        assert_eq!(some.among(&indexes("0-8")).to_string(), "3,7-8");
    }

    fn segment(number: i32, content: Value) -> BatchJobRecord {
        let mut spec = json!({"job": "sweep", "jobUid": "abc", "segment": number});
        for (member, value) in content.as_object().expect("members") {
            spec[member] = value.clone();
        }
        let owner =
            json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "sweep", "uid": "abc"});
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJobRecord",
            "metadata": {"name": format!("sweep-abc-{number}"), "ownerReferences": [owner]}, "spec": spec}))
        .expect("a segment")
    }

    #[test]
    fn the_attempts_of_a_node_stand_in_segments_of_their_own() {
        let of = |number: i32, attempt: u32, reason: &str| {
            let attempt =
                json!({"attempt": attempt, "podName": "p", "podUid": reason, "statusReason": reason});
            segment(
                number,
                json!({"children": [{"index": 1, "statusReason": reason, "attempts": [attempt]}]}),
            )
        };
        let (first, second) = (of(0, 1, "first"), of(1, 2, "second"));
        for order in [[&first, &second], [&second, &first]] {
            let node = folded(order).get(1).expect("it is told of");
            let reasons: Vec<_> =
                node.attempts.iter().map(|attempt| attempt.status_reason.as_str()).collect();
            assert_eq!((reasons, node.status_reason.as_deref()), (vec!["first", "second"], Some("second")));
        }
    }

    fn folded<'a>(segments: impl IntoIterator<Item = &'a BatchJobRecord>) -> Children {
        let mut children = Children::default();
        segments.into_iter().for_each(|segment| children.take(&array(json!({})), segment.clone()));
        children
    }

    fn reason(children: &Children, index: u32) -> Option<String> {
        children.get(index)?.status_reason
    }

    #[test]
    fn the_newest_entry_of_a_child_counts_in_whatever_order_segments_come() {
        let first = segment(
            0,
            json!({"children": [{"index": 1, "statusReason": "old"}, {"index": 2, "statusReason": "two"}]}),
        );
        let later = segment(
            1,
            json!({"children": [{"index": 1, "statusReason": "newer"}, {"index": 1, "statusReason": "newest"}]}),
        );
        for order in [[&first, &later], [&later, &first], [&first, &first]] {
            let children = folded(order);
            let expected = if order[1] == order[0] { "old" } else { "newest" };
            assert_eq!(
                (reason(&children, 1).as_deref(), reason(&children, 2).as_deref()),
                (Some(expected), Some("two"))
            );
            assert_eq!(reason(&children, 3), None);
        }
    }

    #[test]
    fn children_that_ended_alike_are_told_as_a_range() {
        let attempt = json!({"attempt": 1, "podName": "p", "podUid": "pu", "statusReason": "r", "container": {"exitCode": 1}});
        let first = segment(
            0,
            json!({"children": [
            {"index": 4, "phase": "RUNNABLE", "statusReason": "Waiting for attempt 2", "attempts": [attempt]},
            {"index": 5, "phase": "SUCCEEDED", "statusReason": "done"}]}),
        );
        let later = segment(
            1,
            json!({"ranges": [
            {"indexes": "3-5", "phase": "FAILED", "statusReason": "enough", "isTerminated": true}]}),
        );
        for order in [[&first, &later], [&later, &first]] {
            let children = folded(order);
            let ended = |index| children.get(index).and_then(|child| child.phase);
            assert_eq!(ended(3), Some(Phase::Failed));
            let tried = children.get(4).expect("an entry");
            assert_eq!((tried.status_reason.as_deref(), tried.attempts.len()), (Some("enough"), 1));
            assert_eq!((tried.index, tried.is_terminated), (4, Some(true)));
            assert_eq!(ended(5), Some(Phase::Succeeded), "what has ended stays as it ended");
            assert_eq!(ended(6), None);
        }
    }

    #[test]
    fn a_rerun_tells_who_runs_again() {
        assert_eq!(folded([&segment(0, json!({}))]).members(), None);
        let rerun = folded([&segment(0, json!({"members": "3,8"}))]);
        assert_eq!(rerun.members().map(ToString::to_string).as_deref(), Some("3,8"));
    }

    #[test]
    fn what_is_not_the_operators_or_not_asked_for_is_passed_over() {
        let some = json!({"children": [{"index": 1}, {"index": -2}, {"index": 2}], "ranges": [{"indexes": "x", "phase": "FAILED"}]});
        let mut children = Children::new(Some(indexes("2-3")));
        children.take(&array(json!({})), segment(0, some.clone()));
        assert!(children.get(2).is_some() && children.get(1).is_none());
        let forged = |change: fn(&mut BatchJobRecord)| {
            let mut record = segment(0, some.clone());
            change(&mut record);
            folded([&record]).get(2)
        };
        assert_eq!(forged(|record| record.metadata.owner_references = None), None);
        assert_eq!(forged(|record| record.metadata.name = Some("sweep-abc-7".into())), None);
        assert_eq!(forged(|record| record.spec.job_uid = "other".into()), None);
        assert!(forged(|_| {}).is_some());
    }

    fn array(status: Value) -> BatchJob {
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "sweep", "namespace": "ns", "uid": "abc"},
            "spec": {"jobQueue": "q", "arrayProperties": {"size": 9}}, "status": status}))
        .expect("a job")
    }

    #[test]
    fn a_child_without_an_entry_is_where_the_parent_lists_it() {
        let phase =
            |status: Value, index| Whole::of(&array(status)).part(Part::Child(index), None, None).phase();
        let lists = json!({"phase": "PENDING", "arrayProperties": {"size": 9,
            "statusSummary": {"PENDING": 2, "RUNNABLE": 3, "RUNNING": 1, "SUCCEEDED": 3},
            "indexes": {"RUNNABLE": "0-1,…", "RUNNING": "4", "SUCCEEDED": "6-8"}}});
        for (index, expected) in
            [(1, Phase::Runnable), (4, Phase::Running), (7, Phase::Succeeded), (5, Phase::Runnable)]
        {
            assert_eq!(phase(lists.clone(), index), expected, "{index}");
        }
        assert_eq!(phase(json!({}), 0), Phase::Submitted);
        let early = json!({"phase": "PENDING", "arrayProperties": {"size": 9}});
        assert_eq!(phase(early, 0), Phase::Pending);
        let lagging = json!({"phase": "PENDING", "arrayProperties": {"size": 9,
            "statusSummary": {"RUNNABLE": 9}, "indexes": {}}});
        assert_eq!(phase(lagging, 0), Phase::Runnable);
        let over = json!({"phase": "FAILED", "arrayProperties": {"size": 9,
            "statusSummary": {"SUCCEEDED": 4, "FAILED": 5}, "indexes": {"SUCCEEDED": "0-3", "FAILED": "4-6,…"}}});
        assert_eq!(phase(over, 8), Phase::Failed);
    }

    #[test]
    fn a_child_is_told_of_like_a_job() {
        let job = array(json!({"phase": "PENDING", "jobId": "id", "jobDefinition": "d:3", "jobQueue": "q",
            "arrayProperties": {"size": 9}}));
        let attempt = json!({"attempt": 1, "podName": "p", "podUid": "pu", "statusReason": "r", "container": {"exitCode": 3}});
        let whole = Whole::of(&job);
        let gated = json!({"attempt": 2, "podName": "p2", "podUid": "pu2"});
        let entry: ChildRecord = serde_json::from_value(
            json!({"index": 4, "phase": "RUNNABLE", "current": gated, "logTail": "end",
            "statusReason": "Waiting for attempt 2 of 3", "attempts": [attempt]}),
        )
        .expect("an entry");
        let waits = as_job(&job, Part::Child(4), whole.part(Part::Child(4), Some(&entry), None));
        assert_eq!(waits.metadata.name.as_deref(), Some("sweep:4"));
        assert_eq!(waits.metadata.uid, None, "nobody shall take it for an object");
        let status = waits.status.expect("a status");
        assert_eq!((status.attempt, status.array_properties), (Some(1), None));
        assert_eq!(status.record.job_id.as_deref(), Some("id:4"));
        assert_eq!((status.record.phase(), status.record.attempts.len()), (Phase::Runnable, 1));
        assert_eq!((status.record.current, status.record.log_tail.as_deref()), (None, Some("end")));
        let current = Current { attempt: 2, pod_name: "p2".into(), ..Current::default() };
        let runs = whole.part(Part::Child(4), Some(&entry), Some((Phase::Running, current.clone())));
        assert_eq!((runs.phase(), runs.status_reason.as_deref()), (Phase::Running, None));
        assert_eq!(runs.current.map(|current| current.attempt), Some(2));
        let unbound = whole.part(Part::Child(4), Some(&entry), Some((Phase::Runnable, current)));
        assert_eq!((unbound.phase(), unbound.current), (Phase::Runnable, None));
        assert_eq!(Part::Node(1).of("j"), "j#1");
    }
}
