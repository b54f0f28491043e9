//! Whatever a job overrides, its pod may do no more than its definition lets it.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{plan, pod_of, spot};

/// Text with everything that means something to AWS, to Kubernetes or to a shell.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "Ref::",
        "Ref::x",
        "$(A)",
        "$$",
        "privileged",
        "/dev/shm",
        "\u{0}",
        "\n",
        "{",
        "\"",
        "hostPath",
        "root",
        "é",
        "--network=host",
        " ",
        "../..",
        "batchyard.io/attempt",
    ]);
    vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["A", "PATH", "SECRET", "x", "AWS_BATCH_JOB_ID"]).prop_map(str::to_owned)
}

fn container_overrides() -> impl Strategy<Value = Value> {
    let environment = vec((name(), text()), 0..4);
    let amount = |kind: &'static str, values: &'static [&'static str]| {
        option::of(prop::sample::select(values).prop_map(move |value| json!({"type": kind, "value": value})))
    };
    let amounts = (
        amount("VCPU", &["1", "2", "64"]),
        amount("MEMORY", &["4", "64", "99999"]),
        amount("GPU", &["1", "8"]),
    );
    (vec(text(), 0..4), environment, amounts).prop_map(|(command, environment, (vcpu, memory, gpu))| {
        let environment: Vec<_> =
            environment.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let requirements: Vec<_> = [vcpu, memory, gpu].into_iter().flatten().collect();
        json!({"command": command, "environment": environment, "resourceRequirements": requirements})
    })
}

/// All that a job may say of what it runs.
fn job(multinode: bool) -> impl Strategy<Value = Value> {
    let maps = (btree_map(name(), text(), 0..4), btree_map(text(), text(), 0..4), any::<Option<bool>>());
    (container_overrides(), maps).prop_map(move |(overrides, (mut parameters, tags, propagate))| {
        // So that most jobs can run.
        parameters.entry("x".to_owned()).or_default();
        let change = json!([{"targetNodes": "0:", "containerOverrides": overrides}]);
        let (member, value) = match multinode {
            false => ("containerOverrides", overrides),
            true => ("nodeOverrides", json!({ "nodePropertyOverrides": change })),
        };
        json!({"parameters": parameters, "tags": tags, "propagateTags": propagate, member: value})
    })
}

fn container() -> Value {
    json!({
        "image": "alpine", "vcpus": 1, "memory": 64, "command": ["run", "Ref::x"], "user": "1000:100",
        "readonlyRootFilesystem": true,
        "environment": [{"name": "A", "value": "1"}],
        "secrets": [{"name": "SECRET", "valueFrom": "db:password"}],
        "volumes": [{"name": "data", "host": {"sourcePath": "/data"}}],
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/in", "readOnly": true}],
        "repositoryCredentials": {"credentialsParameter": "registry"},
        "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
        "linuxParameters": {"sharedMemorySize": 64, "initProcessEnabled": true,
            "devices": [{"hostPath": "/dev/kvm", "containerPath": "/dev/machine"}]},
    })
}

fn definition(multinode: bool, privileged: bool) -> Value {
    let mut container = container();
    container["privileged"] = json!(privileged);
    match multinode {
        false => json!({ "containerProperties": container }),
        true => json!({"type": "multinode", "nodeProperties": {"numNodes": 2, "mainNode": 0,
            "nodeRangeProperties": [{"targetNodes": "0:", "container": container}]}}),
    }
}

/// The pod without what a job may change: the words of its command, plain variables, amounts, and its tags.
fn bounded(mut pod: Value) -> Value {
    let container = &mut pod["spec"]["containers"][0];
    container["args"] = Value::Null;
    container["resources"] = Value::Null;
    let variables = container["env"].as_array().into_iter().flatten();
    // A variable that comes from elsewhere is the definition's, and no later one may hide it.
    let mut fixed: Vec<Value> = Vec::new();
    for variable in variables.cloned() {
        fixed.retain(|known| known["name"] != variable["name"]);
        let name = variable["name"].as_str().unwrap_or_default();
        if variable.get("valueFrom").is_some() || name.starts_with("AWS_BATCH") {
            fixed.push(variable);
        }
    }
    container["env"] = json!(fixed);
    for map in ["labels", "annotations"] {
        let map = pod["metadata"][map].as_object_mut().expect("a map");
        map.retain(|key, _| !key.starts_with("tags.batchyard.io/") && key != "batchyard.io/vcpus-milli");
    }
    pod
}

proptest! {
    #![proptest_config(crate::cases::config(256))]

    #[test]
    fn no_job_gets_more_than_its_definition_gives(
        job in prop_oneof![job(false).prop_map(|job| (false, job)), job(true).prop_map(|job| (true, job))],
        privileged in any::<bool>(),
    ) {
        let (multinode, job) = job;
        let node = multinode.then_some(1);
        let definition = definition(multinode, privileged);
        let plain = plan(definition.clone(), json!({"parameters": {"x": ""}}));
        let changed = plan(definition, job);
        // One that cannot run has no pod.
        if changed.effective.is_ok() {
            let (plain, changed) = (pod_of(spot(), &plain, node), pod_of(spot(), &changed, node));
            prop_assert_eq!(bounded(plain), bounded(changed));
        }
    }
}
