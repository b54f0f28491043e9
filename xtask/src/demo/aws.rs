//! `cargo xtask demo aws`: the posts' commands as printed, by the aws CLI of this machine, against the gateway of the chart.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::plugin;
use crate::cluster::{Cluster, repository};
use crate::install;
use crate::process::{command, on_path, output, wait_for, wait_until};
use crate::step::{say, step};

/// Ten attempts of a job that exits at random.
const PATIENCE: Duration = Duration::from_secs(300);
const REGION: &str = "us-east-1";
/// Whose rights the key has.
const CALLER: &str = "reader";
/// Environments belong to the whole cluster and do not go with the namespace.
const ENVIRONMENTS: [&str; 2] = ["compute-0", "dcv-gpu-ce-e5c81e"];
/// Each command is shown before what it prints.
const SHOWN: (&str, &str) =
    ("BASH_FUNC_aws%%", "() { printf '\\n$ aws %s\\n' \"$*\" >&2; command aws \"$@\"; }");

/// Why it cannot be shown here.
pub(super) fn obstacle() -> Option<String> {
    let missing = ["aws", "jq", "bash"].into_iter().find(|program| !on_path(program))?;
    Some(format!("there is no {missing} on this machine, by which the posts' commands run"))
}

/// The gateway, as the chart starts it.
pub(super) fn gateway() -> Value {
    json!({"enabled": true, "replicas": 1, "region": REGION, "plainHttp": true})
}

/// Removes what an earlier demo left.
pub(super) fn prepare(cluster: &Cluster, namespace: &str) -> Result<()> {
    let names = ENVIRONMENTS.map(|name| format!("{namespace}.{name}"));
    let mut delete = cluster.kubectl(["delete", "computeenvironment", "--ignore-not-found", "--timeout=60s"]);
    output(delete.args(names)).map(drop)
}

/// Lets it all happen, then says how others do it.
pub(super) fn play(cluster: &Cluster, namespace: &str) -> Result<()> {
    let aws = Aws::begin(cluster, namespace)?;
    aws.post("retry.sh")?;
    let mut ids = Vec::new();
    for job in aws.ask(&["list-jobs", "--job-queue", "queue-0", "--job-status", "ALL"])?["jobSummaryList"]
        .as_array()
        .context("a list of jobs")?
    {
        ids.push((text(&job["jobName"]), text(&job["jobId"])));
    }
    let spot = ids.iter().find(|(name, _)| name == "spot").context("the post's job spot")?.1.clone();
    let others: Vec<String> = ids.into_iter().map(|(_, id)| id).filter(|id| *id != spot).collect();
    aws.until("spot to run, and the others to end", &[vec![spot.clone()], others.clone()].concat(), |job| {
        let status = text(&job["status"]);
        if text(&job["jobId"]) == spot { status == "RUNNING" } else { has_ended(&status) }
    })?;
    aws.show(&["terminate-job", "--job-id", &spot, "--reason", "It would sleep for ten minutes"])?;
    let all = [vec![spot], others].concat();
    let jobs = aws.until("all to end", &all, |job| has_ended(&text(&job["status"])))?;
    let fields = "jobs[].[jobName,status,statusReason,attempts[].container.[exitCode,reason]]";
    let mut describe = vec!["describe-jobs", "--query", fields, "--output", "json", "--jobs"];
    describe.extend(all.iter().map(String::as_str));
    aws.show(&describe)?;
    check(&jobs)?;
    plugin::show(cluster, namespace, &["list"])?;
    aws.post("session.sh")?;
    say("all as the posts print it: docs/aws-api.md");
    Ok(())
}

/// How one's own programs find it.
pub(super) fn look_further(namespace: &str) -> Vec<String> {
    let forward = format!(
        "kubectl -n {} port-forward service/{}-gateway 8000:80 &",
        install::NAMESPACE,
        install::RELEASE
    );
    vec![
        forward,
        format!(
            "eval \"$(kubectl batch -n {namespace} keys create {CALLER})\"    # AWS_ACCESS_KEY_ID and the secret"
        ),
        format!("export AWS_ENDPOINT_URL_BATCH=http://127.0.0.1:8000 AWS_DEFAULT_REGION={REGION}"),
        "aws batch list-jobs --job-queue queue-0 --job-status ALL".to_owned(),
        "python3 -c 'import boto3; print(boto3.client(\"batch\").describe_job_queues()[\"jobQueues\"])'"
            .to_owned(),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn has_ended(status: &str) -> bool {
    matches!(status, "SUCCEEDED" | "FAILED")
}

/// Fails if a job did not fare as the post tells.
fn check(jobs: &[Value]) -> Result<()> {
    for job in jobs {
        let codes: Vec<Option<i64>> = job["attempts"]
            .as_array()
            .map(|all| all.iter().map(|attempt| attempt["container"]["exitCode"].as_i64()).collect())
            .unwrap_or_default();
        let (name, status) = (text(&job["jobName"]), text(&job["status"]));
        let (last, before) = codes.split_last().with_context(|| format!("{name} had no attempt"))?;
        let expected = match name.as_str() {
            "spot" => status == "FAILED" && text(&job["statusReason"]).starts_with("It would sleep"),
            "noContainer" => status == "FAILED" && codes.len() == 1,
            _ => {
                let again = before.iter().all(|code| matches!(code, Some(1 | 2)));
                again && (status == "SUCCEEDED") == (*last == Some(0))
            }
        };
        ensure!(expected, "that is not what should have happened: {job:#}");
    }
    Ok(())
}

/// The aws CLI with a key of its own, and the way to the gateway; that ends with this value.
struct Aws {
    forward: Child,
    endpoint: String,
    key: Vec<(String, String)>,
}

impl Aws {
    fn begin(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let key = step("a ServiceAccount, its rights and an access key", || key(cluster, namespace))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut forward = cluster.kubectl(["--namespace", install::NAMESPACE, "port-forward"]);
        forward.args([format!("service/{}-gateway", install::RELEASE), format!("{port}:80")]);
        forward.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let forward = forward.spawn().context("cannot run kubectl port-forward")?;
        let aws = Self { forward, endpoint: format!("http://127.0.0.1:{port}"), key };
        step("a port of this machine for the gateway", || {
            // It learns of the key a moment after it is made.
            wait_until("an answer", Duration::from_secs(60), || Ok(aws.ask(&["describe-job-queues"]).is_ok()))
        })?;
        println!("\nexport AWS_ENDPOINT_URL_BATCH={} AWS_DEFAULT_REGION={REGION}", aws.endpoint);
        println!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY=…\n", aws.key[0].1);
        Ok(aws)
    }

    fn with(&self, program: &str, args: &[&str]) -> Command {
        let mut made = command(program, args);
        made.env("AWS_ENDPOINT_URL_BATCH", &self.endpoint).env("AWS_DEFAULT_REGION", REGION);
        made.envs(self.key.iter().map(|(name, value)| (name, value)));
        made.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "").stdin(Stdio::null());
        made
    }

    /// `aws batch`, and its answer.
    fn ask(&self, args: &[&str]) -> Result<Value> {
        let mut aws = self.with("aws", &["batch"]);
        Ok(serde_json::from_str(&output(aws.args(args).args(["--output", "json"]))?)?)
    }

    /// `aws batch`, as people would use it.
    fn show(&self, args: &[&str]) -> Result<()> {
        let quoted =
            |word: &&str| if word.contains([' ', '[']) { format!("'{word}'") } else { (*word).to_owned() };
        println!("\n$ aws batch {}", args.iter().map(quoted).collect::<Vec<_>>().join(" "));
        println!("{}", output(self.with("aws", &["batch"]).args(args))?);
        Ok(())
    }

    /// Runs a post's script; what it prints is shown.
    fn post(&self, name: &str) -> Result<()> {
        println!("\n$ bash examples/posts/{name}");
        let script = repository()?.join("examples/posts").join(name).display().to_string();
        let status = self.with("bash", &[&script]).env(SHOWN.0, SHOWN.1).status();
        if !status.context("cannot run bash")?.success() {
            bail!("examples/posts/{name} failed");
        }
        println!();
        Ok(())
    }

    /// Waits until something is true of each of these jobs.
    fn until(&self, what: &str, ids: &[String], done: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut ask = vec!["describe-jobs", "--jobs"];
        ask.extend(ids.iter().map(String::as_str));
        step(what, || {
            wait_for(what, PATIENCE, || {
                let jobs = self.ask(&ask)?["jobs"].as_array().cloned().unwrap_or_default();
                Ok((jobs.len() == ids.len() && jobs.iter().all(&done)).then_some(jobs))
            })
        })
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}

/// Makes somebody with the rights that the posts need, and a key for that.
fn key(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>> {
    output(&mut cluster.kubectl(["--namespace", namespace, "create", "serviceaccount", CALLER]))?;
    for role in install::ROLES_FOR_POSTS {
        let mut bind = cluster.kubectl(["--namespace", namespace, "create", "rolebinding", role]);
        bind.args(["--clusterrole", role, "--serviceaccount", &format!("{namespace}:{CALLER}")]);
        output(&mut bind)?;
    }
    let made = output(plugin::batch(cluster, namespace).args(["keys", "create", CALLER]))?;
    let pairs = made.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    ensure!(pairs.len() == 2, "kubectl batch keys create said something else");
    Ok(pairs)
}
