//! `kubectl batch cancel`, `terminate` and `move`: what people want of jobs that are there. Each is an
//! edit of the job's spec, which the operator carries out.

use std::process::ExitCode;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::{find, print};
use crate::crd::BatchJob;

/// Which jobs are to end, and why.
#[derive(clap::Args, Debug)]
pub(super) struct EndArgs {
    /// Names or ids, or beginnings of them.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Why; it becomes the job's statusReason.
    #[arg(short, long, default_value = "Ended by kubectl batch")]
    reason: String,
}

/// Which jobs are to move, and where.
#[derive(clap::Args, Debug)]
pub(super) struct MoveArgs {
    /// Names or ids, or beginnings of them.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// The queue to move them to.
    #[arg(short, long, value_name = "QUEUE", required_unless_present = "priority")]
    queue: Option<String>,
    /// Their schedulingPriorityOverride: 0 to 9999.
    #[arg(long, value_name = "NUMBER")]
    priority: Option<i32>,
}

pub(super) async fn cancel(args: &EndArgs, cluster: &Cluster) -> Result<ExitCode> {
    let starts = |job: &BatchJob| matches!(phase(job), "STARTING" | "RUNNING");
    for job in jobs(cluster, &args.jobs).await? {
        if is_over(&job) {
            continue;
        }
        edit(cluster, &job, json!({"cancel": args.reason})).await?;
        match starts(&job) {
            // As on AWS: a cancel comes too late for such a job, until it waits again.
            true => print(&format!(
                "{} is {}: it goes on, and is cancelled if it comes to wait again (terminate ends it now)\n",
                job.name_any(),
                phase(&job)
            )),
            false => print(&format!("{} is to be cancelled\n", job.name_any())),
        }
    }
    Error::done()
}

pub(super) async fn terminate(args: &EndArgs, cluster: &Cluster) -> Result<ExitCode> {
    for job in jobs(cluster, &args.jobs).await? {
        if !is_over(&job) {
            edit(cluster, &job, json!({"terminate": args.reason})).await?;
            print(&format!("{} is to be terminated\n", job.name_any()));
        }
    }
    Error::done()
}

pub(super) async fn move_to(args: &MoveArgs, cluster: &Cluster) -> Result<ExitCode> {
    for job in jobs(cluster, &args.jobs).await? {
        let name = job.name_any();
        if is_over(&job) {
            continue;
        }
        if matches!(phase(&job), "STARTING" | "RUNNING") {
            let late = format!("{name} is {}: only jobs that wait can be moved", phase(&job));
            return Err(Error::new(Kind::Invalid, late));
        }
        let mut spec = json!({});
        if let Some(queue) = &args.queue {
            spec["jobQueue"] = queue.as_str().into();
        }
        if let Some(priority) = args.priority {
            spec["schedulingPriorityOverride"] = priority.into();
        }
        edit(cluster, &job, spec).await?;
        let moved = args.queue.as_ref().map(|queue| format!(" waits in {queue}")).unwrap_or_default();
        let ranked = args.priority.map(|number| format!(" has priority {number}")).unwrap_or_default();
        let both = if moved.is_empty() || ranked.is_empty() { "" } else { " and" };
        print(&format!("{name}{moved}{both}{ranked}\n"));
    }
    Error::done()
}

/// All are found before the first is touched.
async fn jobs(cluster: &Cluster, names: &[String]) -> Result<Vec<BatchJob>> {
    let mut found = Vec::new();
    for name in names {
        found.push(find::job(cluster, name).await?);
    }
    Ok(found)
}

fn phase(job: &BatchJob) -> &'static str {
    job.status.as_ref().map_or("SUBMITTED", |status| status.record.phase().as_str())
}

/// Says so if a job has ended: nothing can be done about it any more, and that is no failure.
fn is_over(job: &BatchJob) -> bool {
    let over = job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal());
    if over {
        print(&format!("{} has ended: {}\n", job.name_any(), phase(job)));
    }
    over
}

/// The uid keeps the order from a namesake that was made meanwhile.
async fn edit(cluster: &Cluster, job: &BatchJob, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"uid": job.uid()}, "spec": spec}));
    cluster.api::<BatchJob>().patch(&job.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}
