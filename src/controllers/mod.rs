//! One controller per kind. Each looks at one object at a time in the same five steps:
//! dereference, decide, apply, update status, tell.
//!
//! Controllers never call each other; they talk through objects. What every controller needs
//! around a reconcile (backoff per object, panics kept to one object, metrics) is here.

pub mod attempt_pods;
pub mod batch_job;
pub mod compute_environment;
pub mod consumable_resource;
pub mod job_definition;
pub mod job_queue;
pub mod lanes;
pub mod retention;
pub mod revision;
pub mod scheduling_policy;
mod session_objects;
pub mod standing;
pub mod triggers;
mod turns;

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use self::lanes::Lane;
use self::turns::Turns;
use crate::clock::Clock;
use crate::dispatcher::Dispatch;
use crate::k8s::access::Memory;
use crate::k8s::apply::Writer;
use crate::k8s::backoff::Backoff;
use crate::k8s::caches::Caches;
use crate::k8s::error::{Error, chain};
use crate::k8s::events::Events;
use crate::k8s::pods;
use crate::k8s::read::read;
use crate::k8s::watch::{self, Change};
use crate::metrics::Metrics;
use crate::seeded_bugs::{Bug, has};
use crate::serve::Health;
use crate::settings::Settings;

/// What all controllers share.
pub struct Context {
    /// Every write goes through it.
    pub writer: Writer,
    /// What is known of the cluster.
    pub caches: Caches,
    /// The dispatcher's verdicts.
    pub dispatch: Dispatch,
    /// Who may what, as the API server said a moment ago.
    pub access: Memory,
    /// Tells people.
    pub events: Events,
    /// The time of day.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// Whether what is repeated is repeated.
    pub health: Health,
    /// What the operator was started with.
    pub settings: Settings,
    /// How often jobs are counted for the statuses of queues and environments.
    pub refresh: standing::Refresh,
}

impl Context {
    /// A node. One that the cache does not show is asked for: a node that joined a moment ago must
    /// not be taken for one that is gone.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, Error> {
        if let Some(node) = self.caches.nodes.get(&ObjectRef::new(name)) {
            return Ok(Some(node));
        }
        self.live_node(name).await
    }

    /// A node as it is now.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn live_node(&self, name: &str) -> Result<Option<Arc<Node>>, Error> {
        let api: Api<Node> = Api::all(self.writer.client().clone());
        Ok(read(format!("get Node {name}"), || api.get_opt(name)).await?.map(Arc::new))
    }

    /// Takes the finalizer off a pod, and knows at once that it is off.
    ///
    /// # Errors
    /// When the API server refuses or cannot be asked.
    pub async fn release(&self, pod: &Pod) -> Result<(), Error> {
        let released = self.writer.release_pod(pod).await?;
        // One that is being deleted is gone by now; the watch tells.
        if let Some(mut released) = released.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            pods::trim(&mut released);
            self.caches.pods.take(&Change::Applied(Arc::new(released)));
            self.dispatch.poke();
        }
        Ok(())
    }
}

/// What came of looking at an object.
pub type Outcome = Result<Wake, Error>;

/// When to look at the object again although nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Only when something changes.
    OnChange,
    /// After this long.
    After(Duration),
}

impl Wake {
    /// At a point in time; at once if it has passed.
    pub fn at(when: Option<jiff::Timestamp>, now: jiff::Timestamp) -> Self {
        when.map_or(Self::OnChange, |when| {
            let pause = Duration::try_from(when.duration_since(now)).unwrap_or_default();
            // Never spin, even if a clock jumps.
            Self::After(pause.max(Duration::from_millis(50)))
        })
    }
}

/// Runs a controller until it is told to stop; what is under way is finished. Objects have turns by namespace and,
/// within it, by `lane`.
pub async fn run<K, F, R>(
    name: &'static str,
    store: Store<K>,
    triggers: UnboundedReceiver<ObjectRef<K>>,
    lane: fn(&K) -> Lane,
    context: Arc<Context>,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    let backoff = Arc::new(Backoff::default());
    let succeeded = backoff.clone();
    let concurrency = context.settings.concurrency;
    let turns = Turns::new(concurrency.into());
    let in_turn = turns.clone().stream(triggers, store.clone(), lane);
    let (again, again_after_error) = (turns.clone(), turns.clone());
    Controller::for_shared_stream(futures::stream::pending(), store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(in_turn)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(
            move |object, context| {
                let (reconcile, backoff, again) = (reconcile.clone(), succeeded.clone(), again.clone());
                async move {
                    let reference = ObjectRef::from_obj(object.as_ref());
                    if let Wake::After(pause) = observed(name, object, context, &backoff, reconcile).await? {
                        again.after(pause, reference);
                    }
                    Ok(Action::await_change())
                }
            },
            move |object, error: &Failure, _| {
                let pause = backoff.failed(&object.uid().unwrap_or_default()).max(error.at_least());
                warn!(controller = name, object = watch::key(object.as_ref()), ?pause, "{}", chain(error));
                if !has(Bug::ErrorsAreFinal) {
                    again_after_error.after(pause, ObjectRef::from_obj(object.as_ref()));
                }
                Action::await_change()
            },
            context,
        )
        .for_each(|result| {
            turns.finished(&result);
            std::future::ready(())
        })
        .await;
}

/// A reconcile that went wrong.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("reconcile failed")]
    Error(#[from] Error),
    #[error("reconcile panicked: {0}")]
    Panic(String),
}

impl Failure {
    /// How long the API server asks to be left alone.
    fn at_least(&self) -> Duration {
        match self {
            Self::Error(error) => error.retry_after().unwrap_or_default(),
            Self::Panic(_) => Duration::ZERO,
        }
    }
}

async fn observed<K, F, R>(
    name: &'static str,
    object: Arc<K>,
    context: Arc<Context>,
    backoff: &Backoff,
    reconcile: F,
) -> Result<Wake, Failure>
where
    K: Resource<DynamicType = ()>,
    F: Fn(Arc<K>, Arc<Context>) -> R,
    R: Future<Output = Outcome>,
{
    let span = info_span!("reconcile", controller = name, object = watch::key(object.as_ref()));
    let uid = object.uid().unwrap_or_default();
    let begun = Instant::now();
    let metrics = context.metrics.clone();
    let answer = AssertUnwindSafe(reconcile(object, context)).catch_unwind().instrument(span).await;
    let (outcome, result) = match answer {
        Ok(Ok(wake)) => {
            backoff.forget(&uid);
            ("ok", Ok(wake))
        }
        // Somebody else changed the object: decide again on what it is by then.
        Ok(Err(error)) if error.is_conflict() => ("conflict", Ok(Wake::After(backoff.failed(&uid)))),
        Ok(Err(error)) => (error.kind(), Err(error.into())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default();
            error!(controller = name, text, "reconcile panicked; the others go on");
            ("panic", Err(Failure::Panic(text)))
        }
    };
    metrics.reconciled(name, outcome, begun.elapsed());
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::JobQueue;
    use crate::k8s::caches;
    use crate::k8s::lease::Leadership;
    use crate::k8s::scope::Reach;
    use clap::Parser;
    use kube::runtime::{reflector, watcher};
    use tokio::sync::mpsc;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    /// What controllers share, without a cluster behind it.
    pub(super) fn context() -> Arc<Context> {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = kube::Client::try_from(nowhere).expect("a client");
        let metrics = Metrics::default();
        Arc::new(Context {
            writer: Writer::new(client.clone(), Leadership::never(), metrics.clone()),
            caches: caches::prepare(&client, &Reach::default()).0,
            dispatch: Dispatch::default(),
            access: Memory::default(),
            events: Events::new(client, "test"),
            clock: Clock::default(),
            metrics,
            health: Health::default(),
            settings: Line::parse_from(["batchyard"]).settings,
            refresh: standing::Refresh::default(),
        })
    }

    /// A6: a reconcile that panics is one that failed: it is counted, and tried again later.
    #[tokio::test]
    async fn a6_a_panic_is_kept_to_its_object() {
        let (context, backoff) = (context(), Backoff::default());
        let reconcile = |queue: Arc<JobQueue>, _: Arc<Context>| async move {
            assert_ne!(queue.name_any(), "poison", "cannot happen");
            Ok(Wake::OnChange)
        };
        for (name, survives) in [("poison", false), ("other", true)] {
            let mut queue = JobQueue::default();
            queue.metadata.name = Some(name.into());
            queue.metadata.uid = Some(name.into());
            let answer = observed("JobQueue", Arc::new(queue), context.clone(), &backoff, reconcile).await;
            assert_eq!(answer.is_ok(), survives, "{name}: {answer:?}");
            assert!(
                survives || matches!(answer, Err(Failure::Panic(text)) if text.contains("cannot happen"))
            );
        }
        let counted = context.metrics.encode().expect("metrics");
        assert!(counted.lines().any(|line| line.contains("outcome=\"panic\"")), "{counted}");
    }

    fn queue(namespace: &str, name: &str) -> JobQueue {
        let mut queue = JobQueue::default();
        queue.metadata.namespace = Some(namespace.into());
        queue.metadata.name = Some(name.into());
        queue
    }

    /// Runs a controller on these objects, `namespace/name`; those called `gone` are named and not there. Says which
    /// ones it looked at, in order, until there were so many looks; each look asks for this next.
    async fn looked_at(objects: &[&str], looks: usize, wake: Wake) -> Vec<String> {
        let mut context = context();
        Arc::get_mut(&mut context).expect("nobody else has it").settings.concurrency = 1;
        let (reader, mut writer) = reflector::store();
        let (named, triggers) = mpsc::unbounded_channel();
        writer.apply_watcher_event(&watcher::Event::Init);
        for object in objects {
            let (namespace, name) = object.split_once('/').expect("a namespace and a name");
            let queue = queue(namespace, name);
            named.send(ObjectRef::from_obj(&queue)).expect("somebody listens");
            if name != "gone" {
                writer.apply_watcher_event(&watcher::Event::InitApply(queue));
            }
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);

        let (tell, mut told) = mpsc::unbounded_channel();
        let reconcile = move |queue: Arc<JobQueue>, _: Arc<Context>| {
            tell.send(watch::key(queue.as_ref())).expect("somebody listens");
            std::future::ready(Ok(wake))
        };
        let stop = CancellationToken::new();
        let lane = |_: &JobQueue| Lane::new();
        let controller = run("JobQueue", reader, triggers, lane, context, stop.clone(), reconcile);
        let controller = tokio::spawn(controller);
        let mut order = Vec::new();
        while order.len() < looks {
            order.push(told.recv().await.expect("the controller runs"));
        }
        stop.cancel();
        controller.await.expect("it ends in order");
        drop(named);
        order
    }

    #[tokio::test]
    async fn namespaces_have_turns_and_objects_that_are_gone_hold_up_nobody() {
        let order = looked_at(&["a/1", "a/2", "a/gone", "a/3", "b/1"], 4, Wake::OnChange).await;
        assert_eq!(order, ["a/1", "b/1", "a/2", "a/3"]);
    }

    #[tokio::test]
    async fn who_asks_to_be_looked_at_again_is() {
        let order = looked_at(&["a/1", "b/1"], 6, Wake::After(Duration::ZERO)).await;
        for object in ["a/1", "b/1"] {
            let looks = order.iter().filter(|key| *key == object).count();
            assert!(looks >= 2, "{order:?}");
        }
    }
}
