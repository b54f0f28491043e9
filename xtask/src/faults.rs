//! `cargo xtask faults`: which cases of the fault list are covered, and by which tests.
//!
//! A test covers the cases whose numbers begin its name: `c3_c4_versions_expire` covers C3 and C4,
//! and so does a case of the container tests that is called `c3-c4-versions-expire`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cluster::repository;

/// Where the list is, in the repository.
const LIST: &str = "tests/faults/list.txt";

/// Something that may happen.
#[derive(Debug)]
struct Case {
    id: String,
    title: String,
    /// Why no test covers it, if none does.
    uncovered: Option<String>,
    tests: Vec<String>,
}

/// Prints the list with the tests of each case, and counts.
///
/// # Errors
/// When a case has neither a test nor a reason, or both, or a test names a case that is not there.
pub fn run() -> Result<()> {
    let cases = cases(&repository()?)?;
    for case in &cases {
        let state = case
            .uncovered
            .as_ref()
            .map_or_else(|| case.tests.join(", "), |why| format!("not covered: {why}"));
        println!("{:<4}{:<62}{state}", case.id, case.title);
    }
    let covered = cases.iter().filter(|case| !case.tests.is_empty()).count();
    println!("\n{covered} of {} cases are covered", cases.len());
    check(&cases)
}

fn check(cases: &[Case]) -> Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        match (&case.uncovered, case.tests.is_empty()) {
            (None, true) => wrong.push(format!("{} {}: no test", case.id, case.title)),
            (Some(why), false) => wrong.push(format!("{}: has a test, and says {why}", case.id)),
            _ => {}
        }
    }
    if !wrong.is_empty() {
        bail!("{LIST} does not say what is:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn cases(root: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(root.join(LIST)).context(LIST)?;
    let mut cases: Vec<Case> = text.lines().filter_map(case).collect();
    let mut tests = BTreeMap::new();
    for folder in ["src", "tests"] {
        collect(&root.join(folder), &mut tests)?;
    }
    for (name, ids) in tests {
        for id in ids {
            match cases.iter_mut().find(|case| case.id == id) {
                Some(case) => case.tests.push(name.clone()),
                None => bail!("the test {name} names {id}, which is not in {LIST}"),
            }
        }
    }
    Ok(cases)
}

fn case(line: &str) -> Option<Case> {
    let (id, rest) = line.split_once(' ').filter(|_| !line.starts_with('#'))?;
    let (title, uncovered) = match rest.split_once(" -- ") {
        Some((title, why)) => (title, Some(why.to_owned())),
        None => (rest, None),
    };
    Some(Case { id: id.to_owned(), title: title.to_owned(), uncovered, tests: Vec::new() })
}

/// The tests below a folder that name cases.
fn collect(folder: &Path, tests: &mut BTreeMap<String, Vec<String>>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for name in names(&fs::read_to_string(&path)?) {
                let ids = ids(&name);
                if !ids.is_empty() {
                    tests.insert(name, ids);
                }
            }
        }
    }
    Ok(())
}

/// The names of the tests in a source: functions, and cases of tables, which are texts.
fn names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some((name, _)) = function.and_then(|rest| rest.split_once('(')).filter(|_| is_test) {
            names.push(name.to_owned());
        }
        is_test = line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || is_test && line.starts_with("#[");
        let texts = line.split('"').skip(1).step_by(2);
        names.extend(texts.filter(|text| text.contains('-') && !text.contains(' ')).map(str::to_owned));
    }
    names
}

/// The numbers that begin a name.
fn ids(name: &str) -> Vec<String> {
    let is_id = |part: &&str| {
        let mut letters = part.chars();
        letters.next().is_some_and(|letter| ('a'..='n').contains(&letter))
            && part.len() > 1
            && letters.all(|letter| letter.is_ascii_digit())
    };
    let parts: Vec<&str> = name.split(['_', '-']).collect();
    let count = parts.iter().take_while(|part| is_id(part)).count();
    // A name of nothing but numbers is no test.
    parts.iter().take(count).filter(|_| count < parts.len()).map(|part| part.to_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_covered() {
        let source = "#[test]\nfn a1_a2_killed() {}\nfn b1_helper() {}\n#[tokio::test(x)]\nasync fn c3_watch() {}\n\
                      Case::job(\"f3-node-gone\", x)\n\"i-1234\" \"b2\"";
        let found: Vec<_> = names(source).iter().flat_map(|name| ids(name)).collect();
        assert_eq!(found, ["A1", "A2", "C3", "F3"]);
    }

    #[test]
    fn every_case_is_covered_or_says_why_not() {
        let cases = cases(&repository().expect("a repository")).expect("a list");
        assert_eq!(cases.len(), 109);
        check(&cases).expect("the list says what is");
    }
}
