//! BatchJob: what is refused, and with which words.

use serde_json::{Value, json};

use super::{Case, create, tags, times, update};

const JOB: &str = "BatchJob";

fn job() -> Value {
    json!({ "jobQueue": "queue-0", "jobDefinition": "spot" })
}

pub(super) fn cases() -> Vec<Case> {
    let tags = tags(JOB, &job(), |tags| json!({ "tags": tags }));
    [submission(), arrays(), overrides(), endings(), edits(), inline_edits(), tags].concat()
}

fn submission() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(JOB, &job(), patch, says);
    let one = "a job needs exactly one of jobDefinition, containerProperties, ecsProperties, eksProperties and \
               nodeProperties";
    let container = container("a");
    let share = "shareIdentifier can have up to 255 letters and numbers";
    let priority = "schedulingPriorityOverride must be between 0 and 9999";
    vec![
        says(json!({}), &[]),
        says(json!({ "jobName": "randomEC-2020-10-13_10-00-00" }), &[]),
        says(json!({ "jobName": "-a" }), &["Job name should match valid pattern"]),
        says(json!({ "jobName": "a.b" }), &["Job name should match valid pattern"]),
        says(json!({ "jobName": "a".repeat(129) }), &["Job name should match valid pattern"]),
        says(json!({ "jobQueue": null }), &["spec.jobQueue: required"]),
        says(json!({ "jobQueue": "" }), &["'jobQueue' is a required field (cannot be an empty string)"]),
        says(json!({ "jobId": "1e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1" }), &[]),
        says(json!({ "jobId": "job-1" }), &["jobId must be a UUID in lower case"]),
        says(json!({ "jobDefinition": null }), &[one]),
        says(json!({ "containerProperties": container }), &[one]),
        says(json!({ "jobDefinition": null, "containerProperties": container }), &[]),
        says(json!({ "shareIdentifier": "UserA" }), &[]),
        says(json!({ "shareIdentifier": "UserA*" }), &[share]),
        says(json!({ "schedulingPriorityOverride": 10_000 }), &[priority]),
        says(json!({ "retryStrategy": { "attempts": 11 } }), &["attempts must be between 1 and 10"]),
        says(
            json!({ "timeout": { "attemptDurationSeconds": 1 } }),
            &["attemptDurationSeconds must be at least 60 seconds"],
        ),
    ]
}

fn arrays() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(JOB, &job(), patch, says);
    let array = |depends_on: Value, says: &[&'static str]| {
        create(JOB, &job(), json!({ "arrayProperties": { "size": 2 }, "dependsOn": [depends_on] }), says)
    };
    let size = "array size must be between 2 and 10000";
    let tolerated = "toleratedFailures must be a number that is not negative, or a percentage such as 10%";
    vec![
        says(json!({ "arrayProperties": { "size": 10_000, "toleratedFailures": 3 } }), &[]),
        says(json!({ "arrayProperties": { "size": 1 } }), &[size]),
        says(json!({ "arrayProperties": { "size": 10_001 } }), &[size]),
        says(json!({ "arrayProperties": {} }), &["arrayProperties needs a size"]),
        says(json!({ "arrayProperties": { "rerunFailedOf": "a" } }), &[]),
        says(json!({ "arrayProperties": { "size": 2, "toleratedFailures": "10%", "maxRunning": 1 } }), &[]),
        says(json!({ "arrayProperties": { "size": 2, "toleratedFailures": -1 } }), &[tolerated]),
        says(json!({ "arrayProperties": { "size": 2, "toleratedFailures": "101%" } }), &[tolerated]),
        says(
            json!({ "arrayProperties": { "size": 2, "maxRunning": 0 } }),
            &["maxRunning must be at least 1"],
        ),
        says(json!({ "dependsOn": [{ "jobId": "a" }, { "job": "b" }] }), &[]),
        says(
            json!({ "dependsOn": times(21, json!({ "jobId": "a" })) }),
            &["dependsOn can have at most 20 jobs"],
        ),
        says(
            json!({ "dependsOn": [{ "jobId": "a", "job": "b" }] }),
            &["a dependency can have only one of jobId and job"],
        ),
        says(
            json!({ "dependsOn": [{ "type": "SEQUENTIAL" }] }),
            &["dependsOn needs a jobId or job, unless the job is an array and the type is SEQUENTIAL"],
        ),
        says(json!({ "dependsOn": [{ "job": "b" }], "dependencyTimeoutSeconds": 1 }), &[]),
        says(
            json!({ "dependsOn": [{ "job": "b" }], "dependencyTimeoutSeconds": 0 }),
            &["spec.dependencyTimeoutSeconds: less than minimum 1.0"],
        ),
        array(json!({ "type": "SEQUENTIAL" }), &[]),
        array(json!({ "type": "N_TO_N", "jobId": "a" }), &[]),
        array(json!({ "type": "N_TO_N" }), &["a dependency of type N_TO_N needs a jobId or job"]),
        array(json!({}), &["a dependency needs a jobId, a job or a type"]),
    ]
}

fn overrides() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(JOB, &job(), patch, says);
    let empty = "the command of an override must not contain an empty string";
    let range = |patch: Value, says: &[&'static str]| {
        let group = super::merged(&json!({ "targetNodes": "0:1" }), patch);
        create(JOB, &job(), json!({ "nodeOverrides": { "nodePropertyOverrides": [group] } }), says)
    };
    vec![
        says(json!({ "containerOverrides": { "command": ["echo"], "vcpus": 2, "memory": 64 } }), &[]),
        says(json!({ "containerOverrides": { "command": ["echo", ""] } }), &[empty]),
        says(json!({ "containerOverrides": { "vcpus": -1 } }), &["vcpus must not be negative"]),
        says(json!({ "containerOverrides": { "memory": 1 } }), &["memory must be at least 4 MiB"]),
        says(
            json!({ "ecsPropertiesOverride": { "taskProperties": [{}, {}] } }),
            &["ecsPropertiesOverride.taskProperties can have only 1 element"],
        ),
        says(
            json!({ "ecsPropertiesOverride": { "taskProperties": [{ "containers": [{ "command": [""] }] }] } }),
            &[empty],
        ),
        says(json!({ "nodeOverrides": { "numNodes": 0 } }), &["numNodes must be between 1 and 1000"]),
        range(json!({}), &[]),
        range(
            json!({ "targetNodes": "a" }),
            &["targetNodes must be a node index or a range of them, such as 0:3, 0: or :3"],
        ),
        range(json!({ "instanceTypes": ["a", "b"] }), &["instanceTypes can have at most 1 element"]),
    ]
}

fn endings() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(JOB, &job(), patch, says);
    let child = |indexes: &str, reason: &str, says: &[&'static str]| {
        let action = json!({ "indexes": indexes, "action": "CANCEL", "reason": reason });
        create(JOB, &job(), json!({ "childActions": [action] }), says)
    };
    let empty = "'reason' is a required field (cannot be an empty string)";
    let long = "reason can have at most 1024 characters";
    vec![
        says(json!({ "terminate": "no longer needed" }), &[]),
        says(json!({ "terminate": "" }), &[empty]),
        says(json!({ "cancel": "" }), &[empty]),
        says(json!({ "terminate": "a".repeat(1025) }), &[long]),
        says(json!({ "cancel": "a".repeat(1025) }), &[long]),
        child("3,7-9", "x", &[]),
        child("3,", "x", &["indexes must be numbers and ranges, such as 3,7-9"]),
        child("3", "", &[empty]),
        child("3", &"a".repeat(1025), &[long]),
    ]
}

fn edits() -> Vec<Case> {
    let says = |old: Value, new: Value, says: &[&'static str]| update(JOB, &job(), old, new, says);
    let as_container = json!({ "jobDefinition": null, "containerProperties": container("a") });
    let mut cases = vec![
        says(
            json!({}),
            json!({ "jobQueue": "other", "schedulingPriorityOverride": 1, "ttlSecondsAfterFinished": 0,
                "terminate": "t", "cancel": "c", "childActions": [] }),
            &[],
        ),
        says(json!({ "schedulingPriorityOverride": 1, "ttlSecondsAfterFinished": 0 }), json!({}), &[]),
        says(json!({ "terminate": "a" }), json!({}), &["terminate cannot be changed or taken back"]),
        says(
            json!({ "terminate": "a" }),
            json!({ "terminate": "b" }),
            &["terminate cannot be changed or taken back"],
        ),
        says(json!({ "cancel": "a" }), json!({}), &["cancel cannot be changed or taken back"]),
        says(json!({ "cancel": "a" }), json!({ "cancel": "b" }), &["cancel cannot be changed or taken back"]),
        says(
            json!({ "jobDefinition": "spot:1" }),
            json!({ "jobDefinition": "spot:2" }),
            &["jobDefinition cannot be changed after the job was submitted"],
        ),
        says(
            json!({ "timeout": { "attemptDurationSeconds": 60 }, "tags": { "a": "1" } }),
            json!({ "timeout": { "attemptDurationSeconds": 61 }, "terminate": "t" }),
            &[
                "timeout cannot be changed after the job was submitted",
                "tags cannot be changed after the job was submitted",
            ],
        ),
        says(
            as_container.clone(),
            json!({ "jobDefinition": null, "ecsProperties": tasks("a") }),
            &["containerProperties, ecsProperties cannot be changed after the job was submitted"],
        ),
        says(
            as_container,
            json!({ "jobDefinition": null, "nodeProperties": nodes("a") }),
            &["containerProperties, nodeProperties cannot be changed after the job was submitted"],
        ),
        says(
            json!({}),
            json!({ "jobDefinition": null, "eksProperties": {} }),
            &["jobDefinition, eksProperties cannot be changed after the job was submitted"],
        ),
    ];
    cases.extend(FIXED.iter().flat_map(|(member, message, a, b)| {
        let value = |text: &str| json!({ *member: serde_json::from_str::<Value>(text).unwrap() });
        [
            says(value(a), value(a), &[]),
            says(value(a), value(b), &[message]),
            says(value(a), json!({}), &[message]),
            says(json!({}), value(a), &[message]),
        ]
    }));
    cases
}

/// Definitions that stand in the job itself.
fn inline_edits() -> Vec<Case> {
    let says = |member: &str, a: Value, b: Value, message: &'static str| {
        let inline = |value: Value| json!({ "jobDefinition": null, member: value });
        update(JOB, &job(), inline(a), inline(b), &[message])
    };
    vec![
        says(
            "containerProperties",
            container("a"),
            container("b"),
            "containerProperties cannot be changed after the job was submitted",
        ),
        says(
            "ecsProperties",
            tasks("a"),
            tasks("b"),
            "ecsProperties cannot be changed after the job was submitted",
        ),
        says(
            "eksProperties",
            pod("a"),
            pod("b"),
            "eksProperties cannot be changed after the job was submitted",
        ),
        says(
            "nodeProperties",
            nodes("a"),
            nodes("b"),
            "nodeProperties cannot be changed after the job was submitted",
        ),
    ]
}

fn container(image: &str) -> Value {
    json!({ "image": image, "vcpus": 1, "memory": 64 })
}

fn tasks(image: &str) -> Value {
    json!({ "taskProperties": [{ "containers": [{ "image": image }] }] })
}

fn pod(image: &str) -> Value {
    let resources = json!({ "limits": { "cpu": "1", "memory": "4Mi" } });
    json!({ "podProperties": { "containers": [{ "image": image, "resources": resources }] } })
}

fn nodes(image: &str) -> Value {
    let range = json!({ "targetNodes": "0", "container": container(image) });
    json!({ "numNodes": 1, "mainNode": 0, "nodeRangeProperties": [range] })
}

/// Members that stay as they were submitted, each with two values.
const FIXED: &[(&str, &str, &str, &str)] = &[
    ("jobName", "jobName cannot be changed after the job was submitted", "\"a\"", "\"b\""),
    (
        "jobId",
        "jobId cannot be changed after the job was submitted",
        "\"1e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1\"",
        "\"2e6e4b1c-0a41-4f0e-8f57-7d5ad4a0a5b1\"",
    ),
    ("shareIdentifier", "shareIdentifier cannot be changed after the job was submitted", "\"a\"", "\"b\""),
    (
        "arrayProperties",
        "arrayProperties cannot be changed after the job was submitted",
        r#"{"size":2}"#,
        r#"{"size":3}"#,
    ),
    (
        "dependsOn",
        "dependsOn cannot be changed after the job was submitted",
        r#"[{"jobId":"a"}]"#,
        r#"[{"jobId":"b"}]"#,
    ),
    (
        "dependencyTimeoutSeconds",
        "dependencyTimeoutSeconds cannot be changed after the job was submitted",
        "60",
        "61",
    ),
    (
        "parameters",
        "parameters cannot be changed after the job was submitted",
        r#"{"a":"1"}"#,
        r#"{"a":"2"}"#,
    ),
    (
        "containerOverrides",
        "containerOverrides cannot be changed after the job was submitted",
        r#"{"vcpus":1}"#,
        r#"{"vcpus":2}"#,
    ),
    (
        "nodeOverrides",
        "nodeOverrides cannot be changed after the job was submitted",
        r#"{"numNodes":1}"#,
        r#"{"numNodes":2}"#,
    ),
    (
        "retryStrategy",
        "retryStrategy cannot be changed after the job was submitted",
        r#"{"attempts":1}"#,
        r#"{"attempts":2}"#,
    ),
    ("propagateTags", "propagateTags cannot be changed after the job was submitted", "true", "false"),
    (
        "timeout",
        "timeout cannot be changed after the job was submitted",
        r#"{"attemptDurationSeconds":60}"#,
        r#"{"attemptDurationSeconds":61}"#,
    ),
    ("tags", "tags cannot be changed after the job was submitted", r#"{"a":"1"}"#, r#"{"a":"2"}"#),
    (
        "eksPropertiesOverride",
        "eksPropertiesOverride cannot be changed after the job was submitted",
        r#"{"podProperties":{"containers":[{"image":"a"}]}}"#,
        r#"{"podProperties":{"containers":[{"image":"b"}]}}"#,
    ),
    (
        "ecsPropertiesOverride",
        "ecsPropertiesOverride cannot be changed after the job was submitted",
        r#"{"taskProperties":[{"containers":[{"name":"a"}]}]}"#,
        r#"{"taskProperties":[{"containers":[{"name":"b"}]}]}"#,
    ),
    (
        "consumableResourcePropertiesOverride",
        "consumableResourcePropertiesOverride cannot be changed after the job was submitted",
        r#"{"consumableResourceList":[{"consumableResource":"a","quantity":1}]}"#,
        r#"{"consumableResourceList":[{"consumableResource":"a","quantity":2}]}"#,
    ),
    (
        "session",
        "session cannot be changed after the job was submitted",
        r#"{"port":8443}"#,
        r#"{"port":8444}"#,
    ),
];
