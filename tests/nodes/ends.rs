//! How a job is expected to end, in words that read like the retry strategy.

use std::fmt::Debug;

use batchyard::crd::BatchJob;
use batchyard::crd::conditions::{ConditionType, is_true};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, RetryAction, RetryDecision};
use batchyard_core::job::rules;
use jiff::Timestamp;

/// AWS's text for a container that ended by itself.
pub(crate) const EXITED: &str = "Essential container in task exited";

/// A text that is expected.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    /// There is none.
    None,
    /// Exactly this one.
    Is(String),
    /// One that begins like this.
    Begins(&'static str),
    /// `Host EC2 (instance i-…)` with the instance of the attempt's own node, and this.
    Host(&'static str),
}

impl Text {
    fn accepts(&self, text: Option<&str>, attempt: Option<&Attempt>) -> bool {
        match self {
            Self::None => text.is_none(),
            Self::Is(expected) => text == Some(expected),
            Self::Begins(start) => text.is_some_and(|text| text.starts_with(start)),
            Self::Host(rest) => {
                let instance = attempt.and_then(|attempt| attempt.instance.clone()).unwrap_or_default();
                text == Some(&format!("Host EC2 (instance {instance}) {rest}"))
            }
        }
    }
}

/// How an attempt is expected to end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    exit_code: Option<i32>,
    status_reason: Text,
    reason: Text,
    /// Whether its container ran at all.
    ran: bool,
    action: RetryAction,
    entry: Option<u32>,
    rule: Option<String>,
}

impl End {
    fn new(exit_code: Option<i32>, status_reason: Text) -> Self {
        let rule = exit_code.filter(|code| *code == 0).map(|_| rules::SUCCEEDED.to_owned());
        Self {
            exit_code,
            status_reason,
            reason: Text::None,
            ran: true,
            action: RetryAction::Exit,
            entry: None,
            rule,
        }
    }

    /// The entry of evaluateOnExit with this index says RETRY.
    pub(crate) fn retried_by(self, entry: u32) -> Self {
        Self { action: RetryAction::Retry, entry: Some(entry), rule: None, ..self }
    }

    /// No entry of evaluateOnExit has a say, and attempts are left.
    pub(crate) fn retried_by_default(self) -> Self {
        Self { action: RetryAction::Retry, entry: None, rule: None, ..self }
    }

    /// The entry of evaluateOnExit with this index says EXIT.
    pub(crate) fn failed_by(self, entry: u32) -> Self {
        Self { action: RetryAction::Exit, entry: Some(entry), rule: None, ..self }
    }

    /// Nothing of evaluateOnExit decides, but this rule.
    pub(crate) fn failed_by_rule(self, rule: impl Into<String>) -> Self {
        Self { action: RetryAction::Exit, entry: None, rule: Some(rule.into()), ..self }
    }

    /// The attempt's statusReason is this one.
    pub(crate) fn because(self, status_reason: impl Into<String>) -> Self {
        Self { status_reason: Text::Is(status_reason.into()), ..self }
    }

    /// The container has this reason beside its exit code.
    pub(crate) fn with_reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Text::Is(reason.into()), ..self }
    }

    /// The job's own containers never ran: one that comes before them ended like this.
    pub(crate) fn before_its_own_ran(self) -> Self {
        Self { ran: false, ..self }
    }

    /// No container ever ran, and nobody can say why.
    pub(crate) fn before_it_ran(self) -> Self {
        Self { exit_code: None, ran: false, ..self }
    }
}

/// The program ended by itself.
pub(crate) fn exit(code: i32) -> End {
    End::new(Some(code), Text::Is(EXITED.to_owned()))
}

/// No container ever ran; the container's reason begins like this.
pub(crate) fn not_started(reason: &'static str) -> End {
    let end = End::new(None, Text::Is("Task failed to start".to_owned()));
    End { reason: Text::Begins(reason), ran: false, ..end }
}

/// Somebody deleted the pod; the program said goodbye with this code.
pub(crate) fn pod_deleted(exit_code: Option<i32>) -> End {
    End::new(exit_code, Text::Is("Pod deleted: by a user or another controller".to_owned()))
}

/// The host went away under the program, which got an exit code if it could say goodbye.
pub(crate) fn host_terminated(exit_code: Option<i32>) -> End {
    End::new(exit_code, Text::Host("terminated."))
}

/// The host or the cluster put the pod out, for this reason.
pub(crate) fn host(what: &'static str, exit_code: Option<i32>) -> End {
    End::new(exit_code, Text::Host(what))
}

/// How a job is expected to end.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    phase: Phase,
    status_reason: Text,
    attempts: Vec<End>,
    is_terminated: bool,
    is_cancelled: bool,
    placements: usize,
}

/// The job SUCCEEDED after these attempts.
pub(crate) fn succeeded<const N: usize>(attempts: [End; N]) -> Ends {
    ends(Phase::Succeeded, Text::Is(EXITED.to_owned()), attempts.to_vec())
}

/// The job FAILED after these attempts; its statusReason is that of the last.
pub(crate) fn failed<const N: usize>(attempts: [End; N]) -> Ends {
    let reason = attempts.last().map_or(Text::None, |last| last.status_reason.clone());
    ends(Phase::Failed, reason, attempts.to_vec())
}

fn ends(phase: Phase, status_reason: Text, attempts: Vec<End>) -> Ends {
    Ends { phase, status_reason, attempts, is_terminated: false, is_cancelled: false, placements: 0 }
}

impl Ends {
    /// Somebody wanted it to end.
    pub(crate) fn terminated(self) -> Self {
        Self { is_terminated: true, ..self }
    }

    /// Somebody wanted it not to begin; this is the job's statusReason.
    pub(crate) fn cancelled(self, reason: &str) -> Self {
        Self { is_cancelled: true, ..self.because(reason) }
    }

    /// The job's statusReason is this one.
    pub(crate) fn because(self, reason: &str) -> Self {
        Self { status_reason: Text::Is(reason.to_owned()), ..self }
    }

    /// So many pods started nothing and used up no attempt.
    pub(crate) fn after_placements(self, placements: usize) -> Self {
        Self { placements, ..self }
    }

    /// Everything about a job that is not as expected, a line each.
    pub(crate) fn differences(&self, job: &BatchJob, environment: &str) -> Vec<String> {
        let Some(status) = &job.status else { return vec!["there is no status".to_owned()] };
        let record = &status.record;
        let mut found = Differences::default();
        found.equal("phase", &self.phase, &record.phase());
        found.accept(
            "statusReason",
            &self.status_reason,
            record.status_reason.as_deref(),
            record.attempts.last(),
        );
        found.equal("isTerminated", &self.is_terminated, &record.is_terminated.unwrap_or_default());
        found.equal("isCancelled", &self.is_cancelled, &record.is_cancelled.unwrap_or_default());
        found.equal("current", &None, &record.current);
        found.equal("intent", &None, &record.intent);
        found.equal("placements", &self.placements, &record.placements.len());
        let well = self.phase == Phase::Succeeded;
        found.equal("condition Complete", &well, &is_true(&status.conditions, ConditionType::Complete));
        found.equal("condition Failed", &!well, &is_true(&status.conditions, ConditionType::Failed));
        let unreachable = is_true(&status.conditions, ConditionType::NodeUnreachable);
        found.equal("condition NodeUnreachable", &false, &unreachable);
        found.equal("number of attempts", &self.attempts.len(), &record.attempts.len());
        found.equal("status.attempt", &self.attempts.len(), &(status.attempt.unwrap_or(0) as usize));
        for (index, (expected, attempt)) in self.attempts.iter().zip(&record.attempts).enumerate() {
            found.attempt(index, expected, attempt, environment);
        }
        found.times(job);
        found.0
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn equal<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, found: &T) {
        if expected != found {
            self.0.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    fn accept(&mut self, what: &str, expected: &Text, found: Option<&str>, attempt: Option<&Attempt>) {
        if !expected.accepts(found, attempt) {
            self.0.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    fn attempt(&mut self, index: usize, expected: &End, attempt: &Attempt, environment: &str) {
        let at = |what: &str| format!("attempts[{index}].{what}");
        self.equal(&at("attempt"), &(index + 1), &(attempt.attempt as usize));
        self.equal(&at("container.exitCode"), &expected.exit_code, &attempt.container.exit_code);
        let reason = attempt.container.reason.as_deref();
        self.accept(&at("container.reason"), &expected.reason, reason, Some(attempt));
        let status_reason = Some(attempt.status_reason.as_str());
        self.accept(&at("statusReason"), &expected.status_reason, status_reason, Some(attempt));
        self.equal(&at("computeEnvironment"), &Some(environment), &attempt.compute_environment.as_deref());
        self.equal(&at("nodeName is there"), &true, &attempt.node_name.is_some());
        self.equal(&at("startedAt is there"), &expected.ran, &attempt.started_at.is_some());
        self.equal(&at("stoppedAt is there"), &true, &attempt.stopped_at.is_some());
        let Some(RetryDecision { action, entry, rule }) = &attempt.decision else {
            self.0.push(format!("{} is missing", at("decision")));
            return;
        };
        self.equal(&at("decision.action"), &expected.action, action);
        self.equal(&at("decision.entry"), &expected.entry, entry);
        if let Some(expected) = &expected.rule {
            self.equal(&at("decision.rule"), expected, rule);
        }
    }

    /// Times follow each other: accepted, then each attempt's start and stop, then now. The
    /// kubelet's and the API server's times have whole seconds, so a second may be missing.
    fn times(&mut self, job: &BatchJob) {
        let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
        let mut times = vec![("createdAt".to_owned(), record.created_at)];
        for attempt in &record.attempts {
            let at = |what: &str| format!("attempt {} {what}", attempt.attempt);
            times.push((at("startedAt"), attempt.started_at.or(attempt.stopped_at)));
            times.push((at("stoppedAt"), attempt.stopped_at));
        }
        times.push(("stoppedAt".to_owned(), record.stopped_at));
        times.push(("now".to_owned(), Some(Timestamp::now())));
        for pair in times.windows(2) {
            let ((earlier, first), (later, second)) = (&pair[0], &pair[1]);
            let in_order =
                first.zip(*second).is_some_and(|(first, second)| first.as_second() <= second.as_second() + 1);
            if !in_order {
                self.0.push(format!("{earlier} ({first:?}) should come before {later} ({second:?})"));
            }
        }
        let last = record.attempts.last().and_then(|attempt| attempt.started_at);
        self.equal("startedAt is that of the last attempt", &last, &record.started_at);
    }
}
