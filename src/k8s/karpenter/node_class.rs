//! From an environment to the EC2NodeClass of AWS's Karpenter.

use super::node_pool::metadata;
use super::types::{ById, Ec2NodeClassSpec, ImageTerm};
use super::{Ec2NodeClass, makes_node_class};
use crate::crd::ComputeEnvironment;
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::aws_compute::{ComputeResource, ImageKind};

/// The EC2NodeClass of an environment; `None` if it refers to another node class.
pub fn ec2_node_class(environment: &ComputeEnvironment) -> Option<Ec2NodeClass> {
    let spec = &environment.spec;
    let compute = spec.compute_resources.as_ref().filter(|_| makes_node_class(spec))?;
    let by_id = |ids: &[String]| ids.iter().map(|id| ById { id: id.clone() }).collect();
    let (role, instance_profile) = identity(compute.instance_role.as_deref().unwrap_or_default());
    let (ami_selector_terms, ami_family) = images(spec, compute);
    Some(Ec2NodeClass {
        metadata: metadata(environment),
        spec: Ec2NodeClassSpec {
            subnet_selector_terms: by_id(&compute.subnets),
            security_group_selector_terms: by_id(&compute.security_group_ids),
            ami_selector_terms,
            ami_family,
            role,
            instance_profile,
            tags: compute.tags.clone(),
        },
    })
}

/// Members of `computeResources` that an EC2NodeClass cannot be made without and that are missing.
pub fn missing_for_ec2(spec: &ComputeEnvironmentSpec) -> Vec<&'static str> {
    let Some(compute) = spec.compute_resources.as_ref().filter(|_| makes_node_class(spec)) else {
        return Vec::new();
    };
    [
        (compute.subnets.is_empty(), "subnets"),
        (compute.security_group_ids.is_empty(), "securityGroupIds"),
        (compute.instance_role.as_deref().unwrap_or_default().is_empty(), "instanceRole"),
    ]
    .into_iter()
    .filter_map(|(missing, member)| missing.then_some(member))
    .collect()
}

/// Role and instance profile, of which one is named. AWS Batch wants the profile, by name or ARN; the
/// ARN of a role is ours.
fn identity(instance_role: &str) -> (Option<String>, Option<String>) {
    let name = instance_role.rsplit('/').next().unwrap_or_default().to_owned();
    let is_role = instance_role.starts_with("arn:") && instance_role.contains(":role/");
    if is_role { (Some(name), None) } else { (None, Some(name)) }
}

/// Which images, and the family that tells how to start them where they are named by id.
fn images(spec: &ComputeEnvironmentSpec, compute: &ComputeResource) -> (Vec<ImageTerm>, Option<String>) {
    let alias = super::of(spec).and_then(|karpenter| karpenter.ami_alias.clone());
    let configured = compute.ec2_configuration.as_slice();
    let mut kinds = configured.iter().filter_map(|configuration| ImageKind::of(&configuration.image_type));
    let kind = kinds.next().unwrap_or(ImageKind::DEFAULT);
    if let Some(alias) = alias {
        return (vec![ImageTerm::Alias(alias)], None);
    }
    let overrides = configured.iter().filter_map(|configuration| configuration.image_id_override.as_ref());
    let mut ids: Vec<_> = overrides.cloned().map(ImageTerm::Id).collect();
    if ids.is_empty() {
        ids.extend(compute.image_id.clone().filter(|id| !id.is_empty()).map(ImageTerm::Id));
    }
    if ids.is_empty() {
        return (vec![ImageTerm::Alias(format!("{}@latest", kind.alias))], None);
    }
    (ids, Some(kind.family.to_owned()))
}
