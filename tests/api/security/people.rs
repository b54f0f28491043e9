//! Tenants with tokens of their own, in namespaces where the chart's policies hold, with the roles that the chart makes.

use batchyard::crd::BatchJob;
use batchyard_core::name;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config, Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::operator::world::World;
use crate::support::client::{TEST_LABEL, apply, apply_as, kubeconfig};
use crate::support::wait;

/// On namespaces in which the policies hold: the others belong to other tests.
const LABEL: &str = "batchyard.io/test-policies";

/// The policies of the chart, as they are.
const POLICIES: [&str; 3] = [
    include_str!("../../../charts/batchyard/files/policies/jobs.yaml"),
    include_str!("../../../charts/batchyard/files/policies/jobdefinitions.yaml"),
    include_str!("../../../charts/batchyard/files/policies/reserved.yaml"),
];

/// The policy that writes down who submits a job.
pub(super) const SUBMITTER: &str = include_str!("../../../charts/batchyard/files/policies/submitter.yaml");

const ROLES: &str = include_str!("../../../charts/batchyard/templates/userroles.yaml");

/// The chart's role of this name, as this cluster calls it.
fn role_name(role: &str) -> String {
    format!("batchyard-{role}")
}

/// The roles for people that the chart makes.
pub(super) fn chart_roles() -> Vec<Value> {
    // Templates stand in lines of their own, but for the prefix of names.
    let lines = ROLES.replace("{{ $name }}", "batchyard");
    let lines = lines.lines().filter(|line| !line.contains("{{"));
    let text = lines.skip_while(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let roles = text.split("\n---\n").map(|role| serde_saphyr::from_str(role).expect("a role"));
    roles.collect()
}

/// Once for all tests: roles, policies, and bindings for the namespaces of these tests alone.
pub(super) async fn install(user: &Client) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            let roles: Api<ClusterRole> = Api::all(user.clone());
            for role in chart_roles() {
                apply(&roles, &role).await;
            }
            let policies: Api<ValidatingAdmissionPolicy> = Api::all(user.clone());
            let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(user.clone());
            for text in POLICIES {
                let policy: Value = serde_saphyr::from_str(text).expect("a policy without templates");
                apply(&policies, &policy).await;
                let name = policy["metadata"]["name"].as_str().expect("a name");
                let binding = json!({"metadata": {"name": format!("test.{name}"), "labels": {TEST_LABEL: "true"}},
                    "spec": {"policyName": name, "validationActions": ["Deny"],
                        "matchResources": {"namespaceSelector": {"matchLabels": {LABEL: "true"}}}}});
                apply(&bindings, &binding).await;
            }
            let policy: Value = serde_saphyr::from_str(SUBMITTER).expect("a policy without templates");
            let name = policy["metadata"]["name"].as_str().expect("a name");
            let binding = json!({"metadata": {"name": format!("test.{name}"), "labels": {TEST_LABEL: "true"}},
                "spec": {"policyName": name,
                    "matchResources": {"namespaceSelector": {"matchLabels": {LABEL: "true"}}}}});
            for (kind, object) in
                [("MutatingAdmissionPolicy", &policy), ("MutatingAdmissionPolicyBinding", &binding)]
            {
                let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
                let kind = ApiResource::from_gvk(&kind);
                apply_as(&Api::<DynamicObject>::all_with(user.clone(), &kind), &kind, object).await;
            }
        })
        .await;
}

/// A namespace in which the policies hold.
pub(super) async fn tenancy(name: &str) -> World {
    let world = World::without_operator(name).await;
    install(&world.user).await;
    guard(&world).await;
    world
}

/// A namespace in which the policies hold, with a queue that an operator looks after.
pub(super) async fn tenancy_at_work(name: &str) -> World {
    let world = World::with_queue(name).await;
    install(&world.user).await;
    guard(&world).await;
    world
}

/// Makes the policies hold in a namespace, and waits until each of them does.
pub(super) async fn guard(world: &World) {
    let labels = json!({"metadata": {"labels": {LABEL: "true"}}});
    let namespaces: Api<Namespace> = Api::all(world.user.clone());
    namespaces
        .patch(&world.namespace, &PatchParams::default(), &Patch::Merge(labels))
        .await
        .expect("a namespace can be labelled");
    let writer = json!([{"apiGroups": ["batchyard.io"], "resources": ["batchjobs", "jobdefinitions"],
        "verbs": ["create"]}]);
    let probe = person(world, "probe", &[], writer).await;
    let reserved =
        json!({"metadata": {"name": "x", "labels": {"batchyard.io/x": "x"}}, "spec": definition(json!({}))});
    for (kind, object, policy) in [
        ("BatchJob", json!({"metadata": {"name": "x"}, "spec": job(json!({}))}), "jobs"),
        (
            "JobDefinition",
            json!({"metadata": {"name": "x"}, "spec": definition(json!({"privileged": true}))}),
            "jobdefinitions",
        ),
        ("JobDefinition", reserved, "reserved"),
    ] {
        wait::answer(&format!("the policy {policy} to hold"), &world.namespace, || async {
            let params = PostParams { dry_run: true, ..PostParams::default() };
            let answer = probe.api(kind).create(&params, &typed(kind, &object)).await;
            answer.err().filter(|error| error.to_string().contains(&format!("'{policy}.batchyard.io'")))
        })
        .await;
    }
    let jobs: Api<BatchJob> = world.api();
    let probe: BatchJob =
        serde_json::from_value(crate::support::client::object("BatchJob", "x", job(json!({}))))
            .expect("a job");
    wait::answer("the policy submitter to hold", &world.namespace, || async {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let made = jobs.create(&params, &probe).await.expect("an administrator may");
        made.annotations().contains_key("batchyard.io/submitter").then_some(())
    })
    .await;
}

/// Somebody with a token.
pub(super) struct Person {
    client: Client,
    namespace: String,
    /// The name in messages.
    pub(super) user: String,
    /// What proves who this is.
    pub(super) token: String,
}

/// A person of a namespace with roles of the chart, and with rights of their own.
pub(super) async fn person(world: &World, who: &str, roles: &[&str], mut rules: Value) -> Person {
    let n = &world.namespace;
    apply(&world.api::<ServiceAccount>(), &json!({"metadata": {"name": who}})).await;
    for role in roles {
        bind(world, who, "ClusterRole", &role_name(role)).await;
    }
    // The last to be bound: once it is known, so are the others.
    let mark = json!({"apiGroups": ["test.batchyard.io"], "resources": ["marks"], "verbs": ["see"]});
    rules.as_array_mut().expect("a list").push(mark);
    apply(&world.api::<Role>(), &json!({"metadata": {"name": who}, "rules": rules})).await;
    bind(world, who, "Role", who).await;
    let accounts = world.api::<ServiceAccount>();
    let token = accounts
        .create_token_request(who, &PostParams::default(), &TokenRequest::default())
        .await
        .expect("a token");
    let token = token.status.expect("the API server makes it").token;
    let client = client(token.clone()).await;
    let asks: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let question: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes":
        {"group": "test.batchyard.io", "resource": "marks", "verb": "see", "namespace": n}}}))
    .expect("a question");
    wait::answer("the rights of a person to be known", who, || async {
        let answer = asks.create(&PostParams::default(), &question).await.ok()?;
        answer.status.filter(|status| status.allowed)
    })
    .await;
    Person { client, namespace: n.clone(), user: format!("system:serviceaccount:{n}:{who}"), token }
}

/// A controller of Kubernetes, which acts for whoever made its object.
pub(super) async fn controller(world: &World, name: &str) -> Person {
    let user = format!("system:serviceaccount:kube-system:{name}");
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
    let mut config = config().await;
    config.auth_info.impersonate = Some(user.clone());
    config.auth_info.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
    let client = Client::try_from(config).expect("a client");
    Person { client, namespace: world.namespace.clone(), user, token: String::new() }
}

async fn bind(world: &World, who: &str, kind: &str, role: &str) {
    let binding = json!({"metadata": {"name": format!("{who}-{}", name::slug(role))},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": world.namespace}]});
    apply(&world.api::<RoleBinding>(), &binding).await;
}

/// Gives a person one of the chart's roles in the whole cluster; the binding goes with the namespace's tests.
pub(super) async fn cluster_role(world: &World, person: &Person, role: &str) {
    let account = person.user.rsplit(':').next().unwrap_or_default();
    let name = format!("{}-{account}-{role}", world.namespace);
    let binding = json!({"metadata": {"name": name, "labels": {TEST_LABEL: "true"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role_name(role)},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": world.namespace}]});
    apply(&Api::<ClusterRoleBinding>::all(world.user.clone()), &binding).await;
}

/// A client with this token and nothing else.
async fn client(token: String) -> Client {
    let mut config = config().await;
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    Client::try_from(config).expect("a client")
}

async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.expect("a usable kubeconfig");
    config.default_retry = false;
    config
}

impl Person {
    /// Objects of a kind in the namespace; of Batchyard, Kubernetes' core or apps.
    pub(super) fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Has the rights in `rules` from now on, beside those of roles of the chart, so that it may do this or may not.
    pub(super) async fn regrant(&self, world: &World, rules: Value, may: (&str, &str, &str, bool)) {
        let (verb, resource, name, allowed) = may;
        let who = self.user.rsplit(':').next().unwrap_or_default();
        apply(&world.api::<Role>(), &json!({"metadata": {"name": who}, "rules": rules})).await;
        let asks: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let question: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes":
            {"group": "batchyard.io", "resource": resource, "verb": verb, "name": name, "namespace": self.namespace}}}))
        .expect("a question");
        wait::answer("the rights of a person to be known", who, || async {
            let answer = asks.create(&PostParams::default(), &question).await.ok()?.status?;
            (answer.allowed == allowed).then_some(())
        })
        .await;
    }

    /// Who this is, as the API server knows them.
    pub(super) fn written(&self) -> String {
        let n = &self.namespace;
        let groups =
            ["system:serviceaccounts", &format!("system:serviceaccounts:{n}"), "system:authenticated"];
        format!(r#"{{"user":"{}","groups":{}}}"#, self.user, json!(groups))
    }

    /// Objects that belong to no namespace.
    pub(super) fn of_cluster(&self, kind: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind))
    }

    /// Makes an object.
    pub(super) async fn makes(&self, kind: &str, name: &str, spec: Value) -> Result<DynamicObject, Error> {
        self.creates(kind, json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// Makes an object of which the metadata is stated, too.
    pub(super) async fn creates(&self, kind: &str, object: Value) -> Result<DynamicObject, Error> {
        self.api(kind).create(&PostParams::default(), &typed(kind, &object)).await
    }

    /// Makes an object by server-side apply.
    pub(super) async fn applies(
        &self,
        kind: &str,
        name: &str,
        object: Value,
    ) -> Result<DynamicObject, Error> {
        let params = PatchParams::apply("test");
        self.api(kind).patch(name, &params, &Patch::Apply(typed(kind, &object))).await
    }

    /// Changes an object.
    pub(super) async fn patches(&self, kind: &str, name: &str, patch: Value) -> Result<DynamicObject, Error> {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Deletes an object.
    pub(super) async fn deletes(&self, kind: &str, name: &str) -> Result<(), Error> {
        self.api(kind).delete(name, &DeleteParams::default()).await.map(|_| ())
    }
}

fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "Pod" | "Secret" | "ServiceAccount" => ("", "v1"),
        "ControllerRevision" => ("apps", "v1"),
        _ => ("batchyard.io", "v1alpha1"),
    };
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if kind == "SchedulingPolicy" {
        "schedulingpolicies".clone_into(&mut resource.plural);
    }
    resource
}

fn typed(kind: &str, object: &Value) -> DynamicObject {
    let resource = resource(kind);
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(kind);
    serde_json::from_value(object).expect("an object")
}

/// A job in the queue `queue` whose container has more members.
pub(super) fn job(container: Value) -> Value {
    let definition = definition(container);
    json!({"jobQueue": "queue", "containerProperties": definition["containerProperties"]})
}

/// A definition whose container has more members.
pub(super) fn definition(more: Value) -> Value {
    let mut container = crate::operator::world::container();
    crate::operator::world::merge(&mut container, more);
    json!({"type": "container", "containerProperties": container})
}

/// Rights in Batchyard's group.
pub(super) fn right(verb: &str, resource: &str, names: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": ["batchyard.io"], "resources": [resource], "verbs": [verb]});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

/// The right to use accounts.
pub(super) fn accounts(names: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["use"], "resourceNames": names})
}

/// The answer must be a refusal by a policy, which says all of these.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, policy: &str, says: &[&str]) {
    let text = forbidden(answer);
    assert!(text.contains(&format!("ValidatingAdmissionPolicy '{policy}.batchyard.io'")), "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

/// The answer must be that a role is missing for something.
#[track_caller]
pub(super) fn no_role<T: std::fmt::Debug>(answer: Result<T, Error>, to: &str) {
    let text = forbidden(answer);
    assert!(text.contains(&format!("cannot {to}")), "{to:?} is missing in {text}");
}

#[track_caller]
fn forbidden<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer.expect_err("it must be refused") {
        Error::Api(status) if status.code == 403 => status.message,
        other => panic!("refused for another reason: {other}"),
    }
}
