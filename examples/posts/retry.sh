#!/usr/bin/env bash
# Introducing retry strategies for AWS Batch: the commands of the post.
set -euo pipefail
cd "$(mktemp -d)"

instead() { echo "# $1"; }

# The post asks the instance that it runs on.
instead "curl of instance metadata, aws ec2 describe-security-groups: nodes have their networks from the cluster"
export SUBNET_ID=${SUBNET_ID:-subnet-0} AWS_SG_DEFAULT=${AWS_SG_DEFAULT:-sg-0} AWS_ACCT_ID=${AWS_ACCT_ID:-123456789012}

instead "aws iam create-role ecsInstanceRole, create-instance-profile: nodes need no role of Batchyard"
instead "aws iam create-role AWSBatchServiceRole: the operator's ClusterRole, from the chart"

# mended: the page lost the closing brace and EOF of each document.
cat > compute-environment.json << EOF
{
    "computeEnvironmentName": "compute-0",
    "type": "MANAGED",
    "state": "ENABLED",
    "computeResources": {
        "type": "SPOT",
        "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED",
        "minvCpus": 2,
        "maxvCpus": 32,
        "desiredvCpus": 4,
        "instanceTypes": [ "m5.xlarge","m5.2xlarge","m4.xlarge","m4.2xlarge","m5a.xlarge","m5a.2xlarge"],
        "subnets": ["${SUBNET_ID}"],
        "securityGroupIds": ["${AWS_SG_DEFAULT}"],
        "instanceRole": "arn:aws:iam::${AWS_ACCT_ID}:instance-profile/ecsInstanceRole",
        "tags": {"Name": "aws-batch-instances"},
        "ec2KeyPair": "batch-ssh-key",
        "bidPercentage": 0
    },
    "serviceRole": "arn:aws:iam::${AWS_ACCT_ID}:role/AWSBatchServiceRole"
}
EOF
# mended: the page has a blank behind file://
aws batch create-compute-environment --cli-input-json file://compute-environment.json

aws batch describe-compute-environments |jq '.computeEnvironments[] |select(.computeEnvironmentName=="compute-0")'

# mended: closing brackets and EOF.
cat > job-queue.json << EOF
{
    "jobQueueName": "queue-0",
    "state": "ENABLED",
    "priority": 1,
    "computeEnvironmentOrder": [{
        "order": 0,
        "computeEnvironment": "compute-0"
    }]
}
EOF
aws batch create-job-queue --cli-input-json file://job-queue.json

# mended: the name of the file (the page has jdef-spot..json), a comma behind "*", closing brackets and EOF.
cat > jdef-spot.json << EOF
{
    "jobDefinitionName": "spot",
    "type": "container",
    "containerProperties": {
        "image": "alpine:latest",
        "vcpus": 2,
        "memory": 256,
        "command": ["sleep","600"],
        "readonlyRootFilesystem": false
    },
    "retryStrategy": {
        "attempts": 5,
        "evaluateOnExit":
        [{
            "onStatusReason" :"Host EC2*",
            "action": "RETRY"
        },{
            "onReason" : "*",
            "action": "EXIT"
        }]
    }
}
EOF
aws batch register-job-definition --cli-input-json file://jdef-spot.json

# mended: evaluateOnExit, its brackets, closing braces and EOF.
cat > jdef-randomEC.json << EOF
{
    "jobDefinitionName": "randomEC",
    "type": "container",
    "containerProperties": {
        "image": "qnib/random-ec:2020-10-13.3",
        "vcpus": 2,
        "memory": 256,
        "readonlyRootFilesystem": false
    },
    "retryStrategy": {
        "attempts": 10,
        "evaluateOnExit": [{
            "onExitCode": "1",
            "action": "RETRY"
        },{
            "onExitCode": "2",
            "action": "RETRY"
        },{
            "onExitCode": "3",
            "action": "EXIT"
        }]
    }
}
EOF
aws batch register-job-definition --cli-input-json file://jdef-randomEC.json

aws batch submit-job  --job-name randomEC-$(date +"%F_%H-%M-%S") --job-queue queue-0   --job-definition randomEC:1

# mended: evaluateOnExit, its brackets, closing braces and EOF.
cat > jdef-noContainer.json << EOF
{
    "jobDefinitionName": "noContainer",
    "type": "container",
    "containerProperties": {
        "image": "no-container-image",
        "vcpus": 2,
        "memory": 256,
        "readonlyRootFilesystem": false
    },
    "retryStrategy": {
        "attempts": 10,
        "evaluateOnExit": [{
            "onReason": "CannotPullContainerError:*",
            "action": "EXIT"
        }]
    }
}
EOF
aws batch register-job-definition --cli-input-json file://jdef-noContainer.json

# The post shows these in the console.
aws batch submit-job --job-name spot --job-queue queue-0 --job-definition spot
aws batch submit-job --job-name noContainer --job-queue queue-0 --job-definition noContainer
aws batch list-jobs --job-queue queue-0 --job-status ALL | jq -r '.jobSummaryList[] | [.jobName, .status] | @tsv'
