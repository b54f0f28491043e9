use batchyard_core::logging::sidecar::{Member, Part, Settings, Source, plan};
use serde_json::{Value, json};

use super::*;
use crate::crd::{ComputeEnvironment, convert};
use crate::faults::caches;

fn effective(logging: &Value) -> Effective {
    let definition = json!({"type": "container", "containerProperties":
        {"image": "i", "vcpus": 1, "memory": 64, "logConfiguration": logging}});
    let definition = serde_json::from_value(definition).expect("a definition");
    let job = serde_json::from_value(json!({"jobQueue": "q"})).expect("a job");
    convert::plan(&job, &definition).effective.expect("valid")
}

fn queue(logging: Value) -> JobQueue {
    let queue = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue",
        "metadata": {"name": "q", "namespace": "ns", "uid": "queue", "generation": 3},
        "spec": {"priority": 1, "logging": logging}});
    serde_json::from_value(queue).expect("a queue")
}

fn environment(logging: Value) -> ComputeEnvironment {
    let environment = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
        "metadata": {"name": "ce", "uid": "environment", "generation": 5},
        "spec": {"type": "MANAGED", "logging": logging}});
    serde_json::from_value(environment).expect("an environment")
}

fn splunk(token: &str) -> Value {
    json!({"logDriver": "splunk", "options": {"splunk-url": "https://splunk.example:8088", "splunk-token": token}})
}

fn routed(definition: &Value, of_queue: &Value, of_environment: &Value) -> Result<Vec<Routed>, String> {
    let (queue, environment) = (queue(of_queue.clone()), environment(of_environment.clone()));
    routes(&effective(definition), ("q", &queue.spec), ("ce", &environment.spec))
}

#[test]
fn definition_then_queue_then_environment() {
    let stdout = json!({"logConfiguration": {"logDriver": "stdout"}});
    let gelf = json!({"logDriver": "gelf", "options": {"gelf-address": "udp://gelf.example:12201"}});
    let gelf = json!({"logConfiguration": gelf});
    for (definition, of_queue, of_environment, want) in [
        (splunk("t"), &gelf, &stdout, Some(("splunk", Level::Definition))),
        (Value::Null, &gelf, &stdout, Some(("gelf", Level::Queue))),
        (Value::Null, &Value::Null, &stdout, Some(("stdout", Level::Environment))),
        (Value::Null, &Value::Null, &Value::Null, None),
    ] {
        let found = routed(&definition, of_queue, of_environment).expect("allowed");
        let found = found.first().map(|one| (one.route.driver.as_str(), one.level));
        assert_eq!(found, want, "{definition} {of_queue} {of_environment}");
        assert_eq!(
            may_be_routed(
                &effective(&definition),
                &queue(of_queue.clone()).spec,
                std::iter::once(&environment(of_environment.clone()).spec)
            ),
            want.is_some()
        );
    }
}

#[test]
fn what_an_environment_forbids_is_told_with_its_rule() {
    let awslogs = json!({"logDriver": "awslogs", "options": {"awslogs-group": "/aws/batch/job", "awslogs-region": "r"}});
    for (definition, of_queue, of_environment, want) in [
        (
            splunk("t"),
            json!({}),
            json!({"allowedDrivers": ["awslogs"]}),
            "containerProperties.logConfiguration: logging.allowedDrivers of ComputeEnvironment ce does not allow the \
             log driver splunk; allowed: awslogs",
        ),
        (
            awslogs,
            json!({}),
            json!({"allowedLogGroups": ["/aws/batch/custom/*"]}),
            "containerProperties.logConfiguration: logging.allowedLogGroups of ComputeEnvironment ce does not allow \
             the log group /aws/batch/job; allowed: /aws/batch/custom/*",
        ),
        (
            Value::Null,
            json!({"logConfiguration": splunk("t")}),
            json!({"allowedHosts": ["*.org"]}),
            "JobQueue q: logging.logConfiguration: logging.allowedHosts of ComputeEnvironment ce does not allow the \
             host splunk.example; allowed: *.org",
        ),
        (
            json!({"logDriver": "json-file"}),
            json!({}),
            json!({}),
            "containerProperties.logConfiguration: logging.allowedDrivers of ComputeEnvironment ce does not allow the \
             log driver json-file, which fills disks of nodes and must be named there; allowed: all others",
        ),
        (
            json!({"logDriver": "awslogs"}),
            json!({}),
            json!({}),
            "containerProperties.logConfiguration.options.awslogs-region: it is required where logging.awslogs of the \
             environment has no region",
        ),
    ] {
        assert_eq!(routed(&definition, &of_queue, &of_environment).expect_err(want), want);
    }
}

fn job(name: &str) -> BatchJob {
    let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"jobQueue": "q"}});
    serde_json::from_value(job).expect("a job")
}

fn secret_of(job_name: &str, definition: &Value, of_queue: &Value) -> Secret {
    let routed = routed(definition, of_queue, &Value::Null).expect("allowed");
    let members: Vec<_> =
        routed.iter().map(|one| Member { container: &one.container, route: &one.route }).collect();
    let settings = Settings { source: Source::Folder, buffer_mib: 64, grace_seconds: 10, tells_health: true };
    let sidecar = plan(&members, Part::Whole, &settings).expect("a sidecar");
    let (caches, ..) = caches();
    secret(&job(job_name), &queue(of_queue.clone()), &environment(Value::Null), (&routed, &sidecar), &caches)
}

#[tokio::test]
async fn a_secret_is_shared_by_those_that_need_the_same() {
    let of_queue = json!({"logConfiguration": splunk("theirs")});
    let name = |job: &str, definition: &Value, queue: &Value| secret_of(job, definition, queue).name_any();
    let (none, nothing) = (Value::Null, Value::Null);
    assert_eq!(name("a", &none, &of_queue), name("b", &none, &of_queue), "jobs of a queue");
    assert_ne!(
        name("a", &splunk("t"), &nothing),
        name("b", &splunk("t"), &nothing),
        "jobs without a revision"
    );
    assert_eq!(
        name("a", &splunk("t"), &nothing),
        name("a", &splunk("u"), &nothing),
        "no name tells a secret"
    );
    assert_ne!(name("a", &splunk("t"), &nothing), name("a", &none, &of_queue));
    let made = secret_of("a", &none, &of_queue);
    let owner = &made.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("JobQueue", "queue"));
    let data = made.data.clone().expect("data");
    let text = |key: &str| String::from_utf8(data[key].0.clone()).expect("text");
    assert!(!text(CONFIGURATION_FILE).contains("theirs"), "{}", text(CONFIGURATION_FILE));
    assert!(text(CONFIGURATION_FILE).contains("splunk.example"));
    assert_eq!(text("BATCHYARD_SECRET_0"), "theirs");
    assert_eq!(made.immutable, Some(true));
    let known = Made::default();
    assert!(!known.has(&made));
    known.made(&made);
    assert!(known.has(&made) && !known.has(&secret_of("a", &splunk("t"), &nothing)));
}
