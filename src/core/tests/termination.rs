//! The termination table, row by row: each file in `fixtures/termination` is a pod's status as
//! the API server shows it, and what it means.
//!
//! `cargo xtask capture` took most of them from a real cluster and compares them with it; the
//! others say in `why` what kept them from being captured. What is wanted is always written by
//! hand; only its times follow a new capture, by `UPDATE=1`.
//!
//! A fixture has `row`, `source`, `kubernetes`, the pod's `metadata`, `spec` and `status`, the
//! time of the look `now` and what is wanted then in `want`; optional are `then` (later looks at
//! the same pod), `node` (absent: there is no Node object), `instance` (as captured at bind),
//! `auxiliary` (names of containers that are not essential), `tolerances.nodeLost`, `note`, and
//! `vanished` in place of the pod when its object is gone.

#[path = "support/pod_json.rs"]
mod pod_json;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use batchyard_core::pod::{
    ContainerRole, ContainerState, ContainerView, NodeView, PodCondition, PodPhase, PodView,
};
use batchyard_core::termination::{Class, Ending, Sight, Tolerances, look, vanished};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// The `source` of what `cargo xtask capture` took from a real cluster.
const CAPTURED: &str = "cargo xtask capture";

struct Fixture {
    file: String,
    value: Value,
}

impl Fixture {
    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/termination")
    }

    fn all() -> Vec<Self> {
        let mut all: Vec<Self> = std::fs::read_dir(Self::folder())
            .expect("the fixtures' folder")
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let file = path.file_name().expect("a name").to_string_lossy().into_owned();
                let text = std::fs::read_to_string(&path).expect("text");
                let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
                Self { file, value }
            })
            .collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        all
    }

    fn save(&self) {
        let path = Self::folder().join(&self.file);
        let text = serde_json::to_string_pretty(&self.value).expect("plain data") + "\n";
        std::fs::write(path, text).expect("a fixture can be written");
    }

    fn row(&self) -> &str {
        self.value["row"].as_str().expect("row")
    }

    fn tolerances(&self) -> Tolerances {
        let node_lost = self.value["tolerances"]["nodeLost"].as_i64().map(SignedDuration::from_secs);
        Tolerances { node_lost, ..Tolerances::default() }
    }

    fn look(&self, now: &Value) -> Sight {
        let now = pod_json::time(now).expect("now");
        let node = pod_json::node(&self.value["node"]);
        let instance = self.value["instance"].as_str();
        if let Some(gone) = self.value["vanished"].as_object() {
            let started_at = gone.get("startedAt").and_then(pod_json::time);
            let was_bound = gone["wasBound"].as_bool().expect("wasBound");
            return Sight::Ended(vanished(started_at, node.as_ref(), instance, was_bound, now));
        }
        let auxiliary: Vec<&str> =
            self.value["auxiliary"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let value = &self.value;
        let pod = pod_json::pod(&value["metadata"], &value["spec"], &value["status"], &auxiliary);
        look(&pod, node.as_ref(), instance, &self.tolerances(), now)
    }
}

/// A sight in the words of the fixtures: what is absent is left out.
fn told(sight: &Sight) -> Value {
    let all = match sight {
        Sight::Unbound => json!({"sight": "Unbound"}),
        Sight::Starting { until, waiting_for } => {
            json!({"sight": "Starting", "until": until, "waitingFor": waiting_for})
        }
        Sight::Running { started_at, unreachable, until } => {
            json!({"sight": "Running", "startedAt": started_at, "unreachable": unreachable, "until": until})
        }
        Sight::Ended(Ending {
            class, status_reason, container, started_at, stopped_at, log_tail, ..
        }) => json!({
            "sight": "Ended",
            "class": format!("{class:?}"),
            "statusReason": status_reason,
            "exitCode": container.exit_code,
            "reason": container.reason,
            "startedAt": started_at,
            "stoppedAt": stopped_at,
            "logTail": log_tail,
        }),
    };
    let Value::Object(all) = all else { unreachable!() };
    Value::Object(all.into_iter().filter(|(_, v)| !v.is_null()).collect::<Map<_, _>>())
}

/// What is wanted, with the times of what is seen if they alone differ.
fn retimed(want: &Value, got: &Value) -> Option<Value> {
    let timeless = |value: &Value| {
        let Value::Object(mut members) = value.clone() else { unreachable!() };
        let had = ["startedAt", "stoppedAt", "until"].map(|time| members.remove(time).is_some());
        (members, had)
    };
    (timeless(want) == timeless(got)).then(|| got.clone())
}

#[test]
fn every_fixture_reads_as_the_table_says() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for mut fixture in Fixture::all() {
        let later = fixture.value["then"].as_array().map_or(0, Vec::len);
        let looks = std::iter::once(String::new()).chain((0..later).map(|at| format!("/then/{at}")));
        for look in looks {
            let at = |member: &str| format!("{look}/{member}");
            let now = fixture.value.pointer(&at("now")).expect("now").clone();
            let got = told(&fixture.look(&now));
            let want = fixture.value.pointer_mut(&at("want")).expect("want");
            match retimed(want, &got).filter(|_| update) {
                Some(retimed) => *want = retimed,
                None if got == *want => {}
                None => wrong.push(format!("{} at {now}\n  wanted {want}\n  got    {got}", fixture.file)),
            }
        }
        if update && fixture.value["source"] == CAPTURED {
            fixture.save();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_row_is_missing() {
    let rows = |letter: char, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let wanted: BTreeSet<String> = ["T4a", "T4b", "T7a"]
        .map(str::to_owned)
        .into_iter()
        .chain(rows('T', 13))
        .chain(rows('W', 15))
        .chain(rows('R', 7))
        .chain(rows('D', 18))
        .collect();
    let there: BTreeSet<String> = Fixture::all().iter().map(|f| f.row().to_owned()).collect();
    assert_eq!(there, wanted);
}

#[test]
fn every_fixture_says_where_it_is_from() {
    for fixture in Fixture::all() {
        assert!(fixture.file.starts_with(&format!("{}-", fixture.row())), "{}", fixture.file);
        let (source, why) = (fixture.value["source"].as_str(), fixture.value["why"].as_str());
        let version = fixture.value["kubernetes"].as_str().unwrap_or_default();
        let parts = version.trim_start_matches('v').split('.').count();
        match (source, why) {
            (Some(CAPTURED), None) => assert_eq!(parts, 3, "{}: of which Kubernetes", fixture.file),
            (Some(source), Some(why)) => {
                assert!(source.starts_with("hand-written"), "{}: {source}", fixture.file);
                assert!(!why.is_empty() && parts >= 2, "{}: why, and for which version", fixture.file);
            }
            other => panic!("{}: {other:?} says neither who captured it nor why nobody did", fixture.file),
        }
    }
}

/// A pod whose container waits like this since its sandbox was ready.
fn waiting(word: &str, message: &str) -> PodView {
    let ready = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000);
    let state = ContainerState::Waiting { reason: Some(word.into()), message: Some(message.into()) };
    PodView {
        node_name: Some("n".into()),
        created_at: Some(ready),
        containers: vec![ContainerView { state, ..ContainerView::default() }],
        ..PodView::default()
    }
}

#[test]
fn what_runtimes_say_of_pulls() {
    let denied = [
        r#"failed to pull and unpack image "r/a:1": failed to resolve reference "r/a:1": r/a:1: not found"#,
        r#"failed to resolve reference "ghcr.io/a:1": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=a: 403 Forbidden"#,
        r#"failed to resolve reference "r/a:1": unexpected status from HEAD request to https://r/v2/a/manifests/503: 401 Unauthorized"#,
        r#"failed to resolve reference "r/a:1": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"#,
        "failed to copy: httpReadSeeker: failed open: unexpected status code https://r/b: 404 Not Found - Server message: blob unknown to registry",
        "no match for platform in manifest: not found",
        "initializing source docker://r/a:1: reading manifest 1 in r/a: requested access to the resource is denied",
        "initializing source docker://r/a:1: reading manifest 1 in r/a: manifest unknown",
        "unable to retrieve auth token: invalid username/password: unauthorized: authentication required",
    ];
    let network = [
        r#"failed to resolve reference "r/a:1": failed to do request: Head "https://r/v2/a/manifests/404": dial tcp 10.0.0.9:5000: connect: connection refused"#,
        r#"failed to do request: Head "https://not-found.example/v2/": dial tcp: lookup r on 127.0.0.53:53: server misbehaving"#,
        r#"failed to do request: Head "https://r/v2/": net/http: TLS handshake timeout"#,
        r#"failed to do request: Head "https://r/v2/": EOF"#,
        "failed to copy: httpReadSeeker: failed open: unexpected EOF",
        "failed to copy: read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer",
        "unexpected status from HEAD request to https://r/v2/a/manifests/1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit",
        "unexpected status from HEAD request to https://r/v2/a/manifests/1: 503 Service Unavailable",
        "unexpected status from HEAD request to https://r/v2/a/manifests/1: 522 ",
        "pinging container registry r: received unexpected HTTP status: 502 Bad Gateway",
        "context deadline exceeded",
        "pinging container registry r: Get \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout",
        // One mirror refuses, another is down.
        "[rpc error: code = Unknown desc = 401 Unauthorized, rpc error: code = Unknown desc = dial tcp: lookup r: no such host]",
        r#"failed to pull and unpack image "denied:404": something unheard of"#,
        "failed to copy: short read: expected 404096 bytes but got 4010",
        // Unknown texts are given the longer time.
        "http: server gave HTTP response to HTTPS client",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "",
    ];
    let tolerated = |message: &str| {
        let pod = waiting("ErrImagePull", message);
        let created = pod.created_at.expect("created");
        let node = NodeView { exists: true, ready: true, ..NodeView::default() };
        match look(&pod, Some(&node), None, &Tolerances::default(), created) {
            Sight::Starting { until: Some(until), .. } => until.duration_since(created).as_secs(),
            other => panic!("{message}: {other:?}"),
        }
    };
    for message in denied {
        assert_eq!(tolerated(message), 20, "{message}");
    }
    for message in network {
        assert_eq!(tolerated(message), 300, "{message}");
    }
}

#[test]
fn an_eviction_from_a_node_that_goes_is_the_nodes_doing() {
    let well = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
    let tainted = |key: &str| NodeView { taints: vec![key.to_owned()], ..well.clone() };
    let going = [
        NodeView { exists: false, ..well.clone() },
        NodeView { deleting: true, ..well.clone() },
        NodeView { reclaimed: true, ..well.clone() },
        NodeView { unschedulable: true, ..well.clone() },
        NodeView { ready: false, ..well.clone() },
        tainted("node.kubernetes.io/out-of-service"),
        tainted("node.kubernetes.io/unreachable"),
        tainted("node.kubernetes.io/not-ready"),
        tainted("node.cloudprovider.kubernetes.io/shutdown"),
        tainted("karpenter.sh/disrupted"),
        tainted("karpenter.sh/disruption"),
        tainted("aws-node-termination-handler/spot-itn"),
        tainted("ToBeDeletedByClusterAutoscaler"),
        tainted("cloud.google.com/impending-node-termination"),
        tainted("remediator.kubernetes.azure.com/unschedulable"),
    ];
    let staying = [well.clone(), tainted("nvidia.com/gpu"), tainted("DeletionCandidateOfClusterAutoscaler")];
    let condition = PodCondition {
        kind: "DisruptionTarget".into(),
        status: true,
        reason: Some("EvictionByEvictionAPI".into()),
        message: Some("Eviction API: evicting".into()),
        since: None,
    };
    let pod = PodView { phase: PodPhase::Failed, conditions: vec![condition], ..waiting("", "") };
    let status_reason =
        |node: &NodeView| match look(&pod, Some(node), None, &Tolerances::default(), Timestamp::UNIX_EPOCH) {
            Sight::Ended(ending) => ending.status_reason,
            other => panic!("{other:?}"),
        };
    for node in going {
        assert_eq!(status_reason(&node), "Host EC2 (instance n) terminated.", "{node:?}");
    }
    for node in staying {
        assert_eq!(status_reason(&node), "Host EC2 (instance n) evicted the pod: Eviction API: evicting");
    }
}

#[test]
fn what_the_kubelet_refuses() {
    let class = |word: &str| {
        let pod = PodView {
            phase: PodPhase::Failed,
            reason: Some(word.into()),
            containers: Vec::new(),
            ..waiting("", "")
        };
        match look(&pod, None, Some("i-1"), &Tolerances::default(), Timestamp::UNIX_EPOCH) {
            Sight::Ended(ending) => (ending.class, ending.status_reason, ending.container.reason),
            other => panic!("{other:?}"),
        }
    };
    let started_nothing = |word: &str| ("Task failed to start".to_owned(), Some(word.to_owned()));
    for word in
        ["OutOfcpu", "OutOfpods", "NodePorts", "NodeName", "UnexpectedAdmissionError", "Evicted", "NewWord"]
    {
        let (text, reason) = started_nothing(word);
        assert_eq!(class(word), (Class::Rejected, text, reason));
    }
    for word in [
        "SysctlForbidden",
        "AppArmor",
        "PodOSNotSupported",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "SupplementalGroupsPolicyNotSupported",
        "PodLevelResourcesNotSupported",
        "PodFeatureUnsupported",
    ] {
        let (text, reason) = started_nothing(word);
        assert_eq!(class(word), (Class::Configuration, text, reason));
    }
    assert_eq!(class("NodeShutdown").1, "Host EC2 (instance i-1) terminated.");
}

/// A kubelet that was restarted refuses also pods that run. Their container's end may never be reported.
#[test]
fn a_pod_that_runs_is_not_refused_but_stopped() {
    let node = NodeView { name: "n".into(), exists: true, ready: true, ..NodeView::default() };
    let started = ContainerState::Running { started_at: waiting("", "").created_at };
    for (state, want) in
        [(started, Class::Host), (ContainerState::Waiting { reason: None, message: None }, Class::Rejected)]
    {
        let containers = vec![ContainerView { state, ..ContainerView::default() }];
        let reason = Some("NodeAffinity".to_owned());
        let pod = PodView { phase: PodPhase::Failed, reason, containers, ..waiting("", "") };
        match look(&pod, Some(&node), None, &Tolerances::default(), Timestamp::UNIX_EPOCH) {
            Sight::Ended(ending) => assert_eq!(ending.class, want, "{pod:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A pod whose container ended with this code and termination message.
fn ended(exit_code: i32, message: &str) -> PodView {
    let at = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000));
    let state = ContainerState::Terminated {
        exit_code,
        reason: None,
        message: Some(message.into()),
        started_at: at,
        finished_at: at,
    };
    PodView {
        phase: if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed },
        containers: vec![ContainerView { state, ..ContainerView::default() }],
        ..waiting("", "")
    }
}

/// A failed container's message is the end of its log, unless the kubelet says that it could not read it.
#[test]
fn the_log_of_a_failed_container_is_its_message() {
    let node = NodeView { exists: true, ready: true, ..NodeView::default() };
    for (exit_code, message, want) in [
        (1, "no such file", Some("no such file")),
        (1, "", None),
        (1, "Error on reading termination message from logs: failed to open log file", None),
        (0, "what the process wrote itself", None),
        (0, "", None),
    ] {
        let pod = ended(exit_code, message);
        match look(&pod, Some(&node), None, &Tolerances::default(), Timestamp::UNIX_EPOCH) {
            Sight::Ended(ending) => assert_eq!(ending.log_tail.as_deref(), want, "{exit_code} {message}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Nothing is known of the job's containers, but that one which runs before them failed.
#[test]
fn a_pod_that_is_deleted_after_its_init_container_failed_has_not_succeeded() {
    let failed = ended(1, "");
    let init = ContainerView { role: ContainerRole::Init, ..failed.containers[0].clone() };
    let at = failed.created_at.expect("created");
    let pod = PodView {
        containers: Vec::new(),
        init_containers: vec![init],
        deleted_at: Some(at - SignedDuration::from_secs(9)),
        ..failed
    };
    let node = NodeView { exists: true, ready: true, ..NodeView::default() };
    match look(&pod, Some(&node), None, &Tolerances::default(), at) {
        Sight::Ended(ending) => {
            assert_eq!((ending.class, ending.container.exit_code), (Class::Deleted, Some(1)));
        }
        other => panic!("{other:?}"),
    }
}

/// Whether an end of a class uses up an attempt, and whether the node as it is now, and no cache of it, must be asked.
#[test]
fn what_a_class_of_ends_means() {
    for (class, uses_attempt, rests_on_node) in [
        (Class::Succeeded, true, false),
        (Class::Application, true, false),
        (Class::Image, true, false),
        (Class::Configuration, true, false),
        (Class::Host, true, true),
        (Class::Deleted, true, true),
        (Class::Timeout, true, false),
        (Class::Unplaced, false, false),
        (Class::Rejected, false, false),
        (Class::Unknown, true, true),
    ] {
        assert_eq!(class.uses_attempt(), uses_attempt, "{class:?}");
        let gone = vanished(None, None, None, false, Timestamp::UNIX_EPOCH);
        let ended = Sight::Ended(Ending { class, ..gone });
        assert_eq!(ended.rests_on_node(), rests_on_node, "{class:?}");
    }
}
