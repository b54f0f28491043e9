//! Where the output of real containers goes, by a real Fluent Bit beside them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::BatchJob;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xtask::cluster;

use crate::Case;
use crate::cluster::answer;
use crate::ends::{exit, failed, succeeded};
use crate::scenario::{PATIENCE, QUEUE, Scenario, merge};
use crate::sink::{Item, Kind, Receiver};

/// The variable that names the archive with the image.
pub(crate) const ARCHIVE: &str = "BATCHYARD_FLUENT_BIT_IMAGE";
/// As the chart has it.
const IMAGE: &str = "docker.io/fluent/fluent-bit:5.1.1";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("logs-of-attempts-that-end-at-once", |scenario| Box::pin(attempts(scenario)))
            .needs_part(ARCHIVE),
        Case::story("logs-of-an-array", |scenario| Box::pin(array(scenario))).needs_part(ARCHIVE),
        Case::story("logs-of-several-containers", |scenario| Box::pin(containers(scenario)))
            .needs_part(ARCHIVE),
        Case::story("logs-to-splunk-as-in-the-post", |scenario| Box::pin(splunk(scenario)))
            .needs_part(ARCHIVE),
        Case::story("logs-while-the-sink-is-down", |scenario| Box::pin(down(scenario))).needs_part(ARCHIVE),
        Case::story("logs-that-a-sink-does-not-take-are-told-of", |scenario| Box::pin(told(scenario)))
            .needs_part(ARCHIVE),
        Case::story("logs-of-a-sink-that-never-comes", |scenario| Box::pin(never(scenario)))
            .needs_part(ARCHIVE),
    ]
}

pub(crate) fn alone() -> Vec<Case> {
    vec![
        Case::story("logs-whose-sidecar-has-no-image", |scenario| Box::pin(no_image(scenario))).alone(),
        Case::story("logs-of-400000-lines", |scenario| Box::pin(burst(scenario))).alone().needs_part(ARCHIVE),
    ]
}

/// Gives the image to the nodes.
pub(crate) async fn load_fluent_bit(scenario: &Scenario<'_>) -> Result<()> {
    static LOADED: OnceCell<()> = OnceCell::const_new();
    let archive = std::env::var_os(ARCHIVE).map(PathBuf::from).context(ARCHIVE)?;
    let name = scenario.cluster.cluster.name.clone();
    let load = || async {
        let load = move || cluster::load_image(&name, IMAGE, &archive);
        tokio::task::spawn_blocking(load).await?
    };
    LOADED.get_or_try_init(load).await.copied()
}

/// A job whose output goes to fluentd, or what speaks like it, at the sink.
pub(crate) fn to_fluentd(sink: &Sink, job: Value) -> Value {
    let options = json!({"fluentd-address": sink.address, "fluentd-request-ack": "true"});
    routed(json!({"logDriver": "fluentd", "options": options}), job)
}

fn routed(configuration: Value, mut job: Value) -> Value {
    merge(&mut job, &json!({"containerProperties": {"logConfiguration": configuration}}));
    job
}

/// A job of its own definition.
pub(crate) fn alpine(program: &str) -> Value {
    json!({"containerProperties": {"image": "alpine:latest", "vcpus": 1, "memory": 64,
        "command": ["sh", "-c", program]}})
}

/// A sink that pods reach.
pub(crate) struct Sink {
    pub(crate) receiver: Receiver,
    address: String,
}

impl Sink {
    pub(crate) async fn start(scenario: &Scenario<'_>, kind: Kind) -> Result<Self> {
        let host = scenario.cluster.own_address().await?;
        let receiver = Receiver::at(host, kind);
        let address = SocketAddr::new(host, receiver.port()).to_string();
        Ok(Self { receiver, address })
    }

    /// One that answers as Splunk's HTTP event collector does.
    pub(crate) async fn splunk(scenario: &Scenario<'_>) -> Result<Self> {
        Self::start(scenario, Kind::Http(200, r#"{"text":"Success","code":0}"#)).await
    }

    /// Where it is, for what speaks HTTP.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so much has come.
    pub(crate) async fn has(&self, count: usize) -> Result<Vec<Item>> {
        answer(&format!("{count} records"), PATIENCE, || async {
            ensure!(self.receiver.count() >= count, "{} records", self.receiver.count());
            Ok(Some(self.receiver.items()))
        })
        .await
    }

    /// Waits until so many records have come, and returns these members of each, sorted.
    pub(crate) async fn records<const N: usize>(
        &self,
        count: usize,
        names: [&str; N],
    ) -> Result<Vec<[String; N]>> {
        let items = self.has(count).await?;
        let mut all: Vec<_> = items.iter().map(|item| names.map(|name| member(item, name))).collect();
        all.sort();
        Ok(all)
    }
}

pub(crate) fn member(item: &Item, name: &str) -> String {
    let found = item.record.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).trim_matches('"').to_owned()).unwrap_or_default()
}

pub(crate) fn condition(job: &BatchJob, type_: &str) -> Option<Condition> {
    job.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_).cloned()
}

/// Waits until `LogsRouted` is so, and returns its message.
async fn routed_is(scenario: &Scenario<'_>, job: &str, status: &str) -> Result<String> {
    let is = |job: &BatchJob| condition(job, "LogsRouted").is_some_and(|c| c.status == status);
    let job = scenario.until(job, &format!("LogsRouted to be {status}"), is).await?;
    Ok(condition(&job, "LogsRouted").context("a condition")?.message)
}

/// One line, and the end within milliseconds; the next attempt has a sidecar of its own.
async fn attempts(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let program = "echo try $AWS_BATCH_JOB_ATTEMPT; [ $AWS_BATCH_JOB_ATTEMPT = 2 ]";
    let mut job = to_fluentd(&sink, alpine(program));
    merge(&mut job, &json!({"retryStrategy": {"attempts": 2}}));
    scenario.submit("job", job).await;
    let ended = scenario.ends("job", &succeeded([exit(1).retried_by_default(), exit(0)])).await?;
    let job_id = ended.status.as_ref().and_then(|s| s.record.job_id.clone()).context("an id")?;
    let names = ["log", "attempt", "job_id", "job_name", "queue", "container", "stream"];
    let found = sink.records(2, names).await?;
    let want = ["1", "2"].map(|attempt| {
        [&format!("try {attempt}"), attempt, &job_id, "job", QUEUE, "default", "stdout"].map(str::to_owned)
    });
    ensure!(found == want, "{found:?}");
    ensure!(routed_is(scenario, "job", "True").await? == "fluentd");
    Ok(())
}

/// Each child's records say which child wrote them.
async fn array(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let mut job = to_fluentd(&sink, alpine("echo child $AWS_BATCH_JOB_ARRAY_INDEX"));
    merge(&mut job, &json!({"arrayProperties": {"size": 3}}));
    scenario.submit("job", job).await;
    scenario.until("job", "to end", |job| crate::scenario::is(job, "SUCCEEDED")).await?;
    let found = sink.records(3, ["array_index", "log"]).await?;
    let want = ["0", "1", "2"].map(|index| [index.to_owned(), format!("child {index}")]);
    ensure!(found == want, "{found:?}");
    Ok(())
}

/// Two containers of a task, each to a sink of its own, and a third whose output nobody wants elsewhere.
async fn containers(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let (one, two) =
        (Sink::start(scenario, Kind::Forward).await?, Sink::start(scenario, Kind::Forward).await?);
    let container = |name: &str, program: &str, sink: Option<&Sink>| {
        let mut container = json!({"name": name, "image": "alpine:latest", "essential": name == "app",
            "command": ["sh", "-c", program],
            "resourceRequirements": [{"type": "VCPU", "value": "0.25"}, {"type": "MEMORY", "value": "32"}]});
        if let Some(sink) = sink {
            container["logConfiguration"] =
                json!({"logDriver": "fluentd", "options": {"fluentd-address": sink.address}});
        }
        container
    };
    let task = json!({"containers": [
        container("app", "echo of app; echo to err >&2", Some(&one)),
        container("side", "echo of side", Some(&two)),
        container("quiet", "echo of quiet", None)]});
    scenario.submit("job", json!({"ecsProperties": {"taskProperties": [task]}})).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    let found = one.records(2, ["log", "container", "stream"]).await?;
    let text = |words: [&str; 3]| words.map(str::to_owned);
    ensure!(found == [text(["of app", "app", "stdout"]), text(["to err", "app", "stderr"])], "{found:?}");
    let found = two.records(1, ["log", "container", "stream"]).await?;
    ensure!(found == [text(["of side", "side", "stdout"])], "{found:?}");
    Ok(())
}

/// The post's definition with the driver splunk, whose collector answers as Splunk's does.
async fn splunk(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let sink = Sink::splunk(scenario).await?;
    let options = json!({"splunk-url": sink.url(), "splunk-index": "batch",
        "splunk-token": "B5A79AAD-D822-46CC-80D1-819F80D7BFB0"});
    let configuration = json!({"logDriver": "splunk", "options": options});
    scenario.submit("job", routed(configuration, alpine("env | grep AWS_BATCH_JOB_ATTEMPT"))).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    let items = sink.has(1).await?;
    ensure!(items.len() == 1, "{items:?}");
    let head = &items[0].head;
    ensure!(head.starts_with("POST /services/collector"), "{head}");
    ensure!(head.contains("Authorization: Splunk B5A79AAD-D822-46CC-80D1-819F80D7BFB0\r\n"), "{head}");
    let event: Value = serde_json::from_slice(&items[0].body)?;
    ensure!(event["index"] == "batch" && event["event"]["line"] == "AWS_BATCH_JOB_ATTEMPT=1", "{event}");
    Ok(())
}

/// The job's end is its container's, whatever its sink does, and what waits arrives when the sink is back.
async fn down(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let mut sink = Sink::start(scenario, Kind::Forward).await?;
    let program = "trap 'echo the end; exit 3' TERM; echo the beginning; sleep 600 & wait";
    scenario.submit("job", to_fluentd(&sink, alpine(program))).await;
    scenario.runs("job", 1).await?;
    sink.records(1, ["log"]).await?;
    sink.receiver.down();
    scenario.finish("job").await?;
    scenario.ends("job", &failed([exit(3)])).await?;
    sink.receiver.up();
    let found = sink.records(2, ["log"]).await?;
    ensure!(found == [["the beginning".to_owned()], ["the end".to_owned()]], "{found:?}");
    Ok(())
}

/// A sink that goes away is told of while the job runs, once, and no more when it is back.
async fn told(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let mut sink = Sink::start(scenario, Kind::Forward).await?;
    let program = "trap 'exit 0' TERM; while true; do echo a line; sleep 1; done";
    scenario.submit("job", to_fluentd(&sink, alpine(program))).await;
    scenario.runs("job", 1).await?;
    sink.has(2).await?;
    let pod = scenario.current("job").await?.pod_name;
    let told = |job: &BatchJob| condition(job, "LogSinkUnavailable");
    ensure!(told(&scenario.api().get("job").await?).is_none(), "the sink takes all");
    sink.receiver.down();
    let job = scenario.until("job", "to tell that its sink is away", |job| told(job).is_some()).await?;
    let condition = told(&job).context("a condition")?;
    ensure!(condition.status == "True" && condition.message.contains(&pod), "{condition:?}");
    ensure!(crate::scenario::is(&job, "RUNNING"), "its result has nothing to do with it");
    let before = sink.receiver.count();
    sink.receiver.up();
    scenario.until("job", "to tell no more", |job| told(job).is_none()).await?;
    // What waited came.
    ensure!(sink.receiver.count() > before + 30, "{} after {before}", sink.receiver.count());
    scenario.finish("job").await?;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    Ok(())
}

/// Nobody is there: the job ends as it does, and its pod goes after it.
async fn never(scenario: &Scenario<'_>) -> Result<()> {
    load_fluent_bit(scenario).await?;
    let mut sink = Sink::start(scenario, Kind::Forward).await?;
    sink.receiver.down();
    scenario.submit("job", to_fluentd(&sink, alpine("echo nobody hears; exit 5"))).await;
    scenario.ends("job", &failed([exit(5)])).await?;
    Ok(())
}

/// Its pod is replaced by one without a sidecar, which uses no attempt.
async fn no_image(scenario: &Scenario<'_>) -> Result<()> {
    scenario.cluster.install(&json!({"logging": {"image": "docker.io/no/such:1"}})).await?;
    let outcome = without_image(scenario).await;
    scenario.cluster.install(&json!({})).await?;
    outcome
}

async fn without_image(scenario: &Scenario<'_>) -> Result<()> {
    scenario.queue("logged", json!({"logging": {"startTimeoutSeconds": 5}})).await?;
    let mut sink = Sink::start(scenario, Kind::Forward).await?;
    sink.receiver.down();
    let mut job = to_fluentd(&sink, alpine("exit 0"));
    job["jobQueue"] = json!("logged");
    scenario.submit("job", job).await;
    scenario.ends("job", &succeeded([exit(0)]).after_placements(1)).await?;
    let why = routed_is(scenario, "job", "False").await?;
    ensure!(why.contains("Log sidecar did not start within 5 s: "), "{why}");
    Ok(())
}

/// As many as the kubelet keeps in more than one file, at full speed, from a job that ends with the last of them.
async fn burst(scenario: &Scenario<'_>) -> Result<()> {
    const LINES: usize = 400_000;
    load_fluent_bit(scenario).await?;
    let sink = Sink::start(scenario, Kind::Forward).await?;
    let line = format!("%07d {}\\n", "x".repeat(60));
    let program = format!("awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"{line}\", i }}'");
    scenario.submit("job", to_fluentd(&sink, alpine(&program))).await;
    scenario.ends("job", &succeeded([exit(0)])).await?;
    let items = sink.has(LINES).await?;
    let different: BTreeSet<String> = items.iter().map(|item| member(item, "log")).collect();
    ensure!(
        items.len() == LINES && different.len() == LINES,
        "{} lines, {} different",
        items.len(),
        different.len()
    );
    Ok(())
}
