//! What processes of jobs may do: what is stated counts, the rest is filled in.

use serde_json::{Value, json};

use super::{Also, made, plan, spot};
use crate::crd::convert::Plan;

/// The environment of these tests.
fn environment(security: &str) -> Value {
    let mut environment = spot();
    if !security.is_empty() {
        environment["podSecurity"] = json!(security);
    }
    environment
}

fn pod_in(environment: Value, plan: &Plan, refuses_root: bool) -> Value {
    let environment = serde_json::from_value(environment).expect("an environment");
    let effective = plan.effective.as_ref().expect("a job that can run");
    made(&environment, effective, &Also { refuses_root, ..Also::default() })
}

/// A container, a task and a pod, of which each says these members in its own way.
fn of_each_kind(own: &Value, of_pod: &Value) -> [Plan; 3] {
    let with = |mut base: Value, more: &Value| {
        more.as_object().into_iter().flatten().for_each(|(name, value)| base[name] = value.clone());
        base
    };
    let amounts = json!([{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]);
    let container = with(json!({"image": "a", "resourceRequirements": amounts}), own);
    let of_task = with(container.clone(), &json!({"name": "a"}));
    let mut of_kubernetes =
        json!({"name": "a", "image": "a", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}});
    if *of_pod != Value::Null {
        of_kubernetes["securityContext"] = of_pod.clone();
    }
    [
        json!({ "containerProperties": container }),
        json!({"ecsProperties": {"taskProperties": [{"containers": [of_task]}]}}),
        json!({"eksProperties": {"podProperties": {"containers": [of_kubernetes]}}}),
    ]
    .map(|definition| plan(definition, json!({})))
}

fn security(pod: &Value) -> Value {
    let mut security = pod["spec"]["containers"][0]["securityContext"].clone();
    if let Some(members) = security.as_object_mut() {
        members.remove("readOnlyRootFilesystem");
    }
    security
}

/// What is filled in of a container that says nothing, and more.
fn restricted(more: Value) -> Value {
    let mut members = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}});
    more.as_object().into_iter().flatten().for_each(|(name, value)| members[name] = value.clone());
    members
}

#[test]
fn what_asks_for_nothing_special_gets_nothing_special() {
    for plan in of_each_kind(&Value::Null, &Value::Null) {
        assert_eq!(security(&pod_in(environment(""), &plan, false)), restricted(Value::Null));
        // Most images run as root, and are not to be kept from it but where nothing else can be.
        let not_root = restricted(json!({"runAsNonRoot": true}));
        assert_eq!(security(&pod_in(environment(""), &plan, true)), not_root);
        assert_eq!(security(&pod_in(environment("restricted"), &plan, false)), not_root);
    }
}

#[test]
fn a_user_who_is_stated_decides_about_root() {
    for (uid, is_root) in [("1000", false), ("0", true)] {
        let number: i64 = uid.parse().expect("a number");
        for plan in of_each_kind(&json!({"user": uid}), &json!({"runAsUser": number})) {
            for (mode, refuses_root) in [("", false), ("", true), ("restricted", false)] {
                let made = security(&pod_in(environment(mode), &plan, refuses_root));
                let want = if is_root { Value::Null } else { json!(true) };
                assert_eq!((&made["runAsUser"], &made["runAsNonRoot"]), (&json!(number), &want), "{mode}");
            }
        }
    }
}

#[test]
fn an_environment_may_give_what_aws_gives() {
    let [container, task, pod] = of_each_kind(&Value::Null, &Value::Null);
    let docker = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    for refuses_root in [false, true] {
        for plan in [&container, &task] {
            assert_eq!(security(&pod_in(environment("aws"), plan, refuses_root)), docker);
        }
        assert_eq!(security(&pod_in(environment("aws"), &pod, refuses_root)), Value::Null, "as on EKS");
    }
}

#[test]
fn what_is_privileged_has_it_all() {
    for plan in of_each_kind(&json!({"privileged": true}), &json!({"privileged": true})) {
        for mode in ["", "restricted", "aws"] {
            assert_eq!(
                security(&pod_in(environment(mode), &plan, true)),
                json!({"privileged": true}),
                "{mode}"
            );
        }
    }
}

#[test]
fn windows_has_nothing_of_this() {
    let windows = json!({"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}});
    let plan = plan(
        json!({"containerProperties": {"image": "a", "vcpus": 1, "memory": 64,
        "runtimePlatform": windows["runtimePlatform"]}}),
        json!({}),
    );
    assert_eq!(security(&pod_in(environment(""), &plan, true)), json!({}));
}

#[test]
fn what_a_pod_states_stays_as_it_is() {
    for (stated, want) in [
        (
            json!({"allowPrivilegeEscalation": true}),
            json!({"allowPrivilegeEscalation": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"}, "runAsNonRoot": true}),
        ),
        // A file's capabilities are for processes that may gain some.
        (
            json!({"capabilities": {"add": ["NET_ADMIN"]}}),
            json!({"capabilities": {"add": ["NET_ADMIN"]}, "seccompProfile": {"type": "RuntimeDefault"},
                "runAsNonRoot": true}),
        ),
        (
            json!({"capabilities": {"drop": ["NET_RAW"]}}),
            restricted(json!({"capabilities": {"drop": ["NET_RAW"]}, "runAsNonRoot": true})),
        ),
        (
            json!({"seccompProfile": {"type": "Unconfined"}, "runAsNonRoot": false}),
            restricted(json!({"seccompProfile": {"type": "Unconfined"}, "runAsNonRoot": false})),
        ),
    ] {
        let [_, _, plan] = of_each_kind(&Value::Null, &stated);
        assert_eq!(security(&pod_in(environment(""), &plan, true)), want, "{stated}");
    }
}

/// What a pod says for all of its containers is not said again.
#[test]
fn what_stands_on_a_pod_counts_for_its_containers() {
    let container =
        json!({"name": "a", "image": "a", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}});
    for (of_pod, want) in [
        (json!({"runAsUser": 1000}), restricted(json!({"runAsNonRoot": true}))),
        (json!({"runAsUser": 0}), restricted(Value::Null)),
        (json!({"runAsNonRoot": false}), restricted(Value::Null)),
        (
            json!({"seccompProfile": {"type": "Unconfined"}, "runAsNonRoot": true}),
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
        ),
    ] {
        let properties = json!({"containers": [container], "securityContext": of_pod});
        let plan = plan(json!({"eksProperties": {"podProperties": properties}}), json!({}));
        let pod = pod_in(environment(""), &plan, true);
        assert_eq!(security(&pod), want, "{of_pod}");
        assert_eq!(pod["spec"]["securityContext"], of_pod);
    }
}
