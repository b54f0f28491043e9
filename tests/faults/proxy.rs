//! Between the operator and the API server: passes everything on, but for what a plan says.
//!
//! The operator is the program that is shipped; it only finds another address in its kubeconfig.
//! So every fault is one that a network, an API server or a SIGKILL can make.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, future};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Failure>;
type Answer = hyper::Response<Body>;

/// What the operator asks of the API server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Its number among all requests, from 0.
    pub(crate) number: u64,
    pub(crate) method: String,
    /// As in the audit log: `pods`, `batchjobs/status`.
    pub(crate) resource: String,
    /// The namespace; for an environment the one that it belongs to.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) query: String,
}

impl Request {
    /// It changes an object that counts: no Event, no lease.
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET" && !self.resource.starts_with("events") && self.resource != "leases"
    }

    /// It follows a kind.
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=")
    }

    /// It asks for all objects of a kind.
    pub(crate) fn is_list(&self) -> bool {
        self.method == "GET" && self.name.is_empty() && !self.is_watch()
    }

    fn read(number: u64, method: &Method, uri: &hyper::Uri) -> Self {
        let mut request = Self { number, method: method.to_string(), ..Self::default() };
        request.query = uri.query().unwrap_or_default().to_owned();
        let mut parts = uri.path().trim_matches('/').split('/').skip_while(|part| !part.starts_with('v'));
        parts.next();
        let mut part = || parts.next().unwrap_or_default().to_owned();
        request.resource = part();
        if request.resource == "namespaces" {
            request.namespace = part();
            request.resource = part();
        }
        request.name = part();
        let subresource = part();
        if !subresource.is_empty() {
            request.resource = format!("{}/{subresource}", request.resource);
        }
        if request.namespace.is_empty()
            && let Some((namespace, _)) = request.name.rsplit_once('.')
        {
            request.namespace = namespace.to_owned();
        }
        request
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Nothing: it is passed on.
    None,
    /// The operator is killed.
    Kill(Moment),
    /// It is carried out, and the connection breaks before the answer.
    LoseAnswer,
    /// It is refused with this status, and not carried out; perhaps with a Retry-After in seconds.
    Refuse(u16, Option<u32>),
    /// It is carried out, and answered with this status all the same.
    AnswerDespite(u16),
    /// It is passed on this much later.
    Delay(Duration),
    /// There is no answer for so long, then the connection breaks; it is not carried out.
    Hang(Duration),
    /// A watch ends after so long.
    Cut(Duration),
    /// A watch says nothing more after so long, and does not end.
    Silence(Duration),
    /// A watch tells everything so much later.
    Late(Duration),
    /// A watch says that its version is too old: after so long, in the stream.
    Expire(Duration),
    /// A list is answered as it was when the first one was asked for.
    Old,
    /// A list has pages of two objects.
    SmallPages,
    /// An object of the answer cannot be read.
    Garble,
}

/// When, with regard to a request, something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The request never arrives.
    Before,
    /// It was carried out; the answer never arrives.
    Between,
    /// The answer was sent a moment ago.
    After,
}

type Plan = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// A running proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    client: Client,
    plan: RwLock<Plan>,
    kill: RwLock<Arc<dyn Fn() + Send + Sync>>,
    requests: AtomicU64,
    writes: AtomicU64,
    seen: Mutex<Vec<(Request, Fault)>>,
    old: Mutex<std::collections::HashMap<String, Bytes>>,
    broken: tokio::sync::watch::Sender<bool>,
}

impl Proxy {
    /// Listens on loopback and passes on to `client`'s API server.
    pub(crate) async fn start(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            client,
            plan: RwLock::new(Arc::new(|_| Fault::None)),
            kill: RwLock::new(Arc::new(|| {})),
            requests: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            seen: Mutex::default(),
            old: Mutex::default(),
            broken: tokio::sync::watch::Sender::new(false),
        });
        tokio::spawn(serve(listener, shared.clone()));
        Self { shared, address }
    }

    /// A kubeconfig that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let server = format!("http://{}", self.address);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "users": [{"name": "proxy", "user": {}}],
        });
        let file = format!("proxy-{}.kubeconfig", self.address.port());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&path, config.to_string()).expect("the target folder takes files");
        path
    }

    /// Does so from now on.
    pub(crate) fn plan(&self, plan: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// Passes everything on from now on.
    pub(crate) fn plan_nothing(&self) {
        self.plan(|_| Fault::None);
    }

    /// How to kill the operator.
    pub(crate) fn on_kill(&self, kill: impl Fn() + Send + Sync + 'static) {
        *self.shared.kill.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kill);
    }

    /// Refuses connections, and breaks those that are open, for so long.
    pub(crate) async fn unplug(&self, away: Duration) {
        self.shared.broken.send_replace(true);
        sleep(away).await;
        self.shared.broken.send_replace(false);
    }

    /// How many writes were asked for so far.
    pub(crate) fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// What was asked so far, and what became of it.
    pub(crate) fn seen(&self) -> Vec<(Request, Fault)> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { return };
        tokio::spawn(answer_all(connection, shared.clone()));
    }
}

/// Answers the requests of one connection. An error of the service breaks it without an answer.
async fn answer_all(connection: TcpStream, shared: Arc<Shared>) {
    let mut broken = shared.broken.subscribe();
    let service = hyper::service::service_fn(|request| answer(request, shared.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        _ = connection => {}
        _ = broken.wait_for(|broken| *broken) => {}
    }
}

async fn answer(request: hyper::Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Failure> {
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let asked = Request::read(number, request.method(), request.uri());
    shared.writes.fetch_add(u64::from(asked.is_write()), Ordering::Relaxed);
    let fault = shared.plan.read().unwrap_or_else(PoisonError::into_inner).clone()(&asked);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push((asked.clone(), fault));
    let kill = || shared.kill.read().unwrap_or_else(PoisonError::into_inner).clone()();
    match fault {
        Fault::None => pass_on(request, &shared).await,
        Fault::Kill(Moment::Before) => {
            kill();
            Err("killed before".into())
        }
        Fault::Kill(moment) => {
            // A task of its own: this one ends with the connection, which another kill may break.
            let carried_out = tokio::spawn(async move {
                let answer = whole(pass_on(request, &shared).await?).await?;
                let kill = shared.kill.read().unwrap_or_else(PoisonError::into_inner).clone();
                match moment {
                    // The bytes must be on their way first; what the operator does meanwhile is the point.
                    Moment::After => drop(tokio::spawn(async move { kill() })),
                    _ => kill(),
                }
                Ok::<_, Failure>(answer)
            });
            let answer = carried_out.await?;
            if moment == Moment::Between { Err("killed before the answer".into()) } else { answer }
        }
        Fault::LoseAnswer => {
            pass_on(request, &shared).await?;
            Err("the answer is lost".into())
        }
        Fault::Refuse(code, retry_after) => Ok(status(code, retry_after)),
        Fault::AnswerDespite(code) => {
            pass_on(request, &shared).await?;
            Ok(status(code, None))
        }
        Fault::Delay(pause) => {
            sleep(pause).await;
            pass_on(request, &shared).await
        }
        Fault::Hang(pause) => {
            sleep(pause).await;
            Err("no answer".into())
        }
        Fault::Old => old(request, &shared).await,
        Fault::SmallPages => pass_on(with_small_pages(request)?, &shared).await,
        Fault::Garble => garbled(pass_on(request, &shared).await?).await,
        Fault::Cut(_) | Fault::Silence(_) | Fault::Late(_) | Fault::Expire(_) => {
            Ok(disturbed(pass_on(request, &shared).await?, fault))
        }
    }
}

async fn pass_on(request: hyper::Request<Incoming>, shared: &Shared) -> Result<Answer, Failure> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    head.uri = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default().parse()?;
    head.headers.remove(hyper::header::HOST);
    head.headers.remove(hyper::header::CONTENT_LENGTH);
    let request = hyper::Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    let answer = shared.client.send(request).await?;
    let (mut head, body) = answer.into_parts();
    head.headers.remove(hyper::header::TRANSFER_ENCODING);
    Ok(Answer::from_parts(head, body.map_err(Into::into).boxed_unsync()))
}

async fn whole(answer: Answer) -> Result<Answer, Failure> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer::from_parts(head, full(body)))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An error as the API server words it.
fn status(code: u16, retry_after: Option<u32>) -> Answer {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "a fault that a test made",
    });
    let mut answer = Answer::new(full(body.to_string().into()));
    *answer.status_mut() = StatusCode::from_u16(code).expect("a status code");
    answer.headers_mut().insert("content-type", "application/json".parse().expect("a header"));
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert("retry-after", seconds.into());
    }
    answer
}

/// The first answer to a request for the same list, again.
async fn old(request: hyper::Request<Incoming>, shared: &Shared) -> Result<Answer, Failure> {
    let key = request.uri().to_string();
    let known = shared.old.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let (head, body) = whole(pass_on(request, shared).await?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let bytes = known.unwrap_or_else(|| body.clone());
    shared.old.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(body);
    let mut answer = Answer::from_parts(head, full(bytes));
    answer.headers_mut().remove(hyper::header::CONTENT_LENGTH);
    Ok(answer)
}

fn with_small_pages(request: hyper::Request<Incoming>) -> Result<hyper::Request<Incoming>, Failure> {
    let (mut head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let others = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("limit="));
    let query = others.chain(["limit=2"]).collect::<Vec<_>>().join("&");
    head.uri = format!("{}?{query}", head.uri.path()).parse()?;
    Ok(hyper::Request::from_parts(head, body))
}

/// The same, with a phase that no version of Kubernetes has.
async fn garbled(answer: Answer) -> Result<Answer, Failure> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(hyper::header::CONTENT_LENGTH);
    let frames = BodyStream::new(body).map_ok(|frame| {
        frame.map_data(|bytes| {
            let text =
                String::from_utf8_lossy(&bytes).replace("\"phase\":\"Pending\"", "\"phase\":{\"odd\":[1]}");
            Bytes::from(text)
        })
    });
    Ok(Answer::from_parts(head, boxed(frames)))
}

/// A watch with a fault in its stream.
fn disturbed(answer: Answer, fault: Fault) -> Answer {
    let (head, body) = answer.into_parts();
    let frames = BodyStream::new(body);
    let body = match fault {
        Fault::Cut(after) => boxed(frames.take_until(sleep(after)).chain(broken("the watch was cut"))),
        Fault::Silence(after) => boxed(frames.take_until(sleep(after)).chain(futures::stream::pending())),
        Fault::Expire(after) => {
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "code": 410, "reason": "Expired", "message": "too old resource version"}});
            let last = Frame::data(Bytes::from(format!("{gone}\n")));
            boxed(frames.take_until(sleep(after)).chain(futures::stream::once(future::ready(Ok(last)))))
        }
        Fault::Late(by) => boxed(late(frames, by)),
        _ => boxed(frames),
    };
    Answer::from_parts(head, body)
}

fn broken(why: &'static str) -> impl futures::Stream<Item = Result<Frame<Bytes>, Failure>> {
    futures::stream::once(future::ready(Err(why.into())))
}

/// Everything so much later; what comes together stays together.
fn late(
    mut frames: BodyStream<Body>,
    by: Duration,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, Failure>> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(frame) = frames.next().await {
            if sender.send((Instant::now() + by, frame)).is_err() {
                return;
            }
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async {
        let (due, frame) = receiver.recv().await?;
        sleep_until(due).await;
        Some((frame, receiver))
    })
}

fn boxed(frames: impl futures::Stream<Item = Result<Frame<Bytes>, Failure>> + Send + 'static) -> Body {
    StreamBody::new(frames).boxed_unsync()
}
