//! CloudEvents in structured mode, by HTTP/1.1. Redirects are not followed, and of an answer nothing but the status is used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchyard_core::notification::content::{MEDIA_TYPE, Subject, event};
use batchyard_core::notification::delivery::{self, Answer};
use batchyard_core::notification::text;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use ring::hmac;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

use super::address::Host;
use super::{Failure, Guard, Secrets, trust};
use crate::crd::notification_rule::{HttpSink, SecretKey};

/// What of an answer's body is read, so that its connection can be used again; a longer one costs the connection.
const ANSWER: usize = 16 * 1024;
/// What of an answer's head is read.
const HEAD: usize = 64 * 1024;

/// Where a URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// With TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands in the header Host.
    authority: String,
    /// Path and query.
    path: String,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it. The URL may be a secret, and is not in that.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it does not begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it names a user".to_owned());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        })
    }
}

/// An HTTP sink and its connection.
pub struct Http {
    spec: HttpSink,
    guard: Guard,
    /// What the host is called before people.
    host: String,
    connection: Option<(Target, SendRequest<Full<Bytes>>)>,
}

impl Http {
    /// A sink without a connection.
    pub fn new(spec: HttpSink, guard: Guard) -> Self {
        let target = spec.url.as_deref().and_then(|url| Target::parse(url).ok());
        let host = target.map_or_else(|| text::SINK.to_owned(), |target| target.host);
        Self { spec, guard, host, connection: None }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn forget(&mut self) {
        self.connection = None;
    }

    pub(super) async fn deliver(&mut self, subject: &Subject, secrets: &Secrets) -> Result<(), Failure> {
        let target = self.target(secrets).await?;
        let event = event(subject);
        let body = serde_json::to_vec(&event).map_err(|error| Failure::for_good(error.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::from(body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            target.path.parse().map_err(|_| Failure::later(text::invalid("http.url", "its path")))?;
        *request.headers_mut() = self.headers(&target, &event.id, &body, secrets).await?;
        let answer = self.send(target, request).await?;
        let status = answer.status().as_u16();
        let after = after(answer.headers());
        // Read to its end, so that the connection is free for the next.
        if Limited::new(answer.into_body(), ANSWER).collect().await.is_err() {
            self.forget();
        }
        let why = text::http_status(&self.host, status);
        match delivery::http(status) {
            Answer::Delivered => Ok(()),
            Answer::Later => Err(Failure { after, ..Failure::later(why) }),
            Answer::Never => Err(Failure::for_good(why)),
        }
    }

    async fn target(&self, secrets: &Secrets) -> Result<Target, Failure> {
        let invalid = |why: &str| Failure::later(text::invalid("http.url", why));
        if let Some(url) = &self.spec.url {
            return Target::parse(url).map_err(|why| invalid(&why));
        }
        let Some(SecretKey { name, key }) = &self.spec.url_from else { return Err(invalid("it is missing")) };
        let value = secrets.get(name, key).await?;
        let unusable = |why: &str| Failure::later(text::secret_unusable(name, key, why));
        let target = value.text().and_then(|url| Target::parse(url).ok()).filter(|target| target.tls);
        target.ok_or_else(|| unusable("is no https:// URL"))
    }

    async fn headers(
        &self,
        target: &Target,
        id: &str,
        body: &[u8],
        secrets: &Secrets,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        let plain = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| Failure::later(text::invalid("http", "a header")))
        };
        for header in &self.spec.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let name = name.map_err(|_| Failure::later(text::invalid("http.headers", &header.name)))?;
            let value = match (&header.value, &header.value_from) {
                (_, Some(from)) => secret_header(secrets, from).await?,
                (value, None) => plain(value.as_deref().unwrap_or_default())?,
            };
            headers.append(name, value);
        }
        headers.insert(header::HOST, plain(&target.authority)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("batchyard-notifier"));
        if let Some(SecretKey { name, key }) = &self.spec.signing_key {
            let value = secrets.get(name, key).await?;
            let unusable = || Failure::later(text::secret_unusable(name, key, "is no signing key"));
            let seconds = Timestamp::now().as_second().to_string();
            let signature = sign(value.bytes(), id, &seconds, body).ok_or_else(unusable)?;
            headers.insert("webhook-id", plain(id)?);
            headers.insert("webhook-timestamp", plain(&seconds)?);
            headers.insert("webhook-signature", plain(&signature)?);
        }
        Ok(headers)
    }

    /// Sends by the connection that is there, else by a new one. One that is there may have been closed meanwhile, which
    /// shows only then.
    async fn send(
        &mut self,
        target: Target,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        if let Some((to, mut open)) = self.connection.take()
            && to == target
            && open.ready().await.is_ok()
            && let Ok(answer) = open.send_request(request.clone()).await
        {
            self.connection = Some((target, open));
            return Ok(answer);
        }
        let mut open = self.connect(&target).await?;
        let lost = |_| Failure::later(text::unreachable(&self.host));
        let answer = open.send_request(request).await.map_err(lost)?;
        self.connection = Some((target, open));
        Ok(answer)
    }

    async fn connect(&self, target: &Target) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let host = Host { name: &target.host, is_secret: self.spec.url.is_none() };
        let stream = self.guard.connect(&host, target.port).await?;
        if !target.tls {
            return open(stream, &self.host).await;
        }
        let config = trust::client(self.spec.ca_bundle.as_deref());
        let config = config.map_err(|why| Failure::later(text::invalid("http.caBundle", &why)))?;
        open(trust::connect(config, &host, stream).await?, &self.host).await
    }
}

async fn open<S>(stream: S, host: &str) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (open, connection) = handshake.map_err(|_| Failure::later(text::unreachable(host)))?;
    // It ends with `open`, and what goes wrong with it shows there.
    tokio::spawn(async move { drop(connection.await) });
    Ok(open)
}

async fn secret_header(secrets: &Secrets, from: &SecretKey) -> Result<HeaderValue, Failure> {
    let value = secrets.get(&from.name, &from.key).await?;
    let header = value.text().and_then(|text| HeaderValue::from_str(text).ok());
    let mut header = header
        .ok_or_else(|| Failure::later(text::secret_unusable(&from.name, &from.key, "fits no header")))?;
    header.set_sensitive(true);
    Ok(header)
}

/// When to come back, by the seconds in Retry-After.
fn after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The signature of Standard Webhooks
/// (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). The key is what
/// stands in the Secret, or the bytes that `whsec_` and base64 stand for.
pub fn sign(key: &[u8], id: &str, seconds: &str, body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(key).ok().map(str::trim_end);
    let key = match text.and_then(|text| text.strip_prefix("whsec_")) {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => text.map_or(key, str::as_bytes).to_vec(),
    };
    if key.is_empty() {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut context = hmac::Context::with_key(&key);
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        context.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}
