//! One job for each driver, and what its sink gets.

use std::collections::BTreeSet;
use std::fs;

use batchyard_core::logging::Driver;
use serde_json::Value;

use super::receiver::{Datagrams, Item, Kind, Receiver};
use super::{Extra, Job, until};

fn text(item: &Item) -> String {
    String::from_utf8_lossy(&item.body).into_owned()
}

/// Two lines to a sink, and what came there by the end.
fn two_lines(driver: Driver, sink: &Receiver, options: &[(&str, &str)]) -> Option<Vec<Item>> {
    let variables = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let mut job = Job::start_with(driver, options, &Extra { variables: &variables, ..Extra::default() })?;
    job.log.line("stdout", b"hello 1");
    job.log.line("stderr", b"hello 2");
    job.end();
    assert!(sink.count() > 0, "{driver:?}: nothing came\n{}", job.said("stderr"));
    Some(sink.items())
}

/// What a line and what is known of its job look like, wherever they stand.
fn has_all(driver: Driver, text: &str) {
    let wanted = ["hello 1", "hello 2", "0f8b3c1a-77aa", "alpine-env:1", "node-1", "stderr"];
    let missing: Vec<&str> = wanted.into_iter().filter(|part| !text.contains(part)).collect();
    assert!(missing.is_empty(), "{driver:?}: no {missing:?} in {text}");
    assert_eq!(text.matches("hello 1").count(), 1, "{driver:?}: once: {text}");
    // The runtime's time of each line, to the nanosecond, with which a sink can put them in order.
    let ends_in_nanoseconds = |part: &&str| {
        let mut last = part.chars().rev();
        last.by_ref().take(9).all(|c| c.is_ascii_digit()) && last.next() == Some('.')
    };
    assert_eq!(text.split('Z').filter(ends_in_nanoseconds).count(), 2, "{driver:?}: times: {text}");
}

#[test]
fn splunk() {
    for (format, gzip) in [("inline", "true"), ("raw", "false")] {
        let sink = Receiver::start(Kind::Http(200, "{\"text\":\"Success\",\"code\":0}"));
        let url = format!("http://127.0.0.1:{}", sink.port());
        let options = [
            ("splunk-url", url.as_str()),
            ("splunk-token", "s3cret"),
            ("splunk-index", "main"),
            ("splunk-source", "batch"),
            ("splunk-format", format),
            ("splunk-gzip", gzip),
        ];
        let Some(items) = two_lines(Driver::Splunk, &sink, &options) else { return };
        let heads: String = items.iter().map(|item| item.head.as_str()).collect();
        assert!(heads.contains("POST /services/collector"), "{heads}");
        assert!(heads.contains("Authorization: Splunk s3cret"), "{heads}");
        let all: String = items.iter().map(text).collect();
        has_all(Driver::Splunk, &all);
        let events: Vec<Value> =
            serde_json::Deserializer::from_str(&all).into_iter().map(|event| event.expect("JSON")).collect();
        assert_eq!(events.len(), 2);
        for (number, event) in events.iter().enumerate() {
            let line = if format == "raw" { &event["event"] } else { &event["event"]["line"] };
            assert_eq!(line, &format!("hello {}", number + 1), "{event}");
            assert_eq!(
                (&event["index"], &event["source"], &event["host"]),
                (&"main".into(), &"batch".into(), &"node-1".into())
            );
            assert!(event["time"].is_number(), "{event}");
        }
    }
}

#[test]
fn services_by_http() {
    let bulk = "{\"errors\":false,\"items\":[]}";
    for (driver, option, more, path, answer) in [
        (Driver::Loki, "loki-url", ("loki-tenant", "team"), "POST /loki/api/v1/push", ""),
        (Driver::Opensearch, "opensearch-url", ("opensearch-index", "jobs"), "POST /_bulk", bulk),
        (Driver::S3, "s3-endpoint", ("s3-bucket", "logs"), "PUT /logs/", ""),
    ] {
        let sink = Receiver::start(Kind::Http(200, answer));
        let url = format!("http://127.0.0.1:{}", sink.port());
        let mut options = vec![(option, url.as_str()), more];
        if driver == Driver::S3 {
            options.push(("s3-region", "eu-west-1"));
        }
        let Some(items) = two_lines(driver, &sink, &options) else { return };
        assert!(items[0].head.starts_with(path), "{driver:?}: {}", items[0].head);
        has_all(driver, &items.iter().map(text).collect::<String>());
    }
    // In protobuf, where text stands as it is.
    let sink = Receiver::start(Kind::Http(200, ""));
    let url = format!("http://127.0.0.1:{}", sink.port());
    let Some(items) = two_lines(Driver::Opentelemetry, &sink, &[("opentelemetry-url", &url)]) else { return };
    assert!(items[0].head.starts_with("POST /v1/logs"), "{}", items[0].head);
    has_all(Driver::Opentelemetry, &items.iter().map(text).collect::<String>());
}

#[test]
fn gelf_and_syslog() {
    for (driver, option, end, more) in [
        (Driver::Gelf, "gelf-address", 0, ("tag", "t")),
        (Driver::Syslog, "syslog-address", b'\n', ("syslog-format", "rfc5424")),
    ] {
        let sink = Receiver::start(Kind::Ended(end));
        let address = format!("tcp://127.0.0.1:{}", sink.port());
        let Some(items) = two_lines(driver, &sink, &[(option, &address), more]) else { return };
        assert_eq!(items.len(), 2, "{items:?}");
        has_all(driver, &items.iter().map(text).collect::<String>());
        if driver == Driver::Gelf {
            let message: Value = serde_json::from_slice(&items[0].body).expect("JSON");
            let known =
                (&message["version"], &message["host"], &message["short_message"], &message["_job_id"]);
            assert_eq!(known, (&"1.1".into(), &"node-1".into(), &"hello 1".into(), &"0f8b3c1a-77aa".into()));
        } else {
            let line = text(&items[0]);
            assert!(
                line.starts_with("<30>1 ") && line.contains("[batchyard ") && line.ends_with("hello 1"),
                "{line}"
            );
        }
        let sink = Datagrams::start();
        let address = format!("udp://127.0.0.1:{}", sink.port());
        let mut options = vec![(option, address.as_str())];
        options.extend((driver == Driver::Gelf).then_some(("gelf-compression-type", "none")));
        let Some(mut job) = Job::start(driver, &options) else { return };
        job.log.line("stdout", b"hello");
        let datagram = String::from_utf8_lossy(&sink.next()).into_owned();
        assert!(datagram.contains("hello") && datagram.contains("node-1"), "{datagram}");
    }
}

#[test]
fn stdout_and_files() {
    let Some(mut job) = Job::start(Driver::Stdout, &[]) else { return };
    job.log.line("stdout", b"hello 1");
    job.log.line("stderr", b"hello 2");
    job.end();
    has_all(Driver::Stdout, &job.said("stdout"));
    let options = [("max-size", "1m"), ("max-file", "3"), ("compress", "true")];
    let Some(mut job) = Job::start(Driver::JsonFile, &options) else { return };
    job.log.line("stdout", b"hello 1");
    job.log.line("stderr", b"hello 2");
    until("a file", || job.said("files/default.log").contains("hello 2"));
    has_all(Driver::JsonFile, &job.said("files/default.log"));
    let folder = job.folder.join("files");
    let names = || {
        let all = fs::read_dir(&folder).expect("a folder").flatten();
        all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<BTreeSet<_>>()
    };
    // It looks at the size after each piece of what it gets.
    for _ in 0..10 {
        let state = || (names(), fs::metadata(folder.join("default.log")).map_or(0, |file| file.len()));
        let before = state();
        job.log.line("stdout", &[b'x'; 600 << 10]);
        until("the line", || state() != before);
    }
    job.end();
    let files = names();
    assert!(files.len() == 3 && files.iter().any(|name| name.ends_with(".gz")), "{files:?}");
}

/// Parts that the runtime made, bytes that are no text, empty lines, and records of several lines, with the last of them.
#[test]
fn lines_as_they_were_written() {
    let sink = Receiver::start(Kind::Forward);
    let address = format!("127.0.0.1:{}", sink.port());
    let options = [("fluentd-address", address.as_str()), ("fluentd-sub-second-precision", "true")];
    let Some(mut job) = Job::start(Driver::Fluentd, &options) else { return };
    let long = [b'y'; 50_000];
    let wanted: [&[u8]; 5] = [b"first", b"", b"caf\xe9 \xff\xfe", &long, "ü { \" ${HOME} last".as_bytes()];
    wanted.iter().for_each(|line| job.log.line("stdout", line));
    job.end();
    let items = sink.items();
    let logs: Vec<&[u8]> = items.iter().map(|item| item.member("log")).collect();
    // Fluent Bit reads the fraction of a second as a floating-point number and cuts it.
    for item in &items {
        let off = item.time().as_nanosecond() - item.nanoseconds.expect("more than seconds");
        assert!((0..=1).contains(&off), "{off} ns: {item:?}");
    }
    assert!(
        logs == wanted,
        "{:?}",
        logs.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>()
    );
}
