//! `kubectl batch test-retry`: what a retry strategy does after a given end, by the operator's own function.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{self, decide};
use batchyard_core::name::DefinitionRef;
use batchyard_core::reason;
use kube::ResourceExt as _;
use serde_json::Value;

use super::error::{Error, Kind, Result};
use super::table::{Screen, Table};
use super::{Connection, find, print};
use crate::crd::shared::RetryStrategy;
use crate::crd::{JobDefinition, convert};

/// Which strategy, and which end.
#[derive(clap::Args, Debug)]
pub(super) struct TestRetryArgs {
    /// A file with definitions or jobs (YAML, JSON, or AWS's JSON), or a definition in the cluster.
    #[arg(value_name = "FILE|DEFINITION")]
    what: String,
    /// The container's exit code.
    #[arg(long, value_name = "CODE")]
    exit_code: Option<i32>,
    /// The container's reason, such as 'OutOfMemoryError: Container killed due to memory usage'.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The attempt's statusReason; default: that of a container that ended.
    #[arg(long, value_name = "TEXT")]
    status_reason: Option<String>,
    /// How many attempts have ended with this one.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    attempt: u32,
}

pub(super) async fn run(args: &TestRetryArgs, connection: &Connection) -> Result<ExitCode> {
    let strategies = if Path::new(&args.what).exists() {
        from_file(&args.what)?
    } else {
        let cluster = connection.open().await?;
        let name = DefinitionRef::parse(&args.what).map_err(Error::usage)?.name;
        let definition =
            find::named(&cluster, &cluster.api::<JobDefinition>(), "file or job definition", &name).await?;
        vec![(definition.name_any(), definition.spec.retry_strategy)]
    };
    let asked = args.exit_code.is_some() || args.reason.is_some() || args.status_reason.is_some();
    for (name, strategy) in strategies {
        let strategy = convert::strategy(strategy.as_ref());
        print(&if asked {
            verdict(&name, &strategy, args)
        } else {
            usual_ends(&name, &strategy, args.attempt)
        });
    }
    Error::done()
}

fn verdict(name: &str, strategy: &retry::RetryStrategy, args: &TestRetryArgs) -> String {
    let status_reason = args.status_reason.as_deref().unwrap_or(reason::ESSENTIAL_EXITED);
    if args.exit_code == Some(0) && status_reason == reason::ESSENTIAL_EXITED {
        return format!("{name}: SUCCEEDED\n  exit code 0 is never evaluated\n");
    }
    let decision = decide(strategy, args.attempt, status_reason, args.reason.as_deref(), args.exit_code);
    format!("{name}: {}\n  {}\n", outcome(decision.action, args.attempt, strategy.attempts), decision.rule)
}

/// What people ask most, when they ask for nothing in particular.
fn usual_ends(name: &str, strategy: &retry::RetryStrategy, attempt: u32) -> String {
    let lost = reason::host_terminated("i-0123456789abcdef0");
    let no_image = reason::cannot_pull("not found");
    let ends = [
        ("the program ends with 1", reason::ESSENTIAL_EXITED, None, Some(1)),
        ("out of memory", reason::ESSENTIAL_EXITED, Some(reason::OUT_OF_MEMORY), Some(137)),
        ("the host is lost", lost.as_str(), None, None),
        ("no such image", reason::FAILED_TO_START, Some(no_image.as_str()), None),
        ("the pod is deleted", reason::POD_DELETED, None, Some(143)),
    ];
    let mut text = format!("{name}: up to {} attempts; after attempt {attempt}\n", strategy.attempts);
    let mut table = Table::new(Screen { width: None, colours: false }, &["IF", "THEN", "BY"]);
    for (title, status_reason, reason, code) in ends {
        let decision = decide(strategy, attempt, status_reason, reason, code);
        table.row([title.to_owned(), word(decision.action).to_owned(), decision.rule]);
    }
    let _ = write!(text, "{}", table.show());
    text
}

fn outcome(action: RetryAction, attempt: u32, attempts: u32) -> String {
    match action {
        RetryAction::Retry => format!("RETRY: attempt {} of {attempts} follows", attempt + 1),
        RetryAction::Exit => "EXIT: the job is FAILED".to_owned(),
    }
}

fn word(action: RetryAction) -> &'static str {
    match action {
        RetryAction::Retry => "RETRY",
        RetryAction::Exit => "EXIT",
    }
}

/// The retry strategies of a file, by name. AWS's JSON of RegisterJobDefinition or SubmitJob is a
/// document without `spec`.
fn from_file(path: &str) -> Result<Vec<(String, Option<RetryStrategy>)>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::new(Kind::NotFound, format!("{path}: {error}")))?;
    let unreadable = |why: String| Error::new(Kind::Invalid, format!("{path}: {why}"));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| unreadable(error.to_string()))?;
    let mut found = Vec::new();
    for document in documents {
        let spec = document.get("spec").unwrap_or(&document);
        let kind = document["kind"].as_str();
        if !matches!(kind, None | Some("JobDefinition" | "BatchJob")) {
            continue;
        }
        let names = [&document["metadata"]["name"], &spec["jobDefinitionName"], &spec["jobName"]];
        let name = names.into_iter().find_map(Value::as_str).unwrap_or("a job").to_owned();
        let strategy = spec.get("retryStrategy").cloned().map(serde_json::from_value).transpose();
        let strategy = strategy.map_err(|error| unreadable(format!("{name}: retryStrategy: {error}")))?;
        found.push((name, strategy));
    }
    if found.is_empty() {
        return Err(unreadable("no job definition and no job in it".to_owned()));
    }
    Ok(found)
}
