//! Each member of containerProperties, from the definition's JSON to the pod's. What has no effect is named in
//! `FieldsIgnored`, and the last test of this page holds the two lists against each other.

use std::collections::BTreeSet;

use batchyard_core::name::slug;
use serde_json::{Value, json};

use super::{plan, pod_of, spot};
use crate::crd::ignored::{Kind, ignored_fields};

/// The pod of a job of this container, on nodes that are existing ones, or as the environment says.
fn pod(container: Value, environment: Value) -> Value {
    let mut properties = json!({"image": "alpine", "vcpus": 1, "memory": 64});
    container.as_object().into_iter().flatten().for_each(|(name, value)| properties[name] = value.clone());
    let mut spec = spot();
    environment.as_object().into_iter().flatten().for_each(|(name, value)| spec[name] = value.clone());
    let plan = plan(json!({"containerProperties": properties}), Value::Null);
    pod_of(spec, &plan, None)
}

/// What stands at a place of the pod; `Null` where nothing does.
fn at(pod: &Value, place: &str) -> Value {
    pod.pointer(place).cloned().unwrap_or_default()
}

const CONTAINER: &str = "/spec/containers/0";

#[test]
fn members_of_a_container() {
    let manager = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";
    let secrets = json!([
        {"name": "PASSWORD", "valueFrom": format!("{manager}Run_DCV_in_Batch-AbCdEf:user001::")},
        {"name": "TOKEN", "valueFrom": "/team/token"},
    ]);
    let of_secret = |name: &str, secret: &str, key: &str| {
        json!({"name": name,
        "valueFrom": {"secretKeyRef": {"name": slug(secret), "key": key}}})
    };
    let credentials = json!({"credentialsParameter": format!("{manager}registry-AbCdEf")});
    for (member, value, place, want) in [
        ("image", json!("a:1"), "/image", json!("a:1")),
        ("command", json!(["a", "$b"]), "/args", json!(["a", "$$b"])),
        ("vcpus", json!(2), "/resources/requests/cpu", json!("1800m")),
        ("memory", json!(128), "/resources/limits/memory", json!("128Mi")),
        ("environment", json!([{"name": "A", "value": "1"}]), "/env/0", json!({"name": "A", "value": "1"})),
        ("secrets", secrets.clone(), "/env/0", of_secret("PASSWORD", "Run_DCV_in_Batch", "user001")),
        ("secrets", secrets, "/env/1", of_secret("TOKEN", "team/token", "value")),
        ("readonlyRootFilesystem", json!(true), "/securityContext/readOnlyRootFilesystem", json!(true)),
        ("privileged", json!(true), "/securityContext/privileged", json!(true)),
        ("user", json!("1000:100"), "/securityContext/runAsUser", json!(1000)),
        ("user", json!("1000:100"), "/securityContext/runAsGroup", json!(100)),
        ("user", json!("root"), "/securityContext/runAsUser", json!(0)),
        ("user", json!("nobody"), "/securityContext/runAsUser", json!(65_534)),
        ("user", json!("www-data"), "/securityContext/runAsUser", Value::Null),
        ("enableExecuteCommand", json!(true), "/stdin", Value::Null),
        ("ephemeralStorage", json!({"sizeInGiB": 21}), "/resources/limits/ephemeral-storage", json!("21Gi")),
        (
            "ephemeralStorage",
            json!({"sizeInGiB": 21}),
            "/resources/requests/ephemeral-storage",
            json!("21Gi"),
        ),
    ] {
        let made = pod(json!({ member: value }), Value::Null);
        assert_eq!(at(&made, &format!("{CONTAINER}{place}")), want, "{member} {value}");
    }
    for (member, value, place, want) in [
        ("repositoryCredentials", credentials, "/spec/imagePullSecrets", json!([{"name": "registry"}])),
        (
            "runtimePlatform",
            json!({"cpuArchitecture": "ARM64"}),
            "/spec/nodeSelector",
            json!({"kubernetes.io/arch": "arm64"}),
        ),
        (
            "runtimePlatform",
            json!({"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"}),
            "/spec/nodeSelector",
            json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}),
        ),
        (
            "runtimePlatform",
            json!({"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}),
            "/spec/nodeSelector",
            json!({"kubernetes.io/os": "windows", "node.kubernetes.io/windows-build": "10.0.20348"}),
        ),
        ("linuxParameters", json!({"initProcessEnabled": true}), "/spec/shareProcessNamespace", json!(true)),
        ("linuxParameters", json!({"initProcessEnabled": false}), "/spec/shareProcessNamespace", Value::Null),
        ("linuxParameters", json!({"maxSwap": 0}), "/spec/volumes", Value::Null),
    ] {
        let made = pod(json!({ member: value }), Value::Null);
        assert_eq!(at(&made, place), want, "{member} {value}");
    }
}

#[test]
fn limits_are_told_to_the_runtime() {
    let limits = json!([{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}]);
    let made = pod(json!({ "ulimits": limits }), Value::Null);
    let told = at(&made, "/metadata/annotations/ulimits.nri.containerd.io~1container.default");
    let read: Value = serde_json::from_str(told.as_str().expect("an annotation")).expect("JSON");
    assert_eq!(read, json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]));
}

#[test]
fn volumes_of_each_kind() {
    let efs = |more: Value| {
        let mut efs = json!({"fileSystemId": "fs-0123abcd"});
        more.as_object().into_iter().flatten().for_each(|(name, value)| efs[name] = value.clone());
        json!({ "efsVolumeConfiguration": efs })
    };
    let s3 = "arn:aws:s3files:eu-west-1:123456789012:file-system/fs-9";
    let claim = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
    for (volume, want, folder) in [
        (json!({}), json!({"emptyDir": {}}), Value::Null),
        (json!({"host": {}}), json!({"emptyDir": {}}), Value::Null),
        (json!({"host": {"sourcePath": "/data"}}), json!({"hostPath": {"path": "/data"}}), Value::Null),
        (efs(json!({})), claim("fs-0123abcd"), Value::Null),
        (efs(json!({"rootDirectory": "/"})), claim("fs-0123abcd"), Value::Null),
        (efs(json!({"rootDirectory": "/team/a/"})), claim("fs-0123abcd"), json!("team/a")),
        (
            efs(json!({"authorizationConfig": {"accessPointId": "fsap-1", "iam": "ENABLED"}})),
            claim("fs-0123abcd-fsap-1"),
            Value::Null,
        ),
        (
            json!({"s3filesVolumeConfiguration": {"fileSystemArn": s3, "rootDirectory": "/x"}}),
            claim("fs-9"),
            json!("x"),
        ),
    ] {
        let mut named = volume.clone();
        named["name"] = json!("data");
        let mounts = json!([{"sourceVolume": "data", "containerPath": "/in", "readOnly": true}]);
        let made = pod(json!({"volumes": [named], "mountPoints": mounts}), Value::Null);
        let mut want = want;
        want["name"] = json!("v-data");
        assert_eq!(at(&made, "/spec/volumes/0"), want, "{volume}");
        let mount = at(&made, &format!("{CONTAINER}/volumeMounts/0"));
        let mut expected = json!({"name": "v-data", "mountPath": "/in", "readOnly": true});
        if folder != Value::Null {
            expected["subPath"] = folder;
        }
        assert_eq!(mount, expected, "{volume}");
    }
}

#[test]
fn file_systems_in_memory() {
    let tmpfs = json!([
        {"containerPath": "/run", "size": 64, "mountOptions": ["rw", "relatime"]},
        {"containerPath": "/fixed", "size": 1, "mountOptions": ["ro"]},
    ]);
    let made = pod(json!({"linuxParameters": {"tmpfs": tmpfs, "sharedMemorySize": 512}}), Value::Null);
    let memory =
        |name: &str, size: &str| json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}});
    assert_eq!(
        at(&made, "/spec/volumes"),
        json!([memory("tmpfs-0", "64Mi"), memory("tmpfs-1", "1Mi"), memory("shared-memory", "512Mi")])
    );
    assert_eq!(
        at(&made, &format!("{CONTAINER}/volumeMounts")),
        json!([
            {"name": "tmpfs-0", "mountPath": "/run"},
            {"name": "tmpfs-1", "mountPath": "/fixed", "readOnly": true},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ])
    );
}

#[test]
fn devices_of_nodes() {
    let fuse = json!({"hostPath": "/dev/fuse"});
    let moved = json!({"hostPath": "/dev/kvm", "containerPath": "/dev/machine"});
    let plugins = json!({"devices": {"/dev/fuse": "squat.ai/fuse", "/dev/kvm": "squat.ai/fuse"}});
    for (privileged, environment, limit, mounted) in [
        (false, Value::Null, Value::Null, 0),
        (true, Value::Null, Value::Null, 1),
        (false, plugins.clone(), json!("1"), 0),
        (true, plugins, json!("1"), 0),
    ] {
        let linux = json!({"devices": [fuse, moved]});
        let made = pod(json!({"linuxParameters": linux, "privileged": privileged}), environment.clone());
        assert_eq!(
            at(&made, &format!("{CONTAINER}/resources/limits/squat.ai~1fuse")),
            limit,
            "{environment}"
        );
        let mounts = at(&made, &format!("{CONTAINER}/volumeMounts"));
        assert_eq!(mounts.as_array().map_or(0, Vec::len), mounted, "{privileged} {environment}");
        if mounted > 0 {
            assert_eq!(mounts[0]["mountPath"], "/dev/machine", "what is in its place needs no mount");
            assert_eq!(at(&made, "/spec/volumes/0/hostPath/path"), "/dev/kvm");
        }
    }
}

#[test]
fn gpus_are_what_the_environment_says() {
    let gpus = json!({"resourceRequirements": [{"type": "GPU", "value": "2"}]});
    for (gpu, resource, class) in [
        (Value::Null, "nvidia.com/gpu", "pods"),
        (json!({}), "nvidia.com/gpu", "pods"),
        (json!({"resourceName": "amd.com/gpu"}), "amd.com/gpu", "pods"),
        (
            json!({"resourceName": "nvidia.com/mig-1g.5gb", "runtimeClassName": "nvidia"}),
            "nvidia.com/mig-1g.5gb",
            "nvidia",
        ),
    ] {
        let environment = json!({"gpu": gpu, "podDefaults": {"runtimeClassName": "pods"}});
        let made = pod(gpus.clone(), environment.clone());
        for list in ["limits", "requests"] {
            let amounts = at(&made, &format!("{CONTAINER}/resources/{list}"));
            assert_eq!(amounts[resource], "2", "{gpu}");
            let named = amounts.as_object().expect("amounts").keys().filter(|name| name.contains('/'));
            assert_eq!(named.count(), 1, "{amounts}");
        }
        let without = pod(json!({}), environment);
        for made in [&made, &without] {
            assert_eq!(at(made, "/spec/runtimeClassName"), class, "{gpu}");
            let tolerations = at(made, "/spec/tolerations");
            let tolerates = tolerations.as_array().into_iter().flatten().any(|t| t["key"] == resource);
            assert_eq!(tolerates, gpu != Value::Null, "jobs without GPUs too: {tolerations}");
        }
        assert_eq!(
            at(&without, &format!("{CONTAINER}/resources/limits/{}", resource.replace('/', "~1"))),
            Value::Null
        );
    }
}

#[test]
fn parameters_stand_in_for_references() {
    let container =
        json!({"image": "a", "vcpus": 1, "memory": 64, "command": ["Ref::codec", "--in=Ref::in"]});
    let definition = json!({"containerProperties": container, "parameters": {"codec": "mp4", "unused": "x"}});
    let args = |job: Value| {
        let plan = plan(definition.clone(), job);
        plan.effective.clone().map(|_| at(&pod_of(spot(), &plan, None), &format!("{CONTAINER}/args")))
    };
    assert_eq!(args(json!({"parameters": {"in": "a$b"}})), Ok(json!(["mp4", "--in=a$$b"])));
    assert_eq!(args(json!({"parameters": {"in": "a", "codec": "webm"}})), Ok(json!(["webm", "--in=a"])));
    let overrides = json!({"containerOverrides": {"command": ["only", "Ref::codec"]}});
    assert_eq!(args(overrides), Ok(json!(["only", "mp4"])), "what was replaced needs no parameter");
    let missing = "Unable to substitute value. No parameter found for reference in".to_owned();
    assert_eq!(args(Value::Null), Err(missing));
}

#[test]
fn each_group_of_nodes_has_the_job_s_parameters() {
    let group = |target: &str, command: Value| {
        json!({"targetNodes": target,
        "container": {"image": "a", "vcpus": 1, "memory": 64, "command": command}})
    };
    let groups = json!([group("0", json!(["main", "Ref::x"])), group("1:", json!(["Ref::x"]))]);
    let definition = json!({"type": "multinode", "parameters": {"x": "1", "y": "2"},
        "nodeProperties": {"numNodes": 3, "mainNode": 0, "nodeRangeProperties": groups}});
    let change = json!([{"targetNodes": "2", "containerOverrides": {"command": ["Ref::y", "Ref::x"]}}]);
    let job = json!({"parameters": {"x": "9"}, "nodeOverrides": {"nodePropertyOverrides": change}});
    let changed = plan(definition.clone(), job);
    for (node, want) in [(0, json!(["main", "9"])), (1, json!(["9"])), (2, json!(["2", "9"]))] {
        assert_eq!(
            at(&pod_of(spot(), &changed, Some(node)), &format!("{CONTAINER}/args")),
            want,
            "node {node}"
        );
    }
    let mut lacking = definition;
    lacking["parameters"] = json!({"y": "2"});
    let why = plan(lacking, Value::Null).effective.expect_err("no value");
    assert_eq!(why, "Unable to substitute value. No parameter found for reference x");
}

#[test]
fn tags_reach_the_pod_if_they_are_handed_on() {
    let container = json!({"image": "a", "vcpus": 1, "memory": 64});
    let definition = json!({"containerProperties": container, "tags": {"team": "render", "note": "a b"}});
    for (hands_on, tags) in [(false, 0), (true, 3)] {
        let plan =
            plan(definition.clone(), json!({"tags": {"team": "hpc", "x": "1"}, "propagateTags": hands_on}));
        let metadata = pod_of(spot(), &plan, None)["metadata"].clone();
        let annotations = metadata["annotations"].as_object().expect("annotations");
        let of_tags = annotations.keys().filter(|key| key.starts_with("tags.batchyard.io/"));
        assert_eq!(of_tags.count(), tags);
        let label = metadata["labels"].get("tags.batchyard.io/team");
        assert_eq!(label, hands_on.then(|| json!("hpc")).as_ref(), "the job's come first");
        assert_eq!(metadata["labels"].get("tags.batchyard.io/note"), None, "a label's value has no spaces");
    }
}

#[test]
fn fargate_has_its_sizes() {
    let sized = |memory: &str| {
        let requirements = json!([{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": memory}]);
        let container = json!({"image": "a", "resourceRequirements": requirements});
        let definition = json!({"containerProperties": container, "platformCapabilities": ["FARGATE"]});
        plan(definition, Value::Null).effective.map(|effective| effective.amounts.memory_mib)
    };
    assert_eq!(sized("512"), Ok(512));
    assert_eq!(sized("64"), Err("Fargate resource requirements (0.25 vCPU, 64 MiB) not valid.".to_owned()));
}

#[test]
fn a_value_that_names_no_secret_is_told() {
    for (member, value, want) in [
        (
            "secrets",
            json!([{"name": "A", "valueFrom": "arn:aws:s3:::b"}]),
            "secrets: valueFrom of A: \"arn:aws:s3:::b\" is no",
        ),
        (
            "repositoryCredentials",
            json!({"credentialsParameter": "arn:x"}),
            "repositoryCredentials: credentialsParameter: ",
        ),
    ] {
        let container = json!({"image": "a", "vcpus": 1, "memory": 64, member: value});
        let why = plan(json!({"containerProperties": container}), Value::Null).effective.expect_err(member);
        assert!(why.starts_with(want), "{why}");
    }
}

/// What the pod does not show is named, and what it shows is not.
#[test]
fn members_without_effect_are_named() {
    let empty = pod(Value::Null, Value::Null);
    for (member, value) in [
        ("executionRoleArn", json!("arn:aws:iam::1:role/r")),
        ("instanceType", json!("m5.large")),
        ("user", json!("www-data")),
        ("networkConfiguration", json!({"assignPublicIp": "ENABLED"})),
        ("fargatePlatformConfiguration", json!({"platformVersion": "1.4.0"})),
        ("runtimePlatform", json!({"cpuArchitecture": "RISCV"})),
        ("linuxParameters", json!({"maxSwap": 1024})),
        ("linuxParameters", json!({"swappiness": 10})),
        ("linuxParameters", json!({"devices": [{"hostPath": "/dev/fuse"}]})),
    ] {
        assert_eq!(pod(json!({ member: value }), Value::Null), empty, "{member} {value}");
        let spec = json!({"type": "container", "containerProperties": {"image": "a", member: value}});
        let ignored = ignored_fields(Kind::JobDefinition, &spec);
        assert!(ignored.len() == 1 && ignored[0].contains(member), "{member} {value}: {ignored:?}");
    }
    // Nothing else of a container is: each of its members is a case of this page, but for one that is looked up, the
    // ServiceAccount of "jobRoleArn", and one with a page of its own, "logConfiguration".
    let definitions = crate::crd::all().into_iter().find(|crd| crd.spec.names.kind == "JobDefinition");
    let schema =
        serde_json::to_value(definitions.expect("a kind").spec.versions[0].schema.clone()).expect("a schema");
    let members =
        schema.pointer("/openAPIV3Schema/properties/spec/properties/containerProperties/properties");
    let members: BTreeSet<_> = members.and_then(Value::as_object).expect("members").keys().collect();
    let seen = include_str!("members.rs");
    let missing: Vec<_> = members.iter().filter(|member| !seen.contains(&format!("\"{member}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
