//! The CRDs as files: up to date, small enough, with bounds and words everywhere.

use std::path::Path;

use serde_json::Value;

use super::crds;
use crate::crd::render;

/// `kubectl apply` keeps the manifest as JSON in an annotation, and all annotations together can have 262,144 bytes.
const MAX_JSON: usize = 200_000;
const MAX_DESCRIPTION: usize = 160;

#[test]
fn the_files_in_crds_are_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let rendered = render();
    let mut stale: Vec<String> = rendered
        .iter()
        .filter(|(name, yaml)| std::fs::read_to_string(folder.join(name)).ok().as_ref() != Some(yaml))
        .map(|(name, _)| name.clone())
        .collect();
    let known: Vec<&str> = rendered.iter().map(|(name, _)| name.as_str()).collect();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&name.as_str()) {
            stale.push(format!("{name} (belongs to no kind)"));
        }
    }
    assert!(stale.is_empty(), "run `cargo xtask crds`; in crds/ these are out of date: {}", stale.join(", "));
}

#[test]
fn each_file_says_the_same_as_the_crd() {
    for (crd, (name, yaml)) in crds().iter().zip(render()) {
        let read: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{name}: {e}"));
        let read = serde_json::from_value(read).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(*crd, read, "{name}");
    }
}

#[test]
fn each_crd_fits_into_an_annotation() {
    for crd in crds() {
        let size = serde_json::to_string(crd).expect("plain data").len();
        assert!(size <= MAX_JSON, "{}: {size} bytes", crd.spec.names.kind);
    }
}

#[test]
fn names_scopes_and_columns_are_what_people_type() {
    let table: Vec<String> = crds()
        .iter()
        .map(|crd| {
            let names = &crd.spec.names;
            let short = names.short_names.clone().unwrap_or_default().join(",");
            format!(
                "{} {} {short} {}",
                names.kind,
                crd.spec.scope,
                names.categories.clone().unwrap_or_default().join(",")
            )
        })
        .collect();
    assert_eq!(
        table,
        [
            "ComputeEnvironment Cluster ce batchyard",
            "JobQueue Namespaced jq batchyard",
            "SchedulingPolicy Namespaced sp batchyard",
            "ConsumableResource Namespaced cr batchyard",
            "JobDefinition Namespaced jd batchyard",
            "BatchJob Namespaced bj batchyard",
            "BatchJobRecord Namespaced  batchyard",
            "NotificationRule Namespaced nr batchyard",
        ]
    );
}

#[test]
fn columns_and_selectable_fields_exist() {
    for crd in crds() {
        let version = &crd.spec.versions[0];
        let schema = super::schema(&crd.spec.names.kind);
        let columns = version.additional_printer_columns.iter().flatten().map(|c| c.json_path.as_str());
        for path in columns.filter(|path| !path.starts_with(".metadata")) {
            assert!(resolve(&schema, path).is_some(), "{} {path}", crd.spec.names.kind);
        }
        for field in version.selectable_fields.iter().flatten() {
            let found = resolve(&schema, &field.json_path).expect("a selectable field exists");
            assert_eq!(found["type"], "string", "{} {}", crd.spec.names.kind, field.json_path);
        }
    }
    let job = crds().iter().find(|crd| crd.spec.names.kind == "BatchJob").expect("a kind");
    assert_eq!(job.spec.versions[0].selectable_fields.as_ref().map(Vec::len), Some(5));
}

/// The schema at a path such as `.status.conditions[?(@.type=="Ready")].status`.
fn resolve<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = schema;
    let (path, after_filter) = path
        .split_once("[?")
        .map_or((path, None), |(before, after)| (before, after.split_once(")]").map(|(_, rest)| rest)));
    for name in path.split('.').filter(|name| !name.is_empty()) {
        at = at["properties"].get(name)?;
    }
    match after_filter {
        Some(rest) => resolve(&at["items"], rest),
        None => Some(at),
    }
}

#[test]
fn everything_has_bounds_and_words_and_nothing_a_default() {
    let mut wrong = Vec::new();
    for crd in crds() {
        let schema = super::schema(&crd.spec.names.kind);
        for part in ["spec", "status"] {
            if let Some(schema) = schema["properties"].get(part) {
                inspect(schema, &format!("{}.{part}", crd.spec.names.kind), true, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn inspect(schema: &Value, path: &str, is_member: bool, wrong: &mut Vec<String>) {
    let mut want = |ok: bool, what: &str| {
        if !ok {
            wrong.push(format!("{path}: {what}"));
        }
    };
    let description = schema["description"].as_str().unwrap_or_default();
    want(!is_member || !description.is_empty(), "no description");
    want(description.chars().count() <= MAX_DESCRIPTION, "the description is too long");
    want(!description.contains('\n'), "the description has more than one line");
    for key in ["default", "nullable", "anyOf", "oneOf", "allOf", "x-kubernetes-preserve-unknown-fields"] {
        want(schema.get(key).is_none(), key);
    }
    want(!schema["format"].as_str().is_some_and(|format| format.starts_with("uint")), "an unsigned format");
    match schema["type"].as_str() {
        Some("string") => {
            let bounded = schema.get("maxLength").is_some() || schema.get("enum").is_some();
            want(bounded || schema["format"] == "date-time", "no maxLength");
        }
        Some("array") => want(schema.get("maxItems").is_some(), "no maxItems"),
        Some("object") => {
            let map = schema.get("additionalProperties").is_some();
            want(!map || schema.get("maxProperties").is_some(), "no maxProperties");
        }
        Some("integer" | "number" | "boolean") => {}
        None if schema["x-kubernetes-int-or-string"] == true => {
            want(schema.get("maxLength").is_some(), "no maxLength");
        }
        other => want(false, &format!("type {other:?}")),
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get(key) {
            inspect(below, &format!("{path}[]"), false, wrong);
        }
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        inspect(below, &format!("{path}.{name}"), true, wrong);
    }
}
