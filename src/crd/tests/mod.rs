//! What the CRDs accept and refuse, without an API server: the structural part by a small checker of our own, the
//! CEL rules by kube's evaluator. API level tests repeat the essential ones on a real API server.

mod conditions;
mod definitions;
mod environments;
mod fields;
mod hostile;
mod job_detail;
mod jobs;
mod log_pages;
mod members;
mod notifications;
mod posts;
mod queues;
mod rendered;
mod rules;
mod sessions;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::structure;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};
use table::{Case, create, merged, tags, times, update};

/// Every CRD; made once, since that takes a moment.
fn crds() -> &'static [CustomResourceDefinition] {
    static CRDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(super::all);
    &CRDS
}

/// The openAPIV3Schema of a kind, as it is installed.
fn schema(kind: &str) -> Value {
    let crd = crds().iter().find(|crd| crd.spec.names.kind == kind).expect("a kind of ours");
    serde_json::to_value(&crd.spec.versions[0].schema.as_ref().expect("a schema").open_api_v3_schema)
        .expect("a schema is plain data")
}

/// The part of a kind's schema that is about `spec`.
fn spec_schema(kind: &str) -> Value {
    schema(kind)["properties"]["spec"].clone()
}

/// A kind's schema with its rules compiled, which takes a second for the large ones.
struct Compiled {
    schema: Value,
    rules: CompiledSchema,
}

fn compiled(kind: &'static str) -> Arc<Compiled> {
    static KINDS: Mutex<BTreeMap<&str, Arc<Compiled>>> = Mutex::new(BTreeMap::new());
    let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = kinds.entry(kind).or_insert_with(|| {
        let mut ruled = schema(kind);
        if kind == "BatchJob" {
            let members = &mut ruled["properties"]["spec"]["properties"];
            // The types of inline definitions are those of JobDefinition, whose cases try their rules.
            for member in ["containerProperties", "ecsProperties", "eksProperties", "nodeProperties"] {
                members[member] = json!({ "type": "object" });
            }
        }
        Arc::new(Compiled { schema: spec_schema(kind), rules: compile_schema(&ruled) })
    });
    Arc::clone(entry)
}

/// What the API server would say: structural errors, else the messages of the rules that fail.
fn verdict(kind: &'static str, old: Option<&Value>, new: &Value) -> Vec<String> {
    let compiled = compiled(kind);
    let structural = structure::errors(&compiled.schema, new, "spec");
    if !structural.is_empty() {
        return structural;
    }
    let new = json!({ "spec": new });
    let old = old.map(|old| json!({ "spec": old }));
    let mut said: Vec<String> = match Validator::new().validate_compiled(&compiled.rules, &new, old.as_ref())
    {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|e| e.message.clone()).collect(),
    };
    said.sort();
    said.dedup();
    said
}

fn all_cases() -> Vec<Case> {
    [environments::cases(), queues::cases(), definitions::cases(), jobs::cases(), notifications::cases()]
        .concat()
}
