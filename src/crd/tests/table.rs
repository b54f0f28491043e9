//! The cases of the tables beside this file. The unit tests try them on an evaluator, `tests/api` on an API server.

use serde_json::{Map, Value, json};

/// A manifest that is applied, the one that was there before, and what the API server says.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) kind: &'static str,
    pub(super) old: Option<Value>,
    pub(super) new: Value,
    pub(super) says: Vec<&'static str>,
}

/// A case where `patch` is laid over `base`; null takes a member away.
pub(super) fn create(kind: &'static str, base: &Value, patch: Value, says: &[&'static str]) -> Case {
    Case { kind, old: None, new: merged(base, patch), says: says.to_vec() }
}

/// A case where the object was `base` with `old` before, and is to become `base` with `new`.
pub(super) fn update(
    kind: &'static str,
    base: &Value,
    old: Value,
    new: Value,
    says: &[&'static str],
) -> Case {
    Case { kind, old: Some(merged(base, old)), new: merged(base, new), says: says.to_vec() }
}

pub(super) fn merged(base: &Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut all = base.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => drop(all.remove(&name)),
            value => {
                let below = all.get(&name).cloned().unwrap_or_default();
                all.insert(name, merged(&below, value));
            }
        }
    }
    Value::Object(all)
}

/// A JSON array of `n` copies.
pub(super) fn times(n: usize, value: Value) -> Value {
    json!(vec![value; n])
}

/// What is refused of tags, wherever they stand.
pub(super) fn tags(kind: &'static str, base: &Value, place: impl Fn(Value) -> Value) -> Vec<Case> {
    let characters = "Tags can only contain letters, numbers, spaces, and the following special characters: _ . : / = + - @";
    let many: Map<String, Value> = (0..51).map(|n| (n.to_string(), json!(""))).collect();
    [
        (json!({ "Name": "aws-batch-instances", "größe a_.:/=+-@": "ü 1" }), vec![]),
        (json!({ "": "x" }), vec!["Tag keys can have 1 to 128 characters"]),
        (json!({ "k".repeat(129): "x" }), vec!["Tag keys can have 1 to 128 characters"]),
        (json!({ "k": "v".repeat(257) }), vec!["Tag values can have at most 256 characters"]),
        (json!({ "AWS:k": "x" }), vec!["Tag keys that start with aws: are reserved"]),
        (json!({ "k": "<v>" }), vec![characters]),
        (json!({ "k?": "v" }), vec![characters]),
        (Value::Object(many), vec!["tags can have at most 50 entries"]),
    ]
    .into_iter()
    .map(|(tags, says)| create(kind, base, place(tags), &says))
    .collect()
}
