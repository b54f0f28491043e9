//! Progress of the jobs: a table that is kept up to date on a terminal, else a line per change.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::process::{Command, Stdio};

use super::jobs::Job;
use crate::step::{elapsed, say};

/// The width of a terminal that does not tell its own.
const WIDTH: usize = 100;

pub(super) struct Screen {
    /// How wide the terminal is; none if the output goes elsewhere.
    width: Option<usize>,
    /// How many lines of the table are to be overwritten.
    drawn: usize,
    /// What was last said of each job.
    said: BTreeMap<String, String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let width = stdout().is_terminal().then(|| terminal_width().unwrap_or(WIDTH));
        Self { width, drawn: 0, said: BTreeMap::new() }
    }

    /// Shows the jobs as they are now.
    pub(super) fn show(&mut self, jobs: &BTreeMap<String, Job>, waiting_for: &str) {
        match self.width {
            Some(width) => self.draw(width, jobs, waiting_for),
            None => self.tell(jobs),
        }
    }

    /// What is printed next goes below the table.
    pub(super) fn leave(&mut self) {
        self.drawn = 0;
    }

    fn draw(&mut self, width: usize, jobs: &BTreeMap<String, Job>, waiting_for: &str) {
        let mut lines = vec![row("JOB", "PHASE", "ATTEMPT", "NODE", "REASON")];
        lines.extend(jobs.values().map(describe));
        lines.push(format!("{} waiting for: {waiting_for}", elapsed()));
        let mut picture = String::new();
        if self.drawn > 0 {
            picture.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        for line in &lines {
            picture.extend(line.chars().take(width.saturating_sub(1)));
            picture.push('\n');
        }
        self.drawn = lines.len();
        // A terminal that is gone is noticed elsewhere.
        let _ = stdout().write_all(picture.as_bytes()).and_then(|()| stdout().flush());
    }

    fn tell(&mut self, jobs: &BTreeMap<String, Job>) {
        // A job that nobody has looked at yet has no phase.
        for (name, job) in jobs.iter().filter(|(_, job)| !job.is("")) {
            let now = describe(job);
            if self.said.get(name) != Some(&now) {
                say(&now);
                self.said.insert(name.clone(), now);
            }
        }
    }
}

fn describe(job: &Job) -> String {
    let attempt = match job.attempt() {
        0 => String::new(),
        number => number.to_string(),
    };
    let last = job.status.attempts.last().and_then(|attempt| attempt.node_name.as_deref());
    let node = if job.has_ended() { last } else { job.node() };
    let reason = match job.status.status_reason.as_deref() {
        _ if job.is_unreachable() => "NodeUnreachable: the node does not answer",
        Some(reason) => reason,
        None => "",
    };
    if let Some(counts) = job.counts() {
        let ended = job.counted("SUCCEEDED").unwrap_or(0) + job.counted("FAILED").unwrap_or(0);
        let progress = format!("{ended}/{}", job.parts().unwrap_or(0));
        let both = if reason.is_empty() { counts } else { format!("{counts}: {reason}") };
        return row(&job.metadata.name, &job.status.phase, &progress, "-", &both);
    }
    row(&job.metadata.name, &job.status.phase, &attempt, node.unwrap_or("-"), reason)
}

fn row(job: &str, phase: &str, attempt: &str, node: &str, reason: &str) -> String {
    format!("{job:<16} {phase:<10} {attempt:<8} {node:<18} {reason}").trim_end().to_owned()
}

fn terminal_width() -> Option<usize> {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().filter(|width| *width > 0)
}
