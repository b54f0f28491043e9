//! Notifications of real jobs to a receiver that goes away, sent by the notifier that the chart installs: with the rights
//! that it gives it, and no others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::{BatchJob, NotificationRule, NotificationRuleStatus};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use xtask::install::NAMESPACE;

use crate::Case;
use crate::cluster::{answer, processes_of_pod};
use crate::ends::{exit, succeeded};
use crate::programs::{polite, shell};
use crate::scenario::{PATIENCE, Scenario};
use crate::support::client::object;
use crate::support::receiver::Receiver;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("notifications-of-a-sink-that-was-down", |scenario| Box::pin(down(scenario)))
            .alone()
            .local_only(),
    ]
}

/// So many tries fail before the notifier is killed, and so many more before the sink is back. The pauses between them
/// double: five take 15 s.
const TRIES: i64 = 5;

/// A job runs and ends while its sink is down. The notifier is killed, and with it goes all that it knew; another job
/// comes and ends. When the sink is back all of both arrives, each event once, and so does what happens then.
async fn down(scenario: &Scenario<'_>) -> Result<()> {
    let address = scenario.cluster.own_address().await?;
    let mut receiver = Receiver::at(address).await;
    install(scenario, address).await?;
    scenario
        .apply::<Secret>(&json!({"metadata": {"name": "hook"}, "stringData": {"token": "Bearer sesame"}}))
        .await;
    let header = json!([{"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}}]);
    let http = json!({"url": receiver.url("/"), "caBundle": receiver.authority(), "headers": header});
    let spec = json!({"phases": ["RUNNING", "SUCCEEDED"], "http": http});
    scenario.apply::<NotificationRule>(&object("NotificationRule", "rule", spec)).await;
    until(scenario, "a look at the rule", |status| status.observed_generation == Some(1)).await?;
    receiver.down().await;

    scenario.submit("first", polite()).await;
    scenario.runs("first", 1).await?;
    scenario.finish("first").await?;
    scenario.ends("first", &succeeded([exit(0)])).await?;
    let failed = |tries: i64| move |status: &NotificationRuleStatus| status.failures >= Some(tries);
    until(scenario, "tries that fail", failed(TRIES)).await?;
    let notifier = notifier(scenario).await?;
    let uid = notifier.uid().context("a uid")?;
    processes_of_pod(&uid).iter().filter(|process| process.name() == "batchyard").for_each(|one| one.kill());
    let tried = status(scenario).await?.failures.unwrap_or_default();
    scenario.submit("second", shell("exit 0")).await;
    scenario.ends("second", &succeeded([exit(0)])).await?;
    until(scenario, "more tries that fail", failed(tried + TRIES)).await?;
    ensure!(receiver.received().is_empty(), "something came to a sink that is down");

    receiver.up().await;
    arrived(scenario, &receiver, &["first", "second"]).await?;
    until(scenario, "nothing to wait", |status| {
        (status.waiting, status.delivered, status.dropped) == (Some(0), Some(4), Some(0))
    })
    .await?;
    scenario.submit("third", shell("exit 0")).await;
    arrived(scenario, &receiver, &["first", "second", "third"]).await?;
    let may_read = receiver.received().iter().all(|one| one.headers["authorization"] == "Bearer sesame");
    ensure!(may_read, "it reads the Secret that was opened to it");
    let now = self::notifier(scenario).await?;
    ensure!((now.uid(), restarts(&now)) == (Some(uid), 1), "it was killed once: {now:?}");
    Ok(())
}

/// Waits until all of these jobs has arrived, and checks that nothing came twice, and nothing else.
async fn arrived(scenario: &Scenario<'_>, receiver: &Receiver, jobs: &[&str]) -> Result<()> {
    let mut want = BTreeSet::new();
    for job in jobs {
        let uid = scenario.api::<BatchJob>().get(job).await?.uid().context("a uid")?;
        want.extend(["RUNNING", "SUCCEEDED"].map(|phase| format!("{uid}/1/{phase}")));
    }
    answer(&format!("all of {jobs:?} to arrive"), PATIENCE, || async {
        let taken: BTreeSet<String> = receiver.taken().into_iter().collect();
        ensure!(taken.is_superset(&want), "there came {taken:?}, not {want:?}");
        Ok(Some(()))
    })
    .await?;
    let mut taken = receiver.taken();
    taken.sort();
    ensure!(taken.iter().eq(&want), "there came {taken:?}, not {want:?} once each");
    Ok(())
}

/// The notifier, which may send to this address and read one Secret.
async fn install(scenario: &Scenario<'_>, address: IpAddr) -> Result<()> {
    let opened = json!([{"name": scenario.namespace, "secrets": ["hook"]}]);
    let range = format!("{address}/32");
    let notifier =
        json!({"enabled": true, "statusSeconds": 1, "allowedCIDRs": [range], "namespaces": opened});
    scenario.cluster.install(&json!({"notifier": notifier})).await
}

/// The only pod of the notifier.
async fn notifier(scenario: &Scenario<'_>) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(scenario.cluster.client.clone(), NAMESPACE);
    let params = ListParams::default().labels("app.kubernetes.io/component=notifier");
    let mut pods = pods.list(&params).await?.items;
    ensure!(pods.len() == 1, "{} notifiers", pods.len());
    pods.pop().context("there is one")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

async fn status(scenario: &Scenario<'_>) -> Result<NotificationRuleStatus> {
    Ok(scenario.api::<NotificationRule>().get("rule").await?.status.unwrap_or_default())
}

/// Waits until the rule's status is like this.
async fn until(
    scenario: &Scenario<'_>,
    what: &str,
    done: impl Fn(&NotificationRuleStatus) -> bool,
) -> Result<()> {
    answer(what, PATIENCE, || async {
        let status = status(scenario).await?;
        ensure!(done(&status), "{}", serde_json::to_string(&status)?);
        Ok(Some(()))
    })
    .await
}
