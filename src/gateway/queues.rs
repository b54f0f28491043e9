//! Job queues, and what is at their front.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::name;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Kind;
use super::call::{Call, input, millis};
use super::failure::Failure;
use super::names::{self, text};
use super::page::Wanted;
use crate::crd::aws::{JOB_QUEUE as CREATE, common};
use crate::crd::convert;
use crate::crd::shared::{ResourceStatus, State};
use crate::crd::{JobQueue, JobQueueSpec};
use crate::k8s::caches::names_queue;

const RESOURCE: &str = "jobqueues";
const TRIES: usize = 10;
/// Shares that a snapshot tells of.
const TOP_SHARES: usize = 20;

const UPDATE: &[&str] = &[
    "state",
    "schedulingPolicyArn",
    "priority",
    "computeEnvironmentOrder",
    "serviceEnvironmentOrder",
    "jobStateTimeLimitActions",
];

pub(super) async fn create_job_queue(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "jobQueueName")?.to_owned();
    let mut spec: JobQueueSpec = names::spec("JobQueue", CREATE, &body)?;
    call.may("create", RESOURCE, None).await?;
    references(call, &mut spec).await?;
    spec.state = spec.state.or(Some(State::Enabled));
    let metadata = ObjectMeta {
        name: Some(name::slug(&aws_name)),
        namespace: Some(call.namespace().to_owned()),
        ..ObjectMeta::default()
    };
    let object = JobQueue { metadata, spec, status: None };
    let stored = call.writer().create_object(&call.api(), &object).await?;
    call.world().queues.settle(&stored).await;
    Ok(answer(call, &stored))
}

fn answer(call: &Call, queue: &JobQueue) -> Value {
    let name = names::queue(queue);
    json!({"jobQueueName": name, "jobQueueArn": call.account.arn(Kind::Queue, &name)})
}

/// What a queue refers to must exist, and is kept by its name: an account's id may change, a name does not.
async fn references(call: &Call, spec: &mut JobQueueSpec) -> Result<(), Failure> {
    for entry in &mut spec.compute_environment_order {
        let wanted = call.account.name(Kind::Environment, &entry.compute_environment)?.to_owned();
        if call.environment(&wanted)?.is_none() {
            return Err(Failure::client(format!("ComputeEnvironment {wanted} not found.")));
        }
        entry.compute_environment = wanted;
    }
    let Some(arn) = spec.scheduling_policy_arn.clone() else { return Ok(()) };
    let wanted = call.account.only_arn(Kind::Policy, &arn)?.to_owned();
    let world = call.world();
    if world.named(&world.policies, call.namespace(), &wanted).await?.is_none() {
        return Err(Failure::client(format!("SchedulingPolicy {wanted} not found.")));
    }
    spec.scheduling_policy_arn = Some(wanted);
    Ok(())
}

pub(super) async fn update_job_queue(call: &Call, mut body: Value) -> Result<Value, Failure> {
    let reference = text(&body, "jobQueue")?.to_owned();
    let wanted = call.account.name(Kind::Queue, &reference)?.to_owned();
    if let Some(stated) = body.as_object_mut() {
        stated.remove("jobQueue");
    }
    // What is not stated stays; the priority is only there so that the rest can be read.
    let mut change = json!({"priority": 0});
    let is_object = |body: &Value| body.as_object().cloned().unwrap_or_default();
    change.as_object_mut().into_iter().for_each(|change| change.extend(is_object(&body)));
    let change: JobQueueSpec = names::spec("JobQueue", UPDATE, &change)?;
    for _ in 0..TRIES {
        let found: Option<JobQueue> = call.world().live(call.namespace(), &wanted).await?;
        let mut queue = found.ok_or_else(|| Failure::client(format!("JobQueue {wanted} not found.")))?;
        call.may("update", RESOURCE, queue.metadata.name.as_deref()).await?;
        lay_over(&mut queue.spec, &change, &body);
        references_of_change(call, &mut queue.spec, &body).await?;
        match call.writer().replace_object(&call.api(), &queue).await {
            Ok(stored) => {
                call.world().queues.settle(&stored).await;
                return Ok(answer(call, &stored));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this job queue at a time"))
}

fn lay_over(spec: &mut JobQueueSpec, change: &JobQueueSpec, body: &Value) {
    let is_stated = |member: &str| body.get(member).is_some();
    if is_stated("priority") {
        spec.priority = change.priority;
    }
    spec.state = change.state.or(spec.state);
    if is_stated("schedulingPolicyArn") {
        spec.scheduling_policy_arn.clone_from(&change.scheduling_policy_arn);
    }
    if is_stated("computeEnvironmentOrder") {
        spec.compute_environment_order.clone_from(&change.compute_environment_order);
    }
    if is_stated("serviceEnvironmentOrder") {
        spec.service_environment_order.clone_from(&change.service_environment_order);
    }
    if is_stated("jobStateTimeLimitActions") {
        spec.job_state_time_limit_actions.clone_from(&change.job_state_time_limit_actions);
    }
}

/// Only what is stated now is looked up: what stands there already may wait for something.
async fn references_of_change(call: &Call, spec: &mut JobQueueSpec, body: &Value) -> Result<(), Failure> {
    let mut stated = spec.clone();
    if body.get("computeEnvironmentOrder").is_none() {
        stated.compute_environment_order.clear();
    }
    if body.get("schedulingPolicyArn").is_none() {
        stated.scheduling_policy_arn = None;
    }
    references(call, &mut stated).await?;
    if !stated.compute_environment_order.is_empty() {
        spec.compute_environment_order = stated.compute_environment_order;
    }
    if stated.scheduling_policy_arn.is_some() {
        spec.scheduling_policy_arn = stated.scheduling_policy_arn;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    job_queue: String,
}

pub(super) async fn delete_job_queue(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Named = input(body)?;
    let wanted = call.account.name(Kind::Queue, &asked.job_queue)?;
    let Some(queue) = call.world().live::<JobQueue>(call.namespace(), wanted).await? else {
        return Ok(json!({}));
    };
    call.may("delete", RESOURCE, queue.metadata.name.as_deref()).await?;
    if queue.spec.state != Some(State::Disabled) {
        return Err(Failure::client(format!("Cannot delete, JobQueue {wanted} must be DISABLED first")));
    }
    call.writer().delete(&call.api::<JobQueue>(), &queue).await?;
    call.world().queues.settle_deletion(&queue).await;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Describe {
    #[serde(default)]
    job_queues: Vec<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) async fn describe_job_queues(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Describe = input(body)?;
    call.may("list", RESOURCE, None).await?;
    if asked.job_queues.len() > 100 {
        return Err(Failure::client("Maximum number of job queues supported is 100"));
    }
    let world = call.world();
    let mut found: Vec<Arc<JobQueue>> = Vec::new();
    for reference in &asked.job_queues {
        let wanted = call.account.name(Kind::Queue, reference)?;
        found.extend(world.named(&world.queues, call.namespace(), wanted).await?);
    }
    if asked.job_queues.is_empty() {
        let is_here = |queue: &JobQueue| queue.metadata.namespace.as_deref() == Some(call.namespace());
        found = world.queues.store.state_filter(is_here);
    }
    let key = |queue: &Arc<JobQueue>| names::queue(queue);
    found.sort_by_key(key);
    found.dedup_by_key(|queue| key(queue));
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("jobQueues", 100, found, key)?;
    let list: Vec<Value> = found.iter().map(|queue| detail(call, queue)).collect();
    Ok(json!({"jobQueues": list, "nextToken": token}))
}

/// A JobQueueDetail.
fn detail(call: &Call, queue: &JobQueue) -> Value {
    let spec = &queue.spec;
    let status = queue.status.as_ref();
    let mut detail = common(spec, CREATE);
    let name = names::queue(queue);
    detail.insert("jobQueueArn".into(), json!(call.account.arn(Kind::Queue, &name)));
    detail.insert("jobQueueName".into(), json!(name));
    detail.insert("state".into(), json!(spec.state.unwrap_or_default()));
    let going = queue.metadata.deletion_timestamp.is_some();
    let now = status.and_then(|status| status.status).unwrap_or_default();
    detail.insert("status".into(), json!(if going { ResourceStatus::Deleting } else { now }));
    detail.extend(
        status.and_then(|s| s.status_reason.clone()).map(|text| ("statusReason".into(), json!(text))),
    );
    let order: Vec<Value> = spec
        .compute_environment_order
        .iter()
        .map(|entry| {
            let reference = name::resource(&entry.compute_environment);
            let found = call.environment(reference).ok().flatten();
            let shown = found.map(|found| names::environment(&found, call.namespace()));
            let shown = shown.unwrap_or_else(|| reference.to_owned());
            json!({"order": entry.order, "computeEnvironment": call.account.arn(Kind::Environment, &shown)})
        })
        .collect();
    detail.insert("computeEnvironmentOrder".into(), json!(order));
    detail.entry("serviceEnvironmentOrder").or_insert_with(|| json!([]));
    detail.entry("jobStateTimeLimitActions").or_insert_with(|| json!([]));
    detail.entry("tags").or_insert_with(|| json!({}));
    detail.entry("jobQueueType").or_insert_with(|| kind(call, spec));
    if let Some(policy) = &spec.scheduling_policy_arn {
        let reference = name::resource(policy);
        let store = &call.world().policies.store;
        let of = |name: &String| {
            store.get(&kube::runtime::reflector::ObjectRef::new(name).within(call.namespace()))
        };
        let found = name::candidates(reference).iter().find_map(of);
        let shown = found.map_or_else(|| reference.to_owned(), |policy| names::policy(&policy));
        detail.insert("schedulingPolicyArn".into(), json!(call.account.arn(Kind::Policy, &shown)));
    }
    Value::Object(detail)
}

/// AWS derives a queue's type from its environments.
fn kind(call: &Call, spec: &JobQueueSpec) -> Value {
    let first = spec.compute_environment_order.iter().min_by_key(|entry| entry.order);
    let found =
        first.and_then(|entry| call.environment(name::resource(&entry.compute_environment)).ok().flatten());
    let Some(found) = found else { return json!("ECS") };
    let fargate = found.spec.compute_resources.as_ref().is_some_and(|resources| resources.type_.is_fargate());
    json!(match (found.spec.eks_configuration.is_some(), fargate) {
        (true, _) => "EKS",
        (false, true) => "ECS_FARGATE",
        (false, false) => "ECS",
    })
}

pub(super) async fn get_job_queue_snapshot(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Named = input(body)?;
    let wanted = call.account.name(Kind::Queue, &asked.job_queue)?;
    let world = call.world();
    let queue = world.named(&world.queues, call.namespace(), wanted).await?;
    let queue = queue.ok_or_else(|| Failure::client(format!("JobQueue {wanted} not found.")))?;
    call.may("get", RESOURCE, queue.metadata.name.as_deref()).await?;
    let status = queue.status.clone().unwrap_or_default();
    let front = status.front.iter().map(|job| {
        let mut told =
            Map::from_iter([("jobArn".to_owned(), json!(call.account.arn(Kind::Job, &job.job_id)))]);
        let since = job.earliest_time_at_position;
        told.extend(since.map(|time| ("earliestTimeAtPosition".into(), json!(millis(time)))));
        Value::Object(told)
    });
    let mut of_front = Map::from_iter([("jobs".to_owned(), front.collect())]);
    let updated = status.front_updated_at.unwrap_or(call.now);
    of_front.insert("lastUpdatedAt".into(), json!(millis(updated)));
    Ok(json!({"frontOfQueue": of_front, "queueUtilization": utilization(call, &queue)}))
}

/// What the queue's jobs use now, altogether and by share.
fn utilization(call: &Call, queue: &JobQueue) -> Value {
    let is_placed = |phase: Phase| matches!(phase, Phase::Starting | Phase::Running);
    let mut shares: BTreeMap<String, i64> = BTreeMap::new();
    let mut total = 0;
    for job in call.world().jobs.all(call.namespace(), |job| names_queue(job, queue)) {
        let Some(status) = job.status.as_ref() else { continue };
        // The children of an array that have a pod, of other jobs the job.
        let pods = match &status.array_properties {
            Some(array) => array.status_summary.as_ref().map_or(0, |counts| {
                Phase::ALL.into_iter().filter(|phase| is_placed(*phase)).map(|phase| counts.of(phase)).sum()
            }),
            None => i64::from(is_placed(status.record.phase())),
        };
        if pods == 0 {
            continue;
        }
        let Some(spec) = call.definition_of(&job).spec else { continue };
        let vcpus = convert::plan(&job.spec, &spec).vcpus_milli().unwrap_or(0) * pods;
        total += vcpus;
        if let Some(share) = status.share_identifier.clone().or_else(|| job.spec.share_identifier.clone()) {
            *shares.entry(share).or_default() += vcpus;
        }
    }
    let usage = |milli: i64| json!([{"capacityUnit": "VCPU", "quantity": milli as f64 / 1000.0}]);
    let mut told = Map::from_iter([
        ("totalCapacityUsage".to_owned(), usage(total)),
        ("lastUpdatedAt".to_owned(), json!(millis(call.now))),
    ]);
    if queue.spec.scheduling_policy_arn.is_some() {
        let active = shares.len();
        let mut top: Vec<(String, i64)> = shares.into_iter().collect();
        top.sort_by_key(|(share, milli)| (std::cmp::Reverse(*milli), share.clone()));
        let top: Vec<Value> = top
            .into_iter()
            .take(TOP_SHARES)
            .map(|(share, milli)| json!({"shareIdentifier": share, "capacityUsage": usage(milli)}))
            .collect();
        told.insert(
            "fairshareUtilization".into(),
            json!({"activeShareCount": active, "topCapacityUtilization": top}),
        );
    }
    Value::Object(told)
}
