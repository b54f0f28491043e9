//! When a job may go on that depends on others, and who waits in a circle.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use batchyard_core::dependency::graph::{Graph, Key, Waiting, tangle};
use batchyard_core::dependency::{
    Dependency, How, Look, Noted, Other, Patience, Reference, State, Verdict, child, culprit, in_doubt,
    n_to_n, of_jobs, why,
};
use batchyard_core::job::phase::Phase;
use batchyard_core::reason;
use jiff::{SignedDuration, Timestamp};

fn on(name: &str, how: How) -> Dependency {
    Dependency { on: Some(Reference::Name(name.into())), how }
}

fn plain(name: &str) -> Dependency {
    on(name, How::Plain)
}

fn other(name: &str, state: State) -> Other {
    Other { id: format!("id-{name}"), name: name.into(), uid: format!("uid-{name}"), state }
}

fn note(name: &str, phase: Option<Phase>) -> Noted {
    let (job_id, uid) = (format!("id-{name}"), format!("uid-{name}"));
    Noted { job_id, job: name.into(), uid, phase, deleted: false }
}

fn there(others: &[Other]) -> BTreeMap<Reference, Other> {
    others.iter().map(|other| (Reference::Name(other.name.clone()), other.clone())).collect()
}

fn patience(limit: Option<i64>, now: i64) -> Patience {
    let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
    Patience { since: at(0), limit: limit.map(SignedDuration::from_secs), now: at(now) }
}

fn look(dependencies: &[Dependency], is_array: bool, notes: &[Noted], others: &[Other]) -> Look {
    of_jobs(dependencies, is_array, notes, &there(others), patience(None, 0))
}

/// `ok`, what it waits for, or `!` and why it failed.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Satisfied => "ok".into(),
        Verdict::Pending(wait) => wait.text.clone(),
        Verdict::Failed(why) => format!("!{why}"),
    }
}

#[test]
fn each_state_of_one_other_job() {
    use State::{Failed, NoSuchChild, Succeeded, Unfinished};
    let again = Other { uid: "another".into(), ..other("a", Succeeded) };
    let failed = "!Dependent Job failed";
    let ended = |phase| Some(note("a", Some(phase)));
    for (known, now, want) in [
        (None, None, "Waiting for BatchJob a, which does not exist"),
        (None, Some(other("a", Unfinished)), "Waiting for BatchJob a to succeed"),
        (None, Some(other("a", Succeeded)), "ok"),
        (None, Some(other("a", Failed)), failed),
        (None, Some(other("a", NoSuchChild)), "!Invalid job: dependsOn names a, and there is no array"),
        (Some(note("a", None)), Some(other("a", Unfinished)), "Waiting for BatchJob a to succeed"),
        (Some(note("a", None)), Some(other("a", Succeeded)), "ok"),
        (Some(note("a", None)), None, failed),
        (Some(note("a", None)), Some(again.clone()), failed),
        // The first word on an end is the last.
        (ended(Phase::Succeeded), None, "ok"),
        (ended(Phase::Succeeded), Some(Other { state: Failed, ..again.clone() }), "ok"),
        (ended(Phase::Failed), None, failed),
        (ended(Phase::Failed), Some(again), failed),
    ] {
        let notes: Vec<Noted> = known.clone().into_iter().collect();
        let others: Vec<Other> = now.clone().into_iter().collect();
        let found = look(&[plain("a")], false, &notes, &others);
        assert!(told(&found.verdict).starts_with(want), "{known:?} {now:?}: {found:?}");
        // Looking again changes nothing.
        assert_eq!(look(&[plain("a")], false, &found.notes, &others), found);
    }
}

#[test]
fn several_jobs() {
    use State::{Failed, Succeeded, Unfinished};
    let all = ["a", "b", "c", "d", "e", "f"].map(plain);
    let with = |states: &[State]| -> Vec<Other> {
        ["a", "b", "c", "d", "e", "f"].iter().zip(states).map(|(name, state)| other(name, *state)).collect()
    };
    for (states, want) in [
        (vec![Succeeded; 6], "ok"),
        (vec![Unfinished; 6], "Waiting for 6 BatchJobs to succeed: a, b, c, d, e, …"),
        (vec![], "Waiting for 6 BatchJobs that do not exist: a, b, c, d, e, …"),
        (
            vec![Succeeded, Unfinished, Unfinished, Succeeded, Succeeded],
            "Waiting for BatchJob f, which does not exist; for 2 BatchJobs to succeed: b, c",
        ),
        (vec![Unfinished, Failed], "!Dependent Job failed"),
    ] {
        let found = look(&all, false, &[], &with(&states));
        assert_eq!(told(&found.verdict), want, "{states:?}");
        assert_eq!(found.notes.len(), states.len(), "each that is there is noted: {found:?}");
    }
    assert_eq!(told(&look(&[], false, &[], &[]).verdict), "ok");
    let twice = look(&[plain("a"), plain("a")], false, &[], &[other("a", Unfinished)]);
    assert_eq!(twice.notes, [note("a", None)], "one job is noted once");
}

#[test]
fn types() {
    use How::{NToN, Plain, Sequential};
    use State::{Failed, Succeeded, Unfinished};
    let nobody = |how| Dependency { on: None, how };
    let invalid = "!Invalid job: dependsOn needs a jobId or job";
    let waits = "Waiting for BatchJob a";
    for (dependency, is_array, state, want) in [
        (nobody(Sequential), true, None, "ok"),
        (nobody(Sequential), false, None, invalid),
        (nobody(NToN), true, None, invalid),
        (nobody(Plain), true, None, invalid),
        // With a job SEQUENTIAL is plain, and so is N_TO_N where there are no children.
        (on("a", Sequential), true, Some(Unfinished), waits),
        (on("a", Sequential), false, Some(Succeeded), "ok"),
        (on("a", NToN), false, Some(Unfinished), waits),
        (on("a", NToN), false, Some(Failed), "!Dependent Job failed"),
        // Children are looked at one by one; the array as a whole waits for the other one to come.
        (on("a", NToN), true, None, waits),
        (on("a", NToN), true, Some(Unfinished), "ok"),
        (on("a", NToN), true, Some(Failed), "ok"),
        (on("a", NToN), true, Some(Succeeded), "ok"),
    ] {
        let others: Vec<Other> = state.map(|state| other("a", state)).into_iter().collect();
        let found = look(std::slice::from_ref(&dependency), is_array, &[], &others);
        assert!(told(&found.verdict).starts_with(want), "{dependency:?} {is_array} {state:?}: {found:?}");
    }
    let gone = look(&[on("a", NToN)], true, &[note("a", None)], &[]);
    assert_eq!(told(&gone.verdict), "!Dependent Job failed", "its children will never succeed");
    let all = [plain("a"), on("b", NToN), nobody(Sequential), on("c", NToN)];
    let names: Vec<String> = n_to_n(&all).map(ToString::to_string).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn a_job_that_never_comes_is_waited_for_as_long_as_is_said() {
    for (limit, now, others, want, again) in [
        (None, 1_000_000, vec![], "Waiting for BatchJob a", None),
        (Some(60), 59, vec![], "Waiting for BatchJob a", Some(60)),
        (
            Some(60),
            60,
            vec![],
            "!Dependent Job failed: BatchJob a did not exist within 60 s (dependencyTimeoutSeconds)",
            None,
        ),
        (Some(60), 1000, vec![other("a", State::Unfinished)], "Waiting for BatchJob a to succeed", None),
    ] {
        let found = of_jobs(&[plain("a")], false, &[], &there(&others), patience(limit, now));
        assert!(told(&found.verdict).starts_with(want), "{limit:?} {now}: {found:?}");
        assert_eq!(found.again.map(|at| at.as_second()), again, "{limit:?} {now}");
    }
    // What was seen once is not missing.
    let found = of_jobs(
        &[plain("a")],
        false,
        &[note("a", Some(Phase::Succeeded))],
        &there(&[]),
        patience(Some(1), 9),
    );
    assert_eq!(found.verdict, Verdict::Satisfied);
}

#[test]
fn what_a_cache_does_not_show_is_in_doubt_only_where_it_matters() {
    let unfinished = note("a", None);
    for (notes, others, limit, want) in [
        (vec![], vec![], None, 0),
        (vec![], vec![], Some(60), 1),
        (vec![], vec![other("a", State::Unfinished)], Some(60), 0),
        (vec![unfinished.clone()], vec![], None, 1),
        (vec![unfinished.clone()], vec![other("a", State::Unfinished)], None, 0),
        (vec![unfinished.clone()], vec![Other { uid: "x".into(), ..other("a", State::Unfinished) }], None, 1),
        (vec![Noted { deleted: true, ..unfinished }], vec![], None, 0),
        (vec![note("a", Some(Phase::Succeeded))], vec![], Some(60), 0),
    ] {
        let all = [plain("a")];
        let others = there(&others);
        let doubtful = in_doubt(&all, &notes, &others, patience(limit, 60));
        assert_eq!(doubtful.len(), want, "{notes:?} {others:?} {limit:?}");
    }
}

#[test]
fn references() {
    let child = Reference::Child { id: "1e6e".into(), index: 7 };
    assert_eq!(Reference::of_id("1e6e:7"), child);
    assert_eq!(Reference::of_id("1e6e"), Reference::Id("1e6e".into()));
    assert_eq!(Reference::of_id("1e6e:x"), Reference::Id("1e6e:x".into()));
    assert_eq!(child.to_string(), "1e6e:7");
    // A child and its array are noted apart, and each reference finds its own.
    let array = Other { id: "1e6e".into(), ..other("a", State::Unfinished) };
    let of_child = Other { id: "1e6e:7".into(), state: State::Succeeded, ..array.clone() };
    let all = [plain("a"), Dependency { on: Some(child.clone()), how: How::Plain }];
    let others = BTreeMap::from([(Reference::Name("a".into()), array), (child, of_child)]);
    let found = of_jobs(&all, false, &[], &others, patience(None, 0));
    assert_eq!(told(&found.verdict), "Waiting for BatchJob a to succeed");
    let phases: Vec<_> = found.notes.iter().map(|note| (note.job_id.as_str(), note.phase)).collect();
    assert_eq!(phases, [("1e6e", None), ("1e6e:7", Some(Phase::Succeeded))]);
    assert_eq!(of_jobs(&all, false, &found.notes, &others, patience(None, 0)), found);
}

#[test]
fn who_is_to_blame() {
    let deleted = Noted { deleted: true, ..note("b", None) };
    for (notes, want) in [
        (vec![note("a", None), note("b", Some(Phase::Succeeded))], None),
        (vec![note("a", None), note("b", Some(Phase::Failed))], Some("BatchJob b failed")),
        (vec![note("a", None), deleted], Some("BatchJob b was deleted before it was seen to end")),
        (vec![Noted { job_id: "x:3".into(), ..note("b", Some(Phase::Failed)) }], Some("BatchJob b:3 failed")),
    ] {
        assert_eq!(culprit(&notes).as_deref(), want, "{notes:?}");
    }
}

#[test]
fn a_job_that_failed_for_another_names_it() {
    let notes = [note("a", Some(Phase::Succeeded)), note("b", Some(Phase::Failed))];
    for (status_reason, notes, want) in [
        (reason::DEPENDENT_FAILED, &notes[..], "Dependent Job failed: BatchJob b failed"),
        (reason::DEPENDENT_FAILED, &notes[..1], "Dependent Job failed"),
        ("Essential container in task exited", &notes, "Essential container in task exited"),
        ("", &notes, ""),
    ] {
        assert_eq!(why(status_reason, notes), want, "{notes:?}");
    }
}

#[test]
fn a_child_stands_as_it_ended_whatever_its_array_does() {
    use Phase::{Failed, Pending, Succeeded};
    for (size, index, ended, array, want) in [
        (None, 0, None, Succeeded, State::NoSuchChild),
        (Some(8), 8, None, Pending, State::NoSuchChild),
        (Some(8), 3, None, Pending, State::Unfinished),
        (Some(8), 3, Some(true), Pending, State::Succeeded),
        (Some(8), 3, Some(false), Pending, State::Failed),
        (Some(8), 3, Some(true), Failed, State::Succeeded),
        // Tolerated failures.
        (Some(8), 5, Some(false), Succeeded, State::Failed),
        // Of an array that never came to its children, and of a rerun that left this one out.
        (Some(8), 5, None, Failed, State::Failed),
        (Some(8), 5, None, Succeeded, State::Succeeded),
    ] {
        assert_eq!(child(size, index, ended, array), want, "{size:?} {index} {ended:?} {array}");
    }
}

fn name(name: &str) -> Key {
    Key::Name { namespace: "ns".into(), name: name.into() }
}

fn waiting(job: &str, waits_for: &[&str]) -> Waiting {
    Waiting {
        uid: format!("uid-{job}"),
        name: job.into(),
        is: vec![name(job), Key::Uid(format!("uid-{job}"))],
        waits_for: waits_for.iter().map(|job| name(job)).collect(),
        refused: false,
    }
}

/// The way that a job of the graph goes in a circle.
fn way(graph: &Graph, job: &str) -> String {
    let uid = format!("uid-{job}");
    graph.circle(&uid).map(|circle| circle.way(&uid).join(" ")).unwrap_or_default()
}

#[test]
fn circles_are_seen_when_they_close() {
    let mut graph = Graph::default();
    graph.put(waiting("alone", &["alone"]));
    assert_eq!(way(&graph, "alone"), "alone alone");
    graph.put(waiting("before", &["a"]));
    graph.put(waiting("a", &["behind", "b"]));
    graph.put(waiting("b", &["c"]));
    assert_eq!(way(&graph, "a"), "", "c may come and wait for nobody");
    graph.put(waiting("c", &["a"]));
    for (job, want) in
        [("a", "a b c a"), ("b", "b c a b"), ("c", "c a b c"), ("before", ""), ("alone", "alone alone")]
    {
        assert_eq!(way(&graph, job), want, "{job}");
    }
    let all = graph.circle("uid-b").expect("it lies on one");
    assert_eq!(all.jobs, ["uid-a", "uid-b", "uid-c"]);
    // A way that is shorter: what comes now waits for one that was refused, and is refused, too.
    graph.put(Waiting { refused: true, ..waiting("b", &["c"]) });
    graph.put(waiting("behind", &["a"]));
    assert_eq!(way(&graph, "behind"), "behind a behind");
    graph.remove("uid-b");
    assert_eq!(way(&graph, "b"), "");
    graph.put(waiting("b2", &["behind"]));
    assert_eq!(way(&graph, "b2"), "");
}

#[test]
fn those_beside_a_circle_do_not_hide_it() {
    let many = ["a", "b", "c", "d", "e"];
    for (name, others_wait_for, last_waits_for) in
        [("they wait for it", "z", vec!["x"]), ("it waits for them", "nobody", [&many[..], &["x"]].concat())]
    {
        let mut graph = Graph::default();
        many.iter().for_each(|job| graph.put(waiting(job, &[others_wait_for])));
        graph.put(waiting("x", &["y"]));
        graph.put(waiting("y", &["z"]));
        graph.put(waiting("z", &last_waits_for));
        assert_eq!(way(&graph, "z"), "z x y z", "{name}");
        assert_eq!(many.map(|job| way(&graph, job)).concat(), "", "{name}");
    }
}

#[test]
fn of_two_jobs_with_one_id_the_older_has_it() {
    let id = || Key::Id { namespace: "ns".into(), id: "id".into() };
    let twin = |job: &str| Waiting { is: vec![name(job), id()], ..waiting(job, &["last"]) };
    let last = Waiting { waits_for: vec![id()], ..waiting("last", &[]) };
    let circle = |graph: &mut Graph| {
        graph.put(last.clone());
        let way = way(graph, "last");
        graph.remove("uid-last");
        way
    };
    let mut graph = Graph::default();
    graph.put(twin("older"));
    graph.put(twin("younger"));
    assert_eq!(circle(&mut graph), "last older last");
    graph.remove("uid-younger");
    assert_eq!(circle(&mut graph), "last older last", "that the younger is gone changes nothing");
    graph.remove("uid-older");
    graph.put(twin("next"));
    assert_eq!(circle(&mut graph), "last next last", "who comes when it is gone has its id");
}

#[test]
fn who_is_waiting() {
    let mut graph = Graph::default();
    graph.put(waiting("b", &["a"]));
    graph.put(waiting("c", &["a", "b"]));
    let of = |graph: &Graph, job: &str| graph.waiters(&[name(job)]).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        (of(&graph, "a"), of(&graph, "b"), of(&graph, "c")),
        ("uid-b uid-c".into(), "uid-c".into(), String::new())
    );
    // What was seen to succeed is not waited for any more.
    graph.put(waiting("c", &["b"]));
    assert_eq!(of(&graph, "a"), "uid-b");
    graph.put(Waiting { refused: true, ..waiting("b", &["a"]) });
    assert_eq!(of(&graph, "a"), "", "who was refused waits no more");
    graph.remove("uid-b");
    graph.remove("uid-c");
    assert!(graph.is_empty() && of(&graph, "b").is_empty());
}

#[test]
fn long_circles_are_told_in_short() {
    let names: Vec<String> = (0..100).map(|n| format!("job-{n:02}")).collect();
    for (count, want) in [
        (7, "job-00 job-01 job-02 job-03 job-04 job-05 job-06 job-00"),
        (8, "job-00 job-01 job-02 job-03 job-04 job-05 job-06 job-07 job-00"),
        (9, "job-00 job-01 job-02 job-03 job-04 … job-07 job-08 job-00"),
        (20, "job-00 job-01 job-02 job-03 job-04 … job-18 job-19 job-00"),
        (64, "job-00 job-01 job-02 job-03 job-04 … job-62 job-63 job-00"),
        // No more than a next one is looked for.
        (65, "job-00 job-01 … job-00"),
        (100, "job-00 job-01 … job-00"),
    ] {
        let mut graph = Graph::default();
        for n in 0..count {
            graph.put(waiting(&names[n], &[names[(n + 1) % count].as_str()]));
        }
        assert!(!graph.is_empty());
        assert_eq!(way(&graph, "job-00"), want);
    }
}

/// Counts the jobs that are asked whom they wait for, and who waits for them, while the jobs of a chain come.
fn steps(order: &[usize]) -> usize {
    let (came, asked) = (RefCell::new(BTreeSet::new()), Cell::new(0));
    let neighbour = |node: &str, step: isize| {
        asked.set(asked.get() + 1);
        let other = node.parse::<usize>().ok().and_then(|n| n.checked_add_signed(step));
        other.filter(|n| came.borrow().contains(n)).map(|n| n.to_string()).into_iter().collect()
    };
    for n in order {
        came.borrow_mut().insert(*n);
        let circle = tangle(&n.to_string(), |node| neighbour(node, 1), |node| neighbour(node, -1));
        assert!(circle.is_empty());
    }
    asked.get()
}

#[test]
fn a_chain_of_thousands_costs_little_however_it_comes() {
    const LENGTH: usize = 10_000;
    let orders: [(&str, Vec<usize>); 3] = [
        ("its first job first", (0..LENGTH).rev().collect()),
        ("its last job first", (0..LENGTH).collect()),
        // The next place is far from the last.
        ("in any order", (0..LENGTH).map(|n| n * 7919 % LENGTH).collect()),
    ];
    for (how, order) in orders {
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), LENGTH);
        let steps = steps(&order);
        assert!(steps < 30 * LENGTH, "{how}: {steps} steps");
        let mut graph = Graph::default();
        order.iter().for_each(|n| graph.put(waiting(&n.to_string(), &[(n + 1).to_string().as_str()])));
        assert_eq!(graph.len(), LENGTH);
        order.iter().for_each(|n| graph.remove(&format!("uid-{n}")));
        assert!(graph.is_empty());
    }
}

#[test]
fn one_of_the_two_ways_is_enough() {
    // Thousands wait behind the new job, and nobody before it.
    let asked = Cell::new(0);
    let next = |node: &str| {
        asked.set(asked.get() + 1);
        let n: u32 = node.parse().expect("a number");
        BTreeSet::from([(n + 1).to_string()])
    };
    assert!(tangle("0", next, |_| BTreeSet::new()).is_empty());
    assert!(asked.get() <= 2, "{} nodes were asked", asked.get());
}
