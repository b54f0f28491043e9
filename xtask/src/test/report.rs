//! What was tried, how long it took, and what came of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Part;
use crate::interrupt;
use crate::rights::Calls;
use crate::step::say;

/// What came of one stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// With the reason for each.
    pub(super) skipped: Vec<String>,
    /// What failed tests said, as far as they said something.
    pub(super) complaints: Vec<String>,
}

impl Counts {
    /// Something that passes or fails as a whole.
    pub(super) fn one() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// Something that was not tried, and why.
    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: vec![why.into()], ..Self::default() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.complaints.extend(other.complaints);
    }
}

struct Stage {
    part: Part,
    title: String,
    took: Duration,
    counts: Counts,
}

/// All stages of a run.
#[derive(Default)]
pub(super) struct Report {
    stages: Vec<Stage>,
    /// What the programs of the chart asked of all clusters.
    pub(super) calls: Calls,
}

impl Report {
    /// Runs one stage and remembers what came of it. An error is a failure of it; after Ctrl-C nothing more is begun.
    pub(super) fn stage(&mut self, part: Part, title: &str, work: impl FnOnce() -> Result<Counts>) -> bool {
        if interrupt::was_asked() {
            return false;
        }
        say(format!("▶ {}: {title}", part.name()));
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        let counts = match outcome {
            Ok(counts) => counts,
            Err(error) => {
                let complaint = format!("error: {error:#}");
                eprintln!("{complaint}");
                Counts { failed: 1, complaints: vec![complaint], ..Counts::default() }
            }
        };
        let passed = counts.failed == 0;
        say(format!("{} {title} ({:.1} s)", if passed { "✓" } else { "✗" }, took.as_secs_f32()));
        self.stages.push(Stage { part, title: title.to_owned(), took, counts });
        passed
    }

    pub(super) fn has_failed(&self) -> bool {
        self.stages.iter().any(|stage| stage.counts.failed > 0)
    }

    /// A line for each stage, one for each part with its budget, what was skipped, what failed tests said, and the sum.
    pub(super) fn print(&self) {
        println!(
            "\n{:<26}{:<34}{:>9}{:>8}{:>8}{:>9}",
            "part", "stage", "seconds", "passed", "failed", "skipped"
        );
        for stage in &self.stages {
            let Counts { passed, failed, skipped, .. } = &stage.counts;
            let (part, title, skipped) = (stage.part.name(), &stage.title, skipped.len());
            println!(
                "{part:<26}{title:<34}{:>9.1}{passed:>8}{failed:>8}{skipped:>9}",
                stage.took.as_secs_f32()
            );
        }
        println!("\n{:<26}{:>9}{:>9}", "part", "minutes", "budget");
        for part in Part::ALL {
            let took: Duration = self.stages.iter().filter(|s| s.part == part).map(|s| s.took).sum();
            let minutes = |time: Duration| time.as_secs_f32() / 60.0;
            let over = if took > part.budget() { "  over budget" } else { "" };
            println!("{:<26}{:>9.1}{:>9.0}{over}", part.name(), minutes(took), minutes(part.budget()));
        }
        let mut sum = Counts::default();
        self.stages.iter().for_each(|stage| sum.add(stage.counts.clone()));
        if !sum.skipped.is_empty() {
            println!("\nskipped:");
            let mut times: BTreeMap<&str, usize> = BTreeMap::new();
            sum.skipped.iter().for_each(|why| *times.entry(why).or_default() += 1);
            times.iter().for_each(|(why, times)| println!("  - {times} × {why}"));
        }
        // Last, since of a long output often only the end is kept.
        sum.complaints.iter().for_each(|complaint| println!("\n{complaint}"));
        println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped.len());
    }
}
