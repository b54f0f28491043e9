#!/usr/bin/env bash
# Custom logging with AWS Batch: the commands of the post.
set -euo pipefail
cd "$(mktemp -d)"

instead() { echo "# $1"; }

# The post asks the instance that it runs on.
instead "curl of instance metadata, aws ec2 describe-security-groups: nodes have their networks from the cluster"
export AWS_REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-us-east-1}}
export SUBNET_ID=${SUBNET_ID:-subnet-0} AWS_SG_DEFAULT=${AWS_SG_DEFAULT:-sg-0} AWS_ACCT_ID=${AWS_ACCT_ID:-123456789012}

instead "aws iam create-role ecsInstanceRole, create-instance-profile: nodes need no role of Batchyard"
instead "aws iam create-role AWSBatchServiceRole: the operator's ClusterRole, from the chart"
instead "aws iam create-policy batch-awslog-policy: logging.allowedDrivers and .allowedLogGroups of the ComputeEnvironment"

# mended: the page lost the closing brackets and EOF of each document.
cat > compute-environment.json << EOF
{
  "computeEnvironmentName": "od-ce",
  "type": "MANAGED",
  "state": "ENABLED",
  "computeResources": {
    "type": "EC2",
    "allocationStrategy": "BEST_FIT_PROGRESSIVE",
    "minvCpus": 1,
    "maxvCpus": 8,
    "desiredvCpus": 1,
    "instanceTypes": ["m5.xlarge"],
    "subnets": ["${SUBNET_ID}"],
    "securityGroupIds": ["${AWS_SG_DEFAULT}"],
    "instanceRole": "arn:aws:iam::${AWS_ACCT_ID}:instance-profile/ecsInstanceRole",
    "tags": {"Name": "aws-batch-compute"},
    "bidPercentage": 0
  },
  "serviceRole": "arn:aws:iam::${AWS_ACCT_ID}:role/AWSBatchServiceRole"
}
EOF
aws batch create-compute-environment --cli-input-json file://compute-environment.json

aws batch  describe-compute-environments

# mended: closing brackets and EOF.
cat > job-queue.json << EOF
{
  "jobQueueName": "jq",
  "state": "ENABLED",
  "priority": 1,
  "computeEnvironmentOrder": [{
    "order": 0,
    "computeEnvironment": "od-ce"
  }]
}
EOF
aws batch create-job-queue --cli-input-json file://job-queue.json

# mended: closing brackets and EOF.
cat > job-definition.json << EOF
{
  "jobDefinitionName": "alpine-env",
  "type": "container",
  "containerProperties": {
  "image": "alpine",
  "vcpus": 1,
  "memory": 128,
  "command": ["env"],
  "readonlyRootFilesystem": true,
  "logConfiguration": {
    "logDriver": "awslogs",
    "options": {
      "awslogs-region": "${AWS_REGION}",
      "awslogs-group": "/aws/batch/custom/env-queue",
      "awslogs-create-group": "true"}
    }
  }
}
EOF
aws batch register-job-definition --cli-input-json file://job-definition.json

# The post has the account from its instance's metadata; a namespace's stands in each of its ARNs.
AWS_ACCT_ID=$(aws batch describe-job-queues --job-queues jq | jq -r '.jobQueues[0].jobQueueArn' | cut -d: -f5)

aws batch submit-job \
  --job-name test-$(date +"%F_%H-%M-%S") \
  --job-queue arn:aws:batch:${AWS_REGION}:${AWS_ACCT_ID}:job-queue/jq \
  --job-definition arn:aws:batch:${AWS_REGION}:${AWS_ACCT_ID}:job-definition/alpine-env:1

# mended: the line with cat, which the page lost, closing brackets and EOF. The post leaves the URL and the token to its reader.
cat > job-definition-splunk.json << EOF
{
  "jobDefinitionName": "alpine-splunk",
  "type": "container",
  "containerProperties": {
    "image": "alpine",
    "vcpus": 1,
    "memory": 128,
    "command": ["env"],
    "readonlyRootFilesystem": false,
    "logConfiguration": {
      "logDriver": "splunk",
      "options": {
        "splunk-url": "${SPLUNK_URL:-https://splunk.example.org:8088}",
        "splunk-token": "${SPLUNK_TOKEN:-XXX-YYY-ZZZ}"
      }
    }
  }
}
EOF
aws batch register-job-definition --cli-input-json file://job-definition-splunk.json

# The post shows these in the console.
aws batch submit-job --job-name splunk --job-queue jq --job-definition alpine-splunk
aws batch list-jobs --job-queue jq --job-status ALL | jq -r '.jobSummaryList[] | [.jobName, .status] | @tsv'
