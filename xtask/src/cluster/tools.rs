//! The programs a cluster is made of, built from source by the Go tool chain and kept.
//!
//! Each lies in a folder of the cache whose name holds its version and a hash of everything that
//! goes into it. A folder appears by renaming, so one that exists is complete: an interrupted
//! build starts again with what Go's own build cache has, a finished one is never repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Profile;
use super::state::{Lock, cache_root};
use crate::process::{output, sha256};
use crate::step::step;

/// The version of Kubernetes; the same as in `tests/cluster/go.mod`.
pub(crate) const KUBERNETES: &str = "v1.36.3";

/// Where the source of a tool comes from.
enum Source {
    /// Packages of a published module: module path, version, packages in it (empty: its root), build tags.
    Published(&'static str, &'static str, &'static [&'static str], &'static str),
    /// A package of our own module in `tests/cluster`: its folder, the version it says it has.
    Own(&'static str, &'static str),
}

/// One row of the table below.
struct Tool {
    name: &'static str,
    source: Source,
}

const NO_EXOTIC_SNAPSHOTTERS: &str = "no_btrfs,no_devmapper,no_zfs";

/// Karpenter whose cloud is kwok: module and version.
pub(crate) const KARPENTER: (&str, &str) = ("sigs.k8s.io/karpenter", "v1.13.0");
/// Karpenter for AWS, of which only the kinds are used. Its older versions are not in Go's checksum
/// database.
pub(crate) const KARPENTER_AWS: (&str, &str) = ("github.com/aws/karpenter-provider-aws", "v1.14.0");

/// To add a tool, add a row. The name is the folder's. A program that is its tool's only one is called
/// as the tool: both kwok and Karpenter's cloud of kwok nodes are packages `kwok`. Others keep the
/// names of their packages.
const TOOLS: &[Tool] = &[
    Tool { name: "pause", source: Source::Own("pause", "v1") },
    Tool { name: "ring", source: Source::Own("ring", "v1") },
    Tool { name: "devices", source: Source::Own("devices", "v1") },
    Tool { name: "session", source: Source::Own("session", "v1") },
    Tool { name: "kubernetes", source: Source::Own(".", KUBERNETES) },
    Tool {
        name: "containerd",
        source: Source::Published(
            "github.com/containerd/containerd/v2",
            "v2.4.2",
            &["cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr"],
            NO_EXOTIC_SNAPSHOTTERS,
        ),
    },
    Tool {
        name: "registry",
        source: Source::Published("github.com/distribution/distribution/v3", "v3.0.0", &["cmd/registry"], ""),
    },
    Tool {
        name: "crane",
        source: Source::Published("github.com/google/go-containerregistry", "v0.22.1", &["cmd/crane"], ""),
    },
    Tool { name: "coredns", source: Source::Published("github.com/coredns/coredns", "v1.14.3", &[""], "") },
    Tool { name: "helm", source: Source::Published("helm.sh/helm/v4", "v4.3.1", &["cmd/helm"], "") },
    Tool { name: "kwok", source: Source::Published("sigs.k8s.io/kwok", "v0.8.0", &["cmd/kwok"], "") },
    Tool { name: "karpenter", source: Source::Published(KARPENTER.0, KARPENTER.1, &["kwok"], "") },
];

/// The tools that a cluster needs: those for fake nodes take minutes to build, so they are built
/// only when somebody wants fake nodes.
pub(crate) fn needed(profile: Profile, kwok_nodes: u32, karpenter: bool) -> Vec<&'static str> {
    let wanted = |tool: &&Tool| match (profile, tool.name) {
        (_, "kwok") => kwok_nodes > 0 || karpenter,
        (_, "karpenter") => karpenter,
        (Profile::Api, name) => name == "kubernetes",
        (Profile::Full, _) => true,
    };
    TOOLS.iter().filter(wanted).map(|tool| tool.name).collect()
}

/// The tools, built.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    root: PathBuf,
    folders: Vec<String>,
}

impl Tools {
    /// Builds those of the named tools that are not in the cache yet.
    pub(crate) fn build(repository: &Path, names: &[&str]) -> Result<Self> {
        let root = cache_root()?.join("tools");
        let module = repository.join("tests/cluster");
        let mut folders = Vec::new();
        for tool in TOOLS.iter().filter(|tool| names.contains(&tool.name)) {
            let folder = tool.folder(&module)?;
            if !root.join(&folder).exists() {
                let _lock = Lock::acquire(root.with_extension("lock"))?;
                if !root.join(&folder).exists() {
                    step(format!("build {folder}"), || tool.build(&module, &root, &folder))?;
                }
            }
            folders.push(folder);
        }
        Ok(Self { root, folders })
    }

    /// No tools, for providers that bring their own programs.
    pub(crate) fn none() -> Result<Self> {
        Ok(Self { root: cache_root()?.join("tools"), folders: Vec::new() })
    }

    /// Where the folders of all tools are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A program's path.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        self.folders
            .iter()
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.exists())
            .with_context(|| format!("no tool has a program {name}"))
    }

    /// All folders as a search path, as seen where `root` is mounted at `mount_point`.
    pub(crate) fn search_path(&self, mount_point: &str) -> String {
        self.folders.iter().map(|folder| format!("{mount_point}/{folder}")).collect::<Vec<_>>().join(":")
    }
}

impl Tool {
    /// `<name>-<version>-<hash of its source and of how it is built>`.
    fn folder(&self, module: &Path) -> Result<String> {
        let (version, source) = match self.source {
            Source::Published(path, version, packages, tags) => {
                (version, [path, version, &packages.join(","), tags].join("\n").into_bytes())
            }
            Source::Own(package, version) => {
                let mut source = Vec::new();
                for file in ["go.mod", "go.sum", &format!("{package}/main.go")] {
                    source
                        .extend(fs::read(module.join(file)).with_context(|| format!("cannot read {file}"))?);
                }
                (version, source)
            }
        };
        Ok(format!("{}-{version}-{}", self.name, &sha256(&source)?[..8]))
    }

    fn build(&self, module: &Path, root: &Path, folder: &str) -> Result<()> {
        let temporary = root.join(format!("{folder}.building"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)?;
        let mut go = Command::new("go");
        // Without cgo no C compiler is needed and the programs run in any container.
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off");
        match self.source {
            Source::Published(path, version, packages, tags) => {
                go.env("GOBIN", &temporary).current_dir(root);
                go.args(["install", "-trimpath", "-tags", tags, "-ldflags", "-s -w"]);
                go.args(packages.iter().map(|package| match *package {
                    "" => format!("{path}@{version}"),
                    package => format!("{path}/{package}@{version}"),
                }));
            }
            Source::Own(package, _) => {
                go.current_dir(module).arg("build").arg("-o").arg(temporary.join(self.name));
                go.args(["-trimpath", "-ldflags", &kubernetes_flags(), &format!("./{package}")]);
            }
        }
        output(&mut go)?;
        if let Source::Published(_, _, [package], _) = self.source
            && let Some(built) = package.rsplit('/').next().filter(|built| !["", self.name].contains(built))
        {
            fs::rename(temporary.join(built), temporary.join(self.name))?;
        }
        fs::rename(&temporary, root.join(folder))?;
        Ok(())
    }
}

/// The folder with the source of a published module.
pub(crate) fn source((module, version): (&str, &str)) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.env("GOFLAGS", "").env("GOWORK", "off").current_dir(std::env::temp_dir());
    let answer = output(go.args(["mod", "download", "-json"]).arg(format!("{module}@{version}")))?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let folder = answer["Dir"].as_str().with_context(|| format!("Go has no source of {module}"))?;
    Ok(folder.into())
}

/// Kubernetes learns its version at link time only.
fn kubernetes_flags() -> String {
    let mut parts = KUBERNETES.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = "k8s.io/component-base/version.git";
    format!("-s -w -X {version}Version={KUBERNETES} -X {version}Major={major} -X {version}Minor={minor}")
}
