//! The notifier as a process of this machine.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::{client, wait};

/// The name of each notifier that follows another: it need not wait for the lease to expire.
const NAME: &str = "notifier-0";

static ONE: Mutex<()> = Mutex::const_new(());
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running notifier, the only one of the cluster; it ends with this value.
pub(crate) struct Notifier {
    child: Child,
    /// Kills it when this process is gone.
    guardian: Child,
    port: u16,
    log: PathBuf,
}

/// While it is held, no other test starts a notifier: all rules of the cluster are its.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().await
}

impl Notifier {
    /// Starts one that may speak to loopback and writes statuses often, and waits until it sends.
    pub(crate) async fn start() -> Self {
        Self::start_with("1").await
    }

    /// Starts one that writes a status at most every so many seconds.
    pub(crate) async fn start_with(status_seconds: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a loopback port is free").port();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("notifier-{number}.log"));
        let output = File::create(&log).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_batchyard"))
            .arg("notifier")
            .args(["--pod-name", NAME, "--lease-duration-seconds", "60", "--log-format", "text"])
            .args(["--metrics-address", &format!("127.0.0.1:{port}")])
            .args(["--status-seconds", status_seconds])
            .args(["--allowed-cidrs", "127.0.0.0/8"])
            .env("KUBECONFIG", client::kubeconfig())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("the notifier starts");
        let guardian = Command::new("sh")
            .args(["-c", &format!("read -r _; kill -KILL {} 2>/dev/null", child.id())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let notifier = Self { child, guardian, port, log };
        wait::answer("a notifier that sends", "", || std::future::ready(notifier.sends().then_some(())))
            .await;
        notifier
    }

    fn sends(&self) -> bool {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.contains("caches complete")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its metrics are.
    pub(crate) fn metrics_port(&self) -> u16 {
        self.port
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and checks that it does so in order.
    pub(crate) async fn stop(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(asked.is_ok_and(|status| status.success()), "SIGTERM can be sent");
        let ended = || std::future::ready(self.child.try_wait().expect("it can be waited for"));
        let mut ended = ended;
        let status = wait::answer("the end of the notifier", "", &mut ended).await;
        assert!(status.success(), "the notifier ended with {status}");
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}
