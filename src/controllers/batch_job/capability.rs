//! `platformCapabilities`: whether any environment of a job's queue can run it
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_RegisterJobDefinition.html>).

use batchyard_core::job::decide::Readiness;
use batchyard_core::reason;
use kube::ResourceExt;

use crate::controllers::Context;
use crate::crd::job_definition::PlatformCapability;
use crate::crd::{BatchJob, JobDefinitionSpec};
use crate::k8s::pool::is_serverless;

/// Refuses a job whose queue has environments of another kind: that of the first counts. While one is missing nothing is
/// known; a definition that stands in the job itself says nothing of where it can run, and neither does a pod.
pub(super) fn refusal(
    job: &BatchJob,
    definition: &JobDefinitionSpec,
    context: &Context,
) -> Option<Readiness> {
    if job.spec.job_definition.is_none() || definition.eks_properties.is_some() {
        return None;
    }
    let namespace = job.namespace()?;
    let queue = context.caches.queue(&namespace, &job.spec.job_queue)?;
    let order = queue.spec.compute_environment_order.iter();
    let found = order.map(|entry| {
        let environment = context.caches.environment(&namespace, &entry.compute_environment)?;
        Some((entry.order, is_serverless(&environment.spec)))
    });
    let (_, serverless) = found.collect::<Option<Vec<_>>>()?.into_iter().min_by_key(|(order, _)| *order)?;
    let wrong = wrong_kind(&definition.platform_capabilities, serverless)?;
    Some(Readiness::Refused(reason::capability(wrong)))
}

/// What a job can run on, if it is not what the environments are: serverless or not.
fn wrong_kind(capabilities: &[PlatformCapability], serverless: bool) -> Option<&'static str> {
    let wanted = if capabilities.is_empty() { &[PlatformCapability::Ec2] } else { capabilities };
    let takes = |capability: &PlatformCapability| match capability {
        PlatformCapability::Ec2 => !serverless,
        PlatformCapability::Fargate => serverless,
        PlatformCapability::ManagedInstances => false,
    };
    if wanted.iter().any(takes) {
        return None;
    }
    wanted.first().map(|capability| match capability {
        PlatformCapability::Ec2 => "EC2",
        PlatformCapability::Fargate => "FARGATE",
        PlatformCapability::ManagedInstances => "MANAGED_INSTANCES",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_run_where() {
        use PlatformCapability::{Ec2, Fargate, ManagedInstances};
        for (capabilities, serverless, want) in [
            (vec![], false, None),
            (vec![], true, Some("EC2")),
            (vec![Ec2], true, Some("EC2")),
            (vec![Fargate], false, Some("FARGATE")),
            (vec![Fargate], true, None),
            (vec![Ec2, Fargate], true, None),
            (vec![Ec2, Fargate], false, None),
            (vec![ManagedInstances], false, Some("MANAGED_INSTANCES")),
        ] {
            assert_eq!(wrong_kind(&capabilities, serverless), want, "{capabilities:?} {serverless:?}");
        }
    }
}
