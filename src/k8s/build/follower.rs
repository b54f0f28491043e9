//! The helper beside a log sidecar that may see nothing of its node: it follows the output of the pod's containers
//! through the API server (`log_follow`) and hands it to the sidecar by a socket in the sidecar's buffer.
//!
//! It is the second init container, so that the kubelet tells it to end before the sidecar, and waits for its end: what
//! it read last the sidecar has then. It alone of all containers has a token: of the pod's ServiceAccount, which must be
//! allowed to read logs of pods.

use std::collections::BTreeMap;

use batchyard_core::logging::sidecar::{BUFFER, CONTAINER, FOLLOWER, FORWARD_SOCKET};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, ProjectedVolumeSource, ResourceRequirements, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Attempt;
use super::logging::{CPU_LIMIT, Logging, buffer_volume, field, unprivileged};

/// Where clients look for what they need in a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kubelet renews a token before it ends; a pod may last longer than one.
const TOKEN_SECONDS: i64 = 3607;
/// What each of its files of how far a log is delivered may take up, and more, in MiB.
const DISK_MIB: u64 = 16;

/// The helper.
pub(super) fn container(attempt: &Attempt<'_>, logging: &Logging, limits_disk: bool) -> Container {
    let settings = &logging.settings;
    let mut args = vec![
        "log-follow".to_owned(),
        format!("--socket={FORWARD_SOCKET}"),
        format!("--state={BUFFER}"),
        format!("--reads-seconds={}", settings.pre_stop_seconds),
        format!("--settle-seconds={}", logging.sidecar.settle_seconds()),
    ];
    args.extend(logging.routed.iter().map(|one| format!("--container={}", one.container)));
    let mount = |name: String, path: &str, read_only: bool| VolumeMount {
        name,
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: FOLLOWER.to_owned(),
        image: Some(settings.follow_image.clone()),
        image_pull_policy: Some(settings.follow_pull_policy.clone()).filter(|policy| !policy.is_empty()),
        args: Some(args),
        env: Some(vec![
            field("BATCHYARD_POD_NAMESPACE", "metadata.namespace"),
            field("BATCHYARD_POD_NAME", "metadata.name"),
        ]),
        resources: Some(resources(attempt, logging, limits_disk)),
        restart_policy: Some("Always".to_owned()),
        volume_mounts: Some(vec![
            mount(buffer_volume(), BUFFER, false),
            mount(token_volume(), ACCOUNT, true),
        ]),
        // Why it may not read is told by what it wrote last.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(unprivileged()),
        ..Container::default()
    }
}

fn resources(attempt: &Attempt<'_>, logging: &Logging, limits_disk: bool) -> ResourceRequirements {
    let settings = &logging.settings;
    let mib = |amount: u64| Quantity(format!("{amount}Mi"));
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", settings.cpu_milli))),
        ("memory".to_owned(), mib(settings.follow_memory_mib)),
    ]);
    let mut limits = BTreeMap::from([("memory".to_owned(), mib(settings.follow_memory_limit_mib))]);
    if attempt.environment_spec.cpu_limit == Some(true) {
        limits.insert("cpu".to_owned(), Quantity(CPU_LIMIT.to_owned()));
    }
    if limits_disk {
        limits.insert("ephemeral-storage".to_owned(), mib(DISK_MIB));
        requests.insert("ephemeral-storage".to_owned(), mib(1));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn token_volume() -> String {
    format!("{CONTAINER}-token")
}

/// What Kubernetes mounts into containers whose pods want a token, but for one container.
pub(super) fn volume() -> Volume {
    let path = |path: &str| KeyToPath { key: path.to_owned(), path: path.to_owned(), mode: None };
    let token = ServiceAccountTokenProjection {
        audience: None,
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![path("ca.crt")]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected = ProjectedVolumeSource { sources: Some(sources), default_mode: Some(0o444) };
    Volume { name: token_volume(), projected: Some(projected), ..Volume::default() }
}
