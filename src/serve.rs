//! /healthz, /readyz and /metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

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
pub async fn serve(address: SocketAddr, probed: Probed, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(encode))
        .with_state(probed);
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
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

async fn encode(State(Probed { metrics, .. }): State<Probed>) -> Response {
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
