//! Output that is followed through the API server, in a namespace that lets pods see nothing of their node.

use anyhow::{Context as _, Result, ensure};
use batchyard_core::logging::sidecar::{CONTAINER, FOLLOWER};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Namespace, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Case;
use crate::cluster::processes_of_pod;
use crate::ends::{exit, succeeded};
use crate::logging::{ARCHIVE, Sink, alpine, load_fluent_bit, member, to_fluentd};
use crate::scenario::{Scenario, merge};
use crate::sink::Kind;

/// The queue whose environment follows output through the API.
const FOLLOWED: &str = "followed";
/// Everybody but the superuser.
const USER: &str = "65532";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("logs-through-the-api-of-attempts-that-end-at-once", |scenario| {
            Box::pin(attempts(scenario))
        })
        .needs_part(ARCHIVE),
        Case::story("logs-through-the-api-of-several-containers", |scenario| Box::pin(containers(scenario)))
            .needs_part(ARCHIVE),
        Case::story("logs-through-the-api-without-leave", |scenario| Box::pin(without_leave(scenario)))
            .needs_part(ARCHIVE),
    ]
}

/// A namespace under the level `restricted`, and a queue for it.
async fn prepare(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let namespaces: Api<Namespace> = Api::all(scenario.cluster.client.clone());
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces.patch(&scenario.namespace, &PatchParams::default(), &patch).await?;
    scenario.queue(FOLLOWED, json!({"logging": {"source": "API"}})).await
}

/// What examples/logging-api gives to who runs the pods.
async fn let_read(scenario: &Scenario<'_>) -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/logging-api/read-logs.yaml");
    let text = std::fs::read_to_string(path).context(path)?;
    for document in text.split("\n---\n") {
        let manifest: Value = serde_saphyr::from_str(document)?;
        match manifest["kind"].as_str() {
            Some("Role") => scenario.apply::<Role>(&manifest).await,
            _ => scenario.apply::<RoleBinding>(&manifest).await,
        }
    }
    Ok(())
}

/// All lines of attempts that end with their last line arrive, each once, and sorted by their times in their order.
async fn attempts(scenario: &Scenario<'_>) -> Result<()> {
    const LINES: usize = 3000;
    prepare(scenario).await?;
    let_read(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let program = format!(
        "test ! -e /var/run/secrets/kubernetes.io || echo a token; seq 1 {LINES} | \
         sed \"s/^/$AWS_BATCH_JOB_ATTEMPT /\"; [ $AWS_BATCH_JOB_ATTEMPT = 2 ]"
    );
    let mut job = to_fluentd(&sink, alpine(&program));
    merge(
        &mut job,
        &json!({"jobQueue": FOLLOWED, "retryStrategy": {"attempts": 2}, "containerProperties": {"user": USER}}),
    );
    scenario.submit("job", job).await;
    let ended = scenario.ends("job", &succeeded([exit(1).retried_by_default(), exit(0)])).await?;
    let mut lines = sink.records(2 * LINES, ["attempt", "time", "log"]).await?;
    lines.sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    let found: Vec<_> = lines.iter().map(|[_, _, log]| log.as_str()).collect();
    let want: Vec<String> =
        (1..=2).flat_map(|attempt| (1..=LINES).map(move |line| format!("{attempt} {line}"))).collect();
    ensure!(found.len() == want.len(), "{} lines of {}", found.len(), want.len());
    let differs = found.iter().zip(&want).position(|(found, want)| found != want);
    ensure!(differs.is_none(), "{differs:?}: {:?}", differs.map(|at| (found[at], &want[at])));
    for attempt in ended.status.context("a status")?.record.attempts {
        ends_in_order(scenario, &attempt.pod_name).await?;
    }
    Ok(())
}

/// The helper reads to the end of the logs, then Fluent Bit sends what it has, and nobody is killed.
async fn ends_in_order(scenario: &Scenario<'_>, pod: &str) -> Result<()> {
    let has_ended = |pod: &Pod| end_of(pod, CONTAINER).is_some() && end_of(pod, FOLLOWER).is_some();
    scenario.pod_until(pod, "to have ended with its sidecars", has_ended).await?;
    let pod: Pod = scenario.api().get(pod).await?;
    let end = |name: &str| end_of(&pod, name).context("it has ended");
    let (main, follower, sidecar) = (end("default")?, end(FOLLOWER)?, end(CONTAINER)?);
    let codes = (follower.exit_code, sidecar.exit_code);
    ensure!(codes == (0, 0), "exit codes {codes:?}: {:?} {:?}", follower.message, sidecar.message);
    let at = |end: &ContainerStateTerminated| end.finished_at.as_ref().map(|time| time.0);
    let times = [at(&main), at(&follower), at(&sidecar)];
    ensure!(times.is_sorted() && !times.contains(&None), "{times:?}");
    Ok(())
}

fn end_of(pod: &Pod, container: &str) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?;
    let own = status.container_statuses.iter().flatten();
    let mut all = own.chain(status.init_container_statuses.iter().flatten());
    all.find(|status| status.name == container)?.state.as_ref()?.terminated.clone()
}

/// Two containers, each with its own lines; and who the helper is, which alone has a token.
async fn containers(scenario: &Scenario<'_>) -> Result<()> {
    prepare(scenario).await?;
    let_read(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let container = |name: &str, program: &str| {
        let mut one = to_fluentd(&sink, json!({}))["containerProperties"].take();
        merge(
            &mut one,
            &json!({"name": name, "image": "alpine:latest", "essential": name == "app", "user": USER,
                "command": ["sh", "-c", program],
                "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "32"}]}),
        );
        one
    };
    let app = "trap 'echo the end of app; exit 0' TERM; ls /var/run/secrets 2>/dev/null; echo of app; sleep 600 & wait";
    let task =
        json!({"containers": [container("app", app), container("side", "echo of side; echo to err >&2")]});
    scenario.submit("job", json!({"jobQueue": FOLLOWED, "ecsProperties": {"taskProperties": [task]}})).await;
    scenario.runs("job", 1).await?;
    sink.has(3).await?;
    let current = scenario.current("job").await?;
    let helpers: Vec<_> = processes_of_pod(&current.pod_uid)
        .into_iter()
        .filter(|process| process.name() == "batchyard")
        .collect();
    ensure!(!helpers.is_empty(), "it runs");
    for helper in helpers {
        ensure!(helper.user() == Some(65_532), "it is {:?}", helper.user());
    }
    let pod: Pod = scenario.api().get(&current.pod_name).await?;
    let spec = pod.spec.context("a spec")?;
    let has_token = |one: &&k8s_openapi::api::core::v1::Container| {
        one.volume_mounts.iter().flatten().any(|mount| mount.mount_path.starts_with("/var/run/secrets"))
    };
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let with_token: Vec<_> = all.filter(has_token).map(|one| one.name.as_str()).collect();
    ensure!(with_token == [FOLLOWER], "{with_token:?}");
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    let items = sink.has(4).await?;
    let mut found: Vec<_> =
        items.iter().map(|item| [member(item, "container"), member(item, "log")]).collect();
    found.sort();
    let want = [["app", "of app"], ["app", "the end of app"], ["side", "of side"], ["side", "to err"]];
    ensure!(found == want, "{found:?}");
    Ok(())
}

/// Who may not read logs has none sent, and is told so; the job runs.
async fn without_leave(scenario: &Scenario<'_>) -> Result<()> {
    prepare(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let mut job = to_fluentd(&sink, alpine("trap 'exit 0' TERM; sleep 600 & wait"));
    merge(&mut job, &json!({"jobQueue": FOLLOWED, "containerProperties": {"user": USER}}));
    scenario.submit("job", job).await;
    let is_told = |job: &batchyard::crd::BatchJob| {
        let routed = crate::logging::condition(job, "LogsRouted");
        routed.is_some_and(|routed| {
            routed.status == "False" && routed.message.contains("cannot get resource \"pods/log\"")
        })
    };
    scenario.until("job", "to say that its log may not be read", is_told).await?;
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}
