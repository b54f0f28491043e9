//! `kubectl batch`, as people would use it beside the story.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::process::{output, wait_for};

/// As kubectl looks for it.
const PLUGIN: &str = "kubectl-batch";

/// Puts it where the cluster's kubectl is, for whoever looks further.
pub(super) fn plug_in(cluster: &Cluster, programs: &Path) -> Result<()> {
    let (plugin, link) = (programs.join(PLUGIN), cluster.path.join(PLUGIN));
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(plugin, link).context("cannot put kubectl batch beside kubectl")
}

/// What it says, as people would ask it.
pub(super) fn show(cluster: &Cluster, namespace: &str, what: &[&str]) -> Result<()> {
    println!("\n$ kubectl batch {}\n", what.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    println!("{}", output(batch(cluster, namespace).args(what))?);
    Ok(())
}

/// A word as one types it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

/// Watches jobs to their end, in the terminal if there is one. They end as they like; what counts is that
/// they do.
pub(super) fn watch(cluster: &Cluster, namespace: &str, jobs: &[&str], patience: Duration) -> Result<()> {
    let what = format!("kubectl batch watch {}", jobs.join(" "));
    println!("$ {what}\n");
    let mut command = batch(cluster, namespace);
    command.arg("watch").args(jobs).stdin(Stdio::null());
    let mut watch = command.spawn().context("cannot run kubectl batch")?;
    let ended = wait_for(&format!("{what} to end"), patience, || Ok(watch.try_wait()?));
    if ended.is_err() {
        // It may have ended meanwhile.
        let _ = watch.kill();
        let _ = watch.wait();
    }
    println!();
    match ended?.code() {
        Some(_) => Ok(()),
        None => bail!("{what} was ended by a signal"),
    }
}

/// `kubectl batch`, ready for what it is to do.
pub(super) fn batch(cluster: &Cluster, namespace: &str) -> Command {
    let mut batch = Command::new(cluster.path.join(PLUGIN));
    batch.env("KUBECONFIG", &cluster.kubeconfig).args(["--namespace", namespace]);
    batch
}
