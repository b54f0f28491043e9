//! JobQueue, SchedulingPolicy and ConsumableResource: what is refused, and with which words.

use serde_json::{Value, json};

use super::{Case, create, tags, times, update};

pub(super) fn cases() -> Vec<Case> {
    let tagged = |kind, base: Value| tags(kind, &base, |tags| json!({ "tags": tags }));
    let tags = [
        tagged("JobQueue", queue_base()),
        tagged("SchedulingPolicy", json!({})),
        tagged("ConsumableResource", json!({})),
    ];
    [queue(), time_limits(), policy(), resource(), tags.concat()].concat()
}

fn queue_base() -> Value {
    json!({ "priority": 1, "computeEnvironmentOrder": [{ "order": 0, "computeEnvironment": "compute-0" }] })
}

fn queue() -> Vec<Case> {
    let kind = "JobQueue";
    let name = "jobQueueName can have up to 128 letters, numbers, hyphens and underscores";
    let policy = "schedulingPolicyArn can be replaced, but neither added nor removed";
    let says = |patch: Value, says: &[&'static str]| create(kind, &queue_base(), patch, says);
    let then = |old: Value, new: Value, says: &[&'static str]| update(kind, &queue_base(), old, new, says);
    vec![
        says(json!({ "jobQueueName": "queue-0", "state": "ENABLED" }), &[]),
        says(json!({ "jobQueueName": "queue 0" }), &[name]),
        says(json!({ "jobQueueName": "q".repeat(129) }), &[name]),
        says(json!({ "priority": null }), &["spec.priority: required"]),
        says(json!({ "priority": -1 }), &["priority must not be negative"]),
        says(json!({ "state": "enabled" }), &["spec.state: unsupported value \"enabled\""]),
        says(
            json!({ "computeEnvironmentOrder": times(4, json!({ "order": 1, "computeEnvironment": "a" })) }),
            &["computeEnvironmentOrder can have at most 3 compute environments"],
        ),
        says(
            json!({ "serviceEnvironmentOrder": [{ "order": 1, "serviceEnvironment": "a" }] }),
            &["computeEnvironmentOrder and serviceEnvironmentOrder cannot be used together"],
        ),
        says(json!({ "maxRunning": 1, "finishedJobsLimit": 0, "strictFencing": true }), &[]),
        then(json!({}), json!({ "priority": 2, "state": "DISABLED" }), &[]),
        then(
            json!({ "jobQueueName": "a" }),
            json!({ "jobQueueName": "b" }),
            &["jobQueueName cannot be changed"],
        ),
        then(json!({}), json!({ "jobQueueType": "ECS" }), &["jobQueueType cannot be changed"]),
        then(json!({ "jobQueueType": "ECS" }), json!({}), &["jobQueueType cannot be changed"]),
        then(json!({ "schedulingPolicyArn": "a" }), json!({ "schedulingPolicyArn": "b" }), &[]),
        then(json!({}), json!({ "schedulingPolicyArn": "a" }), &[policy]),
        then(json!({ "schedulingPolicyArn": "a" }), json!({}), &[policy]),
    ]
}

fn time_limits() -> Vec<Case> {
    let action = |reason: &str, seconds: i32| {
        let action =
            json!({ "reason": reason, "state": "RUNNABLE", "maxTimeSeconds": seconds, "action": "CANCEL" });
        json!({ "jobStateTimeLimitActions": [action] })
    };
    let says = |patch: Value, says: &[&'static str]| create("JobQueue", &queue_base(), patch, says);
    vec![
        says(action("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 600), &[]),
        says(action("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", 600), &[]),
        says(action("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 600), &[]),
        says(action("MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED", 86_400), &[]),
        says(action("UNDETERMINED", 600), &["Invalid job reason"]),
        says(
            action("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 599),
            &["maxTimeSeconds must be between 600 and 86400"],
        ),
        says(
            action("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 86_401),
            &["maxTimeSeconds must be between 600 and 86400"],
        ),
    ]
}

fn policy() -> Vec<Case> {
    let kind = "SchedulingPolicy";
    let share = |identifier: &str, weight: f64| {
        json!({ "fairsharePolicy": { "shareDistribution": [
            { "shareIdentifier": identifier, "weightFactor": weight }] } })
    };
    let identifier =
        "shareIdentifier can have up to 255 letters and numbers and can end with an asterisk (*)";
    let quota = json!({ "quotaSharePolicy": { "idleResourceAssignmentStrategy": "FIFO" } });
    let says = |patch: Value, says: &[&'static str]| create(kind, &json!({}), patch, says);
    let fair = |patch: Value, says: &[&'static str]| {
        create(kind, &json!({}), json!({ "fairsharePolicy": patch }), says)
    };
    vec![
        says(json!({}), &[]),
        says(
            json!({ "name": "a/b" }),
            &["name can have up to 128 letters, numbers, hyphens and underscores"],
        ),
        fair(json!({ "shareDecaySeconds": 604_800, "computeReservation": 99 }), &[]),
        fair(json!({ "shareDecaySeconds": 604_801 }), &["shareDecaySeconds must be between 0 and 604800"]),
        fair(json!({ "computeReservation": 100 }), &["computeReservation must be between 0 and 99"]),
        fair(
            json!({ "shareDistribution": (0..501)
                .map(|n| json!({ "shareIdentifier": format!("a{n}") })).collect::<Vec<_>>() }),
            &["shareDistribution can have at most 500 share identifiers"],
        ),
        says(share("UserA*", 0.125), &[]),
        says(share("*", 1.0), &[]),
        says(share("User-A", 1.0), &[identifier]),
        says(share("User*A", 1.0), &[identifier]),
        says(share("", 1.0), &[identifier]),
        says(share("A", 0.00005), &["weightFactor must be between 0.0001 and 999.9999"]),
        says(share("A", 1000.0), &["weightFactor must be between 0.0001 and 999.9999"]),
        create(
            kind,
            &quota,
            json!({ "fairsharePolicy": {} }),
            &["fairsharePolicy and quotaSharePolicy cannot be used together"],
        ),
        update(kind, &json!({}), json!({ "name": "a" }), json!({ "name": "b" }), &["name cannot be changed"]),
        update(
            kind,
            &json!({}),
            json!({ "fairsharePolicy": {} }),
            quota,
            &["a scheduling policy cannot change between fair share and quota share"],
        ),
    ]
}

fn resource() -> Vec<Case> {
    let kind = "ConsumableResource";
    let says = |patch: Value, says: &[&'static str]| create(kind, &json!({}), patch, says);
    let then = |old: Value, new: Value, says: &[&'static str]| update(kind, &json!({}), old, new, says);
    vec![
        says(json!({ "totalQuantity": 0, "resourceType": "NON_REPLENISHABLE" }), &[]),
        says(
            json!({ "consumableResourceName": "ansys.v1" }),
            &["consumableResourceName can have up to 128 letters, numbers, hyphens and underscores"],
        ),
        says(json!({ "totalQuantity": -1 }), &["totalQuantity must not be negative"]),
        says(json!({ "resourceType": "ONCE" }), &["resourceType must be REPLENISHABLE or NON_REPLENISHABLE"]),
        then(json!({ "totalQuantity": 1 }), json!({ "totalQuantity": 2 }), &[]),
        then(
            json!({ "consumableResourceName": "a" }),
            json!({}),
            &["consumableResourceName cannot be changed"],
        ),
        then(json!({}), json!({ "resourceType": "REPLENISHABLE" }), &["resourceType cannot be changed"]),
    ]
}
