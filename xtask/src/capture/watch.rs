//! Every version of every pod of the namespace, as the API server shows them one after another.

use std::collections::HashMap;
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Deserializer, Value};

use super::moment::Moment;
use crate::cluster::Cluster;
use crate::interrupt;

/// How often a wait looks whether somebody wants the program to end.
const GLANCE: Duration = Duration::from_millis(200);

/// A pod as it was at some time.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// The whole object.
    pub(super) pod: Value,
    /// When the watch told of it.
    pub(super) at: Timestamp,
}

#[derive(Default)]
struct Seen {
    versions: HashMap<String, Vec<Version>>,
    has_ended: bool,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.news.notify_all();
    }
}

/// A watch on the pods of one namespace; it ends with this value.
pub(super) struct Watch {
    shared: Arc<Shared>,
    kubectl: Child,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn begin(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let mut kubectl = cluster.kubectl(["get", "pods", "--watch", "--output-watch-events", "-o=json"]);
        kubectl.args(["--namespace", namespace]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut kubectl = kubectl.spawn().context("cannot start kubectl")?;
        let output = kubectl.stdout.take().context("kubectl has an output")?;
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        thread::spawn(move || {
            let events = Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
            for mut event in events.map_while(Result::ok) {
                let version = Version { pod: event["object"].take(), at: Timestamp::now() };
                let name = version.pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                told.change(|seen| seen.versions.entry(name).or_default().push(version));
            }
            told.change(|seen| seen.has_ended = true);
        });
        Ok(Self { shared, kubectl })
    }

    /// Waits for a version of the pod, from the one numbered `from` on, in which the moment has
    /// come; returns its number and the version.
    pub(super) fn until(
        &self,
        pod: &str,
        from: usize,
        moment: &Moment,
        patience: Duration,
    ) -> Result<(usize, Version)> {
        let begun = Instant::now();
        let (mut next, mut seen) = (from, self.shared.lock());
        loop {
            let versions = seen.versions.get(pod).map(Vec::as_slice).unwrap_or_default();
            let fresh = versions.iter().enumerate().skip(next);
            if let Some((number, version)) = fresh.into_iter().find(|(_, v)| moment.has_come(&v.pod)) {
                return Ok((number, version.clone()));
            }
            next = versions.len().max(from);
            interrupt::check()?;
            if seen.has_ended || begun.elapsed() > patience {
                let last = versions.last().map(|last| last.pod["status"].to_string());
                let last = last.unwrap_or_else(|| "never seen".to_owned());
                bail!(
                    "waited {} s in vain for {}; the pod is {last}",
                    begun.elapsed().as_secs(),
                    moment.what
                );
            }
            let waited = self.shared.news.wait_timeout(seen, GLANCE);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All versions of the pod from the one numbered `from` on.
    pub(super) fn since(&self, pod: &str, from: usize) -> Vec<Version> {
        let seen = self.shared.lock();
        seen.versions.get(pod).into_iter().flatten().skip(from).cloned().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself, when the cluster did.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
