//! `list`, `queues`, `environments`, `definitions`.

use batchyard::crd::{JobDefinition, JobQueue};
use batchyard_core::job::phase::Phase;
use serde_json::json;

use super::program::{batch, masked, offered, on_terminal};
use crate::operator::world::{World, job};
use crate::support::wait;

#[tokio::test]
async fn jobs_of_every_phase_are_listed_and_chosen_by_the_api_server() {
    let world = World::with_queue("cli-list").await;
    let ended = world.submit("ended", job(json!({}))).await;
    ended.run(3).await;
    ended.reaches(Phase::Failed).await;
    world.submit("waits", job(json!({"jobQueue": "nowhere"}))).await.reaches(Phase::Submitted).await;
    let n = world.namespace.as_str();
    let all = batch(n, &["list"]).await.ok();
    assert_eq!(
        masked(&all, n),
        "NAME PHASE QUEUE ATTEMPT AGE REASON\n\
         ended FAILED queue 1 AGE Essential container in task exited\n\
         waits SUBMITTED nowhere - AGE Waiting for JobQueue nowhere, which does not exist\n"
    );
    let names = |said: String| said.lines().map(str::to_owned).collect::<Vec<_>>();
    for (chosen, expected) in [
        (vec!["--status", "FAILED,SUCCEEDED"], "ended"),
        (vec!["--active"], "waits"),
        (vec!["--queue", "queue"], "ended"),
        (vec!["-l", "app=x"], ""),
    ] {
        let said = batch(n, &[&["list", "-o", "name"], chosen.as_slice()].concat()).await.ok();
        let expected: Vec<_> = Some(format!("batchjob.batchyard.io/{expected}"))
            .into_iter()
            .filter(|_| !expected.is_empty())
            .collect();
        assert_eq!(names(said), expected, "{chosen:?}");
    }
    let one = batch(n, &["list", "--limit", "1", "--no-headers"]).await.ok();
    assert_eq!(one.lines().count(), 1, "{one}");
    let phases = batch(n, &["list", "-o", "jsonpath={.items[*].status.phase}"]).await.ok();
    assert_eq!(phases, "FAILED SUBMITTED\n");
    let wide = batch(n, &["list", "-o", "wide"]).await.ok();
    assert!(wide.contains("DEFINITION") && wide.contains(&format!("{n}-node")), "{wide}");
    let nothing = batch("default", &["list", "-q", "no-such-queue"]).await;
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""), "{nothing:?}");
    assert!(nothing.err.contains("No jobs found in namespace default."));
    assert_eq!(offered(n, &["describe", ""]).await.last().map(String::as_str), Some(":4"));
    assert_eq!(offered(n, &["describe", "e"]).await, ["ended", ":4"]);
    assert_eq!(offered(n, &["list", "--queue", "q"]).await, ["queue", ":4"]);
    assert_eq!(offered(n, &["-n", &n[..n.len() - 1]]).await, [n, ":4"]);
    // A terminal sees colours, and nothing beyond its width.
    let seen = on_terminal(n, "list").await.ok();
    assert!(seen.contains("\u{1b}[31mFAILED\u{1b}[0m"), "{seen:?}");
}

#[tokio::test]
async fn queues_and_environments_show_what_is_in_them() {
    let world = World::with_queue("cli-queues").await;
    let n = world.namespace.as_str();
    let done = world.submit("done", job(json!({}))).await;
    done.run(0).await;
    done.reaches(Phase::Succeeded).await;
    wait::until(&world.api::<JobQueue>(), "queue", "its count", |queue| {
        let counts = queue.status.as_ref().and_then(|status| status.jobs.as_ref());
        counts.is_some_and(|counts| counts.succeeded == Some(1) && counts.running.unwrap_or(0) == 0)
    })
    .await;
    let queues = batch(n, &["queues"]).await.ok();
    assert_eq!(
        masked(&queues, n),
        "NAME STATE STATUS PRIORITY WAITING RUNNING SUCCEEDED FAILED VCPUS REASON\n\
         queue ENABLED VALID 1 0 0 1 0 0 JobQueue Healthy\n"
    );
    let environment = batch(n, &["environments", &format!("{n}.pool")]).await.ok();
    assert!(masked(&environment, n).contains("NAMESPACE.pool EC2 ENABLED VALID 1"), "{environment}");
    let largest = batch(n, &["ce", &format!("{n}.pool"), "-o", "wide"]).await.ok();
    assert!(largest.contains("LARGEST JOB") && largest.contains("4 vCPUs"), "{largest}");
    let missing = batch(n, &["queues", "other"]).await.fails(3);
    assert!(missing.contains("no queue other in namespace"), "{missing}");
}

#[tokio::test]
async fn revisions_are_listed_compared_and_taken_out_of_use() {
    let world = World::empty("cli-definitions").await;
    let n = world.namespace.as_str();
    let definitions = world.api::<JobDefinition>();
    let latest = |number| {
        wait::until(&definitions, "render", "its revision", move |definition| {
            definition.status.as_ref().is_some_and(|status| status.latest_active == Some(number))
        })
    };
    world.definition("render", json!({})).await;
    latest(1).await;
    world.definition("render", json!({"containerProperties": {"memory": 128}})).await;
    latest(2).await;
    assert_eq!(
        masked(&batch(n, &["definitions"]).await.ok(), n),
        "NAME STATUS ACTIVE REVISIONS TYPE AGE\nrender ACTIVE 2 2 container AGE\n"
    );
    let difference = batch(n, &["definitions", "render", "--diff", "1,2"]).await.ok();
    assert_eq!(difference, "- containerProperties.memory: 64\n+ containerProperties.memory: 128\n");
    assert_eq!(batch(n, &["deregister", "render:2"]).await.ok(), "render:2 is to be INACTIVE\n");
    latest(1).await;
    // Since when is written on the revision first, and told by the definition after that.
    wait::until(&definitions, "render", "since when it is INACTIVE", |definition| {
        let revisions = definition.status.as_ref().map(|status| status.revisions.as_slice());
        revisions.unwrap_or_default().iter().any(|revision| revision.inactive_since.is_some())
    })
    .await;
    let revisions = batch(n, &["definitions", "render"]).await.ok();
    assert!(masked(&revisions, n).contains("render:2 INACTIVE TIME (AGE ago)"), "{revisions}");
    assert!(batch(n, &["deregister", "render:7"]).await.fails(3).contains("no revision 7"));
    assert!(batch(n, &["deregister", "render"]).await.fails(2).contains("lacks its revision"));
    assert!(batch(n, &["definitions", "render", "--diff", "1,9"]).await.fails(3).contains("no revision 9"));
}
