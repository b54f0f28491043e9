//! `cargo xtask bench`: Batchyard beside bare pods and `batch/v1` Jobs, one after another in one run, on fake
//! nodes. What counts are ratios: both sides had the same machine, the same API server and the same limits.

#[path = "../api/gateway/door.rs"]
#[expect(dead_code, reason = "most of it is for the tests of the door")]
mod door;
#[path = "../api/gateway/relay.rs"]
#[expect(dead_code, reason = "it is for the tests of the door")]
mod relay;

mod contender;
mod fairness;
mod meter;
mod round;
mod submissions;
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
    /// Jobs that are submitted at once; 0 leaves out whatever is compared with others
    #[arg(long, default_value_t = 2_000)]
    jobs: usize,
    /// Jobs that wait behind others in 1,000 shares; 0 leaves this out
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
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// The shares of the third shape: as many as may be active in two queues.
const SHARES: usize = 1_000;
/// The queues of the second shape.
const QUEUES: usize = 20;
/// How many jobs of one vCPU run at a time at most, as long as there are so many nodes.
const SLOTS: usize = 2_000;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let at_once = Shape { jobs: args.jobs, queues: 1, ..Shape::default() };
    let mut outcomes = Vec::new();
    for contender in Contender::ALL.into_iter().filter(|_| args.jobs > 0) {
        outcomes.push(play(contender, at_once).await);
    }
    let many_queues = match args.jobs {
        0 => None,
        _ => Some(play(Contender::Batchyard, Shape { queues: QUEUES, ..at_once }).await),
    };
    let mut arrays = Vec::new();
    for contender in Contender::WHOLE.into_iter().filter(|_| args.children > 0) {
        arrays.push(play(contender, Shape { jobs: args.children, ..at_once }).await);
    }
    let backlog = match args.backlog {
        0 => None,
        waiting => {
            let shape = Shape { queues: 2, shares: SHARES / 2, waiting, ..at_once };
            Some(play(Contender::Batchyard, shape).await)
        }
    };
    // Its jobs stay, too: no operator is there to let go of them.
    let submissions = match args.submissions {
        0 => Vec::new(),
        jobs => submissions::play(jobs).await,
    };
    let starts = match args.crowd {
        0 => Vec::new(),
        crowd => fairness::play(crowd).await,
    };
    println!("{}", table::machine());
    if let Some(many_queues) = &many_queues {
        println!("{}", table::comparison(&format!("{} jobs at once", args.jobs), &outcomes));
        let title = format!("{} jobs in {QUEUES} queues", args.jobs);
        println!("{}", table::comparison(&title, &beside_pods(&outcomes, many_queues)));
    }
    if let Some(backlog) = &backlog {
        let title = format!("{} jobs, and {} behind them in {SHARES} shares", args.jobs, args.backlog);
        println!("{}", table::comparison(&title, &beside_pods(&outcomes, backlog)));
    }
    if !arrays.is_empty() {
        println!("{}", table::comparison(&format!("{} children", args.children), &arrays));
    }
    if !submissions.is_empty() {
        println!("{}", submissions::comparison(&submissions));
    }
    if !starts.is_empty() {
        println!("{}", fairness::comparison(&starts));
    }
    println!("{}", table::goals(&outcomes, &arrays, backlog.as_ref(), &submissions, &starts));
    if let Some(path) = args.json {
        let rounds: Vec<&Outcome> =
            outcomes.iter().chain(&many_queues).chain(&arrays).chain(&backlog).collect();
        let text = json!({"machine": table::machine(), "rounds": rounds, "submissions": submissions, "starts": starts});
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
