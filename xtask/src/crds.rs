//! `cargo xtask crds`: the CRDs as files, from the types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cluster::repository;
use crate::process::output;

/// Writes crds/ from the types.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Change nothing; fail if a file is not what the types say
    #[arg(long)]
    check: bool,
}

impl CrdsArgs {
    /// Change nothing.
    pub fn check() -> Self {
        Self { check: true }
    }
}

/// Writes the files or checks them.
pub fn run(args: &CrdsArgs) -> Result<()> {
    let folder = repository()?.join("crds");
    let wanted = files(&printed()?)?;
    let stale = stale(&folder, &wanted)?;
    if stale.is_empty() {
        println!("crds/ holds {} files, all as the types say", wanted.len());
        return Ok(());
    }
    if args.check {
        bail!(
            "not what the types say: {}\nrun `cargo xtask crds` and commit what it writes",
            stale.join(", ")
        );
    }
    fs::create_dir_all(&folder)?;
    for name in &stale {
        let path = folder.join(name);
        match wanted.get(name) {
            Some(text) => fs::write(&path, text).with_context(|| path.display().to_string())?,
            None => fs::remove_file(&path).with_context(|| path.display().to_string())?,
        }
        println!("{} crds/{name}", if wanted.contains_key(name) { "wrote" } else { "removed" });
    }
    Ok(())
}

/// What `batchyard crds` prints.
fn printed() -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut program = Command::new(cargo);
    program.args(["run", "--quiet", "--package", "batchyard", "--bin", "batchyard", "--", "crds"]);
    output(program.current_dir(repository()?))
}

/// The files by their names: one for each document.
fn files(printed: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for document in format!("\n{printed}").split("\n---\n").map(str::trim).filter(|text| !text.is_empty()) {
        let line = document.lines().find_map(|line| line.strip_prefix("  name: "));
        let name = line.context("a document of `batchyard crds` has no name")?;
        let (plural, group) = name.split_once('.').with_context(|| format!("{name} has no group"))?;
        files.insert(format!("{group}_{plural}.yaml"), format!("{document}\n"));
    }
    Ok(files)
}

/// Files that are missing, differ, or should not be there.
fn stale(folder: &Path, wanted: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let differs =
        |name: &str, text: &str| fs::read_to_string(folder.join(name)).ok().as_deref() != Some(text);
    let differing = wanted.iter().filter(|(name, text)| differs(name, text)).map(|(name, _)| name.clone());
    let mut stale: Vec<String> = differing.collect();
    if folder.exists() {
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".yaml") && !wanted.contains_key(&name) {
                stale.push(name);
            }
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_is_a_file() {
        let printed = "---\n# Generated\napiVersion: v1\nmetadata:\n  name: jobs.example.com\n\n---\n# Generated\n\
                       metadata:\n  name: queues.example.com\nspec:\n  name: other\n\n";
        let files = files(printed).expect("two files");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["example.com_jobs.yaml", "example.com_queues.yaml"]);
        assert!(files["example.com_jobs.yaml"].starts_with("# Generated\napiVersion"));
        assert!(files["example.com_queues.yaml"].ends_with("  name: other\n"));
    }
}
