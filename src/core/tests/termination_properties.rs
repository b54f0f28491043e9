//! What holds for the end of any pod, however absurd its status.

#[path = "support/cases.rs"]
mod cases;

use batchyard_core::order::{After, Until};
use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::reason::clean::{LOG_TAIL_LIMIT, REASON_LIMIT, STATUS_REASON_LIMIT};
use batchyard_core::termination::create::classify_create;
use batchyard_core::termination::{Class, Ending, Sight, Tolerances, look, vanished};
use cases::config;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const PHASES: [PodPhase; 5] =
    [PodPhase::Pending, PodPhase::Running, PodPhase::Succeeded, PodPhase::Failed, PodPhase::Unknown];
const ROLES: [ContainerRole; 5] = [
    ContainerRole::Essential,
    ContainerRole::Joint,
    ContainerRole::Auxiliary,
    ContainerRole::Init,
    ContainerRole::Sidecar,
];
const CONDITIONS: [&str; 5] =
    ["DisruptionTarget", "PodReadyToStartContainers", "PodScheduled", "Initialized", "Ready"];
/// Words that the API, the kubelet and the runtimes use.
const WORDS: [&str; 32] = [
    "",
    "Evicted",
    "DeadlineExceeded",
    "Terminated",
    "Preempting",
    "NodeShutdown",
    "NodeLost",
    "OutOfcpu",
    "SysctlForbidden",
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
    "DeletionByDeviceTaintManager",
    "Error",
    "Completed",
    "OOMKilled",
    "StartError",
    "Unknown",
    "ContainerStatusUnknown",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "ContainerCreating",
    "PodInitializing",
    "CrashLoopBackOff",
    "Ünbekannt",
];

/// Near a base time, or as far from it as a time can be.
fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        20 => (0_i64..7200).prop_map(|s| Timestamp::constant(1_772_355_600 + s, 0)),
        1 => Just(Timestamp::UNIX_EPOCH),
        1 => Just(Timestamp::MIN),
        1 => Just(Timestamp::MAX),
    ]
}

fn word() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![
        9 => proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ])
}

fn message() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![
        3 => "\\PC{0,12}",
        1 => ("(\\PC|\n|\u{1b}){1,8}", 0_usize..800).prop_map(|(text, times)| text.repeat(times)),
        1 => Just("Back-off pulling image \"a\": ErrImagePull: not found".to_owned()),
        1 => Just("Back-off pulling image \"a\": InvalidImageName: \u{0}".to_owned()),
    ])
}

fn state() -> impl Strategy<Value = ContainerState> {
    let code = prop_oneof![Just(0), Just(1), Just(137), Just(255), Just(-1), any::<i32>()];
    let times = (option::of(time()), option::of(time()));
    prop_oneof![
        1 => Just(ContainerState::Unknown),
        3 => (word(), message()).prop_map(|(reason, message)| ContainerState::Waiting { reason, message }),
        2 => option::of(time()).prop_map(|started_at| ContainerState::Running { started_at }),
        4 => (code, word(), message(), times).prop_map(|(exit_code, reason, message, times)| {
            let (started_at, finished_at) = times;
            ContainerState::Terminated { exit_code, reason, message, started_at, finished_at }
        }),
    ]
}

fn container() -> impl Strategy<Value = ContainerView> {
    let id = option::of(prop_oneof![Just(String::new()), Just("containerd://1".to_owned())]);
    let name = prop_oneof![2 => Just("a".to_owned()), 1 => Just("b".to_owned()), 1 => "\\PC{0,12}"];
    let role = proptest::sample::select(ROLES.as_slice());
    (name, id, role, vec(after(), 0..2), state(), option::weighted(0.1, state())).prop_map(
        |(name, container_id, role, after, state, last_state)| ContainerView {
            name,
            container_id,
            role,
            after,
            state,
            last_state,
        },
    )
}

/// What a container waits for: mostly one that there is.
fn after() -> impl Strategy<Value = After> {
    let until = proptest::sample::select(vec![Until::Start, Until::Complete, Until::Success]);
    let container = prop_oneof![3 => Just("a".to_owned()), 1 => Just("b".to_owned())];
    (container, until, option::of(0_u32..600)).prop_map(|(container, until, seconds)| After {
        container,
        until,
        seconds,
    })
}

fn condition() -> impl Strategy<Value = PodCondition> {
    let kind = proptest::sample::select(CONDITIONS.as_slice()).prop_map(str::to_owned);
    (kind, any::<bool>(), word(), message(), option::of(time())).prop_map(
        |(kind, status, reason, message, since)| PodCondition { kind, status, reason, message, since },
    )
}

fn pod() -> impl Strategy<Value = PodView> {
    let meta = (
        option::of(time()),
        option::weighted(0.3, time()),
        option::of(any::<i64>()),
        option::weighted(0.9, Just("n".to_owned())),
        (option::of(1_i64..3), option::of(1_i64..3)),
    );
    let status = (proptest::sample::select(PHASES.as_slice()), option::weighted(0.3, word()), message());
    let lists = (vec(condition(), 0..4), vec(container(), 0..3), vec(container(), 0..4));
    (meta, status, lists).prop_map(|(meta, status, lists)| PodView {
        name: "pod".to_owned(),
        uid: "uid".to_owned(),
        attempt: 1,
        created_at: meta.0,
        deleted_at: meta.1,
        deletion_grace_seconds: meta.2,
        node_name: meta.3,
        generation: meta.4.0,
        observed_generation: meta.4.1,
        phase: status.0,
        reason: status.1.flatten(),
        message: status.2,
        conditions: lists.0,
        init_containers: lists.1,
        containers: lists.2,
        ..PodView::default()
    })
}

fn node() -> impl Strategy<Value = Option<NodeView>> {
    let taints = [
        "node.kubernetes.io/out-of-service",
        "node.kubernetes.io/unreachable",
        "karpenter.sh/disrupted",
        "example.com/gpu",
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), proptest::bool::weighted(0.9));
    let taint = proptest::sample::select(taints.to_vec()).prop_map(str::to_owned);
    option::weighted(
        0.9,
        ("\\PC{0,12}", flags, option::of(time()), vec(taint, 0..2)).prop_map(
            |(instance, flags, ready_since, taints)| NodeView {
                name: "n".to_owned(),
                instance,
                exists: flags.3,
                deleting: flags.0,
                ready: flags.1,
                ready_since,
                unschedulable: flags.2,
                taints,
                ..NodeView::default()
            },
        ),
    )
}

fn tolerances() -> impl Strategy<Value = Tolerances> {
    option::of(0_i64..600).prop_map(|lost| Tolerances {
        node_lost: lost.map(SignedDuration::from_secs),
        ..Tolerances::default()
    })
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// What holds for every ending.
fn check(ending: &Ending) -> Result<(), TestCaseError> {
    prop_assert!(!ending.status_reason.is_empty());
    prop_assert!(ending.status_reason.chars().count() <= STATUS_REASON_LIMIT);
    if let Some(reason) = &ending.container.reason {
        prop_assert!(reason.chars().count() <= REASON_LIMIT && is_plain(reason), "{reason:?}");
    }
    if let Some(tail) = &ending.log_tail {
        prop_assert!(
            !tail.is_empty() && tail.len() <= LOG_TAIL_LIMIT && is_plain(&tail.replace(['\n', '\t'], ""))
        );
    }
    prop_assert!(ending.stopped_at.is_some());
    prop_assert!(ending.started_at <= ending.stopped_at);
    prop_assert!(ending.started_at.is_none_or(|t| t > Timestamp::UNIX_EPOCH));
    match ending.class {
        Class::Succeeded => prop_assert_eq!(ending.container.exit_code, Some(0)),
        Class::Image | Class::Configuration | Class::Rejected | Class::Unplaced => {
            prop_assert_eq!(ending.container.exit_code, None);
        }
        Class::Host => prop_assert!(ending.status_reason.starts_with("Host EC2 (instance ")),
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn a_look_is_total_and_repeatable(
        pod in pod(), node in node(), instance in option::of("\\PC{0,12}"),
        tolerances in tolerances(), now in time(),
    ) {
        let sight = look(&pod, node.as_ref(), instance.as_deref(), &tolerances, now);
        prop_assert_eq!(&sight, &look(&pod, node.as_ref(), instance.as_deref(), &tolerances, now));
        if let Sight::Ended(ending) = &sight {
            check(ending)?;
        }
        if matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
            prop_assert!(matches!(sight, Sight::Ended(_)), "a terminal phase is an end: {sight:?}");
        }
        if pod.node_name.is_none() && pod.phase != PodPhase::Succeeded {
            let unplaced = matches!(&sight, Sight::Ended(e) if e.class == Class::Unplaced);
            prop_assert!(unplaced || sight == Sight::Unbound, "{sight:?}");
        }
    }

    #[test]
    fn what_ended_stays_ended(
        pod in pod(), node in node(), tolerances in tolerances(), now in time(), later in time(),
    ) {
        let (now, later) = (now.min(later), now.max(later));
        let first = look(&pod, node.as_ref(), None, &tolerances, now);
        let second = look(&pod, node.as_ref(), None, &tolerances, later);
        if let Sight::Ended(first) = first {
            let Sight::Ended(second) = second else { return Err(TestCaseError::fail("it came back")) };
            prop_assert!(first.stopped_at <= second.stopped_at);
            prop_assert_eq!(Ending { stopped_at: None, ..first }, Ending { stopped_at: None, ..second });
        }
    }

    #[test]
    fn to_look_again_is_worth_it(
        pod in pod(), node in node(), tolerances in tolerances(), now in time(),
    ) {
        let see = |now| look(&pod, node.as_ref(), None, &tolerances, now);
        if let Sight::Starting { until: Some(until), .. } | Sight::Running { until: Some(until), .. } = see(now) {
            prop_assert!(until > now);
            let then = see(until);
            let Sight::Ended(ending) = then else { return Err(TestCaseError::fail("nothing happened")) };
            prop_assert!(ending.stopped_at >= Some(until));
        }
    }

    #[test]
    fn a_vanished_pod_ends(
        started in option::of(time()), node in node(), instance in option::of("\\PC{0,12}"),
        bound in any::<bool>(), now in time(),
    ) {
        let ending = vanished(started, node.as_ref(), instance.as_deref(), bound, now);
        check(&ending)?;
        prop_assert_eq!(ending.class == Class::Unplaced, !bound);
    }

    #[test]
    fn any_answer_to_a_create_is_understood(code in any::<u16>(), reason in word(), message in message()) {
        let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
        let refusal = classify_create(code, &reason, &message);
        if let Some(verdict) = refusal.verdict() {
            prop_assert!(is_plain(&verdict) && verdict.chars().count() <= STATUS_REASON_LIMIT);
        }
    }
}
