//! One scheduling cycle.
//!
//! Queues take turns by priority; among equals the namespace that uses the least for its weight goes first where
//! an environment states weights, else the queue whose head waits longest. Within a queue the order is strict: when
//! the head finds no room, nobody overtakes it. A job tries its queue's environments in their order and spills over
//! from one that is closed or full.
//!
//! Jobs of other queues may overtake a head that finds no room, for [`OVERTAKING`]; then what becomes free is kept
//! for it. Where pods wait for nodes that come, those of jobs that come later make way.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::line::{Entry, Line};
use super::resources::Resources;
use super::room::{Obstacle, Room};
use super::snapshot::{OVERTAKING, Queue, Snapshot, Unbound, Verdict};
use super::turns::{self, Turn, Turns, turn};
use crate::waits::{self, Kind, Wait};

/// How many jobs a front has at most (GetJobQueueSnapshot of the AWS API).
pub const FRONT: usize = 100;

/// What one cycle decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// The answer for each job whose turn came, by its key ([`crate::name::part`]): those that are admitted, and the
    /// head of each queue that finds no room. The others wait for their turn.
    pub verdicts: BTreeMap<String, Verdict>,
    /// The keys of the jobs that are next in each queue and still wait, at most [`FRONT`], by the queue's id. The
    /// first is the head that found no room.
    pub fronts: BTreeMap<String, Vec<String>>,
    /// The jobs whose pods, which wait for nodes, are to be taken back, by key.
    pub withdraw: Vec<String>,
    /// The jobs whose pods wait for nodes in vain and can go nowhere else, and what they are told, by key.
    pub stranded: BTreeMap<String, Stranded>,
    /// For what no node came in time, by environment.
    pub short_of: Vec<(String, Resources)>,
}

/// A job whose pod waits for a node in vain.
#[derive(Clone, Debug, PartialEq)]
pub struct Stranded {
    /// Its queue, as `namespace/name`.
    pub queue: String,
    /// What it is told.
    pub wait: Wait,
}

/// Decides whose turn it is and what becomes of it.
pub fn schedule(snapshot: Snapshot) -> Decisions {
    let Snapshot { queues, environments, nodes, tokens, now } = snapshot;
    let room = Room::new(environments, nodes, tokens);
    let mut cycle =
        Cycle { lanes: Vec::new(), room, now, turns: Turns::default(), decisions: Decisions::default() };
    cycle.give_up(&queues);
    cycle.lanes = queues.iter().map(|queue| Lane::of(queue, &cycle.room)).collect();
    cycle.run()
}

/// A queue on its way through the cycle.
struct Lane<'q> {
    queue: &'q Queue,
    line: Line<'q>,
    /// Names of its environments that exist.
    environments: Vec<&'q str>,
    running: u32,
    /// Which environment its head tries next.
    stage: usize,
    /// What keeps its head out of those that it tried.
    obstacle: Option<Obstacle>,
    /// Those in which pods that wait for nodes are in the way.
    crowded: Vec<&'q str>,
}

impl<'q> Lane<'q> {
    fn of(queue: &'q Queue, room: &Room) -> Self {
        let names = queue.environments.iter().map(String::as_str);
        Self {
            queue,
            line: Line::of(queue),
            environments: names.filter(|name| room.environments.contains_key(*name)).collect(),
            running: queue.running,
            stage: 0,
            obstacle: None,
            crowded: Vec::new(),
        }
    }

    /// What its head waits for, wherever it could go.
    fn closed(&self, head: Entry<'_>, room: &Room) -> Option<Wait> {
        if let Some(wait) = &self.queue.held {
            return Some(wait.clone());
        }
        if self.queue.max_running.is_some_and(|max| self.running >= max) {
            return Some(waits::queue_at_max_running(self.queue.name(), self.running));
        }
        room.lacks_tokens(head.job)
    }

    /// What its head waits for when it found room nowhere.
    fn wait(&mut self, room: &Room) -> Wait {
        let exists = |name: &String| room.environments.contains_key(name);
        let missing = self.queue.environments.iter().find(|name| !exists(name));
        let is_invalid = |name: &&str| room.environments.get(*name).is_some_and(|found| found.invalid);
        let all_invalid = missing.is_none() && !self.environments.is_empty();
        if all_invalid && self.environments.iter().all(is_invalid) {
            return waits::all_invalid();
        }
        let found = self.obstacle.take().map(|obstacle| match missing {
            // It may come and take the job.
            Some(missing) if obstacle.lasting => waits::environment_missing(missing, self.queue.name()),
            _ => obstacle.wait,
        });
        let found = found.or_else(|| self.queue.obstacle.clone());
        found.unwrap_or_else(|| waits::no_environment(self.queue.name()))
    }
}

struct Cycle<'q> {
    lanes: Vec<Lane<'q>>,
    room: Room,
    now: Timestamp,
    turns: Turns,
    decisions: Decisions,
}

impl Cycle<'_> {
    fn run(mut self) -> Decisions {
        for index in 0..self.lanes.len() {
            self.take_turn(index);
        }
        while let Some(known) = self.turns.pop() {
            let index = turns::index(&known);
            match self.turn_of(index) {
                // Others of its namespace were served meanwhile: it is not its turn yet.
                Some(now) if now < known => self.turns.push(now),
                Some(now) => self.serve(index, now.0),
                None => {}
            }
        }
        self.decisions
    }

    fn take_turn(&mut self, index: usize) {
        let turn = self.turn_of(index);
        turn.into_iter().for_each(|turn| self.turns.push(turn));
    }

    fn turn_of(&mut self, index: usize) -> Option<Turn> {
        let lane = &mut self.lanes[index];
        let head = lane.line.head()?.rank;
        let environment =
            lane.environments.get(lane.stage).and_then(|name| self.room.environments.get(*name));
        let (priority, load) = environment.map_or((lane.queue.priority, 0), |environment| {
            (environment.priority_of(lane.queue), environment.load_of(lane.queue.namespace()))
        });
        Some(turn(priority, load, index, head))
    }

    /// The head of a queue tries its environments, as far as the queue has this priority there: where it has a lower
    /// one, others come first.
    fn serve(&mut self, index: usize, priority: i64) {
        let lane = &mut self.lanes[index];
        let Some(head) = lane.line.head() else { return };
        if let Some(wait) = lane.closed(head, &self.room) {
            return self.block(index, head, wait);
        }
        while let Some(name) = self.lanes[index].environments.get(self.lanes[index].stage).copied() {
            let lane = &mut self.lanes[index];
            match self.room.take(name, lane.queue, head.job) {
                Ok(()) => return self.admit(index, name),
                Err(obstacle) => {
                    lane.crowded.extend(obstacle.crowded.then_some(name));
                    lane.obstacle = Some(Obstacle::more_telling(lane.obstacle.take(), obstacle));
                }
            }
            lane.stage += 1;
            if let Some(next) = self.turn_of(index).filter(|next| next.0 < priority) {
                return self.turns.push(next);
            }
        }
        let wait = self.make_way(index, head);
        self.block(index, head, wait);
    }

    fn admit(&mut self, index: usize, environment: &str) {
        let lane = &mut self.lanes[index];
        lane.running += 1;
        (lane.stage, lane.obstacle) = (0, None);
        lane.crowded.clear();
        if let Some(entry) = lane.line.advance() {
            let environment = environment.to_owned();
            self.decisions.verdicts.insert(entry.key(), Verdict::Admit { environment });
        }
        self.take_turn(index);
    }

    /// Takes back pods of jobs that come later, in the first environment where that helps.
    fn make_way(&mut self, index: usize, head: Entry<'_>) -> Wait {
        let lane = &mut self.lanes[index];
        for name in &lane.crowded {
            if let Some(mut going) = self.room.make_way(name, lane.queue, head) {
                self.decisions.withdraw.append(&mut going);
                return waits::withdrawing(name);
            }
        }
        lane.wait(&self.room)
    }

    /// The head waits, and all behind it.
    fn block(&mut self, index: usize, head: Entry<'_>, wait: Wait) {
        let lane = &mut self.lanes[index];
        let key = head.key();
        let since = lane.queue.head.as_ref().filter(|(known, _)| *known == key).map(|(_, since)| *since);
        let is_late = since.is_some_and(|since| self.now.duration_since(since) >= OVERTAKING);
        // Nothing that others leave would help a head that waits for jobs of its own queue, or for its namespace.
        if is_late && !matches!(wait.kind, Kind::MaxRunning | Kind::ResourceQuota) {
            self.room.hold(&lane.environments, lane.queue, head.job);
        }
        self.decisions.verdicts.insert(key, Verdict::Wait(wait));
        let line = std::iter::from_fn(|| lane.line.advance());
        let front = line.take(FRONT).map(|entry| entry.key()).collect();
        self.decisions.fronts.insert(lane.queue.id.clone(), front);
    }

    /// Pods for which no node came in time go elsewhere, if their queue has another environment for them.
    fn give_up(&mut self, queues: &[Queue]) {
        let mut late: Vec<(String, Unbound)> = Vec::new();
        for (name, environment) in &mut self.room.environments {
            let Some(provisioned) = &mut environment.provisioned else { continue };
            let Some(timeout) = provisioned.capacity_timeout else { continue };
            let is_late = |pod: &Unbound| self.now.duration_since(pod.since) >= timeout;
            for pod in provisioned.unbound.iter().filter(|pod| is_late(pod)) {
                provisioned.short_of.push(pod.pod);
                late.push((name.clone(), pod.clone()));
            }
        }
        for (name, pod) in late {
            let queue = queues.iter().find(|queue| queue.id == pod.queue);
            let open = |queue: &Queue| {
                let mut others = queue.environments.iter().filter(|other| **other != name);
                others.any(|other| self.room.is_open_to(other, queue, &pod))
            };
            if queue.is_some_and(open) {
                let provisioned = self.room.environments.get_mut(&name).and_then(|e| e.provisioned.as_mut());
                provisioned.into_iter().for_each(|found| found.unbound.retain(|other| other.key != pod.key));
                self.decisions.withdraw.push(pod.key);
                self.decisions.short_of.push((name, pod.pod));
            } else {
                let stranded = Stranded { queue: pod.queue, wait: waits::no_capacity(&name) };
                self.decisions.stranded.insert(pod.key, stranded);
            }
        }
    }
}
