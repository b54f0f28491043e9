//! RegisterJobDefinition, DescribeJobDefinitions, DeregisterJobDefinition.
//!
//! A definition is a JobDefinition object, which says what the newest revision shall be, and a ControllerRevision for
//! each revision. Registering writes the object first and then claims the revision's number; whoever finds an object
//! whose revision is not claimed yet claims it first, so that numbers are in the order in which objects were written.

use std::sync::Arc;

use batchyard_core::definition::revision::{Newest, newest};
use batchyard_core::name::{self, DefinitionRef};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::Kind;
use super::call::{Call, input};
use super::failure::Failure;
use super::names::{self, members, text};
use super::page::Wanted;
use crate::crd::{JobDefinition, JobDefinitionSpec};
use crate::k8s::meta;
use crate::k8s::revisions::{self, is_active, register, wanted};

/// AWS's bound of a request (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
const MAX_BYTES: usize = 24 * 1024;
/// How often somebody else may have changed the definition meanwhile.
const TRIES: usize = 10;
const RESOURCE: &str = "jobdefinitions";

const MEMBERS: &[&str] = &[
    "jobDefinitionName",
    "type",
    "parameters",
    "schedulingPriority",
    "containerProperties",
    "nodeProperties",
    "retryStrategy",
    "propagateTags",
    "timeout",
    "tags",
    "platformCapabilities",
    "eksProperties",
    "ecsProperties",
    "consumableResourceProperties",
];

pub(super) async fn register_job_definition(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "jobDefinitionName")?.to_owned();
    if body.to_string().len() > MAX_BYTES {
        return Err(Failure::client(format!("Job definition must be smaller than {MAX_BYTES} bytes")));
    }
    let mut spec: JobDefinitionSpec = names::spec("JobDefinition", MEMBERS, &body)?;
    call.may("create", RESOURCE, None).await?;
    // The tries of one call register once; two calls that say the same make two revisions.
    let registration = call.invocation.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    spec.registration = Some(format!("{}{registration}", revisions::DOOR));
    for _ in 0..TRIES {
        let found: Option<JobDefinition> = call.world().live(call.namespace(), &aws_name).await?;
        if let Some(found) = &found {
            call.may("update", RESOURCE, found.metadata.name.as_deref()).await?;
        }
        let Some(stored) = store(call, &aws_name, found, &spec).await? else { continue };
        let claim = register(call.writer(), &stored, &wanted(&stored)).await?;
        let number = claim.number;
        call.world().definitions.settle(&stored).await;
        if let Some(made) = &claim.made {
            call.world().revisions.settle(made).await;
        }
        let shown = revisions::aws_name(&stored);
        let arn = call.account.arn(Kind::Definition, &format!("{shown}:{number}"));
        return Ok(json!({"jobDefinitionName": shown, "jobDefinitionArn": arn, "revision": number}));
    }
    Err(Failure::throttled("Too many registrations of this job definition at a time"))
}

/// Writes the object; nothing if somebody else did meanwhile.
async fn store(
    call: &Call,
    aws_name: &str,
    found: Option<JobDefinition>,
    spec: &JobDefinitionSpec,
) -> Result<Option<JobDefinition>, Failure> {
    let api = call.api::<JobDefinition>();
    let answer = match found {
        None => {
            let metadata = ObjectMeta {
                name: Some(name::slug(aws_name)),
                namespace: Some(call.namespace().to_owned()),
                ..ObjectMeta::default()
            };
            let object = JobDefinition { metadata, spec: spec.clone(), status: None };
            call.writer().create_object(&api, &object).await
        }
        Some(found) if found.spec.registration == spec.registration => return Ok(Some(found)),
        Some(found) => {
            // The revision of what stands there now comes first.
            register(call.writer(), &found, &wanted(&found)).await?;
            let mut object = JobDefinition { spec: spec.clone(), ..found.clone() };
            object.spec.deregistered = found.spec.deregistered;
            // Its name stays as it was written; it is the same definition.
            object.spec.job_definition_name = found.spec.job_definition_name;
            call.writer().replace_object(&api, &object).await
        }
    };
    match answer {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A revision, and what it says.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) object: Arc<ControllerRevision>,
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) active: bool,
    pub(super) spec: JobDefinitionSpec,
}

impl Call {
    fn resolved(&self, object: Arc<ControllerRevision>) -> Option<Resolved> {
        let read = revisions::of(&object);
        let definition_object = revisions::definition_name(&object)?.to_owned();
        let spec: JobDefinitionSpec = serde_json::from_value(object.data.clone()?.0).ok()?;
        let reference = kube::runtime::reflector::ObjectRef::new(&definition_object).within(self.namespace());
        let definition = self.world().definitions.store.get(&reference);
        Some(Resolved {
            name: names::shown(&definition_object, spec.job_definition_name.as_deref()),
            number: read.number,
            active: definition.is_some_and(|definition| is_active(&definition, &read)),
            spec,
            object,
        })
    }

    /// The revisions of the namespace that a filter on their objects lets through.
    fn revisions(&self, filter: impl Fn(&ControllerRevision) -> bool) -> Vec<Resolved> {
        let is_here = |revision: &ControllerRevision| {
            revision.metadata.namespace.as_deref() == Some(self.namespace()) && filter(revision)
        };
        let found = self.world().revisions.store.state_filter(is_here);
        found.into_iter().filter_map(|revision| self.resolved(revision)).collect()
    }

    /// The revisions of a definition.
    pub(super) fn revisions_of(&self, name: &str) -> Vec<Resolved> {
        let names = name::candidates(name);
        self.revisions(|revision| {
            revisions::definition_name(revision).is_some_and(|of| names.iter().any(|name| name == of))
        })
    }

    /// One revision: from the cache, else live.
    pub(super) async fn revision(&self, name: &str, number: u32) -> Result<Option<Resolved>, Failure> {
        let cached = self.revisions_of(name).into_iter().find(|revision| revision.number == number);
        if cached.is_some() {
            return Ok(cached);
        }
        let api = self.api::<ControllerRevision>();
        for candidate in name::candidates(name).iter().filter(|name| name::is_object_name(name)) {
            let object = format!("{candidate}-{number}");
            let what = format!("get ControllerRevision {object}");
            let found = crate::k8s::read::read(what, || api.get_opt(&object)).await?;
            let ours = |found: &ControllerRevision| {
                found.labels().get(meta::MANAGED_BY).is_some_and(|by| by == meta::OPERATOR)
            };
            if let Some(resolved) = found.filter(ours).and_then(|found| self.resolved(Arc::new(found))) {
                return Ok(Some(resolved));
            }
        }
        Ok(None)
    }

    /// What a job would run that is submitted now: a revision, or the newest ACTIVE one.
    ///
    /// # Errors
    /// When there is none that a job may use.
    pub(super) async fn usable(&self, reference: &str) -> Result<(Resolved, bool), Failure> {
        let named =
            DefinitionRef::parse(self.account.name(Kind::Definition, reference)?).map_err(Failure::client)?;
        if let Some(number) = named.revision {
            let found = self.revision(&named.name, number).await?;
            let found = found.ok_or_else(|| missing(&format!("{}:{number}", named.name)))?;
            return match found.active {
                true => Ok((found, true)),
                false => Err(Failure::client(format!("JobDefinition {}:{number} is INACTIVE", found.name))),
            };
        }
        let active = self.revisions_of(&named.name).into_iter().filter(|revision| revision.active);
        if let Some(found) = active.max_by_key(|revision| revision.number) {
            return Ok((found, false));
        }
        // Made by another replica a moment ago, or by kubectl.
        let definition: Option<JobDefinition> = self.world().live(self.namespace(), &named.name).await?;
        let definition = definition.ok_or_else(|| missing(&named.name))?;
        let known = revisions::floor(&definition);
        let found = match known {
            0 => None,
            number => self.revision(&named.name, number).await?,
        };
        match found {
            Some(found) if !revisions::is_deregistered(&definition, found.number) => Ok((found, false)),
            Some(_) => Err(Failure::client(format!("JobDefinition {} has no ACTIVE revision", named.name))),
            None => Ok((self.unclaimed(&definition), false)),
        }
    }

    /// A definition whose first revision is about to be made.
    fn unclaimed(&self, definition: &JobDefinition) -> Resolved {
        let made_from = wanted(definition);
        let number = match newest(&made_from, &[], revisions::floor(definition)) {
            Newest::Is(number) | Newest::Make(number) => number,
        };
        Resolved {
            object: Arc::new(revisions::object(definition, &made_from, number)),
            name: revisions::aws_name(definition),
            number,
            active: true,
            spec: definition.spec.clone(),
        }
    }
}

fn missing(name: &str) -> Failure {
    Failure::client(format!("JobDefinition {name} not found."))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Describe {
    #[serde(default)]
    job_definitions: Vec<String>,
    max_results: Option<i64>,
    job_definition_name: Option<String>,
    status: Option<String>,
    next_token: Option<String>,
}

pub(super) async fn describe_job_definitions(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Describe = input(body)?;
    call.may("list", RESOURCE, None).await?;
    if asked.job_definitions.len() > 100 {
        return Err(Failure::client("Maximum number of job definitions supported is 100"));
    }
    if !asked.job_definitions.is_empty() && asked.job_definition_name.is_some() {
        return Err(Failure::client("jobDefinitions and jobDefinitionName cannot be used together"));
    }
    let mut found = Vec::new();
    for reference in &asked.job_definitions {
        let named =
            DefinitionRef::parse(call.account.name(Kind::Definition, reference)?).map_err(Failure::client)?;
        match named.revision {
            Some(number) => found.extend(call.revision(&named.name, number).await?),
            None => found.extend(call.revisions_of(&named.name)),
        }
    }
    if asked.job_definitions.is_empty() {
        found = match asked.job_definition_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => call.revisions_of(call.account.name(Kind::Definition, name)?),
            None => call.revisions(|_| true),
        };
    }
    let wanted = asked.status.as_deref().filter(|status| !status.is_empty());
    found.retain(|revision| wanted.is_none_or(|wanted| status(revision) == wanted));
    // Newest revisions first, as AWS has them.
    let key = |revision: &Resolved| format!("{}\u{0}{:010}", revision.name, u32::MAX - revision.number);
    found.sort_by_key(key);
    found.dedup_by_key(|revision| key(revision));
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("jobDefinitions", 100, found, key)?;
    let list: Vec<Value> = found.iter().map(|revision| detail(call, revision)).collect();
    Ok(json!({"jobDefinitions": list, "nextToken": token}))
}

fn status(revision: &Resolved) -> &'static str {
    if revision.active { meta::ACTIVE } else { meta::INACTIVE }
}

/// A JobDefinition of AWS's API.
fn detail(call: &Call, revision: &Resolved) -> Value {
    let spec = &revision.spec;
    let mut detail = members(spec);
    let name = &revision.name;
    detail.remove("session");
    detail.insert("jobDefinitionName".into(), json!(name));
    let arn = call.account.arn(Kind::Definition, &format!("{name}:{}", revision.number));
    detail.insert("jobDefinitionArn".into(), json!(arn));
    detail.insert("revision".into(), json!(revision.number));
    detail.insert("status".into(), json!(status(revision)));
    let is_eks = spec.eks_properties.is_some();
    detail.insert("containerOrchestrationType".into(), json!(if is_eks { "EKS" } else { "ECS" }));
    detail.insert("tags".into(), json!(names::tags(revision.object.as_ref(), &spec.tags)));
    detail.entry("parameters").or_insert_with(|| json!({}));
    if let Some(container) = detail.get_mut("containerProperties") {
        with_empty_lists(container);
    }
    Value::Object(detail)
}

/// AWS shows lists of a container that were not stated as empty ones.
pub(super) fn with_empty_lists(container: &mut Value) {
    let lists =
        ["command", "volumes", "environment", "mountPoints", "ulimits", "resourceRequirements", "secrets"];
    if let Some(container) = container.as_object_mut() {
        for list in lists {
            container.entry(list).or_insert_with(|| json!([]));
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Deregister {
    job_definition: String,
}

pub(super) async fn deregister_job_definition(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Deregister = input(body)?;
    let named = DefinitionRef::parse(call.account.name(Kind::Definition, &asked.job_definition)?)
        .map_err(Failure::client)?;
    let Some(number) = named.revision else {
        return Err(Failure::client(format!("jobDefinition {} must have a revision", asked.job_definition)));
    };
    let found = call.revision(&named.name, number).await?;
    let found = found.ok_or_else(|| missing(&format!("{}:{number}", named.name)))?;
    call.may("update", RESOURCE, revisions::definition_name(&found.object)).await?;
    for _ in 0..TRIES {
        let definition: Option<JobDefinition> = call.world().live(call.namespace(), &named.name).await?;
        // Without its definition a revision is INACTIVE.
        let Some(mut definition) = definition else { return Ok(json!({})) };
        let is_its = definition.uid() == Some(revisions::of(&found.object).made_from.definition_uid);
        if !is_its || revisions::is_deregistered(&definition, number) {
            return Ok(json!({}));
        }
        definition.spec.deregistered.push(i32::try_from(number).unwrap_or(i32::MAX));
        match call.writer().replace_object(&call.api(), &definition).await {
            Ok(stored) => {
                call.world().definitions.settle(&stored).await;
                return Ok(json!({}));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this job definition at a time"))
}
