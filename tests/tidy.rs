//! Rules of this repository that the compiler does not know; ARCHITECTURE.md lists them.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const FILE: usize = 600;
/// Longest function, in lines.
const FUNCTION: usize = 80;

struct Source {
    path: String,
    text: String,
}

/// Every Rust file below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    files(folder, "rs")
}

/// Every file with this extension below a folder of the repository.
fn files(folder: &str, wanted: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == wanted) {
                let text = fs::read_to_string(&path).expect("a text file");
                let path = path.strip_prefix(root).expect("below the root").display().to_string();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty(), "nothing was looked at in {folder}");
    sources
}

fn everything() -> Vec<Source> {
    ["src", "xtask", "tests", "fuzz"].into_iter().flat_map(sources).collect()
}

/// What the rules find wrong, a line each; `rule` returns findings for one file.
fn findings(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) -> String {
    sources
        .iter()
        .flat_map(|source| rule(source).into_iter().map(move |f| format!("{}: {f}\n", source.path)))
        .collect()
}

/// Functions with their lengths; relies on rustfmt's indentation.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let is_function =
            ["fn ", "pub fn ", "async fn ", "pub async fn "].iter().any(|word| body.starts_with(word))
                || body.starts_with("pub(") && body.contains(" fn ");
        if is_function {
            let end = lines[start..].iter().position(|line| *line == format!("{indent}}}"));
            found.push((body, end.map_or(1, |end| end + 1)));
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let wrong = findings(&everything(), |source| {
        let length = source.text.lines().count();
        let long_file = (length > FILE).then(|| format!("{length} lines"));
        let long = functions(&source.text).into_iter().filter(|(_, length)| *length > FUNCTION);
        long_file.into_iter().chain(long.map(|(name, length)| format!("{length} lines: {name}"))).collect()
    });
    assert!(wrong.is_empty(), "too long:\n{wrong}");
}

#[test]
fn only_one_place_writes_to_the_api_server() {
    // The Lease is no object of ours, and must be renewed while nothing else works. A question of access has
    // the form of a create and changes nothing.
    let allowed = ["src/k8s/apply.rs", "src/k8s/lease.rs", "src/k8s/access.rs"];
    let verbs =
        [".create(", ".patch(", ".delete(", ".replace(&", ".replace_status(", ".patch_status(", ".evict("];
    let wrong = findings(&sources("src"), |source| {
        // `kubectl batch` is another program, and writes for its user.
        let elsewhere = ["src/core", "src/cli"].iter().any(|room| source.path.starts_with(room));
        if allowed.contains(&source.path.as_str()) || elsewhere {
            return Vec::new();
        }
        let of_others = |line: &str| line.contains("writer") || line.contains("File::options()");
        let writes = |line: &&str| verbs.iter().any(|verb| line.contains(verb)) && !of_others(line);
        source.text.lines().filter(writes).map(|line| line.trim().to_owned()).collect()
    });
    assert!(wrong.is_empty(), "writes outside k8s/apply.rs:\n{wrong}");
}

#[test]
fn the_core_knows_neither_kubernetes_nor_a_clock() {
    let banned = ["use kube", "use k8s_openapi", "use tokio", "::now()", "std::env", "std::fs", "std::net"];
    let wrong = findings(&sources("src/core"), |source| {
        if source.path.starts_with("src/core/tests") {
            return Vec::new();
        }
        let lines = source.text.lines().filter(|line| banned.iter().any(|word| line.contains(word)));
        lines.map(|line| line.trim().to_owned()).collect()
    });
    assert!(wrong.is_empty(), "not pure:\n{wrong}");
}

#[test]
fn dependencies_point_downwards() {
    // From the bottom up; a room may use those before it. Controllers read the dispatcher's
    // verdicts, the one exception, and the dispatcher shares their context.
    let rooms =
        ["crd", "k8s", "gateway", "cli", "notifier", "log_follow", "dispatcher", "controllers", "operator"];
    let shared = [("dispatcher", "controllers"), ("controllers", "dispatcher")];
    let wrong = findings(&sources("src"), |source| {
        let Some(own) = rooms.iter().position(|room| source.path.starts_with(&format!("src/{room}"))) else {
            return Vec::new();
        };
        let above = rooms.iter().skip(own + 1).filter(|room| !shared.contains(&(rooms[own], room)));
        let uses = above.filter(|room| source.text.contains(&format!("crate::{room}")));
        uses.map(|room| format!("uses {room}, which lies above it")).collect()
    });
    assert!(wrong.is_empty(), "{wrong}");
}

/// Who is told to bind a role that does not exist has no rights, and is not told why.
#[test]
fn roles_that_are_named_are_made_by_the_chart() {
    const CHART: &str = include_str!("../charts/batchyard/templates/userroles.yaml");
    let made: Vec<String> = CHART
        .lines()
        .filter_map(|line| line.trim().strip_prefix("name: {{ $name }}-"))
        .map(|role| format!("batchyard-{role}"))
        .collect();
    let endings =
        ["admin", "viewer", "submitter", "editor", "accounts", "privileged", "reader", "-capacity-view"];
    let pages = ["docs", "examples"].into_iter().flat_map(|folder| files(folder, "md"));
    let named: Vec<Source> = pages.chain(["xtask", "tests"].into_iter().flat_map(sources)).collect();
    let wrong = findings(&named, |source| {
        let words = source.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let roles = words.filter(|word| {
            word.starts_with("batchyard-") && endings.iter().any(|ending| word.ends_with(ending))
        });
        roles.filter(|role| !made.iter().any(|made| made == role)).map(str::to_owned).collect()
    });
    assert!(wrong.is_empty() && made.len() > 5, "no role of the chart's userroles.yaml:\n{wrong}");
}
