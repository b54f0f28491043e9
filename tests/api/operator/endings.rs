//! How jobs end: by exit codes and retry rules, by orders of their owner, by the clock, by their host.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Record, RetryAction};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::world::{World, container, job};
use crate::support::wait;

/// The retry strategy of the post's `randomEC`.
fn random_ec(attempts: u32) -> Value {
    json!({"retryStrategy": {"attempts": attempts, "evaluateOnExit": [
        {"onExitCode": "1", "action": "RETRY"},
        {"onExitCode": "2", "action": "RETRY"},
        {"onExitCode": "3", "action": "EXIT"},
    ]}})
}

/// Of each attempt the exit code and the rule that decided.
fn decisions(record: &Record) -> Vec<(Option<i32>, RetryAction, &str)> {
    let attempts = record.attempts.iter().map(|attempt| {
        let decision = attempt.decision.as_ref().expect("each attempt says what decided");
        (attempt.container.exit_code, decision.action, decision.rule.as_str())
    });
    attempts.collect()
}

#[tokio::test]
async fn exit_codes_decide_until_one_succeeds() {
    let world = World::with_queue("retry").await;
    let job = world.submit("job", job(random_ec(10))).await;
    job.attempt(1, 1).await;
    job.attempt(2, 2).await;
    job.attempt(3, 0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!(
        decisions(&record),
        [
            (Some(1), RetryAction::Retry, "evaluateOnExit[0]: onExitCode \"1\" -> RETRY"),
            (Some(2), RetryAction::Retry, "evaluateOnExit[1]: onExitCode \"2\" -> RETRY"),
            (Some(0), RetryAction::Exit, "exit code 0"),
        ]
    );
    let numbers: Vec<_> = record.attempts.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn an_exit_rule_fails_the_job_with_attempts_unused() {
    let world = World::with_queue("exit").await;
    let job = world.submit("job", job(random_ec(10))).await;
    let record = job.run(3).await;
    assert_eq!(record.phase(), Phase::Failed);
    assert_eq!(
        decisions(&record),
        [(Some(3), RetryAction::Exit, "evaluateOnExit[2]: onExitCode \"3\" -> EXIT")]
    );
}

#[tokio::test]
async fn attempts_run_out() {
    let world = World::with_queue("exhausted").await;
    let job = world.submit("job", job(random_ec(2))).await;
    job.attempt(1, 1).await;
    job.attempt(2, 1).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.attempts.len(), 2);
    assert_eq!(decisions(&record)[1], (Some(1), RetryAction::Exit, "attempts exhausted (2 of 2)"));
}

#[tokio::test]
async fn without_a_strategy_there_is_one_attempt() {
    let world = World::with_queue("once").await;
    let job = world.submit("job", job(json!({}))).await;
    let record = job.run(1).await;
    assert_eq!((record.phase(), record.attempts.len()), (Phase::Failed, 1));
    assert_eq!(record.status_reason.as_deref(), Some("Essential container in task exited"));
}

#[tokio::test]
async fn running_out_of_memory_is_told() {
    let world = World::with_queue("oom").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    pod.runs_out_of_memory().await;
    let record = job.reaches(Phase::Failed).await;
    let container = &record.attempts[0].container;
    assert_eq!(container.exit_code, Some(137));
    assert_eq!(container.reason.as_deref(), Some("OutOfMemoryError: Container killed due to memory usage"));
}

#[tokio::test]
async fn an_image_with_an_invalid_name_fails_at_once() {
    let world = World::with_queue("image").await;
    let rule = json!({"retryStrategy": {"attempts": 10, "evaluateOnExit": [
        {"onReason": "CannotPullContainerError:*", "action": "EXIT"}]}});
    let job = world.submit("job", job(rule)).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.waits("InvalidImageName", "couldn't parse image name: invalid reference format").await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Task failed to start"));
    let [attempt] = &record.attempts[..] else { panic!("one attempt, not {record:#?}") };
    let reason = attempt.container.reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with("CannotPullContainerError: "), "{reason}");
    pod.is_deleted().await;
}

/// The phases in which a job can be told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Submitted,
    Runnable,
    Bound,
    Running,
}

/// Brings a job to a stage, gives an order, and returns what the job says when it ended.
async fn ordered(world: &World, name: &str, stage: Stage, order: &str) -> Record {
    let queue = if stage == Stage::Submitted { "missing" } else { "queue" };
    let retry = json!({"retryStrategy": {"attempts": 5}, "jobQueue": queue});
    let job = world.submit(name, job(retry)).await;
    if stage == Stage::Submitted {
        job.waits(Phase::Submitted, "JobQueue missing").await;
        job.edit(json!({order: "no longer wanted"})).await;
        return job.until("its end", |record| record.phase().is_terminal()).await;
    }
    let pod = job.pod(1).await;
    if stage >= Stage::Bound {
        pod.bind().await;
        pod.pulls().await;
        job.reaches(Phase::Starting).await;
    }
    if stage >= Stage::Running {
        pod.starts().await;
        job.reaches(Phase::Running).await;
    }
    job.edit(json!({order: "no longer wanted"})).await;
    if stage >= Stage::Bound {
        pod.dies_when_deleted(143).await;
    }
    let record = job.until("its end", |record| record.phase().is_terminal()).await;
    pod.is_released().await;
    record
}

#[tokio::test]
async fn terminate_ends_a_job_in_each_phase() {
    let world = World::with_queue("terminate").await;
    for stage in [Stage::Submitted, Stage::Runnable, Stage::Bound, Stage::Running] {
        let name = format!("{stage:?}").to_lowercase();
        let record = ordered(&world, &name, stage, "terminate").await;
        assert_eq!(record.phase(), Phase::Failed, "{stage:?}");
        assert_eq!(record.status_reason.as_deref(), Some("no longer wanted"), "{stage:?}");
        assert_eq!(record.is_terminated, Some(true), "{stage:?}");
        // A pod that was bound is an attempt, and it is the last.
        assert_eq!(record.attempts.len(), usize::from(stage >= Stage::Bound), "{stage:?}: {record:#?}");
    }
    assert!(world.api::<Pod>().list(&Default::default()).await.expect("a list").items.is_empty());
}

#[tokio::test]
async fn cancel_ends_a_job_that_waits() {
    let world = World::with_queue("cancel").await;
    for stage in [Stage::Submitted, Stage::Runnable] {
        let name = format!("{stage:?}").to_lowercase();
        let record = ordered(&world, &name, stage, "cancel").await;
        assert_eq!(record.phase(), Phase::Failed, "{stage:?}");
        assert_eq!(record.status_reason.as_deref(), Some("no longer wanted"), "{stage:?}");
        assert_eq!((record.is_cancelled, record.is_terminated), (Some(true), None), "{stage:?}");
        assert!(record.attempts.is_empty(), "{stage:?}: {record:#?}");
    }
}

#[tokio::test]
async fn cancel_comes_too_late_for_a_job_that_runs() {
    let world = World::with_queue("toolate").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    job.edit(json!({"cancel": "no longer wanted"})).await;
    condition(&world, "job", "EditIgnored", "cancel: the job has started").await;
    pod.exits(0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!(record.is_cancelled, None);
}

#[tokio::test]
async fn terminate_after_the_end_changes_nothing() {
    let world = World::with_queue("after").await;
    let job = world.submit("job", job(json!({}))).await;
    let before = job.run(0).await;
    job.edit(json!({"terminate": "no longer wanted"})).await;
    condition(&world, "job", "EditIgnored", "terminate: the job had ended already").await;
    assert_eq!(job.record().await, before, "an end never changes");
}

/// Waits until a job has a condition with these words.
async fn condition(world: &World, job: &str, type_: &str, words: &str) {
    wait::until(&world.api::<BatchJob>(), job, type_, |job| {
        let conditions = job.status.iter().flat_map(|status| &status.conditions);
        conditions.filter(|c| c.type_ == type_ && c.status == "True").any(|c| c.message.contains(words))
    })
    .await;
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_ended_and_not_retried() {
    let world = World::with_queue("timeout").await;
    let limits = json!({"timeout": {"attemptDurationSeconds": 60}, "retryStrategy": {"attempts": 3}});
    let job = world.submit("job", job(limits)).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    // AWS's shortest timeout is a minute, so this one began a minute ago.
    pod.started_at(Timestamp::now() - SignedDuration::from_secs(58)).await;
    job.reaches(Phase::Running).await;
    pod.dies_when_deleted(137).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Job attempt duration exceeded timeout"));
    assert_eq!(record.attempts.len(), 1, "{record:#?}");
    assert_eq!(record.is_terminated, None);
    pod.is_released().await;
}

/// Who may edit pods does not get around the timeout by what stands on the pod.
#[tokio::test]
async fn a_job_times_out_whatever_its_pod_says_of_its_containers() {
    let world = World::with_queue("timeout-forged").await;
    let job = world.submit("job", job(json!({"timeout": {"attemptDurationSeconds": 60}}))).await;
    let pod = job.pod(1).await;
    let forged = json!({"metadata": {"annotations": {"batchyard.io/auxiliary-containers": "default"}}});
    let pods: Api<Pod> = world.api();
    pods.patch(&pod.name, &PatchParams::default(), &Patch::Merge(forged)).await.expect("a pod");
    pod.bind().await;
    pod.started_at(Timestamp::now() - SignedDuration::from_secs(58)).await;
    job.reaches(Phase::Running).await;
    pod.dies_when_deleted(137).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Job attempt duration exceeded timeout"));
}

#[tokio::test]
async fn a_timed_out_job_failed_even_if_it_then_exits_with_zero() {
    let world = World::with_queue("timeout-zero").await;
    let job = world.submit("job", job(json!({"timeout": {"attemptDurationSeconds": 60}}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.started_at(Timestamp::now() - SignedDuration::from_secs(59)).await;
    pod.dies_when_deleted(0).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Job attempt duration exceeded timeout"));
    assert_eq!(record.attempts[0].container.exit_code, Some(0));
}

#[tokio::test]
async fn a_host_that_goes_away_is_worth_another_attempt() {
    let world = World::with_queue("host").await;
    let rules = json!({"retryStrategy": {"attempts": 5, "evaluateOnExit": [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"}]}});
    let lost = world.node("lost", "pool", 4).await;
    let job = world.submit("job", job(rules)).await;
    let pod = job.pod(1).await;
    pod.bind_to(&lost).await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    let nodes: Api<Node> = Api::all(world.kubelet.clone());
    nodes.delete(&lost, &DeleteParams::default()).await.expect("a node can be deleted");
    let record = job.until("the end of attempt 1", |record| record.attempts.len() == 1).await;
    let attempt = &record.attempts[0];
    assert_eq!(attempt.status_reason, format!("Host EC2 (instance i-{lost}) terminated."));
    assert_eq!(attempt.container.exit_code, None);
    let record = job.attempt(2, 0).await;
    assert_eq!(record.phase(), Phase::Succeeded, "{record:#?}");
    wait::gone(&world.api::<Pod>(), &pod.name).await;
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_a_failed_attempt() {
    let world = World::with_queue("deleted").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    world.api::<Pod>().delete(&pod.name, &DeleteParams::default()).await.expect("a pod can be deleted");
    pod.dies_when_deleted(143).await;
    let record = job.reaches(Phase::Failed).await;
    let reason = record.status_reason.unwrap_or_default();
    assert!(reason.starts_with("Pod deleted: "), "{reason}");
    assert_eq!(record.attempts[0].container.exit_code, Some(143));
}

#[tokio::test]
async fn pods_of_a_deleted_job_are_ended_and_released() {
    let world = World::with_queue("gone").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    world.api::<BatchJob>().delete("job", &DeleteParams::default()).await.expect("a job can be deleted");
    wait::gone(&world.api::<BatchJob>(), "job").await;
    pod.dies_when_deleted(143).await;
    wait::gone(&world.api::<Pod>(), &pod.name).await;
}

/// Kubernetes deletes the pods of a namespace first, and the objects of jobs only when all pods are gone.
#[tokio::test]
async fn a_namespace_that_goes_is_held_up_by_no_kind_of_job() {
    let world = World::with_queue("namespace").await;
    world.node("more", "pool", 4).await;
    let one = world.submit("one", job(json!({}))).await;
    let array = world.submit("array", job(json!({"arrayProperties": {"size": 2}}))).await;
    let range = json!({"targetNodes": "0:", "container": container()});
    let nodes = json!({"numNodes": 2, "mainNode": 0, "nodeRangeProperties": [range]});
    let gang = world.submit("gang", job(json!({"containerProperties": null, "nodeProperties": nodes}))).await;
    let mut pods = vec![one.pod(1).await];
    for job in [&array, &gang] {
        pods.extend([job.child_pod(0, 1).await, job.child_pod(1, 1).await]);
    }
    for pod in &pods {
        pod.bind().await;
        pod.starts().await;
    }
    one.reaches(Phase::Running).await;
    gang.reaches(Phase::Running).await;
    let namespaces: Api<Namespace> = Api::all(world.user.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.expect("it can be deleted");
    for pod in &pods {
        pod.dies_when_deleted(143).await;
    }
    wait::gone(&namespaces, &world.namespace).await;
}

#[tokio::test]
async fn orphaned_pods_are_ended_and_released_too() {
    let world = World::with_queue("orphan").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    let orphaning =
        DeleteParams { propagation_policy: Some(kube::api::PropagationPolicy::Orphan), ..Default::default() };
    world.api::<BatchJob>().delete("job", &orphaning).await.expect("a job can be deleted");
    pod.dies_when_deleted(143).await;
    wait::gone(&world.api::<Pod>(), &pod.name).await;
}
