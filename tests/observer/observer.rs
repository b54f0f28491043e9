//! Watches a cluster beside the operator, asks the operator nothing, and says at the end which
//! promises were not kept.
//!
//! It is told what to look at by its arguments, prints `watching` once it does, and goes on until
//! its standard input ends. Then it waits until it has seen everything that the API server has,
//! and prints one JSON object: what it saw, and the violations.

mod facts;
mod ledger;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

use crate::facts::Fact;

/// Checks from outside that an operator keeps its promises.
#[derive(Parser)]
struct Args {
    /// The cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The API server's audit log, one JSON object per line; tells which jobs were accepted.
    #[arg(long)]
    audit_log: Option<PathBuf>,
    /// Only namespaces that begin like this.
    #[arg(long, default_value = "")]
    namespaces: String,
}

/// The kinds that are watched: group, version, kind, plural.
const KINDS: &[[&str; 4]] = &[
    ["batchyard.io", "v1alpha1", "ComputeEnvironment", "computeenvironments"],
    ["batchyard.io", "v1alpha1", "JobDefinition", "jobdefinitions"],
    ["batchyard.io", "v1alpha1", "BatchJob", "batchjobs"],
    ["batchyard.io", "v1alpha1", "BatchJobRecord", "batchjobrecords"],
    ["", "v1", "Pod", "pods"],
];

/// How long the watches may take to show what the API server has.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What was seen so far, of all kinds.
type History = Arc<Mutex<Vec<Fact>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match observe(Args::parse()).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("observer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn observe(args: Args) -> Result<String> {
    let client = connect(&args.kubeconfig).await?;
    let history = History::default();
    let log_began = args.audit_log.as_deref().map(length).transpose()?.unwrap_or(0);
    let mut watches = tokio::task::JoinSet::new();
    for kind in KINDS {
        let api = api(&client, kind);
        let begun = list(&api, &history, &args.namespaces).await?;
        watches.spawn(watch(api, begun, history.clone(), args.namespaces.clone()));
    }
    println!("watching");
    let told_to_end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        ended = watches.join_next() => bail!("a watch ended: {ended:?}"),
        read = told_to_end => { read?.context("standard input")?; }
    }
    tokio::time::timeout(CATCH_UP, catch_up(&client, &history, &args.namespaces))
        .await
        .context("the watches do not catch up")??;
    let audited =
        args.audit_log.as_deref().map(|log| audited(log, log_began, &args.namespaces)).transpose()?;
    let (submitted, deleted) = audited.unwrap_or_default();
    let facts = std::mem::take(&mut *history.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(serde_json::to_string(&ledger::check(facts, &submitted, &deleted))?)
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn api(client: &Client, [group, version, kind, plural]: &[&str; 4]) -> Api<DynamicObject> {
    let api_version = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
    let resource = ApiResource {
        group: (*group).to_owned(),
        version: (*version).to_owned(),
        kind: (*kind).to_owned(),
        plural: (*plural).to_owned(),
        api_version,
    };
    Api::all_with(client.clone(), &resource)
}

/// Takes what is there, and says from which version to watch.
async fn list(api: &Api<DynamicObject>, history: &History, namespaces: &str) -> Result<String> {
    let list = api.list(&ListParams::default()).await?;
    for object in &list.items {
        take(object, &list.types.kind, false, history, namespaces);
    }
    list.metadata.resource_version.context("a list has a version")
}

/// Follows one kind for ever. A gap in the history would make it worthless, so there is no relist.
async fn watch(
    api: Api<DynamicObject>,
    mut version: String,
    history: History,
    namespaces: String,
) -> Result<()> {
    loop {
        let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
        while let Ok(Some(event)) = events.try_next().await {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(error) => bail!("a part of the history is lost: {error:?}"),
            };
            version = object.metadata.resource_version.clone().unwrap_or(version);
            take(&object, "", gone, &history, &namespaces);
        }
    }
}

fn take(object: &DynamicObject, list_kind: &str, gone: bool, history: &History, namespaces: &str) {
    let Ok(mut value) = serde_json::to_value(object) else { return };
    // Items of a list have no kind of their own.
    if value["kind"].is_null() {
        value["kind"] = list_kind.trim_end_matches("List").into();
    }
    let of_interest = value["metadata"]["namespace"].as_str().is_none_or(|name| name.starts_with(namespaces));
    if let Some(fact) = Fact::read(&value, gone).filter(|_| of_interest) {
        history.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
    }
}

/// Waits until the watches have shown exactly what exists now.
async fn catch_up(client: &Client, history: &History, namespaces: &str) -> Result<()> {
    for kind in KINDS {
        let api = api(client, kind);
        loop {
            let current = History::default();
            list(&api, &current, namespaces).await?;
            if existing(&current, kind[2]) == existing(history, kind[2]) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The objects of a kind that are not gone, in their newest version.
fn existing(history: &History, kind: &str) -> BTreeMap<String, u64> {
    let facts = history.lock().unwrap_or_else(PoisonError::into_inner);
    let mut newest: BTreeMap<&str, &Fact> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.what.kind() == kind) {
        let known = newest.entry(&fact.uid).or_insert(fact);
        if fact.version >= known.version {
            *known = fact;
        }
    }
    let existing = newest.into_iter().filter(|(_, fact)| !fact.gone);
    existing.map(|(uid, fact)| (uid.to_owned(), fact.version)).collect()
}

fn length(file: &Path) -> Result<u64> {
    Ok(file.metadata().with_context(|| file.display().to_string())?.len())
}

/// The jobs that the API server accepted since, and those that it deleted on demand.
fn audited(log: &Path, from: u64, namespaces: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut submitted, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for line in BufReader::new(file).lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
        let object = &event["objectRef"];
        let job = object["resource"] == "batchjobs" && object["subresource"].is_null();
        let (Some(namespace), Some(name)) = (object["namespace"].as_str(), object["name"].as_str()) else {
            continue;
        };
        if !job || event["stage"] != "ResponseComplete" || !namespace.starts_with(namespaces) {
            continue;
        }
        let code = event["responseStatus"]["code"].as_u64();
        match event["verb"].as_str() {
            Some("create" | "patch") if code == Some(201) => submitted.insert(format!("{namespace}/{name}")),
            Some("delete") if code == Some(200) => deleted.insert(format!("{namespace}/{name}")),
            _ => false,
        };
    }
    Ok((submitted, deleted))
}
