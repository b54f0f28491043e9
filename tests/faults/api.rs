//! The API server refuses, forgets to answer, or is away. No attempt is charged for it.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use batchyard::crd::BatchJob;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::interval;

use crate::arena::Arena;
use crate::chance::Chance;
use crate::proxy::{Fault, Request};
use crate::stories;

/// Plays all stories while the proxy does this.
async fn under(name: &str, plan: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
    let arena = Arena::with_operator(name).await;
    arena.proxy.plan(plan);
    arena.play_as_undisturbed().await;
    assert!(arena.proxy.seen().iter().any(|(_, fault)| *fault != Fault::None), "no fault was made");
    arena.close_in_peace().await;
}

/// The lease is renewed in time, or another operator would take over: another case.
fn is_work(request: &Request) -> bool {
    request.resource != "leases" && !request.is_watch()
}

/// Some seconds of a run, counted from the first request.
#[derive(Default)]
struct Window(OnceLock<Instant>);

impl Window {
    fn is_open(&self, seconds: Range<u64>) -> bool {
        seconds.contains(&self.0.get_or_init(Instant::now).elapsed().as_secs())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_half_of_all_requests_are_throttled() {
    let chance = Chance::new("d2");
    under("d2", move |request| match is_work(request) && chance.of(request, 50) {
        true => Fault::Refuse(429, Some(1)),
        false => Fault::None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_requests_fail_and_are_carried_out_all_the_same() {
    let chance = Chance::new("d3");
    under("d3", move |request| match (is_work(request), chance.roll(request)) {
        (true, 0..4) => Fault::Refuse([500, 502, 503, 504][chance.roll(request)], None),
        (true, 4..8) => Fault::AnswerDespite([500, 502, 503, 504][chance.roll(request) - 4]),
        (true, 8..12) if request.is_write() => Fault::LoseAnswer,
        _ => Fault::None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_writes_hang() {
    let chance = Chance::new("d4");
    under("d4", move |request| match request.is_write() && chance.of(request, 4) {
        // Longer than the operator waits.
        true => Fault::Hang(Duration::from_secs(12)),
        false => Fault::None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_somebody_else_writes_to_every_job_all_the_time() {
    let arena = Arena::with_operator("d5").await;
    let jobs: Api<BatchJob> = Api::all(arena.user.clone());
    let (user, prefix) = (arena.user.clone(), arena.prefix.clone());
    let storm = tokio::spawn(async move {
        let mut beat = interval(Duration::from_millis(20));
        for number in 0_u64.. {
            beat.tick().await;
            let list = jobs.list_metadata(&ListParams::default()).await;
            let ours = list
                .into_iter()
                .flatten()
                .filter(|job| job.namespace().unwrap_or_default().starts_with(&prefix));
            for job in ours {
                let api: Api<BatchJob> = Api::namespaced(user.clone(), &job.namespace().unwrap_or_default());
                let patch = Patch::Merge(
                    json!({"metadata": {"annotations": {"somebody/was-here": number.to_string()}}}),
                );
                let _ = api.patch_metadata("job", &PatchParams::default(), &patch).await;
            }
        }
    });
    arena.play_as_undisturbed().await;
    storm.abort();
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_one_namespace_is_forbidden_and_only_its_jobs_wait() {
    let arena = Arena::with_operator("d7").await;
    let forbidden = format!("{}-retry", arena.prefix);
    arena.proxy.plan(move |request| match request.is_write() && request.namespace.starts_with(&forbidden) {
        true => Fault::Refuse(403, None),
        false => Fault::None,
    });
    let others = stories::all().into_iter().filter(|story| story.name != "retry");
    let (proxy, retry) = (arena.proxy.clone(), stories::all().into_iter().filter(|s| s.name == "retry"));
    let allow_when_others_are_done = async {
        arena.play_these_as_undisturbed(others).await;
        proxy.plan_nothing();
    };
    tokio::join!(allow_when_others_are_done, arena.play_these_as_undisturbed(retry));
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_no_pod_is_admitted_for_a_while() {
    let window = Window::default();
    under("d8", move |request| {
        let refused = request.method == "POST" && request.resource == "pods";
        match window.is_open(0..8) && refused {
            true => Fault::Refuse(500, None),
            false => Fault::None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_the_kinds_are_gone_for_a_while() {
    let window = Window::default();
    under("d9", move |request| {
        let ours = request.resource.starts_with("batchjobs") || request.resource.starts_with("jobqueues");
        match window.is_open(2..8) && ours {
            true => Fault::Refuse(404, None),
            false => Fault::None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d10_pods_that_cannot_be_read_are_left_out_until_they_can() {
    let arena = Arena::with_operator("d10").await;
    arena.proxy.plan(|request| match request.resource == "pods" && request.is_watch() {
        true => Fault::Garble,
        false => Fault::None,
    });
    // Pods that wait cannot be read, and one that never does anything else never shows.
    let others = stories::all().into_iter().filter(|story| !["cancel", "image"].contains(&story.name));
    arena.play_these_as_undisturbed(others).await;
    arena.proxy.plan_nothing();
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_the_api_server_is_away_for_a_while() {
    let arena = Arena::with_operator("d1").await;
    let away = Duration::from_secs(if std::env::var_os("BATCHYARD_LONG").is_some() { 50 } else { 15 });
    let proxy = arena.proxy.clone();
    let outage = async {
        arena.moves_on(30).await;
        proxy.unplug(away).await;
    };
    tokio::join!(outage, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_every_write_takes_half_a_second() {
    under("e1", |request| match request.is_write() {
        true => Fault::Delay(Duration::from_millis(500)),
        false => Fault::None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_nothing_can_be_written_for_a_while() {
    let window = Window::default();
    under("e2", move |request| match window.is_open(2..12) && request.is_write() {
        true => Fault::Refuse(500, None),
        false => Fault::None,
    })
    .await;
}
