#!/usr/bin/env bash
# How to run 3D interactive applications with NICE DCV in AWS Batch: the commands of the post. It clicks through most steps
# in the console; here each is the aws CLI's command with the values that the page gives.
set -euo pipefail
cd "$(mktemp -d)"

instead() { echo "# $1"; }

# Steps 1 to 3.
instead "aws secretsmanager create-secret Run_DCV_in_Batch: kubectl create secret generic run-dcv-in-batch-72f907 --from-literal=user001=..."
instead "aws secretsmanager create-secret DCV_Session_Ready_Notification, SNS topic: a NotificationRule with sessionReady and smtp or http"
instead "role dcv-ecs-batch-role: a ServiceAccount, annotated with the role's ARN on EKS"
instead "security group dcv-sg: a NetworkPolicy, or the firewall of the nodes"
instead "aws ecr create-repository, docker build, docker push: any registry that the nodes can pull from"

# Step 4.1, "Create Environment".
cat > compute-environment.json << EOF
{
  "computeEnvironmentName": "DCV-GPU-CE",
  "type": "MANAGED",
  "computeResources": {
    "type": "EC2",
    "allocationStrategy": "BEST_FIT_PROGRESSIVE",
    "minvCpus": 8,
    "maxvCpus": 16,
    "desiredvCpus": 8,
    "instanceTypes": ["${INSTANCE_TYPE:-g4dn.xlarge}"],
    "subnets": ["${SUBNET_ID:-subnet-0}"],
    "securityGroupIds": ["dcv-sg"],
    "instanceRole": "dcv-ecs-batch-role",
    "tags": {"Name": "DCV-GPU-Batch-Instance"}
  },
  "serviceRole": "AWSBatchServiceRole"
}
EOF
aws batch create-compute-environment --cli-input-json file://compute-environment.json

# Step 4.2, "Create queue".
aws batch create-job-queue --job-queue-name DCV-GPU-Queue --priority 1 \
  --compute-environment-order order=1,computeEnvironment=DCV-GPU-CE

# Step 4.3, "Create" under Job Definitions.
cat > job-definition.json << EOF
{
  "jobDefinitionName": "DCV-GPU-JD",
  "type": "container",
  "timeout": {"attemptDurationSeconds": 3600},
  "parameters": {"command": "--network=host"},
  "containerProperties": {
    "jobRoleArn": "dcv-ecs-batch-role",
    "image": "${DCV_REPOSITORY:-dkr.ecr.eu-west-1.amazonaws.com/dcv}",
    "vcpus": 8,
    "memory": 2048,
    "privileged": true,
    "user": "root",
    "environment": [{"name": "DISPLAY", "value": "0"}]
  }
}
EOF
aws batch register-job-definition --cli-input-json file://job-definition.json

# Step 4.4, "Submit Job".
JOB=$(aws batch submit-job --job-name dcv --job-queue DCV-GPU-Queue --job-definition DCV-GPU-JD | jq -r .jobId)
aws batch describe-jobs --jobs "$JOB" | jq '.jobs[0] | {jobName, status, statusReason, timeout}'

# Step 4.5.
instead "aws ec2 describe-instances: status.session.url of the BatchJob, if its definition has a session (docs/sessions.md)"

# "Once you've finished", in the order in which AWS wants it.
aws batch terminate-job --job-id "$JOB" --reason "finished"
until [ "$(aws batch describe-jobs --jobs "$JOB" | jq -r '.jobs[0].status')" = FAILED ]; do sleep 0.5; done
aws batch update-compute-environment --compute-environment DCV-GPU-CE --compute-resources minvCpus=0,desiredvCpus=0
aws batch deregister-job-definition --job-definition DCV-GPU-JD:1
aws batch update-job-queue --job-queue DCV-GPU-Queue --state DISABLED
aws batch delete-job-queue --job-queue DCV-GPU-Queue
until [ "$(aws batch describe-job-queues --job-queues DCV-GPU-Queue | jq '.jobQueues | length')" = 0 ]; do sleep 0.5; done
aws batch update-compute-environment --compute-environment DCV-GPU-CE --state DISABLED
aws batch delete-compute-environment --compute-environment DCV-GPU-CE
until [ "$(aws batch describe-compute-environments --compute-environments DCV-GPU-CE | jq '.computeEnvironments | length')" = 0 ]; do sleep 0.5; done
instead "delete-repository, delete-role, delete-security-group, delete-topic, delete-secret: kubectl delete secret, serviceaccount, notificationrule"
