//! `platformCapabilities`: which environments of a queue can run a job
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_RegisterJobDefinition.html>).
//!
//! It is asked when a job is accepted and as long as it waits for a pod, so that it is the same whatever is applied first:
//! the job, its queue or the environments.

use batchyard_core::reason;
use batchyard_core::waits::{self, Wait};

use super::caches::Caches;
use super::pool::is_serverless;
use crate::crd::JobQueue;
use crate::crd::convert::Plan;
use crate::crd::job_definition::PlatformCapability;

/// What keeps a job from the environments of its queue: they are of a kind that it cannot run on.
pub struct Obstacle {
    /// Why it is refused, in AWS's words; nothing if another environment may yet come that can run it.
    pub refused: Option<String>,
    /// What it waits for until then.
    pub wait: Wait,
}

/// What keeps a job from the environments of a queue, if anything does.
pub fn obstacle(plan: &Plan, queue: &JobQueue, caches: &Caches) -> Option<Obstacle> {
    let kinds = kinds(queue, caches);
    let (wrong, is_certain) = judge(&plan.capabilities, kinds.iter().copied())?;
    let name = queue.metadata.name.as_deref().unwrap_or_default();
    let refused = is_certain.then(|| reason::capability(wrong));
    Some(Obstacle { refused, wait: waits::capability(name, wrong) })
}

/// Which environments of a queue are serverless, in their order; of one that does not exist nothing is known.
pub fn kinds(queue: &JobQueue, caches: &Caches) -> Vec<Option<bool>> {
    let namespace = queue.metadata.namespace.as_deref().unwrap_or_default();
    let mut order: Vec<_> = queue.spec.compute_environment_order.iter().collect();
    order.sort_by_key(|entry| entry.order);
    let environment = |reference: &str| caches.environment(namespace, reference);
    order.iter().map(|entry| Some(is_serverless(&environment(&entry.compute_environment)?.spec))).collect()
}

/// What a job would have to run on and cannot, and whether that is certain, given which of the queue's environments are
/// serverless, in their order; of one that does not exist nothing is known.
///
/// All environments of a queue are of one kind: that of the first counts. The dispatcher uses that of the first that
/// exists.
fn judge(
    capabilities: &[PlatformCapability],
    mut kinds: impl Iterator<Item = Option<bool>> + Clone,
) -> Option<(&'static str, bool)> {
    let used = kinds.clone().flatten().next()?;
    let takes = |capability: &PlatformCapability| match capability {
        PlatformCapability::Ec2 => !used,
        PlatformCapability::Fargate => used,
        PlatformCapability::ManagedInstances => false,
    };
    if capabilities.iter().any(takes) {
        return None;
    }
    let wrong = match capabilities.first()? {
        PlatformCapability::Ec2 => "EC2",
        PlatformCapability::Fargate => "FARGATE",
        PlatformCapability::ManagedInstances => "MANAGED_INSTANCES",
    };
    Some((wrong, kinds.next().flatten().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_run_where() {
        use PlatformCapability::{Ec2, Fargate, ManagedInstances};
        const ON: Option<bool> = Some(false);
        const SERVERLESS: Option<bool> = Some(true);
        for (capabilities, kinds, want) in [
            (vec![], vec![SERVERLESS], None),
            (vec![Ec2], vec![ON], None),
            (vec![Ec2], vec![SERVERLESS], Some(("EC2", true))),
            (vec![Fargate], vec![ON], Some(("FARGATE", true))),
            (vec![Fargate], vec![SERVERLESS, None], None),
            (vec![Ec2, Fargate], vec![SERVERLESS], None),
            (vec![Ec2, Fargate], vec![ON], None),
            (vec![ManagedInstances], vec![ON], Some(("MANAGED_INSTANCES", true))),
            // Nothing can be made there, and nothing is known.
            (vec![Ec2], vec![], None),
            (vec![Ec2], vec![None], None),
            // The first one that exists would be used.
            (vec![Ec2], vec![None, ON], None),
            (vec![Ec2], vec![None, SERVERLESS], Some(("EC2", false))),
            (vec![Fargate], vec![None, None, ON], Some(("FARGATE", false))),
            (vec![Fargate], vec![ON, None], Some(("FARGATE", true))),
        ] {
            assert_eq!(judge(&capabilities, kinds.iter().copied()), want, "{capabilities:?} {kinds:?}");
        }
    }
}
