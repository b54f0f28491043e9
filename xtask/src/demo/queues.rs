//! `cargo xtask demo queues`: three queues share four vCPUs, with the files of `examples/queues`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::jobs::{Job, Jobs};
use super::plugin;
use crate::cluster::Cluster;
use crate::process::{output, wait_for};
use crate::step::say;

const PATIENCE: Duration = Duration::from_secs(300);
/// The job that no environment may ever take.
const TOO_LARGE: &str = "too-large";

/// Lets it all happen, then tells what happened.
pub(super) fn play(cluster: &Cluster, namespace: &str) -> Result<()> {
    println!(
        "\nurgent goes before research and nightly. research is divided between physics, which weighs half,"
    );
    println!(
        "and biology. solve-1 and solve-2 need the one licence there is. too-large asks for more vCPUs than"
    );
    println!("the environment may ever have.\n");
    let mut jobs = Jobs::follow(cluster, namespace)?;
    let blocked = |job: &Job| job.reason().starts_with("MISCONFIGURATION:");
    jobs.until_job(TOO_LARGE, "to say that it never fits", PATIENCE, blocked)?;
    println!("\nWhy, and where in line, for three of them:");
    for job in [TOO_LARGE, "physics-6", "nightly-4"] {
        plugin::show(cluster, namespace, &["why", job])?;
    }
    plugin::show(cluster, namespace, &["queues"])?;
    say(format!("urgent is Blocked: {}", blocked_by(cluster, namespace)?));
    plugin::show(cluster, namespace, &["cancel", TOO_LARGE, "--reason", "It never fits"])?;
    jobs.until("all to end", PATIENCE, |jobs| jobs.values().all(Job::has_ended))?;
    check(&jobs)?;
    say("all as the queues' rules say: docs/queues.md");
    Ok(())
}

/// What the queue says that it is blocked by; it says so some seconds after the job that does it.
fn blocked_by(cluster: &Cluster, namespace: &str) -> Result<String> {
    let condition = "jsonpath={.status.conditions[?(@.type==\"Blocked\")].message}";
    wait_for("urgent to be Blocked", PATIENCE, || {
        let mut kubectl =
            cluster.kubectl(["get", "jobqueue", "urgent", "--namespace", namespace, "--output", condition]);
        let message = output(&mut kubectl)?;
        Ok((!message.is_empty()).then_some(message))
    })
}

/// Fails if the jobs did not share as the files say.
fn check(jobs: &Jobs) -> Result<()> {
    let named =
        |prefix: &str| jobs.all().filter(|job| job.metadata.name.starts_with(prefix)).collect::<Vec<_>>();
    let done = |job: &&Job| job.is("SUCCEEDED");
    let (solvers, nightly) = (spans(&named("solve-"))?, spans(&named("nightly-"))?);
    let all: Vec<_> = jobs.all().filter(|job| job.metadata.name != TOO_LARGE).collect();
    let everything = spans(&all)?;
    let first = start(jobs.get("biology-first")?)?;
    let others = named("biology-").into_iter().filter(|job| job.metadata.name != "biology-first");
    let others = others.map(start).collect::<Result<Vec<_>>>()?;
    let expectations = [
        ("all but too-large succeed", all.iter().all(done) && jobs.get(TOO_LARGE)?.is("FAILED")),
        ("one licence lets one solver run at a time", most_at_once(&solvers) == 1),
        ("nightly runs two jobs at a time at most", most_at_once(&nightly) <= 2),
        ("four vCPUs are in use at most", most_at_once(&everything) <= 4),
        ("biology-first is not the last of its share", others.iter().any(|other| first <= *other)),
    ];
    let missed: Vec<&str> =
        expectations.iter().filter(|(_, kept)| !kept).map(|(expected, _)| *expected).collect();
    if !missed.is_empty() {
        bail!("that is not what should have happened: {}", missed.join("; "));
    }
    Ok(())
}

/// From when to when each of them ran.
fn spans(jobs: &[&Job]) -> Result<Vec<(Timestamp, Timestamp)>> {
    let span = |job: &&Job| {
        let attempt = job.status.attempts.last()?;
        Some((attempt.started_at?, attempt.stopped_at?))
    };
    jobs.iter().map(|job| span(job).with_context(|| format!("{} never ran", job.metadata.name))).collect()
}

fn start(job: &Job) -> Result<Timestamp> {
    Ok(spans(&[job])?[0].0)
}

/// How many of them ran at the same time. One that begins in the second in which another ends follows it.
fn most_at_once(spans: &[(Timestamp, Timestamp)]) -> usize {
    let at = |moment: Timestamp| spans.iter().filter(|(from, to)| *from <= moment && moment < *to).count();
    spans.iter().map(|(from, _)| at(*from)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_at_once() {
        let span = |from, to| (Timestamp::constant(from, 0), Timestamp::constant(to, 0));
        assert_eq!(most_at_once(&[]), 0);
        assert_eq!(most_at_once(&[span(0, 6), span(6, 12)]), 1);
        assert_eq!(most_at_once(&[span(0, 6), span(5, 12), span(7, 8)]), 2);
    }
}
