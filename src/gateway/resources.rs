//! Consumable resources: tokens that jobs hold or use up.

use std::sync::Arc;

use batchyard_core::name;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::Kind;
use super::call::{Call, input, millis, needed};
use super::failure::Failure;
use super::list::Filter;
use super::names::{self, text};
use super::page::Wanted;
use crate::crd::aws::CONSUMABLE_RESOURCE as CREATE;
use crate::crd::{ConsumableResource, ConsumableResourceSpec};
use crate::k8s::meta;

const RESOURCE: &str = "consumableresources";
const TRIES: usize = 10;
/// So many changes are remembered by their clientToken, for so long.
const TOKENS: usize = 32;
const TOKEN_HOURS: i64 = 8;

pub(super) async fn create_consumable_resource(call: &Call, body: Value) -> Result<Value, Failure> {
    let aws_name = text(&body, "consumableResourceName")?.to_owned();
    let spec: ConsumableResourceSpec = names::spec("ConsumableResource", CREATE, &body)?;
    call.may("create", RESOURCE, None).await?;
    let metadata = ObjectMeta {
        name: Some(name::slug(&aws_name)),
        namespace: Some(call.namespace().to_owned()),
        ..ObjectMeta::default()
    };
    let object = ConsumableResource { metadata, spec, status: None };
    let stored = call.writer().create_object(&call.api(), &object).await?;
    call.world().resources.settle(&stored).await;
    Ok(answer(call, &stored))
}

fn answer(call: &Call, resource: &ConsumableResource) -> Value {
    let name = names::resource(resource);
    json!({"consumableResourceName": name, "consumableResourceArn": call.account.arn(Kind::Resource, &name)})
}

fn missing(name: &str) -> Failure {
    Failure::client(format!("ConsumableResource {name} not found."))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Update {
    consumable_resource: String,
    operation: Option<String>,
    quantity: Option<i64>,
    client_token: Option<String>,
}

/// A change that was carried out.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    token: String,
    /// In milliseconds.
    at: i64,
    /// What was asked for with it.
    #[serde(default)]
    change: String,
}

pub(super) async fn update_consumable_resource(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Update = input(body)?;
    let wanted = call.account.name(Kind::Resource, &asked.consumable_resource)?;
    let operation = needed("operation", asked.operation.as_deref().unwrap_or_default())?;
    let quantity = asked.quantity.ok_or_else(|| Failure::client("'quantity' is a required field"))?;
    if quantity < 0 {
        return Err(Failure::client("quantity must not be negative"));
    }
    let change = format!("{operation} {quantity}");
    for _ in 0..TRIES {
        let found: Option<ConsumableResource> = call.world().live(call.namespace(), wanted).await?;
        let mut found = found.ok_or_else(|| missing(wanted))?;
        call.may("update", RESOURCE, found.metadata.name.as_deref()).await?;
        let total = found.spec.total_quantity.unwrap_or(0);
        let mut done = done(&found, call);
        let token = asked.client_token.as_deref().filter(|token| !token.is_empty());
        let known = token.and_then(|token| done.iter().find(|done| done.token == token));
        if known.is_some_and(|known| known.change != change) {
            return Err(Failure::client("This clientToken was used for another change of the resource."));
        }
        let stored = if known.is_some() {
            found
        } else {
            found.spec.total_quantity = Some(changed(total, operation, quantity)?);
            if let Some(token) = token {
                done.push(Done { token: token.to_owned(), at: millis(call.now), change: change.clone() });
                let kept: Vec<Done> = done.into_iter().rev().take(TOKENS).rev().collect();
                let text = json!(kept).to_string();
                found.annotations_mut().insert(meta::CLIENT_TOKENS.to_owned(), text);
            }
            match call.writer().replace_object(&call.api(), &found).await {
                Ok(stored) => stored,
                Err(error) if error.is_conflict() => continue,
                Err(error) => return Err(error.into()),
            }
        };
        call.world().resources.settle(&stored).await;
        let mut answer = answer(call, &stored);
        answer["totalQuantity"] = json!(stored.spec.total_quantity.unwrap_or(0));
        return Ok(answer);
    }
    Err(Failure::throttled("Too many changes of this consumable resource at a time"))
}

fn done(resource: &ConsumableResource, call: &Call) -> Vec<Done> {
    let text = resource.annotations().get(meta::CLIENT_TOKENS);
    let mut done: Vec<Done> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let oldest = millis(call.now) - TOKEN_HOURS * 3_600_000;
    done.retain(|done| done.at >= oldest);
    done
}

fn changed(total: i64, operation: &str, quantity: i64) -> Result<i64, Failure> {
    match operation {
        "SET" => Ok(quantity),
        "ADD" => Ok(total.saturating_add(quantity)),
        "REMOVE" if quantity > total => {
            Err(Failure::client(format!("quantity {quantity} is more than the {total} that there are")))
        }
        "REMOVE" => Ok(total - quantity),
        other => Err(Failure::client(format!("operation {other} is none of SET, ADD, REMOVE"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    consumable_resource: String,
}

pub(super) async fn delete_consumable_resource(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Named = input(body)?;
    let wanted = call.account.name(Kind::Resource, &asked.consumable_resource)?;
    let found: Option<ConsumableResource> = call.world().live(call.namespace(), wanted).await?;
    let Some(found) = found else { return Ok(json!({})) };
    call.may("delete", RESOURCE, found.metadata.name.as_deref()).await?;
    call.writer().delete(&call.api::<ConsumableResource>(), &found).await?;
    call.world().resources.settle_deletion(&found).await;
    Ok(json!({}))
}

pub(super) async fn describe_consumable_resource(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: Named = input(body)?;
    let wanted = call.account.name(Kind::Resource, &asked.consumable_resource)?;
    let world = call.world();
    let found =
        world.named(&world.resources, call.namespace(), wanted).await?.ok_or_else(|| missing(wanted))?;
    call.may("get", RESOURCE, found.metadata.name.as_deref()).await?;
    let mut told = summary(call, &found);
    // Of the same look as the rest: what the status says may be of another.
    let left = told["totalQuantity"].as_i64().unwrap_or(0) - told["inUseQuantity"].as_i64().unwrap_or(0);
    told["availableQuantity"] = json!(left.max(0));
    told["createdAt"] = json!(found.creation_timestamp().map_or(0, |time| millis(time.0)));
    told["tags"] = json!(found.spec.tags);
    Ok(told)
}

/// A ConsumableResourceSummary.
fn summary(call: &Call, resource: &ConsumableResource) -> Value {
    let status = resource.status.clone().unwrap_or_default();
    let mut told = answer(call, resource);
    // What the operator has not looked at yet has all its tokens.
    let observed = status.observed_generation.is_some_and(|seen| Some(seen) >= resource.metadata.generation);
    let total = status.total_quantity.filter(|_| observed).or(resource.spec.total_quantity);
    told["totalQuantity"] = json!(total.unwrap_or(0));
    told["inUseQuantity"] = json!(status.in_use_quantity.unwrap_or(0));
    told["resourceType"] = json!(resource.spec.resource_type.as_deref().unwrap_or("REPLENISHABLE"));
    told
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    #[serde(default)]
    filters: Vec<Filter>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

pub(super) async fn list_consumable_resources(call: &Call, body: Value) -> Result<Value, Failure> {
    let asked: List = input(body)?;
    call.may("list", RESOURCE, None).await?;
    let is_here = |found: &ConsumableResource| found.metadata.namespace.as_deref() == Some(call.namespace());
    let mut found: Vec<Arc<ConsumableResource>> = call.world().resources.store.state_filter(is_here);
    for filter in &asked.filters {
        match filter.name() {
            "CONSUMABLE_RESOURCE_NAME" => {
                let is_wanted = filter.names()?;
                found.retain(|found| is_wanted(&names::resource(found)));
            }
            other => {
                return Err(Failure::client(format!("filter {other} is not CONSUMABLE_RESOURCE_NAME")));
            }
        }
    }
    let key = |found: &Arc<ConsumableResource>| names::resource(found);
    found.sort_by_key(key);
    let page = Wanted { max_results: asked.max_results, next_token: asked.next_token };
    let (found, token) = page.page("consumableResources", 100, found, key)?;
    let list: Vec<Value> = found.iter().map(|found| summary(call, found)).collect();
    Ok(json!({"consumableResources": list, "nextToken": token}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_set_added_and_removed() {
        assert_eq!(changed(5, "SET", 3), Ok(3));
        assert_eq!(changed(5, "ADD", 3), Ok(8));
        assert_eq!(changed(5, "REMOVE", 3), Ok(2));
        changed(5, "REMOVE", 6).expect_err("more than there are");
        changed(5, "TAKE", 1).expect_err("no such operation");
    }
}
