//! What several kinds share: names, tags, retry strategy, timeout, parameters, tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel::{self, Rule, own, rule};

/// Rules of a `tags` map, with AWS's limits.
pub(super) const TAGS: &[Rule] = &[
    rule("self.size() <= 50", "tags can have at most 50 entries"),
    rule("self.all(k, k.size() >= 1 && k.size() <= 128)", "Tag keys can have 1 to 128 characters"),
    rule("self.all(k, self[k].size() <= 256)", "Tag values can have at most 256 characters"),
    rule("self.all(k, !k.lowerAscii().startsWith('aws:'))", "Tag keys that start with aws: are reserved"),
    rule(
        "self.all(k, (k + self[k]).matches('^[\\\\p{L}\\\\p{Z}\\\\p{N}_.:/=+@-]*$'))",
        "Tags can only contain letters, numbers, spaces, and the following special characters: _ . : / = + - @",
    ),
];

const RETRY_STRATEGY: &[Rule] = &[
    own("attempts", "self >= 1 && self <= 10", "attempts must be between 1 and 10"),
    rule(
        "!has(self.evaluateOnExit) || self.evaluateOnExit.size() == 0 || has(self.attempts)",
        "RetryAttempts must be provided with retry strategy",
    ),
    own("evaluateOnExit", "self.size() <= 5", "evaluateOnExit can have at most 5 entries"),
];

const EVALUATE_ON_EXIT: &[Rule] = &[
    own("action", "self.lowerAscii() in ['retry', 'exit']", "action must be RETRY or EXIT"),
    own(
        "onExitCode",
        "self.size() <= 512 && self.matches('^[0-9]*[*]?$')",
        "onExitCode can contain up to 512 digits and can end with an asterisk (*)",
    ),
    own(
        "onReason",
        "self.size() <= 512 && self.matches('^[0-9A-Za-z.:\\\\s]*[*]?$')",
        "onReason can contain up to 512 letters, numbers, periods (.), colons (:) and white space, and can end with an asterisk (*)",
    ),
    own(
        "onStatusReason",
        "self.size() <= 512 && self.matches('^[0-9A-Za-z.:\\\\s]*[*]?$')",
        "onStatusReason can contain up to 512 letters, numbers, periods (.), colons (:) and white space, and can end with an asterisk (*)",
    ),
];

const TIMEOUT: &[Rule] =
    &[own("attemptDurationSeconds", "self >= 60", "attemptDurationSeconds must be at least 60 seconds")];

/// Whether a queue or environment takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Takes new work.
    #[default]
    Enabled,
    /// Takes no new work; what is in it goes on.
    Disabled,
}

impl State {
    /// True for ENABLED.
    pub fn is_enabled(self) -> bool {
        matches!(self, Self::Enabled)
    }
}

/// The status of a compute environment or job queue, as AWS names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResourceStatus {
    /// Not looked at yet.
    #[default]
    Creating,
    /// A change is being carried out.
    Updating,
    /// It is being deleted.
    Deleting,
    /// It is gone.
    Deleted,
    /// In order.
    Valid,
    /// Something is wrong; statusReason says what.
    Invalid,
}

/// How often a failed job is tried again, and after which kinds of failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(RETRY_STRATEGY)))]
pub struct RetryStrategy {
    /// How many times the job may run, 1 to 10; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Up to 5 entries, tried in order after a failed attempt; the first that matches decides. No match means RETRY.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluate_on_exit: Vec<EvaluateOnExit>,
}

/// An entry matches when every condition that it states matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(EVALUATE_ON_EXIT)))]
pub struct EvaluateOnExit {
    /// Compared with the attempt's statusReason; may end with * for "starts with".
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_status_reason: Option<String>,
    /// Compared with the container's reason; may end with * for "starts with".
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_reason: Option<String>,
    /// Compared with the exit code in decimal; may end with * for "starts with".
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit_code: Option<String>,
    /// RETRY or EXIT, in any case.
    #[schemars(length(max = 64))]
    pub action: String,
}

/// How long one attempt may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(TIMEOUT)))]
pub struct JobTimeout {
    /// Seconds from the start of the container until the attempt is stopped and the job is FAILED; at least 60. No retry follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_duration_seconds: Option<i32>,
}

/// The tokens that a job holds while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumableResourceProperties {
    /// One entry per consumable resource.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumable_resource_list: Vec<ConsumableResourceRequirement>,
}

/// A number of tokens of one consumable resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::rules(CONSUMABLE)))]
pub struct ConsumableResourceRequirement {
    /// Name or ARN of the ConsumableResource.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumable_resource: Option<String>,
    /// How many tokens the job needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
}

const CONSUMABLE: &[Rule] = &[own("quantity", "self >= 1", "quantity must be at least 1")];
