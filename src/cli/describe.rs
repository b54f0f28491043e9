//! `kubectl batch describe`: a page about a job.

use std::fmt::Write as _;
use std::process::ExitCode;

use batchyard_core::dependency;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Record, RetryAction};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::Value;

use super::connect::Cluster;
use super::error::{Error, Result};
use super::output::{Output, objects};
use super::table::{Screen, Table, one_line};
use super::{array, children, depends, events, list, parts, print, time};
use crate::crd::BatchJob;
use crate::crd::conditions::ConditionType;

/// Which jobs.
#[derive(clap::Args, Debug)]
pub(super) struct DescribeArgs {
    /// Names or ids, or beginnings of them. JOB:3,7-9 are children of an array, JOB#1 is a node of a multi-node job.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: &DescribeArgs, cluster: &Cluster) -> Result<ExitCode> {
    let mut found = Vec::new();
    for name in &args.jobs {
        found.extend(named(cluster, name).await?);
    }
    if !args.output.is_table() {
        let values = found.into_iter().map(|found| found.value).collect::<Vec<_>>();
        print(&objects(&args.output.format(), &values, true)?);
        return Error::done();
    }
    let screen = Screen::stdout();
    for (number, found) in found.iter().enumerate() {
        let job = &found.job;
        // Whoever may see jobs may not see Events.
        let events = match &found.pods {
            Some(pods) => events::of_pods(cluster, job, pods).await.ok(),
            None => events::of_job(cluster, job).await.ok(),
        };
        print(if number > 0 { "\n" } else { "" });
        print(&page(job, events.as_deref(), screen, Timestamp::now()));
    }
    Error::done()
}

/// What a page is about: a job, or a part that is shown like one.
struct Found {
    job: BatchJob,
    value: Value,
    /// Uids of a part's pods.
    pods: Option<Vec<String>>,
}

async fn named(cluster: &Cluster, name: &str) -> Result<Vec<Found>> {
    let (job, some) = parts::find(cluster, name).await?;
    let Some(some) = some else {
        return Ok(vec![Found { value: list::to_value(&job)?, job, pods: None }]);
    };
    let known = parts::read(cluster, &job, &some).await?;
    parts::has(&known, &job, &some)?;
    let found = some.iter().map(|part| {
        Ok(Found {
            value: children::whole_object(&job, part, &known)?,
            job: known.job(&job, part),
            pods: Some(known.pod_uids(part)),
        })
    });
    found.collect()
}

/// The whole page.
pub(super) fn page(job: &BatchJob, events: Option<&[Event]>, screen: Screen, now: Timestamp) -> String {
    let status = job.status.clone().unwrap_or_default();
    let record = &status.record;
    let mut page = head(job, record, screen);
    if let Some(current) = &record.current {
        section(&mut page, screen, "Now");
        line(&mut page, "Attempt", &format!("{} in pod {}", current.attempt, current.pod_name));
        line(&mut page, "Node", &place(current.node_name.as_deref(), current.instance.as_deref()));
        line(&mut page, "Environment", current.compute_environment.as_deref().unwrap_or_default());
        let runs = current.started_at.map(|at| format!("{} ago", time::between(at, now)));
        line(&mut page, "Container started", &runs.unwrap_or_default());
    }
    session(&mut page, job, screen);
    let depends_on = depends::all(job);
    if !depends_on.is_empty() {
        section(&mut page, screen, "Depends on");
        page.push_str(&indented(&depends::table(&depends_on, screen).show()));
    }
    array::section(&mut page, job, screen);
    attempts(&mut page, record, screen);
    placements(&mut page, record, screen);
    conditions(&mut page, job, screen);
    if let Some(tail) = &record.log_tail {
        section(&mut page, screen, "Last lines of the last failed attempt");
        tail.lines().for_each(|text| _ = writeln!(page, "  {}", one_line(text)));
    }
    match events {
        None => {}
        Some([]) => section(&mut page, screen, "Events: none, or they are too old to be kept"),
        Some(events) => {
            section(&mut page, screen, "Events");
            page.push_str(&indented(&events::table(events, screen, now).show()));
        }
    }
    page
}

fn head(job: &BatchJob, record: &Record, screen: Screen) -> String {
    let mut page = String::new();
    let phase = record.phase().as_str();
    line(&mut page, "Name", &job.name_any());
    if let Some(name) = job.spec.job_name.as_ref().filter(|name| **name != job.name_any()) {
        line(&mut page, "Job name", name);
    }
    line(&mut page, "Namespace", &job.namespace().unwrap_or_default());
    line(&mut page, "Id", record.job_id.as_deref().unwrap_or_default());
    line(&mut page, "Queue", &job.spec.job_queue);
    line(
        &mut page,
        "Definition",
        record.job_definition.as_deref().or(job.spec.job_definition.as_deref()).unwrap_or_default(),
    );
    let _ = writeln!(page, "{:<19}{}", "Phase:", screen.paint(phase, phase));
    let reason = record.status_reason.as_deref().unwrap_or_default();
    line(&mut page, "Reason", &dependency::why(reason, &record.depends_on));
    if let Some(known) =
        batchyard_core::reason::explain::explain(reason).filter(|_| record.phase() != Phase::Succeeded)
    {
        line(&mut page, "", known.meaning);
        line(&mut page, "", known.advice);
    }
    let asked = [
        ("Cancel asked for", job.spec.cancel.as_deref()),
        ("Terminate asked for", job.spec.terminate.as_deref()),
    ];
    for (title, reason) in asked {
        line(&mut page, title, reason.unwrap_or_default());
    }
    let times =
        [("Created", record.created_at), ("Started", record.started_at), ("Stopped", record.stopped_at)];
    for (title, at) in times {
        line(&mut page, title, &at.map(time::at).unwrap_or_default());
    }
    page
}

/// Where to connect to, and where the credentials are.
fn session(page: &mut String, job: &BatchJob, screen: Screen) {
    let Some(status) = &job.status else { return };
    let Some(state) = &status.session else { return };
    section(page, screen, "Session");
    line(page, "URL", state.url.as_deref().unwrap_or_default());
    let is_session = |condition: &&Condition| condition.type_ == ConditionType::SessionReady.as_str();
    let standing = status.conditions.iter().find(is_session);
    if let Some(standing) = standing.filter(|_| state.ready != Some(true)) {
        line(page, "Not ready", &standing.message);
    }
    line(
        page,
        "Ready since",
        &state.ready_at.filter(|_| state.ready == Some(true)).map(time::at).unwrap_or_default(),
    );
    let secret = state.credentials_secret.as_deref();
    line(page, "Credentials", &secret.map(|secret| format!("Secret {secret}")).unwrap_or_default());
}

fn attempts(page: &mut String, record: &Record, screen: Screen) {
    if record.attempts.is_empty() {
        return;
    }
    section(page, screen, "Attempts");
    let mut table = Table::new(screen, &["ATTEMPT", "EXIT", "STARTED", "RAN", "NODE", "REASON"]);
    for attempt in &record.attempts {
        let ran = attempt.started_at.zip(attempt.stopped_at).map(|(from, to)| time::between(from, to));
        table.row([
            attempt.attempt.to_string(),
            attempt.container.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            attempt.started_at.map(time::second).unwrap_or_default(),
            ran.unwrap_or_default(),
            place(attempt.node_name.as_deref(), attempt.instance.as_deref()),
            how(attempt),
        ]);
    }
    page.push_str(&indented(&table.show()));
    containers(page, record, screen);
    section(page, screen, "Retry rules that decided");
    for attempt in &record.attempts {
        if let Some(decision) = &attempt.decision {
            let then = match decision.action {
                RetryAction::Retry => "tried again",
                RetryAction::Exit => "the end",
            };
            let _ =
                writeln!(page, "  after attempt {}: {} ({then})", attempt.attempt, one_line(&decision.rule));
        }
    }
}

/// How each container ended, where there are several.
fn containers(page: &mut String, record: &Record, screen: Screen) {
    let mut table = Table::new(screen, &["ATTEMPT", "CONTAINER", "EXIT", "REASON"]);
    let mut is_empty = true;
    for attempt in &record.attempts {
        for outcome in attempt.init_containers.iter().chain(&attempt.containers) {
            is_empty = false;
            table.row([
                attempt.attempt.to_string(),
                outcome.name.clone(),
                outcome.exit_code.map(|code| code.to_string()).unwrap_or_default(),
                outcome.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    if !is_empty {
        section(page, screen, "Containers");
        page.push_str(&indented(&table.show()));
    }
}

fn how(attempt: &Attempt) -> String {
    match &attempt.container.reason {
        Some(reason) => format!("{}: {reason}", attempt.status_reason),
        None => attempt.status_reason.clone(),
    }
}

fn placements(page: &mut String, record: &Record, screen: Screen) {
    if record.placements.is_empty() {
        return;
    }
    section(page, screen, "Pods that started nothing and used up no attempt");
    for placement in &record.placements {
        let at = placement.at.map(time::second).unwrap_or_default();
        let _ =
            writeln!(page, "  {at} attempt {}: {}", placement.attempt, one_line(&placement.status_reason));
    }
}

/// What a reader should know beside the phase.
fn conditions(page: &mut String, job: &BatchJob, screen: Screen) {
    let told = ["Complete", "Failed"];
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    let notable: Vec<_> =
        conditions.filter(|c| c.status == "True" && !told.contains(&c.type_.as_str())).collect();
    if notable.is_empty() {
        return;
    }
    section(page, screen, "Conditions");
    for condition in notable {
        let _ = writeln!(page, "  {}: {}", condition.type_, one_line(&condition.message));
    }
}

/// A node, and the instance where that says more.
fn place(node: Option<&str>, instance: Option<&str>) -> String {
    match (node, instance) {
        (Some(node), Some(instance)) if node != instance => format!("{node} ({instance})"),
        (node, instance) => node.or(instance).unwrap_or_default().to_owned(),
    }
}

fn section(page: &mut String, screen: Screen, title: &str) {
    let _ = writeln!(page, "\n{}", screen.heading(title));
}

/// A line of the page, unless there is nothing to say.
fn line(page: &mut String, title: &str, text: &str) {
    if !text.is_empty() {
        let title = if title.is_empty() { String::new() } else { format!("{title}:") };
        let _ = writeln!(page, "{title:<19}{}", one_line(text));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
