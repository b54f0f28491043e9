//! The NodePool and the node class of an environment whose nodes Karpenter makes: kept as the
//! environment has them, and removed with it.

use std::fmt::Debug;
use std::time::Duration;

use batchyard_core::name;
use batchyard_core::reason::resources;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::controllers::Context;
use crate::controllers::standing::is_deleting;
use crate::crd::ComputeEnvironment;
use crate::k8s::error::Error;
use crate::k8s::karpenter::{self, Ec2NodeClass, NodePool};
use crate::k8s::observe;
use crate::k8s::read::read;

/// When what stands in the way and wakes nobody is looked at again: kinds that are installed, rules of
/// the API server, nodes that go.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// How an environment stands with those who make its nodes.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// What makes it INVALID.
    pub obstacle: Option<String>,
    /// What is still to come.
    pub preparing: Option<String>,
    /// Its NodePool.
    pub node_pool: Option<String>,
    /// When to look again although nothing changed.
    pub retry: Option<Duration>,
}

impl Capacity {
    fn blocked(obstacle: String) -> Self {
        Self { obstacle: Some(obstacle), retry: Some(RETRY), ..Self::default() }
    }
}

/// Makes what the environment's nodes come from, or puts it back to what it should be.
///
/// # Errors
/// When the API server fails or cannot be asked; what it refuses is told in the answer.
pub(super) async fn provide(environment: &ComputeEnvironment, context: &Context) -> Result<Capacity, Error> {
    let Some(wanted) = karpenter::node_pool(environment, context.settings.terminate_grace_seconds) else {
        return release(environment, context).await;
    };
    let missing = karpenter::missing_for_ec2(&environment.spec);
    if !missing.is_empty() {
        return Ok(Capacity::blocked(resources::node_class_needs(&missing)));
    }
    let caches = &context.caches;
    if let Some(class) = karpenter::ec2_node_class(environment) {
        let same = |there: &Ec2NodeClass| there.spec == class.spec && same_metadata(there, &class);
        match keep(environment, context, &caches.node_classes, &class, same).await? {
            Kept::Is(_) => {}
            Kept::Not(why) => return Ok(Capacity::blocked(why)),
        }
    }
    let same = |there: &NodePool| there.spec == wanted.spec && same_metadata(there, &wanted);
    Ok(match keep(environment, context, &caches.node_pools, &wanted, same).await? {
        Kept::Is(pool) => standing_of(*pool),
        Kept::Not(why) => Capacity::blocked(why),
    })
}

/// What Karpenter says of a NodePool.
fn standing_of(pool: NodePool) -> Capacity {
    let name = pool.name_any();
    let conditions = pool.status.unwrap_or_default().conditions;
    let is = |type_: &str, status: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    let mut capacity = Capacity { node_pool: Some(name.clone()), ..Capacity::default() };
    if is("Ready", "True").is_some() {
        return capacity;
    }
    match is("Ready", "False") {
        Some(ready) => {
            // Ready only names the condition that says why.
            let failed = conditions.iter().find(|c| c.type_ != "Ready" && c.status == "False");
            let why = failed.map_or(&ready.message, |failed| &failed.message);
            capacity.obstacle = Some(resources::node_pool_not_ready(&name, why));
        }
        None => capacity.preparing = Some(resources::node_pool_settling(&name)),
    }
    capacity
}

/// What became of an object that was to be kept.
enum Kept<K> {
    Is(Box<K>),
    /// It cannot be, for this reason.
    Not(String),
}

async fn keep<K>(
    environment: &ComputeEnvironment,
    context: &Context,
    cache: &Store<K>,
    wanted: &K,
    same: impl Fn(&K) -> bool,
) -> Result<Kept<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
    let api: Api<K> = Api::all(context.writer.client().clone());
    let there = match cache.get(&ObjectRef::new(&name)) {
        Some(there) => Some(K::clone(&there)),
        None => find(&api, &name).await?,
    };
    if let Some(there) = there {
        if !owns(environment, &there) {
            return Ok(Kept::Not(resources::karpenter_name_taken(&kind, &name)));
        }
        // One that is going is made anew when it is gone.
        if same(&there) || is_deleting(&there) {
            return Ok(Kept::Is(Box::new(there)));
        }
    } else if is_deleting(environment) {
        return Ok(Kept::Is(Box::new(wanted.clone())));
    }
    match context.writer.apply(&api, wanted).await {
        Ok(applied) => Ok(Kept::Is(Box::new(applied))),
        Err(error) => refusal(&kind, &name, error),
    }
}

/// An object as it is now. Of a kind that does not exist there is none, which the API server says in
/// other words.
async fn find<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match read(format!("get {} {name}", K::kind(&())), || api.get_opt(name)).await {
        Err(error) if error.is_not_found() => Ok(None),
        answer => answer,
    }
}

/// What the API server will say again next time is no error of ours.
fn refusal<K>(kind: &str, name: &str, error: Error) -> Result<Kept<K>, Error> {
    match error.status().map(|status| (status.code, status.message.clone())) {
        Some((404, _)) => Ok(Kept::Not(resources::karpenter_missing(kind))),
        Some((400 | 403 | 422, why)) => Ok(Kept::Not(resources::karpenter_refused(kind, name, &why))),
        _ => Err(error),
    }
}

fn owns(environment: &ComputeEnvironment, object: &impl Resource) -> bool {
    let uid = environment.uid().unwrap_or_default();
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

fn same_metadata(there: &impl Resource, wanted: &impl Resource) -> bool {
    let has = |(key, value): (&String, &String)| there.labels().get(key) == Some(value);
    wanted.labels().iter().all(has) && there.owner_references() == wanted.owner_references()
}

/// Lets go of the NodePool of an environment that has its nodes from elsewhere by now, once no job is
/// left on it.
async fn release(environment: &ComputeEnvironment, context: &Context) -> Result<Capacity, Error> {
    if !is_known(environment, context) {
        return Ok(Capacity::default());
    }
    let name = name::node_pool(&environment.name_any());
    let attempts = context.caches.pods.attempts();
    let mut open = attempts.iter().filter(|pod| !pod.finished && pod.environment == environment.name_any());
    // One that is not bound yet may be meant for it.
    let is_used = open.any(|attempt| {
        let node =
            observe::node_name(&attempt.pod).map(|node| context.caches.nodes.get(&ObjectRef::new(node)));
        node.is_none_or(|node| {
            node.is_some_and(|node| node.labels().get(karpenter::NODE_POOL) == Some(&name))
        })
    });
    if is_used || remove(environment, context).await?.is_some() {
        return Ok(Capacity { node_pool: Some(name), retry: Some(RETRY), ..Capacity::default() });
    }
    Ok(Capacity::default())
}

/// Removes what was made for an environment that has no jobs any more, in order: the NodePool with its
/// nodes, then the node class that Karpenter ends them by. Returns what is still there.
///
/// # Errors
/// When the API server fails or cannot be asked.
pub(super) async fn remove(
    environment: &ComputeEnvironment,
    context: &Context,
) -> Result<Option<String>, Error> {
    if karpenter::of(&environment.spec).is_none() && !is_known(environment, context) {
        return Ok(None);
    }
    match remove_one::<NodePool>(environment, context).await? {
        None => remove_one::<Ec2NodeClass>(environment, context).await,
        left => Ok(left),
    }
}

fn is_known(environment: &ComputeEnvironment, context: &Context) -> bool {
    let name = name::node_pool(&environment.name_any());
    context.caches.node_pools.get(&ObjectRef::new(&name)).is_some()
        || context.caches.node_classes.get(&ObjectRef::new(&name)).is_some()
        || environment.status.as_ref().is_some_and(|status| status.node_pool.is_some())
}

async fn remove_one<K>(environment: &ComputeEnvironment, context: &Context) -> Result<Option<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()), name::node_pool(&environment.name_any()));
    let api: Api<K> = Api::all(context.writer.client().clone());
    let Some(there) = find(&api, &name).await?.filter(|there| owns(environment, there)) else {
        return Ok(None);
    };
    if !is_deleting(&there) {
        context.writer.delete_after_dependents(&api, &there).await?;
    }
    Ok(Some(resources::held_by_nodes(&kind, &name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_karpenter_says() {
        let pool = |conditions: Value| {
            let conditions: Vec<Value> = conditions
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| {
                    json!({"type": c[0], "status": c[1], "message": c[2], "reason": "R",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"})
                })
                .collect();
            let mut pool = NodePool::new("p", Default::default());
            pool.status = serde_json::from_value(json!({"conditions": conditions})).ok();
            standing_of(pool)
        };
        let settling = "Waiting for Karpenter to take up NodePool p";
        let not_ready = "CLIENT_ERROR - provisioner.karpenter: NodePool p is not ready: no class";
        for (conditions, obstacle, preparing) in [
            (json!([]), None, Some(settling)),
            (json!([["Ready", "Unknown", ""]]), None, Some(settling)),
            (json!([["Ready", "True", ""], ["NodeRegistrationHealthy", "False", "x"]]), None, None),
            (
                json!([["Ready", "False", "NodeClassReady=False"], ["NodeClassReady", "False", "no class"]]),
                Some(not_ready),
                None,
            ),
            (json!([["Ready", "False", "no class"]]), Some(not_ready), None),
        ] {
            let said = pool(conditions.clone());
            assert_eq!(
                (said.obstacle.as_deref(), said.preparing.as_deref()),
                (obstacle, preparing),
                "{conditions}"
            );
            assert_eq!(said.node_pool.as_deref(), Some("p"));
        }
    }
}
