//! `kubectl batch uninstall`: takes our finalizers off when no operator is left to do it.

use std::process::ExitCode;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::{find, print};
use crate::crd::{ComputeEnvironment, JobQueue, SchedulingPolicy};
use crate::k8s::meta;

/// Whether it is meant.
#[derive(clap::Args, Debug)]
pub(super) struct UninstallArgs {
    /// Do it. Without this only what would be done is shown.
    #[arg(long)]
    yes: bool,
}

/// Everything that an operator that is gone holds on to, in the whole cluster.
pub(super) async fn run(args: &UninstallArgs, cluster: &Cluster) -> Result<ExitCode> {
    let ours = format!("{}={}", meta::MANAGED_BY, meta::OPERATOR);
    let operator = ListParams::default().labels("app.kubernetes.io/name=batchyard");
    let running = find::every(&cluster.all::<Deployment>(), operator).await?;
    if let Some(operator) = running.iter().find(|operator| replicas(operator) > 0) {
        let where_ = operator.namespace().unwrap_or_default();
        return Err(Error::new(Kind::Invalid, format!("the operator runs: Deployment {where_}/{}", operator.name_any()))
            .with_hint("It takes its finalizers off itself. Delete jobs, queues and environments first, then the operator: docs/uninstall.md."));
    }
    let mut released =
        release::<Pod>(args, cluster, ListParams::default().labels(&ours), meta::ATTEMPT_FINALIZER).await?;
    released += release::<JobQueue>(args, cluster, ListParams::default(), meta::IN_USE_FINALIZER).await?;
    released +=
        release::<SchedulingPolicy>(args, cluster, ListParams::default(), meta::IN_USE_FINALIZER).await?;
    released +=
        release::<ComputeEnvironment>(args, cluster, ListParams::default(), meta::IN_USE_FINALIZER).await?;
    match (released, args.yes) {
        (0, _) => eprintln!("Nothing holds a finalizer of Batchyard."),
        (_, false) => eprintln!("Nothing was done. Add --yes to do it."),
        (_, true) => eprintln!("They can be deleted now: docs/uninstall.md has the commands."),
    }
    Error::done()
}

fn replicas(operator: &Deployment) -> i32 {
    operator.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Takes one finalizer off each object that has it; others stay.
async fn release<K>(
    args: &UninstallArgs,
    cluster: &Cluster,
    which: ListParams,
    finalizer: &str,
) -> Result<usize>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let held: Vec<K> = find::every(&cluster.all::<K>(), which).await?;
    let held = held.into_iter().filter(|object| object.finalizers().iter().any(|name| name == finalizer));
    let mut count = 0;
    for object in held {
        let (kind, name) = (K::kind(&()).to_lowercase(), object.name_any());
        let place = object.namespace().map(|namespace| format!(" of {namespace}")).unwrap_or_default();
        if args.yes {
            let others: Vec<_> = object.finalizers().iter().filter(|name| *name != finalizer).collect();
            // The version keeps what somebody else does meanwhile.
            let patch =
                json!({"metadata": {"finalizers": others, "resourceVersion": object.resource_version()}});
            api_of(cluster, &object).patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        let done = if args.yes { "released" } else { "would be released" };
        print(&format!("{kind}/{name}{place} {done}\n"));
        count += 1;
    }
    Ok(count)
}

/// Where an object is patched: kube's types know the scope of a kind, this function does not.
fn api_of<K>(cluster: &Cluster, object: &K) -> Api<kube::api::DynamicObject>
where
    K: Resource<DynamicType = ()>,
{
    let kind = kube::api::ApiResource::erase::<K>(&());
    match object.meta().namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &kind),
        None => Api::all_with(cluster.client.clone(), &kind),
    }
}
