//! What is known of the jobs that a job depends on. Only reads.

use std::collections::BTreeMap;

use batchyard_core::dependency::{
    self, Look, Noted, Other, Patience, Reference, State, Verdict, in_doubt, of_jobs,
};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::reason;
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::array::records;
use crate::controllers::Context;
use crate::crd::{BatchJob, convert};
use crate::k8s::error::Error;
use crate::k8s::parts;
use crate::k8s::read::read;

/// Looks at the jobs that a job depends on which was not RUNNABLE yet. Jobs that wait for each other in a circle never
/// will be, whether they depend on each other or are to run each other's failed children again.
pub(super) async fn look(job: &BatchJob, record: &Record, context: &Context) -> Result<Look, Error> {
    let dependencies = convert::dependencies(&job.spec);
    let (namespace, notes) = (job.namespace().unwrap_or_default(), &record.depends_on);
    let mut others = BTreeMap::new();
    for reference in dependencies.iter().filter_map(|dependency| dependency.on.as_ref()) {
        let known = cached(&namespace, reference, dependency::noted(notes, reference), context).await?;
        others.extend(known.map(|other| (reference.clone(), other)));
    }
    let patience = patience(job, context.clock.now());
    for reference in in_doubt(&dependencies, notes, &others, patience) {
        let noted = dependency::noted(notes, reference);
        let found = live(&namespace, reference, noted, context).await?;
        others.extend(found.map(|other| (reference.clone(), other)));
    }
    let look = of_jobs(&dependencies, job.spec.array_properties.is_some(), notes, &others, patience);
    let uid = job.uid().unwrap_or_default();
    Ok(match context.caches.dependents.circle(&uid) {
        Some(circle) => Look {
            verdict: Verdict::Failed(reason::dependency_circle(circle.way(&uid))),
            again: None,
            ..look
        },
        None => look,
    })
}

fn patience(job: &BatchJob, now: Timestamp) -> Patience {
    Patience {
        since: job.creation_timestamp().map_or(now, |time| time.0),
        limit: job.spec.dependency_timeout_seconds.map(|n| SignedDuration::from_secs(i64::from(n))),
        now,
    }
}

/// A job as the caches know it. One that went after it had ended is as it was then.
async fn cached(
    namespace: &str,
    reference: &Reference,
    noted: Option<&Noted>,
    context: &Context,
) -> Result<Option<Other>, Error> {
    let found = context.caches.referred_job(namespace, reference);
    let is_it = |uid: Option<String>| noted.is_none_or(|noted| uid.as_ref() == Some(&noted.uid));
    if let Some(found) = found.filter(|job| is_it(job.uid())) {
        return other(&found, reference, context).await.map(Some);
    }
    let is_whole = !matches!(reference, Reference::Child { .. });
    Ok(noted.filter(|_| is_whole).and_then(|noted| {
        let (id, name, uid) = (noted.job_id.clone(), noted.job.clone(), noted.uid.clone());
        let end = context.caches.dependents.last_end(&uid)?;
        Some(Other { id, name, uid, state: end.into() })
    }))
}

/// A job as it is now. Of one that was never seen an id is found only once it stands in its status.
async fn live(
    namespace: &str,
    reference: &Reference,
    noted: Option<&Noted>,
    context: &Context,
) -> Result<Option<Other>, Error> {
    let api: Api<BatchJob> = Api::namespaced(context.writer.client().clone(), namespace);
    let by_name = |name: &str| {
        let (api, name) = (api.clone(), name.to_owned());
        async move { read(format!("get BatchJob {name}"), || api.get_opt(&name)).await }
    };
    let found = match (noted, reference) {
        (Some(noted), _) => by_name(&noted.job).await?,
        (None, Reference::Name(name)) => by_name(name).await?,
        (None, Reference::Id(id) | Reference::Child { id, .. }) => {
            let params = ListParams::default().fields(&format!("status.jobId={id}"));
            let found = read(format!("list BatchJobs with id {id}"), || api.list(&params)).await?;
            found.items.into_iter().next()
        }
    };
    match found {
        Some(found) => other(&found, reference, context).await.map(Some),
        None => Ok(None),
    }
}

async fn other(job: &BatchJob, reference: &Reference, context: &Context) -> Result<Other, Error> {
    let uid = job.uid().unwrap_or_default();
    let id = job.spec.job_id.clone().unwrap_or_else(|| uid.clone());
    let (id, state) = match reference {
        Reference::Name(_) | Reference::Id(_) => (id, State::from(phase(job))),
        Reference::Child { index, .. } => (format!("{id}:{index}"), child(job, *index, context).await?),
    };
    Ok(Other { id, name: job.name_any(), uid, state })
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map(|status| status.record.phase()).unwrap_or_default()
}

/// How a child of an array stands, by the records of its children: the lists in the array's status are cut short.
async fn child(array: &BatchJob, index: u32, context: &Context) -> Result<State, Error> {
    // Of a rerun it is known later.
    let size = array.spec.array_properties.as_ref().map(|_| parts::size(array).unwrap_or(u32::MAX));
    let ended = match records::is_at_work(array) {
        true => records::known(array, context).await?.children.has_succeeded(index),
        false => None,
    };
    Ok(dependency::child(size, index, ended, phase(array)))
}
