//! SchedulingPolicy: how a fair-share queue divides its capacity
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateSchedulingPolicy.html>).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own, rule};
use super::schema;
use super::shared::TAGS;

const SPEC: &[Rule] = &[
    own(
        "name",
        "self.matches('^[A-Za-z0-9_-]{1,128}$')",
        "name can have up to 128 letters, numbers, hyphens and underscores",
    ),
    rule(
        "!has(self.fairsharePolicy) || !has(self.quotaSharePolicy)",
        "fairsharePolicy and quotaSharePolicy cannot be used together",
    ),
    rule(
        "has(self.quotaSharePolicy) == has(oldSelf.quotaSharePolicy)",
        "a scheduling policy cannot change between fair share and quota share",
    ),
];

const FAIRSHARE: &[Rule] = &[
    own("shareDecaySeconds", "self >= 0 && self <= 604800", "shareDecaySeconds must be between 0 and 604800"),
    own("computeReservation", "self >= 0 && self <= 99", "computeReservation must be between 0 and 99"),
    own(
        "shareDistribution",
        "self.size() <= 500",
        "shareDistribution can have at most 500 share identifiers",
    ),
];

const SHARE: &[Rule] = &[
    own(
        "shareIdentifier",
        "self.matches('^[A-Za-z0-9]{0,254}[A-Za-z0-9*]$')",
        "shareIdentifier can have up to 255 letters and numbers and can end with an asterisk (*)",
    ),
    own(
        "weightFactor",
        "self >= 0.0001 && self <= 999.9999",
        "weightFactor must be between 0.0001 and 999.9999",
    ),
];

/// CreateSchedulingPolicy of the AWS Batch API.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "batchyard.io",
    version = "v1alpha1",
    kind = "SchedulingPolicy",
    plural = "schedulingpolicies",
    shortname = "sp",
    category = "batchyard",
    namespaced,
    status = "SchedulingPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How a fair-share queue divides its capacity, as in AWS Batch.",
    printcolumn = r#"{"name":"DECAY","type":"integer","jsonPath":".spec.fairsharePolicy.shareDecaySeconds"}"#,
    printcolumn = r#"{"name":"RESERVATION","type":"integer","jsonPath":".spec.fairsharePolicy.computeReservation"}"#,
    printcolumn = r#"{"name":"QUEUES","type":"integer","jsonPath":".status.queues"}"#,
    printcolumn = r#"{"name":"READY","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = cel::rules_and_immutable(SPEC, &["name"], "cannot be changed")))]
pub struct SchedulingPolicySpec {
    /// AWS's name of the policy, up to 128 of A-Z a-z 0-9 _ -; default metadata.name.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Weights, decay and reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairshare_policy: Option<FairsharePolicy>,
    /// For SageMaker queues; Batchyard has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_share_policy: Option<QuotaSharePolicy>,
    /// Tags of the policy.
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = cel::rules(TAGS)))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Weights, decay and reservation of a fair-share queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(FAIRSHARE)))]
pub struct FairsharePolicy {
    /// How long past use counts against a share, up to 604800; 0 (default) means 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_decay_seconds: Option<i32>,
    /// Percent of vCPUs kept for shares that are not active yet, 0 to 99; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_reservation: Option<i32>,
    /// Weights of share identifiers; others weigh 1.
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["shareIdentifier"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub share_distribution: Vec<ShareAttributes>,
}

/// The weight of a share identifier, or of all that start alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(SHARE)))]
pub struct ShareAttributes {
    /// Up to 255 letters and digits; a trailing * makes it a prefix.
    #[schemars(length(max = 512))]
    pub share_identifier: String,
    /// 0.0001 to 999.9999, default 1: half the weight gets twice the capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_factor: Option<f64>,
}

/// Quota shares of SageMaker queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSharePolicy {
    /// FIFO.
    pub idle_resource_assignment_strategy: IdleResourceAssignment,
}

/// How idle capacity is given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum IdleResourceAssignment {
    /// In order of submission.
    #[default]
    Fifo,
}

/// What is known of the policy. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingPolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many queues use the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<i32>,
    /// Ready, FieldsIgnored, DeletionBlocked and others.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
