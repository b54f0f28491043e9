//! ComputeEnvironment: a pool of nodes that jobs are placed on
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateComputeEnvironment.html>).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use kube::core::{Selector, SelectorExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aws_compute::{ComputeResource, EcsSettings, EksConfiguration, UpdatePolicy};
use super::cel::{self, Rule, on, own, rule};
use super::job_queue::JobCounts;
use super::logging::LoggingPolicy;
use super::schema;
use super::session::ServiceType;
use super::shared::{ResourceStatus, State, TAGS};

const SPEC: &[Rule] = &[
    own(
        "computeEnvironmentName",
        "self.matches('^[A-Za-z0-9_-]{1,128}$')",
        "computeEnvironmentName can have up to 128 letters, numbers, hyphens and underscores",
    ),
    rule(
        "self.type != 'MANAGED' || has(self.computeResources)",
        "computeResources is required for a MANAGED compute environment",
    ),
    on(
        ".unmanagedvCpus",
        "!has(self.unmanagedvCpus) || self.type == 'UNMANAGED'",
        "unmanagedvCpus is only applicable to UNMANAGED compute environments",
    ),
    own("unmanagedvCpus", "self >= 0", "unmanagedvCpus must not be negative"),
    rule(
        "!has(self.eksConfiguration) || !has(self.computeResources) || self.computeResources.type in ['EC2', 'SPOT']",
        "eksConfiguration is only applicable to compute resources of type EC2 or SPOT",
    ),
    on(
        ".provisioner",
        "!has(self.provisioner) || !has(self.provisioner.karpenter) || self.type == 'MANAGED'",
        "provisioner.karpenter is only applicable to MANAGED compute environments",
    ),
    own(
        "devices",
        "self.all(path, path.startsWith('/') && self[path].matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$'))",
        "devices must name an extended resource for the path of a device, such as /dev/fuse: squat.ai/fuse",
    ),
    on(".type", "self.type == oldSelf.type", "type cannot be changed"),
    on(
        ".eksConfiguration",
        "has(self.eksConfiguration) == has(oldSelf.eksConfiguration) && (!has(self.eksConfiguration) || \
         self.eksConfiguration.eksClusterArn == oldSelf.eksConfiguration.eksClusterArn && \
         self.eksConfiguration.kubernetesNamespace == oldSelf.eksConfiguration.kubernetesNamespace)",
        "eksConfiguration cannot be changed, apart from accessEntry",
    ),
];

/// CreateComputeEnvironment of the AWS Batch API, plus where the nodes come from and what pods get there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "ComputeEnvironment",
    plural = "computeenvironments",
    shortname = "ce",
    category = "batchyard",
    status = "ComputeEnvironmentStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A pool of nodes that jobs are placed on, as in AWS Batch.",
    printcolumn = r#"{"name":"TYPE","type":"string","jsonPath":".spec.computeResources.type"}"#,
    printcolumn = r#"{"name":"STATE","type":"string","jsonPath":".spec.state"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.status"}"#,
    printcolumn = r#"{"name":"VCPUS","type":"integer","jsonPath":".status.vcpusInUse"}"#,
    printcolumn = r#"{"name":"MAX","type":"integer","jsonPath":".spec.computeResources.maxvCpus"}"#,
    printcolumn = r#"{"name":"NODES","type":"integer","jsonPath":".status.nodes","priority":1}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.statusReason"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" =
    cel::rules_and_immutable(SPEC, &["computeEnvironmentName"], "cannot be changed")))]
pub struct ComputeEnvironmentSpec {
    /// AWS's name of the environment, up to 128 of A-Z a-z 0-9 _ -; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_environment_name: Option<String>,
    /// MANAGED: computeResources describes the nodes. UNMANAGED: you bring the nodes.
    #[serde(rename = "type")]
    pub type_: EnvironmentType,
    /// ENABLED (default), or DISABLED: no new jobs are placed here, running ones go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// For UNMANAGED: the vCPUs that fair share reckons its reservation with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanagedv_cpus: Option<i32>,
    /// How many vCPUs, on which kind of instances. Required for MANAGED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_resources: Option<ComputeResource>,
    /// ARN of the role by which AWS Batch calls other services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_role: Option<String>,
    /// Tags of the environment itself; those of its instances are in computeResources.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The EKS cluster and namespace, for environments that AWS runs on EKS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_configuration: Option<EksConfiguration>,
    /// Reserved by AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Settings of the ECS cluster behind the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_settings: Option<EcsSettings>,
    /// What happens to running jobs when a change replaces nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<UpdatePolicy>,
    /// Where nodes come from. Default: existing nodes, spot ones for SPOT and the others for EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<Provisioner>,
    /// What every job's pod in this environment gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_defaults: Option<PodDefaults>,
    /// The network of jobs' pods: pod (default), or host as ECS has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What jobs' processes may do unless a definition says: as *restricted* wants it (default: but for root), or as on AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// What GPUs are here, and what pods need beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Extended resources of device plugins that stand for devices of nodes, by the device's path, such as /dev/fuse.
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 316}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, String>,
    /// Which log drivers jobs may use here, and the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingPolicy>,
    /// How long a job stays RUNNING on a node that is NotReady before its attempt counts as ended; default: for ever.
    #[schemars(range(min = 0, max = 31_536_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_lost_timeout_seconds: Option<i32>,
    /// How long a job waits here for a node before its queue tries the next environment.
    #[schemars(range(min = 0, max = 31_536_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_timeout_seconds: Option<i32>,
    /// The share of a job's vCPUs that its pod requests as CPU, in percent; default 90.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_request_percent: Option<i32>,
    /// Limit each job to its vCPUs; default false, a job may use idle CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<bool>,
    /// Who may use this environment; the first entry that selects a namespace counts. Empty: every namespace may.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_namespaces: Vec<AllowedNamespaces>,
    /// What may be made for interactive sessions here. Default: nothing; they have addresses of nodes and pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionPolicy>,
}

const SESSIONS: &[Rule] = &[
    own(
        "hosts",
        r"self.all(host, host.matches('^([*][.])?([A-Za-z0-9-]|[{]namespace[}])+([.]([A-Za-z0-9-]|[{]namespace[}])+)*$'))",
        "a host of sessions.hosts is a name such as *.{namespace}.example.com: * may be its first label, {namespace} any part",
    ),
    own(
        "gateways",
        r"self.all(gateway, gateway.matches('^([a-z0-9-]+|[{]namespace[}])/[a-z0-9.-]+$'))",
        "a Gateway of sessions.gateways is namespace/name, where {namespace} is the job's",
    ),
];

/// What interactive sessions may have that is not their own: whoever may submit a job may not make Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SESSIONS)))]
pub struct SessionPolicy {
    /// The types of addresses for which objects are made: Service, Ingress and Gateway.
    #[schemars(length(max = 3))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<SessionObject>,
    /// The host names that an Ingress or route may have, as in *.{namespace}.example.com: any first label, the job's namespace.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The annotations that a session may give its Service, Ingress or route, by name.
    #[schemars(length(max = 64), inner(length(max = 317)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// The types that the Service of an address of type Service may have. Default: every one.
    #[schemars(length(max = 3))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_types: Vec<ServiceType>,
    /// The classes that an Ingress may have; one that states none is not among them. Default: every one.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress_class_names: Vec<String>,
    /// The Gateways that a route may name, as namespace/name, where {namespace} is the job's. Default: every one.
    #[schemars(length(max = 64), inner(length(max = 317)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
}

/// A type of address for which objects are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SessionObject {
    /// A Service.
    Service,
    /// A Service and an Ingress.
    Ingress,
    /// A Service and a route.
    Gateway,
}

impl SessionObject {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::Gateway => "Gateway",
        }
    }
}

impl ComputeEnvironmentSpec {
    /// The entry that counts for a namespace with these labels: the first that selects it. A selector that cannot be
    /// read selects nothing.
    pub fn entry_for(&self, labels: &BTreeMap<String, String>) -> Option<&AllowedNamespaces> {
        self.allowed_namespaces.iter().find(|entry| {
            let selector = entry.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
            selector.is_some_and(|selector| selector.matches(labels))
        })
    }
}

/// Who looks after the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EnvironmentType {
    /// computeResources describes them.
    #[default]
    Managed,
    /// You bring them.
    Unmanaged,
}

/// The network of a job's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// An address of its own.
    #[default]
    Pod,
    /// The node's network, as ECS jobs have it.
    Host,
}

/// What processes may do of which a definition does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// What Pod Security's level *restricted* lets them, also in namespaces that do not ask for that.
    Restricted,
    /// What ECS gives them: Docker's capabilities, and programs that gain privileges.
    Aws,
}

/// Where nodes come from: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(PROVISIONER)))]
pub struct Provisioner {
    /// A Karpenter NodePool that Batchyard makes for this environment and owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub karpenter: Option<Karpenter>,
    /// Nodes that exist already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#static: Option<StaticPool>,
}

const PROVISIONER: &[Rule] = &[rule(
    "has(self.karpenter) != has(self.static)",
    "provisioner needs exactly one of karpenter and static",
)];

/// Nodes that exist already or that somebody else adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticPool {
    /// Labels that a node of the pool has. Empty: every node.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// True if a cluster autoscaler adds nodes for pending pods; default false: only what fits now is placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaled: Option<bool>,
}

/// The parts of the NodePool that computeResources does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Karpenter {
    /// The node class to use. Absent: an EC2NodeClass is made from subnets, securityGroupIds, instanceRole, imageId and tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_class_ref: Option<NodeClassRef>,
    /// For the EC2NodeClass that is made: its amiSelectorTerms alias, such as al2023@latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_alias: Option<String>,
    /// More requirements on nodes, as in a NodePool.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<NodeRequirement>,
    /// Labels of the nodes.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the nodes.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Taints of the nodes, beside the one that keeps other pods off.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<NodeTaint>,
    /// Taints that something else takes off when a node is ready.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub startup_taints: Vec<NodeTaint>,
    /// How old a node may become, such as 720h; default Never.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after: Option<String>,
    /// How long a node stays empty before it goes, such as 60s; scalingPolicy.minScaleDownDelayMinutes wins.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consolidate_after: Option<String>,
    /// How long a node that must go waits for its pods, such as 48h; default: for ever.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<String>,
    /// The NodePool's weight: a higher one is tried first.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// Names a node class of a Karpenter provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeClassRef {
    /// API group, such as karpenter.k8s.aws.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, such as EC2NodeClass.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A requirement on node labels, as in a Karpenter NodePool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRequirement {
    /// The label.
    #[schemars(length(max = 316))]
    pub key: String,
    /// In, NotIn, Exists, DoesNotExist, Gt or Lt.
    #[schemars(length(max = 32))]
    pub operator: String,
    /// The values for In, NotIn, Gt and Lt.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// How many different values must stay possible.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_values: Option<i32>,
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaint {
    /// The taint's key.
    #[schemars(length(max = 316))]
    pub key: String,
    /// The taint's value.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    #[schemars(length(max = 32))]
    pub effect: String,
}

/// What every job's pod in an environment gets; labels and annotations of Batchyard's own win.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDefaults {
    /// Labels.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Tolerations, as in a pod.
    #[schemars(schema_with = "schema::tolerations")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Labels that the node must have, as in a pod.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Name of a PriorityClass.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Name of the scheduler that binds the pods; default default-scheduler.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Name of a RuntimeClass, such as nvidia.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Secrets of the job's namespace for pulling images.
    #[schemars(schema_with = "schema::pull_secrets")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Always, IfNotPresent or Never; default as Kubernetes has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
}

/// The GPUs of an environment. Stating it, even empty, says that there are some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(GPU)))]
pub struct Gpu {
    /// The extended resource that a GPU requirement stands for, such as nvidia.com/mig-1g.5gb; default nvidia.com/gpu.
    #[schemars(length(max = 316))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// The RuntimeClass of every job's pod here, such as nvidia; it wins over podDefaults.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Tolerations of every job's pod here, beside those for taints that bear the resource's name.
    #[schemars(schema_with = "schema::tolerations")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

const GPU: &[Rule] = &[own(
    "resourceName",
    "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')",
    "resourceName must be an extended resource with its domain, such as nvidia.com/gpu",
)];

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub enum ImagePullPolicy {
    /// Only if the node does not have it.
    #[default]
    IfNotPresent,
    /// At each start.
    Always,
    /// Not at all.
    Never,
}

/// Namespaces that may use an environment, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Selects namespaces by their labels; empty selects all, absent none.
    #[schemars(schema_with = "schema::label_selector")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The vCPUs that each of these namespaces may use at a time; default: all.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxv_cpus: Option<i32>,
    /// The highest priority that their queues have here; a higher one counts as this.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<i32>,
    /// Their weight against namespaces whose queues have the same priority; default 1.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

impl AllowedNamespaces {
    /// One namespace, which may use all of the environment. Each has its name as a label
    /// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name>).
    pub fn only(namespace: &str) -> Self {
        let name = ("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
        let selector = LabelSelector { match_labels: Some([name].into()), ..LabelSelector::default() };
        Self { selector: Some(selector), maxv_cpus: None, max_priority: None, weight: None }
    }
}

/// What is known of the environment. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeEnvironmentStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// CREATING, UPDATING, DELETING, VALID or INVALID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ResourceStatus>,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How many nodes belong to the environment now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// The vCPUs of jobs that are placed here now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus_in_use: Option<i32>,
    /// The vCPUs that its nodes have now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<i32>,
    /// The vCPUs that the environment is growing or shrinking to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desiredv_cpus: Option<i32>,
    /// The desiredvCpus of the spec that nodes were last made for; it counts again when it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_desiredv_cpus: Option<i32>,
    /// How many jobs are placed here, per phase. RUNNABLE: with a pod that waits for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobCounts>,
    /// The largest job that can be placed on one of its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_job: Option<LargestJob>,
    /// The Karpenter NodePool that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_pool: Option<String>,
    /// When a job was last placed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_placed_at: Option<jiff::Timestamp>,
    /// Ready, FieldsIgnored, DeletionBlocked and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The most that one job can have on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LargestJob {
    /// vCPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<i32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<i32>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<i32>,
}
