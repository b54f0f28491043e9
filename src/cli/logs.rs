//! `kubectl batch logs`: what a job's container wrote, or that of a child or node. An attempt is a pod; following
//! goes from one to the next until the job has ended.

use std::process::ExitCode;

use batchyard_core::definition::container_name;
use batchyard_core::job::record::Record;
use futures::AsyncBufReadExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::LogParams;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt as _};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::follow::{Followed, lost};
use super::parts;
use super::{print, print_bytes, watch};
use crate::crd::BatchJob;
use crate::k8s::observe;

/// Which output.
#[derive(clap::Args, Debug, Default)]
pub(super) struct LogsArgs {
    /// A name or id, or a beginning of it. JOB:INDEX is a child of an array, JOB#INDEX a node of a multi-node job.
    #[arg(value_name = "JOB")]
    job: String,
    /// Wait for the job to start, and go on until it has ended.
    #[arg(short, long)]
    follow: bool,
    /// Of this attempt; default: the newest.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["previous", "all_attempts"])]
    attempt: Option<u32>,
    /// Of the attempt before the newest.
    #[arg(short, long, conflicts_with = "all_attempts")]
    previous: bool,
    /// Of every attempt, from the first.
    #[arg(long)]
    all_attempts: bool,
    /// Of this container; default: the job's own, of several the first essential one.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Only so many lines from the end.
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// A time before each line.
    #[arg(long)]
    timestamps: bool,
    /// The attempt before each line.
    #[arg(long)]
    prefix: bool,
}

pub(super) async fn run(args: &LogsArgs, cluster: &Cluster) -> Result<ExitCode> {
    let (whole, part) = parts::find_one(cluster, &args.job).await?;
    let job = match part {
        Some(part) => parts::read_one(cluster, &whole, part).await?,
        None if parts::is_array(&whole) => {
            let name = whole.name_any();
            return Err(Error::usage(format!(
                "{name} is an array: name one of its children, such as {name}:0"
            )));
        }
        None => whole.clone(),
    };
    let record = record(&job);
    let newest = newest(&record);
    let from = match (args.attempt, args.previous, args.all_attempts) {
        (Some(attempt), ..) => attempt,
        (_, true, _) => newest.saturating_sub(1),
        (_, _, true) => 1,
        _ => newest,
    };
    if from == 0 && args.previous {
        return Err(Error::new(Kind::NotFound, format!("{} has had one attempt only", job.name_any())));
    }
    let last = if args.all_attempts { newest } else { from };
    if args.follow {
        follow(args, cluster, Followed::new(cluster, &whole, part), from.max(1)).await?;
        return Error::done();
    }
    if newest == 0 {
        return Err(Error::new(
            Kind::NotFound,
            format!("{} has not started: {}", job.name_any(), waits(&record)),
        )
        .with_hint("Use --follow to wait for it."));
    }
    for attempt in from..=last {
        let pod = pod_of(&record, attempt).ok_or_else(|| no_attempt(&job, attempt, newest))?;
        stream(args, cluster, &pod, attempt, false, &record).await?;
    }
    Error::done()
}

/// Prints what a job writes until it has ended, and ends as it does.
pub(super) async fn follow_to_the_end(cluster: &Cluster, job: &BatchJob) -> Result<ExitCode> {
    let name = job.name_any();
    if parts::is_array(job) {
        // There is no one output: how the children fare is told instead.
        return watch::to_the_end(cluster, &name).await;
    }
    follow(&LogsArgs::default(), cluster, Followed::new(cluster, job, None), 1).await?;
    let job = cluster.api::<BatchJob>().get(&name).await?;
    let ended = record(&job);
    eprintln!("{name} is {}: {}", ended.phase().as_str(), waits(&ended));
    Ok(watch::exit_code(&ended).into())
}

/// One attempt after another.
async fn follow(args: &LogsArgs, cluster: &Cluster, mut job: Followed, from: u32) -> Result<()> {
    let mut attempt = from;
    loop {
        // There is something to read, or there never will be.
        let now =
            job.until(|record| record.phase().is_terminal() || pod_of(record, attempt).is_some()).await?;
        let Some(pod) = pod_of(&now, attempt) else { return Ok(()) };
        starts(args, cluster, &pod).await?;
        match stream(args, cluster, &pod, attempt, true, &now).await {
            // There is nothing to read of this attempt; the next one may have more to say.
            Err(error) if error.kind() == Kind::NotFound => eprintln!("{error}"),
            streamed => streamed?,
        }
        if args.attempt.is_some() || args.previous {
            return Ok(());
        }
        // The container has ended; the job's status says so a moment later. A pod that started nothing
        // is followed by another one of the same attempt.
        let has_moved_on = |record: &Record| {
            newest_ended(record) >= attempt || pod_of(record, attempt).is_some_and(|now| now != pod)
        };
        let then = job.until(has_moved_on).await?;
        if pod_of(&then, attempt).as_deref() == Some(pod.as_str()) {
            attempt += 1;
        }
    }
}

/// Waits until the container runs or has run, or the pod is gone.
async fn starts(args: &LogsArgs, cluster: &Cluster, pod: &str) -> Result<()> {
    let has_begun = |pod: Option<&Pod>| {
        pod.is_none_or(|pod| {
            let name = container(args, pod);
            let begun = |status: &ContainerStatus| {
                let state = status.state.as_ref();
                state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            };
            let over = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(over, Some("Succeeded" | "Failed"))
                || statuses(pod).any(|status| Some(&status.name) == name.as_ref() && begun(status))
        })
    };
    await_condition(cluster.api::<Pod>(), pod, has_begun).await.map_err(lost)?;
    Ok(())
}

/// Prints the output of one pod, or what the job remembers of it if it is gone.
async fn stream(
    args: &LogsArgs,
    cluster: &Cluster,
    pod: &str,
    attempt: u32,
    follow: bool,
    record: &Record,
) -> Result<()> {
    let pods: Api<Pod> = cluster.api();
    let Some(found) = pods.get_opt(pod).await? else {
        return remembered(record, pod, attempt);
    };
    if let (Some(wanted), None) = (&args.container, container(args, &found)) {
        let names: Vec<_> = names(&found).collect();
        return Err(Error::usage(format!("{pod} has no container {wanted}: it has {}", names.join(", "))));
    }
    let params = LogParams {
        container: container(args, &found),
        follow,
        tail_lines: args.tail,
        timestamps: args.timestamps,
        ..LogParams::default()
    };
    let mut lines = match pods.log_stream(pod, &params).await {
        Ok(lines) => lines,
        // Its container never began, or the node that has the output is gone.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 500 | 502 | 503) => {
            eprintln!("{pod}: {}", status.message);
            return remembered(record, pod, attempt);
        }
        Err(error) => return Err(error.into()),
    };
    let prefix = if args.prefix { format!("[{attempt}] ") } else { String::new() };
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        // Bytes as they are: what a program writes need not be text.
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(()),
            Ok(_) => print_bytes(&line),
            Err(error) => {
                eprintln!("{pod}: the output breaks off: {error}");
                return Ok(());
            }
        }
    }
}

/// What the job keeps of its last failed attempt.
fn remembered(record: &Record, pod: &str, attempt: u32) -> Result<()> {
    let is_last = record.attempts.last().is_some_and(|last| last.attempt == attempt);
    match record.log_tail.as_ref().filter(|_| is_last) {
        Some(tail) => {
            eprintln!("pod {pod} cannot be read; these are the last lines that the job remembers:");
            print(&format!("{}\n", tail.trim_end_matches('\n')));
            Ok(())
        }
        None => Err(Error::new(
            Kind::NotFound,
            format!("the output of attempt {attempt} is gone with its pod {pod}"),
        )
        .with_hint(
            "Pods of finished jobs are kept for a while only; a logConfiguration keeps output elsewhere.",
        )),
    }
}

/// The container that is meant, by its name in the definition or in the pod; else the first whose end is the job's.
fn container(args: &LogsArgs, pod: &Pod) -> Option<String> {
    if let Some(wanted) = &args.container {
        let slug = container_name(wanted);
        return names(pod).find(|name| name == wanted || **name == slug).map(str::to_owned);
    }
    let spec = pod.spec.as_ref()?;
    let own = observe::first_own(spec, observe::auxiliary(pod)).unwrap_or_default();
    Some(spec.containers.get(own)?.name.clone())
}

/// The containers of a pod, those that run before the others first.
fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let usual = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    init.iter().chain(usual).map(|container| container.name.as_str())
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let usual = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    usual.iter().chain(init)
}

fn record(job: &BatchJob) -> Record {
    job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default()
}

fn newest_ended(record: &Record) -> u32 {
    record.attempts.last().map_or(0, |attempt| attempt.attempt)
}

/// The attempt that runs, or ran last; 0 if there was none.
fn newest(record: &Record) -> u32 {
    record.current.as_ref().map_or_else(|| newest_ended(record), |current| current.attempt)
}

fn pod_of(record: &Record, attempt: u32) -> Option<String> {
    let ended =
        record.attempts.iter().find(|ended| ended.attempt == attempt).map(|ended| ended.pod_name.clone());
    let current = record.current.as_ref().filter(|current| current.attempt == attempt);
    ended.or_else(|| current.map(|current| current.pod_name.clone()))
}

fn no_attempt(job: &BatchJob, attempt: u32, newest: u32) -> Error {
    Error::new(Kind::NotFound, format!("{} has no attempt {attempt}: its newest is {newest}", job.name_any()))
}

fn waits(record: &Record) -> String {
    record.status_reason.clone().unwrap_or_else(|| record.phase().as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::meta;
    use serde_json::json;

    #[test]
    fn which_container_is_meant() {
        let of = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let pod = json!({"metadata": {"annotations": {meta::AUXILIARY: "log,fetch"}},
            "spec": {"initContainers": of(&["init"]), "containers": of(&["log", "app", "fetch", "my-app-2b8f6d"])}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let meant = |wanted: Option<&str>| {
            container(&LogsArgs { container: wanted.map(str::to_owned), ..LogsArgs::default() }, &pod)
        };
        assert_eq!(meant(None).as_deref(), Some("app"), "the first essential one");
        for name in ["log", "init", "my-app-2b8f6d"] {
            assert_eq!(meant(Some(name)).as_deref(), Some(name));
        }
        assert_eq!(meant(Some("other")), None);
        let default = json!({"spec": {"containers": of(&["default"])}});
        let default: Pod = serde_json::from_value(default).expect("a pod");
        let args = LogsArgs { container: Some("Default".to_owned()), ..LogsArgs::default() };
        assert_eq!(container(&args, &default).as_deref(), Some("default"), "as AWS calls it");
    }
}
