//! DescribeJobs (<https://docs.aws.amazon.com/batch/latest/APIReference/API_DescribeJobs.html>).

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Kind;
use super::call::{Call, input, millis};
use super::container::Told;
use super::failure::Failure;
use super::jobs::{Runs, Target, has, job_name, some_parts};
use super::names::{self, members};
use super::world::id;
use crate::crd::children::{Part, Whole};
use crate::crd::{BatchJob, JobDefinitionSpec};
use crate::k8s::parts::Known;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Describe {
    jobs: Vec<String>,
}

pub(super) async fn describe_jobs(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Describe = input(body)?;
    if asked.jobs.len() > 100 {
        // AWS's text, with its two spaces.
        return Err(Failure::client("Maximum number of jobs supported is  100"));
    }
    call.may("get", "batchjobs", None).await?;
    let mut targets = Vec::new();
    for reference in &asked.jobs {
        targets.push(Target::parse(call.account.name(Kind::Job, reference)?));
    }
    let mut jobs: BTreeMap<&str, Arc<BatchJob>> = BTreeMap::new();
    for target in &targets {
        if !jobs.contains_key(target.job) {
            let found = call.job(target.job).await?;
            jobs.extend(found.map(|job| (target.job, job)));
        }
    }
    let known = parts(call, &targets, &jobs).await?;
    let mut list = Vec::new();
    for target in &targets {
        let Some(job) = jobs.get(target.job) else { continue };
        match target.part {
            None => {
                let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
                list.push(detail(call, job, None, &record));
            }
            Some(part) => {
                let Some(known) = known.get(&(target.job, matches!(part, Part::Node(_)))) else { continue };
                let is_member = known.children.members().is_none_or(|members| members.contains(part.index()));
                if has(job, part) && is_member {
                    list.push(detail(call, job, Some(part), &known.record(&Whole::of(job), part)));
                }
            }
        }
    }
    Ok(json!({"jobs": list}))
}

/// What is known of the parts that are asked for, read once for each job.
async fn parts<'t>(
    call: &Call,
    targets: &[Target<'t>],
    jobs: &BTreeMap<&'t str, Arc<BatchJob>>,
) -> Result<BTreeMap<(&'t str, bool), Known>, Failure> {
    let mut wanted: BTreeMap<(&str, bool), Vec<u32>> = BTreeMap::new();
    for target in targets {
        let Some(part) = target.part else { continue };
        if jobs.get(target.job).is_some_and(|job| has(job, part)) {
            let key = (target.job, matches!(part, Part::Node(_)));
            wanted.entry(key).or_default().push(part.index());
        }
    }
    let mut known = BTreeMap::new();
    for ((job, nodes), indexes) in wanted {
        known.insert((job, nodes), call.known(&jobs[job], &some_parts(nodes, indexes)).await?);
    }
    Ok(known)
}

/// A JobDetail.
fn detail(call: &Call, job: &BatchJob, part: Option<Part>, record: &Record) -> Value {
    let Runs { name, spec } = call.definition_of(job);
    let told = Told {
        account: &call.account,
        job,
        part,
        record,
        definition: name.as_deref(),
        spec: spec.as_deref(),
    };
    let mut detail = Map::new();
    identity(call, job, part, record, name.as_deref(), &mut detail);
    let mut put = |member: &str, value: Option<Value>| {
        detail.extend(value.filter(|value| !value.is_null()).map(|value| (member.to_owned(), value)));
    };
    put("attempts", Some(told.attempts()));
    put("container", told.container());
    put("eksProperties", told.eks_properties());
    put("eksAttempts", told.eks_attempts());
    put("ecsProperties", told.ecs_properties());
    match part {
        Some(Part::Node(index)) => {
            let main = job.status.as_ref().and_then(|status| status.node_properties.as_ref()?.main_node);
            let is_main = u32::try_from(main.unwrap_or(0)) == Ok(index);
            put("nodeDetails", Some(json!({"nodeIndex": index, "isMainNode": is_main})));
        }
        Some(Part::Child(index)) => put("arrayProperties", Some(json!({"index": index}))),
        None => {
            put("nodeProperties", told.node_properties());
            put("arrayProperties", array(job));
        }
    }
    settings(call, job, spec.as_deref(), &mut detail);
    Value::Object(detail)
}

/// Which job it is, and where in its life.
fn identity(
    call: &Call,
    job: &BatchJob,
    part: Option<Part>,
    record: &Record,
    definition: Option<&str>,
    detail: &mut Map<String, Value>,
) {
    let whole = id(job);
    let id = part.map_or_else(|| whole.clone(), |part| part.of(&whole));
    let created = record.created_at.or_else(|| job.creation_timestamp().map(|time| time.0));
    let definition = definition.filter(|name| !name.is_empty());
    let definition = definition.map(|name| call.account.arn(Kind::Definition, name));
    let members = [
        ("jobArn", json!(call.account.arn(Kind::Job, &id))),
        ("jobName", json!(job_name(job))),
        ("jobId", json!(id)),
        ("jobQueue", json!(call.account.arn(Kind::Queue, &call.queue_of(job)))),
        // What AWS's clients expect even of a job that brings its own definition along.
        ("jobDefinition", json!(definition.unwrap_or_default())),
        ("status", json!(record.phase().as_str())),
        ("statusReason", json!(record.status_reason)),
        ("createdAt", json!(created.map(millis))),
        ("startedAt", json!(record.started_at.map(millis))),
        ("stoppedAt", json!(record.stopped_at.map(millis))),
        ("isCancelled", json!(record.is_cancelled.unwrap_or(false))),
        ("isTerminated", json!(record.is_terminated.unwrap_or(false))),
    ];
    detail.extend(
        members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.to_owned(), value)),
    );
}

/// What the job was submitted with, over what its definition says.
fn settings(
    call: &Call,
    job: &BatchJob,
    definition: Option<&JobDefinitionSpec>,
    detail: &mut Map<String, Value>,
) {
    let spec = &job.spec;
    let status = job.status.as_ref();
    let mut parameters = definition.map(|spec| spec.parameters.clone()).unwrap_or_default();
    parameters.extend(spec.parameters.clone());
    let strategy = spec.retry_strategy.as_ref().or(definition.and_then(|spec| spec.retry_strategy.as_ref()));
    let mut strategy = strategy.map(members).unwrap_or_default();
    strategy.entry("attempts").or_insert_with(|| json!(1));
    strategy.entry("evaluateOnExit").or_insert_with(|| json!([]));
    let timeout = spec.timeout.as_ref().or(definition.and_then(|spec| spec.timeout.as_ref()));
    let priority = spec.scheduling_priority_override.or(definition.and_then(|spec| spec.scheduling_priority));
    let propagate = spec.propagate_tags.or(definition.and_then(|spec| spec.propagate_tags));
    let tokens = spec.consumable_resource_properties_override.as_ref();
    let tokens = tokens.or(definition.and_then(|spec| spec.consumable_resource_properties.as_ref()));
    let capabilities = definition.map(|spec| json!(spec.platform_capabilities)).unwrap_or_else(|| json!([]));
    let share = status.and_then(|status| status.share_identifier.clone()).or(spec.share_identifier.clone());
    let members = [
        ("parameters", json!(parameters)),
        ("retryStrategy", json!(strategy)),
        ("timeout", json!(timeout)),
        ("schedulingPriority", json!(priority)),
        ("shareIdentifier", json!(share)),
        ("propagateTags", json!(propagate)),
        ("platformCapabilities", capabilities),
        ("consumableResourceProperties", json!(tokens)),
        ("tags", json!(names::tags(job, &spec.tags))),
        ("dependsOn", dependencies(call, job)),
    ];
    detail.extend(
        members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.to_owned(), value)),
    );
}

/// Jobs that are named by their object, which AWS does not have, are told by their id.
fn dependencies(call: &Call, job: &BatchJob) -> Value {
    let by_name = |name: &str| {
        let reference = kube::runtime::reflector::ObjectRef::new(name).within(call.namespace());
        call.world().jobs.cache.store.get(&reference).map(|job| id(&job))
    };
    let entries = job.spec.depends_on.iter().map(|dependency| {
        let id = dependency.job_id.clone().or_else(|| by_name(dependency.job.as_deref()?));
        let mut entry = Map::new();
        entry.extend(id.map(|id| ("jobId".into(), json!(id))));
        entry.extend(dependency.type_.map(|type_| ("type".into(), json!(type_))));
        Value::Object(entry)
    });
    entries.collect()
}

/// `arrayProperties` of an array as a whole.
pub(super) fn array(job: &BatchJob) -> Option<Value> {
    let size = job.spec.array_properties.as_ref()?.size;
    let status = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
    let size = status.and_then(|status| status.size).or(size);
    let counts = status.and_then(|status| status.status_summary.clone()).unwrap_or_default();
    let summary: Map<String, Value> =
        Phase::ALL.iter().map(|phase| (phase.as_str().to_owned(), json!(counts.of(*phase)))).collect();
    let mut told = Map::from_iter([("statusSummary".to_owned(), Value::Object(summary))]);
    told.extend(size.map(|size| ("size".into(), json!(size))));
    let updated = status.and_then(|status| status.status_summary_last_updated_at);
    told.extend(updated.map(|time| ("statusSummaryLastUpdatedAt".into(), json!(millis(time)))));
    Some(Value::Object(told))
}
