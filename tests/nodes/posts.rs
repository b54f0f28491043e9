//! The posts' commands as printed, run by the real aws CLI, with jobs in real containers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use batchyard::crd::{BatchJob, ComputeEnvironment};
use batchyard::k8s::access_key::{AccessKey, object_name};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{ApiResource, DeleteParams};
use serde_json::{Value, json};
use xtask::install::{NAMESPACE, ROLES_FOR_POSTS};

use crate::Case;
use crate::cluster::answer;
use crate::door::{self, Door, end, text};
use crate::logging::{ARCHIVE, Sink, condition, load_fluent_bit};
use crate::scenario::{PATIENCE, Scenario};
use crate::support::client::{apply, namespace};

/// Ten attempts of a job take a while.
const ENDS: Duration = Duration::from_secs(200);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::story("posts-by-the-aws-cli", |scenario| Box::pin(told(scenario)))
            .alone()
            .needs(&["aws", "jq", "bash"]),
    ]
}

/// Whoever runs a post, in a namespace of its own: that of the scenario has the post's objects already.
struct Reader {
    door: Door,
    key: AccessKey,
}

async fn told(scenario: &Scenario<'_>) -> Result<()> {
    let cluster = scenario.cluster;
    // The rights alone: the gateway runs here.
    cluster.install(&json!({"gateway": {"enabled": true, "replicas": 0, "plainHttp": true}})).await?;
    let own = namespace(&cluster.client, "posts").await;
    for environment in ["compute-0", "DCV-GPU-CE", "od-ce"] {
        let object = format!("{own}.{}", batchyard_core::name::slug(environment));
        scenario.remember(ApiResource::erase::<ComputeEnvironment>(&()), object);
    }
    let key = reader(scenario, &own).await?;
    let outcome = match Door::open("posts-gateway").await {
        Ok(door) => play(&Reader { door, key: key.clone() }, scenario, &own).await,
        Err(error) => Err(error),
    };
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    secrets.delete(&object_name(&key.id), &DeleteParams::default()).await?;
    Api::<Namespace>::all(cluster.client.clone()).delete(&own, &DeleteParams::default()).await?;
    cluster.install(&json!({})).await?;
    outcome
}

/// A key with the rights that the posts need.
async fn reader(scenario: &Scenario<'_>, namespace: &str) -> Result<AccessKey> {
    let (client, name) = (&scenario.cluster.client, "reader");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    apply(&accounts, &json!({"metadata": {"name": name}})).await;
    for role in ROLES_FOR_POSTS {
        let binding = json!({"metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]});
        apply(&Api::<RoleBinding>::namespaced(client.clone(), namespace), &binding).await;
    }
    door::key(client, namespace, name).await
}

async fn play(reader: &Reader, scenario: &Scenario<'_>, namespace: &str) -> Result<()> {
    // Where nodes cannot have Fluent Bit, its jobs wait a minute for it: the retries run meanwhile.
    let logged = Logged::start(reader, scenario).await?;
    retries(reader, scenario, namespace).await?;
    logged.ends(reader, scenario, namespace).await?;

    let said = reader.post("session.sh", &[]).await?;
    ensure!(said.contains("job-definition/DCV-GPU-JD:1"), "{said}");
    let left = reader.batch("describe-job-queues", &["--job-queues", "DCV-GPU-Queue"]).await?;
    ensure!(left["jobQueues"] == json!([]), "the post deletes what it made: {left:#}");
    Ok(())
}

/// The first post: what retry strategies make of a job that fails, of a lost host and of an image that is not there.
async fn retries(reader: &Reader, scenario: &Scenario<'_>, namespace: &str) -> Result<()> {
    let said = reader.post("retry.sh", &[]).await?;
    // What the post's own jq picks of the environments.
    ensure!(said.contains("\"computeEnvironmentName\": \"compute-0\""), "{said}");
    let [random, spot, no_image] = reader.jobs("queue-0", ["randomEC", "spot", "noContainer"]).await?;

    reader.becomes(&spot, &["RUNNING"]).await?;
    reader.batch("terminate-job", &["--job-id", &spot, "--reason", "seen"]).await?;
    let ended = reader.becomes(&spot, &["FAILED"]).await?;
    ensure!(ended["statusReason"] == "seen" && ended["isTerminated"] == true, "{ended:#}");

    let ended = reader.becomes(&no_image, &["FAILED"]).await?;
    let attempts = ended["attempts"].as_array().context("attempts")?;
    let reason = attempts[0]["container"]["reason"].as_str().unwrap_or_default();
    ensure!(attempts.len() == 1 && reason.starts_with("CannotPullContainerError:"), "{ended:#}");

    let ended = reader.becomes(&random, &["SUCCEEDED", "FAILED"]).await?;
    as_the_post_says(&ended)?;
    // kubectl shows the same jobs.
    let jobs: Api<BatchJob> = Api::namespaced(scenario.cluster.client.clone(), namespace);
    let of_post = |job: &&BatchJob| job.spec.job_queue == "queue-0";
    ensure!(jobs.list(&Default::default()).await?.items.iter().filter(of_post).count() == 3);
    Ok(())
}

/// The post's rules: 1 and 2 are tried again, 3 is not, and 0 is what it waits for.
fn as_the_post_says(job: &Value) -> Result<()> {
    let attempts = job["attempts"].as_array().context("attempts")?;
    let codes: Vec<i64> = attempts.iter().filter_map(|one| one["container"]["exitCode"].as_i64()).collect();
    let (last, before) = codes.split_last().context("exit codes")?;
    ensure!(codes.len() == attempts.len() && before.iter().all(|code| [1, 2].contains(code)), "{job:#}");
    let expected = if *last == 0 { "SUCCEEDED" } else { "FAILED" };
    ensure!(job["status"] == expected && ([0, 3].contains(last) || codes.len() == 10), "{codes:?}: {job:#}");
    Ok(())
}

/// The third post: jobs of `env`, with logs to CloudWatch and to Splunk.
struct Logged {
    /// By their logs' driver.
    awslogs: String,
    splunk: String,
    /// What Splunk is here, if nodes can have Fluent Bit.
    sink: Option<Sink>,
}

impl Logged {
    async fn start(reader: &Reader, scenario: &Scenario<'_>) -> Result<Self> {
        let sink = if std::env::var_os(ARCHIVE).is_some() {
            load_fluent_bit(scenario).await?;
            Some(Sink::splunk(scenario).await?)
        } else {
            eprintln!("SKIPPED: posts-by-the-aws-cli: what arrives at Splunk: {ARCHIVE} names no archive");
            None
        };
        let url = sink.as_ref().map(|sink| ("SPLUNK_URL", sink.url()));
        reader.post("logging.sh", url.as_slice()).await?;
        let [awslogs, splunk] = reader.jobs("jq", ["test-", "splunk"]).await?;
        Ok(Self { awslogs, splunk, sink })
    }

    /// Both succeed, whatever becomes of their logs: there is no CloudWatch here, and Splunk gets what is its own.
    async fn ends(&self, reader: &Reader, scenario: &Scenario<'_>, namespace: &str) -> Result<()> {
        let client = &scenario.cluster.client;
        for (id, definition) in [(&self.awslogs, "alpine-env"), (&self.splunk, "alpine-splunk")] {
            let ended = reader.becomes(id, &["SUCCEEDED", "FAILED"]).await?;
            let container = &ended["container"];
            ensure!(ended["status"] == "SUCCEEDED" && container["exitCode"] == 0, "{ended:#}");
            let stream = container["logStreamName"].as_str().unwrap_or_default();
            ensure!(stream.starts_with(&format!("{definition}/default/")), "{ended:#}");
            let jobs = Api::<BatchJob>::namespaced(client.clone(), namespace);
            answer(&format!("{definition} to tell what becomes of its logs"), PATIENCE, || async {
                let jobs = jobs.list(&Default::default()).await?.items;
                let has_id = |job: &&BatchJob| {
                    job.status.as_ref().is_some_and(|s| s.record.job_id.as_ref() == Some(id))
                };
                let job = jobs.iter().find(has_id).context("kubectl shows it")?;
                Ok(condition(job, "LogsRouted"))
            })
            .await?;
        }
        let Some(sink) = &self.sink else { return Ok(()) };
        let wanted = format!("AWS_BATCH_JOB_ID={}", self.splunk);
        answer("the job's environment at Splunk", PATIENCE, || async {
            let items = sink.receiver.items();
            let found = items.iter().find(|item| text(&item.body).contains(&wanted));
            let found = found.with_context(|| format!("{} events without {wanted}", items.len()))?;
            ensure!(found.head.contains("Authorization: Splunk XXX-YYY-ZZZ\r\n"), "{}", found.head);
            Ok(Some(()))
        })
        .await
    }
}

impl Reader {
    /// Runs a post's script with these variables and returns what it said.
    async fn post(&self, name: &str, variables: &[(&str, String)]) -> Result<String> {
        let mut bash = self.door.with("bash", &self.key);
        bash.envs(variables.iter().map(|(name, value)| (name, value)));
        bash.arg(format!("{}/examples/posts/{name}", env!("CARGO_MANIFEST_DIR")));
        let said = end(bash).await?;
        let (out, err) = (text(&said.stdout), text(&said.stderr));
        ensure!(said.status.success(), "{name}:\n{out}\n{err}");
        Ok(out)
    }

    /// `aws batch`, and its answer.
    async fn batch(&self, operation: &str, args: &[&str]) -> Result<Value> {
        let mut aws = self.door.with("aws", &self.key);
        aws.args(["batch", operation, "--output", "json"]).args(args);
        let said = end(aws).await?;
        ensure!(said.status.success(), "aws batch {operation}: {}", text(&said.stderr));
        let answer = text(&said.stdout);
        // Operations that answer with nothing print nothing.
        if answer.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&answer)?) }
    }

    /// The ids of a queue's jobs whose names begin like this.
    async fn jobs<const N: usize>(&self, queue: &str, names: [&str; N]) -> Result<[String; N]> {
        let listed = self.batch("list-jobs", &["--job-queue", queue, "--job-status", "ALL"]).await?;
        let jobs = listed["jobSummaryList"].as_array().context("jobs")?;
        let mut ids = names.map(str::to_owned);
        for id in &mut ids {
            let begins =
                |job: &&Value| job["jobName"].as_str().is_some_and(|name| name.starts_with(id.as_str()));
            let job = jobs.iter().find(begins).with_context(|| format!("no {id} in {listed:#}"))?;
            *id = job["jobId"].as_str().context("an id")?.to_owned();
        }
        Ok(ids)
    }

    /// Waits until `aws batch describe-jobs` tells one of these statuses.
    async fn becomes(&self, id: &str, wanted: &[&str]) -> Result<Value> {
        answer(&format!("{id} to be {wanted:?}"), ENDS, || async {
            let mut told = self.batch("describe-jobs", &["--jobs", id]).await?;
            let job = told["jobs"][0].take();
            let status = job["status"].as_str().unwrap_or_default().to_owned();
            ensure!(wanted.contains(&status.as_str()), "it is {status}: {}", job["statusReason"]);
            Ok(Some(job))
        })
        .await
    }
}
