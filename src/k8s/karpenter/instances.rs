//! `instanceTypes`: AWS lists types and families side by side, and a node is one of them. Karpenter
//! wants all its requirements met, so a list that has both is told to the pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::NodeSelectorRequirement;

use super::{AWS, AWS_AUTO};
use crate::crd::ComputeEnvironmentSpec;
use crate::crd::compute_environment::NodeRequirement;

/// Labels that tell machines apart on one cloud, and how its types are written.
struct Cloud {
    /// API group of its node classes.
    group: &'static str,
    /// Label of a machine's family.
    family: &'static str,
    /// What stands after the family in the name of a type. A word without it is a family.
    separator: char,
    /// Whether its families are AWS's, of which `optimal` is a choice; the labels of the choice.
    general: Option<(&'static str, &'static str)>,
}

/// From the documentation of each provider of Karpenter.
const CLOUDS: [Cloud; 5] = [
    Cloud {
        group: AWS,
        family: "karpenter.k8s.aws/instance-family",
        separator: '.',
        general: Some(("karpenter.k8s.aws/instance-category", "karpenter.k8s.aws/instance-generation")),
    },
    Cloud {
        group: AWS_AUTO,
        family: "eks.amazonaws.com/instance-family",
        separator: '.',
        general: Some(("eks.amazonaws.com/instance-category", "eks.amazonaws.com/instance-generation")),
    },
    Cloud {
        group: "karpenter.azure.com",
        family: "karpenter.azure.com/sku-family",
        separator: '_',
        general: None,
    },
    Cloud {
        group: "karpenter.k8s.gcp",
        family: "karpenter.k8s.gcp/instance-family",
        separator: '-',
        general: None,
    },
    Cloud {
        group: "karpenter.kwok.sh",
        family: "karpenter.kwok.sh/instance-family",
        separator: '.',
        general: None,
    },
];

/// The label of a machine's type, on every cloud.
const TYPE: &str = "node.kubernetes.io/instance-type";
/// The label of a machine's processor, on every cloud.
const ARCHITECTURE: &str = "kubernetes.io/arch";
/// Words that leave the choice to AWS, and the processor that they mean.
const ANY: [(&str, &str); 3] =
    [("optimal", "amd64"), ("default_x86_64", "amd64"), ("default_arm64", "arm64")];
/// The categories that AWS chooses from: compute, general purpose, memory.
const CATEGORIES: [&str; 3] = ["c", "m", "r"];
/// Older generations than the one after this are not chosen.
const GENERATION_ABOVE: &str = "3";

/// What every node of the environment meets.
pub(super) fn requirements(spec: &ComputeEnvironmentSpec) -> Vec<NodeRequirement> {
    let list = List::of(spec);
    let mut groups = list.groups();
    match (groups.len(), list.cloud.filter(|_| list.any.is_empty())) {
        (1, _) => groups.remove(0),
        // All that any of them could be; the pods choose.
        (_, Some(cloud)) => {
            let family = |kind: &&str| kind.split(cloud.separator).next().unwrap_or_default().to_owned();
            let families: BTreeSet<_> = list.types.iter().chain(&list.families).map(family).collect();
            vec![one_of(cloud.family, families)]
        }
        (_, None) => Vec::new(),
    }
}

/// Node selector terms, one of which a node has to meet besides, where the list has types beside
/// families: the first is tried first. Empty where that adds nothing.
pub fn alternatives(spec: &ComputeEnvironmentSpec) -> Vec<Vec<NodeSelectorRequirement>> {
    let groups = List::of(spec).groups();
    if groups.len() < 2 {
        return Vec::new();
    }
    let term = |group: Vec<NodeRequirement>| group.into_iter().map(selector).collect();
    groups.into_iter().map(term).collect()
}

fn selector(requirement: NodeRequirement) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: requirement.key,
        operator: requirement.operator,
        values: Some(requirement.values),
    }
}

/// An environment's list, sorted by what its words are.
struct List<'s> {
    cloud: Option<&'static Cloud>,
    types: Vec<&'s str>,
    families: Vec<&'s str>,
    /// Processors of the words that leave the choice to AWS.
    any: BTreeSet<&'static str>,
}

impl<'s> List<'s> {
    fn of(spec: &'s ComputeEnvironmentSpec) -> Self {
        let karpenter = super::of(spec);
        let class = karpenter.and_then(|karpenter| karpenter.node_class_ref.as_ref());
        let group = class.map_or(AWS, |class| class.group.as_str());
        let cloud = CLOUDS.iter().find(|cloud| cloud.group == group);
        let mut list = Self { cloud, types: Vec::new(), families: Vec::new(), any: BTreeSet::new() };
        let words = spec.compute_resources.as_ref().map(|compute| compute.instance_types.as_slice());
        for word in words.unwrap_or_default() {
            match (ANY.iter().find(|(any, _)| any == word), cloud) {
                (Some((_, architecture)), _) => {
                    list.any.insert(architecture);
                }
                (None, Some(cloud)) if !word.contains(cloud.separator) => list.families.push(word),
                (None, _) => list.types.push(word),
            }
        }
        if list.types.is_empty() && list.families.is_empty() && list.any.is_empty() {
            list.any.insert(ANY[0].1);
        }
        list
    }

    /// Requirements of the types, of the families, and of what is left to AWS.
    fn groups(&self) -> Vec<Vec<NodeRequirement>> {
        let mut groups = Vec::new();
        if !self.types.is_empty() {
            groups.push(vec![one_of(TYPE, &self.types)]);
        }
        if let Some(cloud) = self.cloud.filter(|_| !self.families.is_empty()) {
            groups.push(vec![one_of(cloud.family, &self.families)]);
        }
        if !self.any.is_empty() {
            let mut any = vec![one_of(ARCHITECTURE, &self.any)];
            if let Some((category, generation)) = self.cloud.and_then(|cloud| cloud.general) {
                any.push(one_of(category, CATEGORIES));
                let values = vec![GENERATION_ABOVE.to_owned()];
                any.push(NodeRequirement {
                    key: generation.to_owned(),
                    operator: "Gt".to_owned(),
                    values,
                    min_values: None,
                });
            }
            groups.push(any);
        }
        groups
    }
}

/// A node's label has one of these values.
pub(super) fn one_of(key: &str, values: impl IntoIterator<Item = impl ToString>) -> NodeRequirement {
    let values = values.into_iter().map(|value| value.to_string()).collect();
    NodeRequirement { key: key.to_owned(), operator: "In".to_owned(), values, min_values: None }
}
