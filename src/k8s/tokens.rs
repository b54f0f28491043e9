//! Tokens of ConsumableResources: pods are the record of who holds them. Pure.
//!
//! A pod that takes tokens says so in an annotation, and holds them for as long as it may run. Tokens that come back
//! (REPLENISHABLE) need no other record: after a crash the pods tell who holds what. Those that are used up are
//! counted in the resource's status, which also names the pods that it counted and that still exist; both change in
//! one write, and a pod goes only after it was counted, so that each counts once.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::caches::Caches;
use super::meta;
use super::observe;
use super::pods::AttemptPod;
use crate::crd::ConsumableResource;

/// True if tokens do not come back.
pub fn are_used_up(resource: &ConsumableResource) -> bool {
    resource.spec.resource_type.as_deref() == Some("NON_REPLENISHABLE")
}

/// The tokens that a pod holds, by the names of resources in its namespace. Users can edit the annotation; what makes
/// no sense is left out.
pub fn held_by(pod: &Pod) -> BTreeMap<String, i64> {
    let text = pod.annotations().get(meta::CONSUMABLE_RESOURCES);
    let held: BTreeMap<String, i64> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    held.into_iter().filter(|(_, quantity)| *quantity > 0).collect()
}

/// The annotation that says so; none for a pod that holds nothing.
pub fn annotation(tokens: &[(String, i64)]) -> Option<String> {
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for (resource, quantity) in tokens {
        let name = resource.rsplit('/').next().unwrap_or_default();
        *held.entry(name).or_default() += quantity;
    }
    (!held.is_empty()).then(|| serde_json::to_string(&held).unwrap_or_default())
}

/// How many tokens there are, and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many there are, less those that are used up.
    pub total: i64,
    /// How many are held by pods.
    pub in_use: i64,
    /// How many are used up.
    pub used_up: i64,
    /// The names of the pods, that exist, whose tokens are in `used_up`.
    pub counted: Vec<String>,
}

impl Standing {
    /// By the resource's status and the pods of the cluster: what is, and what its status is to say next.
    pub fn of(resource: &ConsumableResource, pods: &[Arc<AttemptPod>]) -> Self {
        let status = resource.status.clone().unwrap_or_default();
        let (namespace, name) = (resource.namespace(), resource.name_any());
        let mut next = Self { used_up: status.used_up_quantity.unwrap_or(0), ..Self::default() };
        let used_up = are_used_up(resource);
        for attempt in pods.iter().filter(|attempt| attempt.pod.namespace() == namespace) {
            let Some(quantity) = attempt.tokens.get(&name).copied() else { continue };
            let pod = attempt.pod.name_any();
            if !used_up {
                next.in_use += if attempt.finished { 0 } else { quantity };
            } else if status.counted_pods.contains(&pod) {
                next.counted.push(pod);
            } else if attempt.finished {
                // Nobody holds it any more: it was counted by a resource of this name that is gone.
            } else if observe::node_name(&attempt.pod).is_some() {
                next.used_up = next.used_up.saturating_add(quantity);
                next.counted.push(pod);
            } else {
                next.in_use += quantity;
            }
        }
        next.counted.sort();
        next.total = resource.spec.total_quantity.unwrap_or(0).saturating_sub(next.used_up).max(0);
        next
    }

    /// How many a job may still take.
    pub fn left(&self) -> i64 {
        self.total.saturating_sub(self.in_use).max(0)
    }
}

/// True if the pod holds tokens that are used up and are not counted yet: it must not go before, unless all of its
/// namespace goes.
pub fn must_be_counted(pod: &Pod, caches: &Caches) -> bool {
    let namespace = pod.namespace().unwrap_or_default();
    observe::node_name(pod).is_some()
        && !caches.is_terminating(&namespace)
        && held_by(pod).keys().any(|name| {
            let resource = caches.consumable_resources.get(&ObjectRef::new(name).within(&namespace));
            resource.is_some_and(|resource| are_used_up(&resource) && !has_counted(&resource, pod))
        })
}

fn has_counted(resource: &ConsumableResource, pod: &Pod) -> bool {
    resource.status.as_ref().is_some_and(|status| status.counted_pods.contains(&pod.name_any()))
}
