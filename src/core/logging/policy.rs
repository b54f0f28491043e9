//! Which log configuration applies, and what an environment's `logging` allows.
//!
//! The post that brought custom logging to AWS Batch has the policy as a condition of IAM, on `batch:LogDriver` and
//! `batch:AWSLogsGroup`, of the kind that asks only where there is something to ask about: a job that logs to Splunk
//! has no log group, so that `allowedLogGroups` says nothing of it.

use super::route::{Firelens, Listener, Output, Route};

/// What an environment allows; an empty list allows everything but what has to be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `allowedDrivers`. The driver json-file has to be named: what it writes is on the node's disk, where no limit of the
    /// pod counts it and where it stays when the pod goes.
    pub drivers: Vec<String>,
    /// `allowedLogGroups`.
    pub log_groups: Vec<String>,
    /// `allowedHosts`.
    pub hosts: Vec<String>,
}

/// Where the configuration that applies was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the job's definition.
    Definition,
    /// In `logging.logConfiguration` of the queue.
    Queue,
    /// In `logging.logConfiguration` of the environment.
    Environment,
}

/// The configuration that applies: the definition's, else the queue's, else the environment's. With none, output stays
/// where `kubectl logs` finds it.
pub fn applicable<T>(definition: Option<T>, queue: Option<T>, environment: Option<T>) -> Option<(Level, T)> {
    let at = |level, configuration: Option<T>| configuration.map(|configuration| (level, configuration));
    at(Level::Definition, definition)
        .or_else(|| at(Level::Queue, queue))
        .or_else(|| at(Level::Environment, environment))
}

/// Something that output is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A host.
    Host(String),
    /// A unix socket of the node.
    Socket(String),
    /// A host that the configuration does not name.
    Unnamed,
}

impl Policy {
    /// Asks whether a route may be used; `environment` is named in the refusals.
    ///
    /// # Errors
    /// A sentence for each rule that forbids it.
    pub fn check(&self, route: &Route, environment: &str) -> Result<(), Vec<String>> {
        let mut refusals = Vec::new();
        let mut refuse = |rule: &str, what: String, allowed: &[String]| {
            // Of drivers an empty list forbids only what must be named.
            let nothing = if rule == "allowedDrivers" { "all others" } else { "none" };
            let allowed = if allowed.is_empty() { nothing.to_owned() } else { allowed.join(", ") };
            refusals.push(format!(
                "logging.{rule} of ComputeEnvironment {environment} does not allow {what}; allowed: {allowed}"
            ));
        };
        let driver = route.driver.as_str();
        let is_named = self.drivers.iter().any(|rule| matches(rule, driver));
        if fills_nodes(&route.output) && !is_named {
            let what = format!("the log driver {driver}, which fills disks of nodes and must be named there");
            refuse("allowedDrivers", what, &self.drivers);
        } else if !allows(&self.drivers, driver) {
            refuse("allowedDrivers", format!("the log driver {driver}"), &self.drivers);
        }
        match route.log_group() {
            Some(group) if !allows(&self.log_groups, group) => {
                refuse("allowedLogGroups", format!("the log group {group}"), &self.log_groups);
            }
            _ => {}
        }
        if !self.log_groups.is_empty() && names_groups_by_record(&route.output) {
            refuse(
                "allowedLogGroups",
                "log_group_template, which takes any group".to_owned(),
                &self.log_groups,
            );
        }
        for destination in destinations(&route.output) {
            match destination {
                Destination::Host(host) if !allows(&lower(&self.hosts), &host) => {
                    refuse("allowedHosts", format!("the host {host}"), &self.hosts);
                }
                // A socket of the node is another's on another node: only who runs the nodes can say that it is meant.
                Destination::Socket(path)
                    if !self.hosts.iter().any(|rule| matches(rule, &format!("unix://{path}"))) =>
                {
                    refuse("allowedHosts", format!("unix://{path}, which must be named there"), &self.hosts);
                }
                Destination::Unnamed if !self.hosts.is_empty() => {
                    refuse("allowedHosts", "a host that the options do not name".to_owned(), &self.hosts);
                }
                Destination::Host(_) | Destination::Socket(_) | Destination::Unnamed => {}
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }
}

/// True if a list allows the text.
fn allows(rules: &[String], text: &str) -> bool {
    rules.is_empty() || rules.iter().any(|rule| matches(rule, text))
}

fn lower(rules: &[String]) -> Vec<String> {
    rules.iter().map(|rule| rule.to_ascii_lowercase()).collect()
}

/// True if the text is as the rule says, in which `*` stands for any text, slashes among it, and nothing else has a
/// meaning of its own.
fn matches(rule: &str, text: &str) -> bool {
    let Some((start, rest)) = rule.split_once('*') else { return rule == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((end, middle)) = parts.split_last() else { return true };
    for part in middle {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

/// True for what takes up a node's disk, which pods of others need too.
const fn fills_nodes(output: &Output) -> bool {
    match output {
        Output::JsonFile(_) => true,
        Output::Awslogs(_)
        | Output::Splunk(_)
        | Output::Fluentd(_)
        | Output::Gelf(_)
        | Output::Syslog(_)
        | Output::Firelens(_)
        | Output::S3(_)
        | Output::Loki(_)
        | Output::Opensearch(_)
        | Output::Opentelemetry(_)
        | Output::Stdout(_) => false,
    }
}

fn names_groups_by_record(output: &Output) -> bool {
    matches!(output, Output::Firelens(firelens) if firelens.property("log_group_template").is_some())
}

/// The host of a service of AWS (<https://docs.aws.amazon.com/general/latest/gr/rande.html>).
fn of_aws(service: &str, region: &str) -> Destination {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Destination::Host(format!("{service}.{region}.{domain}"))
}

/// Everything that an output sends to, or asks for leave to send.
pub fn destinations(output: &Output) -> Vec<Destination> {
    let host = |host: &str| vec![Destination::Host(host.to_owned())];
    match output {
        Output::Awslogs(awslogs) => match &awslogs.endpoint {
            Some(_) if awslogs.endpoint_of_environment => Vec::new(),
            Some(endpoint) => host(&endpoint.host),
            None => vec![of_aws("logs", awslogs.region.as_str())],
        },
        Output::S3(s3) => match &s3.endpoint {
            Some(endpoint) => host(&endpoint.host),
            None => vec![of_aws("s3", s3.region.as_str())],
        },
        Output::Splunk(splunk) => host(&splunk.place.host),
        Output::Gelf(gelf) => host(&gelf.place.host),
        Output::Syslog(syslog) => host(&syslog.place.host),
        Output::Loki(loki) => host(&loki.place.host),
        Output::Opensearch(opensearch) => host(&opensearch.place.host),
        Output::Opentelemetry(collector) => host(&collector.place.host),
        Output::Fluentd(fluentd) => match &fluentd.listener {
            Listener::Tcp(place, _) => host(&place.host),
            Listener::Unix(path) => vec![Destination::Socket(path.as_str().to_owned())],
        },
        Output::Firelens(firelens) => of_firelens(firelens),
        Output::JsonFile(_) | Output::Stdout(_) => Vec::new(),
    }
}

/// Properties that name a further host, or an address with one.
const MORE: [&str; 9] = [
    "sts_endpoint",
    "aws_sts_endpoint",
    "proxy",
    "oauth2.token_url",
    "authorization_endpoint_url",
    "configuration_endpoint_url",
    "schema.registry.url",
    "schema_registry_url",
    "metadata_server",
];

/// Where an output of Fluent Bit sends to. What is not known to go by a property goes to a host that is not named:
/// several outputs take a property `host` and send somewhere else.
fn of_firelens(firelens: &Firelens) -> Vec<Destination> {
    let by = |name: &str| match firelens.property(name) {
        None => vec![Destination::Unnamed],
        Some(value) => value.split(',').map(of_address).collect(),
    };
    let of_aws = |service: &str| match (firelens.property("endpoint"), firelens.property("region")) {
        (Some(endpoint), _) => vec![of_address(endpoint)],
        (None, Some(region)) => vec![of_aws(service, region)],
        (None, None) => vec![Destination::Unnamed],
    };
    let mut found = match firelens.name {
        "stdout" => Vec::new(),
        "cloudwatch_logs" => of_aws("logs"),
        "s3" => of_aws("s3"),
        "kinesis_firehose" => of_aws("firehose"),
        "kinesis_streams" => of_aws("kinesis"),
        "kafka" => by("brokers"),
        "slack" => by("webhook"),
        "nrlogs" => by("base_uri"),
        "logdna" => by("logdna_host"),
        // A host is in it, but not to be read.
        "es" if firelens.property("cloud_id").is_some() => vec![Destination::Unnamed],
        "datadog" | "es" | "forward" | "gelf" | "http" | "influxdb" | "kafka-rest" | "loki" | "nats"
        | "opensearch" | "opentelemetry" | "skywalking" | "splunk" | "syslog" | "tcp" | "udp"
        | "websocket" => by("host"),
        _ => vec![Destination::Unnamed],
    };
    let more = MORE.into_iter().filter_map(|name| firelens.property(name));
    found.extend(more.flat_map(|value| value.split(',')).map(of_address));
    found
}

/// The host of `host`, `host:port` or `scheme://host:port/path`.
fn of_address(text: &str) -> Destination {
    let place = text.trim().split_once("://").map_or(text.trim(), |(_, rest)| rest);
    let place = place.split('/').next().unwrap_or(place);
    super::value::host_and_port(place).map_or(Destination::Unnamed, |(host, _)| Destination::Host(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (rule, text, want) in [
            ("/aws/batch/custom/*", "/aws/batch/custom/env-queue", true),
            ("/aws/batch/custom/*", "/aws/batch/custom/a/b", true),
            ("/aws/batch/custom/*", "/aws/batch/custom/", true),
            ("/aws/batch/custom/*", "/aws/batch/custom", false),
            ("/aws/batch/custom/*", "/aws/batch/job", false),
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            // What stands for one part stands for no other.
            ("*b*b", "ab", false),
            ("a*bc*cd", "abcd", false),
            ("*.example.com", "splunk.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "splunk.example.com.evil.net", false),
            ("a*a", "a", false),
            ("a.c", "abc", false),
            ("a?c", "abc", false),
            ("[a]", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(rule, text), want, "{rule:?} {text:?}");
        }
    }

    #[test]
    fn the_definition_comes_before_the_queue_and_the_queue_before_the_environment() {
        use Level::{Definition, Environment, Queue};
        for (definition, queue, environment, want) in [
            (Some(1), Some(2), Some(3), Some((Definition, 1))),
            (Some(1), None, Some(3), Some((Definition, 1))),
            (None, Some(2), Some(3), Some((Queue, 2))),
            (None, None, Some(3), Some((Environment, 3))),
            (None, None, None, None),
        ] {
            assert_eq!(applicable(definition, queue, environment), want);
        }
    }
}
