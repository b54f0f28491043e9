//! The local provider: a cluster of processes of this machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::control_plane::{await_api, await_service_account, ensure};
use super::network::Net;
use super::node::{self, NODES};
use super::pki::{self, kubeconfig_path};
use super::state::{Folder, Lock, MARK, State};
use super::tools::{Tools, needed};
use super::{
    Cluster, Options, Profile, Provider, cgroup, dns, image, karpenter, kwok, preflight, registry, repository,
};
use crate::process::{Process, command, processes};
use crate::step::{say, step};

/// How long a component may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The order in which the processes of the control plane end; nodes end before them.
const STOP_ORDER: &[&str] = &[
    "karpenter",
    "kwok",
    "coredns",
    "kube-scheduler",
    "kube-controller-manager",
    "registry",
    "kube-apiserver",
    "etcd",
];

/// A local cluster. Opened to be changed, it is locked against other commands meanwhile.
pub(crate) struct Local {
    /// Where its files are.
    pub(crate) folder: Folder,
    /// What is known about it.
    pub(crate) state: State,
    /// The programs it is made of.
    pub(crate) tools: Tools,
    _lock: Option<Lock>,
}

impl Local {
    /// Opens a cluster that exists, to change it.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let lock = Folder::of(name)?.lock()?;
        Ok(Self { _lock: Some(lock), ..Self::look(name)? })
    }

    /// Opens a cluster that exists, to look at it.
    pub(crate) fn look(name: &str) -> Result<Self> {
        let folder = Folder::of(name)?;
        let state = folder.load_existing()?;
        let tools = Tools::build(&repository()?, &needed(state.profile, state.kwok_nodes, state.karpenter))?;
        Ok(Self { folder, state, tools, _lock: None })
    }

    /// Opens the cluster or begins a new one on a free address range.
    fn open_or_begin(options: &Options) -> Result<Self> {
        let folder = Folder::of(&options.name)?;
        let lock = folder.lock()?;
        let recorded = folder.load()?;
        if let Some(state) = recorded.as_ref().filter(|state| state.profile != options.profile) {
            bail!(
                "the cluster {} exists with another profile ({:?}); take it down first",
                state.name,
                state.profile
            );
        }
        let state = match recorded {
            Some(state) => State {
                kwok_nodes: options.kwok_nodes.max(state.kwok_nodes),
                karpenter: options.karpenter || state.karpenter,
                ..state
            },
            None => begin(&folder, options)?,
        };
        folder.save(&state)?;
        let tools = Tools::build(&repository()?, &needed(state.profile, state.kwok_nodes, state.karpenter))?;
        Ok(Self { folder, state, tools, _lock: Some(lock) })
    }

    /// Whether there are or may be nodes that kwok plays.
    pub(crate) fn has_fake_nodes(&self) -> bool {
        self.state.kwok_nodes > 0 || self.state.karpenter
    }

    /// Whether the component (or node) runs.
    pub(crate) fn runs(&self, component: &str) -> bool {
        self.state.processes.get(component).copied().is_some_and(Process::is_alive)
    }

    /// Writes down that a component runs as this process.
    pub(crate) fn remember(&mut self, component: &str, process: Process) -> Result<()> {
        self.state.processes.insert(component.to_owned(), process);
        self.folder.save(&self.state)
    }

    /// Writes down that a component runs no more.
    pub(crate) fn forget(&mut self, component: &str) -> Result<()> {
        self.state.processes.remove(component);
        self.folder.save(&self.state)
    }

    /// Ends a component, if it runs.
    pub(crate) fn stop_process(&mut self, component: &str) -> Result<()> {
        let Some(process) = self.state.processes.get(component) else { return Ok(()) };
        process.stop(STOP_PATIENCE).with_context(|| format!("cannot stop {component}"))?;
        self.forget(component)
    }

    /// kubectl as the administrator of this cluster.
    pub(crate) fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Command> {
        let mut kubectl = command(self.tools.program("kubernetes")?, ["kubectl", "--kubeconfig"]);
        kubectl.arg(self.kubeconfig()).args(args);
        Ok(kubectl)
    }

    /// The folder of certificates and kubeconfigs.
    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// The API server's audit log: a JSON object per line.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("log/audit.jsonl")
    }

    /// The cgroup that everything of this cluster is below.
    pub(crate) fn cgroup(&self) -> String {
        cgroup_of(&self.state.name)
    }

    /// The nodes of the profile.
    pub(crate) fn node_names(&self) -> Vec<&'static str> {
        match self.state.profile {
            Profile::Full => NODES.iter().map(|node| node.name).collect(),
            Profile::Api => Vec::new(),
        }
    }

    /// What callers need to know to use the cluster.
    pub(crate) fn describe(&self) -> Cluster {
        let full = self.state.profile == Profile::Full;
        let bin = self.folder.join("bin");
        Cluster {
            name: self.state.name.clone(),
            provider: Provider::Local,
            kubeconfig: self.kubeconfig(),
            kubectl: bin.join("kubectl"),
            helm: full.then(|| bin.join("helm")),
            registry: full.then(|| self.state.net.registry()),
            nodes: self.node_names().into_iter().map(str::to_owned).collect(),
            audit_log: Some(self.audit_log()),
            path: bin,
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        kubeconfig_path(&self.pki(), "admin")
    }

    /// A folder for the PATH with the programs that people call.
    fn link_programs(&self) -> Result<()> {
        let bin = self.folder.join("bin");
        fs::create_dir_all(&bin)?;
        let links = [("kubectl", "kubernetes"), ("helm", "helm"), ("crane", "crane"), ("ctr", "ctr")];
        for (link, program) in links {
            let Ok(program) = self.tools.program(program) else { continue };
            let (link, temporary) = (bin.join(link), bin.join(format!("{link}.new")));
            let _ = fs::remove_file(&temporary);
            symlink(program, &temporary)?;
            fs::rename(temporary, link)?;
        }
        Ok(())
    }

    /// The part of `up` that both profiles have.
    fn start_control_plane(&mut self, with_registry: bool) -> Result<()> {
        self.link_programs()?;
        pki::create(&self.pki(), self.state.net, &self.node_names())?;
        ensure(self, "etcd")?;
        ensure(self, "kube-apiserver")?;
        if with_registry {
            // The API server takes some seconds to start; the images are pushed meanwhile.
            registry::start(self)?;
            image::push_built_in(self)?;
        }
        await_api(self)?;
        ensure(self, "kube-controller-manager")
    }

    fn start_nodes(&mut self) -> Result<()> {
        ensure(self, "kube-scheduler")?;
        let names = self.node_names();
        for name in &names {
            node::power_on(self, name)?;
        }
        dns::start(self)?;
        node::await_ready(self, &names)
    }

    /// Fake nodes, and who binds pods to them: in the profile `api` nobody does without them.
    fn start_fake_nodes(&mut self) -> Result<()> {
        ensure(self, "kube-scheduler")?;
        kwok::make_nodes(self, self.state.kwok_nodes)?;
        ensure(self, "kwok")
    }
}

/// The state of a new cluster, written down at once: its addresses are taken from then on.
fn begin(folder: &Folder, options: &Options) -> Result<State> {
    let _lock = Folder::lock_addresses()?;
    let others = Folder::names()?.into_iter().filter_map(|name| Folder::of(&name).ok()?.load().ok()?);
    let taken: Vec<Net> = others.map(|state| state.net).collect();
    let state = State {
        name: options.name.clone(),
        profile: options.profile,
        kwok_nodes: options.kwok_nodes,
        karpenter: options.karpenter,
        net: Net::choose(&taken)?,
        processes: BTreeMap::new(),
    };
    folder.save(&state)?;
    Ok(state)
}

/// Starts what does not run yet.
pub(crate) fn up(options: &Options) -> Result<Cluster> {
    preflight::check(options.profile)?;
    preflight::install_packages()?;
    let mut local = Local::open_or_begin(options)?;
    let full = options.profile == Profile::Full;
    let nodes = u8::try_from(local.node_names().len())?;
    step(format!("network 10.{}.0.0/16", local.state.net.octet), || local.state.net.up(nodes))?;
    step("control plane", || local.start_control_plane(full))?;
    if full {
        step("nodes", || local.start_nodes())?;
    }
    if local.has_fake_nodes() {
        step(format!("{} fake nodes", local.state.kwok_nodes), || local.start_fake_nodes())?;
    }
    if local.state.karpenter {
        step("Karpenter", || karpenter::start(&mut local))?;
    }
    step("service accounts", || await_service_account(&local))?;
    Ok(local.describe())
}

/// Removes a cluster and everything that belongs to it, then looks for what is left.
pub(crate) fn down(name: &str) -> Result<()> {
    let folder = Folder::of(name)?;
    let _lock = folder.lock()?;
    let state = folder.load().unwrap_or_else(|error| {
        say(format!("{error:#}"));
        None
    });
    step(format!("take {name} down"), || {
        if let Some(state) = &state {
            stop_recorded(state)?;
        }
        stop_marked(name)?;
        if let Some(state) = &state {
            state.net.down()?;
        }
        let mut left = cgroup::remove(&cgroup_of(name))?;
        if folder.path().exists() {
            fs::remove_dir_all(folder.path())
                .with_context(|| format!("cannot remove {}", folder.path().display()))?;
        }
        left.extend(leftovers(name, folder.path(), state.as_ref().map(|state| state.net))?);
        if !left.is_empty() {
            bail!("something of the cluster is left:\n  {}", left.join("\n  "));
        }
        Ok(())
    })?;
    say(format!(
        "{name} is gone: no process, mount, device, address, route, iptables rule or cgroup is left"
    ));
    Ok(())
}

fn cgroup_of(name: &str) -> String {
    format!("/batchyard/{name}")
}

fn stop_recorded(state: &State) -> Result<()> {
    for node in NODES.iter().filter_map(|node| state.processes.get(node.name)) {
        node::kill(*node)?;
    }
    for component in STOP_ORDER {
        if let Some(process) = state.processes.get(*component) {
            process.stop(STOP_PATIENCE).with_context(|| format!("cannot stop {component}"))?;
        }
    }
    Ok(())
}

/// Ends processes whose start was not written down, for example after Ctrl-C at a bad moment.
fn stop_marked(name: &str) -> Result<()> {
    for process in marked(name) {
        node::kill(process)?;
    }
    Ok(())
}

/// All processes that carry the cluster's mark in their environment.
fn marked(name: &str) -> Vec<Process> {
    let mark = format!("{MARK}={name}");
    let own = std::process::id().to_string();
    processes(|folder| {
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        !folder.ends_with(&own) && environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
}

fn leftovers(name: &str, folder: &Path, net: Option<Net>) -> Result<Vec<String>> {
    let mut left: Vec<String> =
        marked(name).iter().map(|process| format!("process: {}", process.pid)).collect();
    let prefix = format!("{}/", folder.display());
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(&prefix)).map(|line| format!("mount: {line}")));
    if let Some(net) = net {
        left.extend(net.leftovers()?);
    }
    Ok(left)
}

/// Powers a node off, or on until its kubelet answers.
pub(crate) fn set_power(name: &str, node_name: &str, on: bool) -> Result<()> {
    let mut local = Local::open(name)?;
    node::find(node_name)?;
    if on {
        step(format!("power {node_name} on"), || {
            node::power_on(&mut local, node_name)?;
            node::await_kubelet(&local, node_name)
        })
    } else {
        step(format!("power {node_name} off"), || node::power_off(&mut local, node_name))
    }
}
