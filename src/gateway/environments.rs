//! Compute environments. Callers make and change those of their namespace, `<namespace>.<name>`, if a role lets them;
//! those of the whole cluster they see and use.

use std::sync::Arc;

use batchyard_core::name;
use kube::api::ObjectMeta;
use kube::{Api, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Kind;
use super::call::{Call, input};
use super::failure::Failure;
use super::names::{self, members, text};
use super::page::Wanted;
use crate::crd::aws::{self, COMPUTE_ENVIRONMENT as CREATE, common};
use crate::crd::compute_environment::AllowedNamespaces;
use crate::crd::shared::{ResourceStatus, State};
use crate::crd::{ComputeEnvironment, ComputeEnvironmentSpec};
use crate::k8s::read::read;

const RESOURCE: &str = "computeenvironments";
const TRIES: usize = 10;

const UPDATE: &[&str] = &[
    "state",
    "unmanagedvCpus",
    "computeResources",
    "serviceRole",
    "updatePolicy",
    "context",
    "eksConfiguration",
    "ecsSettings",
];

fn api(call: &Call) -> Api<ComputeEnvironment> {
    Api::all(call.world().client.clone())
}

pub(super) async fn create_compute_environment(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "computeEnvironmentName")?.to_owned();
    let mut spec: ComputeEnvironmentSpec = names::spec("ComputeEnvironment", CREATE, &body)?;
    call.may("create", RESOURCE, None).await?;
    spec.state = spec.state.or(Some(State::Enabled));
    spec.allowed_namespaces = vec![AllowedNamespaces::only(call.namespace())];
    let name = aws::environment_object(call.namespace(), &aws_name);
    let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
    let object = ComputeEnvironment { metadata, spec, status: None };
    let stored = call.writer().create_object(&api(call), &object).await?;
    call.world().environments.settle(&stored).await;
    Ok(answer(call, &stored))
}

fn answer(call: &Call, environment: &ComputeEnvironment) -> Value {
    let name = names::environment(environment, call.namespace());
    json!({"computeEnvironmentName": name, "computeEnvironmentArn": call.account.arn(Kind::Environment, &name)})
}

/// The environment that a caller wants to change, as it is now: one of its own namespace.
async fn own(call: &Call, reference: &str) -> Result<Option<ComputeEnvironment>, Failure> {
    let wanted = call.account.name(Kind::Environment, reference)?;
    let names = name::candidates(wanted);
    for name in names.iter().filter(|name| name::is_object_name(name)) {
        let object = format!("{}.{name}", call.namespace());
        let api = api(call);
        let found = read(format!("get ComputeEnvironment {object}"), || api.get_opt(&object)).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    match call.environment(wanted)? {
        Some(_) => Err(Failure::denied(format!(
            "User: {} is not authorized to perform: batch:{} because ComputeEnvironment {wanted} belongs to the \
             whole cluster",
            call.key.person().user,
            call.operation
        ))),
        None => Ok(None),
    }
}

pub(super) async fn update_compute_environment(call: &Call, mut body: Value) -> Result<Value, Failure> {
    let reference = text(&body, "computeEnvironment")?.to_owned();
    let stated = body.as_object_mut().map(|stated| {
        stated.remove("computeEnvironment");
        stated.clone()
    });
    let stated = stated.unwrap_or_default();
    if let Some(unknown) = stated.keys().find(|member| !UPDATE.contains(&member.as_str())) {
        return Err(Failure::client(format!("{unknown}: this operation has no such member")));
    }
    for _ in 0..TRIES {
        let found = own(call, &reference).await?;
        let found =
            found.ok_or_else(|| Failure::client(format!("ComputeEnvironment {reference} not found.")))?;
        call.may("update", RESOURCE, found.metadata.name.as_deref()).await?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(Failure::client("Cannot update, resource is being modified"));
        }
        let spec = changed(&found.spec, &stated)?;
        let object = ComputeEnvironment { spec, ..found };
        match call.writer().replace_object(&api(call), &object).await {
            Ok(stored) => {
                call.world().environments.settle(&stored).await;
                return Ok(answer(call, &stored));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this compute environment at a time"))
}

/// The spec with what is stated in place of what stood there; of computeResources and eksConfiguration member by member.
fn changed(
    spec: &ComputeEnvironmentSpec,
    stated: &Map<String, Value>,
) -> Result<ComputeEnvironmentSpec, Failure> {
    let mut all = members(spec);
    for (member, value) in stated {
        match (member.as_str(), all.get_mut(member).and_then(Value::as_object_mut), value.as_object()) {
            ("computeResources" | "eksConfiguration", Some(there), Some(change)) => {
                there.extend(change.clone());
            }
            _ => {
                all.insert(member.clone(), value.clone());
            }
        }
    }
    let known: Vec<String> = all.keys().cloned().collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    names::spec("ComputeEnvironment", &known, &Value::Object(all))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delete {
    compute_environment: String,
}

pub(super) async fn delete_compute_environment(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Delete = input(body)?;
    let Some(found) = own(call, &asked.compute_environment).await? else { return Ok(json!({})) };
    call.may("delete", RESOURCE, found.metadata.name.as_deref()).await?;
    if found.spec.state != Some(State::Disabled) {
        return Err(Failure::client(format!(
            "Cannot delete, ComputeEnvironment {} must be DISABLED first",
            names::environment(&found, call.namespace())
        )));
    }
    let object = found.name_any();
    let used =
        call.world().queues.store.find(|queue| {
            let namespace = queue.metadata.namespace.as_deref().unwrap_or_default();
            queue.spec.compute_environment_order.iter().any(|entry| {
                name::environments(namespace, &entry.compute_environment).first() == Some(&object)
            })
        });
    if used.is_some() {
        return Err(Failure::client("Cannot delete, found existing JobQueue relationship"));
    }
    call.writer().delete(&api(call), &found).await?;
    call.world().environments.settle_deletion(&found).await;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Describe {
    #[serde(default)]
    compute_environments: Vec<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) async fn describe_compute_environments(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Describe = input(body)?;
    call.may("list", RESOURCE, None).await?;
    if asked.compute_environments.len() > 100 {
        return Err(Failure::client("Maximum number of compute environments supported is 100"));
    }
    let mut found = Vec::new();
    for reference in &asked.compute_environments {
        let known = call.environment(reference)?;
        let made_elsewhere = match known {
            Some(_) => None,
            None => own(call, reference).await?.map(Arc::new),
        };
        found.extend(known.or(made_elsewhere));
    }
    if asked.compute_environments.is_empty() {
        found = call.environments();
    }
    let key = |found: &Arc<ComputeEnvironment>| names::environment(found, call.namespace());
    found.sort_by_key(key);
    found.dedup_by_key(|found| key(found));
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("computeEnvironments", 100, found, key)?;
    let list: Vec<Value> = found.iter().map(|found| detail(call, found)).collect();
    Ok(json!({"computeEnvironments": list, "nextToken": token}))
}

/// A ComputeEnvironmentDetail.
fn detail(call: &Call, environment: &ComputeEnvironment) -> Value {
    let spec = &environment.spec;
    let status = environment.status.as_ref();
    let mut detail = common(spec, &[CREATE, &["updatePolicy"]].concat());
    let name = names::environment(environment, call.namespace());
    detail.insert("computeEnvironmentArn".into(), json!(call.account.arn(Kind::Environment, &name)));
    detail.insert("computeEnvironmentName".into(), json!(name));
    detail.insert("state".into(), json!(spec.state.unwrap_or_default()));
    let going = environment.metadata.deletion_timestamp.is_some();
    let now = status.and_then(|status| status.status).unwrap_or_default();
    detail.insert("status".into(), json!(if going { ResourceStatus::Deleting } else { now }));
    detail.extend(
        status.and_then(|s| s.status_reason.clone()).map(|text| ("statusReason".into(), json!(text))),
    );
    detail.insert("uuid".into(), json!(environment.uid().unwrap_or_default()));
    let is_eks = spec.eks_configuration.is_some();
    detail.insert("containerOrchestrationType".into(), json!(if is_eks { "EKS" } else { "ECS" }));
    detail.entry("tags").or_insert_with(|| json!({}));
    if let Some(resources) = detail.get_mut("computeResources").and_then(Value::as_object_mut) {
        for list in ["subnets", "securityGroupIds", "instanceTypes"] {
            resources.entry(list).or_insert_with(|| json!([]));
        }
        let desired = status.and_then(|status| status.desiredv_cpus.or(status.vcpus));
        let fargate = spec.compute_resources.as_ref().is_some_and(|resources| resources.type_.is_fargate());
        if !fargate {
            resources.entry("minvCpus").or_insert_with(|| json!(0));
            resources.extend(desired.map(|vcpus| ("desiredvCpus".into(), json!(vcpus))));
        }
    }
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_what_it_states() {
        let spec: ComputeEnvironmentSpec =
            serde_json::from_value(json!({"type": "MANAGED", "state": "ENABLED",
            "computeResources": {"type": "EC2", "maxvCpus": 4, "instanceTypes": ["m5"]},
            "provisioner": {"static": {}}}))
            .expect("a spec");
        let change = json!({"state": "DISABLED", "computeResources": {"maxvCpus": 8}});
        let changed = changed(&spec, change.as_object().expect("members")).expect("it can be changed");
        assert_eq!(changed.state, Some(State::Disabled));
        let resources = changed.compute_resources.expect("they are still there");
        assert_eq!((resources.maxv_cpus, resources.instance_types), (8, vec!["m5".to_owned()]));
        assert!(changed.provisioner.is_some());
        let wrong = json!({"computeResources": {"maxvCpus": "8"}});
        super::changed(&spec, wrong.as_object().expect("members")).expect_err("no number");
    }
}
