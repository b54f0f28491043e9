//! `ecsProperties` as plain data: the containers of a task, which of them are essential, and which wait for which
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_TaskContainerProperties.html>).

use super::requirements::Amounts;
use super::{Overrides, Properties, Volume, container, container_name};
use crate::order::{After, Until};

/// The most containers of a task
/// (<https://docs.aws.amazon.com/batch/latest/APIReference/API_EcsTaskProperties.html>).
pub const MAX_CONTAINERS: usize = 10;

/// The containers of a task and what they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// In the definition's order; of an [`super::Effective`] in one in which each comes after those that it waits for.
    pub containers: Vec<Container>,
    /// `volumes`.
    pub volumes: Vec<Volume>,
    /// `ipcMode` host.
    pub host_ipc: bool,
    /// `pidMode` host.
    pub host_pid: bool,
    /// `pidMode` task: the containers see each other's processes.
    pub shared_pids: bool,
    /// `networkMode` host.
    pub host_network: bool,
}

/// One container of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name; may be empty.
    pub name: String,
    /// Its end stops the others and ends the job.
    pub essential: bool,
    /// Like those of a job of one container, but for the volumes, which are the task's.
    pub properties: Properties,
    /// What it takes; known once the job's changes are applied.
    pub amounts: Amounts,
    /// The containers that must have got so far before it starts.
    pub depends_on: Vec<(String, Until)>,
    /// How many seconds those that wait for its end wait at most, from its start.
    pub start_timeout: Option<u32>,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_timeout: Option<u32>,
}

/// What a job changes of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The container's name.
    pub name: Option<String>,
    /// The changes.
    pub overrides: Overrides,
}

impl Task {
    /// What a container waits for, by the names that Kubernetes has for them.
    pub fn waits_for(&self, container: &Container) -> Vec<After> {
        let after = |(name, until): &(String, Until)| {
            let other = self.containers.get(self.position(name)?)?;
            let seconds = other.start_timeout.filter(|_| *until != Until::Start);
            Some(After { container: container_name(name), until: *until, seconds })
        };
        container.depends_on.iter().filter_map(after).collect()
    }

    /// Seconds between SIGTERM and SIGKILL: a pod has one time for all, the longest that one of them wants.
    pub fn stop_timeout(&self, usual: i64) -> i64 {
        let wanted = |container: &Container| container.stop_timeout.map_or(usual, i64::from);
        self.containers.iter().map(wanted).max().unwrap_or(usual)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|container| container.name == name)
    }

    /// With a name for each: those that have none are called after their place.
    fn named(mut self) -> Self {
        let is_alone = self.containers.len() == 1;
        for (index, container) in self.containers.iter_mut().enumerate() {
            if container.name.is_empty() {
                container.name = if is_alone { "default".to_owned() } else { format!("container-{index}") };
            }
        }
        self
    }

    /// Refuses what could never run.
    fn check(&self) -> Result<(), String> {
        let containers = &self.containers;
        if containers.is_empty() || containers.len() > MAX_CONTAINERS {
            return Err(format!("containers must have 1 to {MAX_CONTAINERS} elements"));
        }
        if !containers.iter().any(|container| container.essential) {
            return Err("containers: at least one container must be essential".to_owned());
        }
        for (index, container) in containers.iter().enumerate() {
            if containers.iter().take(index).any(|other| other.name == container.name) {
                return Err(format!("containers: {} is the name of two containers", container.name));
            }
            for (name, until) in &container.depends_on {
                let Some(other) = self.position(name).and_then(|at| containers.get(at)) else {
                    return Err(format!("dependsOn: {name} is not the name of one of the containers"));
                };
                if other.essential && *until != Until::Start {
                    let until = until.as_str();
                    return Err(format!(
                        "dependsOn: {until} of {name}: COMPLETE and SUCCESS cannot be set on an essential container"
                    ));
                }
            }
        }
        Ok(())
    }

    /// In an order in which each comes after those that it waits for; else as it is.
    fn in_order(mut self) -> Result<Self, String> {
        let mut left = std::mem::take(&mut self.containers);
        while !left.is_empty() {
            let waits = |container: &Container| {
                container.depends_on.iter().any(|(name, _)| left.iter().any(|other| other.name == *name))
            };
            let Some(next) = left.iter().position(|container| !waits(container)) else {
                let names: Vec<_> = left.iter().map(|container| container.name.as_str()).collect();
                return Err(format!("dependsOn: containers wait for each other: {}", names.join(", ")));
            };
            self.containers.push(left.remove(next));
        }
        Ok(self)
    }
}

/// Applies a job's changes, in order.
pub(super) fn effective(task: &Task, changes: &[Change]) -> Result<(Task, Amounts), String> {
    let mut task = task.clone().named();
    task.check()?;
    let mut overrides = vec![Overrides::default(); task.containers.len()];
    for change in changes {
        let at = match &change.name {
            Some(name) => task.position(name).ok_or_else(|| {
                format!("ecsPropertiesOverride: name: {name} is not the name of one of the containers")
            })?,
            None if task.containers.len() == 1 => 0,
            None => {
                return Err(
                    "ecsPropertiesOverride: name is required: the job has several containers".to_owned()
                );
            }
        };
        overrides[at] = std::mem::take(&mut overrides[at]).under(&change.overrides);
    }
    let mut amounts = Amounts::default();
    for (one, overrides) in task.containers.iter_mut().zip(&overrides) {
        // The volumes are the task's, and what a container mounts must be one of them.
        one.properties.volumes.clone_from(&task.volumes);
        let made = container(&one.properties, overrides);
        (one.properties, one.amounts) = made.map_err(|why| format!("container {}: {why}", one.name))?;
        one.properties.volumes.clear();
        amounts = amounts.plus(one.amounts);
    }
    Ok((task.in_order()?, amounts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::requirements::Stated;

    fn one(name: &str, essential: bool, depends_on: &[(&str, Until)]) -> Container {
        let resources = Stated { vcpus: Some(1), memory: Some(64), requirements: vec![] };
        Container {
            name: name.to_owned(),
            essential,
            properties: Properties { image: "alpine".to_owned(), resources, ..Properties::default() },
            depends_on: depends_on.iter().map(|(name, until)| ((*name).to_owned(), *until)).collect(),
            ..Container::default()
        }
    }

    fn task(containers: Vec<Container>) -> Task {
        Task { containers, ..Task::default() }
    }

    fn names(task: &Task) -> Vec<&str> {
        task.containers.iter().map(|container| container.name.as_str()).collect()
    }

    #[test]
    fn a_task_takes_what_its_containers_take_together() {
        let mut stated = task(vec![one("app", true, &[]), one("log", false, &[])]);
        stated.containers[1].properties.resources.requirements = vec![("GPU".to_owned(), "2".to_owned())];
        let (_, amounts) = effective(&stated, &[]).expect("valid");
        assert_eq!(amounts, Amounts { vcpus_milli: 2000, memory_mib: 128, gpus: 2 });
    }

    #[test]
    fn each_container_comes_after_those_that_it_waits_for() {
        use Until::{Complete, Start, Success};
        for (name, containers, want) in [
            ("none waits", vec![one("b", true, &[]), one("a", false, &[])], vec!["b", "a"]),
            (
                "one waits",
                vec![one("app", true, &[("init", Success)]), one("init", false, &[])],
                vec!["init", "app"],
            ),
            (
                "a chain",
                vec![
                    one("c", true, &[("b", Complete)]),
                    one("b", false, &[("a", Start)]),
                    one("a", true, &[]),
                    one("d", false, &[]),
                ],
                vec!["a", "b", "c", "d"],
            ),
        ] {
            let (task, _) = effective(&task(containers), &[]).expect(name);
            assert_eq!(names(&task), want, "{name}");
        }
    }

    #[test]
    fn a_task_has_up_to_ten_containers() {
        let containers = |count| (0..count).map(|_| one("", true, &[])).collect();
        for (count, want) in [(0, false), (1, true), (10, true), (11, false)] {
            assert_eq!(effective(&task(containers(count)), &[]).is_ok(), want, "{count}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        use Until::{Complete, Start};
        let named = |name: Option<&str>| Change { name: name.map(str::to_owned), ..Change::default() };
        let two = || vec![one("a", true, &[]), one("b", true, &[])];
        for (containers, changes, want) in [
            (vec![], vec![], "containers must have 1 to 10 elements"),
            ((0..11).map(|_| one("", true, &[])).collect(), vec![], "containers must have 1 to 10 elements"),
            (vec![one("a", false, &[])], vec![], "containers: at least one container must be essential"),
            (
                vec![one("a", true, &[]), one("a", true, &[])],
                vec![],
                "containers: a is the name of two containers",
            ),
            (
                vec![one("a", true, &[("b", Start)])],
                vec![],
                "dependsOn: b is not the name of one of the containers",
            ),
            (
                vec![one("a", true, &[]), one("b", true, &[("a", Complete)])],
                vec![],
                "dependsOn: COMPLETE of a: COMPLETE and SUCCESS cannot be set on an essential container",
            ),
            (
                vec![one("a", true, &[("b", Start)]), one("b", true, &[("a", Start)])],
                vec![],
                "dependsOn: containers wait for each other: a, b",
            ),
            (vec![one("a", true, &[("a", Start)])], vec![], "dependsOn: containers wait for each other: a"),
            (
                two(),
                vec![named(Some("c"))],
                "ecsPropertiesOverride: name: c is not the name of one of the containers",
            ),
            (
                two(),
                vec![named(None)],
                "ecsPropertiesOverride: name is required: the job has several containers",
            ),
        ] {
            assert_eq!(effective(&task(containers), &changes).expect_err(want), want);
        }
        let mut without = task(two());
        without.containers[1].properties.resources.memory = None;
        let error = effective(&without, &[]).expect_err("no memory");
        assert_eq!(error, "container b: resourceRequirements: MEMORY is required");
    }

    #[test]
    fn changes_reach_the_container_that_they_name_and_later_ones_win() {
        let change = |name: Option<&str>, word: &str, vcpus: &str| Change {
            name: name.map(str::to_owned),
            overrides: Overrides {
                command: Some(vec![word.to_owned()]),
                environment: vec![(word.to_owned(), word.to_owned())],
                resources: Stated {
                    requirements: vec![("VCPU".to_owned(), vcpus.to_owned())],
                    ..Stated::default()
                },
            },
        };
        let two = task(vec![one("a", true, &[]), one("b", true, &[])]);
        let changes = [change(Some("b"), "x", "2"), change(Some("b"), "y", "4")];
        let (made, amounts) = effective(&two, &changes).expect("valid");
        let (a, b) = (&made.containers[0].properties, &made.containers[1].properties);
        assert_eq!((a.command.len(), a.environment.len()), (0, 0));
        assert_eq!(
            (b.command.join(" "), b.environment.len(), amounts.vcpus_milli),
            ("y".to_owned(), 2, 5000)
        );
        let (made, _) =
            effective(&task(vec![one("a", true, &[])]), &[change(None, "x", "2")]).expect("valid");
        assert_eq!(made.containers[0].properties.command, ["x"], "of one container the name may be left out");
    }

    #[test]
    fn what_kubernetes_is_told() {
        let mut two = task(vec![
            one("Prepare_Data", false, &[]),
            one("app", true, &[("Prepare_Data", Until::Success)]),
        ]);
        two.containers[0].start_timeout = Some(60);
        two.containers[1].stop_timeout = Some(90);
        let [prepare, app] = two.containers.as_slice() else { panic!("two") };
        let name = container_name(&prepare.name);
        assert!(name.starts_with("prepare-data-"), "{name}");
        let after = After { container: name, until: Until::Success, seconds: Some(60) };
        assert_eq!((two.waits_for(prepare), two.waits_for(app)), (vec![], vec![after]));
        assert_eq!((two.stop_timeout(30), task(vec![]).stop_timeout(30)), (90, 30));
        let unnamed = |count| (0..count).map(|_| one("", true, &[])).collect();
        for (count, want) in [(1, vec!["default"]), (2, vec!["container-0", "container-1"])] {
            let (made, _) = effective(&task(unnamed(count)), &[]).expect("valid");
            assert_eq!(names(&made), want);
        }
    }
}
