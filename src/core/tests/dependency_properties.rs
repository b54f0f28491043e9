//! Jobs that depend on each other, against an evaluator that looks at everything again until nothing changes.
//!
//! Jobs come in any order, run, end, are cancelled, deleted and made again, and depend on each other in any way, circles
//! among it. After each of these every job must be where the naive evaluator puts it, although only those are looked at
//! that somebody woke, in any order.

#[path = "support/cases.rs"]
mod cases;

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::dependency::graph::{Graph, Key, Waiting, open};
use batchyard_core::dependency::{
    Dependency, How, Noted, Other, Patience, Reference, State, Verdict, of_jobs,
};
use batchyard_core::job::phase::Phase;
use batchyard_core::reason;
use jiff::Timestamp;
use proptest::prelude::*;

const JOBS: usize = 7;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Comes(usize),
    Ends(usize, bool),
    IsCancelled(usize),
    IsDeleted(usize),
}

/// A job of a manifest: on whom it depends, and whether by name or by id.
type Manifest = Vec<(usize, bool)>;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..JOBS).prop_map(Event::Comes),
        5 => (0..JOBS, prop::bool::weighted(0.7)).prop_map(|(job, well)| Event::Ends(job, well)),
        1 => (0..JOBS).prop_map(Event::IsCancelled),
        1 => (0..JOBS).prop_map(Event::IsDeleted),
    ]
}

fn manifests() -> impl Strategy<Value = Vec<Manifest>> {
    let edges = prop::collection::vec((0..JOBS, any::<bool>()), 0..3);
    let any_graph = prop::collection::vec(edges, JOBS);
    // Each depends on earlier ones only.
    let dag = any_graph.clone().prop_map(|mut all: Vec<Manifest>| {
        all.iter_mut().enumerate().for_each(|(job, edges)| edges.retain(|(on, _)| *on < job));
        all
    });
    prop_oneof![any_graph, dag]
}

fn dependency(on: usize, by_id: bool) -> Dependency {
    let on = if by_id { Reference::Id(format!("id-{on}")) } else { Reference::Name(format!("job-{on}")) };
    Dependency { on: Some(on), how: How::Plain }
}

/// A job as the controller knows it.
#[derive(Clone, Debug)]
struct Job {
    uid: String,
    phase: Phase,
    reason: String,
    notes: Vec<Noted>,
}

/// The operator: a graph, and those that are to be looked at.
struct Operator {
    manifests: Vec<Manifest>,
    jobs: BTreeMap<usize, Job>,
    graph: Graph,
    woken: BTreeSet<usize>,
}

impl Operator {
    fn keys(job: usize, uid: &str) -> Vec<Key> {
        Key::all_of("ns", &format!("job-{job}"), &format!("id-{job}"), uid)
    }

    fn dependencies(&self, job: usize) -> Vec<Dependency> {
        self.manifests[job].iter().map(|(on, by_id)| dependency(*on, *by_id)).collect()
    }

    /// What the caches and the triggers do about a change.
    fn hear(&mut self, job: usize, is_news: bool) {
        let known = self.jobs[&job].clone();
        let refused = reason::is_dependency_circle(&known.reason);
        let open = open("ns", &self.dependencies(job), &known.notes);
        if !open.is_empty() && (known.phase <= Phase::Pending || refused) {
            let is = Self::keys(job, &known.uid);
            let (uid, name) = (known.uid.clone(), format!("job-{job}"));
            self.graph.put(Waiting { uid, name, is, waits_for: open, refused });
        } else {
            self.graph.remove(&known.uid);
        }
        self.woken.insert(job);
        if is_news || known.phase.is_terminal() {
            self.wake_others(job, &known.uid);
        }
    }

    fn wake_others(&mut self, job: usize, uid: &str) {
        let mut uids = self.graph.waiters(&Self::keys(job, uid));
        uids.extend(self.graph.circle(uid).iter().flat_map(|circle| circle.jobs.clone()));
        let woken = self.jobs.iter().filter(|(_, job)| uids.contains(&job.uid)).map(|(n, _)| *n);
        self.woken.extend(woken.collect::<Vec<_>>());
    }

    fn look(&mut self, n: usize) {
        let Some(job) = self.jobs.get(&n).filter(|job| job.phase <= Phase::Pending).cloned() else { return };
        let others = self.jobs.iter().flat_map(|(n, other)| {
            let (id, name) = (format!("id-{n}"), format!("job-{n}"));
            let (uid, state) = (other.uid.clone(), State::from(other.phase));
            let found = Other { id: id.clone(), name: name.clone(), uid, state };
            [(Reference::Name(name), found.clone()), (Reference::Id(id), found)]
        });
        let patience = Patience { since: Timestamp::UNIX_EPOCH, limit: None, now: Timestamp::UNIX_EPOCH };
        let look = of_jobs(&self.dependencies(n), false, &job.notes, &others.collect(), patience);
        let (phase, reason) = match (self.graph.circle(&job.uid), look.verdict) {
            (Some(circle), _) => {
                let way = circle.way(&job.uid);
                self.check_way(n, way);
                (Phase::Failed, reason::dependency_circle(way))
            }
            (None, Verdict::Satisfied) => (Phase::Runnable, String::new()),
            (None, Verdict::Pending(wait)) => (Phase::Pending, wait.text),
            (None, Verdict::Failed(why)) => (Phase::Failed, why),
        };
        let next = Job { phase, reason, notes: look.notes, ..job.clone() };
        let changed = (next.phase, &next.notes) != (job.phase, &job.notes);
        self.jobs.insert(n, next);
        if changed {
            self.hear(n, false);
        }
    }

    /// The names of a circle are those of jobs that wait one for the other, from the job to itself.
    fn check_way(&self, job: usize, way: &[String]) {
        let name = format!("job-{job}");
        assert!(way.len() > 1 && way[0] == name && way[way.len() - 1] == name, "{name}: {way:?}");
        for pair in way.windows(2) {
            let from: usize = pair[0].trim_start_matches("job-").parse().expect("a number");
            let edges = &self.manifests[from];
            assert!(edges.iter().any(|(on, _)| format!("job-{on}") == pair[1]), "{way:?}");
        }
    }

    /// Looks at those that are woken, in an order that `seed` tells, until nobody is.
    fn settle(&mut self, mut seed: u64) {
        while !self.woken.is_empty() {
            let place = seed as usize % self.woken.len();
            seed = seed.rotate_right(7) ^ 0x9e37_79b9;
            let n = *self.woken.iter().nth(place).expect("there are so many");
            self.woken.remove(&n);
            self.look(n);
        }
    }
}

/// A job as the naive evaluator knows it. By whom it depends on: the uid that it saw, and how that one ended.
#[derive(Clone, Debug, Default)]
struct Plain {
    uid: String,
    phase: Phase,
    circle: bool,
    saw: BTreeMap<usize, (String, Option<bool>)>,
}

/// All jobs, looked at again and again.
#[derive(Default)]
struct Naive {
    jobs: BTreeMap<usize, Plain>,
}

impl Naive {
    fn remember(&mut self, manifests: &[Manifest]) {
        let now = self.jobs.clone();
        for (n, job) in self.jobs.iter_mut().filter(|(_, job)| job.phase <= Phase::Pending) {
            for (on, _) in &manifests[*n] {
                let Some(other) = now.get(on) else { continue };
                let seen = job.saw.entry(*on).or_insert_with(|| (other.uid.clone(), None));
                if seen.0 == other.uid && seen.1.is_none() && other.phase.is_terminal() {
                    seen.1 = Some(other.phase == Phase::Succeeded);
                }
            }
        }
    }

    fn settle(&mut self, manifests: &[Manifest]) {
        self.refuse_circles(manifests);
        loop {
            self.remember(manifests);
            let before: Vec<Phase> = self.jobs.values().map(|job| job.phase).collect();
            let now = self.jobs.clone();
            for (n, job) in self.jobs.iter_mut().filter(|(_, job)| job.phase <= Phase::Pending) {
                let stands = |on: &usize| match job.saw.get(on) {
                    None => None,
                    Some((_, Some(well))) => Some(*well),
                    Some((uid, None)) => match now.get(on).is_some_and(|other| other.uid == *uid) {
                        true => None,
                        false => Some(false),
                    },
                };
                let all: Vec<Option<bool>> = manifests[*n].iter().map(|(on, _)| stands(on)).collect();
                job.phase = if all.contains(&Some(false)) {
                    Phase::Failed
                } else if all.contains(&None) {
                    Phase::Pending
                } else {
                    Phase::Runnable
                };
            }
            if before == self.jobs.values().map(|job| job.phase).collect::<Vec<_>>() {
                return;
            }
        }
    }

    /// Every job from which a way leads to itself, by looking at all ways.
    fn refuse_circles(&mut self, manifests: &[Manifest]) {
        let is_open = |job: &Plain| job.phase <= Phase::Pending || job.circle;
        let mut leads = [[false; JOBS]; JOBS];
        for (n, job) in self.jobs.iter().filter(|(_, job)| is_open(job)) {
            for (on, _) in &manifests[*n] {
                let other = self.jobs.get(on).filter(|other| is_open(other));
                let same = |other: &Plain| {
                    job.saw.get(on).is_none_or(|(uid, end)| *end != Some(true) && *uid == other.uid)
                };
                leads[*n][*on] |= other.is_some_and(same);
            }
        }
        for over in 0..JOBS {
            for from in 0..JOBS {
                for to in 0..JOBS {
                    leads[from][to] |= leads[from][over] && leads[over][to];
                }
            }
        }
        self.remember(manifests);
        for (n, job) in self.jobs.iter_mut().filter(|(_, job)| job.phase <= Phase::Pending) {
            if leads[*n][*n] {
                (job.phase, job.circle) = (Phase::Failed, true);
            }
        }
    }
}

fn check(manifests: Vec<Manifest>, events: &[(Event, u64)]) {
    let mut naive = Naive::default();
    let mut operator = Operator {
        manifests: manifests.clone(),
        jobs: BTreeMap::new(),
        graph: Graph::default(),
        woken: BTreeSet::new(),
    };
    for (number, (event, seed)) in events.iter().enumerate() {
        let phase = |n: &usize| operator.jobs.get(n).map(|job| job.phase);
        match event {
            Event::Comes(n) if phase(n).is_none() => {
                let uid = format!("uid-{n}-{number}");
                let (phase, reason, notes) = (Phase::Submitted, String::new(), Vec::new());
                operator.jobs.insert(*n, Job { uid: uid.clone(), phase, reason, notes });
                naive.jobs.insert(*n, Plain { uid, ..Plain::default() });
                operator.hear(*n, true);
            }
            Event::Ends(n, well) if phase(n) == Some(Phase::Runnable) => {
                let phase = if *well { Phase::Succeeded } else { Phase::Failed };
                operator.jobs.get_mut(n).expect("it is there").phase = phase;
                naive.jobs.get_mut(n).expect("it is there").phase = phase;
                operator.hear(*n, false);
            }
            Event::IsCancelled(n) if phase(n) == Some(Phase::Pending) => {
                operator.jobs.get_mut(n).expect("it is there").phase = Phase::Failed;
                naive.jobs.get_mut(n).expect("it is there").phase = Phase::Failed;
                operator.hear(*n, false);
            }
            Event::IsDeleted(n) if phase(n).is_some() => {
                let uid = operator.jobs.remove(n).expect("it is there").uid;
                naive.jobs.remove(n);
                operator.graph.remove(&uid);
                operator.wake_others(*n, &uid);
            }
            Event::Comes(_) | Event::Ends(..) | Event::IsCancelled(_) | Event::IsDeleted(_) => continue,
        }
        operator.settle(*seed);
        naive.settle(&manifests);
        for (n, job) in &operator.jobs {
            let want = &naive.jobs[n];
            let got = (job.phase, reason::is_dependency_circle(&job.reason));
            assert_eq!(got, (want.phase, want.circle), "job {n} after event {number}, {event:?}: {job:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases::config(1000))]

    #[test]
    fn every_job_ends_as_the_naive_evaluator_says(
        manifests in manifests(),
        events in prop::collection::vec((event(), any::<u64>()), 1..40),
    ) {
        check(manifests, &events);
    }
}
