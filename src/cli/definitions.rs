//! `kubectl batch definitions` and `deregister`: job definitions and their revisions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use batchyard_core::name::{self, DefinitionRef};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::output::{Output, objects};
use super::queues::word;
use super::table::{Screen, Table};
use super::{find, list, print, time};
use crate::crd::JobDefinition;

/// Which definitions.
#[derive(clap::Args, Debug)]
pub(super) struct DefinitionsArgs {
    /// Only this one, with its revisions.
    #[arg(value_name = "DEFINITION")]
    definition: Option<String>,
    /// What differs between two revisions, such as 2,3.
    #[arg(long, value_name = "OLD,NEW", value_delimiter = ',', num_args = 1, requires = "definition")]
    diff: Vec<u32>,
    #[command(flatten)]
    output: Output,
}

/// Which revisions.
#[derive(clap::Args, Debug)]
pub(super) struct DeregisterArgs {
    /// NAME:REVISION.
    #[arg(required = true, value_name = "DEFINITION:REVISION")]
    revisions: Vec<String>,
}

pub(super) async fn run(args: &DefinitionsArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<JobDefinition> = cluster.api();
    let definitions = match &args.definition {
        Some(name) => vec![find::named(cluster, &api, "job definition", name).await?],
        None => find::every(&api, ListParams::default()).await?,
    };
    match (definitions.as_slice(), args.diff.as_slice()) {
        ([definition], [old, new]) => {
            let (before, after) =
                (revision(cluster, definition, *old).await?, revision(cluster, definition, *new).await?);
            print(&difference(&before, &after));
        }
        (_, [_, ..]) => return Err(Error::usage("--diff needs two revisions, such as --diff 2,3")),
        _ if !args.output.is_table() => {
            let values = definitions.iter().map(list::to_value).collect::<Result<Vec<_>>>()?;
            print(&objects(&args.output.format(), &values, args.definition.is_some())?);
        }
        ([definition], _) if args.definition.is_some() => print(&revisions(definition)),
        (definitions, _) => {
            if definitions.is_empty() {
                eprintln!("No job definitions found in namespace {}.", cluster.namespace);
            }
            print(&table(definitions).show());
        }
    }
    Error::done()
}

fn table(definitions: &[JobDefinition]) -> Table {
    let mut table = Table::new(Screen::stdout(), &["NAME", "STATUS", "ACTIVE", "REVISIONS", "TYPE", "AGE"]);
    for definition in definitions {
        let status = definition.status.clone().unwrap_or_default();
        table.row([
            definition.name_any(),
            status.status.map(|status| word(&status)).unwrap_or_default(),
            status.latest_active.map(|number| number.to_string()).unwrap_or_default(),
            status.revision_count.map(|number| number.to_string()).unwrap_or_default(),
            word(&definition.spec.type_),
            time::age(definition.creation_timestamp().map(|time| time.0)),
        ]);
    }
    table
}

fn revisions(definition: &JobDefinition) -> String {
    let status = definition.status.clone().unwrap_or_default();
    let mut table = Table::new(Screen::stdout(), &["REVISION", "STATUS", "INACTIVE SINCE"]);
    for revision in &status.revisions {
        table.row([
            format!("{}:{}", definition.name_any(), revision.revision),
            word(&revision.status),
            revision.inactive_since.map(time::at).unwrap_or_default(),
        ]);
    }
    table.show()
}

/// What a revision holds.
async fn revision(cluster: &Cluster, definition: &JobDefinition, number: u32) -> Result<Value> {
    let api: Api<ControllerRevision> = cluster.api();
    let found = api.get_opt(&format!("{}-{number}", definition.name_any())).await?;
    let data = found.and_then(|revision| revision.data).map(|data| data.0);
    data.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("{} has no revision {number}", definition.name_any()))
            .with_hint(format!("kubectl batch definitions {} lists them.", definition.name_any()))
    })
}

/// The members that are not the same, one a line.
fn difference(before: &Value, after: &Value) -> String {
    let (before, after) = (members(before), members(after));
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut text = String::new();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old != new {
            for (sign, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "{sign} {path}: {value}");
                }
            }
        }
    }
    if text.is_empty() { "no difference\n".to_owned() } else { text }
}

/// Every value below a value, by its path.
fn members(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(members) if !members.is_empty() => members.iter().for_each(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{name}"), value, found);
            }),
            Value::Array(items) if !items.is_empty() => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, value)| walk(&format!("{path}[{index}]"), value, found));
            }
            value => _ = found.insert(path.to_owned(), value.to_string()),
        }
    }
    let mut found = BTreeMap::new();
    walk("", value, &mut found);
    found
}

pub(super) async fn deregister(args: &DeregisterArgs, cluster: &Cluster) -> Result<ExitCode> {
    let api: Api<JobDefinition> = cluster.api();
    for text in &args.revisions {
        let named = DefinitionRef::parse(text).map_err(Error::usage)?;
        let number = named
            .revision
            .ok_or_else(|| Error::usage(format!("{text} lacks its revision, such as {text}:1")))?;
        let definition = find::named(cluster, &api, "job definition", &named.name).await?;
        let status = definition.status.clone().unwrap_or_default();
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        if status.revision.is_none_or(|newest| number > newest) {
            let unknown = format!("{} has no revision {number}", definition.name_any());
            return Err(Error::new(Kind::NotFound, unknown));
        }
        let mut listed = definition.spec.deregistered.clone();
        if !listed.contains(&number) {
            listed.push(number);
            listed.sort_unstable();
            // The version keeps a number that somebody else adds meanwhile.
            let version = definition.resource_version();
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"deregistered": listed}});
            api.patch(&definition.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        print(&format!("{}:{number} is to be INACTIVE\n", name::resource(&definition.name_any())));
    }
    Error::done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_members() {
        let before = json!({"containerProperties": {"image": "a:1", "command": ["x", "y"], "memory": 64}});
        let after =
            json!({"containerProperties": {"image": "a:2", "command": ["x"], "memory": 64}, "timeout": {}});
        assert_eq!(
            difference(&before, &after),
            "- containerProperties.command[1]: \"y\"\n\
             - containerProperties.image: \"a:1\"\n\
             + containerProperties.image: \"a:2\"\n\
             + timeout: {}\n"
        );
        assert_eq!(difference(&before, &before), "no difference\n");
    }
}
