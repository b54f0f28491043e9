//! Delivers: a task for each rule, one notification after the other, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use batchyard_core::notification::delivery::{GIVE_UP, LONGEST, pause};
use batchyard_core::notification::text;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::Context;
use super::hub::{Next, Waiting};
use super::sink::{Failure, Secrets, Sink};
use crate::crd::NotificationRule;

/// Starts a worker for each rule, and ends it with the rule.
pub(super) async fn run(context: Arc<Context>) {
    let mut workers: BTreeMap<String, (Option<String>, Task)> = BTreeMap::new();
    loop {
        let rules = context.hub.rules();
        workers.retain(|name, (uid, _)| rules.iter().any(|(known, of, _)| known == name && of == uid));
        for (name, uid, wake) in rules {
            let begin = || {
                let work = deliver_all(context.clone(), name.clone(), wake);
                (uid, Task(tokio::spawn(work)))
            };
            workers.entry(name.clone()).or_insert_with(begin);
        }
        context.hub.rules_changed.notified().await;
    }
}

/// A task that ends when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the worker of a rule remembers between two deliveries.
struct Worker {
    context: Arc<Context>,
    name: String,
    /// Failures in a row.
    failures: u32,
    sink: Option<(Arc<NotificationRule>, Sink)>,
    /// The recipients that took nothing when they were last tried, although others may.
    rests: BTreeMap<String, Rest>,
}

/// A recipient that is left alone.
struct Rest {
    /// Failures in a row.
    failures: u32,
    until: Instant,
}

async fn deliver_all(context: Arc<Context>, name: String, wake: Arc<Notify>) {
    let mut worker = Worker { context, name, failures: 0, sink: None, rests: BTreeMap::new() };
    loop {
        worker.look_at_rule();
        let now = Instant::now();
        let resting = worker.rests.iter().filter(|(_, rest)| rest.until > now);
        let due = resting.clone().map(|(_, rest)| rest.until).min();
        let resting = resting.map(|(to, _)| to.clone()).collect();
        let Some(next) = worker.context.hub.next(&worker.name, &resting) else {
            tokio::select! {
                () = wake.notified() => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
            continue;
        };
        if let Some(pause) = worker.deliver(&next).await {
            worker.rest(pause, &next.rule, &wake).await;
        }
        worker.context.metrics.notifications_waiting(worker.context.hub.waiting());
    }
}

impl Worker {
    /// Forgets what was of the rule as it was before.
    fn look_at_rule(&mut self) {
        let Some(rule) = self.context.hub.sending(&self.name) else { return };
        let is_other = |known: &NotificationRule| known.metadata.generation != rule.metadata.generation;
        if self.sink.as_ref().is_some_and(|(known, _)| is_other(known)) {
            (self.failures, self.sink) = (0, None);
            self.rests.clear();
        }
    }

    /// Tries once. Returns how long to leave the sink alone, if it failed.
    async fn deliver(&mut self, next: &Next) -> Option<Duration> {
        let Next { waiting, rule, to } = next;
        let Context { hub, clock, metrics, settings, writer } = &*self.context;
        let now = clock.now();
        if now.duration_since(waiting.since) >= GIVE_UP {
            return self.drop(waiting, rule, text::TOO_OLD.to_owned());
        }
        let is_same = |known: &NotificationRule| known.metadata.generation == rule.metadata.generation;
        if !self.sink.as_ref().is_some_and(|(known, _)| is_same(known)) {
            self.sink = Some((rule.clone(), Sink::new(rule, settings)));
        }
        let (_, sink) = self.sink.as_mut()?;
        let secrets = Secrets::new(writer.client(), rule);
        let begun = Instant::now();
        let limit = Duration::from_secs(u64::from(settings.timeout_seconds));
        let mut left = to.clone();
        let answer = timeout(limit, sink.deliver(&waiting.subject, &mut left, &secrets)).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::later(text::no_answer(sink.host()))));
        metrics.notified(sink.kind(), if answer.is_ok() { "delivered" } else { "failed" }, begun.elapsed());
        let is_of_some = answer.as_ref().is_err_and(|failure| failure.of_some);
        let mut lacking = waiting.left.clone().unwrap_or_else(|| sink.recipients());
        lacking.retain(|one| !to.contains(one) || left.contains(one));
        let is_done = lacking.is_empty();
        if left.len() < to.len() && !is_done {
            hub.keep(&self.name, waiting.sequence, lacking);
        }
        rest_some(&mut self.rests, &self.name, to, &left, is_of_some);
        match answer {
            Ok(()) if !is_done => {
                self.failures = 0;
                None
            }
            Ok(()) => {
                debug!(rule = self.name, id = waiting.subject.id(), "delivered");
                self.failures = 0;
                hub.delivered(&self.name, waiting.sequence, clock.now());
                None
            }
            Err(Failure { why, for_good: true, .. }) if is_done => self.drop(waiting, rule, why),
            Err(Failure { why, for_good, .. }) if is_of_some || for_good => {
                self.failures = 0;
                warn!(rule = self.name, why, "a notification could not be delivered to all");
                hub.failed(&self.name, why, clock.now());
                None
            }
            Err(Failure { why, after, .. }) => {
                self.failures = self.failures.saturating_add(1);
                // A connection that failed is not used again, and a Secret may have changed.
                self.sink = self.sink.take().map(|(rule, sink)| (rule, sink.afresh()));
                warn!(
                    rule = self.name,
                    failures = self.failures,
                    why,
                    "a notification could not be delivered"
                );
                hub.failed(&self.name, why, clock.now());
                let own = pause(self.failures, &self.name).unsigned_abs();
                Some(after.unwrap_or_default().min(LONGEST.unsigned_abs()).max(own))
            }
        }
    }

    fn drop(&mut self, waiting: &Waiting, rule: &NotificationRule, why: String) -> Option<Duration> {
        let Context { hub, clock, metrics, .. } = &*self.context;
        warn!(rule = self.name, id = waiting.subject.id(), why, "a notification was dropped");
        metrics.notification_dropped(Sink::kind_of(rule));
        hub.dropped(&self.name, waiting.sequence, why, clock.now());
        None
    }

    /// Waits, but no longer than until the rule is another.
    async fn rest(&self, pause: Duration, rule: &Arc<NotificationRule>, wake: &Notify) {
        let is_other = |now: Option<Arc<NotificationRule>>| {
            now.is_none_or(|now| now.metadata.generation != rule.metadata.generation)
        };
        let changed = async {
            while !is_other(self.context.hub.sending(&self.name)) {
                wake.notified().await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = changed => {}
        }
    }
}

/// Leaves recipients alone that took nothing, longer each time; who took something is tried again with the next.
fn rest_some(
    rests: &mut BTreeMap<String, Rest>,
    name: &str,
    to: &BTreeSet<String>,
    left: &BTreeSet<String>,
    is_of_some: bool,
) {
    rests.retain(|one, _| !to.contains(one) || left.contains(one));
    for one in left.iter().filter(|_| is_of_some) {
        let failures = rests.get(one).map_or(0, |rest| rest.failures).saturating_add(1);
        let until = Instant::now() + pause(failures, &format!("{name} {one}")).unsigned_abs();
        rests.insert(one.clone(), Rest { failures, until });
    }
}
