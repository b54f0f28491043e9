//! ConsumableResource: tokens, such as licences, that jobs hold or use up
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateConsumableResource.html>).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own};
use super::schema;
use super::shared::TAGS;

const SPEC: &[Rule] = &[
    own(
        "consumableResourceName",
        "self.matches('^[A-Za-z0-9_-]{1,128}$')",
        "consumableResourceName can have up to 128 letters, numbers, hyphens and underscores",
    ),
    own("totalQuantity", "self >= 0", "totalQuantity must not be negative"),
    own(
        "resourceType",
        "self in ['REPLENISHABLE', 'NON_REPLENISHABLE']",
        "resourceType must be REPLENISHABLE or NON_REPLENISHABLE",
    ),
];

const IMMUTABLE: &[&str] = &["consumableResourceName", "resourceType"];

/// CreateConsumableResource of the AWS Batch API.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "ConsumableResource",
    plural = "consumableresources",
    shortname = "cr",
    category = "batchyard",
    namespaced,
    status = "ConsumableResourceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A number of tokens, such as licences, that jobs hold or use up, as in AWS Batch.",
    printcolumn = r#"{"name":"TYPE","type":"string","jsonPath":".spec.resourceType"}"#,
    printcolumn = r#"{"name":"TOTAL","type":"integer","jsonPath":".status.totalQuantity"}"#,
    printcolumn = r#"{"name":"IN-USE","type":"integer","jsonPath":".status.inUseQuantity"}"#,
    printcolumn = r#"{"name":"AVAILABLE","type":"integer","jsonPath":".status.availableQuantity"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = cel::rules_and_immutable(SPEC, IMMUTABLE, "cannot be changed")))]
pub struct ConsumableResourceSpec {
    /// AWS's name of the resource, up to 128 of A-Z a-z 0-9 _ -; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource_name: Option<String>,
    /// How many tokens there are; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_quantity: Option<i64>,
    /// REPLENISHABLE (default): tokens come back when a job ends. NON_REPLENISHABLE: they are used up.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// Tags of the resource.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What is known of the tokens. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumableResourceStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many tokens there are, less those that are used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_quantity: Option<i64>,
    /// How many tokens jobs hold now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use_quantity: Option<i64>,
    /// How many tokens are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_quantity: Option<i64>,
    /// For NON_REPLENISHABLE: how many tokens are gone for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_up_quantity: Option<i64>,
    /// For NON_REPLENISHABLE: names of pods that exist and whose tokens are among those that are gone.
    #[schemars(length(max = 20000), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted_pods: Vec<String>,
    /// Ready, FieldsIgnored, DeletionBlocked and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
