//! What happened to each job, and whether it is what the post tells.

use anyhow::{Result, bail};

use super::jobs::{Attempt, Job, Jobs};

/// Prints each job with its attempts.
pub(super) fn print(jobs: &Jobs) {
    println!("\nWhat happened:");
    for job in jobs.all() {
        let reason = job.status.status_reason.as_deref().unwrap_or("-");
        println!("\n  {}: {}, {reason}", job.metadata.name, job.status.phase);
        for attempt in &job.status.attempts {
            println!("    {}", describe(attempt));
        }
    }
    println!();
}

fn describe(attempt: &Attempt) -> String {
    let node = attempt.node_name.as_deref().unwrap_or("no node");
    let mut text = format!("attempt {} on {node}: ", attempt.attempt);
    if let Some(code) = attempt.container.exit_code {
        text.push_str(&format!("exit code {code}, "));
    }
    text.push_str(&attempt.status_reason);
    if let Some(reason) = &attempt.container.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let Some(decision) = &attempt.decision {
        text.push_str(&format!("\n      decided by {}", decision.rule));
    }
    text
}

/// Fails if a job did not fare as the post tells.
pub(super) fn check(jobs: &Jobs) -> Result<()> {
    let retry = jobs.get("random-ec-retry")?;
    let exit = jobs.get("random-ec-exit")?;
    let no_container = jobs.get("no-container")?;
    let (drained, lost) = (jobs.get("spot-drain")?, jobs.get("spot-power-off")?);
    let expectations = [
        ("random-ec-retry succeeds at its third attempt", ended(retry, "SUCCEEDED", &[1, 2, 0])),
        ("random-ec-exit fails at its second attempt", ended(exit, "FAILED", &[1, 3])),
        ("random-ec ends", jobs.get("random-ec")?.has_ended()),
        ("no-container fails after one attempt", ended(no_container, "FAILED", &[])),
        ("no-container says CannotPullContainerError", says(no_container, "CannotPullContainerError:")),
        ("spot-drain loses its host and succeeds", drained.is("SUCCEEDED") && lost_its_host(drained)),
        ("spot-power-off loses its host", lost_its_host(lost)),
    ];
    let missed: Vec<&str> =
        expectations.iter().filter(|(_, kept)| !kept).map(|(expected, _)| *expected).collect();
    if !missed.is_empty() {
        bail!("that is not what should have happened: {}", missed.join("; "));
    }
    Ok(())
}

/// Whether the job ended like this, with these exit codes; none: one attempt that never started.
fn ended(job: &Job, phase: &str, codes: &[i32]) -> bool {
    let seen: Vec<Option<i32>> = job.status.attempts.iter().map(|each| each.container.exit_code).collect();
    let expected: Vec<Option<i32>> =
        if codes.is_empty() { vec![None] } else { codes.iter().copied().map(Some).collect() };
    job.is(phase) && seen == expected
}

fn says(job: &Job, prefix: &str) -> bool {
    let reasons = job.status.attempts.iter().filter_map(|each| each.container.reason.as_deref());
    reasons.into_iter().any(|reason| reason.starts_with(prefix))
}

/// Whether an attempt ended with its host, and another followed on another host.
fn lost_its_host(job: &Job) -> bool {
    job.status.attempts.windows(2).any(|pair| {
        pair[0].status_reason.starts_with("Host EC2 (instance i-")
            && pair[0].status_reason.ends_with(" terminated.")
            && pair[0].node_name != pair[1].node_name
    })
}
