//! `eksProperties`: a pod, member by member.

use batchyard_core::definition::eks::{
    Change, Changes, Container, DEFAULT_NAME, Mount, Pod, PodSecurity, Resources, Seccomp, Security, Source,
    Volume,
};

use crate::crd::eks::{
    EksContainer, EksEnvironmentVariable, EksPodProperties, EksPodSecurityContext, EksProperties,
    EksResources, EksSeccompProfile, EksSecurityContext, EksVolume, EksVolumeMount,
};
use crate::crd::overrides::{EksContainerOverride, EksPropertiesOverride};

/// The pod.
pub(super) fn pod(wire: &EksProperties) -> Result<Pod, String> {
    let Some(wire) = &wire.pod_properties else {
        return Err("eksProperties.podProperties is missing".to_owned());
    };
    let EksPodProperties {
        service_account_name,
        host_network,
        dns_policy,
        image_pull_secrets,
        containers,
        init_containers,
        volumes,
        metadata,
        share_process_namespace,
        security_context,
    } = wire;
    let metadata = metadata.clone().unwrap_or_default();
    Ok(Pod {
        containers: containers.iter().map(container).collect(),
        init_containers: init_containers.iter().map(container).collect(),
        volumes: volumes.iter().map(volume).collect(),
        service_account: said(service_account_name.as_ref()),
        host_network: *host_network,
        dns_policy: said(dns_policy.as_ref()),
        image_pull_secrets: image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        shared_pids: share_process_namespace.unwrap_or(false),
        security: security_context.as_ref().map(pod_security).unwrap_or_default(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        namespace: said(metadata.namespace.as_ref()),
    })
}

/// What a job changes of it.
pub(super) fn changes(wire: &EksPropertiesOverride) -> Changes {
    let Some(wire) = &wire.pod_properties else { return Changes::default() };
    let metadata = wire.metadata.clone().unwrap_or_default();
    Changes {
        containers: wire.containers.iter().map(change).collect(),
        init_containers: wire.init_containers.iter().map(change).collect(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        namespace: said(metadata.namespace.as_ref()),
    }
}

fn change(wire: &EksContainerOverride) -> Change {
    let EksContainerOverride { name, image, command, args, env, resources } = wire;
    let words = |words: &Vec<String>| Some(words.clone()).filter(|words| !words.is_empty());
    Change {
        name: name.clone(),
        image: said(image.as_ref()),
        command: words(command),
        args: words(args),
        environment: environment(env),
        resources: resources.as_ref().map(amounts).unwrap_or_default(),
    }
}

fn container(wire: &EksContainer) -> Container {
    let EksContainer {
        name,
        image,
        image_pull_policy,
        command,
        args,
        env,
        resources,
        volume_mounts,
        security_context,
    } = wire;
    Container {
        name: said(name.as_ref()).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        image: image.clone(),
        pull_policy: said(image_pull_policy.as_ref()),
        command: command.clone(),
        args: args.clone(),
        environment: environment(env),
        resources: resources.as_ref().map(amounts).unwrap_or_default(),
        mounts: volume_mounts.iter().map(mount).collect(),
        security: security_context.as_ref().map(security),
    }
}

fn environment(wire: &[EksEnvironmentVariable]) -> Vec<(String, String)> {
    wire.iter().map(|pair| (pair.name.clone(), pair.value.clone().unwrap_or_default())).collect()
}

fn amounts(wire: &EksResources) -> Resources {
    Resources { limits: wire.limits.clone(), requests: wire.requests.clone() }
}

fn mount(wire: &EksVolumeMount) -> Mount {
    Mount {
        volume: wire.name.clone().unwrap_or_default(),
        path: wire.mount_path.clone().unwrap_or_default(),
        sub_path: said(wire.sub_path.as_ref()),
        read_only: wire.read_only.unwrap_or(false),
    }
}

fn volume(wire: &EksVolume) -> Volume {
    let EksVolume { name, host_path, empty_dir, secret, persistent_volume_claim } = wire;
    let source = match (host_path, empty_dir, secret, persistent_volume_claim) {
        (Some(host), ..) => Source::Host(host.path.clone().unwrap_or_default()),
        (_, _, Some(secret), _) => {
            Source::Secret(secret.secret_name.clone(), secret.optional.unwrap_or(false))
        }
        (_, _, _, Some(claim)) => Source::Claim(claim.claim_name.clone(), claim.read_only.unwrap_or(false)),
        (_, empty, ..) => {
            let empty = empty.clone().unwrap_or_default();
            Source::Empty { medium: said(empty.medium.as_ref()), size_limit: said(empty.size_limit.as_ref()) }
        }
    };
    Volume { name: name.clone(), source }
}

fn security(wire: &EksSecurityContext) -> Security {
    let EksSecurityContext {
        run_as_user,
        run_as_group,
        privileged,
        allow_privilege_escalation,
        read_only_root_filesystem,
        run_as_non_root,
        capabilities,
        seccomp_profile,
    } = wire;
    let capabilities = capabilities.clone().unwrap_or_default();
    Security {
        user: *run_as_user,
        group: *run_as_group,
        privileged: *privileged,
        escalation: *allow_privilege_escalation,
        readonly_root: *read_only_root_filesystem,
        non_root: *run_as_non_root,
        add: capabilities.add,
        drop: capabilities.drop,
        seccomp: seccomp_profile.as_ref().map(seccomp),
    }
}

fn pod_security(wire: &EksPodSecurityContext) -> PodSecurity {
    let EksPodSecurityContext { run_as_user, run_as_group, run_as_non_root, fs_group, seccomp_profile } =
        wire;
    PodSecurity {
        user: *run_as_user,
        group: *run_as_group,
        non_root: *run_as_non_root,
        fs_group: *fs_group,
        seccomp: seccomp_profile.as_ref().map(seccomp),
    }
}

fn seccomp(wire: &EksSeccompProfile) -> Seccomp {
    Seccomp { kind: wire.type_.clone().unwrap_or_default(), path: said(wire.localhost_profile.as_ref()) }
}

/// AWS's tools write what is not stated as an empty text.
fn said(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}
