//! What AWS's DescribeJobs shows of a job is in the BatchJob, or follows from what is there: docs/status.md says where each
//! member stands, and this page holds it against AWS's model and against our schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::schema;

/// The members of JobDetail in the AWS Batch API model, and of the shapes in it that are about what happened.
const JOB_DETAIL: &str = "jobArn jobName jobId jobQueue status statusReason jobDefinition createdAt startedAt stoppedAt \
    attempts retryStrategy timeout dependsOn parameters container nodeDetails nodeProperties arrayProperties \
    ecsProperties eksProperties eksAttempts tags propagateTags platformCapabilities shareIdentifier schedulingPriority \
    consumableResourceProperties isCancelled isTerminated";
const CONTAINER: &str = "image vcpus memory command jobRoleArn executionRoleArn volumes environment mountPoints \
    readonlyRootFilesystem ulimits privileged user exitCode reason containerInstanceArn taskArn logStreamName instanceType \
    networkInterfaces resourceRequirements linuxParameters logConfiguration secrets networkConfiguration \
    fargatePlatformConfiguration ephemeralStorage runtimePlatform repositoryCredentials enableExecuteCommand";
const ATTEMPT: &str = "startedAt stoppedAt statusReason container.exitCode container.reason \
    container.containerInstanceArn container.taskArn container.logStreamName container.networkInterfaces taskProperties";
const EKS_ATTEMPT: &str = "containers initContainers eksClusterArn podName podNamespace nodeName startedAt stoppedAt \
    statusReason";
const ARRAY: &str = "size statusSummary statusSummaryLastUpdatedAt";

const DOC: &str = include_str!("../../../docs/status.md");

/// AWS's members, by their paths in a JobDetail.
fn members() -> BTreeSet<String> {
    let shapes = [
        ("", JOB_DETAIL),
        ("container.", CONTAINER),
        ("attempts[].", ATTEMPT),
        ("eksAttempts[].", EKS_ATTEMPT),
        ("arrayProperties.", ARRAY),
    ];
    let of = |(prefix, names): (&str, &'static str)| {
        let prefix = prefix.to_owned();
        names.split_whitespace().map(move |name| format!("{prefix}{name}"))
    };
    shapes.into_iter().flat_map(of).collect()
}

/// What the page says, by member.
fn told() -> BTreeMap<String, &'static str> {
    let section = DOC.split("\n## ").find(|section| section.starts_with("What DescribeJobs shows"));
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches('|').split_once(" | ").expect("two cells"));
    cells.flat_map(|(names, place)| code(names).map(move |name| (name.to_owned(), place))).collect()
}

/// What stands between backquotes.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_member_of_a_job_detail_has_its_place() {
    let told = told();
    let names: BTreeSet<String> = told.keys().cloned().collect();
    assert_eq!(names, members());
    for (member, place) in &told {
        let words = place.trim();
        let known =
            ["`spec.", "`status.", "derived: ", "not applicable: ", "the definition's", "the same members"];
        assert!(known.iter().any(|known| words.starts_with(known)), "{member}: {words}");
    }
}

#[test]
fn every_place_that_is_named_exists() {
    let job = schema("BatchJob");
    for (member, place) in told() {
        // A pod's address is no part of the job.
        for path in code(place).filter(|path| path.starts_with("spec.") || path.starts_with("status.")) {
            assert!(path == "status.podIP" || exists(&job, path), "{member}: {path}");
        }
    }
    assert!(!exists(&job, "status.nonsense") && !exists(&job, "status.attempts[].nonsense"));
}

fn exists(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    for name in path.split('.') {
        let plain = name.trim_end_matches("[]");
        at = match at.get("properties").and_then(|members| members.get(plain)) {
            Some(member) => member.get("items").unwrap_or(member),
            None => return false,
        };
    }
    true
}
