//! Secrets stay where their owners put them. A text of its own stands in every place where somebody may put a secret; jobs run,
//! fail, are told of and are asked for; then everything that anybody else can read is searched for each of them.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use batchyard::crd::{BatchJob, NotificationRule};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::gateway::door::{Door, SYSTEM, caller, everything, known};
use crate::operator::world::{World, job};
use crate::support::client::apply;
use crate::support::notifier::{Notifier, alone};
use crate::support::receiver::Receiver;
use crate::support::roles::Servant;
use crate::support::{audit, operator, program, wait};

/// A secret, and the only places where it may stand.
struct Canary {
    text: String,
    places: &'static [(&'static str, &'static str)],
    /// It is still in one of them in the end.
    stays: bool,
}

const IN_SECRET: &[(&str, &str)] = &[("Secret", "/data")];
const OF_JOB: &[(&str, &str)] = &[("BatchJob", "/spec"), ("Pod", "/spec")];
const OF_DEFINITION: &[(&str, &str)] =
    &[("JobDefinition", "/spec"), ("ControllerRevision", "/data"), ("Pod", "/spec")];
/// A token in plain text: the job says it, and the sidecar's Secret has it.
const OF_OPTION: &[(&str, &str)] = &[("BatchJob", "/spec"), ("Secret", "/data")];
/// What a container or a registry said, as the kubelet reports it.
const OF_KUBELET: &[(&str, &str)] = &[("Pod", "/status")];

/// Everything that is searched, with the group and version of its kind.
const KINDS: [(&str, &str, &str); 14] = [
    ("batchyard.io", "v1alpha1", "BatchJob"),
    ("batchyard.io", "v1alpha1", "BatchJobRecord"),
    ("batchyard.io", "v1alpha1", "JobDefinition"),
    ("batchyard.io", "v1alpha1", "JobQueue"),
    ("batchyard.io", "v1alpha1", "ConsumableResource"),
    ("batchyard.io", "v1alpha1", "NotificationRule"),
    ("batchyard.io", "v1alpha1", "ComputeEnvironment"),
    ("apps", "v1", "ControllerRevision"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("", "v1", "Event"),
    ("events.k8s.io", "v1", "Event"),
];

/// The secrets of a run.
struct Aviary {
    run: String,
    canaries: Vec<Canary>,
}

impl Aviary {
    /// A secret that nobody else has.
    fn plant(&mut self, what: &str, places: &'static [(&'static str, &'static str)]) -> String {
        let text = format!("canary-{what}-{}", self.run);
        self.adopt(text.clone(), places);
        text
    }

    fn adopt(&mut self, text: String, places: &'static [(&'static str, &'static str)]) {
        self.canaries.push(Canary { text, places, stays: !places.is_empty() });
    }

    /// One whose place goes before the end.
    fn plant_for_now(&mut self, what: &str, places: &'static [(&'static str, &'static str)]) -> String {
        let text = format!("canary-{what}-{}", self.run);
        self.canaries.push(Canary { text: text.clone(), places, stays: false });
        text
    }

    /// Where each of them is, apart from its places, in some text.
    fn heard(&self, whose: &str, text: &str) -> Vec<String> {
        let forms = |canary: &Canary| [canary.text.clone(), BASE64_STANDARD.encode(&canary.text)];
        let is_there = |canary: &&Canary| forms(canary).iter().any(|form| text.contains(form.as_str()));
        self.canaries.iter().filter(is_there).map(|canary| format!("{} in {whose}", canary.text)).collect()
    }

    /// Where each of them is in an object where it should not be; those that are where they should be are ticked off.
    fn seen(&self, kind: &str, object: &Value, ticked: &mut Vec<String>) -> Vec<String> {
        let mut leaves = Vec::new();
        collect(object, String::new(), &mut leaves);
        let mut found = Vec::new();
        for (path, text) in leaves {
            // In a Secret all is encoded.
            let decoded = BASE64_STANDARD.decode(&text).ok().filter(|_| kind == "Secret");
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text);
            for canary in &self.canaries {
                let forms = [canary.text.clone(), BASE64_STANDARD.encode(&canary.text)];
                if !forms.iter().any(|form| text.contains(form.as_str())) {
                    continue;
                }
                match canary.places.iter().any(|(of, begin)| *of == kind && path.starts_with(begin)) {
                    true => ticked.push(canary.text.clone()),
                    false => found.push(format!("{} at {path} of {kind} {object}", canary.text)),
                }
            }
        }
        found
    }
}

/// The texts of an object, names of members too, with the paths at which they stand.
fn collect(value: &Value, path: String, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves.push((path.clone(), name.clone()));
                collect(member, format!("{path}/{name}"), leaves);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| collect(item, format!("{path}/{at}"), leaves));
        }
        Value::String(text) => leaves.push((path, text.clone())),
        _ => {}
    }
}

async fn secret(world: &World, name: &str, content: Value) {
    apply(&world.api::<Secret>(), &json!({"metadata": {"name": name}, "stringData": content})).await;
}

/// Secrets in objects of that kind, which pods and rules name.
async fn hidden(world: &World, aviary: &mut Aviary, receiver: &Receiver) {
    let mut plant = |what: &str| aviary.plant(what, IN_SECRET);
    secret(world, "db", json!({"password": plant("variable")})).await;
    secret(world, "splunk", json!({"token": plant("secret-option")})).await;
    secret(
        world,
        "cloudwatch",
        json!({"AWS_ACCESS_KEY_ID": plant("key-id"), "AWS_SECRET_ACCESS_KEY": plant("key")}),
    )
    .await;
    secret(
        world,
        "hook",
        json!({"token": plant("header"), "url": format!("https://localhost:1/{}", plant("url"))}),
    )
    .await;
    secret(world, "mail", json!({"username": "batch", "password": plant("mail")})).await;
    let login = json!({"password": plant("registry"), "auth": plant("login")});
    let docker = json!({"auths": {"registry.example": login}}).to_string();
    let registry = json!({"metadata": {"name": "registry"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": docker}});
    apply(&world.api::<Secret>(), &registry).await;
    let header = json!([{"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}}]);
    for (name, http) in [
        ("well", json!({"url": receiver.url("/"), "caBundle": receiver.authority(), "headers": header})),
        ("dead", json!({"url": "https://localhost:1/", "headers": header})),
        ("secret-url", json!({"urlFrom": {"name": "hook", "key": "url"}})),
    ] {
        world.apply::<NotificationRule>(name, json!({"phases": ["FAILED", "SUCCEEDED"], "http": http})).await;
    }
    let smtp = json!({"host": "localhost", "port": 1, "tls": "STARTTLS", "from": "batch@example.org",
        "to": ["a@example.org"], "credentials": {"name": "mail"}});
    world.apply::<NotificationRule>("mail", json!({"phases": ["FAILED"], "smtp": smtp})).await;
}

/// A job that says all that a job can say, and what its definition says.
async fn says_all(world: &World, aviary: &mut Aviary) {
    let variable = json!([{"name": "A", "value": aviary.plant("of-definition", OF_DEFINITION)}]);
    world
        .definition("all", json!({"containerProperties": {"environment": variable, "command": ["Ref::x", "Ref::y"],
            "secrets": [{"name": "PASSWORD", "valueFrom": "db:password"}],
            "repositoryCredentials": {"credentialsParameter": "registry"},
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-region": "eu-west-1"}}},
            "parameters": {"y": aviary.plant("default", OF_DEFINITION)}}))
        .await;
    world.ready::<batchyard::crd::JobDefinition>("all").await;
    let variable = json!([{"name": "B", "value": aviary.plant("of-job", OF_JOB)}]);
    let all = json!({"containerProperties": null, "jobDefinition": "all", "containerOverrides": {"environment": variable},
        "parameters": {"x": aviary.plant("parameter", OF_JOB)}});
    world.submit("all", job(all)).await.run(0).await;
}

/// A job that fails in two ways, with words of others.
async fn fails(world: &World, aviary: &mut Aviary) {
    let options = json!({"splunk-url": "https://splunk.example:8088", "splunk-token": aviary.plant("option", OF_OPTION)});
    let command = json!(["login", aviary.plant("command", OF_JOB)]);
    let bad = json!({"retryStrategy": {"attempts": 3}, "containerProperties": {"command": command,
        "logConfiguration": {"logDriver": "splunk", "options": options}}});
    let bad = world.submit("bad", job(bad)).await;
    let first = bad.pod(1).await;
    first.bind().await;
    first.starts().await;
    bad.reaches(Phase::Running).await;
    let output = format!(
        "connecting\npassword={}\nAuthorization: Bearer {}\nhttps://me:{}@host/ failed\n",
        aviary.plant("output", OF_KUBELET),
        aviary.plant("bearer", OF_KUBELET),
        aviary.plant("user-of-url", OF_KUBELET),
    );
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": output,
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z", "containerID": "containerd://0"}});
    first.reports(json!({"phase": "Failed"}), &[("default", ended)], false).await;
    let second = bad.pod(2).await;
    second.bind().await;
    let pull = format!(
        "failed to apply default image tag: https://me:{}@registry.example/a?token={}: invalid reference format",
        aviary.plant_for_now("user-of-registry", OF_KUBELET),
        aviary.plant_for_now("query", OF_KUBELET),
    );
    second.waits("InvalidImageName", &pull).await;
    second.is_deleted().await;
    second.vanishes().await;
    let third = bad.pod(3).await;
    third.bind().await;
    third.starts().await;
    third.exits(2).await;
    bad.until("its end", |record| record.phase() == Phase::Failed).await;
    let by_name = json!({"containerProperties": {"logConfiguration": {"logDriver": "splunk",
        "options": {"splunk-url": "https://splunk.example:8088"},
        "secretOptions": [{"name": "splunk-token", "valueFrom": "splunk:token"}]}}});
    world.submit("by-name", job(by_name)).await.run(3).await;
}

/// Calls of somebody who has a key, and of somebody who has not.
async fn calls(world: &World, aviary: &mut Aviary, door: &Door) {
    let key = caller(&world.user, &world.namespace, "caller", everything()).await;
    aviary.adopt(key.secret.reveal().to_owned(), IN_SECRET);
    known(door, &key).await;
    let variable = json!([{"name": "C", "value": aviary.plant("of-call", OF_JOB)}]);
    let submit = json!({"jobName": "called", "jobQueue": "queue", "jobDefinition": "all",
        "containerOverrides": {"environment": variable}, "parameters": {"x": aviary.plant("of-call-too", OF_JOB)}});
    let made = door.call(&key, "POST", "/v1/submitjob", &submit.to_string());
    assert_eq!(made.status, 200, "{made:?}");
    let id = made.body["jobId"].as_str().expect("an id").to_owned();
    let asked = json!({"jobs": [id]}).to_string();
    assert_eq!(door.call(&key, "POST", "/v1/describejobs", &asked).status, 200);
    let refused = json!({"jobName": "refused", "jobQueue": "absent", "jobDefinition": "all",
        "containerOverrides": {"environment": [{"name": "D", "value": aviary.plant("refused", &[])}]}});
    assert_eq!(door.call(&key, "POST", "/v1/submitjob", &refused.to_string()).status, 400);
    let odd = json!({"jobName": "odd", "password": aviary.plant("unknown-member", &[])}).to_string();
    assert_eq!(door.call(&key, "POST", "/v1/submitjob", &odd).status, 400);
    let mut wrong = key.clone();
    wrong.secret = aviary.plant("wrong", &[]).as_str().into();
    assert_eq!(door.call(&wrong, "POST", "/v1/describejobs", &asked).status, 403);
}

/// All objects of the namespace and those that belong to it elsewhere.
async fn objects(world: &World) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let list = ListParams::default();
        let client = world.user.clone();
        let api: Api<DynamicObject> = match kind {
            "ComputeEnvironment" => Api::all_with(client, &resource),
            _ => Api::namespaced_with(client, &world.namespace, &resource),
        };
        let mut found = api.list(&list).await.unwrap_or_else(|e| panic!("{kind}: {e}")).items;
        if matches!(kind, "Secret" | "Event") {
            let api: Api<DynamicObject> = Api::namespaced_with(world.user.clone(), SYSTEM, &resource);
            found.extend(api.list(&list).await.unwrap_or_else(|e| panic!("{kind}: {e}")).items);
        }
        for mut object in found {
            // Who wrote which member; no values.
            object.managed_fields_mut().clear();
            all.push((kind, serde_json::to_value(&object).expect("plain data")));
        }
    }
    all
}

#[tokio::test]
async fn no_secret_is_told_to_anybody() {
    let _alone = alone().await;
    let world = World::with_queue("sec-canaries").await;
    let logging = json!({"awslogs": {"credentialsSecret": "cloudwatch", "region": "eu-west-1"}});
    world.changed_environment("pool", json!({"logging": logging})).await;
    Servant::Notifier.installed_in(&world.user, &world.namespace).await;
    let (mark, receiver) = (audit::mark(), Receiver::tls().await);
    let mut aviary = Aviary { run: world.namespace.clone(), canaries: Vec::new() };
    let (door, notifier) = (Door::open(&[]).await, Notifier::start().await);
    hidden(&world, &mut aviary, &receiver).await;
    says_all(&world, &mut aviary).await;
    fails(&world, &mut aviary).await;
    calls(&world, &mut aviary, &door).await;
    let received = receiver.until("what became of the jobs", |received| received.len() >= 3).await;
    for name in ["dead", "secret-url", "mail"] {
        wait::until(&world.api::<NotificationRule>(), name, "failures", |rule| {
            rule.status.as_ref().is_some_and(|status| status.failures.is_some_and(|n| n > 0))
        })
        .await;
    }

    let metrics = program::get(SocketAddr::from(([127, 0, 0, 1], notifier.metrics_port())), "/metrics");
    let bodies: Vec<_> = received.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
    let told = [
        ("the operator's log", operator::said()),
        ("the operator's metrics", operator::shared_metrics().await),
        ("the gateway's log", door.said()),
        ("the gateway's metrics", door.metrics()),
        ("the notifier's log", notifier.log()),
        ("the notifier's metrics", metrics.expect("metrics").1),
        ("events that were sent", bodies.join("\n")),
        ("the audit log", mark.map(|mark| mark.text()).unwrap_or_default()),
    ];
    let mut leaks: Vec<String> = Vec::new();
    for (whose, text) in &told {
        assert!(!text.is_empty() || *whose == "the audit log", "{whose} is empty");
        leaks.extend(aviary.heard(whose, text));
    }
    let mut ticked = Vec::new();
    for (kind, object) in objects(&world).await {
        leaks.extend(aviary.seen(kind, &object, &mut ticked));
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    // Each was really there, so that it would have been found elsewhere, too.
    for canary in aviary.canaries.iter().filter(|canary| canary.stays) {
        assert!(ticked.contains(&canary.text), "{} was never planted", canary.text);
    }
    // And one that is told somewhere is found.
    let leak = json!({"metadata": {"annotations": {"note": format!("it is {}", aviary.canaries[0].text)}}});
    let api = world.api::<BatchJob>();
    api.patch("all", &PatchParams::default(), &Patch::Merge(leak)).await.expect("anybody may");
    let mut found = Vec::new();
    for (kind, object) in objects(&world).await {
        found.extend(aviary.seen(kind, &object, &mut ticked));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    notifier.stop().await;
}
