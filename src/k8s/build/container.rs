//! The job's container.

use std::collections::BTreeMap;

use batchyard_core::definition::Properties;
use batchyard_core::definition::container::SecretVariable;
use batchyard_core::definition::requirements::Amounts;
use batchyard_core::definition::roles::ALONE;
use batchyard_core::name;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ResourceRequirements, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Attempt, cpu_request_milli, devices, security, some, volumes};
use crate::crd::compute_environment::{ImagePullPolicy, PodDefaults};
use crate::k8s::{gangs, gpu};

/// The name of the job's container.
pub(super) const CONTAINER: &str = ALONE;

/// The container of an attempt that has one.
pub(super) fn only(attempt: &Attempt<'_>, properties: &Properties, defaults: &PodDefaults) -> Container {
    container(attempt, CONTAINER, (properties, &attempt.effective.amounts), defaults)
}

/// A container of an attempt, with what it takes.
pub(super) fn container(
    attempt: &Attempt<'_>,
    name: &str,
    (properties, amounts): (&Properties, &Amounts),
    defaults: &PodDefaults,
) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(properties.image.clone()),
        image_pull_policy: pull_policy(defaults),
        // AWS's command is Docker's CMD; the image's ENTRYPOINT stays.
        args: some(properties.command.iter().map(|part| literal(part)).collect()),
        env: Some(environment(attempt, properties)),
        resources: Some(resources(attempt, (properties, amounts))),
        volume_mounts: some(volumes::mounts(properties, attempt.environment_spec)),
        security_context: Some(security::of(attempt, properties)),
        termination_message_policy: attempt.log_tail.then(|| "FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// When the environment wants images to be pulled.
pub(super) fn pull_policy(defaults: &PodDefaults) -> Option<String> {
    let policy = match defaults.image_pull_policy? {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    };
    Some(policy.to_owned())
}

/// The job's variables, and AWS's, which win.
fn environment(attempt: &Attempt<'_>, properties: &Properties) -> Vec<EnvVar> {
    let theirs = properties.environment.iter().map(|(name, value)| var(name, value));
    theirs.chain(properties.secrets.iter().map(secret)).chain(aws_variables(attempt)).collect()
}

pub(super) fn var(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(literal(value)), ..EnvVar::default() }
}

/// The job's id, of a child or a node its own.
pub(super) fn job_id(attempt: &Attempt<'_>) -> String {
    match attempt.node {
        Some(node) => format!("{}#{}", attempt.job_id, node.index),
        None => name::part(attempt.job_id, attempt.child.map(|child| child.index)),
    }
}

/// What every container of a job is told
/// (<https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html>).
pub(super) fn aws_variables(attempt: &Attempt<'_>) -> Vec<EnvVar> {
    let mut ours = vec![
        ("AWS_BATCH_JOB_ID", job_id(attempt)),
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
    let address = attempt.node.filter(|node| node.index != node.main).map(|_| {
        let Attempt { job_name, job_uid, number, placement, .. } = attempt;
        gangs::main_address(job_name, job_uid, (*number, *placement))
    });
    ours.iter().map(|(name, value)| var(name, value)).chain(address).collect()
}

/// A variable whose value the kubelet reads: a job cannot change it, since of two variables with one name the later
/// counts.
fn secret(variable: &SecretVariable) -> EnvVar {
    let selector = SecretKeySelector {
        name: variable.from.secret.clone(),
        key: variable.from.key.clone(),
        optional: None,
    };
    let value_from = Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() });
    EnvVar { name: variable.name.clone(), value_from, ..EnvVar::default() }
}

/// Kubernetes would expand `$(NAME)` and read `$$` as `$`; AWS does neither.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn environment_name(attempt: &Attempt<'_>) -> String {
    let name = attempt.environment_spec.compute_environment_name.clone();
    name.unwrap_or_else(|| attempt.environment.to_owned())
}

fn resources(attempt: &Attempt<'_>, (properties, amounts): (&Properties, &Amounts)) -> ResourceRequirements {
    let milli = |n: i64| Quantity(format!("{n}m"));
    let memory = Quantity(format!("{}Mi", amounts.memory_mib));
    let request = cpu_request_milli(amounts.vcpus_milli, attempt.environment_spec);
    let mut requests =
        BTreeMap::from([("cpu".to_owned(), milli(request)), ("memory".to_owned(), memory.clone())]);
    let mut limits = BTreeMap::from([("memory".to_owned(), memory)]);
    if attempt.environment_spec.cpu_limit == Some(true) {
        limits.insert("cpu".to_owned(), milli(amounts.vcpus_milli));
    }
    let mut both = devices::resources(properties, attempt.environment_spec);
    if amounts.gpus > 0 {
        both.push((gpu::resource(attempt.environment_spec), Quantity(amounts.gpus.to_string())));
    }
    let storage = properties.ephemeral_storage_gib.map(|gib| Quantity(format!("{gib}Gi")));
    both.extend(storage.map(|storage| ("ephemeral-storage", storage)));
    for (name, amount) in both {
        requests.insert(name.to_owned(), amount.clone());
        limits.insert(name.to_owned(), amount);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}
