//! `cargo xtask demo`: the examples, on a real cluster, with their files as they are.

mod acts;
mod arrays;
mod aws;
mod browser;
mod jobs;
mod logging;
mod mail;
mod plugin;
mod queues;
mod report;
mod screen;
mod session;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::acts::Faults;
use crate::cluster::{self, Cluster, Options, Provider};
use crate::process::output;
use crate::step::{say, step};
use crate::test::cargo::cargo;
use crate::{install, interrupt};

/// The namespace that the example is applied in.
const NAMESPACE: &str = "demo";

/// How long a program may go on after SIGTERM, in seconds. The chart's 30 are AWS's, and dull.
const GRACE: u32 = 5;

/// What `cargo xtask demo` can be told.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What is shown: the folder of examples
    #[arg(default_value = "retry")]
    story: Story,
    /// Who runs the cluster [default: kind where Docker and kind are there, else local]
    #[arg(long)]
    provider: Option<Provider>,
    /// The cluster's name
    #[arg(long, default_value = cluster::DEFAULT_NAME)]
    name: String,
    /// Leave the cluster up, to look around
    #[arg(long)]
    keep: bool,
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// The post about retry strategies
    Retry,
    /// Three queues that share an environment
    Queues,
    /// Arrays, dependencies and a job on three nodes
    Arrays,
    /// The post about interactive sessions: a desktop in a browser
    Session,
    /// The post about custom logging: a policy, and what arrives at a sink
    Logging,
    /// The posts' commands as printed, by the aws CLI
    Aws,
}

impl Story {
    fn folder(self) -> &'static str {
        match self {
            Self::Retry => "examples/retry",
            Self::Queues => "examples/queues",
            Self::Arrays => "examples/arrays",
            Self::Session => "examples/sessions",
            Self::Logging => "examples/logging",
            Self::Aws => "examples/posts",
        }
    }

    /// What it asks of the chart.
    fn values(self) -> Value {
        let mut values = json!({"operator": {"terminateGraceSeconds": GRACE}, "view": {"enabled": true}});
        if self == Self::Aws {
            values["gateway"] = aws::gateway();
        }
        if self == Self::Logging {
            values["logging"] = logging::values();
        }
        values
    }

    /// Why it cannot be shown on this machine.
    fn obstacle(self) -> Option<String> {
        match self {
            Self::Session => session::obstacle(),
            Self::Aws => aws::obstacle(),
            Self::Retry | Self::Queues | Self::Arrays | Self::Logging => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Retry => "the post about retry strategies, with real containers on real nodes",
            Self::Queues => "three queues that share four vCPUs, with real containers on real nodes",
            Self::Arrays => "arrays and a job on three nodes at once, with real containers on real nodes",
            Self::Session => {
                "the post about interactive sessions: a desktop in a container, opened in a browser"
            }
            Self::Logging => "the post about custom logging, with real containers on real nodes",
            Self::Aws => "the posts' commands as printed, by the aws CLI, with real containers on real nodes",
        }
    }
}

/// Shows a story, and puts everything back, also after Ctrl-C.
pub fn run(args: &DemoArgs) -> Result<()> {
    if let Some(obstacle) = args.story.obstacle() {
        println!("skipped: {obstacle}");
        return Ok(());
    }
    interrupt::watch()?;
    let defaults = Options::full();
    let provider = args.provider.unwrap_or(defaults.provider);
    let options = Options { name: args.name.clone(), provider, ..defaults };
    let stood = cluster::find(&options.name).is_ok_and(|cluster| answers(&cluster));
    let stays = stood || args.keep;
    announce(args.story, stood, stays);

    let mut faults = Faults::default();
    let outcome = prepare(args.story, &options)
        .and_then(|(cluster, _reserved)| show(args.story, &cluster, &mut faults));
    interrupt::clean_up_begins();
    let cleaned = clean_up(args.story, &options.name, stays, &faults);
    outcome?;
    cleaned?;
    look_further(args.story, &options.name, stays);
    Ok(())
}

fn announce(story: Story, stood: bool, stays: bool) {
    println!("AWS Batch, on Kubernetes: {}.\n", story.title());
    let fate = match (stood, stays) {
        (true, _) => "A cluster stands already; it is used, and stays.",
        (false, true) => "A cluster is made, and stays (--keep).",
        (false, false) => "A cluster is made, and removed at the end (--keep leaves it).",
    };
    println!("{fate} Ctrl-C ends the demo and cleans up.\n");
}

fn answers(cluster: &Cluster) -> bool {
    output(&mut cluster.kubectl(["get", "--raw", "/readyz", "--request-timeout", "3s"])).is_ok()
}

/// The program and the cluster, side by side; then the chart.
fn prepare(story: Story, options: &Options) -> Result<(Cluster, File)> {
    let begun = Instant::now();
    let (cluster, built) = thread::scope(|scope| {
        let build = scope.spawn(build_programs);
        let cluster = cluster::up(options);
        (cluster, build.join().unwrap_or_else(|_| Err(anyhow!("the build panicked"))))
    });
    let cluster = cluster?;
    plugin::plug_in(&cluster, &built?)?;
    let reserved = cluster.reserve()?;
    install::operator(&cluster, &story.values())?;
    say(format!("ready after {} s", begun.elapsed().as_secs()));
    Ok((cluster, reserved))
}

/// The operator and `kubectl batch`; returns where they are.
fn build_programs() -> Result<PathBuf> {
    step("build the operator and kubectl batch", || {
        // Where this program is, they shall be.
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).context("a program of Cargo lies in the target folder")?;
        let mut build =
            cargo("build --quiet --package batchyard --bin batchyard --bin kubectl-batch --target-dir")?;
        output(build.arg(target))?;
        own.parent().map(Path::to_owned).context("a program lies in a folder")
    })
}

/// Applies the example and lets the story happen.
fn show(story: Story, cluster: &Cluster, faults: &mut Faults) -> Result<()> {
    let examples = cluster::repository()?.join(story.folder());
    match story {
        Story::Session => session::prepare(cluster)?,
        Story::Logging => logging::prepare(cluster)?,
        Story::Retry | Story::Queues | Story::Arrays | Story::Aws => {}
    }
    step("a new namespace", || {
        // Jobs of an earlier demo have ended; applied again they would stay as they are.
        let old = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"];
        output(&mut cluster.kubectl(old))?;
        output(&mut cluster.kubectl(["create", "namespace", NAMESPACE]))
    })?;
    if story == Story::Session {
        // A rule tells what happens from then on.
        mail::begin(cluster, NAMESPACE, story.values())?;
    }
    if story == Story::Aws {
        aws::prepare(cluster, NAMESPACE)?;
    } else {
        step(format!("apply {}, as the files are", story.folder()), || {
            let mut apply = cluster.kubectl(["apply", "--namespace", NAMESPACE, "--filename"]);
            output(apply.arg(&examples))?;
            Ok(())
        })?;
    }
    let played = match story {
        Story::Retry => acts::play(cluster, NAMESPACE, GRACE, faults),
        Story::Queues => queues::play(cluster, NAMESPACE),
        Story::Arrays => arrays::play(cluster, NAMESPACE),
        Story::Session => session::play(cluster, NAMESPACE),
        Story::Logging => logging::play(cluster, NAMESPACE),
        Story::Aws => aws::play(cluster, NAMESPACE),
    };
    if played.is_err() && !interrupt::was_asked() {
        eprintln!("\n{}", install::last_words(cluster));
    }
    played
}

/// Removes the cluster, or leaves it as it was.
fn clean_up(story: Story, name: &str, stays: bool, faults: &Faults) -> Result<()> {
    if !stays {
        return cluster::down(name);
    }
    if story == Story::Session {
        session::put_back(&cluster::find(name)?, &story.values())?;
    }
    if let Some(node) = &faults.cordoned {
        step(format!("uncordon {node}"), || {
            output(&mut cluster::find(name)?.kubectl(["uncordon", node]))?;
            Ok(())
        })?;
    }
    match &faults.off {
        Some(node) => cluster::set_power(name, node, true),
        None => Ok(()),
    }
}

fn look_further(story: Story, name: &str, stays: bool) {
    if stays {
        println!("\nLook further:\n");
    } else {
        println!("\nThe cluster is gone. `cargo xtask demo --keep` leaves it, to look further:\n");
    }
    println!("  eval \"$(cargo xtask cluster env --name {name})\"    # KUBECONFIG, kubectl, helm");
    println!("  kubectl batch -n {NAMESPACE} list -o wide");
    for line in further(story) {
        println!("  {line}");
    }
    println!("  kubectl -n {NAMESPACE} get events --sort-by=.lastTimestamp");
    println!("  cargo xtask cluster down --name {name}           # removes every trace");
}

/// What else there is to look at.
fn further(story: Story) -> Vec<String> {
    let lines = match story {
        Story::Retry => [
            "kubectl batch -n demo describe random-ec-exit",
            "kubectl batch -n demo run alpine:latest -q queue-0 --follow -- echo hello",
            "kubectl batch -n demo watch --queue queue-0",
            "kubectl -n demo get batchjob random-ec-retry -o jsonpath='{.status.attempts}'",
            "kubectl describe computeenvironment compute-0",
        ],
        Story::Queues => [
            "kubectl batch -n demo queues",
            "kubectl batch -n demo top",
            "kubectl batch -n demo describe physics-6",
            "kubectl -n demo describe jobqueue urgent",
            "kubectl describe computeenvironment shared",
        ],
        Story::Arrays => [
            "kubectl batch -n demo children sweep --phase FAILED",
            "kubectl batch -n demo logs sweep:5 --all-attempts",
            "kubectl batch -n demo describe strict",
            "kubectl batch -n demo retry strict",
            "kubectl -n demo get batchjobrecords",
        ],
        Story::Session => [
            "kubectl label node NODE batchyard.io/desktop=true    # one with 8 CPUs",
            "kubectl apply -n demo -f examples/sessions",
            "kubectl batch -n demo describe desktop",
            "kubectl -n demo get batchjob desktop -o jsonpath='{.status.session.url}'",
            "kubectl -n demo get events --field-selector reason=SessionReady",
        ],
        Story::Logging => [
            "kubectl -n demo get jobdefinition alpine-splunk -o jsonpath='{.status.conditions}'",
            "kubectl -n demo get batchjob test -o jsonpath='{.status.logs}'",
            "kubectl -n demo get batchjob policy-splunk -o jsonpath='{.status.statusReason}'",
            "kubectl -n demo logs collector    # what a sink gets, where Fluent Bit's image is to be had",
            "kubectl describe computeenvironment od-ce-policy",
        ],
        Story::Aws => return aws::look_further(NAMESPACE),
    };
    lines.map(str::to_owned).to_vec()
}
