//! What is remembered about a cluster between two calls, and where everything lies.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Profile;
use super::network::Net;
use crate::process::Process;
use crate::step::say;

/// Every process of a cluster carries its name in this variable, so that `down` finds even one
/// whose start could not be written down any more.
pub(crate) const MARK: &str = "BATCHYARD_CLUSTER";

/// The folder for everything that is worth keeping between clusters: `$BATCHYARD_CACHE`, else
/// the user's cache folder.
pub(crate) fn cache_root() -> Result<PathBuf> {
    if let Some(root) = std::env::var_os("BATCHYARD_CACHE") {
        return Ok(root.into());
    }
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        return Ok(Path::new(&cache).join("batchyard"));
    }
    let home = std::env::home_dir().context("neither BATCHYARD_CACHE nor HOME is set")?;
    Ok(home.join(".cache/batchyard"))
}

/// The recorded state of one cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The name it was made with.
    pub(crate) name: String,
    /// What it consists of.
    pub(crate) profile: Profile,
    /// How many fake nodes it has.
    pub(crate) kwok_nodes: u32,
    /// Whether Karpenter makes more of them.
    #[serde(default)]
    pub(crate) karpenter: bool,
    /// Its addresses.
    pub(crate) net: Net,
    /// Its processes by component; a node is one process, the parent of all others on it.
    pub(crate) processes: BTreeMap<String, Process>,
}

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of the cluster with this name, which need not exist.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let well_formed = !name.is_empty()
            && name.len() <= 40
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !well_formed {
            bail!("{name:?} is no cluster name: use lower case letters, digits and dashes, at most 40");
        }
        Ok(Self(cache_root()?.join("clusters").join(name)))
    }

    /// Makes other commands that choose addresses wait until the returned lock is dropped.
    pub(crate) fn lock_addresses() -> Result<Lock> {
        Lock::acquire(cache_root()?.join("clusters/addresses.lock"))
    }

    /// The names of all clusters that have a folder.
    pub(crate) fn names() -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(cache_root()?.join("clusters")) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// A path inside the folder.
    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The log of a component of the control plane.
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.join("log").join(format!("{component}.log"))
    }

    /// Makes other commands that change the cluster wait until the returned lock is dropped.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::acquire(self.0.with_extension("lock"))
    }

    /// The recorded state, if the cluster exists.
    pub(crate) fn load(&self) -> Result<Option<State>> {
        let path = self.join("state.json");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let state = serde_json::from_str(&text)
            .with_context(|| format!("{} is not readable; `cluster down` removes it", path.display()))?;
        Ok(Some(state))
    }

    /// The recorded state of a cluster that must exist.
    pub(crate) fn load_existing(&self) -> Result<State> {
        self.load()?.with_context(|| {
            format!("there is no cluster in {}; `cargo xtask cluster up` makes one", self.0.display())
        })
    }

    /// Writes the state so that a reader sees the old or the new one, never a half.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        fs::create_dir_all(&self.0)?;
        write_atomically(&self.join("state.json"), &serde_json::to_string_pretty(state)?)
    }
}

/// The right to change something that several commands may want to change at once.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits, if it must, and says so.
    pub(crate) fn acquire(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(path.parent().context("a lock lies in a folder")?)?;
        loop {
            let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            if file.try_lock().is_err() {
                say(format!("another command holds {}; waiting for it to finish", path.display()));
                file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            }
            // Whoever held it before has removed the file; what counts is the one that is there.
            let there = fs::metadata(&path).map(|file| file.ino()).ok();
            if there == Some(file.metadata()?.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Should it stay, the next command locks it all the same.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a file under another name first and then renames it.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}
