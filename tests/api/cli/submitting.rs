//! `submit` and `run`.

use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use serde_json::json;

use super::program::{batch, begin, said};
use crate::operator::world::World;
use crate::support::wait;

#[tokio::test]
async fn everything_that_is_asked_for_stands_in_the_job() {
    let said = batch(
        "anywhere",
        &[
            "submit",
            "render:3",
            "-q",
            "queue-0",
            "-p",
            "scene=a=b",
            "--vcpus",
            "2",
            "--memory",
            "512",
            "--gpus",
            "1",
            "-e",
            "MODE=fast",
            "--attempts",
            "3",
            "--timeout",
            "60",
            "--array-size",
            "10",
            "--depends-on",
            "first",
            "--depends-on",
            "second:N_TO_N",
            "--tag",
            "team=a",
            "--label",
            "app=x",
            "--dry-run",
            "--",
            "render",
            "--all",
        ],
    )
    .await
    .ok();
    let expected = r#"{"apiVersion":"batchyard.io/v1alpha1","kind":"BatchJob",
        "metadata":{"generateName":"render-","namespace":"anywhere","labels":{"app":"x"}},
        "spec":{"jobQueue":"queue-0","jobDefinition":"render:3","parameters":{"scene":"a=b"},"tags":{"team":"a"},
            "arrayProperties":{"size":10},"retryStrategy":{"attempts":3},"timeout":{"attemptDurationSeconds":60},
            "dependsOn":[{"job":"first"},{"job":"second","type":"N_TO_N"}],
            "containerOverrides":{"command":["render","--all"],"environment":[{"name":"MODE","value":"fast"}],
                "resourceRequirements":[{"type":"VCPU","value":"2"},{"type":"MEMORY","value":"512"},{"type":"GPU","value":"1"}]}}}"#;
    let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
    let found: serde_json::Value = serde_saphyr::from_str(&said).expect("YAML");
    assert_eq!(found, expected);
}

#[tokio::test]
async fn wait_ends_with_the_exit_code_of_the_job() {
    let world = World::with_queue("cli-submit").await;
    let n = world.namespace.as_str();
    world.definition("render", json!({})).await;
    let checked =
        batch(n, &["submit", "render", "-q", "queue", "--dry-run=server", "--name", "checked"]).await.ok();
    assert!(checked.contains("checked would be submitted to queue"), "{checked}");
    let submitted = batch(n, &["submit", "render", "-q", "queue", "--name", "plain"]).await.ok();
    assert!(submitted.starts_with("plain is submitted to queue (id "), "{submitted}");
    let plain = world.job("plain");
    assert_eq!(plain.get().await.spec.ttl_seconds_after_finished, Some(604_800));
    plain.run(0).await;
    plain.reaches(Phase::Succeeded).await;

    let waiting = begin(n, &["run", "busybox", "-q", "queue", "--wait", "--", "sh", "-c", "exit 42"]);
    let name = wait::answer("the job", n, || async {
        let jobs = world.api::<batchyard::crd::BatchJob>().list(&Default::default()).await.ok()?;
        jobs.items.iter().map(|job| job.name_any()).find(|name| name.starts_with("busybox-"))
    })
    .await;
    let job = world.job(&name);
    job.run(42).await;
    let ended = said(waiting).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(42), ""), "{ended:?}");
    assert!(ended.err.contains("is submitted to queue") && ended.err.contains("FAILED"), "{}", ended.err);
}
