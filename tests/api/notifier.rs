//! The notifier beside the operator: rules from the API server, jobs that go through their phases, sinks on loopback.

use std::collections::BTreeSet;

use batchyard::crd::{BatchJob, JobQueue, NotificationRule, NotificationRuleStatus};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::operator::world::{JobHandle, World, is_condition, job, merge};
use crate::support::client::apply;
use crate::support::mail::Server;
use crate::support::notifier::{Notifier, alone};
use crate::support::receiver::Receiver;
use crate::support::roles::Servant;
use crate::support::{audit, wait};

/// All phases that can be told.
const ALL: [&str; 6] = ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"];

/// Applies a rule for everything, with more or other members.
async fn rule(world: &World, name: &str, url: &str, more: Value) -> NotificationRule {
    let mut spec = json!({"phases": ALL, "http": {"url": url}});
    merge(&mut spec, more);
    world.apply(name, spec).await
}

/// Waits until a rule's status is like this.
async fn until(
    world: &World,
    name: &str,
    what: &str,
    done: impl Fn(&batchyard::crd::NotificationRuleStatus) -> bool,
) -> NotificationRule {
    wait::until(&world.api::<NotificationRule>(), name, what, |rule| rule.status.as_ref().is_some_and(&done))
        .await
}

/// The ids of these moments of a job.
async fn ids(job: &JobHandle<'_>, moments: &[&str]) -> BTreeSet<String> {
    let uid = job.get().await.uid().expect("the API server gives it one");
    moments.iter().map(|moment| format!("{uid}/{moment}")).collect()
}

const ONE_ATTEMPT: [&str; 3] = ["1/RUNNABLE", "1/STARTING", "1/RUNNING"];

/// What a job of one attempt has been through.
async fn life(job: &JobHandle<'_>, end: &str) -> BTreeSet<String> {
    ids(job, &[&ONE_ATTEMPT[..], &[end]].concat()).await
}

fn set(ids: Vec<String>) -> BTreeSet<String> {
    ids.into_iter().collect()
}

#[tokio::test]
async fn each_rule_gets_what_it_asks_for_and_a_dead_sink_holds_up_nobody() {
    let _alone = alone().await;
    let world = World::with_queue("notify").await;
    let (all, failed) = (Receiver::plain().await, Receiver::plain().await);
    let notifier = Notifier::start().await;
    rule(&world, "dead", "http://127.0.0.1:1/", json!({})).await;
    rule(&world, "forbidden", "http://169.254.169.254/latest/", json!({})).await;
    rule(&world, "off", &all.url("/off"), json!({"state": "DISABLED"})).await;
    rule(&world, "elsewhere", &all.url("/elsewhere"), json!({"queues": ["other-*"]})).await;
    rule(&world, "all", &all.url("/all"), json!({})).await;
    let only = json!({"phases": ["FAILED"], "queues": ["que*"], "jobNames": ["b*"]});
    rule(&world, "failed", &failed.url("/failed"), only).await;
    for name in ["all", "failed", "off"] {
        wait::until(&world.api::<NotificationRule>(), name, "condition Ready", |rule| {
            is_condition(&serde_json::to_value(rule).expect("plain data"), "Ready")
        })
        .await;
    }
    let good = world.submit("good", job(json!({}))).await;
    let retry = json!({"retryStrategy": {"attempts": 2}, "parameters": {"password": "sesame"}});
    let bad = world.submit("bad", job(retry)).await;
    let (another, after) = (json!({"dependsOn": [{"job": "good"}]}), "after");
    let dependent = world.submit(after, job(another)).await;
    dependent.reaches(Phase::Pending).await;
    good.run(0).await;
    bad.attempt(1, 1).await;
    bad.attempt(2, 1).await;
    bad.until("its end", |record| record.phase() == Phase::Failed).await;
    dependent.run(0).await;

    let mut want = life(&good, "1/SUCCEEDED").await;
    want.extend(ids(&dependent, &["0/PENDING"]).await);
    want.extend(life(&dependent, "1/SUCCEEDED").await);
    want.extend(ids(&bad, &ONE_ATTEMPT).await);
    want.extend(ids(&bad, &["2/RUNNABLE", "2/STARTING", "2/RUNNING", "2/FAILED"]).await);
    let received = all.until("all of it", |received| received.len() >= want.len()).await;
    assert_eq!(set(all.taken()), want);
    assert_eq!(all.taken().len(), want.len(), "each once");
    assert!(received.iter().all(|one| one.path == "/all"), "nothing of rules that want nothing of it");
    assert!(received.iter().all(|one| !String::from_utf8_lossy(&one.body).contains("sesame")));
    let of_bad = failed.until("the failure", |received| !received.is_empty()).await;
    let event = of_bad[0].event();
    assert_eq!(
        (of_bad.len(), &event["data"]["status"], &event["data"]["jobName"]),
        (1, &json!("FAILED"), &json!("bad"))
    );
    assert_eq!(event["data"]["attempts"].as_array().map(Vec::len), Some(2));

    let count = i64::try_from(want.len()).expect("a few");
    until(&world, "all", "what was delivered", |s| s.delivered == Some(count) && s.dropped == Some(0)).await;
    for (name, says) in
        [("dead", "127.0.0.1 cannot be reached"), ("forbidden", "169.254.169.254 is a metadata service")]
    {
        let rule = until(&world, name, "failures", |status| status.failures.is_some_and(|n| n > 0)).await;
        let status = serde_json::to_value(rule.status).expect("plain data");
        let ready = &status["conditions"][0];
        assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")), "{name}");
        assert!(ready["message"].as_str().is_some_and(|text| text.contains(says)), "{ready}");
    }
    notifier.stop().await;
}

/// While the sink is down the notifier is killed, and another job comes and goes while there is none: all of it is told
/// when both are back, and nothing again after an end in order.
#[tokio::test]
async fn a_restart_loses_nothing() {
    let _alone = alone().await;
    let world = World::with_queue("notify-restart").await;
    let mut receiver = Receiver::plain().await;
    let notifier = Notifier::start().await;
    let before = world.submit("before-the-rule", job(json!({}))).await;
    before.run(0).await;
    rule(&world, "all", &receiver.url("/"), json!({"jobNames": ["job-*"]})).await;
    until(&world, "all", "a look at it", |status| status.observed_generation == Some(1)).await;
    let first = world.submit("job-1", job(json!({}))).await;
    let pod = first.pod(1).await;
    receiver.until("its first events", |received| !received.is_empty()).await;
    receiver.down().await;
    pod.bind().await;
    pod.starts().await;
    first.reaches(Phase::Running).await;
    until(&world, "all", "failures", |status| status.failures.is_some_and(|n| n > 0)).await;
    notifier.kill();
    pod.exits(0).await;
    first.reaches(Phase::Succeeded).await;
    let second = world.submit("job-2", job(json!({}))).await;
    second.run(1).await;

    receiver.up().await;
    let notifier = Notifier::start().await;
    let want: BTreeSet<String> =
        life(&first, "1/SUCCEEDED").await.into_iter().chain(life(&second, "1/FAILED").await).collect();
    receiver
        .until("all of both", |received| received.iter().map(|r| r.id()).collect::<BTreeSet<_>>() == want)
        .await;
    until(&world, "all", "nothing that waits", |status| status.waiting == Some(0)).await;
    notifier.stop().await;

    let told = receiver.taken().len();
    let notifier = Notifier::start().await;
    let third = world.submit("job-3", job(json!({}))).await;
    third.run(0).await;
    let life = life(&third, "1/SUCCEEDED").await;
    receiver
        .until("the third", |received| life.iter().all(|id| received.iter().any(|one| one.id() == *id)))
        .await;
    assert_eq!(set(receiver.taken().split_off(told)), life, "nothing is told again after an end in order");
    notifier.stop().await;
}

#[tokio::test]
async fn a_secret_that_comes_late_and_a_url_that_is_mended() {
    let _alone = alone().await;
    let world = World::with_queue("notify-secret").await;
    Servant::Notifier.installed_in(&world.user, &world.namespace).await;
    let receiver = Receiver::tls().await;
    let notifier = Notifier::start().await;
    let header = json!([{"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}}]);
    let http = json!({"http": {"caBundle": receiver.authority(), "headers": header}});
    rule(&world, "rule", "https://localhost:1/", http.clone()).await;
    until(&world, "rule", "a look at it", |status| status.observed_generation == Some(1)).await;
    let submitted = world.submit("job", job(json!({}))).await;
    submitted.reaches(Phase::Runnable).await;
    let says = |text: &'static str| {
        move |s: &NotificationRuleStatus| s.last_failure.as_deref().is_some_and(|why| why.contains(text))
    };
    until(&world, "rule", "the missing Secret", says("Secret hook with the key token does not exist")).await;
    let secret = json!({"metadata": {"name": "hook"}, "stringData": {"token": "Bearer sesame"}});
    apply(&world.api::<Secret>(), &secret).await;
    until(&world, "rule", "the wrong port", says("localhost cannot be reached")).await;
    rule(&world, "rule", &receiver.url("/"), http).await;
    let received = receiver.until("the event", |received| !received.is_empty()).await;
    assert_eq!(received[0].headers["authorization"], "Bearer sesame");
    let rule = until(&world, "rule", "that it is well", |status| {
        status.delivered == Some(1)
            && status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    })
    .await;
    let shown = serde_json::to_string(&rule).expect("plain data");
    assert!(!shown.contains("sesame") && !notifier.log().contains("sesame"), "{shown}");
    notifier.stop().await;
}

/// A mail server that takes nothing for one recipient delays what is for another neither now nor after a restart, and the
/// one gets all of it in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_who_is_refused_for_now_delays_no_other() {
    let Some(mut server) = Server::start("STARTTLS") else { return };
    let _alone = alone().await;
    let world = World::with_queue("notify-mail").await;
    Servant::Notifier.installed_in(&world.user, &world.namespace).await;
    let notifier = Notifier::start().await;
    let secret =
        json!({"metadata": {"name": "mail"}, "stringData": {"username": "batch", "password": "sesame"}});
    apply(&world.api::<Secret>(), &secret).await;
    let mut spec = server.smtp("STARTTLS", &["later@example.org", "now@example.org"]);
    merge(&mut spec, json!({"sessionReady": null, "phases": ["SUCCEEDED"]}));
    world.apply::<NotificationRule>("rule", spec).await;
    until(&world, "rule", "a look at it", |status| status.observed_generation == Some(1)).await;
    let next = |server: &Server| {
        let message = tokio::task::block_in_place(|| server.message());
        let content = message["content"].as_str().expect("text").to_owned();
        let job = ["one", "two", "three"]
            .into_iter()
            .find(|job| content.contains(&format!("Job {job} is SUCCEEDED")));
        (message["to"][0].as_str().expect("a recipient").to_owned(), job.expect("a job"))
    };
    let now = "now@example.org".to_owned();
    for name in ["one", "two"] {
        world.submit(name, job(json!({}))).await.run(0).await;
        assert_eq!(next(&server), (now.clone(), name));
    }
    let last = world.api::<BatchJob>().get("two").await.expect("a job").resource_version();
    let last: u64 = last.and_then(|version| version.parse().ok()).expect("a version");
    // What is not written down when it is killed would come twice.
    let behind = |s: &NotificationRuleStatus| {
        s.waiting == Some(2) && s.behind.len() == 1 && s.delivered_through.is_some_and(|v| v.jobs >= last)
    };
    until(&world, "rule", "who is behind", behind).await;
    notifier.kill();
    let notifier = Notifier::start().await;
    world.submit("three", job(json!({}))).await.run(0).await;
    assert_eq!(next(&server), (now, "three"), "nobody gets anything twice");
    server.take_all();
    let late: Vec<_> = (0..3).map(|_| next(&server)).collect();
    assert_eq!(late, ["one", "two", "three"].map(|job| ("later@example.org".to_owned(), job)));
    until(&world, "rule", "nothing that waits", |s| s.waiting == Some(0) && s.behind.is_empty()).await;
    notifier.stop().await;
}

#[tokio::test]
async fn sessions_and_blocked_queues_are_told() {
    let _alone = alone().await;
    let world = World::with_queue("notify-session").await;
    let receiver = Receiver::plain().await;
    let notifier = Notifier::start().await;
    let asks = json!({"phases": null, "sessionReady": true, "blocked": true});
    rule(&world, "rule", &receiver.url("/"), asks).await;
    until(&world, "rule", "a look at it", |status| status.observed_generation == Some(1)).await;
    let desktop = world.submit("desktop", job(json!({}))).await;
    let pod = desktop.pod(1).await;
    pod.bind().await;
    pod.starts().await;
    desktop.reaches(Phase::Running).await;
    let url = "https://203.0.113.7:8443/";
    let session =
        json!({"status": {"session": {"url": url, "readyAt": jiff::Timestamp::now(), "ready": true}}});
    let jobs = world.api::<BatchJob>();
    let params = PatchParams::default();
    jobs.patch_status("desktop", &params, &Patch::Merge(session)).await.expect("a session");
    let received = receiver.until("the session", |received| !received.is_empty()).await;
    let event = received[0].event();
    assert_eq!(set(receiver.taken()), ids(&desktop, &["1/SESSION_READY"]).await);
    assert_eq!(
        (&event["data"]["session"]["url"], &event["data"]["status"]),
        (&json!(url), &json!("RUNNING"))
    );

    let large = json!({"containerProperties": {"vcpus": 100}});
    let large = world.submit("large", job(large)).await;
    let received = receiver.until("the queue", |received| received.len() == 2).await;
    let event = received[1].event();
    assert_eq!(event["detailtype"], "Batch Job Queue Blocked");
    assert_eq!((&event["data"]["jobName"], &event["data"]["jobQueue"]), (&json!("large"), &json!("queue")));
    let queue = world.api::<JobQueue>().get("queue").await.expect("the queue");
    assert!(received[1].id().starts_with(&queue.uid().expect("a uid")), "{event}");
    jobs.delete(&large.name, &DeleteParams::default()).await.expect("a job can be deleted");
    notifier.stop().await;
}

/// Many events, and hardly a write.
#[tokio::test]
async fn events_cost_no_writes() {
    let Some(mark) = audit::mark() else {
        println!("SKIPPED: this cluster has no audit log that can be read, so no write is counted");
        return;
    };
    let _alone = alone().await;
    let world = World::with_queue("notify-writes").await;
    let receiver = Receiver::plain().await;
    let notifier = Notifier::start_with("600").await;
    rule(&world, "all", &receiver.url("/"), json!({})).await;
    until(&world, "all", "a look at it", |status| status.observed_generation == Some(1)).await;
    for number in 0..5 {
        let job = world.submit(&format!("job-{number}"), job(json!({}))).await;
        job.run(0).await;
    }
    receiver.until("all of it", |received| received.len() == 20).await;
    notifier.stop().await;
    let rule = world.api::<NotificationRule>().get("all").await.expect("the rule").status.unwrap_or_default();
    assert_eq!((rule.delivered, rule.waiting), (Some(20), Some(0)), "it says so at its end");
    let writes = mark.writes(&world.namespace);
    let of_rules: Vec<_> =
        writes.iter().filter(|write| write.resource.starts_with("notificationrules/")).collect();
    assert!(of_rules.len() <= 2, "one for the new rule, one at the end: {of_rules:#?}");
}
