//! Containers that run and end (T1–T13, D9, D10), and pods that the kubelet refuses (R1, R2, R7):
//! stories of one pod.

use serde_json::{Value, json};

use super::moment::{
    self, ended, failed, has_ended, is, is_waiting, phase, runs as is_up, waits, was_restarted,
};
use super::stage::{container, runs, sidecar, sleep, with};
use super::story::{Story, one, story};

/// Ends of containers.
pub(super) fn of_containers() -> Vec<Story> {
    let beside = |name: &str, init: Value| json!({"initContainers": [init], "containers": [container(name, "exit 0")]});
    vec![
        one("T1-exit-0", runs("exit 0"), ended),
        one("T1-exit-0-while-a-sidecar-flushes", flushes("exit 0"), || {
            phase("Running").and(has_ended("main"))
        }),
        one("T2-exit-3", runs("echo reading input; echo no such record; exit 3"), ended),
        one("T2-exit-255-of-its-own", runs("exit 255"), ended),
        one("T2-still-said-to-run", runs("exit 3"), || phase("Running").and(has_ended("main"))),
        one("T3-killed-by-signal", signal("SEGV"), ended),
        one("T3-killed", signal("KILL"), ended),
        one("T3-aborted", signal("ABRT"), ended),
        one("T3-terminated-by-itself", signal("TERM"), ended),
        one("T3-post-start-hook-failed", hook(), ended),
        one(
            "T4-memory-limit",
            json!({"containers": [with(container("main", ""), json!({"command": ["tail", "/dev/zero"]}))]}),
            ended,
        ),
        one("T4a-child-killed-main-survived", runs("tail /dev/zero; exit 0"), ended),
        one("T4a-child-killed-main-failed", runs("tail /dev/zero; exit 1"), ended),
        one("T6-command-missing", command("nope"), ended),
        one("T6-not-executable", command("/etc/passwd"), ended),
        one("T10-one-failed-one-runs", two("exit 2", &sleep(0)), || has_ended("main").and(is_up("helper"))),
        one("T10-the-earlier-end-decides", two("exit 1", "sleep 2; exit 2"), ended),
        one("T10-auxiliary-end-ends-nothing", two(&sleep(0), "exit 2"), || {
            has_ended("helper").and(is_up("main"))
        }),
        one("T10-failed-helper-does-not-fail-the-job", two("sleep 2", "exit 2"), ended),
        one("T11-init-failed", beside("main", container("fetch", "echo 404 from the store; exit 7")), ended),
        one(
            "T11-init-command-missing",
            beside("main", with(container("fetch", ""), json!({"command": ["nope"]}))),
            ended,
        ),
        one(
            "T11-init-out-of-memory",
            beside("main", with(container("fetch", ""), json!({"command": ["tail", "/dev/zero"]}))),
            ended,
        ),
        one(
            "T12-sidecar-crash-loops",
            beside("main", with(sidecar("fluent-bit", ""), json!({"command": ["nope"]}))),
            || waits("fluent-bit", "CrashLoopBackOff"),
        ),
        one(
            "T12-failed-sidecar-beside-a-running-job",
            sidecar_and("sleep 1; exit 1", container("main", &sleep(0))),
            || is_up("main").and(waits("fluent-bit", "CrashLoopBackOff")),
        ),
        one("T12-failed-sidecar-beside-a-pull", sidecar_and("exit 1", unknown_image("main")), || {
            is_waiting("main").and(waits("fluent-bit", "CrashLoopBackOff"))
        }),
        one("T13-restarted-in-place", restarts("Restart"), || phase("Running").and(was_restarted("main"))),
        one("T13-restarting-all-containers", restarts("RestartAllContainers"), || {
            phase("Running").and(was_restarted("main"))
        }),
        one(
            "D9-own-storage-limit",
            scratch("dd if=/dev/zero of=/scratch/f bs=1M count=8; sleep 1000"),
            || failed("Evicted").and(ended()),
        ),
        one("D9-before-it-started", fetch_too_much(), || failed("Evicted").and(ended())),
        one("D9-container-limit", writes_too_much(), || failed("Evicted").and(ended())),
        one("D10-active-deadline", with(runs(&sleep(143)), json!({"activeDeadlineSeconds": 3})), || {
            failed("DeadlineExceeded").and(ended())
        }),
    ]
}

/// Pods that the kubelet of their node refuses. They name their node, past the scheduler, as a pod
/// does that was bound a moment before the node changed.
pub(super) fn refused() -> Vec<Story> {
    let bound = |fixture: &'static str, spec: Value, reason: &'static str| {
        story([fixture], move |stage| {
            let spec = with(spec.clone(), json!({"nodeName": stage.node}));
            let pod = stage.pod(&fixture.to_lowercase(), spec)?;
            stage.picture(fixture, &pod, failed(reason))
        })
    };
    let asks = |what: Value| json!({"containers": [with(container("main", "exit 0"), json!({"resources": {"requests": what, "limits": what}}))]});
    let also = |more: Value| with(runs("exit 0"), more);
    vec![
        bound("R1-out-of-cpu", asks(json!({"cpu": "100"})), "OutOfcpu"),
        bound("R1-out-of-memory", asks(json!({"memory": "100Ti"})), "OutOfmemory"),
        bound("R1-out-of-storage", asks(json!({"ephemeral-storage": "100Ti"})), "OutOfephemeral-storage"),
        bound("R2-node-affinity", also(json!({"nodeSelector": {"zone": "elsewhere"}})), "NodeAffinity"),
        bound(
            "R7-sysctl",
            also(json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "9000"}]}})),
            "SysctlForbidden",
        ),
        bound(
            "R7-app-armor",
            also(
                json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "nope"}}}),
            ),
            "AppArmor",
        ),
        bound("R7-other-os", also(json!({"os": {"name": "windows"}})), "PodOSNotSupported"),
        story(["R2-port-taken"], |stage| {
            let port = |name: &str| {
                let main = with(
                    container("main", &sleep(0)),
                    json!({"ports": [{"containerPort": 80, "hostPort": 7999}]}),
                );
                stage.pod(name, json!({"nodeName": stage.node, "containers": [main]}))
            };
            let first = port("r2-port-holder")?;
            stage.until(&first, &moment::running())?;
            stage.picture("R2-port-taken", &port("r2-port-taken")?, failed("NodePorts"))
        }),
    ]
}

/// Pods that are not bound (W14, W15).
pub(super) fn unbound() -> Vec<Story> {
    let elsewhere = || with(runs("exit 0"), json!({"nodeSelector": {"zone": "elsewhere"}}));
    vec![
        one("W14-unschedulable", elsewhere(), || is("PodScheduled", "False")),
        one(
            "W15-gated",
            with(runs("exit 0"), json!({"schedulingGates": [{"name": "batchyard.io/hold"}]})),
            || is("PodScheduled", "False"),
        ),
        story(["D14-deleted-before-bind", "D14-collected"], move |stage| {
            let pod = stage.pod("d14-collected", elsewhere())?;
            stage.until(&pod, &is("PodScheduled", "False"))?;
            stage.delete(&pod)?;
            stage.picture("D14-deleted-before-bind", &pod, moment::is_deleted())?;
            stage.picture("D14-collected", &pod, phase("Failed"))
        }),
    ]
}

/// The container `main` beside a sidecar that needs a while to end.
pub(super) fn flushes(lines: &str) -> Value {
    sidecar_and("trap 'sleep 4; exit 0' TERM; while :; do sleep 0.2; done", container("main", lines))
}

fn sidecar_and(lines: &str, main: Value) -> Value {
    json!({"initContainers": [sidecar("fluent-bit", lines)], "containers": [main]})
}

/// A container of an image that no registry has.
pub(super) fn unknown_image(name: &str) -> Value {
    with(container(name, "exit 0"), json!({"image": "no-container-image"}))
}

fn command(command: &str) -> Value {
    json!({"containers": [with(container("main", ""), json!({"command": [command]}))]})
}

fn two(main: &str, helper: &str) -> Value {
    json!({"containers": [container("main", main), container("helper", helper)]})
}

/// The first process of a container is spared by signals, so it must not be the first.
fn signal(name: &str) -> Value {
    with(runs(&format!("kill -{name} $$; sleep 1000")), json!({"shareProcessNamespace": true}))
}

fn hook() -> Value {
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}});
    json!({"containers": [with(container("main", &sleep(143)), hook)]})
}

/// A container whose first run fails and is followed by another within the pod.
fn restarts(action: &str) -> Value {
    let rule = json!({"action": action, "exitCodes": {"operator": "In", "values": [1]}});
    let volume = json!([{"name": "mark", "mountPath": "/mark"}]);
    let lines = format!("if [ -e /mark/f ]; then {}; fi; touch /mark/f; exit 1", sleep(0));
    let main = json!({"restartPolicy": "Never", "restartPolicyRules": [rule], "volumeMounts": volume});
    json!({"containers": [with(container("main", &lines), main)], "volumes": [{"name": "mark", "emptyDir": {}}]})
}

/// A pod with a volume of 1 MiB.
fn scratch(lines: &str) -> Value {
    let mount = json!({"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]});
    json!({"containers": [with(container("main", lines), mount)], "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]})
}

fn fetch_too_much() -> Value {
    let mount = json!({"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]});
    let fetch = with(container("fetch", "dd if=/dev/zero of=/scratch/f bs=1M count=8; sleep 1000"), mount);
    with(scratch("exit 0"), json!({"initContainers": [fetch]}))
}

fn writes_too_much() -> Value {
    let limit = json!({"resources": {"limits": {"ephemeral-storage": "1Mi"}}});
    json!({"containers": [with(container("main", "dd if=/dev/zero of=/f bs=1M count=8; sleep 1000"), limit)]})
}
