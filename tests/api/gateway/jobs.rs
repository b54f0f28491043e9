//! What DescribeJobs and ListJobs tell of jobs that run and end: attempts, children, nodes, and jobs of kubectl.

use batchyard::crd::BatchJob;
use batchyard::k8s::access_key::AccessKey;
use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::door::{Door, caller, everything, known};
use crate::operator::world::{JobHandle, World, container, job};
use crate::support::wait;

/// A world with a queue, a door and a caller who may do all.
struct Outside {
    world: World,
    door: Door,
    key: AccessKey,
}

impl Outside {
    async fn of(name: &str) -> Self {
        let world = World::with_queue(name).await;
        let door = Door::open(&[]).await;
        let key = caller(&world.user, &world.namespace, "caller", everything()).await;
        known(&door, &key).await;
        Self { world, door, key }
    }

    fn ask(&self, operation: &str, body: &Value) -> Value {
        let answer = self.door.call(&self.key, "POST", &format!("/v1/{operation}"), &body.to_string());
        assert_eq!(answer.status, 200, "{operation} {body}: {answer:?}");
        answer.body
    }

    /// The only job of this id or part.
    fn described(&self, id: &str) -> Value {
        let mut found = self.ask("describejobs", &json!({"jobs": [id]}));
        assert_eq!(found["jobs"].as_array().map(Vec::len), Some(1), "{id}: {found}");
        found["jobs"][0].take()
    }

    async fn becomes(&self, id: &str, status: &str) -> Value {
        wait::answer(&format!("{id} to be {status}"), &self.world.namespace, || {
            let found = self.described(id);
            std::future::ready((found["status"] == status).then_some(found))
        })
        .await
    }

    /// The object of a job that was submitted through the door.
    async fn object(&self, id: &str) -> JobHandle<'_> {
        let fields = ListParams::default().fields(&format!("spec.jobId={id}"));
        let found = self.world.api::<BatchJob>().list(&fields).await.expect("a list").items;
        assert_eq!(found.len(), 1, "{id}");
        self.world.job(&found[0].name_any())
    }
}

#[tokio::test]
async fn attempts_are_told_as_aws_tells_them() {
    let outside = Outside::of("door-jobs").await;
    let define = json!({"jobDefinitionName": "Twice", "type": "container", "containerProperties": container(),
        "retryStrategy": {"attempts": 2}});
    outside.ask("registerjobdefinition", &define);
    let made = outside
        .ask("submitjob", &json!({"jobName": "Runs_Twice", "jobQueue": "queue", "jobDefinition": "Twice"}));
    let id = made["jobId"].as_str().expect("an id").to_owned();
    let object = outside.object(&id).await;
    object.attempt(1, 1).await;
    let pod = object.pod(2).await;
    pod.bind().await;
    pod.starts().await;
    let running = outside.becomes(&id, "RUNNING").await;
    assert_eq!(running["attempts"].as_array().map(Vec::len), Some(1), "{running}");
    assert!(running["startedAt"].is_i64() && running["stoppedAt"].is_null(), "{running}");
    assert!(
        running["container"]["logStreamName"].as_str().expect("a stream").starts_with("Twice/default/"),
        "{running}"
    );
    assert!(running["container"]["exitCode"].is_null(), "the second attempt has not ended: {running}");
    let listed = outside.ask("listjobs", &json!({"jobQueue": "queue"}));
    assert_eq!(listed["jobSummaryList"][0]["jobId"], json!(id), "{listed}");
    pod.exits(0).await;
    let done = outside.becomes(&id, "SUCCEEDED").await;
    let first = &done["attempts"][0];
    assert_eq!(first["container"]["exitCode"], 1, "{done}");
    assert_eq!(first["statusReason"], "Essential container in task exited", "{done}");
    assert!(first["startedAt"].is_i64() && first["stoppedAt"].is_i64(), "{done}");
    assert!(first["container"]["taskArn"].as_str().expect("an ARN").contains(":task/"), "{done}");
    assert!(
        first["container"]["containerInstanceArn"].as_str().expect("an ARN").contains(":container-instance/"),
        "{done}"
    );
    assert_eq!(
        (&done["container"]["exitCode"], done["attempts"].as_array().map(Vec::len)),
        (&json!(0), Some(2))
    );
    assert!(
        done["stoppedAt"].is_i64() && done["jobDefinition"].as_str().expect("an ARN").ends_with("Twice:1"),
        "{done}"
    );
    let listed = outside.ask("listjobs", &json!({"jobQueue": "queue", "jobStatus": "SUCCEEDED"}));
    assert_eq!(listed["jobSummaryList"][0]["container"]["exitCode"], 0, "{listed}");
}

#[tokio::test]
async fn children_nodes_and_jobs_of_kubectl_are_told() {
    let outside = Outside::of("door-parts").await;
    let world = &outside.world;
    // Made by kubectl: known by its uid.
    let plain = world.submit("by-kubectl", job(json!({}))).await;
    plain.reaches(Phase::Runnable).await;
    let uid = plain.get().await.metadata.uid.expect("a uid");
    let told = outside.becomes(&uid, "RUNNABLE").await;
    assert_eq!((&told["jobName"], &told["container"]["image"]), (&json!("by-kubectl"), &json!("busybox")));

    let array = world.submit("sweep", job(json!({"arrayProperties": {"size": 2}}))).await;
    let child = array.child_pod(1, 1).await;
    child.bind().await;
    child.starts().await;
    let id = array.until("an id", |record| record.job_id.is_some()).await.job_id.expect("an id");
    let running = outside.becomes(&format!("{id}:1"), "RUNNING").await;
    assert_eq!(running["arrayProperties"], json!({"index": 1}), "{running}");
    child.exits(3).await;
    let failed = outside.becomes(&format!("{id}:1"), "FAILED").await;
    assert_eq!((&failed["container"]["exitCode"], &failed["jobId"]), (&json!(3), &json!(format!("{id}:1"))));
    let listed = outside.ask("listjobs", &json!({"arrayJobId": id, "jobStatus": "FAILED"}));
    assert_eq!(listed["jobSummaryList"][0]["arrayProperties"], json!({"index": 1}), "{listed}");
    wait::answer("the array's counts", &world.namespace, || {
        let told = outside.described(&id);
        let failed = told["arrayProperties"]["statusSummary"]["FAILED"] == 1;
        std::future::ready(failed.then_some(()))
    })
    .await;

    let range = json!({"targetNodes": "0:", "container": container()});
    let nodes = json!({"numNodes": 2, "mainNode": 0, "nodeRangeProperties": [range]});
    let ring = world.submit("ring", job(json!({"containerProperties": null, "nodeProperties": nodes}))).await;
    ring.reaches(Phase::Runnable).await;
    let id = ring.until("an id", |record| record.job_id.is_some()).await.job_id.expect("an id");
    let whole = outside.becomes(&id, "RUNNABLE").await;
    assert_eq!(whole["nodeProperties"]["numNodes"], 2, "{whole}");
    let node = outside.described(&format!("{id}#1"));
    assert_eq!(node["nodeDetails"], json!({"nodeIndex": 1, "isMainNode": false}), "{node}");
    assert_eq!(node["container"]["image"], "busybox", "{node}");
    let listed = outside.ask("listjobs", &json!({"multiNodeJobId": id, "jobStatus": "ALL"}));
    assert_eq!(listed["jobSummaryList"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[tokio::test]
async fn a_child_is_ended_like_a_job() {
    let outside = Outside::of("door-children").await;
    let world = &outside.world;
    let twice = json!({"arrayProperties": {"size": 3}, "retryStrategy": {"attempts": 2}});
    let array = world.submit("sweep", job(twice)).await;
    let id = array.until("an id", |record| record.job_id.is_some()).await.job_id.expect("an id");
    let end = |operation: &str, job: &str| {
        assert_eq!(outside.ask(operation, &json!({"jobId": job, "reason": "not wanted"})), json!({}));
    };
    // What runs is not cancelled, and neither is its next attempt.
    let first = array.child_pod(1, 1).await;
    first.bind().await;
    first.starts().await;
    outside.becomes(&format!("{id}:1"), "RUNNING").await;
    outside.ask("canceljob", &json!({"jobId": format!("{id}:1"), "reason": "it runs already"}));
    assert!(array.get().await.spec.child_actions.is_empty());
    first.exits(1).await;
    let second = array.child_pod(1, 2).await;
    // Before it has a node again it waits as it did at first.
    end("canceljob", &format!("{id}:1"));
    let cancelled = outside.becomes(&format!("{id}:1"), "FAILED").await;
    assert_eq!(cancelled["statusReason"], "not wanted", "{cancelled}");
    second.is_released().await;
    for index in [0, 2] {
        end("terminatejob", &format!("{id}:{index}"));
    }
    array.reaches(Phase::Failed).await;
    let said = array.get().await.spec.child_actions;
    outside.ask("terminatejob", &json!({"jobId": format!("{id}:2"), "reason": "once more"}));
    assert_eq!(array.get().await.spec.child_actions, said, "it has ended");

    // A rerun need not state how many children there are.
    let again = world.submit("again", job(json!({"arrayProperties": {"rerunFailedOf": "sweep"}}))).await;
    again.child_pod(2, 1).await;
    let id = again.until("an id", |record| record.job_id.is_some()).await.job_id.expect("an id");
    end("terminatejob", &format!("{id}:3"));
    assert!(again.get().await.spec.child_actions.is_empty(), "there is no such child");
    end("terminatejob", &format!("{id}:2"));
    let ended = outside.becomes(&format!("{id}:2"), "FAILED").await;
    assert_eq!(ended["statusReason"], "not wanted", "{ended}");
}
