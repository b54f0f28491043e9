//! A pod and its node as the core sees them: plain data, taken from the API objects by
//! `k8s/observe.rs`, complete enough that an attempt's end can be decided from it alone.

use jiff::Timestamp;

use crate::order::After;

/// One attempt pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The attempt that the pod was made for, from 1.
    pub attempt: u32,
    /// Which pod of that attempt it is, from 0.
    pub placement: u32,
    /// Which child of an array it runs, or which node of a multi-node job it is.
    pub index: Option<u32>,
    /// The compute environment that the pod was placed in.
    pub compute_environment: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created_at: Option<Timestamp>,
    /// `metadata.generation`: the deletion raises it.
    pub generation: Option<i64>,
    /// `metadata.deletionTimestamp`: set once somebody asked for the pod's deletion. The kubelet's
    /// own last deletion, without grace, moves it to that moment.
    pub deleted_at: Option<Timestamp>,
    /// `metadata.deletionGracePeriodSeconds`: how much of the time up to `deleted_at` is grace.
    pub deletion_grace_seconds: Option<i64>,
    /// True while our finalizer holds the pod.
    pub held: bool,
    /// True while our scheduling gate keeps the pod from being bound (`strictFencing`).
    pub gated: bool,
    /// `spec.nodeName`, empty until the pod is bound.
    pub node_name: Option<String>,
    /// `status.podIP`.
    pub ip: Option<String>,
    /// Whether it can know the address that it needs to start.
    pub address: Address,
    /// `status.observedGeneration`: what the kubelet knew when it last reported; absent before
    /// Kubernetes 1.34.
    pub observed_generation: Option<i64>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.reason`, set only by the kubelet.
    pub reason: Option<String>,
    /// `status.message`.
    pub message: Option<String>,
    /// `status.conditions`.
    pub conditions: Vec<PodCondition>,
    /// `status.initContainerStatuses`, in the pod's order.
    pub init_containers: Vec<ContainerView>,
    /// `status.containerStatuses`, in the pod's order.
    pub containers: Vec<ContainerView>,
    /// The stream of a log group that its output goes to.
    pub log_stream: Option<String>,
    /// The containers that waited for others and were told to start.
    pub opened: Vec<String>,
}

/// The main node's address, which the other nodes of a multi-node job are given before they start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// The pod needs none.
    #[default]
    NotNeeded,
    /// It is not known yet.
    Awaited,
    /// It has been there since.
    Since(Timestamp),
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PodPhase {
    /// Accepted, containers not all created.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended with exit code 0.
    Succeeded,
    /// All containers ended, one of them not well, or the pod was ended from outside.
    Failed,
    /// Anything else that an API server may send.
    Unknown,
}

/// One of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCondition {
    /// For example `DisruptionTarget`.
    pub kind: String,
    /// True when `status` is `"True"`.
    pub status: bool,
    /// A word for machines.
    pub reason: Option<String>,
    /// A sentence for people.
    pub message: Option<String>,
    /// `lastTransitionTime`.
    pub since: Option<Timestamp>,
}

/// One container's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// The container's name.
    pub name: String,
    /// The container runtime's id; empty or absent if no container was ever created.
    pub container_id: Option<String>,
    /// Whether the end of this container ends the attempt.
    pub role: ContainerRole,
    /// What it waits for before it starts.
    pub after: Vec<After>,
    /// `state`.
    pub state: ContainerState,
    /// `lastState`, when it tells of an earlier end.
    pub last_state: Option<ContainerState>,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContainerRole {
    /// The job's own work: its end is the attempt's end.
    #[default]
    Essential,
    /// One of several containers that are all the job's own work: the attempt ends with the last of them.
    Joint,
    /// A container of the job whose end alone ends nothing.
    Auxiliary,
    /// An init container that must end before the others start.
    Init,
    /// An init container with `restartPolicy: Always`: never part of the outcome.
    Sidecar,
}

/// `state` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// No status yet.
    #[default]
    Unknown,
    /// Not started; the kubelet says why.
    Waiting {
        /// For example `ImagePullBackOff`.
        reason: Option<String>,
        /// The text that comes with it.
        message: Option<String>,
    },
    /// Runs.
    Running {
        /// When it started.
        started_at: Option<Timestamp>,
    },
    /// Ended.
    Terminated {
        /// As the runtime reported it.
        exit_code: i32,
        /// For example `OOMKilled`.
        reason: Option<String>,
        /// The termination message, or the runtime's error.
        message: Option<String>,
        /// When it started; the epoch or absent if it never did.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Option<Timestamp>,
    },
}

/// What is known of the node that a pod is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// The instance id from `spec.providerID` (`i-…`), else the node's name.
    pub instance: String,
    /// `status.nodeInfo.bootID`: another one after each start of the machine.
    pub boot_id: Option<String>,
    /// The machine has started anew since the pod was bound to it, by the word of the record.
    pub rebooted: bool,
    /// False once the Node object is gone.
    pub exists: bool,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The Ready condition is `"True"`.
    pub ready: bool,
    /// When Ready last changed.
    pub ready_since: Option<Timestamp>,
    /// `spec.unschedulable`: cordoned, as a drain does first.
    pub unschedulable: bool,
    /// Keys of the node's taints.
    pub taints: Vec<String>,
    /// A notice says that the machine is about to be taken away.
    pub reclaimed: bool,
}
