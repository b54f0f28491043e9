//! What was made for the session of a pod, as it stands: found, and removed before the pod is let go of.
//!
//! For the controller of jobs, and for pods that outlive their job.

use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use kube::discovery::{self, ApiGroup};
use kube::error::DiscoveryError;
use kube::{Api, Client, ResourceExt};
use tracing::warn;

use super::Context;
use crate::crd::session::SessionAddressType;
use crate::k8s::error::{Error, chain};
use crate::k8s::read::read;
use crate::k8s::sessions;
use crate::k8s::watch::key;

/// The kinds of the Gateway API, each in its most stable version; none in a cluster that has none.
///
/// # Errors
/// If the API server gives no answer.
pub(super) async fn routes(context: &Context) -> Result<Vec<ApiResource>, Error> {
    let client = context.writer.client();
    let group = read(format!("discover {}", sessions::GATEWAY_API), || gateway_api(client));
    let kinds = group.await?.map(|group| group.resources_by_stability()).unwrap_or_default();
    Ok(kinds.into_iter().map(|(kind, _)| kind).filter(|kind| kind.kind.ends_with("Route")).collect())
}

async fn gateway_api(client: &Client) -> Result<Option<ApiGroup>, kube::Error> {
    match discovery::group(client, sessions::GATEWAY_API).await {
        Ok(group) => Ok(Some(group)),
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An object of a pod's session, if it is there.
///
/// # Errors
/// If the API server gives no answer.
pub(super) async fn get(
    pod: &Pod,
    kind: &ApiResource,
    context: &Context,
) -> Result<Option<DynamicObject>, Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), sessions::name(pod));
    let api: Api<DynamicObject> = Api::namespaced_with(context.writer.client().clone(), &namespace, kind);
    read(format!("get {} {namespace}/{name}", kind.kind), || api.get_opt(&name)).await
}

/// The kinds of all that may have been made for an address.
async fn made_kinds(kind: SessionAddressType, context: &Context) -> Result<Vec<ApiResource>, Error> {
    let mut kinds = sessions::kinds(kind, None);
    if kind == SessionAddressType::Gateway {
        let is_ours = |kind: &ApiResource| kind.kind == "TLSRoute" || kind.kind == "HTTPRoute";
        kinds.extend(routes(context).await?.into_iter().filter(is_ours));
    }
    Ok(kinds)
}

/// True if something stands that was made for a pod. What the operator may not read it has not made.
pub(super) async fn stands(pod: &Pod, kind: SessionAddressType, context: &Context) -> bool {
    let found = async {
        for kind in made_kinds(kind, context).await? {
            match get(pod, &kind, context).await {
                Err(error) if error.is_forbidden() => {}
                Ok(None) => {}
                Ok(Some(_)) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok::<_, Error>(false)
    };
    found.await.unwrap_or_else(|error| {
        warn!(pod = key(pod), "{}; looking again", chain(&error));
        false
    })
}

/// Removes what was made for a pod, if anything was, before the pod goes.
///
/// What may not be removed goes with the pod, which owns it: it must not keep the job from ending.
///
/// # Errors
/// If something that may be removed was not.
pub(super) async fn remove(pod: &Pod, context: &Context) -> Result<(), Error> {
    let Some(kind) = sessions::made_for(pod) else { return Ok(()) };
    // People are led nowhere first, and then nothing is left to lead them to.
    for kind in made_kinds(kind, context).await?.iter().rev() {
        match context.writer.delete_made_for(kind, pod, &sessions::name(pod)).await {
            Err(error) if error.is_forbidden() => {
                warn!(pod = key(pod), "{}; it goes with the pod", chain(&error));
            }
            answer => answer?,
        }
    }
    Ok(())
}
