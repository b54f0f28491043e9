//! From a decision to what people see: status, conditions, Events. Pure.

use batchyard_core::array::indexes;
use batchyard_core::dependency;
use batchyard_core::job::decide::{Decision, Readiness};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Record, RetryAction};
use batchyard_core::logging::health::Verdict;
use batchyard_core::reason::{self, resources};
use batchyard_core::session::Why;
use jiff::Timestamp;
use kube::ResourceExt;
use roaring::RoaringBitmap;

use super::dereference::Dereferenced;
use super::{array, logs, session};
use crate::crd::batch_job::{ArrayJobDependency, ChildActionType, JobDependency};
use crate::crd::children;
use crate::crd::conditions::{self, ConditionStatus, ConditionType, NewCondition};
use crate::crd::ignored::{self, Kind};
use crate::crd::{BatchJob, BatchJobStatus};
use crate::k8s::events::News;
use crate::seeded_bugs::{Bug, has};

/// The longest text of indexes in a condition, of each order to children.
const SOME_INDEXES: usize = 64;

/// The status that a job gets by a decision.
pub(super) fn next(
    job: &BatchJob,
    world: &Dereferenced,
    decision: &Decision,
    log_tail: bool,
    now: Timestamp,
) -> BatchJobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    status.record = decision.record.clone();
    let record = &mut status.record;
    if has(Bug::ShortMemory) {
        let old = record.attempts.len().saturating_sub(1);
        record.attempts.drain(..old);
    }
    let id = job.spec.job_id.clone().or_else(|| job.uid());
    record.job_id = record.job_id.take().or(id);
    if job.status.as_ref().is_none_or(|status| status.record.phase.is_none()) {
        record.sequence = job.resource_version().and_then(|version| version.parse().ok());
    }
    record.created_at = job.creation_timestamp().map(|time| time.0).or(record.created_at);
    if !log_tail {
        record.log_tail = None;
    }
    if world.readiness == Readiness::Ready(String::new()) {
        record.job_definition = None;
    }
    status.attempt = attempt(&status.record);
    status.observed_generation = job.metadata.generation;
    if status.record.phase() <= Phase::Runnable {
        status.job_queue = Some(world.queue.clone());
        status.scheduling_priority = job.spec.scheduling_priority_override;
    }
    status.share_identifier = job.spec.share_identifier.clone();
    let session = session::next(&status, world.session.as_ref(), decision, now);
    status.session = session.as_ref().map(|(state, _)| Box::new(state.clone()));
    set_conditions(&mut status, job, world, decision, now);
    set_session_ready(&mut status, job, session.map(|(_, standing)| standing), now);
    let seen = logs::look(&decision.record, &world.pods, now);
    set_sinks(&mut status, job, seen.as_ref(), now);
    set_logs(&mut status, job, seen, now);
    status
}

/// The number of the current or last attempt; none before the first one has a pod.
fn attempt(record: &Record) -> Option<i32> {
    let current = record.current.as_ref().map(|current| current.attempt);
    let number = current.or_else(|| record.attempts.last().map(|attempt| attempt.attempt));
    number.and_then(|number| i32::try_from(number).ok())
}

fn set_conditions(
    status: &mut BatchJobStatus,
    job: &BatchJob,
    world: &Dereferenced,
    decision: &Decision,
    now: Timestamp,
) {
    let record = status.record.clone();
    let phase = record.phase();
    let why = record.status_reason.clone().unwrap_or_default();
    let mut wanted = Vec::new();
    let waits = !phase.is_terminal() && phase <= Phase::Runnable && !why.is_empty();
    wanted.push((ConditionType::Waiting, waits.then(|| (reason_word(&record), why.clone()))));
    let succeeded = phase == Phase::Succeeded;
    wanted.push((ConditionType::Complete, succeeded.then_some(("JobSucceeded", why))));
    let failed = (phase == Phase::Failed).then(|| (failure_word(&record), more_than(&record)));
    wanted.push((ConditionType::Failed, failed));
    let silent = decision.unreachable.then(|| ("NodeNotReady", reason::NODE_SILENT.to_owned()));
    wanted.push((ConditionType::NodeUnreachable, silent));
    wanted.push((ConditionType::EditIgnored, late_edits(job, status).map(|text| ("TooLate", text))));
    let ignored = ignored_fields(job, world.fair_share);
    wanted.push((ConditionType::FieldsIgnored, ignored.map(|paths| ("NotSupported", paths))));
    for (type_, content) in wanted {
        match content {
            Some((reason, message)) => {
                let status_true = ConditionStatus::True;
                let observed_generation = job.metadata.generation;
                let new = NewCondition { type_, status: status_true, reason, message, observed_generation };
                conditions::set(&mut status.conditions, new, now);
            }
            None => {
                conditions::remove(&mut status.conditions, type_);
            }
        }
    }
}

/// Whether people can connect, of a session.
fn set_session_ready(
    status: &mut BatchJobStatus,
    job: &BatchJob,
    standing: Option<Result<(), Why>>,
    now: Timestamp,
) {
    let Some(standing) = standing else { return };
    let (value, reason, message) = match standing {
        Ok(()) => (ConditionStatus::True, "Ready", "People can connect at status.session.url".to_owned()),
        Err((reason, message)) => (ConditionStatus::False, reason, message),
    };
    let type_ = ConditionType::SessionReady;
    let observed_generation = job.metadata.generation;
    let new = NewCondition { type_, status: value, reason, message, observed_generation };
    conditions::set(&mut status.conditions, new, now);
}

/// Whether a sink does not take its output; of a job that has ended, whether it was so then.
fn set_sinks(status: &mut BatchJobStatus, job: &BatchJob, seen: Option<&logs::Seen>, now: Timestamp) {
    if status.record.phase().is_terminal() {
        return;
    }
    let type_ = ConditionType::LogSinkUnavailable;
    match seen {
        Some(logs::Seen { sinks: (Verdict::Unavailable, message), .. }) => {
            let (reason, observed_generation) = ("OutputNotTaken", job.metadata.generation);
            let (status_true, message) = (ConditionStatus::True, message.clone());
            let new = NewCondition { type_, status: status_true, reason, message, observed_generation };
            conditions::set(&mut status.conditions, new, now);
        }
        _ => {
            conditions::remove(&mut status.conditions, type_);
        }
    }
}

/// Where its output goes, and whether it gets there. What is said of a pod stays when that is gone.
fn set_logs(status: &mut BatchJobStatus, job: &BatchJob, seen: Option<logs::Seen>, now: Timestamp) {
    let Some(logs::Seen { logs, routed, .. }) = seen else { return };
    status.logs = logs.map(Box::new);
    let Some((is_routed, reason, message)) = routed else { return };
    let (type_, observed_generation) = (ConditionType::LogsRouted, job.metadata.generation);
    let new = NewCondition { type_, status: is_routed.into(), reason, message, observed_generation };
    conditions::set(&mut status.conditions, new, now);
}

/// What the job waits for, in a word.
fn reason_word(record: &Record) -> &'static str {
    record.waiting.map_or(record.phase().as_str(), |waiting| waiting.kind.as_str())
}

/// The statusReason, and what people want to know besides.
fn more_than(record: &Record) -> String {
    dependency::why(record.status_reason.as_deref().unwrap_or_default(), &record.depends_on)
}

fn failure_word(record: &Record) -> &'static str {
    if record.is_terminated == Some(true) {
        "Terminated"
    } else if record.is_cancelled == Some(true) {
        "Cancelled"
    } else if record.status_reason.as_deref().is_some_and(|why| why.starts_with(reason::DEPENDENT_FAILED)) {
        "DependencyFailed"
    } else if record.attempts.is_empty() {
        "NeverStarted"
    } else {
        "AttemptFailed"
    }
}

/// Wishes that came when they could have no effect any more.
fn late_edits(job: &BatchJob, status: &BatchJobStatus) -> Option<String> {
    let record = &status.record;
    let phase = record.phase();
    let ordered = record.is_cancelled == Some(true) || record.is_terminated == Some(true);
    let mut late = Vec::new();
    if phase > Phase::Runnable {
        let queue = status.job_queue.as_deref().filter(|queue| *queue != job.spec.job_queue);
        late.extend(queue.map(|queue| format!("jobQueue: the job was placed from {queue}")));
        if status.scheduling_priority != job.spec.scheduling_priority_override {
            late.push("schedulingPriorityOverride: the job was placed before".to_owned());
        }
    }
    if phase.is_terminal() && !ordered {
        let wishes = [("terminate", &job.spec.terminate), ("cancel", &job.spec.cancel)];
        let wishes = wishes.iter().filter(|(_, wish)| wish.is_some());
        late.extend(wishes.map(|(name, _)| format!("{name}: the job had ended already")));
    } else if job.spec.cancel.is_some() && !ordered && phase > Phase::Runnable {
        late.push(
            "cancel: the job has started; use terminate, or it ends only if it is to be retried".to_owned(),
        );
    }
    late.extend(late_child_actions(job, status));
    (!late.is_empty()).then(|| late.join("; "))
}

/// Orders to children that had no use for them, as far as the array's lists tell: of those that failed they do not say
/// why.
fn late_child_actions(job: &BatchJob, status: &BatchJobStatus) -> Vec<String> {
    let Some(array) = &status.array_properties else { return Vec::new() };
    let actions = job.spec.child_actions.iter().enumerate();
    let actions =
        actions.filter_map(|(at, action)| Some((at, action, indexes::parse(&action.indexes).ok()?)));
    let actions: Vec<_> = actions.collect();
    if actions.is_empty() {
        return Vec::new();
    }
    let listed = |phase| indexes::parse_cut(children::list(array, phase).unwrap_or_default());
    let succeeded = listed(Phase::Succeeded);
    let mut placed = listed(Phase::Starting) | listed(Phase::Running);
    if status.record.phase().is_terminal() || job.spec.terminate.is_some() {
        placed.clear();
    }
    for (_, _, them) in actions.iter().filter(|(_, action, _)| action.action == ChildActionType::Terminate) {
        placed -= them;
    }
    let mut late = Vec::new();
    for (at, action, them) in actions {
        let mut tell = |these: RoaringBitmap, what: &str| {
            if !these.is_empty() {
                let these = indexes::short_text(&these, SOME_INDEXES);
                late.push(format!("childActions[{at}]: children {these} {what}"));
            }
        };
        tell(&them & &succeeded, "succeeded");
        if action.action == ChildActionType::Cancel {
            tell(&them & &placed, "started; use TERMINATE, or they end only if they are to be retried");
        }
    }
    late
}

/// True if a job says all that there is to say of edits that came too late: an array's last children end with it.
pub(super) fn tells_late_edits(job: &BatchJob, status: &BatchJobStatus) -> bool {
    let late = conditions::find(&status.conditions, ConditionType::EditIgnored);
    late_edits(job, status).as_deref() == late.map(|late| late.message.as_str())
}

/// Members without effect; shares and priorities within them have one in a fair-share queue only.
fn ignored_fields(job: &BatchJob, fair_share: bool) -> Option<String> {
    let spec = serde_json::to_value(&job.spec).unwrap_or_default();
    let mut fields = ignored::ignored_fields(Kind::BatchJob, &spec);
    if !fair_share {
        let stated = [
            ("schedulingPriorityOverride", job.spec.scheduling_priority_override.is_some_and(|n| n != 0)),
            ("shareIdentifier", job.spec.share_identifier.is_some()),
        ];
        fields.extend(stated.into_iter().filter(|(_, stated)| *stated).map(|(name, _)| name.to_owned()));
    }
    fields.extend(without_effect(job));
    fields.sort();
    (!fields.is_empty()).then(|| fields.join(", "))
}

/// What only arrays have, and only arrays whose children wait for each other.
fn without_effect(job: &BatchJob) -> Vec<String> {
    let is_sequential = |other: &JobDependency| other.type_ == Some(ArrayJobDependency::Sequential);
    let array = job.spec.array_properties.as_ref();
    let goes_on = array.is_some_and(|array| array.continue_on_failure == Some(true));
    let stated = [
        ("arrayProperties.continueOnFailure", goes_on && !job.spec.depends_on.iter().any(is_sequential)),
        ("childActions", array.is_none() && !job.spec.child_actions.is_empty()),
    ];
    let stated = stated.into_iter().filter(|(_, stated)| *stated).map(|(name, _)| name.to_owned());
    // The schema knows what a number looks like, not which indexes there are.
    let members = array.and_then(|_| array::members(job));
    let actions = job.spec.child_actions.iter().enumerate().filter(|_| array.is_some());
    let wrong = actions.filter_map(|(number, action)| {
        let field = format!("childActions[{number}].indexes");
        let Ok(them) = indexes::parse(&action.indexes) else { return Some(field) };
        let none = them - members.as_ref()?;
        let text = || indexes::short_text(&none, SOME_INDEXES);
        (!none.is_empty()).then(|| resources::indexes_have_no_effect(&field, &text()))
    });
    stated.chain(wrong).collect()
}

/// RETRY or EXIT, for metrics.
pub(super) fn action_word(attempt: &Attempt) -> &'static str {
    match attempt.decision.as_ref().map(|decision| decision.action) {
        Some(RetryAction::Retry) => "retry",
        Some(RetryAction::Exit) | None => "exit",
    }
}

/// What to tell people of the step from one record to the next.
pub(super) fn news(old: &Record, new: &Record) -> Vec<News> {
    let mut news = Vec::new();
    for attempt in new.attempts.iter().skip(old.attempts.len()) {
        news.push(ended(attempt));
    }
    for placement in new.placements.iter().filter(|p| !old.placements.contains(p)) {
        let note = format!("Pod {}: {}", placement.pod_name, placement.status_reason);
        news.push(News::warning("PlacementLost", note).of_pod(&placement.pod_name));
    }
    if old.phase == new.phase {
        return news;
    }
    let why = new.status_reason.clone().unwrap_or_default();
    match new.phase() {
        Phase::Submitted => news.push(News::normal("Submitted", why)),
        Phase::Pending => news.push(News::normal("Pending", why)),
        Phase::Runnable if old.phase() >= Phase::Runnable => {
            let pod = last_pod(new);
            news.push(News::normal("Requeued", why).important().of_pod(pod));
        }
        Phase::Runnable => news.push(News::normal("Runnable", "Waiting for its turn")),
        Phase::Starting => news.push(placed("Starting", new)),
        Phase::Running => news.push(placed("Running", new)),
        Phase::Succeeded => news.push(News::normal("Succeeded", why).important()),
        Phase::Failed => news.push(News::warning("Failed", more_than(new))),
    }
    news
}

/// The pod that was counted last.
fn last_pod(record: &Record) -> &str {
    let attempt = record.attempts.last().map(|attempt| (attempt.attempt, attempt.pod_name.as_str()));
    let placement = record.placements.last().map(|lost| (lost.attempt, lost.pod_name.as_str()));
    attempt.max(placement).map_or("", |(_, pod)| pod)
}

fn placed(reason: &str, record: &Record) -> News {
    let Some(current) = &record.current else { return News::normal(reason, "") };
    let node = current.node_name.as_deref().unwrap_or("?");
    let note = format!("Attempt {} in pod {} on node {node}", current.attempt, current.pod_name);
    News::normal(reason, note).of_pod(&current.pod_name)
}

fn ended(attempt: &Attempt) -> News {
    let code = attempt.container.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    let reason = attempt.container.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
    let rule = attempt.decision.as_ref().map_or("", |decision| decision.rule.as_str());
    let note = format!("Attempt {}: {}{code}{reason}; {rule}", attempt.attempt, attempt.status_reason);
    match attempt.container.exit_code {
        Some(0) => News::normal("AttemptEnded", note).of_pod(&attempt.pod_name),
        _ => News::warning("AttemptFailed", note).of_pod(&attempt.pod_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of_indexes(actions: &[(&str, &str)]) -> Value {
        let action =
            |(indexes, action): &(&str, &str)| json!({"indexes": indexes, "action": action, "reason": "r"});
        actions.iter().map(action).collect()
    }

    /// An array with orders to some of its children, and with what its status says of all of them.
    fn array(array: Value, actions: &[(&str, &str)], phase: &str, told: Value) -> BatchJob {
        let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "j"},
            "spec": {"jobQueue": "q", "arrayProperties": array, "childActions": of_indexes(actions)},
            "status": {"phase": phase, "jobQueue": "q", "arrayProperties": told}});
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn indexes_that_no_child_has_are_named() {
        let ten = || json!({"size": 10});
        let rerun = || json!({"rerunFailedOf": "a"});
        let lists = |failed: &str| json!({"size": 10, "indexes": {"PENDING": "3", "RUNNABLE": "7", "FAILED": failed}});
        let none = |indexes: &str| resources::indexes_have_no_effect("childActions[0].indexes", indexes);
        for (spec, told, indexes, want) in [
            (ten(), json!({}), "0-9", vec![]),
            (ten(), json!({}), "50-59", vec![none("50-59")]),
            (ten(), json!({}), "3,9-11", vec![none("10-11")]),
            // Its size is told later, and those that run again.
            (rerun(), json!({}), "50-59", vec![]),
            (rerun(), lists("8"), "3,7-8", vec![]),
            (rerun(), lists("8"), "3,5,50", vec![none("5,50")]),
            (rerun(), lists("8,…"), "3,5,50", vec![none("50")]),
        ] {
            let job = array(spec.clone(), &[(indexes, "TERMINATE")], "PENDING", told.clone());
            assert_eq!(without_effect(&job), want, "{indexes} of {spec} {told}");
        }
    }

    #[test]
    fn orders_that_children_had_no_use_for_are_named() {
        let told = json!({"size": 10, "indexes": {"RUNNABLE": "0-1", "STARTING": "2", "RUNNING": "3-4",
            "SUCCEEDED": "5-6", "FAILED": "7-9"}});
        let late = |phase: &str, actions: &[(&str, &str)], terminate: bool| {
            let mut job = array(json!({"size": 10}), actions, phase, told.clone());
            job.spec.terminate = terminate.then(|| "enough".to_owned());
            late_child_actions(&job, job.status.as_ref().expect("a status"))
        };
        let started = "started; use TERMINATE, or they end only if they are to be retried";
        for (why, phase, actions, want) in [
            ("nothing is wrong", "PENDING", vec![("0-1,7-9", "CANCEL"), ("0-4", "TERMINATE")], vec![]),
            (
                "some run or have ended well",
                "PENDING",
                vec![("0-9", "CANCEL")],
                vec![
                    "childActions[0]: children 5-6 succeeded".to_owned(),
                    format!("childActions[0]: children 2-4 {started}"),
                ],
            ),
            (
                "a second order ends those that run",
                "PENDING",
                vec![("2-3", "CANCEL"), ("3-4", "TERMINATE")],
                vec![format!("childActions[0]: children 2 {started}")],
            ),
            (
                "a terminate comes too late only where they have ended",
                "PENDING",
                vec![("0", "CANCEL"), ("4-9", "TERMINATE")],
                vec!["childActions[1]: children 5-6 succeeded".to_owned()],
            ),
            ("who runs when all have ended is not known", "FAILED", vec![("2-4", "CANCEL")], vec![]),
            ("what cannot be read is named elsewhere", "PENDING", vec![("4-2", "CANCEL")], vec![]),
        ] {
            assert_eq!(late(phase, &actions, false), want, "{why}");
        }
        assert!(late("PENDING", &[("2-4", "CANCEL")], true).is_empty(), "they are terminated");
    }

    #[test]
    fn the_last_ends_are_told_too() {
        let told = json!({"size": 3, "indexes": {"SUCCEEDED": "0-2"}});
        let job = array(json!({"size": 3}), &[("1", "CANCEL")], "SUCCEEDED", told);
        let mut status = job.status.clone().expect("a status");
        assert!(!tells_late_edits(&job, &status));
        let message = late_edits(&job, &status).expect("it is late");
        let new = NewCondition {
            type_: ConditionType::EditIgnored,
            status: ConditionStatus::True,
            reason: "TooLate",
            message,
            observed_generation: None,
        };
        conditions::set(&mut status.conditions, new, Timestamp::UNIX_EPOCH);
        assert!(tells_late_edits(&job, &status));
    }

    #[test]
    fn what_only_arrays_have_is_named_elsewhere() {
        let named = |spec: Value| {
            let mut job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
                "metadata": {"name": "j"}, "spec": {"jobQueue": "q"}});
            for (name, value) in spec.as_object().into_iter().flatten() {
                job["spec"][name] = value.clone();
            }
            without_effect(&serde_json::from_value(job).expect("a job"))
        };
        let actions = json!([{"indexes": "1", "action": "CANCEL", "reason": "r"}]);
        let goes_on = json!({"size": 2, "continueOnFailure": true});
        assert_eq!(named(json!({"childActions": actions})), ["childActions"]);
        assert!(named(json!({"childActions": actions, "arrayProperties": {"size": 2}})).is_empty());
        assert_eq!(named(json!({"arrayProperties": goes_on})), ["arrayProperties.continueOnFailure"]);
        let backwards = json!([{"indexes": "7-3", "action": "CANCEL", "reason": "r"}]);
        let named_indexes = named(json!({"childActions": backwards, "arrayProperties": {"size": 9}}));
        assert_eq!(named_indexes, ["childActions[0].indexes"]);
        let sequential = json!([{"type": "SEQUENTIAL"}]);
        assert!(named(json!({"arrayProperties": goes_on, "dependsOn": sequential})).is_empty());
    }
}
