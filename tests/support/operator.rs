//! The operator as a process of this machine: started, asked, killed.
//!
//! At most one leads in a cluster, so all tests of this process share one. A test that needs the
//! operator for itself (to kill it, or to count what it writes) waits for the others to finish.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
    child: Child,
    /// Kills the operator when its standard input closes: when this process is gone.
    guardian: Child,
    address: SocketAddr,
}

impl Operator {
    /// Starts the program of this tree.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, LEASE_SECONDS)
    }

    /// Starts it with a lease of so many seconds.
    pub(crate) fn start_with(name: &str, lease_seconds: &str) -> Self {
        Self::start_at(&client::kubeconfig(), name, lease_seconds, &[])
    }

    /// Starts it on the way to the API server that a kubeconfig says, with more arguments.
    pub(crate) fn start_at(kubeconfig: &Path, name: &str, lease_seconds: &str, more: &[&str]) -> Self {
        let address = free_address();
        let log = log(STARTED.fetch_add(1, Ordering::Relaxed));
        let output = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let child = Command::new(env!("CARGO_BIN_EXE_batchyard"))
            .arg("operator")
            .args(["--pod-name", name, "--lease-duration-seconds", lease_seconds])
            .args(["--metrics-address", &address.to_string(), "--log-format", "text"])
            // So that deleted things are gone before the test is.
            .args(["--terminate-grace-seconds", "2"])
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("the operator starts");
        let guardian = Command::new("sh")
            .args(["-c", &format!("read -r _; kill -KILL {} 2>/dev/null", child.id())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Self { child, guardian, address }
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
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and checks that it does so in order.
    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()), "SIGTERM can be sent");
        let status = wait::answer("the end of the operator", "", || {
            let ended = self.child.try_wait().expect("it can be waited for");
            std::future::ready(ended)
        })
        .await;
        assert!(status.success(), "the operator ended with {status}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(mut self) {
        wait::answer("the end of the operator", "", || std::future::ready((!self.is_alive()).then_some(())))
            .await;
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
        let mut connection = TcpStream::connect(self.address).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(connection, "GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Stops or continues the process without its knowledge.
    pub(crate) fn pause(&self, paused: bool) {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} can be sent");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it has in use, in KiB.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}

/// The last lines in which the operator spoke of something.
pub(crate) fn last_words(about: &str) -> String {
    let logs = (0..STARTED.load(Ordering::Relaxed)).map(log);
    let text: String = logs.filter_map(|log| fs::read_to_string(log).ok()).collect();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(about)).collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    if last.is_empty() {
        "the operator said nothing of it".to_owned()
    } else {
        format!("the operator said:\n{last}")
    }
}

fn log(number: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("operator-{number}.log"))
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address")
}
