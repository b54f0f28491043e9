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
use crate::scenario::Scenario;
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
    for environment in ["compute-0", "DCV-GPU-CE"] {
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
    let said = reader.post("retry.sh").await?;
    // What the post's own jq picks of the environments.
    ensure!(said.contains("\"computeEnvironmentName\": \"compute-0\""), "{said}");
    let listed = reader.batch("list-jobs", &["--job-queue", "queue-0", "--job-status", "ALL"]).await?;
    let jobs = listed["jobSummaryList"].as_array().context("jobs")?;
    let id = |begins: &str| {
        let mut names =
            jobs.iter().filter(|job| job["jobName"].as_str().is_some_and(|n| n.starts_with(begins)));
        names.next().and_then(|job| job["jobId"].as_str()).map(str::to_owned)
    };
    let (random, spot) = (id("randomEC").context("randomEC")?, id("spot").context("spot")?);
    let no_image = id("noContainer").context("noContainer")?;

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
    ensure!(jobs.list(&Default::default()).await?.items.len() == 3);

    let said = reader.post("session.sh").await?;
    ensure!(said.contains("job-definition/DCV-GPU-JD:1"), "{said}");
    let left = reader.batch("describe-job-queues", &["--job-queues", "DCV-GPU-Queue"]).await?;
    ensure!(left["jobQueues"] == json!([]), "the post deletes what it made: {left:#}");
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

impl Reader {
    /// Runs a post's script and returns what it said.
    async fn post(&self, name: &str) -> Result<String> {
        let mut bash = self.door.with("bash", &self.key);
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
