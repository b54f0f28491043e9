//! What an outcome means for the job: the second half of [`super::decide`].
//!
//! Only the record changes here; pods are let go afterwards.

use jiff::Timestamp;

use super::decide::{MAX_PLACEMENTS, MAX_REJECTIONS, Step};
use super::phase::Phase;
use super::record::{
    Attempt, ContainerOutcome, Current, Intent, IntentKind, Placement, RetryAction, RetryDecision,
};
use super::{retry, rules};
use crate::pod::PodView;
use crate::reason::{self, clean};
use crate::termination::{Class, Ending};
use crate::waits;

impl Step<'_> {
    /// Records the outcome of a pod and what follows from it. `asked`: the pod was deleted.
    ///
    /// An order outranks what the pod shows, since the order may have made it so. A success of a
    /// pod that was never asked to stop is its own, and came before the order could act.
    pub(super) fn settle(&mut self, ran: &Ran, ending: Ending, asked: bool) {
        let ending = Ending { stopped_at: ending.stopped_at.or(Some(self.now)), ..ending };
        let ending = ran.not_refused_if_it_ran(ending);
        self.next.record.current = None;
        let by_itself = ending.class == Class::Succeeded && !asked;
        if let Some(intent) = self.next.record.intent.clone().filter(|_| !by_itself) {
            return match ran.bound {
                true => self.end_by_order(ran, &intent, ending),
                false => self.end_unstarted(&intent),
            };
        }
        match ending.class {
            Class::Unplaced => self.lose_placement(ran, &ending),
            Class::Rejected if self.rejections() < MAX_REJECTIONS => self.lose_placement(ran, &ending),
            Class::Succeeded => {
                let decision = exit_decision(rules::SUCCEEDED);
                self.end(Phase::Succeeded, ran.attempt(&ending, decision));
            }
            Class::Timeout => self.end(Phase::Failed, ran.attempt(&ending, exit_decision(rules::TIMED_OUT))),
            Class::Rejected
            | Class::Application
            | Class::Image
            | Class::Configuration
            | Class::Host
            | Class::Deleted
            | Class::Unknown => self.retry_or_fail(ran, &ending),
        }
    }

    fn retry_or_fail(&mut self, ran: &Ran, ending: &Ending) {
        let used = self.next.record.next_attempt();
        let decision = retry::decide(
            &self.job.strategy,
            used,
            &ending.status_reason,
            ending.container.reason.as_deref(),
            ending.container.exit_code,
        );
        self.next.record.log_tail.clone_from(&ending.log_tail);
        let action = decision.action;
        let attempt = ran.attempt(ending, decision);
        match action {
            RetryAction::Exit => self.end(Phase::Failed, attempt),
            RetryAction::Retry => {
                let why = waits::retry(used, self.job.strategy.attempts, &ending.status_reason);
                self.next.record.attempts.push(attempt);
                self.become_runnable(Some(why));
            }
        }
    }

    /// The job ends since somebody wanted it to; whatever the container said comes second.
    fn end_by_order(&mut self, ran: &Ran, intent: &Intent, ending: Ending) {
        let rule = match intent.kind {
            IntentKind::Timeout => rules::TIMED_OUT,
            IntentKind::Idle => rules::IDLE,
            IntentKind::Cancel => rules::CANCELLED,
            IntentKind::Terminate => rules::TERMINATED,
        };
        let ending = Ending { status_reason: intent.reason.clone(), ..ending };
        self.next.record.log_tail.clone_from(&ending.log_tail);
        self.flag(intent.kind);
        self.end(Phase::Failed, ran.attempt(&ending, exit_decision(rule)));
    }

    pub(super) fn end_unstarted(&mut self, intent: &Intent) {
        self.flag(intent.kind);
        self.fail(intent.reason.clone());
    }

    fn flag(&mut self, kind: IntentKind) {
        match kind {
            IntentKind::Cancel => self.next.record.is_cancelled = Some(true),
            IntentKind::Terminate => self.next.record.is_terminated = Some(true),
            IntentKind::Timeout | IntentKind::Idle => {}
        }
    }

    fn end(&mut self, phase: Phase, attempt: Attempt) {
        let record = &mut self.next.record;
        record.phase = Some(phase);
        record.status_reason = Some(attempt.status_reason.clone());
        record.started_at = attempt.started_at;
        record.stopped_at = Some(attempt.stopped_at.unwrap_or(self.now));
        (record.intent, record.waiting) = (None, None);
        record.attempts.push(attempt);
    }

    pub(super) fn fail(&mut self, why: String) {
        let record = &mut self.next.record;
        record.phase = Some(Phase::Failed);
        record.status_reason = Some(why);
        record.stopped_at = Some(self.now);
        (record.intent, record.waiting) = (None, None);
    }

    fn rejections(&self) -> usize {
        let attempt = self.next.record.next_attempt();
        self.next.record.placements.iter().filter(|p| p.attempt == attempt && p.rejected).count()
    }

    fn lose_placement(&mut self, ran: &Ran, ending: &Ending) {
        let cause = ending.container.reason.as_ref().unwrap_or(&ending.status_reason).clone();
        let why = waits::placement(&cause);
        let placements = &mut self.next.record.placements;
        placements.push(Placement {
            attempt: ran.attempt,
            placement: ran.placement,
            pod_name: ran.pod_name.clone(),
            pod_uid: ran.pod_uid.clone(),
            node_name: ran.node_name.clone(),
            status_reason: clean::shorten(&cause, clean::REASON_LIMIT),
            rejected: ending.class == Class::Rejected,
            at: Some(self.now),
        });
        if placements.len() > MAX_PLACEMENTS {
            // Refusals are counted, so that the others are forgotten first.
            let oldest = placements.iter().position(|placement| !placement.rejected).unwrap_or(0);
            placements.remove(oldest);
        }
        match ran.node_name {
            None => self.wait_again(Some(why)),
            Some(_) => self.become_runnable(Some(why)),
        }
    }
}

/// Which pod an outcome belongs to.
pub(super) struct Ran {
    attempt: u32,
    placement: u32,
    pod_name: String,
    pod_uid: String,
    compute_environment: Option<String>,
    node_name: Option<String>,
    instance: Option<String>,
    log_stream_name: Option<String>,
    bound: bool,
    /// When the pod's container was seen to run.
    started_at: Option<Timestamp>,
}

impl Ran {
    /// A kubelet that starts again may refuse a pod that ran, and takes back what it said of its
    /// containers: the pod then looks like one that never started, but is no free placement.
    fn not_refused_if_it_ran(&self, ending: Ending) -> Ending {
        match (ending.class, self.started_at) {
            (Class::Rejected, Some(_)) => Ending {
                class: Class::Host,
                status_reason: reason::host_terminated(self.instance.as_deref().unwrap_or("unknown")),
                container: ContainerOutcome::default(),
                started_at: self.started_at,
                ..ending
            },
            _ => ending,
        }
    }

    pub(super) fn from_pod(pod: &PodView) -> Self {
        Self {
            attempt: pod.attempt,
            placement: pod.placement,
            pod_name: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            compute_environment: pod.compute_environment.clone(),
            node_name: None,
            instance: None,
            log_stream_name: pod.log_stream.clone(),
            bound: false,
            started_at: None,
        }
    }

    /// Of a multi-node job: had a part of it this host, the placement had one.
    pub(super) fn on(mut self, node_name: Option<String>) -> Self {
        self.node_name = self.node_name.or(node_name);
        self
    }

    fn attempt(&self, ending: &Ending, decision: RetryDecision) -> Attempt {
        Attempt {
            attempt: self.attempt,
            pod_name: self.pod_name.clone(),
            pod_uid: self.pod_uid.clone(),
            compute_environment: self.compute_environment.clone(),
            node_name: self.node_name.clone(),
            instance: self.instance.clone(),
            log_stream_name: self.log_stream_name.clone(),
            started_at: ending.started_at,
            stopped_at: ending.stopped_at,
            status_reason: ending.status_reason.clone(),
            container: ContainerOutcome {
                exit_code: ending.container.exit_code,
                reason: ending.container.reason.clone(),
            },
            containers: ending.containers.clone(),
            init_containers: ending.init_containers.clone(),
            decision: Some(decision),
        }
    }
}

impl From<&Current> for Ran {
    fn from(current: &Current) -> Self {
        Self {
            attempt: current.attempt,
            placement: current.placement,
            pod_name: current.pod_name.clone(),
            pod_uid: current.pod_uid.clone(),
            compute_environment: current.compute_environment.clone(),
            node_name: current.node_name.clone(),
            instance: current.instance.clone(),
            log_stream_name: current.log_stream_name.clone(),
            bound: current.bound_at.is_some(),
            started_at: current.started_at,
        }
    }
}

fn exit_decision(rule: &str) -> RetryDecision {
    RetryDecision { action: RetryAction::Exit, entry: None, rule: rule.to_owned() }
}
