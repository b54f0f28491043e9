//! What happens to jobs: each story is a namespace with an environment, a queue and a job, what
//! its pods do, and what its user does.

use batchyard::crd::BatchJob;
use serde_json::{Value, json};

/// A job's life.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// Members of the job beside its queue.
    pub(crate) job: Value,
    /// The spec of the definition `definition`, where the story has one.
    pub(crate) definition: Option<Value>,
    /// How many jobs like this there are at once.
    pub(crate) copies: usize,
    /// It has nodes of its own, since it takes some away.
    pub(crate) takes_nodes: bool,
    /// What the user does, and when.
    pub(crate) act: Option<(When, Act)>,
    /// The phase and the number of attempts at the end; none for a job that is deleted.
    pub(crate) ends: Option<(&'static str, usize)>,
}

/// When a user acts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// The job is in this phase.
    Phase(&'static str),
    /// It has a pod that is not bound.
    Unbound,
}

/// What a user does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Cancel,
    Terminate,
    DeleteJob,
    EditDefinition,
    DisableQueue,
    DeleteQueue,
    MakeQueue,
}

impl When {
    /// Whether it is time. A phase may be over before anybody looks.
    pub(crate) fn is_now(self, job: &BatchJob, has_unbound_pod: bool) -> bool {
        let Some(record) = job.status.as_ref().map(|status| &status.record) else { return false };
        match self {
            Self::Phase(wanted) => record.phase().as_str() == wanted || !record.attempts.is_empty(),
            Self::Unbound => has_unbound_pod,
        }
    }
}

fn story(name: &'static str, script: &str, attempts: u32, ends: (&'static str, usize)) -> Story {
    let container = json!({"image": "robot", "vcpus": 1, "memory": 64, "command": ["robot", script]});
    let job = json!({"containerProperties": container, "retryStrategy": {"attempts": attempts}});
    Story { name, job, definition: None, copies: 1, takes_nodes: false, act: None, ends: Some(ends) }
}

impl Story {
    fn act(self, when: When, act: Act) -> Self {
        Self { act: Some((when, act)), ..self }
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.job[member] = value;
        self
    }

    fn on_own_nodes(self) -> Self {
        Self { takes_nodes: true, ..self }
    }

    /// What the job would say itself stands in a definition.
    fn by_definition(mut self) -> Self {
        let container = self.job["containerProperties"].take();
        let strategy = self.job["retryStrategy"].take();
        self.definition =
            Some(json!({"type": "container", "containerProperties": container, "retryStrategy": strategy}));
        self.job = json!({"jobDefinition": "definition"});
        self
    }
}

/// All stories.
pub(crate) fn all() -> Vec<Story> {
    let running = When::Phase("RUNNING");
    let rules = json!({"attempts": 5, "evaluateOnExit": [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onExitCode": "1", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"}]});
    let host = "Host EC2 (instance i-*";
    let succeeds = "exit 0 => 0 Essential container in task exited";
    vec![
        story("run", succeeds, 1, ("SUCCEEDED", 1)),
        Story { copies: 4, ..story("crowd", succeeds, 1, ("SUCCEEDED", 1)) },
        story("quick", "quick 0 => 0 Essential*", 1, ("SUCCEEDED", 1)),
        story("retry", &format!("exit 1 => 1 Essential*; {succeeds}"), 3, ("SUCCEEDED", 2)),
        story("exhausted", "quick 1 => 1 Essential*", 2, ("FAILED", 2)),
        story("rules", "quick 1 => 1 Essential*; exit 3 => 3 Essential*", 5, ("FAILED", 2))
            .with("retryStrategy", rules.clone()),
        story("image", "image => - Task failed to start", 3, ("FAILED", 1))
            .with("retryStrategy", rules.clone()),
        story("rejected", &format!("reject, {succeeds}"), 1, ("SUCCEEDED", 1)),
        story("drain", &format!("drain => 143 {host}; {succeeds}"), 5, ("SUCCEEDED", 2))
            .with("retryStrategy", rules.clone())
            .on_own_nodes(),
        story("evict", &format!("evict => 143 {host}; {succeeds}"), 5, ("SUCCEEDED", 2))
            .with("retryStrategy", rules),
        story("pod-deleted", &format!("deleted => 143 Pod deleted*; {succeeds}"), 2, ("SUCCEEDED", 2)),
        story("cancel", "hold", 2, ("FAILED", 0)).act(When::Unbound, Act::Cancel),
        story("terminate", "run => 143 no longer wanted", 3, ("FAILED", 1)).act(running, Act::Terminate),
        story("polite", "run 0 => 0 no longer wanted", 3, ("FAILED", 1)).act(running, Act::Terminate),
        story("timeout", "old => 143 Job attempt duration exceeded timeout", 3, ("FAILED", 1))
            .with("timeout", json!({"attemptDurationSeconds": 60})),
        Story { ends: None, ..story("job-deleted", "run", 3, ("", 0)).act(running, Act::DeleteJob) },
        story("edited", &format!("exit 1 => 1 Essential*; {succeeds}"), 2, ("SUCCEEDED", 2))
            .by_definition()
            .act(running, Act::EditDefinition),
        story("disabled", &format!("exit 1 => 1 Essential*; {succeeds}"), 2, ("SUCCEEDED", 2))
            .act(running, Act::DisableQueue),
        story("queue-deleted", "run => 143 JobQueue deleted", 3, ("FAILED", 1))
            .act(running, Act::DeleteQueue),
        story("queue-later", succeeds, 1, ("SUCCEEDED", 1)).act(When::Phase("SUBMITTED"), Act::MakeQueue),
    ]
}
