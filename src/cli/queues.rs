//! `kubectl batch queues`: the queues of a namespace, and what is in them.

use std::process::ExitCode;

use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::{Error, Result};
use super::output::{Format, Output, objects};
use super::table::{Screen, Table};
use super::{find, list, print, time};
use crate::crd::JobQueue;

/// Which queues.
#[derive(clap::Args, Debug)]
pub(super) struct QueuesArgs {
    /// Only this one.
    #[arg(value_name = "QUEUE")]
    queue: Option<String>,
    /// Queues of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "queue")]
    all_namespaces: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &QueuesArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<JobQueue> = if args.all_namespaces { cluster.all() } else { cluster.api() };
    let queues = match &args.queue {
        Some(name) => vec![find::named(cluster, &api, "queue", name).await?],
        None => find::every(&api, ListParams::default()).await?,
    };
    if !args.output.is_table() {
        let values = queues.iter().map(list::to_value).collect::<Result<Vec<_>>>()?;
        print(&objects(&args.output.format(), &values, args.queue.is_some())?);
        return Error::done();
    }
    if queues.is_empty() {
        eprintln!("No queues found.");
    }
    let wide = matches!(args.output.format(), Format::Wide);
    print(&table(&queues, args.all_namespaces, wide).show());
    Error::done()
}

fn table(queues: &[JobQueue], namespaces: bool, wide: bool) -> Table {
    let mut headings = vec!["NAMESPACE"];
    headings.retain(|_| namespaces);
    headings.extend([
        "NAME",
        "STATE",
        "STATUS",
        "PRIORITY",
        "WAITING",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "VCPUS",
    ]);
    if wide {
        headings.extend(["MAX RUNNING", "ENVIRONMENTS", "AGE"]);
    }
    headings.push("REASON");
    let mut table = Table::new(Screen::stdout(), &headings);
    for queue in queues {
        let status = queue.status.clone().unwrap_or_default();
        let counts = status.jobs.unwrap_or_default();
        let sum = |counts: &[Option<i64>]| counts.iter().flatten().sum::<i64>().to_string();
        let mut cells = Vec::new();
        if namespaces {
            cells.push(queue.namespace().unwrap_or_default());
        }
        cells.extend([
            queue.name_any(),
            word(&queue.spec.state.unwrap_or_default()),
            status.status.map(|status| word(&status)).unwrap_or_default(),
            queue.spec.priority.to_string(),
            sum(&[counts.submitted, counts.pending, counts.runnable]),
            sum(&[counts.starting, counts.running]),
            sum(&[counts.succeeded]),
            sum(&[counts.failed]),
            status.vcpus_in_use.map(|vcpus| vcpus.to_string()).unwrap_or_default(),
        ]);
        if wide {
            let mut order = queue.spec.compute_environment_order.clone();
            order.sort_by_key(|entry| entry.order);
            let names: Vec<_> = order.into_iter().map(|entry| entry.compute_environment).collect();
            cells.push(queue.spec.max_running.map(|max| max.to_string()).unwrap_or_default());
            cells.push(names.join(","));
            cells.push(time::age(queue.creation_timestamp().map(|time| time.0)));
        }
        cells.push(status.status_reason.unwrap_or_default());
        table.row(cells);
    }
    table
}

/// How a value of the API is written there.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
