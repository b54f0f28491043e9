//! `cargo xtask demo arrays`: arrays, dependencies and a job on three nodes, with the files of `examples/arrays`.

use std::time::Duration;

use anyhow::{Result, bail};

use super::jobs::{Job, Jobs};
use super::plugin;
use crate::cluster::Cluster;
use crate::step::say;

/// Some ninety containers on four vCPUs.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lets it all happen, then tells what happened.
pub(super) fn play(cluster: &Cluster, namespace: &str) -> Result<()> {
    println!(
        "\nsweep has 50 children: ten need a second attempt, five never succeed, a tenth is tolerated. strict"
    );
    println!(
        "tolerates none. refine waits for prepare child by child, chain runs one after the other, report waits"
    );
    println!(
        "for sweep and refine, never for strict, strict-again runs what failed of it once more. sum runs on three"
    );
    println!("nodes at once.\n");
    let mut jobs = Jobs::follow(cluster, namespace)?;
    jobs.until_job("sum", "to run on all its nodes", PATIENCE, |job| {
        job.has_ended() || job.parts().is_some_and(|nodes| job.counted("RUNNING") == Some(nodes))
    })?;
    plugin::show(cluster, namespace, &["children", "sum", "-o", "wide"])?;
    jobs.until("all to end", PATIENCE, |jobs| jobs.values().all(Job::has_ended))?;
    plugin::show(cluster, namespace, &["children", "sweep", "--index", "0-9"])?;
    plugin::show(cluster, namespace, &["describe", "sweep:5"])?;
    plugin::show(cluster, namespace, &["logs", "sum"])?;
    check(&jobs)?;
    say("all as the files say: docs/arrays.md, docs/multi-node.md");
    Ok(())
}

/// Fails if the jobs did not fare as the files say.
fn check(jobs: &Jobs) -> Result<()> {
    let job = |name: &str| jobs.get(name);
    let done = |name: &str| job(name).map(|job| job.is("SUCCEEDED"));
    let failed = |name: &str, reason: &str| job(name).map(|job| job.is("FAILED") && job.reason() == reason);
    let counts = |name: &str, well, badly| {
        job(name).map(|job| (job.counted("SUCCEEDED"), job.counted("FAILED")) == (Some(well), Some(badly)))
    };
    let began = job("report")?.status.attempts.last().and_then(|attempt| attempt.started_at);
    let after = |name: &str| job(name).map(|job| job.status.stopped_at <= began);
    let expectations = [
        ("sweep succeeds", done("sweep")?),
        ("five children of sweep fail", counts("sweep", 45, 5)?),
        ("strict fails", failed("strict", "Array Child Job failed")?),
        ("all others of strict run to their end", counts("strict", 8, 2)?),
        ("never fails with strict", failed("never", "Dependent Job failed")?),
        ("prepare and refine succeed", done("prepare")? && done("refine")?),
        ("chain goes on after its failure", done("chain")? && counts("chain", 4, 1)?),
        ("report succeeds", done("report")?),
        ("report runs after sweep and refine", began.is_some() && after("sweep")? && after("refine")?),
        ("strict-again runs the two that failed", done("strict-again")? && counts("strict-again", 2, 0)?),
        ("sum succeeds", done("sum")?),
    ];
    let missed: Vec<&str> =
        expectations.iter().filter(|(_, kept)| !kept).map(|(expected, _)| *expected).collect();
    if !missed.is_empty() {
        bail!("that is not what should have happened: {}", missed.join("; "));
    }
    Ok(())
}
