//! How arrays and multi-node jobs are told of as a whole: how far they are, and what `describe` and `why` say.

use std::fmt::Write as _;

use batchyard_core::job::phase::Phase;
use kube::ResourceExt as _;
use serde_json::Value;

use super::table::{Screen, one_line};
use crate::crd::BatchJob;
use crate::crd::children::{count, in_phase, list};
use crate::crd::job_queue::JobCounts;

/// How many children have ended, of how many: `12/50`.
pub(super) fn ended_of(job: &BatchJob) -> Option<String> {
    let (size, well, badly, _) = numbers(job)?;
    Some(format!("{}/{size}", well + badly))
}

/// What is told of an array that has no reason to give: its children are what happens.
pub(super) fn brief(job: &BatchJob) -> Option<String> {
    let (size, well, badly, _) = numbers(job)?;
    let failed = if badly > 0 { format!(", {badly} of them badly") } else { String::new() };
    Some(format!("{} of {size} children have ended{failed}", well + badly))
}

/// How far an array is, or how many nodes of a multi-node job run, with a bar.
pub(super) fn progress(job: &BatchJob) -> Option<String> {
    const BAR: i64 = 20;
    if let Some(nodes) = nodes(job) {
        return Some(nodes);
    }
    let (size, well, badly, running) = numbers(job)?;
    let filled = usize::try_from((well + badly) * BAR / size.max(1)).unwrap_or(0);
    let bar = format!("{:.<20}", "#".repeat(filled));
    let of = |number: i64, what: &str| if number > 0 { format!(", {number} {what}") } else { String::new() };
    Some(format!("[{bar}] {}/{size}{}{}", well + badly, of(running, "running"), of(badly, "failed")))
}

/// How many there are, ended well, ended badly, and run. Of a rerun only those count that run again.
fn numbers(job: &BatchJob) -> Option<(i64, i64, i64, i64)> {
    let array = job.status.as_ref()?.array_properties.as_ref()?;
    array.status_summary.as_ref()?;
    let number = |phase| count(array, phase);
    let all: i64 = Phase::ALL.into_iter().map(number).sum();
    let size = if all > 0 { all } else { i64::from(array.size?) };
    Some((size, number(Phase::Succeeded), number(Phase::Failed), number(Phase::Running)))
}

fn nodes(job: &BatchJob) -> Option<String> {
    let status = job.status.as_ref()?;
    let nodes = status.node_properties.as_ref()?;
    let counts = nodes.status_summary.as_ref().filter(|_| !status.record.phase().is_terminal())?;
    Some(format!("{}/{} nodes run", in_phase(counts, Phase::Running), nodes.num_nodes?))
}

/// The counts that are not zero: `3 RUNNING, 12 SUCCEEDED`.
pub(super) fn counted(counts: &JobCounts) -> String {
    let told = Phase::ALL.into_iter().map(|phase| (in_phase(counts, phase), phase));
    let told = told.filter(|(number, _)| *number > 0).map(|(number, phase)| format!("{number} {phase}"));
    told.collect::<Vec<_>>().join(", ")
}

/// The section of a page about a job's children or nodes.
pub(super) fn section(page: &mut String, job: &BatchJob, screen: Screen) {
    let Some(status) = &job.status else { return };
    if let Some(array) = &status.array_properties {
        let _ = writeln!(page, "\n{}", screen.heading("Children"));
        for phase in Phase::ALL {
            let number = count(array, phase);
            if number > 0 {
                let pad = " ".repeat(10usize.saturating_sub(phase.as_str().len()));
                let which = list(array, phase).unwrap_or_default();
                let name = screen.paint(phase.as_str(), phase.as_str());
                let line = format!("  {name}{pad} {number:>5}   {}", one_line(which));
                let _ = writeln!(page, "{}", line.trim_end());
            }
        }
        rules(page, job);
        fact(page, "Records", &array.records.map(|records| records.to_string()).unwrap_or_default());
        let name = job.name_any();
        let _ = writeln!(
            page,
            "  kubectl batch children {name} lists them, describe {name}:INDEX tells all of one."
        );
    }
    if let Some(nodes) = &status.node_properties {
        let _ = writeln!(page, "\n{}", screen.heading("Nodes"));
        let number = |number: Option<i32>| number.map(|number| number.to_string()).unwrap_or_default();
        fact(page, "Nodes", &number(nodes.num_nodes));
        fact(page, "Main node", &number(nodes.main_node));
        fact(page, "Now", &nodes.status_summary.as_ref().map(counted).unwrap_or_default());
        let _ = writeln!(page, "  kubectl batch children {} lists them.", job.name_any());
    }
}

/// What the array's author decided about its children. Read as it was written: a percentage stays one.
fn rules(page: &mut String, job: &BatchJob) {
    let array = serde_json::to_value(&job.spec.array_properties).unwrap_or_default();
    let told = [
        ("At a time", "maxRunning"),
        ("Tolerated failures", "toleratedFailures"),
        ("Go on after failure", "continueOnFailure"),
        ("Rerun of", "rerunFailedOf"),
    ];
    for (title, member) in told {
        let text = match &array[member] {
            Value::Null | Value::Bool(false) => continue,
            Value::Bool(true) => "yes".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        fact(page, title, &text);
    }
}

fn fact(page: &mut String, title: &str, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(page, "  {:<21}{}", format!("{title}:"), one_line(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NO_SCREEN: Screen = Screen { width: None, colours: false };

    fn job(array: Value, status: Value) -> BatchJob {
        serde_json::from_value(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "sweep"}, "spec": {"jobQueue": "q", "arrayProperties": array}, "status": status}))
        .expect("a job")
    }

    fn told(job: &BatchJob) -> String {
        let mut page = String::new();
        section(&mut page, job, NO_SCREEN);
        page
    }

    #[test]
    fn a_page_sums_an_array_up() {
        let status = json!({"phase": "PENDING", "arrayProperties": {"size": 50, "records": 2,
            "statusSummary": {"SUBMITTED": 0, "RUNNING": 8, "RUNNABLE": 30, "SUCCEEDED": 11, "FAILED": 1},
            "indexes": {"RUNNABLE": "20-49", "RUNNING": "12-19", "SUCCEEDED": "0-6,8-11", "FAILED": "7\u{1b}[2J"}}});
        let sweep = job(json!({"size": 50, "toleratedFailures": 3, "rerunFailedOf": "first"}), status);
        assert_eq!(
            told(&sweep),
            "\nChildren\n\
             \x20 RUNNABLE      30   20-49\n\
             \x20 RUNNING        8   12-19\n\
             \x20 SUCCEEDED     11   0-6,8-11\n\
             \x20 FAILED         1   7 [2J\n\
             \x20 Tolerated failures:  3\n\
             \x20 Rerun of:            first\n\
             \x20 Records:             2\n\
             \x20 kubectl batch children sweep lists them, describe sweep:INDEX tells all of one.\n"
        );
        assert_eq!(ended_of(&sweep).as_deref(), Some("12/50"));
        assert_eq!(brief(&sweep).as_deref(), Some("12 of 50 children have ended, 1 of them badly"));
        assert_eq!(progress(&sweep).as_deref(), Some("[####................] 12/50, 8 running, 1 failed"));
    }

    #[test]
    fn a_single_job_has_no_such_section() {
        let single = job(Value::Null, json!({"phase": "RUNNING"}));
        assert_eq!((told(&single).as_str(), ended_of(&single), progress(&single)), ("", None, None));
        let early = job(json!({"size": 5}), json!({"phase": "SUBMITTED"}));
        assert_eq!(ended_of(&early), None);
    }

    #[test]
    fn nodes_are_counted() {
        let nodes = json!({"phase": "STARTING", "nodeProperties": {"numNodes": 4, "mainNode": 0,
            "statusSummary": {"RUNNING": 3, "STARTING": 1}}});
        let ring = job(Value::Null, nodes);
        assert_eq!(progress(&ring).as_deref(), Some("3/4 nodes run"));
        let page = told(&ring);
        assert!(page.contains("  Main node:           0\n"), "{page}");
        assert!(page.contains("  Now:                 1 STARTING, 3 RUNNING\n"), "{page}");
    }
}
