//! The configuration of each driver as a file. `UPDATE=1 cargo test -p batchyard-core --test logging` writes them anew;
//! read the difference before you believe it.

use std::path::Path;

use batchyard_core::logging::Driver;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{Member, Part, Settings, Source};

use super::{SETTINGS, least, read, shown, shown_alone};

fn compare(name: &str, text: &str) -> Result<(), String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logging/golden").join(format!("{name}.yaml"));
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1") && std::env::var_os("CI").is_none();
    if update {
        std::fs::write(&path, text).expect("the golden can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden == text { Ok(()) } else { Err(format!("{name}.yaml differs from:\n{text}")) }
}

fn route(driver: Driver, options: &[(&str, &str)]) -> Route {
    read(driver, options).unwrap_or_else(|refusals| panic!("{driver:?}: {refusals:?}"))
}

/// Each driver with nearly all of its options.
static ALL: [(Driver, &[(&str, &str)]); 12] = [
    (
        Driver::Awslogs,
        &[
            ("awslogs-region", "eu-west-1"),
            ("awslogs-group", "/aws/batch/custom/env-queue"),
            ("awslogs-stream-prefix", "team-a"),
            ("awslogs-create-group", "true"),
            ("awslogs-datetime-format", "%Y-%m-%d %H:%M:%S"),
            ("awslogs-endpoint", "https://logs.local:4566"),
            ("mode", "non-blocking"),
            ("max-buffer-size", "25m"),
        ],
    ),
    (
        Driver::Splunk,
        &[
            ("splunk-url", "https://splunk.example.com:8088"),
            ("splunk-token <-", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:splunk-AbCdEf:token::"),
            ("splunk-index", "jobs"),
            ("splunk-source", "batch"),
            ("splunk-sourcetype", "_json"),
            ("splunk-capath <-", "splunk-ca"),
            ("splunk-caname", "SplunkServerDefaultCert"),
            ("splunk-gzip", "true"),
            ("tag", "{{.Name}}/{{.FullID}}"),
        ],
    ),
    (
        Driver::Fluentd,
        &[
            ("fluentd-address", "tls://fluentd.example.com:24284"),
            ("fluentd-request-ack", "true"),
            ("fluentd-sub-second-precision", "true"),
            ("fluentd-buffer-limit", "8MB"),
            ("tag", "docker.{{.ID}}"),
        ],
    ),
    (
        Driver::Gelf,
        &[
            ("gelf-address", "udp://graylog.example.com:12201"),
            ("gelf-compression-type", "none"),
            ("tag", "{{.ImageName}}"),
        ],
    ),
    (
        Driver::Syslog,
        &[
            ("syslog-address", "tcp+tls://syslog.example.com:6514"),
            ("syslog-facility", "local3"),
            ("syslog-format", "rfc5424"),
            ("syslog-tls-ca-cert <-", "syslog:ca"),
            ("syslog-tls-cert <-", "syslog:cert"),
            ("syslog-tls-key <-", "syslog:key"),
        ],
    ),
    (Driver::JsonFile, &[("max-size", "10m"), ("max-file", "3"), ("compress", "true"), ("tag", "x")]),
    (
        Driver::Awsfirelens,
        &[
            ("Name", "datadog"),
            ("Host", "http-intake.logs.datadoghq.com"),
            ("apikey <-", "datadog"),
            ("dd_service", "render"),
            ("TLS", "on"),
            ("include-pattern", "^.*[aeiou]$"),
            ("exclude-pattern", "^[a-z][aeiou].*$"),
        ],
    ),
    (
        Driver::S3,
        &[
            ("s3-bucket", "team-logs"),
            ("s3-region", "eu-west-1"),
            ("s3-prefix", "batch/%Y/%m/%d"),
            ("s3-endpoint", "http://minio:9000"),
            ("s3-gzip", "true"),
            ("s3-object-size", "10m"),
            ("s3-upload-timeout", "30s"),
            ("s3-storage-class", "STANDARD_IA"),
        ],
    ),
    (
        Driver::Loki,
        &[
            ("loki-url", "https://loki.example.com/loki/api/v1/push"),
            ("loki-tenant", "team-a"),
            ("loki-labels", "team=render,stage=prod"),
            ("loki-user", "batch"),
            ("loki-password", "hunter2"),
            ("loki-gzip", "true"),
        ],
    ),
    (
        Driver::Opensearch,
        &[
            ("opensearch-url", "https://search.eu-west-1.es.amazonaws.com"),
            ("opensearch-index", "batch-jobs"),
            ("opensearch-pipeline", "clean"),
            ("opensearch-aws-region", "eu-west-1"),
            ("opensearch-gzip", "true"),
        ],
    ),
    (
        Driver::Opentelemetry,
        &[
            ("opentelemetry-url", "https://otel.example.com:4318"),
            ("opentelemetry-header-name", "Authorization"),
            ("opentelemetry-header-value <-", "otel:header"),
            ("opentelemetry-gzip", "true"),
            ("opentelemetry-insecureskipverify", "true"),
        ],
    ),
    (Driver::Stdout, &[]),
];

#[test]
fn each_driver_with_all_that_it_has() {
    let wrong: Vec<String> = ALL
        .iter()
        .filter_map(|(driver, options)| {
            compare(driver.as_str(), &shown_alone(&route(*driver, options))).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{}\nUPDATE=1 writes them anew", wrong.join("\n"));
}

#[test]
fn what_the_post_has() {
    let env = route(
        Driver::Awslogs,
        &[
            ("awslogs-region", "eu-west-1"),
            ("awslogs-group", "/aws/batch/custom/env-queue"),
            ("awslogs-create-group", "true"),
        ],
    );
    let splunk = route(Driver::Splunk, least(Driver::Splunk));
    let wrong: Vec<String> = [("post-alpine-env", env), ("post-alpine-splunk", splunk)]
        .iter()
        .filter_map(|(name, route)| compare(name, &shown_alone(route)).err())
        .collect();
    assert!(wrong.is_empty(), "{}\nUPDATE=1 writes them anew", wrong.join("\n"));
}

#[test]
fn several_containers_the_api_arrays_and_nodes() {
    let awslogs = route(Driver::Awslogs, least(Driver::Awslogs));
    let splunk = route(
        Driver::Splunk,
        &[
            ("splunk-url", "https://splunk.example.com"),
            ("splunk-token", "XXX-YYY-ZZZ"),
            ("splunk-format", "raw"),
        ],
    );
    let loki = route(Driver::Loki, &[("loki-url", "http://loki:3100"), ("loki-token <-", "loki")]);
    let fluentd = route(Driver::Fluentd, &[("fluentd-address", "unix:///run/fluent/fluent.sock")]);
    let syslog = route(Driver::Syslog, &[("syslog-address", "udp://syslog"), ("syslog-format", "rfc5424")]);
    let task = [
        Member { container: "main", route: &awslogs },
        Member { container: "side", route: &splunk },
        Member { container: "other", route: &loki },
    ];
    let api = Settings { source: Source::Api, ..SETTINGS };
    let one = |route| [Member { container: "default", route }];
    let wrong: Vec<String> = [
        ("several-containers", shown(&task, Part::Whole, &SETTINGS)),
        ("api", shown(&task[..2], Part::Whole, &api)),
        ("array-unix-socket", shown(&one(&fluentd), Part::Child, &SETTINGS)),
        ("nodes-udp-syslog", shown(&one(&syslog), Part::Node, &SETTINGS)),
    ]
    .iter()
    .filter_map(|(name, text)| compare(name, text).err())
    .collect();
    assert!(wrong.is_empty(), "{}\nUPDATE=1 writes them anew", wrong.join("\n"));
}
