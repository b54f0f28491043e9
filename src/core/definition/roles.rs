//! What the containers of a pod are for, as the definition has it.
//!
//! It stands on the pod as well, for people and for tools. Users can edit it there, so that no decision rests on that
//! while the definition is known: an attempt whose containers are all said to be auxiliary would never time out.

use super::{Effective, Work, container_name};
use crate::order::After;
use crate::pod::{ContainerRole, PodView};

/// The name that the container of a job has in its pod that has one, as ECS and EKS have it.
pub const ALONE: &str = "default";

impl Effective {
    /// How many containers its pod has, those that run before the others among them.
    pub fn containers(&self) -> usize {
        match &self.work {
            Work::Container(_) => 1,
            Work::Task(task) => task.containers.len(),
            Work::Pod(pod) => pod.containers.len() + pod.init_containers.len(),
        }
    }

    /// Says of each container of the pod what it is for and what it waits for. One that somebody else put into the pod
    /// is what it is said to be there.
    pub fn tell_roles(&self, pod: &mut PodView) {
        for container in &mut pod.containers {
            if let Some((role, after)) = self.role(&container.name) {
                (container.role, container.after) = (role, after);
            }
        }
    }

    fn role(&self, name: &str) -> Option<(ContainerRole, Vec<After>)> {
        match &self.work {
            Work::Container(_) => (name == ALONE).then(|| (ContainerRole::Essential, Vec::new())),
            Work::Pod(stated) => {
                let all = &stated.containers;
                let role = if all.len() > 1 { ContainerRole::Joint } else { ContainerRole::Essential };
                all.iter().any(|one| container_name(&one.name) == name).then(|| (role, Vec::new()))
            }
            Work::Task(task) => {
                let stated = task.containers.iter().find(|one| container_name(&one.name) == name)?;
                let role = if stated.essential { ContainerRole::Essential } else { ContainerRole::Auxiliary };
                Some((role, task.waits_for(stated)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Properties, ecs, eks};
    use crate::order::Until;
    use crate::pod::ContainerView;

    /// A pod of which everything is said to be auxiliary and to wait for what does not come.
    fn forged(names: &[&str]) -> PodView {
        let after = After { container: "nobody".to_owned(), until: Until::Complete, seconds: None };
        let container = |name: &&str| ContainerView {
            name: (*name).to_owned(),
            role: ContainerRole::Auxiliary,
            after: vec![after.clone()],
            ..ContainerView::default()
        };
        PodView { containers: names.iter().map(container).collect(), ..PodView::default() }
    }

    #[test]
    fn containers_are_counted_with_those_that_run_first() {
        let task = ecs::Task { containers: vec![ecs::Container::default(); 2], ..ecs::Task::default() };
        let pod = eks::Pod {
            containers: vec![eks::Container::default(); 2],
            init_containers: vec![eks::Container::default()],
            ..eks::Pod::default()
        };
        for (work, count) in [
            (Work::Container(Properties::default()), 1),
            (Work::Task(Box::new(task)), 2),
            (Work::Pod(Box::new(pod)), 3),
        ] {
            assert_eq!(Effective { work, ..Effective::default() }.containers(), count);
        }
    }

    fn told(work: Work, names: &[&str]) -> Vec<(ContainerRole, usize)> {
        let mut pod = forged(names);
        Effective { work, ..Effective::default() }.tell_roles(&mut pod);
        pod.containers.iter().map(|container| (container.role, container.after.len())).collect()
    }

    #[test]
    fn what_stands_on_the_pod_does_not_count() {
        use ContainerRole::{Auxiliary, Essential, Joint};
        let one = |name: &str, essential, depends_on: &[(&str, Until)]| ecs::Container {
            name: name.to_owned(),
            essential,
            depends_on: depends_on.iter().map(|(name, until)| ((*name).to_owned(), *until)).collect(),
            ..ecs::Container::default()
        };
        let task = ecs::Task {
            containers: vec![
                one("Fetch", false, &[]),
                one("app", true, &[("Fetch", Until::Success)]),
                one("log", false, &[]),
            ],
            ..ecs::Task::default()
        };
        let fetch = container_name("Fetch");
        assert_eq!(
            told(Work::Task(Box::new(task)), &[&fetch, "app", "log", "injected"]),
            [(Auxiliary, 0), (Essential, 1), (Auxiliary, 0), (Auxiliary, 1)]
        );
        let plain = || Work::Container(Properties::default());
        assert_eq!(told(plain(), &["default", "injected"]), [(Essential, 0), (Auxiliary, 1)]);
        let pod = |names: &[&str]| {
            let one = |name: &&str| eks::Container { name: (*name).to_owned(), ..eks::Container::default() };
            let containers = names.iter().map(one).collect();
            Work::Pod(Box::new(eks::Pod { containers, ..eks::Pod::default() }))
        };
        assert_eq!(told(pod(&["Default"]), &["default"]), [(Essential, 0)]);
        assert_eq!(told(pod(&["a", "b"]), &["a", "b", "injected"]), [(Joint, 0), (Joint, 0), (Auxiliary, 1)]);
    }
}
