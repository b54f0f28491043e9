//! The CRDs as a user installs them, by both styles of apply.

use std::fs;

use batchyard::crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};

use super::kubectl::{kubectl, scratch};
use crate::support::client::{Actor, connect, established};
use crate::support::wait;

/// What an annotation may hold, and client-side apply keeps the whole manifest in one.
const ANNOTATION_LIMIT: usize = 262_144;

/// The API group of copies, so that installing and removing them disturbs no other test.
async fn installs_twice(group: &str, apply: &[&str]) {
    let crds: Api<CustomResourceDefinition> = Api::all(connect(Actor::User).await);
    let folder = scratch(group);
    let mut names = Vec::new();
    for (file, yaml) in crd::render() {
        // `kubectl get batchyard` of another test must not find the copies.
        let copy = yaml.replace("batchyard.io", group).replace("    categories:\n    - batchyard\n", "");
        fs::write(folder.join(&file), copy).expect("a file can be written");
        names.push(file.replacen("batchyard.io_", "", 1).replace(".yaml", &format!(".{group}")));
    }
    assert_eq!(names.len(), 8, "{names:?}");
    for name in &names {
        let _ = crds.delete(name, &DeleteParams::default()).await;
        wait::gone(&crds, name).await;
    }
    let mut arguments = vec!["apply"];
    arguments.extend(apply);
    let files = folder.display().to_string();
    arguments.extend(["-f", &files]);
    let first = kubectl(&arguments).succeeds();
    assert_eq!(first.lines().count(), 8, "{first}");
    for name in &names {
        established(&crds, name).await;
    }
    let before = versions(&crds, group).await;
    let second = kubectl(&arguments).succeeds();
    assert_eq!(versions(&crds, group).await, before, "the second time changes nothing:\n{second}");
    for crd in crds.list(&Default::default()).await.expect("a list").items {
        let kept = crd.annotations().get("kubectl.kubernetes.io/last-applied-configuration");
        if crd.spec.group == group {
            assert!(kept.is_none_or(|text| text.len() < ANNOTATION_LIMIT), "{}", crd.name_any());
            crds.delete(&crd.name_any(), &DeleteParams::default()).await.expect("it can be deleted");
        }
    }
}

/// Name and generation of each CRD of a group.
async fn versions(crds: &Api<CustomResourceDefinition>, group: &str) -> Vec<(String, Option<i64>)> {
    let all = crds.list(&Default::default()).await.expect("a list").items;
    let of_group = all.into_iter().filter(|crd| crd.spec.group == group);
    of_group.map(|crd| (crd.name_any(), crd.metadata.generation)).collect()
}

#[tokio::test]
async fn server_side_apply_installs_the_crds_and_again() {
    installs_twice("server-side.example.com", &["--server-side"]).await;
}

#[tokio::test]
async fn client_side_apply_installs_the_crds_and_again() {
    installs_twice("client-side.example.com", &[]).await;
}
