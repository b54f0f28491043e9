//! An HTTP server that takes notifications: with TLS or without, up or down, and with the answers that a test wants.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The status that it was answered with.
    pub(crate) answered: u16,
}

impl Received {
    /// The CloudEvent.
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("an event in JSON")
    }

    /// Its id.
    pub(crate) fn id(&self) -> String {
        self.event()["id"].as_str().expect("an event has an id").to_owned()
    }
}

#[derive(Default)]
struct Shared {
    received: Vec<Received>,
    /// The answers to come; then 204.
    answers: Vec<(u16, Option<(&'static str, String)>)>,
    /// The answer while there is no other.
    always: Option<u16>,
}

/// A running or stopped server at one address.
pub(crate) struct Receiver {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    /// The name in its URL.
    host: String,
    tls: Option<RustlsConfig>,
    authority: String,
    handle: Option<Handle<SocketAddr>>,
}

impl Receiver {
    /// Without TLS.
    pub(crate) async fn plain() -> Self {
        Self::start(LOOPBACK, LOOPBACK.to_string(), None, String::new())
    }

    /// With a certificate for `localhost` and 127.0.0.1.
    pub(crate) async fn tls() -> Self {
        Self::certified(LOOPBACK, "localhost".to_owned(), certificate()).await
    }

    /// At an address of this machine, with a certificate for it.
    pub(crate) async fn at(address: IpAddr) -> Self {
        Self::certified(address, address.to_string(), certificate_for(vec![address.to_string()])).await
    }

    async fn certified(address: IpAddr, host: String, (certificate, key): (String, String)) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let config = RustlsConfig::from_pem(certificate.clone().into_bytes(), key.into_bytes()).await;
        Self::start(address, host, Some(config.expect("a certificate")), certificate)
    }

    fn start(address: IpAddr, host: String, tls: Option<RustlsConfig>, authority: String) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let mut receiver = Self { shared, address, host, tls, authority, handle: None };
        receiver.serve(listener);
        receiver
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("a socket");
        let handle = Handle::new();
        let app = Router::new().fallback(take).with_state(self.shared.clone()).into_make_service();
        match self.tls.clone() {
            Some(tls) => {
                let server = axum_server::from_tcp_rustls(listener, tls).expect("a socket");
                tokio::spawn(server.handle(handle.clone()).serve(app));
            }
            None => {
                let server = axum_server::from_tcp(listener).expect("a socket");
                tokio::spawn(server.handle(handle.clone()).serve(app));
            }
        }
        self.handle = Some(handle);
    }

    /// Where it is.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}{path}", self.host, self.address.port())
    }

    /// The certificate that it is believed for.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Connections are refused from now on.
    pub(crate) async fn down(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
        }
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it does not go down");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// It is back at the same address.
    pub(crate) async fn up(&mut self) {
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        self.serve(listener);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request is answered with this, and perhaps a header.
    pub(crate) fn answer(&self, status: u16, header: Option<(&'static str, String)>) {
        self.shared().answers.push((status, header));
    }

    /// Each request is answered with this; none: taken.
    pub(crate) fn answer_always(&self, status: Option<u16>) {
        self.shared().always = status;
    }

    /// What came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared().received.clone()
    }

    /// The ids of what was taken, in their order.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.received().iter().filter(|r| r.answered < 300).map(Received::id).collect()
    }

    /// Waits until this is so of what came.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let begun = Instant::now();
        loop {
            let received = self.received();
            if done(&received) {
                return received;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}; there came {received:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
        }
    }
}

async fn take(
    State(shared): State<Arc<Mutex<Shared>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let next = (!shared.answers.is_empty()).then(|| shared.answers.remove(0));
    let (status, header) = next.unwrap_or((shared.always.unwrap_or(204), None));
    shared.received.push(Received { path: uri.to_string(), headers, body, answered: status });
    let mut answer = StatusCode::from_u16(status).expect("a status").into_response();
    if let Some((name, value)) = header {
        answer.headers_mut().insert(name, value.parse().expect("a header's value"));
    }
    answer
}

/// A certificate for `localhost` and 127.0.0.1, and its key, in PEM.
pub(crate) fn certificate() -> (String, String) {
    certificate_for(vec!["localhost".to_owned(), LOOPBACK.to_string()])
}

fn certificate_for(names: Vec<String>) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}
