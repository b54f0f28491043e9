//! The log sidecar of a pod: Fluent Bit as a native sidecar, before everything else in the pod.
//!
//! It reads the pod's own log folder of the node, which belongs to the superuser and nobody else may read: so it is the
//! superuser, without any of the superuser's rights. Where pods may see nothing of their node (`logging.source: API`) it
//! is nobody in particular and gets everything from a helper (`follower`). Nothing that it needs holds up the
//! job: what may be missing, the user's Secrets and our own, is optional.
//!
//! | in the pod | what |
//! | --- | --- |
//! | init container `batchyard-log` | the first, with `restartPolicy: Always`; a `preStop` sleep lets it read to the end |
//! | volume `batchyard-log-config` | the Secret with its configuration |
//! | init container `batchyard-log-follow` | with the source API: the helper, which needs no sleep to read to the end |
//! | volume `batchyard-log-pods` | not with the source API: the node's `/var/log/pods`, of which it sees the pod's own folder, read-only |
//! | volume `batchyard-log-buffer` | what is not delivered yet |
//! | volumes `batchyard-log-…` | certificates; the node's folder for the driver json-file; sockets of the node |
//!
//! It goes with the pod: the pod's grace is the job's and behind it what the sidecar needs.

use std::collections::BTreeMap;

use batchyard_core::definition::Effective;
use batchyard_core::definition::secrets::locate;
use batchyard_core::logging::exposure;
use batchyard_core::logging::health;
use batchyard_core::logging::options::SecretText;
use batchyard_core::logging::sidecar::{
    self, BUFFER, CERTIFICATES, CONFIGURATION, CONFIGURATION_FILE, CONTAINER, FILES, LOGS, Member,
    NODE_FILES, NODE_VARIABLE, Part, SecretFile, SecretVariable, Sidecar, Source,
};
use batchyard_core::reason::logs;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, HostPathVolumeSource,
    KeyToPath, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecretProjection, SecretVolumeSource,
    SecurityContext, SleepAction, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Attempt, container, follower, pod_name};
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::convert::Plan;
use crate::k8s::logging::Routed;
use crate::k8s::{meta, quantity};
use crate::settings::LoggingSettings;

/// The node's log folders of pods.
const POD_LOGS: &str = "/var/log/pods";
/// The pod's own folder there, and in [`NODE_FILES`].
const OWN_FOLDER: &str = "$(BATCHYARD_POD_NAMESPACE)_$(BATCHYARD_POD_NAME)_$(BATCHYARD_POD_UID)";
/// Seconds between the end of flushing and SIGKILL.
const SPARE_SECONDS: u64 = 2;
/// So many times its limit, and so much more in MiB, the buffer may take up: a chunk is on disk before it is known to be
/// one too many, and an emptyDir beyond its limit would cost the job its pod.
const BUFFER_ROOM: (u64, u64) = (2, 64);

/// The sidecar's limit of CPU where containers have one.
pub(super) const CPU_LIMIT: &str = "1";
/// Who a sidecar is that need not be the superuser; the operator's image has the same.
const NOBODY: i64 = 65_532;

/// Where the output of an attempt's pod goes.
#[derive(Clone, Copy, Debug, Default)]
pub enum Logs<'a> {
    /// Where `kubectl logs` finds it, and nobody wants it elsewhere.
    #[default]
    Kept,
    /// To where somebody wants it, by a sidecar.
    Routed(&'a Logging),
    /// It should go elsewhere and does not: why.
    Unrouted(&'a str),
}

/// What a sidecar is made from.
#[derive(Clone, Debug)]
pub struct Logging {
    /// The containers whose output it sends, in the order in which they were planned.
    pub routed: Vec<Routed>,
    /// Which part of a job the pod runs.
    pub part: Part,
    /// Where the output comes from.
    pub source: Source,
    /// Its configuration and what that needs.
    pub sidecar: Sidecar,
    /// The Secret with the configuration.
    pub secret: String,
    /// `logging.awslogs.credentialsSecret` of the environment.
    pub credentials_secret: Option<String>,
    /// What the operator was started with.
    pub settings: LoggingSettings,
}

impl Logging {
    /// What is planned for each container.
    pub fn members(routed: &[Routed]) -> Vec<Member<'_>> {
        routed.iter().map(|one| Member { container: &one.container, route: &one.route }).collect()
    }

    /// How long the sidecar is left alone once the job's containers have ended.
    fn pre_stop_seconds(&self) -> u64 {
        self.sidecar.drain_seconds(self.settings.pre_stop_seconds)
    }

    /// The time that it has after the job's containers.
    fn grace_seconds(&self) -> u64 {
        self.pre_stop_seconds() + self.settings.flush_seconds + SPARE_SECONDS
    }
}

/// Why a pod is made without a sidecar, whatever was planned: the job could take from it what is not the job's.
pub fn withheld(effective: &Effective, logging: &Logging) -> Option<String> {
    let member = effective.work.shared_processes();
    let held = exposure::held(&logging.sidecar, logging.source, logging.credentials_secret.is_some());
    exposure::withheld(member.as_deref(), &held)
}

/// The annotations that tell of it.
pub(super) fn annotations(attempt: &Attempt<'_>) -> Vec<(String, String)> {
    let logging = match attempt.logs {
        Logs::Kept => return Vec::new(),
        Logs::Unrouted(why) => return vec![(meta::LOGS_NOT_ROUTED.to_owned(), why.to_owned())],
        Logs::Routed(logging) => logging,
    };
    if let Some(why) = withheld(attempt.effective, logging) {
        return vec![(meta::LOGS_NOT_ROUTED.to_owned(), why)];
    }
    let mut drivers: Vec<_> = logging.routed.iter().map(|one| one.route.driver.as_str()).collect();
    drivers.dedup();
    let mut told = vec![(meta::LOG_DRIVER.to_owned(), drivers.join(","))];
    with_pod(attempt, logging, |containers, pod| {
        let stream = containers.iter().find_map(|one| sidecar::log_stream(one, pod));
        told.extend(stream.map(|stream| (meta::LOG_STREAM.to_owned(), stream)));
    });
    let group = logging.routed.iter().find_map(|one| one.route.log_group());
    told.extend(group.map(|group| (meta::LOG_GROUP.to_owned(), group.to_owned())));
    let cut = logs::buffers_cut(&logging.sidecar.cut, attempt.environment, logging.routed.len() > 1);
    told.extend(cut.map(|cut| (meta::LOG_BUFFER.to_owned(), cut)));
    told
}

/// Says of the containers and of the pod what the sidecar is told.
fn with_pod<T>(
    attempt: &Attempt<'_>,
    logging: &Logging,
    tell: impl FnOnce(&[sidecar::Container<'_>], &sidecar::Pod<'_>) -> T,
) -> T {
    let containers: Vec<_> = logging
        .routed
        .iter()
        .map(|one| sidecar::Container {
            member: Member { container: &one.container, route: &one.route },
            stream: &one.stream,
            image: &one.image,
        })
        .collect();
    let (name, job_id) = (pod_name(attempt), container::job_id(attempt));
    let pod = sidecar::Pod {
        name: &name,
        job_id: &job_id,
        job_name: attempt.job_name,
        queue: attempt.queue_name,
        // An inline definition has no revision.
        definition: Some(attempt.definition).filter(|name| name.contains(':')),
        attempt: attempt.number,
        index: attempt.index(),
    };
    tell(&containers, &pod)
}

/// Gives the pod its sidecar, if it has one.
pub(super) fn give(attempt: &Attempt<'_>, spec: &mut PodSpec) {
    let Logs::Routed(logging) = attempt.logs else { return };
    if withheld(attempt.effective, logging).is_some() {
        return;
    }
    if !attempt.effective.cpu_as_stated() {
        let count = if logging.source == Source::Api { 2 } else { 1 };
        make_room(spec, count * logging.settings.cpu_milli);
    }
    let limits_disk = spec.containers.iter().any(|one| {
        let limits = one.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        limits.is_some_and(|limits| limits.contains_key("ephemeral-storage"))
    });
    let grace = i64::try_from(logging.grace_seconds()).unwrap_or(i64::MAX);
    let job_grace = spec.termination_grace_period_seconds.unwrap_or(attempt.grace_seconds);
    spec.termination_grace_period_seconds = Some(job_grace.saturating_add(grace));
    let (volumes, mounts) = volumes(logging).into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    spec.volumes.get_or_insert_default().extend(volumes);
    let mut ours = vec![one(attempt, logging, mounts, limits_disk)];
    if logging.source == Source::Api {
        spec.volumes.get_or_insert_default().push(follower::volume());
        ours.push(follower::container(attempt, logging, limits_disk));
    }
    spec.init_containers.get_or_insert_default().splice(0..0, ours);
}

/// The CPU that a job requests is a share of what it states, and the sidecar's is taken out of it: a job of all of a
/// node's vCPUs fits the node with a sidecar, too.
fn make_room(spec: &mut PodSpec, cpu_milli: i64) {
    let requests = |one: &mut Container| one.resources.as_mut()?.requests.as_mut()?.get_mut("cpu").cloned();
    let milli = |one: &mut Container| requests(one).map_or(0, |cpu| quantity::milli(&cpu.0));
    let most = spec.containers.iter_mut().map(milli).max().unwrap_or(0);
    let largest = spec.containers.iter_mut().find_map(|one| {
        let cpu = one.resources.as_mut()?.requests.as_mut()?.get_mut("cpu")?;
        (quantity::milli(&cpu.0) == most).then_some(cpu)
    });
    if let Some(cpu) = largest {
        *cpu = Quantity(format!("{}m", (most - cpu_milli).max(1)));
    }
}

fn one(attempt: &Attempt<'_>, logging: &Logging, mounts: Vec<VolumeMount>, limits_disk: bool) -> Container {
    let settings = &logging.settings;
    let sleep = SleepAction { seconds: i64::try_from(logging.pre_stop_seconds()).unwrap_or(i64::MAX) };
    let pre_stop = LifecycleHandler { sleep: Some(sleep), ..LifecycleHandler::default() };
    let lifecycle = Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() };
    let reads_files = logging.source == Source::Folder;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.pull_policy.clone()).filter(|policy| !policy.is_empty()),
        args: Some(vec![format!("--config={CONFIGURATION}/{CONFIGURATION_FILE}")]),
        env: Some(environment(attempt, logging)),
        resources: Some(resources(attempt, logging, limits_disk)),
        restart_policy: Some("Always".to_owned()),
        // A helper has read to the end when its own end lets the kubelet turn to the sidecar.
        lifecycle: Some(lifecycle).filter(|_| reads_files),
        readiness_probe: logging.sidecar.needs.probe.then(probe),
        volume_mounts: Some(mounts),
        security_context: Some(if reads_files { without_rights(0) } else { unprivileged() }),
        ..Container::default()
    }
}

/// The kubelet asks whether the sinks take what there is. Nothing waits for the answer: it is told of
/// (`controllers/batch_job/logs`).
fn probe() -> Probe {
    let seconds = |number: u32| i32::try_from(number).ok();
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(health::PATH.to_owned()),
            port: IntOrString::Int(health::PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: seconds(health::ASKED_SECONDS),
        failure_threshold: seconds(health::FAILURES),
        timeout_seconds: seconds(health::ASKED_SECONDS / 2),
        ..Probe::default()
    }
}

/// Whether the kubelet may be let ask a pod's sidecar. Pods that have their node's network would need a port each; and a
/// session is led to by a Service, which passes pods over whose containers are not all ready.
pub fn may_be_asked(plan: &Plan, effective: &Effective, environment: &ComputeEnvironmentSpec) -> bool {
    let on_host = super::is_on_host_network(effective, plan.host_network, environment);
    !on_host && plan.session.is_none()
}

/// Nobody, as the strictest rules for pods want it.
pub(super) fn unprivileged() -> SecurityContext {
    without_rights(NOBODY)
}

fn without_rights(user: i64) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(user != 0),
        privileged: Some(false),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

fn resources(attempt: &Attempt<'_>, logging: &Logging, limits_disk: bool) -> ResourceRequirements {
    let settings = &logging.settings;
    let mib = |amount: u64| Quantity(format!("{amount}Mi"));
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", settings.cpu_milli))),
        ("memory".to_owned(), mib(settings.memory_mib)),
    ]);
    let mut limits = BTreeMap::from([("memory".to_owned(), mib(settings.memory_limit_mib))]);
    if attempt.environment_spec.cpu_limit == Some(true) {
        // A quota of limits wants one of every container.
        limits.insert("cpu".to_owned(), Quantity(CPU_LIMIT.to_owned()));
    }
    if limits_disk {
        // The kubelet holds what all of the pod takes up against the sum of the limits: the buffer must not take what
        // is the job's.
        let disk = room(logging) + BUFFER_ROOM.1;
        limits.insert("ephemeral-storage".to_owned(), mib(disk));
        requests.insert("ephemeral-storage".to_owned(), mib(1));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

/// What the buffer may take up on disk, in MiB.
fn room(logging: &Logging) -> u64 {
    logging.sidecar.buffer_mib.saturating_mul(BUFFER_ROOM.0).saturating_add(BUFFER_ROOM.1)
}

/// A variable with something of the pod.
pub(super) fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
    from(name, EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() })
}

fn environment(attempt: &Attempt<'_>, logging: &Logging) -> Vec<EnvVar> {
    let mut all = vec![
        field("BATCHYARD_POD_NAMESPACE", "metadata.namespace"),
        field("BATCHYARD_POD_NAME", "metadata.name"),
        field("BATCHYARD_POD_UID", "metadata.uid"),
        field(NODE_VARIABLE, "spec.nodeName"),
    ];
    all.extend(logging.sidecar.needs.probe.then(|| field(health::ADDRESS_VARIABLE, "status.podIP")));
    let plain =
        with_pod(attempt, logging, |containers, pod| sidecar::environment(containers, logging.part, pod));
    all.extend(plain.iter().map(|(name, value)| container::var(name, value)));
    all.extend(logging.sidecar.secrets.iter().filter_map(|secret| secret_variable(secret, &logging.secret)));
    if let Some(secret) =
        logging.credentials_secret.as_ref().filter(|_| logging.sidecar.needs.aws_credentials)
    {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        all.extend(names.map(|name| from_secret(name, secret, name)));
    }
    all
}

fn from(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// A variable from a Secret that need not be there: one that is missing must not hold up the job.
fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: Some(true) };
    from(name, EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() })
}

fn secret_variable(variable: &SecretVariable, own: &str) -> Option<EnvVar> {
    match &variable.value {
        SecretText::Plain(_) => Some(from_secret(&variable.name, own, &variable.name)),
        SecretText::Reference(reference) => {
            let found = locate(reference).ok()?;
            Some(from_secret(&variable.name, &found.secret, &found.key))
        }
    }
}

/// The name of the volume with the buffer.
pub(super) fn buffer_volume() -> String {
    format!("{CONTAINER}-buffer")
}

/// The volumes, each with its place in the sidecar.
fn volumes(logging: &Logging) -> Vec<(Volume, VolumeMount)> {
    let needs = &logging.sidecar.needs;
    let name = |what: &str| format!("{CONTAINER}-{what}");
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let own_folder = |mount: VolumeMount| VolumeMount { sub_path_expr: Some(OWN_FOLDER.to_owned()), ..mount };
    let host = |name: &str, path: &str, type_: Option<&str>| Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource { path: path.to_owned(), type_: type_.map(str::to_owned) }),
        ..Volume::default()
    };
    let (config, pods, buffer) = (name("config"), name("pods"), buffer_volume());
    let reads_files = logging.source == Source::Folder;
    // Only the sidecar has these volumes; files of Secrets belong to the superuser.
    let mode = Some(if reads_files { 0o400 } else { 0o444 });
    let configuration = SecretVolumeSource {
        secret_name: Some(logging.secret.clone()),
        items: Some(vec![KeyToPath {
            key: CONFIGURATION_FILE.to_owned(),
            path: CONFIGURATION_FILE.to_owned(),
            mode: None,
        }]),
        default_mode: mode,
        optional: Some(true),
    };
    let size_limit = Some(Quantity(format!("{}Mi", room(logging))));
    let mut all = vec![(
        Volume { name: config.clone(), secret: Some(configuration), ..Volume::default() },
        mount(&config, CONFIGURATION, true),
    )];
    all.extend(reads_files.then(|| (host(&pods, POD_LOGS, None), own_folder(mount(&pods, LOGS, true)))));
    let empty_dir = Some(EmptyDirVolumeSource { size_limit, medium: None });
    let volume = Volume { name: buffer.clone(), empty_dir, ..Volume::default() };
    all.push((volume, mount(&buffer, BUFFER, false)));
    if !logging.sidecar.files.is_empty() {
        let name = name("certificates");
        let projected = ProjectedVolumeSource {
            sources: Some(logging.sidecar.files.iter().filter_map(certificate).collect()),
            default_mode: mode,
        };
        let volume = Volume { name: name.clone(), projected: Some(projected), ..Volume::default() };
        all.push((volume, mount(&name, CERTIFICATES, true)));
    }
    if needs.files {
        let name = name("files");
        let volume = host(&name, NODE_FILES, Some("DirectoryOrCreate"));
        all.push((volume, own_folder(mount(&name, FILES, false))));
    }
    for (number, (folder, place)) in needs.sockets.iter().enumerate() {
        let name = name(&format!("socket-{number}"));
        // A folder that is not there is made: without its socket the sidecar waits, and not the job.
        all.push((host(&name, folder, Some("DirectoryOrCreate")), mount(&name, place, true)));
    }
    all
}

fn certificate(file: &SecretFile) -> Option<VolumeProjection> {
    let found = locate(&file.reference).ok()?;
    let secret = SecretProjection {
        name: found.secret,
        items: Some(vec![KeyToPath { key: found.key, path: file.name.clone(), mode: None }]),
        optional: Some(true),
    };
    Some(VolumeProjection { secret: Some(secret), ..VolumeProjection::default() })
}
