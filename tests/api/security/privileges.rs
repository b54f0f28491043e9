//! Ways out of a container, wherever they are stated: in a job itself or in a definition, of one node or of several.

use serde_json::{Value, json};

use super::jobs::{nodes, pod, task};
use super::people::{job, person, refused, right, tenancy};

/// Nobody gets this privilege by any of these; whoever has the right to it alone does.
async fn only_with_the_right_to(privilege: &str, works: Vec<Value>) {
    let world = tenancy(&format!("sec-{privilege}")).await;
    let others = ["privileged", "devices", "host-path", "host-network", "host-namespaces", "capabilities"];
    let others: Vec<&str> = others.into_iter().filter(|other| *other != privilege).collect();
    let people = ["batch-submitter", "batch-editor"];
    let most = json!([right("privilege", "containers", &others)]);
    let ann = person(&world, "ann", &people, most).await;
    let bob = person(&world, "bob", &people, json!([right("privilege", "containers", &[privilege])])).await;
    let missing = format!(
        "verb \"privilege\", apiGroup \"batchyard.io\", resource \"containers\", resourceName \"{privilege}\""
    );
    for (number, work) in works.into_iter().enumerate() {
        let several = nodes(&[job(json!({})), work.clone()]);
        for (part, mut spec) in [("one", work), ("several", several)] {
            let name = format!("{part}-{number}");
            let is_multinode = spec.get("nodeProperties").is_some();
            let mut of_job = spec.clone();
            of_job["jobQueue"] = json!("queue");
            refused(ann.makes("BatchJob", &name, of_job.clone()).await, "jobs", &["spec.", &missing]);
            bob.makes("BatchJob", &name, of_job).await.unwrap_or_else(|e| panic!("{privilege} {name}: {e}"));
            spec["type"] = json!(if is_multinode { "multinode" } else { "container" });
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("jobQueue");
            }
            let answer = ann.makes("JobDefinition", &name, spec.clone()).await;
            refused(answer, "jobdefinitions", &["spec.", &missing]);
            bob.makes("JobDefinition", &name, spec)
                .await
                .unwrap_or_else(|e| panic!("{privilege} {name}: {e}"));
        }
    }
}

#[tokio::test]
async fn no_privileged_container_without_the_right() {
    let security = |list: &str| {
        let container = json!([{"name": "b", "image": "busybox", "securityContext": {"privileged": true},
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}}]);
        pod(json!({list: container}))
    };
    let works = vec![
        job(json!({"privileged": true})),
        task(json!({}), json!({"privileged": true})),
        security("containers"),
        security("initContainers"),
    ];
    only_with_the_right_to("privileged", works).await;
}

#[tokio::test]
async fn no_device_of_the_node_without_the_right() {
    let devices = json!({"linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}});
    only_with_the_right_to("devices", vec![job(devices.clone()), task(json!({}), devices)]).await;
}

#[tokio::test]
async fn no_folder_of_the_node_without_the_right() {
    let volumes = json!({"volumes": [{"name": "v", "host": {"sourcePath": "/etc"}}]});
    let of_pod = pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}));
    let works = vec![job(volumes.clone()), task(volumes, json!({})), of_pod];
    only_with_the_right_to("host-path", works).await;
}

#[tokio::test]
async fn no_network_of_the_node_without_the_right() {
    let works = vec![task(json!({"networkMode": "host"}), json!({})), pod(json!({"hostNetwork": true}))];
    only_with_the_right_to("host-network", works).await;
}

#[tokio::test]
async fn no_processes_or_memory_of_the_node_without_the_right() {
    let works =
        vec![task(json!({"pidMode": "host"}), json!({})), task(json!({"ipcMode": "host"}), json!({}))];
    only_with_the_right_to("host-namespaces", works).await;
}

#[tokio::test]
async fn no_added_capability_without_the_right() {
    let container = json!([{"name": "b", "image": "busybox",
        "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}}]);
    only_with_the_right_to("capabilities", vec![pod(json!({"containers": container}))]).await;
}
