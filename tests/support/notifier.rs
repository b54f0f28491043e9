//! The notifier as a process of this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::program::{Program, free_address};
use super::roles::Servant;
use super::wait;

/// The name of each notifier that follows another: it need not wait for the lease to expire.
const NAME: &str = "notifier-0";

static ONE: Mutex<()> = Mutex::const_new(());
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running notifier, the only one of the cluster; it ends with this value.
pub(crate) struct Notifier {
    program: Program,
    address: SocketAddr,
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
        Self::start_told(&Servant::Notifier.kubeconfig(), status_seconds, &[]).await
    }

    /// The same on the way to the API server that a kubeconfig says, with more arguments.
    pub(crate) async fn start_told(kubeconfig: &Path, status_seconds: &str, more: &[&str]) -> Self {
        let address = free_address();
        let name = format!("notifier-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let program = Program::start(name, kubeconfig, |command| {
            command
                .arg("notifier")
                .args(["--pod-name", NAME, "--lease-duration-seconds", "60"])
                .args(["--metrics-address", &address.to_string()])
                .args(["--status-seconds", status_seconds])
                .args(["--allowed-cidrs", "127.0.0.0/8"])
                .args(more);
        });
        let notifier = Self { program, address };
        wait::answer("a notifier that sends", "", || std::future::ready(notifier.sends().then_some(())))
            .await;
        notifier
    }

    fn sends(&self) -> bool {
        self.log().contains("caches complete")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        self.program.said()
    }

    /// Where its metrics are.
    pub(crate) fn metrics_port(&self) -> u16 {
        self.address.port()
    }

    /// Ends it without warning.
    pub(crate) fn kill(self) {
        self.program.kill();
    }

    /// Asks it to end, and checks that it does so in order.
    pub(crate) async fn stop(self) {
        self.program.stop().await;
    }
}
