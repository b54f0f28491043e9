//! Many jobs when the operator starts, and for those who look at them. How long it takes is told, and
//! stands in `docs/reliability.md` and `docs/kubectl-batch.md`; a slow machine fails nothing.

use std::collections::HashSet;
use std::time::Instant;

use batchyard::crd::{BatchJob, JobQueue};
use batchyard_core::job::phase::Phase;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::world::{World, job};
use crate::cli::program::taken;
use crate::support::client::object;
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// As many jobs have ended, and as many wait: 25,000 each in a long run.
fn jobs() -> usize {
    if std::env::var_os("BATCHYARD_LONG").is_some() { 25_000 } else { 500 }
}

/// What any command may hold in memory however many jobs there are, in MiB.
const MEMORY: u64 = 64;

/// What the operator would have stored of a job that succeeded.
fn succeeded(job: &BatchJob) -> Value {
    let time = "2026-01-01T00:00:00Z";
    json!({"status": {
        "phase": "SUCCEEDED", "statusReason": "Essential container in task exited", "jobId": job.uid(),
        "jobDefinition": job.name_any(), "jobQueue": "queue", "observedGeneration": 1, "attempt": 1,
        "createdAt": time, "startedAt": time, "stoppedAt": time,
        "attempts": [{"attempt": 1, "podName": "p", "podUid": job.uid(), "startedAt": time, "stoppedAt": time,
            "statusReason": "Essential container in task exited", "container": {"exitCode": 0}}],
    }})
}

/// And of one that waits.
fn runnable(job: &BatchJob) -> Value {
    let time = "2026-01-01T00:00:00Z";
    json!({"status": {
        "phase": "RUNNABLE", "jobId": job.uid(), "jobDefinition": job.name_any(), "jobQueue": "queue",
        "observedGeneration": 1, "attempt": 1, "createdAt": time, "runnableAt": time,
    }})
}

async fn fill(world: &World, count: usize) {
    let jobs = world.api::<BatchJob>();
    let made = stream::iter(0..2 * count).for_each_concurrent(16, |number| {
        let jobs = jobs.clone();
        async move {
            let name = format!("job-{number:05}");
            let made = serde_json::from_value(object("BatchJob", &name, job(json!({})))).expect("a job");
            let made = jobs.create(&Default::default(), &made).await.expect("a job can be made");
            let status = if number < count { succeeded(&made) } else { runnable(&made) };
            jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await
                .expect("its status");
        }
    });
    made.await;
}

/// More jobs than the operator looks at before one of another namespace has its turn, however many wait: some times
/// those that are under way at once.
const AHEAD: usize = 64;

#[tokio::test]
async fn one_namespaces_many_jobs_do_not_delay_anothers_one() {
    let _exclusive = operator::exclusive().await;
    let crowd = World::without_operator("crowd").await;
    let other = World::without_operator("other").await;
    let first = Operator::start(operator::NAME);
    crowd.furnish().await;
    other.furnish().await;
    first.stop().await;
    let new = |number| serde_json::from_value(object("BatchJob", &format!("job-{number}"), job(json!({}))));
    let made =
        stream::iter(0..jobs()).for_each_concurrent(16, |number| {
            let jobs = crowd.api::<BatchJob>();
            async move {
                drop(jobs.create(&Default::default(), &new(number).expect("a job")).await.expect("a job"))
            }
        });
    made.await;

    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    let begun = Instant::now();
    let alone = other.api::<BatchJob>().create(&Default::default(), &new(0).expect("a job")).await;
    let before = crowd_before(&crowd, &other, &alone.expect("a job")).await;
    let accepted = begun.elapsed();
    other.job("job-0").pod(1).await;
    let served = begun.elapsed();
    let unseen = crowd.api::<BatchJob>().list(&ListParams::default()).await.expect("a list");
    let unseen = unseen.iter().filter(|job| job.status.is_none()).count();
    println!(
        "of {} jobs of another namespace {before} came first: accepted after {accepted:.1?}, and with a pod after \
         {served:.1?}, when {unseen} had not been looked at",
        jobs()
    );
    assert!(before <= AHEAD, "{before} jobs of another namespace came first");
    assert!(unseen > 0, "the crowd was gone already: this says nothing");
    operator.stop().await;
}

/// How many jobs of the crowd were looked at from when the job was made until it was accepted.
async fn crowd_before(crowd: &World, other: &World, alone: &BatchJob) -> usize {
    let jobs: Api<BatchJob> = Api::all(crowd.user.clone());
    let since = alone.resource_version().expect("the API server sets it");
    let params = WatchParams::default().timeout(290);
    let mut events = jobs.watch(&params, &since).await.expect("a watch").boxed();
    let mut looked_at = HashSet::new();
    while let Some(event) = events.try_next().await.expect("the watch goes on") {
        let WatchEvent::Modified(job) = event else { continue };
        let namespace = job.namespace();
        if namespace.as_ref() == Some(&other.namespace) && job.status.is_some() {
            return looked_at.len();
        }
        if namespace.as_ref() == Some(&crowd.namespace) && job.status.is_some() {
            looked_at.insert(job.name_any());
        }
    }
    panic!("the job of the other namespace was not accepted")
}

#[tokio::test]
async fn many_jobs_at_the_start_are_no_burden() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("many").await;
    let first = Operator::start(operator::NAME);
    world.furnish().await;
    world.node("quick", "quick", 4).await;
    world.environment("quick", json!({})).await;
    let quick = json!([{"order": 1, "computeEnvironment": "quick"}]);
    world.queue("quick", json!({"computeEnvironmentOrder": quick})).await;
    world.ready::<JobQueue>("quick").await;
    first.stop().await;
    let begun = Instant::now();
    fill(&world, jobs()).await;
    let filled = begun.elapsed();

    let begun = Instant::now();
    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    let ready = begun.elapsed();
    let job = world.submit("quick", job(json!({"jobQueue": "quick"}))).await;
    let pod = job.pod(1).await;
    let served = begun.elapsed();
    println!(
        "{} jobs ended and {} waiting (made in {filled:.1?}): ready after {ready:.1?}, a new job has its pod after {served:.1?}",
        jobs(),
        jobs()
    );
    pod.bind_to(&format!("{}-quick", world.namespace)).await;
    pod.starts().await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    look(&world).await;
    operator.stop().await;
}

/// What people ask, with that many jobs in the namespace.
async fn look(world: &World) {
    let all = 2 * jobs() + 1;
    // With a heading.
    for (line, lines) in [
        (&["list"][..], all + 1),
        (&["list", "--limit", "20"], 21),
        (&["list", "--status", "SUCCEEDED", "--queue", "queue"], jobs() + 1),
        (&["list", "-o", "name"], all),
    ] {
        let taken = taken(&world.namespace, line).await;
        println!("kubectl batch {}: {taken:.1?}", line.join(" "));
        assert_eq!(taken.lines, lines, "{line:?}");
        assert!(taken.memory <= MEMORY, "{line:?}: {taken:?}");
    }
    let last = format!("job-{:05}", 2 * jobs() - 1);
    for line in [
        &["list", "-o", "json"][..],
        &["list", "-o", "yaml"],
        &["why", &last],
        &["describe", &last],
        &["queues"],
        &["environments"],
        &["top"],
    ] {
        let taken = taken(&world.namespace, line).await;
        println!("kubectl batch {}: {taken:.1?}", line.join(" "));
        assert!(taken.lines > 0 && taken.memory <= MEMORY, "{line:?}: {taken:?}");
    }
}

/// How many vCPUs the jobs of a round may use.
const ROOM: usize = 8;
/// How many they would.
const WANTED: usize = 12;

/// The operator is killed while it places jobs. The next one finds in use what there are pods for, and places as many
/// as there is room for, not one more: five times, a hundred in a long run.
#[tokio::test]
async fn killed_while_it_places_jobs_it_knows_what_is_in_use() {
    let rounds = if std::env::var_os("BATCHYARD_LONG").is_some() { 100 } else { 5 };
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("midcycle").await;
    let mut leader = Operator::start(operator::NAME);
    world.furnish().await;
    world.node("wide", "pool", 2 * ROOM as u32).await;
    world.changed_environment("pool", json!({"computeResources": {"maxvCpus": ROOM}})).await;
    let (jobs, pods) = (world.api::<BatchJob>(), world.api::<Pod>());
    for round in 0..rounds {
        let submit = |number| {
            let world = &world;
            async move { drop(world.submit(&format!("round-{round}-{number}"), job(json!({}))).await) }
        };
        stream::iter(0..WANTED).for_each_concurrent(WANTED, submit).await;
        // Each time after another pod.
        wait::answer("pods in the making", &world.namespace, || async {
            (world.pods().await.len() > round % ROOM).then_some(())
        })
        .await;
        leader.kill();
        leader = Operator::start(operator::NAME);
        wait::answer("as many pods as there is room for", &world.namespace, || async {
            let pods = world.pods().await.len();
            assert!(pods <= ROOM, "round {round}: {pods} pods");
            let environment = world.environments().get(&world.environment_name("pool")).await.ok()?;
            let in_use = environment.status?.vcpus_in_use;
            let phases = jobs.list(&ListParams::default()).await.ok()?;
            let accepted = phases.iter().all(|job| {
                job.status.as_ref().is_some_and(|status| status.record.phase() == Phase::Runnable)
            });
            (pods == ROOM && accepted && in_use == Some(ROOM as i32)).then_some(())
        })
        .await;
        jobs.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .expect("jobs can be deleted");
        wait::answer("the end of all pods", &world.namespace, || async {
            let left = pods.list_metadata(&ListParams::default()).await.ok()?;
            left.items.is_empty().then_some(())
        })
        .await;
    }
    leader.stop().await;
}
