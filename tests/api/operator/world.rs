//! A namespace, what a job needs in it, and the nodes it would run on.

use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kubelet::PodHandle;
use crate::support::client::{Actor, TEST_LABEL, apply, connect, namespace};
use crate::support::nodes::{self, POOL};
use crate::support::{operator, wait};

/// Everything that one test has for itself.
pub(crate) struct World {
    /// The namespace's name, which also begins the names of nodes and environments.
    pub(crate) namespace: String,
    pub(crate) user: Client,
    pub(crate) scheduler: Client,
    pub(crate) kubelet: Client,
    operator: Option<operator::Shared>,
}

/// The job of [`World::settle`]; the name of its pod begins with it, too.
pub(crate) const SETTLES: &str = "settles";

/// What most jobs of tests run.
pub(crate) fn container() -> Value {
    json!({"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]})
}

/// A job of [`container`] in the queue `queue`, with more or other members.
pub(crate) fn job(more: Value) -> Value {
    let mut spec = json!({"jobQueue": "queue", "containerProperties": container()});
    merge(&mut spec, more);
    spec
}

/// Lays `more` over `base`; null takes a member away.
pub(crate) fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                if value.is_null() {
                    base.remove(&name);
                } else {
                    merge(base.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (base, more) => *base = more,
    }
}

impl World {
    /// A namespace and the shared operator.
    pub(crate) async fn empty(name: &str) -> Self {
        let operator = operator::shared().await;
        let mut world = Self::without_operator(name).await;
        world.operator = Some(operator);
        world
    }

    /// A namespace only, for tests that start operators of their own.
    pub(crate) async fn without_operator(name: &str) -> Self {
        let user = connect(Actor::User).await;
        let (scheduler, kubelet) = (connect(Actor::Scheduler).await, connect(Actor::Kubelet).await);
        let namespace = namespace(&user, name).await;
        Self { namespace, user, scheduler, kubelet, operator: None }
    }

    /// A namespace with the queue `queue` on the environment `pool` with one node of 4 vCPUs.
    pub(crate) async fn with_queue(name: &str) -> Self {
        let world = Self::empty(name).await;
        world.furnish().await;
        world
    }

    /// Makes the environment `pool`, a node in it and the queue `queue`, and waits until they are ready.
    pub(crate) async fn furnish(&self) {
        self.node("node", "pool", 4).await;
        self.environment("pool", json!({})).await;
        self.queue("queue", json!({})).await;
        self.ready::<JobQueue>("queue").await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.user.clone(), &self.namespace)
    }

    pub(crate) fn environments(&self) -> Api<ComputeEnvironment> {
        Api::all(self.user.clone())
    }

    /// Applies an object of the namespace.
    pub(crate) async fn apply<K>(&self, name: &str, spec: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        apply(&self.api::<K>(), &json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// The name of an environment's object: what a queue of this namespace means by `name`.
    pub(crate) fn environment_name(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// An environment with the nodes of the pool of the same name.
    pub(crate) async fn environment(&self, name: &str, more: Value) -> ComputeEnvironment {
        let pool = format!("{}-{name}", self.namespace);
        let mut spec = json!({
            "type": "MANAGED",
            "computeResources": {"type": "EC2", "maxvCpus": 64},
            "provisioner": {"static": {"nodeSelector": {POOL: pool}}},
        });
        merge(&mut spec, more);
        let metadata = json!({"name": self.environment_name(name), "labels": {TEST_LABEL: "true"}});
        apply(&self.environments(), &json!({"metadata": metadata, "spec": spec})).await
    }

    /// Changes an environment and waits until the operator has looked at that: a job that is submitted now finds it
    /// as it is.
    pub(crate) async fn changed_environment(&self, name: &str, more: Value) {
        let changed = self.environment(name, more).await;
        wait::until(
            &self.environments(),
            &self.environment_name(name),
            "a look at its change",
            |environment| {
                let observed = environment.status.as_ref().and_then(|status| status.observed_generation);
                observed >= changed.metadata.generation
            },
        )
        .await;
    }

    /// A queue on the environment `pool`.
    pub(crate) async fn queue(&self, name: &str, more: Value) -> JobQueue {
        let mut spec = json!({
            "priority": 1,
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}],
        });
        merge(&mut spec, more);
        self.apply(name, spec).await
    }

    /// A definition of [`container`].
    pub(crate) async fn definition(&self, name: &str, more: Value) -> JobDefinition {
        let mut spec = json!({"type": "container", "containerProperties": container()});
        merge(&mut spec, more);
        self.apply(name, spec).await
    }

    /// Waits until a queue or definition says that it is Ready as it is now.
    pub(crate) async fn ready<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize + Send + 'static,
    {
        wait::until(&self.api::<K>(), name, "condition Ready", |object| {
            is_condition(&serde_json::to_value(object).expect("plain data"), "Ready")
        })
        .await;
    }

    /// A node that stays Ready, with the label of a pool.
    pub(crate) async fn node(&self, name: &str, pool: &str, vcpus: u32) -> String {
        let name = format!("{}-{name}", self.namespace);
        nodes::make(&self.kubelet, &name, &format!("{}-{pool}", self.namespace), vcpus).await;
        name
    }

    /// Submits a job.
    pub(crate) async fn submit(&self, name: &str, spec: Value) -> JobHandle<'_> {
        self.apply::<BatchJob>(name, spec).await;
        self.job(name)
    }

    /// A job that was or will be submitted.
    pub(crate) fn job(&self, name: &str) -> JobHandle<'_> {
        JobHandle { world: self, name: name.to_owned() }
    }

    /// Every pod of the namespace.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.expect("pods can be listed").items
    }

    /// Waits until a job submitted now is younger than this one: creation times have no fractions.
    pub(crate) async fn next_second(&self, job: &JobHandle<'_>) {
        let created = job.get().await.creation_timestamp().expect("the API server sets it").0;
        wait::answer("the next second", "", || {
            std::future::ready((jiff::Timestamp::now().as_second() > created.as_second()).then_some(()))
        })
        .await;
    }

    /// Waits until the operator has seen all that happened so far: it runs a job from beginning to end. What the operator
    /// does when that job is gone may come later.
    pub(crate) async fn settle(&self) {
        let job = self.submit(SETTLES, job(json!({}))).await;
        let pod = job.pod(1).await;
        // Not step by step: an operator that thinks the cluster busy may leave steps out.
        pod.bind().await;
        pod.pulls().await;
        pod.starts().await;
        pod.exits(0).await;
        job.reaches(Phase::Succeeded).await;
        let pod = pod.name;
        self.api::<BatchJob>()
            .delete(&job.name, &DeleteParams::default())
            .await
            .expect("a job can be deleted");
        wait::gone(&self.api::<BatchJob>(), &job.name).await;
        wait::gone(&self.api::<Pod>(), &pod).await;
    }
}

/// Whether a condition of a status is True and about the newest spec.
pub(crate) fn is_condition(object: &Value, type_: &str) -> bool {
    let generation = &object["metadata"]["generation"];
    object["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
        let observed = &condition["observedGeneration"];
        condition["type"] == type_
            && condition["status"] == "True"
            && (observed.is_null() || observed == generation)
    })
}

/// A job by its name.
pub(crate) struct JobHandle<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: String,
}

impl JobHandle<'_> {
    /// The job as it is now.
    pub(crate) async fn get(&self) -> BatchJob {
        self.world.api::<BatchJob>().get(&self.name).await.expect("the job exists")
    }

    /// What is recorded of it now.
    pub(crate) async fn record(&self) -> Record {
        self.get().await.status.unwrap_or_default().record
    }

    /// Waits for something of its record.
    pub(crate) async fn until(&self, what: &str, mut done: impl FnMut(&Record) -> bool) -> Record {
        let job = wait::until(&self.world.api::<BatchJob>(), &self.name, what, |job| {
            job.status.as_ref().is_some_and(|status| done(&status.record))
        })
        .await;
        job.status.unwrap_or_default().record
    }

    /// Waits for a phase; a job that ended otherwise fails the test at once.
    pub(crate) async fn reaches(&self, phase: Phase) -> Record {
        let record = self
            .until(phase.as_str(), |record| record.phase() == phase || record.phase().is_terminal())
            .await;
        assert_eq!(record.phase(), phase, "{}: {record:#?}", self.name);
        record
    }

    /// Waits until it waits and says so with these words.
    pub(crate) async fn waits(&self, phase: Phase, words: &str) -> Record {
        self.until(words, |record| {
            record.phase() == phase && record.status_reason.as_deref().is_some_and(|why| why.contains(words))
        })
        .await
    }

    /// Changes its spec.
    pub(crate) async fn edit(&self, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        let answer = self.world.api::<BatchJob>().patch(&self.name, &PatchParams::default(), &patch).await;
        answer.unwrap_or_else(|e| panic!("edit {}: {e}", self.name));
    }

    /// Waits for the pod of an attempt that can be bound.
    pub(crate) async fn pod(&self, attempt: u32) -> PodHandle<'_> {
        self.pod_with(&format!("batchyard.io/attempt={attempt}")).await
    }

    /// The same of a child of an array.
    pub(crate) async fn child_pod(&self, index: u32, attempt: u32) -> PodHandle<'_> {
        self.pod_with(&format!("batchyard.io/attempt={attempt},batchyard.io/index={index}")).await
    }

    async fn pod_with(&self, labels: &str) -> PodHandle<'_> {
        let uid = self.get().await.uid().expect("the API server gives it one");
        let pods = self.world.api::<Pod>();
        let list = ListParams::default().labels(labels);
        let pod =
            wait::answer(&format!("a pod of {} with {labels}", self.name), &self.world.namespace, || async {
                let found = pods.list(&list).await.ok()?.items;
                let mut of_job = found.into_iter().filter(|pod| {
                    pod.metadata.deletion_timestamp.is_none()
                        && pod.owner_references().iter().any(|o| o.uid == uid)
                });
                of_job.next()
            })
            .await;
        PodHandle { world: self.world, name: pod.name_any() }
    }

    /// Its next pod is bound, runs and exits; returns what the job then says.
    pub(crate) async fn attempt(&self, number: u32, code: i32) -> Record {
        let pod = self.pod(number).await;
        pod.bind().await;
        pod.starts().await;
        self.reaches(Phase::Running).await;
        pod.exits(code).await;
        self.until("the attempt's end", |record| record.attempts.len() as u32 == number).await
    }

    /// Runs its only attempt from beginning to end.
    pub(crate) async fn run(&self, code: i32) -> Record {
        self.attempt(1, code).await;
        self.until("the job's end", |record| record.phase().is_terminal()).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Everything of the namespace goes with it; what belongs to the whole cluster does not.
        let namespace = self.namespace.clone();
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(remove(&namespace));
            }
        });
        let _ = clean.join();
        drop(self.operator.take());
    }
}

async fn remove(namespace: &str) {
    let client = connect(Actor::User).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let _ = namespaces.delete(namespace, &DeleteParams::default()).await;
    let of_tests = ListParams::default().labels(TEST_LABEL);
    nodes::remove(&client, &format!("{namespace}-")).await;
    let environments: Api<ComputeEnvironment> = Api::all(client);
    let begins = format!("{namespace}.");
    for environment in environments.list(&of_tests).await.into_iter().flat_map(|list| list.items) {
        if environment.name_any().starts_with(&begins) {
            let _ = environments.delete(&environment.name_any(), &DeleteParams::default()).await;
        }
    }
}
