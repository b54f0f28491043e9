//! Members of a spec that have no effect yet: nothing is ignored without saying so.
//!
//! The tables list what **is** honoured, so that a new member is reported until somebody honours it and says so
//! here. An entry stands for the member and all below it; `[]` is each element of a list. Paths below
//! `containerProperties` are the same for definitions and for jobs with an inline definition.

use batchyard_core::definition::container::{Architecture, System, User, is_known_mount_option};
use batchyard_core::waits::Kind as Wait;
use serde_json::Value;

use super::aws_compute::ImageKind;
use super::interactive;

/// The kinds that have a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `ComputeEnvironment`
    ComputeEnvironment,
    /// `JobQueue`
    JobQueue,
    /// `SchedulingPolicy`
    SchedulingPolicy,
    /// `ConsumableResource`
    ConsumableResource,
    /// `JobDefinition`
    JobDefinition,
    /// `BatchJob`
    BatchJob,
    /// `NotificationRule`
    NotificationRule,
}

// `tags` of the objects themselves are honoured by being kept, which is all that AWS does with them.

const COMPUTE_ENVIRONMENT: &[&str] = &[
    "computeEnvironmentName",
    "type",
    "state",
    "tags",
    "context",
    "computeResources.type",
    "computeResources.maxvCpus",
    "computeResources.instanceTypes",
    "provisioner.static.nodeSelector",
    "podDefaults.labels",
    "podDefaults.annotations",
    "podDefaults.tolerations",
    "podDefaults.nodeSelector",
    "podDefaults.priorityClassName",
    "podDefaults.schedulerName",
    "podDefaults.runtimeClassName",
    "podDefaults.imagePullSecrets",
    "podDefaults.imagePullPolicy",
    "network",
    "podSecurity",
    "nodeLostTimeoutSeconds",
    "vcpuRequestPercent",
    "cpuLimit",
    "capacityTimeoutSeconds",
    "unmanagedvCpus",
    "provisioner.static.autoscaled",
    "allowedNamespaces",
    "gpu",
    "devices",
    "sessions",
    "logging",
];

/// Besides, where new nodes may come for pods that wait.
const PROVISIONED: &[&str] = &["computeResources.desiredvCpus", MIN_VCPUS, "provisioner.static.autoscaled"];

/// vCPUs that are kept ready.
pub const MIN_VCPUS: &str = "computeResources.minvCpus";
/// How instance types are chosen.
pub const ALLOCATION_STRATEGY: &str = "computeResources.allocationStrategy";

/// Besides, where Karpenter makes the nodes.
const KARPENTER: &[&str] = &[
    "provisioner.karpenter.nodeClassRef",
    "provisioner.karpenter.requirements",
    "provisioner.karpenter.labels",
    "provisioner.karpenter.annotations",
    "provisioner.karpenter.taints",
    "provisioner.karpenter.startupTaints",
    "provisioner.karpenter.expireAfter",
    "provisioner.karpenter.consolidateAfter",
    "provisioner.karpenter.terminationGracePeriod",
    "provisioner.karpenter.weight",
    ALLOCATION_STRATEGY,
    "computeResources.scalingPolicy",
    "computeResources.tags",
    "updatePolicy",
];

/// Besides, where the EC2NodeClass is ours. Karpenter knows neither key pairs nor launch templates.
const EC2_NODE_CLASS: &[&str] = &[
    "provisioner.karpenter.amiAlias",
    "computeResources.subnets",
    "computeResources.securityGroupIds",
    "computeResources.instanceRole",
    "computeResources.imageId",
    "computeResources.ec2Configuration[].imageType",
    "computeResources.ec2Configuration[].imageIdOverride",
];

const JOB_QUEUE: &[&str] = &[
    "jobQueueName",
    "state",
    "priority",
    "tags",
    "computeEnvironmentOrder",
    "schedulingPolicyArn",
    "jobStateTimeLimitActions[].reason",
    "jobStateTimeLimitActions[].state",
    "jobStateTimeLimitActions[].maxTimeSeconds",
    "jobStateTimeLimitActions[].action",
    "maxRunning",
    "finishedJobsLimit",
    "strictFencing",
    "logging",
];

const SCHEDULING_POLICY: &[&str] = &["name", "tags", "fairsharePolicy"];

const CONSUMABLE_RESOURCE: &[&str] = &["consumableResourceName", "tags", "totalQuantity", "resourceType"];

/// All of it is ours.
const NOTIFICATION_RULE: &[&str] =
    &["state", "queues", "jobNames", "phases", "sessionReady", "blocked", "http", "smtp"];

const JOB_DEFINITION: &[&str] = &[
    "jobDefinitionName",
    "type",
    "tags",
    "parameters",
    "propagateTags",
    "retryStrategy",
    "timeout",
    "schedulingPriority",
    "consumableResourceProperties",
    "platformCapabilities",
    "deregistered",
    "registration",
    "session",
];

const BATCH_JOB: &[&str] = &[
    "jobName",
    "jobQueue",
    "jobDefinition",
    "jobId",
    "dependsOn",
    "dependencyTimeoutSeconds",
    "shareIdentifier",
    "schedulingPriorityOverride",
    "consumableResourcePropertiesOverride",
    "tags",
    "terminate",
    "cancel",
    "ttlSecondsAfterFinished",
    "arrayProperties",
    "childActions",
    "retryStrategy",
    "timeout",
    "parameters",
    "propagateTags",
    "containerOverrides.command",
    "containerOverrides.environment",
    "containerOverrides.resourceRequirements",
    "containerOverrides.vcpus",
    "containerOverrides.memory",
    "session",
];

const CONTAINER: &[&str] = &[
    "containerProperties.image",
    "containerProperties.command",
    "containerProperties.vcpus",
    "containerProperties.memory",
    "containerProperties.resourceRequirements",
    "containerProperties.environment",
    "containerProperties.jobRoleArn",
    "containerProperties.user",
    "containerProperties.readonlyRootFilesystem",
    "containerProperties.privileged",
    "containerProperties.volumes[].name",
    "containerProperties.volumes[].host.sourcePath",
    "containerProperties.volumes[].efsVolumeConfiguration.fileSystemId",
    "containerProperties.volumes[].efsVolumeConfiguration.rootDirectory",
    // The driver encrypts what is on the way, whether it is asked to or not.
    "containerProperties.volumes[].efsVolumeConfiguration.transitEncryption",
    "containerProperties.volumes[].efsVolumeConfiguration.authorizationConfig.accessPointId",
    "containerProperties.volumes[].s3filesVolumeConfiguration.fileSystemArn",
    "containerProperties.volumes[].s3filesVolumeConfiguration.rootDirectory",
    "containerProperties.volumes[].s3filesVolumeConfiguration.accessPointArn",
    "containerProperties.mountPoints",
    "containerProperties.secrets",
    "containerProperties.repositoryCredentials",
    "containerProperties.logConfiguration",
    "containerProperties.ephemeralStorage",
    "containerProperties.runtimePlatform",
    // kubectl exec asks for the right to do so, not for this.
    "containerProperties.enableExecuteCommand",
    "containerProperties.linuxParameters.initProcessEnabled",
    "containerProperties.linuxParameters.sharedMemorySize",
    "containerProperties.linuxParameters.tmpfs",
];

/// Besides, of a privileged container.
const PRIVILEGED: &[&str] = &[DEVICES];

/// Devices of the host.
const DEVICES: &str = "containerProperties.linuxParameters.devices";

/// What people are told beside the path of a member that has no effect by itself.
const NOTES: &[(&str, &str)] = &[
    ("containerProperties.ulimits", "only nodes with the NRI plugin ulimit-adjuster set them"),
    (DEVICES, "only where the environment names a resource for the device, or the job is privileged"),
    ("containerProperties.user", "the image knows users by name, Kubernetes by number"),
    ("containerProperties.executionRoleArn", "nodes pull images, and Secrets are filled by others"),
];

/// Besides, what `ecsProperties` and `eksProperties` say. A task, and each of its containers, are looked up as
/// `containerProperties`, of which a container of a task has the members: see [`ALIASES`].
const SEVERAL: &[&str] = &[
    "ecsProperties.taskProperties[].containers[]",
    "containerProperties.containers[]",
    "containerProperties.name",
    "containerProperties.essential",
    "containerProperties.dependsOn",
    "containerProperties.startTimeout",
    "containerProperties.stopTimeout",
    "containerProperties.ipcMode",
    "containerProperties.pidMode",
    "containerProperties.networkMode",
    "ecsPropertiesOverride.taskProperties[].containers[]",
    "containerOverrides.name",
    "eksProperties.podProperties",
    "eksPropertiesOverride.podProperties",
];

/// Of definitions and of jobs that are a definition too. What stands in a group's `container` is looked up as
/// `containerProperties`, and what stands in its overrides as `containerOverrides`: see [`ALIASES`].
const NODES: &[&str] = &[
    "nodeProperties.numNodes",
    "nodeProperties.mainNode",
    "nodeProperties.nodeRangeProperties[].targetNodes",
    "nodeProperties.nodeRangeProperties[].instanceTypes",
    "nodeProperties.nodeRangeProperties[].consumableResourceProperties",
    "nodeOverrides.numNodes",
    "nodeOverrides.nodePropertyOverrides[].targetNodes",
    "nodeOverrides.nodePropertyOverrides[].instanceTypes",
    "nodeOverrides.nodePropertyOverrides[].consumableResourcePropertiesOverride",
];

/// Besides, of a multi-node job.
const NODE_CONTAINER: &[&str] = &["containerProperties.instanceType", "containerOverrides.instanceType"];

/// Members that are looked up by another name.
const ALIASES: &[(&str, &str)] = &[
    ("nodeProperties.nodeRangeProperties[].container", "containerProperties"),
    ("nodeProperties.nodeRangeProperties[].ecsProperties", "ecsProperties"),
    ("nodeProperties.nodeRangeProperties[].eksProperties", "eksProperties"),
    ("nodeOverrides.nodePropertyOverrides[].containerOverrides", "containerOverrides"),
    ("nodeOverrides.nodePropertyOverrides[].ecsPropertiesOverride", "ecsPropertiesOverride"),
    ("nodeOverrides.nodePropertyOverrides[].eksPropertiesOverride", "eksPropertiesOverride"),
    ("ecsProperties.taskProperties[]", "containerProperties"),
    ("containerProperties.containers[]", "containerProperties"),
    ("containerProperties.taskRoleArn", "containerProperties.jobRoleArn"),
    (
        "containerProperties.platformVersion",
        "containerProperties.fargatePlatformConfiguration.platformVersion",
    ),
    ("ecsPropertiesOverride.taskProperties[].containers[]", "containerOverrides"),
];

/// Says whether a value is one of those that are honoured.
type Test = fn(&Value) -> bool;

/// Members that are honoured for some values only.
const HONOURED_VALUES: &[(&str, Test)] = &[
    ("containerProperties.user", is_known_user),
    ("containerProperties.ipcMode", is_shared),
    ("containerProperties.networkMode", is_host),
    ("containerProperties.linuxParameters.tmpfs[].mountOptions[]", is_known_option),
    ("containerProperties.runtimePlatform.cpuArchitecture", is_known_architecture),
    ("containerProperties.runtimePlatform.operatingSystemFamily", is_known_system),
    ("platformCapabilities[]", is_known_platform),
    ("jobStateTimeLimitActions[].reason", is_ever_told),
    ("jobStateTimeLimitActions[].action", is_cancel),
    (ALLOCATION_STRATEGY, is_karpenters_strategy),
    ("computeResources.ec2Configuration[].imageType", is_known_image),
];

/// Values that say the same as their absence, beside null, false, "", [] and {}.
const NEUTRAL_VALUES: &[(&str, &[&str])] = &[
    ("computeResources.bidPercentage", &["0", "100"]),
    ("computeResources.minvCpus", &["0"]),
    ("computeResources.desiredvCpus", &["0"]),
    ("computeResources.scalingPolicy.minScaleDownDelayMinutes", &["0"]),
    ("ecsSettings.containerInsights", &["DISABLED"]),
    ("containerProperties.linuxParameters.maxSwap", &["0"]),
    ("containerProperties.networkConfiguration.assignPublicIp", &["DISABLED"]),
    ("containerProperties.fargatePlatformConfiguration.platformVersion", &["LATEST"]),
    ("containerProperties.volumes[].efsVolumeConfiguration.authorizationConfig.iam", &["DISABLED"]),
    ("containerProperties.volumes[].efsVolumeConfiguration.transitEncryptionPort", &["0"]),
    ("containerProperties.volumes[].s3filesVolumeConfiguration.transitEncryptionPort", &["0"]),
];

/// Members that make a job what it is: with one of these left out it would be another job.
const DECISIVE: &[&str] =
    &["arrayProperties", "consumableResourceProperties", "consumableResourcePropertiesOverride"];

/// The parameter that may hold options of `docker run`.
const OPTIONS: &str = "parameters.command";

/// The paths of the members of a spec that have no effect and yet say something, sorted; for example
/// `computeResources.subnets` or `containerProperties.volumes[1].efsVolumeConfiguration`.
pub fn ignored_fields(kind: Kind, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(&honoured(kind, spec), &Path::default(), spec, &mut found);
    if matches!(kind, Kind::JobDefinition | Kind::BatchJob) {
        found.extend(interactive::without_effect(spec));
    }
    if kind == Kind::JobDefinition
        && let Some(options) = interactive::docker_options(spec)
    {
        found.extend(options.without_effect.iter().map(|option| format!("{OPTIONS} ({option})")));
    }
    found.sort();
    found
}

/// The paths of the members of a spec that nothing honours and that make the job what it is, sorted. A job that
/// has one must be refused.
pub fn unsupported_fields(kind: Kind, spec: &Value) -> Vec<String> {
    if !matches!(kind, Kind::JobDefinition | Kind::BatchJob) {
        return Vec::new();
    }
    let honoured = honoured(kind, spec);
    let decisive = DECISIVE.iter().filter(|member| !honoured.contains(*member)).flat_map(|member| {
        let stated = at(spec, member).into_iter().filter(|(_, value)| !is_neutral(member, value));
        stated.map(|(shown, _)| shown)
    });
    let mut found: Vec<String> = decisive.collect();
    found.sort();
    found
}

/// What stands at a place that the tables know by this pattern, with the path that people are told.
fn at<'v>(spec: &'v Value, pattern: &str) -> Vec<(String, &'v Value)> {
    let mut places = vec![(String::new(), spec)];
    for member in pattern.split('.') {
        let (name, is_list) = member.strip_suffix("[]").map_or((member, false), |name| (name, true));
        let inside = places.into_iter().filter_map(|(shown, value)| {
            let dot = if shown.is_empty() { "" } else { "." };
            Some((format!("{shown}{dot}{name}"), value.get(name)?))
        });
        places = match is_list {
            false => inside.collect(),
            true => inside
                .flat_map(|(shown, list)| {
                    let elements = list.as_array().into_iter().flatten().enumerate();
                    elements.map(move |(index, element)| (format!("{shown}[{index}]"), element))
                })
                .collect(),
        };
    }
    places
}

fn honoured(kind: Kind, spec: &Value) -> Vec<&'static str> {
    match kind {
        Kind::ComputeEnvironment => match spec.pointer("/provisioner/karpenter") {
            None | Some(Value::Null) => {
                let autoscaled = spec.pointer("/provisioner/static/autoscaled") == Some(&Value::Bool(true));
                [COMPUTE_ENVIRONMENT, if autoscaled { PROVISIONED } else { &[] }].concat()
            }
            Some(karpenter) if karpenter.get("nodeClassRef").is_some() => {
                [COMPUTE_ENVIRONMENT, PROVISIONED, KARPENTER].concat()
            }
            Some(_) => [COMPUTE_ENVIRONMENT, PROVISIONED, KARPENTER, EC2_NODE_CLASS].concat(),
        },
        Kind::JobQueue => JOB_QUEUE.to_vec(),
        Kind::SchedulingPolicy => SCHEDULING_POLICY.to_vec(),
        Kind::ConsumableResource => CONSUMABLE_RESOURCE.to_vec(),
        Kind::NotificationRule => NOTIFICATION_RULE.to_vec(),
        Kind::JobDefinition => {
            [JOB_DEFINITION, CONTAINER, SEVERAL, privileged(spec), NODES, nodes(spec), options(spec)].concat()
        }
        Kind::BatchJob => [BATCH_JOB, CONTAINER, SEVERAL, privileged(spec), NODES, nodes(spec)].concat(),
    }
}

/// A privileged container sees all devices of its node.
fn privileged(spec: &Value) -> &'static [&'static str] {
    let is_privileged = spec.pointer("/containerProperties/privileged") == Some(&Value::Bool(true));
    if is_privileged { PRIVILEGED } else { &[] }
}

/// Options of `docker run` are looked at one by one.
fn options(spec: &Value) -> &'static [&'static str] {
    if interactive::docker_options(spec).is_some() { &[OPTIONS] } else { &[] }
}

/// A job has either one container or groups of nodes with one each.
fn nodes(spec: &Value) -> &'static [&'static str] {
    let is_there = |member: &str| spec.get(member).is_some_and(|value| !value.is_null());
    if is_there("nodeProperties") || is_there("nodeOverrides") { NODE_CONTAINER } else { &[] }
}

/// A place in a spec: as the tables write it, and as people are told.
#[derive(Clone, Debug, Default)]
struct Path {
    pattern: String,
    shown: String,
}

impl Path {
    fn member(&self, name: &str) -> Self {
        let dot = if self.pattern.is_empty() { "" } else { "." };
        let pattern = known(format!("{}{dot}{name}", self.pattern));
        Self { pattern, shown: format!("{}{dot}{name}", self.shown) }
    }

    /// As people are told, with what they should know besides.
    fn told(&self) -> String {
        match NOTES.iter().find(|(pattern, _)| *pattern == self.pattern) {
            None => self.shown.clone(),
            Some((_, note)) => format!("{} ({note})", self.shown),
        }
    }

    fn element(&self, index: usize) -> Self {
        Self { pattern: known(format!("{}[]", self.pattern)), shown: format!("{}[{index}]", self.shown) }
    }
}

/// The name by which a member is looked up.
fn known(pattern: String) -> String {
    match ALIASES.iter().find(|(name, _)| *name == pattern) {
        Some((_, alias)) => (*alias).to_owned(),
        None => pattern,
    }
}

fn walk(honoured: &[&str], at: &Path, value: &Value, found: &mut Vec<String>) {
    let is_honoured = honoured.iter().any(|entry| below(&at.pattern, entry));
    let test = HONOURED_VALUES.iter().find(|(pattern, _)| *pattern == at.pattern);
    if let Some((_, test)) = test.filter(|_| is_honoured) {
        if !test(value) && !is_neutral(&at.pattern, value) {
            found.push(at.told());
        }
        return;
    }
    let holds_a_test = HONOURED_VALUES.iter().any(|(pattern, _)| {
        below(pattern, &at.pattern) && honoured.iter().any(|entry| below(pattern, entry))
    });
    let holds_honoured = honoured.iter().any(|entry| below(entry, &at.pattern));
    match value {
        _ if is_honoured && !holds_a_test => {}
        Value::Object(members) if holds_honoured || holds_a_test => {
            members.iter().for_each(|(name, value)| walk(honoured, &at.member(name), value, found));
        }
        Value::Array(elements) if holds_honoured || holds_a_test => {
            let elements = elements.iter().enumerate();
            elements.for_each(|(index, value)| walk(honoured, &at.element(index), value, found));
        }
        _ if is_honoured || is_neutral(&at.pattern, value) => {}
        _ => found.push(at.told()),
    }
}

/// True if `path` is `ancestor` or a place below it.
fn below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| {
        ancestor.is_empty() || rest.is_empty() || rest.starts_with('.') || rest.starts_with("[]")
    })
}

fn is_neutral(pattern: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) if text.is_empty() => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => {
            members.iter().all(|(name, value)| is_neutral(&format!("{pattern}.{name}"), value))
        }
        _ => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            NEUTRAL_VALUES.iter().any(|(path, texts)| *path == pattern && texts.contains(&text.as_str()))
        }
    }
}

/// A number, or two with a colon between: a name would have to be looked up in the image.
fn is_known_user(value: &Value) -> bool {
    value.as_str().is_some_and(|text| User::parse(text).is_some())
}

/// Whether a queue is ever said to be blocked for this reason. What no node can take today may fit a node that joins
/// tomorrow, and that is never told as AWS tells it; that no instance type has GPUs is.
fn is_ever_told(value: &Value) -> bool {
    let told = [
        Wait::InsufficientInstanceCapacity,
        Wait::ComputeEnvironmentMaxResource,
        Wait::JobResourceRequirement,
    ];
    value.as_str().is_some_and(|reason| told.iter().any(|kind| kind.code() == Some(reason)))
}

/// The containers of a pod share their IPC namespace, so that `none` can only be had by a container that is alone.
fn is_shared(value: &Value) -> bool {
    value == "host" || value == "task"
}

fn is_host(value: &Value) -> bool {
    value == "host"
}

/// TERMINATE is for SageMaker queues.
fn is_cancel(value: &Value) -> bool {
    value == "CANCEL"
}

fn is_known_platform(value: &Value) -> bool {
    value == "EC2" || value == "FARGATE"
}

fn is_known_option(value: &Value) -> bool {
    value.as_str().is_some_and(is_known_mount_option)
}

fn is_known_architecture(value: &Value) -> bool {
    value.as_str().is_some_and(|text| Architecture::parse(text).is_some())
}

fn is_known_system(value: &Value) -> bool {
    value.as_str().is_some_and(|text| System::parse(text).is_some())
}

/// What Karpenter does anyway: the cheapest types on demand, price and capacity for spot.
fn is_karpenters_strategy(value: &Value) -> bool {
    value == "BEST_FIT_PROGRESSIVE" || value == "SPOT_PRICE_CAPACITY_OPTIMIZED"
}

fn is_known_image(value: &Value) -> bool {
    value.as_str().is_some_and(|image_type| ImageKind::of(image_type).is_some())
}
