//! Control groups of the nodes, in version 1 (one hierarchy per controller) and version 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::wait_until;

/// The mount points of this machine's cgroup hierarchies: one in version 2, many in version 1.
fn hierarchies() -> Result<Vec<(PathBuf, bool)>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let unified = *fields.get(2)? == "cgroup2";
            (unified || fields[2] == "cgroup").then(|| (PathBuf::from(fields[1]), unified))
        })
        .collect())
}

/// Makes a group and its parents in every hierarchy.
pub(crate) fn make(path: &str) -> Result<()> {
    for (root, unified) in hierarchies()? {
        let mut folder = root;
        for part in path.trim_start_matches('/').split('/') {
            if unified {
                hand_down_controllers(&folder)?;
            }
            folder.push(part);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if unified {
            hand_down_controllers(&folder)?;
        }
    }
    Ok(())
}

/// In version 2 a group's children get only the controllers that it hands down.
fn hand_down_controllers(folder: &Path) -> Result<()> {
    let available = fs::read_to_string(folder.join("cgroup.controllers"))?;
    for controller in available.split_whitespace() {
        fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).with_context(|| {
            format!("cannot hand the controller {controller} down in {}", folder.display())
        })?;
    }
    Ok(())
}

/// Removes the groups of a whole cluster, children first. Returns those that would not go.
pub(crate) fn remove(cgroup: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for (root, _) in hierarchies()? {
        let folder = root.join(cgroup.trim_start_matches('/'));
        if folder.exists() && wait_until("", Duration::from_secs(10), || Ok(remove_tree(&folder))).is_err() {
            left.push(format!("cgroup: {}", folder.display()));
        }
        // The parent is shared by all clusters; it goes with the last one.
        if let Some(parent) = folder.parent().filter(|parent| *parent != root) {
            let _ = fs::remove_dir(parent);
        }
    }
    Ok(left)
}

fn remove_tree(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return !folder.exists() };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}
