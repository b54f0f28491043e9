//! Tests against a real API server without nodes: `cargo xtask test api`.
//!
//! `schema` asks what the API server accepts. `operator` runs the operator as a process and plays
//! scheduler and kubelet itself, so that each step of a job happens when the test says so. `cli` runs
//! `kubectl batch`, `view` asks the leader, `notifier` runs the notifier, and `security` is denied what
//! others may do. `namespaced` runs programs that work for some namespaces only. The tests share a cluster,
//! and nearly all of them an operator; each has a namespace of its own. `karpenter` needs a cluster with Karpenter: `cargo xtask test karpenter`.

mod cli;
mod gateway;
mod karpenter;
mod namespaced;
mod notifier;
mod operator;
mod schema;
mod security;
#[path = "../support/mod.rs"]
mod support;
mod view;
