//! From the wire to the core: the members that decisions are made from, as plain data.

mod container;
mod ecs;
mod eks;
pub mod logging;
mod tags;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use batchyard_core::definition::nodes::{self, Gang};
use batchyard_core::definition::parameters;
use batchyard_core::definition::{self, Effective, Work, WorkOverrides, fargate};
use batchyard_core::dependency::{Dependency, How, Reference};
use batchyard_core::job::record::RetryAction;
use batchyard_core::job::retry::{self, RetryStrategy};
use batchyard_core::pod::PodView;
use batchyard_core::queue::SessionPort;
use jiff::SignedDuration;

use crate::crd::batch_job::{ArrayJobDependency, JobDependency};
use crate::crd::container::ContainerProperties;
use crate::crd::ecs::EcsProperties;
use crate::crd::eks::EksProperties;
use crate::crd::interactive;
use crate::crd::job_definition::{JobDefinitionType, PlatformCapability};
use crate::crd::node::{NodeProperties, NodeRangeProperty};
use crate::crd::overrides::{
    ContainerOverrides, EcsPropertiesOverride, EksPropertiesOverride, NodeOverrides, NodePropertyOverride,
};
use crate::crd::session::Session;
use crate::crd::shared;
use crate::crd::size;
use crate::crd::{BatchJobSpec, JobDefinitionSpec};
use container::{member, overrides, properties};

/// What a job runs and how it is retried: its definition with its overrides applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The container, of a multi-node job that of its main node; a sentence that names the member if it can never run.
    pub effective: Result<Effective, String>,
    /// The nodes of a multi-node job.
    pub gang: Option<Arc<Gang>>,
    /// The job's retry strategy, else the definition's, else one attempt.
    pub strategy: RetryStrategy,
    /// The job's timeout, else the definition's.
    pub timeout: Option<SignedDuration>,
    /// The definition's `schedulingPriority`; a job's own may change while it waits and is not in here.
    pub scheduling_priority: i64,
    /// The tokens that it takes, by reference to their ConsumableResource: the job's, else the definition's; of a
    /// multi-node job those of all its nodes.
    pub tokens: Vec<(String, i64)>,
    /// The kinds of environments that it can run on; none if its definition says nothing of that: one that stands in the
    /// job itself, or a pod.
    pub capabilities: Vec<PlatformCapability>,
    /// The tags that its pods bear, if it hands them on.
    pub tags: Option<BTreeMap<String, String>>,
    /// Its definition's parameter `command` gives its pods their node's network, unless they say otherwise:
    /// [`Work::network`].
    pub host_network: bool,
    /// The interactive session that it is.
    pub session: Option<Arc<Session>>,
}

impl Plan {
    /// The port that people connect to, of a session.
    pub fn port(&self) -> Option<SessionPort> {
        let session = self.session.as_ref()?;
        Some(SessionPort { number: session.port(), of_node: session.is_at_node(), network: self.network() })
    }

    /// Whether its pod has its node's network; nothing if that is the environment's to say.
    pub fn network(&self) -> Option<bool> {
        self.effective.as_ref().ok()?.work.network(self.host_network)
    }

    /// Whether all of its pods may run where the job is.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn check_namespace(&self, own: &str) -> Result<(), String> {
        self.all_effective().try_for_each(|effective| effective.check_namespace(own))
    }

    /// What its pods run: of a multi-node job what each group of nodes does.
    pub fn all_effective(&self) -> impl Iterator<Item = &Effective> {
        let groups = self.gang.iter().flat_map(|gang| &gang.groups).map(|group| &group.effective);
        groups.chain(self.effective.as_ref().ok())
    }

    /// Says of the containers of each pod what they are for: users can edit what stands on the pods.
    pub fn tell_roles(&self, pods: &mut [PodView]) {
        for pod in pods {
            let effective = match &self.gang {
                None => self.effective.as_ref().ok(),
                Some(gang) => pod.index.and_then(|node| gang.group_of(node)).map(|group| &group.effective),
            };
            if let Some(effective) = effective {
                effective.tell_roles(pod);
            }
        }
    }

    /// The vCPUs of all pods together, in thousandths.
    pub fn vcpus_milli(&self) -> Option<i64> {
        let single = || Some(self.effective.as_ref().ok()?.amounts.vcpus_milli);
        self.gang.as_ref().map(|gang| gang.vcpus_milli()).or_else(single)
    }
}

/// Applies a job to its definition, if neither is too large. It takes a look at all that they say, so that it is for whoever
/// takes a job on.
pub fn bounded_plan(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> Plan {
    let plan = plan(job, definition);
    match size::check_job(job).and_then(|()| size::check_definition(definition)) {
        Ok(()) => plan,
        Err(why) => Plan { effective: Err(why), gang: None, session: None, ..plan },
    }
}

/// Applies a job to its definition.
pub fn plan(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> Plan {
    let tokens = tokens_of_job(job, definition);
    let host_network = interactive::options_of(definition).is_some_and(|options| options.host_network);
    let all = tags::propagated(job, definition).and_then(|tags| {
        let runs = runs(job, definition, tokens.as_deref().map_err(String::clone)?)?;
        let network = runs.0.work.network(host_network);
        Ok((tags, interactive::session(job, definition, network == Some(true))?, runs))
    });
    let (tags, session, effective, gang) = match all {
        Ok((tags, session, (effective, gang))) => (tags, session, Ok(effective), gang),
        Err(why) => (None, None, Err(why), None),
    };
    let tokens = match &gang {
        None => tokens.unwrap_or_default(),
        Some(gang) => gang.groups.iter().flat_map(tokens_of).collect(),
    };
    let timeout = job.timeout.as_ref().or(definition.timeout.as_ref());
    Plan {
        effective,
        gang: gang.map(Arc::new),
        strategy: strategy(job.retry_strategy.as_ref().or(definition.retry_strategy.as_ref())),
        timeout: timeout
            .and_then(|t| t.attempt_duration_seconds)
            .map(|s| SignedDuration::from_secs(i64::from(s))),
        scheduling_priority: definition.scheduling_priority.map_or(0, i64::from),
        tokens,
        capabilities: capabilities(job, definition),
        tags,
        host_network,
        session,
    }
}

fn capabilities(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> Vec<PlatformCapability> {
    if job.job_definition.is_none() || definition.eks_properties.is_some() {
        return Vec::new();
    }
    match definition.platform_capabilities.as_slice() {
        [] => vec![PlatformCapability::Ec2],
        stated => stated.to_vec(),
    }
}

/// What runs, and on which nodes if it is a multi-node job.
fn runs(
    job: &BatchJobSpec,
    definition: &JobDefinitionSpec,
    tokens: &[(String, i64)],
) -> Result<(Effective, Option<Gang>), String> {
    let overrides = work_overrides(
        job.container_overrides.as_deref(),
        job.ecs_properties_override.as_deref(),
        job.eks_properties_override.as_deref(),
    )?;
    let parameters = parameters::merge(&definition.parameters, &job.parameters);
    let Some(wire) = &definition.node_properties else {
        let work = work(
            "containerProperties",
            definition.container_properties.as_deref(),
            definition.ecs_properties.as_deref(),
            definition.eks_properties.as_deref(),
        )?;
        if job.node_overrides.is_some() {
            return Err("nodeOverrides: the job definition has no nodeProperties".to_owned());
        }
        let effective = definition::effective(&work, &overrides)?;
        if definition.platform_capabilities.contains(&PlatformCapability::Fargate) {
            fargate::check(&effective.amounts)?;
        }
        return Ok((effective.with_parameters(&parameters)?, None));
    };
    if job.array_properties.is_some() {
        return Err("arrayProperties: a multi-node job cannot be an array".to_owned());
    }
    if let Some(member) = overrides.stated() {
        return Err(format!("{member}: a multi-node job takes nodeOverrides"));
    }
    let changes = job.node_overrides.as_deref().map(changes).transpose()?.unwrap_or_default();
    let mut gang = nodes::gang(&stated_nodes(wire, tokens)?, &changes)?;
    for group in &mut gang.groups {
        group.effective = std::mem::take(&mut group.effective).with_parameters(&parameters)?;
    }
    let main = gang.group_of(gang.main).map(|group| group.effective.clone());
    Ok((main.unwrap_or_default(), Some(gang)))
}

/// What runs in a pod: one of the three ways to say it, the first of which is called `member`.
fn work(
    member: &str,
    container: Option<&ContainerProperties>,
    task: Option<&EcsProperties>,
    pod: Option<&EksProperties>,
) -> Result<Work, String> {
    let work = match (container, task, pod) {
        (Some(container), None, None) => Work::Container(properties(container)?),
        (None, Some(wire), None) => Work::Task(Box::new(ecs::task(wire)?)),
        (None, None, Some(wire)) => Work::Pod(Box::new(eks::pod(wire)?)),
        (None, None, None) => return Err(format!("{member} is missing")),
        _ => return Err(format!("only one of {member}, ecsProperties and eksProperties can be given")),
    };
    logging::check(&work, member)?;
    Ok(work)
}

fn work_overrides(
    container: Option<&ContainerOverrides>,
    task: Option<&EcsPropertiesOverride>,
    pod: Option<&EksPropertiesOverride>,
) -> Result<WorkOverrides, String> {
    Ok(WorkOverrides {
        container: container
            .map(|wire| overrides(wire).map_err(|why| format!("containerOverrides: {why}")))
            .transpose()?
            .unwrap_or_default(),
        task: task.map(ecs::changes).transpose()?.unwrap_or_default(),
        pod: pod.map(eks::changes).unwrap_or_default(),
    })
}

/// What all nodes of a group take together.
fn tokens_of(group: &nodes::Group) -> impl Iterator<Item = (String, i64)> {
    let count = i64::try_from(group.nodes.len()).unwrap_or(i64::MAX);
    group.tokens.iter().map(move |(resource, quantity)| (resource.clone(), quantity.saturating_mul(count)))
}

fn stated_nodes(wire: &NodeProperties, tokens: &[(String, i64)]) -> Result<nodes::Stated, String> {
    let ranges: Result<_, String> = wire.node_range_properties.iter().map(range).collect();
    Ok(nodes::Stated {
        nodes: u32::try_from(wire.num_nodes).unwrap_or(0),
        main: u32::try_from(wire.main_node).unwrap_or(u32::MAX),
        ranges: ranges?,
        tokens: tokens.to_vec(),
    })
}

fn range(wire: &NodeRangeProperty) -> Result<nodes::Range, String> {
    let target = wire.target_nodes.clone();
    let container = wire.container.as_ref();
    let work = work("container", container, wire.ecs_properties.as_ref(), wire.eks_properties.as_ref());
    let named = |why: String| format!("nodeRangeProperties {target}: {why}");
    let work = work.map_err(named)?;
    let tokens = tokens(TOKENS, wire.consumable_resource_properties.as_ref()).map_err(named)?;
    let of_container = || container.and_then(|container| container.instance_type.clone());
    let instance_type = wire.instance_types.first().cloned().or_else(of_container);
    Ok(nodes::Range { work, tokens, instance_type: instance_type.filter(|name| !name.is_empty()), target })
}

fn changes(wire: &NodeOverrides) -> Result<nodes::Changes, String> {
    let change = |wire: &NodePropertyOverride| {
        let named = |why: String| format!("nodePropertyOverrides {}: {why}", wire.target_nodes);
        let container = wire.container_overrides.as_ref();
        let of_container = || container.and_then(|container| container.instance_type.clone());
        let overrides = work_overrides(
            container,
            wire.ecs_properties_override.as_ref(),
            wire.eks_properties_override.as_ref(),
        );
        let stated = wire.consumable_resource_properties_override.as_ref();
        let tokens = stated.map(|stated| tokens(TOKENS_OVERRIDE, Some(stated))).transpose();
        Ok(nodes::Change {
            target: wire.target_nodes.clone(),
            overrides: overrides.map_err(named)?,
            tokens: tokens.map_err(named)?,
            instance_type: wire
                .instance_types
                .first()
                .cloned()
                .or_else(of_container)
                .filter(|name| !name.is_empty()),
        })
    };
    Ok(nodes::Changes {
        nodes: wire.num_nodes.map(|nodes| u32::try_from(nodes).unwrap_or(0)),
        ranges: wire.node_property_overrides.iter().map(change).collect::<Result<_, String>>()?,
    })
}

/// The jobs that a job depends on.
pub fn dependencies(job: &BatchJobSpec) -> Vec<Dependency> {
    let reference = |wire: &JobDependency| {
        let name = wire.job.clone().map(Reference::Name);
        name.or_else(|| wire.job_id.as_deref().map(Reference::of_id))
    };
    let how = |wire: &JobDependency| match wire.type_ {
        None => How::Plain,
        Some(ArrayJobDependency::Sequential) => How::Sequential,
        Some(ArrayJobDependency::NToN) => How::NToN,
    };
    job.depends_on.iter().map(|wire| Dependency { on: reference(wire), how: how(wire) }).collect()
}

/// Where a definition, or a group of its nodes, states its tokens; and where a job states others.
const TOKENS: &str = "consumableResourceProperties";
const TOKENS_OVERRIDE: &str = "consumableResourcePropertiesOverride";

/// The job's tokens, else the definition's.
fn tokens_of_job(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> Result<Vec<(String, i64)>, String> {
    match &job.consumable_resource_properties_override {
        Some(wire) => tokens(TOKENS_OVERRIDE, Some(wire)),
        None => tokens(TOKENS, definition.consumable_resource_properties.as_ref()),
    }
}

fn tokens(
    place: &str,
    wire: Option<&shared::ConsumableResourceProperties>,
) -> Result<Vec<(String, i64)>, String> {
    let list = wire.map(|wire| wire.consumable_resource_list.as_slice()).unwrap_or_default();
    let token = |(at, entry): (usize, &shared::ConsumableResourceRequirement)| {
        let name = member(&entry.consumable_resource, at, "consumableResourceList", "consumableResource");
        let name = name.map_err(|why| format!("{place}: {why}"))?;
        Ok((name, entry.quantity.unwrap_or(1)))
    };
    list.iter().enumerate().map(token).collect()
}

/// True unless a job can be seen to take no tokens.
pub fn may_take_tokens(job: &BatchJobSpec, definition: &JobDefinitionSpec) -> bool {
    let of_nodes = |nodes: &NodeProperties| {
        nodes.node_range_properties.iter().any(|range| range.consumable_resource_properties.is_some())
    };
    let of_changes = |changes: &NodeOverrides| {
        let mut changes = changes.node_property_overrides.iter();
        changes.any(|change| change.consumable_resource_properties_override.is_some())
    };
    job.consumable_resource_properties_override.is_some()
        || definition.consumable_resource_properties.is_some()
        || definition.node_properties.as_deref().is_some_and(of_nodes)
        || job.node_overrides.as_deref().is_some_and(of_changes)
}

/// The definition that a job brings along instead of naming one.
pub fn inline_definition(job: &BatchJobSpec) -> Option<JobDefinitionSpec> {
    if job.job_definition.is_some() {
        return None;
    }
    Some(JobDefinitionSpec {
        type_: match job.node_properties {
            Some(_) => JobDefinitionType::Multinode,
            None => JobDefinitionType::Container,
        },
        container_properties: job.container_properties.clone(),
        ecs_properties: job.ecs_properties.clone(),
        eks_properties: job.eks_properties.clone(),
        node_properties: job.node_properties.clone(),
        ..JobDefinitionSpec::default()
    })
}

/// A retry strategy as it is carried out; without one a job has one attempt.
pub fn strategy(wire: Option<&shared::RetryStrategy>) -> RetryStrategy {
    let Some(wire) = wire else { return RetryStrategy::default() };
    let entry = |entry: &shared::EvaluateOnExit| retry::EvaluateOnExit {
        on_status_reason: entry.on_status_reason.clone(),
        on_reason: entry.on_reason.clone(),
        on_exit_code: entry.on_exit_code.clone(),
        // The schema admits nothing but these two, in any case.
        action: match entry.action.eq_ignore_ascii_case("RETRY") {
            true => RetryAction::Retry,
            false => RetryAction::Exit,
        },
    };
    RetryStrategy {
        attempts: wire.attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).clamp(1, 10),
        evaluate_on_exit: wire.evaluate_on_exit.iter().map(entry).collect(),
    }
}
