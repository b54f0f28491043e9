//! What every decision of the scheduler keeps to, whatever it sees.

#![allow(dead_code)] // each test target uses a part of it

use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::queue::{
    Candidate, Decisions, Environment, Queue, Rank, Snapshot, Unbound, Verdict, line_up,
};

/// The environment that a job was admitted to.
pub(crate) fn admitted<'a>(verdicts: &'a BTreeMap<String, Verdict>, uid: &str) -> Option<&'a str> {
    match verdicts.get(uid)? {
        Verdict::Admit { environment } => Some(environment),
        Verdict::Wait(_) => None,
    }
}

/// The uids of a queue's jobs that wait, in its order.
pub(crate) fn line_of(queue: &Queue) -> Vec<String> {
    line_up(std::slice::from_ref(queue), |_| false).into_iter().map(|place| place.rank.uid).collect()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// The first rule that is broken, in words.
pub(crate) fn check(snapshot: &Snapshot, decisions: &Decisions) -> Result<(), String> {
    lines_are_kept(snapshot, decisions)?;
    limits_are_kept(snapshot, decisions)?;
    withdrawals_serve_a_head(snapshot, decisions)
}

/// Of each queue's line a first part is admitted, and the front is the rest.
fn lines_are_kept(snapshot: &Snapshot, decisions: &Decisions) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for queue in &snapshot.queues {
        let line = line_of(queue);
        let goes = |uid: &&String| admitted(&decisions.verdicts, uid).is_some();
        let first = line.iter().take_while(goes).count();
        ensure(!line[first..].iter().any(|uid| goes(&uid)), || {
            format!("{}: overtaken in {line:?}", queue.id)
        })?;
        let front = decisions.fronts.get(&queue.id).map_or(&[][..], Vec::as_slice);
        let rest: Vec<_> = line[first..].iter().take(100).collect();
        ensure(front.iter().eq(rest), || format!("{}: front {front:?} of {line:?}", queue.id))?;
        known.extend(line.into_iter().take(first + 1));
    }
    let unknown = decisions.verdicts.keys().find(|uid| !known.contains(*uid));
    ensure(unknown.is_none(), || format!("a verdict for {unknown:?}, whose turn it is not"))
}

/// vCPUs of environments and namespaces, places in windows and among the running, and tokens.
fn limits_are_kept(snapshot: &Snapshot, decisions: &Decisions) -> Result<(), String> {
    let mut environments = snapshot.environments.clone();
    let mut tokens = snapshot.tokens.clone();
    // Pods that are made, and the most that one job has.
    let mut more: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for queue in &snapshot.queues {
        let mut running = queue.running;
        for (rank, job) in &queue.waiting {
            let Some(name) = admitted(&decisions.verdicts, &rank.uid) else { continue };
            let environment = environments.get_mut(name).ok_or("an environment that does not exist")?;
            let open = environment.closed.is_none() && queue.environments.iter().any(|known| known == name);
            ensure(open, || format!("{} is admitted to {name}", rank.uid))?;
            running += 1;
            ensure(queue.max_running.is_none_or(|max| running <= max), || {
                format!("{}: maxRunning", queue.id)
            })?;
            environment.used_vcpus_milli += job.vcpus_milli;
            let exceeded = environment.max_vcpus_milli.is_some_and(|max| environment.used_vcpus_milli > max);
            ensure(!exceeded, || format!("{name} is above maxvCpus"))?;
            let tenants = environment.tenants.as_mut();
            if let Some(tenant) = tenants.and_then(|tenants| tenants.get_mut(queue.namespace())) {
                tenant.used_vcpus_milli += job.vcpus_milli;
                let exceeded = tenant.max_vcpus_milli.is_some_and(|max| tenant.used_vcpus_milli > max);
                ensure(!exceeded, || format!("{} uses more of {name} than its part", queue.namespace()))?;
            }
            for (resource, quantity) in &job.tokens {
                let left = tokens.get_mut(resource).ok_or("a token of a resource that does not exist")?;
                *left -= quantity;
                ensure(*left >= 0, || format!("{left} of {resource} are left"))?;
            }
            let pods = pods(job);
            let (all, most) = more.entry(name).or_default();
            (*all, *most) = (*all + pods, pods.max(*most));
        }
    }
    for (name, (more, most)) in more {
        let Some(provisioned) = &snapshot.environments[name].provisioned else { continue };
        // The place of a late pod is free, that of one which makes way is not.
        let late = decisions.short_of.iter().filter(|(short, _)| short == name).count();
        let unbound: usize = provisioned.unbound.iter().map(|pod| pod.count).sum();
        let wait = unbound - late + provisioned.unseen + more;
        // A job with more pods than there are places has all of them.
        ensure(wait <= provisioned.window.max(most), || format!("{wait} pods wait for nodes of {name}"))?;
    }
    Ok(())
}

/// How many pods start together.
pub(crate) fn pods(job: &Candidate) -> usize {
    job.gang.as_ref().map_or(1, |groups| groups.iter().map(|group| group.count).sum())
}

/// Pods are withdrawn once, and for a head that comes before them and waits, unless no node came for them in time.
fn withdrawals_serve_a_head(snapshot: &Snapshot, decisions: &Decisions) -> Result<(), String> {
    let once: BTreeSet<_> = decisions.withdraw.iter().collect();
    ensure(once.len() == decisions.withdraw.len(), || format!("twice: {:?}", decisions.withdraw))?;
    for uid in once {
        let unbound = snapshot.environments.iter().flat_map(|(name, e)| {
            e.provisioned.iter().flat_map(|p| &p.unbound).map(move |pod| (name, e, pod))
        });
        let (name, environment, pod) = unbound
            .into_iter()
            .find(|(_, _, pod)| pod.key == *uid)
            .ok_or_else(|| format!("{uid} does not wait for a node"))?;
        let timeout = environment.provisioned.as_ref().and_then(|p| p.capacity_timeout);
        let is_late = timeout.is_some_and(|timeout| snapshot.now.duration_since(pod.since) >= timeout);
        let mut heads = snapshot.queues.iter().filter_map(|queue| {
            let uid = decisions.fronts.get(&queue.id)?.first()?;
            let head = queue.waiting.ranks().find(|rank| rank.uid == *uid)?;
            queue.environments.contains(name).then_some((queue, head))
        });
        let serves = is_late || heads.any(|(queue, head)| comes_before(queue, head, environment, pod));
        ensure(serves, || format!("{uid} is withdrawn for nobody"))?;
    }
    Ok(())
}

fn comes_before(queue: &Queue, head: &Rank, environment: &Environment, pod: &Unbound) -> bool {
    let tenant = environment.tenants.as_ref().and_then(|tenants| tenants.get(queue.namespace()));
    let at_most = tenant.and_then(|tenant| tenant.max_priority).unwrap_or(i64::MAX);
    let same_queue = queue.shares.is_none() && pod.queue == queue.id;
    queue.priority.min(at_most) > pod.priority || same_queue && *head < pod.rank
}
