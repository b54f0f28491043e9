//! ListJobs and ListJobsByConsumableResource
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ListJobs.html>).

use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::yield_now;

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
/// So many jobs are looked at before others have a turn.
const TURN: usize = 256;

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

    /// Its values.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn values(&self) -> Result<&[String], Failure> {
        match self.values.is_empty() {
            true => Err(Failure::client(format!("filter {} needs values", self.name))),
            false => Ok(&self.values),
        }
    }

    /// Its only value.
    fn value(&self) -> Result<&str, Failure> {
        match self.values()? {
            [only] => Ok(only),
            _ => Err(Failure::client(format!("filter {} takes one value", self.name))),
        }
    }

    /// A test for names: true if one of its values is the name, in capitals or not, or begins it with an asterisk behind.
    ///
    /// # Errors
    /// When it has no values.
    pub(super) fn names(&self) -> Result<impl Fn(&str) -> bool, Failure> {
        let values: Vec<String> = self.values()?.iter().map(|value| value.to_lowercase()).collect();
        Ok(move |name: &str| {
            let name = name.to_lowercase();
            values.iter().any(|value| matches(value, &name))
        })
    }

    /// A test for phases.
    ///
    /// # Errors
    /// When it has no values, or one that is no phase.
    fn phases(&self) -> Result<impl Fn(Phase) -> bool, Failure> {
        let phases: Result<Vec<Phase>, Failure> = self.values()?.iter().map(|text| phase(text)).collect();
        let phases = phases?;
        Ok(move |phase| phases.contains(&phase))
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
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let of =
        [("queue", &asked.job_queue), ("array", &asked.array_job_id), ("nodes", &asked.multi_node_job_id)];
    let given: Vec<_> = of.into_iter().filter_map(|(kind, text)| Some((kind, given(text)?))).collect();
    let [(kind, whose)] = &given[..] else {
        return Err(Failure::client(
            "One of jobQueue, arrayJobId and multiNodeJobId must be given, and only one",
        ));
    };
    call.may("list", "batchjobs", None).await?;
    let status = status(asked.job_status.as_deref())?;
    let filtered = !asked.filters.is_empty();
    let mut entries = match *kind {
        "queue" => in_queue(call, whose, &asked.filters).await?,
        _ if filtered => {
            return Err(Failure::client(
                "filters: choose among the jobs of a jobQueue, not among the parts of one job",
            ));
        }
        kind => parts(call, whose, kind == "nodes").await?,
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
    entries.sort_by_cached_key(Entry::key);
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
    Ok(Some(Wanting::One(phase(text)?)))
}

fn phase(text: &str) -> Result<Phase, Failure> {
    let known = || {
        let known: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
        Failure::client(format!("status {text} is none of {}", known.join(", ")))
    };
    Phase::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(known)
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
    let any = |is: &dyn Fn(&str) -> bool| filter.values.iter().any(|value| is(value));
    let time = || {
        let value = filter.value()?;
        value.parse::<i64>().map_err(|_| Failure::client(format!("{value} is no time in ms")))
    };
    match filter.name.as_str() {
        "JOB_NAME" => {
            let is_wanted = filter.names()?;
            entries.retain(|entry| is_wanted(&job_name(&entry.job)));
        }
        "JOB_DEFINITION" => {
            filter.values()?;
            let arns = call.account.arn(Kind::Definition, "");
            entries.retain(|entry| {
                let full = call.definition_of(&entry.job).name.unwrap_or_default();
                let plain = full.split(':').next().unwrap_or_default();
                any(&|value| match value.strip_prefix(&arns) {
                    Some(revision) => revision == full,
                    None => matches(value, plain),
                })
            });
        }
        "SHARE_IDENTIFIER" => {
            filter.values()?;
            entries.retain(|entry| {
                entry.job.spec.share_identifier.as_deref().is_some_and(|share| any(&|value| value == share))
            });
        }
        "BEFORE_CREATED_AT" => {
            let limit = time()?;
            entries.retain(|entry| entry.created().is_some_and(|created| created < limit));
        }
        "AFTER_CREATED_AT" => {
            let limit = time()?;
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
    let found = call.job(wanted).await?;
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
    for (at, job) in world.jobs.all(call.namespace(), |_| true).into_iter().enumerate() {
        if at % TURN == TURN - 1 {
            yield_now().await;
        }
        let Some(spec) = call.definition_of(&job).spec else { continue };
        if !convert::may_take_tokens(&job.spec, &spec) {
            continue;
        }
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
            "JOB_STATUS" => {
                let is_wanted = filter.phases()?;
                found.retain(|(entry, ..)| is_wanted(entry.record.phase()));
            }
            "JOB_NAME" => {
                let is_wanted = filter.names()?;
                found.retain(|(entry, ..)| is_wanted(&job_name(&entry.job)));
            }
            other => return Err(Failure::client(format!("filter {other} is none of JOB_STATUS, JOB_NAME"))),
        }
    }
    found.sort_by_cached_key(|(entry, ..)| entry.key());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(name: &str, values: &[&str]) -> Filter {
        Filter { name: name.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn names_are_wanted_in_capitals_or_not() {
        let wanted = |values: &[&str], name: &str| filter("JOB_NAME", values).names().map(|is| is(name));
        for (values, name, want) in [
            (&["Test1"][..], "test1", true),
            (&["test1"], "Test1", true),
            (&["x", "TEST*"], "test10", true),
            (&["test1"], "test10", false),
        ] {
            assert_eq!(wanted(values, name), Ok(want), "{values:?} {name}");
        }
        wanted(&[], "test").expect_err("no values");
    }

    #[test]
    fn what_a_filter_does_not_take_is_refused() {
        filter("JOB_STATUS", &["RUNNING", "FAILED"]).phases().map(drop).expect("phases");
        for wrong in [&[][..], &["RUN*"], &["running"]] {
            filter("JOB_STATUS", wrong).phases().map(drop).expect_err("no phases");
        }
        assert_eq!(filter("AFTER_CREATED_AT", &["1"]).value(), Ok("1"));
        for wrong in [&[][..], &["1", "2"]] {
            filter("AFTER_CREATED_AT", wrong).value().expect_err("one value");
        }
    }
}
