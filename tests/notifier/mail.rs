//! E-mail to a real server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::receiver::certificate;
use super::{later, ready, rule, secrets, settings, sink};
use batchyard::notifier::sink::{Failure, Sink};

/// A Python that has the server's package, if one can be had.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smtp");
        let python = folder.join("bin/python");
        let run = |program: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let has_it = || run(&python, &["-c", "import aiosmtpd"]);
        let venv = folder.display().to_string();
        let can = has_it()
            || run(Path::new("python3"), &["-m", "venv", &venv])
                && run(&python, &["-m", "pip", "install", "--quiet", "aiosmtpd==1.4.6"])
                && has_it();
        can.then_some(python)
    };
    let python = PYTHON.get_or_init(install).as_deref();
    if python.is_none() {
        println!("SKIPPED: there is no SMTP server; python3 with venv and a package index are needed");
    }
    python
}

/// A mail server with a certificate for `localhost`, a user and a password.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
    authority: String,
}

impl Server {
    fn start(tls: &str) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self::start_at(tls, free.expect("a loopback port is free").port(), certificate())
    }

    fn start_at(tls: &str, port: u16, (authority, key): (String, String)) -> Option<Self> {
        let python = python()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (certificate, secret) = (folder.join(format!("{port}.crt")), folder.join(format!("{port}.key")));
        std::fs::write(&certificate, &authority).expect("a file");
        std::fs::write(&secret, key).expect("a file");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notifier/server.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([&certificate, &secret])
            .args([tls, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut server = Self { child, output, port, authority };
        assert_eq!(server.line().trim(), "ready", "the server listens");
        Some(server)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it says something");
        line
    }

    /// The next message.
    fn message(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("a message")
    }

    fn smtp(&self, tls: &str, to: &[&str]) -> Value {
        json!({"sessionReady": true, "smtp": {"host": "localhost", "port": self.port, "tls": tls,
            "from": "batch@example.org", "to": to, "caBundle": self.authority, "credentials": {"name": "mail"}}})
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.write_all(b"end\n");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn password() -> batchyard::notifier::sink::Secrets {
    secrets(&[("mail", "username", "batch"), ("mail", "password", "sesame\n")])
}

#[tokio::test]
async fn the_user_gets_the_url_by_either_way_of_tls() {
    for tls in ["STARTTLS", "TLS"] {
        let Some(mut server) = Server::start(tls) else { return };
        let mut sink = sink(server.smtp(tls, &["user001@example.org"]));
        for _ in 0..2 {
            sink = sink.afresh();
            sink.deliver(&ready(), &password()).await.unwrap_or_else(|failure| panic!("{tls}: {failure:?}"));
            // Sent once and remembered; another process would send it again.
            sink = super::sink(server.smtp(tls, &["user001@example.org"]));
        }
        let (one, two) = (server.message(), server.message());
        assert_eq!(
            (&one["from"], &one["to"]),
            (&json!("batch@example.org"), &json!(["user001@example.org"]))
        );
        assert_eq!((&one["tls"], &one["user"]), (&json!(true), &json!("batch")), "{tls}");
        let content = one["content"].as_str().expect("text").replace("\r\n", "\n");
        for line in [
            "Subject: The session of job DCV is ready\n",
            "Connect to: https://203.0.113.7:8443/\n",
            "Message-ID: <job-uid/1/SESSION_READY/rule-uid@example.org>\n",
            "Auto-Submitted: auto-generated\n",
            "To: user001@example.org\n",
        ] {
            assert!(content.contains(line), "{line} in {content}");
        }
        let id = |message: &Value| {
            let text = message["content"].as_str().expect("text").to_owned();
            text.lines().find(|line| line.starts_with("Message-ID")).map(str::to_owned)
        };
        assert_eq!(id(&one), id(&two), "the same for the same");
    }
}

/// One recipient that does not exist and one who cannot take it now keep it from nobody, and nobody gets it twice.
#[tokio::test]
async fn each_recipient_is_served_on_its_own() {
    let Some(mut server) = Server::start("STARTTLS") else { return };
    let to = ["a@example.org", "nobody@example.org", "later@example.org", "b@example.org"];
    let mut sink = sink(server.smtp("STARTTLS", &to));
    let answer = sink.deliver(&ready(), &password()).await;
    assert_eq!(later(answer), "localhost answered 451", "only the code: what it said has the password in it");
    let got = [server.message(), server.message()].map(|message| message["to"].clone());
    assert_eq!(got, [json!(["a@example.org"]), json!(["b@example.org"])]);
    assert_eq!(
        later(sink.deliver(&ready(), &password()).await),
        "localhost answered 451",
        "he alone is tried again"
    );
    let to: Vec<&str> = to.into_iter().filter(|to| !to.starts_with("later")).collect();
    let mut sink = super::sink(server.smtp("STARTTLS", &to));
    let refused = Err(Failure::for_good("localhost answered 550".to_owned()));
    assert_eq!(sink.deliver(&ready(), &password()).await, refused);
    let got = [server.message(), server.message()].map(|message| message["to"].clone());
    assert_eq!(got, [json!(["a@example.org"]), json!(["b@example.org"])]);
}

#[tokio::test]
async fn nothing_is_sent_without_tls_a_known_certificate_and_the_right_password() {
    let Some(server) = Server::start("STARTTLS") else { return };
    let to = ["user001@example.org"];
    let wrong = secrets(&[("mail", "username", "batch"), ("mail", "password", "wrong")]);
    let why = later(sink(server.smtp("STARTTLS", &to)).deliver(&ready(), &wrong).await);
    assert_eq!(why, "localhost answered 535");
    let mut stranger = server.smtp("STARTTLS", &to);
    stranger["smtp"]["caBundle"] = json!(certificate().0);
    let why = later(sink(stranger).deliver(&ready(), &password()).await);
    assert!(why.contains("no TLS with localhost") || why.contains("cannot be reached"), "{why}");
    let mut other = server.smtp("STARTTLS", &to);
    other["smtp"]["host"] = json!("127.0.0.2");
    let why = later(sink(other).deliver(&ready(), &password()).await);
    assert!(!why.contains("answered 2"), "{why}");
    let refused =
        Sink::new(&rule(server.smtp("STARTTLS", &to)), &settings(&[])).deliver(&ready(), &password()).await;
    assert!(later(refused).ends_with("is a loopback address"));
}

#[tokio::test]
async fn a_server_that_was_down_gets_it_when_it_is_back() {
    let Some(server) = Server::start("TLS") else { return };
    let mut sink = sink(server.smtp("TLS", &["user001@example.org"]));
    let (port, authority) = (server.port, server.authority.clone());
    let key = std::fs::read_to_string(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{port}.key")));
    drop(server);
    assert_eq!(later(sink.deliver(&ready(), &password()).await), "localhost cannot be reached");
    let back = Server::start_at("TLS", port, (authority, key.expect("its key")));
    let mut back = back.expect("it started before");
    sink.deliver(&ready(), &password()).await.expect("it is taken");
    assert_eq!(back.message()["to"], json!(["user001@example.org"]));
}

/// Whoever may make a rule may run the server.
#[tokio::test]
async fn a_server_that_never_ends_its_line_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (more, mut sent) = ([b'2'; 4096], 0);
        while sent < 64 << 20 && stream.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        sent
    });
    let smtp = json!({"host": "127.0.0.1", "port": port, "from": "a@example.org", "to": ["b@example.org"]});
    let mut sink = sink(json!({"sessionReady": true, "smtp": smtp}));
    let why = later(sink.deliver(&ready(), &password()).await);
    assert_eq!(why, "127.0.0.1 did not speak SMTP as it should");
    drop(sink);
    let sent = server.await.expect("it ends");
    // What the sockets hold comes on top of what is read.
    assert!(sent < 32 << 20, "{sent} bytes were taken");
}
