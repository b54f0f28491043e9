//! Everything that happened to the jobs of a namespace, and what must never happen to any.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use batchyard::crd::BatchJob;
use batchyard::k8s::meta;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Attempt;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A namespace under observation, until this is dropped.
pub(crate) struct Seen {
    jobs: watch::Receiver<BTreeMap<String, BatchJob>>,
    notes: Arc<Mutex<Notes>>,
    _watches: JoinSet<()>,
}

/// What was written down.
#[derive(Default)]
struct Notes {
    /// What happened, a line each.
    story: Vec<String>,
    /// What should never have happened.
    violations: Vec<String>,
    /// The pods that exist, by name.
    pods: BTreeMap<String, Place>,
    /// The uids of all pods that ever existed.
    uids: Vec<String>,
}

/// What a pod is to its job.
#[derive(Clone, Default)]
struct Place {
    job: String,
    /// The child of an array, or the node of a multi-node job.
    index: Option<String>,
    /// Of a node of a multi-node job: the attempt and placement.
    round: Option<String>,
    /// It can still run.
    live: bool,
}

impl Place {
    fn of(pod: &Pod, live: bool) -> Self {
        let job = pod.owner_references().first().map_or_else(String::new, |owner| owner.name.clone());
        let said = |key: &str| pod.annotations().get(key).cloned();
        let is_node = pod.spec.as_ref().is_some_and(|spec| spec.subdomain.is_some());
        let round = || Some(format!("{}-{}", said(meta::ATTEMPT)?, said(meta::PLACEMENT)?));
        Self { job, index: said(meta::INDEX), round: is_node.then(round).flatten(), live }
    }

    /// True if the two may not run at the same time: they are the same job, child or node, or nodes of two attempts.
    fn excludes(&self, other: &Self) -> bool {
        let same = self.index == other.index || self.round.is_some() && self.round != other.round;
        self.live && other.live && self.job == other.job && same
    }
}

impl Seen {
    /// Begins to look.
    pub(crate) fn begin(client: &Client, namespace: &str) -> Self {
        let (sender, jobs) = watch::channel(BTreeMap::new());
        let notes = Arc::<Mutex<Notes>>::default();
        let mut watches = JoinSet::new();
        watches.spawn(follow_jobs(Api::namespaced(client.clone(), namespace), sender, Arc::clone(&notes)));
        watches.spawn(follow_pods(Api::namespaced(client.clone(), namespace), Arc::clone(&notes)));
        Self { jobs, notes, _watches: watches }
    }

    /// Waits until something is true of a job.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&BatchJob) -> bool,
    ) -> Result<BatchJob> {
        let mut jobs = self.jobs.clone();
        let found = jobs.wait_for(|jobs| jobs.get(name).is_some_and(&mut done));
        match timeout(patience, found).await {
            Ok(Ok(jobs)) => Ok(jobs[name].clone()),
            _ => bail!("waited {} s in vain for {name} {what}", patience.as_secs()),
        }
    }

    /// An error if anything happened that never should.
    pub(crate) fn check(&self) -> Result<()> {
        let violations = &self.notes.lock().expect("no watch panicked").violations;
        if !violations.is_empty() {
            bail!("{}", violations.join("\n"));
        }
        Ok(())
    }

    /// How many pods there ever were.
    pub(crate) fn pods(&self) -> usize {
        self.notes.lock().expect("no watch panicked").uids.len()
    }

    /// The uids of all pods there ever were.
    pub(crate) fn pod_uids(&self) -> Vec<String> {
        self.notes.lock().expect("no watch panicked").uids.clone()
    }

    /// What happened, for error messages.
    pub(crate) fn story(&self) -> String {
        self.notes.lock().expect("no watch panicked").story.join("\n")
    }
}

impl Notes {
    fn tell(&mut self, line: &str) {
        self.story.push(format!("  {} {line}", Timestamp::now().strftime("%H:%M:%S%.3f")));
    }

    fn blame(&mut self, line: String) {
        self.tell(&format!("NEVER: {line}"));
        self.violations.push(line);
    }

    /// What a job's status may never do from one version to the next.
    fn compare(&mut self, name: &str, old: &BatchJob, new: &BatchJob) {
        let (was, is) = (phase(old), phase(new));
        if was != is {
            let reason = new.status.as_ref().and_then(|status| status.record.status_reason.as_deref());
            self.tell(&format!("{name}: {was:?} -> {is:?} {}", reason.unwrap_or_default()));
        }
        let ended = matches!(was, Phase::Succeeded | Phase::Failed);
        if ended && was != is {
            self.blame(format!("{name} was {was:?} and became {is:?}"));
        }
        let (before, after) = (attempts(old), attempts(new));
        if !after.starts_with(before) {
            self.blame(format!("{name}: recorded attempts changed from {before:?} to {after:?}"));
        }
        if ended && before.len() != after.len() {
            self.blame(format!("{name}: an attempt was recorded after the end"));
        }
    }

    fn note_pod(&mut self, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let (name, live) = (pod.name_any(), !matches!(phase.as_str(), "Succeeded" | "Failed"));
        let place = Place::of(pod, live);
        let deleting = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        self.tell(&format!("  pod {name}: {phase} {node}{deleting}"));
        let uid = pod.uid().unwrap_or_default();
        if !self.uids.contains(&uid) {
            self.uids.push(uid);
        }
        let others = self.pods.iter().filter(|(other, found)| **other != name && place.excludes(found));
        let others: Vec<&str> = others.map(|(other, _)| other.as_str()).collect();
        if !others.is_empty() {
            let others = others.join(" and ");
            self.blame(format!("{} has more than one live pod: {name} beside {others}", place.job));
        }
        self.pods.insert(name, place);
    }
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map_or(Phase::default(), |status| status.record.phase())
}

fn attempts(job: &BatchJob) -> &[Attempt] {
    job.status.as_ref().map_or(&[], |status| &status.record.attempts)
}

async fn follow_jobs(
    api: Api<BatchJob>,
    sender: watch::Sender<BTreeMap<String, BatchJob>>,
    notes: Arc<Mutex<Notes>>,
) {
    let mut events = pin!(watcher(api, Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => sender.send_modify(|jobs| {
                let name = job.name_any();
                if let Some(old) = jobs.get(&name) {
                    notes.lock().expect("no watch panicked").compare(&name, old, &job);
                }
                jobs.insert(name, job);
            }),
            Ok(Event::Delete(job)) => sender.send_modify(|jobs| {
                jobs.remove(&job.name_any());
            }),
            // A watch that breaks is begun again.
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

async fn follow_pods(api: Api<Pod>, notes: Arc<Mutex<Notes>>) {
    let mut events = pin!(watcher(api, Config::default()));
    while let Some(event) = events.next().await {
        let mut notes = notes.lock().expect("no watch panicked");
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => notes.note_pod(&pod),
            Ok(Event::Delete(pod)) => {
                notes.pods.remove(&pod.name_any());
                notes.tell(&format!("  pod {}: gone", pod.name_any()));
            }
            Ok(Event::Init) => notes.pods.clear(),
            Ok(Event::InitDone) | Err(_) => {}
        }
    }
}
