//! containerProperties and containerOverrides, and the parts that containers of every kind share.

use batchyard_core::definition::container::{
    Architecture, Device, Linux, Mount, Platform, READ_ONLY, SecretVariable, Source, System, Tmpfs, Ulimit,
    User, Volume, claim,
};
use batchyard_core::definition::requirements::Stated;
use batchyard_core::definition::{Overrides, Properties, secrets};

use super::logging::configuration;
use crate::crd::container::{self as wire, KeyValuePair, ResourceRequirement, ResourceType};
use crate::crd::overrides::ContainerOverrides;

/// `containerOverrides`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn overrides(wire: &ContainerOverrides) -> Result<Overrides, String> {
    Ok(Overrides {
        command: Some(wire.command.clone()).filter(|command| !command.is_empty()),
        environment: environment(&wire.environment)?,
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
    })
}

/// `containerProperties`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn properties(wire: &wire::ContainerProperties) -> Result<Properties, String> {
    Ok(Properties {
        image: wire.image.clone(),
        command: wire.command.clone(),
        environment: environment(&wire.environment)?,
        secrets: secret_variables(&wire.secrets)?,
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
        job_role: wire.job_role_arn.clone().filter(|arn| !arn.is_empty()),
        user: wire.user.as_deref().and_then(User::parse),
        readonly_root: wire.readonly_root_filesystem.unwrap_or(false),
        privileged: wire.privileged.unwrap_or(false),
        volumes: volumes(&wire.volumes)?,
        mounts: mounts(&wire.mount_points)?,
        linux: linux(wire.linux_parameters.as_ref(), &wire.ulimits),
        platform: wire.runtime_platform.as_ref().map(platform).unwrap_or_default(),
        ephemeral_storage_gib: wire.ephemeral_storage.as_ref().map(|storage| i64::from(storage.size_in_gi_b)),
        pull_secret: pull_secret(wire.repository_credentials.as_ref())?,
        logging: wire.log_configuration.as_ref().map(|wire| Box::new(configuration(wire))),
    })
}

/// Names and values.
///
/// # Errors
/// A sentence that names the member.
fn environment(wire: &[KeyValuePair]) -> Result<Vec<(String, String)>, String> {
    let pair = |(at, pair): (usize, &KeyValuePair)| {
        Ok((member(&pair.name, at, "environment", "name")?, pair.value.clone().unwrap_or_default()))
    };
    wire.iter().enumerate().map(pair).collect()
}

/// A member that AWS's model lets people leave out, and without which an element of a list says nothing.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn member(stated: &Option<String>, at: usize, list: &str, name: &str) -> Result<String, String> {
    let stated = stated.clone().filter(|text| !text.is_empty());
    stated.ok_or_else(|| format!("{list}[{at}]: {name} is required"))
}

/// `secrets`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn secret_variables(wire: &[wire::Secret]) -> Result<Box<[SecretVariable]>, String> {
    let variable = |secret: &wire::Secret| {
        let from = secrets::locate(&secret.value_from)
            .map_err(|why| format!("secrets: valueFrom of {}: {why}", secret.name))?;
        Ok(SecretVariable { name: secret.name.clone(), from })
    };
    wire.iter().map(variable).collect()
}

/// `repositoryCredentials`: the Secret with the registry's credentials, which is named as those of `secrets` are.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn pull_secret(wire: Option<&wire::RepositoryCredentials>) -> Result<Option<Box<str>>, String> {
    let Some(parameter) =
        wire.map(|wire| wire.credentials_parameter.as_str()).filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let found = secrets::locate(parameter)
        .map_err(|why| format!("repositoryCredentials: credentialsParameter: {why}"))?;
    Ok(Some(found.secret.into_boxed_str()))
}

/// vCPUs, memory and GPUs. AWS echoes 0 where a definition states its amounts the newer way.
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

/// `volumes`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn volumes(wire: &[wire::Volume]) -> Result<Vec<Volume>, String> {
    let volume = |(at, wire): (usize, &wire::Volume)| {
        Ok(Volume { name: member(&wire.name, at, "volumes", "name")?, source: source(wire) })
    };
    wire.iter().enumerate().map(volume).collect()
}

fn source(wire: &wire::Volume) -> Source {
    let folder = |root: Option<&String>| root.map_or("", |root| root.trim_matches('/')).to_owned();
    let host = wire.host.as_ref().and_then(|host| host.source_path.clone()).filter(|path| !path.is_empty());
    if let Some(path) = host {
        Source::Host(path)
    } else if let Some(efs) = &wire.efs_volume_configuration {
        let point = efs.authorization_config.as_ref().and_then(|config| config.access_point_id.as_deref());
        Source::Claim {
            name: claim(&efs.file_system_id, point.filter(|point| !point.is_empty())),
            folder: folder(efs.root_directory.as_ref()),
        }
    } else if let Some(s3) = &wire.s3files_volume_configuration {
        let point = s3.access_point_arn.as_deref().filter(|point| !point.is_empty());
        Source::Claim { name: claim(&s3.file_system_arn, point), folder: folder(s3.root_directory.as_ref()) }
    } else {
        Source::Empty
    }
}

/// `mountPoints`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn mounts(wire: &[wire::MountPoint]) -> Result<Vec<Mount>, String> {
    let mount = |(at, wire): (usize, &wire::MountPoint)| {
        Ok(Mount {
            volume: member(&wire.source_volume, at, "mountPoints", "sourceVolume")?,
            path: member(&wire.container_path, at, "mountPoints", "containerPath")?,
            read_only: wire.read_only.unwrap_or(false),
        })
    };
    wire.iter().enumerate().map(mount).collect()
}

/// `linuxParameters` and `ulimits`, if they say anything.
pub(super) fn linux(wire: Option<&wire::LinuxParameters>, ulimits: &[wire::Ulimit]) -> Option<Box<Linux>> {
    let default = wire::LinuxParameters::default();
    let wire = wire.unwrap_or(&default);
    let device = |device: &wire::Device| Device {
        host_path: device.host_path.clone(),
        path: device
            .container_path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| device.host_path.clone()),
    };
    let tmpfs = |tmpfs: &wire::Tmpfs| Tmpfs {
        path: tmpfs.container_path.clone(),
        size_mib: i64::from(tmpfs.size),
        read_only: tmpfs.mount_options.iter().any(|option| option == READ_ONLY),
    };
    let ulimit = |ulimit: &wire::Ulimit| Ulimit {
        name: ulimit.name.clone(),
        soft: ulimit.soft_limit,
        hard: ulimit.hard_limit,
    };
    let linux = Linux {
        shared_memory_mib: wire.shared_memory_size.filter(|size| *size > 0).map(i64::from),
        tmpfs: wire.tmpfs.iter().map(tmpfs).collect(),
        init_process: wire.init_process_enabled == Some(true),
        devices: wire.devices.iter().map(device).collect(),
        ulimits: ulimits.iter().map(ulimit).collect(),
    };
    linux.stated()
}

/// `runtimePlatform`. What is not known is named in `FieldsIgnored`.
pub(super) fn platform(wire: &wire::RuntimePlatform) -> Platform {
    Platform {
        architecture: wire.cpu_architecture.as_deref().and_then(Architecture::parse),
        system: wire.operating_system_family.as_deref().and_then(System::parse),
    }
}
