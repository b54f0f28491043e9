//! ConsumableResources as a cycle sees them: what is left of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::name;
use kube::ResourceExt;

use crate::dispatcher::Dispatch;
use crate::k8s::caches::Caches;
use crate::k8s::pods::AttemptPod;
use crate::k8s::tokens;
use crate::k8s::watch::key;

/// These tokens by the `namespace/name` of their resource, each of which is named once.
pub(super) fn of(tokens: &[(String, i64)], namespace: &str, caches: &Caches) -> Vec<(String, i64)> {
    let named = |(reference, quantity): &(String, i64)| {
        let found = caches.consumable_resource(namespace, reference);
        let name = found.map_or_else(|| name::resource(reference).to_owned(), |found| found.name_any());
        (format!("{namespace}/{name}"), *quantity)
    };
    let mut taken: BTreeMap<String, i64> = BTreeMap::new();
    for (resource, quantity) in tokens.iter().map(named) {
        let sum = taken.entry(resource).or_default();
        *sum = sum.saturating_add(quantity);
    }
    taken.into_iter().collect()
}

/// What is left of each resource.
pub(super) fn left(caches: &Caches, dispatch: &Dispatch, pods: &[Arc<AttemptPod>]) -> BTreeMap<String, i64> {
    let resources = caches.consumable_resources.state();
    if resources.is_empty() {
        return BTreeMap::new();
    }
    let mut left: BTreeMap<String, i64> = resources
        .iter()
        .map(|resource| (key(resource.as_ref()), tokens::Standing::of(resource, pods).left()))
        .collect();
    for creating in dispatch.creating().into_values() {
        for (resource, quantity) in creating.candidate.tokens {
            left.entry(resource).and_modify(|left| *left = left.saturating_sub(quantity));
        }
    }
    left
}
