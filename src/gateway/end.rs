//! CancelJob and TerminateJob, one at a time and many at once. What has ended, and what is not there, is no error.

use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Kind;
use super::call::{Call, input, needed};
use super::failure::Failure;
use super::jobs::{Target, has};
use crate::crd::BatchJob;
use crate::crd::batch_job::{ChildAction, ChildActionType};
use crate::crd::children::{Indexes, Part, Whole};
use crate::k8s::parts::Parts;
use batchyard_core::job::phase::Phase;

/// How often somebody else may have changed the job meanwhile.
const TRIES: usize = 10;
/// Entries of childActions that a job can have.
const ACTIONS: usize = 128;
/// How long a list of indexes can be.
const INDEXES: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct One {
    job_id: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Many {
    jobs: Vec<String>,
    reason: String,
}

pub(super) async fn cancel_job(call: &Call, body: Value) -> Result<Value, Failure> {
    one(call, body, ChildActionType::Cancel).await
}

pub(super) async fn terminate_job(call: &Call, body: Value) -> Result<Value, Failure> {
    one(call, body, ChildActionType::Terminate).await
}

pub(super) async fn cancel_jobs(call: &Call, body: Value) -> Result<Value, Failure> {
    many(call, body, ChildActionType::Cancel).await
}

pub(super) async fn terminate_jobs(call: &Call, body: Value) -> Result<Value, Failure> {
    many(call, body, ChildActionType::Terminate).await
}

async fn one(call: &Call, body: Value, action: ChildActionType) -> Result<Value, Failure> {
    let asked: One = input(body)?;
    let id = needed("jobId", &asked.job_id)?;
    check(&asked.reason)?;
    call.may("patch", "batchjobs", None).await?;
    end(call, id, &asked.reason, action).await?;
    Ok(json!({}))
}

async fn many(call: &Call, body: Value, action: ChildActionType) -> Result<Value, Failure> {
    let asked: Many = input(body)?;
    check(&asked.reason)?;
    if asked.jobs.is_empty() || asked.jobs.len() > 50 {
        return Err(Failure::client("jobs must have 1 to 50 elements"));
    }
    call.may("patch", "batchjobs", None).await?;
    let (mut successful, mut errors) = (Vec::new(), Vec::new());
    for job in asked.jobs {
        match end(call, &job, &asked.reason, action).await {
            Ok(()) => successful.push(job),
            Err(failure) => {
                let code = match failure.kind() {
                    "TooManyRequestsException" => "ThrottlingException",
                    "AccessDeniedException" => "AccessDenied",
                    kind => kind,
                };
                errors.push(json!({"job": job, "code": code, "message": failure.message()}));
            }
        }
    }
    Ok(json!({"successful": successful, "errors": errors}))
}

fn check(reason: &str) -> Result<(), Failure> {
    needed("reason", reason)?;
    match reason.chars().count() {
        0..=1024 => Ok(()),
        _ => Err(Failure::client("reason can have at most 1024 characters")),
    }
}

async fn end(call: &Call, id: &str, reason: &str, action: ChildActionType) -> Result<(), Failure> {
    let target = Target::parse(call.account.name(Kind::Job, id)?);
    let found = call.job(target.job).await?;
    let Some(job) = found else { return Ok(()) };
    match target.part {
        None => whole(call, &job, reason, action).await,
        Some(Part::Child(index)) => child(call, &job, index, reason, action).await,
        Some(Part::Node(_)) => Err(Failure::client(format!(
            "{id} is a node of a multi-node job, which ends as a whole: {}",
            target.job
        ))),
    }
}

async fn whole(call: &Call, job: &BatchJob, reason: &str, action: ChildActionType) -> Result<(), Failure> {
    let phase = job.status.as_ref().map_or(Phase::Submitted, |status| status.record.phase());
    let member = match action {
        ChildActionType::Cancel => "cancel",
        ChildActionType::Terminate => "terminate",
    };
    let said = match action {
        ChildActionType::Cancel => job.spec.cancel.is_some(),
        ChildActionType::Terminate => job.spec.terminate.is_some(),
    };
    if said || !has_effect(action, phase) {
        return Ok(());
    }
    let change = json!({"metadata": {"uid": job.uid()}, "spec": {member: reason}});
    match call.writer().merge_object(&call.api(), job, &change).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        // Somebody else was faster, and what was said first stands.
        Err(error) if error.kind() == "invalid" => Ok(()),
        Err(error) => Err(error.into()),
        Ok(stored) => {
            call.world().jobs.cache.settle(&stored).await;
            Ok(())
        }
    }
}

/// True if a job or a child in this phase can be ended that way. What is placed is not cancelled, and neither is its next
/// attempt.
fn has_effect(action: ChildActionType, phase: Phase) -> bool {
    let is_placed = matches!(phase, Phase::Starting | Phase::Running);
    !phase.is_terminal() && (action == ChildActionType::Terminate || !is_placed)
}

async fn child(
    call: &Call,
    job: &BatchJob,
    index: u32,
    reason: &str,
    action: ChildActionType,
) -> Result<(), Failure> {
    if !has(job, Part::Child(index)) {
        return Ok(());
    }
    let name = job.name_any();
    let api = call.api::<BatchJob>();
    for _ in 0..TRIES {
        let live = crate::k8s::read::read(format!("get BatchJob {name}"), || api.get_opt(&name)).await?;
        let Some(mut live) = live.filter(|live| live.uid() == job.uid()) else { return Ok(()) };
        if live.status.as_ref().is_some_and(|status| status.record.phase().is_terminal())
            || !has_effect(action, phase(call, &live, Part::Child(index), action).await?)
            || !add(&mut live.spec.child_actions, index, reason, action)?
        {
            return Ok(());
        }
        match call.writer().replace_object(&api, &live).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::throttled("Too many changes of this job at a time"))
}

/// Where a child is in its life. That it has ended stands in the job's own lists; whether it is placed, which decides
/// about a cancel alone, its pod tells before they do.
async fn phase(call: &Call, job: &BatchJob, part: Part, action: ChildActionType) -> Result<Phase, Failure> {
    let whole = Whole::of(job);
    let told = whole.part(part, None, None).phase();
    if told.is_terminal() || action == ChildActionType::Terminate {
        return Ok(told);
    }
    Ok(call.known(job, &Parts::one(part)).await?.record(&whole, part).phase())
}

/// Adds a child to the entry that says the same, or a new entry; false if it stands there already.
fn add(
    actions: &mut Vec<ChildAction>,
    index: u32,
    reason: &str,
    action: ChildActionType,
) -> Result<bool, Failure> {
    for entry in actions.iter_mut().filter(|entry| entry.action == action && entry.reason == reason) {
        let Ok(known) = entry.indexes.parse::<Indexes>() else { continue };
        if known.contains(index) {
            return Ok(false);
        }
        let longer: Indexes = known.iter().chain([index]).collect();
        let text = longer.to_string();
        if text.len() <= INDEXES {
            entry.indexes = text;
            return Ok(true);
        }
    }
    if actions.len() >= ACTIONS {
        return Err(Failure::client(format!(
            "single children of a job can be ended for at most {ACTIONS} reasons"
        )));
    }
    actions.push(ChildAction { indexes: index.to_string(), action, reason: reason.to_owned() });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_placed_is_terminated_and_not_cancelled() {
        use ChildActionType::{Cancel, Terminate};
        for phase in Phase::ALL {
            let want = match phase {
                Phase::Submitted | Phase::Pending | Phase::Runnable => (true, true),
                Phase::Starting | Phase::Running => (false, true),
                Phase::Succeeded | Phase::Failed => (false, false),
            };
            assert_eq!((has_effect(Cancel, phase), has_effect(Terminate, phase)), want, "{phase:?}");
        }
    }

    #[test]
    fn children_that_end_alike_share_an_entry() {
        let mut actions = Vec::new();
        let mut end = |index, reason, action| add(&mut actions, index, reason, action).expect("it fits");
        assert!(end(3, "enough", ChildActionType::Terminate));
        assert!(end(4, "enough", ChildActionType::Terminate));
        assert!(!end(3, "enough", ChildActionType::Terminate));
        assert!(end(3, "enough", ChildActionType::Cancel));
        assert!(end(5, "other", ChildActionType::Cancel));
        let told: Vec<_> = actions.iter().map(|entry| entry.indexes.as_str()).collect();
        assert_eq!(told, ["3-4", "3", "5"]);
        actions =
            (0..ACTIONS).map(|n| ChildAction { reason: n.to_string(), ..ChildAction::default() }).collect();
        add(&mut actions, 1, "one more", ChildActionType::Cancel).expect_err("full");
    }
}
