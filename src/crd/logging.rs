//! Where the output of jobs goes
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_LogConfiguration.html>).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container::Secret;

/// Where the output of a container goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogConfiguration {
    /// The log driver: one of AWS's, or s3, loki, opensearch, opentelemetry or stdout.
    pub log_driver: LogDriver,
    /// Options of the driver.
    #[schemars(extend("maxProperties" = 128), extend("additionalProperties" = {"type": "string", "maxLength": 16384}))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Options whose values come from secrets.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_options: Vec<Secret>,
}

/// A log driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// CloudWatch Logs.
    #[default]
    Awslogs,
    /// A Splunk HTTP event collector.
    Splunk,
    /// A fluentd forward input.
    Fluentd,
    /// A Graylog server.
    Gelf,
    /// A syslog server.
    Syslog,
    /// The node's journal.
    Journald,
    /// Files on the node, rotated.
    JsonFile,
    /// Any output of Fluent Bit; options are passed on.
    Awsfirelens,
    /// Objects in a bucket; not an AWS Batch driver.
    #[serde(rename = "s3")]
    S3,
    /// Grafana Loki; not an AWS Batch driver.
    Loki,
    /// OpenSearch; not an AWS Batch driver.
    Opensearch,
    /// OpenTelemetry; not an AWS Batch driver.
    Opentelemetry,
    /// The log sidecar's own output, for trying things out; not an AWS Batch driver.
    Stdout,
}

/// Which log drivers jobs may use in an environment, and how logs get out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggingPolicy {
    /// For jobs that have none and whose queue has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
    /// Drivers that jobs may use; * matches any text. Empty: all but json-file, which fills disks of nodes and must be named.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_drivers: Vec<String>,
    /// CloudWatch log groups that jobs may write to; * matches any text, as in /aws/batch/custom/*. Empty: all.
    #[schemars(length(max = 128), inner(length(max = 512)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_log_groups: Vec<String>,
    /// Hosts that drivers may send to; * matches any text. Empty: all.
    #[schemars(length(max = 128), inner(length(max = 512)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Where the sidecar reads: HOST_PATH (default), or API where pods may have no hostPath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<LogSource>,
    /// How long a pod waits for its log sidecar before it is replaced by one without; default 60.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_seconds: Option<i32>,
    /// How much undelivered output each sidecar keeps on disk, in MiB, for its containers together; default 256, and 8 for each at least.
    #[schemars(range(min = 8, max = 65_536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_mi_b: Option<i32>,
    /// Settings for the driver awslogs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awslogs: Option<AwslogsDefaults>,
}

/// Where a log sidecar reads a job's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LogSource {
    /// The pod's own log folder on the node.
    #[default]
    HostPath,
    /// The Kubernetes API.
    Api,
}

/// Settings for the driver awslogs on clusters outside AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwslogsDefaults {
    /// URL of the CloudWatch Logs endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region for jobs that name none.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Log group for jobs that name none; default /aws/batch/job.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Secret in the job's namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; default: the pod's role.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
    /// Secret in the job's namespace with the endpoint's certificate authority, as name:key; without a key it is value.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// The endpoint need not prove who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}

/// Where the output of a queue's jobs goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueLogging {
    /// For jobs that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
}
