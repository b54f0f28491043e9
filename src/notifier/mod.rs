//! The notifier: a program of its own that tells what happens to jobs where NotificationRules say.
//!
//! It watches rules, jobs and queues, and writes nothing but the status of rules, at most every so often. `hub` knows
//! what is to be told and what waits; `worker` delivers for one rule, so that a sink that is dead holds up nobody else;
//! `sink` speaks HTTP and SMTP, to addresses that may be spoken to; `status` writes what became of it.
//!
//! Nothing is stored for a notification. A rule's status says up to which version of jobs and queues all is delivered
//! (`deliveredThrough`), and what a job has been through follows from its record: a notifier that starts anew tells what
//! changed since then. Something may be told twice, always with the same id.
//!
//! The operator knows nothing of it, and no job ever waits for it.

mod convert;
mod hub;
pub mod sink;
mod status;
mod worker;

use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tracing::info;

use crate::clock::Clock;
use crate::crd::{BatchJob, JobQueue, NotificationRule};
use crate::k8s::apply::Writer;
use crate::k8s::watch::Feed;
use crate::metrics::Metrics;
use crate::program::{Tools, Turn, run_in_turn};
use crate::serve::Probed;
use crate::settings::NotifierSettings;
use hub::Hub;

/// What the parts of the notifier share.
pub(crate) struct Context {
    hub: Hub,
    writer: Writer,
    clock: Clock,
    metrics: Metrics,
    settings: NotifierSettings,
}

/// Runs the notifier until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or when it lost its lease: another process sends now.
pub async fn operate(settings: NotifierSettings) -> Result<()> {
    let turn = Turn {
        lease: "batchyard-notifier",
        namespace: &settings.namespace,
        pod_name: settings.pod_name.as_deref(),
        lease_duration_seconds: settings.lease_duration_seconds,
        probes: &settings.probes,
    };
    run_in_turn(turn, |tools| lead(settings.clone(), tools)).await
}

/// Waits for the lease and sends while it holds.
async fn lead(settings: NotifierSettings, tools: Tools) -> Result<()> {
    let Tools { client, probed, mut leadership, stop } = tools;
    let Probed { metrics, ready, .. } = probed;
    tokio::select! {
        () = leadership.acquired() => {}
        () = stop.cancelled() => return Ok(()),
    }
    metrics.leading(true);
    ready.set(false);
    let scope = &settings.scope;
    let mut jobs: Feed<BatchJob> = scope.feed(&client, "", convert::trim);
    let mut queues: Feed<JobQueue> = scope.feed(&client, "", |_| {});
    let mut rules: Feed<NotificationRule> = scope.feed(&client, "", |_| {});
    let hub = Hub::new(&settings, jobs.store(), queues.store());
    let writer = Writer::new(client, leadership.clone(), metrics.clone());
    let context = Arc::new(Context { hub: hub.clone(), writer, clock: Clock::default(), metrics, settings });
    let (job_hub, queue_hub, rule_hub) = (hub.clone(), hub.clone(), hub.clone());
    jobs.listen(move |change| job_hub.hear_job(change));
    queues.listen(move |change| queue_hub.hear_queue(change));
    rules.listen(move |change| rule_hub.hear_rule(change));
    let mut complete = [jobs.complete(), queues.complete(), rules.complete()];
    let mut work = JoinSet::new();
    work.spawn(jobs.run());
    work.spawn(queues.run());
    work.spawn(rules.run());
    for list in &mut complete {
        tokio::select! {
            answer = list.wait_for(|complete| *complete) => drop(answer?),
            () = leadership.lost() => bail!("the lease was lost before the caches were complete"),
            () = stop.cancelled() => return Ok(()),
        }
    }
    hub.open();
    info!("caches complete");
    ready.set(true);
    work.spawn(worker::run(context.clone()));
    work.spawn(status::run(context.clone()));
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        () = leadership.lost() => bail!("the lease was lost"),
        ended = work.join_next() => bail!("a part of the notifier ended: {ended:?}"),
    };
    // Nothing is sent from here on, so that what is written holds.
    work.abort_all();
    while work.join_next().await.is_some() {}
    status::last_words(&context).await;
    outcome
}
