//! `cargo xtask`: what people run.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, capture, cluster, crds, demo, faults, package, sbom, test};

/// What people run in this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A real Kubernetes on this machine, with or without Docker
    Cluster(cluster::cli::ClusterArgs),
    /// The retry example on a real cluster, with nodes drained and switched off
    Demo(demo::DemoArgs),
    /// Everything that must hold: lints, unit tests, tests on an API server and on real nodes
    Test(test::TestArgs),
    /// How fast, beside bare pods and batch/v1 Jobs, on fake nodes
    Bench(bench::BenchArgs),
    /// Which cases of the fault list are covered, and by which tests
    Faults,
    /// Compare the fixtures of the termination table with a real cluster, or write them
    Capture(capture::CaptureArgs),
    /// Write crds/ from the types, or check it
    Crds(crds::CrdsArgs),
    /// The kubectl plugin as an archive, and its manifest for krew
    Package(package::PackageArgs),
    /// The crates in what is shipped, in the format of CycloneDX
    Sbom(sbom::SbomArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Cluster(args) => cluster::cli::run(args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Faults => faults::run(),
        Task::Capture(args) => capture::run(&args),
        Task::Crds(args) => crds::run(&args),
        Task::Package(args) => package::run(&args),
        Task::Sbom(args) => sbom::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
