//! Programs for Cargo that come as crates, built once and kept beside the tools of clusters.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cluster;
use crate::step::step;
use crate::test::cargo::{cargo, run};

/// A program in the version that is used; a new one may know new rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrateTool {
    /// Of the crate, and of the program.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl CrateTool {
    /// Where the program is, once it was built.
    pub(crate) fn program(self) -> Result<PathBuf> {
        Ok(self.folder()?.join("bin").join(self.name))
    }

    fn folder(self) -> Result<PathBuf> {
        Ok(cluster::tools_folder()?.join(format!("{}-{}", self.name, self.version)))
    }

    /// Builds it unless that was done before.
    pub(crate) fn build(self) -> Result<()> {
        let (folder, Self { name, version }) = (self.folder()?, self);
        if folder.exists() {
            return Ok(());
        }
        // With a name of its own, so that two runs do not disturb each other.
        let building = cluster::tools_folder()?.join(format!("{name}-{}.building", std::process::id()));
        let mut install = cargo(&format!("install --locked --quiet {name}@{version} --root"))?;
        install.arg(&building).env("CARGO_TARGET_DIR", building.join("target"));
        step(format!("build {name}"), || run(&mut install))?;
        fs::remove_dir_all(building.join("target"))?;
        if fs::rename(&building, &folder).is_err() {
            // Another run was faster.
            fs::remove_dir_all(&building)?;
        }
        ensure!(self.program()?.exists(), "{} holds no {name}", folder.display());
        Ok(())
    }
}
