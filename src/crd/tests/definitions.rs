//! JobDefinition: what is refused, and with which words.

use serde_json::{Value, json};

use super::{Case, create, tags, times, update};

const DEFINITION: &str = "JobDefinition";

const IMAGE: &str = "image can have up to 255 letters, numbers, hyphens, underscores, colons, periods, slashes, at \
                     and number signs";

fn definition() -> Value {
    json!({ "type": "container", "containerProperties": { "image": "alpine:latest", "vcpus": 2, "memory": 256 } })
}

fn with(container: Value, says: &[&'static str]) -> Case {
    create(DEFINITION, &definition(), json!({ "containerProperties": container }), says)
}

fn pod(patch: Value, says: &[&'static str]) -> Case {
    let cpu_and_memory = json!({ "limits": { "cpu": "1", "memory": "64Mi" } });
    let pod = json!({ "containers": [{ "image": "a", "resources": cpu_and_memory }] });
    let base = json!({ "type": "container", "eksProperties": { "podProperties": pod } });
    create(DEFINITION, &base, json!({ "eksProperties": { "podProperties": patch } }), says)
}

fn resources(resources: Value, says: &[&'static str]) -> Case {
    pod(json!({ "containers": [{ "image": "a", "resources": resources }] }), says)
}

fn task(patch: Value, says: &[&'static str]) -> Case {
    let mut task = json!({ "containers": [{ "image": "a", "name": "main" }] });
    task.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    let spec = json!({ "type": "container", "ecsProperties": { "taskProperties": [task] } });
    create(DEFINITION, &spec, json!({}), says)
}

fn nodes(nodes: Value, range: Value, says: &[&'static str]) -> Case {
    let container = json!({ "image": "a", "vcpus": 1, "memory": 64 });
    let mut group = json!({ "targetNodes": "0:1", "container": container });
    group = super::merged(&group, range);
    let base = json!({ "type": "multinode",
        "nodeProperties": { "numNodes": 2, "mainNode": 0, "nodeRangeProperties": [group] } });
    create(DEFINITION, &base, json!({ "nodeProperties": nodes }), says)
}

pub(super) fn cases() -> Vec<Case> {
    let tags = tags(DEFINITION, &definition(), |tags| json!({ "tags": tags }));
    [
        definition_itself(),
        retries(),
        pods(),
        pod_resources(),
        tasks(),
        multinode(),
        container(),
        amounts(),
        linux(),
        tags,
    ]
    .concat()
}

fn definition_itself() -> Vec<Case> {
    let says = |patch: Value, says: &[&'static str]| create(DEFINITION, &definition(), patch, says);
    let container =
        "type container needs exactly one of containerProperties, ecsProperties and eksProperties";
    let multinode = "type multinode needs nodeProperties and none of containerProperties, ecsProperties and eksProperties";
    let fraction = json!({ "vcpus": null, "memory": null, "resourceRequirements":
        [{ "type": "VCPU", "value": "0.25" }, { "type": "MEMORY", "value": "512" }] });
    vec![
        says(json!({}), &[]),
        says(
            json!({ "jobDefinitionName": "a:1" }),
            &["jobDefinitionName can have up to 128 letters, numbers, hyphens and underscores"],
        ),
        says(json!({ "containerProperties": null }), &[container]),
        says(
            json!({ "ecsProperties": { "taskProperties": [{ "containers": [{ "image": "a" }] }] } }),
            &[container],
        ),
        says(json!({ "type": "multinode" }), &[multinode]),
        says(json!({ "schedulingPriority": 9999 }), &[]),
        says(json!({ "schedulingPriority": 10_000 }), &["schedulingPriority must be between 0 and 9999"]),
        says(json!({ "timeout": { "attemptDurationSeconds": 60 } }), &[]),
        says(
            json!({ "timeout": { "attemptDurationSeconds": 59 } }),
            &["attemptDurationSeconds must be at least 60 seconds"],
        ),
        says(
            json!({ "consumableResourceProperties":
                { "consumableResourceList": [{ "consumableResource": "a", "quantity": 0 }] } }),
            &["quantity must be at least 1"],
        ),
        says(
            json!({ "containerProperties": { "networkConfiguration": { "assignPublicIp": "ENABLED" } } }),
            &["networkConfiguration not applicable for EC2."],
        ),
        says(
            json!({ "platformCapabilities": ["FARGATE"],
                "containerProperties": { "networkConfiguration": { "assignPublicIp": "ENABLED" } } }),
            &[],
        ),
        says(
            json!({ "platformCapabilities": ["FARGATE"], "containerProperties": { "privileged": true } }),
            &["privileged is not applicable for Fargate."],
        ),
        says(json!({ "platformCapabilities": ["FARGATE"], "containerProperties": fraction }), &[]),
        says(
            json!({ "containerProperties": fraction }),
            &["the value of VCPU must be a whole number for EC2"],
        ),
        says(
            json!({ "platformCapabilities": ["EC2"], "containerProperties": fraction }),
            &["the value of VCPU must be a whole number for EC2"],
        ),
        update(
            DEFINITION,
            &definition(),
            json!({}),
            json!({ "containerProperties": { "image": "alpine:3" }, "deregistered": [1], "registration": "2" }),
            &[],
        ),
        update(
            DEFINITION,
            &definition(),
            json!({ "jobDefinitionName": "a" }),
            json!({ "jobDefinitionName": "b" }),
            &["jobDefinitionName cannot be changed"],
        ),
    ]
}

fn retries() -> Vec<Case> {
    let says = |retry: Value, says: &[&'static str]| {
        create(DEFINITION, &definition(), json!({ "retryStrategy": retry }), says)
    };
    let on = |entry: Value, words: &[&'static str]| {
        says(json!({ "attempts": 5, "evaluateOnExit": [entry] }), words)
    };
    let code = "onExitCode can contain up to 512 digits and can end with an asterisk (*)";
    let reason = "onReason can contain up to 512 letters, numbers, periods (.), colons (:) and white space, \
                  and can end with an asterisk (*)";
    let status = "onStatusReason can contain up to 512 letters, numbers, periods (.), colons (:) and white space, \
                  and can end with an asterisk (*)";
    vec![
        says(json!({ "attempts": 10 }), &[]),
        says(json!({ "attempts": 0 }), &["attempts must be between 1 and 10"]),
        says(json!({ "attempts": 11 }), &["attempts must be between 1 and 10"]),
        says(json!({ "evaluateOnExit": [] }), &[]),
        says(
            json!({ "evaluateOnExit": [{ "onReason": "*", "action": "EXIT" }] }),
            &["RetryAttempts must be provided with retry strategy"],
        ),
        says(
            json!({ "attempts": 5, "evaluateOnExit": times(6, json!({ "onReason": "*", "action": "EXIT" })) }),
            &["evaluateOnExit can have at most 5 entries"],
        ),
        on(json!({ "onExitCode": "", "onStatusReason": "", "onReason": "*", "action": "retry" }), &[]),
        on(json!({ "onStatusReason": "Host EC2*", "action": "Exit" }), &[]),
        on(json!({ "onReason": "CannotPullContainerError:*", "action": "EXIT" }), &[]),
        on(json!({ "onExitCode": "1*", "action": "RETRY" }), &[]),
        on(
            json!({ "onExitCode": 1, "action": "RETRY" }),
            &["spec.retryStrategy.evaluateOnExit[0].onExitCode: must be of type string"],
        ),
        on(json!({ "onReason": "*" }), &["spec.retryStrategy.evaluateOnExit[0].action: required"]),
        on(json!({ "onReason": "*", "action": "STOP" }), &["action must be RETRY or EXIT"]),
        on(json!({ "onExitCode": "1?", "action": "EXIT" }), &[code]),
        on(json!({ "onExitCode": "-1", "action": "EXIT" }), &[code]),
        on(json!({ "onReason": "a*b", "action": "EXIT" }), &[reason]),
        on(json!({ "onReason": "a".repeat(513), "action": "EXIT" }), &[reason]),
        on(json!({ "onStatusReason": "Host EC2 (instance", "action": "EXIT" }), &[status]),
    ]
}

fn pods() -> Vec<Case> {
    let container = json!({ "image": "a", "resources": { "limits": { "cpu": "1", "memory": "64Mi" } } });
    let one = |patch: Value, says: &[&'static str]| {
        pod(json!({ "containers": [super::merged(&container, patch)] }), says)
    };
    let platform =
        json!({ "type": "container", "eksProperties": { "podProperties": { "containers": [container] } } });
    let reserved = "Environment variable names must not start with AWS_BATCH";
    vec![
        pod(json!({}), &[]),
        pod(json!({ "dnsPolicy": "ClusterFirst", "hostNetwork": false }), &[]),
        pod(
            json!({ "dnsPolicy": "None" }),
            &["dnsPolicy must be Default, ClusterFirst or ClusterFirstWithHostNet"],
        ),
        pod(json!({ "containers": [] }), &["containers must have 1 to 10 elements"]),
        pod(json!({ "containers": null }), &["containers must have 1 to 10 elements"]),
        pod(
            json!({ "containers": times(11, container.clone()) }),
            &["containers must have 1 to 10 elements"],
        ),
        pod(
            json!({ "initContainers": times(11, json!({ "image": "a" })) }),
            &["initContainers can have at most 10 elements"],
        ),
        pod(
            json!({ "volumes": [{ "name": "a", "hostPath": { "path": "/a" }, "emptyDir": {} }] }),
            &["a volume can have only one of hostPath, emptyDir, secret and persistentVolumeClaim"],
        ),
        one(
            json!({ "imagePullPolicy": "Sometimes" }),
            &["imagePullPolicy must be Always, IfNotPresent or Never"],
        ),
        one(json!({ "env": [{ "name": "AWS_BATCH_X", "value": "1" }] }), &[reserved]),
        one(json!({ "image": "a b" }), &[IMAGE]),
        one(
            json!({ "securityContext": { "capabilities": { "add": times(65, json!("CHOWN")) } } }),
            &["capabilities.add can have at most 64 elements"],
        ),
        one(
            json!({ "securityContext": { "capabilities": { "drop": times(65, json!("CHOWN")) } } }),
            &["capabilities.drop can have at most 64 elements"],
        ),
        create(
            DEFINITION,
            &platform,
            json!({ "propagateTags": true }),
            &["propagateTags is not applicable for EKS"],
        ),
        create(
            DEFINITION,
            &platform,
            json!({ "platformCapabilities": ["EC2"] }),
            &["platformCapabilities is not applicable for EKS"],
        ),
    ]
}

fn pod_resources() -> Vec<Case> {
    let cpu = "cpu must be a multiple of 0.25";
    let memory = "memory must be a whole number of MiB with the suffix Mi, at least 4Mi";
    let no_cpu = "cpu must be given in limits or requests of each container's resources";
    let no_memory = "memory must be given in limits or requests of each container's resources";
    let same = "memory and nvidia.com/gpu must be the same in limits and requests";
    let limits = |cpu: &str, memory: &str| json!({ "limits": { "cpu": cpu, "memory": memory } });
    let both = |limits: Value, requests: Value| json!({ "limits": limits, "requests": requests });
    vec![
        resources(limits("0.25", "4Mi"), &[]),
        resources(limits("1.50", "2048Mi"), &[]),
        resources(limits("250m", "64Mi"), &[cpu]),
        resources(limits("0.3", "64Mi"), &[cpu]),
        resources(limits("0", "64Mi"), &[cpu]),
        resources(limits("1", "1Gi"), &[memory]),
        resources(limits("1", "3Mi"), &[memory]),
        resources(json!({ "requests": { "cpu": "1", "memory": "64Mi" } }), &[]),
        resources(json!({ "requests": { "cpu": "1m", "memory": "64Mi" } }), &[cpu]),
        resources(json!({ "requests": { "cpu": "1", "memory": "64M" } }), &[memory]),
        resources(json!({ "limits": { "memory": "64Mi" } }), &[no_cpu]),
        resources(json!({ "limits": { "cpu": "1" } }), &[no_memory]),
        resources(both(json!({ "cpu": "2", "memory": "64Mi" }), json!({ "cpu": "1.5" })), &[]),
        resources(
            both(json!({ "cpu": "1", "memory": "64Mi" }), json!({ "cpu": "1.5" })),
            &["the cpu of requests must not be greater than that of limits"],
        ),
        resources(both(json!({ "cpu": "1", "memory": "64Mi" }), json!({ "memory": "32Mi" })), &[same]),
        resources(
            both(
                json!({ "cpu": "1", "memory": "64Mi", "nvidia.com/gpu": "2" }),
                json!({ "nvidia.com/gpu": "1" }),
            ),
            &[same],
        ),
    ]
}

fn tasks() -> Vec<Case> {
    let two = |essential: bool, condition: &str| {
        json!({ "containers": [
            { "image": "a", "name": "main", "dependsOn": [{ "containerName": "first", "condition": condition }] },
            { "image": "a", "name": "first", "essential": essential }] })
    };
    let stays = "COMPLETE and SUCCESS cannot be set on an essential container";
    vec![
        task(json!({}), &[]),
        task(two(true, "START"), &[]),
        task(two(false, "SUCCESS"), &[]),
        task(two(true, "SUCCESS"), &[stays]),
        task(two(true, "COMPLETE"), &[stays]),
        task(two(false, "HEALTHY"), &["condition must be START, COMPLETE or SUCCESS"]),
        task(json!({ "containers": [] }), &["containers must have 1 to 10 elements"]),
        task(
            json!({ "containers": times(11, json!({ "image": "a" })) }),
            &["containers must have 1 to 10 elements"],
        ),
        task(
            json!({ "containers": [{ "image": "a", "essential": false }] }),
            &["at least one container must be essential"],
        ),
        task(
            json!({ "containers": [{ "image": "a", "dependsOn": [{ "containerName": "b", "condition": "START" }] }] }),
            &["each containerName of dependsOn must be the name of one of the containers"],
        ),
        task(json!({ "ipcMode": "shared" }), &["ipcMode must be host, task or none"]),
        task(json!({ "containers": [{ "image": "a b" }] }), &[IMAGE]),
        task(
            json!({ "containers": [{ "image": "a", "user": "Not Valid" }] }),
            &["User 'Not Valid' does not match regex"],
        ),
        task(json!({ "pidMode": "none" }), &["pidMode must be host or task"]),
        task(
            json!({ "containers": [{ "image": "a", "startTimeout": 1 }] }),
            &["startTimeout must be at least 2 seconds"],
        ),
        task(
            json!({ "containers": [{ "image": "a", "stopTimeout": 1 }] }),
            &["stopTimeout must be at least 2 seconds"],
        ),
        create(
            DEFINITION,
            &json!({ "type": "container", "ecsProperties": { "taskProperties": [] } }),
            json!({}),
            &["ecsProperties.taskProperties must have exactly 1 element"],
        ),
    ]
}

fn multinode() -> Vec<Case> {
    let target = "targetNodes must be a node index or a range of them, such as 0:3, 0: or :3";
    let group = "a node group needs exactly one of container, ecsProperties and eksProperties";
    vec![
        nodes(json!({}), json!({}), &[]),
        nodes(json!({}), json!({ "targetNodes": "0:" }), &[]),
        nodes(json!({}), json!({ "targetNodes": ":1" }), &[]),
        nodes(json!({}), json!({ "targetNodes": "1" }), &[]),
        nodes(json!({}), json!({ "targetNodes": ":" }), &[target]),
        nodes(json!({}), json!({ "targetNodes": "0-1" }), &[target]),
        nodes(json!({}), json!({ "container": null }), &[group]),
        nodes(json!({}), json!({ "eksProperties": {} }), &[group]),
        nodes(
            json!({}),
            json!({ "instanceTypes": ["a", "b"] }),
            &["instanceTypes can have at most 1 element"],
        ),
        nodes(json!({ "numNodes": 1001 }), json!({}), &["numNodes must be between 1 and 1000"]),
        nodes(json!({ "mainNode": 2 }), json!({}), &["mainNode must be less than numNodes"]),
        nodes(
            json!({ "nodeRangeProperties": [] }),
            json!({}),
            &["nodeRangeProperties must have 1 to 5 node groups"],
        ),
        create(
            DEFINITION,
            &nodes(json!({}), json!({}), &[]).new,
            json!({ "platformCapabilities": ["FARGATE"] }),
            &["type multinode is not applicable for Fargate."],
        ),
    ]
}

fn container() -> Vec<Case> {
    let port = "transitEncryptionPort must be between 0 and 65535";
    let efs = |port: i32| {
        json!({ "volumes": [{ "name": "a", "efsVolumeConfiguration":
            { "fileSystemId": "fs-1", "transitEncryptionPort": port } }] })
    };
    let session = |probe: Value, says: &[&'static str]| {
        let session = json!({ "port": 8443, "readinessProbe": probe });
        create(DEFINITION, &definition(), json!({ "session": session }), says)
    };
    vec![
        with(json!({ "image": null }), &["spec.containerProperties.image: required"]),
        with(json!({ "image": "123.dkr.ecr.eu-west-1.amazonaws.com/dcv@sha256:0a" }), &[]),
        with(json!({ "image": "a b" }), &[IMAGE]),
        with(json!({ "image": "" }), &[IMAGE]),
        with(json!({ "image": "a".repeat(256) }), &[IMAGE]),
        with(json!({ "user": "root" }), &[]),
        with(json!({ "user": "1000:100" }), &[]),
        with(json!({ "user": "Not Valid" }), &["User 'Not Valid' does not match regex"]),
        with(json!({ "environment": [{ "name": "DISPLAY", "value": "0" }] }), &[]),
        with(
            json!({ "environment": [{ "name": "AWS_BATCH_JOB_ID", "value": "0" }] }),
            &["Environment variable names must not start with AWS_BATCH"],
        ),
        with(
            json!({ "volumes": [{ "name": "a", "host": {} }], "mountPoints": [{ "sourceVolume": "a" }] }),
            &[],
        ),
        with(
            json!({ "volumes": [{ "name": "a" }], "mountPoints": [{ "sourceVolume": "b" }] }),
            &["each sourceVolume of mountPoints must be the name of one of the volumes"],
        ),
        with(
            json!({ "mountPoints": [{ "sourceVolume": "b" }] }),
            &["each sourceVolume of mountPoints must be the name of one of the volumes"],
        ),
        with(
            json!({ "volumes": [{ "host": {}, "efsVolumeConfiguration": { "fileSystemId": "fs-1" } }] }),
            &["a volume can have only one of host, efsVolumeConfiguration and s3filesVolumeConfiguration"],
        ),
        with(efs(65_535), &[]),
        with(efs(65_536), &[port]),
        with(
            json!({ "volumes": [{ "s3filesVolumeConfiguration":
                { "fileSystemArn": "arn:x", "transitEncryptionPort": -1 } }] }),
            &[port],
        ),
        with(json!({ "ephemeralStorage": { "sizeInGiB": 20 } }), &["sizeInGiB must be between 21 and 200"]),
        with(json!({ "ephemeralStorage": { "sizeInGiB": 201 } }), &["sizeInGiB must be between 21 and 200"]),
        with(
            json!({ "logConfiguration": { "logDriver": "logentries" } }),
            &["spec.containerProperties.logConfiguration.logDriver: unsupported value \"logentries\""],
        ),
        session(json!({ "tcpSocket": {} }), &[]),
        session(json!({}), &["a probe needs exactly one of httpGet, tcpSocket and exec"]),
    ]
    .into_iter()
    .chain(sessions())
    .collect()
}

fn sessions() -> Vec<Case> {
    let session = |session: Value, says: &[&'static str]| {
        let session = super::merged(&json!({ "port": 8443 }), session);
        create(DEFINITION, &definition(), json!({ "session": session }), says)
    };
    let address = |address: Value, says: &[&'static str]| session(json!({ "address": address }), says);
    let idle = "idleTimeoutSeconds and idleProbe need each other";
    let host = "an address of type Ingress or Gateway needs a host";
    let gateway = "an address of type Gateway needs a gateway";
    let probe = json!({ "exec": { "command": ["connected"] } });
    vec![
        session(json!({}), &[]),
        session(json!({ "idleTimeoutSeconds": 600, "idleProbe": probe }), &[]),
        session(json!({ "idleTimeoutSeconds": 600 }), &[idle]),
        session(json!({ "idleProbe": probe }), &[idle]),
        address(json!({}), &[]),
        address(json!({ "type": "NodeExternalIP", "port": 443, "scheme": "http" }), &[]),
        address(json!({ "type": "Service", "serviceType": "NodePort" }), &[]),
        address(json!({ "type": "Ingress", "host": "{jobId}.example.com" }), &[]),
        address(json!({ "type": "Ingress" }), &[host]),
        address(json!({ "type": "Gateway", "host": "a.example.com", "gateway": { "name": "g" } }), &[]),
        address(json!({ "type": "Gateway", "gateway": { "name": "g" } }), &[host]),
        address(json!({ "type": "Gateway", "host": "a.example.com" }), &[gateway]),
        address(json!({ "type": "Gateway" }), &[host, gateway]),
    ]
}

fn amounts() -> Vec<Case> {
    let vcpu = "VCPU is required: give it in resourceRequirements or as vcpus";
    let memory = "MEMORY is required: give it in resourceRequirements or as memory";
    let twice = |patch: Value, says: &[&'static str]| {
        let list = json!([{ "type": "VCPU", "value": "1" }, { "type": "MEMORY", "value": "64" }]);
        with(super::merged(&json!({ "resourceRequirements": list }), patch), says)
    };
    let older = |vcpus: Value, memory: Value| json!({ "vcpus": vcpus, "memory": memory });
    let only = |type_: &str, value: &str, says: &[&'static str]| {
        let list: Vec<Value> = ["VCPU", "MEMORY", "GPU"]
            .iter()
            .map(|t| json!({ "type": t, "value": if *t == type_ { value } else { "8" } }))
            .collect();
        with(json!({ "vcpus": null, "memory": null, "resourceRequirements": list }), says)
    };
    let cpu = "the value of VCPU must be a number greater than 0, such as '1'";
    let mib = "the value of MEMORY must be a whole number of MiB, at least '4'";
    let gpu = "the value of GPU must be a whole number, at least '1'";
    vec![
        with(json!({ "vcpus": null }), &[vcpu]),
        with(json!({ "vcpus": 0 }), &[vcpu]),
        with(json!({ "vcpus": -1 }), &["vcpus must not be negative", vcpu]),
        with(json!({ "memory": null }), &[memory]),
        with(json!({ "memory": 3 }), &["memory must be at least 4 MiB"]),
        create(
            DEFINITION,
            &definition(),
            json!({ "containerProperties": { "resourceRequirements": [] } }),
            &[],
        ),
        twice(older(json!(0), json!(0)), &[]),
        twice(
            older(json!(2), json!(0)),
            &[
                "vcpus value was submitted in a deprecated key and conflicts with the VCPU of resourceRequirements",
            ],
        ),
        twice(
            older(json!(0), json!(64)),
            &[
                "memory value was submitted in a deprecated key and conflicts with the MEMORY of resourceRequirements",
            ],
        ),
        only("VCPU", "2", &[]),
        only("VCPU", "0", &[cpu]),
        only("VCPU", "two", &[cpu, "the value of VCPU must be a whole number for EC2"]),
        only("MEMORY", "3", &[mib]),
        only("MEMORY", "1Gi", &[mib]),
        only("GPU", "0", &[gpu]),
        only("GPU", "0.5", &[gpu]),
    ]
}

fn linux() -> Vec<Case> {
    let says = |linux: Value, says: &[&'static str]| with(json!({ "linuxParameters": linux }), says);
    vec![
        says(
            json!({ "sharedMemorySize": 64, "maxSwap": 0, "swappiness": 60, "initProcessEnabled": true }),
            &[],
        ),
        says(json!({ "sharedMemorySize": -1 }), &["sharedMemorySize must not be negative"]),
        says(json!({ "maxSwap": -1 }), &["maxSwap must be 0 or a positive integer"]),
        says(json!({ "swappiness": 101 }), &["swappiness must be between 0 and 100"]),
        says(
            json!({ "tmpfs": [{ "containerPath": "/t", "size": 0 }] }),
            &["the size of tmpfs must be at least 1 MiB"],
        ),
        says(json!({ "devices": [{ "hostPath": "/dev/fuse", "permissions": ["READ", "MKNOD"] }] }), &[]),
    ]
}
