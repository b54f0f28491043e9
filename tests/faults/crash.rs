//! The operator is killed before each of its writes, after each, and between the write and its
//! answer. What becomes of each story is what becomes of it undisturbed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::arena::{Arena, Told, undisturbed};
use crate::proxy::{Fault, Moment, Request};
use crate::stories::{self, Story};

/// A place in a story at which the operator dies.
#[derive(Clone, Debug)]
struct Point {
    story: Story,
    /// Before, between or after this write of the story, from 1.
    write: usize,
    moment: Moment,
}

/// What is still to happen in each namespace.
#[derive(Clone, Default)]
struct Plot(Arc<Mutex<HashMap<String, Planned>>>);

#[derive(Default)]
struct Planned {
    writes: usize,
    at: Option<(usize, Moment)>,
    struck: Option<String>,
}

impl Plot {
    fn arrange(&self, namespace: &str, point: &Point) {
        let at = Some((point.write, point.moment));
        self.lock().insert(namespace.to_owned(), Planned { at, ..Planned::default() });
    }

    /// Counts the writes of each namespace, and strikes once in each.
    fn decide(&self, request: &Request) -> Fault {
        let mut planned = self.lock();
        let Some(planned) = planned.get_mut(&request.namespace).filter(|_| request.is_write()) else {
            return Fault::None;
        };
        planned.writes += 1;
        match planned.at {
            Some((write, moment)) if planned.writes == write && planned.struck.is_none() => {
                planned.struck = Some(format!("{} {}", request.method, request.resource));
                Fault::Kill(moment)
            }
            _ => Fault::None,
        }
    }

    /// At which write it struck, if it did.
    fn struck(&self, namespace: &str) -> Option<String> {
        self.lock().get(namespace)?.struck.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All points of all stories.
fn points(undisturbed: &BTreeMap<&'static str, Told>) -> Vec<Point> {
    let of_story = |story: Story| {
        let writes = undisturbed.get(story.name).map_or(0, |told| told.writes);
        let moments = [Moment::Before, Moment::Between, Moment::After];
        (1..=writes).flat_map(move |write| {
            let story = story.clone();
            moments.map(move |moment| Point { story: story.clone(), write, moment })
        })
    };
    stories::all().into_iter().flat_map(of_story).collect()
}

/// Every `nth` point, from a start that differs from day to day.
fn sample(points: Vec<Point>, nth: usize) -> Vec<Point> {
    let today = jiff::Timestamp::now().as_second() / 86_400;
    let start = usize::try_from(today).unwrap_or(0) % nth;
    points.into_iter().skip(start).step_by(nth).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a2_a3_killed_at_any_write_the_operator_comes_to_the_same_end() {
    let expected = undisturbed().await;
    let all = points(expected);
    let (total, nth) = (all.len(), if std::env::var_os("BATCHYARD_LONG").is_some() { 1 } else { SAMPLE });
    let points = sample(all, nth);
    let mut struck = 0;
    for batch in points.chunks(BATCH) {
        struck += explore(batch, expected).await;
        println!("crash points: {struck} explored of {total} in {} stories", expected.len());
    }
    // A story that needs fewer writes than undisturbed leaves its last points out.
    assert!(struck * 10 >= points.len() * 8, "only {struck} of {} points were reached", points.len());
}

/// Kills the operator at these points; returns how many of them were reached.
async fn explore(points: &[Point], expected: &BTreeMap<&'static str, Told>) -> usize {
    let arena = Arena::with_operator("crash").await;
    let plot = Plot::default();
    let decide = plot.clone();
    arena.proxy.plan(move |request| decide.decide(request));
    let outcomes = arena
        .play(points.iter().map(|point| point.story.clone()), |number, namespace| {
            plot.arrange(namespace, &points[number]);
        })
        .await;
    let mut struck = 0;
    for (point, outcome) in points.iter().zip(&outcomes) {
        let at = plot.struck(&outcome.namespace);
        struck += usize::from(at.is_some());
        assert_eq!(
            outcome.essence, expected[point.story.name].essence,
            "{}: killed {:?} write {} ({at:?}) in {}",
            point.story.name, point.moment, point.write, outcome.namespace
        );
    }
    arena.close_in_peace().await;
    struck
}

/// How many points share a cluster: what is left of earlier ones must not slow an operator that is
/// killed every few seconds.
const BATCH: usize = 150;
/// Of how many points one is tried unless all are asked for.
const SAMPLE: usize = 8;
