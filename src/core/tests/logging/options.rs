//! Each option of each driver: it has its effect, or it is refused by its name with the reason.

use batchyard_core::logging::options::Rule;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::value::Literal;
use batchyard_core::logging::{AwslogsDefaults, Driver};

use super::{configuration, honoured, least, read, shown_alone};

/// An option that is honoured.
struct Example {
    driver: Driver,
    option: &'static str,
    /// A value, or where it stands for options that come from Secrets.
    value: &'static str,
    /// What is in the configuration then and not without it; empty where the value says how it is anyway.
    shows: &'static str,
    /// Values that are refused.
    wrong: &'static [&'static str],
    /// Options that go with it.
    beside: &'static [(&'static str, &'static str)],
}

const fn example(
    driver: Driver,
    option: &'static str,
    value: &'static str,
    shows: &'static str,
    wrong: &'static [&'static str],
) -> Example {
    Example { driver, option, value, shows, wrong, beside: &[] }
}

const fn with(mut example: Example, beside: &'static [(&'static str, &'static str)]) -> Example {
    example.beside = beside;
    example
}

const FLAG: &[&str] = &["", "yes", "2"];
const TEXT: &[&str] = &["", "a\nb", " a", "${HOME}", "\u{0}"];
const FIELD: &[&str] = &["", "a\nb", "a ", "${HOME}", "$log"];
const TAG: &[&str] = &["", "a b", "{{.Hostname}}", "{{.ID", "${A}", "\"", "ü"];
const URL: &[&str] =
    &["", "a.example.com", "ftp://a", "https://u:p@a", "https://a b", "https://${A}", "https://a\n"];
const AWS: &[&str] = &["", "http://l:4566", "l:4566", "https://l/path", "https://u:p@l", "https://${A}"];
const ENDPOINT: &[(&str, &str)] = &[("awslogs-endpoint", "https://l")];
const REGION: &[&str] = &["", "Eu", "eu west", "${A}", "eu-west-1\n"];

use Driver::{
    Awsfirelens, Awslogs, Fluentd, Gelf, JsonFile, Loki, Opensearch, Opentelemetry, S3, Splunk, Stdout,
    Syslog,
};

static EXAMPLES: &[Example] = &[
    example(Awslogs, "awslogs-region", "us-east-1", "region: us-east-1", REGION),
    example(
        Awslogs,
        "awslogs-group",
        "/a/b.c#d_e-1",
        "log_group_name: /a/b.c#d_e-1",
        &["", "a b", "a\"", "${A}", "a\n"],
    ),
    example(
        Awslogs,
        "awslogs-stream-prefix",
        "team",
        "BATCHYARD_STREAM_0: team/default/test-0f8b3c1a-1",
        &["", "a:b", "*", "$a", "\"", "}"],
    ),
    example(Awslogs, "awslogs-create-group", "true", "auto_create_group: true", FLAG),
    example(Awslogs, "awslogs-create-stream", "true", "", &["", "false", "yes"]),
    example(Awslogs, "awslogs-datetime-format", "%H:%M", "2[0-3]):[0-5][0-9])", &["", "%Q", "[%Y", "%Y\n"]),
    example(Awslogs, "awslogs-multiline-pattern", "^INFO", "(?:^INFO)", &["", "(", "${A}", "(?=a)", "a\n"]),
    example(
        Awslogs,
        "awslogs-endpoint",
        "https://l:4566",
        "endpoint: l\n    port: 4566\n    tls.verify: true",
        AWS,
    ),
    with(
        example(Awslogs, "awslogs-capath", "ca", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
        ENDPOINT,
    ),
    with(example(Awslogs, "awslogs-insecureskipverify", "true", "tls.verify: false", FLAG), ENDPOINT),
    example(Awslogs, "awslogs-format", "json/emf", "log_format: json/emf", &["", "json"]),
    example(
        Splunk,
        "splunk-url",
        "http://s",
        "host: s\n    port: 80\n    tls: false",
        &["", "s:8088", "https://s/x", "https://<splunk-url>", "https://u@s"],
    ),
    example(Splunk, "splunk-token", "secret", "", TEXT),
    example(Splunk, "splunk-source", "a\"b: #c", "event_source: \"a\\\"b: #c\"", FIELD),
    example(Splunk, "splunk-sourcetype", "_json", "event_sourcetype: _json", TEXT),
    example(Splunk, "splunk-index", "main", "event_index: main", TEXT),
    example(Splunk, "splunk-capath", "ca:pem", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
    example(Splunk, "splunk-caname", "name", "tls.vhost: name", &["", "a b", "a:1", "${A}"]),
    example(Splunk, "splunk-insecureskipverify", "true", "tls.verify: false", FLAG),
    example(Splunk, "splunk-format", "raw", "event_key: $log", &["", "json", "RAW"]),
    example(Splunk, "splunk-verify-connection", "true", "", FLAG),
    example(Splunk, "splunk-gzip", "1", "compress: gzip", FLAG),
    example(Splunk, "splunk-gzip-level", "-1", "", &["", "9", "10", "x"]),
    example(Splunk, "tag", "{{.Name}}", "BATCHYARD_TAG_0: test-0f8b3c1a-1_default", TAG),
    example(
        Fluentd,
        "fluentd-address",
        "tls://f:1",
        "host: f\n    port: 1\n    tls: true",
        &[
            "",
            "udp://f",
            "f:x",
            "unix://f",
            "unix:///",
            "unix:///s",
            "unix:///a/../s",
            "unix:///a//s",
            "tcp://f/p",
            "f$",
        ],
    ),
    example(Fluentd, "fluentd-async", "true", "", FLAG),
    example(Fluentd, "fluentd-buffer-limit", "16m", "storage.total_limit_size: 16777216", &["", "x", "-1"]),
    example(Fluentd, "fluentd-request-ack", "true", "require_ack_response: true", FLAG),
    example(Fluentd, "fluentd-sub-second-precision", "true", "time_as_integer: false", FLAG),
    example(Fluentd, "tag", "{{.FullID}}", "BATCHYARD_TAG_0: 0f8b3c1a-77aa-4d5e-9b1c-2f3a4b5c6d7e", TAG),
    example(
        Gelf,
        "gelf-address",
        "tcp://g:2",
        "host: g\n    port: 2\n    mode: tcp",
        &["", "g:1", "udp://g", "http://g:1", "udp://g:1/x"],
    ),
    example(Gelf, "gelf-compression-type", "none", "compress: false", &["", "zlib", "x"]),
    example(Gelf, "tag", "t", "BATCHYARD_TAG_0: t", TAG),
    example(
        Syslog,
        "syslog-address",
        "udp://s",
        "host: s\n    port: 514\n    mode: udp",
        &["", "s:514", "unix:///dev/log", "unixgram:///dev/log", "udp://s/x"],
    ),
    example(Syslog, "syslog-facility", "local7", "syslog_facility_preset: 23", &["", "24", "-1", "local8"]),
    example(Syslog, "syslog-format", "rfc5424micro", "syslog_format: rfc5424", &["", "rfc1"]),
    example(Syslog, "syslog-tls-ca-cert", "s:ca", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
    with(
        example(Syslog, "syslog-tls-cert", "s:cert", "tls.crt_file: /batchyard/certificates/0.pem", &[]),
        &[("syslog-tls-key <-", "s:key")],
    ),
    with(
        example(Syslog, "syslog-tls-key", "s:key", "tls.key_file: /batchyard/certificates/1.pem", &[]),
        &[("syslog-tls-cert <-", "s:cert")],
    ),
    example(Syslog, "syslog-tls-skip-verify", "true", "tls.verify: false", FLAG),
    example(Syslog, "tag", "t", "BATCHYARD_TAG_0: t", TAG),
    example(JsonFile, "max-size", "1k", "rotate_max_size: 1000", &["", "-1", "0", "x"]),
    example(JsonFile, "max-file", "9", "rotate_max_files: 8", &["", "0", "1", "-1", "x"]),
    example(JsonFile, "compress", "true", "rotate_gzip: true", FLAG),
    example(JsonFile, "tag", "t", "BATCHYARD_TAG_0: t", TAG),
    example(Awsfirelens, "Name", "tcp", "- name: tcp", &["", "exit", "file", "lib", "cloudwatch", "Http\n"]),
    example(Awsfirelens, "include-pattern", "^a/b", "regex: log (?:^a/b)", &["", "(", "${A}", "a\n"]),
    example(Awsfirelens, "exclude-pattern", "b$", "exclude: log (?:b$)", &["", "(", "${A}", "a\n"]),
    example(S3, "s3-bucket", "my.logs", "bucket: my.logs", &["", "a", "A_b", "${A}"]),
    example(S3, "s3-region", "us-east-1", "region: us-east-1", REGION),
    example(
        S3,
        "s3-prefix",
        "a/%Y/",
        "BATCHYARD_KEY_0: /a/%Y/alpine-env/default/test-0f8b3c1a-1/$UUID.log",
        &["", "/", "a b", "${A}", "$TAG"],
    ),
    example(
        S3,
        "s3-endpoint",
        "http://m:9000",
        "endpoint: http://m:9000",
        &["", "m:9000", "http://m/x", "https://[::1]:9000"],
    ),
    example(S3, "s3-gzip", "true", "compression: gzip", FLAG),
    example(S3, "s3-object-size", "2m", "total_file_size: 2097152", &["", "1k", "954m", "2g", "x"]),
    example(S3, "s3-upload-timeout", "5m", "upload_timeout: 300", &["", "0s", "25h", "x"]),
    example(S3, "s3-storage-class", "GLACIER_IR", "storage_class: GLACIER_IR", &["", "glacier"]),
    example(Loki, "loki-url", "http://l:3100/x", "uri: /x", URL),
    example(Loki, "loki-tenant", "t", "tenant_id: t", TEXT),
    example(
        Loki,
        "loki-labels",
        "a=b, c=d e",
        "job_name=$job_name,a=b,c=d e",
        &["", "a", "1=b", "a=$b", "a=b,a=c", "queue=x", "a=b=c", "__a=b", "a=\"b\""],
    ),
    with(example(Loki, "loki-user", "u", "http_user: u", TEXT), &[("loki-password", "p")]),
    with(
        example(Loki, "loki-password", "p", "http_passwd: ${BATCHYARD_SECRET_0}", TEXT),
        &[("loki-user", "u")],
    ),
    example(Loki, "loki-token", "t", "bearer_token: ${BATCHYARD_SECRET_0}", TEXT),
    example(Loki, "loki-gzip", "true", "compress: gzip", FLAG),
    example(Loki, "loki-capath", "ca", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
    example(Loki, "loki-insecureskipverify", "true", "tls.verify: false", FLAG),
    example(Opensearch, "opensearch-url", "http://o:9200/x/", "path: /x", URL),
    example(
        Opensearch,
        "opensearch-index",
        "a-b_c.d",
        "index: a-b_c.d",
        &["", "A", "a b", "_a", "${A}", "a%"],
    ),
    example(Opensearch, "opensearch-pipeline", "p", "pipeline: p", &["a b", "a&b=c", "${A}"]),
    with(example(Opensearch, "opensearch-user", "u", "http_user: u", TEXT), &[("opensearch-password", "p")]),
    with(
        example(Opensearch, "opensearch-password", "p", "http_passwd: ${BATCHYARD_SECRET_0}", TEXT),
        &[("opensearch-user", "u")],
    ),
    example(Opensearch, "opensearch-aws-region", "eu-west-1", "aws_region: eu-west-1", REGION),
    example(Opensearch, "opensearch-gzip", "true", "compress: gzip", FLAG),
    example(Opensearch, "opensearch-capath", "ca", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
    example(Opensearch, "opensearch-insecureskipverify", "true", "tls.verify: false", FLAG),
    example(Opentelemetry, "opentelemetry-url", "http://o/x", "logs_uri: /x", URL),
    with(
        example(
            Opentelemetry,
            "opentelemetry-header-name",
            "X-Key",
            "header: X-Key ${BATCHYARD_SECRET_0}",
            &["", "a b", "a:", "a\n", "${A}"],
        ),
        &[("opentelemetry-header-value", "v")],
    ),
    with(
        example(Opentelemetry, "opentelemetry-header-value", "v", "header: a ${BATCHYARD_SECRET_0}", TEXT),
        &[("opentelemetry-header-name", "a")],
    ),
    example(Opentelemetry, "opentelemetry-gzip", "true", "compress: gzip", FLAG),
    example(Opentelemetry, "opentelemetry-capath", "ca", "tls.ca_file: /batchyard/certificates/0.pem", &[]),
    example(Opentelemetry, "opentelemetry-insecureskipverify", "true", "tls.verify: false", FLAG),
    example(Stdout, "stdout-format", "json", "", &["", "xml"]),
];

fn rule(driver: Driver, option: &str) -> Rule {
    let found = driver.options().find(|(name, _)| *name == option);
    found.unwrap_or_else(|| panic!("{driver:?} has no {option}")).1
}

/// What the example needs, and the option itself unless it is left out.
fn options_of(example: &Example, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    // Options of TLS need it, and so do some others need their like.
    let kept =
        |name: &str| name != example.option && !example.beside.iter().any(|(beside, _)| *beside == name);
    let mut options: Vec<_> = least(example.driver).iter().copied().filter(|(name, _)| kept(name)).collect();
    options.extend(example.beside);
    let name = match rule(example.driver, example.option) {
        Rule::File => String::leak(format!("{} <-", example.option)),
        _ => example.option,
    };
    options.extend(value.map(|value| (name, value)));
    if example.option == "Name" {
        options.retain(|(name, _)| *name != "uri");
    }
    options
}

/// All sets of options in which one more than the least is stated.
pub(crate) fn each(driver: Driver) -> Vec<Vec<(&'static str, &'static str)>> {
    let of_driver = EXAMPLES.iter().filter(|example| example.driver == driver);
    of_driver.map(|example| options_of(example, Some(example.value))).collect()
}

#[test]
fn each_option_is_in_the_table_and_has_its_effect() {
    for driver in honoured() {
        for (name, rule) in driver.options() {
            let common = ["mode", "max-buffer-size"].contains(name);
            let examples = EXAMPLES.iter().filter(|one| one.driver == driver && one.option == *name).count();
            let wanted = usize::from(!common && !matches!(rule, Rule::Refused(_)));
            assert_eq!(examples, wanted, "{driver:?} {name}");
        }
    }
    for example in EXAMPLES {
        let Example { driver, option, value, shows, .. } = example;
        let options = options_of(example, Some(value));
        let route = read(*driver, &options).unwrap_or_else(|refusals| panic!("{options:?}: {refusals:?}"));
        let text = shown_alone(&route);
        assert!(text.contains(shows), "{driver:?} {option}: no {shows:?} in\n{text}");
        let without = read(*driver, &options_of(example, None)).map(|route| shown_alone(&route));
        let same = without.as_ref().is_ok_and(|without| without.contains(shows));
        assert!(shows.is_empty() || !same, "{driver:?} {option}: {shows:?} is there without it, too");
        assert!(
            !shows.is_empty() || without.is_err() || without == Ok(text),
            "{driver:?} {option} changes something"
        );
    }
}

#[test]
fn values_that_cannot_be_read_are_refused_by_the_options_name() {
    for example in EXAMPLES {
        for wrong in example.wrong {
            let options = options_of(example, Some(wrong));
            let refusals = read(example.driver, &options).expect_err(&format!("{options:?}"));
            let named =
                refusals.iter().any(|refusal| refusal.member == format!("options.{}", example.option));
            assert!(named, "{options:?}: {refusals:?}");
            // What the properties of an output are is not known before its name.
            let once = refusals.len() == 1 || example.option == "Name";
            assert!(once, "{options:?}: {refusals:?}");
            let shown = refusals.iter().all(|refusal| !refusal.to_string().contains('\n'));
            assert!(shown, "{refusals:?}");
        }
    }
}

#[test]
fn options_that_are_not_honoured_are_refused_with_the_reason() {
    let mut seen = 0;
    for driver in honoured() {
        for (name, rule) in driver.options() {
            let Rule::Refused(why) = rule else { continue };
            let options: Vec<_> = least(driver).iter().copied().chain([(*name, "x")]).collect();
            let refusals = read(driver, &options).expect_err(name);
            assert_eq!(refusals.len(), 1, "{options:?}: {refusals:?}");
            assert_eq!(refusals[0].to_string(), format!("options.{name}: {why}"));
            seen += 1;
        }
        for name in ["awslogs_region", "", "splunk-url ", "SPLUNK-URL", "x\ny", "Match"] {
            let options: Vec<_> = least(driver).iter().copied().chain([(name, "x")]).collect();
            let refusals = read(driver, &options).expect_err(name);
            assert_eq!(refusals.len(), 1, "{options:?}: {refusals:?}");
        }
    }
    assert!(seen > 60, "only {seen}");
}

#[test]
fn what_a_driver_needs_is_asked_for() {
    for driver in honoured() {
        for (at, (left_out, _)) in least(driver).iter().enumerate() {
            let mut options = least(driver).to_vec();
            options.remove(at);
            match read(driver, &options) {
                Ok(_) => assert_eq!((driver, *left_out), (Awsfirelens, "host")),
                Err(refusals) => {
                    let named = refusals.iter().any(|one| one.member == format!("options.{left_out}"));
                    assert!(named && refusals.iter().any(|one| one.why.contains("required")), "{refusals:?}");
                }
            }
        }
    }
}

#[test]
fn mode_and_the_buffers_size_are_options_of_every_driver() {
    for driver in honoured() {
        let with = |more: &[(&'static str, &'static str)]| {
            let options: Vec<_> = least(driver).iter().chain(more).copied().collect();
            read(driver, &options)
        };
        let plain = with(&[]).map(|route| shown_alone(&route));
        assert_eq!(with(&[("mode", "non-blocking")]).map(|route| shown_alone(&route)), plain);
        let bounded =
            shown_alone(&with(&[("mode", "non-blocking"), ("max-buffer-size", "25m")]).expect("a route"));
        assert!(bounded.contains(&format!("storage.total_limit_size: {}", 25 << 20)), "{bounded}");
        // Never less than Fluent Bit needs, and never more than the environment gives.
        let bounded = shown_alone(&with(&[("max-buffer-size", "1k")]).expect("a route"));
        assert!(bounded.contains(&format!("storage.total_limit_size: {}", 8 << 20)), "{bounded}");
        let bounded = shown_alone(&with(&[("max-buffer-size", "25g")]).expect("a route"));
        assert!(bounded.contains(&format!("storage.total_limit_size: {}", 256 << 20)), "{bounded}");
        for (name, value) in [("mode", "blocking"), ("mode", "x"), ("max-buffer-size", "x")] {
            let refusals = with(&[(name, value)]).expect_err(value);
            assert_eq!(refusals.len(), 1);
            assert_eq!(refusals[0].member, format!("options.{name}"));
        }
    }
}

#[test]
fn options_that_do_not_go_together() {
    for (driver, more, member) in [
        (
            Awslogs,
            &[("awslogs-datetime-format", "%Y"), ("awslogs-multiline-pattern", "a")][..],
            "awslogs-multiline-pattern",
        ),
        (Awslogs, &[("awslogs-format", "json/emf"), ("awslogs-multiline-pattern", "a")], "awslogs-format"),
        (Splunk, &[("splunk-format", "raw"), ("tag", "a")], "tag"),
        (Splunk, &[("splunk-url", "http://a"), ("splunk-caname", "a")], "splunk-caname"),
        (Splunk, &[("splunk-url", "http://a"), ("splunk-capath <-", "a")], "splunk-url"),
        (
            Splunk,
            &[("splunk-url", "http://a"), ("splunk-insecureskipverify", "true")],
            "splunk-insecureskipverify",
        ),
        (Fluentd, &[("fluentd-buffer-limit", "1m"), ("max-buffer-size", "1m")], "fluentd-buffer-limit"),
        (Gelf, &[("gelf-address", "tcp://g:1"), ("gelf-compression-type", "gzip")], "gelf-compression-type"),
        (Syslog, &[("syslog-tls-cert <-", "a")], "syslog-tls-key"),
        (Syslog, &[("syslog-tls-key <-", "a")], "syslog-tls-cert"),
        (Syslog, &[("syslog-address", "udp://s"), ("syslog-tls-skip-verify", "true")], "syslog-address"),
        (Syslog, &[("syslog-address", "udp://s"), ("syslog-tls-ca-cert <-", "a")], "syslog-address"),
        (Loki, &[("loki-user", "a")], "loki-password"),
        (Loki, &[("loki-password", "a")], "loki-user"),
        (Loki, &[("loki-user", "a"), ("loki-password", "b"), ("loki-token", "c")], "loki-token"),
        (Loki, &[("loki-url", "http://l"), ("loki-insecureskipverify", "true")], "loki-url"),
        (Opensearch, &[("opensearch-user", "a")], "opensearch-password"),
        (Opensearch, &[("opensearch-password", "a")], "opensearch-user"),
        (
            Opensearch,
            &[("opensearch-user", "a"), ("opensearch-password", "b"), ("opensearch-aws-region", "c")],
            "opensearch-aws-region",
        ),
        (Opentelemetry, &[("opentelemetry-header-name", "a")], "opentelemetry-header-value"),
        (Opentelemetry, &[("opentelemetry-header-value", "a")], "opentelemetry-header-name"),
    ] {
        let base = least(driver).iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        let options: Vec<_> = base.chain(more).copied().collect();
        let refusals = read(driver, &options).expect_err(member);
        assert_eq!(refusals.len(), 1, "{options:?}: {refusals:?}");
        assert_eq!(refusals[0].member, format!("options.{member}"), "{refusals:?}");
    }
}

#[test]
fn options_from_secrets() {
    // Only what must be kept from sight may come from there: the rest decides where output goes, and is checked.
    for driver in honoured() {
        for (name, rule) in driver.options() {
            let from_secret = String::leak(format!("{name} <-"));
            let options: Vec<_> = least(driver)
                .iter()
                .copied()
                .filter(|(other, _)| other != name)
                .chain([(&*from_secret, "a:b")])
                .collect();
            let refused = read(driver, &options).err().unwrap_or_default();
            let about_it = refused.iter().any(|one| one.member == format!("secretOptions.{name}"));
            assert_eq!(
                about_it,
                matches!(rule, Rule::Honoured | Rule::Refused(_)),
                "{driver:?} {name}: {refused:?}"
            );
        }
    }
    let twice = [("splunk-url", "https://s"), ("splunk-token", "a"), ("splunk-token <-", "b")];
    let refusals = read(Splunk, &twice).expect_err("twice");
    assert_eq!(refusals[0].to_string(), "secretOptions.splunk-token: it is stated twice");
    let again = [("splunk-url", "https://s"), ("splunk-token <-", "a"), ("splunk-token <-", "b")];
    assert_eq!(read(Splunk, &again).expect_err("twice").len(), 1);
    let nowhere = [("splunk-url", "https://s"), ("splunk-token <-", "arn:aws:s3:::bucket/key")];
    assert!(read(Splunk, &nowhere).expect_err("no secret")[0].why.contains("no ARN of a secret"));
    let file = [("splunk-url", "https://s"), ("splunk-token <-", "a"), ("splunk-capath", "/etc/ca.pem")];
    assert!(read(Splunk, &file).expect_err("a file")[0].why.contains("secretOptions"));
}

#[test]
fn secrets_in_plain_text_are_told_and_never_shown() {
    let route = read(Splunk, least(Splunk)).expect("a route");
    assert_eq!(route.plain_text_secrets(), ["splunk-token"]);
    assert!(!format!("{route:?}").contains("sesame"), "{route:?}");
    assert!(!shown_alone(&route).contains("sesame"));
    let written = format!("{:?}", configuration(Splunk, least(Splunk)));
    assert!(written.contains("splunk-token") && !written.contains("sesame"), "{written}");
    let referred =
        read(Splunk, &[("splunk-url", "https://s"), ("splunk-token <-", "hec:token")]).expect("a route");
    assert_eq!(referred.plain_text_secrets(), [] as [&str; 0]);
    let header = [
        ("Name", "http"),
        ("host", "h"),
        ("header", "Authorization Bearer sesame"),
        ("http_passwd", "sesame"),
    ];
    let route = read(Awsfirelens, &header).expect("a route");
    assert_eq!(route.plain_text_secrets(), ["header", "http_passwd"]);
    assert!(!shown_alone(&route).contains("sesame") && !format!("{route:?}").contains("sesame"));
}

#[test]
fn properties_of_any_output() {
    for (options, member) in [
        (
            &[("Name", "http"), ("uri", "/a"), ("format", "json"), ("tls", "On"), ("net.keepalive", "off")][..],
            None,
        ),
        (&[("name", "HTTP"), ("HOST", "h"), ("Port", "80")], None),
        (&[("Name", "es"), ("path", "/a"), ("Host", "h")], None),
        (&[("Name", "http"), ("host", "h"), ("Host", "i")], Some("host")),
        (&[("Name", "http"), ("index", "a")], Some("index")),
        (&[("Name", "http"), ("port", "x")], Some("port")),
        (&[("Name", "http"), ("tls", "maybe")], Some("tls")),
        (&[("Name", "http"), ("http.response_timeout", "soon")], Some("http.response_timeout")),
        (&[("Name", "http"), ("http.response_timeout", "10x")], Some("http.response_timeout")),
        (&[("Name", "http"), ("http.response_timeout", "s")], Some("http.response_timeout")),
        (&[("Name", "http"), ("http.response_timeout", "10s")], None),
        (&[("Name", "loki"), ("buffer_size", "big")], Some("buffer_size")),
        (&[("Name", "http"), ("match", "*")], Some("match")),
        (&[("Name", "http"), ("Retry_Limit", "1")], Some("retry_limit")),
        (&[("Name", "http"), ("tls.key_file", "/etc/key")], Some("tls.key_file")),
        (&[("Name", "loki"), ("label_map_path", "/etc/passwd")], Some("label_map_path")),
        (&[("Name", "forward"), ("unix_path", "/run/x")], Some("unix_path")),
        (&[("Name", "forward"), ("upstream", "/etc/x")], Some("upstream")),
        (
            &[("Name", "kafka"), ("rdkafka.plugin.library.paths", "/x.so")],
            Some("rdkafka.plugin.library.paths"),
        ),
        (
            &[("Name", "stackdriver"), ("google_service_credentials", "/x")],
            Some("google_service_credentials"),
        ),
        (&[("@type", "cloudwatch_logs")], Some("@type")),
    ] {
        match (read(Awsfirelens, options), member) {
            (Ok(_), None) => {}
            (Err(refusals), Some(member)) => {
                assert!(
                    refusals.iter().any(|one| one.member == format!("options.{member}")
                        || one.member.eq_ignore_ascii_case(&format!("options.{member}"))),
                    "{options:?}: {refusals:?}"
                );
            }
            (got, _) => panic!("{options:?}: {got:?}"),
        }
    }
}

#[test]
fn the_environments_awslogs_holds_where_the_job_says_nothing() {
    let defaults = AwslogsDefaults {
        endpoint: Some("https://localstack:4566".into()),
        region: Some("eu-west-1".into()),
        group: Some("/ours".into()),
        authority: Some("localstack:ca".into()),
        unverified: true,
    };
    let route = Route::read(&configuration(Awslogs, &[]), &defaults).expect("a route");
    let text = shown_alone(&route);
    for part in [
        "region: eu-west-1",
        "log_group_name: /ours",
        "endpoint: localstack",
        "port: 4566",
        "tls.verify: false",
        "tls.ca_file: /batchyard/certificates/0.pem",
        "# file 0.pem: localstack:ca",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let stated = configuration(Awslogs, &[("awslogs-region", "us-east-1"), ("awslogs-group", "/mine")]);
    let text = shown_alone(&Route::read(&stated, &defaults).expect("a route"));
    assert!(text.contains("region: us-east-1") && text.contains("log_group_name: /mine"), "{text}");
    let other = configuration(Awslogs, &[("awslogs-endpoint", "https://other")]);
    let text = shown_alone(&Route::read(&other, &defaults).expect("a route"));
    assert!(text.contains("tls.verify: true") && !text.contains("ca_file"), "{text}");
    let none = Route::read(&configuration(Awslogs, &[]), &AwslogsDefaults::default()).expect_err("no region");
    assert_eq!(none.len(), 1);
    let region = configuration(Awslogs, &[("awslogs-region", "eu-west-1")]);
    let route = Route::read(&region, &AwslogsDefaults::default()).expect("a route");
    assert_eq!(route.log_group(), Some("/aws/batch/job"));
    assert!(Literal::read("/aws/batch/job").is_ok());
}
