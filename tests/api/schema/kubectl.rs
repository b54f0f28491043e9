//! kubectl as people use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kube::Api;
use kube::api::DeleteParams;

use batchyard::crd::ComputeEnvironment;

use crate::support::client::{Actor, connect, kubeconfig, namespace};

/// What kubectl said.
pub(super) struct Said(Output, String);

/// Runs kubectl of the PATH.
pub(super) fn kubectl(arguments: &[&str]) -> Said {
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", kubeconfig()).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|e| panic!("kubectl must be on the PATH: {e}"));
    Said(output, arguments.join(" "))
}

impl Said {
    /// Its output, when it did what it was asked.
    pub(super) fn succeeds(self) -> String {
        let errors = String::from_utf8_lossy(&self.0.stderr);
        assert!(self.0.status.success(), "kubectl {}: {errors}", self.1);
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Its error, when it did not.
    pub(super) fn fails(self) -> String {
        assert!(!self.0.status.success(), "kubectl {} should have failed", self.1);
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// An empty folder for files of a test.
pub(super) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

fn examples() -> String {
    format!("{EXAMPLES}/retry")
}

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

#[tokio::test]
async fn the_examples_are_applied_in_both_styles_and_again() {
    let user = connect(Actor::User).await;
    let styles = [&["--server-side"][..], &[]];
    for (example, style) in
        ["retry", "queues", "logging"].into_iter().flat_map(|e| styles.map(|style| (e, style)))
    {
        let examples = format!("{EXAMPLES}/{example}");
        let namespace = namespace(&user, "kubectl").await;
        let mut arguments = vec!["apply", "--validate=strict", "-n", &namespace, "-f", &examples];
        arguments.extend(style);
        let first = kubectl(&arguments).succeeds();
        assert!(first.lines().count() >= 11, "{first}");
        let second = kubectl(&arguments).succeeds();
        let changed: Vec<_> =
            second.lines().filter(|l| l.contains("configured") || l.contains("created")).collect();
        assert!(changed.is_empty(), "{second}");
        kubectl(&["delete", "namespace", &namespace, "--wait=false"]).succeeds();
    }
    let environments: Api<ComputeEnvironment> = Api::all(user);
    for environment in ["compute-0", "od-ce", "od-ce-policy"] {
        let deleted = environments.delete(environment, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|e| panic!("{environment} cannot be deleted: {e}"));
    }
}

#[tokio::test]
async fn a_member_that_does_not_exist_is_an_error() {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "strict").await;
    let file = scratch("strict").join("job.yaml");
    let manifest = "apiVersion: batchyard.io/v1alpha1\nkind: BatchJob\nmetadata:\n  name: typo\n\
                    spec:\n  jobQueue: q\n  jobDefinition: d\n  retryStrategy:\n    atempts: 3\n";
    std::fs::write(&file, manifest).expect("a file can be written");
    let file = file.display().to_string();
    for style in [&["--server-side"][..], &[]] {
        let mut arguments = vec!["apply", "-n", &namespace, "-f", &file];
        arguments.extend(style);
        let error = kubectl(&arguments).fails();
        assert!(error.contains("atempts"), "{error}");
    }
    kubectl(&["delete", "namespace", &namespace, "--wait=false"]).succeeds();
}

#[tokio::test]
async fn explain_knows_each_kind() {
    connect(Actor::User).await;
    for (path, says) in [
        ("computeenvironments.spec.provisioner.static", "nodeSelector"),
        ("ce.spec.computeResources.maxvCpus", "integer"),
        ("jq.spec.computeEnvironmentOrder", "computeEnvironment"),
        ("sp.spec.fairsharePolicy", "shareDecaySeconds"),
        ("cr.spec", "totalQuantity"),
        ("jd.spec.containerProperties", "readonlyRootFilesystem"),
        ("batchjob.spec.retryStrategy.evaluateOnExit", "onStatusReason"),
        ("bj.status.attempts", "decision"),
        ("batchjobrecords", "BatchJobRecord"),
    ] {
        let text = kubectl(&["explain", path]).succeeds();
        assert!(text.contains(says), "explain {path} does not speak of {says}:\n{text}");
    }
}

#[tokio::test]
async fn kinds_have_short_names_and_columns() {
    let user = connect(Actor::User).await;
    let namespace = namespace(&user, "columns").await;
    let examples = examples();
    kubectl(&["apply", "--server-side", "-n", &namespace, "-f", &format!("{examples}/jobs.yaml")]).succeeds();
    let jobs = kubectl(&["get", "bj", "-n", &namespace]).succeeds();
    let head = jobs.lines().next().unwrap_or_default();
    for column in ["NAME", "PHASE", "QUEUE", "ATTEMPT", "REASON", "AGE"] {
        assert!(head.contains(column), "{head}");
    }
    let everything = kubectl(&["get", "batchyard", "-n", &namespace, "-o", "name"]).succeeds();
    assert!(everything.contains("batchjob.batchyard.io/random-ec"), "{everything}");
    kubectl(&["delete", "namespace", &namespace, "--wait=false"]).succeeds();
}
