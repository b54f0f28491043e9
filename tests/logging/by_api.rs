//! What a real Fluent Bit makes of output that is followed through the API: the same as of files, but for `stream`.

use std::os::unix::net::UnixListener;

use batchyard_core::logging::Driver;
use batchyard_core::logging::sidecar::Source;
use serde_json::Value;

use super::follow::{Api, Follower};
use super::receiver::{Item, Kind, Receiver};
use super::{Extra, Job, until};

const BY_API: Extra<'_> = Extra { variables: &[], authority: "", source: Source::Api };

/// A pod that writes and ends at once, with its sidecar and the helper.
fn sent(driver: Driver, options: &[(&str, &str)], write: impl FnOnce(&Api)) -> Option<Job> {
    let mut job = Job::start_with(driver, options, &BY_API)?;
    let (api, buffer) = (Api::start(), job.folder.join("buffer"));
    let settles = format!("--settle-seconds={}", job.sidecar.settle_seconds());
    let mut follower = Follower::start(&api, &buffer, &[&settles]);
    api.begins();
    write(&api);
    api.ends();
    assert_eq!(follower.ends(), Some(0));
    // The kubelet turns to Fluent Bit when the helper has ended, with no sleep between.
    job.terminate();
    Some(job)
}

fn text(item: &Item) -> String {
    String::from_utf8_lossy(&item.body).into_owned()
}

#[test]
fn all_lines_once_each_and_in_order_by_their_times() {
    let sink = Receiver::start(Kind::Forward);
    let address = format!("127.0.0.1:{}", sink.port());
    let options = [
        ("fluentd-address", address.as_str()),
        ("fluentd-request-ack", "true"),
        ("fluentd-sub-second-precision", "true"),
    ];
    let write = |api: &Api| (0..20_000).for_each(|number| api.writes(&format!("{number:07} ü\n")));
    if sent(Driver::Fluentd, &options, write).is_none() {
        return;
    }
    let mut items = sink.items();
    items.sort_by_key(Item::time);
    assert_eq!(items.len(), 20_000);
    for (number, item) in items.iter().enumerate() {
        assert_eq!(item.member("log"), format!("{number:07} ü").as_bytes());
        assert_eq!(item.time().as_nanosecond(), item.nanoseconds.expect("more than seconds"));
        let member = |name: &str| String::from_utf8_lossy(item.member(name)).into_owned();
        assert_eq!((member("job_id").as_str(), member("container").as_str()), ("0f8b3c1a-77aa", "default"));
        assert!(!item.record.iter().any(|(name, _)| name == "stream"), "{item:?}");
    }
}

/// What names the stream of a line in a file has none here, and works all the same.
#[test]
fn records_without_a_stream() {
    for format in ["inline", "raw"] {
        let sink = Receiver::start(Kind::Http(200, "{\"text\":\"Success\",\"code\":0}"));
        let url = format!("http://127.0.0.1:{}", sink.port());
        let options = [("splunk-url", url.as_str()), ("splunk-token", "s3cret"), ("splunk-format", format)];
        if sent(Driver::Splunk, &options, |api| api.writes("hello\n")).is_none() {
            return;
        }
        let all: String = sink.items().iter().map(text).collect();
        let event: Value = serde_json::from_str(&all).unwrap_or_else(|error| panic!("{all}: {error}"));
        let line = if format == "raw" { &event["event"] } else { &event["event"]["line"] };
        assert_eq!((line, &event["host"]), (&Value::from("hello"), &Value::from("node-1")), "{event}");
    }
    let sink = Receiver::start(Kind::Ended(b'\n'));
    let address = format!("tcp://127.0.0.1:{}", sink.port());
    let options = [("syslog-address", address.as_str()), ("syslog-format", "rfc5424")];
    if sent(Driver::Syslog, &options, |api| api.writes("hello\n")).is_some() {
        let line = text(&sink.items()[0]);
        assert!(line.ends_with("hello") && line.contains("job_id=\"0f8b3c1a-77aa\""), "{line}");
    }
}

/// A socket that an earlier Fluent Bit left behind is no hindrance, and a sink that comes late loses nothing.
#[test]
fn a_socket_that_is_left_over() {
    let mut sink = Receiver::start(Kind::Forward);
    let address = format!("127.0.0.1:{}", sink.port());
    sink.down();
    let options = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "true")];
    let Some(mut job) = Job::start_with(Driver::Fluentd, &options, &BY_API) else { return };
    let socket = job.folder.join("buffer/forward.sock");
    until("the socket", || socket.exists());
    job.kill();
    assert!(socket.exists() && UnixListener::bind(&socket).is_err());
    job.start_again();
    let api = Api::start();
    let mut follower = Follower::start(&api, &job.folder.join("buffer"), &[]);
    api.begins();
    (0..100).for_each(|number| api.writes(&format!("{number:07}\n")));
    api.ends();
    assert_eq!(follower.ends(), Some(0), "Fluent Bit has it, whatever its sink does");
    sink.up();
    until("all lines", || sink.count() >= 100);
    job.terminate();
    assert_eq!(sink.count(), 100);
}
