//! `cargo xtask bench`: how fast, beside bare pods and `batch/v1` Jobs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cluster::{self, Options};
use crate::interrupt;
use crate::step::step;
use crate::test::cargo::{cargo, on, run as run_cargo};

/// Enough for 2,000 jobs of one vCPU at a time: 35 on each.
const NODES: u32 = 60;

/// What `cargo xtask bench` can be told.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Jobs that are submitted at once; 0 leaves out whatever is compared with others
    #[arg(long, default_value_t = 2_000)]
    jobs: usize,
    /// Jobs that wait behind others in 1,000 shares; making 50,000 takes some minutes
    #[arg(long, default_value_t = 0)]
    backlog: usize,
    /// Children of the larger arrays; 0 leaves them out
    #[arg(long, default_value_t = 10_000)]
    children: usize,
    /// Jobs that are submitted by the AWS API, and as many that are created as objects; 0 leaves them out
    #[arg(long, default_value_t = 2_000)]
    submissions: usize,
    /// Jobs that another team lets wait while one team's single jobs are timed, beside other mischief; 0 leaves it out
    #[arg(long, default_value_t = 0)]
    crowd: usize,
    /// Where the numbers are written as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
    /// Measure a debug build: for work on the bench itself, since its numbers say little
    #[arg(long)]
    debug: bool,
}

/// Builds what is shipped, makes a cluster of fake nodes, and lets all of them run the same jobs.
pub fn run(args: &BenchArgs) -> Result<()> {
    interrupt::watch()?;
    let options = Options { name: "batchyard-bench".to_owned(), kwok_nodes: NODES, ..Options::fake() };
    let profile = if args.debug { "" } else { "--release" };
    let test = format!("test {profile} --package batchyard --test bench");
    step("build what is measured", || run_cargo(&mut cargo(&format!("{test} --no-run"))?))?;
    let measured = cluster::up(&options).and_then(|cluster| {
        let mut command = cargo(&test)?;
        command.arg("--").args(["--jobs", &args.jobs.to_string(), "--backlog", &args.backlog.to_string()]);
        command.args(["--children", &args.children.to_string()]);
        command.args(["--submissions", &args.submissions.to_string(), "--crowd", &args.crowd.to_string()]);
        run_cargo(on(command.arg("--json").arg(&args.json), &cluster)?)
    });
    interrupt::clean_up_begins();
    let cleaned = cluster::down(&options.name);
    measured.and(cleaned)
}
