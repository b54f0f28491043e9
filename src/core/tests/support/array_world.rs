//! The operator around `core::array`, reduced to its order of effects: what must not be lost is stored, then the
//! actions are carried out; the dispatcher makes pods for those that were said to wait. It can be stopped before any
//! single effect: then its memory is lost, and what was stored and the pods are not. Whatever it does is checked
//! against what is stored by then.

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::array::{
    Array, Children, Counterparts, Gate, Order, Pass, Sight, Sights, Waiting, decide, gate,
};
use batchyard_core::job::decide::{Action, Deletion};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{IntentKind, Record};
use batchyard_core::name;
use batchyard_core::pod::PodView;
use jiff::SignedDuration;
use roaring::RoaringBitmap;

use super::sim_cluster::{Cluster, Pod};

const UID: &str = "1d0f3a5c-0000-4000-8000-000000000000";

/// The operator stops here.
struct Crash;

/// An array, the cluster it runs in, and one operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) array: Array,
    pub(crate) order: Order,
    pub(crate) members: RoaringBitmap,
    /// The children of another array, if these wait for them one by one.
    pub(crate) counterparts: Option<Counterparts>,
    /// How many pods there may be at a time.
    pub(crate) room: usize,
    /// Pods are gated until they are on record.
    pub(crate) strict_fencing: bool,
    /// Creates are answered later.
    pub(crate) slow: bool,
    /// So much is done in one look.
    pub(crate) steps: usize,
    /// The next look is at all children.
    pub(crate) is_due: bool,
    /// The operator stops before this many effects from now.
    pub(crate) crash_in: Option<usize>,
    /// What survives the operator: the last record of each child.
    pub(crate) stored: BTreeMap<u32, Record>,
    pub(crate) memory: Option<Children>,
    /// Who may be given a pod, as it was last said.
    pub(crate) published: Waiting,
    pub(crate) in_flight: Vec<(u32, PodView)>,
    pub(crate) counted: BTreeSet<String>,
    /// How many pods each child had.
    pub(crate) made: BTreeMap<u32, usize>,
    pub(crate) crashes: usize,
    pub(crate) effects: usize,
}

pub(crate) fn key(index: u32) -> String {
    name::part(UID, Some(index))
}

fn index_of(pod: &Pod) -> u32 {
    name::whole(&pod.job).1.expect("a child's pod")
}

impl World {
    /// What is known of the children: remembered, or read again.
    pub(crate) fn children(&self) -> Children {
        self.memory.clone().unwrap_or_else(|| {
            let mut children = Children::new(self.members.clone());
            self.stored.iter().for_each(|(index, record)| children.note(*index, record.clone()));
            children
        })
    }

    fn gate(&self, children: &Children) -> Gate {
        gate(children, self.order, self.counterparts.as_slice())
    }

    /// One look at all children, or at these only if nothing is asked for that is about all; true if something came of
    /// it.
    pub(crate) fn look(&mut self, only: Option<&RoaringBitmap>) -> bool {
        let is_asked = !self.array.orders.is_empty() || self.array.refused.is_some();
        let is_due = std::mem::take(&mut self.is_due) || self.memory.is_none();
        let looked = self.try_look(only.filter(|_| !is_asked && !is_due));
        looked.unwrap_or_else(|Crash| self.crash())
    }

    /// The dispatcher makes pods; true if it made any.
    pub(crate) fn dispatch(&mut self) -> bool {
        let dispatched = self.try_dispatch();
        dispatched.unwrap_or_else(|Crash| self.crash())
    }

    fn crash(&mut self) -> bool {
        self.crashes += 1;
        (self.memory, self.crash_in) = (None, None);
        self.published = Waiting::default();
        // A successor begins when the last request of its predecessor has come to its end.
        self.answer();
        true
    }

    fn effect(&mut self) -> Result<(), Crash> {
        if self.crash_in == Some(0) {
            return Err(Crash);
        }
        self.crash_in = self.crash_in.map(|left| left - 1);
        self.effects += 1;
        Ok(())
    }

    fn try_look(&mut self, only: Option<&RoaringBitmap>) -> Result<bool, Crash> {
        let mut children = self.children();
        self.publish(&children);
        let (sights, gate) = (self.sights(&children, only), self.gate(&children));
        let mut pass = decide(self.cluster.now, &self.array, &children, &gate, &sights, only);
        self.check_pass(&children, &pass);
        self.is_due = pass.cut(self.steps);
        if !pass.outcomes.is_empty() || !pass.bulk.is_empty() {
            self.effect()?;
            self.store(&pass);
        }
        let mut moved = self.is_due || !pass.outcomes.is_empty() || !pass.bulk.is_empty();
        let mut actions = pass.actions;
        pass.bulk.iter().for_each(|bulk| children.fail(&bulk.indexes));
        for (index, record, then) in pass.outcomes {
            children.note(index, record);
            actions.extend(then);
        }
        pass.progress.into_iter().for_each(|(index, record)| children.note(index, record));
        self.publish(&children);
        self.check_counts(&children);
        self.memory = Some(children);
        for action in &actions {
            self.effect()?;
            self.check_action(action);
            moved |= match action {
                Action::Delete { pod, uid, how } => self.cluster.delete(pod, uid, *how),
                Action::Ungate { pod, uid } => self.cluster.ungate(pod, uid),
                Action::Start { .. } => panic!("the pods here have one container each"),
                Action::Release { pod, uid } => self.cluster.release(pod, uid),
            };
        }
        Ok(moved)
    }

    /// Says who may be given a pod: nobody who is to end.
    fn publish(&mut self, children: &Children) {
        let mut waiting = children.waiting(&self.gate(children));
        for order in &self.array.orders {
            waiting.fresh -= &order.indexes;
            waiting.again -= &order.indexes;
        }
        self.published = if self.array.refused.is_some() { Waiting::default() } else { waiting };
    }

    fn sights(&self, children: &Children, only: Option<&RoaringBitmap>) -> Sights {
        let mut sights = Sights::new();
        for pod in self.cluster.pods.values() {
            let record = children.record(index_of(pod));
            let is_counted = record.phase().is_terminal() || record.has_counted(&pod.view.uid);
            if !pod.is_live() && is_counted && !pod.view.held {
                continue;
            }
            let Sight { seen, .. } = sights.entry(index_of(pod)).or_default();
            let node = pod.view.node_name.as_ref().and_then(|name| self.cluster.nodes.get(name));
            seen.nodes.extend(node.map(|node| (node.view.name.clone(), node.view.clone())));
            seen.pods.push(pod.view.clone());
        }
        for (index, _) in children.open().iter().filter(|(_, record)| record.current.is_some()) {
            sights.entry(*index).or_default();
        }
        for (index, _) in &self.in_flight {
            sights.entry(*index).or_default().seen.creating = true;
        }
        sights.retain(|index, _| only.is_none_or(|only| only.contains(*index)));
        sights.values_mut().for_each(|sight| sight.seen.refused.clone_from(&self.array.refused));
        sights
    }

    fn store(&mut self, pass: &Pass) {
        let now = self.cluster.now;
        for bulk in &pass.bulk {
            bulk.indexes.iter().for_each(|index| self.store_one(index, bulk.record(now)));
        }
        pass.outcomes.iter().for_each(|(index, record, _)| self.store_one(*index, record.clone()));
    }

    /// An outcome is stored once, in its order, and nothing after the last one.
    fn store_one(&mut self, index: u32, new: Record) {
        let old = self.stored.remove(&index).unwrap_or_default();
        assert!(self.members.contains(index), "{index} is no child");
        assert!(!old.phase().is_terminal(), "{index} ended twice: {old:?} and {new:?}");
        assert!(new.attempts.starts_with(&old.attempts), "{index}: an outcome was rewritten");
        let attempts = new.attempts.len() as u32;
        assert!(attempts <= self.array.strategy.attempts, "{index}: {attempts} attempts");
        assert!(new.attempts.iter().map(|attempt| attempt.attempt).eq(1..=attempts), "{index}: numbering");
        let pods = new.attempts.iter().map(|attempt| &attempt.pod_uid);
        for pod in pods.chain(new.placements.iter().map(|placement| &placement.pod_uid)) {
            assert!(old.has_counted(pod) || self.counted.insert(pod.clone()), "{pod} counts twice");
        }
        let is_told = new.stopped_at.is_some() && new.status_reason.is_some() && new.intent.is_none();
        assert!(!new.phase().is_terminal() || is_told, "{index}: {new:?}");
        self.stored.insert(index, new);
    }

    /// Where something is stored, nothing is done about that child before.
    fn check_pass(&self, children: &Children, pass: &Pass) {
        let mut told = RoaringBitmap::new();
        for bulk in &pass.bulk {
            assert!(told.is_disjoint(&bulk.indexes) && !bulk.indexes.is_empty(), "ended twice: {pass:?}");
            assert!(bulk.indexes.is_subset(&children.untouched()), "ended with a record: {pass:?}");
            told |= &bulk.indexes;
        }
        for index in
            pass.outcomes.iter().map(|(index, ..)| *index).chain(pass.progress.iter().map(|(i, _)| *i))
        {
            assert!(told.insert(index), "{index} is told twice: {pass:?}");
        }
        let outcomes: RoaringBitmap = pass.outcomes.iter().map(|(index, ..)| *index).collect();
        for action in &pass.actions {
            let pod = self.cluster.pods.values().find(|pod| pod.view.uid == action.pod_uid());
            assert!(pod.is_none_or(|pod| !outcomes.contains(index_of(pod))), "done too soon: {action:?}");
        }
    }

    fn check_counts(&self, children: &Children) {
        let tally = children.tally(&self.gate(children));
        let sets: Vec<_> = Phase::ALL.iter().filter_map(|phase| tally.of(*phase)).collect();
        let all = sets.iter().fold(RoaringBitmap::new(), |all, set| all | *set);
        assert_eq!(sets.iter().map(|set| set.len()).sum::<u64>(), self.members.len(), "{tally:?}");
        assert_eq!(all, self.members, "{tally:?}");
        let ended = |phase| {
            let ended = self.stored.iter().filter(|(_, record)| record.phase() == phase);
            ended.map(|(index, _)| *index).collect::<RoaringBitmap>()
        };
        assert_eq!(tally.succeeded, ended(Phase::Succeeded), "what is stored is what is counted");
        assert_eq!(tally.failed, ended(Phase::Failed), "what is stored is what is counted");
    }

    /// Nothing is done to a pod that does not follow from what is stored and what all can see.
    fn check_action(&self, action: &Action) {
        let Some(pod) = self.cluster.pods.values().find(|pod| pod.view.uid == action.pod_uid()) else {
            return;
        };
        let record = self.stored.get(&index_of(pod)).cloned().unwrap_or_default();
        let is_over = record.phase().is_terminal() || record.has_counted(&pod.view.uid);
        let intent = record.intent.as_ref().map(|intent| intent.kind);
        let may = match action {
            Action::Delete { how: Deletion::IfUnbound, .. } => is_over || intent.is_some(),
            Action::Delete { how: Deletion::Graceful, .. } => {
                let ends_it = matches!(intent, Some(IntentKind::Terminate | IntentKind::Timeout));
                is_over || ends_it || self.is_stale(pod, &record)
            }
            Action::Delete { how: Deletion::Forced, .. } | Action::Release { .. } => {
                is_over || self.is_stale(pod, &record)
            }
            Action::Start { .. } => true,
            Action::Ungate { .. } => record.current.is_some_and(|current| current.pod_uid == pod.view.uid),
        };
        assert!(may, "{action:?} of {pod:?} does not follow from {:?}", self.stored.get(&index_of(pod)));
    }

    /// One that was made for an attempt or a placement that is over.
    fn is_stale(&self, pod: &Pod, record: &Record) -> bool {
        (pod.view.attempt, pod.view.placement) < (record.next_attempt(), record.next_placement())
    }

    fn try_dispatch(&mut self) -> Result<bool, Crash> {
        // It has nothing to go by before the first look.
        let Some(children) = self.memory.clone() else { return Ok(false) };
        let pods = || self.cluster.pods.values();
        let flying = || self.in_flight.iter().map(|(index, _)| *index);
        let busy: RoaringBitmap = pods().filter(|pod| pod.is_live()).map(index_of).chain(flying()).collect();
        let is_open = |pod: &&Pod| {
            let record = children.record(index_of(pod));
            !record.phase().is_terminal() && !record.has_counted(&pod.view.uid)
        };
        let out: RoaringBitmap = pods().filter(is_open).map(index_of).chain(busy.iter()).collect();
        let waiting = self.published.again.iter().chain(&self.published.fresh);
        let left = self.room.saturating_sub(busy.len() as usize);
        let next: Vec<_> = waiting.filter(|index| !out.contains(*index)).take(left).collect();
        for index in &next {
            self.effect()?;
            self.check_create(*index);
            let record = children.record(*index);
            let (attempt, placement) = (record.next_attempt(), record.next_placement());
            let name = name::pod("job", UID, Some(*index), attempt, placement);
            let gated = self.strict_fencing;
            self.in_flight.push((*index, PodView { name, attempt, placement, gated, ..PodView::default() }));
            if !self.slow {
                self.answer();
            }
        }
        Ok(!next.is_empty())
    }

    /// A child that has ended, has a pod or waits for others is given none.
    fn check_create(&self, index: u32) {
        let record = self.stored.get(&index).cloned().unwrap_or_default();
        assert!(!record.phase().is_terminal() && record.intent.is_none(), "a pod for {index}: {record:?}");
        let is_there = |pod: &&Pod| pod.is_live() && index_of(pod) == index;
        assert!(!self.cluster.pods.values().any(|pod| is_there(&pod)), "{index} has a pod");
        let phase = |index: u32| self.stored.get(&index).map(Record::phase).unwrap_or_default();
        let mut before = self.members.iter().take_while(|other| *other < index);
        match self.order {
            Order::Any => {}
            Order::Sequential => {
                assert!(before.all(|other| phase(other) == Phase::Succeeded), "{index} does not wait")
            }
            Order::SequentialDespiteFailures => {
                assert!(before.all(|other| phase(other).is_terminal()), "{index} does not wait")
            }
        }
        let counterpart = self.counterparts.iter().all(|others| others.succeeded.contains(index));
        assert!(counterpart, "{index} does not wait for the child of its index");
    }

    /// The creates that are under way are carried out; true if there were any.
    pub(crate) fn answer(&mut self) -> bool {
        let sent = std::mem::take(&mut self.in_flight);
        let any = !sent.is_empty();
        for (index, view) in sent {
            if self.cluster.create(&key(index), view, 1) {
                *self.made.entry(index).or_default() += 1;
            }
        }
        any
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.cluster.now += SignedDuration::from_secs(seconds);
    }

    /// The pod that a child has now.
    pub(crate) fn pod(&mut self, index: u32) -> Option<Pod> {
        self.cluster.pod_of(&key(index), Pod::is_live).ok().cloned()
    }
}
