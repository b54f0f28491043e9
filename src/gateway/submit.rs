//! SubmitJob (<https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html>): one write, and the same job
//! however often an SDK tries.

use std::collections::BTreeMap;

use batchyard_core::name::{self, DefinitionRef};
use batchyard_core::reason;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::Kind;
use super::call::{Call, needed};
use super::failure::Failure;
use super::names::{self, text};
use super::world::id;
use crate::crd::convert;
use crate::crd::shared::State;
use crate::crd::{BatchJob, BatchJobSpec, JobQueue};
use crate::k8s::submitter;

/// AWS's bound of a request (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
const MAX_BYTES: usize = 30 * 1024;
/// So much of a job's name is in the name of its object.
const STEM: usize = 40;
/// What the ids of jobs are made in (RFC 9562, 5.5): one of our own, so that nobody else makes the same.
const IDS: Uuid = Uuid::from_u128(0x6f0c_4bb2_8d55_4f1e_9a57_2f6b_9d0e_71c3);

const MEMBERS: &[&str] = &[
    "jobName",
    "jobQueue",
    "shareIdentifier",
    "schedulingPriorityOverride",
    "arrayProperties",
    "dependsOn",
    "jobDefinition",
    "parameters",
    "containerOverrides",
    "nodeOverrides",
    "retryStrategy",
    "propagateTags",
    "timeout",
    "tags",
    "eksPropertiesOverride",
    "ecsPropertiesOverride",
    "consumableResourcePropertiesOverride",
];

pub(super) async fn submit_job(call: &Call, body: Value) -> Result<Value, Failure> {
    for member in ["jobName", "jobQueue", "jobDefinition"] {
        text(&body, member)?;
    }
    if body.to_string().len() > MAX_BYTES {
        return Err(Failure::client(format!("Job must be smaller than {MAX_BYTES} bytes")));
    }
    let mut spec: BatchJobSpec = names::spec("BatchJob", MEMBERS, &body)?;
    call.may("create", "batchjobs", None).await?;
    let queue = queue(call, &spec.job_queue).await?;
    share(&queue, &spec)?;
    spec.job_queue = names::queue(&queue);
    definition(call, &mut spec).await?;
    dependencies(call, &spec).await?;
    spec.job_id = Some(job_id(call));
    create(call, spec).await
}

/// The queue, which must take jobs.
async fn queue(call: &Call, reference: &str) -> Result<std::sync::Arc<JobQueue>, Failure> {
    let wanted = call.account.name(Kind::Queue, reference)?;
    call.may("submit", "jobqueues", Some(wanted)).await?;
    let world = call.world();
    let queue = world.named(&world.queues, call.namespace(), wanted).await?;
    let queue = queue.filter(|queue| queue.metadata.deletion_timestamp.is_none());
    let queue = queue.ok_or_else(|| Failure::client(format!("JobQueue {wanted} not found.")))?;
    match queue.spec.state {
        Some(State::Disabled) => {
            Err(Failure::client(format!("JobQueue {wanted} is DISABLED and takes no jobs.")))
        }
        _ => Ok(queue),
    }
}

/// A share belongs to fair-share queues, and is needed there.
fn share(queue: &JobQueue, spec: &BatchJobSpec) -> Result<(), Failure> {
    let is_fair = queue.spec.scheduling_policy_arn.is_some();
    if is_fair && spec.share_identifier.is_none() {
        return Err(Failure::client(reason::share_missing(&names::queue(queue))));
    }
    if !is_fair && (spec.share_identifier.is_some() || spec.scheduling_priority_override.is_some()) {
        // AWS's text, with its missing space.
        return Err(Failure::client(
            "Job with shareIdentifier or schedulingPriority can onlybe submitted to job queue with fair share \
             scheduling policy.",
        ));
    }
    Ok(())
}

/// What the job runs must exist and make sense with what it changes. Without a revision the operator takes the newest
/// ACTIVE one by a live read, so that it is no older than this call.
async fn definition(call: &Call, spec: &mut BatchJobSpec) -> Result<(), Failure> {
    let reference = spec.job_definition.clone().unwrap_or_default();
    // By the name that the caller writes, as the policy of jobs has it.
    let written =
        DefinitionRef::parse(call.account.name(Kind::Definition, &reference)?).map_err(Failure::client)?;
    call.may("use", "jobdefinitions", Some(&written.name)).await?;
    let (found, pinned) = call.usable(&reference).await?;
    let plan = convert::bounded_plan(spec, &found.spec);
    plan.effective.map_err(Failure::client)?;
    for (resource, _) in &plan.tokens {
        let wanted = call.account.name(Kind::Resource, resource)?;
        let world = call.world();
        if world.named(&world.resources, call.namespace(), wanted).await?.is_none() {
            return Err(Failure::client(format!("ConsumableResource {wanted} not found.")));
        }
    }
    spec.job_definition =
        Some(if pinned { format!("{}:{}", found.name, found.number) } else { found.name.clone() });
    Ok(())
}

/// Jobs that it depends on must exist.
async fn dependencies(call: &Call, spec: &BatchJobSpec) -> Result<(), Failure> {
    for dependency in &spec.depends_on {
        let Some(stated) = &dependency.job_id else { continue };
        needed("dependsOn.jobId", stated)?;
        let whole = stated.split([':', '#']).next().unwrap_or(stated);
        let found = call.job(whole).await?;
        if found.is_none() {
            return Err(Failure::client(format!("Job {stated} in dependsOn not found.")));
        }
    }
    Ok(())
}

/// All tries of one call have one id; without an SDK that names its calls each request is a call.
fn job_id(call: &Call) -> String {
    let id = match &call.invocation {
        Some(invocation) => {
            let text = format!("{}/{}/{invocation}", call.namespace(), call.key.id);
            Uuid::new_v5(&IDS, text.as_bytes())
        }
        None => Uuid::new_v4(),
    };
    id.to_string()
}

async fn create(call: &Call, spec: BatchJobSpec) -> Result<Value, Failure> {
    let (job_name, job_id) =
        (spec.job_name.clone().unwrap_or_default(), spec.job_id.clone().unwrap_or_default());
    let api = call.api::<BatchJob>();
    for digits in [12, 32] {
        let object = BatchJob {
            metadata: metadata(call, &job_name, &job_id, digits),
            spec: spec.clone(),
            status: None,
        };
        let name = object.name_any();
        match call.writer().create_object(&api, &object).await {
            Ok(_) => return Ok(answer(call, &job_name, &job_id)),
            Err(error) if error.is_conflict() => {
                let what = format!("get BatchJob {name}");
                let there = crate::k8s::read::read(what, || api.get_opt(&name)).await?;
                match there {
                    Some(there) if id(&there) == job_id => {
                        return match same(&there.spec, &spec) {
                            true => Ok(answer(call, &job_name, &job_id)),
                            false => Err(Failure::client("This invocation id was used for another job.")),
                        };
                    }
                    // Another job whose id begins alike.
                    _ => {}
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::server("No name was free for the job."))
}

fn answer(call: &Call, job_name: &str, job_id: &str) -> Value {
    json!({"jobArn": call.account.arn(Kind::Job, job_id), "jobName": job_name, "jobId": job_id})
}

/// The name says which job it is; that it was generated says how long the job is kept once it ended.
fn metadata(call: &Call, job_name: &str, job_id: &str, digits: usize) -> ObjectMeta {
    let stem: String = name::slug(job_name).chars().take(STEM).collect();
    let stem = stem.trim_end_matches('-');
    let hex: String = job_id.chars().filter(|c| *c != '-').take(digits).collect();
    let stem: String = stem.chars().take(62 - digits).collect();
    let stem = stem.trim_end_matches('-');
    ObjectMeta {
        name: Some(format!("{stem}-{hex}")),
        generate_name: Some(format!("{stem}-")),
        namespace: Some(call.namespace().to_owned()),
        // The policy would name the gateway.
        annotations: Some(BTreeMap::from([submitter::annotation(&call.key.person())])),
        ..ObjectMeta::default()
    }
}

/// True if a job is as it was submitted, apart from what is done to jobs later.
fn same(there: &BatchJobSpec, spec: &BatchJobSpec) -> bool {
    let mut there = there.clone();
    (there.terminate, there.cancel, there.ttl_seconds_after_finished) = (None, None, None);
    there.child_actions.clear();
    there.job_queue.clone_from(&spec.job_queue);
    there.scheduling_priority_override = spec.scheduling_priority_override;
    there == *spec
}
