//! What containers wrote, read from the AWS door as CloudWatch Logs serves it, with the rights that the chart gives the
//! gateway, and no others.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use batchyard::k8s::access_key::{AccessKey, object_name};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;
use xtask::install::NAMESPACE;

use crate::Case;
use crate::cluster::answer;
use crate::door::{self, Door, end, text};
use crate::ends::{exit, failed};
use crate::programs::shell;
use crate::scenario::{PATIENCE, Scenario};
use crate::support::client::{apply, namespace};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::story("cloudwatch-logs-of-real-containers", |scenario| Box::pin(told(scenario))).alone()]
}

/// Lines while it runs, one of them on the other output, and a last one when it is asked to end.
const PROGRAM: &str = "for i in $(seq 1 300); do echo line $i; done; echo oops >&2; \
                       trap 'echo the end; exit 3' TERM; sleep 600 & wait";

async fn told(scenario: &Scenario<'_>) -> Result<()> {
    let Ok(true) =
        Command::new("python3").args(["-c", "import boto3"]).status().map(|status| status.success())
    else {
        eprintln!("SKIPPED: cloudwatch-logs-of-real-containers: there is no Python with boto3");
        return Ok(());
    };
    let cluster = scenario.cluster;
    // The rights alone: it runs here.
    cluster.install(&json!({"gateway": {"enabled": true, "replicas": 0, "plainHttp": true}})).await?;
    let other = namespace(&cluster.client, "cloudwatch-other").await;
    let (own, foreign) =
        (caller(&cluster.client, &scenario.namespace).await?, caller(&cluster.client, &other).await?);
    let outcome = read(scenario, &own, &foreign).await;
    for key in [&own, &foreign] {
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
        secrets.delete(&object_name(&key.id), &DeleteParams::default()).await?;
    }
    Api::<Namespace>::all(cluster.client.clone()).delete(&other, &DeleteParams::default()).await?;
    cluster.install(&json!({})).await?;
    outcome
}

async fn read(scenario: &Scenario<'_>, own: &AccessKey, foreign: &AccessKey) -> Result<()> {
    let door = Door::open("cloudwatch-gateway").await?;
    scenario.submit("job", shell(PROGRAM)).await;
    scenario.runs("job", 1).await?;
    let pod = scenario.current("job").await?.pod_name;
    let stream = format!("spot/default/{pod}");
    let following = tokio::task::spawn_blocking({
        let mut command = ask(&door, own, "follow", &stream);
        move || command.output()
    });
    let so_far: Vec<String> =
        (1..=300).map(|line| format!("line {line}")).chain(["oops".to_owned()]).collect();
    let mut all = so_far.clone();
    answer("all lines while it runs", PATIENCE, || async {
        let said = end(ask(&door, own, "read", &stream)).await?;
        // Between two questions of one look more may be written.
        if !said.status.success() {
            eprintln!("a look at the log: {}", text(&said.stderr));
        }
        Ok((said.status.success() && is(&said, &so_far)).then_some(()))
    })
    .await?;
    scenario.finish("job").await?;
    scenario.ends("job", &failed([exit(3).failed_by(1)])).await?;
    all.push("the end".to_owned());
    let followed = following.await??;
    ensure!(followed.status.success() && is(&followed, &all), "followed: {followed:?}");
    let whole = end(ask(&door, own, "read", &stream)).await?;
    ensure!(whole.status.success() && is(&whole, &all), "read: {whole:?}");
    let others = end(ask(&door, foreign, "gone", &stream)).await?;
    let absent = "ResourceNotFoundException The specified log stream does not exist.\n";
    ensure!(text(&others.stdout) == absent, "another namespace: {others:?}");
    cli(&door, own, &stream, &all).await?;
    let pods = scenario.api::<Pod>();
    pods.delete(&pod, &DeleteParams::default()).await?;
    await_condition(pods, &pod, |pod: Option<&Pod>| pod.is_none()).await?;
    let gone = end(ask(&door, own, "gone", &stream)).await?;
    let says = "ResourceNotFoundException The specified log stream does not exist: its pod is gone";
    ensure!(text(&gone.stdout).starts_with(says), "{gone:?}");
    Ok(())
}

/// The aws CLI, where it is; its first version has no `tail`.
async fn cli(door: &Door, key: &AccessKey, stream: &str, all: &[String]) -> Result<()> {
    let Ok(version) = Command::new("aws").arg("--version").output() else {
        eprintln!("SKIPPED: the aws CLI is not there");
        return Ok(());
    };
    let mut aws = door.with("aws", key);
    aws.args(["logs", "get-log-events", "--log-group-name", "/aws/batch/job", "--log-stream-name", stream]);
    aws.args(["--start-from-head", "--query", "events[].[message]", "--output", "text"]);
    let said = end(aws).await?;
    ensure!(said.status.success() && is(&said, all), "aws logs get-log-events: {said:?}");
    if text(&version.stdout).starts_with("aws-cli/1") {
        eprintln!("SKIPPED: this aws CLI has no `logs tail`");
        return Ok(());
    }
    let mut aws = door.with("aws", key);
    aws.args(["logs", "tail", "/aws/batch/job", "--format", "short", "--since", "1h"]);
    aws.args(["--log-stream-names", stream]);
    let said = end(aws).await?;
    let lines = text(&said.stdout).lines().count();
    ensure!(said.status.success() && lines == all.len(), "aws logs tail: {said:?}");
    Ok(())
}

/// True if these lines were said, those of the other output somewhere among them.
fn is(said: &Output, lines: &[String]) -> bool {
    let text = text(&said.stdout);
    let without = |lines: Vec<&str>| {
        lines.into_iter().filter(|line| *line != "oops").map(str::to_owned).collect::<Vec<_>>()
    };
    let found: Vec<&str> = text.lines().collect();
    found.len() == lines.len() && without(found) == without(lines.iter().map(String::as_str).collect())
}

fn ask(door: &Door, key: &AccessKey, what: &str, stream: &str) -> Command {
    let mut command = door.with("python3", key);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes/cloudwatch.py")).args([what, stream]);
    command
}

/// Somebody who may read logs in a namespace.
async fn caller(client: &Client, namespace: &str) -> Result<AccessKey> {
    let name = "log-reader";
    let api = client.clone();
    apply(&Api::<ServiceAccount>::namespaced(api.clone(), namespace), &json!({"metadata": {"name": name}}))
        .await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": name}, "rules": rules});
    apply(&Api::<Role>::namespaced(api.clone(), namespace), &role).await;
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]});
    apply(&Api::<RoleBinding>::namespaced(api.clone(), namespace), &binding).await;
    door::key(client, namespace, name).await
}
