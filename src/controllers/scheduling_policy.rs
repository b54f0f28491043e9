//! Scheduling policies: whether they can be used, and which queues keep them from going.

use std::sync::Arc;

use batchyard_core::name;
use batchyard_core::reason::resources;
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::standing::{Conditions, count, first, ignored_fields, is_deleting, is_held};
use super::{Context, Outcome, Wake};
use crate::crd::ignored::Kind;
use crate::crd::{JobQueue, SchedulingPolicy, SchedulingPolicyStatus};

/// Looks at one policy.
pub async fn reconcile(policy: Arc<SchedulingPolicy>, context: Arc<Context>) -> Outcome {
    let namespace = policy.namespace().unwrap_or_default();
    let api: Api<SchedulingPolicy> = Api::namespaced(context.writer.client().clone(), &namespace);
    let terminating = context.caches.is_terminating(&namespace);
    let users = context.caches.queues.state_filter(|queue| uses(queue, &policy));
    let users: Vec<String> = users.iter().map(|queue| queue.name_any()).collect();
    if is_deleting(policy.as_ref()) && (users.is_empty() || terminating) {
        if is_held(policy.as_ref()) {
            context.writer.set_in_use(&api, policy.as_ref(), false).await?;
        }
        return Ok(Wake::OnChange);
    }
    if terminating {
        return Ok(Wake::OnChange);
    }
    if !is_deleting(policy.as_ref()) && !is_held(policy.as_ref()) {
        // The change of the policy wakes this controller again.
        context.writer.set_in_use(&api, policy.as_ref(), true).await?;
        return Ok(Wake::OnChange);
    }
    let status = status(&policy, users, context.clock.now());
    if policy.status.as_ref() != Some(&status) {
        let changed = SchedulingPolicy { status: Some(status), ..SchedulingPolicy::clone(&policy) };
        context.writer.replace_status(&api, &changed).await?;
    }
    Ok(Wake::OnChange)
}

/// True if the queue divides its capacity by this policy.
pub(super) fn uses(queue: &JobQueue, policy: &SchedulingPolicy) -> bool {
    let reference = queue.spec.scheduling_policy_arn.as_deref().unwrap_or_default();
    queue.metadata.namespace == policy.metadata.namespace
        && name::candidates(reference).iter().any(|name| Some(name) == policy.metadata.name.as_ref())
}

/// Two entries of which one stands for the other's shares too: AWS allows none.
fn overlap(policy: &SchedulingPolicy) -> Option<(&str, &str)> {
    let shares = policy.spec.fairshare_policy.as_ref().map(|fair| fair.share_distribution.as_slice());
    let names: Vec<_> =
        shares.unwrap_or_default().iter().map(|share| share.share_identifier.as_str()).collect();
    let covers = |pattern: &str, other: &str| {
        let prefix = pattern.strip_suffix('*');
        prefix.is_some_and(|prefix| other.trim_end_matches('*').starts_with(prefix))
    };
    names.iter().enumerate().find_map(|(index, one)| {
        let mut others = names.iter().enumerate().filter(|(other, _)| *other != index);
        others.find(|(_, other)| covers(one, other)).map(|(_, other)| (*one, *other))
    })
}

/// What makes the policy unusable, if anything.
fn obstacle(policy: &SchedulingPolicy) -> Option<String> {
    if policy.spec.quota_share_policy.is_some() {
        return Some(resources::quota_shares());
    }
    overlap(policy).map(|(one, other)| resources::shares_overlap(one, other))
}

/// The status that follows from what is seen.
fn status(policy: &SchedulingPolicy, users: Vec<String>, now: Timestamp) -> SchedulingPolicyStatus {
    let mut status = policy.status.clone().unwrap_or_default();
    let ignored =
        ignored_fields(Kind::SchedulingPolicy, policy, &policy.spec, "name", policy.spec.name.as_deref());
    let obstacle = obstacle(policy);
    let queues = count(users.len());
    let held = is_deleting(policy).then(|| {
        let (count, first) = first(users);
        resources::held_by_queues(count, &first)
    });
    let mut conditions = Conditions::of(policy, &mut status.conditions, now);
    let (ready, word) = (obstacle.is_none(), if obstacle.is_none() { "Healthy" } else { "Invalid" });
    conditions.ready(ready, word, obstacle.unwrap_or_else(|| resources::POLICY_HEALTHY.to_owned()));
    conditions.fields_ignored(&ignored);
    conditions.deletion_blocked(held);
    SchedulingPolicyStatus { observed_generation: policy.metadata.generation, queues: Some(queues), ..status }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::conditions::{ConditionType, find};
    use serde_json::{Value, json};

    fn policy(metadata: Value, spec: Value) -> SchedulingPolicy {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "SchedulingPolicy",
            "metadata": {"name": "p", "namespace": "ns", "generation": 3}, "spec": spec});
        for (key, value) in metadata.as_object().expect("an object") {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).expect("a policy")
    }

    #[test]
    fn obstacles() {
        let shares = |names: &[&str]| {
            let list: Vec<_> = names.iter().map(|name| json!({"shareIdentifier": name})).collect();
            json!({"fairsharePolicy": {"shareDistribution": list}})
        };
        for (spec, want) in [
            (json!({}), ""),
            (json!({"fairsharePolicy": {}}), ""),
            (json!({"quotaSharePolicy": {"idleResourceAssignmentStrategy": "FIFO"}}), "quotaSharePolicy"),
            (shares(&["UserA", "UserB*", "UserA1"]), ""),
            (shares(&["UserA*", "UserA1"]), "UserA* and UserA1"),
            (shares(&["UserA1", "UserA*"]), "UserA* and UserA1"),
            (shares(&["User*", "UserA*"]), "User* and UserA*"),
        ] {
            let policy = policy(json!({}), spec.clone());
            let got = obstacle(&policy);
            assert_eq!(got.is_some(), !want.is_empty(), "{spec}: {got:?}");
            assert!(got.unwrap_or_default().contains(want), "{spec}");
            let status = status(&policy, vec!["q".into()], Timestamp::UNIX_EPOCH);
            let ready = find(&status.conditions, ConditionType::Ready).expect("a condition");
            assert_eq!(ready.status == "True", want.is_empty(), "{spec}");
            assert_eq!((status.queues, status.observed_generation), (Some(1), Some(3)));
        }
    }

    #[test]
    fn a_deletion_says_what_blocks_it() {
        let policy = policy(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({}));
        let status = status(&policy, vec!["b".into(), "a".into()], Timestamp::UNIX_EPOCH);
        let blocked = find(&status.conditions, ConditionType::DeletionBlocked).expect("a condition");
        assert_eq!(blocked.message, "Queues name it: a, b");
    }

    #[test]
    fn a_queue_names_its_policy_by_name_or_arn() {
        let queue = |namespace: &str, reference: Option<&str>| {
            let mut queue = JobQueue::default();
            queue.metadata.namespace = Some(namespace.to_owned());
            queue.spec.scheduling_policy_arn = reference.map(str::to_owned);
            queue
        };
        let policy = policy(json!({}), json!({}));
        for (queue, want) in [
            (queue("ns", Some("p")), true),
            (queue("ns", Some("arn:aws:batch:eu-west-1:123456789012:scheduling-policy/p")), true),
            (queue("other", Some("p")), false),
            (queue("ns", Some("q")), false),
            (queue("ns", None), false),
        ] {
            assert_eq!(uses(&queue, &policy), want, "{:?}", queue.spec.scheduling_policy_arn);
        }
    }
}
