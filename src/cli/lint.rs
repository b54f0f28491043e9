//! `kubectl batch lint`: what schema, rules and core would say of manifests or of AWS's JSON, without a
//! cluster.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use batchyard_core::notification::mail::{PLACEHOLDERS, unknown_placeholders};
use batchyard_core::notification::text;
use batchyard_core::reason;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use super::error::{Error, Kind, Result};
use super::{print, table};
use crate::crd::convert;
use crate::crd::ignored::{self, ignored_fields, unsupported_fields};
use crate::crd::{BatchJobSpec, JobDefinitionSpec, all, structure};

/// Which files.
#[derive(clap::Args, Debug)]
pub(super) struct LintArgs {
    /// Files with manifests (YAML or JSON) or with AWS's JSON; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

/// What is said of one document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The API server would refuse it, or the job would fail at once.
    pub(super) errors: Vec<String>,
    /// It is taken, and these members of it have no effect.
    pub(super) ignored: Vec<String>,
}

impl Findings {
    fn warnings(&self) -> Vec<String> {
        self.ignored.iter().map(|path| format!("spec.{path} has no effect here")).collect()
    }
}

pub(super) fn run(args: &LintArgs) -> Result<ExitCode> {
    let mut linter = Linter::default();
    let (mut looked_at, mut wrong) = (0, 0);
    for file in &args.files {
        for document in documents(file)? {
            let Some((kind, name, spec)) = linter.identify(&document) else { continue };
            looked_at += 1;
            let findings = linter.look(kind, &spec);
            wrong += usize::from(!findings.errors.is_empty());
            let about = format!("{file}: {kind}/{name}");
            for (word, texts) in [("error", &findings.errors), ("warning", &findings.warnings())] {
                texts.iter().for_each(|text| print(&format!("{about}: {word}: {}\n", table::one_line(text))));
            }
            if findings == Findings::default() {
                print(&format!("{about}: ok\n"));
            }
        }
    }
    match (looked_at, wrong) {
        (0, _) => Err(Error::new(
            Kind::Usage,
            "nothing to look at: no document is an object of Batchyard or AWS's JSON for one",
        )),
        (_, 0) => Error::done(),
        (all, wrong) => Err(Error::new(Kind::Invalid, format!("{wrong} of {all} objects would be refused"))),
    }
}

fn documents(file: &str) -> Result<Vec<Value>> {
    let unreadable = |why: String| Error::new(Kind::Invalid, format!("{file}: {why}"));
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| Error::new(Kind::NotFound, format!("{file}: {error}")))?;
    serde_saphyr::from_multiple(&text).map_err(|error| unreadable(error.to_string()))
}

/// How AWS's JSON of a kind is told from that of the others: by a member that only it has.
const AWS: &[(&str, &str)] = &[
    ("computeEnvironmentName", "ComputeEnvironment"),
    ("jobQueueName", "JobQueue"),
    ("jobDefinitionName", "JobDefinition"),
    ("jobName", "BatchJob"),
];

/// Schemas and rules, made when they are needed.
#[derive(Default)]
pub(super) struct Linter {
    kinds: BTreeMap<&'static str, (Value, CompiledSchema)>,
}

impl Linter {
    /// The kind, the name and the spec of an object of ours.
    fn identify(&self, document: &Value) -> Option<(&'static str, String, Value)> {
        let name = |value: &Value| value.as_str().unwrap_or("(no name)").to_owned();
        if let Some(kind) = document["kind"].as_str() {
            let ours =
                document["apiVersion"].as_str().is_some_and(|version| version.starts_with("batchyard.io/"));
            let kind = AWS
                .iter()
                .map(|(_, kind)| *kind)
                .chain(["SchedulingPolicy", "ConsumableResource", "NotificationRule"])
                .find(|known| *known == kind);
            return kind
                .filter(|_| ours)
                .map(|kind| (kind, name(&document["metadata"]["name"]), document["spec"].clone()));
        }
        let found = AWS.iter().find(|(member, _)| document.get(member).is_some());
        found.map(|(member, kind)| (*kind, name(&document[*member]), document.clone()))
    }

    /// The schema of a kind's spec.
    pub(super) fn schema(&mut self, kind: &'static str) -> &Value {
        &self.kinds.entry(kind).or_insert_with(|| compiled(kind)).0
    }

    /// What is wrong with a spec, else what of it has no effect.
    pub(super) fn look(&mut self, kind: &'static str, spec: &Value) -> Findings {
        let (schema, rules) = self.kinds.entry(kind).or_insert_with(|| compiled(kind));
        let mut errors = structure::errors(schema, spec, "spec");
        if errors.is_empty()
            && let Err(refused) = Validator::new().validate_compiled(rules, spec, None)
        {
            errors.extend(
                refused.into_iter().map(|error| format!("{}: {}", path(&error.field_path), error.message)),
            );
        }
        errors.sort();
        errors.dedup();
        if !errors.is_empty() {
            return Findings { errors, ignored: Vec::new() };
        }
        let Some(table) = table_of(kind) else { return Findings::default() };
        let refused = unsupported_fields(table, spec);
        let ignored =
            ignored_fields(table, spec).into_iter().filter(|path| !refused.contains(path)).collect();
        let mut errors: Vec<_> = refused
            .into_iter()
            .map(|path| format!("spec.{path} is not supported yet: the job would fail at once"))
            .collect();
        if errors.is_empty() {
            errors.extend(impossible(kind, spec));
        }
        Findings { errors, ignored }
    }
}

fn path(found: &str) -> String {
    match found {
        "" => "spec".to_owned(),
        found if found.starts_with("spec") => found.to_owned(),
        found => format!("spec.{}", found.trim_start_matches('.')),
    }
}

/// What the core would say of a definition, or of a job that brings its own.
fn impossible(kind: &str, spec: &Value) -> Option<String> {
    let (job, definition) = match kind {
        "JobDefinition" => {
            (BatchJobSpec::default(), serde_json::from_value::<JobDefinitionSpec>(spec.clone()).ok()?)
        }
        "BatchJob" => {
            let job: BatchJobSpec = serde_json::from_value(spec.clone()).ok()?;
            let definition = convert::inline_definition(&job)?;
            (job, definition)
        }
        "NotificationRule" => {
            let unknown = unknown_placeholders(spec.pointer("/smtp/subject")?.as_str()?);
            return (!unknown.is_empty()).then(|| text::unknown_placeholder(&unknown, &PLACEHOLDERS));
        }
        _ => return None,
    };
    let why = convert::bounded_plan(&job, &definition).effective.err()?;
    // A definition need not have values for all of its parameters: its jobs bring them.
    let brought = kind == "JobDefinition" && reason::is_parameter_missing(&why);
    (!brought).then_some(why)
}

fn compiled(kind: &str) -> (Value, CompiledSchema) {
    let crd = all().into_iter().find(|crd| crd.spec.names.kind == kind);
    let schema = crd.and_then(|crd| crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema);
    let schema = serde_json::to_value(schema).unwrap_or_default()["properties"]["spec"].take();
    let rules = compile_schema(&schema);
    (schema, rules)
}

fn table_of(kind: &str) -> Option<ignored::Kind> {
    Some(match kind {
        "ComputeEnvironment" => ignored::Kind::ComputeEnvironment,
        "JobQueue" => ignored::Kind::JobQueue,
        "SchedulingPolicy" => ignored::Kind::SchedulingPolicy,
        "ConsumableResource" => ignored::Kind::ConsumableResource,
        "JobDefinition" => ignored::Kind::JobDefinition,
        "BatchJob" => ignored::Kind::BatchJob,
        "NotificationRule" => ignored::Kind::NotificationRule,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(document: Value) -> (String, Findings) {
        let mut linter = Linter::default();
        let (kind, name, spec) = linter.identify(&document).expect("a kind");
        (format!("{kind}/{name}"), linter.look(kind, &spec))
    }

    #[test]
    fn awss_json_and_manifests_are_known_by_what_they_have() {
        let queue = json!({"jobQueueName": "q", "priority": 1, "computeEnvironmentOrder": []});
        let (about, found) = findings(queue.clone());
        assert_eq!((about.as_str(), found), ("JobQueue/q", Findings::default()));
        let manifest = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "JobQueue", "metadata": {"name": "m"}, "spec": queue});
        assert_eq!(findings(manifest).0, "JobQueue/m");
        let linter = Linter::default();
        assert!(
            linter
                .identify(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}))
                .is_none()
        );
        assert!(linter.identify(&json!({"Version": "2012-10-17", "Statement": []})).is_none());
    }

    #[test]
    fn what_is_wrong_is_told_by_schema_rules_and_core() {
        let said = |document: Value| findings(document).1;
        let structural = said(json!({"jobQueueName": "q", "priority": "high", "colour": "blue"}));
        assert_eq!(structural.errors, ["spec.colour: unknown", "spec.priority: must be of type integer"]);
        let rule = said(json!({"jobQueueName": "q", "priority": -1}));
        assert_eq!(rule.errors, ["spec.priority: priority must not be negative"]);
        let container = json!({"image": "a", "vcpus": 1, "memory": 64, "jobRoleArn": "r", "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 1}]});
        let definition = |more: Value| {
            let mut definition =
                json!({"jobDefinitionName": "d", "type": "container", "containerProperties": container});
            definition["containerProperties"]["command"] = more;
            said(definition)
        };
        let taken = definition(json!(["x"]));
        assert_eq!((taken.errors.len(), taken.ignored.len()), (0, 1), "{taken:?}");
        assert!(taken.warnings()[0].contains("spec.containerProperties.ulimits"), "{taken:?}");
        assert_eq!(definition(json!(["Ref::x"])).errors, [""; 0], "a job brings its value");
        let mut job = json!({"jobName": "j", "jobQueue": "q", "containerProperties": container});
        job["containerProperties"]["command"] = json!(["Ref::x"]);
        let refused = said(job);
        assert_eq!(
            refused.errors,
            ["Unable to substitute value. No parameter found for reference x"],
            "{refused:?}"
        );
    }
}
