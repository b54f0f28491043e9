//! Each configuration is read by a real Fluent Bit, which then says whether it would start with it. It runs where
//! `BATCHYARD_FLUENT_BIT` names the program; tests/logging has what it delivers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use batchyard_core::logging::Driver;
use batchyard_core::logging::health::ADDRESS_VARIABLE;
use batchyard_core::logging::sidecar::{Container, Member, Part, environment, plan};
use batchyard_core::logging::stream::ONLY;

use super::{POD, SETTINGS, honoured, least, options, read};

/// What is wrong with a configuration.
fn wrong(program: &OsStr, driver: Driver, options: &[(&str, &str)]) -> Option<String> {
    let route = read(driver, options).unwrap_or_else(|refusals| panic!("{options:?}: {refusals:?}"));
    let member = Member { container: "default", route: &route };
    let sidecar = plan(&[member], Part::Whole, &SETTINGS).expect("a container");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fluent-bit");
    std::fs::create_dir_all(folder.join("certificates")).expect("a folder");
    let path = folder.join("dry-run.yaml");
    let text = sidecar.document.to_yaml().replace("/batchyard/", &format!("{}/", folder.display()));
    std::fs::write(&path, text).expect("a file");
    let container = Container { member, stream: ONLY, image: "alpine:3.20" };
    let output = Command::new(program)
        .args(["--dry-run", "--config"])
        .arg(&path)
        .envs(environment(&[container], Part::Whole, &POD))
        .envs(sidecar.secrets.iter().map(|secret| (secret.name.as_str(), "secret")))
        .env("BATCHYARD_NODE", "node")
        .env(ADDRESS_VARIABLE, "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .expect("Fluent Bit runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> =
        said.lines().filter(|line| line.contains("[error]") || line.contains("[ warn]")).collect();
    let well = output.status.success() && errors.is_empty();
    (!well).then(|| format!("{driver:?} {options:?}: {errors:?}"))
}

#[test]
fn fluent_bit_starts_with_all_that_each_option_becomes() {
    let Some(program) = std::env::var_os("BATCHYARD_FLUENT_BIT") else {
        println!("SKIPPED: BATCHYARD_FLUENT_BIT names no program of Fluent Bit");
        return;
    };
    let all: Vec<String> = honoured()
        .flat_map(|driver| {
            let each = options::each(driver).into_iter().chain([least(driver).to_vec()]);
            each.filter_map(|options| wrong(&program, driver, &options)).collect::<Vec<_>>()
        })
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}
