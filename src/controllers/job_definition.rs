//! Definitions: each change of a spec becomes a numbered revision.

use std::sync::Arc;

use batchyard_core::definition::revision::{Newest, Revision, newest};
use batchyard_core::reason::{logs, resources};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, Resource, ResourceExt};
use tracing::info;

use super::revision;
use super::standing::{Conditions, count, ignored_fields, is_deleting};
use super::{Context, Outcome, Wake};
use crate::crd::convert::logging;
use crate::crd::ignored::{Kind, unsupported_fields};
use crate::crd::job_definition::{Revision as RevisionEntry, RevisionStatus};
use crate::crd::{JobDefinition, JobDefinitionStatus, size};
use crate::k8s::error::chain;
use crate::k8s::events::News;
use crate::k8s::revisions::{aws_name, floor, is_active, register, wanted};

/// Revisions that the status lists.
const LISTED: usize = 50;

/// Looks at one definition.
pub async fn reconcile(definition: Arc<JobDefinition>, context: Arc<Context>) -> Outcome {
    let namespace = definition.namespace().unwrap_or_default();
    if is_deleting(definition.as_ref()) || context.caches.is_terminating(&namespace) {
        return Ok(Wake::OnChange);
    }
    let wanted = wanted(&definition);
    let mut revisions = revision::of_definition(&context.caches, &namespace, &definition.name_any());
    let mut refused = None;
    if let Newest::Make(_) = newest(&wanted, &revisions, floor(&definition)) {
        match register(&context.writer, &definition, &wanted).await {
            Ok(claim) => {
                if let Some(made) = &claim.made {
                    told(&definition, made, &context);
                }
                revisions = claim.revisions;
            }
            Err(error) if error.kind() == "invalid" => refused = Some(chain(&error)),
            Err(error) => return Err(error),
        }
    }
    let status = status(&definition, &revisions, refused.as_deref(), Timestamp::now());
    if definition.status.as_ref() != Some(&status) {
        let api: Api<JobDefinition> = Api::namespaced(context.writer.client().clone(), &namespace);
        let changed = JobDefinition { status: Some(status), ..JobDefinition::clone(&definition) };
        context.writer.replace_status(&api, &changed).await?;
    }
    Ok(Wake::OnChange)
}

fn told(definition: &JobDefinition, made: &ControllerRevision, context: &Context) {
    let number = u32::try_from(made.revision).unwrap_or(0);
    info!(definition = definition.name_any(), revision = number, "revision made");
    let note = resources::registered(number);
    context.events.publish(definition.object_ref(&()), News::normal("Registered", note));
}

/// The status that follows from the spec and the revisions.
fn status(
    definition: &JobDefinition,
    revisions: &[Revision],
    refused: Option<&str>,
    now: Timestamp,
) -> JobDefinitionStatus {
    let old = definition.status.clone().unwrap_or_default();
    let entry = |revision: &Revision| RevisionEntry {
        revision: number(revision.number),
        status: if is_active(definition, revision) {
            RevisionStatus::Active
        } else {
            RevisionStatus::Inactive
        },
        inactive_since: revision.inactive_since,
    };
    let mut entries: Vec<_> = revisions.iter().map(entry).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.revision));
    let newest = entries.first().map(|entry| entry.revision);
    let latest_active = entries.iter().find(|entry| entry.status == RevisionStatus::Active);
    let latest_active = latest_active.map(|entry| entry.revision);
    let mut conditions = old.conditions;
    set_conditions(definition, newest, latest_active.is_some(), refused, &mut conditions, now);
    JobDefinitionStatus {
        // Until the spec has its revision, nobody may take an older one for it.
        observed_generation: if refused.is_some() {
            old.observed_generation
        } else {
            definition.metadata.generation
        },
        revision: newest,
        job_definition: newest.map(|newest| format!("{}:{newest}", aws_name(definition))),
        status: newest.map(|_| latest_active.map_or(RevisionStatus::Inactive, |_| RevisionStatus::Active)),
        latest_active,
        revision_count: Some(count(entries.len())),
        revisions: entries.into_iter().take(LISTED).collect(),
        conditions,
    }
}

fn set_conditions(
    definition: &JobDefinition,
    newest: Option<i32>,
    any_active: bool,
    refused: Option<&str>,
    conditions: &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    now: Timestamp,
) {
    let spec = serde_json::to_value(&definition.spec).unwrap_or_default();
    let unsupported = unsupported_fields(Kind::JobDefinition, &spec);
    let logging = logging::look(&definition.spec);
    let too_large = size::check_definition(&definition.spec).err();
    let newest = newest.and_then(|newest| u32::try_from(newest).ok()).unwrap_or(0);
    let mut conditions = Conditions::of(definition, conditions, now);
    match refused {
        Some(why) => conditions.ready(false, "RevisionRefused", resources::revision_refused(why)),
        None if !unsupported.is_empty() => {
            conditions.ready(false, "NotSupported", resources::unsupported(&unsupported));
        }
        None if too_large.is_some() => conditions.ready(false, "Invalid", too_large.unwrap_or_default()),
        None if !logging.faults.is_empty() => {
            conditions.ready(false, "Invalid", logging.faults.join("; "));
        }
        None if any_active => conditions.ready(true, "Registered", resources::registered(newest)),
        None => conditions.ready(true, "Deregistered", resources::all_deregistered(newest)),
    }
    let aws_name = definition.spec.job_definition_name.as_deref();
    let mut ignored =
        ignored_fields(Kind::JobDefinition, definition, &definition.spec, "jobDefinitionName", aws_name);
    ignored.retain(|field| !unsupported.contains(field));
    conditions.fields_ignored(&ignored);
    let plain_text = (!logging.plain_text.is_empty()).then(|| logs::plain_text(&logging.plain_text));
    conditions.plain_text_secret(plain_text);
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::conditions::{ConditionType, find};
    use crate::k8s::revisions::{definition_name, object, of};
    use batchyard_core::definition::revision::Newest;
    use serde_json::Value;
    use serde_json::json;

    fn definition(more: Value) -> JobDefinition {
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobDefinition",
            "metadata": {"name": "spot", "namespace": "ns", "uid": "u", "generation": 4,
                "labels": {"argocd.argoproj.io/instance": "app"}},
            "spec": {"type": "container", "containerProperties": {"image": "alpine", "vcpus": 1, "memory": 64}}});
        for (key, value) in more.as_object().expect("an object") {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).expect("a definition")
    }

    fn made(definition: &JobDefinition, number: u32) -> Revision {
        of(&object(definition, &wanted(definition), number))
    }

    #[test]
    fn a_revision_is_read_as_it_was_made() {
        let definition = definition(json!({"registration": "again", "deregistered": [1]}));
        let object = object(&definition, &wanted(&definition), 2);
        let revision = of(&object);
        assert!(revision.active);
        assert_eq!((revision.number, &revision.made_from), (2, &wanted(&definition)));
        assert_eq!(newest(&wanted(&definition), &[revision], 2), Newest::Is(2));
        assert_eq!(definition_name(&object), Some("spot"));
        assert!(object.metadata.owner_references.is_none());
        assert!(!object.labels().contains_key("argocd.argoproj.io/instance"));
        let data = object.data.expect("data").0;
        assert!(data.get("registration").is_none() && data.get("deregistered").is_none(), "{data}");
        assert!(serde_json::from_value::<crate::crd::JobDefinitionSpec>(data).is_ok());
    }

    #[test]
    fn the_status_follows_from_the_revisions() {
        let now = Timestamp::UNIX_EPOCH;
        let definition = definition(json!({"deregistered": [3]}));
        let mut old = made(&definition, 1);
        old.made_from.definition_uid = "before".to_owned();
        let revisions = [made(&definition, 2), old, made(&definition, 3)];
        let status = super::status(&definition, &revisions, None, now);
        assert_eq!(
            (status.revision, status.latest_active, status.revision_count),
            (Some(3), Some(2), Some(3))
        );
        assert_eq!(status.job_definition.as_deref(), Some("spot:3"));
        let told: Vec<_> = status.revisions.iter().map(|r| (r.revision, r.status)).collect();
        let inactive = RevisionStatus::Inactive;
        assert_eq!(told, [(3, inactive), (2, RevisionStatus::Active), (1, inactive)]);
        let ready = find(&status.conditions, ConditionType::Ready).expect("ready");
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(4)));
        let again = JobDefinition { status: Some(status.clone()), ..definition };
        let later = now + jiff::SignedDuration::from_secs(60);
        assert_eq!(super::status(&again, &revisions, None, later), status, "a fixpoint");
    }

    #[test]
    fn a_refused_revision_is_not_observed() {
        let definition = definition(json!({}));
        let status = super::status(&definition, &[], Some("too large"), Timestamp::UNIX_EPOCH);
        assert_eq!((status.observed_generation, status.revision), (None, None));
        let ready = find(&status.conditions, ConditionType::Ready).expect("ready");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RevisionRefused"));
    }
}
