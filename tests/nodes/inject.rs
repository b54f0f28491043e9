//! Changes to pods that the API server makes as they are created: for what a job cannot ask for
//! itself yet, such as a Secret, but what others may add.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use crate::cluster::answer;
use crate::scenario::{PATIENCE, Scenario};
use crate::support::client::{TEST_LABEL, apply_as};

/// On pods that were changed.
const MARK: &str = "test.batchyard.io/injected";

impl Scenario<'_> {
    /// Adds to the spec of the pods of one job: JSON Patch operations in CEL
    /// (<https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>). The
    /// API server 1.36.3 panics where a value is a list of objects: they are added one by one.
    pub(crate) async fn inject(&self, job: &str, operations: &str) -> Result<()> {
        let name = format!("{}-{job}", self.namespace);
        let expression = format!(
            "[JSONPatch{{op: \"add\", path: \"/metadata/annotations/\" + jsonpatch.escapeKey(\"{MARK}\"), \
             value: \"true\"}}, {operations}]"
        );
        let policy = json!({
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                "objectSelector": {"matchLabels": {"batchyard.io/job-name": job}},
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        });
        for (kind, spec) in [
            ("MutatingAdmissionPolicy", policy),
            ("MutatingAdmissionPolicyBinding", json!({"policyName": name})),
        ] {
            let kind =
                ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
            let api: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), &kind);
            let metadata = json!({"name": name, "labels": {TEST_LABEL: "true"}});
            apply_as(&api, &kind, &json!({"metadata": metadata, "spec": spec})).await;
            self.remember(kind, name.clone());
        }
        self.is_injected(job).await
    }

    /// Waits until the API server knows the policy: it makes a pod, but does not keep it.
    async fn is_injected(&self, job: &str) -> Result<()> {
        let pod: Value = json!({
            "metadata": {"generateName": "probe-", "labels": {"batchyard.io/job-name": job}, "annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "default", "image": "none", "env": [{"name": "A", "value": "b"}]}]},
        });
        let pod: Pod = serde_json::from_value(pod)?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        answer("the policy to be known", PATIENCE, || async {
            let made = self.api::<Pod>().create(&dry_run, &pod).await?;
            let marked = made.metadata.annotations.is_some_and(|annotations| annotations.contains_key(MARK));
            ensure!(marked, "the pod is unchanged");
            Ok(Some(()))
        })
        .await
    }
}
