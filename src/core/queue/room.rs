//! Room for one job: which environment takes it, what is in the way, and who could make room.
//!
//! A multi-node job takes room for all of its nodes or for none.

use std::collections::BTreeMap;

use super::line::Entry;
use super::resources::Resources;
use super::snapshot::{Candidate, Environment, Need, NodeRoom, Provisioned, Queue, Unbound};
use crate::waits::{self, Kind, Wait};

/// What is free. What is given away is charged at once, so that nothing is promised twice.
pub(super) struct Room {
    pub(super) environments: BTreeMap<String, Environment>,
    pub(super) nodes: Vec<NodeRoom>,
    pub(super) tokens: BTreeMap<String, i64>,
    /// Environments in which room is kept, with the namespace if only its part is, and the name of the queue for
    /// whose head.
    held: BTreeMap<(String, Option<String>), String>,
}

/// What keeps a job out of an environment.
pub(super) struct Obstacle {
    /// It stays as long as nobody changes the environment.
    pub(super) lasting: bool,
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
        let (needs, vcpus, port) = (job.needs_in(environment), job.vcpus_milli, job.port_in(environment));
        let fits = environment
            .could_take(name, queue, vcpus, &needs)
            .and_then(|()| has_room(environment, name, queue, vcpus))
            .and_then(|()| match &environment.provisioned {
                Some(provisioned) => has_window(provisioned, name, job.pods()).map(|()| Vec::new()),
                None => pack(environment, &self.nodes, NodeRoom::free_in, &needs)
                    .ok_or_else(|| Obstacle::passing(lacking(environment, name, &self.nodes, &needs))),
            });
        let taken = fits.map_err(|obstacle| match holder(&self.held, name, queue) {
            Some(holder) if !obstacle.lasting => Obstacle::passing(waits::held_for(name, holder)),
            _ => obstacle,
        })?;
        environment.charge(queue.namespace(), vcpus, job.pods());
        for (node, pod) in taken {
            self.nodes[node].charge(environment, &pod, port);
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
    pub(super) fn make_way(&mut self, name: &str, queue: &Queue, head: Entry<'_>) -> Option<Vec<String>> {
        let environment = self.environments.get_mut(name)?;
        let priority = environment.priority_of(queue);
        let max = environment.most_for(queue);
        let then = environment.used_vcpus_milli.saturating_add(head.job.vcpus_milli);
        let provisioned = environment.provisioned.as_mut()?;
        let freed = std::mem::take(&mut provisioned.leaving_milli);
        let mut missing = then.saturating_sub(max).saturating_sub(freed);
        let others = provisioned.waiting() as i64;
        let mut too_many = others + head.job.pods() as i64 - provisioned.window as i64;
        if provisioned.window > 0 {
            // Where nothing else waits, a job may have more pods than there are places.
            too_many = too_many.min(others);
        }
        let comes_later = |pod: &Unbound| {
            let is_behind = || (&pod.rank, pod.child) > (head.rank, head.child);
            pod.priority < priority || queue.shares.is_none() && pod.queue == queue.id && is_behind()
        };
        // The last in line go first.
        let place = |pod: &Unbound| (pod.rank.clone(), pod.child);
        provisioned.unbound.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| place(a).cmp(&place(b))));
        let mut going = Vec::new();
        for (index, pod) in provisioned.unbound.iter().enumerate().rev().filter(|(_, pod)| comes_later(pod)) {
            if missing <= 0 && too_many <= 0 {
                break;
            }
            missing -= pod.vcpus_milli;
            too_many -= pod.count as i64;
            going.push(index);
        }
        if missing > 0 || too_many > 0 {
            return None;
        }
        // A large pod may have made it needless that smaller ones go, which come later.
        for position in (0..going.len()).rev() {
            let Unbound { vcpus_milli, count, .. } = provisioned.unbound[going[position]];
            if missing + vcpus_milli <= 0 && too_many + count as i64 <= 0 {
                (missing, too_many) = (missing + vcpus_milli, too_many + count as i64);
                going.remove(position);
            }
        }
        // Their places in the window are for this job, not for those who come later in this cycle.
        provisioned.unseen += going.iter().map(|index| provisioned.unbound[*index].count).sum::<usize>();
        Some(going.into_iter().map(|index| provisioned.unbound.remove(index).key).collect())
    }

    /// Keeps what the head of a queue lacks for it, in the first environment that could take it. Those who come
    /// later find that it is taken. While it lacks tokens, only they are kept, and while its namespace has all its
    /// part, only of that part: what others may use is not idle for that.
    pub(super) fn hold(&mut self, environments: &[&str], queue: &Queue, job: &Candidate) {
        let (tokens, vcpus) = (&self.tokens, job.vcpus_milli);
        if job.tokens.iter().any(|(resource, _)| !tokens.contains_key(resource)) {
            return;
        }
        for name in environments {
            let Some(environment) = self.environments.get_mut(*name) else { continue };
            let needs = job.needs_in(environment);
            let could = environment.could_take(name, queue, vcpus, &needs).is_ok();
            let nodes = nearest(environment, &self.nodes, &needs);
            if !could
                || vcpus > environment.most_for(queue)
                || environment.provisioned.is_none() && nodes.is_none()
            {
                continue;
            }
            if self.lacks_tokens(job).is_none() {
                self.hold_room(name, queue, vcpus, nodes.unwrap_or_default());
            }
            return self.take_tokens(job);
        }
    }

    fn hold_room(&mut self, name: &str, queue: &Queue, vcpus_milli: i64, nodes: Vec<(usize, Resources)>) {
        let Some(environment) = self.environments.get_mut(name) else { return };
        let namespace = queue.namespace();
        let has_its_part = environment.namespace_is_full(namespace, vcpus_milli);
        environment.charge_namespace(namespace, vcpus_milli);
        if !has_its_part {
            environment.used_vcpus_milli = environment.used_vcpus_milli.saturating_add(vcpus_milli);
            nodes.into_iter().for_each(|(node, pod)| self.nodes[node].charge(environment, &pod, None));
        }
        let part = has_its_part.then(|| namespace.to_owned());
        self.held.insert((name.to_owned(), part), queue.name().to_owned());
    }

    /// True if a job of the queue, whose pod waits for a node elsewhere, could go to the environment once there is
    /// room, as far as is known.
    pub(super) fn is_open_to(&self, name: &str, queue: &Queue, pod: &Unbound) -> bool {
        self.environments.get(name).is_some_and(|environment| {
            let has_such_nodes = environment.provisioned.is_some() || pod.pod.fits(&environment.largest);
            let needs = [Need { count: pod.count, pod: pod.pod, instance_type: None, port: None }];
            has_such_nodes && environment.could_take(name, queue, pod.vcpus_milli, &needs).is_ok()
        })
    }
}

impl Environment {
    /// Takes room for a job of this namespace, whose pods, so many, are not seen yet.
    pub fn charge(&mut self, namespace: &str, vcpus_milli: i64, pods: usize) {
        self.used_vcpus_milli = self.used_vcpus_milli.saturating_add(vcpus_milli);
        self.charge_namespace(namespace, vcpus_milli);
        if let Some(provisioned) = &mut self.provisioned {
            provisioned.unseen += pods;
        }
    }

    fn charge_namespace(&mut self, namespace: &str, vcpus_milli: i64) {
        if let Some(tenant) = self.tenants.as_mut().and_then(|tenants| tenants.get_mut(namespace)) {
            tenant.used_vcpus_milli = tenant.used_vcpus_milli.saturating_add(vcpus_milli);
        }
    }

    fn namespace_is_full(&self, namespace: &str, vcpus_milli: i64) -> bool {
        self.tenant(namespace).is_some_and(|tenant| {
            let then = tenant.used_vcpus_milli.saturating_add(vcpus_milli);
            tenant.max_vcpus_milli.is_some_and(|max| then > max)
        })
    }

    /// What its use may come to when a job of the queue joins: what is kept for other shares is left out.
    fn most_for(&self, queue: &Queue) -> i64 {
        let max = self.max_vcpus_milli.unwrap_or(i64::MAX);
        self.usable_by(queue).map_or(max, |usable| usable.min(max))
    }

    /// What the shares of a queue may use, if part of the environment is kept for others.
    fn usable_by(&self, queue: &Queue) -> Option<i64> {
        let whole = self.max_vcpus_milli.or(self.unmanaged_vcpus_milli);
        queue.shares.as_ref().zip(whole).map(|(shares, whole)| shares.usable(whole))
    }

    /// Whether it could take a job if all of it were free.
    fn could_take(
        &self,
        name: &str,
        queue: &Queue,
        vcpus_milli: i64,
        needs: &[Need<'_>],
    ) -> Result<(), Obstacle> {
        if let Some(why) = &self.closed {
            return Err(Obstacle::passing(why.clone()));
        }
        let part = self.tenant(queue.namespace()).and_then(|tenant| tenant.max_vcpus_milli);
        if [self.max_vcpus_milli, part].into_iter().flatten().any(|max| vcpus_milli > max) {
            return Err(Obstacle::lasting(waits::above_max_vcpus()));
        }
        if self.without_gpus && needs.iter().any(|need| need.pod.gpus > 0) {
            return Err(Obstacle::lasting(waits::no_gpus_at_all()));
        }
        let mut short_of = self.provisioned.iter().flat_map(|provisioned| &provisioned.short_of);
        match short_of.any(|short| needs.iter().any(|need| short.fits(&need.pod))) {
            true => Err(Obstacle::passing(waits::no_capacity(name))),
            false => Ok(()),
        }
    }
}

/// The queue for whose head room is kept that a job of this queue could use.
fn holder<'h>(
    held: &'h BTreeMap<(String, Option<String>), String>,
    name: &str,
    queue: &Queue,
) -> Option<&'h String> {
    let of = |namespace: Option<String>| held.get(&(name.to_owned(), namespace));
    of(None).or_else(|| of(Some(queue.namespace().to_owned())))
}

/// Whether the environment's limits leave room. What pods can make way for comes last.
fn has_room(environment: &Environment, name: &str, queue: &Queue, vcpus_milli: i64) -> Result<(), Obstacle> {
    let namespace = queue.namespace();
    if environment.namespace_is_full(namespace, vcpus_milli) {
        let max = environment.tenant(namespace).and_then(|tenant| tenant.max_vcpus_milli);
        return Err(Obstacle::passing(waits::namespace_max_vcpus(name, namespace, max.unwrap_or_default())));
    }
    let then = environment.used_vcpus_milli.saturating_add(vcpus_milli);
    if let Some(max) = environment.max_vcpus_milli.filter(|max| then > *max) {
        return Err(Obstacle::crowded(waits::max_vcpus(name, max)));
    }
    match environment.usable_by(queue).filter(|usable| then > *usable) {
        Some(usable) => Err(Obstacle::crowded(waits::reserved_for_shares(name, usable))),
        None => Ok(()),
    }
}

/// Whether so many pods more may wait for nodes: where nothing else waits, as many as one job has.
fn has_window(provisioned: &Provisioned, name: &str, pods: usize) -> Result<(), Obstacle> {
    let waiting = provisioned.waiting() + provisioned.leaving;
    match waiting == 0 || waiting + pods <= provisioned.window {
        true if provisioned.window > 0 => Ok(()),
        _ => Err(Obstacle::crowded(waits::unbound_window(name, provisioned.window))),
    }
}

/// The node of the environment that has the least left over, so that large gaps stay for large
/// jobs.
pub fn tightest(
    environment: &Environment,
    nodes: &[NodeRoom],
    need: &Resources,
    port: Option<u16>,
) -> Option<usize> {
    let has_port = |node: &NodeRoom| port.is_none_or(|port| !node.ports.contains(&port));
    let free = environment.nodes.iter().filter(|index| has_port(&nodes[**index]));
    tightest_of(free.map(|index| (*index, nodes[*index].free_in(environment))), need)
}

fn tightest_of(free: impl Iterator<Item = (usize, Resources)>, need: &Resources) -> Option<usize> {
    let fitting = free.filter(|(_, free)| need.fits(free));
    fitting.min_by_key(|(_, free)| (free.gpus, free.cpu_milli, free.memory)).map(|(index, _)| index)
}

/// A node for each pod, all at the same time, where so much is there; nothing if one finds none. The largest look
/// first, each for the node that has the least left over: that is not every way to do it, but a good one.
fn pack(
    environment: &Environment,
    nodes: &[NodeRoom],
    room: fn(&NodeRoom, &Environment) -> Resources,
    needs: &[Need<'_>],
) -> Option<Vec<(usize, Resources)>> {
    // Most jobs are one pod, and there may be many nodes: nothing is copied for them.
    if let [need @ Need { count: 1, .. }] = needs {
        let takes = |node: &NodeRoom| need.wants(node) && need.has_its_port_on(node);
        let takers = environment.nodes.iter().filter(|index| takes(&nodes[**index]));
        let node = tightest_of(takers.map(|index| (*index, room(&nodes[*index], environment))), &need.pod)?;
        return Some(vec![(node, need.pod)]);
    }
    let mut left: BTreeMap<usize, Resources> =
        environment.nodes.iter().map(|index| (*index, room(&nodes[*index], environment))).collect();
    let mut taken = Vec::new();
    for need in needs {
        for _ in 0..need.count {
            let takers = left.iter().filter(|(index, _)| need.wants(&nodes[**index]));
            let node = tightest_of(takers.map(|(index, free)| (*index, *free)), &need.pod)?;
            left.get_mut(&node)?.charge(&need.pod);
            taken.push((node, need.pod));
        }
    }
    Some(taken)
}

/// The nodes of the environment on which the least has to become free for the pods; nothing if even its empty nodes
/// are too small or too few.
fn nearest(
    environment: &Environment,
    nodes: &[NodeRoom],
    needs: &[Need<'_>],
) -> Option<Vec<(usize, Resources)>> {
    let part = |need: i64, free: i64| if need > 0 { (need - free).max(0) * 1000 / need } else { 0 };
    let lacks = |need: &Resources, free: &Resources| {
        part(need.gpus, free.gpus)
            + part(need.cpu_milli, free.cpu_milli)
            + part(need.memory >> 20, free.memory >> 20)
    };
    let of = |room: fn(&NodeRoom, &Environment) -> Resources| {
        let all = environment.nodes.iter().map(|index| (*index, room(&nodes[*index], environment)));
        all.collect::<BTreeMap<_, _>>()
    };
    // Of an empty pool and of this one: where the pods go, they have to fit once others have gone.
    let (mut empty, mut left) = (of(NodeRoom::size_in), of(NodeRoom::free_in));
    let mut taken = Vec::new();
    for need in needs {
        for _ in 0..need.count {
            let large =
                empty.iter().filter(|(index, size)| need.wants(&nodes[**index]) && need.pod.fits(size));
            // A port becomes free with the pod that has it, whatever else that takes.
            let distance =
                |index: &usize| (!need.has_its_port_on(&nodes[*index]), lacks(&need.pod, &left[index]));
            let node = large.map(|(index, _)| *index).min_by_key(distance)?;
            empty.get_mut(&node)?.charge(&need.pod);
            left.get_mut(&node)?.charge(&need.pod);
            taken.push((node, need.pod));
        }
    }
    Some(taken)
}

/// Names what is short.
fn lacking(environment: &Environment, name: &str, nodes: &[NodeRoom], needs: &[Need<'_>]) -> Wait {
    if environment.nodes.is_empty() {
        return waits::no_node(name);
    }
    let of = |index: &usize| &nodes[*index];
    for need in needs {
        let mut takers = environment.nodes.iter().filter(|index| need.wants(of(index)));
        if let Some(wanted) = need.instance_type.filter(|_| takers.clone().next().is_none()) {
            return waits::no_node_of_type(name, wanted);
        }
        // What an empty node could take is known of all nodes together.
        let is_large = |index: &usize| need.pod.fits(&of(index).size_in(environment));
        if need.pod.gpus > 0 && environment.largest.gpus == 0 {
            return waits::no_gpus(name, environment.gpu.as_deref());
        }
        if !need.pod.fits(&environment.largest) || need.instance_type.is_some() && !takers.any(is_large) {
            return waits::larger_than_any_node(name);
        }
    }
    let pods = needs.iter().map(|need| need.count).sum();
    let [Need { count: 1, pod: need, instance_type: None, port }] = needs else {
        return match pack(environment, nodes, NodeRoom::size_in, needs) {
            None => waits::more_than_all_nodes(name, pods),
            Some(_) => waits::gang(name, pods),
        };
    };
    let none = |has_room: &dyn Fn(&Resources) -> bool| {
        !environment.nodes.iter().any(|index| has_room(&of(index).free_in(environment)))
    };
    if need.gpus > 0 && none(&|free| free.gpus >= need.gpus) {
        waits::resource(name, Kind::Gpus)
    } else if none(&|free| free.cpu_milli >= need.cpu_milli) {
        waits::resource(name, Kind::Vcpus)
    } else if none(&|free| free.memory >= need.memory) {
        waits::resource(name, Kind::Memory)
    } else if let Some(port) = port.filter(|_| !none(&|free| need.fits(free))) {
        waits::host_port(name, port)
    } else {
        waits::resource(name, Kind::Node)
    }
}
