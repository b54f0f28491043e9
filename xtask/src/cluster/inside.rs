//! Reaching into a real node: its files, its processes, commands that run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::local::Local;
use super::node;
use crate::process::{Process, command};

/// The folder of a node's files; `etc` in it is read by its kubelet and containerd.
pub fn node_folder(cluster: &str, node_name: &str) -> Result<PathBuf> {
    node::find(node_name)?;
    Ok(node::folder(&Local::look(cluster)?, node_name))
}

/// A command that runs on a node: it sees the node's mounts, processes and network.
pub fn on_node(cluster: &str, node_name: &str, args: &[&str]) -> Result<Command> {
    let inhabitants = inhabitants(cluster, node_name)?;
    let first = inhabitants.first().with_context(|| format!("{node_name} is off"))?;
    let target = first.pid.to_string();
    let mut nsenter =
        command("nsenter", ["--target", &target, "--mount", "--net", "--uts", "--ipc", "--pid", "--"]);
    nsenter.args(args);
    Ok(nsenter)
}

/// The processes of a node whose command line begins with these words; of the first, the
/// program's path, its last part counts.
pub fn node_processes(cluster: &str, node_name: &str, words: &[&str]) -> Result<Vec<Process>> {
    let begins = |process: &Process| {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut line = line.split('\0');
        words.iter().enumerate().all(|(at, word)| {
            let said = line.next().unwrap_or_default();
            let said =
                if at == 0 { Path::new(said).file_name().and_then(|name| name.to_str()) } else { Some(said) };
            said == Some(*word)
        })
    };
    Ok(inhabitants(cluster, node_name)?.into_iter().filter(begins).collect())
}

/// All processes of a node, its process 1 first; none if it is off.
fn inhabitants(cluster: &str, node_name: &str) -> Result<Vec<Process>> {
    node::find(node_name)?;
    let local = Local::look(cluster)?;
    let process = local.state.processes.get(node_name).copied().filter(|process| process.is_alive());
    Ok(process.map(node::members).unwrap_or_default())
}
