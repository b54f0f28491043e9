//! `kubectl batch list`: jobs of every phase, the first of them at once however many there are.

use std::process::ExitCode;

use batchyard_core::job::phase::Phase;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::find::PAGE;
use super::output::{Format, List, Output};
use super::table::{Screen, Table};
use super::{array, print, time};
use crate::crd::BatchJob;

/// Which jobs, and how they are shown.
#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    /// Only jobs of this queue.
    #[arg(short, long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only jobs in these phases, such as RUNNABLE,RUNNING. All phases if it is left out.
    #[arg(short, long, value_name = "PHASE", value_delimiter = ',', value_parser = phase)]
    status: Vec<Phase>,
    /// Only jobs that have not ended.
    #[arg(long, conflicts_with = "status")]
    active: bool,
    /// Only jobs that name this definition, as the job wrote it.
    #[arg(short, long, value_name = "DEFINITION")]
    definition: Option<String>,
    /// Only jobs with these labels, as kubectl has it.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Jobs of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Stop after so many jobs.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Leave the headings out.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    output: Output,
}

/// A phase in any case.
pub(super) fn phase(text: &str) -> std::result::Result<Phase, String> {
    let wanted = text.to_ascii_uppercase();
    Phase::ALL
        .into_iter()
        .find(|phase| phase.as_str() == wanted)
        .ok_or_else(|| format!("expected one of {}", Phase::ALL.map(Phase::as_str).join(", ")))
}

pub(super) async fn run(args: &ListArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<BatchJob> = if args.all_namespaces { cluster.all() } else { cluster.api() };
    let mut params = ListParams {
        field_selector: Some(fields(args)).filter(|fields| !fields.is_empty()),
        label_selector: args.selector.clone(),
        ..ListParams::default()
    };
    let format = args.output.format();
    let mut rows = Rows::new(args, &format);
    let mut list = List::new(format.clone());
    let mut left = args.limit.unwrap_or(usize::MAX);
    loop {
        params.limit = Some(PAGE.min(u32::try_from(left).unwrap_or(PAGE)));
        let page = api.list(&params).await?;
        let jobs = page.items.into_iter().take(left);
        left = left.saturating_sub(jobs.len());
        if args.output.is_table() {
            jobs.for_each(|job| rows.add(&job));
            print(&rows.table.show());
        } else {
            for job in jobs {
                print(&list.item(to_value(&job)?)?);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty() && left > 0) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    if args.output.is_table() {
        rows.end(cluster);
    } else {
        print(&list.end()?);
    }
    Error::done()
}

/// The API server chooses, so that no job travels in vain. It knows no "or": phases that are not
/// wanted are ruled out one by one.
fn fields(args: &ListArgs) -> String {
    let mut fields = Vec::new();
    fields.extend(args.queue.iter().map(|queue| format!("spec.jobQueue={queue}")));
    fields.extend(args.definition.iter().map(|definition| format!("spec.jobDefinition={definition}")));
    let is_wanted = |phase: &Phase| match args.active {
        true => !phase.is_terminal(),
        false => args.status.is_empty() || args.status.contains(phase),
    };
    let unwanted = Phase::ALL.into_iter().filter(|phase| !is_wanted(phase));
    fields.extend(unwanted.map(|phase| format!("status.phase!={}", phase.as_str())));
    if !is_wanted(&Phase::Submitted) {
        // One that no operator has seen yet has no phase at all.
        fields.push("status.phase!=".to_owned());
    }
    fields.join(",")
}

struct Rows {
    table: Table,
    wide: bool,
    namespaces: bool,
    number: usize,
}

impl Rows {
    fn new(args: &ListArgs, format: &Format) -> Self {
        let wide = matches!(format, Format::Wide);
        let mut headings = Vec::new();
        if args.all_namespaces {
            headings.push("NAMESPACE");
        }
        headings.extend(["NAME", "PHASE", "QUEUE", "ATTEMPT", "AGE"]);
        if wide {
            headings.extend(["CHILDREN", "DEFINITION", "NODE", "ID"]);
        }
        headings.push("REASON");
        let mut table = Table::new(Screen::stdout(), &headings);
        if args.no_headers {
            table.without_headings();
        }
        Self { table, wide, namespaces: args.all_namespaces, number: 0 }
    }

    fn add(&mut self, job: &BatchJob) {
        let status = job.status.clone().unwrap_or_default();
        let record = &status.record;
        let mut cells = Vec::new();
        if self.namespaces {
            cells.push(job.namespace().unwrap_or_default());
        }
        cells.extend([
            job.name_any(),
            record.phase().as_str().to_owned(),
            job.spec.job_queue.clone(),
            status.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
            time::age(job.creation_timestamp().map(|time| time.0)),
        ]);
        if self.wide {
            cells.push(array::ended_of(job).unwrap_or_default());
            cells.push(record.job_definition.clone().unwrap_or_default());
            cells.push(node(record).unwrap_or_default());
            cells.push(record.job_id.clone().unwrap_or_default());
        }
        cells.push(record.status_reason.clone().or_else(|| array::brief(job)).unwrap_or_default());
        self.table.row(cells);
        self.number += 1;
    }

    fn end(&self, cluster: &Cluster) {
        if self.number == 0 {
            match self.namespaces {
                true => eprintln!("No jobs found."),
                false => eprintln!("No jobs found in namespace {}.", cluster.namespace),
            }
        }
    }
}

/// Where the job runs, or ran last.
fn node(record: &batchyard_core::job::record::Record) -> Option<String> {
    let current = record.current.as_ref().and_then(|current| current.node_name.clone());
    current.or_else(|| record.attempts.last()?.node_name.clone())
}

/// An object as the API server would show it.
pub(super) fn to_value<K>(object: &K) -> Result<Value>
where
    K: kube::Resource<DynamicType = ()> + serde::Serialize,
{
    let mut value = serde_json::to_value(object)
        .map_err(|error| Error::new(Kind::Failed, format!("cannot print: {error}")))?;
    // Items of a list do not say what they are.
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ListArgs,
    }

    fn fields_of(line: &str) -> String {
        fields(&Line::try_parse_from(format!("list {line}").split_whitespace()).expect("arguments").args)
    }

    #[test]
    fn the_api_server_chooses() {
        assert_eq!(fields_of(""), "");
        assert_eq!(
            fields_of("-q q --active"),
            "spec.jobQueue=q,status.phase!=SUCCEEDED,status.phase!=FAILED"
        );
        let running = fields_of("-s running,STARTING");
        assert_eq!(running.matches("!=").count(), 6, "{running}");
        assert!(!running.contains("RUNNING") && !running.contains("STARTING"));
        assert!(Line::try_parse_from(["list", "-s", "DONE"]).is_err());
    }
}
