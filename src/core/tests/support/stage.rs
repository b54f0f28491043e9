//! Builds what one scheduling cycle sees, and checks what it decides.

#![allow(dead_code)] // each test target uses a part of it

use std::collections::BTreeMap;

use batchyard_core::queue::{
    Candidate, Decisions, Environment, NodeRoom, Policy, Provisioned, Queue, Rank, Resources, Shares,
    Snapshot, Tenant, Unbound, Usage, Verdict, schedule,
};
use batchyard_core::waits::{Kind, Wait};
use jiff::{SignedDuration, Timestamp};

pub(crate) const GIB: i64 = 1 << 30;
/// A node of 64 vCPUs and 256 GiB.
pub(crate) const BIG: (i64, i64, i64) = (64, 256, 0);

/// A snapshot in the making; jobs are older the earlier they are added.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    pub(crate) snapshot: Snapshot,
    age: i64,
    /// The job that was added last.
    last: Option<Rank>,
}

impl Stage {
    /// An environment and its nodes: vCPUs, GiB and GPUs that are free, and as many when empty.
    pub(crate) fn pool(mut self, name: &str, max: Option<i64>, nodes: &[(i64, i64, i64)]) -> Self {
        let mut environment =
            Environment { max_vcpus_milli: max.map(|v| v * 1000), ..Environment::default() };
        for (vcpus, gib, gpus) in nodes {
            let free = amounts(*vcpus, *gib, *gpus, 10);
            environment.nodes.push(self.snapshot.nodes.len());
            environment.largest = environment.largest.max(&free);
            let name = format!("{name}-{}", self.snapshot.nodes.len());
            self.snapshot.nodes.push(NodeRoom { name, free, size: free, ..NodeRoom::default() });
        }
        self.snapshot.environments.insert(name.to_owned(), environment);
        self
    }

    pub(crate) fn change(mut self, pool: &str, change: impl FnOnce(&mut Environment)) -> Self {
        change(self.snapshot.environments.get_mut(pool).expect("known"));
        self
    }

    /// Every node takes so many pods.
    pub(crate) fn pods(mut self, pods: i64) -> Self {
        self.snapshot.nodes.iter_mut().for_each(|node| (node.free.pods, node.size.pods) = (pods, pods));
        self
    }

    /// Other pods take this much of a node.
    pub(crate) fn taken(mut self, node: usize, vcpus: i64, gib: i64, gpus: i64) -> Self {
        self.snapshot.nodes[node].free.charge(&amounts(vcpus, gib, gpus, 1));
        self
    }

    pub(crate) fn queue(mut self, id: &str, priority: i64, environments: &[&str]) -> Self {
        let environments = environments.iter().map(|e| (*e).to_owned()).collect();
        self.snapshot.queues.push(Queue { id: id.to_owned(), priority, environments, ..Queue::default() });
        self
    }

    pub(crate) fn limit(mut self, running: u32, max: u32) -> Self {
        let queue = self.last_queue();
        (queue.running, queue.max_running) = (running, Some(max));
        self
    }

    /// A job in the last queue.
    pub(crate) fn job(self, uid: &str, vcpus: i64) -> Self {
        self.candidate(uid, true, vcpus, 1, 0)
    }

    pub(crate) fn retried(self, uid: &str, vcpus: i64) -> Self {
        self.candidate(uid, false, vcpus, 1, 0)
    }

    pub(crate) fn candidate(mut self, uid: &str, fresh: bool, vcpus: i64, gib: i64, gpus: i64) -> Self {
        self.age += 1;
        let rank = rank(uid, fresh, self.age);
        let job = Candidate {
            vcpus_milli: vcpus * 1000,
            pod: amounts(vcpus, gib, gpus, 1),
            ..Candidate::default()
        };
        self.last_queue().waiting.insert(rank.clone(), job);
        self.last = Some(rank);
        self
    }

    /// An environment to which nodes come, where so many pods may wait for them.
    pub(crate) fn provisioned(self, name: &str, max: i64, window: usize) -> Self {
        let provisioned = Some(Provisioned { window, ..Provisioned::default() });
        self.pool(name, Some(max), &[]).change(name, |e| e.provisioned = provisioned)
    }

    /// A pod of so many vCPUs that has waited for a node since so many seconds; jobs of less age are younger.
    pub(crate) fn unbound(mut self, pool: &str, uid: &str, queue: &str, vcpus: i64, seconds: i64) -> Self {
        self.age += 1;
        let now = self.snapshot.now;
        let owner = self.snapshot.queues.iter().find(|known| known.id == queue).expect("known");
        let rank = rank(uid, true, self.age);
        let environment = self.snapshot.environments.get_mut(pool).expect("known");
        environment.used_vcpus_milli += vcpus * 1000;
        environment.provisioned.as_mut().expect("provisioned").unbound.push(Unbound {
            key: uid.to_owned(),
            child: None,
            count: 1,
            queue: queue.to_owned(),
            priority: owner.priority,
            rank,
            vcpus_milli: vcpus * 1000,
            pod: amounts(vcpus, 1, 0, 1),
            since: now - SignedDuration::from_secs(seconds),
        });
        self
    }

    /// What an environment says of a namespace.
    pub(crate) fn tenant(self, pool: &str, namespace: &str, tenant: Tenant) -> Self {
        let namespace = namespace.to_owned();
        self.change(pool, |e| {
            e.tenants.get_or_insert_default().insert(namespace, tenant);
        })
    }

    /// So much is left of a ConsumableResource.
    pub(crate) fn tokens(mut self, resource: &str, left: i64) -> Self {
        self.snapshot.tokens.insert(resource.to_owned(), left);
        self
    }

    pub(crate) fn last_queue(&mut self) -> &mut Queue {
        self.snapshot.queues.last_mut().expect("a queue")
    }

    /// The last queue divides its room among shares, of which none is active yet.
    pub(crate) fn fair(mut self, policy: Policy) -> Self {
        self.last_queue().shares = Some(Shares { policy, ..Shares::default() });
        self
    }

    /// What a share of the last queue uses.
    pub(crate) fn usage(mut self, share: &str, now: i64, past: f64) -> Self {
        let usage = Usage { now_milli: now * 1000, past_milli: past * 1000.0 };
        self.last_queue().shares.as_mut().expect("fair").active.insert(share.to_owned(), usage);
        self
    }

    /// The last job is in a share, which is active from now on.
    pub(crate) fn of_share(mut self, share: &str) -> Self {
        let shares = self.last_queue().shares.as_mut().expect("fair");
        shares.active.entry(share.to_owned()).or_default();
        self.edit(|job| job.share = share.to_owned())
    }

    /// The last job takes tokens.
    pub(crate) fn takes(self, resource: &str, quantity: i64) -> Self {
        self.edit(|job| job.tokens.push((resource.to_owned(), quantity)))
    }

    /// Changes the last job.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Candidate)) -> Self {
        let rank = self.last.clone().expect("a job");
        let waiting = &mut self.last_queue().waiting;
        let mut job = waiting.get(&rank).expect("in the last queue").clone();
        change(&mut job);
        waiting.insert(rank, job);
        self
    }

    /// The first job of the last queue has been its head for so many seconds.
    pub(crate) fn head_since(mut self, seconds: i64) -> Self {
        let since = self.snapshot.now - SignedDuration::from_secs(seconds);
        let queue = self.last_queue();
        queue.head = queue.waiting.ranks().next().map(|rank| (rank.uid.clone(), since));
        self
    }

    pub(crate) fn schedule(&self) -> Decisions {
        schedule(self.snapshot.clone())
    }

    /// The jobs that are admitted, in the order of their uids.
    pub(crate) fn admitted(&self) -> Vec<String> {
        let verdicts = self.schedule().verdicts.into_iter();
        verdicts.filter(|(_, verdict)| matches!(verdict, Verdict::Admit { .. })).map(|(uid, _)| uid).collect()
    }

    /// The environment of each job that is admitted; why the head of a queue waits.
    pub(crate) fn verdicts(&self) -> BTreeMap<String, String> {
        let verdicts = schedule(self.snapshot.clone()).verdicts.into_iter();
        verdicts
            .map(|(uid, verdict)| match verdict {
                Verdict::Admit { environment } => (uid, environment),
                Verdict::Wait(wait) => (uid, wait.text),
            })
            .collect()
    }

    /// Checks where jobs go; `None` for those that wait.
    #[track_caller]
    pub(crate) fn places(&self, want: &[(&str, Option<&str>)]) {
        let verdicts = self.verdicts();
        for (uid, place) in want {
            let got = verdicts.get(*uid).map_or("Waiting for its turn", String::as_str);
            let waits = got.starts_with("Waiting") || got.starts_with("MISCONFIGURATION");
            assert!(place.map_or(waits, |place| place == got), "{uid}: wanted {place:?}, got {got:?}");
        }
        assert!(verdicts.keys().all(|uid| want.iter().any(|(known, _)| known == uid)), "{verdicts:?}");
    }

    #[track_caller]
    pub(crate) fn says(&self, uid: &str, want: &str) {
        assert_eq!(self.verdicts()[uid], want);
    }
}

pub(crate) fn rank(uid: &str, fresh: bool, age: i64) -> Rank {
    let created_at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(age);
    Rank { fresh, created_at, sequence: 0, uid: uid.to_owned() }
}

pub(crate) fn amounts(vcpus: i64, gib: i64, gpus: i64, pods: i64) -> Resources {
    Resources { cpu_milli: vcpus * 1000, memory: gib * GIB, gpus, pods }
}

pub(crate) fn one_vcpu() -> Candidate {
    Candidate { vcpus_milli: 1000, pod: amounts(1, 1, 0, 1), ..Candidate::default() }
}

pub(crate) fn closed() -> Wait {
    Wait { kind: Kind::ComputeEnvironment, text: "Waiting for it to open".to_owned() }
}
