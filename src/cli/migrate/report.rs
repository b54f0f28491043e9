//! What a migration changes, object by object, and altogether.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

/// Something that is said about a part of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Told {
    /// A member, or what it is about.
    pub(super) about: String,
    /// What is said.
    pub(super) text: String,
}

impl Told {
    /// Says something.
    pub(super) fn new(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { about: about.into(), text: text.into() }
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It was written.
    #[default]
    Written,
    /// It would not be taken.
    Refused,
    /// It was not meant to be written.
    LeftOut,
}

/// What is said of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// Its kind.
    pub(super) kind: &'static str,
    /// AWS's name.
    pub(super) name: String,
    /// The number of a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u32>,
    /// The object's name in the cluster.
    pub(super) object: String,
    /// The file that tells of it, if one does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) file: String,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// Why it is refused, or left out.
    pub(super) because: Vec<String>,
    /// Members that the manifest has, or the command's input.
    pub(super) kept: Vec<String>,
    /// Members that are kept and have no effect, and why.
    pub(super) not_honoured: Vec<Told>,
    /// What is different from now on.
    pub(super) changes: Vec<Told>,
    /// Members that were not kept, and why.
    pub(super) left_out: Vec<Told>,
    /// What must exist.
    pub(super) needs: Vec<Told>,
}

impl Entry {
    /// `JobDefinition render:3`.
    fn title(&self) -> String {
        let revision = self.revision.map(|number| format!(":{number}")).unwrap_or_default();
        format!("{} {}{revision}", self.kind, self.name)
    }

    /// Something is different.
    pub(super) fn change(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.changes.push(Told::new(about, text));
    }

    /// Something must exist.
    pub(super) fn need(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.needs.push(Told::new(what, text));
    }

    /// Something is not kept.
    pub(super) fn leave_out(&mut self, member: impl Into<String>, text: impl Into<String>) {
        self.left_out.push(Told::new(member, text));
    }
}

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The namespace that stands for the account.
    pub(super) namespace: String,
    /// The accounts and regions that the files are from, as the beginnings of their ARNs.
    pub(super) accounts: Vec<String>,
    /// Object by object.
    pub(super) objects: Vec<Entry>,
    /// What concerns all of them.
    pub(super) notes: Vec<String>,
    /// What to do next, one command a line.
    pub(super) next: Vec<String>,
}

/// How many objects of each kind had which outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    written: BTreeMap<&'static str, usize>,
    refused: BTreeMap<&'static str, usize>,
    left_out: BTreeMap<&'static str, usize>,
    /// Members that have no effect, and in how many objects.
    not_honoured: BTreeMap<String, usize>,
    /// What must exist, and for what.
    needs: BTreeMap<String, BTreeSet<String>>,
}

/// A member's path without the places in lists.
pub(super) fn pattern(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            out.push(c);
        }
        inside = inside || c == '[';
    }
    out
}

impl Report {
    /// How many objects would not be taken.
    pub(super) fn refused(&self) -> usize {
        self.objects.iter().filter(|entry| entry.outcome == Outcome::Refused).count()
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for entry in &self.objects {
            let counts = match entry.outcome {
                Outcome::Written => &mut summary.written,
                Outcome::Refused => &mut summary.refused,
                Outcome::LeftOut => &mut summary.left_out,
            };
            *counts.entry(entry.kind).or_default() += 1;
            if entry.outcome != Outcome::Written {
                continue;
            }
            let members: BTreeSet<String> = entry
                .not_honoured
                .iter()
                .map(|told| format!("{} {}", entry.kind, pattern(&told.about)))
                .collect();
            members.into_iter().for_each(|member| *summary.not_honoured.entry(member).or_default() += 1);
            for need in &entry.needs {
                summary.needs.entry(need.about.clone()).or_default().insert(need.text.clone());
            }
        }
        summary
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let mut whole = serde_json::to_value(self).unwrap_or_default();
        whole["summary"] = serde_json::to_value(self.summary()).unwrap_or_default();
        serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("Namespace {}", self.namespace);
        if !self.accounts.is_empty() {
            let _ = write!(text, " for {}", self.accounts.join(", "));
        }
        text.push('\n');
        for entry in &self.objects {
            text.push('\n');
            text.push_str(&self::entry(entry));
        }
        text.push('\n');
        text.push_str(&self.in_short());
        text
    }

    fn in_short(&self) -> String {
        let summary = self.summary();
        let mut text = String::new();
        let counts = |counts: &BTreeMap<&str, usize>| {
            let each: Vec<String> = counts.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
        };
        let _ = writeln!(text, "Written: {}", counts(&summary.written));
        for (word, of) in [("Refused", &summary.refused), ("Left out", &summary.left_out)] {
            if !of.is_empty() {
                let _ = writeln!(text, "{word}: {}", counts(of));
            }
        }
        if !summary.not_honoured.is_empty() {
            text.push_str("Kept without effect:\n");
        }
        for (member, number) in &summary.not_honoured {
            let _ = writeln!(text, "  {member} ({number})");
        }
        if !summary.needs.is_empty() {
            let _ = writeln!(text, "Must exist:");
        }
        for (what, why) in &summary.needs {
            let _ = writeln!(text, "  {what}: {}", why.iter().cloned().collect::<Vec<_>>().join("; "));
        }
        for (word, lines) in [("Note", &self.notes), ("Next", &self.next)] {
            if !lines.is_empty() {
                let _ = writeln!(text, "{word}:");
                lines.iter().for_each(|line| _ = writeln!(text, "  {line}"));
            }
        }
        text
    }
}

fn entry(entry: &Entry) -> String {
    let mut text = match entry.outcome {
        Outcome::Written => format!("{} -> {}\n", entry.title(), entry.object),
        Outcome::Refused => format!("{} of {} is refused\n", entry.title(), entry.file),
        Outcome::LeftOut => format!("{} is left out\n", entry.title()),
    };
    entry.because.iter().for_each(|why| _ = writeln!(text, "  {why}"));
    if entry.outcome == Outcome::Written {
        let _ = writeln!(text, "  kept: {}", entry.kept.join(", "));
    }
    for (head, lines) in [
        ("without effect", &entry.not_honoured),
        ("different", &entry.changes),
        ("not kept", &entry.left_out),
        ("must exist", &entry.needs),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(text, "  {head}:");
        }
        lines.iter().for_each(|told| _ = writeln!(text, "    {}: {}", told.about, told.text));
    }
    text
}
