//! What a job refers to, changed or deleted under it; and the job itself, and its namespace.

use anyhow::{Result, ensure};
use batchyard::crd::{JobDefinition, JobQueue};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, failed, succeeded};
use crate::programs::{in_queue, polite, shell, too_large};
use crate::scenario::{PATIENCE, Scenario};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("k1-job-deleted-while-running", |scenario| Box::pin(job_deleted(scenario))),
        Case::story("j4-queue-deleted-under-a-job", |scenario| Box::pin(queue_deleted(scenario)))
            .local_only(),
        Case::story("j4-queue-disabled-under-a-job", |scenario| Box::pin(queue_disabled(scenario)))
            .local_only(),
        Case::story("j4-definition-changed-under-a-job", |scenario| Box::pin(definition_changed(scenario)))
            .local_only(),
        Case::story("k2-namespace-deleted", |scenario| Box::pin(namespace_deleted(scenario))),
    ]
}

async fn job_deleted(scenario: &Scenario<'_>) -> Result<()> {
    let ways = [
        ("background", PropagationPolicy::Background),
        ("foreground", PropagationPolicy::Foreground),
        ("orphan", PropagationPolicy::Orphan),
    ];
    for (name, _) in &ways {
        scenario.submit(name, polite()).await;
    }
    for (name, _) in &ways {
        scenario.runs(name, 1).await?;
    }
    for (name, how) in ways {
        scenario.delete(name, how).await?;
    }
    answer("no pod to be left", PATIENCE, || async {
        let pods = scenario.api::<Pod>().list(&ListParams::default()).await?;
        Ok(pods.items.is_empty().then_some(()))
    })
    .await
}

async fn set_queue(scenario: &Scenario<'_>, change: Value) -> Result<()> {
    let patch = kube::api::Patch::Merge(json!({"spec": change}));
    scenario.api::<JobQueue>().patch("queue-0", &Default::default(), &patch).await?;
    Ok(())
}

async fn delete_queue(scenario: &Scenario<'_>) -> Result<()> {
    scenario.api::<JobQueue>().delete("queue-0", &DeleteParams::default()).await?;
    Ok(())
}

async fn queue_is_gone(scenario: &Scenario<'_>) -> Result<()> {
    answer("the queue to be gone", PATIENCE, || async {
        Ok(scenario.api::<JobQueue>().get_opt("queue-0").await?.is_none().then_some(()))
    })
    .await
}

/// A queue that vanishes from a Git folder must not kill what runs in it: it takes nothing new, and
/// goes when the last job has ended.
async fn queue_deleted(scenario: &Scenario<'_>) -> Result<()> {
    scenario.submit("job", polite()).await;
    scenario.runs("job", 1).await?;
    delete_queue(scenario).await?;
    scenario.submit("late", shell("exit 0")).await;
    scenario.waits("late", "SUBMITTED", "which is being deleted").await?;
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    scenario.change("late", json!({"cancel": "no queue"})).await?;
    scenario.ends("late", &failed([]).cancelled("no queue")).await?;
    queue_is_gone(scenario).await
}

/// A DISABLED queue finishes what it has and takes nothing new. Deleting it then is meant: its jobs
/// fail.
async fn queue_disabled(scenario: &Scenario<'_>) -> Result<()> {
    for name in ["job", "other"] {
        scenario.submit(name, polite()).await;
        scenario.runs(name, 1).await?;
    }
    set_queue(scenario, json!({"state": "DISABLED"})).await?;
    scenario.submit("late", shell("exit 0")).await;
    scenario.waits("late", "SUBMITTED", "which is DISABLED").await?;
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    delete_queue(scenario).await?;
    let ended = exit(0).because("JobQueue deleted").failed_by_rule("terminated: never retried");
    scenario.ends("other", &failed([ended]).terminated()).await?;
    scenario.ends("late", &failed([]).because("JobQueue deleted").terminated()).await?;
    queue_is_gone(scenario).await
}

/// A definition whose first revision runs until it is asked to end and then fails.
fn definition(program: &str, more: Value) -> Value {
    let mut spec = json!({
        "type": "container",
        "containerProperties": {
            "image": "alpine:latest", "vcpus": 1, "memory": 64, "command": ["sh", "-c", program],
        },
        "retryStrategy": {"attempts": 2},
    });
    crate::scenario::merge(&mut spec, &more);
    json!({"metadata": {"name": "changing"}, "spec": spec})
}

/// A job goes on with the revision that it began with, whatever becomes of the definition.
async fn definition_changed(scenario: &Scenario<'_>) -> Result<()> {
    let job = || json!({"jobDefinition": "changing"});
    let until_asked = "trap 'exit 1' TERM; sleep 600 & wait";
    scenario.apply::<JobDefinition>(&definition(until_asked, json!({}))).await;
    scenario.submit("old", job()).await;
    scenario.runs("old", 1).await?;
    scenario.apply::<JobDefinition>(&definition("exit 0", json!({}))).await;
    scenario.submit("new", job()).await;
    scenario.ends("new", &succeeded([exit(0)])).await?;
    scenario.finish("old").await?;
    scenario.runs("old", 2).await?;
    scenario.apply::<JobDefinition>(&definition("exit 0", json!({"deregistered": [1]}))).await;
    scenario.submit("late", json!({"jobDefinition": "changing:1"})).await;
    scenario.waits("late", "SUBMITTED", "ACTIVE revision").await?;
    scenario.api::<JobDefinition>().delete("changing", &DeleteParams::default()).await?;
    scenario.waits("late", "SUBMITTED", "does not exist").await?;
    scenario.finish("old").await?;
    let exhausted = exit(1).failed_by_rule("attempts exhausted (2 of 2)");
    let job = scenario.ends("old", &failed([exit(1).retried_by_default(), exhausted])).await?;
    let ran = job.status.and_then(|status| status.record.job_definition);
    ensure!(ran.as_deref() == Some("changing:1"), "the job ran {ran:?}");
    Ok(())
}

/// Jobs in some phases, and one that does not want to end.
pub(crate) async fn populate(scenario: &Scenario<'_>) -> Result<()> {
    scenario.queue("narrow", json!({})).await?;
    let stubborn = "trap '' TERM; while true; do sleep 1; done";
    scenario.submit("submitted", in_queue("missing", polite())).await;
    scenario.submit("runnable", in_queue("narrow", too_large())).await;
    scenario.waits("runnable", "RUNNABLE", "larger node").await?;
    for (name, job) in [("running", polite()), ("stubborn", shell(stubborn))] {
        scenario.submit(name, job).await;
        scenario.runs(name, 1).await?;
    }
    scenario.submit("ended", shell("exit 0")).await;
    scenario.ends("ended", &succeeded([exit(0)])).await?;
    Ok(())
}

async fn namespace_deleted(scenario: &Scenario<'_>) -> Result<()> {
    populate(scenario).await?;
    scenario.remove().await?;
    scenario.is_gone().await
}
