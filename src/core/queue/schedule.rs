//! One scheduling cycle.
//!
//! Queues take turns by priority; among equals the one whose head waits longest goes first.
//! Within a queue the order is strict: when the head finds no room, nobody overtakes it. A job
//! tries its queue's environments in their order and spills over from one that is closed or full.

use std::collections::BTreeMap;

use super::resources::Resources;
use super::snapshot::{Candidate, Environment, NodeRoom, Queue, Snapshot, Verdict};
use super::turns::Turns;
use crate::waits;

/// How many jobs a front has at most (GetJobQueueSnapshot of the AWS API).
pub const FRONT: usize = 100;

/// What one cycle decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The answer for each job that waits, by uid.
    pub verdicts: BTreeMap<String, Verdict>,
    /// The uids of the jobs that are next in each queue and still wait, at most [`FRONT`], by the queue's id.
    pub fronts: BTreeMap<String, Vec<String>>,
}

/// Decides for every job that waits; jobs behind a blocked head are told so.
pub fn schedule(mut snapshot: Snapshot) -> Decisions {
    let Decisions { mut verdicts, mut fronts } = Decisions::default();
    let mut queues = std::mem::take(&mut snapshot.queues);
    let mut turns = Turns::default();
    for (index, queue) in queues.iter().enumerate() {
        take_turn(&mut turns, queue, index);
    }
    while let Some(index) = turns.pop() {
        let queue = &mut queues[index];
        let Some((rank, candidate)) = queue.waiting.pop_first() else { continue };
        let verdict = place(&mut snapshot, queue, &candidate);
        let blocked = matches!(verdict, Verdict::Wait(_));
        if blocked {
            let behind = std::mem::take(&mut queue.waiting);
            let front = std::iter::once(&rank).chain(behind.keys()).take(FRONT).map(|rank| rank.uid.clone());
            fronts.insert(queue.id.clone(), front.collect());
            verdicts.insert(rank.uid, verdict);
            verdicts
                .extend(behind.into_keys().map(|r| (r.uid, Verdict::Wait(waits::behind_head(queue.name())))));
        } else {
            verdicts.insert(rank.uid, verdict);
            take_turn(&mut turns, queue, index);
        }
    }
    Decisions { verdicts, fronts }
}

fn take_turn(turns: &mut Turns, queue: &Queue, index: usize) {
    if let Some((head, _)) = queue.waiting.first_key_value() {
        turns.push(queue.priority, index, head);
    }
}

/// Finds room for one job and takes it.
fn place(snapshot: &mut Snapshot, queue: &mut Queue, job: &Candidate) -> Verdict {
    if queue.max_running.is_some_and(|max| queue.running >= max) {
        return Verdict::Wait(waits::queue_at_max_running(queue.name(), queue.running));
    }
    let mut obstacle = None;
    for name in &queue.environments {
        let Some(environment) = snapshot.environments.get_mut(name) else { continue };
        match room(environment, name, &snapshot.nodes, job) {
            Ok(node) => {
                environment.used_vcpus_milli += job.vcpus_milli;
                snapshot.nodes[node].free.charge(&job.requests_in(environment));
                queue.running += 1;
                return Verdict::Admit { environment: name.clone() };
            }
            Err(why) => obstacle = Some(Obstacle::more_telling(obstacle, why)),
        }
    }
    let obstacle = obstacle.map(|o| o.text).or_else(|| queue.obstacle.clone());
    Verdict::Wait(obstacle.unwrap_or_else(|| waits::no_environment(queue.name())))
}

/// What keeps a job out of an environment.
struct Obstacle {
    /// It stays as long as nobody changes the environment.
    lasting: bool,
    text: String,
}

impl Obstacle {
    fn passing(text: String) -> Self {
        Self { lasting: false, text }
    }

    /// Of several environments, one that may yet take the job tells more than one that never will;
    /// else the first, which is the one that the queue's owner prefers.
    fn more_telling(known: Option<Self>, new: Self) -> Self {
        match known {
            Some(known) if !known.lasting || new.lasting => known,
            _ => new,
        }
    }
}

/// The node that the job may take, or what is in the way.
fn room(
    environment: &Environment,
    name: &str,
    nodes: &[NodeRoom],
    job: &Candidate,
) -> Result<usize, Obstacle> {
    if let Some(why) = &environment.closed {
        return Err(Obstacle::passing(why.clone()));
    }
    if let Some(max) = environment.max_vcpus_milli {
        if job.vcpus_milli > max {
            return Err(Obstacle { lasting: true, text: waits::above_max_vcpus() });
        }
        if environment.used_vcpus_milli + job.vcpus_milli > max {
            return Err(Obstacle::passing(waits::max_vcpus(name, max)));
        }
    }
    let need = job.requests_in(environment);
    tightest(environment, nodes, &need)
        .ok_or_else(|| Obstacle::passing(lacking(environment, name, nodes, &need)))
}

/// The node of the environment that has the least left over, so that large gaps stay for large
/// jobs.
pub fn tightest(environment: &Environment, nodes: &[NodeRoom], need: &Resources) -> Option<usize> {
    let fitting = environment.nodes.iter().copied().filter(|index| need.fits(&nodes[*index].free));
    fitting.min_by_key(|index| {
        (nodes[*index].free.gpus, nodes[*index].free.cpu_milli, nodes[*index].free.memory)
    })
}

/// Names the resource that is short.
fn lacking(environment: &Environment, name: &str, nodes: &[NodeRoom], need: &Resources) -> String {
    if environment.nodes.is_empty() {
        return waits::no_node(name);
    }
    if !need.fits(&environment.largest) {
        return waits::larger_than_any_node(name);
    }
    let none = |has_room: &dyn Fn(&NodeRoom) -> bool| {
        !environment.nodes.iter().any(|index| has_room(&nodes[*index]))
    };
    if need.gpus > 0 && none(&|node| node.free.gpus >= need.gpus) {
        waits::resource(name, "GPUs")
    } else if none(&|node| node.free.cpu_milli >= need.cpu_milli) {
        waits::resource(name, "vCPUs")
    } else if none(&|node| node.free.memory >= need.memory) {
        waits::resource(name, "memory")
    } else {
        waits::resource(name, "a node with enough of everything")
    }
}
