//! What is kept from cycle to cycle is what a look at everything would find.

use std::collections::BTreeMap;

use batchyard_core::queue::Candidate;
use batchyard_core::waits;
use jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Index;
use crate::crd::{BatchJob, JobQueue};
use crate::dispatcher::{Creating, Dispatch};
use crate::faults::{caches, pod};
use crate::k8s::caches::{Caches, Feeds};
use crate::k8s::meta;
use crate::k8s::notices::Notices;

const JOBS: usize = 4;

/// Something that happens. Jobs and queues are known by their numbers.
#[derive(Clone, Debug)]
enum Step {
    Job { job: usize, phase: &'static str, queue: usize, ordered: bool },
    OwnWrite { job: usize, phase: &'static str, queue: usize },
    JobGone(usize),
    Pod { job: usize, bound: bool, finished: bool, queue: usize },
    PodGone(usize),
    Queue { queue: usize, fair: bool, enabled: bool },
    QueueGone(usize),
    Policy(bool),
    Assume(usize),
    Settle(usize),
    HoldBack(usize),
    Refuse(usize),
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let phase = prop::sample::select(vec!["SUBMITTED", "RUNNABLE", "RUNNABLE", "RUNNING", "SUCCEEDED"]);
    let (job, queue) = (0..JOBS, 0..2_usize);
    let step = prop_oneof![
        6 => (job.clone(), phase.clone(), queue.clone(), prop::bool::weighted(0.1))
            .prop_map(|(job, phase, queue, ordered)| Step::Job { job, phase, queue, ordered }),
        3 => (job.clone(), phase, queue.clone()).prop_map(|(job, phase, queue)| Step::OwnWrite { job, phase, queue }),
        1 => job.clone().prop_map(Step::JobGone),
        4 => (job.clone(), any::<bool>(), any::<bool>(), queue.clone())
            .prop_map(|(job, bound, finished, queue)| Step::Pod { job, bound, finished, queue }),
        2 => job.clone().prop_map(Step::PodGone),
        3 => (queue.clone(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(queue, fair, enabled)| Step::Queue { queue, fair, enabled }),
        1 => queue.prop_map(Step::QueueGone),
        2 => any::<bool>().prop_map(Step::Policy),
        2 => job.clone().prop_map(Step::Assume),
        2 => job.clone().prop_map(Step::Settle),
        1 => job.clone().prop_map(Step::HoldBack),
        1 => job.clone().prop_map(Step::Refuse),
        1 => job.prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..40)
}

/// The caches, the dispatcher's memory and the index that is kept.
struct World {
    caches: Caches,
    feeds: Feeds,
    dispatch: Dispatch,
    kept: Index,
    version: u64,
}

impl World {
    fn new() -> Self {
        let (caches, feeds, _) = caches();
        Self { caches, feeds, dispatch: Dispatch::default(), kept: Index::default(), version: 0 }
    }

    fn take(&mut self, step: &Step) {
        self.version += 1;
        match *step {
            Step::Job { job, phase, queue, ordered } => {
                let job = self.job(job, phase, queue, ordered);
                self.feeds.jobs.deliver([Event::Apply(job)]);
            }
            Step::OwnWrite { job, phase, queue } => {
                if self.caches.job(&uid(job)).is_some() {
                    self.caches.wrote_job(self.job(job, phase, queue, false));
                }
            }
            Step::JobGone(job) => {
                self.feeds.jobs.deliver([Event::Delete(self.job(job, "SUCCEEDED", 0, false))]);
            }
            Step::Pod { job, bound, finished, queue } => {
                let mut found = pod(&pod_uid(job), &uid(job), self.pod_metadata(queue));
                found.spec.iter_mut().filter(|_| !bound).for_each(|spec| spec.node_name = None);
                if finished {
                    found.metadata.finalizers = None;
                    found.status.iter_mut().for_each(|status| status.phase = Some("Succeeded".into()));
                }
                self.feeds.pods.deliver([Event::Apply(found)]);
            }
            Step::PodGone(job) => {
                let gone = pod(&pod_uid(job), &uid(job), self.pod_metadata(0));
                self.feeds.pods.deliver([Event::Delete(gone)]);
            }
            Step::Queue { queue, fair, enabled } => {
                let queue = self.queue(queue, fair, enabled);
                self.feeds.queues.deliver([Event::Apply(queue)]);
            }
            Step::QueueGone(queue) => {
                let queue = self.queue(queue, false, true);
                self.feeds.queues.deliver([Event::Delete(queue)]);
            }
            Step::Policy(exists) => {
                let policy = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "SchedulingPolicy",
                    "metadata": {"name": "fair", "namespace": "ns"}, "spec": {}});
                let policy = serde_json::from_value(policy).expect("a policy");
                let event = if exists { Event::Apply(policy) } else { Event::Delete(policy) };
                self.feeds.policies.deliver([event]);
            }
            Step::Assume(job) => self.dispatch.assume(&uid(job), creating(job)),
            Step::Settle(job) => self.dispatch.settle(&uid(job), &pod_uid(job)),
            Step::HoldBack(job) => {
                self.dispatch.hold_back(&uid(job), &pod_uid(job), waits::api_refuses("no"))
            }
            Step::Refuse(job) => self.dispatch.refuse(&uid(job), &pod_uid(job), "never".into()),
            Step::Forget(job) => self.dispatch.forget(&uid(job)),
        }
    }

    fn job(&self, job: usize, phase: &str, queue: usize, ordered: bool) -> BatchJob {
        let share = (!job.is_multiple_of(3)).then(|| format!("share-{}", job % 2));
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": uid(job), "namespace": "ns", "uid": uid(job),
                "resourceVersion": self.version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"jobQueue": format!("q{queue}"),
                "containerProperties": {"image": "i", "vcpus": job + 1, "memory": 64}},
            "status": {"phase": phase, "jobQueue": "q0", "jobDefinition": "d"}});
        share.into_iter().for_each(|share| object["spec"]["shareIdentifier"] = json!(share));
        if ordered {
            object["spec"]["cancel"] = json!("enough");
        }
        serde_json::from_value(object).expect("a job")
    }

    fn pod_metadata(&self, queue: usize) -> Value {
        json!({"resourceVersion": self.version.to_string(), "annotations": {meta::VCPUS_MILLI: "2000"},
            "labels": {meta::JOB_QUEUE: format!("q{queue}")}})
    }

    fn queue(&self, queue: usize, fair: bool, enabled: bool) -> JobQueue {
        let state = if enabled { "ENABLED" } else { "DISABLED" };
        let mut object = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue",
            "metadata": {"name": format!("q{queue}"), "namespace": "ns", "uid": format!("q{queue}"),
                "resourceVersion": self.version.to_string()},
            "spec": {"priority": 1, "state": state,
                "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]}});
        if fair {
            object["spec"]["schedulingPolicyArn"] = json!("fair");
        }
        serde_json::from_value(object).expect("a queue")
    }

    /// What an index tells the scheduler of queues and jobs; `None` for the one that is kept.
    fn told(&mut self, other: Option<Index>) -> Value {
        let mut other = other;
        let index = other.as_mut().unwrap_or(&mut self.kept);
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let view = index.view(&self.caches, &self.dispatch, &Notices::default(), now);
        let mut queues = BTreeMap::new();
        for queue in &view.snapshot.queues {
            let shares = queue.shares.as_ref().map(|shares| format!("{:?}", shares.active));
            let jobs: Vec<_> = queue.waiting.iter().map(|(rank, job)| format!("{rank:?} {job:?}")).collect();
            queues.insert(queue.id.clone(), json!([queue.running, shares, jobs]));
        }
        let others = index.others().iter().map(|(uid, wait)| (uid, &wait.text));
        let mut in_line: Vec<_> =
            index.in_line().map(|(uid, queue, _)| format!("{uid} in {queue}")).collect();
        in_line.sort();
        json!({"queues": queues, "others": others.collect::<BTreeMap<_, _>>(), "moved": view.moved, "in line": in_line})
    }
}

impl World {
    /// What job 1 used of late on average, by its queue's ledger, in thousandths of a vCPU.
    fn past_use(&mut self) -> i64 {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let view = self.kept.view(&self.caches, &self.dispatch, &Notices::default(), now);
        let shares = view.snapshot.queues[0].shares.clone().unwrap_or_default();
        shares.active.get("share-1").map_or(0, |usage| usage.past_milli.round() as i64)
    }

    /// Job 1 with more in its status, seen by the watch.
    fn tell(&mut self, phase: &str, more: Value) {
        self.version += 1;
        let mut job = serde_json::to_value(self.job(1, phase, 0, false)).expect("plain data");
        for (key, value) in more.as_object().into_iter().flatten() {
            job["status"][key] = value.clone();
        }
        self.feeds.jobs.deliver([Event::Apply(serde_json::from_value(job).expect("a job"))]);
    }
}

/// What a job uses counts once, however often it is looked at, and also if it is deleted while it runs or its queue
/// has no policy for a while.
#[tokio::test]
async fn what_a_job_used_counts_once() {
    let mut world = World::new();
    world.take(&Step::Policy(true));
    world.take(&Step::Queue { queue: 0, fair: true, enabled: true });
    assert_eq!(world.past_use(), 0);
    // The last five of the ten minutes that count: three quarters of the weight, of two vCPUs.
    let (begin, end) = ("1970-01-01T00:55:00Z", "1970-01-01T01:00:00Z");
    let pod = json!({"attempt": 1, "podName": "p", "podUid": "u", "startedAt": begin});
    for _ in 0..2 {
        world.tell("RUNNING", json!({"current": pod}));
        assert_eq!(world.past_use(), 1500);
    }
    let mut attempt = pod.clone();
    (attempt["stoppedAt"], attempt["statusReason"]) =
        (json!(end), json!("Essential container in task exited"));
    let ended = json!({"attempts": [attempt]});
    for _ in 0..2 {
        world.tell("RUNNABLE", ended.clone());
        assert_eq!(world.past_use(), 1500);
    }
    world.take(&Step::Queue { queue: 0, fair: false, enabled: true });
    assert_eq!(world.past_use(), 0);
    world.take(&Step::Queue { queue: 0, fair: true, enabled: true });
    assert_eq!(world.past_use(), 1500, "it is known again from the job");
    world.take(&Step::JobGone(1));
    assert_eq!(world.past_use(), 1500, "also when the job is gone");

    let mut world = World::new();
    world.take(&Step::Policy(true));
    world.take(&Step::Queue { queue: 0, fair: true, enabled: true });
    world.tell("RUNNING", json!({"current": pod}));
    assert_eq!(world.past_use(), 1500);
    world.take(&Step::JobGone(1));
    assert_eq!(world.past_use(), 1500, "it ended when it was deleted");
    let later = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(2);
    let view = world.kept.view(&world.caches, &world.dispatch, &Notices::default(), later);
    assert!(view.snapshot.queues[0].shares.as_ref().is_some_and(|shares| shares.active.is_empty()));
}

/// A pod lets go of its room at any moment of a cycle: whoever sees the room sees its job in line, which goes first.
#[tokio::test]
async fn room_is_not_seen_before_the_job_that_had_it() {
    let mut world = World::new();
    world.take(&Step::Queue { queue: 0, fair: false, enabled: true });
    let pool = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "ComputeEnvironment",
        "metadata": {"name": "ns.pool", "uid": "e"}, "spec": {"type": "MANAGED",
            "computeResources": {"type": "EC2", "maxvCpus": 2}, "provisioner": {"static": {}}}});
    let pool = serde_json::from_value(pool).expect("an environment");
    world.feeds.environments.deliver([Event::Apply(pool)]);
    let attempt = json!({"attempt": 1, "podName": "p", "podUid": pod_uid(1), "startedAt": "1970-01-01T00:55:00Z",
        "stoppedAt": "1970-01-01T01:00:00Z", "statusReason": "Essential container in task exited"});
    world.tell("RUNNABLE", json!({"attempts": [attempt]}));
    let World { caches, dispatch, feeds: Feeds { pods: mut feed, .. }, mut kept, mut version, .. } = world;
    for round in 0..400 {
        let mut changed = |finished: bool| {
            version += 1;
            let mut pod = pod(
                &pod_uid(1),
                &uid(1),
                json!({"resourceVersion": version.to_string(), "annotations":
                    {meta::VCPUS_MILLI: "2000", meta::COMPUTE_ENVIRONMENT: "ns.pool"}}),
            );
            if finished {
                pod.metadata.finalizers = None;
                pod.status.iter_mut().for_each(|status| status.phase = Some("Failed".into()));
            }
            Event::Apply(pod)
        };
        feed.deliver([changed(false)]);
        let end = changed(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..round % 200 * 10).for_each(|_| std::hint::spin_loop());
                feed.deliver([end]);
            });
            loop {
                let view = kept.view(&caches, &dispatch, &Notices::default(), Timestamp::UNIX_EPOCH);
                let has_room = view.snapshot.environments["ns.pool"].used_vcpus_milli == 0;
                let waits = !view.snapshot.queues[0].waiting.is_empty();
                assert!(waits || !has_room, "somebody else gets the room, in round {round}");
                if has_room {
                    break;
                }
            }
        });
    }
}

fn uid(job: usize) -> String {
    format!("job-{job}")
}

fn pod_uid(job: usize) -> String {
    format!("pod-{job}")
}

fn creating(job: usize) -> Creating {
    Creating {
        pod: pod_uid(job),
        attempt: 1,
        placement: 0,
        environment: "pool".into(),
        queue: "ns/q0".into(),
        candidate: Candidate { vcpus_milli: 500, ..Candidate::default() },
        answered: None,
        waited: None,
    }
}

proptest! {
    #![proptest_config(crate::cases::config(300))]

    #[test]
    fn what_is_kept_is_what_a_look_at_everything_finds(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            let kept = world.told(None);
            let anew = world.told(Some(Index::default()));
            prop_assert_eq!(kept, anew, "after {:?}", step);
        }
    }
}
