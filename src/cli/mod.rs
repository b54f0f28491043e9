//! `kubectl batch`: how people work with jobs.
//!
//! It talks to the Kubernetes API only, with the user's own rights, and knows nothing of the
//! operator but the objects that it writes.

mod array;
mod children;
mod complete;
mod connect;
mod definitions;
mod depends;
mod describe;
mod environments;
mod error;
mod events;
mod explain;
mod find;
mod follow;
mod keys;
mod lint;
mod list;
mod logs;
mod migrate;
mod orders;
mod output;
mod parts;
mod place;
mod queues;
mod retry;
mod room;
mod shell;
mod submit;
mod table;
mod test_retry;
mod time;
mod top;
mod uninstall;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use complete::{COMPLETER, completions};
pub use connect::Connection;
pub use error::Error;

/// Work with Batchyard's jobs: submit them, see how they are and why, end them, run them again.
///
/// Jobs can be named by their name, by their id, or by a beginning of either that only one job has; children of an
/// array by JOB:INDEX, such as sweep:3, and nodes of a multi-node job by JOB#INDEX.
///
/// Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 forbidden, 5 refused by the API
/// server, 6 no cluster. `submit --wait`, `run --wait` and `watch JOB` end with the job's own exit
/// code, or with 125 if it failed without one.
#[derive(Parser, Debug)]
#[command(name = "kubectl-batch", bin_name = "kubectl batch", version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Submit a job from a definition.
    Submit(submit::SubmitArgs),
    /// Run an image without a definition.
    Run(submit::RunArgs),
    /// List jobs.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// List the children of an array, or the nodes of a multi-node job.
    #[command(visible_aliases = ["array", "nodes"])]
    Children(children::ChildrenArgs),
    /// Tell all about jobs: why they wait or ended, each attempt, the retry rules that decided.
    Describe(describe::DescribeArgs),
    /// Follow jobs, or all jobs of a queue, until they end.
    Watch(watch::WatchArgs),
    /// Print what a job's container wrote, across its attempts.
    Logs(logs::LogsArgs),
    /// Say why a job waits or how it ended, and what to do.
    Why(why::WhyArgs),
    /// End jobs that have not started.
    Cancel(orders::EndArgs),
    /// End jobs in any phase.
    Terminate(orders::EndArgs),
    /// Move waiting jobs to another queue, or change their priority.
    Move(orders::MoveArgs),
    /// Run finished jobs again: a new job like each of them.
    Retry(retry::RetryArgs),
    /// Show the Events of a job and its pods.
    Events(events::EventsArgs),
    /// Show queues.
    #[command(visible_alias = "jq")]
    Queues(queues::QueuesArgs),
    /// Show compute environments.
    #[command(visible_alias = "ce")]
    Environments(environments::EnvironmentsArgs),
    /// Show what the jobs of each queue request now, and what they use.
    Top(top::TopArgs),
    /// Show job definitions, their revisions, and what differs between two of them.
    #[command(visible_alias = "jd")]
    Definitions(definitions::DefinitionsArgs),
    /// Take revisions of a definition out of use.
    Deregister(definitions::DeregisterArgs),
    /// Say which retry rule would decide after a given end. Needs no cluster for a file.
    TestRetry(test_retry::TestRetryArgs),
    /// Say what would be wrong with manifests or AWS's JSON. Needs no cluster.
    Lint(lint::LintArgs),
    /// Turn what the aws CLI tells of an account into manifests, and report what changes. Needs no cluster.
    ImportAws(migrate::ImportArgs),
    /// Write what aws batch create-… and register-… take, from the objects of the namespace.
    ExportAws(migrate::ExportArgs),
    /// Say what a status reason means, what causes it and what to do. Needs no cluster.
    ExplainReason(explain::ExplainArgs),
    /// Make, list and disable access keys of the AWS API.
    Keys(keys::KeysArgs),
    /// Take the finalizers off that an operator which is gone has left behind.
    Uninstall(uninstall::UninstallArgs),
    /// Print the completion script of a shell.
    Completion(shell::CompletionArgs),
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// Carries a command out.
///
/// # Errors
/// When it cannot be done; what was asked to be printed may be printed in part.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let connection = &args.connection;
    match args.command {
        Command::ExplainReason(args) => explain::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::ImportAws(args) => migrate::import(&args, &connection.namespace().await),
        Command::ExportAws(args) => migrate::export(&args, &connection.open().await?).await,
        Command::Completion(args) => shell::completion(&args),
        Command::Man => shell::manual(),
        Command::TestRetry(args) => test_retry::run(&args, connection).await,
        Command::Submit(args) => submit::submit(args, &connection.open().await?).await,
        Command::Run(args) => submit::run(args, &connection.open().await?).await,
        Command::List(args) => list::run(&args, &connection.open().await?).await,
        Command::Children(args) => children::run(&args, &connection.open().await?).await,
        Command::Describe(args) => describe::run(&args, &connection.open().await?).await,
        Command::Watch(args) => watch::run(&args, &connection.open().await?).await,
        Command::Logs(args) => logs::run(&args, &connection.open().await?).await,
        Command::Why(args) => why::run(&args, &connection.open().await?).await,
        Command::Cancel(args) => orders::cancel(&args, &connection.open().await?).await,
        Command::Terminate(args) => orders::terminate(&args, &connection.open().await?).await,
        Command::Move(args) => orders::move_to(&args, &connection.open().await?).await,
        Command::Retry(args) => retry::run(&args, &connection.open().await?).await,
        Command::Events(args) => events::run(&args, &connection.open().await?).await,
        Command::Queues(args) => queues::run(&args, &connection.open().await?).await,
        Command::Environments(args) => environments::run(&args, &connection.open().await?).await,
        Command::Definitions(args) => definitions::run(&args, &connection.open().await?).await,
        Command::Top(args) => top::run(&args, &connection.open().await?).await,
        Command::Keys(args) => keys::run(&args, &connection.open().await?).await,
        Command::Uninstall(args) => uninstall::run(&args, &connection.open().await?).await,
        Command::Deregister(args) => definitions::deregister(&args, &connection.open().await?).await,
    }
}

impl Error {
    fn done() -> Result<ExitCode, Self> {
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
#[test]
fn arguments_make_sense() {
    use clap::CommandFactory as _;
    Args::command().debug_assert();
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) {
    print_bytes(text.as_bytes());
}

fn print_bytes(bytes: &[u8]) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
