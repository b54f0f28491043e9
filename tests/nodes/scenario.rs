//! A namespace of its own for each case, with the post's environment, queue and definitions.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};
use batchyard_core::job::record::Current;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy,
};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{TestCluster, answer, processes_of_pod};
use crate::ends::Ends;
use crate::seen::Seen;
use crate::support::client::{TEST_LABEL, apply, namespace, object};

/// The post's queue.
pub(crate) const QUEUE: &str = "queue-0";

/// How long anything may take on a machine that compiles at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The environment's `nodeLostTimeoutSeconds`; the example has 120.
const NODE_LOST_SECONDS: u32 = 8;

/// The finalizer of pods whose outcome is not recorded yet.
const FINALIZER: &str = batchyard::k8s::meta::ATTEMPT_FINALIZER;

/// Where a case happens.
pub(crate) struct Scenario<'a> {
    /// The nodes and the operator.
    pub(crate) cluster: &'a TestCluster,
    /// What happened so far.
    pub(crate) seen: Seen,
    /// Where its objects are.
    pub(crate) namespace: String,
    /// What it made that belongs to the whole cluster: how to reach it, and its name.
    cluster_wide: Mutex<Vec<(Api<DynamicObject>, String)>>,
}

impl<'a> Scenario<'a> {
    /// Makes the namespace and applies the post's files in it. compute-0 belongs to the whole
    /// cluster, so each queue gets one like it.
    pub(crate) async fn begin(cluster: &'a TestCluster, case: &str) -> Result<Self> {
        let start: String =
            case.chars().take(30).map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let namespace = namespace(&cluster.client, start.trim_matches('-')).await;
        let seen = Seen::begin(&cluster.client, &namespace);
        let scenario = Self { cluster, seen, namespace, cluster_wide: Mutex::default() };
        for manifest in read_example("job-definitions.yaml")? {
            scenario.apply::<JobDefinition>(&manifest).await;
        }
        scenario.queue(QUEUE, json!({"nodeLostTimeoutSeconds": NODE_LOST_SECONDS})).await?;
        Ok(scenario)
    }

    /// Makes a queue and an environment for it alone: the post's, but for a change of the latter.
    pub(crate) async fn queue(&self, name: &str, change: Value) -> Result<()> {
        let (environment, short) = (self.environment(name), short_environment(name));
        for mut manifest in read_example("job-queue.yaml")? {
            let order = json!([{"order": 0, "computeEnvironment": short}]);
            let spec = json!({"jobQueueName": name, "computeEnvironmentOrder": order});
            merge(&mut manifest, &json!({"metadata": {"name": name}, "spec": spec}));
            self.apply::<JobQueue>(&manifest).await;
        }
        let all: Api<ComputeEnvironment> = Api::all(self.cluster.client.clone());
        for mut manifest in read_example("compute-environment.yaml")? {
            let metadata = json!({"name": environment, "labels": {TEST_LABEL: "true"}});
            let spec = json!({"computeEnvironmentName": short, "nodeLostTimeoutSeconds": Value::Null});
            merge(&mut manifest, &json!({"metadata": metadata, "spec": spec}));
            merge(&mut manifest["spec"], &change);
            drop(apply(&all, &manifest).await);
        }
        let kind = ApiResource::erase::<ComputeEnvironment>(&());
        self.remember(kind, environment);
        Ok(())
    }

    /// Notes that an object of the whole cluster is to go with the namespace.
    pub(crate) fn remember(&self, kind: ApiResource, name: String) {
        let api = Api::all_with(self.cluster.client.clone(), &kind);
        self.cluster_wide.lock().expect("nobody panicked").push((api, name));
    }

    /// The name of the environment of a queue.
    fn environment(&self, queue: &str) -> String {
        format!("{}.{}", self.namespace, short_environment(queue))
    }

    /// The namespace's objects of a kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// Applies an object of the namespace.
    pub(crate) async fn apply<K>(&self, manifest: &Value)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        drop(apply(&self.api::<K>(), manifest).await);
    }

    /// Submits a job, to the post's queue unless it says otherwise.
    pub(crate) async fn submit(&self, name: &str, spec: Value) {
        let mut whole = json!({"jobQueue": QUEUE});
        merge(&mut whole, &spec);
        self.apply::<BatchJob>(&object("BatchJob", name, whole)).await;
    }

    /// Changes a job's spec.
    pub(crate) async fn change(&self, name: &str, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<BatchJob>().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until something is true of a job.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        done: impl FnMut(&BatchJob) -> bool,
    ) -> Result<BatchJob> {
        self.seen.until(name, what, PATIENCE, done).await
    }

    /// Waits until a job is RUNNING this attempt, and returns its node.
    pub(crate) async fn runs(&self, name: &str, attempt: u32) -> Result<String> {
        let job = self
            .until(name, &format!("to be RUNNING attempt {attempt}"), |job| {
                let status = job.status.as_ref();
                let current = status.and_then(|status| status.record.current.as_ref());
                current.is_some_and(|current| current.attempt == attempt) && is(job, "RUNNING")
            })
            .await?;
        let current = job.status.and_then(|status| status.record.current);
        current.and_then(|current| current.node_name).context("a job that runs is on a node")
    }

    /// Waits until a job has ended, and checks that it ended like this.
    pub(crate) async fn ends(&self, name: &str, ends: &Ends) -> Result<BatchJob> {
        let job = self.until(name, "to end", |job| is(job, "SUCCEEDED") || is(job, "FAILED")).await?;
        let mut differences = ends.differences(&job, &self.environment(&job.spec.job_queue));
        for attempt in job.status.iter().flat_map(|status| &status.record.attempts) {
            let node = attempt.node_name.clone().unwrap_or_default();
            let instance = self.cluster.instance(&node);
            if attempt.instance.as_deref() != Some(instance) {
                differences
                    .push(format!("{node} is {instance}, but the attempt says {:?}", attempt.instance));
            }
        }
        ensure!(differences.is_empty(), "{name} ended otherwise:\n  {}", differences.join("\n  "));
        Ok(job)
    }

    /// Waits until a job waits, and says why in these words.
    pub(crate) async fn waits(&self, name: &str, phase: &str, words: &str) -> Result<()> {
        let why = |job: &BatchJob| job.status.as_ref().and_then(|status| status.record.status_reason.clone());
        let says = |job: &BatchJob| is(job, phase) && why(job).is_some_and(|why| why.contains(words));
        self.until(name, &format!("to be {phase} and to say {words:?}"), says).await?;
        Ok(())
    }

    /// Deletes a job.
    pub(crate) async fn delete(&self, name: &str, how: PropagationPolicy) -> Result<()> {
        let params = DeleteParams { propagation_policy: Some(how), ..DeleteParams::default() };
        self.api::<BatchJob>().delete(name, &params).await?;
        Ok(())
    }

    /// The uid of the pod of a job's attempt that runs now.
    pub(crate) async fn current_pod(&self, name: &str) -> Result<String> {
        Ok(self.current(name).await?.pod_uid)
    }

    /// The attempt of a job that runs now.
    pub(crate) async fn current(&self, name: &str) -> Result<Current> {
        let job = self.api::<BatchJob>().get(name).await?;
        job.status.and_then(|status| status.record.current).context("no attempt runs")
    }

    /// Deletes the pod of a job's attempt that runs now, as `kubectl delete pod` does.
    pub(crate) async fn delete_pod(&self, name: &str, params: &DeleteParams) -> Result<()> {
        let pod = self.current(name).await?.pod_name;
        self.api::<Pod>().delete(&pod, params).await?;
        Ok(())
    }

    /// Waits until a job has a pod of this placement, and returns it.
    pub(crate) async fn pod_of(&self, job: &str, placement: usize) -> Result<Pod> {
        let ours = ListParams::default().labels(&format!("batchyard.io/job-name={job}"));
        let placement = placement.to_string();
        answer(&format!("placement {placement} of {job}"), PATIENCE, || async {
            let pods = self.api::<Pod>().list(&ours).await?;
            let is_it = |pod: &Pod| pod.annotations().get("batchyard.io/placement") == Some(&placement);
            Ok(pods.into_iter().find(is_it))
        })
        .await
    }

    /// Waits until something is true of a pod.
    pub(crate) async fn pod_until(&self, name: &str, what: &str, done: impl Fn(&Pod) -> bool) -> Result<()> {
        answer(&format!("{name} {what}"), PATIENCE, || async {
            Ok(done(&self.api::<Pod>().get(name).await?).then_some(()))
        })
        .await
    }

    /// Binds a pod to a node, as a scheduler does.
    pub(crate) async fn bind(&self, pod: &str, node: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods = self.api::<Pod>();
        let _: Value = pods.create_subresource("binding", pod, &PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Asks the program of a job to end, and waits until it has.
    pub(crate) async fn finish(&self, name: &str) -> Result<()> {
        let pod = self.current_pod(name).await?;
        answer(&format!("the program of {name} to end"), PATIENCE, || async {
            let running = processes_of_pod(&pod).into_iter().filter(|process| process.name() == "sh");
            let running: Vec<_> = running.collect();
            // It hears nothing before it has said what it wants to hear.
            running.iter().for_each(|process| process.terminate());
            Ok(running.is_empty().then_some(()))
        })
        .await
    }

    /// Checks that nothing is left of jobs that have ended but finished pods, then removes all,
    /// and checks that nothing at all is left.
    pub(crate) async fn leaves_nothing(&self) -> Result<()> {
        self.seen.check()?;
        let pods = self.api::<Pod>();
        answer("only finished pods without a finalizer of ours", PATIENCE, || async {
            let list = pods.list(&ListParams::default()).await?;
            let left: Vec<String> =
                list.iter().filter(|pod| !is_finished(pod)).map(kube::ResourceExt::name_any).collect();
            ensure!(left.is_empty(), "{}", left.join(" and "));
            Ok(Some(()))
        })
        .await?;
        self.remove().await?;
        self.is_gone().await
    }

    /// Waits until all that was deleted is gone, and whatever ran with it.
    pub(crate) async fn is_gone(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        answer("the namespace and what belongs to it to be gone", PATIENCE, || async {
            let namespace = namespaces.get_opt(&self.namespace).await?;
            let conditions = namespace.and_then(|namespace| namespace.status).map(|status| status.conditions);
            ensure!(conditions.is_none(), "the namespace is there: {conditions:?}");
            for (api, name) in self.globals() {
                ensure!(api.get_opt(&name).await?.is_none(), "{name} is there");
            }
            Ok(Some(()))
        })
        .await?;
        answer("no process of a pod to be left", PATIENCE, || async {
            let uids = self.seen.pod_uids();
            Ok(uids.iter().all(|uid| processes_of_pod(uid).is_empty()).then_some(()))
        })
        .await?;
        self.seen.check()
    }

    /// Deletes everything that is still there, without waiting for it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        gone_is_fine(namespaces.delete(&self.namespace, &DeleteParams::default()).await)?;
        for (api, name) in self.globals() {
            gone_is_fine(api.delete(&name, &DeleteParams::default()).await)?;
        }
        Ok(())
    }

    fn globals(&self) -> Vec<(Api<DynamicObject>, String)> {
        self.cluster_wide.lock().expect("nobody panicked").clone()
    }

    /// All that may tell why a case failed.
    pub(crate) async fn last_words(&self) -> String {
        let events: Api<Event> = self.api();
        let events = events.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let events: Vec<String> = events
            .iter()
            .map(|event| {
                let about = event.involved_object.name.clone().unwrap_or_default();
                let word = |text: &Option<String>| text.clone().unwrap_or_default();
                format!("  {about}: {} {}", word(&event.reason), word(&event.message))
            })
            .collect();
        let jobs = show(&self.api::<BatchJob>()).await;
        format!(
            "what happened in {}:\n{}\nevents:\n{}\njobs:\n{jobs}\n{}",
            self.namespace,
            self.seen.story(),
            events.join("\n"),
            self.cluster.operator_said(&self.namespace),
        )
    }
}

/// What queues of a namespace call its environments.
fn short_environment(queue: &str) -> &str {
    if queue == QUEUE { "compute-0" } else { queue }
}

fn gone_is_fine<T>(answer: kube::Result<T>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        answer => Ok(answer.map(|_| ())?),
    }
}

async fn show<K>(api: &Api<K>) -> String
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let listed = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    let shown = listed.iter().map(|each| {
        let mut value = serde_json::to_value(each).unwrap_or_default();
        value["metadata"] = json!({"name": each.meta().name});
        format!("{value:#}")
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// Whether a job is in this phase.
pub(crate) fn is(job: &BatchJob, phase: &str) -> bool {
    let found = job.status.as_ref().and_then(|status| status.record.phase);
    found.is_some_and(|found| serde_json::to_value(found).is_ok_and(|found| found == phase))
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let held = pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    matches!(phase, "Succeeded" | "Failed") && !held && pod.metadata.deletion_timestamp.is_none()
}

/// The objects of a file of examples/retry.
fn read_example(file: &str) -> Result<Vec<Value>> {
    let path = xtask::cluster::repository()?.join("examples/retry").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).context(file.to_owned())).collect()
}

/// Writes one object over another, member by member; null removes one.
pub(crate) fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                match value {
                    Value::Null => drop(target.remove(key)),
                    value => merge(target.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (target, change) => *target = change.clone(),
    }
}
