//! Where jobs stand in line, asked through the API server: who may ask, what is answered, and what happens
//! when another leads or nobody does.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use batchyard::crd::JobQueue;
use batchyard::crd::waiting_job::WaitingJob;
use batchyard_core::job::phase::Phase;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::cli::program::{batch, masked};
use crate::operator::world::{World, job};
use crate::support::client::{Actor, apply, connect, kubeconfig};
use crate::support::operator::{self, NAME, Operator};
use crate::support::wait;

const SYSTEM: &str = "batchyard-system";
const SERVICE: &str = "batchyard-view";
const API_SERVICE: &str = "v1alpha1.view.batchyard.io";

/// A kubeconfig of somebody who may do nothing that is not allowed by name.
async fn client_as(user: &str) -> Client {
    let mut config = config().await;
    config.auth_info.impersonate = Some(user.to_owned());
    Client::try_from(config).expect("a client")
}

async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("usable");
    config.default_retry = false;
    config
}

/// What the chart makes.
async fn install(user: &Client) {
    let service = json!({"metadata": {"name": SERVICE}, "spec": {"ports": [{"name": "view", "port": 443}]}});
    apply(&Api::<Service>::namespaced(user.clone(), SYSTEM), &service).await;
    let api_service = json!({"metadata": {"name": API_SERVICE}, "spec": {
        "group": "view.batchyard.io", "version": "v1alpha1", "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": {"namespace": SYSTEM, "name": SERVICE, "port": 443}}});
    apply(&Api::<APIService>::all(user.clone()), &api_service).await;
}

/// Without an operator it would keep namespaces from being deleted.
async fn uninstall(user: &Client) {
    let gone = DeleteParams::default();
    Api::<APIService>::all(user.clone()).delete(API_SERVICE, &gone).await.expect("it can be deleted");
    Api::<Service>::namespaced(user.clone(), SYSTEM).delete(SERVICE, &gone).await.expect("it can be deleted");
    wait::gone(&Api::<APIService>::all(user.clone()), API_SERVICE).await;
}

/// An operator that serves the view on an address that the API server can reach.
async fn leader(user: &Client) -> Operator {
    leader_told(user, &[]).await
}

/// The same with more arguments.
async fn leader_told(user: &Client, told: &[&str]) -> Operator {
    let host = config().await.cluster_url.host().expect("an address").to_owned();
    let address = format!("{host}:0");
    let more = [&["--view-service", SERVICE, "--view-address", &address], told].concat();
    let leader = Operator::start_at(&kubeconfig(), NAME, "60", &more);
    leader.leads().await;
    let services = Api::<APIService>::all(user.clone());
    wait::until(&services, API_SERVICE, "the API server to reach the leader", |service| {
        let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|c| c.type_ == "Available").any(|c| c.status == "True")
    })
    .await;
    leader
}

/// Asks for what is below the group's version.
async fn ask(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let path = format!("/apis/view.batchyard.io/v1alpha1/{path}");
    client.request(http::Request::get(path).body(Vec::new()).expect("a request")).await
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("not refused: {other:?}"),
    }
}

/// Runs a test with an operator of its own behind the view, and cleans up whatever comes of it.
async fn with_view<T>(test: impl Future<Output = T>) -> T {
    let _alone = operator::exclusive().await;
    let user = connect(Actor::User).await;
    install(&user).await;
    let outcome = AssertUnwindSafe(test).catch_unwind().await;
    uninstall(&user).await;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One job runs, `head` and `last` wait behind it, and `urgent` in a queue of higher priority.
async fn crowded(name: &str) -> World {
    let world = World::without_operator(name).await;
    world.furnish().await;
    let large = || job(json!({"containerProperties": {"vcpus": 3}}));
    let first = world.submit("first", large()).await;
    first.pod(1).await.bind().await;
    for name in ["head", "last"] {
        let job = world.submit(name, large()).await;
        job.reaches(Phase::Runnable).await;
        world.next_second(&job).await;
    }
    world.queue("urgent", json!({"priority": 9})).await;
    let urgent = json!({"jobQueue": "urgent", "containerProperties": {"vcpus": 4}});
    world.submit("urgent", job(urgent)).await.reaches(Phase::Runnable).await;
    world
}

#[tokio::test]
async fn of_a_namespace_that_it_does_not_serve_the_leader_says_so() {
    with_view(async {
        let user = connect(Actor::User).await;
        let (served, other) =
            (World::without_operator("view-some").await, World::without_operator("view-other").await);
        let before = leader(&user).await;
        for world in [&served, &other] {
            world.furnish().await;
            let large = job(json!({"containerProperties": {"vcpus": 8}}));
            world.submit("large", large).await.reaches(Phase::Runnable).await;
        }
        before.stop().await;
        let leader = leader_told(&user, &["--watch-namespace", &served.namespace]).await;
        for path in ["waitingjobs", "waitingjobs/large"] {
            let path = |world: &World| format!("namespaces/{}/{path}", world.namespace);
            // The API server learns of the new leader as others do.
            wait::answer("an answer", &served.namespace, || async { ask(&user, &path(&served)).await.ok() })
                .await;
            let (code, message) = refusal(ask(&user, &path(&other)).await);
            let says = format!("this operator does not serve namespace {}", other.namespace);
            assert!(code == 501 && message.contains(&says), "{code} {message}");
        }
        let why = batch(&other.namespace, &["why", "large"]).await.ok();
        assert!(why.contains("the operator behind the view does not serve this namespace"), "{why}");
        leader.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_leader_tells_where_jobs_stand() {
    with_view(async {
        let user = connect(Actor::User).await;
        let leader = leader(&user).await;
        let world = crowded("view").await;
        let n = world.namespace.as_str();
        let why = masked(&batch(n, &["why", "last"]).await.ok(), n);
        let told = "  It is number 2 in line; 1 job of another queue on the same environments comes first\n  \
                    Before it: head\n  Waiting behind the head of JobQueue queue, for AGE\n";
        assert!(why.contains(told), "{told:?} is not in\n{why}");

        let mut kubectl = std::process::Command::new("kubectl");
        kubectl.args(["get", "waitingjobs", "-n", n]).env("KUBECONFIG", kubeconfig());
        let table =
            String::from_utf8(kubectl.output().expect("kubectl is on the PATH").stdout).expect("text");
        let table = masked(&table, n);
        assert_eq!(
            table,
            "NAME QUEUE POSITION WAITS FOR SINCE\n\
             head queue 1 Waiting for vCPUs in ComputeEnvironment NAMESPACE.pool TIME\n\
             last queue 2 Waiting behind the head of JobQueue queue TIME\n\
             urgent urgent 1 Waiting for vCPUs in ComputeEnvironment NAMESPACE.pool TIME\n"
        );

        // By pages, each from where the one before ended.
        let jobs = format!("namespaces/{n}/waitingjobs");
        let page = ask(&user, &format!("{jobs}?limit=2")).await.expect("a page");
        let names = |page: &Value| {
            let items: Vec<WaitingJob> = serde_json::from_value(page["items"].clone()).expect("waiting jobs");
            items.into_iter().filter_map(|item| item.metadata.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&page), ["head", "last"]);
        assert_eq!(page["metadata"]["remainingItemCount"], 1);
        let token: String = page["metadata"]["continue"]
            .as_str()
            .expect("there is more")
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let rest = ask(&user, &format!("{jobs}?limit=2&continue={token}")).await.expect("the rest");
        assert_eq!((names(&rest), rest["metadata"].get("continue")), (vec!["urgent".to_owned()], None));
        let of_queue = ask(&user, &format!("{jobs}?fieldSelector=status.jobQueue%3Durgent")).await;
        assert_eq!(names(&of_queue.expect("a list")), ["urgent"]);

        // A job that has its pod, and what is not understood.
        let (code, text) = refusal(ask(&user, &format!("{jobs}/first")).await);
        assert!(code == 404 && text.contains("no job of this name waits"), "{code} {text}");
        for (query, says) in [
            ("watch=true", "watched"),
            ("labelSelector=a", "labels"),
            ("fieldSelector=a%3Db", "a=b"),
            ("limit=x", "limit"),
        ] {
            let (code, text) = refusal(ask(&user, &format!("{jobs}?{query}")).await);
            assert!(code == 400 && text.contains(says), "{query}: {code} {text}");
        }
        leader.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_who_may_is_told_and_only_by_way_of_the_api_server() {
    with_view(async {
        let user = connect(Actor::User).await;
        let leader = leader(&user).await;
        let world = crowded("view-rights").await;
        let n = world.namespace.as_str();
        let rule =
            json!({"apiGroups": ["view.batchyard.io"], "resources": ["waitingjobs"], "verbs": ["list"]});
        apply(&world.api::<Role>(), &json!({"metadata": {"name": "lists"}, "rules": [rule]})).await;
        let binding = json!({"metadata": {"name": "lists"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lists"},
            "subjects": [{"kind": "User", "name": "lister", "apiGroup": "rbac.authorization.k8s.io"}]});
        apply(&world.api::<RoleBinding>(), &binding).await;
        let lister = client_as("lister").await;
        let (list, one) = (format!("namespaces/{n}/waitingjobs"), format!("namespaces/{n}/waitingjobs/head"));
        wait::answer("the right to list", n, || async { ask(&lister, &list).await.ok() }).await;
        for refused in [ask(&lister, &one).await, ask(&lister, "waitingjobs").await] {
            let (code, text) = refusal(refused);
            assert!(code == 403 && text.contains("lister"), "{code} {text}");
        }
        assert_eq!(refusal(ask(&client_as("stranger").await, &list).await).0, 403);

        // Straight to the leader: without a certificate, and with one that is good for the API server only.
        let slices = Api::<EndpointSlice>::namespaced(user.clone(), SYSTEM);
        let slice = slices.get(SERVICE).await.expect("the leader's address");
        let port = slice.ports.iter().flatten().find_map(|port| port.port).expect("a port");
        let host = &slice.endpoints[0].addresses[0];
        let url: http::Uri = format!("https://{host}:{port}").parse().expect("an address");
        let mut stranger = Config::new(url.clone());
        stranger.accept_invalid_certs = true;
        let mut admin = config().await;
        admin.cluster_url = url;
        admin.accept_invalid_certs = true;
        for direct in [stranger, admin] {
            let direct = Client::try_from(direct).expect("a client");
            let mut request = http::Request::get("/apis/view.batchyard.io/v1alpha1/waitingjobs");
            request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
            let answer = direct.request::<Value>(request.body(Vec::new()).expect("a request")).await;
            assert!(matches!(answer, Err(ref error) if !matches!(error, kube::Error::Api(_))), "{answer:?}");
        }
        leader.stop().await;
    })
    .await;
}

#[tokio::test]
async fn another_leader_is_found_and_without_one_the_objects_tell() {
    with_view(async {
        let user = connect(Actor::User).await;
        let first = leader(&user).await;
        let world = crowded("view-leaders").await;
        let n = world.namespace.as_str();
        wait::until(&world.api::<JobQueue>(), "queue", "both at its front", |queue| {
            queue.status.as_ref().is_some_and(|status| status.front.len() == 2)
        })
        .await;
        first.kill();
        let told = masked(&batch(n, &["why", "last"]).await.ok(), n);
        let part = "  It was number 2 in line, AGE ago\n  (told by the queue's status: the operator does not answer)\n";
        assert!(told.contains(part), "{part:?} is not in\n{told}");
        // It has another port and another certificate.
        let second = leader(&user).await;
        wait::answer("an answer of the new leader", n, || async {
            let why = batch(n, &["why", "last"]).await.ok();
            why.contains("It is number 2 in line").then_some(())
        })
        .await;
        second.stop().await;
    })
    .await;
}
