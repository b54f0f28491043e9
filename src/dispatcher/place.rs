//! Making the pod of one admitted job, and what to make of the API server's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batchyard_core::job::record::Record;
use batchyard_core::reason::clean;
use batchyard_core::termination::create::{
    CreateRefusal, EnvironmentFault, classify_create, environments_fault, is_about_rights,
};
use batchyard_core::{name, waits};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::index::{Waiting, environment_closed, gangs, has_open_pod, is_wanted};
use super::logging::{self, Routing};
use super::rights;
use crate::controllers::Context;
use crate::controllers::batch_job::identity;
use crate::crd::{BatchJob, ComputeEnvironment};
use crate::k8s::build::{self, Attempt, Child};
use crate::k8s::error::{Error, chain};
use crate::k8s::gangs::Node;
use crate::k8s::pods;
use crate::k8s::pool::Pool;
use crate::k8s::read::read;
use crate::seeded_bugs::{Bug, has};

/// Pods of one multi-node job that are made at a time.
const AT_A_TIME: usize = 16;

/// A job that was admitted to an environment.
#[derive(Clone)]
pub struct Placing {
    /// The job's uid, or the child of it that is placed: see [`name::part`].
    pub key: String,
    /// The job.
    pub waiting: Waiting,
    /// The environment.
    pub environment: Arc<ComputeEnvironment>,
    /// Its nodes.
    pub pool: Arc<Pool>,
}

impl Placing {
    /// The name that the pod has.
    pub fn pod_name(&self) -> String {
        let Waiting { job, index, attempt, placement, .. } = &self.waiting;
        name::pod(&job.name_any(), self.job_uid(), *index, *attempt, *placement)
    }

    fn job_uid(&self) -> &str {
        name::whole(&self.key).0
    }
}

/// Creates the pod. Afterwards the job is either known to have one, held back, or refused.
pub async fn place(context: &Context, placing: Placing, creates: &Semaphore) {
    if let Some(wait) = rights::missing(context, &placing.waiting.job).await {
        return context.dispatch.hold_job(&placing.key, &placing.pod_name(), wait);
    }
    let Some(made) = make(context, &placing, None, creates).await else { return };
    let without = logging::refused(&made);
    let made = match without {
        None => Some(made),
        Some(why) => make(context, &placing, Some(why), creates).await,
    };
    match made {
        Some((_, Ok(pod))) => {
            info!(pod = pod.name_any(), environment = placing.environment.name_any(), "pod created");
            context.dispatch.created(&placing.key, &pod.name_any(), context.clock.now());
        }
        Some((pod, Err(error))) => answer_refusal(context, &placing, &pod, &error).await,
        None => {}
    }
}

/// Asks for the pod, without a log sidecar if that is told; nothing if it is settled without that.
async fn make(
    context: &Context,
    placing: &Placing,
    without_log: Option<String>,
    creates: &Semaphore,
) -> Option<Answer> {
    let key = &placing.key;
    let pod = match build_pod(context, placing, without_log).await {
        Ok(pod) if has(Bug::RandomNames) => with_random_name(pod),
        Ok(pod) => pod,
        Err(Unbuildable::Later(text)) => {
            context.dispatch.hold_back(key, &placing.pod_name(), text);
            return None;
        }
        Err(Unbuildable::Never(why)) => {
            context.dispatch.refuse(key, &placing.pod_name(), why);
            return None;
        }
    };
    // The semaphore is never closed.
    let _permit = creates.acquire().await;
    if let Err(error) = read_unless_certain(context, placing).await {
        let text = waits::api_refuses(&chain(&error));
        context.dispatch.hold_back(key, &pod.name_any(), text);
        return None;
    }
    if !is_still_wanted(context, placing) {
        context.dispatch.settle(key, &pod.name_any());
        return None;
    }
    let answer = context.writer.create_attempt_pod(&pod).await;
    Some((pod, answer))
}

/// Creates the pods of a multi-node job: the main node's, which is first, then the others. Once one is not made the
/// rest is left out, and the job controller takes back those that were.
pub async fn place_gang(context: &Context, parts: Vec<Placing>, creates: &Semaphore) {
    let all_made = AtomicBool::new(true);
    let make = |part: Placing| async {
        let (key, pod) = (part.key.clone(), part.pod_name());
        if !all_made.load(Ordering::Relaxed) {
            return context.dispatch.settle(&key, &pod);
        }
        place(context, part, creates).await;
        let is_seen = || {
            let pods = context.caches.pods.of_part(&key);
            pods.iter().any(|found| found.pod.metadata.name.as_ref() == Some(&pod))
        };
        if !context.dispatch.is_answered(&key, &pod) && !is_seen() {
            all_made.store(false, Ordering::Relaxed);
        }
    };
    let mut parts = parts.into_iter();
    if let Some(main) = parts.next() {
        make(main).await;
    }
    stream::iter(parts).for_each_concurrent(AT_A_TIME, make).await;
}

/// What [`Bug::RandomNames`] does.
fn with_random_name(mut pod: Pod) -> Pod {
    let chance = jiff::Timestamp::now().subsec_nanosecond();
    pod.metadata.name = Some(format!("{}-{chance:x}", pod.name_any()));
    pod
}

/// Reads the job of which only a list has told, as after a restart: a list from the past would have a
/// pod made that was counted and removed long ago, and AlreadyExists would not save us.
async fn read_unless_certain(context: &Context, placing: &Placing) -> Result<(), Error> {
    let job = &placing.waiting.job;
    if context.caches.vouches_for(job) {
        return Ok(());
    }
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let api: Api<BatchJob> = Api::namespaced(context.writer.client().clone(), &namespace);
    let what = format!("get BatchJob {namespace}/{name}");
    context.caches.read_job(read(what, || api.get(&name)).await?);
    Ok(())
}

/// True if the job, as this process knows it now, still waits for the very same pod, and its
/// environment takes it. An order to end either may have come since it was admitted; one that comes
/// later finds the create announced.
fn is_still_wanted(context: &Context, placing: &Placing) -> bool {
    let Waiting { index, attempt, placement, .. } = placing.waiting;
    let caches = &context.caches;
    let environment = context.caches.environments.get(&ObjectRef::from_obj(placing.environment.as_ref()));
    let open = environment.is_some_and(|object| environment_closed(&object, &context.dispatch).is_none());
    let is_gang = placing.waiting.plan.gang.is_some();
    let may_run = index.filter(|_| !is_gang).is_none_or(|index| {
        let known = caches.arrays.get(placing.job_uid());
        known.is_some_and(|known| known.waiting.fresh.contains(index) || known.waiting.again.contains(index))
    });
    let is_wanted = |job: &BatchJob| if is_gang { gangs::is_wanted(job) } else { is_wanted(job) };
    let is_open = if is_gang { gangs::has_open_pod } else { has_open_pod };
    let job = caches.job(placing.job_uid()).filter(|_| open && may_run);
    job.is_some_and(|job| {
        caches.vouches_for(&job)
            && is_wanted(&job)
            && !caches.is_terminating(&job.namespace().unwrap_or_default())
            && caches.record_of(&placing.key).is_some_and(|record| {
                (record.next_attempt(), record.next_placement()) == (attempt, placement)
                    && !is_open(&record, &caches.pods.of_part(&placing.key))
            })
    })
}

/// A pod that was asked for, and what the API server said.
pub(super) type Answer = (Pod, Result<Pod, Error>);

/// Why there is no pod to be asked for.
pub(super) enum Unbuildable {
    Later(waits::Wait),
    Never(String),
}

async fn build_pod(
    context: &Context,
    placing: &Placing,
    without_log: Option<String>,
) -> Result<Pod, Unbuildable> {
    let Waiting { job, queue, plan, .. } = &placing.waiting;
    let effective = plan.effective.as_ref().map_err(|why| Unbuildable::Never(why.clone()))?;
    let gang = plan.gang.as_ref().zip(placing.waiting.index);
    let group = gang.and_then(|(gang, node)| gang.group_of(node));
    let effective = group.map_or(effective, |group| &group.effective);
    let namespace = job.namespace().unwrap_or_default();
    effective.check_namespace(&namespace).map_err(Unbuildable::Never)?;
    let account = match effective.job_role() {
        None => None,
        Some(role) => {
            let found = identity::service_account(context.writer.client(), &namespace, role).await;
            let found = found.map_err(|error| Unbuildable::Later(waits::api_refuses(&chain(&error))))?;
            Some(found.map_err(Unbuildable::Later)?)
        }
    };
    let routing = match without_log {
        Some(why) => Routing::Unrouted(why),
        None => logging::routing(context, placing, effective).await?,
    };
    let record: Record = job.status.clone().unwrap_or_default().record;
    let queue_object = queue.name_any();
    Ok(build::pod(&Attempt {
        namespace: &namespace,
        job_name: &job.name_any(),
        job_uid: placing.job_uid(),
        job_id: record.job_id.as_deref().unwrap_or(placing.job_uid()),
        child: child(job, placing.waiting.index.filter(|_| gang.is_none())),
        node: gang.map(|(gang, index)| Node {
            index,
            main: gang.main,
            count: gang.nodes,
            instance_type: group.and_then(|group| group.instance_type.as_deref()),
        }),
        queue_name: queue.spec.job_queue_name.as_deref().unwrap_or(&queue_object),
        queue: &queue_object,
        share: job.spec.share_identifier.as_deref(),
        tokens: &placing.waiting.candidate.tokens,
        definition: record.job_definition.as_deref().unwrap_or_default(),
        number: placing.waiting.attempt,
        placement: placing.waiting.placement,
        environment: &placing.environment.name_any(),
        environment_spec: &placing.environment.spec,
        pool: &placing.pool,
        service_account: account.as_deref(),
        effective,
        tags: plan.tags.as_ref(),
        session: plan.session.as_deref(),
        refuses_root: context.caches.refuses_root(&namespace),
        host_network: plan.host_network,
        grace_seconds: i64::from(context.settings.terminate_grace_seconds),
        fenced: queue.spec.strict_fencing == Some(true),
        log_tail: context.settings.log_tail,
        logs: routing.logs(),
    }))
}

fn child(job: &BatchJob, index: Option<u32>) -> Option<Child> {
    let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    let size = array.and_then(|array| u32::try_from(array.size?).ok());
    index.map(|index| Child { index, size: size.unwrap_or_default() })
}

async fn answer_refusal(context: &Context, placing: &Placing, pod: &Pod, error: &Error) {
    let (key, name) = (placing.key.as_str(), pod.name_any());
    let (code, reason, message) = error
        .status()
        .map_or((0, "", ""), |status| (status.code, status.reason.as_str(), status.message.as_str()));
    let settings = &context.settings.runner;
    if let Some(runner) = settings.name.as_ref().filter(|_| is_about_rights(code, message)) {
        let namespace = pod.namespace().unwrap_or_default();
        let why = clean::line(message, clean::REASON_LIMIT);
        let wait = waits::runner_refused(runner, &namespace, &settings.role, &why);
        return context.dispatch.hold_namespace(key, pod, wait);
    }
    let refusal = classify_create(code, reason, message);
    warn!(pod = pod.name_any(), ?refusal, "pod not created: {}", chain(error));
    if has(Bug::NoReadBack) && refusal == CreateRefusal::Transient {
        return context.dispatch.refuse(key, &name, "no answer".to_owned());
    }
    if let Some(verdict) = refusal.verdict() {
        let members = build::pod_members(&placing.environment.spec);
        if let Some(fault) = environments_fault(message, &members) {
            return wait_for_environment(context, placing, &name, &fault, message);
        }
        return context.dispatch.refuse(key, &name, verdict);
    }
    match refusal {
        CreateRefusal::Quota(text) => {
            context.dispatch.hold_namespace(key, pod, waits::quota(&text));
        }
        CreateRefusal::ServiceAccountMissing => {
            context.dispatch.hold_back(key, &name, waits::api_refuses(message));
        }
        CreateRefusal::Exists | CreateRefusal::Transient if !matches!(error, Error::NotLeading { .. }) => {
            look_back(context, key, pod, &chain(error)).await;
        }
        _ => context.dispatch.hold_back(key, &name, waits::api_refuses(&chain(error))),
    }
}

/// The job can not help it: it waits, or goes elsewhere, until the environment is mended.
fn wait_for_environment(
    context: &Context,
    placing: &Placing,
    pod: &str,
    fault: &EnvironmentFault,
    message: &str,
) {
    let why = clean::line(message, clean::REASON_LIMIT);
    let environment = placing.environment.as_ref();
    if fault.everywhere {
        context.dispatch.refuse_environment(&placing.key, pod, environment, fault.member, why);
    } else {
        let text = waits::environment_refused(&environment.name_any(), fault.member, &why);
        context.dispatch.hold_back(&placing.key, pod, text);
    }
}

/// The create may have been carried out although its answer was lost, or an earlier one was:
/// reads the pod back, for as long as it takes to know.
async fn look_back(context: &Context, key: &str, pod: &Pod, why: &str) {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let mut pause = Duration::from_millis(200);
    while let Err(error) = judge(context, key, &namespace, &name, why).await {
        warn!(pod = name, "whether the pod was made is not known: {}", chain(&error));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// A pod that was made and that no watch has shown may be gone already.
pub async fn look_again(context: &Context, key: &str, pod: &str) {
    let Some(namespace) = context.caches.job(name::whole(key).0).and_then(|job| job.namespace()) else {
        return;
    };
    let gone = "its pod was made and is gone";
    if let Err(error) = judge(context, key, &namespace, pod, gone).await {
        warn!(pod, "whether the pod exists is not known: {}", chain(&error));
    }
}

/// Reads a pod and says what its being there means.
async fn judge(context: &Context, key: &str, namespace: &str, pod: &str, why: &str) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.writer.client().clone(), namespace);
    match read(format!("get Pod {namespace}/{pod}"), || api.get_opt(pod)).await? {
        // It is there and ours: the watch will show it.
        Some(found) if pods::owner(&found) == Some(name::whole(key).0) => {
            context.dispatch.created(key, pod, context.clock.now())
        }
        Some(_) => context.dispatch.hold_back(key, pod, waits::name_taken(pod)),
        None => context.dispatch.hold_back(key, pod, waits::api_refuses(why)),
    }
    Ok(())
}
