"""Environments and definitions with all that AWS's model has, jobs of them that wait for ever, and jobs that are to run in
an environment that has nodes; says which those are."""

import json
import sys

from common import CONTAINER, client

NOWHERE, SOMEWHERE, NAMESPACE = sys.argv[1:4]
batch = client()
ROOM = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
SECRETS = [{"name": "PASSWORD", "valueFrom": "password"}]
LOG = {"logDriver": "splunk", "options": {"splunk-url": "https://splunk.invalid:8088"},
       "secretOptions": [{"name": "splunk-token", "valueFrom": "password"}]}
LINUX = {"devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["READ"]}],
         "initProcessEnabled": True, "sharedMemorySize": 64, "maxSwap": 0, "swappiness": 0,
         "tmpfs": [{"containerPath": "/run", "size": 16, "mountOptions": ["noexec"]}]}
VOLUMES = [{"name": "scratch", "host": {"sourcePath": "/scratch"}},
           {"name": "files", "efsVolumeConfiguration": {
               "fileSystemId": "fs-1", "transitEncryption": "ENABLED", "transitEncryptionPort": 2049,
               "rootDirectory": "/", "authorizationConfig": {"accessPointId": "fsap-1", "iam": "ENABLED"}}},
           {"name": "objects", "s3filesVolumeConfiguration": {
               "fileSystemArn": "arn:aws:s3files:us-east-1:123456789012:file-system/fs-1", "rootDirectory": "/",
               "transitEncryptionPort": 2049,
               "accessPointArn": "arn:aws:s3files:us-east-1:123456789012:file-system/fs-1/access-point/ap-1"}}]
MOUNTS = [{"sourceVolume": "scratch", "containerPath": "/scratch", "readOnly": True}]
PLATFORM = {"operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64"}
ULIMITS = [{"name": "nofile", "softLimit": 1024, "hardLimit": 2048}]
ENVIRONMENT = [{"name": "A", "value": "b"}]
TOKENS = {"consumableResourceList": [{"consumableResource": "seat", "quantity": 1}]}
ROLE = "arn:aws:iam::123456789012:role/job"
WHOLE = {"image": "busybox", "command": ["true"], "resourceRequirements": ROOM, "jobRoleArn": ROLE, "executionRoleArn": ROLE,
         "volumes": VOLUMES, "mountPoints": MOUNTS, "environment": ENVIRONMENT, "readonlyRootFilesystem": True,
         "privileged": True, "ulimits": ULIMITS, "user": "1000", "linuxParameters": LINUX, "logConfiguration": LOG,
         "secrets": SECRETS, "runtimePlatform": PLATFORM, "enableExecuteCommand": True,
         "repositoryCredentials": {"credentialsParameter": "registry"}}
SERVERLESS = {"image": "busybox", "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
              "executionRoleArn": ROLE, "networkConfiguration": {"assignPublicIp": "DISABLED"},
              "fargatePlatformConfiguration": {"platformVersion": "LATEST"}, "ephemeralStorage": {"sizeInGiB": 30}}
IN_TASK = {"name": "app", "image": "busybox", "command": ["true"], "essential": True, "resourceRequirements": ROOM,
           "environment": ENVIRONMENT, "mountPoints": MOUNTS, "privileged": True, "readonlyRootFilesystem": True,
           "repositoryCredentials": {"credentialsParameter": "registry"}, "secrets": SECRETS, "ulimits": ULIMITS,
           "user": "1000", "linuxParameters": LINUX, "logConfiguration": LOG,
           "dependsOn": [{"containerName": "first", "condition": "COMPLETE"}], "startTimeout": 60, "stopTimeout": 60,
           "firelensConfiguration": {"type": "fluentbit", "options": {"a": "b"}}}
TASK = {"containers": [IN_TASK, {"name": "first", "image": "busybox", "essential": False, "resourceRequirements": ROOM}],
        "executionRoleArn": ROLE, "taskRoleArn": ROLE, "ipcMode": "task", "pidMode": "task", "runtimePlatform": PLATFORM,
        "volumes": VOLUMES, "enableExecuteCommand": True}
ON_FARGATE = {"containers": [{"name": "app", "image": "busybox", "resourceRequirements": [
                  {"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}]}],
              "executionRoleArn": ROLE, "platformVersion": "LATEST", "ephemeralStorage": {"sizeInGiB": 30},
              "networkConfiguration": {"assignPublicIp": "DISABLED"}}
SMALL = {"requests": {"cpu": "0.25", "memory": "32Mi"}, "limits": {"cpu": "0.25", "memory": "32Mi"}}
IN_POD = {"name": "app", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["true"], "args": ["x"],
          "env": ENVIRONMENT, "resources": SMALL,
          "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "subPath": "a", "readOnly": True}],
          "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "privileged": False, "allowPrivilegeEscalation": False,
                              "readOnlyRootFilesystem": True, "runAsNonRoot": True}}
POD = {"serviceAccountName": "default", "hostNetwork": False, "dnsPolicy": "ClusterFirst",
       "imagePullSecrets": [{"name": "registry"}], "containers": [IN_POD],
       "initContainers": [{"name": "first", "image": "busybox", "resources": SMALL}], "shareProcessNamespace": True,
       "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                   {"name": "host", "hostPath": {"path": "/mnt"}},
                   {"name": "secret", "secret": {"secretName": "x", "optional": True}},
                   {"name": "claim", "persistentVolumeClaim": {"claimName": "x", "readOnly": True}}],
       "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}, "namespace": NAMESPACE}}


def define(name, **what):
    what.setdefault("type", "container")
    batch.register_job_definition(jobDefinitionName=name, **what)
    return name


def submit(name, queue, definition=None, **more):
    return batch.submit_job(jobName=name, jobQueue=queue, jobDefinition=definition or name, **more)["jobId"]


batch.create_compute_environment(
    computeEnvironmentName="whole", type="MANAGED", state="DISABLED", serviceRole=ROLE, tags={"a": "b"}, context="x",
    computeResources={
        "type": "SPOT", "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "minvCpus": 0, "maxvCpus": 8, "desiredvCpus": 0,
        "instanceTypes": ["optimal"], "imageId": "ami-1", "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"],
        "ec2KeyPair": "key", "instanceRole": "ecsInstanceRole", "tags": {"a": "b"}, "placementGroup": "group",
        "bidPercentage": 50, "spotIamFleetRole": ROLE, "scalingPolicy": {"minScaleDownDelayMinutes": 20},
        "ec2Configuration": [{"imageType": "ECS_AL2023", "imageIdOverride": "ami-2"}],
        "launchTemplate": {"launchTemplateName": "t", "version": "1", "userdataType": "EKS_BOOTSTRAP_SH", "overrides": [
            {"launchTemplateId": "lt-1", "version": "1", "targetInstanceTypes": ["m5.large"],
             "userdataType": "EKS_BOOTSTRAP_SH"}]}})
batch.create_compute_environment(
    computeEnvironmentName="kubernetes", type="MANAGED", state="DISABLED",
    eksConfiguration={"eksClusterArn": "arn:aws:eks:us-east-1:123456789012:cluster/c", "kubernetesNamespace": "x"},
    computeResources={"type": "EC2", "minvCpus": 0, "maxvCpus": 8, "instanceTypes": ["optimal"], "subnets": ["subnet-1"],
                      "securityGroupIds": ["sg-1"], "instanceRole": "ecsInstanceRole",
                      "launchTemplate": {"launchTemplateId": "lt-1", "overrides": [
                          {"launchTemplateName": "t", "targetInstanceTypes": ["m5.large"]}]},
                      "ec2Configuration": [{"imageType": "EKS_AL2023", "imageKubernetesVersion": "1.34"}]})
batch.create_compute_environment(computeEnvironmentName="theirs", type="UNMANAGED", state="DISABLED", unmanagedvCpus=4)
batch.update_compute_environment(computeEnvironment="whole", updatePolicy={
    "terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 60})
for name in ("seat", "table"):
    batch.create_consumable_resource(consumableResourceName=name, totalQuantity=5, resourceType="REPLENISHABLE")
batch.create_job_queue(jobQueueName="still", priority=1, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": NOWHERE}])
fair = [batch.create_scheduling_policy(name=name, fairsharePolicy={
    "shareDistribution": [{"shareIdentifier": "a", "weightFactor": 0.5}]})["arn"] for name in ("equal", "other")]
batch.create_job_queue(jobQueueName="shared", priority=1, schedulingPolicyArn=fair[0],
                       computeEnvironmentOrder=[{"order": 1, "computeEnvironment": SOMEWHERE}])
still = [
    define("whole", containerProperties=WHOLE, schedulingPriority=5, parameters={"a": "b"}, propagateTags=True,
           retryStrategy={"attempts": 2, "evaluateOnExit": [
               {"onStatusReason": "Host*", "onReason": "x", "onExitCode": "1", "action": "RETRY"}]},
           timeout={"attemptDurationSeconds": 60}, tags={"a": "b"}, platformCapabilities=["EC2"],
           consumableResourceProperties=TOKENS),
    define("old", containerProperties={"image": "busybox", "vcpus": 1, "memory": 64}),
    define("serverless", containerProperties=SERVERLESS, platformCapabilities=["FARGATE"]),
    define("tasks", ecsProperties={"taskProperties": [TASK]}),
    define("fargate", ecsProperties={"taskProperties": [ON_FARGATE]}, platformCapabilities=["FARGATE"]),
    define("pods", eksProperties={"podProperties": POD}),
    define("nodes", type="multinode", nodeProperties={"numNodes": 4, "mainNode": 0, "nodeRangeProperties": [
        {"targetNodes": "0:1", "container": {**CONTAINER, "instanceType": "m5.large"}, "consumableResourceProperties": TOKENS},
        {"targetNodes": "2:3", "container": CONTAINER}]}),
    define("task-nodes", type="multinode", nodeProperties={"numNodes": 1, "mainNode": 0, "nodeRangeProperties": [
        {"targetNodes": "0:", "instanceTypes": ["m5.large"], "ecsProperties": {"taskProperties": [TASK]}}]}),
    define("pod-nodes", type="multinode", nodeProperties={"numNodes": 1, "mainNode": 0, "nodeRangeProperties": [
        {"targetNodes": "0:", "instanceTypes": ["m5.large"], "eksProperties": {"podProperties": POD}}]}),
]
for name in still:
    submit(name, "still")
define("plain", containerProperties=CONTAINER, retryStrategy={"attempts": 2}, consumableResourceProperties=TOKENS)
define("task", ecsProperties={"taskProperties": [{"containers": [
    {"name": "app", "image": "busybox", "resourceRequirements": ROOM}]}]})
define("pod", eksProperties={"podProperties": {"containers": [
    {"name": name, "image": "busybox", "resources": SMALL} for name in ("app", "side")]}})
define("single", containerProperties=CONTAINER)
define("gang", type="multinode", nodeProperties={"numNodes": 2, "mainNode": 0, "nodeRangeProperties": [
    {"targetNodes": "0:", "container": CONTAINER}]})
runs = {name: submit(name, "shared", shareIdentifier="a") for name in ("plain", "task", "pod")}
runs |= {name: submit(name, "shared", "single", shareIdentifier="a") for name in ("broken", "runs")}
runs["array"] = submit("array", "shared", "plain", shareIdentifier="a", arrayProperties={"size": 2},
                       dependsOn=[{"jobId": runs["plain"]}, {"type": "SEQUENTIAL"}])
runs["gang"] = submit("gang", "shared", shareIdentifier="a")
print(json.dumps(runs))
