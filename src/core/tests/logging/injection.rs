//! Whatever a user writes is the value at its place, or is refused; it is never more.
//!
//! The file is read again with libyaml, which is what Fluent Bit reads it with, event by event.

use std::io::Cursor;

use batchyard_core::logging::Driver;
use batchyard_core::logging::fluent_bit::Document;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::sidecar::{Container, Member, Part, Pod, Settings, Source, environment, plan};
use batchyard_core::logging::stream::ONLY;
use libyaml_safer::{EventData, Parser};
use proptest::prelude::*;

use super::{POD, SETTINGS, configuration, honoured, least, read, schema, sidecar};

/// The events of a file: what opens and closes, and the scalars.
fn events(yaml: &str) -> Vec<String> {
    let mut input = Cursor::new(yaml.as_bytes());
    let mut parser = Parser::new();
    parser.set_input(&mut input);
    let mut events = Vec::new();
    loop {
        let event = parser.parse().unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
        match event.data {
            EventData::StreamEnd => return events,
            EventData::Scalar { value, anchor, tag, .. } => {
                assert_eq!((anchor, tag), (None, None), "{yaml}");
                events.push(format!("={value}"));
            }
            EventData::MappingStart { .. } => events.push("{".to_owned()),
            EventData::MappingEnd => events.push("}".to_owned()),
            EventData::SequenceStart { .. } => events.push("[".to_owned()),
            EventData::SequenceEnd => events.push("]".to_owned()),
            EventData::Alias { .. } => panic!("an alias:\n{yaml}"),
            EventData::DocumentStart { .. } => events.push("---".to_owned()),
            _ => {}
        }
    }
}

/// What the events must be, from the data that was to be written.
fn expected(document: &Document) -> Vec<String> {
    fn walk(value: &serde_json::Value, events: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                events.push("{".to_owned());
                for (name, value) in map {
                    events.push(format!("={name}"));
                    walk(value, events);
                }
                events.push("}".to_owned());
            }
            serde_json::Value::Array(list) => {
                events.push("[".to_owned());
                list.iter().for_each(|value| walk(value, events));
                events.push("]".to_owned());
            }
            serde_json::Value::String(text) => events.push(format!("={text}")),
            other => events.push(format!("={other}")),
        }
    }
    let mut events = vec!["---".to_owned()];
    walk(&serde_json::to_value(document).expect("data"), &mut events);
    events
}

/// The order of members is not what this is about.
fn sorted(mut events: Vec<String>) -> Vec<String> {
    events.sort_unstable();
    events
}

/// Text that means something to YAML, to Fluent Bit, to a shell or to Go's templates.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "${",
        "}",
        "${HOME}",
        "${BATCHYARD_SECRET_0}",
        "$",
        "{",
        "$$",
        "@INCLUDE /etc/passwd",
        "@SET a=b",
        "\n",
        "\r",
        "\t",
        " ",
        "  ",
        ": ",
        "#",
        " #",
        "\"",
        "'",
        "\\",
        "\\n",
        "- ",
        "---",
        "...",
        "|",
        ">",
        "&a",
        "*a",
        "!!str",
        "%YAML",
        "[",
        "]",
        ",",
        "? ",
        "yes",
        "null",
        "~",
        "0x1",
        "1e3",
        "=",
        "<<",
        "`",
        "ü",
        "漢",
        "😀",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffe}",
        "\u{200b}",
        "[OUTPUT]",
        "Name exit",
        "/",
        "../",
        "*",
        "{{.ID}}",
        "{{",
        "}}",
        "a",
        "key value",
        "(?i)",
        "(?P<x>",
        ")",
        "file:///etc/passwd",
        "$(id)",
        "%d",
        "\u{1b}[0m",
    ]);
    prop_oneof![
        3 => prop::collection::vec(pieces, 1..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

/// A driver and the names of its options, with the properties of an output for awsfirelens.
fn any_option() -> impl Strategy<Value = (Driver, String)> {
    let all: Vec<(Driver, String)> = honoured()
        .flat_map(|driver| {
            let more = ["uri", "header", "host", "format", "http_passwd", "tls.vhost"].map(String::from);
            let more = more.into_iter().filter(move |_| driver == Driver::Awsfirelens);
            driver.options().map(|(name, _)| (*name).to_owned()).chain(more).map(move |name| (driver, name))
        })
        .collect();
    prop::sample::select(all)
}

fn configured(
    driver: Driver,
    name: &str,
    value: &str,
) -> Result<Route, Vec<batchyard_core::logging::Refusal>> {
    let mut configuration = configuration(driver, least(driver));
    configuration.options.insert(name.to_owned(), value.to_owned());
    Route::read(&configuration, &batchyard_core::logging::AwslogsDefaults::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The file has the structure that was meant, all its variables are ours, and Fluent Bit knows all its properties.
    #[test]
    fn a_value_stays_a_value((driver, name) in any_option(), value in hostile()) {
        let route = match configured(driver, &name, &value) {
            Ok(route) => route,
            Err(refusals) => {
                let known = refusals.iter().all(|one| one.member.starts_with("options."));
                prop_assert!(known && !refusals.is_empty(), "{refusals:?}");
                return Ok(());
            }
        };
        for source in [Source::Folder, Source::Api] {
            let settings = Settings { source, ..SETTINGS };
            let planned = plan(&[Member { container: "default", route: &route }], Part::Child, &settings).expect("one");
            let yaml = planned.document.to_yaml();
            prop_assert_eq!(sorted(events(&yaml)), sorted(expected(&planned.document)), "{}", yaml);
            prop_assert_eq!(schema::unknown(&planned.document), Vec::<String>::new());
            for event in events(&yaml) {
                prop_assert!(only_our_variables(&event), "{}", event);
            }
        }
    }

    /// What is of one pod becomes a value, too, whatever it is.
    #[test]
    fn what_is_of_a_pod_is_a_word(text in hostile(), tag in hostile()) {
        let pod = Pod { job_name: &text, queue: &text, definition: Some(&text), job_id: &text, ..POD };
        for driver in [Driver::Splunk, Driver::Syslog, Driver::Fluentd, Driver::Awslogs, Driver::S3] {
            let option = match driver {
                Driver::Awslogs => "awslogs-stream-prefix",
                Driver::S3 => "s3-prefix",
                _ => "tag",
            };
            let Ok(route) = configured(driver, option, &tag) else { continue };
            let member = Member { container: "default", route: &route };
            let containers = [Container { member, stream: ONLY, image: &text }];
            for (name, value) in environment(&containers, Part::Child, &pod) {
                // A stream's name and a key stand alone, so that spaces and the like end nothing there.
                let alone = name.contains("STREAM") || name.contains("KEY");
                let ends = |c: char| c.is_whitespace() || "'()`{}".contains(c);
                let strange = |c: char| c.is_control() || "\"\\$".contains(c) || (!alone && ends(c));
                let value = value.replace("$UUID", "");
                prop_assert!(!value.is_empty() && !value.contains(strange), "{}: {}", name, value);
            }
        }
    }

    /// Nothing that is read makes the reader fall over.
    #[test]
    fn everything_is_read(
        driver in prop::sample::select(honoured().collect::<Vec<_>>()),
        options in prop::collection::btree_map(hostile(), hostile(), 0..4),
    ) {
        let mut configuration = configuration(driver, &[]);
        configuration.options = options;
        let _ = Route::read(&configuration, &batchyard_core::logging::AwslogsDefaults::default());
    }
}

/// Each `${` in an event begins a variable with our prefix, and nothing of the user's stands before it.
fn only_our_variables(event: &str) -> bool {
    let mut rest = event;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { return false };
        let ours = name.strip_prefix("BATCHYARD_").is_some_and(|name| {
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        });
        if !ours || before.contains('}') || behind.contains('}') {
            return false;
        }
        rest = behind;
    }
    true
}

#[test]
fn libyaml_reads_what_was_meant_in_this_order() {
    let route = read(
        Driver::Splunk,
        &[
            ("splunk-url", "https://s"),
            ("splunk-token", "t"),
            ("splunk-source", "a: \"b\" 'c' #d @INCLUDE ü 😀 \u{2028} *x &y !z [1] {2} \\n"),
            ("splunk-index", "yes"),
            ("splunk-sourcetype", "- x"),
        ],
    )
    .expect("a route");
    let planned = sidecar(&route);
    let found = events(&planned.document.to_yaml());
    for value in [
        "=a: \"b\" 'c' #d @INCLUDE ü 😀 \u{2028} *x &y !z [1] {2} \\n",
        "=yes",
        "=- x",
        "=${BATCHYARD_SECRET_0}",
    ] {
        assert!(found.iter().any(|event| event == value), "{value} in {found:?}");
    }
    // The checks would see it.
    assert!(!only_our_variables("=${HOME}") && !only_our_variables("=} ${BATCHYARD_A}"));
}
