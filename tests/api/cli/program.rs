//! Runs the program and reads what it says.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::client::kubeconfig;

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What it printed, if it did what it was asked for.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// What it complained of, if it ended with this exit code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.err
    }
}

fn command(line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-batch"));
    command.args(line).env("KUBECONFIG", kubeconfig()).env_remove("NO_COLOR").env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, in a namespace.
pub(crate) async fn batch(namespace: &str, line: &[&str]) -> Said {
    said(begin(namespace, line)).await
}

/// Begins it; [`said`] waits for its end.
pub(crate) fn begin(namespace: &str, line: &[&str]) -> Child {
    command(&[&["-n", namespace], line].concat()).spawn().expect("the program can be run")
}

pub(crate) async fn said(running: Child) -> Said {
    let output = tokio::task::spawn_blocking(move || running.wait_with_output()).await;
    let output = output.expect("nothing panics there").expect("it can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What kubectl would offer while this is being typed: the program under its other name.
pub(crate) async fn offered(namespace: &str, line: &[&str]) -> Vec<String> {
    let (name, program) = (
        format!("{}/kubectl_complete-batch", env!("CARGO_TARGET_TMPDIR")),
        env!("CARGO_BIN_EXE_kubectl-batch"),
    );
    // Another test may have made it; or another tree, whose folder was moved here.
    if std::fs::read_link(&name).is_ok_and(|to| to != std::path::Path::new(program)) {
        std::fs::remove_file(&name).expect("a stale link can be removed");
    }
    let _ = std::os::unix::fs::symlink(program, &name);
    let mut command = Command::new(name);
    command.args([&["-n", namespace], line].concat()).env("KUBECONFIG", kubeconfig());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = said(command.spawn().expect("the program can be run")).await;
    said.ok().lines().map(str::to_owned).collect()
}

/// What a run of the program took.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Until the first line was there.
    pub(crate) first: Duration,
    /// Until its end.
    pub(crate) all: Duration,
    pub(crate) lines: usize,
    /// The most memory that it was seen to hold, in MiB.
    pub(crate) memory: u64,
}

/// Runs it to its end and looks at what that takes.
pub(crate) async fn taken(namespace: &str, line: &[&str]) -> Taken {
    let mut running = begin(namespace, line);
    let read = move || {
        let begun = Instant::now();
        let status = format!("/proc/{}/status", running.id());
        let mut out = BufReader::new(running.stdout.take().expect("a pipe"));
        let mut taken = Taken { first: Duration::ZERO, all: Duration::ZERO, lines: 0, memory: 0 };
        let mut line = String::new();
        while out.read_line(&mut line).expect("it prints UTF-8") > 0 {
            line.clear();
            taken.lines += 1;
            if taken.lines == 1 {
                taken.first = begun.elapsed();
            }
            if taken.lines % 200 == 1 {
                taken.memory = taken.memory.max(memory(&status).unwrap_or(0));
            }
        }
        assert!(running.wait().expect("it ends").success());
        taken.all = begun.elapsed();
        taken
    };
    tokio::task::spawn_blocking(read).await.expect("it did what it was asked for")
}

fn memory(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Runs it on a terminal of 100 columns, which `script` of util-linux makes.
pub(crate) async fn on_terminal(namespace: &str, line: &str) -> Said {
    let program = env!("CARGO_BIN_EXE_kubectl-batch");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command"]);
    command.arg(format!("stty cols 100 rows 30; {program} -n {namespace} {line}")).arg("/dev/null");
    command.env("KUBECONFIG", kubeconfig()).env_remove("NO_COLOR").env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("script of util-linux can be run");
    // Nothing is typed, but the keyboard stays.
    let keys = running.stdin.take();
    let said = said(running).await;
    drop(keys);
    said
}

/// Times, ages, ids and what a namespace's name ends with, masked; columns closed up.
pub(crate) fn masked(text: &str, namespace: &str) -> String {
    let lines = text.replace(namespace, "NAMESPACE");
    let word = |word: &str| {
        let bare = word.trim_matches(['(', ')', ',', '[', ']']);
        let mask = if is_time(bare) {
            "TIME"
        } else if is_id(bare) {
            "ID"
        } else if is_age(bare) {
            "AGE"
        } else {
            bare
        };
        word.replace(bare, mask)
    };
    lines
        .lines()
        .map(|line| {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            indent + &line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n"
        })
        .collect()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T'
}

fn is_id(word: &str) -> bool {
    word.len() == 36 && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn is_age(word: &str) -> bool {
    word.len() >= 2
        && word.ends_with(['s', 'm'])
        && word[..word.len() - 1].bytes().all(|byte| byte.is_ascii_digit() || byte == b'm')
}
