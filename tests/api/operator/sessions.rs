//! Interactive sessions: when their URL is told, what is made for them, and that nothing of it outlives them.

use batchyard::crd::{BatchJob, JobDefinition};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::RetryAction;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::kubelet::PodHandle;
use super::world::{JobHandle, World, job};
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// A job that is a session at this address.
fn session(address: Value, more: Value) -> Value {
    let mut all = json!({"port": 8443, "credentialsSecret": "run-dcv-in-batch", "address": address});
    super::world::merge(&mut all, more);
    job(json!({"session": all}))
}

/// `status.session` of a job and the condition SessionReady, as `reason: message`.
fn told(job: &BatchJob) -> (Value, String) {
    let job = serde_json::to_value(job).expect("plain data");
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.iter().find(|condition| condition["type"] == "SessionReady");
    let text = |name: &str| condition.and_then(|c| c[name].as_str()).unwrap_or_default().to_owned();
    (job["status"]["session"].clone(), format!("{}: {}", text("reason"), text("message")))
}

async fn says(job: &JobHandle<'_>, what: &str) -> Value {
    let api = job.world.api::<BatchJob>();
    let found = wait::until(&api, &job.name, what, |job| told(job).1.starts_with(what)).await;
    told(&found).0
}

/// The job's pod is bound and its container runs; the probes say this.
async fn runs<'w>(job: &JobHandle<'w>, started: bool, ready: bool) -> PodHandle<'w> {
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.has_address("10.1.0.7").await;
    pod.probes_say(started, ready).await;
    job.reaches(Phase::Running).await;
    PodHandle { world: job.world, name: pod.name }
}

async fn node_has(world: &World, addresses: Value) {
    let nodes: Api<Node> = Api::all(world.kubelet.clone());
    let patch = Patch::Strategic(json!({"status": {"addresses": addresses}}));
    let name = format!("{}-node", world.namespace);
    nodes.patch_status(&name, &PatchParams::default(), &patch).await.expect("a node's status");
}

#[tokio::test]
async fn a_sessions_url_is_told_while_its_probe_passes() {
    let world = World::with_queue("session").await;
    node_has(&world, json!([{"type": "InternalIP", "address": "10.0.0.1"}])).await;
    let job = world.submit("job", session(json!({}), json!({"path": "/vnc.html"}))).await;
    let pod = runs(&job, true, false).await;
    let status = says(&job, "Starting").await;
    assert_eq!(status, json!({"ready": false, "credentialsSecret": "run-dcv-in-batch"}));
    pod.probes_say(true, true).await;
    let status = says(&job, "Ready").await;
    assert_eq!(status["url"], "https://10.0.0.1:8443/vnc.html");
    assert_eq!(status["ready"], true);
    let spec = serde_json::to_value(pod.get().await.spec).expect("plain data");
    let ports = json!([{"name": "session", "containerPort": 8443, "hostPort": 8443, "protocol": "TCP"}]);
    assert_eq!(spec["containers"][0]["ports"], ports);
    let events: Api<Event> = world.api();
    let told = wait::answer("the Event SessionReady", &world.namespace, || async {
        let events = events.list(&ListParams::default()).await.ok()?.items;
        events.into_iter().find(|event| event.reason.as_deref() == Some("SessionReady"))
    })
    .await;
    let note = told.note.unwrap_or_default();
    assert_eq!(note, "The session of attempt 1 is ready at https://10.0.0.1:8443/vnc.html");
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    let status = says(&job, "NotRunning").await;
    assert_eq!((&status["url"], &status["ready"]), (&Value::Null, &json!(false)));
    assert_ne!(status["readyAt"], Value::Null, "when it was ready stays");
}

#[tokio::test]
async fn an_order_takes_the_url_back_before_the_pod_goes() {
    let world = World::with_queue("session-end").await;
    let job = world.submit("job", session(json!({"type": "PodIP"}), json!({}))).await;
    let pod = runs(&job, true, true).await;
    assert_eq!(says(&job, "Ready").await["url"], "https://10.1.0.7:8443/");
    job.edit(json!({"terminate": "enough"})).await;
    let status = says(&job, "NotRunning").await;
    assert_eq!(status["url"], Value::Null);
    assert!(!job.record().await.phase().is_terminal(), "the pod still ends");
    pod.exits(143).await;
    job.reaches(Phase::Failed).await;
}

/// `session` with an idle probe.
fn with_idle_probe(address: Value) -> Value {
    let probe = json!({"exec": {"command": ["connected"]}});
    session(address, json!({"idleTimeoutSeconds": 60, "idleProbe": probe}))
}

/// The status says that the session was ready, or that nobody was connected, since an hour ago.
async fn since_an_hour(job: &JobHandle<'_>, members: &[&str]) {
    let long_ago = Timestamp::now() - SignedDuration::from_secs(3600);
    let times: Value = members.iter().map(|member| ((*member).to_owned(), json!(long_ago))).collect();
    let patch = Patch::Merge(json!({"status": {"session": times}}));
    let api = job.world.api::<BatchJob>();
    api.patch_status(&job.name, &PatchParams::default(), &patch).await.expect("a status can be written");
}

/// Waits until the status says since when nobody is connected, or that somebody is.
async fn is_idle(job: &JobHandle<'_>, idle: bool) -> Timestamp {
    let since = |job: &BatchJob| job.status.as_ref()?.session.as_ref()?.idle_since;
    let what = if idle { "nobody to be connected" } else { "somebody to be connected" };
    let api = job.world.api::<BatchJob>();
    let found = wait::until(&api, &job.name, what, |job| since(job).is_some() == idle).await;
    assert_eq!(found.status.as_ref().and_then(|status| status.record.intent.as_ref()), None, "it goes on");
    since(&found).unwrap_or_default()
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_and_is_not_retried() {
    let world = World::with_queue("session-idle").await;
    let mut spec = with_idle_probe(json!({"type": "PodIP"}));
    spec["retryStrategy"] = json!({"attempts": 3});
    let job = world.submit("job", spec).await;
    let pod = runs(&job, false, false).await;
    says(&job, "Starting").await;
    pod.probes_say(true, true).await;
    says(&job, "Ready").await;
    // Whatever was before: somebody is connected.
    since_an_hour(&job, &["readyAt", "idleSince"]).await;
    is_idle(&job, false).await;
    world.settle().await;
    assert_eq!(job.record().await.intent, None, "it goes on while somebody is connected");
    let before = Timestamp::now();
    pod.probes_say(true, false).await;
    assert!(is_idle(&job, true).await >= before, "the last one left just now");
    since_an_hour(&job, &["idleSince"]).await;
    job.until("an order to end", |record| record.intent.is_some()).await;
    pod.exits(0).await;
    let record = job.reaches(Phase::Failed).await;
    let why = "Session idle: nobody was connected for 60 seconds";
    assert_eq!(record.status_reason.as_deref(), Some(why));
    let decision = record.attempts[0].decision.clone().expect("a decision");
    assert_eq!((record.attempts.len(), decision.action), (1, RetryAction::Exit));
    assert_eq!(decision.rule, "idle: never retried");
}

/// A helper that has ended keeps the pod from being ready as a whole, whoever is connected.
#[tokio::test]
async fn a_helper_that_has_ended_says_nothing_about_who_is_connected() {
    let world = World::with_queue("session-helper").await;
    let container = |name: &str, essential: bool| {
        json!({"name": name, "image": "busybox", "essential": essential, "resourceRequirements":
            [{"type": "VCPU", "value": "0.5"}, {"type": "MEMORY", "value": "64"}]})
    };
    let containers = [container("desktop", true), container("fetch", false)];
    let mut spec = with_idle_probe(json!({"type": "PodIP"}));
    super::world::merge(
        &mut spec,
        json!({"containerProperties": null, "ecsProperties": {"taskProperties": [{"containers": containers}]}}),
    );
    let job = world.submit("job", spec).await;
    let pod = job.pod(1).await;
    pod.bind().await;
    pod.has_address("10.1.0.7").await;
    let both = ["desktop", "fetch"];
    pod.probes_say_of(&both, true, true).await;
    says(&job, "Ready").await;
    since_an_hour(&job, &["readyAt"]).await;
    for _ in 0..2 {
        let before = Timestamp::now();
        pod.probes_say_of(&both, true, false).await;
        assert!(is_idle(&job, true).await >= before, "nobody is connected from now on");
        pod.probes_say_of(&both, true, true).await;
        is_idle(&job, false).await;
    }
    world.settle().await;
    assert_eq!(job.record().await.intent, None, "it goes on");
}

#[tokio::test]
async fn two_sessions_never_share_a_node() {
    let world = World::with_queue("session-port").await;
    let first = world.submit("first", session(json!({}), json!({}))).await;
    let pod = runs(&first, true, true).await;
    let second = world.submit("second", session(json!({}), json!({}))).await;
    second.waits(Phase::Runnable, "Waiting for port 8443 of a node").await;
    world.node("node-2", "pool", 4).await;
    let placed = second.pod(1).await;
    placed.bind_to(&format!("{}-node-2", world.namespace)).await;
    pod.exits(0).await;
    first.reaches(Phase::Succeeded).await;
}

async fn objects(world: &World) -> (usize, usize) {
    let all = ListParams::default();
    let services = world.api::<Service>().list(&all).await.expect("a list").items.len();
    let ingresses = world.api::<Ingress>().list(&all).await.expect("a list").items.len();
    (services, ingresses)
}

#[tokio::test]
async fn a_service_leads_to_a_session_and_goes_with_its_attempt() {
    let world = World::with_queue("session-service").await;
    world.changed_environment("pool", json!({"sessions": {"objects": ["Service"]}})).await;
    let address = json!({"type": "Service", "port": 443});
    let mut spec = session(address, json!({}));
    spec["retryStrategy"] = json!({"attempts": 2});
    let job = world.submit("job", spec).await;
    let pod = runs(&job, true, true).await;
    says(&job, "AddressMissing: The load balancer").await;
    let name = format!("session-{}", pod.get().await.uid().expect("a uid"));
    let services: Api<Service> = world.api();
    let service = services.get(&name).await.expect("it is made");
    assert_eq!(service.owner_references()[0].kind, "Pod");
    let balanced = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}));
    services.patch_status(&name, &PatchParams::default(), &balanced).await.expect("a load balancer's word");
    assert_eq!(says(&job, "Ready").await["url"], "https://192.0.2.7/");
    pod.exits(1).await;
    wait::gone(&services, &name).await;
    pod.is_released().await;
    let next = job.pod(2).await;
    next.bind().await;
    next.probes_say(true, true).await;
    says(&job, "AddressMissing: The load balancer").await;
    assert_eq!(objects(&world).await, (1, 0), "each attempt has its own");
    next.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    next.is_released().await;
    assert_eq!(objects(&world).await, (0, 0));
}

#[tokio::test]
async fn an_environment_says_what_is_made_for_sessions() {
    let world = World::with_queue("session-policy").await;
    let address = json!({"type": "Ingress", "host": "{jobName}.desk.example.com"});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    says(&job, "AddressMissing: sessions.objects of ComputeEnvironment").await;
    assert_eq!(objects(&world).await, (0, 0));
    let policy = json!({"sessions": {"objects": ["Ingress"], "hosts": ["*.desk.example.com"]}});
    world.changed_environment("pool", policy).await;
    assert_eq!(says(&job, "Ready").await["url"], "https://job.desk.example.com/");
    assert_eq!(objects(&world).await, (1, 1));
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
    assert_eq!(objects(&world).await, (0, 0));
}

/// No watch tells of what was made for a session: it is looked at now and then.
#[tokio::test]
async fn what_somebody_deletes_is_made_again() {
    let world = World::with_queue("session-deleted").await;
    let policy = json!({"sessions": {"objects": ["Ingress"], "hosts": ["*.{namespace}.example.com"]}});
    world.changed_environment("pool", policy).await;
    let address = json!({"type": "Ingress", "host": "desk.{namespace}.example.com"});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    says(&job, "Ready").await;
    let name = format!("session-{}", pod.get().await.uid().expect("a uid"));
    let (services, ingresses): (Api<Service>, Api<Ingress>) = (world.api(), world.api());
    let old = services.get(&name).await.expect("a Service").uid();
    services.delete(&name, &DeleteParams::default()).await.expect("somebody deletes it");
    ingresses.delete(&name, &DeleteParams::default()).await.expect("somebody deletes it");
    wait::until(&services, &name, "another Service", |service| service.uid() != old).await;
    wait::until(&ingresses, &name, "another Ingress", |_| true).await;
    says(&job, "Ready").await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
    assert_eq!(objects(&world).await, (0, 0));
}

#[tokio::test]
async fn what_an_environment_does_not_allow_any_more_goes() {
    let world = World::with_queue("session-revoked").await;
    world.changed_environment("pool", json!({"sessions": {"objects": ["Service"]}})).await;
    let address = json!({"type": "Service", "serviceType": "ClusterIP"});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    says(&job, "Ready").await;
    let name = format!("session-{}", pod.get().await.uid().expect("a uid"));
    let policy = json!({"sessions": {"objects": ["Service"], "serviceTypes": ["NodePort"]}});
    world.changed_environment("pool", policy).await;
    let status = says(&job, "AddressMissing: sessions.serviceTypes of ComputeEnvironment").await;
    assert_eq!(status["url"], Value::Null);
    wait::gone(&world.api::<Service>(), &name).await;
    world.changed_environment("pool", json!({"sessions": {"objects": ["Service"]}})).await;
    says(&job, "Ready").await;
    assert_eq!(objects(&world).await, (1, 0));
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
}

/// Nothing here collects garbage: the operator removes what it made.
#[tokio::test]
async fn with_its_job_goes_what_was_made_for_a_session() {
    let world = World::with_queue("session-orphan").await;
    world.changed_environment("pool", json!({"sessions": {"objects": ["Service"]}})).await;
    let address = json!({"type": "Service", "serviceType": "ClusterIP"});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    says(&job, "Ready").await;
    assert_eq!(objects(&world).await, (1, 0));
    world.api::<BatchJob>().delete("job", &DeleteParams::default()).await.expect("it can be deleted");
    pod.is_released().await;
    assert_eq!(objects(&world).await, (0, 0));
}

#[tokio::test]
async fn a_cluster_without_routes_says_so() {
    let world = World::with_queue("session-route").await;
    world
        .changed_environment(
            "pool",
            json!({"sessions": {"objects": ["Gateway"], "hosts": ["*.example.com"]}}),
        )
        .await;
    let address = json!({"type": "Gateway", "host": "a.example.com", "gateway": {"name": "g"}});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    says(&job, "AddressMissing: The cluster has no TLSRoute").await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
}

#[tokio::test]
async fn jobs_that_cannot_be_sessions_are_refused_by_name() {
    let world = World::with_queue("session-refused").await;
    let mut array = session(json!({}), json!({}));
    array["arrayProperties"] = json!({"size": 2});
    let refused = world.submit("array", array).await.reaches(Phase::Failed).await;
    let why = refused.status_reason.unwrap_or_default();
    assert!(why.contains("session: an array job cannot be an interactive session"), "{why}");
    world.definition("plain", json!({})).await;
    world.ready::<JobDefinition>("plain").await;
    let own = json!({"jobQueue": "queue", "jobDefinition": "plain", "session": {"port": 8443}});
    let refused = world.submit("own", own).await.reaches(Phase::Failed).await;
    let why = refused.status_reason.unwrap_or_default();
    assert!(why.contains("session.address: the job definition gives the job no port 8443"), "{why}");
}

/// The post's definition as it stands, but for the role, which needs a ServiceAccount.
#[tokio::test]
async fn the_posts_definition_runs_with_its_nodes_network() {
    let world = World::with_queue("session-post").await;
    world.node("large", "pool", 8).await;
    let mut dcv: Value = serde_json::from_str(include_str!("../posts/dcv-gpu-jd.json")).expect("JSON");
    super::world::merge(&mut dcv, json!({"containerProperties": {"jobRoleArn": null}}));
    world.apply::<JobDefinition>("dcv-gpu-jd", dcv).await;
    world.ready::<JobDefinition>("dcv-gpu-jd").await;
    // What the job says of its parameters decides nothing.
    let job = json!({"jobQueue": "queue", "jobDefinition": "dcv-gpu-jd", "parameters": {"command": "--network=none"}});
    let job = world.submit("job", job).await;
    let pod = job.pod(1).await;
    let spec = serde_json::to_value(pod.get().await.spec).expect("plain data");
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["dnsPolicy"], "ClusterFirstWithHostNet");
    let container = &spec["containers"][0];
    assert_eq!(
        (&container["securityContext"]["privileged"], &container["securityContext"]["runAsUser"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(container["env"][0], json!({"name": "DISPLAY", "value": "0"}));
    assert_eq!(container["args"], Value::Null);
    pod.bind_to(&format!("{}-large", world.namespace)).await;
    pod.starts().await;
    let other = world.submit("other", json!({"jobQueue": "queue", "jobDefinition": "dcv-gpu-jd"})).await;
    other.waits(Phase::Runnable, "Waiting for vCPUs").await;
    pod.exits(0).await;
    job.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn what_was_made_goes_also_when_the_operator_dies_in_between() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("session-crash").await;
    let first = Operator::start("first");
    first.leads().await;
    world.furnish().await;
    world.changed_environment("pool", json!({"sessions": {"objects": ["Service"]}})).await;
    let address = json!({"type": "Service", "serviceType": "ClusterIP"});
    let job = world.submit("job", session(address, json!({}))).await;
    let pod = runs(&job, true, true).await;
    let url = says(&job, "Ready").await["url"].clone();
    assert!(
        url.as_str().is_some_and(|url| url.ends_with(&format!(".{}.svc:8443/", world.namespace))),
        "{url}"
    );
    assert_eq!(objects(&world).await, (1, 0));
    first.kill();
    pod.exits(0).await;
    let second = Operator::start(operator::NAME);
    second.leads().await;
    job.reaches(Phase::Succeeded).await;
    pod.is_released().await;
    assert_eq!(objects(&world).await, (0, 0));
    second.stop().await;
}
