//! `ecsProperties`: each container of a task is one of `containerProperties`, with what the task says for all.

use batchyard_core::definition::ecs::{Change, Container, Task};
use batchyard_core::order::Until;

use super::container::{member, overrides, properties, volumes};
use crate::crd::container::{ContainerProperties, FargatePlatformConfiguration};
use crate::crd::ecs::{EcsProperties, EcsTaskProperties, TaskContainerDependency, TaskContainerProperties};
use crate::crd::overrides::{ContainerOverrides, EcsPropertiesOverride, TaskContainerOverrides};

/// The task; `taskProperties` has exactly one element.
pub(super) fn task(wire: &EcsProperties) -> Result<Task, String> {
    let [task] = wire.task_properties.as_slice() else {
        return Err("ecsProperties.taskProperties must have exactly 1 element".to_owned());
    };
    let is = |mode: &Option<String>, wanted: &str| mode.as_deref() == Some(wanted);
    let mut containers: Vec<Container> =
        task.containers.iter().map(|wire| container(wire, task)).collect::<Result<_, _>>()?;
    // It is stated for the task as a whole.
    containers.iter_mut().skip(1).for_each(|one| one.properties.ephemeral_storage_gib = None);
    Ok(Task {
        containers,
        volumes: volumes(&task.volumes)?,
        host_ipc: is(&task.ipc_mode, "host"),
        host_pid: is(&task.pid_mode, "host"),
        shared_pids: is(&task.pid_mode, "task"),
        host_network: is(&task.network_mode, "host"),
    })
}

fn container(wire: &TaskContainerProperties, task: &EcsTaskProperties) -> Result<Container, String> {
    let seconds = |stated: Option<i32>| stated.and_then(|seconds| u32::try_from(seconds).ok());
    let depends_on = |(at, wire): (usize, &TaskContainerDependency)| {
        let name = member(&wire.container_name, at, "dependsOn", "containerName")?;
        Ok((name, Until::parse(wire.condition.as_deref())))
    };
    let named = |why: String| match wire.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("container {name}: {why}"),
        None => why,
    };
    Ok(Container {
        name: wire.name.clone().unwrap_or_default(),
        essential: wire.essential.unwrap_or(true),
        properties: properties(&as_one(wire, task)).map_err(named)?,
        depends_on: wire
            .depends_on
            .iter()
            .enumerate()
            .map(depends_on)
            .collect::<Result<_, _>>()
            .map_err(named)?,
        start_timeout: seconds(wire.start_timeout),
        stop_timeout: seconds(wire.stop_timeout),
        ..Container::default()
    })
}

/// The container as a job of one container would have it. The volumes are not among it: they are the task's.
fn as_one(wire: &TaskContainerProperties, task: &EcsTaskProperties) -> ContainerProperties {
    ContainerProperties {
        image: wire.image.clone(),
        command: wire.command.clone(),
        environment: wire.environment.clone(),
        job_role_arn: task.task_role_arn.clone(),
        execution_role_arn: task.execution_role_arn.clone(),
        mount_points: wire.mount_points.clone(),
        readonly_root_filesystem: wire.readonly_root_filesystem,
        privileged: wire.privileged,
        ulimits: wire.ulimits.clone(),
        user: wire.user.clone(),
        resource_requirements: wire.resource_requirements.clone(),
        linux_parameters: wire.linux_parameters.clone(),
        log_configuration: wire.log_configuration.clone(),
        secrets: wire.secrets.clone(),
        network_configuration: task.network_configuration.clone(),
        fargate_platform_configuration: task
            .platform_version
            .clone()
            .map(|version| FargatePlatformConfiguration { platform_version: Some(version) }),
        enable_execute_command: task.enable_execute_command,
        ephemeral_storage: task.ephemeral_storage.clone(),
        runtime_platform: task.runtime_platform.clone(),
        repository_credentials: wire.repository_credentials.clone(),
        vcpus: None,
        memory: None,
        volumes: Vec::new(),
        instance_type: None,
    }
}

/// What a job changes of it.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn changes(wire: &EcsPropertiesOverride) -> Result<Vec<Change>, String> {
    let containers = wire.task_properties.iter().flat_map(|task| &task.containers);
    containers.map(change).collect()
}

fn change(wire: &TaskContainerOverrides) -> Result<Change, String> {
    let as_one = ContainerOverrides {
        command: wire.command.clone(),
        environment: wire.environment.clone(),
        resource_requirements: wire.resource_requirements.clone(),
        ..ContainerOverrides::default()
    };
    let overrides = overrides(&as_one).map_err(|why| format!("ecsPropertiesOverride: {why}"))?;
    Ok(Change { name: wire.name.clone(), overrides })
}
