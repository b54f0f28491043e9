//! The command line of `cargo xtask cluster`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::state::Folder;
use super::{DEFAULT_NAME, Options, Profile, Provider, status};
use crate::step::say;

/// A real Kubernetes on this machine.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Which cluster; several may stand side by side. The default depends on the profile:
    /// "batchyard" or "batchyard-api"
    #[arg(long, global = true)]
    name: Option<String>,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make a cluster, or what is missing of it
    Up(UpArgs),
    /// Remove a cluster, and check that nothing of it is left
    Down {
        /// Remove every cluster
        #[arg(long)]
        all: bool,
    },
    /// Show what runs, where, and how it is
    Status,
    /// Print shell lines that point kubectl and helm to the cluster: eval "$(cargo xtask cluster env)"
    Env,
    /// Give images to the nodes
    LoadImage {
        /// An image archive and the name it is to have
        #[arg(value_name = "NAME=TARFILE")]
        images: Vec<String>,
        /// Make the operator's image, batchyard:dev, from the program that `cargo build` made
        #[arg(long)]
        operator: bool,
        /// Make the images of these folders of tests/images
        #[arg(long, value_name = "FOLDER")]
        recipe: Vec<String>,
    },
    /// Power a node off or on
    Node {
        power: Switch,
        /// The node's name
        node: String,
    },
    /// Stop or start the registry that nodes pull from
    Registry {
        /// start or stop
        action: RegistryAction,
    },
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Who runs it [default: kind where Docker and kind are there, else local]
    #[arg(long)]
    provider: Option<Provider>,
    /// How much of a cluster
    #[arg(long, default_value = "full")]
    profile: Profile,
    /// How many fake nodes (kwok) besides the real ones
    #[arg(long, default_value_t = 0)]
    kwok_nodes: u32,
    /// The real Karpenter, which makes fake nodes for pods that need some
    #[arg(long)]
    karpenter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// Everything on the node dies at once; its Node object stays
    Off,
    /// The node boots again
    On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RegistryAction {
    Start,
    Stop,
}

/// Runs the command.
pub fn run(args: ClusterArgs) -> Result<()> {
    let name = args.name.as_deref().unwrap_or(DEFAULT_NAME);
    match args.command {
        ClusterCommand::Up(up) => run_up(args.name, &up),
        ClusterCommand::Down { all: true } => Folder::names()?.iter().try_for_each(|name| super::down(name)),
        ClusterCommand::Down { all: false } => super::down(name),
        ClusterCommand::Status => status::print(name),
        ClusterCommand::Env => status::print_env(name),
        ClusterCommand::LoadImage { images, operator, recipe } => load(name, &images, operator, &recipe),
        ClusterCommand::Node { power, node } => super::set_power(name, &node, power == Switch::On),
        ClusterCommand::Registry { action } => super::set_registry(name, action == RegistryAction::Start),
    }
}

fn run_up(name: Option<String>, up: &UpArgs) -> Result<()> {
    let defaults = match up.profile {
        Profile::Full => Options::full(),
        Profile::Api => Options::api(),
    };
    let options = Options {
        name: name.unwrap_or(defaults.name),
        provider: up.provider.unwrap_or(defaults.provider),
        profile: up.profile,
        kwok_nodes: up.kwok_nodes,
        karpenter: up.karpenter,
    };
    let cluster = super::up(&options)?;
    say(format!("{} is up; kubeconfig: {}", cluster.name, cluster.kubeconfig.display()));
    say(format!("eval \"$(cargo xtask cluster env --name {})\" points kubectl and helm to it", cluster.name));
    Ok(())
}

fn load(name: &str, images: &[String], operator: bool, recipes: &[String]) -> Result<()> {
    for recipe in recipes {
        super::load_recipe(name, recipe)?;
    }
    if operator {
        super::load_operator(name)?;
    }
    for image in images {
        let (tag, file) = image.split_once('=').with_context(|| format!("{image:?} is not NAME=TARFILE"))?;
        super::load_image(name, tag, &PathBuf::from(file))?;
    }
    Ok(())
}
