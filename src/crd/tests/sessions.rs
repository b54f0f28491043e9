//! What definitions and jobs say of the host's network and of sessions.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::crd::convert::plan;
use crate::crd::ignored::{Kind, ignored_fields};
use crate::crd::{BatchJobSpec, JobDefinitionSpec};

fn definition(patch: Value) -> JobDefinitionSpec {
    let container = json!({ "image": "dcv", "vcpus": 8, "memory": 2048 });
    let base = json!({ "type": "container", "containerProperties": container });
    serde_json::from_value(super::merged(&base, patch)).expect("a definition")
}

fn job(patch: Value) -> BatchJobSpec {
    let base = json!({ "jobQueue": "q", "jobDefinition": "dcv" });
    serde_json::from_value(super::merged(&base, patch)).expect("a job")
}

#[test]
fn the_definitions_parameter_gives_the_hosts_network() {
    for (name, definition_says, command, host_network) in [
        ("as the post has it", "--network=host", json!([]), true),
        ("with other options", "--network=host --shm-size=1g", json!(["run"]), true),
        ("it is used", "--network=host", json!(["Ref::command"]), false),
        ("no option", "network=host", json!([]), false),
    ] {
        let patch = json!({ "parameters": { "command": definition_says },
            "containerProperties": { "command": command } });
        assert_eq!(plan(&job(json!({})), &definition(patch)).host_network, host_network, "{name}");
    }
    let nodes = json!({ "numNodes": 1, "mainNode": 0, "nodeRangeProperties": [{ "targetNodes": "0",
        "container": { "image": "a", "vcpus": 1, "memory": 4, "command": ["Ref::command"] } }] });
    let used =
        definition(json!({ "parameters": { "command": "--network=host" }, "containerProperties": null,
        "nodeProperties": nodes }));
    assert!(!plan(&job(json!({})), &used).host_network, "a command of a group of nodes uses it");
}

#[test]
fn options_without_effect_are_named_one_by_one() {
    let ignored =
        |parameters: Value| ignored_fields(Kind::JobDefinition, &json!({ "parameters": parameters }));
    assert_eq!(ignored(json!({ "command": "--network=host" })), [""; 0]);
    assert_eq!(
        ignored(json!({ "command": "--network=host --shm-size 1g --rm" })),
        ["parameters.command (--rm)", "parameters.command (--shm-size 1g)"]
    );
    assert_eq!(ignored(json!({ "command": "--network=bridge" })), ["parameters.command (--network=bridge)"]);
}

/// A pod that has a network of its own by its own word keeps it, and the option is named.
#[test]
fn an_option_that_the_definition_contradicts_is_named() {
    let command = json!({ "command": "--network=host" });
    let pod = |host_network: Value| json!({ "podProperties": { "hostNetwork": host_network } });
    let nodes =
        |host_network: Value| json!({ "nodeRangeProperties": [{}, { "eksProperties": pod(host_network) }] });
    for (member, value, named) in [
        ("eksProperties", pod(json!(false)), true),
        ("eksProperties", pod(json!(true)), false),
        ("eksProperties", pod(Value::Null), false),
        ("nodeProperties", nodes(json!(false)), true),
        ("nodeProperties", nodes(json!(true)), false),
    ] {
        let spec = json!({ "parameters": command, member: value });
        let ignored = ignored_fields(Kind::JobDefinition, &spec);
        let is_named = ignored.contains(&"parameters.command (--network=host)".to_owned());
        assert_eq!(is_named, named, "{spec}: {ignored:?}");
    }
}

#[test]
fn members_of_a_session_that_say_nothing_are_named() {
    let ignored = |session: Value| ignored_fields(Kind::JobDefinition, &json!({ "session": session }));
    assert_eq!(ignored(json!({ "port": 8443, "path": "/vnc.html", "credentialsSecret": "dcv" })), [""; 0]);
    let probe = json!({ "tcpSocket": {}, "failureThreshold": 9, "successThreshold": 2, "periodSeconds": 1 });
    assert_eq!(ignored(json!({ "port": 1, "readinessProbe": probe })), [""; 0]);
    assert_eq!(
        ignored(json!({ "port": 1, "readinessProbe": probe, "idleTimeoutSeconds": 60,
            "idleProbe": { "tcpSocket": {} } })),
        ["session.readinessProbe.failureThreshold", "session.readinessProbe.successThreshold"]
    );
    let all = json!({ "host": "a.example", "port": 1, "scheme": "http", "serviceType": "NodePort", "tlsSecret": "t",
        "ingressClassName": "c", "gateway": { "name": "g" }, "annotations": { "a": "b" } });
    for (kind, want) in [
        (
            json!("PodIP"),
            vec!["annotations", "gateway", "host", "ingressClassName", "serviceType", "tlsSecret"],
        ),
        (Value::Null, vec!["annotations", "gateway", "host", "ingressClassName", "serviceType", "tlsSecret"]),
        (json!("Service"), vec!["gateway", "host", "ingressClassName", "tlsSecret"]),
        (json!("Ingress"), vec!["gateway", "serviceType"]),
        (json!("Gateway"), vec!["ingressClassName", "serviceType", "tlsSecret"]),
    ] {
        let address = super::merged(&all, json!({ "type": kind }));
        let want: Vec<_> = want.into_iter().map(|name| format!("session.address.{name}")).collect();
        assert_eq!(ignored(json!({ "port": 1, "address": address })), want, "{kind}");
    }
}

#[test]
fn a_jobs_session_takes_the_place_of_its_definitions() {
    let of_definition = definition(json!({ "session": { "port": 8443, "path": "/a" } }));
    let session = |job: &BatchJobSpec, definition: &JobDefinitionSpec| {
        let plan = plan(job, definition);
        plan.effective.map(|_| plan.session.map(|session| (session.port, session.path.clone())))
    };
    assert_eq!(session(&job(json!({})), &definition(json!({}))), Ok(None));
    assert_eq!(session(&job(json!({})), &of_definition), Ok(Some((8443, Some("/a".to_owned())))));
    let own = job(json!({ "session": { "port": 80, "address": { "type": "PodIP" } } }));
    assert_eq!(session(&own, &of_definition), Ok(Some((80, None))));
    let array = job(json!({ "arrayProperties": { "size": 2 } }));
    let why = session(&array, &of_definition).expect_err("an array");
    assert_eq!(why, "session: an array job cannot be an interactive session");
    let nodes = json!({ "numNodes": 1, "mainNode": 0, "nodeRangeProperties": [{ "targetNodes": "0",
        "container": { "image": "a", "vcpus": 1, "memory": 4 } }] });
    let gang =
        definition(json!({ "containerProperties": null, "nodeProperties": nodes, "session": { "port": 1 } }));
    let why = session(&job(json!({})), &gang).expect_err("several nodes");
    assert_eq!(why, "session: a multi-node job cannot be an interactive session");
}

#[test]
fn a_job_takes_no_port_of_a_node_that_its_definition_does_not_have() {
    let at_node = json!({ "session": { "port": 8443 } });
    let is_fine =
        |job: &BatchJobSpec, definition: &JobDefinitionSpec| plan(job, definition).effective.is_ok();
    let own = job(at_node.clone());
    let why = plan(&own, &definition(json!({}))).effective.expect_err("a port of its own");
    assert!(why.starts_with("session.address: the job definition gives the job no port 8443"), "{why}");
    for (name, patch, fine) in [
        (
            "the definition has the host's network",
            json!({ "parameters": { "command": "--network=host" } }),
            true,
        ),
        ("the definition has the port", at_node, true),
        ("the definition has another port", json!({ "session": { "port": 8444 } }), false),
        (
            "the definition's session is not at the node",
            json!({ "session": { "port": 8443, "address": { "type": "PodIP" } } }),
            false,
        ),
    ] {
        assert_eq!(is_fine(&own, &definition(patch)), fine, "{name}");
    }
    for kind in ["PodIP", "Service"] {
        let elsewhere = job(json!({ "session": { "port": 8443, "address": { "type": kind } } }));
        assert!(is_fine(&elsewhere, &definition(json!({}))), "{kind}");
    }
    let inline = json!({ "jobDefinition": null, "session": { "port": 8443 },
        "containerProperties": { "image": "a", "vcpus": 1, "memory": 4 } });
    assert!(is_fine(&job(inline), &definition(json!({}))), "a job that is its own definition");
}

/// Options of `docker run`, and texts that look a bit like them.
fn options() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "--network=host",
        "--network",
        "host",
        "--privileged",
        "x",
        "Ref::command",
    ]);
    prop::collection::vec(word, 0..4).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(crate::cases::config(256))]

    /// Whatever a job says of parameters, commands and variables, its network is what its definition says.
    #[test]
    fn a_jobs_own_parameters_never_change_the_network(
        definition_says in prop::option::of(options()),
        job_says in options(),
        command in prop::collection::vec(options(), 0..3),
        name in prop::sample::select(vec!["command", "network", "options"]),
    ) {
        let parameters = definition_says.map(|text| json!({ "command": text })).unwrap_or(json!({}));
        let definition = definition(json!({ "parameters": parameters }));
        let plain = plan(&job(json!({})), &definition);
        let overridden = plan(&job(json!({
            "parameters": { name: job_says },
            "containerOverrides": { "command": command, "environment": [{ "name": "NETWORK", "value": "host" }] },
        })), &definition);
        prop_assert_eq!(overridden.host_network, plain.host_network);
        prop_assert_eq!(overridden.port(), plain.port());
    }
}
