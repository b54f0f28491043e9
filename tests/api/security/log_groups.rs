//! Log groups that a definition or a job names, whatever way it does.

use serde_json::{Value, json};

use super::jobs::{nodes, task};
use super::people::{Person, job, person, refused, right, tenancy};
use crate::operator::world::World;

const GRANTED: &str = "/aws/batch/custom/reports";

/// Options that name a group.
fn logs(option: &str, group: &str) -> Value {
    let driver = if option == "awslogs-group" { "awslogs" } else { "awsfirelens" };
    let mut options = json!({option: group});
    if driver == "awsfirelens" {
        options["Name"] = json!("cloudwatch_logs");
    }
    json!({"logConfiguration": {"logDriver": driver, "options": options}})
}

/// Somebody who writes jobs and definitions, and may use these groups.
async fn writer(world: &World, who: &str, groups: Value) -> Person {
    let mut rights = json!([
        right("use", "loggroups", &[]),
        right("submit", "jobqueues", &[]),
        right("create", "batchjobs", &[]),
        right("create", "jobdefinitions", &[])
    ]);
    rights[0]["resourceNames"] = groups;
    person(world, who, &[], rights).await
}

fn missing(group: &str) -> String {
    format!("verb \"use\", apiGroup \"batchyard.io\", resource \"loggroups\", resourceName \"{group}\"")
}

/// Makes a job of it, and a definition, which the policies must treat alike.
async fn is_refused(ann: &Person, name: &str, work: &Value, says: &str) {
    let (of_job, definition) = both(work);
    refused(ann.makes("BatchJob", name, of_job).await, "jobs", &["logConfiguration", says]);
    refused(
        ann.makes("JobDefinition", name, definition).await,
        "jobdefinitions",
        &["logConfiguration", says],
    );
}

async fn is_made(ann: &Person, name: &str, work: &Value) {
    let (of_job, definition) = both(work);
    ann.makes("BatchJob", name, of_job).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    ann.makes("JobDefinition", name, definition).await.unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn both(work: &Value) -> (Value, Value) {
    let (mut of_job, mut definition) = (work.clone(), work.clone());
    of_job["jobQueue"] = json!("queue");
    let is_multinode = work.get("nodeProperties").is_some();
    definition["type"] = json!(if is_multinode { "multinode" } else { "container" });
    definition.as_object_mut().expect("an object").remove("jobQueue");
    (of_job, definition)
}

#[tokio::test]
async fn no_log_group_without_the_right_to_use_it() {
    let world = tenancy("sec-groups").await;
    let ann = writer(&world, "ann", json!([GRANTED])).await;
    let ways = |group: &str| {
        let container = job(logs("awslogs-group", group));
        vec![
            ("container", container.clone()),
            ("firelens", job(logs("log_group_name", group))),
            ("case", job(logs("Log_Group_Name", group))),
            ("template", job(logs("log_group_template", group))),
            ("task", task(json!({}), logs("awslogs-group", group))),
            ("range", nodes(&[job(json!({})), container])),
        ]
    };
    for (name, work) in ways("/payroll") {
        is_refused(&ann, name, &work, &missing("/payroll")).await;
    }
    for (name, work) in ways(GRANTED) {
        is_made(&ann, name, &work).await;
    }
}

#[tokio::test]
async fn no_log_group_behind_others() {
    let world = tenancy("sec-groups-many").await;
    let granted: Vec<String> = (0..4).map(|number| format!("/granted/{number}")).collect();
    let ann = writer(&world, "ann", json!(granted)).await;
    let each = |groups: &[&str]| {
        nodes(&groups.iter().map(|group| job(logs("awslogs-group", group))).collect::<Vec<_>>())
    };
    let mut groups: Vec<&str> = granted.iter().map(String::as_str).collect();
    is_made(&ann, "granted", &each(&groups)).await;
    groups.push(groups[0]);
    is_made(&ann, "granted-again", &each(&groups)).await;
    for place in 0..groups.len() {
        let mut groups = groups.clone();
        groups[place] = "/payroll";
        // Behind four others a name is not asked for, so that all must be granted.
        let says = if place < 4 { missing("/payroll") } else { "without resourceNames".to_owned() };
        is_refused(&ann, &format!("at-{place}"), &each(&groups), &says).await;
    }
    let bob = writer(&world, "bob", Value::Null).await;
    groups[4] = "/payroll";
    is_made(&bob, "all", &each(&groups)).await;
}
