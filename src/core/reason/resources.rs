//! What the statuses and conditions of queues, environments and definitions say.
//!
//! The healthy texts are AWS's, and so is the prefix of what makes an environment or a queue
//! INVALID (<https://docs.aws.amazon.com/batch/latest/userguide/invalid_compute_environment.html>);
//! the rest is ours.

use super::clean::{REASON_LIMIT, line};

/// A scheduling policy is in order.
pub const POLICY_HEALTHY: &str = "SchedulingPolicy Healthy";
/// A consumable resource is in order.
pub const CONSUMABLE_HEALTHY: &str = "ConsumableResource Healthy";
/// A queue that is in order. AWS's text.
pub const QUEUE_HEALTHY: &str = "JobQueue Healthy";
/// An environment that is in order. AWS's text.
pub const ENVIRONMENT_HEALTHY: &str = "ComputeEnvironment Healthy";

// Why a queue is INVALID.

/// The queue has no environment at all.
pub fn no_environment_order() -> String {
    client_error("computeEnvironmentOrder names no ComputeEnvironment")
}

/// SageMaker queues.
pub fn service_environments() -> String {
    client_error("serviceEnvironmentOrder is not supported yet")
}

/// An environment is not there, or not yet.
pub fn environment_missing(reference: &str) -> String {
    client_error(&format!("computeEnvironmentOrder: ComputeEnvironment {reference} does not exist"))
}

/// The same where the operator works for some namespaces only: the environment may be there, and is left to others.
pub fn environment_not_served(reference: &str) -> String {
    client_error(&format!(
        "computeEnvironmentOrder: ComputeEnvironment {reference} does not exist among those that are named after the \
         namespaces that this operator serves"
    ))
}

/// The queue's scheduling policy is not there, or not yet.
pub fn policy_missing(reference: &str) -> String {
    client_error(&format!("schedulingPolicyArn: SchedulingPolicy {reference} does not exist"))
}

/// Quota shares are for SageMaker queues.
pub fn quota_shares() -> String {
    client_error("quotaSharePolicy: there are no SageMaker queues here; use fairsharePolicy")
}

/// One entry of a share distribution stands for shares of another.
pub fn shares_overlap(one: &str, other: &str) -> String {
    client_error(&format!("fairsharePolicy.shareDistribution: {one} and {other} overlap"))
}

/// A queue whose head waits for something that stays until somebody acts.
pub fn blocked_by(job: &str, why: &str) -> String {
    format!("BatchJob {job} is at the head of the queue and cannot be placed: {why}")
}

/// An environment stands twice in the order.
pub fn environment_twice(reference: &str) -> String {
    client_error(&format!("computeEnvironmentOrder: ComputeEnvironment {reference} is named twice"))
}

/// Two environments have the same place.
pub fn order_twice(order: i64) -> String {
    client_error(&format!("computeEnvironmentOrder: order {order} is given twice"))
}

/// The environment's `allowedNamespaces` leaves the queue's namespace out.
pub fn environment_not_allowed(reference: &str, namespace: &str) -> String {
    client_error(&format!(
        "computeEnvironmentOrder: ComputeEnvironment {reference} does not allow namespace {namespace}"
    ))
}

/// Instances and serverless nodes in one queue, which AWS does not take either: what is of another kind than the first is
/// not used.
pub fn kinds_mixed(reference: &str) -> String {
    client_error(&format!(
        "computeEnvironmentOrder: ComputeEnvironment {reference} is of another kind than those before it: a queue has \
         either FARGATE and FARGATE_SPOT or EC2 and SPOT"
    ))
}

// Why an environment is INVALID.

/// Kinds of capacity that need serverless or AWS's own nodes.
pub fn type_unsupported(kind: &str) -> String {
    client_error(&format!("computeResources.type: {kind} is not supported yet"))
}

/// A FARGATE environment, and the cluster has no serverless node.
pub fn no_serverless_node(kind: &str) -> String {
    client_error(&format!(
        "computeResources.type: {kind} needs serverless nodes, and no node has the label type=virtual-kubelet or \
         eks.amazonaws.com/compute-type=fargate; name the nodes in provisioner.static, or use EC2 or SPOT"
    ))
}

/// A FARGATE environment whose nodes were to be instances.
pub fn serverless_instances(kind: &str) -> String {
    client_error(&format!(
        "provisioner.karpenter: it makes instances, and computeResources.type {kind} wants serverless nodes"
    ))
}

/// Nothing can be made for it: the kind does not exist in the cluster.
pub fn karpenter_missing(kind: &str) -> String {
    client_error(&format!("provisioner.karpenter: the cluster has no kind {kind}; is Karpenter installed?"))
}

/// Members without which an EC2NodeClass cannot be made.
pub fn node_class_needs(missing: &[&str]) -> String {
    let missing: Vec<_> = missing.iter().map(|member| format!("computeResources.{member}")).collect();
    client_error(&format!("provisioner.karpenter without nodeClassRef needs {}", missing.join(", ")))
}

/// Somebody else has an object of the name that ours would have.
pub fn karpenter_name_taken(kind: &str, name: &str) -> String {
    client_error(&format!(
        "provisioner.karpenter: {kind} {name} exists and was not made for this environment"
    ))
}

/// The API server does not take what was made for Karpenter.
pub fn karpenter_refused(kind: &str, name: &str, why: &str) -> String {
    let text = format!("provisioner.karpenter: the API server refuses {kind} {name}: {why}");
    line(&client_error(&text), 4 * REASON_LIMIT)
}

/// Karpenter does not take what was made for it.
pub fn node_pool_not_ready(name: &str, why: &str) -> String {
    let text = format!("provisioner.karpenter: NodePool {name} is not ready: {why}");
    line(&client_error(&text), 4 * REASON_LIMIT)
}

/// Karpenter has not looked yet: the environment is being made.
pub fn node_pool_settling(name: &str) -> String {
    format!("Waiting for Karpenter to take up NodePool {name}")
}

/// Nothing holds the vCPUs of `field`: the API server refuses the pods that would.
pub fn placeholders_refused(field: &str, why: &str) -> String {
    line(&format!("{field} (the API server refuses placeholders: {why})"), 4 * REASON_LIMIT)
}

/// Which instance types Karpenter takes, whatever `field` says.
pub fn strategy_of_karpenter(field: &str, spot: bool) -> String {
    let takes = if spot { "weighs price against capacity" } else { "takes the cheapest that fits" };
    format!("{field} (Karpenter {takes})")
}

/// The API server refuses pods because of this member.
pub fn pods_refused(member: &str, why: &str) -> String {
    client_error(&format!("{member}: the API server refuses pods with it: {why}"))
}

// What keeps a queue or an environment that is being deleted, in DeletionBlocked.

/// Jobs of a queue, of which the first are named. `ending` if they are being ended.
pub fn held_by_jobs(count: usize, first: &[String], ending: bool) -> String {
    let names = some_of(first, count);
    match ending {
        true => format!("Waiting for {} to end: {names}", counted(count, "job")),
        false => format!(
            "{} not ended: {names}. The queue takes no new jobs and goes when they have ended. To fail them now, set \
             state: DISABLED or the annotation batchyard.io/delete-jobs: \"true\"",
            match count {
                1 => "1 job has".to_owned(),
                n => format!("{n} jobs have"),
            }
        ),
    }
}

/// Queues that name an environment.
pub fn held_by_queues(count: usize, first: &[String]) -> String {
    format!("{} it: {}", if count == 1 { "1 queue names" } else { "Queues name" }, some_of(first, count))
}

/// Jobs that are placed in an environment.
pub fn held_by_placed_jobs(count: usize, first: &[String]) -> String {
    format!("Waiting for {} to end: {}", counted(count, "job"), some_of(first, count))
}

/// Its nodes, which go with what they were made from.
pub fn held_by_nodes(kind: &str, name: &str) -> String {
    format!("Waiting for {kind} {name} and its nodes to go")
}

/// It is being deleted and nothing holds it, or all that holds it is said elsewhere.
pub const BEING_DELETED: &str = "It is being deleted";

// Definitions.

/// A definition whose newest revision matches its spec.
pub fn registered(revision: u32) -> String {
    format!("Revision {revision} is the newest")
}

/// A definition of which no revision may be used by new jobs.
pub fn all_deregistered(revision: u32) -> String {
    format!("Revision {revision} is the newest; no revision is ACTIVE")
}

/// The API server did not take the revision.
pub fn revision_refused(why: &str) -> String {
    line(&format!("The revision was refused: {why}"), 4 * REASON_LIMIT)
}

/// Members of the spec without which its jobs would be others.
pub fn unsupported(fields: &[String]) -> String {
    format!("Not supported yet: {}", fields.join(", "))
}

/// Members of the spec that have no effect.
pub fn fields_ignored(fields: &[String]) -> String {
    format!("No effect: {}", fields.join(", "))
}

/// A job or a definition has too much in it, most of that in one member.
pub fn too_large(path: &str, what: &str, bytes: usize, here: usize, most: usize) -> String {
    format!("{path}: {what} has {bytes} bytes as JSON, {here} of them here; it may have {most}")
}

/// The object's name is not the one that AWS's name stands for: nothing finds it by that name.
pub fn name_has_no_effect(field: &str, slug: &str) -> String {
    format!("{field} (the object would have to be named {slug})")
}

/// An entry of `childActions` names indexes that the array does not have.
pub fn indexes_have_no_effect(field: &str, indexes: &str) -> String {
    format!("{field} (the array has no children {indexes})")
}

pub(super) fn client_error(why: &str) -> String {
    format!("CLIENT_ERROR - {why}")
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn some_of(first: &[String], count: usize) -> String {
    let more = if count > first.len() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_holds() {
        let first = ["a".to_owned(), "b".to_owned()];
        assert_eq!(held_by_placed_jobs(1, &first[..1]), "Waiting for 1 job to end: a");
        assert_eq!(held_by_jobs(3, &first, true), "Waiting for 3 jobs to end: a, b, …");
        assert!(held_by_jobs(2, &first, false).starts_with("2 jobs have not ended: a, b. The queue"));
        assert_eq!(held_by_queues(2, &first), "Queues name it: a, b");
    }
}
