//! Keeps `minvCpus` ready, and brings `desiredvCpus` once, by pods that hold room.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::capacity::{self, Answer, Ask};
use batchyard_core::job::decide::Deletion;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tracing::warn;

use crate::controllers::Context;
use crate::controllers::standing::is_deleting;
use crate::crd::ComputeEnvironment;
use crate::k8s::error::{Error, chain};
use crate::k8s::placeholder::placeholder;
use crate::k8s::pool::{Pool, is_provisioned};
use crate::k8s::{meta, observe};

/// What placeholders do for an environment now.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What was decided; nothing where no node comes for a placeholder.
    pub answer: Option<Answer>,
    /// Why the API server takes none.
    pub refused: Option<String>,
}

/// Makes the placeholders that are missing, and removes those that are too many. `in_use` are the vCPUs
/// of placed jobs, `nodes` those of its nodes.
///
/// # Errors
/// When the API server fails; what it refuses is told in the answer.
pub(super) async fn keep(
    environment: &ComputeEnvironment,
    in_use: i64,
    nodes: i64,
    context: &Context,
) -> Result<Held, Error> {
    let answer = wanted(environment, in_use, nodes);
    let (namespace, settings) = (&context.settings.namespace, &context.settings.placeholders);
    let mut there = context.caches.pods.placeholders(&environment.name_any());
    // What somebody labelled so elsewhere is none of ours.
    there.retain(|pod| pod.metadata.namespace.as_ref() == Some(namespace));
    let sizes = answer.map(|answer| capacity::sizes(answer.held, answer.target)).unwrap_or_default();
    if sizes.is_empty() && there.is_empty() {
        return Ok(Held { answer, refused: None });
    }
    let pool = Pool::of(&environment.name_any(), &environment.spec, &[]);
    let sizes = sizes.into_iter().enumerate();
    let wanted =
        sizes.map(|(number, size)| placeholder(environment, &pool, namespace, settings, number, size));
    let (missing, surplus) = differences(wanted.collect(), &there);
    for pod in surplus {
        context.writer.delete_pod(&pod, Deletion::Forced).await?;
    }
    for pod in missing {
        match context.writer.create_pod(&pod).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => match error.status().filter(|status| matches!(status.code, 400 | 403 | 422)) {
                Some(status) => {
                    warn!(pod = pod.name_any(), "placeholder not made: {}", chain(&error));
                    return Ok(Held { answer, refused: Some(status.message.clone()) });
                }
                None => return Err(error),
            },
        }
    }
    Ok(Held { answer, refused: None })
}

/// What the environment asks for; nothing where no node comes for a placeholder.
fn wanted(environment: &ComputeEnvironment, in_use: i64, nodes: i64) -> Option<Answer> {
    let spec = &environment.spec;
    let compute = spec.compute_resources.as_ref().filter(|_| is_provisioned(spec))?;
    if is_deleting(environment) {
        return Some(Answer::default());
    }
    let status = environment.status.as_ref();
    let is_enabled = spec.state.unwrap_or_default().is_enabled();
    Some(capacity::decide(&Ask {
        min: compute.minv_cpus.map_or(0, i64::from),
        // A disabled environment keeps its minimum, and does not grow.
        desired: compute.desiredv_cpus.filter(|_| is_enabled).map(i64::from),
        carried_out: status.and_then(|status| status.last_desiredv_cpus).map(i64::from),
        in_use,
        nodes,
    }))
}

/// Those of `wanted` that are not there, and those there that are not wanted or not so.
fn differences(wanted: Vec<Pod>, there: &[Arc<Pod>]) -> (Vec<Pod>, Vec<Arc<Pod>>) {
    let mut wanted: BTreeMap<String, Pod> = wanted.into_iter().map(|pod| (pod.name_any(), pod)).collect();
    let mut surplus = Vec::new();
    for pod in there {
        let alike = |other: &Pod| {
            other.annotations().get(meta::PLACEHOLDER) == pod.annotations().get(meta::PLACEHOLDER)
        };
        let is_good = wanted.get(&pod.name_any()).is_some_and(alike) && !observe::is_finished(pod);
        // One that is to be replaced is made anew when it is gone, as is one that gives way just now.
        wanted.remove(&pod.name_any());
        if !is_good && !is_deleting(pod.as_ref()) {
            surplus.push(pod.clone());
        }
    }
    (wanted.into_values().collect(), surplus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, likeness: &str, phase: &str) -> Pod {
        let metadata = json!({"name": name, "annotations": {meta::PLACEHOLDER: likeness}});
        serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).expect("a pod")
    }

    #[test]
    fn what_environments_ask_for() {
        let deleting = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let (here, autoscaled) = (json!({"karpenter": {}}), json!({"static": {"autoscaled": true}}));
        for (metadata, state, provisioner, held) in [
            (json!({}), "ENABLED", here.clone(), Some(4)),
            (json!({}), "DISABLED", here.clone(), Some(2)),
            (deleting, "ENABLED", here, Some(0)),
            (json!({}), "ENABLED", autoscaled, Some(4)),
            (json!({}), "ENABLED", json!({"static": {}}), None),
        ] {
            let environment = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
                "metadata": metadata, "spec": {"type": "MANAGED", "state": state, "provisioner": provisioner,
                    "computeResources": {"type": "EC2", "minvCpus": 2, "desiredvCpus": 4, "maxvCpus": 8}}});
            let environment = serde_json::from_value(environment).expect("an environment");
            let answer = wanted(&environment, 0, 0);
            assert_eq!(answer.map(|answer| answer.held), held, "{metadata} {state} {provisioner}");
        }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let there: Vec<_> = [
            pod("same", "1", "Running"),
            pod("other", "0", "Running"),
            pod("surplus", "1", "Pending"),
            pod("ended", "1", "Failed"),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let wanted = ["same", "other", "ended", "new"].map(|name| pod(name, "1", "Pending")).to_vec();
        let (missing, surplus) = differences(wanted, &there);
        let names = |pods: Vec<String>| pods.join(" ");
        assert_eq!(names(missing.iter().map(ResourceExt::name_any).collect()), "new");
        assert_eq!(names(surplus.iter().map(|pod| pod.name_any()).collect()), "other surplus ended");
    }
}
