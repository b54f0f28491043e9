//! Notifications: which follow from what is recorded of a job, who wants them, what stands in them, and how they are
//! delivered. Everything is a function of its arguments; `src/notifier` watches and sends.
//!
//! Nothing is stored for a notification. Which moments a job has been through follows from its record alone
//! ([`moment::moments`]), so that whoever has not been told of some can be told later, with the same id.

pub mod address;
pub mod content;
pub mod delivery;
pub mod mail;
pub mod moment;
pub mod outbox;
pub mod rule;
pub mod text;
