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
    pub(super) job_id: Option<String>,
    pub(super) status_reason: Option<String>,
    pub(super) stopped_at: Option<Timestamp>,
    pub(super) current: Option<Current>,
    pub(super) array_properties: Option<Parts>,
    pub(super) node_properties: Option<Parts>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) conditions: Vec<Condition>,
    pub(super) session: Option<Session>,
}

/// An interactive session.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) url: Option<String>,
}

/// The children of an array, or the nodes of a multi-node job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parts {
    #[serde(alias = "numNodes")]
    pub(super) size: i64,
    /// How many are in each phase.
    pub(super) status_summary: BTreeMap<String, i64>,
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
    #[serde(default)]
    pub(super) message: String,
}

impl Job {
    pub(super) fn is(&self, phase: &str) -> bool {
        self.status.phase == phase
    }

    /// Why it waits, or how it ended.
    pub(super) fn reason(&self) -> &str {
        self.status.status_reason.as_deref().unwrap_or_default()
    }

    /// Where people connect to, of a session that is ready.
    pub(super) fn url(&self) -> Option<&str> {
        self.status.session.as_ref()?.url.as_deref()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is("SUCCEEDED") || self.is("FAILED")
    }

    /// Its children or nodes, as they are counted.
    fn summed_up(&self) -> Option<&Parts> {
        self.status.array_properties.as_ref().or(self.status.node_properties.as_ref())
    }

    /// How many children or nodes it has.
    pub(super) fn parts(&self) -> Option<i64> {
        self.summed_up().map(|parts| parts.size).filter(|size| *size > 0)
    }

    /// How many of them are in a phase.
    pub(super) fn counted(&self, phase: &str) -> Option<i64> {
        let parts = self.summed_up().filter(|parts| !parts.status_summary.is_empty())?;
        Some(parts.status_summary.get(phase).copied().unwrap_or(0))
    }

    /// How many are in each phase, in the order of a job's life.
    pub(super) fn counts(&self) -> Option<String> {
        const LIFE: [&str; 7] =
            ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"];
        let told = LIFE.iter().filter_map(|phase| Some((self.counted(phase)?, phase)));
        let told: Vec<_> = told
            .filter(|(number, _)| *number > 0)
            .map(|(number, phase)| format!("{number} {phase}"))
            .collect();
        Some(told.join(", ")).filter(|counts| !counts.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str) -> Job {
        let job = format!(r#"{{"metadata": {{"name": "j"}}, "status": {status}}}"#);
        serde_json::from_str(&job).expect("a job")
    }

    #[test]
    fn arrays_and_nodes_are_counted() {
        let array = job(r#"{"phase": "PENDING", "arrayProperties": {"size": 50,
            "statusSummary": {"PENDING": 0, "RUNNABLE": 30, "RUNNING": 4, "SUCCEEDED": 15, "FAILED": 1}}}"#);
        assert_eq!(array.counts().as_deref(), Some("30 RUNNABLE, 4 RUNNING, 15 SUCCEEDED, 1 FAILED"));
        assert_eq!(
            (array.parts(), array.counted("FAILED"), array.counted("PENDING")),
            (Some(50), Some(1), Some(0))
        );
        let gang = job(
            r#"{"phase": "RUNNING", "nodeProperties": {"numNodes": 3, "mainNode": 0, "statusSummary": {"RUNNING": 3}}}"#,
        );
        assert_eq!(gang.counted("RUNNING"), gang.parts());
        let single = job(r#"{"phase": "RUNNING"}"#);
        assert_eq!((single.counts(), single.parts(), single.counted("RUNNING")), (None, None, None));
    }
}
