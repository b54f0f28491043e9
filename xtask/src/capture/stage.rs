//! What the stories of the capture are told with: pods, what is done to them, pictures.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::fixture::Picture;
use super::moment::{self, Moment};
use super::normal::{self, Raw};
use super::watch::{Version, Watch};
use crate::cluster::Cluster;
use crate::process::output;

/// The namespace of all pods.
pub(super) const NAMESPACE: &str = "capture";

/// How long anything may take: PodGC alone takes a minute to believe that a node is gone.
const PATIENCE: Duration = Duration::from_secs(100);

/// A pod of a story.
pub(super) struct Pod {
    pub(super) name: String,
    /// The number of its version up to which the story has come.
    at: Cell<usize>,
}

/// A picture that waits for the end of the run: more versions of the pod may show its moment.
pub(super) struct Negative {
    fixture: String,
    pod: String,
    /// The number of the chosen version.
    from: usize,
    moment: Moment,
    node: Option<Value>,
}

impl Negative {
    /// The picture, with what the watch has seen until now.
    pub(super) fn develop(self, cluster: &Cluster, watch: &Watch) -> Picture {
        let registry = cluster.registry.as_deref().unwrap_or_default();
        let network: String = registry.split_inclusive('.').take(2).collect();
        let versions = watch.since(&self.pod, self.from);
        let shown = versions.iter().filter(|version| self.moment.has_come(&version.pod)).map(|version| {
            let Version { pod, at } = version;
            normal::fixture(&Raw { pod, node: self.node.as_ref(), at: *at, network: &network })
        });
        Picture { fixture: self.fixture, versions: shown.collect() }
    }
}

/// Where one story plays.
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) watch: &'a Watch,
    /// The node of its pods.
    pub(super) node: &'a str,
    pictures: RefCell<Vec<Negative>>,
}

impl<'a> Stage<'a> {
    /// A stage on this node.
    pub(super) fn on(cluster: &'a Cluster, watch: &'a Watch, node: &'a str) -> Self {
        Self { cluster, watch, node, pictures: RefCell::default() }
    }

    /// The pictures that were taken since the last call.
    pub(super) fn take_pictures(&self) -> Vec<Negative> {
        self.pictures.take()
    }

    /// Makes a pod: `spec` is laid over that of a pod whose container `main` runs on the stage's
    /// node. It has the finalizer of an attempt, so that what is left of it can be seen.
    pub(super) fn pod(&self, name: &str, spec: Value) -> Result<Pod> {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": ["batchyard.io/attempt"]},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 5,
                "nodeSelector": {"kubernetes.io/hostname": self.node},
            },
        });
        lay(&mut pod["spec"], spec);
        self.create(&pod)?;
        Ok(Pod { name: name.to_owned(), at: Cell::new(0) })
    }

    /// Creates an object.
    pub(super) fn create(&self, object: &Value) -> Result<()> {
        feed(&mut self.cluster.kubectl(["create", "-f", "-"]), object)
    }

    /// Waits for a moment of a pod.
    pub(super) fn until(&self, pod: &Pod, moment: &Moment) -> Result<Version> {
        let found = self.watch.until(&pod.name, pod.at.get(), moment, PATIENCE);
        let (at, version) = found.with_context(|| format!("pod {}", pod.name))?;
        pod.at.set(at);
        Ok(version)
    }

    /// Takes a picture of a pod at a moment, for the fixture of this name.
    pub(super) fn picture(&self, fixture: &str, pod: &Pod, moment: Moment) -> Result<()> {
        let first = self.until(pod, &moment)?;
        let node = match first.pod["spec"]["nodeName"].as_str() {
            Some(name) => self.get("node", name)?,
            None => None,
        };
        let (fixture, from) = (fixture.to_owned(), pod.at.get());
        let negative = Negative { fixture, pod: pod.name.clone(), from, moment, node };
        self.pictures.borrow_mut().push(negative);
        Ok(())
    }

    /// An object of the cluster or of the namespace, if there is one.
    pub(super) fn get(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        let text = self.kubectl(["get", kind, name, "-o=json", "--ignore-not-found"])?;
        Ok(if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text)?) })
    }

    /// Runs kubectl in the namespace.
    pub(super) fn kubectl<const N: usize>(&self, args: [&str; N]) -> Result<String> {
        output(self.cluster.kubectl(["--namespace", NAMESPACE]).args(args))
    }

    /// Asks for a pod's eviction, as `kubectl drain` does.
    pub(super) fn evict(&self, pod: &Pod) -> Result<()> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": NAMESPACE},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/eviction", pod.name);
        feed(&mut self.cluster.kubectl(["create", "--raw", &path, "-f", "-"]), &eviction)
    }

    /// Asks for a pod's deletion.
    pub(super) fn delete(&self, pod: &Pod) -> Result<()> {
        self.kubectl(["delete", "pod", &pod.name, "--wait=false"]).map(drop)
    }

    /// Deletes a pod without grace.
    pub(super) fn force_delete(&self, pod: &Pod) -> Result<()> {
        self.kubectl(["delete", "pod", &pod.name, "--wait=false", "--grace-period=0", "--force"]).map(drop)
    }

    /// Removes pods that have played their part, and waits until they are gone.
    pub(super) fn remove(&self, pods: &[&Pod]) -> Result<()> {
        for pod in pods {
            self.force_delete(pod).or_else(|error| if self.exists(pod)? { Err(error) } else { Ok(()) })?;
            let release =
                ["patch", "pod", &pod.name, "--type=merge", "--patch", r#"{"metadata":{"finalizers":null}}"#];
            self.kubectl(release)
                .or_else(|error| if self.exists(pod)? { Err(error) } else { Ok(String::new()) })?;
        }
        Ok(())
    }

    fn exists(&self, pod: &Pod) -> Result<bool> {
        Ok(self.get("pod", &pod.name)?.is_some())
    }

    /// A pod whose container `main` runs until it is told to stop, and then exits with this code.
    pub(super) fn sleeper(&self, name: &str, code: u8) -> Result<Pod> {
        let pod = self.pod(name, sleeps(code))?;
        self.until(&pod, &moment::running())?;
        Ok(pod)
    }
}

/// Lays `more` over `base`, member by member.
fn lay(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                lay(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

/// Gives a command an object to read.
fn feed(command: &mut Command, object: &Value) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start kubectl")?;
    child.stdin.take().context("kubectl has an input")?.write_all(object.to_string().as_bytes())?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// The spec of a pod with one container that runs these lines of shell.
pub(super) fn runs(lines: &str) -> Value {
    json!({"containers": [container("main", lines)]})
}

/// The spec of a pod that runs until it is told to stop, and then exits with this code.
pub(super) fn sleeps(code: u8) -> Value {
    runs(&sleep(code))
}

/// Shell that runs until it is told to stop, and says so.
pub(super) fn sleep(code: u8) -> String {
    format!("trap 'echo caught SIGTERM; exit {code}' TERM; sleep 1000 & wait")
}

/// A container as the operator makes it, that runs these lines of shell.
pub(super) fn container(name: &str, lines: &str) -> Value {
    // Kubernetes reads $$ as one $.
    let lines = lines.replace('$', "$$");
    json!({
        "name": name, "image": "alpine", "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", lines],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    })
}

/// A container with other members.
pub(super) fn with(mut container: Value, more: Value) -> Value {
    lay(&mut container, more);
    container
}

/// An init container that stays beside the others.
pub(super) fn sidecar(name: &str, lines: &str) -> Value {
    with(container(name, lines), json!({"restartPolicy": "Always"}))
}
