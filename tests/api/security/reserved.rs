//! Names of batchyard.io in metadata: tenants may read them.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::people::{Person, controller, definition, job, person, refused, tenancy};
use crate::operator::world::World;
use crate::support::operator;

/// Somebody who may do what `edit` lets people do with jobs, pods and revisions.
async fn editor(world: &World) -> Person {
    let rights = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "update", "patch", "delete"]},
        {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["create", "patch"]},
    ]);
    person(world, "ann", &["batch-submitter", "batch-editor"], rights).await
}

fn pod(metadata: Value) -> Value {
    let mut metadata = metadata;
    metadata["name"] = json!("p");
    json!({"metadata": metadata, "spec": {"containers": [{"name": "a", "image": "busybox"}]}})
}

fn of(kind: &str, metadata: Value) -> Value {
    let mut object = pod(metadata);
    match kind {
        "BatchJob" => object["spec"] = job(json!({})),
        "JobDefinition" => object["spec"] = definition(json!({})),
        "ControllerRevision" => {
            object["spec"] = Value::Null;
            object["revision"] = json!(1);
            object["data"] = definition(json!({"privileged": true}));
        }
        _ => {}
    }
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    object
}

async fn is_refused(kind: &str, metadata: Value, place: &str) {
    let world = tenancy("sec-reserved").await;
    let ann = editor(&world).await;
    let says = [place, &format!("\"{}\"", ann.user), "verb \"set\"", "resource \"reservednames\""];
    refused(ann.creates(kind, of(kind, metadata)).await, "reserved", &says);
    let own = json!({"labels": {"team": "a"}, "annotations": {"example.org/batchyard.io": "x"},
        "finalizers": ["example.org/hold"]});
    ann.creates(kind, of(kind, own)).await.expect("names of others are free");
}

#[tokio::test]
async fn no_reserved_label_on_a_job() {
    is_refused("BatchJob", json!({"labels": {"batchyard.io/job-id": "x"}}), "metadata.labels").await;
}

#[tokio::test]
async fn no_forged_submitter_on_a_job() {
    let forged = json!({"annotations": {"batchyard.io/submitter": "somebody else"}});
    is_refused("BatchJob", forged, "metadata.annotations").await;
}

#[tokio::test]
async fn no_reserved_finalizer_on_a_job() {
    is_refused("BatchJob", json!({"finalizers": ["batchyard.io/in-use"]}), "metadata.finalizers").await;
}

#[tokio::test]
async fn no_reserved_annotation_on_a_definition() {
    let tags = json!({"annotations": {"batchyard.io/tags": "{}"}});
    is_refused("JobDefinition", tags, "metadata.annotations").await;
}

#[tokio::test]
async fn no_pod_that_looks_like_an_attempt_by_its_labels() {
    is_refused("Pod", json!({"labels": {"batchyard.io/job-name": "a"}}), "metadata.labels").await;
}

/// The pods of a Deployment are made by Kubernetes' controller of ReplicaSets, which has the right no more than its owner.
#[tokio::test]
async fn no_pod_of_a_deployment_that_looks_like_an_attempt() {
    let world = tenancy("sec-deployment").await;
    let replicas = controller(&world, "replicaset-controller").await;
    let of_template = of("Pod", json!({"labels": {"app": "web", "batchyard.io/job-name": "a"}}));
    let says = ["metadata.labels", &format!("\"{}\"", replicas.user)];
    refused(replicas.creates("Pod", of_template).await, "reserved", &says);
    let own = of("Pod", json!({"labels": {"app": "web"}}));
    replicas.creates("Pod", own).await.expect("other pods of Deployments are made");
}

#[tokio::test]
async fn no_pod_with_the_tags_of_a_job() {
    is_refused("Pod", json!({"labels": {"tags.batchyard.io/team": "b"}}), "metadata.labels").await;
}

#[tokio::test]
async fn no_pod_that_looks_like_an_attempt_by_its_annotations() {
    is_refused("Pod", json!({"annotations": {"batchyard.io/job": "a/1"}}), "metadata.annotations").await;
}

#[tokio::test]
async fn no_pod_that_is_held_by_the_finalizer_of_attempts() {
    is_refused("Pod", json!({"finalizers": ["batchyard.io/attempt"]}), "metadata.finalizers").await;
}

#[tokio::test]
async fn no_pod_that_a_job_is_said_to_own() {
    let owner = json!({"ownerReferences": [{"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "a",
        "uid": "6f8d1c7e-0000-4000-8000-000000000000", "controller": true}]});
    is_refused("Pod", owner, "metadata.ownerReferences").await;
}

#[tokio::test]
async fn no_forged_revision_of_a_definition() {
    let forged =
        json!({"labels": {"app.kubernetes.io/managed-by": "batchyard", "batchyard.io/job-definition": "d"}});
    is_refused("ControllerRevision", forged, "metadata.labels").await;
}

/// A pod as the operator makes them, made by somebody who may. An operator that runs meanwhile deletes it on sight, since it
/// is of no job.
async fn attempt(world: &World) -> Api<Pod> {
    let pods: Api<Pod> = world.api();
    let metadata = json!({"labels": {"batchyard.io/job-name": "a"}, "annotations": {"batchyard.io/job": "a/1"},
        "finalizers": ["batchyard.io/attempt"]});
    let mut made = pod(metadata);
    made["spec"]["schedulingGates"] = json!([{"name": "batchyard.io/fence"}]);
    let made: Pod = serde_json::from_value(made).expect("a pod");
    pods.create(&PostParams::default(), &made).await.expect("an administrator may");
    pods
}

#[tokio::test]
async fn no_change_of_what_the_operator_wrote_on_a_pod() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-changed").await;
    attempt(&world).await;
    let ann = editor(&world).await;
    for (change, place) in [
        (json!({"metadata": {"labels": {"batchyard.io/job-name": "b"}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"batchyard.io/job-name": null}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"batchyard.io/more": "x"}}}), "metadata.labels"),
        (json!({"metadata": {"annotations": {"batchyard.io/job": "b/2"}}}), "metadata.annotations"),
        (json!({"metadata": {"annotations": {"batchyard.io/job": null}}}), "metadata.annotations"),
    ] {
        refused(ann.patches("Pod", "p", change).await, "reserved", &[place]);
    }
    let own = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"example.org/note": "x"}}});
    ann.patches("Pod", "p", own).await.expect("names of others are free");
}

#[tokio::test]
async fn no_opening_of_the_gate_of_a_fenced_pod() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-gate").await;
    attempt(&world).await;
    let ann = editor(&world).await;
    let open = json!({"spec": {"schedulingGates": null}});
    refused(ann.patches("Pod", "p", open).await, "reserved", &["spec.schedulingGates"]);
}

#[tokio::test]
async fn a_finalizer_comes_off_and_a_pod_goes_whoever_asks() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-finalizer").await;
    let pods = attempt(&world).await;
    let ann = editor(&world).await;
    ann.deletes("Pod", "p").await.expect("it may be deleted");
    let free = json!({"metadata": {"finalizers": null}});
    ann.patches("Pod", "p", free.clone()).await.expect("a finalizer may be taken off");
    crate::support::wait::gone(&pods, "p").await;
    attempt(&world).await;
    ann.patches("Pod", "p", free).await.expect("also of what is not being deleted");
}

/// A pod that is being deleted may go on for as long as somebody wants, and counts.
#[tokio::test]
async fn no_pod_becomes_an_attempt_or_another_while_it_is_being_deleted() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-leaving").await;
    attempt(&world).await;
    let ann = editor(&world).await;
    let mut plain = of("Pod", json!({"finalizers": ["example.org/hold"]}));
    plain["metadata"]["name"] = json!("plain");
    ann.creates("Pod", plain).await.expect("everybody's pod");
    let owner = json!([{"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "b",
        "uid": "6f8d1c7e-0000-4000-8000-000000000000", "controller": true}]);
    for name in ["p", "plain"] {
        ann.deletes("Pod", name).await.expect("it may be deleted");
        for (change, place) in [
            (json!({"metadata": {"ownerReferences": &owner}}), "metadata.ownerReferences"),
            (json!({"metadata": {"annotations": {"batchyard.io/attempt": "7"}}}), "metadata.annotations"),
            (
                json!({"metadata": {"annotations": {"batchyard.io/vcpus-milli": "10000000"}}}),
                "metadata.annotations",
            ),
            (json!({"metadata": {"labels": {"batchyard.io/job-name": "b"}}}), "metadata.labels"),
        ] {
            refused(ann.patches("Pod", name, change).await, "reserved", &[place]);
        }
    }
    let forgotten = json!({"metadata": {"annotations": {"batchyard.io/job": null}, "finalizers": null}});
    refused(ann.patches("Pod", "p", forgotten).await, "reserved", &["metadata.annotations"]);
    for name in ["p", "plain"] {
        let free = json!({"metadata": {"finalizers": null}});
        ann.patches("Pod", name, free).await.expect("a finalizer may be taken off");
    }
}

/// The API server takes such an object from whoever applies it, and it is not being deleted.
#[tokio::test]
async fn no_new_object_gets_past_by_saying_that_it_is_being_deleted() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-born-leaving").await;
    let leaves = json!({"name": "p", "deletionTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
        "finalizers": ["example.org/hold"]});
    let ann = editor(&world).await;
    let mut pod = of("Pod", leaves.clone());
    pod["metadata"]["annotations"] = json!({"batchyard.io/vcpus-milli": "10000000"});
    refused(ann.applies("Pod", "p", pod).await, "reserved", &["metadata.annotations"]);
    let rights = json!([{"apiGroups": ["batchyard.io"], "resources": ["batchjobs", "jobdefinitions"],
        "verbs": ["create", "patch"]}]);
    let eve = person(&world, "eve", &[], rights).await;
    let job = of("BatchJob", leaves.clone());
    refused(eve.applies("BatchJob", "p", job).await, "jobs", &["spec.jobQueue"]);
    let mut definition = of("JobDefinition", leaves);
    definition["spec"]["containerProperties"]["privileged"] = json!(true);
    refused(eve.applies("JobDefinition", "p", definition).await, "jobdefinitions", &["privileged: true"]);
}

#[tokio::test]
async fn statuses_are_written_whatever_the_policies_say() {
    let _alone = operator::exclusive().await;
    let world = tenancy("sec-status").await;
    let pods = attempt(&world).await;
    let rights = json!([{"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
        {"apiGroups": ["batchyard.io"], "resources": ["batchjobs/status"], "verbs": ["patch"]}]);
    let kubelet = person(&world, "kubelet", &[], rights).await;
    let admin = person(&world, "admin", &["batch-admin"], json!([])).await;
    admin.makes("BatchJob", "p", job(json!({}))).await.expect("an administrator may");
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    kubelet
        .api("Pod")
        .patch_status("p", &PatchParams::default(), &failed)
        .await
        .expect("a kubelet writes the status of pods");
    crate::support::wait::until(&pods, "p", "its status", |pod| {
        pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"))
    })
    .await;
    let phase = Patch::Merge(json!({"status": {"phase": "FAILED"}}));
    kubelet
        .api("BatchJob")
        .patch_status("p", &PatchParams::default(), &phase)
        .await
        .expect("as the operator does");
}
