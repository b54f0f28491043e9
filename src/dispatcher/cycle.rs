//! One scheduling cycle after another: look, decide, carry out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::definition::nodes::Gang;
use batchyard_core::dependency::Reference;
use batchyard_core::job::decide::Deletion;
use batchyard_core::job::record::Record;
use batchyard_core::name;
use batchyard_core::queue::{Queue, Rank, Verdict, line_up, schedule};
use batchyard_core::waits;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::index::{Index, View};
use super::place::{self, Placing};
use super::{Asker, Creating, Dispatch, Found, Fronts, Next, Wait};
use crate::controllers::Context;
use crate::controllers::triggers::Wakers;
use crate::crd::JobQueue;
use crate::crd::job_queue::FrontJob;
use crate::k8s::caches::Caches;
use crate::k8s::error::chain;
use crate::k8s::observe;
use crate::k8s::pods::AttemptPod;
use crate::k8s::watch::key;

/// Creates under way at a time.
const CREATES: usize = 32;
/// A wait is told in the job's status once it lasted so long: most do not.
pub const DWELL: SignedDuration = SignedDuration::from_secs(5);
/// How often waits are compared with what is told of them.
const TELLING: Duration = Duration::from_secs(1);
/// A pod that the API server said it made should be seen within this time.
const UNSEEN: Duration = Duration::from_secs(10);
/// The pause between cycles while something waits and nothing changes.
const PATROL: Duration = Duration::from_secs(2);
/// The shortest and the longest pause between cycles while everything changes.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// In between it is so many times as long as the cycle was: a storm of events takes a fifth of a core at most.
const REST_FACTOR: u32 = 4;
/// A dispatcher that has completed no cycle for so long hangs.
const HANGS: Duration = Duration::from_secs(120);
/// What the dispatcher is called in /healthz.
const PULSE: &str = "scheduling cycle";

/// Runs cycles until it is told to stop; creates under way are finished.
pub async fn run(context: Arc<Context>, wakers: Wakers, stop: CancellationToken) {
    let mut dispatcher = Dispatcher {
        context: context.clone(),
        wakers,
        index: Index::new(&context.settings.logging),
        creates: Arc::new(Semaphore::new(CREATES)),
        tasks: TaskTracker::new(),
        withdrawing: Arc::default(),
        told_at: None,
    };
    context.health.beat(PULSE, HANGS);
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let mut rest = PATROL;
        // One odd object must not stop the jobs of everybody else.
        if std::panic::catch_unwind(AssertUnwindSafe(|| dispatcher.cycle())).is_err() {
            error!("a scheduling cycle panicked; the next one begins anew");
            dispatcher.index = Index::new(&context.settings.logging);
        } else {
            context.health.beat(PULSE, HANGS);
            rest = begun.elapsed().saturating_mul(REST_FACTOR).clamp(REST.0, REST.1);
        }
        let next = async {
            tokio::time::sleep(rest).await;
            tokio::time::timeout(PATROL, context.dispatch.poked()).await.ok();
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = next => {}
        }
    }
    context.health.rest(PULSE);
    dispatcher.tasks.close();
    dispatcher.tasks.wait().await;
}

/// Answers those who asked for the line: it has no job that was admitted just now.
fn tell_the_line(queues: &[Queue], verdicts: &BTreeMap<String, Verdict>, askers: Vec<Asker>) {
    // Of an array that stands in line more children wait than are admitted at a time.
    let is_admitted = |rank: &Rank| matches!(verdicts.get(&rank.uid), Some(Verdict::Admit { .. }));
    let line = Arc::new(line_up(queues, is_admitted));
    for asker in askers {
        // Who does not wait any more needs no answer.
        asker.send(line.clone()).ok();
    }
}

/// The shares that are active in each fair-share queue.
fn active_shares(queues: &[Queue]) -> BTreeMap<String, BTreeSet<String>> {
    let active = |queue: &Queue| {
        let shares = queue.shares.as_ref()?;
        Some((queue.id.clone(), shares.active.keys().cloned().collect()))
    };
    queues.iter().filter_map(active).collect()
}

/// The fronts as the process before this one wrote them.
fn remembered_fronts(caches: &Caches) -> Fronts {
    let next = |namespace: &str, job: &FrontJob| {
        let (id, index) = name::whole(&job.job_id);
        let object = caches.referred_job(namespace, &Reference::Id(id.to_owned()));
        // One that is gone stays in the list, as nobody: those behind it keep their places.
        let key = object.and_then(|object| Some(name::part(&object.uid()?, index))).unwrap_or_default();
        Some(Next { key, since: job.earliest_time_at_position? })
    };
    let front = |queue: &Arc<JobQueue>| {
        let (namespace, front) = (queue.namespace()?, queue.status.as_ref()?.front.iter());
        let front: Vec<_> = front.map_while(|job| next(&namespace, job)).collect();
        (!front.is_empty()).then(|| (key(queue.as_ref()), front))
    };
    caches.queues.state().iter().filter_map(front).collect()
}

/// True if an array would say so: what one of its children waits for while none has a node, and that it waits for its
/// turn while none has a pod. To wake it for anything else would change nothing, each time anew.
fn is_said(caches: &Caches, dispatch: &Dispatch, uid: &str, wait: &waits::Wait) -> bool {
    let is_next = || match dispatch.child_waits_for(uid) {
        Some(first) => first.what == *wait,
        None => wait.kind != waits::Kind::Turn || !caches.pods.has_work(uid),
    };
    !caches.pods.has_node(uid) && is_next()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Dispatcher {
    context: Arc<Context>,
    wakers: Wakers,
    index: Index,
    creates: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Jobs whose pods are being withdrawn, by key.
    withdrawing: Arc<Mutex<HashSet<String>>>,
    /// When waits were last compared with what is told of them.
    told_at: Option<Instant>,
}

impl Dispatcher {
    fn cycle(&mut self) {
        let begun = Instant::now();
        let now = self.context.clock.now();
        self.settle_creates();
        for name in self.context.dispatch.take_news() {
            self.wakers.environment(&name);
        }
        let View { snapshot, pools, moved } = {
            let Context { caches, dispatch, settings, .. } = self.context.as_ref();
            self.index.view(caches, dispatch, &settings.notices, now)
        };
        let waiting = snapshot.queues.iter().map(|queue| queue.waiting.len()).sum();
        let running = snapshot.queues.iter().map(|queue| queue.running).sum();
        self.context.dispatch.note_load(waiting, running);
        let askers = self.context.dispatch.take_askers();
        let queues = (!askers.is_empty()).then(|| snapshot.queues.clone());
        let shares = active_shares(&snapshot.queues);
        let decisions = schedule(snapshot);
        let found = Found { decisions: &decisions, others: self.index.others(), shares };
        let remembered = || remembered_fronts(&self.context.caches);
        for queue in self.context.dispatch.publish(found, remembered, now) {
            self.wakers.queue(&queue);
        }
        if let Some(queues) = queues {
            tell_the_line(&queues, &decisions.verdicts, askers);
        }
        self.context.metrics.cycle(begun.elapsed());
        for key in decisions.withdraw.iter().chain(&moved) {
            self.withdraw(key);
        }
        let admitted = decisions.verdicts.into_iter().filter_map(|(key, verdict)| match verdict {
            Verdict::Admit { environment } => Some((key, environment)),
            Verdict::Wait(_) => None,
        });
        for (key, environment) in admitted {
            let waiting = self.index.waiting(&key, &self.context.caches);
            let Some((waiting, (object, pool))) = waiting.zip(pools.get(&environment)) else { continue };
            let gang = waiting.plan.gang.clone();
            let placing = Placing { key, waiting, environment: object.clone(), pool: pool.clone() };
            match gang {
                Some(gang) => self.admit_gang(&placing, &gang),
                None => self.admit(placing),
            }
        }
        self.tell_all(now);
    }

    /// Forgets creates whose pod is seen, or whose job has moved on; looks for pods that were
    /// created and never showed up.
    fn settle_creates(&self) {
        for (key, creating) in self.context.dispatch.creating() {
            let (uid, _) = name::whole(&key);
            let pods = self.context.caches.pods.of_part(&key);
            let seen = pods.iter().any(|pod| pod.pod.metadata.name.as_ref() == Some(&creating.pod));
            let is_over = |record: Record| {
                (record.next_attempt(), record.next_placement()) > (creating.attempt, creating.placement)
                    || record.phase().is_terminal()
            };
            let caches = &self.context.caches;
            let moved_on = caches.job_ref(uid).is_none() || caches.record_of(&key).is_some_and(is_over);
            if seen || moved_on {
                // The watch may be faster than the answer, which then finds nothing to note.
                if seen {
                    self.context.dispatch.created(&key, &creating.pod, self.context.clock.now());
                }
                self.context.dispatch.settle(&key, &creating.pod);
                // The job controller may have waited for the create's answer.
                if let Some(job) = self.context.caches.job_ref(uid) {
                    self.wakers.job(job);
                }
            } else if creating.answered.is_some_and(|at| at.elapsed() > UNSEEN) {
                self.context.dispatch.created(&key, &creating.pod, self.context.clock.now());
                let context = self.context.clone();
                self.tasks.spawn(async move { place::look_again(&context, &key, &creating.pod).await });
            }
        }
    }

    /// Takes room for a pod before it is asked for.
    fn assume(&self, placing: &Placing) {
        let creating = Creating {
            pod: placing.pod_name(),
            attempt: placing.waiting.attempt,
            placement: placing.waiting.placement,
            environment: placing.environment.name_any(),
            queue: key(placing.waiting.queue.as_ref()),
            candidate: placing.waiting.candidate.clone(),
            answered: None,
            waited: None,
        };
        self.context.dispatch.assume(&placing.key, creating);
    }

    fn admit(&mut self, placing: Placing) {
        self.assume(&placing);
        let pod = placing.pod_name();
        let (context, creates, wakers) = (self.context.clone(), self.creates.clone(), self.wakers.clone());
        self.tasks.spawn(async move {
            let (key, job) = (placing.key.clone(), ObjectRef::from_obj(placing.waiting.job.as_ref()));
            let placed = AssertUnwindSafe(place::place(&context, placing, &creates)).catch_unwind().await;
            if placed.is_err() {
                error!(pod, "making a pod panicked; the others go on");
                context.dispatch.hold_back(&key, &pod, waits::api_refuses("internal error"));
            }
            context.dispatch.poke();
            wakers.job(job);
        });
    }

    /// All pods of a multi-node job, the main node's first. Room for all of them is taken before the first is asked
    /// for, so that nobody takes one that is still to come for one that is missing.
    fn admit_gang(&mut self, placing: &Placing, gang: &Gang) {
        let nodes = self.index.nodes(&placing.waiting, gang, &self.context.caches).into_iter();
        let parts: Vec<Placing> = nodes
            .map(|waiting| Placing {
                key: name::part(&placing.key, waiting.index),
                waiting,
                ..placing.clone()
            })
            .collect();
        parts.iter().for_each(|part| self.assume(part));
        self.context.dispatch.forget_wait(&placing.key);
        let job = ObjectRef::from_obj(placing.waiting.job.as_ref());
        let (context, creates, wakers) = (self.context.clone(), self.creates.clone(), self.wakers.clone());
        self.tasks.spawn(async move {
            let pods: Vec<_> = parts.iter().map(|part| (part.key.clone(), part.pod_name())).collect();
            let placed = AssertUnwindSafe(place::place_gang(&context, parts, &creates)).catch_unwind().await;
            if placed.is_err() {
                error!(?job, "making the pods of a multi-node job panicked; the others go on");
                for (key, pod) in &pods {
                    context.dispatch.hold_back(key, pod, waits::api_refuses("internal error"));
                }
            }
            context.dispatch.poke();
            wakers.job(job);
        });
    }

    /// Takes back the pod of a job, or all of a multi-node job, which wait for nodes: the scheduler may be faster.
    fn withdraw(&self, key: &str) {
        let unbound = |pod: &Arc<AttemptPod>| observe::node_name(&pod.pod).is_none();
        let caches = &self.context.caches;
        let is_gang = caches.job(key).is_some_and(|job| job.is_gang());
        let pods = if is_gang { caches.pods.of_job(key) } else { caches.pods.of_part(key) };
        for pod in
            pods.into_iter().filter(unbound).filter(|pod| pod.pod.metadata.deletion_timestamp.is_none())
        {
            // Asked for once, however many cycles pass until it is answered.
            let key = pod.key();
            if !lock(&self.withdrawing).insert(key.clone()) {
                continue;
            }
            let (context, withdrawing) = (self.context.clone(), self.withdrawing.clone());
            self.tasks.spawn(async move {
                let name = pod.pod.name_any();
                match context.writer.delete_pod(&pod.pod, Deletion::IfUnbound).await {
                    Ok(()) => info!(pod = name, "withdrawn: it makes room, or goes where there is room"),
                    Err(error) => info!(pod = name, "not withdrawn: {}", chain(&error)),
                }
                lock(&withdrawing).remove(&key);
            });
        }
    }

    /// Wakes the job controller for each job whose wait is another than its status says, once that has lasted for a
    /// while. With many jobs that is asked now and then only.
    fn tell_all(&mut self, now: Timestamp) {
        if self.told_at.is_some_and(|at| at.elapsed() < TELLING) {
            return;
        }
        self.told_at = Some(Instant::now());
        let dispatch = &self.context.dispatch;
        let lasts = |wait: &Wait| now.duration_since(wait.since) >= DWELL;
        let waits = dispatch.all_waits();
        // What they wait for is the same for all jobs of a queue, and most have said so long ago.
        let mut turns: HashMap<&str, Option<Wait>> = HashMap::new();
        for (uid, queue, job) in self.index.in_line().filter(|(uid, ..)| !waits.contains_key(*uid)) {
            let turn = turns.entry(queue).or_insert_with(|| dispatch.turn_of(queue, None));
            let record = job.status.as_ref().map(|status| &status.record);
            let Some((turn, record)) = turn.as_ref().zip(record) else { continue };
            let since = record.runnable_at.map_or(turn.since, |at| at.max(turn.since));
            if now.duration_since(since) >= DWELL && !record.says(&turn.what) {
                self.tell(uid, &turn.what);
            }
        }
        for (uid, wait) in waits.iter().filter(|(_, wait)| lasts(wait)) {
            self.tell(uid, &wait.what);
        }
    }

    fn tell(&self, key: &str, wait: &waits::Wait) {
        let (uid, _) = name::whole(key);
        let Context { caches, dispatch, .. } = self.context.as_ref();
        let Some(job) = caches.job(uid) else { return };
        if job.spec.array_properties.is_some() && !is_said(caches, dispatch, uid, wait) {
            return;
        }
        if job.status.as_ref().is_some_and(|status| !status.record.says(wait)) {
            self.wakers.job(ObjectRef::from_obj(job.as_ref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use batchyard_core::queue::{Decisions, Stranded};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::BatchJob;
    use crate::faults::caches;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, (namespace, name): (&str, &str), more: Value) -> K {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": kind,
            "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")}});
        more.as_object().into_iter().flatten().for_each(|(key, value)| object[key] = value.clone());
        serde_json::from_value(object).expect("an object")
    }

    /// Most jobs state no id: theirs is the uid of the object.
    #[tokio::test]
    async fn the_fronts_are_those_that_the_queues_tell() {
        let (caches, mut feeds, _triggers) = caches();
        let jobs = [
            ("ns", "plain", json!({"jobQueue": "q"})),
            ("ns", "named", json!({"jobQueue": "q", "jobId": "id-1"})),
            ("ns", "array", json!({"jobQueue": "q", "arrayProperties": {"size": 9}})),
            ("elsewhere", "alike", json!({"jobQueue": "q", "jobId": "id-1"})),
            ("elsewhere", "plain", json!({"jobQueue": "q"})),
        ];
        for (namespace, name, spec) in jobs {
            let job: BatchJob = object("BatchJob", (namespace, name), json!({"spec": spec}));
            feeds.jobs.deliver([Event::Apply(job)]);
        }
        let told = |ids: &[&str]| {
            let at = |place: usize| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(place as i64);
            let front = ids.iter().enumerate().map(|(place, id)| {
                json!({"jobId": id, "name": "n", "earliestTimeAtPosition": at(place).to_string()})
            });
            json!({"spec": {"priority": 1, "computeEnvironmentOrder": []}, "status": {"front": front.collect::<Vec<_>>()}})
        };
        for (name, ids, want) in [
            ("most", vec!["ns-plain", "id-1", "ns-array:3"], vec!["ns-plain", "ns-named", "ns-array:3"]),
            ("one-gone", vec!["gone", "ns-plain"], vec!["", "ns-plain"]),
            ("not-theirs", vec!["elsewhere-plain", "elsewhere-alike", "id-1"], vec!["", "", "ns-named"]),
            ("by-another-word", vec!["ns-named"], vec![""]),
        ] {
            feeds.queues.deliver([Event::Apply(object("JobQueue", ("ns", name), told(&ids)))]);
            let found = remembered_fronts(&caches).remove(&format!("ns/{name}")).unwrap_or_default();
            let (keys, since): (Vec<_>, Vec<_>) =
                found.into_iter().map(|next| (next.key, next.since.as_second())).unzip();
            assert_eq!(keys, want, "{name}");
            assert!(since.into_iter().eq(0..want.len() as i64), "{name}");
        }
    }

    /// Keys stand in the order of their letters, so that the child that is next may come first.
    #[test]
    fn of_an_arrays_children_one_that_blocks_the_queue_speaks() {
        let dispatch = Dispatch::default();
        let told = |stranded: &[&str]| {
            let head = Verdict::Wait(waits::max_vcpus("e", 2000));
            let stranded = stranded.iter().map(|uid| {
                let stranded = Stranded { queue: "ns/q".into(), wait: waits::no_capacity("e") };
                ((*uid).to_owned(), stranded)
            });
            let (verdicts, stranded) = ([("a:10".to_owned(), head)].into(), stranded.collect());
            let decisions = Decisions { verdicts, stranded, ..Decisions::default() };
            let others = BTreeMap::new();
            let found = Found { decisions: &decisions, others: &others, shares: BTreeMap::new() };
            dispatch.publish(found, BTreeMap::new, Timestamp::UNIX_EPOCH);
            dispatch.child_waits_for("a").map(|wait| wait.what.kind)
        };
        assert_eq!(told(&[]), Some(waits::Kind::Vcpus));
        assert_eq!(told(&["a:8", "a:9", "b:1"]), Some(waits::Kind::InsufficientInstanceCapacity));
        assert_eq!(told(&["b:1"]), Some(waits::Kind::Vcpus));
    }

    /// It is asked every second: whoever is woken for nothing is woken for ever.
    #[tokio::test]
    async fn an_array_is_woken_for_what_it_would_say() {
        let (caches, mut feeds, _triggers) = caches();
        let spec = json!({"spec": {"jobQueue": "q", "arrayProperties": {"size": 9}}});
        feeds.jobs.deliver([Event::Apply(object("BatchJob", ("ns", "a"), spec))]);
        let dispatch = Dispatch::default();
        let (turn, short, room) =
            (waits::behind_head("q"), waits::no_capacity("e"), waits::max_vcpus("e", 2000));
        let says = |dispatch: &Dispatch, caches: &Caches, children: &[(&str, &waits::Wait)]| {
            let others = children.iter().map(|(key, wait)| ((*key).to_owned(), (*wait).clone())).collect();
            let decisions = Decisions::default();
            let found = Found { decisions: &decisions, others: &others, shares: BTreeMap::new() };
            dispatch.publish(found, BTreeMap::new, Timestamp::UNIX_EPOCH);
            [&turn, &short, &room].map(|wait| is_said(caches, dispatch, "ns-a", wait))
        };
        let child = [("ns-a:10", &room), ("ns-a:2", &short)];
        assert_eq!(says(&dispatch, &caches, &[]), [true, true, true], "it stands in line");
        assert_eq!(says(&dispatch, &caches, &child[..1]), [false, false, true]);
        let mut found = crate::faults::pod("pod", "ns-a", json!({}));
        let bound = found.clone();
        found.spec.iter_mut().for_each(|spec| spec.node_name = None);
        feeds.pods.deliver([Event::Apply(found)]);
        assert_eq!(says(&dispatch, &caches, &[]), [false, true, true], "it had its turn");
        assert_eq!(says(&dispatch, &caches, &child), [false, true, false]);
        feeds.pods.deliver([Event::Apply(bound)]);
        assert_eq!(says(&dispatch, &caches, &child), [false; 3], "it has a node");
    }
}
