//! The only place that creates, changes or deletes API objects.
//!
//! Every write has a deadline. None is retried here: whoever asked looks again at the world first,
//! since a write without an answer may well have been carried out.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use batchyard_core::job::decide::Deletion;
use http::HeaderValue;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope, Request};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::Error;
use super::lease::Leadership;
use super::meta;
use super::order;
use crate::crd::BatchJobRecord;
use crate::metrics::Metrics;
use crate::seeded_bugs::{Bug, has};

/// How long an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    /// The ServiceAccount that makes the pods of its namespace.
    runner: Option<String>,
}

type Result<T> = std::result::Result<T, Error>;

impl Writer {
    /// A writer that creates only while this process leads.
    pub fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client, leadership, metrics, runner: None }
    }

    /// Makes attempt pods as this ServiceAccount of their namespace.
    pub fn with_runner(self, runner: Option<String>) -> Self {
        Self { runner, ..self }
    }

    /// The client, for reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an attempt pod: as the runner of its namespace, if there is one, so that neither the operator nor a mistake of
    /// its makes a pod where nobody let it.
    pub async fn create_attempt_pod(&self, pod: &Pod) -> Result<Pod> {
        let Some(runner) = &self.runner else { return self.create_pod(pod).await };
        let what = format!("create Pod {} as ServiceAccount {runner}", super::watch::key(pod));
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        let call = async { self.client.request(create_as(pod, runner)?).await };
        self.bounded("create", what, call).await
    }

    /// Creates an attempt pod, or a placeholder, as the operator.
    pub async fn create_pod(&self, pod: &Pod) -> Result<Pod> {
        let what = format!("create Pod {}", super::watch::key(pod));
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        let api = self.namespaced::<Pod>(pod);
        self.bounded("create", what, api.create(&params(), pod)).await
    }

    /// Deletes an attempt pod, or a placeholder. One that is gone, or is another by the same name, counts as deleted.
    pub async fn delete_pod(&self, pod: &Pod, how: Deletion) -> Result<()> {
        let preconditions = Preconditions {
            uid: pod.uid(),
            resource_version: pod.resource_version().filter(|_| how == Deletion::IfUnbound),
        };
        let delete = DeleteParams {
            preconditions: Some(preconditions),
            grace_period_seconds: (how == Deletion::Forced).then_some(0),
            ..DeleteParams::default()
        };
        let what = format!("delete Pod {}", super::watch::key(pod));
        let api = self.namespaced::<Pod>(pod);
        gone_is_fine(self.bounded("delete", what, api.delete(&pod.name_any(), &delete)).await)
    }

    /// Lifts our scheduling gate off a pod, and leaves those of others.
    pub async fn ungate_pod(&self, pod: &Pod) -> Result<()> {
        // Naming the uid makes it a precondition.
        let patch = json!({
            "metadata": {"uid": pod.uid()},
            "spec": {"schedulingGates": [{"$patch": "delete", "name": meta::FENCE}]},
        });
        let what = format!("ungate Pod {}", super::watch::key(pod));
        let api = self.namespaced::<Pod>(pod);
        let patch = Patch::Strategic(patch);
        gone_is_fine(self.bounded("patch", what, api.patch(&pod.name_any(), &patch_params(), &patch)).await)
    }

    /// Tells containers that waited for others of their pod that they may start.
    pub async fn start_containers(&self, pod: &Pod, containers: &[String]) -> Result<()> {
        let word = order::word(pod, containers);
        self.apply(&self.namespaced(&word), &word).await?;
        // Naming the uid makes it a precondition.
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "annotations": {meta::OPENED: containers.join(",")},
        }});
        let what = format!("start containers of Pod {}", super::watch::key(pod));
        let api = self.namespaced::<Pod>(pod);
        let patch = Patch::Merge(patch);
        gone_is_fine(self.bounded("patch", what, api.patch(&pod.name_any(), &patch_params(), &patch)).await)
    }

    /// Takes the attempt finalizer off a pod, and leaves those of others. Returns the pod as it is
    /// then, if it is still there.
    pub async fn release_pod(&self, pod: &Pod) -> Result<Option<Pod>> {
        if has(Bug::NeverReleases) {
            return Ok(None);
        }
        // Naming the uid makes it a precondition.
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [meta::ATTEMPT_FINALIZER],
        }});
        let what = format!("release Pod {}", super::watch::key(pod));
        let api = self.namespaced::<Pod>(pod);
        let patch = Patch::Strategic(patch);
        match self.bounded("patch", what, api.patch(&pod.name_any(), &patch_params(), &patch)).await {
            Ok(released) => Ok(Some(released)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces an object's status if the object did not change since it was read.
    pub async fn replace_status<K>(&self, api: &Api<K>, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let what = format!("replace status of {} {}", K::kind(&()), super::watch::key(object));
        if has(Bug::WritesByForce) {
            let status = serde_json::to_value(object).unwrap_or_default()["status"].take();
            let patch = Patch::Merge(json!({"status": status}));
            let (name, params) = (object.name_any(), patch_params());
            return self.bounded("update_status", what, api.patch_status(&name, &params, &patch)).await;
        }
        self.bounded("update_status", what, api.replace_status(&object.name_any(), &params(), object)).await
    }

    /// Sets or removes our finalizer on a queue, a policy or an environment.
    pub async fn set_in_use<K>(&self, api: &Api<K>, object: &K, in_use: bool) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != meta::IN_USE_FINALIZER);
        if in_use {
            finalizers.push(meta::IN_USE_FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        let what = format!("set finalizers of {} {}", K::kind(&()), super::watch::key(object));
        let patch = Patch::Merge(patch);
        gone_is_fine(
            self.bounded("patch", what, api.patch(&object.name_any(), &patch_params(), &patch)).await,
        )
    }

    /// Creates a record of an array's children, or replaces it if it did not change since it was read.
    pub async fn write_record(&self, record: &BatchJobRecord) -> Result<BatchJobRecord> {
        let key = super::watch::key(record);
        let api = self.namespaced::<BatchJobRecord>(record);
        if record.resource_version().is_some() {
            let (name, params, what) = (record.name_any(), params(), format!("replace BatchJobRecord {key}"));
            return self.bounded("update", what, api.replace(&name, &params, record)).await;
        }
        let what = format!("create BatchJobRecord {key}");
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        self.bounded("create", what, api.create(&params(), record)).await
    }

    /// Creates a revision; a conflict means that its number is taken.
    pub async fn create_revision(&self, revision: &ControllerRevision) -> Result<ControllerRevision> {
        let what = format!("create ControllerRevision {}", super::watch::key(revision));
        let api = self.namespaced::<ControllerRevision>(revision);
        self.bounded("create", what, api.create(&params(), revision)).await
    }

    /// Marks a revision INACTIVE.
    pub async fn deactivate_revision(
        &self,
        revision: &ControllerRevision,
        now: jiff::Timestamp,
    ) -> Result<()> {
        let patch = json!({"metadata": {
            "uid": revision.uid(),
            "labels": {meta::REVISION_STATUS: meta::INACTIVE},
            "annotations": {meta::INACTIVE_SINCE: now.to_string()},
        }});
        let what = format!("deactivate ControllerRevision {}", super::watch::key(revision));
        let api = self.namespaced::<ControllerRevision>(revision);
        let patch = Patch::Merge(patch);
        gone_is_fine(
            self.bounded("patch", what, api.patch(&revision.name_any(), &patch_params(), &patch)).await,
        )
    }

    /// Creates an object for a caller of the AWS door; a conflict means that there is one of its name.
    pub async fn create_object<K>(&self, api: &Api<K>, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let what = format!("create {} {}", K::kind(&()), super::watch::key(object));
        self.bounded("create", what, api.create(&params(), object)).await
    }

    /// Replaces an object for a caller of the AWS door if it did not change since it was read.
    pub async fn replace_object<K>(&self, api: &Api<K>, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let what = format!("replace {} {}", K::kind(&()), super::watch::key(object));
        self.bounded("update", what, api.replace(&object.name_any(), &params(), object)).await
    }

    /// Changes members of an object for a caller of the AWS door.
    pub async fn merge_object<K>(&self, api: &Api<K>, object: &K, change: &serde_json::Value) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("patch {} {}", K::kind(&()), super::watch::key(object));
        let patch = Patch::Merge(change);
        self.bounded("patch", what, api.patch(&object.name_any(), &patch_params(), &patch)).await
    }

    /// Says where the leader is.
    pub async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<()> {
        self.apply(&self.namespaced(slice), slice).await.map(drop)
    }

    /// Makes an object that is wholly ours what it should be, whatever others made of it.
    pub async fn apply<K>(&self, api: &Api<K>, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let what = format!("apply {} {}", K::kind(&()), super::watch::key(object));
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        let params = PatchParams::apply(meta::OPERATOR).force();
        let patch = Patch::Apply(object);
        self.bounded("patch", what, api.patch(&object.name_any(), &params, &patch)).await
    }

    /// Makes an object of a kind that is known while it runs what it should be.
    pub async fn apply_as(&self, kind: &ApiResource, object: &DynamicObject) -> Result<DynamicObject> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let what = format!("apply {} {namespace}/{name}", kind.kind);
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, kind);
        let params = PatchParams::apply(meta::OPERATOR).force();
        self.bounded("patch", what, api.patch(&name, &params, &Patch::Apply(object))).await
    }

    /// Deletes an object that was made for a pod, by its name; one that is not there counts as deleted.
    pub async fn delete_made_for(&self, kind: &ApiResource, pod: &Pod, name: &str) -> Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let what = format!("delete {} {namespace}/{name}", kind.kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, kind);
        gone_is_fine(self.bounded("delete", what, api.delete(name, &DeleteParams::background())).await)
    }

    /// Says how the leader is known when the API server passes questions on to it.
    pub async fn set_ca_bundle(&self, service: &str, authority: &ByteString) -> Result<()> {
        let what = format!("set caBundle of APIService {service}");
        if !self.leadership.is_fresh() {
            return Err(Error::NotLeading { what });
        }
        let api: Api<APIService> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"caBundle": authority}}));
        self.bounded("patch", what, api.patch(service, &patch_params(), &patch)).await.map(drop)
    }

    /// Deletes an object that nothing needs any more.
    pub async fn delete<K>(&self, api: &Api<K>, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.delete_as(api, object, DeleteParams::background()).await
    }

    /// Deletes an object, which stays until everything that was made from it is gone.
    pub async fn delete_after_dependents<K>(&self, api: &Api<K>, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.delete_as(api, object, DeleteParams::foreground()).await
    }

    async fn delete_as<K>(&self, api: &Api<K>, object: &K, how: DeleteParams) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let delete = DeleteParams { preconditions: Some(preconditions), ..how };
        let what = format!("delete {} {}", K::kind(&()), super::watch::key(object));
        gone_is_fine(self.bounded("delete", what, api.delete(&object.name_any(), &delete)).await)
    }

    fn namespaced<K>(&self, object: &K) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    async fn bounded<T>(
        &self,
        verb: &'static str,
        what: String,
        call: impl Future<Output = std::result::Result<T, kube::Error>>,
    ) -> Result<T> {
        let answer = match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Api { what, source: Box::new(source) }),
            Err(_) => Err(Error::Deadline { what, limit: DEADLINE }),
        };
        self.metrics.wrote(verb, answer.as_ref().err().map_or("ok", Error::kind));
        answer
    }
}

/// A create in the name of a ServiceAccount of the pod's namespace
/// (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>). The API server knows its
/// groups.
fn create_as(pod: &Pod, account: &str) -> std::result::Result<http::Request<Vec<u8>>, kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
    let request = Request::new(Pod::url_path(&(), Some(&namespace))).create(&params(), body);
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    let user = HeaderValue::try_from(format!("system:serviceaccount:{namespace}:{account}"));
    let user = user.map_err(|error| kube::Error::HttpError(error.into()))?;
    request.headers_mut().insert("Impersonate-User", user);
    Ok(request)
}

fn gone_is_fine<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(meta::OPERATOR.to_owned()), ..PostParams::default() }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(meta::OPERATOR.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_made_in_the_name_of_an_account_of_its_own_namespace() {
        let pod = json!({"metadata": {"name": "p", "namespace": "team"}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let request = create_as(&pod, "batch-runner").expect("a request");
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().to_string(), "/api/v1/namespaces/team/pods?&fieldManager=batchyard");
        assert_eq!(request.headers()["Impersonate-User"], "system:serviceaccount:team:batch-runner");
        let sent: Pod = serde_json::from_slice(request.body()).expect("a pod");
        assert_eq!(sent, pod);
        create_as(&pod, "a\nb").expect_err("that is no name");
    }
}
