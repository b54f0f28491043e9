//! What Prometheus reads. Every label has a finite set of values.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All metrics, cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    writes: Family<Write, Counter>,
    reconciles: Family<Reconcile, Counter>,
    reconcile_seconds: Family<Controller, Histogram>,
    cycle_seconds: Histogram,
    transitions: Family<Transition, Counter>,
    attempts: Family<Attempt, Counter>,
    queue_wait_seconds: Histogram,
    jobs: Family<JobGauge, Gauge>,
    leader: Gauge,
    answers: Family<Answer, Counter>,
    answer_seconds: Family<Operation, Histogram>,
    notifications: Family<Notification, Counter>,
    notification_seconds: Family<Sink, Histogram>,
    notifications_waiting: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    operation: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Notification {
    sink: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Sink {
    sink: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Transition {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct JobGauge {
    namespace: String,
    queue: String,
    phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("batchyard"),
            writes: Family::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 8))
            }),
            cycle_seconds: Histogram::new(exponential_buckets(0.0005, 4.0, 8)),
            transitions: Family::default(),
            attempts: Family::default(),
            queue_wait_seconds: Histogram::new(exponential_buckets(0.1, 4.0, 10)),
            jobs: Family::default(),
            leader: Gauge::default(),
            answers: Family::default(),
            answer_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 3.0, 9))
            }),
            notifications: Family::default(),
            notification_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.005, 4.0, 7))
            }),
            notifications_waiting: Gauge::default(),
        };
        inner.register();
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("api_writes", "Writes to the API server", self.writes.clone());
        registry.register("reconciles", "Looks at objects, by what came of them", self.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one look at an object",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        registry.register_with_unit(
            "scheduling_cycle_duration",
            "Time of one scheduling cycle without its writes",
            Unit::Seconds,
            self.cycle_seconds.clone(),
        );
        registry.register("job_transitions", "Phases that jobs came to", self.transitions.clone());
        registry.register("attempts_ended", "Attempts that ended, by what follows", self.attempts.clone());
        registry.register_with_unit(
            "queue_wait",
            "Time from RUNNABLE to a pod bound to a node",
            Unit::Seconds,
            self.queue_wait_seconds.clone(),
        );
        registry.register("jobs", "Jobs per queue and phase", self.jobs.clone());
        registry.register("aws_api_answers", "Answers to callers of the AWS API", self.answers.clone());
        registry.register_with_unit(
            "aws_api_answer_duration",
            "Time of an answer to a caller of the AWS API",
            Unit::Seconds,
            self.answer_seconds.clone(),
        );
        registry.register("leader", "1 while this process leads", self.leader.clone());
        registry.register(
            "notifications",
            "Tries to deliver a notification, and notifications that were dropped",
            self.notifications.clone(),
        );
        registry.register_with_unit(
            "notification_duration",
            "Time of one try to deliver a notification",
            Unit::Seconds,
            self.notification_seconds.clone(),
        );
        registry.register(
            "notifications_waiting",
            "Notifications that wait to be delivered",
            self.notifications_waiting.clone(),
        );
    }
}

impl Metrics {
    /// A write was answered, or was not.
    pub fn wrote(&self, verb: &'static str, outcome: &'static str) {
        self.inner.writes.get_or_create(&Write { verb, outcome }).inc();
    }

    /// An object was looked at.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.inner.reconciles.get_or_create(&Reconcile { controller, outcome }).inc();
        self.inner.reconcile_seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// A scheduling cycle ended.
    pub fn cycle(&self, took: Duration) {
        self.inner.cycle_seconds.observe(took.as_secs_f64());
    }

    /// A job came to a phase.
    pub fn transition(&self, phase: &'static str) {
        self.inner.transitions.get_or_create(&Transition { phase }).inc();
    }

    /// An attempt ended.
    pub fn attempt(&self, action: &'static str) {
        self.inner.attempts.get_or_create(&Attempt { action }).inc();
    }

    /// A job was placed.
    pub fn waited(&self, seconds: f64) {
        self.inner.queue_wait_seconds.observe(seconds);
    }

    /// How many jobs of a queue are in a phase.
    pub fn jobs(&self, namespace: &str, queue: &str, phase: &'static str, count: i64) {
        let labels = JobGauge { namespace: namespace.to_owned(), queue: queue.to_owned(), phase };
        self.inner.jobs.get_or_create(&labels).set(count);
    }

    /// A queue is gone.
    pub fn forget_queue(&self, namespace: &str, queue: &str, phases: impl IntoIterator<Item = &'static str>) {
        for phase in phases {
            let labels = JobGauge { namespace: namespace.to_owned(), queue: queue.to_owned(), phase };
            self.inner.jobs.remove(&labels);
        }
    }

    /// A caller of the AWS API was answered.
    pub fn answered(&self, operation: &'static str, code: &'static str, took: Duration) {
        self.inner.answers.get_or_create(&Answer { operation, code }).inc();
        self.inner.answer_seconds.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }

    /// Whether this process leads.
    pub fn leading(&self, leads: bool) {
        self.inner.leader.set(i64::from(leads));
    }

    /// A try to deliver a notification ended.
    pub fn notified(&self, sink: &'static str, outcome: &'static str, took: Duration) {
        self.inner.notifications.get_or_create(&Notification { sink, outcome }).inc();
        self.inner.notification_seconds.get_or_create(&Sink { sink }).observe(took.as_secs_f64());
    }

    /// A notification will never be delivered.
    pub fn notification_dropped(&self, sink: &'static str) {
        self.inner.notifications.get_or_create(&Notification { sink, outcome: "dropped" }).inc();
    }

    /// How many notifications wait.
    pub fn notifications_waiting(&self, count: usize) {
        self.inner.notifications_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// Only if formatting fails.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.inner.registry)?;
        Ok(text)
    }
}
