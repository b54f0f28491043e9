//! The operator at work. To add a case, make a [`world::World`], submit jobs, and say step by step
//! what scheduler and kubelet do.

mod arrays;
mod capacity;
mod containers;
mod defaults;
mod definitions;
mod dependencies;
mod endings;
mod faults;
mod fencing;
mod gangs;
pub(crate) mod kubelet;
mod lifecycle;
mod logging;
mod many;
mod pods;
mod queues;
mod replay;
mod requirements;
mod retention;
mod sessions;
mod sharing;
mod waiting;
pub(crate) mod world;
mod writes;
pub(crate) use world::merge;
