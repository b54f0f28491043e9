//! Who submitted a job: written down by the API server, and asked again when its pod is made.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use batchyard_core::waits::Kind;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::people::{Person, guard, install, job, person, refused, right, tenancy, tenancy_at_work};
use crate::gateway::door::{Door, caller, everything, known};
use crate::operator::world::World;
use crate::support::operator::{self, Operator};
use crate::support::roles::Servant;
use crate::support::{audit, wait};

const SUBMITTER: &str = "batchyard.io/submitter";
const MOVED_BY: &str = "batchyard.io/moved-by";

/// Makes and changes jobs, and has these rights.
fn with(rights: &[Value]) -> Value {
    let verbs = ["get", "create", "update", "patch", "delete"];
    let mut rules = json!([{"apiGroups": ["batchyard.io"], "resources": ["batchjobs"], "verbs": verbs}]);
    rules.as_array_mut().expect("a list").extend(rights.iter().cloned());
    rules
}

fn submits(queues: &[&str]) -> Value {
    right("submit", "jobqueues", queues)
}

/// What stands on the job `a` under a name.
async fn says(world: &World, name: &str) -> Option<String> {
    world.job("a").get().await.annotations().get(name).cloned()
}

fn signed(name: &str, text: &str) -> Value {
    json!({"metadata": {"annotations": {name: text}}})
}

fn to(queue: &str) -> Value {
    json!({"spec": {"jobQueue": queue}})
}

/// Replaces the job `a`, as `kubectl replace` does with a manifest that has no annotations: the operator may write meanwhile.
async fn replaces(person: &Person, queue: Option<&str>) {
    let jobs = person.api("BatchJob");
    wait::answer("the job to be replaced", &person.user, || async {
        let mut there = jobs.get("a").await.expect("one may read it");
        there.metadata.annotations = None;
        queue.into_iter().for_each(|queue| there.data["spec"]["jobQueue"] = json!(queue));
        match jobs.replace("a", &PostParams::default(), &there).await {
            Err(Error::Api(status)) if status.code == 409 => None,
            answer => Some(answer.expect("it may be replaced")),
        }
    })
    .await;
}

/// Two people who may send jobs to two queues.
async fn two(world: &World) -> (Person, Person) {
    let rights = with(&[submits(&["queue", "night"])]);
    (person(world, "ann", &[], rights.clone()).await, person(world, "bob", &[], rights).await)
}

#[tokio::test]
async fn who_submits_a_job_and_who_moves_it_is_written_down() {
    let world = tenancy("sec-stamp").await;
    let (ann, bob) = two(&world).await;
    let made = ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    assert_eq!(made.annotations().get(SUBMITTER), Some(&ann.written()));
    bob.patches("BatchJob", "a", json!({"metadata": {"labels": {"note": "x"}}})).await.expect("a label");
    assert_eq!((says(&world, SUBMITTER).await, says(&world, MOVED_BY).await), (Some(ann.written()), None));
    for (mover, queue) in [(&bob, "night"), (&ann, "queue")] {
        mover.patches("BatchJob", "a", to(queue)).await.expect("what is granted works");
        let both = (says(&world, SUBMITTER).await, says(&world, MOVED_BY).await);
        assert_eq!(both, (Some(ann.written()), Some(mover.written())));
    }
    // Who replaces a job says nothing of who moved it before, and is who moves it now.
    replaces(&bob, Some("night")).await;
    let both = (says(&world, SUBMITTER).await, says(&world, MOVED_BY).await);
    assert_eq!(both, (Some(ann.written()), Some(bob.written())));
}

#[tokio::test]
async fn no_job_in_the_name_of_somebody_else() {
    let world = tenancy("sec-forged").await;
    let (ann, bob) = two(&world).await;
    let as_if = |name: &str, text: &str| {
        let mut object = signed(name, text);
        object["metadata"]["name"] = json!("a");
        object["spec"] = job(json!({}));
        object
    };
    for (name, text) in [(SUBMITTER, bob.written()), (SUBMITTER, String::new()), (MOVED_BY, ann.written())] {
        let answer = ann.creates("BatchJob", as_if(name, &text)).await;
        refused(answer, "reserved", &["metadata.annotations", "resource \"reservednames\""]);
    }
    ann.creates("BatchJob", as_if(SUBMITTER, &ann.written())).await.expect("one may say who one is");
}

#[tokio::test]
async fn no_change_of_who_submitted_a_job_or_moved_it() {
    let world = tenancy("sec-changed-name").await;
    let (ann, bob) = two(&world).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    let moved = |name: &str, text: &str| {
        let mut patch = signed(name, text);
        patch["spec"] = to("night")["spec"].clone();
        patch
    };
    for patch in [
        signed(SUBMITTER, "x"),
        // Not even by who it would be then.
        signed(SUBMITTER, &bob.written()),
        signed(MOVED_BY, &bob.written()),
        moved(SUBMITTER, &bob.written()),
        moved(MOVED_BY, &ann.written()),
    ] {
        refused(bob.patches("BatchJob", "a", patch).await, "reserved", &["metadata.annotations"]);
    }
    bob.patches("BatchJob", "a", moved(MOVED_BY, &bob.written())).await.expect("one may say who one is");
}

#[tokio::test]
async fn no_taking_away_of_who_submitted_a_job() {
    let world = tenancy("sec-taken-away").await;
    let (ann, bob) = two(&world).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    bob.patches("BatchJob", "a", to("night")).await.expect("what is granted works");
    let stays = async || {
        let both = (says(&world, SUBMITTER).await, says(&world, MOVED_BY).await);
        assert_eq!(both, (Some(ann.written()), Some(bob.written())));
    };
    for without in [json!({SUBMITTER: null}), json!({MOVED_BY: null}), Value::Null] {
        bob.patches("BatchJob", "a", json!({"metadata": {"annotations": without}})).await.expect("a change");
        stays().await;
    }
    replaces(&ann, None).await;
    stays().await;
    // What goes may lose all of it.
    let held = json!({"metadata": {"finalizers": ["example.org/hold"]}});
    ann.patches("BatchJob", "a", held).await.expect("a finalizer");
    ann.deletes("BatchJob", "a").await.expect("it may be deleted");
    let free = json!({"metadata": {"finalizers": null, "annotations": null}});
    ann.patches("BatchJob", "a", free).await.expect("nothing is in the way of a deletion");
    wait::gone(&world.api::<BatchJob>(), "a").await;
}

#[tokio::test]
async fn a_manifest_that_is_applied_again_changes_nothing() {
    let world = tenancy("sec-again").await;
    let (ann, bob) = two(&world).await;
    let manifest = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "a"},
        "spec": job(json!({}))});
    let apply = async |by: &Person| {
        let api = by.api("BatchJob");
        let params = PatchParams::apply("gitops");
        api.patch("a", &params, &Patch::Apply(&manifest)).await.expect("it may be applied").metadata
    };
    // An operator may write the status meanwhile; what is the manifest's notes when that changed it.
    let own = |metadata: ObjectMeta| {
        let fields = metadata.managed_fields.unwrap_or_default().into_iter();
        let fields: Vec<_> = fields.filter(|entry| entry.manager.as_deref() == Some("gitops")).collect();
        assert_eq!(fields.len(), 1, "one entry of what was applied");
        (metadata.generation, metadata.annotations, fields)
    };
    let first = own(apply(&ann).await);
    assert_eq!(first.1.as_ref().and_then(|all| all.get(SUBMITTER).cloned()), Some(ann.written()));
    // Times are noted in whole seconds.
    world.next_second(&world.job("a")).await;
    for by in [&ann, &bob] {
        assert_eq!(own(apply(by).await), first);
    }
    // By the client: what the manifest had is noted in an annotation, and nothing is taken out that it never had.
    let noted =
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}});
    bob.patches("BatchJob", "a", noted).await.expect("what kubectl apply sends");
    assert_eq!(says(&world, SUBMITTER).await, Some(ann.written()));
}

#[tokio::test]
async fn the_gateway_names_its_caller() {
    let world = tenancy("sec-door-stamp").await;
    let door = Door::open(&[]).await;
    let key = caller(&world.user, &world.namespace, "ann", everything()).await;
    known(&door, &key).await;
    let calls = |operation: &str, body: Value| {
        let answer = door.call(&key, "POST", &format!("/v1/{operation}"), &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    calls("createjobqueue", json!({"jobQueueName": "queue", "priority": 1}));
    let mut definition = super::people::definition(json!({}));
    definition["jobDefinitionName"] = json!("report");
    calls("registerjobdefinition", definition);
    calls("submitjob", json!({"jobName": "a", "jobQueue": "queue", "jobDefinition": "report"}));
    let jobs = world.api::<BatchJob>().list(&ListParams::default()).await.expect("a list").items;
    // With the token of the account itself it is the same.
    let ann = person(&world, "ann", &[], with(&[submits(&[])])).await;
    let names: Vec<_> = jobs.iter().map(|job| job.annotations().get(SUBMITTER).cloned()).collect();
    assert_eq!(names, [Some(ann.written())]);
    let own = ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    assert_eq!(own.annotations().get(SUBMITTER), Some(&ann.written()));
}

/// A queue whose environment takes nothing yet.
async fn closed(name: &str) -> World {
    let world = tenancy_at_work(name).await;
    world.changed_environment("pool", json!({"state": "DISABLED"})).await;
    world.definition("report", json!({})).await;
    world
}

async fn open(world: &World) {
    world.environment("pool", json!({"state": "ENABLED"})).await;
}

/// The job waits for a right, which the text names, and has used nothing.
async fn waits_for_a_right(world: &World, name: &str, says: &[String]) {
    let record = world.job(name).waits(Phase::Runnable, "Waiting for a right: ").await;
    let text = record.status_reason.unwrap_or_default();
    for part in says {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert_eq!(record.waiting.map(|waiting| waiting.kind), Some(Kind::Right));
    assert!(record.attempts.is_empty() && record.placements.is_empty() && record.current.is_none());
    assert!(world.pods().await.is_empty(), "no pod is made");
}

#[tokio::test]
async fn no_pod_once_the_submitter_lost_the_right_to_submit() {
    let world = closed("sec-lost-submit").await;
    let use_it = right("use", "jobdefinitions", &["report"]);
    let all = with(&[submits(&["queue"]), use_it.clone()]);
    let ann = person(&world, "ann", &[], all.clone()).await;
    let spec = json!({"jobQueue": "queue", "jobDefinition": "report:1"});
    ann.makes("BatchJob", "a", spec).await.expect("what is granted works");
    ann.regrant(&world, with(&[use_it]), ("submit", "jobqueues", "queue", false)).await;
    open(&world).await;
    let says = [
        format!("user \"{}\" needs a role in namespace \"{}\"", ann.user, world.namespace),
        "verb \"submit\", apiGroup \"batchyard.io\", resource \"jobqueues\", resourceName \"queue\"".into(),
    ];
    waits_for_a_right(&world, "a", &says).await;
    ann.regrant(&world, all, ("submit", "jobqueues", "queue", true)).await;
    assert_eq!(world.job("a").run(0).await.phase(), Phase::Succeeded, "it goes on by itself");
}

#[tokio::test]
async fn no_pod_once_the_submitter_lost_the_right_to_use_the_definition() {
    let world = closed("sec-lost-use").await;
    let all = with(&[submits(&["queue"]), right("use", "jobdefinitions", &["report"])]);
    let ann = person(&world, "ann", &[], all.clone()).await;
    let spec = json!({"jobQueue": "queue", "jobDefinition": "report", "arrayProperties": {"size": 3}});
    ann.makes("BatchJob", "a", spec).await.expect("what is granted works");
    ann.regrant(&world, with(&[submits(&["queue"])]), ("use", "jobdefinitions", "report", false)).await;
    open(&world).await;
    let text =
        "verb \"use\", apiGroup \"batchyard.io\", resource \"jobdefinitions\", resourceName \"report\"";
    let array = world.job("a");
    let record = array.until("a wait", |record| record.waiting.is_some_and(|w| w.kind == Kind::Right)).await;
    assert!(record.status_reason.as_ref().is_some_and(|why| why.contains(text)), "{record:?}");
    assert!(world.pods().await.is_empty(), "no pod is made");
    ann.regrant(&world, all, ("use", "jobdefinitions", "report", true)).await;
    for index in 0..3 {
        array.child_pod(index, 1).await;
    }
}

#[tokio::test]
async fn of_a_moved_job_the_mover_is_asked() {
    let world = closed("sec-mover").await;
    world.queue("night", json!({})).await;
    let ann = person(&world, "ann", &[], with(&[submits(&["queue"])])).await;
    let all = with(&[submits(&["night"])]);
    let bob = person(&world, "bob", &[], all.clone()).await;
    ann.makes("BatchJob", "a", job(json!({}))).await.expect("what is granted works");
    bob.patches("BatchJob", "a", to("night")).await.expect("what is granted works");
    bob.regrant(&world, with(&[]), ("submit", "jobqueues", "night", false)).await;
    open(&world).await;
    let says = [format!("user \"{}\"", bob.user), "resourceName \"night\"".into()];
    waits_for_a_right(&world, "a", &says).await;
    // She could never send it there herself.
    bob.regrant(&world, all, ("submit", "jobqueues", "night", true)).await;
    world.job("a").pod(1).await;
}

#[tokio::test]
async fn an_array_of_two_hundred_asks_a_few_times() {
    let _alone = operator::exclusive().await;
    let operator = Operator::start(operator::NAME);
    operator.leads().await;
    let world = World::without_operator("sec-array").await;
    install(&world.user).await;
    guard(&world).await;
    for name in ["a", "b"] {
        world.node(name, "pool", 256).await;
    }
    world.environment("pool", json!({"computeResources": {"maxvCpus": 256}})).await;
    world.queue("queue", json!({})).await;
    world.definition("report", json!({})).await;
    let rights = with(&[submits(&["queue"]), right("use", "jobdefinitions", &["report"])]);
    let ann = person(&world, "ann", &[], rights).await;
    let mark = audit::mark().expect("an audit log");
    let spec = json!({"jobQueue": "queue", "jobDefinition": "report", "arrayProperties": {"size": 200}});
    ann.makes("BatchJob", "a", spec).await.expect("what is granted works");
    let pods = world.api::<Pod>();
    let made = wait::answer("200 pods", &world.namespace, || async {
        let made = pods.list_metadata(&ListParams::default()).await.ok()?.items.len();
        (made >= 200).then_some(made)
    })
    .await;
    assert_eq!(made, 200);
    let lines = mark.text();
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_question = |event: &Value| {
        event["objectRef"]["resource"] == "subjectaccessreviews"
            && event["impersonatedUser"]["username"] == Servant::Operator.user()
    };
    let asked = events.filter(is_question).count();
    assert!((2..=8).contains(&asked), "{asked} questions for two rights, each good for ten seconds");
    operator.stop().await;
}
