//! Leader election: at most one operator works, the others stand by.
//!
//! The semantics are those of client-go's leader election: the Lease is replaced with its
//! resourceVersion, so that of two candidates one gets a conflict, and another's lease has expired
//! when *this* process has seen no change of it for its duration. Clocks of different machines are
//! never compared.
//!
//! A lease does not fence: a leader that was paused may still send a write that it began. Every
//! write is therefore harmless when doubled (names of pods are deterministic, statuses are
//! replaced with their resourceVersion); the lease only keeps two operators from doing the same
//! work. Creates ask [`Leadership::is_fresh`] first.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error::is_conflict;
use crate::serve::Health;

/// An election in which nothing was tried for so long hangs.
const HANGS: Duration = Duration::from_secs(120);
/// What it is called in /healthz.
const PULSE: &str = "look at the lease";

/// Who competes for which lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Lease's name.
    pub lease: String,
    /// This process; the pod's name.
    pub identity: String,
    /// How long a lease holds without being renewed.
    pub duration: Duration,
}

/// The state of this process's leadership, shared with everything that writes.
#[derive(Clone, Debug)]
pub struct Leadership {
    renewed: watch::Receiver<Option<Instant>>,
    duration: Duration,
}

impl Leadership {
    /// True while the lease was renewed so recently that no other process can hold it.
    pub fn is_fresh(&self) -> bool {
        self.renewed.borrow().is_some_and(|at| at.elapsed() < self.duration.mul_f64(0.8))
    }

    /// Waits until this process leads.
    pub async fn acquired(&mut self) {
        // An error means that the election ended, and then nothing is ever acquired.
        if self.renewed.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until leadership is lost for good.
    pub async fn lost(&mut self) {
        let _ = self.renewed.wait_for(Option::is_none).await;
    }
}

impl Leadership {
    /// Leadership that nobody ever won: of a process that takes part in no election, and so may make nothing that only
    /// a leader makes.
    pub fn never() -> Self {
        let (_, renewed) = watch::channel(None);
        Self { renewed, duration: Duration::from_secs(15) }
    }
}

/// Competes until the returned task is aborted or leadership, once won, is lost.
pub fn campaign(
    api: Api<Lease>,
    candidate: Candidate,
    health: Health,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let (sender, renewed) = watch::channel(None);
    let leadership = Leadership { renewed, duration: candidate.duration };
    let task = tokio::spawn(async move {
        let mut election = Election { api, candidate, health, seen: None };
        election.run(&sender).await;
        let _ = sender.send(None);
    });
    (leadership, task)
}

/// Gives the lease up, so that the next leader need not wait for it to expire.
pub async fn release(api: &Api<Lease>, candidate: &Candidate) {
    if timeout(candidate.duration / 3, give_up(api, candidate)).await.is_err() {
        warn!("the lease could not be given up in time");
    }
}

async fn give_up(api: &Api<Lease>, candidate: &Candidate) {
    let Ok(Some(mut lease)) = api.get_opt(&candidate.lease).await else { return };
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() == Some(&candidate.identity) {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = api.replace(&candidate.lease, &PostParams::default(), &lease).await {
            warn!(%error, "the lease could not be given up");
        }
    }
}

/// What came of one try to take or renew the lease.
enum Standing {
    /// It is taken or renewed.
    Ours,
    /// Another process holds it.
    Theirs,
    /// It changed while it was being written.
    Changed,
}

struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    health: Health,
    /// The lease as last seen, and when it was seen to change.
    seen: Option<(Lease, Instant)>,
}

impl Election {
    async fn run(&mut self, sender: &watch::Sender<Option<Instant>>) {
        let pause = self.candidate.duration / 5;
        loop {
            // Whether the API server answers is another matter; without it nobody leads.
            self.health.beat(PULSE, HANGS.max(self.candidate.duration * 4));
            let begun = Instant::now();
            match timeout(self.candidate.duration / 3, self.attempt()).await {
                Ok(Ok(Standing::Ours)) => {
                    let first = sender.borrow().is_none();
                    if sender.send(Some(begun)).is_err() {
                        return;
                    }
                    if first {
                        info!(identity = self.candidate.identity, "this operator leads");
                    }
                }
                Ok(Ok(Standing::Theirs)) if sender.borrow().is_some() => {
                    warn!("another operator holds the lease");
                    return;
                }
                // Whoever changed it need not hold it: the next look tells.
                Ok(Ok(Standing::Theirs | Standing::Changed)) => {}
                Ok(Err(error)) => warn!(%error, "the lease could not be renewed"),
                Err(_) => warn!("the lease could not be renewed in time"),
            }
            if sender.borrow().is_some_and(|at| at.elapsed() >= self.candidate.duration) {
                warn!("the lease expired");
                return;
            }
            sleep(pause).await;
        }
    }

    /// Takes or renews the lease unless another process holds it.
    async fn attempt(&mut self) -> Result<Standing, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.candidate.lease).await? else {
            return self.settle(self.api.create(&PostParams::default(), &self.fresh()).await);
        };
        let version = |l: &Lease| l.metadata.resource_version.clone();
        match &self.seen {
            Some((known, _)) if version(known) == version(&lease) => {}
            _ => self.seen = Some((lease.clone(), Instant::now())),
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
        let ours = holder == Some(self.candidate.identity.as_str());
        if holder.is_some() && !ours && !self.has_expired(&spec) {
            return Ok(Standing::Theirs);
        }
        let next = self.renewal(lease, ours);
        self.settle(self.api.replace(&self.candidate.lease, &PostParams::default(), &next).await)
    }

    fn has_expired(&self, spec: &LeaseSpec) -> bool {
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(self.candidate.duration, Duration::from_secs);
        self.seen.as_ref().is_none_or(|(_, since)| since.elapsed() >= duration)
    }

    fn settle(&mut self, answer: Result<Lease, kube::Error>) -> Result<Standing, kube::Error> {
        match answer {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(Standing::Ours)
            }
            Err(error) if is_conflict(&error) => Ok(Standing::Changed),
            Err(error) => Err(error),
        }
    }

    fn fresh(&self) -> Lease {
        let metadata = ObjectMeta { name: Some(self.candidate.lease.clone()), ..ObjectMeta::default() };
        self.renewal(Lease { metadata, spec: None }, false)
    }

    fn renewal(&self, mut lease: Lease, ours: bool) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if !ours {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.candidate.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.candidate.duration.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}
