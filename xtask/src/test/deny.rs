//! cargo-deny: licences, sources, bans and known vulnerabilities of what we depend on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::cargo::{cargo, run};
use super::report::Counts;
use crate::cluster;
use crate::process::output;
use crate::step::step;

/// The version that is used; a new one may know new rules.
const VERSION: &str = "0.20.2";

fn folder() -> Result<PathBuf> {
    Ok(cluster::tools_folder()?.join(format!("cargo-deny-{VERSION}")))
}

/// Builds cargo-deny unless that was done before.
pub(super) fn build() -> Result<Counts> {
    let folder = folder()?;
    if folder.exists() {
        return Ok(Counts::one());
    }
    // With a name of its own, so that two runs do not disturb each other.
    let building = cluster::tools_folder()?.join(format!("cargo-deny-{}.building", std::process::id()));
    let mut install = cargo(&format!("install --locked --quiet cargo-deny@{VERSION} --root"))?;
    install.arg(&building).env("CARGO_TARGET_DIR", building.join("target"));
    step("build cargo-deny", || run(&mut install))?;
    fs::remove_dir_all(building.join("target"))?;
    if fs::rename(&building, &folder).is_err() {
        // Another run was faster.
        fs::remove_dir_all(&building)?;
    }
    ensure!(folder.join("bin/cargo-deny").exists(), "{} holds no cargo-deny", folder.display());
    Ok(Counts::one())
}

/// Checks what can be checked with what is at hand; advisories need their database.
pub(super) fn check() -> Result<Counts> {
    let mut counts = Counts::default();
    run(deny("check licenses bans sources")?.arg("--hide-inclusion-graph"))?;
    counts.add(Counts::one());
    if output(&mut deny("fetch db")?).is_err() {
        counts.add(Counts::skipped("cargo-deny's advisories: their database is out of reach from here"));
        return Ok(counts);
    }
    run(&mut deny("check advisories")?)?;
    counts.add(Counts::one());
    Ok(counts)
}

fn deny(arguments: &str) -> Result<Command> {
    let mut command = Command::new(folder()?.join("bin/cargo-deny"));
    command.args(arguments.split_whitespace()).current_dir(cluster::repository()?);
    Ok(command)
}
