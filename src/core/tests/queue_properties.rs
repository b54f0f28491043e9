//! What holds for every cycle: random snapshots with shares, namespaces, tokens, pods that wait and heads that have
//! waited for long.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/invariants.rs"]
mod invariants;
#[path = "support/stage.rs"]
mod stage;

use batchyard_core::queue::{
    Candidate, Environment, Group, NodeRoom, Policy, Provisioned, Queue, Rank, Shares, Snapshot, Tenant,
    Unbound, Usage, schedule,
};
use cases::config;
use invariants::{admitted, check, line_of, pods};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use stage::{amounts, closed, rank};

const NAMESPACES: [&str; 2] = ["a", "b"];

fn milli(vcpus: std::ops::Range<i64>) -> impl Strategy<Value = i64> {
    vcpus.prop_map(|vcpus| vcpus * 1000)
}

fn tenants() -> impl Strategy<Value = Option<std::collections::BTreeMap<String, Tenant>>> {
    let tenant = (prop::option::of(milli(0..12)), milli(0..8), prop::option::of(0..3i64), 0..4u32);
    let tenant = tenant.prop_map(|(max_vcpus_milli, used_vcpus_milli, max_priority, weight)| Tenant {
        max_vcpus_milli,
        used_vcpus_milli,
        max_priority,
        weight,
    });
    prop::option::of(prop::collection::btree_map(prop::sample::select(&NAMESPACES[..]), tenant, 1..3))
        .prop_map(|tenants| tenants.map(|t| t.into_iter().map(|(name, t)| (name.to_owned(), t)).collect()))
}

/// Nodes that come: a window, pods that wait since so many seconds, a timeout, what no node came for.
fn provisioned() -> impl Strategy<Value = Option<Provisioned>> {
    let pod = (0..4usize, 0..3i64, 1..5i64, 0..20i64, 0..200i64);
    let parts = (1..6usize, 0..2usize, prop::collection::vec(pod, 0..5), any::<bool>());
    prop::option::of((parts, prop::option::of(3..6i64)).prop_map(
        |((window, unseen, pods, timeout), short)| {
            let unbound = pods.into_iter().map(|(queue, priority, vcpus, age, waits)| Unbound {
                key: String::new(),
                child: None,
                count: 1,
                queue: format!("{}/q{queue}", NAMESPACES[queue % 2]),
                priority,
                rank: rank("", true, age),
                vcpus_milli: vcpus * 1000,
                pod: amounts(vcpus, 1, 0, 1),
                since: Timestamp::UNIX_EPOCH - SignedDuration::from_secs(waits),
            });
            Provisioned {
                window,
                unseen,
                unbound: unbound.collect(),
                capacity_timeout: timeout.then(|| SignedDuration::from_secs(100)),
                short_of: short.map(|vcpus| amounts(vcpus, 1, 0, 1)).into_iter().collect(),
                ..Provisioned::default()
            }
        },
    ))
}

fn environment() -> impl Strategy<Value = Environment> {
    let limits = (prop::option::of(milli(0..20)), milli(0..10), any::<bool>(), 0..16u8);
    (limits, tenants(), provisioned()).prop_map(|((max, used, open, members), tenants, provisioned)| {
        Environment {
            closed: (!open && members > 12).then(closed),
            max_vcpus_milli: max,
            unmanaged_vcpus_milli: Some(12_000),
            used_vcpus_milli: used,
            tenants,
            provisioned,
            nodes: (0..4).filter(|node| members & (1 << node) != 0).collect(),
            largest: amounts(8, 8, 0, 9),
            ..Environment::default()
        }
    })
}

fn candidate() -> impl Strategy<Value = (bool, i64, Candidate)> {
    let token = prop::option::of((prop::sample::select(vec!["t/one", "t/two", "t/none"]), 0..4i64));
    let share = prop::sample::select(vec!["x", "y1", "y2"]);
    let gang = prop::option::weighted(0.3, 2..5usize);
    (any::<bool>(), 0..20i64, 1..6i64, token, share, 0..2i64, gang).prop_map(
        |(fresh, age, vcpus, token, share, priority, gang)| {
            let tokens = token.map(|(name, quantity)| (name.to_owned(), quantity)).into_iter().collect();
            let pod = amounts(vcpus, 1, 0, 1);
            let vcpus_milli = vcpus * 1000 * gang.unwrap_or(1) as i64;
            let gang = gang.map(|count| [Group { count, pod, ..Group::default() }].into());
            let share = share.to_owned();
            let job = Candidate { vcpus_milli, pod, share, priority, tokens, gang, ..Candidate::default() };
            (fresh, age, job)
        },
    )
}

fn queue() -> impl Strategy<Value = Queue> {
    let environments = prop::collection::btree_set(0..4usize, 0..4);
    let fair = prop::option::of((0..60u8, 0..9i64, 0..9i64));
    let limits = (prop::option::of(0..5u32), 0..3u32, prop::option::of(0..1200i64));
    (0..3i64, environments, limits, fair, prop::collection::vec(candidate(), 0..5)).prop_map(
        |(priority, environments, (max_running, running, waits), fair, jobs)| {
            let shares = fair.map(|(reservation, now, past)| {
                let distribution = vec![("y*".to_owned(), 0.5)];
                let usage = |vcpus| Usage { now_milli: vcpus * 1000, past_milli: 500.0 };
                let active = [("x", usage(now)), ("y1", usage(past)), ("y2", usage(0))];
                let active = active.into_iter().map(|(share, usage)| (share.to_owned(), usage)).collect();
                Shares { policy: Policy { decay_seconds: 0, reservation, distribution }, active }
            });
            let mut queue = Queue { priority, max_running, running, shares, ..Queue::default() };
            queue.environments = environments.into_iter().map(|index| format!("e{index}")).collect();
            for (number, (fresh, age, job)) in jobs.into_iter().enumerate() {
                queue.waiting.insert(rank(&number.to_string(), fresh, age), job);
            }
            // The age stands for the time for which the job at the head has been there.
            queue.head =
                waits.map(|waits| (String::new(), Timestamp::UNIX_EPOCH - SignedDuration::from_secs(waits)));
            queue
        },
    )
}

/// Any world: names are given to what the parts left without.
fn snapshots() -> impl Strategy<Value = Snapshot> {
    let nodes = prop::collection::vec((-1..9i64, 0..5i64), 4);
    let environments = prop::collection::vec(environment(), 0..4);
    let tokens = (0..5i64, -2..5i64);
    (nodes, environments, prop::collection::vec(queue(), 0..4), tokens).prop_map(
        |(nodes, environments, queues, (one, two))| {
            let mut snapshot = Snapshot::default();
            for (index, (vcpus, pods)) in nodes.into_iter().enumerate() {
                let (free, size) = (amounts(vcpus, 8, 0, pods), amounts(8, 8, 0, 9));
                snapshot.nodes.push(NodeRoom {
                    name: format!("n{index}"),
                    free,
                    size,
                    ..NodeRoom::default()
                });
            }
            for (index, mut environment) in environments.into_iter().enumerate() {
                let pods =
                    environment.provisioned.iter_mut().flat_map(|provisioned| &mut provisioned.unbound);
                for (number, pod) in pods.enumerate() {
                    pod.key = format!("u{index}-{number}");
                    pod.rank.uid = pod.key.clone();
                    environment.used_vcpus_milli += pod.vcpus_milli;
                }
                snapshot.environments.insert(format!("e{index}"), environment);
            }
            for (index, mut queue) in queues.into_iter().enumerate() {
                queue.id = format!("{}/q{index}", NAMESPACES[index % 2]);
                let named = queue.waiting.iter().map(|(rank, job)| {
                    (Rank { uid: format!("q{index}-{}", rank.uid), ..rank.clone() }, job.clone())
                });
                queue.waiting = named.collect();
                let first = line_of(&queue).into_iter().next();
                queue.head = queue.head.zip(first).map(|((_, since), uid)| (uid, since));
                snapshot.queues.push(queue);
            }
            snapshot.tokens = [("t/one".to_owned(), one), ("t/two".to_owned(), two)].into();
            snapshot
        },
    )
}

/// Whether a job that is alone in the world finds room as it is.
fn has_room(snapshot: &Snapshot, queue: &Queue, job: &Candidate) -> bool {
    let has_turn = queue.max_running.is_none_or(|max| queue.running < max);
    let has_tokens =
        job.tokens.iter().all(|(name, n)| snapshot.tokens.get(name).is_some_and(|left| left >= n));
    let mut environments = queue.environments.iter().filter_map(|name| snapshot.environments.get(name));
    has_turn && has_tokens && environments.any(|environment| takes(snapshot, environment, queue, job))
}

fn takes(snapshot: &Snapshot, environment: &Environment, queue: &Queue, job: &Candidate) -> bool {
    let within = |used: i64, max: Option<i64>| max.is_none_or(|max| used + job.vcpus_milli <= max);
    let whole = environment.max_vcpus_milli.or(environment.unmanaged_vcpus_milli);
    let usable = queue.shares.as_ref().zip(whole).map(|(s, whole)| s.policy.usable(whole, s.active.len()));
    let tenant = environment.tenants.as_ref().and_then(|tenants| tenants.get(queue.namespace()));
    // The pods of a multi-node job are alike here: each node takes so many of them.
    let most = |node: &usize| {
        let mut free = snapshot.nodes[*node].free;
        let fitting = std::iter::from_fn(|| job.pod.fits(&free).then(|| free.charge(&job.pod)));
        fitting.take(pods(job)).count()
    };
    let has_place = match &environment.provisioned {
        None => environment.nodes.iter().map(most).sum::<usize>() >= pods(job),
        Some(found) => {
            let timeout = found.capacity_timeout.map_or(i64::MAX, |timeout| timeout.as_secs());
            let is_late = |pod: &&Unbound| snapshot.now.duration_since(pod.since).as_secs() >= timeout;
            let late = found.unbound.iter().filter(is_late).map(|pod| pod.pod);
            let short = found.short_of.iter().copied().chain(late).any(|short| short.fits(&job.pod));
            let waiting = found.unbound.len() + found.unseen;
            !short && (waiting == 0 || waiting + pods(job) <= found.window)
        }
    };
    environment.closed.is_none()
        && within(environment.used_vcpus_milli, environment.max_vcpus_milli)
        && within(environment.used_vcpus_milli, usable)
        && tenant.is_none_or(|tenant| within(tenant.used_vcpus_milli, tenant.max_vcpus_milli))
        && has_place
}

proptest! {
    #![proptest_config(config(1500))]

    /// No limit of an environment, a namespace, a window or a resource is exceeded, nobody is overtaken in a queue,
    /// and what is withdrawn makes way for somebody.
    #[test]
    fn every_decision_keeps_to_the_rules(snapshot in snapshots()) {
        let decisions = schedule(snapshot.clone());
        check(&snapshot, &decisions).map_err(TestCaseError::fail)?;
        prop_assert_eq!(decisions, schedule(snapshot), "the same world, the same decisions");
    }

    #[test]
    fn the_order_of_listing_says_nothing(
        (snapshot, queues) in snapshots().prop_flat_map(|s| (Just(s.clone()), Just(s.queues).prop_shuffle()))
    ) {
        let shuffled = Snapshot { queues, ..snapshot.clone() };
        prop_assert_eq!(schedule(snapshot), schedule(shuffled));
    }

    /// A queue that is alone gets its first job admitted if it fits anywhere, and not if it fits nowhere.
    #[test]
    fn progress(mut snapshot in snapshots()) {
        snapshot.queues.truncate(1);
        let Some(queue) = snapshot.queues.first() else { return Ok(()) };
        let Some(uid) = line_of(queue).into_iter().next() else { return Ok(()) };
        let job = queue.waiting.iter().find(|(rank, _)| rank.uid == uid).map(|(_, job)| job).expect("in line");
        let decisions = schedule(snapshot.clone());
        let goes = admitted(&decisions.verdicts, &uid).is_some();
        // Pods that are late leave places in the window.
        if decisions.short_of.is_empty() {
            prop_assert_eq!(goes, has_room(&snapshot, queue, job), "{}: {:?}", uid, decisions);
        }
    }

    /// Whatever is asked of it, a queue of the highest priority gets the same beside others as alone.
    #[test]
    fn the_highest_priority_is_not_held_back(mut snapshot in snapshots()) {
        snapshot.environments.values_mut().for_each(|environment| environment.tenants = None);
        let Some(first) = snapshot.queues.first_mut() else { return Ok(()) };
        first.priority = 9;
        let alone = Snapshot { queues: vec![first.clone()], ..snapshot.clone() };
        let all = schedule(snapshot.clone());
        let mut own = schedule(alone);
        // Late pods of queues that are left out have nowhere to go; that is not what is asked here.
        if all.short_of == own.short_of {
            own.verdicts.retain(|uid, verdict| all.verdicts.get(uid) != Some(verdict));
            prop_assert!(own.verdicts.is_empty(), "{:?} differ from {:?}", own.verdicts, all.verdicts);
        }
    }
}
