//! The kind provider: the same nodes as containers, from `kind-config.yaml`.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::state::Folder;
use super::tools::Tools;
use super::{Cluster, Options, Profile, Provider, image, repository};
use crate::process::{command, on_path, output, sh};
use crate::step::step;

/// The file in a cluster's folder that says that kind made it.
pub(crate) const KUBECONFIG: &str = "kind.kubeconfig";

/// What is missing to use kind, in words.
pub(crate) fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !on_path("docker") {
        missing.push("docker on the PATH");
    } else if sh("docker", "info --format {{.ServerVersion}}").is_err() {
        missing.push("a running Docker daemon (`docker info` fails)");
    }
    for program in ["kind", "kubectl", "helm"] {
        if !on_path(program) {
            missing.push(match program {
                "kind" => "kind on the PATH (https://kind.sigs.k8s.io)",
                "kubectl" => "kubectl on the PATH",
                _ => "helm on the PATH",
            });
        }
    }
    missing
}

fn require() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("the kind provider cannot run here. Missing:\n  - {}", missing.join("\n  - "));
}

/// Creates the cluster unless it exists.
pub(crate) fn up(options: &Options) -> Result<Cluster> {
    require()?;
    if options.profile != Profile::Full || options.kwok_nodes > 0 || options.karpenter {
        bail!("the kind provider has the full profile without fake nodes only; use --provider local");
    }
    let (folder, name) = (Folder::of(&options.name)?, options.name.as_str());
    let _lock = folder.lock()?;
    fs::create_dir_all(folder.path())?;
    let exists = sh("kind", "get clusters")?.lines().any(|line| line == name);
    if !exists {
        let config = repository()?.join("kind-config.yaml");
        let mut create = command("kind", ["create", "cluster", "--wait", "180s", "--name", name]);
        create.arg("--config").arg(config).arg("--kubeconfig").arg(folder.join(KUBECONFIG));
        step(format!("kind create cluster {name}"), || output(&mut create))?;
        let cluster = describe(name)?;
        // The operator lives on the control plane's node, as it does on a small real cluster.
        let taint = ["taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-"];
        // It fails on the workers, which have no such taint.
        let _ = output(&mut cluster.kubectl(taint));
    }
    for recipe in ["alpine", "random-ec"] {
        load_recipe(name, recipe)?;
    }
    describe(name)
}

/// Deletes the cluster.
pub(crate) fn down(name: &str) -> Result<()> {
    require()?;
    let folder = Folder::of(name)?;
    let _lock = folder.lock()?;
    step(format!("kind delete cluster {name}"), || sh("kind", &format!("delete cluster --name {name}")))?;
    fs::remove_dir_all(folder.path())?;
    Ok(())
}

/// What callers need to know to use the cluster. kind names the nodes itself.
pub(crate) fn describe(name: &str) -> Result<Cluster> {
    let folder = Folder::of(name)?;
    Ok(Cluster {
        name: name.to_owned(),
        provider: Provider::Kind,
        kubeconfig: folder.join(KUBECONFIG),
        kubectl: "kubectl".into(),
        helm: Some("helm".into()),
        registry: None,
        nodes: ["control-plane", "worker", "worker2"].map(|role| format!("{name}-{role}")).to_vec(),
        audit_log: None,
        path: folder.join("bin"),
    })
}

/// A node is a container: killing it kills all that runs on it, its Node object stays.
pub(crate) fn set_power(node: &str, on: bool) -> Result<()> {
    let verb = if on { "start" } else { "kill" };
    step(format!("docker {verb} {node}"), || sh("docker", &format!("{verb} {node}")))?;
    Ok(())
}

/// Makes the image of a recipe and loads it, with a program that Go builds if it has one.
pub(crate) fn load_recipe(name: &str, recipe: &str) -> Result<()> {
    let tools = match image::tool(recipe)? {
        Some(tool) => Tools::build(&repository()?, &[&tool])?,
        None => Tools::none()?,
    };
    let image = image::build(&tools, recipe, &Folder::of(name)?.join("images"))?;
    image
        .archives
        .iter()
        .try_for_each(|archive| step(format!("load {}", archive.tag), || load(name, &archive.file)))
}

/// Loads an archive into every node.
pub(crate) fn load(name: &str, file: &Path) -> Result<()> {
    let mut load = command("kind", ["load", "image-archive", "--name", name]);
    output(load.arg(file))?;
    Ok(())
}
