//! Labels, annotations and other metadata, which whoever may change pods and objects can write.

use std::sync::Arc;

use batchyard_core::{name, order};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::crd::JobDefinition;
use crate::k8s::access_key::AccessKey;
use crate::k8s::pods::PodIndex;
use crate::k8s::watch::Change;
use crate::k8s::{observe, order as orders, revisions, sessions, tokens};

const EXAMPLES: [&str; 2] = [
    r#"{"name": "job-6f8d1c7e-0-1", "namespace": "team", "uid": "u1", "resourceVersion": "7", "finalizers": ["batchyard.io/attempt"],
        "ownerReferences": [{"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": "job", "uid": "j1", "controller": true}],
        "labels": {"batchyard.io/job-name": "job", "batchyard.io/job-id": "j1", "batchyard.io/job-queue": "q", "batchyard.io/attempt": "1",
            "batchyard.io/index": "0", "batchyard.io/job-definition": "d", "app.kubernetes.io/managed-by": "batchyard",
            "batchyard.io/access-key": "BYAK0000000000000000"},
        "annotations": {"batchyard.io/job": "job/j1", "batchyard.io/attempt": "1", "batchyard.io/placement": "0", "batchyard.io/index": "0",
            "batchyard.io/compute-environment": "pool", "batchyard.io/vcpus-milli": "2000", "batchyard.io/share-identifier": "a",
            "batchyard.io/consumable-resources": "team/licence=2", "batchyard.io/session": "Ingress",
            "batchyard.io/auxiliary-containers": "log,init", "batchyard.io/ends-with-the-last": "true",
            "batchyard.io/starts-after": "{\"default\": [{\"container\": \"log\", \"until\": \"START\", \"seconds\": 60}]}",
            "batchyard.io/opened-containers": "default", "batchyard.io/log-driver": "awslogs", "batchyard.io/log-group": "g",
            "batchyard.io/log-stream": "d/default/1", "batchyard.io/logs-not-routed": "why"}}"#,
    r#"{"name": "d-3", "namespace": "team", "uid": "u2", "labels": {"batchyard.io/job-definition": "d", "batchyard.io/revision-status": "INACTIVE"},
        "annotations": {"batchyard.io/job-definition-uid": "x", "batchyard.io/inactive-since": "2026-01-01T00:00:00Z",
            "batchyard.io/registration": "door/1", "batchyard.io/tags": "{\"team\": \"a\"}", "batchyard.io/client-tokens": "[\"t\"]",
            "batchyard.io/key-namespace": "team", "batchyard.io/key-namespace-uid": "n", "batchyard.io/key-service-account": "a",
            "batchyard.io/key-disabled": "now", "batchyard.io/key-expires": "2126-01-01T00:00:00Z", "batchyard.io/delete-jobs": "true"}}"#,
];

fn target(input: &[u8]) -> bool {
    let Ok(metadata) = serde_json::from_slice::<ObjectMeta>(input) else { return false };
    let spec = r#"{"nodeName": "n", "containers": [{"name": "default"}, {"name": "log"}]}"#;
    let pod = Pod {
        metadata: metadata.clone(),
        spec: serde_json::from_str(spec).ok(),
        status: serde_json::from_str(r#"{"phase": "Running", "containerStatuses": [{"name": "default", "ready": false,
            "restartCount": 0, "image": "", "imageID": "", "state": {"waiting": {"reason": "CreateContainerConfigError"}}}]}"#)
        .ok(),
    };
    if let Some(view) = observe::pod(&pod) {
        order::due(&view);
    }
    orders::of(&pod);
    let opened = orders::opened(&pod);
    orders::word(&pod, &opened);
    sessions::made_for(&pod);
    sessions::name(&pod);
    tokens::held_by(&pod);
    observe::auxiliary(&pod);
    let index = PodIndex::default();
    let pod = Arc::new(pod);
    for change in [Change::Applied(Arc::clone(&pod)), Change::Deleted(pod)] {
        index.take(&change);
        index.attempts();
        index.taken();
    }
    let revision = ControllerRevision { metadata: metadata.clone(), ..ControllerRevision::default() };
    let read = revisions::of(&revision);
    revisions::definition_name(&revision);
    revisions::definition_uid(&revision);
    let definition = JobDefinition { metadata: metadata.clone(), ..JobDefinition::default() };
    revisions::is_active(&definition, &read);
    revisions::aws_name(&definition);
    revisions::object(&definition, &revisions::wanted(&definition), 1);
    // A key that makes no sense is told of, and does not work.
    let _ = AccessKey::read(&Secret { metadata: metadata.clone(), ..Secret::default() });
    let names = metadata.name.iter().chain(&metadata.uid);
    names.for_each(|text| {
        drop((name::slug(text), name::whole(text), name::revision(text), name::candidates(text)))
    });
    true
}

#[test]
fn metadata_of_anybody() {
    let is_object =
        |example: &str| serde_json::from_str::<Value>(example).is_ok_and(|value| value.is_object());
    assert!(EXAMPLES.iter().all(|example| is_object(example)));
    super::run("annotations", &EXAMPLES, target);
}
