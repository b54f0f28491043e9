//! A single job from its submission to its end.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::world::{World, is_condition, job};
use crate::support::operator::{self, Operator};
use crate::support::{client, wait};

#[tokio::test]
async fn a_job_goes_through_its_phases() {
    let world = World::with_queue("phases").await;
    let job = world.submit("job", job(json!({}))).await;
    let pod = job.pod(1).await;
    let record = job.reaches(Phase::Runnable).await;
    assert!(record.attempts.is_empty() && record.started_at.is_none(), "{record:#?}");
    pod.bind().await;
    pod.pulls().await;
    let record = job.reaches(Phase::Starting).await;
    let current = record.current.expect("a pod");
    assert_eq!(current.pod_name, pod.name);
    assert_eq!(current.node_name, Some(format!("{}-node", world.namespace)));
    assert_eq!(current.instance, Some(format!("i-{}-node", world.namespace)));
    pod.starts().await;
    let record = job.reaches(Phase::Running).await;
    assert!(record.started_at.is_some() && record.stopped_at.is_none(), "{record:#?}");
    pod.exits(0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!(record.status_reason.as_deref(), Some("Essential container in task exited"));
    let [attempt] = &record.attempts[..] else { panic!("one attempt, not {record:#?}") };
    assert_eq!((attempt.attempt, attempt.container.exit_code), (1, Some(0)));
    assert!(record.stopped_at >= record.started_at && record.started_at >= record.runnable_at, "{record:#?}");
    let object = job.get().await;
    assert!(is_condition(&serde_json::to_value(&object).expect("plain data"), "Complete"), "{object:#?}");
    assert!(object.finalizers().is_empty(), "a BatchJob has no finalizer");
    pod.is_released().await;
    assert_eq!(record.job_id, object.uid());
}

#[tokio::test]
async fn tools_can_wait_for_a_job() {
    let world = World::with_queue("kubectl-wait").await;
    let good = world.submit("good", job(json!({}))).await;
    let bad = world.submit("bad", job(json!({}))).await;
    good.run(0).await;
    bad.run(1).await;
    for (name, condition) in [("good", "Complete"), ("bad", "Failed")] {
        let waited = std::process::Command::new("kubectl")
            .args([
                "wait",
                &format!("--for=condition={condition}"),
                &format!("batchjob/{name}"),
                "--timeout=60s",
            ])
            .args(["-n", &world.namespace])
            .env("KUBECONFIG", client::kubeconfig())
            .output()
            .expect("kubectl must be on the PATH");
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    }
    let failed = serde_json::to_value(bad.get().await).expect("plain data");
    assert!(!is_condition(&failed, "Complete"), "{failed:#}");
}

#[tokio::test]
async fn each_transition_is_an_event() {
    // Events that are not important may be left out where there are many: no other job is to be told of.
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("events").await;
    let leader = Operator::start(operator::NAME);
    leader.leads().await;
    world.furnish().await;
    let job = world.submit("job", job(json!({"retryStrategy": {"attempts": 3}}))).await;
    job.attempt(1, 1).await;
    job.attempt(2, 2).await;
    job.attempt(3, 0).await;
    job.reaches(Phase::Succeeded).await;
    let wanted = [
        ("Runnable", ""),
        ("Running", "Attempt "),
        ("AttemptFailed", "Attempt 1: Essential container in task exited, exit code 1"),
        ("Requeued", "Waiting for attempt 2 of 3"),
        // Not counted as the same once more: kubectl shows a note for each attempt.
        ("AttemptFailed", "Attempt 2: Essential container in task exited, exit code 2"),
        ("Requeued", "Waiting for attempt 3 of 3"),
        ("AttemptEnded", "Attempt 3: "),
        ("Succeeded", ""),
    ];
    let events: Api<Event> = world.api();
    wait::answer(&format!("events {wanted:?}"), &world.namespace, || async {
        let events = events.list(&ListParams::default()).await.ok()?.items;
        let is_of_job = |event: &&Event| event.regarding.as_ref()?.name.as_deref().map(|name| name == "job");
        let told = |(reason, note): &(&str, &str)| {
            events.iter().filter(|event| is_of_job(event) == Some(true)).any(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.note.as_deref().unwrap_or_default().starts_with(note)
            })
        };
        wanted.iter().all(told).then_some(())
    })
    .await;
    leader.stop().await;
}

#[tokio::test]
async fn jobs_can_be_selected_by_their_phase_and_queue() {
    let world = World::with_queue("selected").await;
    let ended = world.submit("ended", job(json!({}))).await;
    ended.run(0).await;
    let waiting = world.submit("waiting", job(json!({}))).await;
    waiting.pod(1).await;
    let jobs: Api<BatchJob> = world.api();
    for (selector, name) in
        [("status.phase=SUCCEEDED", "ended"), ("status.phase=RUNNABLE,spec.jobQueue=queue", "waiting")]
    {
        let found =
            jobs.list(&ListParams::default().fields(selector)).await.expect("a selectable field").items;
        let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, [name], "{selector}");
    }
}
