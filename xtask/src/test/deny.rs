//! cargo-deny: licences, sources, bans and known vulnerabilities of what we depend on.

use std::process::Command;

use anyhow::Result;

use super::cargo::run;
use super::report::Counts;
use crate::cluster;
use crate::crate_tool::CrateTool;
use crate::process::output;

pub(super) const TOOL: CrateTool = CrateTool { name: "cargo-deny", version: "0.20.2" };

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
    let mut command = Command::new(TOOL.program()?);
    command.args(arguments.split_whitespace()).current_dir(cluster::repository()?);
    Ok(command)
}
