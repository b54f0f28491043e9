//! Who waits for whom, and who waits in a circle.
//!
//! The graph holds only jobs that depend on others and are not past that: of all others nothing has to be known. What a
//! job waits for never grows, so that a circle is closed by the job that comes last in it, and is looked for only then:
//! from that job forwards and backwards in turns, until one of the two ways ends. A chain of thousands costs little that
//! way, whether it comes from its first job on or from its last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Dependency, Noted, Reference};
use crate::job::phase::Phase;

/// By which one job refers to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The name of its object.
    Name {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Its id.
    Id {
        /// Its namespace.
        namespace: String,
        /// Its id.
        id: String,
    },
    /// The uid of its object, once it was seen.
    Uid(String),
}

impl Key {
    /// All by which others may refer to a job.
    pub fn all_of(namespace: &str, name: &str, id: &str, uid: &str) -> Vec<Self> {
        let namespace = namespace.to_owned();
        vec![
            Self::Name { namespace: namespace.clone(), name: name.to_owned() },
            Self::Id { namespace, id: id.to_owned() },
            Self::Uid(uid.to_owned()),
        ]
    }
}

/// The jobs whose success a job of a namespace has not noted. One that failed is among them: to a job that was refused
/// it is part of the circle still.
pub fn open(namespace: &str, dependencies: &[Dependency], notes: &[Noted]) -> Vec<Key> {
    let namespace = || namespace.to_owned();
    let references = dependencies.iter().filter_map(|dependency| dependency.on.as_ref());
    let open = references.filter_map(|reference| match (super::noted(notes, reference), reference) {
        (Some(note), _) => (note.phase != Some(Phase::Succeeded)).then(|| Key::Uid(note.uid.clone())),
        (None, Reference::Name(name)) => Some(Key::Name { namespace: namespace(), name: name.clone() }),
        (None, Reference::Id(id) | Reference::Child { id, .. }) => {
            Some(Key::Id { namespace: namespace(), id: id.clone() })
        }
    });
    open.collect()
}

/// A job that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The uid of its object.
    pub uid: String,
    /// What people call it.
    pub name: String,
    /// All by which others may refer to it.
    pub is: Vec<Key>,
    /// The jobs whose success it has not seen.
    pub waits_for: Vec<Key>,
    /// It was refused since it lies on a circle: it waits no more, yet the circle is one for those who lie on it, too.
    pub refused: bool,
}

/// Jobs that wait for each other, so that none of them can ever run.
#[derive(Debug)]
pub struct Circle {
    /// The uids of all of them.
    pub jobs: Vec<String>,
    /// For each the names of jobs that wait in a circle, from itself to itself; … for those left out.
    ways: BTreeMap<String, Vec<String>>,
}

impl Circle {
    /// The names on a way from a job of the circle to itself.
    pub fn way(&self, uid: &str) -> &[String] {
        self.ways.get(uid).map(Vec::as_slice).unwrap_or_default()
    }
}

/// In a larger tangle the shortest way is not looked for.
const LARGEST: usize = 64;
/// Names that are shown of a way at its two ends.
const SHOWN: (usize, usize) = (5, 3);
/// What stands for the others.
const GAP: &str = "…";

/// Who waits for whom.
#[derive(Debug, Default)]
pub struct Graph {
    jobs: BTreeMap<String, Waiting>,
    /// The uid of the job that a key means.
    who: BTreeMap<Key, String>,
    /// The uids of those that wait for it.
    waiters: BTreeMap<Key, BTreeSet<String>>,
    circles: BTreeMap<String, Arc<Circle>>,
}

impl Graph {
    /// Takes a job that came, or that waits for less than before.
    pub fn put(&mut self, job: Waiting) {
        if self.jobs.get(&job.uid) == Some(&job) {
            return;
        }
        let uid = job.uid.clone();
        let is_new = self.take_out(&uid).is_none();
        for key in &job.is {
            match key {
                // Of two jobs with one id the older has it.
                Key::Id { .. } => drop(self.who.entry(key.clone()).or_insert_with(|| uid.clone())),
                Key::Name { .. } | Key::Uid(_) => drop(self.who.insert(key.clone(), uid.clone())),
            }
        }
        for key in &job.waits_for {
            self.waiters.entry(key.clone()).or_default().insert(uid.clone());
        }
        self.jobs.insert(uid.clone(), job);
        if is_new {
            self.look_for_circles(&uid);
        }
    }

    /// The job is gone, or waits for no other any more.
    pub fn remove(&mut self, uid: &str) {
        self.take_out(uid);
        self.circles.remove(uid);
    }

    fn take_out(&mut self, uid: &str) -> Option<Waiting> {
        let job = self.jobs.remove(uid)?;
        for key in &job.is {
            if self.who.get(key).is_some_and(|who| who == uid) {
                self.who.remove(key);
            }
        }
        for key in &job.waits_for {
            if let Some(waiters) = self.waiters.get_mut(key) {
                waiters.remove(uid);
                if waiters.is_empty() {
                    self.waiters.remove(key);
                }
            }
        }
        Some(job)
    }

    /// The uids of the jobs that wait for a job that is all this.
    pub fn waiters<'k>(&self, is: impl IntoIterator<Item = &'k Key>) -> BTreeSet<String> {
        let all = is.into_iter().filter_map(|key| self.waiters.get(key)).flatten();
        all.filter(|uid| self.jobs.get(*uid).is_some_and(|job| !job.refused)).cloned().collect()
    }

    /// The circle that a job lies on.
    pub fn circle(&self, uid: &str) -> Option<Arc<Circle>> {
        self.circles.get(uid).cloned()
    }

    /// How many jobs are known.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// True if no job is known.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn look_for_circles(&mut self, uid: &str) {
        let tangle = tangle(uid, |uid| self.next(uid), |uid| self.previous(uid));
        if tangle.is_empty() {
            return;
        }
        let ways = tangle.iter().map(|of| (of.clone(), self.way(of, &tangle))).collect();
        let circle = Arc::new(Circle { jobs: tangle.iter().cloned().collect(), ways });
        self.circles.extend(tangle.into_iter().map(|of| (of, circle.clone())));
    }

    /// The jobs that a job waits for.
    fn next(&self, uid: &str) -> BTreeSet<String> {
        let keys = self.jobs.get(uid).map(|job| job.waits_for.as_slice()).unwrap_or_default();
        keys.iter().filter_map(|key| self.who.get(key)).cloned().collect()
    }

    /// The jobs that wait for a job.
    fn previous(&self, uid: &str) -> BTreeSet<String> {
        let keys = self.jobs.get(uid).map(|job| job.is.as_slice()).unwrap_or_default();
        let meant = keys.iter().filter(|key| self.who.get(*key).is_some_and(|who| who == uid));
        meant.filter_map(|key| self.waiters.get(key)).flatten().cloned().collect()
    }

    /// The names on a way from a job of a tangle to itself.
    fn way(&self, from: &str, tangle: &BTreeSet<String>) -> Vec<String> {
        let name = |uid: &String| self.jobs.get(uid).map_or_else(|| uid.clone(), |job| job.name.clone());
        let next = |uid: &str| self.next(uid).into_iter().filter(|uid| tangle.contains(uid)).collect();
        if tangle.len() > LARGEST {
            // Any job that it waits for within the tangle leads back to it.
            let first: Vec<String> = next(from);
            let names = [from.to_owned()].iter().chain(first.first()).map(name).collect::<Vec<_>>();
            return [names.as_slice(), &[GAP.to_owned(), name(&from.to_owned())]].concat();
        }
        let names: Vec<String> = shortest_way(from, next).iter().map(name).collect();
        match names.len() > SHOWN.0 + SHOWN.1 + 1 {
            true => [&names[..SHOWN.0], &[GAP.to_owned()], &names[names.len() - SHOWN.1..]].concat(),
            false => names,
        }
    }
}

/// The nodes that lie on a way from `start` to itself, `start` among them; none if there is no such way. The two
/// closures tell the nodes behind and before a node.
pub fn tangle(
    start: &str,
    next: impl Fn(&str) -> BTreeSet<String>,
    previous: impl Fn(&str) -> BTreeSet<String>,
) -> BTreeSet<String> {
    let (mut forwards, mut backwards) = (Reach::of(start), Reach::of(start));
    // The shorter way decides whether there is a circle at all.
    while forwards.step(start, &next) && backwards.step(start, &previous) {}
    if !forwards.came_back && !backwards.came_back {
        return BTreeSet::new();
    }
    while forwards.step(start, &next) {}
    while backwards.step(start, &previous) {}
    forwards.seen.into_iter().filter(|node| backwards.seen.contains(node)).collect()
}

/// What is reached from a node in one direction.
struct Reach {
    seen: BTreeSet<String>,
    open: VecDeque<String>,
    came_back: bool,
}

impl Reach {
    fn of(start: &str) -> Self {
        let start = start.to_owned();
        Self { seen: BTreeSet::from([start.clone()]), open: VecDeque::from([start]), came_back: false }
    }

    /// Goes one node further; false if there is none.
    fn step(&mut self, start: &str, neighbours: impl Fn(&str) -> BTreeSet<String>) -> bool {
        let Some(node) = self.open.pop_front() else { return false };
        for neighbour in neighbours(&node) {
            self.came_back |= neighbour == start;
            if self.seen.insert(neighbour.clone()) {
                self.open.push_back(neighbour);
            }
        }
        true
    }
}

/// The shortest way from a node to itself, both ends included; of several the first by the nodes' order. Of nodes
/// without such a way the node alone.
fn shortest_way(start: &str, next: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut came_from: BTreeMap<String, String> = BTreeMap::new();
    let mut open = VecDeque::from([start.to_owned()]);
    while let Some(node) = open.pop_front() {
        for neighbour in next(&node) {
            if neighbour == start {
                let mut way = vec![start.to_owned()];
                let mut at = &node;
                while at != start {
                    way.push(at.clone());
                    let Some(before) = came_from.get(at) else { break };
                    at = before;
                }
                way.push(start.to_owned());
                way.reverse();
                return way;
            }
            if !came_from.contains_key(&neighbour) {
                came_from.insert(neighbour.clone(), node.clone());
                open.push_back(neighbour);
            }
        }
    }
    vec![start.to_owned()]
}
