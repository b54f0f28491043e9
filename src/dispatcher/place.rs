//! Making the pod of one admitted job, and what to make of the API server's answer.

use std::sync::Arc;

use batchyard_core::job::record::Record;
use batchyard_core::termination::create::{CreateRefusal, classify_create};
use batchyard_core::waits;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use tracing::{info, warn};

use super::index::Waiting;
use crate::controllers::Context;
use crate::controllers::batch_job::identity;
use crate::crd::ComputeEnvironment;
use crate::k8s::build::{self, Attempt};
use crate::k8s::error::{Error, chain};
use crate::k8s::pods;
use crate::k8s::pool::Pool;

/// A job that was admitted to an environment.
pub struct Placing {
    /// The job's uid.
    pub uid: String,
    /// The job.
    pub waiting: Waiting,
    /// The environment.
    pub environment: Arc<ComputeEnvironment>,
    /// Its nodes.
    pub pool: Arc<Pool>,
}

/// Creates the pod. Afterwards the job is either known to have one, held back, or refused.
pub async fn place(context: &Context, placing: Placing) {
    let uid = placing.uid.clone();
    let pod = match build_pod(context, &placing).await {
        Ok(pod) => pod,
        Err(Unbuildable::Later(text)) => {
            context.dispatch.hold_back(&uid, text, Timestamp::now());
            return;
        }
        Err(Unbuildable::Never(why)) => return context.dispatch.refuse(&uid, why),
    };
    match context.writer.create_pod(&pod).await {
        Ok(pod) => {
            info!(pod = pod.name_any(), environment = placing.environment.name_any(), "pod created");
            context.dispatch.created(&uid);
        }
        Err(error) => answer_refusal(context, &uid, &pod, &error).await,
    }
}

enum Unbuildable {
    Later(String),
    Never(String),
}

async fn build_pod(context: &Context, placing: &Placing) -> Result<Pod, Unbuildable> {
    let Waiting { job, queue, plan, .. } = &placing.waiting;
    let effective = plan.effective.as_ref().map_err(|why| Unbuildable::Never(why.clone()))?;
    let namespace = job.namespace().unwrap_or_default();
    let account = match &effective.properties.job_role {
        None => None,
        Some(role) => {
            let found = identity::service_account(context.writer.client(), &namespace, role).await;
            let found = found.map_err(|error| Unbuildable::Later(waits::api_refuses(&chain(&error))))?;
            Some(found.map_err(Unbuildable::Later)?)
        }
    };
    let record: Record = job.status.clone().unwrap_or_default().record;
    let queue_object = queue.name_any();
    Ok(build::pod(&Attempt {
        namespace: &namespace,
        job_name: &job.name_any(),
        job_uid: &placing.uid,
        job_id: record.job_id.as_deref().unwrap_or(&placing.uid),
        queue_name: queue.spec.job_queue_name.as_deref().unwrap_or(&queue_object),
        queue: &queue_object,
        definition: record.job_definition.as_deref().unwrap_or_default(),
        number: record.next_attempt(),
        placement: record.next_placement(),
        environment: &placing.environment.name_any(),
        environment_spec: &placing.environment.spec,
        pool: &placing.pool,
        service_account: account.as_deref(),
        effective,
        grace_seconds: i64::from(context.settings.terminate_grace_seconds),
        log_tail: context.settings.log_tail,
    }))
}

async fn answer_refusal(context: &Context, uid: &str, pod: &Pod, error: &Error) {
    let now = Timestamp::now();
    let (code, reason, message) = error
        .status()
        .map_or((0, "", ""), |status| (status.code, status.reason.as_str(), status.message.as_str()));
    let refusal = classify_create(code, reason, message);
    warn!(pod = pod.name_any(), ?refusal, "pod not created: {}", chain(error));
    if let Some(verdict) = refusal.verdict() {
        return context.dispatch.refuse(uid, verdict);
    }
    match refusal {
        CreateRefusal::Quota(text) => {
            context.dispatch.hold_back(uid, waits::quota(&text), now);
        }
        CreateRefusal::ServiceAccountMissing => {
            let since = context.dispatch.hold_back(uid, waits::api_refuses(message), now);
            let limit = SignedDuration::from_secs(i64::from(context.settings.missing_config_seconds));
            if now.duration_since(since) >= limit {
                context.dispatch.refuse(uid, batchyard_core::reason::invalid_job_definition(message));
            }
        }
        CreateRefusal::Exists | CreateRefusal::Transient if !matches!(error, Error::NotLeading { .. }) => {
            look_back(context, uid, pod, &chain(error)).await;
        }
        _ => {
            context.dispatch.hold_back(uid, waits::api_refuses(&chain(error)), now);
        }
    }
}

/// The create may have been carried out although its answer was lost, or an earlier one was:
/// reads the pod back, for as long as it takes to know.
async fn look_back(context: &Context, uid: &str, pod: &Pod, why: &str) {
    let api: Api<Pod> =
        Api::namespaced(context.writer.client().clone(), &pod.namespace().unwrap_or_default());
    let mut pause = std::time::Duration::from_millis(200);
    loop {
        match tokio::time::timeout(std::time::Duration::from_secs(10), api.get_opt(&pod.name_any())).await {
            // It is there and ours: the watch will show it.
            Ok(Ok(Some(found))) if pods::owner(&found) == Some(uid) => return context.dispatch.created(uid),
            Ok(Ok(Some(_))) => {
                context.dispatch.hold_back(uid, waits::name_taken(&pod.name_any()), Timestamp::now());
                return;
            }
            Ok(Ok(None)) => {
                context.dispatch.hold_back(uid, waits::api_refuses(why), Timestamp::now());
                return;
            }
            Ok(Err(_)) | Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(std::time::Duration::from_secs(10));
            }
        }
    }
}
