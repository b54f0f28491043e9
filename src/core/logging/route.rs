//! Where the output of one container goes: a `logConfiguration`, read.

use super::fluent_bit::facts;
use super::multiline::Multiline;
use super::options::SecretText;
use super::tag::Tag;
use super::value::{Address, Literal};
use super::{AwslogsDefaults, Configuration, Driver, Refusal, drivers};

/// Where the output of a container goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The driver.
    pub driver: Driver,
    /// What the driver sends to.
    pub output: Output,
    /// Lines that make one record.
    pub multiline: Option<Multiline>,
    /// How much is kept while the sink takes none, where it is stated.
    pub buffer: Option<Buffer>,
}

/// How much of a container's output waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// The option that says so.
    pub option: &'static str,
    /// So many bytes.
    pub bytes: u64,
}

/// What a driver sends to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is told at its type")]
pub enum Output {
    Awslogs(Awslogs),
    Splunk(Splunk),
    Fluentd(Fluentd),
    Gelf(Gelf),
    Syslog(Syslog),
    JsonFile(JsonFile),
    Firelens(Firelens),
    S3(S3),
    Loki(Loki),
    Opensearch(Opensearch),
    Opentelemetry(Opentelemetry),
    Stdout(Stdout),
}

/// A stream of a log group of CloudWatch Logs. As on AWS, an event is the line and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awslogs {
    /// The region.
    pub region: Literal,
    /// The log group.
    pub group: Literal,
    /// Streams begin with it, if it is stated, and else with the name of the job definition.
    pub prefix: Option<Literal>,
    /// The group is made if it is missing.
    pub create_group: bool,
    /// The endpoint, where it is not AWS's.
    pub endpoint: Option<Address>,
    /// How it proves who it is. Fluent Bit speaks TLS to it, whatever it is told.
    pub tls: Tls,
    /// The endpoint is the administrator's.
    pub endpoint_of_environment: bool,
    /// Events are metrics in the embedded metric format.
    pub embedded_metrics: bool,
}

/// Transport encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether there is any.
    pub on: bool,
    /// The server need not prove who it is.
    pub unverified: bool,
    /// The name that the server proves, where it is not its host's.
    pub name: Option<Literal>,
    /// `valueFrom` of the certificate authority.
    pub authority: Option<String>,
    /// `valueFrom` of the client's certificate.
    pub certificate: Option<String>,
    /// `valueFrom` of the client's key.
    pub key: Option<String>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Splunk's HTTP event collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splunk {
    /// Where it is.
    pub place: Place,
    /// TLS.
    pub tls: Tls,
    /// The collector's token.
    pub token: SecretText,
    /// `splunk-index`.
    pub index: Option<Literal>,
    /// `splunk-source`.
    pub source: Option<Literal>,
    /// `splunk-sourcetype`.
    pub source_type: Option<Literal>,
    /// The event is the line alone.
    pub raw: bool,
    /// Compressed.
    pub gzip: bool,
    /// The record's member `tag`.
    pub tag: Option<Tag>,
}

/// Where a forward input listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// By TCP.
    Tcp(Place, Tls),
    /// A unix socket of the node, by its absolute path.
    Unix(Literal),
}

/// A forward input of fluentd or Fluent Bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fluentd {
    /// Where it listens.
    pub listener: Listener,
    /// The tag of the records.
    pub tag: Tag,
    /// Each chunk is acknowledged.
    pub acknowledged: bool,
    /// Times have parts of seconds.
    pub sub_second: bool,
}

/// How to a Graylog or syslog server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream with TLS.
    Tls,
}

/// A GELF input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gelf {
    /// Where it listens.
    pub place: Place,
    /// How.
    pub transport: Transport,
    /// Datagrams are compressed.
    pub gzip: bool,
    /// The record's member `tag`.
    pub tag: Option<Tag>,
}

/// A syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it listens.
    pub place: Place,
    /// How.
    pub transport: Transport,
    /// TLS, if the transport has it.
    pub tls: Tls,
    /// 0 to 23.
    pub facility: u8,
    /// RFC 5424, and not RFC 3164.
    pub rfc5424: bool,
    /// The name of the application.
    pub tag: Tag,
}

/// Files of the node, one JSON object for each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFile {
    /// A file is put aside when it has so many bytes.
    pub max_bytes: u64,
    /// So many files at most, the one that is written among them; two or more.
    pub max_files: u32,
    /// Those put aside are compressed.
    pub compress: bool,
    /// The record's member `tag`.
    pub tag: Option<Tag>,
}

/// An output of Fluent Bit, by its name and properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firelens {
    /// The output.
    pub name: &'static str,
    /// Its properties.
    pub properties: Vec<(&'static str, Literal)>,
    /// Properties that are secret.
    pub secrets: Vec<(&'static str, SecretText)>,
    /// Only lines that match.
    pub include: Option<Literal>,
    /// No lines that match.
    pub exclude: Option<Literal>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Its name.
    pub bucket: Literal,
    /// Its region.
    pub region: Literal,
    /// Keys begin with it.
    pub prefix: Option<Literal>,
    /// The endpoint, where it is not AWS's.
    pub endpoint: Option<Address>,
    /// Compressed.
    pub gzip: bool,
    /// An object has about so many bytes at most.
    pub object_bytes: u64,
    /// An object is written after so many seconds at the latest.
    pub upload_seconds: u64,
    /// The storage class.
    pub storage_class: Option<Literal>,
}

/// Who we are to an HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    None,
    /// A user.
    User(Literal, SecretText),
    /// Whoever has the token.
    Token(SecretText),
    /// The pod's AWS role, in a region.
    Aws(Literal),
}

/// Grafana Loki.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loki {
    /// Where it is.
    pub place: Place,
    /// The path of the push API.
    pub path: Literal,
    /// TLS.
    pub tls: Tls,
    /// `X-Scope-OrgID`.
    pub tenant: Option<Literal>,
    /// Labels besides the job's queue and definition.
    pub labels: Vec<(Literal, Literal)>,
    /// Who we are.
    pub credentials: Credentials,
    /// Compressed.
    pub gzip: bool,
}

/// OpenSearch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opensearch {
    /// Where it is.
    pub place: Place,
    /// A path before those of its API.
    pub path: Option<Literal>,
    /// TLS.
    pub tls: Tls,
    /// The index.
    pub index: Literal,
    /// The ingest pipeline.
    pub pipeline: Option<Literal>,
    /// Who we are.
    pub credentials: Credentials,
    /// Compressed.
    pub gzip: bool,
}

/// An OpenTelemetry collector, by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opentelemetry {
    /// Where it is.
    pub place: Place,
    /// The path for logs.
    pub path: Literal,
    /// TLS.
    pub tls: Tls,
    /// A header, whose value is secret.
    pub header: Option<(Literal, SecretText)>,
    /// Compressed.
    pub gzip: bool,
}

/// The sidecar's own output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stdout {
    /// One JSON object for each record.
    pub json: bool,
}

impl Route {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(configuration: &Configuration, defaults: &AwslogsDefaults) -> Result<Self, Vec<Refusal>> {
        drivers::read(configuration, defaults)
    }

    /// The options in which a secret stands in plain text, which the condition `PlainTextSecret` tells.
    pub fn plain_text_secrets(&self) -> Vec<&'static str> {
        let plain = self.secrets().into_iter().filter(|(_, secret)| matches!(secret, SecretText::Plain(_)));
        plain.map(|(option, _)| option).collect()
    }

    /// The options whose values are secret, in a fixed order.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretText)> {
        match &self.output {
            Output::Splunk(splunk) => vec![("splunk-token", &splunk.token)],
            Output::Firelens(firelens) => {
                firelens.secrets.iter().map(|(name, secret)| (*name, secret)).collect()
            }
            Output::Loki(loki) => match &loki.credentials {
                Credentials::Token(secret) => vec![("loki-token", secret)],
                other => other.secret().map(|secret| ("loki-password", secret)).into_iter().collect(),
            },
            Output::Opensearch(opensearch) => opensearch
                .credentials
                .secret()
                .map(|secret| ("opensearch-password", secret))
                .into_iter()
                .collect(),
            Output::Opentelemetry(collector) => {
                let header = collector.header.iter();
                header.map(|(_, secret)| ("opentelemetry-header-value", secret)).collect()
            }
            Output::Awslogs(_)
            | Output::Fluentd(_)
            | Output::Gelf(_)
            | Output::Syslog(_)
            | Output::JsonFile(_)
            | Output::S3(_)
            | Output::Stdout(_) => Vec::new(),
        }
    }

    /// The log group of CloudWatch Logs, for `status.logs` and the policy.
    pub fn log_group(&self) -> Option<&str> {
        match &self.output {
            Output::Awslogs(awslogs) => Some(awslogs.group.as_str()),
            // Of all outputs cloudwatch_logs alone has this property.
            Output::Firelens(firelens) => firelens.property("log_group_name"),
            _ => None,
        }
    }

    /// What of its node the sidecar needs, if anything: the member that says so, and what it is.
    pub fn needs_of_node(&self) -> Option<(&'static str, &'static str)> {
        match &self.output {
            Output::JsonFile(_) => Some(("logDriver", "json-file writes into a folder of the node")),
            Output::Fluentd(Fluentd { listener: Listener::Unix(_), .. }) => {
                Some(("options.fluentd-address", "it is a socket of the node"))
            }
            _ => None,
        }
    }

    /// Whether the sidecar signs requests with credentials of AWS, so that it needs the pod's role or the environment's
    /// `credentialsSecret`.
    pub fn needs_aws_credentials(&self) -> bool {
        match &self.output {
            Output::Awslogs(_) | Output::S3(_) => true,
            Output::Opensearch(opensearch) => matches!(opensearch.credentials, Credentials::Aws(_)),
            Output::Firelens(firelens) => {
                let signs =
                    ["cloudwatch_logs", "s3", "kinesis_firehose", "kinesis_streams"].contains(&firelens.name);
                let asked = ["aws_auth", "aws_msk_iam", "enable_identity_federation"];
                signs || asked.iter().any(|name| firelens.is_on(name))
            }
            _ => false,
        }
    }
}

impl Credentials {
    /// The part that is secret.
    pub fn secret(&self) -> Option<&SecretText> {
        match self {
            Self::User(_, secret) | Self::Token(secret) => Some(secret),
            Self::None | Self::Aws(_) => None,
        }
    }
}

impl Firelens {
    /// The value of a property that is no secret.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a property is there that says yes.
    fn is_on(&self, name: &str) -> bool {
        self.property(name).and_then(facts::flag) == Some(true)
    }
}
