//! Hand-written pieces of schema for types of Kubernetes' own, whose generated schemas are either
//! without bounds or many times as long.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A list of conditions, merged by their type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": text(316, "What the condition is about."),
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown.",
                },
                "reason": text(1024, "Why, in one word."),
                "message": text(32_768, "Why, in a sentence."),
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that this is about.",
                },
            },
        },
    })
}

/// Tolerations as a pod has them.
pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "object",
            "properties": {
                "key": text(316, "The taint's key; empty matches all."),
                "operator": text(16, "Exists or Equal (default)."),
                "value": text(63, "The taint's value."),
                "effect": text(32, "NoSchedule, PreferNoSchedule or NoExecute; empty matches all."),
                "tolerationSeconds": {
                    "type": "integer",
                    "format": "int64",
                    "description": "For NoExecute: for how long; default for ever.",
                },
            },
        },
    })
}

/// A list of names of Secrets.
pub(super) fn pull_secrets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": { "name": text(253, "The Secret's name.") },
        },
    })
}

/// A label selector.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": { "type": "string", "maxLength": 63 },
                "description": "Labels that it must have, with these values.",
            },
            "matchExpressions": {
                "type": "array",
                "maxItems": 64,
                "description": "Requirements that it must meet.",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": text(316, "The label."),
                        "operator": text(32, "In, NotIn, Exists or DoesNotExist."),
                        "values": {
                            "type": "array",
                            "maxItems": 256,
                            "items": { "type": "string", "maxLength": 63 },
                            "description": "The values for In and NotIn.",
                        },
                    },
                },
            },
        },
    })
}

fn text(max: usize, description: &str) -> Value {
    json!({ "type": "string", "maxLength": max, "description": description })
}
