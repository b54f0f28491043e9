//! The pod of a task: each container like that of a job of one, and what `ecsProperties` says of them together.

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::definition::ecs::{Container as Stated, Task};
use batchyard_core::definition::{Properties, container_name};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::{Attempt, container, some, volumes};
use crate::crd::compute_environment::PodDefaults;
use crate::k8s::{meta, order};

/// Which container kubectl means if none is named.
const DEFAULT: &str = "kubectl.kubernetes.io/default-container";

/// The annotations by which the containers are told apart.
pub(super) fn roles(task: &Task) -> Vec<(String, String)> {
    let name = |stated: &Stated| container_name(&stated.name);
    let auxiliary: Vec<_> = task.containers.iter().filter(|stated| !stated.essential).map(name).collect();
    let order: BTreeMap<_, _> = task
        .containers
        .iter()
        .map(|stated| (name(stated), task.waits_for(stated)))
        .filter(|(_, after)| !after.is_empty())
        .collect();
    let mut roles = Vec::new();
    if let Some(main) = task.containers.iter().find(|stated| stated.essential && task.containers.len() > 1) {
        roles.push((DEFAULT.to_owned(), name(main)));
    }
    if !auxiliary.is_empty() {
        roles.push((meta::AUXILIARY.to_owned(), auxiliary.join(",")));
    }
    if let Some(order) = serde_json::to_string(&order).ok().filter(|_| !order.is_empty()) {
        roles.push((meta::STARTS_AFTER.to_owned(), order));
    }
    roles
}

/// Fills the pod's spec.
pub(super) fn spec(attempt: &Attempt<'_>, task: &Task, defaults: &PodDefaults, spec: PodSpec) -> PodSpec {
    let shared = Properties { volumes: task.volumes.clone(), ..Properties::default() };
    let mut made = volumes::volumes(&shared, attempt.environment_spec);
    let mut containers = Vec::new();
    for (index, stated) in task.containers.iter().enumerate() {
        let (container, own) = one(attempt, (index, stated), defaults);
        containers.push(container);
        made.extend(own);
    }
    // A pod has either one of its own or the node's, where the node's init reaps orphans.
    let shared_pids = task.shared_pids.then_some(true).or(spec.share_process_namespace);
    let shared_pids = shared_pids.filter(|_| !task.host_pid);
    PodSpec {
        containers,
        volumes: some(made),
        host_ipc: task.host_ipc.then_some(true),
        host_pid: task.host_pid.then_some(true),
        share_process_namespace: shared_pids,
        termination_grace_period_seconds: Some(task.stop_timeout(attempt.grace_seconds)),
        ..spec
    }
}

/// A container, and the volumes that it has for itself, such as those in memory: they bear its number, since another may
/// have such ones too.
fn one(
    attempt: &Attempt<'_>,
    (index, stated): (usize, &Stated),
    defaults: &PodDefaults,
) -> (Container, Vec<Volume>) {
    let name = container_name(&stated.name);
    let mut container = container::container(attempt, &name, (&stated.properties, &stated.amounts), defaults);
    if !stated.depends_on.is_empty() {
        let pod = super::pod_name(attempt);
        container.env.get_or_insert_default().push(order::variable(&pod, &name));
    }
    let mut own = volumes::volumes(&stated.properties, attempt.environment_spec);
    let names: BTreeSet<_> = own.iter().map(|volume| volume.name.clone()).collect();
    let numbered = |name: &str| format!("{name}-{index}");
    own.iter_mut().for_each(|volume| volume.name = numbered(&volume.name));
    for mount in container.volume_mounts.iter_mut().flatten() {
        if names.contains(&mount.name) {
            mount.name = numbered(&mount.name);
        }
    }
    (container, own)
}
