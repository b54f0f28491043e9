//! Ends that somebody ordered: terminate, cancel, timeout.

use anyhow::{Result, ensure};
use batchyard::crd::BatchJob;
use batchyard::crd::conditions::{ConditionType, is_true};
use kube::ResourceExt as _;
use serde_json::json;

use crate::Case;
use crate::cluster::processes_of_pod;
use crate::ends::{End, Ends, exit, failed, host, succeeded};
use crate::programs::{image, in_queue, polite, shell, too_large};
use crate::registry::{Mood, Registry};
use crate::scenario::{Scenario, is};
use crate::starts::{ALPINE, BROKEN};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("g12-a-timeout-ends-the-job", |scenario| Box::pin(timeout(scenario))),
        Case::story("g12-terminate-while-running", |scenario| Box::pin(terminate(scenario))),
        Case::story("k3-cancel-in-every-phase", |scenario| Box::pin(cancel_in_every_phase(scenario)))
            .local_only(),
        Case::story("k3-terminate-in-every-phase", |scenario| Box::pin(terminate_in_every_phase(scenario)))
            .local_only(),
    ]
}

/// AWS's text.
const TIMED_OUT: &str = "Job attempt duration exceeded timeout";

/// The shortest timeout that AWS allows.
async fn timeout(scenario: &Scenario<'_>) -> Result<()> {
    let mut job = polite();
    job["timeout"] = json!({"attemptDurationSeconds": 60});
    scenario.submit("job", job).await;
    times_out(scenario, "job").await
}

/// Checks that a polite job ends by its timeout of 60 s. Exit code 0 after our SIGTERM is no
/// success.
pub(crate) async fn times_out(scenario: &Scenario<'_>, name: &str) -> Result<()> {
    let ended = exit(0).because(TIMED_OUT).failed_by_rule("timed out: never retried");
    let job = scenario.ends(name, &failed([ended])).await?;
    let record = job.status.map(|status| status.record).unwrap_or_default();
    let ran =
        record.started_at.zip(record.stopped_at).map(|(start, stop)| stop.duration_since(start).as_secs());
    ensure!(ran.is_some_and(|seconds| (60..75).contains(&seconds)), "the job ran {ran:?} s, not 60");
    Ok(())
}

/// The text of the order.
const ENOUGH: &str = "enough";

/// What becomes of an attempt of a job that was terminated.
pub(crate) fn terminated(end: End) -> Ends {
    failed([end.because(ENOUGH).failed_by_rule("terminated: never retried")]).terminated()
}

/// Exit code 0 after SIGTERM is no success: somebody ended the job.
async fn terminate(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", polite()).await;
    scenario.runs("job", 1).await?;
    let pod = scenario.current_pod("job").await?;
    if scenario.cluster.is_local() {
        // Or else the check that none is left afterwards would mean nothing.
        ensure!(!processes_of_pod(&pod).is_empty(), "the pod {pod} runs, but has no process");
    }
    scenario.change("job", json!({"terminate": ENOUGH})).await?;
    scenario.ends("job", &terminated(exit(0))).await?;
    ensure!(scenario.seen.pods() == 1, "there were {} pods", scenario.seen.pods());
    Ok(())
}

/// A job in each phase, named after it; that of `unbound` is RUNNABLE, but has a pod. The returned
/// registry lets `starting` go on.
async fn one_in_every_phase(scenario: &Scenario<'_>) -> Result<Registry> {
    let registry = Registry::open(scenario, "slow", Mood::Silent)?;
    scenario.queue("narrow", json!({})).await?;
    scenario.queue("unscheduled", json!({"podDefaults": {"schedulerName": "nobody"}})).await?;
    let jobs = [
        ("submitted", "SUBMITTED", in_queue("missing", polite())),
        ("runnable", "RUNNABLE", in_queue("narrow", too_large())),
        ("unbound", "RUNNABLE", in_queue("unscheduled", polite())),
        ("starting", "STARTING", image(&registry.image(ALPINE))),
        ("running", "RUNNING", polite()),
        ("ended", "SUCCEEDED", shell("exit 0")),
    ];
    for (name, _, job) in &jobs {
        scenario.submit(name, job.clone()).await;
    }
    for (name, phase, _) in &jobs {
        scenario.until(name, &format!("to be {phase}"), |job| is(job, phase)).await?;
    }
    scenario.waits("submitted", "SUBMITTED", "does not exist").await?;
    scenario.waits("runnable", "RUNNABLE", "larger node").await?;
    scenario.pod_of("unbound", 0).await?;
    Ok(registry)
}

const PHASES: [&str; 6] = ["submitted", "runnable", "unbound", "starting", "running", "ended"];

async fn comes_too_late(scenario: &Scenario<'_>, name: &str) -> Result<()> {
    let ignored = |job: &BatchJob| {
        let conditions = job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        is_true(conditions, ConditionType::EditIgnored)
    };
    scenario.until(name, "to say EditIgnored", ignored).await?;
    Ok(())
}

/// As on AWS, only terminate ends a job that has a node.
async fn cancel_in_every_phase(scenario: &Scenario<'_>) -> Result<()> {
    let registry = one_in_every_phase(scenario).await?;
    for name in PHASES {
        scenario.change(name, json!({"cancel": "not wanted any more"})).await?;
    }
    for name in ["submitted", "runnable", "unbound"] {
        scenario.ends(name, &failed([]).cancelled("not wanted any more")).await?;
    }
    for name in ["starting", "running", "ended"] {
        comes_too_late(scenario, name).await?;
    }
    registry.become_(Mood::Well)?;
    scenario.finish("running").await?;
    for name in ["starting", "running", "ended"] {
        scenario.ends(name, &succeeded([exit(0)])).await?;
    }
    ensure!(scenario.seen.pods() == 4, "there were {} pods", scenario.seen.pods());
    Ok(())
}

async fn terminate_in_every_phase(scenario: &Scenario<'_>) -> Result<()> {
    let registry = one_in_every_phase(scenario).await?;
    for name in PHASES {
        scenario.change(name, json!({"terminate": ENOUGH})).await?;
    }
    for name in ["submitted", "runnable", "unbound"] {
        scenario.ends(name, &failed([]).because(ENOUGH).terminated()).await?;
    }
    let pod = scenario.pod_of("starting", 0).await?.name_any();
    scenario.pod_until(&pod, "to be deleted", |pod| pod.metadata.deletion_timestamp.is_some()).await?;
    registry.become_(BROKEN)?;
    scenario.ends("starting", &terminated(host("", None).before_it_ran())).await?;
    scenario.ends("running", &terminated(exit(0))).await?;
    comes_too_late(scenario, "ended").await?;
    scenario.ends("ended", &succeeded([exit(0)])).await?;
    ensure!(scenario.seen.pods() == 4, "there were {} pods", scenario.seen.pods());
    Ok(())
}
