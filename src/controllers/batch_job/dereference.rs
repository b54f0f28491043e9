//! Everything that a decision about a job is made from. Only reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batchyard_core::array::Pairs;
use batchyard_core::definition::nodes::Gang;
use batchyard_core::dependency::Verdict;
use batchyard_core::job::decide::{Job, Readiness, Seen};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name::{self, DefinitionRef};
use batchyard_core::pod::PodView;
use batchyard_core::queue::share::ACTIVE_SHARES;
use batchyard_core::reason;
use batchyard_core::termination::{Tolerances, look};
use batchyard_core::waits::{self, Wait};
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::{array, dependencies, identity, logs, session};
use crate::controllers::{Context, job_queue};
use crate::crd::convert::{self, Plan};
use crate::crd::ignored::{self, Kind};
use crate::crd::{BatchJob, JobDefinition, JobDefinitionSpec};
use crate::dispatcher::cycle::DWELL;
use crate::dispatcher::index::closed;
use crate::k8s::capability;
use crate::k8s::error::Error;
use crate::k8s::observe;
use crate::k8s::read::read;
use crate::k8s::revisions;
use crate::k8s::watch::key;
use crate::seeded_bugs::{Bug, has};

/// What is known of a job and its surroundings.
pub(super) struct Dereferenced {
    pub job: Job,
    pub readiness: Readiness,
    pub seen: Seen,
    pub tolerances: Tolerances,
    /// The nodes of a multi-node job that has not ended.
    pub gang: Option<Arc<Gang>>,
    /// The interactive session that the job is, while it has not ended.
    pub session: Option<session::Seen>,
    /// The pods behind `seen.pods`.
    pub pods: Vec<Arc<Pod>>,
    /// The queue that a waiting job is in: the one it names, once that takes it.
    pub queue: String,
    /// Its queue is a fair-share queue.
    pub fair_share: bool,
    /// It waits for something that nobody watches.
    pub poll: bool,
}

/// Reads what a decision about this job needs.
pub(super) async fn dereference(job: &BatchJob, context: &Context) -> Result<Dereferenced, Error> {
    let record = job.status.clone().unwrap_or_default().record;
    // Asked before the pods are read: a create that is answered in between shows its pod.
    let uid = job.uid().unwrap_or_default();
    let creating = context.dispatch.is_creating(&uid)
        || job.is_gang() && !context.dispatch.creating_children(&uid).is_empty();
    let pods = pods(job, &record, context).await?;
    let tolerances = tolerances(&record, context);
    let mut world = Dereferenced {
        job: wishes(job, context),
        readiness: Readiness::Ready(record.job_definition.clone().unwrap_or_default()),
        seen: seen(job, &record, &pods, &tolerances, context).await?,
        tolerances,
        gang: None,
        session: None,
        pods,
        queue: queue(job, context),
        fair_share: is_fair_share(job, context),
        poll: false,
    };
    world.seen.creating = creating;
    let plan = match record.phase() {
        phase if phase.is_terminal() => None,
        Phase::Submitted | Phase::Pending => {
            let look = dependencies::look(job, &record, context).await?;
            (world.seen.depends_on, world.seen.again) = (look.notes, look.again);
            let ready = match (record.phase(), &record.job_definition) {
                // It was accepted as it is; only for other jobs it still waits.
                (Phase::Pending, Some(definition)) => match goes_on(job, definition, look.verdict, context) {
                    Ok(definition) => {
                        let (plan, refused) = plan_of(job, context).await?;
                        world.seen.refused = refused.or(world.seen.refused);
                        Ok((definition, plan))
                    }
                    Err(not_ready) => Err(not_ready),
                },
                _ => readiness(job, look.verdict, context).await?,
            };
            match ready {
                Ok((definition, plan)) => {
                    world.readiness = Readiness::Ready(definition);
                    Some(plan)
                }
                Err(NotReady { readiness, poll }) => {
                    (world.readiness, world.poll) = (readiness, poll);
                    None
                }
            }
        }
        _ => {
            let (plan, refused) = plan_of(job, context).await?;
            world.seen.refused = refused.or(world.seen.refused);
            Some(plan)
        }
    };
    if let Some(plan) = plan {
        plan.tell_roles(&mut world.seen.pods);
        world.job.strategy = plan.strategy;
        if has(Bug::LastRuleWins) {
            world.job.strategy.evaluate_on_exit.reverse();
        }
        if has(Bug::OneAttemptMore) {
            world.job.strategy.attempts += 1;
        }
        world.job.timeout = plan.timeout;
        if let Some(session) = &plan.session {
            let seen = session::Seen::look(job, session, &record, &world.pods, context).await;
            world.job.idle_timeout = session.idle_limit();
            world.seen.idle_since = seen.idle_since(job, context.clock.now());
            world.session = Some(seen);
        }
        world.gang = plan.gang;
    }
    Ok(world)
}

/// What an accepted job runs. Its revision should be there for as long as the job is; should
/// somebody have deleted it, what the job itself states still counts, and it starts no more.
pub(super) async fn plan_of(job: &BatchJob, context: &Context) -> Result<(Plan, Option<String>), Error> {
    if let Some(definition) = context.caches.definition_of(job) {
        let plan = convert::plan(&job.spec, &definition);
        let refused = wrong_platform(job, &plan, context);
        return Ok((plan, refused));
    }
    let status = job.status.clone().unwrap_or_default();
    let resolved = status.record.job_definition.unwrap_or_default();
    // None where somebody else wrote a status without one.
    let found = match name::revision(&resolved) {
        Some(revision) => live_revision(job, &revision, context).await?,
        None => None,
    };
    let definition = found.and_then(|found| serde_json::from_value(found.data?.0).ok());
    let missing = || reason::invalid_job_definition(&waits::definition_missing(&resolved).text);
    let refused = definition.is_none().then(missing);
    Ok((convert::plan(&job.spec, &definition.unwrap_or_default()), refused))
}

/// Why a job cannot run on any environment of its queue, if that is so. While it has no pod it is refused for that.
fn wrong_platform(job: &BatchJob, plan: &Plan, context: &Context) -> Option<String> {
    let queue = context.caches.queue_of(job)?;
    capability::obstacle(plan, &queue, &context.caches)?.refused
}

async fn live_revision(
    job: &BatchJob,
    name: &str,
    context: &Context,
) -> Result<Option<ControllerRevision>, Error> {
    let api: Api<ControllerRevision> =
        Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
    read(format!("get ControllerRevision {name}"), || api.get_opt(name)).await
}

/// A waiting job that is moved to another queue is there once that queue takes it.
pub(super) fn queue(job: &BatchJob, context: &Context) -> String {
    let known = job.status.as_ref().and_then(|status| status.job_queue.clone());
    match (waits_for_queue(job, context), known) {
        (Some(_), Some(known)) => known,
        _ => job.spec.job_queue.clone(),
    }
}

pub(super) fn is_fair_share(job: &BatchJob, context: &Context) -> bool {
    context.caches.queue_of(job).is_some_and(|queue| queue.spec.scheduling_policy_arn.is_some())
}

/// What the job's owner wants, apart from what the definition says.
pub(super) fn wishes(job: &BatchJob, context: &Context) -> Job {
    let queue = context.caches.queue_of(job);
    let deleted_queue = queue.as_ref().is_some_and(|queue| job_queue::is_failing_jobs(queue));
    let stop = if job.metadata.deletion_timestamp.is_some() {
        Some(reason::JOB_DELETED)
    } else {
        deleted_queue.then_some(reason::QUEUE_DELETED)
    };
    let orders = (!has(Bug::ForgetsOrders)).then_some(&job.spec);
    Job {
        terminate: orders.and_then(|spec| spec.terminate.clone()),
        cancel: orders.and_then(|spec| spec.cancel.clone()),
        stop: stop.map(str::to_owned),
        time_limits: queue.map(|queue| job_queue::time_limits(&queue)).unwrap_or_default(),
        is_array: job.spec.array_properties.is_some(),
        ..Job::default()
    }
}

/// The job's pods. One that the record speaks of and the cache does not show is asked for.
async fn pods(job: &BatchJob, record: &Record, context: &Context) -> Result<Vec<Arc<Pod>>, Error> {
    let uid = job.uid().unwrap_or_default();
    let mut pods: Vec<_> = context.caches.pods.of_job(&uid).into_iter().map(|pod| pod.pod.clone()).collect();
    let Some(current) = &record.current else { return Ok(pods) };
    if pods.iter().any(|pod| pod.uid().as_deref() == Some(&current.pod_uid)) {
        return Ok(pods);
    }
    let api: Api<Pod> =
        Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
    let found = read(format!("get Pod {}", current.pod_name), || api.get_opt(&current.pod_name)).await?;
    pods.extend(found.filter(|pod| pod.uid().as_deref() == Some(&current.pod_uid)).map(Arc::new));
    Ok(pods)
}

async fn seen(
    job: &BatchJob,
    record: &Record,
    pods: &[Arc<Pod>],
    tolerances: &Tolerances,
    context: &Context,
) -> Result<Seen, Error> {
    let uid = job.uid().unwrap_or_default();
    let views: Vec<_> = pods.iter().filter_map(|pod| observe::pod(pod)).collect();
    let notices = &context.settings.notices;
    let view = |node: Arc<Node>| notices.view(&node);
    let mut nodes = BTreeMap::new();
    // The pods of a multi-node job are counted with their main node's.
    let round = (record.next_attempt(), record.next_placement());
    let has_counted =
        |pod: &PodView| record.has_counted(&pod.uid) || job.is_gang() && (pod.attempt, pod.placement) < round;
    for pod in &views {
        let Some(name) = &pod.node_name else { continue };
        let mut node = context.node(name).await?.map(view);
        let sight = look(pod, node.as_ref(), None, tolerances, context.clock.now());
        if !has_counted(pod) && sight.rests_on_node() {
            node = context.live_node(name).await?.map(view);
        }
        nodes.extend(node.map(|node| (name.clone(), node)));
    }
    // A pod that is on record and gone is judged by its node alone.
    let on_record = record.current.as_ref().and_then(|current| current.node_name.as_ref());
    if let Some(name) = on_record.filter(|name| !views.iter().any(|pod| pod.node_name.as_ref() == Some(name)))
    {
        let node = context.live_node(name).await?.map(view);
        nodes.extend(node.map(|node| (name.clone(), node)));
    }
    let is_placed = views.iter().any(|pod| !has_counted(pod));
    Ok(Seen {
        pods: views,
        nodes,
        waits_for: waits_for(job, &uid, is_placed, context),
        refused: context.dispatch.refused(&uid),
        ..Seen::default()
    })
}

/// What the dispatcher says, once it has said so for a while; for a job that comes new to a queue
/// in which others wait, that it is behind them. One that has a pod has had its turn.
fn waits_for(job: &BatchJob, uid: &str, is_placed: bool, context: &Context) -> Option<Wait> {
    let record = job.status.as_ref().map(|status| &status.record);
    let wait = match context.dispatch.waits_for(uid) {
        Some(wait) => wait,
        None if is_placed || record.is_some_and(|record| record.phase() > Phase::Runnable) => return None,
        None => {
            let queue = key(context.caches.queue_of(job)?.as_ref());
            let turn = context.dispatch.turn_of(&queue, record.and_then(|record| record.runnable_at))?;
            if record.is_none_or(|record| record.phase() < Phase::Runnable) {
                return Some(turn.what);
            }
            turn
        }
    };
    (context.clock.now().duration_since(wait.since) >= DWELL).then_some(wait.what)
}

fn tolerances(record: &Record, context: &Context) -> Tolerances {
    let current = record.current.as_ref();
    tolerances_in(current.and_then(|current| current.compute_environment.as_deref()), context)
}

/// The tolerances of an environment.
pub(super) fn tolerances_in(environment: Option<&str>, context: &Context) -> Tolerances {
    let environment = environment.and_then(|name| context.caches.environments.get(&ObjectRef::new(name)));
    let spec = environment.as_ref().map(|environment| &environment.spec);
    let seconds = spec.and_then(|spec| spec.node_lost_timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let tolerances = context.settings.tolerances(seconds.map(Duration::from_secs));
    match spec.and_then(|spec| spec.logging.as_ref()?.start_timeout_seconds) {
        Some(stated) => Tolerances { log_sidecar: SignedDuration::from_secs(stated.into()), ..tolerances },
        None => tolerances,
    }
}

type Resolved<T> = Result<T, NotReady>;

/// Why a job is not accepted.
struct NotReady {
    readiness: Readiness,
    /// Nobody tells when that changes.
    poll: bool,
}

impl From<Readiness> for NotReady {
    fn from(readiness: Readiness) -> Self {
        Self { readiness, poll: false }
    }
}

/// Whether everything that a SUBMITTED job names is there, and what it runs.
async fn readiness(
    job: &BatchJob,
    depends: Verdict,
    context: &Context,
) -> Result<Resolved<(String, Plan)>, Error> {
    let fails = || match &depends {
        Verdict::Failed(why) => Some(Readiness::Refused(why.clone())),
        Verdict::Satisfied | Verdict::Pending(_) => None,
    };
    let waits = || waits_for_queue(job, context).map(Readiness::Waiting);
    if let Some(readiness) = refused_by_spec(job, context).or_else(fails).or_else(waits) {
        return Ok(Err(readiness.into()));
    }
    if let Some(readiness) = share(job, context) {
        return Ok(Err(readiness.into()));
    }
    if let Some(readiness) = array::readiness(job, context) {
        return Ok(Err(readiness.into()));
    }
    let (name, definition) = match convert::inline_definition(&job.spec) {
        Some(definition) => (inline_name(job), definition),
        None => match resolve(job, context).await? {
            Ok(found) => found,
            Err(readiness) => return Ok(Err(readiness.into())),
        },
    };
    if let Some(refusal) = unsupported(Kind::JobDefinition, &definition) {
        return Ok(Err(refusal.into()));
    }
    let plan = convert::bounded_plan(&job.spec, &definition);
    if let Some(why) = wrong_platform(job, &plan, context) {
        return Ok(Err(Readiness::Refused(why).into()));
    }
    let effective = match &plan.effective {
        Ok(effective) => effective,
        Err(why) => return Ok(Err(Readiness::Refused(reason::cannot_run(why)).into())),
    };
    let namespace = job.namespace().unwrap_or_default();
    if let Err(why) = plan.check_namespace(&namespace) {
        return Ok(Err(Readiness::Refused(reason::invalid_job_definition(&why)).into()));
    }
    if let Some(refusal) = logs::refusal(job, &plan, context) {
        return Ok(Err(refusal.into()));
    }
    if let Some(role) = effective.job_role()
        && let Err(why) = identity::service_account(context.writer.client(), &namespace, role).await?
    {
        return Ok(Err(NotReady { readiness: Readiness::Waiting(why), poll: true }));
    }
    Ok(goes_on(job, &name, depends, context).map(|definition| (definition, plan)))
}

/// Whether a job that names nothing that is missing may become RUNNABLE: once the jobs succeeded that it depends on, those
/// that its children wait for child by child are there and of its size, and its share may be active.
fn goes_on(job: &BatchJob, definition: &str, depends: Verdict, context: &Context) -> Resolved<String> {
    let definition = definition.to_owned();
    // An array that it waits for child by child may have come after it was accepted.
    match (depends, array::pairs(job, context)) {
        (Verdict::Failed(why), _) | (_, Pairs::Differ(why)) => Err(Readiness::Refused(why).into()),
        (Verdict::Pending(wait), _) | (Verdict::Satisfied, Pairs::Unknown(wait)) => {
            Err(Readiness::Pending { definition, wait }.into())
        }
        (Verdict::Satisfied, Pairs::Fit) => match too_many_shares(job, context) {
            Some(wait) => Err(NotReady { readiness: Readiness::Waiting(wait), poll: true }),
            None => Ok(definition),
        },
    }
}

/// A definition that stands in the job itself has no revision.
fn inline_name(job: &BatchJob) -> String {
    job.name_any()
}

fn refused_by_spec(job: &BatchJob, context: &Context) -> Option<Readiness> {
    unsupported(Kind::BatchJob, &job.spec).or_else(|| {
        let id = job.spec.job_id.as_ref()?;
        let age = |job: &BatchJob| (job.creation_timestamp().map(|time| time.0), job.uid());
        let mut others = context.caches.jobs_with_id(id).into_iter();
        let taken = others.any(|other| other.uid() != job.uid() && age(&other) < age(job));
        taken.then(|| Readiness::Refused(reason::job_id_taken(id)))
    })
}

fn unsupported(kind: Kind, spec: &impl serde::Serialize) -> Option<Readiness> {
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let fields = ignored::unsupported_fields(kind, &spec);
    (!fields.is_empty()).then(|| Readiness::Refused(reason::unsupported_fields(&fields.join(", "))))
}

/// What keeps a job out of a fair-share queue: it names no share, or the policy is missing.
fn share(job: &BatchJob, context: &Context) -> Option<Readiness> {
    let (namespace, reference) = (job.namespace()?, &job.spec.job_queue);
    let queue = context.caches.queue(&namespace, reference)?;
    let policy = queue.spec.scheduling_policy_arn.as_deref()?;
    if job.spec.share_identifier.is_none() {
        return Some(Readiness::Refused(reason::share_missing(reference)));
    }
    let missing = context.caches.policy(&namespace, policy).is_none();
    missing.then(|| Readiness::Waiting(waits::policy_missing(reference, policy)))
}

/// The job's share would be one too many. It becomes another's turn without a word.
fn too_many_shares(job: &BatchJob, context: &Context) -> Option<Wait> {
    let (namespace, reference) = (job.namespace()?, &job.spec.job_queue);
    let queue = context.caches.queue(&namespace, reference)?;
    let (Some(_), Some(share)) = (&queue.spec.scheduling_policy_arn, &job.spec.share_identifier) else {
        return None;
    };
    let may = context.dispatch.may_be_active(&key(queue.as_ref()), share);
    (!may).then(|| waits::too_many_shares(reference, ACTIVE_SHARES))
}

fn waits_for_queue(job: &BatchJob, context: &Context) -> Option<Wait> {
    let name = &job.spec.job_queue;
    match context.caches.queue(&job.namespace()?, name) {
        None => Some(waits::queue_missing(name)),
        Some(queue) => closed(&queue, name),
    }
}

/// Resolves the definition that a job names by live reads, to `name:revision` and its spec.
///
/// An unpinned name means the latest ACTIVE revision, and only a definition whose controller has
/// seen its newest spec can say which one that is.
async fn resolve(
    job: &BatchJob,
    context: &Context,
) -> Result<Result<(String, JobDefinitionSpec), Readiness>, Error> {
    let reference = job.spec.job_definition.as_deref().unwrap_or_default();
    let parsed = match DefinitionRef::parse(reference) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(Readiness::Refused(reason::invalid_job_definition(&why)))),
    };
    let waiting = |wait: Wait| Ok(Err(Readiness::Waiting(wait)));
    let Some(definition) = definition(job, &parsed.name, context).await? else {
        return waiting(waits::definition_missing(reference));
    };
    let status = definition.status.clone().unwrap_or_default();
    if status.observed_generation != definition.metadata.generation {
        return waiting(waits::definition_settling(reference));
    }
    let latest = status.latest_active.and_then(|number| u32::try_from(number).ok());
    let Some(number) = parsed.revision.or(latest) else {
        return waiting(waits::definition_inactive(reference));
    };
    let object = definition.name_any();
    let Some(found) = live_revision(job, &format!("{object}-{number}"), context).await? else {
        return waiting(waits::definition_missing(reference));
    };
    if !revisions::is_active(&definition, &revisions::of(&found)) {
        return waiting(waits::definition_inactive(reference));
    }
    let spec = found.data.as_ref().and_then(|data| serde_json::from_value(data.0.clone()).ok());
    match spec {
        Some(spec) => Ok(Ok((format!("{}:{number}", revisions::aws_name(&definition)), spec))),
        None => waiting(waits::definition_missing(reference)),
    }
}

/// The definition that a name means: AWS's name or the object's.
async fn definition(job: &BatchJob, name: &str, context: &Context) -> Result<Option<JobDefinition>, Error> {
    let api: Api<JobDefinition> =
        Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
    for name in name::candidates(name) {
        if name::is_object_name(&name) {
            let found = read(format!("get JobDefinition {name}"), || api.get_opt(&name)).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}
