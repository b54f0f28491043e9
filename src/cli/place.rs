//! Where in line a job stands: by the word of the operator, else by the front in the queue's status, else as
//! far as the jobs tell.

use std::fmt::Write as _;
use std::time::Duration;

use batchyard_core::job::phase::Phase;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use tokio::time::timeout;

use super::connect::Cluster;
use super::error::Result;
use super::table::one_line;
use super::time;
use crate::crd::waiting_job::{VIEW_GROUP, VIEW_VERSION, WAITING_JOBS, WaitingJob, WaitingJobStatus};
use crate::crd::{BatchJob, JobQueue};

/// How long the operator may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the operator says of a job's place.
#[derive(Debug, PartialEq)]
enum Word {
    /// It waits, there.
    Waits(Box<WaitingJobStatus>),
    /// It does not wait for a pod now.
    DoesNotWait,
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Where a RUNNABLE job stands, in lines.
pub(super) async fn place(cluster: &Cluster, job: &BatchJob, queue: &JobQueue) -> Result<String> {
    if job.status.as_ref().is_none_or(|status| status.record.phase() != Phase::Runnable) {
        return Ok(String::new());
    }
    Ok(match ask(cluster, job).await {
        Word::Waits(stands) => told(&stands, Timestamp::now()),
        Word::DoesNotWait => String::new(),
        Word::Nothing(why) => match in_front(job, queue, Timestamp::now()) {
            Some(stands) => format!("{stands}\n  (told by the queue's status: {why})\n"),
            None => {
                let older = older(cluster, job).await?;
                let jobs = if older == 1 { "job of it is" } else { "jobs of it are" };
                format!("  {older} {jobs} older and waiting, too\n  (counted from the jobs: {why})\n")
            }
        },
    })
}

async fn ask(cluster: &Cluster, job: &BatchJob) -> Word {
    let (namespace, name) = (&cluster.namespace, job.name_any());
    let path = format!("/apis/{VIEW_GROUP}/{VIEW_VERSION}/namespaces/{namespace}/{WAITING_JOBS}/{name}");
    let Ok(request) = http::Request::get(path).body(Vec::new()) else {
        return Word::Nothing("it has no name that can be asked for");
    };
    match timeout(PATIENCE, cluster.client.request::<WaitingJob>(request)).await {
        Ok(Ok(found)) => Word::Waits(Box::new(found.status)),
        Ok(Err(error)) => meaning(&error),
        Err(_) => Word::Nothing("the operator does not answer"),
    }
}

fn meaning(error: &kube::Error) -> Word {
    let kube::Error::Api(status) = error else { return Word::Nothing("the operator does not answer") };
    let from_the_view = status.details.as_ref().is_some_and(|details| details.group == VIEW_GROUP);
    match status.code {
        404 if from_the_view => Word::DoesNotWait,
        404 => Word::Nothing("the chart's view is not enabled"),
        401 | 403 => {
            Word::Nothing("the chart's view is not enabled, or you may not get waitingjobs.view.batchyard.io")
        }
        501 => Word::Nothing("the operator behind the view does not serve this namespace"),
        _ => Word::Nothing("the operator does not answer"),
    }
}

fn told(stands: &WaitingJobStatus, now: Timestamp) -> String {
    let mut text = String::new();
    if let Some(position) = stands.position {
        let elsewhere = match stands.ahead_in_other_queues.unwrap_or(0) {
            0 => String::new(),
            1 => "; 1 job of another queue on the same environments comes first".to_owned(),
            n => format!("; {n} jobs of other queues on the same environments come first"),
        };
        let _ = writeln!(text, "  It is number {position} in line{elsewhere}");
    }
    if !stands.ahead.is_empty() {
        let named = u64::try_from(stands.ahead.len()).unwrap_or(u64::MAX);
        let more = stands.position.unwrap_or(0).saturating_sub(1).saturating_sub(named);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(text, "  Before it: {}{more}", stands.ahead.join(", "));
    }
    if let Some(waits_for) = &stands.waits_for {
        let since = stands.since.map(|since| format!(", for {}", time::between(since, now)));
        let _ = writeln!(text, "  {}{}", one_line(waits_for), since.unwrap_or_default());
    }
    text
}

/// The job's place among the first hundred, which the operator keeps in the queue's status.
fn in_front(job: &BatchJob, queue: &JobQueue, now: Timestamp) -> Option<String> {
    let status = queue.status.as_ref()?;
    let id = job.status.as_ref()?.record.job_id.as_deref()?;
    let place = status.front.iter().position(|next| next.job_id == id)?;
    let age = status.front_updated_at.map(|at| format!(", {} ago", time::between(at, now)));
    Some(format!("  It was number {} in line{}", place + 1, age.unwrap_or_default()))
}

/// How many jobs of the queue were made before this one and wait as well: its place in a queue
/// without shares and without retried jobs.
async fn older(cluster: &Cluster, job: &BatchJob) -> Result<usize> {
    let fields = format!("spec.jobQueue={},status.phase=RUNNABLE", job.spec.job_queue);
    let mut params = ListParams::default().fields(&fields).limit(5_000);
    let mut older = 0;
    loop {
        let page = cluster.api::<BatchJob>().list_metadata(&params).await?;
        let is_older = |other: &&kube::api::PartialObjectMeta<BatchJob>| {
            other.creation_timestamp() < job.creation_timestamp()
        };
        older += page.items.iter().filter(is_older).count();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(older),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use kube::core::response::StatusDetails;

    #[test]
    fn a_place_is_told_in_a_few_lines() {
        let mut stands = WaitingJobStatus {
            position: Some(13),
            ahead: vec!["a".into(), "b".into()],
            ahead_in_other_queues: Some(1),
            waits_for: Some("Waiting for vCPUs".into()),
            since: Some(Timestamp::UNIX_EPOCH),
            ..WaitingJobStatus::default()
        };
        let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(90);
        assert_eq!(
            told(&stands, later),
            "  It is number 13 in line; 1 job of another queue on the same environments comes first\n\
             \x20 Before it: a, b and 10 more\n\
             \x20 Waiting for vCPUs, for 90s\n"
        );
        (stands.position, stands.ahead_in_other_queues) = (Some(3), Some(0));
        assert!(told(&stands, later).starts_with("  It is number 3 in line\n  Before it: a, b\n"));
        let nothing =
            WaitingJobStatus { waits_for: Some("for a quota".into()), ..WaitingJobStatus::default() };
        assert_eq!(told(&nothing, later), "  for a quota\n");
    }

    #[test]
    fn who_does_not_answer_is_told_from_who_does() {
        let error = |code, group: &str| {
            let details: StatusDetails =
                serde_json::from_value(serde_json::json!({"group": group})).expect("details");
            kube::Error::Api(Box::new(Status::failure("no", "No").with_code(code).with_details(details)))
        };
        assert_eq!(meaning(&error(404, VIEW_GROUP)), Word::DoesNotWait);
        for (code, group, says) in [
            (404, "", "not enabled"),
            (403, VIEW_GROUP, "may not"),
            (503, "", "does not answer"),
            (503, VIEW_GROUP, "does not answer"),
        ] {
            assert!(
                matches!(meaning(&error(code, group)), Word::Nothing(why) if why.contains(says)),
                "{code}"
            );
        }
    }
}
