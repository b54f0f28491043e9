//! What a route needs besides its configuration: things of the node, credentials of AWS, a folder for what waits.

use batchyard_core::logging::Driver;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{CONTAINER, FOLLOWER, is_ours};

use super::{honoured, least, read, shown_alone, sidecar};

fn firelens(options: &[(&str, &str)]) -> Route {
    read(Driver::Awsfirelens, options).unwrap_or_else(|refusals| panic!("{options:?}: {refusals:?}"))
}

/// An environment whose output comes through the API refuses these, by the member.
#[test]
fn files_and_sockets_are_of_the_node() {
    let needed = |route: &Route| route.needs_of_node().map(|(member, why)| format!("{member}: {why}"));
    for driver in honoured() {
        let folder = "logDriver: json-file writes into a folder of the node".to_owned();
        let want = (driver == Driver::JsonFile).then_some(folder);
        assert_eq!(needed(&read(driver, least(driver)).expect("a route")), want, "{driver:?}");
    }
    let socket = read(Driver::Fluentd, &[("fluentd-address", "unix:///run/f/s")]).expect("a route");
    assert_eq!(needed(&socket).as_deref(), Some("options.fluentd-address: it is a socket of the node"));
}

#[test]
fn who_signs_requests_to_aws_gets_credentials() {
    for driver in honoured() {
        let route = read(driver, least(driver)).expect("a route");
        let signs = matches!(driver, Driver::Awslogs | Driver::S3);
        assert_eq!(sidecar(&route).needs.aws_credentials, signs, "{driver:?}");
    }
    for (options, signs) in [
        (&[("Name", "cloudwatch_logs"), ("region", "eu-west-1")][..], true),
        (&[("Name", "s3"), ("bucket", "b")], true),
        (&[("Name", "kinesis_firehose"), ("delivery_stream", "d")], true),
        (&[("Name", "kinesis_streams"), ("stream", "s")], true),
        (&[("Name", "opensearch"), ("aws_auth", "On"), ("aws_region", "eu-west-1")], true),
        (&[("Name", "opensearch"), ("host", "h")], false),
        (&[("Name", "http"), ("aws_auth", "true")], true),
        (&[("Name", "http"), ("aws_auth", "off")], false),
        // A cluster of MSK, and a role of Google's that AWS vouches for.
        (&[("Name", "kafka"), ("brokers", "b:9098"), ("aws_msk_iam", "yes")], true),
        (&[("Name", "kafka"), ("brokers", "b:9092")], false),
        (&[("Name", "bigquery"), ("enable_identity_federation", "true")], true),
        (&[("Name", "bigquery"), ("aws_region", "eu-west-1")], false),
    ] {
        assert_eq!(sidecar(&firelens(options)).needs.aws_credentials, signs, "{options:?}");
    }
}

/// Elsewhere the sidecar cannot write.
#[test]
fn objects_wait_in_the_buffer() {
    let route = firelens(&[("Name", "s3"), ("bucket", "b"), ("region", "eu-west-1")]);
    let text = shown_alone(&route);
    assert!(text.contains("store_dir: /batchyard/buffer/s3/default\n"), "{text}");
}

#[test]
fn our_containers() {
    for (container, ours) in
        [(CONTAINER, true), (FOLLOWER, true), ("default", false), ("", false), ("batchyard", false)]
    {
        assert_eq!(is_ours(container), ours, "{container:?}");
    }
}
