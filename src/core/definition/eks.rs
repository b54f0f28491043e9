//! `eksProperties` as plain data: a pod in terms of Kubernetes
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EksPodProperties.html>).

mod resources;

use std::collections::{BTreeMap, BTreeSet};

use super::requirements::Amounts;
use super::{container_name, merge, metadata};
pub use resources::Resources;

/// The most containers, and the most init containers, of a pod.
pub const MAX_CONTAINERS: usize = 10;

/// The name of a container that is given none
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EksContainer.html>).
pub const DEFAULT_NAME: &str = "Default";

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `containers`.
    pub containers: Vec<Container>,
    /// `initContainers`.
    pub init_containers: Vec<Container>,
    /// `volumes`.
    pub volumes: Vec<Volume>,
    /// `serviceAccountName`.
    pub service_account: Option<String>,
    /// `hostNetwork`; what the environment says if it is not stated.
    pub host_network: Option<bool>,
    /// `dnsPolicy`.
    pub dns_policy: Option<String>,
    /// `imagePullSecrets`.
    pub image_pull_secrets: Vec<String>,
    /// `shareProcessNamespace`.
    pub shared_pids: bool,
    /// `securityContext`.
    pub security: PodSecurity,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image.
    pub image: String,
    /// `imagePullPolicy`.
    pub pull_policy: Option<String>,
    /// Takes the place of the image's ENTRYPOINT.
    pub command: Vec<String>,
    /// Takes the place of the image's CMD.
    pub args: Vec<String>,
    /// Name and value, in order.
    pub environment: Vec<(String, String)>,
    /// `resources`.
    pub resources: Resources,
    /// `volumeMounts`.
    pub mounts: Vec<Mount>,
    /// `securityContext`.
    pub security: Option<Security>,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The path in the container.
    pub path: String,
    /// The path in the volume.
    pub sub_path: Option<String>,
    /// Whether it can be written.
    pub read_only: bool,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What it is made from.
    pub source: Source,
}

/// What a volume is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `emptyDir`, on disk unless a medium is given.
    Empty {
        /// `medium`.
        medium: Option<String>,
        /// `sizeLimit`.
        size_limit: Option<String>,
    },
    /// `hostPath`.
    Host(String),
    /// `secret`: its name, and whether the pod can do without it.
    Secret(String, bool),
    /// `persistentVolumeClaim`: its name, and whether it is mounted read-only.
    Claim(String, bool),
}

impl Default for Source {
    fn default() -> Self {
        Self::Empty { medium: None, size_limit: None }
    }
}

/// `securityContext` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `runAsUser`.
    pub user: Option<i64>,
    /// `runAsGroup`.
    pub group: Option<i64>,
    /// `privileged`.
    pub privileged: Option<bool>,
    /// `allowPrivilegeEscalation`.
    pub escalation: Option<bool>,
    /// `readOnlyRootFilesystem`.
    pub readonly_root: Option<bool>,
    /// `runAsNonRoot`.
    pub non_root: Option<bool>,
    /// `capabilities.add`.
    pub add: Vec<String>,
    /// `capabilities.drop`.
    pub drop: Vec<String>,
    /// `seccompProfile`.
    pub seccomp: Option<Seccomp>,
}

/// `securityContext` of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurity {
    /// `runAsUser`.
    pub user: Option<i64>,
    /// `runAsGroup`.
    pub group: Option<i64>,
    /// `runAsNonRoot`.
    pub non_root: Option<bool>,
    /// `fsGroup`.
    pub fs_group: Option<i64>,
    /// `seccompProfile`.
    pub seccomp: Option<Seccomp>,
}

/// A seccomp profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// `RuntimeDefault`, `Unconfined` or `Localhost`.
    pub kind: String,
    /// Its path on the node.
    pub path: Option<String>,
}

/// What a job changes of a pod. There is no member for what decides about privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of its containers.
    pub containers: Vec<Change>,
    /// Of its init containers.
    pub init_containers: Vec<Change>,
    /// Labels to add or to change.
    pub labels: BTreeMap<String, String>,
    /// Annotations to add or to change.
    pub annotations: BTreeMap<String, String>,
    /// Must be the job's own namespace.
    pub namespace: Option<String>,
}

/// What a job changes of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The container's name.
    pub name: Option<String>,
    /// `image`.
    pub image: Option<String>,
    /// `command`.
    pub command: Option<Vec<String>>,
    /// `args`.
    pub args: Option<Vec<String>>,
    /// `env`: replaces by name, adds what is new.
    pub environment: Vec<(String, String)>,
    /// `resources`: replaces by name.
    pub resources: Resources,
}

impl Changes {
    /// Takes others on top.
    pub(super) fn extend(&mut self, above: &Self) {
        let Self { containers, init_containers, labels, annotations, namespace } = above;
        self.containers.extend(containers.iter().cloned());
        self.init_containers.extend(init_containers.iter().cloned());
        self.labels.extend(labels.clone());
        self.annotations.extend(annotations.clone());
        if namespace.is_some() {
            self.namespace.clone_from(namespace);
        }
    }
}

impl Pod {
    /// Refuses what could never run.
    fn check(&self) -> Result<(), String> {
        if self.containers.is_empty() || self.containers.len() > MAX_CONTAINERS {
            return Err(format!("containers must have 1 to {MAX_CONTAINERS} elements"));
        }
        if self.init_containers.len() > MAX_CONTAINERS {
            return Err(format!("initContainers can have at most {MAX_CONTAINERS} elements"));
        }
        let mut names = BTreeSet::new();
        for container in self.containers.iter().chain(&self.init_containers) {
            if !names.insert(container_name(&container.name)) {
                return Err(format!("containers: {} is the name of two containers", container.name));
            }
            let unknown =
                container.mounts.iter().find(|mount| !self.volumes.iter().any(|v| v.name == mount.volume));
            if let Some(mount) = unknown {
                return Err(format!("volumeMounts: {} is not the name of one of the volumes", mount.volume));
            }
        }
        Ok(())
    }

    /// As Kubernetes reckons: the containers together, or the largest of those that run before them one by one.
    fn amounts(&self) -> Result<Amounts, String> {
        let of = |container: &Container| {
            container.resources.amounts().map_err(|why| format!("container {}: {why}", container.name))
        };
        let mut sum = Amounts::default();
        for container in &self.containers {
            sum = sum.plus(of(container)?);
        }
        for container in &self.init_containers {
            sum = sum.max(of(container)?);
        }
        Ok(sum)
    }
}

/// Applies a job's changes, in order.
pub(super) fn effective(pod: &Pod, changes: &Changes) -> Result<(Pod, Amounts), String> {
    pod.check()?;
    let mut pod = pod.clone();
    change_all("containers", &mut pod.containers, &changes.containers)?;
    change_all("initContainers", &mut pod.init_containers, &changes.init_containers)?;
    metadata::check_change(&changes.labels, &changes.annotations)?;
    pod.labels.extend(changes.labels.clone());
    pod.annotations.extend(changes.annotations.clone());
    if changes.namespace.is_some() {
        pod.namespace.clone_from(&changes.namespace);
    }
    metadata::check(pod.labels.keys().chain(pod.annotations.keys()))?;
    let amounts = pod.amounts()?;
    Ok((pod, amounts))
}

fn change_all(member: &str, containers: &mut [Container], changes: &[Change]) -> Result<(), String> {
    for change in changes {
        let container = match &change.name {
            Some(name) => {
                containers.iter_mut().find(|container| container.name == *name).ok_or_else(|| {
                    format!(
                        "eksPropertiesOverride: {member}: {name} is not the name of one of the containers"
                    )
                })?
            }
            None => match containers {
                [only] => only,
                _ => {
                    return Err(format!(
                        "eksPropertiesOverride: {member}: name is required unless there is one container"
                    ));
                }
            },
        };
        let name = container.name.clone();
        container
            .change(change)
            .map_err(|why| format!("eksPropertiesOverride: {member}: container {name}: {why}"))?;
    }
    Ok(())
}

impl Container {
    fn change(&mut self, change: &Change) -> Result<(), String> {
        let Change { name: _, image, command, args, environment, resources } = change;
        if let Some(image) = image {
            self.image.clone_from(image);
        }
        if let Some(command) = command {
            self.command.clone_from(command);
        }
        if let Some(args) = args {
            self.args.clone_from(args);
        }
        merge(&mut self.environment, environment);
        self.resources.change(resources)
    }
}

#[cfg(test)]
mod tests {
    use super::resources::GPU;
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn one(name: &str, limits: &[(&str, &str)], requests: &[(&str, &str)]) -> Container {
        Container {
            name: name.to_owned(),
            image: "alpine".to_owned(),
            resources: Resources { limits: map(limits), requests: map(requests) },
            ..Container::default()
        }
    }

    fn small(name: &str) -> Container {
        one(name, &[("cpu", "1"), ("memory", "64Mi")], &[])
    }

    fn pod(containers: Vec<Container>, init_containers: Vec<Container>) -> Pod {
        Pod { containers, init_containers, ..Pod::default() }
    }

    #[test]
    fn a_pod_takes_the_sum_of_its_containers_or_its_largest_init_container() {
        let big = |name| one(name, &[("memory", "512Mi"), (GPU, "1")], &[("cpu", "0.5")]);
        for (name, pod, want) in [
            ("one", pod(vec![small("a")], vec![]), (1000, 64, 0)),
            ("two", pod(vec![small("a"), big("b")], vec![]), (1500, 576, 1)),
            ("a larger init container", pod(vec![small("a")], vec![big("i")]), (1000, 512, 1)),
            ("two of them run one by one", pod(vec![small("a")], vec![big("i"), big("j")]), (1000, 512, 1)),
        ] {
            let (_, Amounts { vcpus_milli, memory_mib, gpus }) =
                effective(&pod, &Changes::default()).expect(name);
            assert_eq!((vcpus_milli, memory_mib, gpus), want, "{name}");
        }
    }

    #[test]
    fn a_pod_has_up_to_ten_containers_and_ten_that_run_before_them() {
        let several = |prefix: &str, count| (0..count).map(|n| small(&format!("{prefix}{n}"))).collect();
        for (containers, inits, want) in
            [(0, 1, false), (1, 0, true), (10, 10, true), (11, 0, false), (1, 11, false)]
        {
            let pod = pod(several("app", containers), several("init", inits));
            assert_eq!(effective(&pod, &Changes::default()).is_ok(), want, "{containers} {inits}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let mounted =
            Container { mounts: vec![Mount { volume: "data".to_owned(), ..Mount::default() }], ..small("a") };
        let labelled = |key: &str| Pod { labels: map(&[(key, "1")]), ..pod(vec![small("a")], vec![]) };
        for (pod, want) in [
            (pod(vec![], vec![]), "containers must have 1 to 10 elements"),
            (pod(vec![small("a"); 11], vec![]), "containers must have 1 to 10 elements"),
            (pod(vec![small("a")], vec![small("i"); 11]), "initContainers can have at most 10 elements"),
            (pod(vec![small("a"), small("a")], vec![]), "containers: a is the name of two containers"),
            (pod(vec![small("a")], vec![small("a")]), "containers: a is the name of two containers"),
            (pod(vec![mounted], vec![]), "volumeMounts: data is not the name of one of the volumes"),
            (
                pod(vec![one("a", &[("memory", "64Mi")], &[])], vec![]),
                "container a: resources: cpu is required in limits or requests",
            ),
            (
                pod(vec![one("a", &[("cpu", "1")], &[])], vec![]),
                "container a: resources: memory is required in limits or requests",
            ),
            (
                pod(vec![one("a", &[("cpu", "100m"), ("memory", "64Mi")], &[])], vec![]),
                "container a: resources: cpu must be a multiple of 0.25, such as 0.5 or 2, not \"100m\"",
            ),
            (
                pod(vec![one("a", &[("cpu", "1"), ("memory", "1Gi")], &[])], vec![]),
                "container a: resources: memory must be a whole number of MiB with the suffix Mi, at least 4Mi, not \
                 \"1Gi\"",
            ),
            (
                pod(vec![one("a", &[("cpu", "1"), ("memory", "64Mi")], &[("memory", "32Mi")])], vec![]),
                "container a: resources: memory must be the same in limits and requests",
            ),
            (
                pod(vec![one("a", &[("cpu", "1"), ("memory", "64Mi")], &[("cpu", "2")])], vec![]),
                "container a: resources: the cpu of requests must not be greater than that of limits",
            ),
            (
                labelled("batchyard.io/attempt"),
                "eksProperties: metadata: batchyard.io/attempt is the operator's own and cannot be set",
            ),
            (
                labelled("karpenter.sh/do-not-disrupt"),
                "eksProperties: metadata: karpenter.sh/do-not-disrupt is the operator's own and cannot be set",
            ),
        ] {
            assert_eq!(effective(&pod, &Changes::default()).expect_err(want), want);
        }
        assert!(effective(&labelled("notbatchyard.io/attempt"), &Changes::default()).is_ok());
    }

    #[test]
    fn changes_reach_the_container_that_they_name() {
        let change = |name: Option<&str>| Change {
            name: name.map(str::to_owned),
            image: Some("busybox".to_owned()),
            args: Some(vec!["x".to_owned()]),
            environment: vec![("A".to_owned(), "2".to_owned())],
            resources: Resources { limits: map(&[("memory", "128Mi")]), requests: map(&[]) },
            ..Change::default()
        };
        let changes =
            |containers, init_containers| Changes { containers, init_containers, ..Changes::default() };
        let two = pod(vec![small("a"), one("b", &[], &[("cpu", "1"), ("memory", "64Mi")])], vec![small("i")]);
        let named = changes(vec![change(Some("b"))], vec![change(None)]);
        let (made, amounts) = effective(&two, &named).expect("valid");
        let images = |list: &[Container]| list.iter().map(|c| c.image.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(images(&made.containers), "alpine busybox");
        assert_eq!(images(&made.init_containers), "busybox", "of one the name may be left out");
        assert_eq!(
            made.containers[1].resources.requests,
            map(&[("cpu", "1")]),
            "the request goes with the limit"
        );
        assert_eq!(amounts.memory_mib, 64 + 128);
        for (changes, want) in [
            (
                changes(vec![change(None)], vec![]),
                "eksPropertiesOverride: containers: name is required unless there is one container",
            ),
            (
                changes(vec![], vec![change(Some("a"))]),
                "eksPropertiesOverride: initContainers: a is not the name of one of the containers",
            ),
        ] {
            assert_eq!(effective(&two, &changes).expect_err(want), want);
        }
    }

    #[test]
    fn a_job_adds_labels_and_none_by_which_kubernetes_is_steered() {
        let with = |key: &str| Changes { annotations: map(&[(key, "1")]), ..Changes::default() };
        let definition = Pod {
            labels: map(&[("team", "a")]),
            annotations: map(&[("container.apparmor.security.beta.kubernetes.io/a", "localhost/x")]),
            ..pod(vec![small("a")], vec![])
        };
        let labels = Changes { labels: map(&[("team", "b"), ("run", "7")]), ..Changes::default() };
        let (made, _) = effective(&definition, &labels).expect("valid");
        assert_eq!(made.labels, map(&[("team", "b"), ("run", "7")]));
        for key in ["container.apparmor.security.beta.kubernetes.io/a", "kubernetes.io/x", "node.k8s.io/x"] {
            let error = effective(&definition, &with(key)).expect_err(key);
            assert!(error.contains("a job cannot set what is in the domain"), "{error}");
        }
        assert!(effective(&definition, &with("batchyard.io/attempt")).is_err());
        assert!(effective(&definition, &with("example.com/kubernetes.io")).is_ok());
    }
}
