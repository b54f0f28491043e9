//! Pods whose log sidecar does not start: how long that may hold up the job, and when it holds up nobody.

use batchyard_core::logging::sidecar::CONTAINER;
use batchyard_core::pod::{ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodView};
use batchyard_core::termination::{Class, Ending, Sight, Tolerances, look};
use jiff::{SignedDuration, Timestamp};

use ContainerRole::{Essential, Init, Sidecar};

fn at(seconds: i64) -> Timestamp {
    Timestamp::constant(1_772_355_600, 0) + SignedDuration::from_secs(seconds)
}

fn waits(word: &str) -> ContainerState {
    ContainerState::Waiting { reason: Some(word.to_owned()), message: None }
}

fn runs(from: i64) -> ContainerState {
    ContainerState::Running { started_at: Some(at(from)) }
}

fn ended(exit_code: i32, from: i64, to: i64) -> ContainerState {
    let (started_at, finished_at) = (Some(at(from)), Some(at(to)));
    ContainerState::Terminated { exit_code, reason: None, message: None, started_at, finished_at }
}

fn one(name: &str, role: ContainerRole, state: ContainerState) -> ContainerView {
    ContainerView { name: name.to_owned(), role, state, ..ContainerView::default() }
}

/// A sidecar that ran for a second, failed and waits for its next start.
fn crashed(name: &str) -> ContainerView {
    ContainerView { last_state: Some(ended(1, 1, 2)), ..one(name, Sidecar, waits("CrashLoopBackOff")) }
}

/// A pod that is bound since 0. Its sandbox is ready since then, unless it is not.
fn pod(has_sandbox: bool, init_containers: Vec<ContainerView>, app: ContainerState) -> PodView {
    let sandbox = PodCondition {
        kind: "PodReadyToStartContainers".to_owned(),
        status: has_sandbox,
        since: Some(at(0)),
        ..PodCondition::default()
    };
    PodView {
        created_at: Some(at(0)),
        node_name: Some("n".to_owned()),
        conditions: vec![sandbox],
        init_containers,
        containers: vec![one("default", Essential, app)],
        ..PodView::default()
    }
}

fn see(pod: &PodView, now: i64) -> Sight {
    let node = NodeView { name: "n".to_owned(), exists: true, ready: true, ..NodeView::default() };
    look(pod, Some(&node), None, &Tolerances::default(), at(now))
}

/// When it ends unless something changes, and what it waits for until then.
fn wait(pod: &PodView) -> (Option<i64>, String) {
    match see(pod, 9) {
        Sight::Starting { until, waiting_for } => {
            let seconds = until.map(|until| until.duration_since(at(0)).as_secs());
            (seconds, waiting_for.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_holds_up_a_pod_and_for_how_long() {
    let next = || waits("PodInitializing");
    let pulls = |name| one(name, Sidecar, waits("ErrImagePull"));
    let late = "Log sidecar did not start within 60 s: ErrImagePull";
    let other = "sidecar fluent-bit did not start: ";
    for (name, pod, seconds, text) in [
        ("no image", pod(true, vec![pulls(CONTAINER)], next()), Some(60), late),
        ("it fails again and again", pod(true, vec![crashed(CONTAINER)], next()), Some(60), "Log sidecar"),
        (
            "no sandbox",
            pod(false, vec![pulls(CONTAINER)], next()),
            Some(600),
            "sidecar batchyard-log did not",
        ),
        ("another sidecar", pod(true, vec![pulls("fluent-bit")], next()), Some(600), other),
        (
            "it starts after another container",
            pod(true, vec![one("fetch", Init, ended(0, 5, 8)), pulls(CONTAINER)], next()),
            Some(68),
            late,
        ),
        (
            "a container behind it runs",
            pod(true, vec![crashed(CONTAINER), one("fetch", Init, runs(3))], next()),
            None,
            "init container fetch runs",
        ),
        (
            "a container behind it has ended, and the next one has no image",
            pod(
                true,
                vec![
                    crashed(CONTAINER),
                    one("fetch", Init, ended(0, 3, 4)),
                    one("b", Init, waits("ErrImagePull")),
                ],
                next(),
            ),
            Some(304),
            "ErrImagePull",
        ),
        (
            "a container behind another sidecar runs",
            pod(true, vec![crashed("fluent-bit"), one("fetch", Init, runs(3))], next()),
            Some(600),
            other,
        ),
    ] {
        let (until, waiting_for) = wait(&pod);
        assert_eq!(until, seconds, "{name}: {waiting_for}");
        assert!(waiting_for.starts_with(text), "{name}: {waiting_for}");
    }
}

#[test]
fn a_pod_whose_log_sidecar_is_late_uses_no_attempt() {
    let pod = pod(true, vec![one(CONTAINER, Sidecar, waits("ErrImagePull"))], waits("PodInitializing"));
    assert!(matches!(see(&pod, 59), Sight::Starting { .. }));
    let Sight::Ended(Ending { class, container, stopped_at, .. }) = see(&pod, 60) else { panic!("an end") };
    assert_eq!((class, stopped_at), (Class::Unplaced, Some(at(60))));
    assert_eq!(container.reason.as_deref(), Some("Log sidecar did not start within 60 s: ErrImagePull"));
}
