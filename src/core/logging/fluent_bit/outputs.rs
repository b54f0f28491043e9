//! From a driver's route to the output of Fluent Bit that serves it.

use super::super::route::{
    Awslogs, Credentials, Firelens, Fluentd, Gelf, JsonFile, Listener, Loki, Opensearch, Opentelemetry,
    Output, Place, S3, Splunk, Stdout, Syslog, Tls, Transport,
};
use super::super::sidecar::{BUFFER, FILES};
use super::super::value::Literal;
use super::{Plugin, Properties, Setting, Text, Variable};

/// What an output refers to: variables and files that were given out for it.
pub(in super::super) trait References {
    /// The name of the container.
    fn container(&self) -> &str;
    /// The variable of its own with this name.
    fn own(&mut self, name: &'static str) -> Variable;
    /// The variable of its n-th secret.
    fn secret(&mut self, number: usize) -> Variable;
    /// The path of a file that a Secret has.
    fn file(&mut self, reference: &str) -> String;
    /// The path in the sidecar of a unix socket of the node.
    fn socket(&mut self, path: &str) -> String;
}

/// The output for a container's records.
pub(in super::super) fn plugin(output: &Output, references: &mut dyn References) -> Plugin {
    let (name, properties) = match output {
        Output::Awslogs(awslogs) => ("cloudwatch_logs", of_awslogs(awslogs, references)),
        Output::Splunk(splunk) => ("splunk", of_splunk(splunk, references)),
        Output::Fluentd(fluentd) => ("forward", of_fluentd(fluentd, references)),
        Output::Gelf(gelf) => ("gelf", of_gelf(gelf)),
        Output::Syslog(syslog) => ("syslog", of_syslog(syslog, references)),
        Output::JsonFile(file) => ("file", of_json_file(file, references)),
        Output::Firelens(firelens) => (firelens.name, of_firelens(firelens, references)),
        Output::S3(s3) => ("s3", of_s3(s3, references)),
        Output::Loki(loki) => ("loki", of_loki(loki, references)),
        Output::Opensearch(opensearch) => ("opensearch", of_opensearch(opensearch, references)),
        Output::Opentelemetry(collector) => ("opentelemetry", of_opentelemetry(collector, references)),
        Output::Stdout(stdout) => ("stdout", of_stdout(*stdout)),
    };
    Plugin { name, properties }
}

fn place(place: &Place) -> Properties {
    Properties::default().with("host", Text::fixed(place.host.clone())).with("port", u64::from(place.port))
}

fn tls(tls: &Tls, references: &mut dyn References) -> Properties {
    let properties = Properties::default().with("tls", tls.on);
    if !tls.on {
        return properties;
    }
    let mut file = |reference: &Option<String>| {
        reference.as_ref().map(|reference| Text::fixed(references.file(reference)))
    };
    properties
        .with("tls.verify", !tls.unverified)
        .with("tls.verify_hostname", !tls.unverified)
        .with_some("tls.vhost", tls.name.as_ref())
        .with_some("tls.ca_file", file(&tls.authority))
        .with_some("tls.crt_file", file(&tls.certificate))
        .with_some("tls.key_file", file(&tls.key))
}

fn gzip(on: bool) -> Properties {
    Properties::default().with_some("compress", on.then_some("gzip"))
}

fn of_awslogs(awslogs: &Awslogs, references: &mut dyn References) -> Properties {
    let Awslogs {
        region,
        group,
        prefix: _,
        create_group,
        endpoint,
        tls: by,
        endpoint_of_environment: _,
        embedded_metrics,
    } = awslogs;
    let properties = Properties::default()
        .with("region", region)
        .with("log_group_name", group)
        .with("log_stream_name", Text::variable(&references.own("STREAM")))
        .with("log_key", "log")
        .with_some("log_format", embedded_metrics.then_some("json/emf"))
        .with("auto_create_group", *create_group);
    // Without `tls`: Fluent Bit does not start with it here, and does without it what it would say.
    match endpoint {
        None => properties,
        Some(endpoint) => {
            let authority = by.authority.as_ref().map(|reference| Text::fixed(references.file(reference)));
            properties
                .with("endpoint", Text::fixed(endpoint.host.clone()))
                .with("port", u64::from(endpoint.port.unwrap_or(443)))
                .with("tls.verify", !by.unverified)
                .with_some("tls.ca_file", authority)
        }
    }
}

/// The record's members that say which job it is of; those that a record has at all times.
pub(in super::super) const MEMBERS: [&str; 7] =
    ["job_id", "job_name", "queue", "definition", "attempt", "node", "container"];
/// What each line has of the runtime beside its text. The time is the runtime's text, to the nanosecond: Fluent Bit's own
/// time of a record is a little off, and most outputs cut it.
pub(in super::super) const OF_LINES: [&str; 2] = ["stream", "time"];

fn of_splunk(splunk: &Splunk, references: &mut dyn References) -> Properties {
    let Splunk { place: at, tls: by, token: _, index, source, source_type, raw, gzip: compressed, tag: _ } =
        splunk;
    // A raw event is the line alone; what is known of the job goes into the fields that Splunk keeps beside it.
    let fields = raw.then(|| {
        let field = |name: &str| Text::fixed(format!("{name} ${name}"));
        Setting::Texts(MEMBERS.into_iter().chain(OF_LINES).map(field).collect())
    });
    place(at)
        .and(tls(by, references))
        .with("splunk_token", Text::variable(&references.secret(0)))
        .with("event_host", "$node")
        .with_some("event_index", index.as_ref())
        .with_some("event_source", source.as_ref())
        .with_some("event_sourcetype", source_type.as_ref())
        .with_some("event_key", raw.then_some("$log"))
        .with_some("event_field", fields)
        .and(gzip(*compressed))
}

fn of_fluentd(fluentd: &Fluentd, references: &mut dyn References) -> Properties {
    let Fluentd { listener, tag: _, acknowledged, sub_second } = fluentd;
    let to = match listener {
        Listener::Tcp(at, by) => place(at).and(tls(by, references)),
        Listener::Unix(path) => {
            Properties::default().with("unix_path", Text::fixed(references.socket(path.as_str())))
        }
    };
    to.with("tag", Text::variable(&references.own("TAG")))
        .with("require_ack_response", *acknowledged)
        .with("time_as_integer", !*sub_second)
}

fn of_gelf(gelf: &Gelf) -> Properties {
    let Gelf { place: at, transport, gzip: compressed, tag: _ } = gelf;
    place(at)
        .with("mode", mode(*transport))
        .with("compress", *compressed)
        .with("gelf_short_message_key", "log")
        .with("gelf_host_key", "node")
}

const fn mode(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    }
}

/// The structured data of a message, in which a record's members stand.
pub(in super::super) const STRUCTURED_DATA: &str = "batchyard";

fn of_syslog(syslog: &Syslog, references: &mut dyn References) -> Properties {
    let Syslog { place: at, transport, tls: by, facility, rfc5424, tag: _ } = syslog;
    // What a datagram takes, and what no receiver refuses; without it lines are cut at 1 or 2 KiB.
    let longest: u64 = if *transport == Transport::Udp { 65_000 } else { 1 << 20 };
    let by = if by.on { tls(by, references) } else { Properties::default() };
    place(at)
        .with("mode", mode(*transport))
        .and(by)
        .with("syslog_format", if *rfc5424 { "rfc5424" } else { "rfc3164" })
        .with("syslog_maxsize", longest)
        .with("syslog_facility_preset", u64::from(*facility))
        .with("syslog_appname_preset", Text::variable(&references.own("TAG")))
        .with("syslog_hostname_key", "node")
        .with("syslog_message_key", "log")
        .with_some("syslog_sd_key", rfc5424.then_some(STRUCTURED_DATA))
}

fn of_json_file(file: &JsonFile, references: &mut dyn References) -> Properties {
    let JsonFile { max_bytes, max_files, compress, tag: _ } = file;
    Properties::default()
        .with("path", FILES)
        .with("file", Text::fixed(format!("{}.log", references.container())))
        .with("mkdir", true)
        .with("format", "plain")
        .with("rotate", true)
        .with("rotate_max_size", *max_bytes)
        .with("rotate_max_files", u64::from(max_files.saturating_sub(1).max(1)))
        .with("rotate_gzip", *compress)
}

fn of_firelens(firelens: &Firelens, references: &mut dyn References) -> Properties {
    let Firelens { name, properties, secrets, include: _, exclude: _ } = firelens;
    let plain = properties.iter().fold(Properties::default(), |all, (name, value)| all.with(name, value));
    let all = secrets
        .iter()
        .enumerate()
        .fold(plain, |all, (number, (name, _))| all.with(name, Text::variable(&references.secret(number))));
    match *name {
        "s3" => all.with("store_dir", Text::fixed(format!("{BUFFER}/s3/{}", references.container()))),
        _ => all,
    }
}

fn of_s3(s3: &S3, references: &mut dyn References) -> Properties {
    let S3 {
        bucket,
        region,
        prefix: _,
        endpoint,
        gzip: compressed,
        object_bytes,
        upload_seconds,
        storage_class,
    } = s3;
    let endpoint = endpoint.as_ref().map(|endpoint| {
        let port = endpoint.port.map_or_else(String::new, |port| format!(":{port}"));
        Text::fixed(format!("{}://{}{port}", endpoint.scheme, endpoint.host))
    });
    Properties::default()
        .with("bucket", bucket)
        .with("region", region)
        .with_some("endpoint", endpoint)
        .with("s3_key_format", Text::variable(&references.own("KEY")))
        .with("use_put_object", true)
        .with("total_file_size", *object_bytes)
        .with("upload_timeout", *upload_seconds)
        .with("store_dir", Text::fixed(format!("{BUFFER}/s3/{}", references.container())))
        .with_some("compression", compressed.then_some("gzip"))
        .with_some("storage_class", storage_class.as_ref())
}

fn credentials(credentials: &Credentials, references: &mut dyn References) -> Properties {
    let properties = Properties::default();
    match credentials {
        Credentials::None => properties,
        Credentials::User(user, _) => {
            properties.with("http_user", user).with("http_passwd", Text::variable(&references.secret(0)))
        }
        Credentials::Token(_) => properties.with("bearer_token", Text::variable(&references.secret(0))),
        Credentials::Aws(region) => properties.with("aws_auth", true).with("aws_region", region),
    }
}

fn of_loki(loki: &Loki, references: &mut dyn References) -> Properties {
    let Loki { place: at, path, tls: by, tenant, labels, credentials: who, gzip: compressed } = loki;
    let ours = ["queue", "definition", "job_name"].map(|name| format!("{name}=${name}"));
    let theirs = labels
        .iter()
        .map(|(name, value): &(Literal, Literal)| format!("{}={}", name.as_str(), value.as_str()));
    let labels: Vec<String> = ours.into_iter().chain(theirs).collect();
    place(at)
        .and(tls(by, references))
        .with("uri", path)
        .with_some("tenant_id", tenant.as_ref())
        .with("labels", Text::fixed(labels.join(",")))
        .with("line_format", "json")
        .and(credentials(who, references))
        .and(gzip(*compressed))
}

fn of_opensearch(opensearch: &Opensearch, references: &mut dyn References) -> Properties {
    let Opensearch { place: at, path, tls: by, index, pipeline, credentials: who, gzip: compressed } =
        opensearch;
    place(at)
        .and(tls(by, references))
        .with_some("path", path.as_ref())
        .with("index", index)
        .with_some("pipeline", pipeline.as_ref())
        .with("suppress_type_name", true)
        .and(credentials(who, references))
        .and(gzip(*compressed))
}

fn of_opentelemetry(collector: &Opentelemetry, references: &mut dyn References) -> Properties {
    let Opentelemetry { place: at, path, tls: by, header, gzip: compressed } = collector;
    let header = header.as_ref().map(|(name, _)| Text::name_and_variable(name, &references.secret(0)));
    place(at)
        .and(tls(by, references))
        .with("logs_uri", path)
        .with("logs_body_key", "$log")
        .with("logs_body_key_attributes", true)
        .with_some("header", header)
        .and(gzip(*compressed))
}

fn of_stdout(stdout: Stdout) -> Properties {
    Properties::default().with_some("format", stdout.json.then_some("json_lines"))
}
