//! What the API server accepts and refuses, and how people get the kinds into it.

mod answers;
mod cases;
mod edits;
mod install;
mod kubectl;
mod posts;
