//! containerProperties and containerOverrides, and the parts that containers of every kind share.

use batchyard_core::definition::container::{
    Architecture, Device, Linux, Mount, Platform, READ_ONLY, SecretVariable, Source, System, Tmpfs, Ulimit,
    User, Volume, claim,
};
use batchyard_core::definition::requirements::Stated;
use batchyard_core::definition::{Overrides, Properties, secrets};

use crate::crd::container::{self as wire, KeyValuePair, ResourceRequirement, ResourceType};
use crate::crd::overrides::ContainerOverrides;

/// `containerOverrides`.
pub(super) fn overrides(wire: &ContainerOverrides) -> Overrides {
    Overrides {
        command: Some(wire.command.clone()).filter(|command| !command.is_empty()),
        environment: environment(&wire.environment),
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
    }
}

/// `containerProperties`.
///
/// # Errors
/// A sentence that names the member.
pub(super) fn properties(wire: &wire::ContainerProperties) -> Result<Properties, String> {
    Ok(Properties {
        image: wire.image.clone(),
        command: wire.command.clone(),
        environment: environment(&wire.environment),
        secrets: secret_variables(&wire.secrets)?,
        resources: stated(wire.vcpus, wire.memory, &wire.resource_requirements),
        job_role: wire.job_role_arn.clone().filter(|arn| !arn.is_empty()),
        user: wire.user.as_deref().and_then(User::parse),
        readonly_root: wire.readonly_root_filesystem.unwrap_or(false),
        privileged: wire.privileged.unwrap_or(false),
        volumes: wire.volumes.iter().filter_map(volume).collect(),
        mounts: wire.mount_points.iter().filter_map(mount).collect(),
        linux: linux(wire.linux_parameters.as_ref(), &wire.ulimits),
        platform: wire.runtime_platform.as_ref().map(platform).unwrap_or_default(),
        ephemeral_storage_gib: wire.ephemeral_storage.as_ref().map(|storage| i64::from(storage.size_in_gi_b)),
        pull_secret: pull_secret(wire.repository_credentials.as_ref())?,
    })
}

/// Names and values; a variable without a name is none.
fn environment(wire: &[KeyValuePair]) -> Vec<(String, String)> {
    let pair = |pair: &KeyValuePair| Some((pair.name.clone()?, pair.value.clone().unwrap_or_default()));
    wire.iter().filter_map(pair).collect()
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

/// A volume; one without a name cannot be mounted.
pub(super) fn volume(wire: &wire::Volume) -> Option<Volume> {
    let folder = |root: Option<&String>| root.map_or("", |root| root.trim_matches('/')).to_owned();
    let host = wire.host.as_ref().and_then(|host| host.source_path.clone()).filter(|path| !path.is_empty());
    let source = if let Some(path) = host {
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
    };
    Some(Volume { name: wire.name.clone()?, source })
}

/// Where a volume is mounted.
pub(super) fn mount(wire: &wire::MountPoint) -> Option<Mount> {
    Some(Mount {
        volume: wire.source_volume.clone()?,
        path: wire.container_path.clone()?,
        read_only: wire.read_only.unwrap_or(false),
    })
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
