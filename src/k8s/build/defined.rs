//! From a definition as a user writes it, and a job's changes of it, to the pod.

use serde_json::{Value, json};

use super::tests::{Also, made, spot};
use crate::crd::compute_environment::Network;
use crate::crd::{ComputeEnvironmentSpec, convert};

/// The pod of a job in an environment.
fn pod_in(environment: Value, definition: &Value, job: &Value) -> Result<Value, String> {
    let mut job = job.clone();
    job["jobQueue"] = json!("q");
    let mut definition = definition.clone();
    definition["type"] = json!("container");
    let definition = serde_json::from_value(definition).expect("a definition");
    let job = serde_json::from_value(job).expect("a job");
    let plan = convert::plan(&job, &definition);
    let also = Also { session: plan.session.as_deref(), host_network: plan.host_network, ..Also::default() };
    let environment: ComputeEnvironmentSpec = serde_json::from_value(environment).expect("an environment");
    let (port, effective) = (plan.port(), plan.effective.as_ref().map_err(Clone::clone)?);
    let pod = made(&environment, effective, &also);
    // The queue gives away the port that the pod takes.
    let taken = host_port(&pod);
    let host_network = environment.network == Some(Network::Host);
    let given = port.and_then(|port| port.on_node(host_network)).map(u64::from);
    assert_eq!(taken, given, "{definition:?}");
    Ok(pod)
}

/// The port of its node that a pod takes.
fn host_port(pod: &Value) -> Option<u64> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.filter_map(|container| container.pointer("/ports/0/hostPort")?.as_u64()).next()
}

fn pod(definition: &Value, job: &Value) -> Value {
    pod_in(spot(), definition, job).expect("valid")
}

fn refusal(definition: &Value, job: &Value) -> String {
    pod_in(spot(), definition, job).expect_err("refused")
}

fn resources(vcpus: &str, memory: &str) -> Value {
    json!([{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}])
}

/// What every container is told.
const TOLD: [&str; 4] =
    ["AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JQ_NAME", "AWS_BATCH_CE_NAME"];

fn names_of_variables(container: &Value) -> Vec<&str> {
    container["env"].as_array().expect("variables").iter().filter_map(|var| var["name"].as_str()).collect()
}

fn task() -> Value {
    json!({"ecsProperties": {"taskProperties": [{
        "containers": [
            {"name": "app", "image": "app", "command": ["run", "$x"], "resourceRequirements": resources("2", "512"),
             "dependsOn": [{"containerName": "Prepare", "condition": "SUCCESS"}, {"containerName": "log"}],
             "mountPoints": [{"sourceVolume": "data", "containerPath": "/data", "readOnly": true}],
             "linuxParameters": {"sharedMemorySize": 64}, "stopTimeout": 90},
            {"name": "Prepare", "image": "tool", "essential": false, "resourceRequirements": resources("1", "256"),
             "startTimeout": 60, "mountPoints": [{"sourceVolume": "data", "containerPath": "/out"}]},
            {"name": "log", "image": "log", "essential": false, "user": "1000",
             "resourceRequirements": resources("0.25", "64"),
             "linuxParameters": {"sharedMemorySize": 32, "tmpfs": [{"containerPath": "/t", "size": 8}]},
             "environment": [{"name": "A", "value": "1"}]}
        ],
        "volumes": [{"name": "data"}, {"name": "host", "host": {"sourcePath": "/scratch"}}],
        "pidMode": "task", "taskRoleArn": "arn:aws:iam::1:role/reader"
    }]}})
}

#[test]
fn a_task_becomes_a_pod_of_its_containers() {
    let pod = pod(&task(), &json!({}));
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    let containers = spec["containers"].as_array().expect("containers");
    let names: Vec<_> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    let [prepare, "log", "app"] = names.as_slice() else {
        panic!("each after those it waits for: {names:?}")
    };
    assert_eq!(annotations["batchyard.io/vcpus-milli"], "3250");
    assert_eq!(annotations["batchyard.io/auxiliary-containers"], format!("{prepare},log"));
    assert_eq!(annotations["kubectl.kubernetes.io/default-container"], "app");
    let order: Value =
        serde_json::from_str(annotations["batchyard.io/starts-after"].as_str().expect("an order"))
            .expect("JSON");
    assert_eq!(
        order,
        json!({"app": [{"container": prepare, "until": "SUCCESS", "seconds": 60},
                       {"container": "log", "until": "START"}]})
    );
    let app = &containers[2];
    assert_eq!(app["args"], json!(["run", "$$x"]), "as the program of a job of one container gets them");
    assert_eq!(app["resources"]["requests"], json!({"cpu": "1800m", "memory": "512Mi"}));
    assert_eq!(
        app["env"].as_array().and_then(|list| list.last()),
        Some(&json!({"name": "BATCHYARD_STARTED_AFTER", "valueFrom":
            {"configMapKeyRef": {"name": "render-0f8b3c1a-2-1-order", "key": "app"}}}))
    );
    assert_eq!(names_of_variables(&containers[1]), [&["A"][..], &TOLD].concat());
    assert_eq!(containers[1]["securityContext"]["runAsUser"], 1000);
    assert_eq!(
        (&spec["shareProcessNamespace"], &spec["hostPID"], &spec["terminationGracePeriodSeconds"]),
        (&json!(true), &Value::Null, &json!(90))
    );
    assert_eq!(spec["restartPolicy"], "Never");
}

#[test]
fn volumes_of_a_task_are_shared_and_memory_is_not() {
    let pod = pod(&task(), &json!({}));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "v-data", "emptyDir": {}},
            {"name": "v-host", "hostPath": {"path": "/scratch"}},
            {"name": "tmpfs-0-1", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
            {"name": "shared-memory-1", "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}},
            {"name": "shared-memory-2", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
        ])
    );
    let mounts = |at: usize| pod["spec"]["containers"][at]["volumeMounts"].clone();
    assert_eq!(mounts(0), json!([{"name": "v-data", "mountPath": "/out"}]));
    assert_eq!(
        mounts(1),
        json!([{"name": "tmpfs-0-1", "mountPath": "/t"}, {"name": "shared-memory-1", "mountPath": "/dev/shm"}])
    );
    assert_eq!(
        mounts(2),
        json!([{"name": "v-data", "mountPath": "/data", "readOnly": true},
               {"name": "shared-memory-2", "mountPath": "/dev/shm"}])
    );
}

#[test]
fn what_a_task_shares_with_its_host() {
    for (member, mode, place) in [
        ("ipcMode", "host", "hostIPC"),
        ("pidMode", "host", "hostPID"),
        ("networkMode", "host", "hostNetwork"),
    ] {
        let mut definition = task();
        let task = &mut definition["ecsProperties"]["taskProperties"][0];
        task.as_object_mut().expect("a task").remove("pidMode");
        let without = pod(&definition, &json!({}));
        assert_eq!(without["spec"].get(place), None);
        definition["ecsProperties"]["taskProperties"][0][member] = json!(mode);
        assert_eq!(pod(&definition, &json!({}))["spec"][place], true, "{member}");
    }
}

#[test]
fn a_job_changes_containers_of_a_task_by_name() {
    let change = json!({"ecsPropertiesOverride": {"taskProperties": [{"containers": [
        {"name": "log", "command": ["tail"], "environment": [{"name": "A", "value": "2"}],
         "resourceRequirements": [{"type": "MEMORY", "value": "128"}]}]}]}});
    let pod = pod(&task(), &change);
    let log = &pod["spec"]["containers"][1];
    assert_eq!((&log["args"], &log["env"][0]["value"]), (&json!(["tail"]), &json!("2")));
    assert_eq!(log["resources"]["limits"]["memory"], "128Mi");
    for (job, want) in [
        (
            json!({"ecsPropertiesOverride": {"taskProperties": [{"containers": [{"name": "x"}]}]}}),
            "ecsPropertiesOverride: name: x is not the name of one of the containers",
        ),
        (
            json!({"containerOverrides": {"command": ["x"]}}),
            "containerOverrides: the job definition has ecsProperties, which ecsPropertiesOverride changes",
        ),
    ] {
        assert_eq!(refusal(&task(), &job), want);
    }
}

fn kubernetes() -> Value {
    json!({"eksProperties": {"podProperties": {
    "serviceAccountName": "reader", "dnsPolicy": "Default", "imagePullSecrets": [{"name": "registry"}],
    "shareProcessNamespace": true,
    "securityContext": {"runAsUser": 1000, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}},
    "metadata": {"labels": {"team": "a", "pool": "mine"}, "annotations": {"note": "x"}, "namespace": "team"},
    "initContainers": [{"name": "init", "image": "tool:latest", "args": ["$(A)"],
        "resources": {"requests": {"cpu": "4", "memory": "128Mi"}}}],
    "containers": [
        {"image": "app", "command": ["sh", "-c"], "args": ["echo $(A) $$x"],
         "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}],
         "imagePullPolicy": "Never",
         "resources": {"limits": {"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "0.5"}},
         "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": true}],
         "securityContext": {"runAsUser": 7, "runAsGroup": 8, "privileged": false,
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}},
        {"name": "helper", "image": "helper", "resources": {"limits": {"cpu": "0.25", "memory": "64Mi"}}}
    ],
    "volumes": [
        {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "host", "hostPath": {"path": "/scratch"}},
        {"name": "token", "secret": {"secretName": "s", "optional": true}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}
    ]}}})
}

#[test]
fn a_pod_passes_as_it_is_written() {
    let pod = pod(&kubernetes(), &json!({}));
    let (spec, metadata) = (&pod["spec"], &pod["metadata"]);
    let app = &spec["containers"][0];
    assert_eq!((&app["name"], &app["image"]), (&json!("default"), &json!("app")));
    assert_eq!(app["args"], json!(["echo $(A) $$x"]), "Kubernetes reads these as it does on EKS");
    assert_eq!(names_of_variables(app), [&["A", "B"][..], &TOLD].concat());
    assert_eq!(app["env"][1]["value"], "$(A)");
    assert_eq!(
        app["resources"],
        json!({"limits": {"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "0.5"}})
    );
    assert_eq!(
        app["volumeMounts"],
        json!([{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": true}])
    );
    assert_eq!(
        app["securityContext"],
        json!({"runAsUser": 7, "runAsGroup": 8, "privileged": false, "allowPrivilegeEscalation": false,
               "readOnlyRootFilesystem": true, "runAsNonRoot": true,
               "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
               "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}})
    );
    assert_eq!(names_of_variables(&spec["containers"][1]), TOLD);
    assert_eq!(names_of_variables(&spec["initContainers"][0]), TOLD);
    assert_eq!(spec["initContainers"][0]["resources"]["requests"]["cpu"], "4");
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "host", "hostPath": {"path": "/scratch"}},
            {"name": "token", "secret": {"secretName": "s", "optional": true}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}
        ])
    );
    assert_eq!(
        spec["securityContext"],
        json!({"runAsUser": 1000, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!((&spec["serviceAccountName"], &spec["dnsPolicy"]), (&json!("reader"), &json!("Default")));
    assert_eq!(spec.get("automountServiceAccountToken"), None, "who names an account acts as it");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!((&spec["shareProcessNamespace"], &spec["restartPolicy"]), (&json!(true), &json!("Never")));
    // The larger of the sum, 0.75, and the init container.
    assert_eq!(metadata["annotations"]["batchyard.io/vcpus-milli"], "4000");
    assert_eq!(metadata["annotations"]["batchyard.io/ends-with-the-last"], "true");
    assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["note"]), (&json!("a"), &json!("x")));
}

/// A definition's members for one that asks for a network, or leaves it open.
fn asks(kind: &str, asked: Option<bool>) -> Value {
    match (kind, asked) {
        ("container", _) => json!({"containerProperties": {"image": "a", "vcpus": 1, "memory": 64}}),
        ("task", _) => {
            let mut definition = task();
            let mode = if asked == Some(true) { json!("host") } else { Value::Null };
            definition["ecsProperties"]["taskProperties"][0]["networkMode"] = mode;
            definition
        }
        _ => {
            let mut definition = kubernetes();
            definition["eksProperties"]["podProperties"]["hostNetwork"] = json!(asked);
            definition["eksProperties"]["podProperties"]["dnsPolicy"] = Value::Null;
            definition
        }
    }
}

/// What the definition says counts, then its options of `docker run`, then the environment. A session's port is the node's
/// where its pod has the node's network, for the queue as in the pod.
#[test]
fn a_pod_gets_the_pod_network_unless_the_node_s_is_asked_for() {
    for (kind, asked, options, environment, want) in [
        ("container", None, false, None, false),
        ("container", None, true, None, true),
        ("container", None, false, Some("host"), true),
        ("task", None, false, None, false),
        ("task", Some(true), false, None, true),
        ("task", None, true, None, true),
        ("task", None, false, Some("host"), true),
        ("pod", None, false, None, false),
        ("pod", Some(true), false, None, true),
        ("pod", Some(false), false, None, false),
        ("pod", None, false, Some("host"), true),
        ("pod", Some(false), false, Some("host"), false),
        ("pod", None, true, None, true),
        ("pod", Some(false), true, None, false),
        ("pod", Some(false), true, Some("host"), false),
    ] {
        let told = format!("{kind} {asked:?} {options} {environment:?}");
        let mut definition = asks(kind, asked);
        if options {
            definition["parameters"] = json!({"command": "--network=host"});
        }
        let mut place = spot();
        place["network"] = json!(environment);
        let pod = pod_in(place.clone(), &definition, &json!({})).expect("valid");
        assert_eq!(pod["spec"].get("hostNetwork"), want.then_some(&json!(true)), "{told}");
        let dns = json!("ClusterFirstWithHostNet");
        assert_eq!(pod["spec"].get("dnsPolicy"), want.then_some(&dns), "{told}");
        definition["session"] = json!({"port": 8443, "address": {"type": "PodIP"}});
        let session = pod_in(place.clone(), &definition, &json!({})).expect("valid");
        assert_eq!(host_port(&session), want.then_some(8443), "{told}");
        // A job's own session has a port of its node where its definition has the node's network.
        definition.as_object_mut().expect("an object").remove("session");
        let at_node = json!({"jobDefinition": "d", "session": {"port": 8443}});
        let may = pod_in(place, &definition, &at_node).is_ok();
        assert_eq!(may, want && (asked == Some(true) || options), "{told}");
    }
}

#[test]
fn the_environment_s_labels_and_secrets_stay() {
    let mut place = spot();
    place["podDefaults"] = json!({"labels": {"pool": "theirs"}, "annotations": {"cost": "c"},
        "imagePullSecrets": [{"name": "mirror"}], "imagePullPolicy": "Always"});
    let pod = pod_in(place, &kubernetes(), &json!({})).expect("valid");
    assert_eq!(pod["metadata"]["labels"]["pool"], "theirs");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "mirror"}, {"name": "registry"}]));
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Never", "what the container says counts");
    assert_eq!(pod["spec"]["containers"][1]["imagePullPolicy"], "Always");
}

#[test]
fn a_job_changes_containers_of_a_pod_by_name() {
    let change = json!({"eksPropertiesOverride": {"podProperties": {
        "containers": [{"name": "helper", "image": "other", "command": ["x"], "args": ["y"],
            "env": [{"name": "C", "value": "3"}], "resources": {"limits": {"memory": "128Mi"}}}],
        "initContainers": [{"args": ["z"]}],
        "metadata": {"labels": {"team": "b"}, "annotations": {"run": "7"}}}}});
    let pod = pod(&kubernetes(), &change);
    let helper = &pod["spec"]["containers"][1];
    assert_eq!(
        (&helper["image"], &helper["command"], &helper["args"]),
        (&json!("other"), &json!(["x"]), &json!(["y"]))
    );
    assert_eq!(names_of_variables(helper), [&["C"][..], &TOLD].concat());
    assert_eq!(helper["resources"], json!({"limits": {"cpu": "0.25", "memory": "128Mi"}}));
    assert_eq!(pod["spec"]["initContainers"][0]["args"], json!(["z"]));
    assert_eq!(pod["metadata"]["labels"]["team"], "b");
    assert_eq!(pod["metadata"]["annotations"]["run"], "7");
    for (job, want) in [
        (
            json!({"containers": [{"image": "x"}]}),
            "eksPropertiesOverride: containers: name is required unless there is one container",
        ),
        (
            json!({"containers": [{"name": "x"}]}),
            "eksPropertiesOverride: containers: x is not the name of one of the containers",
        ),
        (
            json!({"metadata": {"labels": {"batchyard.io/attempt": "9"}}}),
            "eksProperties: metadata: batchyard.io/attempt is the operator's own and cannot be set",
        ),
    ] {
        let job = json!({"eksPropertiesOverride": {"podProperties": job}});
        assert_eq!(refusal(&kubernetes(), &job), want);
    }
}

#[test]
fn another_namespace_is_refused() {
    for (definition, job, want) in [
        (json!({}), json!({}), Ok(())),
        (json!({"namespace": "team"}), json!({}), Ok(())),
        (json!({"namespace": "other"}), json!({}), Err("other")),
        (json!({}), json!({"namespace": "other"}), Err("other")),
        (json!({"namespace": "other"}), json!({"namespace": "team"}), Ok(())),
    ] {
        let mut wire = kubernetes();
        wire["type"] = json!("container");
        wire["eksProperties"]["podProperties"]["metadata"] = definition.clone();
        let job = json!({"jobQueue": "q", "eksPropertiesOverride": {"podProperties": {"metadata": job}}});
        let plan = convert::plan(
            &serde_json::from_value(job).expect("a job"),
            &serde_json::from_value(wire).expect("a definition"),
        );
        let got = plan.check_namespace("team");
        assert_eq!(got.is_ok(), want.is_ok(), "{definition} {got:?}");
        if let (Err(got), Err(named)) = (got, want) {
            assert_eq!(
                got,
                format!(
                    "eksProperties.podProperties.metadata.namespace: the pod of a job runs in the job's own \
                     namespace, team, and not in {named}"
                )
            );
        }
    }
}

/// Everything of a pod but what a job may change.
fn beyond_the_job(pod: &Value) -> Value {
    let mut rest = pod.clone();
    for list in ["containers", "initContainers"] {
        for container in rest["spec"][list].as_array_mut().into_iter().flatten() {
            let members = container.as_object_mut().expect("a container");
            for changed in ["image", "command", "args", "env", "resources"] {
                members.remove(changed);
            }
        }
    }
    let metadata = rest["metadata"].as_object_mut().expect("metadata");
    for changed in ["labels", "annotations"] {
        metadata.remove(changed);
    }
    rest
}

/// Of labels and annotations, those that a definition or the operator states and that are not the job's to change.
fn steers(pod: &Value) -> Vec<(String, Value)> {
    let all = ["labels", "annotations"].into_iter().flat_map(|list| {
        let members = pod["metadata"][list].as_object().cloned().unwrap_or_default();
        members.into_iter().map(move |(key, value)| (format!("{list} {key}"), value))
    });
    let counts = |key: &str| key.contains("vcpus-milli");
    all.filter(|(key, _)| key.contains("batchyard.io/") || key.contains("kubernetes.io/"))
        .filter(|(key, _)| !counts(key))
        .collect()
}

mod property {
    use proptest::prelude::*;

    use super::*;

    /// Keys and names that mean something, and some that do not.
    const WORDS: [&str; 16] = [
        "",
        "app",
        "default",
        "Default",
        "helper",
        "init",
        "log",
        "Prepare",
        "team",
        "batchyard.io/job",
        "container.apparmor.security.beta.kubernetes.io/app",
        "kubernetes.io/x",
        "a.k8s.io/y",
        "nvidia.com/gpu",
        "memory",
        "privileged",
    ];

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![4 => proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned), 1 => "[a-z/.]{0,12}"]
    }

    fn map() -> impl Strategy<Value = Value> {
        let amount = prop_oneof![Just("64Mi".to_owned()), Just("0.5".to_owned()), word()];
        proptest::collection::btree_map(word(), amount, 0..3).prop_map(|map| json!(map))
    }

    fn words() -> impl Strategy<Value = Value> {
        proptest::collection::vec(word(), 0..3).prop_map(|words| json!(words))
    }

    fn pairs() -> impl Strategy<Value = Value> {
        proptest::collection::vec((word(), word()), 0..3).prop_map(|pairs| {
            let pairs = pairs.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            Value::Array(pairs.collect())
        })
    }

    fn name() -> impl Strategy<Value = Value> {
        proptest::option::weighted(0.8, word()).prop_map(|name| json!(name))
    }

    fn container_of_a_pod() -> impl Strategy<Value = Value> {
        (name(), word(), words(), words(), pairs(), map(), map()).prop_map(
            |(name, image, command, args, env, limits, requests)| {
                json!({"name": name, "image": image, "command": command, "args": args, "env": env,
                       "resources": {"limits": limits, "requests": requests}})
            },
        )
    }

    fn of_a_pod() -> impl Strategy<Value = Value> {
        let containers = || proptest::collection::vec(container_of_a_pod(), 0..2);
        let metadata = (map(), map(), proptest::option::of(word())).prop_map(
            |(labels, annotations, namespace)| {
                json!({"labels": labels, "annotations": annotations, "namespace": namespace})
            },
        );
        (containers(), containers(), metadata).prop_map(|(containers, init_containers, metadata)| {
            json!({"eksPropertiesOverride": {"podProperties": {"containers": containers,
                "initContainers": init_containers, "metadata": metadata}}})
        })
    }

    fn of_a_task() -> impl Strategy<Value = Value> {
        let amounts = proptest::collection::vec((0_usize..3, 1_u32..8), 0..2).prop_map(|list| {
            let amount = |(kind, value): (usize, u32)| {
                let kind = ["VCPU", "MEMORY", "GPU"][kind];
                json!({"type": kind, "value": value.to_string()})
            };
            Value::Array(list.into_iter().map(amount).collect())
        });
        let container = (name(), words(), pairs(), amounts).prop_map(|(name, command, environment, amounts)| {
            json!({"name": name, "command": command, "environment": environment, "resourceRequirements": amounts})
        });
        proptest::collection::vec(container, 0..3).prop_map(
            |containers| json!({"ecsPropertiesOverride": {"taskProperties": [{"containers": containers}]}}),
        )
    }

    proptest! {
        #![proptest_config(crate::cases::config(500))]

        #[test]
        fn a_job_never_gets_more_than_its_definition_grants(
            (definition, change) in prop_oneof![
                of_a_pod().prop_map(|change| (kubernetes(), change)),
                of_a_task().prop_map(|change| (task(), change)),
            ],
        ) {
            let Ok(changed) = pod_in(spot(), &definition, &change) else { return Ok(()) };
            let plain = pod(&definition, &json!({}));
            prop_assert_eq!(beyond_the_job(&changed), beyond_the_job(&plain), "{}", change);
            prop_assert_eq!(steers(&changed), steers(&plain), "{}", change);
        }
    }
}
