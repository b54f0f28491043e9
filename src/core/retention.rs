//! What is kept after its end, and for how long.
//!
//! Finished pods are kept for their logs only, finished jobs as history. What goes first is what
//! ended first. A job with a fixed name goes only when its own TTL says so: whoever applies it
//! again would run it again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// What is to go, as indexes into what was asked about, oldest first, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// What is to go now.
    pub now: Vec<usize>,
    /// When the next one is due, if nothing changes.
    pub next: Option<Timestamp>,
}

/// A pod that ended and whose outcome is recorded.
#[derive(Clone, Copy, Debug)]
pub struct FinishedPod {
    /// When it ended.
    pub ended_at: Timestamp,
    /// True if it succeeded.
    pub succeeded: bool,
}

/// How long finished pods are kept.
#[derive(Clone, Copy, Debug)]
pub struct PodLimits {
    /// Those that succeeded.
    pub succeeded: SignedDuration,
    /// Those that failed.
    pub failed: SignedDuration,
    /// How many altogether, the newest.
    pub at_most: usize,
}

/// Which finished pods are to go.
pub fn pods(pods: &[FinishedPod], limits: &PodLimits, now: Timestamp) -> Due {
    let mut order: Vec<usize> = (0..pods.len()).collect();
    order.sort_by_key(|index| pods[*index].ended_at);
    let excess = pods.len().saturating_sub(limits.at_most);
    let mut due = Due::default();
    for (place, index) in order.into_iter().enumerate() {
        let pod = &pods[index];
        let kept = if pod.succeeded { limits.succeeded } else { limits.failed };
        let goes_at = after(pod.ended_at, kept);
        if place < excess || goes_at <= now {
            due.now.push(index);
        } else {
            due.next = earlier(due.next, goes_at);
        }
    }
    due
}

/// A job that ended.
#[derive(Clone, Debug)]
pub struct FinishedJob {
    /// Its queue, in any spelling that tells queues apart.
    pub queue: String,
    /// When it ended.
    pub stopped_at: Timestamp,
    /// Its name was generated: it was submitted, not applied.
    pub generated: bool,
    /// `ttlSecondsAfterFinished`.
    pub ttl: Option<SignedDuration>,
    /// A job that depends on it has not noted its end yet.
    pub awaited: bool,
}

/// How long finished jobs are kept.
#[derive(Clone, Debug)]
pub struct JobLimits {
    /// The TTL of jobs with a generated name that state none.
    pub ttl: SignedDuration,
    /// `finishedJobsLimit` of the queues that state one.
    pub per_queue: BTreeMap<String, usize>,
    /// The limit of the others.
    pub default_per_queue: usize,
}

/// Which finished jobs are to go: by their TTL, then those with generated names of which a queue
/// has too many. One whose end somebody has yet to note stays until then.
pub fn jobs(jobs: &[FinishedJob], limits: &JobLimits, now: Timestamp) -> Due {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| jobs[*index].stopped_at);
    let mut due = Due::default();
    let mut kept = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for index in order {
        let job = &jobs[index];
        let ttl = job.ttl.or_else(|| job.generated.then_some(limits.ttl));
        let goes_at = ttl.map(|ttl| after(job.stopped_at, ttl));
        if job.awaited {
            *counts.entry(&job.queue).or_default() += 1;
        } else if goes_at.is_some_and(|goes_at| goes_at <= now) {
            due.now.push(index);
        } else {
            *counts.entry(&job.queue).or_default() += 1;
            kept.push((index, goes_at));
        }
    }
    for (index, goes_at) in kept {
        let job = &jobs[index];
        let limit = limits.per_queue.get(&job.queue).copied().unwrap_or(limits.default_per_queue);
        match counts.get_mut(job.queue.as_str()) {
            Some(count) if *count > limit && job.generated => {
                *count -= 1;
                due.now.push(index);
            }
            _ => due.next = goes_at.map_or(due.next, |goes_at| earlier(due.next, goes_at)),
        }
    }
    due
}

fn after(start: Timestamp, span: SignedDuration) -> Timestamp {
    start.saturating_add(span).unwrap_or(Timestamp::MAX)
}

fn earlier(known: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(other, |known| known.min(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    #[test]
    fn finished_pods() {
        let pod = |ended, succeeded| FinishedPod { ended_at: at(ended), succeeded };
        let all = [pod(30, true), pod(10, false), pod(20, true), pod(0, true)];
        let limits = |at_most| PodLimits {
            succeeded: SignedDuration::from_secs(100),
            failed: SignedDuration::from_secs(1000),
            at_most,
        };
        for (at_most, now, due, next) in [
            (9, 40, vec![], Some(100)),
            (9, 100, vec![3], Some(120)),
            (9, 120, vec![3, 2], Some(130)),
            (9, 1010, vec![3, 1, 2, 0], None),
            (2, 40, vec![3, 1], Some(120)),
            (0, 40, vec![3, 1, 2, 0], None),
        ] {
            let want = Due { now: due, next: next.map(at) };
            assert_eq!(pods(&all, &limits(at_most), at(now)), want, "{at_most} {now}");
        }
        assert_eq!(pods(&[], &limits(1), at(0)), Due::default());
    }

    #[test]
    fn k4_finished_jobs() {
        let job = |queue: &str, stopped, generated, ttl: Option<i64>| FinishedJob {
            queue: queue.to_owned(),
            stopped_at: at(stopped),
            generated,
            ttl: ttl.map(SignedDuration::from_secs),
            awaited: false,
        };
        let all = [
            job("q", 1, false, None),
            job("q", 2, true, None),
            job("q", 3, true, Some(10)),
            job("q", 4, false, Some(5)),
            job("p", 5, true, None),
            job("q", 6, true, None),
        ];
        let limits = |limit| JobLimits {
            ttl: SignedDuration::from_secs(100),
            per_queue: BTreeMap::from([("q".to_owned(), limit)]),
            default_per_queue: 1,
        };
        for (limit, now, due, next) in [
            (9, 8, vec![], Some(9)),
            (9, 9, vec![3], Some(13)),
            (9, 13, vec![2, 3], Some(102)),
            (9, 1000, vec![1, 2, 3, 4, 5], None),
            // The oldest of the generated names; those that are due anyway make room first.
            (3, 8, vec![1, 2], Some(9)),
            (3, 9, vec![3, 1], Some(13)),
            // A fixed name stays, however many there are.
            (0, 8, vec![1, 2, 5], Some(9)),
        ] {
            let want = Due { now: due, next: next.map(at) };
            assert_eq!(jobs(&all, &limits(limit), at(now)), want, "{limit} {now}");
        }
        let awaited = all.map(|job| FinishedJob { awaited: true, ..job });
        assert_eq!(
            jobs(&awaited, &limits(0), at(1000)),
            Due::default(),
            "somebody has to see how they ended"
        );
    }
    /// They count for the limit of their queue, so that others go in their place.
    #[test]
    fn jobs_that_others_wait_for_stay_and_count() {
        let job = |stopped, awaited| FinishedJob {
            queue: "q".to_owned(),
            stopped_at: at(stopped),
            generated: true,
            ttl: None,
            awaited,
        };
        let all = [job(1, true), job(2, false), job(3, true), job(4, false)];
        for (limit, due, next) in [
            (4, vec![], Some(102)),
            (3, vec![1], Some(104)),
            (2, vec![1, 3], None),
            // Nobody is left that might go.
            (1, vec![1, 3], None),
        ] {
            let limits = JobLimits {
                ttl: SignedDuration::from_secs(100),
                per_queue: BTreeMap::new(),
                default_per_queue: limit,
            };
            let want = Due { now: due, next: next.map(at) };
            assert_eq!(jobs(&all, &limits, at(9)), want, "{limit}");
        }
    }
}
