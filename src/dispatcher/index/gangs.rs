//! Multi-node jobs as the index keeps them: one place in line, and a pod for each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::definition::Effective;
use batchyard_core::definition::nodes::{Gang, Group as Nodes};
use batchyard_core::definition::requirements::Amounts;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use batchyard_core::queue::{Candidate, Group, Provisioned, Resources, Unbound};
use kube::ResourceExt;

use super::{Waiting, tokens};
use crate::crd::BatchJob;
use crate::dispatcher::logging;
use crate::k8s::caches::Caches;
use crate::k8s::observe;
use crate::k8s::pods::AttemptPod;

/// What a pod with these amounts requests.
pub(super) fn requests(amounts: &Amounts) -> Resources {
    Resources {
        cpu_milli: amounts.vcpus_milli,
        memory: amounts.memory_mib << 20,
        gpus: amounts.gpus,
        pods: 1,
    }
}

/// What the nodes of a job take, and the most that one of them does.
pub(super) fn groups(gang: &Gang, requests: impl Fn(&Effective) -> Resources) -> (Arc<[Group]>, Resources) {
    let group = |nodes: &Nodes| Group {
        count: nodes.nodes.len(),
        pod: requests(&nodes.effective),
        instance_type: nodes.instance_type.clone(),
        cpu_as_stated: nodes.effective.cpu_as_stated(),
        gpus_by_name: nodes.effective.gpus_by_name(),
    };
    let groups: Arc<[Group]> = gang.groups.iter().map(group).collect();
    let largest = groups.iter().fold(Resources::default(), |largest, group| largest.max(&group.pod));
    (groups, largest)
}

/// The nodes of a job that was admitted, each as something that waits for a pod of its own; the main node is first.
pub(super) fn nodes(
    waiting: &Waiting,
    gang: &Gang,
    caches: &Caches,
    sidecars: logging::Sidecars,
) -> Vec<Waiting> {
    let namespace = waiting.job.namespace().unwrap_or_default();
    let mut nodes = Vec::new();
    for group in &gang.groups {
        let mut pod = requests(&group.effective.amounts);
        pod.add(&logging::extra(&group.effective, Some(&waiting.queue), caches, sidecars));
        let candidate = Candidate {
            vcpus_milli: group.effective.amounts.vcpus_milli,
            pod,
            tokens: tokens::of(&group.tokens, &namespace, caches),
            gang: None,
            cpu_as_stated: group.effective.cpu_as_stated(),
            gpus_by_name: group.effective.gpus_by_name(),
            ..waiting.candidate.clone()
        };
        nodes.extend(group.nodes.iter().map(|node| Waiting {
            candidate: candidate.clone(),
            index: Some(*node),
            ..waiting.clone()
        }));
    }
    nodes.sort_by_key(|node| (node.index != Some(gang.main), node.index));
    nodes
}

/// A multi-node job of whose round pods may still be made: the main node may have started by the time that the last of
/// the others is.
pub fn is_wanted(job: &BatchJob) -> bool {
    let Some(record) = job.status.as_ref().map(|status| &status.record) else { return false };
    record.phase() >= Phase::Runnable
        && !record.phase().is_terminal()
        && record.intent.is_none()
        && job.metadata.deletion_timestamp.is_none()
        && job.spec.terminate.is_none()
        && (job.spec.cancel.is_none() || record.is_bound())
}

/// A pod whose end is not recorded yet: one of the round that goes on, since those before it are counted with their
/// main node's.
pub fn has_open_pod(record: &Record, pods: &[Arc<AttemptPod>]) -> bool {
    let round = (record.next_attempt(), record.next_placement());
    pods.iter().any(|pod| observe::placed(&pod.pod).is_some_and(|placed| placed >= round))
}

/// The pods of a multi-node job wait for nodes together: they are one, as long as none has a node. After that they
/// take places in the window, and nobody can have them.
pub(super) fn merge(provisioned: &mut Provisioned, caches: &Caches) {
    let mut gangs: BTreeMap<String, Unbound> = BTreeMap::new();
    let (parts, mut unbound): (Vec<_>, Vec<_>) = std::mem::take(&mut provisioned.unbound)
        .into_iter()
        .partition(|pod| pod.child.is_none() && name::whole(&pod.key).1.is_some());
    for part in parts {
        let uid = name::whole(&part.key).0.to_owned();
        match gangs.get_mut(&uid) {
            None => drop(gangs.insert(uid.clone(), Unbound { key: uid, ..part })),
            Some(gang) => {
                gang.count += part.count;
                gang.vcpus_milli = gang.vcpus_milli.saturating_add(part.vcpus_milli);
                gang.pod = gang.pod.max(&part.pod);
                gang.since = gang.since.min(part.since);
            }
        }
    }
    for (uid, gang) in gangs {
        let pods = caches.pods.of_job(&uid);
        match pods.iter().any(|pod| !pod.finished && observe::node_name(&pod.pod).is_some()) {
            true => provisioned.unseen += gang.count,
            false => unbound.push(gang),
        }
    }
    provisioned.unbound = unbound;
}
