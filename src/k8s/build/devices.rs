//! `linuxParameters.devices`: how a container gets to a device of its node.
//!
//! A device plugin gives it to containers that have no privileges, by a resource that the environment names for the
//! device's path. A privileged container sees all devices of its node in /dev as it is; for another path the device is
//! mounted there, too. Any other container would find a file that the kernel does not let it open, so it gets none.

use batchyard_core::definition::Properties;
use batchyard_core::definition::container::Device;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::crd::ComputeEnvironmentSpec;

/// The resources that stand for devices of the container, each once.
pub(super) fn resources<'e>(
    properties: &Properties,
    environment: &'e ComputeEnvironmentSpec,
) -> Vec<(&'e str, Quantity)> {
    let mut names: Vec<_> =
        devices(properties).iter().filter_map(|device| resource(device, environment)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name, Quantity("1".to_owned()))).collect()
}

/// The devices that are mounted elsewhere than where the node has them.
pub(super) fn volumes(properties: &Properties, environment: &ComputeEnvironmentSpec) -> Vec<Volume> {
    let volume = |(index, device): (usize, &Device)| Volume {
        name: name(index),
        host_path: Some(HostPathVolumeSource { path: device.host_path.clone(), type_: None }),
        ..Volume::default()
    };
    mounted(properties, environment).map(volume).collect()
}

/// Where they are mounted.
pub(super) fn mounts(properties: &Properties, environment: &ComputeEnvironmentSpec) -> Vec<VolumeMount> {
    let mount = |(index, device): (usize, &Device)| VolumeMount {
        name: name(index),
        mount_path: device.path.clone(),
        ..VolumeMount::default()
    };
    mounted(properties, environment).map(mount).collect()
}

fn mounted<'p>(
    properties: &'p Properties,
    environment: &'p ComputeEnvironmentSpec,
) -> impl Iterator<Item = (usize, &'p Device)> {
    let devices = devices(properties).iter().enumerate().filter(move |_| properties.privileged);
    devices
        .filter(move |(_, device)| device.path != device.host_path && resource(device, environment).is_none())
}

fn resource<'e>(device: &Device, environment: &'e ComputeEnvironmentSpec) -> Option<&'e str> {
    environment.devices.get(&device.host_path).map(String::as_str)
}

fn devices(properties: &Properties) -> &[Device] {
    properties.linux.as_ref().map(|linux| linux.devices.as_slice()).unwrap_or_default()
}

/// A user's volume names never begin like this.
fn name(index: usize) -> String {
    format!("device-{index}")
}
