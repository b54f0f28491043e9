//! What the processes of a job's containers may do. What a definition states counts; what it leaves open is as Pod
//! Security's level *restricted* wants it (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>), so that a
//! definition that asks for nothing special runs in a namespace which takes nothing else. `podSecurity: aws` on an
//! environment gives containers what they have on AWS instead.
//!
//! One thing is not for everybody: `runAsNonRoot` keeps an image from starting that runs as root, as most do. It is there
//! where the definition states another user, where the namespace takes no pod without it, and where the environment says
//! `podSecurity: restricted`.

use batchyard_core::definition::Properties;
use batchyard_core::definition::container::System;
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use super::Attempt;
use crate::crd::compute_environment::PodSecurity;

/// Of a container that is described as those of ECS are.
pub(super) fn of(attempt: &Attempt<'_>, properties: &Properties) -> SecurityContext {
    let stated = SecurityContext {
        privileged: properties.privileged.then_some(true),
        read_only_root_filesystem: Some(properties.readonly_root),
        run_as_user: properties.user.map(|user| user.uid),
        run_as_group: properties.user.and_then(|user| user.gid),
        ..SecurityContext::default()
    };
    match attempt.environment_spec.pod_security {
        // Docker's profile is what containers of ECS have, too.
        Some(PodSecurity::Aws) if !is_exempt(attempt, &stated) => {
            SecurityContext { seccomp_profile: Some(runtime_default()), ..stated }
        }
        _ => completed(attempt, stated, None),
    }
}

/// Fills in what a container, and its pod where that counts for it, leave open.
pub(super) fn completed(
    attempt: &Attempt<'_>,
    stated: SecurityContext,
    pod: Option<&PodSecurityContext>,
) -> SecurityContext {
    if attempt.environment_spec.pod_security == Some(PodSecurity::Aws) || is_exempt(attempt, &stated) {
        return stated;
    }
    let capabilities = stated.capabilities.as_ref();
    // Who adds capabilities may mean those of a file, which no process gets that may not gain any.
    let adds = capabilities.and_then(|stated| stated.add.as_ref()).is_some_and(|add| !add.is_empty());
    let escalation = stated.allow_privilege_escalation.or((!adds).then_some(false));
    let none = Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) };
    let pods_seccomp = pod.and_then(|pod| pod.seccomp_profile.as_ref());
    let seccomp = stated.seccomp_profile.clone().or(pods_seccomp.is_none().then(runtime_default));
    let user = stated.run_as_user.or(pod.and_then(|pod| pod.run_as_user));
    let is_said = stated.run_as_non_root.or(pod.and_then(|pod| pod.run_as_non_root)).is_some();
    let non_root = user.map_or_else(|| must_not_be_root(attempt), |user| user != 0);
    SecurityContext {
        allow_privilege_escalation: escalation,
        capabilities: stated.capabilities.clone().or(Some(none)),
        seccomp_profile: seccomp,
        run_as_non_root: stated.run_as_non_root.or((!is_said && non_root).then_some(true)),
        ..stated
    }
}

/// A privileged container has it all, and Windows has nothing of this.
fn is_exempt(attempt: &Attempt<'_>, stated: &SecurityContext) -> bool {
    let system = attempt.effective.platform().system;
    stated.privileged == Some(true) || matches!(system, Some(System::Windows(_)))
}

/// A container of which the definition does not say who runs it is not to run as root.
fn must_not_be_root(attempt: &Attempt<'_>) -> bool {
    attempt.refuses_root || attempt.environment_spec.pod_security == Some(PodSecurity::Restricted)
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}
