//! Which job runs next, and where: the dispatcher's brain.
//!
//! [`schedule()`] looks at one [`Snapshot`] and answers for every job whose turn comes. It charges what
//! it admits to the snapshot as it goes, so that one cycle never promises the same room twice.

mod line;
pub mod order;
pub mod places;
pub mod resources;
pub mod room;
pub mod schedule;
pub mod share;
pub mod snapshot;
mod turns;
pub mod waiting;

pub use order::Rank;
pub use places::{Place, line_up};
pub use resources::{GPU, Resources};
pub use schedule::{Decisions, Stranded, schedule};
pub use share::{Ledger, Policy, Shares, Usage, Use};
pub use snapshot::{
    Candidate, Environment, Group, NodeRoom, Provisioned, Queue, SessionPort, Snapshot, Tenant, Unbound,
    Verdict,
};
pub use waiting::Waiting;
