//! The API itself: discovery, a list and a single row.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use batchyard_core::queue::Place;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::front::FrontProxy;
use super::rows::{Key, rows};
use super::table::{self, Include};
use crate::controllers::Context;
use crate::crd::BatchJob;
use crate::crd::waiting_job::{VIEW_GROUP, VIEW_VERSION, WAITING_JOBS, WaitingJob};
use crate::k8s::access;
use crate::k8s::error::chain;

/// How long the dispatcher may take to say what the line is.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Shared {
    context: Arc<Context>,
    front: Arc<FrontProxy>,
}

/// What is asked for with a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Params {
    limit: usize,
    #[serde(rename = "continue")]
    after: String,
    field_selector: String,
    label_selector: String,
    watch: bool,
    include_object: Include,
}

/// Everything under `/apis/view.batchyard.io`. The API server finds no OpenAPI and does without.
pub(super) fn router(context: Arc<Context>, front: Arc<FrontProxy>) -> Router {
    let group = format!("/apis/{VIEW_GROUP}");
    let version = format!("{group}/{VIEW_VERSION}");
    let namespaced = format!("{version}/namespaces/{{namespace}}/{WAITING_JOBS}");
    Router::new()
        .route(&group, get(|| async { Json(api_group()) }))
        .route(&version, get(|| async { Json(resources()) }))
        .route(&format!("{version}/{WAITING_JOBS}"), get(list_all))
        .route(&namespaced, get(list))
        .route(&format!("{namespaced}/{{name}}"), get(one))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "NotFound", "there is no such resource") })
        .method_not_allowed_fallback(|| async {
            let text = "this is read-only: get and list";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
        })
        .with_state(Shared { context, front })
}

fn api_group() -> Value {
    let version = json!({"groupVersion": format!("{VIEW_GROUP}/{VIEW_VERSION}"), "version": VIEW_VERSION});
    json!({"apiVersion": "v1", "kind": "APIGroup", "name": VIEW_GROUP,
        "versions": [version], "preferredVersion": version})
}

fn resources() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "APIResourceList",
        "groupVersion": format!("{VIEW_GROUP}/{VIEW_VERSION}"),
        "resources": [{"name": WAITING_JOBS, "singularName": "waitingjob", "kind": "WaitingJob",
            "namespaced": true, "verbs": ["get", "list"], "shortNames": ["wj"]}],
    })
}

async fn list_all(
    State(shared): State<Shared>,
    headers: HeaderMap,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    shared.list(&headers, params, None).await
}

async fn list(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    shared.list(&headers, params, Some(&namespace)).await
}

async fn one(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    let params = understood(params)?;
    shared.admit(&headers, "get", Some(&namespace), Some(&name)).await?;
    let rows = shared.rows(Some(&namespace)).await?;
    let found = rows.into_values().find(|row| row.metadata.name.as_ref() == Some(&name));
    let row = found.ok_or_else(|| Refusal::not_waiting(&name))?;
    Ok(answer(&headers, params.include_object, &json!({}), &[&row], || json!(row)))
}

impl Shared {
    async fn list(
        &self,
        headers: &HeaderMap,
        params: Result<Query<Params>, QueryRejection>,
        namespace: Option<&str>,
    ) -> Result<Response, Refusal> {
        let params = understood(params)?;
        let wanted = Selector::parse(&params)?;
        let after = wanted_after(&params.after)?;
        self.admit(headers, "list", namespace, None).await?;
        let rows = self.rows(namespace).await?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = rows.range((from, Bound::Unbounded)).filter(|(_, row)| wanted.matches(row));
        let limit = if params.limit == 0 { usize::MAX } else { params.limit };
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let left = found.count();
        let mut metadata = json!({"resourceVersion": ""});
        if let Some((last, _)) = page.last().filter(|_| left > 0) {
            metadata["continue"] = json!(serde_json::to_string(last).unwrap_or_default());
            metadata["remainingItemCount"] = json!(left);
        }
        let items: Vec<&WaitingJob> = page.into_iter().map(|(_, row)| row).collect();
        Ok(answer(headers, params.include_object, &metadata, &items, || {
            let api_version = format!("{VIEW_GROUP}/{VIEW_VERSION}");
            json!({"apiVersion": api_version, "kind": "WaitingJobList", "metadata": metadata, "items": items})
        }))
    }

    /// Lets pass who may ask this. The API server has asked the same before it passed the question on.
    async fn admit(
        &self,
        headers: &HeaderMap,
        verb: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(person) = self.front.person(headers) else {
            let text = "the API server does not say who asks";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", text));
        };
        let what = ResourceAttributes {
            group: Some(VIEW_GROUP.to_owned()),
            version: Some(VIEW_VERSION.to_owned()),
            resource: Some(WAITING_JOBS.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let client = self.context.writer.client();
        match access::review(client, &person, what).await {
            // Not that nothing waits there: nothing is known of it.
            Ok(Ok(())) => {
                match namespace.filter(|namespace| !self.context.settings.scope.serves(namespace)) {
                    None => Ok(()),
                    Some(namespace) => {
                        let text = format!("this operator does not serve namespace {namespace}");
                        Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", text))
                    }
                }
            }
            Ok(Err(why)) => {
                let place = namespace
                    .map_or("at the cluster scope".to_owned(), |n| format!("in the namespace \"{n}\""));
                let text = format!(
                    "{WAITING_JOBS}.{VIEW_GROUP} is forbidden: User \"{}\" cannot {verb} resource \"{WAITING_JOBS}\" in \
                     API group \"{VIEW_GROUP}\" {place}{}{why}",
                    person.user,
                    if why.is_empty() { "" } else { ": " }
                );
                Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", text))
            }
            Err(error) => {
                warn!("whether {} may {verb} {WAITING_JOBS} is not known: {}", person.user, chain(&error));
                Err(Refusal::later("whether you may ask this cannot be found out now"))
            }
        }
    }

    async fn rows(&self, namespace: Option<&str>) -> Result<BTreeMap<Key, WaitingJob>, Refusal> {
        let line = tokio::time::timeout(PATIENCE, self.context.dispatch.line()).await;
        let Ok(Some(line)) = line else {
            return Err(Refusal::later("the dispatcher does not say now who waits"));
        };
        let is_asked_for =
            |job: &Arc<BatchJob>| namespace.is_none() || job.metadata.namespace.as_deref() == namespace;
        let (caches, dispatch) = (&self.context.caches, &self.context.dispatch);
        let turn = |place: &Place, job: &BatchJob| {
            dispatch.turn_of(&place.queue, job.status.as_ref().and_then(|status| status.record.runnable_at))
        };
        Ok(rows(dispatch.all_waits(), &line, turn, |uid| caches.job(uid).filter(is_asked_for)))
    }
}

fn understood(params: Result<Query<Params>, QueryRejection>) -> Result<Params, Refusal> {
    params.map(|Query(params)| params).map_err(|error| Refusal::bad(error.body_text()))
}

/// Which rows are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selector {
    name: Option<String>,
    queue: Option<String>,
}

impl Selector {
    fn parse(params: &Params) -> Result<Self, Refusal> {
        if params.watch {
            return Err(Refusal::bad("waiting jobs cannot be watched: get and list"));
        }
        if !params.label_selector.is_empty() {
            return Err(Refusal::bad("waiting jobs have no labels: labelSelector selects none of them"));
        }
        let mut selector = Self::default();
        for term in params.field_selector.split(',').filter(|term| !term.is_empty()) {
            let (field, value) = term.split_once('=').unwrap_or((term, ""));
            let member = match field {
                "metadata.name" => &mut selector.name,
                "status.jobQueue" => &mut selector.queue,
                _ => {
                    let text = format!("fieldSelector {term}: metadata.name= and status.jobQueue= are known");
                    return Err(Refusal::bad(text));
                }
            };
            *member = Some(value.trim_start_matches('=').to_owned());
        }
        Ok(selector)
    }

    fn matches(&self, row: &WaitingJob) -> bool {
        self.name.as_ref().is_none_or(|name| row.metadata.name.as_ref() == Some(name))
            && self.queue.as_ref().is_none_or(|queue| row.status.job_queue == *queue)
    }
}

fn wanted_after(token: &str) -> Result<Option<Key>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let key = serde_json::from_str(token).map_err(|_| Refusal::bad("continue is no token of this list"))?;
    Ok(Some(key))
}

fn answer(
    headers: &HeaderMap,
    include: Include,
    metadata: &Value,
    rows: &[&WaitingJob],
    plain: impl FnOnce() -> Value,
) -> Response {
    match table::is_wanted(headers) {
        true => Json(table::table(metadata, rows, include)).into_response(),
        false => Json(plain()).into_response(),
    }
}

/// An answer that is none, as the API server words them.
#[derive(Debug)]
struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
    name: Option<String>,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), name: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    fn later(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    fn not_waiting(name: &str) -> Self {
        let message =
            format!("{WAITING_JOBS}.{VIEW_GROUP} \"{name}\" not found: no job of this name waits for a pod");
        Self { name: Some(name.to_owned()), ..Self::new(StatusCode::NOT_FOUND, "NotFound", message) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": {"group": VIEW_GROUP, "kind": WAITING_JOBS, "name": self.name},
            "code": self.code.as_u16(),
        });
        (self.code, Json(status)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(field_selector: &str) -> Result<Selector, String> {
        let params = Params { field_selector: field_selector.to_owned(), ..Params::default() };
        Selector::parse(&params).map_err(|refusal| refusal.message)
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(selector(""), Ok(Selector::default()));
        assert_eq!(
            selector("metadata.name=a,status.jobQueue==q"),
            Ok(Selector { name: some("a"), queue: some("q") })
        );
        for wrong in ["status.phase=RUNNABLE", "metadata.name!=a", "nonsense"] {
            assert!(selector(wrong).is_err_and(|text| text.contains(wrong)), "{wrong}");
        }
        for params in [
            Params { watch: true, ..Params::default() },
            Params { label_selector: "a=b".into(), ..Params::default() },
        ] {
            assert!(Selector::parse(&params).is_err(), "{params:?}");
        }
        assert!(wanted_after("").is_ok_and(|key| key.is_none()));
        assert!(wanted_after("nonsense").is_err());
    }
}
