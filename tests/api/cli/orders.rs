//! `cancel`, `terminate`, `move`, `retry`.

use batchyard_core::job::phase::Phase;
use serde_json::json;

use super::program::batch;
use crate::operator::world::{World, job};

#[tokio::test]
async fn jobs_are_ended_on_demand() {
    let world = World::with_queue("cli-end").await;
    let n = world.namespace.as_str();
    let waiting = world.submit("waiting", job(json!({"jobQueue": "nowhere"}))).await;
    waiting.reaches(Phase::Submitted).await;
    assert_eq!(
        batch(n, &["cancel", "waiting", "-r", "not needed"]).await.ok(),
        "waiting is to be cancelled\n"
    );
    let end = waiting.reaches(Phase::Failed).await;
    assert_eq!((end.status_reason.as_deref(), end.is_cancelled), (Some("not needed"), Some(true)));
    assert_eq!(batch(n, &["cancel", "waiting"]).await.ok(), "waiting has ended: FAILED\n");

    let running = world.submit("running", job(json!({}))).await;
    let pod = running.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    running.reaches(Phase::Running).await;
    let late = batch(n, &["cancel", "running"]).await.ok();
    assert!(late.contains("running is RUNNING: it goes on"), "{late}");
    assert_eq!(
        batch(n, &["terminate", "running", "-r", "enough"]).await.ok(),
        "running is to be terminated\n"
    );
    pod.dies_when_deleted(143).await;
    assert_eq!(running.reaches(Phase::Failed).await.status_reason.as_deref(), Some("enough"));
}

#[tokio::test]
async fn a_waiting_job_moves_and_a_finished_one_runs_again() {
    let world = World::with_queue("cli-move").await;
    let n = world.namespace.as_str();
    let moved = world.submit("moved", job(json!({"jobQueue": "nowhere"}))).await;
    moved.reaches(Phase::Submitted).await;
    let early = batch(n, &["retry", "moved"]).await.fails(5);
    assert!(early.contains("moved has not ended"), "{early}");
    assert_eq!(
        batch(n, &["move", "moved", "-q", "queue", "--priority", "5"]).await.ok(),
        "moved waits in queue and has priority 5\n"
    );
    moved.run(1).await;
    moved.reaches(Phase::Failed).await;
    let again = batch(n, &["retry", "moved", "-o", "name"]).await.ok();
    let name = again.trim().strip_prefix("batchjob.batchyard.io/").expect("a name").to_owned();
    assert!(name.starts_with("moved-"), "{again}");
    let second = world.job(&name);
    second.run(0).await;
    second.reaches(Phase::Succeeded).await;
    assert!(batch(n, &["move", &name, "-q", "queue"]).await.ok().contains("has ended: SUCCEEDED"));
}
