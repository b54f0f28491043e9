//! The chart's roles for people: what each of them may, and what none of them does.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::people::{chart_roles, definition, job, no_role, person, tenancy};

const QUEUE: &str =
    r#"{"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]}"#;

fn queue() -> Value {
    serde_json::from_str(QUEUE).expect("JSON")
}

#[tokio::test]
async fn a_viewer_reads_jobs_and_no_secrets() {
    let world = tenancy("sec-viewer").await;
    let ann = person(&world, "ann", &["batch-viewer"], json!([])).await;
    let all = ListParams::default();
    for kind in [
        "BatchJob",
        "BatchJobRecord",
        "JobDefinition",
        "NotificationRule",
        "JobQueue",
        "SchedulingPolicy",
        "ConsumableResource",
    ] {
        ann.api(kind).list(&all).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    no_role(ann.api("Secret").list(&all).await, "list resource \"secrets\"");
    no_role(ann.api("Secret").get("any").await, "get resource \"secrets\"");
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let world = tenancy("sec-viewer-writes").await;
    let ann = person(&world, "ann", &["batch-viewer"], json!([])).await;
    no_role(ann.makes("BatchJob", "a", job(json!({}))).await, "create resource \"batchjobs\"");
    no_role(ann.deletes("BatchJob", "a").await, "delete resource \"batchjobs\"");
    no_role(
        ann.makes("JobDefinition", "a", definition(json!({}))).await,
        "create resource \"jobdefinitions\"",
    );
    no_role(ann.makes("JobQueue", "a", queue()).await, "create resource \"jobqueues\"");
}

#[tokio::test]
async fn a_submitter_runs_jobs_and_writes_no_definition_and_no_queue() {
    let world = tenancy("sec-submitter").await;
    let ann = person(&world, "ann", &["batch-submitter"], json!([])).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    let named = json!({"jobQueue": "queue", "jobDefinition": "d"});
    ann.makes("BatchJob", "b", named).await.expect("what is granted works");
    ann.deletes("BatchJob", "a").await.expect("what is granted works");
    no_role(
        ann.makes("JobDefinition", "a", definition(json!({}))).await,
        "create resource \"jobdefinitions\"",
    );
    no_role(ann.makes("JobQueue", "a", queue()).await, "create resource \"jobqueues\"");
}

#[tokio::test]
async fn a_submitter_reads_no_pods_and_no_secrets() {
    let world = tenancy("sec-submitter-reads").await;
    let ann = person(&world, "ann", &["batch-submitter"], json!([])).await;
    let all = ListParams::default();
    no_role(ann.api("Pod").list(&all).await, "list resource \"pods\"");
    no_role(ann.api("Secret").list(&all).await, "list resource \"secrets\"");
}

#[tokio::test]
async fn nobody_writes_the_status_of_a_job() {
    let world = tenancy("sec-status-write").await;
    let everybody = ["batch-viewer", "batch-submitter", "batch-editor", "batch-admin", "environment-admin"];
    let ann = person(&world, "ann", &everybody, json!([])).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    let done = Patch::Merge(json!({"status": {"phase": "SUCCEEDED"}}));
    let answer = ann.api("BatchJob").patch_status("a", &PatchParams::default(), &done).await;
    no_role(answer, "patch resource \"batchjobs/status\"");
}

#[tokio::test]
async fn nobody_writes_the_records_of_arrays() {
    let world = tenancy("sec-records").await;
    let everybody = ["batch-viewer", "batch-submitter", "batch-editor", "batch-admin", "environment-admin"];
    let ann = person(&world, "ann", &everybody, json!([])).await;
    no_role(ann.deletes("BatchJobRecord", "a").await, "delete resource \"batchjobrecords\"");
}

#[tokio::test]
async fn an_editor_writes_definitions_and_no_jobs_or_queues() {
    let world = tenancy("sec-editor").await;
    let ann = person(&world, "ann", &["batch-editor"], json!([])).await;
    ann.makes("JobDefinition", "a", definition(json!({}))).await.expect("what is granted works");
    no_role(ann.makes("BatchJob", "a", job(json!({}))).await, "create resource \"batchjobs\"");
    no_role(ann.makes("JobQueue", "a", queue()).await, "create resource \"jobqueues\"");
}

#[tokio::test]
async fn an_administrator_of_queues_makes_no_environment() {
    let world = tenancy("sec-admin").await;
    let ann = person(&world, "ann", &["batch-admin"], json!([])).await;
    ann.makes("JobQueue", "a", queue()).await.expect("what is granted works");
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    let environments = ann.of_cluster("ComputeEnvironment");
    no_role(environments.list(&ListParams::default()).await, "list resource \"computeenvironments\"");
    no_role(environments.delete("pool", &kube::api::DeleteParams::default()).await, "delete resource");
}

/// Read from the chart: the roles that are part of the built-in ones, and what nobody is given.
#[test]
fn no_role_reads_secrets_or_pods_and_privileges_are_part_of_none_of_the_built_in_roles() {
    let mut parts = Vec::new();
    for role in chart_roles() {
        let name = role["metadata"]["name"].as_str().expect("a name").to_owned();
        let labels = role["metadata"]["labels"].as_object();
        let is_part = labels.is_some_and(|labels| labels.keys().any(|key| key.contains("aggregate-to")));
        if is_part {
            parts.push(name.clone());
        }
        for rule in role["rules"].as_array().expect("rules") {
            for (list, forbidden) in [
                ("resources", "secrets"),
                ("resources", "pods"),
                ("resources", "*"),
                ("verbs", "*"),
                ("verbs", "set"),
            ] {
                let has = rule[list].as_array().is_some_and(|list| list.contains(&json!(forbidden)));
                assert!(!has, "{name}: {list} {forbidden}");
            }
            let privilege = rule["verbs"].as_array().expect("a list").contains(&json!("privilege"));
            assert!(!privilege || name == "batchyard-batch-privileged", "{name}");
        }
    }
    let want = ["viewer", "submitter", "editor", "accounts"].map(|role| format!("batchyard-batch-{role}"));
    assert_eq!(parts, want);
}
