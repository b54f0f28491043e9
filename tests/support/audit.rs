//! The API server's audit log: who wrote what.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::client::kubeconfig;

/// The variable with the path of the audit log, one JSON object per line.
const AUDIT_LOG: &str = "BATCHYARD_TEST_AUDIT_LOG";

/// A request that changed something, or tried to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    /// Who sent it.
    pub(crate) user: String,
    /// create, update, patch, delete or deletecollection.
    pub(crate) verb: String,
    /// The resource, with its subresource behind a slash.
    pub(crate) resource: String,
    /// The object's name; empty for a create by generateName.
    pub(crate) name: String,
    /// The HTTP status of the answer.
    pub(crate) code: u64,
}

impl Write {
    /// Whether the API server did what it was asked.
    pub(crate) fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// A moment, and its place in the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    log: PathBuf,
    offset: u64,
    at: Timestamp,
}

/// Where the audit log is; none if the cluster keeps none that can be read.
pub(crate) fn path() -> Option<PathBuf> {
    let log = match std::env::var_os(AUDIT_LOG) {
        Some(path) => path.into(),
        // The local provider keeps both in the cluster's folder.
        None => kubeconfig().parent()?.parent()?.join("log/audit.jsonl"),
    };
    log.exists().then_some(log)
}

/// The end of the audit log as it is now; none if the cluster keeps no log that can be read.
pub(crate) fn mark() -> Option<Mark> {
    Mark::at_the_end_of(path()?)
}

impl Mark {
    /// The end of a log as it is now; none if it cannot be read.
    pub(crate) fn at_the_end_of(log: PathBuf) -> Option<Self> {
        let offset = log.metadata().ok()?.len();
        Some(Self { log, offset, at: Timestamp::now() })
    }

    /// All that was logged since then.
    pub(crate) fn text(&self) -> String {
        let mut log = File::open(&self.log).unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        log.seek(SeekFrom::Start(self.offset)).expect("the audit log grew");
        BufReader::new(log).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
    }

    /// Everything that was written in a namespace since then.
    pub(crate) fn writes(&self, namespace: &str) -> Vec<Write> {
        let mut log = File::open(&self.log).unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        log.seek(SeekFrom::Start(self.offset)).expect("the audit log grew");
        let lines = BufReader::new(log).lines().map_while(Result::ok);
        let parsed = lines.filter_map(|line| serde_json::from_str(&line).ok());
        parsed.filter(|event| self.is_after(event)).filter_map(|event| parse(&event, namespace)).collect()
    }

    /// Whether a request came after this moment: the API server answers first and then logs, so that a request of before may be
    /// logged after. Its clock is this machine's, since its log is here.
    fn is_after(&self, event: &Value) -> bool {
        let received = event["requestReceivedTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        received.is_none_or(|received| received >= self.at)
    }
}

fn parse(event: &Value, namespace: &str) -> Option<Write> {
    let object = &event["objectRef"];
    let verb = event["verb"].as_str()?;
    let is_write = matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
    if !is_write || event["stage"] != "ResponseComplete" || object["namespace"] != namespace {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let user = [&event["impersonatedUser"], &event["user"]].into_iter().find(|user| user.is_object())?;
    let resource = [text(&object["resource"]), text(&object["subresource"])];
    Some(Write {
        user: text(&user["username"]),
        verb: verb.to_owned(),
        resource: resource.join("/").trim_end_matches('/').to_owned(),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or(0),
    })
}

/// Writes by user, verb and resource, as a table with a line for each and the sum below.
pub(crate) fn table(title: &str, writes: &[Write], jobs: usize) -> String {
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for write in writes {
        *counts.entry((&write.resource, &write.verb, &write.user)).or_default() += 1;
    }
    let mut table =
        format!("{title}\n  {:<22}{:<8}{:<40}{:>6}{:>9}\n", "resource", "verb", "by", "writes", "per job");
    let mut line = |resource: &str, verb: &str, user: &str, count: usize| {
        let each = count as f64 / jobs as f64;
        writeln!(table, "  {resource:<22}{verb:<8}{user:<40}{count:>6}{each:>9.2}")
            .expect("a text takes more text");
    };
    for ((resource, verb, user), count) in &counts {
        line(resource, verb, user, *count);
    }
    line("all", "", "", writes.len());
    table
}
