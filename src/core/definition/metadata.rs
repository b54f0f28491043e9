//! Labels and annotations of a pod of `eksProperties`: which of them a definition may state, and which a job.

use std::collections::BTreeMap;

/// Those that are the operator's own, or speak to autoscalers in its name.
const OURS: [&str; 3] = [
    "app.kubernetes.io/managed-by",
    "karpenter.sh/do-not-disrupt",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
];
/// The domain of all others that are the operator's.
const OUR_DOMAIN: &str = "batchyard.io";
/// Domains by which more is had than a definition grants: a job cannot add to what its definition says there, nor change
/// it. Security profiles, devices, mounts, networks and containers are given by annotations of them.
const STEERING: [&str; 19] = [
    // Kubernetes itself.
    "kubernetes.io",
    "k8s.io",
    "openshift.io",
    // Container runtimes and their plugins, such as NRI's devices and mounts.
    "nri.io",
    "containerd.io",
    "crio.io",
    "cri-o.io",
    "katacontainers.io",
    "gvisor.dev",
    "opencontainers.org",
    // Networks.
    "cncf.io",
    "multus-cni.io",
    "projectcalico.org",
    "cilium.io",
    "ovn.org",
    "vpc.amazonaws.com",
    // Containers that others put into pods.
    "istio.io",
    "linkerd.io",
    "vault.hashicorp.com",
];

/// Refuses what is the operator's.
pub(super) fn check<'k>(mut keys: impl Iterator<Item = &'k String>) -> Result<(), String> {
    match keys.find(|key| OURS.contains(&key.as_str()) || is_in(key, OUR_DOMAIN)) {
        Some(key) => Err(format!("eksProperties: metadata: {key} is the operator's own and cannot be set")),
        None => Ok(()),
    }
}

/// Refuses what a job cannot change.
pub(super) fn check_change(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<(), String> {
    for key in labels.keys().chain(annotations.keys()) {
        if let Some(domain) = STEERING.into_iter().find(|domain| is_in(key, domain)) {
            return Err(format!(
                "eksPropertiesOverride: metadata: {key}: a job cannot set what is in the domain {domain}"
            ));
        }
    }
    // As in `io.kubernetes.cri-o.Devices`, `io.katacontainers.config…`, `org.systemd.property.DeviceAllow`.
    match annotations.keys().find(|key| key.contains('.') && !key.contains('/')) {
        Some(key) => Err(format!(
            "eksPropertiesOverride: metadata: annotations: {key}: a job cannot set names with dots and without a \
             domain, by which container runtimes are told what to do"
        )),
        None => Ok(()),
    }
}

/// True if a key of a label or annotation is in a domain, or in one below it.
fn is_in(key: &str, domain: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), "x".to_owned())].into()
    }

    #[test]
    fn what_runtimes_and_networks_read_is_not_the_jobs_to_set() {
        let none = BTreeMap::new();
        for key in [
            "devices.nri.io/container.app",
            "ulimits.nri.containerd.io/container.app",
            "cpu-quota.crio.io",
            "io.kubernetes.cri-o.Devices",
            "io.katacontainers.config.hypervisor.kernel",
            "dev.gvisor.spec.mount.a.type",
            "org.systemd.property.DeviceAllow",
            "run.oci.hooks.stdout",
            "k8s.v1.cni.cncf.io/networks",
            "v1.multus-cni.io/default-network",
            "cni.projectcalico.org/ipAddrs",
            "cdi.k8s.io/x",
            "container.apparmor.security.beta.kubernetes.io/app",
            "sidecar.istio.io/userVolume",
            "vault.hashicorp.com/agent-inject",
        ] {
            let error = check_change(&none, &one(key)).expect_err(key);
            assert!(
                error.contains(&format!("metadata: annotations: {key}: a job cannot set")) || {
                    error.contains(&format!("metadata: {key}: a job cannot set what is in the domain"))
                }
            );
        }
        for key in
            ["note", "team_name", "prometheus.io/scrape", "example.com/kubernetes.io", "mykubernetes.io/x"]
        {
            assert_eq!(check_change(&none, &one(key)), Ok(()), "{key}");
        }
        assert_eq!(check_change(&one("app.version"), &none), Ok(()), "no runtime reads labels");
    }

    #[test]
    fn what_is_ours() {
        for key in ["batchyard.io/x", "tags.batchyard.io/x", "karpenter.sh/do-not-disrupt"] {
            assert!(check(one(key).keys()).is_err(), "{key}");
        }
        for key in ["notbatchyard.io/x", "karpenter.sh/x", "k8s.v1.cni.cncf.io/networks"] {
            assert!(check(one(key).keys()).is_ok(), "{key}");
        }
    }
}
