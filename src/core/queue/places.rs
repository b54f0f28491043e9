//! Where in line a job stands: for people who ask.

use std::collections::BTreeSet;

use super::line::{Entry, Line};
use super::order::Rank;
use super::snapshot::Queue;
use super::turns::{self, Turns, turn};

/// The place of a job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The job, by its rank in its queue.
    pub rank: Rank,
    /// Its queue, as `namespace/name`.
    pub queue: String,
    /// Its place in its queue; 1 is next.
    pub position: usize,
    /// How many stand here: more than one if it is an array, whose children do.
    pub count: usize,
    /// How many jobs of other queues that share an environment with its queue get their turn before it.
    pub ahead_elsewhere: usize,
}

/// The places of all jobs that wait and are not admitted, in the order in which they get their turn if each finds
/// room. What `allowedNamespaces` say of priorities and weights is left out.
pub fn line_up(queues: &[Queue], is_admitted: impl Fn(&Rank) -> bool) -> Vec<Place> {
    let rivals: Vec<Vec<usize>> = (0..queues.len()).map(|index| rivals(queues, index)).collect();
    let mut lines: Vec<_> = queues.iter().map(Line::of).collect();
    let mut turns = Turns::default();
    for (index, (queue, line)) in queues.iter().zip(&mut lines).enumerate() {
        if let Some(head) = line.head() {
            turns.push(turn(queue.priority, 0, index, head.rank));
        }
    }
    let mut served = vec![0; queues.len()];
    let mut places = Vec::new();
    while let Some(index) = turns.pop().as_ref().map(turns::index) {
        let Some((Entry { rank, .. }, count)) = lines[index].advance_all() else { continue };
        if !is_admitted(rank) {
            places.push(Place {
                rank: rank.clone(),
                queue: queues[index].id.clone(),
                position: served[index] + 1,
                count,
                ahead_elsewhere: rivals[index].iter().map(|rival| served[*rival]).sum(),
            });
            served[index] += count;
        }
        if let Some(head) = lines[index].head() {
            turns.push(turn(queues[index].priority, 0, index, head.rank));
        }
    }
    places
}

/// The other queues that share an environment with this one.
fn rivals(queues: &[Queue], index: usize) -> Vec<usize> {
    let own: BTreeSet<&String> = queues[index].environments.iter().collect();
    let shares = |other: &Queue| other.environments.iter().any(|environment| own.contains(environment));
    let others = queues.iter().enumerate().filter(|(other, queue)| *other != index && shares(queue));
    others.map(|(other, _)| other).collect()
}
