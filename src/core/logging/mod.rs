//! Where the output of jobs goes: what a `logConfiguration` says, whether it is allowed, and the configuration of the
//! log sidecar that carries it out.
//!
//! Pure, from text to text. [`route::Route::read`] takes a driver's options apart and refuses those that cannot be
//! honoured; [`policy`] says what applies and what is allowed; [`sidecar::plan`] writes Fluent Bit's configuration and
//! says what it needs: variables, Secrets, files. [`exposure`] says where it must not be. [`stream`] names the streams. docs/design/0008 has what was found
//! out about Fluent Bit.

mod drivers;
pub mod exposure;
pub mod fluent_bit;
pub mod health;
pub mod multiline;
pub mod options;
pub mod policy;
pub mod route;
pub mod sidecar;
pub mod stream;
pub mod tag;
pub mod text;
pub mod value;

use std::collections::BTreeMap;

/// A log driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Driver {
    /// CloudWatch Logs.
    Awslogs,
    /// A Splunk HTTP event collector.
    Splunk,
    /// A fluentd forward input.
    Fluentd,
    /// A Graylog server.
    Gelf,
    /// A syslog server.
    Syslog,
    /// The node's journal, which no log sidecar writes to.
    Journald,
    /// Files on the node, rotated.
    JsonFile,
    /// Any output of Fluent Bit.
    Awsfirelens,
    /// Objects in a bucket.
    S3,
    /// Grafana Loki.
    Loki,
    /// OpenSearch.
    Opensearch,
    /// OpenTelemetry.
    Opentelemetry,
    /// The sidecar's own output.
    Stdout,
}

impl Driver {
    /// All drivers.
    pub const ALL: [Self; 13] = [
        Self::Awslogs,
        Self::Splunk,
        Self::Fluentd,
        Self::Gelf,
        Self::Syslog,
        Self::Journald,
        Self::JsonFile,
        Self::Awsfirelens,
        Self::S3,
        Self::Loki,
        Self::Opensearch,
        Self::Opentelemetry,
        Self::Stdout,
    ];

    /// The name in `logDriver`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Awslogs => "awslogs",
            Self::Splunk => "splunk",
            Self::Fluentd => "fluentd",
            Self::Gelf => "gelf",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
            Self::JsonFile => "json-file",
            Self::Awsfirelens => "awsfirelens",
            Self::S3 => "s3",
            Self::Loki => "loki",
            Self::Opensearch => "opensearch",
            Self::Opentelemetry => "opentelemetry",
            Self::Stdout => "stdout",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|driver| driver.as_str() == name)
    }

    /// The options of the driver, each with what becomes of it, those that all drivers have among them. For
    /// awsfirelens these are not all: properties of its output come besides ([`fluent_bit::facts`]).
    pub fn options(self) -> impl Iterator<Item = &'static options::Entry> {
        drivers::tables(self).iter().copied().flatten()
    }
}

/// `logConfiguration` as plain data.
#[derive(Clone, PartialEq, Eq)]
pub struct Configuration {
    /// `logDriver`.
    pub driver: Driver,
    /// `options`.
    pub options: BTreeMap<String, String>,
    /// `secretOptions`.
    pub secret_options: Vec<SecretOption>,
}

/// The values are left out: tokens may be among them.
impl core::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { driver, options, secret_options } = self;
        let options: Vec<&String> = options.keys().collect();
        f.debug_struct("Configuration")
            .field("driver", driver)
            .field("options", &options)
            .field("secret_options", secret_options)
            .finish()
    }
}

/// An option whose value stands in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretOption {
    /// The option.
    pub name: String,
    /// Where its value stands.
    pub value_from: String,
}

/// The environment's `logging.awslogs`: what holds where a job's options say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwslogsDefaults {
    /// URL of the CloudWatch Logs endpoint. What the administrator wrote here needs no leave of `allowedHosts`.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The log group; without it /aws/batch/job.
    pub group: Option<String>,
    /// `valueFrom` of the certificate authority of the endpoint, where it is none that everybody knows: a Secret of the
    /// job's namespace.
    pub authority: Option<String>,
    /// The endpoint need not prove who it is.
    pub unverified: bool,
}

/// Why a `logConfiguration` cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The member, below `logConfiguration`: `options.splunk-url`.
    pub member: String,
    /// What is wrong with it.
    pub why: String,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.member, self.why)
    }
}
