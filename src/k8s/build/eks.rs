//! The pod that `eksProperties` describes. Amounts and texts are Kubernetes' own and pass as they are written, but for
//! GPUs, which are what the environment says that they are.

use batchyard_core::definition::container_name;
use batchyard_core::definition::eks::{
    self, Container as Stated, Mount, Pod, PodSecurity, Resources, Seccomp, Security, Source,
};
use batchyard_core::name;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Attempt, container, security, some};
use crate::crd::compute_environment::PodDefaults;
use crate::k8s::{gpu, meta};

/// The annotation by which the attempt ends with the last container.
pub(super) fn roles(pod: &Pod) -> Vec<(String, String)> {
    let several = pod.containers.len() > 1;
    several.then(|| (meta::JOINT.to_owned(), "true".to_owned())).into_iter().collect()
}

/// Fills the pod's spec.
pub(super) fn spec(attempt: &Attempt<'_>, pod: &Pod, defaults: &PodDefaults, spec: PodSpec) -> PodSpec {
    let shared = pod_security(&pod.security);
    let one = |stated: &Stated| Container {
        security_context: security_of(attempt, stated, shared.as_ref()),
        ..one(attempt, stated, defaults)
    };
    let all = |containers: &[Stated]| containers.iter().map(one).collect::<Vec<_>>();
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    let secrets = pod.image_pull_secrets.iter().map(secret);
    let named = pod.service_account.is_some();
    PodSpec {
        containers: all(&pod.containers),
        init_containers: some(all(&pod.init_containers)),
        volumes: some(pod.volumes.iter().map(volume).collect()),
        dns_policy: pod.dns_policy.clone().or(spec.dns_policy),
        image_pull_secrets: some(spec.image_pull_secrets.into_iter().flatten().chain(secrets).collect()),
        share_process_namespace: pod.shared_pids.then_some(true),
        security_context: shared.clone(),
        service_account_name: pod.service_account.clone().or(spec.service_account_name),
        // Who names an account wants to act as it.
        automount_service_account_token: if named { None } else { spec.automount_service_account_token },
        ..spec
    }
}

fn one(attempt: &Attempt<'_>, stated: &Stated, defaults: &PodDefaults) -> Container {
    let theirs = stated.environment.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        ..EnvVar::default()
    });
    Container {
        name: container_name(&stated.name),
        image: Some(stated.image.clone()),
        image_pull_policy: stated.pull_policy.clone().or_else(|| container::pull_policy(defaults)),
        command: some(stated.command.clone()),
        args: some(stated.args.clone()),
        env: Some(theirs.chain(container::aws_variables(attempt)).collect()),
        resources: Some(resources(&stated.resources.counted_by(gpu::resource(attempt.environment_spec)))),
        volume_mounts: some(stated.mounts.iter().map(mount).collect()),
        termination_message_policy: attempt.log_tail.then(|| "FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn resources(stated: &Resources) -> ResourceRequirements {
    let amounts = |stated: &std::collections::BTreeMap<String, String>| {
        let amounts = stated.iter().map(|(name, amount)| (name.clone(), Quantity(amount.clone())));
        (!stated.is_empty()).then(|| amounts.collect())
    };
    ResourceRequirements {
        limits: amounts(&stated.limits),
        requests: amounts(&stated.requests),
        claims: None,
    }
}

fn mount(stated: &Mount) -> VolumeMount {
    VolumeMount {
        name: volume_name(&stated.volume),
        mount_path: stated.path.clone(),
        sub_path: stated.sub_path.clone(),
        read_only: stated.read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn volume_name(stated: &str) -> String {
    name::slug(stated)
}

fn volume(stated: &eks::Volume) -> Volume {
    let mut made = Volume { name: volume_name(&stated.name), ..Volume::default() };
    match &stated.source {
        Source::Empty { medium, size_limit } => {
            let size_limit = size_limit.clone().map(Quantity);
            made.empty_dir = Some(EmptyDirVolumeSource { medium: medium.clone(), size_limit });
        }
        Source::Host(path) => {
            made.host_path = Some(HostPathVolumeSource { path: path.clone(), type_: None });
        }
        Source::Secret(name, optional) => {
            made.secret = Some(SecretVolumeSource {
                secret_name: Some(name.clone()),
                optional: optional.then_some(true),
                ..SecretVolumeSource::default()
            });
        }
        Source::Claim(name, read_only) => {
            made.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: read_only.then_some(true),
            });
        }
    }
    made
}

/// Nothing, where nothing is stated and nothing filled in.
fn security_of(
    attempt: &Attempt<'_>,
    stated: &Stated,
    pod: Option<&PodSecurityContext>,
) -> Option<SecurityContext> {
    let own = stated.security.as_ref().map(security);
    let made = security::completed(attempt, own.clone().unwrap_or_default(), pod);
    (own.is_some() || made != SecurityContext::default()).then_some(made)
}

fn security(stated: &Security) -> SecurityContext {
    let Security { user, group, privileged, escalation, readonly_root, non_root, add, drop, seccomp } =
        stated;
    let changed = !add.is_empty() || !drop.is_empty();
    SecurityContext {
        run_as_user: *user,
        run_as_group: *group,
        privileged: *privileged,
        allow_privilege_escalation: *escalation,
        read_only_root_filesystem: *readonly_root,
        run_as_non_root: *non_root,
        capabilities: changed.then(|| Capabilities { add: some(add.clone()), drop: some(drop.clone()) }),
        seccomp_profile: seccomp.as_ref().map(profile),
        ..SecurityContext::default()
    }
}

fn pod_security(stated: &PodSecurity) -> Option<PodSecurityContext> {
    let PodSecurity { user, group, non_root, fs_group, seccomp } = stated;
    let made = PodSecurityContext {
        run_as_user: *user,
        run_as_group: *group,
        run_as_non_root: *non_root,
        fs_group: *fs_group,
        seccomp_profile: seccomp.as_ref().map(profile),
        ..PodSecurityContext::default()
    };
    (made != PodSecurityContext::default()).then_some(made)
}

fn profile(stated: &Seccomp) -> SeccompProfile {
    SeccompProfile { type_: stated.kind.clone(), localhost_profile: stated.path.clone() }
}
