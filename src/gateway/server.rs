//! The server: what every request goes through before it is an operation, and how answers look.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Address, Handle, Server};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::call::{Call, Gateway};
use super::failure::Failure;
use super::jobs::LookedUp;
use super::limits::{Permits, Rates, Seen};
use super::routes::Route;
use super::service::Service;
use super::sigv4::{Claim, Signed};
use super::tls;
use crate::k8s::access_key::AccessKey;
use crate::metrics::Metrics;
use crate::serve::Readiness;

/// Larger than any request of AWS Batch.
const MAX_BODY: usize = 256 * 1024;
/// So much of a request that is larger is read all the same.
const MAX_READ: usize = 1024 * 1024;
/// How long a caller may take for its headers, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an operation may take.
const DEADLINE: Duration = Duration::from_secs(50);
/// How long answers under way may take when it ends.
const WIND_DOWN: Duration = Duration::from_secs(15);
/// By which SDKs name a call, however often they try.
const INVOCATION: &str = "amz-sdk-invocation-id";
/// Longer ones of these headers say nothing.
const MAX_HEADER: usize = 128;
/// Which try of a call it is.
const TRY: &str = "amz-sdk-request";
const REQUEST_ID: &str = "x-amzn-requestid";

struct Door {
    gateway: Arc<Gateway>,
    rates: Rates,
    seen: Seen,
    permits: Permits,
    metrics: Metrics,
}

/// Serves until it is told to stop.
///
/// # Errors
/// When the address cannot be listened on, or the certificate cannot be read.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    metrics: Metrics,
    ready: Readiness,
    stop: CancellationToken,
) -> Result<()> {
    let settings = gateway.settings.clone();
    let listener = TcpListener::bind(settings.address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("{} cannot be listened on", settings.address))?;
    let address = listener.local_addr()?;
    let door = Arc::new(Door {
        gateway,
        rates: Rates::new(settings.requests_per_second),
        seen: Seen::default(),
        permits: Permits::new(usize::from(settings.concurrency)),
        metrics,
    });
    let app = Router::new().fallback(answer).with_state(door).into_make_service();
    let handle = Handle::new();
    let (ending, unready) = (handle.clone(), ready.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        // Whoever balances load looks at this first.
        unready.set(false);
        ending.graceful_shutdown(Some(WIND_DOWN));
    });
    info!(%address, tls = settings.tls_cert.is_some(), "the AWS API is served");
    ready.set(true);
    match settings.tls_cert.as_deref().zip(settings.tls_key.as_deref()) {
        Some((cert, key)) => {
            let (known, config) = tls::read(cert, key)?;
            let config = RustlsConfig::from_config(config);
            let refresh = tls::refresh(config.clone(), known, cert, key);
            let server = patient(axum_server::from_tcp_rustls(listener, config)?.handle(handle));
            tokio::select! {
                ended = server.serve(app) => ended?,
                () = refresh => {}
            }
        }
        None => patient(axum_server::from_tcp(listener)?.handle(handle)).serve(app).await?,
    }
    Ok(())
}

/// Whoever connects has so long to say what it wants, from its first byte on; and HTTP/1 alone has a time for that.
fn patient<A: Address, S>(server: Server<A, S>) -> Server<A, S> {
    let mut server = server.http1_only().first_request_timeout(PATIENCE);
    server.http_builder().http1().header_read_timeout(PATIENCE);
    server
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (id, start) = (Uuid::new_v4().to_string(), Instant::now());
    let (parts, body) = request.into_parts();
    let service = Service::of(&parts.method, &parts.uri, &parts.headers);
    let route = match service {
        Service::Batch => Route::read(&parts.method, &parts.uri),
        Service::Logs => Route::of_logs(Service::target(&parts.headers)),
    };
    let operation = route.as_ref().map_or("Unknown", |route| route.operation);
    let served = async {
        let now = Timestamp::now();
        // Whoever names no key that works is not listened to any longer.
        let (claim, key) = door.caller(&parts.headers, service, now)?;
        let body = read(&parts.headers, body).await?;
        let request = Signed { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body: &body };
        claim.verify(request, &key.secret, &door.gateway.settings.region)?;
        door.serve(route?, &claim, key, request, now).await
    };
    let outcome = match timeout(DEADLINE, served).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::server("The operation took too long.")),
    };
    let outcome = outcome.map_err(|failure: Failure| failure.to(service));
    let code = outcome.as_ref().err().map_or("ok", Failure::kind);
    door.metrics.answered(operation, code, start.elapsed());
    let mut response = match outcome {
        Ok(value) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, service.content_type())], shown(value)).into_response()
        }
        Err(failure) => {
            info!(operation, request = id, kind = failure.kind(), why = failure.message(), "refused");
            failure.into_answer(service)
        }
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What is null is absent.
fn shown(mut value: Value) -> String {
    super::call::without_nulls(&mut value);
    value.to_string()
}

/// Reads a body that is neither too large nor too slow. One that is somewhat too large is read to its end, so that the
/// caller reads the answer.
async fn read(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Failure> {
    let stated =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if stated.is_some_and(|stated| stated > MAX_READ) {
        return Err(Failure::too_large(MAX_BODY));
    }
    match timeout(PATIENCE, to_bytes(body, MAX_READ)).await {
        Ok(Ok(body)) if body.len() <= MAX_BODY => Ok(body),
        Ok(_) => Err(Failure::too_large(MAX_BODY)),
        Err(_) => Err(Failure::client("The request took too long to arrive.")),
    }
}

impl Door {
    /// Who says that the request is theirs; nothing of it is proved yet.
    fn caller(
        &self,
        headers: &HeaderMap,
        service: Service,
        now: Timestamp,
    ) -> Result<(Claim, Arc<AccessKey>), Failure> {
        let claim = Claim::read(headers, service, &self.gateway.settings.region, now)?;
        match self.gateway.world.key(&claim.key).filter(|key| key.works(now)) {
            Some(key) => Ok((claim, key)),
            None => Err(Failure::auth(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )),
        }
    }

    /// Carries out a request whose caller is known.
    async fn serve(
        &self,
        route: Route,
        claim: &Claim,
        key: Arc<AccessKey>,
        request: Signed<'_>,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let _permit = self.permits.take(&key.id)?;
        self.rates.take(&key.id, Instant::now())?;
        let (namespace, operation) = (&key.binding.namespace, route.operation);
        if !self.gateway.settings.scope.serves(namespace) {
            let service = Service::of(request.method, request.uri, request.headers).name();
            return Err(Failure::denied(format!(
                "User: {} is not authorized to perform: {service}:{operation} because this gateway does not serve \
                 namespace {namespace}",
                key.person().user
            )));
        }
        let text = |name: &str| {
            let text = request.headers.get(name).and_then(|value| value.to_str().ok());
            text.filter(|text| text.len() <= MAX_HEADER).unwrap_or_default()
        };
        let invocation = Some(text(INVOCATION)).filter(|text| !text.is_empty());
        let body = route.body(request.body)?;
        if !route.only_reads() && !route.knows_its_tries(invocation, &body) {
            // boto3 signs two calls alike that say the same within a second, and an SDK's second try like its first;
            // only these headers tell them apart.
            let unsigned = [INVOCATION, TRY].into_iter().filter(|header| !claim.signs(header));
            let unsigned: Vec<&str> = unsigned.map(text).collect();
            let taken = self.seen.take(&claim.signature, &unsigned.join(" "), Instant::now());
            if let Err(repeated) = taken {
                sleep(repeated.after).await;
                return Err(repeated.answer);
            }
        }
        let invocation = invocation.map(str::to_owned);
        let account = self.gateway.account(&key.binding.namespace);
        let call = Call {
            gateway: self.gateway.clone(),
            key,
            account,
            operation: route.operation,
            invocation,
            now,
            looked_up: LookedUp::default(),
        };
        route.serve(&call, body).await
    }
}
