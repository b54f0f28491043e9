//! TLS, with an authority that is asked for, and unix sockets.

use std::fs;
use std::path::Path;

use batchyard_core::logging::Driver;

use super::certificates::Certificates;
use super::receiver::{Kind, Receiver};
use super::{Extra, Job, until};

/// Drivers with TLS: the options with which they reach a port, and how the sink speaks.
fn all(port: u16) -> [(Driver, Vec<(&'static str, String)>); 3] {
    let option = |name: &'static str, value: &str| (name, value.to_owned());
    [
        (
            Driver::Fluentd,
            vec![
                option("fluentd-address", &format!("tls://localhost:{port}")),
                option("fluentd-request-ack", "true"),
            ],
        ),
        (
            Driver::Splunk,
            vec![
                option("splunk-url", &format!("https://127.0.0.1:{port}")),
                option("splunk-token", "s3cret"),
                option("splunk-caname", "localhost"),
                option("splunk-capath <-", "ca:ca"),
            ],
        ),
        (
            Driver::Syslog,
            vec![
                option("syslog-address", &format!("tcp+tls://localhost:{port}")),
                option("syslog-tls-ca-cert <-", "ca:ca"),
            ],
        ),
    ]
}

const fn kind(driver: Driver) -> Kind {
    match driver {
        Driver::Fluentd => Kind::Forward,
        Driver::Splunk => Kind::Http(200, "{\"text\":\"Success\",\"code\":0}"),
        _ => Kind::Ended(b'\n'),
    }
}

/// Writes a line to a sink whose certificate is of one authority, asks for the other's, and gives what came.
fn sent(driver: Driver, sink: &Receiver, asked: &Certificates) -> Option<Job> {
    let (_, options) = all(sink.port()).into_iter().find(|(known, _)| *known == driver).expect("a driver");
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let extra = Extra { authority: &asked.authority, ..Extra::default() };
    let mut job = Job::start_with(driver, &options, &extra)?;
    job.log.line("stdout", b"hello");
    Some(job)
}

#[test]
fn tls_with_the_authority_that_is_asked_for_and_no_other() {
    let (right, other) = (Certificates::of("right"), Certificates::of("other"));
    for driver in [Driver::Fluentd, Driver::Splunk, Driver::Syslog] {
        // Docker's driver fluentd has no option for an authority: it is one of those that the image has.
        if driver != Driver::Fluentd {
            let sink = Receiver::start_tls(kind(driver), right.config.clone());
            let Some(_job) = sent(driver, &sink, &right) else { return };
            until("the line", || sink.count() == 1);
        }
        let sink = Receiver::start_tls(kind(driver), right.config.clone());
        let Some(job) = sent(driver, &sink, &other) else { return };
        until("a refusal", || job.said("stderr").contains("certificate verify failed"));
        until("another try", || job.said("stderr").matches("failed to flush chunk").count() > 1);
        assert_eq!(sink.count(), 0, "{driver:?}");
    }
}

#[test]
fn fluentd_by_a_unix_socket() {
    let sink = Receiver::start(Kind::Forward);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("socket").join(std::process::id().to_string());
    fs::create_dir_all(&folder).expect("a folder");
    sink.also_at(&folder.join("fluentd.sock"));
    let address = format!("unix://{}/fluentd.sock", folder.display());
    let options = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "true")];
    let Some(mut job) = Job::start(Driver::Fluentd, &options) else { return };
    job.log.line("stdout", b"hello");
    until("the line", || sink.count() == 1);
    assert_eq!(sink.items()[0].member("log"), b"hello");
    let _ = fs::remove_dir_all(folder);
}
