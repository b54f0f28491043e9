//! The operator as a process of this machine: started, asked, killed.
//!
//! At most one leads in a cluster, so all tests of this process share one. A test that needs the
//! operator for itself (to kill it, or to count what it writes) waits for the others to finish.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::program::{self, Program, free_address};
use super::roles::Servant;
use super::{client, wait};

/// The name of every operator that follows another. One of the same name needs not wait for the lease to expire, even
/// if the one before was killed, as a container that restarts in its pod.
pub(crate) const NAME: &str = "operator-0";

/// Long, so that a machine that is busy with other things takes no lease away.
const LEASE_SECONDS: &str = "60";

static USE: RwLock<()> = RwLock::const_new(());
static SHARED: Mutex<Option<Operator>> = Mutex::const_new(None);
static STARTED: AtomicU32 = AtomicU32::new(0);

/// While it is held, an operator leads.
pub(crate) struct Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>);

/// While it is held, the only operators are those that the test starts.
pub(crate) struct Exclusive(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

/// The operator that tests share.
pub(crate) async fn shared() -> Shared {
    // On a new cluster there is not even the namespace of the operator's lease.
    client::connect(client::Actor::User).await;
    let guard = USE.read().await;
    let mut running = SHARED.lock().await;
    if running.as_mut().is_none_or(|operator| !operator.is_alive()) {
        let operator = Operator::start(NAME);
        operator.leads().await;
        *running = Some(operator);
    }
    Shared(guard)
}

/// The operator for one test alone.
pub(crate) async fn exclusive() -> Exclusive {
    client::connect(client::Actor::User).await;
    let guard = USE.write().await;
    if let Some(operator) = SHARED.lock().await.take() {
        operator.stop().await;
    }
    Exclusive(guard)
}

/// A running operator; it ends with this value, and with the test process however that ends.
pub(crate) struct Operator {
    program: Program,
    address: SocketAddr,
}

impl Operator {
    /// Starts the program of this tree.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, LEASE_SECONDS)
    }

    /// Starts it with a lease of so many seconds.
    pub(crate) fn start_with(name: &str, lease_seconds: &str) -> Self {
        Self::start_told(name, lease_seconds, &[])
    }

    /// Starts it with more arguments.
    pub(crate) fn start_told(name: &str, lease_seconds: &str, more: &[&str]) -> Self {
        Self::start_at(&Servant::Operator.kubeconfig(), name, lease_seconds, more)
    }

    /// Starts it on the way to the API server that a kubeconfig says, with more arguments.
    pub(crate) fn start_at(kubeconfig: &Path, name: &str, lease_seconds: &str, more: &[&str]) -> Self {
        let address = free_address();
        let program = Program::start(named(STARTED.fetch_add(1, Ordering::Relaxed)), kubeconfig, |command| {
            command
                .arg("operator")
                .args(["--pod-name", name, "--lease-duration-seconds", lease_seconds])
                .args(["--metrics-address", &address.to_string()])
                // So that deleted things are gone before the test is.
                .args(["--terminate-grace-seconds", "2"])
                .args(more);
        });
        Self { program, address }
    }

    /// Waits until it leads and its caches are complete.
    pub(crate) async fn leads(&self) {
        wait::answer("an operator that leads", "", || async {
            let leader = self.metrics()?.lines().any(|line| line == "batchyard_leader 1");
            (leader && self.is_ready()).then_some(())
        })
        .await;
    }

    /// Waits until it is ready without leading.
    pub(crate) async fn stands_by(&self) {
        wait::answer("an operator that stands by", "", || async {
            let follower = self.metrics()?.lines().any(|line| line == "batchyard_leader 0");
            (follower && self.is_ready()).then_some(())
        })
        .await;
    }

    /// Ends it without warning.
    pub(crate) fn kill(self) {
        self.program.kill();
    }

    /// Asks it to end, and checks that it does so in order.
    pub(crate) async fn stop(self) {
        self.program.stop().await;
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(mut self) {
        self.program.ended().await;
    }

    /// What Prometheus reads; nothing while it does not answer.
    pub(crate) fn metrics(&self) -> Option<String> {
        self.get("/metrics").filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    /// Whether a Service would send it traffic.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// The status code and body of a GET.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        program::get(self.address, path)
    }

    /// Stops or continues the process without its knowledge.
    pub(crate) fn pause(&self, paused: bool) {
        self.program.signal(if paused { "-STOP" } else { "-CONT" });
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The memory that it has in use, in KiB.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.program.is_alive()
    }
}

/// All that the operators of this process said.
pub(crate) fn said() -> String {
    let logs = (0..STARTED.load(Ordering::Relaxed)).map(named);
    logs.filter_map(|name| fs::read_to_string(program::log(&name)).ok()).collect()
}

/// What Prometheus reads of the operator that tests share.
pub(crate) async fn shared_metrics() -> String {
    SHARED.lock().await.as_ref().and_then(Operator::metrics).unwrap_or_default()
}

/// The last lines in which the operator spoke of something.
pub(crate) fn last_words(about: &str) -> String {
    let text = said();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(about)).collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    if last.is_empty() {
        "the operator said nothing of it".to_owned()
    } else {
        format!("the operator said:\n{last}")
    }
}

fn named(number: u32) -> String {
    format!("operator-{number}")
}
