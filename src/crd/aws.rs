//! What the AWS Batch API takes of each kind, and the names that its callers know objects by: for the door, and for
//! what `kubectl batch` reads from an account and writes for one.

use batchyard_core::name;
use kube::ResourceExt as _;
use serde_json::{Map, Value};

use super::{ComputeEnvironment, ConsumableResource, JobQueue, SchedulingPolicy};

/// Members of CreateComputeEnvironment.
pub const COMPUTE_ENVIRONMENT: &[&str] = &[
    "computeEnvironmentName",
    "type",
    "state",
    "unmanagedvCpus",
    "computeResources",
    "serviceRole",
    "tags",
    "eksConfiguration",
    "context",
    "ecsSettings",
];

/// Members of CreateJobQueue.
pub const JOB_QUEUE: &[&str] = &[
    "jobQueueName",
    "state",
    "schedulingPolicyArn",
    "priority",
    "computeEnvironmentOrder",
    "serviceEnvironmentOrder",
    "jobQueueType",
    "tags",
    "jobStateTimeLimitActions",
];

/// Members of CreateSchedulingPolicy.
pub const SCHEDULING_POLICY: &[&str] = &["name", "fairsharePolicy", "quotaSharePolicy", "tags"];

/// Members of CreateConsumableResource.
pub const CONSUMABLE_RESOURCE: &[&str] = &["consumableResourceName", "totalQuantity", "resourceType", "tags"];

/// Members of RegisterJobDefinition.
pub const JOB_DEFINITION: &[&str] = &[
    "jobDefinitionName",
    "type",
    "parameters",
    "schedulingPriority",
    "containerProperties",
    "nodeProperties",
    "retryStrategy",
    "propagateTags",
    "timeout",
    "tags",
    "platformCapabilities",
    "eksProperties",
    "ecsProperties",
    "consumableResourceProperties",
];

/// The members of a value; none if it is no object.
pub fn members(value: impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// Those members of a spec that AWS has too.
pub fn common(spec: impl serde::Serialize, theirs: &[&str]) -> Map<String, Value> {
    let mut members = members(spec);
    members.retain(|member, _| theirs.contains(&member.as_str()));
    members
}

/// The name that callers know an object by: AWS's, where the object is named by its slug, else the object's own.
pub fn shown(object: &str, aws: Option<&str>) -> String {
    aws.filter(|aws| name::slug(aws) == object).unwrap_or(object).to_owned()
}

/// The name of a queue.
pub fn queue(queue: &JobQueue) -> String {
    shown(&queue.name_any(), queue.spec.job_queue_name.as_deref())
}

/// The name of a policy.
pub fn policy(policy: &SchedulingPolicy) -> String {
    shown(&policy.name_any(), policy.spec.name.as_deref())
}

/// The name of a consumable resource.
pub fn resource(resource: &ConsumableResource) -> String {
    shown(&resource.name_any(), resource.spec.consumable_resource_name.as_deref())
}

/// The name of an environment in a namespace: without the namespace that stands before it.
pub fn environment(environment: &ComputeEnvironment, namespace: &str) -> String {
    let object = environment.name_any();
    let own = object.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&object);
    shown(own, environment.spec.compute_environment_name.as_deref())
}

/// The object name of an environment that callers of a namespace make, so that two accounts may both have `compute-0`.
pub fn environment_object(namespace: &str, aws_name: &str) -> String {
    format!("{namespace}.{}", name::slug(aws_name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn awss_names_come_back() {
        for name in ["randomEC", "DCV-GPU-JD", "queue-0", "a_b"] {
            assert_eq!(shown(&name::slug(name), Some(name)), name);
        }
        assert_eq!(shown("plain", None), "plain");
        assert_eq!(shown("plain", Some("Other")), "plain", "a name that leads nowhere");
        let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": "team.compute-0"}, "spec": {"type": "UNMANAGED"}});
        let found: ComputeEnvironment = serde_json::from_value(object).expect("an environment");
        assert_eq!(environment(&found, "team"), "compute-0");
        assert_eq!(environment(&found, "tea"), "team.compute-0");
        assert_eq!(environment_object("team", "compute-0"), "team.compute-0");
    }

    #[test]
    fn what_stands_beside_awss_members_is_none_of_them() {
        let spec = json!({"priority": 1, "maxRunning": 2, "tags": {"a": "b"}});
        assert_eq!(Value::Object(common(spec, JOB_QUEUE)), json!({"priority": 1, "tags": {"a": "b"}}));
    }
}
