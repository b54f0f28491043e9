//! What a route needs besides its configuration: things of the node, credentials of AWS, a folder for what waits.

use batchyard_core::logging::Driver;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{CONTAINER, FOLLOWER, Member, Part, Settings, is_ours, plan};
use batchyard_core::reason::logs;

use super::{SETTINGS, honoured, least, read, shown_alone, sidecar};

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

/// What a container has of the buffer, and what the pod has: less than 8 MiB would lose output that a sink takes.
#[test]
fn each_container_has_a_share_of_the_buffer_that_is_enough() {
    let route = read(Driver::Stdout, &[]).expect("a route");
    for (stated, containers, pod, share) in [
        (256, 1, 256, 256 << 20),
        (256, 3, 256, 89_478_485),
        (256, 10, 256, 26_843_545),
        (8, 1, 8, 8 << 20),
        (8, 4, 32, 8 << 20),
        (31, 4, 32, 8 << 20),
        (33, 4, 33, 8_650_752),
        (0, 2, 16, 8 << 20),
    ] {
        let members = vec![Member { container: "default", route: &route }; containers];
        let settings = Settings { buffer_mib: stated, ..SETTINGS };
        let sidecar = plan(&members, Part::Whole, &settings).expect("containers");
        let yaml = sidecar.document.to_yaml();
        let limit = format!("storage.total_limit_size: {share}\n");
        assert_eq!(yaml.matches(&limit).count(), containers, "{stated} {containers}: {yaml}");
        assert_eq!(sidecar.buffer_mib, pod, "{stated} {containers}");
    }
}

#[test]
fn a_buffer_that_the_environment_cuts_is_told() {
    let told = |driver: Driver, option, size, several: bool| {
        let options: Vec<_> = least(driver).iter().copied().chain([(option, size)]).collect();
        let route = read(driver, &options).expect("a route");
        let members = vec![Member { container: "app", route: &route }; if several { 3 } else { 1 }];
        let sidecar = plan(&members, Part::Whole, &SETTINGS).expect("containers");
        logs::buffers_cut(&sidecar.cut[..sidecar.cut.len().min(1)], "ce", several)
    };
    let size = "max-buffer-size";
    for stated in ["1k", "8m", "256m"] {
        assert_eq!(told(Driver::Splunk, size, stated, false), None, "{stated}");
    }
    assert_eq!(
        told(Driver::Splunk, size, "512m", false).as_deref(),
        Some(
            "max-buffer-size is 512 MiB, of which logging.bufferMiB of ComputeEnvironment ce leaves 256 MiB"
        )
    );
    assert_eq!(
        told(Driver::Stdout, size, "256m", true).as_deref(),
        Some(
            "max-buffer-size of container app is 256 MiB, of which logging.bufferMiB of ComputeEnvironment ce leaves \
             85.3 MiB"
        )
    );
    assert_eq!(
        told(Driver::Fluentd, "fluentd-buffer-limit", "1g", false).as_deref(),
        Some(
            "fluentd-buffer-limit is 1024 MiB, of which logging.bufferMiB of ComputeEnvironment ce leaves 256 MiB"
        )
    );
    // Of several those alone are told that are cut.
    let routes = ["1g", "9m", "200m"].map(|stated| read(Driver::Stdout, &[(size, stated)]).expect("a route"));
    let members: Vec<_> =
        ["a", "b", "c"].iter().zip(&routes).map(|(container, route)| Member { container, route }).collect();
    let sidecar = plan(&members, Part::Whole, &SETTINGS).expect("containers");
    let names: Vec<&str> = sidecar.cut.iter().map(|cut| cut.container.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    let text = logs::buffers_cut(&sidecar.cut, "ce", true).expect("told");
    assert!(text.contains("leaves 85.3 MiB; max-buffer-size of container c is 200 MiB"), "{text}");
}

#[test]
fn our_containers() {
    for (container, ours) in
        [(CONTAINER, true), (FOLLOWER, true), ("default", false), ("", false), ("batchyard", false)]
    {
        assert_eq!(is_ours(container), ours, "{container:?}");
    }
}
