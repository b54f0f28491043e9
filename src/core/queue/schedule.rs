//! One scheduling cycle.
//!
//! Queues take turns by priority; among equals the one whose head waits longest goes first.
//! Within a queue the order is strict: when the head finds no room, nobody overtakes it. A job
//! tries its queue's environments in their order and spills over from one that is closed or full.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::resources::Resources;
use super::snapshot::{Candidate, Environment, NodeRoom, Queue, Snapshot, Verdict};
use crate::waits;

/// Decides for every job that waits; jobs behind a blocked head are told so.
pub fn schedule(mut snapshot: Snapshot) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut queues = std::mem::take(&mut snapshot.queues);
    // Having run before counts within a queue only; between queues only age does.
    let turn = |queue: &Queue, index: usize| {
        let (head, _) = queue.waiting.first_key_value()?;
        Some((queue.priority, Reverse((head.created_at, head.sequence, head.uid.clone(), index))))
    };
    let mut turns: BinaryHeap<_> =
        queues.iter().enumerate().filter_map(|(i, queue)| turn(queue, i)).collect();
    while let Some((_, Reverse((.., index)))) = turns.pop() {
        let queue = &mut queues[index];
        let Some((rank, candidate)) = queue.waiting.pop_first() else { continue };
        let verdict = place(&mut snapshot, queue, &candidate);
        let blocked = matches!(verdict, Verdict::Wait(_));
        verdicts.insert(rank.uid, verdict);
        if blocked {
            let behind = std::mem::take(&mut queue.waiting);
            verdicts
                .extend(behind.into_keys().map(|r| (r.uid, Verdict::Wait(waits::behind_head(queue.name())))));
        } else {
            turns.extend(turn(queue, index));
        }
    }
    verdicts
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
