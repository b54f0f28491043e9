//! `cargo xtask demo session`: the post about interactive sessions, with the files of `examples/sessions`. A desktop in a
//! container, opened in a browser by the URL that the job's status tells.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::browser::Browser;
use super::jobs::{Job, Jobs};
use super::{mail, plugin};
use crate::cluster::{self, Cluster, DEVICE_PLUGIN, GPU};
use crate::debian;
use crate::process::{output, wait_until};
use crate::step::{say, step};

/// The image of some hundred megabytes is pulled, and the desktop starts.
const PATIENCE: Duration = Duration::from_secs(300);

/// By this label the example's environment finds its node.
const LABEL: &str = "batchyard.io/desktop=true";

/// Where the device plugin runs.
const PLUGINS: &str = "kube-system";

/// The ServiceAccount of the example, the post's role.
const ROLE: &str = "dcv-ecs-batch-role";

/// The Secret of the example, which the post has in Secrets Manager.
const CREDENTIALS: &str = "run-dcv-in-batch-72f907";

/// The job.
const JOB: &str = "desktop";

/// Why this story cannot be told here, if so.
pub(super) fn obstacle() -> Option<String> {
    debian::obstacle()
}

/// Makes the image, and names the node that the desktop is for.
pub(super) fn prepare(cluster: &Cluster) -> Result<()> {
    step("make the desktop's image and give it to the nodes", || {
        cluster::load_recipe(&cluster.name, "desktop")
    })?;
    step("make the mail server's image and give it to the nodes", || {
        cluster::load_recipe(&cluster.name, mail::RECIPE)
    })?;
    let node = largest_node(cluster)?;
    output(&mut cluster.kubectl(["label", "node", &node, "--overwrite", LABEL]))?;
    give_gpu(cluster, &node)
}

/// A device plugin of ours offers one GPU there, which is none.
fn give_gpu(cluster: &Cluster, node: &str) -> Result<()> {
    step("a GPU for the node, which is none", || {
        cluster::load_recipe(&cluster.name, DEVICE_PLUGIN)?;
        cluster.apply(PLUGINS, &cluster::device_plugin(cluster.provider, node, 1))?;
        wait_until("the GPU", Duration::from_secs(120), || {
            let node: Value =
                serde_json::from_str(&output(&mut cluster.kubectl(["get", "node", node, "--output=json"]))?)?;
            Ok(node["status"]["allocatable"][GPU] == "1")
        })
    })
}

/// Takes back what the story gave to the cluster as a whole, however it went: the device plugin, the node's label, the
/// notifier.
pub(super) fn put_back(cluster: &Cluster, values: &Value) -> Result<()> {
    step("take the GPU, the label and the notifier away", || {
        let mut plugin = cluster.kubectl(["--namespace", PLUGINS, "delete", "pod", DEVICE_PLUGIN]);
        output(plugin.args(["--ignore-not-found", "--timeout=120s"]))?;
        let name = LABEL.split('=').next().unwrap_or_default();
        output(&mut cluster.kubectl(["label", "nodes", "--all", &format!("{name}-")]))?;
        mail::turn_off(cluster, values)
    })
}

fn largest_node(cluster: &Cluster) -> Result<String> {
    let nodes: Value =
        serde_json::from_str(&output(&mut cluster.kubectl(["get", "nodes", "--output=json"]))?)?;
    let cpus = |node: &Value| {
        let text = node["status"]["capacity"]["cpu"].as_str().unwrap_or_default().to_owned();
        text.parse::<u32>().unwrap_or_default()
    };
    let largest = nodes["items"].as_array().into_iter().flatten().max_by_key(|node| cpus(node));
    let largest = largest.context("the cluster has no nodes")?;
    ensure!(cpus(largest) >= 8, "the post's job has 8 vCPUs, and no node of the cluster has as many");
    Ok(largest["metadata"]["name"].as_str().unwrap_or_default().to_owned())
}

/// Lets it all happen, then cleans up as the post does.
pub(super) fn play(cluster: &Cluster, namespace: &str) -> Result<()> {
    println!(
        "\n{JOB} is the post's job: 8 vCPUs, so that one fills a node, root, privileged, its node's network."
    );
    println!("Its URL is told once its readiness probe passes.\n");
    mail::point_to(cluster, namespace)?;
    let mut jobs = Jobs::follow(cluster, namespace)?;
    jobs.until_job(JOB, "to be ready for people", PATIENCE, |job| job.has_ended() || job.url().is_some())?;
    let url = jobs.get(JOB)?.url().map(str::to_owned);
    let url = url.with_context(|| format!("{JOB} ended before it was ready"))?;
    plugin::show(cluster, namespace, &["describe", JOB])?;
    mail::arrives(cluster, namespace, &url)?;
    let picture = look(&url, &password(cluster, namespace)?)?;
    say(format!("{} shows the desktop", picture.display()));
    clean_up(cluster, namespace, &mut jobs)
}

/// What the user of the session types, from the Secret that its status names.
fn password(cluster: &Cluster, namespace: &str) -> Result<String> {
    let mut kubectl = cluster.kubectl(["--namespace", namespace, "get", "secret", CREDENTIALS, "--output"]);
    output(kubectl.arg("go-template={{.data.user001 | base64decode}}"))
}

/// Opens the desktop as a person would, and makes a picture of it.
fn look(url: &str, password: &str) -> Result<PathBuf> {
    let folder = cluster::repository()?.join("target/demo");
    fs::create_dir_all(&folder)?;
    let picture = folder.join("session.png");
    let browser = Browser::start()?;
    step(format!("open {url} in Chromium"), || {
        browser.open(url)?;
        browser.until("the question for the password", ASKED)?;
        browser
            .until("an answer to it", &ANSWERED.replace("PASSWORD", &Value::from(password).to_string()))?;
        browser.until("the desktop in the browser", CONNECTED)?;
        browser.until("the desktop's windows", DRAWN)?;
        browser.until("noVNC to fall silent", SILENT)?;
        browser.picture(&picture)
    })?;
    Ok(picture)
}

/// noVNC shows its dialogue.
const ASKED: &str =
    "document.getElementById('noVNC_credentials_dlg')?.classList.contains('noVNC_open') === true";

const ANSWERED: &str = "(() => { document.getElementById('noVNC_password_input').value = PASSWORD; \
    document.getElementById('noVNC_credentials_button').click(); return true; })()";

/// What noVNC had to say is over.
const SILENT: &str = "!document.getElementById('noVNC_status').classList.contains('noVNC_open')";

/// noVNC says so.
const CONNECTED: &str = "document.documentElement.classList.contains('noVNC_connected')";

/// Light windows on a dark ground: more than a few colours are on the canvas.
const DRAWN: &str = "(() => { const c = document.querySelector('#noVNC_container canvas'); \
    if (!c || !c.width) return false; \
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const s = new Set(); \
    for (let i = 0; i < d.length; i += 404) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); \
    return s.size > 8; })()";

/// The post's last chapter: the job ends, minimum and desired vCPUs become 0, and everything is deleted.
fn clean_up(cluster: &Cluster, namespace: &str, jobs: &mut Jobs<'_>) -> Result<()> {
    plugin::show(cluster, namespace, &["terminate", JOB, "--reason", "finished"])?;
    jobs.until_job(JOB, "to end", PATIENCE, Job::has_ended)?;
    ensure!(jobs.get(JOB)?.url().is_none(), "{JOB} has ended and still tells a URL");
    step("scale down and delete, as the post does", || {
        mail::end(cluster, namespace)?;
        let down = r#"{"spec":{"computeResources":{"minvCpus":0,"desiredvCpus":0}}}"#;
        let mut kubectl =
            cluster.kubectl(["patch", "computeenvironment", "dcv-gpu-ce-e5c81e", "--type=merge", "--patch"]);
        output(kubectl.arg(down))?;
        let of_namespace = ["batchjobs,jobdefinitions,jobqueues,secrets", "--all"];
        let mut delete = cluster.kubectl(["--namespace", namespace, "delete", "--timeout=120s"]);
        output(delete.args(of_namespace))?;
        output(&mut cluster.kubectl(["--namespace", namespace, "delete", "serviceaccount", ROLE]))?;
        output(&mut cluster.kubectl([
            "delete",
            "computeenvironment",
            "dcv-gpu-ce-e5c81e",
            "--timeout=120s",
        ]))?;
        wait_until("nothing to be left", Duration::from_secs(60), || Ok(left(cluster, namespace)?.is_empty()))
    })?;
    match left(cluster, namespace)?.as_str() {
        "" => say("nothing is left: no pod, no port, no object. docs/sessions.md"),
        left => bail!("this is left:\n{left}"),
    }
    Ok(())
}

/// What would be left of a session: all but what each namespace has.
fn left(cluster: &Cluster, namespace: &str) -> Result<String> {
    let kinds = "pods,services,ingresses,secrets,serviceaccounts,batchjobs,jobdefinitions,jobqueues,batchjobrecords,\
                 notificationrules";
    let ours = ["get", kinds, "--output=name", "--namespace", namespace];
    let found = output(&mut cluster.kubectl(ours))?;
    let left = found.lines().filter(|name| *name != "serviceaccount/default");
    Ok(left.collect::<Vec<_>>().join("\n"))
}
