//! Definitions: each change of a spec becomes a numbered revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::definition::revision::{Newest, Registered, Revision, newest};
use batchyard_core::name;
use batchyard_core::reason::resources;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;
use tracing::info;

use super::revision::{self, definition_name, is_deregistered};
use super::standing::{Conditions, count, ignored_fields, is_deleting};
use super::{Context, Outcome, Wake};
use crate::crd::ignored::{Kind, unsupported_fields};
use crate::crd::job_definition::{Revision as RevisionEntry, RevisionStatus};
use crate::crd::{JobDefinition, JobDefinitionStatus};
use crate::k8s::error::{Error, chain};
use crate::k8s::events::News;
use crate::k8s::meta;
use crate::k8s::read::read;

/// Tries to claim a number while others claim numbers too.
const TRIES: usize = 5;
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
        match register(&definition, &wanted, &context).await {
            Ok(live) => revisions = live,
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

/// What the spec registers.
fn wanted(definition: &JobDefinition) -> Registered {
    let mut data = serde_json::to_value(&definition.spec).unwrap_or_default();
    if let Value::Object(members) = &mut data {
        members.remove("deregistered");
        members.remove("registration");
    }
    Registered {
        definition_uid: definition.uid().unwrap_or_default(),
        registration: definition.spec.registration.clone(),
        data,
    }
}

/// The number that the status remembers: it is taken even if somebody deleted its revision.
fn floor(definition: &JobDefinition) -> u32 {
    let known = definition.status.as_ref().and_then(|status| status.revision);
    known.and_then(|known| u32::try_from(known).ok()).unwrap_or(0)
}

/// Claims the next number for what is wanted, and returns all revisions. The cache may not show
/// what this process or the door made a moment ago, so that only a live list counts.
async fn register(
    definition: &JobDefinition,
    wanted: &Registered,
    context: &Context,
) -> Result<Vec<Revision>, Error> {
    let mut floor = floor(definition);
    let mut tries = 0;
    loop {
        let mut revisions = live(definition, floor, context).await?;
        let Newest::Make(number) = newest(wanted, &revisions, floor) else { return Ok(revisions) };
        tries += 1;
        match context.writer.create_revision(&object(definition, wanted, number)).await {
            Ok(created) => {
                let note = resources::registered(number);
                info!(definition = definition.name_any(), revision = number, "revision made");
                context.events.publish(definition.object_ref(&()), News::normal("Registered", note));
                revisions.push(revision::of(&created));
                return Ok(revisions);
            }
            // The number is taken: by this very revision, another one, or something that is no revision of ours.
            Err(error) if error.is_conflict() && tries < TRIES => floor = number,
            Err(error) => return Err(error),
        }
    }
}

/// The revisions as they are now. The one that is known to be the newest is asked for by its name if the
/// list lacks it: a list may come from an API server that lags behind.
async fn live(definition: &JobDefinition, newest: u32, context: &Context) -> Result<Vec<Revision>, Error> {
    let (namespace, name) = (definition.namespace().unwrap_or_default(), definition.name_any());
    let labels = labels(&name).into_iter().filter(|(key, _)| key != meta::REVISION_STATUS);
    let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    let api: Api<ControllerRevision> = Api::namespaced(context.writer.client().clone(), &namespace);
    let params = ListParams::default().labels(&selector.join(","));
    let list = read(format!("list ControllerRevisions of {namespace}/{name}"), || api.list(&params)).await?;
    let mut found = list.items;
    if newest > 0 && !found.iter().any(|revision| revision.revision == i64::from(newest)) {
        let by_name = format!("{name}-{newest}");
        let named = read(format!("get ControllerRevision {by_name}"), || api.get_opt(&by_name)).await?;
        let is_ours = |named: &ControllerRevision| {
            named.labels().get(meta::MANAGED_BY).is_some_and(|by| by == meta::OPERATOR)
        };
        found.extend(named.filter(is_ours));
    }
    let is_its = |revision: &&ControllerRevision| definition_name(revision) == Some(name.as_str());
    Ok(found.iter().filter(is_its).map(revision::of).collect())
}

fn labels(definition: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (meta::MANAGED_BY.to_owned(), meta::OPERATOR.to_owned()),
        (meta::JOB_DEFINITION.to_owned(), name::slug(definition)),
        (meta::REVISION_STATUS.to_owned(), meta::ACTIVE.to_owned()),
    ])
}

/// The revision to create. No owner reference and nothing of the user's: pruning would take it.
fn object(definition: &JobDefinition, wanted: &Registered, number: u32) -> ControllerRevision {
    let mut annotations = BTreeMap::from([(meta::DEFINITION_UID.to_owned(), wanted.definition_uid.clone())]);
    annotations.extend(wanted.registration.clone().map(|text| (meta::REGISTRATION.to_owned(), text)));
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{number}", definition.name_any())),
            namespace: definition.namespace(),
            labels: Some(labels(&definition.name_any())),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(wanted.data.clone())),
        revision: i64::from(number),
    }
}

/// True if jobs may take a revision. That it is to be INACTIVE is known before its label says so.
pub(super) fn is_active(definition: &JobDefinition, revision: &Revision) -> bool {
    revision.active
        && definition.uid().as_ref() == Some(&revision.made_from.definition_uid)
        && !is_deregistered(definition, revision.number)
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
    let newest = newest.and_then(|newest| u32::try_from(newest).ok()).unwrap_or(0);
    let mut conditions = Conditions::of(definition, conditions, now);
    match refused {
        Some(why) => conditions.ready(false, "RevisionRefused", resources::revision_refused(why)),
        None if !unsupported.is_empty() => {
            conditions.ready(false, "NotSupported", resources::unsupported(&unsupported));
        }
        None if any_active => conditions.ready(true, "Registered", resources::registered(newest)),
        None => conditions.ready(true, "Deregistered", resources::all_deregistered(newest)),
    }
    let aws_name = definition.spec.job_definition_name.as_deref();
    let mut ignored =
        ignored_fields(Kind::JobDefinition, definition, &definition.spec, "jobDefinitionName", aws_name);
    ignored.retain(|field| !unsupported.contains(field));
    conditions.fields_ignored(&ignored);
}

/// AWS's name where the object is named by its slug, else the object's.
pub(super) fn aws_name(definition: &JobDefinition) -> String {
    let object = definition.name_any();
    definition.spec.job_definition_name.clone().filter(|name| name::slug(name) == object).unwrap_or(object)
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::conditions::{ConditionType, find};
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
        revision::of(&object(definition, &wanted(definition), number))
    }

    #[test]
    fn a_revision_is_read_as_it_was_made() {
        let definition = definition(json!({"registration": "again", "deregistered": [1]}));
        let object = object(&definition, &wanted(&definition), 2);
        let revision = revision::of(&object);
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
