//! The jobs as the API server shows them, followed live.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Deserialize;

use super::screen::Screen;
use crate::cluster::Cluster;
use crate::interrupt;

/// How often one looks for Ctrl-C, and the table's clock goes on, while nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// A BatchJob, as far as the demo looks at it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Job {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) phase: String,
    pub(super) status_reason: Option<String>,
    pub(super) current: Option<Current>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Current {
    pub(super) attempt: u32,
    pub(super) node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Attempt {
    pub(super) attempt: u32,
    pub(super) node_name: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) stopped_at: Option<Timestamp>,
    pub(super) status_reason: String,
    pub(super) container: Container,
    pub(super) decision: Option<Decision>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Decision {
    pub(super) rule: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
}

impl Job {
    pub(super) fn is(&self, phase: &str) -> bool {
        self.status.phase == phase
    }

    /// Why it waits, or how it ended.
    pub(super) fn reason(&self) -> &str {
        self.status.status_reason.as_deref().unwrap_or_default()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is("SUCCEEDED") || self.is("FAILED")
    }

    /// The node that the job is on.
    pub(super) fn node(&self) -> Option<&str> {
        self.status.current.as_ref()?.node_name.as_deref()
    }

    /// Whether the job runs on another node than this one.
    pub(super) fn runs_elsewhere(&self, than: &str) -> bool {
        self.is("RUNNING") && self.node().is_some_and(|node| node != than)
    }

    /// Whether its node is silent.
    pub(super) fn is_unreachable(&self) -> bool {
        self.status.conditions.iter().any(|each| each.kind == "NodeUnreachable" && each.status == "True")
    }

    /// The attempt that runs, or the last one that did.
    pub(super) fn attempt(&self) -> u32 {
        let ended = self.status.attempts.last().map_or(0, |last| last.attempt);
        self.status.current.as_ref().map_or(ended, |current| current.attempt)
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Job,
}

/// All jobs of a namespace, as they are now.
pub(super) struct Jobs<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    watch: Watch,
    known: BTreeMap<String, Job>,
    screen: Screen,
}

impl<'a> Jobs<'a> {
    pub(super) fn follow(cluster: &'a Cluster, namespace: &'a str) -> Result<Self> {
        let watch = Watch::start(cluster, namespace)?;
        Ok(Self { cluster, namespace, watch, known: BTreeMap::new(), screen: Screen::new() })
    }

    /// The jobs by name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Job> {
        self.known.values()
    }

    /// A job that must be there.
    pub(super) fn get(&self, name: &str) -> Result<&Job> {
        self.known.get(name).with_context(|| format!("there is no job {name}"))
    }

    /// Shows how the jobs fare until something is true of them.
    pub(super) fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&BTreeMap<String, Job>) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            if done(&self.known) {
                self.screen.leave();
                return Ok(());
            }
            interrupt::check()?;
            if begun.elapsed() > patience {
                self.screen.leave();
                bail!("waited {} s in vain for {what}", patience.as_secs());
            }
            match self.watch.updates.recv_timeout(TICK) {
                Ok(event) if event.kind == "DELETED" => {
                    self.known.remove(&event.object.metadata.name);
                }
                Ok(event) => {
                    self.known.insert(event.object.metadata.name.clone(), event.object);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // A watch does not last for ever.
                Err(RecvTimeoutError::Disconnected) => {
                    interrupt::check()?;
                    self.watch = Watch::start(self.cluster, self.namespace)?;
                }
            }
            self.screen.show(&self.known, what);
        }
    }

    /// `until` for one job.
    pub(super) fn until_job(
        &mut self,
        name: &str,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&Job) -> bool,
    ) -> Result<()> {
        self.until(&format!("{name} {what}"), patience, |jobs| jobs.get(name).is_some_and(&mut done))
    }
}

/// A running `kubectl get --watch`.
struct Watch {
    kubectl: Child,
    updates: Receiver<Event>,
}

impl Watch {
    fn start(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let mut kubectl = cluster.kubectl(["get", "batchjobs", "--namespace", namespace]);
        kubectl.args(["--watch", "--output-watch-events", "--output", "json"]);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut kubectl = kubectl.spawn().context("cannot run kubectl")?;
        let output = kubectl.stdout.take().context("kubectl has an output")?;
        let (sender, updates) = mpsc::channel();
        thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(output).into_iter::<Event>();
            // It ends with kubectl, in the middle of an event if need be.
            for event in events.map_while(Result::ok) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kubectl, updates })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
