//! What texts about a job's definition, and about GPUs and Fargate, mean.

use super::{Explanation, entry};

pub(super) const TABLE: &[Explanation] = &[
    entry(
        "Unable to substitute value. No parameter found for reference …",
        "The command has a Ref:: to a parameter that has no value.",
        "Neither the job's parameters nor the definition's have one of that name.",
        "Submit the job again with the parameter, or give it a default in the definition.",
    ),
    entry(
        "Fargate resource requirements (…) not valid.",
        "The job's vCPUs and memory are no pair that Fargate has.",
        "The definition has the platformCapabilities FARGATE; its resourceRequirements or the job's are not in AWS's table.",
        "Take a pair of the table: 1 vCPU goes with 2048 to 8192 MiB in steps of 1024, for example.",
    ),
    entry(
        "Job Queue is attached to Compute Environment that can not run Jobs with capability …",
        "The queue's environments are of another kind than the job can run on.",
        "platformCapabilities of the definition, which are EC2 if it says nothing, and the types of the environments.",
        "Use another queue, or a definition with the other capability.",
    ),
    entry(
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - …",
        "The job asks for GPUs, and no environment of its queue can ever have any.",
        "None of their instanceTypes has GPUs.",
        "Add types with GPUs, use another queue, or ask for none; until then the job never runs.",
    ),
    entry(
        "Waiting for GPUs in ComputeEnvironment …: none of its nodes has any …",
        "The job asks for GPUs, and no node of the pool offers the resource that stands for them.",
        "There are no such nodes, the device plugin does not run there, or the environment's gpu.resourceName is another.",
        "Add nodes with GPUs and their device plugin, or correct gpu.resourceName.",
    ),
];
