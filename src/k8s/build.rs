//! From an attempt to its pod. Pure: the same attempt gives the same pod.

use std::collections::BTreeMap;

use batchyard_core::definition::{Effective, Properties};
use batchyard_core::name;
use batchyard_core::termination::create::PodMember;
use k8s_openapi::api::core::v1::{
    Affinity, Container, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, NodeAffinity, NodeSelector, Pod,
    PodSchedulingGate, PodSpec, ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::gangs;
use super::meta;
use super::observe::GPU;
use super::pool::{INSTANCE_TYPE, Pool};
use super::tokens;
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::compute_environment::{ImagePullPolicy, Network, PodDefaults};
use crate::seeded_bugs::{Bug, has};

/// The share of a job's vCPUs that its pod requests when the environment does not say, in percent.
///
/// A node's allocatable CPU is below its size, yet a job of 8 vCPUs must fit a node of 8.
pub const VCPU_REQUEST_PERCENT: i64 = 90;

/// The name of the job's container, as ECS and EKS have it.
const CONTAINER: &str = "default";

/// Everything that a pod is made from.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// The namespace of the job.
    pub namespace: &'a str,
    /// The BatchJob's name.
    pub job_name: &'a str,
    /// The BatchJob's uid.
    pub job_uid: &'a str,
    /// The job's id, which may differ from the uid.
    pub job_id: &'a str,
    /// Which child of an array the pod runs, if it does.
    pub child: Option<Child>,
    /// Which node of a multi-node job it is, if it is one.
    pub node: Option<gangs::Node<'a>>,
    /// The queue's AWS name.
    pub queue_name: &'a str,
    /// The queue's object name.
    pub queue: &'a str,
    /// `shareIdentifier` of the job.
    pub share: Option<&'a str>,
    /// The tokens that it takes, by the `namespace/name` of their ConsumableResource.
    pub tokens: &'a [(String, i64)],
    /// The definition and revision.
    pub definition: &'a str,
    /// The attempt, from 1.
    pub number: u32,
    /// Which pod of the attempt, from 0.
    pub placement: u32,
    /// The environment's object name.
    pub environment: &'a str,
    /// The environment.
    pub environment_spec: &'a ComputeEnvironmentSpec,
    /// Its nodes.
    pub pool: &'a Pool,
    /// The ServiceAccount that stands for the job's role.
    pub service_account: Option<&'a str>,
    /// What the job runs.
    pub effective: &'a Effective,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: i64,
    /// `strictFencing` of the queue: the pod is not to be bound before its uid is on record.
    pub fenced: bool,
    /// Whether the last lines of a failed container's output are kept in its status.
    pub log_tail: bool,
}

/// A child of an array.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// Its index, from 0.
    pub index: u32,
    /// How many children the array has.
    pub size: u32,
}

impl Attempt<'_> {
    /// The index of the child or of the node.
    fn index(&self) -> Option<u32> {
        self.child.map(|child| child.index).or_else(|| self.node.map(|node| node.index))
    }
}

/// Builds the pod of an attempt.
pub fn pod(attempt: &Attempt<'_>) -> Pod {
    let defaults = attempt.environment_spec.pod_defaults.clone().unwrap_or_default();
    Pod { metadata: metadata(attempt, &defaults), spec: Some(spec(attempt, defaults)), status: None }
}

/// What an environment puts into its pods that the API server may refuse, with the words that a
/// refusal would quote where the job has a say too.
pub fn pod_members(environment: &ComputeEnvironmentSpec) -> Vec<PodMember<'_>> {
    fn words(map: &BTreeMap<String, String>) -> Vec<&str> {
        map.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect()
    }
    let mut members = Vec::new();
    let mut add = |is_set: bool, member: &'static str, words| {
        if is_set {
            members.push((member, words));
        }
    };
    if let Some(defaults) = &environment.pod_defaults {
        add(defaults.priority_class_name.is_some(), "podDefaults.priorityClassName", vec![]);
        add(defaults.runtime_class_name.is_some(), "podDefaults.runtimeClassName", vec![]);
        add(defaults.scheduler_name.is_some(), "podDefaults.schedulerName", vec![]);
        add(!defaults.tolerations.is_empty(), "podDefaults.tolerations", vec![]);
        add(!defaults.node_selector.is_empty(), "podDefaults.nodeSelector", vec![]);
        add(!defaults.image_pull_secrets.is_empty(), "podDefaults.imagePullSecrets", vec![]);
        add(!defaults.labels.is_empty(), "podDefaults.labels", words(&defaults.labels));
        add(!defaults.annotations.is_empty(), "podDefaults.annotations", words(&defaults.annotations));
    }
    let selects = environment.provisioner.as_ref().and_then(|provisioner| provisioner.r#static.as_ref());
    let selects = selects.is_some_and(|pool| !pool.node_selector.is_empty());
    add(selects, "provisioner.static.nodeSelector", vec![]);
    add(environment.network == Some(Network::Host), "network", vec![]);
    members
}

/// The CPU that a pod requests for a job's vCPUs, in thousandths.
pub fn cpu_request_milli(vcpus_milli: i64, environment: &ComputeEnvironmentSpec) -> i64 {
    let percent = environment.vcpu_request_percent.map_or(VCPU_REQUEST_PERCENT, i64::from);
    (vcpus_milli * percent / 100).max(1)
}

fn metadata(attempt: &Attempt<'_>, defaults: &PodDefaults) -> ObjectMeta {
    let text = |value: &str| value.to_owned();
    let mut labels = defaults.labels.clone();
    labels.extend([
        (text(meta::MANAGED_BY), text(meta::OPERATOR)),
        (text(meta::JOB_NAME), name::slug(attempt.job_name)),
        (text(meta::JOB_ID), text(attempt.job_id)),
        (text(meta::JOB_QUEUE), name::slug(attempt.queue)),
        (text(meta::COMPUTE_ENVIRONMENT), name::slug(attempt.environment)),
        (text(meta::ATTEMPT), attempt.number.to_string()),
    ]);
    if let Some(index) = attempt.index() {
        labels.insert(text(meta::INDEX), index.to_string());
    }
    if let Some((definition, _)) = attempt.definition.split_once(':') {
        labels.insert(text(meta::JOB_DEFINITION), name::slug(definition));
    }
    let mut annotations = defaults.annotations.clone();
    annotations.extend([
        (text(meta::JOB), format!("{}/{}", attempt.job_name, attempt.job_uid)),
        (text(meta::ATTEMPT), attempt.number.to_string()),
        (text(meta::PLACEMENT), attempt.placement.to_string()),
        (text(meta::COMPUTE_ENVIRONMENT), text(attempt.environment)),
        (text(meta::VCPUS_MILLI), attempt.effective.amounts.vcpus_milli.to_string()),
        // Autoscalers leave a node alone while a job runs on it.
        (text("karpenter.sh/do-not-disrupt"), text("true")),
        (text("cluster-autoscaler.kubernetes.io/safe-to-evict"), text("false")),
    ]);
    annotations
        .extend(tokens::annotation(attempt.tokens).map(|held| (text(meta::CONSUMABLE_RESOURCES), held)));
    annotations.extend(attempt.index().map(|index| (text(meta::INDEX), index.to_string())));
    annotations.extend(attempt.share.map(|share| (text(meta::SHARE_IDENTIFIER), text(share))));
    ObjectMeta {
        name: Some(name::pod(
            attempt.job_name,
            attempt.job_uid,
            attempt.index(),
            attempt.number,
            attempt.placement,
        )),
        namespace: Some(text(attempt.namespace)),
        labels: Some(labels),
        annotations: Some(annotations),
        finalizers: Some(vec![text(meta::ATTEMPT_FINALIZER)]).filter(|_| !has(Bug::NoFinalizer)),
        owner_references: Some(vec![OwnerReference {
            api_version: text("batchyard.io/v1alpha1"),
            kind: text("BatchJob"),
            name: text(attempt.job_name),
            uid: text(attempt.job_uid),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn spec(attempt: &Attempt<'_>, defaults: PodDefaults) -> PodSpec {
    let pool = attempt.pool;
    let node_affinity = (!pool.terms.is_empty()).then(|| NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: pool.terms.clone(),
        }),
        ..NodeAffinity::default()
    });
    let pod_anti_affinity = attempt.node.map(|_| gangs::apart(attempt.job_id));
    let affinity = (node_affinity.is_some() || pod_anti_affinity.is_some()).then(|| Affinity {
        node_affinity,
        pod_anti_affinity,
        ..Affinity::default()
    });
    let mut node_selector = pool.node_selector.clone();
    let wanted = attempt.node.and_then(|node| node.instance_type);
    node_selector.extend(wanted.map(|wanted| (INSTANCE_TYPE.to_owned(), wanted.to_owned())));
    let host_network = attempt.environment_spec.network == Some(Network::Host);
    let properties = &attempt.effective.properties;
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        containers: vec![container(attempt, &defaults)],
        volumes: some(volumes(properties)),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        hostname: attempt.node.map(|node| format!("node-{}", node.index)),
        subdomain: attempt.node.map(|_| name::gang(attempt.job_name, attempt.job_uid)),
        tolerations: some(pool.tolerations.clone()),
        affinity,
        host_network: host_network.then_some(true),
        dns_policy: host_network.then(|| "ClusterFirstWithHostNet".to_owned()),
        service_account_name: attempt.service_account.map(str::to_owned),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        priority_class_name: defaults.priority_class_name,
        scheduler_name: defaults.scheduler_name,
        runtime_class_name: defaults.runtime_class_name,
        image_pull_secrets: some(defaults.image_pull_secrets),
        termination_grace_period_seconds: Some(attempt.grace_seconds),
        scheduling_gates: attempt.fenced.then(|| vec![PodSchedulingGate { name: meta::FENCE.to_owned() }]),
        ..PodSpec::default()
    }
}

fn container(attempt: &Attempt<'_>, defaults: &PodDefaults) -> Container {
    let properties = &attempt.effective.properties;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(properties.image.clone()),
        image_pull_policy: defaults.image_pull_policy.map(|policy| match policy {
            ImagePullPolicy::Always => "Always".to_owned(),
            ImagePullPolicy::IfNotPresent => "IfNotPresent".to_owned(),
            ImagePullPolicy::Never => "Never".to_owned(),
        }),
        // AWS's command is Docker's CMD; the image's ENTRYPOINT stays.
        args: some(properties.command.iter().map(|part| literal(part)).collect()),
        env: Some(environment(attempt)),
        resources: Some(resources(attempt)),
        volume_mounts: some(mounts(properties)),
        security_context: Some(security(properties)),
        termination_message_policy: attempt.log_tail.then(|| "FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The job's variables and AWS's
/// (<https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html>).
fn environment(attempt: &Attempt<'_>) -> Vec<EnvVar> {
    let var = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(literal(value)),
        ..EnvVar::default()
    };
    let id = match attempt.node {
        Some(node) => format!("{}#{}", attempt.job_id, node.index),
        None => name::part(attempt.job_id, attempt.child.map(|child| child.index)),
    };
    let mut ours = vec![
        ("AWS_BATCH_JOB_ID", id),
        ("AWS_BATCH_JOB_ATTEMPT", attempt.number.to_string()),
        ("AWS_BATCH_JQ_NAME", attempt.queue_name.to_owned()),
        ("AWS_BATCH_CE_NAME", environment_name(attempt)),
    ];
    if let Some(child) = attempt.child {
        ours.push(("AWS_BATCH_JOB_ARRAY_INDEX", child.index.to_string()));
        ours.push(("AWS_BATCH_JOB_ARRAY_SIZE", child.size.to_string()));
    }
    if let Some(node) = attempt.node {
        ours.push(("AWS_BATCH_JOB_NODE_INDEX", node.index.to_string()));
        ours.push(("AWS_BATCH_JOB_MAIN_NODE_INDEX", node.main.to_string()));
        ours.push(("AWS_BATCH_JOB_NUM_NODES", node.count.to_string()));
    }
    let theirs = attempt.effective.properties.environment.iter().map(|(name, value)| var(name, value));
    let address = attempt.node.filter(|node| node.index != node.main).map(|_| {
        let Attempt { job_name, job_uid, number, placement, .. } = attempt;
        gangs::main_address(job_name, job_uid, (*number, *placement))
    });
    theirs.chain(ours.iter().map(|(name, value)| var(name, value))).chain(address).collect()
}

/// Kubernetes would expand `$(NAME)` and read `$$` as `$`; AWS does neither.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn environment_name(attempt: &Attempt<'_>) -> String {
    let name = attempt.environment_spec.compute_environment_name.clone();
    name.unwrap_or_else(|| attempt.environment.to_owned())
}

fn resources(attempt: &Attempt<'_>) -> ResourceRequirements {
    let amounts = &attempt.effective.amounts;
    let milli = |n: i64| Quantity(format!("{n}m"));
    let memory = Quantity(format!("{}Mi", amounts.memory_mib));
    let request = cpu_request_milli(amounts.vcpus_milli, attempt.environment_spec);
    let mut requests =
        BTreeMap::from([("cpu".to_owned(), milli(request)), ("memory".to_owned(), memory.clone())]);
    let mut limits = BTreeMap::from([("memory".to_owned(), memory)]);
    if attempt.environment_spec.cpu_limit == Some(true) {
        limits.insert("cpu".to_owned(), milli(amounts.vcpus_milli));
    }
    if amounts.gpus > 0 {
        let count = Quantity(amounts.gpus.to_string());
        requests.insert(GPU.to_owned(), count.clone());
        limits.insert(GPU.to_owned(), count);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn security(properties: &Properties) -> SecurityContext {
    SecurityContext {
        privileged: properties.privileged.then_some(true),
        read_only_root_filesystem: Some(properties.readonly_root),
        run_as_user: properties.user.map(|user| user.uid),
        run_as_group: properties.user.and_then(|user| user.gid),
        ..SecurityContext::default()
    }
}

/// Names of volumes that we add; a user's volume names become slugs, which never begin like this.
const SHARED_MEMORY: &str = "shared-memory";

fn volumes(properties: &Properties) -> Vec<Volume> {
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

fn mounts(properties: &Properties) -> Vec<VolumeMount> {
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

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use batchyard_core::definition::requirements::Amounts;
    use batchyard_core::definition::{Mount, Tmpfs, User, Volume};
    use serde_json::{Value, json};

    use super::*;

    fn effective(properties: Properties) -> Effective {
        Effective { properties, amounts: Amounts { vcpus_milli: 2000, memory_mib: 256, gpus: 0 } }
    }

    fn built(environment: Value, effective: &Effective) -> Value {
        let environment: ComputeEnvironmentSpec =
            serde_json::from_value(environment).expect("an environment");
        let made = pod(&Attempt {
            namespace: "team",
            job_name: "render",
            job_uid: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
            job_id: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e",
            child: None,
            node: None,
            queue_name: "queue-0",
            queue: "queue-0",
            share: Some("teamA"),
            tokens: &[],
            definition: "randomEC:3",
            number: 2,
            placement: 1,
            environment: "compute-0",
            environment_spec: &environment,
            pool: &Pool::of("pool", &environment, &[]),
            service_account: None,
            effective,
            grace_seconds: 30,
            fenced: false,
            log_tail: true,
        });
        serde_json::to_value(made).expect("a pod is plain data")
    }

    fn spot() -> Value {
        json!({"type": "MANAGED", "computeResources": {"type": "SPOT", "maxvCpus": 32}})
    }

    #[test]
    fn a_pod_says_whose_it_is_and_is_held_until_it_is_counted() {
        let pod = built(spot(), &effective(Properties { image: "alpine".into(), ..Properties::default() }));
        let metadata = &pod["metadata"];
        assert_eq!(metadata["name"], "render-0f8b3c1a-2-1");
        assert_eq!(metadata["finalizers"], json!(["batchyard.io/attempt"]));
        assert_eq!(metadata["ownerReferences"][0]["uid"], "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e");
        assert_eq!(metadata["annotations"]["batchyard.io/attempt"], "2");
        assert_eq!(metadata["annotations"]["batchyard.io/placement"], "1");
        assert_eq!(metadata["annotations"]["batchyard.io/vcpus-milli"], "2000");
        assert_eq!(metadata["annotations"]["batchyard.io/share-identifier"], "teamA");
        assert_eq!(metadata["labels"]["batchyard.io/job-definition"], "randomec-143dbd");
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        assert_eq!(pod["spec"]["containers"][0]["terminationMessagePolicy"], "FallbackToLogsOnError");
    }

    #[test]
    fn cpu_is_a_share_and_memory_a_limit() {
        let job = effective(Properties::default());
        let resources =
            |environment: Value| built(environment, &job)["spec"]["containers"][0]["resources"].clone();
        assert_eq!(
            resources(spot()),
            json!({"requests": {"cpu": "1800m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}})
        );
        let mut strict = spot();
        strict["vcpuRequestPercent"] = json!(100);
        strict["cpuLimit"] = json!(true);
        assert_eq!(
            resources(strict),
            json!({"requests": {"cpu": "2000m", "memory": "256Mi"}, "limits": {"cpu": "2000m", "memory": "256Mi"}})
        );
        let gpu = Effective { amounts: Amounts { gpus: 1, ..job.amounts }, ..job.clone() };
        let pod = built(spot(), &gpu);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    }

    #[test]
    fn commands_and_variables_reach_the_program_as_written() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let job = effective(Properties {
            command: vec!["sh".into(), "-c".into(), "echo $(HOME) $$ $x".into()],
            environment: vec![pair("A", "$(B)")],
            ..Properties::default()
        });
        let container = built(spot(), &job)["spec"]["containers"][0].clone();
        assert_eq!(container["args"][2], "echo $$(HOME) $$$$ $$x");
        assert_eq!(container["env"][0], json!({"name": "A", "value": "$$(B)"}));
        let aws: Vec<_> = (1..5)
            .map(|i| (container["env"][i]["name"].clone(), container["env"][i]["value"].clone()))
            .collect();
        assert_eq!(
            json!(aws),
            json!([
                ["AWS_BATCH_JOB_ID", "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e"],
                ["AWS_BATCH_JOB_ATTEMPT", "2"],
                ["AWS_BATCH_JQ_NAME", "queue-0"],
                ["AWS_BATCH_CE_NAME", "compute-0"]
            ])
        );
    }

    #[test]
    fn volumes_and_memory_file_systems() {
        let job = effective(Properties {
            user: Some(User { uid: 1000, gid: Some(100) }),
            privileged: true,
            readonly_root: true,
            volumes: vec![
                Volume { name: "Data_Set".into(), host_path: Some("/data".into()) },
                Volume { name: "scratch".into(), host_path: None },
            ],
            mounts: vec![
                Mount { volume: "Data_Set".into(), path: "/in".into(), read_only: true },
                Mount { volume: "scratch".into(), path: "/tmp".into(), read_only: false },
            ],
            tmpfs: vec![Tmpfs { path: "/run".into(), size_mib: 64 }],
            shared_memory_mib: Some(512),
            ..Properties::default()
        });
        let spec = built(spot(), &job)["spec"].clone();
        let names = |list: &Value| -> Vec<String> {
            let items = list.as_array().expect("a list").iter();
            items.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let volumes = names(&spec["volumes"]);
        assert_eq!(names(&spec["containers"][0]["volumeMounts"]), volumes, "each volume is mounted once");
        assert!(volumes.iter().all(|name| name.len() <= 63 && !name.contains(['_', 'D'])), "{volumes:?}");
        assert_eq!(spec["volumes"][0]["hostPath"]["path"], "/data");
        assert_eq!(spec["volumes"][3]["emptyDir"], json!({"medium": "Memory", "sizeLimit": "512Mi"}));
        assert_eq!(
            spec["containers"][0]["securityContext"],
            json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 1000, "runAsGroup": 100})
        );
    }

    #[test]
    fn an_environment_gives_its_pods_their_defaults() {
        let mut environment = spot();
        environment["network"] = json!("host");
        environment["podDefaults"] = json!({
            "labels": {"team": "render", "batchyard.io/attempt": "99"},
            "priorityClassName": "batch", "runtimeClassName": "nvidia", "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "registry"}]
        });
        let gpu = Effective { amounts: Amounts { gpus: 2, ..Amounts::default() }, ..Effective::default() };
        let pod = built(environment, &gpu);
        assert_eq!(pod["metadata"]["labels"]["team"], "render");
        assert_eq!(pod["metadata"]["labels"]["batchyard.io/attempt"], "2", "ours win");
        let spec = &pod["spec"];
        assert_eq!(spec["hostNetwork"], true);
        assert_eq!(spec["dnsPolicy"], "ClusterFirstWithHostNet");
        assert_eq!(
            (&spec["priorityClassName"], &spec["runtimeClassName"]),
            (&json!("batch"), &json!("nvidia"))
        );
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "2");
    }

    /// `strictFencing`: the scheduler leaves the pod alone until its uid is on record.
    #[test]
    fn b5_a_fenced_pod_waits_at_a_gate() {
        let effective = effective(Properties { image: "alpine".into(), ..Properties::default() });
        let pod = built(spot(), &effective);
        assert_eq!(pod["spec"].get("schedulingGates"), None);
        let mut fenced: Pod = serde_json::from_value(pod).expect("a pod");
        fenced.metadata.uid = Some("u".into());
        let gate = PodSchedulingGate { name: meta::FENCE.to_owned() };
        fenced.spec.as_mut().expect("a spec").scheduling_gates = Some(vec![gate]);
        crate::k8s::pods::trim(&mut fenced);
        assert!(crate::k8s::observe::pod(&fenced).is_some_and(|view| view.gated), "also in the cache");
    }

    #[test]
    fn what_an_environment_puts_into_pods_is_listed() {
        let environment = json!({"type": "MANAGED", "network": "host",
            "provisioner": {"static": {"nodeSelector": {"pool": "a"}}},
            "podDefaults": {"labels": {"team": "hpc"}, "annotations": {"cost": "centre"},
                "tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "a"},
                "priorityClassName": "gold", "schedulerName": "mine", "runtimeClassName": "nvidia",
                "imagePullSecrets": [{"name": "registry"}], "imagePullPolicy": "Always"}});
        let environment: ComputeEnvironmentSpec =
            serde_json::from_value(environment).expect("an environment");
        let members = pod_members(&environment);
        assert_eq!(members.len(), 10, "{members:?}");
        assert!(members.contains(&("podDefaults.labels", vec!["team", "hpc"])));
        assert!(pod_members(&ComputeEnvironmentSpec::default()).is_empty());
    }
}
