//! Writes the status of rules: not for each notification, but at most every so often, and at once when a rule is new,
//! changed, or begins to fail.

use std::sync::Arc;
use std::time::Duration;

use batchyard_core::notification::text;
use batchyard_core::reason::clean::line;
use batchyard_core::reason::resources;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::Context;
use super::hub::{DISABLED, Report};
use crate::crd::conditions::{self, ConditionType, NewCondition};
use crate::crd::ignored::{Kind, ignored_fields};
use crate::crd::notification_rule::Behind;
use crate::crd::{NotificationRule, NotificationRuleStatus};
use crate::k8s::error::{Error, chain};

/// The pause before an urgent write, in which more may come together.
const GATHER: Duration = Duration::from_millis(200);
/// Urgent writes of all rules together are at most so frequent.
const URGENT: Duration = Duration::from_secs(2);
/// What was heard before so long is complete: a list is taken in within moments.
const SETTLES: Duration = Duration::from_millis(500);
/// Longest reason of a failure.
const LONGEST: usize = 512;

pub(super) async fn run(context: Arc<Context>) {
    let period = Duration::from_secs(u64::from(context.settings.status_seconds));
    let mut due = Instant::now();
    loop {
        let only_urgent = Instant::now() < due;
        if !only_urgent {
            due = Instant::now() + period;
        }
        let heard = context.hub.heard();
        sleep(SETTLES).await;
        context.hub.settle(heard);
        write_all(&context, only_urgent).await;
        tokio::select! {
            () = sleep_until(due) => {}
            () = context.hub.urgent.notified() => sleep(GATHER.max(URGENT.min(period))).await,
        }
    }
}

/// Before the end: so that the next process begins where this one left off.
pub(super) async fn last_words(context: &Context) {
    // Nothing more is heard, and what was being taken in is.
    context.hub.settle(context.hub.heard());
    write_all(context, false).await;
}

async fn write_all(context: &Context, only_urgent: bool) {
    for (name, report) in context.hub.reports(only_urgent) {
        if let Err(error) = write(context, &report).await {
            // A conflict: the spec changed meanwhile, and the change will be heard of.
            if !error.is_conflict() && !error.is_not_found() {
                warn!(rule = name, error = chain(&error), "the status of a rule could not be written");
            }
            context.hub.still_dirty(&name);
        }
    }
}

async fn write(context: &Context, report: &Report) -> Result<(), Error> {
    let rule = &report.object;
    let status = status(report, context.clock.now());
    if rule.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let namespace = rule.namespace().unwrap_or_default();
    let api: Api<NotificationRule> = Api::namespaced(context.writer.client().clone(), &namespace);
    let changed = NotificationRule { status: Some(status), ..NotificationRule::clone(rule) };
    context.writer.replace_status(&api, &changed).await.map(drop)
}

/// The status that follows from what is known.
fn status(report: &Report, now: jiff::Timestamp) -> NotificationRuleStatus {
    let Report { object, problem, tally, waiting, through, behind } = report;
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let mut conditions = old.conditions;
    let enabled = object.spec.state.unwrap_or_default().is_enabled();
    let (ready, reason, message) = match (problem, &tally.failing) {
        (Some(problem), _) => (false, "Invalid", problem.clone()),
        (None, _) if !enabled => (true, DISABLED, text::DISABLED.to_owned()),
        (None, Some(why)) => (false, "DeliveryFailed", line(why, LONGEST)),
        (None, None) => (true, "Healthy", text::HEALTHY.to_owned()),
    };
    let new = NewCondition {
        type_: ConditionType::Ready,
        status: ready.into(),
        reason,
        message,
        observed_generation: generation,
    };
    conditions::set(&mut conditions, new, now);
    let spec = serde_json::to_value(&object.spec).unwrap_or_default();
    let ignored = ignored_fields(Kind::NotificationRule, &spec);
    if ignored.is_empty() {
        conditions::remove(&mut conditions, ConditionType::FieldsIgnored);
    } else {
        let new = NewCondition {
            type_: ConditionType::FieldsIgnored,
            status: true.into(),
            reason: "NotSupported",
            message: resources::fields_ignored(&ignored),
            observed_generation: generation,
        };
        conditions::set(&mut conditions, new, now);
    }
    NotificationRuleStatus {
        observed_generation: generation,
        delivered: Some(tally.delivered),
        failures: Some(tally.failures),
        dropped: Some(tally.dropped),
        waiting: Some(i32::try_from(*waiting).unwrap_or(i32::MAX)),
        last_delivered_at: tally.last_delivered_at,
        last_failed_at: tally.last_failed_at,
        last_failure: tally.last_failure.as_deref().map(|why| line(why, LONGEST)),
        delivered_through: Some(*through),
        behind: behind.iter().map(|(to, through)| Behind { to: to.clone(), through: *through }).collect(),
        conditions,
    }
}
