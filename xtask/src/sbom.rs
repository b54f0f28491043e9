//! `cargo xtask sbom`: what the programs that we ship are made of, in the format of CycloneDX (<https://cyclonedx.org>). The
//! operator's image holds the same: `Dockerfile`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::cluster::repository;
use crate::crate_tool::CrateTool;
use crate::process::{command, output};
use crate::step::{say, step};

/// The `Dockerfile` has the same version; the unit tests compare them.
pub(crate) const TOOL: CrateTool = CrateTool { name: "cargo-cyclonedx", version: "0.5.9" };

/// What everything is built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What we ship.
const PROGRAMS: [&str; 2] = ["batchyard", "kubectl-batch"];

/// A list of the crates in the operator's image, and one of those in kubectl batch.
#[derive(Debug, Args)]
pub struct SbomArgs {
    /// Where to write
    #[arg(long, value_name = "FOLDER", default_value = "target/package")]
    out: PathBuf,
}

/// Writes both lists.
pub fn run(args: &SbomArgs) -> Result<()> {
    TOOL.build()?;
    let folder = repository()?.join(&args.out);
    for file in step("list what is in the programs", || write(&folder))? {
        say(format!("wrote {}", file.display()));
    }
    Ok(())
}

/// Writes the lists into a folder, and looks whether every crate is in them.
pub(crate) fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    let root = repository()?;
    fs::create_dir_all(folder)?;
    let mut list = command(
        TOOL.program()?,
        [
            "cyclonedx",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--describe",
            "binaries",
            "--no-build-deps",
        ],
    );
    list.args(["--quiet", "--target", TARGET, "--manifest-path"]).arg(root.join("Cargo.toml"));
    output(list.current_dir(&root))?;
    // It writes beside each manifest, of each program there.
    let written = ["batchyard", "kubectl-batch", "observer", "xtask/xtask"];
    let written = written.map(|program| (program, root.join(format!("{program}_bin.cdx.json"))));
    let mut lists = Vec::new();
    for (program, file) in written {
        if PROGRAMS.contains(&program) {
            let kept = folder.join(format!("{program}.cdx.json"));
            fs::write(&kept, fs::read(&file).with_context(|| file.display().to_string())?)?;
            lists.push(kept);
        }
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    for list in &lists {
        is_complete(list)?;
    }
    Ok(lists)
}

/// Whether a list has every crate that Cargo builds into the programs.
fn is_complete(list: &Path) -> Result<()> {
    let text = fs::read_to_string(list)?;
    let document: Value = serde_json::from_str(&text).with_context(|| list.display().to_string())?;
    let listed: BTreeSet<String> = document["components"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{} v{}", word(&one["name"]), word(&one["version"])))
        .collect();
    let missing: Vec<String> = built_in()?.into_iter().filter(|crate_| !listed.contains(crate_)).collect();
    ensure!(missing.is_empty(), "{} lacks {}", list.display(), missing.join(", "));
    Ok(())
}

/// The crates that Cargo builds into the programs, but for that of the programs.
fn built_in() -> Result<BTreeSet<String>> {
    let mut tree =
        command("cargo", ["tree", "--edges", "normal", "--package", "batchyard", "--prefix", "none"]);
    tree.args(["--target", TARGET, "--format", "{p}"]).current_dir(repository()?);
    let lines = output(&mut tree)?;
    // What follows is a path, or what kind of crate it is.
    let crates = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    });
    Ok(crates.filter(|crate_| !crate_.starts_with("batchyard v")).collect())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_lists_what_is_in_it_by_the_same_program() {
        let recipe = include_str!("../../Dockerfile");
        assert!(recipe.contains(&format!(" {}@{}", TOOL.name, TOOL.version)), "not {TOOL:?}: {recipe}");
    }

    #[test]
    fn a_list_that_lacks_a_crate_is_refused() {
        let list = std::env::temp_dir().join(format!("{}.cdx.json", std::process::id()));
        fs::write(&list, r#"{"components": [{"name": "tokio", "version": "1"}]}"#)
            .expect("it can be written");
        let error = is_complete(&list).expect_err("a list without kube").to_string();
        fs::remove_file(&list).expect("it is there");
        assert!(error.contains("kube v") && !error.contains("batchyard v"), "{error}");
    }
}
