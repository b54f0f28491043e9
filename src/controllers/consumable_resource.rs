//! Consumable resources: how many tokens there are, who holds them, and how many are used up.
//!
//! What is used up is counted here and nowhere else. A pod that uses tokens up goes only after it was counted
//! ([`crate::k8s::tokens`]).

use std::sync::Arc;

use batchyard_core::reason::resources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use super::standing::{Conditions, ignored_fields};
use super::{Context, Outcome, Wake};
use crate::crd::ignored::Kind;
use crate::crd::{ConsumableResource, ConsumableResourceStatus};
use crate::k8s::error::Error;
use crate::k8s::read::read;
use crate::k8s::tokens::Standing;

/// Looks at one resource.
pub async fn reconcile(resource: Arc<ConsumableResource>, context: Arc<Context>) -> Outcome {
    let namespace = resource.namespace().unwrap_or_default();
    // While somebody's finalizer keeps it, pods still wait to be counted.
    if context.caches.is_terminating(&namespace) {
        return Ok(Wake::OnChange);
    }
    let mut standing = Standing::of(&resource, &context.caches.pods.attempts());
    let counted = resource.status.as_ref().map(|status| status.counted_pods.as_slice()).unwrap_or_default();
    let is_urgent = standing.counted.iter().any(|pod| !counted.contains(pod))
        || resource.status.as_ref().and_then(|status| status.observed_generation)
            != resource.metadata.generation;
    if let Some(pause) = context.refresh.pause(resource.as_ref()).filter(|_| !is_urgent) {
        return Ok(Wake::After(pause));
    }
    keep_those_that_exist(&mut standing, &resource, &context).await?;
    let status = status(&resource, &standing, context.clock.now());
    if resource.status.as_ref() == Some(&status) {
        context.refresh.done(resource.as_ref());
        return Ok(Wake::OnChange);
    }
    let api: Api<ConsumableResource> = Api::namespaced(context.writer.client().clone(), &namespace);
    let changed = ConsumableResource { status: Some(status), ..ConsumableResource::clone(&resource) };
    context.writer.replace_status(&api, &changed).await?;
    context.refresh.done(resource.as_ref());
    Ok(Wake::OnChange)
}

/// A pod that was counted and is in no cache is forgotten only when it is certain to be gone: a cache may be filled
/// from the past, and a pod that is forgotten and comes back would be counted again.
async fn keep_those_that_exist(
    standing: &mut Standing,
    resource: &ConsumableResource,
    context: &Context,
) -> Result<(), Error> {
    let counted = resource.status.as_ref().map(|status| status.counted_pods.as_slice()).unwrap_or_default();
    let namespace = resource.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.writer.client().clone(), &namespace);
    for pod in counted.iter().filter(|pod| !standing.counted.contains(pod)).cloned().collect::<Vec<_>>() {
        if read(format!("get Pod {namespace}/{pod}"), || api.get_opt(&pod)).await?.is_some() {
            standing.counted.push(pod);
        }
    }
    standing.counted.sort();
    Ok(())
}

/// The status that follows from what is seen.
fn status(resource: &ConsumableResource, standing: &Standing, now: Timestamp) -> ConsumableResourceStatus {
    let mut status = resource.status.clone().unwrap_or_default();
    let aws_name = resource.spec.consumable_resource_name.as_deref();
    let ignored = ignored_fields(
        Kind::ConsumableResource,
        resource,
        &resource.spec,
        "consumableResourceName",
        aws_name,
    );
    let mut conditions = Conditions::of(resource, &mut status.conditions, now);
    conditions.ready(true, "Healthy", resources::CONSUMABLE_HEALTHY.to_owned());
    conditions.fields_ignored(&ignored);
    ConsumableResourceStatus {
        observed_generation: resource.metadata.generation,
        total_quantity: Some(standing.total),
        in_use_quantity: Some(standing.in_use),
        available_quantity: Some(standing.left()),
        used_up_quantity: Some(standing.used_up).filter(|used_up| *used_up > 0),
        counted_pods: standing.counted.clone(),
        conditions: status.conditions,
    }
}
