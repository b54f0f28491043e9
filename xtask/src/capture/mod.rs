//! `cargo xtask capture`: makes pods end, or wait, in every way that a cluster of this machine
//! can make, and compares what the API server then shows with the fixtures of the termination
//! table in `src/core/tests/fixtures/termination`.
//!
//! A story (`story.rs`) makes pods, does something to them or to their node, and takes pictures.
//! Most need a pod only and are told side by side on the first node (`ends.rs`, `starts.rs`,
//! `disruptions.rs`); those that disturb a node (`nodes.rs`) have one of the others for
//! themselves. To add a row, add a line to one of these lists.
//!
//! Compared is the shape: what the status says and where, not when or how much (`normal.rs`).

mod disruptions;
mod ends;
mod fixture;
mod moment;
mod nodes;
mod normal;
mod registry;
mod stage;
mod starts;
mod story;
mod watch;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::fixture::Outcome;
use self::registry::Registry;
use self::stage::{NAMESPACE, Negative, Stage};
use self::story::Story;
use self::watch::Watch;
use crate::cluster::{self, Cluster, Options, Provider};
use crate::interrupt;
use crate::process::{output, wait_until};
use crate::step::{say, step};

/// How many stories are told at once on the first node; they mostly wait.
const THREADS: usize = 6;

/// Compares the fixtures of the termination table with a real cluster.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Only those whose names begin like one of these
    #[arg(value_name = "FIXTURE")]
    only: Vec<String>,
    /// Write what is captured into the fixtures; what is wanted of the core stays as it is
    #[arg(long)]
    update: bool,
    /// The cluster to use; it is made unless it stands
    #[arg(long, default_value = cluster::DEFAULT_NAME)]
    name: String,
}

/// What came of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Fixtures that show what the cluster shows.
    pub equal: u64,
    /// Fixtures that show something else.
    pub changed: u64,
    /// Stories that could not be told to their end.
    pub failed: u64,
}

/// Runs the command.
pub fn run(args: &CaptureArgs) -> Result<()> {
    interrupt::watch()?;
    let options = Options { name: args.name.clone(), provider: Provider::Local, ..Options::full() };
    let stood = cluster::find(&options.name).is_ok();
    let cluster = cluster::up(&options)?;
    let done = capture(&cluster, &args.only, args.update);
    if !stood {
        let asked = interrupt::was_asked();
        interrupt::clean_up_begins();
        cluster::down(&options.name)?;
        interrupt::clean_up_ends(asked);
    }
    let tally = done?;
    if tally.failed > 0 || (tally.changed > 0 && !args.update) {
        bail!("not every row is as it is stored");
    }
    Ok(())
}

/// Captures on a cluster that runs, and prints what differs.
pub fn capture(cluster: &Cluster, only: &[String], update: bool) -> Result<Tally> {
    if cluster.provider != Provider::Local {
        bail!("rows are captured with the provider local only: kind's nodes cannot be switched off alone");
    }
    let _reserved = cluster.reserve()?;
    clear(cluster)?;
    output(&mut cluster.kubectl(["create", "namespace", NAMESPACE]))?;
    let watch = Watch::begin(cluster, NAMESPACE)?;
    let registry = Registry::open(cluster, &cluster.nodes)?;
    let told = step("stories", || Ok(tell_all(cluster, &watch, only)));
    drop(registry);
    let asked = interrupt::was_asked();
    interrupt::clean_up_begins();
    let tally = told.and_then(|told| compare(cluster, &watch, told, update));
    let cleared = step("clear up", || clear(cluster));
    interrupt::clean_up_ends(asked);
    cleared?;
    interrupt::check()?;
    tally
}

/// What the stories gave.
#[derive(Default)]
struct Told {
    negatives: Vec<Negative>,
    failed: u64,
}

/// Tells every story that is wanted: those that need a pod only on the first node, the others
/// each on a node of its own.
fn tell_all(cluster: &Cluster, watch: &Watch, only: &[String]) -> Told {
    let (free, of_nodes) = stories();
    let wanted = |story: &Story| {
        only.is_empty() || story.makes.iter().any(|name| only.iter().any(|begin| name.starts_with(begin)))
    };
    let queue = |stories: Vec<Story>| {
        let mut wanted: Vec<Story> = stories.into_iter().filter(wanted).collect();
        wanted.reverse();
        Mutex::new(wanted)
    };
    let (free, of_nodes) = (queue(free), queue(of_nodes));
    let told = Mutex::new(Told::default());
    let Some((first, others)) = cluster.nodes.split_first() else { return Told::default() };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| tell(&Stage::on(cluster, watch, first), &free, &told, |_| Ok(())));
        }
        for node in others {
            scope.spawn(|| {
                let stage = Stage::on(cluster, watch, node);
                let usual = nodes::Usual::of(&stage);
                let restore = |stage: &Stage<'_>| match &usual {
                    Ok(usual) => usual.restore(stage),
                    Err(error) => bail!("{error:#}"),
                };
                tell(&stage, &of_nodes, &told, restore);
            });
        }
    });
    told.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Those that need a pod only, and those that disturb a node.
fn stories() -> (Vec<Story>, Vec<Story>) {
    let free = [ends::of_containers(), ends::refused(), ends::unbound(), starts::all(), disruptions::all()];
    (free.into_iter().flatten().collect(), nodes::all())
}

/// Tells stories on a stage until there are no more, and clears the stage after each.
fn tell(
    stage: &Stage<'_>,
    queue: &Mutex<Vec<Story>>,
    told: &Mutex<Told>,
    clear: impl Fn(&Stage<'_>) -> Result<()>,
) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    while let Some(story) = next().filter(|_| !interrupt::was_asked()) {
        let outcome = (story.tell)(stage);
        let cleared = clear(stage);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = outcome.and(cleared) {
            say(format!("✗ {}: {error:#}", story.makes.join(", ")));
            told.failed += 1;
        }
        told.negatives.extend(stage.take_pictures());
    }
}

fn compare(cluster: &Cluster, watch: &Watch, told: Told, update: bool) -> Result<Tally> {
    let version = output(&mut cluster.kubectl(["version", "-o=json"]))?;
    let version: Value = serde_json::from_str(&version)?;
    let version = version["serverVersion"]["gitVersion"].as_str().context("the server has a version")?;
    let mut tally = Tally { failed: told.failed, ..Tally::default() };
    for negative in told.negatives {
        let picture = negative.develop(cluster, watch);
        match picture.compare(version, update)? {
            Outcome::Equal => tally.equal += 1,
            Outcome::Changed => {
                say(format!("≠ {}{}", picture.fixture, if update { ": written" } else { "" }));
                tally.changed += 1;
            }
        }
    }
    let Tally { equal, changed, failed } = tally;
    say(format!(
        "{} rows captured, {equal} equal, {changed} changed; {failed} stories failed",
        equal + changed
    ));
    Ok(tally)
}

/// Removes what a capture leaves: pods with finalizers, the namespace, what belongs to the whole cluster.
fn clear(cluster: &Cluster) -> Result<()> {
    let of_all = ["delete", "priorityclass", "--selector=batchyard.io/capture=true", "--ignore-not-found"];
    output(&mut cluster.kubectl(of_all))?;
    let is_there = ["get", "namespace", NAMESPACE, "--ignore-not-found", "-o=name"];
    if output(&mut cluster.kubectl(is_there))?.trim().is_empty() {
        return Ok(());
    }
    output(&mut cluster.kubectl(["delete", "namespace", NAMESPACE, "--wait=false"]))?;
    let in_namespace = |args: &[&str]| output(cluster.kubectl(["--namespace", NAMESPACE]).args(args));
    in_namespace(&["delete", "pods", "--all", "--wait=false", "--grace-period=1"])?;
    let pods = in_namespace(&["get", "pods", "-o=name"])?;
    for pod in pods.lines() {
        // It may be gone by now; the wait below tells.
        let _ =
            in_namespace(&["patch", pod, "--type=merge", "--patch", r#"{"metadata":{"finalizers":null}}"#]);
    }
    wait_until("the namespace to be gone", Duration::from_secs(90), || {
        Ok(output(&mut cluster.kubectl(is_there))?.trim().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// The fixtures that say that they were captured.
    fn captured() -> BTreeSet<String> {
        let entries = fs::read_dir(fixture::folder().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let is_captured = |text: &str| fixture::is_captured(&serde_json::from_str(text).unwrap());
        entries
            .filter(|path| is_captured(&fs::read_to_string(path).unwrap()))
            .map(|path| {
                path.file_stem().unwrap().to_str().unwrap().trim_end_matches(fixture::AT_TIMES).to_owned()
            })
            .collect()
    }

    #[test]
    fn each_captured_fixture_has_one_story_and_each_story_its_fixtures() {
        let (mut stories, of_nodes) = stories();
        stories.extend(of_nodes);
        let made: Vec<String> =
            stories.iter().flat_map(|story| &story.makes).map(|&name| name.to_owned()).collect();
        let once: BTreeSet<String> = made.iter().cloned().collect();
        assert_eq!(made.len(), once.len(), "made twice");
        assert_eq!(once, captured());
    }
}
