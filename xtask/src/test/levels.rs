//! The stages of each level.

use std::process::Command;

use anyhow::{Result, ensure};

use super::cargo::{cargo, check, on, tests};
use super::report::{Counts, Report};
use super::{Part, chart, deny};
use crate::capture::{self, Tally};
use crate::cluster::{self, Cluster, Options, Provider};
use crate::process::{on_path, output};
use crate::rights::Calls;
use crate::{crds, interrupt, sbom};

/// How many tests at the level of the API run at once; they mostly wait.
const API_THREADS: usize = 8;

/// What has to be built before anything can be tried, all of it kept between runs. `clusters` says
/// which are wanted: without nodes, with fake ones, with Karpenter's, with real ones.
pub(super) fn tools(report: &mut Report, unit: bool, clusters: [bool; 4]) {
    let [api, soak, karpenter, nodes] = clusters;
    if unit {
        for tool in [deny::TOOL, sbom::TOOL] {
            report.stage(Part::Tools, tool.name, || tool.build().map(|()| Counts::one()));
        }
        if on_path("go") {
            report.stage(Part::Tools, "helm", || cluster::tool("helm").map(|_| Counts::one()));
        }
    }
    let clusters = [
        (api, "tools of the API level", Options::api()),
        (soak, "tools of fake nodes", Options::fake()),
        (karpenter, "Karpenter", Options::karpenter()),
        (nodes, "tools of nodes", Options::full()),
    ];
    if api && on_path("go") {
        report.stage(Part::Tools, "kwok", || cluster::tool("kwok").map(|_| Counts::one()));
    }
    for (_, title, options) in clusters.into_iter().filter(|(wanted, ..)| *wanted) {
        report.stage(Part::Tools, title, || cluster::build_tools(&options).map(|()| Counts::one()));
    }
}

/// What needs no cluster.
pub(super) fn unit(report: &mut Report, long: bool) {
    let mut stage = |title: &str, work: &mut dyn FnMut() -> Result<Counts>| {
        report.stage(Part::Unit, title, work);
    };
    stage("formatting", &mut || check(&mut cargo("fmt --all --check")?));
    stage("lints", &mut || check(&mut cargo("clippy --workspace --all-targets -- --deny warnings")?));
    stage("lints of the cluster tests", &mut || {
        let targets = "--test api --test nodes --test faults --bin observer --features fault-tests";
        check(&mut cargo(&format!("clippy --package batchyard {targets} -- --deny warnings"))?)
    });
    stage("docs", &mut || {
        check(cargo("doc --workspace --no-deps --quiet")?.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    stage("unit tests and doc tests", &mut || {
        // So that tests that are skipped are seen to be.
        let mut command = cargo("test --workspace --no-fail-fast -- --show-output")?;
        if long {
            command.env("BATCHYARD_LONG", "1");
        }
        tests(&mut command)
    });
    stage("CRDs are those of the types", &mut || crds::run(&crds::CrdsArgs::check()).map(|()| Counts::one()));
    stage("chart", &mut || {
        if on_path("go") {
            chart::check()
        } else {
            Ok(Counts::skipped("the chart: Helm is built with Go, which is missing"))
        }
    });
    stage("dependencies", &mut deny::check);
    stage("SBOM", &mut || sbom::write(&cluster::repository()?.join("target/sbom")).map(|_| Counts::one()));
    stage("the program for multi-node jobs", &mut || {
        if on_path("go") { ring() } else { Ok(Counts::skipped("it is written in Go, which is missing")) }
    });
}

/// Its nodes as processes on loopback.
fn ring() -> Result<Counts> {
    let mut go = Command::new("go");
    go.current_dir(cluster::repository()?.join("tests/cluster")).env("GOFLAGS", "").env("GOWORK", "off");
    output(go.env("CGO_ENABLED", "0").args(["test", "-count=1", "./ring"]))?;
    Ok(Counts::one())
}

/// Tests against an API server.
pub(super) fn api(report: &mut Report, keep: bool, long: bool) {
    with_cluster(report, Part::Api, "tests", &Options::api(), keep, |cluster| {
        let mut command =
            cargo(&format!("test --package batchyard --test api -- --test-threads={API_THREADS}"))?;
        command.args(["--skip", "karpenter::"]);
        if long {
            command.env("BATCHYARD_LONG", "1");
        }
        // What is counted is shown although nothing failed.
        tests(on(command.arg("--show-output"), cluster)?)
    });
}

/// The operator under faults. The programs that only these tests need are no part of what is shipped.
pub(super) fn faults(report: &mut Report, keep: bool, long: bool, whole: bool) {
    with_cluster(report, Part::Api, "under faults", &Options::api(), keep, |cluster| {
        let mut command = cargo(FAULTS)?;
        if long {
            command.env("BATCHYARD_LONG", "1");
        }
        // Each has the operator for itself.
        command.args(["--bin", "observer", "--", "--show-output", "--test-threads=1", "--skip", "soak"]);
        if !whole {
            command.args(SAMPLE);
        }
        tests(on(&mut command, cluster)?)
    });
}

/// What a run of all levels takes of the tests under faults; `cargo xtask test faults` runs them all.
const SAMPLE: &[&str] = &["tests::", "a1_", "b2_", "c1_", "c6_", "d3_", "d5_"];

/// Everything at once, for minutes.
pub(super) fn soak(report: &mut Report, keep: bool, long: bool) {
    with_cluster(report, Part::Api, "soak", &Options::fake(), keep, |cluster| {
        let mut command = cargo(FAULTS)?;
        command.env("BATCHYARD_TEST_SOAK", if long { "180,5000" } else { "180,0" });
        if long {
            // A debug build would take most of a day for what a long run wants.
            command.arg("--release").env("BATCHYARD_LONG", "1");
        }
        tests(on(command.args(["--bin", "observer", "--", "--show-output", "soak"]), cluster)?)
    });
}

/// Builds and runs the tests under faults.
const FAULTS: &str = "test --package batchyard --features fault-tests --test faults";

/// Tests with the real Karpenter.
pub(super) fn karpenter(report: &mut Report, keep: bool) {
    with_cluster(report, Part::Api, "on Karpenter", &Options::karpenter(), keep, |cluster| {
        let filter = format!("karpenter:: --test-threads={API_THREADS}");
        tests(on(&mut cargo(&format!("test --package batchyard --test api -- {filter}"))?, cluster)?)
    });
}

/// Tests with real containers, and if there is time the fixtures of the termination table.
pub(super) fn nodes(report: &mut Report, long: bool, keep: bool) {
    with_cluster(report, Part::Nodes, "tests", &Options::full(), keep, |cluster| {
        let mut counts = tests(on(&mut cargo("test --package batchyard --test nodes")?, cluster)?)?;
        if long {
            counts.add(captured(cluster)?);
        }
        Ok(counts)
    });
}

/// Compares the fixtures of the termination table with the cluster.
fn captured(cluster: &Cluster) -> Result<Counts> {
    if cluster.provider != Provider::Local {
        return Ok(Counts::skipped("the capture of the termination table: it needs the provider local"));
    }
    let Tally { equal, changed, failed } = capture::capture(cluster, &[], false)?;
    Ok(Counts { passed: equal, failed: changed + failed, ..Counts::default() })
}

/// Makes a cluster, and takes it away again unless it stood before.
fn with_cluster(
    report: &mut Report,
    part: Part,
    title: &str,
    options: &Options,
    keep: bool,
    test: impl FnOnce(&Cluster) -> Result<Counts>,
) {
    let stood = cluster::find(&options.name).is_ok_and(|cluster| answers(&cluster));
    let mut made = None;
    report.stage(part, "make the cluster", || {
        made = Some(cluster::up(options)?);
        Ok(Counts::one())
    });
    if let Some(cluster) = made {
        report.stage(part, title, || test(&cluster));
        if let Some(log) = &cluster.audit_log {
            let mut calls = Calls::default();
            report.stage(part, "nothing is refused to our programs", || {
                calls = Calls::read(log)?;
                none(&calls.refused())
            });
            report.calls.join(calls);
        }
    }
    if stood || keep {
        return;
    }
    // Also after Ctrl-C: what this run made does not stay.
    let asked = interrupt::was_asked();
    interrupt::clean_up_begins();
    report.stage(part, "remove the cluster", || cluster::down(&options.name).map(|()| Counts::one()));
    interrupt::clean_up_ends(asked);
}

/// What the roles of the chart allow is needed by somebody.
pub(super) fn rights(report: &mut Report) {
    let calls = std::mem::take(&mut report.calls);
    report.stage(Part::Nodes, "our programs may do nothing that they do not do", || {
        if on_path("go") {
            none(&calls.unused(&chart::roles()?))
        } else {
            Ok(Counts::skipped("the roles of the chart: Helm is built with Go, which is missing"))
        }
    });
}

/// Passes if nothing was found.
fn none(found: &[String]) -> Result<Counts> {
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(Counts::one())
}

fn answers(cluster: &Cluster) -> bool {
    output(&mut cluster.kubectl(["get", "--raw", "/readyz", "--request-timeout", "3s"])).is_ok()
}
