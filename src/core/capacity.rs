//! How many vCPUs an environment keeps ready beyond what jobs use: `minvCpus` and `desiredvCpus`.
//!
//! They are held by placeholders, pods that do nothing and give way to every job.

/// More placeholders than this are not made; each holds the more.
const MOST: i64 = 100;

/// What is known of an environment whose nodes come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `minvCpus`.
    pub min: i64,
    /// `desiredvCpus`, if stated and new nodes may come for it.
    pub desired: Option<i64>,
    /// The `desiredvCpus` that was carried out last.
    pub carried_out: Option<i64>,
    /// vCPUs of the jobs that are placed there.
    pub in_use: i64,
    /// vCPUs of its nodes.
    pub nodes: i64,
}

/// What follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The vCPUs that the environment grows or shrinks to.
    pub target: i64,
    /// The vCPUs that placeholders hold.
    pub held: i64,
    /// The `desiredvCpus` that is carried out by now: it counts once, and again when it is changed.
    pub carried_out: Option<i64>,
}

/// Decides. AWS Batch moves `desiredvCpus` itself by what jobs need, and a user's number is but where
/// it starts from: once there are that many vCPUs, or jobs use as many, only `minvCpus` is kept.
pub fn decide(ask: &Ask) -> Answer {
    let asked = ask.desired.filter(|desired| ask.carried_out != Some(*desired));
    let open = asked.filter(|desired| *desired > ask.min && ask.nodes.max(ask.in_use) < *desired);
    let floor = open.unwrap_or(ask.min);
    Answer {
        target: floor.max(ask.in_use),
        held: (floor - ask.in_use).max(0),
        carried_out: if open.is_some() { ask.carried_out } else { ask.desired.or(ask.carried_out) },
    }
}

/// The sizes of the placeholders that hold so many vCPUs of a target. Small ones fit beside jobs, and give way one
/// by one. The target tells how small, so that those that stay are the same while jobs come and go.
pub fn sizes(held: i64, target: i64) -> Vec<i64> {
    let size = (target.max(held) + MOST - 1) / MOST;
    let Some(whole) = held.checked_div(size) else { return Vec::new() };
    let rest = held - whole * size;
    let mut sizes = vec![size; usize::try_from(whole).unwrap_or(0)];
    sizes.extend((rest > 0).then_some(rest));
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held() {
        let none = None;
        for (min, desired, carried_out, in_use, nodes, want) in [
            // min, desired, carried out, in use, nodes: held, target, carried out
            (0, none, none, 0, 0, (0, 0, none)),
            (4, none, none, 0, 0, (4, 4, none)),
            (4, none, none, 3, 4, (1, 4, none)),
            (4, none, none, 9, 12, (0, 9, none)),
            (2, Some(4), none, 0, 0, (4, 4, none)),
            (2, Some(4), none, 1, 0, (3, 4, none)),
            (2, Some(4), none, 0, 4, (2, 2, Some(4))),
            (2, Some(4), none, 5, 0, (0, 5, Some(4))),
            (2, Some(4), Some(4), 0, 0, (2, 2, Some(4))),
            (2, Some(8), Some(4), 0, 4, (8, 8, Some(4))),
            (2, Some(2), Some(8), 0, 8, (2, 2, Some(2))),
            // No more than is kept at all times: there is nothing to wait for.
            (2, Some(2), none, 0, 0, (2, 2, Some(2))),
            (2, Some(1), none, 0, 0, (2, 2, Some(1))),
            (0, Some(0), Some(8), 0, 8, (0, 0, Some(0))),
            (2, none, Some(8), 0, 8, (2, 2, Some(8))),
        ] {
            let ask = Ask { min, desired, carried_out, in_use, nodes };
            let answer = decide(&ask);
            assert_eq!((answer.held, answer.target, answer.carried_out), want, "{ask:?}");
        }
    }

    #[test]
    fn placeholders_are_small_and_not_too_many() {
        for (held, target, count, largest) in [
            // held, target: how many, the largest
            (0, 0, 0, 0),
            (0, 7, 0, 0),
            (1, 1, 1, 1),
            (100, 100, 100, 1),
            (101, 101, 51, 2),
            (100, 101, 50, 2),
            (99, 101, 50, 2),
            (1000, 1000, 100, 10),
            (5, 1000, 1, 5),
        ] {
            let sizes = sizes(held, target);
            assert_eq!(sizes.iter().sum::<i64>(), held);
            let largest_is = sizes.iter().max().copied().unwrap_or(0);
            assert_eq!((sizes.len(), largest_is), (count, largest), "{held} of {target}");
        }
    }
}
