//! The cluster that is tested, and clients for those who act on it.
//!
//! Everybody who acts has a name of its own, so that the audit log tells who wrote what.

use std::io::Write as _;
use std::path::PathBuf;

use batchyard::crd;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::roles::{self, Servant};
use super::wait;

/// The variable with the path of the kubeconfig. It has a name of its own so that no test ever touches the cluster
/// that a developer happens to work with.
const KUBECONFIG: &str = "BATCHYARD_TEST_KUBECONFIG";

/// Who acts on the cluster. Those who are played by a test have a name in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Somebody who works with jobs and queues.
    User,
    /// Somebody with no right but those that a test gives: the API server makes them wait in line with others.
    Tenant,
    /// Binds pods to nodes.
    Scheduler,
    /// Reports what became of pods.
    Kubelet,
    /// The operator, where a test stands between it and the API server: it has the rights that the chart gives it.
    Operator,
}

impl Actor {
    /// The user name in the audit log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "test-user",
            Self::Tenant => "test-tenant",
            Self::Scheduler => "test-scheduler",
            Self::Kubelet => "test-kubelet",
            Self::Operator => Servant::Operator.user(),
        }
    }
}

/// Where the administrator's kubeconfig is. Without one nothing can be tested, and the whole run ends.
pub(crate) fn kubeconfig() -> PathBuf {
    match std::env::var_os(KUBECONFIG) {
        Some(path) => path.into(),
        None => {
            // Not by eprintln!, which a test captures.
            let mut terminal = std::io::stderr();
            let _ = writeln!(
                terminal,
                "\nerror: {KUBECONFIG} is not set: these tests need a cluster; run them by `cargo xtask test api` or `cargo xtask test nodes`"
            );
            std::process::exit(2);
        }
    }
}

/// A client for somebody. The kinds of Batchyard are installed when it is returned.
pub(crate) async fn connect(actor: Actor) -> Client {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { install(client(Actor::User).await).await }).await;
    client(actor).await
}

async fn client(actor: Actor) -> Client {
    let path = kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    // Whoever tests decides what is tried again.
    config.default_retry = false;
    config.auth_info.impersonate = Some(actor.name().to_owned());
    let group = match actor {
        Actor::Operator | Actor::Tenant => "system:authenticated",
        Actor::User | Actor::Scheduler | Actor::Kubelet => "system:masters",
    };
    config.auth_info.impersonate_groups = Some(vec![group.to_owned()]);
    Client::try_from(config).expect("a client")
}

/// The namespace of the operator's lease.
pub(crate) const SYSTEM: &str = "batchyard-system";

/// Installs the kinds as they are in this tree, and makes the operator's namespace and the roles.
async fn install(client: Client) {
    let system = json!({"metadata": {"name": SYSTEM}});
    apply(&Api::<Namespace>::all(client.clone()), &system).await;
    roles::install(&client).await;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for crd in crd::all() {
        apply(&api, &crd).await;
    }
    for crd in crd::all() {
        established(&api, &crd.metadata.name.expect("a CRD has a name")).await;
    }
}

/// Server-side apply as a user's tool does it: unknown members are errors.
pub(crate) async fn apply<K>(api: &Api<K>, object: &impl serde::Serialize) -> K
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    apply_as(api, &(), object).await
}

/// `apply` for objects whose kind is known at run time only.
pub(crate) async fn apply_as<K>(api: &Api<K>, kind: &K::DynamicType, object: &impl serde::Serialize) -> K
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut object = serde_json::to_value(object).expect("plain data");
    object["apiVersion"] = json!(K::api_version(kind));
    object["kind"] = json!(K::kind(kind));
    let name = object["metadata"]["name"].as_str().expect("an object has a name").to_owned();
    let params = PatchParams::apply("test").force().validation_strict();
    let answer = api.patch(&name, &params, &Patch::Apply(&object)).await;
    answer.unwrap_or_else(|e| panic!("apply {} {name}: {e}", K::kind(kind)))
}

/// Waits until objects of a kind can be made.
pub(crate) async fn established(api: &Api<CustomResourceDefinition>, name: &str) {
    wait::until(api, name, "the kind to be established", |crd| {
        let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|c| c.type_ == "Established").any(|c| c.status == "True")
    })
    .await;
}

/// Makes a namespace with a name that begins like this, in which pods can be made.
pub(crate) async fn namespace(client: &Client, begins: &str) -> String {
    let api: Api<Namespace> = Api::all(client.clone());
    let made: Namespace = serde_json::from_value(json!({"metadata": {
        "generateName": format!("{begins}-"),
        "labels": {TEST_LABEL: "true"},
    }}))
    .expect("a namespace");
    let made = api.create(&PostParams::default(), &made).await.expect("a namespace can be made");
    let name = made.metadata.name.expect("the API server names it");
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), &name);
    wait::until(&accounts, "default", "the namespace's service account", |_| true).await;
    name
}

/// On every object of the whole cluster that a test makes.
pub(crate) const TEST_LABEL: &str = "batchyard.io/test";

/// A resource below /apis/batchyard.io/v1alpha1, for requests that the typed client cannot make.
pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "batchyard.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}
