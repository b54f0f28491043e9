//! The AWS door: the gateway as a process, asked by boto3, the SDK for Rust and, where no client would send such a thing, by hand.
//! It has the rights that the chart gives it, and no others.

mod boto;
pub(crate) mod door;
mod jobs;
mod keys;
mod logs;
mod posts;
mod relay;
mod sdk;
mod security;
mod tls;
