//! Pods of several containers: whose end is the attempt's, which of them wait for which, and what is recorded of each.

#[path = "support/cases.rs"]
mod cases;

use batchyard_core::job::decide::{Action, Job, Readiness, Seen, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, NamedOutcome, Record};
use batchyard_core::order::{After, CONFIG, Until, due};
use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::termination::{Class, Ending, Sight, Tolerances, look};
use jiff::Timestamp;

use ContainerRole::{Auxiliary, Essential, Init, Joint};

fn at(seconds: i64) -> Timestamp {
    Timestamp::constant(1_772_355_600, 0) + jiff::SignedDuration::from_secs(seconds)
}

fn running(from: i64) -> ContainerState {
    ContainerState::Running { started_at: Some(at(from)) }
}

fn ended(exit_code: i32, from: i64, to: i64) -> ContainerState {
    let reason = Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned());
    let (started_at, finished_at) = (Some(at(from)), Some(at(to)));
    ContainerState::Terminated { exit_code, reason, message: None, started_at, finished_at }
}

fn waiting(word: &str) -> ContainerState {
    ContainerState::Waiting { reason: Some(word.to_owned()), message: None }
}

fn one(name: &str, role: ContainerRole, state: ContainerState) -> ContainerView {
    let container_id =
        (!matches!(state, ContainerState::Waiting { .. })).then(|| format!("containerd://{name}"));
    ContainerView { name: name.to_owned(), role, state, container_id, ..ContainerView::default() }
}

fn after(container: &str, until: Until, seconds: Option<u32>) -> After {
    After { container: container.to_owned(), until, seconds }
}

/// One that waits for others.
fn behind(name: &str, role: ContainerRole, state: ContainerState, after: &[After]) -> ContainerView {
    ContainerView { after: after.to_vec(), ..one(name, role, state) }
}

fn pod(phase: PodPhase, containers: Vec<ContainerView>) -> PodView {
    let condition = |kind: &str| PodCondition {
        kind: kind.to_owned(),
        status: true,
        since: Some(at(0)),
        ..PodCondition::default()
    };
    PodView {
        name: "sim-1".to_owned(),
        uid: "u".to_owned(),
        attempt: 1,
        created_at: Some(at(0)),
        node_name: Some("n".to_owned()),
        phase,
        conditions: ["PodScheduled", "PodReadyToStartContainers", "Initialized"].map(condition).to_vec(),
        containers,
        ..PodView::default()
    }
}

fn node() -> NodeView {
    NodeView {
        name: "n".to_owned(),
        instance: "i-1".to_owned(),
        exists: true,
        ready: true,
        ..NodeView::default()
    }
}

fn see(pod: &PodView, now: i64) -> Sight {
    look(pod, Some(&node()), Some("i-1"), &Tolerances::default(), at(now))
}

/// A sight in a few words: for an end its class, exit code, when it was, and the container's reason.
fn told(sight: &Sight) -> String {
    match sight {
        Sight::Unbound => "unbound".to_owned(),
        Sight::Starting { waiting_for, .. } => {
            format!("starting: {}", waiting_for.as_deref().unwrap_or_default())
        }
        Sight::Running { started_at, .. } => format!("running since {}", seconds(*started_at)),
        Sight::Ended(Ending { class, container, stopped_at, .. }) => {
            let code = container.exit_code.map_or("none".to_owned(), |code| code.to_string());
            let why = container.reason.as_deref().unwrap_or("-");
            format!("{class:?} {code} at {}: {why}", seconds(stopped_at.expect("a time")))
        }
    }
}

fn seconds(time: Timestamp) -> i64 {
    time.duration_since(at(0)).as_secs()
}

#[test]
fn whose_end_is_the_end() {
    use PodPhase::{Failed, Pending, Running, Succeeded};
    for (name, pod, want) in [
        (
            "an essential one ends while an auxiliary one runs",
            pod(Running, vec![one("app", Essential, ended(0, 1, 9)), one("log", Auxiliary, running(1))]),
            "Succeeded 0 at 9: -",
        ),
        (
            "an essential one fails while an auxiliary one runs",
            pod(Running, vec![one("app", Essential, ended(3, 1, 9)), one("log", Auxiliary, running(1))]),
            "Application 3 at 9: -",
        ),
        (
            "an auxiliary one fails",
            pod(Running, vec![one("app", Essential, running(1)), one("log", Auxiliary, ended(7, 1, 2))]),
            "running since 1",
        ),
        (
            "an auxiliary one failed before",
            pod(Failed, vec![one("app", Essential, ended(0, 1, 9)), one("log", Auxiliary, ended(7, 1, 2))]),
            "Succeeded 0 at 9: -",
        ),
        (
            "of two essential ones the first end counts",
            pod(Running, vec![one("a", Essential, ended(0, 1, 5)), one("b", Essential, running(1))]),
            "Succeeded 0 at 5: -",
        ),
        (
            "of two in the same second the failure counts",
            pod(Failed, vec![one("a", Essential, ended(0, 1, 5)), one("b", Essential, ended(4, 1, 5))]),
            "Application 4 at 5: -",
        ),
        (
            "of two essential ones that ended the first end counts, well or not",
            pod(Failed, vec![one("a", Essential, ended(0, 1, 5)), one("b", Essential, ended(4, 1, 9))]),
            "Succeeded 0 at 5: -",
        ),
        (
            "joint ones that have all ended of a pod that does not say so yet",
            pod(Running, vec![one("a", Joint, ended(2, 1, 5)), one("b", Joint, ended(0, 1, 9))]),
            "Application 2 at 9: -",
        ),
        (
            "of joint ones the first failure waits for the others",
            pod(Running, vec![one("a", Joint, ended(2, 1, 5)), one("b", Joint, running(1))]),
            "running since 1",
        ),
        (
            "of joint ones the first failure counts, and the last end",
            pod(Failed, vec![one("a", Joint, ended(2, 1, 5)), one("b", Joint, ended(3, 1, 9))]),
            "Application 2 at 9: -",
        ),
        (
            "a joint one that failed late",
            pod(Failed, vec![one("a", Joint, ended(0, 1, 5)), one("b", Joint, ended(3, 1, 9))]),
            "Application 3 at 9: -",
        ),
        (
            "all joint ones ended well",
            pod(Succeeded, vec![one("a", Joint, ended(0, 1, 5)), one("b", Joint, ended(0, 1, 9))]),
            "Succeeded 0 at 9: -",
        ),
        (
            "one of the joint ones has not started",
            pod(
                Pending,
                vec![one("a", Joint, ended(0, 1, 5)), one("b", Joint, waiting("ContainerCreating"))],
            ),
            "starting: ContainerCreating",
        ),
    ] {
        assert_eq!(told(&see(&pod, 20)), want, "{name}");
    }
}

#[test]
fn an_init_container_that_fails_ends_the_attempt() {
    let mut failed = pod(
        PodPhase::Failed,
        vec![one("a", Joint, waiting("PodInitializing")), one("b", Joint, waiting("PodInitializing"))],
    );
    failed.init_containers =
        vec![one("fetch", Init, ended(3, 1, 4)), one("unpack", Init, waiting("PodInitializing"))];
    let sight = see(&failed, 20);
    assert_eq!(told(&sight), "Application 3 at 4: init fetch");
    let Sight::Ended(ending) = sight else { panic!("an end") };
    let codes =
        |list: &[NamedOutcome]| list.iter().map(|o| (o.name.clone(), o.exit_code)).collect::<Vec<_>>();
    assert_eq!(codes(&ending.init_containers), [("fetch".to_owned(), Some(3)), ("unpack".to_owned(), None)]);
    assert_eq!(codes(&ending.containers), [("a".to_owned(), None), ("b".to_owned(), None)]);
}

#[test]
fn what_is_recorded_of_each() {
    let memory = ContainerState::Terminated {
        exit_code: 137,
        reason: Some("OOMKilled".to_owned()),
        message: None,
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
    };
    let survived = ContainerState::Terminated {
        exit_code: 0,
        reason: Some("OOMKilled".to_owned()),
        message: None,
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
    };
    let several = pod(
        PodPhase::Running,
        vec![
            one("app", Essential, ended(0, 1, 9)),
            one("parent", Auxiliary, survived),
            one("log", Auxiliary, running(1)),
            one("cache", Auxiliary, memory),
            one("late", Auxiliary, waiting(CONFIG)),
        ],
    );
    let Sight::Ended(ending) = see(&several, 20) else { panic!("an end") };
    let all: Vec<_> = ending
        .containers
        .iter()
        .map(|o| (o.name.as_str(), o.exit_code, o.reason.as_deref().unwrap_or("-"), o.container_id.is_some()))
        .collect();
    assert_eq!(
        all,
        [
            ("app", Some(0), "-", true),
            ("parent", Some(0), "-", true),
            ("log", None, "Stopped: the attempt of the job ended", true),
            ("cache", Some(137), "OutOfMemoryError: Container killed due to memory usage", true),
            ("late", None, "Not started: the attempt of the job ended", false),
        ]
    );
    let Sight::Ended(ending) =
        see(&pod(PodPhase::Failed, vec![one("default", Essential, ended(1, 1, 2))]), 20)
    else {
        panic!("an end")
    };
    assert!(ending.containers.is_empty() && ending.init_containers.is_empty(), "of one all is said already");
}

/// The kubelet's word while it misses what a container is to wait for.
const HELD: &str = "starting: CreateContainerConfigError";

/// `app` waits for `init`; what is to be seen, and which containers are told to start.
#[test]
fn a_container_waits_for_another() {
    use Until::{Complete, Start, Success};
    let waits = || waiting(CONFIG);
    let creating = || waiting("ContainerCreating");
    let (well, badly) = (|| ended(0, 2, 3), || ended(5, 2, 3));
    let to_start = "starting: Waiting for container init to start";
    let to_end = "starting: Waiting for container init to end";
    let failed =
        "Configuration none at 3: DependencyError: container app depends on init, which exited with 5";
    let late = "Configuration none at 12: DependencyError: container app depends on init, which did not end within 10 s";
    for (name, until, limit, init, app, want, told_to) in [
        ("not started", Start, None, creating(), waits(), to_start, ""),
        ("started", Start, None, running(2), waits(), HELD, "app"),
        ("started and ended", Start, None, badly(), waits(), HELD, "app"),
        ("runs", Complete, None, running(2), waits(), to_end, ""),
        ("ended well", Complete, None, well(), waits(), HELD, "app"),
        ("ended badly", Complete, None, badly(), waits(), HELD, "app"),
        ("succeeded", Success, None, well(), waits(), HELD, "app"),
        ("did not succeed", Success, None, badly(), waits(), failed, ""),
        ("has time", Success, Some(30), running(2), waits(), to_end, ""),
        ("takes too long", Success, Some(10), running(2), waits(), late, ""),
        ("was told", Complete, None, badly(), running(9), "running since 9", ""),
        ("does not wait yet", Complete, None, badly(), creating(), "starting: ContainerCreating", ""),
    ] {
        let app = behind("app", Essential, app, &[after("init", until, limit)]);
        let pod = pod(PodPhase::Pending, vec![one("init", Auxiliary, init), app]);
        assert_eq!((told(&see(&pod, 20)).as_str(), due(&pod).join(",").as_str()), (want, told_to), "{name}");
    }
}

#[test]
fn one_that_waits_for_two_waits_for_both() {
    let app = |a: ContainerState, b: ContainerState| {
        let both = [after("a", Until::Start, None), after("b", Until::Success, None)];
        let app = behind("app", Essential, waiting(CONFIG), &both);
        pod(PodPhase::Pending, vec![one("a", Auxiliary, a), one("b", Auxiliary, b), app])
    };
    for (a, b, want) in [
        (running(1), running(1), "starting: Waiting for container b to end"),
        (waiting("ContainerCreating"), ended(0, 1, 2), "starting: Waiting for container a to start"),
        (
            waiting("ContainerCreating"),
            ended(1, 1, 2),
            "Configuration none at 2: DependencyError: container app depends on b, which exited with 1",
        ),
        (running(1), ended(0, 1, 2), "starting: CreateContainerConfigError"),
    ] {
        assert_eq!(told(&see(&app(a, b), 20)), want);
    }
}

/// A container in whose way something is, in the kubelet's words.
fn stuck(word: &str, message: &str) -> ContainerState {
    ContainerState::Waiting { reason: Some(word.to_owned()), message: Some(message.to_owned()) }
}

const NO_IMAGE: &str = "Back-off pulling image \"x\": ErrImagePull: not found";

/// An essential container waits for `b`, which waits for `a`.
#[test]
fn nobody_waits_for_what_can_never_start() {
    use Until::{Complete, Start, Success};
    let image = || stuck("ImagePullBackOff", NO_IMAGE);
    let secret = || stuck(CONFIG, "secret \"s\" not found");
    let no_image = "Image none at 20: CannotPullContainerError: not found";
    let no_secret = "Configuration none at 120: ResourceInitializationError: secret \"s\" not found";
    let failed = |waits: &str, other: &str, at: i64, how: &str| {
        format!(
            "Configuration none at {at}: DependencyError: container {waits} depends on {other}, which {how}"
        )
    };
    let late = "did not end within 10 s";
    for (name, app, b, a, b_waits, want) in [
        ("no image", Success, image(), running(0), None, no_image.to_owned()),
        ("no image, to its end", Complete, image(), running(0), None, no_image.to_owned()),
        ("no image, to its start", Start, image(), running(0), None, no_image.to_owned()),
        ("no Secret", Success, secret(), running(0), None, no_secret.to_owned()),
        ("no image behind", Start, waiting(CONFIG), image(), Some((Success, None)), no_image.to_owned()),
        ("no Secret behind", Start, waiting(CONFIG), secret(), Some((Complete, None)), no_secret.to_owned()),
        (
            "it failed behind",
            Start,
            waiting(CONFIG),
            ended(5, 1, 2),
            Some((Success, None)),
            failed("b", "a", 2, "exited with 5"),
        ),
        (
            "too late behind",
            Start,
            waiting(CONFIG),
            running(0),
            Some((Success, Some(10))),
            failed("b", "a", 10, late),
        ),
        ("opened behind, but no Secret", Start, secret(), ended(0, 1, 7), Some((Success, None)), {
            no_secret.replace("120", "127")
        }),
    ] {
        let after_a: Vec<_> =
            b_waits.into_iter().map(|(until, seconds)| after("a", until, seconds)).collect();
        let app = behind("app", Essential, waiting(CONFIG), &[after("b", app, None)]);
        let pod =
            pod(PodPhase::Pending, vec![one("a", Auxiliary, a), behind("b", Auxiliary, b, &after_a), app]);
        let early = told(&see(&pod, 1));
        let told_early = match want.contains("exited with") {
            true => "starting: DependencyError: container b depends on a",
            false => "starting: Waiting for container b to",
        };
        assert!(early.starts_with(told_early), "{name}: {early}");
        assert_eq!(told(&see(&pod, 600)), want, "{name}");
    }
}

/// What users write onto a pod may make no sense.
#[test]
fn nobody_waits_for_itself_or_for_what_is_not_there() {
    for (name, a, b, want) in [
        ("each other", "b", "a", "container b depends on a, which could not start"),
        ("itself", "a", "a", "container a depends on a, which could not start"),
        ("nobody", "x", "a", "container a depends on x, which could not start"),
    ] {
        let held =
            |name, role, other| behind(name, role, waiting(CONFIG), &[after(other, Until::Start, None)]);
        let pod = pod(PodPhase::Pending, vec![held("a", Essential, a), held("b", Auxiliary, b)]);
        assert_eq!(
            told(&see(&pod, 9)),
            format!("Configuration none at 0: DependencyError: {want}"),
            "{name}"
        );
    }
}

/// As on ECS, what is not essential and cannot start is nobody's business but of those that wait for it. It is told.
#[test]
fn an_auxiliary_container_without_an_image_ends_nothing_and_is_told() {
    let log = || one("log", Auxiliary, stuck("ImagePullBackOff", NO_IMAGE));
    let runs = pod(PodPhase::Pending, vec![one("app", Essential, running(1)), log()]);
    assert_eq!(told(&see(&runs, 600)), "running since 1");
    let late = behind("late", Auxiliary, stuck(CONFIG, "x"), &[after("log", Until::Start, None)]);
    let never = behind("never", Auxiliary, stuck(CONFIG, "x"), &[after("app", Until::Success, None)]);
    let over = pod(PodPhase::Pending, vec![one("app", Essential, ended(3, 1, 9)), log(), late, never]);
    let Sight::Ended(ending) = see(&over, 20) else { panic!("an end") };
    let why: Vec<_> = ending.containers.iter().map(|o| o.reason.as_deref().unwrap_or("-")).collect();
    let never = "DependencyError: container never depends on app, which exited with 3";
    assert_eq!(
        why,
        ["-", "CannotPullContainerError: not found", "Not started: the attempt of the job ended", never]
    );
}

mod property {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn not_running() -> impl Strategy<Value = ContainerState> {
        prop_oneof![
            3 => Just(waiting(CONFIG)),
            1 => Just(ContainerState::Unknown),
            1 => Just(waiting("ContainerCreating")),
            1 => Just(stuck("ImagePullBackOff", NO_IMAGE)),
            1 => Just(stuck("CreateContainerError", "no")),
            2 => prop_oneof![Just(0), Just(5)].prop_map(|code| ended(code, 1, 2)),
        ]
    }

    fn waits() -> impl Strategy<Value = Vec<After>> {
        let name = proptest::sample::select(vec!["a", "b", "c", "d", "nobody"]);
        let until = proptest::sample::select(vec![Until::Start, Until::Complete, Until::Success]);
        vec((name, until, option::of(0_u32..60)), 0..3).prop_map(|all| {
            all.into_iter().map(|(name, until, seconds)| after(name, until, seconds)).collect()
        })
    }

    proptest! {
        #![proptest_config(cases::config(2000))]

        /// A pod that starts and of which nothing runs has an end, whatever its containers wait for.
        #[test]
        fn no_pod_waits_for_ever(containers in vec((any::<bool>(), not_running(), waits()), 1..4)) {
            let one = |(at, (essential, state, after)): (usize, (bool, ContainerState, Vec<After>))| {
                let role = if essential || at == 0 { Essential } else { Auxiliary };
                behind(["a", "b", "c", "d"][at], role, state, &after)
            };
            let mut pod = pod(PodPhase::Pending, containers.into_iter().enumerate().map(one).collect());
            pod.opened = due(&pod);
            let sight = see(&pod, 100 * 24 * 3600);
            prop_assert!(matches!(sight, Sight::Ended(_)), "{:?}", sight);
        }
    }
}

/// The kubelet starts a pod's containers one after another, and pulls each one's image before.
#[test]
fn the_time_of_a_container_begins_when_the_one_before_it_has_started() {
    for (first, want) in [(running(0), 20), (running(7), 27), (ended(0, 5, 9), 25)] {
        let second = one("b", Essential, stuck("ImagePullBackOff", NO_IMAGE));
        let end = format!("Image none at {want}: CannotPullContainerError: not found");
        let pod = pod(PodPhase::Pending, vec![one("a", Auxiliary, first), second]);
        assert_eq!(told(&see(&pod, 60)), end);
    }
}

#[test]
fn an_auxiliary_container_that_never_starts_ends_nothing() {
    let late = behind("late", Auxiliary, waiting(CONFIG), &[after("init", Until::Success, None)]);
    let pod = pod(
        PodPhase::Pending,
        vec![one("init", Auxiliary, ended(5, 1, 2)), late, one("app", Essential, running(1))],
    );
    assert_eq!((told(&see(&pod, 600)), due(&pod)), ("running since 1".to_owned(), vec![]));
}

#[test]
fn a_container_is_told_once_and_with_all_that_may_start() {
    let ready = [after("init", Until::Complete, None)];
    let mut two = pod(
        PodPhase::Pending,
        vec![
            one("init", Auxiliary, ended(0, 1, 2)),
            behind("a", Essential, running(5), &ready),
            behind("b", Essential, waiting(CONFIG), &ready),
        ],
    );
    assert_eq!(due(&two), ["a", "b"]);
    two.opened = vec!["a".to_owned(), "b".to_owned()];
    assert!(due(&two).is_empty(), "told already");
    two.opened.pop();
    two.deleted_at = Some(at(9));
    assert!(due(&two).is_empty(), "it is being deleted");
}

fn step(job: &Job, pod: &PodView, now: i64) -> (Record, Vec<Action>) {
    let record = Record { phase: Some(Phase::Runnable), created_at: Some(at(0)), ..Record::default() };
    let seen = Seen { pods: vec![pod.clone()], nodes: [("n".to_owned(), node())].into(), ..Seen::default() };
    let ready = Readiness::Ready("d:1".to_owned());
    let decision = decide(at(now), job, &ready, &record, &seen, &Tolerances::default());
    (decision.record, decision.actions)
}

#[test]
fn the_job_controller_gives_the_word_unless_the_job_is_to_end() {
    let app = behind("app", Essential, waiting(CONFIG), &[after("init", Until::Complete, None)]);
    let pod = pod(PodPhase::Pending, vec![one("init", Auxiliary, ended(1, 1, 2)), app]);
    let (record, actions) = step(&Job::default(), &pod, 5);
    let start =
        Action::Start { pod: "sim-1".to_owned(), uid: "u".to_owned(), containers: vec!["app".to_owned()] };
    assert_eq!((record.phase(), actions), (Phase::Starting, vec![start]));
    let terminated = Job { terminate: Some("enough".to_owned()), ..Job::default() };
    let (_, actions) = step(&terminated, &pod, 5);
    assert!(matches!(actions.as_slice(), [Action::Delete { .. }]), "{actions:?}");
}

/// The outcome is on record before the others are stopped.
#[test]
fn the_end_of_an_essential_container_stops_the_others() {
    let mut pod = pod(
        PodPhase::Running,
        vec![one("app", Essential, ended(0, 1, 9)), one("log", Auxiliary, running(1))],
    );
    pod.held = true;
    let (record, actions) = step(&Job::default(), &pod, 10);
    assert_eq!(record.phase(), Phase::Succeeded);
    assert_eq!(record.attempts[0].container.exit_code, Some(0));
    assert_eq!(record.attempts[0].containers.len(), 2);
    assert!(
        matches!(actions.as_slice(), [Action::Delete { .. }, Action::Release { .. }]),
        "stopped, then let go: {actions:?}"
    );
    assert_eq!(record.attempts[0].decision.as_ref().map(|d| d.entry), Some(None));
    let class = |pod: &PodView| match see(pod, 10) {
        Sight::Ended(ending) => ending.class,
        other => panic!("{other:?}"),
    };
    assert_eq!(class(&pod), Class::Succeeded);
}

/// A status is written whole each time, and everybody who lists jobs gets it.
#[test]
fn the_record_of_a_job_keeps_below_100_kib_whatever_is_said_of_its_containers() {
    for text in ["no such file ", "漢字"] {
        let message = Some(text.repeat(4096 / text.len()));
        let failed = |role: ContainerRole, number: usize| {
            let name = format!("{}{number:03}", "n".repeat(60));
            let reason = Some("StartError".to_owned());
            let state = ContainerState::Terminated {
                exit_code: 128,
                reason,
                message: message.clone(),
                started_at: None,
                finished_at: Some(at(2)),
            };
            let container_id = Some(format!("containerd://{}", "f".repeat(64)));
            ContainerView { container_id, ..one(&name, role, state) }
        };
        let several = |role: ContainerRole| (0..10).map(|number| failed(role, number)).collect::<Vec<_>>();
        let seen = pod(PodPhase::Failed, several(Essential));
        let seen = PodView { init_containers: several(Init), ..seen };
        let Sight::Ended(ending) = see(&seen, 3) else { panic!("it has ended") };
        let reasons =
            ending.containers.iter().chain(&ending.init_containers).filter_map(|one| one.reason.as_ref());
        let (count, bytes) = reasons.fold((0, 0), |(count, bytes), reason| (count + 1, bytes + reason.len()));
        assert!(count == 20 && (400..=1024).contains(&bytes), "{count} {bytes}");
        let attempt = |number: u32| Attempt {
            attempt: number,
            pod_name: "p".repeat(63),
            pod_uid: "u".repeat(36),
            compute_environment: Some("e".repeat(63)),
            node_name: Some("n".repeat(63)),
            instance: Some("i".repeat(63)),
            log_stream_name: Some("s".repeat(256)),
            started_at: Some(at(1)),
            stopped_at: Some(at(2)),
            status_reason: "x".repeat(512),
            container: ending.container.clone(),
            containers: ending.containers.clone(),
            init_containers: ending.init_containers.clone(),
            decision: None,
        };
        let record = Record {
            attempts: (1..=10).map(attempt).collect(),
            log_tail: Some("x".repeat(2048)),
            status_reason: Some("x".repeat(512)),
            ..Record::default()
        };
        let bytes = serde_json::to_string(&record).expect("plain data").len();
        assert!(bytes < 100 * 1024, "{bytes}");
    }
}
