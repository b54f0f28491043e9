//! `kubectl batch watch`: jobs as they go through their phases. On a terminal a table that is drawn
//! anew, elsewhere a line for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use futures::StreamExt as _;
use futures::stream::select_all;
use jiff::Timestamp;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use tokio::time::interval;

use super::array::progress;
use super::connect::Cluster;
use super::error::{Error, Kind, Result};
use super::table::{Screen, Table, one_line};
use super::{find, print, time};
use crate::crd::BatchJob;

/// What to follow.
#[derive(clap::Args, Debug)]
pub(super) struct WatchArgs {
    /// Names or ids of jobs, or beginnings of them; ends when all of them have ended.
    #[arg(value_name = "JOB", required_unless_present = "queue")]
    jobs: Vec<String>,
    /// All jobs of this queue that have not ended, and those that come; goes on until it is interrupted.
    #[arg(short, long, value_name = "QUEUE", conflicts_with = "jobs")]
    queue: Option<String>,
}

/// How often a terminal is drawn at most.
const FRAME: Duration = Duration::from_millis(200);
/// The exit code for a job that failed and has no exit code of its own.
const NO_CODE: u8 = 125;

pub(super) async fn run(args: &WatchArgs, cluster: &Cluster) -> Result<ExitCode> {
    let mut names = Vec::new();
    for job in &args.jobs {
        names.push(find::job(cluster, job).await?.name_any());
    }
    let selectors = match &args.queue {
        Some(queue) => vec![format!("spec.jobQueue={queue},status.phase!=SUCCEEDED,status.phase!=FAILED")],
        None => names.iter().map(|name| format!("metadata.name={name}")).collect(),
    };
    let mut view = View::new(Screen::stdout());
    follow(cluster, &selectors, &names, &mut view).await
}

/// Waits for the end of a job that was just submitted, and tells of its phases on standard error.
pub(super) async fn to_the_end(cluster: &Cluster, name: &str) -> Result<ExitCode> {
    let mut view = View::new(Screen { width: None, colours: false });
    view.to_stderr = true;
    follow(cluster, &[format!("metadata.name={name}")], &[name.to_owned()], &mut view).await
}

/// Shows what happens until all of `names` have ended; for ever if there are none.
async fn follow(
    cluster: &Cluster,
    selectors: &[String],
    names: &[String],
    view: &mut View,
) -> Result<ExitCode> {
    let api: Api<BatchJob> = cluster.api();
    let events = selectors.iter().enumerate().map(|(number, selector)| {
        let events = watch(api.clone(), watcher::Config::default().fields(selector)).default_backoff();
        events.map(move |event| (number, event)).boxed()
    });
    let mut events = select_all(events);
    // What a list that is under way has not shown yet, by watch: it ended or went while nobody looked.
    let mut missing = vec![BTreeSet::new(); selectors.len()];
    let mut frame = interval(FRAME);
    loop {
        let (number, event) = tokio::select! {
            Some(event) = events.next() => event,
            _ = frame.tick() => {
                view.draw();
                continue;
            }
        };
        let to_look_at = match event {
            Ok(Event::Apply(job)) => {
                view.see(job);
                BTreeSet::new()
            }
            Ok(Event::Init) => {
                missing[number] =
                    names.get(number).cloned().map_or_else(|| view.open(), |name| [name].into());
                BTreeSet::new()
            }
            Ok(Event::InitApply(job)) => {
                missing[number].remove(&job.name_any());
                view.see(job);
                BTreeSet::new()
            }
            Ok(Event::InitDone) => std::mem::take(&mut missing[number]),
            // Gone, or only gone from what was selected because it has ended.
            Ok(Event::Delete(job)) => [job.name_any()].into(),
            Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error))
                if is_final(&error) =>
            {
                return Err(error.into());
            }
            // The watch goes on by itself.
            Err(_) => BTreeSet::new(),
        };
        for name in to_look_at {
            match api.get_opt(&name).await? {
                Some(job) => view.see(job),
                None if names.contains(&name) => {
                    return Err(Error::new(Kind::NotFound, format!("{name} was deleted")));
                }
                None => view.lose(&name),
            }
        }
        if !names.is_empty() && names.iter().all(|name| view.has_ended(name)) {
            view.draw();
            let codes = names.iter().map(|name| view.exit_code(name));
            return Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0).into());
        }
    }
}

fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404))
}

/// The exit code that stands for a job's end.
pub(super) fn exit_code(record: &Record) -> u8 {
    if record.phase() == Phase::Succeeded {
        return 0;
    }
    let code = record.attempts.last().and_then(|attempt| attempt.container.exit_code);
    code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(NO_CODE)
}

struct View {
    screen: Screen,
    to_stderr: bool,
    jobs: BTreeMap<String, BatchJob>,
    told: BTreeMap<String, String>,
    /// Lines that stand on the terminal now.
    drawn: usize,
}

impl View {
    fn new(screen: Screen) -> Self {
        Self { screen, to_stderr: false, jobs: BTreeMap::new(), told: BTreeMap::new(), drawn: 0 }
    }

    fn see(&mut self, job: BatchJob) {
        if self.screen.width.is_none() {
            self.tell(&job);
        }
        self.jobs.insert(job.name_any(), job);
    }

    fn lose(&mut self, name: &str) {
        if self.jobs.remove(name).is_some() && self.screen.width.is_none() {
            self.say(&format!("{} {name} deleted\n", time::second(Timestamp::now())));
        }
    }

    /// A line, if there is something new to it.
    fn tell(&mut self, job: &BatchJob) {
        let record = job.status.as_ref().map(|status| status.record.clone()).unwrap_or_default();
        let mut text = record.phase().as_str().to_owned();
        if let Some(attempt) = job.status.as_ref().and_then(|status| status.attempt) {
            let _ = write!(text, " attempt={attempt}");
        }
        if let Some(progress) = progress(job) {
            let _ = write!(text, " {progress}");
        }
        if let Some(reason) = &record.status_reason {
            let _ = write!(text, " {}", one_line(reason));
        }
        if self.told.get(&job.name_any()) != Some(&text) {
            self.say(&format!("{} {} {text}\n", time::second(Timestamp::now()), job.name_any()));
            self.told.insert(job.name_any(), text);
        }
    }

    fn say(&self, line: &str) {
        match self.to_stderr {
            true => eprint!("{line}"),
            false => print(line),
        }
    }

    /// Draws the table over the one that stands there.
    fn draw(&mut self) {
        if self.screen.width.is_none() || self.jobs.is_empty() {
            return;
        }
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
        let room = height.saturating_sub(3).max(1);
        let mut jobs: Vec<_> = self.jobs.values().collect();
        // What moves stands above what has ended; there the newest first.
        jobs.sort_by_key(|job| {
            (phase(job).is_terminal(), std::cmp::Reverse(stopped_at(job)), job.name_any())
        });
        let mut table = Table::new(self.screen, &["NAME", "PHASE", "ATTEMPT", "PROGRESS", "AGE", "REASON"]);
        for job in jobs.iter().take(room) {
            let status = job.status.clone().unwrap_or_default();
            table.row([
                job.name_any(),
                phase(job).as_str().to_owned(),
                status.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
                progress(job).unwrap_or_default(),
                time::age(job.creation_timestamp().map(|time| time.0)),
                status.record.status_reason.unwrap_or_default(),
            ]);
        }
        let mut text = table.show();
        if jobs.len() > room {
            let _ = writeln!(text, "and {} more", jobs.len() - room);
        }
        let back = if self.drawn > 0 { format!("\u{1b}[{}A\u{1b}[J", self.drawn) } else { String::new() };
        self.drawn = text.lines().count();
        print(&(back + &text));
    }

    /// The jobs that have not ended, as far as is known.
    fn open(&self) -> BTreeSet<String> {
        self.jobs.keys().filter(|name| !self.has_ended(name)).cloned().collect()
    }

    fn has_ended(&self, name: &str) -> bool {
        self.jobs.get(name).is_some_and(|job| phase(job).is_terminal())
    }

    fn exit_code(&self, name: &str) -> u8 {
        let record = self.jobs.get(name).and_then(|job| Some(job.status.as_ref()?.record.clone()));
        exit_code(&record.unwrap_or_default())
    }
}

fn phase(job: &BatchJob) -> Phase {
    job.status.as_ref().map(|status| status.record.phase()).unwrap_or_default()
}

fn stopped_at(job: &BatchJob) -> Option<Timestamp> {
    job.status.as_ref()?.record.stopped_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(status: Value) -> BatchJob {
        let job = json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": "j"},
            "spec": {"jobQueue": "q"}, "status": status});
        serde_json::from_value(job).expect("a job")
    }

    fn code(status: Value) -> u8 {
        exit_code(&job(status).status.expect("a status").record)
    }

    #[test]
    fn the_exit_code_is_that_of_the_last_attempt() {
        let attempt = |number, code: Value| json!({"attempt": number, "podName": "p", "podUid": "u", "statusReason": "r", "container": {"exitCode": code}});
        assert_eq!(code(json!({"phase": "SUCCEEDED"})), 0);
        assert_eq!(
            code(json!({"phase": "FAILED", "attempts": [attempt(1, json!(1)), attempt(2, json!(3))]})),
            3
        );
        assert_eq!(code(json!({"phase": "FAILED"})), NO_CODE, "it never ran");
        assert_eq!(
            code(json!({"phase": "FAILED", "attempts": [attempt(1, json!(0))]})),
            NO_CODE,
            "ended by us"
        );
    }

    #[test]
    fn arrays_show_how_far_they_are() {
        let array = json!({"phase": "PENDING", "arrayProperties": {"size": 40, "statusSummary": {"SUCCEEDED": 9, "FAILED": 1, "RUNNING": 4, "RUNNABLE": 26}}});
        assert_eq!(
            progress(&job(array)).as_deref(),
            Some("[#####...............] 10/40, 4 running, 1 failed")
        );
        assert_eq!(progress(&job(json!({"phase": "RUNNING"}))), None);
    }
}
