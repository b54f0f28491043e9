use batchyard_core::definition::requirements::Amounts;
use serde_json::{Value, json};

use super::*;

fn plan_of(definition: &Value, job: &Value) -> Plan {
    let mut job = job.clone();
    job["jobQueue"] = json!("q");
    plan(
        &serde_json::from_value(job).expect("a job"),
        &serde_json::from_value(definition.clone()).expect("a definition"),
    )
}

fn task(vcpus: &str) -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "a",
            "resourceRequirements": [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": "64"}]})
    };
    json!({"taskProperties": [{"containers": [container("app"), container("log")]}]})
}

fn pod() -> Value {
    json!({"podProperties": {"containers": [{"image": "a", "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}}}]}})
}

fn nodes(ranges: Value) -> Value {
    json!({"type": "multinode", "nodeProperties": {"numNodes": 3, "mainNode": 0, "nodeRangeProperties": ranges}})
}

#[test]
fn a_pod_is_described_in_one_way() {
    let container = json!({"image": "a", "vcpus": 1, "memory": 64});
    for (definition, job, want) in [
        (json!({"type": "container", "ecsProperties": task("1")}), json!({}), Ok(2000)),
        (json!({"type": "container", "eksProperties": pod()}), json!({}), Ok(500)),
        (json!({"type": "container"}), json!({}), Err("containerProperties is missing")),
        (
            json!({"type": "container", "ecsProperties": task("1"), "containerProperties": container}),
            json!({}),
            Err("only one of containerProperties, ecsProperties and eksProperties can be given"),
        ),
        (
            json!({"type": "container", "ecsProperties": {"taskProperties": []}}),
            json!({}),
            Err("ecsProperties.taskProperties must have exactly 1 element"),
        ),
        (
            json!({"type": "container", "eksProperties": {}}),
            json!({}),
            Err("eksProperties.podProperties is missing"),
        ),
        (
            json!({"type": "container", "eksProperties": pod()}),
            json!({"containerOverrides": {"command": ["x"]}}),
            Err(
                "containerOverrides: the job definition has eksProperties, which eksPropertiesOverride changes",
            ),
        ),
        (
            json!({"type": "container", "containerProperties": container}),
            json!({"ecsPropertiesOverride": {"taskProperties": [{"containers": [{"name": "a"}]}]}}),
            Err(
                "ecsPropertiesOverride: the job definition has containerProperties, which containerOverrides changes",
            ),
        ),
        (
            nodes(json!([{"targetNodes": "0:"}])),
            json!({}),
            Err("nodeRangeProperties 0:: container is missing"),
        ),
        (
            nodes(json!([{"targetNodes": "0:", "eksProperties": pod()}])),
            json!({"eksPropertiesOverride": {"podProperties": {"containers": [{"image": "b"}]}}}),
            Err("eksPropertiesOverride: a multi-node job takes nodeOverrides"),
        ),
    ] {
        let got = plan_of(&definition, &job).effective.map(|effective| effective.amounts.vcpus_milli);
        assert_eq!(got, want.map_err(str::to_owned), "{definition}");
    }
}

#[test]
fn groups_of_nodes_have_tasks_and_pods_and_their_overrides() {
    let definition = nodes(json!([
        {"targetNodes": "0", "ecsProperties": task("1")},
        {"targetNodes": "1:", "eksProperties": pod()},
    ]));
    let change = |target: &str, member: &str, change: Value| json!({"targetNodes": target, member: change});
    let of_task = json!({"taskProperties": [{"containers": [{"name": "log",
        "resourceRequirements": [{"type": "VCPU", "value": "2"}]}]}]});
    let of_pod =
        |cpu: &str| json!({"podProperties": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}});
    let job = json!({"nodeOverrides": {"nodePropertyOverrides": [
        change("0", "ecsPropertiesOverride", of_task),
        change("2", "eksPropertiesOverride", of_pod("4")),
        change("1:2", "eksPropertiesOverride", of_pod("2")),
    ]}});
    let gang = plan_of(&definition, &job).gang.expect("nodes");
    let of = |node| {
        let effective = &gang.group_of(node).expect("a group").effective;
        let Amounts { vcpus_milli, memory_mib, .. } = effective.amounts;
        (vcpus_milli, memory_mib, effective.cpu_as_stated())
    };
    assert_eq!((of(0), of(1), of(2)), ((3000, 128, false), (2000, 64, true), (4000, 64, true)));
    let wrong = json!({"nodeOverrides": {"nodePropertyOverrides": [
        change("0:", "containerOverrides", json!({"command": ["x"]}))]}});
    assert_eq!(
        plan_of(&definition, &wrong).effective,
        Err("nodeRangeProperties 0: containerOverrides: the job definition has ecsProperties, which \
             ecsPropertiesOverride changes"
            .to_owned())
    );
}

fn with(mut base: Value, more: Value) -> Value {
    more.as_object().into_iter().flatten().for_each(|(name, value)| base[name] = value.clone());
    base
}

fn definition_of_one(more: Value) -> Value {
    let one = json!({"image": "a", "vcpus": 1, "memory": 64, "volumes": [{"name": "v"}]});
    json!({"type": "container", "containerProperties": with(one, more)})
}

#[track_caller]
fn refuses(definition: &Value, job: &Value, want: &str) {
    let found = plan_of(definition, job);
    assert_eq!(found.effective, Err(want.to_owned()), "{definition} {job}");
    assert!(found.tokens.is_empty() && found.gang.is_none(), "nothing of it is carried out");
}

/// AWS's model lets people leave out what an element of a list is nothing without.
#[test]
fn an_element_that_says_nothing_is_refused_by_name() {
    let mounts = json!([{"sourceVolume": "v", "containerPath": "/a"}, {"sourceVolume": "v"}]);
    for (member, value, want) in [
        ("mountPoints", json!([{"containerPath": "/a"}]), "mountPoints[0]: sourceVolume is required"),
        ("mountPoints", mounts, "mountPoints[1]: containerPath is required"),
        ("volumes", json!([{}]), "volumes[0]: name is required"),
        ("volumes", json!([{"name": ""}]), "volumes[0]: name is required"),
        ("environment", json!([{"value": "x"}]), "environment[0]: name is required"),
    ] {
        refuses(&definition_of_one(json!({ member: value })), &json!({}), want);
    }
    let job = json!({"containerOverrides": {"environment": [{"value": "x"}]}});
    let want = "containerOverrides: environment[0]: name is required";
    refuses(&definition_of_one(json!({})), &job, want);
    for (member, value, want) in [
        ("dependsOn", json!([{"condition": "START"}]), "dependsOn[0]: containerName is required"),
        ("mountPoints", json!([{"containerPath": "/a"}]), "mountPoints[0]: sourceVolume is required"),
    ] {
        let mut task = task("1");
        task["taskProperties"][0]["containers"][1][member] = value;
        let definition = json!({"type": "container", "ecsProperties": task});
        refuses(&definition, &json!({}), &format!("container log: {want}"));
    }
}

#[test]
fn tokens_of_no_resource_are_refused_by_name() {
    let list = json!({"consumableResourceList": [{"consumableResource": "a"}, {"quantity": 2}]});
    let stated = json!({ "consumableResourceProperties": list });
    let instead = json!({ "consumableResourcePropertiesOverride": list });
    let one = || definition_of_one(json!({}));
    let group =
        |more: Value| nodes(json!([with(json!({"targetNodes": "0:", "ecsProperties": task("1")}), more)]));
    let change = with(json!({"targetNodes": "1:"}), instead.clone());
    let changes = json!({"nodeOverrides": {"nodePropertyOverrides": [change]}});
    for (definition, job, place) in [
        (with(one(), stated.clone()), json!({}), "consumableResourceProperties"),
        (one(), instead, "consumableResourcePropertiesOverride"),
        (group(stated), json!({}), "nodeRangeProperties 0:: consumableResourceProperties"),
        (group(json!({})), changes, "nodePropertyOverrides 1:: consumableResourcePropertiesOverride"),
    ] {
        let want = format!("{place}: consumableResourceList[1]: consumableResource is required");
        refuses(&definition, &job, &want);
    }
}
