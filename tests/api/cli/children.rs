//! `JOB:INDEX`: children of arrays, which are no objects, in all commands that take a job.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use serde_json::json;

use super::program::{batch, masked};
use crate::operator::world::{World, job};
use crate::support::wait;

/// Of five children one has ended well, one badly, one runs, and there is no room for the others.
#[tokio::test]
async fn children_are_listed_described_explained_and_ended() {
    let world = World::with_queue("cli-children").await;
    let n = world.namespace.as_str();
    let array = json!({"arrayProperties": {"size": 5, "maxRunning": 1}, "retryStrategy": {"attempts": 1}});
    let sweep = world.submit("sweep", job(array)).await;
    for (index, code) in [(0, 0), (1, 3)] {
        let pod = sweep.child_pod(index, 1).await;
        pod.bind().await;
        pod.starts().await;
        pod.exits(code).await;
        pod.is_released().await;
    }
    let running = sweep.child_pod(2, 1).await;
    running.bind().await;
    running.starts().await;
    wait::until(&world.api::<BatchJob>(), "sweep", "a child of each kind", |job| {
        let array = job.status.as_ref().and_then(|status| status.array_properties.as_ref());
        let counts = array.and_then(|array| array.status_summary.as_ref());
        counts.is_some_and(|counts| {
            let of = |phase| counts.of(phase);
            [of(Phase::Succeeded), of(Phase::Failed), of(Phase::Running)] == [1, 1, 1]
        })
    })
    .await;

    let rows = masked(&batch(n, &["children", "sweep"]).await.ok(), n);
    let node = "NAMESPACE-node";
    for row in [
        "INDEX PHASE ATTEMPT EXIT STARTED RAN NODE REASON".to_owned(),
        format!("0 SUCCEEDED 1 0 AGE ago AGE {node} Essential container in task exited"),
        format!("1 FAILED 1 3 AGE ago AGE {node} Essential container in task exited"),
        format!("2 RUNNING 1 - AGE ago AGE {node} -"),
    ] {
        assert!(rows.contains(&(row.clone() + "\n")), "{row:?} is not in\n{rows}");
    }
    assert_eq!(rows.lines().count(), 6, "{rows}");
    let failed = batch(n, &["children", "sweep", "--phase", "FAILED", "-o", "name"]).await.ok();
    assert_eq!(failed, "batchjob.batchyard.io/sweep:1\n");
    let some = masked(&batch(n, &["children", "sweep:0-1", "--no-headers"]).await.ok(), n);
    assert_eq!(some.lines().count(), 2, "{some}");

    let page = masked(&batch(n, &["describe", "sweep:1"]).await.ok(), n);
    for part in ["Name: sweep:1\n", "Phase: FAILED\n", "Id: ID:1\n", " 1 3 TIME AGE NAMESPACE-node "] {
        let part = part.replace("ID:1", &format!("{}:1", sweep.get().await.uid().expect("it has one")));
        assert!(page.contains(&part), "{part:?} is not in\n{page}");
    }
    let why = batch(n, &["why", "sweep:1"]).await.ok();
    assert!(why.starts_with("sweep:1 is FAILED\n"), "{why}");
    let absent = batch(n, &["describe", "sweep:5"]).await.fails(3);
    assert!(absent.contains("sweep"), "{absent}");
    let all = batch(n, &["logs", "sweep"]).await;
    assert!(all.err.contains("sweep is an array: name one of its children, such as sweep:0"), "{all:?}");
    assert!(batch(n, &["logs", "sweep:4"]).await.err.contains("sweep:4"));

    let late = batch(n, &["cancel", "sweep:2", "-r", "no need"]).await.ok();
    assert!(late.starts_with("sweep:2 is to be cancelled; what is STARTING or RUNNING goes on"), "{late}");
    let ended = batch(n, &["terminate", "sweep:2", "-r", "enough"]).await.ok();
    assert_eq!(ended, "sweep:2 is to be terminated\n");
    running.dies_when_deleted(143).await;
    let ended = batch(n, &["terminate", "sweep:3-4", "-r", "enough"]).await.ok();
    assert_eq!(ended, "sweep:3-4 are to be terminated\n");
    sweep.reaches(Phase::Failed).await;
    let rows = masked(&batch(n, &["children", "sweep", "--phase", "FAILED", "--no-headers"]).await.ok(), n);
    let reasons: Vec<&str> = rows.lines().filter(|row| row.ends_with(" enough")).collect();
    assert_eq!((rows.lines().count(), reasons.len()), (4, 3), "{rows}");
}
