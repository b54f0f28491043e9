//! Kubernetes Events: the story of an object for people.
//!
//! Warnings and ends are always told; other Events within a rate, so that ten thousand jobs do
//! not flood the API server with good news. Nothing is decided from Events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::debug;

use super::meta;

/// News that are not important: so many at once, and so many per second in the long run. Where jobs come faster, an
/// Event costs the API server as much as a step that somebody needs.
const BURST: f64 = 20.0;
const RATE: f64 = 5.0;
/// How long one Event may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The API server's limit of a note.
const NOTE: usize = 1024;

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Something went wrong.
    pub warning: bool,
    /// Told even when there is much else to tell.
    pub important: bool,
    /// A word for machines, in CamelCase.
    pub reason: String,
    /// A sentence for people.
    pub note: String,
    /// The pod that it is about beside the object. The API server counts what is told again, and
    /// keeps the first note: only of another pod the same reason is something new.
    pub pod: Option<String>,
}

impl News {
    /// Good or neutral news that may be left out.
    pub fn normal(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: false, important: false, reason: reason.to_owned(), note: note.into(), pod: None }
    }

    /// Bad news.
    pub fn warning(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: true, important: true, ..Self::normal(reason, note) }
    }

    /// The same, told in any case.
    pub fn important(mut self) -> Self {
        self.important = true;
        self
    }

    /// The same, about a pod.
    pub fn of_pod(mut self, name: &str) -> Self {
        self.pod = Some(name.to_owned());
        self
    }
}

/// Publishes Events in the background.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    bucket: Arc<Mutex<Bucket>>,
}

impl Events {
    /// Events that say which operator sent them.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: meta::OPERATOR.to_owned(), instance: Some(instance.to_owned()) };
        let bucket = Arc::new(Mutex::new(Bucket { tokens: BURST, at: Instant::now() }));
        Self { recorder: Recorder::new(client, reporter), bucket }
    }

    /// Tells about an object, without waiting for the API server.
    pub fn publish(&self, about: ObjectReference, news: News) {
        let allowed = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !news.important && !allowed {
            return;
        }
        let recorder = self.recorder.clone();
        let pod = |name| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: about.namespace.clone(),
            name: Some(name),
            ..ObjectReference::default()
        };
        let secondary = news.pod.map(pod);
        tokio::spawn(async move {
            let event = Event {
                type_: if news.warning { EventType::Warning } else { EventType::Normal },
                action: news.reason.clone(),
                reason: news.reason,
                note: Some(news.note.chars().take(NOTE).collect()),
                secondary,
            };
            match tokio::time::timeout(DEADLINE, recorder.publish(&event, &about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "event not published"),
                Err(_) => debug!("event not published in time"),
            }
        });
    }
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self) -> bool {
        self.tokens = (self.tokens + self.at.elapsed().as_secs_f64() * RATE).min(BURST);
        self.at = Instant::now();
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}
