//! What the operator knows of the cluster: one cache per kind, fed by one watch each.
//!
//! The watches begin after this process has become the leader, so that no cache is ever older
//! than its leadership.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use batchyard_core::dependency::Reference;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

use super::arrays::Arrays;
use super::dependents::Dependents;
use super::gangs::Gangs;
use super::karpenter::{self, Ec2NodeClass, NodePool};
use super::logging::Made;
use super::marks::Marks;
use super::meta;
use super::own_writes::OwnWrites;
use super::pods::{Homes, PodIndex};
use super::scope::Reach;
use super::watch::{Change, Feed};
use crate::crd::{
    BatchJob, ComputeEnvironment, ConsumableResource, JobDefinition, JobDefinitionSpec, JobQueue,
    SchedulingPolicy, convert,
};

/// The caches, cheap to clone.
#[derive(Clone)]
pub struct Caches {
    jobs: Store<BatchJob>,
    own: Arc<OwnWrites<BatchJob>>,
    by_uid: Homes,
    /// Uids of the jobs that state an id of their own, by that id.
    by_id: Arc<RwLock<HashMap<String, BTreeSet<String>>>>,
    /// The jobs, by uid, about which or whose pods something changed; for the dispatcher, who takes them.
    pub changed: Marks,
    /// Who waits for which job.
    pub dependents: Dependents,
    /// Pods, by job and by node.
    pub pods: PodIndex,
    /// The children of arrays.
    pub arrays: Arrays,
    /// What was made for multi-node jobs.
    pub gangs: Gangs,
    /// The Secrets that were made for log sidecars.
    pub logging: Made,
    /// Nodes.
    pub nodes: Store<Node>,
    /// Namespaces.
    pub namespaces: Store<Namespace>,
    /// Queues.
    pub queues: Store<JobQueue>,
    /// Environments.
    pub environments: Store<ComputeEnvironment>,
    /// Scheduling policies.
    pub policies: Store<SchedulingPolicy>,
    /// Consumable resources.
    pub consumable_resources: Store<ConsumableResource>,
    /// Definitions.
    pub definitions: Store<JobDefinition>,
    /// Revisions of definitions.
    pub revisions: Store<ControllerRevision>,
    /// NodePools of environments; empty while none wants one.
    pub node_pools: Store<NodePool>,
    /// EC2NodeClasses of environments; empty while none wants one.
    pub node_classes: Store<Ec2NodeClass>,
    complete: Vec<Receiver<bool>>,
}

/// The watches that feed [`Caches`]; listeners are added before they run.
pub struct Feeds {
    /// Of BatchJobs.
    pub jobs: Feed<BatchJob>,
    /// Of pods.
    pub pods: Feed<Pod>,
    /// Of nodes.
    pub nodes: Feed<Node>,
    /// Of namespaces.
    pub namespaces: Feed<Namespace>,
    /// Of queues.
    pub queues: Feed<JobQueue>,
    /// Of environments.
    pub environments: Feed<ComputeEnvironment>,
    /// Of scheduling policies.
    pub policies: Feed<SchedulingPolicy>,
    /// Of consumable resources.
    pub consumable_resources: Feed<ConsumableResource>,
    /// Of definitions.
    pub definitions: Feed<JobDefinition>,
    /// Of revisions.
    pub revisions: Feed<ControllerRevision>,
    /// Of NodePools, once an environment wants one: their kind may not exist.
    pub node_pools: Feed<NodePool>,
    /// Of EC2NodeClasses, likewise.
    pub node_classes: Feed<Ec2NodeClass>,
    wants_node_pools: Sender<bool>,
    wants_node_classes: Sender<bool>,
}

/// Prepares all caches; nothing is watched until [`Feeds::run`].
pub fn prepare(client: &Client, reach: &Reach) -> (Caches, Feeds) {
    let scope = &reach.scope;
    let ours = format!("{}={}", meta::MANAGED_BY, meta::OPERATOR);
    let mut feeds = Feeds {
        jobs: scope.feed(client, "", |_| {}),
        pods: reach.pods(client),
        nodes: Feed::new(Api::all(client.clone()), "", trim_node),
        namespaces: Feed::new(Api::all(client.clone()), "", |_| {}),
        queues: scope.feed(client, "", |_| {}),
        environments: scope.environments(client),
        policies: scope.feed(client, "", |_| {}),
        consumable_resources: scope.feed(client, "", |_| {}),
        definitions: scope.feed(client, "", |_| {}),
        revisions: scope.feed(client, &ours, |_| {}),
        node_pools: Feed::new(Api::all(client.clone()), &ours, |_| {}),
        node_classes: Feed::new(Api::all(client.clone()), &ours, |_| {}),
        wants_node_pools: Sender::new(false),
        wants_node_classes: Sender::new(false),
    };
    let (changed, by_uid) = (Marks::default(), Homes::default());
    let caches = Caches {
        jobs: feeds.jobs.store(),
        own: Arc::default(),
        by_uid: by_uid.clone(),
        by_id: Arc::default(),
        arrays: Arrays::default(),
        dependents: Dependents::default(),
        gangs: Gangs::default(),
        logging: Made::default(),
        pods: PodIndex::marking(changed.clone(), by_uid),
        changed,
        nodes: feeds.nodes.store(),
        namespaces: feeds.namespaces.store(),
        queues: feeds.queues.store(),
        environments: feeds.environments.store(),
        policies: feeds.policies.store(),
        consumable_resources: feeds.consumable_resources.store(),
        definitions: feeds.definitions.store(),
        revisions: feeds.revisions.store(),
        node_pools: feeds.node_pools.store(),
        node_classes: feeds.node_classes.store(),
        complete: feeds.complete(),
    };
    let index = caches.clone();
    feeds.jobs.listen(move |change| index.index(change));
    let (pools, classes) = (feeds.wants_node_pools.clone(), feeds.wants_node_classes.clone());
    feeds.environments.listen(move |change| {
        let spec = &change.object().spec;
        if karpenter::of(spec).is_some() {
            pools.send_replace(true);
        }
        if karpenter::makes_node_class(spec) {
            classes.send_replace(true);
        }
    });
    (caches, feeds)
}

impl Feeds {
    fn complete(&self) -> Vec<Receiver<bool>> {
        vec![
            self.jobs.complete(),
            self.pods.complete(),
            self.nodes.complete(),
            self.namespaces.complete(),
            self.queues.complete(),
            self.environments.complete(),
            self.policies.complete(),
            self.consumable_resources.complete(),
            self.definitions.complete(),
            self.revisions.complete(),
        ]
    }

    /// Begins all watches; they end when the set is dropped.
    pub fn run(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.jobs.run());
        tasks.spawn(self.pods.run());
        tasks.spawn(self.nodes.run());
        tasks.spawn(self.namespaces.run());
        tasks.spawn(self.queues.run());
        tasks.spawn(self.environments.run());
        tasks.spawn(self.policies.run());
        tasks.spawn(self.consumable_resources.run());
        tasks.spawn(self.definitions.run());
        tasks.spawn(self.revisions.run());
        tasks.spawn(when(self.wants_node_pools.subscribe(), self.node_pools.run()));
        tasks.spawn(when(self.wants_node_classes.subscribe(), self.node_classes.run()));
        tasks
    }
}

/// Begins a watch once somebody wants it. It is no part of what has to be complete: nothing is decided
/// on these caches that the API server does not check.
async fn when(mut wanted: Receiver<bool>, watch: impl Future<Output = ()>) {
    // Nobody can want it any more once the environments are not watched.
    if wanted.wait_for(|wanted| *wanted).await.is_ok() {
        watch.await;
    }
}

impl Caches {
    /// Waits until every cache and every index holds its first complete list.
    pub async fn ready(&self) {
        for mut complete in self.complete.clone() {
            if complete.wait_for(|complete| *complete).await.is_err() {
                // The watches ended, and then nothing is ever ready.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The store that the job controller runs on.
    pub fn job_store(&self) -> Store<BatchJob> {
        self.jobs.clone()
    }

    /// Every job, each as new as this process knows it.
    pub fn jobs(&self) -> Vec<Arc<BatchJob>> {
        self.jobs.state().into_iter().map(|job| self.newest_job(job)).collect()
    }

    /// The uids of all jobs.
    pub fn job_uids(&self) -> Vec<String> {
        self.by_uid.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// A job by its object's uid.
    pub fn job(&self, uid: &str) -> Option<Arc<BatchJob>> {
        let reference = self.job_ref(uid)?;
        self.jobs
            .get(&reference)
            .filter(|job| job.uid().as_deref() == Some(uid))
            .map(|job| self.newest_job(job))
    }

    /// Where to find a job by its object's uid.
    pub fn job_ref(&self, uid: &str) -> Option<ObjectRef<BatchJob>> {
        self.by_uid.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// The jobs whose `spec.jobId` this is.
    pub fn jobs_with_id(&self, id: &str) -> Vec<Arc<BatchJob>> {
        let uids = self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        uids.unwrap_or_default().iter().filter_map(|uid| self.job(uid)).collect()
    }

    /// The job that a reference in a namespace means; of a child its array.
    pub fn referred_job(&self, namespace: &str, reference: &Reference) -> Option<Arc<BatchJob>> {
        let id = match reference {
            Reference::Name(name) => {
                let found = self.jobs.get(&ObjectRef::new(name).within(namespace));
                return found.map(|job| self.newest_job(job));
            }
            Reference::Id(id) | Reference::Child { id, .. } => id,
        };
        // Of two jobs that state one id the older has it.
        let age = |job: &Arc<BatchJob>| (job.creation_timestamp().map(|time| time.0), job.uid());
        let stated =
            self.jobs_with_id(id).into_iter().filter(|job| job.namespace().as_deref() == Some(namespace));
        stated.min_by_key(age).or_else(|| {
            let by_uid = self.job(id).filter(|job| job.spec.job_id.is_none());
            by_uid.filter(|job| job.namespace().as_deref() == Some(namespace))
        })
    }

    /// Forgets what was noted about jobs that are gone by now.
    pub fn prune(&self) {
        self.dependents.prune();
        let by_uid = self.by_uid.read().unwrap_or_else(PoisonError::into_inner);
        self.own.retain(|uid| by_uid.contains_key(uid));
        self.arrays.retain(|uid| by_uid.contains_key(uid));
        self.gangs.retain(|uid| by_uid.contains_key(uid));
    }

    /// The newer of a cached job and what this process wrote of it.
    pub fn newest_job(&self, cached: Arc<BatchJob>) -> Arc<BatchJob> {
        self.own.newest(cached)
    }

    /// Remembers the API server's answer to a write.
    pub fn wrote_job(&self, job: BatchJob) -> Arc<BatchJob> {
        let job = self.own.wrote(job);
        job.metadata.uid.iter().for_each(|uid| self.changed.mark(uid));
        job
    }

    /// Remembers the API server's answer to a live read of a job.
    pub fn read_job(&self, job: BatchJob) {
        let uid = job.uid();
        self.own.read(job);
        uid.iter().for_each(|uid| self.changed.mark(uid));
    }

    /// True if this process knows that the job was so at some time after its own last word on it. Not so
    /// for a job that only a list has told of: that may have been answered from the past.
    pub fn vouches_for(&self, job: &BatchJob) -> bool {
        self.own.vouches_for(job)
    }

    /// How long ago this process wrote a job's status, while that matters.
    pub fn since_own_write(&self, job_uid: &str) -> Option<Duration> {
        self.own.since(job_uid)
    }

    /// How long ago it was first noticed that a job's status is behind.
    pub fn since_noticed(&self, job_uid: &str) -> Duration {
        self.own.since_noticed(job_uid)
    }

    /// What is recorded of a job, or of the child of an array that the key names ([`name::part`]). The nodes of a
    /// multi-node job have its record.
    pub fn record_of(&self, key: &str) -> Option<Record> {
        match name::whole(key) {
            (uid, Some(_)) if self.job(uid).is_some_and(|job| job.is_gang()) => self.record_of(uid),
            (uid, None) => Some(self.job(uid)?.status.as_ref()?.record.clone()),
            (uid, Some(index)) => Some(self.arrays.get(uid)?.children.record(index)),
        }
    }

    /// The queue that a reference in a namespace means, if it exists.
    pub fn queue(&self, namespace: &str, reference: &str) -> Option<Arc<JobQueue>> {
        let names = name::candidates(reference);
        names.iter().find_map(|name| self.queues.get(&ObjectRef::new(name).within(namespace)))
    }

    /// The policy that a reference in a namespace means, if it exists.
    pub fn policy(&self, namespace: &str, reference: &str) -> Option<Arc<SchedulingPolicy>> {
        let names = name::candidates(reference);
        names.iter().find_map(|name| self.policies.get(&ObjectRef::new(name).within(namespace)))
    }

    /// The consumable resource that a reference in a namespace means, if it exists.
    pub fn consumable_resource(&self, namespace: &str, reference: &str) -> Option<Arc<ConsumableResource>> {
        let names = name::candidates(reference);
        names.iter().find_map(|name| self.consumable_resources.get(&ObjectRef::new(name).within(namespace)))
    }

    /// The environment that a queue of the namespace names: `<namespace>.<name>` if it exists,
    /// else `<name>`.
    pub fn environment(&self, namespace: &str, reference: &str) -> Option<Arc<ComputeEnvironment>> {
        let names = name::environments(namespace, reference);
        names.iter().find_map(|name| self.environments.get(&ObjectRef::new(name)))
    }

    /// The jobs that name a queue, each as new as this process knows it.
    pub fn jobs_of_queue(&self, queue: &JobQueue) -> Vec<Arc<BatchJob>> {
        let jobs = self.jobs.state_filter(|job| names_queue(job, queue));
        jobs.into_iter().map(|job| self.newest_job(job)).collect()
    }

    /// The queue that a job names.
    pub fn queue_of(&self, job: &BatchJob) -> Option<Arc<JobQueue>> {
        self.queue(&job.namespace()?, queue_reference(job))
    }

    /// What a job runs: the definition that stands in it, else the revision that it was resolved
    /// to. `None` until the cache shows that revision.
    pub fn definition_of(&self, job: &BatchJob) -> Option<JobDefinitionSpec> {
        convert::inline_definition(&job.spec).or_else(|| {
            let data = self.revision_of(job)?.data.clone()?;
            serde_json::from_value(data.0).ok()
        })
    }

    /// The revision that a job was resolved to, if it names a definition and the cache shows that.
    pub fn revision_of(&self, job: &BatchJob) -> Option<Arc<ControllerRevision>> {
        let resolved = job.status.as_ref()?.record.job_definition.as_deref()?;
        let (name, number) = resolved.rsplit_once(':')?;
        let namespace = job.namespace()?;
        // The record holds AWS's name, or the object's where that one means nothing.
        name::candidates(name).iter().find_map(|name| {
            self.revisions.get(&ObjectRef::new(&format!("{name}-{number}")).within(&namespace))
        })
    }

    /// True if the namespace is being deleted: nothing can be created there any more.
    pub fn is_terminating(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// True if the namespace takes no pod that may run as root: its Pod Security level is enforced to be *restricted*.
    pub fn refuses_root(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(namespace));
        let level = namespace.and_then(|namespace| namespace.labels().get(meta::POD_SECURITY).cloned());
        level.as_deref() == Some("restricted")
    }

    fn index(&self, change: &Change<BatchJob>) {
        let Some(uid) = change.object().uid() else { return };
        self.index_ids(&uid, change);
        self.dependents.take(change);
        self.changed.mark(&uid);
    }

    fn index_ids(&self, uid: &str, change: &Change<BatchJob>) {
        let uid = uid.to_owned();
        let mut by_uid = self.by_uid.write().unwrap_or_else(PoisonError::into_inner);
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        // An id never changes.
        let id = change.object().spec.job_id.as_ref();
        match change {
            Change::Applied(job) => {
                by_uid.insert(uid.clone(), ObjectRef::from_obj(job.as_ref()));
                if let Some(id) = id {
                    by_id.entry(id.clone()).or_default().insert(uid);
                }
            }
            Change::Deleted(_) => {
                by_uid.remove(&uid);
                self.own.forget(&uid);
                self.arrays.forget(&uid);
                self.gangs.forget(&uid);
                if let Some(id) = id
                    && let Some(uids) = by_id.get_mut(id)
                {
                    uids.remove(&uid);
                    if uids.is_empty() {
                        by_id.remove(id);
                    }
                }
            }
        }
    }
}

/// The queue that counts for a job: the one it was placed from, else the one it names now.
pub fn queue_reference(job: &BatchJob) -> &str {
    let status = job.status.as_ref().filter(|status| status.record.phase() > Phase::Runnable);
    status.and_then(|status| status.job_queue.as_deref()).unwrap_or(&job.spec.job_queue)
}

/// True if the job is in this queue.
pub fn names_queue(job: &BatchJob, queue: &JobQueue) -> bool {
    let queue_name = queue.metadata.name.as_deref().unwrap_or_default();
    job.metadata.namespace == queue.metadata.namespace && name::may_mean(queue_reference(job), queue_name)
}

/// Images are most of a node's status, and nobody looks at them.
fn trim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}
