//! What an environment allows.

use batchyard_core::logging::AwslogsDefaults;
use batchyard_core::logging::Driver;
use batchyard_core::logging::policy::{Destination, Policy, destinations};
use batchyard_core::logging::route::Route;

use super::{configuration, honoured, least, read};

fn policy(drivers: &[&str], groups: &[&str], hosts: &[&str]) -> Policy {
    let list = |list: &[&str]| list.iter().map(|rule| (*rule).to_owned()).collect();
    Policy { drivers: list(drivers), log_groups: list(groups), hosts: list(hosts) }
}

fn awslogs(group: &str) -> Route {
    read(Driver::Awslogs, &[("awslogs-region", "eu-west-1"), ("awslogs-group", group)]).expect("a route")
}

fn splunk(url: &str) -> Route {
    read(Driver::Splunk, &[("splunk-url", url), ("splunk-token", "t")]).expect("a route")
}

#[test]
fn the_posts_condition() {
    let post = policy(&["awslogs"], &["/aws/batch/custom/*"], &[]);
    assert_eq!(post.check(&awslogs("/aws/batch/custom/env-queue"), "od-ce"), Ok(()));
    assert_eq!(
        post.check(&awslogs("/aws/batch/job"), "od-ce"),
        Err(vec![
            "logging.allowedLogGroups of ComputeEnvironment od-ce does not allow the log group /aws/batch/job; allowed: \
             /aws/batch/custom/*"
                .to_owned()
        ])
    );
    assert_eq!(
        post.check(&splunk("https://splunk.example.com"), "od-ce"),
        Err(vec![
            "logging.allowedDrivers of ComputeEnvironment od-ce does not allow the log driver splunk; allowed: awslogs"
                .to_owned()
        ])
    );
}

/// A policy refuses a route by these rules, and names them.
fn hold(policy: &Policy, route: &Route, refused: &[&str]) {
    let refusals = policy.check(route, "ce").err().unwrap_or_default();
    let named: Vec<&str> = refusals
        .iter()
        .map(|text| text.strip_prefix("logging.").and_then(|rest| rest.split(' ').next()).unwrap_or(text))
        .collect();
    assert_eq!(named, refused, "{route:?} {policy:?}");
    assert!(refusals.iter().all(|text| text.contains("ComputeEnvironment ce")), "{refusals:?}");
}

#[test]
fn each_rule() {
    let socket = read(Driver::Fluentd, &[("fluentd-address", "unix:///run/f/s")]).expect("a route");
    let (any, no): (&[&str], &[&str]) = (&[], &["none"]);
    for (route, policy, refused) in [
        (awslogs("/a"), policy(any, any, any), any),
        (awslogs("/a"), policy(&["aws*"], &["/b", "/a"], any), any),
        (
            awslogs("/a"),
            policy(&["splunk"], &["/b"], &["x"]),
            &["allowedDrivers", "allowedLogGroups", "allowedHosts"],
        ),
        (awslogs("/a"), policy(any, any, &["logs.*.amazonaws.com"]), any),
        (awslogs("/a"), policy(any, any, &["logs.us-east-1.amazonaws.com"]), &["allowedHosts"]),
        (splunk("https://Splunk.Example.com"), policy(any, no, &["*.EXAMPLE.com"]), any),
        (splunk("https://evil.net"), policy(any, any, &["*.example.com"]), &["allowedHosts"]),
        (socket.clone(), policy(any, any, any), &["allowedHosts"]),
        (socket.clone(), policy(any, any, &["*.example.com"]), &["allowedHosts"]),
        (socket, policy(any, any, &["unix:///run/f/*"]), any),
        (read(Driver::JsonFile, &[]).expect("a route"), policy(&["json-file"], no, no), any),
    ] {
        hold(&policy, &route, refused);
    }
}

/// Each other driver is allowed where nothing is said.
#[test]
fn the_driver_json_file_must_be_named() {
    let named = |drivers: &[&str]| policy(drivers, &[], &[]);
    for driver in honoured() {
        let route = read(driver, least(driver)).expect("a route");
        let refused: &[&str] = if driver == Driver::JsonFile { &["allowedDrivers"] } else { &[] };
        hold(&named(&[]), &route, refused);
    }
    let route = read(Driver::JsonFile, &[]).expect("a route");
    for (drivers, is_allowed) in [
        (&["json-file"][..], true),
        (&["awslogs", "json-*"], true),
        (&["*"], true),
        (&["awslogs"], false),
        (&["json"], false),
    ] {
        let refused: &[&str] = if is_allowed { &[] } else { &["allowedDrivers"] };
        hold(&named(drivers), &route, refused);
    }
    assert_eq!(
        named(&[]).check(&route, "ce"),
        Err(vec![
            "logging.allowedDrivers of ComputeEnvironment ce does not allow the log driver json-file, which fills disks \
             of nodes and must be named there; allowed: all others"
                .to_owned()
        ])
    );
    assert_eq!(
        named(&["awslogs"]).check(&route, "ce"),
        Err(vec![
            "logging.allowedDrivers of ComputeEnvironment ce does not allow the log driver json-file, which fills disks \
             of nodes and must be named there; allowed: awslogs"
                .to_owned()
        ])
    );
}

#[test]
fn each_rule_holds_for_outputs_of_firelens() {
    let firelens = |options: &[(&str, &str)]| read(Driver::Awsfirelens, options).expect("a route");
    let any: &[&str] = &[];
    for (route, policy, refused) in [
        (
            firelens(&[("Name", "cloudwatch_logs"), ("region", "eu-west-1"), ("log_group_name", "/a")]),
            policy(any, &["/b"], any),
            &["allowedLogGroups"] as &[&str],
        ),
        (
            firelens(&[
                ("Name", "cloudwatch_logs"),
                ("region", "eu-west-1"),
                ("log_group_name", "/a"),
                ("log_group_template", "$log"),
            ]),
            policy(any, &["/a"], any),
            &["allowedLogGroups"],
        ),
        (firelens(&[("Name", "http"), ("host", "a.example.com")]), policy(any, any, &["*.example.com"]), any),
        (
            firelens(&[("Name", "http"), ("host", "a.example.com"), ("proxy", "http://evil.net:3128")]),
            policy(any, any, &["*.example.com"]),
            &["allowedHosts"],
        ),
        (firelens(&[("Name", "datadog")]), policy(any, any, &["*.example.com"]), &["allowedHosts"]),
        (firelens(&[("Name", "datadog")]), policy(any, any, any), any),
        (
            firelens(&[
                ("Name", "kafka"),
                ("brokers", "a.example.com:9092,b.evil.net:9092"),
                ("topics", "x"),
            ]),
            policy(any, any, &["*.example.com"]),
            &["allowedHosts"],
        ),
        (
            firelens(&[("Name", "azure_blob"), ("host", "a.example.com")]),
            policy(any, any, &["*.example.com"]),
            &["allowedHosts"],
        ),
        (
            firelens(&[("Name", "es"), ("host", "a.example.com"), ("cloud_id", "x")]),
            policy(any, any, &["*.example.com"]),
            &["allowedHosts"],
        ),
        (
            firelens(&[("Name", "http"), ("host", "[::1]@a.example.com")]),
            policy(any, any, &["*.example.com"]),
            &["allowedHosts"],
        ),
        (
            firelens(&[("Name", "kinesis_streams"), ("region", "eu-west-1"), ("host", "a.example.com")]),
            policy(any, any, &["kinesis.*.amazonaws.com"]),
            any,
        ),
        (
            firelens(&[("Name", "cloudwatch_logs"), ("region", "eu-west-1"), ("endpoint", "evil.net")]),
            policy(any, any, &["*.amazonaws.com"]),
            &["allowedHosts"],
        ),
        (
            firelens(&[("Name", "slack"), ("webhook", "https://hooks.slack.com/x/y")]),
            policy(any, any, &["hooks.slack.com"]),
            any,
        ),
        (firelens(&[("Name", "stdout")]), policy(any, any, &["*.example.com"]), any),
    ] {
        hold(&policy, &route, refused);
    }
}

#[test]
fn where_outputs_of_firelens_send_to() {
    for (options, hosts) in [
        (&[("Name", "cloudwatch_logs"), ("region", "eu-west-1")][..], "logs.eu-west-1.amazonaws.com"),
        (&[("Name", "cloudwatch_logs"), ("endpoint", "l.example.com"), ("region", "r")], "l.example.com"),
        (&[("Name", "cloudwatch_logs")], "?"),
        (&[("Name", "s3"), ("region", "cn-north-1")], "s3.cn-north-1.amazonaws.com.cn"),
        (&[("Name", "kinesis_firehose"), ("region", "eu-west-1")], "firehose.eu-west-1.amazonaws.com"),
        (&[("Name", "kinesis_streams"), ("region", "eu-west-1")], "kinesis.eu-west-1.amazonaws.com"),
        (
            &[("Name", "kafka"), ("brokers", "A.example.com:9092, b.example.com")],
            "a.example.com b.example.com",
        ),
        (&[("Name", "kafka")], "?"),
        (&[("Name", "slack"), ("webhook", "https://hooks.slack.com/x/y")], "hooks.slack.com"),
        (&[("Name", "nrlogs"), ("base_uri", "https://log-api.newrelic.com/log/v1")], "log-api.newrelic.com"),
        (&[("Name", "nrlogs")], "?"),
        (&[("Name", "logdna"), ("logdna_host", "logs.logdna.com")], "logs.logdna.com"),
        (&[("Name", "logdna"), ("host", "logs.logdna.com")], "?"),
        (&[("Name", "es"), ("host", "es.example.com")], "es.example.com"),
        (&[("Name", "es"), ("host", "es.example.com"), ("cloud_id", "x")], "?"),
        (&[("Name", "splunk"), ("host", "s.example.com")], "s.example.com"),
        (&[("Name", "azure_blob"), ("host", "a.example.com")], "?"),
        (&[("Name", "stdout"), ("host", "a.example.com")], ""),
    ] {
        let route = read(Driver::Awsfirelens, options).expect("a route");
        let found: Vec<String> = destinations(&route.output)
            .into_iter()
            .map(|one| match one {
                Destination::Host(host) => host,
                Destination::Socket(path) => path,
                Destination::Unnamed => "?".to_owned(),
            })
            .collect();
        assert_eq!(found.join(" "), hosts, "{options:?}");
    }
}

#[test]
fn an_endpoint_of_the_environment_needs_no_leave() {
    let defaults = AwslogsDefaults {
        endpoint: Some("https://localstack:4566".into()),
        region: Some("eu-west-1".into()),
        group: Some("/ours".into()),
        ..AwslogsDefaults::default()
    };
    let strict = policy(&[], &["/ours"], &["other"]);
    let route = Route::read(&configuration(Driver::Awslogs, &[]), &defaults).expect("a route");
    assert_eq!(route.log_group(), Some("/ours"));
    assert_eq!(strict.check(&route, "ce"), Ok(()));
    let stated = configuration(Driver::Awslogs, &[("awslogs-endpoint", "https://localstack:4566")]);
    let route = Route::read(&stated, &defaults).expect("a route");
    assert_eq!(destinations(&route.output), [Destination::Host("localstack".into())]);
    assert_eq!(strict.check(&route, "ce").expect_err("a host").len(), 1);
    // What the environment says wrongly is told at the job.
    let wrong = AwslogsDefaults { group: Some("a b".into()), ..defaults };
    let refusals = Route::read(&configuration(Driver::Awslogs, &[]), &wrong).expect_err("no group");
    assert!(refusals[0].to_string().contains("logging.awslogs.group of the environment"), "{refusals:?}");
}

#[test]
fn each_driver_says_where_it_sends_to() {
    for driver in honoured() {
        let found = destinations(&read(driver, least(driver)).expect("a route").output);
        let sends = !matches!(driver, Driver::JsonFile | Driver::Stdout);
        assert_eq!(found.len(), usize::from(sends), "{driver:?}: {found:?}");
        assert!(
            found.iter().all(|one| matches!(one, Destination::Host(host) if host.contains('.'))),
            "{found:?}"
        );
    }
}
