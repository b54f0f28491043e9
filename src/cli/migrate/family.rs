//! The kinds of objects that an AWS account has, in the order in which they may be applied.

use batchyard_core::name;

use crate::crd::aws;

/// A kind of object, here and at AWS.
#[derive(Debug)]
pub(super) struct Family {
    /// The kind here.
    pub(super) kind: &'static str,
    /// Its name in commands of kubectl.
    pub(super) resource: &'static str,
    /// The member of the answer of `aws batch describe-…` that holds a list of them.
    pub(super) list: &'static str,
    /// The member with the name.
    pub(super) name: &'static str,
    /// The member with the ARN.
    pub(super) arn: &'static str,
    /// The type in an ARN.
    pub(super) in_arn: &'static str,
    /// The command of the aws CLI that makes one.
    pub(super) create: &'static str,
    /// What that command takes.
    pub(super) members: &'static [&'static str],
    /// What only AWS knows: it says how things are there, and is no part of a manifest.
    pub(super) told: &'static [&'static str],
}

/// Compute environments.
pub(super) const ENVIRONMENT: &Family = &Family {
    kind: "ComputeEnvironment",
    resource: "computeenvironment",
    list: "computeEnvironments",
    name: "computeEnvironmentName",
    arn: "computeEnvironmentArn",
    in_arn: "compute-environment",
    create: "create-compute-environment",
    members: aws::COMPUTE_ENVIRONMENT,
    told: &[
        "computeEnvironmentArn",
        "ecsClusterArn",
        "status",
        "statusReason",
        "uuid",
        "containerOrchestrationType",
    ],
};

/// Scheduling policies.
pub(super) const POLICY: &Family = &Family {
    kind: "SchedulingPolicy",
    resource: "schedulingpolicy",
    list: "schedulingPolicies",
    name: "name",
    arn: "arn",
    in_arn: "scheduling-policy",
    create: "create-scheduling-policy",
    members: aws::SCHEDULING_POLICY,
    told: &["arn"],
};

/// Consumable resources.
pub(super) const RESOURCE: &Family = &Family {
    kind: "ConsumableResource",
    resource: "consumableresource",
    list: "consumableResources",
    name: "consumableResourceName",
    arn: "consumableResourceArn",
    in_arn: "consumable-resource",
    create: "create-consumable-resource",
    members: aws::CONSUMABLE_RESOURCE,
    told: &["consumableResourceArn", "inUseQuantity", "availableQuantity", "createdAt"],
};

/// Job queues.
pub(super) const QUEUE: &Family = &Family {
    kind: "JobQueue",
    resource: "jobqueue",
    list: "jobQueues",
    name: "jobQueueName",
    arn: "jobQueueArn",
    in_arn: "job-queue",
    create: "create-job-queue",
    members: aws::JOB_QUEUE,
    told: &["jobQueueArn", "status", "statusReason"],
};

/// Job definitions.
pub(super) const DEFINITION: &Family = &Family {
    kind: "JobDefinition",
    resource: "jobdefinition",
    list: "jobDefinitions",
    name: "jobDefinitionName",
    arn: "jobDefinitionArn",
    in_arn: "job-definition",
    create: "register-job-definition",
    members: aws::JOB_DEFINITION,
    told: &["jobDefinitionArn", "revision", "status", "containerOrchestrationType"],
};

/// All of them, in the order in which they may be applied.
pub(super) const ALL: [&Family; 5] = [ENVIRONMENT, POLICY, RESOURCE, QUEUE, DEFINITION];

impl Family {
    /// True for the only kind that is no part of a namespace.
    pub(super) fn is_of_cluster(&self) -> bool {
        self.kind == ENVIRONMENT.kind
    }

    /// The object's name, as the AWS API of a namespace would give it.
    pub(super) fn object(&self, namespace: &str, aws_name: &str) -> String {
        match self.is_of_cluster() {
            true => aws::environment_object(namespace, aws_name),
            false => name::slug(aws_name),
        }
    }
}
