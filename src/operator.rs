//! Starts what runs, in order: lease, watches, caches, controllers and dispatcher; and stops it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::controllers::lanes::Lane;
use crate::controllers::standing::Refresh;
use crate::controllers::triggers::{self, Triggers};
use crate::controllers::{
    Context, attempt_pods, batch_job, compute_environment, consumable_resource, job_definition, job_queue,
    retention, revision, run, scheduling_policy,
};
use crate::dispatcher::{self, Dispatch};
use crate::k8s::access::Memory;
use crate::k8s::apply::Writer;
use crate::k8s::caches;
use crate::k8s::events::Events;
use crate::program::{Tools, Turn, run_in_turn};
use crate::serve::Probed;
use crate::settings::Settings;
use crate::view;

/// How long work under way may take to end after SIGTERM.
const WIND_DOWN: Duration = Duration::from_secs(20);

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or when it lost its lease: another process leads now, and this one must
/// begin anew.
pub async fn operate(settings: Settings) -> Result<()> {
    #[cfg(feature = "fault-tests")]
    settings.seeded_bug.into_iter().for_each(crate::seeded_bugs::seed);
    let turn = Turn {
        lease: "batchyard-operator",
        namespace: &settings.namespace,
        pod_name: settings.pod_name.as_deref(),
        lease_duration_seconds: settings.lease_duration_seconds,
        probes: &settings.probes,
    };
    run_in_turn(turn, |tools| lead(settings.clone(), tools)).await
}

/// Waits for the lease, works while it holds, and winds down.
async fn lead(settings: Settings, tools: Tools) -> Result<()> {
    let Tools { client, probed, mut leadership, stop } = tools;
    let Probed { metrics, ready, health } = probed;
    tokio::select! {
        () = leadership.acquired() => {}
        () = stop.cancelled() => return Ok(()),
    }
    metrics.leading(true);
    ready.set(false);
    let dispatch = Dispatch::default();
    let (caches, mut feeds) = caches::prepare(&client, &settings.reach());
    let triggers = triggers::wire(&mut feeds, &caches, &dispatch);
    let identity = settings.pod_name.clone().unwrap_or_default();
    let context = Arc::new(Context {
        writer: Writer::new(client.clone(), leadership.clone(), metrics.clone())
            .with_runner(settings.runner.name.clone()),
        caches: caches.clone(),
        dispatch,
        access: Memory::default(),
        events: Events::new(client, &identity),
        clock: Clock::default(),
        metrics,
        health,
        settings,
        refresh: Refresh::default(),
    });
    let watches = feeds.run();
    tokio::select! {
        () = caches.ready() => {}
        () = leadership.lost() => bail!("the lease was lost before the caches were complete"),
        () = stop.cancelled() => return Ok(()),
    }
    info!(jobs = caches.jobs().len(), "caches complete");
    let mut work = start(&context, triggers, &stop);
    ready.set(true);
    let lost = tokio::select! {
        // Controllers end because they are told to, and that is no failure: ask for it first.
        biased;
        () = stop.cancelled() => false,
        () = leadership.lost() => true,
        ended = work.join_next() => bail!("a controller ended: {ended:?}"),
    };
    stop.cancel();
    let wound_down =
        tokio::time::timeout(WIND_DOWN, async { while work.join_next().await.is_some() {} }).await;
    if wound_down.is_err() {
        warn!("work under way did not end in time; it will be taken up again");
    }
    drop(watches);
    if lost {
        bail!("the lease was lost");
    }
    Ok(())
}

fn start(context: &Arc<Context>, triggers: Triggers, stop: &CancellationToken) -> JoinSet<()> {
    let mut work = JoinSet::new();
    let caches = &context.caches;
    let args = || (context.clone(), stop.clone());
    let (c, s) = args();
    work.spawn(dispatcher::cycle::run(c, triggers.wakers, s));
    let (c, s) = args();
    work.spawn(run(
        "BatchJob",
        caches.job_store(),
        triggers.jobs,
        batch_job::lane,
        c,
        s,
        batch_job::reconcile,
    ));
    let (c, s) = args();
    let queues = caches.queues.clone();
    work.spawn(run("JobQueue", queues, triggers.queues, one_lane, c, s, job_queue::reconcile));
    let (c, s) = args();
    work.spawn(run(
        "ComputeEnvironment",
        caches.environments.clone(),
        triggers.environments,
        one_lane,
        c,
        s,
        compute_environment::reconcile,
    ));
    let (c, s) = args();
    work.spawn(run(
        "JobDefinition",
        caches.definitions.clone(),
        triggers.definitions,
        one_lane,
        c,
        s,
        job_definition::reconcile,
    ));
    let (c, s) = args();
    let policies = caches.policies.clone();
    work.spawn(run(
        "SchedulingPolicy",
        policies,
        triggers.policies,
        one_lane,
        c,
        s,
        scheduling_policy::reconcile,
    ));
    let (c, s) = args();
    work.spawn(run(
        "ConsumableResource",
        caches.consumable_resources.clone(),
        triggers.consumable_resources,
        one_lane,
        c,
        s,
        consumable_resource::reconcile,
    ));
    let (c, s) = args();
    work.spawn(run(
        "ControllerRevision",
        caches.revisions.clone(),
        triggers.revisions,
        one_lane,
        c,
        s,
        revision::reconcile,
    ));
    let (c, s) = args();
    work.spawn(attempt_pods::run(c, triggers.attempt_pods, s));
    let (c, s) = args();
    work.spawn(retention::run(c, s));
    let (c, s) = args();
    work.spawn(view::run(c, s));
    work
}

/// The objects of a namespace share its turns, whichever they are.
fn one_lane<K>(_: &K) -> Lane {
    Lane::new()
}
