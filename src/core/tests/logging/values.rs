//! What stands in options: the limits of values, what holds where nothing is said, and what a refusal tells people.

use batchyard_core::logging::route::{Awslogs, Output, Route};
use batchyard_core::logging::{AwslogsDefaults, Driver, Refusal};

use super::{configuration, least, read, shown_alone};

use Driver::{
    Awsfirelens, Awslogs as Cloudwatch, Fluentd, Gelf, JsonFile, Loki, Opensearch, S3, Splunk, Syslog,
};

/// A driver with what it needs, and one option more.
fn with(driver: Driver, option: &str, value: &str) -> Result<Route, Vec<Refusal>> {
    let base = least(driver).iter().copied().filter(|(name, _)| *name != option);
    let options: Vec<_> = base.chain([(option, value)]).collect();
    read(driver, &options)
}

fn long(start: &str, length: usize) -> String {
    format!("{start}{}", "a".repeat(length - start.len()))
}

#[test]
fn a_limit_is_taken_and_what_is_beyond_it_is_not() {
    let host = |length| format!("https://{}", long("", length));
    let socket = |length| format!("unix://{}", long("/run/", length));
    for (driver, option, limit, beyond) in [
        (Cloudwatch, "awslogs-region", long("", 32), long("", 33)),
        (Cloudwatch, "awslogs-group", long("/", 512), long("/", 513)),
        (Cloudwatch, "awslogs-stream-prefix", long("", 200), long("", 201)),
        (Splunk, "splunk-url", host(253), host(254)),
        // What the kernel takes; and a folder, which is mounted.
        (Fluentd, "fluentd-address", socket(107), socket(108)),
        (Fluentd, "fluentd-address", "unix:///run/s".into(), "unix:///s".into()),
        (Syslog, "syslog-facility", "23".into(), "24".into()),
        (JsonFile, "max-file", "2".into(), "1".into()),
        // 1 GiB in all, with what holds for the other one: five files, or 10 MiB each.
        (JsonFile, "max-file", "102".into(), "103".into()),
        (JsonFile, "max-size", "214748364".into(), "214748365".into()),
        (S3, "s3-bucket", long("", 3), long("", 2)),
        (S3, "s3-bucket", long("", 63), long("", 64)),
        (S3, "s3-prefix", long("", 512), long("", 513)),
        (S3, "s3-object-size", "1m".into(), "1048575".into()),
        (S3, "s3-object-size", "1000000000".into(), "1000000001".into()),
        (S3, "s3-upload-timeout", "1s".into(), "0s".into()),
        (S3, "s3-upload-timeout", "24h".into(), "86401s".into()),
        (Opensearch, "opensearch-index", long("", 255), long("", 256)),
    ] {
        let route = with(driver, option, &limit);
        assert!(route.is_ok(), "{option} {limit}: {route:?}");
        let refusals = with(driver, option, &beyond).expect_err(&beyond);
        let members: Vec<&str> = refusals.iter().map(|one| one.member.as_str()).collect();
        assert_eq!(members, [format!("options.{option}")], "{beyond}");
    }
}

#[test]
fn spellings_that_are_taken_besides() {
    for (driver, option, value, shows) in [
        (Splunk, "splunk-format", "inline", "- log line\n"),
        (Syslog, "syslog-address", "tcp://s", "port: 514\n    mode: tcp\n"),
        // Facilities without a name.
        (Syslog, "syslog-facility", "12", "syslog_facility_preset: 12\n"),
        (Syslog, "syslog-facility", "0", "syslog_facility_preset: 0\n"),
        (Loki, "loki-labels", "_a_b=c", "job_name=$job_name,_a_b=c\n"),
        (Opensearch, "opensearch-index", "2026.11", "index: \"2026.11\"\n"),
        (Opensearch, "opensearch-index", ".jobs", "index: .jobs\n"),
    ] {
        let text = shown_alone(&with(driver, option, value).expect(value));
        assert!(text.contains(shows), "{option} {value}: no {shows:?} in\n{text}");
    }
    assert!(with(Loki, "loki-labels", "a-b=c").is_err());
}

#[test]
fn a_value_that_others_take_is_refused_with_the_reason() {
    for (driver, option, value, why) in [
        (Cloudwatch, "mode", "blocking", "a job never waits for its log"),
        (Cloudwatch, "awslogs-endpoint", "http://l:4566", "by TLS only"),
        (Splunk, "splunk-format", "json", "Splunk reads JSON itself"),
        (Splunk, "splunk-gzip-level", "9", "only -1 is possible"),
        (Gelf, "gelf-compression-type", "zlib", "compresses with gzip"),
        (Syslog, "syslog-address", "unix:///dev/log", "Fluent Bit has none for syslog"),
        (Syslog, "syslog-address", "unixgram:///dev/log", "Fluent Bit has none for syslog"),
        (JsonFile, "max-size", "-1", "a node's disk has an end"),
        (JsonFile, "max-file", "1", "keeps at least one file besides"),
        (Awsfirelens, "Name", "cloudwatch", "older than Fluent Bit's cloudwatch_logs"),
        (Awsfirelens, "Name", "firehose", "older than Fluent Bit's kinesis_firehose"),
        (Awsfirelens, "Name", "kinesis", "older than Fluent Bit's kinesis_streams"),
        (Awsfirelens, "Name", "file", "the driver json-file writes files"),
        (S3, "s3-endpoint", "https://[::1]:9000", "IPv6"),
    ] {
        let refusals = with(driver, option, value).expect_err(value);
        let told = refusals.iter().find(|one| one.member == format!("options.{option}"));
        assert!(told.is_some_and(|one| one.why.contains(why)), "{option} {value}: {refusals:?}");
    }
}

#[test]
fn an_output_that_is_none_is_refused_and_its_properties_are_not() {
    for name in [&[("Name", "cloudwatch")][..], &[]] {
        for (property, alone) in [("region", true), ("log_group_name", true), ("host", true), ("hots", false)]
        {
            let options: Vec<_> = name.iter().copied().chain([(property, "x")]).collect();
            let refusals = read(Awsfirelens, &options).expect_err(property);
            let told: Vec<&str> = refusals.iter().map(|one| one.member.as_str()).collect();
            assert!(told.contains(&"options.Name"), "{options:?}: {refusals:?}");
            assert_eq!(told.len() == 1, alone, "{options:?}: {refusals:?}");
        }
    }
}

/// No limit of a pod counts what is on its node's disk.
#[test]
fn files_of_a_container_have_a_bound_together() {
    let of = |size, files| read(JsonFile, &[("max-size", size), ("max-file", files)]);
    for (size, files, is_taken) in [
        ("1m", "1000", true),
        ("536870912", "2", true),
        ("536870913", "2", false),
        ("1073741", "1000", true),
        ("1073742", "1000", false),
        ("9223372036854775807", "1000", false),
        ("9223372036854775807", "2", false),
    ] {
        assert_eq!(of(size, files).is_ok(), is_taken, "{size} {files}");
    }
    let why = |options: &[(&str, &str)]| match read(JsonFile, options).expect_err("too much").as_slice() {
        [refusal] => refusal.to_string(),
        refusals => panic!("one: {refusals:?}"),
    };
    let rest = "(max-size) are more than 1 GiB";
    let want = format!("options.max-size: 5 files (max-file) of 1000000000 bytes {rest}");
    assert_eq!(why(&[("max-size", "1g")]), want);
    let want = format!("options.max-file: 1000 files (max-file) of 10485760 bytes {rest}");
    assert_eq!(why(&[("max-file", "1000")]), want);
    let refusal = why(&[("max-size", "1g"), ("max-file", "1001")]);
    assert!(refusal.starts_with("options.max-file: ") && !refusal.contains("GiB"), "{refusal}");
}

#[test]
fn what_holds_where_nothing_is_said() {
    for (driver, parts) in [
        (Fluentd, &["port: 24224", "tls: false", "require_ack_response: false"][..]),
        (Gelf, &["compress: true"]),
        (Syslog, &["syslog_facility_preset: 3", "syslog_format: rfc3164"]),
        // As the kubelet has it: 10 MiB, and five files with the one that is written.
        (JsonFile, &["rotate_max_size: 10485760", "rotate_max_files: 4", "rotate_gzip: false"]),
        (S3, &["total_file_size: 52428800", "upload_timeout: 60"]),
        (Opensearch, &["index: batchyard"]),
    ] {
        let text = shown_alone(&read(driver, least(driver)).expect("a route"));
        for part in parts {
            assert!(text.contains(part), "{driver:?}: no {part:?} in\n{text}");
        }
    }
}

/// A message of RFC 3164 has no place for them.
#[test]
fn members_stand_in_the_structured_data_of_rfc_5424_only() {
    for (format, nested) in [("rfc3164", false), ("rfc5424", true), ("rfc5424micro", true)] {
        let text = shown_alone(&with(Syslog, "syslog-format", format).expect(format));
        assert_eq!(text.contains("- name: nest\n"), nested, "{text}");
        assert_eq!(text.contains("syslog_sd_key: batchyard\n"), nested, "{text}");
    }
}

#[test]
fn cloudwatch_is_spoken_to_by_tls_at_any_endpoint() {
    let region = ("awslogs-region", "eu-west-1");
    let ours = || Some("https://localstack:4566".to_owned());
    for (options, endpoint) in [
        (&[region][..], None),
        (&[region], ours()),
        (&[region, ("awslogs-endpoint", "https://l")], None),
        (&[region, ("awslogs-endpoint", "https://l")], ours()),
    ] {
        let defaults = AwslogsDefaults { endpoint, ..AwslogsDefaults::default() };
        let route = Route::read(&configuration(Cloudwatch, options), &defaults).expect("a route");
        let Output::Awslogs(Awslogs { tls, .. }) = route.output else { panic!("{route:?}") };
        assert!(tls.on, "{options:?} {defaults:?}");
    }
}

#[test]
fn a_region_that_is_none_is_told_once() {
    let wrong = AwslogsDefaults { region: Some("Eu".into()), ..AwslogsDefaults::default() };
    for (options, defaults, why) in [
        (
            &[][..],
            AwslogsDefaults::default(),
            "it is required where logging.awslogs of the environment has no",
        ),
        (&[], wrong.clone(), "logging.awslogs.region of the environment: \"Eu\" is no region"),
        (&[("awslogs-region", "Us")], AwslogsDefaults::default(), "\"Us\" is no region"),
        (&[("awslogs-region", "Us")], wrong, "\"Us\" is no region"),
    ] {
        let refusals = Route::read(&configuration(Cloudwatch, options), &defaults).expect_err(why);
        let [refusal] = refusals.as_slice() else { panic!("one: {refusals:?}") };
        assert!(refusal.member == "options.awslogs-region" && refusal.why.contains(why), "{refusal}");
    }
}
