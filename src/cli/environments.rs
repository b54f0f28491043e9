//! `kubectl batch environments`: compute environments, and how full they are.

use std::process::ExitCode;

use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::{Error, Result};
use super::output::{Format, Output, objects};
use super::queues::word;
use super::table::{Screen, Table};
use super::{find, list, print, time};
use crate::crd::ComputeEnvironment;

/// Which environments.
#[derive(clap::Args, Debug)]
pub(super) struct EnvironmentsArgs {
    /// Only this one.
    #[arg(value_name = "ENVIRONMENT")]
    environment: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &EnvironmentsArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<ComputeEnvironment> = cluster.all();
    let environments = match &args.environment {
        Some(name) => vec![find::named(cluster, &api, "compute environment", name).await?],
        None => find::every(&api, ListParams::default()).await?,
    };
    if !args.output.is_table() {
        let values = environments.iter().map(list::to_value).collect::<Result<Vec<_>>>()?;
        print(&objects(&args.output.format(), &values, args.environment.is_some())?);
        return Error::done();
    }
    if environments.is_empty() {
        eprintln!("No compute environments found.");
    }
    let wide = matches!(args.output.format(), Format::Wide);
    print(&table(&environments, wide).show());
    Error::done()
}

fn table(environments: &[ComputeEnvironment], wide: bool) -> Table {
    let mut headings = vec!["NAME", "TYPE", "STATE", "STATUS", "NODES", "VCPUS", "MAX", "JOBS"];
    if wide {
        headings.extend(["LARGEST JOB", "AGE"]);
    }
    headings.push("REASON");
    let mut table = Table::new(Screen::stdout(), &headings);
    for environment in environments {
        let status = environment.status.clone().unwrap_or_default();
        let resources = environment.spec.compute_resources.as_ref();
        let number = |number: Option<i32>| number.map(|number| number.to_string()).unwrap_or_default();
        let mut cells = vec![
            environment.name_any(),
            resources.map_or_else(|| word(&environment.spec.type_), |resources| word(&resources.type_)),
            word(&environment.spec.state.unwrap_or_default()),
            status.status.map(|status| word(&status)).unwrap_or_default(),
            number(status.nodes),
            number(status.vcpus_in_use),
            number(resources.map(|resources| resources.maxv_cpus)),
            status.jobs.map(|counts| counts.total().to_string()).unwrap_or_default(),
        ];
        if wide {
            let largest = status.largest_job.unwrap_or_default();
            let parts = [("vCPUs", largest.vcpus), ("MiB", largest.memory), ("GPUs", largest.gpus)];
            let parts = parts
                .into_iter()
                .filter_map(|(unit, number)| Some(format!("{} {unit}", number.filter(|n| *n > 0)?)));
            cells.push(parts.collect::<Vec<_>>().join(", "));
            cells.push(time::age(environment.creation_timestamp().map(|time| time.0)));
        }
        cells.push(status.status_reason.unwrap_or_default());
        table.row(cells);
    }
    table
}
