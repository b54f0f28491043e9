//! `kubectl batch why`: why a job waits or how it ended, and what to do.

use std::fmt::Write as _;
use std::process::ExitCode;

use batchyard_core::dependency;
use batchyard_core::job::phase::Phase;
use batchyard_core::name;
use batchyard_core::reason::explain::explain;
use jiff::Timestamp;
use kube::{Api, ResourceExt as _};

use super::array::counted;
use super::connect::Cluster;
use super::error::{Error, Result};
use super::parts;
use super::place::place;
use super::queues::word;
use super::room::would_have_to_end;
use super::table::one_line;
use super::{depends, print, time};
use crate::crd::shared::ResourceStatus;
use crate::crd::{BatchJob, ComputeEnvironment, JobQueue};

/// Which job.
#[derive(clap::Args, Debug)]
pub(super) struct WhyArgs {
    /// A name or id, or a beginning of it. JOB:INDEX is a child of an array, JOB#INDEX a node of a multi-node job.
    #[arg(value_name = "JOB")]
    job: String,
}

pub(super) async fn run(args: &WhyArgs, cluster: &Cluster) -> Result<ExitCode> {
    let (whole, part) = parts::find_one(cluster, &args.job).await?;
    let job = match part {
        Some(part) => parts::read_one(cluster, &whole, part).await?,
        None => whole,
    };
    let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
    let phase = record.phase();
    let mut text = format!("{} is {}", job.name_any(), phase.as_str());
    if let Some(since) = record.runnable_at.filter(|_| phase == Phase::Runnable) {
        let _ = write!(text, " for {}", time::between(since, Timestamp::now()));
    }
    text.push('\n');
    let reason = record.status_reason.as_deref().unwrap_or_default();
    if !reason.is_empty() {
        let _ = writeln!(text, "  {}", one_line(&dependency::why(reason, &record.depends_on)));
    }
    let last = record.attempts.last();
    if let Some(reason) = last.and_then(|attempt| attempt.container.reason.as_deref()) {
        let _ = writeln!(text, "  {}", one_line(reason));
    }
    let container = last.and_then(|attempt| attempt.container.reason.as_deref());
    for known in [explain(reason), container.and_then(explain)].into_iter().flatten() {
        let _ =
            writeln!(text, "\n{}\nWhere from: {}\nWhat to do: {}", known.meaning, known.cause, known.advice);
    }
    if let Some(decision) = last.and_then(|attempt| attempt.decision.as_ref()) {
        let _ = writeln!(text, "\nThe retry rule that decided last: {}", one_line(&decision.rule));
    }
    if job.status.is_none() {
        text.push_str("\nThe operator has not seen it yet. If that lasts, it is down: kubectl get pods -n batchyard-system\n");
    }
    text.push_str(&counts(&job));
    if phase <= Phase::Pending || phase == Phase::Failed && record.attempts.is_empty() {
        text.push_str(&depends_on(cluster, &job).await?);
    }
    if !phase.is_terminal() && record.current.is_none() {
        text.push_str(&surroundings(cluster, &job).await?);
    }
    print(&text);
    Error::done()
}

/// How the children of an array or the nodes of a multi-node job fare.
fn counts(job: &BatchJob) -> String {
    let status = job.status.clone().unwrap_or_default();
    let array = status.array_properties.and_then(|array| array.status_summary);
    let nodes = status.node_properties.and_then(|nodes| nodes.status_summary);
    let Some((what, counts)) =
        array.map(|counts| ("Children", counts)).or(nodes.map(|counts| ("Nodes", counts)))
    else {
        return String::new();
    };
    let name = job.name_any();
    let sign = if what == "Nodes" { '#' } else { ':' };
    format!("\n{what}: {}\nWhy one of them: kubectl batch why {name}{sign}INDEX\n", counted(&counts))
}

/// The jobs that it depends on; of those that have not ended also how they are now.
async fn depends_on(cluster: &Cluster, job: &BatchJob) -> Result<String> {
    let mut text = String::new();
    let jobs: Api<BatchJob> = cluster.api();
    for seen in depends::all(job) {
        let _ = write!(text, "\nDepends on {}: {}", seen.called, seen.stands());
        let Some(name) = seen.name.as_ref().filter(|name| seen.is_open() && name::is_object_name(name))
        else {
            continue;
        };
        if let Some(other) = jobs.get_opt(name).await? {
            let record = other.status.map(|status| status.record).unwrap_or_default();
            let why = record.status_reason.as_deref().map(|why| format!(": {}", one_line(why)));
            let _ = write!(text, "; it is {}{}", record.phase(), why.unwrap_or_default());
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

/// What the job waits behind and in.
async fn surroundings(cluster: &Cluster, job: &BatchJob) -> Result<String> {
    let mut text = String::new();
    let queues: Api<JobQueue> = cluster.api();
    let mut queue = None;
    for name in name::candidates(&job.spec.job_queue) {
        if queue.is_none() && name::is_object_name(&name) {
            queue = queues.get_opt(&name).await?;
        }
    }
    let Some(queue) = queue else { return Ok(text) };
    let status = queue.status.clone().unwrap_or_default();
    let counts = status.jobs.unwrap_or_default();
    let _ = writeln!(
        text,
        "\nQueue {}: {}, priority {}, {} RUNNABLE, {} STARTING or RUNNING",
        queue.name_any(),
        word(&queue.spec.state.unwrap_or_default()),
        queue.spec.priority,
        counts.runnable.unwrap_or(0),
        counts.starting.unwrap_or(0) + counts.running.unwrap_or(0)
    );
    text.push_str(&place(cluster, job, &queue).await?);
    let mut order = queue.spec.compute_environment_order.clone();
    order.sort_by_key(|entry| entry.order);
    let environments: Api<ComputeEnvironment> = cluster.all();
    for entry in order {
        for name in name::environments(&cluster.namespace, &entry.compute_environment) {
            // Whoever may see jobs may not see environments, which are the cluster's.
            let Ok(Some(found)) = environments.get_opt(&name).await else { continue };
            let status = found.status.clone().unwrap_or_default();
            let trouble = status.status != Some(ResourceStatus::Valid);
            let max =
                found.spec.compute_resources.as_ref().map(|resources| format!(" of {}", resources.maxv_cpus));
            let _ = writeln!(
                text,
                "Environment {name}: {}, {} nodes, {}{} vCPUs in use{}",
                status.status.map(|status| word(&status)).unwrap_or_default(),
                status.nodes.unwrap_or(0),
                status.vcpus_in_use.unwrap_or(0),
                max.unwrap_or_default(),
                status
                    .status_reason
                    .filter(|_| trouble)
                    .map(|reason| format!(": {}", one_line(&reason)))
                    .unwrap_or_default()
            );
            text.push_str(&would_have_to_end(cluster, job, &found).await?);
            break;
        }
    }
    Ok(text)
}
