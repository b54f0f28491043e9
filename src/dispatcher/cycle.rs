//! One scheduling cycle after another: look, decide, carry out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batchyard_core::name;
use batchyard_core::queue::{Verdict, schedule};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Creating;
use super::index::{Index, View};
use super::place::{self, Placing};
use crate::controllers::Context;
use crate::crd::BatchJob;
use crate::k8s::watch::key;

/// Creates under way at a time.
const CREATES: usize = 32;
/// A wait is told in the job's status once it lasted so long: most do not.
pub const DWELL: SignedDuration = SignedDuration::from_secs(5);
/// The pause between cycles while something waits and nothing changes.
const PATROL: Duration = Duration::from_secs(2);

/// Runs cycles until it is told to stop; creates under way are finished.
pub async fn run(context: Arc<Context>, jobs: UnboundedSender<ObjectRef<BatchJob>>, stop: CancellationToken) {
    let mut dispatcher = Dispatcher {
        context: context.clone(),
        jobs,
        index: Index::default(),
        creates: Arc::new(Semaphore::new(CREATES)),
        tasks: TaskTracker::new(),
        told: BTreeMap::new(),
    };
    while !stop.is_cancelled() {
        dispatcher.cycle();
        tokio::select! {
            () = stop.cancelled() => {}
            () = context.dispatch.poked() => {}
            () = tokio::time::sleep(PATROL) => {}
        }
    }
    dispatcher.tasks.close();
    dispatcher.tasks.wait().await;
}

struct Dispatcher {
    context: Arc<Context>,
    jobs: UnboundedSender<ObjectRef<BatchJob>>,
    index: Index,
    creates: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Waits that the job controller was told of, by uid.
    told: BTreeMap<String, String>,
}

impl Dispatcher {
    fn cycle(&mut self) {
        let begun = Instant::now();
        let now = Timestamp::now();
        self.settle_creates();
        let View { snapshot, mut jobs, pools } =
            self.index.view(&self.context.caches, &self.context.dispatch);
        let mut verdicts = schedule(snapshot);
        for (uid, verdict) in &mut verdicts {
            // A create that failed a moment ago is tried again later, in its turn.
            if let (Verdict::Admit { .. }, Some(text)) = (&verdict, self.context.dispatch.held_back(uid)) {
                *verdict = Verdict::Wait(text);
            }
        }
        let waiting = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Wait(_)));
        let blocked = waiting.filter_map(|(uid, _)| Some(key(jobs.get(uid)?.queue.as_ref()))).collect();
        self.context.dispatch.publish(&verdicts, blocked, now);
        self.told.retain(|uid, _| verdicts.contains_key(uid));
        self.context.metrics.cycle(begun.elapsed());
        for (uid, verdict) in verdicts {
            let Some(waiting) = jobs.remove(&uid) else { continue };
            match verdict {
                Verdict::Admit { environment } => {
                    let Some((object, pool)) = pools.get(&environment) else { continue };
                    let environment = (object.clone(), pool.clone());
                    self.create(Placing { uid, waiting, environment: environment.0, pool: environment.1 });
                }
                Verdict::Wait(text) => self.tell(uid, text, now),
            }
        }
    }

    /// Forgets creates whose pod is seen, or whose job has moved on.
    fn settle_creates(&self) {
        for (uid, creating) in self.context.dispatch.creating() {
            let seen =
                self.context.caches.pods.of_job(&uid).iter().any(|pod| pod.pod.name_any() == creating.pod);
            let moved_on = self.context.caches.job(&uid).is_none_or(|job| {
                let record = job.status.as_ref().map(|status| &status.record);
                record.is_some_and(|r| {
                    (r.next_attempt(), r.next_placement()) > (creating.attempt, creating.placement)
                        || r.phase().is_terminal()
                })
            });
            if seen || moved_on {
                self.context.dispatch.settle(&uid);
                // The job controller may have waited for the create's answer.
                if let Some(job) = self.context.caches.job_ref(&uid) {
                    self.jobs.send(job).ok();
                }
            }
        }
    }

    fn create(&mut self, placing: Placing) {
        let record = placing.waiting.job.status.clone().unwrap_or_default().record;
        let (attempt, placement) = (record.next_attempt(), record.next_placement());
        let creating = Creating {
            pod: name::pod(&placing.waiting.job.name_any(), &placing.uid, attempt, placement),
            attempt,
            placement,
            environment: placing.environment.name_any(),
            candidate: placing.waiting.candidate.clone(),
        };
        self.context.dispatch.assume(&placing.uid, creating);
        let (context, creates, jobs) = (self.context.clone(), self.creates.clone(), self.jobs.clone());
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = creates.acquire().await;
            let job = ObjectRef::from_obj(placing.waiting.job.as_ref());
            place::place(&context, placing).await;
            context.dispatch.poke();
            jobs.send(job).ok();
        });
    }

    /// Wakes the job controller for a wait that has lasted, once for each text.
    fn tell(&mut self, uid: String, text: String, now: Timestamp) {
        let Some(wait) = self.context.dispatch.waits_for(&uid) else { return };
        if now.duration_since(wait.since) >= DWELL && self.told.get(&uid) != Some(&text) {
            if let Some(job) = self.context.caches.job_ref(&uid) {
                self.jobs.send(job).ok();
            }
            self.told.insert(uid, text);
        }
    }
}
