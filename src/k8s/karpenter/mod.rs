//! Nodes that Karpenter makes for an environment: from a ComputeEnvironment to a NodePool and, on
//! AWS, an EC2NodeClass (<https://karpenter.sh/docs/concepts/nodepools/>). Pure.
//!
//! Both belong to the operator as a whole: they are applied by force, and what others change in them
//! is put back. The environment is the place to change anything.

mod instances;
mod node_class;
mod node_pool;
mod types;

#[cfg(test)]
mod tests;

pub use instances::alternatives;
pub use node_class::{ec2_node_class, missing_for_ec2};
pub use node_pool::{node_pool, owner, taints};
pub use types::{Ec2NodeClass, NodePool, NodePoolStatus};

use crate::crd::ComputeEnvironmentSpec;
use crate::crd::compute_environment::Karpenter;

/// Label of a node: the NodePool that it was made for.
pub const NODE_POOL: &str = "karpenter.sh/nodepool";
/// What Karpenter's own labels and taints begin with.
pub const DOMAIN: &str = "karpenter.sh/";
/// Label of a node: `spot` or `on-demand`.
pub(super) const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// API group of the node classes of AWS's Karpenter.
const AWS: &str = "karpenter.k8s.aws";
/// The same of EKS's auto mode.
const AWS_AUTO: &str = "eks.amazonaws.com";

/// What an environment says of Karpenter, if its nodes come from there.
pub fn of(spec: &ComputeEnvironmentSpec) -> Option<&Karpenter> {
    spec.provisioner.as_ref()?.karpenter.as_ref()
}

/// True if Karpenter chooses among the instance types of AWS for the environment.
pub fn chooses_aws_types(spec: &ComputeEnvironmentSpec) -> bool {
    of(spec).is_some_and(|karpenter| {
        let group = karpenter.node_class_ref.as_ref().map_or(AWS, |class| class.group.as_str());
        [AWS, AWS_AUTO].contains(&group)
    })
}

/// True if an EC2NodeClass is made from the environment, since it refers to no node class.
pub fn makes_node_class(spec: &ComputeEnvironmentSpec) -> bool {
    of(spec).is_some_and(|karpenter| karpenter.node_class_ref.is_none())
}
