//! GPUs that are none: a device plugin of ours offers them to the kubelet, which cannot tell.

use serde_json::{Value, json};

use super::Provider;

/// The resource that the plugin offers.
pub const GPU: &str = "nvidia.com/gpu";

/// The name of the plugin's pod, and the folder of the recipe of its image.
pub const DEVICE_PLUGIN: &str = "device-plugin";

/// Where the kubelet looks for plugins.
const FOLDER: &str = "/var/lib/kubelet/device-plugins";

/// The pod of the plugin on a node, as vendors run theirs: privileged, with the kubelet's folder.
pub fn device_plugin(provider: Provider, node: &str, count: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": DEVICE_PLUGIN},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": DEVICE_PLUGIN,
                "image": "batchyard/device-plugin:1",
                "imagePullPolicy": provider.pull_policy(),
                "env": [{"name": "RESOURCE", "value": GPU}, {"name": "COUNT", "value": count.to_string()}],
                "securityContext": {"privileged": true},
                "volumeMounts": [{"name": "plugins", "mountPath": FOLDER}],
            }],
            "volumes": [{"name": "plugins", "hostPath": {"path": FOLDER}}],
        },
    })
}
