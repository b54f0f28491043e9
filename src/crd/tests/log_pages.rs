//! docs/logging has a page for each log driver. It is held against core here: the options are those that the driver knows,
//! what is refused is told in core's words, and the examples are manifests that are accepted.

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::definition::secrets::locate;
use batchyard_core::logging::fluent_bit::facts::{self, Kind as Plugin};
use batchyard_core::logging::options::Rule;
use batchyard_core::logging::route::Route;
use batchyard_core::logging::{AwslogsDefaults, Configuration, Driver, SecretOption};
use serde_json::Value;

use super::verdict;
use crate::crd::convert::{logging, plan};
use crate::crd::ignored::{Kind, ignored_fields, unsupported_fields};
use crate::crd::{BatchJobSpec, ComputeEnvironmentSpec, JobDefinitionSpec, JobQueueSpec};

/// What the options of drivers begin with.
const FAMILIES: [&str; 11] = [
    "awslogs-",
    "splunk-",
    "fluentd-",
    "gelf-",
    "syslog-",
    "s3-",
    "loki-",
    "opensearch-",
    "opentelemetry-",
    "stdout-",
    "max-",
];

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The page of a driver.
fn page(driver: Driver) -> String {
    read(&format!("docs/logging/{}.md", driver.as_str()))
}

/// A driver that is refused whatever its options are has no options to tell of.
fn is_refused(driver: Driver) -> bool {
    let bare = Configuration { driver, options: BTreeMap::new(), secret_options: Vec::new() };
    let refusals = logging::read(&bare, &AwslogsDefaults::default()).err().unwrap_or_default();
    refusals.iter().any(|refusal| refusal.member == "logDriver")
}

fn honoured_drivers() -> impl Iterator<Item = Driver> {
    Driver::ALL.into_iter().filter(|driver| !is_refused(*driver))
}

/// A section of a page, without its title.
fn section<'p>(page: &'p str, title: &str) -> &'p str {
    let found = page.split("\n## ").find_map(|section| section.strip_prefix(title));
    found.unwrap_or_else(|| panic!("no section {title} in\n{page}"))
}

/// What stands between backquotes, outside of examples.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// A row of a table: the names of its first cell, and the other cells.
type Row<'p> = (Vec<&'p str>, Vec<&'p str>);

/// The rows of a section's tables, in their order; those without a name are titles.
fn tables(section: &str) -> Vec<Vec<Row<'_>>> {
    section.split("\n\n").filter(|part| part.trim_start().starts_with('|')).map(table).collect()
}

fn table(part: &str) -> Vec<Row<'_>> {
    let lines = part.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = lines.filter_map(|line| {
        let mut cells = line.split('|').map(str::trim);
        let names: Vec<&str> = code(cells.next()?).collect();
        (!names.is_empty()).then(|| (names, cells.collect()))
    });
    rows.collect()
}

/// What is refused, by its name, with the reason as the page has it.
fn reasons(table: &[Row<'_>]) -> BTreeMap<String, String> {
    let row = |(names, cells): &Row<'_>| {
        let why = cells.first().copied().unwrap_or_default().replace('`', "");
        names.iter().map(|name| ((*name).to_owned(), why.clone())).collect::<Vec<_>>()
    };
    table.iter().flat_map(row).collect()
}

#[test]
fn each_driver_has_a_page_that_is_linked() {
    let index = read("docs/logging.md");
    for driver in Driver::ALL {
        let name = driver.as_str();
        assert!(page(driver).starts_with(&format!("# `{name}`: ")), "{name}");
        assert!(index.contains(&format!("](logging/{name}.md)")), "docs/logging.md does not lead to {name}");
    }
    let names: BTreeSet<String> = Driver::ALL.map(|driver| format!("{}.md", driver.as_str())).into();
    for entry in std::fs::read_dir(root().join("docs/logging")).expect("a folder") {
        let name = entry.expect("a file").file_name().into_string().expect("text");
        assert!(names.contains(&name), "{name} is of no driver");
    }
}

#[test]
fn each_option_is_told_of_and_no_other() {
    for driver in honoured_drivers() {
        let page = page(driver);
        let told: Vec<Row<'_>> = tables(section(&page, "Options\n")).concat();
        for (names, cells) in &told {
            assert_eq!(
                cells.len(),
                3,
                "{driver:?} {names:?}: meaning, default and what becomes of it: {cells:?}"
            );
            assert!(!cells[0].is_empty() && !cells[2].is_empty(), "{driver:?} {names:?}: {cells:?}");
        }
        let mut named: Vec<&str> = told.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        named.sort_unstable();
        let refused = |rule: &Rule| matches!(rule, Rule::Refused(_));
        let mut known: Vec<&str> =
            driver.options().filter(|(_, rule)| !refused(rule)).map(|(name, _)| *name).collect();
        known.sort_unstable();
        assert_eq!(named, known, "{driver:?}: the page's options, and core's");
        let refused = tables(section(&page, "Refused\n")).first().map(|table| reasons(table));
        let why = driver.options().filter_map(|(name, rule)| match rule {
            Rule::Refused(why) => Some(((*name).to_owned(), (*why).to_owned())),
            _ => None,
        });
        assert_eq!(
            refused.unwrap_or_default(),
            why.collect(),
            "{driver:?}: what is refused, and core's reasons"
        );
    }
}

/// Also in the text, and on pages of drivers that are refused.
#[test]
fn no_page_speaks_of_an_option_that_its_driver_does_not_know() {
    for driver in Driver::ALL {
        let page = page(driver);
        let like_an_option =
            |word: &&str| word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        let options = code(&page)
            .filter(like_an_option)
            .filter(|word| FAMILIES.iter().any(|family| word.starts_with(family)));
        for option in options {
            let known = driver.options().any(|(name, _)| *name == option);
            assert!(known, "{driver:?} has no option {option}");
        }
    }
}

/// The objects of the YAML of a page.
fn manifests(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    let texts = blocks.flat_map(|block| block.split("\n---\n"));
    texts.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))).collect()
}

/// Nothing of an object is refused, and nothing is ignored.
fn accepted(object: &Value) {
    let spec = &object["spec"];
    let read = |kind: &'static str, of: Kind| {
        assert_eq!(verdict(kind, None, spec), [""; 0], "{object:#}");
        assert_eq!(ignored_fields(of, spec), [""; 0], "{object:#}");
        assert_eq!(unsupported_fields(of, spec), [""; 0], "{object:#}");
    };
    match object["kind"].as_str().expect("a kind") {
        "ComputeEnvironment" => {
            read("ComputeEnvironment", Kind::ComputeEnvironment);
            let environment: ComputeEnvironmentSpec = of(spec);
            assert_eq!(logging::fault_of_environment(&environment), None, "{object:#}");
        }
        "JobQueue" => {
            read("JobQueue", Kind::JobQueue);
            assert_eq!(logging::fault_of_queue(&of::<JobQueueSpec>(spec)), None, "{object:#}");
        }
        "JobDefinition" => {
            read("JobDefinition", Kind::JobDefinition);
            let look = logging::look(&of(spec));
            assert_eq!(look.faults, [""; 0], "{object:#}");
            assert_eq!(look.plain_text, [""; 0], "a secret stands in plain text in {object:#}");
        }
        "BatchJob" => read("BatchJob", Kind::BatchJob),
        "Secret" | "Service" | "Deployment" => {}
        other => panic!("nobody looks at a {other}"),
    }
}

fn of<T: serde::de::DeserializeOwned>(spec: &Value) -> T {
    serde_json::from_value(spec.clone()).unwrap_or_else(|e| panic!("{spec:#}: {e}"))
}

#[test]
fn the_examples_are_accepted_and_whole() {
    for driver in Driver::ALL {
        let objects = manifests(&page(driver));
        objects.iter().for_each(accepted);
        let all = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let uses = |object: &&Value| {
            object["spec"]["containerProperties"]["logConfiguration"]["logDriver"] == driver.as_str()
        };
        let definitions = all("JobDefinition");
        assert_eq!(definitions.iter().any(uses), !is_refused(driver), "{driver:?} has an example");
        for job in all("BatchJob") {
            let of_job = |one: &&&Value| one["metadata"]["name"] == job["spec"]["jobDefinition"];
            let definition =
                definitions.iter().find(of_job).unwrap_or_else(|| panic!("{job:#} has no definition"));
            let definition: JobDefinitionSpec = of(&definition["spec"]);
            let plan = plan(&of::<BatchJobSpec>(&job["spec"]), &definition);
            plan.effective.unwrap_or_else(|why| panic!("{job:#}: {why}"));
            assert_eq!(job["spec"]["jobQueue"], "jq", "the queue of examples/logging");
        }
        for definition in definitions {
            let options = &definition["spec"]["containerProperties"]["logConfiguration"]["secretOptions"];
            for option in options.as_array().into_iter().flatten() {
                let place = locate(option["valueFrom"].as_str().expect("text")).expect("a Secret");
                let named = |secret: &&&Value| secret["metadata"]["name"] == place.secret.as_str();
                let secrets = all("Secret");
                let secret = secrets.iter().find(named).unwrap_or_else(|| panic!("no Secret for {option}"));
                assert!(secret["stringData"][&place.key].is_string(), "{option} in {secret:#}");
            }
        }
    }
}

/// What becomes of a property of an output, as its refusal says; nothing if it may come from a Secret.
fn why_not_secret(output: &str, property: &str) -> Option<String> {
    let option = SecretOption { name: property.to_owned(), value_from: "secret:key".to_owned() };
    let configuration = Configuration {
        driver: Driver::Awsfirelens,
        options: [("Name".to_owned(), output.to_owned())].into(),
        secret_options: vec![option],
    };
    let refusals = Route::read(&configuration, &AwslogsDefaults::default()).err().unwrap_or_default();
    refusals
        .into_iter()
        .find(|refusal| refusal.member.starts_with("secretOptions."))
        .map(|refusal| refusal.why)
}

/// The names that a page lists behind these words, up to a full stop.
fn listed<'p>(page: &'p str, title: &str) -> BTreeSet<&'p str> {
    let (_, list) = page.split_once(title).unwrap_or_else(|| panic!("no {title}"));
    let end = list.find("`.").expect("its end");
    code(&list[..=end]).collect()
}

#[test]
fn the_page_of_awsfirelens_has_all_outputs_and_what_becomes_of_their_properties() {
    let page = page(Driver::Awsfirelens);
    let outputs: BTreeSet<&str> = facts::outputs().filter(|name| *name != "file").collect();
    assert_eq!(listed(&page, "**Outputs**: "), outputs);
    // What an option of the driver has the name of is that option.
    let is_option = |property: &str| Driver::Awsfirelens.options().any(|(name, _)| *name == property);
    let mut hidden = BTreeSet::new();
    let mut secret = BTreeSet::new();
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let mut of_tls: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for output in &outputs {
        for property in facts::all_properties(Plugin::Output, output).unwrap_or_default().into_keys() {
            match why_not_secret(output, property) {
                _ if is_option(property) => drop(hidden.insert(property)),
                None => drop(secret.insert(property)),
                Some(why) if why.starts_with("it must stand in options") => {}
                Some(why) if property == "tls" => of_tls.entry(why).or_default().push(output),
                Some(why) => {
                    let before = refused.insert(property.to_owned(), why.clone());
                    assert!(before.is_none_or(|before| before == why), "{output} {property}");
                }
            }
        }
    }
    assert_eq!(listed(&page, "properties of the same name cannot be stated:"), hidden);
    assert_eq!(listed(&page, "PlainTextSecret` if they do not:"), secret);
    let tables = tables(section(&page, "Refused\n"));
    let told = tables.get(1).expect("a table of properties");
    let (tls, others): (Vec<Row<'_>>, Vec<Row<'_>>) =
        told.iter().cloned().partition(|(names, _)| names[0] == "tls");
    assert_eq!(reasons(&others), refused);
    let tls: BTreeMap<String, Vec<&str>> =
        tls.into_iter().map(|(names, cells)| (cells[0].replace('`', ""), names[1..].to_vec())).collect();
    assert_eq!(tls, of_tls);
}
