//! One round: a contender runs so many jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use batchyard::crd::{BatchJob, ComputeEnvironment, JobQueue, SchedulingPolicy};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::SLOTS;
use crate::contender::{Contender, annotations, nodes, queue, tolerations};
use crate::meter::{Meter, Taken};
use crate::support::client::{Actor, apply, connect, namespace};
use crate::support::operator::{NAME, Operator};
use crate::support::{audit, wait};

/// How many creates are under way at a time.
pub(crate) const CREATES: usize = 64;
/// A round that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What is to be run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Shape {
    /// How many jobs.
    pub(crate) jobs: usize,
    /// In how many queues, for who has queues.
    pub(crate) queues: usize,
    /// Into how many shares each queue is divided, if so.
    pub(crate) shares: usize,
    /// How many jobs more wait from the beginning to the end.
    pub(crate) waiting: usize,
}

impl Shape {
    /// How many jobs there are.
    fn all(self) -> usize {
        self.jobs + self.waiting
    }
}

/// What it took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) contender: Contender,
    pub(crate) shape: Shape,
    /// From the first create to the last success that was seen.
    pub(crate) seconds: f64,
    /// Successful writes by resource and verb.
    pub(crate) writes: BTreeMap<String, usize>,
    /// By component.
    pub(crate) taken: BTreeMap<String, Taken>,
    /// The longest and the mean scheduling cycle in milliseconds, where the operator tells.
    pub(crate) cycle_ms: Option<(f64, f64)>,
}

impl Outcome {
    pub(crate) fn jobs_per_second(&self) -> f64 {
        self.shape.jobs as f64 / self.seconds
    }

    pub(crate) fn writes_per_job(&self) -> f64 {
        self.writes.values().sum::<usize>() as f64 / self.shape.jobs as f64
    }

    pub(crate) fn cpu(&self, component: &str) -> f64 {
        self.taken.get(component).map_or(0.0, |taken| taken.cpu_seconds)
    }
}

/// Lets a contender run the jobs in a namespace of their own, and removes it.
pub(crate) async fn play(contender: Contender, shape: Shape) -> Outcome {
    let behind = if shape.waiting > 0 { format!(", {} behind them", shape.waiting) } else { String::new() };
    eprintln!("{}: {} jobs, {} queues{behind} …", contender.name(), shape.jobs, shape.queues);
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "bench").await;
    let operator = match contender {
        Contender::Batchyard | Contender::Array => Some(furnished(&user, &namespace, shape).await),
        Contender::Pods | Contender::Jobs | Contender::Indexed => None,
    };
    let meter = Meter::begin(operator.as_ref().map(|operator| operator.pid().into()));
    let mark = audit::mark();
    let begun = Instant::now();
    let done = tokio::time::timeout(LIMIT, run(&user, &namespace, contender, shape)).await;
    assert!(done.is_ok(), "{} did not run {} jobs in {} s", contender.name(), shape.jobs, LIMIT.as_secs());
    let seconds = begun.elapsed().as_secs_f64();
    let taken = meter.taken();
    let cycle_ms = operator.as_ref().and_then(Operator::metrics).and_then(|text| cycles(&text));
    let writes = match &mark {
        Some(mark) => written(&user, mark, &namespace, shape).await,
        None => BTreeMap::new(),
    };
    // Those that wait are many, and go with the cluster: nothing is measured after them.
    if shape.waiting == 0 {
        remove(&user, &namespace).await;
    }
    if let Some(operator) = operator {
        operator.stop().await;
    }
    eprintln!("{}: {seconds:.1} s", contender.name());
    Outcome { contender, shape, seconds, writes, taken, cycle_ms }
}

/// An operator that leads, with the environment and the queues that the jobs need, and jobs that wait already.
async fn furnished(user: &Client, namespace: &str, shape: Shape) -> Operator {
    let operator = furniture(user, namespace, shape).await;
    if shape.waiting == 0 {
        return operator;
    }
    operator.stop().await;
    backlog(user, namespace, shape).await;
    let operator = Operator::start(NAME);
    operator.leads().await;
    operator
}

/// An operator that leads, with the environment and the queues.
pub(crate) async fn furniture(user: &Client, namespace: &str, shape: Shape) -> Operator {
    let operator = Operator::start(NAME);
    operator.leads().await;
    let room = Room { vcpus: SLOTS, annotations: annotations() };
    furnish(user, namespace, shape, &room).await;
    operator
}

/// An environment.
pub(crate) struct Room {
    /// How many jobs of one vCPU run in it at a time.
    pub(crate) vcpus: usize,
    /// What tells kwok how its pods behave.
    pub(crate) annotations: Value,
}

/// Makes the environment and the queues of a namespace, and waits for them.
pub(crate) async fn furnish(user: &Client, namespace: &str, shape: Shape, room: &Room) {
    let environment = json!({"metadata": {"name": format!("{namespace}.pool")}, "spec": {
        "type": "MANAGED",
        "computeResources": {"type": "EC2", "maxvCpus": room.vcpus},
        "provisioner": {"static": {"nodeSelector": nodes()}},
        "podDefaults": {"tolerations": tolerations(), "annotations": room.annotations},
    }});
    apply(&Api::<ComputeEnvironment>::all(user.clone()), &environment).await;
    let policies = Api::<SchedulingPolicy>::namespaced(user.clone(), namespace);
    apply(&policies, &json!({"metadata": {"name": "fair"}, "spec": {"fairsharePolicy": {}}})).await;
    let api = Api::<JobQueue>::namespaced(user.clone(), namespace);
    for number in 0..shape.queues {
        let mut spec =
            json!({"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]});
        if shape.shares > 0 {
            spec["schedulingPolicyArn"] = json!("fair");
        }
        apply(&api, &json!({"metadata": {"name": queue(number)}, "spec": spec})).await;
    }
    for number in 0..shape.queues {
        wait::until(&api, &queue(number), "a VALID queue", |queue| {
            let status = queue.status.as_ref().and_then(|status| status.status_reason.as_deref());
            status == Some("JobQueue Healthy")
        })
        .await;
    }
}

/// Jobs that the operator accepted in an earlier life.
async fn backlog(user: &Client, namespace: &str, shape: Shape) {
    let api: Api<BatchJob> = Api::namespaced(user.clone(), namespace);
    stream::iter(0..shape.all())
        .for_each_concurrent(CREATES, |number| {
            let api = api.clone();
            async move {
                let (_, object) = Contender::Batchyard.object(number, shape);
                let object = serde_json::to_value(object).and_then(serde_json::from_value).expect("a job");
                let made = api.create(&PostParams::default(), &object).await;
                let made = made.unwrap_or_else(|e| panic!("job {number} cannot be made: {e}"));
                let told =
                    api.patch_status(&made.name_any(), &PatchParams::default(), &accepted(&made)).await;
                told.unwrap_or_else(|e| panic!("{} cannot be accepted: {e}", made.name_any()));
            }
        })
        .await;
}

/// The status of a job that waits, to the last member as the operator writes it, which would complete it else.
fn accepted(job: &BatchJob) -> Patch<Value> {
    let (queue, since) = (&job.spec.job_queue, job.creation_timestamp());
    let reason = format!("Waiting behind the head of JobQueue {queue}");
    Patch::Merge(json!({"status": {
        "phase": "RUNNABLE", "jobId": job.uid(), "jobDefinition": job.name_any(), "jobQueue": queue,
        "shareIdentifier": job.spec.share_identifier, "statusReason": reason,
        "waiting": {"for": "Turn", "since": since}, "createdAt": since, "runnableAt": since, "observedGeneration": 1,
        "conditions": [{"type": "Waiting", "status": "True", "reason": "Turn", "message": reason,
            "lastTransitionTime": since, "observedGeneration": 1}],
    }}))
}

/// Makes the objects and waits until so many have succeeded.
async fn run(user: &Client, namespace: &str, contender: Contender, shape: Shape) {
    let objects = contender.objects(shape.jobs);
    let made = if shape.waiting > 0 { 0 } else { objects };
    let (resource, _) = contender.object(0, shape);
    let api: Api<DynamicObject> = Api::namespaced_with(user.clone(), namespace, &resource);
    let creates = stream::iter(0..made).for_each_concurrent(CREATES, |number| {
        let api = api.clone();
        async move {
            let (_, object) = contender.object(number, shape);
            let made = api.create(&PostParams::default(), &object).await;
            made.unwrap_or_else(|e| panic!("{} cannot be made: {e}", object.name_any()));
        }
    });
    let ends = async {
        let config = watcher::Config::default().fields(&contender.succeeded(shape.jobs));
        let mut events = pin!(watcher(api.clone(), config));
        let mut ended = BTreeSet::new();
        while ended.len() < objects {
            match events.next().await {
                Some(Ok(Event::Apply(object) | Event::InitApply(object))) => {
                    ended.insert(object.name_any());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => eprintln!("the watch is begun anew: {error}"),
                None => panic!("the watch ended"),
            }
        }
    };
    tokio::join!(creates, ends);
}

/// The successful writes once nothing more is written: the last is the one that lets go of a job's pod.
async fn written(
    user: &Client,
    mark: &audit::Mark,
    namespace: &str,
    shape: Shape,
) -> BTreeMap<String, usize> {
    let pods: Api<Pod> = Api::namespaced(user.clone(), namespace);
    if shape.waiting == 0 {
        wait::answer("pods that nobody holds", namespace, || async {
            let pods = pods.list_metadata(&ListParams::default()).await.ok()?;
            pods.iter().all(|pod| pod.finalizers().is_empty()).then_some(())
        })
        .await;
    }
    // The log may lag behind; it is complete when it has a write that came after all others.
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "last"}});
    let last: ConfigMap = serde_json::from_value(last).expect("a ConfigMap");
    let maps: Api<ConfigMap> = Api::namespaced(user.clone(), namespace);
    maps.create(&PostParams::default(), &last).await.expect("it can be made");
    let writes = wait::answer("the end of the audit log", namespace, || {
        let writes = mark.writes(namespace);
        let complete = writes.iter().any(|write| write.resource == "configmaps" && write.name == "last");
        std::future::ready(complete.then_some(writes))
    })
    .await;
    let mut counts = BTreeMap::new();
    // Queues and environments are not jobs, and Events are counted nowhere.
    let of_others = |write: &audit::Write| {
        ["events", "jobqueues", "configmaps", "schedulingpolicies"]
            .iter()
            .any(|other| write.resource.starts_with(other))
    };
    for write in writes.iter().filter(|write| write.is_done() && !of_others(write)) {
        *counts.entry(format!("{} {}", write.verb, write.resource)).or_default() += 1;
    }
    counts
}

pub(crate) async fn remove(user: &Client, namespace: &str) {
    let namespaces = Api::<Namespace>::all(user.clone());
    let uid = namespaces.get(namespace).await.expect("it exists").uid().unwrap_or_default();
    namespaces.delete(namespace, &DeleteParams::default()).await.expect("it can be deleted");
    let environments = Api::<ComputeEnvironment>::all(user.clone());
    // There is none beside Batchyard.
    let _ = environments.delete(&format!("{namespace}.pool"), &DeleteParams::default()).await;
    let gone = await_condition(namespaces, namespace, conditions::is_deleted(&uid));
    let gone = tokio::time::timeout(LIMIT, gone).await;
    assert!(matches!(gone, Ok(Ok(_))), "{namespace} does not go: {gone:?}");
    wait::gone(&environments, &format!("{namespace}.pool")).await;
}

/// The upper bound of the longest scheduling cycle's bucket, and the mean, in milliseconds.
fn cycles(metrics: &str) -> Option<(f64, f64)> {
    let name = "batchyard_scheduling_cycle_duration_seconds";
    let value = |suffix: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}_{suffix} ")))?;
        line.trim().parse::<f64>().ok()
    };
    let (sum, count) = (value("sum")?, value("count")?);
    let buckets = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{name}_bucket{{le=\"")))
        .filter_map(|rest| {
            let (bound, number) = rest.split_once("\"} ")?;
            Some((bound.parse::<f64>().ok()?, number.trim().parse::<f64>().ok()?))
        });
    let longest =
        buckets.filter(|(_, below)| *below >= count).map(|(bound, _)| bound).fold(f64::INFINITY, f64::min);
    Some((longest * 1000.0, sum / count.max(1.0) * 1000.0))
}
