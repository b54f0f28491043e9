//! The `kubectl-batch` program, which kubectl finds as `kubectl batch`.

use std::process::ExitCode;

use batchyard::cli;
use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = cli::Args::parse();
    match cli::run(args).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
