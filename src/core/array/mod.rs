//! An array job: many jobs that differ by their index, in one object
//! (<https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html>).
//!
//! A child is a job like any other: [`decide`] asks [`crate::job::decide`] about each of them. What this adds is how
//! thousands of them are remembered at the price of those that do something ([`Children`]), which of them may run
//! ([`gate`]), and what they come to ([`Children::tally`], [`Children::outcome`]): always recounted, never added to.
//!
//! A child of which nothing is known waits, and costs nothing. One that has ended is a bit. Of one that is at work, or
//! is to be tried again, there is a record.

mod children;
mod decide;
mod end;
mod gate;
pub mod indexes;
mod others;
mod wait;

pub use children::{Children, Tally, Waiting};
pub use decide::{Array, Bulk, ChildOrder, Pass, Sight, Sights, decide};
pub use end::{end, intent};
pub use gate::{Counterparts, Gate, Order, gate};
pub use others::{Other, Pairs, pairs, rerun};
pub use wait::{Standing, give_up, say_why};
