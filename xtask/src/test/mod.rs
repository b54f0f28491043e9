//! `cargo xtask test`: everything that must hold, from formatting to real containers.

pub(crate) mod cargo;
mod chart;
mod deny;
mod levels;
mod report;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::report::Report;
use crate::interrupt;

/// Tests everything, or one level.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// What to test
    #[arg(default_value = "all")]
    level: Level,
    /// All cases of randomized tests instead of a sample, longer runs, and the termination table
    /// compared with a real cluster
    #[arg(long)]
    long: bool,
    /// Leave the clusters up
    #[arg(long)]
    keep: bool,
}

/// How near to a real cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Formatting, lints, docs, unit and doc tests, CRDs, chart, dependencies: no cluster
    Unit,
    /// A real API server without nodes
    Api,
    /// The operator under faults, on an API server without nodes
    Faults,
    /// Everything at once for minutes, on fake nodes
    Soak,
    /// The real Karpenter, which makes fake nodes
    Karpenter,
    /// Real containers on real nodes
    Nodes,
    /// All of these
    All,
}

/// The parts of a run that have a budget on a machine with two cores and empty caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Tools,
    Unit,
    Api,
    Nodes,
}

impl Part {
    const ALL: [Self; 4] = [Self::Tools, Self::Unit, Self::Api, Self::Nodes];

    fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Unit => "build, lint, unit tests",
            Self::Api => "API level",
            Self::Nodes => "real containers",
        }
    }

    fn budget(self) -> Duration {
        let minutes = match self {
            Self::Tools => 25,
            Self::Unit | Self::Api | Self::Nodes => 20,
        };
        Duration::from_secs(minutes * 60)
    }
}

/// Runs what is wanted, and ends with a summary. A part that fails does not keep the others from being tried.
pub fn run(args: &TestArgs) -> Result<()> {
    interrupt::watch()?;
    let wants = |level: Level| args.level == level || args.level == Level::All;
    let mut report = Report::default();
    let api = wants(Level::Api) || wants(Level::Faults);
    let (soak, karpenter) = (wants(Level::Soak), wants(Level::Karpenter));
    levels::tools(&mut report, wants(Level::Unit), [api, soak, karpenter, wants(Level::Nodes)]);
    if wants(Level::Unit) {
        levels::unit(&mut report, args.long);
    }
    if wants(Level::Api) {
        levels::api(&mut report, args.keep, args.long);
    }
    if wants(Level::Faults) {
        let whole = args.long || args.level == Level::Faults;
        levels::faults(&mut report, args.keep, args.long, whole);
    }
    if soak {
        levels::soak(&mut report, args.keep, args.long);
    }
    if karpenter {
        levels::karpenter(&mut report, args.keep);
    }
    if wants(Level::Nodes) {
        levels::nodes(&mut report, args.long, args.keep);
    }
    if args.level == Level::All {
        levels::rights(&mut report);
    }
    report.print();
    if interrupt::was_asked() {
        bail!("interrupted");
    }
    if report.has_failed() {
        bail!("not everything passed");
    }
    Ok(())
}
