//! What a job really runs: its definition with the job's overrides applied.
//!
//! Overrides reach only what a job may change (command, environment, resources, see
//! <https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerOverrides.html>);
//! everything that decides about privileges comes from the definition alone, by construction:
//! [`Overrides`] has no member for it.
//!
//! A pod runs one container ([`Properties`]), the containers of a task ([`ecs`]) or what a pod in terms of Kubernetes
//! says ([`eks`]): [`Work`] is one of the three.

pub mod ecs;
pub mod eks;
pub mod nodes;
pub mod requirements;
pub mod revision;

use requirements::{Amounts, Stated};

use crate::name;

/// What runs in the pod of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// One container: `containerProperties`.
    Container(Properties),
    /// Up to ten containers: `ecsProperties`.
    Task(Box<ecs::Task>),
    /// A pod in terms of Kubernetes: `eksProperties`.
    Pod(Box<eks::Pod>),
}

impl Default for Work {
    fn default() -> Self {
        Self::Container(Properties::default())
    }
}

/// What a job may change of the work; a job states changes of the kind of work that its definition has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkOverrides {
    /// `containerOverrides`.
    pub container: Overrides,
    /// `ecsPropertiesOverride`.
    pub task: Vec<ecs::Change>,
    /// `eksPropertiesOverride`.
    pub pod: eks::Changes,
}

/// `containerProperties` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The image.
    pub image: String,
    /// Replaces the image's CMD; the image's ENTRYPOINT stays.
    pub command: Vec<String>,
    /// Name and value, in order.
    pub environment: Vec<(String, String)>,
    /// vCPUs, memory and GPUs.
    pub resources: Stated,
    /// `jobRoleArn`.
    pub job_role: Option<String>,
    /// Numeric user and perhaps group.
    pub user: Option<User>,
    /// Root file system read-only.
    pub readonly_root: bool,
    /// All privileges of the host.
    pub privileged: bool,
    /// Volumes by name.
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    pub mounts: Vec<Mount>,
    /// `linuxParameters.sharedMemorySize`, MiB.
    pub shared_memory_mib: Option<i64>,
    /// `linuxParameters.tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
}

/// `containerOverrides` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces the definition's command when given.
    pub command: Option<Vec<String>>,
    /// Replaces by name, adds what is new.
    pub environment: Vec<(String, String)>,
    /// Replaces per type.
    pub resources: Stated,
}

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: Option<i64>,
}

impl User {
    /// Reads `1000` or `1000:1000`; a name cannot be known before the image is there.
    pub fn parse(text: &str) -> Option<Self> {
        // `root` is 0 in every image.
        if text == "root" {
            return Some(Self { uid: 0, gid: None });
        }
        match text.split_once(':') {
            None => Some(Self { uid: text.parse().ok()?, gid: None }),
            Some((uid, gid)) => Some(Self { uid: uid.parse().ok()?, gid: Some(gid.parse().ok()?) }),
        }
    }
}

/// A volume: a folder of the host, or an empty one that lives as long as the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The host's folder.
    pub host_path: Option<String>,
}

/// Where a volume appears in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The path in the container.
    pub path: String,
    /// Whether it can be written.
    pub read_only: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its path in the container.
    pub path: String,
    /// Its size in MiB.
    pub size_mib: i64,
}

/// What a pod runs with all overrides applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// What it runs.
    pub work: Work,
    /// What it takes as a whole.
    pub amounts: Amounts,
}

impl Effective {
    /// The role that it acts as.
    pub fn job_role(&self) -> Option<&str> {
        match &self.work {
            Work::Container(properties) => properties.job_role.as_deref(),
            Work::Task(task) => task.containers.first()?.properties.job_role.as_deref(),
            Work::Pod(_) => None,
        }
    }

    /// True if its pod requests the CPU that is stated and no share of it: Kubernetes' amounts are Kubernetes' own.
    pub fn cpu_as_stated(&self) -> bool {
        matches!(self.work, Work::Pod(_))
    }

    /// Whether its pod may run where the job is.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn check_namespace(&self, own: &str) -> Result<(), String> {
        let Work::Pod(pod) = &self.work else { return Ok(()) };
        match pod.namespace.as_deref() {
            Some(other) if other != own => Err(format!(
                "eksProperties.podProperties.metadata.namespace: the pod of a job runs in the job's own namespace, \
                 {own}, and not in {other}"
            )),
            _ => Ok(()),
        }
    }
}

/// Applies a job's overrides to its definition.
///
/// # Errors
/// A sentence that names the member, as it belongs into the job's statusReason.
pub fn effective(work: &Work, overrides: &WorkOverrides) -> Result<Effective, String> {
    overrides.fit(work)?;
    Ok(match work {
        Work::Container(properties) => {
            let (properties, amounts) = container(properties, &overrides.container)?;
            Effective { work: Work::Container(properties), amounts }
        }
        Work::Task(task) => {
            let (task, amounts) = ecs::effective(task, &overrides.task)?;
            Effective { work: Work::Task(Box::new(task)), amounts }
        }
        Work::Pod(pod) => {
            let (pod, amounts) = eks::effective(pod, &overrides.pod)?;
            Effective { work: Work::Pod(Box::new(pod)), amounts }
        }
    })
}

impl WorkOverrides {
    /// Refuses changes of another kind of work than there is.
    fn fit(&self, work: &Work) -> Result<(), String> {
        let (has, takes) = match work {
            Work::Container(_) => ("containerProperties", "containerOverrides"),
            Work::Task(_) => ("ecsProperties", "ecsPropertiesOverride"),
            Work::Pod(_) => ("eksProperties", "eksPropertiesOverride"),
        };
        match self.all_stated().find(|member| *member != takes) {
            Some(member) => Err(format!("{member}: the job definition has {has}, which {takes} changes")),
            None => Ok(()),
        }
    }

    fn all_stated(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("containerOverrides", self.container != Overrides::default()),
            ("ecsPropertiesOverride", !self.task.is_empty()),
            ("eksPropertiesOverride", self.pod != eks::Changes::default()),
        ];
        all.into_iter().filter_map(|(member, is_stated)| is_stated.then_some(member))
    }

    /// The first member that states a change.
    pub fn stated(&self) -> Option<&'static str> {
        self.all_stated().next()
    }

    /// These with others on top of them.
    pub fn under(mut self, above: &Self) -> Self {
        self.container = self.container.under(&above.container);
        self.task.extend(above.task.iter().cloned());
        self.pod.extend(&above.pod);
        self
    }
}

impl Overrides {
    /// These with others on top of them.
    fn under(mut self, above: &Self) -> Self {
        if above.command.is_some() {
            self.command.clone_from(&above.command);
        }
        merge(&mut self.environment, &above.environment);
        merge(&mut self.resources.requirements, &above.resources.requirements);
        self.resources.vcpus = above.resources.vcpus.or(self.resources.vcpus);
        self.resources.memory = above.resources.memory.or(self.resources.memory);
        self
    }
}

/// Replaces by name, adds what is new.
fn merge(below: &mut Vec<(String, String)>, above: &[(String, String)]) {
    for (name, value) in above {
        match below.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => below.push((name.clone(), value.clone())),
        }
    }
}

/// One container, and what it takes.
fn container(properties: &Properties, overrides: &Overrides) -> Result<(Properties, Amounts), String> {
    let amounts = requirements::merge(&properties.resources, &overrides.resources)?;
    let mut properties = properties.clone();
    if let Some(command) = &overrides.command {
        properties.command.clone_from(command);
    }
    merge(&mut properties.environment, &overrides.environment);
    for mount in &properties.mounts {
        if !properties.volumes.iter().any(|volume| volume.name == mount.volume) {
            return Err(format!("mountPoints: sourceVolume {} is not one of volumes", mount.volume));
        }
    }
    Ok((properties, amounts))
}

/// What Kubernetes calls a container: the name that AWS gives one without a name, `Default`, in small letters, and of
/// every other name the slug.
pub fn container_name(name: &str) -> String {
    if name == eks::DEFAULT_NAME { name.to_ascii_lowercase() } else { name::slug(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(vcpus: i64, memory: i64) -> Stated {
        Stated { vcpus: Some(vcpus), memory: Some(memory), requirements: vec![] }
    }

    #[test]
    fn environment_merges_by_name() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect::<Vec<_>>();
        let definition = Properties {
            environment: pairs(&[("A", "1"), ("B", "2")]),
            resources: stated(1, 4),
            ..Properties::default()
        };
        let overrides = Overrides { environment: pairs(&[("B", "3"), ("C", "4")]), ..Overrides::default() };
        let (merged, _) = container(&definition, &overrides).expect("valid");
        assert_eq!(merged.environment, pairs(&[("A", "1"), ("B", "3"), ("C", "4")]));
    }

    #[test]
    fn a_mount_needs_its_volume() {
        let mount = Mount { volume: "data".into(), path: "/data".into(), read_only: false };
        let definition = Properties { mounts: vec![mount], resources: stated(1, 4), ..Properties::default() };
        let error = container(&definition, &Overrides::default()).expect_err("no such volume");
        assert_eq!(error, "mountPoints: sourceVolume data is not one of volumes");
    }

    #[test]
    fn users() {
        assert_eq!(User::parse("1000"), Some(User { uid: 1000, gid: None }));
        assert_eq!(User::parse("1000:100"), Some(User { uid: 1000, gid: Some(100) }));
        assert_eq!(User::parse("root"), Some(User { uid: 0, gid: None }));
        assert_eq!(User::parse("nobody"), None);
    }
}
