//! Objects of each kind, as JSON and as YAML: what reads them, and what is made of those that can be read.

use batchyard_core::definition::Effective;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::crd::convert::{self, Plan};
use crate::crd::ignored::{Kind, ignored_fields, unsupported_fields};
use crate::crd::rights::Asked;
use crate::crd::{
    BatchJobRecordSpec, BatchJobSpec, BatchJobStatus, ComputeEnvironmentSpec, ConsumableResourceSpec,
    JobDefinitionSpec, JobQueueSpec, NotificationRuleSpec, SchedulingPolicySpec,
};
use crate::k8s::build::logging::Logs;
use crate::k8s::build::{self, Attempt};
use crate::k8s::gpu;
use crate::k8s::pool::Pool;

const JOBS: [&str; 4] = [
    r#"{"jobName": "a", "jobQueue": "q", "jobDefinition": "d:3", "parameters": {"x": "y"}, "tags": {"team": "a"}, "propagateTags": true,
        "containerOverrides": {"command": ["a", "Ref::x"], "environment": [{"name": "A", "value": "1"}],
        "resourceRequirements": [{"type": "VCPU", "value": "0.5"}, {"type": "MEMORY", "value": "64"}]},
        "retryStrategy": {"attempts": 3, "evaluateOnExit": [{"onStatusReason": "Host EC2*", "action": "RETRY"}]},
        "timeout": {"attemptDurationSeconds": 60}, "dependsOn": [{"jobId": "a:1", "type": "N_TO_N"}, {"job": "b"}],
        "arrayProperties": {"size": 10}, "shareIdentifier": "s", "schedulingPriorityOverride": 7,
        "childActions": [{"indexes": "3,7-9", "action": "CANCEL", "reason": "r"}]}"#,
    r#"{"jobQueue": "q", "containerProperties": {"image": "a", "vcpus": 1, "memory": 64, "command": ["Ref::x"], "user": "1000:100",
        "environment": [{"name": "A", "value": "$(B)"}], "secrets": [{"name": "S", "valueFrom": "db:password"}],
        "volumes": [{"name": "Data", "host": {"sourcePath": "/data"}}, {"name": "e", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}],
        "mountPoints": [{"sourceVolume": "Data", "containerPath": "/in", "readOnly": true}, {"sourceVolume": "e", "containerPath": "/e"}],
        "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}], "linuxParameters": {"sharedMemorySize": 64,
        "tmpfs": [{"containerPath": "/t", "size": 8, "mountOptions": ["rw"]}], "devices": [{"hostPath": "/dev/fuse"}]},
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}}}, "parameters": {"x": "1"}}"#,
    r#"{"jobQueue": "q", "ecsProperties": {"taskProperties": [{"containers": [{"name": "app", "image": "a",
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        "dependsOn": [{"containerName": "b", "condition": "SUCCESS"}]}, {"name": "b", "image": "b", "essential": false,
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]}], "pidMode": "task"}]}}"#,
    r#"{"jobQueue": "q", "eksProperties": {"podProperties": {"containers": [{"name": "a", "image": "i", "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"cpu": "1", "memory": "64Mi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "0.5"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "securityContext": {"runAsUser": 1, "capabilities": {"add": ["NET_ADMIN"]}}}],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}], "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}},
        "session": {"port": 8443, "scheme": "https"}}"#,
];
const DEFINITIONS: [&str; 2] = [
    r#"{"jobDefinitionName": "randomEC", "type": "container", "parameters": {"command": "--shm-size=1g --network=host", "x": "y"},
        "containerProperties": {"image": "a", "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        "jobRoleArn": "arn:aws:iam::1:role/r", "linuxParameters": {"initProcessEnabled": true}, "privileged": true},
        "retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onExitCode": "1*", "action": "EXIT"}]}, "deregistered": [1, 2],
        "platformCapabilities": ["EC2"], "tags": {"a": "b"}, "schedulingPriority": 3}"#,
    r#"{"type": "multinode", "nodeProperties": {"numNodes": 3, "mainNode": 0, "nodeRangeProperties": [
        {"targetNodes": "0", "container": {"image": "a", "vcpus": 1, "memory": 64}},
        {"targetNodes": "1:", "container": {"image": "b", "vcpus": 1, "memory": 64, "instanceType": "m5.large"}}]}}"#,
];
const OTHERS: [(&str, &str); 6] = [
    (
        "ComputeEnvironment",
        r#"{"type": "MANAGED", "computeResources": {"type": "SPOT", "maxvCpus": 32, "instanceTypes": ["m5"], "tags": {"a": "b"}},
        "podDefaults": {"labels": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}, "podSecurity": "aws",
        "gpu": {"resourceName": "amd.com/gpu"}, "devices": {"/dev/fuse": "squat.ai/fuse"}, "vcpuRequestPercent": 50,
        "allowedNamespaces": [{"selector": {"matchLabels": {"a": "b"}}, "maxvCpus": 3}],
        "logging": {"allowedDrivers": ["awslogs"], "allowedLogGroups": ["/a/*"], "awslogs": {"region": "eu-west-1"}}}"#,
    ),
    (
        "JobQueue",
        r#"{"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}], "maxRunning": 4,
        "jobStateTimeLimitActions": [{"reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}]}"#,
    ),
    (
        "SchedulingPolicy",
        r#"{"fairsharePolicy": {"computeReservation": 5, "shareDecaySeconds": 60, "shareDistribution": [{"shareIdentifier": "a*", "weightFactor": 0.5}]}}"#,
    ),
    ("ConsumableResource", r#"{"totalQuantity": 5, "resourceType": "REPLENISHABLE"}"#),
    (
        "NotificationRule",
        r#"{"phases": ["FAILED"], "queues": ["q*"], "http": {"url": "https://example.org/", "headers": [{"name": "a", "value": "b"}]}}"#,
    ),
    (
        "BatchJobRecord",
        r#"{"job": "a", "jobUid": "u", "segment": 0, "ranges": [{"indexes": "3,7-9", "phase": "FAILED", "statusReason": "x"}], "children": [{"index": 1, "phase": "FAILED"}]}"#,
    ),
];

/// Reads an object as kubectl's users write it.
fn read<T: DeserializeOwned>(input: &[u8]) -> Option<(T, Value)> {
    let text = std::str::from_utf8(input).ok()?;
    // JSON is YAML, too; what each makes of it is looked at.
    let of_yaml: Option<T> = serde_saphyr::from_str(text).ok();
    drop(of_yaml);
    let value: Value = serde_json::from_str(text).ok()?;
    Some((serde_json::from_value(value.clone()).ok()?, value))
}

/// The pods of a plan.
fn pods(plan: &Plan, environment: &ComputeEnvironmentSpec) {
    let pool = Pool::of("pool", environment, &[]);
    for effective in plan.all_effective() {
        for refuses_root in [false, true] {
            let pod = build::pod(&attempt(plan, effective, environment, &pool, refuses_root));
            let name = pod.metadata.name.unwrap_or_default();
            assert!(!name.is_empty() && name.len() <= 63, "{name}");
            assert_eq!(pod.metadata.namespace.as_deref(), Some("team"));
            let spec = pod.spec.unwrap_or_default();
            assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        }
    }
}

fn attempt<'a>(
    plan: &'a Plan,
    effective: &'a Effective,
    environment: &'a ComputeEnvironmentSpec,
    pool: &'a Pool,
    refuses_root: bool,
) -> Attempt<'a> {
    Attempt {
        namespace: "team",
        job_name: "job",
        job_uid: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
        job_id: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
        child: None,
        node: None,
        queue_name: "q",
        queue: "q",
        share: None,
        tokens: &plan.tokens,
        definition: "d:1",
        number: 1,
        placement: 0,
        environment: "pool",
        environment_spec: environment,
        pool,
        service_account: None,
        effective,
        tags: plan.tags.as_ref(),
        session: plan.session.as_deref(),
        refuses_root,
        host_network: plan.host_network,
        grace_seconds: 30,
        fenced: false,
        log_tail: true,
        logs: Logs::Kept,
    }
}

fn job(input: &[u8]) -> bool {
    let Some((spec, value)) = read::<BatchJobSpec>(input) else { return false };
    ignored_fields(Kind::BatchJob, &value);
    unsupported_fields(Kind::BatchJob, &value);
    assert_eq!(convert::dependencies(&spec).len(), spec.depends_on.len());
    for definition in DEFINITIONS {
        let definition: JobDefinitionSpec = serde_json::from_str(definition).expect("an example");
        pods(&convert::plan(&spec, &definition), &ComputeEnvironmentSpec::default());
    }
    if let Some(definition) = convert::inline_definition(&spec) {
        Asked::by(&definition);
        pods(&convert::plan(&spec, &definition), &ComputeEnvironmentSpec::default());
    }
    true
}

fn definition(input: &[u8]) -> bool {
    let Some((spec, value)) = read::<JobDefinitionSpec>(input) else { return false };
    ignored_fields(Kind::JobDefinition, &value);
    unsupported_fields(Kind::JobDefinition, &value);
    Asked::by(&spec);
    convert::logging::look(&spec);
    for job in JOBS {
        let job: BatchJobSpec = serde_json::from_str(job).expect("an example");
        pods(&convert::plan(&job, &spec), &ComputeEnvironmentSpec::default());
    }
    true
}

fn environment(input: &[u8]) -> bool {
    let Some((spec, value)) = read::<ComputeEnvironmentSpec>(input) else { return false };
    ignored_fields(Kind::ComputeEnvironment, &value);
    build::pod_members(&spec);
    gpu::resource(&spec);
    spec.entry_for(&[("a".to_owned(), "b".to_owned())].into());
    for job in JOBS {
        let job: BatchJobSpec = serde_json::from_str(job).expect("an example");
        let definition = convert::inline_definition(&job).unwrap_or_default();
        pods(&convert::plan(&job, &definition), &spec);
    }
    true
}

fn plain<T: DeserializeOwned>(kind: Option<Kind>) -> impl Fn(&[u8]) -> bool {
    move |input| {
        let Some((_, value)) = read::<T>(input) else { return false };
        if let Some(kind) = kind {
            ignored_fields(kind, &value);
            unsupported_fields(kind, &value);
        }
        true
    }
}

/// The example of a kind, and others that are none of it.
fn example(kind: &str) -> [&'static str; 1] {
    [OTHERS.iter().find(|(of, _)| *of == kind).expect("an example").1]
}

#[test]
fn jobs() {
    super::run("jobs", &JOBS, job);
}

#[test]
fn definitions() {
    super::run("definitions", &DEFINITIONS, definition);
}

#[test]
fn environments() {
    super::run("environments", &example("ComputeEnvironment"), environment);
}

#[test]
fn other_kinds() {
    super::run("queues", &example("JobQueue"), plain::<JobQueueSpec>(Some(Kind::JobQueue)));
    let policies = plain::<SchedulingPolicySpec>(Some(Kind::SchedulingPolicy));
    super::run("policies", &example("SchedulingPolicy"), policies);
    let resources = plain::<ConsumableResourceSpec>(Some(Kind::ConsumableResource));
    super::run("resources", &example("ConsumableResource"), resources);
    let rules = plain::<NotificationRuleSpec>(Some(Kind::NotificationRule));
    super::run("rules", &example("NotificationRule"), rules);
    super::run("records", &example("BatchJobRecord"), plain::<BatchJobRecordSpec>(None));
    let status = r#"{"phase": "FAILED", "statusReason": "x", "attempts": [{"attempt": 1, "podName": "p", "podUid": "u",
        "statusReason": "s", "container": {"exitCode": 1}}], "conditions": []}"#;
    super::run("statuses", &[status], plain::<BatchJobStatus>(None));
}
