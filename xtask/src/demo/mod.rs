//! `cargo xtask demo`: the first post, on a real cluster, with the files of `examples/retry`.

mod acts;
mod jobs;
mod plugin;
mod report;
mod screen;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;

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

/// Shows the post's story, and puts everything back, also after Ctrl-C.
pub fn run(args: &DemoArgs) -> Result<()> {
    interrupt::watch()?;
    let defaults = Options::full();
    let provider = args.provider.unwrap_or(defaults.provider);
    let options = Options { name: args.name.clone(), provider, ..defaults };
    let stood = cluster::find(&options.name).is_ok_and(|cluster| answers(&cluster));
    let stays = stood || args.keep;
    announce(stood, stays);

    let mut faults = Faults::default();
    let outcome = prepare(&options).and_then(|(cluster, _reserved)| show(&cluster, &mut faults));
    interrupt::clean_up_begins();
    let cleaned = clean_up(&options.name, stays, &faults);
    outcome?;
    cleaned?;
    look_further(&options.name, stays);
    Ok(())
}

fn announce(stood: bool, stays: bool) {
    println!(
        "AWS Batch, on Kubernetes: the post about retry strategies, with real containers on real nodes.\n"
    );
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
fn prepare(options: &Options) -> Result<(Cluster, File)> {
    let begun = Instant::now();
    let (cluster, built) = thread::scope(|scope| {
        let build = scope.spawn(build_programs);
        let cluster = cluster::up(options);
        (cluster, build.join().unwrap_or_else(|_| Err(anyhow!("the build panicked"))))
    });
    let cluster = cluster?;
    plugin::plug_in(&cluster, &built?)?;
    let reserved = cluster.reserve()?;
    install::operator(&cluster, &json!({"operator": {"terminateGraceSeconds": GRACE}}))?;
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
fn show(cluster: &Cluster, faults: &mut Faults) -> Result<()> {
    let examples = cluster::repository()?.join("examples/retry");
    step("apply examples/retry, as the files are", || {
        // Jobs of an earlier demo have ended; applied again they would stay as they are.
        output(&mut cluster.kubectl([
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--timeout=120s",
        ]))?;
        output(&mut cluster.kubectl(["create", "namespace", NAMESPACE]))?;
        let mut apply = cluster.kubectl(["apply", "--namespace", NAMESPACE, "--filename"]);
        output(apply.arg(&examples))?;
        Ok(())
    })?;
    let played = acts::play(cluster, NAMESPACE, GRACE, faults);
    if played.is_err() && !interrupt::was_asked() {
        eprintln!("\n{}", install::last_words(cluster));
    }
    // The last words: about the job that lost its host, as people would ask for it.
    played.and_then(|()| plugin::describe(cluster, NAMESPACE, "spot-power-off"))
}

/// Removes the cluster, or leaves it as it was.
fn clean_up(name: &str, stays: bool, faults: &Faults) -> Result<()> {
    if !stays {
        return cluster::down(name);
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

fn look_further(name: &str, stays: bool) {
    if stays {
        println!("\nLook further:\n");
    } else {
        println!("\nThe cluster is gone. `cargo xtask demo --keep` leaves it, to look further:\n");
    }
    println!("  eval \"$(cargo xtask cluster env --name {name})\"    # KUBECONFIG, kubectl, helm");
    println!("  kubectl batch -n {NAMESPACE} list -o wide");
    println!("  kubectl batch -n {NAMESPACE} describe random-ec-exit");
    println!("  kubectl batch -n {NAMESPACE} run alpine:latest -q queue-0 --follow -- echo hello");
    println!("  kubectl batch -n {NAMESPACE} watch --queue queue-0");
    println!("  kubectl -n {NAMESPACE} get batchjob random-ec-retry -o jsonpath='{{.status.attempts}}'");
    println!("  kubectl -n {NAMESPACE} get events --sort-by=.lastTimestamp");
    println!("  kubectl describe computeenvironment compute-0");
    println!("  cargo xtask cluster down --name {name}           # removes every trace");
}
