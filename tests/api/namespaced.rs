//! Programs that work for some namespaces only, with the roles that the chart then gives them: ClusterRoles bound by
//! RoleBindings, so that the API server refuses them anything elsewhere.

use std::path::Path;

use batchyard::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue, NotificationRule};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::gateway::door::{Door, caller, everything, known};
use crate::operator::world::{World, container, job};
use crate::support::client::{SYSTEM, TEST_LABEL, apply};
use crate::support::nodes::POOL;
use crate::support::notifier::{Notifier, alone};
use crate::support::operator::{self, Operator};
use crate::support::receiver::Receiver;
use crate::support::roles::Servant;
use crate::support::{audit, wait};

/// Starts an operator for some namespaces only.
async fn start(world: &World, namespaces: &[&str], pods_elsewhere: bool) -> Operator {
    let kubeconfig = Servant::Operator.limited_to(&world.user, namespaces, pods_elsewhere).await;
    let sees = pods_elsewhere.to_string();
    start_at(&kubeconfig, namespaces, &["--watch-pods-elsewhere", &sees]).await
}

/// The same with the roles of whoever has this kubeconfig.
async fn start_at(kubeconfig: &Path, namespaces: &[&str], more: &[&str]) -> Operator {
    let listed = namespaces.join(",");
    let told = [&["--watch-namespace", &listed], more].concat();
    let operator = Operator::start_at(kubeconfig, operator::NAME, "60", &told);
    operator.leads().await;
    operator
}

/// Makes what a job needs, and runs one.
async fn runs_a_job(world: &World) {
    world.furnish().await;
    assert_eq!(world.submit("a", job(json!({}))).await.run(0).await.phase(), Phase::Succeeded);
}

/// What the API server refused to a program since then, as it works for some namespaces only.
fn refused(mark: &audit::Mark, servant: Servant) -> Vec<String> {
    let user = format!("{}-limited", servant.user());
    let text = mark.text();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_refused = |event: &Value| {
        event["impersonatedUser"]["username"] == user.as_str()
            && event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    };
    events.filter(is_refused).map(|event| format!("{} {}", event["verb"], event["requestURI"])).collect()
}

/// What the operator wrote, or tried to, in a namespace.
fn wrote(mark: &audit::Mark, namespace: &str) -> Vec<audit::Write> {
    let writes = mark.writes(namespace).into_iter();
    writes.filter(|write| write.user.starts_with(Servant::Operator.user())).collect()
}

/// A node, an environment and a queue, without waiting for anybody to look at them.
async fn equip(world: &World) {
    world.node("node", "pool", 4).await;
    world.environment("pool", json!({})).await;
    world.queue("queue", json!({})).await;
    world.definition("definition", json!({})).await;
}

/// An environment that is named after no namespace, with the nodes of a namespace's pool.
async fn shared_environment(world: &World) -> String {
    let name = format!("{}-shared", world.namespace);
    let spec = json!({"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": 64},
        "provisioner": {"static": {"nodeSelector": {POOL: format!("{}-pool", world.namespace)}}}});
    let object = json!({"metadata": {"name": name, "labels": {TEST_LABEL: "true"}}, "spec": spec});
    apply(&world.environments(), &object).await;
    name
}

/// Nobody has looked at an environment.
async fn is_untouched(world: &World, name: &str) {
    let environment = world.environments().get(name).await.expect("the environment");
    assert_eq!((environment.finalizers(), environment.status.is_none()), (&[][..], true), "{environment:?}");
}

#[tokio::test]
async fn an_operator_of_one_namespace_runs_its_jobs_and_touches_nothing_else() {
    let _alone = operator::exclusive().await;
    let served = World::without_operator("some").await;
    let other = World::without_operator("some-other").await;
    let mark = audit::mark().expect("an audit log");
    let operator = start(&served, &[&served.namespace], false).await;
    equip(&other).await;
    let theirs = other.submit("a", job(json!({}))).await;
    let shared = shared_environment(&served).await;
    served.furnish().await;
    served.definition("definition", json!({})).await;
    let order = json!({"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": shared}]});
    served.queue("of-all", order).await;
    let waits = served.submit("waits", job(json!({"jobQueue": "of-all"}))).await;
    waits.waits(Phase::Runnable, "none of them exists").await;
    let why = format!(
        "{shared} does not exist among those that are named after the namespaces that this operator serves"
    );
    let is_told = |queue: &JobQueue| {
        let status = queue.status.as_ref().and_then(|status| status.status_reason.as_deref());
        status.is_some_and(|reason| reason.ends_with(&why))
    };
    wait::until(&served.api::<JobQueue>(), "of-all", "a word on its environment", is_told).await;
    let named = json!({"containerProperties": null, "jobDefinition": "definition"});
    let ours = served.submit("a", job(named)).await;
    assert_eq!(ours.run(0).await.phase(), Phase::Succeeded);
    served.settle().await;

    assert!(theirs.get().await.status.is_none() && other.pods().await.is_empty());
    let queue = other.api::<JobQueue>().get("queue").await.expect("the queue");
    assert_eq!((queue.finalizers(), queue.status.is_none()), (&[][..], true), "{queue:?}");
    let definition = other.api::<JobDefinition>().get("definition").await.expect("the definition");
    assert!(definition.status.is_none(), "{definition:?}");
    is_untouched(&other, &other.environment_name("pool")).await;
    is_untouched(&other, &shared).await;
    assert_eq!(wrote(&mark, &other.namespace), []);
    assert!(!wrote(&mark, &served.namespace).is_empty(), "the audit log shows what it does");
    assert_eq!(refused(&mark, Servant::Operator), [""; 0]);
    operator.stop().await;
    remove(&served, &shared).await;
}

async fn remove(world: &World, environment: &str) {
    world.environments().delete(environment, &DeleteParams::default()).await.expect("it can be deleted");
}

/// Placeholders are in the operator's own namespace, of whose pods it needs to know, too.
#[tokio::test]
async fn an_operator_of_one_namespace_has_its_placeholders_in_its_own() {
    let _alone = operator::exclusive().await;
    let served = World::without_operator("some-min").await;
    let mark = audit::mark().expect("an audit log");
    let operator = start(&served, &[&served.namespace], false).await;
    let class =
        json!({"metadata": {"name": "batchyard-placeholder"}, "value": -5, "preemptionPolicy": "Never"});
    apply(&Api::<PriorityClass>::all(served.user.clone()), &class).await;
    let autoscaled = json!({"static": {"autoscaled": true}});
    let keeps = |vcpus| json!({"provisioner": autoscaled, "computeResources": {"minvCpus": vcpus}});
    served.environment("pool", keeps(2)).await;
    let system: Api<Pod> = Api::namespaced(served.user.clone(), SYSTEM);
    let of = |pod: &Pod| {
        pod.annotations().values().any(|value| *value == served.environment_name("pool"))
            && pod.metadata.deletion_timestamp.is_none()
    };
    let placeholders = async || {
        let pods = system.list(&Default::default()).await.expect("pods can be listed").items;
        pods.into_iter().filter(of).count()
    };
    wait::answer("a placeholder", &served.namespace, || async { (placeholders().await > 0).then_some(()) })
        .await;
    // Of an environment that goes Kubernetes' own garbage collector takes them; these only an operator that sees them.
    served.environment("pool", keeps(0)).await;
    wait::answer("no placeholder", &served.namespace, || async { (placeholders().await == 0).then_some(()) })
        .await;
    remove(&served, &served.environment_name("pool")).await;
    wait::gone(&served.environments(), &served.environment_name("pool")).await;
    assert_eq!(refused(&mark, Servant::Operator), [""; 0]);
    operator.stop().await;
}

/// A pod of another namespace that takes all of the node.
async fn occupant(other: &World, node: &str) -> Pod {
    let requests = json!({"requests": {"cpu": "4"}});
    let pod = json!({"metadata": {"name": "occupant"}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox", "resources": requests}]}});
    apply(&other.api::<Pod>(), &pod).await
}

/// Of room that such a pod takes only an operator knows that sees it; else the scheduler finds no node.
#[tokio::test]
async fn room_that_pods_elsewhere_take_is_seen_where_that_is_wanted() {
    let _alone = operator::exclusive().await;
    for sees in [false, true] {
        let served = World::without_operator("some-room").await;
        let other = World::without_operator("some-room-other").await;
        let mark = audit::mark().expect("an audit log");
        let operator = start(&served, &[&served.namespace], sees).await;
        served.furnish().await;
        occupant(&other, &format!("{}-node", served.namespace)).await;
        if sees {
            let job = served.submit("a", job(json!({}))).await;
            job.waits(Phase::Runnable, "Waiting for vCPUs in ComputeEnvironment").await;
            assert!(served.pods().await.is_empty());
            let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            other.api::<Pod>().delete("occupant", &at_once).await.expect("it can be deleted");
            assert_eq!(job.run(0).await.phase(), Phase::Succeeded);
        } else {
            let job = served.submit("a", job(json!({}))).await;
            let pod = job.pod(1).await;
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu.",
                "lastTransitionTime": jiff::Timestamp::now()});
            let status = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            let pods: Api<Pod> = Api::namespaced(served.scheduler.clone(), &served.namespace);
            pods.patch_status(&pod.name, &PatchParams::default(), &status).await.expect("a condition");
            job.waits(Phase::Runnable, "Waiting for a node: 0/1 nodes are available: 1 Insufficient cpu.")
                .await;
            // It keeps its pod and its place, and goes on once the scheduler binds it.
            assert_eq!(job.run(0).await.phase(), Phase::Succeeded);
        }
        assert_eq!(refused(&mark, Servant::Operator), [""; 0]);
        operator.stop().await;
    }
}

/// Its RoleBindings go with it, so that the API server refuses to list what is in it.
#[tokio::test]
async fn a_namespace_that_is_gone_holds_up_no_other_and_may_come_back() {
    let _alone = operator::exclusive().await;
    let served = World::without_operator("some-left").await;
    let gone = World::without_operator("some-gone").await;
    let listed = [served.namespace.as_str(), gone.namespace.as_str()];
    let kubeconfig = Servant::Operator.limited_to(&served.user, &listed, false).await;
    let namespaces: Api<Namespace> = Api::all(served.user.clone());
    namespaces.delete(&gone.namespace, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&namespaces, &gone.namespace).await;
    let operator = start_at(&kubeconfig, &listed, &[]).await;
    runs_a_job(&served).await;
    apply(&namespaces, &json!({"metadata": {"name": gone.namespace, "labels": {TEST_LABEL: "true"}}})).await;
    Servant::Operator.let_into(&served.user, &gone.namespace).await;
    let accounts: Api<ServiceAccount> = gone.api();
    wait::until(&accounts, "default", "the namespace's service account", |_| true).await;
    runs_a_job(&gone).await;
    operator.stop().await;
}

/// Something holds it, and the operator has no right in it any more: the others do not wait for it, not even when an
/// operator starts. What docs/install.md says lets it finish.
#[tokio::test]
async fn a_namespace_that_hangs_holds_up_no_other_and_can_be_finished() {
    let _alone = operator::exclusive().await;
    let served = World::without_operator("some-stay").await;
    let hangs = World::without_operator("some-hang").await;
    let listed = [served.namespace.as_str(), hangs.namespace.as_str()];
    let operator = start(&served, &listed, false).await;
    hangs.furnish().await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/held"]}});
    apply(&hangs.api::<ConfigMap>(), &held).await;
    operator.stop().await;
    let namespaces: Api<Namespace> = Api::all(served.user.clone());
    namespaces.delete(&hangs.namespace, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&hangs.api::<RoleBinding>(), "operator-limited").await;
    let kubeconfig = Servant::Operator.limited_to(&served.user, &[&served.namespace], false).await;
    let operator = start_at(&kubeconfig, &listed, &[]).await;
    runs_a_job(&served).await;

    let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let maps = hangs.api::<ConfigMap>();
    maps.patch("held", &PatchParams::default(), &let_go).await.expect("it can be let go");
    let queue = hangs.api::<JobQueue>().get("queue").await.expect("nobody may take its finalizer off");
    assert!(queue.metadata.deletion_timestamp.is_some() && !queue.finalizers().is_empty(), "{queue:?}");
    let group = "rbac.authorization.k8s.io";
    let finish = json!({"metadata": {"name": "test-finish"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "operator"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "operator-limited"}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(served.user.clone());
    apply(&bindings, &finish).await;
    wait::gone(&namespaces, &hangs.namespace).await;
    bindings.delete("test-finish", &DeleteParams::default()).await.expect("it can be deleted");
    operator.stop().await;
}

/// As two releases of the chart are: each has its Lease in a namespace of its own. The second may do everything, so that
/// nothing but its own restraint keeps it out of the first one's namespace.
#[tokio::test]
async fn two_operators_side_by_side_leave_each_other_alone() {
    let _alone = operator::exclusive().await;
    let first = World::without_operator("some-first").await;
    let second = World::without_operator("some-second").await;
    let mark = audit::mark().expect("an audit log");
    let of_first = start(&first, &[&first.namespace], false).await;
    Servant::Operator.installed_in(&second.user, &second.namespace).await;
    let told = ["--namespace", &second.namespace, "--watch-namespace", &second.namespace];
    let of_second = Operator::start_at(&Servant::Operator.kubeconfig(), operator::NAME, "60", &told);
    of_second.leads().await;
    of_first.leads().await;
    tokio::join!(runs_a_job(&first), runs_a_job(&second));

    let orphan = first.submit("orphan", job(json!({}))).await;
    orphan.pod(1).await;
    of_first.kill();
    assert_eq!(second.submit("alone", job(json!({}))).await.run(0).await.phase(), Phase::Succeeded);
    let of_first = start(&first, &[&first.namespace], false).await;
    assert_eq!(orphan.run(0).await.phase(), Phase::Succeeded);

    for (world, user) in [(&first, "operator-limited"), (&second, "operator")] {
        world.settle().await;
        let mut users: Vec<String> =
            wrote(&mark, &world.namespace).into_iter().map(|write| write.user).collect();
        users.dedup();
        assert_eq!(users, [user], "in namespace {}", world.namespace);
    }
    assert_eq!(refused(&mark, Servant::Operator), [""; 0]);
    of_first.stop().await;
    of_second.stop().await;
}

#[tokio::test]
async fn a_gateway_of_one_namespace_refuses_callers_of_others_and_says_why() {
    let served = World::with_queue("some-door").await;
    let other = World::without_operator("some-door-other").await;
    other.furnish().await;
    let shared = shared_environment(&served).await;
    let mark = audit::mark().expect("an audit log");
    let kubeconfig = Servant::Gateway.limited_to(&served.user, &[&served.namespace], false).await;
    let door = Door::with(&kubeconfig, &["--watch-namespace", &served.namespace], "info").await;
    let ours = caller(&served.user, &served.namespace, "ours", everything()).await;
    let theirs = caller(&other.user, &other.namespace, "theirs", everything()).await;
    known(&door, &ours).await;
    let call = |key, operation: &str, body: Value| {
        door.call(key, "POST", &format!("/v1/{operation}"), &body.to_string())
    };
    let definition =
        json!({"jobDefinitionName": "d", "type": "container", "containerProperties": container()});
    let job = json!({"jobName": "j", "jobQueue": "queue", "jobDefinition": "d"});
    for (operation, body) in [("registerjobdefinition", definition.clone()), ("submitjob", job.clone())] {
        let answer = call(&ours, operation, body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The operator of all tests serves all namespaces.
    let jobs = served.api::<BatchJob>().list(&Default::default()).await.expect("jobs can be listed").items;
    assert_eq!(served.job(&jobs[0].name_any()).run(0).await.phase(), Phase::Succeeded);
    let listed = call(&ours, "describecomputeenvironments", json!({}));
    let named = |answer: &Value| -> Vec<String> {
        let all = answer["computeEnvironments"].as_array().expect("a list").iter();
        all.map(|one| one["computeEnvironmentName"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(named(&listed.body), ["pool"], "not {shared}, which is of the whole cluster");

    let says = format!("because this gateway does not serve namespace {}", other.namespace);
    wait::answer("the gateway to know of the key", &other.namespace, || {
        let answer = call(&theirs, "describejobs", json!({"jobs": []}));
        std::future::ready(answer.message().contains("does not serve").then_some(()))
    })
    .await;
    for (operation, body) in
        [("describejobs", json!({"jobs": []})), ("registerjobdefinition", definition), ("submitjob", job)]
    {
        let answer = call(&theirs, operation, body);
        assert_eq!((answer.status, answer.kind().as_str()), (403, "AccessDeniedException"), "{answer:?}");
        assert!(answer.message().ends_with(&says) && answer.message().contains("batch:"), "{answer:?}");
    }
    let answer = door.logs(&theirs, "DescribeLogGroups", &json!({}));
    assert_eq!(answer.kind(), "AccessDeniedException", "{answer:?}");
    assert!(answer.message().contains("logs:DescribeLogGroups"), "{answer:?}");
    let mut unknown = theirs.clone();
    unknown.secret = "a secret that is not its secret".into();
    let answer = call(&unknown, "describejobs", json!({"jobs": []}));
    assert_eq!(answer.kind(), "InvalidSignatureException", "who proves nothing learns nothing");
    assert_eq!(refused(&mark, Servant::Gateway), [""; 0]);
    remove(&served, &shared).await;
}

/// One of its namespaces is gone when it starts.
#[tokio::test]
async fn a_notifier_of_some_namespaces_follows_their_rules_alone() {
    let _alone = alone().await;
    let served = World::with_queue("some-told").await;
    let other = World::without_operator("some-untold").await;
    other.furnish().await;
    let gone = World::without_operator("some-told-gone").await;
    let namespaces: Api<Namespace> = Api::all(served.user.clone());
    let listed = [served.namespace.as_str(), gone.namespace.as_str()];
    let kubeconfig = Servant::Notifier.limited_to(&served.user, &listed, false).await;
    namespaces.delete(&gone.namespace, &DeleteParams::default()).await.expect("it can be deleted");
    wait::gone(&namespaces, &gone.namespace).await;
    let notifier = Notifier::start_told(&kubeconfig, "1", &["--watch-namespace", &listed.join(",")]).await;
    let receiver = Receiver::plain().await;
    for (world, path) in [(&other, "/other"), (&served, "/served")] {
        let spec = json!({"phases": ["SUCCEEDED"], "http": {"url": receiver.url(path)}});
        world.apply::<NotificationRule>("rule", spec).await;
    }
    let rules = served.api::<NotificationRule>();
    wait::until(&rules, "rule", "a look at it", |rule| rule.status.is_some()).await;
    for world in [&other, &served] {
        world.submit("a", job(json!({}))).await.run(0).await;
    }
    let received = receiver.until("the end of the job", |received| !received.is_empty()).await;
    assert_eq!(received.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/served"]);
    let rule = other.api::<NotificationRule>().get("rule").await.expect("the rule");
    assert!(rule.status.is_none(), "{rule:?}");
    notifier.stop().await;
}

/// What two operators share: neither writes what is the other's.
#[tokio::test]
async fn environments_go_with_their_namespaces() {
    let _alone = operator::exclusive().await;
    let served = World::without_operator("some-env").await;
    let other = World::without_operator("some-env-other").await;
    let operator = start(&served, &[&served.namespace], false).await;
    other.environment("pool", json!({})).await;
    served.environment("pool", json!({})).await;
    let look = |environment: &ComputeEnvironment| environment.status.is_some();
    wait::until(&served.environments(), &served.environment_name("pool"), "a look at it", look).await;
    is_untouched(&other, &other.environment_name("pool")).await;
    operator.stop().await;
}
