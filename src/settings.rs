//! What the operator is started with; the chart's values end here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use batchyard_core::logging::sidecar::DRAIN_SECONDS;
use batchyard_core::termination::Tolerances;
use clap::Args;
use ipnet::IpNet;
use jiff::SignedDuration;

use crate::k8s::notices::Notices;
use crate::k8s::scope::{Reach, Scope};
use crate::serve::ProbeSettings;

/// Settings of the operator. Each can be given as an argument or in the environment.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Where metrics and probes are served, and to whom.
    #[command(flatten)]
    pub probes: ProbeSettings,
    /// The operator's own namespace, where its lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "batchyard-system")]
    pub namespace: String,
    /// Whose jobs it runs.
    #[command(flatten)]
    pub scope: Scope,
    /// Whether it sees the pods of namespaces that it does not work for, too: the room that they take on nodes.
    #[arg(long, env = "BATCHYARD_WATCH_PODS_ELSEWHERE", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub watch_pods_elsewhere: bool,
    /// The name of this process; the pod's name.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// How long the lease holds without being renewed.
    #[arg(long, env = "BATCHYARD_LEASE_DURATION_SECONDS", default_value_t = 15)]
    pub lease_duration_seconds: u64,
    /// How many objects each controller looks at at a time.
    #[arg(long, env = "BATCHYARD_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// How long an image may be missing or forbidden before the attempt fails.
    #[arg(long, env = "BATCHYARD_PULL_DENIED_SECONDS", default_value_t = 20)]
    pub pull_denied_seconds: u32,
    /// How long a registry may be out of reach before the attempt fails.
    #[arg(long, env = "BATCHYARD_PULL_NETWORK_SECONDS", default_value_t = 300)]
    pub pull_network_seconds: u32,
    /// How long a Secret or ConfigMap may be missing before the attempt fails.
    #[arg(long, env = "BATCHYARD_MISSING_CONFIG_SECONDS", default_value_t = 120)]
    pub missing_config_seconds: u32,
    /// How long a pod may take to start for any other reason before the attempt fails.
    #[arg(long, env = "BATCHYARD_START_SECONDS", default_value_t = 600)]
    pub start_seconds: u32,
    /// How long some pods of a multi-node job may have a host while others have none before all are taken back.
    #[arg(long, env = "BATCHYARD_GANG_TIMEOUT_SECONDS", default_value_t = 300)]
    pub gang_timeout_seconds: u32,
    /// How long pods of succeeded attempts stay for their logs.
    #[arg(long, env = "BATCHYARD_KEEP_SUCCEEDED_PODS_SECONDS", default_value_t = 600)]
    pub keep_succeeded_pods_seconds: u32,
    /// How long pods of failed attempts stay for their logs.
    #[arg(long, env = "BATCHYARD_KEEP_FAILED_PODS_SECONDS", default_value_t = 86_400)]
    pub keep_failed_pods_seconds: u32,
    /// How many finished pods stay at most, the newest.
    #[arg(long, env = "BATCHYARD_KEEP_FINISHED_PODS", default_value_t = 2000)]
    pub keep_finished_pods: usize,
    /// How long jobs that were submitted, not applied, stay after they ended.
    #[arg(long, env = "BATCHYARD_FINISHED_JOB_TTL_SECONDS", default_value_t = 604_800)]
    pub finished_job_ttl_seconds: u32,
    /// Whether the last lines of a failed attempt are kept in its job's status.
    #[arg(long, env = "BATCHYARD_LOG_TAIL", default_value_t = true, action = clap::ArgAction::Set)]
    pub log_tail: bool,
    /// Whether whoever submitted a job must still have the rights for that when a pod of it is made.
    #[arg(long, env = "BATCHYARD_RECHECK_RIGHTS", default_value_t = true, action = clap::ArgAction::Set)]
    pub recheck_rights: bool,
    /// As whom pods are made.
    #[command(flatten)]
    pub runner: RunnerSettings,
    /// Where many jobs wait or run, a step of progress is written once it lasted so long, and a second longer for
    /// each 200 jobs that run, STARTING after twice as long: the shorter, the more often a job says that it is STARTING,
    /// and the more is written.
    #[arg(long, env = "BATCHYARD_BUSY_PROGRESS_SECONDS", default_value_t = 3)]
    pub busy_progress_seconds: u32,
    /// A bug that tests must find.
    #[cfg(feature = "fault-tests")]
    #[arg(long, hide = true)]
    pub seeded_bug: Option<crate::seeded_bugs::Bug>,
    /// How long a program has between SIGTERM and SIGKILL.
    #[arg(long, env = "BATCHYARD_TERMINATE_GRACE_SECONDS", default_value_t = 30)]
    pub terminate_grace_seconds: u32,
    /// What announces the end of a node.
    #[command(flatten)]
    pub notices: Notices,
    /// The log sidecars of pods.
    #[command(flatten)]
    pub logging: LoggingSettings,
    /// The pods that hold room.
    #[command(flatten)]
    pub placeholders: PlaceholderSettings,
    /// What people may ask the leader.
    #[command(flatten)]
    pub view: ViewSettings,
}

/// Settings of the log sidecars.
#[derive(Args, Clone, Debug)]
pub struct LoggingSettings {
    /// Fluent Bit's image.
    #[arg(
        id = "log-image",
        long = "log-image",
        env = "BATCHYARD_LOG_IMAGE",
        default_value = "docker.io/fluent/fluent-bit:5.1.1"
    )]
    pub image: String,
    /// When it is pulled; empty: as Kubernetes has it.
    #[arg(
        id = "log-image-pull-policy",
        long = "log-image-pull-policy",
        env = "BATCHYARD_LOG_IMAGE_PULL_POLICY",
        default_value = ""
    )]
    pub pull_policy: String,
    /// The CPU that a sidecar requests, in thousandths.
    #[arg(long = "log-cpu-milli", env = "BATCHYARD_LOG_CPU_MILLI", default_value_t = 10)]
    pub cpu_milli: i64,
    /// The memory that a sidecar requests, in MiB.
    #[arg(long = "log-memory-mib", env = "BATCHYARD_LOG_MEMORY_MIB", default_value_t = 64)]
    pub memory_mib: u64,
    /// The memory that a sidecar may have, in MiB.
    #[arg(long = "log-memory-limit-mib", env = "BATCHYARD_LOG_MEMORY_LIMIT_MIB", default_value_t = 256)]
    pub memory_limit_mib: u64,
    /// The image of the helper that follows output through the API: the operator's own.
    #[arg(
        id = "log-follow-image",
        long = "log-follow-image",
        env = "BATCHYARD_LOG_FOLLOW_IMAGE",
        default_value = concat!("docker.io/batchyard/batchyard:", env!("CARGO_PKG_VERSION"))
    )]
    pub follow_image: String,
    /// When it is pulled; empty: as Kubernetes has it.
    #[arg(
        id = "log-follow-pull-policy",
        long = "log-follow-pull-policy",
        env = "BATCHYARD_LOG_FOLLOW_PULL_POLICY",
        default_value = ""
    )]
    pub follow_pull_policy: String,
    /// The memory that it requests, in MiB.
    #[arg(long = "log-follow-memory-mib", env = "BATCHYARD_LOG_FOLLOW_MEMORY_MIB", default_value_t = 32)]
    pub follow_memory_mib: u64,
    /// The memory that it may have, in MiB.
    #[arg(
        long = "log-follow-memory-limit-mib",
        env = "BATCHYARD_LOG_FOLLOW_MEMORY_LIMIT_MIB",
        default_value_t = 128
    )]
    pub follow_memory_limit_mib: u64,
    /// How long a sidecar goes on reading once the job's containers have ended; what is not read by then is lost.
    #[arg(long = "log-pre-stop-seconds", env = "BATCHYARD_LOG_PRE_STOP_SECONDS", default_value_t = DRAIN_SECONDS)]
    pub pre_stop_seconds: u64,
    /// How long a sidecar goes on sending after that while its sink takes nothing.
    #[arg(long = "log-flush-seconds", env = "BATCHYARD_LOG_FLUSH_SECONDS", default_value_t = 20)]
    pub flush_seconds: u64,
}

/// Settings of the ServiceAccounts that make pods.
#[derive(Args, Clone, Debug)]
pub struct RunnerSettings {
    /// The ServiceAccount of each job's namespace in whose name its pods are made; without one, in the operator's own.
    #[arg(
        id = "runner",
        long = "runner",
        env = "BATCHYARD_RUNNER",
        value_name = "SERVICE_ACCOUNT",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub name: Option<String>,
    /// The ClusterRole that such an account needs in its namespace.
    #[arg(
        id = "runner-role",
        long = "runner-role",
        env = "BATCHYARD_RUNNER_ROLE",
        default_value = "batchyard-batch-runner"
    )]
    pub role: String,
}

/// Settings of the pods that keep `minvCpus` ready.
#[derive(Args, Clone, Debug)]
pub struct PlaceholderSettings {
    /// What they run: it only has to wait.
    #[arg(
        id = "placeholder-image",
        long = "placeholder-image",
        env = "BATCHYARD_PLACEHOLDER_IMAGE",
        default_value = "registry.k8s.io/pause:3.10.1"
    )]
    pub image: String,
    /// Their PriorityClass, below that of every job.
    #[arg(
        id = "placeholder-priority-class",
        long = "placeholder-priority-class",
        env = "BATCHYARD_PLACEHOLDER_PRIORITY_CLASS",
        default_value = "batchyard-placeholder"
    )]
    pub priority_class: String,
}

/// Settings of the API that tells where jobs stand in line.
#[derive(Args, Clone, Debug)]
pub struct ViewSettings {
    /// The Service by which the API server finds the leader; without it there is no view.
    #[arg(id = "view-service", long = "view-service", env = "BATCHYARD_VIEW_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// Where the view is served.
    #[arg(
        id = "view-address",
        long = "view-address",
        env = "BATCHYARD_VIEW_ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub address: SocketAddr,
    /// The address that the API server is told, if another than that: the pod's.
    #[arg(long = "view-advertise", env = "POD_IP", value_name = "ADDRESS")]
    pub advertise: Option<IpAddr>,
}

/// Settings of the notifier. Each can be given as an argument or in the environment.
#[derive(Args, Clone, Debug)]
pub struct NotifierSettings {
    /// Where metrics and probes are served, and to whom.
    #[command(flatten)]
    pub probes: ProbeSettings,
    /// The notifier's own namespace, where its lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "batchyard-system")]
    pub namespace: String,
    /// Whose rules it follows.
    #[command(flatten)]
    pub scope: Scope,
    /// The name of this process; the pod's name.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// How long the lease holds without being renewed.
    #[arg(long, env = "BATCHYARD_LEASE_DURATION_SECONDS", default_value_t = 15)]
    pub lease_duration_seconds: u64,
    /// How often at most the status of a rule is written.
    #[arg(long, env = "BATCHYARD_NOTIFIER_STATUS_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub status_seconds: u32,
    /// How long one try to deliver may take.
    #[arg(long, env = "BATCHYARD_NOTIFIER_TIMEOUT_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout_seconds: u32,
    /// How many notifications of a rule wait at most; beyond that the oldest is dropped.
    #[arg(long, env = "BATCHYARD_NOTIFIER_QUEUE_PER_RULE", default_value_t = 2000)]
    pub queue_per_rule: usize,
    /// How many wait at most in all; beyond that the namespace with the most loses its oldest.
    #[arg(long, env = "BATCHYARD_NOTIFIER_QUEUE_TOTAL", default_value_t = 20_000)]
    pub queue_total: usize,
    /// How much memory all that wait take at most; beyond that the namespace with the most loses its oldest.
    #[arg(long, env = "BATCHYARD_NOTIFIER_QUEUE_BYTES", default_value_t = 64 << 20)]
    pub queue_bytes: usize,
    /// Whether private addresses, the cluster's own among them, may be sent to.
    #[arg(long, env = "BATCHYARD_NOTIFIER_ALLOW_PRIVATE", default_value_t = false, action = clap::ArgAction::Set)]
    pub allow_private: bool,
    /// Ranges that may be sent to whatever they are, separated by commas.
    #[arg(long, env = "BATCHYARD_NOTIFIER_ALLOWED_CIDRS", value_delimiter = ',', value_name = "CIDR")]
    pub allowed_cidrs: Vec<IpNet>,
    /// Ranges that are never sent to, separated by commas.
    #[arg(long, env = "BATCHYARD_NOTIFIER_DENIED_CIDRS", value_delimiter = ',', value_name = "CIDR")]
    pub denied_cidrs: Vec<IpNet>,
}

impl Settings {
    /// What it watches.
    pub fn reach(&self) -> Reach {
        Reach {
            scope: self.scope.clone(),
            own_namespace: self.namespace.clone(),
            pods_elsewhere: self.watch_pods_elsewhere,
        }
    }

    /// How long states that may heal are tolerated.
    pub fn tolerances(&self, node_lost: Option<Duration>) -> Tolerances {
        let seconds = |n: u32| SignedDuration::from_secs(i64::from(n));
        Tolerances {
            pull_denied: seconds(self.pull_denied_seconds),
            pull_network: seconds(self.pull_network_seconds),
            config: seconds(self.missing_config_seconds),
            start: seconds(self.start_seconds),
            node_lost: node_lost.and_then(|limit| SignedDuration::try_from(limit).ok()),
            ..Tolerances::default()
        }
    }
}
