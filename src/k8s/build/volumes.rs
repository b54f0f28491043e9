//! The job's volumes, and where its container mounts them.

use batchyard_core::definition::Properties;
use batchyard_core::name;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Names of volumes that we add; a user's volume names become slugs, which never begin like this.
const SHARED_MEMORY: &str = "shared-memory";

/// The volumes of a pod.
pub(super) fn volumes(properties: &Properties) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for volume in &properties.volumes {
        let mut made = Volume { name: format!("v-{}", name::slug(&volume.name)), ..Volume::default() };
        match &volume.host_path {
            Some(path) => made.host_path = Some(HostPathVolumeSource { path: path.clone(), type_: None }),
            None => made.empty_dir = Some(EmptyDirVolumeSource::default()),
        }
        made.name.truncate(63);
        volumes.push(made);
    }
    let in_memory = |mib: i64| EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity(format!("{mib}Mi"))),
    };
    for (index, tmpfs) in properties.tmpfs.iter().enumerate() {
        let empty_dir = Some(in_memory(tmpfs.size_mib));
        volumes.push(Volume { name: format!("tmpfs-{index}"), empty_dir, ..Volume::default() });
    }
    if let Some(mib) = properties.shared_memory_mib {
        let empty_dir = Some(in_memory(mib));
        volumes.push(Volume { name: SHARED_MEMORY.to_owned(), empty_dir, ..Volume::default() });
    }
    volumes
}

/// Where its container mounts them.
pub(super) fn mounts(properties: &Properties) -> Vec<VolumeMount> {
    let mount = |name: String, path: &str, read_only: bool| VolumeMount {
        name,
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts: Vec<_> = properties
        .mounts
        .iter()
        .map(|m| {
            let mut name = format!("v-{}", name::slug(&m.volume));
            name.truncate(63);
            mount(name, &m.path, m.read_only)
        })
        .collect();
    let tmpfs = properties.tmpfs.iter().enumerate();
    mounts.extend(tmpfs.map(|(i, tmpfs)| mount(format!("tmpfs-{i}"), &tmpfs.path, false)));
    mounts.extend(properties.shared_memory_mib.map(|_| mount(SHARED_MEMORY.to_owned(), "/dev/shm", false)));
    mounts
}
