//! Jobs that depend on others: they wait, go on, or fail with them.

use batchyard::crd::{BatchJob, JobQueue};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::waits::Kind;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::world::{JobHandle, World, job, merge};
use crate::support::wait;

const FAILED: &str = "Dependent Job failed";

/// A job that depends on these, with more members.
fn after_with(names: &[&str], more: Value) -> Value {
    let on: Vec<Value> = names.iter().map(|name| json!({"job": name})).collect();
    let mut spec = job(json!({"dependsOn": on}));
    merge(&mut spec, more);
    spec
}

fn after(names: &[&str]) -> Value {
    after_with(names, json!({}))
}

/// Waits until a job has failed, and returns its statusReason and the message of its condition.
async fn failure(job: &JobHandle<'_>) -> (String, String) {
    let record = job.reaches(Phase::Failed).await;
    assert!(record.attempts.is_empty() && record.waiting.is_none(), "{record:#?}");
    let conditions = job.get().await.status.unwrap_or_default().conditions;
    let message = conditions.iter().find(|c| c.type_ == "Failed").map(|c| c.message.clone());
    (record.status_reason.unwrap_or_default(), message.unwrap_or_default())
}

/// Waits until a job may run.
async fn goes_on(job: &JobHandle<'_>) -> Record {
    let record = job.until("RUNNABLE", |record| record.phase() > Phase::Pending).await;
    assert!(!record.phase().is_terminal(), "{record:#?}");
    record
}

async fn delete(job: &JobHandle<'_>) {
    let jobs = job.world.api::<BatchJob>();
    jobs.delete(&job.name, &DeleteParams::default()).await.expect("a job can be deleted");
    wait::gone(&jobs, &job.name).await;
}

#[tokio::test]
async fn a_job_may_come_before_the_one_it_depends_on() {
    let world = World::with_queue("deporder").await;
    let second = world.submit("second", after(&["first"])).await;
    let record = second.waits(Phase::Pending, "Waiting for BatchJob first, which does not exist").await;
    assert_eq!(record.waiting.map(|waiting| waiting.kind), Some(Kind::Dependency));
    wait::until(&world.api::<JobQueue>(), "queue", "one PENDING job", |queue| {
        let counts = queue.status.as_ref().and_then(|status| status.jobs.clone());
        counts.is_some_and(|counts| counts.pending == Some(1))
    })
    .await;
    let first = world.submit("first", job(json!({}))).await;
    let record = second.waits(Phase::Pending, "Waiting for BatchJob first to succeed").await;
    assert_eq!(record.depends_on.iter().map(|note| note.job.as_str()).collect::<Vec<_>>(), ["first"]);
    first.run(0).await;
    let record = second.run(0).await;
    assert_eq!(record.phase(), Phase::Succeeded);
    assert_eq!(record.depends_on[0].phase, Some(Phase::Succeeded));
    assert!(record.runnable_at >= first.record().await.stopped_at, "{record:#?}");
}

#[tokio::test]
async fn by_id_in_both_forms_and_across_queues() {
    let world = World::with_queue("depid").await;
    world.queue("other", json!({})).await;
    let id = "2e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b2";
    let by_id = |id: &str| job(json!({"dependsOn": [{"jobId": id}]}));
    let early = world.submit("early", by_id(id)).await;
    early.waits(Phase::Pending, &format!("Waiting for BatchJob {id}, which does not exist")).await;
    let stated = world.submit("stated", job(json!({"jobId": id, "jobQueue": "other"}))).await;
    early.waits(Phase::Pending, "Waiting for BatchJob stated to succeed").await;
    let uid = stated.get().await.uid().unwrap_or_default();
    let by_uid = world.submit("by-uid", by_id(&uid)).await;
    by_uid.waits(Phase::Pending, "which does not exist").await;
    let plain = world.submit("plain", job(json!({}))).await;
    let of_plain = world.submit("of-plain", by_id(&plain.get().await.uid().unwrap_or_default())).await;
    of_plain.waits(Phase::Pending, "Waiting for BatchJob plain to succeed").await;
    stated.run(0).await;
    plain.run(0).await;
    early.run(0).await;
    of_plain.run(0).await;
    assert_eq!(by_uid.record().await.phase(), Phase::Pending, "a job that states an id has no other");
}

#[tokio::test]
async fn a_failure_is_handed_on() {
    let world = World::with_queue("cascade").await;
    let third = world.submit("third", after(&["second"])).await;
    let second = world.submit("second", after(&["first", "other"])).await;
    let other = world.submit("other", job(json!({}))).await;
    let first = world.submit("first", job(json!({"retryStrategy": {"attempts": 2}}))).await;
    second.waits(Phase::Pending, "Waiting for 2 BatchJobs to succeed: first, other").await;
    first.attempt(1, 1).await;
    assert_eq!(second.record().await.phase(), Phase::Pending, "the other one is tried again");
    first.attempt(2, 1).await;
    assert_eq!(failure(&second).await, (FAILED.into(), format!("{FAILED}: BatchJob first failed")));
    assert_eq!(failure(&third).await, (FAILED.into(), format!("{FAILED}: BatchJob second failed")));
    assert!(!other.record().await.phase().is_terminal(), "it depends on nobody");
    // Later ones find how it ended.
    let late = world.submit("late", after(&["third"])).await;
    assert_eq!(failure(&late).await.0, FAILED);
}

#[tokio::test]
async fn jobs_that_ended_before_count_as_they_ended() {
    let world = World::with_queue("depended").await;
    world.submit("good", job(json!({}))).await.run(0).await;
    world.submit("bad", job(json!({}))).await.run(1).await;
    let well = world.submit("well", after(&["good"])).await;
    assert_eq!(well.run(0).await.phase(), Phase::Succeeded);
    let ill = world.submit("ill", after(&["good", "bad"])).await;
    assert_eq!(failure(&ill).await, (FAILED.into(), format!("{FAILED}: BatchJob bad failed")));
}

#[tokio::test]
async fn j6_a_job_that_is_deleted_counts_as_it_was_seen() {
    let world = World::with_queue("depgone").await;
    let good = world.submit("good", job(json!({}))).await;
    let slow = world.submit("slow", job(json!({}))).await;
    let both = world.submit("both", after(&["good", "slow"])).await;
    good.run(0).await;
    both.waits(Phase::Pending, "Waiting for BatchJob slow to succeed").await;
    delete(&good).await;
    // Another one of its name is another job.
    world.submit("good", job(json!({}))).await.run(1).await;
    let waits = world.submit("waits", after(&["slow"])).await;
    waits.waits(Phase::Pending, "Waiting for BatchJob slow to succeed").await;
    slow.run(0).await;
    goes_on(&both).await;
    goes_on(&waits).await;

    let never = world.submit("never", after(&["missing"])).await;
    never.waits(Phase::Pending, "missing, which does not exist").await;
    let doomed = world.submit("doomed", after(&["never"])).await;
    doomed.waits(Phase::Pending, "Waiting for BatchJob never to succeed").await;
    delete(&never).await;
    let deleted = "BatchJob never was deleted before it was seen to end";
    assert_eq!(failure(&doomed).await, (FAILED.into(), format!("{FAILED}: {deleted}")));
}

#[tokio::test]
async fn j6_jobs_that_wait_in_a_circle_are_refused_by_name() {
    let world = World::with_queue("circle").await;
    let itself = world.submit("itself", after(&["itself"])).await;
    let circle = |way: &str| format!("Invalid job: dependsOn leads back to the job itself: {way}");
    assert_eq!(failure(&itself).await.0, circle("itself → itself"));
    let before = world.submit("before", after(&["a"])).await;
    before.waits(Phase::Pending, "a, which does not exist").await;
    let a = world.submit("a", after(&["b"])).await;
    a.waits(Phase::Pending, "b, which does not exist").await;
    let b = world.submit("b", after(&["a"])).await;
    assert_eq!(failure(&a).await.0, circle("a → b → a"));
    assert_eq!(failure(&b).await.0, circle("b → a → b"));
    assert_eq!(failure(&before).await, (FAILED.into(), format!("{FAILED}: BatchJob a failed")));
    // A rerun waits for the array that it names.
    let rerun = |of: &str| job(json!({"arrayProperties": {"rerunFailedOf": of}}));
    let again = world.submit("again", rerun("again")).await;
    assert_eq!(failure(&again).await.0, circle("again → again"));
    let c = world.submit("c", rerun("d")).await;
    c.waits(Phase::Submitted, "d of rerunFailedOf, which does not exist").await;
    let d = world.submit("d", rerun("c")).await;
    assert_eq!(failure(&c).await.0, circle("c → d → c"));
    assert_eq!(failure(&d).await.0, circle("d → c → d"));
}

#[tokio::test]
async fn a_job_that_never_comes_is_waited_for_as_long_as_is_said() {
    let world = World::with_queue("deplimit").await;
    let limited = |seconds: i32| after_with(&["missing"], json!({"dependencyTimeoutSeconds": seconds}));
    let short = world.submit("short", limited(1)).await;
    let long = world.submit("long", limited(100_000)).await;
    let text = "Dependent Job failed: BatchJob missing did not exist within 1 s (dependencyTimeoutSeconds)";
    assert_eq!(failure(&short).await.0, text);
    // A job that names a queue which is not there either does not wait longer for it.
    let nowhere = merged(limited(1), json!({"jobQueue": "nowhere"}));
    assert_eq!(failure(&world.submit("nowhere", nowhere).await).await.0, text);
    long.waits(Phase::Pending, "missing, which does not exist").await;
    world.submit("missing", job(json!({}))).await.run(0).await;
    long.run(0).await;
}

fn merged(mut spec: Value, more: Value) -> Value {
    merge(&mut spec, more);
    spec
}

#[tokio::test]
async fn orders_reach_a_job_that_waits_for_another() {
    let world = World::with_queue("deporders").await;
    for order in ["cancel", "terminate"] {
        let waits = world.submit(order, after(&["missing"])).await;
        waits.waits(Phase::Pending, "missing, which does not exist").await;
        let behind = world.submit(&format!("behind-{order}"), after(&[order])).await;
        waits.edit(json!({order: "no longer wanted"})).await;
        let record = waits.reaches(Phase::Failed).await;
        assert_eq!(record.status_reason.as_deref(), Some("no longer wanted"), "{order}");
        let told = (record.is_cancelled, record.is_terminated);
        assert_eq!(
            told,
            (Some(order == "cancel").filter(|is| *is), Some(order == "terminate").filter(|is| *is))
        );
        assert_eq!(failure(&behind).await.0, FAILED);
    }
    // A queue that goes takes them along.
    world.queue("closing", json!({"state": "DISABLED"})).await;
    let never = world.submit("never", after_with(&["missing"], json!({"jobQueue": "closing"}))).await;
    never.waits(Phase::Submitted, "which is DISABLED").await;
    world.queue("closing", json!({"state": "ENABLED"})).await;
    never.waits(Phase::Pending, "missing, which does not exist").await;
    world.queue("closing", json!({"state": "DISABLED"})).await;
    world.ready::<JobQueue>("closing").await;
    let queues = world.api::<JobQueue>();
    queues.delete("closing", &DeleteParams::default()).await.expect("a queue can be deleted");
    assert_eq!(failure(&never).await.0, "JobQueue deleted");
}

#[tokio::test]
async fn a_job_runs_the_revision_of_the_day_it_was_submitted() {
    let world = World::with_queue("deprevision").await;
    world.definition("definition", json!({})).await;
    let spec = json!({"jobQueue": "queue", "jobDefinition": "definition", "dependsOn": [{"job": "first"}]});
    let second = world.submit("second", spec).await;
    second.waits(Phase::Pending, "first, which does not exist").await;
    world.definition("definition", json!({"containerProperties": {"command": ["false"]}})).await;
    world.ready::<batchyard::crd::JobDefinition>("definition").await;
    world.submit("first", job(json!({}))).await.run(0).await;
    assert_eq!(second.run(0).await.job_definition.as_deref(), Some("definition:1"));
}

/// The other job goes as soon as it has ended, but not before those that wait for it know how it ended.
#[tokio::test]
async fn what_is_waited_for_is_kept_until_its_end_is_noted() {
    let world = World::with_queue("depkept").await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(world.submit(&format!("waits-{n}"), after(&["brief", "missing"])).await);
    }
    let brief = world.submit("brief", job(json!({"ttlSecondsAfterFinished": 0}))).await;
    brief.pod(1).await.bind().await;
    brief.pod(1).await.starts().await;
    brief.pod(1).await.exits(0).await;
    wait::gone(&world.api::<BatchJob>(), "brief").await;
    for job in &waiting {
        let record = job.record().await;
        assert_eq!((record.phase(), record.depends_on.len()), (Phase::Pending, 1), "{record:#?}");
        assert_eq!(record.depends_on[0].phase, Some(Phase::Succeeded), "{}", job.name);
    }
    world.submit("missing", job(json!({}))).await.run(0).await;
    for job in &waiting {
        goes_on(job).await;
    }
}
