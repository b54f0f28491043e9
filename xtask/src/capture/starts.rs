//! Pods that do not start (W1–W13): images that cannot be had, things that are missing.

use anyhow::Result;
use serde_json::{Value, json};

use super::ends::unknown_image;
use super::moment::{self, Moment, is, runs as is_up, waits};
use super::registry;
use super::stage::{container, sidecar, sleep, with};
use super::story::{Story, one, story};
use crate::cluster::Cluster;

/// All of them.
pub(super) fn all() -> Vec<Story> {
    let mut all = pulls();
    all.extend(missing());
    all.extend(inits());
    all
}

fn image(name: &str) -> Value {
    json!({"containers": [with(container("main", "exit 0"), json!({"image": name, "imagePullPolicy": "Always"}))]})
}

fn pull_failed() -> Moment {
    waits("main", "ErrImagePull")
}

/// Images that the registry does not give.
fn pulls() -> Vec<Story> {
    let answer = |fixture: &'static str, answer: &'static str| {
        story([fixture], move |stage| {
            let image = image(&format!("{}/{answer}/image:1", registry::address(stage.cluster)?));
            stage.picture(fixture, &stage.pod(&fixture.to_lowercase(), image)?, pull_failed())
        })
    };
    let both = |first: &'static str, then: &'static str, name: fn(&Cluster) -> Result<String>| {
        story([first, then], move |stage| {
            let pod = stage.pod(&first.to_lowercase(), image(&name(stage.cluster)?))?;
            stage.picture(first, &pod, pull_failed())?;
            stage.picture(then, &pod, waits("main", "ImagePullBackOff"))
        })
    };
    vec![
        both("W1-not-found", "W2-not-found", |_| Ok("no-container-image".to_owned())),
        both("W1-registry-down", "W2-registry-down", |cluster| Ok(registry::closed(cluster)? + "/a:404")),
        both("W1-registry-away", "W2-registry-away", |cluster| Ok(registry::away(cluster)? + "/a:1")),
        answer("W1-missing", "missing"),
        answer("W1-denied", "unauthorized"),
        answer("W1-forbidden", "forbidden"),
        answer("W1-limited", "limited"),
        answer("W1-broken", "broken"),
        answer("W1-cut", "cut"),
        answer("W1-other-platform", "other-platform"),
        story(["W12-pulling"], |stage| {
            let image = image(&format!("{}/slow/image:1", registry::address(stage.cluster)?));
            let moment = waits("main", "ContainerCreating").and(is("PodReadyToStartContainers", "True"));
            stage.picture("W12-pulling", &stage.pod("w12-pulling", image)?, moment)
        }),
        one("W5-invalid-name", image("Not/Valid:"), || waits("main", "InvalidImageName")),
        one("W6-never-pull", with_main(json!({"image": "busybox:1.36", "imagePullPolicy": "Never"})), || {
            waits("main", "ErrImageNeverPull")
        }),
        one(
            "W1-one-of-two-containers",
            json!({"containers": [container("main", &sleep(0)), unknown_image("helper")]}),
            || is_up("main").and(waits("helper", "ErrImagePull")),
        ),
        one(
            "W1-of-a-helper",
            json!({"containers": [container("main", &sleep(0)), unknown_image("helper")]}),
            || is_up("main").and(waits("helper", "ErrImagePull")),
        ),
    ]
}

fn with_main(more: Value) -> Value {
    json!({"containers": [with(container("main", "exit 0"), more)]})
}

/// Things that the pod needs and that are not there.
fn missing() -> Vec<Story> {
    let from = |kind: &str, name: &str, key: &str| {
        with_main(json!({"env": [{"name": "E", "valueFrom": {kind: {"name": name, "key": key}}}]}))
    };
    let config = || waits("main", "CreateContainerConfigError");
    let stays = || waits("main", "ContainerCreating").and(is("PodReadyToStartContainers", "False"));
    let volume = |source: Value| {
        let mut spec = with_main(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        spec["volumes"] = json!([with(json!({"name": "v"}), source)]);
        spec
    };
    let secret = from("secretKeyRef", "s", "k");
    vec![
        one("W8-secret-missing", secret, config),
        one("W8-config-map-missing", from("configMapKeyRef", "c", "k"), config),
        one("W8-key-missing", from("configMapKeyRef", "kube-root-ca.crt", "k"), config),
        one("W8-runs-as-root", with_main(json!({"securityContext": {"runAsNonRoot": true}})), config),
        one(
            "W9-create-failed",
            with_main(
                json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "nope.json"}}}),
            ),
            || waits("main", "CreateContainerError"),
        ),
        one("W12-volume-or-network", volume(json!({"secret": {"secretName": "s"}})), stays),
        one("W12-config-map-volume", volume(json!({"configMap": {"name": "c"}})), stays),
        one(
            "W12-host-path-missing",
            volume(json!({"hostPath": {"path": "/nope", "type": "Directory"}})),
            stays,
        ),
    ]
}

/// Init containers and sidecars at which the start stands.
fn inits() -> Vec<Story> {
    let behind = |inits: Value, main: Value| json!({"initContainers": inits, "containers": [main]});
    let main = || container("main", "exit 0");
    let not_ready = json!({"startupProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1000}});
    vec![
        one("W13-init-container-at-work", behind(json!([container("fetch", &sleep(0))]), main()), || {
            is_up("fetch")
        }),
        one(
            "W13-sidecar-not-ready",
            behind(json!([with(sidecar("fluent-bit", &sleep(0)), not_ready)]), main()),
            || is_up("fluent-bit").and(waits("main", "PodInitializing")),
        ),
        one("W1-image-of-an-init-container", behind(json!([unknown_image("fetch")]), main()), || {
            waits("fetch", "ErrImagePull")
        }),
        one(
            "W1-of-the-second-init-container",
            behind(json!([container("first", "sleep 2"), unknown_image("second")]), main()),
            || waits("second", "ErrImagePull"),
        ),
        one(
            "W1-after-a-long-init-container",
            behind(json!([container("fetch", "sleep 3")]), unknown_image("main")),
            pull_failed,
        ),
        story(["T7a-deleted-while-pulling"], |stage| {
            let pod = stage.pod("t7a-deleted-while-pulling", image("no-container-image"))?;
            stage.until(&pod, &pull_failed())?;
            stage.delete(&pod)?;
            stage.picture("T7a-deleted-while-pulling", &pod, moment::ended())
        }),
        story(["T7a-evicted-while-pulling"], |stage| {
            let pod = stage.pod("t7a-evicted-while-pulling", image("no-container-image"))?;
            stage.until(&pod, &pull_failed())?;
            stage.evict(&pod)?;
            stage.picture("T7a-evicted-while-pulling", &pod, moment::ended())
        }),
        story(["D12-pending-and-deleted"], |stage| {
            let init = json!([container("fetch", "trap 'sleep 3; exit 0' TERM; sleep 1000 & wait")]);
            let spec = json!({"initContainers": init, "containers": [container("main", "exit 0")]});
            let pod = stage.pod("d12-pending-and-deleted", spec)?;
            stage.until(&pod, &is_up("fetch"))?;
            stage.delete(&pod)?;
            stage.picture("D12-pending-and-deleted", &pod, moment::is_deleted())
        }),
    ]
}
