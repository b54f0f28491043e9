//! Pods with a log sidecar.

use batchyard_core::logging::sidecar::{DEFAULT_BUFFER_MIB, Part, Settings, plan};
use clap::Parser;

use super::*;
use crate::k8s::build::logging::{Logging, may_be_asked};
use crate::k8s::logging::routes;
use crate::settings::LoggingSettings;

#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    logging: LoggingSettings,
}

fn awslogs() -> Value {
    json!({"logDriver": "awslogs", "options": {"awslogs-group": "/aws/batch/custom/env-queue",
        "awslogs-region": "us-east-1", "awslogs-stream-prefix": "custom/env"}})
}

fn splunk() -> Value {
    json!({"logDriver": "splunk", "options": {"splunk-url": "https://splunk.example:8088"},
        "secretOptions": [{"name": "splunk-token", "valueFrom": "splunk:token"},
            {"name": "splunk-capath", "valueFrom": "splunk:ca.crt"}]})
}

/// The pod of a job of one container with this configuration, and with more members, in an environment.
fn pod_with(logging: Value, more: Value, environment: Value) -> Value {
    let mut container = json!({"image": "busybox", "vcpus": 1, "memory": 64, "logConfiguration": logging});
    more.as_object().into_iter().flatten().for_each(|(name, value)| container[name] = value.clone());
    let job = super::plan(json!({"containerProperties": container}), json!({}));
    pod_of_job(job.effective.as_ref().expect("valid"), environment)
}

fn pod_of_job(effective: &Effective, environment: Value) -> Value {
    pod_of_operator(effective, environment, &[])
}

/// The same, made by an operator that was started with these arguments.
fn pod_of_operator(effective: &Effective, environment: Value, arguments: &[&str]) -> Value {
    let spec: ComputeEnvironmentSpec = serde_json::from_value(environment).expect("an environment");
    let queue = serde_json::from_value(json!({"priority": 1})).expect("a queue");
    let routed = routes(effective, ("queue-0", &queue), ("compute-0", &spec)).expect("allowed");
    let source = crate::crd::convert::logging::source(&spec);
    let stated = spec.logging.as_ref().and_then(|logging| logging.buffer_mi_b);
    let buffer_mib = stated.map_or(DEFAULT_BUFFER_MIB, |mib| mib.unsigned_abs().into());
    let how = Settings { source, buffer_mib, grace_seconds: 20, tells_health: true };
    let sidecar = plan(&Logging::members(&routed), Part::Whole, &how).expect("a sidecar");
    let awslogs = spec.logging.as_ref().and_then(|logging| logging.awslogs.as_ref());
    let logging = Logging {
        routed,
        part: Part::Whole,
        source,
        sidecar,
        secret: "batchyard-log-0".to_owned(),
        credentials_secret: awslogs.and_then(|awslogs| awslogs.credentials_secret.clone()),
        settings: Defaults::parse_from(["test"].iter().chain(arguments)).logging,
    };
    made(&spec, effective, &Also { logs: Logs::Routed(&logging), ..Also::default() })
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn optional(name: &str, secret: &str, key: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": true}}})
}

#[test]
fn a_pod_that_logs_to_cloudwatch() {
    let mut place = spot();
    place["logging"] = json!({"awslogs": {"credentialsSecret": "aws"}});
    let pod = pod_with(awslogs(), json!({}), place);
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    assert_eq!(annotations["batchyard.io/log-driver"], "awslogs");
    assert_eq!(annotations["batchyard.io/log-group"], "/aws/batch/custom/env-queue");
    assert_eq!(annotations["batchyard.io/log-stream"], "custom/env/default/render-0f8b3c1a-2-1");
    let all = spec["initContainers"].as_array().expect("init containers");
    let [sidecar] = all.as_slice() else { panic!("one: {all:?}") };
    let told = |name: &str, value: &str| json!({"name": name, "value": value});
    let id = "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e";
    let own = "$(BATCHYARD_POD_NAMESPACE)_$(BATCHYARD_POD_NAME)_$(BATCHYARD_POD_UID)";
    assert_eq!(
        *sidecar,
        json!({
            "name": "batchyard-log",
            "image": "docker.io/fluent/fluent-bit:5.1.1",
            "args": ["--config=/batchyard/config/fluent-bit.yaml"],
            "restartPolicy": "Always",
            "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
            "readinessProbe": {"httpGet": {"path": "/api/v1/health", "port": 24226}, "periodSeconds": 10,
                "failureThreshold": 6, "timeoutSeconds": 5},
            "env": [
                field("BATCHYARD_POD_NAMESPACE", "metadata.namespace"),
                field("BATCHYARD_POD_NAME", "metadata.name"),
                field("BATCHYARD_POD_UID", "metadata.uid"),
                field("BATCHYARD_NODE", "spec.nodeName"),
                field("BATCHYARD_POD_IP", "status.podIP"),
                told("BATCHYARD_JOB_ID", id),
                told("BATCHYARD_JOB_NAME", "render"),
                told("BATCHYARD_QUEUE", "queue-0"),
                told("BATCHYARD_DEFINITION", "randomEC:3"),
                told("BATCHYARD_ATTEMPT", "2"),
                told("BATCHYARD_STREAM_0", "custom/env/default/render-0f8b3c1a-2-1"),
                optional("AWS_ACCESS_KEY_ID", "aws", "AWS_ACCESS_KEY_ID"),
                optional("AWS_SECRET_ACCESS_KEY", "aws", "AWS_SECRET_ACCESS_KEY"),
                optional("AWS_SESSION_TOKEN", "aws", "AWS_SESSION_TOKEN"),
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [
                {"name": "batchyard-log-config", "mountPath": "/batchyard/config", "readOnly": true},
                {"name": "batchyard-log-pods", "mountPath": "/batchyard/logs", "readOnly": true, "subPathExpr": own},
                {"name": "batchyard-log-buffer", "mountPath": "/batchyard/buffer"},
            ],
            "securityContext": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
        })
    );
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "batchyard-log-config", "secret": {"secretName": "batchyard-log-0", "optional": true,
                "defaultMode": 0o400, "items": [{"key": "fluent-bit.yaml", "path": "fluent-bit.yaml"}]}},
            {"name": "batchyard-log-pods", "hostPath": {"path": "/var/log/pods"}},
            {"name": "batchyard-log-buffer", "emptyDir": {"sizeLimit": "576Mi"}},
        ])
    );
    assert_eq!(
        spec["containers"][0]["resources"]["requests"]["cpu"], "890m",
        "the sidecar's is taken out of it"
    );
    assert_eq!(spec["terminationGracePeriodSeconds"], 30 + 10 + 20 + 2);
}

#[test]
fn the_kubelet_asks_no_sidecar_of_a_session_or_on_the_node_s_network() {
    let (pod, host) = (json!({"type": "MANAGED"}), json!({"type": "MANAGED", "network": "host"}));
    for (environment, job, want) in [
        (&pod, json!({}), true),
        (&host, json!({}), false),
        (&pod, json!({"session": {"port": 8080}}), false),
    ] {
        let spec: ComputeEnvironmentSpec =
            serde_json::from_value(environment.clone()).expect("an environment");
        let mut job = job;
        job["containerProperties"] =
            json!({"image": "busybox", "vcpus": 1, "memory": 64, "logConfiguration": splunk()});
        let plan = super::plan(job.clone(), json!({}));
        let asked = may_be_asked(&plan, plan.effective.as_ref().expect("valid"), &spec);
        assert_eq!(asked, want, "{job} {environment}");
    }
}

#[test]
fn a_pod_that_logs_to_splunk_waits_for_no_secret() {
    let pod = pod_with(splunk(), json!({}), spot());
    let sidecar = &pod["spec"]["initContainers"][0];
    let env = sidecar["env"].as_array().expect("variables");
    assert!(env.contains(&optional("BATCHYARD_SECRET_0", "splunk", "token")), "{env:?}");
    assert!(!env.iter().any(|one| one["name"] == "AWS_ACCESS_KEY_ID"));
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    assert_eq!(
        *volumes.last().expect("one"),
        json!({"name": "batchyard-log-certificates", "projected": {"defaultMode": 0o400, "sources": [
            {"secret": {"name": "splunk", "optional": true, "items": [{"key": "ca.crt", "path": "0.pem"}]}}]}})
    );
    assert_eq!(pod["metadata"]["annotations"]["batchyard.io/log-stream"], Value::Null);
    let plain = json!({"logDriver": "splunk", "options":
        {"splunk-url": "https://splunk.example:8088", "splunk-token": "B5A79AAD"}});
    let pod = pod_with(plain, json!({}), spot());
    assert!(!pod.to_string().contains("B5A79AAD"), "{pod}");
    let env = pod["spec"]["initContainers"][0]["env"].as_array().expect("variables").clone();
    assert!(
        env.contains(&optional("BATCHYARD_SECRET_0", "batchyard-log-0", "BATCHYARD_SECRET_0")),
        "{env:?}"
    );
}

#[test]
fn what_the_node_has_is_given_by_folder() {
    let files = json!({"logDriver": "json-file"});
    let mut place = spot();
    place["logging"] = json!({"allowedDrivers": ["json-file"]});
    let pod = pod_with(files, json!({}), place);
    let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array().expect("mounts").clone();
    let own = "$(BATCHYARD_POD_NAMESPACE)_$(BATCHYARD_POD_NAME)_$(BATCHYARD_POD_UID)";
    assert_eq!(
        mounts[3],
        json!({"name": "batchyard-log-files", "mountPath": "/batchyard/files", "subPathExpr": own})
    );
    assert_eq!(pod["spec"]["volumes"][3]["hostPath"]["path"], "/var/log/batchyard");
    let mut place = spot();
    place["logging"] = json!({"allowedHosts": ["unix:///run/fluent/socket"]});
    let socket = json!({"logDriver": "fluentd", "options": {"fluentd-address": "unix:///run/fluent/socket"}});
    let pod = pod_with(socket, json!({}), place);
    let volume = &pod["spec"]["volumes"][3];
    assert_eq!(
        (&volume["name"], &volume["hostPath"]["path"]),
        (&json!("batchyard-log-socket-0"), &json!("/run/fluent"))
    );
    let mount = &pod["spec"]["initContainers"][0]["volumeMounts"][3];
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!("/batchyard/sockets/0"), &json!(true)));
}

#[test]
fn the_sidecar_s_disk_is_not_the_job_s_and_cpu_has_a_limit_where_all_have() {
    let mut place = spot();
    place["cpuLimit"] = json!(true);
    let pod = pod_with(awslogs(), json!({"ephemeralStorage": {"sizeInGiB": 21}}), place);
    assert_eq!(
        pod["spec"]["initContainers"][0]["resources"],
        json!({"requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "1Mi"},
            "limits": {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "640Mi"}})
    );
    let multiline = json!({"logDriver": "awslogs", "options": {"awslogs-region": "r", "awslogs-multiline-pattern": "^x"}});
    let pod = pod_with(multiline, json!({}), spot());
    assert_eq!(pod["spec"]["initContainers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 13);
}

#[test]
fn it_reads_on_for_as_long_as_the_operator_was_told() {
    let container = json!({"image": "busybox", "vcpus": 1, "memory": 64, "logConfiguration": awslogs()});
    let job = super::plan(json!({"containerProperties": container}), json!({}));
    let effective = job.effective.as_ref().expect("valid");
    for seconds in [0_u64, 3, 60] {
        let argument = format!("--log-pre-stop-seconds={seconds}");
        let pod = pod_of_operator(effective, spot(), &[&argument]);
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(sidecar["lifecycle"]["preStop"]["sleep"]["seconds"], seconds);
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30 + seconds + 20 + 2);
    }
}

#[test]
fn it_comes_before_the_init_containers_of_a_pod_and_reads_them_too() {
    let container = |name: &str| json!({"name": name, "image": "i", "resources": {"limits": {"cpu": "0.25", "memory": "64Mi"}}});
    let pod = json!({"containers": [container("app")], "initContainers": [container("first")],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000}});
    let job = super::plan(json!({"eksProperties": {"podProperties": pod}}), json!({}));
    let mut place = spot();
    place["logging"] = json!({"logConfiguration": {"logDriver": "stdout"}});
    let pod = pod_of_job(job.effective.as_ref().expect("valid"), place);
    let inits: Vec<_> = pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(inits, ["batchyard-log", "first"]);
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "0.25",
        "Kubernetes' amounts stay"
    );
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsNonRoot"], false);
}

#[test]
fn a_pod_without_its_sidecar_says_why() {
    let spec = serde_json::from_value(spot()).expect("an environment");
    let job = effective(Properties::default());
    let pod = made(&spec, &job, &Also { logs: Logs::Unrouted("Because."), ..Also::default() });
    assert_eq!(pod["metadata"]["annotations"]["batchyard.io/logs-not-routed"], "Because.");
    assert_eq!(pod["spec"]["initContainers"], Value::Null);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
}

fn by_api() -> Value {
    let mut place = spot();
    place["logging"] = json!({"source": "API"});
    place
}

#[test]
fn a_pod_whose_output_is_followed_through_the_api() {
    let pod = pod_with(splunk(), json!({}), by_api());
    let spec = &pod["spec"];
    let [sidecar, follower] = spec["initContainers"].as_array().expect("init containers").as_slice() else {
        panic!("two: {spec}")
    };
    let security = json!({"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": true, "privileged": false,
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(sidecar["name"], "batchyard-log");
    assert_eq!(sidecar["securityContext"], security);
    assert_eq!(sidecar["lifecycle"], Value::Null, "the helper's end is the end of what it reads");
    let paths = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().expect("mounts").iter();
        mounts.map(|mount| mount["mountPath"].as_str().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(sidecar), ["/batchyard/config", "/batchyard/buffer", "/batchyard/certificates"]);
    let image = concat!("docker.io/batchyard/batchyard:", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        *follower,
        json!({
            "name": "batchyard-log-follow",
            "image": image,
            "args": ["log-follow", "--socket=/batchyard/buffer/forward.sock", "--state=/batchyard/buffer",
                "--reads-seconds=10", "--settle-seconds=0", "--container=default"],
            "restartPolicy": "Always",
            "env": [field("BATCHYARD_POD_NAMESPACE", "metadata.namespace"), field("BATCHYARD_POD_NAME", "metadata.name")],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "volumeMounts": [
                {"name": "batchyard-log-buffer", "mountPath": "/batchyard/buffer"},
                {"name": "batchyard-log-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                    "readOnly": true},
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": security,
        })
    );
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "batchyard-log-config", "secret": {"secretName": "batchyard-log-0", "optional": true,
                "defaultMode": 0o444, "items": [{"key": "fluent-bit.yaml", "path": "fluent-bit.yaml"}]}},
            {"name": "batchyard-log-buffer", "emptyDir": {"sizeLimit": "576Mi"}},
            {"name": "batchyard-log-certificates", "projected": {"defaultMode": 0o444, "sources": [
                {"secret": {"name": "splunk", "optional": true, "items": [{"key": "ca.crt", "path": "0.pem"}]}}]}},
            {"name": "batchyard-log-token", "projected": {"defaultMode": 0o444, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace",
                    "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
        ])
    );
    assert_eq!(spec["automountServiceAccountToken"], false, "the job's own container gets none");
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "880m", "both are taken out of it");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30 + 10 + 20 + 2);
}

#[test]
fn a_helper_waits_for_records_of_several_lines_and_has_limits_where_all_have() {
    let mut place = by_api();
    place["cpuLimit"] = json!(true);
    let multiline = json!({"logDriver": "awslogs", "options": {"awslogs-region": "r", "awslogs-multiline-pattern": "^x"}});
    let pod = pod_with(multiline, json!({"ephemeralStorage": {"sizeInGiB": 21}}), place);
    let follower = &pod["spec"]["initContainers"][1];
    assert!(follower["args"].to_string().contains("--settle-seconds=3"), "{follower}");
    assert_eq!(
        follower["resources"],
        json!({"requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "1Mi"},
            "limits": {"cpu": "1", "memory": "128Mi", "ephemeral-storage": "16Mi"}})
    );
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30 + 13 + 20 + 2);
}

/// A pod whose job could look into its sidecar has none that has something to find.
#[test]
fn a_pod_whose_processes_are_shared_has_no_sidecar_with_secrets() {
    let resources = json!([{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]);
    let task = |mode: Option<&str>, init: bool, logging: &Value| {
        let container = json!({"name": "app", "image": "i", "resourceRequirements": resources,
            "linuxParameters": {"initProcessEnabled": init}, "logConfiguration": logging});
        json!({"ecsProperties": {"taskProperties": [{"pidMode": mode, "containers": [container]}]}})
    };
    let only = |init: bool, logging: &Value| {
        json!({"containerProperties": {"image": "i", "vcpus": 1, "memory": 64,
            "linuxParameters": {"initProcessEnabled": init}, "logConfiguration": logging}})
    };
    let limits = json!({"limits": {"cpu": "1", "memory": "64Mi"}});
    let pod = |share: bool, _: &Value| {
        json!({"eksProperties": {"podProperties": {"shareProcessNamespace": share,
            "containers": [{"name": "app", "image": "i", "resources": limits}]}}})
    };
    let (tells, plain) = (splunk(), json!({"logDriver": "stdout"}));
    let (folder, api) = (json!({}), json!({"source": "API"}));
    let aws = json!({"awslogs": {"credentialsSecret": "aws"}});
    let files = json!({"allowedDrivers": ["*"]});
    for (logging, environment, is_secret) in [
        (&plain, &folder, false),
        (&plain, &api, true),
        (&tells, &folder, true),
        (&tells, &api, true),
        (&awslogs(), &folder, false),
        (&awslogs(), &aws, true),
        (&json!({"logDriver": "json-file"}), &files, true),
    ] {
        for (definition, shared) in [
            (only(false, logging), None),
            (only(true, logging), Some("initProcessEnabled")),
            (task(None, false, logging), None),
            (task(None, true, logging), Some("initProcessEnabled")),
            (task(Some("task"), false, logging), Some("pidMode")),
            (task(Some("host"), false, logging), Some("pidMode")),
            (pod(false, logging), None),
            (pod(true, logging), Some("shareProcessNamespace")),
        ] {
            let mut place = spot();
            place["logging"] = environment.clone();
            place["logging"]["logConfiguration"] = logging.clone();
            let job = super::plan(definition.clone(), json!({}));
            let made = pod_of_job(job.effective.as_ref().expect("valid"), place);
            let (spec, annotations) = (&made["spec"], &made["metadata"]["annotations"]);
            let sees = spec["shareProcessNamespace"] == true || spec["hostPID"] == true;
            assert_eq!(sees, shared.is_some(), "{definition}");
            let has_sidecar = spec.to_string().contains("batchyard-log");
            assert_eq!(has_sidecar, !(sees && is_secret), "{definition} {environment}: {spec}");
            let why = annotations["batchyard.io/logs-not-routed"].as_str();
            assert_eq!(why.is_none(), has_sidecar, "{definition} {environment}");
            assert_eq!(annotations["batchyard.io/log-driver"].is_string(), has_sidecar, "{annotations}");
            if let Some(why) = why {
                assert!(shared.is_some_and(|member| why.contains(member)), "{definition}: {why}");
                assert_eq!(spec["terminationGracePeriodSeconds"], 30);
            }
        }
    }
}

#[test]
fn a_buffer_is_large_enough_for_all_containers_and_what_is_cut_is_told() {
    let container = |name: &str, size: &str| {
        json!({"name": name, "image": "i", "logConfiguration": {"logDriver": "stdout", "options": {"max-buffer-size": size}},
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]})
    };
    let containers = ["a", "b", "c", "d"].map(|name| container(name, if name == "c" { "9m" } else { "8m" }));
    let job = json!({"ecsProperties": {"taskProperties": [{"containers": containers}]}});
    let job = super::plan(job, json!({}));
    let mut place = spot();
    place["logging"] = json!({"bufferMiB": 8});
    let pod = pod_of_job(job.effective.as_ref().expect("valid"), place);
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let buffer = volumes.iter().find(|one| one["name"] == "batchyard-log-buffer").expect("a buffer");
    assert_eq!(buffer["emptyDir"]["sizeLimit"], "128Mi", "twice 32 MiB, and 64");
    assert_eq!(
        pod["metadata"]["annotations"]["batchyard.io/log-buffer"],
        "max-buffer-size of container c is 9 MiB, of which logging.bufferMiB of ComputeEnvironment compute-0 leaves 8 MiB"
    );
    let pod = pod_with(json!({"logDriver": "stdout"}), json!({}), spot());
    assert_eq!(pod["metadata"]["annotations"]["batchyard.io/log-buffer"], Value::Null);
}
