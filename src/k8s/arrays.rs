//! What this process knows of the children of arrays, in memory: made from their records and pods by the job
//! controller, who alone writes here, and read by the dispatcher.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use batchyard_core::array::{Children, Waiting};
use jiff::Timestamp;

use crate::crd::BatchJobRecord;

/// The children of every array that is at work, and how those of others ended, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Arrays {
    known: Arc<RwLock<HashMap<String, Arc<Known>>>>,
}

/// The children of one array.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What is recorded of them, and what their pods show.
    pub children: Arc<Children>,
    /// Those that may be given a pod; who has one already is for the reader to say.
    pub waiting: Waiting,
    /// The record that is still written to, if there is one.
    pub newest: Option<Arc<BatchJobRecord>>,
    /// How many records there are.
    pub records: u32,
    /// When children were last looked at.
    pub looked_at: Option<Instant>,
    /// What was found when all of them were, if nothing went wrong since: those about which nothing changes need not be
    /// looked at until then.
    pub whole: Option<Whole>,
}

/// A look at all children.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// When.
    pub at: Instant,
    /// The generation of the array that it was about.
    pub generation: Option<i64>,
    /// When some child has to be looked at although nothing changes.
    pub wake: Option<Timestamp>,
}

impl Arrays {
    /// The children of an array, by its object's uid; nothing before its records were read.
    pub fn get(&self, job_uid: &str) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(job_uid).cloned()
    }

    /// What is known from now on.
    pub fn publish(&self, job_uid: &str, known: Known) {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(job_uid.to_owned(), Arc::new(known));
    }

    /// The array has ended for good: how its children did stays, and what only a writer needs is let go.
    pub fn settle(&self, job_uid: &str) {
        let Some(known) = self.get(job_uid).filter(|known| known.newest.is_some()) else { return };
        let (children, records) = (known.children.clone(), known.records);
        self.publish(job_uid, Known { children, records, ..Known::default() });
    }

    /// The array is gone, or its records have to be read again.
    pub fn forget(&self, job_uid: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(job_uid);
    }

    /// Keeps what is about objects that exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exists(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_array_that_has_settled_only_how_its_children_ended_is_kept() {
        let arrays = Arrays::default();
        arrays.settle("unknown");
        assert!(arrays.get("unknown").is_none());
        let record = serde_json::json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJobRecord",
            "metadata": {"name": "r"}, "spec": {"job": "array", "jobUid": "uid", "segment": 0}});
        let mut children = Children::new((0..3).collect());
        children.fail(&[1].into_iter().collect());
        let newest = Some(Arc::new(serde_json::from_value(record).expect("a record")));
        let looked_at = Some(Instant::now());
        let known = Known { children: Arc::new(children), newest, looked_at, records: 2, ..Known::default() };
        arrays.publish("uid", known);
        arrays.settle("uid");
        let kept = arrays.get("uid").expect("it is known");
        assert!(kept.newest.is_none() && kept.looked_at.is_none());
        assert_eq!((kept.children.failed().len(), kept.records), (1, 2));
    }
}
