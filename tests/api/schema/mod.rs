//! What the API server accepts and refuses, and how people get the kinds into it.

mod answers;
mod cases;
mod install;
mod kubectl;
mod posts;
