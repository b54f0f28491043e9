//! How a container is kept from starting before others of its pod have come so far (`batchyard_core::order`): it has a
//! variable from a ConfigMap that is missing until then.
//!
//! The ConfigMap belongs to the pod and goes with it. That it was written stands on the pod, which also makes the kubelet
//! look at it at once.

use std::collections::BTreeMap;

use batchyard_core::order::After;
use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapKeySelector, EnvVar, EnvVarSource, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::meta;

/// The variable that such a container has.
const VARIABLE: &str = "BATCHYARD_STARTED_AFTER";

/// What each container waits for, by the container's name.
pub type Order = BTreeMap<String, Vec<After>>;

/// The order that stands on a pod. Users can edit it: what makes no sense is none.
pub fn of(pod: &Pod) -> Order {
    let text = pod.annotations().get(meta::STARTS_AFTER);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The containers of a pod that were told to start.
pub fn opened(pod: &Pod) -> Vec<String> {
    let text = pod.annotations().get(meta::OPENED).map_or("", String::as_str);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The variable by which a container waits.
pub fn variable(pod: &str, container: &str) -> EnvVar {
    let reference = ConfigMapKeySelector { name: name(pod), key: container.to_owned(), optional: None };
    EnvVar {
        name: VARIABLE.to_owned(),
        value_from: Some(EnvVarSource { config_map_key_ref: Some(reference), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

/// What gives the variables of these containers a value: what they waited for.
pub fn word(pod: &Pod, containers: &[String]) -> ConfigMap {
    let order = of(pod);
    let text = |after: &After| format!("{}:{}", after.container, after.until.as_str());
    let value = |container: &String| {
        let after = order.get(container).map(Vec::as_slice).unwrap_or_default();
        (container.clone(), after.iter().map(text).collect::<Vec<_>>().join(","))
    };
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(&pod.name_any())),
            namespace: pod.namespace(),
            labels: Some([(meta::MANAGED_BY.to_owned(), meta::OPERATOR.to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(containers.iter().map(value).collect()),
        ..ConfigMap::default()
    }
}

fn name(pod: &str) -> String {
    format!("{pod}-order")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_waits_for_a_value_that_our_word_gives() {
        let order =
            r#"{"app": [{"container": "init", "until": "SUCCESS"}, {"container": "db", "until": "START"}]}"#;
        let pod = json!({"metadata": {"name": "sim-1", "namespace": "ns", "uid": "u",
            "annotations": {meta::STARTS_AFTER: order, meta::OPENED: "a,b"}}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        assert_eq!((of(&pod)["app"].len(), opened(&pod)), (2, vec!["a".to_owned(), "b".to_owned()]));
        let word = word(&pod, &["app".to_owned()]);
        let waits =
            variable("sim-1", "app").value_from.and_then(|from| from.config_map_key_ref).expect("waits");
        assert_eq!((word.name_any(), word.namespace().as_deref()), (waits.name, Some("ns")));
        assert_eq!(word.data.expect("data")[&waits.key], "init:SUCCESS,db:START");
        assert_eq!(word.metadata.owner_references.expect("an owner")[0].uid, "u", "it goes with the pod");
        let edited = json!({"metadata": {"annotations": {meta::STARTS_AFTER: "{\"app\": 7}"}}});
        assert!(of(&serde_json::from_value(edited).expect("a pod")).is_empty());
        assert!(opened(&Pod::default()).is_empty());
    }
}
