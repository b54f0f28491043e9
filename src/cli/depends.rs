//! What a job depends on, and how that stands as far as the job's status says.

use batchyard_core::dependency::{self, Dependency, How, Noted, Reference};
use batchyard_core::job::phase::Phase;

use super::table::{Screen, Table};
use crate::crd::{BatchJob, convert};

/// A job that another one depends on, as that one saw it last.
pub(super) struct Seen {
    /// As people call it.
    pub(super) called: String,
    /// The name of its object, if it is known.
    pub(super) name: Option<String>,
    how: How,
    note: Option<Noted>,
    /// The job that depends on it was not past that when it said this.
    open: bool,
}

impl Seen {
    /// How it stands, in a word or a few.
    pub(super) fn stands(&self) -> String {
        match &self.note {
            None if self.open => "not there yet".to_owned(),
            None => "not looked at any more".to_owned(),
            Some(note) if note.deleted => "deleted before it was seen to end".to_owned(),
            Some(note) => {
                note.phase.map_or_else(|| "has not ended".to_owned(), |phase| phase.as_str().to_owned())
            }
        }
    }

    /// True while its end is waited for.
    pub(super) fn is_open(&self) -> bool {
        self.open && self.note.as_ref().is_none_or(|note| note.phase.is_none() && !note.deleted)
    }
}

/// All jobs that a job depends on.
pub(super) fn all(job: &BatchJob) -> Vec<Seen> {
    let record = job.status.as_ref().map(|status| &status.record);
    let notes = record.map(|record| record.depends_on.as_slice()).unwrap_or_default();
    let open = record.is_none_or(|record| record.phase() <= Phase::Pending);
    let dependencies = convert::dependencies(&job.spec);
    let seen = dependencies.into_iter().filter_map(|Dependency { on, how }| {
        let reference = on?;
        let note = dependency::noted(notes, &reference).cloned();
        let stated = match &reference {
            Reference::Name(name) => Some(name.clone()),
            Reference::Id(_) | Reference::Child { .. } => None,
        };
        let name = note.as_ref().map(|note| note.job.clone()).or(stated);
        let called = match (&reference, &name) {
            (Reference::Child { index, .. }, Some(name)) => format!("{name}:{index}"),
            (Reference::Id(_), Some(name)) => name.clone(),
            _ => reference.to_string(),
        };
        Some(Seen { called, name, how, note, open })
    });
    seen.collect()
}

/// A table of them.
pub(super) fn table(all: &[Seen], screen: Screen) -> Table {
    let mut table = Table::new(screen, &["JOB", "TYPE", "STANDS"]);
    for seen in all {
        let how = match seen.how {
            How::Plain => "",
            How::Sequential => "SEQUENTIAL",
            How::NToN => "N_TO_N",
        };
        table.row([seen.called.clone(), how.to_owned(), seen.stands()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_says_how_it_stands() {
        let job = |phase: &str| {
            let note = |job: &str, more: serde_json::Value| {
                let mut note = json!({"job": job, "jobId": format!("id-{job}"), "uid": "u"});
                note.as_object_mut().zip(more.as_object()).into_iter().for_each(|(note, more)| {
                    note.extend(more.clone());
                });
                note
            };
            let child = note("array", json!({"jobId": "id-array:7", "phase": "FAILED"}));
            let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "j"},
                "spec": {"jobQueue": "q", "dependsOn": [{"job": "ended"}, {"jobId": "id-runs", "type": "N_TO_N"},
                    {"job": "gone"}, {"jobId": "id-array:7"}, {"jobId": "later"}, {"type": "SEQUENTIAL"}]},
                "status": {"phase": phase, "dependsOn": [note("ended", json!({"phase": "SUCCEEDED"})),
                    note("runs", json!({})), note("gone", json!({"deleted": true})), child]}});
            serde_json::from_value::<BatchJob>(job).expect("a job")
        };
        let told: Vec<_> =
            all(&job("PENDING")).iter().map(|seen| format!("{}: {}", seen.called, seen.stands())).collect();
        assert_eq!(
            told,
            [
                "ended: SUCCEEDED",
                "runs: has not ended",
                "gone: deleted before it was seen to end",
                "array:7: FAILED",
                "later: not there yet",
            ]
        );
        let open = |phase| all(&job(phase)).iter().filter(|seen| seen.is_open()).count();
        assert_eq!((open("PENDING"), open("FAILED")), (2, 0));
    }
}
