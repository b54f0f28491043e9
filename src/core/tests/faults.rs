//! Cases of the fault list that a single decision answers, each by its id.

use std::collections::BTreeMap;

use batchyard_core::job::decide::{Action, Decision, Deletion, Job, Readiness, Seen, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{IntentKind, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::reason;
use batchyard_core::termination::Tolerances;
use jiff::{SignedDuration, Timestamp};

const NODE: &str = "node-1";

/// So many seconds after midnight of an ordinary day.
fn at(seconds: i64) -> Timestamp {
    let midnight: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a time");
    midnight + SignedDuration::from_secs(seconds)
}

fn container(name: &str, role: ContainerRole, state: ContainerState) -> ContainerView {
    let container_id = Some(format!("containerd://{name}"));
    ContainerView { name: name.to_owned(), role, state, container_id, ..ContainerView::default() }
}

fn running(since: i64) -> ContainerState {
    ContainerState::Running { started_at: Some(at(since)) }
}

fn ended(exit_code: i32, since: i64, until: i64) -> ContainerState {
    let reason = Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned());
    let (started_at, finished_at) = (Some(at(since)), Some(at(until)));
    ContainerState::Terminated { exit_code, reason, message: None, started_at, finished_at }
}

fn waiting(word: &str) -> ContainerState {
    ContainerState::Waiting { reason: Some(word.to_owned()), message: None }
}

/// The pod of attempt 1, bound to the node, with one essential container in this state.
fn pod(phase: PodPhase, state: ContainerState) -> PodView {
    PodView {
        name: "job-1".into(),
        uid: "pod-1".into(),
        attempt: 1,
        created_at: Some(at(0)),
        held: true,
        node_name: Some(NODE.into()),
        phase,
        containers: vec![container("default", ContainerRole::Essential, state)],
        ..PodView::default()
    }
}

/// A job that was accepted, and what has been decided about it so far.
struct Story {
    job: Job,
    record: Record,
    boot_id: Option<&'static str>,
    /// A notice says that the node is about to go.
    reclaimed: bool,
}

impl Story {
    fn new(attempts: u32) -> Self {
        let strategy = RetryStrategy { attempts, ..RetryStrategy::default() };
        let mut story = Self {
            job: Job { strategy, ..Job::default() },
            record: Record::default(),
            boot_id: None,
            reclaimed: false,
        };
        story.look(0, &[]);
        assert_eq!(story.record.phase(), Phase::Runnable);
        story
    }

    /// Decides at that time on these pods, and stores the record.
    fn look(&mut self, now: i64, pods: &[PodView]) -> Decision {
        let node = NodeView {
            name: NODE.into(),
            instance: "i-1".into(),
            exists: true,
            ready: true,
            ready_since: Some(at(-3600)),
            boot_id: self.boot_id.map(str::to_owned),
            reclaimed: self.reclaimed,
            ..NodeView::default()
        };
        let seen =
            Seen { pods: pods.to_vec(), nodes: BTreeMap::from([(NODE.to_owned(), node)]), ..Seen::default() };
        let ready = Readiness::Ready("definition:1".into());
        let decision = decide(at(now), &self.job, &ready, &self.record, &seen, &Tolerances::default());
        self.record = decision.record.clone();
        decision
    }

    fn last(&self) -> (Option<i32>, &str) {
        let attempt = self.record.attempts.last().expect("an attempt");
        (attempt.container.exit_code, &attempt.status_reason)
    }
}

fn deletes(decision: &Decision) -> bool {
    let graceful = |action: &Action| matches!(action, Action::Delete { how: Deletion::Graceful, .. });
    decision.actions.iter().any(graceful)
}

/// The operator takes its pods off a node that is about to go, once, and that is the host's doing.
#[test]
fn a_pod_on_a_node_with_a_notice_is_told_to_end() {
    let running = ContainerState::Running { started_at: Some(at(1)) };
    let mut pod = pod(PodPhase::Running, running);
    pod.conditions.clear();
    let mut story = Story::new(2);
    assert!(!deletes(&story.look(2, std::slice::from_ref(&pod))));
    story.reclaimed = true;
    assert!(deletes(&story.look(3, std::slice::from_ref(&pod))));
    pod.deleted_at = Some(at(33));
    assert!(!deletes(&story.look(4, std::slice::from_ref(&pod))), "it is ending");
    let (reason, message, started_at) = (Some("Error".to_owned()), None, Some(at(1)));
    let ended =
        ContainerState::Terminated { exit_code: 143, reason, message, started_at, finished_at: Some(at(5)) };
    (pod.phase, pod.containers) =
        (PodPhase::Failed, vec![container("default", ContainerRole::Essential, ended)]);
    story.look(6, &[pod]);
    assert_eq!(story.last(), (Some(143), "Host EC2 (instance i-1) terminated."));
    assert_eq!(story.record.phase(), Phase::Runnable, "it is tried again");
}

/// A node that answers ends what is left of a pod that it loses; nobody forces it.
#[test]
fn what_is_left_of_a_pod_on_a_node_that_answers_is_left_to_it() {
    let ended = ended(143, 1, 40);
    let disrupted = PodCondition {
        kind: "DisruptionTarget".into(),
        status: true,
        reason: Some("EvictionByEvictionAPI".into()),
        since: Some(at(35)),
        ..PodCondition::default()
    };
    let mut pod = pod(PodPhase::Running, ended);
    (pod.deleted_at, pod.deletion_grace_seconds) = (Some(at(65)), Some(30));
    pod.conditions = vec![disrupted];
    pod.containers.push(container("helper", ContainerRole::Auxiliary, running(1)));
    let mut story = Story::new(1);
    let decision = story.look(41, &[pod]);
    assert!(reason::is_host_end(story.last().1), "{:?}", story.last());
    let forced = |action: &Action| matches!(action, Action::Delete { how: Deletion::Forced, .. });
    assert!(!decision.actions.iter().any(forced), "{:?}", decision.actions);
}

/// Statuses at their largest stay far below what etcd takes (1.5 MiB) and what a watch likes.
#[test]
fn e4_a_record_at_its_largest_is_small() {
    let mut story = Story::new(10);
    let long = "y".repeat(63);
    let mut made = 0_u32;
    let mut next = |story: &Story, phase, state| {
        made += 1;
        let (attempt, placement) = (story.record.next_attempt(), story.record.next_placement());
        let (name, uid) = (format!("{}{made:03}", &long[..60]), format!("{made:036}"));
        let compute_environment = Some("e".repeat(253));
        let mut pod = PodView { name, uid, attempt, placement, compute_environment, ..pod(phase, state) };
        pod.conditions.clear();
        pod
    };
    while !story.record.phase().is_terminal() {
        for _ in 0..40 {
            // Withdrawn before it was bound.
            let mut lost = next(&story, PodPhase::Pending, ContainerState::Unknown);
            (lost.node_name, lost.deleted_at) = (None, Some(at(1)));
            story.look(1, &[lost]);
        }
        let message = Some("\u{1F600}\"\\\n".repeat(1000));
        let state = ContainerState::Terminated {
            exit_code: -2_147_483_648,
            reason: Some("R".repeat(4096)),
            message,
            started_at: Some(at(1)),
            finished_at: Some(at(2)),
        };
        let mut failed = next(&story, PodPhase::Failed, state);
        failed.message = Some("z".repeat(32_768));
        story.look(2, &[failed]);
    }
    assert_eq!(story.record.attempts.len(), 10);
    let bytes = serde_json::to_vec(&story.record).expect("plain data").len();
    println!("{bytes} bytes");
    assert!(bytes < 64 * 1024, "{bytes} bytes");
}

/// SIGTERM is caught and the program exits with 0: in a drain it has succeeded; when the job was to end, it has not.
#[test]
fn g12_exit_zero_after_sigterm() {
    for (order, want) in [(None, Phase::Succeeded), (Some("enough"), Phase::Failed)] {
        let mut story = Story::new(3);
        let mut pod = pod(PodPhase::Running, running(5));
        story.look(6, &[pod.clone()]);
        story.job.terminate = order.map(str::to_owned);
        pod.deleted_at = Some(at(40));
        pod.deletion_grace_seconds = Some(30);
        story.look(10, &[pod.clone()]);
        (pod.phase, pod.containers[0].state) = (PodPhase::Succeeded, ended(0, 5, 12));
        story.look(13, &[pod]);
        assert_eq!(story.record.phase(), want, "{order:?}: {:?}", story.record);
        assert_eq!(story.last().0, Some(0));
    }
}

/// An essential container ends while another runs on: that is the attempt's end, and the rest is stopped.
#[test]
fn g13_the_end_of_an_essential_container_ends_the_attempt() {
    for (role, code, phase) in [
        (ContainerRole::Auxiliary, 0, Phase::Succeeded),
        (ContainerRole::Auxiliary, 7, Phase::Failed),
        (ContainerRole::Essential, 7, Phase::Failed),
        (ContainerRole::Essential, 0, Phase::Succeeded),
    ] {
        let mut story = Story::new(1);
        let mut pod = pod(PodPhase::Running, ended(code, 5, 9));
        pod.containers.push(container("other", role, running(5)));
        let decision = story.look(10, &[pod]);
        assert_eq!(story.record.phase(), phase, "{role:?} {code}");
        assert_eq!(story.last().0, Some(code));
        assert!(deletes(&decision), "what runs on is stopped: {:?}", decision.actions);
    }
    // The end of another container alone ends nothing.
    let mut story = Story::new(1);
    let mut pod = pod(PodPhase::Running, running(5));
    pod.containers.push(container("other", ContainerRole::Auxiliary, ended(1, 5, 9)));
    assert!(story.look(10, &[pod]).actions.is_empty());
    assert_eq!(story.record.phase(), Phase::Running);
}

/// Init containers that fail or hang, sidecars that crash for ever or never end.
#[test]
fn g14_init_containers_and_sidecars() {
    let with_init = |role, state, main, phase| {
        let mut pod = pod(phase, main);
        pod.init_containers.push(container("first", role, state));
        pod
    };
    // An init container fails.
    let mut story = Story::new(1);
    let failed = with_init(ContainerRole::Init, ended(3, 1, 2), waiting("PodInitializing"), PodPhase::Failed);
    story.look(3, &[failed]);
    assert_eq!((story.record.phase(), story.last().0), (Phase::Failed, Some(3)));
    // One hangs: it may work for as long as it likes, the job is STARTING.
    let mut story = Story::new(1);
    let hangs = with_init(ContainerRole::Init, running(1), waiting("PodInitializing"), PodPhase::Pending);
    story.look(100_000, &[hangs]);
    assert_eq!(story.record.phase(), Phase::Starting);
    // A sidecar crashes over and over before the job can start: too long is too long.
    let mut story = Story::new(1);
    let crashes = with_init(
        ContainerRole::Sidecar,
        waiting("CrashLoopBackOff"),
        waiting("PodInitializing"),
        PodPhase::Pending,
    );
    let start = Tolerances::default().start.as_secs();
    let wake = story.look(10, std::slice::from_ref(&crashes)).wake.expect("the end of the patience");
    assert_eq!((story.record.phase(), wake), (Phase::Starting, at(start)));
    story.look(start, &[crashes]);
    assert_eq!((story.record.phase(), story.last().1), (Phase::Failed, reason::FAILED_TO_START));
    // A sidecar runs on when the job has ended.
    let mut story = Story::new(1);
    let flushes = with_init(ContainerRole::Sidecar, running(1), ended(0, 2, 9), PodPhase::Running);
    let decision = story.look(10, &[flushes]);
    assert_eq!(story.record.phase(), Phase::Succeeded);
    assert!(!deletes(&decision), "the kubelet ends it, and it may flush until then");
}

/// A log sidecar that does not start costs the job its pod and no attempt; one that has let others begin costs nothing.
/// The helper that follows the output through the API is a part of it: a pod waits no longer for it.
#[test]
fn a_log_sidecar_s_helper_holds_up_its_job_no_longer() {
    let pod_with = |helper, main, phase| {
        let mut pod = pod(phase, main);
        let kind = "PodReadyToStartContainers".to_owned();
        pod.conditions.push(PodCondition {
            kind,
            status: true,
            since: Some(at(5)),
            ..PodCondition::default()
        });
        pod.init_containers.push(container("batchyard-log", ContainerRole::Sidecar, running(6)));
        pod.init_containers.push(ContainerView {
            container_id: None,
            ..container("batchyard-log-follow", ContainerRole::Sidecar, helper)
        });
        pod
    };
    let mut story = Story::new(1);
    let missing = pod_with(waiting("ImagePullBackOff"), waiting("PodInitializing"), PodPhase::Pending);
    let decision = story.look(66, &[missing]);
    assert_eq!((story.record.phase(), story.record.attempts.len()), (Phase::Runnable, 0));
    assert!(deletes(&decision));
    let why = "Log sidecar did not start within 60 s: ImagePullBackOff";
    assert_eq!(story.record.placements[0].status_reason, why);
    // Once the job has begun nothing of it matters.
    let mut story = Story::new(1);
    story.look(10_000, &[pod_with(waiting("CrashLoopBackOff"), running(7), PodPhase::Running)]);
    assert_eq!(story.record.phase(), Phase::Running);
}

#[test]
fn a_log_sidecar_decides_nothing_about_its_job() {
    let ready = || PodCondition {
        kind: "PodReadyToStartContainers".to_owned(),
        status: true,
        since: Some(at(5)),
        ..PodCondition::default()
    };
    let with_log = |state, main, phase| {
        let mut pod = pod(phase, main);
        pod.conditions.push(ready());
        pod.init_containers.push(ContainerView {
            container_id: None,
            ..container("batchyard-log", ContainerRole::Sidecar, state)
        });
        pod
    };
    let mut story = Story::new(1);
    let missing = with_log(waiting("ImagePullBackOff"), waiting("PodInitializing"), PodPhase::Pending);
    let wake = story.look(10, std::slice::from_ref(&missing)).wake.expect("the end of the patience");
    assert_eq!((story.record.phase(), wake), (Phase::Starting, at(65)));
    let decision = story.look(65, std::slice::from_ref(&missing));
    assert_eq!((story.record.phase(), story.record.attempts.len()), (Phase::Runnable, 0));
    assert!(deletes(&decision));
    let lost = &story.record.placements[0];
    assert_eq!(lost.status_reason, "Log sidecar did not start within 60 s: ImagePullBackOff");
    assert!(reason::logs::is_sidecar_late(&lost.status_reason));
    assert_eq!((story.record.next_attempt(), story.record.next_placement()), (1, 1));
    // Without a sandbox the node is at fault, and it has the usual time.
    let mut story = Story::new(1);
    let mut unready = missing;
    unready.conditions.clear();
    story.look(65, &[unready]);
    assert_eq!(story.record.phase(), Phase::Starting);
    // An init container of the job's works for as long as it likes, whatever becomes of the sidecar.
    let mut story = Story::new(1);
    let mut works = with_log(waiting("CrashLoopBackOff"), waiting("PodInitializing"), PodPhase::Pending);
    works.init_containers.push(container("first", ContainerRole::Init, running(6)));
    story.look(10_000, &[works]);
    assert_eq!(story.record.phase(), Phase::Starting);
    // It crashes while the job runs.
    let mut story = Story::new(1);
    let crashes = with_log(waiting("CrashLoopBackOff"), running(6), PodPhase::Running);
    story.look(10_000, &[crashes]);
    assert_eq!(story.record.phase(), Phase::Running);
}

/// Kubelets have turned Succeeded into Failed and back; the first word counts, by the pod's uid.
#[test]
fn g16_the_first_end_that_is_seen_counts() {
    for (first, then) in [(0, 1), (1, 0)] {
        let mut story = Story::new(1);
        let phase = |code| if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
        story.look(6, &[pod(phase(first), ended(first, 1, 5))]);
        let record = story.record.clone();
        assert!(record.phase().is_terminal());
        story.look(7, &[pod(phase(then), ended(then, 1, 5))]);
        assert_eq!(story.record, record);
    }
    // Also while the job goes on with another attempt.
    let mut story = Story::new(2);
    let failed = pod(PodPhase::Failed, ended(1, 1, 5));
    story.look(6, &[failed]);
    story.look(7, &[pod(PodPhase::Succeeded, ended(0, 1, 5))]);
    assert_eq!((story.record.phase(), story.record.attempts.len()), (Phase::Runnable, 1));
}

/// A pod that was edited is known by its uid once it is on record.
#[test]
fn g10_a_pod_on_record_is_known_by_its_uid() {
    let mut story = Story::new(2);
    let mut pod = pod(PodPhase::Running, running(5));
    story.look(6, &[pod.clone()]);
    (pod.attempt, pod.placement, pod.compute_environment) = (9, 9, None);
    story.look(7, &[pod.clone()]);
    assert_eq!(story.record.phase(), Phase::Running);
    (pod.phase, pod.containers[0].state) = (PodPhase::Succeeded, ended(0, 5, 8));
    story.look(9, &[pod]);
    assert_eq!((story.record.phase(), story.record.attempts.len()), (Phase::Succeeded, 1));
    assert_eq!(story.record.attempts[0].attempt, 1);
}

/// One order is carried out; a second one, or one after the end, changes nothing.
#[test]
fn k3_of_two_orders_the_first_one_counts() {
    let mut story = Story::new(3);
    let mut pod = pod(PodPhase::Running, running(5));
    story.look(6, &[pod.clone()]);
    story.job.cancel = Some("too late for this".into());
    assert!(story.look(7, &[pod.clone()]).actions.is_empty());
    story.job.terminate = Some("first".into());
    assert!(deletes(&story.look(8, &[pod.clone()])));
    story.job.terminate = Some("second".into());
    (pod.deleted_at, pod.deletion_grace_seconds) = (Some(at(38)), Some(30));
    assert!(story.look(9, &[pod.clone()]).actions.is_empty(), "asked once");
    (pod.phase, pod.containers[0].state) = (PodPhase::Failed, ended(143, 5, 10));
    story.look(11, &[pod.clone()]);
    assert_eq!(story.record.status_reason.as_deref(), Some("first"));
    assert_eq!((story.record.is_terminated, story.record.is_cancelled), (Some(true), None));
    let record = story.record.clone();
    story.job.terminate = Some("third".into());
    pod.held = false;
    assert!(story.look(12, &[pod]).actions.is_empty());
    assert_eq!(story.record, record);
}

/// The operator's clock jumps back: nothing ends, nothing begins anew, no time is negative.
#[test]
fn l1_a_clock_that_jumps_back_ends_nothing() {
    let mut story = Story::new(1);
    story.job.timeout = Some(SignedDuration::from_secs(60));
    let mut pod = pod(PodPhase::Running, running(3600));
    let wake = story.look(3610, &[pod.clone()]).wake;
    assert_eq!(wake, Some(at(3660)));
    let before = story.record.clone();
    let decision = story.look(10, &[pod.clone()]);
    assert_eq!((&story.record, decision.wake), (&before, wake), "an hour back");
    assert!(decision.actions.is_empty());
    (pod.phase, pod.containers[0].state) = (PodPhase::Succeeded, ended(0, 3600, 3620));
    story.look(11, &[pod]);
    let (started, stopped) = (story.record.started_at, story.record.stopped_at);
    assert_eq!((started, stopped), (Some(at(3600)), Some(at(3620))), "the kubelet's times stand");
}

/// A kubelet's clock is wrong: no panic, no end before the beginning, no timeout that has not passed.
#[test]
fn l2_a_kubelets_clock_may_be_wrong() {
    let mut story = Story::new(1);
    story.job.timeout = Some(SignedDuration::from_secs(60));
    let decision = story.look(100, &[pod(PodPhase::Running, running(700))]);
    assert_eq!((story.record.phase(), decision.wake), (Phase::Running, Some(at(760))), "ten minutes ahead");
    story.look(101, &[pod(PodPhase::Failed, ended(1, 700, 90))]);
    let attempt = &story.record.attempts[0];
    assert_eq!((attempt.started_at, attempt.stopped_at), (Some(at(700)), Some(at(700))));
    // At the ends of time.
    for moment in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        let mut story = Story::new(1);
        story.job.timeout = Some(SignedDuration::MAX);
        let state = ContainerState::Running { started_at: Some(moment) };
        story.look(100, &[pod(PodPhase::Running, state)]);
        assert_eq!(story.record.phase(), Phase::Running, "{moment}");
    }
}

/// The timeout counts from the container's start, not from the pull, and ends the attempt at its very second.
#[test]
fn l3_the_timeout_counts_from_the_start_of_the_container() {
    let mut story = Story::new(3);
    story.job.timeout = Some(SignedDuration::from_secs(60));
    let pulls = pod(PodPhase::Pending, waiting("ContainerCreating"));
    let decision = story.look(600, &[pulls]);
    assert!(story.record.intent.is_none() && decision.actions.is_empty(), "pulling for ten minutes");
    let runs = pod(PodPhase::Running, running(600));
    let decision = story.look(659, std::slice::from_ref(&runs));
    assert_eq!((decision.wake, decision.actions.len()), (Some(at(660)), 0), "a second before");
    let decision = story.look(660, std::slice::from_ref(&runs));
    let intent = story.record.intent.clone().expect("an order");
    assert_eq!((intent.kind, intent.at), (IntentKind::Timeout, at(660)));
    assert!(deletes(&decision));
    let mut killed = runs;
    (killed.phase, killed.containers[0].state) = (PodPhase::Failed, ended(137, 600, 690));
    killed.deleted_at = Some(at(690));
    story.look(691, &[killed]);
    assert_eq!((story.record.phase(), story.record.attempts.len()), (Phase::Failed, 1), "never retried");
    assert_eq!(story.last(), (Some(137), reason::TIMED_OUT));
}

/// All times are UTC and all durations are seconds: the night of a change to summer time is like any other.
#[test]
fn l4_no_time_zone_matters() {
    let start: Timestamp = "2026-03-29T00:59:59Z".parse().expect("a time");
    let midnight = at(0);
    let since = start.duration_since(midnight).as_secs();
    let mut story = Story::new(1);
    story.job.timeout = Some(SignedDuration::from_hours(2));
    let decision = story.look(since + 1, &[pod(PodPhase::Running, running(since))]);
    let wake = decision.wake.expect("a deadline");
    assert_eq!(wake.to_string(), "2026-03-29T02:59:59Z");
    let told = serde_json::to_string(&story.record).expect("plain data");
    assert!(told.contains("\"2026-03-29T00:59:59Z\""), "{told}");
}

/// A machine reboots so fast that its node never stops being Ready: the boot id tells, noted at bind on a write that
/// is made anyway.
#[test]
fn f7_a_reboot_that_no_condition_shows() {
    for (before, after, host) in [
        (Some("a"), Some("b"), true),
        (Some("a"), Some("a"), false),
        (None, Some("b"), false),
        (Some("a"), None, false),
    ] {
        let mut story = Story::new(1);
        story.boot_id = before;
        story.look(2, &[pod(PodPhase::Pending, waiting("ContainerCreating"))]);
        assert_eq!(story.record.current.as_ref().and_then(|c| c.boot_id.as_deref()), before);
        story.look(6, &[pod(PodPhase::Running, running(5))]);
        let record = story.record.clone();
        story.boot_id = after;
        story.look(20, &[pod(PodPhase::Running, running(5))]);
        assert_eq!(story.record, record, "what was noted at bind stays");
        let lost = ContainerState::Terminated {
            exit_code: 255,
            reason: Some("Unknown".into()),
            message: None,
            started_at: Some(at(5)),
            finished_at: Some(at(21)),
        };
        story.look(22, &[pod(PodPhase::Failed, lost)]);
        let want = if host { "Host EC2 (instance i-1) terminated." } else { reason::UNKNOWN };
        assert_eq!(story.last(), (None, want), "{before:?} {after:?}");
    }
}
