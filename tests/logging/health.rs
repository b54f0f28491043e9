//! What Fluent Bit answers the kubelet while sinks are away, refuse, or are well.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use batchyard_core::logging::Driver;
use batchyard_core::logging::health::{PATH, PORT};

use super::receiver::{Kind, Receiver};
use super::{Extra, Job, until};

impl Job {
    /// The answer to a request; nothing without one.
    fn asked(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(SocketAddr::new(self.address.into(), PORT)).ok()?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let (mut answer, mut bytes) = (String::new(), [0; 4096]);
        // The connection stays open.
        while !is_whole(&answer) {
            match stream.read(&mut bytes).ok()? {
                0 => break,
                length => answer.push_str(&String::from_utf8_lossy(&bytes[..length])),
            }
        }
        let status = answer.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, answer))
    }

    fn health(&self) -> Option<u16> {
        self.asked("GET", PATH).map(|(status, _)| status)
    }
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// A port where nobody listens.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

/// Each driver that sends to somewhere is seen to be in trouble when nobody is there, and none before it has output.
#[test]
fn a_sink_that_is_away_is_told_whatever_the_driver() {
    let port = nobody();
    let (http, tcp, plain) =
        (format!("http://127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}"), format!("127.0.0.1:{port}"));
    let port = port.to_string();
    let variables = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let extra = Extra { variables: &variables, ..Extra::default() };
    let jobs: Vec<_> = [
        (Driver::Splunk, vec![("splunk-url", http.as_str()), ("splunk-token", "t")]),
        (Driver::Fluentd, vec![("fluentd-address", plain.as_str()), ("fluentd-request-ack", "true")]),
        (Driver::Gelf, vec![("gelf-address", &tcp)]),
        (Driver::Syslog, vec![("syslog-address", &tcp)]),
        (Driver::Loki, vec![("loki-url", &http)]),
        (Driver::Opensearch, vec![("opensearch-url", &http)]),
        (Driver::Opentelemetry, vec![("opentelemetry-url", &http)]),
        (Driver::Awsfirelens, vec![("Name", "http"), ("host", "127.0.0.1"), ("port", &port)]),
        (Driver::Awslogs, vec![("awslogs-region", "eu-west-1"), ("awslogs-endpoint", "https://127.0.0.1:1")]),
    ]
    .into_iter()
    .filter_map(|(driver, options)| Some((driver, Job::start_with(driver, &options, &extra)?)))
    .collect();
    for (driver, job) in &jobs {
        until(&format!("an answer of {driver:?}"), || job.health() == Some(200));
    }
    for (driver, mut job) in jobs {
        job.log.line("stdout", b"nobody hears");
        until(&format!("trouble of {driver:?}"), || job.health() == Some(500));
    }
}

/// It lasts as long as the sink is away and some time longer. What throws output away is trouble, too.
#[test]
fn a_sink_that_is_back_is_well_again() {
    let mut sink = Receiver::start(Kind::Forward);
    let address = format!("127.0.0.1:{}", sink.port());
    let options = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "true")];
    let Some(mut job) = Job::start(Driver::Fluentd, &options) else { return };
    job.log.line("stdout", b"one");
    until("a line", || sink.count() == 1);
    assert_eq!(job.health(), Some(200));
    sink.down();
    job.log.line("stdout", b"two");
    until("trouble", || job.health() == Some(500));
    // Pauses between tries grow; it must not look well in one of them.
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 60 {
        assert_eq!(job.health(), Some(500), "after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    sink.up();
    until("a line", || sink.count() == 2);
    until("an end of the trouble", || job.health() == Some(200));
    let said = job.said("stderr");
    let strange = said.lines().filter(|line| line.contains("file") || line.contains("accessor"));
    assert_eq!(strange.count(), 0, "its log tells of the sink only: {said}");

    let refuses = Receiver::start(Kind::Http(400, "no"));
    let url = format!("http://127.0.0.1:{}", refuses.port());
    let Some(mut job) = Job::start(Driver::Loki, &[("loki-url", &url)]) else { return };
    job.log.line("stdout", b"one");
    until("trouble", || job.health() == Some(500));
}

/// Who reaches the pod's address may read numbers, and change nothing.
#[test]
fn nobody_can_change_anything_by_the_port() {
    let Some(mut job) = Job::start(Driver::Stdout, &[]) else { return };
    job.log.line("stdout", b"one");
    until("a line", || job.said("stdout").contains("one"));
    let (_, answer) = job.asked("POST", "/api/v2/reload").expect("an answer");
    assert!(answer.contains("not enabled"), "{answer}");
    for method in ["GET", "POST", "PUT"] {
        let (status, answer) = job.asked(method, "/api/v1/trace/tail.0").expect("an answer");
        assert_eq!(status, 404, "{method}: {answer}");
    }
    let (_, answer) = job.asked("GET", "/api/v2/reload").expect("an answer");
    assert!(answer.contains("\"hot_reload_count\":0"), "{answer}");
    assert_eq!(job.health(), Some(200));
    let at_loopback = TcpStream::connect(("127.0.0.1", PORT));
    assert!(at_loopback.is_err(), "it listens at the pod's own address only");
}
