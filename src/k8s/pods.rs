//! The pods of the cluster, as far as they matter: attempt pods whole, others as an amount of
//! room on a node.
//!
//! Indexed by the uid of the job that owns them and by node, so that neither a reconcile nor a
//! scheduling cycle looks at all pods.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use batchyard_core::logging::sidecar;
use batchyard_core::name;
use batchyard_core::queue::Resources;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use roaring::RoaringBitmap;

use super::marks::Marks;
use super::own_writes::version;
use super::placeholder::is_placeholder;
use super::watch::Change;
use super::{meta, observe, sessions, tokens};
use crate::crd::BatchJob;

/// A shared, always current index of pods.
#[derive(Clone, Debug, Default)]
pub struct PodIndex {
    inner: Arc<RwLock<Inner>>,
    homes: Homes,
    /// The jobs whose pods changed.
    changed: Marks,
    /// The children of arrays whose pods changed, by job, until the job's controller takes them.
    parts: Arc<Mutex<HashMap<String, RoaringBitmap>>>,
}

/// An attempt pod.
#[derive(Clone, Debug)]
pub struct AttemptPod {
    /// The uid of the BatchJob that owns it.
    pub job_uid: String,
    /// Which child of an array it runs, or which node of a multi-node job it is.
    pub index: Option<u32>,
    /// The environment it was placed in.
    pub environment: String,
    /// vCPUs as the job states them, in thousandths.
    pub vcpus_milli: i64,
    /// The tokens that it holds, by the names of ConsumableResources in its namespace.
    pub tokens: BTreeMap<String, i64>,
    /// Its containers ended and its outcome is recorded: it needs no more room. Until then the room
    /// is kept, so that a job that is to be retried finds it and goes first.
    pub finished: bool,
    /// The whole object.
    pub pod: Arc<Pod>,
}

/// What pods take, all of it at one moment.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// What the pods bound to each node take of it.
    pub by_node: HashMap<String, Resources>,
    /// And of resources of other names, which may be GPUs to an environment.
    pub others_by_node: HashMap<String, Others>,
    /// The TCP ports of each node that pods have, and how many do.
    pub ports: HashMap<String, BTreeMap<u16, usize>>,
    /// vCPUs of the attempt pods that are not finished, in thousandths, by environment and namespace.
    pub vcpus_milli: HashMap<String, HashMap<String, i64>>,
    /// The attempt pods that are not finished and have no node yet, and what they request.
    pub unbound: Vec<(Arc<AttemptPod>, Resources)>,
    /// The attempt pods that hold tokens.
    pub holders: Vec<Arc<AttemptPod>>,
}

/// The jobs that are known, by uid, and with them their namespaces.
pub type Homes = Arc<RwLock<HashMap<String, ObjectRef<BatchJob>>>>;

/// Amounts of resources by name.
pub type Others = BTreeMap<String, i64>;

#[derive(Debug)]
struct Entry {
    node: Option<String>,
    requests: Resources,
    /// Few pods have any.
    others: Option<Box<Others>>,
    ports: Box<[u16]>,
    attempt: Option<Arc<AttemptPod>>,
}

/// The pods of a job, by index and uid.
type JobPods = BTreeMap<(Option<u32>, String), Arc<AttemptPod>>;

#[derive(Debug, Default)]
struct Inner {
    pods: HashMap<String, Entry>,
    by_job: HashMap<String, JobPods>,
    by_node: HashMap<String, Resources>,
    others_by_node: HashMap<String, Others>,
    ports: HashMap<String, BTreeMap<u16, usize>>,
    vcpus_milli: HashMap<String, HashMap<String, i64>>,
    /// By uid, so that they are looked at in the same order each time.
    unbound: BTreeMap<String, (Arc<AttemptPod>, Resources)>,
    holders: BTreeMap<String, Arc<AttemptPod>>,
    orphans: HashMap<String, Arc<Pod>>,
    placeholders: HashMap<String, Arc<Pod>>,
}

impl AttemptPod {
    /// What the operator knows by it: the job, or the child or node of one that it runs.
    pub fn key(&self) -> String {
        name::part(&self.job_uid, self.index)
    }
}

impl PodIndex {
    /// An empty index that marks the jobs whose pods change, and believes no pod outside of its job's namespace.
    pub fn marking(changed: Marks, homes: Homes) -> Self {
        Self { changed, homes, ..Self::default() }
    }

    /// Takes one change. Returns the uid of the job whose pod it is.
    pub fn take(&self, change: &Change<Pod>) -> Option<String> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let uid = change.object().uid()?;
        // The answer to a write may be here before the watch shows what was before it.
        let newer = |entry: &Entry| {
            let known = entry.attempt.as_ref().map(|attempt| version(attempt.pod.as_ref()));
            known.is_some_and(|known| known > version(change.object().as_ref()))
        };
        if inner.pods.get(&uid).is_some_and(newer) {
            return None;
        }
        let before = inner.remove(&uid);
        let now = match change {
            Change::Applied(pod) => inner.insert(uid, pod),
            Change::Deleted(_) => None,
        };
        // Who takes the marks sees no pods before this lock is let go.
        for job in now.iter().chain(&before) {
            self.changed.mark(job);
            self.mark_part(job, observe::index(change.object()));
        }
        now.or(before)
    }

    fn mark_part(&self, job_uid: &str, index: Option<u32>) {
        let Some(index) = index else { return };
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.get_mut(job_uid) {
            Some(marked) => drop(marked.insert(index)),
            None => drop(parts.insert(job_uid.to_owned(), [index].into_iter().collect())),
        }
    }

    /// The children of an array whose pods, or whose pods' nodes, changed since this was asked last.
    pub fn take_parts(&self, job_uid: &str) -> RoaringBitmap {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(job_uid).unwrap_or_default()
    }

    /// Something about a node changed: marks the children that have pods there. Returns the uids of all jobs that
    /// have.
    pub fn mark_node(&self, node: &str) -> Vec<String> {
        let inner = self.read();
        let on_node = inner.pods.values().filter(|entry| entry.node.as_deref() == Some(node));
        let pods = on_node.filter_map(|entry| entry.attempt.as_ref());
        let jobs: BTreeSet<_> = pods
            .map(|pod| {
                self.mark_part(&pod.job_uid, pod.index);
                pod.job_uid.clone()
            })
            .collect();
        jobs.into_iter().collect()
    }

    /// The pods that a job owns: those of a child of an array one after another.
    pub fn of_job(&self, job_uid: &str) -> Vec<Arc<AttemptPod>> {
        let (inner, is_at_home) = (self.read(), self.home(job_uid));
        let Some(pods) = inner.by_job.get(job_uid) else { return Vec::new() };
        pods.values().filter(|pod| is_at_home(pod)).cloned().collect()
    }

    /// Tells the pods in a job's namespace from others, which name it as their owner and do not belong to it: owners
    /// own nothing in another namespace (<https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/>).
    /// Of a job that is not known any more all count.
    fn home(&self, job_uid: &str) -> impl Fn(&AttemptPod) -> bool + use<> {
        let homes = self.homes.read().unwrap_or_else(PoisonError::into_inner);
        let home = homes.get(job_uid).map(|job| job.namespace.clone());
        move |pod| home.as_ref().is_none_or(|home| *home == pod.pod.metadata.namespace)
    }

    /// The pods of a job, or of the child or node of it that the key names ([`name::part`]).
    pub fn of_part(&self, key: &str) -> Vec<Arc<AttemptPod>> {
        let (uid, index) = name::whole(key);
        let (inner, is_at_home) = (self.read(), self.home(uid));
        let Some(pods) = inner.by_job.get(uid) else { return Vec::new() };
        let pods = pods.range((index, String::new())..).take_while(|((found, _), _)| *found == index);
        pods.map(|(_, pod)| pod).filter(|pod| is_at_home(pod)).cloned().collect()
    }

    /// True while a pod of the job takes room.
    pub fn has_work(&self, job_uid: &str) -> bool {
        let is_at_home = self.home(job_uid);
        let works = |pods: &JobPods| pods.values().any(|pod| !pod.finished && is_at_home(pod));
        self.read().by_job.get(job_uid).is_some_and(works)
    }

    /// True while a pod of the job has a node and takes room there.
    pub fn has_node(&self, job_uid: &str) -> bool {
        let is_at_home = self.home(job_uid);
        let is_bound = |pod: &AttemptPod| !pod.finished && observe::node_name(&pod.pod).is_some();
        let has = |pods: &JobPods| pods.values().any(|pod| is_bound(pod) && is_at_home(pod));
        self.read().by_job.get(job_uid).is_some_and(has)
    }

    /// How many pods of the job take room.
    pub fn count_work(&self, job_uid: &str) -> usize {
        let is_at_home = self.home(job_uid);
        let working = |pods: &JobPods| pods.values().filter(|pod| !pod.finished && is_at_home(pod)).count();
        self.read().by_job.get(job_uid).map_or(0, working)
    }

    /// Uids of all jobs that own pods.
    pub fn owners(&self) -> Vec<String> {
        self.read().by_job.keys().cloned().collect()
    }

    /// What pods take now. It costs the same however many run: each cycle asks.
    pub fn taken(&self) -> Taken {
        let inner = self.read();
        Taken {
            by_node: inner.by_node.clone(),
            others_by_node: inner.others_by_node.clone(),
            ports: inner.ports.clone(),
            vcpus_milli: inner.vcpus_milli.clone(),
            unbound: inner.unbound.values().cloned().collect(),
            holders: inner.holders.values().cloned().collect(),
        }
    }

    /// Every attempt pod.
    pub fn attempts(&self) -> Vec<Arc<AttemptPod>> {
        self.read().by_job.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The placeholders of an environment, by its object name.
    pub fn placeholders(&self, environment: &str) -> Vec<Arc<Pod>> {
        let of = |pod: &&Arc<Pod>| {
            pod.annotations().get(meta::COMPUTE_ENVIRONMENT).is_some_and(|name| name == environment)
        };
        let mut found: Vec<_> = self.read().placeholders.values().filter(of).cloned().collect();
        found.sort_by_key(|pod| pod.name_any());
        found
    }

    /// Pods that bear our finalizer and belong to no job any more.
    pub fn orphans(&self) -> Vec<Arc<Pod>> {
        self.read().orphans.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, uid: String, pod: &Arc<Pod>) -> Option<String> {
        let finished = observe::is_finished(pod) && !is_held(pod);
        let entry = Entry {
            node: observe::node_name(pod).map(str::to_owned),
            requests: if finished { Resources::default() } else { observe::requests(pod) },
            others: (!finished).then(|| observe::other_requests(pod)).filter(|o| !o.is_empty()).map(Box::new),
            ports: if finished { Box::default() } else { observe::host_ports(pod).into() },
            attempt: attempt(pod, finished),
        };
        if let Some(node) = &entry.node {
            self.by_node.entry(node.clone()).or_default().add(&entry.requests);
            if let Some(others) = &entry.others {
                self.count_others(node, others, true);
            }
            for port in &entry.ports {
                *self.ports.entry(node.clone()).or_default().entry(*port).or_default() += 1;
            }
        }
        let job = entry.attempt.as_ref().map(|attempt| {
            let pods = self.by_job.entry(attempt.job_uid.clone()).or_default();
            pods.insert((attempt.index, uid.clone()), attempt.clone());
            attempt.job_uid.clone()
        });
        if let Some(attempt) = &entry.attempt {
            self.count(attempt, true);
            if !attempt.finished && entry.node.is_none() {
                self.unbound.insert(uid.clone(), (attempt.clone(), entry.requests));
            }
            if !attempt.tokens.is_empty() {
                self.holders.insert(uid.clone(), attempt.clone());
            }
        }
        if is_placeholder(pod) {
            self.placeholders.insert(uid.clone(), pod.clone());
        }
        if is_orphan(pod) {
            self.orphans.insert(uid.clone(), pod.clone());
        }
        self.pods.insert(uid, entry);
        job
    }

    fn remove(&mut self, uid: &str) -> Option<String> {
        self.orphans.remove(uid);
        self.placeholders.remove(uid);
        self.unbound.remove(uid);
        self.holders.remove(uid);
        let entry = self.pods.remove(uid)?;
        entry.attempt.iter().for_each(|attempt| self.count(attempt, false));
        if let (Some(node), Some(others)) = (&entry.node, &entry.others) {
            self.count_others(node, others, false);
        }
        if let Some(node) = &entry.node {
            self.give_back(node, &entry.ports);
        }
        if let Some(node) = entry.node
            && let Some(used) = self.by_node.get_mut(&node)
        {
            used.charge(&entry.requests);
            // Nodes come and go; their names need not be remembered.
            if *used == Resources::default() {
                self.by_node.remove(&node);
            }
        }
        let attempt = entry.attempt?;
        let job = attempt.job_uid.clone();
        if let Some(pods) = self.by_job.get_mut(&job) {
            pods.remove(&(attempt.index, uid.to_owned()));
            if pods.is_empty() {
                self.by_job.remove(&job);
            }
        }
        Some(job)
    }

    /// Counts a pod's other resources as used on its node, or not any more.
    fn count_others(&mut self, node: &str, others: &Others, used: bool) {
        let sums = self.others_by_node.entry(node.to_owned()).or_default();
        for (name, amount) in others {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.saturating_add(if used { *amount } else { -*amount });
        }
        sums.retain(|_, sum| *sum != 0);
        if sums.is_empty() {
            self.others_by_node.remove(node);
        }
    }

    /// Ports that a pod had on its node are free again, unless another has them.
    fn give_back(&mut self, node: &str, ports: &[u16]) {
        let Some(taken) = self.ports.get_mut(node).filter(|_| !ports.is_empty()) else { return };
        for port in ports {
            match taken.get_mut(port) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(taken.remove(port)),
            }
        }
        if taken.is_empty() {
            self.ports.remove(node);
        }
    }

    /// Counts an attempt pod's vCPUs as used where it was placed, or not any more.
    fn count(&mut self, attempt: &AttemptPod, used: bool) {
        if attempt.finished || attempt.vcpus_milli == 0 {
            return;
        }
        let (environment, namespace) = (&attempt.environment, attempt.pod.namespace().unwrap_or_default());
        let namespaces = self.vcpus_milli.entry(environment.clone()).or_default();
        let sum = namespaces.entry(namespace.clone()).or_default();
        *sum += if used { attempt.vcpus_milli } else { -attempt.vcpus_milli };
        // Environments and namespaces come and go, too.
        if *sum == 0 {
            namespaces.remove(&namespace);
        }
        if namespaces.is_empty() {
            self.vcpus_milli.remove(environment);
        }
    }
}

fn attempt(pod: &Arc<Pod>, finished: bool) -> Option<Arc<AttemptPod>> {
    Some(Arc::new(AttemptPod {
        job_uid: owner(pod)?.to_owned(),
        index: observe::index(pod),
        environment: pod.annotations().get(meta::COMPUTE_ENVIRONMENT).cloned().unwrap_or_default(),
        vcpus_milli: vcpus_milli(pod),
        tokens: tokens::held_by(pod),
        finished,
        pod: pod.clone(),
    }))
}

/// The vCPUs that a pod was placed for. Users can edit the annotation; what makes no sense is cut.
pub fn vcpus_milli(pod: &Pod) -> i64 {
    let stated = pod.annotations().get(meta::VCPUS_MILLI).and_then(|text| text.parse::<i64>().ok());
    stated.unwrap_or(0).clamp(0, MAX_VCPUS_MILLI)
}

/// More vCPUs than any node has, in thousandths.
const MAX_VCPUS_MILLI: i64 = 10_000_000;

/// The uid of the BatchJob that a pod belongs to.
pub fn owner(pod: &Pod) -> Option<&str> {
    job_of(pod).map(|(_, uid)| uid)
}

/// Name and uid of the BatchJob that a pod belongs to: the one that controls it, or, if nobody
/// does, the one that it was made for. A copy of such a pod has another name and belongs to nobody.
pub fn job_of(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    if let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) {
        let is_job = controller.kind == "BatchJob" && controller.api_version.starts_with("batchyard.io/");
        return is_job.then_some((&controller.name, &controller.uid));
    }
    let (job, uid) = pod.annotations().get(meta::JOB)?.split_once('/')?;
    let (attempt, placement) = observe::placed(pod)?;
    (pod.metadata.name.as_ref() == Some(&name::pod(job, uid, observe::index(pod), attempt, placement)))
        .then_some((job, uid))
}

/// True if our finalizer keeps the pod.
pub fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == meta::ATTEMPT_FINALIZER)
}

/// True if a pod was made for a job and nothing tells for which: somebody took off its owner
/// reference, as a deletion with `--cascade=orphan` does, and its annotation.
pub fn is_orphan(pod: &Pod) -> bool {
    is_held(pod) && owner(pod).is_none()
}

/// Takes off a pod whatever says whose it is: nothing of it matters but the room that it takes.
pub fn disown(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    (metadata.owner_references, metadata.finalizers) = (None, None);
    (metadata.annotations, metadata.labels) = (None, None);
}

/// Takes off a pod what no decision looks at: of others' pods all but their place and their
/// requests.
pub fn trim(pod: &mut Pod) {
    let ours = owner(pod).is_some() || is_held(pod) || is_placeholder(pod);
    let counts = |port: &&ContainerPort| {
        port.host_port.is_some() || (ours && port.name.as_deref() == Some(sessions::PORT))
    };
    let is_sidecar = |container: &Container| ours && container.name == sidecar::CONTAINER;
    if let Some(spec) = &mut pod.spec {
        let small = |container: &Container| Container {
            name: container.name.clone(),
            resources: container.resources.clone(),
            restart_policy: container.restart_policy.clone(),
            ports: container.ports.as_ref().map(|ports| ports.iter().filter(counts).cloned().collect()),
            // That there is one says that the log sidecar's readiness means something.
            readiness_probe: container.readiness_probe.as_ref().filter(|_| is_sidecar(container)).cloned(),
            ..Container::default()
        };
        *spec = PodSpec {
            node_name: spec.node_name.take(),
            containers: spec.containers.iter().map(small).collect(),
            init_containers: spec.init_containers.as_ref().map(|inits| inits.iter().map(small).collect()),
            overhead: spec.overhead.take(),
            scheduling_gates: spec.scheduling_gates.take(),
            ..PodSpec::default()
        };
    }
    if !ours {
        pod.metadata.annotations = None;
        pod.metadata.labels = None;
        if let Some(status) = &mut pod.status {
            *status =
                k8s_openapi::api::core::v1::PodStatus { phase: status.phase.take(), ..Default::default() };
        }
    }
}
