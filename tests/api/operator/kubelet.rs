//! Scheduler and kubelet, played by the test: what they write about a pod, when the test says so.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::world::World;
use crate::support::wait;

/// The container of every pod that tests make.
const CONTAINER: &str = "default";

/// What the kubelet says of a container's probes.
struct Probes {
    started: bool,
    ready: bool,
    /// Since when the pod's conditions are as they are.
    since: Option<String>,
}

/// An attempt's pod by its name.
pub(crate) struct PodHandle<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: String,
}

impl PodHandle<'_> {
    fn as_kubelet(&self) -> Api<Pod> {
        Api::namespaced(self.world.kubelet.clone(), &self.world.namespace)
    }

    /// The pod as it is now.
    pub(crate) async fn get(&self) -> Pod {
        self.as_kubelet().get(&self.name).await.expect("the pod exists")
    }

    /// The scheduler binds it to the world's first node.
    pub(crate) async fn bind(&self) {
        self.bind_to(&format!("{}-node", self.world.namespace)).await;
    }

    /// The scheduler binds it to a node, once nothing gates it.
    pub(crate) async fn bind_to(&self, node: &str) {
        let gated = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.is_some());
        if gated(&self.get().await) {
            wait::until(&self.as_kubelet(), &self.name, "the lifting of its gates", |pod| !gated(pod)).await;
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods: Api<Pod> = Api::namespaced(self.world.scheduler.clone(), &self.world.namespace);
        let bound: Result<Value, _> =
            pods.create_subresource("binding", &self.name, &PostParams::default(), &binding).await;
        bound.unwrap_or_else(|e| panic!("bind {} to {node}: {e}", self.name));
    }

    /// The kubelet takes the pod on and pulls its image.
    pub(crate) async fn pulls(&self) {
        let state = json!({"waiting": {"reason": "ContainerCreating"}});
        self.report(json!({"phase": "Pending"}), state, false).await;
    }

    /// The pod's sandbox has this address.
    pub(crate) async fn has_address(&self, ip: &str) {
        let patch = Patch::Strategic(json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}));
        let answer = self.as_kubelet().patch_status(&self.name, &PatchParams::default(), &patch).await;
        answer.unwrap_or_else(|e| panic!("address of {}: {e}", self.name));
    }

    /// The pull fails like this.
    pub(crate) async fn waits(&self, reason: &str, message: &str) {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        self.report(json!({"phase": "Pending"}), state, false).await;
    }

    /// The job's container starts.
    pub(crate) async fn starts(&self) {
        self.started_at(Timestamp::now()).await;
    }

    /// The job's container is said to have started then.
    pub(crate) async fn started_at(&self, at: Timestamp) {
        let state = json!({"running": {"startedAt": seconds(at)}});
        self.report(json!({"phase": "Running"}), state, true).await;
    }

    /// The job's container runs, and its probes say this: whether it has started up, and whether it is ready.
    pub(crate) async fn probes_say(&self, started: bool, ready: bool) {
        self.probes_say_of(&[CONTAINER], started, ready).await;
    }

    /// The same of the first of these containers. The others ended an hour ago: the pod's conditions have not moved since.
    pub(crate) async fn probes_say_of(&self, names: &[&str], started: bool, ready: bool) {
        let pod = self.get().await;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let running = statuses.into_iter().find_map(|status| status.state?.running);
        let began = running.and_then(|running| running.started_at).map_or_else(Timestamp::now, |time| time.0);
        let long_ago = seconds(Timestamp::now() - SignedDuration::from_secs(3600));
        let state = |name: &&str| match names.first() == Some(name) {
            true => json!({"running": {"startedAt": seconds(began)}}),
            false => {
                json!({"terminated": {"exitCode": 0, "startedAt": long_ago, "finishedAt": long_ago}})
            }
        };
        let states: Vec<_> = names.iter().map(|name| (*name, state(name))).collect();
        let since = (names.len() > 1).then(|| long_ago.clone());
        let probes = Probes { started, ready, since };
        self.report_with(json!({"phase": "Running"}), &states, probes).await;
    }

    /// The job's container ends with this exit code.
    pub(crate) async fn exits(&self, code: i32) {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.terminated(json!({"exitCode": code, "reason": reason})).await;
    }

    /// The kernel kills the job's container at its memory limit.
    pub(crate) async fn runs_out_of_memory(&self) {
        self.terminated(json!({"exitCode": 137, "reason": "OOMKilled"})).await;
    }

    async fn terminated(&self, mut state: Value) {
        let pod = self.get().await;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let began = statuses.first().and_then(|s| s.state.as_ref()?.running.as_ref()?.started_at.clone());
        state["startedAt"] = json!(seconds(began.map_or_else(Timestamp::now, |time| time.0)));
        state["finishedAt"] = json!(seconds(Timestamp::now()));
        state["containerID"] = json!("containerd://0");
        let phase = if state["exitCode"] == 0 { "Succeeded" } else { "Failed" };
        self.report(json!({"phase": phase}), json!({"terminated": state}), false).await;
    }

    async fn report(&self, status: Value, state: Value, ready: bool) {
        let probes = Probes { started: ready, ready, since: None };
        self.report_with(status, &[(CONTAINER, state)], probes).await;
    }

    /// The kubelet reports these states of the pod's containers, by their names.
    pub(crate) async fn reports(&self, status: Value, states: &[(&str, Value)], ready: bool) {
        self.report_with(status, states, Probes { started: ready, ready, since: None }).await;
    }

    async fn report_with(&self, mut status: Value, states: &[(&str, Value)], probes: Probes) {
        let Probes { started, ready, since } = probes;
        let has_ended = |state: &Value| !state["terminated"].is_null();
        let all_ready = ready && !states.iter().any(|(_, state)| has_ended(state));
        let flag = if all_ready { "True" } else { "False" };
        let condition =
            |type_: &str, status: &str| json!({"type": type_, "status": status, "lastTransitionTime": since});
        status["conditions"] = json!([
            condition("PodReadyToStartContainers", "True"),
            condition("Initialized", "True"),
            condition("Ready", flag),
            condition("ContainersReady", flag),
        ]);
        let past = Timestamp::now() - SignedDuration::from_secs(1);
        status["startTime"] = json!(seconds(past));
        let of = |(name, state): &(&str, Value)| {
            let ready = ready && !has_ended(state);
            json!({"name": name, "image": "busybox", "imageID": "", "ready": ready, "started": started,
                "containerID": state["terminated"]["containerID"], "restartCount": 0, "state": state, "lastState": {}})
        };
        status["containerStatuses"] = states.iter().map(of).collect();
        let patch = Patch::Strategic(json!({"status": status}));
        let answer = self.as_kubelet().patch_status(&self.name, &PatchParams::default(), &patch).await;
        answer.unwrap_or_else(|e| panic!("status of {}: {e}", self.name));
    }

    /// Waits until somebody deletes the pod, and kills its container as the kubelet does.
    pub(crate) async fn dies_when_deleted(&self, code: i32) {
        self.is_deleted().await;
        self.exits(code).await;
        self.vanishes().await;
    }

    /// Waits until somebody asked for its deletion.
    pub(crate) async fn is_deleted(&self) {
        wait::until(&self.as_kubelet(), &self.name, "a deletion", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await;
    }

    /// The kubelet lets go of a pod that is being deleted; a finalizer may still hold it.
    pub(crate) async fn vanishes(&self) {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        match self.as_kubelet().delete(&self.name, &at_once).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("delete {}: {error}", self.name),
        }
    }

    /// Waits until nothing of ours holds the pod any more, gone or not.
    pub(crate) async fn is_released(&self) {
        let pods = self.as_kubelet();
        wait::answer(&format!("the release of {}", self.name), &self.world.namespace, || async {
            let pod = pods.get_opt(&self.name).await.ok()?;
            let held = pod.is_some_and(|pod| pod.finalizers().iter().any(|f| f.starts_with("batchyard.io/")));
            (!held).then_some(())
        })
        .await;
    }
}

/// Times of a pod's status have no fractions.
pub(crate) fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
