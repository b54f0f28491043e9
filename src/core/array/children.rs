//! What is known of the children of an array, and what they come to.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::gate::Gate;
use crate::job::phase::Phase;
use crate::job::record::Record;

/// What is known of the children of an array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    members: RoaringBitmap,
    /// How many the array has: a rerun has more than run.
    size: u32,
    succeeded: RoaringBitmap,
    failed: RoaringBitmap,
    /// Those that have not ended and of which something is known.
    open: BTreeMap<u32, Record>,
}

/// Children that wait for a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Those that had no node yet.
    pub fresh: RoaringBitmap,
    /// Those that are tried again: they go to the front of their queue.
    pub again: RoaringBitmap,
}

impl Children {
    /// Children of these indexes, of which nothing is known: all of an array's, or those that a rerun is about.
    pub fn new(members: RoaringBitmap) -> Self {
        let size = members.max().map_or(0, |last| last + 1);
        Self { members, size, ..Self::default() }
    }

    /// The same of an array that has so many children: those that are no members ended well, in the array of which this
    /// is a rerun.
    pub fn among(self, size: u32) -> Self {
        Self { size: self.size.max(size), ..self }
    }

    /// How many the array has, members or not.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// All there are.
    pub fn members(&self) -> &RoaringBitmap {
        &self.members
    }

    /// Those that ended well.
    pub fn succeeded(&self) -> &RoaringBitmap {
        &self.succeeded
    }

    /// Those that ended in any other way.
    pub fn failed(&self) -> &RoaringBitmap {
        &self.failed
    }

    /// Those that have not ended and of which something is known, in order.
    pub fn open(&self) -> &BTreeMap<u32, Record> {
        &self.open
    }

    /// Those that have not ended.
    pub fn unended(&self) -> RoaringBitmap {
        &self.members - &self.succeeded - &self.failed
    }

    /// Those of which nothing is known.
    pub fn untouched(&self) -> RoaringBitmap {
        let mut untouched = self.unended();
        for index in self.open.keys() {
            untouched.remove(*index);
        }
        untouched
    }

    /// True once all have ended.
    pub fn have_ended(&self) -> bool {
        self.succeeded.len() + self.failed.len() == self.members.len()
    }

    /// Whether one succeeded that has ended.
    pub fn has_succeeded(&self, index: u32) -> Option<bool> {
        match (self.succeeded.contains(index), self.failed.contains(index)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// The record of one: of a child that ended only its phase is known here.
    pub fn record(&self, index: u32) -> Record {
        let phase = |phase| Record { phase: Some(phase), ..Record::default() };
        if self.succeeded.contains(index) {
            return phase(Phase::Succeeded);
        }
        if self.failed.contains(index) || !self.members.contains(index) {
            return phase(Phase::Failed);
        }
        self.open.get(&index).cloned().unwrap_or_else(|| phase(Phase::Runnable))
    }

    /// Something new is known of one. What has ended stays as it ended.
    pub fn note(&mut self, index: u32, record: Record) {
        if !self.members.contains(index) || self.succeeded.contains(index) || self.failed.contains(index) {
            return;
        }
        let _is_new = match record.phase() {
            Phase::Succeeded => self.succeeded.insert(index),
            Phase::Failed => self.failed.insert(index),
            Phase::Submitted | Phase::Pending | Phase::Runnable | Phase::Starting | Phase::Running => {
                self.open.insert(index, record);
                return;
            }
        };
        self.open.remove(&index);
    }

    /// Many have ended without a pod.
    pub fn fail(&mut self, indexes: &RoaringBitmap) {
        let ended = indexes & self.unended();
        self.failed |= &ended;
        self.open.retain(|index, _| !ended.contains(*index));
    }

    /// Those that may be given a pod; a child that has one is among them until it is told here.
    pub fn waiting(&self, gate: &Gate) -> Waiting {
        let mut waiting = Waiting { fresh: self.untouched() & &gate.open, again: RoaringBitmap::new() };
        for (index, record) in &self.open {
            let waits =
                record.phase() == Phase::Runnable && record.current.is_none() && record.intent.is_none();
            // One that ran may go on whatever became of others meanwhile.
            if waits && record.has_had_a_node() {
                waiting.again.insert(*index);
            } else if waits && gate.open.contains(*index) {
                waiting.fresh.insert(*index);
            }
        }
        waiting
    }

    /// Where each is in its life.
    pub fn tally(&self, gate: &Gate) -> Tally {
        let untouched = self.untouched();
        let mut tally = Tally {
            pending: &untouched - &gate.open,
            runnable: untouched & &gate.open,
            succeeded: self.succeeded.clone(),
            failed: self.failed.clone(),
            ..Tally::default()
        };
        for (index, record) in &self.open {
            let set = match record.phase() {
                Phase::Submitted | Phase::Pending => &mut tally.pending,
                Phase::Runnable => &mut tally.runnable,
                Phase::Starting => &mut tally.starting,
                Phase::Running => &mut tally.running,
                Phase::Succeeded => &mut tally.succeeded,
                Phase::Failed => &mut tally.failed,
            };
            set.insert(*index);
        }
        tally
    }

    /// How the array ends, once all children have: FAILED if more failed than are tolerated.
    pub fn outcome(&self, tolerated: u64) -> Option<Phase> {
        let phase = if self.failed.len() > tolerated { Phase::Failed } else { Phase::Succeeded };
        self.have_ended().then_some(phase)
    }
}

/// The children by phase: all of them, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// They wait for other children, or for the children of another array.
    pub pending: RoaringBitmap,
    /// They wait for their turn and for room.
    pub runnable: RoaringBitmap,
    /// Their pods are on a node.
    pub starting: RoaringBitmap,
    /// Their containers run.
    pub running: RoaringBitmap,
    /// Ended well.
    pub succeeded: RoaringBitmap,
    /// Ended in any other way.
    pub failed: RoaringBitmap,
}

impl Tally {
    /// Those in a phase; no child is ever SUBMITTED on its own.
    pub fn of(&self, phase: Phase) -> Option<&RoaringBitmap> {
        match phase {
            Phase::Submitted => None,
            Phase::Pending => Some(&self.pending),
            Phase::Runnable => Some(&self.runnable),
            Phase::Starting => Some(&self.starting),
            Phase::Running => Some(&self.running),
            Phase::Succeeded => Some(&self.succeeded),
            Phase::Failed => Some(&self.failed),
        }
    }

    /// How many are in a phase.
    pub fn count(&self, phase: Phase) -> u64 {
        self.of(phase).map_or(0, RoaringBitmap::len)
    }
}
