//! What kubectl asks of a program `kubectl_complete-batch` while a line is being typed
//! (`kubectl help plugin`): the words that may stand there, and a directive of cobra's at the end
//! (<https://pkg.go.dev/github.com/spf13/cobra#ShellCompDirective>).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt as _};

use super::connect::{Cluster, Connection};
use super::{Args, Error};
use crate::crd::{BatchJob, ComputeEnvironment, JobDefinition, JobQueue};

/// The name by which kubectl finds what completes `kubectl batch`.
pub const COMPLETER: &str = "kubectl_complete-batch";

/// Longer than this nobody waits for a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// More names than this help nobody.
const NAMES: u32 = 500;

/// No file names take the place of what is not found.
const NO_FILES: u8 = 4;
/// A blank does not follow: the word goes on.
const NO_SPACE: u8 = 2;

/// The words that may take the place of the last one, a line each, with what they mean after a tab;
/// at the end the directive. Without a cluster the names in it are left out.
pub fn completions(words: &[OsString]) -> String {
    let mut line = vec![OsString::from("kubectl-batch")];
    line.extend_from_slice(words);
    let known = Args::command().ignore_errors(true).try_get_matches_from(&line);
    let connection = known.ok().and_then(|known| Connection::from_arg_matches(&known).ok());
    let mut command = with_names(Args::command(), &Arc::new(connection.unwrap_or_default()));
    let candidates = complete(&mut command, line, words.len(), None).unwrap_or_default();
    let mut text = String::new();
    let mut directive = NO_FILES;
    for candidate in candidates.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        if value.ends_with(['/', '=']) {
            directive |= NO_SPACE;
        }
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        let _ = match help {
            "" => writeln!(text, "{value}"),
            help => writeln!(text, "{value}\t{help}"),
        };
    }
    let _ = writeln!(text, ":{directive}");
    text
}

/// Lets each argument that names an object know the names, by what the help calls its value.
fn with_names(command: Command, connection: &Arc<Connection>) -> Command {
    let of_this = command.mut_args(|arg| known_names(arg, connection));
    of_this.mut_subcommands(|subcommand| with_names(subcommand, connection))
}

fn known_names(arg: Arg, connection: &Arc<Connection>) -> Arg {
    let Some([value]) = arg.get_value_names() else { return arg };
    let kind = match value.as_str() {
        "JOB" => Kind::Job,
        "QUEUE" => Kind::Queue,
        "DEFINITION" | "DEFINITION:REVISION" | "FILE|DEFINITION" => Kind::Definition,
        "ENVIRONMENT" => Kind::Environment,
        "NAMESPACE" => Kind::Namespace,
        _ => return arg,
    };
    let connection = connection.clone();
    arg.add(ArgValueCandidates::new(move || names(kind, &connection)))
}

/// What has names.
#[derive(Clone, Copy)]
enum Kind {
    Job,
    Queue,
    Definition,
    Environment,
    Namespace,
}

/// The engine asks for them where no task can be waited for.
fn names(kind: Kind, connection: &Arc<Connection>) -> Vec<CompletionCandidate> {
    let connection = connection.clone();
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let asked = async { tokio::time::timeout(PATIENCE, ask(kind, &connection)).await };
        runtime.block_on(asked).ok()?.ok()
    });
    asked.join().ok().flatten().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

async fn ask(kind: Kind, connection: &Connection) -> Result<Vec<String>, Error> {
    let cluster = connection.open().await?;
    match kind {
        Kind::Job => names_of(cluster.api::<BatchJob>()).await,
        Kind::Queue => names_of(cluster.api::<JobQueue>()).await,
        Kind::Definition => names_of(cluster.api::<JobDefinition>()).await,
        Kind::Environment => names_of(Cluster::all::<ComputeEnvironment>(&cluster)).await,
        Kind::Namespace => names_of(Cluster::all::<Namespace>(&cluster)).await,
    }
}

async fn names_of<K>(api: Api<K>) -> Result<Vec<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = api.list_metadata(&ListParams::default().limit(NAMES)).await?;
    Ok(list.items.iter().map(|object| object.name_any()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        completions(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn commands_flags_and_values_are_completed() {
        let commands = said("ter");
        assert_eq!(commands, "terminate\tEnd jobs in any phase\n:4\n");
        let flags = said("logs --prev");
        assert!(flags.starts_with("--previous\t") && flags.ends_with("\n:4\n"), "{flags}");
        assert!(
            said("-n team list --stat").starts_with("--status\t"),
            "options of all commands may come first"
        );
        assert_eq!(said("completion ba"), "bash\n:4\n");
        assert!(!said("").contains("\nman"), "what is hidden stays hidden");
    }

    #[test]
    fn without_a_cluster_there_are_no_names() {
        assert_eq!(said("--kubeconfig /no/such/file describe jo"), ":4\n");
    }
}
