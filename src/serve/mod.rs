//! /healthz, /readyz and /metrics.

mod readers;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use clap::Args;
use kube::Client;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use self::readers::Readers;
use crate::certificate::{Identity, provider};
use crate::metrics::Metrics;

/// Where /metrics, /healthz and /readyz are served, and to whom.
#[derive(Args, Clone, Debug)]
pub struct ProbeSettings {
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "BATCHYARD_METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: SocketAddr,
    /// Serve them by HTTPS, and /metrics to those alone whose token may get that path of the API server.
    #[arg(long, env = "BATCHYARD_METRICS_AUTHORIZATION", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub metrics_authorization: bool,
}

/// How long answers under way may take when it ends.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// Whether this process can do its work: as the leader with complete caches, or as a stand-by.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether it can.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether what this process does over and over is still being done; what hangs must be started
/// anew, and nobody else would notice.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Pulse>>>);

/// When something was last done, and within what time it is to be done again.
struct Pulse {
    last: Instant,
    limit: Duration,
}

impl Health {
    /// This was done just now and will be done again within `limit`.
    pub fn beat(&self, what: &'static str, limit: Duration) {
        self.lock().insert(what, Pulse { last: Instant::now(), limit });
    }

    /// This is over, in order.
    pub fn rest(&self, what: &'static str) {
        self.lock().remove(what);
    }

    /// What should have been done by now.
    fn overdue(&self, now: Instant) -> Vec<&'static str> {
        let pulses = self.lock();
        let late = pulses.iter().filter(|(_, pulse)| now.duration_since(pulse.last) > pulse.limit);
        late.map(|(what, _)| *what).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Pulse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is served.
#[derive(Clone)]
pub struct Probed {
    /// /metrics
    pub metrics: Metrics,
    /// /readyz
    pub ready: Readiness,
    /// /healthz
    pub health: Health,
}

/// Serves until it is told to stop.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    settings: ProbeSettings,
    client: Client,
    probed: Probed,
    stop: CancellationToken,
) -> Result<()> {
    let probes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(probed.clone());
    let readers = settings.metrics_authorization.then(|| Arc::new(Readers::known_to(client)));
    let metrics = Router::new().route("/metrics", get(encode)).with_state((probed.metrics, readers));
    let app = probes.merge(metrics).into_make_service();
    let address = settings.metrics_address;
    let listener = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("{address} cannot be listened on"))?;
    let handle = Handle::new();
    let end = handle.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        end.graceful_shutdown(Some(WIND_DOWN));
    });
    if settings.metrics_authorization {
        let config = RustlsConfig::from_config(Arc::new(tls()?));
        axum_server::from_tcp_rustls(listener, config)?.handle(handle).serve(app).await?;
    } else {
        axum_server::from_tcp(listener)?.handle(handle).serve(app).await?;
    }
    Ok(())
}

/// A certificate that nobody can know: tokens are kept from those who only listen, and the kubelet does not ask for more.
fn tls() -> Result<ServerConfig> {
    let (chain, key) = Identity::new("batchyard")?.chain()?;
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_single_cert(chain, key)?)
}

async fn healthz(State(Probed { health, .. }): State<Probed>) -> Response {
    match health.overdue(Instant::now()).as_slice() {
        [] => "ok".into_response(),
        late => {
            let text = format!("overdue: {}", late.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(Probed { ready, .. }): State<Probed>) -> Response {
    match ready.get() {
        true => "ready".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "waiting for the caches").into_response(),
    }
}

type ForReaders = (Metrics, Option<Arc<Readers>>);

async fn encode(State((metrics, readers)): State<ForReaders>, headers: HeaderMap) -> Response {
    if let Some(readers) = readers
        && let Err(refusal) = readers.admit(&headers, "/metrics").await
    {
        return refusal.into_response();
    }
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_hangs_is_not_healthy() {
        let probed =
            Probed { metrics: Metrics::default(), ready: Readiness::default(), health: Health::default() };
        let health = probed.health.clone();
        let answer = || healthz(State(probed.clone()));
        assert_eq!(answer().await.status(), StatusCode::OK, "nothing has begun");
        health.beat("cycle", Duration::from_secs(60));
        health.beat("lease", Duration::from_secs(120));
        assert_eq!(answer().await.status(), StatusCode::OK);
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(health.overdue(later(59)), [""; 0]);
        assert_eq!(health.overdue(later(61)), ["cycle"]);
        assert_eq!(health.overdue(later(121)), ["cycle", "lease"]);
        health.rest("cycle");
        assert_eq!(health.overdue(later(61)), [""; 0], "what has ended is not waited for");
        health.beat("cycle", Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(answer().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
