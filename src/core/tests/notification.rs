//! Notifications: which follow from a job's record, who wants them, what waits, and what answers mean.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/notified.rs"]
mod notified;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Attempt, Current, Placement, Record, RetryAction};
use batchyard_core::notification::delivery::{Answer, LONGEST, http, mark, pause, smtp};
use batchyard_core::notification::moment::{Moment, Seen, Told, What, moments};
use batchyard_core::notification::outbox::{Limits, Outbox};
use batchyard_core::notification::rule::{Rule, matches};
use jiff::SignedDuration;
use notified::{at, ended, moment, record};
use proptest::prelude::*;

fn seen(record: &Record) -> Seen<'_> {
    Seen { record, is_array: false, session_ready_at: None }
}

/// Moments as words: `RUNNING 1 @30`, with a tilde before one that has passed.
fn words(moments: &[Moment]) -> Vec<String> {
    let word = |m: &Moment| {
        let passed = if m.passed { "~" } else { "" };
        format!("{passed}{} {} @{}", m.what.as_str(), m.attempt, m.at.as_second() - 1_000_000)
    };
    moments.iter().map(word).collect()
}

fn current(bound: i64, started: Option<i64>) -> Option<Current> {
    Some(Current {
        attempt: 1,
        node_name: Some("n".into()),
        bound_at: Some(at(bound)),
        started_at: started.map(at),
        ..Current::default()
    })
}

#[test]
fn what_a_record_shows() {
    let table: Vec<(&str, Record, &[&str])> = vec![
        ("nothing is told of a submission", record(Phase::Submitted), &[]),
        ("a wait for others", record(Phase::Pending), &["PENDING 0 @0"]),
        (
            "a turn to wait for",
            Record { runnable_at: Some(at(3)), ..record(Phase::Runnable) },
            &["RUNNABLE 1 @3"],
        ),
        (
            "a node",
            Record { runnable_at: Some(at(3)), current: current(7, None), ..record(Phase::Starting) },
            &["~RUNNABLE 1 @3", "STARTING 1 @7"],
        ),
        (
            "a container",
            Record { runnable_at: Some(at(3)), current: current(7, Some(9)), ..record(Phase::Running) },
            &["~RUNNABLE 1 @3", "~STARTING 1 @7", "RUNNING 1 @9"],
        ),
        (
            "an end, all else unseen",
            Record {
                runnable_at: Some(at(3)),
                stopped_at: Some(at(12)),
                attempts: vec![ended(1, Some(9), 12, RetryAction::Exit)],
                ..record(Phase::Succeeded)
            },
            &["~RUNNABLE 1 @0", "~STARTING 1 @9", "~RUNNING 1 @9", "SUCCEEDED 1 @12"],
        ),
        (
            "an attempt that never started",
            Record {
                stopped_at: Some(at(12)),
                attempts: vec![ended(1, None, 12, RetryAction::Exit)],
                ..record(Phase::Failed)
            },
            &["~RUNNABLE 1 @0", "FAILED 1 @12"],
        ),
        (
            "a retry",
            Record {
                runnable_at: Some(at(12)),
                attempts: vec![ended(1, Some(9), 12, RetryAction::Retry)],
                ..record(Phase::Runnable)
            },
            &["~RUNNABLE 1 @0", "~STARTING 1 @9", "~RUNNING 1 @9", "RUNNABLE 2 @12"],
        ),
        (
            "ended on demand while it waited for its retry",
            Record {
                runnable_at: Some(at(12)),
                stopped_at: Some(at(20)),
                attempts: vec![ended(1, Some(9), 12, RetryAction::Retry)],
                ..record(Phase::Failed)
            },
            &["~RUNNABLE 1 @0", "~STARTING 1 @9", "~RUNNING 1 @9", "~RUNNABLE 2 @12", "FAILED 1 @20"],
        ),
        (
            "cancelled in line",
            Record { runnable_at: Some(at(3)), stopped_at: Some(at(4)), ..record(Phase::Failed) },
            &["~RUNNABLE 1 @3", "FAILED 0 @4"],
        ),
        ("refused at once", Record { stopped_at: Some(at(1)), ..record(Phase::Failed) }, &["FAILED 0 @1"]),
    ];
    for (story, record, want) in table {
        assert_eq!(words(&moments(seen(&record))), want, "{story}");
    }
}

#[test]
fn a_node_is_told_of_though_nothing_started_there() {
    let refused =
        |attempt| Placement { attempt, node_name: Some("n".into()), at: Some(at(5)), ..Placement::default() };
    let placements =
        |attempt| vec![Placement { node_name: None, at: Some(at(4)), ..refused(attempt) }, refused(attempt)];
    let table: Vec<(&str, Record, &[&str])> = vec![
        (
            "a node that refused",
            Record { runnable_at: Some(at(3)), placements: vec![refused(1)], ..record(Phase::Runnable) },
            &["RUNNABLE 1 @3", "~STARTING 1 @5"],
        ),
        (
            "one that was withdrawn, and a node that refused",
            Record { runnable_at: Some(at(3)), placements: placements(1), ..record(Phase::Runnable) },
            &["RUNNABLE 1 @3", "~STARTING 1 @5"],
        ),
        (
            "a node that refused a retry",
            Record {
                runnable_at: Some(at(3)),
                attempts: vec![ended(1, None, 2, RetryAction::Retry)],
                placements: placements(2),
                ..record(Phase::Runnable)
            },
            &["~RUNNABLE 1 @0", "RUNNABLE 2 @3", "~STARTING 2 @5"],
        ),
        (
            "an attempt that had a node and never started",
            Record {
                stopped_at: Some(at(12)),
                attempts: vec![Attempt {
                    node_name: Some("n".into()),
                    ..ended(1, None, 12, RetryAction::Exit)
                }],
                ..record(Phase::Failed)
            },
            &["~RUNNABLE 1 @0", "~STARTING 1 @12", "FAILED 1 @12"],
        ),
    ];
    for (story, record, want) in table {
        assert_eq!(words(&moments(seen(&record))), want, "{story}");
    }
}

/// Also what came after many attempts.
#[test]
fn each_moment_is_news_once() {
    let all: Vec<Moment> =
        (0..=15).flat_map(|attempt| What::ALL.map(|what| moment(what, attempt, false))).collect();
    let mut told = Told::default();
    for one in &all {
        assert_eq!(told.news(vec![*one]), [*one]);
        assert_eq!(told.news(vec![*one]), [], "{one:?}");
    }
    assert_eq!(told.news(all.clone()), []);
    assert_eq!(Told::default().news(all.clone()), all);
}

#[test]
fn arrays_and_sessions() {
    let array = |record: &Record| words(&moments(Seen { is_array: true, ..seen(record) }));
    assert_eq!(array(&record(Phase::Submitted)), [""; 0]);
    let waits = Record { runnable_at: Some(at(2)), ..record(Phase::Pending) };
    assert_eq!(array(&waits), ["PENDING 0 @2"]);
    let over = Record { phase: Some(Phase::Failed), stopped_at: Some(at(9)), ..waits };
    assert_eq!(array(&over), ["~PENDING 0 @2", "FAILED 0 @9"]);

    let running = Record { runnable_at: Some(at(3)), current: current(7, Some(9)), ..record(Phase::Running) };
    let session = |record: &Record| words(&moments(Seen { session_ready_at: Some(at(11)), ..seen(record) }));
    assert_eq!(
        session(&running),
        ["~RUNNABLE 1 @3", "~STARTING 1 @7", "RUNNING 1 @9", "SESSION_READY 1 @11"]
    );
    let over = Record { stopped_at: Some(at(20)), ..record(Phase::Failed) };
    assert_eq!(session(&over), ["FAILED 0 @20"], "nobody can connect any more");
}

/// What happens to a job in one step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bind,
    Refuse,
    Start,
    End { retry: bool },
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Bind),
        1 => Just(Step::Refuse),
        4 => Just(Step::Start),
        4 => prop::bool::weighted(0.7).prop_map(|retry| Step::End { retry }),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 0..24)
}

/// The records of a job's life, each after the one before.
fn life(steps: &[Step]) -> Vec<Record> {
    let mut now = Record { runnable_at: Some(at(1)), ..record(Phase::Runnable) };
    let mut all = vec![record(Phase::Submitted), now.clone()];
    for (second, step) in steps.iter().enumerate() {
        let second = second as i64 + 2;
        let attempt = now.next_attempt();
        match (step, now.phase()) {
            (_, Phase::Succeeded | Phase::Failed) => break,
            (Step::Bind, Phase::Runnable) => {
                (now.phase, now.current) = (Some(Phase::Starting), current(second, None))
            }
            (Step::Start, Phase::Starting) => {
                (now.phase, now.started_at) = (Some(Phase::Running), Some(at(second)));
                now.current.as_mut().expect("a pod").started_at = Some(at(second));
            }
            (Step::Refuse, Phase::Starting) => {
                let node_name = Some("n".to_owned());
                let placement = now.next_placement();
                now.placements.push(Placement {
                    attempt,
                    placement,
                    node_name,
                    at: Some(at(second)),
                    ..Placement::default()
                });
                (now.phase, now.current, now.runnable_at) = (Some(Phase::Runnable), None, Some(at(second)));
            }
            (Step::End { retry }, Phase::Starting | Phase::Running) => {
                let retry = *retry && attempt < 10;
                let started =
                    now.current.take().and_then(|c| c.started_at).map(|at| at.as_second() - 1_000_000);
                let action = if retry { RetryAction::Retry } else { RetryAction::Exit };
                let end = Attempt { node_name: Some("n".into()), ..ended(attempt, started, second, action) };
                now.attempts.push(end);
                if retry {
                    (now.phase, now.runnable_at) = (Some(Phase::Runnable), Some(at(second)));
                } else {
                    (now.phase, now.stopped_at) = (Some(Phase::Failed), Some(at(second)));
                }
            }
            (Step::Stop, Phase::Runnable) => {
                (now.phase, now.stopped_at) = (Some(Phase::Failed), Some(at(second)))
            }
            _ => continue,
        }
        all.push(now.clone());
    }
    all
}

proptest! {
    #![proptest_config(cases::config(256))]

    /// Whoever looks at some of a job's records only, or starts anew in between, tells what one who saw each of them
    /// would, each thing once and by the same id, in the same order.
    #[test]
    fn whoever_looks_seldom_tells_the_same(steps in steps(), looks in prop::collection::vec(any::<bool>(), 26)) {
        let life = life(&steps);
        let ids = |told: &mut Told, record: &Record| -> Vec<String> {
            told.news(moments(seen(record))).iter().map(|moment| moment.id("u")).collect()
        };
        let mut told = Told::default();
        let all: Vec<String> = life.iter().flat_map(|record| ids(&mut told, record)).collect();
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each once");
        let mut told = Told::default();
        let last = life.len() - 1;
        let some: Vec<String> = life.iter().enumerate()
            .filter(|(index, _)| *index == last || looks[*index])
            .flat_map(|(_, record)| ids(&mut told, record))
            .collect();
        prop_assert_eq!(&some.iter().collect::<BTreeSet<_>>(), &all.iter().collect::<BTreeSet<_>>());
        let anew = ids(&mut Told::default(), &life[last]);
        prop_assert_eq!(&anew.iter().collect::<BTreeSet<_>>(), &all.iter().collect::<BTreeSet<_>>());
        let newest = moments(seen(&life[last]));
        let is_now = newest.iter().filter(|moment| !moment.passed).all(|m| m.what.phase() == life[last].phase());
        prop_assert!(is_now, "{:?}", newest);
    }

    #[test]
    fn a_pattern_matches_as_a_naive_one_does(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
        fn naive(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern, name) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => naive(rest, name) || !name.is_empty() && naive(pattern, &name[1..]),
                ([p, rest @ ..], [n, name @ ..]) => p == n && naive(rest, name),
                _ => false,
            }
        }
        prop_assert_eq!(matches(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()), "{} {}", pattern, name);
    }

    /// Against lines without limits from which the oldest are taken by hand.
    #[test]
    fn an_outbox_keeps_the_newest_within_its_limits(
        per_rule in 1_usize..5, in_all in 1_usize..8, bytes in 3_usize..20,
        events in prop::collection::vec((0_usize..5, 1_usize..4, any::<bool>()), 0..60)
    ) {
        const RULES: [&str; 5] = ["a/r", "a/s", "a/t", "b/r", "a-b/r"];
        let mut outbox = Outbox::new(Limits { per_rule, in_all, bytes });
        let mut model: BTreeMap<&str, VecDeque<(usize, usize)>> = BTreeMap::new();
        for (number, (rule, size, take)) in events.into_iter().enumerate() {
            let rule = RULES[rule];
            if take {
                let front = model.get_mut(rule).and_then(VecDeque::pop_front);
                prop_assert_eq!(outbox.take(rule, |_| true), front);
                continue;
            }
            model.entry(rule).or_default().push_back((number, size));
            for (loser, dropped) in outbox.push(rule, (number, size), size) {
                let (events, memory) = (loads(&model, |_| 1), loads(&model, |(_, size)| *size));
                let (is_many, is_large) = (total(&events) > in_all, total(&memory) > bytes);
                let own = model.get_mut(loser.as_str()).expect("it has some");
                if loser != rule || own.len() <= per_rule {
                    prop_assert!(is_many || is_large, "{} lost one for nothing", loser);
                    let load = if is_many { events } else { memory };
                    let (namespace, _) = loser.split_once('/').expect("a namespace");
                    let most = load[namespace].values().sum::<usize>();
                    prop_assert!(load.values().all(|other| other.values().sum::<usize>() <= most), "its namespace has the most");
                    let most = load[namespace][loser.as_str()];
                    prop_assert!(load[namespace].values().all(|other| *other <= most), "and it of that");
                }
                prop_assert_eq!(own.pop_front(), Some(dropped), "the oldest");
            }
            prop_assert!(outbox.len(rule) <= per_rule && outbox.total() <= in_all);
            prop_assert_eq!(outbox.total(), model.values().map(VecDeque::len).sum::<usize>());
            prop_assert!(total(&loads(&model, |(_, size)| *size)) <= bytes);
            for (rule, waiting) in &model {
                prop_assert!(outbox.iter(rule).eq(waiting.iter()));
            }
        }
    }

    #[test]
    fn a_pause_grows_to_its_limit(failures in 1_u32..100, seed in ".{0,8}") {
        let (one, next) = (pause(failures, &seed), pause(failures + 1, &seed));
        prop_assert!(one <= next && next <= LONGEST * 6 / 5, "{} {}", one, next);
        prop_assert!(pause(1, &seed) >= SignedDuration::from_secs(1) && pause(40, &seed) >= LONGEST);
    }

    #[test]
    fn nothing_that_waits_is_before_the_mark(heard in 0_u64..20, waiting in prop::collection::vec(1_u64..20, 0..5)) {
        let mark = mark(heard, waiting.iter().copied());
        prop_assert!(mark <= heard && waiting.iter().all(|version| *version > mark));
        prop_assert!(mark == heard || waiting.iter().any(|version| version - 1 == mark), "and no earlier than need be");
    }
}

type Loads<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

/// How much waits, by namespace and rule.
fn loads<'a>(
    model: &BTreeMap<&'a str, VecDeque<(usize, usize)>>,
    measure: impl Fn(&(usize, usize)) -> usize,
) -> Loads<'a> {
    let mut loads = Loads::new();
    for (rule, events) in model {
        let (namespace, _) = rule.split_once('/').expect("a namespace");
        loads.entry(namespace).or_default().insert(rule, events.iter().map(&measure).sum());
    }
    loads
}

fn total(loads: &Loads<'_>) -> usize {
    loads.values().flat_map(BTreeMap::values).sum()
}

/// No part of a name stands for two parts of a pattern.
#[test]
fn what_a_pattern_matches() {
    for (pattern, name, want) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*a*a", "a", false),
        ("*ab*ab", "ab", false),
        ("*ab*ab", "xabyab", true),
        ("a*b*c", "a-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("*b*", "abc", true),
        ("a**", "abc", true),
    ] {
        assert_eq!(matches(pattern, name), want, "{pattern} {name}");
    }
}

#[test]
fn rules_choose_by_queue_job_moment_and_time() {
    let rule = Rule {
        queues: vec!["dcv-*".into(), "queue-0".into()],
        job_names: vec!["sim-*".into()],
        whats: vec![What::Failed, What::SessionReady],
        blocked: false,
        since: at(100),
    };
    for (queue, names, want) in [
        ("dcv-gpu", ["sim-1", "x"], true),
        ("dcv-gpu", ["x", "sim-1"], true),
        ("queue-0", ["sim-", "x"], true),
        ("queue-01", ["sim-1", "x"], false),
        ("arn:aws:batch:eu-west-1:123456789012:job-queue/queue-0", ["sim-1", "x"], true),
        ("queue-0", ["other", "x"], false),
    ] {
        assert_eq!(rule.is_about(queue, names), want, "{queue} {names:?}");
    }
    let open = Rule { queues: Vec::new(), job_names: Vec::new(), ..rule.clone() };
    assert!(open.is_about("any", ["job", "job"]));
    // By AWS's name as well as by the object's.
    let by_name =
        |pattern: &str| Rule { queues: vec![pattern.into()], ..open.clone() }.is_about_queue("DCV-GPU-Queue");
    assert!(by_name("DCV-*") && by_name("dcv-gpu-queue-*") && !by_name("dcv"));
    for (what, second, want) in [
        (What::Failed, 100, true),
        (What::SessionReady, 5000, true),
        (What::Running, 200, false),
        (What::Failed, 40, true),
        (What::Failed, 39, false),
    ] {
        let moment = Moment { at: at(second), ..moment(what, 1, false) };
        assert_eq!(rule.wants(&moment), want, "{what:?} at {second}");
    }
}

#[test]
fn pauses_double_and_those_of_different_rules_differ() {
    let seeds: Vec<String> = (0..200).map(|number| format!("team/rule-{number}")).collect();
    for failures in 1..8 {
        let twice = |seed: &String| (pause(failures, seed) * 2, pause(failures + 1, seed));
        assert!(seeds.iter().map(twice).all(|(twice, next)| twice == next), "{failures}");
    }
    let lengths: BTreeSet<SignedDuration> = seeds.iter().map(|seed| pause(1, seed)).collect();
    let (shortest, longest) = (lengths.first().expect("one"), lengths.last().expect("one"));
    let of = SignedDuration::from_millis;
    assert!(*shortest >= of(1000) && *shortest < of(1050), "{shortest:?}");
    assert!(*longest > of(1150) && *longest <= of(1200), "{longest:?}");
    assert!(lengths.len() > 50, "{} of 200 are different", lengths.len());
}

#[test]
fn what_answers_mean() {
    for (status, want) in [
        (200, Answer::Delivered),
        (202, Answer::Delivered),
        (204, Answer::Delivered),
        (301, Answer::Later),
        (302, Answer::Later),
        (307, Answer::Later),
        (400, Answer::Never),
        (401, Answer::Later),
        (403, Answer::Later),
        (404, Answer::Later),
        (408, Answer::Later),
        (410, Answer::Never),
        (413, Answer::Never),
        (422, Answer::Never),
        (429, Answer::Later),
        (500, Answer::Later),
        (503, Answer::Later),
    ] {
        assert_eq!(http(status), want, "{status}");
    }
    for (code, want) in [
        (250, Answer::Delivered),
        (421, Answer::Later),
        (451, Answer::Later),
        (530, Answer::Later),
        (535, Answer::Later),
        (550, Answer::Never),
        (554, Answer::Never),
    ] {
        assert_eq!(smtp(code), want, "{code}");
    }
}

#[test]
fn phases_are_asked_for_by_their_names_and_a_submission_is_none() {
    for phase in Phase::ALL {
        assert_eq!(What::of_phase(phase).map(What::phase), Some(phase).filter(|p| *p != Phase::Submitted));
    }
}
