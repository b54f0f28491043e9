//! Scripts that read like the posts, and what the operator makes of them.
//!
//! Each file in `sim/` is a script, a line `---` and the transcript of its run: every line of the
//! script, and below it what the operator stored and did until it had nothing more to do.
//! `UPDATE=1 cargo test -p batchyard-core --test sim` writes the transcripts anew; read the diff
//! before you believe it. In CI (`CI` is set) nothing is ever written.

#[path = "support/sim_cluster.rs"]
mod sim_cluster;
#[path = "support/sim_operator.rs"]
mod sim_operator;
#[path = "support/sim_script.rs"]
mod sim_script;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sim_operator::World;
use sim_script::apply;

/// Runs a script and writes down what happened.
fn transcript(script: &str) -> String {
    let mut world = World::default();
    let mut out = String::new();
    for line in script.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        apply(&mut world, line).unwrap_or_else(|why| panic!("{line}: {why}\nSo far:\n{out}"));
        world.reconcile();
        writeln!(out, "> {line}").expect("a string takes everything");
        for told in world.log.drain(..) {
            writeln!(out, "  {told}").expect("a string takes everything");
        }
    }
    summary(&world, &mut out);
    out
}

/// How it all ended: what `kubectl get` would show.
fn summary(world: &World, out: &mut String) {
    out.push_str("= in the end\n");
    for (name, job) in &world.jobs {
        let record = &job.record;
        let why = record.status_reason.as_deref().unwrap_or("no reason");
        let (phase, attempts) = (record.phase(), record.attempts.len());
        let cancelled = if record.is_cancelled == Some(true) { ", isCancelled" } else { "" };
        let terminated = if record.is_terminated == Some(true) { ", isTerminated" } else { "" };
        writeln!(out, "  {name} {phase}{cancelled}{terminated}, attempts {attempts}: {why}")
            .expect("a string");
    }
    for (name, pod) in &world.cluster.pods {
        let held = if pod.view.held { ", held" } else { "" };
        let deleted = if pod.view.deleted_at.is_some() { ", being deleted" } else { "" };
        writeln!(out, "  pod {name} {:?}{held}{deleted}", pod.view.phase).expect("a string");
    }
}

/// Runs one script by name and compares it with its transcript.
fn agrees(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sim/{name}.txt"));
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (script, golden) = text.split_once("---\n").expect("a transcript");
    let got = transcript(script);
    assert!(got == golden, "{name}:\n{}", difference(golden, &got));
}

/// Scripts that stand for cases of the fault list.
mod cases {
    use super::agrees;

    #[test]
    fn a8_pods_end_and_are_deleted_while_nobody_looks() {
        agrees("a8_deleted_while_away");
        agrees("a8_ended_then_deleted_while_away");
    }

    #[test]
    fn b5_a_late_pod_is_never_recorded_and_with_a_fence_never_runs() {
        agrees("b5_zombie_create");
        agrees("b5_zombie_create_fenced");
    }

    #[test]
    fn c7_a_whole_attempt_between_two_looks_is_recorded() {
        agrees("operator_down");
    }

    #[test]
    fn k3_a_success_races_with_an_order() {
        agrees("k3_terminate_races_with_success");
        agrees("terminate_after_the_end");
        agrees("cancel_lost_to_bind");
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    let entries = std::fs::read_dir(&folder).expect("the folder of scripts is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
}

#[test]
fn scripts_and_transcripts_agree() {
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1") && std::env::var_os("CI").is_none();
    let mut wrong = Vec::new();
    for path in scripts() {
        let text = std::fs::read_to_string(&path).expect("readable");
        let (script, golden) = text.split_once("---\n").unwrap_or((&text, ""));
        let got = transcript(script);
        if got == golden {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if update {
            let end = if script.ends_with('\n') { "" } else { "\n" };
            std::fs::write(&path, format!("{script}{end}---\n{got}")).expect("writable");
            println!("{name}: the transcript was written anew");
        } else {
            wrong.push(format!("{name}:\n{}", difference(golden, &got)));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 writes the transcripts anew", wrong.join("\n"));
}

/// The first line that differs, with what led to it.
fn difference(golden: &str, got: &str) -> String {
    let same = golden.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
    let context: Vec<_> = got.lines().take(same).skip(same.saturating_sub(6)).collect();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
    format!("{}\n- {}\n+ {}", context.join("\n"), line(golden), line(got))
}

#[test]
fn a_script_that_cannot_happen_is_an_error() {
    let mut world = World::default();
    for line in ["bind job-1 spot-1", "container exits job-1 0", "drain spot-1", "make coffee", "wait long"] {
        apply(&mut world, line).expect_err(line);
    }
}

/// strictFencing: whatever the scheduler tries, a pod that is on no record is not bound.
#[test]
fn b5_a_fenced_pod_on_no_record_is_never_bound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/b5_zombie_create_fenced.txt");
    let text = std::fs::read_to_string(path).expect("readable");
    let (script, _) = text.split_once("---\n").expect("a transcript");
    let mut world = World::default();
    for line in script.lines().filter(|line| !line.starts_with('#')) {
        apply(&mut world, line).expect(line);
        world.reconcile();
        if line == "old leader resumes" {
            let late: Vec<_> = world.cluster.pods.values().filter(|pod| pod.view.gated).collect();
            assert_eq!(late.len(), 1, "the late pod is there and gated: {late:?}");
            let why = world.cluster.bind("job-1", "spot-2").expect_err("it waits for a gate");
            assert!(why.contains("no such pod"), "{why}");
        }
    }
    assert_eq!(world.jobs["job-1"].record.attempts.len(), 2);
    assert!(world.cluster.pods.values().all(|pod| !pod.view.gated), "the late pod is removed");
}
