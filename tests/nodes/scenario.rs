//! A namespace of its own for each case, with the post's environment, queue and definitions.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{TestCluster, answer, processes_of_pod};
use crate::ends::Ends;
use crate::seen::Seen;
use crate::support::client::{TEST_LABEL, apply, namespace, object};

/// How long anything may take on a machine that compiles at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

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
    namespace: String,
}

impl<'a> Scenario<'a> {
    /// Makes the namespace and applies the post's files in it.
    pub(crate) async fn begin(cluster: &'a TestCluster, case: &str) -> Result<Self> {
        let start: String =
            case.chars().take(30).map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let namespace = namespace(&cluster.client, start.trim_matches('-')).await;
        let seen = Seen::begin(&cluster.client, &namespace);
        let scenario = Self { cluster, seen, namespace };
        for (file, change) in [
            ("job-queue.yaml", None),
            ("job-definitions.yaml", None),
            ("compute-environment.yaml", Some(scenario.own_environment())),
        ] {
            for mut manifest in read_example(file)? {
                if let Some(change) = &change {
                    merge(&mut manifest, change);
                }
                scenario.apply(&manifest).await?;
            }
        }
        Ok(scenario)
    }

    /// compute-0 belongs to the whole cluster; this one is found first by the namespace's queues.
    fn own_environment(&self) -> Value {
        json!({
            "metadata": {"name": self.environment(), "labels": {TEST_LABEL: "true"}},
            "spec": {"nodeLostTimeoutSeconds": NODE_LOST_SECONDS},
        })
    }

    /// The name of the environment that jobs are placed in.
    fn environment(&self) -> String {
        format!("{}.compute-0", self.namespace)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    async fn apply(&self, manifest: &Value) -> Result<()> {
        let client = || self.cluster.client.clone();
        match manifest["kind"].as_str() {
            Some("ComputeEnvironment") => {
                drop(apply(&Api::<ComputeEnvironment>::all(client()), manifest).await)
            }
            Some("JobQueue") => drop(apply(&self.api::<JobQueue>(), manifest).await),
            Some("JobDefinition") => drop(apply(&self.api::<JobDefinition>(), manifest).await),
            kind => anyhow::bail!("an example has an object of kind {kind:?}"),
        }
        Ok(())
    }

    /// Submits a job to the post's queue.
    pub(crate) async fn submit(&self, name: &str, mut spec: Value) {
        merge(&mut spec, &json!({"jobQueue": "queue-0"}));
        apply(&self.api::<BatchJob>(), &object("BatchJob", name, spec)).await;
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
        let mut differences = ends.differences(&job, &self.environment());
        for attempt in job.status.iter().flat_map(|status| &status.record.attempts) {
            let node = attempt.node_name.clone().unwrap_or_default();
            let instance = self.cluster.instance(&node).await?;
            if attempt.instance.as_ref() != Some(&instance) {
                differences
                    .push(format!("{node} is {instance}, but the attempt says {:?}", attempt.instance));
            }
        }
        ensure!(differences.is_empty(), "{name} ended otherwise:\n  {}", differences.join("\n  "));
        Ok(job)
    }

    /// The pod of a job's attempt that runs now.
    pub(crate) async fn current_pod(&self, name: &str) -> Result<String> {
        let job = self.api::<BatchJob>().get(name).await?;
        let current = job.status.and_then(|status| status.record.current).context("no attempt runs")?;
        Ok(current.pod_uid)
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
        let client = self.cluster.client.clone();
        let environments: Api<ComputeEnvironment> = Api::all(client.clone());
        let namespaces: Api<Namespace> = Api::all(client);
        answer("the namespace and the environment to be gone", PATIENCE, || async {
            let environment = environments.get_opt(&self.environment()).await?;
            let namespace = namespaces.get_opt(&self.namespace).await?;
            let conditions = namespace.and_then(|namespace| namespace.status).map(|status| status.conditions);
            ensure!(environment.is_none(), "the environment is there");
            ensure!(conditions.is_none(), "the namespace is there: {conditions:?}");
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

    /// Deletes everything, without waiting for it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let client = self.cluster.client.clone();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let environments: Api<ComputeEnvironment> = Api::all(client);
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        environments.delete(&self.environment(), &DeleteParams::default()).await?;
        Ok(())
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

/// Writes one object over another, member by member.
pub(crate) fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}
