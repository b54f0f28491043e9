//! What every long-running program of ours does: it connects to the API server, and is asked to stop.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::{Api, Client, Config};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::k8s::lease::{self, Candidate, Leadership};
use crate::k8s::watch::WATCH_SECONDS;
use crate::metrics::Metrics;
use crate::serve::{Health, ProbeSettings, Probed, Readiness, serve};

/// A program of which one process works at a time.
pub struct Turn<'a> {
    /// The name of its Lease.
    pub lease: &'static str,
    /// The namespace of the Lease.
    pub namespace: &'a str,
    /// Who this process is; one that runs in no pod makes up a name.
    pub pod_name: Option<&'a str>,
    /// How long a lease holds without being renewed, in seconds.
    pub lease_duration_seconds: u64,
    /// Where metrics and probes are served, and to whom.
    pub probes: &'a ProbeSettings,
}

/// What the work of a process is given.
pub struct Tools {
    /// The API server.
    pub client: Client,
    /// What it tells of itself.
    pub probed: Probed,
    /// Whether it is its turn.
    pub leadership: Leadership,
    /// Cancelled once it is asked to stop.
    pub stop: CancellationToken,
}

/// Campaigns for the lease and does `work`, which waits for it, until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or when it lost its lease: another process works now, and this one must begin anew.
pub async fn run_in_turn<F>(turn: Turn<'_>, work: impl FnOnce(Tools) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (metrics, ready, health) = (Metrics::default(), Readiness::default(), Health::default());
    let probed = Probed { metrics, ready: ready.clone(), health: health.clone() };
    let stop = CancellationToken::new();
    // Served to the very end, so that winding down can be watched.
    let unserved = CancellationToken::new();
    let client = connect().await?;
    let server = tokio::spawn(serve(turn.probes.clone(), client.clone(), probed.clone(), unserved.clone()));
    let leases = Api::namespaced(client.clone(), turn.namespace);
    let identity = turn.pod_name.map_or_else(|| format!("process-{}", std::process::id()), str::to_owned);
    let duration = Duration::from_secs(turn.lease_duration_seconds);
    let candidate = Candidate { lease: turn.lease.to_owned(), identity, duration };
    let (leadership, election) = lease::campaign(leases.clone(), candidate.clone(), health);
    // A stand-by is ready: there is nothing that it should do and cannot.
    ready.set(true);
    let outcome = tokio::select! {
        outcome = work(Tools { client, probed, leadership, stop: stop.clone() }) => outcome,
        () = signalled(stop.clone()) => Ok(()),
        answer = server => bail!("the metrics server ended: {answer:?}"),
    };
    ready.set(false);
    stop.cancel();
    election.abort();
    lease::release(&leases, &candidate).await;
    unserved.cancel();
    outcome
}

/// A client of the API server, in a cluster or by a kubeconfig.
///
/// # Errors
/// When neither is there or usable.
pub async fn connect() -> Result<Client> {
    let mut config =
        Config::infer().await.context("no way to an API server: neither in a cluster nor a kubeconfig")?;
    // Retries hidden in the client would hold a reconcile for minutes; ours look at the world first.
    config.default_retry = false;
    // A list or a watch that says nothing for longer than a watch lasts is dead.
    config.read_timeout = Some(Duration::from_secs(u64::from(WATCH_SECONDS) + 15));
    Client::try_from(config).context("the API server's address or credentials cannot be used")
}

/// Waits for SIGTERM or SIGINT and passes it on; then for the work to wind down, which ends the process.
pub async fn signalled(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("asked to stop");
            stop.cancel();
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}
