//! Arrays: many children in one object, each with its own attempts, and what they come to.

use std::collections::BTreeMap;

use batchyard::crd::batch_job::ArrayStatus;
use batchyard::crd::batch_job_record::ChildRecord;
use batchyard::crd::{BatchJob, BatchJobRecord};
use batchyard_core::job::phase::Phase;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::world::{JobHandle, World, job};
use crate::support::operator::{self, Operator};
use crate::support::wait;

fn array(size: u32, more: Value) -> Value {
    let mut spec = job(json!({"arrayProperties": {"size": size}}));
    super::world::merge(&mut spec, more);
    spec
}

/// A strategy that tries again on exit code 1.
fn retry() -> Value {
    json!({"retryStrategy": {"attempts": 3, "evaluateOnExit": [
        {"onExitCode": "1", "action": "RETRY"}, {"onExitCode": "*", "action": "EXIT"}]}})
}

/// The children in each phase, as the array's status says.
fn counts(array: &ArrayStatus) -> [i64; 7] {
    let counts = array.status_summary.clone().unwrap_or_default();
    [
        counts.submitted,
        counts.pending,
        counts.runnable,
        counts.starting,
        counts.running,
        counts.succeeded,
        counts.failed,
    ]
    .map(Option::unwrap_or_default)
}

impl JobHandle<'_> {
    /// Waits until the status says this of the children.
    async fn children(&self, what: &str, mut done: impl FnMut(&ArrayStatus) -> bool) -> ArrayStatus {
        let job = wait::until(&self.world.api::<BatchJob>(), &self.name, what, |job| {
            let array = job.status.as_ref().and_then(|status| status.array_properties.as_deref());
            array.is_some_and(&mut done)
        })
        .await;
        *job.status.and_then(|status| status.array_properties).expect("it is an array")
    }

    /// Runs an attempt of a child from beginning to end.
    async fn child(&self, index: u32, attempt: u32, code: i32) {
        let pod = self.child_pod(index, attempt).await;
        pod.bind().await;
        pod.starts().await;
        pod.exits(code).await;
        pod.is_released().await;
    }

    /// What is recorded of each child, the newest word.
    async fn recorded(&self) -> BTreeMap<i32, ChildRecord> {
        let uid = self.get().await.uid().expect("set");
        let list = ListParams::default().labels(&format!("batchyard.io/job-uid={uid}"));
        let mut records = self.world.api::<BatchJobRecord>().list(&list).await.expect("a list").items;
        records.sort_by_key(|record| record.spec.segment);
        let children = records.into_iter().flat_map(|record| record.spec.children);
        children.map(|child| (child.index, child)).collect()
    }
}

/// The value of a variable of a pod.
fn variable(pod: &Pod, name: &str) -> Option<String> {
    let env = pod.spec.as_ref()?.containers.first()?.env.as_ref()?;
    env.iter().find(|variable| variable.name == name)?.value.clone()
}

#[tokio::test]
async fn each_child_runs_with_its_index() {
    let world = World::with_queue("array").await;
    let job = world.submit("job", array(3, json!({}))).await;
    let id = job.reaches(Phase::Pending).await.job_id.expect("an id");
    for index in 0..3 {
        let pod = job.child_pod(index, 1).await;
        let made = pod.get().await;
        let variables = [
            "AWS_BATCH_JOB_ID",
            "AWS_BATCH_JOB_ARRAY_INDEX",
            "AWS_BATCH_JOB_ARRAY_SIZE",
            "AWS_BATCH_JOB_ATTEMPT",
        ]
        .map(|name| variable(&made, name).unwrap_or_default());
        assert_eq!(variables, [format!("{id}:{index}"), index.to_string(), "3".into(), "1".into()]);
    }
    job.child(1, 1, 0).await;
    let halfway = job.children("an end", |array| counts(array)[5] == 1).await;
    assert_eq!(counts(&halfway).iter().sum::<i64>(), 3, "{halfway:?}");
    assert_eq!(halfway.indexes.as_ref().and_then(|indexes| indexes.succeeded.as_deref()), Some("1"));
    assert_eq!(job.record().await.phase(), Phase::Pending, "until the end");
    job.child(0, 1, 0).await;
    job.child(2, 1, 0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert!(record.stopped_at.is_some() && record.attempts.is_empty(), "{record:?}");
    let status = job.children("all ends", |array| counts(array)[5] == 3).await;
    assert_eq!(counts(&status), [0, 0, 0, 0, 0, 3, 0]);
    let recorded = job.recorded().await;
    assert_eq!(recorded.len(), 3);
    assert!(
        recorded.values().all(|child| child.attempts.len() == 1 && child.phase == Some(Phase::Succeeded))
    );
}

#[tokio::test]
async fn each_child_is_tried_again_on_its_own() {
    let world = World::with_queue("array-retry").await;
    let job = world.submit("job", array(3, retry())).await;
    job.child(0, 1, 0).await;
    job.child(1, 1, 1).await;
    job.child(1, 2, 1).await;
    job.child(1, 3, 1).await;
    job.child(2, 1, 7).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Array Child Job failed"));
    let status = job.children("all ends", |array| counts(array)[6] == 2).await;
    assert_eq!(status.indexes.and_then(|indexes| indexes.failed).as_deref(), Some("1-2"));
    let recorded = job.recorded().await;
    let codes = |index: i32| {
        recorded[&index]
            .attempts
            .iter()
            .map(|attempt| attempt.container.exit_code.unwrap_or(-1))
            .collect::<Vec<_>>()
    };
    assert_eq!((codes(0), codes(1), codes(2)), (vec![0], vec![1, 1, 1], vec![7]));
}

#[tokio::test]
async fn some_children_may_fail() {
    let world = World::with_queue("array-tolerates").await;
    let tolerant = json!({"arrayProperties": {"toleratedFailures": "50%"}});
    let job = world.submit("job", array(2, tolerant)).await;
    job.child(0, 1, 1).await;
    job.child(1, 1, 0).await;
    let record = job.reaches(Phase::Succeeded).await;
    assert_eq!(record.status_reason, None);
    let one = world.submit("one", array(2, json!({"arrayProperties": {"toleratedFailures": 1}}))).await;
    one.child(0, 1, 1).await;
    one.child(1, 1, 1).await;
    assert_eq!(one.reaches(Phase::Failed).await.status_reason.as_deref(), Some("Array Child Job failed"));
}

#[tokio::test]
async fn so_many_children_run_at_a_time() {
    let world = World::with_queue("array-limit").await;
    let job = world.submit("job", array(3, json!({"arrayProperties": {"maxRunning": 1}}))).await;
    for index in 0..3 {
        let pod = job.child_pod(index, 1).await;
        // There would be room for all of them.
        assert_eq!(
            world.pods().await.iter().filter(|pod| !batchyard::k8s::observe::is_finished(pod)).count(),
            1
        );
        pod.bind().await;
        pod.starts().await;
        pod.exits(0).await;
    }
    job.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn an_array_and_some_of_its_children_can_be_ended() {
    let world = World::with_queue("array-orders").await;
    // Two run, two find no room, and all others wait behind them.
    let large = json!({"containerProperties": {"vcpus": 2}});
    let job = world.submit("job", array(100, large)).await;
    let (first, second) = (job.child_pod(0, 1).await, job.child_pod(1, 1).await);
    first.bind().await;
    first.starts().await;
    job.children("a child that runs", |array| counts(array)[4] == 1).await;
    job.edit(json!({"childActions": [
        {"indexes": "0,50-59", "action": "CANCEL", "reason": "not wanted"},
        {"indexes": "60", "action": "TERMINATE", "reason": "ended"},
    ]}))
    .await;
    let status = job.children("the ends", |array| counts(array)[6] == 11).await;
    assert_eq!(
        status.indexes.and_then(|indexes| indexes.failed).as_deref(),
        Some("50-60"),
        "one runs and stays"
    );
    second.bind().await;
    second.starts().await;
    job.edit(json!({"terminate": "enough"})).await;
    first.dies_when_deleted(143).await;
    second.dies_when_deleted(143).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!((record.status_reason.as_deref(), record.is_terminated), (Some("enough"), Some(true)));
    let status = job.children("all ends", |array| counts(array)[6] == 100).await;
    assert_eq!(counts(&status)[6], 100);
    let recorded = job.recorded().await;
    assert_eq!(recorded[&0].status_reason.as_deref(), Some("enough"));
    assert_eq!(recorded[&0].attempts[0].container.exit_code, Some(143));
    wait::answer("no pod that works", &world.namespace, || async {
        let works = |pod: &Pod| !batchyard::k8s::observe::is_finished(pod);
        (!world.pods().await.iter().any(works)).then_some(())
    })
    .await;
}

/// What is stopped is not done, however much of it may fail.
#[tokio::test]
async fn no_array_that_was_ended_succeeds_because_failures_are_tolerated() {
    let world = World::with_queue("array-ended").await;
    let tolerant = json!({"arrayProperties": {"toleratedFailures": "50%"}});
    let job = world.submit("job", array(2, tolerant)).await;
    job.child(1, 1, 0).await;
    let pod = job.child_pod(0, 1).await;
    pod.bind().await;
    pod.starts().await;
    job.children("both", |array| counts(array)[4..6] == [1, 1]).await;
    job.edit(json!({"terminate": "wrong data"})).await;
    pod.dies_when_deleted(143).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!((record.status_reason.as_deref(), record.is_terminated), (Some("wrong data"), Some(true)));
}

#[tokio::test]
async fn what_a_cancel_leaves_running_can_be_terminated() {
    let world = World::with_queue("array-stronger").await;
    let large = json!({"containerProperties": {"vcpus": 4}});
    let job = world.submit("job", array(2, large)).await;
    let pod = job.child_pod(0, 1).await;
    pod.bind().await;
    pod.starts().await;
    job.children("a child that runs", |array| counts(array)[4] == 1).await;
    job.edit(json!({"cancel": "not wanted"})).await;
    job.children("the other's end", |array| counts(array)[6] == 1).await;
    job.edit(json!({"terminate": "enough"})).await;
    pod.dies_when_deleted(143).await;
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("enough"));
    assert_eq!((record.is_cancelled, record.is_terminated), (None, Some(true)));
}

/// Its children ended as it did, and that is told of them.
#[tokio::test]
async fn an_array_whose_children_never_had_a_turn_can_be_run_again() {
    let world = World::with_queue("array-no-turn").await;
    let job = world.submit("job", array(2, json!({"dependsOn": [{"job": "first"}]}))).await;
    job.children("that they wait", |array| counts(array)[1] == 2).await;
    let first = world.submit("first", super::world::job(json!({}))).await;
    first.run(1).await;
    job.reaches(Phase::Failed).await;
    let status = job.children("that they ended", |array| counts(array)[6] == 2).await;
    assert_eq!(
        (counts(&status)[1], status.indexes.and_then(|indexes| indexes.failed)),
        (0, Some("0-1".into()))
    );
    let rerun = json!({"arrayProperties": {"size": null, "rerunFailedOf": "job"}});
    let again = world.submit("again", array(2, rerun)).await;
    again.child(0, 1, 0).await;
    again.child(1, 1, 0).await;
    again.reaches(Phase::Succeeded).await;
}

/// The array has others to run.
#[tokio::test]
async fn a_job_waits_for_one_child_and_no_longer() {
    let world = World::with_queue("array-one").await;
    let job = world.submit("job", array(3, json!({}))).await;
    let id = job.reaches(Phase::Pending).await.job_id.expect("an id");
    let after = |index: u32| super::world::job(json!({"dependsOn": [{"jobId": format!("{id}:{index}")}]}));
    let good = world.submit("good", after(0)).await;
    let bad = world.submit("bad", after(1)).await;
    for waits in [&good, &bad] {
        waits.reaches(Phase::Pending).await;
    }
    job.child(0, 1, 0).await;
    job.child(1, 1, 1).await;
    assert_eq!(good.run(0).await.phase(), Phase::Succeeded);
    assert_eq!(bad.reaches(Phase::Failed).await.status_reason.as_deref(), Some("Dependent Job failed"));
    assert_eq!(job.record().await.phase(), Phase::Pending, "one child is left");
    job.child(2, 1, 0).await;
    job.reaches(Phase::Failed).await;
}

#[tokio::test]
async fn only_what_failed_runs_again() {
    let world = World::with_queue("array-rerun").await;
    let job = world.submit("job", array(4, json!({}))).await;
    let rerun = |of: &str| array(2, json!({"arrayProperties": {"size": null, "rerunFailedOf": of}}));
    // Applied together with what it runs again.
    let again = world.submit("again", rerun("job")).await;
    again.waits(Phase::Submitted, "BatchJob job of rerunFailedOf to end").await;
    for (index, code) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
        job.child(index, 1, code).await;
    }
    job.reaches(Phase::Failed).await;
    let pod = again.child_pod(1, 1).await.get().await;
    assert_eq!(variable(&pod, "AWS_BATCH_JOB_ARRAY_SIZE").as_deref(), Some("4"), "as it was");
    again.child(1, 1, 0).await;
    again.child(3, 1, 0).await;
    again.reaches(Phase::Succeeded).await;
    let status = again.children("all ends", |array| counts(array)[5] == 2).await;
    assert_eq!(status.indexes.and_then(|indexes| indexes.succeeded).as_deref(), Some("1,3"));
    let nothing = world.submit("nothing", rerun("again")).await;
    let record = nothing.reaches(Phase::Failed).await;
    let why = record.status_reason.unwrap_or_default();
    assert!(why.contains("no child of BatchJob again failed"), "{why}");
}

#[tokio::test]
async fn a_rerun_has_the_size_of_what_it_runs_again() {
    let world = World::with_queue("array-rerun-size").await;
    let job = world.submit("job", array(3, json!({}))).await;
    for (index, code) in [(0, 0), (1, 1), (2, 0)] {
        job.child(index, 1, code).await;
    }
    job.reaches(Phase::Failed).await;
    let rerun = json!({"arrayProperties": {"rerunFailedOf": "job"}});
    let other = world.submit("other", array(2, rerun.clone())).await;
    assert_eq!(
        other.reaches(Phase::Failed).await.status_reason.as_deref(),
        Some("Invalid job: arrayProperties.size: BatchJob job of rerunFailedOf has 3 children and not 2")
    );
    let same = world.submit("same", array(3, rerun)).await;
    same.child(1, 1, 0).await;
    same.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn orders_that_no_child_has_a_use_for_are_named() {
    let world = World::with_queue("array-late").await;
    let job = world.submit("job", array(3, json!({}))).await;
    job.child(1, 1, 0).await;
    let runs = job.child_pod(0, 1).await;
    runs.bind().await;
    runs.starts().await;
    job.children("one that runs, one that has ended", |array| {
        let counts = counts(array);
        (counts[4], counts[5]) == (1, 1)
    })
    .await;
    job.edit(json!({"childActions": [{"indexes": "0-1,50", "action": "CANCEL", "reason": "not wanted"}]}))
        .await;
    let says = async |type_: &str, message: &str| {
        wait::until(&world.api::<BatchJob>(), "job", message, |job| {
            let conditions = job.status.as_ref().map(|status| status.conditions.as_slice());
            conditions.unwrap_or_default().iter().any(|c| c.type_ == type_ && c.message == message)
        })
        .await
    };
    says("FieldsIgnored", "childActions[0].indexes (the array has no children 50)").await;
    says(
        "EditIgnored",
        "childActions[0]: children 1 succeeded; childActions[0]: children 0 started; use TERMINATE, or they \
         end only if they are to be retried",
    )
    .await;
    runs.exits(0).await;
    job.child(2, 1, 0).await;
    job.reaches(Phase::Succeeded).await;
    says("EditIgnored", "childActions[0]: children 0-1 succeeded").await;
}

/// The operator is killed between the ends of children: what is recorded is known again, and nothing runs twice.
#[tokio::test]
async fn an_array_outlives_the_operator() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("array-restart").await;
    let mut operator = Operator::start(operator::NAME);
    world.furnish().await;
    let job = world.submit("job", array(6, retry())).await;
    job.child(0, 1, 0).await;
    job.child(1, 1, 1).await;
    let second = job.child_pod(1, 2).await;
    operator.kill();
    // While nobody looks one child ends, and another's pod is made known only by its being there.
    second.bind().await;
    second.starts().await;
    second.exits(0).await;
    operator = Operator::start(operator::NAME);
    for index in 2..6 {
        job.child(index, 1, 0).await;
    }
    job.reaches(Phase::Succeeded).await;
    let recorded = job.recorded().await;
    let attempts = |index: i32| recorded[&index].attempts.len();
    assert_eq!((0..6).map(attempts).collect::<Vec<_>>(), [1, 2, 1, 1, 1, 1]);
    let pods = world.pods().await;
    let names: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(names.len(), 7, "one for each attempt: {names:?}");
    operator.stop().await;
}

#[tokio::test]
async fn nothing_outlives_a_deleted_array() {
    let world = World::with_queue("array-deleted").await;
    let job = world.submit("job", array(3, json!({}))).await;
    let pod = job.child_pod(0, 1).await;
    pod.bind().await;
    pod.starts().await;
    job.child(1, 1, 0).await;
    job.children("an end", |array| counts(array)[5] == 1).await;
    world.api::<BatchJob>().delete("job", &DeleteParams::background()).await.expect("deleted");
    pod.dies_when_deleted(143).await;
    wait::gone(&world.api::<BatchJob>(), "job").await;
    wait::answer("neither pods nor records", &world.namespace, || async {
        let records = world.api::<BatchJobRecord>().list(&ListParams::default()).await.ok()?.items;
        (records.is_empty() && world.pods().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn children_wait_for_the_one_before() {
    let world = World::with_queue("array-sequence").await;
    let sequential = json!({"dependsOn": [{"type": "SEQUENTIAL"}]});
    let job = world.submit("job", array(4, sequential.clone())).await;
    let first = job.child_pod(0, 1).await;
    let status = job.children("children that wait", |array| counts(array)[1] == 3).await;
    assert_eq!(status.indexes.and_then(|indexes| indexes.pending).as_deref(), Some("1-3"));
    first.bind().await;
    first.starts().await;
    first.exits(0).await;
    job.child(1, 1, 1).await;
    // What comes after a child that failed never runs.
    let record = job.reaches(Phase::Failed).await;
    assert_eq!(record.status_reason.as_deref(), Some("Array Child Job failed"));
    let status = job.children("all ends", |array| counts(array)[6] == 3).await;
    assert_eq!(counts(&status), [0, 0, 0, 0, 0, 1, 3]);
    assert_eq!(world.pods().await.len(), 2);

    let goes_on = json!({"arrayProperties": {"continueOnFailure": true, "toleratedFailures": 1}});
    let mut spec = array(3, goes_on);
    super::world::merge(&mut spec, sequential);
    let despite = world.submit("despite", spec).await;
    for (index, code) in [(0, 1), (1, 0), (2, 0)] {
        despite.child(index, 1, code).await;
    }
    despite.reaches(Phase::Succeeded).await;
}

#[tokio::test]
async fn children_wait_for_the_child_with_their_index() {
    let world = World::with_queue("array-pairs").await;
    // Applied before the array that it waits for.
    let second =
        world.submit("second", array(3, json!({"dependsOn": [{"job": "first", "type": "N_TO_N"}]}))).await;
    second.waits(Phase::Pending, "first").await;
    let first = world.submit("first", array(3, json!({}))).await;
    first.child(1, 1, 0).await;
    second.child(1, 1, 0).await;
    first.child(0, 1, 1).await;
    let status = second.children("a child that cannot run", |array| counts(array)[6] == 1).await;
    assert_eq!(status.indexes.and_then(|indexes| indexes.failed).as_deref(), Some("0"));
    assert_eq!(first.record().await.phase(), Phase::Pending, "it has not ended yet");
    first.child(2, 1, 0).await;
    second.child(2, 1, 0).await;
    second.reaches(Phase::Failed).await;
    let of_second = world.pods().await.iter().filter(|pod| pod.name_any().starts_with("second-")).count();
    assert_eq!(of_second, 2);

    let other =
        world.submit("other", array(2, json!({"dependsOn": [{"job": "first", "type": "N_TO_N"}]}))).await;
    let why = other.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    assert!(why.contains("has 3 children and not 2"), "{why}");
    // The same in the other order.
    let late =
        world.submit("late", array(2, json!({"dependsOn": [{"job": "early", "type": "N_TO_N"}]}))).await;
    late.waits(Phase::Pending, "early, which does not exist").await;
    world.submit("early", array(3, json!({}))).await;
    let why = late.reaches(Phase::Failed).await.status_reason.unwrap_or_default();
    assert!(why.contains("BatchJob early, which has 3 children and not 2"), "{why}");
}
