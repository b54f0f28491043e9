//! The operator of this tree on a cluster, by its Helm chart: for the demo and the tests.

use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::{self, Cluster, Provider};
use crate::interrupt;
use crate::process::output;
use crate::step::step;

/// The namespace of the operator.
pub const NAMESPACE: &str = "batchyard-system";

/// The Helm release, which is also the name of the Deployment.
pub const RELEASE: &str = "batchyard";

/// Who has these may do all that the posts do: `examples/posts/README.md` names them.
pub const ROLES_FOR_POSTS: [&str; 4] =
    ["edit", "batchyard-batch-admin", "batchyard-batch-privileged", "batchyard-environment-admin"];

/// Gives the operator's image to the nodes and installs the chart, or upgrades what is there.
///
/// `values` are added to what the cluster asks for. Returns once the operator is ready, and it is
/// the program that lies beside this one: a rebuilt program replaces the pod.
pub fn operator(cluster: &Cluster, values: &Value) -> Result<()> {
    cluster::load_operator(&cluster.name)?;
    let files = [("cluster", required(cluster)?), ("caller", values.clone())]
        .map(|(name, values)| write_values(cluster, name, &values));
    step("install the chart", || {
        let mut helm = cluster.helm(["upgrade", "--install", RELEASE])?;
        helm.arg(cluster::repository()?.join("charts/batchyard"));
        helm.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"]);
        for file in files {
            helm.arg("--values").arg(file?);
        }
        output(&mut helm).map(|_| ()).or_else(|error| {
            // Helm ends by Ctrl-C like everything else; then the operator is not to blame.
            interrupt::check()?;
            Err(error.context(last_words(cluster)))
        })
    })
}

/// What the operator's pods are and said, for error messages.
pub fn last_words(cluster: &Cluster) -> String {
    let ask = |args: &[&str]| {
        let mut kubectl = cluster.kubectl(["--namespace", NAMESPACE]);
        output(kubectl.args(args)).unwrap_or_else(|error| format!("{error:#}\n"))
    };
    let deployment = format!("deployment/{RELEASE}");
    format!(
        "the operator's pods:\n{}the operator said:\n{}",
        ask(&["get", "pods", "--output", "wide"]),
        ask(&["logs", &deployment, "--tail", "25"]),
    )
}

/// The values that make the chart use our image on our nodes.
fn required(cluster: &Cluster) -> Result<Value> {
    // Local nodes pull from a registry of ours, where the tag moves; kind's have the image already.
    let policy = if cluster.provider == Provider::Local { "Always" } else { "IfNotPresent" };
    Ok(json!({
        "image": {"repository": "batchyard", "tag": "dev", "pullPolicy": policy},
        "nodeSelector": {"batchyard.io/system": "true"},
        "podAnnotations": {"xtask/build": build()?},
    }))
}

/// A text that differs whenever the program was built anew.
fn build() -> Result<String> {
    let program = cluster::program("batchyard")?;
    let metadata = fs::metadata(&program).with_context(|| program.display().to_string())?;
    let built = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("{}-{}", built.as_nanos(), metadata.len()))
}

fn write_values(cluster: &Cluster, name: &str, values: &Value) -> Result<PathBuf> {
    let file = cluster.path.with_file_name(format!("values-{name}.json"));
    fs::write(&file, values.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
