//! The operator under faults, watched by an observer that asks it nothing:
//! `cargo xtask test faults`.
//!
//! Each test opens an [`arena::Arena`]: an operator behind a [`proxy`] that makes faults, a
//! [`robot`] that plays scheduler and kubelets, and the observer. In it [`stories`] are played, and
//! what becomes of each must be what becomes of it undisturbed. A test that covers a case of the
//! fault list begins with its number; `cargo xtask faults` counts them.

mod api;
mod arena;
mod arrays;
mod bugs;
mod chance;
mod crash;
mod leaders;
mod proxy;
mod robot;
mod soak;
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod watches;
