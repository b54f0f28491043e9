//! Jobs as callers name them: `id`, `id:3` for a child of an array, `id#1` for a node of a multi-node job; and what is
//! known of those parts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use batchyard_core::name;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::call::Call;
use super::definitions::Listed;
use super::failure::Failure;
use super::names;
use crate::crd::children::{Indexes, Part};
use crate::crd::convert;
use crate::crd::{BatchJob, BatchJobRecord, JobDefinitionSpec};
use crate::k8s::observe;
use crate::k8s::parts::{Known, Parts, is_array, is_multi_node, pods_of, records_of, size};
use crate::k8s::read::read;

/// Segments are up to 64 KiB each.
const SEGMENTS: u32 = 50;
/// Pods of a page.
const PODS: u32 = 500;

/// A job, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) job: &'a str,
    pub(super) part: Option<Part>,
}

impl<'a> Target<'a> {
    /// Reads an id. What is none names no job.
    pub(super) fn parse(id: &'a str) -> Self {
        let part = |at: usize| {
            let index: u32 = id[at + 1..].parse().ok()?;
            Some(if id[at..].starts_with(':') { Part::Child(index) } else { Part::Node(index) })
        };
        match id.find([':', '#']).and_then(|at| Some((at, part(at)?))) {
            Some((at, part)) => Self { job: &id[..at], part: Some(part) },
            None => Self { job: id, part: None },
        }
    }
}

/// True if the job has the part, as far as the job itself tells.
pub(super) fn has(job: &BatchJob, part: Part) -> bool {
    let of_its_kind = match part {
        Part::Child(_) => is_array(job),
        Part::Node(_) => is_multi_node(job),
    };
    of_its_kind && size(job).is_none_or(|size| part.index() < size)
}

impl Call {
    /// Reads what is known of some parts of a job: its records, and the pods that there are.
    pub(super) async fn known(&self, job: &BatchJob, parts: &Parts) -> Result<Known, Failure> {
        let mut known = Known::new(Some(parts.indexes.clone()));
        let records: Api<BatchJobRecord> = self.api();
        let mut params = ListParams::default().labels(&records_of(job)).limit(SEGMENTS);
        loop {
            let page = read(format!("list records of {}", job.name_any()), || records.list(&params)).await?;
            page.items.into_iter().for_each(|record| known.children.take(job, record));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let over = job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal());
        // What ended with an array is on record, whole.
        if !over || parts.nodes {
            self.pods(job, parts, &mut known).await?;
        }
        Ok(known)
    }

    async fn pods(&self, job: &BatchJob, parts: &Parts, known: &mut Known) -> Result<(), Failure> {
        let pods: Api<Pod> = self.api();
        let mut params = ListParams::default().labels(&pods_of(job, parts.only())).limit(PODS);
        loop {
            let page = read(format!("list pods of {}", job.name_any()), || pods.list(&params)).await?;
            let wanted = |pod: &&Pod| observe::index(pod).is_some_and(|index| parts.indexes.contains(index));
            page.items.iter().filter(wanted).for_each(|pod| known.take(pod));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// What a job runs: the definition that stands in it, else the revision that it was resolved to, else the one that it
    /// would be resolved to now.
    /// Each reference is looked up once in a call, however many jobs have it.
    pub(super) fn definition_of(&self, job: &BatchJob) -> Runs {
        if let Some(spec) = convert::inline_definition(&job.spec) {
            return Runs { name: None, spec: Some(Arc::new(spec)) };
        }
        let resolved = job.status.as_ref().and_then(|status| status.record.job_definition.as_deref());
        let stated = job.spec.job_definition.as_deref();
        let reference = resolved.or(stated).map(name::resource).unwrap_or_default();
        self.looked_up.of(reference, || {
            let (wanted, number) = match reference.rsplit_once(':') {
                Some((wanted, number)) => (wanted, number.parse::<u32>().ok()),
                None => (reference, None),
            };
            let found = self.cached_revision(wanted, number);
            match found.and_then(|found| Some((found.spec()?, found))) {
                Some((spec, Listed { name, number, .. })) => {
                    Runs { name: Some(format!("{name}:{number}")), spec: Some(Arc::new(spec)) }
                }
                None => Runs { name: Some(reference.to_owned()), spec: None },
            }
        })
    }

    /// The name of the queue that a job is in.
    pub(super) fn queue_of(&self, job: &BatchJob) -> String {
        let reference = name::resource(crate::k8s::caches::queue_reference(job));
        let store = &self.world().queues.store;
        let of = |name: &String| {
            store.get(&kube::runtime::reflector::ObjectRef::new(name).within(self.namespace()))
        };
        let found: Option<Arc<_>> = name::candidates(reference).iter().find_map(of);
        found.map_or_else(|| reference.to_owned(), |queue| names::queue(&queue))
    }
}

/// What a job runs.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    /// `name:revision`; nothing if the definition stands in the job.
    pub(super) name: Option<String>,
    pub(super) spec: Option<Arc<JobDefinitionSpec>>,
}

/// What jobs of a call run, by how they refer to it.
#[derive(Debug, Default)]
pub(super) struct LookedUp(Mutex<HashMap<String, Runs>>);

impl LookedUp {
    fn of(&self, reference: &str, look: impl FnOnce() -> Runs) -> Runs {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runs) = known.get(reference) {
            return runs.clone();
        }
        let runs = look();
        known.insert(reference.to_owned(), runs.clone());
        runs
    }
}

/// All parts of a job that has some.
pub(super) fn all_parts(job: &BatchJob) -> Option<Parts> {
    Parts::all(job)
}

/// One part of a job.
pub(super) fn some_parts(nodes: bool, indexes: impl IntoIterator<Item = u32>) -> Parts {
    Parts { nodes, indexes: indexes.into_iter().collect::<Indexes>() }
}

/// The name of a job.
pub(super) fn job_name(job: &BatchJob) -> String {
    job.spec.job_name.clone().unwrap_or_else(|| job.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_jobs_run_is_looked_up_once() {
        let (looked_up, mut looks) = (LookedUp::default(), Vec::new());
        for job in 0..1000 {
            let reference = format!("d:{}", job % 3);
            let runs = looked_up.of(&reference, || {
                looks.push(reference.clone());
                Runs { name: Some(reference.clone()), spec: None }
            });
            assert_eq!(runs.name.as_ref(), Some(&reference));
        }
        assert_eq!(looks, ["d:0", "d:1", "d:2"]);
    }

    #[test]
    fn ids_name_jobs_and_parts() {
        let id = "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e";
        assert_eq!(Target::parse(id), Target { job: id, part: None });
        assert_eq!(Target::parse(&format!("{id}:3")), Target { job: id, part: Some(Part::Child(3)) });
        assert_eq!(Target::parse(&format!("{id}#1")), Target { job: id, part: Some(Part::Node(1)) });
        for nonsense in ["", ":", "a:b", "#-1"] {
            assert_eq!(Target::parse(nonsense), Target { job: nonsense, part: None });
        }
    }
}
