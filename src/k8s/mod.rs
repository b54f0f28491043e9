//! The edge to Kubernetes: what is seen of it, what is built for it, and the only writes to it.

pub mod access;
pub mod apply;
pub mod arrays;
pub mod backoff;
pub mod build;
pub mod caches;
pub mod dependents;
pub mod error;
pub mod events;
pub mod gangs;
pub mod guard;
pub mod karpenter;
pub mod lease;
pub mod marks;
pub mod meta;
pub mod notices;
pub mod observe;
pub mod order;
pub mod own_writes;
pub mod placeholder;
pub mod pods;
pub mod pool;
pub(crate) mod quantity;
pub mod read;
pub mod tokens;
pub mod watch;
