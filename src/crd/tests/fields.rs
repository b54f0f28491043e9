//! Which members are reported as having no effect, and which ones a job is refused for.

use serde_json::{Value, json};

use crate::crd::ignored::{Kind, ignored_fields, unsupported_fields};

fn in_container(container: Value) -> Vec<String> {
    ignored_fields(Kind::JobDefinition, &json!({ "type": "container", "containerProperties": container }))
}

#[test]
fn members_that_say_nothing_are_left_out() {
    let spec = json!({
        "type": "MANAGED", "serviceRole": "", "tags": {}, "eksConfiguration": {}, "unmanagedvCpus": null,
        "ecsSettings": { "containerInsights": "DISABLED" },
        "computeResources": { "type": "EC2", "maxvCpus": 8, "minvCpus": 0, "bidPercentage": 0, "subnets": [],
            "updateToLatestImageVersion": false, "scalingPolicy": { "minScaleDownDelayMinutes": 0 } },
    });
    assert_eq!(ignored_fields(Kind::ComputeEnvironment, &spec), Vec::<String>::new());
}

#[test]
fn what_counts_depends_on_who_makes_the_nodes() {
    let compute = json!({ "type": "SPOT", "maxvCpus": 8, "subnets": ["subnet-1"], "tags": { "a": "b" },
        "ec2KeyPair": "k", "launchTemplate": { "launchTemplateId": "lt-1" }, "placementGroup": "pg-1",
        "ec2Configuration": [{ "imageType": "ECS_AL2023" }, { "imageType": "EKS_WINDOWS", "imageIdOverride": "ami-1" }] });
    let class = json!({ "group": "g", "kind": "K", "name": "n" });
    let never =
        ["computeResources.ec2KeyPair", "computeResources.launchTemplate", "computeResources.placementGroup"];
    let static_pool = json!({ "static": {} });
    let everywhere =
        ["computeResources.ec2Configuration", "computeResources.subnets", "computeResources.tags"];
    for (provisioner, more) in [
        (static_pool, &everywhere[..]),
        (
            json!({ "karpenter": { "nodeClassRef": class, "amiAlias": "al2023@latest" } }),
            &[
                "computeResources.ec2Configuration",
                "computeResources.subnets",
                "provisioner.karpenter.amiAlias",
            ],
        ),
        (
            json!({ "karpenter": { "amiAlias": "al2023@latest" } }),
            &["computeResources.ec2Configuration[1].imageType"],
        ),
    ] {
        let spec = json!({ "computeResources": compute, "provisioner": provisioner });
        let mut want = [&never[..], more].concat();
        want.sort();
        assert_eq!(ignored_fields(Kind::ComputeEnvironment, &spec), want, "{provisioner}");
    }
}

#[test]
fn the_strategy_is_named_where_karpenter_has_another() {
    for (strategy, karpenter, ignored) in [
        ("SPOT_CAPACITY_OPTIMIZED", true, true),
        ("SPOT_PRICE_CAPACITY_OPTIMIZED", true, false),
        ("SPOT_PRICE_CAPACITY_OPTIMIZED", false, true),
    ] {
        let provisioner = if karpenter { json!({ "karpenter": {} }) } else { Value::Null };
        let spec =
            json!({ "computeResources": { "allocationStrategy": strategy }, "provisioner": provisioner });
        let fields = ignored_fields(Kind::ComputeEnvironment, &spec);
        assert_eq!(fields.contains(&"computeResources.allocationStrategy".to_owned()), ignored, "{strategy}");
    }
}

#[test]
fn a_neutral_value_is_neutral_in_its_place_only() {
    let spec = json!({ "computeResources": { "imageId": "DISABLED", "bidPercentage": 50 }, "ecsSettings": { "max": 0 } });
    assert_eq!(
        ignored_fields(Kind::ComputeEnvironment, &spec),
        ["computeResources.bidPercentage", "computeResources.imageId", "ecsSettings"]
    );
}

#[test]
fn a_member_that_nobody_knows_is_reported() {
    let spec = json!({ "priority": 1, "new": 1, "computeEnvironmentOrder": [{ "order": 1, "newer": true }] });
    assert_eq!(ignored_fields(Kind::JobQueue, &spec), ["new"]);
    assert_eq!(
        in_container(json!({ "image": "a", "ulimits": [{ "name": "nofile" }] })),
        ["containerProperties.ulimits (only nodes with the NRI plugin ulimit-adjuster set them)"]
    );
}

#[test]
fn elements_of_lists_are_named_by_their_index() {
    let volumes = json!([
        { "name": "scratch", "host": { "sourcePath": "/tmp" } },
        { "name": "empty", "host": {} },
        { "name": "shared", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "rootDirectory": "/",
            "transitEncryption": "ENABLED", "transitEncryptionPort": 2049,
            "authorizationConfig": { "accessPointId": "fsap-1", "iam": "ENABLED" } } },
        { "name": "plain", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "transitEncryption": "DISABLED",
            "authorizationConfig": { "iam": "DISABLED" } } },
    ]);
    let efs = "containerProperties.volumes[2].efsVolumeConfiguration";
    assert_eq!(
        in_container(json!({ "image": "a", "volumes": volumes })),
        [format!("{efs}.authorizationConfig.iam"), format!("{efs}.transitEncryptionPort")]
    );
    let tmpfs = json!([{ "containerPath": "/t", "size": 64, "mountOptions": ["rw", "noexec", "ro"] }]);
    assert_eq!(
        in_container(json!({ "linuxParameters": { "tmpfs": tmpfs, "swappiness": 60 } })),
        [
            "containerProperties.linuxParameters.swappiness",
            "containerProperties.linuxParameters.tmpfs[0].mountOptions[1]",
        ]
    );
}

#[test]
fn some_members_count_for_some_values_only() {
    for user in ["1000", "1000:100", "0", "", "root", "nobody"] {
        assert_eq!(in_container(json!({ "user": user })), Vec::<String>::new(), "{user}");
    }
    for user in ["www-data", "1000:staff", ":", "1000:"] {
        let named = "containerProperties.user (the image knows users by name, Kubernetes by number)";
        assert_eq!(in_container(json!({ "user": user })), [named], "{user}");
    }
    for (privileged, ignored) in [(true, 0), (false, 1)] {
        let devices = json!({ "devices": [{ "hostPath": "/dev/kvm" }] });
        let container = json!({ "privileged": privileged, "linuxParameters": devices });
        assert_eq!(in_container(container).len(), ignored, "privileged: {privileged}");
    }
    let platforms =
        |list: Value| ignored_fields(Kind::JobDefinition, &json!({ "platformCapabilities": list }));
    assert_eq!(platforms(json!(["EC2", "FARGATE"])), Vec::<String>::new());
    assert_eq!(platforms(json!(["EC2", "MANAGED_INSTANCES"])), ["platformCapabilities[1]"]);
    let action = |reason: &str, action: &str| {
        let action =
            json!({ "reason": reason, "state": "RUNNABLE", "maxTimeSeconds": 600, "action": action });
        ignored_fields(Kind::JobQueue, &json!({ "jobStateTimeLimitActions": [action] }))
    };
    let capacity = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
    assert_eq!(action(capacity, "CANCEL"), Vec::<String>::new());
    assert_eq!(action(capacity, "TERMINATE"), ["jobStateTimeLimitActions[0].action"]);
    assert_eq!(action("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", "CANCEL"), Vec::<String>::new());
    let never = "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS";
    assert_eq!(action(never, "CANCEL"), ["jobStateTimeLimitActions[0].reason"]);
}

#[test]
fn jobs_with_an_inline_definition_have_the_same_table() {
    let container = json!({ "image": "a", "command": ["x"], "secrets": [{ "name": "A", "valueFrom": "arn" }],
        "linuxParameters": { "maxSwap": 1 } });
    let spec = json!({ "jobQueue": "q", "containerProperties": container, "propagateTags": true, "session": { "port": 1 } });
    let named = ["containerProperties.linuxParameters.maxSwap"];
    assert_eq!(ignored_fields(Kind::BatchJob, &spec), named);
}

#[test]
fn members_that_make_a_job_what_it_is_are_named() {
    let spec = json!({
        "jobQueue": "q", "jobDefinition": "d", "dependsOn": [],
        "eksPropertiesOverride": { "podProperties": { "containers": [{ "image": "a" }] } },
        "containerOverrides": { "command": ["run", "--input=Ref::input"] }, "parameters": { "unused": "1" },
    });
    assert_eq!(unsupported_fields(Kind::BatchJob, &spec), [""; 0], "parameters stand in for references");
    let spec = json!({ "eksProperties": { "podProperties": { "containers": [{ "args": ["Ref::x"] }] } } });
    assert_eq!(unsupported_fields(Kind::JobDefinition, &spec), [""; 0]);
    assert_eq!(unsupported_fields(Kind::JobQueue, &spec), Vec::<String>::new());
}

#[test]
fn a_group_of_nodes_has_the_table_of_a_container() {
    let container = json!({ "image": "a", "command": ["x", "Ref::y"], "instanceType": "m5.large",
        "ulimits": [{ "name": "nofile" }], "user": "www-data" });
    let groups = json!([
        { "targetNodes": "0", "container": container, "instanceTypes": ["m5.large"] },
        { "targetNodes": "1:", "eksProperties": { "podProperties": { "hostNetwork": true } } },
    ]);
    let spec = json!({ "type": "multinode", "nodeProperties": { "numNodes": 2, "mainNode": 0,
        "nodeRangeProperties": groups } });
    let first = "nodeProperties.nodeRangeProperties[0].container";
    assert_eq!(unsupported_fields(Kind::JobDefinition, &spec), [""; 0]);
    assert_eq!(
        ignored_fields(Kind::JobDefinition, &spec),
        [
            format!("{first}.ulimits (only nodes with the NRI plugin ulimit-adjuster set them)"),
            format!("{first}.user (the image knows users by name, Kubernetes by number)"),
        ]
    );
    let change = json!({ "targetNodes": "0:", "containerOverrides": { "command": ["x"], "instanceType": "m5.large" },
        "ecsPropertiesOverride": { "taskProperties": [{ "containers": [{ "name": "a", "command": ["x"] }] }] },
        "eksPropertiesOverride": { "podProperties": { "metadata": { "labels": { "a": "b" } } } } });
    let job = json!({ "nodeOverrides": { "numNodes": 3, "nodePropertyOverrides": [change] } });
    assert_eq!(unsupported_fields(Kind::BatchJob, &job), [""; 0]);
    assert_eq!(ignored_fields(Kind::BatchJob, &job), [""; 0]);
    let single = json!({ "containerProperties": { "image": "a", "instanceType": "m5.large" } });
    assert_eq!(ignored_fields(Kind::JobDefinition, &single), ["containerProperties.instanceType"]);
}

#[test]
fn a_container_of_a_task_has_the_table_of_a_container() {
    let container = json!({ "name": "app", "image": "a", "command": ["x"], "essential": true, "startTimeout": 5,
        "dependsOn": [{ "containerName": "b", "condition": "START" }], "stopTimeout": 60, "user": "www-data",
        "environment": [{ "name": "A", "value": "b" }], "readonlyRootFilesystem": true, "privileged": true,
        "mountPoints": [{ "sourceVolume": "v", "containerPath": "/v" }],
        "resourceRequirements": [{ "type": "VCPU", "value": "1" }],
        "firelensConfiguration": { "type": "fluentbit" } });
    let task = json!({ "containers": [{ "image": "b" }, container], "volumes": [{ "name": "v" }],
        "taskRoleArn": "arn", "pidMode": "task", "ipcMode": "none", "networkMode": "awsvpc" });
    let ecs = json!({ "taskProperties": [task] });
    let named = |at: &str| {
        let task = format!("{at}ecsProperties.taskProperties[0]");
        let user = "containers[1].user (the image knows users by name, Kubernetes by number)";
        let below = ["containers[1].firelensConfiguration", user, "ipcMode", "networkMode"];
        below.map(|member| format!("{task}.{member}"))
    };
    let single = json!({ "ecsProperties": ecs });
    assert_eq!(ignored_fields(Kind::JobDefinition, &single), named(""));
    let range = json!({ "targetNodes": "0:", "ecsProperties": ecs });
    let gang = json!({ "nodeProperties": { "numNodes": 2, "mainNode": 0, "nodeRangeProperties": [range] } });
    assert_eq!(ignored_fields(Kind::BatchJob, &gang), named("nodeProperties.nodeRangeProperties[0]."));
    let modes =
        json!({ "ecsProperties": { "taskProperties": [{ "ipcMode": "host", "networkMode": "host" }] } });
    assert_eq!(ignored_fields(Kind::JobDefinition, &modes), [""; 0]);
    let change = json!({ "ecsPropertiesOverride": { "taskProperties": [{ "containers": [
        { "name": "a", "command": ["x"], "environment": [{ "name": "A" }], "resourceRequirements": [{}] }] }] } });
    assert_eq!(ignored_fields(Kind::BatchJob, &change), [""; 0]);
}
