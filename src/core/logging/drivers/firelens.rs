//! `awsfirelens`: an output of Fluent Bit by its name, and its properties
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_firelens.html>).
//!
//! Properties are those of Fluent Bit's own list ([`facts`]); what would reach into the sidecar's files, or is the
//! sidecar's own business, is refused.

use super::super::fluent_bit::facts::{self, Kind};
use super::super::multiline;
use super::super::options::{COMMON, DOCKER, Entry, Options, Rule};
use super::super::route::Firelens;
use super::super::value::Literal;
use super::super::{Configuration, Refusal};

const FLUENTD: &str = "it is an option of fluentd; here Fluent Bit runs, whose outputs are named by Name";

pub(super) const TABLES: &[&[Entry]] = &[
    COMMON,
    &[
        ("Name", Rule::Honoured),
        ("include-pattern", Rule::Honoured),
        ("exclude-pattern", Rule::Honoured),
        ("@type", Rule::Refused(FLUENTD)),
        (
            "log-driver-buffer-limit",
            Rule::Refused("there is no log driver before the sidecar; max-buffer-size bounds its buffer"),
        ),
        ("fluentd-address", Rule::Refused("the sidecar reads the container's own log")),
    ],
    DOCKER,
];

/// Properties that the sidecar sets itself, or that say how it works.
const SIDECARS: [&str; 10] = [
    "match",
    "match_regex",
    "alias",
    "workers",
    "retry_limit",
    "storage.total_limit_size",
    "log_level",
    "log_suppress_interval",
    "tls.debug",
    "trace_output",
];
const OF_THE_SIDECAR: &str = "it is the sidecar's own; mode and max-buffer-size are options of every driver";
const FILES: &str = "the sidecar has no files of yours";

/// Where the text of a property names a file or a folder.
fn names_files(output: &str, name: &str) -> bool {
    match name {
        // A label, and parts of URLs.
        "file" => output != "logdna",
        "path" => !matches!(output, "es" | "opensearch" | "azure_blob"),
        // A yes or no, a number, a part of a URL.
        "static_file_path"
        | "total_file_size"
        | "upload_file_size"
        | "file_delivery_attempt_limit"
        | "url_path"
        | "buffer_file_delete_early"
        | "store_dir_limit_size"
        | "quarantine_dir_limit_size"
        | "oci_la_log_path" => false,
        _ => {
            let parts = ["file", "_path", "_dir", "credentials", "profile"];
            (parts.iter().any(|part| name.contains(part)) && !name.contains("profiles_uri"))
                || name == "upstream"
                || name.starts_with("tls.windows")
        }
    }
}

/// Properties whose values nobody may see.
fn is_secret(name: &str) -> bool {
    let whole = [
        "api_key",
        "apikey",
        "license_key",
        "http_api_key",
        "shared_key",
        "cloud_auth",
        "header",
        "http_header",
        "avro_http_header",
    ];
    let part = ["passw", "token", "secret"];
    let address = name.ends_with("_url");
    !address && (whole.contains(&name) || part.iter().any(|part| name.contains(part)))
}

/// Outputs that speak TLS to AWS without being told, and do not start when they are.
const TLS_OF_ITSELF: [&str; 3] = ["cloudwatch_logs", "kinesis_firehose", "kinesis_streams"];
/// Outputs that have none, and do not start with it.
const WITHOUT_TLS: [&str; 3] = ["nats", "stdout", "udp"];

fn rule(output: &str, name: &str) -> Rule {
    if name == "tls" && TLS_OF_ITSELF.contains(&output) {
        Rule::Refused("this output uses TLS by itself, and does not start when it is told to")
    } else if name == "tls" && WITHOUT_TLS.contains(&output) {
        Rule::Refused("Fluent Bit has no TLS for this output, and does not start when it is told to use it")
    } else if SIDECARS.contains(&name) {
        Rule::Refused(OF_THE_SIDECAR)
    } else if names_files(output, name) {
        Rule::Refused(FILES)
    } else if is_secret(name) {
        Rule::Secret
    } else {
        Rule::Honoured
    }
}

/// The outputs that may be named; files have a driver of their own.
fn outputs() -> impl Iterator<Item = &'static str> {
    facts::outputs().filter(|name| *name != "file")
}

/// The output that is named.
fn output(configuration: &Configuration) -> Option<&'static str> {
    let name = configuration.options.get("Name")?;
    outputs().find(|known| known.eq_ignore_ascii_case(name))
}

/// The properties of an output, and what becomes of each.
fn properties(output: &'static str) -> impl Iterator<Item = Entry> {
    let own = facts::all_properties(Kind::Output, output).unwrap_or_default();
    own.into_keys().map(move |name| (name, rule(output, name)))
}

/// The properties of the output that is named, as options.
///
/// Where none is, `Name` is what is wrong: then a property of any output is taken, and not refused along with it.
pub(super) fn entries(configuration: &Configuration) -> Vec<Entry> {
    match output(configuration) {
        Some(output) => properties(output).collect(),
        None => outputs()
            .flat_map(properties)
            .filter(|(_, rule)| matches!(rule, Rule::Honoured | Rule::Secret))
            .collect(),
    }
}

pub(super) fn read(options: &mut Options<'_>, configuration: &Configuration) -> Option<Firelens> {
    options.missing("Name");
    let name = options.read("Name", |text| {
        let known = || outputs().collect::<Vec<_>>().join(", ");
        let hint = match text {
            "cloudwatch" => "; the plugin of that name is older than Fluent Bit's cloudwatch_logs",
            "firehose" => "; the plugin of that name is older than Fluent Bit's kinesis_firehose",
            "kinesis" => "; the plugin of that name is older than Fluent Bit's kinesis_streams",
            "file" => "; the driver json-file writes files",
            _ => "",
        };
        output(configuration)
            .ok_or_else(|| format!("{text:?} is no output of Fluent Bit{hint}; known are {}", known()))
    });
    let include = options.read("include-pattern", multiline::expression);
    let exclude = options.read("exclude-pattern", multiline::expression);
    let name = name?;
    let (mut properties, mut secrets) = (Vec::new(), Vec::new());
    for (property, takes) in facts::all_properties(Kind::Output, name).unwrap_or_default() {
        let text = |text: &str| {
            takes.check(text)?;
            Literal::read(text)
        };
        match rule(name, property) {
            Rule::Honoured => properties.extend(options.read(property, text).map(|value| (property, value))),
            Rule::Secret => secrets.extend(options.secret(property).map(|value| (property, value))),
            Rule::File | Rule::Refused(_) => {}
        }
    }
    Some(Firelens { name, properties, secrets, include, exclude })
}

/// AWS writes the properties as in `Name` and `Match`, and Fluent Bit does not mind; here each has one spelling, so that
/// none can be stated twice.
pub(super) fn respell(configuration: &Configuration) -> Result<Configuration, Vec<Refusal>> {
    let spelled = |name: &str| match name.to_ascii_lowercase() {
        lower if lower == "name" => "Name".to_owned(),
        lower => lower,
    };
    let mut out = Configuration { options: std::collections::BTreeMap::new(), ..configuration.clone() };
    let mut refusals = Vec::new();
    for (name, value) in &configuration.options {
        if out.options.insert(spelled(name), value.clone()).is_some() {
            refusals
                .push(Refusal { member: format!("options.{name}"), why: "it is stated twice".to_owned() });
        }
    }
    out.secret_options.iter_mut().for_each(|one| one.name = spelled(&one.name));
    if refusals.is_empty() { Ok(out) } else { Err(refusals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules go by parts of names; this is what they come to.
    #[test]
    fn what_the_rules_come_to() {
        let named = |wanted: fn(&Rule) -> bool| {
            let mut names: Vec<&str> = outputs()
                .flat_map(properties)
                .filter(|(_, rule)| wanted(rule))
                .map(|(name, _)| name)
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        assert_eq!(named(|rule| *rule == Rule::Secret).join(" "), SECRETS,);
        assert_eq!(named(|rule| *rule == Rule::Refused(FILES)).join(" "), REFUSED_FILES);
    }

    /// An output that comes with another Fluent Bit is one of these until somebody has looked.
    #[test]
    fn a_path_is_a_file_unless_it_is_known_to_be_a_part_of_a_url() {
        for (output, refused) in
            [("file", true), ("new", true), ("es", false), ("opensearch", false), ("azure_blob", false)]
        {
            assert_eq!(rule(output, "path") == Rule::Refused(FILES), refused, "{output}");
        }
    }

    #[test]
    fn outputs_that_take_no_tls() {
        let refused = |output: &&str| matches!(rule(output, "tls"), Rule::Refused(_));
        let found: Vec<&str> = outputs().filter(refused).collect();
        assert_eq!(found.join(" "), "cloudwatch_logs kinesis_firehose kinesis_streams nats stdout udp");
    }

    const SECRETS: &str = "api_key apikey auth_token authorization_endpoint_bearer_token authorization_endpoint_password \
                           avro_http_header bearer_token client_secret cloud_auth configuration_endpoint_bearer_token \
                           configuration_endpoint_password header http_api_key http_header http_passwd http_token \
                           license_key oauth2.client_secret password rdkafka.sasl.password sas_token \
                           schema.registry.bearer.token schema.registry.http.password schema_registry_bearer_token \
                           schema_registry_http_passwd service_account_secret shared_key splunk_token tls.key_passwd";
    const REFUSED_FILES: &str = "aws_profile blob_database_file buffer_dir config_file_location database_file \
                                 google_service_credentials label_map_path oauth2.jwt_cert_file oauth2.jwt_key_file \
                                 profile profile_name store_dir tls.ca_file tls.ca_path tls.crt_file tls.key_file \
                                 tls.proxy.ca_file tls.proxy.ca_path tls.windows.certstore_name \
                                 tls.windows.client_thumbprints tls.windows.use_enterprise_store unix_path upstream \
                                 workload_identity_token_file";
}
