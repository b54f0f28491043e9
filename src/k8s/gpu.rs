//! GPUs: the resource that an environment counts them by, what lets its pods onto nodes that have some, and which
//! instance types never have any. Pure.
//!
//! Which devices a container gets, and the variables that say so, are left to the device plugin.

use batchyard_core::queue;
use k8s_openapi::api::core::v1::Toleration;

use super::karpenter;
use crate::crd::ComputeEnvironmentSpec;

/// The extended resource that GPUs of an environment are requested by.
pub fn resource(environment: &ComputeEnvironmentSpec) -> &str {
    other(environment).unwrap_or(queue::GPU)
}

/// The same, if it is another than the usual one.
pub fn other(environment: &ComputeEnvironmentSpec) -> Option<&str> {
    let stated = environment.gpu.as_ref().and_then(|gpu| gpu.resource_name.as_deref());
    stated.filter(|name| !name.is_empty() && *name != queue::GPU)
}

/// The RuntimeClass of all pods of an environment, if its GPUs need one.
pub fn runtime_class(environment: &ComputeEnvironmentSpec) -> Option<&str> {
    environment.gpu.as_ref()?.runtime_class_name.as_deref().filter(|name| !name.is_empty())
}

/// What lets every pod of an environment that has GPUs onto its nodes, also those of jobs that ask for none: device
/// plugins and managed services keep other pods off by a taint that bears the resource's name, or `DOMAIN/gpu`
/// where GPUs are parts of one.
pub fn tolerations(environment: &ComputeEnvironmentSpec) -> Vec<Toleration> {
    if !has(environment) {
        return Vec::new();
    }
    let resource = resource(environment);
    let whole = resource.split_once('/').map(|(domain, _)| format!("{domain}/gpu"));
    let whole = whole.filter(|whole| whole != resource);
    let exists = |key: String| Toleration {
        key: Some(key),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    };
    let mut tolerations: Vec<_> = std::iter::once(resource.to_owned()).chain(whole).map(exists).collect();
    tolerations.extend(environment.gpu.iter().flat_map(|gpu| gpu.tolerations.clone()));
    tolerations
}

/// True for an environment that says what its GPUs are, or of which some instance type is known to have some.
fn has(environment: &ComputeEnvironmentSpec) -> bool {
    environment.gpu.is_some() || types(environment).iter().any(|kind| is_gpu_type(kind))
}

/// True if no node that Karpenter makes for the environment can have GPUs. Of nodes that somebody else makes nobody
/// knows.
pub fn never_has(environment: &ComputeEnvironmentSpec) -> bool {
    karpenter::chooses_aws_types(environment)
        && environment.gpu.is_none()
        && types(environment).iter().all(|kind| is_choice(kind) || is_aws(kind) && !is_gpu_type(kind))
}

fn types(environment: &ComputeEnvironmentSpec) -> &[String] {
    environment
        .compute_resources
        .as_ref()
        .map(|compute| compute.instance_types.as_slice())
        .unwrap_or_default()
}

/// Words that leave the choice to AWS, which then takes none with GPUs.
fn is_choice(kind: &str) -> bool {
    ["optimal", "default_x86_64", "default_arm64"].contains(&kind)
}

/// A family or type as AWS writes it, such as `m5` or `m5.xlarge`.
fn is_aws(kind: &str) -> bool {
    let family = kind.split('.').next().unwrap_or_default();
    let letters = family.trim_start_matches(|c: char| c.is_ascii_lowercase());
    letters.len() < family.len() && letters.starts_with(|c: char| c.is_ascii_digit())
}

/// True for families and types whose names say that they have GPUs: AWS's p, g and gr
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-types.html>), Azure's NC, ND, NG and NV
/// (<https://learn.microsoft.com/en-us/azure/virtual-machines/sizes/overview>), and Google's a2 and later, g2 and later
/// (<https://cloud.google.com/compute/docs/gpus>).
fn is_gpu_type(kind: &str) -> bool {
    let size = kind.strip_prefix("Standard_").unwrap_or(kind);
    if ["NC", "ND", "NG", "NV"].iter().any(|family| size.starts_with(family)) {
        return true;
    }
    let digit = |rest: &str, least: char| rest.starts_with(|c: char| c.is_ascii_digit() && c >= least);
    let google = kind.split_once('-').is_some_and(|(family, _)| {
        family.strip_prefix('a').is_some_and(|rest| digit(rest, '2'))
            || family.strip_prefix('g').is_some_and(|rest| digit(rest, '2'))
    });
    google
        || ["gr", "g", "p"]
            .iter()
            .any(|family| kind.strip_prefix(family).is_some_and(|rest| digit(rest, '0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn environment(types: &[&str], more: Value) -> ComputeEnvironmentSpec {
        let mut spec = json!({"type": "MANAGED",
            "computeResources": {"type": "EC2", "maxvCpus": 8, "instanceTypes": types}});
        more.as_object().into_iter().flatten().for_each(|(name, value)| spec[name] = value.clone());
        serde_json::from_value(spec).expect("an environment")
    }

    fn keys(environment: &ComputeEnvironmentSpec) -> Vec<String> {
        tolerations(environment).into_iter().filter_map(|toleration| toleration.key).collect()
    }

    #[test]
    fn types_with_gpus() {
        for kind in [
            "g4dn.xlarge",
            "g4dn",
            "p3.2xlarge",
            "p5en.48xlarge",
            "p6-b200.48xlarge",
            "gr6.4xlarge",
            "g5g",
            "Standard_NC6s_v3",
            "Standard_ND96asr_v4",
            "a2-highgpu-1g",
            "g2-standard-4",
            "a3-megagpu-8g",
        ] {
            assert!(is_gpu_type(kind), "{kind}");
        }
        for kind in [
            "m5.xlarge",
            "c7g.large",
            "a1.large",
            "inf2.xlarge",
            "trn1",
            "Standard_D4s_v5",
            "Standard_F8s_v2",
            "optimal",
            "default_arm64",
            "x2gd",
            "gp-small",
            "e2-medium",
            "a1-x",
        ] {
            assert!(!is_gpu_type(kind), "{kind}");
        }
    }

    #[test]
    fn pods_of_environments_with_gpus_tolerate_their_taints() {
        for (types, gpu, want) in [
            (vec![], Value::Null, vec![]),
            (vec!["m5.xlarge"], Value::Null, vec![]),
            (vec!["m5.xlarge", "g4dn.2xlarge"], Value::Null, vec!["nvidia.com/gpu"]),
            (vec![], json!({}), vec!["nvidia.com/gpu"]),
            (vec![], json!({"resourceName": "amd.com/gpu"}), vec!["amd.com/gpu"]),
            (
                vec![],
                json!({"resourceName": "nvidia.com/mig-1g.5gb"}),
                vec!["nvidia.com/mig-1g.5gb", "nvidia.com/gpu"],
            ),
            (
                vec![],
                json!({"resourceName": "gpu.intel.com/i915", "tolerations": [{"key": "sku", "operator": "Exists"}]}),
                vec!["gpu.intel.com/i915", "gpu.intel.com/gpu", "sku"],
            ),
        ] {
            assert_eq!(keys(&environment(&types, json!({ "gpu": gpu }))), want, "{types:?} {gpu}");
        }
    }

    #[test]
    fn where_there_are_never_any() {
        let aws = json!({"karpenter": {}});
        let other = json!({"karpenter": {"nodeClassRef": {"group": "karpenter.azure.com", "kind": "K", "name": "n"}}});
        let auto =
            json!({"karpenter": {"nodeClassRef": {"group": "eks.amazonaws.com", "kind": "K", "name": "n"}}});
        for (types, provisioner, gpu, want) in [
            (vec!["m5.xlarge", "c6i"], aws.clone(), Value::Null, true),
            (vec!["optimal"], auto, Value::Null, true),
            (vec![], aws.clone(), Value::Null, true),
            (vec!["m5.xlarge", "g4dn"], aws.clone(), Value::Null, false),
            (vec!["odd"], aws.clone(), Value::Null, false),
            (vec!["m5.xlarge"], aws, json!({}), false),
            (vec!["m5.xlarge"], other, Value::Null, false),
            (vec!["m5.xlarge"], json!({"static": {}}), Value::Null, false),
            (vec!["m5.xlarge"], Value::Null, Value::Null, false),
        ] {
            let spec = environment(&types, json!({"provisioner": provisioner, "gpu": gpu}));
            assert_eq!(never_has(&spec), want, "{types:?} {provisioner}");
        }
    }
}
