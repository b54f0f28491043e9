//! The decisions of Batchyard as functions over plain data.
#![deny(missing_docs)]

pub mod array;
pub mod capacity;
#[cfg(test)]
#[path = "tests/support/cases.rs"]
mod cases;
pub mod definition;
pub mod dependency;
pub mod job;
pub mod logging;
pub mod name;
pub mod notification;
pub mod order;
pub mod pod;
pub mod queue;
pub mod reason;
pub mod retention;
pub mod session;
pub mod termination;
pub mod waits;
