//! Services that others wrote: CloudWatch Logs as moto has it, and rsyslog. Each test runs where its program is.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use batchyard_core::logging::Driver;
use serde_json::Value;

use super::certificates::Certificates;
use super::{Extra, Job, program, until};

/// A program of its own, which ends with the test.
struct Service {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Service {
    /// A folder with certificates for it, and a port that is free.
    fn folder(name: &str, certificates: &Certificates) -> (PathBuf, u16) {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("services").join(format!("{name}-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in [
            ("authority.pem", &certificates.authority),
            ("certificate.pem", &certificates.certificate),
            ("key.pem", &certificates.key),
        ] {
            fs::write(folder.join(name), text).expect("a file");
        }
        (folder, port)
    }

    fn start(command: &mut Command, folder: PathBuf, port: u16) -> Self {
        let output = || {
            Stdio::from(
                fs::File::options().create(true).append(true).open(folder.join("said")).expect("a file"),
            )
        };
        let child =
            command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().expect("it starts");
        let mut service = Self { child, folder, port };
        // Nobody else can have its port then.
        until("its port", || {
            assert!(
                service.child.try_wait().expect("a child").is_none(),
                "it ended: {}",
                service.said("said")
            );
            TcpListener::bind(("127.0.0.1", port)).is_err() || UdpSocket::bind(("127.0.0.1", port)).is_err()
        });
        service
    }

    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said("said"));
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// What is in a group: events with their stream, by time.
const READ: &str = "
import boto3, json, sys
logs = boto3.client('logs', region_name='eu-west-1', endpoint_url=sys.argv[1], verify=sys.argv[2])
pages = logs.get_paginator('filter_log_events').paginate(logGroupName=sys.argv[3])
print(json.dumps([event for page in pages for event in page['events']]))
";

/// The Python that `BATCHYARD_MOTO` names, with moto and boto3.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("BATCHYARD_MOTO").map(PathBuf::from);
    let all = |python: &PathBuf| {
        let imported =
            Command::new(python).args(["-c", "import boto3, moto.server"]).stderr(Stdio::null()).status();
        imported.is_ok_and(|status| status.success())
    };
    let python = python.filter(all);
    if python.is_none() {
        println!("SKIPPED: BATCHYARD_MOTO names no Python with moto[server] and boto3");
    }
    python
}

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[test]
fn cloudwatch_logs() {
    let (Some(_), Some(python)) = (program(), python()) else { return };
    let certificates = Certificates::of("authority");
    let (folder, port) = Service::folder("moto", &certificates);
    let mut command = Command::new(&python);
    command.args(["-m", "moto.server", "--host", "127.0.0.1", "--port", &port.to_string()]);
    command
        .arg("--ssl-cert")
        .arg(folder.join("certificate.pem"))
        .arg("--ssl-key")
        .arg(folder.join("key.pem"));
    let moto = Service::start(&mut command, folder, port);
    let endpoint = format!("https://localhost:{}", moto.port);
    let options = [
        ("awslogs-region", "eu-west-1"),
        ("awslogs-group", "/aws/batch/custom/env-queue"),
        ("awslogs-stream-prefix", "team"),
        ("awslogs-create-group", "true"),
        ("awslogs-multiline-pattern", "^BEGIN"),
        ("awslogs-endpoint", endpoint.as_str()),
        ("awslogs-capath <-", "ca:ca"),
    ];
    let extra = Extra { variables: &CREDENTIALS, authority: &certificates.authority, ..Extra::default() };
    let Some(mut job) = Job::start_with(Driver::Awslogs, &options, &extra) else { return };
    for line in ["BEGIN 1", "more of 1", "BEGIN ü { \" ${HOME}", "BEGIN 3"] {
        job.log.line("stdout", line.as_bytes());
    }
    job.end();
    let read = Command::new(&python)
        .args(["-c", READ, &endpoint])
        .arg(moto.folder.join("authority.pem"))
        .arg("/aws/batch/custom/env-queue")
        .envs(CREDENTIALS)
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&read.stderr);
    let events: Vec<Value> = serde_json::from_slice(&read.stdout)
        .unwrap_or_else(|why| panic!("{why}: {said}\n{}", job.said("stderr")));
    let messages: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(messages, ["BEGIN 1\nmore of 1", "BEGIN ü { \" ${HOME}", "BEGIN 3"]);
    for event in events {
        assert_eq!(event["logStreamName"], "team/default/test-1");
        assert!(event["timestamp"].is_u64(), "{event}");
    }
}

/// rsyslog, with one way in.
fn rsyslog(certificates: &Certificates, input: &str, before: &str) -> Option<Service> {
    let found = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].into_iter().find(|path| Path::new(path).exists());
    let Some(found) = found else {
        println!("SKIPPED: there is no rsyslogd");
        return None;
    };
    let (folder, port) = Service::folder("rsyslog", certificates);
    let at = folder.display();
    let configuration = format!(
        r#"global(workDirectory="{at}" maxMessageSize="1m" defaultNetstreamDriverCAFile="{at}/authority.pem"
  defaultNetstreamDriverCertFile="{at}/certificate.pem" defaultNetstreamDriverKeyFile="{at}/key.pem")
{before}
template(name="all" type="string" string="%pri% %timereported:::date-rfc3339% %hostname% %app-name% %structured-data% %msg%\n")
input({input} port="{port}" address="127.0.0.1")
action(type="omfile" file="{at}/messages" template="all" asyncWriting="off")
"#
    );
    fs::write(folder.join("rsyslog.conf"), configuration).expect("a file");
    let mut command = Command::new(found);
    command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("pid"));
    Some(Service::start(&mut command, folder, port))
}

#[test]
fn syslog() {
    if program().is_none() {
        return;
    }
    let certificates = Certificates::of("authority");
    let tls = "module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")";
    for (scheme, input, before) in [
        ("udp", "type=\"imudp\"", "module(load=\"imudp\")"),
        ("tcp", "type=\"imtcp\"", "module(load=\"imtcp\")"),
        ("tcp+tls", "type=\"imtcp\"", tls),
    ] {
        for format in ["rfc3164", "rfc5424"] {
            let Some(rsyslog) = rsyslog(&certificates, input, before) else { return };
            let address = format!("{scheme}://localhost:{}", rsyslog.port);
            let mut options = vec![
                ("syslog-address", address.as_str()),
                ("syslog-format", format),
                ("syslog-facility", "local3"),
                ("tag", "team-{{.ID}}"),
            ];
            options.extend((scheme == "tcp+tls").then_some(("syslog-tls-ca-cert <-", "ca:ca")));
            let extra = Extra { authority: &certificates.authority, ..Extra::default() };
            let Some(mut job) = Job::start_with(Driver::Syslog, &options, &extra) else { return };
            job.log.line("stdout", "ü { \" ${HOME} ]".as_bytes());
            job.log.line("stderr", b"the last");
            until("both lines", || rsyslog.said("messages").contains("the last"));
            let messages = rsyslog.said("messages");
            let lines: Vec<&str> = messages.lines().collect();
            assert_eq!(lines.len(), 2, "{messages}");
            // Facility 19 and severity 6.
            assert!(lines.iter().all(|line| line.starts_with("158 20")), "{scheme} {format}: {messages}");
            assert!(
                lines.iter().all(|line| line.contains(" node-1 team-0f8b3c1a-77a ")),
                "{scheme} {format}: {messages}"
            );
            assert!(lines[0].ends_with("ü { \" ${HOME} ]"), "{scheme} {format}: {messages}");
            if format == "rfc5424" {
                assert!(
                    lines[0].contains("job_id=\"0f8b3c1a-77aa\"") && lines[1].contains("stream=\"stderr\""),
                    "{messages}"
                );
            }
        }
    }
}
