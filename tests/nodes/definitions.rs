//! What definitions say of a container, and what jobs change of it, as the program in the container finds it.

use anyhow::{Result, ensure};
use batchyard::crd::JobDefinition;
use batchyard_core::name::slug;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::Case;
use crate::ends::{exit, failed, succeeded};
use crate::scenario::Scenario;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("parameters-and-overrides-reach-the-program", |scenario| Box::pin(parameters(scenario))),
        Case::story("secrets-are-variables", |scenario| Box::pin(secrets(scenario))),
        Case::story("a-platform-that-no-node-has", |scenario| Box::pin(platform(scenario))),
        Case::story("tags-and-limits-stand-on-the-pod", |scenario| Box::pin(tags_and_limits(scenario))),
        Case::job(
            "shared-memory-and-tmpfs-have-their-sizes",
            container(
                "[ $(df -m /dev/shm | awk 'NR==2 {print $2}') = 32 ] || exit 1\n\
                 grep -q ' /scratch tmpfs ' /proc/mounts || exit 2\n\
                 dd if=/dev/zero of=/scratch/fits bs=1M count=8 2>/dev/null || exit 3\n\
                 dd if=/dev/zero of=/scratch/too-much bs=1M count=16 2>/dev/null && exit 4\n\
                 touch /fixed/x 2>/dev/null && exit 5\n\
                 exit 0",
                json!({"memory": 128, "linuxParameters": {"sharedMemorySize": 32, "tmpfs": [
                    {"containerPath": "/scratch", "size": 16},
                    {"containerPath": "/fixed", "size": 1, "mountOptions": ["ro"]},
                ]}}),
            ),
            succeeded([exit(0)]),
        ),
        Case::job(
            "an-init-process-stands-before-the-program",
            container("[ $$ != 1 ]", json!({"linuxParameters": {"initProcessEnabled": true}})),
            succeeded([exit(0)]),
        ),
        Case::job(
            "nobody-is-a-user-without-rights",
            container("[ $(id -u):$(id -g) = 65534:65534 ]", json!({"user": "nobody:nogroup"})),
            succeeded([exit(0)]),
        ),
        Case::job(
            "a-read-only-root-and-an-empty-volume",
            container(
                "touch /x 2>/dev/null && exit 1; touch /scratch/x",
                json!({"readonlyRootFilesystem": true, "volumes": [{"name": "scratch"}],
                    "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/scratch"}]}),
            ),
            succeeded([exit(0)]),
        ),
    ]
}

/// A job that brings its definition along: a shell program in a container with more members.
fn container(program: &str, more: Value) -> Value {
    let mut container =
        json!({"image": "alpine:latest", "vcpus": 1, "memory": 64, "command": ["sh", "-c", program]});
    more.as_object().into_iter().flatten().for_each(|(name, value)| container[name] = value.clone());
    json!({ "containerProperties": container })
}

async fn define(scenario: &Scenario<'_>, name: &str, container: Value, more: Value) {
    let mut spec = json!({"type": "container", "containerProperties": container});
    more.as_object().into_iter().flatten().for_each(|(name, value)| spec[name] = value.clone());
    let manifest = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobDefinition",
        "metadata": {"name": name}, "spec": spec});
    scenario.apply::<JobDefinition>(&manifest).await;
}

async fn parameters(scenario: &Scenario<'_>) -> Result<()> {
    let program = "[ \"$1|$2|$EXTRA\" = 'hello|two words|$HOME' ]";
    let command = json!(["sh", "-c", program, "sh", "Ref::first", "Ref::second"]);
    let container = json!({"image": "alpine:latest", "vcpus": 1, "memory": 64, "command": command,
        "environment": [{"name": "EXTRA", "value": "of the definition"}]});
    define(scenario, "greets", container, json!({"parameters": {"first": "hello", "unused": "x"}})).await;
    // Nothing expands a variable.
    let overrides = json!({"environment": [{"name": "EXTRA", "value": "$HOME"}]});
    let parameters = json!({"second": "two words"});
    let job = json!({"jobDefinition": "greets", "parameters": parameters, "containerOverrides": overrides});
    scenario.submit("job", job).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    let command = json!(["sh", "-c", "[ $0 = in:hello.txt ]", "in:Ref::first.txt"]);
    let job = json!({"jobDefinition": "greets", "containerOverrides": {"command": command}});
    scenario.submit("embedded", job).await;
    scenario.ends("embedded", &succeeded([exit(0)])).await?;
    scenario.submit("without", json!({"jobDefinition": "greets"})).await;
    let missing = "Unable to substitute value. No parameter found for reference second";
    scenario.ends("without", &failed([]).because(missing)).await?;
    Ok(())
}

async fn secrets(scenario: &Scenario<'_>) -> Result<()> {
    let name = slug("Run_DCV_in_Batch");
    let secret = json!({"metadata": {"name": name}, "stringData": {"user001": "open", "value": "whole"}});
    scenario.apply::<Secret>(&secret).await;
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:Run_DCV_in_Batch-AbCdEf";
    let secrets = json!([
        {"name": "PASSWORD", "valueFrom": format!("{arn}:user001::")},
        {"name": "ALL", "valueFrom": arn},
    ]);
    scenario.submit("job", container("[ $PASSWORD-$ALL = open-whole ]", json!({ "secrets": secrets }))).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}

/// It waits, and says so; nothing runs where it should not.
async fn platform(scenario: &Scenario<'_>) -> Result<()> {
    let (here, elsewhere) = match std::env::consts::ARCH {
        "aarch64" => ("ARM64", "X86_64"),
        _ => ("X86_64", "ARM64"),
    };
    let of = |architecture: &str| {
        container("exit 0", json!({"runtimePlatform": {"cpuArchitecture": architecture}}))
    };
    scenario.submit("job", of(here)).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    scenario.submit("other", of(elsewhere)).await;
    scenario.waits("other", "RUNNABLE", "node affinity/selector").await?;
    scenario.change("other", json!({"cancel": "no such node"})).await?;
    scenario.ends("other", &failed([]).cancelled("no such node")).await?;
    Ok(())
}

async fn tags_and_limits(scenario: &Scenario<'_>) -> Result<()> {
    let limits = json!([{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}]);
    let container =
        json!({"image": "alpine:latest", "vcpus": 1, "memory": 64, "command": ["true"], "ulimits": limits});
    define(scenario, "tagged", container, json!({"propagateTags": true, "tags": {"team": "render"}})).await;
    scenario.submit("job", json!({"jobDefinition": "tagged", "tags": {"owner": "me@example.org"}})).await;
    let pod = scenario.pod_of("job", 0).await?;
    let (labels, annotations) = (pod.labels(), pod.annotations());
    ensure!(labels.get("tags.batchyard.io/team").is_some_and(|team| team == "render"), "{labels:?}");
    ensure!(
        annotations.get("tags.batchyard.io/owner").is_some_and(|owner| owner == "me@example.org"),
        "{annotations:?}"
    );
    let limits = annotations.get("ulimits.nri.containerd.io/container.default");
    ensure!(limits.is_some_and(|limits| limits.contains("RLIMIT_NOFILE")), "{annotations:?}");
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}
