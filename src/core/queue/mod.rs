//! Which job runs next, and where: the dispatcher's brain.
//!
//! [`schedule()`] looks at one [`Snapshot`] and answers for every job that waits. It charges what
//! it admits to the snapshot as it goes, so that one cycle never promises the same room twice.

pub mod line;
pub mod order;
pub mod resources;
pub mod schedule;
pub mod snapshot;
mod turns;

pub use line::{Place, line_up};
pub use order::Rank;
pub use resources::Resources;
pub use schedule::{Decisions, schedule};
pub use snapshot::{Candidate, Environment, NodeRoom, Queue, Snapshot, Verdict};
