//! From the wire to the core: the members that decisions are made from, as plain data.

use batchyard_core::definition::requirements::Stated;
use batchyard_core::definition::{self, Effective, Mount, Overrides, Properties, User};
use batchyard_core::dependency::{Dependency, How, Reference};
use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{self, RetryStrategy};
use jiff::SignedDuration;

use super::batch_job::{ArrayJobDependency, JobDependency};
use super::container::{ContainerProperties, KeyValuePair, ResourceRequirement, ResourceType};
use super::overrides::ContainerOverrides;
use super::shared;
use super::{BatchJobSpec, JobDefinitionSpec};
use crate::crd::job_definition::JobDefinitionType;

/// What a job runs and how it is retried: its definition with its overrides applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The container; a sentence that names the member if it can never run.
    pub effective: Result<Effective, String>,
    /// The job's retry strategy, else the definition's, else one attempt.
    pub strategy: RetryStrategy,
    /// The job's timeout, else the definition's.
    pub timeout: Option<SignedDuration>,
    /// The definition's `schedulingPriority`; a job's own may change while it waits and is not in here.
    pub scheduling_priority: i64,
    /// The tokens that it takes, by reference to their ConsumableResource: the job's, else the definition's.
    pub tokens: Vec<(String, i64)>,
}

/// Applies a job to its definition.
pub fn plan(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> Plan {
    let overrides = job.container_overrides.as_ref().map(overrides).unwrap_or_default();
    let effective = match &definition.container_properties {
        Some(container) => definition::effective(&properties(container), &overrides),
        None => Err("containerProperties is missing".to_owned()),
    };
    let timeout = job.timeout.as_ref().or(definition.timeout.as_ref());
    Plan {
        effective,
        strategy: strategy(job.retry_strategy.as_ref().or(definition.retry_strategy.as_ref())),
        timeout: timeout
            .and_then(|t| t.attempt_duration_seconds)
            .map(|s| SignedDuration::from_secs(i64::from(s))),
        scheduling_priority: definition.scheduling_priority.map_or(0, i64::from),
        tokens: tokens(
            job.consumable_resource_properties_override
                .as_ref()
                .or(definition.consumable_resource_properties.as_ref()),
        ),
    }
}

/// The jobs that a job depends on.
pub fn dependencies(job: &BatchJobSpec) -> Vec<Dependency> {
    let reference = |wire: &JobDependency| {
        let name = wire.job.clone().map(Reference::Name);
        name.or_else(|| wire.job_id.as_deref().map(Reference::of_id))
    };
    let how = |wire: &JobDependency| match wire.type_ {
        None => How::Plain,
        Some(ArrayJobDependency::Sequential) => How::Sequential,
        Some(ArrayJobDependency::NToN) => How::NToN,
    };
    job.depends_on.iter().map(|wire| Dependency { on: reference(wire), how: how(wire) }).collect()
}

fn tokens(wire: Option<&shared::ConsumableResourceProperties>) -> Vec<(String, i64)> {
    let list = wire.map(|wire| wire.consumable_resource_list.as_slice()).unwrap_or_default();
    list.iter()
        .filter_map(|entry| Some((entry.consumable_resource.clone()?, entry.quantity.unwrap_or(1))))
        .collect()
}

/// The definition that a job brings along instead of naming one.
pub fn inline_definition(job: &BatchJobSpec) -> Option<JobDefinitionSpec> {
    if job.job_definition.is_some() {
        return None;
    }
    Some(JobDefinitionSpec {
        type_: match job.node_properties {
            Some(_) => JobDefinitionType::Multinode,
            None => JobDefinitionType::Container,
        },
        container_properties: job.container_properties.clone(),
        ecs_properties: job.ecs_properties.clone(),
        eks_properties: job.eks_properties.clone(),
        node_properties: job.node_properties.clone(),
        ..JobDefinitionSpec::default()
    })
}

/// A retry strategy as it is carried out; without one a job has one attempt.
pub fn strategy(wire: Option<&shared::RetryStrategy>) -> RetryStrategy {
    let Some(wire) = wire else { return RetryStrategy::default() };
    let entry = |entry: &shared::EvaluateOnExit| retry::EvaluateOnExit {
        on_status_reason: entry.on_status_reason.clone(),
        on_reason: entry.on_reason.clone(),
        on_exit_code: entry.on_exit_code.clone(),
        // The schema admits nothing but these two, in any case.
        action: match entry.action.eq_ignore_ascii_case("RETRY") {
            true => RetryAction::Retry,
            false => RetryAction::Exit,
        },
    };
    RetryStrategy {
        attempts: wire.attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).clamp(1, 10),
        evaluate_on_exit: wire.evaluate_on_exit.iter().map(entry).collect(),
    }
}

fn overrides(wire: &ContainerOverrides) -> Overrides {
    Overrides {
        command: Some(wire.command.clone()).filter(|command| !command.is_empty()),
        environment: environment(&wire.environment),
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
    }
}

fn properties(wire: &ContainerProperties) -> Properties {
    let linux = wire.linux_parameters.clone().unwrap_or_default();
    Properties {
        image: wire.image.clone(),
        command: wire.command.clone(),
        environment: environment(&wire.environment),
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
        job_role: wire.job_role_arn.clone().filter(|arn| !arn.is_empty()),
        user: wire.user.as_deref().and_then(User::parse),
        readonly_root: wire.readonly_root_filesystem.unwrap_or(false),
        privileged: wire.privileged.unwrap_or(false),
        volumes: wire.volumes.iter().filter_map(volume).collect(),
        mounts: wire.mount_points.iter().filter_map(mount).collect(),
        shared_memory_mib: linux.shared_memory_size.filter(|size| *size > 0).map(i64::from),
        tmpfs: linux.tmpfs.iter().map(tmpfs).collect(),
    }
}

fn environment(wire: &[KeyValuePair]) -> Vec<(String, String)> {
    let pair = |pair: &KeyValuePair| Some((pair.name.clone()?, pair.value.clone().unwrap_or_default()));
    wire.iter().filter_map(pair).collect()
}

/// AWS echoes 0 where a definition states its amounts the newer way.
fn stated(vcpus: Option<i32>, memory: Option<i32>, requirements: &[ResourceRequirement]) -> Stated {
    let kind = |kind: ResourceType| match kind {
        ResourceType::Vcpu => "VCPU",
        ResourceType::Memory => "MEMORY",
        ResourceType::Gpu => "GPU",
    };
    Stated {
        vcpus: vcpus.filter(|n| *n != 0).map(i64::from),
        memory: memory.filter(|n| *n != 0).map(i64::from),
        requirements: requirements.iter().map(|r| (kind(r.type_).to_owned(), r.value.clone())).collect(),
    }
}

fn volume(wire: &super::container::Volume) -> Option<definition::Volume> {
    let host_path =
        wire.host.as_ref().and_then(|host| host.source_path.clone()).filter(|path| !path.is_empty());
    Some(definition::Volume { name: wire.name.clone()?, host_path })
}

fn mount(wire: &super::container::MountPoint) -> Option<Mount> {
    Some(Mount {
        volume: wire.source_volume.clone()?,
        path: wire.container_path.clone()?,
        read_only: wire.read_only.unwrap_or(false),
    })
}

fn tmpfs(wire: &super::container::Tmpfs) -> definition::Tmpfs {
    definition::Tmpfs { path: wire.container_path.clone(), size_mib: i64::from(wire.size) }
}
