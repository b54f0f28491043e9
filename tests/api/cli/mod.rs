//! `kubectl batch` against a real API server, as a process of its own. What it prints is compared word for
//! word, with what differs from run to run masked.

pub(crate) mod program;

mod children;
mod listing;
mod migrating;
mod orders;
mod submitting;
mod telling;
mod wrong;
