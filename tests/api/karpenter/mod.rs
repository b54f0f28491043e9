//! Environments whose nodes Karpenter makes, with the real Karpenter on fake nodes: `cargo xtask test
//! karpenter`. Nobody is played here: kube-scheduler binds, Karpenter makes and removes nodes, kwok
//! plays their kubelets. To add a case, make an [`Environment`] and submit jobs to it.

mod capacity;
mod environment;
mod schema;
