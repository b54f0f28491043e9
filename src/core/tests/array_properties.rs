//! What holds for arrays whatever happens: random fates of children, in any order of events, with an operator that
//! stops anywhere (`support/array_world.rs`, where every effect is checked). What all children come to is compared
//! with a naive evaluator, which knows nothing of events.

#[path = "support/array_world.rs"]
mod array_world;
#[path = "support/cases.rs"]
mod cases;
#[path = "support/sim_cluster.rs"]
mod sim_cluster;

use std::cell::Cell;
use std::collections::BTreeMap;

use array_world::{World, key};
use batchyard_core::array::{Array, ChildOrder, Counterparts, Order};
use batchyard_core::job::decide::{Deletion, MAX_REJECTIONS};
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{IntentKind, Record, RetryAction};
use batchyard_core::job::retry::{EvaluateOnExit, RetryStrategy};
use batchyard_core::pod::ContainerState;
use batchyard_core::reason;
use cases::config;
use jiff::SignedDuration;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use sim_cluster::Cluster;

const NOT_FOUND: &str = "failed to resolve reference \"docker.io/library/x:latest\": not found";
/// Far more than all that passes in a test.
const TIMEOUT: SignedDuration = SignedDuration::from_hours(1);
/// The exit code that the strategy does not retry.
const FATAL: i32 = 3;

/// What becomes of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Exits(i32),
    /// It runs for longer than it may.
    Overruns,
    /// Its node goes while it runs.
    LosesItsNode,
    /// Somebody deletes it while it runs.
    IsDeleted,
    /// Its image does not exist.
    HasNoImage,
    /// Its node refuses it.
    IsRefused,
    /// It is taken back before it has a node.
    IsWithdrawn,
}

/// An array, what becomes of each pod of each child, and of the array that it waits for.
#[derive(Clone, Debug)]
struct Story {
    order: Order,
    members: Vec<u32>,
    fates: Vec<Vec<Fate>>,
    /// How the children of another array end, if these wait for them one by one.
    counterparts: Option<Vec<bool>>,
    attempts: u32,
    has_rule: bool,
    tolerated: u64,
    /// Children that are terminated before anything begins.
    unwanted: Vec<u32>,
    room: usize,
    /// How much the operator does in one look.
    steps: usize,
    strict_fencing: bool,
}

/// What befalls a node.
type Deed = fn(&mut Cluster, &str) -> Result<(), String>;

/// What happens next; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    /// The operator looks at all children.
    Look,
    /// It looks at some.
    Glance(Vec<u32>),
    /// The dispatcher makes pods.
    Dispatch,
    /// The pod of a child goes on to its fate.
    GoOn(usize),
    /// A child of the other array ends.
    CounterpartEnds(usize),
    /// Creates take their time from now on, or no more.
    Slow(bool),
    /// Creates are answered.
    Answer,
    /// The operator stops before this many effects, and starts anew at once.
    Crash(usize),
    /// Seconds pass.
    Wait(i64),
    /// An order to end some children.
    Order(IntentKind, Vec<u32>),
    /// Somebody deletes the pod of a child.
    Delete(usize, bool),
    /// Something befalls the node of a child's pod.
    Befall(usize, Deed),
    /// The pods of the array are refused from now on.
    Refuse,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Exits(0)),
        4 => prop::sample::select(vec![1, 2, FATAL, 137]).prop_map(Fate::Exits),
        4 => prop::sample::select(vec![
            Fate::Overruns,
            Fate::LosesItsNode,
            Fate::IsDeleted,
            Fate::HasNoImage,
            Fate::IsRefused,
            Fate::IsRefused,
            Fate::IsWithdrawn,
        ]),
    ]
}

fn story() -> impl Strategy<Value = Story> {
    let order = prop::sample::select(vec![
        Order::Any,
        Order::Any,
        Order::Sequential,
        Order::SequentialDespiteFailures,
    ]);
    let children = prop::collection::btree_map(0..12u32, prop::collection::vec(fate(), 0..9), 1..7);
    let counterparts = prop::option::of(prop::collection::vec(prop::bool::weighted(0.8), 12));
    let unwanted = prop::collection::vec(0..12u32, 0..2);
    let limits = (1..4u32, any::<bool>(), 0..3u64, 1..5usize, any::<bool>());
    // One pod may need two: a forced deletion is repeated until the pod is released.
    let steps = prop::sample::select(vec![2, 3, 256]);
    (order, children, counterparts, unwanted, limits, steps).prop_map(
        |(
            order,
            children,
            counterparts,
            unwanted,
            (attempts, has_rule, tolerated, room, strict_fencing),
            steps,
        )| {
            let (members, fates) = children.into_iter().unzip();
            Story {
                order,
                members,
                fates,
                counterparts,
                attempts,
                has_rule,
                tolerated,
                unwanted,
                room,
                steps,
                strict_fencing,
            }
        },
    )
}

/// What happens without changing what children come to.
fn course() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Look),
        5 => prop::collection::vec(0..12u32, 0..9).prop_map(Event::Glance),
        6 => Just(Event::Dispatch),
        12 => any::<usize>().prop_map(Event::GoOn),
        3 => any::<usize>().prop_map(Event::CounterpartEnds),
        1 => any::<bool>().prop_map(Event::Slow),
        2 => Just(Event::Answer),
        4 => (0..4usize).prop_map(Event::Crash),
        2 => (1..6i64).prop_map(Event::Wait),
    ]
}

/// What does change it.
fn trouble() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![IntentKind::Cancel, IntentKind::Terminate]);
    let deeds: Vec<Deed> = vec![Cluster::remove_node, Cluster::drain, Cluster::power_off];
    let deed = prop::sample::select(deeds);
    prop_oneof![
        30 => course(),
        2 => (kind, prop::collection::vec(0..12u32, 1..8)).prop_map(|(kind, named)| Event::Order(kind, named)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(child, forced)| Event::Delete(child, forced)),
        2 => (any::<usize>(), deed).prop_map(|(child, deed)| Event::Befall(child, deed)),
        1 => prop::bool::weighted(0.2).prop_map(|refuse| if refuse { Event::Refuse } else { Event::Look }),
    ]
}

impl Story {
    fn strategy(&self) -> RetryStrategy {
        let rule = EvaluateOnExit {
            on_status_reason: None,
            on_reason: None,
            on_exit_code: Some(FATAL.to_string()),
            action: RetryAction::Exit,
        };
        let evaluate_on_exit = self.has_rule.then_some(rule).into_iter().collect();
        RetryStrategy { attempts: self.attempts, evaluate_on_exit }
    }

    fn world(&self) -> World {
        let unwanted = (!self.unwanted.is_empty()).then(|| ChildOrder {
            indexes: self.unwanted.iter().copied().collect(),
            kind: IntentKind::Terminate,
            reason: "unwanted".to_owned(),
        });
        let mut cluster = Cluster::default();
        cluster.now += SignedDuration::from_hours(24);
        World {
            cluster,
            array: Array {
                strategy: self.strategy(),
                timeout: Some(TIMEOUT),
                orders: unwanted.into_iter().collect(),
                refused: None,
            },
            order: self.order,
            members: self.members.iter().copied().collect(),
            counterparts: self.counterparts.as_ref().map(|_| Counterparts::default()),
            room: self.room,
            steps: self.steps,
            strict_fencing: self.strict_fencing,
            ..World::default()
        }
    }

    fn fate(&self, index: u32, pod: usize) -> Fate {
        let child = self.members.iter().position(|member| *member == index);
        child.and_then(|child| self.fates[child].get(pod)).copied().unwrap_or(Fate::Exits(0))
    }

    /// How one child ends that is let alone: its attempts, its phase.
    fn alone(&self, index: u32) -> (usize, Phase) {
        let (mut attempts, mut refusals) = (0, 0);
        for pod in 0.. {
            match self.fate(index, pod) {
                Fate::IsWithdrawn => continue,
                Fate::IsRefused if refusals < MAX_REJECTIONS => {
                    refusals += 1;
                    continue;
                }
                Fate::Exits(0) => return (attempts + 1, Phase::Succeeded),
                Fate::Overruns => return (attempts + 1, Phase::Failed),
                Fate::Exits(FATAL) if self.has_rule => return (attempts + 1, Phase::Failed),
                Fate::Exits(_)
                | Fate::LosesItsNode
                | Fate::IsDeleted
                | Fate::HasNoImage
                | Fate::IsRefused => {
                    (attempts, refusals) = (attempts + 1, 0);
                }
            }
            if attempts == self.attempts as usize {
                return (attempts, Phase::Failed);
            }
        }
        unreachable!("pods without a fate exit with 0")
    }

    /// How all children end, one after another: attempts and phase.
    fn naive(&self) -> BTreeMap<u32, (usize, Phase)> {
        let mut ends = BTreeMap::new();
        let mut one_failed = false;
        for index in self.members.iter().copied() {
            let counterpart = self.counterparts.as_ref().is_none_or(|ends| ends[index as usize]);
            let is_doomed = !counterpart || one_failed && self.order == Order::Sequential;
            let is_unwanted = self.unwanted.contains(&index);
            let end = if is_unwanted || is_doomed { (0, Phase::Failed) } else { self.alone(index) };
            one_failed |= end.1 == Phase::Failed;
            ends.insert(index, end);
        }
        ends
    }

    fn naive_outcome(&self) -> Phase {
        let failed = self.naive().values().filter(|(_, phase)| *phase == Phase::Failed).count() as u64;
        if failed > self.tolerated { Phase::Failed } else { Phase::Succeeded }
    }
}

/// The pod of a child goes one step on; false if it has none, or waits for others.
fn go_on(world: &mut World, story: &Story, index: u32) -> bool {
    let Some(pod) = world.pod(index) else { return false };
    let (child, view) = (key(index), &pod.view);
    let fate = story.fate(index, world.made[&index] - 1);
    let cluster = &mut world.cluster;
    let Some(node) = view.node_name.clone() else {
        if view.gated || view.deleted_at.is_some() {
            return false;
        }
        if fate == Fate::IsWithdrawn {
            return cluster.delete(&view.name, &view.uid, Deletion::IfUnbound);
        }
        let node = format!("node-of-{}", view.name);
        cluster.add_node(&node, 1, "pool");
        return cluster.bind(&child, &node).is_ok();
    };
    match (pod.runs(), view.deleted_at, fate) {
        (true, Some(_), Fate::IsDeleted) => cluster.exit(&child, 143).is_ok(),
        (true, Some(_), _) => cluster.exit(&child, [0, 137, 143][index as usize % 3]).is_ok(),
        (false, Some(_), _) => cluster.stop_unstarted(&child).is_ok(),
        (false, None, Fate::HasNoImage) => cluster.pull_fails(&child, NOT_FOUND).is_ok(),
        (false, None, Fate::IsRefused) => cluster.reject(&child, "OutOfcpu").is_ok(),
        (false, None, Fate::Overruns) => start_long_ago(cluster, &child, &view.name),
        (false, None, _) => cluster.start(&child).is_ok(),
        (true, None, Fate::Exits(code)) => cluster.exit(&child, code).is_ok(),
        (true, None, Fate::LosesItsNode) => cluster.remove_node(&node).is_ok(),
        (true, None, Fate::IsDeleted) => cluster.delete(&view.name, &view.uid, Deletion::Graceful),
        (true, None, Fate::Overruns) => false,
        (true, None, Fate::HasNoImage | Fate::IsRefused | Fate::IsWithdrawn) => {
            unreachable!("{index}: a pod runs that was not to")
        }
    }
}

/// By the clock of its node.
fn start_long_ago(cluster: &mut Cluster, child: &str, pod: &str) -> bool {
    let started_at = Some(cluster.now - TIMEOUT);
    let starts = cluster.start(child).is_ok();
    let pod = cluster.pods.get_mut(pod).filter(|_| starts);
    pod.map(|pod| pod.view.containers[0].state = ContainerState::Running { started_at }).is_some()
}

fn counterpart_ends(world: &mut World, story: &Story, index: u32) {
    let Some((others, ends)) = world.counterparts.as_mut().zip(story.counterparts.as_ref()) else { return };
    match ends[index as usize] {
        true => others.succeeded.insert(index),
        false => others.failed.insert(index),
    };
}

fn play(world: &mut World, story: &Story, event: &Event) {
    let child = |number: usize| story.members[number % story.members.len()];
    match event {
        Event::Look => _ = world.look(None),
        Event::Glance(some) => _ = world.look(Some(&some.iter().copied().collect())),
        Event::Dispatch => _ = world.dispatch(),
        Event::GoOn(number) => _ = go_on(world, story, child(*number)),
        Event::CounterpartEnds(number) => counterpart_ends(world, story, (*number % 12) as u32),
        Event::Slow(slow) => world.slow = *slow,
        Event::Answer => _ = world.answer(),
        Event::Crash(effects) => world.crash_in = Some(*effects),
        Event::Wait(seconds) => world.wait(*seconds),
        Event::Order(kind, named) => {
            let (indexes, reason) = (named.iter().copied().collect(), format!("{kind:?}"));
            world.array.orders.push(ChildOrder { indexes, kind: *kind, reason });
        }
        Event::Delete(number, forced) => {
            let Some(pod) = world.pod(child(*number)) else { return };
            let how = if *forced { Deletion::Forced } else { Deletion::Graceful };
            world.cluster.delete(&pod.view.name, &pod.view.uid, how);
        }
        Event::Befall(number, deed) => {
            let node = world.pod(child(*number)).and_then(|pod| pod.view.node_name);
            node.into_iter().for_each(|node| _ = deed(&mut world.cluster, &node));
        }
        Event::Refuse => world.array.refused = Some("no".to_owned()),
    }
}

/// Everything that is to come comes.
fn settle(world: &mut World, story: &Story) {
    world.slow = false;
    (0..12).for_each(|index| counterpart_ends(world, story, index));
    world.cluster.nodes.retain(|_, node| node.powered);
    for _ in 0..400 {
        world.answer();
        for looks in 0.. {
            if !world.look(None) {
                break;
            }
            assert!(looks < 60, "it never comes to rest: {:?}", world.stored);
        }
        world.dispatch();
        if world.children().have_ended() && world.cluster.pods.values().all(|pod| !pod.is_live()) {
            assert!(world.cluster.pods.values().all(|pod| !pod.view.held), "a pod is held for ever");
            return;
        }
        story.members.iter().for_each(|index| _ = go_on(world, story, *index));
        world.cluster.collect_garbage();
        world.wait(10);
    }
    panic!("children never end: {:?}\n{:?}", world.stored, world.cluster.pods);
}

/// Plays a story and settles it.
fn tell(story: &Story, events: &[Event]) -> World {
    let mut world = story.world();
    for event in events {
        play(&mut world, story, event);
    }
    settle(&mut world, story);
    world
}

fn runner(normal: u32) -> proptest::test_runner::TestRunner {
    proptest::test_runner::TestRunner::new(ProptestConfig { max_shrink_iters: 4_000, ..config(normal) })
}

/// Whatever order events have and wherever the operator stops, children come to what a naive evaluator says, which
/// looks at one after another.
#[test]
fn an_array_comes_to_the_same_in_any_order_of_events() {
    let (crashes, effects, failed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let events = prop::collection::vec(course(), 0..150);
    let told = runner(700).run(&(story(), events), |(story, events)| {
        let world = tell(&story, &events);
        let came_to = |record: &Record| (record.attempts.len(), record.phase());
        let ends: BTreeMap<_, _> = world.stored.iter().map(|(index, r)| (*index, came_to(r))).collect();
        prop_assert_eq!(&ends, &story.naive());
        let outcome = world.children().outcome(story.tolerated);
        prop_assert_eq!(outcome, Some(story.naive_outcome()));
        crashes.set(crashes.get() + world.crashes);
        effects.set(effects.get() + world.effects);
        failed.set(failed.get() + usize::from(outcome == Some(Phase::Failed)));
        Ok(())
    });
    println!("{} effects, {} crashes, {} arrays failed", effects.get(), crashes.get(), failed.get());
    told.unwrap_or_else(|why| panic!("{why}"));
}

/// The same, with an operator that stops before every single effect of one course of events.
#[test]
fn a_crash_anywhere_changes_nothing_for_an_array() {
    let points = Cell::new(0);
    let events = prop::collection::vec(course(), 0..60);
    let told = runner(60).run(&(story(), events), |(story, mut events)| {
        events.retain(|event| !matches!(event, Event::Crash(_)));
        let undisturbed = tell(&story, &events).effects;
        for effect in 0..undisturbed {
            let mut world = story.world();
            world.crash_in = Some(effect);
            events.iter().for_each(|event| play(&mut world, &story, event));
            settle(&mut world, &story);
            prop_assert_eq!(world.crashes, 1);
            points.set(points.get() + world.crashes);
            let ends = world.stored.iter().map(|(index, r)| (*index, (r.attempts.len(), r.phase())));
            prop_assert_eq!(ends.collect::<BTreeMap<_, _>>(), story.naive(), "before effect {}", effect);
        }
        Ok(())
    });
    println!("{} crash points", points.get());
    told.unwrap_or_else(|why| panic!("{why}"));
}

/// Orders, deletions, lost nodes and refusals come at any time: every child ends once, for a reason that there is, and
/// the array as they did.
#[test]
fn every_child_ends_once_whatever_happens() {
    let (ended, crashes) = (Cell::new(0), Cell::new(0));
    let events = prop::collection::vec(trouble(), 0..150);
    let told = runner(700).run(&(story(), events), |(story, events)| {
        let world = tell(&story, &events);
        let all: RoaringBitmap = world.stored.keys().copied().collect();
        prop_assert_eq!(&all, &world.members);
        for (index, record) in &world.stored {
            prop_assert!(is_explained(&world, *index, record), "{}: {:?}", index, record);
        }
        let failed = world.stored.values().filter(|record| record.phase() == Phase::Failed).count() as u64;
        let want = if failed > story.tolerated { Phase::Failed } else { Phase::Succeeded };
        prop_assert_eq!(world.children().outcome(story.tolerated), Some(want));
        ended.set(ended.get() + world.stored.len());
        crashes.set(crashes.get() + world.crashes);
        Ok(())
    });
    println!("{} children ended, {} crashes", ended.get(), crashes.get());
    told.unwrap_or_else(|why| panic!("{why}"));
}

/// Whether there is what a child is said to have ended for.
fn is_explained(world: &World, index: u32, record: &Record) -> bool {
    let last = record.attempts.last();
    let reason = record.status_reason.as_deref();
    if record.phase() == Phase::Succeeded {
        return last.is_some_and(|attempt| attempt.container.exit_code == Some(0));
    }
    let ordered = |kind| {
        let mut orders = world.array.orders.iter();
        orders.any(|o| o.kind == kind && o.indexes.contains(index) && Some(o.reason.as_str()) == reason)
    };
    match (record.is_cancelled, record.is_terminated) {
        (Some(true), None) => return ordered(IntentKind::Cancel),
        (None, Some(true)) => return ordered(IntentKind::Terminate),
        (None, None) => {}
        _ => return false,
    }
    let failed = |other: &u32| world.stored[other].phase() == Phase::Failed;
    match reason {
        Some(reason::DEPENDENT_FAILED) => {
            let counterpart = world.counterparts.as_ref().is_some_and(|o| o.failed.contains(index));
            let mut before = world.stored.keys().take_while(|other| **other < index);
            let is_first = last.is_none() && record.placements.is_empty();
            is_first && (counterpart || world.order == Order::Sequential && before.any(failed))
        }
        Some("no") => world.array.refused.is_some(),
        Some(reason::TIMED_OUT) => last.is_some(),
        _ => {
            let exits = last.and_then(|attempt| attempt.decision.as_ref()).map(|d| d.action);
            exits == Some(RetryAction::Exit)
        }
    }
}
