//! ListJobs and ListJobsByConsumableResource
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ListJobs.html>).

use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Kind;
use super::call::{Call, input, millis};
use super::describe::array;
use super::failure::Failure;
use super::jobs::{Runs, all_parts, job_name};
use super::page::{Wanted, newest_first};
use super::world::id;
use crate::crd::children::{Part, Whole};
use crate::crd::convert;
use crate::crd::{BatchJob, JobQueue};
use crate::k8s::caches::names_queue;

/// What stands in place of a status for all of them; AWS has no such.
const ALL: &str = "ALL";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    name: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Filter {
    /// What it is about.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True if one of its values is this, or begins it with an asterisk behind.
    pub(super) fn takes(&self, text: &str) -> bool {
        self.values.iter().any(|value| matches(value, text))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    job_queue: Option<String>,
    array_job_id: Option<String>,
    multi_node_job_id: Option<String>,
    job_status: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

/// A job or a part of one in a list.
struct Entry {
    job: Arc<BatchJob>,
    part: Option<Part>,
    record: Record,
}

impl Entry {
    fn whole(job: Arc<BatchJob>) -> Self {
        let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
        Self { job, part: None, record }
    }

    fn created(&self) -> Option<i64> {
        let created = self.record.created_at.or_else(|| self.job.creation_timestamp().map(|time| time.0));
        created.map(millis)
    }

    fn id(&self) -> String {
        let whole = id(&self.job);
        self.part.map_or_else(|| whole.clone(), |part| part.of(&whole))
    }

    fn key(&self) -> String {
        match self.part {
            None => newest_first(self.created().unwrap_or(0), &id(&self.job)),
            Some(part) => format!("{:010}", part.index()),
        }
    }
}

pub(super) async fn list_jobs(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: List = input(body)?;
    let given = [&asked.job_queue, &asked.array_job_id, &asked.multi_node_job_id];
    if given.into_iter().filter(|given| given.as_ref().is_some_and(|text| !text.is_empty())).count() != 1 {
        return Err(Failure::client(
            "One of jobQueue, arrayJobId and multiNodeJobId must be given, and only one",
        ));
    }
    call.may("list", "batchjobs", None).await?;
    let status = status(asked.job_status.as_deref())?;
    let filtered = !asked.filters.is_empty();
    let mut entries =
        match (&asked.job_queue, asked.array_job_id.as_ref().or(asked.multi_node_job_id.as_ref())) {
            (Some(queue), _) if !queue.is_empty() => in_queue(call, queue, &asked.filters).await?,
            (_, Some(whole)) => parts(call, whole, asked.multi_node_job_id.is_some()).await?,
            _ => Vec::new(),
        };
    let is_share = asked.filters.first().is_some_and(|filter| filter.name == "SHARE_IDENTIFIER");
    let wanted = match (status, filtered && !is_share) {
        // With a filter the status does not count; with a share it counts if it is given.
        (_, true) => None,
        (None, false) if is_share => None,
        (None, false) => Some(Phase::Running),
        (Some(Wanting::All), false) => None,
        (Some(Wanting::One(phase)), false) => Some(phase),
    };
    entries.retain(|entry| wanted.is_none_or(|wanted| entry.record.phase() == wanted));
    entries.sort_by_key(Entry::key);
    let most = if filtered { 100 } else { 1000 };
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (entries, token) = page.page("jobs", most, entries, Entry::key)?;
    let list: Vec<Value> = entries.iter().map(|entry| summary(call, entry)).collect();
    Ok(json!({"jobSummaryList": list, "nextToken": token}))
}

enum Wanting {
    All,
    One(Phase),
}

fn status(text: Option<&str>) -> Result<Option<Wanting>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text == ALL {
        return Ok(Some(Wanting::All));
    }
    let phase = Phase::ALL.into_iter().find(|phase| phase.as_str() == text);
    let known = || {
        let known: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).chain([ALL]).collect();
        Failure::client(format!("jobStatus {text} is none of {}", known.join(", ")))
    };
    Ok(Some(Wanting::One(phase.ok_or_else(known)?)))
}

async fn in_queue(call: &Call, reference: &str, filters: &[Filter]) -> Result<Vec<Entry>, Failure> {
    let wanted = call.account.name(Kind::Queue, reference)?;
    let world = call.world();
    let queue: Arc<JobQueue> = world
        .named(&world.queues, call.namespace(), wanted)
        .await?
        .ok_or_else(|| Failure::client(format!("JobQueue {wanted} not found.")))?;
    let jobs = world.jobs.all(call.namespace(), |job| names_queue(job, &queue));
    let mut entries: Vec<Entry> = jobs.into_iter().map(Entry::whole).collect();
    match filters {
        [] => {}
        [filter] => filter_by(call, filter, &mut entries)?,
        _ => return Err(Failure::client("Only one filter can be used at a time")),
    }
    Ok(entries)
}

fn filter_by(call: &Call, filter: &Filter, entries: &mut Vec<Entry>) -> Result<(), Failure> {
    if filter.values.is_empty() {
        return Err(Failure::client(format!("filter {} needs a value", filter.name)));
    }
    let any = |is: &dyn Fn(&str) -> bool| filter.values.iter().any(|value| is(value));
    let time =
        |value: &str| value.parse::<i64>().map_err(|_| Failure::client(format!("{value} is no time in ms")));
    match filter.name.as_str() {
        "JOB_NAME" => entries.retain(|entry| {
            let name = job_name(&entry.job).to_lowercase();
            any(&|value| matches(&value.to_lowercase(), &name))
        }),
        "JOB_DEFINITION" => entries.retain(|entry| {
            let Runs { name, .. } = call.definition_of(&entry.job);
            let full = name.unwrap_or_default();
            let plain = full.split(':').next().unwrap_or_default().to_owned();
            let arn = call.account.arn(Kind::Definition, &full);
            any(&|value| if value.starts_with("arn:") { value == arn } else { matches(value, &plain) })
        }),
        "SHARE_IDENTIFIER" => entries.retain(|entry| {
            entry.job.spec.share_identifier.as_deref().is_some_and(|share| any(&|value| value == share))
        }),
        "BEFORE_CREATED_AT" => {
            let limit = time(&filter.values[0])?;
            entries.retain(|entry| entry.created().is_some_and(|created| created < limit));
        }
        "AFTER_CREATED_AT" => {
            let limit = time(&filter.values[0])?;
            entries.retain(|entry| entry.created().is_some_and(|created| created > limit));
        }
        other => {
            return Err(Failure::client(format!(
                "filter {other} is none of JOB_NAME, JOB_DEFINITION, SHARE_IDENTIFIER, BEFORE_CREATED_AT, \
                 AFTER_CREATED_AT"
            )));
        }
    }
    Ok(())
}

/// A name, or the beginning of one with an asterisk behind it.
fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |begin| name.starts_with(begin))
}

async fn parts(call: &Call, whole: &str, nodes: bool) -> Result<Vec<Entry>, Failure> {
    let wanted = call.account.name(Kind::Job, whole)?;
    let found = call.world().jobs.find(&call.world().client, call.namespace(), wanted).await?;
    let job = found.ok_or_else(|| Failure::client(format!("Job {wanted} not found.")))?;
    let Some(all) = all_parts(&job).filter(|parts| parts.nodes == nodes) else { return Ok(Vec::new()) };
    let known = call.known(&job, &all).await?;
    let told = Whole::of(&job);
    let parts = known.existing(&all);
    let entry = |part| Entry { job: job.clone(), part: Some(part), record: known.record(&told, part) };
    Ok(parts.iter().map(entry).collect())
}

/// A JobSummary.
fn summary(call: &Call, entry: &Entry) -> Value {
    let Entry { job, part, record } = entry;
    let id = entry.id();
    let Runs { name, spec } = call.definition_of(job);
    let definition = name.map(|name| call.account.arn(Kind::Definition, &name));
    let ended = record.attempts.last().filter(|_| record.current.is_none());
    let container = ended.map(|attempt| {
        let mut told = Map::new();
        told.extend(attempt.container.exit_code.map(|code| ("exitCode".into(), json!(code))));
        told.extend(attempt.container.reason.clone().map(|reason| ("reason".into(), json!(reason))));
        Value::Object(told)
    });
    let told = job.status.as_ref().and_then(|status| status.node_properties.as_ref());
    let is_main = |index: u32| {
        told.and_then(|nodes| nodes.main_node).and_then(|n| u32::try_from(n).ok()) == Some(index)
    };
    let (in_array, in_gang) = match part {
        Some(Part::Child(index)) => (Some(json!({"index": index})), None),
        Some(Part::Node(index)) => (None, Some(json!({"nodeIndex": index, "isMainNode": is_main(*index)}))),
        None => (array(job), told.map(|nodes| json!({"numNodes": nodes.num_nodes}))),
    };
    let plan = spec.map(|spec| convert::plan(&job.spec, &spec));
    let vcpus =
        plan.and_then(|plan| plan.vcpus_milli()).filter(|_| part.is_none() && !record.phase().is_terminal());
    let usage = vcpus.map(|milli| json!([{"capacityUnit": "VCPU", "quantity": milli as f64 / 1000.0}]));
    let scheduled = record.current.as_ref().and_then(|current| current.bound_at).map(millis);
    let members = [
        ("jobArn", json!(call.account.arn(Kind::Job, &id))),
        ("jobId", json!(id)),
        ("jobName", json!(job_name(job))),
        ("createdAt", json!(entry.created())),
        ("status", json!(record.phase().as_str())),
        ("statusReason", json!(record.status_reason)),
        ("startedAt", json!(record.started_at.map(millis))),
        ("stoppedAt", json!(record.stopped_at.map(millis))),
        ("scheduledAt", json!(scheduled)),
        ("container", json!(container)),
        ("arrayProperties", json!(in_array)),
        ("nodeProperties", json!(in_gang)),
        ("jobDefinition", json!(definition)),
        ("shareIdentifier", json!(job.spec.share_identifier)),
        ("capacityUsage", json!(usage)),
    ];
    members.into_iter().filter(|(_, v)| !v.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByResource {
    consumable_resource: String,
    #[serde(default)]
    filters: Vec<Filter>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) async fn list_jobs_by_consumable_resource(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: ByResource = input(body)?;
    call.may("list", "batchjobs", None).await?;
    let wanted = call.account.name(Kind::Resource, &asked.consumable_resource)?;
    let world = call.world();
    let resource = world.named(&world.resources, call.namespace(), wanted).await?;
    let resource =
        resource.ok_or_else(|| Failure::client(format!("ConsumableResource {wanted} not found.")))?;
    let object = resource.name_any();
    let mut found: Vec<(Entry, i64, Value)> = Vec::new();
    for job in world.jobs.all(call.namespace(), |_| true) {
        let Some(spec) = call.definition_of(&job).spec else { continue };
        let tokens = convert::plan(&job.spec, &spec).tokens;
        let quantity: i64 = tokens
            .iter()
            .filter(|(of, _)| name::may_mean(name::resource(of), &object))
            .map(|(_, quantity)| *quantity)
            .sum();
        if quantity > 0 {
            let list: Vec<Value> =
                tokens.iter().map(|(of, n)| json!({"consumableResource": of, "quantity": n})).collect();
            found.push((Entry::whole(job), quantity, json!({"consumableResourceList": list})));
        }
    }
    for filter in &asked.filters {
        match filter.name() {
            "JOB_STATUS" => found.retain(|(entry, ..)| filter.takes(entry.record.phase().as_str())),
            "JOB_NAME" => found.retain(|(entry, ..)| filter.takes(&job_name(&entry.job))),
            other => return Err(Failure::client(format!("filter {other} is none of JOB_STATUS, JOB_NAME"))),
        }
    }
    found.sort_by_key(|(entry, ..)| entry.key());
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("jobs-by-resource", 100, found, |(entry, ..)| entry.key())?;
    let list: Vec<Value> = found.iter().map(|found| by_resource(call, found)).collect();
    Ok(json!({"jobs": list, "nextToken": token}))
}

fn by_resource(call: &Call, (entry, quantity, tokens): &(Entry, i64, Value)) -> Value {
    let definition =
        call.definition_of(&entry.job).name.map(|name| call.account.arn(Kind::Definition, &name));
    let queue = call.queue_of(&entry.job);
    let members = [
        ("jobArn", json!(call.account.arn(Kind::Job, &entry.id()))),
        ("jobQueueArn", json!(call.account.arn(Kind::Queue, &queue))),
        ("jobName", json!(job_name(&entry.job))),
        ("jobDefinitionArn", json!(definition)),
        ("shareIdentifier", json!(entry.job.spec.share_identifier)),
        ("jobStatus", json!(entry.record.phase().as_str())),
        ("quantity", json!(quantity)),
        ("statusReason", json!(entry.record.status_reason)),
        ("startedAt", json!(entry.record.started_at.map(millis))),
        ("createdAt", json!(entry.created())),
        ("consumableResourceProperties", tokens.clone()),
    ];
    members.into_iter().filter(|(_, v)| !v.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}
