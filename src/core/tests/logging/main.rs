//! Logging: what each option of each driver does, what is allowed, Fluent Bit's configuration, and that nothing a user
//! writes can be more than a value in it.

mod exposure;
mod goldens;
mod injection;
mod needs;
mod options;
mod policy;
mod real;
mod schema;
mod values;

use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{
    Container, DRAIN_SECONDS, Member, Part, Pod, Settings, Sidecar, Source, environment, plan,
};
use batchyard_core::logging::stream::ONLY;
use batchyard_core::logging::{AwslogsDefaults, Configuration, Driver, Refusal, SecretOption};

const SETTINGS: Settings =
    Settings { source: Source::Folder, buffer_mib: 256, grace_seconds: 20, tells_health: true };

const POD: Pod<'_> = Pod {
    name: "test-0f8b3c1a-1",
    job_id: "0f8b3c1a-77aa-4d5e-9b1c-2f3a4b5c6d7e",
    job_name: "test",
    queue: "jq",
    definition: Some("alpine-env:1"),
    attempt: 1,
    index: None,
};

/// A configuration; an option of the form `name <- reference` comes from a secret.
fn configuration(driver: Driver, options: &[(&str, &str)]) -> Configuration {
    let (secret, plain): (Vec<_>, Vec<_>) = options.iter().partition(|(name, _)| name.ends_with(" <-"));
    let secret = secret.into_iter().map(|(name, reference)| SecretOption {
        name: name.trim_end_matches(" <-").to_owned(),
        value_from: (*reference).to_owned(),
    });
    Configuration {
        driver,
        options: plain.into_iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        secret_options: secret.collect(),
    }
}

fn read(driver: Driver, options: &[(&str, &str)]) -> Result<Route, Vec<Refusal>> {
    Route::read(&configuration(driver, options), &AwslogsDefaults::default())
}

/// The drivers that are not refused whatever their options are.
fn honoured() -> impl Iterator<Item = Driver> {
    Driver::ALL.into_iter().filter(|driver| *driver != Driver::Journald)
}

#[test]
fn a_driver_is_known_by_its_name() {
    for driver in Driver::ALL {
        assert_eq!(Driver::parse(driver.as_str()), Some(driver));
    }
    for name in ["", "Awslogs", "awslogs ", "logentries", "none"] {
        assert_eq!(Driver::parse(name), None, "{name:?}");
    }
}

#[test]
fn the_journal_is_refused_with_what_takes_its_place() {
    for options in [&[][..], &[("tag", "t")], &[("mode", "blocking")]] {
        let refusals = read(Driver::Journald, options).expect_err("it is not possible");
        let [refusal] = refusals.as_slice() else { panic!("one: {refusals:?}") };
        assert!(refusal.member == "logDriver" && refusal.why.contains("use syslog"), "{refusal}");
    }
    assert_eq!(Driver::Journald.options().count(), 0);
}

/// What a driver needs, so that one option can be tried beside it.
fn least(driver: Driver) -> &'static [(&'static str, &'static str)] {
    match driver {
        Driver::Awslogs => &[("awslogs-region", "eu-west-1")],
        Driver::Splunk => &[("splunk-url", "https://splunk.example.com:8088"), ("splunk-token", "sesame")],
        Driver::Fluentd => &[("fluentd-address", "fluentd.example.com")],
        Driver::Gelf => &[("gelf-address", "udp://graylog.example.com:12201")],
        Driver::Syslog => &[("syslog-address", "tcp+tls://syslog.example.com:6514")],
        Driver::Journald | Driver::JsonFile | Driver::Stdout => &[],
        Driver::Awsfirelens => &[("Name", "http"), ("host", "http.example.com")],
        Driver::S3 => &[("s3-bucket", "team-logs"), ("s3-region", "eu-west-1")],
        Driver::Loki => &[("loki-url", "https://loki.example.com")],
        Driver::Opensearch => &[("opensearch-url", "https://opensearch.example.com")],
        Driver::Opentelemetry => &[("opentelemetry-url", "https://otel.example.com:4318")],
    }
}

fn sidecar(route: &Route) -> Sidecar {
    plan(&[Member { container: "default", route }], Part::Whole, &SETTINGS).expect("a container")
}

/// Everything that comes of a route, as text: the configuration, and behind it what it refers to.
fn shown(members: &[Member<'_>], part: Part, settings: &Settings) -> String {
    let sidecar = plan(members, part, settings).expect("a container");
    let only = members.len() == 1;
    let containers: Vec<Container<'_>> = members
        .iter()
        .map(|member| Container {
            member: *member,
            stream: if only { ONLY } else { member.container },
            image: "alpine:3.20",
        })
        .collect();
    let pod = Pod { index: (part != Part::Whole).then_some(3), ..POD };
    let mut text = sidecar.document.to_yaml();
    for (name, value) in environment(&containers, part, &pod) {
        text.push_str(&format!("# variable {name}: {value}\n"));
    }
    for secret in &sidecar.secrets {
        text.push_str(&format!("# secret {}: {:?}\n", secret.name, secret.value));
    }
    for file in &sidecar.files {
        text.push_str(&format!("# file {}: {}\n", file.name, file.reference));
    }
    text.push_str(&format!("# needs: {:?}\n", sidecar.needs));
    text.push_str(&format!("# plain text: {:?}\n", sidecar.plain_text));
    text.push_str(&format!("# drains for {} s\n", sidecar.drain_seconds(DRAIN_SECONDS)));
    text
}

fn shown_alone(route: &Route) -> String {
    shown(&[Member { container: "default", route }], Part::Whole, &SETTINGS)
}
