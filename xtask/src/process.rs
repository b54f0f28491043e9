//! Commands that are run to their end, and processes that stay.
//!
//! A process that stays is remembered by its pid **and** its start time, so that a pid that
//! the kernel has given to somebody else in the meantime is never taken for ours.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::interrupt;

/// How often a condition is looked at while waiting for it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A process that stays, identified beyond the reuse of its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id as this machine's root namespace sees it.
    pub pid: i32,
    /// Clock ticks between the machine's boot and the start of the process.
    pub start: u64,
}

impl Process {
    /// The process with this pid, unless it is gone or only waits to be reaped.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in brackets, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, start) = (fields.first()?, fields.get(19)?.parse().ok()?);
        (!matches!(*state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// Whether this very process still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if it is still the same process.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends the process without warning.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
    }

    /// Asks the process to end.
    pub fn terminate(self) {
        self.signal(Signal::SIGTERM);
    }

    /// Holds the process where it is, until it is resumed.
    pub fn suspend(self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a suspended process go on.
    pub fn resume(self) {
        self.signal(Signal::SIGCONT);
    }

    /// The name of its program, as the kernel has it: at most 15 characters.
    pub fn name(self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// Who it runs as, by number.
    pub fn user(self) -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Asks the process to end, and ends it when it has not done so after `patience`.
    pub fn stop(self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM);
        if wait_until("the process to end", patience, || Ok(!self.is_alive())).is_err() {
            self.signal(Signal::SIGKILL);
        }
        wait_until(&format!("process {} to be gone", self.pid), Duration::from_secs(20), || {
            Ok(!self.is_alive())
        })
    }
}

/// All processes for which `wanted` holds, given their `/proc/<pid>` folder.
pub fn processes(wanted: impl Fn(&Path) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            wanted(&entry.path()).then(|| Process::of(pid)).flatten()
        })
        .collect()
}

/// Starts a process that outlives this one, with its output at the end of `log`.
///
/// It gets a process group of its own, so that Ctrl-C in the terminal does not reach it.
pub fn spawn_daemon(command: &mut Command, log: &Path) -> Result<Process> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open the log {}", log.display()))?;
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    let pid = i32::try_from(child.id())?;
    Process::of(pid).with_context(|| {
        format!("{} ended at once; last lines of its log:\n{}", describe(command), tail(log, 15))
    })
}

/// A command, ready to be given more arguments.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs a command quietly and returns what it wrote; a failure quotes its error output.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", describe(command), output.status, last_lines(errors.trim(), 15));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `output` for a program of this machine with plain arguments.
pub fn sh(program: &str, args: &str) -> Result<String> {
    output(&mut command(program, args.split_whitespace()))
}

/// The SHA-256 of some bytes in hex. The system's program does it: this one is built without
/// optimisation, and an image has a hundred megabytes.
pub fn sha256(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sha256sum")?;
    child.stdin.take().context("sha256sum has an input")?.write_all(bytes)?;
    let output = String::from_utf8(child.wait_with_output()?.stdout)?;
    let digest = output.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(digest.to_owned())
}

/// Polls until `done` says so. `done` returns an error to give up before the deadline.
pub fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, deadline, || Ok(done()?.then_some(())))
}

/// Polls until `found` returns a value.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut found: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = found()? {
            return Ok(value);
        }
        interrupt::check()?;
        if start.elapsed() > deadline {
            bail!("waited {} s in vain for {what}", deadline.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Whether a program of this name is on the PATH.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The last lines of a file, for error messages.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), lines)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    if text.chars().count() > 200 { text.chars().take(200).chain("…".chars()).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_not_the_same_process() {
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
    }

    #[test]
    fn failures_quote_the_error_output() {
        let error = output(&mut command("sh", ["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("broken"), "{error}");
    }

    #[test]
    fn sha256_is_the_well_known_function() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").unwrap(), expected);
    }
}
