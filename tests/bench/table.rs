//! The numbers as people read them.

use std::fmt::Write as _;
use std::fs;

use crate::contender::Contender;
use crate::fairness::{self, Starts};
use crate::round::Outcome;
use crate::submissions::Submissions;

/// The machine that was measured on.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let build =
        if cfg!(debug_assertions) { "debug build: slower than what is shipped" } else { "release build" };
    format!(
        "{cpus} CPUs ({}), {} GiB, {build}",
        model.trim_start_matches([' ', '\t', ':']),
        kib.unwrap_or(0) >> 20
    )
}

/// Contenders line by line, each with its ratio to the first.
pub(crate) fn comparison(title: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{title}\n  {:<18}{:>9}{:>8}{:>14}{:>8}{:>17}{:>16}{:>10}\n",
        "", "jobs/s", "ratio", "writes/job", "ratio", "API server CPU s", "operator CPU s", "its MiB"
    );
    let Some(first) = outcomes.first() else { return text };
    for outcome in outcomes {
        let operator = outcome.taken.get("operator");
        let _ = writeln!(
            text,
            "  {:<18}{:>9.1}{:>8.2}{:>14.2}{:>8.2}{:>17.1}{:>16}{:>10}",
            outcome.contender.name(),
            outcome.jobs_per_second(),
            outcome.jobs_per_second() / first.jobs_per_second(),
            outcome.writes_per_job(),
            outcome.writes_per_job() / first.writes_per_job(),
            outcome.cpu("kube-apiserver"),
            operator.map_or("-".to_owned(), |taken| format!("{:.1}", taken.cpu_seconds)),
            operator.map_or("-".to_owned(), |taken| taken.peak_mib.to_string()),
        );
    }
    for outcome in outcomes {
        let jobs = outcome.shape.jobs as f64;
        let each = outcome.writes.iter().map(|(what, count)| format!("{what} {:.2}", *count as f64 / jobs));
        let _ = writeln!(text, "  {}: {}", outcome.contender.name(), each.collect::<Vec<_>>().join(", "));
    }
    for outcome in outcomes {
        let _ = writeln!(text, "  {}: {}", outcome.contender.name(), components(outcome, first));
    }
    text
}

/// What each component took, with its ratio to what it took for the first contender.
fn components(outcome: &Outcome, first: &Outcome) -> String {
    let all: f64 = outcome.taken.values().map(|taken| taken.cpu_seconds).sum();
    let each = outcome.taken.iter().map(|(name, taken)| {
        let known = first.taken.get(name).filter(|known| known.cpu_seconds > 0.0);
        let ratio = known.map_or(String::new(), |known| {
            let (cpu, memory) =
                (taken.cpu_seconds / known.cpu_seconds, ratio(taken.peak_mib, known.peak_mib));
            format!(" ({cpu:.2}, {memory:.2})")
        });
        format!("{name} {:.1} s {} MiB{ratio}", taken.cpu_seconds, taken.peak_mib)
    });
    let each = each.collect::<Vec<_>>().join(", ");
    format!("{each}; all {:.1} ms of CPU per job", all * 1000.0 / outcome.shape.jobs as f64)
}

fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

/// What was to be reached, and whether it was.
pub(crate) fn goals(
    outcomes: &[Outcome],
    arrays: &[Outcome],
    backlog: Option<&Outcome>,
    submissions: &[Submissions],
    starts: &[Starts],
) -> String {
    let of = |contender: Contender| outcomes.iter().find(|outcome| outcome.contender == contender);
    let mut text = "goals\n".to_owned();
    let mut goal = |what: &str, is: f64, met: bool| {
        let _ = writeln!(text, "  {} {what}: {is:.2}", if met { "met   " } else { "MISSED" });
    };
    if let (Some(pods), Some(jobs), Some(own)) =
        (of(Contender::Pods), of(Contender::Jobs), of(Contender::Batchyard))
    {
        let to_pods = own.jobs_per_second() / pods.jobs_per_second();
        let to_jobs = own.jobs_per_second() / jobs.jobs_per_second();
        let cpu = own.cpu("operator") / own.cpu("kube-apiserver");
        goal("writes per job at most 9 under load", own.writes_per_job(), own.writes_per_job() <= 9.0);
        goal("throughput at least 1.5 times that of batch/v1 Jobs", to_jobs, to_jobs >= 1.5);
        goal("throughput at least 0.8 times that of bare pods", to_pods, to_pods >= 0.8);
        goal("operator's CPU at most a tenth of the API server's", cpu, cpu <= 0.1);
    }
    for outcomes in [outcomes, arrays] {
        let of = |contender: Contender| outcomes.iter().find(|outcome| outcome.contender == contender);
        let Some((indexed, array)) = of(Contender::Indexed).zip(of(Contender::Array)) else { continue };
        let children = array.shape.jobs;
        let faster = array.jobs_per_second() / indexed.jobs_per_second();
        let what = format!("throughput of {children} children at least 1.2 times that of an Indexed Job");
        goal(&what, faster, faster >= 1.2);
        let writes = array.writes_per_job() / indexed.writes_per_job();
        goal(&format!("writes per child of {children} fewer than an Indexed Job's"), writes, writes < 1.0);
    }
    if let [objects, calls] = submissions {
        let rate = calls.per_second() / objects.per_second();
        goal("SubmitJob at least 0.7 times as fast as creating objects", rate, rate >= 0.7);
    }
    if !starts.is_empty() {
        let ratio = fairness::worst(starts);
        goal("a job starts within twice its time, whatever another team does", ratio, ratio <= 2.0);
    }
    if let Some(backlog) = backlog {
        let memory = backlog.taken.get("operator").map_or(0.0, |taken| taken.peak_mib as f64);
        goal("memory at most 150 MiB with the backlog", memory, memory <= 150.0);
        if let Some((longest, mean)) = backlog.cycle_ms {
            goal("mean scheduling cycle at most 20 ms with the backlog", mean, mean <= 20.0);
            let _ = writeln!(text, "         the longest cycle took at most {longest:.0} ms");
        }
    }
    text
}
