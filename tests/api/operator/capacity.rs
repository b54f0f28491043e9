//! An environment that wants Karpenter in a cluster that has none.

use batchyard::crd::ComputeEnvironment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::world::World;
use crate::support::client::apply;
use crate::support::wait;

async fn says(world: &World, status: &str, reason: &str) {
    let says = |environment: &ComputeEnvironment| {
        let said = serde_json::to_value(&environment.status).expect("plain data");
        said["status"] == status && said["statusReason"].as_str().is_some_and(|why| why.contains(reason))
    };
    wait::until(&world.environments(), &world.environment_name("pool"), reason, says).await;
}

/// It says so, and goes on once Karpenter's kinds are there.
#[tokio::test]
async fn karpenter_may_come_later_than_the_environment() {
    let world = World::empty("late").await;
    let crds: Api<CustomResourceDefinition> = Api::all(world.user.clone());
    uninstall(&crds).await;
    let class = json!({"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"});
    let provisioner = json!({"static": null, "karpenter": {"nodeClassRef": class}});
    world.environment("pool", json!({"provisioner": provisioner})).await;
    says(&world, "INVALID", "the cluster has no kind NodePool").await;
    for file in xtask::cluster::karpenter::crds().expect("Go has the module") {
        let crd: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(file).expect("a file")).expect("YAML");
        apply(&crds, &crd).await;
    }
    says(&world, "CREATING", "Waiting for Karpenter").await;
    let name = world.environment_name("pool");
    world.environments().delete(&name, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&world.environments(), &name).await;
    uninstall(&crds).await;
}

/// Takes Karpenter's kinds away, also those that a run left which failed.
async fn uninstall(crds: &Api<CustomResourceDefinition>) {
    for kind in ["nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "nodeoverlays.karpenter.sh"] {
        let _ = crds.delete(kind, &DeleteParams::default()).await;
        wait::gone(crds, kind).await;
    }
}
