//! Tasks and pods: what only several members together make of them.

use serde_json::{Value, json};

use super::{plan, pod_of, spot};

fn task(more: Value) -> Value {
    let amounts = json!([{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]);
    let mut task = json!({"containers": [
        {"name": "app", "image": "a", "resourceRequirements": amounts,
         "linuxParameters": {"initProcessEnabled": true}},
    ]});
    more.as_object().into_iter().flatten().for_each(|(name, value)| task[name] = value.clone());
    json!({"ecsProperties": {"taskProperties": [task]}})
}

/// The API server refuses a pod that has both.
#[test]
fn processes_are_of_the_pod_or_of_the_node() {
    for (mode, shared, host) in [
        (Value::Null, json!(true), Value::Null),
        (json!("task"), json!(true), Value::Null),
        (json!("host"), Value::Null, json!(true)),
    ] {
        let pod = pod_of(spot(), &plan(task(json!({"pidMode": mode})), json!({})), None);
        let spec = &pod["spec"];
        assert_eq!((&spec["shareProcessNamespace"], &spec["hostPID"]), (&shared, &host), "{mode}");
    }
}

fn kubernetes(limits: Value) -> Value {
    let mut all = json!({"cpu": "1", "memory": "64Mi"});
    limits.as_object().into_iter().flatten().for_each(|(name, value)| all[name] = value.clone());
    let security = json!({"privileged": false, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}});
    json!({"eksProperties": {"podProperties": {"containers": [
        {"name": "app", "image": "a", "resources": {"limits": all}, "securityContext": security}]}}})
}

#[test]
fn gpus_of_a_pod_are_what_the_environment_says_they_are() {
    let mut amd = spot();
    amd["gpu"] = json!({"resourceName": "amd.com/gpu"});
    for (environment, limits, change, want) in [
        (spot(), json!({"nvidia.com/gpu": "1"}), json!({}), json!({"nvidia.com/gpu": "1"})),
        (amd.clone(), json!({"nvidia.com/gpu": "1"}), json!({}), json!({"amd.com/gpu": "1"})),
        (amd.clone(), json!({"amd.com/gpu": "1"}), json!({}), json!({"amd.com/gpu": "1"})),
        (amd, json!({}), json!({"nvidia.com/gpu": "2"}), json!({"amd.com/gpu": "2"})),
    ] {
        let job = json!({"eksPropertiesOverride": {"podProperties": {
            "containers": [{"resources": {"limits": change}}]}}});
        let pod = pod_of(environment, &plan(kubernetes(limits.clone()), job), None);
        let mut found = pod["spec"]["containers"][0]["resources"]["limits"].clone();
        found.as_object_mut().expect("limits").retain(|name, _| name.contains('/'));
        assert_eq!(found, want, "{limits} {change}");
    }
}

/// Whatever a job changes of a container, what decides about its privileges is what the definition says.
#[test]
fn no_change_widens_a_security_context() {
    let plain = pod_of(spot(), &plan(kubernetes(json!({})), json!({})), None);
    let job = json!({"eksPropertiesOverride": {"podProperties": {"containers": [{"image": "b", "command": ["x"],
        "args": ["y"], "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "2"}}}],
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}}});
    let changed = pod_of(spot(), &plan(kubernetes(json!({})), job), None);
    let security = |pod: &Value| pod["spec"]["containers"][0]["securityContext"].clone();
    assert_eq!(security(&changed), security(&plain));
    assert_eq!(
        security(&plain),
        json!({"privileged": false, "runAsUser": 1000, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(changed["spec"]["containers"][0]["image"], "b");
}
