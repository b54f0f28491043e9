//! Who waits for which job, as the watch tells: a job's coming, end and going then concern those that depend on it, and
//! nobody looks through all jobs for them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use batchyard_core::dependency::graph::{self, Circle, Graph, Key, Waiting};
use batchyard_core::job::phase::Phase;
use batchyard_core::reason;
use kube::ResourceExt;

use super::watch::Change;
use crate::crd::{BatchJob, convert};

/// The jobs that wait for others. Of all others nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Dependents(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    graph: Graph,
    /// How jobs had ended, by uid, that were deleted while others had not noted that yet.
    ended: HashMap<String, Phase>,
}

impl Dependents {
    /// Takes a change of a job.
    pub fn take(&self, change: &Change<BatchJob>) {
        let job = change.object();
        let Some(uid) = job.uid() else { return };
        let end = phase(job).is_terminal().then(|| phase(job));
        match change {
            Change::Deleted(_) => {
                let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
                inner.graph.remove(&uid);
                if let Some(end) = end.filter(|_| !inner.graph.waiters(&keys(job)).is_empty()) {
                    inner.ended.insert(uid, end);
                }
            }
            Change::Applied(_) if job.spec.depends_on.is_empty() && rerun_of(job).is_none() => {}
            Change::Applied(_) => {
                let waiting = waiting(job, &uid);
                let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
                match waiting {
                    Some(waiting) => inner.graph.put(waiting),
                    None => inner.graph.remove(&uid),
                }
            }
        }
    }

    /// The uids of the jobs that wait for this one and have not noted its end.
    pub fn of(&self, job: &BatchJob) -> BTreeSet<String> {
        let inner = self.read();
        if inner.graph.is_empty() { BTreeSet::new() } else { inner.graph.waiters(&keys(job)) }
    }

    /// The circle of jobs that wait for each other, if the job with this uid is one of them.
    pub fn circle(&self, uid: &str) -> Option<Arc<Circle>> {
        self.read().graph.circle(uid)
    }

    /// How a job had ended that is gone.
    pub fn last_end(&self, uid: &str) -> Option<Phase> {
        self.read().ended.get(uid).copied()
    }

    /// Forgets ends that nobody waits for any more.
    pub fn prune(&self) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { graph, ended } = &mut *inner;
        ended.retain(|uid, _| !graph.waiters(&[Key::Uid(uid.clone())]).is_empty());
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job as the graph knows it; none if it waits for no other.
fn waiting(job: &BatchJob, uid: &str) -> Option<Waiting> {
    let record = job.status.as_ref().map(|status| &status.record);
    let refused = record.and_then(|record| record.status_reason.as_deref());
    let refused = refused.is_some_and(reason::is_dependency_circle);
    if phase(job) > Phase::Pending && !refused {
        return None;
    }
    let notes = record.map(|record| record.depends_on.as_slice()).unwrap_or_default();
    let namespace = job.namespace().unwrap_or_default();
    let mut waits_for = graph::open(&namespace, &convert::dependencies(&job.spec), notes);
    // Until it is accepted a rerun waits for the end of the array whose failed children it runs.
    let is_accepted = record.is_some_and(|record| record.runnable_at.is_some());
    if let Some(array) = rerun_of(job).filter(|_| !is_accepted) {
        waits_for.push(Key::Name { namespace: namespace.clone(), name: array.to_owned() });
        waits_for.push(Key::Id { namespace, id: array.to_owned() });
    }
    let (uid, name) = (uid.to_owned(), job.name_any());
    (!waits_for.is_empty()).then(|| Waiting { uid, name, is: keys(job), waits_for, refused })
}

/// The array whose failed children a job runs again, by its name or id.
fn rerun_of(job: &BatchJob) -> Option<&str> {
    job.spec.array_properties.as_ref()?.rerun_failed_of.as_deref()
}

/// All by which others may refer to a job.
fn keys(job: &BatchJob) -> Vec<Key> {
    let uid = job.uid().unwrap_or_default();
    let id = job.spec.job_id.as_ref().unwrap_or(&uid);
    Key::all_of(&job.namespace().unwrap_or_default(), &job.name_any(), id, &uid)
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map(|status| status.record.phase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::caches;
    use batchyard_core::dependency::Reference;
    use kube::runtime::reflector::ObjectRef;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::UnboundedReceiver;

    /// The job `ns/<name>` of a phase, whose uid is `uid-<name>`.
    fn job(name: &str, phase: &str, depends_on: Value, more: Value) -> BatchJob {
        let mut job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1"},
            "spec": {"jobQueue": "q", "dependsOn": depends_on}, "status": {"phase": phase}});
        for (path, value) in more.as_object().into_iter().flatten() {
            *job.pointer_mut(path).expect("a place") = value.clone();
        }
        serde_json::from_value(job).expect("a job")
    }

    fn woken(jobs: &mut UnboundedReceiver<ObjectRef<BatchJob>>) -> BTreeSet<String> {
        std::iter::from_fn(|| jobs.try_recv().ok()).map(|job| job.name).collect()
    }

    fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_the_other_comes_ends_or_goes() {
        let (caches, mut feeds, mut triggers) = caches();
        let other = |phase| job("a", phase, json!([]), json!({}));
        let by_name = job("by-name", "PENDING", json!([{"job": "a"}]), json!({}));
        let by_id = job("by-id", "PENDING", json!([{"jobId": "uid-a"}]), json!({}));
        let child = job("of-child", "PENDING", json!([{"jobId": "uid-a:7"}]), json!({}));
        let elsewhere =
            json!({"/metadata": {"name": "elsewhere", "namespace": "other", "uid": "uid-elsewhere"}});
        let elsewhere = job("elsewhere", "PENDING", json!([{"job": "a"}]), elsewhere);
        let past = job("past", "RUNNABLE", json!([{"job": "a"}]), json!({}));
        let all = [by_name, by_id, child, elsewhere, past];
        feeds.jobs.deliver(all.map(Event::Apply));
        woken(&mut triggers.jobs);
        let waiting = ["a", "by-id", "by-name", "of-child"];
        for (phase, want) in [
            ("SUBMITTED", set(waiting)),
            ("RUNNABLE", set(["a"])),
            ("RUNNING", set(["a"])),
            ("SUCCEEDED", set(waiting)),
        ] {
            feeds.jobs.deliver([Event::Apply(other(phase))]);
            assert_eq!(woken(&mut triggers.jobs), want, "{phase}");
        }
        assert_eq!(
            caches.dependents.of(&other("SUCCEEDED")),
            set(["uid-by-id", "uid-by-name", "uid-of-child"])
        );
        // Who notes the success waits no more; who is deleted neither.
        let note = json!({"/status": {"phase": "PENDING", "dependsOn": [
            {"job": "a", "jobId": "uid-a", "uid": "uid-a", "phase": "SUCCEEDED"}]}});
        let noted = job("by-name", "PENDING", json!([{"job": "a"}, {"job": "later"}]), note);
        let gone = job("of-child", "PENDING", json!([{"jobId": "uid-a:7"}]), json!({}));
        feeds.jobs.deliver([Event::Apply(noted), Event::Delete(gone)]);
        woken(&mut triggers.jobs);
        feeds.jobs.deliver([Event::Delete(other("SUCCEEDED"))]);
        assert_eq!(woken(&mut triggers.jobs), set(["by-id"]));
    }

    #[tokio::test]
    async fn an_end_outlives_its_object_while_somebody_has_yet_to_note_it() {
        let (caches, mut feeds, _triggers) = caches();
        let note = json!({"/status": {"phase": "PENDING", "dependsOn": [{"job": "a", "jobId": "uid-a", "uid": "uid-a"}]}});
        let waits = job("b", "PENDING", json!([{"job": "a"}]), note);
        feeds.jobs.deliver([Event::Apply(waits), Event::Apply(job("a", "RUNNING", json!([]), json!({})))]);
        feeds.jobs.deliver([Event::Delete(job("a", "SUCCEEDED", json!([]), json!({})))]);
        feeds.jobs.deliver([Event::Delete(job("unasked", "SUCCEEDED", json!([]), json!({})))]);
        caches.prune();
        assert_eq!(caches.dependents.last_end("uid-a"), Some(Phase::Succeeded));
        assert_eq!(caches.dependents.last_end("uid-unasked"), None);
        feeds.jobs.deliver([Event::Apply(job("b", "RUNNABLE", json!([{"job": "a"}]), json!({})))]);
        caches.prune();
        assert_eq!(caches.dependents.last_end("uid-a"), None);
    }

    #[tokio::test]
    async fn all_in_a_circle_are_woken_when_it_closes() {
        let (caches, mut feeds, mut triggers) = caches();
        let on = |name: &str| json!([{"job": name}]);
        feeds.jobs.deliver([
            Event::Apply(job("a", "PENDING", on("b"), json!({}))),
            Event::Apply(job("b", "PENDING", on("c"), json!({}))),
        ]);
        woken(&mut triggers.jobs);
        feeds.jobs.deliver([Event::Apply(job("c", "SUBMITTED", on("a"), json!({})))]);
        assert_eq!(woken(&mut triggers.jobs), set(["a", "b", "c"]));
        let circle = caches.dependents.circle("uid-b").expect("it lies on one");
        assert_eq!(circle.way("uid-b"), ["b", "c", "a", "b"]);
        // One that was refused is still part of it for those that were not looked at.
        let why = reason::dependency_circle(circle.way("uid-b"));
        let refused = json!({"/status": {"phase": "FAILED", "statusReason": why}});
        feeds.jobs.deliver([
            Event::Init,
            Event::InitApply(job("a", "PENDING", on("b"), json!({}))),
            Event::InitApply(job("b", "FAILED", on("c"), refused)),
            Event::InitApply(job("c", "SUBMITTED", on("a"), json!({}))),
            Event::InitDone,
        ]);
        assert!(caches.dependents.circle("uid-a").is_some());
    }

    #[tokio::test]
    async fn references_find_jobs_of_the_namespace_only() {
        let (caches, mut feeds, _triggers) = caches();
        let id = "1e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1";
        let stated = |name: &str, created: &str| {
            job(
                name,
                "RUNNING",
                json!([]),
                json!({
            "/metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "creationTimestamp": created},
            "/spec": {"jobQueue": "q", "jobId": id}}),
            )
        };
        feeds.jobs.deliver([
            Event::Apply(stated("young", "2026-01-02T00:00:00Z")),
            Event::Apply(stated("old", "2026-01-01T00:00:00Z")),
            Event::Apply(job("plain", "RUNNING", json!([]), json!({}))),
        ]);
        for (namespace, reference, want) in [
            ("ns", Reference::Name("plain".into()), Some("plain")),
            ("other", Reference::Name("plain".into()), None),
            ("ns", Reference::of_id(id), Some("old")),
            ("ns", Reference::of_id(&format!("{id}:3")), Some("old")),
            ("other", Reference::of_id(id), None),
            ("ns", Reference::of_id("uid-plain"), Some("plain")),
            ("other", Reference::of_id("uid-plain"), None),
            ("ns", Reference::of_id("uid-old"), None),
        ] {
            let found = caches.referred_job(namespace, &reference).map(|job| job.name_any());
            assert_eq!(found.as_deref(), want, "{namespace} {reference}");
        }
    }
}
