//! The operator dies, hangs, or is not alone.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::interval;

use crate::arena::Arena;
use crate::proxy::Fault;
use crate::support::client::apply;
use crate::support::operator::{self, Operator};
use crate::support::roles::Servant;

/// The operator's own namespace and its lease.
const SYSTEM: (&str, &str) = ("batchyard-system", "batchyard-operator");

#[tokio::test(flavor = "multi_thread")]
async fn a4_killed_again_and_again_it_still_gets_on() {
    let arena = Arena::with_operator("a4").await;
    let supervisor = arena.supervisor.clone();
    let kills = async {
        let mut beat = interval(Duration::from_millis(200));
        for _ in 0..60 {
            beat.tick().await;
            supervisor.restart();
        }
    };
    tokio::join!(kills, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_asked_to_stop_in_the_middle_it_ends_in_order_and_gives_its_lease_up() {
    let arena = Arena::with_operator("a5").await;
    let supervisor = arena.supervisor.clone();
    let successor = async {
        for _ in 0..3 {
            arena.moves_on(15).await;
            let operator = supervisor.current().take().expect("it runs");
            // It ends with success, or the test fails here.
            operator.stop().await;
            let leases: Api<Lease> = Api::namespaced(arena.user.clone(), SYSTEM.0);
            let lease = leases.get(SYSTEM.1).await.expect("a lease");
            let holder = lease.spec.and_then(|spec| spec.holder_identity);
            assert_eq!(holder.as_deref().unwrap_or_default(), "", "the lease is given up");
            supervisor.start();
        }
    };
    tokio::join!(successor, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_the_operator_is_away_while_pods_come_to_their_end() {
    let arena = Arena::with_operator("a8").await;
    let supervisor = arena.supervisor.clone();
    let absence = async {
        arena.has_pods(8).await;
        supervisor.kill();
        // Programs end by themselves meanwhile, and users delete pods.
        arena.pods_end_unseen(3).await;
        supervisor.start();
    };
    tokio::join!(absence, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_two_operators_lead_at_once_and_do_no_harm() {
    let arena = Arena::with_operator("b1").await;
    // A lease of another namespace keeps nobody from anything.
    let elsewhere = format!("{}-elsewhere", arena.prefix);
    let label = json!({crate::support::client::TEST_LABEL: "true"});
    apply(
        &Api::<Namespace>::all(arena.user.clone()),
        &json!({"metadata": {"name": elsewhere, "labels": label}}),
    )
    .await;
    Servant::Operator.installed_in(&arena.user, &elsewhere).await;
    let second =
        Operator::start_at(&arena.proxy.kubeconfig(), operator::NAME, "60", &["--namespace", &elsewhere]);
    second.leads().await;
    arena.play_as_undisturbed().await;
    second.stop().await;
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_leader_that_was_paused_comes_back_and_does_no_harm() {
    let arena = Arena::open("b2").await;
    let start = |name, lease| Operator::start_at(&arena.proxy.kubeconfig(), name, lease, &[]);
    let pauses = async {
        let mut leader = start("paused-0", "3");
        leader.leads().await;
        for number in 1..4 {
            // The last one is not to lose its lease on a machine that is slow for once: nobody would follow.
            let (name, lease) = [("paused-1", "3"), ("paused-2", "3"), ("paused-3", "60")][number - 1];
            let other = start(name, lease);
            other.stands_by().await;
            arena.moves_on(15).await;
            leader.pause(true);
            other.leads().await;
            arena.moves_on(5).await;
            // Whatever it was about to do, it does now, and then finds that it does not lead.
            leader.pause(false);
            leader.ends().await;
            leader = other;
        }
        leader
    };
    let (leader, ()) = tokio::join!(pauses, arena.play_as_undisturbed());
    leader.stop().await;
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_the_lease_is_deleted_and_its_clock_is_wrong() {
    let arena = Arena::with_operator("b3").await;
    let leases: Api<Lease> = Api::namespaced(arena.user.clone(), SYSTEM.0);
    let supervisor = arena.supervisor.clone();
    let mischief = async {
        for number in 0..6 {
            arena.moves_on(10).await;
            if number % 2 == 0 {
                let _ = leases.delete(SYSTEM.1, &DeleteParams::default()).await;
            } else {
                let skewed = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10 * (number - 2));
                let patch = json!({"spec": {"renewTime": format!("{:.6}", skewed)}});
                let _ = leases.patch(SYSTEM.1, &PatchParams::default(), &Patch::Merge(patch)).await;
            }
            supervisor.revive();
        }
    };
    tokio::join!(mischief, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_the_lease_cannot_be_renewed_and_all_else_works() {
    let arena = Arena::open("b4").await;
    arena.supervisor.set_lease_seconds(5);
    arena.supervisor.start();
    arena.leads().await;
    let supervisor = arena.supervisor.clone();
    let proxy = arena.proxy.clone();
    let outage = async {
        arena.moves_on(10).await;
        proxy.plan(|request| match request.resource == "leases" {
            true => Fault::Refuse(500, None),
            false => Fault::None,
        });
        let leader = supervisor.current().take().expect("it runs");
        // It steps down, since it cannot know whether another leads.
        leader.ends().await;
        proxy.plan_nothing();
        supervisor.start();
    };
    tokio::join!(outage, arena.play_as_undisturbed());
    arena.close_in_peace().await;
}
