//! What runs, as DescribeJobs tells it: the definition's properties with the job's changes, and how each container fared
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ContainerDetail.html>).

use batchyard_core::definition::container_name;
use batchyard_core::job::record::{Attempt, NamedOutcome, Record};
use batchyard_core::logging::stream;
use serde_json::{Map, Value, json};

use super::account::Account;
use super::call::millis;
use super::definitions::with_empty_lists;
use super::names::members;
use crate::crd::children::Part;
use crate::crd::node::NodeRangeProperty;
use crate::crd::{BatchJob, JobDefinitionSpec};

/// How the pod of an attempt is known by names that AWS has for tasks.
pub(super) struct Placed {
    task: String,
    instance: Option<String>,
    stream: String,
}

/// Where a pod ran.
struct Pod<'a> {
    name: &'a str,
    uid: &'a str,
    environment: Option<&'a str>,
    instance: Option<&'a str>,
    stream: Option<&'a str>,
}

/// The name of the stream of another container of the same pod.
pub(super) fn stream_beside(stream: &str, container: &str) -> String {
    match stream.rsplitn(3, '/').collect::<Vec<_>>()[..] {
        [pod, _, start] => format!("{start}/{}/{pod}", container_name(container)),
        _ => stream.to_owned(),
    }
}

/// The range of nodes that a node has its container from.
pub(super) fn of_node(spec: &JobDefinitionSpec, index: u32) -> Option<NodeRangeProperty> {
    let nodes = spec.node_properties.as_ref()?;
    serde_json::from_value(range_of(&members(nodes), index)?).ok()
}

impl Placed {
    fn of(account: &Account, definition: Option<&str>, pod: &Pod<'_>) -> Self {
        let environment = pod.environment.unwrap_or("default");
        Self {
            task: account.ecs(&format!("task/{environment}/{}", pod.uid)),
            instance: pod.instance.map(|id| account.ecs(&format!("container-instance/{environment}/{id}"))),
            stream: pod
                .stream
                .map_or_else(|| stream::name(None, definition, stream::ONLY, pod.name), str::to_owned),
        }
    }

    fn into(self, detail: &mut Map<String, Value>) {
        detail.insert("taskArn".into(), json!(self.task));
        detail.insert("logStreamName".into(), json!(self.stream));
        if let Some(instance) = self.instance {
            detail.insert("containerInstanceArn".into(), json!(instance));
        }
    }
}

/// A job or a part of one, with all that is needed to tell of it.
pub(super) struct Told<'a> {
    pub(super) account: &'a Account,
    pub(super) job: &'a BatchJob,
    pub(super) part: Option<Part>,
    pub(super) record: &'a Record,
    /// `name:revision`.
    pub(super) definition: Option<&'a str>,
    pub(super) spec: Option<&'a JobDefinitionSpec>,
}

impl Told<'_> {
    fn placed_in(&self, attempt: &Attempt) -> Placed {
        let pod = Pod {
            name: &attempt.pod_name,
            uid: &attempt.pod_uid,
            environment: attempt.compute_environment.as_deref(),
            instance: attempt.instance.as_deref().or(attempt.node_name.as_deref()),
            stream: attempt.log_stream_name.as_deref(),
        };
        Placed::of(self.account, self.definition, &pod)
    }

    /// Where it runs now, or ran last.
    fn placed(&self) -> Option<Placed> {
        if let Some(current) = &self.record.current {
            let pod = Pod {
                name: &current.pod_name,
                uid: &current.pod_uid,
                environment: current.compute_environment.as_deref(),
                instance: current.instance.as_deref().or(current.node_name.as_deref()),
                stream: current.log_stream_name.as_deref(),
            };
            return Some(Placed::of(self.account, self.definition, &pod));
        }
        self.record.attempts.last().map(|attempt| self.placed_in(attempt))
    }

    /// The end of the last attempt, unless another has begun.
    fn ended(&self) -> Option<&Attempt> {
        self.record.attempts.last().filter(|_| self.record.current.is_none())
    }

    fn node(&self) -> Option<&str> {
        let current = self.record.current.as_ref().map(|current| current.node_name.as_deref());
        current.unwrap_or_else(|| self.record.attempts.last()?.node_name.as_deref())
    }

    fn pod(&self) -> Option<&str> {
        let current = self.record.current.as_ref().map(|current| current.pod_name.as_str());
        current.or_else(|| Some(self.record.attempts.last()?.pod_name.as_str()))
    }

    fn fared(&self, detail: &mut Map<String, Value>) {
        if let Some(placed) = self.placed() {
            placed.into(detail);
        }
        self.how(detail);
    }

    fn how(&self, detail: &mut Map<String, Value>) {
        let Some(attempt) = self.ended() else { return };
        detail.extend(attempt.container.exit_code.map(|code| ("exitCode".into(), json!(code))));
        detail.extend(attempt.container.reason.clone().map(|reason| ("reason".into(), json!(reason))));
    }

    /// How each of several containers ended; where only one outcome is known it is that of the main one.
    fn how_each(&self, containers: &mut Value, main: usize) {
        let ended = self.ended().map(|attempt| attempt.containers.as_slice()).unwrap_or_default();
        for (at, container) in containers.as_array_mut().into_iter().flatten().enumerate() {
            let name = container["name"].as_str().unwrap_or("Default").to_owned();
            let Some(container) = container.as_object_mut() else { continue };
            let own = ended.iter().find(|outcome| outcome.name.eq_ignore_ascii_case(&name));
            match own {
                Some(own) => {
                    container.extend(own.exit_code.map(|code| ("exitCode".into(), json!(code))));
                    container.extend(own.reason.clone().map(|reason| ("reason".into(), json!(reason))));
                }
                None if ended.is_empty() && at == main => self.how(container),
                None => {}
            }
        }
    }

    /// `container`: of a job of one container, and of a node. Programs index into it, so that it is there even if what
    /// the job runs is not known.
    pub(super) fn container(&self) -> Option<Value> {
        let spec = self.spec;
        let properties = match self.part {
            Some(Part::Node(index)) => {
                let range =
                    spec?.node_properties.as_ref().and_then(|nodes| range_of(&members(nodes), index))?;
                range.get("container").cloned()?
            }
            _ if spec.is_some_and(|spec| spec.container_properties.is_none()) => return None,
            _ => json!(spec.and_then(|spec| spec.container_properties.as_ref())),
        };
        let mut container = if properties.is_object() { properties } else { json!({}) };
        if let Some(Part::Node(index)) = self.part {
            for change in self.node_changes(index) {
                overridden(&mut container, &change["containerOverrides"]);
            }
        } else {
            overridden(&mut container, &json!(self.job.spec.container_overrides));
        }
        with_empty_lists(&mut container);
        let detail = container.as_object_mut()?;
        detail.insert("networkInterfaces".into(), json!([]));
        self.fared(detail);
        Some(container)
    }

    fn node_changes(&self, index: u32) -> Vec<Value> {
        let overrides = json!(self.job.spec.node_overrides);
        let all = overrides["nodePropertyOverrides"].as_array().cloned().unwrap_or_default();
        let count = self.nodes();
        all.into_iter().filter(|change| targets(&change["targetNodes"], count).contains(&index)).collect()
    }

    fn nodes(&self) -> u32 {
        let told = self.job.status.as_ref().and_then(|status| status.node_properties.as_ref()?.num_nodes);
        told.and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX)
    }

    /// `nodeProperties` of a multi-node job as a whole.
    pub(super) fn node_properties(&self) -> Option<Value> {
        let mut nodes = json!(self.spec?.node_properties.as_ref()?);
        let told = self.job.status.as_ref().and_then(|status| status.node_properties.as_ref()?.num_nodes);
        let stated = self.job.spec.node_overrides.as_ref().and_then(|overrides| overrides.num_nodes);
        if let Some(count) = told.or(stated) {
            nodes["numNodes"] = json!(count);
        }
        Some(nodes)
    }

    /// `eksProperties`, with the pod that it became.
    pub(super) fn eks_properties(&self) -> Option<Value> {
        let mut eks = json!(self.spec?.eks_properties.as_ref()?);
        let changes = json!(self.job.spec.eks_properties_override);
        let pod = &mut eks["podProperties"];
        for list in ["containers", "initContainers"] {
            named(&mut pod[list], &changes["podProperties"][list], "env");
        }
        if let Some(metadata) = changes["podProperties"]["metadata"].as_object() {
            for (member, value) in metadata {
                merge_map(&mut pod["metadata"][member], value);
            }
        }
        self.how_each(&mut pod["containers"], 0);
        if let Some(pod) = pod.as_object_mut() {
            pod.retain(|_, member| !member.is_null());
            pod.extend(self.pod().map(|name| ("podName".into(), json!(name))));
            pod.extend(self.node().map(|name| ("nodeName".into(), json!(name))));
        }
        Some(eks)
    }

    /// `eksAttempts`.
    pub(super) fn eks_attempts(&self) -> Option<Value> {
        let eks = json!(self.spec?.eks_properties.as_ref()?);
        let first = eks["podProperties"]["containers"][0]["name"].as_str().unwrap_or("Default").to_owned();
        let attempts = self.record.attempts.iter().map(|attempt| {
            let containers = match attempt.containers.as_slice() {
                [] => {
                    let mut only = Map::from_iter([("name".to_owned(), json!(first))]);
                    only.extend(attempt.container.exit_code.map(|code| ("exitCode".into(), json!(code))));
                    only.extend(attempt.container.reason.clone().map(|why| ("reason".into(), json!(why))));
                    json!([only])
                }
                several => json!(several),
            };
            let mut told = Map::from_iter([
                ("containers".to_owned(), containers),
                ("initContainers".to_owned(), json!(attempt.init_containers)),
                ("podName".to_owned(), json!(attempt.pod_name)),
                ("podNamespace".to_owned(), json!(self.account.namespace)),
                ("statusReason".to_owned(), json!(attempt.status_reason)),
            ]);
            told.extend(attempt.node_name.clone().map(|node| ("nodeName".into(), json!(node))));
            told.extend(attempt.started_at.map(|time| ("startedAt".into(), json!(millis(time)))));
            told.extend(attempt.stopped_at.map(|time| ("stoppedAt".into(), json!(millis(time)))));
            Value::Object(told)
        });
        Some(attempts.collect())
    }

    /// `ecsProperties`, with the task that it became.
    pub(super) fn ecs_properties(&self) -> Option<Value> {
        let mut ecs = json!(self.spec?.ecs_properties.as_ref()?);
        let changes = json!(self.job.spec.ecs_properties_override);
        let task = ecs["taskProperties"].get_mut(0)?;
        named(&mut task["containers"], &changes["taskProperties"][0]["containers"], "environment");
        let essential = task["containers"].as_array().and_then(|all| {
            all.iter().position(|container| container["essential"].as_bool().unwrap_or(true))
        });
        self.how_each(&mut task["containers"], essential.unwrap_or(0));
        if let Some(placed) = self.placed() {
            for container in task["containers"].as_array_mut().into_iter().flatten() {
                let stream = stream_beside(&placed.stream, container["name"].as_str().unwrap_or("Default"));
                container["logStreamName"] = json!(stream);
            }
        }
        if let (Some(task), Some(placed)) = (task.as_object_mut(), self.placed()) {
            task.insert("taskArn".into(), json!(placed.task));
            task.extend(placed.instance.map(|arn| ("containerInstanceArn".into(), json!(arn))));
        }
        Some(ecs)
    }

    /// `attempts`.
    pub(super) fn attempts(&self) -> Value {
        if self.spec.is_some_and(|spec| spec.eks_properties.is_some()) {
            return json!([]);
        }
        let is_ecs = self.spec.is_some_and(|spec| spec.ecs_properties.is_some());
        self.record.attempts.iter().map(|attempt| self.attempt(attempt, is_ecs)).collect()
    }

    fn attempt(&self, attempt: &Attempt, is_ecs: bool) -> Value {
        let mut container = Map::new();
        let placed = self.placed_in(attempt);
        let (task, instance, stream) = (placed.task.clone(), placed.instance.clone(), placed.stream.clone());
        placed.into(&mut container);
        container.extend(attempt.container.exit_code.map(|code| ("exitCode".into(), json!(code))));
        container.extend(attempt.container.reason.clone().map(|reason| ("reason".into(), json!(reason))));
        container.insert("networkInterfaces".into(), json!([]));
        let mut told = Map::from_iter([
            ("statusReason".to_owned(), json!(attempt.status_reason)),
            ("taskProperties".to_owned(), json!([])),
        ]);
        if is_ecs {
            let containers: Value = match attempt.containers.as_slice() {
                [] => {
                    let (main, how) = (self.main_container(), &attempt.container);
                    let stream = stream_beside(&stream, main.as_deref().unwrap_or("Default"));
                    json!([{"name": main, "exitCode": how.exit_code, "reason": how.reason,
                        "logStreamName": stream, "networkInterfaces": []}])
                }
                several => several.iter().map(|one| of_task(one, &stream)).collect(),
            };
            told.insert(
                "taskProperties".into(),
                json!([{"taskArn": task, "containerInstanceArn": instance, "containers": containers}]),
            );
        }
        told.insert("container".into(), Value::Object(container));
        told.extend(attempt.started_at.map(|time| ("startedAt".into(), json!(millis(time)))));
        told.extend(attempt.stopped_at.map(|time| ("stoppedAt".into(), json!(millis(time)))));
        Value::Object(told)
    }

    fn main_container(&self) -> Option<String> {
        let task = self.spec?.ecs_properties.as_ref()?.task_properties.first()?;
        let main = task.containers.iter().find(|container| container.essential.unwrap_or(true));
        main?.name.clone()
    }
}

/// How a container of a task ended.
fn of_task(outcome: &NamedOutcome, stream: &str) -> Value {
    let stream = stream_beside(stream, &outcome.name);
    json!({"name": outcome.name, "exitCode": outcome.exit_code, "reason": outcome.reason, "logStreamName": stream,
        "networkInterfaces": []})
}

/// Lays containerOverrides over containerProperties.
fn overridden(container: &mut Value, change: &Value) {
    let Some(members) = change.as_object() else { return };
    for (member, value) in members {
        match member.as_str() {
            "environment" => merge_list(&mut container["environment"], value, "name"),
            "resourceRequirements" => merge_list(&mut container["resourceRequirements"], value, "type"),
            _ => container[member] = value.clone(),
        }
    }
}

/// Lays changes of containers over those of the same name.
fn named(containers: &mut Value, changes: &Value, environment: &str) {
    let Some(containers) = containers.as_array_mut() else { return };
    let count = containers.len();
    for change in changes.as_array().into_iter().flatten() {
        let wanted = change["name"].as_str();
        // Without a name the only container is meant.
        let is_meant = |container: &Value| match wanted {
            Some(name) => container["name"].as_str().unwrap_or("Default") == name,
            None => count == 1,
        };
        let Some(container) = containers.iter_mut().find(|container| is_meant(container)) else { continue };
        for (member, value) in
            change.as_object().into_iter().flatten().filter(|(member, _)| *member != "name")
        {
            match member.as_str() {
                name if name == environment => merge_list(&mut container[environment], value, "name"),
                "resourceRequirements" => merge_list(&mut container["resourceRequirements"], value, "type"),
                "resources" => {
                    for kind in ["limits", "requests"] {
                        merge_map(&mut container["resources"][kind], &value[kind]);
                    }
                }
                _ => container[member] = value.clone(),
            }
        }
    }
}

/// Entries replace those with the same key; others are added.
fn merge_list(base: &mut Value, change: &Value, key: &str) {
    if !base.is_array() {
        *base = json!([]);
    }
    let Some(base) = base.as_array_mut() else { return };
    for entry in change.as_array().into_iter().flatten() {
        match base.iter_mut().find(|known| known[key] == entry[key]) {
            Some(known) => *known = entry.clone(),
            None => base.push(entry.clone()),
        }
    }
}

fn merge_map(base: &mut Value, change: &Value) {
    let Some(change) = change.as_object() else { return };
    match base.as_object_mut() {
        Some(base) => base.extend(change.clone()),
        None => *base = json!(change),
    }
}

/// The group of nodes that a node belongs to: of nested ones the smallest.
fn range_of(nodes: &Map<String, Value>, index: u32) -> Option<Value> {
    let count = nodes.get("numNodes").and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok())?;
    let ranges = nodes.get("nodeRangeProperties")?.as_array()?;
    let around = |range: &&Value| targets(&range["targetNodes"], count.max(index + 1)).contains(&index);
    let size = |range: &&Value| targets(&range["targetNodes"], count.max(index + 1)).len();
    ranges.iter().filter(around).min_by_key(size).cloned()
}

/// `0:3`, `4:`, `:2` or `1`.
fn targets(text: &Value, count: u32) -> std::ops::Range<u32> {
    let text = text.as_str().unwrap_or_default();
    let behind = |to: &str| to.parse::<u32>().ok().map(|to| to.saturating_add(1));
    match text.split_once(':') {
        Some((from, to)) => from.parse().unwrap_or(0)..behind(to).unwrap_or(count),
        None => text.parse().map_or(0..0, |only: u32| only..only.saturating_add(1)),
    }
}
