//! A mail server in Python (`aiosmtpd`), which the tests install for themselves and without which they are skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use super::receiver::certificate;

/// How long a message may take on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

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
        if !can {
            println!("SKIPPED: there is no SMTP server; python3 with venv and a package index are needed");
        }
        can.then_some(python)
    };
    PYTHON.get_or_init(install).as_deref()
}

/// A mail server with a certificate for `localhost`, a user and a password.
pub(crate) struct Server {
    child: Child,
    /// The lines that it says.
    lines: mpsc::Receiver<String>,
    pub(crate) port: u16,
    pub(crate) authority: String,
}

impl Server {
    /// Speaks TLS like this, on a free port.
    pub(crate) fn start(tls: &str) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self::start_at(tls, free.expect("a loopback port is free").port(), certificate())
    }

    /// On this port, with this certificate and key.
    pub(crate) fn start_at(tls: &str, port: u16, (authority, key): (String, String)) -> Option<Self> {
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
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let server = Self { child, lines, port, authority };
        assert_eq!(server.line().trim(), "ready", "the server listens");
        Some(server)
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it says something")
    }

    /// The next message.
    pub(crate) fn message(&self) -> Value {
        serde_json::from_str(&self.line()).expect("a message")
    }

    /// A rule's spec that sends to these by it.
    pub(crate) fn smtp(&self, tls: &str, to: &[&str]) -> Value {
        json!({"sessionReady": true, "smtp": {"host": "localhost", "port": self.port, "tls": tls,
            "from": "batch@example.org", "to": to, "caBundle": self.authority, "credentials": {"name": "mail"}}})
    }
}

impl Server {
    /// From now on it takes what is for `later@…`, too.
    pub(crate) fn take_all(&mut self) {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(b"take\n").and_then(|()| input.flush()).expect("it listens");
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
