//! How a command prints: a table for people, or objects for programs.

use std::str::FromStr;

use clap::Args;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::error::{Error, Kind, Result};

/// What is printed.
#[derive(Clone, Debug, Default)]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// `kind/name`, one a line.
    Name,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Some members of each object, by a template.
    JsonPath(Template),
}

/// The option of every command that prints objects.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Output {
    /// table, json, yaml, name, wide, or jsonpath='{.status.phase}'.
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    pub(super) format: Option<Format>,
}

impl Output {
    /// What is asked for.
    pub(super) fn format(&self) -> Format {
        self.format.clone().unwrap_or_default()
    }

    /// True if people read it.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.format, None | Some(Format::Table | Format::Wide))
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            None if text == "table" => Ok(Self::Table),
            None if text == "wide" => Ok(Self::Wide),
            None if text == "name" => Ok(Self::Name),
            None if text == "json" => Ok(Self::Json),
            None if text == "yaml" => Ok(Self::Yaml),
            Some(("jsonpath", template)) => template.parse().map(Self::JsonPath),
            _ => Err("expected table, json, yaml, name, wide or jsonpath=TEMPLATE".to_owned()),
        }
    }
}

/// A template as kubectl has it: text with paths in braces
/// (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>), without `range`.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Path(JsonPath),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(template: &str) -> std::result::Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            pieces.push(Piece::Text(text.to_owned()));
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("jsonpath {template:?} lacks a closing brace"))?;
            rest = after;
            pieces.push(piece(inside)?);
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }
}

fn piece(inside: &str) -> std::result::Result<Piece, String> {
    let inside = inside.trim();
    if inside.starts_with('"') {
        let text = serde_json::from_str(inside).map_err(|_| format!("{inside} is no text in quotes"))?;
        return Ok(Piece::Text(text));
    }
    if inside == "end" || inside.starts_with("range ") {
        return Err("range is not supported: use -o json and jq".to_owned());
    }
    let dotted =
        if inside.starts_with(['.', '[', '$', '@']) { inside.to_owned() } else { format!(".{inside}") };
    let path = format!("${}", dotted.trim_start_matches(['$', '@']));
    JsonPath::parse(if path == "$." { "$" } else { &path })
        .map(Piece::Path)
        .map_err(|error| format!("{inside:?} is no JSONPath: {error}"))
}

impl Template {
    fn fill(&self, object: &Value) -> String {
        let show = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Path(path) => {
                path.query(object).iter().map(|value| show(value)).collect::<Vec<_>>().join(" ")
            }
        };
        self.0.iter().map(piece).collect()
    }
}

/// Objects for programs: one as itself, several as a List. Not for tables.
///
/// # Errors
/// When an object cannot be written, which no object of an API server is.
pub(super) fn objects(format: &Format, objects: &[Value], single: bool) -> Result<String> {
    let list = || match objects {
        [one] if single => one.clone(),
        _ => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    let failed = |error: &dyn std::error::Error| Error::new(Kind::Failed, format!("cannot print: {error}"));
    match format {
        Format::Table | Format::Wide => Ok(String::new()),
        Format::Name => Ok(objects.iter().map(|object| format!("{}\n", name(object))).collect()),
        Format::Json => {
            serde_json::to_string_pretty(&list()).map(|text| text + "\n").map_err(|error| failed(&error))
        }
        Format::Yaml => serde_saphyr::to_string(&list()).map_err(|error| failed(&error)),
        Format::JsonPath(template) => {
            let whole = list();
            let mut text = template.fill(&whole);
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(text)
        }
    }
}

/// A List that is printed while it comes, so that fifty thousand objects take no more memory than a page of
/// them. Only a template sees the whole.
pub(super) struct List {
    format: Format,
    number: usize,
    /// What a template waits for.
    kept: Vec<Value>,
}

impl List {
    /// Nothing is printed yet.
    pub(super) fn new(format: Format) -> Self {
        Self { format, number: 0, kept: Vec::new() }
    }

    /// What to print for one object more.
    ///
    /// # Errors
    /// As [`objects`].
    pub(super) fn item(&mut self, object: Value) -> Result<String> {
        let failed =
            |error: &dyn std::error::Error| Error::new(Kind::Failed, format!("cannot print: {error}"));
        let is_first = self.number == 0;
        self.number += 1;
        match &self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(&object).map_err(|error| failed(&error))?;
                let before =
                    if is_first { "{\n  \"apiVersion\": \"v1\",\n  \"items\": [\n    " } else { ",\n    " };
                Ok(format!("{before}{}", text.replace('\n', "\n    ")))
            }
            Format::Yaml => {
                let text = serde_saphyr::to_string(&[object]).map_err(|error| failed(&error))?;
                let before = if is_first { "apiVersion: v1\nkind: List\nitems:\n" } else { "" };
                Ok(format!("{before}{text}"))
            }
            Format::JsonPath(_) => {
                self.kept.push(object);
                Ok(String::new())
            }
            format => objects(format, &[object], true),
        }
    }

    /// What to print at the end.
    ///
    /// # Errors
    /// As [`objects`].
    pub(super) fn end(self) -> Result<String> {
        match &self.format {
            Format::Json if self.number > 0 => Ok("\n  ],\n  \"kind\": \"List\"\n}\n".to_owned()),
            Format::Json | Format::Yaml if self.number > 0 => Ok(String::new()),
            format => objects(format, &self.kept, false),
        }
    }
}

/// `kind.group/name`, as kubectl writes it.
pub(super) fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let group =
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
    let group = group.map(|group| format!(".{group}")).unwrap_or_default();
    format!("{kind}{group}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job() -> Value {
        json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "j"},
            "status": {"phase": "FAILED", "attempts": [{"attempt": 1, "container": {"exitCode": 3}}]}})
    }

    fn printed(format: &str, objects: &[Value], single: bool) -> String {
        super::objects(&format.parse().expect("a format"), objects, single).expect("text")
    }

    #[test]
    fn one_object_is_itself_and_several_are_a_list() {
        assert_eq!(printed("name", &[job()], true), "batchjob.batchyard.io/j\n");
        assert!(printed("yaml", &[job()], true).contains("kind: BatchJob"));
        assert!(printed("json", &[job(), job()], true).contains("\"List\""));
        assert!(printed("json", &[job()], false).contains("\"List\""), "what lists always prints a list");
    }

    #[test]
    fn a_list_is_the_same_whether_it_comes_at_once_or_bit_by_bit() {
        for format in ["json", "yaml", "name", "jsonpath={.items[*].metadata.name}"] {
            for number in 0..3 {
                let all = vec![job(); number];
                let mut list = List::new(format.parse().expect("a format"));
                let mut text: String = all.iter().map(|job| list.item(job.clone()).expect("text")).collect();
                text.push_str(&list.end().expect("text"));
                let at_once = printed(format, &all, false);
                if format == "yaml" {
                    let read = |text| serde_saphyr::from_str::<Value>(text).expect("YAML");
                    assert_eq!(read(&text), read(&at_once), "{text}");
                } else {
                    assert_eq!(text, at_once, "{format}, {number} jobs");
                }
            }
        }
    }

    #[test]
    fn jsonpath_is_that_of_kubectl() {
        let of = |template: &str| printed(&format!("jsonpath={template}"), &[job()], true);
        assert_eq!(of("{.status.phase}"), "FAILED\n");
        assert_eq!(of("{.metadata.name}: {.status.attempts[0].container.exitCode}{\"\\n\"}"), "j: 3\n");
        assert_eq!(of("{status.attempts[*].attempt}"), "1\n");
        assert_eq!(of("{.nothing}"), "\n");
        for (wrong, why) in [
            ("jsonpath={.a", "closing brace"),
            ("jsonpath={range .items}", "range"),
            ("jsonpath={[}", "JSONPath"),
            ("xml", "expected"),
        ] {
            let error = wrong.parse::<Format>().expect_err("refused");
            assert!(error.contains(why), "{error}");
        }
    }
}
