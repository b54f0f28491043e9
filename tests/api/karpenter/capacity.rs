//! Nodes that come and go with the jobs.

use std::collections::BTreeSet;

use batchyard_core::job::phase::Phase;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::environment::{Environment, node_of};
use crate::support::wait;

/// From zero to maxvCpus, not one instance above, and back to zero.
#[tokio::test]
async fn nodes_come_for_jobs_and_go_after_them() {
    let compute = json!({"maxvCpus": 10, "tags": {"Name": "aws-batch-instances"}});
    let environment = Environment::new("scale", json!({"computeResources": compute})).await;
    assert!(environment.nodes().await.is_empty());
    for index in 0..5 {
        environment.submit(&format!("job-{index}"), 2).await;
    }
    environment.grows_to(2).await;
    let running_on = environment.runs(4).await;
    let nodes = environment.nodes().await;
    for node in &nodes {
        let (labels, spec) = (node.labels(), node.spec.clone().unwrap_or_default());
        assert_eq!(labels["node.kubernetes.io/instance-type"], "m5.xlarge");
        assert_eq!(labels["karpenter.sh/capacity-type"], "spot");
        assert_eq!(labels["Name"], "aws-batch-instances", "the tag finds the node");
        let taints = spec.taints.unwrap_or_default();
        assert!(taints.iter().any(|taint| taint.key == "batchyard.io/compute-environment"), "{taints:?}");
    }
    assert_eq!(running_on, nodes.iter().map(|node| node.name_any()).collect::<BTreeSet<_>>());
    // The fifth has its pod, since maxvCpus allows it, and no node: a third one would have 12 vCPUs.
    let waiting = wait::answer("the fifth pod", "", || async {
        environment.world.pods().await.into_iter().find(|pod| node_of(pod).is_none())
    })
    .await;
    environment.hears_of(&waiting.name_any(), "exceed limits").await;
    environment.finish().await;
    environment.runs(1).await;
    assert!(environment.nodes().await.len() <= 2, "not one instance above maxvCpus");
    environment.finish().await;
    for index in 0..5 {
        environment.world.job(&format!("job-{index}")).reaches(Phase::Succeeded).await;
    }
    environment.shrinks_to_nothing().await;
    environment.until("no nodes in its status", |e| e["status"]["nodes"] == 0).await;
}

/// What was made for an environment goes with it: nodes first, and not while a job is there.
#[tokio::test]
async fn an_environment_takes_its_nodes_along() {
    let keeps = json!({"provisioner": {"karpenter": {"consolidateAfter": "Never"}}});
    let environment = Environment::new("gone", keeps).await;
    let job = environment.submit("job", 1).await;
    environment.runs(1).await;
    environment.world.api::<batchyard::crd::JobQueue>().delete("queue", &DeleteParams::default()).await.ok();
    let environments = environment.world.environments();
    environments.delete(&environment.name(), &DeleteParams::default()).await.expect("it can be deleted");
    environment.until("what holds it", |e| e["status"]["status"] == "DELETING").await;
    let pool = environment.pool("a limit of 0", |pool| pool.spec.limits["cpu"].0 == "0").await;
    assert_eq!(pool.metadata.deletion_timestamp, None, "a job is on its nodes");
    assert_eq!(environment.nodes().await.len(), 1);
    environment.finish().await;
    job.reaches(Phase::Succeeded).await;
    wait::gone(&environments, &environment.name()).await;
    assert!(environment.nodes().await.is_empty(), "the environment goes last");
    wait::gone(&environment.pools(), &environment.pool_name()).await;
}

#[tokio::test]
async fn what_others_change_is_put_back() {
    let environment = Environment::new("putback", json!({})).await;
    let pools = environment.pools();
    let change = Patch::Merge(json!({"spec": {"limits": {"cpu": "1000"}, "weight": 3},
        "metadata": {"labels": {"app.kubernetes.io/managed-by": "batchyard", "theirs": "stays"}}}));
    pools.patch(&environment.pool_name(), &PatchParams::default(), &change).await.expect("a change");
    let pool = environment.pool("the limit to be put back", |pool| pool.spec.limits["cpu"].0 == "8").await;
    assert_eq!(pool.labels()["theirs"], "stays");
    pools.delete(&environment.pool_name(), &DeleteParams::default()).await.expect("it can be deleted");
    environment.pool("another one", |other| other.uid() != pool.uid()).await;
    environment.says("VALID", "Healthy").await;
}

#[tokio::test]
async fn a_disabled_environment_grows_no_more() {
    let minimum = json!({"computeResources": {"minvCpus": 2}});
    let environment = Environment::new("disabled", minimum.clone()).await;
    let mut disabled = minimum;
    disabled["state"] = json!("DISABLED");
    environment.change(disabled).await;
    environment.pool("the limit minvCpus", |pool| pool.spec.limits["cpu"].0 == "2").await;
}

/// Karpenter's own word counts, and the environment mends itself.
#[tokio::test]
async fn a_node_class_that_is_missing_is_named() {
    let class = json!({"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "missing"});
    let missing = json!({"provisioner": {"karpenter": {"nodeClassRef": class}}});
    let environment = Environment::unfinished("class", missing).await;
    environment.says("INVALID", "is not ready: ").await;
    environment.change(json!({})).await;
    environment.says("VALID", "Healthy").await;
    let refused = json!({"provisioner": {"karpenter": {"labels": {"karpenter.sh/nodepool": "x"}}}});
    environment.change(refused).await;
    environment.says("INVALID", "the API server refuses NodePool").await;
    environment.change(json!({})).await;
    environment.says("VALID", "Healthy").await;
}

#[tokio::test]
async fn a_node_pool_of_somebody_else_is_left_alone() {
    let environment = Environment::new("taken", json!({})).await;
    let pools = environment.pools();
    let theirs = Patch::Merge(json!({"metadata": {"ownerReferences": []}}));
    pools.patch(&environment.pool_name(), &PatchParams::default(), &theirs).await.expect("a change");
    environment.says("INVALID", "was not made for this environment").await;
    pools.delete(&environment.pool_name(), &DeleteParams::default()).await.expect("it can be deleted");
    environment.says("VALID", "Healthy").await;
}

#[tokio::test]
async fn another_provisioner_lets_the_node_pool_go() {
    let environment = Environment::new("switch", json!({})).await;
    environment.world.environment("pool", json!({})).await;
    wait::gone(&environment.pools(), &environment.pool_name()).await;
    environment.until("no NodePool in its status", |e| e["status"]["nodePool"].is_null()).await;
}

/// `minvCpus` are there without a job, give way to one at once, come back after it, and go when they are 0.
#[tokio::test]
async fn the_minimum_is_held_and_let_go() {
    let environment = Environment::new("minimum", json!({"computeResources": {"minvCpus": 4}})).await;
    let nodes = environment.grows_to(1).await;
    let name = nodes[0].name_any();
    environment.holds(4, &name).await;
    let job = environment.submit("job", 4).await;
    assert_eq!(environment.runs(1).await, BTreeSet::from([name.clone()]), "on the node that was held");
    environment.finish().await;
    job.reaches(Phase::Succeeded).await;
    environment.holds(4, &name).await;
    assert_eq!(environment.nodes().await.len(), 1, "no other node was made");
    environment.change(json!({"computeResources": {"minvCpus": 0, "desiredvCpus": 0}})).await;
    environment.shrinks_to_nothing().await;
}

/// `desiredvCpus` counts once.
#[tokio::test]
async fn desired_vcpus_come_once() {
    let environment = Environment::new("desired", json!({"computeResources": {"desiredvCpus": 8}})).await;
    environment.grows_to(2).await;
    environment.until("that it was carried out", |e| e["status"]["lastDesiredvCpus"] == 8).await;
    environment.shrinks_to_nothing().await;
}

/// Where nobody has such machines the job goes to the queue's next environment, and loses no attempt.
#[tokio::test]
async fn an_environment_without_capacity_spills_over() {
    let nowhere =
        json!({"computeResources": {"instanceTypes": ["x1e.32xlarge"]}, "capacityTimeoutSeconds": 5});
    let environment = Environment::new("spill", nowhere).await;
    environment.apply("second", json!({})).await;
    let order =
        json!([{"order": 1, "computeEnvironment": "pool"}, {"order": 2, "computeEnvironment": "second"}]);
    environment.world.queue("queue", json!({"computeEnvironmentOrder": order})).await;
    let job = environment.submit("job", 2).await;
    environment.runs(1).await;
    assert!(environment.nodes().await.is_empty());
    let record = job.until("its place", |record| record.current.is_some()).await;
    assert_eq!((record.attempts.len(), record.placements.len()), (0, 1), "{record:#?}");
    let second = environment.world.environment_name("second");
    let placed = record.current.and_then(|current| current.compute_environment);
    assert_eq!(placed, Some(second));
    environment.finish().await;
    job.reaches(Phase::Succeeded).await;
}

/// As Karpenter does it at a spot notice: it deletes the NodeClaim, taints the node, and waits for the pods to go.
#[tokio::test]
async fn a_spot_notice_moves_the_job_to_another_node() {
    let environment = Environment::new("spot", json!({})).await;
    let job = json!({"retryStrategy": {"attempts": 2, "evaluateOnExit":
        [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]}});
    let job = environment.world.submit("job", crate::operator::world::job(job)).await;
    let first = environment.runs(1).await;
    let node = first.first().expect("a node").clone();
    environment.interrupt(&node).await;
    let record = job.until("the end of the first attempt", |record| record.attempts.len() == 1).await;
    let reason = record.attempts[0].status_reason.clone();
    assert_eq!(reason, format!("Host EC2 (instance {node}) terminated."));
    job.pod(2).await;
    let second = environment.runs(1).await;
    assert!(second.is_disjoint(&first), "{second:?}");
    environment.finish().await;
    job.reaches(Phase::Succeeded).await;
}
