//! Which children of an array may run, by what has become of others.

use roaring::RoaringBitmap;

use super::children::Children;
use super::indexes::MAX_SIZE;

/// Which children may run, and which never will.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gate {
    /// What they depend on has succeeded.
    pub open: RoaringBitmap,
    /// What they depend on has failed.
    pub doomed: RoaringBitmap,
}

/// How the children of an array wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// They do not.
    #[default]
    Any,
    /// `SEQUENTIAL`: each for the one before it to succeed.
    Sequential,
    /// The same, and a child that fails does not hold up the next. Not in AWS.
    SequentialDespiteFailures,
}

/// The children of another array, for `N_TO_N`: each child waits for the one with its index there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counterparts {
    /// Those that ended well.
    pub succeeded: RoaringBitmap,
    /// Those that ended in any other way.
    pub failed: RoaringBitmap,
}

impl Counterparts {
    /// The children of another array as they are now. Those that a rerun is not about ended well before it. Indexes that
    /// the array does not have never end well: who waits for one of them would wait for ever.
    pub fn of(children: &Children) -> Self {
        let before = (0..children.size()).collect::<RoaringBitmap>() - children.members();
        let lacking: RoaringBitmap = (children.size()..MAX_SIZE).collect();
        Self { succeeded: before | children.succeeded(), failed: lacking | children.failed() }
    }
}

/// Which children may run now.
pub fn gate(children: &Children, order: Order, counterparts: &[Counterparts]) -> Gate {
    let members = children.members();
    let mut gate = Gate { open: members.clone(), doomed: RoaringBitmap::new() };
    for other in counterparts {
        gate.open &= &other.succeeded;
        gate.doomed |= members & &other.failed;
    }
    match order {
        Order::Any => {}
        Order::Sequential => {
            if let Some(failed) = children.failed().min() {
                let mut behind = members.clone();
                behind.remove_range(..=failed);
                gate.doomed |= behind;
            }
            gate.open &= next(children);
        }
        Order::SequentialDespiteFailures => gate.open &= next(children),
    }
    gate.open -= &gate.doomed;
    gate
}

/// Those that ended and the first that has not: all before that one have.
fn next(children: &Children) -> RoaringBitmap {
    let unended = children.unended();
    let mut reached = children.members() - &unended;
    if let Some(first) = unended.min() {
        reached.insert(first);
    }
    reached
}
