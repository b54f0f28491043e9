//! What is kept of jobs that ended, and what a tool that applies them again and again makes of that.

use batchyard::crd::BatchJob;
use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::world::{World, job};
use crate::support::client::{apply, object};
use crate::support::operator::{self, Operator};
use crate::support::wait;

/// How long submitted jobs are kept here, in seconds.
const TTL: &str = "3";

/// A GitOps tool applies what is in Git for ever: here every time that the test looks, until jobs that ended with it
/// have long gone by their TTL.
#[tokio::test]
async fn jobs_from_git_run_once_however_long_they_are_applied() {
    let _exclusive = operator::exclusive().await;
    let world = World::without_operator("gitops").await;
    let more = ["--finished-job-ttl-seconds", TTL];
    let operator = Operator::start_told(operator::NAME, "15", &more);
    world.furnish().await;
    let jobs = world.api::<BatchJob>();
    let manifests = ["single", "array"].map(|name| {
        let array = if name == "array" { json!({"arrayProperties": {"size": 2}}) } else { json!({}) };
        json!({"metadata": {"name": name}, "spec": job(array)})
    });
    let mut first = Vec::new();
    for manifest in &manifests {
        first.push(apply::<BatchJob>(&jobs, manifest).await.uid());
    }
    let array = world.job("array");
    for index in 0..2 {
        let pod = array.child_pod(index, 1).await;
        pod.bind().await;
        pod.starts().await;
        pod.exits(0).await;
    }
    world.job("single").run(0).await;
    world.job("array").reaches(Phase::Succeeded).await;

    // One after the other, so that the second begins when the first has been gone for its whole TTL.
    for round in 0..2 {
        let mut submitted = object("BatchJob", "", job(json!({})));
        submitted["metadata"] = json!({"generateName": "submitted-"});
        let submitted = serde_json::from_value(submitted).expect("a job");
        let name = jobs.create(&PostParams::default(), &submitted).await.expect("a job").name_any();
        world.job(&name).run(0).await;
        wait::answer(
            &format!("the end of what is kept of {name} in round {round}"),
            &world.namespace,
            || async {
                for manifest in &manifests {
                    apply::<BatchJob>(&jobs, manifest).await;
                }
                jobs.get_opt(&name).await.ok()?.is_none().then_some(())
            },
        )
        .await;
    }
    let list = jobs.list(&ListParams::default()).await.expect("a list").items;
    let now: Vec<_> = ["single", "array"].map(|name| list.iter().find(|job| job.name_any() == name)).into();
    let uids: Vec<_> = now.iter().map(|job| job.and_then(|job| job.uid())).collect();
    assert_eq!(uids, first, "they are the same objects");
    assert_eq!(world.job("single").record().await.attempts.len(), 1);
    let pods = world.pods().await;
    let made = |name: &str| pods.iter().filter(|pod| pod.name_any().starts_with(name)).count();
    assert_eq!((made("single-"), made("array-")), (1, 2), "and ran once");
    operator.stop().await;
}
