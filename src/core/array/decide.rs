//! One look at all children of an array about which there is something to decide.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;

use super::children::Children;
use super::gate::Gate;
use crate::job::decide::{self as job, Action, Decision, Job, Readiness, Seen};
use crate::job::phase::Phase;
use crate::job::record::{IntentKind, Record};
use crate::job::retry::RetryStrategy;
use crate::reason;
use crate::termination::Tolerances;

/// What was asked for of an array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// The retry strategy of each child.
    pub strategy: RetryStrategy,
    /// The timeout of each attempt of each child.
    pub timeout: Option<SignedDuration>,
    /// Orders to end children, the first that names a child counts.
    pub orders: Vec<ChildOrder>,
    /// Why the API server will never accept the pod of a child: they differ by their index only.
    pub refused: Option<String>,
}

/// An order to end children: of the whole array, or of `childActions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildOrder {
    /// Which children.
    pub indexes: RoaringBitmap,
    /// Cancel or terminate.
    pub kind: IntentKind,
    /// Becomes their statusReason.
    pub reason: String,
}

/// What is seen of the children that have pods, or may have, by index. The others have none.
pub type Sights = BTreeMap<u32, Sight>;

/// What is seen of one child.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Its pods and their nodes.
    pub seen: Seen,
    /// How long trouble is put up with where it is.
    pub tolerances: Tolerances,
}

/// What came of one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// Children of which something has to be stored before anything else is done about them, and what is done then.
    pub outcomes: Vec<(u32, Record, Vec<Action>)>,
    /// Children that ended without a pod, by why.
    pub bulk: Vec<Bulk>,
    /// Children that went on: it is enough to remember this.
    pub progress: Vec<(u32, Record)>,
    /// What can be done now.
    pub actions: Vec<Action>,
    /// When to look again although nothing happens.
    pub wake: Option<Timestamp>,
    /// The nodes of some do not answer.
    pub unreachable: bool,
}

/// Children that ended alike, without a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulk {
    /// Which ones.
    pub indexes: RoaringBitmap,
    /// Why.
    pub reason: String,
    /// They were ended by an order of this kind; else because of what they depend on.
    pub order: Option<IntentKind>,
}

/// Decides the next step of every child that has one; of those at work, `only` of these, if it says so.
pub fn decide(
    now: Timestamp,
    array: &Array,
    children: &Children,
    gate: &Gate,
    sights: &Sights,
    only: Option<&RoaringBitmap>,
) -> Pass {
    let mut pass = Pass::default();
    let mut untouched = children.untouched();
    for index in sights.keys() {
        untouched.remove(*index);
    }
    for order in &array.orders {
        pass.end(&mut untouched, &order.indexes, &order.reason, Some(order.kind));
    }
    pass.end(&mut untouched, &gate.doomed, reason::DEPENDENT_FAILED, None);
    if let Some(why) = &array.refused {
        pass.end(&mut untouched.clone(), &untouched, why, None);
    }
    let mut at_work: RoaringBitmap = children.open().keys().chain(sights.keys()).copied().collect();
    if let Some(only) = only {
        at_work &= only;
    }
    // One without pods may be refused its next one like those that never had any.
    let unseen = Sight {
        seen: Seen { refused: array.refused.clone(), ..Seen::default() },
        tolerances: Tolerances::default(),
    };
    for index in at_work {
        let record = children.record(index);
        let Sight { seen, tolerances } = sights.get(&index).unwrap_or(&unseen);
        let ready = Readiness::Ready(String::new());
        let decision = job::decide(now, &array.job(index, &record, seen), &ready, &record, seen, tolerances);
        pass.take(now, index, &record, decision);
    }
    pass
}

impl Array {
    fn job(&self, index: u32, record: &Record, seen: &Seen) -> Job {
        let mut pods = seen.pods.iter().filter(|pod| !record.has_counted(&pod.uid));
        let is_bound = record.is_bound() || pods.any(|pod| pod.node_name.is_some());
        // A cancel that came too late is not in the way of a terminate.
        let acts = |order: &&ChildOrder| order.kind != IntentKind::Cancel || !is_bound;
        let orders = || self.orders.iter().filter(|order| order.indexes.contains(index));
        let order = orders().find(acts).or_else(|| orders().next());
        let of_kind = |kind| order.filter(|order| order.kind == kind).map(|order| order.reason.clone());
        Job {
            strategy: self.strategy.clone(),
            timeout: self.timeout,
            terminate: of_kind(IntentKind::Terminate),
            cancel: of_kind(IntentKind::Cancel),
            ..Job::default()
        }
    }
}

impl Pass {
    /// Leaves some for the next look, if there is more to store or to do than this. Says whether it did.
    pub fn cut(&mut self, most: usize) -> bool {
        let is_cut = self.outcomes.len() > most || self.actions.len() > most;
        self.outcomes.truncate(most);
        self.actions.truncate(most);
        is_cut
    }

    fn end(
        &mut self,
        left: &mut RoaringBitmap,
        these: &RoaringBitmap,
        reason: &str,
        order: Option<IntentKind>,
    ) {
        let indexes = &*left & these;
        if !indexes.is_empty() {
            *left -= &indexes;
            self.bulk.push(Bulk { indexes, reason: reason.to_owned(), order });
        }
    }

    fn take(&mut self, now: Timestamp, index: u32, before: &Record, decision: Decision) {
        let Decision { record, mut actions, wake, unreachable } = decision;
        self.wake = [self.wake, wake].into_iter().flatten().min();
        self.unreachable |= unreachable;
        if must_be_stored(before, &record, &actions) {
            if record.intent.is_some() && actions.is_empty() {
                // Once it is stored it can be carried out, and nobody else may come to say so.
                self.wake = Some(now);
            }
            self.outcomes.push((index, record, actions));
            return;
        }
        if record != *before {
            self.progress.push((index, record));
        }
        self.actions.append(&mut actions);
    }
}

/// True if what is new would be lost with a pod, a node or this process: an outcome, an order that is about to be carried
/// out, or the pod that alone may run (`strictFencing`). Where a child is on its way its pod tells again.
fn must_be_stored(before: &Record, now: &Record, actions: &[Action]) -> bool {
    let is_gate = |action: &Action| matches!(action, Action::Ungate { .. });
    now.attempts.len() != before.attempts.len()
        || now.placements != before.placements
        || now.intent != before.intent
        || (now.phase() != before.phase() && now.phase().is_terminal())
        || (now.current != before.current && actions.iter().any(is_gate))
}

impl Bulk {
    /// The record of each of them.
    pub fn record(&self, now: Timestamp) -> Record {
        Record {
            phase: Some(Phase::Failed),
            status_reason: Some(self.reason.clone()),
            stopped_at: Some(now),
            is_cancelled: (self.order == Some(IntentKind::Cancel)).then_some(true),
            is_terminated: (self.order == Some(IntentKind::Terminate)).then_some(true),
            ..Record::default()
        }
    }
}
