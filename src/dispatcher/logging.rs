//! Where the output of a pod goes that is about to be made: its log sidecar, and the Secret that must be there before.
//!
//! A pod whose sidecar never started is replaced by one without, and so is one that its namespace refuses because of the
//! sidecar: a job runs, with its log or without. So does a pod whose processes see each other, where the sidecar has what
//! is not the job's.

use batchyard_core::definition::Effective;
use batchyard_core::job::record::Record;
use batchyard_core::logging::sidecar::{DEFAULT_BUFFER_MIB, Part, Settings, Source, plan};
use batchyard_core::queue::Resources;
use batchyard_core::reason::{self, logs};
use batchyard_core::termination::create::classify_create;
use batchyard_core::waits;
use kube::{Api, ResourceExt};
use tracing::warn;

use super::index::Waiting;
use super::place::{Answer, Placing, Unbuildable};
use crate::controllers::Context;
use crate::crd::convert::logging::source;
use crate::crd::{ComputeEnvironmentSpec, JobQueue};
use crate::k8s::build::logging::{Logging, Logs, may_be_asked, withheld};
use crate::k8s::caches::Caches;
use crate::k8s::error::{Error, chain};
use crate::k8s::{logging, meta};
use crate::settings::LoggingSettings;

/// Where a pod's output goes, as its own.
pub(super) enum Routing {
    Kept,
    Routed(Box<Logging>),
    Unrouted(String),
}

impl Routing {
    /// As the pod is built with it.
    pub(super) fn logs(&self) -> Logs<'_> {
        match self {
            Self::Kept => Logs::Kept,
            Self::Routed(logging) => Logs::Routed(logging),
            Self::Unrouted(why) => Logs::Unrouted(why),
        }
    }
}

/// Says where the output of a pod goes, and makes the Secret for that if it is not there.
pub(super) async fn routing(
    context: &Context,
    placing: &Placing,
    effective: &Effective,
) -> Result<Routing, Unbuildable> {
    let Waiting { job, queue, attempt, plan: whole, index, .. } = &placing.waiting;
    let environment = placing.environment.as_ref();
    let queue_name = queue.name_any();
    let routed =
        logging::routes(effective, (&queue_name, &queue.spec), (&environment.name_any(), &environment.spec));
    // It was checked when the job was accepted: somebody has changed the rules since.
    let routed = routed.map_err(|why| Unbuildable::Never(reason::cannot_run(&why)))?;
    let stated = environment.spec.logging.as_ref();
    let settings = &context.settings.logging;
    let buffer = stated.and_then(|stated| u64::try_from(stated.buffer_mi_b?).ok());
    let buffer_mib = buffer.unwrap_or(DEFAULT_BUFFER_MIB);
    let part = match index {
        _ if whole.gang.is_some() => Part::Node,
        Some(_) => Part::Child,
        None => Part::Whole,
    };
    let source = source(&environment.spec);
    let tells_health = may_be_asked(whole, effective, &environment.spec);
    let how = Settings { source, buffer_mib, grace_seconds: settings.flush_seconds, tells_health };
    let Some(sidecar) = plan(&Logging::members(&routed), part, &how) else { return Ok(Routing::Kept) };
    let secret = logging::secret(job, queue, environment, (&routed, &sidecar), &context.caches);
    let awslogs = stated.and_then(|stated| stated.awslogs.as_ref());
    let planned = Logging {
        routed,
        part,
        source,
        sidecar,
        secret: secret.name_any(),
        credentials_secret: awslogs.and_then(|awslogs| awslogs.credentials_secret.clone()),
        settings: settings.clone(),
    };
    if let Some(why) = withheld(effective, &planned).or_else(|| late(context, placing, *attempt)) {
        return Ok(Routing::Unrouted(why));
    }
    let made = &context.caches.logging;
    if !made.has(&secret) {
        let namespace = secret.namespace().unwrap_or_default();
        let api = Api::namespaced(context.writer.client().clone(), &namespace);
        match context.writer.apply(&api, &secret).await {
            Ok(_) => made.made(&secret),
            Err(error) if is_for_good(&error) => {
                warn!(job = job.name_any(), "its log sidecar has no configuration: {}", chain(&error));
                return Ok(Routing::Unrouted(logs::configuration_refused(&chain(&error))));
            }
            Err(error) => return Err(Unbuildable::Later(waits::api_refuses(&chain(&error)))),
        }
    }
    Ok(Routing::Routed(Box::new(planned)))
}

/// The sidecar of an earlier pod of this attempt did not start.
fn late(context: &Context, placing: &Placing, attempt: u32) -> Option<String> {
    let Waiting { job, plan, .. } = &placing.waiting;
    // The record of a multi-node job is that of all its nodes.
    let record: Option<Record> = match plan.gang.is_some() {
        true => job.status.as_ref().map(|status| status.record.clone()),
        false => context.caches.record_of(&placing.key),
    };
    let placements = record.map(|record| record.placements).unwrap_or_default().into_iter();
    let mut lost = placements.filter(|lost| lost.attempt == attempt).map(|lost| lost.status_reason);
    lost.find(|why| logs::is_sidecar_late(why))
}

/// True if asking again would change nothing until somebody acts.
fn is_for_good(error: &Error) -> bool {
    matches!(error.kind(), "forbidden" | "invalid" | "refused")
}

/// Why a pod with a sidecar was refused for good: it is tried without. A namespace may let no pod see a folder of its
/// node, or run as the superuser.
pub(super) fn refused((pod, answer): &Answer) -> Option<String> {
    let error = answer.as_ref().err().filter(|_| pod.annotations().contains_key(meta::LOG_DRIVER))?;
    let status = error.status()?;
    let refusal = classify_create(status.code, &status.reason, &status.message);
    refusal.verdict().map(|_| logs::pod_refused(&status.message))
}

/// What is requested for the output of a pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sidecars {
    sidecar: Resources,
    /// By the helper, where the output is followed through the API.
    follower: Resources,
}

impl Sidecars {
    pub(super) fn new(settings: &LoggingSettings) -> Self {
        let of = |mib: u64| {
            let memory = i64::try_from(mib << 20).unwrap_or(i64::MAX);
            Resources { cpu_milli: settings.cpu_milli, memory, ..Resources::default() }
        };
        Self { sidecar: of(settings.memory_mib), follower: of(settings.follow_memory_mib) }
    }
}

/// What a log sidecar may add to what a pod of the job requests. Which environment takes the job is not known yet, so
/// that it counts if it may have one in any.
pub(super) fn extra(
    effective: &Effective,
    queue: Option<&JobQueue>,
    caches: &Caches,
    sidecars: Sidecars,
) -> Resources {
    let Some(queue) = queue else { return Resources::default() };
    let namespace = queue.namespace().unwrap_or_default();
    let order = queue.spec.compute_environment_order.iter();
    let environments: Vec<_> =
        order.filter_map(|entry| caches.environment(&namespace, &entry.compute_environment)).collect();
    let specs = environments.iter().map(|environment| -> &ComputeEnvironmentSpec { &environment.spec });
    if !logging::may_be_routed(effective, &queue.spec, specs) {
        return Resources::default();
    }
    let mut sidecar = sidecars.sidecar;
    if environments.iter().any(|environment| source(&environment.spec) == Source::Api) {
        sidecar.add(&sidecars.follower);
    }
    // The job's own share of CPU makes room for the sidecar's.
    let cpu_milli = if effective.cpu_as_stated() { sidecar.cpu_milli } else { 0 };
    Resources { cpu_milli, ..sidecar }
}
