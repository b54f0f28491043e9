//! What a job may name: a queue, a definition, an account.

use serde_json::{Value, json};

use super::people::{accounts, job, person, refused, right, tenancy};
use crate::operator::world::merge;

const ROLE: &str = "arn:aws:iam::123456789012:role/reports";

/// Makes and changes jobs, and no more.
fn maker() -> Value {
    json!([{"apiGroups": ["batchyard.io"], "resources": ["batchjobs"], "verbs": ["create", "patch", "delete"]}])
}

fn with(rights: &[Value]) -> Value {
    let mut rules = maker();
    rules.as_array_mut().expect("a list").extend(rights.iter().cloned());
    rules
}

fn of_definition(reference: &str) -> Value {
    json!({"jobQueue": "queue", "jobDefinition": reference})
}

#[tokio::test]
async fn no_job_to_a_queue_without_the_right_to_submit() {
    let world = tenancy("sec-submit").await;
    let ann = person(&world, "ann", &[], maker()).await;
    let says = [
        "spec.jobQueue",
        &format!("user \"{}\"", ann.user),
        &format!("namespace \"{}\"", world.namespace),
        "verb \"submit\", apiGroup \"batchyard.io\", resource \"jobqueues\", resourceName \"queue\"",
    ];
    refused(ann.makes("BatchJob", "a", job(json!({}))).await, "jobs", &says);
}

#[tokio::test]
async fn no_job_to_another_queue_than_the_granted_one() {
    let world = tenancy("sec-other-queue").await;
    let ann = person(&world, "ann", &[], with(&[right("submit", "jobqueues", &["queue"])])).await;
    let mut other = job(json!({}));
    other["jobQueue"] = json!("urgent");
    refused(ann.makes("BatchJob", "a", other).await, "jobs", &["resourceName \"urgent\""]);
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
}

#[tokio::test]
async fn no_way_around_by_the_arn_of_a_queue() {
    let world = tenancy("sec-queue-arn").await;
    let ann = person(&world, "ann", &[], with(&[right("submit", "jobqueues", &["queue"])])).await;
    let by_arn = |name: &str| {
        let mut spec = job(json!({}));
        spec["jobQueue"] = json!(format!("arn:aws:batch:us-east-1:123456789012:job-queue/{name}"));
        spec
    };
    refused(ann.makes("BatchJob", "a", by_arn("urgent")).await, "jobs", &["resourceName \"urgent\""]);
    refused(ann.makes("BatchJob", "a", by_arn("queue/urgent")).await, "jobs", &["resourceName \"urgent\""]);
    ann.makes("BatchJob", "a", by_arn("queue")).await.expect("what is granted works");
}

#[tokio::test]
async fn no_move_to_a_queue_without_the_right_to_submit() {
    let world = tenancy("sec-move").await;
    let queues = ["queue", "night"];
    let ann = person(&world, "ann", &[], with(&[right("submit", "jobqueues", &queues)])).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    let to = |queue: &str| json!({"spec": {"jobQueue": queue}});
    refused(ann.patches("BatchJob", "a", to("urgent")).await, "jobs", &["spec.jobQueue", "\"urgent\""]);
    ann.patches("BatchJob", "a", to("night")).await.expect("what is granted works");
}

#[tokio::test]
async fn no_right_in_one_namespace_by_a_role_in_another() {
    let world = tenancy("sec-here").await;
    let there = tenancy("sec-there").await;
    let all = with(&[right("submit", "jobqueues", &[]), right("use", "jobdefinitions", &[])]);
    person(&there, "ann", &["batch-admin"], all).await;
    let ann = person(&world, "ann", &[], maker()).await;
    refused(ann.makes("BatchJob", "a", job(json!({}))).await, "jobs", &["verb \"submit\""]);
}

#[tokio::test]
async fn no_job_of_a_definition_without_the_right_to_use_it() {
    let world = tenancy("sec-use").await;
    let ann = person(&world, "ann", &[], with(&[right("submit", "jobqueues", &[])])).await;
    let says = [
        "spec.jobDefinition",
        "verb \"use\", apiGroup \"batchyard.io\", resource \"jobdefinitions\", resourceName \"report\"",
    ];
    refused(ann.makes("BatchJob", "a", of_definition("report")).await, "jobs", &says);
}

#[tokio::test]
async fn no_way_around_by_a_revision_or_the_arn_of_a_definition() {
    let world = tenancy("sec-revision").await;
    let rights = [right("submit", "jobqueues", &[]), right("use", "jobdefinitions", &["report"])];
    let ann = person(&world, "ann", &[], with(&rights)).await;
    let arn = |name: &str| format!("arn:aws:batch:us-east-1:123456789012:job-definition/{name}");
    for reference in ["payroll:1".to_owned(), arn("payroll"), arn("payroll:7"), arn("report/payroll:1")] {
        let answer = ann.makes("BatchJob", "a", of_definition(&reference)).await;
        refused(answer, "jobs", &["resourceName \"payroll\""]);
    }
    for (name, reference) in
        [("a", "report".to_owned()), ("b", "report:3".into()), ("c", arn("report")), ("d", arn("report:3"))]
    {
        ann.makes("BatchJob", name, of_definition(&reference)).await.expect("what is granted works");
    }
}

#[tokio::test]
async fn no_job_as_a_role_without_the_right_to_use_its_account() {
    let world = tenancy("sec-role").await;
    let rights = [right("submit", "jobqueues", &[]), accounts(&["reports"])];
    let ann = person(&world, "ann", &[], with(&rights)).await;
    // A right to the account of this name is none to the role: another account may be annotated with it.
    let answer = ann.makes("BatchJob", "a", job(json!({"jobRoleArn": ROLE}))).await;
    let says =
        ["spec.containerProperties: jobRoleArn", "verb \"use\", apiGroup \"\", resource \"serviceaccounts\""];
    refused(answer, "jobs", &[says[0], says[1], &format!("resourceName \"{ROLE}\"")]);
    let bob = person(&world, "bob", &[], with(&[right("submit", "jobqueues", &[]), accounts(&[ROLE])])).await;
    bob.makes("BatchJob", "a", job(json!({"jobRoleArn": ROLE}))).await.expect("what is granted works");
}

/// A job whose pod is stated as Kubernetes has it.
pub(super) fn pod(more: Value) -> Value {
    let mut pod = json!({"containers": [{"name": "a", "image": "busybox",
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}}]});
    merge(&mut pod, more);
    json!({"eksProperties": {"podProperties": pod}})
}

/// A job of several containers as ECS has them.
pub(super) fn task(more: Value, container: Value) -> Value {
    let mut one = json!({"name": "a", "image": "busybox", "resourceRequirements":
        [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]});
    merge(&mut one, container);
    let mut task = json!({"containers": [one]});
    merge(&mut task, more);
    json!({"ecsProperties": {"taskProperties": [task]}})
}

/// A job of several nodes, one range for each of these.
pub(super) fn nodes(ranges: &[Value]) -> Value {
    let ranges: Vec<Value> = (0..)
        .zip(ranges)
        .map(|(number, range): (u32, _)| {
            let mut range = range.clone();
            if let Some(container) = range.get("containerProperties").cloned() {
                range = json!({"container": container});
            }
            range["targetNodes"] = json!(format!("{number}:{number}"));
            range
        })
        .collect();
    json!({"nodeProperties": {"numNodes": ranges.len(), "mainNode": 0, "nodeRangeProperties": ranges}})
}

/// A job, wherever its work is stated.
fn in_queue(mut work: Value) -> Value {
    work["jobQueue"] = json!("queue");
    work
}

#[tokio::test]
async fn no_task_as_a_role_without_the_right_to_use_its_account() {
    let world = tenancy("sec-task-role").await;
    let ann = person(&world, "ann", &[], with(&[right("submit", "jobqueues", &[])])).await;
    let answer = ann.makes("BatchJob", "a", in_queue(task(json!({"taskRoleArn": ROLE}), json!({})))).await;
    refused(answer, "jobs", &["spec.ecsProperties.taskProperties: ", &format!("\"{ROLE}\"")]);
}

#[tokio::test]
async fn no_pod_as_a_service_account_without_the_right_to_use_it() {
    let world = tenancy("sec-account").await;
    let rights = [right("submit", "jobqueues", &[]), accounts(&["batch"])];
    let ann = person(&world, "ann", &[], with(&rights)).await;
    for account in ["deployer", "default"] {
        let answer = ann.makes("BatchJob", "a", in_queue(pod(json!({"serviceAccountName": account})))).await;
        let says = ["spec.eksProperties.podProperties: ", &format!("resourceName \"{account}\"")];
        refused(answer, "jobs", &says);
    }
    let granted = in_queue(pod(json!({"serviceAccountName": "batch"})));
    ann.makes("BatchJob", "a", granted).await.expect("what is granted works");
}

#[tokio::test]
async fn no_node_as_a_role_that_only_other_nodes_may_have() {
    let world = tenancy("sec-node-role").await;
    let names: Vec<String> = (0..4).map(|number| format!("r{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rights = [right("submit", "jobqueues", &[]), accounts(&names)];
    let ann = person(&world, "ann", &[], with(&rights)).await;
    let ranges = |last: &str| {
        let roles = names.iter().copied().chain([last]);
        nodes(&roles.map(|role| job(json!({"jobRoleArn": role}))).collect::<Vec<_>>())
    };
    let answer = ann.makes("BatchJob", "a", in_queue(ranges("admin"))).await;
    refused(answer, "jobs", &["spec.nodeProperties.nodeRangeProperties: ", "resourceName \"admin\""]);
    // As many as there may be, all of them asked for: CEL has a budget.
    ann.makes("BatchJob", "a", in_queue(ranges("r0"))).await.expect("what is granted works");
}

#[tokio::test]
async fn ending_and_deleting_a_job_needs_no_right_to_its_queue() {
    let world = tenancy("sec-end").await;
    let admin = person(&world, "admin", &["batch-admin"], json!([])).await;
    let ann = person(&world, "ann", &[], maker()).await;
    admin.makes("BatchJob", "a", job(json!({}))).await.expect("an administrator may");
    ann.patches("BatchJob", "a", json!({"spec": {"terminate": "enough"}})).await.expect("it may be ended");
    let held = json!({"metadata": {"finalizers": ["example.org/hold"], "labels": {"note": "x"}}});
    ann.patches("BatchJob", "a", held).await.expect("metadata of others may be set");
    ann.deletes("BatchJob", "a").await.expect("it may be deleted");
    let free = json!({"metadata": {"finalizers": null}});
    ann.patches("BatchJob", "a", free).await.expect("a finalizer may be taken off");
}
