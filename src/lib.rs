//! Batchyard: AWS Batch semantics for any Kubernetes cluster.
//!
//! ARCHITECTURE.md has the map. The rooms, from the outside in: [`operator`] starts what runs,
//! [`controllers`] look at one object at a time, [`dispatcher`] looks at all queues at once, [`view`]
//! tells people what the dispatcher knows, [`notifier`] is a program of its own that sends what happens to jobs,
//! [`gateway`] is another that speaks AWS's API, [`log_follow`] a third, in pods of jobs, that follows their output, [`k8s`] sees and writes API objects, [`crd`] holds the wire
//! types, and `batchyard_core` decides.

#[cfg(test)]
#[path = "core/tests/support/cases.rs"]
mod cases;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod controllers;
pub mod crd;
pub mod dispatcher;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../fuzz/mod.rs"]
mod fuzz;
pub mod gateway;
pub mod k8s;
pub mod log_follow;
pub mod metrics;
pub mod notifier;
pub mod operator;
pub mod program;
pub mod seeded_bugs;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod view;
