//! What the tests against a cluster share.
#![allow(dead_code)] // each test target uses a part of it

pub(crate) mod audit;
pub(crate) mod client;
pub(crate) mod mail;
pub(crate) mod nodes;
pub(crate) mod notifier;
pub(crate) mod operator;
pub(crate) mod program;
pub(crate) mod receiver;
pub(crate) mod roles;
pub(crate) mod wait;
