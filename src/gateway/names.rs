//! Names as callers see them, and what a request may contain.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use batchyard_core::name;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::account::Kind;
use super::call::{Call, needed};
use super::failure::Failure;
pub(super) use crate::crd::aws::{environment, members, policy, queue, resource, shown};
use crate::crd::structure;
use crate::crd::{self, ComputeEnvironment};
use crate::k8s::meta;

impl Call {
    /// The environments that callers of this namespace know of: its own, and those of the whole cluster that it may use
    /// and that none of its own hides.
    pub(super) fn environments(&self) -> Vec<Arc<ComputeEnvironment>> {
        let (labels, _) = self.world().namespace(self.namespace());
        let mut seen: HashMap<String, Arc<ComputeEnvironment>> = HashMap::new();
        for found in self.world().environments.store.state_filter(|found| self.sees(found, &labels)) {
            let name = environment(&found, self.namespace());
            let is_own = self.is_own(&found);
            let known = seen.get(&name).is_some_and(|known| self.is_own(known));
            if is_own || !known {
                seen.insert(name, found);
            }
        }
        seen.into_values().collect()
    }

    fn sees(&self, environment: &ComputeEnvironment, labels: &BTreeMap<String, String>) -> bool {
        if self.is_own(environment) {
            return true;
        }
        let name = environment.name_any();
        let is_others = name
            .split_once('.')
            .is_some_and(|(namespace, _)| self.world().namespaces.get(&ObjectRef::new(namespace)).is_some());
        let spec = &environment.spec;
        !is_others && (spec.allowed_namespaces.is_empty() || spec.entry_for(labels).is_some())
    }

    /// True for an environment that belongs to this namespace.
    pub(super) fn is_own(&self, environment: &ComputeEnvironment) -> bool {
        let name = environment.metadata.name.as_deref().unwrap_or_default();
        name.strip_prefix(self.namespace()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The environment that a reference means, among those that callers know of.
    pub(super) fn environment(&self, reference: &str) -> Result<Option<Arc<ComputeEnvironment>>, Failure> {
        let wanted = self.account.name(Kind::Environment, reference)?;
        let objects = name::environments(self.namespace(), wanted);
        let known = self.environments();
        let by_object =
            objects.iter().find_map(|object| known.iter().find(|found| found.name_any() == **object));
        Ok(by_object.cloned())
    }
}

/// The members of a spec as a caller may state them.
///
/// # Errors
/// When one is unknown, missing, of another type, or larger than anything that is accepted.
pub(super) fn spec<T: DeserializeOwned>(
    kind: &'static str,
    members: &[&str],
    body: &Value,
) -> Result<T, Failure> {
    let stated = body.as_object().ok_or_else(|| Failure::client("the request must be a JSON object"))?;
    if let Some(unknown) = stated.keys().find(|member| !members.contains(&member.as_str())) {
        return Err(Failure::client(format!("{unknown}: this operation has no such member")));
    }
    let found = structure::errors(schema(kind), body, "");
    if !found.is_empty() {
        let texts: Vec<String> = found.iter().map(|text| told(text)).collect();
        return Err(Failure::client(texts.join("; ")));
    }
    serde_json::from_value(body.clone()).map_err(|error| Failure::client(error.to_string()))
}

/// What is wrong with a member, without the dot before its name.
fn told(text: &str) -> String {
    let text = text.trim_start_matches('.');
    match text.strip_suffix(": required") {
        Some(member) => format!("'{member}' is a required field (cannot be an empty string)"),
        None => text.to_owned(),
    }
}

/// The schema of a kind's spec, as the API server has it.
fn schema(kind: &'static str) -> &'static Value {
    static SCHEMAS: OnceLock<HashMap<String, Value>> = OnceLock::new();
    static NONE: Value = Value::Null;
    let schemas = SCHEMAS.get_or_init(|| {
        let spec_of = |crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
            Some(serde_json::to_value(schema).ok()?["properties"]["spec"].take())
        };
        crd::all().iter().filter_map(|crd| Some((crd.spec.names.kind.clone(), spec_of(crd)?))).collect()
    });
    schemas.get(kind).unwrap_or(&NONE)
}

/// A member that must be a text with something in it.
///
/// # Errors
/// When it is not.
pub(super) fn text<'a>(body: &'a Value, member: &str) -> Result<&'a str, Failure> {
    needed(member, body.get(member).and_then(Value::as_str).unwrap_or_default())
}

/// The tags that an object has: those that were changed through the door, else those that its spec states.
pub(super) fn tags<K: Resource>(object: &K, stated: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let changed = object.meta().annotations.as_ref().and_then(|annotations| annotations.get(meta::TAGS));
    changed.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| stated.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::JobQueueSpec;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_by_its_member() {
        let known = ["jobQueueName", "priority", "state", "computeEnvironmentOrder"];
        let outcome = |body: Value| spec::<JobQueueSpec>("JobQueue", &known, &body);
        assert!(outcome(json!({"jobQueueName": "q", "priority": 1})).is_ok());
        for (body, says) in [
            (json!([]), "JSON object"),
            (json!({"priority": 1, "x": 1}), "x: this operation has no such member"),
            (
                json!({"priority": 1, "finishedJobsLimit": 1}),
                "finishedJobsLimit: this operation has no such member",
            ),
            (json!({"jobQueueName": "q"}), "'priority' is a required field"),
            (json!({"priority": "1"}), "priority: must be of type integer"),
            (json!({"priority": 1, "state": "ON"}), "state: unsupported value \"ON\""),
            (
                json!({"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "c", "x": 1}]}),
                "computeEnvironmentOrder[0].x: unknown",
            ),
        ] {
            let failure = outcome(body).expect_err(says);
            assert!(failure.message().contains(says), "{failure:?}");
        }
    }
}
