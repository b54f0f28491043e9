//! What shells and packages need: completions and a manual page.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::error::{Error, Kind, Result};
use super::{Args, print};

/// Which shell.
#[derive(clap::Args, Debug)]
pub(super) struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

/// As the program is called itself; kubectl asks `kubectl_complete-batch`, which docs/kubectl-batch.md has.
const PROGRAM: &str = "kubectl-batch";

pub(super) fn completion(args: &CompletionArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command().bin_name(PROGRAM), PROGRAM, &mut script);
    print(&String::from_utf8_lossy(&script));
    Error::done()
}

pub(super) fn manual() -> Result<ExitCode> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(Args::command()).render(&mut page);
    written.map_err(|error| Error::new(Kind::Failed, format!("cannot print: {error}")))?;
    print(&String::from_utf8_lossy(&page));
    Error::done()
}
