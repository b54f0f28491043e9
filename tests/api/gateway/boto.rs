//! boto3 against the door. Without Python or boto3 on this machine an environment with it is made in the target folder;
//! where that cannot be done, each test says that it is skipped.

use std::path::PathBuf;
use std::process::{Command, Output};

use batchyard::crd::BatchJob;
use batchyard::k8s::access_key::AccessKey;
use batchyard_core::job::phase::Phase;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::door::{Door, caller, everything, known};
use crate::operator::kubelet::seconds;
use crate::operator::world::World;

/// A Python that has boto3.
async fn python() -> Option<PathBuf> {
    static FOUND: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    FOUND.get_or_init(|| async { tokio::task::spawn_blocking(find).await.expect("no panic") }).await.clone()
}

fn find() -> Option<PathBuf> {
    let has_boto = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import boto3"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("boto");
    let (plain, made) = (PathBuf::from("python3"), own.join("bin/python"));
    for python in [&plain, &made] {
        if has_boto(python) {
            return Some(python.clone());
        }
    }
    let run = |program: &PathBuf, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let own = own.display().to_string();
    let made_it =
        run(&plain, &["-m", "venv", &own]) && run(&made, &["-m", "pip", "install", "--quiet", "boto3"]);
    if made_it && has_boto(&made) {
        return Some(made);
    }
    None
}

/// Where scripts note which members of answers they saw.
fn seen(door: &Door) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("answers-{}.txt", door.address.port()))
}

/// Runs a script of `boto/`; the test is skipped if there is no Python for it.
async fn script(
    name: &str,
    args: &[&str],
    door: &Door,
    other: Option<&Door>,
    key: &AccessKey,
) -> Option<Output> {
    let Some(python) = python().await else {
        println!("SKIPPED: {name}: there is neither Python with boto3 nor a way to install it");
        return None;
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/gateway/boto");
    let mut command = Command::new(python);
    command
        .arg(folder.join(name))
        .args(args)
        .env("DOOR", format!("http://{}", door.address))
        .env("KEY", &key.id)
        .env("SECRET", key.secret.reveal())
        .env("SEEN", seen(door))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    if let Some(other) = other {
        command.env("DOOR_2", format!("http://{}", other.address));
    }
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    println!("{name}: {}", text(&output.stdout));
    Some(output)
}

#[tokio::test]
async fn boto3_does_all_that_there_is_to_do() {
    let world = World::empty("door-life").await;
    // Its jobs wait, whatever nodes there are for others.
    world.environment("nowhere", json!({})).await;
    world.node("foreign", "foreign", 4).await;
    let door = Door::open(&[]).await;
    let key = caller(&world.user, &world.namespace, "caller", everything()).await;
    known(&door, &key).await;
    // Of an earlier run.
    let _ = std::fs::remove_file(seen(&door));
    if script("life.py", &["nowhere"], &door, None, &key).await.is_none() {
        return;
    }
    assert!(!door.said().contains(key.secret.reveal()), "a secret is in the log");
    // What life.py did not meet: all that a definition can say, and jobs that run and end.
    world.furnish().await;
    // There is room for all of them at once, in whatever order they come.
    world.node("more", "pool", 8).await;
    let made = script("submit.py", &["nowhere", "pool", &world.namespace], &door, None, &key).await;
    let runs = made.and_then(|made| String::from_utf8(made.stdout).ok()).expect("a list of jobs");
    play(&world, &serde_json::from_str(&runs).expect("JSON")).await;
    let docs = format!("{}/docs/aws-api.md", env!("CARGO_MANIFEST_DIR"));
    script("told.py", &[&docs, &runs], &door, None, &key).await;
}

/// Runs the jobs of submit.py: all come to an end but one, a child of the array, and the multi-node job.
async fn play(world: &World, runs: &Value) {
    let job = async |name: &str| {
        let id = runs[name].as_str().expect("an id");
        let fields = ListParams::default().fields(&format!("spec.jobId={id}"));
        let found = world.api::<BatchJob>().list(&fields).await.expect("a list").items;
        world.job(&found[0].name_any())
    };
    let now = || seconds(Timestamp::now());
    for (name, containers) in [("task", &["app"][..]), ("pod", &["app", "side"])] {
        let states = |state: Value| containers.iter().map(|name| (*name, state.clone())).collect::<Vec<_>>();
        let job = job(name).await;
        let pod = job.pod(1).await;
        pod.bind().await;
        let running = states(json!({"running": {"startedAt": now()}}));
        pod.reports(json!({"phase": "Running"}), &running, true).await;
        job.reaches(Phase::Running).await;
        let ended = states(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": now(),
            "finishedAt": now(), "containerID": "containerd://0"}}));
        pod.reports(json!({"phase": "Failed"}), &ended, false).await;
        job.reaches(Phase::Failed).await;
    }
    for (name, out_of_memory, last) in
        [("plain", true, Some(0)), ("broken", true, None), ("runs", false, None)]
    {
        let job = job(name).await;
        let pod = job.pod(1).await;
        pod.bind().await;
        pod.starts().await;
        job.reaches(Phase::Running).await;
        if out_of_memory {
            pod.runs_out_of_memory().await;
            job.until("an end", |record| !record.attempts.is_empty()).await;
        }
        if let Some(code) = last {
            job.attempt(2, code).await;
        }
    }
    let array = job("array").await;
    for (index, ends) in [(0, true), (1, false)] {
        let child = array.child_pod(index, 1).await;
        child.bind().await;
        child.starts().await;
        if ends {
            child.exits(0).await;
        }
    }
}

#[tokio::test]
async fn ten_callers_at_a_time_and_two_doors() {
    let world = World::with_queue("door-many").await;
    let (door, other) = (Door::open(&[]).await, Door::open(&[]).await);
    let key = caller(&world.user, &world.namespace, "caller", everything()).await;
    known(&door, &key).await;
    known(&other, &key).await;
    script("parallel.py", &[], &door, Some(&other), &key).await;
}

#[tokio::test]
async fn the_model_is_covered() {
    let world = World::without_operator("door-model").await;
    let door = Door::open(&["--requests-per-second", "0"]).await;
    let key = caller(&world.user, &world.namespace, "caller", everything()).await;
    known(&door, &key).await;
    let docs = format!("{}/docs/aws-api.md", env!("CARGO_MANIFEST_DIR"));
    script("model.py", &[&docs], &door, None, &key).await;
}
