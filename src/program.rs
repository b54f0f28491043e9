//! What every long-running program of ours does: it connects to the API server, and is asked to stop.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::k8s::watch::WATCH_SECONDS;

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
