//! TagResource, UntagResource, ListTagsForResource
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_TagResource.html>).
//!
//! The tags of queues, policies, consumable resources and environments stand in their specs. Those of jobs and of
//! revisions cannot be changed there: an annotation holds what they are since they were changed.

use std::collections::BTreeMap;
use std::fmt::Debug;

use batchyard_core::name::DefinitionRef;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::account::Kind;
use super::call::Call;
use super::failure::Failure;
use super::jobs::Target;
use super::names;
use super::world::Cache;
use crate::crd::{BatchJob, ComputeEnvironment, ConsumableResource, JobQueue, SchedulingPolicy};
use crate::k8s::meta;
use crate::k8s::revisions;

type Tags = BTreeMap<String, String>;

/// How often somebody else may have changed the object meanwhile.
const TRIES: usize = 10;

/// What is to be done with tags.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing: they are asked for.
    List,
    /// These are added, or take the place of those with the same keys.
    Add(Tags),
    /// Those with these keys go.
    Remove(Vec<String>),
}

impl Change {
    /// TagResource's body.
    ///
    /// # Errors
    /// When it has no tags, or such as AWS does not take.
    pub(super) fn add(body: &Value) -> Result<Self, Failure> {
        let stated = body.as_object().and_then(|members| members.get("tags"));
        if let Some(unknown) =
            body.as_object().into_iter().flatten().map(|(name, _)| name).find(|name| *name != "tags")
        {
            return Err(Failure::client(format!("{unknown}: this operation has no such member")));
        }
        let stated = stated
            .ok_or_else(|| Failure::client("'tags' is a required field (cannot be an empty string)"))?;
        let tags: Tags = serde_json::from_value(stated.clone())
            .map_err(|_| Failure::client("tags must be a map of strings"))?;
        Ok(Self::Add(tags))
    }

    /// What becomes of tags, if that is another thing than they were.
    fn apply(&self, tags: &Tags) -> Result<Option<Tags>, Failure> {
        let mut changed = tags.clone();
        match self {
            Self::List => {}
            Self::Add(more) => changed.extend(more.clone()),
            Self::Remove(keys) => changed.retain(|key, _| !keys.contains(key)),
        }
        check(&changed)?;
        Ok(Some(changed).filter(|changed| changed != tags))
    }

    fn verb(&self) -> &'static str {
        if *self == Self::List { "get" } else { "update" }
    }
}

/// AWS's limits, for tags that no schema checks.
fn check(tags: &Tags) -> Result<(), Failure> {
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    if tags.len() > 50 {
        return Err(Failure::client("tags can have at most 50 entries"));
    }
    for (key, value) in tags {
        let text = match () {
            () if key.is_empty() || key.chars().count() > 128 => "Tag keys can have 1 to 128 characters",
            () if value.chars().count() > 256 => "Tag values can have at most 256 characters",
            () if key.to_lowercase().starts_with("aws:") => "Tag keys that start with aws: are reserved",
            () if !key.chars().chain(value.chars()).all(allowed) => {
                "Tags can only contain letters, numbers, spaces, and the following special characters: _ . : / = + - @"
            }
            () => continue,
        };
        return Err(Failure::client(text));
    }
    Ok(())
}

/// Carries a change of tags out, or tells them.
///
/// # Errors
/// When there is nothing of this ARN, or the caller may not see or change it.
pub(super) async fn tags(call: &Call, arn: &str, change: Change) -> Result<Value, Failure> {
    let (kind, name) = call.account.parse(arn)?;
    let world = call.world();
    let known = match kind {
        Kind::Queue => {
            let of = Named { kind: "jobqueues", tags: |queue: &mut JobQueue| &mut queue.spec.tags };
            in_spec(call, &world.queues, name, &change, of).await?
        }
        Kind::Policy => {
            let of = Named {
                kind: "schedulingpolicies",
                tags: |policy: &mut SchedulingPolicy| &mut policy.spec.tags,
            };
            in_spec(call, &world.policies, name, &change, of).await?
        }
        Kind::Resource => {
            let of = Named {
                kind: "consumableresources",
                tags: |found: &mut ConsumableResource| &mut found.spec.tags,
            };
            in_spec(call, &world.resources, name, &change, of).await?
        }
        Kind::Environment => of_environment(call, name, &change).await?,
        Kind::Job => of_job(call, name, &change).await?,
        Kind::Definition => of_revision(call, name, &change).await?,
    };
    let tags = known.ok_or_else(|| Failure::client(format!("{arn} not found.")))?;
    Ok(match change {
        Change::List => json!({"tags": tags}),
        Change::Add(_) | Change::Remove(_) => json!({}),
    })
}

/// A kind whose spec has tags.
struct Named<K> {
    kind: &'static str,
    tags: fn(&mut K) -> &mut Tags,
}

async fn in_spec<K>(
    call: &Call,
    cache: &Cache<K>,
    name: &str,
    change: &Change,
    of: Named<K>,
) -> Result<Option<Tags>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    for _ in 0..TRIES {
        let Some(mut found) = call.world().live::<K>(call.namespace(), name).await? else { return Ok(None) };
        call.may(change.verb(), of.kind, found.meta().name.as_deref()).await?;
        let tags = (of.tags)(&mut found);
        let Some(changed) = change.apply(tags)? else { return Ok(Some(tags.clone())) };
        tags.clone_from(&changed);
        match call.writer().replace_object(&call.api(), &found).await {
            Ok(stored) => {
                cache.settle(&stored).await;
                return Ok(Some(changed));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this resource at a time"))
}

async fn of_environment(call: &Call, name: &str, change: &Change) -> Result<Option<Tags>, Failure> {
    let api: Api<ComputeEnvironment> = Api::all(call.world().client.clone());
    let Some(known) = call.environment(name)? else { return Ok(None) };
    call.may(change.verb(), "computeenvironments", known.metadata.name.as_deref()).await?;
    if *change != Change::List && !call.is_own(&known) {
        return Err(Failure::denied(format!("ComputeEnvironment {name} belongs to the whole cluster")));
    }
    let object = known.name_any();
    for _ in 0..TRIES {
        let live =
            crate::k8s::read::read(format!("get ComputeEnvironment {object}"), || api.get_opt(&object));
        let Some(mut live) = live.await? else { return Ok(None) };
        let Some(changed) = change.apply(&live.spec.tags)? else { return Ok(Some(live.spec.tags)) };
        live.spec.tags.clone_from(&changed);
        match call.writer().replace_object(&api, &live).await {
            Ok(stored) => {
                call.world().environments.settle(&stored).await;
                return Ok(Some(changed));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this resource at a time"))
}

async fn of_job(call: &Call, id: &str, change: &Change) -> Result<Option<Tags>, Failure> {
    let target = Target::parse(id);
    if target.part.is_some() {
        return Err(Failure::client(format!("{id} is part of a job, and has no tags of its own")));
    }
    call.may(change.verb(), "batchjobs", None).await?;
    let found = call.job(id).await?;
    let Some(job) = found else { return Ok(None) };
    if *change == Change::List {
        return Ok(Some(names::tags(job.as_ref(), &job.spec.tags)));
    }
    let (api, name) = (call.api::<BatchJob>(), job.name_any());
    annotate(call, &api, &name, change, &call.world().jobs.cache, |job: &BatchJob| job.spec.tags.clone())
        .await
}

async fn of_revision(call: &Call, reference: &str, change: &Change) -> Result<Option<Tags>, Failure> {
    let named = DefinitionRef::parse(reference).map_err(Failure::client)?;
    let Some(number) = named.revision else {
        return Err(Failure::client(format!("job-definition/{reference} must have a revision")));
    };
    let Some(found) = call.revision(&named.name, number).await? else { return Ok(None) };
    call.may(change.verb(), "jobdefinitions", revisions::definition_name(&found.object)).await?;
    let stated = found.spec().map(|spec| spec.tags).unwrap_or_default();
    if *change == Change::List {
        return Ok(Some(names::tags(found.object.as_ref(), &stated)));
    }
    let (api, name) = (call.api::<ControllerRevision>(), found.object.name_any());
    annotate(call, &api, &name, change, &call.world().revisions.cache, |_: &ControllerRevision| {
        stated.clone()
    })
    .await
}

/// Keeps the tags in an annotation.
async fn annotate<K>(
    call: &Call,
    api: &Api<K>,
    name: &str,
    change: &Change,
    cache: &Cache<K>,
    stated: impl Fn(&K) -> Tags,
) -> Result<Option<Tags>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    for _ in 0..TRIES {
        let what = format!("get {} {name}", K::kind(&()));
        let Some(live) = crate::k8s::read::read(what, || api.get_opt(name)).await? else { return Ok(None) };
        let tags = names::tags(&live, &stated(&live));
        let Some(changed) = change.apply(&tags)? else { return Ok(Some(tags)) };
        let text = json!(changed).to_string();
        let patch = json!({"metadata": {"resourceVersion": live.resource_version(), "annotations": {meta::TAGS: text}}});
        match call.writer().merge_object(api, &live, &patch).await {
            Ok(stored) => {
                cache.settle(&stored).await;
                return Ok(Some(changed));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this resource at a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &[(&str, &str)]) -> Tags {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_added_and_removed() {
        let some = tags(&[("a", "1"), ("b", "2")]);
        let add = Change::add(&json!({"tags": {"b": "3", "c": "4"}})).expect("tags");
        assert_eq!(add.apply(&some), Ok(Some(tags(&[("a", "1"), ("b", "3"), ("c", "4")]))));
        let remove = Change::Remove(vec!["a".into(), "x".into()]);
        assert_eq!(remove.apply(&some), Ok(Some(tags(&[("b", "2")]))));
        assert_eq!(Change::Remove(vec!["x".into()]).apply(&some), Ok(None), "nothing to write");
        for wrong in [json!({}), json!({"tags": []}), json!({"tags": {"a": 1}}), json!({"tags": {}, "x": 1})]
        {
            Change::add(&wrong).expect_err("refused");
        }
    }

    #[test]
    fn awss_limits_hold() {
        let many = (0..51).map(|n| (n.to_string(), String::new())).collect();
        for (wrong, says) in [
            (many, "50"),
            (tags(&[("AWS:x", "")]), "reserved"),
            (tags(&[("", "")]), "1 to 128"),
            (tags(&[(&"x".repeat(129), "")]), "1 to 128"),
            (tags(&[("x", &"x".repeat(257))]), "256"),
            (tags(&[("x", "a;b")]), "special characters"),
        ] {
            let failure = Change::Add(wrong).apply(&Tags::new()).expect_err(says);
            assert!(failure.message().contains(says), "{failure:?}");
        }
    }
}
