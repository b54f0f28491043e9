//! The program of this tree in one of its modes, as a process of this machine that never outlives this one.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait;

/// A running process; it ends with this value.
pub(crate) struct Program {
    name: String,
    child: Child,
    /// Kills it when its standard input closes: when this process is gone.
    guardian: Child,
    log: PathBuf,
}

/// An address of loopback on which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address")
}

/// Where the process of this name writes what it says.
pub(crate) fn log(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"))
}

/// The status code and body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}

impl Program {
    /// Starts it. Its name is that of its log, too; the first argument is the mode.
    pub(crate) fn start(name: String, kubeconfig: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let log = log(&name);
        let output = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
        change(&mut command);
        let child = command
            .args(["--log-format", "text"])
            .env("KUBECONFIG", kubeconfig)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let guardian = Command::new("sh")
            .args(["-c", &format!("read -r _; kill -KILL {} 2>/dev/null", child.id())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Self { name, child, guardian, log }
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|e| panic!("{}: {e}", self.log.display()))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} can be sent");
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and checks that it does so in order.
    pub(crate) async fn stop(mut self) {
        self.signal("-TERM");
        let status = self.ended().await;
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        wait::answer(&format!("the end of {}", self.name), "", || {
            std::future::ready(self.child.try_wait().expect("it can be waited for"))
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}
