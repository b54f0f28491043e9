//! What a job really runs: its definition with the job's overrides applied.
//!
//! Overrides reach only what a job may change (command, environment, resources, see
//! <https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerOverrides.html>);
//! everything that decides about privileges comes from the definition alone, by construction:
//! [`Overrides`] has no member for it.
//!
//! A pod runs one container ([`Properties`]), the containers of a task ([`ecs`]) or what a pod in terms of Kubernetes
//! says ([`eks`]): [`Work`] is one of the three.

pub mod container;
pub mod docker_options;
pub mod ecs;
pub mod eks;
pub mod fargate;
pub mod logs;
mod metadata;
pub mod nodes;
pub mod parameters;
pub mod requirements;
pub mod revision;
pub mod roles;
pub mod secrets;

use std::collections::BTreeMap;

use container::{Linux, Mount, Platform, SecretVariable, Ulimit, User, Volume};
use parameters::{Parameters, substitute};
use requirements::{Amounts, Stated};

use crate::logging::Configuration;
use crate::name;

/// What runs in the pod of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all jobs are of the large kind")]
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
    /// Variables whose values stand in Secrets of the job's namespace.
    pub secrets: Box<[SecretVariable]>,
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
    /// `linuxParameters` and `ulimits`, if anything is stated there.
    pub linux: Option<Box<Linux>>,
    /// `runtimePlatform`.
    pub platform: Platform,
    /// `ephemeralStorage`, GiB.
    pub ephemeral_storage_gib: Option<i64>,
    /// The Secret with the registry's credentials.
    pub pull_secret: Option<Box<str>>,
    /// `logConfiguration`.
    pub logging: Option<Box<Configuration>>,
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

impl Work {
    /// Whether pods have their node's network: as their definition says, whose parameter `command` may hold
    /// `--network=host` ([`docker_options`]); nothing if it leaves that to the environment. The options of `docker run`
    /// are for containers of ECS: a pod that says that it wants a network of its own has one.
    pub fn network(&self, by_options: bool) -> Option<bool> {
        let by_options = by_options.then_some(true);
        match self {
            Self::Container(_) => by_options,
            Self::Task(task) => task.host_network.then_some(true).or(by_options),
            Self::Pod(pod) => pod.host_network.or(by_options),
        }
    }
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

    /// The containers that are described as those of ECS are, by the names that they have in the pod; one that is alone has
    /// no name.
    fn described(&self) -> Vec<(Option<String>, &Properties)> {
        match &self.work {
            Work::Container(properties) => vec![(None, properties)],
            Work::Task(task) => {
                task.containers.iter().map(|one| (Some(container_name(&one.name)), &one.properties)).collect()
            }
            Work::Pod(_) => Vec::new(),
        }
    }

    /// What kind of machine it needs.
    pub fn platform(&self) -> Platform {
        self.described().first().map(|(_, properties)| properties.platform).unwrap_or_default()
    }

    /// The Secrets with credentials of registries, each once.
    pub fn pull_secrets(&self) -> Vec<&str> {
        let mut names: Vec<_> = self
            .described()
            .into_iter()
            .filter_map(|(_, properties)| properties.pull_secret.as_deref())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// True if somebody is to reap the children of processes that are gone.
    pub fn init_process(&self) -> bool {
        self.described()
            .iter()
            .any(|(_, properties)| properties.linux.as_ref().is_some_and(|l| l.init_process))
    }

    /// The `ulimits` of each container that has some, by its name in the pod; one that is alone has no name.
    pub fn ulimits(&self) -> Vec<(Option<String>, &[Ulimit])> {
        let all = self.described().into_iter().map(|(name, properties)| (name, properties.linux.as_ref()));
        all.filter_map(|(name, linux)| Some((name, linux?.ulimits.as_slice()))).collect()
    }

    /// Every list of words in which `Ref::name` stands for a parameter.
    fn commands_mut(&mut self) -> Vec<&mut Vec<String>> {
        match &mut self.work {
            Work::Container(properties) => vec![&mut properties.command],
            Work::Task(task) => task.containers.iter_mut().map(|one| &mut one.properties.command).collect(),
            Work::Pod(pod) => {
                let all = pod.containers.iter_mut().chain(&mut pod.init_containers);
                all.flat_map(|one| [&mut one.command, &mut one.args]).collect()
            }
        }
    }

    /// With values in the place of `Ref::name`, in the command of each container and in its arguments.
    ///
    /// # Errors
    /// As [`substitute`].
    pub fn with_parameters(mut self, values: &Parameters) -> Result<Self, String> {
        for words in self.commands_mut() {
            *words = substitute(words, values)?;
        }
        Ok(self)
    }

    /// True if its pod requests the CPU that is stated and no share of it: Kubernetes' amounts are Kubernetes' own.
    pub fn cpu_as_stated(&self) -> bool {
        matches!(self.work, Work::Pod(_))
    }

    /// How many GPUs its pod takes where they are counted by a resource that it names itself: see
    /// [`eks::Pod::gpus_by_name`].
    pub fn gpus_by_name(&self) -> BTreeMap<String, i64> {
        match &self.work {
            Work::Pod(pod) => pod.gpus_by_name(),
            Work::Container(_) | Work::Task(_) => BTreeMap::new(),
        }
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
    fn where_parameters_stand() {
        let words = |text: &str| vec![text.to_owned()];
        let properties = |text: &str| Properties { command: words(text), ..Properties::default() };
        let one = |text: &str| ecs::Container { properties: properties(text), ..ecs::Container::default() };
        let task = ecs::Task { containers: vec![one("a"), one("b")], ..ecs::Task::default() };
        let in_pod = |command: &str, args: &str| eks::Container {
            command: words(command),
            args: words(args),
            ..eks::Container::default()
        };
        let pod = eks::Pod {
            containers: vec![in_pod("a", "b"), in_pod("c", "d")],
            init_containers: vec![in_pod("e", "f")],
            ..eks::Pod::default()
        };
        for (work, want) in [
            (Work::Container(properties("a")), "a"),
            (Work::Task(Box::new(task)), "ab"),
            (Work::Pod(Box::new(pod)), "abcdef"),
        ] {
            let mut effective = Effective { work, ..Effective::default() };
            let found: String = effective.commands_mut().into_iter().flatten().map(std::mem::take).collect();
            assert_eq!(found, want);
        }
    }

    #[test]
    fn parameters_take_the_place_of_their_references() {
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let properties = Properties { command: command(&["echo", "Ref::word"]), ..Properties::default() };
        let stated = Effective { work: Work::Container(properties), ..Effective::default() };
        let words = Parameters::from([("word".to_owned(), "hello".to_owned())]);
        let mut made = stated.clone().with_parameters(&words).expect("it is there");
        assert_eq!(made.commands_mut(), [&command(&["echo", "hello"])]);
        let error = stated.with_parameters(&Parameters::new()).expect_err("it is missing");
        assert_eq!(error, "Unable to substitute value. No parameter found for reference word");
    }

    #[test]
    fn whose_network_a_pod_has() {
        let task = |host_network| Work::Task(Box::new(ecs::Task { host_network, ..ecs::Task::default() }));
        let pod = |host_network| Work::Pod(Box::new(eks::Pod { host_network, ..eks::Pod::default() }));
        for (work, plain, with_option) in [
            (Work::default(), None, Some(true)),
            (task(false), None, Some(true)),
            (task(true), Some(true), Some(true)),
            (pod(None), None, Some(true)),
            (pod(Some(true)), Some(true), Some(true)),
            // It says that it wants its own.
            (pod(Some(false)), Some(false), Some(false)),
        ] {
            assert_eq!((work.network(false), work.network(true)), (plain, with_option), "{work:?}");
        }
    }

    /// A job changes the kind of work that its definition has, and no other.
    #[test]
    fn changes_of_another_kind_of_work_are_refused() {
        let command = Some(vec!["run".to_owned()]);
        let container = Overrides { command, ..Overrides::default() };
        let pod = eks::Changes { namespace: Some("team".to_owned()), ..eks::Changes::default() };
        let none = WorkOverrides::default;
        let kinds = [
            ("containerProperties", "containerOverrides", Work::default()),
            ("ecsProperties", "ecsPropertiesOverride", Work::Task(Box::default())),
            ("eksProperties", "eksPropertiesOverride", Work::Pod(Box::default())),
        ];
        assert_eq!(none().stated(), None);
        for (member, overrides) in [
            ("containerOverrides", WorkOverrides { container, ..none() }),
            ("ecsPropertiesOverride", WorkOverrides { task: vec![ecs::Change::default()], ..none() }),
            ("eksPropertiesOverride", WorkOverrides { pod, ..none() }),
        ] {
            assert_eq!(overrides.stated(), Some(member));
            for (has, takes, work) in &kinds {
                let why = format!("{member}: the job definition has {has}, which {takes} changes");
                let want = if member == *takes { Ok(()) } else { Err(why) };
                assert_eq!(overrides.fit(work), want);
                assert_eq!(none().fit(work), Ok(()));
            }
        }
    }

    #[test]
    fn of_two_changes_the_one_above_counts() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let of = |namespace: Option<&str>, pairs: &[(&str, &str)]| WorkOverrides {
            pod: eks::Changes {
                containers: vec![eks::Change::default()],
                init_containers: vec![eks::Change::default()],
                labels: pairs.iter().map(|(name, value)| pair(name, value)).collect(),
                annotations: pairs.iter().map(|(name, value)| pair(name, value)).collect(),
                namespace: namespace.map(str::to_owned),
            },
            task: vec![ecs::Change::default()],
            ..WorkOverrides::default()
        };
        let both = of(Some("below"), &[("a", "1"), ("b", "1")]).under(&of(None, &[("b", "2"), ("c", "2")]));
        let eks::Changes { containers, init_containers, labels, annotations, namespace } = &both.pod;
        assert_eq!((containers.len(), init_containers.len(), both.task.len()), (2, 2, 2));
        assert_eq!(*labels, BTreeMap::from([pair("a", "1"), pair("b", "2"), pair("c", "2")]));
        assert_eq!((annotations, namespace.as_deref()), (labels, Some("below")));
        let above = both.under(&of(Some("above"), &[]));
        assert_eq!(above.pod.namespace.as_deref(), Some("above"));
    }

    /// What is asked of a container is asked of each container of a task, and of none of a pod in terms of Kubernetes.
    #[test]
    fn what_containers_ask_for_is_asked_of_all() {
        let arm = Platform { architecture: Some(container::Architecture::Arm), system: None };
        let asks = |role: &str, secret: &str, init_process| Properties {
            job_role: Some(role.into()),
            pull_secret: Some(secret.into()),
            linux: Some(Linux { init_process, ..Linux::default() }.into()),
            platform: arm,
            ..Properties::default()
        };
        let one = |name: &str, properties| ecs::Container {
            name: name.to_owned(),
            properties,
            ..ecs::Container::default()
        };
        let task = |second| ecs::Task {
            containers: vec![one("a", asks("role", "s", false)), one("b", asks("other", "r", second))],
            ..ecs::Task::default()
        };
        let works = [
            (Work::Container(asks("role", "s", true)), Some("role"), vec!["s"], true, "-"),
            (Work::Container(asks("role", "s", false)), Some("role"), vec!["s"], false, "-"),
            (Work::Task(Box::new(task(true))), Some("role"), vec!["r", "s"], true, "a b"),
            (Work::Task(Box::new(task(false))), Some("role"), vec!["r", "s"], false, "a b"),
            (Work::Pod(Box::default()), None, vec![], false, ""),
        ];
        for (work, role, secrets, init_process, limited) in works {
            let is_pod = matches!(work, Work::Pod(_));
            let effective = Effective { work, ..Effective::default() };
            assert_eq!(effective.job_role(), role, "{effective:?}");
            assert_eq!(effective.pull_secrets(), secrets, "{effective:?}");
            assert_eq!(effective.init_process(), init_process, "{effective:?}");
            assert_eq!(effective.cpu_as_stated(), is_pod, "{effective:?}");
            assert_eq!(effective.platform(), if is_pod { Platform::default() } else { arm }, "{effective:?}");
            assert!(effective.gpus_by_name().is_empty(), "{effective:?}");
            let ulimits = effective.ulimits();
            let names: Vec<_> = ulimits.iter().map(|(name, _)| name.as_deref().unwrap_or("-")).collect();
            assert_eq!(names.join(" "), limited, "{effective:?}");
        }
    }

    #[test]
    fn a_mount_needs_its_volume() {
        let mount = Mount { volume: "data".into(), path: "/data".into(), read_only: false };
        let definition = Properties { mounts: vec![mount], resources: stated(1, 4), ..Properties::default() };
        let volume = |name: &str| Volume { name: name.to_owned(), source: container::Source::Empty };
        for (volumes, is_there) in
            [(vec![], false), (vec![volume("other")], false), (vec![volume("other"), volume("data")], true)]
        {
            let outcome = container(&Properties { volumes, ..definition.clone() }, &Overrides::default());
            let error =
                (!is_there).then(|| "mountPoints: sourceVolume data is not one of volumes".to_owned());
            assert_eq!(outcome.err(), error);
        }
    }

    #[test]
    fn a_pod_runs_where_its_job_is() {
        let of = |namespace: Option<&str>| {
            let pod = eks::Pod { namespace: namespace.map(str::to_owned), ..eks::Pod::default() };
            Effective { work: Work::Pod(Box::new(pod)), ..Effective::default() }
        };
        for own in [of(None), of(Some("team")), Effective::default()] {
            assert_eq!(own.check_namespace("team"), Ok(()));
        }
        let why = of(Some("other")).check_namespace("team").expect_err("it is another's");
        assert!(why.ends_with("runs in the job's own namespace, team, and not in other"), "{why}");
    }
}
