//! The tests are tested: an operator with a bug does not get through.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::arena::{Arena, undisturbed};
use crate::proxy::{Fault, Moment, Request};
use crate::stories;
use crate::support::client::{TEST_LABEL, apply};
use crate::support::operator::{self, Operator};
use crate::support::roles::Servant;
use crate::support::wait;

/// How long an operator without a bug has for these few stories, many times over.
const LIMIT: Duration = Duration::from_secs(30);

/// What is made besides the bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The operator is killed whenever it took a finalizer off.
    KilledAfterRelease,
    /// The answer to each namespace's first create of a pod is lost.
    LostCreate,
    /// Each namespace's first statuses of a job are refused by the API server.
    Throttled,
    /// The operator dies when the job runs, and is away until the pod is gone.
    AwayMeanwhile,
    /// Another operator, with the same bug, leads as well.
    TwoLeaders,
}

/// Bugs, the stories in which they must show, and what must happen for it.
const BUGS: &[(&str, &[&str], Trouble)] = &[
    ("no-finalizer", &["pod-deleted"], Trouble::AwayMeanwhile),
    ("releases-first", &["pod-deleted", "drain"], Trouble::KilledAfterRelease),
    ("forgets-records", &["retry"], Trouble::None),
    ("random-names", &["run", "retry"], Trouble::TwoLeaders),
    ("no-read-back", &["run", "retry"], Trouble::LostCreate),
    ("writes-by-force", &["retry", "exhausted", "drain", "rules"], Trouble::TwoLeaders),
    ("never-releases", &["run"], Trouble::None),
    ("admits-too-much", &["crowd"], Trouble::None),
    ("forgets-orders", &["terminate"], Trouble::None),
    ("last-rule-wins", &["rules"], Trouble::None),
    ("one-attempt-more", &["exhausted"], Trouble::None),
    ("keeps-orphans", &["job-deleted"], Trouble::None),
    ("errors-are-final", &["run"], Trouble::Throttled),
    ("loses-exit-codes", &["rules"], Trouble::None),
    ("short-memory", &["retry"], Trouble::None),
];

/// Makes the trouble once for each namespace.
fn plan(trouble: Trouble) -> impl Fn(&Request) -> Fault + Send + Sync {
    let done: Mutex<BTreeMap<String, usize>> = Mutex::default();
    move |request| {
        let (hit, fault) = match trouble {
            Trouble::None | Trouble::TwoLeaders => (false, Fault::None),
            Trouble::KilledAfterRelease => {
                (request.method == "PATCH" && request.resource == "pods", Fault::Kill(Moment::After))
            }
            Trouble::LostCreate => {
                (request.method == "POST" && request.resource == "pods", Fault::LoseAnswer)
            }
            Trouble::Throttled => (request.resource == "batchjobs/status", Fault::Refuse(429, None)),
            // RUNNABLE, STARTING or RUNNING.
            Trouble::AwayMeanwhile => (request.resource == "batchjobs/status", Fault::Kill(Moment::After)),
        };
        if !hit {
            return Fault::None;
        }
        let struck = match trouble {
            Trouble::Throttled => 1..=6,
            Trouble::AwayMeanwhile => 2..=2,
            _ => 1..=1,
        };
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        let times = done.entry(request.namespace.clone()).or_default();
        *times += 1;
        if struck.contains(times) { fault } else { Fault::None }
    }
}

/// How a bug shows, if it does: the first promise that is broken, or what else is wrong.
async fn shows(bug: &'static str, stories: &[&str], trouble: Trouble) -> Option<String> {
    let expected = undisturbed().await;
    let arena = Arena::open(&format!("bug-{bug}")).await;
    arena.supervisor.seed(Some(bug));
    arena.proxy.plan(plan(trouble));
    if trouble == Trouble::AwayMeanwhile {
        let (supervisor, pods) = (arena.supervisor.clone(), Api::<Pod>::all(arena.user.clone()));
        let prefix = arena.prefix.clone();
        arena.proxy.on_kill(move || {
            supervisor.kill();
            let (supervisor, pods, prefix) = (supervisor.clone(), pods.clone(), prefix.clone());
            tokio::spawn(async move {
                wait::answer("the end of the pod", &prefix, || async {
                    let list = pods.list(&ListParams::default()).await.ok()?;
                    let ours = |pod: &Pod| pod.namespace().is_some_and(|name| name.starts_with(&prefix));
                    (!list.items.iter().any(ours)).then_some(())
                })
                .await;
                supervisor.start();
            });
        });
    }
    arena.supervisor.start();
    arena.leads().await;
    let second = match trouble {
        Trouble::TwoLeaders => Some(another(&arena, bug).await),
        _ => None,
    };
    let chosen = stories::all().into_iter().filter(|story| stories.contains(&story.name));
    let played = tokio::time::timeout(LIMIT, arena.play_without_care(chosen)).await;
    let mut signs = Vec::new();
    match played {
        Err(_) => signs.push("it never ends".to_owned()),
        Ok(outcomes) => {
            let other = outcomes.iter().find(|o| o.essence != expected[o.story].essence);
            signs.extend(other.map(|outcome| format!("{} ends otherwise", outcome.story)));
        }
    }
    drop(second);
    // One without a bug cleans up.
    arena.supervisor.seed(None);
    arena.supervisor.restart();
    let report = arena.close().await;
    let broken = report.violations.first().map(|violation| format!("{} is broken", violation["invariant"]));
    signs.extend(broken);
    (!signs.is_empty()).then(|| signs.join(", "))
}

async fn another(arena: &Arena, bug: &str) -> Operator {
    let elsewhere = format!("{}-elsewhere", arena.prefix);
    let namespace = json!({"metadata": {"name": elsewhere, "labels": {TEST_LABEL: "true"}}});
    apply(&Api::<Namespace>::all(arena.user.clone()), &namespace).await;
    Servant::Operator.installed_in(&arena.user, &elsewhere).await;
    let arguments = ["--namespace", &elsewhere, "--seeded-bug", bug];
    let second = Operator::start_at(&arena.proxy.kubeconfig(), operator::NAME, "60", &arguments);
    second.leads().await;
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seeded_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, stories, trouble) in BUGS {
        match shows(bug, stories, *trouble).await {
            Some(sign) => println!("bug {bug}: found, {sign}"),
            None => missed.push(*bug),
        }
    }
    assert!(missed.is_empty(), "operators got through with these bugs: {missed:?}");
}
