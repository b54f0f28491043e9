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
use kube::runtime::reflector::ObjectRef;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::Kind;
use super::call::{Call, input};
use super::failure::Failure;
use super::names::{self, text};
use super::page::Wanted;
use crate::crd::aws::{JOB_DEFINITION as MEMBERS, common};
use crate::crd::rights::Asked;
use crate::crd::{JobDefinition, JobDefinitionSpec};
use crate::k8s::meta;
use crate::k8s::read::read;
use crate::k8s::revisions::{self, is_active_object, register, wanted};

/// AWS's bound of a request (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
const MAX_BYTES: usize = 24 * 1024;
/// How often somebody else may have changed the definition meanwhile.
const TRIES: usize = 10;
const RESOURCE: &str = "jobdefinitions";

pub(super) async fn register_job_definition(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "jobDefinitionName")?.to_owned();
    if body.to_string().len() > MAX_BYTES {
        return Err(Failure::client(format!("Job definition must be smaller than {MAX_BYTES} bytes")));
    }
    let mut spec: JobDefinitionSpec = names::spec("JobDefinition", MEMBERS, &body)?;
    call.may("create", RESOURCE, None).await?;
    call.may_ask_for(Asked::by(&spec)).await?;
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
            call.world().revisions.cache.settle(made).await;
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

/// A revision, of which only what stands on its object was read.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) object: Arc<ControllerRevision>,
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) active: bool,
}

impl Listed {
    fn of(object: Arc<ControllerRevision>, definition: Option<&JobDefinition>) -> Option<Self> {
        let stated = object.data.as_ref().and_then(|data| data.0["jobDefinitionName"].as_str());
        Some(Self {
            name: names::shown(revisions::definition_name(&object)?, stated),
            number: u32::try_from(object.revision).ok()?,
            active: definition.is_some_and(|definition| is_active_object(definition, &object)),
            object,
        })
    }

    /// What it says; nothing if it makes no sense.
    pub(super) fn spec(&self) -> Option<JobDefinitionSpec> {
        JobDefinitionSpec::deserialize(&self.object.data.as_ref()?.0).ok()
    }
}

/// A revision that a job may use, and what it says.
#[derive(Debug)]
pub(super) struct Usable {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) spec: JobDefinitionSpec,
}

impl Call {
    fn cached_definition(&self, object: &str) -> Option<Arc<JobDefinition>> {
        self.world().definitions.store.get(&ObjectRef::new(object).within(self.namespace()))
    }

    /// A revision, as far as the caches tell.
    fn as_cached(&self, object: Arc<ControllerRevision>) -> Option<Listed> {
        let definition = self.cached_definition(revisions::definition_name(&object)?);
        Listed::of(object, definition.as_deref())
    }

    /// The definition of this object name, from the cache if a revision was made from that very one, else live: another
    /// replica, or kubectl, may have made it a moment ago.
    async fn definition_behind(
        &self,
        object: &str,
        revision: Option<&ControllerRevision>,
    ) -> Result<Option<Arc<JobDefinition>>, Failure> {
        let cached = self.cached_definition(object);
        let uid = cached.as_ref().and_then(|definition| definition.metadata.uid.as_deref());
        if uid.is_some() && uid == revision.and_then(revisions::definition_uid) {
            return Ok(cached);
        }
        let api = self.api::<JobDefinition>();
        let found = read(format!("get JobDefinition {object}"), || api.get_opt(object)).await?;
        Ok(found.map(Arc::new))
    }

    /// What a reference means to the caches: a revision by its number, else the newest ACTIVE one. No other revision is
    /// read.
    pub(super) fn cached_revision(&self, name: &str, number: Option<u32>) -> Option<Listed> {
        let (world, namespace) = (self.world(), self.namespace());
        let listed = |object| self.as_cached(object);
        let names = name::candidates(name);
        let mut of_names = names.iter();
        match number {
            Some(number) => of_names.find_map(|name| listed(world.revisions.one(namespace, name, number)?)),
            None => {
                let newest = |name: &String| {
                    let mut all = world.revisions.newest_first(namespace, name).filter_map(listed);
                    all.find(|revision| revision.active)
                };
                of_names.filter_map(newest).max_by_key(|revision| revision.number)
            }
        }
    }

    /// The revisions of all definitions of the namespace.
    fn all_revisions(&self) -> Vec<Listed> {
        let all = self.world().revisions.all(self.namespace());
        all.into_iter().filter_map(|object| self.as_cached(object)).collect()
    }

    /// The revisions of a definition.
    async fn revisions_of(&self, name: &str) -> Result<Vec<Listed>, Failure> {
        let mut found = Vec::new();
        for name in name::candidates(name).iter().filter(|name| name::is_object_name(name)) {
            let mut objects: Vec<_> = self.world().revisions.newest_first(self.namespace(), name).collect();
            let definition = self.definition_behind(name, objects.first().map(Arc::as_ref)).await?;
            let newest = objects.first().and_then(|newest| revisions::definition_uid(newest));
            let made_from = definition.as_ref().and_then(|definition| definition.metadata.uid.as_deref());
            if made_from.is_some() && made_from != newest {
                let live = revisions::list(&self.api(), name).await?;
                objects = live.into_iter().map(Arc::new).collect();
            }
            found.extend(objects.into_iter().filter_map(|object| Listed::of(object, definition.as_deref())));
        }
        Ok(found)
    }

    /// One revision: from the cache, else live.
    pub(super) async fn revision(&self, name: &str, number: u32) -> Result<Option<Listed>, Failure> {
        let names = name::candidates(name);
        let cached = names.iter().find_map(|name| self.world().revisions.one(self.namespace(), name, number));
        let object = match cached {
            Some(object) => object,
            None => match self.live_revision(&names, number).await? {
                Some(object) => Arc::new(object),
                None => return Ok(None),
            },
        };
        let Some(of) = revisions::definition_name(&object) else { return Ok(None) };
        let definition = self.definition_behind(of, Some(&object)).await?;
        Ok(Listed::of(object.clone(), definition.as_deref()))
    }

    async fn live_revision(
        &self,
        names: &[String],
        number: u32,
    ) -> Result<Option<ControllerRevision>, Failure> {
        let api = self.api::<ControllerRevision>();
        for name in names.iter().filter(|name| name::is_object_name(name)) {
            let object = format!("{name}-{number}");
            let found = read(format!("get ControllerRevision {object}"), || api.get_opt(&object)).await?;
            let ours = |found: &ControllerRevision| {
                found.labels().get(meta::MANAGED_BY).is_some_and(|by| by == meta::OPERATOR)
            };
            if let Some(found) = found.filter(ours) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What a job would run that is submitted now: a revision, or the newest ACTIVE one.
    ///
    /// # Errors
    /// When there is none that a job may use.
    pub(super) async fn usable(&self, reference: &str) -> Result<(Usable, bool), Failure> {
        let named =
            DefinitionRef::parse(self.account.name(Kind::Definition, reference)?).map_err(Failure::client)?;
        if let Some(number) = named.revision {
            let found = self.revision(&named.name, number).await?;
            let found = found.ok_or_else(|| missing(&format!("{}:{number}", named.name)))?;
            return match found.active {
                true => Ok((usable(&found)?, true)),
                false => Err(Failure::client(format!("JobDefinition {}:{number} is INACTIVE", found.name))),
            };
        }
        if let Some(found) = self.cached_revision(&named.name, None) {
            return Ok((usable(&found)?, false));
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
            Some(found) if !revisions::is_deregistered(&definition, found.number) => {
                Ok((usable(&found)?, false))
            }
            Some(_) => Err(Failure::client(format!("JobDefinition {} has no ACTIVE revision", named.name))),
            None => Ok((unclaimed(&definition), false)),
        }
    }
}

fn usable(found: &Listed) -> Result<Usable, Failure> {
    let (name, number) = (found.name.clone(), found.number);
    let spec = found.spec().ok_or_else(|| missing(&format!("{name}:{number}")))?;
    Ok(Usable { name, number, spec })
}

/// A definition whose first revision is about to be made.
fn unclaimed(definition: &JobDefinition) -> Usable {
    let number = match newest(&wanted(definition), &[], revisions::floor(definition)) {
        Newest::Is(number) | Newest::Make(number) => number,
    };
    Usable { name: revisions::aws_name(definition), number, spec: definition.spec.clone() }
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
            None => found.extend(call.revisions_of(&named.name).await?),
        }
    }
    if asked.job_definitions.is_empty() {
        found = match asked.job_definition_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => call.revisions_of(call.account.name(Kind::Definition, name)?).await?,
            None => call.all_revisions(),
        };
    }
    let wanted = asked.status.as_deref().filter(|status| !status.is_empty());
    found.retain(|revision| wanted.is_none_or(|wanted| status(revision) == wanted));
    // Newest revisions first, as AWS has them.
    let key = |revision: &Listed| format!("{}\u{0}{:010}", revision.name, u32::MAX - revision.number);
    found.sort_by_cached_key(key);
    found.dedup_by_key(|revision| key(revision));
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("jobDefinitions", 100, found, key)?;
    let list: Vec<Value> = found.iter().filter_map(|revision| detail(call, revision)).collect();
    Ok(json!({"jobDefinitions": list, "nextToken": token}))
}

fn status(revision: &Listed) -> &'static str {
    if revision.active { meta::ACTIVE } else { meta::INACTIVE }
}

/// A JobDefinition of AWS's API.
fn detail(call: &Call, revision: &Listed) -> Option<Value> {
    let spec = revision.spec()?;
    let mut detail = common(&spec, MEMBERS);
    let name = &revision.name;
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
    Some(Value::Object(detail))
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
        let is_its = definition.metadata.uid.as_deref() == revisions::definition_uid(&found.object);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::future::{Ready, pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use axum::http::{Request, Response};
    use clap::Parser as _;
    use jiff::Timestamp;
    use kube::Client;

    use super::super::call::Gateway;
    use super::super::jobs::LookedUp;
    use super::super::settings::Settings;
    use super::super::world::World;
    use super::*;
    use crate::k8s::access_key::{AccessKey, Binding};
    use crate::k8s::apply::Writer;
    use crate::k8s::lease::Leadership;
    use crate::k8s::scope::Scope;
    use crate::metrics::Metrics;

    /// An API server that has these objects, by their paths, and whose watches say nothing.
    #[derive(Clone)]
    struct Server(Arc<HashMap<&'static str, Value>>);

    impl tower::Service<Request<kube::client::Body>> for Server {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
            match self.0.get(request.uri().path()) {
                Some(object) => {
                    let answered: Ready<_> = ready(Ok(Response::new(Body::from(object.to_string()))));
                    Box::pin(answered)
                }
                None => Box::pin(pending()),
            }
        }
    }

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        settings: Settings,
    }

    /// A call whose caches know of nothing.
    fn call(objects: HashMap<&'static str, Value>) -> Call {
        let client = Client::new(Server(Arc::new(objects)), "team");
        let world = World::watch(&client, "batchyard-system", &Scope::default());
        let writer = Writer::new(client, Leadership::never(), Metrics::default());
        let settings = Arguments::parse_from(["gateway"]).settings;
        let gateway = Arc::new(Gateway::new(settings, world, writer));
        let binding = Binding { namespace: "team".into(), ..Binding::default() };
        Call {
            account: gateway.account("team"),
            gateway,
            key: Arc::new(AccessKey::generate(binding)),
            operation: "SubmitJob",
            invocation: None,
            now: Timestamp::now(),
            looked_up: LookedUp::default(),
        }
    }

    #[tokio::test]
    async fn what_another_replica_registered_a_moment_ago_is_active() {
        let definition = |deregistered: &[i32]| -> JobDefinition {
            let metadata = json!({"name": "d", "namespace": "team", "uid": "1"});
            let spec = json!({"type": "container", "deregistered": deregistered, "containerProperties":
                {"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]}});
            let object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobDefinition",
                "metadata": metadata, "spec": spec});
            serde_json::from_value(object).expect("a definition")
        };
        let of = |definition: &JobDefinition| {
            let mut revision = json!(revisions::object(definition, &wanted(definition), 1));
            revision["apiVersion"] = json!("apps/v1");
            revision["kind"] = json!("ControllerRevision");
            call(HashMap::from([
                ("/apis/apps/v1/namespaces/team/controllerrevisions/d-1", revision),
                ("/apis/batchyard.io/v1alpha1/namespaces/team/jobdefinitions/d", json!(definition)),
            ]))
        };
        let (usable, pinned) = of(&definition(&[])).usable("d:1").await.expect("a job may use it");
        assert_eq!((usable.name.as_str(), usable.number, pinned), ("d", 1, true));
        let gone = of(&definition(&[1])).usable("d:1").await.expect_err("it was deregistered");
        assert_eq!(gone.message(), "JobDefinition d:1 is INACTIVE");
    }
}
