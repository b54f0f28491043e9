//! A cluster in virtual time around the scheduler: jobs that come, run and end, and nodes.

#![allow(dead_code)] // each test target uses a part of it

use std::collections::BTreeMap;

use batchyard_core::queue::{
    Candidate, Decisions, Ledger, NodeRoom, Policy, Queue, Rank, Resources, Snapshot, Unbound, Usage, Use,
    Verdict, room, schedule,
};
use jiff::{SignedDuration, Timestamp};

use super::invariants;

/// How long an environment for which no node came is not tried with as large a pod, in seconds.
const SHORT: i64 = 900;

/// Numbers that look like chance and are the same in every run (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One of `from..=to`.
    pub(crate) fn roll(&mut self, from: i64, to: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        from + ((z ^ (z >> 31)) % (to - from + 1).cast_unsigned()).cast_signed()
    }
}

/// A job that has not ended.
pub(crate) struct Job {
    pub(crate) queue: String,
    pub(crate) rank: Rank,
    pub(crate) candidate: Candidate,
    /// How long an attempt runs.
    seconds: i64,
    /// How many attempts will fail.
    failures: u32,
    pub(crate) pod: Option<Pod>,
}

/// The pod of an attempt.
pub(crate) struct Pod {
    pub(crate) environment: String,
    made: Timestamp,
    /// Its node, and since when.
    pub(crate) bound: Option<(usize, Timestamp)>,
    uid: String,
}

/// Nodes that come for pods which wait, and go when they are idle.
pub(crate) struct Cloud {
    pub(crate) environment: String,
    /// The size of each node.
    pub(crate) node: Resources,
    /// How many the provider has at this time.
    pub(crate) limit: usize,
    /// How long a node takes to come.
    pub(crate) delay: i64,
    /// How long an idle node stays.
    pub(crate) idle: i64,
    coming: Vec<Timestamp>,
    idle_since: BTreeMap<usize, Timestamp>,
}

impl Cloud {
    pub(crate) fn new(environment: &str, node: Resources, limit: usize) -> Self {
        let environment = environment.to_owned();
        let (coming, idle_since) = (Vec::new(), BTreeMap::new());
        Self { environment, node, limit, delay: 60, idle: 300, coming, idle_since }
    }
}

pub(crate) struct Simulation {
    /// Queues, environments, nodes and tokens as they are when nothing waits and nothing runs.
    pub(crate) idle: Snapshot,
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) cloud: Option<Cloud>,
    /// vCPU-seconds by queue and share.
    pub(crate) used: BTreeMap<(String, String), f64>,
    /// What happened, for people.
    pub(crate) told: Vec<String>,
    pub(crate) ended: usize,
    ledgers: BTreeMap<String, Ledger>,
    heads: BTreeMap<String, (String, Timestamp)>,
    short_of: Vec<(String, Resources, Timestamp)>,
    count: u64,
}

impl Simulation {
    pub(crate) fn of(idle: Snapshot) -> Self {
        Self {
            idle,
            jobs: BTreeMap::new(),
            cloud: None,
            used: BTreeMap::new(),
            told: Vec::new(),
            ended: 0,
            ledgers: BTreeMap::new(),
            heads: BTreeMap::new(),
            short_of: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn submit(
        &mut self,
        queue: &str,
        uid: &str,
        candidate: Candidate,
        seconds: i64,
        failures: u32,
    ) {
        self.count += 1;
        let rank = Rank { fresh: true, created_at: self.idle.now, sequence: self.count, uid: uid.to_owned() };
        let job = Job { queue: queue.to_owned(), rank, candidate, seconds, failures, pod: None };
        self.jobs.insert(uid.to_owned(), job);
    }

    /// Time passes: jobs end, nodes come and go, pods are bound; then one cycle, which keeps to the invariants.
    pub(crate) fn tick(&mut self, seconds: i64) -> Decisions {
        for job in self.jobs.values().filter(|job| job.pod.as_ref().is_some_and(|pod| pod.bound.is_some())) {
            let key = (job.queue.clone(), job.candidate.share.clone());
            *self.used.entry(key).or_default() += (job.candidate.vcpus_milli * seconds) as f64 / 1000.0;
        }
        self.idle.now += SignedDuration::from_secs(seconds);
        self.end_jobs();
        self.nodes_come_and_go();
        self.bind();
        let snapshot = self.snapshot();
        let decisions = schedule(snapshot.clone());
        if let Err(broken) = invariants::check(&snapshot, &decisions) {
            panic!("at {}: {broken}\n{}", snapshot.now, self.told.join("\n"));
        }
        self.apply(&decisions);
        self.bind();
        decisions
    }

    fn end_jobs(&mut self) {
        let now = self.idle.now;
        let is_over = |job: &Job| {
            let since = job.pod.as_ref().and_then(|pod| pod.bound).map(|(_, since)| since);
            since.is_some_and(|since| now.duration_since(since).as_secs() >= job.seconds)
        };
        let over: Vec<_> =
            self.jobs.iter().filter(|(_, job)| is_over(job)).map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            self.note(&uid, Some(now));
            let Some(job) = self.jobs.get_mut(&uid) else { continue };
            if job.failures > 0 {
                (job.failures, job.rank.fresh, job.pod) = (job.failures - 1, false, None);
                self.told.push(format!("{uid} failed and is tried again"));
            } else {
                self.jobs.remove(&uid);
                self.ended += 1;
            }
        }
    }

    /// Notes the use by a job's pod in its queue's ledger.
    fn note(&mut self, uid: &str, until: Option<Timestamp>) {
        let job = &self.jobs[uid];
        let Some((pod, (_, from))) = job.pod.as_ref().and_then(|pod| Some((pod, pod.bound?))) else { return };
        let (share, vcpus_milli) = (job.candidate.share.clone(), job.candidate.vcpus_milli);
        let ledger = ledger(&mut self.ledgers, &job.queue);
        match until {
            None => ledger.begin(&pod.uid, Use { share, vcpus_milli, from }),
            Some(until) => ledger.end(&pod.uid, until),
        }
    }

    fn nodes_come_and_go(&mut self) {
        let (now, free) = (self.idle.now, self.nodes());
        let Some(cloud) = &mut self.cloud else { return };
        let Some(environment) = self.idle.environments.get_mut(&cloud.environment) else { return };
        let come = cloud.coming.iter().filter(|at| **at <= now).count();
        cloud.coming.retain(|at| *at > now);
        for _ in 0..come {
            let index = self.idle.nodes.len();
            let (free, size) = (cloud.node, cloud.node);
            self.idle.nodes.push(NodeRoom {
                name: format!("node-{index}"),
                free,
                size,
                ..NodeRoom::default()
            });
            environment.nodes.push(index);
        }
        environment.nodes.retain(|index| {
            if free.get(*index).is_none_or(|node| node.free != node.size) {
                cloud.idle_since.remove(index);
                return true;
            }
            let since = *cloud.idle_since.entry(*index).or_insert(now);
            now.duration_since(since).as_secs() < cloud.idle
        });
        let waits = |job: &Job| {
            let pod = job.pod.as_ref().filter(|pod| pod.bound.is_none())?;
            (pod.environment == cloud.environment).then_some(job.candidate.pod.cpu_milli)
        };
        let needed: i64 = self.jobs.values().filter_map(waits).sum();
        let nodes = (needed + cloud.node.cpu_milli - 1) / cloud.node.cpu_milli;
        let at_most = cloud.limit.saturating_sub(environment.nodes.len());
        let wanted = usize::try_from(nodes).unwrap_or_default().min(at_most);
        let arrival = now + SignedDuration::from_secs(cloud.delay);
        cloud.coming.extend((cloud.coming.len()..wanted).map(|_| arrival));
    }

    /// The nodes and what is free on them.
    fn nodes(&self) -> Vec<NodeRoom> {
        let mut nodes = self.idle.nodes.clone();
        for job in self.jobs.values() {
            let Some(pod) = &job.pod else { continue };
            let need = job.candidate.requests_in(&self.idle.environments[&pod.environment]);
            pod.bound.iter().for_each(|(node, _)| nodes[*node].free.charge(&need));
        }
        nodes
    }

    /// Pods go to nodes that have room, those of the oldest jobs first.
    fn bind(&mut self) {
        let (mut nodes, now) = (self.nodes(), self.idle.now);
        let mut waiting: Vec<_> = self.jobs.values_mut().collect();
        waiting.retain(|job| job.pod.as_ref().is_some_and(|pod| pod.bound.is_none()));
        waiting.sort_by(|a, b| a.rank.cmp(&b.rank));
        let mut bound = Vec::new();
        for job in waiting {
            let Some(pod) = &mut job.pod else { continue };
            let environment = &self.idle.environments[&pod.environment];
            let need = job.candidate.requests_in(environment);
            if let Some(node) = room::tightest(environment, &nodes, &need, None) {
                nodes[node].free.charge(&need);
                pod.bound = Some((node, now));
                bound.push(job.rank.uid.clone());
            }
        }
        bound.iter().for_each(|uid| self.note(uid, None));
    }

    fn apply(&mut self, decisions: &Decisions) {
        let now = self.idle.now;
        for (uid, verdict) in &decisions.verdicts {
            let Verdict::Admit { environment } = verdict else { continue };
            self.count += 1;
            let Some(job) = self.jobs.get_mut(uid) else { continue };
            let (environment, uid) = (environment.clone(), format!("{uid}-{}", self.count));
            job.pod = Some(Pod { environment, made: now, bound: None, uid });
        }
        for uid in &decisions.withdraw {
            let Some(job) = self.jobs.get_mut(uid) else { continue };
            job.pod = None;
            let late = decisions.short_of.iter().any(|(_, need)| *need == job.candidate.pod);
            let why = if late { "no node came in time" } else { "a better job needs its room" };
            self.told.push(format!("{uid} is withdrawn: {why}"));
        }
        let until = now + SignedDuration::from_secs(SHORT);
        self.short_of.retain(|(_, _, until)| *until > now);
        self.short_of.extend(decisions.short_of.iter().cloned().map(|(name, need)| (name, need, until)));
        let since = |queue: &str, uid: &String| match self.heads.get(queue) {
            Some((known, since)) if known == uid => *since,
            _ => now,
        };
        self.heads = decisions
            .fronts
            .iter()
            .filter_map(|(queue, front)| Some((queue.clone(), front.first()?)))
            .map(|(queue, uid)| (queue.clone(), (uid.clone(), since(&queue, uid))))
            .collect();
    }

    /// What the dispatcher would show to the scheduler.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot { nodes: self.nodes(), ..self.idle.clone() };
        for queue in &mut snapshot.queues {
            queue.head = self.heads.get(&queue.id).cloned();
            let ledger = ledger(&mut self.ledgers, &queue.id);
            for job in self.jobs.values().filter(|job| job.queue == queue.id) {
                match &job.pod {
                    None => queue.waiting.insert(job.rank.clone(), job.candidate.clone()),
                    Some(_) => queue.running += 1,
                }
            }
            usage(queue, ledger, &self.jobs, snapshot.now);
        }
        let priorities: BTreeMap<_, _> =
            snapshot.queues.iter().map(|queue| (queue.id.clone(), queue.priority)).collect();
        for job in self.jobs.values() {
            for (resource, quantity) in job.pod.iter().flat_map(|_| &job.candidate.tokens) {
                snapshot.tokens.entry(resource.clone()).and_modify(|left| *left -= quantity);
            }
            let Some(pod) = &job.pod else { continue };
            let Some(environment) = snapshot.environments.get_mut(&pod.environment) else { continue };
            environment.used_vcpus_milli += job.candidate.vcpus_milli;
            let namespace = job.queue.split_once('/').map_or("", |(namespace, _)| namespace);
            if let Some(tenant) = environment.tenants.as_mut().and_then(|tenants| tenants.get_mut(namespace))
            {
                tenant.used_vcpus_milli += job.candidate.vcpus_milli;
            }
            let Some(provisioned) = environment.provisioned.as_mut().filter(|_| pod.bound.is_none()) else {
                continue;
            };
            provisioned.unbound.push(Unbound {
                key: job.rank.uid.clone(),
                child: None,
                count: 1,
                queue: job.queue.clone(),
                priority: priorities[&job.queue],
                rank: job.rank.clone(),
                vcpus_milli: job.candidate.vcpus_milli,
                pod: job.candidate.pod,
                since: pod.made,
            });
        }
        for (name, need, _) in &self.short_of {
            let environment = snapshot.environments.get_mut(name);
            let provisioned = environment.and_then(|environment| environment.provisioned.as_mut());
            provisioned.into_iter().for_each(|provisioned| provisioned.short_of.push(*need));
        }
        snapshot
    }

    /// How many jobs of a queue wait and how many have a pod.
    pub(crate) fn counts(&self, queue: &str) -> (usize, usize) {
        let of_queue = self.jobs.values().filter(|job| job.queue == queue);
        let (running, waiting): (Vec<_>, Vec<_>) = of_queue.partition(|job| job.pod.is_some());
        (waiting.len(), running.len())
    }
}

fn ledger<'l>(ledgers: &'l mut BTreeMap<String, Ledger>, queue: &str) -> &'l mut Ledger {
    ledgers.entry(queue.to_owned()).or_insert_with(|| Ledger::new(Policy::default().window()))
}

/// The usage of a queue's active shares: those with a job, and those that ran one within the window.
fn usage(queue: &mut Queue, ledger: &mut Ledger, jobs: &BTreeMap<String, Job>, now: Timestamp) {
    let Some(shares) = &mut queue.shares else { return };
    ledger.set_window(shares.policy.window());
    let averages = ledger.averages(now).into_iter();
    shares.active = averages.map(|(share, past_milli)| (share, Usage { now_milli: 0, past_milli })).collect();
    for job in jobs.values().filter(|job| job.queue == queue.id) {
        let usage = shares.active.entry(job.candidate.share.clone()).or_default();
        usage.now_milli += job.pod.iter().map(|_| job.candidate.vcpus_milli).sum::<i64>();
    }
}
