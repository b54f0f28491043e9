//! What a job really runs: its definition with the job's overrides applied.
//!
//! Overrides reach only what a job may change (command, environment, resources, see
//! <https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerOverrides.html>);
//! everything that decides about privileges comes from the definition alone, by construction:
//! [`Overrides`] has no member for it.

pub mod nodes;
pub mod requirements;
pub mod revision;

use requirements::{Amounts, Stated};

/// `containerProperties` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The image.
    pub image: String,
    /// Replaces the image's CMD; the image's ENTRYPOINT stays.
    pub command: Vec<String>,
    /// Name and value, in order.
    pub environment: Vec<(String, String)>,
    /// vCPUs, memory and GPUs.
    pub resources: Stated,
    /// `jobRoleArn`.
    pub job_role: Option<String>,
    /// Numeric user and perhaps group.
    pub user: Option<User>,
    /// Root file system read-only.
    pub readonly_root: bool,
    /// All privileges of the host.
    pub privileged: bool,
    /// Volumes by name.
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    pub mounts: Vec<Mount>,
    /// `linuxParameters.sharedMemorySize`, MiB.
    pub shared_memory_mib: Option<i64>,
    /// `linuxParameters.tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
}

/// `containerOverrides` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces the definition's command when given.
    pub command: Option<Vec<String>>,
    /// Replaces by name, adds what is new.
    pub environment: Vec<(String, String)>,
    /// Replaces per type.
    pub resources: Stated,
}

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: Option<i64>,
}

impl User {
    /// Reads `1000` or `1000:1000`; a name cannot be known before the image is there.
    pub fn parse(text: &str) -> Option<Self> {
        // `root` is 0 in every image.
        if text == "root" {
            return Some(Self { uid: 0, gid: None });
        }
        match text.split_once(':') {
            None => Some(Self { uid: text.parse().ok()?, gid: None }),
            Some((uid, gid)) => Some(Self { uid: uid.parse().ok()?, gid: Some(gid.parse().ok()?) }),
        }
    }
}

/// A volume: a folder of the host, or an empty one that lives as long as the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The host's folder.
    pub host_path: Option<String>,
}

/// Where a volume appears in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The path in the container.
    pub path: String,
    /// Whether it can be written.
    pub read_only: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its path in the container.
    pub path: String,
    /// Its size in MiB.
    pub size_mib: i64,
}

/// A job's container with all overrides applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// The definition's properties; command and environment are the merged ones.
    pub properties: Properties,
    /// The merged resources.
    pub amounts: Amounts,
}

/// Applies a job's overrides to its definition.
///
/// # Errors
/// A sentence that names the member, as it belongs into the job's statusReason.
pub fn effective(properties: &Properties, overrides: &Overrides) -> Result<Effective, String> {
    let amounts = requirements::merge(&properties.resources, &overrides.resources)?;
    let mut properties = properties.clone();
    if let Some(command) = &overrides.command {
        properties.command.clone_from(command);
    }
    for (name, value) in &overrides.environment {
        match properties.environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => properties.environment.push((name.clone(), value.clone())),
        }
    }
    for mount in &properties.mounts {
        if !properties.volumes.iter().any(|volume| volume.name == mount.volume) {
            return Err(format!("mountPoints: sourceVolume {} is not one of volumes", mount.volume));
        }
    }
    Ok(Effective { properties, amounts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(vcpus: i64, memory: i64) -> Stated {
        Stated { vcpus: Some(vcpus), memory: Some(memory), requirements: vec![] }
    }

    #[test]
    fn environment_merges_by_name() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect::<Vec<_>>();
        let definition = Properties {
            environment: pairs(&[("A", "1"), ("B", "2")]),
            resources: stated(1, 4),
            ..Properties::default()
        };
        let overrides = Overrides { environment: pairs(&[("B", "3"), ("C", "4")]), ..Overrides::default() };
        let merged = effective(&definition, &overrides).expect("valid");
        assert_eq!(merged.properties.environment, pairs(&[("A", "1"), ("B", "3"), ("C", "4")]));
    }

    #[test]
    fn a_mount_needs_its_volume() {
        let mount = Mount { volume: "data".into(), path: "/data".into(), read_only: false };
        let definition = Properties { mounts: vec![mount], resources: stated(1, 4), ..Properties::default() };
        let error = effective(&definition, &Overrides::default()).expect_err("no such volume");
        assert_eq!(error, "mountPoints: sourceVolume data is not one of volumes");
    }

    #[test]
    fn users() {
        assert_eq!(User::parse("1000"), Some(User { uid: 1000, gid: None }));
        assert_eq!(User::parse("1000:100"), Some(User { uid: 1000, gid: Some(100) }));
        assert_eq!(User::parse("root"), Some(User { uid: 0, gid: None }));
        assert_eq!(User::parse("nobody"), None);
    }
}
