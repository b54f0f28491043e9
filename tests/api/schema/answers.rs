//! Objects that are tried on the API server as JSON, so that nothing of ours stands in between.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::client::object;

/// Where objects are tried.
pub(super) struct Objects {
    pub(super) client: Client,
    pub(super) namespace: String,
}

type Answer = Result<Value, Box<Status>>;

impl Objects {
    /// What the API server answers to the creation of an object that is not kept.
    pub(super) async fn try_create(&self, kind: &str, name: &str, spec: &Value) -> Answer {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        answer(self.api(kind).create(&params, &dynamic(object(kind, name, spec.clone()))).await)
    }

    /// What the API server answers to a change that is not kept.
    pub(super) async fn try_update(&self, kind: &str, name: &str, old: &Value, new: &Value) -> Answer {
        let api = self.api(kind);
        // The environments of all tests share one space of names.
        let name = format!("{}-{name}", self.namespace);
        let made = api.create(&PostParams::default(), &dynamic(object(kind, &name, old.clone()))).await;
        let made = made.unwrap_or_else(|e| panic!("{kind} {old}: {e}"));
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let mut next = object(kind, &name, new.clone());
        next["metadata"]["resourceVersion"] = json!(made.metadata.resource_version);
        // An operator that is at work may change the object meanwhile.
        let mut said = answer(api.replace(&name, &params, &dynamic(next.clone())).await);
        while said.as_ref().is_err_and(|status| status.code == 409) {
            let now = api.get(&name).await.expect("the object exists");
            next["metadata"]["resourceVersion"] = json!(now.metadata.resource_version);
            said = answer(api.replace(&name, &params, &dynamic(next.clone())).await);
        }
        api.delete(&name, &DeleteParams::default()).await.expect("the object can be deleted");
        said
    }

    /// Lets go of everything that was made.
    pub(super) async fn remove_namespace(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .expect("a namespace can be deleted");
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("batchyard.io", "v1alpha1", kind));
        match kind {
            "ComputeEnvironment" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }
}

fn dynamic(object: Value) -> DynamicObject {
    serde_json::from_value(object).expect("an object")
}

fn answer(result: Result<DynamicObject, kube::Error>) -> Answer {
    match result {
        Ok(object) => Ok(serde_json::to_value(object).expect("plain data")),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("the API server did not answer: {error}"),
    }
}
