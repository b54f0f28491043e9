//! The containers of a pod that write output, and what their definition says of where it goes.

use super::{Properties, Work, container_name};
use crate::logging::{Configuration, stream};

/// A container whose output may go somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// The container's name in the pod.
    pub container: String,
    /// Its name in those of streams.
    pub stream: String,
    /// Its image.
    pub image: &'a str,
    /// The member that states the configuration, for people.
    pub place: String,
    /// What the definition says; `eksProperties` have no member for it.
    pub configuration: Option<&'a Configuration>,
}

impl Work {
    /// Every container, those that run before the others among them.
    pub fn logged(&self) -> Vec<Logged<'_>> {
        match self {
            Self::Container(properties) => vec![Logged {
                container: stream::ONLY.to_owned(),
                stream: stream::ONLY.to_owned(),
                image: &properties.image,
                place: "containerProperties.logConfiguration".to_owned(),
                configuration: properties.logging.as_deref(),
            }],
            Self::Task(task) => {
                let one = |one: &'_ super::ecs::Container| {
                    let container = container_name(&one.name);
                    let named = if one.name.is_empty() { &container } else { &one.name };
                    let place = format!("ecsProperties: container {named}: logConfiguration");
                    (container, place)
                };
                let of = |stated| {
                    let (container, place) = one(stated);
                    let super::ecs::Container { properties, .. } = stated;
                    let (image, configuration) = (properties.image.as_str(), properties.logging.as_deref());
                    Logged { stream: container.clone(), container, image, place, configuration }
                };
                task.containers.iter().map(of).collect()
            }
            Self::Pod(pod) => {
                let of = |stated: &'_ super::eks::Container| container_name(&stated.name);
                let all = pod.init_containers.iter().chain(&pod.containers);
                all.map(|stated| Logged {
                    container: of(stated),
                    stream: of(stated),
                    image: &stated.image,
                    place: "eksProperties".to_owned(),
                    configuration: None,
                })
                .collect()
            }
        }
    }

    /// The member by which the processes of the pod's containers see each other, those among them that the operator adds;
    /// nothing if they do not.
    pub fn shared_processes(&self) -> Option<String> {
        const INIT: &str = "linuxParameters.initProcessEnabled";
        let has_init = |properties: &Properties| properties.linux.as_ref().is_some_and(|it| it.init_process);
        match self {
            Self::Container(properties) => {
                has_init(properties).then(|| format!("containerProperties.{INIT}"))
            }
            // Those of the node are the sidecar's, too.
            Self::Task(task) if task.shared_pids || task.host_pid => {
                Some("ecsProperties.taskProperties[0].pidMode".to_owned())
            }
            Self::Task(task) => {
                let one = task.containers.iter().find(|one| has_init(&one.properties))?;
                let name = if one.name.is_empty() { container_name("") } else { one.name.clone() };
                Some(format!("ecsProperties: {INIT} of container {name}"))
            }
            Self::Pod(pod) => {
                pod.shared_pids.then(|| "eksProperties.podProperties.shareProcessNamespace".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::container::Linux;
    use super::super::{ecs, eks};
    use super::*;
    use crate::logging::Driver;

    fn properties(image: &str, driver: Option<Driver>) -> Properties {
        let configuration =
            |driver| Configuration { driver, options: BTreeMap::new(), secret_options: Vec::new() };
        let logging = driver.map(|driver| Box::new(configuration(driver)));
        Properties { image: image.to_owned(), logging, ..Properties::default() }
    }

    fn told(work: &Work) -> Vec<(String, String, Option<Driver>)> {
        let all = work.logged().into_iter();
        all.map(|one| (one.container, one.stream, one.configuration.map(|found| found.driver))).collect()
    }

    #[test]
    fn containers_have_the_names_of_their_pods() {
        let only = Work::Container(properties("i", Some(Driver::Splunk)));
        assert_eq!(told(&only), [("default".into(), "default".into(), Some(Driver::Splunk))]);
        let one = |name: &str, driver| ecs::Container {
            name: name.to_owned(),
            properties: properties("i", driver),
            ..ecs::Container::default()
        };
        let task = ecs::Task {
            containers: vec![one("App", Some(Driver::Gelf)), one("x", None)],
            ..Default::default()
        };
        let task = Work::Task(Box::new(task));
        let app = container_name("App");
        assert_eq!(
            told(&task),
            [(app.clone(), app, Some(Driver::Gelf)), ("x".into(), "x".into(), None)],
            "those of a task have their own"
        );
        assert_eq!(task.logged()[0].place, "ecsProperties: container App: logConfiguration");
        let in_pod = |name: &str| eks::Container { name: name.to_owned(), ..eks::Container::default() };
        let pod = eks::Pod {
            containers: vec![in_pod(eks::DEFAULT_NAME)],
            init_containers: vec![in_pod("init")],
            ..eks::Pod::default()
        };
        let names: Vec<_> = told(&Work::Pod(Box::new(pod))).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["init", "default"]);
    }

    #[test]
    fn the_member_by_which_processes_see_each_other() {
        let with = |init_process| Properties {
            linux: Some(Box::new(Linux { init_process, ..Linux::default() })),
            ..Properties::default()
        };
        let task = |task: ecs::Task, names: &[(&str, bool)]| {
            let one = |(name, init): &(&str, bool)| ecs::Container {
                name: (*name).to_owned(),
                properties: with(*init),
                ..ecs::Container::default()
            };
            Work::Task(Box::new(ecs::Task { containers: names.iter().map(one).collect(), ..task }))
        };
        let pod = |shared_pids| Work::Pod(Box::new(eks::Pod { shared_pids, ..eks::Pod::default() }));
        let none = ecs::Task::default;
        let pid_mode = Some("ecsProperties.taskProperties[0].pidMode");
        for (work, want) in [
            (Work::Container(Properties::default()), None),
            (Work::Container(with(false)), None),
            (Work::Container(with(true)), Some("containerProperties.linuxParameters.initProcessEnabled")),
            (task(none(), &[("A", false), ("B", false)]), None),
            (
                task(none(), &[("A", false), ("B", true)]),
                Some("ecsProperties: linuxParameters.initProcessEnabled of container B"),
            ),
            (task(ecs::Task { shared_pids: true, ..none() }, &[("A", true)]), pid_mode),
            (task(ecs::Task { host_pid: true, ..none() }, &[("A", false)]), pid_mode),
            (task(ecs::Task { host_ipc: true, host_network: true, ..none() }, &[("A", false)]), None),
            (pod(false), None),
            (pod(true), Some("eksProperties.podProperties.shareProcessNamespace")),
        ] {
            assert_eq!(work.shared_processes().as_deref(), want, "{work:?}");
        }
    }
}
