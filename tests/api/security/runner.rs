//! Pods that are made in the name of an account of their namespace. The operator of these tests has the rights that the chart
//! gives it where `operator.runner` is set, and no others.

use std::fs;
use std::path::PathBuf;

use batchyard_core::job::phase::Phase;
use batchyard_core::waits::Kind;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PostParams;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Error};
use serde_json::{Value, json};

use super::people::{guard, install, job, no_role, person, refused, tenancy};
use crate::operator::world::World;
use crate::support::client::{SYSTEM, apply, kubeconfig};
use crate::support::operator::{self, Operator};
use crate::support::{audit, wait};

const RUNNER: &str = "batch-runner";
/// The account of the operator.
const OPERATOR: &str = "test-runner-operator";
/// As the chart calls it.
const ROLE: &str = "batchyard-batch-runner";

/// What the chart has for the operator where a runner is set, and for the runner.
fn chart() -> String {
    let chart = concat!(
        include_str!("../../../charts/batchyard/templates/rbac.yaml"),
        "---\n",
        include_str!("../../../charts/batchyard/templates/runner.yaml")
    );
    let mut is_other = false;
    let lines = chart.lines().filter(|line| {
        if line.contains("{{- else }}") {
            is_other = true;
        } else if line.contains("{{- end }}") {
            is_other = false;
        }
        !is_other
    });
    let lines = lines.map(|line| {
        line.replace("{{ .Values.operator.runner }}", RUNNER).replace("{{ $name }}", "batchyard")
    });
    lines.filter(|line| !line.contains("{{")).collect::<Vec<_>>().join("\n")
}

/// The rules of the chart's role of this kind and name.
fn rules(kind: &str, name: &str) -> Value {
    let chart = chart();
    let mut parts = chart.split("\n---\n").filter(|part| part.contains(&format!("\nkind: {kind}\n")));
    let part = parts.find(|part| part.contains(&format!("\n  name: {name}\n"))).expect("the chart has it");
    let rules = part.split("\nrules:\n").nth(1).expect("rules");
    serde_saphyr::from_str(rules).expect("YAML without templates")
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

/// A kubeconfig of the operator, which has the chart's roles; and the role for runners.
async fn restricted(user: &Client) -> Kubeconfig {
    let subjects = json!([{"kind": "ServiceAccount", "name": OPERATOR, "namespace": SYSTEM}]);
    let metadata = json!({"name": OPERATOR});
    let mut all = rules("ClusterRole", "batchyard-operator");
    let of_cluster = rules("ClusterRole", "batchyard-operator-cluster");
    all.as_array_mut().expect("a list").extend(of_cluster.as_array().expect("a list").iter().cloned());
    let role = json!({"metadata": metadata, "rules": all});
    apply(&Api::<ClusterRole>::all(user.clone()), &role).await;
    let role = json!({"metadata": {"name": ROLE}, "rules": rules("ClusterRole", ROLE)});
    apply(&Api::<ClusterRole>::all(user.clone()), &role).await;
    let binding =
        json!({"metadata": metadata, "roleRef": reference("ClusterRole", OPERATOR), "subjects": subjects});
    apply(&Api::<ClusterRoleBinding>::all(user.clone()), &binding).await;
    let role = json!({"metadata": metadata, "rules": rules("Role", "batchyard-operator")});
    apply(&Api::<Role>::namespaced(user.clone(), SYSTEM), &role).await;
    let binding = json!({"metadata": metadata, "roleRef": reference("Role", OPERATOR), "subjects": subjects});
    apply(&Api::<RoleBinding>::namespaced(user.clone(), SYSTEM), &binding).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(user.clone(), SYSTEM);
    apply(&accounts, &json!({"metadata": metadata})).await;
    let token =
        accounts.create_token_request(OPERATOR, &PostParams::default(), &TokenRequest::default()).await;
    let token = token.expect("a token").status.expect("the API server makes it").token;
    let mut config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    for named in &mut config.auth_infos {
        named.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
    }
    config
}

/// Makes the runner of a namespace.
async fn let_it_run(world: &World) {
    apply(&world.api::<ServiceAccount>(), &json!({"metadata": {"name": RUNNER}})).await;
    let subjects = json!([{"kind": "ServiceAccount", "name": RUNNER, "namespace": world.namespace}]);
    let binding = json!({"metadata": {"name": RUNNER}, "roleRef": reference("ClusterRole", ROLE),
        "subjects": subjects});
    apply(&world.api::<RoleBinding>(), &binding).await;
}

#[tokio::test]
async fn no_pod_in_a_namespace_whose_runner_has_no_role_and_else_one_in_its_name() {
    let _alone = operator::exclusive().await;
    let world = World::without_operator("sec-runner").await;
    install(&world.user).await;
    guard(&world).await;
    let config = serde_json::to_string(&restricted(&world.user).await).expect("plain data");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("runner.kubeconfig");
    fs::write(&path, config).expect("it can be written");
    let operator = Operator::start_at(&path, operator::NAME, "60", &["--runner", RUNNER]);
    operator.leads().await;
    world.furnish().await;
    let mark = audit::mark().expect("an audit log");
    let job = world.submit("a", job(json!({}))).await;
    let record = job.waits(Phase::Runnable, "Waiting for a right: ").await;
    let text = record.status_reason.unwrap_or_default();
    let says = format!("ServiceAccount {RUNNER} makes the pods of namespace {}", world.namespace);
    assert!(
        text.contains(&says) && text.contains(&format!("a RoleBinding there to ClusterRole {ROLE}")),
        "{text}"
    );
    assert_eq!(record.waiting.map(|waiting| waiting.kind), Some(Kind::Right));
    assert!(record.attempts.is_empty() && record.placements.is_empty());
    assert!(world.pods().await.is_empty(), "no pod is made");
    let_it_run(&world).await;
    assert_eq!(job.run(0).await.phase(), Phase::Succeeded, "it goes on by itself");
    let lines = mark.text();
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_create = |event: &Value| {
        let object = &event["objectRef"];
        event["verb"] == "create"
            && object["resource"] == "pods"
            && object["subresource"].is_null()
            && object["namespace"] == world.namespace.as_str()
    };
    let creates: Vec<Value> = events.filter(is_create).collect();
    assert!(creates.iter().any(|event| event["responseStatus"]["code"] == 201), "{creates:?}");
    for event in &creates {
        assert_eq!(event["user"]["username"], format!("system:serviceaccount:{SYSTEM}:{OPERATOR}"));
        let runner = format!("system:serviceaccount:{}:{RUNNER}", world.namespace);
        assert_eq!(event["impersonatedUser"]["username"], runner);
    }
    operator.stop().await;
}

#[tokio::test]
async fn no_pod_by_an_operator_that_has_a_runner_nor_in_the_name_of_another_account() {
    let world = tenancy("sec-runner-only").await;
    let config = restricted(&world.user).await;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let config = config.expect("a usable kubeconfig");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "busybox"}]}}))
    .expect("a pod");
    let creates = async |account: Option<&str>| {
        let mut config = config.clone();
        config.auth_info.impersonate =
            account.map(|account| format!("system:serviceaccount:{}:{account}", world.namespace));
        let client = Client::try_from(config).expect("a client");
        let params = PostParams { dry_run: true, ..PostParams::default() };
        Api::<Pod>::namespaced(client, &world.namespace).create(&params, &pod).await
    };
    let_it_run(&world).await;
    wait::answer("the rights of the runner to be known", RUNNER, || async {
        creates(Some(RUNNER)).await.map_err(|error| matches!(error, Error::Api(_))).ok()
    })
    .await;
    no_role(creates(None).await, "create resource \"pods\"");
    no_role(creates(Some("default")).await, "impersonate resource \"serviceaccounts\"");
}

/// The right to reserved names on pods is none to those on jobs, such as who submitted them.
#[tokio::test]
async fn no_reserved_name_on_a_job_by_a_runner() {
    let world = tenancy("sec-runner-names").await;
    let mut rights = rules("ClusterRole", ROLE);
    let makes = json!([
        {"apiGroups": ["batchyard.io"], "resources": ["batchjobs"], "verbs": ["create"]},
        {"apiGroups": ["batchyard.io"], "resources": ["jobqueues"], "verbs": ["submit"]},
    ]);
    rights.as_array_mut().expect("a list").extend(makes.as_array().expect("a list").iter().cloned());
    let runner = person(&world, "runner", &[], rights).await;
    let named = |spec: Value| json!({"metadata": {"name": "a", "annotations": {"batchyard.io/submitter": "{}"}}, "spec": spec});
    let says = ["verb \"set\"", "resource \"reservednames\"", "resourceName \"batchjobs\""];
    refused(runner.creates("BatchJob", named(job(json!({})))).await, "reserved", &says);
    let pod = named(json!({"containers": [{"name": "a", "image": "busybox"}]}));
    runner.creates("Pod", pod).await.expect("what is granted works");
}
