//! `cluster status` and `cluster env`: what runs and how to reach it.

use anyhow::Result;

use super::control_plane::api_is_ready;
use super::local::Local;
use super::state::Folder;
use super::{Cluster, Profile, Provider, find, provider_of};
use crate::process::output;

/// Prints a table of what the cluster consists of and how it is.
pub(crate) fn print(name: &str) -> Result<()> {
    if provider_of(name)? == Provider::Kind {
        return print_nodes(&find(name)?);
    }
    if Folder::of(name)?.load()?.is_none() {
        println!("there is no cluster {name}; `cargo xtask cluster up` makes one");
        return Ok(());
    }
    let local = Local::look(name)?;
    let cluster = local.describe();
    println!("{:<26}{:>9}  STATE", "COMPONENT", "PID");
    for component in expected(&local) {
        let process = local.state.processes.get(&component);
        let pid = process.map_or_else(|| "-".to_owned(), |process| process.pid.to_string());
        let state = match (local.runs(&component), process) {
            (true, _) => "running",
            (false, Some(_)) => "ended by itself",
            (false, None) => "off",
        };
        println!("{component:<26}{pid:>9}  {state}");
    }
    println!();
    println!("API server   {}", local.state.net.api_server());
    if let Some(registry) = &cluster.registry {
        println!("registry     {registry}");
    }
    println!("kubeconfig   {}", cluster.kubeconfig.display());
    println!("logs         {}", local.folder.join("log").display());
    println!("audit log    {}", local.audit_log().display());
    println!();
    if !api_is_ready(&local) {
        println!("the API server does not answer; `cargo xtask cluster up` starts what is missing");
        return Ok(());
    }
    print_nodes(&cluster)
}

/// Prints the lines that a shell evaluates to use the cluster.
pub(crate) fn print_env(name: &str) -> Result<()> {
    let cluster = find(name)?;
    println!("export KUBECONFIG='{}'", cluster.kubeconfig.display());
    println!("export PATH='{}':\"$PATH\"", cluster.path.display());
    Ok(())
}

fn print_nodes(cluster: &Cluster) -> Result<()> {
    print!("{}", output(&mut cluster.kubectl(["get", "nodes", "-o", "wide"]))?);
    Ok(())
}

fn expected(local: &Local) -> Vec<String> {
    let mut names = vec!["etcd", "kube-apiserver", "kube-controller-manager"];
    let full = local.state.profile == Profile::Full;
    let (fake, karpenter) = (local.has_fake_nodes(), local.state.karpenter);
    let optional =
        [(full || fake, "kube-scheduler"), (full, "registry"), (fake, "kwok"), (karpenter, "karpenter")];
    names.extend(optional.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name));
    names.extend(local.node_names());
    names.into_iter().map(str::to_owned).collect()
}
