//! A multi-node job: many pods, and one record, which is its main node's.
//!
//! Before the status comes what its pods cannot do without and nothing depends on: the Service by which the nodes
//! resolve, the address of the main node, and what became of each node in an attempt that ended. Then it goes on as
//! with any job: the status, and after it the pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use batchyard_core::definition::nodes;
use batchyard_core::job::decide::Action;
use batchyard_core::job::gang::{Decision, Gang, decide};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Record};
use batchyard_core::reason;
use batchyard_core::reason::clean::shorten;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tracing::warn;

use super::array::records;
use super::dereference::{self, Dereferenced, tolerances_in};
use super::{PROGRESS, UNWATCHED, carry_out, logs, pause, status, tell};
use crate::controllers::{Context, Outcome, Wake};
use crate::crd::batch_job::NodeStatus;
use crate::crd::batch_job_record::ChildRecord;
use crate::crd::job_queue::JobCounts;
use crate::crd::{BatchJob, BatchJobRecord, BatchJobRecordSpec, BatchJobStatus};
use crate::k8s::error::{Error, chain};
use crate::k8s::gangs;
use crate::k8s::pool::is_provisioned;
use crate::k8s::watch::key;

/// Pods of one job that are looked after at a time.
const AT_A_TIME: usize = 16;
/// No record is larger, in bytes: what an object's owners and labels take comes on top.
const RECORD: usize = 98 << 10;
/// What the end of a node takes in a record at most, and what each of several containers adds, where texts are as short
/// as they can be: names have up to 253 characters.
const NODE: usize = 1500;
/// See [`NODE`].
const CONTAINER: usize = 300;
/// How long texts are, in characters, in a record that would be too large with longer ones.
const TEXTS: [usize; 4] = [120, 60, 20, 0];
/// After the address was written the other nodes get the usual time to start: it is counted from the next look.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks at a job that was accepted as a multi-node job.
pub(super) async fn reconcile(job: Arc<BatchJob>, context: &Context) -> Outcome {
    let now = context.clock.now();
    let mut world = dereference::dereference(&job, context).await?;
    let record = job.status.clone().unwrap_or_default().record;
    // Before the main node is bound the others are in its environment already.
    let placed = world.seen.pods.iter().find_map(|pod| pod.compute_environment.clone());
    let gang = gang(&job, &record, placed.as_deref(), context);
    world.tolerances = tolerances_in(placed.as_deref(), context);
    let decision =
        decide(now, (&world.job, &gang), &world.readiness, &record, &world.seen, &world.tolerances);
    // Whatever keeps them from being made must not keep the job from ending.
    let prepared = prepare(&job, &record, &decision, context).await;
    if let Err(error) = &prepared {
        warn!(job = key(job.as_ref()), "{}; trying again", chain(error));
    }
    let mut next = status::next(&job, &world, &decision.job, context.settings.log_tail, now);
    if let Some(phases) = &decision.nodes {
        next.node_properties = Some(Box::new(summary(&gang, phases)));
    }
    let mut current = job.clone();
    if job.status.as_ref() != Some(&next) {
        if let Some(pause) =
            pause(&job, &decision.job, context).or_else(|| pause_of_nodes(&job, &next, context))
        {
            return Ok(Wake::After(pause));
        }
        let containers = world.gang.as_deref().map_or(nodes::MAX_CONTAINERS, nodes::Gang::containers);
        for record in ended(&job, (&gang, containers), &decision.ended) {
            remember(&record, context).await?;
        }
        let mut wanted = job.as_ref().clone();
        wanted.status = Some(next);
        let api = Api::namespaced(context.writer.client().clone(), &job.namespace().unwrap_or_default());
        current = context.caches.wrote_job(context.writer.replace_status(&api, &wanted).await?);
        tell(&job, &current, context);
        context.dispatch.poke();
    }
    let is_over = decision.job.record.phase().is_terminal();
    tidy(&current, &decision.over, is_over, context).await?;
    carry_out_all(&decision.job.actions, &world, context).await?;
    if is_over {
        context.dispatch.forget(&current.uid().unwrap_or_default());
    }
    Ok(match prepared {
        Ok(false) => {
            let again = logs::again(&decision.job.record, &world.pods, now);
            Wake::at([decision.job.wake, again].into_iter().flatten().min(), now)
        }
        Ok(true) => Wake::After(AGAIN),
        Err(_) => Wake::After(UNWATCHED),
    })
}

fn gang(job: &BatchJob, record: &Record, placed: Option<&str>, context: &Context) -> Gang {
    let environment = placed.and_then(|name| context.caches.environments.get(&ObjectRef::new(name)));
    let status = job.status.as_ref().and_then(|status| status.node_properties.clone()).unwrap_or_default();
    let number = |stated: Option<i32>| stated.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let round = (record.next_attempt(), record.next_placement());
    Gang {
        nodes: number(status.num_nodes),
        main: number(status.main_node),
        timeout: SignedDuration::from_secs(i64::from(context.settings.gang_timeout_seconds)),
        grows: environment.is_some_and(|environment| is_provisioned(&environment.spec)),
        published_at: context.caches.gangs.published_at(&job.uid().unwrap_or_default(), round),
    }
}

/// What is said of the nodes when the job is accepted: by it others know that it is a multi-node job.
pub(super) fn first_status(nodes: &nodes::Gang, phase: Phase) -> NodeStatus {
    let gang = Gang { nodes: nodes.nodes, main: nodes.main, ..Gang::default() };
    summary(&gang, &[(phase, nodes.nodes)].into())
}

fn summary(gang: &Gang, phases: &BTreeMap<Phase, u32>) -> NodeStatus {
    let count = |phase| i64::from(phases.get(&phase).copied().unwrap_or_default());
    NodeStatus {
        num_nodes: i32::try_from(gang.nodes).ok(),
        main_node: i32::try_from(gang.main).ok(),
        status_summary: Some(JobCounts::count(count)),
    }
}

/// Makes the Service and gives the main node's address to the others. True if that was done just now.
async fn prepare(
    job: &BatchJob,
    record: &Record,
    decision: &Decision,
    context: &Context,
) -> Result<bool, Error> {
    let (uid, namespace) = (job.uid().unwrap_or_default(), job.namespace().unwrap_or_default());
    let (client, known) = (context.writer.client(), &context.caches.gangs);
    if decision.named && !known.is_named(&uid) {
        let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
        context.writer.apply(&api, &gangs::service(job)).await?;
        known.named(&uid);
    }
    let Some(address) = &decision.address else { return Ok(false) };
    let round = (record.next_attempt(), record.next_placement());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    context.writer.apply(&api, &gangs::address(job, round, address)).await?;
    known.published(&uid, round, context.clock.now());
    Ok(true)
}

/// Removes addresses that nobody needs any more, and with the job's end its Service. Pods that are held still tell of
/// them: they are let go of afterwards.
async fn tidy(job: &BatchJob, over: &[(u32, u32)], is_over: bool, context: &Context) -> Result<(), Error> {
    if over.is_empty() {
        return Ok(());
    }
    let (client, namespace) = (context.writer.client(), job.namespace().unwrap_or_default());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for round in over {
        context.writer.delete(&api, &gangs::address(job, *round, "")).await?;
    }
    if is_over {
        let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
        context.writer.delete(&api, &gangs::service(job)).await?;
        context.caches.gangs.forget(&job.uid().unwrap_or_default());
    }
    Ok(())
}

/// Looks after many pods at a time, in order for each.
async fn carry_out_all(actions: &[Action], world: &Dereferenced, context: &Context) -> Result<(), Error> {
    let pods: HashMap<_, _> = world.pods.iter().filter_map(|pod| Some((pod.uid()?, pod))).collect();
    let mut by_pod: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
    for action in actions {
        by_pod.entry(action.pod_uid()).or_default().push(action);
    }
    let found = by_pod.into_iter().filter_map(|(uid, actions)| Some((*pods.get(uid)?, actions)));
    let each = found.map(|(pod, actions)| async move {
        for action in actions {
            carry_out(action, pod, context).await?;
        }
        Ok(())
    });
    stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME).try_collect().await
}

/// How long a status waits of which nothing but the counts of nodes is new.
fn pause_of_nodes(job: &BatchJob, next: &BatchJobStatus, context: &Context) -> Option<Duration> {
    let known = job.status.as_ref()?;
    let counted = BatchJobStatus { node_properties: known.node_properties.clone(), ..next.clone() };
    let since = context.caches.since_own_write(&job.uid()?)?;
    PROGRESS.checked_sub(since).filter(|pause| counted == *known && !pause.is_zero())
}

/// Nodes whose end is told in one record, each of so many containers at most. It follows from the job alone: after a
/// crash the same nodes are told of in the same record.
fn nodes_per_record(containers: usize) -> usize {
    // Of one container nothing is told beside the end of the attempt.
    let told = if containers > 1 { containers } else { 0 };
    (RECORD / (NODE + told * CONTAINER)).max(1)
}

/// Texts are shortened, of all nodes alike, until the record is no larger than it may be.
fn bounded(mut record: BatchJobRecordSpec) -> BatchJobRecordSpec {
    for limit in TEXTS {
        if records::bytes(&record) <= RECORD {
            break;
        }
        for child in &mut record.children {
            let of_attempts = child.attempts.iter_mut().flat_map(|attempt| {
                let outcomes = attempt.containers.iter_mut().chain(&mut attempt.init_containers);
                let reasons = outcomes.filter_map(|outcome| outcome.reason.as_mut());
                reasons.chain([&mut attempt.status_reason]).chain(attempt.container.reason.as_mut())
            });
            of_attempts.chain(child.status_reason.as_mut()).for_each(|text| *text = shorten(text, limit));
        }
    }
    record
}

/// What is remembered of an attempt that ended, by node, each of so many containers at most. Each attempt has records of
/// its own, which are written once.
fn ended(
    job: &BatchJob,
    (gang, containers): (&Gang, usize),
    ended: &[(u32, Attempt)],
) -> Vec<BatchJobRecord> {
    let Some((_, main)) = ended.iter().find(|(node, _)| *node == gang.main) else { return Vec::new() };
    let at_a_time = nodes_per_record(containers);
    let parts = (gang.nodes as usize).div_ceil(at_a_time).max(1);
    let mut by_part: BTreeMap<usize, Vec<ChildRecord>> = BTreeMap::new();
    for (node, attempt) in ended {
        let record = Record {
            phase: Some(phase(attempt, main)),
            status_reason: Some(attempt.status_reason.clone()),
            started_at: attempt.started_at,
            stopped_at: attempt.stopped_at,
            attempts: vec![attempt.clone()],
            ..Record::default()
        };
        by_part.entry(*node as usize / at_a_time).or_default().push(ChildRecord::new(*node, &record));
    }
    let first = (main.attempt.saturating_sub(1) as usize) * parts;
    let record = |(part, mut children): (usize, Vec<ChildRecord>)| {
        children.sort_by_key(|child| child.index);
        let empty = records::empty(job, u32::try_from(first + part).unwrap_or(u32::MAX));
        records::object(job, bounded(BatchJobRecordSpec { sealed: Some(true), children, ..empty }), None)
    };
    by_part.into_iter().map(record).collect()
}

/// How a node ended; one that was stopped with the others ended as the main node did.
fn phase(attempt: &Attempt, main: &Attempt) -> Phase {
    let stopped = attempt.status_reason == reason::NODE_STOPPED;
    match if stopped { main.container.exit_code } else { attempt.container.exit_code } {
        Some(0) => Phase::Succeeded,
        _ => Phase::Failed,
    }
}

/// Writes a record. One that is there already tells of the same end: it was written before this process began. In a
/// namespace that goes there can be none, and the pods must go all the same.
async fn remember(record: &BatchJobRecord, context: &Context) -> Result<(), Error> {
    match context.writer.write_record(record).await {
        Err(error) if error.is_conflict() || error.is_namespace_going() => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use batchyard_core::job::record::NamedOutcome;
    use jiff::Timestamp;

    use super::*;

    fn attempt(number: u32, code: Option<i32>, reason: &str) -> Attempt {
        let mut attempt = Attempt {
            attempt: number,
            pod_name: "a".repeat(63),
            pod_uid: "u".repeat(36),
            compute_environment: Some("e".repeat(63)),
            node_name: Some("n".repeat(63)),
            instance: Some("i".repeat(19)),
            started_at: Some(Timestamp::UNIX_EPOCH),
            stopped_at: Some(Timestamp::UNIX_EPOCH),
            status_reason: reason.to_owned(),
            ..Attempt::default()
        };
        attempt.container.exit_code = code;
        attempt
    }

    /// How large a record is with the metadata of its object.
    fn size(record: &BatchJobRecord) -> usize {
        serde_json::to_vec(record).expect("plain data").len()
    }

    #[test]
    fn each_attempt_has_records_of_its_own_and_none_is_large() {
        let gang = Gang { nodes: 1000, main: 7, ..Gang::default() };
        let nodes = |number| {
            let each = |node| (node, attempt(number, (node == 7).then_some(0), reason::NODE_STOPPED));
            ended(&BatchJob::default(), (&gang, 1), &(0..1000).map(each).collect::<Vec<_>>())
        };
        let (first, second) = (nodes(1), nodes(2));
        let segments =
            |records: &[BatchJobRecord]| records.iter().map(|r| r.spec.segment).collect::<Vec<_>>();
        assert_eq!((segments(&first), segments(&second)), ((0..16).collect(), (16..32).collect()));
        for record in &first {
            assert!(record.spec.children.len() <= 66 && size(record) < 100 << 10, "{}", size(record));
            let told = record.spec.children[0].attempts[0].status_reason.as_str();
            assert_eq!(told, reason::NODE_STOPPED, "short texts stay");
        }
        assert!(ended(&BatchJob::default(), (&gang, 1), &[]).is_empty());
    }

    /// The longest names and texts that there can be, of characters of four bytes and of such as JSON escapes.
    #[test]
    fn no_record_is_large_whatever_its_nodes_tell() {
        let gang = Gang { nodes: 70, main: 7, ..Gang::default() };
        let mut job = BatchJob::default();
        (job.metadata.name, job.metadata.uid) = (Some("j".repeat(253)), Some("u".repeat(36)));
        job.metadata.namespace = Some("n".repeat(63));
        for containers in [1, 2, 10, 20] {
            for text in ["\u{1F980}", "\"", "a"] {
                let outcome = |at: usize| NamedOutcome {
                    name: format!("{at:063}"),
                    container_id: Some(format!("containerd://{}", "f".repeat(64))),
                    exit_code: Some(255),
                    reason: Some(text.repeat(255)),
                };
                let each = |node| {
                    let mut attempt = attempt(10, Some(255), &text.repeat(512));
                    attempt.container.reason = Some(text.repeat(255));
                    for place in
                        [&mut attempt.compute_environment, &mut attempt.node_name, &mut attempt.instance]
                    {
                        *place = Some("n".repeat(253));
                    }
                    attempt.containers = (0..containers).filter(|_| containers > 1).map(outcome).collect();
                    (node, attempt)
                };
                let records = ended(&job, (&gang, containers), &(0..70).map(each).collect::<Vec<_>>());
                let told: usize = records.iter().map(|record| record.spec.children.len()).sum();
                let largest = records.iter().map(size).max();
                assert_eq!(told, 70, "each node once");
                assert!(largest.is_some_and(|size| size < 100 << 10), "{containers} {text}: {largest:?}");
            }
        }
    }

    #[test]
    fn a_node_that_was_stopped_ended_as_the_main_node_did() {
        let (well, badly) = (attempt(1, Some(0), ""), attempt(1, Some(1), ""));
        let stopped = attempt(1, None, reason::NODE_STOPPED);
        assert_eq!((phase(&stopped, &well), phase(&stopped, &badly)), (Phase::Succeeded, Phase::Failed));
        assert_eq!((phase(&well, &badly), phase(&badly, &well)), (Phase::Succeeded, Phase::Failed));
        assert_eq!(phase(&attempt(1, None, "Host EC2"), &well), Phase::Failed);
    }
}
