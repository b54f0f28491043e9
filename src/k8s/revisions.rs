//! Revisions of definitions as objects: how they are told from others, read, and claimed.
//!
//! A revision is a ControllerRevision `<definition>-<n>` without an owner reference, since it outlives its definition.
//! The controller makes one for a changed spec, the AWS door for every RegisterJobDefinition.

use std::collections::BTreeMap;

use batchyard_core::definition::revision::{Newest, Registered, Revision, newest};
use batchyard_core::name;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::apply::Writer;
use super::error::Error;
use super::meta;
use super::read::read;
use crate::crd::JobDefinition;

/// Tries to claim a number while others claim numbers too.
const TRIES: usize = 5;

/// A revision as the core sees it.
pub fn of(revision: &ControllerRevision) -> Revision {
    let annotation = |key: &str| revision.annotations().get(key).cloned();
    Revision {
        number: u32::try_from(revision.revision).unwrap_or(0),
        active: is_labelled_active(revision),
        inactive_since: annotation(meta::INACTIVE_SINCE).and_then(|text| text.parse().ok()),
        made_from: Registered {
            definition_uid: annotation(meta::DEFINITION_UID).unwrap_or_default(),
            registration: annotation(meta::REGISTRATION),
            data: revision.data.as_ref().map(|data| data.0.clone()).unwrap_or_default(),
        },
    }
}

/// The name of the definition that a revision belongs to: its own without the number.
pub fn definition_name(revision: &ControllerRevision) -> Option<&str> {
    let name = revision.metadata.name.as_deref()?;
    name.strip_suffix(&revision.revision.to_string())?.strip_suffix('-')
}

/// True if the definition's `deregistered` names the revision.
pub fn is_deregistered(definition: &JobDefinition, number: u32) -> bool {
    definition.spec.deregistered.iter().any(|listed| u32::try_from(*listed) == Ok(number))
}

/// The uid of the definition that a revision was made from.
pub fn definition_uid(revision: &ControllerRevision) -> Option<&str> {
    revision.annotations().get(meta::DEFINITION_UID).map(String::as_str)
}

/// True if jobs may take a revision. That it is to be INACTIVE is known before its label says so.
pub fn is_active(definition: &JobDefinition, revision: &Revision) -> bool {
    let made_from = Some(revision.made_from.definition_uid.as_str());
    revision.active && may_be_taken(definition, made_from, revision.number)
}

/// The same of an object, whose data is not looked at.
pub fn is_active_object(definition: &JobDefinition, revision: &ControllerRevision) -> bool {
    let number = u32::try_from(revision.revision).unwrap_or(0);
    is_labelled_active(revision) && may_be_taken(definition, definition_uid(revision), number)
}

fn is_labelled_active(revision: &ControllerRevision) -> bool {
    revision.labels().get(meta::REVISION_STATUS).is_some_and(|status| status == meta::ACTIVE)
}

fn may_be_taken(definition: &JobDefinition, made_from: Option<&str>, number: u32) -> bool {
    definition.metadata.uid.as_deref() == made_from && !is_deregistered(definition, number)
}

/// AWS's name where the object is named by its slug, else the object's.
pub fn aws_name(definition: &JobDefinition) -> String {
    let object = definition.name_any();
    definition.spec.job_definition_name.clone().filter(|name| name::slug(name) == object).unwrap_or(object)
}

/// What the spec registers.
pub fn wanted(definition: &JobDefinition) -> Registered {
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
pub fn floor(definition: &JobDefinition) -> u32 {
    let known = definition.status.as_ref().and_then(|status| status.revision);
    known.and_then(|known| u32::try_from(known).ok()).unwrap_or(0)
}

/// What the registrations of the AWS door begin with. Each is a call of its own, which makes one revision: whoever sees
/// the definition as it was before a later call makes no second one.
pub const DOOR: &str = "aws/";

/// The revisions of a definition after what it wants was registered.
#[derive(Debug)]
pub struct Claim {
    /// All of them, with the new one.
    pub revisions: Vec<Revision>,
    /// The number of what was wanted.
    pub number: u32,
    /// The one that was made for this; nothing if it was there already.
    pub made: Option<ControllerRevision>,
}

/// Claims the next number for what is wanted, and returns all revisions. The cache may not show
/// what this process or another made a moment ago, so that only a live list counts.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn register(
    writer: &Writer,
    definition: &JobDefinition,
    wanted: &Registered,
) -> Result<Claim, Error> {
    let mut floor = floor(definition);
    let mut tries = 0;
    loop {
        let mut revisions = live(writer, definition, floor).await?;
        let number = match next(wanted, &revisions, floor) {
            Newest::Is(number) => return Ok(Claim { revisions, number, made: None }),
            Newest::Make(number) => number,
        };
        tries += 1;
        match writer.create_revision(&object(definition, wanted, number)).await {
            Ok(created) => {
                revisions.push(of(&created));
                return Ok(Claim { revisions, number, made: Some(created) });
            }
            // The number is taken: by this very revision, another one, or something that is no revision of ours.
            Err(error) if error.is_conflict() && tries < TRIES => floor = number,
            Err(error) => return Err(error),
        }
    }
}

fn next(wanted: &Registered, revisions: &[Revision], floor: u32) -> Newest {
    let is_call = wanted.registration.as_ref().is_some_and(|registration| registration.starts_with(DOOR));
    let done = revisions.iter().find(|revision| is_call && revision.made_from == *wanted);
    done.map_or_else(|| newest(wanted, revisions, floor), |done| Newest::Is(done.number))
}

/// The revisions as they are now. The one that is known to be the newest is asked for by its name if the
/// list lacks it: a list may come from an API server that lags behind.
async fn live(writer: &Writer, definition: &JobDefinition, newest: u32) -> Result<Vec<Revision>, Error> {
    let (namespace, name) = (definition.namespace().unwrap_or_default(), definition.name_any());
    let api: Api<ControllerRevision> = Api::namespaced(writer.client().clone(), &namespace);
    let mut found = list(&api, &name).await?;
    if newest > 0 && !found.iter().any(|revision| revision.revision == i64::from(newest)) {
        let by_name = format!("{name}-{newest}");
        let named = read(format!("get ControllerRevision {by_name}"), || api.get_opt(&by_name)).await?;
        let is_ours = |named: &ControllerRevision| {
            named.labels().get(meta::MANAGED_BY).is_some_and(|by| by == meta::OPERATOR)
        };
        found.extend(named.filter(is_ours));
    }
    Ok(found.iter().map(of).collect())
}

/// The revisions of the definition of this name, as a list of the API server has them.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn list(api: &Api<ControllerRevision>, definition: &str) -> Result<Vec<ControllerRevision>, Error> {
    let labels = labels(definition).into_iter().filter(|(key, _)| key != meta::REVISION_STATUS);
    let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    let mut found =
        read(format!("list ControllerRevisions of {definition}"), || api.list(&params)).await?.items;
    found.retain(|revision| definition_name(revision) == Some(definition));
    Ok(found)
}

fn labels(definition: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (meta::MANAGED_BY.to_owned(), meta::OPERATOR.to_owned()),
        (meta::JOB_DEFINITION.to_owned(), name::slug(definition)),
        (meta::REVISION_STATUS.to_owned(), meta::ACTIVE.to_owned()),
    ])
}

/// The revision to create. No owner reference and nothing of the user's: pruning would take it.
pub fn object(definition: &JobDefinition, wanted: &Registered, number: u32) -> ControllerRevision {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_of_the_door_makes_one_revision() {
        let wanted = |registration: &str, image: &str| Registered {
            definition_uid: "u".into(),
            registration: Some(registration.into()),
            data: json!({"image": image}),
        };
        let made = |number, made_from| Revision { number, active: true, inactive_since: None, made_from };
        let after = [made(1, wanted("aws/a", "x")), made(2, wanted("aws/b", "y"))];
        assert_eq!(next(&wanted("aws/a", "x"), &after, 2), Newest::Is(1), "a late look at the first call");
        assert_eq!(next(&wanted("aws/c", "x"), &after, 2), Newest::Make(3));
        let applied = [made(1, wanted("a", "x")), made(2, wanted("a", "y"))];
        assert_eq!(next(&wanted("a", "x"), &applied, 2), Newest::Make(3), "going back is a new registration");
    }

    #[test]
    fn belongs_to_a_definition_by_name_and_number() {
        for (name, number, want) in [
            ("spot-3", 3, Some("spot")),
            ("a-1-12", 12, Some("a-1")),
            ("spot-13", 3, None),
            ("spot3", 3, None),
            ("spot-3", 4, None),
        ] {
            let mut revision = ControllerRevision { revision: number, ..ControllerRevision::default() };
            revision.metadata.name = Some(name.to_owned());
            assert_eq!(definition_name(&revision), want, "{name}");
        }
    }
}
