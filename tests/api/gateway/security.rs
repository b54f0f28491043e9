//! Who is let in, and who is not; and that nothing of a secret is left anywhere.

use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use batchyard::k8s::meta;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::door::{Door, SYSTEM, annotate, caller, everything, key, known};
use crate::operator::world::{World, container};
use crate::support::wait;

const DESCRIBE: &str = "/v1/describejobs";

#[tokio::test]
async fn n1_only_what_is_signed_rightly_is_let_in() {
    let world = World::without_operator("door-in").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "caller", everything()).await;
    known(&door, &good).await;
    let body = r#"{"jobs":["x"]}"#;
    let answer = door.call(&good, "POST", DESCRIBE, body);
    assert_eq!((answer.status, answer.body), (200, json!({"jobs": []})));
    assert!(answer.head.contains("x-amzn-requestid: ") && answer.head.contains("application/json"));

    let request = door.request(&good, "POST", DESCRIBE, body, SystemTime::now());
    let unsigned =
        request.lines().filter(|line| !line.starts_with("authorization")).collect::<Vec<_>>().join("\r\n");
    let then = |seconds: i64| {
        let span = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { SystemTime::now() - span } else { SystemTime::now() + span };
        door.request(&good, "POST", DESCRIBE, body, at)
    };
    let mut other = good.clone();
    other.id = "BYAK0000000000000000".into();
    let mut wrong = good.clone();
    wrong.secret = "a secret that is not its secret".into();
    let of = |key| door.request(key, "POST", DESCRIBE, body, SystemTime::now());
    for (request, kind, says) in [
        (unsigned, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (request.replace("[\"x\"]", "[\"y\"]"), "InvalidSignatureException", "does not match"),
        (request.replace("Signature=", "Signature=0"), "InvalidSignatureException", "does not match"),
        (
            request.replace(&format!("Host: {}", door.address), "Host: elsewhere"),
            "InvalidSignatureException",
            "does not match",
        ),
        (then(-310), "InvalidSignatureException", "Signature expired"),
        (then(310), "InvalidSignatureException", "not yet current"),
        (of(&other), "UnrecognizedClientException", "security token"),
        (of(&wrong), "InvalidSignatureException", "does not match"),
    ] {
        let answer = door.send(request.as_bytes());
        assert_eq!((answer.status, answer.kind().as_str()), (403, kind), "{answer:?}");
        assert!(answer.message().contains(says), "{answer:?}");
    }
    for seconds in [-290, 290] {
        assert_eq!(door.send(then(seconds).as_bytes()).status, 200, "clocks may differ");
    }
    let said = door.said();
    assert!(said.contains("refused"), "it tells whom it refuses");
    assert!(!said.contains(good.secret.reveal()), "a secret is in the log");
    assert!(
        door.metrics().contains("batchyard_aws_api_answers_total{operation=\"DescribeJobs\",code=\"ok\"}")
    );
}

#[tokio::test]
async fn a_key_is_good_until_it_is_disabled_expires_or_goes() {
    let world = World::without_operator("door-keys").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "caller", everything()).await;
    known(&door, &good).await;
    let until = |status: u16| {
        let (door, good) = (&door, &good);
        wait::answer("the gateway to see the change", n, move || {
            let answer = door.call(good, "POST", DESCRIBE, r#"{"jobs":[]}"#);
            std::future::ready((answer.status == status).then_some(answer))
        })
    };
    annotate(&world.user, &good, json!({meta::KEY_DISABLED: "now"})).await;
    assert_eq!(until(403).await.kind(), "UnrecognizedClientException");
    annotate(&world.user, &good, json!({meta::KEY_DISABLED: null})).await;
    until(200).await;
    annotate(&world.user, &good, json!({meta::KEY_EXPIRES: "2026-01-01T00:00:00Z"})).await;
    until(403).await;
    annotate(&world.user, &good, json!({meta::KEY_EXPIRES: "2126-01-01T00:00:00Z"})).await;
    until(200).await;
    annotate(&world.user, &good, json!({meta::KEY_EXPIRES: "some day"})).await;
    until(403).await;
}

#[tokio::test]
async fn a_key_is_for_one_namespace_and_one_secret() {
    let world = World::without_operator("door-bound").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "caller", everything()).await;
    known(&door, &good).await;
    let until = |status: u16| {
        let (door, good) = (&door, &good);
        wait::answer("the gateway to see the change", n, move || {
            let answer = door.call(good, "POST", DESCRIBE, r#"{"jobs":[]}"#);
            std::future::ready((answer.status == status).then_some(()))
        })
    };
    // A Secret under another name is no key, whatever it says, and takes nothing with it when it goes.
    let secrets: Api<Secret> = Api::namespaced(world.user.clone(), SYSTEM);
    let mut copy = good.object(SYSTEM);
    copy.metadata.name = Some(format!("copy-of-{n}"));
    secrets.create(&PostParams::default(), &copy).await.expect("a Secret can be made");
    secrets.delete(&format!("copy-of-{n}"), &DeleteParams::default()).await.expect("it can be deleted");
    let mut stolen = good.clone();
    stolen.id = format!("BYAK{}", &good.id[4..].chars().rev().collect::<String>());
    let moved = |id: &str| Patch::Merge(json!({"metadata": {"labels": {meta::ACCESS_KEY: id}}}));
    let name = batchyard::k8s::access_key::object_name(&good.id);
    let patched = |id: String| {
        let (secrets, name) = (secrets.clone(), name.clone());
        async move {
            secrets.patch(&name, &PatchParams::default(), &moved(&id)).await.expect("a label can be changed");
        }
    };
    until(200).await;
    patched(stolen.id.clone()).await;
    until(403).await;
    assert_eq!(door.call(&stolen, "POST", DESCRIBE, r#"{"jobs":[]}"#).status, 403);
    patched(good.id.clone()).await;
    until(200).await;
    // Another namespace of the same name is somebody else's.
    annotate(&world.user, &good, json!({meta::KEY_NAMESPACE_UID: "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e"}))
        .await;
    until(403).await;
}

#[tokio::test]
async fn a_caller_may_do_what_its_service_account_may() {
    let world = World::without_operator("door-rights").await;
    let other = World::without_operator("door-other").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let reader = json!([{"apiGroups": ["batchyard.io"], "resources": ["batchjobs", "jobqueues"], "verbs": ["get", "list"]}]);
    let reader = caller(&world.user, n, "reader", reader).await;
    let editor = json!([{"apiGroups": ["batchyard.io"],
        "resources": ["batchjobs", "jobdefinitions", "jobqueues"], "verbs": ["*"]}]);
    let editor = caller(&world.user, n, "editor", editor).await;
    let stranger = caller(&world.user, &other.namespace, "stranger", everything()).await;
    let nobody = key(&world.user, n, "default").await;
    for known_one in [&reader, &editor, &stranger] {
        known(&door, known_one).await;
    }
    let refused = |answer: super::door::Answer| {
        assert_eq!((answer.status, answer.kind().as_str()), (403, "AccessDeniedException"), "{answer:?}");
        answer.message().to_owned()
    };
    let define = json!({"jobDefinitionName": "d", "type": "container", "containerProperties": container()})
        .to_string();
    let text = refused(door.call(&reader, "POST", "/v1/registerjobdefinition", &define));
    assert!(
        text.contains(&format!("system:serviceaccount:{n}:reader"))
            && text.contains("batch:RegisterJobDefinition"),
        "{text}"
    );
    assert_eq!(door.call(&editor, "POST", "/v1/registerjobdefinition", &define).status, 200);
    // Environments need a role of their own.
    let environment = json!({"computeEnvironmentName": "e", "type": "UNMANAGED"}).to_string();
    refused(door.call(&editor, "POST", "/v1/createcomputeenvironment", &environment));
    assert_eq!(door.call(&stranger, "POST", "/v1/createcomputeenvironment", &environment).status, 200);
    // And what is made in one namespace is not for the queues of others.
    let made = world.environments().get(&format!("{}.e", other.namespace)).await.expect("it is made");
    let is_for = |namespace: &str| {
        let labels = [("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())].into();
        made.spec.entry_for(&labels).is_some()
    };
    assert_eq!([is_for(&other.namespace), is_for(n)], [true, false], "{:?}", made.spec.allowed_namespaces);
    wait::answer("the gateway to know the key", n, || {
        let answer = door.call(&nobody, "POST", "/v1/describejobqueues", "{}");
        std::future::ready((answer.body["__type"] == "AccessDeniedException").then_some(()))
    })
    .await;
    // What is in another namespace is not there, and its ARNs are another account's.
    let queue = |name: &str| json!({"jobQueueName": name, "priority": 1}).to_string();
    let made = door.call(&editor, "POST", "/v1/createjobqueue", &queue("q"));
    assert_eq!(made.status, 200, "{made:?}");
    let arn = made.body["jobQueueArn"].as_str().expect("an ARN").to_owned();
    let seen = door.call(&stranger, "POST", "/v1/describejobqueues", "{}");
    assert_eq!(seen.body["jobQueues"], json!([]), "{seen:?}");
    let by_arn = json!({"jobQueues": [arn]}).to_string();
    refused(door.call(&stranger, "POST", "/v1/describejobqueues", &by_arn));
    refused(door.call(&stranger, "GET", &format!("/v1/tags/{}", encoded(&arn)), ""));
    assert_eq!(door.call(&editor, "GET", &format!("/v1/tags/{}", encoded(&arn)), "").status, 200);
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_harms_nobody() {
    let world = World::without_operator("door-odd").await;
    let (door, n) = (Door::open(&["--requests-per-second", "0"]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "caller", everything()).await;
    known(&door, &good).await;
    let large = format!("{{\"jobs\":[\"{}\"]}}", "x".repeat(300_000));
    let deep = format!("{{\"jobs\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let arn = |rest: &str| {
        format!("/v1/tags/{}", encoded(&format!("arn:aws:batch:{REGION}:{}:{rest}", account(&door, &good))))
    };
    for (method, path, body) in [
        ("POST", DESCRIBE, "{"),
        ("POST", DESCRIBE, "[]"),
        ("POST", DESCRIBE, "{\"jobs\": 1}"),
        ("POST", DESCRIBE, "{\"jobs\": [], \"x\": 1}"),
        ("POST", DESCRIBE, large.as_str()),
        ("POST", DESCRIBE, deep.as_str()),
        ("POST", "/v1/nothing", "{}"),
        ("POST", "/v1/submitservicejob", "{}"),
        ("GET", DESCRIBE, ""),
        ("GET", "/v1/tags/..%2f..%2fsecrets", ""),
        ("GET", &arn("job-queue/../../../../api/v1/secrets"), ""),
        ("GET", &arn("job-queue/%2e%2e"), ""),
        ("GET", &arn("job-queue/a/b"), ""),
        ("GET", &arn("secret/x"), ""),
        ("GET", &arn("job-queue/absent"), ""),
        ("POST", &arn("job-queue/absent"), "{\"tags\":{\"a\":\"b\"}}"),
        ("DELETE", &arn("job-queue/absent"), ""),
    ] {
        let answer = door.call(&good, method, path, body);
        assert_eq!(
            (answer.status, answer.kind().as_str()),
            (400, "ClientException"),
            "{method} {path} {answer:?}"
        );
    }
    for nonsense in ["", "GET", "\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "\u{0}\u{1}"] {
        door.send(nonsense.as_bytes());
    }
    assert_eq!(door.call(&good, "POST", DESCRIBE, r#"{"jobs":["x"]}"#).status, 200, "it still serves");
}

const REGION: &str = super::door::REGION;

/// The account id that a caller sees.
fn account(door: &Door, key: &batchyard::k8s::access_key::AccessKey) -> String {
    let name = format!("for-its-arn-{}", std::process::id());
    let made = door.call(key, "POST", "/v1/createschedulingpolicy", &json!({"name": name}).to_string());
    let arn = match made.body["arn"].as_str() {
        Some(arn) => arn.to_owned(),
        None => {
            door.call(key, "POST", "/v1/listschedulingpolicies", "{}").body["schedulingPolicies"][0]["arn"]
                .as_str()
                .expect("an ARN")
                .to_owned()
        }
    };
    arn.split(':').nth(4).expect("an account").to_owned()
}

#[tokio::test]
async fn a_change_is_not_carried_out_twice() {
    let world = World::without_operator("door-replay").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "caller", everything()).await;
    known(&door, &good).await;
    let queue = json!({"jobQueueName": "q", "priority": 1}).to_string();
    let request = door.request(&good, "POST", "/v1/createjobqueue", &queue, SystemTime::now());
    assert_eq!(door.send(request.as_bytes()).status, 200);
    let again = door.send(request.as_bytes());
    assert_eq!(again.kind(), "InvalidSignatureException", "{again:?}");
    assert!(again.message().contains("carried out before"), "{again:?}");
    // Nor with other headers than those that are signed.
    let other = request.replacen("\r\n", "\r\namz-sdk-invocation-id: 1\r\namz-sdk-request: attempt=2\r\n", 1);
    let again = door.send(other.as_bytes());
    assert_eq!((again.status, again.kind().as_str()), (429, "TooManyRequestsException"), "{again:?}");
    assert!(again.message().contains("carried out before"), "{again:?}");
    // What only asks may be asked again.
    let request = door.request(&good, "POST", DESCRIBE, r#"{"jobs":["x"]}"#, SystemTime::now());
    for _ in 0..2 {
        assert_eq!(door.send(request.as_bytes()).status, 200);
    }
}

#[tokio::test]
async fn whoever_says_nothing_is_hung_up_on() {
    let door = Door::open(&[]).await;
    // Nothing, half of what begins HTTP/2, half a header, and HTTP/2 itself.
    for begun in ["", "PRI * HT", "POST / HTTP/1.1\r\nHost: x", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut connection = door.connect();
        connection.write_all(begun.as_bytes()).expect("it listens");
        let mut said = Vec::new();
        let ended = connection.read_to_end(&mut said);
        assert!(
            ended.as_ref().is_ok_and(|_| !said.starts_with(&[0, 0])),
            "{begun:?}: {ended:?} {}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[tokio::test]
async fn a_key_that_asks_too_often_has_to_wait() {
    let world = World::without_operator("door-rate").await;
    let (door, n) = (Door::open(&["--requests-per-second", "2"]).await, world.namespace.as_str());
    let (busy, calm) = (
        caller(&world.user, n, "busy", everything()).await,
        caller(&world.user, n, "calm", everything()).await,
    );
    known(&door, &busy).await;
    let answers: Vec<_> = (0..30).map(|_| door.call(&busy, "POST", DESCRIBE, r#"{"jobs":["x"]}"#)).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty(), "{answers:?}");
    assert_eq!(refused[0].kind(), "TooManyRequestsException");
    known(&door, &calm).await;
}
