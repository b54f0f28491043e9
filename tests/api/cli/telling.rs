//! `describe`, `why`, `events`, `watch`, and what needs no cluster.

use batchyard::crd::JobQueue;
use batchyard_core::job::phase::Phase;
use serde_json::json;

use super::program::{batch, begin, masked, on_terminal, said};
use crate::operator::world::{World, job, merge};
use crate::support::{operator, wait};

#[tokio::test]
async fn a_page_tells_each_attempt_and_the_rule_that_decided() {
    let world = World::with_queue("cli-describe").await;
    let n = world.namespace.as_str();
    let rules = json!({"attempts": 3, "evaluateOnExit": [{"onExitCode": "3", "action": "EXIT"}]});
    let failing = world.submit("failing", job(json!({"retryStrategy": rules}))).await;
    failing.attempt(1, 1).await;
    failing.attempt(2, 3).await;
    failing.reaches(Phase::Failed).await;
    let page = masked(&batch(n, &["describe", "failing"]).await.ok(), n);
    for part in [
        "Name: failing\nNamespace: NAMESPACE\nId: ID\nQueue: queue\nDefinition: failing\nPhase: FAILED\n\
         Reason: Essential container in task exited\n The job's container ran",
        "Attempts\n  ATTEMPT EXIT STARTED RAN NODE REASON\n  1 1 TIME AGE NAMESPACE-node (i-NAMESPACE-node) Essential container in task exited\n  2 3 ",
        "Retry rules that decided\n  after attempt 1: no entry matched -> RETRY (tried again)\n  \
         after attempt 2: evaluateOnExit[0]: onExitCode \"3\" -> EXIT (the end)\n",
        "\nEvents\n  LAST SEEN TYPE REASON OBJECT MESSAGE\n",
    ] {
        let part = part.replace("\n The", "\n                   The");
        assert!(page.contains(&part), "{part:?} is not in\n{page}");
    }
    // By the beginning of its id, as an object.
    let id = failing.record().await.job_id.expect("an id");
    let phase = batch(n, &["describe", &id[..8], "-o", "jsonpath={.status.phase}"]).await.ok();
    assert_eq!(phase, "FAILED\n");
    let events = batch(n, &["events", "failing"]).await.ok();
    assert!(events.contains("batchjob/failing"), "{events}");
    let why = batch(n, &["why", "failing"]).await.ok();
    assert!(why.starts_with("failing is FAILED\n  Essential container in task exited\n"), "{why}");
    assert!(why.contains("The retry rule that decided last: evaluateOnExit[0]"), "{why}");
}

#[tokio::test]
async fn why_tells_what_a_job_waits_behind() {
    let world = World::with_queue("cli-why").await;
    let n = world.namespace.as_str();
    let first = world.submit("first", job(json!({"containerProperties": {"vcpus": 3}}))).await;
    first.pod(1).await.bind().await;
    let head = world.submit("head", job(json!({"containerProperties": {"vcpus": 3}}))).await;
    head.waits(Phase::Runnable, "vCPUs").await;
    world.next_second(&head).await;
    let last = world.submit("last", job(json!({"containerProperties": {"vcpus": 3}}))).await;
    last.waits(Phase::Runnable, "behind the head").await;
    let queue = wait::until(&world.api::<JobQueue>(), "queue", "both at its front", |queue| {
        queue.status.as_ref().is_some_and(|status| status.front.len() == 2)
    })
    .await;
    let front: Vec<_> =
        queue.status.iter().flat_map(|status| &status.front).map(|next| next.name.as_str()).collect();
    assert_eq!(front, ["head", "last"]);
    let why = masked(&batch(n, &["why", "last"]).await.ok(), n);
    for part in [
        "last is RUNNABLE for AGE\n  Waiting behind the head of JobQueue queue\n",
        "An older job of the queue has no room yet",
        "\nQueue queue: ENABLED, priority 1, ",
        "  It was number 2 in line, AGE ago\n  (told by the queue's status: the chart's view is not enabled)\n",
        "Environment NAMESPACE.pool: VALID, 1 nodes, 3 of 64 vCPUs in use\n",
        "  Would have to end there: first (3 vCPUs, for AGE), and first those that are ahead\n",
    ] {
        assert!(why.contains(part), "{part:?} is not in\n{why}");
    }
}

#[tokio::test]
async fn what_a_job_depends_on_is_told_with_how_it_stands() {
    let world = World::with_queue("cli-depends").await;
    let n = world.namespace.as_str();
    let line = ["run", "busybox", "-q", "queue", "--name", "last", "--depends-on", "first", "--depends-on"];
    batch(n, &[&line[..], &["later", "--dependency-timeout", "9999"]].concat()).await.ok();
    world.submit("first", job(json!({"containerProperties": {"vcpus": 8}}))).await;
    world.job("first").waits(Phase::Runnable, "larger node").await;
    let text = "Waiting for BatchJob later, which does not exist; for BatchJob first to succeed";
    world.job("last").waits(Phase::Pending, text).await;
    let why = batch(n, &["why", "last"]).await.ok();
    for part in [
        "last is PENDING\n  Waiting for BatchJob later",
        "\nDepends on first: has not ended; it is RUNNABLE: Waiting for a larger node in ComputeEnvironment",
        "\nDepends on later: not there yet\n",
    ] {
        assert!(why.contains(part), "{part:?} is not in\n{why}");
    }
    let page = masked(&batch(n, &["describe", "last"]).await.ok(), n);
    let table = "Depends on\n  JOB TYPE STANDS\n  first - has not ended\n  later - not there yet\n";
    assert!(page.contains(table), "{page}");
    batch(n, &["terminate", "first", "--reason", "enough"]).await.ok();
    world.job("last").reaches(Phase::Failed).await;
    let why = batch(n, &["why", "last"]).await.ok();
    assert!(why.contains("last is FAILED\n  Dependent Job failed: BatchJob first failed\n"), "{why}");
}

/// Nobody is there who would act: what is asked for is stored, and every answer says what is known.
#[tokio::test]
async fn without_an_operator_commands_tell_what_the_objects_tell() {
    let _alone = operator::exclusive().await;
    let world = World::without_operator("cli-alone").await;
    world.environment("pool", json!({})).await;
    world.queue("queue", json!({})).await;
    let n = world.namespace.as_str();
    let submitted = batch(n, &["run", "busybox", "-q", "queue", "--name", "early", "--", "true"]).await.ok();
    assert_eq!(masked(&submitted, n), "early is submitted to queue (id ID)\n");
    assert_eq!(
        masked(&batch(n, &["list"]).await.ok(), n),
        "NAME PHASE QUEUE ATTEMPT AGE REASON\nearly SUBMITTED queue - AGE -\n"
    );
    assert_eq!(batch(n, &["list", "--status", "RUNNABLE,FAILED"]).await.ok(), "", "it is SUBMITTED");
    assert!(batch(n, &["list", "--status", "SUBMITTED"]).await.ok().contains("early"));
    let why = batch(n, &["why", "early"]).await.ok();
    let part =
        "The operator has not seen it yet. If that lasts, it is down: kubectl get pods -n batchyard-system";
    assert!(why.starts_with("early is SUBMITTED\n") && why.contains(part), "{why}");
    let page = masked(&batch(n, &["describe", "early"]).await.ok(), n);
    assert!(page.contains("Name: early") && page.contains("Phase: SUBMITTED"), "{page}");
    assert!(batch(n, &["logs", "early"]).await.fails(3).contains("early has not started"));
    assert!(masked(&batch(n, &["queues"]).await.ok(), n).contains("queue ENABLED "));
    let ordered = batch(n, &["terminate", "early", "--reason", "no need"]).await.ok();
    assert_eq!(ordered, "early is to be terminated\n");
    assert_eq!(world.job("early").get().await.spec.terminate.as_deref(), Some("no need"));
    // Whoever comes back does as it was told.
    let leader = operator::Operator::start(operator::NAME);
    leader.leads().await;
    let ended = world.job("early").reaches(Phase::Failed).await;
    assert_eq!((ended.status_reason.as_deref(), ended.attempts.len()), (Some("no need"), 0));
    leader.stop().await;
}

#[tokio::test]
async fn top_sums_up_queues_and_shares() {
    let world = World::with_queue("cli-top").await;
    let n = world.namespace.as_str();
    assert!(batch(n, &["top"]).await.ok().is_empty());
    for (name, share) in [("a", json!("teamA")), ("b", json!("teamA")), ("c", json!(null))] {
        let mut spec = job(json!({"containerProperties": {"vcpus": 1, "memory": 128}}));
        merge(&mut spec, json!({"shareIdentifier": share}));
        world.submit(name, spec).await.pod(1).await.bind().await;
    }
    assert_eq!(
        masked(&batch(n, &["top"]).await.ok(), n),
        "QUEUE SHARE JOBS VCPUS MEMORY GPUS CPU USED MEMORY USED\n\
         queue - 1 1 128Mi 0 - -\n\
         queue teamA 2 2 256Mi 0 - -\n"
    );
}

#[tokio::test]
async fn watch_follows_a_job_to_its_end_and_ends_as_it_does() {
    let world = World::with_queue("cli-watch").await;
    let n = world.namespace.as_str();
    let watched = world.submit("watched", job(json!({}))).await;
    let lines = begin(n, &["watch", "watched"]);
    watched.run(7).await;
    watched.reaches(Phase::Failed).await;
    let lines = said(lines).await;
    assert_eq!(lines.code, Some(7), "{lines:?}");
    let told: Vec<_> = lines.out.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert!(told.ends_with(&["FAILED"]) && told.contains(&"RUNNING"), "{}", lines.out);
    assert!(!lines.out.contains('\u{1b}'), "no colours without a terminal");
    // It has ended long ago: the same answer, once.
    let table = on_terminal(n, "watch watched").await;
    assert_eq!(table.code, Some(7), "{table:?}");
    assert!(table.out.contains("NAME") && table.out.contains("FAILED"), "{table:?}");
    world.submit("deleted", job(json!({"jobQueue": "nowhere"}))).await.reaches(Phase::Submitted).await;
    let gone = begin(n, &["watch", "deleted"]);
    world
        .api::<batchyard::crd::BatchJob>()
        .delete("deleted", &kube::api::DeleteParams::default())
        .await
        .expect("a job can be deleted");
    assert!(said(gone).await.fails(3).contains("deleted"));
}

/// The example of the first post, by file; and texts.
#[tokio::test]
async fn rules_and_reasons_are_explained_without_a_cluster() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/retry/job-definitions.yaml");
    let nowhere = ["--kubeconfig", "/nonexistent", "test-retry", file];
    let usual = batch("default", &nowhere).await.ok();
    for part in
        ["up to 5 attempts", "no such image", "the host is lost", "onStatusReason \"Host EC2*\" -> RETRY"]
    {
        assert!(usual.contains(part), "{part:?} is not in\n{usual}");
    }
    let lost = [&nowhere[..], &["--status-reason", "Host EC2 (instance i-1) terminated."]].concat();
    assert!(batch("default", &lost).await.ok().contains("RETRY: attempt 2 of 5 follows"));
    let last = [&lost[..], &["--attempt", "5"]].concat();
    assert!(
        batch("default", &last).await.ok().contains("EXIT: the job is FAILED\n  attempts exhausted (5 of 5)")
    );
    let explained = batch("default", &["explain-reason", "CannotPullContainerError: not found"]).await.ok();
    assert!(
        explained.starts_with("CannotPullContainerError: …\n\n  What it says   The image could not be had."),
        "{explained}"
    );
    assert!(
        batch("default", &["explain-reason", "gibberish"]).await.fails(3).contains("nothing is known of")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(batch("default", &["completion", shell]).await.ok().contains("explain-reason"));
    }
    let linted = batch("default", &["lint", file]).await.ok();
    assert_eq!(linted.matches(": ok\n").count() + linted.matches(": warning: ").count(), 3, "{linted}");
    assert!(batch("default", &["lint", "/nonexistent"]).await.fails(3).contains("/nonexistent"));
    assert!(batch("default", &["man"]).await.ok().starts_with(".ie"));
}
