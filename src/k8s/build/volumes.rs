//! The job's volumes, and where its container mounts them.

use batchyard_core::definition::Properties;
use batchyard_core::definition::container::{Source, Tmpfs};
use batchyard_core::name;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::devices;
use crate::crd::ComputeEnvironmentSpec;

/// Names of volumes that we add; a user's volume names become slugs, which never begin like this.
const SHARED_MEMORY: &str = "shared-memory";

/// The volumes of a pod.
pub(super) fn volumes(properties: &Properties, environment: &ComputeEnvironmentSpec) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for volume in &properties.volumes {
        let mut made = Volume { name: volume_name(&volume.name), ..Volume::default() };
        match &volume.source {
            Source::Empty => made.empty_dir = Some(EmptyDirVolumeSource::default()),
            Source::Host(path) => {
                made.host_path = Some(HostPathVolumeSource { path: path.clone(), type_: None });
            }
            Source::Claim { name, .. } => {
                let claim = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
                made.persistent_volume_claim = Some(claim);
            }
        }
        volumes.push(made);
    }
    let in_memory = |mib: i64| EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity(format!("{mib}Mi"))),
    };
    for (index, tmpfs) in tmpfs(properties).iter().enumerate() {
        let empty_dir = Some(in_memory(tmpfs.size_mib));
        volumes.push(Volume { name: format!("tmpfs-{index}"), empty_dir, ..Volume::default() });
    }
    if let Some(mib) = shared_memory(properties) {
        let empty_dir = Some(in_memory(mib));
        volumes.push(Volume { name: SHARED_MEMORY.to_owned(), empty_dir, ..Volume::default() });
    }
    volumes.extend(devices::volumes(properties, environment));
    volumes
}

/// Where its container mounts them.
pub(super) fn mounts(properties: &Properties, environment: &ComputeEnvironmentSpec) -> Vec<VolumeMount> {
    let mount = |name: String, path: &str, read_only: bool| VolumeMount {
        name,
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let folder = |volume: &str| {
        let volume = properties.volumes.iter().find(|known| known.name == volume)?;
        match &volume.source {
            Source::Claim { folder, .. } => Some(folder.clone()).filter(|folder| !folder.is_empty()),
            Source::Empty | Source::Host(_) => None,
        }
    };
    let mut mounts: Vec<_> = properties
        .mounts
        .iter()
        .map(|m| VolumeMount {
            sub_path: folder(&m.volume),
            ..mount(volume_name(&m.volume), &m.path, m.read_only)
        })
        .collect();
    let tmpfs = tmpfs(properties).iter().enumerate();
    mounts.extend(tmpfs.map(|(i, tmpfs)| mount(format!("tmpfs-{i}"), &tmpfs.path, tmpfs.read_only)));
    mounts.extend(shared_memory(properties).map(|_| mount(SHARED_MEMORY.to_owned(), "/dev/shm", false)));
    mounts.extend(devices::mounts(properties, environment));
    mounts
}

/// A user's volume as it is called in the pod.
fn volume_name(name: &str) -> String {
    let mut made = format!("v-{}", name::slug(name));
    made.truncate(63);
    made
}

fn tmpfs(properties: &Properties) -> &[Tmpfs] {
    properties.linux.as_ref().map(|linux| linux.tmpfs.as_slice()).unwrap_or_default()
}

fn shared_memory(properties: &Properties) -> Option<i64> {
    properties.linux.as_ref()?.shared_memory_mib
}
