//! A Kubernetes to try things on: `cargo xtask cluster`, and the same as functions for the demo
//! and the tests.
//!
//! Two providers make the same three nodes. `local` runs the components as processes
//! of this machine, each node in namespaces of its own, and needs no Docker. `kind`
//! does it with Docker. `tests/cluster/README.md` has the map and the traps.

mod cgroup;
pub mod cli;
mod control_plane;
mod dns;
mod gpu;
mod image;
mod inside;
pub mod karpenter;
mod kind;
mod kwok;
mod local;
mod network;
mod node;
mod pki;
mod preflight;
mod registry;
mod state;
mod status;
mod tools;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::gpu::{DEVICE_PLUGIN, GPU, device_plugin};
pub use self::inside::{node_folder, node_processes, on_node};
use self::local::Local;
use self::state::Folder;
use self::tools::Tools;
use crate::process;
use crate::step::{say, step};

/// The name of the cluster that the demo and the end-to-end tests use.
pub const DEFAULT_NAME: &str = "batchyard";

/// Who runs the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Processes and namespaces of this machine; needs Linux, root and Go.
    Local,
    /// Containers; needs Docker and kind.
    Kind,
}

impl Provider {
    /// How pods of the demo and the tests get images of our own. Local nodes know no registry but ours. Those of kind would
    /// ask Docker Hub, where the name may be anybody's: what was not loaded does not run.
    pub fn pull_policy(self) -> &'static str {
        match self {
            Self::Local => "IfNotPresent",
            Self::Kind => "Never",
        }
    }
}

/// How much of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Profile {
    /// Control plane, registry and three real nodes.
    Full,
    /// etcd, API server and controller manager: no nodes, and nothing is scheduled unless fake
    /// nodes are wanted.
    Api,
}

/// Which cluster to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// Clusters with different names stand side by side.
    pub name: String,
    /// Who runs it.
    pub provider: Provider,
    /// How much of it.
    pub profile: Profile,
    /// How many fake nodes besides the real ones. Any number but 0 brings kwok, and the scheduler.
    pub kwok_nodes: u32,
    /// Whether the real Karpenter makes fake nodes for pods that need some.
    pub karpenter: bool,
}

impl Options {
    /// The cluster of the demo and the end-to-end tests, by the provider that can run here.
    pub fn full() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            provider: default_provider(),
            profile: Profile::Full,
            kwok_nodes: 0,
            karpenter: false,
        }
    }

    /// The cluster of the tests at the level of the API; it can stand beside the full one.
    pub fn api() -> Self {
        Self {
            name: format!("{DEFAULT_NAME}-api"),
            provider: Provider::Local,
            profile: Profile::Api,
            kwok_nodes: 0,
            karpenter: false,
        }
    }

    /// A control plane with fake nodes; tests make more of them.
    pub fn fake() -> Self {
        Self { name: format!("{DEFAULT_NAME}-fake"), kwok_nodes: FAKE_NODES, ..Self::api() }
    }

    /// A control plane whose nodes Karpenter makes.
    pub fn karpenter() -> Self {
        Self { name: format!("{DEFAULT_NAME}-karpenter"), karpenter: true, ..Self::api() }
    }
}

/// How many fake nodes a cluster for tests of scale has.
const FAKE_NODES: u32 = 1;

/// A cluster that runs: what one needs to know to use it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Who runs it.
    pub provider: Provider,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// A kubectl of the cluster's version.
    pub kubectl: PathBuf,
    /// Helm, unless the profile has no nodes to install anything on.
    pub helm: Option<PathBuf>,
    /// The registry that nodes pull from, as host and port.
    pub registry: Option<String>,
    /// The names of the real nodes: on-demand, spot, spot.
    pub nodes: Vec<String>,
    /// The API server's audit log, one JSON object per line.
    pub audit_log: Option<PathBuf>,
    /// A folder with kubectl, helm and friends for the PATH.
    pub path: PathBuf,
}

impl Cluster {
    /// kubectl as the administrator.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut kubectl = process::command(&self.kubectl, args);
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        kubectl
    }

    /// Helm as the administrator. Its own files stay inside the cluster's folder.
    pub fn helm<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Command> {
        let helm = self.helm.as_ref().context("this cluster has no nodes, so there is no Helm")?;
        let mut helm = process::command(helm, args);
        let home = self.path.with_file_name("helm");
        helm.env("KUBECONFIG", &self.kubeconfig);
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            helm.env(variable, home.join(folder));
        }
        Ok(helm)
    }

    /// Applies objects that no file holds.
    pub fn apply(&self, namespace: &str, objects: &Value) -> Result<()> {
        let file = self.path.with_file_name("objects.json");
        fs::write(&file, objects.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let mut kubectl = self.kubectl(["--namespace", namespace, "apply", "--server-side", "--filename"]);
        process::output(kubectl.arg(&file)).map(drop)
    }

    /// Makes others who use the cluster as a whole (the demo, the tests) wait until the returned
    /// file is dropped.
    pub fn reserve(&self) -> Result<File> {
        let path = self.path.with_file_name("in-use.lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            say(format!("a demo or tests use the cluster {}; waiting for their end", self.name));
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// Builds the programs that a cluster is made of, and installs missing packages, but starts nothing.
pub fn build_tools(options: &Options) -> Result<()> {
    if options.provider == Provider::Local {
        preflight::check(options.profile)?;
        preflight::install_packages()?;
        Tools::build(&repository()?, &tools::needed(options.profile, options.kwok_nodes, options.karpenter))?;
    }
    Ok(())
}

/// A program from the table of tools, built if need be.
pub fn tool(name: &str) -> Result<PathBuf> {
    Tools::build(&repository()?, &[name])?.program(name)
}

/// The folder of everything that is built once and kept.
pub fn tools_folder() -> Result<PathBuf> {
    Ok(state::cache_root()?.join("tools"))
}

/// Makes the cluster, or what is missing of it.
pub fn up(options: &Options) -> Result<Cluster> {
    match options.provider {
        Provider::Local => local::up(options),
        Provider::Kind => kind::up(options),
    }
}

/// Removes a cluster; fails if anything of it is left. Removing none is no error.
pub fn down(name: &str) -> Result<()> {
    match provider_of(name)? {
        Provider::Local => local::down(name),
        Provider::Kind => kind::down(name),
    }
}

/// A cluster that `up` made before.
pub fn find(name: &str) -> Result<Cluster> {
    match provider_of(name)? {
        Provider::Local => Ok(Local::look(name)?.describe()),
        Provider::Kind => kind::describe(name),
    }
}

/// The cluster that this kubeconfig leads to, if it is one that `up` made.
pub fn of_kubeconfig(kubeconfig: &Path) -> Result<Option<Cluster>> {
    for name in Folder::names()? {
        // A folder without a cluster is what an interrupted `up` or `down` left.
        let Ok(cluster) = find(&name) else { continue };
        if fs::canonicalize(&cluster.kubeconfig).ok() == fs::canonicalize(kubeconfig).ok() {
            return Ok(Some(cluster));
        }
    }
    Ok(None)
}

/// A program that `cargo build` made beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    image::built_program(name)
}

/// Powers a node off (everything on it dies at once, its Node object stays) or on again.
pub fn set_power(name: &str, node: &str, on: bool) -> Result<()> {
    match provider_of(name)? {
        Provider::Local => local::set_power(name, node, on),
        Provider::Kind => kind::set_power(node, on),
    }
}

/// Pulls the network cable out of a node, on which everything goes on, or plugs it in again.
pub fn set_cable(name: &str, node: &str, plugged: bool) -> Result<()> {
    let local = look_local(name, "no cable")?;
    let (index, _) = node::find(node)?;
    local.state.net.set_cable(index, plugged)
}

/// Makes all nodes ask this address, host and port, for the images of a registry.
pub fn redirect_pulls(name: &str, registry: &str, address: &str) -> Result<()> {
    node::redirect_pulls(&look_local(name, "no files")?, registry, address)
}

fn look_local(name: &str, lacks: &str) -> Result<Local> {
    refuse_kind(name, lacks)?;
    Local::look(name)
}

fn refuse_kind(name: &str, lacks: &str) -> Result<()> {
    if provider_of(name)? == Provider::Kind {
        bail!("a kind cluster has {lacks} of ours");
    }
    Ok(())
}

/// Starts or stops the registry that the nodes pull from.
pub fn set_registry(name: &str, on: bool) -> Result<()> {
    refuse_kind(name, "no registry")?;
    let mut local = Local::open(name)?;
    if on { registry::start(&mut local) } else { registry::stop(&mut local) }
}

/// Makes the operator's image from the `batchyard` program beside this one and gives it to the
/// nodes as `batchyard:dev`.
pub fn load_operator(name: &str) -> Result<()> {
    load_recipe(name, image::OPERATOR)
}

/// Makes the image of a folder of `tests/images` and gives it to the nodes.
pub fn load_recipe(name: &str, recipe: &str) -> Result<()> {
    match provider_of(name)? {
        Provider::Local => image::push_recipe(&Local::open(name)?, recipe),
        Provider::Kind => kind::load_recipe(name, recipe),
    }
}

/// Gives an image archive (of `docker save`, or an OCI layout as tar) to the nodes under a name.
pub fn load_image(name: &str, tag: &str, file: &Path) -> Result<()> {
    let archive = image::Archive { tag: tag.to_owned(), file: file.to_owned() };
    step(format!("load {tag}"), || match provider_of(name)? {
        Provider::Local => image::push(&Local::open(name)?, &archive),
        Provider::Kind => kind::load(name, file),
    })
}

/// The provider that can run here: kind where Docker answers, else local.
pub fn default_provider() -> Provider {
    if kind::missing().is_empty() { Provider::Kind } else { Provider::Local }
}

/// Who made the cluster with this name; a name without a cluster counts as local.
fn provider_of(name: &str) -> Result<Provider> {
    let made_by_kind = Folder::of(name)?.join(kind::KUBECONFIG).exists();
    Ok(if made_by_kind { Provider::Kind } else { Provider::Local })
}

/// The root of the repository that this program was built from.
pub fn repository() -> Result<PathBuf> {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    // Cargo says so for the package that it runs, which is another one when the tests call this.
    let root = Path::new(&manifest).ancestors().find(|folder| folder.join("xtask/Cargo.toml").exists());
    Ok(root.context("xtask lies in the repository")?.to_owned())
}
