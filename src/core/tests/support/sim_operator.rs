//! The operator around the core, reduced to its order of effects: for each job store the record,
//! then carry out the actions; then the dispatcher, which sees only stored records, makes pods.
//! It can be stopped before any single effect, and whatever it stores is checked on the spot.

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::job::decide::{Action, Decision, Deletion, Job, Readiness, Seen, decide};
use batchyard_core::job::record::{Attempt, Record};
use batchyard_core::job::retry::RetryStrategy;
use batchyard_core::pod::PodView;
use batchyard_core::queue::room::tightest;
use batchyard_core::queue::{
    Candidate, Environment, NodeRoom, Queue, Rank, Resources, Snapshot, Verdict, schedule,
};
use batchyard_core::termination::Tolerances;
use batchyard_core::waits::{self, Wait};
use batchyard_core::{job::phase::Phase, name};
use jiff::{SignedDuration, Timestamp};

use super::sim_cluster::{Cluster, Node};

#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    pub(crate) strategy: RetryStrategy,
    pub(crate) timeout: Option<SignedDuration>,
    pub(crate) vcpus: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct EnvironmentSpec {
    pub(crate) max_vcpus: Option<i64>,
    pub(crate) closed: bool,
    pub(crate) node_lost: Option<SignedDuration>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct QueueSpec {
    pub(crate) priority: i64,
    pub(crate) environments: Vec<String>,
    pub(crate) max_running: Option<u32>,
    pub(crate) strict_fencing: bool,
}

/// A BatchJob object: what its owner wrote, and its status.
#[derive(Clone, Debug)]
pub(crate) struct SimJob {
    pub(crate) uid: String,
    pub(crate) definition: String,
    pub(crate) queue: String,
    pub(crate) created_at: Timestamp,
    pub(crate) terminate: Option<String>,
    pub(crate) cancel: Option<String>,
    pub(crate) stop: Option<String>,
    pub(crate) record: Record,
    /// Counts changes of the object, as its resourceVersion does.
    pub(crate) version: u32,
}

/// One write to the API server.
#[derive(Clone, Debug)]
enum Effect {
    /// Replaces a job's record if the job is at this version.
    Store(String, u32, Box<Record>),
    Act(Action),
    /// Makes a job's pod of so many vCPUs.
    Create(String, Box<PodView>, i64),
}

/// What the operator forgets when it stops.
#[derive(Clone, Debug, Default)]
struct Memory {
    verdicts: BTreeMap<String, Wait>,
    refused: BTreeMap<String, String>,
    creating: BTreeSet<String>,
    unreachable: BTreeSet<String>,
    wakes: BTreeMap<String, Timestamp>,
}

/// The cluster, the objects in it, and one operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) definitions: BTreeMap<String, Definition>,
    pub(crate) environments: BTreeMap<String, EnvironmentSpec>,
    pub(crate) queues: BTreeMap<String, QueueSpec>,
    pub(crate) jobs: BTreeMap<String, SimJob>,
    /// Jobs whose pods the API server refuses, and its text.
    pub(crate) policy: BTreeMap<String, String>,
    /// Creates take long: sent, not yet carried out.
    pub(crate) slow: bool,
    /// They once did: a successor cannot know of them, so that vCPUs may be promised twice.
    pub(crate) was_slow: bool,
    in_flight: Vec<(String, PodView, i64)>,
    /// The scheduler binds this job's pod to this node just before the next deletion arrives.
    pub(crate) overtakes: Option<(String, String)>,
    pub(crate) down: bool,
    memory: Memory,
    /// Effects carried out so far; the operator stops before the one of this number.
    pub(crate) effects: usize,
    pub(crate) crash_before: Option<usize>,
    /// Or pauses before it, with the write on its way, and another operator takes over.
    pub(crate) pause_before: Option<usize>,
    paused: Option<Effect>,
    /// A stopped operator is not started again until the script says so.
    pub(crate) stay_down: bool,
    pub(crate) log: Vec<String>,
}

/// The operator was stopped before it could finish.
struct Crash;

impl World {
    /// Runs the operator until nothing changes.
    pub(crate) fn reconcile(&mut self) {
        for _ in 0..200 {
            if self.down {
                return;
            }
            match self.pass() {
                Ok(true) => {}
                Ok(false) => return self.check_fixpoint(),
                Err(Crash) => {
                    self.memory = Memory::default();
                    self.down = self.stay_down;
                }
            }
        }
        panic!(
            "no fixpoint: the operator is busy for ever\n{}",
            self.log[self.log.len().saturating_sub(20)..].join("\n")
        );
    }

    /// All that outlives the operator.
    pub(crate) fn state(&self) -> (Cluster, BTreeMap<String, Record>) {
        (
            self.cluster.clone(),
            self.jobs.iter().map(|(name, job)| (name.clone(), job.record.clone())).collect(),
        )
    }

    pub(crate) fn stop(&mut self) {
        self.down = true;
        self.memory = Memory::default();
    }

    /// Lets time pass. The operator acts when it asked to be woken and at no other moment.
    pub(crate) fn wait(&mut self, duration: SignedDuration) {
        let end = self.cluster.now + duration;
        while let Some(at) = self.memory.wakes.values().min().copied().filter(|at| *at <= end && !self.down) {
            self.log.push(format!("(after {:#})", at.duration_since(self.cluster.now)));
            self.cluster.now = at;
            self.reconcile();
        }
        self.cluster.now = end;
        let before = self.state();
        self.reconcile();
        assert!(
            self.state() == before,
            "time changed something that nobody had asked to be woken for: {:?}",
            self.log.last()
        );
    }

    /// The slow API server carries out what was sent to it.
    pub(crate) fn answer(&mut self) {
        for (job, view, vcpus) in std::mem::take(&mut self.in_flight) {
            self.cluster.create(&job, view, vcpus);
        }
        self.slow = false;
        self.memory.creating.clear();
    }

    /// The write of the leader that paused arrives at last, whatever has become of the world.
    pub(crate) fn resume(&mut self) -> Result<(), String> {
        self.was_slow = true;
        match self.paused.take().ok_or("nobody has paused")? {
            Effect::Store(name, version, record) => {
                let job = &self.jobs[&name];
                if job.version == version {
                    let old = job.record.clone();
                    self.store(&name, &old, *record);
                } else {
                    self.log.push(format!("(a conflict: {name} has changed)"));
                }
            }
            Effect::Act(action) => _ = self.act(&action),
            Effect::Create(job, view, vcpus) => {
                let (name, made) = (view.name.clone(), self.cluster.create(&job, *view, vcpus));
                self.log.push(format!("({name} {})", if made { "is made late" } else { "exists" }));
            }
        }
        Ok(())
    }

    fn effect(&mut self, effect: impl FnOnce() -> Effect) -> Result<(), Crash> {
        if self.pause_before == Some(self.effects) {
            self.pause_before = None;
            self.paused = Some(effect());
            return Err(Crash);
        }
        if self.crash_before == Some(self.effects) {
            self.crash_before = None;
            return Err(Crash);
        }
        self.effects += 1;
        Ok(())
    }

    fn pass(&mut self) -> Result<bool, Crash> {
        let mut changed = false;
        for job in self.jobs.keys().cloned().collect::<Vec<_>>() {
            changed |= self.step(&job)?;
        }
        Ok(self.dispatch()? || changed)
    }

    fn decide(&self, name: &str) -> Decision {
        let job = &self.jobs[name];
        let definition = self.definitions.get(&job.definition);
        let pods: Vec<_> =
            self.cluster.pods.values().filter(|p| p.job == name).map(|p| p.view.clone()).collect();
        let last = job.record.current.as_ref().and_then(|c| c.node_name.as_ref());
        let hosts = pods.iter().filter_map(|p| p.node_name.as_ref()).chain(last);
        let nodes = hosts.filter_map(|name| self.cluster.nodes.get(name));
        let nodes = nodes.map(|n| (n.view.name.clone(), n.view.clone())).collect();
        let readiness = match definition {
            _ if !self.queues.contains_key(&job.queue) => {
                Readiness::Waiting(waits::queue_missing(&job.queue))
            }
            None => Readiness::Waiting(waits::definition_missing(&job.definition)),
            Some(_) => Readiness::Ready(format!("{}:1", job.definition)),
        };
        let order = Job {
            strategy: definition.map(|d| d.strategy.clone()).unwrap_or_default(),
            timeout: definition.and_then(|d| d.timeout),
            terminate: job.terminate.clone(),
            cancel: job.cancel.clone(),
            stop: job.stop.clone(),
            ..Job::default()
        };
        let seen = Seen {
            nodes,
            pods,
            creating: self.memory.creating.contains(name),
            waits_for: self.memory.verdicts.get(&job.uid).cloned(),
            refused: self.memory.refused.get(name).cloned(),
            ..Seen::default()
        };
        let pool = job.record.current.as_ref().and_then(|c| c.compute_environment.as_ref());
        let node_lost = pool.and_then(|p| self.environments.get(p)).and_then(|e| e.node_lost);
        let tolerances = Tolerances { node_lost, ..Tolerances::default() };
        decide(self.cluster.now, &order, &readiness, &job.record, &seen, &tolerances)
    }

    fn step(&mut self, name: &str) -> Result<bool, Crash> {
        let decision = self.decide(name);
        let mut changed = false;
        let old = self.jobs[name].record.clone();
        if decision.record != old {
            let version = self.jobs[name].version;
            let record = decision.record;
            self.effect(|| Effect::Store(name.to_owned(), version, Box::new(record.clone())))?;
            self.store(name, &old, record);
            changed = true;
        }
        let reachable = match decision.unreachable {
            true => self.memory.unreachable.insert(name.to_owned()).then_some("its node does not answer"),
            false => self.memory.unreachable.remove(name).then_some("its node is no longer silent"),
        };
        self.log.extend(reachable.map(|text| format!("{name}: {text}")));
        match decision.wake {
            Some(at) => self.memory.wakes.insert(name.to_owned(), at),
            None => self.memory.wakes.remove(name),
        };
        for action in decision.actions {
            self.effect(|| Effect::Act(action.clone()))?;
            if let Action::Ungate { uid, .. } = &action {
                let current = self.jobs[name].record.current.as_ref();
                assert!(current.is_some_and(|c| c.pod_uid == *uid), "{name}: a gate is lifted for no record");
            }
            changed |= self.act(&action);
        }
        Ok(changed)
    }

    fn store(&mut self, name: &str, old: &Record, new: Record) {
        self.check_store(name, old, &new);
        self.log.extend(story(name, old, &new));
        let job = self.jobs.get_mut(name).expect("known");
        job.record = new;
        job.version += 1;
    }

    fn act(&mut self, action: &Action) -> bool {
        if matches!(action, Action::Delete { .. })
            && let Some((job, node)) = self.overtakes.take()
        {
            self.log.push(format!("(the scheduler binds {job} to {node})"));
            self.cluster.bind(&job, &node).expect("the script says that it can");
        }
        let (changed, text) = match action {
            Action::Delete { pod, uid, how } => {
                let how_said = match how {
                    Deletion::Graceful => "",
                    Deletion::IfUnbound => " if unbound",
                    Deletion::Forced => " by force",
                };
                (self.cluster.delete(pod, uid, *how), format!("delete {pod}{how_said}"))
            }
            Action::Ungate { pod, uid } => (self.cluster.ungate(pod, uid), format!("ungate {pod}")),
            Action::Start { .. } => panic!("the pods here have one container each"),
            Action::Release { pod, uid } => (self.cluster.release(pod, uid), format!("release {pod}")),
        };
        self.log.extend(changed.then_some(text));
        changed
    }

    /// The dispatcher's cycle: what waits by its stored record, what is taken by existing pods.
    fn dispatch(&mut self) -> Result<bool, Crash> {
        let mut verdicts = BTreeMap::new();
        let mut changed = false;
        let snapshot = self.snapshot();
        for queue in &snapshot.queues {
            let behind = waits::behind_head(queue.name());
            verdicts.extend(queue.waiting.ranks().map(|rank| (rank.uid.clone(), behind.clone())));
        }
        for (uid, verdict) in schedule(snapshot).verdicts {
            let job = self.jobs.iter().find(|(_, j)| j.uid == uid).map(|(n, _)| n.clone()).expect("known");
            match verdict {
                Verdict::Wait(wait) => _ = verdicts.insert(uid, wait),
                Verdict::Admit { environment } => {
                    verdicts.remove(&uid);
                    let (view, vcpus) = self.pod(&job, environment);
                    self.effect(|| Effect::Create(job.clone(), Box::new(view.clone()), vcpus))?;
                    changed |= self.create(&job, view, vcpus);
                }
            }
        }
        changed |= verdicts != self.memory.verdicts;
        self.memory.verdicts = verdicts;
        Ok(changed)
    }

    /// The pod of a job's next attempt, and how many vCPUs it takes.
    fn pod(&self, name: &str, environment: String) -> (PodView, i64) {
        let job = &self.jobs[name];
        let (attempt, placement) = (job.record.next_attempt(), job.record.next_placement());
        let pod = name::pod(name, &job.uid, None, attempt, placement);
        let gated = self.queues.get(&job.queue).is_some_and(|queue| queue.strict_fencing);
        let compute_environment = Some(environment);
        let view =
            PodView { name: pod, attempt, placement, compute_environment, gated, ..PodView::default() };
        (view, self.definitions[&job.definition].vcpus)
    }

    fn create(&mut self, name: &str, view: PodView, vcpus: i64) -> bool {
        if let Some(text) = self.policy.get(name) {
            return self.memory.refused.insert(name.to_owned(), text.clone()).is_none();
        }
        let environment = view.compute_environment.as_deref().unwrap_or_default();
        self.log.push(format!("create {} in {environment}", view.name));
        if self.slow {
            self.in_flight.push((name.to_owned(), view, vcpus));
            return self.memory.creating.insert(name.to_owned());
        }
        self.cluster.create(name, view, vcpus)
    }

    /// True if a pod of the job may still run, or ended and is not recorded.
    fn has_pod(&self, name: &str, record: &Record) -> bool {
        self.cluster.pods.values().filter(|p| p.job == name).any(|p| {
            p.is_live() || p.view.attempt == record.next_attempt() && !record.has_counted(&p.view.uid)
        })
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let usable = |n: &&Node| n.view.ready && !n.view.unschedulable;
        let nodes: Vec<_> = self.cluster.nodes.values().filter(usable).collect();
        snapshot.nodes = nodes.iter().map(|n| room(&n.view.name, self.cluster.free(n))).collect();
        for (name, spec) in &self.environments {
            let pool: Vec<_> = (0..nodes.len()).filter(|i| nodes[*i].environment == *name).collect();
            let largest = pool.iter().map(|i| nodes[*i].vcpus).max().unwrap_or_default();
            let taken =
                self.cluster.pods.values().filter(|p| p.view.compute_environment.as_ref() == Some(name));
            let ours = |(job, view, _): &&(String, PodView, i64)| {
                self.memory.creating.contains(job) && view.compute_environment.as_ref() == Some(name)
            };
            let sent: i64 = self.in_flight.iter().filter(ours).map(|(_, _, vcpus)| vcpus).sum();
            let environment = Environment {
                closed: spec.closed.then(|| waits::environment_closed(name)),
                max_vcpus_milli: spec.max_vcpus.map(|v| v * 1000),
                used_vcpus_milli: (taken.filter(|p| p.is_live()).map(|p| p.vcpus).sum::<i64>() + sent) * 1000,
                nodes: pool,
                largest: amounts(largest),
                ..Environment::default()
            };
            self.assume_unbound(&environment, name, &mut snapshot.nodes);
            snapshot.environments.insert(name.clone(), environment);
        }
        snapshot.queues = self.queues.iter().map(|(id, spec)| self.queue(id, spec)).collect();
        snapshot
    }

    /// Pods that are not bound yet will take room somewhere: where it is tightest.
    fn assume_unbound(&self, environment: &Environment, name: &str, nodes: &mut [NodeRoom]) {
        let unbound = self.cluster.pods.values().filter(|p| p.is_live() && p.view.node_name.is_none());
        for pod in unbound.filter(|p| p.view.compute_environment.as_deref() == Some(name)) {
            let need = amounts(pod.vcpus);
            if let Some(node) = tightest(environment, nodes, &need, None) {
                nodes[node].free.charge(&need);
            }
        }
    }

    fn queue(&self, id: &str, spec: &QueueSpec) -> Queue {
        let mut queue = Queue {
            id: id.to_owned(),
            priority: spec.priority,
            environments: spec.environments.clone(),
            max_running: spec.max_running,
            ..Queue::default()
        };
        for (name, job) in self.jobs.iter().filter(|(_, j)| j.queue == id) {
            let record = &job.record;
            if self.has_pod(name, record) {
                queue.running += 1;
            } else if record.phase() == Phase::Runnable
                && record.intent.is_none()
                && !self.memory.creating.contains(name)
                && !self.memory.refused.contains_key(name)
            {
                let fresh = !record.has_had_a_node();
                let rank = Rank { fresh, created_at: job.created_at, sequence: 0, uid: job.uid.clone() };
                let vcpus = self.definitions[&job.definition].vcpus;
                queue.waiting.insert(
                    rank,
                    Candidate { vcpus_milli: vcpus * 1000, pod: amounts(vcpus), ..Candidate::default() },
                );
            }
        }
        queue
    }

    /// What must hold whenever a record is stored.
    fn check_store(&self, name: &str, old: &Record, new: &Record) {
        assert!(!old.phase().is_terminal(), "{name}: a terminal record was changed from {old:?} to {new:?}");
        let (from, to) = (old.phase(), new.phase());
        assert!(from == to || from.may_become(to), "{name}: moved from {from} to {to}");
        let limit = self.definitions.get(&self.jobs[name].definition).map_or(1, |d| d.strategy.attempts);
        assert!(new.attempts.len() as u32 <= limit, "{name}: {} attempts of {limit}", new.attempts.len());
        assert!(
            new.attempts.iter().map(|a| a.attempt).eq(1..=new.attempts.len() as u32),
            "{name}: numbering"
        );
        assert!(new.attempts.starts_with(&old.attempts), "{name}: an outcome was rewritten");
        let counted =
            new.attempts.iter().map(|a| &a.pod_uid).chain(new.placements.iter().map(|p| &p.pod_uid));
        let uids: Vec<_> = counted.collect();
        assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), uids.len(), "{name}: a pod counted twice");
        assert!(
            !to.is_terminal() || new.stopped_at.is_some() && new.status_reason.is_some(),
            "{name}: {new:?}"
        );
        assert_eq!(new.is_bound(), matches!(to, Phase::Starting | Phase::Running), "{name}: {new:?}");
        assert!(to != Phase::Running || new.started_at.is_some(), "{name}: {new:?}");
        assert!(to > Phase::Starting || new.started_at.is_none(), "{name}: {new:?}");
        assert!(!to.is_terminal() || new.intent.is_none(), "{name}: {new:?}");
        assert!(
            to != Phase::Succeeded || new.attempts.last().is_some_and(|a| a.container.exit_code == Some(0))
        );
    }

    /// What must hold whenever the operator has nothing more to do.
    fn check_fixpoint(&self) {
        for (name, spec) in self.environments.iter().filter(|_| !self.was_slow) {
            let taken =
                self.cluster.pods.values().filter(|p| p.view.compute_environment.as_ref() == Some(name));
            let vcpus: i64 = taken.filter(|p| p.is_live()).map(|p| p.vcpus).sum();
            assert!(spec.max_vcpus.is_none_or(|max| vcpus <= max), "{name}: {vcpus} vCPUs are in use");
        }
        for (name, job) in &self.jobs {
            let pods = || self.cluster.pods.values().filter(|p| p.job == *name);
            let wanted = |uid: &String| !job.record.has_counted(uid);
            let live = pods().filter(|p| p.is_live() && p.view.deleted_at.is_none() && wanted(&p.view.uid));
            assert!(live.count() <= 1, "{name}: more than one live pod");
            assert!(
                pods().filter(|p| p.runs() && p.view.deleted_at.is_none()).count() <= 1,
                "{name} runs twice"
            );
            let fenced = self.queues.get(&job.queue).is_some_and(|queue| queue.strict_fencing);
            let on_record = |uid: &str| {
                job.record.has_counted(uid) || job.record.current.as_ref().is_some_and(|c| c.pod_uid == uid)
            };
            assert!(
                !fenced || pods().all(|p| p.view.node_name.is_none() || on_record(&p.view.uid)),
                "{name} runs in a pod that is on no record"
            );
            let obeyed =
                job.record.intent.is_none() || pods().all(|p| !p.is_live() || p.view.deleted_at.is_some());
            assert!(obeyed, "{name} shall end and its pod is left alone");
            if let Some(why) = self.memory.verdicts.get(&job.uid) {
                let told = job.record.waiting.map(|waiting| waiting.kind);
                assert_eq!(told, Some(why.kind), "{name} does not say why it waits");
            }
            let over = job.record.phase().is_terminal();
            assert!(!over || pods().all(|p| !p.view.held), "{name} has ended and a pod is still held");
            let again = self.decide(name);
            assert!(again.record == job.record, "{name}: not a fixpoint, {again:?}");
            assert!(again.wake.is_none_or(|at| at > self.cluster.now), "{name}: would be woken for ever");
        }
    }
}

fn amounts(vcpus: i64) -> Resources {
    Resources { cpu_milli: vcpus * 1000, memory: 0, gpus: 0, pods: 1 }
}

fn room(name: &str, vcpus: i64) -> NodeRoom {
    let free = Resources { pods: 110, ..amounts(vcpus) };
    NodeRoom { name: name.to_owned(), free, size: free, ..NodeRoom::default() }
}

/// What a stored record tells, compared with the one before.
fn story(name: &str, old: &Record, new: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for lost in new.placements.iter().filter(|p| !old.has_counted(&p.pod_uid)) {
        let node = lost.node_name.as_deref().unwrap_or("no node");
        lines.push(format!(
            "{name} lost {} on {node}, no attempt used: {}",
            lost.pod_name, lost.status_reason
        ));
    }
    lines.extend(new.attempts[old.attempts.len()..].iter().map(|a| format!("{name} {}", outcome(a))));
    match (&old.intent, &new.intent) {
        (None, Some(intent)) => {
            lines.push(format!("{name} shall end: {:?}, {:?}", intent.kind, intent.reason))
        }
        (Some(_), None) if !new.phase().is_terminal() => lines.push(format!("{name} shall not end any more")),
        _ => {}
    }
    if (old.phase, &old.status_reason) != (new.phase, &new.status_reason) {
        let why = new.status_reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        lines.push(format!("{name} {}{why}", new.phase()));
    }
    lines
}

fn outcome(attempt: &Attempt) -> String {
    let node = attempt.instance.as_deref().unwrap_or("no host");
    let code =
        attempt.container.exit_code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
    let reason = attempt.container.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    let decision = attempt.decision.as_ref().map_or("undecided".to_owned(), |d| {
        let action = format!("{:?}", d.action).to_uppercase();
        d.entry.map_or_else(|| format!("{action}, {}", d.rule), |entry| format!("{action} by entry {entry}"))
    });
    format!("attempt {} on {node}: {}{reason}, {code} -> {decision}", attempt.attempt, attempt.status_reason)
}
