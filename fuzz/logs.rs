//! `logConfiguration` of anybody, and the file for Fluent Bit that is made of it.

use batchyard_core::logging::AwslogsDefaults;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{Member, Part, Settings, Source, plan};
use serde_json::Value;

use crate::crd::convert::logging;
use crate::crd::logging::LogConfiguration;

const EXAMPLES: [&str; 6] = [
    r#"{"logDriver": "awslogs", "options": {"awslogs-group": "/aws/batch/custom/a", "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "p", "awslogs-create-group": "true", "awslogs-multiline-pattern": "^[0-9]{4}", "mode": "non-blocking"}}"#,
    r#"{"logDriver": "splunk", "options": {"splunk-url": "https://splunk.example.com:8088", "splunk-token": "t", "tag": "{{.Name}}/{{.ID}}",
        "labels": "a", "env": "A,B"}, "secretOptions": [{"name": "splunk-token", "valueFrom": "splunk:token"}]}"#,
    r#"{"logDriver": "gelf", "options": {"gelf-address": "udp://graylog.example.com:12201", "tag": "a"}}"#,
    r#"{"logDriver": "syslog", "options": {"syslog-address": "tcp+tls://logs.example.com:6514", "syslog-facility": "daemon"}}"#,
    r#"{"logDriver": "fluentd", "options": {"fluentd-address": "fluentd.example.com:24224", "fluentd-async": "true"}}"#,
    r#"{"logDriver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}"#,
];

fn target(input: &[u8]) -> bool {
    let Ok(wire) = serde_json::from_slice::<LogConfiguration>(input) else { return false };
    let configuration = logging::configuration(&wire);
    let defaults = AwslogsDefaults { region: Some("us-east-1".to_owned()), ..AwslogsDefaults::default() };
    let route = match Route::read(&configuration, &defaults) {
        Ok(route) => route,
        Err(refusals) => {
            assert!(!refusals.is_empty(), "what is refused says why");
            return true;
        }
    };
    let settings =
        Settings { source: Source::Folder, buffer_mib: 64, grace_seconds: 10, tells_health: false };
    let members = [Member { container: "default", route: &route }];
    for part in [Part::Whole, Part::Child, Part::Node] {
        let Some(sidecar) = plan(&members, part, &settings) else { continue };
        let yaml = sidecar.document.to_yaml();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
        let sections: Vec<_> = read.as_object().expect("an object").keys().cloned().collect();
        let known = ["service", "env", "parsers", "multiline_parsers", "pipeline"];
        assert!(sections.iter().all(|section| known.contains(&section.as_str())), "{yaml}");
        let pipeline = read["pipeline"].as_object().expect("a pipeline");
        assert!(
            pipeline.keys().all(|part| ["inputs", "filters", "outputs"].contains(&part.as_str())),
            "{yaml}"
        );
        assert_eq!(read["pipeline"]["inputs"].as_array().map(Vec::len), Some(1), "{yaml}");
    }
    true
}

#[test]
fn log_configurations() {
    super::run("log configurations", &EXAMPLES, target);
}
