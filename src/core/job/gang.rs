//! The life of a multi-node job: many pods, one record
//! (<https://docs.aws.amazon.com/batch/latest/userguide/multi-node-parallel-jobs.html>).
//!
//! The record is that of the main node: [`super::decide`] follows its pod as it follows that of any job, and its end is
//! the job's. What this adds is the other nodes. They start with the main node or not at all: a placement of which a
//! part finds no host in time is taken back whole. What one of them does by itself, whatever its exit code, ends
//! nothing; if it is taken away or can never start, the attempt ends for all. All pods of an attempt have gone before
//! the dispatcher makes those of the next.
//!
//! The pods of one placement of one attempt are a *round*. A pod of an earlier round has been counted with its main
//! node's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::decide::{self, Action, Deletion, Job, Readiness, Seen, Step, is_terminal, still_works};
use super::outcome::Ran;
use super::phase::Phase;
use super::record::{Attempt, ContainerOutcome, Record};
use crate::pod::{Address, NodeView, PodCondition, PodView};
use crate::reason;
use crate::termination::{self, Class, Ending, Sight, Tolerances};

/// What makes a job a multi-node job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gang {
    /// How many nodes it has.
    pub nodes: u32,
    /// The index of the main node.
    pub main: u32,
    /// How long a part of its pods may have hosts while others have none.
    pub timeout: SignedDuration,
    /// Nodes come for its pods where they are: the time counts from the first that has a host. As long as none has,
    /// they keep no host idle, and it is the dispatcher that withdraws them when no node comes in time.
    pub grows: bool,
    /// When the main node's address was given to the others of this round.
    pub published_at: Option<Timestamp>,
}

/// The outcome of [`decide()`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// As for any job; its actions come after what is said here.
    pub job: decide::Decision,
    /// The nodes by phase; nothing if they are where they were.
    pub nodes: Option<BTreeMap<Phase, u32>>,
    /// What became of each node in the attempt that ended just now: to be stored before the record.
    pub ended: Vec<(u32, Attempt)>,
    /// The names of the nodes are to resolve.
    pub named: bool,
    /// The main node's address is to be given to the others.
    pub address: Option<String>,
    /// Rounds, by attempt and placement, whose address nobody needs any more.
    pub over: Vec<(u32, u32)>,
}

/// Decides the next step of a multi-node job.
pub fn decide(
    now: Timestamp,
    (job, gang): (&Job, &Gang),
    readiness: &Readiness,
    record: &Record,
    seen: &Seen,
    tolerances: &Tolerances,
) -> Decision {
    let round = (record.next_attempt(), record.next_placement());
    let (main, others): (Vec<_>, Vec<_>) =
        seen.pods.iter().cloned().partition(|pod| pod.index == Some(gang.main));
    let own = Seen { pods: main, ..seen.clone() };
    let mut step = Step::new(now, job, record, &own, tolerances);
    step.run(readiness);
    let mut look = Look { gang, round, seen, step, workers: BTreeMap::new(), next: Decision::default() };
    look.take_workers(others);
    if !look.is_over()
        && look.step.next.record.intent.is_none()
        && let Some(trouble) = look.trouble()
    {
        look.give_up(trouble);
    }
    look.tell(record);
    look.clear_away();
    look.next.job = look.step.next;
    look.next
}

/// A node of the job other than the main one, as it is seen.
struct Worker {
    pod: PodView,
    sight: Sight,
}

/// What ends a round although the main node goes on.
enum Trouble {
    /// It is taken back: no attempt is used.
    Back(Class, String),
    /// The attempt ends like this.
    Ends(Ending),
}

struct Look<'a> {
    gang: &'a Gang,
    round: (u32, u32),
    seen: &'a Seen,
    step: Step<'a>,
    /// By index, those of this round; the others are in `seen` only.
    workers: BTreeMap<u32, Worker>,
    next: Decision,
}

impl Look<'_> {
    /// The record has gone on to another round, or the job has ended.
    fn is_over(&self) -> bool {
        let record = &self.step.next.record;
        record.phase().is_terminal() || (record.next_attempt(), record.next_placement()) != self.round
    }

    fn is_of_round(&self, pod: &PodView) -> bool {
        (pod.attempt, pod.placement) == self.round && pod.index.is_some_and(|index| index < self.gang.nodes)
    }

    fn take_workers(&mut self, pods: Vec<PodView>) {
        let main_address = self.main().and_then(|pod| pod.ip.clone());
        let address = match self.gang.published_at {
            Some(at) => Address::Since(at),
            None => Address::Awaited,
        };
        for pod in pods {
            let Some(index) = pod.index.filter(|_| self.is_of_round(&pod)) else { continue };
            let pod = PodView { address, ..pod };
            let sight = termination::look(&pod, self.node(&pod), None, self.step.tolerances, self.step.now);
            self.workers.insert(index, Worker { pod, sight });
        }
        let is_under_way = !self.is_over() && self.step.next.record.intent.is_none();
        self.next.named = is_under_way && !self.workers.is_empty();
        let needs_address = is_under_way && self.gang.published_at.is_none() && self.gang.nodes > 1;
        self.next.address = main_address.filter(|_| needs_address);
    }

    fn node(&self, pod: &PodView) -> Option<&NodeView> {
        self.seen.nodes.get(pod.node_name.as_deref()?)
    }

    /// The main node's pod in this round.
    fn main(&self) -> Option<&PodView> {
        let main = |pod: &&PodView| pod.index == Some(self.gang.main) && self.is_of_round(pod);
        self.step.seen.pods.iter().find(main)
    }

    /// True once the main node's container has started in this round.
    fn has_started(&self) -> bool {
        self.step.next.record.current.as_ref().is_some_and(|current| current.started_at.is_some())
    }

    /// What keeps the round from going on, of several the first.
    fn trouble(&mut self) -> Option<Trouble> {
        let there = self.workers.len() + usize::from(self.main().is_some());
        if there == 0 {
            return None;
        }
        if !self.seen.creating && there < self.gang.nodes as usize {
            return Some(self.missing(there));
        }
        let mut waits = Vec::new();
        let mut first = None;
        for (index, worker) in &self.workers {
            match &worker.sight {
                Sight::Unbound => {}
                Sight::Starting { until, .. } => waits.push(*until),
                Sight::Running { unreachable, until, .. } => {
                    waits.push(*until);
                    self.step.next.unreachable |= unreachable;
                }
                Sight::Ended(ending) => {
                    first = first.or_else(|| self.ended(*index, ending));
                }
            }
        }
        waits.into_iter().for_each(|until| self.step.wake_at(until));
        first.or_else(|| self.timed_out())
    }

    /// A pod of the round was not made, or has vanished.
    fn missing(&self, there: usize) -> Trouble {
        if self.has_started() {
            let lost =
                (0..self.gang.nodes).find(|node| *node != self.gang.main && !self.workers.contains_key(node));
            return Trouble::Ends(self.deleted(lost.unwrap_or(self.gang.main)));
        }
        Trouble::Back(Class::Unplaced, reason::gang_incomplete(there, self.gang.nodes))
    }

    fn deleted(&self, index: u32) -> Ending {
        self.ending(Class::Deleted, reason::POD_DELETED, index, None)
    }

    /// The end of an attempt that one of its nodes brought about; it is the attempt of the main node that ends.
    fn ending(&self, class: Class, status_reason: &str, index: u32, why: Option<&str>) -> Ending {
        let started_at = self.step.next.record.current.as_ref().and_then(|current| current.started_at);
        Ending {
            class,
            status_reason: status_reason.to_owned(),
            container: ContainerOutcome { exit_code: None, reason: Some(reason::of_node(why, index)) },
            containers: Vec::new(),
            init_containers: Vec::new(),
            started_at,
            stopped_at: Some(self.step.now),
            log_tail: None,
        }
    }

    /// What the end of a worker means for all.
    fn ended(&self, index: u32, ending: &Ending) -> Option<Trouble> {
        let why = ending.container.reason.as_deref();
        match ending.class {
            // It did so by itself, and its pod says how.
            Class::Succeeded | Class::Application | Class::Timeout | Class::Unknown => None,
            Class::Host | Class::Image | Class::Configuration => {
                Some(Trouble::Ends(self.ending(ending.class, &ending.status_reason, index, why)))
            }
            Class::Deleted => Some(Trouble::Ends(self.deleted(index))),
            // Also while the main node runs: whether there is a log decides nothing about the job.
            Class::Unplaced if why.is_some_and(reason::logs::is_sidecar_late) => {
                Some(Trouble::Back(Class::Unplaced, reason::of_node(why, index)))
            }
            Class::Unplaced | Class::Rejected if self.has_started() => {
                Some(Trouble::Ends(self.deleted(index)))
            }
            Class::Unplaced => Some(Trouble::Back(Class::Unplaced, ending.status_reason.clone())),
            Class::Rejected => {
                let why = why.unwrap_or(&ending.status_reason);
                Some(Trouble::Back(Class::Rejected, reason::of_node(Some(why), index)))
            }
        }
    }

    /// A part of the pods has had no host for so long that all are taken back.
    fn timed_out(&mut self) -> Option<Trouble> {
        let pods = || self.workers.values().map(|worker| &worker.pod).chain(self.main());
        let bound = pods().filter(|pod| pod.node_name.is_some()).count();
        if bound == self.gang.nodes as usize {
            return None;
        }
        let since = match self.gang.grows {
            true => pods().filter_map(bound_at).min()?,
            false => pods().filter_map(|pod| pod.created_at).min()?,
        };
        let due = since.checked_add(self.gang.timeout).unwrap_or(Timestamp::MAX);
        if self.step.now < due {
            self.step.wake_at(Some(due));
            return None;
        }
        let why = reason::gang_unbound(bound, self.gang.nodes, self.gang.timeout.as_secs());
        Some(Trouble::Back(Class::Unplaced, why))
    }

    fn give_up(&mut self, trouble: Trouble) {
        (self.next.named, self.next.address) = (false, None);
        let main = self.main().cloned();
        let any = main.as_ref().or_else(|| self.workers.values().map(|worker| &worker.pod).next());
        let Some(pod) = any else { return };
        let current = self.step.next.record.current.as_ref();
        let ran = current.map_or_else(|| Ran::from_pod(pod), Ran::from);
        let ending = match trouble {
            Trouble::Ends(ending) => ending,
            Trouble::Back(class, why) => {
                let container = ContainerOutcome::default();
                Ending { container, ..self.ending(class, &why, self.gang.main, None) }
            }
        };
        // A withdrawal says nothing of hosts: the job keeps its place in line.
        let host = self.workers.values().find_map(|worker| worker.pod.node_name.clone());
        let host = host.filter(|_| ending.status_reason != reason::UNPLACED);
        self.step.settle(&ran.on(host), ending, false);
        if let Some(main) = main {
            self.step.let_go(&main);
        }
    }

    /// What people and the records are told.
    fn tell(&mut self, before: &Record) {
        let record = &self.step.next.record;
        if record.attempts.len() > before.attempts.len()
            && let Some(main) = record.attempts.last()
        {
            let workers = self.workers.iter().map(|(index, worker)| (*index, self.attempt(worker)));
            self.next.ended = std::iter::once((self.gang.main, main.clone())).chain(workers).collect();
        }
        if !before.phase().is_terminal() {
            self.next.nodes = Some(self.phases());
        }
    }

    /// How the attempt went for a worker.
    fn attempt(&self, worker: &Worker) -> Attempt {
        let Worker { pod, sight } = worker;
        let instance = self.node(pod).map(|node| node.instance.clone());
        let mut attempt = Attempt {
            attempt: pod.attempt,
            pod_name: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            compute_environment: pod.compute_environment.clone(),
            node_name: pod.node_name.clone(),
            instance: instance.or_else(|| pod.node_name.clone()),
            stopped_at: Some(self.step.now),
            status_reason: reason::NODE_STOPPED.to_owned(),
            log_stream_name: pod.log_stream.clone(),
            ..Attempt::default()
        };
        match sight {
            Sight::Unbound | Sight::Starting { .. } => {}
            Sight::Running { started_at, .. } => attempt.started_at = Some(*started_at),
            Sight::Ended(ending) => {
                attempt.started_at = ending.started_at;
                attempt.stopped_at = ending.stopped_at;
                attempt.status_reason.clone_from(&ending.status_reason);
                attempt.container.clone_from(&ending.container);
                attempt.containers.clone_from(&ending.containers);
                attempt.init_containers.clone_from(&ending.init_containers);
            }
        }
        attempt
    }

    /// How many nodes are in each phase.
    fn phases(&self) -> BTreeMap<Phase, u32> {
        let own = self.step.next.record.phase();
        let of = |index: u32| match self.workers.get(&index).map(|worker| &worker.sight) {
            _ if index == self.gang.main => own,
            // One that failed by itself did so whatever became of the job.
            Some(Sight::Ended(ending)) if own.is_terminal() && ending.class == Class::Application => {
                Phase::Failed
            }
            _ if self.is_over() || own < Phase::Runnable => own,
            None | Some(Sight::Unbound) => Phase::Runnable,
            Some(Sight::Starting { .. }) => Phase::Starting,
            Some(Sight::Running { .. }) => Phase::Running,
            Some(Sight::Ended(ending)) if ending.class == Class::Succeeded => Phase::Succeeded,
            Some(Sight::Ended(_)) => Phase::Failed,
        };
        (0..self.gang.nodes).fold(BTreeMap::new(), |mut phases, index| {
            *phases.entry(of(index)).or_default() += 1;
            phases
        })
    }

    /// Deletes and lets go of what is over, and of the round that goes on what has to go.
    fn clear_away(&mut self) {
        let (seen, is_over) = (self.seen, self.is_over());
        let mut over = BTreeSet::new();
        for pod in &seen.pods {
            let is_current = !is_over && self.is_of_round(pod);
            if !is_current && pod.held {
                over.insert((pod.attempt, pod.placement));
            }
            // The main node's pods are looked after already.
            if pod.index == Some(self.gang.main) {
                continue;
            }
            match is_current {
                true => self.enforce(pod),
                false => self.let_go(pod),
            }
        }
        self.next.over = over.into_iter().collect();
        self.step.next.actions = without_repetitions(std::mem::take(&mut self.step.next.actions));
    }

    /// Carries out an order to end the job against a pod of the round, takes it off a node that is about to go, and
    /// lifts its gate.
    fn enforce(&mut self, pod: &PodView) {
        let is_unbound = pod.node_name.is_none();
        let ordered = self.step.next.record.intent.is_some();
        let reclaimed = self.node(pod).is_some_and(|node| node.reclaimed);
        if (ordered || reclaimed && !is_terminal(pod)) && pod.deleted_at.is_none() {
            let how = if is_unbound { Deletion::IfUnbound } else { Deletion::Graceful };
            return self.step.delete(pod, how);
        }
        // The main node's uid is on record: it is the one for which this round was made.
        if pod.gated && !ordered && self.step.next.record.current.is_some() {
            self.step.next.actions.push(Action::Ungate { pod: pod.name.clone(), uid: pod.uid.clone() });
        }
        if !is_terminal(pod) {
            self.step.start_in_order(pod);
        }
    }

    fn let_go(&mut self, pod: &PodView) {
        let sight = termination::look(pod, self.node(pod), None, self.step.tolerances, self.step.now);
        let is_lost = matches!(&sight, Sight::Ended(ending) if ending.class == Class::Host)
            && self.node(pod).is_some_and(|node| !node.ready);
        if is_lost && !is_terminal(pod) && still_works(pod) {
            self.step.delete(pod, Deletion::Forced);
            return self.step.release(pod);
        }
        self.step.let_go(pod);
    }
}

/// When a pod that has a host got it.
fn bound_at(pod: &PodView) -> Option<Timestamp> {
    pod.node_name.as_ref()?;
    let is_word = |condition: &&PodCondition| condition.kind == "PodScheduled" && condition.status;
    pod.conditions.iter().find(is_word).and_then(|condition| condition.since).or(pod.created_at)
}

/// Each action once, where it comes first.
fn without_repetitions(actions: Vec<Action>) -> Vec<Action> {
    let mut once: Vec<Action> = Vec::with_capacity(actions.len());
    let mut known = BTreeSet::new();
    for action in actions {
        let (kind, uid) = match &action {
            Action::Delete { uid, how: Deletion::Graceful | Deletion::IfUnbound, .. } => (0, uid),
            Action::Delete { uid, how: Deletion::Forced, .. } => (1, uid),
            Action::Ungate { uid, .. } => (2, uid),
            Action::Start { uid, .. } => (3, uid),
            Action::Release { uid, .. } => (4, uid),
        };
        if known.insert((kind, uid.clone())) {
            once.push(action);
        }
    }
    once
}
