//! Whose turn it is to be looked at.
//!
//! kube's controller takes objects in the order in which they were named: 25,000 new jobs of one namespace would hold
//! up the next job of another for minutes. So objects wait here, in lanes that are served in turn, and kube's
//! controller is given no more than it can look at at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// Where an object waits: names from the widest to the narrowest, such as namespace, queue and share. Each level
/// serves what is below it in turn, so that having many queues is no advantage over having one.
pub type Lane = Vec<String>;

/// Objects that wait to be looked at, and those that are under way.
#[derive(Debug)]
pub struct Lanes<T> {
    ring: Ring<T>,
    waiting: HashSet<T>,
    under_way: HashSet<T>,
    most: usize,
}

impl<T: Clone + Eq + Hash> Lanes<T> {
    /// No objects; at most so many shall be under way.
    pub fn new(most: usize) -> Self {
        Self { ring: Ring::default(), waiting: HashSet::new(), under_way: HashSet::new(), most }
    }

    /// The object is to be looked at. One that waits already keeps its place; one that is under way waits for another
    /// look, since what is new may have come too late for this one.
    pub fn push(&mut self, object: T, lane: impl FnOnce(&T) -> Lane) {
        if self.waiting.insert(object.clone()) {
            self.ring.push(&lane(&object), object);
        }
    }

    /// The object whose turn it is, which is under way from now on; none if none waits or too many are under way.
    pub fn take(&mut self) -> Option<T> {
        if self.under_way.len() >= self.most {
            return None;
        }
        let object = self.ring.pop()?;
        self.waiting.remove(&object);
        self.under_way.insert(object.clone());
        Some(object)
    }

    /// The object was looked at, or is gone. Says nothing about one that was not taken from here.
    pub fn done(&mut self, object: &T) {
        self.under_way.remove(object);
    }
}

/// One level of lanes.
#[derive(Debug)]
struct Ring<T> {
    /// What waits at this level, in the order in which it came.
    here: VecDeque<T>,
    /// The levels below that have something waiting.
    below: HashMap<String, Ring<T>>,
    /// Their names; the first one's turn is next.
    turns: VecDeque<String>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { here: VecDeque::new(), below: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Ring<T> {
    fn push(&mut self, lane: &[String], object: T) {
        let Some((name, narrower)) = lane.split_first() else {
            self.here.push_back(object);
            return;
        };
        if !self.below.contains_key(name) {
            self.turns.push_back(name.clone());
        }
        self.below.entry(name.clone()).or_default().push(narrower, object);
    }

    fn pop(&mut self) -> Option<T> {
        if let Some(object) = self.here.pop_front() {
            return Some(object);
        }
        let name = self.turns.pop_front()?;
        let ring = self.below.get_mut(&name)?;
        let object = ring.pop();
        if ring.here.is_empty() && ring.turns.is_empty() {
            self.below.remove(&name);
        } else {
            self.turns.push_back(name);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A name such as `a.x.1`: namespace, queue and number.
    fn lane(object: &&'static str) -> Lane {
        let (lane, _) = object.rsplit_once('.').expect("a lane and a number");
        lane.split('.').map(str::to_owned).collect()
    }

    fn drain(lanes: &mut Lanes<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| lanes.take()).collect()
    }

    #[test]
    fn lanes_are_served_in_turn_on_each_level() {
        let mut lanes = Lanes::new(usize::MAX);
        for object in ["a.x.1", "a.x.2", "a.x.3", "a.y.1", "a.z.1", "b.x.1", "b.x.2", "b.x.3"] {
            lanes.push(object, lane);
        }
        let served = ["a.x.1", "b.x.1", "a.y.1", "b.x.2", "a.z.1", "b.x.3", "a.x.2", "a.x.3"];
        assert_eq!(drain(&mut lanes), served);
        assert!(lanes.ring.below.is_empty() && lanes.ring.turns.is_empty(), "nothing is kept: {lanes:?}");
    }

    #[test]
    fn who_comes_late_waits_for_one_turn_of_the_others() {
        let mut lanes = Lanes::new(1);
        for object in ["a.x.1", "a.x.2", "a.x.3", "a.x.4"] {
            lanes.push(object, lane);
        }
        assert_eq!(lanes.take(), Some("a.x.1"));
        lanes.push("b.x.1", lane);
        assert_eq!(lanes.take(), None, "one is under way");
        lanes.done(&"a.x.1");
        assert_eq!(lanes.take(), Some("a.x.2"));
        lanes.done(&"a.x.2");
        assert_eq!(lanes.take(), Some("b.x.1"));
    }

    #[test]
    fn an_object_waits_once_and_again_while_it_is_under_way() {
        let mut lanes = Lanes::new(2);
        lanes.push("a.x.1", lane);
        lanes.push("a.x.1", lane);
        assert_eq!(drain(&mut lanes), ["a.x.1"]);
        lanes.push("a.x.1", lane);
        assert_eq!(drain(&mut lanes), ["a.x.1"], "news came while it was under way");
        lanes.done(&"a.x.1");
        lanes.done(&"a.x.1");
        lanes.done(&"a.x.2");
        for object in ["a.x.1", "a.x.2", "a.x.3"] {
            lanes.push(object, lane);
        }
        assert_eq!(drain(&mut lanes), ["a.x.1", "a.x.2"], "no more than two at a time");
    }

    /// Namespace, queue and number of an object.
    type Object = (u8, u8, u8);

    #[derive(Clone, Debug)]
    enum Step {
        Push(Object),
        Next,
        Done,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3_u8, 0..3_u8, 0..20_u8).prop_map(Step::Push),
            2 => Just(Step::Next),
            2 => Just(Step::Done),
        ]
    }

    fn lane_of(object: &Object) -> Lane {
        vec![object.0.to_string(), object.1.to_string()]
    }

    proptest! {
        #![proptest_config(crate::cases::config(256))]

        #[test]
        fn nothing_is_lost_or_doubled_and_nobody_waits_for_more_than_a_turn(
            steps in vec(step(), 0..200), most in 1..5_usize,
        ) {
            let mut lanes = Lanes::new(most);
            let mut waiting: Vec<Object> = Vec::new();
            let mut under_way: Vec<Object> = Vec::new();
            // How often another namespace was served since a namespace that waits was.
            let mut passed: HashMap<u8, usize> = HashMap::new();
            for step in steps {
                match step {
                    Step::Push(object) => {
                        lanes.push(object, lane_of);
                        if !waiting.contains(&object) {
                            waiting.push(object);
                        }
                    }
                    Step::Next => {
                        let next = lanes.take();
                        prop_assert_eq!(next.is_some(), !waiting.is_empty() && under_way.len() < most);
                        let Some(next) = next else { continue };
                        let queue = waiting.iter().position(|o| (o.0, o.1) == (next.0, next.1));
                        prop_assert_eq!(queue.map(|at| waiting.remove(at)), Some(next), "first in its queue");
                        if !under_way.contains(&next) {
                            under_way.push(next);
                        }
                        passed.retain(|namespace, _| waiting.iter().any(|o| o.0 == *namespace));
                        passed.remove(&next.0);
                        for namespace in 0..3 {
                            if namespace != next.0 && waiting.iter().any(|o| o.0 == namespace) {
                                *passed.entry(namespace).or_default() += 1;
                            }
                        }
                        prop_assert!(passed.values().all(|times| *times <= 2), "{passed:?}");
                    }
                    Step::Done => {
                        if !under_way.is_empty() {
                            lanes.done(&under_way.remove(0));
                        }
                    }
                }
            }
        }
    }
}
