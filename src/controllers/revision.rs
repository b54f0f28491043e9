//! Revisions of definitions: when one becomes INACTIVE, and when it goes.
//!
//! A revision has no owner reference, since it outlives its definition: jobs that were submitted
//! with it keep it.

use std::sync::Arc;

use batchyard_core::definition::revision::{Definition, Revision, Step, step};
use batchyard_core::name;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tracing::info;

use super::standing::is_deleting;
use super::{Context, Outcome, Wake};
use crate::crd::{BatchJob, JobDefinition};
use crate::k8s::caches::Caches;
use crate::k8s::error::Error;
use crate::k8s::read::read;
pub(super) use crate::k8s::revisions::{definition_name, is_deregistered, of};

/// Looks at one revision.
pub async fn reconcile(object: Arc<ControllerRevision>, context: Arc<Context>) -> Outcome {
    let namespace = object.namespace().unwrap_or_default();
    let Some(name) = definition_name(&object) else { return Ok(Wake::OnChange) };
    if is_deleting(object.as_ref()) || context.caches.is_terminating(&namespace) {
        return Ok(Wake::OnChange);
    }
    let revision = of(&object);
    let definition = definition(&revision, &namespace, name, &context).await?;
    let in_use = || context.caches.jobs().iter().any(|job| refers_to(job, &namespace, name, revision.number));
    let now = Timestamp::now();
    match step(&revision, definition, in_use, now) {
        Step::Keep => Ok(Wake::OnChange),
        Step::LookAgain(when) => Ok(Wake::at(Some(when), now)),
        Step::Deactivate => {
            context.writer.deactivate_revision(&object, now).await?;
            info!(definition = name, revision = revision.number, "revision is INACTIVE");
            Ok(Wake::OnChange)
        }
        Step::Delete => {
            let api: Api<ControllerRevision> = Api::namespaced(context.writer.client().clone(), &namespace);
            context.writer.delete(&api, object.as_ref()).await?;
            info!(
                definition = name,
                revision = revision.number,
                "revision was INACTIVE long enough: deleted"
            );
            Ok(Wake::OnChange)
        }
    }
}

/// What the definition says about a revision. That it is gone is believed only of the API server.
async fn definition(
    revision: &Revision,
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Definition, Error> {
    let cached = context.caches.definitions.get(&ObjectRef::new(name).within(namespace));
    let is_its =
        |definition: &JobDefinition| definition.uid().as_ref() == Some(&revision.made_from.definition_uid);
    let found = match cached.filter(|definition| is_its(definition)) {
        Some(definition) => Some(definition),
        None => {
            let api: Api<JobDefinition> = Api::namespaced(context.writer.client().clone(), namespace);
            let live = read(format!("get JobDefinition {namespace}/{name}"), || api.get_opt(name)).await?;
            live.filter(is_its).map(Arc::new)
        }
    };
    Ok(found.map_or(Definition::Gone, |definition| Definition::Exists {
        deregistered: is_deregistered(&definition, revision.number),
        newest: of_definition(&context.caches, namespace, name)
            .iter()
            .all(|other| other.number <= revision.number),
    }))
}

/// The revisions of a definition, as the cache shows them.
pub(super) fn of_definition(caches: &Caches, namespace: &str, name: &str) -> Vec<Revision> {
    let is_its = |revision: &ControllerRevision| {
        revision.metadata.namespace.as_deref() == Some(namespace) && definition_name(revision) == Some(name)
    };
    caches.revisions.state_filter(is_its).iter().map(|revision| of(revision)).collect()
}

/// True if the job was resolved to the revision.
fn refers_to(job: &BatchJob, namespace: &str, definition: &str, number: u32) -> bool {
    let resolved = job.status.as_ref().and_then(|status| status.record.job_definition.as_deref());
    let Some((name, revision)) = resolved.and_then(|resolved| resolved.rsplit_once(':')) else {
        return false;
    };
    job.metadata.namespace.as_deref() == Some(namespace)
        && revision.parse() == Ok(number)
        && name::candidates(name).iter().any(|name| name == definition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn jobs_hold_their_revision() {
        let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "j", "namespace": "ns"}, "spec": {"jobQueue": "q"},
            "status": {"jobDefinition": "DCV-GPU-JD:3"}});
        let job: BatchJob = serde_json::from_value(job).expect("a job");
        let object = name::slug("DCV-GPU-JD");
        assert!(refers_to(&job, "ns", &object, 3));
        assert!(!refers_to(&job, "ns", &object, 4));
        assert!(!refers_to(&job, "other", &object, 3));
        assert!(!refers_to(&job, "ns", "spot", 3));
    }
}
