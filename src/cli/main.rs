//! The `kubectl-batch` program, which kubectl finds as `kubectl batch`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use batchyard::cli;
use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // The same program by another name, so that there is one thing to install.
    if words.first().and_then(|name| Path::new(name).file_stem()).is_some_and(|name| name == cli::COMPLETER) {
        print!("{}", cli::completions(&words[1..]));
        return ExitCode::SUCCESS;
    }
    let args = cli::Args::parse();
    match cli::run(args).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
