//! The revisions of a definition, and in which steps they are applied so that they get AWS's numbers.
//!
//! A number is claimed when the controller sees a changed spec: it has to see each of them before the next is applied.
//! Numbers before the first one are passed over by a ControllerRevision that holds the last of them; numbers between two
//! are registered too, and deregistered at once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::build::Built;
use super::report::{Entry, Outcome};
use crate::k8s::meta;

/// What is applied, in order: each step after the controller has seen the one before.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// The manifests of each step, with what they are: kind, object and number.
    pub(super) steps: Vec<Vec<Value>>,
    /// After a step: the number that a definition must have before the next one.
    pub(super) waits: Vec<Vec<(String, u32)>>,
}

impl Steps {
    fn push(&mut self, step: usize, manifest: Value) {
        while self.steps.len() <= step {
            self.steps.push(Vec::new());
            self.waits.push(Vec::new());
        }
        self.steps[step].push(manifest);
    }

    /// Everything but definitions comes first.
    pub(super) fn first(&mut self, manifest: Value) {
        self.push(0, manifest);
    }

    /// Adds the revisions of one definition: all ACTIVE ones, or only the newest.
    pub(super) fn definition(
        &mut self,
        namespace: &str,
        mut revisions: Vec<Built>,
        newest_only: bool,
    ) -> Vec<Entry> {
        number(&mut revisions);
        let mut entries = Vec::new();
        let numbers: BTreeMap<u32, Built> =
            revisions.iter().filter_map(|built| Some((built.entry.revision?, built.clone()))).collect();
        let newest = numbers.values().rfind(|built| is_usable(built)).and_then(|built| built.entry.revision);
        let mut wanted: Vec<u32> =
            numbers.iter().filter(|(_, built)| is_usable(built)).map(|(number, _)| *number).collect();
        if newest_only {
            wanted.retain(|number| Some(*number) == newest);
        }
        for mut built in revisions {
            let number = built.entry.revision.unwrap_or(0);
            if built.entry.outcome == Outcome::Written && !wanted.contains(&number) {
                built.entry.outcome = Outcome::LeftOut;
                let name = &built.entry.name;
                built.entry.because.push(match (built.is_active, newest) {
                    (true, Some(newest)) => {
                        format!("it is not the newest: what names {name}:{number} must name {name}:{newest}")
                    }
                    _ => "it is INACTIVE".to_owned(),
                });
            }
            entries.push(built.entry);
        }
        self.apply(namespace, &numbers, &wanted);
        entries
    }

    fn apply(&mut self, namespace: &str, numbers: &BTreeMap<u32, Built>, wanted: &[u32]) {
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return };
        if *first > 1 {
            self.first(marker(namespace, &numbers[first], first - 1, numbers.get(&(first - 1))));
        }
        let mut deregistered: Vec<u32> = Vec::new();
        let mut before: Option<&Value> = None;
        for (step, number) in (*first..=*last).enumerate() {
            let is_gap = !wanted.contains(&number);
            let next = wanted.iter().find(|wanted| **wanted >= number).unwrap_or(last);
            let known = numbers.get(&number).filter(|built| built.entry.outcome == Outcome::Written);
            let built = known.unwrap_or(&numbers[next]);
            let mut spec = built.spec.clone();
            let is_same = before.is_some_and(|before| *before == spec);
            if is_gap {
                deregistered.push(number);
            }
            if is_gap || is_same {
                spec["registration"] = json!(format!("revision {number}"));
            }
            if !deregistered.is_empty() {
                spec["deregistered"] = json!(deregistered);
            }
            self.push(step, built.manifest(namespace, &spec));
            self.waits[step].extend((number < *last).then(|| (built.object().to_owned(), number)));
            before = Some(&built.spec);
        }
    }
}

fn is_usable(built: &Built) -> bool {
    built.is_active && built.entry.outcome == Outcome::Written
}

/// Sorts revisions; those without a number come last and get the next ones. A revision that is there twice is refused
/// unless both say the same.
fn number(revisions: &mut Vec<Built>) {
    revisions.sort_by_key(|built| built.entry.revision.unwrap_or(u32::MAX));
    let mut last = 0;
    for built in revisions.iter_mut() {
        match built.entry.revision {
            Some(number) => last = number,
            None => {
                last += 1;
                built.entry.revision = Some(last);
                built.entry.change("revision", format!("the file gives it no number: it becomes {last}"));
            }
        }
    }
    revisions.dedup_by(|b, a| {
        a.entry.revision == b.entry.revision && a.spec == b.spec && a.is_active == b.is_active
    });
    for index in 1..revisions.len() {
        if revisions[index].entry.revision == revisions[index - 1].entry.revision {
            for built in &mut revisions[index - 1..=index] {
                built.entry.outcome = Outcome::Refused;
                built.entry.because.push("the files tell of it twice, and differ".to_owned());
            }
        }
    }
}

/// Holds the number before the first one: an INACTIVE revision.
fn marker(namespace: &str, first: &Built, number: u32, known: Option<&Built>) -> Value {
    let object = first.object();
    let minimal = json!({"jobDefinitionName": first.entry.name, "type": "container"});
    let data = known.map_or(minimal, |known| known.spec.clone());
    json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": format!("{object}-{number}"), "namespace": namespace, "labels": {
            meta::MANAGED_BY: meta::OPERATOR, meta::JOB_DEFINITION: object, meta::REVISION_STATUS: meta::INACTIVE}},
        "revision": number, "data": data})
}
