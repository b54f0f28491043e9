//! The operator dies, comes back, or finds another at work.

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use kube::ResourceExt;
use serde_json::json;

use super::world::{World, job};
use crate::support::operator::{self, Operator};

/// What a job's life comes to, apart from times and names.
fn essence(record: &Record) -> Vec<String> {
    let mut lines = vec![format!("{:?} {:?}", record.phase(), record.status_reason)];
    lines.extend(record.attempts.iter().map(|attempt| {
        let rule = attempt.decision.as_ref().map(|decision| decision.rule.as_str());
        format!("{} {:?} {} {rule:?}", attempt.attempt, attempt.container.exit_code, attempt.status_reason)
    }));
    lines
}

/// What happens to a job from outside, one step at a time.
const STEPS: &[&str] = &["submit", "bind", "start", "exit 1", "bind", "start", "exit 0"];

/// Runs a job of two attempts. After the step with this number the operator is killed before it
/// can be seen to react, and another one takes over.
async fn life(world: &World, name: &str, crash_after: Option<usize>) -> Record {
    let mut operator = Operator::start(operator::NAME);
    operator.leads().await;
    let job = world.job(name);
    let mut attempt = 1;
    for (number, step) in STEPS.iter().enumerate() {
        match *step {
            "submit" => drop(world.submit(name, job_spec()).await),
            "bind" => job.pod(attempt).await.bind().await,
            "start" => job.pod(attempt).await.starts().await,
            "exit 1" => {
                job.pod(attempt).await.exits(1).await;
                attempt += 1;
            }
            _ => job.pod(attempt).await.exits(0).await,
        }
        if crash_after == Some(number) {
            operator.kill();
            operator = Operator::start(operator::NAME);
        }
        match *step {
            "bind" => drop(job.reaches(Phase::Starting).await),
            "start" => drop(job.reaches(Phase::Running).await),
            "exit 1" => drop(job.until("attempt 1", |record| record.attempts.len() == 1).await),
            _ => {}
        }
    }
    let record = job.reaches(Phase::Succeeded).await;
    for number in 1..=2 {
        job.pod(number).await.is_released().await;
    }
    operator.stop().await;
    record
}

fn job_spec() -> serde_json::Value {
    job(json!({"retryStrategy": {"attempts": 3}}))
}

#[tokio::test]
async fn killed_after_any_step_the_operator_comes_to_the_same_end() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("crash").await;
    let first = Operator::start(operator::NAME);
    world.furnish().await;
    first.stop().await;
    let undisturbed = essence(&life(&world, "undisturbed", None).await);
    for (number, step) in STEPS.iter().enumerate() {
        let name = format!("crash-{number}");
        let record = life(&world, &name, Some(number)).await;
        assert_eq!(essence(&record), undisturbed, "killed after {step:?}, step {number}");
        let pods = world.pods().await.into_iter().filter(|pod| pod.name_any().starts_with(&name)).count();
        assert_eq!(pods, 2, "killed after {step:?}: one pod for each attempt");
    }
}

#[tokio::test]
async fn orders_given_while_no_operator_runs_are_obeyed() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("absent").await;
    let operator = Operator::start(operator::NAME);
    world.furnish().await;
    let running = world.submit("running", job_spec()).await;
    let pod = running.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    running.reaches(Phase::Running).await;
    operator.kill();
    running.edit(json!({"terminate": "nobody was there"})).await;
    pod.exits(0).await;
    let submitted = world.submit("submitted", job_spec()).await;
    let operator = Operator::start(operator::NAME);
    submitted.pod(1).await;
    let record = running.until("its end", |record| record.phase().is_terminal()).await;
    pod.is_released().await;
    // It had ended before the order was seen, or the order came first: one of the two, for good.
    match record.phase() {
        Phase::Succeeded => assert_eq!(record.is_terminated, None, "{record:#?}"),
        _ => assert_eq!(record.status_reason.as_deref(), Some("nobody was there")),
    }
    operator.stop().await;
}

#[tokio::test]
async fn of_two_operators_one_stands_by() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("standby").await;
    // So that a lease that nobody gave up is free soon.
    let start = |name| Operator::start_with(name, "10");
    let leader = start("operator-a");
    leader.leads().await;
    let follower = start("operator-b");
    follower.stands_by().await;
    world.furnish().await;
    let before = world.submit("before", job(json!({}))).await;
    before.run(0).await;
    let created =
        |operator: &Operator| operator.metrics().is_some_and(|text| text.contains("verb=\"create\""));
    assert!(created(&leader) && !created(&follower), "only the leader writes");
    // Without a word: the lease must expire first.
    leader.kill();
    follower.leads().await;
    let after = world.submit("after", job(json!({}))).await;
    after.run(0).await;
    // In order: the lease is given up.
    let third = start("operator-c");
    third.stands_by().await;
    follower.stop().await;
    third.leads().await;
    world.submit("last", job(json!({}))).await.run(0).await;
    third.stop().await;
}

#[tokio::test]
async fn the_operator_tells_how_it_is() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("metrics").await;
    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    world.furnish().await;
    world.submit("job", job(json!({}))).await.run(0).await;
    assert_eq!(operator.get("/healthz"), Some((200, "ok".to_owned())));
    assert_eq!(operator.get("/readyz").map(|(status, _)| status), Some(200));
    let metrics = operator.metrics().expect("metrics");
    for line in [
        "batchyard_leader 1",
        "batchyard_job_transitions_total{phase=\"SUCCEEDED\"} 1",
        "batchyard_attempts_ended_total{action=\"exit\"} 1",
        "batchyard_queue_wait_seconds_count 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no line {line:?} in\n{metrics}");
    }
    operator.stop().await;
}
