//! CloudWatch Logs on the door, as far as it goes without containers: who may ask, what there is, and what is refused. What
//! containers wrote is read in tests/nodes.

use batchyard_core::job::phase::Phase;
use serde_json::{Value, json};

use super::door::{Door, annotate, caller, everything, known};
use crate::operator::world::{World, container, job, merge};
use crate::support::wait;

const GROUP: &str = "/aws/batch/job";

/// Whoever may do all, and read logs.
fn reader() -> Value {
    let mut rules = everything();
    let log = json!({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]});
    rules.as_array_mut().expect("a list").push(log);
    rules
}

#[tokio::test]
async fn callers_of_logs_are_known_and_may_read_them() {
    let world = World::without_operator("door-logs-in").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let good = caller(&world.user, n, "reader", reader()).await;
    let other = caller(&world.user, n, "other", everything()).await;
    known(&door, &good).await;
    known(&door, &other).await;
    let answer = door.logs(&good, "DescribeLogGroups", &json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: application/x-amz-json-1.1"), "{answer:?}");
    assert_eq!(answer.body["logGroups"][0]["logGroupName"], GROUP, "{answer:?}");
    for operation in ["DescribeLogGroups", "DescribeLogStreams", "FilterLogEvents", "GetLogEvents"] {
        let refused = door.logs(&other, operation, &json!({"logGroupName": GROUP}));
        assert_eq!((refused.status, refused.kind().as_str()), (400, "AccessDeniedException"));
        assert!(refused.message().contains(&format!("logs:{operation}")), "{refused:?}");
    }
    let target = "Logs_20140328.DescribeLogGroups";
    let wrongly = door.send(door.to_logs(&good, target, &json!({}), "batch").as_bytes());
    assert_eq!((wrongly.status, wrongly.kind().as_str()), (400, "InvalidSignatureException"));
    let changed = door.to_logs(&good, target, &json!({"limit": 10}), "logs").replace("10}", "11}");
    assert_eq!(door.send(changed.as_bytes()).kind(), "InvalidSignatureException");
    // A signature for logs opens nothing else.
    let elsewhere = door.to_logs(&good, target, &json!({}), "logs").replace("POST / ", "POST /v1/listjobs ");
    assert_eq!(door.send(elsewhere.as_bytes()).kind(), "InvalidSignatureException");
    let mut unknown = good.clone();
    unknown.id = "BYAK0000000000000000".into();
    assert_eq!(door.logs(&unknown, "GetLogEvents", &json!({})).kind(), "UnrecognizedClientException");
    assert_eq!(door.logs(&good, "PutLogEvents", &json!({})).kind(), "UnknownOperationException");
    annotate(&world.user, &good, json!({batchyard::k8s::meta::KEY_DISABLED: "now"})).await;
    wait::answer("the key to be disabled", n, || {
        std::future::ready((door.logs(&good, "DescribeLogGroups", &json!({})).status == 400).then_some(()))
    })
    .await;
    assert!(!door.said().contains(good.secret.reveal()), "a secret is in the log");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let world = World::without_operator("door-logs-wrong").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let key = caller(&world.user, n, "reader", reader()).await;
    known(&door, &key).await;
    let get = |more: Value| {
        let mut body = json!({"logGroupName": GROUP, "logStreamName": "a/default/b"});
        merge(&mut body, more);
        body
    };
    let arn = format!("arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}");
    for (operation, body, kind, says) in [
        ("GetLogEvents", get(json!({})), "ResourceNotFoundException", "log stream does not exist"),
        (
            "GetLogEvents",
            get(json!({"logGroupName": "/no"})),
            "ResourceNotFoundException",
            "log group does not",
        ),
        ("GetLogEvents", json!({"logGroupName": GROUP}), "InvalidParameterException", "logStreamName"),
        ("GetLogEvents", get(json!({"x": 1})), "InvalidParameterException", "unknown field `x`"),
        ("GetLogEvents", get(json!({"limit": 0})), "InvalidParameterException", "limit"),
        ("GetLogEvents", get(json!({"startTime": -1})), "InvalidParameterException", "startTime"),
        ("GetLogEvents", get(json!({"nextToken": "f/x"})), "InvalidParameterException", "nextToken"),
        (
            "GetLogEvents",
            get(json!({"logGroupIdentifier": GROUP})),
            "InvalidParameterException",
            "Exactly one",
        ),
        ("FilterLogEvents", json!({}), "InvalidParameterException", "Exactly one"),
        ("FilterLogEvents", json!({"logGroupIdentifier": arn}), "InvalidParameterException", "account"),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "filterPattern": "{ $.a = 1 }"}),
            "InvalidParameterException",
            "JSON",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "logStreamNames": ["a"], "logStreamNamePrefix": "a"}),
            "InvalidParameterException",
            "cannot both",
        ),
        ("DescribeLogStreams", json!({"logGroupName": "/no"}), "ResourceNotFoundException", "log group"),
        (
            "DescribeLogStreams",
            json!({"logGroupName": GROUP, "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}),
            "InvalidParameterException",
            "LastEventTime",
        ),
        (
            "DescribeLogGroups",
            json!({"includeLinkedAccounts": true}),
            "InvalidParameterException",
            "includeLinkedAccounts",
        ),
        ("DescribeLogGroups", json!({"logGroupClass": "X"}), "InvalidParameterException", "logGroupClass"),
    ] {
        let answer = door.logs(&key, operation, &body);
        assert_eq!((answer.status, answer.kind().as_str()), (400, kind), "{operation} {body}: {answer:?}");
        assert!(answer.message().contains(says), "{operation} {body}: {answer:?}");
    }
}

#[tokio::test]
async fn streams_and_groups_are_those_of_the_namespaces_jobs() {
    let world = World::with_queue("door-logs-streams").await;
    let (door, n) = (Door::open(&[]).await, world.namespace.as_str());
    let key = caller(&world.user, n, "reader", reader()).await;
    known(&door, &key).await;
    let mut mine = container();
    let options =
        json!({"awslogs-group": "/mine", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "own"});
    mine["logConfiguration"] = json!({"logDriver": "awslogs", "options": options});
    let plain = world.submit("plain", job(json!({}))).await;
    let other = world.submit("other", job(json!({"containerProperties": mine}))).await;
    for job in [&plain, &other] {
        let pod = job.pod(1).await;
        pod.bind().await;
        pod.starts().await;
        job.reaches(Phase::Running).await;
    }
    let groups = door.logs(&key, "DescribeLogGroups", &json!({})).body;
    let names: Vec<_> =
        groups["logGroups"].as_array().expect("groups").iter().map(|one| &one["logGroupName"]).collect();
    assert_eq!(names, [GROUP, "/mine"]);
    for (group, job) in [(GROUP, &plain), ("/mine", &other)] {
        let id = job.get().await.metadata.uid.expect("a uid");
        let told = door.call(&key, "POST", "/v1/describejobs", &json!({"jobs": [id]}).to_string()).body;
        let expected = &told["jobs"][0]["container"]["logStreamName"];
        let streams = wait::answer("a stream", n, || {
            let found = door.logs(&key, "DescribeLogStreams", &json!({"logGroupName": group})).body;
            std::future::ready((!found["logStreams"][0].is_null()).then_some(found))
        })
        .await;
        assert_eq!(streams["logStreams"].as_array().map(Vec::len), Some(1), "{streams}");
        assert_eq!(&streams["logStreams"][0]["logStreamName"], expected, "{streams}");
    }
}
