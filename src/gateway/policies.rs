//! Scheduling policies, which AWS knows by their ARN.

use std::sync::Arc;

use batchyard_core::name;
use batchyard_core::reason::resources;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::account::Kind;
use super::call::{Call, input};
use super::failure::Failure;
use super::names::{self, members, text};
use super::page::Wanted;
use crate::crd::aws::SCHEDULING_POLICY as CREATE;
use crate::crd::{SchedulingPolicy, SchedulingPolicySpec};

const RESOURCE: &str = "schedulingpolicies";
const TRIES: usize = 10;
const UPDATE: &[&str] = &["fairsharePolicy", "quotaSharePolicy"];

pub(super) async fn create_scheduling_policy(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "name")?.to_owned();
    let spec: SchedulingPolicySpec = names::spec("SchedulingPolicy", CREATE, &body)?;
    call.may("create", RESOURCE, None).await?;
    no_quota_shares(&spec)?;
    let metadata = ObjectMeta {
        name: Some(name::slug(&aws_name)),
        namespace: Some(call.namespace().to_owned()),
        ..ObjectMeta::default()
    };
    let object = SchedulingPolicy { metadata, spec, status: None };
    let stored = call.writer().create_object(&call.api(), &object).await?;
    call.world().policies.settle(&stored).await;
    let name = names::policy(&stored);
    Ok(json!({"name": name, "arn": call.account.arn(Kind::Policy, &name)}))
}

fn no_quota_shares(spec: &SchedulingPolicySpec) -> Result<(), Failure> {
    match spec.quota_share_policy {
        Some(_) => Err(Failure::client(resources::quota_shares())),
        None => Ok(()),
    }
}

async fn live(call: &Call, arn: &str) -> Result<Option<SchedulingPolicy>, Failure> {
    let wanted = call.account.only_arn(Kind::Policy, arn)?;
    call.world().live(call.namespace(), wanted).await
}

pub(super) async fn update_scheduling_policy(call: &Call, mut body: Value) -> Result<Value, Failure> {
    let arn = text(&body, "arn")?.to_owned();
    if let Some(stated) = body.as_object_mut() {
        stated.remove("arn");
    }
    let change: SchedulingPolicySpec = names::spec("SchedulingPolicy", UPDATE, &body)?;
    no_quota_shares(&change)?;
    for _ in 0..TRIES {
        let found = live(call, &arn).await?;
        let mut found = found.ok_or_else(|| Failure::client(format!("SchedulingPolicy {arn} not found.")))?;
        call.may("update", RESOURCE, found.metadata.name.as_deref()).await?;
        if change.fairshare_policy.is_some() {
            found.spec.fairshare_policy.clone_from(&change.fairshare_policy);
        }
        match call.writer().replace_object(&call.api(), &found).await {
            Ok(stored) => {
                call.world().policies.settle(&stored).await;
                return Ok(json!({}));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this scheduling policy at a time"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delete {
    arn: String,
}

pub(super) async fn delete_scheduling_policy(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Delete = input(body)?;
    let Some(found) = live(call, &asked.arn).await? else { return Ok(json!({})) };
    call.may("delete", RESOURCE, found.metadata.name.as_deref()).await?;
    let object = found.name_any();
    let used = call.world().queues.store.find(|queue| {
        let policy = queue.spec.scheduling_policy_arn.as_deref().map(name::resource);
        queue.namespace().as_deref() == Some(call.namespace())
            && policy.is_some_and(|policy| name::may_mean(policy, &object))
    });
    if let Some(queue) = used {
        let queue = names::queue(&queue);
        return Err(Failure::client(format!("Cannot delete, JobQueue {queue} uses this scheduling policy")));
    }
    call.writer().delete(&call.api::<SchedulingPolicy>(), &found).await?;
    call.world().policies.settle_deletion(&found).await;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Describe {
    arns: Vec<String>,
}

pub(super) async fn describe_scheduling_policies(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Describe = input(body)?;
    call.may("list", RESOURCE, None).await?;
    if asked.arns.len() > 100 {
        return Err(Failure::client("Maximum number of scheduling policies supported is 100"));
    }
    let world = call.world();
    let mut list = Vec::new();
    for arn in &asked.arns {
        let wanted = call.account.only_arn(Kind::Policy, arn)?;
        let found = world.named(&world.policies, call.namespace(), wanted).await?;
        list.extend(found.map(|found| detail(call, &found)));
    }
    Ok(json!({"schedulingPolicies": list}))
}

/// A SchedulingPolicyDetail.
fn detail(call: &Call, policy: &SchedulingPolicy) -> Value {
    let name = names::policy(policy);
    let mut fair = policy.spec.fairshare_policy.as_ref().map(members).unwrap_or_default();
    fair.entry("shareDecaySeconds").or_insert_with(|| json!(0));
    fair.entry("computeReservation").or_insert_with(|| json!(0));
    fair.entry("shareDistribution").or_insert_with(|| json!([]));
    let detail = Map::from_iter([
        ("arn".to_owned(), json!(call.account.arn(Kind::Policy, &name))),
        ("name".to_owned(), json!(name)),
        ("fairsharePolicy".to_owned(), Value::Object(fair)),
        ("tags".to_owned(), json!(policy.spec.tags)),
    ]);
    Value::Object(detail)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) async fn list_scheduling_policies(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: List = input(body)?;
    call.may("list", RESOURCE, None).await?;
    let is_here = |policy: &SchedulingPolicy| policy.metadata.namespace.as_deref() == Some(call.namespace());
    let mut found: Vec<Arc<SchedulingPolicy>> = call.world().policies.store.state_filter(is_here);
    let key = |policy: &Arc<SchedulingPolicy>| names::policy(policy);
    found.sort_by_key(key);
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("schedulingPolicies", 100, found, key)?;
    let list: Vec<Value> = found
        .iter()
        .map(|policy| json!({"arn": call.account.arn(Kind::Policy, &names::policy(policy))}))
        .collect();
    Ok(json!({"schedulingPolicies": list, "nextToken": token}))
}
