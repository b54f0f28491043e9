//! The three posts' commands as printed, run by the real aws CLI against the door. Here no job runs; each test says that it
//! is skipped where there is no CLI.

use std::process::Command;

use batchyard::crd::{BatchJob, JobDefinition, JobQueue};
use kube::api::ListParams;

use super::door::{Door, caller, everything, known};
use crate::operator::world::World;

/// Runs the commands of a post by the real aws CLI, in a namespace of its own; nothing where there is no CLI.
async fn post(name: &str) -> Option<(World, String)> {
    let is_there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !is_there("aws") || !is_there("jq") {
        println!("SKIPPED: {name}: the posts' commands need the aws CLI and jq");
        return None;
    }
    let world = World::empty("door-post").await;
    let door = Door::open(&[]).await;
    let key = caller(&world.user, &world.namespace, "caller", everything()).await;
    known(&door, &key).await;
    let mut bash = Command::new("bash");
    bash.arg(format!("{}/examples/posts/{name}", env!("CARGO_MANIFEST_DIR")))
        .env("AWS_ENDPOINT_URL_BATCH", format!("http://{}", door.address))
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", &key.id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret.reveal())
        .env("AWS_PAGER", "");
    let output =
        tokio::task::spawn_blocking(move || bash.output()).await.expect("no panic").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    Some((world, said))
}

#[tokio::test]
async fn the_retry_posts_commands_run_as_printed() {
    let Some((world, said)) = post("retry.sh").await else { return };
    for told in ["\"jobQueueName\": \"queue-0\"", "job-definition/randomEC:1", "noContainer\t", "spot\t"] {
        assert!(said.contains(told), "{told} is not in\n{said}");
    }
    let queue: JobQueue = world.api().get("queue-0").await.expect("kubectl sees it, too");
    assert_eq!(queue.spec.priority, 1);
}

#[tokio::test]
async fn the_session_posts_commands_run_as_printed() {
    let Some((world, said)) = post("session.sh").await else { return };
    for told in ["job-definition/DCV-GPU-JD:1", "\"attemptDurationSeconds\": 3600"] {
        assert!(said.contains(told), "{told} is not in\n{said}");
    }
    let left = world.api::<JobQueue>().list(&ListParams::default()).await.expect("a list").items;
    assert!(left.is_empty(), "the post deletes what it made: {left:?}");
    let jobs = world.api::<BatchJob>().list(&ListParams::default()).await.expect("a list").items;
    let reason = jobs[0].status.as_ref().and_then(|status| status.record.status_reason.clone());
    assert_eq!((jobs.len(), reason.as_deref()), (1, Some("finished")));
}

#[tokio::test]
async fn the_logging_posts_commands_run_as_printed() {
    let Some((world, said)) = post("logging.sh").await else { return };
    for told in ["job-definition/alpine-env:1", "job-definition/alpine-splunk:1", "splunk\t", "test-"] {
        assert!(said.contains(told), "{told} is not in\n{said}");
    }
    let definition: JobDefinition = world.api().get("alpine-env").await.expect("kubectl sees it, too");
    let container = definition.spec.container_properties.as_ref().expect("a container");
    let logs = container.log_configuration.as_ref().expect("what the post is about");
    assert_eq!(logs.options["awslogs-group"], "/aws/batch/custom/env-queue");
}
