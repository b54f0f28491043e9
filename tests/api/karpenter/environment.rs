//! An environment on Karpenter, and what Karpenter makes of it.

use std::collections::BTreeSet;

use batchyard::crd::{ComputeEnvironment, JobQueue};
use batchyard::k8s::karpenter::NodePool;
use batchyard_core::name;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use xtask::cluster::karpenter::NODE_CLASS;

use crate::operator::world::{JobHandle, World, job, merge};
use crate::support::client::apply;
use crate::support::wait;

/// On a pod: it ends by itself with this code. See tests/cluster/kwok-stages.yaml.
const EXIT_CODE: &str = "kwok.batchyard.io/exit-code";
/// Label of nodes: the NodePool that they were made for.
const NODE_POOL: &str = "karpenter.sh/nodepool";

/// A world with the queue `queue` on the environment `pool`, which has no nodes yet.
pub(crate) struct Environment {
    pub(crate) world: World,
}

impl Environment {
    /// An environment of m5.xlarge (4 vCPUs each), with more or other members. Its nodes go as soon as they are empty.
    pub(crate) async fn new(name: &str, more: Value) -> Self {
        let environment = Self::unfinished(name, more).await;
        environment.world.ready::<JobQueue>("queue").await;
        environment.says("VALID", "Healthy").await;
        environment
    }

    /// One of which nothing is waited for.
    pub(crate) async fn unfinished(name: &str, more: Value) -> Self {
        let environment = Self { world: World::empty(name).await };
        placeholders_can_be_made(&environment.world.user).await;
        environment.change(more).await;
        environment.world.queue("queue", json!({})).await;
        environment
    }

    /// Applies it with other members.
    pub(crate) async fn change(&self, more: Value) {
        self.apply("pool", more).await;
    }

    /// Applies an environment like it.
    pub(crate) async fn apply(&self, name: &str, more: Value) {
        let class = json!({"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": NODE_CLASS});
        let mut spec = json!({
            "computeResources": {"type": "SPOT", "maxvCpus": 8, "instanceTypes": ["m5.xlarge"]},
            "provisioner": {"static": null, "karpenter": {"nodeClassRef": class, "consolidateAfter": "1s"}},
        });
        merge(&mut spec, more);
        self.world.environment(name, spec).await;
    }

    pub(crate) fn name(&self) -> String {
        self.world.environment_name("pool")
    }

    /// Waits for something of the environment.
    pub(crate) async fn until(&self, what: &str, mut done: impl FnMut(&Value) -> bool) -> ComputeEnvironment {
        wait::until(&self.world.environments(), &self.name(), what, |environment| {
            done(&serde_json::to_value(environment).expect("plain data"))
        })
        .await
    }

    /// Waits until it has this status and reason.
    pub(crate) async fn says(&self, status: &str, reason: &str) {
        self.until(reason, |environment| {
            let status_of = &environment["status"];
            status_of["status"] == status
                && status_of["statusReason"].as_str().is_some_and(|why| why.contains(reason))
        })
        .await;
    }

    pub(crate) fn pools(&self) -> Api<NodePool> {
        Api::all(self.world.user.clone())
    }

    /// The name of its NodePool.
    pub(crate) fn pool_name(&self) -> String {
        name::node_pool(&self.name())
    }

    /// Waits for something of its NodePool.
    pub(crate) async fn pool(&self, what: &str, done: impl FnMut(&NodePool) -> bool) -> NodePool {
        wait::until(&self.pools(), &self.pool_name(), what, done).await
    }

    /// Its nodes as they are now.
    pub(crate) async fn nodes(&self) -> Vec<Node> {
        let nodes: Api<Node> = Api::all(self.world.user.clone());
        let of_pool = ListParams::default().labels(&format!("{NODE_POOL}={}", self.pool_name()));
        nodes.list(&of_pool).await.expect("nodes can be listed").items
    }

    /// Waits until it has so many nodes; never more than that.
    pub(crate) async fn grows_to(&self, count: usize) -> Vec<Node> {
        wait::answer(&format!("{count} nodes"), &self.name(), || async {
            let nodes = self.nodes().await;
            assert!(nodes.len() <= count, "{} nodes instead of {count}", nodes.len());
            (nodes.len() == count).then_some(nodes)
        })
        .await
    }

    /// Waits until it has no nodes.
    pub(crate) async fn shrinks_to_nothing(&self) {
        wait::answer("the end of all nodes", &self.name(), || async {
            self.nodes().await.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until somebody says this of a pod.
    pub(crate) async fn hears_of(&self, pod: &str, words: &str) {
        let events: Api<Event> = self.world.api();
        let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod}"));
        wait::answer(&format!("an Event of {pod}: {words}"), pod, || async {
            let heard = events.list(&of_pod).await.expect("Events can be listed").items;
            heard
                .iter()
                .any(|event| event.message.as_ref().is_some_and(|said| said.contains(words)))
                .then_some(())
        })
        .await;
    }

    /// Takes a node away, with the notice that Karpenter gives.
    pub(crate) async fn interrupt(&self, node: &str) {
        let claims: Api<DynamicObject> = Api::all_with(
            self.world.user.clone(),
            &ApiResource::from_gvk(&GroupVersionKind::gvk("karpenter.sh", "v1", "NodeClaim")),
        );
        let claim = wait::answer(&format!("the NodeClaim of {node}"), node, || async {
            let all = claims.list(&ListParams::default()).await.expect("NodeClaims can be listed").items;
            all.into_iter().find(|claim| claim.data["status"]["nodeName"] == node)
        })
        .await;
        claims.delete(&claim.name_any(), &DeleteParams::default()).await.expect("it can be deleted");
    }

    /// Waits until so many placeholders run, all on this node.
    pub(crate) async fn holds(&self, count: usize, node: &str) {
        let pods: Api<Pod> = Api::namespaced(self.world.user.clone(), "batchyard-system");
        let label = format!("batchyard.io/placeholder={}", name::slug(&self.name()));
        let placeholders = ListParams::default().labels(&label);
        wait::answer(&format!("{count} placeholders on {node}"), &self.name(), || async {
            let found = pods.list(&placeholders).await.expect("pods can be listed").items;
            let here = found.iter().filter(|pod| is_running(pod) && node_of(pod).as_deref() == Some(node));
            (here.count() == count && found.len() == count).then_some(())
        })
        .await;
    }

    /// Submits a job of so many vCPUs that runs until it is told to end.
    pub(crate) async fn submit(&self, name: &str, vcpus: u32) -> JobHandle<'_> {
        self.world.submit(name, job(json!({"containerProperties": {"vcpus": vcpus}}))).await
    }

    /// Ends the pods of all running jobs, as if their programs had finished.
    pub(crate) async fn finish(&self) {
        let pods: Api<Pod> = self.world.api();
        let ends = Patch::Merge(json!({"metadata": {"annotations": {EXIT_CODE: "0"}}}));
        for pod in running(&self.world.pods().await) {
            pods.patch(&pod, &PatchParams::default(), &ends).await.expect("a pod can be annotated");
        }
    }

    /// Waits until so many pods run, and returns the nodes that they run on.
    pub(crate) async fn runs(&self, count: usize) -> BTreeSet<String> {
        wait::answer(&format!("{count} running pods"), &self.world.namespace, || async {
            let pods = self.world.pods().await;
            let nodes = pods.iter().filter(|pod| is_running(pod)).filter_map(node_of).collect();
            (running(&pods).len() == count).then_some(nodes)
        })
        .await
    }
}

/// The chart makes it.
async fn placeholders_can_be_made(client: &Client) {
    let class =
        json!({"metadata": {"name": "batchyard-placeholder"}, "value": -5, "preemptionPolicy": "Never"});
    apply(&Api::<PriorityClass>::all(client.clone()), &class).await;
}

/// The node that a pod is bound to.
pub(crate) fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn running(pods: &[Pod]) -> Vec<String> {
    pods.iter().filter(|pod| is_running(pod)).map(|pod| pod.name_any()).collect()
}
