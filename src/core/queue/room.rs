//! Room for one job: which environment takes it, what is in the way, and who could make room.

use std::collections::BTreeMap;

use super::order::Rank;
use super::resources::Resources;
use super::snapshot::{Candidate, Environment, NodeRoom, Provisioned, Queue, Unbound};
use crate::waits::{self, Kind, Wait};

/// What is free. What is given away is charged at once, so that nothing is promised twice.
pub(super) struct Room {
    pub(super) environments: BTreeMap<String, Environment>,
    pub(super) nodes: Vec<NodeRoom>,
    pub(super) tokens: BTreeMap<String, i64>,
    /// Environments in which room is kept, and the name of the queue for whose head.
    held: BTreeMap<String, String>,
}

/// What keeps a job out of an environment.
pub(super) struct Obstacle {
    /// It stays as long as nobody changes the environment.
    lasting: bool,
    /// Pods that wait for nodes are in the way.
    pub(super) crowded: bool,
    pub(super) wait: Wait,
}

impl Obstacle {
    fn passing(wait: Wait) -> Self {
        Self { lasting: false, crowded: false, wait }
    }

    fn lasting(wait: Wait) -> Self {
        Self { lasting: true, crowded: false, wait }
    }

    fn crowded(wait: Wait) -> Self {
        Self { lasting: false, crowded: true, wait }
    }

    /// Of several environments, one that may yet take the job tells more than one that never will;
    /// else the first, which is the one that the queue's owner prefers.
    pub(super) fn more_telling(known: Option<Self>, new: Self) -> Self {
        match known {
            Some(known) if !known.lasting || new.lasting => known,
            _ => new,
        }
    }
}

impl Room {
    pub(super) fn new(
        environments: BTreeMap<String, Environment>,
        nodes: Vec<NodeRoom>,
        tokens: BTreeMap<String, i64>,
    ) -> Self {
        Self { environments, nodes, tokens, held: BTreeMap::new() }
    }

    /// Which tokens the job lacks, if any.
    pub(super) fn lacks_tokens(&self, job: &Candidate) -> Option<Wait> {
        job.tokens.iter().find_map(|(resource, quantity)| {
            let name = resource.rsplit('/').next().unwrap_or_default();
            match self.tokens.get(resource) {
                None => Some(waits::consumable_resource_missing(name)),
                Some(left) => (left < quantity).then(|| waits::tokens(name, *quantity)),
            }
        })
    }

    /// Takes room for a job in an environment, which must exist.
    pub(super) fn take(&mut self, name: &str, queue: &Queue, job: &Candidate) -> Result<(), Obstacle> {
        let Some(environment) = self.environments.get_mut(name) else {
            return Err(Obstacle::passing(waits::no_environment(queue.name())));
        };
        let need = job.requests_in(environment);
        let fits = admits(environment, name, queue, job).and_then(|()| match &mut environment.provisioned {
            Some(provisioned) => has_window(provisioned, name, &need).map(|()| None),
            None => match tightest(environment, &self.nodes, &need) {
                Some(node) => Ok(Some(node)),
                None => Err(Obstacle::passing(lacking(environment, name, &self.nodes, &need))),
            },
        });
        let node = fits.map_err(|obstacle| match self.held.get(name) {
            Some(holder) if !obstacle.lasting => Obstacle::passing(waits::held_for(name, holder)),
            _ => obstacle,
        })?;
        environment.charge(queue.namespace(), job.vcpus_milli);
        if let Some(node) = node {
            self.nodes[node].free.charge(&need);
        }
        self.take_tokens(job);
        Ok(())
    }

    fn take_tokens(&mut self, job: &Candidate) {
        for (resource, quantity) in &job.tokens {
            self.tokens.entry(resource.clone()).and_modify(|left| *left = left.saturating_sub(*quantity));
        }
    }

    /// The jobs whose pods, which wait for nodes, have to go so that a job gets room that comes before them; none if
    /// that would not do.
    pub(super) fn make_way(
        &mut self,
        name: &str,
        queue: &Queue,
        rank: &Rank,
        job: &Candidate,
    ) -> Option<Vec<String>> {
        let environment = self.environments.get_mut(name)?;
        let priority = environment.priority_of(queue);
        let max = environment.max_vcpus_milli.unwrap_or(i64::MAX);
        let mut missing = environment.used_vcpus_milli.saturating_add(job.vcpus_milli).saturating_sub(max);
        let provisioned = environment.provisioned.as_mut()?;
        let waiting = provisioned.unbound.len() + provisioned.unseen + 1;
        let mut too_many = waiting.saturating_sub(provisioned.window);
        let comes_later = |pod: &Unbound| {
            pod.priority < priority || queue.shares.is_none() && pod.queue == queue.id && pod.rank > *rank
        };
        // The last in line go first.
        provisioned.unbound.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.rank.cmp(&b.rank)));
        let mut going = Vec::new();
        for (index, pod) in provisioned.unbound.iter().enumerate().rev().filter(|(_, pod)| comes_later(pod)) {
            if missing <= 0 && too_many == 0 {
                break;
            }
            missing -= pod.vcpus_milli;
            too_many = too_many.saturating_sub(1);
            going.push(index);
        }
        let enough = missing <= 0 && too_many == 0;
        enough.then(|| going.into_iter().map(|index| provisioned.unbound.remove(index).uid).collect())
    }

    /// Keeps what the head of a queue lacks for it, in the first environment that could take it. Those who come
    /// later find that it is taken.
    pub(super) fn hold(&mut self, environments: &[&str], queue: &Queue, job: &Candidate) {
        self.take_tokens(job);
        for name in environments {
            let Some(environment) = self.environments.get_mut(*name) else { continue };
            let could = environment.closed.is_none()
                && environment.max_vcpus_milli.is_none_or(|max| job.vcpus_milli <= max);
            let need = job.requests_in(environment);
            let node = nearest(environment, &self.nodes, &need);
            if !could || environment.provisioned.is_none() && node.is_none() {
                continue;
            }
            environment.used_vcpus_milli = environment.used_vcpus_milli.saturating_add(job.vcpus_milli);
            if let Some(node) = node {
                self.nodes[node].free.charge(&need);
            }
            self.held.insert((*name).to_owned(), queue.name().to_owned());
            return;
        }
    }

    /// True if the job could go to the environment once there is room, as far as is known.
    pub(super) fn is_open_to(&self, name: &str, pod: &Unbound) -> bool {
        self.environments.get(name).is_some_and(|environment| {
            let short = environment.provisioned.iter().flat_map(|p| &p.short_of);
            environment.closed.is_none()
                && environment.max_vcpus_milli.is_none_or(|max| pod.vcpus_milli <= max)
                && !short.into_iter().any(|short| short.fits(&pod.pod))
        })
    }
}

impl Environment {
    /// Takes room for a job of this namespace, whose pod is not seen yet.
    pub fn charge(&mut self, namespace: &str, vcpus_milli: i64) {
        self.used_vcpus_milli = self.used_vcpus_milli.saturating_add(vcpus_milli);
        if let Some(tenant) = self.tenants.as_mut().and_then(|tenants| tenants.get_mut(namespace)) {
            tenant.used_vcpus_milli = tenant.used_vcpus_milli.saturating_add(vcpus_milli);
        }
        if let Some(provisioned) = &mut self.provisioned {
            provisioned.unseen += 1;
        }
    }
}

/// Whether the environment takes the job at all, and its limits leave room for it.
fn admits(environment: &Environment, name: &str, queue: &Queue, job: &Candidate) -> Result<(), Obstacle> {
    if let Some(why) = &environment.closed {
        return Err(Obstacle::passing(why.clone()));
    }
    let then = environment.used_vcpus_milli.saturating_add(job.vcpus_milli);
    let tenant = environment.tenant(queue.namespace());
    let most = tenant.and_then(|tenant| tenant.max_vcpus_milli);
    if [environment.max_vcpus_milli, most].into_iter().flatten().any(|max| job.vcpus_milli > max) {
        return Err(Obstacle::lasting(waits::above_max_vcpus()));
    }
    if let Some(max) = environment.max_vcpus_milli.filter(|max| then > *max) {
        return Err(Obstacle::crowded(waits::max_vcpus(name, max)));
    }
    if let (Some(tenant), Some(max)) = (tenant, most)
        && tenant.used_vcpus_milli.saturating_add(job.vcpus_milli) > max
    {
        return Err(Obstacle::passing(waits::namespace_max_vcpus(name, queue.namespace(), max)));
    }
    let whole = environment.max_vcpus_milli.or(environment.unmanaged_vcpus_milli);
    let usable = queue.shares.as_ref().zip(whole).map(|(shares, whole)| shares.usable(whole));
    match usable.filter(|usable| then > *usable) {
        Some(usable) => Err(Obstacle::passing(waits::reserved_for_shares(name, usable))),
        None => Ok(()),
    }
}

/// Whether one more pod may wait for a node.
fn has_window(provisioned: &Provisioned, name: &str, need: &Resources) -> Result<(), Obstacle> {
    if provisioned.short_of.iter().any(|short| short.fits(need)) {
        return Err(Obstacle::passing(waits::no_capacity(name)));
    }
    match provisioned.unbound.len() + provisioned.unseen < provisioned.window {
        true => Ok(()),
        false => Err(Obstacle::crowded(waits::unbound_window(name, provisioned.window))),
    }
}

/// The node of the environment that has the least left over, so that large gaps stay for large
/// jobs.
pub fn tightest(environment: &Environment, nodes: &[NodeRoom], need: &Resources) -> Option<usize> {
    let fitting = environment.nodes.iter().copied().filter(|index| need.fits(&nodes[*index].free));
    fitting.min_by_key(|index| {
        (nodes[*index].free.gpus, nodes[*index].free.cpu_milli, nodes[*index].free.memory)
    })
}

/// The node of the environment on which the least has to become free for a pod.
fn nearest(environment: &Environment, nodes: &[NodeRoom], need: &Resources) -> Option<usize> {
    let large = environment.nodes.iter().copied().filter(|index| need.fits(&nodes[*index].size));
    large.min_by_key(|index| {
        let free = &nodes[*index].free;
        let part = |need: i64, free: i64| if need > 0 { (need - free).max(0) * 1000 / need } else { 0 };
        part(need.gpus, free.gpus)
            + part(need.cpu_milli, free.cpu_milli)
            + part(need.memory >> 20, free.memory >> 20)
    })
}

/// Names the resource that is short.
fn lacking(environment: &Environment, name: &str, nodes: &[NodeRoom], need: &Resources) -> Wait {
    if environment.nodes.is_empty() {
        return waits::no_node(name);
    }
    if !need.fits(&environment.largest) {
        return waits::larger_than_any_node(name);
    }
    let none = |has_room: &dyn Fn(&NodeRoom) -> bool| {
        !environment.nodes.iter().any(|index| has_room(&nodes[*index]))
    };
    if need.gpus > 0 && none(&|node| node.free.gpus >= need.gpus) {
        waits::resource(name, Kind::Gpus)
    } else if none(&|node| node.free.cpu_milli >= need.cpu_milli) {
        waits::resource(name, Kind::Vcpus)
    } else if none(&|node| node.free.memory >= need.memory) {
        waits::resource(name, Kind::Memory)
    } else {
        waits::resource(name, Kind::Node)
    }
}
