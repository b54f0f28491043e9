//! The story: what is done to the jobs and what they make of it.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::jobs::Jobs;
use super::{plugin, report};
use crate::cluster::{self, Cluster};
use crate::process::output;
use crate::step::{say, step};

/// How long anything may take that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a lost node may take to count as lost: `nodeLostTimeoutSeconds` of the example, the
/// time until Kubernetes notices, and some patience.
const LOST: Duration = Duration::from_secs(120 + 60 + 120);

/// What was done to nodes and is to be undone.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The node that takes no pods because it was drained.
    pub(super) cordoned: Option<String>,
    /// The node that is switched off.
    pub(super) off: Option<String>,
}

/// Lets it all happen, then tells what happened.
pub(super) fn play(cluster: &Cluster, namespace: &str, grace: u32, faults: &mut Faults) -> Result<()> {
    let mut jobs = Jobs::follow(cluster, namespace)?;
    program_fails(cluster, namespace, &mut jobs)?;
    image_cannot_be_pulled(&mut jobs)?;
    host_is_drained(cluster, &mut jobs, grace, faults)?;
    host_is_switched_off(cluster, &mut jobs, faults)?;
    end(cluster, namespace, &mut jobs)?;
    report::print(&jobs);
    report::check(&jobs)?;
    // The last words: about the job that lost its host, as people would ask for it.
    plugin::show(cluster, namespace, &["describe", "spot-power-off"])
}

fn title(text: &str) {
    println!("\n{text}");
    println!("{}", "-".repeat(text.chars().count()));
}

fn program_fails(cluster: &Cluster, namespace: &str, jobs: &mut Jobs) -> Result<()> {
    title("The program fails");
    println!("random-ec exits with 0, 1, 2 or 3 by chance; random-ec-retry with 1, then 2, then 0;");
    println!("random-ec-exit with 1, then 3. Exit codes 1 and 2 are worth another attempt, 3 is not.\n");
    let told = ["random-ec-retry", "random-ec-exit"];
    plugin::watch(cluster, namespace, &told, PATIENCE)?;
    let spot = ["spot-drain", "spot-power-off"];
    jobs.until("random-ec-retry and random-ec-exit to end, and both spot jobs to run", PATIENCE, |jobs| {
        told.iter().all(|name| jobs.get(*name).is_some_and(|job| job.has_ended()))
            && spot.iter().all(|name| jobs.get(*name).is_some_and(|job| job.is("RUNNING")))
    })?;
    say("random-ec-retry took three attempts; random-ec-exit gave up at exit code 3, with eight left");
    Ok(())
}

fn image_cannot_be_pulled(jobs: &mut Jobs) -> Result<()> {
    title("The image cannot be pulled");
    println!("no-container asks for an image that does not exist. Ten attempts are allowed; the rule for");
    println!("CannotPullContainerError ends the job after one, once the image was missing for 20 s.\n");
    jobs.until_job("no-container", "to end", PATIENCE, |job| job.has_ended())?;
    say("no-container fell straight through to FAILED");
    Ok(())
}

fn host_is_drained(cluster: &Cluster, jobs: &mut Jobs, grace: u32, faults: &mut Faults) -> Result<()> {
    let node = running_on(jobs, "spot-drain")?;
    title("The host is taken away, politely");
    println!("{node}, on which spot-drain sleeps, is drained, as before a spot instance is reclaimed.");
    println!(
        "sleep does not listen to SIGTERM, so it is killed after {grace} s (30 unless the chart is told)."
    );
    println!("\"Host EC2*\" is retried, on another node; so is whatever else ran there.\n");
    faults.cordoned = Some(node.clone());
    thread::scope(|scope| {
        let drain = scope.spawn(|| {
            let mut kubectl =
                cluster.kubectl(["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data"]);
            output(kubectl.arg("--timeout=120s"))
        });
        let moved = jobs.until_job("spot-drain", "to run on another node", PATIENCE, |job| {
            job.runs_elsewhere(&node) || job.has_ended()
        });
        let drained = drain.join().unwrap_or_else(|_| Err(anyhow!("kubectl drain panicked")));
        moved.and(drained.map(|_| ()))
    })?;
    step(format!("uncordon {node}"), || output(&mut cluster.kubectl(["uncordon", &node])))?;
    faults.cordoned = None;
    let now = running_on(jobs, "spot-drain")?;
    say(format!("spot-drain was on {node}; its attempt {} runs on {now}", jobs.get("spot-drain")?.attempt()));
    jobs.until("spot-drain (90 s) and random-ec to end", PATIENCE * 2, |jobs| {
        ["spot-drain", "random-ec"].iter().all(|name| jobs.get(*name).is_some_and(|job| job.has_ended()))
    })?;
    say(format!("spot-drain finished on {now}"));
    Ok(())
}

fn host_is_switched_off(cluster: &Cluster, jobs: &mut Jobs, faults: &mut Faults) -> Result<()> {
    // The drain may have moved it, too.
    jobs.until_job("spot-power-off", "to run", PATIENCE, |job| job.is("RUNNING") || job.has_ended())?;
    let node = running_on(jobs, "spot-power-off")?;
    title("The host is switched off");
    println!("{node}, on which spot-power-off sleeps, loses its power: nothing on it says goodbye. Nobody");
    println!("can know whether the job still runs behind a cut cable, so it stays RUNNING, until the node");
    println!("was silent for the 120 s that compute-0 allows (nodeLostTimeoutSeconds).\n");
    faults.off = Some(node.clone());
    cluster::set_power(&cluster.name, &node, false)?;
    jobs.until_job("spot-power-off", "to know that its node is silent", PATIENCE, |job| {
        job.is_unreachable()
    })?;
    say(format!("{node} is NotReady, and spot-power-off says so: NodeUnreachable. Now 120 s pass."));
    jobs.until_job("spot-power-off", "to run on another node (120 s)", LOST, |job| {
        job.runs_elsewhere(&node) || job.has_ended()
    })?;
    let now = running_on(jobs, "spot-power-off")?;
    let attempt = jobs.get("spot-power-off")?.attempt();
    say(format!("spot-power-off was on {node}; its attempt {attempt} runs on {now}"));
    cluster::set_power(&cluster.name, &node, true)?;
    faults.off = None;
    Ok(())
}

fn end(cluster: &Cluster, namespace: &str, jobs: &mut Jobs) -> Result<()> {
    println!("\nspot-power-off would now sleep for ten minutes. That is enough of it: it is terminated.\n");
    let patch = r#"{"spec": {"terminate": "The demo is over"}}"#;
    let mut kubectl = cluster.kubectl(["patch", "batchjob", "spot-power-off", "--namespace", namespace]);
    output(kubectl.args(["--type", "merge", "--patch", patch]))?;
    jobs.until_job("spot-power-off", "to end", PATIENCE, |job| job.has_ended())
}

/// The node of a job that must be RUNNING.
fn running_on(jobs: &Jobs, name: &str) -> Result<String> {
    let job = jobs.get(name)?;
    if !job.is("RUNNING") {
        bail!("{name} should be RUNNING, but is {}", job.status.phase);
    }
    Ok(job.node().with_context(|| format!("{name} runs, but on no node"))?.to_owned())
}
