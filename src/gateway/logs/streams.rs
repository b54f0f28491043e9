//! Which log streams there are: one for each container that has started, of each pod of a job of the namespace, named
//! and grouped as DescribeJobs and the job's `logConfiguration` say
//! (<https://docs.aws.amazon.com/batch/latest/userguide/using_awslogs.html>).
//!
//! A pod belongs to a job if the job controls it, by its uid, and knows of it: by its status or, of a part of a job, by
//! the number of parts that it has.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use batchyard_core::definition::container_name;
use batchyard_core::logging::stream::{self, ONLY};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use tokio::task::yield_now;

use super::super::call::Call;
use super::super::container::{of_node, stream_beside};
use super::super::failure::Failure;
use super::super::jobs::Runs;
use super::Group;
use crate::crd::logging::LogConfiguration;
use crate::crd::{BatchJob, JobDefinitionSpec};
use crate::k8s::parts::{is_array, is_multi_node, size};
use crate::k8s::read::read;
use crate::k8s::{meta, observe};

/// The group of jobs that name none.
pub(super) const DEFAULT: &str = "/aws/batch/job";
/// Names of containers that begin so are ours.
const OURS: &str = "batchyard-";
/// Pods of a page.
const PODS: u32 = 500;
/// So many jobs are looked at before others have a turn.
const TURN: usize = 256;

/// The output of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) pod: String,
    /// Its name in the pod.
    pub(super) container: String,
    pub(super) started: Timestamp,
    /// When it ended, if it has.
    pub(super) stopped: Option<Timestamp>,
}

impl Call {
    /// The streams of a group that begin so, by name.
    pub(super) async fn streams_of(&self, group: &Group, prefix: &str) -> Result<Vec<Stream>, Failure> {
        let mut found = Vec::new();
        self.each_stream(None, |stream| {
            if stream.group == group.0 && stream.name.starts_with(prefix) {
                found.push(stream);
            }
        })
        .await?;
        if found.is_empty() {
            self.has_group(group).await?;
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Streams by their names.
    pub(super) async fn named_streams(
        &self,
        group: &Group,
        names: &[String],
    ) -> Result<Vec<Stream>, Failure> {
        let mut found = Vec::new();
        for name in names.iter().collect::<BTreeSet<_>>() {
            found.push(self.stream(group, name).await?);
        }
        Ok(found)
    }

    /// The stream of this name.
    pub(super) async fn stream(&self, group: &Group, name: &str) -> Result<Stream, Failure> {
        let parts: Vec<&str> = name.rsplitn(3, '/').collect();
        let mut found = None;
        if let [pod, _, _] = parts[..]
            && batchyard_core::name::is_object_name(pod)
        {
            self.each_stream(Some(pod), |stream| {
                if stream.group == group.0 && stream.name == name {
                    found = Some(stream);
                }
            })
            .await?;
        }
        match found {
            Some(found) => Ok(found),
            None => {
                self.has_group(group).await?;
                Err(self.where_it_is(parts[0]))
            }
        }
    }

    /// Looks at all streams, or those of one pod.
    async fn each_stream(&self, pod: Option<&str>, mut take: impl FnMut(Stream)) -> Result<(), Failure> {
        let pods: Api<Pod> = self.api();
        let mut params = ListParams::default().labels(meta::JOB_ID).limit(PODS);
        if let Some(pod) = pod {
            params = params.fields(&format!("metadata.name={pod}"));
        }
        loop {
            let what = format!("list pods of jobs of {}", self.namespace());
            let page = read(what, || pods.list(&params)).await?;
            for pod in &page.items {
                if let Some(job) = self.owner(pod) {
                    let runs = self.definition_of(&job);
                    of_pod(pod, &job, &runs).into_iter().for_each(&mut take);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// The job that a pod is of.
    fn owner(&self, pod: &Pod) -> Option<Arc<BatchJob>> {
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
        if owner.kind != "BatchJob" {
            return None;
        }
        let job = self.world().jobs.cache.store.get(&ObjectRef::new(&owner.name).within(self.namespace()))?;
        (job.uid().as_ref() == Some(&owner.uid) && knows(&job, pod)).then_some(job)
    }

    /// The names of all groups.
    pub(super) async fn groups(&self) -> Result<BTreeSet<String>, Failure> {
        let mut groups = BTreeSet::from([DEFAULT.to_owned()]);
        let mut seen = HashSet::new();
        for (number, job) in self.world().jobs.all(self.namespace(), |_| true).iter().enumerate() {
            if number % TURN == TURN - 1 {
                yield_now().await;
            }
            let Runs { name, spec } = self.definition_of(job);
            // A definition says the same for all its jobs.
            if name.is_none_or(|name| seen.insert(name)) {
                configurations(spec.as_deref(), &mut |found| {
                    groups.extend(option(found, "awslogs-group").cloned())
                });
            }
        }
        self.each_stream(None, |stream| {
            groups.insert(stream.group);
        })
        .await?;
        Ok(groups)
    }

    /// # Errors
    /// When there is no such group.
    async fn has_group(&self, group: &Group) -> Result<(), Failure> {
        match group.0 == DEFAULT || self.groups().await?.contains(&group.0) {
            true => Ok(()),
            false => Err(Failure::absent("The specified log group does not exist.")),
        }
    }

    /// What is said of a stream that is not there: if a job had its pod, where its output may be.
    fn where_it_is(&self, pod: &str) -> Failure {
        let had = |job: &BatchJob| {
            let record = job.status.as_ref().map(|status| &status.record);
            record.is_some_and(|record| {
                record.attempts.iter().any(|attempt| attempt.pod_name == pod)
                    || record.current.as_ref().is_some_and(|current| current.pod_name == pod)
            })
        };
        let jobs = self.world().jobs.all(self.namespace(), had);
        let Some(job) = jobs.first() else {
            return Failure::absent("The specified log stream does not exist.");
        };
        let mut places = Vec::new();
        configurations(self.definition_of(job).spec.as_deref(), &mut |found| places.extend(place(found)));
        places.dedup();
        let gone = "The specified log stream does not exist: its pod is gone, or has not started.";
        Failure::absent(match places.is_empty() {
            true => gone.to_owned(),
            false => format!("{gone} The job's logConfiguration sends its output to {}.", places.join(", ")),
        })
    }
}

/// True if a job knows of a pod.
fn knows(job: &BatchJob, pod: &Pod) -> bool {
    if is_array(job) || is_multi_node(job) {
        return observe::index(pod).is_some_and(|index| size(job).is_none_or(|size| index < size));
    }
    let Some(record) = job.status.as_ref().map(|status| &status.record) else { return false };
    let uid = pod.metadata.uid.as_deref();
    record.attempts.iter().any(|attempt| Some(attempt.pod_uid.as_str()) == uid)
        || record.current.as_ref().is_some_and(|current| Some(current.pod_uid.as_str()) == uid)
}

/// The streams of a pod. Where a container's definition does not say where its output goes its queue or environment may;
/// the pod has it in annotations.
fn of_pod(pod: &Pod, job: &BatchJob, runs: &Runs) -> Vec<Stream> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let init_states = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let states = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let name = pod.name_any();
    let index = observe::index(pod).filter(|_| is_multi_node(job));
    let annotation = |key: &str| pod.annotations().get(key);
    let one = |container: &Container, states: &[ContainerStatus]| {
        let (started, stopped) = times(states.iter().find(|state| state.name == container.name)?)?;
        let stated = configuration(runs.spec.as_deref(), index, &container.name);
        let (group, told) = match &stated {
            Some(stated) => (option(stated, "awslogs-group").cloned(), None),
            None => (annotation(meta::LOG_GROUP).cloned(), annotation(meta::LOG_STREAM)),
        };
        let prefix = stated.as_ref().and_then(|stated| option(stated, "awslogs-stream-prefix"));
        let own = || stream::name(prefix.map(String::as_str), runs.name.as_deref(), &container.name, &name);
        Some(Stream {
            name: told.map_or_else(own, |told| stream_beside(told, &container.name)),
            group: group.unwrap_or_else(|| DEFAULT.to_owned()),
            pod: name.clone(),
            container: container.name.clone(),
            started,
            stopped,
        })
    };
    let first = init.iter().filter_map(|container| one(container, init_states));
    let all = first.chain(spec.containers.iter().filter_map(|container| one(container, states)));
    all.filter(|stream| !stream.container.starts_with(OURS)).collect()
}

/// When a container started and ended; nothing of one that has not started.
fn times(status: &ContainerStatus) -> Option<(Timestamp, Option<Timestamp>)> {
    let state = status.state.as_ref()?;
    if let Some(running) = &state.running {
        return Some((running.started_at.as_ref()?.0, None));
    }
    let ended = state.terminated.as_ref()?;
    let stopped = ended.finished_at.as_ref().map(|time| time.0);
    let started = ended.started_at.as_ref().map(|time| time.0).or(stopped)?;
    Some((started, Some(stopped.unwrap_or(started))))
}

/// What a definition says of a container's output.
fn configuration(
    spec: Option<&JobDefinitionSpec>,
    node: Option<u32>,
    container: &str,
) -> Option<LogConfiguration> {
    let spec = spec?;
    let range = node.and_then(|node| of_node(spec, node));
    let (only, task) = match &range {
        Some(range) => (range.container.as_ref(), range.ecs_properties.as_ref()),
        None => (spec.container_properties.as_deref(), spec.ecs_properties.as_deref()),
    };
    if let Some(only) = only.filter(|_| container == ONLY) {
        return only.log_configuration.clone();
    }
    let mut containers = task?.task_properties.first()?.containers.iter();
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| container_name(name) == container);
    containers.find(|one| named(&one.name))?.log_configuration.clone()
}

/// Everything that a definition says of output.
fn configurations(spec: Option<&JobDefinitionSpec>, take: &mut impl FnMut(&LogConfiguration)) {
    fn within(value: &Value, take: &mut impl FnMut(&LogConfiguration)) {
        match value {
            Value::Object(members) => {
                let found = members.get("logConfiguration").cloned();
                if let Some(found) = found.and_then(|found| serde_json::from_value(found).ok()) {
                    take(&found);
                }
                members.values().for_each(|below| within(below, take));
            }
            Value::Array(list) => list.iter().for_each(|below| within(below, take)),
            _ => {}
        }
    }
    within(&serde_json::to_value(spec).unwrap_or_default(), take);
}

fn driver(configuration: &LogConfiguration) -> String {
    let driver = serde_json::to_value(configuration.log_driver).unwrap_or_default();
    driver.as_str().unwrap_or_default().to_owned()
}

/// What the driver awslogs is told.
fn option<'a>(configuration: &'a LogConfiguration, name: &str) -> Option<&'a String> {
    let value = configuration.options.get(name).filter(|value| !value.is_empty());
    value.filter(|_| driver(configuration) == "awslogs")
}

/// Where output is to go, in words; nothing for this very place.
fn place(configuration: &LogConfiguration) -> Option<String> {
    let driver = driver(configuration);
    let told = [
        "awslogs-group",
        "awslogs-region",
        "splunk-url",
        "fluentd-address",
        "gelf-address",
        "syslog-address",
    ];
    let told: Vec<String> = told
        .iter()
        .filter_map(|option| Some((option, configuration.options.get(*option)?)))
        // An address with a user in it may have a password in it.
        .filter(|(_, value)| !value.contains('@'))
        .map(|(option, value)| format!("{option} {value}"))
        .collect();
    match told.is_empty() {
        true => Some(format!("the log driver {driver}")),
        false => Some(format!("the log driver {driver} ({})", told.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::convert;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("it is one")
    }

    fn job(spec: Value, status: Value) -> BatchJob {
        of(json!({"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob",
            "metadata": {"name": "j", "uid": "u"}, "spec": spec, "status": status}))
    }

    fn pod(index: Option<&str>, containers: &[&str]) -> Pod {
        let running = |name: &&str| {
            json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-27T08:00:00Z"}}})
        };
        let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let index = index.map_or(json!({}), |index| json!({meta::INDEX: index}));
        let statuses: Vec<Value> = containers.iter().map(running).collect();
        of(json!({"metadata": {"name": "j-1", "uid": "p", "annotations": index},
            "spec": {"initContainers": names(&["batchyard-log"]), "containers": names(containers)},
            "status": {"containerStatuses": statuses, "initContainerStatuses": [running(&"batchyard-log")]}}))
    }

    fn runs(name: Option<&str>, definition: Value) -> Runs {
        let spec = Arc::new(of::<JobDefinitionSpec>(definition));
        Runs { name: name.map(str::to_owned), spec: Some(spec) }
    }

    fn told(pod: &Pod, job: &BatchJob, runs: &Runs) -> Vec<(String, String)> {
        of_pod(pod, job, runs).into_iter().map(|stream| (stream.group, stream.name)).collect()
    }

    #[test]
    fn a_pod_is_a_jobs_if_the_job_knows_of_it() {
        let attempt =
            |uid: &str| json!([{"attempt": 1, "podName": "j-1", "podUid": uid, "statusReason": ""}]);
        let current = |uid: &str| json!({"attempt": 1, "podName": "j-1", "podUid": uid});
        let array = json!({"jobQueue": "q", "arrayProperties": {"size": 2}});
        let plain = json!({"jobQueue": "q"});
        for (spec, status, index, known) in [
            (&plain, json!({"attempts": attempt("p")}), None, true),
            (&plain, json!({"current": current("p")}), None, true),
            (&plain, json!({"attempts": attempt("o"), "current": current("o")}), None, false),
            (&plain, Value::Null, None, false),
            (&array, json!({}), Some("1"), true),
            (&array, json!({}), Some("2"), false),
            (&array, json!({}), Some("x"), false),
            (&array, json!({}), None, false),
        ] {
            let found = knows(&job(spec.clone(), status.clone()), &pod(index, &["default"]));
            assert_eq!(found, known, "{spec} {status} {index:?}");
        }
    }

    #[test]
    fn streams_have_awss_names_and_the_groups_of_their_configuration() {
        let single = job(json!({"jobQueue": "q"}), json!({}));
        let to =
            |driver: &str, group: &str| json!({"logDriver": driver, "options": {"awslogs-group": group}});
        let container = |log: Value| json!({"type": "container", "containerProperties": {"image": "i", "logConfiguration": log}});
        let one = pod(None, &["default"]);
        let name = |text: &str| text.to_owned();
        for (log, group) in [
            (Value::Null, DEFAULT),
            (to("awslogs", "/mine"), "/mine"),
            (json!({"logDriver": "awslogs"}), DEFAULT),
            (to("splunk", "/mine"), DEFAULT),
        ] {
            let found = told(&one, &single, &runs(Some("Spot:3"), container(log)));
            assert_eq!(found, [(name(group), name("Spot/default/j-1"))]);
        }
        let mut of_queue = one.clone();
        of_queue.metadata.annotations = Some(
            [(meta::LOG_GROUP, "/queue"), (meta::LOG_STREAM, "team/default/j-1")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        );
        let found = told(&of_queue, &single, &runs(Some("Spot:3"), container(Value::Null)));
        assert_eq!(found, [(name("/queue"), name("team/default/j-1"))]);
        let prefix = json!({"logDriver": "awslogs", "options": {"awslogs-stream-prefix": "own"}});
        let found = told(&of_queue, &single, &runs(Some("Spot:3"), container(prefix)));
        assert_eq!(found, [(name(DEFAULT), name("own/default/j-1"))]);
        let inline = told(&one, &single, &runs(None, container(Value::Null)));
        assert_eq!(inline, [(name(DEFAULT), name("job/default/j-1"))]);
        let containers = json!([{"name": "App", "image": "i", "logConfiguration": to("awslogs", "/app")},
            {"name": "side", "image": "i"}]);
        let task = runs(
            Some("t:1"),
            json!({"type": "container", "ecsProperties": {"taskProperties": [{"containers": containers}]}}),
        );
        let app = container_name("App");
        let found = told(&pod(None, &[&app, "side"]), &single, &task);
        assert_eq!(found, [(name("/app"), format!("t/{app}/j-1")), (name(DEFAULT), name("t/side/j-1"))]);
        let range = |to: &str, group: Value| json!({"targetNodes": to, "container": {"image": "i", "logConfiguration": group}});
        let nodes = json!({"type": "multinode", "nodeProperties": {"numNodes": 2, "mainNode": 0,
            "nodeRangeProperties": [range("0:", Value::Null), range("1", to("awslogs", "/one"))]}});
        let gang = job(json!({"jobQueue": "q"}), json!({"nodeProperties": {"numNodes": 2, "mainNode": 0}}));
        for (index, group) in [("0", DEFAULT), ("1", "/one")] {
            let found = told(&pod(Some(index), &["default"]), &gang, &runs(Some("g:1"), nodes.clone()));
            assert_eq!(found, [(name(group), name("g/default/j-1"))]);
        }
    }

    #[test]
    fn only_what_has_started_is_a_stream() {
        let state = |state: Value| {
            of::<ContainerStatus>(json!({"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": state}))
        };
        let (begin, end) = ("2026-11-27T08:00:00Z", "2026-11-27T08:01:00Z");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        for (is, found) in [
            (json!({"waiting": {"reason": "ContainerCreating"}}), None),
            (json!({"running": {"startedAt": begin}}), Some((at(begin), None))),
            (
                json!({"terminated": {"exitCode": 0, "startedAt": begin, "finishedAt": end}}),
                Some((at(begin), Some(at(end)))),
            ),
            (json!({"terminated": {"exitCode": 137}}), None),
        ] {
            assert_eq!(times(&state(is)), found);
        }
    }

    #[test]
    fn where_output_goes_is_told_without_what_opens_doors() {
        let spec = convert::inline_definition(&job(
            json!({"jobQueue": "q", "containerProperties": {"image": "i", "logConfiguration": {"logDriver": "splunk",
                "options": {"splunk-url": "https://s:8088", "splunk-token": "secret"}}}}),
            json!({}),
        ).spec);
        let mut places = Vec::new();
        configurations(spec.as_ref(), &mut |found| places.extend(place(found)));
        assert_eq!(places, ["the log driver splunk (splunk-url https://s:8088)"]);
        let with_user = of(json!({"logDriver": "fluentd", "options": {"fluentd-address": "tcp://u:p@h"}}));
        assert_eq!(place(&with_user).as_deref(), Some("the log driver fluentd"));
    }
}
