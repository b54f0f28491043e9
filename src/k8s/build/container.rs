//! The job's container.

use std::collections::BTreeMap;

use batchyard_core::definition::Properties;
use batchyard_core::name;
use k8s_openapi::api::core::v1::{Container, EnvVar, ResourceRequirements, SecurityContext};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Attempt, cpu_request_milli, some, volumes};
use crate::crd::compute_environment::{ImagePullPolicy, PodDefaults};
use crate::k8s::gangs;
use crate::k8s::observe::GPU;

/// The name of the job's container, as ECS and EKS have it.
const CONTAINER: &str = "default";

/// The container of an attempt.
pub(super) fn container(attempt: &Attempt<'_>, defaults: &PodDefaults) -> Container {
    let properties = &attempt.effective.properties;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(properties.image.clone()),
        image_pull_policy: defaults.image_pull_policy.map(|policy| match policy {
            ImagePullPolicy::Always => "Always".to_owned(),
            ImagePullPolicy::IfNotPresent => "IfNotPresent".to_owned(),
            ImagePullPolicy::Never => "Never".to_owned(),
        }),
        // AWS's command is Docker's CMD; the image's ENTRYPOINT stays.
        args: some(properties.command.iter().map(|part| literal(part)).collect()),
        env: Some(environment(attempt)),
        resources: Some(resources(attempt)),
        volume_mounts: some(volumes::mounts(properties)),
        security_context: Some(security(properties)),
        termination_message_policy: attempt.log_tail.then(|| "FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The job's variables and AWS's
/// (<https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html>).
fn environment(attempt: &Attempt<'_>) -> Vec<EnvVar> {
    let var = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(literal(value)),
        ..EnvVar::default()
    };
    let id = match attempt.node {
        Some(node) => format!("{}#{}", attempt.job_id, node.index),
        None => name::part(attempt.job_id, attempt.child.map(|child| child.index)),
    };
    let mut ours = vec![
        ("AWS_BATCH_JOB_ID", id),
        ("AWS_BATCH_JOB_ATTEMPT", attempt.number.to_string()),
        ("AWS_BATCH_JQ_NAME", attempt.queue_name.to_owned()),
        ("AWS_BATCH_CE_NAME", environment_name(attempt)),
    ];
    if let Some(child) = attempt.child {
        ours.push(("AWS_BATCH_JOB_ARRAY_INDEX", child.index.to_string()));
        ours.push(("AWS_BATCH_JOB_ARRAY_SIZE", child.size.to_string()));
    }
    if let Some(node) = attempt.node {
        ours.push(("AWS_BATCH_JOB_NODE_INDEX", node.index.to_string()));
        ours.push(("AWS_BATCH_JOB_MAIN_NODE_INDEX", node.main.to_string()));
        ours.push(("AWS_BATCH_JOB_NUM_NODES", node.count.to_string()));
    }
    let theirs = attempt.effective.properties.environment.iter().map(|(name, value)| var(name, value));
    let address = attempt.node.filter(|node| node.index != node.main).map(|_| {
        let Attempt { job_name, job_uid, number, placement, .. } = attempt;
        gangs::main_address(job_name, job_uid, (*number, *placement))
    });
    theirs.chain(ours.iter().map(|(name, value)| var(name, value))).chain(address).collect()
}

/// Kubernetes would expand `$(NAME)` and read `$$` as `$`; AWS does neither.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn environment_name(attempt: &Attempt<'_>) -> String {
    let name = attempt.environment_spec.compute_environment_name.clone();
    name.unwrap_or_else(|| attempt.environment.to_owned())
}

fn resources(attempt: &Attempt<'_>) -> ResourceRequirements {
    let amounts = &attempt.effective.amounts;
    let milli = |n: i64| Quantity(format!("{n}m"));
    let memory = Quantity(format!("{}Mi", amounts.memory_mib));
    let request = cpu_request_milli(amounts.vcpus_milli, attempt.environment_spec);
    let mut requests =
        BTreeMap::from([("cpu".to_owned(), milli(request)), ("memory".to_owned(), memory.clone())]);
    let mut limits = BTreeMap::from([("memory".to_owned(), memory)]);
    if attempt.environment_spec.cpu_limit == Some(true) {
        limits.insert("cpu".to_owned(), milli(amounts.vcpus_milli));
    }
    if amounts.gpus > 0 {
        let count = Quantity(amounts.gpus.to_string());
        requests.insert(GPU.to_owned(), count.clone());
        limits.insert(GPU.to_owned(), count);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn security(properties: &Properties) -> SecurityContext {
    SecurityContext {
        privileged: properties.privileged.then_some(true),
        read_only_root_filesystem: Some(properties.readonly_root),
        run_as_user: properties.user.map(|user| user.uid),
        run_as_group: properties.user.and_then(|user| user.gid),
        ..SecurityContext::default()
    }
}
