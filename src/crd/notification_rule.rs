//! NotificationRule: who is told what of the jobs of a namespace. AWS has EventBridge rules and SNS topics for it
//! (<https://docs.aws.amazon.com/batch/latest/userguide/batch_cwe_events.html>).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own, rule};
use super::schema;
use super::shared::State;

const SPEC: &[Rule] = &[
    rule(
        "[has(self.http), has(self.smtp)].filter(x, x).size() == 1",
        "a notification rule needs exactly one of http and smtp",
    ),
    rule(
        "(has(self.phases) && self.phases.size() > 0) || (has(self.sessionReady) && self.sessionReady) || \
         (has(self.blocked) && self.blocked)",
        "a notification rule needs at least one of phases, sessionReady and blocked",
    ),
    own(
        "queues",
        "self.all(p, p.matches('^[A-Za-z0-9_.*-]{1,253}$'))",
        "queues can have letters, numbers, hyphens, underscores, periods and asterisks (*)",
    ),
    own(
        "jobNames",
        "self.all(p, p.matches('^[A-Za-z0-9_.*-]{1,253}$'))",
        "jobNames can have letters, numbers, hyphens, underscores, periods and asterisks (*)",
    ),
];

const HTTP: &[Rule] = &[
    rule("has(self.url) != has(self.urlFrom)", "http needs exactly one of url and urlFrom"),
    own(
        "url",
        "self.matches('^https?://[^/?#@\\\\s]+([/?#]\\\\S*)?$')",
        "url must begin with https:// or http:// and name a host without a user",
    ),
    own("headers", "self.size() <= 16", "headers can have at most 16 entries"),
    rule(
        "!has(self.url) || !self.url.startsWith('http://') || \
         !has(self.headers) || self.headers.all(h, !has(h.valueFrom))",
        "headers with a valueFrom need an https:// url",
    ),
];

const HEADER: &[Rule] = &[
    own(
        "name",
        "self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]{1,128}$')",
        "the name of a header can have up to 128 letters, numbers and !#$%&*+.^_|~-",
    ),
    own(
        "name",
        "!(self.lowerAscii() in ['host', 'content-type', 'content-length', 'transfer-encoding', 'connection', \
         'upgrade', 'te', 'trailer', 'expect', 'webhook-id', 'webhook-timestamp', 'webhook-signature'])",
        "this header is set by Batchyard",
    ),
    rule("has(self.value) != has(self.valueFrom)", "a header needs exactly one of value and valueFrom"),
    own(
        "value",
        "self.size() <= 4096 && self.matches('^[ -~]*$')",
        "the value of a header can have up to 4096 printable ASCII characters",
    ),
];

const SMTP: &[Rule] = &[
    own(
        "host",
        "self.matches('^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$')",
        "host must be a DNS name or an IP address",
    ),
    own(
        "from",
        "self.matches('^[^\\\\s@<>,;]+@[^\\\\s@<>,;]+$')",
        "from must be an address such as batch@example.org",
    ),
    own("to", "self.size() >= 1 && self.size() <= 50", "to needs 1 to 50 addresses"),
    own(
        "to",
        "self.all(a, a.matches('^[^\\\\s@<>,;]+@[^\\\\s@<>,;]+$'))",
        "to must have addresses such as user@example.org",
    ),
    own(
        "subject",
        "self.size() <= 200 && self.matches('^\\\\P{Cc}*$')",
        "subject can have up to 200 characters and no line breaks",
    ),
];

/// What to tell, and to whom. Only what happens after the rule was made is told.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "NotificationRule",
    plural = "notificationrules",
    shortname = "nr",
    category = "batchyard",
    namespaced,
    status = "NotificationRuleStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Who is told what of the jobs of a namespace: by CloudEvents over HTTP or by e-mail.",
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"DELIVERED","type":"integer","jsonPath":".status.delivered"}"#,
    printcolumn = r#"{"name":"FAILURES","type":"integer","jsonPath":".status.failures"}"#,
    printcolumn = r#"{"name":"DROPPED","type":"integer","jsonPath":".status.dropped"}"#,
    printcolumn = r#"{"name":"LAST","type":"date","jsonPath":".status.lastDeliveredAt"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SPEC)))]
pub struct NotificationRuleSpec {
    /// ENABLED (default), or DISABLED: nothing is told, also not later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Only of jobs in these queues of the namespace, by name; * stands for any characters. Default: all.
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Only of jobs with these names; * stands for any characters. Default: all.
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_names: Vec<String>,
    /// Tell when a job comes to one of these phases. AWS tells of no submission, so SUBMITTED is none of them.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<ToldPhase>,
    /// Tell when people can connect to an interactive session, with its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ready: Option<bool>,
    /// Tell when the job at the head of a queue cannot start until somebody acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// Send CloudEvents to an HTTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
    /// Send e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpSink>,
}

/// A phase that can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ToldPhase {
    /// Waiting for other jobs, or an array for its children.
    Pending,
    /// Waiting for room.
    Runnable,
    /// Placed, starting.
    Starting,
    /// Running.
    Running,
    /// Ended well.
    #[default]
    Succeeded,
    /// Ended badly.
    Failed,
}

/// An HTTP server that takes CloudEvents in structured mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(HTTP)))]
pub struct HttpSink {
    /// Where events are posted. Redirects are not followed.
    #[schemars(length(max = 2048))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the URL stands, for one that is a secret itself; it must be an https:// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretKey>,
    /// More headers, up to 16.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Certificates in PEM that the server's is checked with, instead of the public ones.
    #[schemars(length(max = 65_536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Signs each request with this key (HMAC-SHA256, headers as in Standard Webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretKey>,
}

/// A header of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(HEADER)))]
pub struct Header {
    /// Its name.
    #[schemars(length(max = 256))]
    pub name: String,
    /// Its value, for everybody to read.
    #[schemars(length(max = 8192))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<SecretKey>,
}

/// A key of a Secret in the rule's namespace, which an administrator must have opened to the notifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A mail server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SMTP)))]
pub struct SmtpSink {
    /// The server's name, which its certificate must have.
    #[schemars(length(max = 512))]
    pub host: String,
    /// Its port; default 587 for STARTTLS and 465 for TLS.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// STARTTLS (default) or TLS from the beginning. Nothing is sent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SmtpTls>,
    /// Who sends.
    #[schemars(length(max = 320))]
    pub from: String,
    /// Who is told, up to 50.
    #[schemars(length(max = 128), inner(length(max = 320)))]
    pub to: Vec<String>,
    /// Instead of our own; {jobName}, {jobId}, {queue}, {namespace}, {status}, {reason} and {url} are filled in.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// User name and password; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SmtpCredentials>,
    /// Certificates in PEM that the server's is checked with, instead of the public ones.
    #[schemars(length(max = 65_536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SmtpTls {
    /// After a few words in the clear.
    #[default]
    StartTls,
    /// From the beginning.
    Tls,
}

/// Where user name and password of a mail server stand, in a Secret of the rule's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmtpCredentials {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the user name; default username.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_key: Option<String>,
    /// The key of the password; default password.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_key: Option<String>,
}

/// What became of the rule's notifications. Written by the notifier only, and not for each of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationRuleStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many were delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<i64>,
    /// How many tries failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i64>,
    /// How many were never delivered: refused for good, too old, or too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<i64>,
    /// How many waited when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<i32>,
    /// When one was last delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered_at: Option<jiff::Timestamp>,
    /// When a try last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_at: Option<jiff::Timestamp>,
    /// Why it failed.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Up to which versions of jobs and queues all is delivered: where a restarted notifier begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_through: Option<Versions>,
    /// Recipients who have less than that, since the mail server does not take what is for them now.
    #[schemars(length(max = 128))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Behind>,
    /// Ready, FieldsIgnored and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A recipient who has less than the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behind {
    /// The recipient.
    #[schemars(length(max = 320))]
    pub to: String,
    /// Up to which versions of jobs and queues they have everything.
    pub through: Versions,
}

/// resourceVersions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// Of BatchJobs.
    #[serde(default)]
    pub jobs: u64,
    /// Of JobQueues.
    #[serde(default)]
    pub queues: u64,
}
