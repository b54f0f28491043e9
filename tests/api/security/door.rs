//! The same through the AWS door, whose callers write nothing themselves: it asks for them, and the policies let it pass by
//! the rights that the chart gives it.

use batchyard::k8s::access_key::AccessKey;
use serde_json::{Value, json};

use super::people::{accounts, definition, right, tenancy};
use crate::gateway::door::{Answer, Door, caller, everything, known};
use crate::operator::world::World;

const ROLE: &str = "arn:aws:iam::123456789012:role/reports";

fn calls(door: &Door, key: &AccessKey, operation: &str, body: &Value) -> Answer {
    door.call(key, "POST", &format!("/v1/{operation}"), &body.to_string())
}

/// A caller who makes jobs and definitions, and may do this besides.
async fn with(world: &World, who: &str, rights: &[Value]) -> AccessKey {
    let mut rules = json!([{"apiGroups": ["batchyard.io"],
        "resources": ["batchjobs", "jobdefinitions", "jobqueues"],
        "verbs": ["get", "list", "create", "update"]}]);
    rules.as_array_mut().expect("a list").extend(rights.iter().cloned());
    caller(&world.user, &world.namespace, who, rules).await
}

#[track_caller]
fn denied(answer: &Answer, says: &str) {
    assert_eq!((answer.status, answer.kind().as_str()), (403, "AccessDeniedException"), "{answer:?}");
    assert!(answer.message().contains(says), "{says:?} is missing in {answer:?}");
}

/// A queue and a definition.
async fn furnished(name: &str) -> (World, Door) {
    let world = tenancy(name).await;
    let door = Door::open(&[]).await;
    let admin = caller(&world.user, &world.namespace, "admin", everything()).await;
    known(&door, &admin).await;
    let queue = json!({"jobQueueName": "queue", "priority": 1});
    assert_eq!(calls(&door, &admin, "createjobqueue", &queue).status, 200);
    for name in ["report", "payroll"] {
        let mut spec = definition(json!({}));
        spec["jobDefinitionName"] = json!(name);
        assert_eq!(calls(&door, &admin, "registerjobdefinition", &spec).status, 200);
    }
    (world, door)
}

fn job(definition: &str) -> Value {
    json!({"jobName": "a", "jobQueue": "queue", "jobDefinition": definition})
}

#[tokio::test]
async fn no_submitjob_to_a_queue_without_the_right_to_submit() {
    let (world, door) = furnished("sec-door-submit").await;
    let ann = with(&world, "ann", &[right("use", "jobdefinitions", &[])]).await;
    known(&door, &ann).await;
    let answer = calls(&door, &ann, "submitjob", &job("report"));
    denied(
        &answer,
        "batch:SubmitJob because no Kubernetes role allows it to submit jobqueues.batchyard.io queue",
    );
    // A queue that is not there is denied in the same way: nobody learns which there are.
    let mut absent = job("report");
    absent["jobQueue"] = json!("absent");
    denied(&calls(&door, &ann, "submitjob", &absent), "to submit jobqueues.batchyard.io absent");
}

#[tokio::test]
async fn no_submitjob_of_a_definition_without_the_right_to_use_it() {
    let (world, door) = furnished("sec-door-use").await;
    let rights = [right("submit", "jobqueues", &["queue"]), right("use", "jobdefinitions", &["report"])];
    let ann = with(&world, "ann", &rights).await;
    known(&door, &ann).await;
    for reference in ["payroll", "payroll:1"] {
        let answer = calls(&door, &ann, "submitjob", &job(reference));
        denied(&answer, "to use jobdefinitions.batchyard.io payroll");
    }
    // The annotation that says who submitted it is reserved: the gateway may set it.
    let answer = calls(&door, &ann, "submitjob", &job("report:1"));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_registerjobdefinition_with_privileges_without_the_right() {
    let (world, door) = furnished("sec-door-privileged").await;
    let ann = with(&world, "ann", &[]).await;
    let bob = with(&world, "bob", &[right("privilege", "containers", &["privileged"])]).await;
    known(&door, &ann).await;
    known(&door, &bob).await;
    let mut spec = definition(json!({"privileged": true}));
    spec["jobDefinitionName"] = json!("mine");
    let answer = calls(&door, &ann, "registerjobdefinition", &spec);
    denied(&answer, "to privilege containers.batchyard.io privileged");
    let answer = calls(&door, &bob, "registerjobdefinition", &spec);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_registerjobdefinition_with_a_role_without_the_right_to_use_it() {
    let (world, door) = furnished("sec-door-role").await;
    let ann = with(&world, "ann", &[accounts(&["reports"])]).await;
    let bob = with(&world, "bob", &[accounts(&[ROLE])]).await;
    known(&door, &ann).await;
    known(&door, &bob).await;
    let mut spec = definition(json!({"jobRoleArn": ROLE}));
    spec["jobDefinitionName"] = json!("mine");
    let answer = calls(&door, &ann, "registerjobdefinition", &spec);
    denied(&answer, &format!("to use serviceaccounts {ROLE}"));
    let answer = calls(&door, &bob, "registerjobdefinition", &spec);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_registerjobdefinition_with_a_log_group_without_the_right_to_use_it() {
    let (world, door) = furnished("sec-door-group").await;
    let ann = with(&world, "ann", &[right("use", "loggroups", &["/reports"])]).await;
    known(&door, &ann).await;
    for (group, status) in [("/payroll", 403), ("/reports", 200)] {
        let logs = json!({"logDriver": "awslogs", "options": {"awslogs-group": group}});
        let mut spec = definition(json!({"logConfiguration": logs}));
        spec["jobDefinitionName"] = json!("mine");
        let answer = calls(&door, &ann, "registerjobdefinition", &spec);
        if status == 403 {
            denied(&answer, &format!("to use loggroups.batchyard.io {group}"));
        } else {
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn no_definition_of_another_namespace() {
    let (world, door) = furnished("sec-door-theirs").await;
    let other = tenancy("sec-door-mine").await;
    let ann = caller(&other.user, &other.namespace, "ann", everything()).await;
    known(&door, &ann).await;
    let queue = json!({"jobQueueName": "queue", "priority": 1});
    assert_eq!(calls(&door, &ann, "createjobqueue", &queue).status, 200);
    // Its owner's is as unknown as one that nobody has.
    let theirs = calls(&door, &ann, "submitjob", &job("payroll"));
    let nobodys = calls(&door, &ann, "submitjob", &job("nothing"));
    assert_eq!((theirs.status, nobodys.status), (400, 400), "{theirs:?} {nobodys:?}");
    let (theirs, nobodys) = (theirs.message().to_owned(), nobodys.message().to_owned());
    assert_eq!(theirs.replace("payroll", "nothing"), nobodys);
    drop(world);
}
