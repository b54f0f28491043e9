//! Cargo in the foreground: its output is shown as it comes, its test summaries are counted.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::report::Counts;
use crate::cluster::{Cluster, repository};
use crate::interrupt;
use crate::process::wait_for;

/// How long anything may run before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// The same for what only a long run does.
const LONG_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// How long a command may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many lines of what a failed test said are repeated at the end of the run.
const WORDS: usize = 40;

/// Cargo with arguments, at the root of the repository.
pub(crate) fn cargo(arguments: &str) -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).current_dir(repository()?);
    // Cargo sets these for xtask; what it runs is another package.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Points tests to a cluster, and to kubectl of its version.
pub(crate) fn on<'c>(command: &'c mut Command, cluster: &Cluster) -> Result<&'c mut Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(cluster.path.clone()).chain(std::env::split_paths(&path));
    let path: OsString = std::env::join_paths(folders).context("PATH")?;
    command.env("PATH", path).env("BATCHYARD_TEST_KUBECONFIG", &cluster.kubeconfig);
    // A failed test says where it failed and what it waited for; the runtime's frames add nothing.
    command.env("RUST_BACKTRACE", "0");
    if let Some(log) = &cluster.audit_log {
        command.env("BATCHYARD_TEST_AUDIT_LOG", log);
    }
    Ok(command)
}

/// Runs a command that passes or fails as a whole.
pub(super) fn check(command: &mut Command) -> Result<Counts> {
    run(command)?;
    Ok(Counts::one())
}

/// Runs tests and counts them. A run that fails without a failed test (it did not compile, say) is an error.
pub(super) fn tests(command: &mut Command) -> Result<Counts> {
    counted(command, show)
}

fn counted(command: &mut Command, show: fn(&str)) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut failures = Failures::default();
    let outcome = run_with(command, show, |line| {
        counts.add(summary(line));
        failures.hear(line);
    });
    counts.complaints = failures.complaints;
    match outcome {
        Err(_) if counts.failed > 0 => Ok(counts),
        Err(error) => Err(error),
        Ok(()) if counts == Counts::default() => bail!("no test was run"),
        Ok(()) => Ok(counts),
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_with(command, show, |_| {})
}

fn show(line: &str) {
    println!("{line}");
}

/// Runs a command and shows each line of its output as it comes. Ctrl-C ends it with all that it started: it has a process group
/// of its own, so that nothing of it is left behind.
fn run_with(command: &mut Command, show: fn(&str), mut seen: impl FnMut(&str)) -> Result<()> {
    let what = describe(command);
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    let output = child.stdout.take().context("the output is a pipe")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            show(&line);
            let _ = sender.send(line);
        }
    });
    let is_long = command.get_envs().any(|(name, _)| name == "BATCHYARD_LONG");
    let limit = if is_long { LONG_LIMIT } else { LIMIT };
    let ended = wait_for(&format!("the end of {what}"), limit, || {
        interrupt::check()?;
        Ok(child.try_wait()?)
    });
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            end(&mut child);
            return Err(error);
        }
    };
    // What a killed test left behind may hold the pipe open; it is not waited for for ever.
    let _ = wait_for("the output", PATIENCE, || Ok(reader.is_finished().then_some(())));
    lines.try_iter().for_each(|line| seen(&line));
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

fn end(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // The group may have ended already.
        let _ = killpg(Pid::from_raw(pid), signal);
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What the last line of a test program says: `test result: ok. 5 passed; 0 failed; 1 ignored; …`. A test that says
/// itself that it is skipped counts as such, too.
fn summary(line: &str) -> Counts {
    let mut counts = Counts::default();
    let Some(rest) = line.strip_prefix("test result: ") else {
        if let Some(why) = line.strip_prefix("SKIPPED: ") {
            counts.skipped.push(why.to_owned());
        }
        return counts;
    };
    for part in rest.split(['.', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(word)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next())
        else {
            continue;
        };
        match word {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "ignored" => counts
                .skipped
                .extend((0..number).map(|_| "ignored by its test program, see above".to_owned())),
            _ => {}
        }
    }
    counts
}

/// What failed tests of a test program said, picked out of its output: between the line `failures:` and the list of names that
/// has the same title, each test's words stand below a line `---- NAME stdout ----`.
#[derive(Default)]
struct Failures {
    complaints: Vec<String>,
    is_telling: bool,
}

impl Failures {
    fn hear(&mut self, line: &str) {
        let title = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match title {
            _ if line == "failures:" => self.is_telling = !self.is_telling,
            _ if !self.is_telling || line.is_empty() => {}
            Some(name) => self.complaints.push(format!("failed: {name}")),
            None => {
                let Some(complaint) = self.complaints.last_mut() else { return };
                if complaint.lines().count() < WORDS {
                    complaint.push_str("\n  ");
                    complaint.push_str(line);
                }
            }
        }
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let name =
        |word: &std::ffi::OsStr| word.to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    words.map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        let line = "test result: FAILED. 41 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 1.20s";
        let counts = summary(line);
        assert_eq!((counts.passed, counts.failed, counts.skipped.len()), (41, 2, 1));
        assert_eq!(summary("test result: ok. 0 passed; 0 failed; 0 ignored"), Counts::default());
        assert_eq!(summary("running 5 tests"), Counts::default());
        assert_eq!(summary("SKIPPED: no audit log"), Counts::skipped("no audit log"));
    }

    #[test]
    fn the_words_of_failed_tests_are_kept() {
        let output = "successes:\n\n---- good stdout ----\nfine\n\nsuccesses:\n    good\n\nfailures:\n\n---- a::bad stdout ----\n\n\
                      9 writes\n8 are allowed\n\n---- worse stdout ----\nno\n\nfailures:\n    a::bad\n    worse\n\n\
                      test result: FAILED. 1 passed; 2 failed";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.hear(line));
        assert_eq!(
            failures.complaints,
            ["failed: a::bad\n  9 writes\n  8 are allowed", "failed: worse\n  no"]
        );
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        // Whoever counts this test's own output must not find a summary in it.
        let run = |script: &str| counted(Command::new("sh").args(["-c", script]), |_| {});
        assert!(run("exit 1").is_err(), "nothing compiled");
        assert!(run("exit 0").is_err(), "nothing was run");
        let failed =
            run("echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101").expect("counts");
        assert_eq!((failed.passed, failed.failed), (1, 1));
    }
}
