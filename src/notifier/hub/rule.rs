//! What is known of a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use batchyard_core::notification::delivery::mark;
use batchyard_core::notification::rule::Rule;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::{DISABLED, Waiting, version};
use crate::crd::conditions::{ConditionType, find};
use crate::crd::notification_rule::Versions;
use crate::crd::{NotificationRule, NotificationRuleStatus};
use crate::notifier::convert;

pub(super) struct RuleState {
    pub(super) object: Arc<NotificationRule>,
    pub(super) rule: Rule,
    pub(super) problem: Option<String>,
    /// Where it begins: what has not changed since is told already, or is older than the rule.
    pub(super) begins: Versions,
    /// Where those of its recipients begin who had less than the others then.
    behind: BTreeMap<String, Versions>,
    /// Notifications up to this one are of another object that had its name.
    pub(super) strangers: u64,
    /// And up to this one were taken back: the rule was DISABLED.
    pub(super) taken_back: u64,
    pub(super) tally: Tally,
    /// Something happened that its status does not say.
    pub(super) dirty: bool,
    /// And it should not wait for its turn: the rule is new, changed, or begins to fail.
    pub(super) urgent: bool,
    pub(super) wake: Arc<Notify>,
}

/// What became of a rule's notifications since this process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::notifier) struct Tally {
    pub(in crate::notifier) delivered: i64,
    pub(in crate::notifier) failures: i64,
    pub(in crate::notifier) dropped: i64,
    pub(in crate::notifier) last_delivered_at: Option<Timestamp>,
    pub(in crate::notifier) last_failed_at: Option<Timestamp>,
    pub(in crate::notifier) last_failure: Option<String>,
    /// Why the last try failed, unless one succeeded after it.
    pub(in crate::notifier) failing: Option<String>,
}

impl RuleState {
    /// A rule that was not there before; notifications up to this one are of others.
    pub(super) fn new(object: &Arc<NotificationRule>, strangers: u64) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let (begins, behind) = begins(object, &status);
        Self {
            rule: convert::rule(object),
            problem: convert::problem(object),
            begins,
            behind,
            strangers,
            taken_back: 0,
            tally: Tally {
                delivered: status.delivered.unwrap_or_default(),
                failures: status.failures.unwrap_or_default(),
                dropped: status.dropped.unwrap_or_default(),
                last_delivered_at: status.last_delivered_at,
                last_failed_at: status.last_failed_at,
                last_failure: status.last_failure,
                failing: None,
            },
            object: object.clone(),
            dirty: true,
            urgent: true,
            wake: Arc::new(Notify::new()),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.object.spec.state.unwrap_or_default().is_enabled()
    }

    /// Whom to tell of something: nobody if all have it, else some recipients or, without their names, all.
    pub(super) fn lacking(&self, has: impl Fn(&Versions) -> bool) -> Option<Option<BTreeSet<String>>> {
        if !has(&self.begins) {
            return Some(None);
        }
        let behind = self.behind.iter().filter(|(_, begins)| !has(begins));
        let behind: BTreeSet<String> = behind.map(|(to, _)| to.clone()).collect();
        (!behind.is_empty()).then_some(Some(behind))
    }

    /// Through which versions everybody has all that was heard of, but for those who have less, and through which they.
    pub(super) fn marks<'a, I: Iterator<Item = &'a Waiting>>(
        &self,
        heard: Versions,
        waiting: impl Fn() -> I,
    ) -> (Versions, BTreeMap<String, Versions>) {
        let through = |begins: &Versions, lacks: &dyn Fn(&Waiting) -> bool| {
            let of_kind = |queue: bool| waiting().filter(move |one| one.is_of_queue() == queue && lacks(one));
            let versions = |queue: bool| of_kind(queue).map(|one| one.version);
            Versions {
                jobs: mark(heard.jobs, versions(false)).max(begins.jobs),
                queues: mark(heard.queues, versions(true)).max(begins.queues),
            }
        };
        let all = through(&self.begins, &|one| one.left.is_none());
        let behind: BTreeSet<&String> = waiting().filter_map(|one| one.left.as_ref()).flatten().collect();
        let behind = behind.into_iter().map(|to| {
            let begins = self.behind.get(to).unwrap_or(&self.begins);
            (to.clone(), through(begins, &|one| one.lacks(to)))
        });
        (all, behind.collect())
    }
}

/// Where a rule begins that this process has not known: where the last one left off, else now. What happened while it was
/// DISABLED is not told. A mark that is newer than the object that it stands on came from another cluster.
fn begins(
    object: &NotificationRule,
    status: &NotificationRuleStatus,
) -> (Versions, BTreeMap<String, Versions>) {
    let own = version(object);
    let now = Versions { jobs: own, queues: own };
    let was_disabled = find(&status.conditions, ConditionType::Ready).is_some_and(|c| c.reason == DISABLED);
    let left_off = status.delivered_through.filter(|_| !was_disabled);
    let Some(begins) = left_off.filter(|mark| mark.jobs <= own && mark.queues <= own) else {
        return (now, BTreeMap::new());
    };
    (begins, status.behind.iter().map(|behind| (behind.to.clone(), behind.through)).collect())
}
