//! `cargo xtask bench`: Batchyard beside bare pods and `batch/v1` Jobs, one after another in one run, on fake
//! nodes. What counts are ratios: both sides had the same machine, the same API server and the same limits.

mod contender;
mod meter;
mod round;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::contender::Contender;
use crate::round::{Outcome, Shape, play};

/// Batchyard beside its peers, on the cluster of BATCHYARD_TEST_KUBECONFIG.
#[derive(Debug, Parser)]
struct Args {
    /// Jobs that are submitted at once
    #[arg(long, default_value_t = 2_000)]
    jobs: usize,
    /// Jobs that wait for the room of 2,000; 0 leaves this out
    #[arg(long, default_value_t = 0)]
    backlog: usize,
    /// Where the numbers are written as JSON
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// The queues of the second shape.
const QUEUES: usize = 20;
/// How many jobs of one vCPU run at a time at most, as long as there are so many nodes.
const SLOTS: usize = 2_000;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let at_once = Shape { jobs: args.jobs, queues: 1 };
    let mut outcomes = Vec::new();
    for contender in Contender::ALL {
        outcomes.push(play(contender, at_once).await);
    }
    let many_queues = play(Contender::Batchyard, Shape { jobs: args.jobs, queues: QUEUES }).await;
    let backlog = match args.backlog {
        0 => None,
        jobs => Some(play(Contender::Batchyard, Shape { jobs, queues: 1 }).await),
    };
    println!("{}", table::machine());
    println!("{}", table::comparison(&format!("{} jobs at once", args.jobs), &outcomes));
    let title = format!("{} jobs in {QUEUES} queues", args.jobs);
    println!("{}", table::comparison(&title, &beside_pods(&outcomes, &many_queues)));
    if let Some(backlog) = &backlog {
        let title = format!("{} jobs for {SLOTS} slots", args.backlog);
        println!("{}", table::comparison(&title, &beside_pods(&outcomes, backlog)));
    }
    println!("{}", table::goals(&outcomes, backlog.as_ref()));
    if let Some(path) = args.json {
        let rounds: Vec<&Outcome> = outcomes.iter().chain([&many_queues]).chain(&backlog).collect();
        let text = json!({"machine": table::machine(), "rounds": rounds});
        if let Err(error) = std::fs::write(&path, format!("{text:#}\n")) {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn beside_pods(outcomes: &[Outcome], other: &Outcome) -> Vec<Outcome> {
    outcomes.iter().take(1).chain([other]).cloned().collect()
}
