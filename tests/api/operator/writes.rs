//! How many writes a job costs, counted in the API server's audit log.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process;

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::kubelet::PodHandle;
use super::world::{SETTLES, World, job};
use crate::support::audit::{self, Mark, Write};
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// Writes for one job on an idle cluster, from its creation to the removal of the pod's finalizer.
const IDLE: usize = 11;
/// Writes per job under load, where steps of progress fall together.
const LOAD: usize = 9;
/// Jobs that make a load.
const JOBS: usize = 50;

/// Writes about the jobs that are counted and their pods. Events are told apart, and so is what a queue or an
/// environment says of itself, since that does not grow with the number of jobs.
fn about_jobs(writes: &[Write]) -> Vec<Write> {
    let of_a_job = |write: &&Write| {
        let is_of_jobs = write.resource.starts_with("batchjobs") || write.resource.starts_with("pods");
        is_of_jobs && !write.name.starts_with(SETTLES)
    };
    writes.iter().filter(of_a_job).cloned().collect()
}

/// Prints the tables and returns the writes about jobs.
fn report(title: &str, mark: &Mark, world: &World, jobs: usize) -> Vec<Write> {
    let all = mark.writes(&world.namespace);
    let counted = about_jobs(&all);
    let others: Vec<Write> = all.into_iter().filter(|write| !counted.contains(write)).collect();
    println!("{}", audit::table(title, &counted, jobs));
    println!("{}", audit::table("beside these (events, queue, definition)", &others, jobs));
    counted
}

/// The audit log, or a plain word that nothing is counted.
fn mark() -> Option<Mark> {
    let mark = audit::mark();
    if mark.is_none() {
        println!("SKIPPED: this cluster has no audit log that can be read, so nothing is counted");
    }
    mark
}

#[tokio::test]
async fn one_job_on_an_idle_cluster() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("writes-idle").await;
    let operator = Operator::start(operator::NAME);
    world.furnish().await;
    world.settle().await;
    let Some(mark) = mark() else { return };
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    job.reaches(Phase::Runnable).await;
    pod.bind().await;
    pod.pulls().await;
    job.reaches(Phase::Starting).await;
    pod.starts().await;
    job.reaches(Phase::Running).await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
    let writes = report("writes for one job on an idle cluster", &mark, &world, 1);
    let failed: Vec<_> = writes.iter().filter(|write| !write.is_done()).collect();
    assert!(failed.is_empty(), "refused: {failed:?}");
    assert!(writes.len() <= IDLE, "{} writes, {IDLE} are allowed", writes.len());
    operator.stop().await;
}

#[test]
fn what_was_asked_for_before_is_not_counted() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("audit-{}.jsonl", process::id()));
    let mut log = File::create(&path).expect("a file");
    let before = Timestamp::now();
    let mark = Mark::at_the_end_of(path.clone()).expect("it is there");
    for (name, received) in [("before", before), ("after", Timestamp::now())] {
        let event = json!({
            "verb": "create", "stage": "ResponseComplete", "requestReceivedTimestamp": received,
            "user": {"username": "u"}, "objectRef": {"namespace": "n", "resource": "pods", "name": name},
        });
        writeln!(log, "{event}").expect("a file takes a line");
    }
    let names: Vec<_> = mark.writes("n").into_iter().map(|write| write.name).collect();
    fs::remove_file(path).expect("it is there");
    assert_eq!(names, ["after"]);
}

async fn submit(world: &World, number: usize) {
    world.submit(&format!("job-{number}"), job(json!({}))).await;
}

#[tokio::test]
async fn many_jobs_at_once() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("writes-load").await;
    // A machine that is busy with other things takes long for each step; only what is slow is written.
    let patient = ["--busy-progress-seconds", "3600"];
    let operator = Operator::start_told(operator::NAME, "60", &patient);
    world.furnish().await;
    let large = world.node("large", "pool", JOBS as u32).await;
    world.settle().await;
    let Some(mark) = mark() else { return };
    join_all((0..JOBS).map(|number| submit(&world, number))).await;
    let pods = wait::answer("a pod for each job", &world.namespace, || async {
        let pods = world.pods().await;
        (pods.len() == JOBS).then_some(pods)
    })
    .await;
    // Short jobs, as many at a time as a node may start: nobody waits for the operator here.
    stream::iter(&pods)
        .for_each_concurrent(4, |pod| {
            let pod = PodHandle { world: &world, name: pod.name_any() };
            let large = &large;
            async move {
                pod.bind_to(large).await;
                pod.pulls().await;
                pod.starts().await;
                pod.exits(0).await;
            }
        })
        .await;
    wait::answer("the end of each job", &world.namespace, || async {
        let ended =
            |job: &BatchJob| job.status.as_ref().is_some_and(|s| s.record.phase() == Phase::Succeeded);
        let jobs = world.api::<BatchJob>().list(&ListParams::default()).await.ok()?.items;
        let held = world.pods().await.iter().any(|pod| !pod.finalizers().is_empty());
        (jobs.len() == JOBS && jobs.iter().all(ended) && !held).then_some(())
    })
    .await;
    let writes = report(&format!("writes for {JOBS} jobs at once"), &mark, &world, JOBS);
    assert!(writes.len() <= LOAD * JOBS, "{} writes for {JOBS} jobs, {LOAD} each are allowed", writes.len());
    operator.stop().await;
}
