//! The JSON of the posts that the project began with, pasted below `spec:` as it stands.

use serde_json::{Value, json};

use super::verdict;
use crate::crd::ignored::{Kind, ignored_fields, unsupported_fields};
use crate::crd::{BatchJobSpec, ComputeEnvironmentSpec, JobDefinitionSpec, JobQueueSpec};

/// The spec is accepted, nothing is dropped, and Rust reads and writes it back as it was.
fn accepted<T: serde::de::DeserializeOwned + serde::Serialize>(kind: &'static str, spec: &Value) {
    assert_eq!(verdict(kind, None, spec), Vec::<String>::new(), "{spec}");
    let read: T = serde_json::from_value(spec.clone()).unwrap_or_else(|e| panic!("{spec}: {e}"));
    assert_eq!(serde_json::to_value(&read).expect("plain data"), *spec);
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

const COMPUTE_0: &str = r#"
{ "computeEnvironmentName": "compute-0", "type": "MANAGED", "state": "ENABLED", "computeResources": { "type": "SPOT",
  "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "minvCpus": 2, "maxvCpus": 32, "desiredvCpus": 4, "instanceTypes":
  [ "m5.xlarge","m5.2xlarge","m4.xlarge","m4.2xlarge","m5a.xlarge","m5a.2xlarge"], "subnets": ["subnet-0a1b2c"],
  "securityGroupIds": ["sg-0a1b2c"], "instanceRole": "arn:aws:iam::123456789012:instance-profile/ecsInstanceRole",
  "tags": {"Name": "aws-batch-instances"}, "ec2KeyPair": "batch-ssh-key", "bidPercentage": 0 },
  "serviceRole": "arn:aws:iam::123456789012:role/AWSBatchServiceRole" }"#;

const QUEUE_0: &str = r#"
{ "jobQueueName": "queue-0", "state": "ENABLED", "priority": 1,
  "computeEnvironmentOrder": [{ "order": 0, "computeEnvironment": "compute-0" }] }"#;

const SPOT: &str = r#"
{ "jobDefinitionName": "spot", "type": "container", "containerProperties": { "image": "alpine:latest", "vcpus": 2,
  "memory": 256, "command": ["sleep","600"], "readonlyRootFilesystem": false }, "retryStrategy": { "attempts": 5,
  "evaluateOnExit": [{ "onStatusReason" :"Host EC2*", "action": "RETRY" },{ "onReason" : "*", "action": "EXIT" }] } }"#;

const RANDOM_EC: &str = r#"
{ "jobDefinitionName": "randomEC", "type": "container", "containerProperties": { "image": "qnib/random-ec:2020-10-13.3",
  "vcpus": 2, "memory": 256, "readonlyRootFilesystem": false }, "retryStrategy": { "attempts": 10, "evaluateOnExit":
  [{ "onExitCode": "1", "action": "RETRY" },{ "onExitCode": "2", "action": "RETRY" },
   { "onExitCode": "3", "action": "EXIT" }] } }"#;

const NO_CONTAINER: &str = r#"
{ "jobDefinitionName": "noContainer", "type": "container", "containerProperties": { "image": "no-container-image",
  "vcpus": 2, "memory": 256, "readonlyRootFilesystem": false }, "retryStrategy": { "attempts": 10, "evaluateOnExit":
  [{ "onReason": "CannotPullContainerError:*", "action": "EXIT" }] } }"#;

const OD_CE: &str = r#"
{ "computeEnvironmentName": "od-ce", "type": "MANAGED", "state": "ENABLED", "computeResources": { "type": "EC2",
  "allocationStrategy": "BEST_FIT_PROGRESSIVE", "minvCpus": 1, "maxvCpus": 8, "desiredvCpus": 1, "instanceTypes":
  ["m5.xlarge"], "subnets": ["subnet-0a1b2c"], "securityGroupIds": ["sg-0a1b2c"], "instanceRole":
  "arn:aws:iam::123456789012:instance-profile/ecsInstanceRole", "tags": {"Name": "aws-batch-compute"},
  "bidPercentage": 0 }, "serviceRole": "arn:aws:iam::123456789012:role/AWSBatchServiceRole" }"#;

const ALPINE_ENV: &str = r#"
{ "jobDefinitionName": "alpine-env", "type": "container", "containerProperties": { "image": "alpine", "vcpus": 1,
  "memory": 128, "command": ["env"], "readonlyRootFilesystem": true, "logConfiguration": { "logDriver": "awslogs",
  "options": { "awslogs-region": "eu-west-1", "awslogs-group": "/aws/batch/custom/env-queue",
  "awslogs-create-group": "true"} } } }"#;

const ALPINE_SPLUNK: &str = r#"
{ "jobDefinitionName": "alpine-splunk", "type": "container", "containerProperties": { "image": "alpine", "vcpus": 1,
  "memory": 128, "command": ["env"], "readonlyRootFilesystem": false, "logConfiguration": { "logDriver": "splunk",
  "options": { "splunk-url": "https://splunk.example:8088", "splunk-token": "XXX-YYY-ZZZ" } } } }"#;

const DCV: &str = r#"
{ "jobDefinitionName": "DCV-GPU-JD", "type": "container", "parameters": { "command": "--network=host" },
  "timeout": { "attemptDurationSeconds": 3600 }, "containerProperties": {
  "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dcv", "vcpus": 8, "memory": 2048,
  "jobRoleArn": "arn:aws:iam::123456789012:role/dcv-ecs-batch-role", "privileged": true, "user": "root",
  "environment": [{ "name": "DISPLAY", "value": "0" }] } }"#;

const LOG_JOB: &str = r#"
{ "jobName": "test-2021-01-01_10-00-00", "jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/jq",
  "jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-definition/alpine-env:1" }"#;

#[test]
fn each_document_is_accepted_as_it_stands() {
    for environment in [COMPUTE_0, OD_CE] {
        accepted::<ComputeEnvironmentSpec>("ComputeEnvironment", &parsed(environment));
    }
    accepted::<JobQueueSpec>("JobQueue", &parsed(QUEUE_0));
    for definition in [SPOT, RANDOM_EC, NO_CONTAINER, ALPINE_ENV, ALPINE_SPLUNK, DCV] {
        accepted::<JobDefinitionSpec>("JobDefinition", &parsed(definition));
    }
    accepted::<BatchJobSpec>("BatchJob", &parsed(LOG_JOB));
}

#[test]
fn the_post_about_sessions_scales_its_environment_down_to_nothing() {
    let mut old = parsed(COMPUTE_0);
    old["computeResources"]["minvCpus"] = json!(8);
    old["computeResources"]["desiredvCpus"] = json!(8);
    let mut new = old.clone();
    new["computeResources"]["minvCpus"] = json!(0);
    new["computeResources"]["desiredvCpus"] = json!(0);
    assert_eq!(verdict("ComputeEnvironment", Some(&old), &new), Vec::<String>::new());
}

#[test]
fn what_the_posts_say_in_vain_is_listed() {
    let ignored = |kind, text| ignored_fields(kind, &parsed(text));
    assert_eq!(
        ignored(Kind::ComputeEnvironment, COMPUTE_0),
        [
            "computeResources.allocationStrategy",
            "computeResources.desiredvCpus",
            "computeResources.ec2KeyPair",
            "computeResources.instanceRole",
            "computeResources.minvCpus",
            "computeResources.securityGroupIds",
            "computeResources.subnets",
            "computeResources.tags",
            "serviceRole",
        ]
    );
    assert_eq!(ignored(Kind::JobQueue, QUEUE_0), Vec::<String>::new());
    for definition in [SPOT, RANDOM_EC, NO_CONTAINER, ALPINE_ENV] {
        assert_eq!(ignored(Kind::JobDefinition, definition), Vec::<String>::new());
    }
    assert_eq!(ignored(Kind::JobDefinition, DCV), Vec::<String>::new());
    assert_eq!(ignored(Kind::BatchJob, LOG_JOB), Vec::<String>::new());
    assert_eq!(unsupported_fields(Kind::JobDefinition, &parsed(DCV)), Vec::<String>::new());
}

/// The files of examples/sessions say what the post does: everything of it, and what they add is named here.
#[test]
fn the_example_of_sessions_is_the_post() {
    let example = |file: &str| {
        let path = format!("{}/examples/sessions/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut object: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (name, aws) = (object["metadata"]["name"].clone(), aws_name(&object["spec"]));
        assert_eq!(name, batchyard_core::name::slug(&aws), "{file} is found by its AWS name");
        object["spec"].take()
    };
    let without = |mut spec: Value, members: &[&str]| {
        for member in members {
            let (parent, name) = member.rsplit_once('/').unwrap_or(("", member));
            let parent = spec.pointer_mut(parent).and_then(Value::as_object_mut);
            assert!(parent.expect("an object").remove(name).is_some(), "{member} is not there");
        }
        spec
    };
    let post = |text: &str| parsed(text);
    let environment = example("compute-environment");
    accepted::<ComputeEnvironmentSpec>("ComputeEnvironment", &environment);
    let sizes =
        ["/computeResources/minvCpus", "/computeResources/desiredvCpus", "/computeResources/instanceTypes"];
    let rest = ["/computeResources/instanceRole"];
    let ours = [&sizes[..], &rest, &["/provisioner", "/serviceRole"]].concat();
    let theirs = post(include_str!("../../../tests/api/posts/dcv-gpu-ce.json"));
    assert_eq!(without(environment, &ours), without(theirs, &[&sizes[..], &rest].concat()));
    let queue = example("job-queue");
    accepted::<JobQueueSpec>("JobQueue", &queue);
    assert_eq!(queue, post(include_str!("../../../tests/api/posts/dcv-gpu-queue.json")));
    let definition = example("job-definition");
    accepted::<JobDefinitionSpec>("JobDefinition", &definition);
    let image = "/containerProperties/image";
    let theirs = without(post(include_str!("../../../tests/api/posts/dcv-gpu-jd.json")), &[image]);
    assert_eq!(without(definition, &[image, "/containerProperties/secrets", "/session"]), theirs);
    accepted::<BatchJobSpec>("BatchJob", &example("job"));
}

fn aws_name(spec: &Value) -> String {
    let members = ["computeEnvironmentName", "jobQueueName", "jobDefinitionName", "jobName"];
    let name = members.iter().find_map(|member| spec.get(*member)?.as_str());
    name.expect("each has a name").to_owned()
}

/// The files of examples/logging say what the post does; what is ours besides stands in documents of its own.
#[test]
fn the_example_of_logging_is_the_post() {
    let documents = |file: &str| -> Vec<Value> {
        let path = format!("{}/examples/logging/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let parse = |text: &str| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        text.split("\n---\n").map(parse).collect()
    };
    for (file, at, theirs) in [
        ("compute-environment", 0, include_str!("../../../tests/api/posts/od-ce.json")),
        ("job-queue", 0, include_str!("../../../tests/api/posts/jq.json")),
        ("job-definitions", 0, include_str!("../../../tests/api/posts/alpine-env.json")),
        ("job-definitions", 1, include_str!("../../../tests/api/posts/alpine-splunk.json")),
    ] {
        let object = &documents(file)[at];
        assert_eq!(object["spec"], parsed(theirs), "{file}");
        assert_eq!(object["metadata"]["name"], aws_name(&object["spec"]).as_str());
    }
    let all = ["compute-environment", "job-queue", "job-definitions", "jobs", "policy"];
    for object in all.into_iter().flat_map(documents) {
        let spec = &object["spec"];
        match object["kind"].as_str().expect("a kind") {
            "ComputeEnvironment" => accepted::<ComputeEnvironmentSpec>("ComputeEnvironment", spec),
            "JobQueue" => accepted::<JobQueueSpec>("JobQueue", spec),
            "JobDefinition" => accepted::<JobDefinitionSpec>("JobDefinition", spec),
            "BatchJob" => accepted::<BatchJobSpec>("BatchJob", spec),
            other => assert_eq!(other, "Secret"),
        }
    }
}
