//! Pods and nodes as kubelets report them.

use batchyard_core::pod::PodView;
use batchyard_core::reason::clean::{REASON_LIMIT, STATUS_REASON_LIMIT};
use batchyard_core::termination::{Ending, Sight, Tolerances, look, vanished};
use batchyard_core::{order, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;

use crate::k8s::{observe, pods};

/// Two rows of the table of ends, and what is strange about the pods of Kubernetes anyway.
const EXAMPLES: [&str; 4] = [
    r#"{"pod": {"metadata": {"name": "job-6f8d1c7e-1", "namespace": "team", "uid": "u1", "creationTimestamp": "2026-03-01T10:00:00Z",
        "annotations": {"batchyard.io/job": "job/j1", "batchyard.io/attempt": "1", "batchyard.io/placement": "0"},
        "labels": {"batchyard.io/attempt": "1"}}, "spec": {"nodeName": "n", "containers": [{"name": "default"}]},
        "status": {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "TerminationByKubelet", "message": "The node was low on resource: memory.", "lastTransitionTime": "2026-03-01T10:00:05Z"}],
        "containerStatuses": [{"name": "default", "ready": false, "restartCount": 0, "image": "a", "imageID": "",
        "containerID": "containerd://f0", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out\nof memory",
        "startedAt": "2026-03-01T10:00:01Z", "finishedAt": "2026-03-01T10:00:04Z"}}}]}},
        "node": {"metadata": {"name": "n"}, "spec": {"providerID": "aws:///eu-west-1a/i-0123456789abcdef0"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T09:00:00Z"}]}}}"#,
    r#"{"pod": {"metadata": {"name": "p", "namespace": "team", "uid": "u2", "deletionTimestamp": "2026-03-01T10:00:09Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i", "restartPolicy": "Always"}]},
        "status": {"phase": "Pending", "reason": "Evicted", "message": "m", "startTime": "2026-03-01T10:00:00Z",
        "conditions": [{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-03-01T10:00:01Z"},
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}],
        "initContainerStatuses": [{"name": "i", "ready": true, "restartCount": 3, "image": "", "imageID": "", "started": true,
        "state": {"running": {"startedAt": "2026-03-01T10:00:02Z"}}, "lastState": {"terminated": {"exitCode": 1}}}],
        "containerStatuses": [{"name": "a", "ready": false, "restartCount": 0, "image": "a", "imageID": "",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a\": ErrImagePull: rpc error: code = NotFound desc = not found"}}},
        {"name": "b", "ready": false, "restartCount": 0, "image": "b", "imageID": "", "state": {}}]}},
        "node": {"metadata": {"name": "n"}, "spec": {"unschedulable": true, "taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}}}}"#,
    r#"{"pod": {"metadata": {"name": "p", "uid": "u3"}, "spec": {"containers": [{"name": "a",
        "resources": {"requests": {"cpu": "900m", "memory": "1e3Mi"}, "limits": {"cpu": "1.5", "nvidia.com/gpu": "2"}},
        "ports": [{"containerPort": 8080, "hostPort": 8080}]}]}, "status": {"phase": "Succeeded"}}, "node": null}"#,
    r#"{"pod": {"metadata": {"name": "p", "uid": "u4"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
        "state": {"running": {"startedAt": "2026-03-01T10:00:01Z"}}}]}}, "node": {"metadata": {"name": "n"}}}"#,
];

fn checked(ending: &Ending) {
    let length = ending.status_reason.chars().count();
    assert!(length <= STATUS_REASON_LIMIT, "{length}: {ending:?}");
    let reasons =
        ending.containers.iter().chain(&ending.init_containers).filter_map(|one| one.reason.as_ref());
    for reason in ending.container.reason.iter().chain(reasons) {
        assert!(reason.chars().count() <= REASON_LIMIT, "{reason:?}");
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
}

fn seen(view: &PodView, node: Option<&Node>) {
    let node = node.map(observe::node);
    let tolerances = Tolerances::default();
    for now in ["2026-03-01T10:00:03Z", "2026-03-02T10:00:00Z", "1970-01-01T00:00:00Z"] {
        let now: Timestamp = now.parse().expect("a time");
        let sight = look(view, node.as_ref(), Some("i-0abc"), &tolerances, now);
        assert_eq!(sight, look(view, node.as_ref(), Some("i-0abc"), &tolerances, now), "the same each time");
        if let Sight::Ended(ending) = &sight {
            checked(ending);
        }
        checked(&vanished(None, node.as_ref(), view.node_name.as_deref(), view.node_name.is_some(), now));
    }
    order::due(view);
}

fn target(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return false };
    let Ok(mut pod) = serde_json::from_value::<Pod>(value["pod"].clone()) else { return false };
    let node = serde_json::from_value::<Node>(value["node"].clone()).ok();
    for _ in 0..2 {
        if let Some(view) = observe::pod(&pod) {
            seen(&view, node.as_ref());
        }
        observe::placed(&pod);
        observe::index(&pod);
        observe::started_at(&pod);
        observe::placed_phase(&pod);
        observe::is_finished(&pod);
        observe::requests(&pod);
        observe::other_requests(&pod);
        observe::host_ports(&pod);
        // The second time as the cache has it.
        pods::trim(&mut pod);
    }
    if let Some(node) = &node {
        observe::allocatable(node);
        observe::other_allocatable(node);
        observe::gpus_named(node, "nvidia.com/gpu");
    }
    reason::invalid_job_definition(&value.to_string());
    true
}

#[test]
fn pods_as_kubelets_report_them() {
    super::run("pods", &EXAMPLES, target);
}
