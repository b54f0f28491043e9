//! One job: its phases, its attempts, and what to do next.

pub mod clocks;
pub mod decide;
pub mod gang;
mod outcome;
pub mod phase;
pub mod record;
pub mod retry;
pub mod rules;
