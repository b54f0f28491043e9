//! `kubectl batch cancel`, `terminate` and `move`: what people want of jobs that are there. Each is an
//! edit of the job's spec, which the operator carries out.

use std::process::ExitCode;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::parts::{self, Parts};
use super::print;
use crate::crd::BatchJob;
use crate::crd::batch_job::{ChildAction, ChildActionType};

/// Which jobs are to end, and why.
#[derive(clap::Args, Debug)]
pub(super) struct EndArgs {
    /// Names or ids, or beginnings of them. JOB:3,7-9 are children of an array.
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
    for (job, parts) in jobs(cluster, &args.jobs).await? {
        if is_over(&job) {
            continue;
        }
        if let Some(parts) = parts {
            order_children(cluster, &job, &parts, ChildActionType::Cancel, &args.reason).await?;
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
    for (job, parts) in jobs(cluster, &args.jobs).await? {
        if is_over(&job) {
            continue;
        }
        if let Some(parts) = parts {
            order_children(cluster, &job, &parts, ChildActionType::Terminate, &args.reason).await?;
        } else {
            edit(cluster, &job, json!({"terminate": args.reason})).await?;
            print(&format!("{} is to be terminated\n", job.name_any()));
        }
    }
    Error::done()
}

pub(super) async fn move_to(args: &MoveArgs, cluster: &Cluster) -> Result<ExitCode> {
    for (job, parts) in jobs(cluster, &args.jobs).await? {
        let name = job.name_any();
        if let Some(parts) = parts {
            let alone = format!("{} cannot move alone: only {name} as a whole can", parts.of(&name));
            return Err(Error::usage(alone));
        }
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
async fn jobs(cluster: &Cluster, names: &[String]) -> Result<Vec<(BatchJob, Option<Parts>)>> {
    let mut found = Vec::new();
    for name in names {
        found.push(parts::find(cluster, name).await?);
    }
    Ok(found)
}

/// Adds an order about some children to those that are there. The version keeps what somebody else adds meanwhile;
/// the status of an array that runs changes all the time, so a few tries may be needed.
async fn order_children(
    cluster: &Cluster,
    job: &BatchJob,
    parts: &Parts,
    action: ChildActionType,
    reason: &str,
) -> Result<()> {
    const TRIES: usize = 10;
    let (api, name) = (cluster.api::<BatchJob>(), job.name_any());
    if parts.nodes {
        return Err(Error::usage(format!("nodes end with their job: name {name} as a whole")));
    }
    let mut now = job.clone();
    for left in (0..TRIES).rev() {
        let patch = Patch::Merge(added(&now, parts, action, reason));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.is_conflict() && left > 0 => {
                now = api.get(&name).await?;
                if now.uid() != job.uid() {
                    return Err(Error::new(Kind::NotFound, format!("{name} was deleted")));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (which, verb) = (parts.of(&name), if parts.only().is_some() { "is" } else { "are" });
    print(&match action {
        // As on AWS: a cancel comes too late for those.
        ChildActionType::Cancel => {
            format!(
                "{which} {verb} to be cancelled; what is STARTING or RUNNING goes on (terminate ends it)\n"
            )
        }
        ChildActionType::Terminate => format!("{which} {verb} to be terminated\n"),
    });
    Ok(())
}

/// The edit of the spec: the orders that are there, and this one.
fn added(job: &BatchJob, parts: &Parts, action: ChildActionType, reason: &str) -> Value {
    let mut actions = job.spec.child_actions.clone();
    let indexes = parts.indexes.to_string();
    actions.push(ChildAction { indexes, action, reason: reason.to_owned() });
    json!({
        "metadata": {"uid": job.uid(), "resourceVersion": job.resource_version()},
        "spec": {"childActions": actions},
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_about_children_keeps_those_that_are_there() {
        let first = json!({"indexes": "0", "action": "CANCEL", "reason": "first"});
        let job: BatchJob =
            serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "sweep", "uid": "u", "resourceVersion": "7"},
            "spec": {"jobQueue": "q", "arrayProperties": {"size": 9}, "childActions": [first]}}))
            .expect("a job");
        let parts = Parts { nodes: false, indexes: "7,8,3".parse().expect("indexes") };
        assert_eq!(
            added(&job, &parts, ChildActionType::Terminate, "enough"),
            json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"childActions": [
                {"indexes": "0", "action": "CANCEL", "reason": "first"},
                {"indexes": "3,7-8", "action": "TERMINATE", "reason": "enough"}]}})
        );
    }
}
