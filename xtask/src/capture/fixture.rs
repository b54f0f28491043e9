//! The stored fixtures: what of them is captured is compared and written here, the rest is ours.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::normal;
use crate::cluster;

/// The `source` of a captured fixture.
const SOURCE: &str = "cargo xtask capture";

/// Ends the names of fixtures that show what is seen at some times in place of another.
pub(super) const AT_TIMES: &str = "-at-times";

/// What became of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The stored fixture shows the same.
    Equal,
    /// It shows something else, or there is none.
    Changed,
}

/// A picture, as members of a fixture: the chosen version of the pod, and later ones that show
/// the same moment.
pub(super) struct Picture {
    /// The fixture's file without `.json`.
    pub(super) fixture: String,
    /// The chosen version first.
    pub(super) versions: Vec<Map<String, Value>>,
}

/// Where the fixtures are.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(cluster::repository()?.join("src/core/tests/fixtures/termination"))
}

impl Picture {
    /// Compares with what is stored, and stores it if that is wanted. Several writes of the kubelet
    /// may show one moment, and some things end now like this and now like that; so it is enough
    /// that one version is one of those that are stored.
    pub(super) fn compare(&self, kubernetes: &str, update: bool) -> Result<Outcome> {
        let stored = read(&self.fixture)?;
        let others = read(&format!("{}{AT_TIMES}", self.fixture))?;
        let captured = [&stored, &others].into_iter().filter(|fixture| is_captured(fixture));
        let shapes: Vec<Value> = captured.map(normal::shape).collect();
        if self.versions.iter().any(|version| shapes.contains(&normal::shape(version))) {
            return Ok(Outcome::Equal);
        }
        if update {
            let text = serde_json::to_string_pretty(&self.updated(stored, kubernetes))?;
            let file = file(&self.fixture)?;
            fs::write(&file, text + "\n").with_context(|| file.display().to_string())?;
        } else if let Some(version) = self.versions.first() {
            for difference in differences("", &normal::shape(&stored), &normal::shape(version)) {
                println!("  {}: {difference}", self.fixture);
            }
        }
        Ok(Outcome::Changed)
    }

    /// The fixture with this picture. What is wanted and what is added by hand stays.
    fn updated(&self, stored: Map<String, Value>, kubernetes: &str) -> Map<String, Value> {
        let captured = ["node", "instance", "why"];
        let mut fixture: Map<String, Value> =
            stored.into_iter().filter(|(key, _)| !captured.contains(&key.as_str())).collect();
        fixture.extend(self.versions.first().cloned().unwrap_or_default());
        let row = self.fixture.split('-').next().unwrap_or_default();
        fixture.insert("row".to_owned(), row.into());
        fixture.insert("source".to_owned(), SOURCE.into());
        fixture.insert("kubernetes".to_owned(), kubernetes.into());
        fixture.entry("want").or_insert_with(|| json!({}));
        fixture
    }
}

fn file(fixture: &str) -> Result<PathBuf> {
    Ok(folder()?.join(format!("{fixture}.json")))
}

/// A stored fixture; empty if there is none.
fn read(fixture: &str) -> Result<Map<String, Value>> {
    let file = file(fixture)?;
    match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| file.display().to_string()),
        Err(_) => Ok(Map::new()),
    }
}

/// Whether a fixture was captured.
pub(super) fn is_captured(fixture: &Map<String, Value>) -> bool {
    fixture.get("source").is_some_and(|source| source == SOURCE)
}

/// Where two values differ, a line each.
fn differences(path: &str, stored: &Value, captured: &Value) -> Vec<String> {
    match (stored, captured) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let at = |side: &Map<String, Value>, key: &str| side.get(key).cloned().unwrap_or_default();
            keys.flat_map(|key| differences(&format!("{path}.{key}"), &at(a, key), &at(b, key))).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.flat_map(|(at, (a, b))| differences(&format!("{path}[{at}]"), a, b)).collect()
        }
        _ if stored == captured => Vec::new(),
        _ => vec![format!("{path} is stored as {stored}, captured as {captured}")],
    }
}
