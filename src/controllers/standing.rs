//! What the statuses of queues, environments and definitions have in common.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use batchyard_core::name;
use batchyard_core::reason::resources;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::crd::conditions::{self, ConditionStatus, ConditionType, NewCondition};
use crate::crd::ignored::{self, Kind};
use crate::k8s::meta;

/// Counts are taken and written at most so often: with many jobs both cost.
const REFRESH: Duration = Duration::from_secs(5);
/// How many of those that hold an object are named.
pub(super) const NAMED: usize = 5;

/// When the counts of each queue and environment were last taken, by uid.
#[derive(Debug, Default)]
pub struct Refresh {
    last: Mutex<HashMap<String, Instant>>,
}

impl Refresh {
    /// How long counts must wait, if at all.
    pub(super) fn pause<K: Resource>(&self, object: &K) -> Option<Duration> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.get(object.meta().uid.as_deref()?)?;
        REFRESH.checked_sub(last.elapsed()).filter(|pause| !pause.is_zero())
    }

    /// The status now says what is.
    pub(super) fn done<K: Resource>(&self, object: &K) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| at.elapsed() < REFRESH);
        last.extend(object.meta().uid.clone().map(|uid| (uid, Instant::now())));
    }
}

/// Conditions of one object at one time.
pub(super) struct Conditions<'c> {
    conditions: &'c mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl<'c> Conditions<'c> {
    /// About the spec that the object has now.
    pub(super) fn of(object: &impl Resource, conditions: &'c mut Vec<Condition>, now: Timestamp) -> Self {
        Self { conditions, generation: object.meta().generation, now }
    }

    pub(super) fn ready(&mut self, ready: bool, reason: &'static str, message: String) {
        self.set(ConditionType::Ready, ready.into(), reason, message);
    }

    /// `FieldsIgnored` with these fields, or without the condition if there are none.
    pub(super) fn fields_ignored(&mut self, fields: &[String]) {
        let message = (!fields.is_empty()).then(|| resources::fields_ignored(fields));
        self.set_if(ConditionType::FieldsIgnored, "NotSupported", message);
    }

    /// `PlainTextSecret` with the places where one stands, or without the condition if none does.
    pub(super) fn plain_text_secret(&mut self, message: Option<String>) {
        self.set_if(ConditionType::PlainTextSecret, "InOptions", message);
    }

    /// `DeletionBlocked` with what holds the object, or without the condition if nothing does.
    pub(super) fn deletion_blocked(&mut self, message: Option<String>) {
        self.set_if(ConditionType::DeletionBlocked, "InUse", message);
    }

    /// `Blocked`, with a word for why and a sentence, or without the condition.
    pub(super) fn blocked(&mut self, why: Option<(&'static str, String)>) {
        let (reason, message) = why.unzip();
        self.set_if(ConditionType::Blocked, reason.unwrap_or("Blocked"), message);
    }

    fn set_if(&mut self, type_: ConditionType, reason: &'static str, message: Option<String>) {
        match message {
            Some(message) => self.set(type_, ConditionStatus::True, reason, message),
            None => {
                conditions::remove(self.conditions, type_);
            }
        }
    }

    fn set(&mut self, type_: ConditionType, status: ConditionStatus, reason: &'static str, message: String) {
        let new = NewCondition { type_, status, reason, message, observed_generation: self.generation };
        conditions::set(self.conditions, new, self.now);
    }
}

/// Members of a spec without effect; among them the AWS name in `field` if the object bears
/// another name than the one it stands for.
pub(super) fn ignored_fields(
    kind: Kind,
    object: &impl Resource,
    spec: &impl Serialize,
    field: &str,
    aws_name: Option<&str>,
) -> Vec<String> {
    let mut fields = ignored::ignored_fields(kind, &serde_json::to_value(spec).unwrap_or_default());
    let object = object.name_any();
    // An environment may belong to a namespace: then that stands before its own name.
    let own = object.rsplit_once('.').map_or(object.as_str(), |(_, own)| own);
    if let Some(aws_name) = aws_name {
        let slug = name::slug(aws_name);
        if slug != object && !(kind == Kind::ComputeEnvironment && slug == own) {
            fields.push(resources::name_has_no_effect(field, &slug));
        }
    }
    fields
}

pub(super) fn is_deleting(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// True if our finalizer is on a queue or an environment.
pub(super) fn is_held(object: &impl Resource) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == meta::IN_USE_FINALIZER)
}

/// How many there are, and the first of them by name.
pub(super) fn first(mut names: Vec<String>) -> (usize, Vec<String>) {
    names.sort();
    let count = names.len();
    names.truncate(NAMED);
    (count, names)
}

/// A count for a status.
pub(super) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Whole vCPUs for a status, of which a part counts as one.
pub(super) fn vcpus(milli: i64) -> i32 {
    i32::try_from(milli.saturating_add(999) / 1000).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::JobQueue;
    use serde_json::json;

    #[test]
    fn a_name_that_nothing_finds_is_named() {
        let object = |name: &str| {
            let mut queue = JobQueue::default();
            queue.metadata.name = Some(name.to_owned());
            queue
        };
        let slug = name::slug("Q");
        for (kind, name, aws_name, ignored) in [
            (Kind::JobQueue, "q", None, false),
            (Kind::JobQueue, "q", Some("q"), false),
            (Kind::JobQueue, slug.as_str(), Some("Q"), false),
            (Kind::JobQueue, "q", Some("Q"), true),
            (Kind::ComputeEnvironment, "team.q", Some("q"), false),
            (Kind::JobQueue, "team.q", Some("q"), true),
        ] {
            let fields = ignored_fields(kind, &object(name), &json!({}), "x", aws_name);
            assert_eq!(!fields.is_empty(), ignored, "{name} {aws_name:?}: {fields:?}");
        }
    }
}
