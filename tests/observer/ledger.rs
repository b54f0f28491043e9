//! The promises of DESIGN.md section 1 as invariants over a history, checked when it is complete:
//! all versions of all objects in the order in which the API server stored them.
//!
//! The numbers are those of the project's list of invariants: I1 one end each, I2 it never
//! changes, I3 no more attempts than allowed, I4 attempts are numbered without gaps, I5 each pod in
//! one record, I6 one live pod at a time, I7 whatever ran is recorded, I8 recorded once, I9 no job
//! is lost, I10 nothing outlives its job, I11 capacity, I12 phases follow the graph, I13 the
//! recorded end is the one that happened, I14 the retry decision is AWS's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::facts::{Attempt, Child, Fact, Job, Pod, Strategy, What};
use crate::retry;

/// What a history comes to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) versions: usize,
    pub(crate) jobs: usize,
    pub(crate) attempts: usize,
    pub(crate) pods: usize,
    pub(crate) violations: Vec<Violation>,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) about: String,
    pub(crate) what: String,
}

/// The phases, and to which one may go from each. Steps that were over before they could be
/// written are left out, so a step may skip what lies between; it never goes back but by a retry.
const GRAPH: &[(&str, &[&str])] = &[
    ("", &["SUBMITTED", "PENDING", "RUNNABLE", "FAILED"]),
    ("SUBMITTED", &["PENDING", "RUNNABLE", "FAILED"]),
    // An array waits for its children to the end.
    ("PENDING", &["RUNNABLE", "SUCCEEDED", "FAILED"]),
    ("RUNNABLE", &["STARTING", "RUNNING", "SUCCEEDED", "FAILED"]),
    ("STARTING", &["RUNNING", "RUNNABLE", "SUCCEEDED", "FAILED"]),
    ("RUNNING", &["RUNNABLE", "SUCCEEDED", "FAILED"]),
];

#[derive(Default)]
struct Ledger {
    jobs: HashMap<String, Known<Job>>,
    pods: HashMap<String, Known<Pod>>,
    /// The children of arrays, by the uid of their job and their index.
    children: BTreeMap<(String, u64), Child>,
    /// By the job that they belong to, and which child of it they run.
    live: HashMap<(String, Option<u64>), BTreeSet<String>>,
    strategies: BTreeMap<String, Vec<Strategy>>,
    environments: HashMap<String, (i64, bool)>,
    violations: BTreeSet<Violation>,
}

struct Known<T> {
    about: String,
    gone: bool,
    last: T,
}

/// Checks a complete history. `submitted` are the jobs whose creation the API server answered
/// with success, as `namespace/name`; `deleted` those that somebody deleted.
pub(crate) fn check(
    mut facts: Vec<Fact>,
    submitted: &BTreeSet<String>,
    deleted: &BTreeSet<String>,
) -> Report {
    facts.sort_by_key(|fact| fact.version);
    let mut ledger = Ledger::default();
    // A definition may be edited between an attempt's end and its record: every strategy counts.
    for fact in &facts {
        if let What::Definition(strategy) = &fact.what {
            ledger.strategies.entry(fact.about.clone()).or_default().push(strategy.clone());
        }
    }
    let versions = facts.len();
    for fact in facts {
        ledger.take(fact);
    }
    ledger.close(submitted, deleted);
    Report {
        versions,
        jobs: ledger.jobs.len(),
        attempts: ledger.attempts().count(),
        pods: ledger.pods.len(),
        violations: ledger.violations.into_iter().collect(),
    }
}

impl Ledger {
    fn take(&mut self, fact: Fact) {
        match fact.what {
            What::Job(job) => self.job(fact.uid, fact.about, fact.gone, *job),
            What::Pod(pod) => self.pod(fact.uid, fact.about, fact.gone, pod),
            // They go with their job, and what they said was said.
            What::Record(_) if fact.gone => {}
            What::Record(record) => {
                record.children.into_iter().for_each(|child| self.child(&record.job_uid, &fact.about, child));
            }
            What::Environment { max_vcpus_milli } => {
                let Some(max) = max_vcpus_milli else { return };
                let (known, shrank) = self.environments.get(&fact.about).copied().unwrap_or((max, false));
                self.environments.insert(fact.about, (max, shrank || max < known));
            }
            What::Definition(_) => {}
        }
    }

    fn violated(&mut self, invariant: &'static str, about: &str, what: impl Into<String>) {
        self.violations.insert(Violation { invariant, about: about.to_owned(), what: what.into() });
    }

    fn job(&mut self, uid: String, about: String, gone: bool, job: Job) {
        let before = self.jobs.get(&uid).map(|known| known.last.clone()).unwrap_or_default();
        if before.phase != job.phase {
            if is_terminal(&before.phase) {
                self.violated("I2", &about, format!("{} became {}", before.phase, job.phase));
            } else if !GRAPH.iter().any(|(from, to)| *from == before.phase && to.contains(&&*job.phase)) {
                self.violated("I12", &about, format!("from {:?} to {:?}", before.phase, job.phase));
            }
        } else if is_terminal(&job.phase) && outcome(&before) != outcome(&job) {
            self.violated("I2", &about, "the record of a job that had ended changed");
        }
        if job.attempts.get(..before.attempts.len()) != Some(&before.attempts[..]) {
            self.violated("I8", &about, "an attempt that was recorded changed or vanished");
        }
        if job.attempts.iter().zip(1..).any(|(attempt, number)| attempt.number != number) {
            let numbers: Vec<u64> = job.attempts.iter().map(|attempt| attempt.number).collect();
            self.violated("I4", &about, format!("attempts are numbered {numbers:?}"));
        }
        self.jobs.insert(uid, Known { about, gone, last: job });
    }

    /// A record says something of a child. Records are sealed, so that an old word may come again; it is the
    /// beginning of what is known.
    fn child(&mut self, job_uid: &str, record: &str, child: Child) {
        let about = format!("{record}, child {}", child.index);
        let key = (job_uid.to_owned(), child.index);
        let before = self.children.get(&key).cloned().unwrap_or_default();
        if before.attempts.starts_with(&child.attempts) && child.attempts.len() < before.attempts.len() {
            return;
        }
        if !child.attempts.starts_with(&before.attempts) {
            self.violated("I8", &about, "an attempt that was recorded changed or vanished");
        }
        if is_terminal(&before.phase) && (before.phase != child.phase || before.attempts != child.attempts) {
            self.violated("I2", &about, format!("{} became {}", before.phase, child.phase));
        }
        if child.attempts.iter().zip(1..).any(|(attempt, number)| attempt.number != number) {
            let numbers: Vec<u64> = child.attempts.iter().map(|attempt| attempt.number).collect();
            self.violated("I4", &about, format!("attempts are numbered {numbers:?}"));
        }
        self.children.insert(key, child);
    }

    /// The attempts of all jobs and children.
    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        let children = self.children.values().flat_map(|child| &child.attempts);
        self.jobs.values().flat_map(|job| &job.last.attempts).chain(children)
    }

    fn pod(&mut self, uid: String, about: String, gone: bool, pod: Pod) {
        let Some(job) = pod.job_uid.clone() else { return };
        let live = self.live.entry((job, pod.index)).or_default();
        let came = if pod.is_live && !gone {
            live.insert(uid.clone())
        } else {
            live.remove(&uid);
            false
        };
        if came && live.len() > 1 {
            let others = live.len() - 1;
            self.violated("I6", &about, format!("{others} other pods of the job are alive"));
        }
        let environment = pod.environment.clone();
        // What ran once counts for ever, even if a later version forgets it.
        let ran = pod.ran || self.pods.get(&uid).is_some_and(|known| known.last.ran);
        self.pods.insert(uid, Known { about, gone, last: Pod { ran, ..pod } });
        if came {
            self.capacity(&environment);
        }
    }

    fn capacity(&mut self, environment: &str) {
        let Some((max, false)) = self.environments.get(environment).copied() else { return };
        let alive = self.live.values().flatten().filter_map(|uid| self.pods.get(uid));
        let used: i64 =
            alive.filter(|pod| pod.last.environment == environment).map(|pod| pod.last.vcpus_milli).sum();
        if used > max {
            self.violated("I11", environment, format!("{used} thousandths of vCPUs of {max} in use"));
        }
    }

    /// What can be said only at the end.
    fn close(&mut self, submitted: &BTreeSet<String>, deleted: &BTreeSet<String>) {
        let jobs = std::mem::take(&mut self.jobs);
        let pods = std::mem::take(&mut self.pods);
        let children = std::mem::take(&mut self.children);
        let mut recorded: HashMap<&str, &str> = HashMap::new();
        for ((job, index), child) in &children {
            let Some(job) = jobs.get(job) else { continue };
            let uids = child.attempts.iter().map(|attempt| &attempt.pod_uid);
            for uid in uids.chain(&child.placements) {
                if recorded.insert(uid, &job.about).is_some() {
                    self.violated(
                        "I5",
                        &job.about,
                        format!("pod {uid} is recorded twice, of child {index} too"),
                    );
                }
            }
            let of_child = Known {
                about: format!("{}:{index}", job.about),
                gone: job.gone,
                last: Job {
                    phase: child.phase.clone(),
                    attempts: child.attempts.clone(),
                    ..job.last.clone()
                },
            };
            self.end(&of_child);
            self.retries(&of_child, &pods);
        }
        for known in jobs.values() {
            let uids = known.last.attempts.iter().map(|attempt| &attempt.pod_uid);
            for uid in uids.chain(&known.last.placements) {
                if recorded.insert(uid, &known.about).is_some() {
                    self.violated("I5", &known.about, format!("pod {uid} is recorded twice"));
                }
            }
            self.end(known);
            self.retries(known, &pods);
        }
        let seen: BTreeSet<&str> = jobs.values().map(|known| known.about.as_str()).collect();
        for name in submitted.difference(deleted).filter(|name| !seen.contains(name.as_str())) {
            self.violated("I9", name, "accepted, and never seen");
        }
        for (uid, pod) in &pods {
            let Some(job) = pod.last.job_uid.as_ref().and_then(|job| jobs.get(job)) else { continue };
            if pod.last.is_held && !pod.gone && (job.gone || is_terminal(&job.last.phase)) {
                self.violated("I10", &pod.about, "held by our finalizer though its job is over");
            }
            if pod.last.ran && !job.gone && !recorded.contains_key(uid.as_str()) {
                self.violated("I7", &pod.about, "ran, and is in no record");
            }
        }
        (self.jobs, self.pods, self.children) = (jobs, pods, children);
    }

    fn end(&mut self, known: &Known<Job>) {
        if !known.gone && !is_terminal(&known.last.phase) {
            self.violated("I1", &known.about, format!("still {:?} at the end", known.last.phase));
        }
        let most = self.strategies(&known.last).iter().map(|s| s.attempts.unwrap_or(1)).max().unwrap_or(1);
        if known.last.attempts.len() as u64 > most {
            let made = known.last.attempts.len();
            self.violated("I3", &known.about, format!("{made} attempts of {most}"));
        }
    }

    fn retries(&mut self, known: &Known<Job>, pods: &HashMap<String, Known<Pod>>) {
        let strategies = self.strategies(&known.last);
        for attempt in &known.last.attempts {
            let expects = pods.get(&attempt.pod_uid).and_then(|pod| pod.last.expects.as_deref());
            if let Some((code, reason)) = expects.and_then(|expects| expects.split_once(' ')) {
                let found = attempt.exit_code.map_or("-".to_owned(), |code| code.to_string());
                if found != code || !retry::matches(reason, &attempt.status_reason) {
                    let what = format!("{found} {:?}, not {code} {reason:?}", attempt.status_reason);
                    self.violated("I13", &known.about, format!("attempt {}: {what}", attempt.number));
                }
            }
            let is_last = attempt.number == known.last.attempts.len() as u64;
            if is_last && known.last.was_ended {
                continue;
            }
            if !strategies.iter().any(|strategy| retry::action(attempt, strategy) == attempt.action) {
                let what = format!("attempt {}: {} is not what AWS would do", attempt.number, attempt.action);
                self.violated("I14", &known.about, what);
            }
        }
    }

    /// The strategies that may count for a job.
    fn strategies(&self, job: &Job) -> Vec<Strategy> {
        let of_definition = || self.strategies.get(job.definition.as_ref()?).cloned();
        job.strategy
            .clone()
            .map(|own| vec![own])
            .or_else(of_definition)
            .unwrap_or_else(|| vec![Strategy::default()])
    }
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "SUCCEEDED" | "FAILED")
}

/// What may never change once a job has ended.
fn outcome(job: &Job) -> (&str, &str, &[crate::facts::Attempt], &[String]) {
    (&job.phase, &job.status_reason, &job.attempts, &job.placements)
}
