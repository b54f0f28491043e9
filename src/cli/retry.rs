//! `kubectl batch retry`: a new job like one that has ended.

use std::process::ExitCode;

use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use kube::api::{ObjectMeta, PostParams};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::output::{Output, objects};
use super::{find, list, print};
use crate::crd::children::in_phase;
use crate::crd::{BatchJob, BatchJobSpec};

/// Which jobs.
#[derive(clap::Args, Debug)]
pub(super) struct RetryArgs {
    /// Names or ids of jobs that have ended, or beginnings of them.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Run all children of an array again, not only those that failed.
    #[arg(long)]
    all_children: bool,
    /// Send them to this queue instead of their own.
    #[arg(short, long, value_name = "QUEUE")]
    queue: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &RetryArgs, cluster: &Cluster) -> Result<ExitCode> {
    let mut again = Vec::new();
    for name in &args.jobs {
        let job = find::job(cluster, name).await?;
        let ended = job.status.as_ref().is_some_and(|status| status.record.phase().is_terminal());
        if !ended {
            let early = format!("{} has not ended: only a job that has can be run again", job.name_any());
            return Err(Error::new(Kind::Invalid, early)
                .with_hint("To run it twice at a time, submit it again under another name."));
        }
        if !args.all_children && failed(&job) == Some(0) {
            let well = format!("no child of {} failed: there is nothing to run again", job.name_any());
            return Err(Error::new(Kind::Invalid, well).with_hint("--all-children runs all of them."));
        }
        again.push((job.name_any(), like(&job, args)));
    }
    let mut made = Vec::new();
    for (old, new) in again {
        let new = cluster.api::<BatchJob>().create(&PostParams::default(), &new).await?;
        if args.output.is_table() {
            print(&format!("{} runs {old} again\n", new.name_any()));
        }
        made.push(list::to_value(&new)?);
    }
    print(&objects(&args.output.format(), &made, true)?);
    Error::done()
}

/// The same job without what belongs to its first life.
fn like(job: &BatchJob, args: &RetryArgs) -> BatchJob {
    let mut spec = BatchJobSpec {
        job_id: None,
        cancel: None,
        terminate: None,
        child_actions: Vec::new(),
        ..job.spec.clone()
    };
    spec.job_queue = args.queue.clone().unwrap_or(spec.job_queue);
    // An unpinned definition is pinned to the revision that the job ran: the same once more.
    spec.job_definition = spec.job_definition.map(|named| {
        let resolved = job.status.as_ref().and_then(|status| status.record.job_definition.clone());
        resolved.unwrap_or(named)
    });
    if let Some(array) = &mut spec.array_properties {
        // A rerun of a rerun is about what failed in that one.
        array.rerun_failed_of = Some(job.name_any()).filter(|_| !args.all_children);
        if args.all_children {
            let told = job.status.as_ref().and_then(|status| status.array_properties.as_ref()?.size);
            array.size = array.size.or(told);
        }
    }
    let metadata = ObjectMeta {
        generate_name: Some(stem(&job.name_any())),
        namespace: job.namespace(),
        labels: job.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    BatchJob { metadata, spec, status: None }
}

/// How many children of an array failed, as far as it is known.
fn failed(job: &BatchJob) -> Option<i64> {
    let array = job.status.as_ref()?.array_properties.as_ref()?;
    array.status_summary.as_ref().map(|counts| in_phase(counts, Phase::Failed))
}

/// `render` and `render-x7k2p`, which was made by an earlier retry, become `render-`.
fn stem(name: &str) -> String {
    const GENERATED: usize = 5;
    // What the API server appends: https://github.com/kubernetes/apimachinery, util/rand.
    const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
    let plain = name
        .rsplit_once('-')
        .filter(|(_, end)| end.len() == GENERATED && end.chars().all(|c| LETTERS.contains(c)));
    format!("{}-", plain.map_or(name, |(stem, _)| stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RetryArgs,
    }

    fn again(line: &str, spec: serde_json::Value) -> BatchJob {
        let job = serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "render-x7k2p", "labels": {"team": "a"}, "uid": "u", "resourceVersion": "7"},
            "spec": spec, "status": {"phase": "FAILED", "jobDefinition": "d:3"}}));
        like(&job.expect("a job"), &Line::parse_from(format!("retry {line}").split_whitespace()).args)
    }

    #[test]
    fn the_new_job_is_the_old_one_without_its_past() {
        let new = again(
            "render-x7k2p",
            json!({"jobQueue": "q", "jobDefinition": "d", "jobId": "x", "terminate": "why"}),
        );
        assert_eq!(new.metadata.generate_name.as_deref(), Some("render-"));
        assert_eq!((new.metadata.name, new.metadata.uid, new.metadata.resource_version), (None, None, None));
        assert_eq!((new.spec.job_id, new.spec.terminate, new.status), (None, None, None));
        assert_eq!(new.spec.job_definition.as_deref(), Some("d:3"));
        assert_eq!(new.spec.job_queue, "q");
        assert_eq!(again("x -q other", json!({"jobQueue": "q"})).spec.job_queue, "other");
        assert_eq!(stem("render-final"), "render-final-", "a word is no suffix of the API server");
    }

    #[test]
    fn of_an_array_only_what_failed() {
        let array = json!({"jobQueue": "q", "jobDefinition": "d", "arrayProperties": {"size": 9}});
        let of =
            |line| again(line, array.clone()).spec.array_properties.and_then(|array| array.rerun_failed_of);
        assert_eq!(of("x").as_deref(), Some("render-x7k2p"));
        assert_eq!(of("x --all-children"), None);
        let rerun =
            json!({"jobQueue": "q", "jobDefinition": "d", "arrayProperties": {"rerunFailedOf": "render"}});
        let of =
            |line| again(line, rerun.clone()).spec.array_properties.and_then(|array| array.rerun_failed_of);
        assert_eq!(of("x").as_deref(), Some("render-x7k2p"), "of the rerun what failed again");
        assert_eq!(of("x --all-children"), None);
    }
}
