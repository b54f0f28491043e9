//! The structural part of what the API server checks, as far as our schemas use it: for manifests that no
//! API server has seen
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).

use serde_json::Value;

/// Each way in which the value does not fit the schema; members that the schema does not know are among them, since
/// the API server would drop them.
pub fn errors(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, path, &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let type_ = schema["type"].as_str().unwrap_or("any");
    let fits = match type_ {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path}: must be of type {type_}"));
        return;
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{path}: unsupported value {value}"));
    }
    check_size(schema, value, path, found);
    if let Some(list) = value.as_array() {
        for (index, item) in list.iter().enumerate() {
            check(&schema["items"], item, &format!("{path}[{index}]"), found);
        }
    }
    if value.is_object() {
        check_members(schema, value, path, found);
    }
}

fn check_members(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{path}.{name}: required"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(below), _) | (None, Some(below)) => check(below, member, &path, found),
            (None, None) => found.push(format!("{path}: unknown")),
        }
    }
}

fn check_size(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let (size, most, least) = match value {
        Value::String(text) => (text.chars().count() as f64, "maxLength", "minLength"),
        Value::Array(list) => (list.len() as f64, "maxItems", "minItems"),
        Value::Object(map) => (map.len() as f64, "maxProperties", "minProperties"),
        Value::Number(number) => (number.as_f64().unwrap_or_default(), "maximum", "minimum"),
        _ => return,
    };
    if schema[most].as_f64().is_some_and(|most| size > most) {
        found.push(format!("{path}: more than {most} {}", schema[most]));
    }
    if schema[least].as_f64().is_some_and(|least| size < least) {
        found.push(format!("{path}: less than {least} {}", schema[least]));
    }
}
