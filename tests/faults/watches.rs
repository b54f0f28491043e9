//! What the operator knows is old, cut short, or late.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::interval;

use crate::arena::Arena;
use crate::chance::Chance;
use crate::proxy::{Fault, Request};

async fn under(name: &str, plan: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
    let arena = Arena::open(name).await;
    arena.proxy.plan(plan);
    arena.supervisor.start();
    arena.leads().await;
    arena.play_as_undisturbed().await;
    arena.close_in_peace().await;
}

/// Watches that a plan may disturb.
fn is_watch(request: &Request) -> bool {
    request.is_watch() && request.resource != "leases"
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_watches_are_cut_every_second() {
    under("c1", |request| match is_watch(request) {
        true => Fault::Cut(Duration::from_secs(1)),
        false => Fault::None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_watch_falls_silent_without_a_word() {
    let silenced: Mutex<HashSet<String>> = Mutex::default();
    under("c2", move |request| {
        let first = is_watch(request)
            && silenced.lock().unwrap_or_else(PoisonError::into_inner).insert(request.resource.clone());
        match first {
            true => Fault::Silence(Duration::from_secs(2)),
            false => Fault::None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_c4_versions_expire_in_watches_and_between_pages() {
    let chance = Chance::new("c3");
    under("c3", move |request| {
        let later_page = request.query.contains("continue=");
        match is_watch(request) {
            true if chance.of(request, 30) => Fault::Refuse(410, None),
            true => Fault::Expire(Duration::from_secs(3)),
            // Not so often that no list of many pages is ever complete.
            false if later_page && chance.of(request, 2) => Fault::Refuse(410, None),
            false if request.is_list() => Fault::SmallPages,
            false => Fault::None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_c7_one_kind_is_seen_three_seconds_late() {
    for kind in ["batchjobs", "pods", "nodes"] {
        under(&format!("c5-{kind}"), move |request| match is_watch(request) && request.resource == kind {
            true => Fault::Late(Duration::from_secs(3)),
            false => Fault::None,
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_after_each_restart_the_world_is_first_seen_as_it_was() {
    let arena = Arena::open("c6").await;
    arena.proxy.plan(|request| match (request.is_list(), is_watch(request)) {
        (true, _) => Fault::Old,
        (_, true) => Fault::Late(Duration::from_secs(2)),
        _ => Fault::None,
    });
    arena.supervisor.start();
    arena.leads().await;
    let supervisor = arena.supervisor.clone();
    let restarts = async {
        let mut beat = interval(Duration::from_secs(6));
        beat.tick().await;
        for _ in 0..4 {
            beat.tick().await;
            supervisor.restart();
        }
    };
    tokio::join!(restarts, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}
