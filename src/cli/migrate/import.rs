//! `kubectl batch import-aws`: from what the aws CLI tells of an account to manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::super::error::{Error, Kind, Result};
use super::super::lint::Linter;
use super::super::print;
use super::build::{Built, Known, build, place};
use super::family::{DEFINITION, ENVIRONMENT};
use super::read::{self, Item};
use super::report::{Outcome, Report};
use super::revisions::Steps;
use super::{Reporting, folder, yaml};

/// Which files, and where to.
#[derive(clap::Args, Debug)]
pub(in super::super) struct ImportArgs {
    /// Files with the output of aws batch describe-…, or folders of them; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The folder to write manifests to, new or empty; - prints them.
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: String,
    /// Only the newest ACTIVE revision of each definition.
    #[arg(long)]
    newest_only: bool,
    #[command(flatten)]
    reporting: Reporting,
}

/// Manifests, and what is to be said of them.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) steps: Steps,
    pub(super) report: Report,
}

pub(in super::super) fn run(args: &ImportArgs, namespace: &str) -> Result<ExitCode> {
    let mut texts = Vec::new();
    for file in read::files(&args.files)? {
        let text = read::file(&file)?;
        texts.push((file, text));
    }
    let mut imported = import(&texts, namespace, args.newest_only, &mut Linter::default())?;
    let documents = imported.steps.steps.len();
    if args.output == "-" {
        if documents > 1 {
            return Err(Error::usage(
                "a definition has several ACTIVE revisions, which cannot be applied at once",
            )
            .with_hint(
                "Write them to a folder with -o DIR, a folder for each step, or take --newest-only.",
            ));
        }
        let mut text = String::new();
        for manifest in imported.steps.steps.iter().flatten() {
            text.push_str("---\n");
            text.push_str(&yaml(manifest)?);
        }
        print(&text);
    } else {
        write(Path::new(&args.output), &imported.steps)?;
        imported.report.next.splice(0..0, commands(&args.output, &imported.steps, namespace));
    }
    args.reporting.tell(&imported.report)?;
    match imported.report.refused() {
        0 => Error::done(),
        number => {
            let all = imported.report.objects.len();
            Err(Error::new(
                Kind::Invalid,
                format!("{number} of {all} objects are refused; the report says why"),
            ))
        }
    }
}

/// Makes manifests of texts.
///
/// # Errors
/// When a text cannot be read as what the aws CLI prints.
pub(super) fn import(
    texts: &[(String, String)],
    namespace: &str,
    newest_only: bool,
    linter: &mut Linter,
) -> Result<Imported> {
    let mut report = Report { namespace: namespace.to_owned(), ..Report::default() };
    let mut items: Vec<Item> = Vec::new();
    for (file, text) in texts {
        items.extend(read::items(file, text, &mut report.notes)?);
    }
    let known = Known::of(namespace, &items);
    let mut built: Vec<Built> = items.iter().map(|item| build(item, &known, linter)).collect();
    built.sort_by_key(|built| (place(built.family), built.entry.object.clone()));
    refuse_twins(&mut built);
    let mut steps = Steps::default();
    let mut definitions: BTreeMap<String, Vec<Built>> = BTreeMap::new();
    for built in built {
        if built.family.kind == DEFINITION.kind {
            definitions.entry(built.entry.object.clone()).or_default().push(built);
            continue;
        }
        if built.entry.outcome == Outcome::Written {
            steps.first(built.manifest(namespace, &built.spec));
        }
        report.objects.push(built.entry);
    }
    for (_, revisions) in definitions {
        report.objects.extend(steps.definition(namespace, revisions, newest_only));
    }
    about_all(&items, &known, &mut report);
    Ok(Imported { steps, report })
}

/// Objects of the same kind and name, of two regions for example, have no place in one namespace. What is told twice in
/// the same words is taken once.
fn refuse_twins(built: &mut Vec<Built>) {
    let is_twin = |a: &Built, b: &Built| a.family.kind != DEFINITION.kind && a.entry.object == b.entry.object;
    built.dedup_by(|b, a| is_twin(a, b) && a.spec == b.spec);
    for index in 1..built.len() {
        if is_twin(&built[index - 1], &built[index]) {
            for twin in &mut built[index - 1..=index] {
                twin.entry.outcome = Outcome::Refused;
                twin.entry.because.push("the files tell of two that differ".to_owned());
            }
        }
    }
}

/// Notes that concern the whole account.
fn about_all(items: &[Item], known: &Known, report: &mut Report) {
    report.accounts = known.owners.iter().cloned().collect();
    let told: BTreeSet<&str> = items
        .iter()
        .flat_map(|item| item.family.told.iter().copied().filter(|member| item.stated.contains_key(*member)))
        .collect();
    if !told.is_empty() {
        let told: Vec<&str> = told.into_iter().collect();
        report.notes.push(format!("Not part of manifests, since AWS alone tells it: {}", told.join(", ")));
    }
    if items.iter().any(|item| item.family.kind == ENVIRONMENT.kind) {
        report.notes.push(
            "Environments belong to the cluster: applying them takes an administrator; queues of the namespace find them by \
             their AWS name"
                .to_owned(),
        );
    }
    let mut owners = known.owners.iter();
    match (owners.next(), owners.next()) {
        (Some(owner), None) => {
            let mut parts = owner.split(':').skip(3);
            let (region, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            report.next.push(format!(
                "kubectl annotate namespace {} batchyard.io/account-id={account}   # with the chart's gateway.region={region}: ARNs stay as they are",
                known.namespace
            ));
        }
        (Some(_), Some(_)) => report.notes.push(
            "The files are of more than one account or region: a namespace each keeps them apart".to_owned(),
        ),
        _ => {}
    }
}

/// Writes a folder for each step; kubectl takes the files of a folder in the order of their names.
fn write(to: &Path, steps: &Steps) -> Result<()> {
    folder::must_be_empty(to)?;
    for (index, manifests) in steps.steps.iter().enumerate() {
        let to = step(to, index, steps);
        for (number, manifest) in manifests.iter().enumerate() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
            let (kind, name) = (text(&manifest["kind"]), text(&manifest["metadata"]["name"]));
            folder::write(&to, &format!("{:04}-{kind}-{name}.yaml", number + 1), &yaml(manifest)?)?;
        }
    }
    Ok(())
}

fn step(folder: &Path, index: usize, steps: &Steps) -> PathBuf {
    let width = steps.steps.len().to_string().len();
    folder.join(format!("{:0width$}", index + 1))
}

/// How the folders are applied.
fn commands(folder: &str, steps: &Steps, namespace: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, waits) in steps.waits.iter().enumerate() {
        lines.push(format!("kubectl apply -f {}", step(Path::new(folder), index, steps).display()));
        for (object, number) in waits {
            lines.push(format!(
                "kubectl wait -n {namespace} --for=jsonpath='{{.status.revision}}'={number} jobdefinition/{object}"
            ));
        }
    }
    lines
}
