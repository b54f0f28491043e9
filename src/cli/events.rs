//! `kubectl batch events`: what happened to a job and its pods.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;

use super::connect::Cluster;
use super::error::{Error, Result};
use super::output::{Output, objects};
use super::table::{Screen, Table};
use super::{find, list, parts, print, time};
use crate::crd::BatchJob;
use crate::k8s::meta;

/// Which job.
#[derive(clap::Args, Debug)]
pub(super) struct EventsArgs {
    /// A name or id, or a beginning of it. JOB:INDEX is a child of an array, JOB#INDEX a node of a multi-node job.
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &EventsArgs, cluster: &Cluster) -> Result<ExitCode> {
    let (job, events) = named(cluster, &args.job).await?;
    if args.output.is_table() {
        match events.is_empty() {
            true => eprintln!("No Events of {}: the cluster keeps them for an hour or so.", job.name_any()),
            false => print(&table(&events, Screen::stdout(), Timestamp::now()).show()),
        }
    } else {
        let values = events.iter().map(list::to_value).collect::<Result<Vec<_>>>()?;
        print(&objects(&args.output.format(), &values, false)?);
    }
    Error::done()
}

async fn named(cluster: &Cluster, text: &str) -> Result<(BatchJob, Vec<Event>)> {
    let (job, parts) = parts::find(cluster, text).await?;
    let Some(parts) = parts else {
        let events = of_job(cluster, &job).await?;
        return Ok((job, events));
    };
    let known = parts::read(cluster, &job, &parts).await?;
    let mut events = Vec::new();
    for part in parts.iter() {
        events.extend(of_pods(cluster, &known.job(&job, part), &known.pod_uids(part)).await?);
    }
    events.sort_by_key(last_seen);
    Ok((job, events))
}

/// The Events of the pods that a part of a job has had, oldest first: those on its record, and these.
///
/// # Errors
/// When they may not be listed.
pub(super) async fn of_pods(cluster: &Cluster, part: &BatchJob, more: &[String]) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for uid in recorded(part).chain(more.iter().cloned()).collect::<BTreeSet<_>>() {
        events.extend(of(cluster, &uid).await?);
    }
    events.sort_by_key(last_seen);
    Ok(events)
}

/// Uids of the pods on a job's record.
fn recorded(job: &BatchJob) -> impl Iterator<Item = String> {
    let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
    let ended = record.attempts.into_iter().map(|attempt| attempt.pod_uid);
    let placed = record.placements.into_iter().map(|placement| placement.pod_uid);
    ended.chain(placed).chain(record.current.map(|current| current.pod_uid))
}

/// The Events of a job and of the pods that it has had, oldest first.
///
/// # Errors
/// When they may not be listed.
pub(super) async fn of_job(cluster: &Cluster, job: &BatchJob) -> Result<Vec<Event>> {
    let mut events = of(cluster, &job.uid().unwrap_or_default()).await?;
    for uid in pods(cluster, job).await {
        events.extend(of(cluster, &uid).await?);
    }
    events.sort_by_key(last_seen);
    Ok(events)
}

async fn of(cluster: &Cluster, uid: &str) -> Result<Vec<Event>> {
    let of_it = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    find::every(&cluster.api::<Event>(), of_it).await
}

/// Uids of the job's pods: those on record, and those that exist.
async fn pods(cluster: &Cluster, job: &BatchJob) -> Vec<String> {
    let mut uids: Vec<String> = recorded(job).collect();
    let id = job.status.as_ref().and_then(|status| status.record.job_id.as_ref());
    // An array may have thousands: those of a child can be asked for.
    if let Some(id) = id.filter(|_| !parts::is_array(job)) {
        let of_it = ListParams::default().labels(&format!("{}={id}", meta::JOB_ID));
        // Whoever may see jobs may not see pods.
        let pods = cluster.api::<Pod>().list_metadata(&of_it).await;
        uids.extend(pods.into_iter().flatten().filter_map(|pod| pod.uid()));
    }
    uids.sort();
    uids.dedup();
    uids
}

/// Events as rows.
pub(super) fn table(events: &[Event], screen: Screen, now: Timestamp) -> Table {
    let mut table = Table::new(screen, &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    for event in events {
        let object = &event.involved_object;
        let about = format!(
            "{}/{}",
            object.kind.as_deref().unwrap_or_default().to_lowercase(),
            object.name.as_deref().unwrap_or_default()
        );
        table.row([
            last_seen(event).map(|at| time::between(at, now)).unwrap_or_default(),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            about,
            event.message.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.or(last).or_else(|| event.event_time.as_ref().map(|time| time.0))
}
