//! Who is woken by what.
//!
//! Each watch tells of every change of its kind; here each change becomes the objects that must
//! be looked at because of it. A change counts when what others read of the object changed, so
//! that heartbeats of nodes and counts in statuses wake nobody.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use batchyard_core::job::phase::Phase;
use batchyard_core::name::{self, DefinitionRef};
use batchyard_core::waits::Kind;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::revision::definition_name;
use super::scheduling_policy::uses;
use crate::crd::{
    BatchJob, ComputeEnvironment, ConsumableResource, JobDefinition, JobQueue, SchedulingPolicy,
};
use crate::dispatcher::Dispatch;
use crate::k8s::caches::{Caches, Feeds, names_queue};
use crate::k8s::placeholder::is_placeholder;
use crate::k8s::watch::Change;
use crate::k8s::{meta, observe, pods, tokens};

/// The objects that each controller is to look at.
pub struct Triggers {
    /// For the job controller.
    pub jobs: UnboundedReceiver<ObjectRef<BatchJob>>,
    /// For the dispatcher, which wakes controllers as well.
    pub wakers: Wakers,
    /// For the queue controller.
    pub queues: UnboundedReceiver<ObjectRef<JobQueue>>,
    /// For the environment controller.
    pub environments: UnboundedReceiver<ObjectRef<ComputeEnvironment>>,
    /// For the definition controller.
    pub definitions: UnboundedReceiver<ObjectRef<JobDefinition>>,
    /// For the controller of scheduling policies.
    pub policies: UnboundedReceiver<ObjectRef<SchedulingPolicy>>,
    /// For the controller of consumable resources.
    pub consumable_resources: UnboundedReceiver<ObjectRef<ConsumableResource>>,
    /// For the revision controller.
    pub revisions: UnboundedReceiver<ObjectRef<ControllerRevision>>,
    /// For [`super::attempt_pods`]: a pod may have outlived its job.
    pub attempt_pods: Arc<Notify>,
}

/// By which the dispatcher wakes controllers.
#[derive(Clone)]
pub struct Wakers {
    jobs: UnboundedSender<ObjectRef<BatchJob>>,
    queues: UnboundedSender<ObjectRef<JobQueue>>,
    environments: UnboundedSender<ObjectRef<ComputeEnvironment>>,
}

impl Wakers {
    /// Wakes the controller of jobs for this one.
    pub fn job(&self, job: ObjectRef<BatchJob>) {
        // Who does not listen any more is winding down.
        self.jobs.send(job).ok();
    }

    /// Wakes the controller of queues for this one, given as `namespace/name`.
    pub fn queue(&self, queue: &str) {
        if let Some((namespace, name)) = queue.split_once('/') {
            self.queues.send(ObjectRef::new(name).within(namespace)).ok();
        }
    }

    /// Wakes the controller of environments for this one.
    pub fn environment(&self, name: &str) {
        self.environments.send(ObjectRef::new(name)).ok();
    }
}

/// Listens to every watch. Also feeds the pod index, which has no listener of its own.
pub fn wire(feeds: &mut Feeds, caches: &Caches, dispatch: &Dispatch) -> Triggers {
    let (jobs, for_jobs) = mpsc::unbounded_channel();
    let (queues, for_queues) = mpsc::unbounded_channel();
    let (environments, for_environments) = mpsc::unbounded_channel();
    let (definitions, for_definitions) = mpsc::unbounded_channel();
    let (revisions, for_revisions) = mpsc::unbounded_channel();
    let (policies, for_policies) = mpsc::unbounded_channel();
    let (consumable_resources, for_consumable_resources) = mpsc::unbounded_channel();
    let attempt_pods = Arc::new(Notify::new());
    let wakers = Wakers { jobs: jobs.clone(), queues: queues.clone(), environments: environments.clone() };
    let wires = Wires {
        caches: caches.clone(),
        dispatch: dispatch.clone(),
        jobs,
        queues,
        environments,
        definitions,
        revisions,
        policies,
        consumable_resources,
        attempt_pods: attempt_pods.clone(),
    };
    let (w, mut seen, mut queue_of) = (wires.clone(), Seen::default(), HashMap::new());
    feeds.jobs.listen(move |change| w.job(change, &mut seen, &mut queue_of));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.pods.listen(move |change| w.pod(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.nodes.listen(move |change| w.node(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.namespaces.listen(move |change| w.namespace(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.queues.listen(move |change| w.queue(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.environments.listen(move |change| w.environment(change, &mut seen));
    let (w, mut own, mut status) = (wires.clone(), Seen::default(), Seen::default());
    feeds.definitions.listen(move |change| w.definition(change, &mut own, &mut status));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.policies.listen(move |change| w.policy(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.consumable_resources.listen(move |change| w.consumable_resource(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.revisions.listen(move |change| w.revision(change, &mut seen));
    let (w, mut seen) = (wires.clone(), Seen::default());
    feeds.node_pools.listen(move |change| {
        let read = format!("{:?}", change.object().status);
        w.capacity(change, read, &mut seen);
    });
    let (w, mut seen) = (wires, Seen::default());
    feeds.node_classes.listen(move |change| w.capacity(change, String::new(), &mut seen));
    Triggers {
        jobs: for_jobs,
        wakers,
        queues: for_queues,
        environments: for_environments,
        definitions: for_definitions,
        policies: for_policies,
        consumable_resources: for_consumable_resources,
        revisions: for_revisions,
        attempt_pods,
    }
}

/// What others read of each object, as a hash, by uid.
#[derive(Default)]
struct Seen(HashMap<String, u64>);

impl Seen {
    /// True if the object appeared, is gone, or differs in what others read of it.
    fn is_news<K: Resource>(&mut self, change: &Change<K>, read: impl Hash) -> bool {
        let uid = change.object().meta().uid.clone().unwrap_or_default();
        if matches!(change, Change::Deleted(_)) {
            self.0.remove(&uid);
            return true;
        }
        let mut hasher = DefaultHasher::new();
        read.hash(&mut hasher);
        let hash = hasher.finish();
        self.0.insert(uid, hash) != Some(hash)
    }
}

#[derive(Clone)]
struct Wires {
    caches: Caches,
    dispatch: Dispatch,
    jobs: UnboundedSender<ObjectRef<BatchJob>>,
    queues: UnboundedSender<ObjectRef<JobQueue>>,
    environments: UnboundedSender<ObjectRef<ComputeEnvironment>>,
    definitions: UnboundedSender<ObjectRef<JobDefinition>>,
    revisions: UnboundedSender<ObjectRef<ControllerRevision>>,
    policies: UnboundedSender<ObjectRef<SchedulingPolicy>>,
    consumable_resources: UnboundedSender<ObjectRef<ConsumableResource>>,
    attempt_pods: Arc<Notify>,
}

impl Wires {
    fn job(&self, change: &Change<BatchJob>, seen: &mut Seen, queue_of: &mut HashMap<String, String>) {
        let job = change.object();
        let deleted = matches!(change, Change::Deleted(_));
        if deleted {
            self.attempt_pods.notify_one();
            self.dispatch.forget(&job.uid().unwrap_or_default());
        } else {
            wake_object(&self.jobs, job.as_ref());
        }
        let record = job.status.as_ref().map(|status| &status.record);
        let read = (
            job.metadata.generation,
            is_deleting(job.as_ref()),
            record.map(|r| (r.phase(), r.attempts.len(), r.placements.len())),
            record.and_then(|r| r.current.as_ref()).map(|current| current.pod_uid.clone()),
            record.map(|r| r.intent.is_some()),
            ended_children(job),
        );
        if !seen.is_news(change, read) {
            return;
        }
        self.dispatch.poke();
        let namespace = job.namespace().unwrap_or_default();
        let uid = job.uid().unwrap_or_default();
        let before = match deleted {
            true => queue_of.remove(&uid),
            false => queue_of.insert(uid, job.spec.job_queue.clone()),
        };
        if deleted || before.is_none() || is_finished(job) || job.spec.array_properties.is_some() {
            self.wake_dependents(job);
        }
        for reference in
            before.iter().filter(|before| **before != job.spec.job_queue).chain([&job.spec.job_queue])
        {
            if let Some(queue) = self.caches.queue(&namespace, reference) {
                wake_object(&self.queues, queue.as_ref());
            }
        }
    }

    /// Those that depend on a job that came, ended or went, and those with which it waits in a circle.
    fn wake_dependents(&self, job: &BatchJob) {
        let dependents = &self.caches.dependents;
        let circle = dependents.circle(&job.uid().unwrap_or_default());
        let in_circle = circle.iter().flat_map(|circle| circle.jobs.iter().cloned());
        for uid in dependents.of(job).into_iter().chain(in_circle) {
            if let Some(job) = self.caches.job_ref(&uid) {
                wake(&self.jobs, job);
            }
        }
    }

    fn pod(&self, change: &Change<Pod>, seen: &mut Seen) {
        let pod = change.object();
        let job = self.caches.pods.take(change);
        let read = (
            observe::node_name(pod).map(str::to_owned),
            observe::is_finished(pod),
            is_deleting(pod.as_ref()),
        );
        let moved = seen.is_news(change, read);
        match job {
            Some(uid) => {
                match self.caches.job_ref(&uid) {
                    Some(job) => wake(&self.jobs, job),
                    None => self.attempt_pods.notify_one(),
                }
                self.dispatch.poke();
                if let Some(environment) = pod.annotations().get(meta::COMPUTE_ENVIRONMENT).filter(|_| moved)
                {
                    wake(&self.environments, ObjectRef::new(environment));
                }
                let namespace = pod.namespace().unwrap_or_default();
                for resource in tokens::held_by(pod).keys() {
                    wake(&self.consumable_resources, ObjectRef::new(resource).within(&namespace));
                }
            }
            None if is_placeholder(pod) => {
                if let Some(environment) = pod.annotations().get(meta::COMPUTE_ENVIRONMENT).filter(|_| moved)
                {
                    wake(&self.environments, ObjectRef::new(environment));
                }
                self.dispatch.poke();
            }
            None if pods::is_orphan(pod) => self.attempt_pods.notify_one(),
            None if moved => self.dispatch.poke(),
            None => {}
        }
    }

    fn node(&self, change: &Change<Node>, seen: &mut Seen) {
        let node = change.object();
        let view = observe::node(node);
        let amounts =
            node.status.as_ref().map(|status| [status.allocatable.as_ref(), status.capacity.as_ref()]);
        let amounts = amounts.map(|lists| lists.map(|list| list.map(|list| format!("{list:?}"))));
        // Among them may be notices that it is about to go.
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let true_ones: Vec<_> = conditions.filter(|c| c.status == "True").map(|c| c.type_.clone()).collect();
        let read = (
            true_ones,
            (view.ready, view.unschedulable, view.deleting, view.boot_id.clone()),
            format!("{:?}", node.spec.as_ref().map(|spec| (&spec.taints, &spec.provider_id))),
            node.labels().clone(),
            amounts,
        );
        if !seen.is_news(change, read) {
            return;
        }
        for uid in self.caches.pods.mark_node(&view.name) {
            if let Some(job) = self.caches.job_ref(&uid) {
                wake(&self.jobs, job);
            }
        }
        wake_all(&self.environments, &self.caches.environments, |_| true);
        self.attempt_pods.notify_one();
        self.dispatch.poke();
    }

    fn namespace(&self, change: &Change<Namespace>, seen: &mut Seen) {
        let namespace = change.object();
        if seen.is_news(change, (is_deleting(namespace.as_ref()), namespace.labels().clone())) {
            let name = namespace.name_any();
            wake_all(&self.queues, &self.caches.queues, |queue| queue.namespace().as_ref() == Some(&name));
            wake_all(&self.policies, &self.caches.policies, |policy| {
                policy.namespace().as_ref() == Some(&name)
            });
            self.dispatch.poke();
        }
    }

    fn queue(&self, change: &Change<JobQueue>, seen: &mut Seen) {
        let queue = change.object();
        let status = queue.status.as_ref();
        let read = (
            read_of(queue.as_ref()),
            status.map(|status| (status.observed_generation, status.status)),
            queue.annotations().get(meta::DELETE_JOBS).cloned(),
        );
        if !seen.is_news(change, read) {
            return;
        }
        wake_object(&self.queues, queue.as_ref());
        wake_all(&self.policies, &self.caches.policies, |policy| uses(queue, policy));
        let ending = is_deleting(queue.as_ref()) || matches!(change, Change::Deleted(_));
        self.wake_jobs(|job| names_queue(job, queue) && (ending || waits_for_acceptance(job)));
        let namespace = queue.namespace().unwrap_or_default();
        for order in &queue.spec.compute_environment_order {
            for name in name::environments(&namespace, &order.compute_environment) {
                wake(&self.environments, ObjectRef::new(&name));
            }
        }
        self.dispatch.poke();
    }

    fn environment(&self, change: &Change<ComputeEnvironment>, seen: &mut Seen) {
        let environment = change.object();
        let status = environment.status.as_ref();
        let status = status.map(|status| (status.observed_generation, status.status));
        if !seen.is_news(change, (read_of(environment.as_ref()), status)) {
            return;
        }
        wake_object(&self.environments, environment.as_ref());
        let name = environment.name_any();
        let queues = self.caches.queues.state_filter(|queue| names_environment(queue, &name));
        queues.iter().for_each(|queue| wake_object(&self.queues, queue.as_ref()));
        self.wake_jobs(|job| {
            let waits = waits_for_acceptance(job) || waits_for_environment(job);
            waits && queues.iter().any(|queue| names_queue(job, queue))
        });
        // How long a lost node is waited for is the environment's word.
        for attempt in self.caches.pods.attempts().iter().filter(|attempt| attempt.environment == name) {
            if let Some(job) = self.caches.job_ref(&attempt.job_uid) {
                wake(&self.jobs, job);
            }
        }
        self.dispatch.poke();
    }

    fn definition(&self, change: &Change<JobDefinition>, own: &mut Seen, status: &mut Seen) {
        let definition = change.object();
        let (namespace, name) = (definition.namespace(), definition.name_any());
        if own.is_news(change, read_of(definition.as_ref())) {
            wake_object(&self.definitions, definition.as_ref());
            wake_all(&self.revisions, &self.caches.revisions, |revision| {
                revision.namespace() == namespace && definition_name(revision) == Some(name.as_str())
            });
        }
        let read = definition.status.as_ref();
        let read = read.map(|status| (status.observed_generation, status.revision, status.latest_active));
        if status.is_news(change, (definition.metadata.generation, read)) {
            self.wake_jobs(|job| {
                waits_for_acceptance(job) && names_definition(job, namespace.as_deref(), &name)
            });
        }
    }

    fn policy(&self, change: &Change<SchedulingPolicy>, seen: &mut Seen) {
        let policy = change.object();
        if !seen.is_news(change, read_of(policy.as_ref())) {
            return;
        }
        wake_object(&self.policies, policy.as_ref());
        let queues = self.caches.queues.state_filter(|queue| uses(queue, policy));
        queues.iter().for_each(|queue| wake_object(&self.queues, queue.as_ref()));
        self.wake_jobs(|job| waits_for_acceptance(job) && queues.iter().any(|queue| names_queue(job, queue)));
        self.dispatch.poke();
    }

    fn consumable_resource(&self, change: &Change<ConsumableResource>, seen: &mut Seen) {
        let resource = change.object();
        let counted = resource.status.as_ref().map(|status| status.counted_pods.clone());
        if !seen.is_news(change, (read_of(resource.as_ref()), counted)) {
            return;
        }
        wake_object(&self.consumable_resources, resource.as_ref());
        // Pods of theirs may have waited to be counted.
        for attempt in self.caches.pods.attempts() {
            let is_over = observe::is_finished(&attempt.pod) || is_deleting(attempt.pod.as_ref());
            if is_over
                && pods::is_held(&attempt.pod)
                && tokens::held_by(&attempt.pod).contains_key(&resource.name_any())
                && attempt.pod.namespace() == resource.namespace()
                && let Some(job) = self.caches.job_ref(&attempt.job_uid)
            {
                wake(&self.jobs, job);
            }
        }
        self.attempt_pods.notify_one();
        self.dispatch.poke();
    }

    fn revision(&self, change: &Change<ControllerRevision>, seen: &mut Seen) {
        let revision = change.object();
        let status = revision.labels().get(meta::REVISION_STATUS).cloned();
        if !seen.is_news(change, (read_of(revision.as_ref()), status)) {
            return;
        }
        wake_object(&self.revisions, revision.as_ref());
        let (Some(namespace), Some(name)) = (revision.namespace(), definition_name(revision)) else { return };
        wake(&self.definitions, ObjectRef::new(name).within(&namespace));
        self.wake_jobs(|job| waits_for_acceptance(job) && names_definition(job, Some(&namespace), name));
    }

    /// What was made for an environment, of whose status this is read.
    fn capacity<K: Resource<DynamicType = ()>>(&self, change: &Change<K>, status: String, seen: &mut Seen) {
        let object = change.object();
        let meta = object.meta();
        let owners = meta.owner_references.iter().flatten();
        let owner = owners.filter(|owner| owner.kind == "ComputeEnvironment").map(|owner| &owner.name);
        if seen.is_news(change, (meta.generation, is_deleting(object.as_ref()), meta.labels.clone(), status))
        {
            owner.for_each(|name| wake(&self.environments, ObjectRef::new(name)));
        }
    }

    fn wake_jobs(&self, is_meant: impl Fn(&BatchJob) -> bool) {
        wake_all(&self.jobs, &self.caches.job_store(), |job| !is_finished(job) && is_meant(job));
    }
}

/// Wakes the objects of a cache that are meant.
fn wake_all<K>(sender: &UnboundedSender<ObjectRef<K>>, store: &Store<K>, is_meant: impl Fn(&K) -> bool)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in store.state_filter(is_meant) {
        wake_object(sender, object.as_ref());
    }
}

fn wake_object<K: Resource<DynamicType = ()>>(sender: &UnboundedSender<ObjectRef<K>>, object: &K) {
    wake(sender, ObjectRef::from_obj(object));
}

fn wake<K: Resource<DynamicType = ()>>(sender: &UnboundedSender<ObjectRef<K>>, object: ObjectRef<K>) {
    // Nobody listens any more only when the process is about to end.
    let _ = sender.send(object);
}

/// What every controller reads of metadata.
fn read_of<K: Resource>(object: &K) -> (Option<i64>, bool, bool) {
    let meta = object.meta();
    let in_use = meta.finalizers.iter().flatten().any(|finalizer| finalizer == meta::IN_USE_FINALIZER);
    (meta.generation, is_deleting(object), in_use)
}

fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// How many children of an array have ended: those of other arrays may wait for them.
fn ended_children(job: &BatchJob) -> Option<(i64, i64)> {
    let counts = job.status.as_ref()?.array_properties.as_ref()?.status_summary.as_ref()?;
    Some((counts.of(Phase::Succeeded), counts.of(Phase::Failed)))
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map(|status| status.record.phase()).unwrap_or_default()
}

fn is_finished(job: &BatchJob) -> bool {
    phase(job).is_terminal()
}

/// True while what the job names may be missing.
fn waits_for_acceptance(job: &BatchJob) -> bool {
    phase(job) == Phase::Submitted
}

/// A job that says that it waits for an environment, of which one kind may be that on which it can never run.
fn waits_for_environment(job: &BatchJob) -> bool {
    let waiting = job.status.as_ref().and_then(|status| status.record.waiting);
    waiting.is_some_and(|waiting| waiting.kind == Kind::ComputeEnvironment)
}

fn names_environment(queue: &JobQueue, environment: &str) -> bool {
    let namespace = queue.metadata.namespace.as_deref().unwrap_or_default();
    let names =
        |reference: &str| name::environments(namespace, reference).iter().any(|name| name == environment);
    queue.spec.compute_environment_order.iter().any(|order| names(&order.compute_environment))
}

fn names_definition(job: &BatchJob, namespace: Option<&str>, definition: &str) -> bool {
    let reference = job.spec.job_definition.as_deref().and_then(|text| DefinitionRef::parse(text).ok());
    job.metadata.namespace.as_deref() == namespace
        && reference.is_some_and(|r| name::candidates(&r.name).iter().any(|name| name == definition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn news_is_what_others_read() {
        let mut seen = Seen::default();
        let mut node = Node::default();
        node.metadata.uid = Some("u".into());
        let node = Arc::new(node);
        let applied = Change::Applied(node.clone());
        assert!(seen.is_news(&applied, 1), "new");
        assert!(!seen.is_news(&applied, 1), "a heartbeat");
        assert!(seen.is_news(&applied, 2), "a change");
        assert!(seen.is_news(&Change::Deleted(node), 2), "gone");
        assert!(seen.is_news(&applied, 2), "new again");
    }

    fn job(spec: Value) -> BatchJob {
        let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "j", "namespace": "ns"}, "spec": spec});
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn references() {
        let pinned = job(json!({"jobQueue": "q", "jobDefinition": "DCV-GPU-JD:3"}));
        let object = name::slug("DCV-GPU-JD");
        assert!(names_definition(&pinned, Some("ns"), &object));
        assert!(!names_definition(&pinned, Some("other"), &object));
        assert!(!names_definition(&pinned, Some("ns"), "dcv-gpu-jd"));
        assert!(!names_definition(&job(json!({"jobQueue": "q"})), Some("ns"), &object));

        let queue = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue",
            "metadata": {"name": "q", "namespace": "ns"}, "spec": {"priority": 1, "computeEnvironmentOrder":
                [{"order": 1, "computeEnvironment": "arn:aws:batch:eu-west-1:123456789012:compute-environment/spot"}]}});
        let queue: JobQueue = serde_json::from_value(queue).expect("a queue");
        assert!(names_environment(&queue, "spot") && names_environment(&queue, "ns.spot"));
        assert!(!names_environment(&queue, "other.spot"));
        assert!(names_queue(&pinned, &queue));
    }
}
