//! Where the output of a job's pods goes: what definition, queue and environment say of it together, and the Secret
//! with the configuration of the log sidecars.
//!
//! A Secret is shared by all pods that need the same: those of a revision, or, where the queue or the environment says
//! where output goes, those of a queue. It belongs to the revision (of a job without one, to the job) or to the queue, so
//! that it goes when nobody can need it any more. It never changes: what is to be different has another name. The
//! operator writes it before the first such pod and never reads it; what it wrote is remembered for a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::definition::Effective;
use batchyard_core::logging::options::SecretText;
use batchyard_core::logging::policy::{Level, applicable};
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{CONFIGURATION_FILE, Sidecar};
use batchyard_core::logging::text;
use batchyard_core::reason::logs;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::caches::Caches;
use super::meta;
use crate::crd::convert::logging;
use crate::crd::{BatchJob, ComputeEnvironmentSpec, JobQueue, JobQueueSpec};

/// A Secret that was made is made again after this long: somebody may have deleted it.
const AGAIN: Duration = Duration::from_secs(600);
/// So many Secrets are remembered at most.
const REMEMBERED: usize = 10_000;

/// A container whose output goes somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The container's name in the pod.
    pub container: String,
    /// Its name in those of streams.
    pub stream: String,
    /// Its image.
    pub image: String,
    /// Who says where it goes.
    pub level: Level,
    /// Where it goes.
    pub route: Route,
}

/// Where the output of a pod's containers goes in an environment; those whose output stays are left out.
///
/// # Errors
/// Why it may not go there: a sentence that names the member.
pub fn routes(
    effective: &Effective,
    (queue, queue_spec): (&str, &JobQueueSpec),
    (environment, spec): (&str, &ComputeEnvironmentSpec),
) -> Result<Vec<Routed>, String> {
    let of_queue = queue_spec.logging.as_ref().and_then(|logging| logging.log_configuration.as_ref());
    let of_queue = of_queue.map(logging::configuration);
    let of_environment = spec.logging.as_ref().and_then(|logging| logging.log_configuration.as_ref());
    let of_environment = of_environment.map(logging::configuration);
    let policy = logging::policy(spec);
    let mut routed = Vec::new();
    for one in effective.work.logged() {
        let said = applicable(one.configuration, of_queue.as_ref(), of_environment.as_ref());
        let Some((level, configuration)) = said else { continue };
        let place = match level {
            Level::Definition => one.place,
            Level::Queue => logs::of_queue(queue),
            Level::Environment => logs::of_environment(environment),
        };
        let route = logging::read_in(configuration, spec);
        let route = route.map_err(|refusals| text::refused(&place, &refusals))?;
        policy.check(&route, environment).map_err(|rules| logs::forbidden(&place, &rules))?;
        let (container, stream, image) = (one.container, one.stream, one.image.to_owned());
        routed.push(Routed { container, stream, image, level, route });
    }
    Ok(routed)
}

/// True if a pod may have a log sidecar: somebody says where the output of one of its containers goes.
pub fn may_be_routed<'e>(
    effective: &Effective,
    queue: &JobQueueSpec,
    mut environments: impl Iterator<Item = &'e ComputeEnvironmentSpec>,
) -> bool {
    effective.work.logged().iter().any(|one| one.configuration.is_some())
        || queue.logging.as_ref().is_some_and(|logging| logging.log_configuration.is_some())
        || environments
            .any(|spec| spec.logging.as_ref().is_some_and(|logging| logging.log_configuration.is_some()))
}

/// The Secrets that this process made, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Made {
    known: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Made {
    /// True if a Secret was made a while ago at most.
    pub fn has(&self, secret: &Secret) -> bool {
        self.lock().get(&id(secret)).is_some_and(|at| at.elapsed() < AGAIN)
    }

    /// A Secret was made.
    pub fn made(&self, secret: &Secret) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, at| at.elapsed() < AGAIN);
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id(secret), Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace may come again with the same names in it, but not with the same owner.
fn id(secret: &Secret) -> String {
    let owner = secret.owner_references().first().map_or("", |owner| owner.uid.as_str());
    format!("{}/{}/{owner}", secret.namespace().unwrap_or_default(), secret.name_any())
}

/// The Secret with a sidecar's configuration.
pub fn secret(
    job: &BatchJob,
    queue: &JobQueue,
    environment: &impl Resource,
    (routed, sidecar): (&[Routed], &Sidecar),
    caches: &Caches,
) -> Secret {
    let says = |level: Level| routed.iter().any(|one| one.level == level);
    let owner = if says(Level::Definition) { owner_of(job, caches) } else { owner("JobQueue", queue) };
    let configuration = sidecar.document.to_yaml();
    // The name is a function of everything that decides about the content, but of no secret itself: names are for
    // everybody to see.
    let version = |object: &dyn Fn() -> (Option<String>, Option<i64>), level: Level| {
        if says(level) { object() } else { (None, None) }
    };
    let queue_version = || (queue.uid(), queue.metadata.generation);
    let environment_version = || (environment.meta().uid.clone(), environment.meta().generation);
    let origin = (
        &owner.uid,
        version(&queue_version, Level::Queue),
        version(&environment_version, Level::Environment),
        &configuration,
    );
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{origin:?}").as_bytes());
    let hash: String = hash.as_ref().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    let mut data = BTreeMap::from([(CONFIGURATION_FILE.to_owned(), ByteString(configuration.into_bytes()))]);
    data.extend(sidecar.secrets.iter().filter_map(|variable| match &variable.value {
        SecretText::Plain(value) => Some((variable.name.clone(), ByteString(value.clone().into_bytes()))),
        SecretText::Reference(_) => None,
    }));
    Secret {
        metadata: ObjectMeta {
            name: Some(format!("batchyard-log-{hash}")),
            namespace: job.namespace(),
            labels: Some([(meta::MANAGED_BY.to_owned(), meta::OPERATOR.to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        immutable: Some(true),
        ..Secret::default()
    }
}

fn owner_of(job: &BatchJob, caches: &Caches) -> OwnerReference {
    match caches.revision_of(job) {
        Some(revision) => OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "ControllerRevision".to_owned(),
            name: revision.name_any(),
            uid: revision.uid().unwrap_or_default(),
            ..OwnerReference::default()
        },
        None => owner("BatchJob", job),
    }
}

fn owner(kind: &str, object: &impl ResourceExt) -> OwnerReference {
    OwnerReference {
        api_version: "batchyard.io/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

#[cfg(test)]
mod tests;
