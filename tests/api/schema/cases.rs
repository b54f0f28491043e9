//! The tables of the unit tests, tried on a real API server: the same manifests, the same words.

#[path = "../../../src/crd/tests/definitions.rs"]
mod definitions;
#[path = "../../../src/crd/tests/environments.rs"]
mod environments;
#[path = "../../../src/crd/tests/jobs.rs"]
mod jobs;
#[path = "../../../src/crd/tests/notifications.rs"]
mod notifications;
#[path = "../../../src/crd/tests/queues.rs"]
mod queues;
#[path = "../../../src/crd/tests/table.rs"]
mod table;

use futures::StreamExt as _;
use kube::core::Status;
use table::{Case, create, merged, tags, times, update};

use super::answers::Objects;
use crate::support::client::{Actor, connect, namespace};

fn all() -> Vec<Case> {
    let of_jobs = [definitions::cases(), jobs::cases()].concat();
    [environments::cases(), queues::cases(), of_jobs, notifications::cases()].concat()
}

#[tokio::test]
async fn j3_each_manifest_gets_the_answer_that_the_table_says() {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "schema").await;
    let objects = Objects { client: user, namespace };
    let tried = futures::stream::iter(all().into_iter().enumerate())
        .map(|(number, case)| try_case(&objects, number, case))
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    objects.remove_namespace().await;
    let wrong: Vec<String> = tried.iter().flatten().cloned().collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), tried.len(), wrong.join("\n"));
    println!("{} manifests tried", tried.len());
}

/// What is wrong with the API server's answer, if anything is.
async fn try_case(objects: &Objects, number: usize, case: Case) -> Option<String> {
    let name = format!("case-{number}");
    let answer = match &case.old {
        None => objects.try_create(case.kind, &name, &case.new).await,
        Some(old) => objects.try_update(case.kind, &name, old, &case.new).await,
    };
    let said = answer.err().map(|status| causes(&status)).unwrap_or_default();
    let all_said = case.says.iter().all(|words| said.iter().any(|cause| is_said(cause, words)));
    let all_meant = said.iter().all(|cause| case.says.iter().any(|words| is_said(cause, words)));
    let right = all_said && all_meant && said.is_empty() == case.says.is_empty();
    (!right).then(|| format!("{} {}\n  said {said:?}\n  want {:?}", case.kind, case.new, case.says))
}

/// Each cause as `field: message`.
fn causes(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes: Vec<String> = causes
        // It says that the rules were not looked at because the structure was wrong already.
        .filter(|cause| !cause.message.contains("some validation rules were not checked"))
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    if causes.is_empty() { vec![status.message.clone()] } else { causes }
}

/// A rule's message must be said to the letter. Of a structural error, which has words of the API
/// server's own, the place counts.
fn is_said(cause: &str, words: &str) -> bool {
    match words.split_once(": ") {
        Some((place, _)) if place.starts_with("spec.") => cause.starts_with(&format!("{place}: ")),
        _ => cause.ends_with(&format!(": {words}")),
    }
}
