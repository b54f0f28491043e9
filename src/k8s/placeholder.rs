//! Pods that hold room on an environment's nodes until a job needs it. Pure.
//!
//! They are in the operator's namespace, bear a priority below every job's, and end without grace, so
//! that the scheduler gives their room to a job at once. Autoscalers see them and make nodes.

use std::collections::BTreeMap;

use batchyard_core::name;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, NodeAffinity, NodeSelector, Pod, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::build::cpu_request_milli;
use super::pool::Pool;
use super::{karpenter, meta};
use crate::crd::ComputeEnvironment;
use crate::settings::PlaceholderSettings;

/// The placeholder with this number, which holds so many vCPUs.
pub fn placeholder(
    environment: &ComputeEnvironment,
    pool: &Pool,
    namespace: &str,
    settings: &PlaceholderSettings,
    number: usize,
    vcpus: i64,
) -> Pod {
    let object = environment.name_any();
    let spec = spec(environment, pool, settings, vcpus);
    let text = |value: &str| value.to_owned();
    let annotations =
        [(text(meta::COMPUTE_ENVIRONMENT), object.clone()), (text(meta::PLACEHOLDER), likeness(&spec))];
    let labels =
        [(text(meta::MANAGED_BY), text(meta::OPERATOR)), (text(meta::PLACEHOLDER), name::slug(&object))];
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{}-{number}", name::node_pool(&object))),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from(labels)),
            annotations: Some(BTreeMap::from(annotations)),
            owner_references: karpenter::owner(environment),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// True for a placeholder of any environment.
pub fn is_placeholder(pod: &Pod) -> bool {
    pod.labels().contains_key(meta::PLACEHOLDER)
        && pod.labels().get(meta::MANAGED_BY).is_some_and(|by| by == meta::OPERATOR)
}

/// The same for two placeholders that were made alike.
fn likeness(spec: &PodSpec) -> String {
    let text = serde_json::to_string(spec).unwrap_or_default();
    format!("{:016x}", name::fnv1a(text.as_bytes()))
}

fn spec(
    environment: &ComputeEnvironment,
    pool: &Pool,
    settings: &PlaceholderSettings,
    vcpus: i64,
) -> PodSpec {
    let cpu = Quantity(format!("{}m", cpu_request_milli(vcpus * 1000, &environment.spec)));
    let container = Container {
        name: "placeholder".to_owned(),
        image: Some(settings.image.clone()),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([("cpu".to_owned(), cpu)])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: Some(65_535),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let affinity = (!pool.terms.is_empty()).then(|| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: pool.terms.clone(),
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    });
    let defaults = environment.spec.pod_defaults.as_ref();
    PodSpec {
        containers: vec![container],
        node_selector: Some(pool.node_selector.clone()),
        tolerations: Some(pool.tolerations.clone()),
        affinity,
        priority_class_name: Some(settings.priority_class.clone()),
        scheduler_name: defaults.and_then(|defaults| defaults.scheduler_name.clone()),
        termination_grace_period_seconds: Some(0),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        ..PodSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(more: serde_json::Value, vcpus: i64) -> Pod {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
            "metadata": {"name": "team.spot", "uid": "u"},
            "spec": {"type": "MANAGED", "provisioner": {"karpenter": {}},
                "computeResources": {"type": "SPOT", "maxvCpus": 16, "instanceTypes": ["m5"]}}});
        for (key, value) in more.as_object().expect("an object") {
            object["spec"][key] = value.clone();
        }
        let environment: ComputeEnvironment = serde_json::from_value(object).expect("an environment");
        let pool = Pool::of("team.spot", &environment.spec, &[]);
        let settings = PlaceholderSettings { image: "pause".into(), priority_class: "low".into() };
        placeholder(&environment, &pool, "system", &settings, 3, vcpus)
    }

    #[test]
    fn it_goes_where_jobs_go_and_gives_way() {
        let pod = made(json!({}), 2);
        assert!(is_placeholder(&pod) && pod.name_any().ends_with("-3"));
        let spec = pod.spec.expect("a spec");
        assert_eq!(
            spec.node_selector.expect("a selector")[karpenter::NODE_POOL],
            name::node_pool("team.spot")
        );
        assert_eq!(spec.tolerations.map(|tolerations| tolerations.len()), Some(3));
        assert_eq!(spec.priority_class_name.as_deref(), Some("low"));
        assert_eq!(spec.termination_grace_period_seconds, Some(0));
        let requests = spec.containers[0].resources.clone().and_then(|r| r.requests).expect("requests");
        assert_eq!(requests["cpu"].0, "1800m", "as a job of 2 vCPUs asks for");
    }

    #[test]
    fn what_was_made_otherwise_is_told_apart() {
        let likeness = |pod: Pod| pod.annotations()[meta::PLACEHOLDER].clone();
        assert_eq!(likeness(made(json!({}), 1)), likeness(made(json!({}), 1)));
        assert_ne!(likeness(made(json!({}), 1)), likeness(made(json!({}), 2)));
        let tolerant = json!({"podDefaults": {"tolerations": [{"operator": "Exists"}]}});
        assert_ne!(likeness(made(json!({}), 1)), likeness(made(tolerant, 1)));
    }
}
