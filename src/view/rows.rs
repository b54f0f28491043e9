//! The jobs that wait, in the order in which they are listed.

use std::collections::BTreeMap;

use batchyard_core::queue::Place;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::crd::BatchJob;
use crate::crd::waiting_job::{AHEAD, WaitingJob, WaitingJobStatus};
use crate::dispatcher::Wait;

/// What the list is sorted by: by queue, in line before out of line, first first. A page begins behind the
/// key of the last row of the page before, wherever that is by then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    namespace: String,
    queue: String,
    is_out_of_line: bool,
    rank: Option<(bool, Timestamp, u64, String)>,
    name: String,
}

/// A row for each job that waits, sorted. Whoever is in line and waits for nothing else waits for its turn.
pub(super) fn rows<J: AsRef<BatchJob>>(
    mut waits: BTreeMap<String, Wait>,
    line: &[Place],
    turn: impl Fn(&Place, &BatchJob) -> Option<Wait>,
    job: impl Fn(&str) -> Option<J>,
) -> BTreeMap<Key, WaitingJob> {
    let mut rows = BTreeMap::new();
    for place in line {
        let wait = waits.remove(&place.rank.uid);
        let Some(job) = job(&place.rank.uid) else { continue };
        if let Some(wait) = wait.or_else(|| turn(place, job.as_ref())) {
            rows.extend([row(job.as_ref(), Some(place), wait)]);
        }
    }
    for (uid, wait) in waits {
        rows.extend(job(&uid).map(|job| row(job.as_ref(), None, wait)));
    }
    name_those_ahead(&mut rows);
    rows
}

fn row(job: &BatchJob, place: Option<&Place>, wait: Wait) -> (Key, WaitingJob) {
    let status = job.status.as_ref();
    let queue = match place {
        Some(place) => place.queue.rsplit('/').next().unwrap_or_default().to_owned(),
        None => status.and_then(|s| s.job_queue.clone()).unwrap_or_else(|| job.spec.job_queue.clone()),
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let stands = WaitingJobStatus {
        job_queue: queue.clone(),
        position: place.map(|place| count(place.position)),
        ahead: Vec::new(),
        ahead_in_other_queues: place.map(|place| count(place.ahead_elsewhere)),
        waits_for: Some(wait.what.text),
        since: Some(wait.since),
    };
    let metadata = ObjectMeta {
        name: Some(job.name_any()),
        namespace: job.namespace(),
        uid: job.uid(),
        creation_timestamp: job.creation_timestamp(),
        ..ObjectMeta::default()
    };
    let key = Key {
        namespace: job.namespace().unwrap_or_default(),
        queue,
        is_out_of_line: place.is_none(),
        rank: place.map(|Place { rank, .. }| (rank.fresh, rank.created_at, rank.sequence, rank.uid.clone())),
        name: job.name_any(),
    };
    (key, WaitingJob::new(metadata, stands))
}

/// Names the first of each queue to those who come after them.
fn name_those_ahead(rows: &mut BTreeMap<Key, WaitingJob>) {
    let (mut of, mut first): (Option<(String, String)>, Vec<String>) = (None, Vec::new());
    for (key, row) in rows.iter_mut().filter(|(key, _)| !key.is_out_of_line) {
        let queue = Some((key.namespace.clone(), key.queue.clone()));
        if of != queue {
            (of, first) = (queue, Vec::new());
        }
        row.status.ahead.clone_from(&first);
        if first.len() < AHEAD {
            first.push(key.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use batchyard_core::queue::Rank;
    use batchyard_core::waits;
    use serde_json::json;

    use super::*;

    fn job(uid: &str) -> Option<Arc<BatchJob>> {
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": format!("job-{uid}"), "namespace": "team", "uid": uid},
            "spec": {"jobQueue": "spec-queue", "jobDefinition": "d"}});
        (uid != "gone").then(|| Arc::new(serde_json::from_value(object).expect("a job")))
    }

    fn place(uid: &str, position: usize) -> Place {
        let created_at = Timestamp::UNIX_EPOCH;
        let rank = Rank { fresh: true, created_at, sequence: position as u64, uid: uid.to_owned() };
        Place { rank, queue: "team/q".to_owned(), position, count: 1, ahead_elsewhere: 7 }
    }

    #[test]
    fn rows_are_in_line_and_name_those_ahead() {
        // Uids in the reverse order, so that nothing but the rank can sort them.
        let uids: Vec<String> = (1..=13).map(|n| format!("{:02}", 99 - n)).collect();
        let line: Vec<_> = uids.iter().zip(1..).map(|(uid, position)| place(uid, position)).collect();
        let wait = |what| Wait { what, since: Timestamp::UNIX_EPOCH };
        let others = ["gone", "out"].map(str::to_owned);
        let lasting = uids.iter().take(1).chain(&others);
        let waits = lasting.map(|uid| (uid.clone(), wait(waits::last_pod()))).collect();
        let turn = |_: &Place, _: &BatchJob| Some(wait(waits::behind_head("q")));
        let rows: Vec<WaitingJob> = rows(waits, &line, turn, job).into_values().collect();
        let told: Vec<_> = rows.iter().map(|row| row.status.waits_for.clone().unwrap_or_default()).collect();
        assert_eq!(told[0], waits::last_pod().text);
        assert_eq!(told[1], waits::behind_head("q").text);
        let names: Vec<_> = rows.iter().map(|row| row.metadata.name.clone().unwrap_or_default()).collect();
        let expected: Vec<_> = uids.iter().map(|uid| format!("job-{uid}")).collect();
        assert_eq!(names[..13], expected, "in line");
        assert_eq!(names[13..], ["job-out"], "not in line, but of another queue; who is gone is gone");
        assert_eq!(rows[0].status.ahead, [""; 0]);
        assert_eq!(rows[2].status.ahead, expected[..2]);
        assert_eq!(rows[12].status.ahead, expected[..AHEAD]);
        assert_eq!((rows[12].status.position, rows[12].status.ahead_in_other_queues), (Some(13), Some(7)));
        assert_eq!((rows[13].status.position, rows[13].status.job_queue.as_str()), (None, "spec-queue"));
    }
}
